//! Whatever the core says comes through unchanged, and whatever else comes does no harm.

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

/// Runs `test` for `cases` values that are the same in every run.
fn check<S: Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, rng).run(&strategy, test).unwrap();
}

fn decode(bytes: Bytes) -> Result<Option<Message>, WireError> {
    super::decode(bytes, &mut Packing::default())
}

/// The only message of a frame.
fn encode(message: &Message) -> Bytes {
    let mut frame = BytesMut::new();
    super::encode(message, &mut frame);
    messages(frame.freeze()).unwrap().next().unwrap()
}

#[test]
fn every_message_comes_through_unchanged() {
    check(4_000, message(), |message| {
        prop_assert_eq!(decode(encode(&message)), Ok(Some(message)));
        Ok(())
    });
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
        let mut bytes = encode(&message).to_vec();
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
        if let Ok(Some(message)) = decode(bytes.into()) {
            prop_assert_eq!(decode(encode(&message)), Ok(Some(message)));
        }
        Ok(())
    });
}

/// A frame is read by hand, just as the generated code reads it.
#[test]
fn frames_are_read_as_protobuf() {
    let pieces = prop_oneof![
        vec(any::<u8>(), 0..6),
        vec(any::<u8>(), 0..40).prop_map(|message| {
            [&[10, message.len() as u8], &message[..]].concat() // Field 1, with its length.
        }),
        Just(vec![0xa2, 0x06, 0x02, 1, 2]), // Field 100.
        Just(vec![8, 1]),                   // Field 1, but a number.
    ];
    check(6_000, vec(pieces, 0..8), |pieces| {
        let frame = Bytes::from(pieces.concat());
        let read = messages(frame.clone()).map(Iterator::collect::<Vec<_>>).ok();
        prop_assert_eq!(read, v1::Frame::decode(frame).map(|frame| frame.messages).ok());
        Ok(())
    });
}

