//! One order: all members deliver the same messages in the same places.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    id::NodeId,
    multicast::{Delivery, Event},
    node,
    protocol::Effect,
};
use std::collections::BTreeMap;

/// Delivered sequences are prefixes of one another, those of members that have left included;
/// positions have no gaps and begin with 1; stamps increase along the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OneOrder {
    order: Vec<Delivery>,
    delivered: BTreeMap<Who, u64>,
}

impl Invariant for OneOrder {
    fn name(&self) -> &'static str {
        "one_order"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: uniform total order, integrity"
    }

    fn paper(&self) -> &'static str {
        "Défago, Schiper and Urbán 2004, section 2: uniform total order"
    }

    fn allows_gaps(&self) -> bool {
        true
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Effect(Effect::Emit(node::Event::Order(event))) = seen else { return Ok(()) };
        match event {
            Event::Delivered(delivery) => self.on_delivered(who, delivery),
            Event::Sent { position, ticket } => {
                // "Sent" says that a majority has it, so its place must be known by then.
                let known = self.delivered.get(&who).is_some_and(|last| position <= last);
                let own = known && self.order[*position as usize - 1].sender == who.node;
                if own {
                    Ok(())
                } else {
                    Err(format!("ticket {ticket} is sent at {position}, which is not its place"))
                }
            }
            Event::Refused { .. } | Event::MemberLeft(_) | Event::LeaveDone => Ok(()),
        }
    }
}

impl OneOrder {
    fn on_delivered(&mut self, who: Who, delivery: &Delivery) -> Result<(), String> {
        let last = self.delivered.entry(who).or_default();
        if delivery.position != *last + 1 {
            return Err(format!("position {} follows {last}", delivery.position));
        }
        *last = delivery.position;
        match self.order.get(delivery.position as usize - 1) {
            Some(same) if same == delivery => Ok(()),
            Some(other) => Err(format!("delivers {delivery:?} where others have {other:?}")),
            None => self.extend(delivery),
        }
    }

    fn extend(&mut self, delivery: &Delivery) -> Result<(), String> {
        // Members of one view are told apart by their place in it; here it is enough that no two
        // messages of one sender have one time.
        let stamp = |delivery: &Delivery| -> (u64, NodeId) { (delivery.time, delivery.sender) };
        if let Some(before) = self.order.last() {
            let same = stamp(before) == stamp(delivery);
            if before.time > delivery.time || same {
                return Err(format!("{delivery:?} comes after {before:?}, against its stamp"));
            }
        }
        self.order.push(delivery.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::multicast;

    #[test]
    fn a_prefix_is_fine() {
        holds(
            &mut OneOrder::default(),
            &[
                (1, delivers(1, 5, 1, 1, "x")),
                (1, delivers(2, 6, 2, 1, "y")),
                (2, delivers(1, 5, 1, 1, "x")),
                (2, delivers(2, 6, 2, 1, "y")),
                (2, order_event(multicast::Event::Sent { ticket: 1, position: 2 })),
            ],
        );
    }

    #[test]
    fn another_order_is_found() {
        let history = [(1, delivers(1, 5, 1, 1, "x")), (2, delivers(1, 6, 2, 1, "y"))];
        breaks(&mut OneOrder::default(), &history, "where others have");
    }

    #[test]
    fn another_payload_is_found() {
        let history = [(1, delivers(1, 5, 1, 1, "x")), (2, delivers(1, 5, 1, 1, "z"))];
        breaks(&mut OneOrder::default(), &history, "where others have");
    }

    #[test]
    fn a_gap_a_repetition_and_a_late_beginning_are_found() {
        let gap = [(1, delivers(1, 5, 1, 1, "x")), (1, delivers(3, 6, 1, 2, "y"))];
        breaks(&mut OneOrder::default(), &gap, "position 3 follows 1");
        let twice = [(1, delivers(1, 5, 1, 1, "x")), (1, delivers(1, 5, 1, 1, "x"))];
        breaks(&mut OneOrder::default(), &twice, "position 1 follows 1");
        breaks(&mut OneOrder::default(), &[(1, delivers(2, 5, 1, 1, "x"))], "position 2 follows 0");
    }

    #[test]
    fn an_order_against_the_clocks_is_found() {
        let history = [(1, delivers(1, 5, 1, 1, "x")), (1, delivers(2, 4, 2, 1, "y"))];
        breaks(&mut OneOrder::default(), &history, "against its stamp");
    }

    #[test]
    fn a_wrong_place_of_an_own_message_is_found() {
        let sent = |position| order_event(multicast::Event::Sent { ticket: 1, position });
        let wrong = [(1, delivers(1, 5, 2, 1, "x")), (1, sent(1))];
        breaks(&mut OneOrder::default(), &wrong, "not its place");
        let early = [(1, delivers(1, 5, 1, 1, "x")), (1, sent(2))];
        breaks(&mut OneOrder::default(), &early, "not its place");
    }
}
