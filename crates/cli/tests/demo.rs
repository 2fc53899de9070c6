//! The demo: real processes, checked as they run, and gone when it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Process, SOON, run};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// The processes that this one has started.
fn children(id: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    list.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// Whether a process exists and has not ended.
fn is_alive(id: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

fn all_gone(ids: &[u32]) {
    let deadline = Instant::now() + Duration::from_secs(6);
    while ids.iter().any(|id| is_alive(*id)) {
        assert!(Instant::now() < deadline, "{ids:?} still run");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_promised_is_violated() {
    let dir = Dir::new();
    let mut demo = Process::start(&dir, &["demo", "--for", "3s", "--output", "json"]);
    let (code, took) = demo.wait_end(SOON);
    demo.rest();
    let events: Vec<_> = demo.seen.iter().map(|(_, event)| event).collect();
    assert_eq!(code, Some(0), "{events:?}");
    assert!(took > Duration::from_secs(3), "{took:?}");
    let summary = events.last().unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!((&summary["nodes"], &summary["violations"]), (&5.into(), &0.into()));
    for what in ["grants", "rumors", "messages"] {
        assert!(summary[what].as_u64() > Some(50), "{summary}");
    }
}

#[test]
fn the_demo_ends_with_its_processes_when_it_is_interrupted() {
    let dir = Dir::new();
    let mut demo =
        Process::start(&dir, &["demo", "--nodes", "3", "--for", "1h", "--output", "json"]);
    demo.wait_for("progress");
    let ids = children(demo.id());
    assert_eq!(ids.len(), 3);
    demo.signal("INT");
    let (code, _) = demo.wait_end(Duration::from_secs(5));
    assert_eq!(code, Some(0));
    assert!(ids.iter().all(|id| !is_alive(*id)));
    demo.rest();
    let (_, summary) = demo.seen.last().unwrap();
    assert_eq!((&summary["event"], &summary["violations"]), (&"summary".into(), &0.into()));
}

#[test]
fn a_process_that_dies_is_a_violation() {
    let dir = Dir::new();
    let mut demo =
        Process::start(&dir, &["demo", "--nodes", "3", "--for", "1h", "--output", "json"]);
    demo.wait_for("progress");
    let ids = children(demo.id());
    let kill = std::process::Command::new("kill").arg("-KILL").arg(ids[1].to_string()).status();
    assert!(kill.unwrap().success());
    let violation = demo.wait_for("violation");
    assert_eq!(violation["what"], "the process of n2 ended by itself");
    let (code, _) = demo.wait_end(Duration::from_mins(1));
    assert_eq!(code, Some(1));
    demo.rest();
    let (_, summary) = demo.seen.last().unwrap();
    assert_eq!(summary["event"], "summary");
    assert!(summary["violations"].as_u64() >= Some(1));
    all_gone(&ids);
}

#[test]
fn the_processes_end_when_the_demo_dies() {
    let dir = Dir::new();
    let mut demo =
        Process::start(&dir, &["demo", "--nodes", "2", "--for", "1h", "--output", "json"]);
    demo.wait_for("progress");
    let ids = children(demo.id());
    assert_eq!(ids.len(), 2);
    demo.signal("KILL");
    all_gone(&ids);
}

#[test]
fn people_are_told_what_happens() {
    let dir = Dir::new();
    let ended = run(&dir, &["demo", "--nodes", "2", "--for", "500ms", "--open"], "");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.starts_with("2 processes: n1 127.0.0.1:"), "{}", ended.stdout);
    assert!(ended.stdout.trim_end().ends_with("in one order, 0 violations"), "{}", ended.stdout);
    assert!(ended.stderr.contains("the page comes with the agent"), "{}", ended.stderr);
}
