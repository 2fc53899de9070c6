//! The durable log of the order (T9): files beside the record, to which entries are only added.
//!
//! What is appended between two syncs is a *batch*: a header with its length, checksums of the header
//! and of the entries, and the entries. A batch is written when the one before is on disk. So after a
//! crash only the last batch can be torn, and is dropped: nobody was told that it is there. What a
//! crash leaves of it ends early, or has a sector that was never written. Whatever else is wrong is
//! damage, and the log is not used.
//!
//! A file that is large enough ends with a batch of no entries, a *seal*, and is followed by a new one,
//! named after its first entry. It goes as a whole when none of its entries is needed any more.

use super::{Result, StorageError, failed, sync};
use roundelay_core::{
    multicast::{Line, LogEntry},
    view::{Record, View},
};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What every batch begins with, to find it by,
const MARK: [u8; 7] = *b"rndlog\0";
/// and the version of the format.
const FORMAT: u8 = b'1';
/// Mark, format and length of the entries,
const LENGTH: usize = MARK.len() + 1 + 4;
/// the checksum of these, and that of length and entries.
const HEADER: usize = LENGTH + 4 + 4;
/// A disk writes so many bytes, or none of them.
const SECTOR: usize = 512;
/// A file that has grown beyond this is followed by a new one.
const FILE_BYTES: u64 = 8 << 20;
/// What the names of the files begin and end with.
const NAME: (&str, &str) = ("order-", ".log");

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    /// The first entry of each file, oldest first.
    files: VecDeque<u64>,
    /// The last of them, and how long it is.
    last: Option<(File, u64)>,
    /// Nobody else may use the directory while this writes, however long it takes.
    _lock: Option<Arc<File>>,
}

/// Entries that are to be written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Of the first,
    first: u64,
    /// and of the last.
    last: u64,
    bytes: Vec<u8>,
    /// The entries up to this one are not needed.
    trim: u64,
}

