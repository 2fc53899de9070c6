//! The clock of a node.
//!
//! It goes on while the machine sleeps, because a lease does (rule §4): on Linux it is the boot
//! clock. Elsewhere it is the monotonic clock, which on some systems stands still meanwhile.

use roundelay_core::Time;
use std::time::{Duration, Instant};

/// A clock that began at zero when it was made. Copies are the same clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    zero: Duration,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn new() -> Self {
        Self { zero: reading() }
    }

    /// What it says.
    pub(crate) fn now(self) -> Time {
        let nanos = reading().saturating_sub(self.zero).as_nanos();
        Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(target_os = "linux")]
fn reading() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::Boottime)).expect("no clock is before its own start")
}

#[cfg(not(target_os = "linux"))]
fn reading() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

/// What the timers of the runtime go by. It stands still while the machine sleeps, so it is put
/// right when it was behind.
#[derive(Debug)]
pub(crate) struct Dial {
    clock: Clock,
    /// The clock was at zero then.
    epoch: Instant,
}

/// How far it may be behind.
const BEHIND_MAX: Duration = Duration::from_millis(1);

impl Dial {
    pub(crate) fn new(clock: Clock) -> Self {
        // As if the clock had been made now; when it is asked, it is put right.
        Self { clock, epoch: Instant::now() }
    }

    /// When the clock will say `time`, if the machine does not sleep before.
    pub(crate) fn instant(&mut self, time: Time) -> Instant {
        let now = Instant::now();
        let behind = self.clock.now().since(Time::ZERO).saturating_sub(now - self.epoch);
        if behind > BEHIND_MAX {
            self.epoch -= behind;
        }
        self.epoch + time.since(Time::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_its_copies_with_it() {
        let clock = Clock::new();
        let copy = clock;
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        let second = copy.now();
        assert!(second.since(first) >= Duration::from_millis(2), "{first:?} {second:?}");
        assert!(clock.now() >= second);
    }

    #[test]
    fn a_dial_that_is_behind_is_put_right() {
        let clock = Clock::new();
        let mut dial = Dial::new(clock);
        let at = dial.instant(Time::ZERO);
        assert_eq!(dial.instant(Time::ZERO), at, "the same instant for the same time");
        std::thread::sleep(Duration::from_millis(60));
        // As if most of that had passed while the machine slept.
        dial.epoch += Duration::from_millis(50);
        let soon = dial.instant(clock.now() + Duration::from_millis(5));
        assert!(soon <= Instant::now() + Duration::from_millis(6));
    }
}
