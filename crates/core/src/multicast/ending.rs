//! The end of a view: frozen when a ballot is promised, closed when the cut is decided.

use super::{Cut, Cx, Report, Timer, gather::Ended, group::Group, log::Log, stream::Stream};
use crate::planted::Bug;
use alloc::vec::Vec;

/// Whether a rule is left out without which the cut need not be what is delivered here.
pub(super) fn is_excused(cx: &Cx<'_>) -> bool {
    [
        Bug::WedgedReceives,
        Bug::WedgedDelivers,
        Bug::ReportGrows,
        Bug::CutIsLeast,
        Bug::CountsForItself,
        Bug::GatheredEarly,
        Bug::ClosesUndelivered,
        Bug::ResendsCut,
        Bug::LearnsBeyondBase,
    ]
    .iter()
    .any(|bug| cx.has(*bug))
}

impl Group {
    /// From now on nothing is sent, acknowledged, received or delivered in this view (V2).
    pub(super) fn freeze(&mut self, cx: &mut Cx<'_>) {
        if self.frozen.is_some() {
            return;
        }
        self.frozen = Some(Report { received: self.received(cx), clock: self.log.clock });
        self.stop(cx);
    }

    /// Per position: what a restart does not take away (T9). Others let go of what they are told is
    /// here, and may be the last that have it.
    fn received(&self, cx: &Cx<'_>) -> Vec<u64> {
        let in_memory = self.standing.is_restored() || cx.has(Bug::ReportsBeforeDurable);
        let received = |(sender, stream): (usize, &Stream)| {
            // What an earlier life has left is on disk.
            if in_memory { stream.received() } else { self.receipts.of(self.me, sender) }
        };
        self.streams.iter().enumerate().map(received).collect()
    }

    /// What this member knew when it was wedged. Nothing, if it had not even got what comes before
    /// the view (V4), or an earlier life was the member and has left no log (V6, T9).
    pub(super) fn report(&self) -> Option<Report> {
        self.frozen.clone().filter(|_| !self.standing.mute || self.standing.remembers())
    }

    /// Delivers the rest of the cut, whatever the application has read (T7): it is decided, so
    /// nothing smaller can come, and those who go on all have it.
    pub(super) fn close(mut self, cut: &Cut, cx: &mut Cx<'_>) -> Log {
        self.freeze(cx);
        self.take_gathered(cut);
        for (stream, end) in self.streams.iter_mut().zip(&cut.ends) {
            let before = stream.ready();
            stream.truncate(*end);
            self.undelivered -= before - stream.ready();
            let exact = stream.received() == *end;
            assert!(
                exact || is_excused(cx),
                "the cut is gathered, and nothing beyond is delivered"
            );
        }
        assert!(!self.standing.behind || is_excused(cx), "what comes before the view is learned");
        while let Some((sequence, _, sender)) = self.head() {
            if cx.has(Bug::ClosesUndelivered) {
                self.log.position = cut.position;
                self.log.tickets.clear();
                break;
            }
            self.deliver_from(sender, sequence, cx);
        }
        if cx.has(Bug::GatheredEarly) {
            self.log.position = cut.position;
        }
        self.end(cut, cx)
    }

    /// Who stood in for an earlier life has delivered nothing; it keeps what it has gathered for
    /// others.
    pub(super) fn end_restored(mut self, cut: &Cut, cx: &mut Cx<'_>) -> Log {
        if self.standing.remembers() {
            return self.part(cx);
        }
        if let Some(gathering) = self.gathering.take() {
            self.streams = gathering.into_streams();
        }
        cx.cancel_timer(Timer::Fetch);
        if self.streams.len() == cut.stable.len() {
            return self.end(cut, cx);
        }
        self.log
    }

    /// Whether all of this cut is here.
    pub(super) fn has(&self, cut: &Cut) -> bool {
        let n = self.members.len();
        let fetched = |p: usize| self.gathering.as_ref().map_or(0, |g| g.stream(p).received());
        let received = |p: usize| self.streams[p].received().max(fetched(p));
        cut.ends.len() == n && (0..n).all(|p| received(p) >= cut.ends[p])
    }

    /// The view goes on without this life. What it has received and fetched is kept for those who go
    /// on: they may still lack it (V1).
    pub(super) fn part(mut self, cx: &mut Cx<'_>) -> Log {
        self.stop(cx);
        cx.cancel_timer(Timer::Fetch);
        self.log.part();
        let anything = Cut::founding(0);
        let mut cut = self.gathering.as_ref().map_or(anything, |gathering| gathering.cut().clone());
        self.take_gathered(&cut);
        cut.stable.clear(); // What is stable is not known: nothing is let go of.
        self.keep_for_others(&cut)
    }

    /// Everything of the view is delivered: own messages have their places, and what others may
    /// still lack is kept for them.
    fn end(mut self, cut: &Cut, cx: &mut Cx<'_>) -> Log {
        cx.cancel_timer(Timer::Fetch);
        if !cx.has(Bug::ResendsCut) {
            self.log.window.release(cut.ends[self.me]);
        }
        self.keep_for_others(cut)
    }

    fn keep_for_others(mut self, cut: &Cut) -> Log {
        let group = (self.view, self.members);
        let fragment_bytes = self.log.config.fragment_bytes;
        self.log.ended = Some(Ended::new(group, self.streams, cut, &self.limits, fragment_bytes));
        self.log
    }

    /// No timer of the view fires any more; the flush that was pending is gone, too (V2).
    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.flush_armed = false;
        self.replies = 0;
        self.repair.heartbeat_armed = false;
        self.repair.want_armed = false;
        for timer in [Timer::Flush, Timer::Heartbeat, Timer::Want] {
            cx.cancel_timer(timer);
        }
    }
}
