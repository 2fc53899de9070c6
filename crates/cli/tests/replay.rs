//! Real runs, recorded and lived again: what a real node does follows from its inputs alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Ended, Process, SOON, all_leave, free_ports, owned, run, start_all};
use roundelay_core::{
    protocol::Input,
    recording::{self, Entry},
};
use serde_json::Value;
use std::{
    fs,
    io::Read,
    thread,
    time::{Duration, Instant},
};

const THREE: [&str; 3] = ["p1", "p2", "p3"];
const FIVE: [&str; 5] = ["runs/n1.rec", "runs/n2.rec", "runs/n3.rec", "runs/n4.rec", "runs/n5.rec"];

/// Replays these files, for scripts: how it ended, and what was said.
fn replay(dir: &Dir, files: &[&str]) -> (Ended, Vec<Value>) {
    let ended = run(dir, &[&["sim", "replay", "--output", "json"], files].concat(), "");
    let events = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (ended, events)
}

/// Replays these files, which must go well: the replays of each, and the history.
#[track_caller]
fn replays(dir: &Dir, files: &[&str]) -> (Vec<Value>, Value) {
    let (ended, mut events) = replay(dir, files);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let history = events.pop().unwrap();
    assert_eq!(history["event"], "history");
    assert_eq!(events.len(), files.len());
    let sum: u64 = events.iter().map(|event| event["inputs"].as_u64().unwrap()).sum();
    assert_eq!(history["inputs"], sum);
    (events, history)
}

/// Replays these files, of which the first one is not right.
#[track_caller]
fn diverges(dir: &Dir, files: &[&str], number: usize) {
    let (ended, events) = replay(dir, files);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    let diverged = events.last().unwrap();
    assert_eq!(diverged["event"], "diverged");
    assert_eq!((&diverged["file"], &diverged["input"]), (&files[0].into(), &number.into()));
}

/// The entries of a recording, and where each begins.
fn entries(bytes: &[u8]) -> Vec<(usize, Entry)> {
    let (_, mut at) = recording::header(bytes).unwrap().unwrap();
    let mut entries = Vec::new();
    while let Some((entry, length)) = recording::entry(&bytes[at..], true).unwrap() {
        entries.push((at, entry));
        at += length;
    }
    entries
}

#[test]
fn a_recorded_run_of_five_real_processes_replays() {
    let dir = Dir::new();
    let demo = ["demo", "--for", "2s", "--record", "runs", "--output", "json"];
    let ended = run(&dir, &demo, "");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let summary: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    assert!(summary["grants"].as_u64() > Some(5), "{summary}");

    let (lives, history) = replays(&dir, &FIVE);
    assert!(lives.iter().all(|life| life["torn"] == false), "{lives:?}");
    assert!(lives.iter().all(|life| life["inputs"].as_u64() > Some(100)), "{lives:?}");
    assert_eq!((&history["nodes"], &history["unmatched"]), (&5.into(), &0.into()));
    assert_eq!(history["whole"], history["inputs"]);
    let checked = history["checked"].as_array().unwrap();
    for promise in ["exclusion", "fences", "one_order", "no_duplicate_rumors"] {
        assert!(checked.contains(&promise.into()), "{history}");
    }

    // The same files, in whatever order; for people; and with everything that happened.
    let ended = run(&dir, &[&["sim", "replay"][..], &FIVE].concat(), "");
    assert_eq!(ended.stdout.matches(" matches\n").count(), 5, "{}", ended.stdout);
    assert!(ended.stdout.contains(": all promises are kept\n"), "{}", ended.stdout);
    let ended = run(&dir, &["sim", "replay", "--trace", FIVE[0]], "");
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("GRANTED default"), "{}", ended.stdout);
    assert!(ended.stdout.contains("as far as they can be judged"), "{}", ended.stdout);

    a_changed_file_is_noticed(&dir);
}

