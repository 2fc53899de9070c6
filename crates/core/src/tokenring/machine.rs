//! The machine behind [`super`]: grants, passes and requests.

use super::{
    Body, Command, Config, Event, LockName, LockStatus, Message, Mode, Refusal, Report, Status,
    Ticket, Timer, Token, Wait,
    idle::Idle,
    lease::Lease,
    links::{Link, Receipt},
    lock::{Grant, Lock, Request},
};
use crate::{
    id::NodeId,
    planted::Bug,
    protocol::{Context, Input, InputOf, Protocol},
    tally::Tally,
    time::Time,
    view::View,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

/// Bits of a fence that count the grants of a view (H10).
const SEQUENCE_BITS: u32 = 40;

/// The last view whose fences stay below 2^63 (H10).
const VIEWS_MAX: u64 = 1 << 23;

/// One member's part in the mutual exclusion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenRing {
    pub(super) config: Config,
    pub(super) ring: Option<Ring>,
    pub(super) locks: BTreeMap<LockName, Lock>,
    /// Whether clients are not served any more.
    pub(super) leaving: bool,
    /// Peers with a link, also before there is a view.
    pub(super) up: BTreeSet<NodeId>,
    /// Fresh tokens are not granted here before this instant (§4, rule 4).
    pub(super) embargo: Time,
    /// Local waiters of all locks.
    pub(super) waiters: usize,
    /// Numbers requests: one counter for all locks (H13).
    pub(super) requests: u64,
    /// Locks that are forgotten when nobody uses them.
    pub(super) idle: Idle,
    /// Locks with something to repeat: an unrecorded request, a try.
    pub(super) open: BTreeSet<LockName>,
    /// Locks whose token is here for somebody who cannot be reached, or may not be granted yet.
    pub(super) blocked: BTreeSet<LockName>,
    /// Whether the timer runs.
    pub(super) repeating: bool,
    /// When it fires, if it runs.
    pub(super) lease_timer: Option<Time>,
    /// When it fires, if it runs.
    embargo_timer: Option<Time>,
    /// Locks with members that have asked and have not been told that the token knows.
    pub(super) unanswered: Vec<LockName>,
    /// Whether the timer for all that is owed runs.
    pub(super) acknowledging: bool,
    pub(super) waiting_for: Option<NodeId>,
    pub(super) ignored: Tally,
}

/// The installed view, as the lock uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ring {
    pub(super) view: View,
    /// The own position.
    pub(super) me: usize,
    /// The other positions in ring order, beginning with the successor.
    pub(super) order: Vec<usize>,
    /// Per position; the own one is unused.
    pub(super) links: Vec<Link>,
    /// Whether a token that is created on demand is fresh (H2).
    pub(super) unknown_fresh: bool,
    /// The largest sequence of a token that was forgotten here: what is created begins after it.
    pub(super) floor: u64,
    pub(super) lease: Lease,
    /// What this member knew when it was wedged, if it is (V2).
    pub(super) wedged: Option<Report>,
}

