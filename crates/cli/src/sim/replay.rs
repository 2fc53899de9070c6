//! `roundelay sim replay`: recorded runs of real nodes, lived again.

use super::Stdout;
use crate::{
    args::{Format, sim::Replay},
    failure::Usage,
};
use roundelay_core::node::Node;
use roundelay_sim::replay::{Failure, History, Problem, Reader};
use std::{fs::File, path::PathBuf, process::ExitCode};

/// Replays recordings.
pub(super) fn run(args: &Replay, out: &mut Stdout) -> anyhow::Result<ExitCode> {
    let readers = args.files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut history = History::<Node, _>::new(readers).map_err(|(first, second)| {
        let [first, second] = [first, second].map(|at| args.files[at].display());
        Usage(format!("{first} and {second} are recordings of the same life"))
    })?;
    loop {
        match history.advance(&mut |step| {
            if args.trace {
                out.line(&format!("{:?} {:?} {:?}", step.time, step.node, step.input));
            }
        }) {
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => {
                out.line(&format!("{failure:?}"));
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    for (life, file) in history.lives().iter().zip(&args.files) {
        let replay = life.replay();
        out.line(&format!(
            "{}: replayed {} inputs, hash {:016x} matches{}",
            file.display(),
            replay.inputs(),
            replay.hash(),
            if life.reader().is_torn() { ", torn" } else { "" }
        ));
    }
    out.line(&format!(
        "{:?} {} unmatched {:?}",
        history.gap(),
        history.unmatched(),
        history.checked()
    ));
    let _ = (args.output.format == Format::Json, |_: Failure, _: Problem| ());
    Ok(ExitCode::SUCCESS)
}

fn open(path: &PathBuf) -> Result<Reader<File>, Usage> {
    let file = File::open(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Reader::new(file).map_err(|error| Usage(format!("{}: {error}", path.display())))
}
