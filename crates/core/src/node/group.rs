//! A member of a group: founding and view change over lock and order.
//!
//! What one of them reports, and another has to act on, passes through here, one event at a time:
//! a decided view reaches the lock and the order, and what they know reaches the next decision.

use super::{Child, Command, Event, GroupConfig, Node, Timer};
use crate::{
    change::{self, ViewChange},
    detector,
    founding::{self, Founding},
    id::NodeId,
    multicast::{self, Multicast},
    planted::Bug,
    protocol::{Context, Input},
    tokenring::{self, TokenRing},
    view::{POSITIONS_AHEAD, Record, Saved, Value},
};
use alloc::{boxed::Box, collections::BTreeSet, vec, vec::Vec};

type Cx<'a> = Context<'a, Node>;

/// A member of a group, or one that is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) founding: Child<Founding>,
    pub(super) change: Child<ViewChange>,
    pub(super) lock: Option<Child<TokenRing>>,
    pub(super) order: Option<Child<Multicast>>,
    /// The peers that are up and active in the same group.
    trusted: BTreeSet<NodeId>,
    leaving: Leaving,
    /// At this position of the order the ceiling is raised (V5).
    raise_at: u64,
}

/// How far this node is with leaving the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Leaving {
    No,
    /// As soon as the view that it has said yes to is in use: the others count on it.
    Later,
    /// What was sent here gets its places.
    Draining,
    /// The others agree on a view without it.
    Asking,
    /// It is left, which is still to be said,
    Done,
    /// and has been said.
    Left,
}

impl Group {
    pub(super) fn new(config: GroupConfig) -> Self {
        Self {
            founding: Child::new(Founding::new(config.founding)),
            change: Child::new(ViewChange::new(config.change)),
            lock: config.lock.map(TokenRing::new).map(Child::new),
            order: config.order.map(Multicast::new).map(Child::new),
            trusted: BTreeSet::new(),
            leaving: Leaving::No,
            raise_at: u64::MAX,
        }
    }

    /// True once: when the group has been left.
    pub(super) fn has_left(&mut self) -> bool {
        let done = self.leaving == Leaving::Done;
        if done {
            self.leaving = Leaving::Left;
        }
        done
    }

    // ---- Inputs ----

    pub(super) fn on_start(&mut self, saved: Option<Saved>, cx: &mut Cx<'_>) {
        let record = saved.as_ref().map(|saved| saved.record.clone());
        let alone = || record.clone().map(|record| Box::new(record.into()));
        self.founding.handle(Input::Start(alone()), cx);
        self.tell_lock(Input::Start(None), cx);
        self.tell_order(Input::Start(saved.map(Box::new)), cx);
        if let Some(record) = record.as_ref().filter(|record| !record.is_blank()) {
            self.remember(record, cx);
        }
        self.change.handle(Input::Start(alone()), cx);
    }

    /// What is left of the order is reported with the first promise (T9).
    fn remember(&mut self, record: &Record, cx: &mut Cx<'_>) {
        let Value { view, order: cut, .. } = record.installed.clone();
        self.tell_order(Input::Command(multicast::Command::Restore { view, cut }), cx);
        if let Some(report) = self.order.as_ref().and_then(|order| order.machine.report()) {
            self.change.handle(Input::Command(change::Command::Remember(report)), cx);
        }
    }

    pub(super) fn on_timer(&mut self, timer: Timer, cx: &mut Cx<'_>) {
        match timer {
            Timer::Founding(timer) => self.founding.handle(Input::Timer(timer), cx),
            Timer::Change(timer) => self.change.handle(Input::Timer(timer), cx),
            Timer::Lock(timer) => self.tell_lock(Input::Timer(timer), cx),
            Timer::Order(timer) => self.tell_order(Input::Timer(timer), cx),
            Timer::Detector(_) | Timer::Gossip(_) => {}
        }
    }

    pub(super) fn on_command(&mut self, command: Command, cx: &mut Cx<'_>) {
        match command {
            Command::Start => {
                self.founding.handle(Input::Command(founding::Command::Start), cx);
            }
            Command::Lock(command) => self.tell_lock(Input::Command(command), cx),
            Command::Order(command) => self.tell_order(Input::Command(command), cx),
            Command::Gossip(_) | Command::Leave => {}
        }
    }

    /// A heartbeat is due: what each part adds to it leaves in one frame.
    pub(super) fn on_beat(&mut self, cx: &mut Cx<'_>) {
        self.change.handle(Input::Command(change::Command::Beat), cx);
        self.tell_lock(Input::Command(tokenring::Command::Beat), cx);
    }

    pub(super) fn on_lock_message(
        &mut self,
        from: NodeId,
        message: tokenring::Message,
        cx: &mut Cx<'_>,
    ) {
        if self.knows(from) {
            self.note_stray(from, message.view, cx);
            self.tell_lock(Input::Message { from, message }, cx);
        }
    }