impl TokenRing {
    /// A member without a view.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ring: None,
            locks: BTreeMap::new(),
            leaving: false,
            up: BTreeSet::new(),
            embargo: Time::ZERO,
            waiters: 0,
            requests: 0,
            idle: Idle::default(),
            open: BTreeSet::new(),
            blocked: BTreeSet::new(),
            repeating: false,
            lease_timer: None,
            embargo_timer: None,
            unanswered: Vec::new(),
            acknowledging: false,
            waiting_for: None,
            ignored: Tally::default(),
        }
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let ring = self.ring.as_ref();
        let id = |p: usize| ring.map(|ring| ring.view.members[p].id);
        let wanted_by = |token: &Token| {
            let order = ring.map_or(&[][..], |ring| &ring.order);
            order.iter().filter(|p| token.is_wanted_by(**p)).filter_map(|p| id(*p)).collect()
        };
        let lock = |(name, lock): (&LockName, &Lock)| LockStatus {
            lock: name.clone(),
            token: lock.token.is_some(),
            fence: lock.granted.map(|grant| grant.fence),
            sequence: lock.token.as_ref().map_or(lock.sequence, |token| token.sequence),
            waiters: lock.waiters.len(),
            wanted_by: lock.token.as_ref().map_or_else(Vec::new, wanted_by),
            hops: lock.hops,
            passed_to: lock.passed_to.and_then(id),
        };
        let forever = Time::from_nanos(u64::MAX);
        Status {
            locks: self.locks.iter().map(lock).collect(),
            unacknowledged: ring.map_or(0, Ring::unacknowledged),
            waiting_for: self.waiting_for,
            lease_until: ring.map_or(Time::ZERO, |ring| ring.lease.ends().unwrap_or(forever)),
            embargo_until: self.embargo,
            ignored: self.ignored.count(),
        }
    }

    /// The tokens that are here: which lock, and the sequence of its last grant.
    pub fn tokens(&self) -> impl Iterator<Item = (&LockName, u64)> {
        self.locks.iter().filter_map(|(name, lock)| Some((name, lock.token.as_ref()?.sequence)))
    }

    /// The locks of which anything is remembered here.
    pub fn known(&self) -> impl Iterator<Item = &LockName> {
        self.locks.keys()
    }

    // ---- Commands ----

    fn on_lock(&mut self, name: LockName, ticket: Ticket, wait: Wait, cx: &mut Context<'_, Self>) {
        let refusal = if self.leaving {
            Some(Refusal::Leaving)
        } else if self.waiters >= self.config.waiters_max || !self.has_room(&name, cx) {
            Some(Refusal::TooMany)
        } else if wait == Wait::Try && self.ring.is_none() {
            Some(Refusal::NotStarted)
        } else if wait == Wait::Try && self.ring.as_ref().is_some_and(Ring::is_wedged) {
            Some(Refusal::NotAvailable)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return cx.emit(Event::Refused { lock: name, ticket, reason });
        }
        match wait {
            Wait::Queue => {
                self.waiters += 1;
                self.lock_mut(&name).waiters.push_back(ticket);
                self.advance(&name, cx);
            }
            Wait::Try => self.on_own_try(name, ticket, cx),
        }
    }

    /// Does what can be done for the local waiters of a lock: grant, or ask for the token.
    pub(super) fn advance(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let circulates = self.circulates(name);
        let Some(lock) = self.locks.get(name) else { return };
        if lock.token.is_some() {
            return self.serve(name, cx);
        }
        if self.ring.as_ref().is_some_and(|ring| !ring.is_wedged()) {
            if !circulates && !lock.waiters.is_empty() && lock.request.is_none() {
                self.requests += 1;
                let number = if cx.has(Bug::RequestNumbersReused) { 1 } else { self.requests };
                let request = Request { number, recorded: false, sent: cx.now() };
                self.lock_mut(name).request = Some(request);
                self.send_request(name, cx);
            }
            self.repeat_later(cx);
        }
    }

    fn on_unlock(&mut self, name: LockName, ticket: Ticket, cx: &mut Context<'_, Self>) {
        let refused = |reason| Event::Refused { lock: name.clone(), ticket, reason };
        let Some(lock) = self.locks.get_mut(&name) else {
            return cx.emit(refused(Refusal::NotHeld));
        };
        if let Some(grant) = lock.granted.filter(|grant| grant.ticket == ticket) {
            lock.granted = None;
            lock.used = true;
            cx.emit(Event::Released { lock: name.clone(), ticket, fence: grant.fence });
            self.serve(&name, cx);
        } else if let Some(i) = lock.waiters.iter().position(|waiter| *waiter == ticket) {
            lock.waiters.remove(i);
            self.waiters -= 1;
            cx.emit(refused(Refusal::Cancelled));
        } else if let Some(i) = lock.tries.iter().position(|attempt| attempt.ticket == ticket) {
            lock.tries.remove(i);
            cx.emit(refused(Refusal::Cancelled));
        } else {
            cx.emit(refused(Refusal::NotHeld));
        }
    }

    // ---- The token is here ----

    /// Decides what happens to a token that is here and not in use.
    pub(super) fn serve(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let circulates = self.circulates(name);
        let Some(lock) = self.locks.get(name) else { return };
        let Some(token) = &lock.token else { return };
        let ring = self.ring.as_ref().expect("a token is in a view");
        let held = lock.granted.is_some() && !cx.has(Bug::PassedWhileHeld);
        if held || (ring.is_wedged() && !cx.has(Bug::GrantsWedged) && !cx.has(Bug::PassesWedged)) {
            return;
        }
        let was_blocked = self.blocked.remove(name);
        let next = if circulates {
            // The textbook ring: to the successor, which must be there to take it.
            ring.order.first().copied().filter(|p| ring.links[*p].takes_tokens())
        } else {
            ring.next_wanting(token, cx)
        };
        let unreachable = next.is_none() && ring.is_wanted_elsewhere(token, circulates);
        let turn_left = lock.turn_left;
        let in_turn = turn_left > 0 || cx.has(Bug::EndlessTurn);
        if lock.is_wanted_here() && (in_turn || next.is_none()) {
            if self.may_grant(ring, token, cx) {
                return self.grant(name, cx);
            }
            self.defer(name, cx);
            if self.blocked.contains(name) && !circulates {
                return;
            }
        }
        if unreachable {
            self.blocked.insert(name.clone());
            return self.notice_waiting(cx);
        }
        match next {
            // Whoever asks in the meantime does not make it rest for longer.
            Some(_) if circulates && turn_left > 0 && was_blocked => {}
            Some(_) if circulates && turn_left > 0 => cx.set_timer(Timer::Hold, self.config.hold),
            Some(next) => self.pass(name, next, cx),
            None => {}
        }
    }

    /// Whether this token may be granted here and now (§4, rules 3 and 4).
    fn may_grant(&self, ring: &Ring, token: &Token, cx: &Context<'_, Self>) -> bool {
        let now = cx.now();
        let leased = now < ring.lease.deadline(now) || cx.has(Bug::GrantsWithoutLease);
        let embargoed = token.fresh && now < self.embargo;
        let frozen = ring.is_wedged() && !cx.has(Bug::GrantsWedged);
        leased && !embargoed && !frozen
    }

    /// The token is here and wanted, and may not be granted yet: when it may, it is looked at again.
    /// Who only tries does not wait for the end of an embargo.
    fn defer(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let lock = self.locks.get_mut(name).expect("the caller has it");
        let fresh = lock.token.as_ref().is_some_and(|token| token.fresh);
        if fresh && cx.now() < self.embargo {
            lock.refuse_tries(name, cx);
            if !lock.waiters.is_empty() && self.embargo_timer.is_none() {
                self.embargo_timer = Some(self.embargo);
                cx.set_timer(Timer::Embargo, self.embargo.since(cx.now()));
            }
        }
        if !lock.tries.is_empty() {
            self.open.insert(name.clone());
        }
        if lock.is_wanted_here() {
            self.blocked.insert(name.clone());
            self.repeat_later(cx);
        }
    }

    /// What waited for the end of the embargo need not wait any more, unless there is a new one.
    fn on_embargo(&mut self, cx: &mut Context<'_, Self>) {
        self.embargo_timer = None;
        self.serve_blocked(cx);
    }

    pub(super) fn serve_blocked(&mut self, cx: &mut Context<'_, Self>) {
        for name in core::mem::take(&mut self.blocked) {
            self.serve(&name, cx);
        }
    }

    /// Who has tokens that it cannot grant, because it does not hear a quorum, passes them to who
    /// wants them and may. Not at once, for that one may be no better off, and pass them back.
    pub(super) fn hand_on(&mut self, cx: &mut Context<'_, Self>) {
        if self.has_lease(cx.now()) {
            return;
        }
        for name in self.blocked.clone() {
            let (Some(ring), Some(lock)) = (&self.ring, self.locks.get(&name)) else { continue };
            let Some(token) = lock.token.as_ref().filter(|_| lock.granted.is_none()) else {
                continue;
            };
            if let Some(next) = ring.next_wanting(token, cx).filter(|_| !self.circulates(&name)) {
                self.pass(&name, next, cx);
            }
        }
    }

    fn on_hold(&mut self, cx: &mut Context<'_, Self>) {
        let name = LockName::default_lock();
        if let Some(lock) = self.locks.get_mut(&name) {
            lock.turn_left = 0;
            self.serve(&name, cx);
        }
    }

    fn grant(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let circulates = self.circulates(name);
        let turn = self.turn(name);
        let view = self.ring.as_ref().expect("a token is in a view").view.number;
        let lock = self.locks.get_mut(name).expect("the caller has it");
        let ticket = match lock.waiters.pop_front() {
            Some(ticket) => {
                self.waiters -= 1;
                ticket
            }
            None => lock.tries.remove(0).ticket,
        };
        lock.refuse_tries(name, cx);
        lock.used = true;
        let token = lock.token.as_mut().expect("the caller has seen it");
        if token.sequence + 1 >= 1 << SEQUENCE_BITS || view > VIEWS_MAX {
            // H10: never wraps. Only a new view has new fences.
            let waiters = core::mem::take(&mut lock.waiters);
            self.waiters -= waiters.len();
            for ticket in waiters.into_iter().chain([ticket]) {
                let reason = Refusal::FencesUsedUp;
                cx.emit(Event::Refused { lock: name.clone(), ticket, reason });
            }
            return;
        }
        token.sequence += 1;
        token.fresh = false;
        lock.sequence = token.sequence;
        // Where the token cannot go on yet another turn begins.
        lock.turn_left = if lock.turn_left == 0 { turn } else { lock.turn_left } - 1;
        let view = if cx.has(Bug::ViewNotInFence) { 1 } else { view };
        let fence = (view - 1) << SEQUENCE_BITS | token.sequence;
        lock.granted = Some(Grant { ticket, fence });
        if circulates {
            cx.cancel_timer(Timer::Hold);
        }
        cx.emit(Event::Granted { lock: name.clone(), ticket, fence });
        self.watch_lease(cx);
    }

    /// Passes the token to the member at `to`.
    pub(super) fn pass(&mut self, name: &LockName, to: usize, cx: &mut Context<'_, Self>) {
        let circulates = self.circulates(name);
        let ring = self.ring.as_mut().expect("a token is in a view");
        if ring.is_wedged() && !cx.has(Bug::PassesWedged) {
            return;
        }
        self.blocked.remove(name);
        let lock = self.locks.get_mut(name).expect("the caller has it");
        let mut token = lock.token.take().expect("the caller has seen it");
        if circulates {
            token.hops += u64::from(to > 0 || !cx.has(Bug::HopNotCounted));
        } else if !lock.waiters.is_empty() {
            // The turn is over and somebody still waits here: queue again, in the token itself.
            self.requests += 1;
            token.wanted[ring.me] = self.requests;
            let (number, sent) = (self.requests, cx.now());
            lock.request = Some(Request { number, recorded: true, sent });
        }
        lock.passed_to = Some(to);
        let link = &mut ring.links[to];
        let number = link.pass(name.clone(), token.clone(), cx.now());
        lock.pass = number;
        let body = Body::Pass { number, lock: name.clone(), token };
        cx.send(ring.view.members[to].id, Message { view: ring.view.number, body });
        self.repeat_later(cx);
    }

    fn on_pass(
        &mut self,
        from: usize,
        number: u64,
        name: LockName,
        mut token: Token,
        cx: &mut Context<'_, Self>,
    ) {
        let (circulates, turn) = (self.circulates(&name), self.turn(&name));
        let ring = self.ring.as_mut().expect("messages are of a view");
        let (n, me) = (ring.view.len(), ring.me);
        let countable = token.sequence < 1 << SEQUENCE_BITS && token.hops < 1 << 62;
        if token.wanted.len() != n || token.served.len() != n || !countable {
            self.ignored.add();
            return;
        }
        let receipt = ring.links[from].receive(number);
        if receipt == Receipt::Impossible {
            self.ignored.add();
            return;
        }
        let hop = token.hops;
        let sender = ring.view.members[from].id;
        let view = ring.view.number;
        let again = receipt == Receipt::Duplicate;
        self.owe_pass(number, again, cx);
        if again && !cx.has(Bug::DuplicatePass) {
            return;
        }
        self.acknowledge_return(&name, cx);
        let lock = self.lock_mut(&name);
        if lock.token.is_some() {
            // Only a stranger that speaks our language could send a second one.
            self.ignored.add();
            return;
        }
        if cx.has(Bug::FenceNotInToken) {
            token.sequence = lock.sequence;
        }
        if cx.has(Bug::FreshForgotten) {
            token.fresh = false;
        }
        lock.take_in(token, me, turn);
        self.open.remove(&name);
        if circulates {
            cx.emit(Event::Token { view, hop, from: sender });
        }
        self.serve(&name, cx);
    }

    // ---- Small things ----

    pub(super) fn ignore(&mut self) {
        self.ignored.add();
    }

    pub(super) fn forget_waiters(&mut self, count: usize) {
        self.waiters -= count;
    }

    pub(super) fn circulates(&self, name: &LockName) -> bool {
        let mode = self.ring.as_ref().map(|ring| ring.view.mode);
        mode == Some(Mode::Circulate) && name.is_default()
    }

    /// How many local waiters are served in one turn.
    pub(super) fn turn(&self, name: &LockName) -> usize {
        if self.circulates(name) { 1 } else { self.config.turn }
    }

    pub(super) fn lock_mut(&mut self, name: &LockName) -> &mut Lock {
        if !self.locks.contains_key(name) {
            let members = self.ring.as_ref().map_or(0, |ring| ring.view.len());
            self.locks.insert(name.clone(), Lock::new(members));
        }
        let lock = self.locks.get_mut(name).expect("just made");
        if self.config.idle.is_some() {
            self.idle.touch(name, lock);
        }
        lock
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        let Some(ring) = &self.ring else { return };
        if ring.view.number != message.view && !cx.has(Bug::HearsOtherViews) {
            // H17: of a view that is over here, or has not begun. Nothing of it is acknowledged.
            return;
        }
        let Some(from) = ring.view.position(from).filter(|p| *p != ring.me) else {
            return self.ignore();
        };
        let frozen = match message.body {
            Body::Stamp { .. } => false,
            Body::Pass { .. } => ring.is_wedged() && !cx.has(Bug::AcceptsWedged),
            _ => ring.is_wedged(),
        };
        if frozen {
            return;
        }
        match message.body {
            Body::Pass { number, lock, token } => self.on_pass(from, number, lock, token, cx),
            Body::PassAck(received) => self.on_pass_ack(from, &received, cx),
            Body::Request { lock, requester, number, hops } => {
                self.on_request(lock, requester, number, hops, cx);
            }
            Body::Recorded { lock, number } => self.on_recorded(&lock, number),
            Body::Try { lock, requester, number, hops } => {
                self.on_try(lock, requester, number, hops, cx);
            }
            Body::Busy { lock, number } => self.on_busy(lock, number, cx),
            Body::Stamp { stamp, echo, answer } => self.on_stamp(from, (stamp, echo), answer, cx),
        }
    }
}

