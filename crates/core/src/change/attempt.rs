//! The coordinator's part: from `Prepare` to `Decided`.

use super::{
    Body, Message, Report, Timer,
    machine::{Cx, Gathering, ViewChange, follows},
    merge,
};
use crate::{
    multicast::Holder,
    planted::Bug,
    view::{Ballot, Value},
};
use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

/// An attempt to decide what follows the view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) ballot: Ballot,
    /// By position.
    promises: BTreeMap<usize, Promise>,
    /// Reports beyond a quorum have had their time.
    pub(super) impatient: bool,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Promise {
    accepted: Option<(Ballot, Value)>,
    report: Report,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Promises come in.
    Collecting,
    /// The messages of the cut come in.
    Gathering,
    /// The value is proposed; the bits say who has accepted it.
    Proposing { value: Box<Value>, accepted: u64 },
}

impl Attempt {
    /// Whether it waits for messages of the cut.
    pub(super) fn is_gathering(&self) -> bool {
        self.phase == Phase::Gathering
    }
}

/// No count gets there in centuries.
const ABSURD: u64 = 1 << 62;

/// Whether a member of a view with `n` members can know this.
fn is_sensible(report: &Report, n: usize) -> bool {
    let order = report.order.as_ref().is_none_or(|order| {
        let counts = order.received.iter().chain([&order.clock]);
        order.received.len() == n && counts.copied().all(|count| count < ABSURD)
    });
    let lock = report.lock.as_ref().is_none_or(|lock| {
        let sent = lock.sent.iter();
        let hops = lock.held.iter().chain(sent.clone().map(|sent| &sent.token));
        lock.received.len() == n
            && sent.clone().all(|sent| usize::from(sent.to) < n)
            && hops.map(|token| token.hops).all(|hops| hops < ABSURD)
    });
    order && lock && report.ceiling < ABSURD
}

impl ViewChange {
    /// Begins an attempt with a ballot of its own.
    pub(super) fn start(&mut self, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        let Some(round) = seat.largest.round.checked_add(1) else { return };
        let ballot = Ballot { round, by: seat.me as u16 };
        self.make_promise(ballot, cx);
    }

    /// The own promise is kept: now the others are asked for theirs.
    pub(super) fn begin_attempt(
        &mut self,
        ballot: Ballot,
        accepted: Option<(Ballot, Value)>,
        report: Report,
        cx: &mut Cx<'_>,
    ) {
        let patience = self.config.patience;
        let message = self.message(Body::Prepare { ballot });
        let Some(seat) = self.seat_mut() else { return };
        if seat.attempt.as_ref().is_some_and(|attempt| attempt.ballot == ballot) {
            return;
        }
        let promises = BTreeMap::from([(seat.me, Promise { accepted, report })]);
        let phase = Phase::Collecting;
        seat.attempt = Some(Attempt { ballot, promises, impatient: false, phase });
        cx.send_many(&seat.peers, message);
        cx.set_timer(Timer::Patience, patience);
        self.repeat_later(cx);
        self.check_promises(cx);
    }

    pub(super) fn on_promise(
        &mut self,
        from: usize,
        ballot: Ballot,
        accepted: Option<(Ballot, Value)>,
        report: Report,
        cx: &mut Cx<'_>,
    ) {
        let Some(seat) = self.seat_mut() else { return };
        let view = seat.view().clone();
        let Some(attempt) = seat.attempt.as_mut().filter(|attempt| attempt.ballot == ballot) else {
            return;
        };
        let sensible = accepted.as_ref().is_none_or(|(_, value)| follows(value, &view))
            && is_sensible(&report, view.len());
        if !sensible {
            return self.ignored.add();
        }
        // What comes after the proposal is too late for it (V3).
        if attempt.phase == Phase::Collecting {
            attempt.promises.insert(from, Promise { accepted, report });
            self.check_promises(cx);
        }
    }

    /// Proposes, once a quorum has promised and the others have, or have had their time.
    pub(super) fn check_promises(&mut self, cx: &mut Cx<'_>) {
        let keep = self.keep();
        let Some(seat) = self.seat() else { return };
        let Some(attempt) = &seat.attempt else { return };
        let promised: u64 = attempt.promises.keys().map(|position| 1 << position).sum();
        let enough = seat.view().is_quorum(promised)
            || (cx.has(Bug::HalfDecides)
                && 2 * promised.count_ones() as usize >= seat.view().len());
        let waits = keep & !promised != 0 && !attempt.impatient;
        if attempt.phase != Phase::Collecting || !enough || waits {
            return;
        }
        let Some(value) = self.choose(attempt, keep, cx) else { return };
        let holders = self.holders(attempt, &value);
        let is_new = attempt.promises.values().all(|promise| promise.accepted.is_none());
        let patience = self.config.patience;
        if let Some(attempt) = self.seat_mut().and_then(|seat| seat.attempt.as_mut()) {
            attempt.phase = Phase::Gathering;
            cx.set_timer(Timer::Patience, patience);
        }
        self.gather(Gathering::Propose { value, is_new }, holders, cx);
    }

