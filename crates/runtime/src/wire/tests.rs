//! Whatever the core says comes through unchanged, and whatever else comes does no harm.

pub(crate) mod change;

use super::{
    decode::{decode_hello, decode_welcome},
    encode::{encode_hello, encode_welcome},
    *,
};
use bytes::{Bytes, BytesMut};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use prost::Message as _;
use roundelay_core::{
    Member, NodeId, View, detector, founding, gossip, multicast,
    node::Message,
    tokenring::{self, LockName, Mode},
    view::MEMBERS_MAX,
};
use std::time::Duration;

/// Runs `test` for `cases` values that are the same in every run.
pub(crate) fn check<S: Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, rng).run(&strategy, test).unwrap();
}

fn decode(bytes: Bytes) -> Result<Option<Message>, WireError> {
    Ok(match super::decode(bytes, &mut Packing::default())? {
        Decoded::Message(message) => Some(message),
        Decoded::Part(_) | Decoded::Unknown => None,
    })
}

/// The only message of a frame.
fn encode(message: &Message) -> Bytes {
    let mut frame = BytesMut::new();
    super::encode(message, &mut frame);
    messages(frame.freeze()).next().unwrap().unwrap()
}

#[test]
fn every_message_comes_through_unchanged() {
    check(4_000, message(), |message| {
        prop_assert_eq!(decode(encode(&message)), Ok(Some(message)));
        Ok(())
    });
}

/// The generated code is what a peer that is written in another language has.
#[test]
fn the_quick_way_says_what_the_generated_code_says() {
    check(6_000, message(), |message| {
        let mut slow = BytesMut::new();
        prost::encoding::message::encode(1, &encode::from_message(&message), &mut slow);
        let mut frame = BytesMut::new();
        super::encode(&message, &mut frame);
        prop_assert_eq!(&frame, &slow);
        let bytes = messages(frame.freeze()).next().unwrap().unwrap();
        let quick = quick::decode(&bytes, &mut Packing::default());
        prop_assert!(quick.is_none_or(|quick| quick == message));
        Ok(())
    });
}

/// Whatever the quick way makes of bytes, the generated code makes of them too.
#[test]
fn the_quick_way_accepts_nothing_else() {
    let mutations = vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..4);
    check(20_000, (message(), mutations), |(message, mutations)| {
        let bytes = mutated(&message, mutations);
        let Some(quick) = quick::decode(&bytes, &mut Packing::default()) else { return Ok(()) };
        let slow = v1::Message::decode(bytes).unwrap();
        prop_assert_eq!(decode::from_generated(slow, &mut Packing::default()), Ok(Some(quick)));
        Ok(())
    });
}

#[test]
fn a_frame_with_something_unknown_in_it_is_read_all_the_same() {
    let entries = [&[0x0a, 1, b'a'][..], &[0x10, 7], &[0x0a, 0], &[0x0a, 2, b'b', b'c']].concat();
    let read: Result<Vec<_>, _> = messages(entries.into()).collect();
    assert_eq!(read.unwrap(), ["a", "", "bc"]);
    assert!(messages(Bytes::from_static(&[0x0a, 1, b'a', 0x0a, 5, b'x'])).any(|m| m.is_err()));
}

#[test]
fn arbitrary_bytes_do_no_harm() {
    check(6_000, vec(any::<u8>(), 0..300), |bytes| {
        // Whatever it is taken for, it is a message that could have been said.
        if let Ok(Some(message)) = decode(bytes.into()) {
            prop_assert_eq!(decode(encode(&message)), Ok(Some(message)));
        }
        Ok(())
    });
}

#[test]
fn mutated_messages_do_no_harm() {
    let mutations = vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6);
    check(6_000, (message(), mutations), |(message, mutations)| {
        if let Ok(Some(message)) = decode(mutated(&message, mutations)) {
            prop_assert_eq!(decode(encode(&message)), Ok(Some(message)));
        }
        Ok(())
    });
}

fn mutated(message: &Message, mutations: Vec<(Index, u8, u8)>) -> Bytes {
    let mut bytes = encode(message).to_vec();
    for (index, value, kind) in mutations {
        if bytes.is_empty() {
            break;
        }
        let at = index.index(bytes.len());
        match kind {
            0 => bytes[at] = value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, value),
        }
    }
    bytes.into()
}

