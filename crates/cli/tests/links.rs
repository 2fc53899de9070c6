//! Connections between real processes, seen by proxies: whoever starts first and however they
//! leave, no established connection is ever reset.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Process, SOON, all_leave, free_ports, owned, proxy::Proxy};
use std::{
    thread,
    time::{Duration, Instant},
};

const THREE: [&str; 3] = ["p1", "p2", "p3"];

/// Three nodes, each behind a proxy that stands in the files.
struct Nodes {
    dir: Dir,
    proxies: [Proxy; 3],
    listen: [String; 3],
}

impl Nodes {
    fn new() -> Self {
        let dir = Dir::new();
        let ports = free_ports::<3>();
        let proxies = ports.map(Proxy::start);
        let list: Vec<(&str, u16)> =
            THREE.into_iter().zip(proxies.iter().map(|proxy| proxy.port)).collect();
        dir.machines(&list);
        dir.peers(&list);
        Self { dir, proxies, listen: ports.map(|port| format!("127.0.0.1:{port}")) }
    }

    fn start(&self, program: &str, index: usize) -> Process {
        let (name, next) = (THREE[index], THREE[(index + 1) % 3]);
        let mut args = match program {
            "tokenring" => vec!["tokenring", "--name", name, "--next", next, "--hold", "5ms"],
            "gossip" => vec!["gossip", "--name", name, "--neighbors", next, "--generate", "100"],
            _ => vec!["multicast", name, "--generate", "100"],
        };
        args.extend(["--output", "json", "--listen", &self.listen[index]]);
        let args = owned(&args);
        Process::start(&self.dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Waits until each of them has been called.
    fn wait_called(&self) {
        let deadline = Instant::now() + SOON;
        while self.proxies.iter().any(|proxy| proxy.passed() == 0) {
            assert!(Instant::now() < deadline, "somebody is never called");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn check(&self, what: &str) {
        for (name, proxy) in THREE.iter().zip(&self.proxies) {
            assert!(proxy.passed() > 0, "{what}: nobody called {name}");
            assert_eq!(proxy.resets(), 0, "{what}: a connection to {name} was reset");
        }
    }
}

/// Starts the nodes in this order, lets them work, and lets them leave in another one, each in
/// its own way.
fn come_and_go(program: &str, order: [usize; 3]) {
    let nodes = Nodes::new();
    let mut running: Vec<(usize, Process)> = Vec::new();
    for index in order {
        let mut process = nodes.start(program, index);
        process.wait_for("ready");
        // Long enough to be refused by those that are absent, and to try again.
        thread::sleep(Duration::from_millis(150));
        running.push((index, process));
    }
    if program == "tokenring" {
        running[0].1.say("start");
    }
    let kind = match program {
        "tokenring" => "token",
        "gossip" => "rumor",
        _ => "delivered",
    };
    for (_, process) in &mut running {
        process.read_until("some work", |process| process.all(kind).len() > 20);
    }
    nodes.wait_called();
    running.sort_by_key(|(index, _)| *index);
    for ((index, process), way) in running.iter_mut().zip(["quit", "TERM", "INT"]) {
        match way {
            "quit" => process.say(if program == "tokenring" { "quit" } else { "/quit" }),
            signal => process.signal(signal),
        }
        all_leave([process]);
        nodes.check(&format!("{program} after the {way} of {}", THREE[*index]));
    }
    // What was still open is closed now.
    thread::sleep(Duration::from_millis(100));
    nodes.check(program);
}

#[test]
fn the_ring_never_resets_a_connection() {
    come_and_go("tokenring", [0, 1, 2]);
    come_and_go("tokenring", [2, 1, 0]);
}

#[test]
fn the_gossip_never_resets_a_connection() {
    come_and_go("gossip", [0, 1, 2]);
    come_and_go("gossip", [1, 2, 0]);
}

#[test]
fn the_order_never_resets_a_connection() {
    come_and_go("multicast", [0, 1, 2]);
    come_and_go("multicast", [2, 0, 1]);
}

#[test]
fn all_may_leave_at_once() {
    for program in ["tokenring", "gossip", "multicast"] {
        let nodes = Nodes::new();
        let mut running = [0, 1, 2].map(|index| nodes.start(program, index));
        for process in &mut running {
            for name in THREE {
                process.read_until("all links", |process| {
                    let up = |event: &&serde_json::Value| event["name"] == name;
                    process.all("ready").iter().any(|ready| ready["node"] == name)
                        || process.all("peer").iter().any(up)
                });
            }
        }
        nodes.wait_called();
        for process in &mut running {
            process.signal("TERM");
        }
        all_leave(&mut running);
        thread::sleep(Duration::from_millis(100));
        nodes.check(program);
    }
}

#[test]
fn a_reset_is_noticed_by_the_proxy() {
    // Otherwise the tests above prove nothing.
    let nodes = Nodes::new();
    let mut running = [0, 1, 2].map(|index| nodes.start("multicast", index));
    for process in &mut running {
        process.read_until("some work", |process| process.all("delivered").len() > 20);
    }
    running[1].signal("STOP");
    thread::sleep(Duration::from_millis(200));
    // Killed with unread data in its sockets, which the kernel answers with resets.
    running[1].signal("KILL");
    running[0].wait_peer("p2", "down");
    thread::sleep(Duration::from_millis(100));
    let resets: usize = nodes.proxies.iter().map(Proxy::resets).sum();
    assert!(resets > 0);
    for process in [0, 2] {
        running[process].signal("TERM");
        all_leave([&mut running[process]]);
    }
}
