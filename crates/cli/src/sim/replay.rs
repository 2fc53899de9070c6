//! `roundelay sim replay`: recorded runs of real nodes, lived again.

use super::{INTERRUPTED, Stdout, Stop};
use crate::{
    args::{Format, sim::Replay},
    failure::Usage,
};
use roundelay_core::{node::Node, time::Time};
use roundelay_sim::{
    Step,
    invariant::Violation,
    replay::{Failure, History, Life, Problem, Reader, Recorded},
    sim::Reading,
    trace::{self, Cast as _},
};
use serde::Serialize;
use std::{fs::File, path::Path, process::ExitCode};

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Replays recordings, and checks the history that they make together.
pub(super) fn run(args: &Replay, out: &mut Stdout, stop: &Stop) -> anyhow::Result<ExitCode> {
    let readers = args.files.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let cast = Recorded::of(readers.iter().map(Reader::header));
    let mut history = History::<Node, _>::new(readers).map_err(|(first, second)| {
        let [first, second] = [first, second].map(|at| args.files[at].display());
        Usage(format!("{first} and {second} are recordings of the same life of a node"))
    })?;
    let teller = Teller { args, cast: &cast };
    loop {
        let taken = history.advance(&mut |step| {
            if args.trace {
                teller.step(step, out);
            }
        });
        match taken {
            Ok(true) if stop.is_requested() => return Ok(ExitCode::from(INTERRUPTED)),
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => return teller.failure(&history, *failure, out),
        }
    }
    for (life, path) in history.lives().iter().zip(&args.files) {
        teller.life(life, path, out);
    }
    teller.history(&mut history, out);
    Ok(ExitCode::SUCCESS)
}

fn open(path: &Path) -> Result<Reader<File>, Usage> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Reader::new(file).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> Usage {
    Usage(format!("cannot read {}: {error}", path.display()))
}

/// What is said about replays.
struct Teller<'a> {
    args: &'a Replay,
    cast: &'a Recorded,
}

/// The same for scripts.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Told<'a> {
    /// A step of `--trace`.
    Step { seconds: f64, node: String, input: String, effects: Vec<String> },
    /// A node did the same again.
    Replayed { file: String, node: String, inputs: u64, hash: String, torn: bool },
    /// It did not.
    Diverged { file: String, node: String, input: u64, what: String, lines: Vec<String> },
    /// A promise was broken.
    Violation {
        file: String,
        node: String,
        input: u64,
        promise: &'a str,
        source: &'a str,
        what: String,
        lines: Vec<String>,
    },
    /// All of them together.
    History { nodes: usize, inputs: u64, unmatched: u64, whole: u64, checked: Vec<&'a str> },
}

impl Teller<'_> {
    fn is_human(&self) -> bool {
        self.args.output.format == Format::Human
    }

    fn step(&self, step: &Step<'_, Node>, out: &mut Stdout) {
        let told = trace::tell(self.cast, step);
        if self.is_human() {
            return out.line(&told.to_string());
        }
        let trace::Told { time, node, input, effects } = told;
        let (seconds, node) = (time.since(Time::ZERO).as_secs_f64(), node.trim_end().into());
        out.object(&Told::Step { seconds, node, input, effects });
    }

    /// A life that went the same way.
    fn life(&self, life: &Life<Node, File>, path: &Path, out: &mut Stdout) {
        let (inputs, hash) = (life.replay().inputs(), format!("{:016x}", life.replay().hash()));
        let (file, torn) = (path.display().to_string(), life.reader().is_torn());
        let node = life.reader().header().config.name.to_string();
        if !self.is_human() {
            return out.object(&Told::Replayed { file, node, inputs, hash, torn });
        }
        let torn = if torn { "; it ends in the middle of an entry" } else { "" };
        out.line(&format!("{file}: replayed {inputs} inputs of {node}, hash {hash} matches{torn}"));
    }

    /// All of them as one history in which everything held.
    fn history(&self, history: &mut History<Node, File>, out: &mut Stdout) {
        let (nodes, inputs, unmatched) =
            (history.lives().len(), history.inputs(), history.unmatched());
        let gap = history.gap();
        let whole = gap.map_or(inputs, |gap| gap.inputs);
        let checked = history.checked();
        if !self.is_human() {
            return out.object(&Told::History { nodes, inputs, unmatched, whole, checked });
        }
        let checked = checked.join(", ");
        let Some(gap) = gap else {
            out.line(&format!("one history of {inputs} inputs: all promises are kept"));
            return out.line(&format!("  judged     {checked}"));
        };
        let (to, from) = (self.cast.name(gap.to), self.cast.name(gap.from));
        out.line(&format!(
            "one history of {inputs} inputs: all promises are kept, as far as they can be judged"
        ));
        out.line(&format!("  all        in the first {whole} inputs"));
        out.line(&format!("  to the end {checked}"));
        out.line(&format!(
            "  missing    that {from} says what {to} then hears; {unmatched} messages are like that"
        ));
    }

    /// What is wrong.
    fn failure(
        &self,
        history: &History<Node, File>,
        failure: Failure,
        out: &mut Stdout,
    ) -> anyhow::Result<ExitCode> {
        let Failure { recording, number: input, step, problem } = failure;
        let (life, path) = (&history.lives()[recording], &self.args.files[recording]);
        let (file, header) = (path.display().to_string(), life.reader().header());
        let node = header.config.name.to_string();
        let lines = step.map_or_else(Vec::new, |(time, input, effects)| {
            let (node, machine) = (header.config.name.id(), life.replay().machine());
            let clock = Reading { shows: time, slow_ppm: 0 };
            let step = Step { time, node, clock, input, effects: &effects, machine, ended: None };
            let told = trace::tell(self.cast, &step).to_string();
            [told].into_iter().chain(effects.iter().map(|effect| format!("{effect:?}"))).collect()
        });
        match problem {
            Problem::Unreadable(error) => {
                let whole = input - 1;
                return Err(
                    Usage(format!("cannot read {file} after input {whole}: {error}")).into()
                );
            }
            Problem::Diverged(how) if self.is_human() => {
                out.line(&format!("{file}: input {input} of {node}: {how}"));
                if header.version != VERSION {
                    let then = &header.version;
                    out.line(&format!(
                        "  it was recorded by version {then}, and this is {VERSION}"
                    ));
                }
                indented(&lines, out);
            }
            Problem::Diverged(how) => {
                out.object(&Told::Diverged { file, node, input, what: how.to_string(), lines });
            }
            Problem::Violated(Violation { invariant: promise, source, what, .. }) => {
                if self.is_human() {
                    out.line(&format!(
                        "{file}: input {input} of {node} breaks a promise: {promise}"
                    ));
                    out.line(&format!("  what       {what}"));
                    out.line(&format!("  promised   {source}"));
                    indented(&lines, out);
                } else {
                    out.object(&Told::Violation {
                        file,
                        node,
                        input,
                        promise,
                        source,
                        what,
                        lines,
                    });
                }
            }
        }
        Ok(ExitCode::FAILURE)
    }
}

fn indented(lines: &[String], out: &mut Stdout) {
    for line in lines {
        out.line(&format!("  {line}"));
    }
}
