//! The programs at a terminal, which `script` (util-linux) provides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod process;

use process::{Dir, SOON, free_ports};
use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

/// Whether there is a terminal to be had. In CI that it is missing is a failure.
fn has_terminal() -> bool {
    let found = Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "script (util-linux) is missing");
        println!("skipped: script (util-linux) is missing");
    }
    found
}

/// Types `keys` at a terminal, each when what stands before it has appeared, and returns what was
/// shown in all, and the exit code.
fn at_terminal(dir: &Dir, args: &str, keys: &[(&str, &str)]) -> (String, Option<i32>) {
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_roundelay"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"]);
    script.current_dir(dir.path()).env("TERM", "xterm").env_remove("RUST_LOG");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut script = script.spawn().unwrap();
    let (mut stdin, mut stdout) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (send, shown) = channel();
    thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = stdout.read(&mut bytes) {
            if send.send(bytes[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = Vec::new();
    let mut from = 0;
    let deadline = Instant::now() + SOON;
    for (before, key) in keys {
        loop {
            let text = String::from_utf8_lossy(&screen[from..]).into_owned();
            if text.contains(before) {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = shown.recv_timeout(left) else {
                let _ = script.kill();
                panic!("{before:?} did not appear in {:?}", String::from_utf8_lossy(&screen));
            };
            screen.extend(bytes);
        }
        from = screen.len();
        stdin.write_all(key.as_bytes()).unwrap();
    }
    while let Ok(bytes) = shown.recv_timeout(Duration::from_secs(6)) {
        screen.extend(bytes);
    }
    let code = script.wait().unwrap().code();
    (String::from_utf8_lossy(&screen).into_owned(), code)
}

fn machines() -> Dir {
    let dir = Dir::new();
    let [one, two] = free_ports();
    dir.machines(&[("p1", one), ("p2", two)]);
    dir.peers(&[("p1", one)]);
    dir
}

#[test]
fn questions_are_asked_again_and_lines_typed_ahead_are_kept() {
    if !has_terminal() {
        return;
    }
    let dir = Dir::new();
    let [port] = free_ports();
    dir.machines(&[("p1", port)]);
    let keys = [
        ("peer name: ", "p9\r"),
        ("peer name: ", "p1\r"),
        ("next peer name: ", "p1\r"),
        ("> ", "start\r"),
        ("the ring is p1 → p1", "lock\r"),
        ("you have the lock (fence 1", "lock\runlock\runlock\r"),
        ("you do not have the lock", "quit\r"),
    ];
    let (shown, code) = at_terminal(&dir, "tokenring", &keys);
    assert_eq!(code, Some(0), "{shown}");
    for text in ["is not in machines.txt; it lists p1", "(fence 1); unlock it first", "passed"] {
        assert!(shown.contains(text), "{text:?} is missing: {shown}");
    }
}

#[test]
fn ctrl_c_and_ctrl_d_leave() {
    if !has_terminal() {
        return;
    }
    let dir = machines();
    for key in ["\u{3}", "\u{4}"] {
        // While a question is open, and while a line is (not) being typed.
        for keys in [
            vec![("node name: ", key)],
            vec![("node name: ", "p1\r"), ("neighbours: ", "0\r"), ("> ", key)],
        ] {
            let (shown, code) = at_terminal(&dir, "gossip", &keys);
            assert_eq!(code, Some(0), "{keys:?}: {shown}");
        }
    }
}

#[test]
fn json_needs_no_editor() {
    if !has_terminal() {
        return;
    }
    let dir = machines();
    let keys = [
        ("generate messages?", "n\n"),
        ("\"event\":\"view\"", "hello\n"),
        ("\"delivered\"", "\u{4}"),
    ];
    let (shown, code) = at_terminal(&dir, "multicast p1 --output json", &keys);
    assert_eq!(code, Some(0), "{shown}");
}
