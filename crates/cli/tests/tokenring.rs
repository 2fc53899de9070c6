//! The lock between real processes, driven by scripts over pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod process;

use process::{Dir, Process, SOON, all_leave, free_ports, owned, run, start_all};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

const FIVE: [&str; 5] = ["p1", "p2", "p3", "p4", "p5"];
const THREE: [&str; 3] = ["p1", "p2", "p3"];

/// A directory whose `machines.txt` lists these names.
fn machines<const N: usize>(names: [&str; N]) -> Dir {
    let dir = Dir::new();
    let ports = free_ports::<N>();
    let peers: Vec<(&str, u16)> = names.into_iter().zip(ports).collect();
    dir.machines(&peers);
    dir
}

/// Arguments for the peer `name`, whose next is the one that follows in `names`.
fn args(names: &[&str], name: &str, more: &[&str]) -> Vec<String> {
    let at = names.iter().position(|other| *other == name).unwrap();
    let next = names[(at + 1) % names.len()];
    let first = ["tokenring", "--output", "json", "--name", name, "--next", next];
    owned(&[&first[..], more].concat())
}

/// Whether an error event says this.
fn says(event: &Value, text: &str) -> bool {
    event["event"] == "error" && event["message"].as_str().unwrap().contains(text)
}

fn fence(acquired: &Value) -> u64 {
    acquired["fence"].as_u64().unwrap()
}

/// Checks that no hop of the token was shown by two peers, or twice.
fn check_hops(processes: &[Process]) -> usize {
    let mut hops = BTreeSet::new();
    for process in processes {
        for token in process.all("token") {
            let hop = (token["view"].as_u64().unwrap(), token["hop"].as_u64().unwrap());
            assert!(hops.insert(hop), "view and hop {hop:?} were seen twice");
        }
    }
    hops.len()
}

/// Lets every peer have the lock `rounds` times, all of them waiting all the time.
///
/// The intervals that are checked begin when the test reads `acquired` and end before it writes
/// `unlock`: so they are parts of the real ones, and what overlaps here overlaps there.
fn contend(peers: &mut [Process], rounds: usize) -> Vec<u64> {
    let mut fences: Vec<u64> = Vec::new();
    let mut left = vec![rounds; peers.len()];
    let mut holder: Option<(usize, Instant)> = None;
    for peer in peers.iter_mut() {
        peer.say("lock");
    }
    let deadline = Instant::now() + SOON;
    while left.iter().any(|rounds| *rounds > 0) {
        assert!(Instant::now() < deadline, "rounds left: {left:?}");
        for (index, peer) in peers.iter_mut().enumerate() {
            while let Some(event) = peer.poll() {
                assert_ne!(event["event"], "error", "{event}");
                if event["event"] == "acquired" {
                    assert_eq!(holder, None, "overlapping grants: {index} and this one");
                    assert!(fences.last().is_none_or(|last| *last < fence(&event)), "{fences:?}");
                    fences.push(fence(&event));
                    holder = Some((index, Instant::now() + Duration::from_millis(3)));
                }
            }
        }
        if let Some((index, until)) = holder
            && Instant::now() >= until
        {
            holder = None;
            left[index] -= 1;
            peers[index].say(if left[index] > 0 { "unlock\nlock" } else { "unlock" });
        }
        thread::sleep(Duration::from_millis(1));
    }
    fences
}

#[test]
fn five_peers_take_turns() {
    let dir = machines(FIVE);
    let mut peers = start_all(&dir, FIVE, |name| args(&FIVE, name, &["--hold", "5ms"]));
    // Two at once make one token.
    peers[3].say("start");
    peers[1].say("start");
    for peer in &mut peers {
        let view = peer.first("view");
        assert_eq!((&view["number"], &view["members"]), (&json!(1), &json!(FIVE)));
    }
    let fences = contend(&mut peers, 6);
    assert_eq!(fences.len(), 5 * 6);
    // A late start is refused, and makes no second token.
    peers[0].say("start");
    peers[0].wait("a refusal", |event| says(event, "started already"));
    for peer in &mut peers {
        peer.listen(Duration::from_millis(100));
    }
    let hops = check_hops(&peers);
    assert!(hops >= 30 - 5, "each peer has had the lock six times: {hops}");
    let refusals: usize = peers.iter().map(|peer| peer.all("error").len()).sum();
    assert!(refusals <= 2, "the late start, and at most one of the first two");
    for peer in &mut peers {
        peer.say("quit");
    }
    all_leave(&mut peers);
}

