//! Rumors between real processes, driven by scripts over pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Process, SOON, all_leave, free_ports, owned, run, start_all};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Only one of two neighbours names the other: links go both ways all the same.
const LINE: [(&str, &str); 5] = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "")];
const STAR: [(&str, &str); 5] = [("a", ""), ("b", "a"), ("c", "a"), ("d", "a"), ("e", "a")];

fn machines<const N: usize>(names: [&str; N]) -> Dir {
    let dir = Dir::new();
    let peers: Vec<(&str, u16)> = names.into_iter().zip(free_ports::<N>()).collect();
    dir.machines(&peers);
    dir
}

fn args(graph: &[(&str, &str)], name: &str, more: &[&str]) -> Vec<String> {
    let neighbors = graph.iter().find(|(node, _)| *node == name).unwrap().1;
    let first = ["gossip", "--output", "json", "--name", name, "--neighbors", neighbors];
    owned(&[&first[..], more].concat())
}

/// The rumors that a node has heard, per origin and number. Each must have been heard once, with
/// hops 0 where it was said and more elsewhere. `but` is left out: a node with two lives numbers
/// its rumors twice.
fn heard(name: &str, process: &Process, but: &str) -> BTreeMap<String, BTreeMap<u64, String>> {
    let mut heard: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for rumor in process.all("rumor").into_iter().filter(|rumor| rumor["origin"] != but) {
        let origin = rumor["origin"].as_str().unwrap().to_owned();
        assert_eq!(rumor["hops"] == 0, origin == name, "{name} heard {rumor}");
        let text = rumor["text"].as_str().unwrap().to_owned();
        let number = rumor["sequence"].as_u64().unwrap();
        let before = heard.entry(origin).or_default().insert(number, text);
        assert_eq!(before, None, "{name} heard {rumor} twice");
    }
    heard
}

/// Reads on until a node has heard this text, and checks that it is the only time.
fn hears(node: &mut Process, text: &str) {
    let count = |node: &Process| node.all("rumor").iter().filter(|r| r["text"] == text).count();
    node.read_until(text, |node| count(node) > 0);
    node.listen(Duration::from_millis(50));
    assert_eq!(count(node), 1, "{text}");
}

/// Waits until a node says no more rumors of its own.
fn settle(node: &mut Process) {
    let mut said = None;
    loop {
        node.say("/status");
        let now = node.wait_for("status")["said"].clone();
        if said.replace(now.clone()) == Some(now) {
            return;
        }
        node.listen(Duration::from_millis(100));
    }
}

/// Lets all five say 1,000 rumors and more, and checks that each reaches each node once.
fn a_thousand_rumors(graph: &[(&str, &str); 5], strategy: &[&str]) {
    let dir = machines(FIVE);
    let mut nodes = start_all(&dir, FIVE, |name| args(graph, name, strategy));
    for node in &mut nodes {
        node.say("/generate 250");
    }
    let enough = Instant::now() + SOON;
    let said = |nodes: &[Process; 5]| {
        let own = |node: &Process| node.all("rumor").iter().filter(|r| r["hops"] == 0).count();
        nodes.iter().map(own).sum::<usize>()
    };
    while said(&nodes) < 1000 {
        assert!(Instant::now() < enough, "only {} rumors", said(&nodes));
        nodes.iter_mut().for_each(Process::drain);
        thread::sleep(Duration::from_millis(20));
    }
    for node in &mut nodes {
        node.say("/stop");
    }
    // What was generated before may still be on its way.
    nodes.iter_mut().for_each(settle);
    let total = said(&nodes);
    for (name, node) in FIVE.iter().zip(&mut nodes) {
        node.read_until("all rumors", |node| node.all("rumor").len() >= total);
        let heard = heard(name, node, "");
        assert_eq!(heard.values().map(BTreeMap::len).sum::<usize>(), total);
        assert_eq!(heard.len(), 5);
    }
    // Nothing comes a second time afterwards.
    for node in &mut nodes {
        node.say("/quit");
        node.rest();
        assert_eq!(node.all("rumor").len(), total);
        assert_eq!(node.all("error"), Vec::<&Value>::new());
    }
    all_leave(&mut nodes);
}

#[test]
fn a_thousand_rumors_in_a_line_by_the_tree() {
    a_thousand_rumors(&LINE, &[]);
}

#[test]
fn a_thousand_rumors_in_a_star_by_the_tree() {
    a_thousand_rumors(&STAR, &["--strategy", "tree"]);
}

#[test]
fn a_thousand_rumors_in_a_line_by_rumor_mongering() {
    a_thousand_rumors(&LINE, &["--strategy", "rumor", "--k", "2"]);
}

#[test]
fn a_thousand_rumors_in_a_star_by_rumor_mongering() {
    a_thousand_rumors(&STAR, &["--strategy", "rumor", "--k", "2"]);
}

