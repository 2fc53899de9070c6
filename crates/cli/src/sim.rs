//! `roundelay sim`: the same protocols in a simulator.

mod counts;
mod failure;
mod run;
mod stdout;
mod sweep;

use crate::{args::sim::SimCommand, shutdown::Shutdown};
use roundelay_sim::{Selection, scenario::Parts};
use std::{
    fmt::Write as _,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use stdout::Stdout;

/// Runs a command of the simulator, which ends soon after somebody wishes so.
pub(crate) async fn run(command: SimCommand, shutdown: Shutdown) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    let wish = stop.clone();
    let waiting = tokio::spawn(async move {
        shutdown.requested().await;
        wish.request();
    });
    // The simulator computes and never waits: it has a thread of its own.
    let ended = tokio::task::spawn_blocking(move || {
        let mut out = Stdout::new();
        match command {
            SimCommand::Run(args) => Ok(run::run(&args, &mut out)),
            SimCommand::Sweep(args) => sweep::run(&args, &mut out, &stop),
        }
    });
    let ended = ended.await?;
    waiting.abort();
    ended
}

/// The wish to end, for threads that compute.
#[derive(Clone, Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The command that shows a run.
fn reproduction(seed: u64, selection: Selection) -> String {
    let mut line = format!("roundelay sim run --seed {seed}");
    let Parts { lock, order, gossip } = selection.parts;
    if selection.parts != Parts::ALL {
        let names = [("lock", lock), ("multicast", order), ("gossip", gossip)];
        let names: Vec<&str> =
            names.into_iter().filter_map(|(name, selected)| selected.then_some(name)).collect();
        let _ = write!(line, " --protocol {}", names.join(","));
    }
    if let Some(nodes) = selection.nodes {
        let _ = write!(line, " --nodes {nodes}");
    }
    line
}
