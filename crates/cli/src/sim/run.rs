//! `roundelay sim run`: one run as a story.

use super::{
    Stdout,
    counts::{self, Numbers},
    failure, reproduction,
};
use crate::args::{Format, sim::Run};
use roundelay_core::node::Node;
use roundelay_sim::{Scenario, attempt, storm::Report, trace};
use serde::Serialize;
use std::process::ExitCode;

/// Runs one scenario, and says what happens in it.
pub(super) fn run(args: &Run, out: &mut Stdout) -> ExitCode {
    let selection = args.selection.selection();
    let scenario = Scenario::with(args.seed, selection);
    let human = args.output.format == Format::Human;
    if human && !args.quiet {
        out.line(&trace::heading(&scenario));
    }
    let ended = attempt::<Node>(&scenario, &mut |step| {
        if human && !args.quiet {
            out.line(&trace::lines(&scenario, step));
        }
    });
    let line = reproduction(args.seed, selection);
    match ended {
        Ok(report) => {
            tell(&report, args.output.format, out);
            ExitCode::SUCCESS
        }
        Err(broken) => {
            failure::tell(args.seed, &broken, &line, args.output.format, out);
            ExitCode::FAILURE
        }
    }
}

fn tell(report: &Report, format: Format, out: &mut Stdout) {
    let Report { hash, steps, time, healing, counts } = report;
    if format == Format::Json {
        return out.object(&Outcome {
            hash: format!("{hash:016x}"),
            steps: *steps,
            seconds: time.as_secs_f64(),
            healing_seconds: healing.as_secs_f64(),
            counts: Numbers(counts),
        });
    }
    out.line(&format!("everything held\nhash {hash:016x}, {steps} steps, {time:?}"));
    out.line(&counts::text(counts));
}

/// The end of a run in which everything held.
#[derive(Serialize)]
#[serde(tag = "event", rename = "result")]
struct Outcome<'a> {
    hash: String,
    steps: u64,
    seconds: f64,
    healing_seconds: f64,
    counts: Numbers<'a>,
}
