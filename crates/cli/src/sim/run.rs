//! `roundelay sim run`: one run as a story.

use super::{
    Case, Stdout,
    counts::{self, Numbers},
    failure,
};
use crate::{
    args::{Format, sim::Run},
    failure::Usage,
};
use roundelay_core::{node::Node, time::Time};
use roundelay_sim::{Scenario, Step, attempt, storm::Report, trace};
use serde::Serialize;
use std::{collections::BTreeSet, process::ExitCode};

/// Runs one scenario, and says what happens in it.
pub(super) fn run(args: &Run, out: &mut Stdout) -> anyhow::Result<ExitCode> {
    let case = case(args)?;
    let scenario = case.scenario();
    let format = args.output.format;
    let told = !args.quiet;
    if told {
        tell_heading(&case, format, out);
    }
    let ended = attempt::<Node>(&scenario, &mut |step| {
        if told {
            tell_step(&scenario, step, format, out);
        }
    });
    match ended {
        Ok(report) => {
            tell(&report, format, out);
            Ok(ExitCode::SUCCESS)
        }
        Err(broken) => {
            failure::tell(&case, &broken, format, out);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The run that was asked for.
fn case(args: &Run) -> Result<Case, Usage> {
    let whole = Case::new(args.seed, args.selection.selection());
    let find = |flag, names: &String| {
        whole.whole.find(names).map_err(|unknown| Usage(format!("{flag}: {unknown}")))
    };
    let removed = match (&args.without, &args.only) {
        (Some(names), _) => find("--without", names)?,
        (None, Some(names)) => {
            let left = find("--only", names)?;
            whole.whole.ingredients().difference(&left).copied().collect()
        }
        (None, None) => BTreeSet::new(),
    };
    Ok(Case { removed, storm: args.storm, ..whole })
}

fn tell_heading(case: &Case, format: Format, out: &mut Stdout) {
    if format == Format::Human {
        return out.line(&trace::heading(&case.whole.clone().with_storm(case.storm), &case.left()));
    }
    out.object(&Begin {
        seed: case.seed,
        nodes: case.whole.nodes.iter().map(|node| node.config.name.as_str()).collect(),
        ingredients: case.left().iter().map(|one| case.whole.spell(&[*one].into())).collect(),
    });
}

fn tell_step(scenario: &Scenario, step: &Step<'_, Node>, format: Format, out: &mut Stdout) {
    let told = trace::tell(scenario, step);
    if format == Format::Human {
        return out.line(&told.to_string());
    }
    out.object(&Happened {
        seconds: told.time.since(Time::ZERO).as_secs_f64(),
        node: told.node.trim_end(),
        input: told.input,
        effects: told.effects,
    });
}

fn tell(report: &Report, format: Format, out: &mut Stdout) {
    let Report { hash, steps, time, healing, counts, faults } = report;
    if format == Format::Json {
        return out.object(&Outcome {
            hash: format!("{hash:016x}"),
            steps: *steps,
            seconds: time.as_secs_f64(),
            healing_seconds: healing.as_secs_f64(),
            counts: Numbers(&counts::table(counts)),
            faults: Numbers(&counts::thrown(faults)),
        });
    }
    out.line("");
    out.line("everything held");
    out.line(&format!("  hash       {hash:016x}"));
    out.line(&format!("  simulated  {} steps in {time:.1?}", counts::grouped(*steps)));
    out.line(&format!("  healed     {healing:.1?} after the storm and all work"));
    out.line(&format!("  done       {}", counts::text(&counts::table(counts))));
    out.line(&format!("  faults     {}", counts::text(&counts::thrown(faults))));
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
    faults: Numbers<'a>,
}

/// The beginning of a run.
#[derive(Serialize)]
#[serde(tag = "event", rename = "run")]
struct Begin<'a> {
    seed: u64,
    nodes: Vec<&'a str>,
    ingredients: Vec<String>,
}

/// One step.
#[derive(Serialize)]
#[serde(tag = "event", rename = "step")]
struct Happened<'a> {
    seconds: f64,
    node: &'a str,
    input: String,
    effects: Vec<String>,
}
