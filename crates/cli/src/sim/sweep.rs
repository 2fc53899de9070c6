//! `roundelay sim sweep`: one run per seed, on all processors, until a promise is broken.

mod progress;
mod totals;

use super::{
    Case, INTERRUPTED, Stdout, Stop,
    counts::{self, Numbers},
    failure,
};
use crate::{
    args::{Format, sim::Sweep},
    output::grouped,
};
use progress::Progress;
use roundelay_core::node::Node;
use roundelay_sim::{
    Scenario, attempt,
    shrink::shrink,
    storm::{Failure, Report},
};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::{
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};
use totals::Totals;

/// The most runs to make a failing run smaller.
const SHRINK_RUNS_MAX: usize = 400;
/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// Runs one scenario per seed.
pub(super) fn run(args: &Sweep, out: &mut Stdout, stop: &Stop) -> anyhow::Result<ExitCode> {
    let selection = args.selection.selection();
    let jobs = match args.jobs {
        Some(jobs) => usize::from(jobs),
        None => thread::available_parallelism()?.get(),
    };
    let format = args.output.format;
    let cost = Cost::begin();
    let progress = Progress::new(args.seeds.end - args.seeds.start);
    let try_seed = |seed| attempt::<Node>(&Scenario::with(seed, selection), &mut |_| ());
    let swept = sweep(&args.seeds, jobs, stop, &progress, try_seed);
    progress.finish();
    if let Some((seed, broken)) = &swept.failure {
        let case = Case::new(*seed, selection);
        failure::tell(&case, broken, format, out);
        // It takes a moment, and this may be all that somebody wants to know.
        out.flush();
        let stopped = || stop.is_requested();
        let shrunk = shrink::<Node>(&case.whole, broken.clone(), SHRINK_RUNS_MAX, &stopped);
        if !shrunk.removed.is_empty() || shrunk.storm.is_some() {
            failure::tell_shrunk(case, shrunk, format, out);
        }
    }
    tell(&swept, &cost, jobs, format, out);
    Ok(match swept.failure {
        Some(_) => ExitCode::FAILURE,
        None if swept.seeds.end < args.seeds.end => ExitCode::from(INTERRUPTED),
        None => ExitCode::SUCCESS,
    })
}

/// What a sweep has found.
#[derive(Debug)]
struct Swept {
    /// The seeds up to the first that failed, or all that there was time for.
    seeds: Range<u64>,
    totals: Totals,
    /// The first seed that failed, and how.
    failure: Option<(u64, Failure)>,
}

