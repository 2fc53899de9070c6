//! Keeps the node's record on disk.
//!
//! A save blocks the thread of the node until the disk has it: two `fsync`s. That is what makes it
//! durable before anything that was sent after it leaves, without a queue of what waits for the
//! disk. A view change saves a few times (promise, acceptance, installation), so do the founding and a
//! start, and the order once in half a million positions; nothing else does. Who has a slow disk pays
//! with a pause of that length, in [`Builder::spawn`](crate::Builder::spawn) also of its own tasks.
//!
//! What is appended to the durable log blocks nothing: it is written, batch by batch, by another
//! thread, one `fdatasync` for all that has come together since the last one, and the node hears how
//! far it is.

use super::{Driver, Phase};
use crate::{
    builder::{Plan, StartError},
    storage::{
        Storage, StorageError,
        log::{self, Batch, Log},
        writer::{Writer, Written},
    },
};
use roundelay_core::{
    Time,
    multicast::LogEntry,
    view::{Record, Saved},
};
use std::{
    future::poll_fn,
    io,
    task::{self, Poll},
    thread,
    time::Duration,
};
use tokio::time::timeout;

/// A disk that takes longer to write is as good as broken: others wait for this node.
const PATIENCE: u32 = 30;
/// It is counted in these: of the time for which a process is stopped, at most one counts.
const SECOND: Duration = Duration::from_secs(1);

/// Where the record is kept.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// None: nothing survives, and nothing is waited for.
    storage: Option<Storage>,
    /// What an earlier life has saved, until the node is started with it.
    found: Option<Saved>,
    /// A save has failed: the node has stopped there and then.
    failed: bool,
    /// The durable log, if there is one.
    journal: Option<Journal>,
}

/// The durable log.
#[derive(Debug)]
struct Journal {
    /// What is to be written next.
    batch: Batch,
    state: State,
    writer: Writer,
    /// How many seconds a write may take.
    patience: u32,
}

#[derive(Debug)]
enum State {
    Idle(Log, Batch),
    /// Since so many seconds, of which the next one is over then.
    Writing(u32, Time),
    /// A write has failed,
    Broken,
    /// or does not end.
    Hanging,
}

impl Saving {
    /// Opens the data directory, if there is one.
    pub(super) fn open(plan: &Plan) -> Result<Self, StartError> {
        let Some(dir) = &plan.data_dir else { return Ok(Self::default()) };
        let storage = Storage::open(dir, &plan.name)?;
        let record = storage.load()?;
        let (mut journal, mut log) = (None, Vec::new());
        if plan.durable {
            let began = record.as_ref().filter(|record| !record.is_blank());
            let (opened, entries) = Log::open(dir, began.is_some())?;
            if let Some(record) = began {
                log::check_record(record, &entries, storage.path())?;
            }
            let state = State::Idle(opened.locked(storage.lock()), Batch::default());
            let writer = Writer::start(format!("roundelay-{}-log", plan.name));
            let writer = writer.map_err(StartError::System)?;
            let batch = Batch::default();
            journal = Some(Journal { batch, state, writer, patience: PATIENCE });
            log = entries;
        } else if Log::is_in(dir)? {
            return Err(StorageError::HasLog { dir: dir.clone() }.into());
        }
        let found = record.map(|record| Saved { record, log });
        Ok(Self { storage: Some(storage), found, failed: false, journal })
    }

