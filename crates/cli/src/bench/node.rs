//! One process of a benchmark. It takes `go` and `quit` from its standard input.

use super::{cpu_us, fleet, lock, multicast};
use crate::args::bench::BenchNode;
use anyhow::Context;
use roundelay::{Group, Limits, Node};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// What the processes do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Work {
    Lock(lock::Work),
    Multicast(multicast::Work),
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Said {
    /// It is in the group.
    Ready,
    /// It has done its work.
    Done(Done),
}

/// What a process has done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    /// The processor time that it took, in microseconds.
    pub(super) cpu_us: u64,
    pub(super) seen: Seen,
}

/// What a process has seen.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Seen {
    Lock(Vec<lock::Grant>),
    Multicast(multicast::Seen),
}

/// Runs the node.
pub(crate) async fn run(args: BenchNode) -> anyhow::Result<()> {
    let work: Work = serde_json::from_str(&args.work).context("cannot understand --work")?;
    let names: Vec<String> = (0..args.group.len()).map(fleet::name).collect();
    let own = args.group.get(args.index).context("--index is not in the group")?;
    let mut builder = Node::builder(names[args.index].as_str()).listen(own.as_str());
    for (name, address) in names.iter().zip(&args.group) {
        builder = builder.peer(name.as_str(), address.as_str());
    }
    let group = Group::of(names.iter().map(String::as_str));
    let group = match work {
        Work::Lock(_) => group.order(false),
        Work::Multicast(_) => group.lock(false),
    };
    let limits = Limits { history_messages_max: 0, history_bytes_max: 0, ..Limits::default() };
    let node = builder.group(group).limits(limits).spawn().await?;
    node.wait_installed().await;
    let prepared = match &work {
        Work::Multicast(_) => Some(node.deliveries()),
        Work::Lock(_) => None,
    };
    say(Said::Ready).await?;
    if next_line().await? == "go\n" {
        let before = cpu_us();
        let seen = match work {
            Work::Lock(work) => Seen::Lock(lock::work(&node, &work).await?),
            Work::Multicast(work) => {
                let deliveries = prepared.expect("it is a multicast");
                Seen::Multicast(multicast::work(&node, deliveries, &work, args.index).await?)
            }
        };
        say(Said::Done(Done { cpu_us: cpu_us() - before, seen })).await?;
        // Whatever comes next, the end of the input included, is the end.
        next_line().await?;
    }
    node.leave().await;
    Ok(())
}

/// The node shares this thread: only the thread that reads may wait.
async fn next_line() -> anyhow::Result<String> {
    let read = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    };
    tokio::task::spawn_blocking(read).await?.context("cannot read the input")
}

/// As above: a long line waits for its reader, and the node goes on meanwhile.
async fn say(said: Said) -> anyhow::Result<()> {
    let write = move || {
        let mut line = serde_json::to_vec(&said)?;
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&line).and_then(|()| stdout.flush()).context("nobody listens")
    };
    tokio::task::spawn_blocking(write).await?
}