/// One byte of an input, an entry that is gone, two that have changed places: each is noticed at
/// the first input that is not the recorded one.
fn a_changed_file_is_noticed(dir: &Dir) {
    let bytes = fs::read(dir.path().join(FIVE[0])).unwrap();
    let entries = entries(&bytes);
    let links =
        entries.iter().enumerate().filter(|(_, (_, e))| matches!(e.input, Input::LinkUp(_)));
    let (link, (start, _)) = links.last().unwrap();
    let (start, end) = (*start, entries[link + 1].0);

    let mut changed = bytes.clone();
    // Behind it are two hashes: this is in the peer's id.
    changed[end - 17] ^= 1;
    dir.write("changed.rec", changed);
    diverges(dir, &["changed.rec"], link + 1);
    diverges(dir, &[&["changed.rec"], &FIVE[1..]].concat(), link + 1);

    let dropped = [&bytes[..start], &bytes[end..]].concat();
    dir.write("dropped.rec", dropped);
    diverges(dir, &["dropped.rec"], link + 1);

    let third = entries[link + 2].0;
    let swapped = [&bytes[..start], &bytes[end..third], &bytes[start..end], &bytes[third..]];
    dir.write("swapped.rec", swapped.concat());
    diverges(dir, &["swapped.rec"], link + 1);

    let mut effects = bytes.clone();
    effects[end - 1] ^= 1;
    dir.write("effects.rec", effects);
    diverges(dir, &["effects.rec"], link + 1);

    // A length that is too long is not to be taken for a good end.
    let mut length = bytes.clone();
    length[start + 3] ^= 0x40;
    dir.write("length.rec", length);
    let (ended, _) = replay(dir, &["length.rec"]);
    assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn the_token_ring_replays() {
    let dir = Dir::new();
    let peers: Vec<(&str, u16)> = THREE.into_iter().zip(free_ports::<3>()).collect();
    dir.machines(&peers);
    let mut ring = start_all(&dir, THREE, |name| {
        let next = THREE[(THREE.iter().position(|other| *other == name).unwrap() + 1) % 3];
        let file = format!("{name}.rec");
        let hold = ["--hold", "10ms", "--record", &file];
        owned(
            &[&["tokenring", "--output", "json", "--name", name, "--next", next], &hold[..]]
                .concat(),
        )
    });
    ring[0].say("start");
    for peer in &mut ring {
        peer.wait_for("view");
        peer.say("lock");
        peer.wait_for("acquired");
        peer.say("unlock");
        peer.wait_for("released");
    }
    for peer in &mut ring {
        peer.say("quit");
    }
    all_leave(&mut ring);
    let (lives, history) = replays(&dir, &["p1.rec", "p2.rec", "p3.rec"]);
    assert!(lives.iter().all(|life| life["torn"] == false), "{lives:?}");
    assert_eq!(history["unmatched"], 0);
}

#[test]
fn the_recording_of_a_killed_process_replays_up_to_its_end() {
    let dir = Dir::new();
    let peers: Vec<(&str, u16)> = THREE.into_iter().zip(free_ports::<3>()).collect();
    dir.peers(&peers);
    let mut peers = start_all(&dir, THREE, |name| {
        let file = format!("{name}.rec");
        let generate = ["--generate", "50", "--record", &file];
        owned(&[&["multicast", name, "--output", "json"], &generate[..]].concat())
    });
    for peer in &mut peers {
        peer.read_until("50 messages", |peer| peer.all("delivered").len() >= 50);
        peer.listen(Duration::from_millis(1500));
    }
    peers[1].signal("KILL");
    peers[1].wait_end(SOON);
    for peer in [0, 2] {
        peers[peer].wait_peer("p2", "down");
        peers[peer].signal("TERM");
    }
    for peer in [0, 2] {
        // They may wait for who does not come back, but not for ever.
        assert_eq!(peers[peer].wait_end(Duration::from_secs(6)).0, Some(0));
    }
    let (lives, history) = replays(&dir, &["p1.rec", "p2.rec", "p3.rec"]);
    // All but the last second of it.
    assert!(lives[1]["inputs"].as_u64() > Some(100), "{lives:?}");
    assert!(history["whole"].as_u64() > Some(300), "{history}");
    let checked = history["checked"].as_array().unwrap();
    assert!(checked.contains(&"one_order".into()), "{history}");

    // However many of its last bytes are missing.
    let bytes = fs::read(dir.path().join("p2.rec")).unwrap();
    for cut in 1..60 {
        dir.write("torn.rec", &bytes[..bytes.len() - cut]);
        let (lives, _) = replays(&dir, &["torn.rec"]);
        assert!(lives[0]["inputs"].as_u64() > Some(100), "{lives:?}");
    }
}

#[test]
fn a_node_goes_on_when_its_recording_cannot() {
    let dir = Dir::new();
    dir.machines(&[("a", free_ports::<1>()[0])]);
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status();
    assert!(made.unwrap().success());
    let pipe = dir.path().join("pipe");
    // It reads the first line, and hangs up.
    let reader = thread::spawn(move || {
        let mut line = [0; 22];
        fs::File::open(pipe).unwrap().read_exact(&mut line).unwrap();
        line
    });
    let args = ["gossip", "--name", "a", "--neighbors", "", "--record", "pipe"];
    let mut node = Process::start(&dir, &[&args[..], &["--output", "json"]].concat());
    node.wait_for("ready");
    assert_eq!(reader.join().unwrap(), *b"roundelay recording 2\n");
    let deadline = Instant::now() + SOON;
    while node.all("error").is_empty() {
        assert!(Instant::now() < deadline);
        node.say("on and on");
        node.listen(Duration::from_millis(200));
    }
    let errors = node.all("error").into_iter().cloned().collect::<Vec<_>>();
    let message = errors[0]["message"].as_str().unwrap();
    assert!(message.starts_with("cannot record into pipe any more: "), "{message}");
    let before = node.all("rumor").len();
    node.say("still here");
    node.read_until("a rumor", |node| node.all("rumor").len() > before);
    node.say("/quit");
    assert_eq!(node.wait_end(SOON).0, Some(0));
    node.rest();
    assert_eq!(node.all("error").len(), 1);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let dir = Dir::new();
    dir.write("garbage.rec", "MZ\0\0 garbage");
    dir.write("next.rec", "roundelay recording 3\nwho knows");
    dir.write("short.rec", "roundelay recording 2\n");
    for (file, why) in [
        ("missing.rec", "No such file"),
        ("garbage.rec", "this is not a recording"),
        ("next.rec", "a recording of format 3"),
        ("short.rec", "ends before"),
    ] {
        let (ended, _) = replay(&dir, &[file]);
        assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(file) && ended.stderr.contains(why), "{}", ended.stderr);
    }
    dir.machines(&[("a", free_ports::<1>()[0])]);
    let gossip = ["gossip", "--name", "a", "--neighbors", "", "--record"];
    let ended = run(&dir, &[&gossip[..], &["nowhere/a.rec"]].concat(), "");
    assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("--record: cannot write nowhere/a.rec"), "{}", ended.stderr);

    let ended = run(&dir, &[&gossip[..], &["a.rec"]].concat(), "a rumor\n");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    replays(&dir, &["a.rec"]);
    let (ended, _) = replay(&dir, &["a.rec", "a.rec"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("recordings of the same life"), "{}", ended.stderr);
}
