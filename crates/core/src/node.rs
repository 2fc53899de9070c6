//! What a process runs: all protocols composed into one.
//!
//! The node is itself a [`Protocol`]. A child's events are returned to it, and that is how the
//! founding's view reaches the lock and the order.

#[cfg(test)]
mod tests;

use crate::{
    detector::{self, Detector},
    founding::{self, Founding},
    gossip::{self, Gossip},
    id::{Life, Name, NodeId},
    multicast::{self, Multicast},
    planted::Bug,
    protocol::{Context, EffectOf, Input, InputOf, Protocol},
    tokenring::{self, TokenRing},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

/// Settings of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// Its name.
    pub name: Name,
    /// This run of the process.
    pub life: Life,
    /// The detector.
    pub detector: detector::Config,
    /// The group for lock and order, if the node is in one.
    pub group: Option<GroupConfig>,
    /// The gossip, if the node takes part.
    pub gossip: Option<gossip::Config>,
}

/// Settings of a member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupConfig {
    /// How the group comes to be.
    pub founding: founding::Config,
    /// The lock, if the group has it.
    pub lock: Option<tokenring::Config>,
    /// The order, if the group has it.
    pub order: Option<multicast::Config>,
}

/// What nodes send to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Message {
    /// Of the detector.
    Detector(detector::Message),
    /// Of the founding.
    Founding(founding::Message),
    /// Of the lock.
    Lock(tokenring::Message),
    /// Of the order.
    Order(multicast::Message),
    /// Of the gossip.
    Gossip(gossip::Message),
}

/// The timers of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// Of the detector.
    Detector(detector::Timer),
    /// Of the founding.
    Founding(founding::Timer),
    /// Of the lock.
    Lock(tokenring::Timer),
    /// Of the order.
    Order(multicast::Timer),
    /// Of the gossip.
    Gossip(gossip::Timer),
}

/// What the application can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Command {
    /// Found the group from here.
    Start,
    /// Of the lock.
    Lock(tokenring::Command),
    /// Of the order.
    Order(multicast::Command),
    /// Of the gossip.
    Gossip(gossip::Command),
    /// Leave everything in order, answered by [`Event::LeaveDone`].
    Leave,
}

/// What a node reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// A peer's state changed.
    Peer {
        /// Whose.
        peer: NodeId,
        /// What it is now.
        state: detector::State,
    },
    /// Of the founding.
    Founding(founding::Event),
    /// Of the lock.
    Lock(tokenring::Event),
    /// Of the order.
    Order(multicast::Event),
    /// Of the gossip.
    Gossip(gossip::Event),
    /// Everything is handed over: the node may stop.
    LeaveDone,
}

/// What people may look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// The peers and their states.
    pub peers: Vec<(NodeId, detector::State)>,
    /// The founding of the group.
    pub founding: Option<founding::Status>,
    /// The lock.
    pub lock: Option<tokenring::Status>,
    /// The order.
    pub order: Option<multicast::Status>,
    /// The gossip.
    pub gossip: Option<gossip::Status>,
}

/// A child and the scratch space that its effects pass through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Child<C: Protocol> {
    machine: C,
    scratch: Vec<EffectOf<C>>,
    /// What it has reported and the node has to act on.
    events: Vec<C::Event>,
}

/// What a child reports, and the node passes on, in its place among what is sent: who hears that a
/// lock is released hears it before its token is on its way.
trait Report: Into<Event> {
    /// Whether the node acts on it, and passes it on itself if at all.
    fn is_for_node(&self) -> bool {
        false
    }
}

impl<C: Protocol> Child<C>
where
    Message: From<C::Message>,
    Timer: From<C::Timer>,
    C::Event: Report,
{
    fn new(machine: C) -> Self {
        Self { machine, scratch: Vec::new(), events: Vec::new() }
    }

    fn handle(&mut self, input: InputOf<C>, cx: &mut Context<'_, Node>) {
        cx.drive(&mut self.machine, input, &mut self.scratch, |event| {
            if event.is_for_node() {
                self.events.push(event);
                return None;
            }
            Some(event.into())
        });
    }
}

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    id: NodeId,
    detector: Child<Detector>,
    founding: Option<Child<Founding>>,
    lock: Option<Child<TokenRing>>,
    order: Option<Child<Multicast>>,
    gossip: Option<Child<Gossip>>,
    /// Peers with a link, and whether lock and order have been told.
    links: BTreeMap<NodeId, bool>,
    /// Whether the node leaves as soon as the view that it has said yes to is in use.
    leave_later: bool,
    /// The parts that have not left yet, once the node is leaving.
    leaving: Option<BTreeSet<Part>>,
}

