//! Uniformity: nobody delivers what could still be lost with the few that have it.

use super::{Invariant, Seen, Who, arrivals::Arrivals};
use roundelay_core::{
    multicast::{Delivery, Event},
    node,
    protocol::Effect,
};
use std::collections::BTreeMap;

/// Whatever a member delivers, a strict majority of its view has received by then, complete and
/// contiguous, before they promised to end the view; or it is in the cut of the next view, which is
/// then installed in the same step. Who has left or crashed since goes on to count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uniformity {
    arrivals: Arrivals,
    /// By view and the position of the sender: up to where a majority is known to have its messages.
    safe: BTreeMap<(u64, usize), u64>,
    /// What a life has delivered in this step that only a decided cut allows: the last position,
    /// and what is wrong with it otherwise.
    pending: Option<(u64, String)>,
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
            Seen::Input(_) => self.pending = None,
            Seen::Effect(Effect::Emit(node::Event::Order(Event::Delivered(delivery)))) => {
                self.on_delivered(who, delivery);
            }
            Seen::Effect(Effect::Emit(node::Event::View { position, .. })) => {
                self.pending.take_if(|(delivered, _)| *delivered <= *position);
            }
            // Of who ends before it installs, the cut is not known here.
            Seen::End(end) if !end.ended => {
                return self.pending.take().map_or(Ok(()), |(_, reason)| Err(reason));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Uniformity {
    fn on_delivered(&mut self, who: Who, delivery: &Delivery) {
        let Delivery { sender, incarnation, sequence, position, .. } = *delivery;
        // Who is in no view, or was taken in not long ago, learns what members have delivered.
        let Some(view) = self.arrivals.views.of(who) else { return };
        if self.arrivals.views.base(who).is_some_and(|base| position <= base) {
            return;
        }
        let (number, members) = (view.number, view.len());
        let at = view.position(sender);
        let Some(sender) = at.filter(|at| view.members[*at].incarnation == incarnation) else {
            let what = format!("delivers {delivery:?} in view {number} without its sender");
            self.pending = Some((position, what));
            return;
        };
        let safe = self.safe.entry((number, sender)).or_default();
        if sequence <= *safe {
            return;
        }
        // T3: more than half of all members, never by a rule for ties.
        let holders = self.arrivals.holders(number, sender, sequence);
        if 2 * holders > members {
            *safe = sequence;
        } else {
            let what = format!("only {holders} of {members} members have {delivery:?}");
            self.pending = Some((position, what));
        }
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
        let more = [(1, delivers.clone()), (1, end(1, 2)), (4, delivers), (4, end(1, 2))];
        holds(&mut Uniformity::default(), &and(received_by(&[2, 3]), &more));
    }

    #[test]
    fn half_of_the_members_are_too_few() {
        let more = [(1, delivers(1, 5, 1, 1, "x")), (1, end(1, 2))];
        breaks(&mut Uniformity::default(), &and(received_by(&[2]), &more), "only 2 of 4");
        // The same message twice is one receipt.
        breaks(&mut Uniformity::default(), &and(received_by(&[2, 2, 2]), &more), "only 2 of 4");
    }

    #[test]
    fn what_comes_after_a_promise_does_not_count() {
        let more = [
            (2, promises()),
            (2, receives_data(1, 1, 5, (0, 1), "x")),
            (1, delivers(1, 5, 1, 1, "x")),
            (1, end(1, 2)),
        ];
        breaks(&mut Uniformity::default(), &and(received_by(&[3]), &more), "only 2 of 4");
    }

    #[test]
    fn the_cut_of_the_next_view_may_be_delivered() {
        let more = [(1, delivers(1, 5, 1, 1, "x"))];
        let next = |position| [(1, installs_next(&[1, 2, 3], &[], position)), (1, end(1, 2))];
        let cut = [&more[..], &next(1)].concat();
        holds(&mut Uniformity::default(), &and(received_by(&[2]), &cut));
        let beyond = [&more[..], &next(0)].concat();
        breaks(&mut Uniformity::default(), &and(received_by(&[2]), &beyond), "only 2 of 4");
    }

    #[test]
    fn a_piece_is_no_message() {
        let pieces = |here: &[u32]| {
            let mut history = vec![(1, installed_among(2)), (2, installed_among(2))];
            let arrives = |piece: &u32| (2, receives_data(1, 1, 5, (*piece, 2), "x"));
            history.extend(here.iter().map(arrives));
            and(history, &[(1, delivers(1, 5, 1, 1, "xx")), (1, end(1, 2))])
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
        holds(
            &mut Uniformity::default(),
            &and(start.clone(), &[first, delivers.clone(), (1, end(1, 2))]),
        );
        breaks(&mut Uniformity::default(), &and(start, &[delivers, (1, end(1, 2))]), "only 1 of 2");
    }

    #[test]
    fn what_comes_before_the_view_is_not_received() {
        let early = vec![(1, installed_among(2)), (2, receives_data(1, 1, 5, (0, 1), "x"))];
        let more = [(2, installed_among(2)), (1, delivers(1, 5, 1, 1, "x")), (1, end(1, 2))];
        breaks(&mut Uniformity::default(), &and(early, &more), "only 1 of 2");
    }
}
