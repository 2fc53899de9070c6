//! `roundelay bench`: how fast it is, with what is promised checked in the same run.
//!
//! The nodes are processes of their own, as they are in use, or threads of this one. Each measures
//! with the machine's monotonic clock, which all of them share, and what they have seen is put
//! together at the end: nothing is exchanged while it is measured but what the protocols say.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people, from counts far below 2^52 and clocks that are never negative"
)]

mod assertion;
mod fleet;
mod gossip;
mod lock;
mod machine;
mod member;
mod multicast;
mod progress;
mod table;

use crate::{
    args::{
        Format,
        bench::{Bench, Judge, Workload},
    },
    shutdown::Shutdown,
};
pub(crate) use assertion::Assertion;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::process::ExitCode;

/// The exit code of who was interrupted.
const INTERRUPTED: u8 = 130;

/// Runs a benchmark. The exit code says whether what is promised, and what was asserted, held.
pub(crate) async fn run(args: Bench, shutdown: Shutdown) -> anyhow::Result<ExitCode> {
    let run = async {
        match args.what {
            Workload::Lock(args) => lock::run(args).await,
            Workload::Multicast(args) => multicast::run(args).await,
            Workload::Gossip(args) => gossip::run(args).await,
        }
    };
    tokio::select! {
        ended = run => ended,
        // What was started ends as it is dropped.
        () = shutdown.requested() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// Prints a result, as one JSON object or as `people` may read it, and judges it.
fn finish(
    result: &impl Serialize,
    people: Option<&str>,
    broken: &[String],
    judge: &Judge,
) -> anyhow::Result<ExitCode> {
    let fields = serde_json::to_value(result)?;
    let mut wrong: Vec<String> = broken.to_vec();
    for assertion in &judge.assertions {
        wrong.extend(assertion.judge(&fields).err());
    }
    match people {
        Some(people) if judge.output.format == Format::Human => crate::output::print_line(people)?,
        _ => crate::output::print_line(&serde_json::to_string(result)?)?,
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(ExitCode::SUCCESS)
}

/// The longest time that is told from a longer one, in nanoseconds: an hour.
const TIME_MAX: u64 = 3_600_000_000_000;

/// A histogram of times in nanoseconds, three digits exact, which never grows.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_MAX, 3).expect("bounds that were tried")
}

/// A quantile in microseconds, 0 of nothing.
fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

/// A fraction, 0 of nothing.
fn per(amount: f64, of: f64) -> f64 {
    if of > 0.0 { amount / of } else { 0.0 }
}
