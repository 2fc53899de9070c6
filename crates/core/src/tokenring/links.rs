//! What a member keeps per peer: numbered passes, so that each token arrives exactly once.

use super::{LockName, Received, Token};
use crate::time::Time;
use alloc::{collections::BTreeMap, collections::BTreeSet, vec::Vec};
use core::time::Duration;

/// How many passes to one peer may be unacknowledged, and how far beyond a gap one is accepted.
pub(super) const WINDOW: u64 = 4096;

/// Each pass with a multiple of this for its number is acknowledged without delay: long before the
/// window would stop the sender. (No need to count what is owed.)
pub(super) const PRESSING: u64 = WINDOW / 16;

/// One peer, as the lock sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Link {
    /// Whether messages to it will probably arrive, and since when not.
    pub(super) up: bool,
    pub(super) down_since: Time,
    /// An acknowledgement is owed.
    ack_owed: bool,
    sent: u64,
    unacknowledged: BTreeMap<u64, Waiting>,
    received_up_to: u64,
    received_beyond: BTreeSet<u64>,
}

/// A pass that has not been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    lock: LockName,
    token: Token,
    at: Time,
}

impl Link {
    /// The link, up or not as of `now`, to a peer that has passed nothing yet.
    pub(super) fn new(up: bool, now: Time) -> Self {
        Self { up, down_since: now, ..Self::default() }
    }

    /// Whether a token may be passed there (H16): a waiter that cannot be reached keeps its place.
    pub(super) fn takes_tokens(&self) -> bool {
        self.up && (self.unacknowledged.len() as u64) < WINDOW
    }

    /// Numbers a pass and remembers it until it is acknowledged (H1).
    pub(super) fn pass(&mut self, lock: LockName, token: Token, now: Time) -> u64 {
        self.sent += 1;
        self.unacknowledged.insert(self.sent, Waiting { lock, token, at: now });
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

    /// All that is not acknowledged, as if it had never been sent: only a planted bug does so.
    pub(super) fn take_back(&mut self) -> Vec<(LockName, Token)> {
        let waiting = core::mem::take(&mut self.unacknowledged);
        waiting.into_values().map(|pass| (pass.lock, pass.token)).collect()
    }

    /// What is not acknowledged: number, lock and token of each pass.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u64, &LockName, &Token)> {
        self.unacknowledged.iter().map(|(number, pass)| (*number, &pass.lock, &pass.token))
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
