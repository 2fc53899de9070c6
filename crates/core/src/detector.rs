//! The failure detector, far enough to report peers up and down.
//!
//! A closed link is `Down` at once; silence on an open link is `Suspect` after a timeout that
//! adapts to the measured intervals; a peer that said goodbye is `Left`. It may be wrong: nothing
//! that matters for safety listens to it.

use crate::{
    id::NodeId,
    planted::Bug,
    protocol::{Context, Input, InputOf, Protocol},
    time::Time,
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

/// Settings of the detector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// How often a heartbeat goes to each peer whose link is up.
    pub heartbeat: Duration,
    /// The shortest silence that makes a peer suspect.
    pub suspect_min: Duration,
}

/// What detectors say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Message {
    /// "I am here."
    Heartbeat,
    /// "I am leaving: the end of our link means nothing."
    Goodbye,
}

/// The timers of the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

/// The failure detector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detector {
    config: Config,
    peers: BTreeMap<NodeId, Peer>,
    /// When the next tick should come.
    due: Time,
}

/// What is known about one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    state: State,
    link: bool,
    heard: Option<Time>,
    /// Smoothed silence between two messages, and its mean deviation: the estimator of Jacobson
    /// and Karels (1988), with gains 1/8 and 1/4, in nanoseconds.
    gap: u64,
    deviation: u64,
}

impl Detector {
    /// A detector that knows nobody.
    pub fn new(config: Config) -> Self {
        Self { config, peers: BTreeMap::new(), due: Time::ZERO }
    }

    /// The peers heard of, and their states.
    pub fn peers(&self) -> Vec<(NodeId, State)> {
        self.peers.iter().map(|(id, peer)| (*id, peer.state)).collect()
    }

    /// What is known about a peer, if it was ever heard of.
    pub fn state(&self, id: NodeId) -> Option<State> {
        self.peers.get(&id).map(|peer| peer.state)
    }

    fn peer(&mut self, id: NodeId) -> &mut Peer {
        let gap = nanos(self.config.heartbeat);
        self.peers.entry(id).or_insert(Peer {
            state: State::Down,
            link: false,
            heard: None,
            gap,
            deviation: gap / 4,
        })
    }

    /// Something was heard from a peer that is up: the most frequent thing of all, which nobody is
    /// told of. False if there is more to it, and nothing is done: see [`Command::Heard`].
    pub fn hears_as_ever(&mut self, id: NodeId, now: Time) -> bool {
        let gap_max = nanos(self.config.suspect_min);
        let peer = self.peers.get_mut(&id).filter(|peer| peer.state == State::Up);
        peer.map(|peer| peer.hear(now, gap_max)).is_some()
    }

    fn on_heard(&mut self, id: NodeId, cx: &mut Context<'_, Self>) {
        let (now, gap_max) = (cx.now(), nanos(self.config.suspect_min));
        let peer = self.peer(id);
        peer.hear(now, gap_max);
        let stays_suspect = peer.state == State::Suspect && cx.has(Bug::SuspicionStays);
        if (peer.link || cx.has(Bug::UpWithoutLink)) && !stays_suspect {
            change(id, peer, State::Up, cx);
        }
    }

    fn on_link_up(&mut self, id: NodeId, cx: &mut Context<'_, Self>) {
        let now = cx.now();
        let peer = self.peer(id);
        peer.link = true;
        // The handshake was an answer: the peer is there.
        peer.heard = Some(now);
        change(id, peer, State::Up, cx);
    }

    fn on_link_down(&mut self, id: NodeId, cx: &mut Context<'_, Self>) {
        let peer = self.peer(id);
        peer.link = false;
        if peer.state != State::Left || cx.has(Bug::GoodbyeForgotten) {
            change(id, peer, State::Down, cx);
        }
    }

    fn on_goodbye(&mut self, id: NodeId, cx: &mut Context<'_, Self>) {
        let peer = self.peer(id);
        peer.link = false;
        change(id, peer, State::Left, cx);
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) {
        let (now, silence_min) = (cx.now(), nanos(self.config.suspect_min));
        // Who was stopped itself has not listened: the peers are not to blame for that time.
        let asleep = if cx.has(Bug::BlamesOthers) { Duration::ZERO } else { now.since(self.due) };
        for (id, peer) in &mut self.peers {
            if !peer.link {
                continue;
            }
            cx.send(*id, Message::Heartbeat);
            peer.heard = peer.heard.map(|heard| now.min(heard + asleep));
            let silence = peer.heard.map_or(0, |heard| nanos(now.since(heard)));
            // Two gaps: one message may get lost without a suspicion.
            let silence_max = silence_min.max(2 * peer.gap + 4 * peer.deviation);
            if silence > silence_max {
                change(*id, peer, State::Suspect, cx);
            }
        }
        self.tick_later(cx);
    }

    fn tick_later(&mut self, cx: &mut Context<'_, Self>) {
        self.due = cx.now() + self.config.heartbeat;
        cx.set_timer(Timer::Tick, self.config.heartbeat);
    }

    fn on_leave(&mut self, cx: &mut Context<'_, Self>) {
        for (id, peer) in &self.peers {
            if peer.link {
                cx.send(*id, Message::Goodbye);
            }
        }
    }
}

