//! Reads a recording, entry by entry.

use core::fmt;
use roundelay_core::recording::{self, Entry, Header};
use std::io::{self, Read};

/// So many bytes are read at once.
const PIECE: usize = 64 << 10;

/// A recording that is being read. It takes no more memory than its longest entry.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    header: Header,
    buffer: Buffer,
    torn: bool,
}

/// Why a recording cannot be read on.
#[derive(Debug)]
pub enum ReadError {
    /// The system does not let us.
    Io(io::Error),
    /// It is none, or it is damaged.
    Recording(recording::Error),
    /// It ends before its first input.
    TooShort,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    pub fn new(mut source: R) -> Result<Self, ReadError> {
        let mut buffer = Buffer::default();
        loop {
            if let Some((header, length)) = recording::header(buffer.bytes())? {
                buffer.take(length);
                return Ok(Self { source, header, buffer, torn: false });
            }
            if buffer.ended {
                return Err(ReadError::TooShort);
            }
            buffer.fill(&mut source)?;
        }
    }

    /// What the recorded node was made of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next entry; none at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Buffer { ended, .. } = self.buffer;
            if let Some((entry, length)) = recording::entry(self.buffer.bytes(), ended)? {
                self.buffer.take(length);
                self.torn |= entry.handled.is_none();
                return Ok(Some(entry));
            }
            if ended {
                self.torn |= !self.buffer.bytes().is_empty();
                return Ok(None);
            }
            self.buffer.fill(&mut self.source)?;
        }
    }

    /// Whether the end that was found is in the middle of an entry: the recorder was killed. (It
    /// may have been killed between two entries as well, and nobody can tell.)
    pub fn is_torn(&self) -> bool {
        self.torn
    }
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// What is before has been taken.
    start: usize,
    /// Whether there is no more to read.
    ended: bool,
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn take(&mut self, length: usize) {
        self.start += length;
    }

    fn fill(&mut self, source: &mut impl Read) -> Result<(), ReadError> {
        self.bytes.drain(..self.start);
        self.start = 0;
        // As much again as is there already: what is long is not looked at for each piece of it.
        let more = self.bytes.len().max(PIECE) as u64;
        let read = source.take(more).read_to_end(&mut self.bytes).map_err(ReadError::Io)?;
        self.ended = read == 0;
        Ok(())
    }
}

impl From<recording::Error> for ReadError {
    fn from(error: recording::Error) -> Self {
        Self::Recording(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Recording(error) => error.fmt(f),
            Self::TooShort => f.write_str("it ends before the recording has begun"),
        }
    }
}

impl std::error::Error for ReadError {}
