//! What a member keeps per peer: numbered passes, so that each token arrives exactly once.

use super::{LockName, Received, Token};
use crate::time::Time;
use alloc::{collections::BTreeMap, collections::BTreeSet, vec::Vec};
use core::time::Duration;

/// How many passes to one peer may be unacknowledged, and how far beyond a gap one is accepted.
pub(super) const WINDOW: u64 = 4096;

/// Each pass with a multiple of this for its number is acknowledged without delay: long before the
/// window would stop the sender. (No need to count what is owed.)
const PRESSING: u64 = WINDOW / 16;

/// One peer, as the lock sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Link {
    /// Whether messages to it will probably arrive, and since when not.
    pub(super) up: bool,
    pub(super) down_since: Time,
    /// Whether it stays.
    pub(super) stays: Stays,
    /// It knows that this node is leaving, and its last pass to this node had this number.
    pub(super) leaving_ack: Option<u64>,
    /// Once it has left: what it has received, per position.
    pub(super) last_words: Vec<Received>,
    /// Once it has left: who is known to know. (The entry of the own position says who knows that
    /// this node has left.)
    pub(super) known_by: BTreeSet<usize>,
    /// An acknowledgement is owed.
    ack_owed: bool,
    sent: u64,
    unacknowledged: BTreeMap<u64, Sent>,
    received_up_to: u64,
    received_beyond: BTreeSet<u64>,
}

/// Whether a peer stays in the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stays {
    #[default]
    Here,
    /// It has said that it is leaving: nothing is passed to it any more.
    Leaving,
    /// It has left.
    Left,
}

/// A pass that has not been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    lock: LockName,
    token: Token,
    at: Time,
}

impl Link {
    /// The link to a peer that has passed nothing yet.
    pub(super) fn new(up: bool) -> Self {
        Self { up, ..Self::default() }
    }

    /// Whether a token may be passed there (H16): a waiter that cannot be reached keeps its place.
    pub(super) fn takes_tokens(&self) -> bool {
        self.up && self.stays == Stays::Here && (self.unacknowledged.len() as u64) < WINDOW
    }

    /// Whether it has left.
    pub(super) fn has_left(&self) -> bool {
        self.stays == Stays::Left
    }

    /// Numbers a pass and remembers it until it is acknowledged (H1).
    pub(super) fn pass(&mut self, lock: LockName, token: Token, now: Time) -> u64 {
        self.sent += 1;
        self.unacknowledged.insert(self.sent, Sent { lock, token, at: now });
        self.sent
    }

    /// The number of the last pass to this peer.
    pub(super) fn last_pass(&self) -> u64 {
        self.sent
    }

    /// The peer has received these.
    pub(super) fn acknowledge(&mut self, received: &Received) {
        while self.unacknowledged.first_key_value().is_some_and(|(n, _)| *n <= received.up_to) {
            self.unacknowledged.pop_first();
        }
        for number in &received.also {
            self.unacknowledged.remove(number);
        }
    }

    /// The peer has received this one: its token has come back.
    pub(super) fn acknowledge_one(&mut self, number: u64) {
        self.unacknowledged.remove(&number);
    }

    /// It has left and had received these passes; all others are taken back.
    pub(super) fn take_back(&mut self, received: &Received) -> Vec<(LockName, Token)> {
        self.acknowledge(received);
        let sent = core::mem::take(&mut self.unacknowledged);
        sent.into_values().map(|sent| (sent.lock, sent.token)).collect()
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// The passes that were last sent at `before` or earlier; they count as sent `now`.
    pub(super) fn overdue(&mut self, now: Time, after: Duration) -> Vec<(u64, LockName, Token)> {
        let overdue = self.unacknowledged.iter_mut().filter(|(_, sent)| sent.at + after <= now);
        overdue
            .map(|(number, sent)| {
                sent.at = now;
                (*number, sent.lock.clone(), sent.token.clone())
            })
            .collect()
    }

    /// Takes note of a received pass. Its number alone says whether it is new (H9).
    pub(super) fn receive(&mut self, number: u64) -> Receipt {
        if number > self.received_up_to + WINDOW {
            return Receipt::Impossible;
        }
        self.ack_owed = true;
        if number <= self.received_up_to || !self.received_beyond.insert(number) {
            return Receipt::Duplicate;
        }
        while self.received_beyond.remove(&(self.received_up_to + 1)) {
            self.received_up_to += 1;
        }
        Receipt::New
    }

    /// Whether all passes up to `number` have been received.
    pub(super) fn has_received(&self, number: u64) -> bool {
        self.received_up_to >= number
    }

    /// Whether the peer should hear soon that this pass has come.
    pub(super) fn is_pressing(&self, number: u64) -> bool {
        number.is_multiple_of(PRESSING) || self.is_awaited()
    }

    /// Whether the peer waits for an acknowledgement to leave.
    pub(super) fn is_awaited(&self) -> bool {
        self.ack_owed && self.stays == Stays::Leaving
    }

    /// The acknowledgement that is owed.
    pub(super) fn pay_ack(&mut self) -> Option<Received> {
        core::mem::take(&mut self.ack_owed).then(|| self.received())
    }

    /// What an acknowledgement says.
    pub(super) fn received(&self) -> Received {
        let also = self.received_beyond.iter().copied().collect();
        Received { up_to: self.received_up_to, also }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    New,
    Duplicate,
    Impossible,
}
