//! The walk round the ring: who says yes to it, who says no, and what its starter hears.

use super::{
    Event, Message, Refusal, Start, StartError, Step, Timer, Trigger,
    machine::{FORGOTTEN_MAX, Founding, REPEAT, State},
};
use crate::{
    id::NodeId,
    planted::Bug,
    protocol::Context,
    view::{Member, View},
};
use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

impl Founding {
    /// Says yes to `start`, and thereby gives up any other walk for ever (V8).
    pub(super) fn say_yes(&mut self, start: Start, cx: &mut Context<'_, Self>) {
        self.save_yes(start.run, cx);
        self.forget();
        // An answer to what was asked before this yes is not fresh.
        self.nonce = 0;
        self.state = State::Tentative(start);
    }

    pub(super) fn forget(&mut self) {
        if let State::Tentative(start) = self.state {
            self.forgotten.push_back(start.run);
            if self.forgotten.len() > FORGOTTEN_MAX {
                self.forgotten.pop_front();
            }
            self.nonce = 0;
            self.state = State::Idle;
        }
    }

    pub(super) fn on_walk(
        &mut self,
        from: NodeId,
        start: Start,
        digest: u64,
        path: Vec<Step>,
        cx: &mut Context<'_, Self>,
    ) {
        let run = start.run;
        if digest != self.digest {
            // With another list the starter's index means nothing here: whoever passed the walk on
            // has the starter's list, and passes the refusal back.
            return cx.send(from, Message::Refuse { run, reason: Refusal::OtherList });
        }
        if !self.is_walk_to_me(from, start, &path) {
            return;
        }
        if self.forgotten.contains(&run) && !cx.has(Bug::ForgottenAgain) {
            if start.index == self.me {
                // An own walk that was given up.
                return;
            }
            let reason = Refusal::Forgotten;
            return self.send_to(start.index, Message::Refuse { run, reason }, cx);
        }
        if self.own_walk() == Some(start) {
            return self.on_walk_back(&path, cx);
        }
        match self.judge(start, &path, cx) {
            Verdict::Yes => {}
            Verdict::Ignore => return,
            Verdict::No(reason) => {
                return self.send_to(start.index, Message::Refuse { run, reason }, cx);
            }
        }
        let keeps_own = self.own_walk().is_some() && cx.has(Bug::YesNotKept);
        if !keeps_own && (self.wanting || self.own_walk().is_some()) {
            self.give_up(StartError::GaveWay(self.name(start.index)), cx);
            self.wanting = false;
        }
        if self.state != State::Tentative(start) && !keeps_own {
            self.say_yes(start, cx);
        }
        let mut path = path;
        path.push(self.step());
        self.send_to(self.next, Message::Walk { start, digest, path }, cx);
        cx.set_timer(Timer::Repeat, REPEAT);
    }

    /// Whether the walk is one that may have come from `from` to this node.
    fn is_walk_to_me(&self, from: NodeId, start: Start, path: &[Step]) -> bool {
        let n = self.ids.len();
        let inside = |p: u16| usize::from(p) < n;
        let (Some(first), Some(last)) = (path.first(), path.last()) else { return false };
        let positions: BTreeSet<u16> = path.iter().map(|step| step.position).collect();
        path.iter().all(|step| inside(step.position) && inside(step.next))
            && positions.len() == path.len()
            && path.windows(2).all(|pair| pair[0].next == pair[1].position)
            && first.position == start.index
            && last.next == self.me
            && self.ids[usize::from(last.position)] == from
    }

    fn judge(&self, start: Start, path: &[Step], cx: &Context<'_, Self>) -> Verdict {
        match &self.state {
            State::Active(active) if active.run == start.run => return Verdict::Ignore,
            State::Active(_) if cx.has(Bug::ActiveSaysYes) => {}
            State::Active(_) if cx.has(Bug::SecondStartIgnored) => return Verdict::Ignore,
            State::Active(active) => {
                return Verdict::No(Refusal::AlreadyStarted { by: active.founder });
            }
            // Changing to a smaller index only: so of two starters one goes through.
            State::Tentative(held) if held.index < start.index && !cx.has(Bug::YesToLarger) => {
                return Verdict::No(Refusal::GaveWay { to: held.index });
            }
            // Who is outside holds no yes. If anybody is still active, that one refuses.
            State::Tentative(_) | State::Idle | State::Outside(_) => {}
        }
        if self.leaving {
            return Verdict::Ignore;
        }
        if self.wanting && self.me < start.index {
            return Verdict::No(Refusal::GaveWay { to: self.me });
        }
        // Who names itself as its next node has itself and the sender for predecessors.
        if self.next == self.me && start.index != self.me {
            let (first, second, next) = (path[path.len() - 1].position, self.me, self.me);
            return Verdict::No(Refusal::SharedSuccessor { first, second, next });
        }
        // The walk passes each node once; who sees itself in it has two predecessors, or, if it is
        // an old walk of its own, has forgotten it.
        if path.iter().any(|step| step.position == self.me) {
            return match path.iter().find(|step| step.next == self.me) {
                Some(first) if start.index != self.me && path.len() > 1 => {
                    let second = path[path.len() - 1].position;
                    let first = first.position;
                    Verdict::No(Refusal::SharedSuccessor { first, second, next: self.me })
                }
                _ => Verdict::Ignore,
            };
        }
        Verdict::Yes
    }

