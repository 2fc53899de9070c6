//! What runs did, in numbers.

use roundelay_sim::goal::Counts;
use serde::{Serialize, Serializer};

/// The numbers and what they count; a name is a field of JSON, too.
fn table(counts: &Counts) -> [(&'static str, u64); 10] {
    [
        ("grants", counts.grants),
        ("hand_offs", counts.hand_offs),
        ("busy", counts.busy),
        ("cancelled", counts.cancelled),
        ("hops", counts.hops),
        ("deliveries", counts.deliveries),
        ("rumors", counts.rumors),
        ("leaves", counts.leaves),
        ("refused_starts", counts.refused_starts),
        ("turned_away", counts.turned_away),
    ]
}

/// The numbers for scripts.
pub(super) struct Numbers<'a>(pub(super) &'a Counts);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(table(self.0))
    }
}

/// For people: what did not happen is left out.
pub(super) fn text(counts: &Counts) -> String {
    let happened = table(counts).into_iter().filter(|(_, count)| *count > 0);
    let texts: Vec<String> = happened
        .map(|(name, count)| format!("{} {}", grouped(count), name.replace('_', " ")))
        .collect();
    if texts.is_empty() { "nothing was done".into() } else { texts.join(", ") }
}

/// A number with its digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_groups() {
        let all = [0, 12, 123, 1_234, 123_456, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    #[test]
    fn only_what_happened_is_told() {
        let counts = Counts { grants: 3, hand_offs: 2, ..Counts::default() };
        assert_eq!(text(&counts), "3 grants, 2 hand offs");
        assert_eq!(text(&Counts::default()), "nothing was done");
        let json = serde_json::to_string(&Numbers(&counts)).unwrap();
        assert!(json.starts_with("{\"grants\":3,\"hand_offs\":2,\"busy\":0,"), "{json}");
    }
}
