//! Answers: whoever asks is answered at most once, and nobody is answered who did not ask.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    gossip, multicast, node,
    protocol::{Effect, Input},
    tokenring,
};
use std::collections::BTreeMap;

/// Each ticket gets one answer: a lock is granted or refused, and after it was granted it is released
/// or lost at most once; a message is sent or refused; a rumor is published or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answers {
    tickets: BTreeMap<(Who, Part, u64), Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Lock,
    Order,
    Gossip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Asked,
    Granted,
    Done,
}

impl Invariant for Answers {
    fn name(&self) -> &'static str {
        "answers"
    }

    fn source(&self) -> &'static str {
        "crates/core/src/protocol.rs, 5: a command is answered by an event"
    }

    fn paper(&self) -> &'static str {
        "Herlihy and Wing 1990: each call has one response"
    }

    fn allows_gaps(&self) -> bool {
        true
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(Input::Command(command)) => {
                if let Some((part, ticket)) = question(command) {
                    self.tickets.insert((who, part, ticket), Stage::Asked);
                }
                Ok(())
            }
            Seen::Effect(Effect::Emit(event)) => {
                let Some((part, ticket, stages)) = answer(event) else { return Ok(()) };
                let stage = self.tickets.get_mut(&(who, part, ticket));
                match (stage, stages) {
                    // An unlock of what is not held is answered, too: by its own event.
                    (_, None) => Ok(()),
                    (Some(stage), Some((before, after))) if *stage == before => {
                        *stage = after;
                        Ok(())
                    }
                    (stage, _) => Err(format!("{event:?}, but the ticket was {stage:?}")),
                }
            }
            _ => Ok(()),
        }
    }
}

fn question(command: &node::Command) -> Option<(Part, u64)> {
    match command {
        node::Command::Lock(tokenring::Command::Lock { ticket, .. }) => Some((Part::Lock, *ticket)),
        node::Command::Order(multicast::Command::Send { ticket, .. }) => {
            Some((Part::Order, *ticket))
        }
        node::Command::Gossip(gossip::Command::Publish { ticket, .. }) => {
            Some((Part::Gossip, *ticket))
        }
        _ => None,
    }
}

/// The stages that an answer leads from and to; none for an answer that is about no question.
type Change = Option<(Stage, Stage)>;

/// Which ticket an event answers.
fn answer(event: &node::Event) -> Option<(Part, u64, Change)> {
    let done = Some((Stage::Asked, Stage::Done));
    match event {
        node::Event::Lock(event) => {
            let (ticket, stages) = match event {
                tokenring::Event::Granted { ticket, .. } => {
                    (ticket, Some((Stage::Asked, Stage::Granted)))
                }
                tokenring::Event::Released { ticket, .. }
                | tokenring::Event::Lost { ticket, .. } => {
                    (ticket, Some((Stage::Granted, Stage::Done)))
                }
                tokenring::Event::Refused { ticket, reason, .. } => {
                    (ticket, done.filter(|_| *reason != tokenring::Refusal::NotHeld))
                }
                _ => return None,
            };
            Some((Part::Lock, *ticket, stages))
        }
        node::Event::Order(
            multicast::Event::Sent { ticket, .. } | multicast::Event::Refused { ticket, .. },
        ) => Some((Part::Order, *ticket, done)),
        node::Event::Gossip(
            gossip::Event::Published { ticket, .. } | gossip::Event::Refused { ticket, .. },
        ) => Some((Part::Gossip, *ticket, done)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::tokenring::{Command, Event, Refusal, Wait};

    fn asks(ticket: u64) -> Line {
        let command = Command::Lock { lock: lock("a"), ticket, wait: Wait::Queue };
        Line::Input(Input::Command(node::Command::Lock(command)))
    }

    fn refused(ticket: u64, reason: Refusal) -> Line {
        lock_event(Event::Refused { lock: lock("a"), ticket, reason })
    }

    #[test]
    fn one_answer_each_is_fine() {
        let history = [
            (1, asks(1)),
            (1, granted("a", 1, 1)),
            (1, asks(2)),
            (1, refused(2, Refusal::Cancelled)),
            (1, released("a", 1, 1)),
            (1, refused(2, Refusal::NotHeld)),
        ];
        holds(&mut Answers::default(), &history);
    }

    #[test]
    fn an_unasked_grant_is_found() {
        breaks(&mut Answers::default(), &[(1, granted("a", 1, 1))], "ticket was None");
        let other = [(1, asks(1)), (2, granted("a", 1, 1))];
        breaks(&mut Answers::default(), &other, "ticket was None");
    }

    #[test]
    fn a_second_answer_is_found() {
        let twice = [(1, asks(1)), (1, granted("a", 1, 1)), (1, granted("a", 1, 2))];
        breaks(&mut Answers::default(), &twice, "Granted");
        let both = [(1, asks(1)), (1, refused(1, Refusal::Cancelled)), (1, granted("a", 1, 2))];
        breaks(&mut Answers::default(), &both, "Done");
    }

    #[test]
    fn a_second_release_is_found() {
        let history = [
            (1, asks(1)),
            (1, granted("a", 1, 1)),
            (1, released("a", 1, 1)),
            (1, released("a", 1, 1)),
        ];
        breaks(&mut Answers::default(), &history, "Done");
    }

    #[test]
    fn a_lost_lock_that_is_released_is_found() {
        let (lock, reason) = (lock("a"), roundelay_core::tokenring::Loss::Excluded);
        let lost = lock_event(Event::Lost { lock, ticket: 1, fence: 1, reason });
        let history = [(1, asks(1)), (1, granted("a", 1, 1)), (1, lost)];
        holds(&mut Answers::default(), &history);
        let both = [history.to_vec(), vec![(1, released("a", 1, 1))]].concat();
        breaks(&mut Answers::default(), &both, "Done");
    }

    #[test]
    fn a_message_sent_twice_is_found() {
        let sent = order_event(multicast::Event::Sent { ticket: 1, position: 1 });
        let history = [(1, sends(1, "x")), (1, sent.clone()), (1, sent)];
        breaks(&mut Answers::default(), &history, "Done");
    }
}
