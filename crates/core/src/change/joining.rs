//! Coming in and going out: what a joiner asks, what members do with it, and how one leaves.

use super::{
    Body, Event, JoinRefusal, Timer,
    machine::{Cx, Leaving, Standing, ViewChange},
};
use crate::{
    id::{Life, Name, NodeId},
    time::Time,
    view::{MEMBERS_MAX, Value},
};
use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

/// So many refusals in a row are told: the first may come from a member that has not noticed yet
/// that an earlier life of this node has ended.
const REFUSALS: u32 = 10;

/// A leaver waits so many times the patience for those who go on: a leave that none of them knows of
/// is a crash.
const FAREWELL: u32 = 4;

/// A node that is not a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outside {
    /// The view that went on without it; 0 if it never was a member. An older one is not joined:
    /// what is decided there lists an incarnation that is over (V7).
    pub(super) since: u64,
    /// What was decided then: whoever is still in the view before is told (V1).
    pub(super) decided: Option<Box<Value>>,
    /// A member of that view has been heard in it: it goes on, whatever becomes of this node.
    pub(super) succeeded: bool,
    /// Who has been told of it since the last heartbeat.
    pub(super) told: BTreeSet<NodeId>,
    /// Its order is as far as that of the members.
    ready: bool,
    refusals: u32,
}

impl Outside {
    pub(super) fn new(decided: Option<Value>) -> Self {
        let since = decided.as_ref().map_or(0, |value| value.view.number);
        let decided = decided.map(Box::new);
        Self { since, decided, succeeded: false, told: BTreeSet::new(), ready: false, refusals: 0 }
    }
}

/// Who asks to be taken in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    pub(super) name: Name,
    pub(super) life: Life,
    pub(super) next: Option<Name>,
    pub(super) hears: Vec<NodeId>,
    /// When it asked last.
    pub(super) heard: Time,
}

impl ViewChange {
    // ---- The joiner ----

    pub(super) fn on_command_join(&mut self, cluster: u64) {
        if self.seat().is_none() && self.cluster != cluster {
            self.cluster = cluster;
            self.standing = Standing::Outside(Outside::new(None));
        }
    }

    pub(super) fn on_ready(&mut self, cx: &mut Cx<'_>) {
        if let Standing::Outside(outside) = &mut self.standing {
            outside.ready = true;
            self.save_life(cx);
            self.ask_to_join(None, cx);
            self.repeat_later(cx);
        }
    }

    /// Asks one member, or all that are heard.
    pub(super) fn ask_to_join(&self, whom: Option<NodeId>, cx: &mut Cx<'_>) {
        let Standing::Outside(Outside { ready: true, .. }) = self.standing else { return };
        if self.leaves() {
            return;
        }
        let hears: Vec<NodeId> = self.hearing.trusted().collect();
        let body = Body::Join {
            name: self.config.name.clone(),
            life: self.config.life,
            next: self.config.next.clone(),
            hears: hears.clone(),
        };
        let whom = whom.map_or(hears, |peer| [peer].to_vec());
        cx.send_many(&whom.into(), self.message(body));
    }

    pub(super) fn on_join_refused(&mut self, reason: JoinRefusal, cx: &mut Cx<'_>) {
        if let Standing::Outside(outside) = &mut self.standing {
            outside.refusals += 1;
            if outside.refusals == REFUSALS {
                cx.emit(Event::JoinRefused(reason));
            }
        }
    }

    // ---- Members ----

    pub(super) fn on_join(&mut self, candidate: Candidate, cx: &mut Cx<'_>) {
        let id = candidate.name.id();
        let heard = self.hears();
        let Some(seat) = self.seat_mut() else { return };
        if seat.view().position_of(id, candidate.life).is_some() {
            // It has missed that it was taken in.
            let value = seat.installed.clone().into();
            return cx.send(id, self.decided(value));
        }
        let place = seat.view().position(id);
        let others = seat.joiners.keys().filter(|joiner| **joiner != id).count();
        let refusal = if place.is_some_and(|p| heard >> p & 1 == 1) {
            Some(JoinRefusal::NameTaken) // V7
        } else if place.is_none() && seat.view().len() + others >= MEMBERS_MAX {
            Some(JoinRefusal::Full)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return cx.send(id, self.message(Body::JoinRefused { reason }));
        }
        let life = candidate.life;
        let before = seat.joiners.insert(id, candidate);
        if before.is_none_or(|before| before.life != life) {
            self.beat(cx);
        }
        self.consider(cx);
    }

