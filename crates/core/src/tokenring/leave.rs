//! Leaving the ring in order: hand everything over, then say so.
//!
//! First everybody is told to pass nothing more to the leaver, and answers with the number of its
//! last pass: once all passes up to those have arrived and have been passed on, no token is here or
//! on its way here. Only then does the leaver say that it has left, and the ring closes around it.
//! A member that cannot be reached is not waited for: it hears of it from the others. If it has
//! passed a token on in the meantime, that token is stuck, not doubled.

use super::{Body, Event, LockName, Message, Received, Refusal, Token, TokenRing, links::Stays};
use crate::{id::NodeId, planted::Bug, protocol::Context, time::Time, tokenring::machine::Ring};
use alloc::vec::Vec;
use core::time::Duration;

/// How long a leaver waits for a member that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a leaver that reaches nobody waits for one that hears of it: a leave that nobody knows
/// of is a crash, and what is on its way to the leaver is lost.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// How far this member is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaving {
    No,
    /// Everybody is told to pass nothing more here.
    Announcing {
        since: Time,
    },
    /// Everything is handed over, nothing more is accepted, and everybody is told.
    Telling {
        since: Time,
    },
    Done,
}

impl TokenRing {
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.leaving, Leaving::Announcing { .. } | Leaving::Telling { .. })
    }

    /// Whether no pass is accepted any more.
    pub(super) fn has_frozen(&self) -> bool {
        matches!(self.leaving, Leaving::Telling { .. } | Leaving::Done)
    }

    pub(super) fn on_leave(&mut self, cx: &mut Context<'_, Self>) {
        if self.leaving != Leaving::No {
            return;
        }
        self.leaving = Leaving::Announcing { since: cx.now() };
        self.dismiss_clients(cx);
        let Some(ring) = &self.ring else {
            self.leaving = Leaving::Done;
            return cx.emit(Event::LeaveDone);
        };
        for position in ring.order.iter().filter(|p| !ring.links[**p].has_left()) {
            ring.send(*position, Body::Leaving, cx);
        }
        self.hand_all_over(cx);
        self.repeat_later(cx);
        self.go_on_leaving(cx);
    }

    fn dismiss_clients(&mut self, cx: &mut Context<'_, Self>) {
        let mut dismissed = 0;
        for (name, lock) in &mut self.locks {
            if let Some(grant) = lock.granted.take() {
                let (lock, ticket, fence) = (name.clone(), grant.ticket, grant.fence);
                cx.emit(Event::Released { lock, ticket, fence });
            }
            dismissed += lock.waiters.len();
            let tries = lock.tries.drain(..).map(|attempt| attempt.ticket);
            let tickets: Vec<u64> = lock.waiters.drain(..).chain(tries).collect();
            for ticket in tickets {
                let reason = Refusal::Leaving;
                cx.emit(Event::Refused { lock: name.clone(), ticket, reason });
            }
        }
        self.forget_waiters(dismissed);
    }

    fn hand_all_over(&mut self, cx: &mut Context<'_, Self>) {
        let here = |(name, lock): (&LockName, &super::lock::Lock)| {
            lock.token.is_some().then(|| name.clone())
        };
        let names: Vec<LockName> = self.locks.iter().filter_map(here).collect();
        for name in names {
            self.serve(&name, cx);
        }
    }

    /// Passes a token on because this member leaves: to who wants it, else to whoever is next.
    pub(super) fn hand_over(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_ref().expect("a token is in a view");
        let token = self.locks.get(name).and_then(|lock| lock.token.as_ref());
        let token = token.expect("the caller has seen it");
        let successor = || ring.order.iter().copied().find(|p| ring.links[*p].takes_tokens());
        match ring.next_wanting(token, cx).or_else(successor) {
            Some(next) => self.pass(name, next, cx),
            None => {
                self.blocked.insert(name.clone());
            }
        }
    }

    /// Takes the next step of leaving, if nothing is missing for it.
    pub(super) fn go_on_leaving(&mut self, cx: &mut Context<'_, Self>) {
        let Some(ring) = &self.ring else { return };
        let now = cx.now();
        if let Leaving::Announcing { since } = self.leaving {
            let told = ring.awaited(since, now).all(|p| {
                let link = &ring.links[p];
                link.leaving_ack.is_some_and(|last| link.has_received(last))
            });
            let settled = told
                && (ring.order.iter().all(|p| ring.links[*p].unacknowledged() == 0)
                    || cx.has(Bug::LeavesUnacknowledged));
            let keeps = self.locks.values().any(|lock| lock.token.is_some()) && ring.goes_on();
            if !settled || keeps {
                return;
            }
            self.leaving = Leaving::Telling { since: now };
            let last_words = ring.links.iter().map(super::links::Link::received).collect();
            let ring = self.ring.as_mut().expect("seen above");
            ring.links[ring.me].last_words = last_words;
            ring.tell_of(ring.me, cx);
        }
        let Some(ring) = &self.ring else { return };
        if let Leaving::Telling { since } = self.leaving
            && ring.awaited(since, now).all(|p| ring.knows_all(p))
            && (ring.has_witness() || since + LAST_PATIENCE <= now)
        {
            self.leaving = Leaving::Done;
            cx.emit(Event::LeaveDone);
        }
    }

    pub(super) fn repeat_leave(&mut self, cx: &mut Context<'_, Self>) {
        let Some(ring) = &self.ring else { return };
        match self.leaving {
            Leaving::Announcing { .. } => {
                for position in ring.order.iter().filter(|p| ring.links[**p].leaving_ack.is_none())
                {
                    ring.send(*position, Body::Leaving, cx);
                }
                self.hand_all_over(cx);
            }
            Leaving::Telling { .. } => ring.tell_of(ring.me, cx),
            Leaving::No | Leaving::Done => {}
        }
        self.go_on_leaving(cx);
    }

    pub(super) fn on_peer_leaving(&mut self, from: usize, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_mut().expect("messages are of a view");
        let link = &mut ring.links[from];
        if !cx.has(Bug::PassedToLeaver) {
            link.stays = link.stays.max(Stays::Leaving);
        }
        let last_pass = ring.links[from].last_pass();
        ring.send(from, Body::LeavingAck { last_pass }, cx);
        self.hurry(from, cx);
        self.serve_blocked(cx);
        self.go_on_leaving(cx);
    }

    pub(super) fn on_leaving_ack(
        &mut self,
        from: usize,
        last_pass: u64,
        cx: &mut Context<'_, Self>,
    ) {
        let ring = self.ring.as_mut().expect("messages are of a view");
        ring.links[from].leaving_ack = Some(last_pass);
        self.go_on_leaving(cx);
    }

    pub(super) fn on_left(
        &mut self,
        from: usize,
        member: u16,
        received: Vec<Received>,
        cx: &mut Context<'_, Self>,
    ) {
        let ring = self.ring.as_mut().expect("messages are of a view");
        let position = usize::from(member);
        if received.len() != ring.view.len() || position >= received.len() || position == ring.me {
            return self.ignore();
        }
        ring.send(from, Body::LeftAck { member }, cx);
        let link = &mut ring.links[position];
        link.known_by.insert(from);
        if link.has_left() {
            return;
        }
        link.stays = Stays::Left;
        let arrived = &received[ring.me];
        let taken_back = if cx.has(Bug::TakesAllBack) {
            link.take_back(&Received::default())
        } else {
            link.take_back(arrived)
        };
        link.last_words = received;
        cx.emit(Event::MemberLeft(ring.view.members[position].id));
        for (name, token) in taken_back {
            self.take_back(&name, token, cx);
        }
        // The leaver may be gone before everybody has heard: whoever knows passes it on.
        self.repeat_later(cx);
        self.serve_blocked(cx);
        self.go_on_leaving(cx);
    }

    /// A token that was sent to a member that left without it is here again.
    pub(super) fn take_back(
        &mut self,
        name: &LockName,
        mut token: Token,
        cx: &mut Context<'_, Self>,
    ) {
        if self.circulates(name) {
            // The hop did not happen.
            token.hops -= 1;
        }
        let me = self.ring.as_ref().expect("messages are of a view").me;
        let turn = self.turn(name);
        self.lock_mut(name).take_in(token, me, turn);
        self.serve(name, cx);
    }

    pub(super) fn on_left_ack(&mut self, from: usize, member: u16, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_mut().expect("messages are of a view");
        if let Some(link) = ring.links.get_mut(usize::from(member)) {
            link.known_by.insert(from);
            self.go_on_leaving(cx);
        }
    }

    /// A message that is not for this member in this view; who has left still answers who leaves.
    pub(super) fn on_stray(&mut self, from: NodeId, message: &Message, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_ref().filter(|ring| ring.view.number == message.view);
        let position = ring.and_then(|ring| ring.view.position(from));
        match (ring, position, &message.body) {
            (Some(ring), Some(from), Body::Leaving) => {
                let last_pass = ring.links[from].last_pass();
                ring.send(from, Body::LeavingAck { last_pass }, cx);
            }
            (Some(ring), Some(from), Body::Left { member, .. }) => {
                ring.send(from, Body::LeftAck { member: *member }, cx);
            }
            _ => self.ignore(),
        }
    }

    pub(super) fn serve_blocked(&mut self, cx: &mut Context<'_, Self>) {
        for name in core::mem::take(&mut self.blocked) {
            self.serve(&name, cx);
        }
    }
}