impl Ring {
    /// Whether this member has promised to take part in what follows the view: frozen (V2).
    pub(super) fn is_wedged(&self) -> bool {
        self.wedged.is_some()
    }

    /// How many passes are not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.links.iter().map(Link::unacknowledged).sum()
    }

    pub(super) fn send(&self, to: usize, body: Body, cx: &mut Context<'_, TokenRing>) {
        cx.send(self.view.members[to].id, Message { view: self.view.number, body });
    }

    /// The first waiting member in ring order that can be reached (§5, rule 3).
    pub(super) fn next_wanting(&self, token: &Token, cx: &Context<'_, TokenRing>) -> Option<usize> {
        let reached = |p: &usize| self.links[*p].takes_tokens() || cx.has(Bug::PassIntoTheBlue);
        let mut waiting = self.order.iter().copied().filter(|p| token.is_wanted_by(*p));
        if cx.has(Bug::FarthestFirst) {
            return waiting.rfind(reached);
        }
        waiting.find(reached)
    }

    /// Whether the token should go somewhere, reachable or not.
    pub(super) fn is_wanted_elsewhere(&self, token: &Token, circulates: bool) -> bool {
        self.order.iter().any(|p| circulates || token.is_wanted_by(*p))
    }

    pub(super) fn repeat_passes(
        &mut self,
        to: usize,
        after: Duration,
        cx: &mut Context<'_, TokenRing>,
    ) {
        if cx.has(Bug::PassSentOnce) {
            return;
        }
        for (number, lock, token) in self.links[to].overdue(cx.now(), after) {
            self.send(to, Body::Pass { number, lock, token }, cx);
        }
    }
}

