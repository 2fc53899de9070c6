//! Five processes with disks, behind relays: they are killed, stopped, cut off and started again.

use super::{Dir, Process, SOON, owned, relays::Relays};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

pub(crate) const NAMES: [&str; 5] = ["p1", "p2", "p3", "p4", "p5"];

/// Up to five members of one group, each of which may have had several lives.
pub(crate) struct Cluster {
    dir: Dir,
    program: &'static str,
    more: Vec<String>,
    ports: Vec<u16>,
    pub(crate) net: Relays,
    /// How often [`Cluster::talk`] has let all of them say something.
    pub(crate) said: u64,
    /// The processes of each member, the latest one last.
    pub(crate) lives: Vec<Vec<Process>>,
}

impl Cluster {
    /// The files for `count` members that will run `program` with these further arguments.
    pub(crate) fn new(program: &'static str, count: usize, more: &[&str]) -> Self {
        let dir = Dir::new();
        let ports = lasting_ports(count);
        let net = Relays::start(&ports);
        for (own, name) in NAMES[..count].iter().enumerate() {
            // Each has files of its own: they name the relays between it and the others.
            let list: Vec<(&str, u16)> =
                (0..count).map(|peer| (NAMES[peer], net.port(own, peer))).collect();
            dir.machines(&list);
            dir.peers(&list);
            for (file, ending) in [("machines.txt", "txt"), ("peers.json", "json")] {
                fs::rename(dir.path().join(file), dir.path().join(format!("{name}.{ending}")))
                    .unwrap();
            }
        }
        let lives = (0..count).map(|_| Vec::new()).collect();
        Self { dir, program, more: owned(more), ports, net, said: 0, lives }
    }

    /// The number of members.
    pub(crate) fn len(&self) -> usize {
        self.lives.len()
    }

    /// Starts all members, for the first time.
    pub(crate) fn found(&mut self) {
        (0..self.len()).for_each(|index| self.start(index));
        if self.program == "tokenring" {
            self.at(0).say("start");
        }
        for index in 0..self.len() {
            let view = self.at(index).first("view");
            assert_eq!(view["number"], 1);
        }
    }

    /// Starts these members, one after the other.
    pub(crate) fn start_all(&mut self, which: &[usize]) {
        for index in which {
            self.start(*index);
        }
    }

    /// Starts a member, with the disk of its earlier lives, and waits until it listens.
    pub(crate) fn start(&mut self, index: usize) {
        let (name, next) = (NAMES[index], NAMES[(index + 1) % self.len()]);
        let mut args = match self.program {
            "tokenring" => {
                owned(&["tokenring", "--machines", &format!("{name}.txt"), "--next", next])
            }
            program => owned(&[program, "--peers", &format!("{name}.json"), "--no-generate"]),
        };
        args.extend(if self.program == "tokenring" {
            owned(&["--name", name])
        } else {
            owned(&[name])
        });
        let listen = format!("127.0.0.1:{}", self.ports[index]);
        let data = format!("{name}.data");
        args.extend(owned(&["--output", "json", "--listen", &listen, "--data-dir", &data]));
        args.extend(self.more.iter().cloned());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut process = Process::start(&self.dir, &args);
        process.wait_for("ready");
        self.lives[index].push(process);
    }

    /// The latest life of a member.
    pub(crate) fn at(&mut self, index: usize) -> &mut Process {
        self.lives[index].last_mut().expect("it has been started")
    }

    /// All processes that are the latest of their members.
    pub(crate) fn latest(&mut self) -> impl Iterator<Item = &mut Process> {
        self.lives.iter_mut().filter_map(|lives| lives.last_mut())
    }

    /// Kills these, all before the first of them is gone for sure, and reads what they have said.
    pub(crate) fn kill(&mut self, which: &[usize]) {
        for index in which {
            self.at(*index).signal("KILL");
        }
        for index in which {
            self.at(*index).wait_end(SOON);
            self.at(*index).rest();
        }
    }

    /// Reads on until these are all in one view of exactly them, and returns its number.
    pub(crate) fn wait_view(&mut self, members: &[usize], limit: Duration) -> u64 {
        let names: BTreeSet<&str> = members.iter().map(|index| NAMES[*index]).collect();
        let deadline = Instant::now() + limit;
        loop {
            let views: Vec<Option<Value>> = members
                .iter()
                .map(|index| {
                    let process = self.at(*index);
                    process.drain();
                    process.all("view").last().map(|view| (*view).clone())
                })
                .collect();
            if let Some(Some(first)) = views.first()
                && views.iter().all(|view| view.as_ref() == Some(first))
                && view_members(first) == names
            {
                return first["number"].as_u64().unwrap();
            }
            if Instant::now() > deadline {
                self.keep_story("no-view");
                panic!("no view of {names:?} within {limit:?}, but {views:?}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads from all for so long.
    pub(crate) fn listen(&mut self, span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.latest().for_each(Process::drain);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Each member says the number of its life and a running number, `rate` times per second.
    pub(crate) fn talk(&mut self, talkers: &[usize], span: Duration, rate: u32) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.said += 1;
            let count = self.said;
            for index in talkers {
                let text = format!("{}.{}.{count}", NAMES[*index], self.lives[*index].len());
                self.at(*index).say(&text);
            }
            self.listen(Duration::from_secs(1) / rate);
        }
    }

    /// Lets all go in order.
    pub(crate) fn leave(&mut self) {
        for process in self.latest() {
            process.signal("TERM");
        }
        super::all_leave(self.latest());
    }

    /// Writes down what all have said, for whoever looks for the cause, and says where.
    #[allow(clippy::print_stdout, reason = "it is shown if the test fails")]
    pub(crate) fn keep_story(&mut self, what: &str) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "{what}-{}-{}.jsonl",
            self.program,
            std::process::id()
        ));
        let mut lines: Vec<(Instant, String)> = Vec::new();
        for (index, lives) in self.lives.iter_mut().enumerate() {
            for (life, process) in lives.iter_mut().enumerate() {
                process.drain();
                for (at, event) in &process.seen {
                    lines.push((*at, format!("{}#{} {event}", NAMES[index], life + 1)));
                }
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        let begin = lines.first().map(|(at, _)| *at);
        let mut text = String::new();
        for (at, line) in &lines {
            let time = begin.map_or(0.0, |begin| (*at - begin).as_secs_f64());
            let _ = writeln!(text, "{time:8.3} {line}");
        }
        fs::write(&path, text).unwrap();
        println!("what all have said is in {}", path.display());
    }
}

/// Ports that stay free while nobody listens there: the system takes none of them for connections
/// (on Linux those begin at 32,768), and other tests take others.
fn lasting_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes of tests that run at once are told apart by their ids.
    let start = std::process::id() as u16 % 100 * 200;
    let ports = (0..200).map(|_| 12_000 + start + NEXT.fetch_add(1, Ordering::Relaxed) % 200);
    let free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let ports: Vec<u16> = free.take(count).collect();
    assert_eq!(ports.len(), count, "there are few free ports");
    ports
}

/// The members of a view, whatever their order.
pub(crate) fn view_members(view: &Value) -> BTreeSet<&str> {
    let Some(members) = view["members"].as_array() else { return BTreeSet::new() };
    members.iter().filter_map(Value::as_str).collect()
}

/// Whether an event tells of a quorum that is lost, or regained.
pub(crate) fn is_quorum(event: &Value, state: &str) -> bool {
    event == &json!({"event": "quorum", "state": state})
}