#[test]
fn introductions_come_through_unchanged() {
    check(500, (name(), life(), name(), "[a-z0-9.:]{0,40}"), |(name, life, callee, listen)| {
        let hello = Hello { name: name.clone(), life, callee, listen };
        prop_assert_eq!(decode_hello(encode_hello(&hello)), Ok(hello));
        let welcome = Welcome { name, life };
        prop_assert_eq!(decode_welcome(&encode_welcome(&welcome)), Ok(welcome));
        Ok(())
    });
}

#[test]
fn what_only_a_newer_version_knows_is_skipped() {
    // Field 100, with two bytes of content: in place of the kind, and beside it.
    let unknown: &[u8] = &[0xa2, 0x06, 0x02, 1, 2];
    assert_eq!(decode(Bytes::from_static(unknown)), Ok(None));
    let heartbeat = Message::Detector(detector::Message::Heartbeat);
    let bytes: Vec<u8> = [&encode(&heartbeat)[..], unknown].concat();
    assert_eq!(decode(bytes.into()), Ok(Some(heartbeat)));
    // A known protocol with an unknown message.
    for kind in [
        v1::message::Kind::Detector(v1::Detector { body: None }),
        v1::message::Kind::Founding(v1::Founding { body: None }),
        v1::message::Kind::Change(v1::Change { cluster: 1, view: 1, body: None }),
        v1::message::Kind::Lock(v1::Lock { view: 1, body: None }),
        v1::message::Kind::Order(v1::Order { view: 1, body: None }),
        v1::message::Kind::Gossip(v1::Gossip { body: None }),
    ] {
        assert_eq!(decode_kind(kind), Ok(None));
    }
}

#[test]
fn impossible_fields_are_errors() {
    use v1::message::Kind;
    let order = |body| Kind::Order(v1::Order { view: 1, body: Some(body) });
    let lock = |body| Kind::Lock(v1::Lock { view: 1, body: Some(body) });
    let gossip = |body| Kind::Gossip(v1::Gossip { body: Some(body) });
    let origin = |name: &str| {
        let node = NodeId::from_name(name).raw();
        Some(v1::Origin { node, life: Bytes::from_static(&[0; 16]) })
    };
    let have = |up_to, beyond: &[u64]| {
        let have = v1::Have { origin: origin("p1"), up_to, beyond: beyond.to_vec() };
        gossip(v1::gossip::Body::Digest(v1::Digest { have: vec![have], answer: false }))
    };
    let pass = |lock: String, wanted, served| v1::Pass {
        number: 1,
        lock,
        token: Some(v1::Token { sequence: 1, hops: 0, wanted, served, fresh: false }),
    };
    let clock = v1::Clock { time: 1, after: 0, received: vec![0; MEMBERS_MAX + 1] };
    let piece = v1::Data { sequence: 1, time: 1, index: 3, count: 3, payload: Bytes::new() };
    let fetched = |index, count| {
        let data = v1::Data { sequence: 1, time: 1, index, count, payload: Bytes::new() };
        v1::Fetched { sender: 1, data: Some(data) }
    };
    let lesson = |positions: &[u64]| {
        let delivery = |position: &u64| v1::Delivery { position: *position, ..Default::default() };
        v1::Lesson { deliveries: positions.iter().map(delivery).collect(), ..Default::default() }
    };
    let record = |name: &str| v1::Rumor {
        origin: origin("p1"),
        sequence: 0,
        hops: 0,
        content: Some(v1::rumor::Content::Record(name.into())),
    };
    for (kind, field) in [
        (order(v1::order::Body::Clock(clock)), "vector"),
        (order(v1::order::Body::Data(piece)), "piece"),
        (order(v1::order::Body::Fetch(v1::Fetch { sender: 64, from: 1, to: 2 })), "position"),
        (order(v1::order::Body::Fetched(fetched(3, 3))), "piece"),
        (order(v1::order::Body::Fetched(v1::Fetched { sender: 1, data: None })), "message"),
        (order(v1::order::Body::Lesson(lesson(&[4, 6]))), "lesson"),
        (order(v1::order::Body::Lesson(lesson(&[u64::MAX, 0]))), "lesson"),
        (lock(v1::lock::Body::Pass(pass("l".into(), vec![1], vec![]))), "token"),
        (lock(v1::lock::Body::Pass(pass("l".into(), vec![1; 65], vec![1; 65]))), "vector"),
        (lock(v1::lock::Body::Pass(pass(String::new(), vec![1], vec![1]))), "lock name"),
        (lock(v1::lock::Body::Pass(pass("x".repeat(256), vec![1], vec![1]))), "lock name"),
        (
            lock(v1::lock::Body::PassAck(v1::Received { up_to: 5, also: vec![5] })),
            "acknowledgement",
        ),
        (
            lock(v1::lock::Body::PassAck(v1::Received { up_to: 5, also: vec![8, 7] })),
            "acknowledgement",
        ),
        (have(5, &[5, 6]), "run"),
        (have(5, &[7, 6]), "run"),
        (have(5, &[7, 8, 9, 9]), "run"),
        (have(5, &[7, u64::MAX]), "run"),
        (have(5, &[7]), "list of runs"),
        (gossip(v1::gossip::Body::Rumor(record("a b"))), "name"),
        (gossip(v1::gossip::Body::Rumor(record("p2"))), "name of its origin"),
    ] {
        assert_eq!(decode_kind(kind), Err(WireError::Field(field)));
    }
}

