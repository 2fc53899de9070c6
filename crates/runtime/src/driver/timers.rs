//! Named timers: setting one again replaces it; zero means at the batch boundary.

use roundelay_core::Time;
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// The timers that are set. There are never more than there are names.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    deadlines: BTreeMap<T, Time>,
    queue: BTreeSet<(Time, T)>,
    boundary: BTreeSet<T>,
}

impl<T: Copy + Ord> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { deadlines: BTreeMap::new(), queue: BTreeSet::new(), boundary: BTreeSet::new() }
    }

    /// Lets `timer` fire once, `after` from `now`, whatever it was set to before.
    pub(crate) fn set(&mut self, timer: T, now: Time, after: Duration) {
        self.cancel(timer);
        if after.is_zero() {
            self.boundary.insert(timer);
        } else {
            self.deadlines.insert(timer, now + after);
            self.queue.insert((now + after, timer));
        }
    }

    /// Forgets `timer`.
    pub(crate) fn cancel(&mut self, timer: T) {
        if let Some(deadline) = self.deadlines.remove(&timer) {
            self.queue.remove(&(deadline, timer));
        }
        self.boundary.remove(&timer);
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// The timer that is due longest at `now`: it is no longer set.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<T> {
        let (_, timer) = *self.queue.first().filter(|(deadline, _)| *deadline <= now)?;
        self.cancel(timer);
        Some(timer)
    }

    /// Whether any timer waits for the batch boundary.
    pub(crate) fn has_boundary(&self) -> bool {
        !self.boundary.is_empty()
    }

    /// The timers that wait for the batch boundary: they are no longer set.
    pub(crate) fn take_boundary(&mut self) -> BTreeSet<T> {
        std::mem::take(&mut self.boundary)
    }
}

/// What wakes the driver for its next deadline.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Whether it is set: one that has gone off would go off for ever.
    set: bool,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now().into())), set: false }
    }

    /// Goes off at `deadline` at the latest. One that comes too early only wakes for nothing,
    /// which is cheaper than to move it at each turn.
    pub(crate) fn set(&mut self, deadline: Instant) {
        if !self.set || deadline < self.sleep.deadline().into_std() {
            self.sleep.as_mut().reset(deadline.into());
            self.set = true;
        }
    }

    /// Whether it goes off.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.set && self.sleep.as_mut().poll(cx).is_ready() {
            self.set = false;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_timer_set_again_fires_once_at_its_new_time() {
        let mut timers = Timers::new();
        timers.set('a', ms(0), Duration::from_millis(5));
        timers.set('a', ms(1), Duration::from_millis(9));
        assert_eq!(timers.next(), Some(ms(10)));
        assert_eq!(timers.take_due(ms(9)), None);
        assert_eq!(timers.take_due(ms(10)), Some('a'));
        assert_eq!(timers.take_due(ms(99)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn the_earliest_fires_first_and_a_cancelled_one_never() {
        let mut timers = Timers::new();
        timers.set('a', ms(0), Duration::from_millis(3));
        timers.set('b', ms(0), Duration::from_millis(2));
        timers.set('c', ms(0), Duration::from_millis(1));
        timers.cancel('b');
        assert_eq!(timers.take_due(ms(9)), Some('c'));
        assert_eq!(timers.take_due(ms(9)), Some('a'));
        assert_eq!(timers.take_due(ms(9)), None);
    }

    #[test]
    fn zero_waits_for_the_boundary_and_nothing_else() {
        let mut timers = Timers::new();
        timers.set('a', ms(0), Duration::ZERO);
        timers.set('b', ms(0), Duration::ZERO);
        timers.set('b', ms(0), Duration::from_millis(1));
        assert_eq!(timers.take_due(ms(0)), None);
        assert_eq!(timers.take_boundary(), BTreeSet::from(['a']));
        assert_eq!(timers.take_boundary(), BTreeSet::new());
        assert_eq!(timers.take_due(ms(1)), Some('b'));
    }
}
