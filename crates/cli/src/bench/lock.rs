//! The contended lock: every client wants it again as soon as it has given it back.

use super::{
    finish,
    fleet::{self, Fleet},
    loopback_packets,
    node::{self, Seen},
    now_ns,
};
use crate::args::bench::BenchLock;
use hdrhistogram::Histogram;
use roundelay::{LockName, Node};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, process::ExitCode, time::Duration};
use tokio::task::JoinSet;

/// What each process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Work {
    clients: u16,
    hold: Duration,
    /// How long, the warm-up included.
    span: Duration,
}

/// One grant, with the times in nanoseconds of the machine's monotonic clock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Grant {
    fence: u64,
    client: u16,
    asked: u64,
    granted: u64,
    /// When the release began.
    released: u64,
}

/// The result. Names and definitions are those of `docs/performance.md`.
#[derive(Debug, Serialize)]
struct Outcome {
    sys: &'static str,
    what: &'static str,
    n: u16,
    clients: u32,
    hold_us: f64,
    secs: f64,
    grants: u64,
    /// Acquisitions per second.
    rate: f64,
    /// The fewest grants of a client over the most.
    fairness: f64,
    /// How many of a hundred grants went to another client.
    handoffs_pct: f64,
    /// The time of a hand-off in microseconds: from the release to the grant of another client.
    p50us: f64,
    p99us: f64,
    p999us: f64,
    /// The time of a wait in microseconds.
    wait_p50us: f64,
    wait_p99us: f64,
    packets_per_grant: f64,
    cpu_us_per_grant: f64,
    violations: usize,
}

/// Measures.
pub(super) async fn run(args: BenchLock) -> anyhow::Result<ExitCode> {
    let span = args.warmup + args.duration;
    let hold = args.hold.unwrap_or_default();
    let work = Work { clients: args.clients, hold, span };
    let nodes = usize::from(args.shared.nodes);
    let mut fleet = Fleet::start(nodes, args.shared.pin, &node::Work::Lock(work)).await?;
    let (packets, since) = (loopback_packets(), now_ns());
    let done = fleet.work(span).await?;
    let packets = loopback_packets() - packets;
    fleet.leave().await?;
    let cpu_us: u64 = done.iter().map(|done| done.cpu_us).sum();
    let mut history = History::default();
    for (index, done) in done.into_iter().enumerate() {
        let Seen::Lock(grants) = done.seen else { unreachable!("it was told to lock") };
        history.add(index, grants);
    }
    let window = since + nanos(args.warmup)..since + nanos(span);
    let all = history.grants.len() as f64;
    let measured = history.measure(&window)?;
    let outcome = Outcome {
        sys: "roundelay",
        what: "lock",
        n: args.shared.nodes,
        clients: u32::from(args.clients) * u32::from(args.shared.nodes),
        hold_us: hold.as_secs_f64() * 1e6,
        secs: args.duration.as_secs_f64(),
        grants: measured.waits.len(),
        rate: measured.waits.len() as f64 / args.duration.as_secs_f64(),
        fairness: measured.fairness,
        handoffs_pct: 100.0 * measured.handoffs.len() as f64 / measured.waits.len().max(1) as f64,
        p50us: micros(&measured.handoffs, 0.5),
        p99us: micros(&measured.handoffs, 0.99),
        p999us: micros(&measured.handoffs, 0.999),
        wait_p50us: micros(&measured.waits, 0.5),
        wait_p99us: micros(&measured.waits, 0.99),
        packets_per_grant: packets as f64 / all,
        cpu_us_per_grant: cpu_us as f64 / all,
        violations: history.broken.len(),
    };
    finish(&outcome, &outcome.for_people(), &history.broken, &args.shared)
}

/// What one process does: its clients lock as fast as they can.
pub(super) async fn work(node: &Node, work: &Work) -> anyhow::Result<Vec<Grant>> {
    let end = now_ns() + nanos(work.span);
    let mut clients = JoinSet::new();
    for client in 0..work.clients {
        clients.spawn(lock_until(node.clone(), client, work.hold, end));
    }
    let mut all = Vec::new();
    while let Some(grants) = clients.join_next().await {
        all.extend(grants??);
    }
    Ok(all)
}

async fn lock_until(
    node: Node,
    client: u16,
    hold: Duration,
    end: u64,
) -> anyhow::Result<Vec<Grant>> {
    let mut grants = Vec::new();
    loop {
        let asked = now_ns();
        if asked >= end {
            return Ok(grants);
        }
        let guard = node.lock(LockName::default_lock()).await?;
        let granted = now_ns();
        if !hold.is_zero() {
            tokio::time::sleep(hold).await;
        }
        let fence = guard.fence();
        let released = now_ns();
        guard.release().await;
        grants.push(Grant { fence, client, asked, granted, released });
    }
}

