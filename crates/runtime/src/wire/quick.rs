//! The few kinds of messages that are nearly all of the traffic, without the generated structures
//! in between: with those it took 1,800 instructions to encode a message of the lock, and 2,000 to
//! decode it, a fifth of all that a hand-over takes.
//!
//! It is the same protobuf. What is unusual here (a message too large for the buffer, an unknown
//! field, one that comes twice) is left to the generated code, and the tests hold one against the
//! other.

use super::decode::Packing;
use bytes::{Buf as _, Bytes, BytesMut};
use roundelay_core::{
    Life, NodeId, gossip, multicast,
    node::Message,
    tokenring::{self, Token},
    view::MEMBERS_MAX,
};

/// The largest message without its payload, in bytes.
const HEADER_BYTES: usize = 768;
/// The most members whose numbers fit into it, twice, beside the name of a lock.
const TOKEN_MEMBERS_MAX: usize = 16;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

/// Adds a message to the bytes of a frame, if it is one of those kinds. Says whether it is.
pub(super) fn encode(message: &Message, frame: &mut BytesMut) -> bool {
    let mut header = Header { bytes: [0; HEADER_BYTES], len: 0 };
    let payload = match message {
        Message::Order(message) => header.order(message),
        Message::Lock(message) => header.pass(message),
        Message::Gossip(gossip::Message::Rumor(rumor)) => header.rumor(rumor),
        _ => None,
    };
    let Some(payload) = payload else { return false };
    frame.extend_from_slice(&header.bytes[..header.len]);
    frame.extend_from_slice(payload);
    true
}

/// Takes the first message off a frame, if that is what it begins with.
pub(super) fn first(frame: &mut Bytes) -> Option<Bytes> {
    let mut fields = Fields { rest: frame };
    let (1, message) = fields.bytes()? else { return None };
    let (len, end) = (message.len(), frame.len() - fields.rest.len());
    let mut message = frame.split_to(end);
    message.advance(end - len);
    Some(message)
}

/// The message in these bytes, if it is one of those kinds and says nothing unusual.
pub(super) fn decode(whole: &Bytes, packing: &mut Packing) -> Option<Message> {
    let mut fields = Fields { rest: whole };
    let (number, body) = fields.bytes()?;
    if !fields.rest.is_empty() {
        return None;
    }
    match number {
        4 => {
            let (view, kind, body) = in_view(body)?;
            let body = match kind {
                2 => data(body, whole, packing)?,
                3 => clock(body)?,
                _ => return None,
            };
            Some(Message::Order(multicast::Message { view, body }))
        }
        3 => {
            let (view, kind, body) = in_view(body)?;
            let body = if kind == 2 { pass(body, packing)? } else { return None };
            Some(Message::Lock(tokenring::Message { view, body }))
        }
        5 => {
            let mut fields = Fields { rest: body };
            let (2, body) = fields.bytes()? else { return None };
            let rumor = fields.rest.is_empty().then(|| rumor(body, whole, packing))??;
            Some(Message::Gossip(gossip::Message::Rumor(rumor)))
        }
        _ => None,
    }
}

fn in_view(bytes: &[u8]) -> Option<(u64, u32, &[u8])> {
    let mut fields = Fields { rest: bytes };
    let view = fields.number(1)?;
    let (kind, body) = fields.bytes()?;
    fields.rest.is_empty().then_some((view, kind, body))
}

fn data(bytes: &[u8], whole: &Bytes, packing: &mut Packing) -> Option<multicast::Body> {
    let mut fields = Fields { rest: bytes };
    let (sequence, time) = (fields.number(1)?, fields.number(2)?);
    let index = u32::try_from(fields.number(3)?).ok()?;
    let count = u32::try_from(fields.number(4)?).ok()?;
    let payload = packing.pack(whole, fields.last(5)?);
    (index < count).then_some(multicast::Body::Data { sequence, time, index, count, payload })
}

fn clock(bytes: &[u8]) -> Option<multicast::Body> {
    let mut fields = Fields { rest: bytes };
    let (time, after) = (fields.number(1)?, fields.number(2)?);
    let received = fields.packed(3)?;
    fields.rest.is_empty().then_some(multicast::Body::Clock { time, after, received })
}

