//! The lock as an application uses it.

use crate::{
    clock::Clock,
    node::Node,
    request::{Request, Stopped},
};
use roundelay_core::{
    Time,
    tokenring::{self, LockName, Refusal, Wait},
};
use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

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

/// Why a guard protects nothing any more, though it has not been released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The lease has ended: this node has not heard enough of the others for so long.
    #[error("the lease has ended")]
    LeaseEnded,
    /// The group goes on without this node.
    #[error("the group goes on without this node")]
    Excluded,
    /// The lock is elsewhere in a new view.
    #[error("the lock is elsewhere in a new view")]
    Elsewhere,
    /// The node has stopped, or is leaving.
    #[error("the node has stopped")]
    Stopped,
}

impl From<tokenring::Loss> for Loss {
    fn from(loss: tokenring::Loss) -> Self {
        match loss {
            tokenring::Loss::LeaseEnded => Self::LeaseEnded,
            tokenring::Loss::Excluded => Self::Excluded,
            tokenring::Loss::Elsewhere => Self::Elsewhere,
        }
    }
}

/// A lock that is held. Dropping it releases the lock.
///
/// It may be lost before that: if this node hears too few of the others for as long as the group's
/// lease, somebody else gets the lock. A guard that is lost stays lost.
#[derive(Debug)]
pub struct Guard {
    held: Claim,
    fence: u64,
    waited: Duration,
    /// Set once it was seen to be invalid, for good (H7).
    lost: AtomicBool,
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

    /// Whether nobody else can have the lock at this moment. Once it says no, it never says yes
    /// again.
    ///
    /// What the answer is worth a moment later nobody knows: only the resource itself can refuse
    /// who comes too late, by the [fence](Self::fence).
    pub fn is_valid(&self) -> bool {
        // The lease is compared with the clock now: no timer is asked, which may be late (§4).
        let valid = !self.lost.load(Ordering::Acquire) && self.lease().holds(self.held.ticket);
        if !valid {
            self.lost.store(true, Ordering::Release);
        }
        valid
    }

    /// Waits until the lock is lost, and says why. Does not return while the guard is valid; after
    /// that it is ready whenever it is polled, also in a process that was stopped and has just woken.
    pub async fn lost(&self) -> Loss {
        let why = self.lease().lost_by(self.held.ticket).await;
        self.lost.store(true, Ordering::Release);
        why
    }

    /// Releases the lock, and returns once the next waiter may have it.
    pub async fn release(mut self) {
        let (done, released) = oneshot::channel();
        self.held.release(Some(done));
        // An error says that the node has stopped: then nothing is held either.
        let _ = released.await;
    }

    fn lease(&self) -> &Lease {
        &self.held.node.shared().lease
    }
}

/// The lease of a node, and which of its guards are lost.
#[derive(Debug)]
pub(crate) struct Lease {
    clock: Clock,
    /// When it ends, in nanoseconds on the clock of the node, if it is not renewed.
    until: AtomicU64,
    /// Guards that were lost and have not been released. What is lost is seen by who looks at the
    /// number first: it is changed before the lease is.
    lost: Mutex<BTreeMap<u64, Loss>>,
    count: AtomicUsize,
    told: watch::Sender<()>,
    stopped: AtomicBool,
}

