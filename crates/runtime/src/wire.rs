//! Between the messages of the core and bytes: the only place that validates what peers say.
//!
//! Whatever passes here is well formed: names are names, lists are within their limits, positions
//! are positions, a view is a view. What it *means* is for the core to judge, which ignores what
//! nothing sensible could have sent.

mod decode;
mod encode;
mod parts;
mod quick;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use decode::{
    Decoded, Packing, decode, decode_hello, decode_welcome, decode_whole, to_record,
};
pub(crate) use encode::{encode, encode_hello, encode_welcome, from_record};
pub(crate) use parts::{Part, Parts, cut};

use bytes::Bytes;
use prost::Message as _;
use roundelay_core::{Life, Name};
use std::time::Duration;

/// The code that is generated from `proto/roundelay.proto`.
#[allow(
    clippy::pedantic,
    clippy::large_enum_variant,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    reason = "generated code documents itself in the .proto file"
)]
pub(crate) mod v1 {
    include!("generated/roundelay.v1.rs");
}

/// The version of the link protocol. Peers with another one are refused.
pub(crate) const VERSION: u32 = 1;

/// The largest frame, in bytes: what a receiver is ready to hold for one link.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;

/// The largest message that travels whole, in bytes: the largest rumor or piece and its addresses,
/// and room for digests. A larger one travels in parts. A frame always has room for one more behind what it is filled with.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// The longest lease of a group.
pub(crate) const LEASE_MAX: Duration = Duration::from_hours(30 * 24);

/// The encoded messages of a frame.
pub(crate) fn messages(frame: Bytes) -> Messages {
    Messages { frame, rest: Vec::new().into_iter() }
}

/// The encoded messages of a frame, one after the other.
#[derive(Debug)]
pub(crate) struct Messages {
    frame: Bytes,
    /// What was decoded at once, because the frame says something unusual.
    rest: std::vec::IntoIter<Bytes>,
}

impl Iterator for Messages {
    type Item = Result<Bytes, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(message) = self.rest.next() {
            return Some(Ok(message));
        }
        if self.frame.is_empty() {
            return None;
        }
        if let Some(message) = quick::first(&mut self.frame) {
            return Some(Ok(message));
        }
        match v1::Frame::decode(std::mem::take(&mut self.frame)) {
            Ok(frame) => self.rest = frame.messages.into_iter(),
            Err(error) => return Some(Err(error.into())),
        }
        self.rest.next().map(Ok)
    }
}

/// Why bytes from a peer are not a message. The link that they came by is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// They are not the protobuf that they should be.
    #[error("not a message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A field says something that no message can say.
    #[error("a message with an impossible {0}")]
    Field(&'static str),
    /// They are too many.
    #[error("a message of {0} bytes")]
    TooLarge(usize),
}

/// How a caller introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) name: Name,
    pub(crate) life: Life,
    /// Whom it means to reach.
    pub(crate) callee: Name,
    /// Where it listens, `host:port`.
    pub(crate) listen: String,
}

/// How the called node introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) name: Name,
    pub(crate) life: Life,
}
