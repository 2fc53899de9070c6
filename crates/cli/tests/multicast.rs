//! One order between real processes, driven by scripts over pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod process;

use process::{Dir, Process, all_leave, free_ports, owned, proxy::Proxy, run, start_all};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

const FOUR: [&str; 4] = ["p1", "p2", "p3", "p4"];
const FIVE: [&str; 5] = ["p1", "p2", "p3", "p4", "p5"];
const THREE: [&str; 3] = ["p1", "p2", "p3"];

fn peers<const N: usize>(names: [&str; N]) -> Dir {
    let dir = Dir::new();
    let list: Vec<(&str, u16)> = names.into_iter().zip(free_ports::<N>()).collect();
    dir.peers(&list);
    dir
}

fn args(name: &str, more: &[&str]) -> Vec<String> {
    owned(&[&["multicast", name, "--output", "json"], more].concat())
}

fn quiet(name: &str) -> Vec<String> {
    args(name, &["--no-generate"])
}

/// What a process has delivered, without what may differ: nothing.
fn order(process: &Process) -> Vec<Value> {
    process.all("delivered").into_iter().cloned().collect()
}

/// Checks that positions have no gaps, that stamps increase, and that the messages of one sender
/// are in their order; returns how many each sent. Whoever is slow to answer on a busy machine may
/// have been left out and taken in again: then its messages count from 1 anew, once for each of
/// these `views`.
fn check_order(order: &[Value], views: usize) -> BTreeMap<String, u64> {
    let mut again = 0;
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    let mut stamp = (0, String::new());
    for (index, message) in order.iter().enumerate() {
        assert_eq!(message["position"], index + 1, "{message}");
        let sender = message["sender"].as_str().unwrap();
        let time = message["time"].as_u64().unwrap();
        assert!(time >= stamp.0, "{message} after {stamp:?}");
        stamp = (time, sender.to_owned());
        let count = sent.entry(sender.to_owned()).or_default();
        if message["sequence"] == 1 && *count > 0 {
            (again, *count) = (again + 1, 0);
        }
        *count += 1;
        assert_eq!(message["sequence"], *count, "{message}");
    }
    assert!(again < views, "{again} incarnations in {views} views");
    sent
}

