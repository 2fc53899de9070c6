//! Messages that are too large to travel whole: what ends a view when there are very many locks,
//! and a lesson with a message in it that is as large as any.

use super::{WireError, v1};
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// The largest piece, in bytes: what is urgent may wait behind one.
pub(crate) const PART_BYTES: usize = 60 << 10;
/// The most pieces of one message: 64 MiB.
const PARTS_MAX: u32 = ((64 << 20) / PART_BYTES as u32) + 1;

/// Cuts an encoded message into pieces, each a message of a frame, and adds these to `frame`.
/// Where each is; none at all if it is too large even for that.
pub(crate) fn cut(message: &Bytes, frame: &mut BytesMut) -> Vec<Range<usize>> {
    let count = message.len().div_ceil(PART_BYTES);
    let Some(count) = u32::try_from(count).ok().filter(|count| *count <= PARTS_MAX) else {
        return Vec::new();
    };
    let pieces = (0..count).map(|index| {
        let from = index as usize * PART_BYTES;
        let bytes = message.slice(from..message.len().min(from + PART_BYTES));
        let part = v1::message::Kind::Part(v1::Part { index, count, bytes });
        let start = frame.len();
        prost::encoding::message::encode(1, &v1::Message { kind: Some(part) }, frame);
        start..frame.len()
    });
    pieces.collect()
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    index: u32,
    count: u32,
    bytes: Bytes,
}

impl TryFrom<v1::Part> for Part {
    type Error = WireError;

    fn try_from(part: v1::Part) -> Result<Self, WireError> {
        let v1::Part { index, count, bytes } = part;
        let sound = index < count && count <= PARTS_MAX && bytes.len() <= PART_BYTES;
        if sound { Ok(Self { index, count, bytes }) } else { Err(WireError::Field("part")) }
    }
}

/// Puts the pieces that come over one link together again.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    bytes: BytesMut,
    count: u32,
    /// The piece that comes next.
    next: u32,
}

impl Parts {
    /// The message, if this was the last piece of it. One of which a piece is missing is dropped:
    /// whoever needs it asks again.
    pub(crate) fn add(&mut self, part: Part) -> Option<Bytes> {
        if part.index == 0 {
            *self = Self { count: part.count, ..Self::default() };
        }
        if part.index != self.next || part.count != self.count {
            *self = Self::default();
            return None;
        }
        self.bytes.extend_from_slice(&part.bytes);
        self.next += 1;
        (self.next == self.count).then(|| std::mem::take(self).bytes.freeze())
    }
}