#[test]
fn impossible_views_are_errors() {
    type Change = fn(&mut v1::View);
    let changes: [(Change, &str); 10] = [
        (|view| view.number = 0, "view number"),
        (|view| view.members.clear(), "number of members"),
        (|view| view.members[1] = view.members[0].clone(), "list of members"),
        (|view| view.ring[0] = 1, "ring"),
        (|view| view.ring = vec![0, 1, 1], "ring"),
        (|view| view.ring = vec![0, 1, 3], "ring"),
        (|view| view.ring = vec![0, 1], "ring"),
        (|view| view.lease = 0, "lease"),
        (|view| view.lease = u64::MAX, "lease"),
        (|view| view.members[2].life = Bytes::from_static(&[0; 15]), "life"),
    ];
    let announce = |view, founder| {
        let announce = v1::Announce { run: 1, nonce: 0, view: Some(view), founder };
        let body = Some(v1::founding::Body::Announce(announce));
        decode_kind(v1::message::Kind::Founding(v1::Founding { body }))
    };
    assert!(announce(sound(), 2).unwrap().is_some());
    for (change, field) in changes {
        let mut view = sound();
        change(&mut view);
        assert_eq!(announce(view, 0), Err(WireError::Field(field)));
    }
    assert_eq!(announce(sound(), 3), Err(WireError::Field("founder")));
    // A mode that this version does not know.
    assert_eq!(announce(v1::View { mode: 9, ..sound() }, 0), Ok(None));
}

#[test]
fn a_message_has_a_limit() {
    let size = MESSAGE_BYTES_MAX + 1;
    assert_eq!(decode(vec![0; size].into()), Err(WireError::TooLarge(size)));
}

/// A view that is one.
fn sound() -> v1::View {
    let member = |name: &str| v1::Member {
        name: name.into(),
        life: Bytes::from_static(&[0; 16]),
        incarnation: 1,
    };
    let members = vec![member("p1"), member("p2"), member("p3")];
    v1::View { number: 1, members, ring: vec![0, 2, 1], mode: 0, lease: 1_000_000_000 }
}

/// A lesson that is larger than what travels whole.
fn long_lesson() -> (Message, Bytes) {
    let delivery = |position| multicast::Delivery {
        position,
        time: position,
        sender: NodeId::from_raw(7),
        incarnation: 1,
        sequence: position,
        payload: vec![position as u8; 1 << 20].into(),
    };
    let body = multicast::Body::Lesson {
        from: 1,
        deliveries: (1..=5).map(delivery).collect(),
        position: 9,
    };
    let message = Message::Order(multicast::Message { view: 0, body });
    let whole = encode(&message);
    assert!(whole.len() > MESSAGE_BYTES_MAX);
    (message, whole)
}

