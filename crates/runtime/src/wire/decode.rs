//! Bytes to messages, and nothing that is not one.

mod change;

use super::{Hello, LEASE_MAX, MESSAGE_BYTES_MAX, Part, Welcome, WireError, quick, v1};
use bytes::{Bytes, BytesMut};
use change::to_change;
pub(crate) use change::to_record;
use prost::Message as _;
use roundelay_core::{
    Life, Member, Name, NodeId, View, detector, founding, gossip, multicast,
    node::Message,
    tokenring::{self, LockName, Mode},
    view::MEMBERS_MAX,
};
use std::time::Duration;

/// Longest address in a Hello, in bytes: a DNS name and a port.
const ADDRESS_BYTES_MAX: usize = 262;

/// Passes beyond a gap that one acknowledgement names at most: the window of a link.
const PASSES_MAX: usize = 4096;

/// Payloads below this size are copied out of their frame, in bytes.
const COPIED_BELOW: usize = 1024;

/// How much of them shares one piece of memory, in bytes: what one that is kept for long may cost.
const PACK_BYTES: usize = 4096;

type Checked<T> = Result<T, WireError>;
/// None is a kind of message that this version does not know: it is skipped.
type Known<T> = Result<Option<T>, WireError>;

/// What bytes of a frame say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A message.
    Message(Message),
    /// A piece of one.
    Part(Part),
    /// Something that only a newer version understands.
    Unknown,
}

/// What these bytes of a frame say.
pub(crate) fn decode(bytes: Bytes, packing: &mut Packing) -> Checked<Decoded> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLarge(bytes.len()));
    }
    if let Some(message) = quick::decode(&bytes, packing) {
        return Ok(Decoded::Message(message));
    }
    let message = v1::Message::decode(bytes)?;
    if let Some(v1::message::Kind::Part(part)) = message.kind {
        return Ok(Decoded::Part(part.try_into()?));
    }
    let message = from_generated(message, packing)?;
    Ok(message.map_or(Decoded::Unknown, Decoded::Message))
}

/// The message that has come in parts, or none if a newer version has said something unknown.
pub(crate) fn decode_whole(bytes: Bytes, packing: &mut Packing) -> Known<Message> {
    from_generated(v1::Message::decode(bytes)?, packing)
}

pub(super) fn from_generated(message: v1::Message, packing: &mut Packing) -> Known<Message> {
    use v1::message::Kind;
    let Some(kind) = message.kind else { return Ok(None) };
    Ok(match kind {
        Kind::Detector(message) => to_detector(message).map(Message::Detector),
        Kind::Founding(message) => to_founding(message)?.map(Message::Founding),
        Kind::Change(message) => to_change(message)?.map(Message::Change),
        Kind::Lock(message) => to_lock(message)?.map(Message::Lock),
        Kind::Order(message) => to_order(message, packing)?.map(Message::Order),
        Kind::Gossip(message) => to_gossip(message, packing)?.map(Message::Gossip),
        // There are no parts of parts.
        Kind::Part(_) => return Err(WireError::Field("part")),
    })
}

pub(crate) fn decode_hello(hello: v1::Hello) -> Checked<Hello> {
    check(hello.listen.len() <= ADDRESS_BYTES_MAX, "address")?;
    check(!hello.listen.chars().any(|c| c.is_control() || c.is_whitespace()), "address")?;
    Ok(Hello {
        name: to_name(&hello.name)?,
        life: to_life(&hello.life)?,
        callee: to_name(&hello.callee)?,
        listen: hello.listen,
    })
}

pub(crate) fn decode_welcome(welcome: &v1::Welcome) -> Checked<Welcome> {
    Ok(Welcome { name: to_name(&welcome.name)?, life: to_life(&welcome.life)? })
}

fn check(holds: bool, field: &'static str) -> Checked<()> {
    if holds { Ok(()) } else { Err(WireError::Field(field)) }
}

fn required<T>(field: Option<T>, name: &'static str) -> Checked<T> {
    field.ok_or(WireError::Field(name))
}

fn to_name(name: &str) -> Checked<Name> {
    Name::new(name).map_err(|_| WireError::Field("name"))
}

fn to_life(life: &[u8]) -> Checked<Life> {
    let bytes = life.try_into().map_err(|_| WireError::Field("life"))?;
    Ok(Life(u128::from_be_bytes(bytes)))
}

fn to_lock_name(lock: &str) -> Checked<LockName> {
    LockName::new(lock).ok_or(WireError::Field("lock name"))
}

