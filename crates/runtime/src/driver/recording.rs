//! Writes down every input of the core, so that the run can be replayed.
//!
//! The bytes are gathered in memory and written in large pieces, at least every second. They go
//! to the system with that, and so survive the process; they are not forced onto the disk.

use super::Driver;
use crate::{builder::StartError, node::Event};
use roundelay_core::{
    EffectOf, InputOf, Time, node,
    recording::{Header, Recorder},
};
use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// So many bytes are written at once.
const PIECE: usize = 64 << 10;
/// Nothing waits longer than this to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// A recording that is being written.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    file: File,
    recorder: Recorder,
    /// What is not written yet.
    waiting: Vec<u8>,
    /// Since when it waits.
    since: Time,
}

impl Recording {
    /// Begins the recording of a node with these settings and this seed, whose clock starts now.
    /// A file that exists is written anew.
    pub(crate) fn begin(
        path: &Path,
        config: node::Config,
        seed: [u8; 32],
    ) -> Result<Self, StartError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let header = Header { version: env!("CARGO_PKG_VERSION").into(), config, seed, started };
        let failed = |source| StartError::Record { path: path.to_owned(), source };
        let mut waiting = Vec::new();
        let recorder = Recorder::new(&header, &mut waiting)
            .map_err(|error| failed(io::Error::other(error)))?;
        let file = File::create(path).map_err(failed)?;
        let mut recording =
            Self { path: path.to_owned(), file, recorder, waiting, since: Time::ZERO };
        recording.flush().map_err(failed)?;
        Ok(recording)
    }

    /// An input, before it is handled.
    fn input(&mut self, now: Time, input: &InputOf<node::Node>) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.since = now;
        }
        self.recorder.input(now, input, &mut self.waiting).map_err(io::Error::other)
    }

    /// What the node does about it.
    fn effects(&mut self, effects: &[EffectOf<node::Node>]) -> io::Result<()> {
        self.recorder.effects(effects, &mut self.waiting);
        if self.waiting.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// By when something has to be written, if anything waits.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then(|| self.since + PATIENCE)
    }

    /// Writes what waits. Nothing is written twice: what comes behind an error is worth nothing.
    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.waiting);
        self.waiting.clear();
        written
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // If the node has panicked, the input that did it must be there. Of an error nobody is
        // left to be told.
        let _ = self.flush();
    }
}

impl Driver {
    /// Records an input that is about to be handled.
    pub(super) fn record_input(&mut self, input: &InputOf<node::Node>) {
        if let Some(recording) = &mut self.recording {
            let recorded = recording.input(self.now, input);
            self.end_recording_on(recorded);
        }
    }

    /// Records what it has led to.
    pub(super) fn record_effects(&mut self, effects: &[EffectOf<node::Node>]) {
        if let Some(recording) = &mut self.recording {
            let recorded = recording.effects(effects);
            self.end_recording_on(recorded);
        }
    }

    /// Writes what has waited long enough.
    pub(super) fn write_recording(&mut self) {
        if let Some(recording) = &mut self.recording
            && recording.deadline().is_some_and(|deadline| deadline <= self.now)
        {
            let written = recording.flush();
            self.end_recording_on(written);
        }
    }

    /// Writes all that waits, and records nothing more.
    pub(super) fn end_recording(&mut self) {
        if let Some(recording) = &mut self.recording {
            let written = recording.flush();
            self.end_recording_on(written);
            self.recording = None;
        }
    }

    /// A node is worth more than its recording: after an error it goes on without.
    fn end_recording_on(&mut self, result: io::Result<()>) {
        let Err(error) = result else { return };
        let Some(recording) = self.recording.take() else { return };
        let path = recording.path.display();
        self.tell(&Event::RecordingEnded(format!("cannot record into {path} any more: {error}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roundelay_core::{
        Input, Life, Name, NodeId, detector,
        recording::{entry, header},
    };

    fn config() -> node::Config {
        let (name, life) = (Name::new("p1").expect("a name"), Life(1));
        let (heartbeat, suspect_min) = (Duration::from_secs(1), Duration::from_secs(3));
        let detector = detector::Config { heartbeat, suspect_min };
        node::Config { name, life, detector, group: None, gossip: None }
    }

    #[test]
    fn the_input_that_ends_a_node_is_written() {
        let path = std::env::temp_dir().join(format!("roundelay-{}.rec", std::process::id()));
        let mut recording = Recording::begin(&path, config(), [7; 32]).expect("it can be written");
        let now = Time::from_nanos(5);
        recording.input(now, &Input::LinkUp(NodeId::from_raw(1))).expect("it is in memory");
        recording.effects(&[]).expect("it is in memory");
        assert_eq!(recording.deadline(), Some(now + PATIENCE));
        recording.input(now, &Input::LinkDown(NodeId::from_raw(1))).expect("it is in memory");
        // The node panics here, and all is dropped.
        drop(recording);
        let bytes = std::fs::read(&path).expect("it is there");
        std::fs::remove_file(&path).expect("it is ours");
        let (header, mut at) = header(&bytes).expect("it is good").expect("it is whole");
        assert_eq!((header.config, header.seed), (config(), [7; 32]));
        let mut next = || {
            let (entry, length) = entry(&bytes[at..], true).expect("good").expect("whole");
            at += length;
            (entry.input, entry.handled.is_some())
        };
        assert_eq!(next(), (Input::LinkUp(NodeId::from_raw(1)), true));
        assert_eq!(next(), (Input::LinkDown(NodeId::from_raw(1)), false));
        assert_eq!(at, bytes.len());
    }
}
