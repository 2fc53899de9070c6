//! Rumors: heard at most once in a life, unchanged, and only if somebody said them.

use super::{Accepted, Invariant, Seen, Who};
use bytes::Bytes;
use roundelay_core::{
    gossip::{Command, Event, Origin},
    node,
    protocol::{Effect, Input},
};
use std::collections::{BTreeMap, BTreeSet};

/// Each life of a node hears each rumor at most once, as it was published, and its own ones
/// without a hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoDuplicateRumors {
    published: BTreeMap<Origin, Accepted>,
    heard: BTreeSet<(Who, Origin, u64)>,
}

impl Invariant for NoDuplicateRumors {
    fn name(&self) -> &'static str {
        "no_duplicate_rumors"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/gossip.md: once"
    }

    fn paper(&self) -> &'static str {
        "Demers et al. 1987; Leitão, Pereira and Rodrigues 2007 (Plumtree)"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        let own = Origin { node: who.node, life: who.life };
        match seen {
            Seen::Input(Input::Command(node::Command::Gossip(Command::Publish {
                ticket,
                payload,
            }))) => {
                self.published.entry(own).or_default().ask(*ticket, payload);
                Ok(())
            }
            Seen::Effect(Effect::Emit(node::Event::Gossip(event))) => match event {
                Event::Heard { origin, name, sequence, hops, payload } => {
                    let placeholder = origin.node.to_string();
                    if name.id() != origin.node && name.as_str() != placeholder {
                        return Err(format!("{origin:?} is not called {name}"));
                    }
                    if (*hops == 0) != (*origin == own) {
                        return Err(format!("number {sequence} of {origin:?} made {hops} hops"));
                    }
                    self.on_heard(who, *origin, *sequence, payload)
                }
                Event::Refused { ticket, .. } => {
                    self.published.entry(own).or_default().refuse(*ticket)
                }
                Event::Published { ticket, sequence } => {
                    let published = self.published.entry(own).or_default();
                    if published.ticket(*sequence) == Some(*ticket) {
                        Ok(())
                    } else {
                        Err(format!("ticket {ticket} is said to be number {sequence}"))
                    }
                }
                Event::NeighborUp(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl NoDuplicateRumors {
    fn on_heard(
        &mut self,
        who: Who,
        origin: Origin,
        sequence: u64,
        payload: &Bytes,
    ) -> Result<(), String> {
        if !self.heard.insert((who, origin, sequence)) {
            return Err(format!("hears number {sequence} of {origin:?} again"));
        }
        match self.published.get(&origin) {
            None => Err(format!("{origin:?} never said anything")),
            Some(published) => published.expect(sequence, payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn publishes(ticket: u64, text: &'static str) -> Line {
        let payload = Bytes::from_static(text.as_bytes());
        Line::Input(Input::Command(node::Command::Gossip(Command::Publish { ticket, payload })))
    }

    fn hears(of: u64, sequence: u64, hops: u32, text: &'static str) -> Line {
        gossip_event(Event::Heard {
            origin: Origin { node: id(of), life: who(of).life },
            name: name(of),
            sequence,
            hops,
            payload: Bytes::from_static(text.as_bytes()),
        })
    }

    #[test]
    fn everybody_once_in_any_order_is_fine() {
        holds(
            &mut NoDuplicateRumors::default(),
            &[
                (1, publishes(7, "x")),
                (1, hears(1, 1, 0, "x")),
                (1, gossip_event(Event::Published { ticket: 7, sequence: 1 })),
                (1, publishes(8, "y")),
                (2, hears(1, 2, 1, "y")),
                (2, hears(1, 1, 3, "x")),
            ],
        );
    }

    #[test]
    fn a_rumor_heard_twice_is_found() {
        let history = [(1, publishes(7, "x")), (2, hears(1, 1, 1, "x")), (2, hears(1, 1, 2, "x"))];
        breaks(&mut NoDuplicateRumors::default(), &history, "again");
    }

    #[test]
    fn a_rumor_that_nobody_said_is_found() {
        breaks(&mut NoDuplicateRumors::default(), &[(2, hears(1, 1, 1, "x"))], "never said");
        let history = [(1, publishes(7, "x")), (2, hears(1, 2, 1, "x"))];
        breaks(&mut NoDuplicateRumors::default(), &history, "never sent");
    }

    #[test]
    fn a_changed_rumor_is_found() {
        let history = [(1, publishes(7, "x")), (2, hears(1, 1, 1, "z"))];
        breaks(&mut NoDuplicateRumors::default(), &history, "was sent as");
    }

    #[test]
    fn wrong_hops_are_found() {
        let own = [(1, publishes(7, "x")), (1, hears(1, 1, 2, "x"))];
        breaks(&mut NoDuplicateRumors::default(), &own, "made 2 hops");
        let other = [(1, publishes(7, "x")), (2, hears(1, 1, 0, "x"))];
        breaks(&mut NoDuplicateRumors::default(), &other, "made 0 hops");
    }

    #[test]
    fn a_wrong_number_for_a_ticket_is_found() {
        let history = [
            (1, publishes(7, "x")),
            (1, gossip_event(Event::Published { ticket: 7, sequence: 2 })),
        ];
        breaks(&mut NoDuplicateRumors::default(), &history, "said to be number 2");
    }
}
