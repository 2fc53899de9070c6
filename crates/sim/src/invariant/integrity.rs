//! Integrity: what is in the order was sent, is there once, and in its sender's order.

use super::{Invariant, Seen, Who, views::Views};
use bytes::Bytes;
use roundelay_core::{
    multicast::{Command, Delivery, Event, Refusal, Ticket},
    node,
    protocol::{Effect, Input},
};
use std::collections::BTreeMap;

/// The order has no message that was not sent, or was refused, and those of one life come in the
/// order in which they were sent, each once, in whichever view. The sender is told the place of each.
/// Of what a life was told that it may or may not be in the order, both may be true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Integrity {
    views: Views,
    sent: BTreeMap<Who, Vec<Sent>>,
    /// The last position, by whomever it was delivered first.
    last: u64,
}

/// Something that an application has sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    ticket: Ticket,
    payload: Bytes,
    /// Its place, once it is known.
    position: Option<u64>,
    refused: Option<Refusal>,
}

impl Invariant for Integrity {
    fn name(&self) -> &'static str {
        "integrity"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: integrity, FIFO order (T8, T10)"
    }

    fn paper(&self) -> &'static str {
        "Hadzilacos and Toueg 1994: integrity, FIFO order"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.views.see(who, seen);
        match seen {
            Seen::Input(Input::Command(node::Command::Order(Command::Send {
                ticket,
                payload,
            }))) => {
                let (ticket, payload) = (*ticket, payload.clone());
                let sent = Sent { ticket, payload, position: None, refused: None };
                self.sent.entry(who).or_default().push(sent);
                Ok(())
            }
            Seen::Effect(Effect::Emit(node::Event::Order(event))) => match event {
                Event::Delivered(delivery) => self.on_delivered(delivery),
                Event::Refused { ticket, reason } => self.on_refused(who, *ticket, *reason),
                Event::Sent { ticket, position } => self.on_sent(who, *ticket, *position),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Integrity {
    fn on_delivered(&mut self, delivery: &Delivery) -> Result<(), String> {
        let Delivery { position, sender, incarnation, payload, .. } = delivery;
        // The others deliver it in the same place: that is one order.
        if *position <= self.last {
            return Ok(());
        }
        self.last = *position;
        let Some(who) = self.views.life((*sender, *incarnation)) else {
            return Err(format!("{delivery:?} is of no member that there was"));
        };
        let sent = self.sent.entry(who).or_default();
        let last = sent.iter().rposition(|sent| sent.position.is_some());
        for at in last.map_or(0, |last| last + 1)..sent.len() {
            let says_it = sent[at].payload == *payload;
            match sent[at].refused {
                None | Some(Refusal::Unknown) if says_it => {
                    sent[at].position = Some(*position);
                    return Ok(());
                }
                // It may be this one, or not be in the order.
                Some(_) => {}
                // Unless the last one was this one, and not one that says the same.
                None if last.is_some_and(|last| is_mistaken(&sent[last], &sent[at])) => {
                    let last = last.expect("there is one");
                    sent[at].position = sent[last].position.take();
                }
                None => {
                    let Sent { payload, ticket, .. } = &sent[at];
                    return Err(format!("{delivery:?} comes before {payload:?}, ticket {ticket}"));
                }
            }
        }
        Err(format!("{delivery:?} was never sent, or is there already"))
    }

    fn on_refused(&mut self, who: Who, ticket: Ticket, reason: Refusal) -> Result<(), String> {
        match self.find(who, ticket) {
            None => Err(format!("ticket {ticket} is refused, but nobody asked for it")),
            Some(Sent { position: Some(position), .. }) if reason != Refusal::Unknown => {
                Err(format!("ticket {ticket} is refused, but is in the order at {position}"))
            }
            Some(sent) => {
                sent.refused = Some(reason);
                Ok(())
            }
        }
    }

    fn on_sent(&mut self, who: Who, ticket: Ticket, position: u64) -> Result<(), String> {
        self.untangle(who, ticket, position);
        let sent = self.find(who, ticket);
        if sent.as_ref().is_some_and(|sent| sent.position == Some(position)) {
            Ok(())
        } else {
            Err(format!("ticket {ticket} is said to be sent at {position}, but is {sent:?}"))
        }
    }

    /// Of two that say the same, one of which may or may not be in the order, the sender knows which
    /// one it is.
    fn untangle(&mut self, who: Who, ticket: Ticket, position: u64) {
        let Some(sent) = self.sent.get_mut(&who) else { return };
        let there = sent.iter().position(|sent| sent.position == Some(position));
        let asked = sent.iter().rposition(|sent| sent.ticket == ticket && sent.position.is_none());
        let (Some(there), Some(asked)) = (there, asked) else { return };
        let unknown = sent[there].refused == Some(Refusal::Unknown);
        if unknown && sent[there].payload == sent[asked].payload {
            (sent[there].position, sent[asked].position) = (None, Some(position));
        }
    }

    fn find(&mut self, who: Who, ticket: Ticket) -> Option<&mut Sent> {
        self.sent.get_mut(&who)?.iter_mut().rfind(|sent| sent.ticket == ticket)
    }
}

/// Whether what is taken for the first may be the second: they say the same, and of the first it is
/// not known whether it is in the order.
fn is_mistaken(first: &Sent, second: &Sent) -> bool {
    let unknown = first.refused == Some(Refusal::Unknown) && first.position.is_some();
    unknown && first.payload == second.payload
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn refused(ticket: u64, reason: Refusal) -> Line {
        order_event(Event::Refused { ticket, reason })
    }

    /// Nodes 1 and 2 use view 1.
    fn and(more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        [&[(1, installed_among(2)), (2, installed_among(2))], more].concat()
    }

    #[test]
    fn a_refused_message_counts_for_nothing() {
        let history = [
            (1, sends(1, "x")),
            (1, sends(2, "never")),
            (1, refused(2, Refusal::WindowFull)),
            (1, sends(3, "y")),
            (2, delivers(1, 1, 1, 1, "x")),
            (2, delivers(2, 2, 1, 2, "y")),
            (1, delivers(1, 1, 1, 1, "x")),
        ];
        holds(&mut Integrity::default(), &and(&history));
    }

    #[test]
    fn a_message_that_nobody_sent_is_found() {
        let unsent = [(2, delivers(1, 1, 1, 1, "x"))];
        breaks(&mut Integrity::default(), &and(&unsent), "never sent");
        let no = refused(1, Refusal::TooLarge);
        let history = [(1, sends(1, "x")), (1, no), (2, delivers(1, 1, 1, 1, "x"))];
        breaks(&mut Integrity::default(), &and(&history), "never sent");
        breaks(&mut Integrity::default(), &and(&[(2, delivers(1, 1, 3, 1, "x"))]), "no member");
    }

    #[test]
    fn a_changed_message_is_found() {
        let history = [(1, sends(1, "x")), (2, delivers(1, 1, 1, 1, "X"))];
        breaks(&mut Integrity::default(), &and(&history), "comes before");
    }

    #[test]
    fn a_repeated_message_is_found() {
        let history =
            [(1, sends(1, "x")), (2, delivers(1, 1, 1, 1, "x")), (2, delivers(2, 2, 1, 1, "x"))];
        breaks(&mut Integrity::default(), &and(&history), "there already");
    }

    #[test]
    fn a_message_before_an_earlier_one_of_its_sender_is_found() {
        let history = [(1, sends(1, "x")), (1, sends(2, "y")), (2, delivers(1, 2, 1, 2, "y"))];
        breaks(&mut Integrity::default(), &and(&history), "comes before");
    }

    #[test]
    fn what_may_be_in_the_order_is_or_is_not() {
        let start = [
            (1, sends(1, "x")),
            (1, sends(2, "y")),
            (1, refused(1, Refusal::Unknown)),
            (1, sends(3, "z")),
        ];
        let there = [(2, delivers(1, 1, 1, 1, "x")), (2, delivers(2, 2, 1, 2, "y"))];
        holds(&mut Integrity::default(), &and(&[&start[..], &there].concat()));
        let not = [(2, delivers(1, 1, 1, 1, "y")), (2, delivers(2, 2, 1, 2, "z"))];
        holds(&mut Integrity::default(), &and(&[&start[..], &not].concat()));
        let late = [&not[..], &[(2, delivers(3, 3, 1, 3, "x"))]].concat();
        breaks(&mut Integrity::default(), &and(&[&start[..], &late].concat()), "there already");
    }

    #[test]
    fn of_two_equal_ones_the_sender_knows_which_it_is() {
        let sent = |ticket| order_event(Event::Sent { ticket, position: 1 });
        let history = [
            (1, sends(1, "x")),
            (1, refused(1, Refusal::Unknown)),
            (1, sends(2, "x")),
            (2, delivers(1, 1, 1, 1, "x")),
            (1, sent(2)),
        ];
        holds(&mut Integrity::default(), &and(&history));
        // Also if others deliver the next one before it says so.
        let next = [(1, sends(3, "y")), (2, delivers(2, 2, 1, 2, "y"))];
        let history = [&history[..4], &next].concat();
        holds(&mut Integrity::default(), &and(&history));
    }

    #[test]
    fn a_wrong_and_an_early_answer_are_found() {
        let sent = |ticket, position| order_event(Event::Sent { ticket, position });
        let start = [(1, sends(7, "x")), (1, sends(8, "y")), (1, delivers(1, 1, 1, 1, "x"))];
        let and = |line: Line| and(&[&start[..], &[(1, line)]].concat());
        holds(&mut Integrity::default(), &and(sent(7, 1)));
        breaks(&mut Integrity::default(), &and(sent(8, 1)), "but is");
        breaks(&mut Integrity::default(), &and(sent(7, 2)), "but is");
        breaks(&mut Integrity::default(), &and(refused(7, Refusal::Leaving)), "in the order at 1");
        breaks(&mut Integrity::default(), &and(refused(9, Refusal::Leaving)), "nobody asked");
    }
}
