//! What comes from one sender: pieces are put together, gaps noticed, clocks counted.

use super::{Body, Config, UNSTABLE_MESSAGES_MAX};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec,
    vec::Vec,
};
use bytes::{Bytes, BytesMut};

/// The most ranges of missing messages that one sender is asked for at once.
const HOLES_MAX: usize = 8;

/// A piece of a message, or a whole one.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) sequence: u64,
    pub(super) time: u64,
    pub(super) index: u32,
    pub(super) count: u32,
    pub(super) payload: Bytes,
}

impl Piece {
    /// As its sender says it.
    pub(super) fn data(self) -> Body {
        let Self { sequence, time, index, count, payload } = self;
        Body::Data { sequence, time, index, count, payload }
    }

    /// As another member that has it says it.
    pub(super) fn fetched(self, sender: u16) -> Body {
        let Self { sequence, time, index, count, payload } = self;
        Body::Fetched { sender, sequence, time, index, count, payload }
    }
}

/// What a sender may send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Limits {
    /// The most bytes of a message.
    pub(super) message: usize,
    /// The most pieces of a message.
    pub(super) pieces: usize,
    /// The most bytes that are kept of messages that cannot be received yet. What a sender that
    /// keeps to its window has outstanding is never more.
    pub(super) early: usize,
    /// No sender that keeps to its window has more bytes than this, or one message, that somebody
    /// lacks.
    pub(super) unstable: usize,
}

impl Limits {
    /// The limits of a view of `n` members.
    pub(super) fn new(config: &Config, n: usize) -> Self {
        let share = (config.unstable_bytes_max / n).max(1);
        Self {
            message: config.message_bytes_max,
            pieces: config.message_bytes_max / config.fragment_bytes + 1,
            early: share.max(config.message_bytes_max),
            unstable: config.unstable_bytes_max,
        }
    }
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// One or more messages are now complete and contiguous (T5).
    Received,
    /// It is kept until the rest is here, or dropped since too much is kept (it is sent again).
    Early,
    /// It was here already.
    Duplicate,
    /// No sender that keeps the rules sends this.
    Impossible,
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ready {
    pub(super) time: u64,
    pub(super) payload: Bytes,
}

/// A message that is incomplete, or complete but after a gap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Partial {
    time: u64,
    bytes: usize,
    missing: usize,
    pieces: Vec<Option<Bytes>>,
}

/// What comes from one sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    /// Everything up to this sequence is complete and contiguous (T5).
    received: u64,
    /// The time of the last received message.
    time: u64,
    /// The counted clock (T1).
    clock: u64,
    /// The latest clock that does not count yet: `(after, time)`.
    promised: Option<(u64, u64)>,
    /// The last received messages: what is not delivered here, and before it what is, but is not
    /// known to be received by all. Somebody may have to fetch that when the view ends (T7).
    kept: VecDeque<Ready>,
    kept_bytes: usize,
    /// How many of them are not delivered, and their bytes.
    ready: usize,
    ready_bytes: usize,
    early: BTreeMap<u64, Partial>,
    early_bytes: usize,
    /// The highest sequence of which a piece has come.
    seen: u64,
    /// The highest sequence that the sender says to have sent.
    told: u64,
    /// What lies up to here has been asked for in this interval.
    asked: u64,
}

impl Stream {
    /// A stream of which everything up to a sequence is here and delivered, and all that comes is
    /// later than `clock` (T6).
    pub(super) fn beginning(received: u64, clock: u64) -> Self {
        let (seen, told, asked) = (received, received, received);
        Self { received, time: clock, clock, seen, told, asked, ..Self::default() }
    }

    /// Everything up to this sequence is complete and contiguous (T5).
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The time of the last received message.
    pub(super) fn time(&self) -> u64 {
        self.time
    }