#[test]
fn the_default_lock_needs_no_text() {
    let say = |lock: &LockName| {
        let body = tokenring::Body::Busy { lock: lock.clone(), number: 7 };
        Message::Lock(tokenring::Message { view: 1, body })
    };
    let (usual, other) = (LockName::default_lock(), LockName::new("other").unwrap());
    assert_eq!(encode(&say(&other)).len() - encode(&say(&usual)).len(), "..other".len());
    // Whatever the last one was.
    let mut packing = Packing::default();
    for lock in [&usual, &other, &other, &usual, &usual, &other] {
        let decoded = super::decode(encode(&say(lock)), &mut packing);
        assert_eq!(decoded, Ok(Some(say(lock))));
    }
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
        token: Some(v1::Token { sequence: 1, hops: 0, wanted, served }),
    };
    let clock = v1::Clock { time: 1, after: 0, received: vec![0; MEMBERS_MAX + 1] };
    let piece = v1::Data { sequence: 1, time: 1, index: 3, count: 3, payload: Bytes::new() };
    let record = |name: &str| v1::Rumor {
        origin: origin("p1"),
        sequence: 0,
        hops: 0,
        content: Some(v1::rumor::Content::Record(name.into())),
    };
    for (kind, field) in [
        (order(v1::order::Body::Clock(clock)), "vector"),
        (order(v1::order::Body::Data(piece)), "piece"),
        (order(v1::order::Body::LeftAck(64)), "position"),
        (lock(v1::lock::Body::LeftAck(u32::MAX)), "position"),
        (lock(v1::lock::Body::Pass(pass("l".into(), vec![1], vec![]))), "token"),
        (lock(v1::lock::Body::Pass(pass("l".into(), vec![1; 65], vec![1; 65]))), "vector"),
        (lock(v1::lock::Body::Pass(pass("\n".into(), vec![1], vec![1]))), "lock name"),
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
    let changes: [(Change, &str); 8] = [
        (|view| view.number = 0, "view number"),
        (|view| view.members.clear(), "number of members"),
        (|view| view.members[1] = view.members[0].clone(), "list of members"),
        (|view| view.ring[0] = 1, "ring"),
        (|view| view.ring = vec![0, 1, 1], "ring"),
        (|view| view.ring = vec![0, 1, 3], "ring"),
        (|view| view.ring = vec![0, 1], "ring"),
        (|view| view.members[2].life = Bytes::from_static(&[0; 15]), "life"),
    ];
    let announce = |view, founder| {
        let announce = v1::Announce { run: 1, nonce: 0, view: Some(view), founder };
        let body = Some(v1::founding::Body::Announce(announce));
        decode_kind(v1::message::Kind::Founding(v1::Founding { body }))
    };
    let sound = || {
        let member = |name: &str| v1::Member {
            name: name.into(),
            life: Bytes::from_static(&[0; 16]),
            incarnation: 1,
        };
        let members = vec![member("p1"), member("p2"), member("p3")];
        v1::View { number: 1, members, ring: vec![0, 2, 1], mode: 0 }
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

fn decode_kind(kind: v1::message::Kind) -> Result<Option<Message>, WireError> {
    decode(v1::Message { kind: Some(kind) }.encode_to_vec().into())
}

// ---- arbitrary messages ----

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        select(&[detector::Message::Heartbeat, detector::Message::Goodbye])
            .prop_map(Message::Detector),
        founding().prop_map(Message::Founding),
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
        (1..u64::MAX, lives, ring(size), any::<bool>())
    });
    parts.prop_map(|(number, lives, ring, circulate)| {
        let members = lives.into_iter().enumerate().map(|(n, (life, incarnation))| {
            let name = Name::new(&format!("p{n}")).unwrap();
            Member { id: name.id(), name, life, incarnation }
        });
        let mode = if circulate { Mode::Circulate } else { Mode::Rest };
        View { number, members: members.collect(), ring: ring.into(), mode }
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

fn lock() -> impl Strategy<Value = tokenring::Body> {
    use tokenring::{Body, Token};
    let lock = || "[ -~]{1,40}".prop_map(|lock| LockName::new(&lock).unwrap());
    let token = (any::<u64>(), any::<u64>(), vec(any::<(u64, u64)>(), 0..MEMBERS_MAX)).prop_map(
        |(sequence, hops, vectors)| {
            let (wanted, served) = vectors.into_iter().unzip();
            Token { sequence, hops, wanted, served }
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
        (lock(), any::<u64>()).prop_map(|(lock, round)| Body::Ask { lock, round }),
        (lock(), any::<u64>(), any::<bool>()).prop_map(|(lock, round, known)| Body::Answer {
            lock,
            round,
            known
        }),
        Just(Body::Leaving),
        any::<u64>().prop_map(|last_pass| Body::LeavingAck { last_pass }),
        (position(), vec(received(), 0..9))
            .prop_map(|(member, received)| Body::Left { member, received }),
        position().prop_map(|member| Body::LeftAck { member }),
    ]
}

fn order() -> impl Strategy<Value = multicast::Body> {
    use multicast::Body;
    let vector = || vec(any::<u64>(), 0..MEMBERS_MAX);
    prop_oneof![
        (any::<u64>(), any::<u64>(), any::<(u32, u32)>(), payload()).prop_map(
            |(sequence, time, (one, other), payload)| {
                let (index, count) = (one.min(other), one.max(other).max(1));
                let index = index.min(count - 1);
                Body::Data { sequence, time, index, count, payload }
            }
        ),
        (any::<u64>(), any::<u64>(), vector()).prop_map(|(time, after, received)| Body::Clock {
            time,
            after,
            received
        }),
        any::<(u64, u64)>().prop_map(|(from, to)| Body::Want { from, to }),
        (position(), any::<u64>(), vector()).prop_map(|(member, last, received)| Body::Left {
            member,
            last,
            received
        }),
        position().prop_map(|member| Body::LeftAck { member }),
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
