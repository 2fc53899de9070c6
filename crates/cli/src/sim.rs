//! `roundelay sim`: the same protocols in a simulator.

mod counts;
mod failure;
mod replay;
mod run;
mod stdout;
mod sweep;

use crate::{args::sim::SimCommand, shutdown::Shutdown};
use roundelay_sim::{
    Scenario, Selection,
    scenario::{Ingredient, Parts},
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use stdout::Stdout;

/// The exit code of a command that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;
/// How long a command has to say what it has found, once somebody wishes it to end: then it ends,
/// even if nobody takes what it says.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs a command of the simulator, which ends soon after somebody wishes so.
pub(crate) async fn run(command: SimCommand, shutdown: Shutdown) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    let wish = stop.clone();
    let patience = match command {
        // There is nothing to sum up.
        SimCommand::Run(_) => Duration::ZERO,
        SimCommand::Sweep(_) | SimCommand::Replay(_) => LAST_WORDS,
    };
    let waiting = tokio::spawn(async move {
        shutdown.requested().await;
        wish.request();
        tokio::time::sleep(patience).await;
        std::process::exit(INTERRUPTED.into());
    });
    // The simulator computes and never waits: it has a thread of its own.
    let ended = tokio::task::spawn_blocking(move || {
        let mut out = Stdout::new();
        match command {
            SimCommand::Run(args) => run::run(&args, &mut out),
            SimCommand::Sweep(args) => sweep::run(&args, &mut out, &stop),
            SimCommand::Replay(args) => replay::run(&args, &mut out, &stop),
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

/// What is left of a scenario of a seed, and how to see it again.
#[derive(Debug)]
struct Case {
    seed: u64,
    selection: Selection,
    /// All of it.
    whole: Scenario,
    /// What is taken out.
    removed: BTreeSet<Ingredient>,
    /// When the faults end, if not at their time.
    storm: Option<Duration>,
}

impl Case {
    /// All of the scenario of a seed.
    fn new(seed: u64, selection: Selection) -> Self {
        let whole = Scenario::with(seed, selection);
        Self { seed, selection, whole, removed: BTreeSet::new(), storm: None }
    }

    /// What is to be run.
    fn scenario(&self) -> Scenario {
        self.whole.without(&self.removed).with_storm(self.storm)
    }

    /// The faults and tasks that are left.
    fn left(&self) -> BTreeSet<Ingredient> {
        self.whole.ingredients().difference(&self.removed).copied().collect()
    }

    /// The command that shows it.
    fn reproduction(&self) -> String {
        let mut line = format!("roundelay sim run --seed {}", self.seed);
        let Parts { lock, order, gossip } = self.selection.parts;
        if self.selection.parts != Parts::ALL {
            let names = [("lock", lock), ("multicast", order), ("gossip", gossip)];
            let names: Vec<&str> =
                names.into_iter().filter_map(|(name, selected)| selected.then_some(name)).collect();
            let _ = write!(line, " --protocol {}", names.join(","));
        }
        if let Some(nodes) = self.selection.nodes {
            let _ = write!(line, " --nodes {nodes}");
        }
        if let Some(storm) = self.storm {
            let _ = write!(line, " --storm {}ms", storm.as_secs_f64() * 1000.0);
        }
        if !self.removed.is_empty() {
            let without = self.whole.spell(&self.removed);
            let only = self.whole.spell(&self.left());
            let _ = if only.is_empty() || without.len() <= only.len() {
                write!(line, " --without {without}")
            } else {
                write!(line, " --only {only}")
            };
        }
        line
    }
}
