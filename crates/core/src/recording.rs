//! Recordings: all inputs of one life of a node, so that it can be lived again.
//!
//! A recording is a line of text that says what it is, a [`Header`], and one entry for each input,
//! in this order, all numbers little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 22 | `roundelay recording 2` and a line feed |
//! | 4 | length of the header |
//! | … | the header, encoded by `postcard` |
//! | 8 | hash of the header's bytes |
//! | 4 | an entry: length of its time and input |
//! | … | its time and input, encoded by `postcard` |
//! | 8 | the trace hash with this time and input |
//! | 8 | the trace hash with the effects that they had |
//!
//! The trace hash covers everything before. So an entry that was changed, or one that is missing,
//! shows before the node is asked; and what remains is the node's own doing.
//!
//! The last number is written only when the node has handled the input: the recording of a node
//! that an input has killed ends with that input.
//!
//! Here are pure functions only. Who reads and writes files is elsewhere.

use crate::{
    node::{self, Node},
    protocol::{EffectOf, InputOf},
    time::Time,
    trace::TraceHasher,
};
use alloc::{string::String, vec::Vec};
use core::{
    fmt,
    hash::{Hash, Hasher},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The first line of every recording; the number is the version of the format.
const FIRST_LINE: &[u8] = b"roundelay recording 2\n";
/// What the first lines of all versions have in common.
const FAMILY: &[u8] = b"roundelay recording ";
/// The longest first line that is looked at for the version.
const FIRST_LINE_MAX: usize = 40;

/// The longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 4 << 20;
/// The longest time and input, in bytes.
pub const INPUT_BYTES_MAX: usize = 256 << 20;

/// The length of a length.
const LENGTH: usize = size_of::<u32>();
/// The length of a hash.
const HASH: usize = size_of::<u64>();

/// What a node is made of, before its first input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the program that recorded.
    pub version: String,
    /// The settings of the node.
    pub config: node::Config,
    /// The seed of its randomness.
    pub seed: [u8; 32],
    /// When the node's clock was at zero, in nanoseconds since 1970 UTC: for people, and to put
    /// the recordings of several nodes side by side. Nothing depends on it.
    pub started: u64,
}

/// One input, and what the trace hash was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, on the node's clock.
    pub time: Time,
    /// What.
    pub input: InputOf<Node>,
    /// The trace hash with this time and input.
    pub arrived: u64,
    /// The trace hash with the effects; none if the recording ends before.
    pub handled: Option<u64>,
}

/// Why something is no recording, or none that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not begin like one.
    NotARecording,
    /// It is of another version of the format.
    Version(String),
    /// A length is beyond all reason.
    TooLong {
        /// The length.
        bytes: usize,
        /// The longest possible.
        max: usize,
    },
    /// The header has been changed.
    Header,
    /// The bytes are none that a recorder writes.
    Malformed(postcard::Error),
}

/// Writes the trace hash along with the inputs.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    trace: TraceHasher,
}

impl Recorder {
    /// The beginning of a recording, and who goes on with it.
    pub fn new(header: &Header, out: &mut Vec<u8>) -> Result<Self, Error> {
        out.extend_from_slice(FIRST_LINE);
        let body = framed(header, HEADER_BYTES_MAX, out)?;
        let hash = hash_of(&out[body..]);
        out.extend_from_slice(&hash.to_le_bytes());
        Ok(Self::default())
    }

    /// An input, before the node has handled it. After an error nothing was written, and the
    /// recording is over: what would follow is worth nothing without it.
    pub fn input(
        &mut self,
        time: Time,
        input: &InputOf<Node>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        framed(&(time, input), INPUT_BYTES_MAX, out)?;
        out.extend_from_slice(&arrive(&mut self.trace, time, input).to_le_bytes());
        Ok(())
    }

    /// What the node did about it.
    pub fn effects(&mut self, effects: &[EffectOf<Node>], out: &mut Vec<u8>) {
        out.extend_from_slice(&handle(&mut self.trace, effects).to_le_bytes());
    }

    /// The trace hash so far.
    pub fn hash(&self) -> u64 {
        self.trace.finish()
    }
}