/// A position in a view.
fn to_position(position: u32) -> Checked<u16> {
    let fits = u16::try_from(position).ok().filter(|p| usize::from(*p) < MEMBERS_MAX);
    fits.ok_or(WireError::Field("position"))
}

/// Where small payloads are kept, side by side, and the last lock's name.
///
/// A payload is a part of the frame that it came in, and would keep all of that in memory for as
/// long as it is kept itself. A small one is worth a copy, though not an allocation of its own.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    packed: BytesMut,
    /// The next message is likely to speak of the same lock.
    lock: Option<LockName>,
}

impl Packing {
    pub(super) fn lock_name(&mut self, text: &str) -> Checked<LockName> {
        if let Some(last) = self.lock.as_ref().filter(|last| last.as_str() == text) {
            return Ok(last.clone());
        }
        let name = to_lock_name(text)?;
        Ok(self.lock.insert(name).clone())
    }

    /// A payload that is a part of `whole`.
    pub(super) fn pack(&mut self, whole: &Bytes, payload: &[u8]) -> Bytes {
        if payload.len() >= COPIED_BELOW {
            return whole.slice_ref(payload);
        }
        if self.packed.capacity() < payload.len() {
            self.packed = BytesMut::with_capacity(PACK_BYTES);
        }
        self.packed.extend_from_slice(payload);
        self.packed.split().freeze()
    }
}

/// One number per member.
fn to_vector(vector: Vec<u64>) -> Checked<Vec<u64>> {
    check(vector.len() <= MEMBERS_MAX, "vector").map(|()| vector)
}

fn to_detector(message: v1::Detector) -> Option<detector::Message> {
    use v1::detector::Body;
    Some(match message.body? {
        Body::Heartbeat(_) => detector::Message::Heartbeat,
        Body::Goodbye(_) => detector::Message::Goodbye,
    })
}

fn to_founding(message: v1::Founding) -> Known<founding::Message> {
    use founding::Message as Core;
    use v1::founding::Body;
    let Some(body) = message.body else { return Ok(None) };
    Ok(Some(match body {
        Body::Walk(walk) => {
            check(walk.path.len() <= MEMBERS_MAX, "path")?;
            Core::Walk {
                start: founding::Start { index: to_position(walk.index)?, run: walk.run },
                digest: walk.digest,
                path: walk.path.iter().map(to_step).collect::<Checked<_>>()?,
            }
        }
        Body::Refuse(refuse) => match refuse.reason {
            Some(reason) => Core::Refuse { run: refuse.run, reason: to_refusal(reason)? },
            None => return Ok(None),
        },
        Body::Withdraw(withdraw) => Core::Withdraw { run: withdraw.run },
        Body::Ask(ask) => Core::Ask { run: ask.run, nonce: ask.nonce },
        Body::Announce(announce) => {
            let Some(view) = to_view(required(announce.view, "view")?)? else { return Ok(None) };
            check(view.number > 0, "view number")?;
            let founder = to_position(announce.founder)?;
            check(usize::from(founder) < view.len(), "founder")?;
            Core::Announce { nonce: announce.nonce, run: announce.run, view, founder }
        }
        Body::Active(active) => Core::Active { run: active.run, answer: active.answer },
    }))
}

fn to_step(step: &v1::Step) -> Checked<founding::Step> {
    Ok(founding::Step {
        position: to_position(step.position)?,
        life: to_life(&step.life)?,
        next: to_position(step.next)?,
    })
}

fn to_refusal(reason: v1::founding_refuse::Reason) -> Checked<founding::Refusal> {
    use founding::Refusal;
    use v1::founding_refuse::Reason;
    Ok(match reason {
        Reason::AlreadyStarted(by) => Refusal::AlreadyStarted { by: to_position(by)? },
        Reason::GaveWay(to) => Refusal::GaveWay { to: to_position(to)? },
        Reason::OtherList(_) => Refusal::OtherList,
        Reason::Forgotten(_) => Refusal::Forgotten,
        Reason::SharedSuccessor(shared) => Refusal::SharedSuccessor {
            first: to_position(shared.first)?,
            second: to_position(shared.second)?,
            next: to_position(shared.next)?,
        },
        Reason::LeftOut(out) => {
            check(out.positions.len() <= MEMBERS_MAX, "positions")?;
            let positions = out.positions.into_iter().map(to_position);
            Refusal::LeftOut(positions.collect::<Checked<_>>()?)
        }
    })
}

