//! All grants of all members: checked, and measured.

use super::super::{histogram, member, per};
use anyhow::ensure;
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::{collections::BTreeMap, ops::Range};

/// One grant, with the times in nanoseconds of the machine's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) fence: u64,
    pub(super) client: u16,
    pub(super) asked: u64,
    pub(super) granted: u64,
    /// When the release began.
    pub(super) released: u64,
}

/// The bytes of a grant in a message: five numbers.
const BYTES: usize = 40;

/// Puts grants into a message.
pub(super) fn encode(grants: &[Grant]) -> Bytes {
    let numbers = |grant: &Grant| {
        [grant.fence, grant.client.into(), grant.asked, grant.granted, grant.released]
    };
    grants.iter().flat_map(numbers).flat_map(u64::to_le_bytes).collect()
}

/// Takes them out.
pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Vec<Grant>> {
    ensure!(bytes.len().is_multiple_of(BYTES), "a message was cut off");
    let grant = |bytes: &[u8]| {
        let mut numbers = bytes.chunks_exact(8).map(|bytes| {
            u64::from_le_bytes(bytes.try_into().expect("they are cut to this length"))
        });
        let [fence, client, asked, granted, released] =
            std::array::from_fn(|_| numbers.next().expect("they are cut to this length"));
        Grant { fence, client: client as u16, asked, granted, released }
    };
    Ok(bytes.chunks_exact(BYTES).map(grant).collect())
}

/// A client: its node and its number there.
type Client = (usize, u16);

/// All grants of all members, in the order of their fences.
#[derive(Default)]
pub(super) struct History {
    pub(super) grants: BTreeMap<u64, (Client, Grant)>,
    /// What is wrong with them.
    pub(super) broken: Vec<String>,
}

/// What was measured.
pub(super) struct Measured {
    pub(super) waits: Histogram<u64>,
    pub(super) handoffs: Histogram<u64>,
    pub(super) fairness: f64,
}

impl History {
    pub(super) fn add(&mut self, node: usize, grants: Vec<Grant>) {
        for grant in grants {
            let who = (node, grant.client);
            if let Some((other, _)) = self.grants.insert(grant.fence, (who, grant)) {
                let (node, other) = (member::name(node), member::name(other.0));
                self.broken.push(format!("{node} and {other} both have the fence {}", grant.fence));
            }
        }
    }

    /// Checks all grants, and measures those that were made in this span of time.
    pub(super) fn measure(&mut self, counted: &Range<u64>) -> Measured {
        let (mut waits, mut handoffs) = (histogram(), histogram());
        let mut counts: BTreeMap<Client, u64> = BTreeMap::new();
        let mut last: Option<(Client, Grant)> = None;
        for (who, grant) in self.grants.values() {
            counts.entry(*who).or_default();
            let fence_before = last.map_or(0, |(_, last)| last.fence);
            if grant.fence != fence_before + 1 {
                self.broken.push(format!("the fence {} follows {fence_before}", grant.fence));
            }
            let free_since = last.map_or(0, |(_, last)| last.released);
            if grant.granted < free_since {
                self.broken.push(format!(
                    "{} has the lock under the fence {} before {} has released it",
                    member::name(who.0),
                    grant.fence,
                    last.map_or(String::new(), |((node, _), _)| member::name(node)),
                ));
            }
            if counted.contains(&grant.granted) {
                *counts.entry(*who).or_default() += 1;
                waits.saturating_record(grant.granted - grant.asked);
                if last.is_some_and(|(owner, _)| owner != *who) {
                    handoffs.saturating_record(grant.granted.saturating_sub(free_since));
                }
            }
            last = Some((*who, *grant));
        }
        let fewest = counts.values().min().copied().unwrap_or(0);
        let most = counts.values().max().copied().unwrap_or(0);
        Measured { waits, handoffs, fairness: per(fewest as f64, most as f64) }
    }

    /// A hash over fences and clients: equal for equal histories.
    pub(super) fn hash(&self) -> u64 {
        self.grants.iter().fold(0, |hash: u64, (fence, ((node, client), _))| {
            let seen = fence ^ ((*node as u64) << 48) ^ (u64::from(*client) << 32);
            (hash.rotate_left(5) ^ seen).wrapping_mul(0x517c_c1b7_2722_0a95)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(fence: u64, granted: u64, released: u64) -> Grant {
        Grant { fence, client: 0, asked: granted - 5, granted, released }
    }

    #[test]
    fn hand_offs_are_measured_from_the_release_of_another() {
        let mut history = History::default();
        history.add(0, vec![grant(1, 10, 20), grant(2, 21, 30)]);
        history.add(1, vec![grant(3, 37, 40)]);
        let measured = history.measure(&(0..100));
        assert_eq!((measured.waits.len(), measured.handoffs.len()), (3, 1));
        assert_eq!(measured.handoffs.max(), 7);
        assert!((measured.fairness - 0.5).abs() < 1e-9);
        assert!(history.broken.is_empty());
    }

    #[test]
    fn what_is_promised_is_checked() {
        let broken = |grants: Vec<Grant>| {
            let mut history = History::default();
            history.add(0, vec![grant(1, 10, 20)]);
            history.add(1, grants);
            history.measure(&(0..100));
            history.broken.join("; ")
        };
        assert!(broken(vec![grant(2, 19, 25)]).contains("before n1 has released"));
        assert!(broken(vec![grant(3, 21, 25)]).contains("the fence 3 follows 1"));
        assert!(broken(vec![grant(1, 21, 25)]).contains("both have the fence 1"));
        assert!(broken(vec![grant(2, 20, 25)]).is_empty());
    }

    #[test]
    fn grants_travel_unchanged() {
        let grants = [grant(1, 10, 20), Grant { client: 999, ..grant(u64::MAX, 21, 30) }];
        assert_eq!(decode(&encode(&grants)).unwrap(), grants);
        assert!(decode(&encode(&grants)[1..]).is_err());
    }

    #[test]
    fn the_hash_tells_who_had_the_lock() {
        let hash = |nodes: [usize; 2]| {
            let mut history = History::default();
            history.add(nodes[0], vec![grant(1, 10, 20)]);
            history.add(nodes[1], vec![grant(2, 30, 40)]);
            history.hash()
        };
        assert_eq!(hash([0, 1]), hash([0, 1]));
        assert_ne!(hash([0, 1]), hash([1, 0]));
    }
}
