//! The thread that writes the durable log.
//!
//! It is none of the runtime's, whose end would wait for as long as a disk hangs.

use super::{
    Result,
    log::{Batch, Log},
};
use std::{
    io,
    sync::mpsc as from_node,
    task::{Context, Poll},
    thread,
};
use tokio::sync::mpsc;

/// What is to be written, and where: while that goes on, nobody else has it.
type Job = (Log, Batch);

/// A batch that was written, or not.
#[derive(Debug)]
pub(crate) struct Written {
    /// To write the next one,
    pub(crate) log: Log,
    /// into this one, which is empty.
    pub(crate) batch: Batch,
    /// The last entry that is on disk.
    pub(crate) until: Result<u64>,
}

/// The other end of the thread, which ends when this is dropped and nothing is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: from_node::Sender<Job>,
    written: mpsc::UnboundedReceiver<Written>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(name: String) -> io::Result<Self> {
        let (jobs, next) = from_node::channel::<Job>();
        let (done, written) = mpsc::unbounded_channel();
        thread::Builder::new().name(name).spawn(move || {
            for (mut log, mut batch) in next {
                let until = log.write(&mut batch);
                // Nobody may wait for it any more. Then the log is closed here.
                drop(done.send(Written { log, batch, until }));
            }
        })?;
        Ok(Self { jobs, written })
    }

    /// Begins to write.
    pub(crate) fn write(&self, log: Log, batch: Batch) {
        // An error says that the thread has panicked. That is told to who polls.
        drop(self.jobs.send((log, batch)));
    }

    /// What has been written, or none when nothing more will be. Who has polled is woken also by
    /// what begins later.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Written>> {
        self.written.poll_recv(cx)
    }
}

#[cfg(test)]
impl Writer {
    /// Its disk takes everything, and says nothing more.
    pub(crate) fn hanging() -> Self {
        let (jobs, next) = from_node::channel::<Job>();
        let (done, written) = mpsc::unbounded_channel();
        std::mem::forget((next, done));
        Self { jobs, written }
    }
}
