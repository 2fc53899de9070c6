//! The contended lock: every client wants it again as soon as it has given it back.

mod history;
mod relock;

use super::{
    finish,
    fleet::{self, Ran},
    machine::now_ns,
    member::{self, Cost, Member},
    micros, per,
    progress::Progress,
    table::{Table, number},
};
use crate::{
    args::bench::{BenchLock, Members},
    failure::Usage,
};
use anyhow::Context;
use bytes::Bytes;
use history::{Grant, History, Measured};
use roundelay::{LockName, Node};
use serde::{Deserialize, Serialize};
use std::{ops::RangeInclusive, process::ExitCode, time::Duration};
use tokio::task::JoinSet;

/// How long a client may keep the lock.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// How many grants travel in one message.
const GRANTS_PER_MESSAGE: usize = 1000;
/// How many violations are told one by one.
const BROKEN_MAX: usize = 20;

/// What each member does.
#[derive(Clone, Debug)]
struct Work {
    clients: u16,
    hold: Duration,
    warmup: Duration,
    duration: Duration,
}

/// What a member says: about the whole group, since all tell each other their grants. Names and
/// definitions are those of `docs/performance.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Figures {
    id: usize,
    /// The grants of its own clients.
    got: u64,
    bad: usize,
    hash: String,
    #[serde(flatten)]
    group: Group,
    #[serde(flatten)]
    cost: Cost,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    broken: Vec<String>,
}

/// The grants of all members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Group {
    grants: u64,
    /// The warm-up included.
    all_grants: u64,
    rate: f64,
    fairness: f64,
    handoffs_pct: f64,
    p50us: f64,
    p99us: f64,
    p999us: f64,
    wait_p50us: f64,
    wait_p99us: f64,
    wait_p999us: f64,
}

/// The result. Names and definitions are those of `docs/performance.md`.
#[derive(Debug, Serialize)]
struct Outcome {
    sys: &'static str,
    what: &'static str,
    n: usize,
    clients: usize,
    hold_us: f64,
    secs: f64,
    #[serde(flatten)]
    group: Group,
    messages_per_grant: f64,
    packets_per_grant: f64,
    cpu_us_per_grant: f64,
    violations: usize,
}

/// Measures.
pub(super) async fn run(args: BenchLock) -> anyhow::Result<ExitCode> {
    if args.relock {
        return relock::run(args).await;
    }
    let (members, judge) = (&args.members, &args.judge);
    if args.hold.is_some_and(|hold| hold > HOLD_MAX) {
        let text = "--hold: who keeps the lock for so long looks like one that stands still";
        return Err(Usage(format!("{text}; take {} s, or shorter", HOLD_MAX.as_secs())).into());
    }
    let work = Work {
        clients: args.clients,
        hold: args.hold.unwrap_or_default(),
        warmup: args.warmup,
        duration: args.duration,
    };
    match fleet::run(members, judge, &work).await? {
        Ran::Alone(figures) => {
            let broken = broken(std::slice::from_ref(&figures));
            finish(&figures, None, &broken, judge)
        }
        Ran::All(all) => {
            let broken = broken(&all);
            let outcome = work.outcome(members, &all, broken.len());
            finish(&outcome, Some(&outcome.for_people()), &broken, judge)
        }
    }
}

impl Work {
    /// How long the clients work.
    fn span(&self) -> Duration {
        self.warmup + self.duration
    }

    /// Puts together what the members say.
    fn outcome(&self, members: &Members, all: &[Figures], violations: usize) -> Outcome {
        let cost = fleet::total(members, all.iter().map(|one| one.cost));
        let group = all[0].group.clone();
        let grants = group.all_grants as f64;
        Outcome {
            sys: "roundelay",
            what: "lock",
            n: all.len(),
            clients: usize::from(self.clients) * all.len(),
            hold_us: self.hold.as_secs_f64() * 1e6,
            secs: self.duration.as_secs_f64(),
            group,
            messages_per_grant: per(cost.lock_messages as f64, grants),
            packets_per_grant: per(cost.packets as f64, grants),
            cpu_us_per_grant: per(cost.cpu_us as f64, grants),
            violations,
        }
    }
}

