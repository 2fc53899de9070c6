//! The callers that wait for an answer of the core.

use crate::{builder::Limits, gossip::PublishError, lock::LockError, multicast::SendError};
use roundelay_core::{View, founding, gossip, multicast, tokenring};
use std::collections::HashMap;
use tokio::sync::oneshot;

type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// Who waits for what. That somebody does not wait any more shows in an answer that nobody takes,
/// which is why the results of answering are not looked at.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    locks: HashMap<u64, Reply<u64, LockError>>,
    releases: HashMap<u64, oneshot::Sender<()>>,
    sends: HashMap<u64, Reply<u64, SendError>>,
    publications: HashMap<u64, Reply<u64, PublishError>>,
    starts: Vec<Reply<View, founding::StartError>>,
    /// The start that is being asked for right now: a refusal is meant for it alone.
    starting: Option<Reply<View, founding::StartError>>,
    /// Whether somebody has got an answer since this was looked at.
    answered: bool,
}

impl Replies {
    /// Whether somebody has got an answer since the last call: it may ask for more at once.
    pub(crate) fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    pub(crate) fn await_lock(&mut self, ticket: u64, reply: Reply<u64, LockError>) {
        self.locks.insert(ticket, reply);
    }

    pub(crate) fn await_release(&mut self, ticket: u64, done: oneshot::Sender<()>) {
        self.releases.insert(ticket, done);
    }

    pub(crate) fn await_place(&mut self, ticket: u64, reply: Reply<u64, SendError>) {
        self.sends.insert(ticket, reply);
    }

    pub(crate) fn await_publication(&mut self, ticket: u64, reply: Reply<u64, PublishError>) {
        self.publications.insert(ticket, reply);
    }

    /// The command that follows is this caller's start.
    pub(crate) fn begin_start(&mut self, reply: Reply<View, founding::StartError>) {
        self.starting = Some(reply);
    }

    /// The start has been handled: what was not refused is under way.
    pub(crate) fn end_start(&mut self) {
        self.starts.retain(|reply| !reply.is_closed());
        self.starts.extend(self.starting.take());
    }

    pub(crate) fn installed(&mut self, view: &View) {
        for reply in self.starting.take().into_iter().chain(self.starts.drain(..)) {
            let _ = reply.send(Ok(view.clone()));
        }
    }

    /// Whether somebody has been told.
    pub(crate) fn start_refused(&mut self, error: &founding::StartError) -> bool {
        if let Some(reply) = self.starting.take() {
            return reply.send(Err(error.clone())).is_ok();
        }
        let mut told = false;
        for reply in self.starts.drain(..) {
            told |= reply.send(Err(error.clone())).is_ok();
        }
        told
    }

    pub(crate) fn granted(&mut self, ticket: u64, fence: u64) {
        if let Some(reply) = self.locks.remove(&ticket) {
            // If the caller has gone, its claim is on its way to be taken back.
            self.answered |= reply.send(Ok(fence)).is_ok();
        }
    }

    pub(crate) fn released(&mut self, ticket: u64) {
        if let Some(done) = self.releases.remove(&ticket) {
            self.answered |= done.send(()).is_ok();
        }
    }

    pub(crate) fn lock_refused(&mut self, ticket: u64, reason: tokenring::Refusal) {
        if let Some(reply) = self.locks.remove(&ticket) {
            let _ = reply.send(Err(LockError::from_refusal(reason)));
        }
        // Who releases what is not held has nothing to wait for either.
        self.released(ticket);
    }

    pub(crate) fn sent(&mut self, ticket: u64, position: u64) {
        if let Some(reply) = self.sends.remove(&ticket) {
            self.answered |= reply.send(Ok(position)).is_ok();
        }
    }

    /// What nobody waits for is returned.
    pub(crate) fn send_refused(
        &mut self,
        ticket: u64,
        why: multicast::Refusal,
        limits: &Limits,
    ) -> Option<SendError> {
        let error = SendError::from_refusal(why, limits);
        let Some(reply) = self.sends.remove(&ticket) else { return Some(error) };
        let _ = reply.send(Err(error));
        None
    }

    pub(crate) fn published(&mut self, ticket: u64, sequence: u64) {
        if let Some(reply) = self.publications.remove(&ticket) {
            self.answered |= reply.send(Ok(sequence)).is_ok();
        }
    }

    pub(crate) fn publish_refused(&mut self, ticket: u64, why: gossip::Refusal, limits: &Limits) {
        if let Some(reply) = self.publications.remove(&ticket) {
            let _ = reply.send(Err(PublishError::from_refusal(why, limits)));
        }
    }
}