    /// What to propose: what may have been decided already, verbatim (V3.1), else what the reports
    /// make (V3.2). None while too little is known.
    fn choose(&self, attempt: &Attempt, keep: u64, cx: &Cx<'_>) -> Option<Value> {
        let accepted = attempt.promises.values().filter_map(|promise| promise.accepted.as_ref());
        if let Some((_, value)) = accepted.max_by_key(|(ballot, _)| *ballot)
            && !cx.has(Bug::ProposesAnew)
        {
            return Some(value.clone());
        }
        let seat = self.seat()?;
        let promised: u64 = attempt.promises.keys().map(|position| 1 << position).sum();
        if !seat.view().is_quorum(keep & promised) {
            // Those who go on would be too few to bear the next failure: more may be heard soon.
            return None;
        }
        let n = seat.view().len();
        let report = |position| attempt.promises.get(&position).map(|promise| &promise.report);
        let reports: Vec<Option<&Report>> = (0..n).map(report).collect();
        let question = merge::Question {
            installed: &seat.installed,
            me: seat.me,
            reports: &reports,
            keep,
            leavers: seat.leavers,
            joiners: &self.admissible(keep),
        };
        question.answer(cx)
    }

    /// Who holds what of the value's cut: those who have accepted it hold all of it.
    fn holders(&self, attempt: &Attempt, value: &Value) -> Vec<Holder> {
        let Some(seat) = self.seat() else { return Vec::new() };
        let others = attempt.promises.iter().filter(|(position, _)| **position != seat.me);
        let holder = |(position, promise): (&usize, &Promise)| {
            let all = promise.accepted.as_ref().is_some_and(|(_, accepted)| accepted == value);
            let received = if all {
                value.order.ends.clone()
            } else {
                promise.report.order.as_ref()?.received.clone()
            };
            Some(Holder { node: seat.id(*position), received })
        };
        others.filter_map(holder).collect()
    }

    pub(super) fn propose(&mut self, value: Value, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        let (me, Some(attempt)) = (seat.me, &mut seat.attempt) else { return };
        let ballot = attempt.ballot;
        attempt.phase = Phase::Proposing { value: value.clone().into(), accepted: 0 };
        self.accept(ballot, value.clone(), cx);
        let message = self.message(Body::Accept { ballot, value: value.into() });
        if let Some(seat) = self.seat() {
            cx.send_many(&seat.peers, message);
        }
        self.on_accepted(me, ballot, cx);
    }

    pub(super) fn on_accepted(&mut self, from: usize, ballot: Ballot, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        let view = seat.installed.view.clone();
        let Some(attempt) = seat.attempt.as_mut().filter(|attempt| attempt.ballot == ballot) else {
            return;
        };
        let Phase::Proposing { value, accepted } = &mut attempt.phase else { return };
        *accepted |= 1 << from;
        if view.is_quorum(*accepted) {
            let value = Value::clone(value);
            self.decide(value, cx);
        }
    }

    /// A quorum has accepted it: nothing else can ever be decided for this view.
    fn decide(&mut self, value: Value, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        seat.attempt = None;
        let is_new = |id| seat.view().position(id).is_none();
        let new = value.view.members.iter().map(|member| member.id).filter(|id| is_new(*id));
        let all: Vec<_> = seat.peers.iter().copied().chain(new).collect();
        let message = self.decided(value.clone().into());
        cx.send_many(&all.into(), message);
        self.install(value, cx);
    }

    /// Somebody has promised a larger ballot: this one is lost.
    pub(super) fn on_refused(&mut self, promised: Ballot, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        seat.largest = seat.largest.max(promised);
        if seat.attempt.as_ref().is_some_and(|attempt| promised > attempt.ballot) {
            self.give_up_attempt(cx);
        }
    }

    /// This ballot comes to nothing: perhaps a later one does.
    pub(super) fn give_up_attempt(&mut self, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        seat.attempt = None;
        seat.gathering = None;
        seat.failures += 1;
        seat.turn = None;
        self.consider(cx);
    }

    /// The same again to whoever has not answered: a ballot is raised only after a refusal.
    pub(super) fn repeat_attempt(&self, cx: &mut Cx<'_>) -> bool {
        let Some(seat) = self.seat() else { return false };
        let Some(attempt) = &seat.attempt else { return false };
        let ballot = attempt.ballot;
        let others = (0..seat.view().len()).filter(|position| *position != seat.me);
        for position in others {
            let body = match &attempt.phase {
                Phase::Collecting if !attempt.promises.contains_key(&position) => {
                    Body::Prepare { ballot }
                }
                Phase::Proposing { value, accepted } if accepted >> position & 1 == 0 => {
                    Body::Accept { ballot, value: value.clone() }
                }
                _ => continue,
            };
            let message: Message = self.message(body);
            cx.send(seat.id(position), message);
        }
        true
    }
}
