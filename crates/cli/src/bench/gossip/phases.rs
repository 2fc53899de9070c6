//! What is measured of the gossip, one after the other.

use super::{
    super::machine::{Sent, cpu_us, rss_kb},
    nodes::{Counts, Nodes},
    tracker::Spread,
};
use std::{ops::Range, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How long the oldest rumor may keep the closed loop from going on.
const STALL: Duration = Duration::from_secs(3);

/// Nodes that have nothing to do.
pub(super) struct Idle {
    pub(super) secs: f64,
    pub(super) sent: Sent,
    pub(super) cpu_us: u64,
    /// What the process keeps in memory at the end, in kB.
    pub(super) rss_kb: u64,
}

/// One rumor after the other, each at another node.
pub(super) struct Sequential {
    pub(super) secs: f64,
    pub(super) sent: Sent,
    pub(super) counts: Counts,
    pub(super) spread: Spread,
}

/// So many rumors under way, each at another node.
pub(super) struct Loop {
    pub(super) secs: f64,
    pub(super) sent: Sent,
    pub(super) cpu_us: u64,
    pub(super) counts: Counts,
    /// How many were said.
    pub(super) said: usize,
    /// How many of them had reached all when the time was over.
    pub(super) complete: usize,
}

/// Rumors that one node says as fast as it can.
pub(super) struct Burst {
    pub(super) secs: f64,
    pub(super) spread: Spread,
}

impl Idle {
    pub(super) async fn measure(nodes: &Nodes, span: Duration) -> Self {
        let (since, cpu, sent) = (Instant::now(), cpu_us(), nodes.devices.sent());
        sleep(span).await;
        let cpu_us = cpu_us() - cpu;
        let sent = nodes.devices.sent().since(sent);
        Self { secs: since.elapsed().as_secs_f64(), sent, cpu_us, rss_kb: rss_kb() }
    }
}

impl Sequential {
    pub(super) async fn measure(
        nodes: &Nodes,
        count: usize,
        gap: Duration,
    ) -> anyhow::Result<Self> {
        let (before, sent) = (nodes.counts().await, nodes.devices.sent());
        let since = Instant::now();
        let mut due = interval(gap);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0..count {
            due.tick().await;
            // Seven has no factor in common with most numbers of nodes: the origins differ.
            nodes.say(number, number * 7 % nodes.count()).await?;
        }
        nodes.settle(0..count).await;
        let secs = since.elapsed().as_secs_f64();
        let sent = nodes.devices.sent().since(sent);
        let counts = nodes.counts().await.since(before);
        Ok(Self { secs, sent, counts, spread: nodes.tracker.spread(0..count) })
    }
}

impl Loop {
    /// Says rumors of this range, as long as there are some, for `span`.
    pub(super) async fn measure(
        nodes: &Nodes,
        rumors: Range<usize>,
        window: usize,
        span: Duration,
    ) -> anyhow::Result<Self> {
        let tracker = &nodes.tracker;
        let before = nodes.counts().await;
        let (since, cpu, sent) = (Instant::now(), cpu_us(), nodes.devices.sent());
        let (mut oldest, mut next) = (rumors.start, rumors.start);
        let mut moved = Instant::now();
        while since.elapsed() < span && next < rumors.end {
            while oldest < next && tracker.is_complete(oldest) {
                oldest += 1;
                moved = Instant::now();
            }
            if next - oldest < window {
                nodes.say(next, next % nodes.count()).await?;
                next += 1;
            } else if timeout(STALL, tracker.complete.notified()).await.is_err()
                || moved.elapsed() > STALL
            {
                // The measurement goes on without it; it is missed at the end.
                oldest += 1;
                moved = Instant::now();
            }
        }
        let secs = since.elapsed().as_secs_f64();
        let cpu_us = cpu_us() - cpu;
        let sent = nodes.devices.sent().since(sent);
        let said = rumors.start..next;
        let complete = said.clone().filter(|number| tracker.is_complete(*number)).count();
        nodes.settle(said.clone()).await;
        let counts = nodes.counts().await.since(before);
        Ok(Self { secs, sent, cpu_us, counts, said: said.len(), complete })
    }
}

impl Burst {
    pub(super) async fn measure(nodes: &Nodes, rumors: Range<usize>) -> anyhow::Result<Self> {
        for number in rumors.clone() {
            nodes.say(number, 0).await?;
        }
        nodes.settle(rumors.clone()).await;
        let secs = nodes.tracker.seconds(rumors.clone());
        Ok(Self { secs, spread: nodes.tracker.spread(rumors) })
    }
}
