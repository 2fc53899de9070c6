//! One order: all members deliver the same messages in the same places.

use super::{Invariant, Seen, Who, views::Views};
use roundelay_core::{
    id::NodeId,
    multicast::{Delivery, Event},
    node,
    protocol::Effect,
};
use std::collections::BTreeMap;

/// There is one order, of which every life delivers a piece without gaps: lives that have crashed,
/// left or were excluded, too. Who founds the group begins with its first message, who joins begins
/// somewhere, and only what is said to be missed is left out. Each message is in one place, and
/// within a view the stamps increase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OneOrder {
    views: Views,
    /// By position: what is there, and in which view it was delivered first, if in any.
    order: BTreeMap<u64, (Delivery, Option<u64>)>,
    /// Where each message is: its sender, incarnation and sequence.
    places: BTreeMap<(NodeId, u64, u64), u64>,
    /// The last position of each life that has begun.
    delivered: BTreeMap<Who, u64>,
}

impl Invariant for OneOrder {
    fn name(&self) -> &'static str {
        "one_order"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: uniform total order, integrity (T6, T8, T10)"
    }

    fn paper(&self) -> &'static str {
        "Défago, Schiper and Urbán 2004, section 2: uniform total order"
    }

    fn allows_gaps(&self) -> bool {
        true
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.views.see(who, seen);
        match seen {
            Seen::Effect(Effect::Emit(node::Event::View { view, joins, position, .. })) => {
                if view.number == 1 && !joins {
                    self.delivered.insert(who, *position);
                }
                Ok(())
            }
            Seen::Effect(Effect::Emit(node::Event::Order(event))) => self.on_event(who, event),
            _ => Ok(()),
        }
    }
}

impl OneOrder {
    fn on_event(&mut self, who: Who, event: &Event) -> Result<(), String> {
        match event {
            Event::Delivered(delivery) => self.on_delivered(who, delivery),
            Event::Missed { from, to } => {
                let next = self.delivered.get(&who).map(|last| last + 1);
                if next.is_some_and(|next| next != *from) || from > to {
                    return Err(format!("has missed {from} to {to}, but the next is {next:?}"));
                }
                self.delivered.insert(who, *to);
                Ok(())
            }
            Event::Sent { position, ticket } => {
                // "Sent" says that a majority has it, so its place must be known by then.
                let known = self.delivered.get(&who).is_some_and(|last| position <= last);
                let there = self.order.get(position).filter(|_| known);
                if there.is_some_and(|(delivery, _)| delivery.sender == who.node) {
                    Ok(())
                } else {
                    Err(format!("ticket {ticket} is sent at {position}, which is not its place"))
                }
            }
            _ => Ok(()),
        }
    }

    fn on_delivered(&mut self, who: Who, delivery: &Delivery) -> Result<(), String> {
        let Delivery { position, sender, incarnation, sequence, .. } = *delivery;
        let last = self.delivered.insert(who, position);
        if last.is_some_and(|last| position != last + 1) || position == 0 {
            return Err(format!("position {position} follows {last:?}"));
        }
        if let Some((there, _)) = self.order.get(&position) {
            return if there == delivery {
                Ok(())
            } else {
                Err(format!("delivers {delivery:?} where others have {there:?}"))
            };
        }
        let first = *self.places.entry((sender, incarnation, sequence)).or_insert(position);
        if first != position {
            return Err(format!("{delivery:?} has place {first} already"));
        }
        let view = self.views.number(who);
        self.expect_later_stamp(delivery, view)?;
        self.order.insert(position, (delivery.clone(), view));
        Ok(())
    }

