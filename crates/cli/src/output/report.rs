//! What can be reported. The events and fields are a contract that scripts rely on.

use super::moves_the_cursor;
use serde::{Serialize, Serializer};
use std::fmt::Write as _;

/// Something that happened, or the answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Report {
    /// The files are read and the node listens. Peers may be absent; commands wait.
    Ready { node: String, listen: String },
    /// A view is in use. `shown` is how to say it to people.
    View {
        number: u64,
        members: Vec<String>,
        #[serde(skip)]
        shown: String,
    },
    /// This node and enough of its view to decide what follows hear each other again, or no
    /// longer; and whom it does not hear.
    Quorum {
        state: QuorumState,
        #[serde(skip)]
        unheard: Vec<String>,
    },
    /// Messages after this position may be lost.
    Loss { after: u64 },
    /// This part of the order has passed, and nobody keeps it.
    Missed { from: u64, to: u64 },
    /// The circulating token arrived.
    Token { view: u64, hop: u64, from: String },
    /// This node has the lock.
    Acquired {
        lock: String,
        fence: u64,
        #[serde(serialize_with = "tenths")]
        waited_ms: f64,
    },
    /// This node has the lock no more.
    Released { lock: String, fence: u64 },
    /// The lock that this node had protects nothing any more.
    Lost { lock: String, fence: u64, reason: String },
    /// A rumor, once per node.
    Rumor(Rumor),
    /// The next message of the order.
    Delivered(Message),
    /// A peer's state changed.
    Peer { name: String, state: PeerState },
    /// Something was refused, or went wrong.
    Error { message: String },

    /// What has begun waits for these peers, which are absent.
    Waiting {
        #[serde(rename = "for")]
        names: Vec<String>,
        #[serde(skip)]
        addresses: Vec<String>,
    },
    /// Answers `ring`.
    Ring { members: Vec<String>, started: bool, next: String },
    /// Answers `status` in tokenring.
    #[serde(rename = "status")]
    RingStatus(RingStatus),
    /// Answers `/status` in gossip.
    #[serde(rename = "status")]
    RumorStatus(RumorStatus),
    /// Answers `/peers`.
    Peers { peers: Vec<PeerLine> },
    /// Answers `/rumors`.
    Rumors { rumors: Vec<Rumor> },
    /// Answers `/clock`.
    Clock(Clock),
    /// Answers `/queue`.
    Queue(Queue),
    /// Answers `/history`.
    History { messages: Vec<Message> },

    /// What the demo has seen so far.
    Progress { seconds: u64, grants: u64, rumors: u64, messages: u64, violations: u64 },
    /// The demo found a promise broken.
    Violation { what: String },
    /// The end of the demo.
    Summary { nodes: usize, grants: u64, rumors: u64, messages: u64, violations: u64 },
    /// A node of the demo has stopped working, after saying and sending so much.
    Rested { grants: u64, rumors: u64, messages: u64 },
}

/// What is not in the order yet, and for whom that waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Queue {
    /// The one that the first message waits for most, and how long it has done so.
    pub(crate) waiting_for: Option<String>,
    #[serde(serialize_with = "tenths_if_any")]
    pub(crate) waited_ms: Option<f64>,
    /// All that it waits for.
    pub(crate) head: Option<HeadWait>,
    pub(crate) messages: Vec<Queued>,
}

/// For whom the first message waits since it is the first: whose clocks must pass its time, and of
/// whom some must have received it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct HeadWait {
    #[serde(serialize_with = "tenths")]
    pub(crate) waited_ms: f64,
    pub(crate) clocks: Vec<String>,
    pub(crate) receipts: Vec<String>,
}

/// A rumor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Rumor {
    pub(crate) origin: String,
    pub(crate) sequence: u64,
    pub(crate) hops: u32,
    pub(crate) text: String,
}

/// A message in the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Message {
    pub(crate) position: u64,
    pub(crate) time: u64,
    pub(crate) sender: String,
    pub(crate) sequence: u64,
    pub(crate) text: String,
}

/// A message that is not in the order yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Queued {
    pub(crate) time: u64,
    pub(crate) sender: String,
    pub(crate) sequence: u64,
    pub(crate) text: String,
}

/// The state of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PeerState {
    /// Linked and heard.
    Up,
    /// Not linked.
    Down,
    /// Linked and silent.
    Suspect,
    /// It said goodbye.
    Left,
}

/// Whether enough are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum QuorumState {
    Lost,
    Regained,
}

/// A peer, as `/peers` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PeerLine {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) state: PeerState,
    /// In gossip: whether rumors are pushed to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pushed: Option<bool>,
}

/// What a peer of the ring knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "facts of their own, each a field for scripts")]
pub(crate) struct RingStatus {
    /// Whether the ring is made.
    pub(crate) started: bool,
    /// The number of the view, if this peer is in it.
    pub(crate) view: Option<u64>,
    /// Whether it hears enough of the others.
    pub(crate) quorum: bool,
    /// Whether the token is here.
    pub(crate) token: bool,
    /// The fence, if the lock is held here.
    pub(crate) fence: Option<u64>,
    /// Whether the lock is wanted here.
    pub(crate) waiting: bool,
    /// The hops of the token when it was last here.
    pub(crate) hop: u64,
    /// Who else wants the lock, in order.
    pub(crate) wanted_by: Vec<String>,
    /// Where the token was passed last.
    pub(crate) passed_to: Option<String>,
    /// Without whom nothing moves.
    pub(crate) waiting_for: Option<String>,
}

