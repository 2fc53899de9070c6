//! A bounded queue from the tasks of the application to the driver, which takes all that waits at
//! once: one lock for many messages, and no memory for each.

use futures_util::task::AtomicWaker;
use std::{
    collections::VecDeque,
    fmt, mem,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;

/// Wakes the driver, which then looks at everything that it may have been woken for.
pub(crate) type Bell = Arc<AtomicWaker>;

/// Nothing is taken any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// The application's end.
pub(crate) struct Funnel<T> {
    shared: Arc<Shared<T>>,
}

/// The driver's end.
pub(crate) struct Outlet<T> {
    shared: Arc<Shared<T>>,
    /// What has been taken and not been looked at.
    taken: VecDeque<T>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Whether there is something to take, to be known without the lock.
    waiting: AtomicBool,
    /// Told when there is room again.
    room: Notify,
    bell: Bell,
    /// The most that waits here, before it is taken.
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    /// Whether somebody waits for room.
    awaited: bool,
    closed: bool,
}

/// A funnel that holds at most `items_max` items, which count at most `bytes_max` bytes, and half of
/// that before the driver has taken it; one item always fits.
pub(crate) fn funnel<T>(items_max: usize, bytes_max: usize, bell: Bell) -> (Funnel<T>, Outlet<T>) {
    let state = State { items: VecDeque::new(), bytes: 0, awaited: false, closed: false };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        waiting: AtomicBool::new(false),
        room: Notify::new(),
        bell,
        items_max: items_max / 2,
        bytes_max: bytes_max / 2,
    });
    (Funnel { shared: Arc::clone(&shared) }, Outlet { shared, taken: VecDeque::new() })
}

impl<T> Funnel<T> {
    /// Hands over an item that counts as `bytes`, once there is room for it.
    pub(crate) async fn push(&self, item: T, bytes: usize) -> Result<(), Closed> {
        let Some(mut item) = self.try_push(item, bytes)? else { return Ok(()) };
        loop {
            let mut room = pin!(self.shared.room.notified());
            // From here on no notice is missed: there may be room since the last look.
            room.as_mut().enable();
            item = match self.try_push(item, bytes)? {
                None => return Ok(()),
                Some(item) => item,
            };
            room.await;
        }
    }

    /// Hands over an item, or gives it back because there is no room.
    fn try_push(&self, item: T, bytes: usize) -> Result<Option<T>, Closed> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Closed);
        }
        let full = state.items.len() >= self.shared.items_max
            || state.bytes + bytes > self.shared.bytes_max;
        if full && !state.items.is_empty() {
            state.awaited = true;
            return Ok(Some(item));
        }
        let first = state.items.is_empty();
        state.bytes += bytes;
        state.items.push_back(item);
        drop(state);
        if first {
            self.shared.waiting.store(true, Ordering::Release);
            self.shared.bell.wake();
        }
        Ok(None)
    }
}

impl<T> Outlet<T> {
    /// The next item, if there is one now. Who goes to sleep is woken by the bell.
    pub(crate) fn next(&mut self) -> Option<T> {
        if self.taken.is_empty() && self.shared.waiting.swap(false, Ordering::AcqRel) {
            let mut state = self.shared.lock();
            mem::swap(&mut self.taken, &mut state.items);
            state.bytes = 0;
            let awaited = mem::take(&mut state.awaited);
            drop(state);
            if awaited {
                self.shared.room.notify_waiters();
            }
        }
        self.taken.pop_front()
    }

    /// Whether there is something to take.
    pub(crate) fn is_ready(&self) -> bool {
        !self.taken.is_empty() || self.shared.waiting.load(Ordering::Acquire)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.shared.lock().items.is_empty()
    }

    /// Lets nothing more in; what is there still comes out.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.room.notify_waiters();
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.close();
        // Who waits for an answer to something in here gets none.
        self.shared.lock().items.clear();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here can panic half-way, so a poisoned lock guards a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Funnel<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Funnel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Funnel").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn funnel<T>(items_max: usize, bytes_max: usize) -> (Funnel<T>, Outlet<T>) {
        super::funnel(items_max, bytes_max, Bell::default())
    }

    #[test]
    fn items_come_out_in_order_and_who_is_too_many_waits() {
        let (funnel, mut outlet) = funnel(4, 100);
        assert_eq!(funnel.push('a', 1).now_or_never(), Some(Ok(())));
        assert_eq!(funnel.push('b', 1).now_or_never(), Some(Ok(())));
        let mut waiting = Box::pin(funnel.push('c', 1));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        assert_eq!(outlet.next(), Some('a'));
        assert_eq!(waiting.as_mut().now_or_never(), Some(Ok(())));
        assert_eq!(outlet.next(), Some('b'));
        assert_eq!(outlet.next(), Some('c'));
        assert_eq!(outlet.next(), None);
    }

    #[test]
    fn bytes_are_bounded_but_one_item_always_fits() {
        let (funnel, mut outlet) = funnel(18, 20);
        assert_eq!(funnel.push('a', 99).now_or_never(), Some(Ok(())));
        assert_eq!(funnel.push('b', 1).now_or_never(), None);
        assert_eq!(outlet.next(), Some('a'));
        assert_eq!(funnel.push('b', 9).now_or_never(), Some(Ok(())));
        assert_eq!(funnel.push('c', 2).now_or_never(), None);
    }

    #[test]
    fn after_the_end_nothing_gets_in_and_nobody_waits() {
        let (funnel, mut outlet) = funnel(2, 100);
        assert_eq!(funnel.push('a', 1).now_or_never(), Some(Ok(())));
        let mut waiting = Box::pin(funnel.push('b', 1));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        outlet.close();
        assert_eq!(waiting.as_mut().now_or_never(), Some(Err(Closed)));
        assert!(!outlet.is_empty());
        assert_eq!(outlet.next(), Some('a'));
        assert_eq!(outlet.next(), None);
    }
}
