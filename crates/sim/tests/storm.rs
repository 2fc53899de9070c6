//! Storms over whole nodes, seed by seed.
//!
//! ```text
//! cargo test -p roundelay-sim --test storm                              1,000 seeds
//! SEEDS=0..100000 cargo test -p roundelay-sim --test storm              more
//! SEED=123 cargo test -p roundelay-sim --test storm one_seed -- --nocapture
//!                                                                       one, as a story
//! PARTS=lock,order …                                                    without gossip
//! ```

use roundelay_core::node::Node;
use roundelay_sim::{
    Fault, Scenario, attempt,
    fault::Tally,
    goal::Counts,
    scenario::{Parts, Selection},
    storm::{self, Report},
    trace,
};
use std::{
    env,
    fmt::Display,
    ops::Range,
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

const THREADS: usize = 2;
/// More broken seeds than anybody will look at.
const FAILURES_MAX: usize = 20;

#[test]
fn thousand_seeds() {
    let seeds = seeds_to_run();
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new((Counts::default(), Tally::default(), 0_u64));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    match run(seed) {
                        Ok(report) => {
                            let mut total = total.lock().unwrap();
                            total.0.add(&report.counts);
                            total.1.add(&report.faults);
                            total.2 += report.steps;
                        }
                        Err(reason) => failures.lock().unwrap().push((seed, reason)),
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    for (seed, reason) in &failures {
        println!("seed {seed}: {reason}\n  {}", command(*seed));
    }
    let (counts, faults, steps) = total.into_inner().unwrap();
    println!("{seeds:?}: {steps} steps, {counts:?}\n{faults:?}");
    assert!(failures.is_empty(), "{} seeds failed, the first: {:?}", failures.len(), failures[0]);
    if seeds.end - seeds.start >= 1000 {
        let standstills = 1000 * counts.stuck / (seeds.end - seeds.start);
        assert!(standstills <= 20, "of 1000 groups {standstills} stand still");
        assert_exercised(&counts, parts());
        assert_thrown(&faults);
    }
}

/// Prints the run of `SEED`, or else runs one seed twice, which must give the same run.
#[test]
fn one_seed() {
    let seed = from_env("SEED");
    let scenario = Scenario::with(seed.unwrap_or(1), selection());
    if seed.is_some() {
        println!("{}", trace::heading(&scenario, &scenario.ingredients()));
        match storm::run::<Node>(&scenario, &mut |step| {
            println!("{}", trace::tell(&scenario, step));
        }) {
            Ok(report) => println!("{report:?}"),
            Err(failure) => panic!("seed {}: {failure}", scenario.seed),
        }
    } else {
        let run = || storm::run::<Node>(&scenario, &mut |_| ()).unwrap();
        assert_eq!(run(), run());
    }
}

fn run(seed: u64) -> Result<Report, String> {
    let scenario = Scenario::with(seed, selection());
    attempt::<Node>(&scenario, &mut |_| ()).map_err(|failure| failure.to_string())
}

/// A thousand runs in which something never happened would prove nothing about it.
fn assert_exercised(counts: &Counts, parts: Parts) {
    let enough = |count: u64, least: u64, what: &str| {
        assert!(count >= least, "only {count} {what} in all these runs");
    };
    if parts.lock && parts.order {
        enough(counts.leaves, 200, "leaves");
    }
    enough(counts.refused_starts, 100, "refused starts");
    enough(counts.views, 1000, "views");
    enough(counts.joins, 200, "lives that joined");
    if parts.lock {
        enough(counts.grants, 5_000, "grants");
        enough(counts.hand_offs, 2_000, "hand-offs");
        enough(counts.busy, 100, "refused tries");
        enough(counts.cancelled, 100, "cancelled waits");
        enough(counts.hops, 5_000, "hops");
        enough(counts.lost, 10, "lost guards");
        enough(counts.regenerated, 50, "tokens made anew");
    }
    if parts.order {
        enough(counts.deliveries, 20_000, "deliveries");
    }
    if parts.gossip {
        enough(counts.rumors, 20_000, "rumors heard");
    }
}

/// Nor would runs without the faults prove anything about them.
fn assert_thrown(faults: &Tally) {
    for fault in Fault::ALL {
        let least = match fault {
            Fault::Crash | Fault::RestartWithDisk | Fault::RestartWithoutDisk => 20,
            Fault::CrashBetweenEffects => 20,
            Fault::PowerCut => 100,
            // Only while a group is founded that can lose a member.
            Fault::FailedSave => 5,
            Fault::Pause => 500,
            _ => 300,
        };
        let count = faults.of(fault);
        assert!(count >= least, "only {count} times {fault:?} in all these runs");
    }
}

fn seeds_to_run() -> Range<u64> {
    let Some(text) = from_env::<String>("SEEDS") else { return 0..1000 };
    let (start, end) = text.split_once("..").expect("SEEDS is a range such as 0..1000");
    let number = |text: &str| text.parse().expect("SEEDS has numbers");
    number(start)..number(end)
}

fn selection() -> Selection {
    Selection { parts: parts(), nodes: None }
}

fn parts() -> Parts {
    let Some(text) = from_env::<String>("PARTS") else { return Parts::ALL };
    let has = |part| text.split(',').any(|listed| listed == part);
    Parts { lock: has("lock"), order: has("order"), gossip: has("gossip") }
}

fn command(seed: u64) -> String {
    let parts = env::var("PARTS").map_or(String::new(), |parts| format!("PARTS={parts} "));
    format!("{parts}SEED={seed} cargo test -p roundelay-sim --test storm one_seed -- --nocapture")
}

fn from_env<T: FromStr<Err: Display>>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
