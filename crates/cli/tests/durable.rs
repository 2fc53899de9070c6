//! `--durable`: five processes that are killed at once, under load, lose nothing of the order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod process;

use process::{Dir, Ended, Process, SOON, free_ports, run};
use serde_json::Value;
use std::{collections::BTreeMap, fs, time::Duration};

const FIVE: [&str; 5] = ["p1", "p2", "p3", "p4", "p5"];

fn start(dir: &Dir, name: &str, more: &[&str]) -> Process {
    let data = format!("of/{name}");
    let args = ["multicast", name, "--output", "json", "--durable", "--data-dir", &data];
    Process::start(dir, &[&args, more].concat())
}

/// By position: what was delivered.
fn order(process: &Process) -> BTreeMap<u64, Value> {
    let delivered = process.all("delivered").into_iter();
    delivered.map(|message| (message["position"].as_u64().unwrap(), what(message))).collect()
}

/// The message, without what is about this process.
fn what(message: &Value) -> Value {
    let fields = ["position", "sender", "sequence", "time", "text"];
    fields.iter().map(|field| (*field, message[*field].clone())).collect::<Value>()
}

#[test]
fn five_that_are_killed_at_once_lose_nothing_that_was_delivered() {
    let dir = Dir::new();
    let peers: Vec<(&str, u16)> = FIVE.into_iter().zip(free_ports::<5>()).collect();
    dir.peers(&peers);
    let mut before: BTreeMap<u64, Value> = BTreeMap::new();
    let mut base = 0;
    // The second time they have the log of three lives, the last of which was a short one.
    for round in 0..2 {
        let more: &[&str] = &["--generate", "100"];
        let mut all: Vec<Process> = FIVE.iter().map(|name| start(&dir, name, more)).collect();
        for process in &mut all {
            process.wait("a message that is new", |line| {
                line["event"] == "delivered" && line["position"].as_u64().unwrap() > base + 200
            });
        }
        // At full speed, all within a few milliseconds.
        for process in &all {
            process.signal("KILL");
        }
        for process in &mut all {
            process.wait_end(SOON);
            process.drain();
        }
        for process in &all {
            let order = order(process);
            for (position, message) in &before {
                assert_eq!(order.get(position), Some(message), "round {round}");
            }
        }
        for process in &all {
            before.extend(order(process));
            assert!(process.all("lost").is_empty());
        }
        base = *before.keys().next_back().unwrap();
        println!("round {round}: {} messages, the last at {base}", before.len());
    }
    let mut all: Vec<Process> =
        FIVE.iter().map(|name| start(&dir, name, &["--no-generate"])).collect();
    all[0].wait_for("ready");
    all[4].say("after all that");
    for process in &mut all {
        process.wait("the last message", |line| line["text"] == "after all that");
        let order = order(process);
        for (position, message) in &before {
            assert_eq!(order.get(position), Some(message), "of {}", before.len());
        }
        let last = *order.keys().next_back().unwrap();
        assert!(last < base + 1000, "{last} after {base}: a loss was made of it");
    }
}

fn refused(dir: &Dir, args: &[&str], code: i32, reason: &str) {
    let Ended { code: ended, stderr, .. } = run(dir, args, "");
    assert_eq!(ended, Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(reason), "{reason:?} is missing: {stderr}");
}

#[test]
fn what_is_durable_needs_a_directory_and_is_not_forgotten_or_damaged() {
    let dir = Dir::new();
    let [port] = free_ports();
    dir.peers(&[("p1", port)]);
    let plain = ["multicast", "p1", "--no-generate"];
    refused(&dir, &[&plain[..], &["--durable"]].concat(), 2, "--data-dir");

    let mut first = start(&dir, "p1", &["--no-generate"]);
    first.wait_for("ready");
    for text in ["one", "two"] {
        first.say(text);
        first.wait("its delivery", |line| line["text"] == text);
        std::thread::sleep(Duration::from_millis(50));
    }
    first.signal("KILL");
    first.wait_end(SOON);
    let data = ["--data-dir", "of/p1"];
    let without = [&plain[..], &data].concat();
    refused(&dir, &without, 2, "has a durable log of the order");

    let logs = fs::read_dir(dir.path().join("of/p1")).unwrap().map(|file| file.unwrap().path());
    let mut logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    let log = logs.next().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[20] ^= 1;
    fs::write(&log, bytes).unwrap();
    let with = [&without[..], &["--durable"]].concat();
    refused(&dir, &with, 1, "is damaged, a wrong checksum: move all files order-*.log out of");
}

/// What the error says helps: who has lost its log learns the order from the others.
#[test]
fn a_member_whose_damaged_log_is_moved_away_comes_back_and_nothing_is_lost() {
    let dir = Dir::new();
    let names = ["p1", "p2", "p3"];
    let peers: Vec<(&str, u16)> = names.into_iter().zip(free_ports::<3>()).collect();
    dir.peers(&peers);
    let mut all = names.map(|name| start(&dir, name, &["--no-generate"]));
    all[0].wait_for("ready");
    for text in ["one", "two", "three"] {
        all[1].say(text);
        for process in &mut all {
            process.wait("its delivery", |line| line["text"] == text);
        }
    }
    let before = order(&all[0]);
    for process in &mut all {
        process.signal("KILL");
        process.wait_end(SOON);
    }
    let data = dir.path().join("of/p3");
    let log = data.join(format!("order-{:020}.log", 1));
    let mut bytes = fs::read(&log).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&log, bytes).unwrap();
    let args = ["multicast", "p3", "--no-generate", "--durable", "--data-dir", "of/p3"];
    refused(&dir, &args, 1, "move all files order-*.log out of the data directory");
    fs::rename(&log, dir.path().join("aside.log")).unwrap();

    let mut all = names.map(|name| start(&dir, name, &["--no-generate"]));
    for process in &mut all {
        process.wait("the last of before", |line| line["text"] == "three");
    }
    all[2].say("four");
    for process in &mut all {
        process.wait("the next", |line| line["text"] == "four");
        let order = order(process);
        assert!(before.iter().all(|(position, message)| order.get(position) == Some(message)));
        assert!(process.all("lost").is_empty());
    }
}
