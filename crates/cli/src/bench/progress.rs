//! How far a run is: for who watches at a terminal, and for who notices that it stands still.

use super::table::number;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt,
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How often the line is drawn.
const DRAW: Duration = Duration::from_millis(200);
/// How long nothing may happen before a run counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A counter that others look at: that costs the run one store.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Nothing is done yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    /// So much is done.
    pub(super) fn set(&self, done: u64) {
        self.0.store(done, Ordering::Relaxed);
    }

    /// One more is done.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends when nothing has been done for a long time.
    pub(super) async fn stalled(&self) {
        let mut last = self.0.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(PATIENCE).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == last {
                return;
            }
            last = now;
        }
    }

    /// Draws a line on stderr, if that is a terminal, for as long as the result is kept.
    pub(super) fn show(&self, what: &'static str, all: Option<u64>) -> Option<Shown> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(all, ProgressDrawTarget::stderr());
        let template = match all {
            Some(_) => "{bar:24} {human_pos} of {human_len} {msg}, {eta} to go",
            None => "{spinner} {human_pos} {msg}, {elapsed}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a template that was tried"));
        let (shown, ended) = channel::<()>();
        let progress = self.clone();
        let draw = move || {
            let since = Instant::now();
            while ended.recv_timeout(DRAW) == Err(RecvTimeoutError::Timeout) {
                let done = progress.0.load(Ordering::Relaxed);
                let rate = number(done as f64 / since.elapsed().as_secs_f64());
                bar.set_message(format!("{what}, {rate}/s"));
                bar.set_position(done);
                bar.tick();
            }
            bar.finish_and_clear();
        };
        // A terminal that is slow to write to holds up this thread, and nobody else.
        let drawn = thread::spawn(draw);
        Some(Shown { shown: Some(shown), drawn: Some(drawn) })
    }
}

/// A line that is taken away when this is dropped.
pub(super) struct Shown {
    shown: Option<Sender<()>>,
    drawn: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.shown = None;
        // Else the line could stand behind the result.
        let _ = self.drawn.take().map(thread::JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_is_noticed_and_what_moves_is_not() {
        let progress = Progress::new();
        let moving = progress.clone();
        let since = tokio::time::Instant::now();
        let steps = async {
            for _ in 0..10 {
                tokio::time::sleep(PATIENCE / 2).await;
                moving.add();
            }
        };
        tokio::join!(progress.stalled(), steps);
        assert!(since.elapsed() > PATIENCE * 5);
    }
}
