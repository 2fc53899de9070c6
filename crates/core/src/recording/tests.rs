//! What is written can be read; what was not written so is refused.

use super::*;
use crate::{
    change, detector, founding, gossip,
    id::{Life, Name, NodeId},
    multicast,
    node::{Command, Message, Timer},
    protocol::{Effect, Input, To},
    tokenring::{self, LockName},
    view::{self, Ballot, Member, Record, View},
};
use alloc::{boxed::Box, string::ToString, vec};
use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

fn name(n: u8) -> Name {
    Name::new(&alloc::format!("p{n}")).unwrap()
}

fn id() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(NodeId::from_raw)
}

fn life() -> impl Strategy<Value = Life> {
    any::<u128>().prop_map(Life)
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from)
}

fn view() -> impl Strategy<Value = View> {
    (any::<u64>(), prop::collection::vec((any::<u8>(), life(), any::<u64>()), 0..5)).prop_map(
        |(number, members)| {
            let ring = (0..members.len() as u16).rev().collect();
            let member = |(n, life, incarnation): (u8, Life, u64)| {
                let name = name(n);
                Member { id: name.id(), name, life, incarnation }
            };
            let members = members.into_iter().map(member).collect();
            let lease = Duration::from_secs(number % 9);
            View { number, members, ring, mode: tokenring::Mode::Circulate, lease }
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let walk = (any::<u64>(), prop::collection::vec((any::<u16>(), life()), 0..4)).prop_map(
        |(digest, path)| {
            let step = |(position, life)| founding::Step {
                position,
                life,
                next: position.wrapping_add(1),
            };
            let start = founding::Start { index: 3, run: digest };
            let path = path.into_iter().map(step).collect();
            Message::Founding(founding::Message::Walk { start, digest, path })
        },
    );
    let announce = (any::<u64>(), view()).prop_map(|(nonce, view)| {
        Message::Founding(founding::Message::Announce { nonce, run: 1, view, founder: 0 })
    });
    let pass = (any::<u64>(), prop::collection::vec(any::<u64>(), 0..5)).prop_map(|(n, counts)| {
        let (wanted, served) = (counts.clone(), counts);
        let token =
            tokenring::Token { sequence: n, hops: n / 2, wanted, served, fresh: n % 2 == 0 };
        let lock = LockName::new("a lock, with a comma").unwrap();
        let body = tokenring::Body::Pass { number: n, lock, token };
        Message::Lock(tokenring::Message { view: 1, body })
    });
    let rumor = (id(), life(), any::<u64>(), payload()).prop_map(|(node, life, sequence, text)| {
        Message::Gossip(gossip::Message::Rumor(gossip::Rumor {
            origin: gossip::Origin { node, life },
            sequence,
            hops: 7,
            content: gossip::Content::User(text),
        }))
    });
    let beat = Just(Message::Detector(detector::Message::Heartbeat));
    prop_oneof![walk, announce, pass, rumor, beat]
}

fn input() -> impl Strategy<Value = InputOf<Node>> {
    let send = (any::<u64>(), payload()).prop_map(|(ticket, payload)| {
        Input::Command(Command::Order(multicast::Command::Send { ticket, payload }))
    });
    prop_oneof![
        prop::option::of((any::<u64>(), view())).prop_map(|record| {
            let installed = |view| view::Value::first(view, 0);
            let record = record.map(|(cluster, view)| Record {
                cluster,
                ceiling: cluster / 2,
                lives: [Life(u128::from(cluster))].into(),
                promised: Some(Ballot { round: 3, by: 1 }),
                accepted: Some((Ballot::default(), installed(view.clone()))),
                installed: installed(view),
            });
            Input::Start(record.map(|record| Box::new(record.into())))
        }),
        (id(), message()).prop_map(|(from, message)| Input::Message { from, message }),
        Just(Input::Timer(Timer::Detector(detector::Timer::Tick))),
        send,
        Just(Input::Command(Command::Leave)),
        id().prop_map(Input::LinkUp),
        id().prop_map(Input::LinkDown),
        any::<u64>().prop_map(Input::Appended),
    ]
}

fn effects() -> impl Strategy<Value = Vec<EffectOf<Node>>> {
    let send =
        (id(), message()).prop_map(|(to, message)| Effect::Send { to: To::One(to), message });
    prop::collection::vec(send, 0..3)
}

type Lived = Vec<(Time, InputOf<Node>, Vec<EffectOf<Node>>)>;

fn lived() -> impl Strategy<Value = Lived> {
    let time = any::<u64>().prop_map(Time::from_nanos);
    prop::collection::vec((time, input(), effects()), 0..8)
}

fn some_header() -> Header {
    let limits = Duration::from_millis(1500);
    let me = name(1).id();
    let config = node::Config {
        name: name(1),
        life: Life(u128::MAX - 5),
        detector: detector::Config { heartbeat: limits, suspect_min: limits },
        group: Some(node::GroupConfig {
            founding: founding::Config {
                name: name(1),
                life: Life(7),
                list: vec![name(1), name(2)],
                next: Some(name(2)),
                trigger: founding::Trigger::FirstOfList,
                mode: tokenring::Mode::Rest,
                lease: limits,
            },
            change: change::Config {
                name: name(1),
                life: Life(7),
                next: None,
                grace: limits,
                patience: limits,
                repeat: limits,
            },
            lock: Some(tokenring::Config {
                me,
                hold: limits,
                turn: 8,
                waiters_max: 9,
                locks_max: usize::MAX,
                repeat: limits,
                try_timeout: limits,
                idle: Some(limits),
            }),
            order: None,
        }),
        gossip: Some(gossip::Config {
            name: name(1),
            life: Life(7),
            neighbors: gossip::Neighbors::Listed([me].into()),
            strategy: gossip::Strategy::Rumor { k: 3 },
            rumor_bytes_max: 1,
            retention_age: limits,
            retention_bytes: 2,
            round: limits,
            anti_entropy: limits,
            origins_max: 3,
        }),
    };
    Header { version: "1.2.3".to_string(), config, seed: [7; 32], started: u64::MAX }
}

/// A recording of these inputs, and where each part of it ends.
fn record(life: &Lived) -> (Vec<u8>, Vec<usize>, u64) {
    let mut bytes = Vec::new();
    let mut recorder = Recorder::new(&some_header(), &mut bytes).unwrap();
    let mut ends = vec![bytes.len()];
    for (time, input, effects) in life {
        recorder.input(*time, input, &mut bytes).unwrap();
        recorder.effects(effects, &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends, recorder.hash())
}

/// Reads as far as it goes: the entries, and how many bytes they took.
fn read(bytes: &[u8]) -> Result<(Vec<Entry>, usize), Error> {
    let mut entries = Vec::new();
    let Some((read, mut at)) = header(bytes)? else { return Ok((entries, 0)) };
    assert_eq!(read, some_header());
    while let Some((next, length)) = entry(&bytes[at..], true)? {
        entries.push(next);
        at += length;
    }
    Ok((entries, at))
}

/// Whether the trace hashes of these entries, with these effects, are the recorded ones.
fn follows(entries: &[Entry], life: &Lived) -> bool {
    let mut trace = TraceHasher::default();
    entries.iter().zip(life).all(|(entry, (_, _, effects))| {
        entry.arrived == arrive(&mut trace, entry.time, &entry.input)
            && entry.handled.is_none_or(|hash| hash == handle(&mut trace, effects))
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(life in lived()) {
        let (bytes, _, hash) = record(&life);
        let (entries, length) = read(&bytes).unwrap();
        prop_assert_eq!(length, bytes.len());
        prop_assert!(follows(&entries, &life));
        prop_assert_eq!(entries.last().map_or(0, |entry| entry.handled.unwrap()), hash);
        let inputs: Vec<_> = entries.into_iter().map(|entry| (entry.time, entry.input)).collect();
        let lived: Vec<_> = life.into_iter().map(|(time, input, _)| (time, input)).collect();
        prop_assert_eq!(inputs, lived);
    }

    #[test]
    fn a_torn_recording_is_read_up_to_its_last_whole_entry(
        life in lived(), cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, ends, _) = record(&life);
        let cut = cut.index(bytes.len() + 1);
        let (entries, length) = read(&bytes[..cut]).unwrap();
        let whole = ends.iter().skip(1).filter(|end| **end <= cut).count();
        // The input is there before its effects are.
        let handled = entries.iter().filter(|entry| entry.handled.is_some()).count();
        prop_assert_eq!(handled, whole);
        prop_assert!(entries.len() - handled <= 1);
        prop_assert!(length <= cut);
        prop_assert!(follows(&entries, &life));
    }

    #[test]
    fn a_changed_byte_is_noticed(
        life in lived(), at in any::<prop::sample::Index>(), change in 1..=u8::MAX,
    ) {
        // Without an entry, a length that became too long leaves nothing that could be missed.
        prop_assume!(!life.is_empty());
        let (mut bytes, ..) = record(&life);
        let whole = read(&bytes).unwrap().0.len();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        // A length that became too long looks like a torn end, but the rest is still right.
        if let Ok((entries, _)) = read(&bytes) {
            prop_assert!(entries.len() < whole || !follows(&entries, &life));
        }
    }

    #[test]
    fn garbage_is_refused(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read(&garbage).map(|read| read.0.len()).unwrap_or_default(), 0);
        // Behind a good beginning, too, nothing worse than an error happens.
        let (mut bytes, ..) = record(&vec![]);
        bytes.extend_from_slice(&garbage);
        let _ = read(&bytes);
    }
}

#[test]
fn an_entry_that_is_missing_is_noticed() {
    let beat = |n| (Time::from_nanos(n), Input::LinkUp(NodeId::from_raw(n)), vec![]);
    let life = vec![beat(1), beat(2), beat(3)];
    let (mut bytes, ends, _) = record(&life);
    bytes.drain(ends[1]..ends[2]);
    let (entries, _) = read(&bytes).unwrap();
    assert_eq!(entries.len(), 2);
    assert!(!follows(&entries, &vec![life[0].clone(), life[2].clone()]));
}

#[test]
fn what_it_is_not_is_said() {
    assert_eq!(header(b""), Ok(None));
    assert_eq!(header(b"roundelay rec"), Ok(None));
    assert_eq!(header(b"\x7fELF"), Err(Error::NotARecording));
    let next = b"roundelay recording 3\nand so on";
    assert_eq!(header(next), Err(Error::Version("3".into())));
    let silly = [b"roundelay recording \x1b".as_slice(), &[b'9'; 1000]].concat();
    let Err(Error::Version(version)) = header(&silly) else { panic!("{:?}", header(&silly)) };
    assert!(version.len() < 2 * FIRST_LINE_MAX && version.starts_with("\\u{1b}9"), "{version}");
}

#[test]
fn an_absurd_length_is_refused_before_anything_is_read() {
    let huge = [FIRST_LINE, &u32::MAX.to_le_bytes()].concat();
    let too_long = |max| Error::TooLong { bytes: u32::MAX as usize, max };
    assert_eq!(header(&huge), Err(too_long(HEADER_BYTES_MAX)));
    assert_eq!(entry(&u32::MAX.to_le_bytes(), false), Err(too_long(INPUT_BYTES_MAX)));
}

#[test]
fn names_are_checked_when_they_are_read() {
    let bad = postcard::to_allocvec("no comma, please").unwrap();
    assert!(postcard::from_bytes::<Name>(&bad).is_err());
    let bad = postcard::to_allocvec("no\nline").unwrap();
    assert!(postcard::from_bytes::<LockName>(&bad).is_err());
    let good = postcard::to_allocvec(&name(1)).unwrap();
    assert_eq!(postcard::from_bytes::<Name>(&good), Ok(name(1)));
}