/// Takes note of an input in a trace.
pub fn arrive(trace: &mut TraceHasher, time: Time, input: &InputOf<Node>) -> u64 {
    (time, input).hash(trace);
    trace.finish()
}

/// Takes note of what it led to.
pub fn handle(trace: &mut TraceHasher, effects: &[EffectOf<Node>]) -> u64 {
    effects.hash(trace);
    trace.finish()
}

/// Reads the beginning of a recording: the header, and how many bytes it took. None if there are
/// too few bytes.
pub fn header(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    if !first_line(bytes)? {
        return Ok(None);
    }
    let bytes = &bytes[FIRST_LINE.len()..];
    let Some(body) = body(bytes, HEADER_BYTES_MAX)? else { return Ok(None) };
    let end = LENGTH + body.len();
    let Some(hash) = hash(&bytes[end..]) else { return Ok(None) };
    if hash != hash_of(body) {
        return Err(Error::Header);
    }
    Ok(Some((decoded(body)?, FIRST_LINE.len() + end + HASH)))
}

/// Reads an entry, and how many bytes it took. None if there are too few bytes; `last` says that
/// no more will come, and then an entry may be without its end.
pub fn entry(bytes: &[u8], last: bool) -> Result<Option<(Entry, usize)>, Error> {
    let Some(body) = body(bytes, INPUT_BYTES_MAX)? else { return Ok(None) };
    let mut end = LENGTH + body.len();
    let Some(arrived) = hash(&bytes[end..]) else { return Ok(None) };
    end += HASH;
    let handled = hash(&bytes[end..]);
    end = match handled {
        Some(_) => end + HASH,
        None if last => bytes.len(),
        None => return Ok(None),
    };
    let (time, input) = decoded(body)?;
    Ok(Some((Entry { time, input, arrived, handled }, end)))
}

/// Whether the first line is there, and the right one.
fn first_line(bytes: &[u8]) -> Result<bool, Error> {
    if bytes.starts_with(FIRST_LINE) {
        return Ok(true);
    }
    if FIRST_LINE.starts_with(bytes) {
        return Ok(false);
    }
    let Some(version) = bytes.strip_prefix(FAMILY) else { return Err(Error::NotARecording) };
    let version = &version[..version.len().min(FIRST_LINE_MAX)];
    let line = version.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Err(Error::Version(String::from_utf8_lossy(line).escape_debug().collect()))
}

/// The bytes that a length at the beginning of `bytes` is about, if they are there.
fn body(bytes: &[u8], max: usize) -> Result<Option<&[u8]>, Error> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
    let bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if bytes > max {
        return Err(Error::TooLong { bytes, max });
    }
    Ok(rest.get(..bytes))
}

fn hash(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = TraceHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

fn decoded<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(Error::Malformed(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(Error::Malformed(error)),
    }
}

/// Adds `value` behind its length. Where it begins.
fn framed<T: Serialize>(value: &T, max: usize, out: &mut Vec<u8>) -> Result<usize, Error> {
    let at = out.len();
    let start = at + LENGTH;
    out.resize(start, 0);
    let written = postcard::serialize_with_flavor(value, Tail(out));
    let checked = written.map_err(Error::Malformed).and_then(|()| match out.len() - start {
        bytes if bytes > max => Err(Error::TooLong { bytes, max }),
        bytes => Ok(bytes as u32),
    });
    match checked {
        Ok(length) => {
            out[at..start].copy_from_slice(&length.to_le_bytes());
            Ok(start)
        }
        Err(error) => {
            out.truncate(at);
            Err(error)
        }
    }
}

/// Encodes behind what is there already.
struct Tail<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Tail<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecording => f.write_str("this is not a recording"),
            Self::Version(version) => {
                write!(f, "this is a recording of format {version}, and only 1 can be read")
            }
            Self::TooLong { bytes, max } => {
                write!(f, "a part of {bytes} bytes, and {max} are possible at most")
            }
            Self::Header => f.write_str("the header has been changed"),
            Self::Malformed(error) => write!(f, "a part that nobody has written so: {error}"),
        }
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests;
