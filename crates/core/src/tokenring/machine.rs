//! The machine behind [`super`]: grants, passes and requests.

use super::{
    Body, Command, Config, Event, LockName, LockStatus, Message, Mode, Received, Refusal, Status,
    Ticket, Timer, Token, Wait,
    leave::Leaving,
    links::{Link, Receipt, Stays},
    lock::{Grant, Lock, Request},
};
use crate::{
    id::NodeId,
    planted::Bug,
    protocol::{Context, Input, InputOf, Protocol},
    tally::Tally,
    view::View,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

/// Bits of a fence that count the grants of a view (H10).
const SEQUENCE_BITS: u32 = 40;

/// How long a member is unreachable before the lock says that it waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// One member's part in the mutual exclusion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenRing {
    pub(super) config: Config,
    pub(super) ring: Option<Ring>,
    pub(super) locks: BTreeMap<LockName, Lock>,
    pub(super) leaving: Leaving,
    /// Peers with a link, also before there is a view.
    up: BTreeSet<NodeId>,
    /// Local waiters of all locks.
    waiters: usize,
    /// Numbers requests: one counter for all locks (H13).
    pub(super) requests: u64,
    /// Locks with something to repeat: an unrecorded request, a try, a question.
    pub(super) open: BTreeSet<LockName>,
    /// Locks whose token is here for somebody who cannot be reached.
    pub(super) blocked: BTreeSet<LockName>,
    /// Whether the timer runs.
    repeating: bool,
    /// Locks with members that have asked and have not been told that the token knows.
    pub(super) unanswered: Vec<LockName>,
    /// Whether the timer for all that is owed runs.
    pub(super) acknowledging: bool,
    waiting_for: Option<NodeId>,
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
}

