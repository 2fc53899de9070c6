//! What people get wrong: each mistake is one clear error and exit code 2, and never a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Ended, free_ports, run};
use std::{fmt::Write as _, net::TcpListener};

/// Runs the program, and checks that it ends with one error that says `reason`.
fn refused(dir: &Dir, args: &[&str], input: &str, reason: &str) {
    let Ended { code, stdout, stderr } = run(dir, args, input);
    let context = format!("{args:?}\nstdout: {stdout}\nstderr: {stderr}");
    assert_eq!(code, Some(2), "{context}");
    assert_eq!(stdout, "", "{context}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{context}");
    assert!(stderr.contains(reason), "{reason:?} is missing: {context}");
    assert!(!stderr.contains("panicked"), "{context}");
}

/// A directory with files for `p1`, `p2` and `p3`.
fn dir() -> Dir {
    let dir = Dir::new();
    let [a, b, c] = free_ports();
    let peers = [("p1", a), ("p2", b), ("p3", c)];
    dir.machines(&peers);
    dir.peers(&peers);
    dir
}

#[test]
fn each_malformed_machines_file_has_its_place_and_reason() {
    let dir = Dir::new();
    let long = format!("{} h", "n".repeat(65));
    let mut many = String::new();
    for n in 1..=65 {
        writeln!(many, "p{n} 127.0.0.1 {n}").unwrap();
    }
    for (text, reason) in [
        ("", "machines.txt:1:1: no peers"),
        ("# nobody\n", "machines.txt:1:1: no peers"),
        ("p1\n", "machines.txt:1:3: the host of p1 is missing"),
        ("p1 h 1\np2 h 2 3\n", "machines.txt:2:8: \"3\" is too much"),
        ("p1 h port\n", "machines.txt:1:6: \"port\" is not a port"),
        ("p1 h 0\n", "machines.txt:1:6: \"0\" is not a port"),
        ("p1 h 65536\n", "machines.txt:1:6: \"65536\" is not a port"),
        ("p1 h:1 2\n", "machines.txt:1:8: \"h:1\" has a port already"),
        ("p1 ::1\n", "machines.txt:1:4: "),
        ("p1 300.0.0.1\n", "machines.txt:1:4: \"300.0.0.1\" is not an IPv4 address"),
        ("p,1 h\n", "machines.txt:1:1: a name cannot contain ','"),
        (long.as_str(), "machines.txt:1:1: a name has at most 64 bytes"),
        ("p1 h 1\np1 h 2\n", "machines.txt:2:1: the name p1 is used twice"),
        ("p1 h 1\np2 h 1\n", "machines.txt:2:4: h:1 is the address of p1 already"),
    ] {
        dir.write("machines.txt", text);
        refused(&dir, &["tokenring", "--name", "p1", "--next", "p1"], "", reason);
        refused(&dir, &["gossip", "--name", "p1", "--neighbors", ""], "", reason);
    }
    dir.write("machines.txt", many);
    refused(&dir, &["tokenring"], "", "lists 65 peers, but a group has at most 64");
    dir.write("machines.txt", b"p1 h 1\np2 \xff 2\n");
    refused(&dir, &["tokenring"], "", "machines.txt:2:4: this is not UTF-8");
    dir.write("machines.txt", b"\xff\xfep\x001\x00");
    refused(&dir, &["gossiping"], "", "UTF-16");
}