    fn expect_later_stamp(&self, delivery: &Delivery, view: Option<u64>) -> Result<(), String> {
        // Members of one view are told apart by their place in it; here it is enough that no two
        // messages of one sender have one time.
        let stamp = |delivery: &Delivery| -> (u64, NodeId) { (delivery.time, delivery.sender) };
        let Some((before, of)) = self.order.get(&(delivery.position - 1)) else { return Ok(()) };
        let same = stamp(before) == stamp(delivery);
        if view.is_some() && view == *of && (before.time > delivery.time || same) {
            return Err(format!("{delivery:?} comes after {before:?}, against its stamp"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::multicast;

    /// Nodes 1 and 2 use view 1.
    fn and(more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        [&[(1, installed_among(2)), (2, installed_among(2))], more].concat()
    }

    #[test]
    fn a_prefix_is_fine() {
        holds(
            &mut OneOrder::default(),
            &and(&[
                (1, delivers(1, 5, 1, 1, "x")),
                (1, delivers(2, 6, 2, 1, "y")),
                (2, delivers(1, 5, 1, 1, "x")),
                (2, delivers(2, 6, 2, 1, "y")),
                (2, order_event(multicast::Event::Sent { ticket: 1, position: 2 })),
            ]),
        );
    }

    #[test]
    fn another_order_is_found() {
        let history = [(1, delivers(1, 5, 1, 1, "x")), (2, delivers(1, 6, 2, 1, "y"))];
        breaks(&mut OneOrder::default(), &and(&history), "where others have");
    }

    #[test]
    fn another_payload_is_found() {
        let history = [(1, delivers(1, 5, 1, 1, "x")), (2, delivers(1, 5, 1, 1, "z"))];
        breaks(&mut OneOrder::default(), &and(&history), "where others have");
    }

    #[test]
    fn a_gap_a_repetition_and_a_late_beginning_are_found() {
        let gap = [(1, delivers(1, 5, 1, 1, "x")), (1, delivers(3, 6, 1, 2, "y"))];
        breaks(&mut OneOrder::default(), &and(&gap), "position 3 follows Some(1)");
        let twice = [(1, delivers(1, 5, 1, 1, "x")), (1, delivers(1, 5, 1, 1, "x"))];
        breaks(&mut OneOrder::default(), &and(&twice), "position 1 follows Some(1)");
        breaks(
            &mut OneOrder::default(),
            &and(&[(1, delivers(2, 5, 1, 1, "x"))]),
            "position 2 follows Some(0)",
        );
    }

    #[test]
    fn an_order_against_the_clocks_is_found() {
        let history = [(1, delivers(1, 5, 1, 1, "x")), (1, delivers(2, 4, 2, 1, "y"))];
        breaks(&mut OneOrder::default(), &and(&history), "against its stamp");
    }

    #[test]
    fn a_wrong_place_of_an_own_message_is_found() {
        let sent = |position| order_event(multicast::Event::Sent { ticket: 1, position });
        let wrong = [(1, delivers(1, 5, 2, 1, "x")), (1, sent(1))];
        breaks(&mut OneOrder::default(), &and(&wrong), "not its place");
        let early = [(1, delivers(1, 5, 1, 1, "x")), (1, sent(2))];
        breaks(&mut OneOrder::default(), &and(&early), "not its place");
    }

    #[test]
    fn who_was_not_there_begins_where_it_is_told() {
        let missed = |from, to| order_event(Event::Missed { from, to });
        let start = [
            (1, delivers(1, 5, 1, 1, "x")),
            (1, delivers(2, 6, 2, 1, "y")),
            (1, delivers(3, 7, 2, 2, "z")),
        ];
        let and = |more: &[(u64, Line)]| and(&[&start, more].concat());
        holds(&mut OneOrder::default(), &and(&[(3, delivers(2, 6, 2, 1, "y"))]));
        let told = [(3, missed(1, 1)), (3, delivers(2, 6, 2, 1, "y")), (3, missed(3, 9))];
        holds(&mut OneOrder::default(), &and(&told));
        holds(&mut OneOrder::default(), &and(&[(2, missed(1, 2)), (2, start[2].1.clone())]));
        let wrong = [(3, missed(1, 2)), (3, delivers(2, 6, 2, 1, "y"))];
        breaks(&mut OneOrder::default(), &and(&wrong), "position 2 follows Some(2)");
        breaks(&mut OneOrder::default(), &and(&[(2, missed(2, 2))]), "has missed");
    }

    #[test]
    fn a_message_in_two_places_is_found() {
        let history = [(1, delivers(1, 5, 1, 1, "x")), (1, delivers(2, 9, 1, 1, "x"))];
        breaks(&mut OneOrder::default(), &and(&history), "place 1 already");
    }

    #[test]
    fn stamps_begin_anew_with_a_view() {
        let next = [(1, delivers(1, 5, 1, 1, "x")), (1, installs_next(&[1, 2], &[], 1))];
        let history = [&next[..], &[(1, delivers(2, 4, 2, 1, "y"))]].concat();
        holds(&mut OneOrder::default(), &and(&history));
    }
}
