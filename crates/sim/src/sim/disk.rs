//! What survives a restart, and what a loss of power leaves of it.

use crate::dice::Dice;
use roundelay_core::{multicast::LogEntry, view::Record};

/// The disk of one node: a record that is replaced at once, and a log that is durable later. The log is
/// there, empty, before the first record: an empty one says that nothing was acknowledged. (Nobody
/// moves it away and leaves the record here: that is tried with the real disk.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    record: Option<Record>,
    log: Vec<LogEntry>,
    /// How many entries of the log are durable.
    durable: usize,
    /// How many of them will be at the end of the sync that is under way.
    syncing: Option<usize>,
    /// An entry at the end of the log of which only a piece was written: its checksum is wrong.
    torn: Option<LogEntry>,
}

impl Disk {
    /// The record that was saved last.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The entries of the log, durable or not.
    pub fn log(&self) -> &[LogEntry] {
        &self.log
    }

    /// Replaces the record, durably.
    pub(super) fn save(&mut self, record: Record) {
        self.record = Some(record);
    }

    /// Adds to the log. Durable is the entry only by the end of a sync that began after this.
    pub(super) fn append(&mut self, entry: LogEntry) {
        self.log.push(entry);
    }

    /// Forgets the entries up to this number, which are durable.
    pub(super) fn trim(&mut self, number: u64) {
        let gone = self.log.partition_point(|entry| entry.number <= number);
        assert!(gone <= self.durable, "what is not durable is needed");
        self.log.drain(..gone);
        self.durable -= gone;
        self.syncing = self.syncing.map(|end| end - gone);
    }

    /// Begins a sync of what has been appended so far. There is only one at a time: what is
    /// appended meanwhile goes with the next one.
    pub(super) fn begin_sync(&mut self) -> bool {
        let begins = self.syncing.is_none() && self.durable < self.log.len();
        if begins {
            self.syncing = Some(self.log.len());
        }
        begins
    }

    /// Ends the sync: the number of the last durable entry.
    pub(super) fn end_sync(&mut self) -> u64 {
        self.durable = self.syncing.take().expect("a sync is under way");
        self.log.get(self.durable.wrapping_sub(1)).map_or(0, |entry| entry.number)
    }

    /// The machine loses its power. Of what was not synced any prefix may have reached the disk,
    /// and a piece of the entry after it. (Pages may be written in another order, but the first
    /// wrong checksum ends the log, whatever comes after it.)
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        let kept = self.durable + dice.index(self.log.len() - self.durable + 1);
        self.torn = self.log.drain(kept..).next().filter(|_| dice.chance(500));
        self.syncing = None;
    }

    /// The process reads its disk at the start of a life: it drops a torn entry, and syncs the
    /// rest, before it tells anybody of it.
    pub(super) fn open(&mut self) {
        self.torn = None;
        self.syncing = None;
        if self.record.as_ref().is_none_or(Record::is_blank) {
            self.log.clear(); // It was in no view: nobody counts on what it has learned.
        }
        self.durable = self.log.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::tests::{entry, record};

    fn numbers(disk: &Disk) -> Vec<u64> {
        disk.log.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn a_sync_covers_what_was_there_when_it_began() {
        let mut disk = Disk::default();
        assert!(!disk.begin_sync());
        disk.append(entry(1));
        disk.append(entry(2));
        assert!(disk.begin_sync());
        disk.append(entry(3));
        assert!(!disk.begin_sync());
        assert_eq!(disk.end_sync(), 2);
        assert!(disk.begin_sync());
        assert_eq!(disk.end_sync(), 3);
        assert!(!disk.begin_sync());
    }

    #[test]
    fn without_power_the_durable_prefix_stays_and_the_rest_may() {
        let mut ends = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.append(entry(1));
            disk.append(entry(2));
            disk.begin_sync();
            disk.end_sync();
            (3..=5).for_each(|number| disk.append(entry(number)));
            disk.begin_sync();
            disk.lose_power(&mut Dice::new(seed));
            let kept = numbers(&disk);
            assert!(kept.len() >= 2 && kept.iter().copied().eq(1..=kept.len() as u64));
            let torn = disk.torn.as_ref().map(|entry| entry.number);
            assert!(torn.is_none_or(|torn| torn == kept.len() as u64 + 1));
            ends.insert((kept.len(), torn));
            disk.save(record());
            disk.open();
            assert_eq!((numbers(&disk), &disk.torn), (kept, &None));
            assert!(!disk.begin_sync());
        }
        let torn = |kept: usize| (kept, Some(kept as u64 + 1));
        let whole = |kept| (kept, None);
        let all = [whole(2), torn(2), whole(3), torn(3), whole(4), torn(4), whole(5)];
        assert_eq!(ends, all.into());
    }
}
