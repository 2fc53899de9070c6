//! What runs did, in numbers.

use crate::output::grouped;
use roundelay_sim::{Fault, fault::Tally, goal::Counts};
use serde::{Serialize, Serializer};

/// A number, and what it counts: a field of JSON, too.
pub(super) type Count = (String, u64);

/// What was done.
pub(super) fn table(counts: &Counts) -> Vec<Count> {
    let table = [
        ("grants", counts.grants),
        ("hand_offs", counts.hand_offs),
        ("busy", counts.busy),
        ("cancelled", counts.cancelled),
        ("hops", counts.hops),
        ("deliveries", counts.deliveries),
        ("rumors", counts.rumors),
        ("leaves", counts.leaves),
        ("refused_starts", counts.refused_starts),
        ("views", counts.views),
        ("joins", counts.joins),
        ("lost", counts.lost),
        ("regenerated", counts.regenerated),
        ("stuck", counts.stuck),
    ];
    table.map(|(name, count)| (name.to_owned(), count)).into()
}

/// What went wrong on purpose.
pub(super) fn thrown(faults: &Tally) -> Vec<Count> {
    Fault::ALL.iter().map(|fault| (snake(&format!("{fault:?}")), faults.of(*fault))).collect()
}

/// `FailedSave` as `failed_save`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// Numbers for scripts.
pub(super) struct Numbers<'a>(pub(super) &'a [Count]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, count)| (name, count)))
    }
}

/// Numbers for people: what did not happen is left out.
pub(super) fn text(counts: &[Count]) -> String {
    let happened = counts.iter().filter(|(_, count)| *count > 0);
    let texts: Vec<String> = happened
        .map(|(name, count)| format!("{} {}", grouped(*count), name.replace('_', " ")))
        .collect();
    if texts.is_empty() { "none".into() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_told() {
        let counts = table(&Counts { grants: 3, hand_offs: 2, ..Counts::default() });
        assert_eq!(text(&counts), "3 grants, 2 hand offs");
        let json = serde_json::to_string(&Numbers(&counts)).unwrap();
        assert!(json.starts_with("{\"grants\":3,\"hand_offs\":2,\"busy\":0,"), "{json}");
        let mut faults = Tally::default();
        assert_eq!(text(&thrown(&faults)), "none");
        faults.count(Fault::FailedSave);
        assert_eq!(text(&thrown(&faults)), "1 failed save");
    }
}