    /// The last clock of the sender that counts (T1).
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// The sequence up to which messages are delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.received - self.ready as u64
    }

    /// How many messages are received and not delivered,
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// and their bytes.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// The oldest of them.
    pub(super) fn front(&self) -> Option<&Ready> {
        self.kept.get(self.kept.len() - self.ready)
    }

    /// The oldest of them is delivered now. It is kept for who lacks it.
    pub(super) fn deliver(&mut self) -> Option<Ready> {
        let ready = self.front()?.clone();
        self.ready -= 1;
        self.ready_bytes -= ready.payload.len();
        Some(ready)
    }

    /// The messages from `from` to `to` that are kept, with their sequences.
    pub(super) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Ready)> {
        let first = self.received + 1 - self.kept.len() as u64;
        let start = from.clamp(first, self.received + 1);
        let end = to.saturating_add(1).clamp(start, self.received + 1);
        (start..).zip(self.kept.range((start - first) as usize..(end - first) as usize))
    }

    /// All members have received everything up to `stable`: what of it is delivered need not be
    /// kept. Nor what the sender could not have followed by so much, if somebody lacked it.
    pub(super) fn release(&mut self, stable: u64, limits: &Limits) {
        while self.kept.len() > self.ready {
            let first = self.received + 1 - self.kept.len() as u64;
            let beyond = self.kept.len() > UNSTABLE_MESSAGES_MAX
                || (self.kept_bytes > limits.unstable && self.kept.len() > 1);
            if first > stable && !beyond {
                return;
            }
            let Some(oldest) = self.kept.pop_front() else { return };
            self.kept_bytes -= oldest.payload.len();
        }
    }

    /// Forgets everything after sequence `end`, which is not before what is delivered.
    pub(super) fn truncate(&mut self, end: u64) {
        while self.received > end && self.ready > 0 {
            let Some(last) = self.kept.pop_back() else { return };
            self.received -= 1;
            self.ready -= 1;
            self.ready_bytes -= last.payload.len();
            self.kept_bytes -= last.payload.len();
        }
    }

    /// Whether something is known to be missing.
    pub(super) fn has_gap(&self) -> bool {
        self.seen.max(self.told) > self.received
    }

    /// Whether more than the tail is missing: something later is here already.
    pub(super) fn has_hole(&self) -> bool {
        self.seen > self.received + 1
    }

    /// Takes a clock: all after sequence `after` is later than `time`. False if impossible.
    pub(super) fn hear(&mut self, time: u64, after: u64) -> bool {
        if after > self.received + UNSTABLE_MESSAGES_MAX as u64 {
            return false;
        }
        self.told = self.told.max(after);
        if after <= self.received {
            self.clock = self.clock.max(time);
        } else {
            // T1: it does not count before all that it speaks of is here. The latest promise is
            // enough, since messages are clocks too and make up for the ones in between.
            self.promised = self.promised.max(Some((after, time)));
        }
        true
    }

    /// Takes a message that needs no journey: an own one.
    pub(super) fn push(&mut self, time: u64, payload: Bytes) {
        self.received += 1;
        self.time = time;
        self.clock = self.clock.max(time);
        self.ready += 1;
        self.ready_bytes += payload.len();
        self.kept_bytes += payload.len();
        self.kept.push_back(Ready { time, payload });
        if let Some((_, time)) = self.promised.take_if(|(after, _)| *after <= self.received) {
            self.clock = self.clock.max(time);
        }
    }

    /// Takes a piece from the network.
    pub(super) fn receive(&mut self, piece: Piece, limits: &Limits) -> Outcome {
        if piece.count == 0
            || piece.index >= piece.count
            || piece.count as usize > limits.pieces
            || piece.payload.len() > limits.message
            || piece.sequence == 0
        {
            return Outcome::Impossible;
        }
        if piece.sequence <= self.received {
            return Outcome::Duplicate;
        }
        // The window of the sender ends before this, and whatever comes after the last counted
        // clock is later than that (T1).
        if piece.sequence - self.received > UNSTABLE_MESSAGES_MAX as u64 || piece.time <= self.clock
        {
            return Outcome::Impossible;
        }
        self.seen = self.seen.max(piece.sequence);
        if piece.count == 1 && piece.sequence == self.received + 1 {
            self.forget(piece.sequence);
            self.push(piece.time, piece.payload);
            self.drain();
            return Outcome::Received;
        }
        let before = self.received;
        match self.keep(piece, limits) {
            Outcome::Early => self.drain(),
            other => return other,
        }
        if self.received > before { Outcome::Received } else { Outcome::Early }
    }

    /// The ranges that are missing and were not asked for yet: what something later has overtaken.
    /// On links that keep order it is lost, while the tail may be under way.
    pub(super) fn holes(&mut self) -> Vec<(u64, u64)> {
        let end = self.seen.saturating_sub(1);
        let mut next = self.received.max(self.asked) + 1;
        let mut holes = Vec::new();
        if next > end {
            return holes;
        }
        for (sequence, _) in self.early.range(next..=end).filter(|(_, p)| p.missing == 0) {
            if holes.len() == HOLES_MAX {
                break;
            }
            if next < *sequence {
                holes.push((next, sequence - 1));
            }
            next = sequence + 1;
        }
        if next <= end && holes.len() < HOLES_MAX {
            holes.push((next, end));
            next = end + 1;
        }
        self.asked = next - 1;
        holes
    }

    /// A new interval: what is still missing may be asked for again.
    pub(super) fn begin_interval(&mut self) {
        self.asked = self.received;
    }

    fn keep(&mut self, piece: Piece, limits: &Limits) -> Outcome {
        let bytes = piece.payload.len();
        // The next message is always let in, or nothing would ever be received again.
        if piece.sequence != self.received + 1 && self.early_bytes + bytes > limits.early {
            return Outcome::Early;
        }
        let partial = self.early.entry(piece.sequence).or_insert_with(|| Partial {
            time: piece.time,
            bytes: 0,
            missing: piece.count as usize,
            pieces: vec![None; piece.count as usize],
        });
        if partial.time != piece.time
            || partial.pieces.len() != piece.count as usize
            || partial.bytes + bytes > limits.message
        {
            return Outcome::Impossible;
        }
        let slot = &mut partial.pieces[piece.index as usize];
        if slot.is_none() {
            *slot = Some(piece.payload);
            partial.missing -= 1;
            partial.bytes += bytes;
            self.early_bytes += bytes;
        }
        Outcome::Early
    }

    /// Moves what has become complete and contiguous (T5).
    fn drain(&mut self) {
        while let Some(first) = self.early.first_entry() {
            if *first.key() != self.received + 1 || first.get().missing > 0 {
                return;
            }
            let partial = first.remove();
            self.early_bytes -= partial.bytes;
            if partial.time <= self.clock {
                // Impossible, and found out late: as if it had never come.
                return;
            }
            self.push(partial.time, join(partial));
        }
    }

    fn forget(&mut self, sequence: u64) {
        if let Some(partial) = self.early.remove(&sequence) {
            self.early_bytes -= partial.bytes;
        }
    }
}

fn join(partial: Partial) -> Bytes {
    let mut pieces = partial.pieces;
    if pieces.len() == 1 {
        return pieces.remove(0).expect("it is complete");
    }
    let mut whole = BytesMut::with_capacity(partial.bytes);
    for piece in pieces.into_iter().flatten() {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}
