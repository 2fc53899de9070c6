//! What a process runs: all protocols composed into one.
//!
//! The node is itself a [`Protocol`]. A child's events are returned to it, and that is how a view
//! reaches the lock and the order: see `node/group.rs`.

mod group;
#[cfg(test)]
mod tests;

use crate::{
    change,
    detector::{self, Detector},
    founding,
    gossip::{self, Gossip},
    id::{Life, Name, NodeId},
    multicast::{self, Multicast},
    protocol::{Context, EffectOf, Input, InputOf, Protocol},
    tokenring::{self, TokenRing},
    view::{Saved, View},
};
use alloc::vec::Vec;
use group::Group;

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
    /// How the group comes to be,
    pub founding: founding::Config,
    /// and how it changes.
    pub change: change::Config,
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
    /// Of the view change.
    Change(change::Message),
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
    /// Of the view change.
    Change(change::Timer),
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
    /// A view begins: everything of the one before has been reported.
    View {
        /// The view.
        view: View,
        /// Whether this life was not a member before. (Of view 1 all are.)
        joins: bool,
        /// Messages after `position` may be lost (V5).
        loss: bool,
        /// The position of the last message before it, in the order.
        position: u64,
    },
    /// The group goes on without this life, which does what it can to come back.
    Out {
        /// It has asked for that, and does not.
        left: bool,
    },
    /// Of the view change.
    Change(change::Event),
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
    /// Its view.
    pub change: Option<change::Status>,
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
    group: Option<Group>,
    gossip: Option<Child<Gossip>>,
    leaving: bool,
}

impl Node {
    /// A node that has not started.
    pub fn new(config: Config) -> Self {
        Self {
            id: config.name.id(),
            detector: Child::new(Detector::new(config.detector)),
            group: config.group.map(Group::new),
            gossip: config.gossip.map(Gossip::new).map(Child::new),
            leaving: false,
        }
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let group = self.group.as_ref();
        Status {
            peers: self.detector.machine.peers(),
            founding: group.map(|group| group.founding.machine.status()),
            change: group.map(|group| group.change.machine.status()),
            lock: self.lock().map(TokenRing::status),
            order: self.order().map(Multicast::status),
            gossip: self.gossip().map(Gossip::status),
        }
    }

    /// The view of which this life is a member.
    pub fn view(&self) -> Option<&View> {
        self.group.as_ref()?.change.machine.view()
    }

    /// The order, to look at its history.
    pub fn order(&self) -> Option<&Multicast> {
        Some(&self.group.as_ref()?.order.as_ref()?.machine)
    }

    /// The lock, to look at it.
    pub fn lock(&self) -> Option<&TokenRing> {
        Some(&self.group.as_ref()?.lock.as_ref()?.machine)
    }

    /// The gossip, to look at it.
    pub fn gossip(&self) -> Option<&Gossip> {
        self.gossip.as_ref().map(|child| &child.machine)
    }

    /// Whether the order takes another message now. If not, keep it and ask again after the next
    /// input: that is the back-pressure on the application.
    pub fn accepts_sends(&self) -> bool {
        self.order().is_none_or(Multicast::accepts_sends)
    }

    /// Whether the gossip takes another rumor now.
    pub fn accepts_rumors(&self) -> bool {
        self.gossip().is_none_or(Gossip::accepts_rumors)
    }
}

