//! `roundelay sim`: the same protocols in a simulator.

mod replay;
mod stdout;

use crate::{args::sim::SimCommand, shutdown::Shutdown};
use std::process::ExitCode;
use stdout::Stdout;

/// Runs a command of the simulator, which ends soon after somebody wishes so.
pub(crate) async fn run(command: SimCommand, _shutdown: Shutdown) -> anyhow::Result<ExitCode> {
    let ended = tokio::task::spawn_blocking(move || {
        let mut out = Stdout::new();
        match command {
            SimCommand::Replay(args) => replay::run(&args, &mut out),
        }
    });
    ended.await?
}
