//! The lock where the token rests: one client that locks and unlocks, and nobody else.

use super::{
    super::{
        finish,
        fleet::{self, Ran},
        histogram,
        machine::now_ns,
        member::{self, Cost, Member},
        micros, per,
        table::{Table, number},
    },
    nanos, times,
};
use crate::args::bench::BenchLock;
use roundelay::{LockName, Node};
use serde::{Deserialize, Serialize};
use std::{process::ExitCode, time::Duration};

/// How long the last acknowledgements may be on their way after the token has come: they are late,
/// so that one answers for many.
const ACKNOWLEDGED: Duration = Duration::from_millis(500);

/// What each member does: the first one locks, the others are there.
#[derive(Clone, Debug)]
struct Work {
    warmup: Duration,
    duration: Duration,
}

/// What a member says. Names and definitions are those of `docs/performance.md`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Figures {
    id: usize,
    got: u64,
    bad: u64,
    rate: f64,
    p50us: f64,
    p99us: f64,
    p999us: f64,
    #[serde(flatten)]
    cost: Cost,
}

/// The result. Names and definitions are those of `docs/performance.md`.
#[derive(Debug, Serialize)]
struct Outcome {
    sys: &'static str,
    what: &'static str,
    n: usize,
    secs: f64,
    pairs: u64,
    rate: f64,
    p50us: f64,
    p99us: f64,
    p999us: f64,
    lock_messages: u64,
    packets: u64,
    packets_per_pair: f64,
    cpu_us_per_pair: f64,
    violations: usize,
}

/// Measures.
pub(super) async fn run(args: BenchLock) -> anyhow::Result<ExitCode> {
    let work = Work { warmup: args.warmup, duration: args.duration };
    match fleet::run(&args.members, &args.judge, &work).await? {
        Ran::Alone(figures) => finish(&figures, None, &figures.broken(), &args.judge),
        Ran::All(all) => {
            let broken: Vec<String> = all.iter().flat_map(Figures::broken).collect();
            let outcome = work.outcome(&all, broken.len());
            finish(&outcome, Some(&outcome.for_people()), &broken, &args.judge)
        }
    }
}

impl member::Work for Work {
    type Figures = Figures;

    fn flags(&self) -> Vec<String> {
        let mut flags = vec!["lock".to_owned(), "--relock".into()];
        flags.extend(times(self.warmup, self.duration));
        flags
    }

    fn goal(&self) -> (&'static str, Option<u64>) {
        ("pairs", None)
    }

    async fn run(&self, member: &mut Member) -> anyhow::Result<Figures> {
        let node = member.node.clone();
        if member.index == 0 {
            // The token comes here, and from now on it rests.
            node.lock(LockName::default_lock()).await?.release().await;
            tokio::time::sleep(ACKNOWLEDGED).await;
        }
        member.meet().await?;
        let resting = member.spent();
        let mut figures = Figures { id: member.index + 1, ..Figures::default() };
        if member.index == 0 {
            let warmup = pairs(&node, self.warmup, 1, member).await?;
            let before = member.spent();
            let measured = pairs(&node, self.duration, warmup.fence, member).await?;
            figures.cost = member.spent().since(before);
            figures.got = measured.times.len();
            figures.bad = warmup.gaps + measured.gaps;
            figures.rate = per(figures.got as f64, self.duration.as_secs_f64());
            let quantile = |quantile| micros(&measured.times, quantile);
            (figures.p50us, figures.p99us, figures.p999us) =
                (quantile(0.5), quantile(0.99), quantile(0.999));
        } else {
            // The others have nothing to do: this is no standstill.
            let resting = async {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    member.progress.add();
                }
            };
            let () = tokio::time::timeout(self.warmup + self.duration, resting)
                .await
                .unwrap_or_default();
        }
        // Of the warm-up, too.
        figures.cost.lock_messages = member.spent().since(resting).lock_messages;
        member.meet().await?;
        Ok(figures)
    }
}

/// What locking and unlocking came to.
struct Pairs {
    times: hdrhistogram::Histogram<u64>,
    fence: u64,
    gaps: u64,
}

async fn pairs(
    node: &Node,
    span: Duration,
    mut fence: u64,
    member: &Member,
) -> anyhow::Result<Pairs> {
    let (mut times, mut gaps) = (histogram(), 0);
    let mut since = now_ns();
    let end = since + nanos(span);
    while since < end {
        let guard = node.lock(LockName::default_lock()).await?;
        gaps += u64::from(guard.fence() != fence + 1);
        fence = guard.fence();
        guard.release().await;
        let now = now_ns();
        times.saturating_record(now - since);
        since = now;
        member.progress.add();
    }
    Ok(Pairs { times, fence, gaps })
}

impl Figures {
    /// Which promises are broken.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.bad > 0 {
            broken.push(format!("{} grants do not have the next fence", self.bad));
        }
        if self.cost.lock_messages > 0 {
            broken.push(format!(
                "{} has sent {} messages of a lock whose token rests",
                member::name(self.id - 1),
                self.cost.lock_messages,
            ));
        }
        broken
    }
}

impl Work {
    fn outcome(&self, all: &[Figures], violations: usize) -> Outcome {
        let Figures { got, rate, p50us, p99us, p999us, cost, .. } = all[0];
        Outcome {
            sys: "roundelay",
            what: "relock",
            n: all.len(),
            secs: self.duration.as_secs_f64(),
            pairs: got,
            rate,
            p50us,
            p99us,
            p999us,
            lock_messages: all.iter().map(|one| one.cost.lock_messages).sum(),
            packets: cost.packets,
            packets_per_pair: per(cost.packets as f64, got as f64),
            cpu_us_per_pair: per(cost.cpu_us as f64, got as f64),
            violations,
        }
    }
}

impl Outcome {
    fn for_people(&self) -> String {
        let Self { n, secs, lock_messages, packets, violations, .. } = self;
        let title = format!("lock where the token rests: {n} nodes, 1 client, {secs:.1} s");
        let (rate, pairs) = (number(self.rate), number(self.pairs as f64));
        let verified = match violations {
            0 => format!("fences of {pairs} grants, and that they need no message"),
            violations => format!("{violations} VIOLATIONS in {pairs} grants"),
        };
        Table::new(title, &["p50", "p99", "p99.9"])
            .times("lock + unlock", &[self.p50us, self.p99us, self.p999us])
            .note("rate", format!("{rate} pairs/s"))
            .note("messages", format!("{lock_messages} of the lock"))
            .note("packets", format!("{packets} in all, heartbeats included"))
            .note("per pair", format!("{} us of processor time", number(self.cpu_us_per_pair)))
            .note("verified", verified)
            .text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_checked() {
        let seen = |bad, lock_messages| {
            let cost = Cost { lock_messages, ..Cost::default() };
            Figures { id: 2, bad, cost, ..Figures::default() }.broken().join("; ")
        };
        assert_eq!(seen(0, 0), "");
        assert!(seen(1, 0).contains("1 grants do not have the next fence"));
        assert!(seen(0, 1).contains("n2 has sent 1 messages"));
    }
}
