//! The example of a resource that checks fences, as processes: a holder that was stopped for three
//! leases comes too late, and the resource says so.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant, SystemTime},
};

const SOON: Duration = Duration::from_mins(1);
/// As the example has it.
const LEASE: Duration = Duration::from_secs(1);

/// The example's program. `cargo test` has built it, unless it was told to build this test alone.
fn example() -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples/fenced_resource");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = fs::metadata(&program).and_then(|file| file.modified()).ok();
    let changed = ["examples", "src", "../core/src"].map(|dir| newest(&sources.join(dir)));
    if built < changed.into_iter().max() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "-p", "roundelay", "--example", "fenced_resource"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.current_dir(sources).status().unwrap().success());
    }
    program
}

/// When something in this directory was changed last.
fn newest(dir: &Path) -> SystemTime {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let times = entries.map(|path| {
        if path.is_dir() { newest(&path) } else { fs::metadata(&path).unwrap().modified().unwrap() }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(program: &Path, args: &[String]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.map(|line| send.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        Self { child, lines }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(SOON).expect("it says something")
    }

    fn signal(&self, name: &str) {
        let args = [format!("-{name}"), self.child.id().to_string()];
        assert!(Command::new("kill").args(args).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fence(line: &str) -> u64 {
    line.strip_prefix("mine, with fence ").expect(line).parse().unwrap()
}

#[test]
fn a_late_write_is_refused_by_the_fence() {
    let program = example();
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fenced-{}", std::process::id()));
    // All are held before the first is given back, so that they differ.
    let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let peers: Vec<String> = (1..)
        .zip(&held)
        .map(|(number, listener)| format!("p{number}={}", listener.local_addr().unwrap()))
        .collect();
    drop(held);
    let mut peers = ["p1", "p2", "p3"].map(|name| {
        let first = [name.to_owned(), file.to_str().unwrap().to_owned()];
        Process::start(&program, &[&first, &peers[..]].concat())
    });
    for peer in &peers {
        assert_eq!(peer.next(), "ready");
    }
    let [old, new, _] = &mut peers;
    old.say("lock\nwrite early");
    let first = fence(&old.next());
    assert_eq!(old.next(), format!("written with fence {first}"));

    let stopped = Instant::now();
    old.signal("STOP");
    // It wants to write, and does not know yet that its time is over.
    old.say("write late");
    new.say("lock\nwrite new");
    let second = fence(&new.next());
    assert!(second > first, "{second} after {first}");
    assert_eq!(new.next(), format!("written with fence {second}"));
    thread::sleep((3 * LEASE).saturating_sub(stopped.elapsed()));
    old.signal("CONT");
    let line = old.next();
    assert!(line.starts_with("lost: "), "the first line after it wakes is {line:?}");
    assert_eq!(old.next(), format!("refused: fence {first}, and {second} has written"));
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{second}\nnew\n"));

    // Who has it again may write again.
    new.say("unlock");
    old.say("lock\nwrite again");
    let third = fence(&old.next());
    assert!(third > second, "{third} after {second}");
    assert_eq!(old.next(), format!("written with fence {third}"));
    fs::remove_file(&file).unwrap();
}