impl TokenRing {
    /// A member without a view.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ring: None,
            locks: BTreeMap::new(),
            leaving: Leaving::No,
            up: BTreeSet::new(),
            waiters: 0,
            requests: 0,
            open: BTreeSet::new(),
            blocked: BTreeSet::new(),
            repeating: false,
            unanswered: Vec::new(),
            acknowledging: false,
            waiting_for: None,
            ignored: Tally::default(),
        }
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let Some(ring) = &self.ring else { return Status::default() };
        let id = |p: usize| ring.view.members[p].id;
        let lock = |(name, lock): (&LockName, &Lock)| LockStatus {
            lock: name.clone(),
            token: lock.token.is_some(),
            fence: lock.granted.map(|grant| grant.fence),
            sequence: lock.token.as_ref().map_or(lock.sequence, |token| token.sequence),
            waiters: lock.waiters.len(),
            wanted_by: lock.token.as_ref().map_or_else(Vec::new, |token| {
                ring.order.iter().filter(|p| token.is_wanted_by(**p)).map(|p| id(*p)).collect()
            }),
            hops: lock.hops,
            passed_to: lock.passed_to.map(id),
        };
        let links = || ring.links.iter().enumerate();
        Status {
            locks: self.locks.iter().map(lock).collect(),
            unacknowledged: links().map(|(_, link)| link.unacknowledged()).sum(),
            waiting_for: self.waiting_for,
            left: links().filter(|(_, link)| link.has_left()).map(|(p, _)| id(p)).collect(),
            ignored: self.ignored.count(),
        }
    }

    /// The tokens that are here: which lock, and the sequence of its last grant.
    pub fn tokens(&self) -> impl Iterator<Item = (&LockName, u64)> {
        self.locks.iter().filter_map(|(name, lock)| Some((name, lock.token.as_ref()?.sequence)))
    }

    // ---- Commands ----

    fn on_install(&mut self, view: View, founder: usize, cx: &mut Context<'_, Self>) {
        let Some(me) = view.position(self.config.me) else { return };
        if self.ring.is_some() {
            return;
        }
        let n = view.len();
        let at = view.ring.iter().position(|p| usize::from(*p) == me).expect("a ring has all");
        let order = (1..n).map(|i| usize::from(view.ring[(at + i) % n])).collect();
        let link = |p: usize| Link::new(self.up.contains(&view.members[p].id));
        let links = (0..n).map(link).collect();
        let circulate = view.mode == Mode::Circulate && me == founder;
        // Locks that clients have asked for before there was a view begin here.
        let waiting: Vec<LockName> = self.locks.keys().cloned().collect();
        for lock in self.locks.values_mut() {
            lock.wanted = alloc::vec![0; n];
        }
        self.ring = Some(Ring { view, me, order, links });
        if circulate {
            let name = LockName::default_lock();
            self.lock_mut(&name).take_in(Token::new(n), me, 1);
            self.serve(&name, cx);
        }
        for name in waiting {
            self.advance(&name, cx);
        }
    }

    fn on_lock(&mut self, name: LockName, ticket: Ticket, wait: Wait, cx: &mut Context<'_, Self>) {
        let refusal = if !matches!(self.leaving, Leaving::No) {
            Some(Refusal::Leaving)
        } else if self.waiters >= self.config.waiters_max
            || (!self.locks.contains_key(&name) && self.locks.len() >= self.config.locks_max)
        {
            Some(Refusal::TooMany)
        } else if wait == Wait::Try && self.ring.is_none() {
            Some(Refusal::NotStarted)
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
    fn advance(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
        let circulates = self.circulates(name);
        let Some(lock) = self.locks.get(name) else { return };
        if lock.token.is_some() {
            return self.serve(name, cx);
        }
        if self.ring.is_some() {
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
        if lock.granted.is_some() && !cx.has(Bug::PassedWhileHeld) {
            return;
        }
        self.blocked.remove(name);
        if !matches!(self.leaving, Leaving::No) {
            return self.hand_over(name, cx);
        }
        let ring = self.ring.as_ref().expect("a token is in a view");
        let next = if circulates {
            // The textbook ring: to the successor, which must be there to take it.
            let member = ring.order.iter().find(|p| ring.links[**p].stays == Stays::Here);
            member.copied().filter(|p| ring.links[*p].takes_tokens())
        } else {
            ring.next_wanting(token, cx)
        };
        let unreachable = next.is_none() && ring.is_wanted_elsewhere(token, circulates);
        let in_turn = lock.turn_left > 0 || cx.has(Bug::EndlessTurn);
        if lock.is_wanted_here() && (in_turn || next.is_none()) {
            return self.grant(name, cx);
        }
        if unreachable {
            self.blocked.insert(name.clone());
            return self.notice_waiting(cx);
        }
        match next {
            Some(_) if circulates && lock.turn_left > 0 => {
                cx.set_timer(Timer::Hold, self.config.hold);
            }
            Some(next) => self.pass(name, next, cx),
            None => {}
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
        let token = lock.token.as_mut().expect("the caller has seen it");
        let ticket = match lock.waiters.pop_front() {
            Some(ticket) => {
                self.waiters -= 1;
                ticket
            }
            None => lock.tries.remove(0).ticket,
        };
        for late in lock.tries.drain(..) {
            let reason = Refusal::NotAvailable;
            cx.emit(Event::Refused { lock: name.clone(), ticket: late.ticket, reason });
        }
        if token.sequence + 1 >= 1 << SEQUENCE_BITS {
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
        lock.sequence = token.sequence;
        // Where the token cannot go on yet another turn begins.
        lock.turn_left = if lock.turn_left == 0 { turn } else { lock.turn_left } - 1;
        let fence = (view - 1) << SEQUENCE_BITS | token.sequence;
        lock.granted = Some(Grant { ticket, fence });
        if circulates {
            cx.cancel_timer(Timer::Hold);
        }
        cx.emit(Event::Granted { lock: name.clone(), ticket, fence });
    }

    /// Passes the token to the member at `to`.
    pub(super) fn pass(&mut self, name: &LockName, to: usize, cx: &mut Context<'_, Self>) {
        let circulates = self.circulates(name);
        let ring = self.ring.as_mut().expect("a token is in a view");
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
        if self.has_frozen() && !cx.has(Bug::AcceptsAfterLeft) {
            // What has arrived here is final, and is being told.
            if cx.has(Bug::AcknowledgesAfterLeft) {
                let ring = self.ring.as_mut().expect("messages are of a view");
                ring.links[from].receive(number);
                self.owe_pass(from, number, true, cx);
            }
            return;
        }
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
        self.owe_pass(from, number, again, cx);
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
        lock.take_in(token, me, turn);
        self.open.remove(&name);
        if circulates {
            cx.emit(Event::Token { view, hop, from: sender });
        }
        self.serve(&name, cx);
    }

    // ---- Time and links ----

    pub(super) fn repeat_later(&mut self, cx: &mut Context<'_, Self>) {
        if !self.repeating {
            self.repeating = true;
            cx.set_timer(Timer::Repeat, self.config.repeat);
        }
    }

    fn on_repeat(&mut self, cx: &mut Context<'_, Self>) {
        self.repeating = false;
        for name in self.open.clone() {
            self.repeat_lock(&name, cx);
        }
        let after = self.config.repeat;
        if let Some(ring) = &mut self.ring {
            for position in ring.order.clone() {
                ring.repeat_passes(position, after, cx);
            }
        }
        self.repeat_leave(cx);
        self.notice_waiting(cx);
        let unacknowledged = self
            .ring
            .as_ref()
            .is_some_and(|ring| ring.links.iter().any(|link| link.unacknowledged() > 0));
        let telling = self.ring.as_ref().is_some_and(|ring| ring.repeat_who_left(cx));
        let waiting = !self.open.is_empty() || self.waiters > 0;
        if unacknowledged || telling || waiting || self.is_leaving() {
            self.repeat_later(cx);
        }
    }

    fn repeat_lock(&mut self, name: &LockName, cx: &mut Context<'_, Self>) {
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
        let asking = lock.inquiry.is_some();
        if overdue {
            self.send_request(name, cx);
        } else if asking {
            self.create(name, cx);
        } else if !unrecorded && lock.tries.is_empty() {
            self.open.remove(name);
        }
    }

    fn on_link_up(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        self.up.insert(peer);
        let Some(ring) = &mut self.ring else { return };
        let Some(position) = ring.view.position(peer).filter(|p| *p != ring.me) else { return };
        ring.links[position].up = true;
        ring.repeat_passes(position, Duration::ZERO, cx);
        ring.tell_who_left(position, cx);
        self.repeat_later(cx);
        self.serve_blocked(cx);
        for name in self.open.clone() {
            self.send_request(&name, cx);
        }
        self.notice_waiting(cx);
    }

    fn on_link_down(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        self.up.remove(&peer);
        let Some(ring) = &mut self.ring else { return };
        let Some(position) = ring.view.position(peer).filter(|p| *p != ring.me) else { return };
        ring.links[position].up = false;
        ring.links[position].down_since = cx.now();
        if cx.has(Bug::TakesPassBack) {
            for (name, token) in ring.links[position].take_back(&Received::default()) {
                self.take_back(&name, token, cx);
            }
        }
        self.notice_waiting(cx);
    }

    /// Finds out whether the lock waits for an unreachable member, and says so once.
    fn notice_waiting(&mut self, cx: &mut Context<'_, Self>) {
        let Some(ring) = &self.ring else { return };
        let gone = |p: &&usize| !ring.links[**p].up && !ring.links[**p].has_left();
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

    fn is_blocked_for(&self, ring: &Ring, name: &LockName, member: usize) -> bool {
        let token = self.locks.get(name).and_then(|lock| lock.token.as_ref());
        let next = || ring.order.iter().find(|p| ring.links[**p].stays == Stays::Here);
        token.is_some_and(|token| {
            token.is_wanted_by(member) || (self.circulates(name) && next() == Some(&member))
        })
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
        self.locks.get_mut(name).expect("just made")
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        let position = self.ring.as_ref().and_then(|ring| {
            let same_view = ring.view.number == message.view;
            ring.view.position(from).filter(|p| same_view && *p != ring.me)
        });
        let Some(from) = position.filter(|_| self.leaving != Leaving::Done) else {
            return self.on_stray(from, &message, cx);
        };
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
            Body::Ask { lock, round } => self.on_ask(from, lock, round, cx),
            Body::Answer { lock, round, known } => {
                self.on_answer(from, &lock, (round, known), cx);
            }
            Body::Leaving => self.on_peer_leaving(from, cx),
            Body::LeavingAck { last_pass } => self.on_leaving_ack(from, last_pass, cx),
            Body::Left { member, received } => self.on_left(from, member, received, cx),
            Body::LeftAck { member } => self.on_left_ack(from, member, cx),
        }
    }
}

impl Ring {
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
        let stays = |p: &&usize| self.links[**p].stays == Stays::Here;
        self.order.iter().filter(stays).any(|p| circulates || token.is_wanted_by(*p))
    }

    fn repeat_passes(&mut self, to: usize, after: Duration, cx: &mut Context<'_, TokenRing>) {
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
            Input::Command(Command::Install { view, founder }) => {
                self.on_install(view, founder, cx);
            }
            Input::Command(Command::Lock { lock, ticket, wait }) => {
                self.on_lock(lock, ticket, wait, cx);
            }
            Input::Command(Command::Unlock { lock, ticket }) => self.on_unlock(lock, ticket, cx),
            Input::Command(Command::Leave) => self.on_leave(cx),
            Input::LinkUp(peer) => self.on_link_up(peer, cx),
            Input::LinkDown(peer) => self.on_link_down(peer, cx),
        }
    }
}
