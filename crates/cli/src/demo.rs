//! `roundelay demo`: real processes on loopback, with a contended lock, rumors and ordered
//! messages among them, and everything that is promised checked as they run.

mod check;
mod children;
pub(crate) mod node;

use crate::{
    args::Demo,
    failure::Usage,
    output::{Output, Report},
    shutdown::Shutdown,
};
use anyhow::{Context, bail};
use check::{Check, Grants, Order, Rumors};
use children::{Children, Said, Told};
use std::{
    hash::{BuildHasher, RandomState},
    io,
    ops::ControlFlow,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    net::UnixDatagram,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// How long the demo runs where nobody watches.
const UNWATCHED: Duration = Duration::from_secs(10);
/// How often it says what it has seen.
const PROGRESS: Duration = Duration::from_secs(2);
/// How long the processes may take to find each other.
const BEGIN: Duration = Duration::from_secs(30);
/// How long the last rumors and messages may take.
const SETTLE: Duration = Duration::from_secs(20);
/// The same when somebody wants to end the demo now, or a node has died: then what is missing is
/// not judged.
const SETTLE_EARLY: Duration = Duration::from_secs(2);
/// Somebody else may take a free port first; then others are tried.
const ATTEMPTS: usize = 3;
/// Violations that are shown one by one.
const SHOWN_MAX: u64 = 100;

/// Runs the demo. The exit code says whether everything promised held.
pub(crate) async fn run(
    args: Demo,
    output: Output,
    shutdown: Shutdown,
    watched: bool,
) -> anyhow::Result<ExitCode> {
    if args.open {
        output.aside("the page comes with the agent, in a later version").await;
    }
    if let Some(dir) = &args.record {
        let made = std::fs::create_dir_all(dir);
        made.map_err(|error| Usage(format!("--record: cannot make {}: {error}", dir.display())))?;
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            // Those of another run, beside these, would look like a part of it.
            if entry.path().extension().is_some_and(|extension| extension == "rec") {
                crate::program::check_recording(&entry.path())?;
            }
        }
    }
    let scratch = Scratch::new()?;
    let ledger =
        UnixDatagram::bind(node::ledger(scratch.path())).context("cannot make a socket")?;
    std::fs::write(node::counter(scratch.path()), "0 0").context("cannot write the counter")?;
    let Some(children) = begin(&args, &scratch, &output, &shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let names = children.names();
    output.note(format!("{} processes: {}", names.len(), children.places().join(", "))).await;
    let mut show = Show {
        rumors: Rumors::new(&names),
        order: Order::new(&names),
        grants: Grants::default(),
        rested: vec![None; names.len()],
        violations: 0,
        ledger,
        children,
        output,
        since: Instant::now(),
    };
    let limit = args.duration.or((!watched).then_some(UNWATCHED));
    let early = show.play(limit, &shutdown).await?;
    show.settle(early).await;
    for broken in show.children.leave().await {
        show.broken(broken).await;
    }
    show.finish(early, scratch.path()).await
}

/// Starts the processes and waits until they are a group. None if somebody ended it before.
async fn begin(
    args: &Demo,
    scratch: &Scratch,
    output: &Output,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Children>> {
    for attempt in 1.. {
        let mut children =
            Children::start(usize::from(args.nodes), scratch.path(), args.record.as_deref())?;
        let begun = tokio::select! {
            begun = children.installed() => begun,
            () = shutdown.requested() => {
                children.leave().await;
                return Ok(None);
            }
            () = tokio::time::sleep(BEGIN) => Err("they did not find each other".into()),
        };
        match begun {
            Ok(()) => return Ok(Some(children)),
            Err(reason) => {
                children.leave().await;
                if attempt == ATTEMPTS {
                    bail!("the processes did not start: {reason}");
                }
                output.aside(format!("starting anew with other ports: {reason}")).await;
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// The demo while it runs.
struct Show {
    children: Children,
    ledger: UnixDatagram,
    output: Output,
    grants: Grants,
    rumors: Rumors,
    order: Order,
    /// What each node has done in all, once it rests: rumors and messages.
    rested: Vec<Option<(u64, u64)>>,
    violations: u64,
    since: Instant,
}

impl Show {
    /// Lets the nodes work for a while. Says whether that ended early: somebody wished it, or a
    /// node has died.
    async fn play(&mut self, limit: Option<Duration>, shutdown: &Shutdown) -> anyhow::Result<bool> {
        self.children.say("work").await;
        self.since = Instant::now();
        let end = limit.and_then(|limit| self.since.checked_add(limit));
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress.tick().await;
        loop {
            tokio::select! {
                seen = self.observe() => if seen?.is_break() { return Ok(true) },
                () = shutdown.requested() => return Ok(true),
                () = until(end) => return Ok(false),
                _ = progress.tick() => self.progress().await,
            }
        }
    }

    /// Lets the nodes rest, and waits for the last rumors and messages.
    async fn settle(&mut self, early: bool) {
        self.children.say("rest").await;
        let patience = if early { SETTLE_EARLY } else { SETTLE };
        let end = Instant::now() + patience;
        while !self.is_settled() {
            tokio::select! {
                seen = self.observe() => if !matches!(seen, Ok(ControlFlow::Continue(()))) { break },
                () = sleep_until(end) => break,
            }
        }
        // A node rests after its last release, so everything is in the ledger by now.
        let mut line = [0; 256];
        while let Ok(length) = self.ledger.try_recv(&mut line) {
            self.on_ledger(&line[..length]).await;
        }
    }

    fn is_settled(&self) -> bool {
        let all: Option<Vec<(u64, u64)>> = self.rested.iter().copied().collect();
        all.is_some_and(|all| {
            let (rumors, messages): (Vec<u64>, Vec<u64>) = all.into_iter().unzip();
            self.rumors.count >= rumors.iter().sum() && self.order.count() >= messages.iter().sum()
        })
    }

    /// Waits for the next thing that happens, and checks it. The end of a node is the end of all.
    async fn observe(&mut self) -> anyhow::Result<ControlFlow<()>> {
        let mut line = [0; 256];
        tokio::select! {
            length = self.ledger.recv(&mut line) => {
                let length = length.context("cannot read the ledger")?;
                self.on_ledger(&line[..length]).await;
            }
            told = self.children.told() => return Ok(self.on_told(told).await),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A line of the ledger: who has got the lock, or gives it back.
    async fn on_ledger(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let check = match (words.get(1), number(2), number(3)) {
            (Some(&"acquired"), Some(fence), None) => self.grants.acquired(words[0], fence),
            (Some(&"released"), Some(fence), Some(value)) => {
                self.grants.released(words[0], fence, value)
            }
            _ => Err(format!("the ledger says {text:?}")),
        };
        self.check(check).await;
    }

    async fn on_told(&mut self, Told { node, said }: Told) -> ControlFlow<()> {
        let check = match said {
            Some(Said::Rumor { origin, sequence, hops, text }) => {
                self.rumors.heard(node, &origin, sequence, hops, &text)
            }
            Some(Said::Delivered { position, sender, sequence, text }) => {
                self.order.delivered(node, position, &sender, sequence, &text)
            }
            Some(Said::Rested { rumors, messages }) => {
                self.rested[node] = Some((rumors, messages));
                Ok(())
            }
            Some(Said::Violation { what }) => Err(what),
            Some(Said::Error { message }) => {
                Err(format!("{}: {message}", self.children.name(node)))
            }
            Some(Said::Peer { name, state }) if state != "up" => {
                // Suspicions are allowed: nothing that is promised rests on them.
                let from = self.children.name(node);
                self.output.note(format!("{from} sees {name} {state}")).await;
                Ok(())
            }
            Some(Said::Peer { .. } | Said::Ready | Said::View | Said::Other) => Ok(()),
            None => {
                let name = self.children.name(node);
                self.broken(format!("the process of {name} ended by itself")).await;
                return ControlFlow::Break(());
            }
        };
        self.check(check).await;
        ControlFlow::Continue(())
    }

    async fn check(&mut self, check: Check) {
        if let Err(what) = check {
            self.broken(what).await;
        }
    }

    /// Counts a violation, and shows it if there are not too many.
    async fn broken(&mut self, what: String) {
        self.violations += 1;
        if self.violations <= SHOWN_MAX {
            self.output.report(Report::Violation { what }).await;
        }
    }

    async fn progress(&mut self) {
        let progress = Report::Progress {
            seconds: self.since.elapsed().as_secs(),
            grants: self.grants.count,
            rumors: self.rumors.count,
            messages: self.order.count(),
            violations: self.violations,
        };
        self.output.report(progress).await;
    }

    /// Judges the whole.
    async fn finish(mut self, early: bool, scratch: &Path) -> anyhow::Result<ExitCode> {
        // Who did not wait for the end cannot say that something is missing.
        if !early || self.is_settled() {
            let rested = |node: &Option<(u64, u64)>| node.unwrap_or((0, 0));
            let (said, sent): (Vec<u64>, Vec<u64>) = self.rested.iter().map(rested).unzip();
            let mut missing = self.rumors.finish(&said);
            missing.extend(self.order.finish(&sent));
            let counter = std::fs::read_to_string(node::counter(scratch)).unwrap_or_default();
            match node::parse_counter(&counter) {
                Some((value, _)) => missing.extend(self.grants.finish(value).err()),
                None => missing.push(format!("the counter is {counter:?}")),
            }
            for (node, rested) in self.rested.clone().iter().enumerate() {
                if rested.is_none() {
                    missing.push(format!("{} never came to rest", self.children.name(node)));
                }
            }
            for what in missing {
                self.broken(what).await;
            }
        }
        let summary = Report::Summary {
            nodes: self.children.names().len(),
            grants: self.grants.count,
            rumors: self.rumors.count,
            messages: self.order.count(),
            violations: self.violations,
        };
        self.output.report(summary).await;
        Ok(if self.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// A directory for what the processes share; it goes when the demo does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let random = RandomState::new().hash_one(std::process::id());
        let path = std::env::temp_dir().join(format!("roundelay-demo-{random:016x}"));
        // Nobody else may write into the ledger.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