/// The pieces of an encoded message, as they arrive.
fn pieces(whole: &Bytes) -> Vec<Part> {
    let mut frame = BytesMut::from(&b"before"[..]);
    let ranges = cut(whole, &mut frame);
    assert_eq!(ranges.last().unwrap().end, frame.len());
    let frame = frame.freeze();
    let piece = |range: std::ops::Range<usize>| {
        let bytes = messages(frame.slice(range)).next().unwrap().unwrap();
        assert!(bytes.len() < 64 << 10);
        match super::decode(bytes, &mut Packing::default()) {
            Ok(Decoded::Part(part)) => part,
            other => panic!("no part: {other:?}"),
        }
    };
    ranges.into_iter().map(piece).collect()
}

#[test]
fn a_large_message_travels_in_parts() {
    let (message, whole) = long_lesson();
    let pieces = pieces(&whole);
    let mut parts = Parts::default();
    // One after the other, and again after one that was not finished.
    let twice = pieces[..9].iter().chain(&pieces);
    let arrived: Vec<Bytes> = twice.filter_map(|piece| parts.add(piece.clone())).collect();
    assert_eq!(arrived, [whole]);
    let decoded = decode_whole(arrived[0].clone(), &mut Packing::default());
    assert_eq!(decoded, Ok(Some(message)));
}

#[test]
fn a_message_with_a_part_missing_is_none() {
    let (_, whole) = long_lesson();
    let pieces = pieces(&whole);
    for lost in [0, 1, pieces.len() / 2, pieces.len() - 1] {
        let mut parts = Parts::default();
        let others = pieces.iter().enumerate().filter(|(index, _)| *index != lost);
        assert!(others.map(|(_, piece)| parts.add(piece.clone())).all(|whole| whole.is_none()));
        // What comes next comes through.
        assert_eq!(pieces.iter().find_map(|piece| parts.add(piece.clone())), Some(whole.clone()));
    }
}

#[test]
fn impossible_parts_are_errors() {
    let part = |index, count, size| {
        let part = v1::Part { index, count, bytes: vec![0; size].into() };
        decode_kind(v1::message::Kind::Part(part))
    };
    assert_eq!(part(0, 1, 1), Ok(None));
    for (index, count, size) in [(1, 1, 1), (0, 0, 1), (0, u32::MAX, 1), (0, 2, 100_000)] {
        assert_eq!(part(index, count, size), Err(WireError::Field("part")));
    }
    // No parts of parts.
    let inner = v1::Part { index: 0, count: 1, bytes: Bytes::new() };
    let inner = v1::Message { kind: Some(v1::message::Kind::Part(inner)) }.encode_to_vec();
    let nested = decode_whole(inner.into(), &mut Packing::default());
    assert_eq!(nested, Err(WireError::Field("part")));
    // 64 MiB and no more.
    assert!(cut(&vec![0; 65 << 20].into(), &mut BytesMut::new()).is_empty());
}

fn decode_kind(kind: v1::message::Kind) -> Result<Option<Message>, WireError> {
    decode(v1::Message { kind: Some(kind) }.encode_to_vec().into())
}

// ---- arbitrary messages ----

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        select(&[detector::Message::Heartbeat, detector::Message::Goodbye])
            .prop_map(Message::Detector),
        founding().prop_map(Message::Founding),
        change::change().prop_map(Message::Change),
        (any::<u64>(), lock())
            .prop_map(|(view, body)| Message::Lock(tokenring::Message { view, body })),
        (any::<u64>(), order())
            .prop_map(|(view, body)| Message::Order(multicast::Message { view, body })),
        gossip().prop_map(Message::Gossip),
    ]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-zäöü0-9._-]{1,16}".prop_map(|name| Name::new(&name).unwrap())
}

fn life() -> impl Strategy<Value = Life> {
    any::<u128>().prop_map(Life)
}