impl Protocol for Node {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            Input::Start(saved) => self.on_start(saved.map(|saved| *saved), cx),
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(timer) => self.on_timer(timer, cx),
            Input::Command(command) => self.on_command(command, cx),
            Input::LinkUp(peer) => self.on_link(&Link::Up(peer), cx),
            Input::LinkDown(peer) => self.on_link(&Link::Down(peer), cx),
            Input::Appended(number) => {
                if let Some(group) = &mut self.group {
                    group.tell_order(Input::Appended(number), cx);
                }
            }
        }
        let Some(group) = &mut self.group else { return };
        if group.has_events() {
            group.on_events(cx);
            if group.has_left() {
                return self.finish_leave(cx);
            }
        }
        group.raise_ceiling(cx);
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
    fn on_start(&mut self, saved: Option<Saved>, cx: &mut Context<'_, Self>) {
        self.detector.handle(Input::Start(None), cx);
        if let Some(group) = &mut self.group {
            group.on_start(saved, cx);
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
            self.review(from, cx);
        }
        match message {
            Message::Detector(message) => {
                self.detector.handle(Input::Message { from, message }, cx);
                if goodbye {
                    self.review(from, cx);
                }
            }
            Message::Gossip(message) => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.handle(Input::Message { from, message }, cx);
                }
            }
            Message::Founding(message) => {
                if let Some(group) = &mut self.group {
                    group.founding.handle(Input::Message { from, message }, cx);
                    self.review(from, cx);
                }
            }
            Message::Change(message) => {
                if let Some(group) = &mut self.group {
                    group.change.handle(Input::Message { from, message }, cx);
                }
            }
            Message::Lock(message) => {
                if let Some(group) = &mut self.group {
                    group.on_lock_message(from, message, cx);
                }
            }
            Message::Order(message) => {
                if let Some(group) = &mut self.group {
                    group.on_order_message(from, message, cx);
                }
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Detector(timer @ detector::Timer::Tick) => {
                self.detector.handle(Input::Timer(timer), cx);
                self.review_all(cx);
                if let Some(group) = &mut self.group {
                    group.on_beat(cx);
                }
            }
            Timer::Gossip(timer) => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.handle(Input::Timer(timer), cx);
                }
            }
            Timer::Founding(_) | Timer::Change(_) | Timer::Lock(_) | Timer::Order(_) => {
                if let Some(group) = &mut self.group {
                    group.on_timer(timer, cx);
                }
            }
        }
    }

    fn on_command(&mut self, command: Command, cx: &mut Context<'_, Self>) {
        match (command, &mut self.group) {
            (Command::Leave, _) => self.on_leave(cx),
            (Command::Gossip(command), _) => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.handle(Input::Command(command), cx);
                }
            }
            (command, Some(group)) => group.on_command(command, cx),
            (Command::Start, None) => {
                cx.emit(Event::Founding(founding::Event::Refused(founding::StartError::NoGroup)));
            }
            (Command::Lock(_) | Command::Order(_), None) => {}
        }
    }

    fn on_link(&mut self, link: &Link, cx: &mut Context<'_, Self>) {
        self.detector.handle(link.input(), cx);
        if let Some(group) = &mut self.group {
            group.founding.handle(link.input(), cx);
        }
        if let Some(gossip) = &mut self.gossip {
            gossip.handle(link.input(), cx);
        }
        let (Link::Up(peer) | Link::Down(peer)) = *link;
        self.review(peer, cx);
    }

    /// The group hears of a peer only once it has said that it is active in the same group: another
    /// life of a member, which is not, is not there for it.
    fn review(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        if let Some(group) = &mut self.group {
            group.review(peer, self.detector.machine.state(peer), cx);
        }
    }

    fn review_all(&mut self, cx: &mut Context<'_, Self>) {
        let peers = self.detector.machine.peers();
        for (peer, _) in peers {
            self.review(peer, cx);
        }
    }

    fn on_leave(&mut self, cx: &mut Context<'_, Self>) {
        if core::mem::replace(&mut self.leaving, true) {
            return;
        }
        match &mut self.group {
            Some(group) => group.on_leave(cx),
            None => self.finish_leave(cx),
        }
    }

    fn finish_leave(&mut self, cx: &mut Context<'_, Self>) {
        self.detector.handle(Input::Command(detector::Command::Leave), cx);
        cx.emit(Event::LeaveDone);
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
    Change from change,
    Lock from tokenring,
    Order from multicast,
    Gossip from gossip
);

impl Report for detector::Event {}

impl Report for founding::Event {
    fn is_for_node(&self) -> bool {
        matches!(self, Self::Installed { .. } | Self::Outside { .. })
    }
}

impl Report for change::Event {
    fn is_for_node(&self) -> bool {
        !matches!(self, Self::Quorum { .. } | Self::JoinRefused(_))
    }
}

impl Report for tokenring::Event {}

impl Report for multicast::Event {
    fn is_for_node(&self) -> bool {
        matches!(self, Self::Gathered | Self::Learned | Self::Drained)
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

lift_events!(
    Founding from founding,
    Change from change,
    Lock from tokenring,
    Order from multicast,
    Gossip from gossip
);
