//! Small benchmarks of the real program: what they say, and what their exit codes say. How fast
//! it is, is not looked at.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Ended, Process, SOON, free_ports, run};
use serde_json::Value;
use std::time::Instant;

/// Runs `roundelay bench` with these arguments.
fn bench(args: &str) -> Ended {
    let args: Vec<&str> = ["bench"].into_iter().chain(args.split_whitespace()).collect();
    run(&Dir::new(), &args, "")
}

/// The result that was printed, which must be one line.
fn result(ended: &Ended) -> Value {
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{}{}", ended.stdout, ended.stderr);
    serde_json::from_str(lines[0]).unwrap()
}

/// Checks that a result has these fields, and that they are numbers above 0.
fn has(result: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        assert!(result[field].as_f64().is_some_and(|value| value > 0.0), "{field} of {result}");
    }
}

#[test]
fn processes_multicast() {
    let ended = bench("multicast --nodes 2 --count 300 --size 100 --window 16 --output json");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let result = result(&ended);
    has(&result, "n size senders window msgs warmup rate_min MBps p50us p99us p999us");
    has(&result, "ack_frames_per_msg packets_per_msg cpu_us_per_msg");
    assert_eq!((&result["same_order"], &result["complete"]), (&true.into(), &true.into()));
    assert_eq!((&result["msgs"], &result["warmup"]), (&600.into(), &60.into()));
}

#[test]
fn threads_multicast() {
    let ended = bench("multicast --in-process --count 100 --senders 1 --window 1 --output json");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let result = result(&ended);
    assert_eq!((&result["senders"], &result["msgs"]), (&1.into(), &100.into()));
    // One message at a time in a group of three: each of the other two answers it once, to two.
    let clocks = result["ack_frames_per_msg"].as_f64().unwrap();
    assert!((3.0..6.0).contains(&clocks), "{result}");
    assert_eq!((&result["same_order"], &result["complete"]), (&true.into(), &true.into()));
}

#[test]
fn processes_lock() {
    let ended = bench("lock --nodes 2 --for 300ms --warmup 100ms --hold 100us --output json");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let result = result(&ended);
    has(&result, "n clients hold_us secs grants all_grants rate fairness handoffs_pct");
    has(&result, "p50us p99us p999us wait_p50us wait_p99us wait_p999us");
    has(&result, "messages_per_grant packets_per_grant cpu_us_per_grant");
    // At least the pass and its acknowledgement, for each grant at another node.
    let messages = result["messages_per_grant"].as_f64().unwrap();
    assert!((1.0..8.0).contains(&messages), "{result}");
    assert_eq!(result["violations"], 0);
}

#[test]
fn threads_lock_with_nodes_on_threads_of_their_own() {
    let flags = "--in-process --own-thread --clients 3 --for 300ms --warmup 100ms --output json";
    let ended = bench(&format!("lock {flags}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let result = result(&ended);
    assert_eq!((&result["clients"], &result["violations"]), (&9.into(), &0.into()));
}

#[test]
fn the_lock_where_the_token_rests() {
    let ended = bench("lock --relock --in-process --for 300ms --warmup 100ms --output json");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let result = result(&ended);
    has(&result, "n secs pairs rate p50us p99us p999us cpu_us_per_pair");
    assert_eq!((&result["lock_messages"], &result["violations"]), (&0.into(), &0.into()));
}

#[test]
fn gossip() {
    for flags in ["--threads 1 --graph tree", "--threads 2 --seed 5"] {
        let phases =
            "--nodes 8 --settle 50ms --idle 100ms --count 10 --gap 5ms --for 200ms --burst 50";
        let ended = bench(&format!("gossip {phases} {flags} --output json"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let result = result(&ended);
        has(&result, "n threads links size window p50us p99us p999us maxus delivery_p50us");
        has(&result, "copies_per_delivery rate");
        // What else goes over the loopback interface is taken off, and other tests may be busy there.
        for counted in ["packets_per_delivery", "bytes_per_delivery"] {
            assert!(result[counted].as_f64().unwrap() >= 0.0, "{result}");
        }
        has(&result, "loop_copies_per_delivery");
        for control in ["control_per_delivery", "loop_control_per_delivery"] {
            assert!((0.0..2.0).contains(&result[control].as_f64().unwrap()), "{result}");
        }
        has(&result, "deliveries_per_s burst_rate burst_complete_pct burst_p99us rumors");
        assert_eq!(result["complete"], true);
        for nothing in ["missing", "duplicates", "wrong"] {
            assert_eq!(result[nothing], 0, "{nothing}");
        }
    }
}

#[test]
fn each_node_of_a_group_may_be_started_by_itself() {
    let ports: [u16; 3] = free_ports();
    let group = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    let dir = Dir::new();
    let mut nodes = [1, 2, 3].map(|node| {
        let flags = format!("bench multicast --count 100 --node {node} --group {group}");
        Process::start(&dir, &flags.split(' ').collect::<Vec<_>>())
    });
    let figures = nodes.each_mut().map(|node| {
        let (_, line) = node.line(Instant::now() + SOON).expect("it says what it has seen");
        assert_eq!(node.wait_end(SOON).0, Some(0));
        serde_json::from_str::<Value>(&line).unwrap()
    });
    for (index, figures) in figures.iter().enumerate() {
        has(figures, "rate MBps p50us p99us p999us secs");
        assert_eq!(figures["id"], index + 1);
        assert_eq!((&figures["got"], &figures["bad"]), (&300.into(), &0.into()));
        assert_eq!(figures["hash"].as_str().unwrap().len(), 16);
    }
    assert!(figures.iter().all(|one| one["hash"] == figures[0]["hash"]));
}

#[test]
fn an_assertion_that_does_not_hold_is_a_failure() {
    let small = "multicast --in-process --nodes 2 --count 50";
    let ended = bench(&format!("{small} --assert rate>0 --assert p50<1000s"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = bench(&format!("{small} --assert rate<0.001 --assert p50us>0"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("rate<0.001 does not hold"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("p50us>0"), "{}", ended.stderr);
    assert!(ended.stdout.contains("verified"), "the result is shown all the same");
    let ended = bench(&format!("{small} --assert speed>1"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no field speed"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let refused = |args: &str, what: &str| {
        let ended = bench(args);
        assert_eq!(ended.code, Some(2), "{args}");
        assert!(ended.stderr.contains(what), "{args}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    };
    refused("lock --node 4 --group a:1,b:1,c:1", "take 1 to 3");
    refused("lock --node 1", "--group");
    refused("lock --group a:1", "--node");
    refused("lock --node 1 --group a:1,b", "\"b\" is no address");
    refused("lock --node 1 --group 127.0.0.1:9,127.0.0.1:9", "listed twice");
    refused("multicast --node 1 --group 0.0.0.0:7999", "add --insecure");
    refused("multicast --node 1 --group 192.0.2.1:7999 --insecure", "has this address");
    refused("multicast --senders 4", "there are 3 nodes");
    refused("multicast --count 9 --warmup 9", "take less");
    refused("lock --relock --clients 2", "--clients");
    refused("lock --hold 31s", "shorter");
    refused("gossip --degree 3", "even number");
    refused("gossip --graph tree --nodes 1", "2..");
}
