//! Bounded queues from the driver's thread to whoever reads: events, rumors, deliveries.

use futures_util::task::AtomicWaker;
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

/// What a reader takes out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    /// The next item, and what it was counted as.
    Item(T, usize),
    /// So many items were dropped here, because the reader did not keep up.
    Missed(u64),
}

/// A bounded queue with one reader. When it is full, the oldest items are dropped and counted.
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    reader: AtomicWaker,
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    missed: u64,
    closed: bool,
}

impl<T> Mailbox<T> {
    /// An empty mailbox for at most `items_max` items that count at most `bytes_max` bytes.
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, missed: 0, closed: false };
        Self { state: Mutex::new(state), reader: AtomicWaker::new(), items_max, bytes_max }
    }

    /// Adds an item that counts as `bytes`, and drops the oldest ones if there are too many. The
    /// reader hears of it with the next [`Mailbox::wake`]: once for many items.
    pub(crate) fn push(&self, item: T, bytes: usize) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.items.push_back((item, bytes));
        state.bytes = state.bytes.saturating_add(bytes);
        self.bound(&mut state);
    }

    fn bound(&self, state: &mut State<T>) {
        while state.items.len() > self.items_max
            || (state.bytes > self.bytes_max && state.items.len() > 1)
        {
            let (_, bytes) = state.items.pop_front().expect("more items than the limit");
            state.bytes -= bytes;
            state.missed += 1;
        }
    }

    /// Adds all of `items`, with what each counts as.
    pub(crate) fn append(&self, items: &mut VecDeque<(T, usize)>) {
        let mut state = self.lock();
        if state.closed {
            return items.clear();
        }
        state.bytes = items.iter().fold(state.bytes, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if state.items.is_empty() {
            std::mem::swap(&mut state.items, items);
        } else {
            state.items.append(items);
        }
        self.bound(&mut state);
    }

    /// Takes everything out, to `items`, which is empty.
    pub(crate) fn poll_all(
        &self,
        items: &mut VecDeque<(T, usize)>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<()>> {
        for again in [false, true] {
            let mut state = self.lock();
            if !state.items.is_empty() {
                state.bytes = 0;
                std::mem::swap(&mut state.items, items);
                return Poll::Ready(Some(()));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            drop(state);
            if !again {
                self.reader.register(cx.waker());
                // Again: an item may have come before the waker was there to be woken.
            }
        }
        Poll::Pending
    }

    /// Puts back what was taken and not read.
    pub(crate) fn put_back(&self, items: &mut VecDeque<(T, usize)>) {
        let mut state = self.lock();
        state.bytes = items.iter().fold(state.bytes, |sum, (_, bytes)| sum.saturating_add(*bytes));
        items.append(&mut state.items);
        std::mem::swap(&mut state.items, items);
    }

    /// Tells the reader that there is something to read.
    pub(crate) fn wake(&self) {
        self.reader.wake();
    }

    /// Ends the stream behind what is in it.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake();
    }

    /// Forgets everything that has not been read, and returns what it counted as.
    pub(crate) fn clear(&self) -> usize {
        let mut state = self.lock();
        state.items.clear();
        state.missed = 0;
        std::mem::take(&mut state.bytes)
    }

    /// The next item, if there is one; none at all after the end.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Taken<T>>> {
        let taken = self.take();
        if taken.is_ready() {
            return taken;
        }
        self.reader.register(cx.waker());
        // Again: an item may have come before the waker was there to be woken.
        self.take()
    }

    fn take(&self) -> Poll<Option<Taken<T>>> {
        let mut state = self.lock();
        if state.missed > 0 {
            return Poll::Ready(Some(Taken::Missed(std::mem::take(&mut state.missed))));
        }
        match state.items.pop_front() {
            Some((item, bytes)) => {
                state.bytes -= bytes;
                Poll::Ready(Some(Taken::Item(item, bytes)))
            }
            None if state.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here can panic half-way, so a poisoned lock guards a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// All who want to hear something, each with a mailbox of its own.
pub(crate) struct Subscribers<T> {
    mailboxes: Mutex<Mailboxes<T>>,
}

struct Mailboxes<T> {
    open: Vec<Weak<Mailbox<T>>>,
    closed: bool,
}

impl<T: Clone> Subscribers<T> {
    pub(crate) fn new() -> Self {
        Self { mailboxes: Mutex::new(Mailboxes { open: Vec::new(), closed: false }) }
    }

    /// A mailbox that gets everything from now on, for as long as somebody holds it.
    pub(crate) fn subscribe(&self, items_max: usize, bytes_max: usize) -> Arc<Mailbox<T>> {
        let mailbox = Arc::new(Mailbox::new(items_max, bytes_max));
        let mut mailboxes = self.lock();
        if mailboxes.closed {
            mailbox.close();
        } else {
            mailboxes.open.push(Arc::downgrade(&mailbox));
        }
        mailbox
    }

    /// Gives everything from now on to this mailbox, too.
    pub(crate) fn adopt(&self, mailbox: &Arc<Mailbox<T>>) {
        self.lock().open.push(Arc::downgrade(mailbox));
    }

    /// Gives `item`, which counts as `bytes`, to everyone.
    pub(crate) fn push(&self, item: &T, bytes: usize) {
        self.lock().open.retain(|mailbox| match mailbox.upgrade() {
            Some(mailbox) => {
                mailbox.push(item.clone(), bytes);
                true
            }
            None => false,
        });
    }

    /// Tells all readers that there is something to read.
    pub(crate) fn wake(&self) {
        self.lock().open.iter().filter_map(Weak::upgrade).for_each(|mailbox| mailbox.wake());
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        let mut mailboxes = self.lock();
        mailboxes.closed = true;
        for mailbox in mailboxes.open.drain(..) {
            if let Some(mailbox) = mailbox.upgrade() {
                mailbox.close();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mailboxes<T>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Subscribers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;

    fn taken<T>(mailbox: &Mailbox<T>) -> Poll<Option<Taken<T>>> {
        mailbox.poll(&mut Context::from_waker(noop_waker_ref()))
    }

    #[test]
    fn a_reader_that_lags_is_told_how_much_it_missed() {
        let mailbox = Mailbox::new(3, 100);
        (0..5).for_each(|n| mailbox.push(n, 1));
        assert_eq!(taken(&mailbox), Poll::Ready(Some(Taken::Missed(2))));
        for n in 2..5 {
            assert_eq!(taken(&mailbox), Poll::Ready(Some(Taken::Item(n, 1))));
        }
        assert_eq!(taken(&mailbox), Poll::Pending);
    }

    #[test]
    fn bytes_are_bounded_but_one_item_always_fits() {
        let mailbox = Mailbox::new(100, 10);
        mailbox.push('a', 6);
        mailbox.push('b', 6);
        assert_eq!(taken(&mailbox), Poll::Ready(Some(Taken::Missed(1))));
        mailbox.push('c', 60);
        assert_eq!(taken(&mailbox), Poll::Ready(Some(Taken::Missed(1))));
        assert_eq!(taken(&mailbox), Poll::Ready(Some(Taken::Item('c', 60))));
    }

    #[test]
    fn the_end_comes_behind_what_was_said_before() {
        let subscribers = Subscribers::new();
        let mailbox = subscribers.subscribe(10, 100);
        subscribers.push(&1, 1);
        subscribers.close();
        subscribers.push(&2, 1);
        assert_eq!(taken(&mailbox), Poll::Ready(Some(Taken::Item(1, 1))));
        assert_eq!(taken(&mailbox), Poll::Ready(None));
        assert_eq!(taken(&subscribers.subscribe(10, 100)), Poll::Ready(None));
    }
}
