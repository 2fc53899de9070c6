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
/// come in the order in which they were sent, without gaps. The sender is told so once, when it is
/// delivered there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Integrity {
    sent: BTreeMap<NodeId, Accepted>,
    delivered: BTreeMap<(Who, NodeId), u64>,
    answered: BTreeMap<Who, u64>,
}

impl Invariant for Integrity {
    fn name(&self) -> &'static str {
        "integrity"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: integrity, FIFO order"
    }

    fn paper(&self) -> &'static str {
        "Hadzilacos and Toueg 1994: integrity, FIFO order"
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
                Event::Sent { ticket, .. } => self.on_sent(who, *ticket),
                Event::MemberLeft(_) | Event::LeaveDone => Ok(()),
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

    fn on_sent(&mut self, who: Who, ticket: u64) -> Result<(), String> {
        let delivered = self.delivered.get(&(who, who.node)).copied().unwrap_or(0);
        let answered = self.answered.entry(who).or_default();
        let sent = self.sent.get(&who.node).and_then(|sent| sent.ticket(delivered));
        if sent == Some(ticket) && delivered == *answered + 1 {
            *answered = delivered;
            Ok(())
        } else {
            Err(format!("ticket {ticket} is said to be sent, {answered} were, {sent:?} was last"))
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
    fn a_wrong_a_second_and_a_missing_answer_are_found() {
        let sent = |ticket| (1, order_event(Event::Sent { ticket, position: 1 }));
        let first = [(1, sends(7, "x")), (1, sends(8, "y")), (1, delivers(1, 1, 1, 1, "x"))];
        let and = |more: &[(u64, Line)]| -> Vec<(u64, Line)> {
            first.iter().chain(more).cloned().collect()
        };
        holds(&mut Integrity::default(), &and(&[sent(7)]));
        breaks(&mut Integrity::default(), &and(&[sent(8)]), "Some(7) was last");
        breaks(&mut Integrity::default(), &and(&[sent(7), sent(7)]), "1 were");
        let late = [(1, delivers(2, 2, 1, 2, "y")), sent(8)];
        breaks(&mut Integrity::default(), &and(&late), "0 were");
        breaks(&mut Integrity::default(), &[sent(7)], "None was last");
    }

    #[test]
    fn a_refusal_of_nothing_is_found() {
        breaks(&mut Integrity::default(), &[(1, refused(9))], "nobody asked");
    }
}