#[test]
fn a_resting_token_goes_to_who_wants_it() {
    let dir = machines(THREE);
    let mut peers = start_all(&dir, THREE, |name| args(&THREE, name, &["--mode", "rest"]));
    peers[2].say("start");
    for peer in &mut peers {
        drop(peer.first("view"));
    }
    let fences = contend(&mut peers, 20);
    assert_eq!(fences, (1..=60).collect::<Vec<u64>>());
    assert_eq!(check_hops(&peers), 0, "a resting token is not shown");
    peers.iter_mut().for_each(Process::end_input);
    all_leave(&mut peers);
}

#[test]
fn a_start_waits_for_absent_peers() {
    let dir = machines(THREE);
    let mut peers = Vec::new();
    for name in ["p2", "p3"] {
        let args = args(&THREE, name, &[]);
        peers.push(Process::start(&dir, &args.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    peers[0].wait_peer("p3", "up");
    peers[0].say("start\nlock");
    let waiting = peers[0].wait_for("waiting");
    assert_eq!(waiting["for"], json!(["p1"]));
    let [p1] = start_all(&dir, ["p1"], |name| args(&THREE, name, &[]));
    peers.push(p1);
    peers[0].wait_for("acquired");
    for peer in &mut peers {
        peer.first("view");
        peer.signal("INT");
    }
    all_leave(&mut peers);
}

#[test]
fn a_ring_that_does_not_close_is_refused_with_the_reason() {
    for (nexts, starter, reason) in [
        // Who starts is on a circle that leaves p3 out.
        ([("p1", "p2"), ("p2", "p1"), ("p3", "p1")], 0, "closes without p3"),
        // The same ring, found from outside of the circle.
        ([("p1", "p2"), ("p2", "p1"), ("p3", "p1")], 2, "both have p1 as their next peer"),
        ([("p1", "p1"), ("p2", "p3"), ("p3", "p1")], 0, "closes without p2, p3"),
        ([("p1", "p3"), ("p2", "p3"), ("p3", "p2")], 0, "both have p3 as their next peer"),
    ] {
        let dir = machines(THREE);
        let mut peers = start_all(&dir, THREE, |name| {
            let next = nexts.iter().find(|(peer, _)| *peer == name).unwrap().1;
            owned(&["tokenring", "--output", "json", "--name", name, "--next", next])
        });
        peers[starter].say("start");
        peers[starter].wait(reason, |event| says(event, reason));
        for peer in &mut peers {
            peer.listen(Duration::from_millis(30));
            assert!(peer.all("view").is_empty() && peer.all("token").is_empty());
            peer.say("quit");
        }
        all_leave(&mut peers);
    }
}

#[test]
fn peers_with_other_lists_are_refused() {
    let dir = machines(THREE);
    let other = machines(["p1", "p2", "p3", "p4"]);
    let text = std::fs::read_to_string(dir.path().join("machines.txt")).unwrap();
    other.write("machines.txt", format!("{text}p4 127.0.0.1 1\n"));
    let mut peers = Vec::from(start_all(&dir, ["p1", "p2"], |name| args(&THREE, name, &[])));
    peers.extend(start_all(&other, ["p3"], |name| args(&THREE, name, &[])));
    peers[0].say("start");
    peers[0].wait("a refusal", |event| says(event, "do not have the same machines.txt"));
    for peer in &mut peers {
        peer.say("quit");
    }
    all_leave(&mut peers);
}

#[test]
fn a_holder_that_leaves_hands_the_token_over() {
    for mode in ["circulate", "rest"] {
        let dir = machines(FIVE);
        let mut peers =
            start_all(&dir, FIVE, |name| args(&FIVE, name, &["--mode", mode, "--hold", "5ms"]));
        peers[0].say("start\nlock");
        let first = fence(&peers[0].wait_for("acquired"));
        peers[2].say("lock");
        thread::sleep(Duration::from_millis(50));
        peers[0].say("quit");
        // It says so before anybody else has the lock.
        let released = peers[0].wait_for("released");
        assert_eq!(released["fence"], first);
        let second = fence(&peers[2].wait_for("acquired"));
        assert!(second > first, "{mode}");
        all_leave(&mut peers[..1]);
        for peer in &mut peers[1..] {
            peer.wait_peer("p1", "left");
        }
        peers[2].say("unlock\nring");
        let ring = peers[2].wait_for("ring");
        assert_eq!(ring["members"], json!(["p2", "p3", "p4", "p5"]));
        // The ring has closed around the one that left.
        contend(&mut peers[1..], 2);
        check_hops(&peers);
        for peer in &mut peers[1..] {
            peer.signal("TERM");
        }
        all_leave(&mut peers[1..]);
    }
}

#[test]
fn scripts_are_taken_line_by_line() {
    let dir = machines(["p1"]);
    let args = ["tokenring", "--output", "json"];
    let ended = run(&dir, &args, "p1\np1\nstart\nlock\nstatus\nunlock\nunlock\ndance\nlock");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let events: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "ready", "view", "acquired", "status", "released", "error", "error", "acquired",
            "released"
        ]
    );
    assert_eq!(events[3]["fence"], 1);
    assert!(says(&events[5], "you do not have the lock"));
    assert!(says(&events[6], "there is no command \"dance\""));
    assert_eq!(events[8]["fence"], 2);
}

#[test]
fn people_read_sentences() {
    let dir = machines(["p1"]);
    let ended = run(&dir, &["tokenring"], "p1\np1\nstart\nlock\nunlock\n");
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("the ring is p1 → p1"), "{}", ended.stdout);
    assert!(ended.stdout.contains("you have the lock (fence 1, waited "), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\x1b') && !ended.stdout.contains("> "), "{}", ended.stdout);
}

#[test]
fn every_way_out_is_orderly() {
    let dir = machines(THREE);
    // While a question is open.
    for way in ["INT", "TERM"] {
        let mut peer = Process::start(&dir, &["tokenring", "--output", "json"]);
        peer.say("p1");
        thread::sleep(Duration::from_millis(200));
        peer.signal(way);
        all_leave([&mut peer]);
    }
    // While a start waits for peers that never come, and a lock for the start.
    for way in ["INT", "TERM", "quit"] {
        let [mut peer] = start_all(&dir, ["p1"], |name| args(&THREE, name, &[]));
        peer.say("start\nlock");
        peer.wait_for("waiting");
        thread::sleep(Duration::from_millis(200));
        if way == "quit" {
            peer.say("quit");
        } else {
            peer.signal(way);
        }
        all_leave([&mut peer]);
    }
    // When nobody reads any more.
    let [mut peer] = start_all(&dir, ["p1"], |name| args(&THREE, name, &[]));
    peer.close_output();
    // The reader goes when it sees the first line; the next ones find nobody.
    peer.say("status");
    thread::sleep(Duration::from_millis(200));
    peer.say("status\nstatus");
    all_leave([&mut peer]);
    // With --stay the end of the input is not the end.
    let [mut peer] = start_all(&dir, ["p1"], |name| args(&THREE, name, &["--stay"]));
    peer.end_input();
    thread::sleep(Duration::from_millis(300));
    assert!(peer.is_running());
    peer.signal("TERM");
    all_leave([&mut peer]);
}

/// Reads on until this peer is in a view of these members, and returns its number.
fn wait_view(peer: &mut Process, members: &[&str]) -> u64 {
    let wanted = json!(members);
    peer.read_until(&format!("a view of {members:?}"), |peer| {
        peer.all("view").last().is_some_and(|view| view["members"] == wanted)
    });
    peer.all("view").last().unwrap()["number"].as_u64().unwrap()
}

/// When it said the first event of this kind that `wanted` accepts.
fn when(peer: &Process, kind: &str, wanted: impl Fn(&Value) -> bool) -> Instant {
    let found = peer.seen.iter().find(|(_, event)| event["event"] == kind && wanted(event));
    found.unwrap_or_else(|| panic!("no {kind}")).0
}

#[test]
fn the_ring_closes_around_a_killed_holder_which_comes_back() {
    for mode in ["circulate", "rest"] {
        let dir = machines(FIVE);
        let more = ["--mode", mode, "--hold", "5ms", "--lease", "2s"];
        let mut peers = Vec::from(start_all(&dir, FIVE, |name| args(&FIVE, name, &more)));
        peers[0].say("start");
        for peer in &mut peers {
            drop(peer.first("view"));
        }
        peers[2].say("lock");
        let first = fence(&peers[2].wait_for("acquired"));
        peers[3].say("lock");
        thread::sleep(Duration::from_millis(100));
        let killed = Instant::now();
        peers[2].signal("KILL");
        drop(peers.remove(2));
        for peer in &mut peers {
            let number = wait_view(peer, &["p1", "p2", "p4", "p5"]);
            assert!(number > 1, "{mode}");
            peer.wait_peer("p3", "down");
        }
        // The one that waits gets it when the lease of the dead one is over, and not before.
        let second = fence(&peers[2].wait_for("acquired"));
        let took = when(&peers[2], "acquired", |_| true) - killed;
        println!("{mode}: the next grant came {took:?} after the holder was killed");
        assert!(second > first, "{mode}: {second} after {first}");
        // The last echo of its lease may have been under way for as long as a heartbeat.
        assert!(took > Duration::from_millis(1400), "{mode}: {took:?}");
        assert!(took < Duration::from_secs(6), "{mode}: {took:?}");
        peers[2].say("unlock");
        // The others go on.
        contend(&mut peers, 2);

        let [mut again] = start_all(&dir, ["p3"], |name| args(&FIVE, name, &more));
        let number = wait_view(&mut again, &["p1", "p2", "p4", "p5", "p3"]);
        let about: Vec<&Value> = again.seen.iter().map(|(_, event)| event).collect();
        assert_eq!((&about[0]["event"], &about[1]["event"]), (&json!("ready"), &json!("view")));
        let views: Vec<&Value> = again.all("view");
        assert_eq!((views.len(), &views[0]["number"]), (1, &json!(number)));
        for peer in &mut peers {
            assert_eq!(wait_view(peer, &["p1", "p2", "p4", "p5", "p3"]), number);
        }
        peers.insert(2, again);
        // It has its old place on the ring.
        peers[0].say("ring");
        let ring = peers[0].wait_for("ring");
        assert_eq!(ring["members"], json!(FIVE), "{mode}");
        contend(&mut peers, 2);
        check_hops(&peers);
        for peer in &mut peers {
            peer.signal("TERM");
        }
        all_leave(&mut peers);
    }
}

#[test]
fn a_holder_that_sleeps_loses_the_lock_and_knows_it_at_once() {
    const LEASE: Duration = Duration::from_secs(1);
    let dir = machines(THREE);
    let more = ["--mode", "rest", "--lease", "1s"];
    let mut peers = start_all(&dir, THREE, |name| args(&THREE, name, &more));
    peers[0].say("start");
    for peer in &mut peers {
        drop(peer.first("view"));
    }
    peers[1].say("lock");
    let first = fence(&peers[1].wait_for("acquired"));
    peers[2].say("lock");
    thread::sleep(Duration::from_millis(300));
    peers[1].drain();
    let before = peers[1].seen.len();
    let stopped = Instant::now();
    peers[1].signal("STOP");
    let second = fence(&peers[2].wait_for("acquired"));
    let took = when(&peers[2], "acquired", |_| true) - stopped;
    println!("the next grant came {took:?} after the holder was stopped");
    assert!(second > first);
    assert!(took > LEASE / 2, "{took:?}: the lease was running");
    thread::sleep((3 * LEASE).saturating_sub(stopped.elapsed()));
    peers[1].signal("CONT");
    let lost = peers[1].wait_for("lost");
    assert_eq!((&lost["lock"], &lost["fence"]), (&json!("default"), &json!(first)));
    assert!(lost["reason"].is_string(), "{lost}");
    // Before anything else.
    assert_eq!(peers[1].seen[before].1, lost);
    // It comes back, and may want the lock again.
    peers[1].say("unlock\nlock");
    peers[1].wait("a refusal", |event| says(event, "you do not have the lock"));
    wait_view(&mut peers[1], &["p1", "p3", "p2"]);
    peers[2].say("unlock");
    let third = fence(&peers[1].wait_for("acquired"));
    assert!(third > second);
    for peer in &mut peers {
        peer.signal("TERM");
    }
    all_leave(&mut peers);
}

#[test]
fn too_few_grant_nothing_and_go_on_when_there_are_enough() {
    let dir = machines(THREE);
    let more = ["--mode", "rest", "--lease", "1s"];
    let mut peers = Vec::from(start_all(&dir, THREE, |name| args(&THREE, name, &more)));
    peers[0].say("start");
    for peer in &mut peers {
        drop(peer.first("view"));
    }
    peers[0].say("lock");
    let first = fence(&peers[0].wait_for("acquired"));
    // Two of three sleep: the third has a lease, but no majority.
    peers[1].signal("STOP");
    peers[2].signal("STOP");
    let lost = peers[0].wait_for("lost");
    assert_eq!(lost["fence"], first);
    assert_eq!(peers[0].first("quorum")["state"], "lost");
    peers[0].say("lock");
    peers[0].listen(Duration::from_secs(2));
    assert_eq!(peers[0].all("acquired").len(), 1, "granted without a majority");
    peers[1].signal("CONT");
    peers[2].signal("CONT");
    peers[0].wait("the majority is back", |event| {
        event["event"] == "quorum" && event["state"] == "regained"
    });
    let second = peers[0].wait_for("acquired");
    assert!(fence(&second) > first);
    for peer in &mut peers {
        peer.signal("TERM");
    }
    all_leave(&mut peers);
}
