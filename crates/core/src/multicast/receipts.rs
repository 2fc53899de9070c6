//! Who is known to have received what.

use alloc::vec::Vec;
use core::iter::repeat_n;

/// Per sender and member: up to which sequence the member is known to have received the sender's
/// messages, complete and contiguous (T5). Entries only rise, so old and repeated news are
/// harmless (T2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Receipts {
    members: usize,
    /// Sender by sender, since the questions are about one sender's messages.
    entries: Vec<u64>,
}

impl Receipts {
    /// Everybody has received, of each sender, what comes before the view (T6).
    pub(super) fn new(begins: &[u64]) -> Self {
        let entries = begins.iter().flat_map(|begin| repeat_n(*begin, begins.len()));
        Self { members: begins.len(), entries: entries.collect() }
    }

    /// Up to where `member` has what `sender` sent.
    pub(super) fn of(&self, member: usize, sender: usize) -> u64 {
        self.entries[sender * self.members + member]
    }

    /// Per member: up to where it has what `sender` sent.
    pub(super) fn column(&self, sender: usize) -> &[u64] {
        &self.entries[sender * self.members..][..self.members]
    }

    /// `member` has what `sender` sent up to `sequence`. True if that is news.
    pub(super) fn raise(&mut self, member: usize, sender: usize, sequence: u64) -> bool {
        let entry = &mut self.entries[sender * self.members + member];
        let news = sequence > *entry;
        if news {
            *entry = sequence;
        }
        news
    }

    /// How many members have `sequence` of `sender`.
    pub(super) fn holders(&self, sender: usize, sequence: u64) -> usize {
        self.column(sender).iter().filter(|received| **received >= sequence).count()
    }
}
