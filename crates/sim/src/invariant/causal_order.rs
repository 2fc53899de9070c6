//! Causal order: an answer never comes before what it answers.

use super::{
    Invariant, Seen, Who,
    views::{Stream, Views},
};
use roundelay_core::{
    multicast::{Body, Delivery, Event},
    node,
    protocol::Effect,
};
use std::collections::BTreeMap;

/// If a member has sent, delivered or acknowledged *m* before it sends *m′*, *m* comes before *m′*
/// in the order. Checked with vectors (Birman, Schiper, Stephenson 1991), which the protocol does
/// not have: what a message knows of each sender must be in the order before it. What was only
/// acknowledged when a view ends may be lost with it, and is known no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CausalOrder {
    views: Views,
    /// What each life knows of each sender.
    past: BTreeMap<Who, Known>,
    /// What each life has delivered of each sender.
    delivered: BTreeMap<Who, Known>,
    /// What was known to messages that are not in the order yet, by sender and sequence.
    under_way: BTreeMap<(Stream, u64), Known>,
    /// Per sender: how many of its messages are in the order.
    ordered: Known,
}

/// Per sender, how many of its messages.
type Known = BTreeMap<Stream, u64>;

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
            Seen::Effect(Effect::Send { message: node::Message::Order(message), .. }) => {
                self.on_send(who, message.view, &message.body);
            }
            Seen::Effect(Effect::Emit(event)) => match event {
                node::Event::Order(Event::Delivered(delivery)) => {
                    return self.on_delivered(who, delivery);
                }
                node::Event::View { .. } | node::Event::Out { .. } => {
                    self.views.see(who, seen);
                    let delivered = self.delivered.get(&who).cloned().unwrap_or_default();
                    self.past.insert(who, delivered);
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}

impl CausalOrder {
    fn on_send(&mut self, who: Who, view: u64, body: &Body) {
        if self.views.number(who) != Some(view) {
            return; // What is in no view orders nothing.
        }
        let Some((view, me)) = self.views.of(who).zip(self.views.position(who)) else { return };
        let own = (who.node, view.members[me].incarnation);
        match body {
            Body::Data { sequence, .. } => {
                let past = self.past.entry(who).or_default();
                let is_new = past.get(&own).is_none_or(|last| sequence > last)
                    && self.ordered.get(&own).is_none_or(|last| sequence > last);
                if is_new {
                    self.under_way.entry((own, *sequence)).or_insert_with(|| past.clone());
                    past.insert(own, *sequence);
                }
            }
            // What is acknowledged is received, and counts as known.
            Body::Clock { received, .. } => {
                let past = self.past.entry(who).or_default();
                for (member, received) in view.members.iter().zip(received) {
                    let known = past.entry((member.id, member.incarnation)).or_default();
                    *known = (*known).max(*received);
                }
            }
            _ => {}
        }
    }

    fn on_delivered(&mut self, who: Who, delivery: &Delivery) -> Result<(), String> {
        let Delivery { sender, incarnation, sequence, .. } = *delivery;
        let stream = (sender, incarnation);
        for known in [&mut self.past, &mut self.delivered] {
            let known = known.entry(who).or_default().entry(stream).or_default();
            *known = (*known).max(sequence);
        }
        // The others deliver it in the same place: that is one order.
        if self.ordered.get(&stream).is_some_and(|last| sequence <= *last) {
            return Ok(());
        }
        // (A message that was for nobody else was not seen when it was sent.)
        if let Some(known) = self.under_way.remove(&(stream, sequence)) {
            let had = |stream| self.ordered.get(stream).copied().unwrap_or(0);
            let missing = known.iter().find(|(stream, known)| **known > had(stream));
            if let Some((stream, known)) = missing {
                let had = had(stream);
                return Err(format!(
                    "{delivery:?} knew {known} messages of {stream:?}, but comes after {had}"
                ));
            }
        }
        self.ordered.insert(stream, sequence);
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
        breaks(&mut CausalOrder::default(), &and(&history), "knew 1 messages of");
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
        breaks(&mut CausalOrder::default(), &and(&fifo), "knew 1 messages of");
    }

    #[test]
    fn what_was_only_acknowledged_may_be_lost_with_its_view() {
        let history = [
            (1, sends_data(1, 5, (0, 1), "x")),
            (2, sends_clock(5, 0, &[1, 0])),
            (2, installs_next(&[2], &[], 0)),
            (2, in_view(2, sends_data(1, 6, (0, 1), "y"))),
            (2, delivers(1, 6, 2, 1, "y")),
        ];
        holds(&mut CausalOrder::default(), &and(&history));
    }
}
