//! How a member asks for a token that is elsewhere, and how others pass the question on (§5 of the
//! rules): requests, which everyone on their way records, and tries, which nobody does.

use super::{
    Body, Event, LockName, Refusal, Ticket, Token, TokenRing, lock::Try, machine::Ring,
    placement::home,
};
use crate::{planted::Bug, protocol::Context};

/// Of a request that has gone to everybody: nobody forwards it any more.
const TO_ALL: u16 = u16::MAX;

impl TokenRing {
    /// Sends the open request of a lock on its way (§5, rule 1).
    pub(super) fn send_request(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_ref().expect("a request is in a view");
        let Some(request) = self.locks.get_mut(name).and_then(|lock| lock.request.as_mut()) else {
            return;
        };
        request.sent = cx.now();
        let (requester, number) = (ring.me as u16, request.number);
        self.open.insert(name.clone());
        let body = Body::Request { lock: name.clone(), requester, number, hops: 0 };
        self.forward(name, body, cx);
    }

    /// Sends a request or a try after the token: where it was passed last, else to the lock's home;
    /// the home creates the token, or, not knowing where it is, asks everybody.
    fn forward(&mut self, name: &LockName, body: Body, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_ref().expect("a request is in a view");
        let lock = self.locks.get(name).expect("the caller has recorded it");
        let lost_count = body.hops() as usize > ring.view.len();
        match lock.passed_to.filter(|_| !lost_count) {
            _ if body.hops() == TO_ALL => {}
            Some(next) => ring.send(next, body.forwarded(), cx),
            None => match home(&ring.view, name) {
                home if home != ring.me => ring.send(home, body.forwarded(), cx),
                _ if lock.touched && !cx.has(Bug::HomeForgets) => ring.send_all(&body.to_all(), cx),
                _ => self.create(name, cx),
            },
        }
    }

    /// The home makes the token of a lock that nobody has heard of (H2, H9). In a view that may have
    /// lost one, somebody may have: then it waits for the embargo like any other that is made anew.
    fn create(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let turn = self.turn(name);
        let ring = self.ring.as_ref().expect("a lock is in a view");
        let fresh = ring.unknown_fresh && !cx.has(Bug::UnknownNotFresh);
        let lock = self.locks.get_mut(name).expect("the caller has recorded it");
        let token = Token { sequence: ring.floor, ..Token::new(ring.view.len(), 0, fresh) };
        lock.take_in(token, ring.me, turn);
        self.open.remove(name);
        self.serve(name, cx);
    }

    pub(super) fn on_request(
        &mut self,
        name: LockName,
        requester: u16,
        number: u64,
        hops: u16,
        cx: &mut Context<'_, Self>,
    ) {
        if !self.may_know(&name, requester, cx) {
            return self.turn_away(name, requester, number, cx);
        }
        let lock = self.lock_mut(&name);
        let position = usize::from(requester);
        let known = |token: &Token| token.wanted[position] >= number;
        let again = lock.token.as_ref().is_some_and(known);
        if lock.token.is_some() || !cx.has(Bug::RequestNotRecorded) {
            lock.record(position, number);
        }
        if lock.token.is_none() {
            let body = Body::Request { lock: name.clone(), requester, number, hops };
            self.forward(&name, body, cx);
        }
        let ring = self.ring.as_ref().expect("messages are of a view");
        if position != ring.me {
            self.serve(&name, cx);
            self.owe_recorded(&name, position, again, cx);
        }
    }

    pub(super) fn on_recorded(&mut self, name: &LockName, number: u64) {
        let Some(lock) = self.locks.get_mut(name) else { return };
        if let Some(request) = lock.request.as_mut().filter(|request| request.number == number) {
            request.recorded = true;
            if lock.tries.is_empty() {
                self.open.remove(name);
            }
        }
    }

    // ---- Tries: one question, recorded by nobody ----

