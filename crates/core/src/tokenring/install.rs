//! How a view ends for this member and the next one begins: wedged, reported, installed, or left
//! behind.

use super::{
    Event, Known, LockName, Loss, Mode, Placement, Refusal, Report, Sent, Timer, Token, TokenRing,
    lease::{Lease, drifted},
    links::Link,
    lock::Lock,
    machine::Ring,
    placement::home,
};
use crate::{planted::Bug, protocol::Context, time::Time, view::View};
use alloc::{collections::BTreeSet, vec::Vec};

impl TokenRing {
    /// What this member knows of the view in which it is wedged: the same whenever it is asked (V2).
    pub fn report(&self) -> Report {
        self.ring.as_ref().and_then(|ring| ring.wedged.clone()).unwrap_or_default()
    }

    /// From here on, nothing is granted, passed, accepted, acknowledged or echoed in this view: what
    /// is reported stays true (V2, H6). Clients may still release and queue.
    pub(super) fn on_wedge(&mut self, cx: &mut Context<'_, Self>) {
        if self.ring.as_ref().is_none_or(Ring::is_wedged) {
            return;
        }
        self.lapse(cx);
        self.refuse_tries(cx);
        let report = self.freeze();
        let ring = self.ring.as_mut().expect("seen above");
        ring.freeze_vote(cx);
        ring.wedged = Some(report);
        self.stop_timers(cx);
        self.watch_guards(cx);
    }

    fn freeze(&self) -> Report {
        let ring = self.ring.as_ref().expect("checked by the caller");
        let held = self
            .locks
            .iter()
            .filter_map(|(name, lock)| Some(Known::of(name, lock.token.as_ref()?)));
        let sent = ring.links.iter().enumerate().flat_map(|(to, link)| {
            link.waiting().map(move |(number, name, token)| Sent {
                to: to as u16,
                number,
                token: Known::of(name, token),
            })
        });
        let is_home =
            |(name, lock): &(&LockName, &Lock)| lock.touched && home(&ring.view, name) == ring.me;
        Report {
            held: held.collect(),
            sent: sent.collect(),
            received: ring.links.iter().map(Link::received).collect(),
            home: self.locks.iter().filter(is_home).map(|(name, _)| name.clone()).collect(),
            guards: self.guards().map(|(name, _, _)| name.clone()).collect(),
        }
    }

    pub(super) fn on_install(
        &mut self,
        view: View,
        placement: &Placement,
        joins: bool,
        cx: &mut Context<'_, Self>,
    ) {
        let Some(me) = view.position(self.config.me) else { return };
        if self.ring.as_ref().is_some_and(|ring| ring.view.number >= view.number) {
            return;
        }
        if joins {
            // A new beginning: nothing of what this life had before counts (H7).
            self.on_out(cx);
        }
        // First, for what has ended does not begin again (H7).
        self.lapse(cx);
        self.set_embargo(&view, placement, joins, cx);
        let kept = match &self.ring {
            _ if cx.has(Bug::InstallRenewsLease) => cx.now() + view.lease,
            Some(ring) => ring.lease.deadline(cx.now()),
            None => Time::ZERO,
        };
        let regenerated = self.regenerated(placement, me);
        self.end_view(cx);
        let up = |p: usize| self.up.contains(&view.members[p].id);
        self.ring = Some(Ring {
            me,
            order: order(&view, me),
            links: (0..view.len()).map(|p| Link::new(up(p), cx.now())).collect(),
            unknown_fresh: placement.unknown_fresh,
            floor: 0,
            lease: Lease::new(&view, me, kept),
            wedged: None,
            view,
        });
        self.place(placement, cx);
        self.touch_all();
        for lock in regenerated {
            cx.emit(Event::Regenerated { lock });
        }
        self.begin_view(cx);
    }

    /// Who may still hold a guard that nobody has told of has lost it when this is over (§4, rule 4).
    fn set_embargo(
        &mut self,
        view: &View,
        placement: &Placement,
        joins: bool,
        cx: &Context<'_, Self>,
    ) {
        let lost = placement.lost && !cx.has(Bug::NoEmbargo);
        let joins = joins && !cx.has(Bug::JoinerUnembargoed);
        if view.number > 1 && (lost || joins) {
            let wait = if cx.has(Bug::NoDriftMargin) { view.lease } else { drifted(view.lease) };
            self.embargo = self.embargo.max(cx.now() + wait);
        }
    }

    /// The locks whose tokens are made anew here.
    fn regenerated(&self, placement: &Placement, me: usize) -> Vec<LockName> {
        let was_here = |name: &LockName| {
            self.locks.get(name).is_some_and(|lock| lock.token.as_ref().is_some_and(|t| t.fresh))
        };
        let here = placement.tokens.iter().filter(|placed| usize::from(placed.at) == me);
        let made = here.filter(|placed| placed.fresh && !was_here(&placed.lock));
        made.map(|placed| placed.lock.clone()).collect()
    }

