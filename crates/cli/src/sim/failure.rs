//! How a broken promise is told.

use super::{Case, Stdout};
use crate::args::Format;
use roundelay_sim::{shrink::Shrunk, storm::Failure};
use serde::Serialize;

/// Says which promise a run breaks, and by which command to see it.
pub(super) fn tell(case: &Case, failure: &Failure, format: Format, out: &mut Stdout) {
    let (promise, source, what) = (failure.promise(), failure.source(), failure.to_string());
    let (seed, reproduction) = (case.seed, case.reproduction());
    if format == Format::Json {
        return out.object(&Violation { seed, promise, source, what, reproduction });
    }
    out.line(&format!("seed {seed} breaks a promise: {promise}"));
    out.line(&format!("  what      {what}"));
    out.line(&format!("  promised  {source}"));
    out.line(&format!("  see it    {reproduction}"));
}

/// Says how much of a failing run it takes for it to fail.
pub(super) fn tell_shrunk(whole: Case, shrunk: Shrunk, format: Format, out: &mut Stdout) {
    let Shrunk { removed, storm, failure, runs } = shrunk;
    let case = Case { removed, storm, ..whole };
    let ingredients = case.whole.ingredients().len();
    let left = ingredients - case.removed.len();
    let (promise, what, reproduction) =
        (failure.promise(), failure.to_string(), case.reproduction());
    if format == Format::Json {
        let seed = case.seed;
        return out.object(&Smaller { seed, promise, what, ingredients, left, runs, reproduction });
    }
    out.line(&format!(
        "smaller: {left} of {ingredients} faults and tasks are enough ({runs} runs)"
    ));
    out.line(&format!("  what      {what}"));
    out.line(&format!("  see it    {reproduction}"));
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "violation")]
struct Violation<'a> {
    seed: u64,
    promise: &'a str,
    source: &'a str,
    what: String,
    reproduction: String,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "shrunk")]
struct Smaller<'a> {
    seed: u64,
    promise: &'a str,
    what: String,
    ingredients: usize,
    left: usize,
    runs: usize,
    reproduction: String,
}
