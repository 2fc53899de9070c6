//! The durable log of the order (T9): files beside the record, to which entries are only added.
//!
//! What is appended between two syncs is a *batch*: a header with its length, a checksum over all of
//! it, and the entries. A batch is written when the one before is on disk. So after a crash only the
//! last batch can be incomplete, and is dropped: nobody was told that it is there. Whatever is wrong
//! before a sound batch is damage, and the log is not used.
//!
//! A file that is large enough is followed by a new one, named after its first entry, and goes as a
//! whole when none of its entries is needed any more.

use super::{Result, StorageError, failed, sync};
use roundelay_core::multicast::{Line, LogEntry};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

/// What every batch begins with: the format, and a mark to find it by.
const MARK: [u8; 8] = *b"rndlog\x001";
/// Mark, length of the entries, checksum of length and entries.
const HEADER: usize = MARK.len() + 4 + 4;
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

    fn seal(&mut self) {
        let length = ((self.bytes.len() - HEADER) as u32).to_be_bytes();
        self.bytes[..8].copy_from_slice(&MARK);
        self.bytes[8..12].copy_from_slice(&length);
        let checksum = checksum(&length, &self.bytes[HEADER..]);
        self.bytes[12..HEADER].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn checksum(length: &[u8], entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(entries);
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
        let mut log = Self { dir: dir.to_owned(), files: VecDeque::new(), last: None };
        let mut entries: Vec<LogEntry> = Vec::new();
        let files = if began { files } else { Vec::new() };
        let count = files.len();
        for (at, first) in files.into_iter().enumerate() {
            log.read(first, at + 1 == count, &mut entries)?;
        }
        if began && entries.is_empty() {
            let mut batch = Batch::default();
            batch.push(&LogEntry { number: 1, line: Line::Unlogged });
            entries.push(LogEntry { number: 1, line: Line::Unlogged });
            log.write(&mut batch)?;
        }
        Ok((log, entries))
    }

    /// Whether there is a log in this directory.
    pub(crate) fn is_in(dir: &Path) -> Result<bool> {
        Ok(!files(dir)?.is_empty())
    }

    /// Writes a batch, which is on disk when this returns, and forgets what is not needed.
    /// The number of the last entry.
    pub(crate) fn write(&mut self, batch: &mut Batch) -> Result<u64> {
        batch.seal();
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
        let path = path(&self.dir, first);
        let file = File::options().create(true).truncate(true).write(true).open(&path);
        self.last = Some((file.map_err(failed("create", &path))?, 0));
        self.files.push_back(first);
        sync(&self.dir)
    }

    /// A file goes when the next one begins with no later an entry than what is needed.
    fn remove_until(&mut self, number: u64) -> Result<()> {
        while self.files.get(1).is_some_and(|next| *next <= number + 1) {
            let Some(first) = self.files.pop_front() else { return Ok(()) };
            let path = path(&self.dir, first);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    fn read(&mut self, first: u64, is_last: bool, entries: &mut Vec<LogEntry>) -> Result<()> {
        let path = path(&self.dir, first);
        let damaged = |reason: &str| StorageError::Damaged {
            path: path.clone(),
            reason: format!("{reason} in the log of the order"),
        };
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let mut at = 0;
        while let Some((batch, end)) = batch(&bytes, at) {
            for entry in decode(batch).ok_or_else(|| damaged("an impossible entry"))? {
                let next = entries.last().map_or(first, |last| last.number + 1);
                if entry.number != next {
                    return Err(damaged("a gap"));
                }
                entries.push(entry);
            }
            at = end;
        }
        let is_torn = at < bytes.len();
        if is_torn && (!is_last || (at + 1..bytes.len()).any(|at| batch(&bytes, at).is_some())) {
            return Err(damaged("a wrong checksum"));
        }
        let file = File::options().append(true).open(&path).map_err(failed("write", &path))?;
        // Nobody was told of what is torn. The rest is told of, so it must be on disk for sure.
        file.set_len(at as u64).and_then(|()| file.sync_all()).map_err(failed("write", &path))?;
        self.files.push_back(first);
        self.last = Some((file, at as u64));
        Ok(())
    }
}

/// The entries of the batch that begins here, and where it ends; none if it is not sound.
fn batch(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes[at..].strip_prefix(&MARK)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (checksum_there, rest) = rest.split_first_chunk::<4>()?;
    let entries = rest.get(..u32::from_be_bytes(*length) as usize)?;
    let sound = checksum(length, entries) == u32::from_be_bytes(*checksum_there);
    sound.then_some((entries, at + HEADER + entries.len()))
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
    use roundelay_core::multicast::Line;

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