/// What takes time to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Lock,
    Order,
}

impl Node {
    /// A node that has not started.
    pub fn new(config: Config) -> Self {
        let (founding, lock, order) = match config.group {
            None => (None, None, None),
            Some(group) => (
                Some(Founding::new(group.founding)),
                group.lock.map(TokenRing::new),
                group.order.map(Multicast::new),
            ),
        };
        Self {
            id: config.name.id(),
            detector: Child::new(Detector::new(config.detector)),
            founding: founding.map(Child::new),
            lock: lock.map(Child::new),
            order: order.map(Child::new),
            gossip: config.gossip.map(Gossip::new).map(Child::new),
            links: BTreeMap::new(),
            leave_later: false,
            leaving: None,
        }
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        Status {
            peers: self.detector.machine.peers(),
            founding: self.founding.as_ref().map(|child| child.machine.status()),
            lock: self.lock.as_ref().map(|child| child.machine.status()),
            order: self.order.as_ref().map(|child| child.machine.status()),
            gossip: self.gossip.as_ref().map(|child| child.machine.status()),
        }
    }

    /// The order, to look at its history.
    pub fn order(&self) -> Option<&Multicast> {
        self.order.as_ref().map(|child| &child.machine)
    }

    /// The lock, to look at it.
    pub fn lock(&self) -> Option<&TokenRing> {
        self.lock.as_ref().map(|child| &child.machine)
    }

    /// The gossip, to look at it.
    pub fn gossip(&self) -> Option<&Gossip> {
        self.gossip.as_ref().map(|child| &child.machine)
    }

    /// Whether the order takes another message now. If not, keep it and ask again after the next
    /// input: that is the back-pressure on the application.
    pub fn accepts_sends(&self) -> bool {
        self.order.as_ref().is_none_or(|child| child.machine.accepts_sends())
    }

    /// Whether the gossip takes another rumor now.
    pub fn accepts_rumors(&self) -> bool {
        self.gossip.as_ref().is_none_or(|child| child.machine.accepts_rumors())
    }
}

impl Protocol for Node {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            Input::Start(record) => self.on_start(record.as_ref(), cx),
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(timer) => self.on_timer(timer, cx),
            Input::Command(command) => self.on_command(command, cx),
            Input::LinkUp(peer) => self.on_link(&Link::Up(peer), cx),
            Input::LinkDown(peer) => self.on_link(&Link::Down(peer), cx),
            // Nothing is appended in this version.
            Input::Appended(_) => {}
        }
        if self.has_events() {
            self.on_events(cx);
        }
    }
}

enum Link {
    Up(NodeId),
    Down(NodeId),
}

impl Link {
    fn input<M, T, C>(&self) -> Input<M, T, C> {
        match self {
            Self::Up(peer) => Input::LinkUp(*peer),
            Self::Down(peer) => Input::LinkDown(*peer),
        }
    }
}