impl Protocol for TokenRing {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            Input::Start(_) | Input::Appended(_) => {}
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(Timer::Acknowledge) => self.on_acknowledge(cx),
            Input::Timer(Timer::Repeat) => self.on_repeat(cx),
            Input::Timer(Timer::Hold) => self.on_hold(cx),
            Input::Timer(Timer::Lease) => self.on_lease(cx),
            Input::Timer(Timer::Embargo) => self.on_embargo(cx),
            Input::Timer(Timer::Idle) => self.on_idle(cx),
            Input::Command(Command::Install { view, placement, joins }) => {
                self.on_install(view, &placement, joins, cx);
            }
            Input::Command(Command::Wedge) => self.on_wedge(cx),
            Input::Command(Command::Out) => self.on_out(cx),
            Input::Command(Command::Beat) => self.on_beat(cx),
            Input::Command(Command::Lock { lock, ticket, wait }) => {
                self.on_lock(lock, ticket, wait, cx);
            }
            Input::Command(Command::Unlock { lock, ticket }) => self.on_unlock(lock, ticket, cx),
            Input::Command(Command::Leave) => self.on_leave(cx),
            Input::LinkUp(peer) => self.on_link_up(peer, cx),
            Input::LinkDown(peer) => self.on_link_down(peer, cx),
        }
        self.watch_idle(cx);
    }
}
