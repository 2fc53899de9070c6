//! A node's own clock: an epoch of its own, and a rate that is not quite right.

use crate::dice::nanos;
use core::time::Duration;
use roundelay_core::time::Time;

const MILLION: u128 = 1_000_000;

/// How a node's clock relates to true time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// What it shows at the true time zero.
    pub epoch: Duration,
    /// By how many parts per million it runs slow. (A fast clock among right ones is the same as
    /// a right clock among slow ones.)
    pub slow_ppm: u32,
}

impl Clock {
    /// What the clock shows at this true time.
    pub fn shows(self, now: Time) -> Time {
        let ticks = u128::from(now.as_nanos()) * (MILLION - u128::from(self.slow_ppm)) / MILLION;
        Time::ZERO + self.epoch + Duration::from_nanos(ticks as u64)
    }

    /// How much true time passes until the clock has gone on by `span`: rounded up, since timers
    /// never fire early.
    pub fn true_span(self, span: Duration) -> Duration {
        let rate = MILLION - u128::from(self.slow_ppm);
        let span = u128::from(nanos(span)) * MILLION;
        Duration::from_nanos(u64::try_from(span.div_ceil(rate) + 1).unwrap_or(u64::MAX))
    }
}

/// What a node's clock shows at one moment, and how it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What it shows.
    pub shows: Time,
    /// By how many parts per million it runs slow.
    pub slow_ppm: u32,
}

impl Reading {
    /// When the clock that is read at the true time `now` shows `own`: `now`, if that is over.
    pub fn when(self, now: Time, own: Time) -> Time {
        let left = own.since(self.shows);
        if left.is_zero() {
            return now;
        }
        now + Clock { epoch: Duration::ZERO, slow_ppm: self.slow_ppm }.true_span(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_tells_when_the_clock_gets_there() {
        let clock = Clock { epoch: Duration::from_secs(99), slow_ppm: 10_000 };
        let now = Time::from_nanos(5_000_000_000);
        let reading = Reading { shows: clock.shows(now), slow_ppm: 10_000 };
        let own = reading.shows + Duration::from_secs(1);
        let when = reading.when(now, own);
        assert!(clock.shows(when) >= own && when.since(now) < Duration::from_millis(1011));
        assert_eq!(reading.when(now, Time::ZERO), now);
    }

    #[test]
    fn a_timer_is_never_early_on_its_own_clock() {
        let second = Duration::from_secs(1);
        for slow_ppm in [0, 1, 333, 10_000] {
            let clock = Clock { epoch: Duration::from_secs(99), slow_ppm };
            for now in [0, 1, 999_999_999, 123_456_789_123] {
                let now = Time::from_nanos(now);
                let fires = now + clock.true_span(second);
                let passed = clock.shows(fires).since(clock.shows(now));
                assert!(passed >= second && passed < second + Duration::from_nanos(4));
            }
        }
    }
}
