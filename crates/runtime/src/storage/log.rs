//! The durable log of the order (T9): files beside the record, to which entries are only added.
//!
//! What is appended between two syncs is a *batch*: a header with its length, checksums of the header
//! and of the entries, and the entries. A batch is written when the one before is on disk. So after a
//! crash only the last batch can be torn, and is dropped: nobody was told that it is there. What a
//! crash leaves of it ends early, or has a sector that was never written, all of it zero. No sector of a
//! batch is all zero: the entries are interspersed with *guards*. Whatever else is wrong is damage, and
//! the log is not used.
//!
//! The first file is there, empty, before the node is in its first view. So an empty one says that
//! nothing was acknowledged; where none is, there was no log, or people have moved it away.
//!
//! A file that is large enough ends with a batch of no entries, a *seal*, and is followed by a new one,
//! named after its first entry. It goes as a whole when none of its entries is needed any more.

use super::{Result, StorageError, failed, sync};
use roundelay_core::{
    multicast::{Line, LogEntry},
    view::Record,
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
/// Of the entries in a batch so many bytes, and the last of them, are followed
const STRIDE: usize = SECTOR / 2 - 1;
/// by one that is not zero.
const GUARD: u8 = b'|';
/// A file that has grown beyond this is followed by a new one.
const FILE_BYTES: u64 = 8 << 20;
/// What the names of the files begin and end with.
const NAME: (&str, &str) = ("order-", ".log");
/// What the name of a file ends with until it is whole.
const UNFINISHED: &str = "log.new";

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
    /// The entries, each after its length.
    bytes: Vec<u8>,
    /// What is written: a header, and the entries with guards.
    guarded: Vec<u8>,
    /// The entries up to this one are not needed.
    trim: u64,
}

impl Batch {
    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: &LogEntry) {
        if self.bytes.is_empty() {
            self.first = entry.number;
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

    /// What is to be written.
    fn finish(&mut self) -> &[u8] {
        self.guarded.clear();
        self.guarded.resize(HEADER, 0);
        for piece in self.bytes.chunks(STRIDE) {
            self.guarded.extend_from_slice(piece);
            self.guarded.push(GUARD);
        }
        let header = header(&self.guarded[HEADER..]);
        self.guarded[..HEADER].copy_from_slice(&header);
        &self.guarded
    }
}

/// The entries without the guards.
fn unguarded(entries: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(entries.len());
    for piece in entries.chunks(STRIDE + 1) {
        let (guard, piece) = piece.split_last()?;
        bytes.extend_from_slice(piece);
        if *guard != GUARD {
            return None;
        }
    }
    Some(bytes)
}

/// The header of these entries, with guards.
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
        let mut log = Self { dir: dir.to_owned(), files: VecDeque::new(), last: None, _lock: None };
        if !began {
            log.begin(&files)?;
            return Ok((log, Vec::new()));
        }
        let mut entries: Vec<LogEntry> = Vec::new();
        if files.is_empty() {
            entries.push(log.begin_late()?);
        }
        let mut sealed = false;
        for first in files {
            sealed = log.read(first, &mut entries)?;
        }
        if sealed {
            let path = path(dir, entries.last().map_or(1, |last| last.number + 1));
            return Err(damaged(&path, "it is missing: nothing is left of the newest part"));
        }
        Ok((log, entries))
    }

    /// Begins anew: the node was in no view, so nobody counts on what it has learned.
    fn begin(&mut self, files: &[u64]) -> Result<()> {
        for first in files {
            let path = path(&self.dir, *first);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        // They must not come back beside the new one.
        sync(&self.dir)?;
        self.begin_file(1)
    }

    /// Begins with an entry that says that there was no log before. The file has its name only when that
    /// is in it: an empty one says the contrary.
    fn begin_late(&mut self) -> Result<LogEntry> {
        let entry = LogEntry { number: 1, line: Line::Unlogged };
        let mut batch = Batch::default();
        batch.push(&entry);
        let path = path(&self.dir, 1);
        let unfinished = path.with_extension(UNFINISHED);
        let mut file = File::create(&unfinished).map_err(failed("create", &unfinished))?;
        let bytes = batch.finish();
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(failed("write", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(failed("create", &path))?;
        sync(&self.dir)?;
        self.last = Some((file, bytes.len() as u64));
        self.files.push_back(1);
        Ok(entry)
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
        if self.last.as_ref().is_none_or(|(_, bytes)| *bytes > FILE_BYTES) {
            self.begin_file(batch.first)?;
        }
        let path = path(&self.dir, *self.files.back().expect("a file was begun"));
        let (file, bytes) = self.last.as_mut().expect("a file was begun");
        let guarded = batch.finish();
        file.write_all(guarded).map_err(failed("write", &path))?;
        file.sync_data().map_err(failed("write", &path))?;
        *bytes += guarded.len() as u64;
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
        let follows = match (entries.last(), self.files.back()) {
            (Some(last), _) => last.number + 1 == first,
            // A file has entries before the next one is begun.
            (None, Some(_)) => false,
            (None, None) => true,
        };
        if !follows {
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
        // It has entries before those that come before it go.
        if entries.is_empty() && first != 1 {
            return Err(damaged(&path, "entries before it are missing"));
        }
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
/// that was not written is not there, or is zero; none that was written is.)
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
    let mut views = entries.iter().rev().filter_map(|entry| entry.line.view());
    let Some(last) = views.next() else { return Ok(()) };
    let installed = &record.installed.view;
    if last.number < installed.number || last == installed {
        return Ok(());
    }
    let reason = "the log of the order beside it has got further: this is an older copy, or the log \
                  of another group";
    Err(StorageError::Damaged { path: path.to_owned(), reason: reason.into() })
}

fn decode(entries: &[u8]) -> Option<Vec<LogEntry>> {
    let bytes = unguarded(entries)?;
    let (mut bytes, mut entries) = (&bytes[..], Vec::new());
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
mod tests;