impl member::Work for Work {
    type Figures = Figures;

    fn flags(&self) -> Vec<String> {
        let mut flags = vec!["lock".to_owned(), "--clients".into(), self.clients.to_string()];
        flags.extend(times(self.warmup, self.duration));
        if !self.hold.is_zero() {
            flags.extend(["--hold".into(), seconds(self.hold)]);
        }
        flags
    }

    fn goal(&self) -> (&'static str, Option<u64>) {
        ("grants", None)
    }

    async fn run(&self, member: &mut Member) -> anyhow::Result<Figures> {
        member.meet().await?;
        let (begin, before) = (now_ns(), member.spent());
        let mut clients = JoinSet::new();
        for client in 0..self.clients {
            let end = begin + nanos(self.span());
            let (node, progress) = (member.node.clone(), member.progress.clone());
            clients.spawn(lock_until(node, progress, client, self.hold, end));
        }
        let mut own = Vec::new();
        while let Some(grants) = clients.join_next().await {
            own.extend(grants??);
        }
        let mut cost = member.spent().since(before);
        let (mut history, begins) = exchange(member, begin, &own).await?;
        // Until nobody wants it any more, since the last passes are for others.
        cost.lock_messages = member.spent().since(before).lock_messages;
        // As long as all wanted it. The same span for all, so that all find the same.
        let counted = begins.end() + nanos(self.warmup)..begins.start() + nanos(self.span());
        let seconds = counted.end.saturating_sub(counted.start) as f64 / 1e9;
        let late = Duration::from_nanos(begins.end() - begins.start());
        anyhow::ensure!(
            counted.start < counted.end,
            "the last node began {late:?} after the first: measure for longer, with --for"
        );
        // Elsewhere: the node may share this thread, and this takes a while.
        let measure = move || (history.measure(&counted), history);
        let (measured, mut history) = tokio::task::spawn_blocking(measure).await?;
        let bad = history.broken.len();
        history.broken.truncate(BROKEN_MAX);
        Ok(Figures {
            id: member.index + 1,
            got: own.len() as u64,
            bad,
            hash: format!("{:016x}", history.hash()),
            group: group(&history, &measured, seconds),
            cost,
            broken: history.broken,
        })
    }
}

/// What all see alike, of so many seconds.
fn group(history: &History, measured: &Measured, seconds: f64) -> Group {
    let Measured { waits, handoffs, fairness } = measured;
    Group {
        grants: waits.len(),
        all_grants: history.grants.len() as u64,
        rate: waits.len() as f64 / seconds,
        fairness: *fairness,
        handoffs_pct: 100.0 * per(handoffs.len() as f64, waits.len() as f64),
        p50us: micros(handoffs, 0.5),
        p99us: micros(handoffs, 0.99),
        p999us: micros(handoffs, 0.999),
        wait_p50us: micros(waits, 0.5),
        wait_p99us: micros(waits, 0.99),
        wait_p999us: micros(waits, 0.999),
    }
}

/// One client, for as long as there is time.
async fn lock_until(
    node: Node,
    progress: Progress,
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
        // What it asks for next goes with the token.
        drop(guard);
        grants.push(Grant { fence, client, asked, granted, released });
        progress.add();
    }
}

