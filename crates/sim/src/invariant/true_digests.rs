//! True digests: nodes say that they know only what they know.

use super::{Invariant, Seen, Who, numbers::Numbers};
use roundelay_core::{
    gossip::{Command, Event, Have, Message, Origin},
    node,
    protocol::{Effect, Input},
};
use std::collections::BTreeMap;

/// A life of a node says that it knows a rumor only if the rumor has come to it, is its own, or was
/// said to be forgotten. (Who is believed to know a rumor is not sent it.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrueDigests {
    known: BTreeMap<(Who, Origin), Numbers>,
    /// How many own rumors were asked for and not refused. (Events come after what is sent.)
    own: BTreeMap<Who, u64>,
}

impl Invariant for TrueDigests {
    fn name(&self) -> &'static str {
        "true_digests"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/gossip.md, Streams and Repair: what a node has of a stream"
    }

    fn paper(&self) -> &'static str {
        "Demers et al. 1987, 1.3: anti-entropy"
    }

    fn allows_gaps(&self) -> bool {
        true
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(Input::Command(node::Command::Gossip(Command::Publish { .. }))) => {
                *self.own.entry(who).or_default() += 1;
            }
            Seen::Effect(Effect::Emit(node::Event::Gossip(Event::Refused { .. }))) => {
                *self.own.entry(who).or_default() -= 1;
            }
            Seen::Input(Input::Message { message: node::Message::Gossip(message), .. }) => {
                match message {
                    Message::Rumor(rumor) => {
                        self.learn(who, rumor.origin, rumor.sequence, rumor.sequence);
                    }
                    Message::Forgotten(ranges) => {
                        for range in ranges {
                            self.learn(who, range.origin, range.first, range.last);
                        }
                    }
                    _ => {}
                }
            }
            Seen::Effect(Effect::Send { message: node::Message::Gossip(message), .. }) => {
                return self.on_send(who, message);
            }
            _ => {}
        }
        Ok(())
    }
}

impl TrueDigests {
    fn learn(&mut self, who: Who, origin: Origin, first: u64, last: u64) {
        self.known.entry((who, origin)).or_default().insert(first, last);
    }

    fn on_send(&self, who: Who, message: &Message) -> Result<(), String> {
        match message {
            Message::Digest { have, .. } => {
                for Have { origin, up_to, beyond } in have {
                    if let Some(last) = up_to.checked_sub(1) {
                        self.expect(who, *origin, 0, last)?;
                    }
                    for (first, last) in beyond {
                        self.expect(who, *origin, *first, *last)?;
                    }
                }
                Ok(())
            }
            Message::Rumor(rumor) => self.expect(who, rumor.origin, rumor.sequence, rumor.sequence),
            Message::Known { origin, sequence } => self.expect(who, *origin, *sequence, *sequence),
            _ => Ok(()),
        }
    }

    fn expect(&self, who: Who, origin: Origin, first: u64, last: u64) -> Result<(), String> {
        let known = if origin == (Origin { node: who.node, life: who.life }) {
            last <= self.own.get(&who).copied().unwrap_or(0)
        } else {
            self.known.get(&(who, origin)).is_some_and(|known| known.contains(first, last))
        };
        if known {
            Ok(())
        } else {
            Err(format!("says that it knows {first} to {last} of {origin:?}, and does not"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::gossip::{Range, Refusal};

    fn digest(of: u64, up_to: u64, beyond: &[(u64, u64)]) -> Line {
        let have = vec![Have { origin: origin(of), up_to, beyond: beyond.to_vec() }];
        sends_gossip(2, Message::Digest { have, answer: false })
    }

    fn publishes() -> Line {
        let command = Command::Publish { ticket: 1, payload: bytes::Bytes::new() };
        Line::Input(Input::Command(node::Command::Gossip(command)))
    }

    fn refuses() -> Line {
        gossip_event(Event::Refused { ticket: 1, reason: Refusal::Full })
    }

    #[test]
    fn what_came_what_is_own_and_what_is_gone_is_known() {
        let gone = Message::Forgotten(vec![Range { origin: origin(2), first: 3, last: 5 }]);
        let history = [
            (1, digest(1, 1, &[])),
            (1, publishes()),
            (1, digest(1, 2, &[])),
            (1, receives_gossip(2, rumor(2, 0, 1))),
            (1, receives_gossip(3, rumor(2, 2, 2))),
            (1, digest(2, 1, &[(2, 2)])),
            (1, receives_gossip(2, gone)),
            (1, digest(2, 1, &[(2, 5)])),
            (1, sends_gossip(3, rumor(2, 2, 3))),
            (1, sends_gossip(3, Message::Known { origin: origin(2), sequence: 2 })),
        ];
        holds(&mut TrueDigests::default(), &history);
    }

    #[test]
    fn a_digest_of_what_never_came_is_found() {
        let start = [(1, publishes()), (1, refuses()), (1, receives_gossip(2, rumor(2, 1, 1)))];
        let and = |line: Line| start.iter().cloned().chain([(1, line)]).collect::<Vec<_>>();
        breaks(&mut TrueDigests::default(), &and(digest(2, 2, &[])), "0 to 1");
        breaks(&mut TrueDigests::default(), &and(digest(2, 0, &[(1, 2)])), "1 to 2");
        breaks(&mut TrueDigests::default(), &and(digest(1, 2, &[])), "0 to 1");
        breaks(&mut TrueDigests::default(), &and(digest(3, 1, &[])), "0 to 0");
    }

    #[test]
    fn who_knows_is_who_got_it() {
        let history = [
            (1, receives_gossip(2, rumor(2, 1, 1))),
            (3, sends_gossip(1, Message::Known { origin: origin(2), sequence: 1 })),
        ];
        breaks(&mut TrueDigests::default(), &history, "1 to 1");
    }
}
