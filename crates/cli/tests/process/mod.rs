//! Runs the real binary: its standard streams are pipes, its events are read with deadlines, and
//! whatever happens it is gone when the test is.

#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub(crate) mod cluster;
pub(crate) mod history;
pub(crate) mod proxy;
pub(crate) mod relays;

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long anything may take that should happen soon.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// A directory of its own for one test, removed at its end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes `machines.txt` for these names and ports on loopback.
    pub(crate) fn machines(&self, peers: &[(&str, u16)]) {
        let lines: Vec<String> =
            peers.iter().map(|(name, port)| format!("{name} 127.0.0.1 {port}\n")).collect();
        self.write("machines.txt", lines.concat());
    }

    /// Writes `peers.json` for these names and ports on loopback.
    pub(crate) fn peers(&self, peers: &[(&str, u16)]) {
        let entries: Vec<Value> = peers
            .iter()
            .map(
                |(name, port)| serde_json::json!({"name": name, "host": "127.0.0.1", "port": port}),
            )
            .collect();
        self.write("peers.json", serde_json::to_string(&entries).unwrap());
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ports that are free at this moment.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // All are held before the first is given back, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A running process of the program.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    stderr: Option<JoinHandle<String>>,
    /// Whether its output is left unread.
    unread: Arc<AtomicBool>,
    /// Everything that it has written to stdout so far and that was read, with the time.
    pub(crate) seen: Vec<(Instant, Value)>,
}

impl Process {
    /// Starts the program in `dir`.
    pub(crate) fn start(dir: &Dir, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
        command.args(args).current_dir(dir.path());
        command.env_remove("RUST_LOG").env_remove("ROUNDELAY_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let unread = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&unread);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                while stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
                if send.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let stdin = child.stdin.take();
        let name = args.join(" ");
        Self { name, child, stdin, lines, stderr: Some(stderr), unread, seen: Vec::new() }
    }

    /// Writes lines to its standard input.
    pub(crate) fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("the input has not been closed");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.write_all(b"\n")).unwrap();
        stdin.flush().unwrap();
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Reads no more of its output, as `head` does when it has enough.
    pub(crate) fn close_output(&mut self) {
        let (_, nothing) = channel();
        self.lines = nothing;
    }

    /// Reads no more of its output, but leaves it open, or goes on.
    pub(crate) fn leave_unread(&mut self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The next line of its output; none at its end.
    pub(crate) fn line(&mut self, deadline: Instant) -> Option<(Instant, String)> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.give_up("said nothing more"),
        }
    }

    /// The next event; none at the end of the output. Everything on stdout must be an event.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<Value> {
        let (at, line) = self.line(deadline)?;
        let event: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{}: {line:?} is no event: {error}", self.name));
        assert!(event["event"].is_string(), "{}: {line:?} is no event", self.name);
        self.seen.push((at, event.clone()));
        Some(event)
    }

    /// Reads on to the first event that `wanted` accepts.
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            match self.next(deadline) {
                Some(event) if wanted(&event) => return event,
                Some(_) => {}
                None => self.give_up(&format!("ended without {what}")),
            }
        }
    }

    /// Reads on to the first event of this kind.
    pub(crate) fn wait_for(&mut self, kind: &str) -> Value {
        self.wait(kind, |event| event["event"] == kind)
    }

    /// Reads on until there has been an event of this kind, and returns the first one.
    pub(crate) fn first(&mut self, kind: &str) -> Value {
        self.read_until(kind, |process| !process.all(kind).is_empty());
        self.all(kind)[0].clone()
    }

    /// Reads on until the last event about this peer says this.
    pub(crate) fn wait_peer(&mut self, name: &str, state: &str) {
        self.read_until(&format!("{name} {state}"), |process| {
            let about = process.all("peer").into_iter().rfind(|event| event["name"] == name);
            about.is_some_and(|event| event["state"] == state)
        });
    }

    /// The next event that has been written by now.
    pub(crate) fn poll(&mut self) -> Option<Value> {
        let (at, line) = self.lines.try_recv().ok()?;
        let event: Value = serde_json::from_str(&line).unwrap();
        self.seen.push((at, event.clone()));
        Some(event)
    }

    /// Reads everything that has been written by now.
    pub(crate) fn drain(&mut self) {
        while self.poll().is_some() {}
    }

    /// Reads for so long.
    pub(crate) fn listen(&mut self, span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.drain();
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has said of this kind, as far as it was read.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.seen.iter().map(|(_, event)| event).filter(|event| event["event"] == kind).collect()
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads on until `done` holds for what has been read.
    pub(crate) fn read_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !done(self) {
            if self.next(deadline).is_none() {
                self.give_up(&format!("ended without {what}"));
            }
        }
    }

    /// Sends a signal, as `kill -NAME` does.
    pub(crate) fn signal(&self, name: &str) {
        let args = [format!("-{name}"), self.id().to_string()];
        assert!(Command::new("kill").args(args).status().unwrap().success());
    }

    /// Waits for its end, and returns its exit code and how long that took.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> (Option<i32>, Duration) {
        let (status, took) = self.wait_status(limit);
        (status.code(), took)
    }

    fn wait_status(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, since.elapsed());
            }
            if since.elapsed() > limit {
                self.give_up(&format!("did not end within {limit:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads its output to the end, and its errors.
    pub(crate) fn rest(&mut self) -> String {
        let deadline = Instant::now() + SOON;
        while let Some((at, line)) = self.line(deadline) {
            if let Ok(event) = serde_json::from_str(&line) {
                self.seen.push((at, event));
            }
        }
        self.stderr.take().map(|stderr| stderr.join().unwrap()).unwrap_or_default()
    }

    /// Fails the test, with all that is known about this process.
    fn give_up(&mut self, what: &str) -> ! {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let stderr = self.stderr.take().map(|stderr| stderr.join().unwrap_or_default());
        let first = self.seen.len().saturating_sub(30);
        let last: Vec<String> =
            self.seen[first..].iter().map(|(_, event)| event.to_string()).collect();
        panic!(
            "{}: {what}\nlast events:\n{}\nstderr:\n{}",
            self.name,
            last.join("\n"),
            stderr.unwrap_or_default()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process for each name, all in `dir`, with arguments that depend on the name.
pub(crate) fn start_all<const N: usize>(
    dir: &Dir,
    names: [&str; N],
    args: impl Fn(&str) -> Vec<String>,
) -> [Process; N] {
    let mut processes = names.map(|name| {
        let args = args(name);
        Process::start(dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
    });
    for process in &mut processes {
        process.wait_for("ready");
    }
    processes
}

/// The same arguments as owned texts.
pub(crate) fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// What a process that ended by itself has left behind.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end with this input.
pub(crate) fn run(dir: &Dir, args: &[&str], input: &str) -> Ended {
    let mut process = Process::start(dir, args);
    let stdin = process.stdin.as_mut().unwrap();
    // A program that does not read its input may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    process.end_input();
    let (code, _) = process.wait_end(SOON);
    let mut stdout = String::new();
    while let Some((_, line)) = process.line(Instant::now() + SOON) {
        stdout.push_str(&line);
        stdout.push('\n');
    }
    Ended { code, stdout, stderr: process.rest() }
}

/// Checks that all leave within the promised time, with exit code 0.
pub(crate) fn all_leave<'a>(processes: impl IntoIterator<Item = &'a mut Process>) {
    for process in processes {
        let (code, took) = process.wait_end(Duration::from_secs(5));
        assert_eq!(code, Some(0), "{} after {took:?}", process.name);
    }
}