/// All grants of all processes, in the order of their fences.
#[derive(Default)]
struct History {
    grants: BTreeMap<u64, ((usize, u16), Grant)>,
    broken: Vec<String>,
}

struct Measured {
    waits: Histogram<u64>,
    handoffs: Histogram<u64>,
    fairness: f64,
}

impl History {
    fn add(&mut self, node: usize, grants: Vec<Grant>) {
        for grant in grants {
            let who = (node, grant.client);
            if let Some((other, _)) = self.grants.insert(grant.fence, (who, grant)) {
                let (node, other) = (fleet::name(node), fleet::name(other.0));
                self.broken.push(format!("{node} and {other} both have the fence {}", grant.fence));
            }
        }
    }

    /// Checks all grants, and measures those that were made in this span of time.
    fn measure(&mut self, window: &std::ops::Range<u64>) -> anyhow::Result<Measured> {
        let mut waits = Histogram::new(3)?;
        let mut handoffs = Histogram::new(3)?;
        let mut counts: BTreeMap<(usize, u16), u64> = BTreeMap::new();
        let mut last: Option<((usize, u16), Grant)> = None;
        for (who, grant) in self.grants.values() {
            counts.entry(*who).or_default();
            let fence_before = last.map_or(0, |(_, last)| last.fence);
            if grant.fence != fence_before + 1 {
                self.broken.push(format!("the fence {} follows {fence_before}", grant.fence));
            }
            let free_since = last.map_or(0, |(_, last)| last.released);
            if grant.granted < free_since {
                self.broken.push(format!(
                    "{} has the lock under the fence {} before {} has released it",
                    fleet::name(who.0),
                    grant.fence,
                    last.map_or(String::new(), |((node, _), _)| fleet::name(node)),
                ));
            }
            if window.contains(&grant.granted) {
                *counts.entry(*who).or_default() += 1;
                waits.record(grant.granted - grant.asked)?;
                if last.is_some_and(|(owner, _)| owner != *who) {
                    handoffs.record(grant.granted.saturating_sub(free_since))?;
                }
            }
            last = Some((*who, *grant));
        }
        let fewest = counts.values().min().copied().unwrap_or(0);
        let most = counts.values().max().copied().unwrap_or(0);
        Ok(Measured { waits, handoffs, fairness: fewest as f64 / most.max(1) as f64 })
    }
}

impl Outcome {
    fn for_people(&self) -> String {
        format!(
            "lock: {} processes, {} clients, {:.0} grants/s for {:.1} s, {:.0} % hand-offs\n\
             hand-off    p50 {:.1} us   p99 {:.1} us   p99.9 {:.1} us\n\
             wait        p50 {:.1} us   p99 {:.1} us\n\
             fairness {:.3}   packets/grant {:.2}   cpu/grant {:.1} us   violations {}",
            self.n,
            self.clients,
            self.rate,
            self.secs,
            self.handoffs_pct,
            self.p50us,
            self.p99us,
            self.p999us,
            self.wait_p50us,
            self.wait_p99us,
            self.fairness,
            self.packets_per_grant,
            self.cpu_us_per_grant,
            self.violations,
        )
    }
}

fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(fence: u64, granted: u64, released: u64) -> Grant {
        Grant { fence, client: 0, asked: granted - 5, granted, released }
    }

    #[test]
    fn hand_offs_are_measured_from_the_release_of_another() {
        let mut history = History::default();
        history.add(0, vec![grant(1, 10, 20), grant(2, 21, 30)]);
        history.add(1, vec![grant(3, 37, 40)]);
        let measured = history.measure(&(0..100)).unwrap();
        assert_eq!((measured.waits.len(), measured.handoffs.len()), (3, 1));
        assert_eq!(measured.handoffs.max(), 7);
        assert!((measured.fairness - 0.5).abs() < 1e-9);
        assert!(history.broken.is_empty());
    }

    #[test]
    fn what_is_promised_is_checked() {
        let broken = |grants: Vec<Grant>| {
            let mut history = History::default();
            history.add(0, vec![grant(1, 10, 20)]);
            history.add(1, grants);
            history.measure(&(0..100)).unwrap();
            history.broken.join("; ")
        };
        assert!(broken(vec![grant(2, 19, 25)]).contains("before n1 has released"));
        assert!(broken(vec![grant(3, 21, 25)]).contains("the fence 3 follows 1"));
        assert!(broken(vec![grant(1, 21, 25)]).contains("both have the fence 1"));
        assert!(broken(vec![grant(2, 20, 25)]).is_empty());
    }
}