    pub(super) fn on_own_try(
        &mut self,
        name: LockName,
        ticket: Ticket,
        cx: &mut Context<'_, Self>,
    ) {
        let circulates = self.circulates(&name);
        self.requests += 1;
        let attempt =
            Try { ticket, number: self.requests, deadline: cx.now() + self.config.try_timeout };
        let lock = self.lock_mut(&name);
        let free = lock.granted.is_none() && !lock.is_wanted_here();
        if !free || (circulates && lock.token.is_none()) {
            let reason = Refusal::NotAvailable;
            return cx.emit(Event::Refused { lock: name, ticket, reason });
        }
        lock.tries.push(attempt);
        if lock.token.is_some() {
            return self.serve(&name, cx);
        }
        let requester = self.ring.as_ref().expect("checked by the caller").me as u16;
        self.open.insert(name.clone());
        self.repeat_later(cx);
        let body = Body::Try { lock: name.clone(), requester, number: attempt.number, hops: 0 };
        self.forward(&name, body, cx);
    }

    pub(super) fn on_try(
        &mut self,
        name: LockName,
        requester: u16,
        number: u64,
        hops: u16,
        cx: &mut Context<'_, Self>,
    ) {
        let position = usize::from(requester);
        if !self.may_know(&name, requester, cx) {
            return self.turn_away(name, requester, number, cx);
        }
        if self.lock_mut(&name).token.is_none() {
            let body = Body::Try { lock: name.clone(), requester, number, hops };
            self.forward(&name, body, cx);
        }
        let ring = self.ring.as_ref().expect("messages are of a view");
        let lock = self.locks.get(&name).expect("made above");
        let Some(token) = &lock.token else { return };
        let free = lock.granted.is_none()
            && !lock.is_wanted_here()
            && (!token.fresh || cx.now() >= self.embargo)
            && !ring.is_wanted_elsewhere(token, false)
            && ring.links[position].takes_tokens();
        if free && position != ring.me {
            self.pass(&name, position, cx);
        } else if position != ring.me {
            ring.send(position, Body::Busy { lock: name, number }, cx);
        }
    }

    pub(super) fn on_busy(&mut self, name: LockName, number: u64, cx: &mut Context<'_, Self>) {
        let Some(lock) = self.locks.get_mut(&name) else { return };
        if let Some(i) = lock.tries.iter().position(|attempt| attempt.number == number) {
            let ticket = lock.tries.remove(i).ticket;
            let reason = Refusal::NotAvailable;
            cx.emit(Event::Refused { lock: name, ticket, reason });
        } else if lock.request.is_some_and(|r| r.number == number && !r.recorded) {
            // Who should know of this lock has no room for it.
            lock.request = None;
            let waiters = core::mem::take(&mut lock.waiters);
            self.forget_waiters(waiters.len());
            for ticket in waiters {
                let reason = Refusal::TooMany;
                cx.emit(Event::Refused { lock: name.clone(), ticket, reason });
            }
        }
    }

    /// A request that cannot be taken: there is no room for another lock, or it makes no sense.
    fn turn_away(
        &mut self,
        name: LockName,
        requester: u16,
        number: u64,
        cx: &mut Context<'_, Self>,
    ) {
        let ring = self.ring.as_ref().expect("messages are of a view");
        let position = usize::from(requester);
        if position < ring.view.len() && position != ring.me && !self.circulates(&name) {
            ring.send(position, Body::Busy { lock: name, number }, cx);
        } else {
            self.ignored.add();
        }
    }

    /// Whether a peer's word about this lock and this requester makes sense and has room.
    fn may_know(&mut self, name: &LockName, requester: u16, cx: &Context<'_, Self>) -> bool {
        let n = self.ring.as_ref().map_or(0, |ring| ring.view.len());
        usize::from(requester) < n && !self.circulates(name) && self.has_room(name, cx)
    }
}

impl Ring {
    fn send_all(&self, body: &Body, cx: &mut Context<'_, TokenRing>) {
        for position in &self.order {
            self.send(*position, body.clone(), cx);
        }
    }
}

impl Body {
    fn hops(&self) -> u16 {
        match self {
            Self::Request { hops, .. } | Self::Try { hops, .. } => *hops,
            _ => 0,
        }
    }

    fn forwarded(self) -> Self {
        let hops = self.hops().saturating_add(1).min(TO_ALL - 1);
        self.with_hops(hops)
    }

    fn to_all(&self) -> Self {
        self.clone().with_hops(TO_ALL)
    }

    fn with_hops(mut self, to: u16) -> Self {
        if let Self::Request { hops, .. } | Self::Try { hops, .. } = &mut self {
            *hops = to;
        }
        self
    }
}
