//! `roundelay bench`: how fast it is, with what is promised checked in the same run.
//!
//! The nodes are processes of their own, as they are in use. Each measures with the machine's
//! monotonic clock, which all of them share, and what they have seen is put together at the end:
//! nothing is exchanged while it is measured but what the protocols say.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people, from counts far below 2^52 and clocks that are never negative"
)]

mod assertion;
mod fleet;
mod lock;
mod multicast;
pub(crate) mod node;

use crate::args::bench::{Bench, Workload};
pub(crate) use assertion::Assertion;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::process::ExitCode;

/// Runs a benchmark. The exit code says whether what is promised, and what was asserted, held.
pub(crate) async fn run(args: Bench) -> anyhow::Result<ExitCode> {
    match args.what {
        Workload::Lock(args) => lock::run(args).await,
        Workload::Multicast(args) => multicast::run(args).await,
    }
}

/// The machine's monotonic clock in nanoseconds, the same in all processes.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The processor time that this process has used, in microseconds.
fn cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1000
}

/// Packets that the loopback device has carried; 0 where that is not to be known.
fn loopback_packets() -> u64 {
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    packets.unwrap_or(0)
}

/// A result, printed as one JSON object or as lines for people, and judged.
fn finish(
    result: &impl Serialize,
    people: &str,
    broken: &[String],
    shared: &crate::args::bench::BenchShared,
) -> anyhow::Result<ExitCode> {
    let fields = serde_json::to_value(result)?;
    let mut wrong: Vec<String> = broken.to_vec();
    for assertion in &shared.assertions {
        wrong.extend(assertion.judge(&fields).err());
    }
    let text = match shared.output.format {
        crate::args::Format::Json => fields.to_string(),
        crate::args::Format::Human => people.into(),
    };
    crate::output::print_line(&text)?;
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(ExitCode::SUCCESS)
}
