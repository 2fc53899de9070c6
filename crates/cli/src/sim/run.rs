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
    out.line(&format!("  simulated  {} steps in {time:.1?}", crate::output::grouped(*steps)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, sim::SimCommand};
    use clap::Parser;
    use roundelay_sim::{Selection, scenario::Parts};
    use std::time::Duration;

    /// The run that a line stands for.
    fn parsed(line: &str) -> Case {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Sim(sim) => match sim.command {
                SimCommand::Run(args) => case(&args).unwrap(),
                other @ (SimCommand::Sweep(_) | SimCommand::Replay(_)) => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_line_of_a_run_gives_the_run_again() {
        let parts = Parts { gossip: false, ..Parts::ALL };
        for selection in [Selection::ALL, Selection { parts, nodes: Some(4) }] {
            for seed in 0..20 {
                let whole = Case::new(seed, selection);
                let all = whole.whole.ingredients();
                let many: BTreeSet<_> = all.iter().copied().skip(2).collect();
                let few: BTreeSet<_> = all.iter().copied().take(2).collect();
                for removed in [BTreeSet::new(), all, many, few] {
                    let storm = (seed % 2 == 0).then(|| Duration::from_millis(200 + seed));
                    let case = Case { removed, storm, ..Case::new(seed, selection) };
                    let again = parsed(&case.reproduction());
                    let text = |case: &Case| format!("{:?}", case.scenario());
                    assert_eq!(text(&again), text(&case), "{}", case.reproduction());
                }
            }
        }
    }

    #[test]
    fn the_shorter_flag_is_written() {
        let whole = Case::new(11, Selection::ALL);
        assert_eq!(whole.reproduction(), "roundelay sim run --seed 11");
        let mut removed = whole.whole.ingredients();
        let last = removed.pop_last().unwrap();
        let name = whole.whole.spell(&[last].into());
        let one_left = Case { removed, ..Case::new(11, Selection::ALL) };
        let line = one_left.reproduction();
        assert!(line.ends_with(&format!(" --only {name}")), "{line}");
        let one_gone = Case { removed: [last].into(), ..whole };
        let line = one_gone.reproduction();
        assert!(line.ends_with(&format!(" --without {name}")), "{line}");
    }
}
