//! Active majority: nobody uses a view before most of its members are known to be in it.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    founding::Message,
    id::NodeId,
    multicast::{self, Body},
    node,
    protocol::{Effect, Input},
    tokenring,
};
use std::collections::{BTreeMap, BTreeSet};

/// A life installs view 1 of a walk once it is active in it and has heard so from others that make a
/// strict majority with it. Before its first view, and when it is out, it says nothing of lock or
/// order but what it has learned, and grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ActiveMajority {
    /// In which walk's view each life is active.
    active: BTreeMap<Who, u64>,
    /// Who has said to a life that it is active in the view of a walk.
    heard: BTreeMap<Who, BTreeSet<(u64, NodeId)>>,
    installed: BTreeSet<Who>,
    /// Who began with what an earlier life had saved.
    restarted: BTreeSet<Who>,
}

impl Invariant for ActiveMajority {
    fn name(&self) -> &'static str {
        "active_majority"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md, founding: used once a majority is active (V8)"
    }

    fn paper(&self) -> &'static str {
        "Gifford 1979: quorums intersect"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(Input::Message { from, message: node::Message::Founding(message) }) => {
                if let Message::Active { run, .. } | Message::Announce { run, .. } = message {
                    self.heard.entry(who).or_default().insert((*run, *from));
                }
                Ok(())
            }
            Seen::Input(Input::Start(Some(_))) => {
                self.restarted.insert(who);
                Ok(())
            }
            Seen::Effect(Effect::Save(record)) => {
                self.active.insert(who, record.cluster);
                Ok(())
            }
            Seen::Effect(Effect::Send { message, .. }) => {
                match message {
                    // Who was started again keeps the messages of a cut for others (V6).
                    node::Message::Order(multicast::Message {
                        body: Body::Fetch { .. }, ..
                    }) if self.restarted.contains(&who) => Ok(()),
                    // What is in the order, or in a cut, may be taught and learned anywhere.
                    node::Message::Order(multicast::Message {
                        body: Body::Learn { .. } | Body::Lesson { .. } | Body::Fetched { .. },
                        ..
                    }) => Ok(()),
                    node::Message::Lock(_) | node::Message::Order(_) => self.on_use(who, message),
                    _ => Ok(()),
                }
            }
            Seen::Effect(Effect::Emit(event)) => match event {
                node::Event::View { view, .. } if view.number == 1 => {
                    self.on_first(who, view.majority())
                }
                node::Event::View { .. } => {
                    self.installed.insert(who);
                    Ok(())
                }
                node::Event::Out { .. } => {
                    self.installed.remove(&who);
                    Ok(())
                }
                node::Event::Lock(tokenring::Event::Granted { .. }) => self.on_use(who, event),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl ActiveMajority {
    fn on_first(&mut self, who: Who, majority: usize) -> Result<(), String> {
        let Some(active) = self.active.get(&who) else {
            return Err("uses a view in which it is not active".into());
        };
        let heard = self.heard.get(&who).into_iter().flatten();
        let others = heard.filter(|(run, node)| run == active && *node != who.node).count();
        if 1 + others < majority {
            return Err(format!("uses a view with {others} others known to be active"));
        }
        self.installed.insert(who);
        Ok(())
    }

    fn on_use(&self, who: Who, what: &dyn std::fmt::Debug) -> Result<(), String> {
        if self.installed.contains(&who) {
            Ok(())
        } else {
            Err(format!("uses no view, but has {what:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn hears_active(run: u64) -> (u64, Line) {
        let message = node::Message::Founding(Message::Active { run, answer: false });
        (1, Line::Input(Input::Message { from: id(2), message }))
    }

    #[test]
    fn two_of_three_are_enough() {
        let history = [(1, active()), hears_active(1), (1, installed()), (1, asks_for_lock(2))];
        holds(&mut ActiveMajority::default(), &history);
    }

    #[test]
    fn one_of_three_is_found() {
        let words = "0 others";
        breaks(&mut ActiveMajority::default(), &[(1, active()), (1, installed())], words);
        let other_walk = [(1, active()), hears_active(2), (1, installed())];
        breaks(&mut ActiveMajority::default(), &other_walk, words);
        breaks(&mut ActiveMajority::default(), &[hears_active(1), (1, installed())], "not active");
    }

    #[test]
    fn who_is_not_in_use_of_a_view_says_nothing_of_it() {
        let start = [(1, active()), hears_active(1)];
        for line in [asks_for_lock(2), granted("a", 1, 1), sends_clock(1, 0, &[0])] {
            let history = [start.to_vec(), vec![(1, line)]].concat();
            breaks(&mut ActiveMajority::default(), &history, "no view");
        }
    }

    #[test]
    fn who_is_out_says_nothing_of_it() {
        let start = [(1, active()), hears_active(1), (1, installed()), (1, out(false))];
        let history = [start.to_vec(), vec![(1, asks_for_lock(2))]].concat();
        breaks(&mut ActiveMajority::default(), &history, "no view");
    }
}
