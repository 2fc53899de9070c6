//! What applications asked to be spread, and was not refused: the measure for what arrives.

use bytes::Bytes;

/// The accepted payloads of one sender, in the order in which it was asked to send them. Both
/// multicast and gossip number them in this order, from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Accepted {
    entries: Vec<(u64, Bytes)>,
}

impl Accepted {
    /// The application asked for it.
    pub(crate) fn ask(&mut self, ticket: u64, payload: &Bytes) {
        self.entries.push((ticket, payload.clone()));
    }

    /// It was refused; those after it count one less. Refusals come at once, so this is short.
    pub(crate) fn refuse(&mut self, ticket: u64) -> Result<(), String> {
        match self.entries.iter().rposition(|(asked, _)| *asked == ticket) {
            Some(at) => {
                self.entries.remove(at);
                Ok(())
            }
            None => Err(format!("ticket {ticket} is refused, but nobody asked for it")),
        }
    }

    /// Checks that number `sequence` is what was asked for.
    pub(crate) fn expect(&self, sequence: u64, payload: &Bytes) -> Result<(), String> {
        match self.entry(sequence) {
            None => Err(format!("number {sequence} was never sent")),
            Some((_, sent)) if sent != payload => {
                Err(format!("number {sequence} says {payload:?} but was sent as {sent:?}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// The ticket of number `sequence`.
    pub(crate) fn ticket(&self, sequence: u64) -> Option<u64> {
        self.entry(sequence).map(|(ticket, _)| *ticket)
    }

    fn entry(&self, sequence: u64) -> Option<&(u64, Bytes)> {
        self.entries.get(usize::try_from(sequence).ok()?.checked_sub(1)?)
    }
}