    pub(super) fn take_found(&mut self) -> Option<Saved> {
        self.found.take()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn append(&mut self, entry: &LogEntry) {
        if let Some(journal) = &mut self.journal {
            journal.batch.push(entry);
        }
    }

    pub(super) fn trim(&mut self, number: u64) {
        if let Some(journal) = &mut self.journal {
            journal.batch.trim(number);
        }
    }

    /// Begins to write what has been appended, unless that before it is still being written.
    pub(super) fn flush(&mut self, now: Time) {
        let Some(journal) = self.journal.as_mut().filter(|journal| !journal.batch.is_empty())
        else {
            return;
        };
        match std::mem::replace(&mut journal.state, State::Writing(0, now + SECOND)) {
            State::Idle(log, empty) => {
                let batch = std::mem::replace(&mut journal.batch, empty);
                journal.writer.write(log, batch);
            }
            state => journal.state = state,
        }
    }

    /// How far the log is on disk, when that is news. It is asked also while nothing is written, to be
    /// woken by the end of what begins before the next look.
    pub(super) fn poll_appended(
        &mut self,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<u64, StorageError>> {
        let Some(journal) = &mut self.journal else { return Poll::Pending };
        if matches!(journal.state, State::Broken | State::Hanging) {
            return Poll::Pending;
        }
        let failed = match journal.writer.poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Written { log, batch, until: Ok(number) })) => {
                journal.state = State::Idle(log, batch);
                return Poll::Ready(Ok(number));
            }
            Poll::Ready(Some(Written { until: Err(error), .. })) => error,
            Poll::Ready(None) => StorageError::Unwritten(io::Error::other("its thread panicked")),
        };
        // Whatever has failed is not tried again: the system may have let go of what it could not write.
        journal.state = State::Broken;
        Poll::Ready(Err(failed))
    }

    /// By when somebody has to look whether the disk hangs.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.journal.as_ref()?.state {
            State::Writing(_, next) => Some(next),
            _ => None,
        }
    }

    /// An error if the disk hangs.
    pub(super) fn check(&mut self, now: Time) -> Result<(), StorageError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if let State::Writing(seconds, next) = &mut journal.state
            && *next <= now
        {
            (*seconds, *next) = (*seconds + 1, now + SECOND);
            if *seconds >= journal.patience {
                return Err(journal.hang());
            }
        }
        Ok(())
    }

    /// Waits until all that was appended is on disk: who opens the directory next finds it whole.
    pub(super) async fn finish(&mut self, now: Time) -> Result<(), StorageError> {
        loop {
            self.flush(now);
            let Some(journal) = &self.journal else { return Ok(()) };
            let State::Writing(..) = journal.state else { return Ok(()) };
            let written = poll_fn(|cx| self.poll_appended(cx));
            match timeout(PATIENCE * SECOND, written).await {
                Ok(written) => written?,
                Err(_) => return self.journal.as_mut().map_or(Ok(()), |hung| Err(hung.hang())),
            };
        }
    }

    /// Nobody waits for a disk that hangs: to close the files may take as long. The directory stays
    /// locked until nothing is written any more.
    pub(super) fn close(&mut self) {
        let hung = |journal: &Journal| matches!(journal.state, State::Hanging);
        if self.journal.as_ref().is_some_and(hung) {
            let saving = std::mem::take(self);
            // An error says that there is no thread to be had: then it is closed here.
            drop(thread::Builder::new().spawn(move || drop(saving)));
        }
    }

    fn save(&mut self, record: &Record) -> Result<(), StorageError> {
        self.storage.as_ref().map_or(Ok(()), |storage| storage.save(record))
    }
}

impl Journal {
    fn hang(&mut self) -> StorageError {
        self.state = State::Hanging;
        let reason = format!("the disk has taken longer than {} s", self.patience);
        StorageError::Unwritten(io::Error::new(io::ErrorKind::TimedOut, reason))
    }
}

impl Driver {
    /// Saves the record. Whether the node goes on: who cannot remember what it is about to say must
    /// not say it (V1), and never handles another input.
    pub(super) fn save(&mut self, record: &Record) -> bool {
        let Err(error) = self.saving.save(record) else { return true };
        self.stop_unsaved(error);
        false
    }

    /// The disk fails: the node stops there and then.
    pub(super) fn stop_unsaved(&mut self, error: StorageError) {
        self.saving.failed = true;
        self.phase = Phase::Over;
        self.shared.lease.stop();
        self.shared.fail(error);
    }
}

#[cfg(test)]
mod tests {
    use super::{SECOND, State, Time, Writer};
    use crate::{
        Event, Group, Node,
        builder::{Builder, Limits},
        driver::start::{Prepared, prepare},
        storage::tests::{disk::Power, stored_until},
    };
    use roundelay_core::multicast::{Line, LogEntry};
    use std::time::Duration;
    use tokio::time::timeout;

    /// What a node of a group of one emits whose disk loses its power after so many writes.
    async fn events_until(writes: u64) -> (Vec<Event>, Node) {
        let mut builder: Builder =
            Node::builder("p1").listen("127.0.0.1:0").group(Group::of(["p1"]));
        let mut events = builder.events();
        let Prepared { node, mut driver, ending, stops } =
            prepare(builder.check().unwrap()).await.unwrap();
        driver.saving.storage = Some(stored_until(Power::Until(writes)));
        let run = async move {
            Box::pin(driver.run(ending)).await;
            drop(stops);
        };
        let read = async {
            let mut seen = Vec::new();
            while let Some(event) = events.next().await {
                let founded = matches!(event, Event::View(_));
                seen.push(event);
                if founded {
                    break;
                }
            }
            seen
        };
        let running = tokio::spawn(run);
        let seen = timeout(Duration::from_secs(20), read).await.unwrap();
        let stopper = node.clone();
        timeout(Duration::from_secs(20), stopper.leave()).await.unwrap();
        running.await.unwrap();
        (seen, node)
    }

    #[tokio::test]
    async fn a_node_that_cannot_save_ends_before_it_says_anything() {
        let (events, node) = events_until(u64::MAX).await;
        assert!(events.iter().any(|event| matches!(event, Event::View(_))), "{events:?}");
        assert!(node.failure().is_none());

        let (events, node) = events_until(1).await;
        assert!(!events.iter().any(|event| matches!(event, Event::View(_))), "{events:?}");
        let failure = node.failure().unwrap().to_string();
        assert!(failure.contains("cannot write view.redb: "), "{failure}");
        let refused = node.try_lock(crate::LockName::default_lock()).await.unwrap_err();
        assert_eq!(refused, crate::LockError::Stopped);
    }

