//! How a broken promise is told.

use super::Stdout;
use crate::args::Format;
use roundelay_sim::storm::Failure;
use serde::Serialize;

/// Says which promise the run of this seed breaks, and by which command to see it.
pub(super) fn tell(
    seed: u64,
    failure: &Failure,
    reproduction: &str,
    format: Format,
    out: &mut Stdout,
) {
    let (promise, source, what) = (failure.promise(), failure.source(), failure.to_string());
    if format == Format::Json {
        return out.object(&Violation { seed, promise, source, what, reproduction });
    }
    out.line(&format!("seed {seed} breaks a promise: {promise}"));
    out.line(&format!("  what       {what}"));
    out.line(&format!("  promised   {source}"));
    out.line(&format!("  see it     {reproduction}"));
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "violation")]
struct Violation<'a> {
    seed: u64,
    promise: &'a str,
    source: &'a str,
    what: String,
    reproduction: &'a str,
}