    /// The joiners that may be taken in: all who go on hear them, and are heard by them (V4).
    pub(super) fn admissible(&self, keep: u64) -> Vec<Candidate> {
        let Some(seat) = self.seat() else { return Vec::new() };
        let kept: Vec<usize> = (0..seat.view().len()).filter(|p| keep >> p & 1 == 1).collect();
        let admissible = |(id, candidate): &(&NodeId, &Candidate)| {
            kept.iter().all(|p| {
                let member = seat.id(*p);
                let heard = *p == seat.me || seat.hears_joiners[*p].contains(&candidate.life);
                member != **id && candidate.hears.contains(&member) && heard
            })
        };
        seat.joiners.iter().filter(admissible).map(|(_, candidate)| candidate.clone()).collect()
    }

    // ---- Leaving ----

    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked;
        }
        match &self.standing {
            Standing::Member(_) => self.go_on_leaving(cx),
            // Those who go on may lack what only this node has, until one of them has it all.
            Standing::Outside(outside) if outside.decided.is_some() && !outside.succeeded => {
                cx.set_timer(Timer::Patience, self.config.patience * FAREWELL);
                self.repeat_later(cx);
            }
            Standing::Nothing | Standing::Outside(_) => self.part(cx),
        }
    }

    /// A member of a later view has spoken in it.
    pub(super) fn on_successor(&mut self, view: u64, cx: &mut Cx<'_>) {
        match &mut self.standing {
            Standing::Outside(outside) if view >= outside.since => {
                outside.succeeded = true;
                if self.leaves() {
                    self.part(cx);
                }
            }
            Standing::Member(seat) => seat.heard_of = seat.heard_of.max(view),
            Standing::Nothing | Standing::Outside(_) => {}
        }
    }

    /// This node is not needed any more.
    pub(super) fn part(&mut self, cx: &mut Cx<'_>) {
        if core::mem::replace(&mut self.leaving, Leaving::Done) != Leaving::Done {
            cx.emit(Event::Out { left: true });
        }
    }

    /// Asks to be left out of the next view. The last member does not leave: it stops.
    pub(super) fn go_on_leaving(&mut self, cx: &mut Cx<'_>) {
        let leaving = self.leaves();
        let message = self.message(Body::Leave);
        let Some(seat) = self.seat_mut().filter(|_| leaving) else { return };
        if seat.view().len() == 1 {
            if self.awaited {
                return cx.set_timer(Timer::Patience, self.config.patience);
            }
            return self.part(cx);
        }
        seat.leavers |= 1 << seat.me;
        cx.send_many(&seat.peers, message);
        self.repeat_later(cx);
        self.consider(cx);
    }

    pub(super) fn on_peer_leaves(&mut self, from: usize, cx: &mut Cx<'_>) {
        if let Some(seat) = self.seat_mut() {
            seat.leavers |= 1 << from;
            self.consider(cx);
        }
    }

    // ---- Repeating ----

    /// A leaver says what was decided until one of those who go on is heard in it.
    fn repeat_decision(&self, cx: &mut Cx<'_>) -> bool {
        let Standing::Outside(outside) = &self.standing else { return false };
        let Some(value) = &outside.decided else { return false };
        if self.leaving != Leaving::Asked || outside.succeeded {
            return false;
        }
        cx.send_many(&value.view.peers(self.me), self.decided(value.clone()));
        true
    }

    pub(super) fn repeat_later(&mut self, cx: &mut Cx<'_>) {
        if !self.repeating {
            self.repeating = true;
            cx.set_timer(Timer::Repeat, self.config.repeat);
        }
    }

    pub(super) fn on_repeat(&mut self, cx: &mut Cx<'_>) {
        self.repeating = false;
        let attempting = self.repeat_attempt(cx);
        let joining = matches!(&self.standing, Standing::Outside(outside) if outside.ready);
        self.ask_to_join(None, cx);
        let telling = self.repeat_decision(cx);
        let wants = self.leaves();
        let leaving = wants && self.seat().is_some_and(|seat| seat.view().len() > 1);
        if let Some(seat) = self.seat().filter(|_| leaving) {
            cx.send_many(&seat.peers, self.message(Body::Leave));
        }
        if attempting || telling || leaving || (joining && !wants) {
            self.repeat_later(cx);
        }
    }
}