fn pass(bytes: &[u8], packing: &mut Packing) -> Option<tokenring::Body> {
    let mut fields = Fields { rest: bytes };
    let number = fields.number(1)?;
    let (2, lock) = fields.bytes()? else { return None };
    let mut inner = Fields { rest: fields.last(3)? };
    let (sequence, hops) = (inner.number(1)?, inner.number(2)?);
    let (wanted, served) = (inner.packed(3)?, inner.packed(4)?);
    let fresh = inner.flag(5)?;
    if !inner.rest.is_empty() || wanted.len() != served.len() {
        return None;
    }
    let lock = packing.lock_name(std::str::from_utf8(lock).ok()?).ok()?;
    let token = Token { sequence, hops, wanted, served, fresh };
    Some(tokenring::Body::Pass { number, lock, token })
}

fn rumor(bytes: &[u8], whole: &Bytes, packing: &mut Packing) -> Option<gossip::Rumor> {
    let mut fields = Fields { rest: bytes };
    let (1, from) = fields.bytes()? else { return None };
    let (sequence, hops) = (fields.number(2)?, fields.number(3)?);
    // Without it, this is another kind of content.
    let payload = if fields.rest.is_empty() { None } else { fields.last(5) };
    let payload = packing.pack(whole, payload?);
    let mut from = Fields { rest: from };
    let node = from.fixed64(1)?;
    let life = from.last(2)?.try_into().ok()?;
    let origin =
        gossip::Origin { node: NodeId::from_raw(node), life: Life(u128::from_be_bytes(life)) };
    let hops = u32::try_from(hops).ok()?;
    Some(gossip::Rumor { origin, sequence, hops, content: gossip::Content::User(payload) })
}

const fn key(number: u32, kind: u32) -> u8 {
    (number << 3 | kind) as u8
}

const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Of a field that is left out when it is zero.
const fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

fn numbers_len(values: &[u64]) -> usize {
    values.iter().map(|value| number_len(*value)).sum()
}

/// Of a field of so many bytes.
const fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint_len(len as u64) + len }
}

fn packed_len(values: &[u64]) -> usize {
    bytes_len(values.iter().map(|value| varint_len(*value)).sum())
}

/// All of a message but its payload. Who writes knows that it fits.
struct Header {
    bytes: [u8; HEADER_BYTES],
    len: usize,
}