impl Ring {
    /// Whether anybody stays when this member and all who are leaving have left.
    fn goes_on(&self) -> bool {
        self.order.iter().any(|p| self.links[*p].stays == Stays::Here)
    }

    /// Whether somebody who has not left knows all that have, this member too, or nobody stays.
    fn has_witness(&self) -> bool {
        let mut present = self.order.iter().filter(|p| !self.links[**p].has_left());
        !self.goes_on() || present.any(|p| self.knows_all(*p))
    }

    /// Whether `position` knows of this leave, and of all others that are known here: who left
    /// before may have gone because this member knew.
    fn knows_all(&self, position: usize) -> bool {
        let mut gone = self.left().chain([self.me]);
        gone.all(|left| self.links[left].known_by.contains(&position))
    }

    /// The members whose answers a leaver waits for.
    fn awaited(&self, since: Time, now: Time) -> impl Iterator<Item = usize> {
        let patient = since + PATIENCE > now;
        let links = &self.links;
        let here = move |p: &usize| !links[*p].has_left() && (links[*p].up || patient);
        self.order.iter().copied().filter(here)
    }

    /// Tells everybody who can be reached and is not known to know that `left` has left.
    fn tell_of(&self, left: usize, cx: &mut Context<'_, TokenRing>) {
        for position in self.ignorant(left) {
            self.send(position, self.last_words(left), cx);
        }
    }

    fn last_words(&self, left: usize) -> Body {
        Body::Left { member: left as u16, received: self.links[left].last_words.clone() }
    }

    fn ignorant(&self, left: usize) -> impl Iterator<Item = usize> {
        let known_by = &self.links[left].known_by;
        let here = |p: &usize| self.links[*p].up && !self.links[*p].has_left();
        self.order.iter().copied().filter(here).filter(|p| !known_by.contains(p))
    }

    /// The members that have left.
    fn left(&self) -> impl Iterator<Item = usize> {
        self.order.iter().copied().filter(|p| self.links[*p].has_left())
    }

    /// Passes on who has left; false if everybody who can be reached knows.
    pub(super) fn repeat_who_left(&self, cx: &mut Context<'_, TokenRing>) -> bool {
        self.left().for_each(|left| self.tell_of(left, cx));
        self.left().any(|left| self.ignorant(left).next().is_some())
    }

    /// Whoever has missed it hears of it now.
    pub(super) fn tell_who_left(&self, to: usize, cx: &mut Context<'_, TokenRing>) {
        for left in self.left().filter(|left| *left != to) {
            self.send(to, self.last_words(left), cx);
        }
    }
}
