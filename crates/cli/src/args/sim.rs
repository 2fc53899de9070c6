//! The command line of the simulator.

use super::OutputArgs;
use clap::{Args, Subcommand, ValueEnum};
use roundelay_sim::{Selection, scenario::Parts};
use std::{ops::Range, time::Duration};

/// `roundelay sim`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay sim run --seed 7                    one run as a story: same seed, same story
  roundelay sim sweep --seeds 0..10000          ten thousand of them, in seconds

A run is a few nodes with clocks of their own, a network that loses, doubles and delays, links that
break, nodes that stop for a while or crash, all drawn from the seed, for some seconds of virtual
time. Every promise is checked after every step. After the storm everything must be reached, and
then the group must fall silent.")]
pub(crate) struct Sim {
    #[command(subcommand)]
    pub(crate) command: SimCommand,
}

/// What the simulator can do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// One run, told line by line
    Run(Run),
    /// One run per seed, on all processors, until a promise is broken
    Sweep(Sweep),
}

/// `roundelay sim run`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay sim run --seed 7
  roundelay sim run --seed 7 --protocol lock --nodes 3
  roundelay sim run --seed 7 --without loss,blackout:2,task:p1 --quiet

The heading names the faults and tasks of a run, for --without and --only. A name without a number
means all of its kind, and blackout:2-4 means three of them. What is taken out changes what it
touches; the rest of the run stays as it was.

Exit codes: 0 everything held, 1 a promise was broken, 2 wrong usage.")]
pub(crate) struct Run {
    /// The seed that everything is drawn from
    #[arg(long, value_name = "S")]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) selection: SelectionArgs,

    /// Take these faults and tasks out of the run
    #[arg(long, value_name = "NAMES", conflicts_with = "only")]
    pub(crate) without: Option<String>,

    /// Take all others out
    #[arg(long, value_name = "NAMES")]
    pub(crate) only: Option<String>,

    /// End the faults after this much virtual time, if not earlier
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    pub(crate) storm: Option<Duration>,

    /// Only the result
    #[arg(long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `roundelay sim sweep`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay sim sweep --seeds 0..10000
  roundelay sim sweep --seeds 0..1000000 --protocol lock,multicast --nodes 5 --jobs 4

It stops at the first seed that breaks a promise, prints the command that shows it, and looks for
the smallest part of its faults and tasks that breaks the same promise. The hash stands for all that
has happened in all runs: it depends neither on the machine nor on --jobs.

Exit codes: 0 everything held, 1 a promise was broken, 2 wrong usage, 130 ended by Ctrl-C.")]
pub(crate) struct Sweep {
    /// The seeds, from A up to but without B
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub(crate) seeds: Range<u64>,

    #[command(flatten)]
    pub(crate) selection: SelectionArgs,

    /// How many at a time (as many as there are processors, if not given)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: Option<u16>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which runs are drawn.
#[derive(Clone, Debug, Args)]
pub(crate) struct SelectionArgs {
    /// The protocols that take part: each seed draws some of these
    #[arg(long, value_enum, value_name = "NAMES", value_delimiter = ',', default_value = "all")]
    pub(crate) protocol: Vec<ProtocolArg>,

    /// How many nodes (drawn from the seed, if not given)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=33))]
    pub(crate) nodes: Option<u16>,
}

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolArg {
    /// The token ring
    Lock,
    /// The one order
    Multicast,
    /// The rumors
    Gossip,
    /// All three
    All,
}

impl SelectionArgs {
    /// What they say.
    pub(crate) fn selection(&self) -> Selection {
        let has = |name| self.protocol.iter().any(|p| *p == name || *p == ProtocolArg::All);
        let parts = Parts {
            lock: has(ProtocolArg::Lock),
            order: has(ProtocolArg::Multicast),
            gossip: has(ProtocolArg::Gossip),
        };
        Selection { parts, nodes: self.nodes.map(usize::from) }
    }
}

/// Parses a range like `0..1000`.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is not a range of seeds; write it like 0..10000");
    let (start, end) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    match number(start)?..number(end)? {
        range if range.is_empty() => Err(format!("there is no seed in {text}")),
        range => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds() {
        assert_eq!(seeds("0..10"), Ok(0..10));
        assert_eq!(seeds("7..8"), Ok(7..8));
        for text in ["", "7", "..", "1..", "..9", "9..1", "5..5", "a..b", "0..=9", "-1..3", "1...4"]
        {
            assert!(seeds(text).is_err(), "{text}");
        }
    }
}
