//! What this node has sent and must keep, and how much that may be.

use super::{Ticket, UNSTABLE_MESSAGES_MAX, stream::Piece};
use crate::time::Time;
use alloc::{collections::VecDeque, vec::Vec};
use bytes::Bytes;
use core::time::Duration;

/// An own message that somebody may still need.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Own {
    pub(super) time: u64,
    pub(super) payload: Bytes,
    pub(super) sent: Time,
}

/// The own messages that not all members have, or that are not delivered here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    share: usize,
    /// The sequence of the last own message.
    last: u64,
    messages: VecDeque<Own>,
    bytes: usize,
    /// The next message: taken from the application, waiting for its room.
    parked: Option<(Ticket, Bytes)>,
}

impl Window {
    /// An empty window with room for `share` bytes.
    pub(super) fn new(share: usize) -> Self {
        Self { share, last: 0, messages: VecDeque::new(), bytes: 0, parked: None }
    }

    /// The sequence of the last own message.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The bytes in the window.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is in the window and nothing waits for it.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.parked.is_none()
    }

    /// Whether the application may hand over another message.
    pub(super) fn is_open(&self) -> bool {
        self.parked.is_none()
            && self.bytes < self.share
            && self.messages.len() < UNSTABLE_MESSAGES_MAX
    }

    /// Whether a message of this size may be sent now. One that is larger than the share travels
    /// alone (T7).
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.messages.is_empty()
            || (self.bytes + bytes <= self.share && self.messages.len() < UNSTABLE_MESSAGES_MAX)
    }

    /// Keeps a message that must wait for its room.
    pub(super) fn park(&mut self, ticket: Ticket, payload: Bytes) {
        assert!(self.parked.is_none(), "the window was closed");
        self.parked = Some((ticket, payload));
    }

    /// The message that waited, if it has room now.
    pub(super) fn unpark(&mut self) -> Option<(Ticket, Bytes)> {
        let bytes = self.parked.as_ref().map(|(_, payload)| payload.len())?;
        if self.has_room(bytes) { self.parked.take() } else { None }
    }

    /// Gives up the message that waited for its room: it will never be sent.
    pub(super) fn discard_parked(&mut self) -> Option<Ticket> {
        self.parked.take().map(|(ticket, _)| ticket)
    }

    /// Whether a message waits for its room.
    pub(super) fn has_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Lets go of all messages, but for the one that waits for its room.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    /// A view begins in which this member has sent everything up to `last`, and has room for
    /// `share` bytes. Returns what has no place in the order: it
    /// is to be sent again.
    pub(super) fn begin(&mut self, share: usize, last: u64) -> Vec<Bytes> {
        let again = self.messages.drain(..).map(|own| own.payload).collect();
        (self.share, self.last, self.bytes) = (share, last, 0);
        again
    }

    /// Adds a message and returns its sequence.
    pub(super) fn push(&mut self, own: Own) -> u64 {
        self.last += 1;
        self.bytes += own.payload.len();
        self.messages.push_back(own);
        self.last
    }

    /// Lets go of everything up to `sequence`.
    pub(super) fn release(&mut self, sequence: u64) {
        while self.first() <= sequence {
            let Some(own) = self.messages.pop_front() else { return };
            self.bytes -= own.payload.len();
        }
    }

    /// The last message that was first sent at least `span` before `now`.
    pub(super) fn sent_until(&self, now: Time, span: Duration) -> u64 {
        let old = self.messages.partition_point(|own| now.since(own.sent) >= span);
        self.first() - 1 + old as u64
    }

    /// When a message was first sent, if it is still here.
    pub(super) fn sent(&self, sequence: u64) -> Option<Time> {
        self.range(sequence, sequence).next().map(|(_, own)| own.sent)
    }

    /// The messages from `from` to `to` that are still here, with their sequences.
    pub(super) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Own)> {
        let first = self.first();
        let start = from.max(first).min(self.last + 1);
        let end = to.min(self.last).max(start - 1);
        let messages = self.messages.range((start - first) as usize..(end + 1 - first) as usize);
        (start..).zip(messages)
    }

    /// The sequence of the oldest message, or of the next if there is none.
    fn first(&self) -> u64 {
        self.last + 1 - self.messages.len() as u64
    }
}

/// A message in pieces of at most `fragment_bytes`.
pub(super) fn pieces(
    sequence: u64,
    time: u64,
    payload: &Bytes,
    fragment_bytes: usize,
) -> impl Iterator<Item = Piece> {
    let count = payload.len().div_ceil(fragment_bytes).max(1);
    (0..count).map(move |index| {
        let start = index * fragment_bytes;
        let end = payload.len().min(start + fragment_bytes);
        Piece {
            sequence,
            time,
            index: index as u32,
            count: count as u32,
            payload: payload.slice(start..end),
        }
    })
}