#[test]
fn each_malformed_peers_file_has_its_place_and_reason() {
    let dir = Dir::new();
    for (text, reason) in [
        ("", "peers.json:1:1: this is not JSON"),
        ("{\n\"p1\": \"h:1\",\n}", "peers.json:3:1: this is not JSON"),
        ("7", "peers.json:1:1: this is no list of peers"),
        ("[]", "peers.json:1:1: no peers"),
        ("[{\"name\":\"p1\",\"host\":\"h\"}]", "peers.json:1:2: \"port\" is missing"),
        (
            "[{\"name\":\"p1\",\"host\":\"h\",\"port\":\"1\"}]",
            "peers.json:1:33: \"1\" is not a port",
        ),
        (
            "[{\"name\":\"p1\",\"host\":\"h\",\"port\":1,\"x\":1}]",
            "peers.json:1:35: \"x\" is unknown",
        ),
        ("{\"p1\": 7}", "peers.json:1:8: the address of p1 is neither"),
        ("{\"p1\": \"h\"}", "peers.json:1:8: \"h\" has no port"),
        ("{\"p1\": \"h:1\", \"p1\": \"h:2\"}", "peers.json:1:15: the name p1 is used twice"),
        ("{\"p1\": \"h:1\", \"p2\": \"h:1\"}", "peers.json:1:21: h:1 is the address of p1"),
    ] {
        dir.write("peers.json", text);
        refused(&dir, &["multicast", "p1", "--no-generate"], "", reason);
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = Dir::new();
    refused(&dir, &["tokenring"], "", "cannot read machines.txt: ");
    refused(&dir, &["gossip", "--machines", "x/y.txt"], "", "cannot read x/y.txt: ");
    refused(&dir, &["multicast", "--peers", "."], "", "cannot read .: ");
}

#[test]
fn unknown_and_duplicate_names_are_refused() {
    let dir = dir();
    let unknown = "\"p9\" is not in machines.txt; it lists p1, p2, p3";
    refused(&dir, &["tokenring", "--name", "p9"], "", unknown);
    refused(&dir, &["tokenring", "--name", "p1", "--next", "p9"], "", unknown);
    refused(&dir, &["tokenring"], "p9\n", unknown);
    refused(&dir, &["tokenring", "--name", "p1"], "p9\n", unknown);
    refused(&dir, &["gossip", "--name", "p9"], "", unknown);
    refused(&dir, &["gossip", "--name", "p1", "--neighbors", "p2,p9"], "", unknown);
    refused(&dir, &["gossip", "--name", "p1", "--neighbors", "p2,p2"], "", "p2 is named twice");
    refused(&dir, &["gossip", "--name", "p1", "--neighbors", "p1"], "", "p1 is this node itself");
    refused(&dir, &["gossip"], "p1\n2\np2\np9\n", unknown);
    refused(&dir, &["gossip"], "p1\n2\np2\np2\n", "p2 is named twice");
    refused(&dir, &["gossip"], "p1\n3\n", "\"3\" is not a number from 0 to 2");
    refused(&dir, &["gossip"], "p1\nmany\n", "\"many\" is not a number from 0 to 2");
    let unknown = "\"p9\" is not in peers.json; it lists p1, p2, p3";
    refused(&dir, &["multicast", "p9"], "", unknown);
    refused(&dir, &["multicast"], "p9\n", unknown);
    refused(&dir, &["multicast", "p1"], "perhaps\n", "\"perhaps\" is no answer");
}

#[test]
fn an_input_that_ends_before_the_answers_is_refused() {
    let dir = dir();
    refused(&dir, &["tokenring"], "", "the input ended before \"peer name\"");
    refused(&dir, &["tokenring"], "p1\n", "the input ended before \"next peer name\"");
    refused(&dir, &["gossip"], "p1\n1\n", "the input ended before \"name of neighbour 1\"");
    refused(&dir, &["multicast"], "p1\n", "the input ended before \"generate messages?");
}

#[test]
fn wrong_flags_are_refused() {
    let dir = dir();
    for (args, reason) in [
        (&["tokenring", "--mode", "fast"][..], "invalid value 'fast'"),
        (&["tokenring", "--hold", "soon"], "is not a time"),
        (&["tokenring", "--hold", "0s"], "longer than nothing"),
        (&["tokenring", "--nmae", "p1"], "unexpected argument '--nmae'"),
        (&["gossip", "--k", "0"], "0 is not in 1..=1000"),
        (&["gossip", "--strategy", "tree", "--k", "2"], "--k belongs to --strategy rumor"),
        (&["gossip", "--generate", "fast"], "is not a rate"),
        (&["gossip", "--join", "p1"], "unexpected argument '--join'"),
        (&["multicast", "--generate", "1", "--no-generate"], "cannot be used with"),
        (&["multicast", "--output", "xml"], "invalid value 'xml'"),
        (&["multicast", "--listen", "127.0.0.1:x", "p1", "--no-generate"], "--listen: "),
        (&["demo", "--nodes", "1"], "1 is not in 2..=33"),
        (&["dance"], "unrecognized subcommand"),
    ] {
        refused(&dir, args, "", reason);
    }
    for program in ["tokenring", "gossip", "multicast"] {
        let later = "--group-key comes with a later version";
        refused(&dir, &[program, "--group-key", "group.key"], "", later);
    }
}

#[test]
fn a_port_in_use_is_refused() {
    let dir = Dir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = [("p1", listener.local_addr().unwrap().port())];
    dir.machines(&peers);
    dir.peers(&peers);
    let reason = "the port is in use; end what uses it (is p1 running already?)";
    refused(&dir, &["tokenring", "--name", "p1", "--next", "p1"], "", reason);
    refused(&dir, &["gossip", "--name", "p1", "--neighbors", ""], "", reason);
    refused(&dir, &["multicast", "p1", "--no-generate"], "", reason);
}

#[test]
fn other_addresses_than_loopback_need_a_decision() {
    let dir = Dir::new();
    dir.write("machines.txt", "p1 0.0.0.0 7001\n");
    refused(&dir, &["tokenring", "--name", "p1", "--next", "p1"], "", "add --insecure");
    // An address for documentation (RFC 5737), which is no machine's.
    dir.write("machines.txt", "p1 192.0.2.1 7001\n");
    let args = ["tokenring", "--name", "p1", "--next", "p1", "--insecure"];
    refused(&dir, &args, "", "this machine does not have that address");
}

#[test]
fn errors_are_events_for_who_reads_only_them() {
    let dir = dir();
    let Ended { code, stdout, .. } =
        run(&dir, &["tokenring", "--name", "p9", "--output", "json"], "");
    assert_eq!(code, Some(2));
    let event: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(event["event"], "error");
    assert!(event["message"].as_str().unwrap().starts_with("\"p9\" is not in machines.txt"));
}

#[test]
fn help_has_examples() {
    let dir = Dir::new();
    for command in ["tokenring", "gossip", "gossiping", "multicast", "demo"] {
        let Ended { code, stdout, stderr } = run(&dir, &[command, "--help"], "");
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
        assert!(stdout.contains("Examples:"), "{command}: {stdout}");
    }
    let Ended { code, stdout, .. } = run(&dir, &["--help"], "");
    assert_eq!(code, Some(0));
    assert!(!stdout.contains("demo-node"), "{stdout}");
}
