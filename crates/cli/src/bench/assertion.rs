//! What a benchmark's result must be, as a flag says it.

use serde_json::Value;
use std::str::FromStr;

/// A bound on one field of a result, like `p50<40us`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assertion {
    text: String,
    field: String,
    below: bool,
    bound: f64,
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no assertion; write it like p50<40us or rate>100000");
        let at = text.find(['<', '>']).ok_or_else(wrong)?;
        let (field, bound) = (text[..at].trim(), text[at + 1..].trim());
        let (number, scale) = match () {
            () if bound.ends_with("us") => (&bound[..bound.len() - 2], 1.0),
            () if bound.ends_with("ms") => (&bound[..bound.len() - 2], 1e3),
            () if bound.ends_with('s') => (&bound[..bound.len() - 1], 1e6),
            () => (bound, 1.0),
        };
        let bound = number.parse::<f64>().map_err(|_| wrong())? * scale;
        if field.is_empty() || !bound.is_finite() {
            return Err(wrong());
        }
        let below = text.as_bytes()[at] == b'<';
        Ok(Self { text: text.into(), field: field.into(), below, bound })
    }
}

impl Assertion {
    /// Whether it holds of a result. Times are in microseconds, in fields that end with `us`, which
    /// may be left out; so may the `_min` of the slowest member.
    pub(super) fn judge(&self, result: &Value) -> Result<(), String> {
        let named = ["", "us", "_us", "_min"].map(|ending| format!("{}{ending}", self.field));
        let value = named.iter().find_map(|name| result.get(name)?.as_f64());
        match value {
            None => Err(format!("{}: there is no field {}", self.text, self.field)),
            Some(value) if self.holds_of(value) => Ok(()),
            Some(value) => Err(format!("{} does not hold: it is {value}", self.text)),
        }
    }

    fn holds_of(&self, value: f64) -> bool {
        if self.below { value < self.bound } else { value > self.bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_have_fields_units_and_directions() {
        let result = json!({"p50us": 35.5, "rate": 1000.0});
        let judge = |text: &str| text.parse::<Assertion>().unwrap().judge(&result);
        assert_eq!(judge("p50<40us"), Ok(()));
        assert_eq!(judge("p50 < 0.04ms"), Ok(()));
        assert_eq!(judge("rate>999"), Ok(()));
        assert!(judge("p50<35us").unwrap_err().contains("35.5"));
        assert!(judge("rate>1000").is_err() && judge("rate<1000").is_err());
        assert!(judge("p51<1us").unwrap_err().contains("no field"));
        for text in ["", "p50", "p50<", "<4", "p50<x", "p50<inf"] {
            assert!(text.parse::<Assertion>().is_err(), "{text}");
        }
    }
}
