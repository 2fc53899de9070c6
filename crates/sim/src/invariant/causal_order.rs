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

/// If a member has sent or delivered *m* before it sends *m′*, *m* comes before *m′* in the order.
/// Checked with vectors (Birman, Schiper, Stephenson 1991), which the protocol does not have: what a
/// message knows of each sender must be in the order before it. Within a view that also holds of what
/// the member has only acknowledged; the cut that ends a view may have *m′* without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CausalOrder {
    views: Views,
    /// What each life knows of each sender.
    past: BTreeMap<Who, Past>,
    /// What was known to messages that are not in the order yet, by sender and sequence.
    under_way: BTreeMap<(Stream, u64), Past>,
    /// Per sender: how many of its messages are in the order.
    ordered: Known,
    /// What was delivered in this step that only a cut allows: the position, and what is wrong.
    pending: Option<(u64, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Past {
    /// What it has delivered, and what it has sent in its incarnation.
    sure: Known,
    /// What it has delivered.
    delivered: Known,
    /// What it has acknowledged in its view.
    acknowledged: Known,
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
            Seen::Input(_) => self.pending = None,
            Seen::Effect(Effect::Send { message: node::Message::Order(message), .. }) => {
                self.on_send(who, message.view, &message.body);
            }
            Seen::Effect(Effect::Emit(event)) => match event {
                node::Event::Order(Event::Delivered(delivery)) => {
                    return self.on_delivered(who, delivery);
                }
                node::Event::View { position, joins, .. } => {
                    self.views.see(who, seen);
                    let past = self.past.entry(who).or_default();
                    past.acknowledged.clear();
                    // What was sent in vain before is sent anew, as another message.
                    if *joins {
                        past.sure.clone_from(&past.delivered);
                    }
                    self.pending.take_if(|(delivered, _)| *delivered <= *position);
                }
                node::Event::Out { .. } => self.views.see(who, seen),
                _ => {}
            },
            Seen::End(end) if !end.ended => {
                return self.pending.take().map_or(Ok(()), |(_, reason)| Err(reason));
            }
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
        let past = self.past.entry(who).or_default();
        match body {
            Body::Data { sequence, .. } => {
                let is_new = |known: &Known| known.get(&own).is_none_or(|last| sequence > last);
                if is_new(&past.sure) && is_new(&self.ordered) {
                    self.under_way.entry((own, *sequence)).or_insert_with(|| past.clone());
                    past.sure.insert(own, *sequence);
                }
            }
            // What is acknowledged is received, and counts as known.
            Body::Clock { received, .. } => {
                for (member, received) in view.members.iter().zip(received) {
                    let stream = (member.id, member.incarnation);
                    raise(&mut past.acknowledged, stream, *received);
                }
            }
            _ => {}
        }
    }

    fn on_delivered(&mut self, who: Who, delivery: &Delivery) -> Result<(), String> {
        let Delivery { sender, incarnation, sequence, position, .. } = *delivery;
        let stream = (sender, incarnation);
        let past = self.past.entry(who).or_default();
        raise(&mut past.sure, stream, sequence);
        raise(&mut past.delivered, stream, sequence);
        // The others deliver it in the same place: that is one order.
        if self.ordered.get(&stream).is_some_and(|last| sequence <= *last) {
            return Ok(());
        }
        // (A message that was for nobody else was not seen when it was sent.)
        let known = self.under_way.remove(&(stream, sequence)).unwrap_or_default();
        let what = |missing| format!("{delivery:?} knew {missing}");
        if let Some(missing) = self.missing(&known.acknowledged) {
            self.pending = Some((position, what(missing)));
        }
        let sure = self.missing(&known.sure).map(what);
        self.ordered.insert(stream, sequence);
        sure.map_or(Ok(()), Err)
    }

    /// The first of what is known that is not in the order yet.
    fn missing(&self, known: &Known) -> Option<String> {
        let had = |stream| self.ordered.get(stream).copied().unwrap_or(0);
        let missing = known.iter().find(|(stream, known)| **known > had(stream));
        missing.map(|(stream, known)| {
            format!("{known} messages of {stream:?}, but comes after {}", had(stream))
        })
    }
}

fn raise(known: &mut Known, stream: Stream, sequence: u64) {
    let known = known.entry(stream).or_default();
    *known = (*known).max(sequence);
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
        let ends = [&history[..], &[(1, end(1, 2))]].concat();
        breaks(&mut CausalOrder::default(), &and(&ends), "knew 1 messages of");
        let cut = [&history[..], &[(1, installs_next(&[1], &[], 1)), (1, end(1, 2))]].concat();
        holds(&mut CausalOrder::default(), &and(&cut));
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
