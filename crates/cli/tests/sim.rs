//! The simulator as its users meet it: the same seed is the same run in any process, and what is
//! wrong is said in one line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Ended, Process, SOON, run};
use serde_json::Value;
use std::time::Duration;

/// Runs `roundelay sim …`, which must end with this exit code.
fn sim(args: &str, code: i32) -> Ended {
    let args: Vec<&str> = ["sim"].into_iter().chain(args.split_whitespace()).collect();
    let ended = run(&Dir::new(), &args, "");
    let Ended { stdout, stderr, .. } = &ended;
    assert_eq!(ended.code, Some(code), "{args:?}\n{stdout}\n{stderr}");
    ended
}

/// The same with JSON: the events.
fn events(args: &str) -> Vec<Value> {
    let text = sim(&format!("{args} --output json"), 0).stdout;
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["event"].is_string()), "{text}");
    events
}

/// The event of this name, which must be the last one.
fn last(events: &[Value], name: &str) -> Value {
    let last = events.last().unwrap();
    assert_eq!(last["event"], name);
    last.clone()
}

#[test]
fn the_same_seed_is_the_same_run_in_two_processes() {
    let [one, two] = [(); 2].map(|()| sim("run --seed 11", 0).stdout);
    assert_eq!(one, two);
    assert!(one.starts_with("seed 11: "), "{one}");
    assert!(one.contains("everything held\n  hash "), "{one}");
    assert_ne!(one, sim("run --seed 12", 0).stdout);
}

#[test]
fn quiet_is_only_the_result() {
    let told = sim("run --seed 11", 0).stdout;
    let quiet = sim("run --seed 11 --quiet", 0).stdout;
    assert!(told.ends_with(&quiet) && quiet.lines().count() < 10, "{quiet}");
}

#[test]
fn a_run_is_valid_json() {
    let events = events("run --seed 11 --protocol lock,multicast --nodes 3");
    assert_eq!(events[0]["event"], "run");
    assert_eq!(events[0]["nodes"], serde_json::json!(["p1", "p2", "p3"]));
    assert_eq!(events[1]["event"], "step");
    assert!(events[1]["input"].is_string() && events[1]["effects"].is_array());
    let result = last(&events, "result");
    assert_eq!(result["steps"], events.len() - 2);
    assert_eq!(result["hash"].as_str().unwrap().len(), 16);
    assert_eq!(result["counts"]["rumors"], 0);
}

#[test]
fn what_is_taken_out_is_gone() {
    let whole = events("run --seed 11");
    let names: Vec<&str> =
        whole[0]["ingredients"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    // Each name is known, and what one flag takes out the other leaves in.
    let one = names[0];
    let rest = names[1..].join(",");
    let without = events(&format!("run --seed 11 --without {one}"));
    let only = events(&format!("run --seed 11 --only {rest}"));
    assert_eq!(without, only);
    assert_eq!(without[0]["ingredients"].as_array().unwrap().len(), names.len() - 1);
    let nothing = events(&format!("run --seed 11 --without {}", names.join(",")));
    assert_eq!(nothing[0]["ingredients"], serde_json::json!([]));
    assert_eq!(last(&nothing, "result")["counts"]["grants"], 0);
}

#[test]
fn a_sweep_is_the_same_on_one_thread_and_on_two() {
    let [one, two] =
        [1, 2].map(|jobs| last(&events(&format!("sweep --seeds 0..200 --jobs {jobs}")), "summary"));
    for field in ["hash", "steps", "seeds", "violations", "virtual_seconds", "counts", "faults"] {
        assert!(!one[field].is_null(), "{field}");
        assert_eq!(one[field], two[field], "{field}");
    }
    assert_eq!(one["seeds"], 200);
    assert_eq!(one["violations"], 0);
    let other = last(&events("sweep --seeds 1..201"), "summary");
    assert_ne!(one["hash"], other["hash"]);
}

#[test]
fn a_sweep_says_what_it_did() {
    let Ended { stdout, stderr, .. } = sim("sweep --seeds 5..25 --protocol gossip --nodes 4", 0);
    assert!(stdout.starts_with("20 seeds, 5..25: everything held\n  hash "), "{stdout}");
    for word in ["seeds/s", "per second of processor time", "rumors"] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
    assert!(!stdout.contains("grants"), "{stdout}");
    assert_eq!(stderr, "");
}

#[test]
fn ctrl_c_ends_a_sweep_with_what_was_done() {
    let dir = Dir::new();
    let args = ["sim", "sweep", "--seeds", "0..100000000", "--output", "json"];
    let mut sweep = Process::start(&dir, &args);
    std::thread::sleep(Duration::from_millis(500));
    sweep.signal("INT");
    let summary = sweep.wait_for("summary");
    assert_eq!(summary["from"], 0);
    assert_eq!(summary["to"], summary["seeds"]);
    assert!(summary["seeds"].as_u64().unwrap() < 100_000_000);
    assert_eq!(sweep.wait_end(SOON).0, Some(130));
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let dir = Dir::new();
    let mut told = Process::start(&dir, &["sim", "run", "--seed", "11"]);
    told.close_output();
    assert_eq!(told.wait_end(SOON).0, Some(0));
    assert_eq!(told.rest(), "");
}

#[test]
fn each_mistake_is_one_clear_error() {
    for (args, reason) in [
        ("run", "--seed"),
        ("run --seed many", "'many'"),
        ("run --seed 1 --nodes 0", "0 is not in 1..=33"),
        ("run --seed 1 --protocol chess", "'chess'"),
        ("run --seed 1 --without rain", "--without: there is no \"rain\" in this run; there is "),
        ("run --seed 1 --only task:p9:1", "--only: there is no \"task:p9:1\" in this run"),
        ("run --seed 1 --only loss --without loss", "cannot be used with"),
        ("run --seed 1 --storm soon", "not a time"),
        ("sweep", "--seeds"),
        ("sweep --seeds 10", "write it like 0..10000"),
        ("sweep --seeds 9..3", "there is no seed in 9..3"),
        ("sweep --seeds 0..9 --jobs 0", "0 is not in 1..=1024"),
    ] {
        let Ended { stdout, stderr, .. } = sim(args, 2);
        assert_eq!(stdout, "", "{args}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{args}: {stderr}");
        assert!(stderr.contains(reason), "{reason:?} is missing: {stderr}");
    }
}

#[test]
fn the_help_has_examples() {
    for command in ["", "run", "sweep"] {
        let help = sim(&format!("{command} --help"), 0).stdout;
        assert!(help.contains("Examples:\n  roundelay sim "), "{help}");
    }
}
