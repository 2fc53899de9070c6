//! Messages at random times: a Poisson process.

use crate::words;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng};
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Whoever was held up for longer than this does not make up for it.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Says when the next text is due, and which.
#[derive(Debug)]
pub(crate) struct Generator {
    rng: ChaCha8Rng,
    /// Texts per second, and when the next is due; none while it is stopped.
    running: Option<(f64, Instant)>,
}

impl Generator {
    /// A generator that begins with this rate, or stopped.
    pub(crate) fn new(rate: Option<f64>) -> Self {
        // The standard library asks the system for these bits.
        Self::seeded(RandomState::new().hash_one("generator"), rate)
    }

    fn seeded(seed: u64, rate: Option<f64>) -> Self {
        let mut generator = Self { rng: ChaCha8Rng::seed_from_u64(seed), running: None };
        if let Some(rate) = rate {
            generator.start(rate);
        }
        generator
    }

    /// Goes on at this many texts per second.
    pub(crate) fn start(&mut self, rate: f64) {
        let due = Instant::now() + self.gap(rate);
        self.running = Some((rate, due));
    }

    /// Stops. Says whether it was running.
    pub(crate) fn stop(&mut self) -> bool {
        self.running.take().is_some()
    }

    /// The next text, when it is due; never while stopped. Nothing is lost if the wait for this is
    /// given up.
    pub(crate) async fn next(&mut self) -> String {
        let Some((rate, due)) = self.running else {
            return std::future::pending().await;
        };
        sleep_until(due).await;
        // From when it was due, not from now: else each delay would lower the rate.
        let earliest = Instant::now().checked_sub(BEHIND_MAX).unwrap_or(due);
        self.running = Some((rate, due.max(earliest) + self.gap(rate)));
        words::text(|bound| below(&mut self.rng, bound))
    }

    /// The time between two events of a Poisson process is exponentially distributed.
    fn gap(&mut self, rate: f64) -> Duration {
        Duration::try_from_secs_f64(-(1.0 - unit(&mut self.rng)).ln() / rate)
            .unwrap_or(Duration::MAX / 4)
            .min(Duration::from_hours(24))
    }
}

/// A random number from 0 to just below 1.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / (f64::from(u32::MAX) + 1.0)
}

/// A random number below `bound`, which is small.
fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("a list of words is short");
    ((u64::from(rng.next_u32()) * bound) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential() {
        let mut generator = Generator::seeded(7, None);
        let count = 20_000;
        let gaps: Vec<f64> = (0..count).map(|_| generator.gap(50.0).as_secs_f64()).collect();
        let count = f64::from(count);
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        assert!((mean * 50.0 - 1.0).abs() < 0.03, "{mean}");
        // Mean and deviation of an exponential distribution are the same.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{}", variance.sqrt() / mean);
    }

    #[tokio::test]
    async fn the_rate_is_kept_although_timers_are_late() {
        tokio::time::pause();
        let mut generator = Generator::seeded(1, Some(5000.0));
        let until = Instant::now() + Duration::from_secs(2);
        let mut count = 0;
        while Instant::now() < until {
            assert_eq!(generator.next().await.split(' ').count(), 3);
            count += 1;
        }
        assert!((9_500..10_500).contains(&count), "{count}");
        assert!(generator.stop());
        assert!(!generator.stop());
        let wait = Duration::from_mins(1);
        assert!(tokio::time::timeout(wait, generator.next()).await.is_err());
    }
}
