//! Lines about links, at a bounded rate: strangers cause them.

use roundelay_core::Time;
use std::{fmt::Write as _, time::Duration};

/// Lines that may come at once.
const BURST: u32 = 10;
/// The time for one more.
const PACE: Duration = Duration::from_millis(500);

/// The same line is not said again so soon.
const REPEAT: Duration = Duration::from_secs(1);

/// Lets lines through.
#[derive(Debug)]
pub(crate) struct Lines {
    left: u32,
    since: Time,
    kept_back: u64,
    /// The last line, and when it came: both links to a peer may tell of its end.
    last: (String, Time),
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { left: BURST, since: Time::ZERO, kept_back: 0, last: (String::new(), Time::ZERO) }
    }

    /// The line, unless there have been too many.
    pub(crate) fn admit(&mut self, mut line: String, now: Time) -> Option<String> {
        if self.last.0 == line && now.since(self.last.1) < REPEAT {
            return None;
        }
        self.last = (line.clone(), now);
        let earned = now.since(self.since).as_nanos() / PACE.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = now;
        }
        if self.left == 0 {
            self.kept_back += 1;
            return None;
        }
        self.left -= 1;
        let kept_back = std::mem::take(&mut self.kept_back);
        if kept_back > 0 {
            let told = write!(line, " (and {kept_back} lines that were kept back)");
            told.expect("a string takes everything");
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_trickle_that_counts_it() {
        let mut lines = Lines::new();
        let start = Time::from_nanos(7);
        let told = (0..1_000).filter_map(|n| lines.admit(format!("x{n}"), start)).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(
            lines.admit("y".into(), start + PACE),
            Some("y (and 990 lines that were kept back)".into())
        );
        assert_eq!(lines.admit("z".into(), start + PACE), None);
        let later = start + PACE * 100;
        let told = (0..1_000).filter_map(|n| lines.admit(format!("x{n}"), later)).count();
        assert_eq!(told, BURST as usize);
    }

    #[test]
    fn what_two_links_tell_is_one_line() {
        let mut lines = Lines::new();
        let start = Time::from_nanos(7);
        assert!(lines.admit("p2 reset the connection".into(), start).is_some());
        assert!(lines.admit("p2 reset the connection".into(), start).is_none());
        assert!(lines.admit("p3 reset the connection".into(), start).is_some());
        assert!(lines.admit("p3 reset the connection".into(), start + REPEAT).is_some());
    }
}
