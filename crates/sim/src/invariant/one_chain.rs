//! One chain: views follow one another, each decided once.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    change::{Body, Message},
    id::Life,
    node,
    protocol::{Effect, Input},
    view::{Ballot, Member, Record, Saved, Value, View},
};
use std::collections::{BTreeMap, BTreeSet};

/// There is one view for each number: all who install it have the same members, lives, incarnations,
/// ring and base. A life installs views in the order of their numbers, and skips none unless it joins
/// again. Who is in a view is in the one before with the same incarnation, or is admitted by it; the
/// former come first, in their order, and alone decide what follows (V4); after a loss all begin anew,
/// and nobody is missing (V5). In a ballot there is one
/// value, and a life promises no smaller ballot than it has promised (V1, V3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OneChain {
    /// The views that were installed, and their bases.
    views: BTreeMap<u64, (View, u64, bool)>,
    /// The values that were saved as installed.
    values: BTreeMap<u64, Value>,
    /// The last view of each life.
    lives: BTreeMap<Who, u64>,
    /// What was proposed about the end of each view.
    proposed: BTreeMap<(u64, Ballot), Value>,
    /// The installed view and the largest promise of each life, as it has saved them.
    promised: BTreeMap<Who, (u64, Option<Ballot>)>,
    /// The lives that began with a log.
    logged: BTreeSet<Life>,
}

impl Invariant for OneChain {
    fn name(&self) -> &'static str {
        "one_chain"
    }

    fn source(&self) -> &'static str {
        "crates/core/src/change.rs: one chain of views (V1, V3, V4, V7)"
    }

    fn paper(&self) -> &'static str {
        "Lamport 2001 (Paxos); Birman and Joseph 1987: one sequence of views"
    }

    fn allows_gaps(&self) -> bool {
        true
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Effect(Effect::Emit(node::Event::View { view, joins, loss, position })) => {
                self.on_view(who, view, *joins, (*position, *loss))
            }
            // The next life on this disk is bound by what the one before has promised.
            Seen::Input(Input::Start(Some(saved))) => {
                let Saved { record, log } = &**saved;
                if !log.is_empty() {
                    self.logged.insert(who.life);
                }
                self.promised.insert(who, (record.installed.view.number, record.promised));
                Ok(())
            }
            Seen::Effect(Effect::Save(record)) => self.on_save(who, record),
            // That it was a member it may read in its record alone, if the power went just then.
            Seen::Effect(Effect::Append(_)) => {
                self.logged.insert(who.life);
                Ok(())
            }
            Seen::Effect(Effect::Send { message: node::Message::Change(message), .. }) => {
                self.on_send(message)
            }
            _ => Ok(()),
        }
    }
}

impl OneChain {
    fn on_view(
        &mut self,
        who: Who,
        view: &View,
        joins: bool,
        (position, loss): (u64, bool),
    ) -> Result<(), String> {
        let number = view.number;
        let this = (view.clone(), position, loss);
        let first = self.views.entry(number).or_insert_with(|| this.clone());
        if *first != this {
            return Err(format!("installs {this:?}, others have {first:?}"));
        }
        if let Some(value) = self.values.get(&number) {
            agree(value, &this)?;
        }
        self.expect_next(who, view, joins)?;
        expect_ring(view)?;
        match self.views.get(&(number - 1)) {
            Some((before, base, _)) if position < *base => {
                Err(format!("view {number} begins at {position}, {before:?} at {base}"))
            }
            Some((before, ..)) if loss => expect_new_beginning(before, view),
            Some((before, ..)) => self.expect_succession(before, view),
            None => Ok(()),
        }
    }

    /// Whether this view can follow that one. Who was started again with its log remembers, and is as
    /// good as who was there all the time (T9).
    fn expect_succession(&self, before: &View, view: &View) -> Result<(), String> {
        let is_new = |member: &Member| member.incarnation == view.number;
        let mut old = 0;
        let mut last = None;
        for member in view.members.iter() {
            let place = before.position(member.id);
            let stays = place.is_some_and(|at| before.members[at] == *member);
            let returns = is_new(member) && self.logged.contains(&member.life) && place > last;
            if !stays && !returns {
                break;
            }
            if place <= last {
                return Err(format!("another order: {view:?} after {before:?}"));
            }
            (old, last) = (old + 1, place);
        }
        if !view.members[old..].iter().all(is_new) {
            return Err(format!("a member from nowhere: {view:?} after {before:?}"));
        }
        let survivors = (0..old).fold(0, |all, at| all | 1 << at);
        if view.is_quorum(survivors) {
            Ok(())
        } else {
            Err(format!("who was there before decides nothing: {view:?} after {before:?}"))
        }
    }

    /// Whether a life may install this view now.
    fn expect_next(&mut self, who: Who, view: &View, joins: bool) -> Result<(), String> {
        let number = view.number;
        let Some(me) = view.position_of(who.node, who.life) else {
            return Err(format!("installs a view that this life is not in: {view:?}"));
        };
        let incarnation = view.members[me].incarnation;
        let last = self.lives.insert(who, number);
        let follows = match last {
            _ if joins => last.is_none_or(|last| last < number) && incarnation == number,
            None => number == 1 && incarnation == 1,
            Some(last) => number == last + 1 && incarnation <= last,
        };
        if follows {
            Ok(())
        } else {
            Err(format!("installs view {number} after {last:?}, joins: {joins}, {incarnation}"))
        }
    }

