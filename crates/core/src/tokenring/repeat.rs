//! What is said again, because it may have been lost, and for whom the lock waits.

use super::{
    Event, LockName, Refusal, Ticket, Timer, TokenRing, lock::Lock, machine::Ring, placement::home,
};
use crate::{id::NodeId, planted::Bug, protocol::Context};
use alloc::vec::Vec;
use core::time::Duration;

/// How long a member is unreachable before the lock says that it waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

impl TokenRing {
    pub(super) fn repeat_later(&mut self, cx: &mut Context<'_, Self>) {
        if !self.repeating {
            self.repeating = true;
            cx.set_timer(Timer::Repeat, self.config.repeat);
        }
    }

    pub(super) fn on_repeat(&mut self, cx: &mut Context<'_, Self>) {
        self.repeating = false;
        if self.ring.as_ref().is_none_or(Ring::is_wedged) {
            return;
        }
        for name in self.open.clone() {
            self.repeat_lock(&name, cx);
        }
        let after = self.config.repeat;
        if let Some(ring) = &mut self.ring {
            for position in ring.order.clone() {
                ring.repeat_passes(position, after, cx);
            }
        }
        self.hand_on(cx);
        self.notice_waiting(cx);
        let unacknowledged = self.ring.as_ref().is_some_and(|ring| ring.unacknowledged() > 0);
        if unacknowledged || !self.open.is_empty() || self.waiters > 0 {
            self.repeat_later(cx);
        }
    }

    /// The member at `to` has installed the view just now: what was said to it before was not heard.
    pub(super) fn say_again(&mut self, to: usize, cx: &mut Context<'_, Self>) {
        let Some(ring) = &mut self.ring else { return };
        ring.repeat_passes(to, Duration::ZERO, cx);
        for name in self.open.clone() {
            let (Some(ring), Some(lock)) = (&self.ring, self.locks.get(&name)) else { continue };
            let asked = lock.passed_to.unwrap_or_else(|| home(&ring.view, &name));
            if asked == to && lock.request.is_some_and(|request| !request.recorded) {
                self.send_request(&name, cx);
            }
        }
    }

    pub(super) fn repeat_lock(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let (now, after) = (cx.now(), self.config.repeat);
        let lock = self.locks.get_mut(name).expect("open locks are known");
        let late: Vec<Ticket> =
            lock.tries.iter().filter(|t| t.deadline <= now).map(|t| t.ticket).collect();
        lock.tries.retain(|attempt| attempt.deadline > now);
        for ticket in late {
            let reason = Refusal::NotAvailable;
            cx.emit(Event::Refused { lock: name.clone(), ticket, reason });
        }
        let unrecorded = lock.request.is_some_and(|request| !request.recorded);
        let overdue = lock.request.is_some_and(|r| !r.recorded && r.sent + after <= now);
        if overdue {
            self.send_request(name, cx);
        } else if !unrecorded && lock.tries.is_empty() {
            self.open.remove(name);
        }
    }

    pub(super) fn on_link_up(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        self.up.insert(peer);
        let Some(ring) = &mut self.ring else { return };
        let Some(position) = ring.view.position(peer).filter(|p| *p != ring.me) else { return };
        ring.links[position].up = true;
        if ring.is_wedged() {
            return;
        }
        ring.greet(position, cx);
        ring.repeat_passes(position, Duration::ZERO, cx);
        self.repeat_later(cx);
        self.serve_blocked(cx);
        for name in self.open.clone() {
            self.send_request(&name, cx);
        }
        self.notice_waiting(cx);
    }

    pub(super) fn on_link_down(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        self.up.remove(&peer);
        let Some(ring) = &mut self.ring else { return };
        let Some(position) = ring.view.position(peer).filter(|p| *p != ring.me) else { return };
        let me = ring.me;
        ring.links[position].up = false;
        ring.links[position].down_since = cx.now();
        if cx.has(Bug::TakesPassBack) {
            for (name, token) in ring.links[position].take_back() {
                let turn = self.turn(&name);
                self.lock_mut(&name).take_in(token, me, turn);
                self.serve(&name, cx);
            }
        }
        self.notice_waiting(cx);
    }

    /// Finds out whether the lock waits for an unreachable member, and says so once.
    pub(super) fn notice_waiting(&mut self, cx: &mut Context<'_, Self>) {
        let Some(ring) = self.ring.as_ref().filter(|ring| !ring.is_wedged()) else { return };
        let gone = |p: &&usize| !ring.links[**p].up;
        let long = |p: &&usize| ring.links[**p].down_since + PATIENCE <= cx.now();
        let sent_to = |p: &&usize| ring.links[**p].unacknowledged() > 0;
        let token_for =
            |p: &&usize| self.blocked.iter().any(|name| self.is_blocked_for(ring, name, **p));
        let waits = |lock: &Lock| lock.token.is_none() && !lock.waiters.is_empty();
        let mut absent = ring.order.iter().filter(gone);
        let certain = absent.clone().find(|p| sent_to(p) || token_for(p));
        let waiting_for = certain.or_else(|| {
            // The token may be with who is gone: nobody else could tell.
            absent.find(|p| long(p) && self.waiters > 0 && self.locks.values().any(waits))
        });
        let waiting_for = waiting_for.map(|p| ring.view.members[*p].id);
        if waiting_for != self.waiting_for {
            self.waiting_for = waiting_for;
            if let Some(member) = waiting_for {
                cx.emit(Event::WaitingFor(member));
            }
        }
    }

    pub(super) fn is_blocked_for(&self, ring: &Ring, name: &LockName, member: usize) -> bool {
        let token = self.locks.get(name).and_then(|lock| lock.token.as_ref());
        let next = ring.order.first();
        token.is_some_and(|token| {
            token.is_wanted_by(member) || (self.circulates(name) && next == Some(&member))
        })
    }
}