fn position() -> impl Strategy<Value = u16> {
    0..MEMBERS_MAX as u16
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn founding() -> impl Strategy<Value = founding::Message> {
    use founding::{Message, Start, Step};
    let step = (position(), life(), position()).prop_map(|(position, life, next)| Step {
        position,
        life,
        next,
    });
    prop_oneof![
        (position(), any::<u64>(), any::<u64>(), vec(step, 0..MEMBERS_MAX)).prop_map(
            |(index, run, digest, path)| Message::Walk {
                start: Start { index, run },
                digest,
                path
            }
        ),
        (any::<u64>(), refusal()).prop_map(|(run, reason)| Message::Refuse { run, reason }),
        any::<u64>().prop_map(|run| Message::Withdraw { run }),
        (option::of(any::<u64>()), any::<u64>())
            .prop_map(|(run, nonce)| Message::Ask { run, nonce }),
        (any::<u64>(), any::<u64>(), view()).prop_flat_map(|(nonce, run, view)| {
            let founders = 0..view.len() as u16;
            (Just(nonce), Just(run), Just(view), founders).prop_map(
                |(nonce, run, view, founder)| Message::Announce { nonce, run, view, founder },
            )
        }),
        (any::<u64>(), any::<bool>()).prop_map(|(run, answer)| Message::Active { run, answer }),
    ]
}

fn refusal() -> impl Strategy<Value = founding::Refusal> {
    use founding::Refusal;
    prop_oneof![
        position().prop_map(|by| Refusal::AlreadyStarted { by }),
        position().prop_map(|to| Refusal::GaveWay { to }),
        Just(Refusal::OtherList),
        Just(Refusal::Forgotten),
        (position(), position(), position())
            .prop_map(|(first, second, next)| Refusal::SharedSuccessor { first, second, next }),
        vec(position(), 0..MEMBERS_MAX).prop_map(Refusal::LeftOut),
    ]
}

fn view() -> impl Strategy<Value = View> {
    let ring = |size: usize| {
        Just((1..size as u16).collect::<Vec<_>>())
            .prop_shuffle()
            .prop_map(|rest| [0].into_iter().chain(rest).collect::<Vec<u16>>())
    };
    let parts = (1..=MEMBERS_MAX).prop_flat_map(move |size| {
        let lives = vec((life(), any::<u64>()), size);
        (1..u64::MAX, lives, ring(size), any::<bool>(), 1..=LEASE_MAX.as_nanos() as u64)
    });
    parts.prop_map(|(number, lives, ring, circulate, lease)| {
        let members = lives.into_iter().enumerate().map(|(n, (life, incarnation))| {
            let name = Name::new(&format!("p{n}")).unwrap();
            Member { id: name.id(), name, life, incarnation }
        });
        let mode = if circulate { Mode::Circulate } else { Mode::Rest };
        let lease = Duration::from_nanos(lease);
        View { number, members: members.collect(), ring: ring.into(), mode, lease }
    })
}

fn received() -> impl Strategy<Value = tokenring::Received> {
    (0..1_000_u64, vec(1..100_u64, 0..9)).prop_map(|(up_to, gaps)| {
        let also = gaps.iter().scan(up_to, |last, gap| {
            *last += gap;
            Some(*last)
        });
        tokenring::Received { up_to, also: also.collect() }
    })
}

fn lock_name() -> impl Strategy<Value = LockName> {
    "[ -~]{1,40}".prop_map(|lock| LockName::new(&lock).unwrap())
}

fn lock() -> impl Strategy<Value = tokenring::Body> {
    use tokenring::{Body, Token};
    let lock = lock_name;
    let vectors = vec(any::<(u64, u64)>(), 0..MEMBERS_MAX);
    let token = (any::<u64>(), any::<u64>(), vectors, any::<bool>()).prop_map(
        |(sequence, hops, vectors, fresh)| {
            let (wanted, served) = vectors.into_iter().unzip();
            Token { sequence, hops, wanted, served, fresh }
        },
    );
    let request = || (lock(), position(), any::<u64>(), any::<u16>());
    prop_oneof![
        (any::<u64>(), lock(), token).prop_map(|(number, lock, token)| Body::Pass {
            number,
            lock,
            token
        }),
        received().prop_map(Body::PassAck),
        request().prop_map(|(lock, requester, number, hops)| {
            Body::Request { lock, requester, number, hops }
        }),
        (lock(), any::<u64>()).prop_map(|(lock, number)| Body::Recorded { lock, number }),
        request().prop_map(|(lock, requester, number, hops)| {
            Body::Try { lock, requester, number, hops }
        }),
        (lock(), any::<u64>()).prop_map(|(lock, number)| Body::Busy { lock, number }),
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(stamp, echo, answer)| Body::Stamp {
            stamp,
            echo,
            answer
        }),
    ]
}

