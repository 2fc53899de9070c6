//! Messages to bytes.

mod change;

use super::{Hello, VERSION, Welcome, quick, v1};
use bytes::{Bytes, BytesMut};
use change::from_change;
pub(crate) use change::from_record;
use roundelay_core::{
    Life, View, detector, founding, gossip, multicast,
    node::Message,
    tokenring::{self, Mode},
};

/// The number of `messages` in a `Frame`.
const MESSAGES_TAG: u32 = 1;

/// Adds a message to the bytes of a frame: as one entry of `Frame.messages`.
pub(crate) fn encode(message: &Message, frame: &mut BytesMut) {
    if !quick::encode(message, frame) {
        prost::encoding::message::encode(MESSAGES_TAG, &from_message(message), frame);
    }
}

pub(super) fn from_message(message: &Message) -> v1::Message {
    use v1::message::Kind;
    let kind = match message {
        Message::Detector(message) => Kind::Detector(from_detector(*message)),
        Message::Founding(message) => Kind::Founding(from_founding(message)),
        Message::Change(message) => Kind::Change(from_change(message)),
        Message::Lock(message) => Kind::Lock(from_lock(message)),
        Message::Order(message) => Kind::Order(from_order(message)),
        Message::Gossip(message) => Kind::Gossip(from_gossip(message)),
    };
    v1::Message { kind: Some(kind) }
}

pub(crate) fn encode_hello(hello: &Hello) -> v1::Hello {
    v1::Hello {
        version: VERSION,
        name: hello.name.to_string(),
        life: from_life(hello.life),
        callee: hello.callee.to_string(),
        listen: hello.listen.clone(),
    }
}

pub(crate) fn encode_welcome(welcome: &Welcome) -> v1::Welcome {
    v1::Welcome { version: VERSION, name: welcome.name.to_string(), life: from_life(welcome.life) }
}

fn from_life(life: Life) -> Bytes {
    Bytes::copy_from_slice(&life.0.to_be_bytes())
}

fn from_detector(message: detector::Message) -> v1::Detector {
    use v1::detector::Body;
    let body = match message {
        detector::Message::Heartbeat => Body::Heartbeat(v1::Empty {}),
        detector::Message::Goodbye => Body::Goodbye(v1::Empty {}),
    };
    v1::Detector { body: Some(body) }
}

fn from_founding(message: &founding::Message) -> v1::Founding {
    use founding::Message as Core;
    use v1::founding::Body;
    let body = match message {
        Core::Walk { start, digest, path } => Body::Walk(v1::Walk {
            index: u32::from(start.index),
            run: start.run,
            digest: *digest,
            path: path.iter().map(from_step).collect(),
        }),
        Core::Refuse { run, reason } => {
            Body::Refuse(v1::FoundingRefuse { run: *run, reason: Some(from_refusal(reason)) })
        }
        Core::Withdraw { run } => Body::Withdraw(v1::Withdraw { run: *run }),
        Core::Ask { run, nonce } => Body::Ask(v1::Ask { run: *run, nonce: *nonce }),
        Core::Announce { nonce, run, view, founder } => Body::Announce(v1::Announce {
            nonce: *nonce,
            run: *run,
            view: Some(from_view(view)),
            founder: u32::from(*founder),
        }),
        Core::Active { run, answer } => Body::Active(v1::Active { run: *run, answer: *answer }),
    };
    v1::Founding { body: Some(body) }
}

fn from_step(step: &founding::Step) -> v1::Step {
    v1::Step {
        position: u32::from(step.position),
        life: from_life(step.life),
        next: u32::from(step.next),
    }
}

fn from_refusal(refusal: &founding::Refusal) -> v1::founding_refuse::Reason {
    use founding::Refusal;
    use v1::founding_refuse::Reason;
    match refusal {
        Refusal::AlreadyStarted { by } => Reason::AlreadyStarted(u32::from(*by)),
        Refusal::GaveWay { to } => Reason::GaveWay(u32::from(*to)),
        Refusal::OtherList => Reason::OtherList(v1::Empty {}),
        Refusal::Forgotten => Reason::Forgotten(v1::Empty {}),
        Refusal::SharedSuccessor { first, second, next } => {
            Reason::SharedSuccessor(v1::SharedSuccessor {
                first: u32::from(*first),
                second: u32::from(*second),
                next: u32::from(*next),
            })
        }
        Refusal::LeftOut(positions) => {
            let positions = positions.iter().map(|p| u32::from(*p)).collect();
            Reason::LeftOut(v1::Positions { positions })
        }
    }
}

fn from_view(view: &View) -> v1::View {
    let members = view.members.iter().map(|member| v1::Member {
        name: member.name.to_string(),
        life: from_life(member.life),
        incarnation: member.incarnation,
    });
    let mode = match view.mode {
        Mode::Rest => v1::Mode::Rest,
        Mode::Circulate => v1::Mode::Circulate,
    };
    v1::View {
        number: view.number,
        members: members.collect(),
        ring: view.ring.iter().map(|p| u32::from(*p)).collect(),
        mode: mode.into(),
        lease: u64::try_from(view.lease.as_nanos()).unwrap_or(u64::MAX),
    }
}

