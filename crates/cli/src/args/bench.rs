//! The command line of `roundelay bench`.

use super::{OutputArgs, duration};
use crate::bench::Assertion;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// `roundelay bench`
#[derive(Clone, Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: Workload,
}

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Workload {
    /// The contended lock: how fast it goes from hand to hand, and how fairly
    Lock(BenchLock),
    /// The one order: how many messages per second, and how long each takes
    Multicast(BenchMulticast),
}

/// What all workloads share.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchShared {
    /// How many processes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=33))]
    pub(crate) nodes: u16,

    /// Which cores the processes run on
    #[arg(long, value_enum, default_value_t = Pin::Any)]
    pub(crate) pin: Pin,

    /// Fail unless this holds of the result, like 'p50<40us' or 'rate>100000' (may be repeated)
    #[arg(long = "assert", value_name = "FIELD<VALUE")]
    pub(crate) assertions: Vec<Assertion>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which cores the processes run on.
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

A hand-off is the time from the holder's release to the grant of another client. Every grant is
checked: exclusion, and fences without gaps. Exit code 1 if a promise or an assertion is broken.")]
pub(crate) struct BenchLock {
    #[command(flatten)]
    pub(crate) shared: BenchShared,

    /// Clients per process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) clients: u16,

    /// How long a client keeps the lock
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) hold: Option<Duration>,

    /// How long it is measured
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "3s")]
    pub(crate) duration: Duration,

    /// How long it runs before that
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "500ms")]
    pub(crate) warmup: Duration,
}

/// `roundelay bench multicast`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay bench multicast --nodes 5 --size 64 --window 256 --count 100000
  roundelay bench multicast --senders 1 --window 1 --count 3000      one idle group, one sender

Every member's sequence is checked: complete, in the order of each sender, and the same everywhere.
Exit code 1 if a promise or an assertion is broken.")]
pub(crate) struct BenchMulticast {
    #[command(flatten)]
    pub(crate) shared: BenchShared,

    /// Bytes per message
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=(16 << 20)))]
    pub(crate) size: u32,

    /// How many of the members send (0: all)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) senders: u16,

    /// How many of its own messages a sender may have undelivered
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: u32,

    /// Messages per sender
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
}

/// `roundelay bench-node`
#[derive(Debug, Args)]
pub(crate) struct BenchNode {
    /// Which of the group this is, from 0
    #[arg(long)]
    pub(crate) index: usize,

    /// The addresses of all nodes, with commas between them
    #[arg(long, value_delimiter = ',')]
    pub(crate) group: Vec<String>,

    /// What to do, as JSON
    #[arg(long)]
    pub(crate) work: String,
}