impl Peer {
    fn hear(&mut self, now: Time, gap_max: u64) {
        if let Some(heard) = self.heard.replace(now) {
            self.measure(nanos(now.since(heard)).min(gap_max));
        }
    }

    fn measure(&mut self, gap: u64) {
        let error = gap.abs_diff(self.gap);
        self.gap = self.gap - self.gap / 8 + gap / 8;
        self.deviation = self.deviation - self.deviation / 4 + error / 4;
    }
}

fn change(id: NodeId, peer: &mut Peer, state: State, cx: &mut Context<'_, Detector>) {
    if peer.state != state {
        peer.state = state;
        cx.emit(Event::Changed { peer: id, state });
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Protocol for Detector {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            Input::Start(_) => self.tick_later(cx),
            Input::Message { from: _, message: Message::Heartbeat } | Input::Appended(_) => {}
            Input::Message { from, message: Message::Goodbye } => self.on_goodbye(from, cx),
            Input::Timer(Timer::Tick) => self.on_tick(cx),
            Input::Command(Command::Heard(peer)) => self.on_heard(peer, cx),
            Input::Command(Command::Leave) => self.on_leave(cx),
            Input::LinkUp(peer) => self.on_link_up(peer, cx),
            Input::LinkDown(peer) => self.on_link_down(peer, cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Effect, Rng};
    use rand_core::SeedableRng as _;

    const P: NodeId = NodeId::from_raw(7);

    fn detector() -> Detector {
        Detector::new(Config {
            heartbeat: Duration::from_secs(1),
            suspect_min: Duration::from_secs(3),
        })
    }

    /// The changes that `input` at `seconds` brings about.
    fn states(d: &mut Detector, seconds: u64, input: InputOf<Detector>) -> Vec<State> {
        let (mut rng, mut effects) = (Rng::seed_from_u64(0), Vec::new());
        let now = Time::from_nanos(seconds * 1_000_000_000);
        d.handle(input, &mut Context::new(now, &mut rng, &mut effects));
        let change = |effect| match effect {
            Effect::Emit(Event::Changed { peer: P, state }) => Some(state),
            _ => None,
        };
        effects.into_iter().filter_map(change).collect()
    }

    #[test]
    fn a_closed_link_is_down_at_once_and_told_once() {
        let mut d = detector();
        assert_eq!(states(&mut d, 0, Input::LinkUp(P)), [State::Up]);
        assert_eq!(states(&mut d, 1, Input::LinkDown(P)), [State::Down]);
        assert_eq!(states(&mut d, 2, Input::LinkDown(P)), []);
        // Late messages of the dead link change nothing.
        assert_eq!(states(&mut d, 2, Input::Command(Command::Heard(P))), []);
    }

    #[test]
    fn silence_is_suspicious_and_any_message_clears_it() {
        let mut d = detector();
        states(&mut d, 0, Input::Start(None));
        states(&mut d, 0, Input::LinkUp(P));
        for second in 1..=3 {
            assert_eq!(states(&mut d, second, Input::Timer(Timer::Tick)), []);
        }
        assert_eq!(states(&mut d, 4, Input::Timer(Timer::Tick)), [State::Suspect]);
        assert_eq!(states(&mut d, 5, Input::Command(Command::Heard(P))), [State::Up]);
    }

    #[test]
    fn the_timeout_follows_the_measured_gaps() {
        let mut d = detector();
        states(&mut d, 0, Input::Start(None));
        states(&mut d, 0, Input::LinkUp(P));
        for second in 1..=60 {
            states(&mut d, second, Input::Timer(Timer::Tick));
            if second % 3 == 0 {
                states(&mut d, second, Input::Command(Command::Heard(P)));
            }
        }
        // Gaps of three seconds are this peer's habit: four are not yet suspicious.
        for second in 61..=64 {
            assert_eq!(states(&mut d, second, Input::Timer(Timer::Tick)), []);
        }
        let later = (65..80).flat_map(|s| states(&mut d, s, Input::Timer(Timer::Tick)));
        assert_eq!(later.collect::<Vec<_>>(), [State::Suspect]);
    }

    #[test]
    fn who_was_stopped_itself_does_not_blame_the_others() {
        let mut d = detector();
        states(&mut d, 0, Input::Start(None));
        states(&mut d, 0, Input::LinkUp(P));
        states(&mut d, 1, Input::Timer(Timer::Tick));
        assert_eq!(states(&mut d, 60, Input::Timer(Timer::Tick)), []);
        let later = (61..70).flat_map(|s| states(&mut d, s, Input::Timer(Timer::Tick)));
        assert_eq!(later.collect::<Vec<_>>(), [State::Suspect]);
    }

    #[test]
    fn who_said_goodbye_is_not_reported_down() {
        let mut d = detector();
        states(&mut d, 0, Input::LinkUp(P));
        let goodbye = Input::Message { from: P, message: Message::Goodbye };
        assert_eq!(states(&mut d, 1, goodbye), [State::Left]);
        assert_eq!(states(&mut d, 1, Input::LinkDown(P)), []);
        // Started again, it is up again.
        assert_eq!(states(&mut d, 2, Input::LinkUp(P)), [State::Up]);
    }
}