/// Tries the seeds in their order, several at a time, up to the first that fails.
///
/// What comes out does not depend on how many at a time: a seed that was begun is finished, so
/// all seeds below the first failure are tried, and only they count.
fn sweep(
    seeds: &Range<u64>,
    jobs: usize,
    stop: &Stop,
    progress: &Progress,
    try_seed: impl Fn(u64) -> Result<Report, Failure> + Sync,
) -> Swept {
    let count = seeds.end - seeds.start;
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let failed_at = AtomicU64::new(u64::MAX);
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new(Totals::default());
    let work = || {
        let mut mine = Totals::default();
        // Asked before a seed is taken: one that was taken is always finished.
        while !stop.is_requested() && failed_at.load(Ordering::Relaxed) == u64::MAX {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let seed = seeds.start + index;
            match try_seed(seed) {
                Ok(report) => mine.add_run(seed, &report),
                Err(failure) => {
                    failed_at.fetch_min(seed, Ordering::Relaxed);
                    failures.lock().expect("nobody panics with it").push((seed, failure));
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        totals.lock().expect("nobody panics with it").add(&mine);
    };
    thread::scope(|scope| {
        let (working, ended) = channel::<()>();
        for _ in 0..jobs {
            let (work, working) = (&work, working.clone());
            scope.spawn(move || {
                work();
                drop(working);
            });
        }
        drop(working);
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            progress.show(done.load(Ordering::Relaxed));
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    let failure = failures.into_iter().min_by_key(|(seed, _)| *seed);
    let tried = seeds.start + next.into_inner().min(count);
    let end = failure.as_ref().map_or(tried, |(seed, _)| *seed);
    let totals = totals.into_inner().expect("nobody panics with it");
    Swept { seeds: seeds.start..end, totals, failure }
}

/// What a sweep costs.
struct Cost {
    since: Instant,
    processor: Duration,
}

impl Cost {
    fn begin() -> Self {
        Self { since: Instant::now(), processor: processor_time() }
    }

    /// The time that has passed, and the time on processors.
    fn so_far(&self) -> (Duration, Duration) {
        (self.since.elapsed(), processor_time().saturating_sub(self.processor))
    }
}

/// How long this process has been on processors, all of its threads together.
fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.try_into().unwrap_or_default()
}

/// Says what has been done.
fn tell(swept: &Swept, cost: &Cost, jobs: usize, format: Format, out: &mut Stdout) {
    let (wall, processor) = cost.so_far();
    let Swept { seeds, totals, failure } = swept;
    let tried = seeds.end - seeds.start;
    let (done, thrown) = (counts::table(&totals.counts), counts::thrown(&totals.faults));
    if format == Format::Json {
        // What was done above a seed that failed is left to chance, so it does not count.
        let held = failure.is_none().then(|| Held {
            hash: totals.hash(),
            steps: totals.steps,
            virtual_seconds: totals.time.as_secs_f64(),
            processor_seconds: processor.as_secs_f64(),
            wall_seconds: wall.as_secs_f64(),
            seeds_per_second: per_second(totals.seeds, wall),
            counts: Numbers(&done),
            faults: Numbers(&thrown),
        });
        let violations = u8::from(failure.is_some());
        let (from, to) = (seeds.start, seeds.end);
        return out.object(&Summary { from, to, seeds: tried, violations, held });
    }
    if failure.is_some() {
        return out.line(&format!("{} seeds before it held", grouped(tried)));
    }
    let (steps, time) = (grouped(totals.steps), grouped(totals.time.as_secs()));
    let seeds_rate = grouped(per_second(totals.seeds, wall));
    let time_rate = grouped(per_second(totals.time.as_secs(), processor));
    let jobs = if jobs == 1 { "one at a time".into() } else { format!("{jobs} at a time") };
    out.line(&format!("{} seeds, {}..{}: everything held", grouped(tried), seeds.start, seeds.end));
    out.line(&format!("  hash       {}", totals.hash()));
    out.line(&format!("  rate       {seeds_rate} seeds/s, {jobs}; {wall:.1?} in all"));
    out.line(&format!("  simulated  {steps} steps in {time} s of virtual time,"));
    out.line(&format!("             {time_rate} s per second of processor time"));
    out.line(&format!("  done       {}", counts::text(&done)));
    out.line(&format!("  faults     {}", counts::text(&thrown)));
}

/// The end of a sweep.
#[derive(Serialize)]
#[serde(tag = "event", rename = "summary")]
struct Summary<'a> {
    from: u64,
    to: u64,
    seeds: u64,
    violations: u8,
    #[serde(flatten)]
    held: Option<Held<'a>>,
}

/// What the seeds of a sweep came to if all held.
#[derive(Serialize)]
struct Held<'a> {
    hash: String,
    steps: u64,
    virtual_seconds: f64,
    processor_seconds: f64,
    wall_seconds: f64,
    seeds_per_second: u64,
    counts: Numbers<'a>,
    faults: Numbers<'a>,
}

fn per_second(count: u64, span: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000_000 / span.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roundelay_sim::{fault::Tally, goal::Counts};

    fn report(seed: u64) -> Report {
        let counts = Counts { grants: seed, ..Counts::default() };
        let time = Duration::from_secs(1);
        let (healing, faults) = (Duration::ZERO, Tally::default());
        Report { hash: seed * 7, steps: 2, time, healing, counts, faults }
    }

    fn swept(jobs: usize, fails: &[u64]) -> Swept {
        sweep(&(10..500), jobs, &Stop::default(), &Progress::hidden(), |seed| {
            // The first failures are the slowest, so that others overtake them.
            thread::sleep(Duration::from_micros(if seed % 50 == 0 { 3000 } else { 10 }));
            if fails.contains(&seed) { Err(Failure::Busy) } else { Ok(report(seed)) }
        })
    }

    #[test]
    fn how_many_at_a_time_changes_nothing() {
        let [one, three] = [1, 3].map(|jobs| swept(jobs, &[]));
        assert_eq!(one.totals, three.totals);
        assert_eq!(one.seeds, 10..500);
        assert_eq!(one.totals.seeds, 490);
        assert_eq!(one.totals.counts.grants, (10..500).sum::<u64>());
    }

    #[test]
    fn the_smallest_failing_seed_is_found() {
        for jobs in [1, 2, 8] {
            let swept = swept(jobs, &[150, 151, 152, 300]);
            assert_eq!(swept.failure, Some((150, Failure::Busy)), "{jobs}");
            assert_eq!(swept.seeds, 10..150);
        }
    }

    #[test]
    fn who_is_stopped_has_finished_what_was_begun() {
        let stop = Stop::default();
        let swept = sweep(&(0..1_000_000), 2, &stop, &Progress::hidden(), |seed| {
            if seed == 100 {
                stop.request();
            }
            Ok(report(seed))
        });
        assert!((101..1_000_000).contains(&swept.seeds.end));
        assert_eq!(swept.totals.seeds, swept.seeds.end);
        assert_eq!(swept.totals.counts.grants, swept.seeds.sum::<u64>());
    }
}