/// All tell all their grants, through the order: when it began and all grants in pieces, then an
/// empty message. Returns everybody's grants, and when the first and the last one began.
async fn exchange(
    member: &mut Member,
    begin: u64,
    own: &[Grant],
) -> anyhow::Result<(History, RangeInclusive<u64>)> {
    let multicast = member.node.multicast();
    let first = Bytes::copy_from_slice(&begin.to_le_bytes());
    let pieces: Vec<Bytes> = own.chunks(GRANTS_PER_MESSAGE).map(history::encode).collect();
    let progress = member.progress.clone();
    // Beside the reading, since who does not read holds up all.
    let tell = async {
        for piece in std::iter::once(first).chain(pieces).chain([Bytes::new()]) {
            multicast.submit(piece).await?;
        }
        anyhow::Ok(())
    };
    let deliveries = &mut member.deliveries;
    let names = &member.names;
    let node = &member.node;
    let hear = async {
        let (mut history, mut begins, mut done) = (History::default(), begin..=begin, 0);
        while done < names.len() {
            let delivery = deliveries.next_message().await.context("the node has stopped")?;
            let sender = node.name_of(delivery.sender);
            let index = names.iter().position(|name| *name == sender);
            let index = index.context("somebody else is in the group")?;
            match delivery.payload.as_ref() {
                [] => done += 1,
                bytes if bytes.len() == 8 => {
                    let bytes = bytes.try_into().expect("it has this length");
                    let begin = u64::from_le_bytes(bytes);
                    begins = begin.min(*begins.start())..=begin.max(*begins.end());
                }
                grants => history.add(index, history::decode(grants)?),
            }
            progress.add();
        }
        Ok((history, begins))
    };
    let ((), heard) = tokio::try_join!(tell, hear)?;
    Ok(heard)
}

/// Which promises the grants break.
fn broken(all: &[Figures]) -> Vec<String> {
    let mut broken: Vec<String> = Vec::new();
    for one in all {
        let new: Vec<_> = one.broken.iter().filter(|text| !broken.contains(text)).collect();
        let more = one.bad.saturating_sub(one.broken.len());
        let text = (more > 0).then(|| format!("{} sees {more} more", member::name(one.id - 1)));
        broken = [broken.clone(), new.into_iter().cloned().collect()].concat();
        broken.extend(text);
        if one.hash != all[0].hash {
            let (name, first) = (member::name(one.id - 1), member::name(0));
            broken.push(format!("{name} has heard of other grants than {first}"));
        }
    }
    broken
}

impl Outcome {
    fn for_people(&self) -> String {
        let Self { n, clients, secs, group, .. } = self;
        let title = format!("lock: {n} nodes, {clients} clients, {secs:.1} s");
        let (rate, handoffs) = (number(group.rate), group.handoffs_pct);
        let (messages, packets) = (number(self.messages_per_grant), number(self.packets_per_grant));
        let cpu = number(self.cpu_us_per_grant);
        let all = number(group.all_grants as f64);
        let verified = match self.violations {
            0 => format!("exclusion and fences of {all} grants"),
            violations => format!("{violations} VIOLATIONS in {all} grants"),
        };
        Table::new(title, &["p50", "p99", "p99.9"])
            .times("hand-off", &[group.p50us, group.p99us, group.p999us])
            .times("wait", &[group.wait_p50us, group.wait_p99us, group.wait_p999us])
            .note("rate", format!("{rate} grants/s, {handoffs:.0} % of them hand-offs"))
            .note(
                "fairness",
                format!("{:.3} (fewest grants of a client over most)", group.fairness),
            )
            .note(
                "per grant",
                format!("{messages} messages, {packets} packets, {cpu} us of processor time"),
            )
            .note("verified", verified)
            .text()
    }
}

/// The flags for these times.
fn times(warmup: Duration, duration: Duration) -> [String; 4] {
    ["--warmup".into(), seconds(warmup), "--for".into(), seconds(duration)]
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(id: usize) -> Figures {
        let mut history = History::default();
        let grant = Grant { fence: 1, client: 0, asked: 1, granted: 2, released: 3 };
        history.add(0, vec![grant]);
        let measured = history.measure(&(0..10));
        let group = group(&history, &measured, 1.0);
        let (cost, hash) = (Cost::default(), "0".into());
        Figures { id, got: 1, bad: 0, hash, group, cost, broken: Vec::new() }
    }

    #[test]
    fn what_is_wrong_is_said_once() {
        let mut all = [figures(1), figures(2)];
        assert!(broken(&all).is_empty());
        for one in &mut all {
            (one.bad, one.broken) = (1, vec!["bad".into()]);
        }
        assert_eq!(broken(&all), ["bad"]);
        all[1].bad = 3;
        assert_eq!(broken(&all), ["bad", "n2 sees 2 more"]);
        all[1].hash = "1".into();
        assert!(broken(&all)[2].contains("n2 has heard of other grants than n1"));
    }
}