impl Header {
    /// All of a message but its payload, which comes behind it.
    fn order<'a>(&mut self, message: &'a multicast::Message) -> Option<&'a [u8]> {
        match &message.body {
            multicast::Body::Data { sequence, time, index, count, payload } => {
                let fields = [*sequence, *time, u64::from(*index), u64::from(*count)];
                let data = numbers_len(&fields) + bytes_len(payload.len());
                self.open(4, message.view, (2, data));
                self.numbers(&fields);
                self.key_len(5, payload.len());
                Some(payload)
            }
            multicast::Body::Clock { time, after, received } if received.len() <= MEMBERS_MAX => {
                let fields = [*time, *after];
                self.open(4, message.view, (3, numbers_len(&fields) + packed_len(received)));
                self.numbers(&fields);
                self.packed(3, received);
                Some(&[])
            }
            _ => None,
        }
    }

    fn pass(&mut self, message: &tokenring::Message) -> Option<&'static [u8]> {
        let tokenring::Body::Pass { number, lock, token } = &message.body else { return None };
        let Token { sequence, hops, wanted, served, fresh } = token;
        if wanted.len().max(served.len()) > TOKEN_MEMBERS_MAX {
            return None;
        }
        let fields = [*sequence, *hops];
        let fresh = u64::from(*fresh);
        let inner =
            numbers_len(&fields) + packed_len(wanted) + packed_len(served) + number_len(fresh);
        // The token is there even if nothing in it is.
        let token = 1 + varint_len(inner as u64) + inner;
        let pass = number_len(*number) + bytes_len(lock.as_str().len()) + token;
        self.open(3, message.view, (2, pass));
        self.number(1, *number);
        self.text(2, lock.as_str());
        self.byte(key(3, BYTES));
        self.varint(inner as u64);
        self.numbers(&fields);
        self.packed(3, wanted);
        self.packed(4, served);
        self.number(5, fresh);
        Some(&[])
    }

    fn rumor<'a>(&mut self, rumor: &'a gossip::Rumor) -> Option<&'a [u8]> {
        let gossip::Content::User(payload) = &rumor.content else { return None };
        let (sequence, hops) = (rumor.sequence, u64::from(rumor.hops));
        let origin = 1 + 8 + bytes_len(16);
        // The payload is there even if it is empty: it says which kind of content it is.
        let content = 1 + varint_len(payload.len() as u64) + payload.len();
        let rumor_len = bytes_len(origin) + number_len(sequence) + number_len(hops) + content;
        self.key_len(1, bytes_len(bytes_len(rumor_len)));
        self.key_len(5, bytes_len(rumor_len));
        self.key_len(2, rumor_len);
        self.key_len(1, origin);
        self.byte(key(1, FIXED64));
        self.slice(&rumor.origin.node.raw().to_le_bytes());
        self.key_len(2, 16);
        self.slice(&rumor.origin.life.0.to_be_bytes());
        self.number(2, sequence);
        self.number(3, hops);
        self.byte(key(5, BYTES));
        self.varint(payload.len() as u64);
        Some(payload)
    }

    /// The beginning of a message of a frame: one `part` of a node in a view, with a body.
    fn open(&mut self, part: u32, view: u64, (kind, body): (u32, usize)) {
        // An empty body is there all the same: it says which kind it is.
        let inner = number_len(view) + 1 + varint_len(body as u64) + body;
        self.key_len(1, 1 + varint_len(inner as u64) + inner);
        self.key_len(part, inner);
        self.number(1, view);
        self.byte(key(kind, BYTES));
        self.varint(body as u64);
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn slice(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn number(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.byte(key(number, VARINT));
            self.varint(value);
        }
    }

    /// Fields 1, 2, ...
    fn numbers(&mut self, values: &[u64]) {
        (1..).zip(values).for_each(|(number, value)| self.number(number, *value));
    }

    /// The key and the length of a field of bytes that is left out when it is empty.
    fn key_len(&mut self, number: u32, len: usize) {
        if len > 0 {
            self.byte(key(number, BYTES));
            self.varint(len as u64);
        }
    }

    fn text(&mut self, number: u32, text: &str) {
        self.key_len(number, text.len());
        self.slice(text.as_bytes());
    }

    fn packed(&mut self, number: u32, values: &[u64]) {
        self.key_len(number, values.iter().map(|value| varint_len(*value)).sum());
        for value in values {
            self.varint(*value);
        }
    }
}

/// The fields of a message, in the order of their numbers, each at most once. None stands for
/// anything else.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(9).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
        }
        // Ten bytes are possible, and no number that a node says has so many.
        None
    }

    /// A number; zero if it is left out.
    fn number(&mut self, number: u32) -> Option<u64> {
        if self.rest.first() == Some(&key(number, VARINT)) {
            self.rest = &self.rest[1..];
            return self.varint();
        }
        Some(0)
    }

    /// Whether something is so; not if it is left out.
    fn flag(&mut self, number: u32) -> Option<bool> {
        match self.number(number)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn fixed64(&mut self, number: u32) -> Option<u64> {
        let (first, rest) = self.rest.split_first()?;
        let (value, rest) = rest.split_first_chunk()?;
        self.rest = rest;
        (*first == key(number, FIXED64)).then(|| u64::from_le_bytes(*value))
    }

    /// A field of bytes with its number.
    fn bytes(&mut self) -> Option<(u32, &'a [u8])> {
        let (first, rest) = self.rest.split_first()?;
        if *first & 0x87 != key(0, BYTES) {
            return None;
        }
        self.rest = rest;
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some((u32::from(*first >> 3), bytes))
    }

    /// The last field, of bytes; empty if it is left out.
    fn last(&mut self, number: u32) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return Some(&[]);
        }
        let (found, bytes) = self.bytes()?;
        (found == number && self.rest.is_empty()).then_some(bytes)
    }

    /// Numbers, one for each member; none if it is left out.
    fn packed(&mut self, number: u32) -> Option<Vec<u64>> {
        if self.rest.first() != Some(&key(number, BYTES)) {
            return Some(Vec::new());
        }
        let mut packed = Fields { rest: self.bytes()?.1 };
        let mut values = Vec::with_capacity(packed.rest.len().min(MEMBERS_MAX));
        while !packed.rest.is_empty() {
            values.push(packed.varint()?);
        }
        (values.len() <= MEMBERS_MAX).then_some(values)
    }
}
