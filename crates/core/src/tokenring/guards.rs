//! Guards: what a client holds while it has a lock. A guard that is lost stays lost (H7).

use super::{Event, LockName, Loss, Ticket, TokenRing};
use crate::{planted::Bug, protocol::Context};
use alloc::vec::Vec;

impl TokenRing {
    /// The guards of this node's clients that are not lost: lock, ticket and fence of each. They are
    /// valid before [`TokenRing::lease_until`].
    pub fn guards(&self) -> impl Iterator<Item = (&LockName, Ticket, u64)> {
        self.locks.iter().filter_map(|(name, lock)| {
            let grant = lock.granted?;
            Some((name, grant.ticket, grant.fence))
        })
    }

    /// Guards past their deadline are lost for good: what renews the lease from now on does not make
    /// them valid again (H7). Their tokens may go on.
    pub(super) fn latch(&mut self, cx: &mut Context<'_, Self>) {
        for name in self.lapse(cx) {
            self.serve(&name, cx);
        }
    }

    /// The same, and the tokens stay where they are: this view is over here.
    pub(super) fn lapse(&mut self, cx: &mut Context<'_, Self>) -> Vec<LockName> {
        if self.has_lease(cx.now()) || cx.has(Bug::GuardRevives) {
            return Vec::new();
        }
        self.lose_guards(Loss::LeaseEnded, cx)
    }

    /// All guards are lost; returns on which locks.
    pub(super) fn lose_guards(
        &mut self,
        reason: Loss,
        cx: &mut Context<'_, Self>,
    ) -> Vec<LockName> {
        let mut lost = Vec::new();
        for (name, lock) in &mut self.locks {
            if let Some(grant) = lock.granted.take() {
                let (ticket, fence) = (grant.ticket, grant.fence);
                cx.emit(Event::Lost { lock: name.clone(), ticket, fence, reason });
                lost.push(name.clone());
            }
        }
        lost
    }
}
