//! Integrity: what is delivered was sent, is delivered once, and in its sender's order.

use super::{Accepted, Invariant, Seen, Who};
use roundelay_core::{
    id::NodeId,
    multicast::{Command, Delivery, Event},
    node,
    protocol::{Effect, Input},
};
use std::collections::BTreeMap;

/// No message is delivered twice, none that was not sent or was refused, and those of one sender
/// come in the order in which they were sent, without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Integrity {
    sent: BTreeMap<NodeId, Accepted>,
    delivered: BTreeMap<(Who, NodeId), u64>,
}

impl Invariant for Integrity {
    fn name(&self) -> &'static str {
        "integrity"
    }

    fn source(&self) -> &'static str {
        "protocols.md, section 4: integrity, FIFO order"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(Input::Command(node::Command::Order(Command::Send {
                ticket,
                payload,
            }))) => {
                self.sent.entry(who.node).or_default().ask(*ticket, payload);
                Ok(())
            }
            Seen::Effect(Effect::Emit(node::Event::Order(event))) => match event {
                Event::Delivered(delivery) => self.on_delivered(who, delivery),
                Event::Refused { ticket, .. } => {
                    self.sent.entry(who.node).or_default().refuse(*ticket)
                }
                Event::Sent { .. } | Event::MemberLeft(_) | Event::LeaveDone => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Integrity {
    fn on_delivered(&mut self, who: Who, delivery: &Delivery) -> Result<(), String> {
        let Delivery { sender, sequence, payload, .. } = delivery;
        let last = self.delivered.entry((who, *sender)).or_default();
        if *sequence != *last + 1 {
            return Err(format!("number {sequence} of {sender} is delivered after {last}"));
        }
        *last = *sequence;
        match self.sent.get(sender) {
            None => Err(format!("{sender} never sent anything")),
            Some(sent) => sent.expect(*sequence, payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::multicast::Refusal;

    fn refused(ticket: u64) -> Line {
        order_event(Event::Refused { ticket, reason: Refusal::WindowFull })
    }

    #[test]
    fn a_refused_message_counts_for_nothing() {
        holds(
            &mut Integrity::default(),
            &[
                (1, sends(1, "x")),
                (1, sends(2, "never")),
                (1, refused(2)),
                (1, sends(3, "y")),
                (2, delivers(1, 1, 1, 1, "x")),
                (2, delivers(2, 2, 1, 2, "y")),
            ],
        );
    }

    #[test]
    fn a_message_that_nobody_sent_is_found() {
        breaks(&mut Integrity::default(), &[(2, delivers(1, 1, 1, 1, "x"))], "never sent");
        let history = [(1, sends(1, "x")), (1, refused(1)), (2, delivers(1, 1, 1, 1, "x"))];
        breaks(&mut Integrity::default(), &history, "never sent");
    }

    #[test]
    fn a_changed_message_is_found() {
        let history = [(1, sends(1, "x")), (2, delivers(1, 1, 1, 1, "X"))];
        breaks(&mut Integrity::default(), &history, "was sent as");
    }

    #[test]
    fn a_repeated_message_is_found() {
        let history =
            [(1, sends(1, "x")), (2, delivers(1, 1, 1, 1, "x")), (2, delivers(2, 2, 1, 1, "x"))];
        breaks(&mut Integrity::default(), &history, "delivered after 1");
    }

    #[test]
    fn a_message_before_an_earlier_one_of_its_sender_is_found() {
        let history = [(1, sends(1, "x")), (1, sends(2, "y")), (2, delivers(1, 2, 1, 2, "y"))];
        breaks(&mut Integrity::default(), &history, "delivered after 0");
    }

    #[test]
    fn a_refusal_of_nothing_is_found() {
        breaks(&mut Integrity::default(), &[(1, refused(9))], "nobody asked");
    }
}
