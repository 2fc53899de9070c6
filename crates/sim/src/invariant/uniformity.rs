//! Uniformity: nobody delivers what could still be lost with the few that have it.

use super::{Invariant, Seen, Who, arrivals::Arrivals};
use roundelay_core::{
    multicast::{Delivery, Event},
    node,
    protocol::Effect,
};

/// Whatever a member delivers, a strict majority of the view has received by then, complete and
/// contiguous. Who has left or crashed since goes on to count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uniformity {
    arrivals: Arrivals,
    /// By the position of the sender: up to where a majority is known to have its messages.
    safe: Vec<u64>,
}

impl Invariant for Uniformity {
    fn name(&self) -> &'static str {
        "uniformity"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: uniform agreement (T3)"
    }

    fn paper(&self) -> &'static str {
        "Hadzilacos and Toueg 1994: uniform agreement"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.arrivals.see(who, seen);
        match seen {
            Seen::Effect(Effect::Emit(node::Event::Order(Event::Delivered(delivery)))) => {
                self.on_delivered(delivery)
            }
            _ => Ok(()),
        }
    }
}

impl Uniformity {
    fn on_delivered(&mut self, delivery: &Delivery) -> Result<(), String> {
        let Delivery { sender, sequence, .. } = *delivery;
        let Some(sender) = self.arrivals.position_of(sender) else {
            return Err(format!("delivers a message of {sender}, who is no member"));
        };
        let members = self.arrivals.len();
        self.safe.resize(members, 0);
        if sequence <= self.safe[sender] {
            return Ok(());
        }
        // T3: more than half of all members, never by a rule for ties.
        let holders = self.arrivals.holders(sender, sequence);
        if 2 * holders <= members {
            return Err(format!("only {holders} of {members} members have {delivery:?}"));
        }
        self.safe[sender] = sequence;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// Nodes 1 to 4 are members, node 1 has sent "x", and whoever is listed has received it.
    fn received_by(members: &[u64]) -> Vec<(u64, Line)> {
        let mut history: Vec<(u64, Line)> = (1..=4).map(|n| (n, installed_among(4))).collect();
        history.push((1, sends_data(1, 5, (0, 1), "x")));
        history.extend(members.iter().map(|n| (*n, receives_data(1, 1, 5, (0, 1), "x"))));
        history
    }

    fn and(mut history: Vec<(u64, Line)>, more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        history.extend_from_slice(more);
        history
    }

    #[test]
    fn what_a_majority_has_may_be_delivered_by_anyone() {
        let delivers = delivers(1, 5, 1, 1, "x");
        let more = [(1, delivers.clone()), (4, delivers)];
        holds(&mut Uniformity::default(), &and(received_by(&[2, 3]), &more));
    }

    #[test]
    fn half_of_the_members_are_too_few() {
        let more = [(1, delivers(1, 5, 1, 1, "x"))];
        breaks(&mut Uniformity::default(), &and(received_by(&[2]), &more), "only 2 of 4");
        // The same message twice is one receipt.
        breaks(&mut Uniformity::default(), &and(received_by(&[2, 2, 2]), &more), "only 2 of 4");
    }

    #[test]
    fn who_has_left_goes_on_to_count_but_receives_nothing_more() {
        let delivers = (1, delivers(1, 5, 1, 1, "x"));
        let leaves = (3, leaves_order(2, &[1, 0, 0, 0]));
        let after = [leaves.clone(), delivers.clone()];
        holds(&mut Uniformity::default(), &and(received_by(&[2, 3]), &after));
        let late = [leaves, (3, receives_data(1, 1, 5, (0, 1), "x")), delivers];
        breaks(&mut Uniformity::default(), &and(received_by(&[2]), &late), "only 2 of 4");
    }

    #[test]
    fn a_piece_is_no_message() {
        let pieces = |here: &[u32]| {
            let mut history = vec![(1, installed_among(2)), (2, installed_among(2))];
            let arrives = |piece: &u32| (2, receives_data(1, 1, 5, (*piece, 2), "x"));
            history.extend(here.iter().map(arrives));
            and(history, &[(1, delivers(1, 5, 1, 1, "xx"))])
        };
        holds(&mut Uniformity::default(), &pieces(&[1, 0]));
        breaks(&mut Uniformity::default(), &pieces(&[1, 1]), "only 1 of 2");
    }

    #[test]
    fn a_message_after_a_gap_is_not_received() {
        let second = (2, receives_data(1, 2, 6, (0, 1), "y"));
        let first = (2, receives_data(1, 1, 5, (0, 1), "x"));
        let delivers = (1, delivers(1, 6, 1, 2, "y"));
        let start = vec![(1, installed_among(2)), (2, installed_among(2)), second];
        holds(&mut Uniformity::default(), &and(start.clone(), &[first, delivers.clone()]));
        breaks(&mut Uniformity::default(), &and(start, &[delivers]), "only 1 of 2");
    }

    #[test]
    fn what_comes_before_the_view_is_not_received() {
        let early = vec![(1, installed_among(2)), (2, receives_data(1, 1, 5, (0, 1), "x"))];
        let more = [(2, installed_among(2)), (1, delivers(1, 5, 1, 1, "x"))];
        breaks(&mut Uniformity::default(), &and(early, &more), "only 1 of 2");
        breaks(&mut Uniformity::default(), &[(1, delivers(1, 5, 1, 1, "x"))], "no member");
    }
}
