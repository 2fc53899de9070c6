//! The command line of the simulator.

use super::OutputArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `roundelay sim`
#[derive(Debug, Args)]
pub(crate) struct Sim {
    #[command(subcommand)]
    pub(crate) command: SimCommand,
}

/// What the simulator can do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Recorded runs of real nodes, lived again and checked like simulated ones
    Replay(Replay),
}

/// `roundelay sim replay`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay demo --record runs --for 10s && roundelay sim replay runs/*.rec
  roundelay tokenring --name p1 --next p2 --record p1.rec
  roundelay sim replay p1.rec --trace             every input, and what the node did about it

A recording has all that a node's protocols got to see: messages, timers, commands, with their times.
Each node gets its inputs again, and must do exactly the same about each of them as it did then.
Several recordings are put together into one history, in which each message is received after it was
sent, and all promises are checked in it: one holder of a lock, growing fences, one order, no rumor
twice. For that it takes the recordings of all nodes; of those that were killed, what there is.

Exit codes: 0 all the same and all promises kept, 1 a difference or a broken promise, 2 wrong usage
or a file that cannot be read.")]
pub(crate) struct Replay {
    /// The recordings, one of each node
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Show every input, and what the node did about it
    #[arg(long)]
    pub(crate) trace: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