/// Reads until nobody delivers anything any more.
fn settle(processes: &mut [Process]) {
    let mut last = (usize::MAX, Instant::now());
    while last.1.elapsed() < Duration::from_secs(1) {
        processes.iter_mut().for_each(Process::drain);
        let count = processes.iter().map(|process| process.seen.len()).sum();
        if count != last.0 {
            last = (count, Instant::now());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn four_generate_for_ten_seconds_and_deliver_the_same() {
    let dir = Dir::new();
    let ports = free_ports::<4>();
    let list: Vec<(&str, u16)> = FOUR.into_iter().zip(ports).collect();
    dir.peers(&list);
    // What p1 says to p2 goes through a proxy.
    let proxy = Proxy::start(ports[1]);
    let other = Dir::new();
    let mut through = list.clone();
    through[1].1 = proxy.port;
    other.peers(&through);
    let mut peers = Vec::from(start_all(&other, ["p1"], |name| args(name, &["--generate", "60"])));
    peers.extend(start_all(&dir, ["p2", "p3", "p4"], |name| args(name, &["--generate", "60"])));
    for peer in &mut peers {
        peer.first("view");
    }
    let begin = Instant::now();
    for second in 1..=10 {
        let until = begin + Duration::from_secs(second);
        while Instant::now() < until {
            peers.iter_mut().for_each(Process::drain);
            thread::sleep(Duration::from_millis(10));
        }
        if matches!(second, 3 | 6) {
            assert_eq!(proxy.cut(), 1, "the link from p1 to p2");
        }
    }
    for peer in &mut peers {
        peer.say("/stop");
    }
    settle(&mut peers);
    assert_eq!(proxy.passed(), 3, "the first link, and one after each cut");
    let first = order(&peers[0]);
    let sent = check_order(&first, peers[0].all("view").len());
    assert!(first.len() > 1000, "{sent:?}");
    for peer in &mut peers {
        assert!(order(peer) == first, "{:?} and {:?}", order(peer).last(), first.last());
        assert_eq!(peer.all("error"), Vec::<&Value>::new());
        peer.say("/quit");
    }
    assert_eq!(sent.len(), 4);
    all_leave(&mut peers);
}

#[test]
fn texts_are_messages_and_the_end_waits_for_their_place() {
    let dir = peers(THREE);
    // The answers come from the first lines.
    let mut first = Process::start(&dir, &["multicast", "--output", "json"]);
    first.say("p1\nn\nGrüße 🎵 \u{7}");
    first.end_input();
    first.wait_for("ready");
    let waiting = first.wait_for("waiting");
    assert_eq!(waiting["for"], json!(["p2", "p3"]));
    let mut rest = start_all(&dir, ["p2", "p3"], quiet);
    for peer in rest.iter_mut().chain([&mut first]) {
        let delivered = peer.wait_for("delivered");
        let expected = json!({
            "event": "delivered", "position": 1, "time": delivered["time"], "sender": "p1",
            "sequence": 1, "text": "Grüße 🎵 \u{7}",
        });
        assert_eq!(delivered, expected);
    }
    all_leave([&mut first]);
    rest[0].wait_peer("p1", "left");
    // Two are a majority of three, and the one that left is not waited for.
    rest[0].say("after\n/clock\n/queue\n/history\n/peers\n/dance");
    for peer in &mut rest {
        assert_eq!(peer.wait_for("delivered")["position"], 2);
    }
    assert!(rest[0].first("clock")["time"].as_u64() >= Some(1));
    assert!(rest[0].first("queue")["messages"].is_array());
    assert_eq!(rest[0].first("history")["messages"][0]["sender"], "p1");
    assert_eq!(rest[0].first("peers")["peers"][0]["state"], "left");
    assert!(rest[0].first("error")["message"].as_str().unwrap().contains("/dance"));
    for peer in &mut rest {
        peer.signal("INT");
    }
    all_leave(&mut rest);
}

#[test]
fn a_script_alone_is_a_group_of_one() {
    let dir = peers(["p1"]);
    let ended = run(&dir, &["multicast", "p1", "--no-generate"], "a\nb\n/quit\n");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[1], "all are here: p1");
    assert!(lines[2].starts_with("1  p1: a"), "{lines:?}");
    assert!(lines[3].starts_with("2  p1: b"), "{lines:?}");
}

/// Reads on until this peer is in a view of these members, and returns its number.
fn wait_view(peer: &mut Process, members: &[&str]) -> u64 {
    let wanted = json!(members);
    peer.read_until(&format!("a view of {members:?}"), |peer| {
        peer.all("view").last().is_some_and(|view| view["members"] == wanted)
    });
    peer.all("view").last().unwrap()["number"].as_u64().unwrap()
}

/// The longest time without a delivery, from `since` on.
fn longest_gap(process: &Process, since: Instant) -> Duration {
    let delivered = process.seen.iter().filter(|(_, event)| event["event"] == "delivered");
    let times: Vec<Instant> = delivered.map(|(at, _)| *at).filter(|at| *at >= since).collect();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.chain(times.first().map(|first| *first - since)).max().expect("something was delivered")
}

/// The messages of two incarnations of one name count from 1 each: positions alone have no gaps.
fn check_positions(order: &[Value]) {
    for (index, message) in order.iter().enumerate() {
        assert_eq!(message["position"], index + 1, "{message}");
    }
}

#[test]
fn a_killed_member_is_left_out_and_its_new_life_gets_what_it_missed() {
    let dir = peers(FIVE);
    let generate = |name: &str| args(name, &["--generate", "40"]);
    let mut peers = Vec::from(start_all(&dir, FIVE, generate));
    for peer in &mut peers {
        peer.first("view");
    }
    let busy = |peers: &mut [Process], span: Duration| {
        let until = Instant::now() + span;
        while Instant::now() < until {
            peers.iter_mut().for_each(Process::drain);
            thread::sleep(Duration::from_millis(5));
        }
    };
    busy(&mut peers, Duration::from_secs(2));
    let killed = Instant::now();
    peers[2].signal("KILL");
    drop(peers.remove(2));
    busy(&mut peers, Duration::from_secs(3));
    for peer in &mut peers {
        assert!(wait_view(peer, &["p1", "p2", "p4", "p5"]) > 1);
        let gap = longest_gap(peer, killed);
        println!("the longest time without a delivery: {gap:?}");
        assert!(gap <= Duration::from_secs(1), "{gap:?} without a delivery");
    }

    let [mut again] = start_all(&dir, ["p3"], generate);
    let number = wait_view(&mut again, &["p1", "p2", "p4", "p5", "p3"]);
    // It reads of the view first, then of all that was said before.
    let ready = again.seen[0].0;
    let joined = again.seen.last().unwrap().0 - ready;
    println!("{joined:?} from ready to the view");
    let said: Vec<&Value> = again.seen.iter().map(|(_, event)| &event["event"]).collect();
    assert_eq!(said, ["ready", "view"]);
    peers.push(again);
    busy(&mut peers, Duration::from_secs(2));
    for peer in &mut peers {
        assert_eq!(wait_view(peer, &["p1", "p2", "p4", "p5", "p3"]), number);
        peer.say("/stop");
    }
    settle(&mut peers);
    // The same from the first message on, also for who was killed.
    let first = order(&peers[0]);
    check_positions(&first);
    assert!(first.len() > 500, "{}", first.len());
    for peer in &mut peers {
        assert!(order(peer) == first, "{:?} and {:?}", order(peer).last(), first.last());
        assert_eq!(peer.all("error"), Vec::<&Value>::new());
        assert_eq!(peer.all("loss"), Vec::<&Value>::new());
        peer.say("/quit");
    }
    all_leave(&mut peers);
}

#[test]
fn views_stand_at_the_same_place_in_the_order() {
    let dir = peers(THREE);
    let mut peers = Vec::from(start_all(&dir, THREE, |name| args(name, &["--generate", "30"])));
    for peer in &mut peers {
        peer.first("view");
    }
    thread::sleep(Duration::from_millis(500));
    peers[0].signal("KILL");
    drop(peers.remove(0));
    for peer in &mut peers {
        wait_view(peer, &["p2", "p3"]);
        peer.listen(Duration::from_millis(500));
        peer.say("/stop");
    }
    settle(&mut peers);
    let story = |peer: &Process| {
        let events = peer.seen.iter().map(|(_, event)| event);
        let order =
            events.filter(|event| event["event"] == "delivered" || event["event"] == "view");
        order.cloned().collect::<Vec<Value>>()
    };
    assert_eq!(story(&peers[0]), story(&peers[1]));
    for peer in &mut peers {
        peer.say("/quit");
    }
    all_leave(&mut peers);
}

#[test]
fn every_way_out_is_orderly() {
    let dir = peers(THREE);
    for way in ["INT", "TERM"] {
        // While the question is open.
        let mut peer = Process::start(&dir, &["multicast", "p1", "--output", "json"]);
        thread::sleep(Duration::from_millis(200));
        peer.signal(way);
        all_leave([&mut peer]);
    }
    for way in ["INT", "TERM", "/quit"] {
        // While a message waits for absent peers.
        let [mut peer] = start_all(&dir, ["p1"], quiet);
        peer.say("is anybody there?");
        peer.wait_for("waiting");
        if way == "/quit" {
            peer.say(way);
        } else {
            peer.signal(way);
        }
        all_leave([&mut peer]);
        peer.rest();
        let error = &peer.all("error")[0]["message"];
        assert!(error.as_str().unwrap().ends_with("ended before: 1 of your texts"), "{error}");
    }
}
