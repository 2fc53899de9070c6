//! The command line of `roundelay bench`.

use super::{OutputArgs, duration};
use crate::bench::Assertion;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// `roundelay bench`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay bench lock --nodes 5                 five processes that want one lock all the time
  roundelay bench multicast --size 1024          three processes, all of which send
  roundelay bench gossip                         32 nodes in this process, 64-byte rumors
  roundelay bench lock --output json --assert 'p50<40us' --assert 'fairness>0.95'

What is promised is checked in the same run. Exit code 1 if a promise or an assertion is broken.
docs/performance.md says what each field means.")]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: Workload,
}

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Workload {
    /// The lock: how fast it goes from hand to hand, and how fairly
    Lock(BenchLock),
    /// The one order: how many messages per second, and how long each takes
    Multicast(BenchMulticast),
    /// Rumors: how long until all have heard one, and how many per second
    Gossip(BenchGossip),
}

/// Who takes part in a group, and where.
#[derive(Clone, Debug, Args)]
pub(crate) struct Members {
    /// How many nodes, each a process of its own
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with = "group")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=33))]
    pub(crate) nodes: u16,

    /// All nodes in this process, each on a thread of its own
    #[arg(long, conflicts_with = "node")]
    pub(crate) in_process: bool,

    /// Be this node of the group, from 1, and print its figures as one JSON object
    #[arg(long, value_name = "K", requires = "group")]
    pub(crate) node: Option<usize>,

    /// The addresses of all nodes, with commas between them, the same for each
    #[arg(long, value_name = "HOST:PORT,…", requires = "node", value_delimiter = ',')]
    pub(crate) group: Vec<String>,

    /// Listen on other addresses than loopback, and trust whoever reaches the port
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Nodes on threads of their own, instead of on those of the clients
    #[arg(long)]
    pub(crate) own_thread: bool,

    /// Which cores the nodes run on
    #[arg(long, value_enum, default_value_t = Pin::Any)]
    pub(crate) pin: Pin,
}

/// What is done with a result.
#[derive(Clone, Debug, Args)]
pub(crate) struct Judge {
    /// Fail unless this holds of the result, like 'p50<40us' or 'rate>100000' (may be repeated)
    #[arg(long = "assert", value_name = "FIELD<VALUE")]
    pub(crate) assertions: Vec<Assertion>,

    /// No progress line
    #[arg(long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which cores the nodes run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pin {
    /// As the system likes
    Any,
    /// All on one core
    One,
    /// Each on one of its own, as far as there are enough
    Own,
}

/// `roundelay bench lock`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay bench lock --nodes 5                     five processes that want one lock all the time
  roundelay bench lock --clients 4 --hold 100us --assert 'p50<200us'
  roundelay bench lock --relock                      one client, where the token rests
  roundelay bench lock --in-process --nodes 16       sixteen threads instead of processes
  roundelay bench lock --node 2 --group 10.77.0.1:7900,10.77.0.2:7900,10.77.0.3:7900 --insecure
                                                     the second of three, here or elsewhere on this
                                                     machine; the others are started alike

A hand-off is the time from the holder's release to the grant of another client. Every grant is
checked: exclusion, and fences without gaps. Exit code 1 if a promise or an assertion is broken.")]
pub(crate) struct BenchLock {
    #[command(flatten)]
    pub(crate) members: Members,

    /// Clients per node
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) clients: u16,

    /// How long a client keeps the lock
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) hold: Option<Duration>,

    /// One client at the first node, and none elsewhere: the lock where the token rests
    #[arg(long, conflicts_with_all = ["clients", "hold"])]
    pub(crate) relock: bool,

    /// How long it is measured
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "3s")]
    pub(crate) duration: Duration,

    /// How long it runs before that
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "500ms")]
    pub(crate) warmup: Duration,

    #[command(flatten)]
    pub(crate) judge: Judge,
}

/// `roundelay bench multicast`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay bench multicast --nodes 5 --size 64 --window 256 --count 100000
  roundelay bench multicast --senders 1 --window 1 --count 3000      an idle group, one sender
  roundelay bench multicast --in-process --assert 'rate>100000'
  roundelay bench multicast --node 2 --group 10.77.0.1:7900,10.77.0.2:7900,10.77.0.3:7900 \\
      --insecure                               the second of three; the others are started alike

Every member's sequence is checked: complete, unchanged, in the order of each sender, and the same
everywhere. Exit code 1 if a promise or an assertion is broken.")]
pub(crate) struct BenchMulticast {
    #[command(flatten)]
    pub(crate) members: Members,

    /// Bytes per message
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=(16 << 20)))]
    pub(crate) size: u32,

    /// How many of the members send, the first ones (0: all)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) senders: u16,

    /// How many of its own messages a sender may have undelivered
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: u32,

    /// Messages per sender, the warm-up included
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,

    /// So many of them do not count (default: a tenth)
    #[arg(long, value_name = "N")]
    pub(crate) warmup: Option<u64>,

    #[command(flatten)]
    pub(crate) judge: Judge,
}

/// How the nodes of the gossip are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Graph {
    /// Every node has as many neighbours as any other, drawn from the seed
    Regular,
    /// No way round: as few links as can be
    Tree,
}

/// `roundelay bench gossip`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay bench gossip                                32 nodes, one thread per core
  roundelay bench gossip --threads 1 --graph tree       all on one thread, along a tree
  unshare -rn sh -c 'ip link set lo up && roundelay bench gossip --output json'
                                                        with no packets but its own

Four phases: idle; one rumor after the other; a closed loop with so many under way; a burst from one
node. Every rumor is checked: at every node, once, unchanged. Exit code 1 if a promise or an
assertion is broken.")]
pub(crate) struct BenchGossip {
    /// How many nodes, all in this process
    #[arg(long, value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=256))]
    pub(crate) nodes: u16,

    /// How many threads they share (default: as many as there are cores)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,

    /// How the nodes are linked
    #[arg(long, value_enum, default_value_t = Graph::Regular)]
    pub(crate) graph: Graph,

    /// Neighbours per node: an even number, or the most that a node of the tree has
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=32))]
    pub(crate) degree: u16,

    /// What the regular graph is drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Bytes per rumor
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(8..=(64 << 10)))]
    pub(crate) size: u32,

    /// How long the nodes rest before they count as idle, and before the burst
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) settle: Duration,

    /// How long the idle nodes are watched
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) idle: Duration,

    /// Rumors that are said one after the other, at different nodes
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,

    /// How long after one of them the next one is said
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "25ms")]
    pub(crate) gap: Duration,

    /// How many rumors the closed loop keeps under way
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) window: u32,

    /// How long the closed loop runs
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "8s")]
    pub(crate) duration: Duration,

    /// Rumors that one node says at once
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) burst: u32,

    #[command(flatten)]
    pub(crate) judge: Judge,
}

/// Parses a time as elsewhere, or in microseconds.
fn moment(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("us").map(str::parse::<u32>) {
        Some(Ok(micros @ 1..)) => Ok(Duration::from_micros(micros.into())),
        _ => duration(text).map_err(|reason| reason.replace("500ms", "100us, 500ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times() {
        assert_eq!(moment("100us"), Ok(Duration::from_micros(100)));
        assert_eq!(moment("1.5ms"), Ok(Duration::from_micros(1500)));
        for text in ["0us", "us", "-1us", "1.5us", "1"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
