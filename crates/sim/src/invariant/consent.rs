//! Consent: a group is founded by the yes of all its members.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    founding::{Message, Start, Step},
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf},
    view::Record,
};
use std::collections::{BTreeMap, BTreeSet};

/// Whoever becomes active in the view of a walk does so after every member, in the life that the
/// view names, has said yes to that walk: has sent it on with a step of its own. A yes changes only
/// to a walk of the same or a smaller index; one that was given up is never given again; and who
/// is active says yes to nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Consent {
    /// Who has said yes to which walk, ever.
    yes: BTreeMap<u64, BTreeSet<Who>>,
    lives: BTreeMap<Who, Held>,
    /// Which node is at which position of the list, as it says itself.
    positions: BTreeMap<u16, NodeId>,
}

/// What one life holds to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Held {
    start: Option<Start>,
    given_up: BTreeSet<u64>,
    links: BTreeSet<NodeId>,
    active: bool,
}

impl Invariant for Consent {
    fn name(&self) -> &'static str {
        "consent"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md, founding: all say yes, and each to one walk (V8, S3)"
    }

    fn paper(&self) -> &'static str {
        "Chang and Roberts 1979: an election on a ring; Gray 1978: all say yes"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(input) => {
                self.on_input(who, input);
                Ok(())
            }
            Seen::Effect(Effect::Send { message: node::Message::Founding(message), .. }) => {
                match message {
                    Message::Walk { start, path, .. } => self.on_yes(who, *start, path),
                    Message::Withdraw { run } => {
                        self.life(who).give_up(*run);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            Seen::Effect(Effect::Save(record)) => self.on_active(who, record),
            Seen::Effect(_) | Seen::End(_) => Ok(()),
        }
    }
}

impl Consent {
    fn life(&mut self, who: Who) -> &mut Held {
        self.lives.entry(who).or_default()
    }

    fn on_input(&mut self, who: Who, input: &InputOf<node::Node>) {
        match input {
            Input::LinkUp(peer) => {
                self.life(who).links.insert(*peer);
            }
            Input::LinkDown(peer) => {
                let starter = self.starter(who);
                let life = self.life(who);
                if life.links.remove(peer) && starter == Some(*peer) {
                    life.give_up_held();
                }
            }
            Input::Message {
                from,
                message: node::Message::Founding(Message::Withdraw { run }),
            } => {
                let withdraws = self.starter(who) == Some(*from);
                let life = self.life(who);
                if withdraws && life.start.is_some_and(|start| start.run == *run) {
                    life.give_up_held();
                }
            }
            Input::Command(node::Command::Leave) => self.life(who).give_up_held(),
            _ => {}
        }
    }

    /// The starter of the walk that `who` holds to.
    fn starter(&self, who: Who) -> Option<NodeId> {
        let start = self.lives.get(&who)?.start?;
        self.positions.get(&start.index).copied()
    }

    fn on_yes(&mut self, who: Who, start: Start, path: &[Step]) -> Result<(), String> {
        let Some(own) = path.last().filter(|step| step.life == who.life) else {
            return Err(format!("sends on a walk without a step of its own: {path:?}"));
        };
        self.positions.insert(own.position, who.node);
        let life = self.lives.entry(who).or_default();
        if life.active {
            return Err(format!("says yes to {start:?}, but is active in a view"));
        }
        if life.given_up.contains(&start.run) {
            return Err(format!("says yes again to {start:?}, which it has given up"));
        }
        if let Some(held) = life.start.filter(|held| *held != start) {
            if held.index < start.index {
                return Err(format!("says yes to {start:?}, but has said it to {held:?}"));
            }
            life.give_up_held();
        }
        life.start = Some(start);
        self.yes.entry(start.run).or_default().insert(who);
        Ok(())
    }

    fn on_active(&mut self, who: Who, record: &Record) -> Result<(), String> {
        let life = self.life(who);
        (life.start, life.active) = (None, true);
        let view = &record.installed.view;
        // Later views are agreed upon in another way.
        if view.number != 1 {
            return Ok(());
        }
        let members = view.members.iter().map(|m| Who { node: m.id, life: m.life });
        let none = BTreeSet::new();
        let yes = self.yes.get(&record.cluster).unwrap_or(&none);
        // Who is alone asks nobody.
        let alone = view.len() == 1;
        match members
            .into_iter()
            .find(|member| !yes.contains(member) && (!alone || member.node != who.node))
        {
            Some(Who { node, life }) => {
                Err(format!("is active, but {node} has never said yes in life {life:?}"))
            }
            None => Ok(()),
        }
    }
}