fn from_lock(message: &tokenring::Message) -> v1::Lock {
    use tokenring::Body as Core;
    use v1::lock::Body;
    let body = match &message.body {
        Core::Pass { number, lock, token } => Body::Pass(v1::Pass {
            number: *number,
            lock: lock.to_string(),
            token: Some(v1::Token {
                sequence: token.sequence,
                hops: token.hops,
                wanted: token.wanted.clone(),
                served: token.served.clone(),
                fresh: token.fresh,
            }),
        }),
        Core::PassAck(received) => Body::PassAck(from_received(received)),
        Core::Request { lock, requester, number, hops } => {
            Body::Request(from_request(lock, *requester, *number, *hops))
        }
        Core::Recorded { lock, number } => {
            Body::Recorded(v1::LockAnswer { lock: lock.to_string(), number: *number })
        }
        Core::Try { lock, requester, number, hops } => {
            Body::Try(from_request(lock, *requester, *number, *hops))
        }
        Core::Busy { lock, number } => {
            Body::Busy(v1::LockAnswer { lock: lock.to_string(), number: *number })
        }
        Core::Stamp { stamp, echo, answer } => {
            Body::Stamp(v1::Stamp { stamp: *stamp, echo: *echo, answer: *answer })
        }
    };
    v1::Lock { view: message.view, body: Some(body) }
}

fn from_received(received: &tokenring::Received) -> v1::Received {
    v1::Received { up_to: received.up_to, also: received.also.clone() }
}

fn from_request(
    lock: &tokenring::LockName,
    requester: u16,
    number: u64,
    hops: u16,
) -> v1::LockRequest {
    v1::LockRequest {
        lock: lock.to_string(),
        requester: u32::from(requester),
        number,
        hops: u32::from(hops),
    }
}

fn from_order(message: &multicast::Message) -> v1::Order {
    use multicast::Body as Core;
    use v1::order::Body;
    let body = match &message.body {
        Core::Data { sequence, time, index, count, payload } => {
            Body::Data(from_data(*sequence, *time, (*index, *count), payload))
        }
        Core::Clock { time, after, received } => {
            Body::Clock(v1::Clock { time: *time, after: *after, received: received.clone() })
        }
        Core::Want { from, to } => Body::Want(v1::OrderWant { from: *from, to: *to }),
        Core::Fetch { sender, from, to } => {
            Body::Fetch(v1::Fetch { sender: u32::from(*sender), from: *from, to: *to })
        }
        Core::Fetched { sender, sequence, time, index, count, payload } => {
            let data = Some(from_data(*sequence, *time, (*index, *count), payload));
            Body::Fetched(v1::Fetched { sender: u32::from(*sender), data })
        }
        Core::Learn { from } => Body::Learn(*from),
        Core::Lesson { from, deliveries, position } => Body::Lesson(v1::Lesson {
            from: *from,
            deliveries: deliveries.iter().map(from_delivery).collect(),
            position: *position,
        }),
    };
    v1::Order { view: message.view, body: Some(body) }
}

fn from_data(sequence: u64, time: u64, (index, count): (u32, u32), payload: &Bytes) -> v1::Data {
    v1::Data { sequence, time, index, count, payload: payload.clone() }
}

fn from_delivery(delivery: &multicast::Delivery) -> v1::Delivery {
    v1::Delivery {
        position: delivery.position,
        time: delivery.time,
        sender: delivery.sender.raw(),
        incarnation: delivery.incarnation,
        sequence: delivery.sequence,
        payload: delivery.payload.clone(),
    }
}

fn from_gossip(message: &gossip::Message) -> v1::Gossip {
    use gossip::Message as Core;
    use v1::gossip::Body;
    let body = match message {
        Core::Neighbor { hash, answer } => {
            Body::Neighbor(v1::Neighbor { hash: *hash, answer: *answer })
        }
        Core::Rumor(rumor) => Body::Rumor(from_rumor(rumor)),
        Core::Prune => Body::Prune(v1::Empty {}),
        Core::Graft => Body::Graft(v1::Empty {}),
        Core::Known { origin, sequence } => {
            Body::Known(v1::Known { origin: Some(from_origin(*origin)), sequence: *sequence })
        }
        Core::Hash(hash) => Body::Hash(*hash),
        Core::Digest { have, answer } => {
            Body::Digest(v1::Digest { have: have.iter().map(from_have).collect(), answer: *answer })
        }
        Core::Want(ranges) => Body::Want(from_ranges(ranges)),
        Core::Forgotten(ranges) => Body::Forgotten(from_ranges(ranges)),
    };
    v1::Gossip { body: Some(body) }
}

fn from_rumor(rumor: &gossip::Rumor) -> v1::Rumor {
    use v1::rumor::Content;
    let content = match &rumor.content {
        gossip::Content::Record { name } => Content::Record(name.to_string()),
        gossip::Content::User(payload) => Content::User(payload.clone()),
    };
    v1::Rumor {
        origin: Some(from_origin(rumor.origin)),
        sequence: rumor.sequence,
        hops: rumor.hops,
        content: Some(content),
    }
}

fn from_origin(origin: gossip::Origin) -> v1::Origin {
    v1::Origin { node: origin.node.raw(), life: from_life(origin.life) }
}

fn from_have(have: &gossip::Have) -> v1::Have {
    v1::Have {
        origin: Some(from_origin(have.origin)),
        up_to: have.up_to,
        beyond: have.beyond.iter().flat_map(|(first, last)| [*first, *last]).collect(),
    }
}

fn from_ranges(ranges: &[gossip::Range]) -> v1::Ranges {
    let ranges = ranges.iter().map(|range| v1::Range {
        origin: Some(from_origin(range.origin)),
        first: range.first,
        last: range.last,
    });
    v1::Ranges { ranges: ranges.collect() }
}