impl Lease {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            until: AtomicU64::new(0),
            lost: Mutex::default(),
            count: AtomicUsize::new(0),
            told: watch::Sender::new(()),
            stopped: AtomicBool::new(false),
        }
    }

    /// What the clock of the node says.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// When it ends. Said before a guard that rests on it is handed over, and after what is lost.
    pub(crate) fn set(&self, until: Time) {
        self.until.store(until.as_nanos(), Ordering::Release);
    }

    /// This ticket's guard is lost.
    pub(crate) fn lose(&self, ticket: u64, why: Loss) {
        let mut lost = self.lost();
        lost.insert(ticket, why);
        self.count.store(lost.len(), Ordering::Release);
        drop(lost);
        self.told.send_replace(());
    }

    /// The guard of this ticket is gone.
    pub(crate) fn forget(&self, ticket: u64) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut lost = self.lost();
            lost.remove(&ticket);
            self.count.store(lost.len(), Ordering::Release);
        }
    }

    /// Everything is lost.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.until.store(0, Ordering::Release);
        self.told.send_replace(());
    }

    /// Whether the guard of this ticket is valid.
    fn holds(&self, ticket: u64) -> bool {
        // In this order: a lease that was renewed after a loss is seen with the loss.
        let until = Time::from_nanos(self.until.load(Ordering::Acquire));
        let some_lost = self.count.load(Ordering::Acquire) > 0;
        self.clock.now() < until && !(some_lost && self.lost().contains_key(&ticket))
    }

    /// Whoever was stopped and asks before the driver has noticed reads the clock itself (§4).
    async fn lost_by(&self, ticket: u64) -> Loss {
        let mut told = pin!(self.told_of(ticket));
        poll_fn(|cx| match told.as_mut().poll(cx) {
            Poll::Pending if !self.holds(ticket) => Poll::Ready(Loss::LeaseEnded),
            said => said,
        })
        .await
    }

    async fn told_of(&self, ticket: u64) -> Loss {
        let mut told = self.told.subscribe();
        loop {
            if let Some(why) = self.lost().get(&ticket) {
                return *why;
            }
            if self.stopped.load(Ordering::Acquire) {
                return Loss::Stopped;
            }
            told.changed().await.expect("this keeps the sender");
        }
    }

    fn lost(&self) -> MutexGuard<'_, BTreeMap<u64, Loss>> {
        // Nothing in here can panic half-way, so a poisoned lock guards a sound state.
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Waits for the lock, and returns the fence of the grant.
    async fn wait(&mut self, wait: Wait) -> Result<u64, LockError> {
        let (reply, answer) = oneshot::channel();
        let (lock, ticket) = (self.lock.clone(), self.ticket);
        let request = Request::Lock { lock, ticket, wait, reply };
        self.node.requests().ask(request).await.map_err(|Stopped| LockError::Stopped)?;
        // From here on a caller that goes away has to take the wait back: dropping this does.
        self.claimed = true;
        let answer = answer.await.unwrap_or(Err(LockError::Stopped));
        self.claimed = answer.is_ok();
        answer
    }

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
    loop {
        let mut claim = claim(&node, &lock);
        let fence = claim.wait(wait).await?;
        let (waited, lost) = (since.elapsed(), AtomicBool::new(false));
        let guard = Guard { held: claim, fence, waited, lost };
        // Once more when it is handed over: this task may have been held up since the grant (§4).
        if guard.is_valid() {
            return Ok(guard);
        }
        if wait == Wait::Try {
            return Err(LockError::NotAvailable);
        }
    }
}

fn claim(node: &Node, lock: &LockName) -> Claim {
    let ticket = node.shared().ticket();
    Claim { node: node.clone(), lock: lock.clone(), ticket, claimed: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_guard_is_valid_within_the_lease_and_until_it_is_lost() {
        let clock = Clock::new();
        let lease = Lease::new(clock);
        assert!(!lease.holds(1), "no lease yet");
        lease.set(clock.now() + Duration::from_mins(1));
        assert!(lease.holds(1) && lease.holds(2));
        assert_eq!(lease.lost_by(1).now_or_never(), None);
        lease.lose(1, Loss::LeaseEnded);
        // A renewed lease makes only new guards valid.
        lease.set(clock.now() + Duration::from_mins(2));
        assert!(!lease.holds(1) && lease.holds(2));
        assert_eq!(lease.lost_by(1).now_or_never(), Some(Loss::LeaseEnded));
        assert_eq!(lease.lost_by(2).now_or_never(), None);
        lease.forget(1);
        assert!(lease.lost().is_empty());
        lease.set(clock.now());
        assert!(!lease.holds(2), "its end is an instant, not an event");
        assert_eq!(lease.lost_by(2).now_or_never(), Some(Loss::LeaseEnded), "nobody has told");
        lease.set(Time::from_nanos(u64::MAX));
        lease.stop();
        assert!(!lease.holds(2));
        assert_eq!(lease.lost_by(2).now_or_never(), Some(Loss::Stopped));
    }
}