    pub(super) fn on_order_message(
        &mut self,
        from: NodeId,
        message: multicast::Message,
        cx: &mut Cx<'_>,
    ) {
        use multicast::Body;
        match message.body {
            // A joiner is not active yet.
            Body::Learn { .. } => {}
            _ if !self.knows(from) => return,
            Body::Lesson { .. } | Body::Fetch { .. } | Body::Fetched { .. } => {}
            _ => self.note_stray(from, message.view, cx),
        }
        self.tell_order(Input::Message { from, message }, cx);
    }

    /// Lock and order listen only to nodes that are known to be active in the same group.
    fn knows(&self, peer: NodeId) -> bool {
        self.founding.machine.is_active_with(peer)
    }

    /// Who speaks in another view, or in one that is frozen here, must hear of it (V1, V10).
    fn note_stray(&mut self, peer: NodeId, view: u64, cx: &mut Cx<'_>) {
        if !self.change.machine.is_open(view) {
            self.change.handle(Input::Command(change::Command::Stray { peer, view }), cx);
        }
    }

    /// A peer is up or not, active or not: tells who counts on it, if that is news.
    pub(super) fn review(&mut self, peer: NodeId, state: Option<detector::State>, cx: &mut Cx<'_>) {
        let active = self.knows(peer) || cx.has(Bug::LinkBeforeActive);
        let trusted = active && state == Some(detector::State::Up);
        if trusted == self.trusted.contains(&peer) {
            return;
        }
        if trusted {
            self.trusted.insert(peer);
            self.change.handle(Input::Command(change::Command::Trust(peer)), cx);
            self.tell_lock(Input::LinkUp(peer), cx);
            self.tell_order(Input::LinkUp(peer), cx);
        } else {
            self.trusted.remove(&peer);
            let link = !matches!(state, Some(detector::State::Suspect | detector::State::Left));
            self.change.handle(Input::Command(change::Command::Suspect { peer, link }), cx);
            self.tell_lock(Input::LinkDown(peer), cx);
            self.tell_order(Input::LinkDown(peer), cx);
        }
        if self.change.machine.is_outside() {
            self.learn(cx);
        }
    }

    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>) {
        self.founding.handle(Input::Command(founding::Command::Leave), cx);
        // The others count on this member already: it leaves like one.
        let active = self.founding.machine.status().phase == founding::Phase::Active;
        self.leaving = if active { Leaving::Later } else { Leaving::Draining };
        if !active {
            self.drain(cx);
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        self.leaving = Leaving::Draining;
        self.tell_lock(Input::Command(tokenring::Command::Leave), cx);
        if self.order.is_some() && self.change.machine.view().is_some() {
            self.tell_order(Input::Command(multicast::Command::Leave), cx);
        } else {
            self.tell_order(Input::Command(multicast::Command::Leave), cx);
            self.ask_to_leave(cx);
        }
    }

    fn ask_to_leave(&mut self, cx: &mut Cx<'_>) {
        if self.leaving == Leaving::Draining {
            self.leaving = Leaving::Asking;
            self.change.handle(Input::Command(change::Command::Leave), cx);
        }
    }

    /// Long before positions reach the ceiling that is saved, it is raised (V5).
    pub(super) fn raise_ceiling(&mut self, cx: &mut Cx<'_>) {
        let Some(position) = self.order.as_ref().map(|order| order.machine.position()) else {
            return;
        };
        if position >= self.raise_at {
            self.raise_at = position + POSITIONS_AHEAD / 2;
            self.change.handle(Input::Command(change::Command::Raise { position }), cx);
        }
    }

    // ---- Events ----

    /// Whether a child has reported something for the node to act on.
    pub(super) fn has_events(&self) -> bool {
        !self.founding.events.is_empty()
            || !self.change.events.is_empty()
            || self.order.as_ref().is_some_and(|order| !order.events.is_empty())
    }

    /// Acts on what the children have reported: those of the view change first, in their order.
    pub(super) fn on_events(&mut self, cx: &mut Cx<'_>) {
        while self.has_events() {
            if !self.change.events.is_empty() {
                let event = self.change.events.remove(0);
                self.on_change_event(event, cx);
            } else if !self.founding.events.is_empty() {
                let event = self.founding.events.remove(0);
                self.on_founding_event(event, cx);
            } else if let Some(order) = &mut self.order {
                let event = order.events.remove(0);
                self.on_order_event(&event, cx);
            }
        }
    }

    fn on_founding_event(&mut self, event: founding::Event, cx: &mut Cx<'_>) {
        match event {
            founding::Event::Installed { run, value } => {
                let command = change::Command::Found { cluster: run, value };
                self.change.handle(Input::Command(command), cx);
            }
            founding::Event::Outside { run } => {
                let command = change::Command::Join { cluster: run };
                self.change.handle(Input::Command(command), cx);
                cx.emit(Event::Out { left: false });
                self.learn(cx);
            }
            founding::Event::WaitingFor(_) | founding::Event::Refused(_) => {}
        }
    }

    fn on_change_event(&mut self, event: change::Event, cx: &mut Cx<'_>) {
        match event {
            change::Event::Restored { value } => {
                let Value { view, order: cut, .. } = *value;
                let command = multicast::Command::Restore { view, cut };
                self.tell_order(Input::Command(command), cx);
                // Who was outside is one of the acceptors: the others must hear it (V6).
                if !cx.has(Bug::RestoredUnheard) {
                    self.founding.handle(Input::Command(founding::Command::Adopt), cx);
                }
            }
            change::Event::Wedged => self.on_wedged(cx),
            change::Event::Gather { cut, holders, insists } => {
                if self.order.is_none() {
                    return self.change.handle(Input::Command(change::Command::Gathered), cx);
                }
                let command = multicast::Command::Gather { cut, holders, insists };
                self.tell_order(Input::Command(command), cx);
            }
            change::Event::Installed { value, joins } => self.on_installed(*value, joins, cx),
            change::Event::Out { left } => {
                self.tell_lock(Input::Command(tokenring::Command::Out), cx);
                self.tell_order(Input::Command(multicast::Command::Out), cx);
                if left || self.leaving == Leaving::No {
                    cx.emit(Event::Out { left });
                }
                if left {
                    self.leaving = Leaving::Done;
                } else if self.leaving == Leaving::No {
                    self.learn(cx);
                } else {
                    self.change.handle(Input::Command(change::Command::Leave), cx);
                }
            }
            change::Event::Quorum { .. } | change::Event::JoinRefused(_) => {}
        }
    }

    /// V2: freezes lock and order, and reports what they know. A group without one of them is one
    /// in which nobody uses it.
    fn on_wedged(&mut self, cx: &mut Cx<'_>) {
        self.tell_lock(Input::Command(tokenring::Command::Wedge), cx);
        self.tell_order(Input::Command(multicast::Command::Wedge), cx);
        let members = self.change.machine.view().map_or(0, crate::view::View::len);
        let order = self.order.as_ref().map_or_else(
            || Some(multicast::Report { received: vec![0; members], clock: 0 }),
            |order| order.machine.report(),
        );
        let lock = self.lock.as_ref().map_or_else(
            || {
                let received = vec![tokenring::Received::default(); members];
                tokenring::Report { received, ..tokenring::Report::default() }
            },
            |lock| lock.machine.report(),
        );
        let lock = Some(lock.into());
        self.change.handle(Input::Command(change::Command::Report { order, lock }), cx);
    }

    fn on_installed(&mut self, value: Value, joins: bool, cx: &mut Cx<'_>) {
        let Value { view, order: cut, lock: placement, loss } = value;
        if !joins && view.number > 1 {
            self.tell_order(
                Input::Command(multicast::Command::Close { cut: cut.clone().into() }),
                cx,
            );
        }
        self.raise_at = cut.position + POSITIONS_AHEAD / 2;
        // Reported before anything is said or done in it.
        cx.emit(Event::View { view: view.clone(), joins, loss, position: cut.position });
        if joins {
            self.founding.handle(Input::Command(founding::Command::Adopt), cx);
        }
        let command = tokenring::Command::Install { view: view.clone(), placement, joins };
        self.tell_lock(Input::Command(command), cx);
        self.tell_order(Input::Command(multicast::Command::Install { view, cut: cut.into() }), cx);
        if self.leaving == Leaving::Later {
            self.drain(cx);
        }
    }

    fn on_order_event(&mut self, event: &multicast::Event, cx: &mut Cx<'_>) {
        let command = match event {
            multicast::Event::Gathered => change::Command::Gathered,
            multicast::Event::Learned => change::Command::Ready,
            multicast::Event::Drained => return self.ask_to_leave(cx),
            _ => return,
        };
        self.change.handle(Input::Command(command), cx);
    }

    /// Who is outside catches up with the order, and then asks to be taken in.
    fn learn(&mut self, cx: &mut Cx<'_>) {
        if self.leaving != Leaving::No {
            return;
        }
        if self.order.is_none() {
            return self.change.handle(Input::Command(change::Command::Ready), cx);
        }
        let teachers: Vec<NodeId> = self.trusted.iter().copied().collect();
        self.tell_order(Input::Command(multicast::Command::Learn { teachers }), cx);
    }

    fn tell_lock(&mut self, input: crate::InputOf<TokenRing>, cx: &mut Cx<'_>) {
        if let Some(lock) = &mut self.lock {
            lock.handle(input, cx);
        }
    }

    pub(super) fn tell_order(&mut self, input: crate::InputOf<Multicast>, cx: &mut Cx<'_>) {
        if let Some(order) = &mut self.order {
            order.handle(input, cx);
        }
    }
}
