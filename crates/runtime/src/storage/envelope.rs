//! The bytes of a record: a checksum, and behind it the record with its format and its owner.
//!
//! redb has checksums of its own, which it verifies when it opens the file. This one also covers
//! the way from the file to the record, and stays with the bytes wherever they are kept.

use crate::wire::{self, WireError, v1};
use prost::Message as _;
use roundelay_core::{Name, view::Record};

/// The format of what is behind the checksum. What is only added to it needs no other number:
/// unknown fields are skipped. What must not be skipped does.
const FORMAT: u32 = 1;

/// A record and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Envelope {
    pub(super) node: Name,
    program: String,
    record: Option<v1::Record>,
}

/// Why bytes are not the envelope that was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// There are none.
    #[error("its record is missing")]
    Missing,
    /// They are not those that were written.
    #[error("the checksum of its record is wrong")]
    Checksum,
    /// They are, but no version should have written them.
    #[error("its record is impossible: {0}")]
    Impossible(#[from] WireError),
    /// A version has written them that says more than this one understands.
    #[error("written by version {program}")]
    Newer {
        /// Which one.
        program: String,
    },
}

impl From<prost::DecodeError> for Unreadable {
    fn from(error: prost::DecodeError) -> Self {
        Self::Impossible(error.into())
    }
}

impl Envelope {
    pub(super) fn new(node: &Name, record: Option<&Record>) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self { node: node.clone(), program, record: record.map(wire::from_record) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let kept = v1::Kept {
            format: FORMAT,
            program: self.program.clone(),
            node: self.node.to_string(),
            record: self.record.as_ref().map(|record| record.encode_to_vec().into()),
        };
        seal(&kept)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (checksum, kept) = bytes.split_first_chunk::<4>().ok_or(Unreadable::Checksum)?;
        if u32::from_be_bytes(*checksum) != crc32fast::hash(kept) {
            return Err(Unreadable::Checksum);
        }
        let v1::Kept { format, program, node, record } = v1::Kept::decode(kept)?;
        if format != FORMAT {
            return Err(Unreadable::Newer { program });
        }
        let node = Name::new(&node).map_err(|_| WireError::Field("name"))?;
        let record = record.map(v1::Record::decode).transpose()?;
        Ok(Self { node, program, record })
    }

    /// The record, if there is one.
    pub(super) fn record(self) -> Result<Option<Record>, Unreadable> {
        let Some(record) = self.record else { return Ok(None) };
        match wire::to_record(record)? {
            Some(record) => Ok(Some(record)),
            None => Err(Unreadable::Newer { program: self.program }),
        }
    }
}

/// Puts the checksum in front.
pub(super) fn seal(kept: &v1::Kept) -> Vec<u8> {
    let kept = kept.encode_to_vec();
    [&crc32fast::hash(&kept).to_be_bytes()[..], &kept].concat()
}
