//! Idle locks are forgotten: what a member remembers, and reports when its view ends, grows with the
//! locks in use, not with all that were ever named.
//!
//! A token that nobody has used for a while is passed home, and forgotten there together with the
//! home's record, which is all that says that the lock exists. Only one number stays, for all locks
//! together: the *floor*, the largest sequence of a token that was forgotten. Who creates a token
//! begins after it, so fences grow (H10). It is used for nothing else (H9). What others remember, and
//! has no token, is a cache: where it was passed last, and who wanted it then.

use super::{LockName, Timer, TokenRing, lock::Lock, machine::Ring, placement::home};
use crate::{planted::Bug, protocol::Context};
use alloc::collections::VecDeque;
use core::time::Duration;

/// How many locks are looked at in one step: clients wait for no longer than that takes.
const AT_ONCE: usize = 256;

/// How many locks are looked at to make room for another.
const SEARCHED: usize = 8;

/// The locks that may be forgotten some day. Each is looked at once in a while: if it was used since
/// the last time, or is in use, it stays. So using a lock costs one flag, and no timer of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Idle {
    queue: VecDeque<LockName>,
    /// How many of them are still to be looked at in this round.
    due: usize,
    /// Whether the timer runs.
    watching: bool,
}

/// What becomes of a lock that was not used for a while.
enum Fate {
    Stays,
    /// Its token is elsewhere, and this is its home: it is looked at again when that is back.
    Recorded,
    GoesHome(usize),
    Forgotten,
}

impl Idle {
    /// This lock is used now, and looked at some day.
    pub(super) fn touch(&mut self, name: &LockName, lock: &mut Lock) {
        lock.used = true;
        if !core::mem::replace(&mut lock.queued, true) {
            self.queue.push_back(name.clone());
        }
    }

    fn next(&mut self) -> Option<LockName> {
        self.due = self.due.saturating_sub(1);
        self.queue.pop_front()
    }
}

impl TokenRing {
    /// All locks that are known when a view begins, or ends without another, are looked at anew.
    pub(super) fn touch_all(&mut self) {
        self.idle.queue.clear();
        self.idle.due = 0;
        if self.config.idle.is_some() {
            for (name, lock) in &mut self.locks {
                lock.queued = false;
                self.idle.touch(name, lock);
            }
        }
    }

    /// Sets the timer if there is something to look at.
    pub(super) fn watch_idle(&mut self, cx: &mut Context<'_, Self>) {
        let Some(idle) = self.config.idle.filter(|_| !self.idle.watching) else { return };
        if !self.idle.queue.is_empty() && !self.ring.as_ref().is_some_and(Ring::is_wedged) {
            self.idle.watching = true;
            let after = if self.idle.due > 0 { Duration::ZERO } else { idle };
            cx.set_timer(Timer::Idle, after);
        }
    }

    pub(super) fn on_idle(&mut self, cx: &mut Context<'_, Self>) {
        self.idle.watching = false;
        if self.ring.as_ref().is_some_and(Ring::is_wedged) {
            // What is reported stays true (V2).
            return;
        }
        if self.idle.due == 0 {
            self.idle.due = self.idle.queue.len();
        }
        for _ in 0..self.idle.due.min(AT_ONCE) {
            let Some(name) = self.idle.next() else { return };
            self.look_at(name, cx);
        }
    }

    fn look_at(&mut self, name: LockName, cx: &mut Context<'_, Self>) {
        let Some(lock) = self.locks.get_mut(&name) else { return };
        let was_used = core::mem::take(&mut lock.used);
        let fate = if was_used { Fate::Stays } else { self.fate(&name, cx) };
        match fate {
            Fate::Stays => self.idle.queue.push_back(name),
            Fate::Recorded => self.locks.get_mut(&name).expect("seen above").queued = false,
            Fate::GoesHome(home) => {
                self.pass(&name, home, cx);
                self.idle.queue.push_back(name);
            }
            Fate::Forgotten => self.forget(&name, cx),
        }
    }

    fn fate(&self, name: &LockName, cx: &Context<'_, Self>) -> Fate {
        let Some(lock) = self.locks.get(name) else { return Fate::Stays };
        let held = lock.granted.is_some() && !cx.has(Bug::RetiresHeld);
        if held || lock.is_wanted_here() || lock.request.is_some() || self.circulates(name) {
            return Fate::Stays;
        }
        let Some(ring) = &self.ring else { return Fate::Forgotten };
        let home = home(&ring.view, name);
        match &lock.token {
            None if home == ring.me && lock.touched && !cx.has(Bug::RecordForgotten) => {
                Fate::Recorded
            }
            None => Fate::Forgotten,
            Some(token) if ring.is_wanted_elsewhere(token, false) => Fate::Stays,
            // Whoever creates it anew must know as well that it may be in use elsewhere (H2).
            Some(token) if token.fresh && !ring.unknown_fresh => Fate::Stays,
            Some(_) if home == ring.me => Fate::Forgotten,
            Some(_) if ring.links[home].takes_tokens() => Fate::GoesHome(home),
            Some(_) => Fate::Stays,
        }
    }

    /// Nothing stays of this lock here but, if its token was here, the floor (H9, H10).
    fn forget(&mut self, name: &LockName, cx: &Context<'_, Self>) {
        let lock = self.locks.remove(name);
        self.open.remove(name);
        self.blocked.remove(name);
        let token = lock.and_then(|lock| lock.token);
        if let (Some(token), Some(ring)) = (token, &mut self.ring)
            && !cx.has(Bug::FloorForgotten)
        {
            ring.floor = ring.floor.max(token.sequence);
        }
    }

    /// Whether another lock may be remembered: what is only a cache gives way.
    pub(super) fn has_room(&mut self, name: &LockName, cx: &Context<'_, Self>) -> bool {
        if self.locks.contains_key(name) || self.locks.len() < self.config.locks_max {
            return true;
        }
        for _ in 0..SEARCHED.min(self.idle.queue.len()) {
            let Some(other) = self.idle.next() else { break };
            let is_cache = self.locks.get(&other).is_some_and(Lock::has_no_token)
                && matches!(self.fate(&other, cx), Fate::Forgotten);
            if is_cache {
                self.forget(&other, cx);
                return true;
            }
            self.idle.queue.push_back(other);
        }
        false
    }
}

impl Lock {
    fn has_no_token(&self) -> bool {
        self.token.is_none()
    }
}