impl Node {
    fn on_start(&mut self, record: Option<&crate::view::Record>, cx: &mut Context<'_, Self>) {
        self.detector.handle(Input::Start(None), cx);
        if let Some(founding) = &mut self.founding {
            founding.handle(Input::Start(record.cloned()), cx);
        }
        if let Some(lock) = &mut self.lock {
            lock.handle(Input::Start(None), cx);
        }
        if let Some(order) = &mut self.order {
            order.handle(Input::Start(None), cx);
        }
        if let Some(gossip) = &mut self.gossip {
            gossip.handle(Input::Start(None), cx);
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        // Who says goodbye is not up first, though it was suspect before.
        let goodbye = matches!(message, Message::Detector(detector::Message::Goodbye));
        if !goodbye && !self.detector.machine.hears_as_ever(from, cx.now()) {
            self.detector.handle(Input::Command(detector::Command::Heard(from)), cx);
        }
        match message {
            Message::Detector(message) => {
                self.detector.handle(Input::Message { from, message }, cx);
            }
            Message::Founding(message) => {
                if let Some(founding) = &mut self.founding {
                    founding.handle(Input::Message { from, message }, cx);
                    self.admit_members(cx);
                }
            }
            Message::Lock(message) => {
                if let Some(lock) =
                    self.lock.as_mut().filter(|_| knows(self.founding.as_ref(), from))
                {
                    lock.handle(Input::Message { from, message }, cx);
                }
            }
            Message::Order(message) => {
                if let Some(order) =
                    self.order.as_mut().filter(|_| knows(self.founding.as_ref(), from))
                {
                    order.handle(Input::Message { from, message }, cx);
                }
            }
            Message::Gossip(message) => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.handle(Input::Message { from, message }, cx);
                }
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Detector(timer) => self.detector.handle(Input::Timer(timer), cx),
            Timer::Founding(timer) => {
                if let Some(founding) = &mut self.founding {
                    founding.handle(Input::Timer(timer), cx);
                }
            }
            Timer::Lock(timer) => {
                if let Some(lock) = &mut self.lock {
                    lock.handle(Input::Timer(timer), cx);
                }
            }
            Timer::Order(timer) => {
                if let Some(order) = &mut self.order {
                    order.handle(Input::Timer(timer), cx);
                }
            }
            Timer::Gossip(timer) => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.handle(Input::Timer(timer), cx);
                }
            }
        }
    }

    fn on_command(&mut self, command: Command, cx: &mut Context<'_, Self>) {
        match command {
            Command::Start => match &mut self.founding {
                Some(founding) => {
                    founding.handle(Input::Command(founding::Command::Start), cx);
                }
                None => cx
                    .emit(Event::Founding(founding::Event::Refused(founding::StartError::NoGroup))),
            },
            Command::Lock(command) => {
                if let Some(lock) = &mut self.lock {
                    lock.handle(Input::Command(command), cx);
                }
            }
            Command::Order(command) => {
                if let Some(order) = &mut self.order {
                    order.handle(Input::Command(command), cx);
                }
            }
            Command::Gossip(command) => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.handle(Input::Command(command), cx);
                }
            }
            Command::Leave => self.on_leave(cx),
        }
    }

    fn on_link(&mut self, link: &Link, cx: &mut Context<'_, Self>) {
        self.detector.handle(link.input(), cx);
        if let Some(founding) = &mut self.founding {
            founding.handle(link.input(), cx);
        }
        if let Some(gossip) = &mut self.gossip {
            gossip.handle(link.input(), cx);
        }
        let (Link::Up(peer) | Link::Down(peer)) = *link;
        let before = match link {
            Link::Up(_) => self.links.insert(peer, false),
            Link::Down(_) => self.links.remove(&peer),
        };
        if before == Some(true) {
            self.tell_members(&Link::Down(peer), cx);
        }
        self.admit_members(cx);
    }

    /// Lock and order hear of a link only once the peer has said that it is active in this view:
    /// another life of a member, which is turned away, is not there for them.
    fn admit_members(&mut self, cx: &mut Context<'_, Self>) {
        let Some(founding) = &self.founding else { return };
        let active =
            |peer: &NodeId| founding.machine.is_active_with(*peer) || cx.has(Bug::LinkBeforeActive);
        let new = |(peer, told): (&NodeId, &bool)| (!told && active(peer)).then_some(*peer);
        let admitted: Vec<NodeId> = self.links.iter().filter_map(new).collect();
        for peer in admitted {
            self.links.insert(peer, true);
            self.tell_members(&Link::Up(peer), cx);
        }
    }

    fn tell_members(&mut self, link: &Link, cx: &mut Context<'_, Self>) {
        if let Some(lock) = &mut self.lock {
            lock.handle(link.input(), cx);
        }
        if let Some(order) = &mut self.order {
            order.handle(link.input(), cx);
        }
    }

    fn on_leave(&mut self, cx: &mut Context<'_, Self>) {
        if self.leaving.is_some() || self.leave_later {
            return;
        }
        if let Some(founding) = &mut self.founding {
            founding.handle(Input::Command(founding::Command::Leave), cx);
            // The others count on this member already: it leaves like one.
            self.leave_later = founding.machine.status().phase == founding::Phase::Active;
        }
        if !self.leave_later {
            self.leave_now(cx);
        }
    }

    fn leave_now(&mut self, cx: &mut Context<'_, Self>) {
        let mut parts = BTreeSet::new();
        if let Some(lock) = &mut self.lock {
            parts.insert(Part::Lock);
            lock.handle(Input::Command(tokenring::Command::Leave), cx);
        }
        if let Some(order) = &mut self.order {
            parts.insert(Part::Order);
            order.handle(Input::Command(multicast::Command::Leave), cx);
        }
        if parts.is_empty() {
            self.finish_leave(cx);
        }
        self.leaving = Some(parts);
    }

    fn finish_leave(&mut self, cx: &mut Context<'_, Self>) {
        self.detector.handle(Input::Command(detector::Command::Leave), cx);
        cx.emit(Event::LeaveDone);
    }

    /// Whether a child has reported something for the node to act on.
    fn has_events(&self) -> bool {
        self.founding.as_ref().is_some_and(|child| !child.events.is_empty())
            || self.lock.as_ref().is_some_and(|child| !child.events.is_empty())
            || self.order.as_ref().is_some_and(|child| !child.events.is_empty())
    }

    /// Acts on what the children have reported, and reports it further up.
    fn on_events(&mut self, cx: &mut Context<'_, Self>) {
        let mut leave_now = false;
        if let Some(founding) = &mut self.founding {
            for event in core::mem::take(&mut founding.events) {
                // Reported before anything is said or done in the view.
                cx.emit(Event::Founding(event.clone()));
                if let founding::Event::Installed { view, founder } = event {
                    install(&mut self.lock, &mut self.order, &view, founder, cx);
                    leave_now = core::mem::take(&mut self.leave_later);
                }
            }
        }
        if leave_now {
            self.leave_now(cx);
        }
        // All that lock and order leave to the node is that they are done.
        let lock = self.lock.as_mut().is_some_and(|lock| lock.events.drain(..).count() > 0);
        let order = self.order.as_mut().is_some_and(|order| order.events.drain(..).count() > 0);
        let parts = [lock.then_some(Part::Lock), order.then_some(Part::Order)];
        let left: Vec<Part> = parts.into_iter().flatten().collect();
        if !left.is_empty() {
            self.on_left(&left, cx);
        }
    }

    fn on_left(&mut self, left: &[Part], cx: &mut Context<'_, Self>) {
        let Some(waiting) = &mut self.leaving else { return };
        let before = waiting.len();
        waiting.retain(|part| !left.contains(part));
        if before > 0 && waiting.is_empty() {
            self.finish_leave(cx);
        }
    }
}