impl Held {
    fn give_up(&mut self, run: u64) {
        self.given_up.insert(run);
        self.start.take_if(|start| start.run == run);
    }

    fn give_up_held(&mut self) {
        let run = self.start.take().map(|start| start.run);
        self.given_up.extend(run);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    const FIRST: Start = Start { index: 0, run: 1 };
    const SECOND: Start = Start { index: 1, run: 2 };

    /// Sends a walk on, having said yes to it; node `n` is at position `n − 1` of three.
    fn yes(n: u64, start: Start) -> (u64, Line) {
        let position = n as u16 - 1;
        let step = Step { position, life: who(n).life, next: (position + 1) % 3 };
        (n, founding_to(n % 3 + 1, Message::Walk { start, digest: 0, path: vec![step] }))
    }

    fn hears(n: u64, from: u64, message: Message) -> (u64, Line) {
        let message = node::Message::Founding(message);
        (n, Line::Input(Input::Message { from: id(from), message }))
    }

    fn last_of(lines: &[(u64, Line)], words: &str) {
        breaks(&mut Consent::default(), lines, words);
    }

    #[test]
    fn all_say_yes_and_become_active() {
        let all = [yes(1, FIRST), yes(2, FIRST), yes(2, FIRST), yes(3, FIRST)];
        holds(
            &mut Consent::default(),
            &[all.to_vec(), vec![(1, active()), (3, active())]].concat(),
        );
    }

    #[test]
    fn a_view_without_somebodys_yes_is_found() {
        last_of(&[yes(1, FIRST), yes(2, FIRST), (1, active())], "never said yes");
        last_of(&[yes(1, FIRST), yes(2, FIRST), yes(3, SECOND), (1, active())], "never said yes");
    }

    #[test]
    fn a_yes_changes_only_to_a_smaller_index() {
        holds(&mut Consent::default(), &[yes(3, SECOND), yes(3, FIRST)]);
        last_of(&[yes(3, FIRST), yes(3, SECOND)], "but has said it");
        last_of(&[yes(3, SECOND), yes(3, FIRST), yes(3, SECOND)], "again");
    }

    #[test]
    fn a_yes_is_given_up_for_good() {
        let up = (3, Line::Input(Input::LinkUp(id(1))));
        let down = (3, Line::Input(Input::LinkDown(id(1))));
        let start = [yes(1, FIRST), up.clone(), yes(3, FIRST)];
        for end in [down, hears(3, 1, Message::Withdraw { run: 1 })] {
            let given_up = [start.to_vec(), vec![end]].concat();
            let other = [given_up.clone(), vec![yes(3, SECOND)]].concat();
            holds(&mut Consent::default(), &other);
            last_of(&[given_up, vec![up.clone(), yes(3, FIRST)]].concat(), "again");
        }
        // What a third node says of it changes nothing.
        let rumor = hears(3, 2, Message::Withdraw { run: 1 });
        holds(&mut Consent::default(), &[start.to_vec(), vec![rumor, yes(3, FIRST)]].concat());
    }

    #[test]
    fn who_withdraws_a_walk_does_not_go_on_with_it() {
        let withdraws = (1, founding_to(2, Message::Withdraw { run: 1 }));
        last_of(&[yes(1, FIRST), withdraws, yes(1, FIRST)], "again");
    }

    #[test]
    fn a_yes_of_who_is_active_is_found() {
        let all = [yes(1, FIRST), yes(2, FIRST), yes(3, FIRST), (3, active()), yes(3, FIRST)];
        last_of(&all, "is active");
    }

    #[test]
    fn a_walk_without_an_own_step_is_found() {
        let (_, line) = yes(2, FIRST);
        let other = Line::Effect(Effect::Send {
            to: roundelay_core::To::One(id(1)),
            message: node::Message::Founding(Message::Walk {
                start: FIRST,
                digest: 0,
                path: Vec::new(),
            }),
        });
        last_of(&[(2, line), (2, other)], "of its own");
    }
}