/// What a node of the gossip knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RumorStatus {
    pub(crate) neighbors: Vec<String>,
    /// Texts that have not been said yet.
    pub(crate) waiting: usize,
    pub(crate) said: u64,
    pub(crate) heard: u64,
    pub(crate) duplicates: u64,
    pub(crate) repaired: u64,
    pub(crate) missing: u64,
    pub(crate) retained: usize,
    pub(crate) retained_bytes: usize,
}

/// The clocks of the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Clock {
    pub(crate) time: u64,
    pub(crate) position: u64,
    pub(crate) members: Vec<MemberClock>,
}

/// What has been heard of a member's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MemberClock {
    pub(crate) name: String,
    pub(crate) time: u64,
}

impl Report {
    /// One line of JSON that is safe to show on a terminal.
    pub(crate) fn to_json(&self) -> String {
        let json = serde_json::to_string(self).expect("a report has only text keys");
        if !json.chars().any(moves_the_cursor) {
            return json;
        }
        // Outside of its strings the line is ASCII, so this changes how a text is written only.
        let mut safe = String::with_capacity(json.len() + 16);
        for c in json.chars() {
            if moves_the_cursor(c) {
                write!(safe, "\\u{:04x}", u32::from(c)).expect("a string takes everything");
            } else {
                safe.push(c);
            }
        }
        safe
    }
}

impl From<roundelay::PeerState> for PeerState {
    fn from(state: roundelay::PeerState) -> Self {
        match state {
            roundelay::PeerState::Up => Self::Up,
            roundelay::PeerState::Down => Self::Down,
            roundelay::PeerState::Suspect => Self::Suspect,
            roundelay::PeerState::Left => Self::Left,
        }
    }
}

/// One digit after the point is as much as anybody can use.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn tenths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 10.0).round() / 10.0)
}

#[expect(clippy::ref_option, reason = "serde asks for it like this")]
fn tenths_if_any<S: Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => tenths(number, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract() {
        let text = "a \"b\"\u{1b}[2J\u{7f}\u{9b}\u{202e}".to_owned();
        let rumor = Rumor { origin: "p2".into(), sequence: 3, hops: 2, text };
        let delivered =
            Message { position: 9, time: 31, sender: "p2".into(), sequence: 4, text: "x".into() };
        for (report, json) in [
            (
                Report::Ready { node: "p1".into(), listen: "127.0.0.1:7001".into() },
                r#"{"event":"ready","node":"p1","listen":"127.0.0.1:7001"}"#,
            ),
            (
                Report::View { number: 1, members: vec!["p1".into()], shown: "…".into() },
                r#"{"event":"view","number":1,"members":["p1"]}"#,
            ),
            (
                Report::Quorum { state: QuorumState::Lost, unheard: vec!["p3".into()] },
                r#"{"event":"quorum","state":"lost"}"#,
            ),
            (
                Report::Quorum { state: QuorumState::Regained, unheard: Vec::new() },
                r#"{"event":"quorum","state":"regained"}"#,
            ),
            (Report::Loss { after: 41 }, r#"{"event":"loss","after":41}"#),
            (
                Report::Lost { lock: "default".into(), fence: 4, reason: "why".into() },
                r#"{"event":"lost","lock":"default","fence":4,"reason":"why"}"#,
            ),
            (
                Report::Token { view: 1, hop: 17, from: "p1".into() },
                r#"{"event":"token","view":1,"hop":17,"from":"p1"}"#,
            ),
            (
                Report::Acquired { lock: "default".into(), fence: 4, waited_ms: 12.345 },
                r#"{"event":"acquired","lock":"default","fence":4,"waited_ms":12.3}"#,
            ),
            (
                Report::Released { lock: "default".into(), fence: 4 },
                r#"{"event":"released","lock":"default","fence":4}"#,
            ),
            (
                Report::Rumor(rumor),
                r#"{"event":"rumor","origin":"p2","sequence":3,"hops":2,"text":"a \"b\"\u001b[2J\u007f\u009b\u202e"}"#,
            ),
            (
                Report::Delivered(delivered),
                r#"{"event":"delivered","position":9,"time":31,"sender":"p2","sequence":4,"text":"x"}"#,
            ),
            (
                Report::Peer { name: "p3".into(), state: PeerState::Suspect },
                r#"{"event":"peer","name":"p3","state":"suspect"}"#,
            ),
            (
                Report::Queue(Queue {
                    waiting_for: Some("p4".into()),
                    waited_ms: Some(320.0),
                    head: None,
                    messages: Vec::new(),
                }),
                r#"{"event":"queue","waiting_for":"p4","waited_ms":320.0,"head":null,"messages":[]}"#,
            ),
            (Report::Error { message: "no".into() }, r#"{"event":"error","message":"no"}"#),
            (
                Report::Summary { nodes: 5, grants: 1, rumors: 2, messages: 3, violations: 0 },
                r#"{"event":"summary","nodes":5,"grants":1,"rumors":2,"messages":3,"violations":0}"#,
            ),
        ] {
            assert_eq!(report.to_json(), json);
        }
    }
}
