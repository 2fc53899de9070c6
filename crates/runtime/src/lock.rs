//! The lock as an application uses it.

use crate::{
    node::Node,
    request::{Request, Stopped},
};
use roundelay_core::tokenring::{LockName, Refusal, Wait};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why a lock was not obtained. In every case nothing is held, and nobody waits any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// There is no ring: the group has not been started, or this node is in none.
    #[error("the token ring has not been started")]
    NotStarted,
    /// A `try` found the lock taken, or the holder did not answer in time.
    #[error("the lock is not available")]
    NotAvailable,
    /// This node is leaving the ring.
    #[error("this node is leaving the ring")]
    Leaving,
    /// This node has as many waiters or locks as its limits allow.
    #[error("too many waiters or locks at this node")]
    TooMany,
    /// All 2^40 fences of this view are used up.
    #[error("the fences of this view are used up")]
    FencesUsedUp,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl LockError {
    pub(crate) fn from_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotStarted => Self::NotStarted,
            // Nobody is there to hear that a wait was cancelled or unknown: the caller gave it up.
            Refusal::NotAvailable | Refusal::Cancelled | Refusal::NotHeld => Self::NotAvailable,
            Refusal::Leaving => Self::Leaving,
            Refusal::TooMany => Self::TooMany,
            Refusal::FencesUsedUp => Self::FencesUsedUp,
        }
    }
}

/// A lock that is held. Dropping it releases the lock.
#[derive(Debug)]
pub struct Guard {
    held: Claim,
    fence: u64,
    waited: Duration,
}

impl Guard {
    /// The fencing token: larger than that of any earlier grant of this lock. A resource that
    /// remembers the largest one that it has seen, and refuses smaller ones, is never written by
    /// a holder that has lost the lock without knowing.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Which lock.
    pub fn lock(&self) -> &LockName {
        &self.held.lock
    }

    /// How long it took to get it.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Releases the lock, and returns once the next waiter may have it.
    pub async fn release(mut self) {
        let (done, released) = oneshot::channel();
        self.held.release(Some(done));
        // An error says that the node has stopped: then nothing is held either.
        let _ = released.await;
    }
}

/// A wait that has been announced to the driver, and must be taken back when it is given up.
#[derive(Debug)]
struct Claim {
    node: Node,
    lock: LockName,
    ticket: u64,
    claimed: bool,
}

impl Claim {
    fn release(&mut self, done: Option<oneshot::Sender<()>>) {
        if std::mem::take(&mut self.claimed) {
            let request = Request::Unlock { lock: self.lock.clone(), ticket: self.ticket, done };
            // If the node has stopped, it holds nothing.
            let _ = self.node.requests().say(request);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release(None);
    }
}

pub(crate) async fn lock(node: Node, lock: LockName, wait: Wait) -> Result<Guard, LockError> {
    let since = Instant::now();
    let ticket = node.shared().ticket();
    let mut claim = Claim { node, lock, ticket, claimed: false };
    let (reply, answer) = oneshot::channel();
    let request = Request::Lock { lock: claim.lock.clone(), ticket, wait, reply };
    claim.node.requests().ask(request).await.map_err(|Stopped| LockError::Stopped)?;
    // From here on a caller that goes away has to take the wait back: dropping the claim does.
    claim.claimed = true;
    match answer.await {
        Ok(Ok(fence)) => Ok(Guard { held: claim, fence, waited: since.elapsed() }),
        refused => {
            claim.claimed = false;
            Err(refused.map_or(LockError::Stopped, |answer| {
                answer.expect_err("a grant is dealt with above")
            }))
        }
    }
}
