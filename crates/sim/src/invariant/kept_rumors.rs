//! Kept rumors: a publisher keeps what nobody else has yet.

use super::{Invariant, Seen, Who, numbers::Numbers};
use roundelay_core::{
    gossip::{Message, Origin},
    node,
    protocol::{Effect, Input},
};
use std::collections::BTreeMap;

/// No node says that it has forgotten an own rumor before another node has received it, nor any
/// record, ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeptRumors {
    /// What has arrived anywhere.
    arrived: BTreeMap<Origin, Numbers>,
}

impl Invariant for KeptRumors {
    fn name(&self) -> &'static str {
        "kept_rumors"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/gossip.md, Retention and back-pressure: three kinds are never dropped"
    }

    fn paper(&self) -> &'static str {
        "Demers et al. 1987: a rumor is kept until it is known to be known"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(Input::Message {
                message: node::Message::Gossip(Message::Rumor(rumor)),
                ..
            }) => {
                let arrived = self.arrived.entry(rumor.origin).or_default();
                arrived.insert(rumor.sequence, rumor.sequence);
                Ok(())
            }
            Seen::Effect(Effect::Send {
                message: node::Message::Gossip(Message::Forgotten(ranges)),
                ..
            }) => {
                for range in ranges {
                    if range.first == 0 {
                        return Err(format!("has forgotten the record of {:?}", range.origin));
                    }
                    let own = range.origin == Origin { node: who.node, life: who.life };
                    let arrived = self.arrived.get(&range.origin);
                    let arrived =
                        arrived.is_some_and(|arrived| arrived.contains(range.first, range.last));
                    if own && !arrived {
                        return Err(format!("has forgotten {range:?}, which nobody has"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::gossip::Range;

    fn forgets(of: u64, first: u64, last: u64) -> Line {
        let range = Range { origin: origin(of), first, last };
        sends_gossip(2, Message::Forgotten(vec![range]))
    }

    #[test]
    fn what_arrived_somewhere_may_be_forgotten() {
        let history = [
            (2, receives_gossip(1, rumor(1, 1, 1))),
            (3, receives_gossip(2, rumor(1, 2, 2))),
            (1, forgets(1, 1, 2)),
            (2, forgets(3, 1, 1)),
        ];
        holds(&mut KeptRumors::default(), &history);
    }

    #[test]
    fn an_own_rumor_that_nobody_has_is_found() {
        breaks(&mut KeptRumors::default(), &[(1, forgets(1, 1, 1))], "nobody has");
        let history = [(2, receives_gossip(1, rumor(1, 1, 1))), (1, forgets(1, 1, 2))];
        breaks(&mut KeptRumors::default(), &history, "nobody has");
    }

    #[test]
    fn a_forgotten_record_is_found() {
        breaks(&mut KeptRumors::default(), &[(2, forgets(1, 0, 1))], "record");
    }
}
