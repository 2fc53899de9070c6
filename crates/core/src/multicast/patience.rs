//! How long a member has for an acknowledgement before it is taken for lost.

use crate::time::Time;
use core::time::Duration;

/// How often the time doubles while there is no progress, and how much longer than configured it
/// may become in all.
const DOUBLINGS_MAX: u32 = 4;

/// The time in which a member is expected to acknowledge: what it has taken of late, smoothed, and
/// four times its deviation (RFC 6298), but at least as configured and at most sixteen times that.
///
/// In nanoseconds, since it is reckoned with each acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Patience {
    least: u64,
    /// None: nothing has been measured.
    smoothed: Option<u64>,
    deviation: u64,
    /// How often it was in vain.
    doublings: u32,
}

impl Patience {
    pub(super) fn new(least: Duration) -> Self {
        let least = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
        Self { least, smoothed: None, deviation: 0, doublings: 0 }
    }

    /// How long to wait now.
    pub(super) fn span(&self) -> Duration {
        let measured =
            self.smoothed.map_or(0, |time| time.saturating_add(self.deviation.saturating_mul(4)));
        let most = self.least.saturating_mul(1 << DOUBLINGS_MAX);
        let doubled = measured.max(self.least).saturating_mul(1 << self.doublings);
        Duration::from_nanos(doubled.min(most))
    }

    /// An acknowledgement that comes at `now` is for what was sent then.
    pub(super) fn measure(&mut self, sent: Time, now: Time) {
        let time = now.as_nanos().saturating_sub(sent.as_nanos());
        let Some(smoothed) = self.smoothed else {
            (self.smoothed, self.deviation) = (Some(time), time / 2);
            return;
        };
        // Each part by itself, so that nothing overflows.
        self.deviation = self.deviation - self.deviation / 4 + smoothed.abs_diff(time) / 4;
        self.smoothed = Some(smoothed - smoothed / 8 + time / 8);
    }

    /// There was none in time.
    pub(super) fn lose(&mut self) {
        self.doublings = DOUBLINGS_MAX.min(self.doublings + 1);
    }

    /// There is progress.
    pub(super) fn regain(&mut self) {
        self.doublings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_doubles_in_vain_up_to_sixteen_times() {
        let mut patience = Patience::new(ms(100));
        for expected in [100, 200, 400, 800, 1600, 1600] {
            assert_eq!(patience.span(), ms(expected));
            patience.lose();
        }
        patience.regain();
        assert_eq!(patience.span(), ms(100));
    }

    fn measure(patience: &mut Patience, time: Duration) {
        patience.measure(Time::ZERO, Time::ZERO + time);
    }

    #[test]
    fn it_follows_what_is_measured() {
        let mut patience = Patience::new(ms(100));
        measure(&mut patience, ms(2));
        assert_eq!(patience.span(), ms(100), "at least as configured");
        for _ in 0..100 {
            measure(&mut patience, ms(500));
        }
        assert!(patience.span() >= ms(499) && patience.span() < ms(510), "{:?}", patience.span());
        measure(&mut patience, ms(900));
        assert!(patience.span() > ms(900), "it deviates: {:?}", patience.span());
        for _ in 0..100 {
            measure(&mut patience, ms(5000));
        }
        assert_eq!(patience.span(), ms(1600), "at most sixteen times as configured");
    }
}