    /// A durable group of one, in this directory.
    async fn durable(dir: &std::path::Path) -> Prepared {
        durable_with(dir, Limits::default(), Duration::from_secs(5)).await
    }

    async fn durable_with(dir: &std::path::Path, limits: Limits, lease: Duration) -> Prepared {
        let group = Group::of(["p1"]).lease(lease);
        let builder = Node::builder("p1").listen("127.0.0.1:0").group(group);
        let builder = builder.data_dir(dir).durable(true).limits(limits);
        prepare(builder.check().unwrap()).await.unwrap()
    }

    /// Why a node ended that has answered no send.
    async fn failure_of(Prepared { node, driver, ending, stops }: Prepared) -> String {
        let running = tokio::spawn(Box::pin(driver.run(ending)));
        let sent = timeout(Duration::from_secs(20), node.multicast().send("x")).await.unwrap();
        assert!(sent.is_err(), "{sent:?}");
        timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
        drop(stops);
        node.failure().unwrap().to_string()
    }

    fn entry(number: u64) -> LogEntry {
        LogEntry { number, line: Line::Unlogged }
    }

    fn dir(test: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("roundelay-saving-{test}-{}", std::process::id()))
    }

    /// No timer and no peer wakes the node: the disk does.
    #[tokio::test]
    async fn a_send_is_answered_as_soon_as_it_is_on_disk() {
        let dir = dir("woken");
        let minute = Duration::from_mins(1);
        let limits = Limits {
            heartbeat: minute,
            suspect_min: 2 * minute,
            multicast_heartbeat: minute,
            ..Limits::default()
        };
        let Prepared { node, driver, ending, stops } =
            durable_with(&dir, limits, 10 * minute).await;
        let running = tokio::spawn(Box::pin(driver.run(ending)));
        for text in ["x", "y"] {
            let sent = timeout(Duration::from_secs(5), node.multicast().send(text)).await;
            assert!(sent.expect("it is woken").is_ok());
        }
        drop(node);
        timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
        drop(stops);
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// The log cannot be written: nothing that would have to be in it is said, and the node ends.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_node_that_cannot_write_its_log_ends_before_a_send_is_answered() {
        let dir = dir("full");
        let Prepared { node, mut driver, ending, stops } = durable(&dir).await;
        match &mut driver.saving.journal.as_mut().unwrap().state {
            State::Idle(log, _) => log.fill(),
            state => panic!("{state:?}"),
        }
        let failure = failure_of(Prepared { node, driver, ending, stops }).await;
        assert!(failure.contains("order-") && failure.contains("make room"), "{failure}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// The disk neither writes nor fails: the node ends, and whoever waits for it, too.
    #[tokio::test]
    async fn a_node_whose_disk_hangs_ends() {
        let dir = dir("hangs");
        let Prepared { node, mut driver, ending, stops } = durable(&dir).await;
        let journal = driver.saving.journal.as_mut().unwrap();
        (journal.writer, journal.patience) = (Writer::hanging(), 2);
        let failure = failure_of(Prepared { node, driver, ending, stops }).await;
        assert!(failure.contains("the disk has taken longer than 2 s"), "{failure}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_does_not_wait_for_ever_for_the_disk() {
        let dir = dir("stops");
        let Prepared { mut driver, .. } = durable(&dir).await;
        driver.saving.journal.as_mut().unwrap().writer = Writer::hanging();
        driver.saving.append(&entry(1));
        let failure = driver.saving.finish(Time::ZERO).await.unwrap_err().to_string();
        assert!(failure.contains("the disk has taken longer than 30 s"), "{failure}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// A process that was stopped has not waited for the disk meanwhile.
    #[tokio::test]
    async fn only_the_time_for_which_the_process_runs_counts() {
        let dir = dir("counts");
        let Prepared { mut driver, .. } = durable(&dir).await;
        driver.saving.journal.as_mut().unwrap().writer = Writer::hanging();
        driver.saving.append(&entry(1));
        assert_eq!(driver.saving.deadline(), None);
        driver.saving.flush(Time::ZERO);
        for hour in 1..30 {
            let now = Time::ZERO + Duration::from_hours(hour);
            assert!(driver.saving.check(now).is_ok());
            assert!(driver.saving.check(now).is_ok());
            assert_eq!(driver.saving.deadline(), Some(now + SECOND));
        }
        assert!(driver.saving.check(Time::ZERO + Duration::from_hours(30)).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// Who stops has written everything, and the directory is free for the next life.
    #[tokio::test]
    async fn the_last_batch_is_awaited() {
        let dir = dir("last");
        let Prepared { mut driver, .. } = durable(&dir).await;
        for number in 1..=3 {
            driver.saving.append(&entry(number));
            // The first is on its way when the others come.
            driver.saving.flush(Time::ZERO);
        }
        driver.saving.finish(Time::ZERO).await.unwrap();
        let (_, entries) = crate::storage::log::Log::open(&dir, true).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2, 3]);
        drop(driver);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