impl Batch {
    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: &LogEntry) {
        if self.bytes.is_empty() {
            self.first = entry.number;
            self.bytes.resize(HEADER, 0);
        }
        self.last = entry.number;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let encoded = postcard::to_extend(entry, std::mem::take(&mut self.bytes));
        self.bytes = encoded.expect("every entry can be encoded");
        let length = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Forgets the entries up to this one with the next write.
    pub(crate) fn trim(&mut self, number: u64) {
        self.trim = number;
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn finish(&mut self) {
        let header = header(&self.bytes[HEADER..]);
        self.bytes[..HEADER].copy_from_slice(&header);
    }
}

/// The header of these entries.
fn header(entries: &[u8]) -> [u8; HEADER] {
    let length = (entries.len() as u32).to_be_bytes();
    let mut header = [0; HEADER];
    header[..MARK.len()].copy_from_slice(&MARK);
    header[MARK.len()] = FORMAT;
    header[MARK.len() + 1..LENGTH].copy_from_slice(&length);
    let sums = [checksum(&[&header[..LENGTH]]), checksum(&[&length, entries])];
    header[LENGTH..LENGTH + 4].copy_from_slice(&sums[0].to_be_bytes());
    header[LENGTH + 4..].copy_from_slice(&sums[1].to_be_bytes());
    header
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

impl Log {
    /// Opens the log in a data directory, and reads it. `began` says whether the node has been a
    /// member: then a log that is not there would have had something to say.
    pub(crate) fn open(dir: &Path, began: bool) -> Result<(Self, Vec<LogEntry>)> {
        let files = files(dir)?;
        if !began {
            // It was in no view: nobody counts on what it has learned.
            for first in &files {
                let path = path(dir, *first);
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        let mut log = Self { dir: dir.to_owned(), files: VecDeque::new(), last: None, _lock: None };
        let mut entries: Vec<LogEntry> = Vec::new();
        let files = if began { files } else { Vec::new() };
        let mut sealed = false;
        for first in files {
            sealed = log.read(first, &mut entries)?;
        }
        if sealed {
            let path = path(dir, entries.last().map_or(1, |last| last.number + 1));
            return Err(damaged(&path, "it is missing: nothing is left of the newest part"));
        }
        if began && entries.is_empty() {
            let mut batch = Batch::default();
            batch.push(&LogEntry { number: 1, line: Line::Unlogged });
            entries.push(LogEntry { number: 1, line: Line::Unlogged });
            log.write(&mut batch)?;
        }
        Ok((log, entries))
    }

    /// Keeps the lock of the directory.
    pub(crate) fn locked(self, lock: Option<Arc<File>>) -> Self {
        Self { _lock: lock, ..self }
    }

    /// Whether there is a log in this directory.
    pub(crate) fn is_in(dir: &Path) -> Result<bool> {
        Ok(!files(dir)?.is_empty())
    }

    /// Writes a batch, which is on disk when this returns, and forgets what is not needed.
    /// The number of the last entry.
    pub(crate) fn write(&mut self, batch: &mut Batch) -> Result<u64> {
        batch.finish();
        if self.last.as_ref().is_none_or(|(_, bytes)| *bytes > FILE_BYTES) {
            self.begin_file(batch.first)?;
        }
        let path = path(&self.dir, *self.files.back().expect("a file was begun"));
        let (file, bytes) = self.last.as_mut().expect("a file was begun");
        file.write_all(&batch.bytes).map_err(failed("write", &path))?;
        file.sync_data().map_err(failed("write", &path))?;
        *bytes += batch.bytes.len() as u64;
        batch.bytes.clear();
        self.remove_until(batch.trim)?;
        Ok(batch.last)
    }

    fn begin_file(&mut self, first: u64) -> Result<()> {
        let new = path(&self.dir, first);
        let file = File::options().create(true).truncate(true).write(true).open(&new);
        let file = file.map_err(failed("create", &new))?;
        sync(&self.dir)?;
        // Whoever finds the old one without the new one knows that something is missing.
        if let (Some((mut old, _)), Some(began)) = (self.last.take(), self.files.back()) {
            let sealed = old.write_all(&header(&[])).and_then(|()| old.sync_data());
            sealed.map_err(failed("write", &path(&self.dir, *began)))?;
        }
        self.last = Some((file, 0));
        self.files.push_back(first);
        Ok(())
    }

    /// A file goes when the next one begins with no later an entry than what is needed.
    fn remove_until(&mut self, number: u64) -> Result<()> {
        while self.files.get(1).is_some_and(|next| *next <= number + 1) {
            let Some(first) = self.files.pop_front() else { return Ok(()) };
            let path = path(&self.dir, first);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            // One after the other: what comes back with a loss of power leaves no gap.
            sync(&self.dir)?;
        }
        Ok(())
    }

    /// Reads the file that begins with this entry. Whether another one follows.
    fn read(&mut self, first: u64, entries: &mut Vec<LogEntry>) -> Result<bool> {
        let path = path(&self.dir, first);
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        if entries.last().is_some_and(|last| last.number + 1 != first) {
            return Err(damaged(&path, "entries before it are missing"));
        }
        let (mut begin, mut end, mut sealed) = (0, 0, false);
        while let Some((batch, next)) = batch(&bytes, end) {
            for entry in decode(batch).ok_or_else(|| damaged(&path, "an impossible entry"))? {
                let next = entries.last().map_or(first, |last| last.number + 1);
                if entry.number != next {
                    return Err(damaged(&path, "a gap"));
                }
                entries.push(entry);
            }
            sealed = batch.is_empty();
            (begin, end) = (end, next);
        }
        check_end(&bytes, end, &path)?;
        let mut file = File::options().write(true).open(&path).map_err(failed("write", &path))?;
        // Nobody was told of what is torn. The rest is told of, so it must be on disk for sure: also
        // the last batch, if the system has kept it in mind though the disk had refused it.
        let synced = file
            .set_len(end as u64)
            .and_then(|()| file.seek(SeekFrom::Start(begin as u64)))
            .and_then(|_| file.write_all(&bytes[begin..end]))
            .and_then(|()| file.sync_all());
        synced.map_err(failed("write", &path))?;
        self.files.push_back(first);
        self.last = Some((file, end as u64));
        Ok(sealed)
    }
}

/// Whether what comes after the last sound batch is what a crash leaves.
fn check_end(bytes: &[u8], at: usize, path: &Path) -> Result<()> {
    let rest = &bytes[at..];
    if length(rest).is_some_and(|(format, _)| format != FORMAT) {
        return Err(StorageError::LogFormat { path: path.to_owned() });
    }
    if is_torn(bytes, at) && !(at + 1..bytes.len()).any(|at| batch(bytes, at).is_some()) {
        return Ok(());
    }
    Err(damaged(path, "a wrong checksum"))
}

/// Whether a batch that began here, if any, was not written to its end. (Of a file that grows, a sector
/// that was not written is not there, or is zero.)
fn is_torn(bytes: &[u8], at: usize) -> bool {
    let rest = &bytes[at..];
    let end = match length(rest) {
        _ if rest.len() < HEADER => return true,
        Some((_, length)) if rest.len() - HEADER < length => return true,
        Some((_, length)) => at + HEADER + length,
        None => bytes.len(),
    };
    let sectors = (at / SECTOR..end.div_ceil(SECTOR)).map(|n| n * SECTOR);
    let mut sectors = sectors.map(|start| &bytes[start.max(at)..(start + SECTOR).min(end)]);
    sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
}

fn damaged(path: &Path, reason: &'static str) -> StorageError {
    StorageError::DamagedLog { path: path.to_owned(), reason }
}

/// The format, and the length of the entries, if this begins with a header. (All formats have that
/// in common.)
fn length(bytes: &[u8]) -> Option<(u8, usize)> {
    let header = bytes.get(..HEADER)?;
    let sound = header.starts_with(&MARK)
        && checksum(&[&header[..LENGTH]]).to_be_bytes() == header[LENGTH..LENGTH + 4];
    let length = header[MARK.len() + 1..LENGTH].try_into().expect("it has four bytes");
    sound.then_some((header[MARK.len()], u32::from_be_bytes(length) as usize))
}

/// The entries of the batch that begins here, and where it ends; none if it is not sound.
fn batch(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = &bytes[at..];
    let end = HEADER + length(rest)?.1;
    let entries = rest.get(HEADER..end)?;
    let sound = header(entries) == rest[..HEADER];
    sound.then_some((entries, at + end))
}

/// The record goes first: a log that has got further than its record, or elsewhere, has not been
/// written with it.
pub(crate) fn check_record(record: &Record, entries: &[LogEntry], path: &Path) -> Result<()> {
    let view_of = |entry: &LogEntry| match &entry.line {
        Line::Began { view, .. } | Line::Mark { view, .. } => Some(view.clone()),
        _ => None,
    };
    let Some(last) = entries.iter().rev().find_map(view_of) else { return Ok(()) };
    let installed: &View = &record.installed.view;
    if last.number < installed.number || *last == *installed {
        return Ok(());
    }
    let reason = "the log of the order beside it has got further: this is an older copy, or the log \
                  of another group";
    Err(StorageError::Damaged { path: path.to_owned(), reason: reason.into() })
}

fn decode(mut bytes: &[u8]) -> Option<Vec<LogEntry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (entry, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        entries.push(postcard::from_bytes(entry).ok()?);
        bytes = rest;
    }
    Some(entries)
}

fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{}{first:020}{}", NAME.0, NAME.1))
}

/// The first entry of each file, oldest first.
fn files(dir: &Path) -> Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for file in fs::read_dir(dir).map_err(failed("read", dir))? {
        let name = file.map_err(failed("read", dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME.0));
        let number = number.and_then(|name| name.strip_suffix(NAME.1));
        firsts.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use roundelay_core::tokenring::Mode;

    /// A directory that goes with the value.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("roundelay-log-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn open(&self) -> Result<(Log, Vec<u64>)> {
            let (log, entries) = Log::open(&self.0, true)?;
            Ok((log, entries.iter().map(|entry| entry.number).collect()))
        }

        fn only_file(&self) -> PathBuf {
            path(&self.0, files(&self.0).unwrap()[0])
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn entry(number: u64, bytes: usize) -> LogEntry {
        let payload = Bytes::from(vec![number as u8; bytes]);
        LogEntry { number, line: Line::Message { sender: 1, sequence: number, time: 7, payload } }
    }

    fn write(log: &mut Log, numbers: impl IntoIterator<Item = u64>, bytes: usize) {
        let mut batch = Batch::default();
        for number in numbers {
            batch.push(&entry(number, bytes));
        }
        let last = batch.last;
        assert_eq!(log.write(&mut batch).unwrap(), last);
    }

    /// Entries 1 (that there was no log before), 2 and 3, 4, each line a batch.
    fn written(name: &str) -> Dir {
        let dir = Dir::new(name);
        let (mut log, entries) = dir.open().unwrap();
        assert_eq!(entries, [1]);
        write(&mut log, 2..=3, 10);
        write(&mut log, [4], 10);
        dir
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = written("read");
        let (_, entries) = Log::open(&dir.0, true).unwrap();
        assert_eq!(entries[0].line, Line::Unlogged);
        assert_eq!(entries[1..], [entry(2, 10), entry(3, 10), entry(4, 10)]);
        assert!(Log::is_in(&dir.0).unwrap());
        let (mut log, _) = dir.open().unwrap();
        write(&mut log, [5], 0);
        assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn who_was_in_no_view_begins_anew() {
        let dir = written("anew");
        assert_eq!(Log::open(&dir.0, false).unwrap().1, []);
        assert!(!Log::is_in(&dir.0).unwrap());
    }

    #[test]
    fn a_torn_batch_at_the_end_is_dropped_wherever_it_is_torn() {
        let dir = written("torn");
        let whole = fs::read(dir.only_file()).unwrap();
        let last = (0..whole.len()).rfind(|at| batch(&whole, *at).is_some()).unwrap();
        for end in last..whole.len() {
            fs::write(dir.only_file(), &whole[..end]).unwrap();
            assert_eq!(dir.open().unwrap().1, [1, 2, 3], "torn at {end}");
            // What comes next follows what is sound.
            let (mut log, _) = dir.open().unwrap();
            write(&mut log, [4], 1);
            assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4]);
        }
    }

    #[test]
    fn damage_before_a_sound_batch_is_refused() {
        let dir = written("damage");
        let whole = fs::read(dir.only_file()).unwrap();
        let last = (0..whole.len()).rfind(|at| batch(&whole, *at).is_some()).unwrap();
        for at in 0..last {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(dir.only_file(), &bytes).unwrap();
            let error = dir.open().unwrap_err().to_string();
            assert!(error.contains("is damaged, a wrong checksum"), "byte {at}: {error}");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_last_batch_is_told_from_a_torn_one() {
        let dir = written("flipped");
        let whole = fs::read(dir.only_file()).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.only_file(), &bytes).unwrap();
            let error = dir.open().unwrap_err();
            assert!(matches!(error, StorageError::DamagedLog { .. }), "bit {bit}: {error}");
            assert_eq!(fs::read(dir.only_file()).unwrap(), bytes, "it is left as it is");
        }
    }

    #[test]
    fn a_batch_of_which_a_sector_was_not_written_is_torn() {
        let dir = written("sectors");
        let sound = fs::read(dir.only_file()).unwrap().len();
        let (mut log, _) = dir.open().unwrap();
        write(&mut log, [5], 2000);
        let whole = fs::read(dir.only_file()).unwrap();
        for start in (0..whole.len()).step_by(SECTOR) {
            let mut bytes = whole.clone();
            let end = (start + SECTOR).min(whole.len());
            bytes[start.max(sound)..end].fill(0);
            fs::write(dir.only_file(), &bytes).unwrap();
            assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4], "sector at {start}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_noticed_unless_it_is_the_oldest() {
        for missing in 0..3 {
            let dir = Dir::new("missing");
            let (mut log, _) = dir.open().unwrap();
            for number in 2..=24 {
                write(&mut log, [number], 1 << 20);
            }
            let firsts = files(&dir.0).unwrap();
            assert_eq!(firsts.len(), 3);
            fs::remove_file(path(&dir.0, firsts[missing])).unwrap();
            match missing {
                0 => assert_eq!(dir.open().unwrap().1[0], firsts[1]),
                1 => assert!(dir.open().unwrap_err().to_string().contains("entries before it")),
                _ => assert!(dir.open().unwrap_err().to_string().contains("it is missing")),
            }
        }
    }

    #[test]
    fn a_crash_between_two_files_loses_nothing() {
        let dir = written("between");
        let old = fs::read(dir.only_file()).unwrap();
        // The new one is there, and the seal of the old one was torn.
        fs::write(path(&dir.0, 5), []).unwrap();
        fs::write(dir.only_file(), [&old[..], &header(&[])[..9]].concat()).unwrap();
        let (mut log, _) = dir.open().unwrap();
        write(&mut log, [5], 10);
        assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn another_format_is_not_taken_for_damage() {
        let dir = written("format");
        let mut bytes = fs::read(dir.only_file()).unwrap();
        bytes[MARK.len()] = b'2';
        let sum = checksum(&[&bytes[..LENGTH]]).to_be_bytes();
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&sum);
        fs::write(dir.only_file(), &bytes).unwrap();
        let error = dir.open().unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }

    #[test]
    fn a_log_that_has_got_further_than_the_record_is_refused() {
        use crate::wire::tests::change::record;
        use proptest::{
            strategy::{Strategy as _, ValueTree as _},
            test_runner::TestRunner,
        };
        let tree = record().new_tree(&mut TestRunner::deterministic()).unwrap();
        let mut record = tree.current();
        record.installed.view.number = 7;
        let began = |number, mode| {
            let view = View { number, mode, ..record.installed.view.clone() };
            let cut = Box::new(record.installed.order.clone());
            vec![LogEntry { number: 1, line: Line::Began { view: view.into(), cut, position: 0 } }]
        };
        let mode = record.installed.view.mode;
        let check =
            |entries: Vec<LogEntry>| check_record(&record, &entries, Path::new("view.redb"));
        assert!(check(Vec::new()).is_ok());
        assert!(check(began(6, mode)).is_ok());
        assert!(check(began(7, mode)).is_ok());
        let other = match mode {
            Mode::Rest => Mode::Circulate,
            Mode::Circulate => Mode::Rest,
        };
        for log in [began(8, mode), began(7, other)] {
            let error = check(log).unwrap_err().to_string();
            assert!(error.contains("older copy"), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_what_was_written_before_stays() {
        let dir = written("full");
        let (mut log, _) = dir.open().unwrap();
        log.last = Some((File::options().write(true).open("/dev/full").unwrap(), 0));
        let mut batch = Batch::default();
        batch.push(&entry(5, 10));
        let error = log.write(&mut batch).unwrap_err().to_string();
        assert!(error.contains("cannot write ") && error.contains("make room"), "{error}");
        assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4]);
    }

    #[test]
    fn files_that_nobody_needs_go() {
        let dir = Dir::new("trim");
        let (mut log, _) = dir.open().unwrap();
        for number in 2..=40 {
            write(&mut log, [number], 1 << 20);
        }
        let before = files(&dir.0).unwrap();
        assert!(before.len() > 3, "{before:?}");
        let mut batch = Batch::default();
        batch.push(&entry(41, 1));
        batch.trim(before[2]);
        log.write(&mut batch).unwrap();
        assert_eq!(files(&dir.0).unwrap(), before[2..]);
        let (first, last) = (before[2], 41);
        assert_eq!(dir.open().unwrap().1, (first..=last).collect::<Vec<_>>());
    }
}