fn to_view(view: v1::View) -> Known<View> {
    let Ok(mode) = v1::Mode::try_from(view.mode) else { return Ok(None) };
    check((1..=MEMBERS_MAX).contains(&view.members.len()), "number of members")?;
    let members = view.members.iter().map(to_member).collect::<Checked<Vec<_>>>()?;
    let mut ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    check(ids.windows(2).all(|pair| pair[0] != pair[1]), "list of members")?;

    check(view.ring.len() == members.len() && view.ring[0] == 0, "ring")?;
    let mut passed = [false; MEMBERS_MAX];
    let mut ring = Vec::with_capacity(members.len());
    for position in view.ring {
        let position = to_position(position)?;
        let at = usize::from(position);
        check(at < members.len() && !std::mem::replace(&mut passed[at], true), "ring")?;
        ring.push(position);
    }
    let mode = match mode {
        v1::Mode::Rest => Mode::Rest,
        v1::Mode::Circulate => Mode::Circulate,
    };
    let lease = Duration::from_nanos(view.lease);
    check(!lease.is_zero() && lease <= LEASE_MAX, "lease")?;
    let (members, ring) = (members.into(), ring.into());
    Ok(Some(View { number: view.number, members, ring, mode, lease }))
}

fn to_member(member: &v1::Member) -> Checked<Member> {
    let name = to_name(&member.name)?;
    Ok(Member {
        id: name.id(),
        name,
        life: to_life(&member.life)?,
        incarnation: member.incarnation,
    })
}

fn to_lock(message: v1::Lock) -> Known<tokenring::Message> {
    use tokenring::Body as Core;
    use v1::lock::Body;
    let Some(body) = message.body else { return Ok(None) };
    let body = match body {
        Body::Pass(pass) => Core::Pass {
            number: pass.number,
            lock: to_lock_name(&pass.lock)?,
            token: to_token(required(pass.token, "token")?)?,
        },
        Body::PassAck(received) => Core::PassAck(to_received(received)?),
        Body::Request(asked) => {
            let (lock, requester, number, hops) = to_request(&asked)?;
            Core::Request { lock, requester, number, hops }
        }
        Body::Recorded(answer) => {
            Core::Recorded { lock: to_lock_name(&answer.lock)?, number: answer.number }
        }
        Body::Try(asked) => {
            let (lock, requester, number, hops) = to_request(&asked)?;
            Core::Try { lock, requester, number, hops }
        }
        Body::Busy(answer) => {
            Core::Busy { lock: to_lock_name(&answer.lock)?, number: answer.number }
        }
        Body::Stamp(v1::Stamp { stamp, echo, answer }) => Core::Stamp { stamp, echo, answer },
    };
    Ok(Some(tokenring::Message { view: message.view, body }))
}

fn to_received(received: v1::Received) -> Checked<tokenring::Received> {
    let v1::Received { up_to, also } = received;
    check(also.len() <= PASSES_MAX, "acknowledgement")?;
    check(also.windows(2).all(|pair| pair[0] < pair[1]), "acknowledgement")?;
    check(also.first().is_none_or(|first| *first > up_to), "acknowledgement")?;
    Ok(tokenring::Received { up_to, also })
}

fn to_token(token: v1::Token) -> Checked<tokenring::Token> {
    check(token.wanted.len() == token.served.len(), "token")?;
    Ok(tokenring::Token {
        sequence: token.sequence,
        hops: token.hops,
        wanted: to_vector(token.wanted)?,
        served: to_vector(token.served)?,
        fresh: token.fresh,
    })
}

fn to_request(request: &v1::LockRequest) -> Checked<(LockName, u16, u64, u16)> {
    let hops = u16::try_from(request.hops).map_err(|_| WireError::Field("number of hops"))?;
    let requester = to_position(request.requester)?;
    Ok((to_lock_name(&request.lock)?, requester, request.number, hops))
}