    /// What belongs to a view ends with it: only clients stay.
    fn end_view(&mut self, cx: &mut Context<'_, Self>) {
        self.refuse_tries(cx);
        if self.ring.is_some() {
            self.stop_timers(cx);
        }
        self.open.clear();
        self.blocked.clear();
        self.unanswered.clear();
        self.waiting_for = None;
    }

    /// Nothing is owed any more, and no token rests here for a while.
    fn stop_timers(&mut self, cx: &mut Context<'_, Self>) {
        if core::mem::take(&mut self.acknowledging) {
            cx.cancel_timer(Timer::Acknowledge);
        }
        if self.ring.as_ref().is_some_and(|ring| ring.view.mode == Mode::Circulate) {
            cx.cancel_timer(Timer::Hold);
        }
    }

    fn refuse_tries(&mut self, cx: &mut Context<'_, Self>) {
        for (name, lock) in &mut self.locks {
            lock.refuse_tries(name, cx);
        }
    }

    /// Puts the tokens that are placed here where they are placed, and a record where this is their
    /// home. A guard goes on with its token, if that was here, and is here: else it is lost.
    fn place(&mut self, placement: &Placement, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_ref().expect("just installed");
        let (me, n) = (ring.me, ring.view.len());
        let is_here = |at: u16| usize::from(at) == me;
        let here: BTreeSet<&LockName> = placement
            .tokens
            .iter()
            .filter(|placed| is_here(placed.at) && !placed.fresh)
            .map(|placed| &placed.lock)
            .collect();
        for (name, lock) in &mut self.locks {
            let stays = here.contains(name) || cx.has(Bug::GuardOutlivesToken);
            if let Some(grant) = lock.granted.filter(|_| !stays) {
                lock.granted = None;
                let (lock, ticket, fence) = (name.clone(), grant.ticket, grant.fence);
                cx.emit(Event::Lost { lock, ticket, fence, reason: Loss::Elsewhere });
            }
        }
        self.locks.retain(|_, lock| {
            lock.begin_view(n);
            lock.granted.is_some() || !lock.waiters.is_empty()
        });
        for placed in &placement.tokens {
            let ring = self.ring.as_ref().expect("just installed");
            let at = usize::from(placed.at);
            if at == me {
                let turn = self.turn(&placed.lock);
                let token = Token::new(n, placed.hops, placed.fresh);
                self.lock_mut(&placed.lock).take_in(token, me, turn);
            } else if home(&ring.view, &placed.lock) == me {
                // Nobody creates what exists (H2).
                let lock = self.lock_mut(&placed.lock);
                lock.touched = true;
                lock.passed_to = Some(at);
            }
        }
    }

    /// Says so, asks for what is wanted, and passes on what is here and wanted by nobody here.
    fn begin_view(&mut self, cx: &mut Context<'_, Self>) {
        let ring = self.ring.as_ref().expect("just installed");
        for position in &ring.order {
            ring.send_stamp(*position, true, cx);
        }
        let names: Vec<LockName> = self.locks.keys().cloned().collect();
        for name in names {
            let here = self.locks.get(&name).is_some_and(|lock| lock.token.is_some());
            if here || !cx.has(Bug::NotAskedAnew) {
                self.advance(&name, cx);
            }
        }
        self.watch_guards(cx);
    }

    /// The group goes on without this life: its guards are lost before it asks to be taken in again
    /// (H7). Who waits goes on waiting.
    pub(super) fn on_out(&mut self, cx: &mut Context<'_, Self>) {
        if !cx.has(Bug::GuardOutlivesLife) {
            self.lose_guards(Loss::Excluded, cx);
        }
        self.end_view(cx);
        self.ring = None;
        self.locks.retain(|_, lock| {
            lock.begin_view(0);
            lock.granted.is_some() || !lock.waiters.is_empty()
        });
        self.touch_all();
    }

    // ---- Leaving ----

    /// Clients are dismissed, and no others are served. What others want goes on as ever; what
    /// nobody wants is placed by the next view.
    pub(super) fn on_leave(&mut self, cx: &mut Context<'_, Self>) {
        if core::mem::replace(&mut self.leaving, true) {
            return;
        }
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
        let names: Vec<LockName> = self.locks.keys().cloned().collect();
        for name in names {
            self.serve(&name, cx);
        }
    }
}

/// The other positions in ring order, beginning with the successor.
fn order(view: &View, me: usize) -> Vec<usize> {
    let after = core::iter::successors(Some(me), |p| Some(view.successor(*p)));
    after.skip(1).take(view.len() - 1).collect()
}

impl Known {
    fn of(lock: &LockName, token: &Token) -> Self {
        let Token { sequence, hops, fresh, .. } = *token;
        Self { lock: lock.clone(), sequence, hops, fresh }
    }
}
