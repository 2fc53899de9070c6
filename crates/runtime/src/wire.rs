//! Between the messages of the core and bytes: the only place that validates what peers say.
//!
//! Whatever passes here is well formed: names are names, lists are within their limits, positions
//! are positions, a view is a view. What it *means* is for the core to judge, which ignores what
//! nothing sensible could have sent.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(crate) use decode::{Packing, decode, decode_hello, decode_welcome};
pub(crate) use encode::{encode, encode_hello, encode_welcome};

use bytes::Bytes;
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, decode_varint, skip_field,
};
use roundelay_core::{Life, Name};

/// The code that is generated from `proto/roundelay.proto`.
#[allow(
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "generated code documents itself in the .proto file, and a frame is read by hand"
)]
pub(crate) mod v1 {
    include!("generated/roundelay.v1.rs");
}

/// The version of the link protocol. Peers with another one are refused.
pub(crate) const VERSION: u32 = 1;

/// The largest frame, in bytes: what a receiver is ready to hold for one link.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;

/// The largest message, in bytes: the largest rumor or piece and its addresses, and room for
/// digests. A frame always has room for one more behind what it is filled with.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// The number of `messages` in a `Frame`.
const MESSAGES_TAG: u32 = 1;

/// The encoded messages of a frame, which is looked through first: all of it is sound, or nothing
/// of it is taken.
pub(crate) fn messages(frame: Bytes) -> Result<Messages, WireError> {
    let mut rest = &frame[..];
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest)?;
        if tag == MESSAGES_TAG {
            check_wire_type(WireType::LengthDelimited, wire_type)?;
        }
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
    }
    Ok(Messages { rest: frame })
}

/// The messages of a sound frame, one after the other: no list of them is made.
#[derive(Debug)]
pub(crate) struct Messages {
    rest: Bytes,
}

impl Iterator for Messages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const SOUND: &str = "the frame has been looked through";
        while !self.rest.is_empty() {
            let (tag, wire_type) = decode_key(&mut self.rest).expect(SOUND);
            if tag == MESSAGES_TAG {
                let length = decode_varint(&mut self.rest).expect(SOUND);
                return Some(self.rest.split_to(length as usize));
            }
            skip_field(wire_type, tag, &mut self.rest, DecodeContext::default()).expect(SOUND);
        }
        None
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