fn order() -> impl Strategy<Value = multicast::Body> {
    use multicast::Body;
    let vector = || vec(any::<u64>(), 0..MEMBERS_MAX);
    let piece = || {
        any::<(u32, u32)>().prop_map(|(one, other)| {
            let count = one.max(other).max(1);
            (one.min(other).min(count - 1), count)
        })
    };
    prop_oneof![
        (any::<u64>(), any::<u64>(), piece(), payload()).prop_map(
            |(sequence, time, (index, count), payload)| {
                Body::Data { sequence, time, index, count, payload }
            }
        ),
        (any::<u64>(), any::<u64>(), vector()).prop_map(|(time, after, received)| Body::Clock {
            time,
            after,
            received
        }),
        any::<(u64, u64)>().prop_map(|(from, to)| Body::Want { from, to }),
        (position(), any::<(u64, u64)>()).prop_map(|(sender, (from, to))| Body::Fetch {
            sender,
            from,
            to
        }),
        (position(), any::<(u64, u64)>(), piece(), payload()).prop_map(
            |(sender, (sequence, time), (index, count), payload)| {
                Body::Fetched { sender, sequence, time, index, count, payload }
            }
        ),
        any::<u64>().prop_map(|from| Body::Learn { from }),
        (0..u64::MAX - 20, vec((any::<[u64; 4]>(), payload()), 0..9), any::<(u64, u64)>())
            .prop_map(|(first, deliveries, (from, position))| {
                let delivery = |(position, (numbers, payload)): (u64, ([u64; 4], Bytes))| {
                    let [time, sender, incarnation, sequence] = numbers;
                    let sender = NodeId::from_raw(sender);
                    multicast::Delivery { position, time, sender, incarnation, sequence, payload }
                };
                let deliveries = (first..).zip(deliveries).map(delivery).collect();
                Body::Lesson { from, deliveries, position }
            }),
    ]
}

fn gossip() -> impl Strategy<Value = gossip::Message> {
    use gossip::{Content, Message, Rumor};
    let hash = || any::<u64>();
    prop_oneof![
        (hash(), any::<bool>()).prop_map(|(hash, answer)| Message::Neighbor { hash, answer }),
        (origin(), any::<u64>(), any::<u32>(), payload()).prop_map(
            |(origin, sequence, hops, payload)| {
                let content = Content::User(payload);
                Message::Rumor(Rumor { origin, sequence, hops, content })
            }
        ),
        (name(), life(), any::<u32>()).prop_map(|(name, life, hops)| {
            let origin = gossip::Origin { node: name.id(), life };
            Message::Rumor(Rumor { origin, sequence: 0, hops, content: Content::Record { name } })
        }),
        Just(Message::Prune),
        Just(Message::Graft),
        (origin(), any::<u64>()).prop_map(|(origin, sequence)| Message::Known { origin, sequence }),
        hash().prop_map(Message::Hash),
        (vec(have(), 0..20), any::<bool>())
            .prop_map(|(have, answer)| Message::Digest { have, answer }),
        vec(range(), 0..20).prop_map(Message::Want),
        vec(range(), 0..20).prop_map(Message::Forgotten),
    ]
}

fn origin() -> impl Strategy<Value = gossip::Origin> {
    (any::<u64>(), life())
        .prop_map(|(node, life)| gossip::Origin { node: NodeId::from_raw(node), life })
}

fn have() -> impl Strategy<Value = gossip::Have> {
    (origin(), 0..1_000_u64, vec((2..50_u64, 0..50_u64), 0..9)).prop_map(|(origin, up_to, gaps)| {
        let mut last = up_to;
        let beyond = gaps.into_iter().map(|(gap, length)| {
            let first = last + gap;
            last = first + length;
            (first, last)
        });
        gossip::Have { origin, up_to, beyond: beyond.collect() }
    })
}

fn range() -> impl Strategy<Value = gossip::Range> {
    (origin(), any::<(u64, u64)>()).prop_map(|(origin, (one, other))| gossip::Range {
        origin,
        first: one.min(other),
        last: one.max(other),
    })
}