fn to_order(message: v1::Order, packing: &mut Packing) -> Known<multicast::Message> {
    use multicast::Body as Core;
    use v1::order::Body;
    let Some(body) = message.body else { return Ok(None) };
    let body = match body {
        Body::Data(data) => {
            check(data.index < data.count, "piece")?;
            Core::Data {
                sequence: data.sequence,
                time: data.time,
                index: data.index,
                count: data.count,
                payload: packing.pack(&data.payload, &data.payload),
            }
        }
        Body::Clock(clock) => Core::Clock {
            time: clock.time,
            after: clock.after,
            received: to_vector(clock.received)?,
        },
        // A range may be empty: that asks for the clock alone.
        Body::Want(want) => Core::Want { from: want.from, to: want.to },
        Body::Fetch(v1::Fetch { sender, from, to }) => {
            Core::Fetch { sender: to_position(sender)?, from, to }
        }
        Body::Fetched(fetched) => {
            let data = required(fetched.data, "message")?;
            check(data.index < data.count, "piece")?;
            Core::Fetched {
                sender: to_position(fetched.sender)?,
                sequence: data.sequence,
                time: data.time,
                index: data.index,
                count: data.count,
                payload: packing.pack(&data.payload, &data.payload),
            }
        }
        Body::Learn(from) => Core::Learn { from },
        Body::Lesson(lesson) => {
            let deliveries = lesson.deliveries.into_iter().map(|d| to_delivery(d, packing));
            let deliveries: Vec<_> = deliveries.collect();
            let follows = |pair: &[multicast::Delivery]| {
                pair[0].position.checked_add(1) == Some(pair[1].position)
            };
            check(deliveries.windows(2).all(follows), "lesson")?;
            Core::Lesson { from: lesson.from, deliveries, position: lesson.position }
        }
    };
    Ok(Some(multicast::Message { view: message.view, body }))
}

fn to_delivery(delivery: v1::Delivery, packing: &mut Packing) -> multicast::Delivery {
    multicast::Delivery {
        position: delivery.position,
        time: delivery.time,
        sender: NodeId::from_raw(delivery.sender),
        incarnation: delivery.incarnation,
        sequence: delivery.sequence,
        payload: packing.pack(&delivery.payload, &delivery.payload),
    }
}

fn to_gossip(message: v1::Gossip, packing: &mut Packing) -> Known<gossip::Message> {
    use gossip::Message as Core;
    use v1::gossip::Body;
    let Some(body) = message.body else { return Ok(None) };
    Ok(Some(match body {
        Body::Neighbor(neighbor) => Core::Neighbor { hash: neighbor.hash, answer: neighbor.answer },
        Body::Rumor(rumor) => match rumor.content {
            Some(content) => {
                let origin = to_origin(rumor.origin)?;
                let content = to_content(content, origin, packing)?;
                let (sequence, hops) = (rumor.sequence, rumor.hops);
                Core::Rumor(gossip::Rumor { origin, sequence, hops, content })
            }
            None => return Ok(None),
        },
        Body::Prune(_) => Core::Prune,
        Body::Graft(_) => Core::Graft,
        Body::Known(known) => {
            Core::Known { origin: to_origin(known.origin)?, sequence: known.sequence }
        }
        Body::Hash(hash) => Core::Hash(hash),
        Body::Digest(digest) => Core::Digest {
            have: digest.have.into_iter().map(to_have).collect::<Checked<_>>()?,
            answer: digest.answer,
        },
        Body::Want(ranges) => Core::Want(to_ranges(ranges)?),
        Body::Forgotten(ranges) => Core::Forgotten(to_ranges(ranges)?),
    }))
}

fn to_content(
    content: v1::rumor::Content,
    from: gossip::Origin,
    packing: &mut Packing,
) -> Checked<gossip::Content> {
    Ok(match content {
        v1::rumor::Content::Record(name) => {
            let name = to_name(&name)?;
            check(name.id() == from.node, "name of its origin")?;
            gossip::Content::Record { name }
        }
        v1::rumor::Content::User(payload) => {
            gossip::Content::User(packing.pack(&payload, &payload))
        }
    })
}

fn to_origin(origin: Option<v1::Origin>) -> Checked<gossip::Origin> {
    let origin = required(origin, "origin")?;
    Ok(gossip::Origin { node: NodeId::from_raw(origin.node), life: to_life(&origin.life)? })
}

fn to_have(have: v1::Have) -> Checked<gossip::Have> {
    let (runs, rest) = have.beyond.as_chunks::<2>();
    check(rest.is_empty(), "list of runs")?;
    let mut known = have.up_to;
    let mut beyond = Vec::with_capacity(runs.len());
    for &[first, last] in runs {
        // Not adjacent: number `known` is missing, so a run begins above it.
        check(first > known && first <= last && last < u64::MAX, "run")?;
        beyond.push((first, last));
        known = last + 1;
    }
    Ok(gossip::Have { origin: to_origin(have.origin)?, up_to: have.up_to, beyond })
}

fn to_ranges(ranges: v1::Ranges) -> Checked<Vec<gossip::Range>> {
    let ranges = ranges.ranges.into_iter().map(|range| {
        check(range.first <= range.last, "range")?;
        Ok(gossip::Range { origin: to_origin(range.origin)?, first: range.first, last: range.last })
    });
    ranges.collect()
}