    /// The own walk has come round.
    pub(super) fn on_walk_back(&mut self, path: &[Step], cx: &mut Context<'_, Self>) {
        let all = 0..self.ids.len() as u16;
        let left_out: Vec<u16> =
            all.filter(|p| path.iter().all(|step| step.position != *p)).collect();
        if !left_out.is_empty() {
            return self.on_refusal(Refusal::LeftOut(left_out), cx);
        }
        let start = self.own_walk().expect("only an own walk comes back");
        let life = |p: usize| path.iter().find(|step| usize::from(step.position) == p);
        let members = self.config.list.iter().enumerate().map(|(p, name)| Member {
            id: name.id(),
            name: name.clone(),
            life: life(p).expect("the walk has passed all").life,
            incarnation: 1,
        });
        let first = path.iter().position(|step| step.position == 0).expect("as above");
        let ring = (0..path.len()).map(|i| path[(first + i) % path.len()].position);
        let view = View {
            number: 1,
            members: members.collect(),
            ring: ring.collect(),
            mode: self.config.mode,
            lease: self.config.lease,
        };
        self.activate(start.run, view, self.me, cx);
    }

    pub(super) fn on_refuse(&mut self, run: u64, reason: Refusal, cx: &mut Context<'_, Self>) {
        match self.state {
            State::Tentative(start) if start.run != run => {}
            State::Tentative(start) if start.index == self.me => self.on_refusal(reason, cx),
            State::Tentative(start) => {
                self.send_to(start.index, Message::Refuse { run, reason }, cx);
            }
            _ => {}
        }
    }

    fn on_refusal(&mut self, reason: Refusal, cx: &mut Context<'_, Self>) {
        let names = |positions: Vec<u16>| positions.into_iter().map(|p| self.name(p)).collect();
        let error = match reason {
            Refusal::Forgotten => {
                self.withdraw(cx);
                self.wanting = true;
                return self.start_or_wait(cx);
            }
            Refusal::AlreadyStarted { by } => {
                // In which view, and whether this life is in it, those who are active can tell.
                self.inquiring = true;
                cx.set_timer(Timer::Repeat, Duration::ZERO);
                StartError::AlreadyStarted(self.name(by))
            }
            Refusal::GaveWay { to } => StartError::GaveWay(self.name(to)),
            Refusal::OtherList => StartError::OtherList,
            Refusal::SharedSuccessor { first, second, next } => {
                StartError::SharedSuccessor(self.name(first), self.name(second), self.name(next))
            }
            Refusal::LeftOut(positions) => StartError::LeftOut(names(positions)),
        };
        self.give_up(error, cx);
        // A start that nobody has typed tries again when something has changed.
        self.wanting = self.is_automatic() && !self.leaving;
    }

    /// Gives the own start up and tells everybody.
    pub(super) fn give_up(&mut self, error: StartError, cx: &mut Context<'_, Self>) {
        self.withdraw(cx);
        if self.told.as_ref() != Some(&error) || !self.is_automatic() {
            self.told = Some(error.clone());
            cx.emit(Event::Refused(error));
        }
    }

    pub(super) fn withdraw(&mut self, cx: &mut Context<'_, Self>) {
        if let Some(start) = self.own_walk() {
            self.forget();
            cx.send_many(&self.others, Message::Withdraw { run: start.run });
        }
    }

    pub(super) fn is_automatic(&self) -> bool {
        self.config.trigger == Trigger::FirstOfList && self.me == 0
    }

    pub(super) fn on_withdraw(&mut self, from: NodeId, run: u64) {
        if let State::Tentative(start) = self.state
            && start.run == run
            && self.ids[usize::from(start.index)] == from
        {
            self.forget();
        }
    }
}

enum Verdict {
    Yes,
    No(Refusal),
    Ignore,
}
