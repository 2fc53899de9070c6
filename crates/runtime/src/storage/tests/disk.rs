//! A disk that can lose its power, and keeps of what was not synced what it likes.

use rand_core::Rng as _;
use redb::StorageBackend;
use roundelay_core::Rng;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

/// What a disk writes at once, in bytes.
const SECTOR: usize = 512;

/// A disk with one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What is there whatever happens.
    synced: Vec<u8>,
    /// What was asked for since, in this order.
    waiting: Vec<Change>,
    /// What a process that reads sees.
    seen: Vec<u8>,
    power: Power,
    went_out: bool,
    /// How many processes were started: only the last one is alive.
    process: u64,
}

impl State {
    /// Whether the power goes out with this.
    fn spend(&mut self) -> bool {
        if let Power::Until(left) = &mut self.power {
            self.went_out = *left == 0;
            *left = left.saturating_sub(1);
        }
        self.went_out
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

/// How long the power stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Power {
    #[default]
    Stable,
    /// So many writes and syncs.
    Until(u64),
}

impl Disk {
    pub(crate) fn with(bytes: Vec<u8>) -> Self {
        let state = State { synced: bytes.clone(), seen: bytes, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What a process that starts now works on.
    pub(crate) fn powered(&self, power: Power) -> Process {
        let mut state = self.state();
        state.process += 1;
        state.went_out = false;
        state.power = power;
        let number = state.process;
        drop(state);
        Process { disk: self.clone(), number }
    }

    /// From now on the power stays for so long.
    pub(crate) fn limit(&self, power: Power) {
        self.state().power = power;
    }

    /// Whether the last process has lost its power.
    pub(crate) fn went_out(&self) -> bool {
        self.state().went_out
    }

    /// The process is gone. One time in three that is all; else so is the power, and of what was
    /// not synced each sector is there or not.
    pub(crate) fn crash(&self, rng: &mut Rng) {
        let mut state = self.state();
        state.process += 1;
        if rng.next_u64().is_multiple_of(3) {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        let kept = rng.next_u64() % 101;
        for change in waiting {
            apply_some(&mut state.synced, change, || rng.next_u64() % 100 < kept);
        }
        state.seen = state.synced.clone();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn apply_some(bytes: &mut Vec<u8>, change: Change, mut kept: impl FnMut() -> bool) {
    match change {
        Change::Resize(length) => {
            if kept() {
                bytes.resize(length, 0);
            }
        }
        Change::Write(at, data) => {
            let mut from = 0;
            while from < data.len() {
                let to = data.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
                // What is behind the end was written for a length that was lost.
                if kept() && at + to <= bytes.len() {
                    bytes[at + from..at + to].copy_from_slice(&data[from..to]);
                }
                from = to;
            }
        }
    }
}

/// A process that uses the disk.
#[derive(Debug)]
pub(crate) struct Process {
    disk: Disk,
    number: u64,
}

impl Process {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.process == self.number && !state.went_out {
            Ok(state)
        } else {
            Err(io::Error::other("there is no power"))
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state()?;
        let out = state.spend();
        apply_some(&mut state.seen, change.clone(), || true);
        state.waiting.push(change);
        if out { Err(io::Error::other("the power went out")) } else { Ok(()) }
    }
}

impl StorageBackend for Process {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let at = offset as usize;
        let bytes = state.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Resize(len as usize))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        if state.spend() {
            return Err(io::Error::other("the power went out"));
        }
        state.waiting.clear();
        state.synced = state.seen.clone();
        Ok(())
    }
}