#[test]
fn hops_are_counted_and_texts_arrive_unchanged() {
    let dir = machines(FIVE);
    let mut nodes = start_all(&dir, FIVE, |name| args(&LINE, name, &[]));
    nodes.iter_mut().zip(["b", "c", "d", "e", "d"]).for_each(|(node, next)| {
        node.wait_peer(next, "up");
    });
    let text = "Grüße 🎵 \"quoted\" \\ \u{7} <b>";
    nodes[0].say(text);
    for (hops, node) in nodes.iter_mut().enumerate() {
        let rumor = node.wait_for("rumor");
        let expected = json!({
            "event": "rumor", "origin": "a", "sequence": 1, "hops": hops, "text": text,
        });
        assert_eq!(rumor, expected);
    }
    nodes[4].say("/send /quit\n/rumors\n/peers\n/send\n/dance\n/generate x\n/stop");
    assert_eq!(nodes[0].wait_for("rumor")["text"], "/quit");
    assert_eq!(nodes[4].wait_for("rumors")["rumors"][0]["text"], text);
    let peers = nodes[4].wait_for("peers");
    assert_eq!(peers["peers"][3]["name"], "d");
    assert_eq!(peers["peers"][3]["state"], "up");
    for _ in 0..4 {
        nodes[4].wait_for("error");
    }
    nodes.iter_mut().for_each(Process::end_input);
    all_leave(&mut nodes);
}

#[test]
fn a_neighbour_that_was_killed_gets_what_the_others_retain() {
    let dir = machines(FIVE);
    let mut nodes = Vec::from(start_all(&dir, FIVE, |name| args(&LINE, name, &[])));
    nodes[4].say("its first life speaks");
    for node in &mut nodes[..4] {
        node.say("/generate 100");
    }
    hears(&mut nodes[0], "its first life speaks");
    nodes[4].signal("KILL");
    nodes[3].wait_peer("e", "down");
    // Said while it is away.
    nodes[3].listen(Duration::from_millis(500));
    let [mut again] = start_all(&dir, ["e"], |name| args(&LINE, name, &[]));
    again.say("its second life speaks");
    nodes[3].wait_peer("e", "up");
    let about: Vec<&Value> =
        nodes[3].all("peer").into_iter().filter(|event| event["name"] == "e").collect();
    assert_eq!(about.len(), 3, "up, down, up: {about:?}");
    for node in &mut nodes[..4] {
        node.say("/stop");
    }
    nodes[..4].iter_mut().for_each(settle);
    // It has the same as the others, and so have they.
    nodes.remove(4);
    nodes.push(again);
    let said: BTreeMap<_, _> = FIVE[..4]
        .iter()
        .zip(&nodes)
        .map(|(name, node)| ((*name).to_owned(), heard(name, node, "e")[*name].clone()))
        .collect();
    for (name, node) in FIVE.iter().zip(&mut nodes) {
        node.read_until("everything", |node| heard(name, node, "e") == said);
        hears(node, "its first life speaks");
        hears(node, "its second life speaks");
    }
    for node in &mut nodes {
        node.signal("TERM");
    }
    all_leave(&mut nodes);
}

#[test]
fn the_end_of_the_input_waits_until_a_neighbour_has_the_rumor() {
    let dir = machines(["a", "b"]);
    let mut a = Process::start(&dir, &["gossip", "--output", "json"]);
    a.say("a\n1\nb\nis anybody there?");
    a.end_input();
    a.wait_for("waiting");
    assert!(a.is_running());
    let [mut b] = start_all(&dir, ["b"], |_| {
        owned(&["gossip", "--output", "json", "--name", "b", "--neighbors", ""])
    });
    assert_eq!(b.wait_for("rumor")["text"], "is anybody there?");
    all_leave([&mut a]);
    b.wait_peer("a", "left");
    b.signal("INT");
    all_leave([&mut b]);
    // Without neighbours there is nothing to wait for.
    let ended = run(&dir, &["gossip", "--name", "a", "--neighbors", ""], "hello\n/peers\n");
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("a (here): hello"), "{}", ended.stdout);
}

#[test]
fn a_reader_who_does_not_read_holds_nobody_up() {
    let dir = machines(["a", "b"]);
    let graph = [("a", "b"), ("b", "a")];
    let mut nodes = start_all(&dir, ["a", "b"], |name| args(&graph, name, &["--generate", "2000"]));
    nodes[0].wait_peer("b", "up");
    nodes[0].leave_unread(true);
    // Long enough to fill the pipe and all that comes before it; the other one hears on.
    let heard = nodes[1].all("rumor").len();
    nodes[1].listen(Duration::from_secs(2));
    assert!(nodes[1].all("rumor").len() > heard + 1000);
    nodes[0].signal("TERM");
    let (code, _) = nodes[0].wait_end(Duration::from_secs(5));
    assert_eq!(code, Some(0));
    nodes[0].leave_unread(false);
    nodes[1].signal("TERM");
    all_leave(&mut nodes[1..]);
}
