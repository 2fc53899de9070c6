//! How far a sweep is: a bar at a terminal, elsewhere a line now and then.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Where the progress is shown: on stderr, since the results go to stdout.
pub(super) struct Progress {
    bar: ProgressBar,
    count: u64,
    since: Instant,
    /// When the next line is due, where lines are written.
    line_at: Cell<Option<Instant>>,
}

impl Progress {
    /// For so many seeds.
    pub(super) fn new(count: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let since = Instant::now();
        let line_at = Cell::new((!terminal).then(|| since + LINE_EVERY));
        let bar = ProgressBar::with_draw_target(Some(count), target);
        let style = "{bar:30} {human_pos} of {human_len} seeds, {msg} seeds/s, {eta} to go";
        bar.set_style(ProgressStyle::with_template(style).expect("a template that was tried"));
        Self { bar, count, since, line_at }
    }

    /// For tests, which show none.
    #[cfg(test)]
    pub(super) fn hidden() -> Self {
        let (bar, since) = (ProgressBar::hidden(), Instant::now());
        Self { bar, count: 0, since, line_at: Cell::new(None) }
    }

    /// So many are done.
    pub(super) fn show(&self, done: u64) {
        let rate = super::per_second(done, self.since.elapsed());
        self.bar.set_position(done);
        self.bar.set_message(crate::output::grouped(rate));
        let now = Instant::now();
        if self.line_at.get().is_some_and(|at| at <= now) {
            self.line_at.set(Some(now + LINE_EVERY));
            let left = (self.count - done) / rate.max(1);
            // Without stderr there is nobody to tell.
            let _ = writeln!(
                io::stderr(),
                "{done} of {} seeds, {rate} per second, {left} s to go",
                self.count,
            );
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
