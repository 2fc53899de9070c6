//! Causal order: an answer never comes before what it answers.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    founding,
    id::NodeId,
    multicast::{Body, Delivery, Event},
    node,
    protocol::Effect,
};
use std::collections::BTreeMap;

/// If a member has sent, delivered or acknowledged *m* before it sends *m′*, *m* comes before *m′*
/// in the order. Checked with vectors (Birman, Schiper, Stephenson 1991), which the protocol does
/// not have: what a message knows of each sender must be in the order before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CausalOrder {
    members: Vec<NodeId>,
    /// What each member knows of each sender, by positions.
    past: Vec<Vec<u64>>,
    /// What was known to messages that are not in the order yet, by sender and sequence.
    under_way: BTreeMap<(usize, u64), Vec<u64>>,
    /// Per sender: how many of its messages are in the order.
    ordered: Vec<u64>,
}

impl Invariant for CausalOrder {
    fn name(&self) -> &'static str {
        "causal_order"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: FIFO and causal order"
    }

    fn paper(&self) -> &'static str {
        "Lamport 1978: happened before; Birman, Schiper and Stephenson 1991"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Effect(Effect::Emit(node::Event::Founding(founding::Event::Installed {
                view,
                ..
            }))) if self.members.is_empty() => {
                self.members = view.members.iter().map(|member| member.id).collect();
                self.ordered = vec![0; view.len()];
                self.past = vec![vec![0; view.len()]; view.len()];
            }
            Seen::Effect(Effect::Send { message: node::Message::Order(message), .. }) => {
                if let Some(member) = self.position(who.node) {
                    self.on_send(member, &message.body);
                }
            }
            Seen::Effect(Effect::Emit(node::Event::Order(Event::Delivered(delivery)))) => {
                return self.on_delivered(who, delivery);
            }
            _ => {}
        }
        Ok(())
    }
}

impl CausalOrder {
    fn position(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| *member == node)
    }

    fn on_send(&mut self, member: usize, body: &Body) {
        match body {
            Body::Data { sequence, .. } if *sequence > self.past[member][member] => {
                self.under_way.insert((member, *sequence), self.past[member].clone());
                self.past[member][member] = *sequence;
            }
            // What is acknowledged is received, and counts as known.
            Body::Clock { received, .. } => {
                for (known, received) in self.past[member].iter_mut().zip(received) {
                    *known = (*known).max(*received);
                }
            }
            _ => {}
        }
    }

    fn on_delivered(&mut self, who: Who, delivery: &Delivery) -> Result<(), String> {
        let Delivery { sender, sequence, .. } = *delivery;
        let (Some(member), Some(sender)) = (self.position(who.node), self.position(sender)) else {
            return Err(format!("delivers {delivery:?} outside of a view"));
        };
        self.past[member][sender] = self.past[member][sender].max(sequence);
        // The others deliver it in the same place: that is one order.
        if sequence <= self.ordered[sender] {
            return Ok(());
        }
        // (A message that was for nobody else was not seen when it was sent.)
        if let Some(known) = self.under_way.remove(&(sender, sequence)) {
            let missing = known.iter().zip(&self.ordered).position(|(known, had)| known > had);
            if let Some(missing) = missing {
                let (known, had) = (known[missing], self.ordered[missing]);
                return Err(format!(
                    "{delivery:?} knew {known} messages of member {missing}, but comes after {had}"
                ));
            }
        }
        self.ordered[sender] = sequence;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn and(more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        let start = [(1, installed_among(2)), (2, installed_among(2))];
        start.into_iter().chain(more.iter().cloned()).collect()
    }

    #[test]
    fn an_answer_after_its_question_and_concurrent_messages_are_fine() {
        let history = [
            (1, sends_data(1, 5, (0, 1), "x")),
            (2, sends_data(1, 4, (0, 1), "y")),
            (1, delivers(1, 4, 2, 1, "y")),
            (1, delivers(2, 5, 1, 1, "x")),
            (1, sends_data(2, 6, (0, 1), "z")),
            (2, delivers(1, 4, 2, 1, "y")),
            (2, delivers(2, 5, 1, 1, "x")),
            (2, delivers(3, 6, 1, 2, "z")),
        ];
        holds(&mut CausalOrder::default(), &and(&history));
    }

    #[test]
    fn an_answer_before_a_question_that_was_received_is_found() {
        let history = [
            (1, sends_data(1, 5, (0, 1), "x")),
            (2, sends_clock(1, 0, &[1, 0])),
            (2, sends_data(1, 4, (0, 1), "y")),
            (1, delivers(1, 4, 2, 1, "y")),
        ];
        breaks(&mut CausalOrder::default(), &and(&history), "knew 1 messages of member 0");
    }

    #[test]
    fn an_answer_before_a_question_that_was_delivered_is_found() {
        // Node 2 delivers what the others have in another place: without that it cannot happen.
        let history = [
            (1, sends_data(1, 5, (0, 1), "x")),
            (1, sends_data(2, 6, (0, 1), "y")),
            (2, delivers(1, 5, 1, 1, "x")),
            (2, sends_data(1, 4, (0, 1), "z")),
            (2, delivers(2, 4, 2, 1, "z")),
        ];
        holds(&mut CausalOrder::default(), &and(&history));
        let fifo = [
            (1, sends_data(1, 5, (0, 1), "x")),
            (1, sends_data(2, 6, (0, 1), "y")),
            (2, delivers(1, 6, 1, 2, "y")),
        ];
        breaks(&mut CausalOrder::default(), &and(&fifo), "knew 1 messages of member 0");
    }

    #[test]
    fn a_delivery_without_a_view_is_found() {
        breaks(&mut CausalOrder::default(), &[(1, delivers(1, 5, 1, 1, "x"))], "outside");
    }
}