    fn on_save(&mut self, who: Who, record: &Record) -> Result<(), String> {
        let Record { installed, promised, accepted, .. } = record;
        let number = installed.view.number;
        let first = self.values.entry(number).or_insert_with(|| installed.clone());
        if first != installed {
            return Err(format!("has installed {installed:?}, others {first:?}"));
        }
        if let Some(this) = self.views.get(&number) {
            agree(installed, this)?;
        }
        let before = self.promised.insert(who, (number, *promised));
        if before.is_some_and(|before| before > (number, *promised)) {
            return Err(format!("goes back from {before:?} to {number}, {promised:?}"));
        }
        match accepted {
            Some((ballot, _)) if promised.is_none_or(|promised| promised < *ballot) => {
                Err(format!("has accepted in {ballot:?}, and promised {promised:?}"))
            }
            Some((ballot, value)) => self.on_proposed(number, *ballot, value),
            None => Ok(()),
        }
    }

    fn on_send(&mut self, message: &Message) -> Result<(), String> {
        match &message.body {
            Body::Accept { ballot, value } => self.on_proposed(message.view, *ballot, value),
            Body::Promise { accepted: Some(accepted), .. } => {
                let (ballot, value) = &**accepted;
                self.on_proposed(message.view, *ballot, value)
            }
            Body::Decided { value } => {
                let number = value.view.number;
                match self.views.get(&number) {
                    Some(this) => agree(value, this),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn on_proposed(&mut self, view: u64, ballot: Ballot, value: &Value) -> Result<(), String> {
        let first = self.proposed.entry((view, ballot)).or_insert_with(|| value.clone());
        if first == value {
            Ok(())
        } else {
            Err(format!("{ballot:?} about view {view} has {value:?} and {first:?}"))
        }
    }
}

/// Whether a value is what was installed.
fn agree(value: &Value, this: &(View, u64, bool)) -> Result<(), String> {
    let (view, position, loss) = this;
    if (&value.view, value.order.position, value.loss) == (view, *position, *loss) {
        Ok(())
    } else {
        Err(format!("{value:?} is decided, but {this:?} is installed"))
    }
}

fn expect_ring(view: &View) -> Result<(), String> {
    let mut ring = view.ring.to_vec();
    ring.sort_unstable();
    let closed = ring.into_iter().map(usize::from).eq(0..view.len());
    let ids: BTreeSet<_> = view.members.iter().map(|member| member.id).collect();
    let named = view.members.iter().all(|member| member.name.id() == member.id);
    if closed && ids.len() == view.len() && named {
        Ok(())
    } else {
        Err(format!("installs a view that is none: {view:?}"))
    }
}

/// Whether all members of that view are in this one, each as a new member (V5).
fn expect_new_beginning(before: &View, view: &View) -> Result<(), String> {
    let ids = |view: &View| view.members.iter().map(|member| member.id).collect::<Vec<_>>();
    let all_new = view.members.iter().all(|member| member.incarnation == view.number);
    if all_new && ids(before) == ids(view) {
        Ok(())
    } else {
        Err(format!("not all begin anew after a loss: {view:?} after {before:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn chain() -> OneChain {
        OneChain::default()
    }

    fn and(more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        (1..=3).map(|n| (n, installed())).chain(more.iter().cloned()).collect()
    }

    #[test]
    fn one_after_the_other_is_fine() {
        let more = [
            (1, installs_next(&[1, 2], &[], 4)),
            (2, installs_next(&[1, 2], &[], 4)),
            (3, out(false)),
        ];
        holds(&mut chain(), &and(&more));
        let joined =
            [(1, installs_next(&[1, 2, 3], &[4], 4)), (4, joins_next(&[1, 2, 3], &[4], 4))];
        holds(&mut chain(), &and(&joined));
    }

    #[test]
    fn two_views_of_one_number_are_found() {
        let members = [(1, installs_next(&[1, 2], &[], 4)), (2, installs_next(&[2, 3], &[], 4))];
        breaks(&mut chain(), &and(&members), "others have");
        let base = [(1, installs_next(&[1, 2], &[], 4)), (2, installs_next(&[1, 2], &[], 5))];
        breaks(&mut chain(), &and(&base), "others have");
    }

    #[test]
    fn a_view_twice_and_a_stranger_are_found() {
        breaks(&mut chain(), &and(&[(1, installed())]), "after Some(1)");
        breaks(&mut chain(), &and(&[(3, installs_next(&[1, 2], &[], 0))]), "is not in");
        // Who was not there has to join.
        let stranger = [(4, installs_next(&[1, 2, 3], &[4], 0))];
        breaks(&mut chain(), &and(&stranger), "after None");
    }

    #[test]
    fn members_from_nowhere_and_in_another_order_are_found() {
        breaks(&mut chain(), &and(&[(1, installs_next(&[1, 4], &[], 0))]), "from nowhere");
        breaks(&mut chain(), &and(&[(1, installs_next(&[2, 1], &[], 0))]), "another order");
    }

    #[test]
    fn who_joins_is_no_majority() {
        let more = [(1, installs_next(&[1], &[4, 5], 0))];
        breaks(&mut chain(), &and(&more), "decides nothing");
    }

    #[test]
    fn two_values_of_one_ballot_are_found() {
        let ballot = Ballot { round: 1, by: 0 };
        let first = (1, accept(ballot, &[1, 2]));
        holds(&mut chain(), &and(&[first.clone(), first.clone()]));
        breaks(&mut chain(), &and(&[first, (1, accept(ballot, &[1, 3]))]), "about view 1");
    }

    #[test]
    fn a_promise_that_is_taken_back_is_found() {
        let promise = |round| (1, saves(Some(Ballot { round, by: 0 })));
        holds(&mut chain(), &and(&[promise(1), promise(2)]));
        breaks(&mut chain(), &and(&[promise(2), promise(1)]), "goes back");
    }
}
