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

#[cfg(test)]
mod tests {
    use super::*;
    use roundelay_sim::Selection;

    fn said(format: Format) -> String {
        let (mut out, said) = Stdout::captured();
        let case = Case::new(11, Selection::ALL);
        let failure = Failure::Panic { place: "here:1:2".into(), message: "a < b".into() };
        tell(&case, &failure, format, &mut out);
        let mut removed = case.whole.ingredients();
        removed.pop_last();
        let shrunk = Shrunk { removed, storm: None, failure, runs: 7 };
        tell_shrunk(case, shrunk, format, &mut out);
        drop(out);
        String::from_utf8(said.iter().flatten().collect()).unwrap()
    }

    #[test]
    fn people_are_told_what_was_broken_and_how_to_see_it() {
        let text = said(Format::Human);
        for line in [
            "seed 11 breaks a promise: no_panic\n",
            "  what      panics at here:1:2: a < b\n",
            "  promised  crates/core/src/protocol.rs, 5: infallible\n",
            "  see it    roundelay sim run --seed 11\n",
            "smaller: 1 of ",
            "  see it    roundelay sim run --seed 11 --only ",
        ] {
            assert!(text.contains(line), "{line:?} is missing: {text}");
        }
    }

    #[test]
    fn scripts_are_told_the_same() {
        let text = said(Format::Json);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["event"], "violation");
        assert_eq!(lines[0]["reproduction"], "roundelay sim run --seed 11");
        assert_eq!(lines[1]["event"], "shrunk");
        assert_eq!((&lines[1]["left"], &lines[1]["runs"]), (&1.into(), &7.into()));
    }
}