/// Lock and order listen only to members that are known to be active in the same view.
fn knows(founding: Option<&Child<Founding>>, peer: NodeId) -> bool {
    founding.is_some_and(|founding| founding.machine.is_active_with(peer))
}

fn install(
    lock: &mut Option<Child<TokenRing>>,
    order: &mut Option<Child<Multicast>>,
    view: &crate::view::View,
    founder: usize,
    cx: &mut Context<'_, Node>,
) {
    if let Some(lock) = lock {
        let command = tokenring::Command::Install { view: view.clone(), founder };
        lock.handle(Input::Command(command), cx);
    }
    if let Some(order) = order {
        let command = multicast::Command::Install { view: view.clone() };
        order.handle(Input::Command(command), cx);
    }
}

macro_rules! lift {
    ($($variant:ident from $module:ident),*) => {$(
        impl From<$module::Message> for Message {
            fn from(message: $module::Message) -> Self {
                Self::$variant(message)
            }
        }

        impl From<$module::Timer> for Timer {
            fn from(timer: $module::Timer) -> Self {
                Self::$variant(timer)
            }
        }
    )*};
}

lift!(
    Detector from detector,
    Founding from founding,
    Lock from tokenring,
    Order from multicast,
    Gossip from gossip
);

impl Report for detector::Event {}

impl Report for founding::Event {
    fn is_for_node(&self) -> bool {
        matches!(self, Self::Installed { .. })
    }
}

impl Report for tokenring::Event {
    fn is_for_node(&self) -> bool {
        *self == Self::LeaveDone
    }
}

impl Report for multicast::Event {
    fn is_for_node(&self) -> bool {
        *self == Self::LeaveDone
    }
}

impl Report for gossip::Event {}

impl From<detector::Event> for Event {
    fn from(event: detector::Event) -> Self {
        let detector::Event::Changed { peer, state } = event;
        Self::Peer { peer, state }
    }
}

macro_rules! lift_events {
    ($($variant:ident from $module:ident),*) => {$(
        impl From<$module::Event> for Event {
            fn from(event: $module::Event) -> Self {
                Self::$variant(event)
            }
        }
    )*};
}

lift_events!(Founding from founding, Lock from tokenring, Order from multicast, Gossip from gossip);
