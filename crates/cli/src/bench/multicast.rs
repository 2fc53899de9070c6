//! The one order: every sender keeps a window of its own messages under way.

mod order;

use super::{
    finish,
    fleet::{self, Ran},
    histogram,
    machine::now_ns,
    member::{self, Cost, Member},
    micros, per,
    table::{Table, number},
};
use crate::{
    args::bench::{BenchMulticast, Members},
    failure::Usage,
};
use anyhow::Context;
use hdrhistogram::Histogram;
use order::{Order, Payloads};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, process::ExitCode};

/// What each member does.
#[derive(Clone, Debug)]
struct Work {
    size: u32,
    senders: usize,
    window: u32,
    /// Messages per sender.
    count: u64,
    /// How many of them do not count.
    warmup: u64,
}

/// What a member says. Names and definitions are those of `docs/performance.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Figures {
    id: usize,
    got: u64,
    bad: u64,
    hash: String,
    rate: f64,
    #[serde(rename = "MBps")]
    megabytes: f64,
    p50us: f64,
    p99us: f64,
    p999us: f64,
    secs: f64,
    resent: u64,
    #[serde(flatten)]
    cost: Cost,
}

/// The result. Names and definitions are those of `docs/performance.md`.
#[derive(Debug, Serialize)]
struct Outcome {
    sys: &'static str,
    what: &'static str,
    n: usize,
    size: u32,
    senders: usize,
    window: u32,
    msgs: u64,
    warmup: u64,
    rate_min: f64,
    #[serde(rename = "MBps")]
    megabytes: f64,
    p50us: f64,
    p99us: f64,
    p999us: f64,
    ack_frames_per_msg: f64,
    packets_per_msg: f64,
    cpu_us_per_msg: f64,
    resent: u64,
    same_order: bool,
    complete: bool,
}

/// Measures.
pub(super) async fn run(args: BenchMulticast) -> anyhow::Result<ExitCode> {
    let (members, judge) = (&args.members, &args.judge);
    let n = if members.node.is_some() { members.group.len() } else { members.nodes.into() };
    let work = Work::asked(&args, n)?;
    match fleet::run(members, judge, &work).await? {
        Ran::Alone(figures) => {
            let broken = figures.broken(work.total());
            finish(&figures, None, &broken, judge)
        }
        Ran::All(all) => {
            let outcome = work.outcome(members, &all);
            let broken = broken(&all, work.total());
            finish(&outcome, Some(&outcome.for_people()), &broken, judge)
        }
    }
}

impl Work {
    fn asked(args: &BenchMulticast, n: usize) -> Result<Self, Usage> {
        let senders = if args.senders == 0 { n } else { usize::from(args.senders) };
        if senders > n {
            return Err(Usage(format!("--senders {senders}: there are {n} nodes; take fewer")));
        }
        let (size, window, count) = (args.size, args.window, args.count);
        let warmup = args.warmup.unwrap_or(count / 10);
        if warmup >= count {
            let text = format!("--warmup {warmup} leaves nothing of --count {count}; take less");
            return Err(Usage(text));
        }
        Ok(Self { size, senders, window, count, warmup })
    }

    /// How many messages every member delivers.
    fn total(&self) -> u64 {
        self.count * self.senders as u64
    }

    /// How many of them do not count.
    fn uncounted(&self) -> u64 {
        self.warmup * self.senders as u64
    }

    /// Puts together what the members say.
    fn outcome(&self, members: &Members, all: &[Figures]) -> Outcome {
        let total = self.total();
        let least =
            |value: fn(&Figures) -> f64| all.iter().map(value).fold(f64::INFINITY, f64::min);
        let senders = &all[..self.senders];
        let worst = |value: fn(&Figures) -> f64| senders.iter().map(value).fold(0.0, f64::max);
        let cost = fleet::total(members, all.iter().map(|one| one.cost));
        let counted = (total - self.uncounted()) as f64;
        Outcome {
            sys: "roundelay",
            what: "multicast",
            n: all.len(),
            size: self.size,
            senders: self.senders,
            window: self.window,
            msgs: total,
            warmup: self.uncounted(),
            rate_min: least(|one| one.rate),
            megabytes: least(|one| one.megabytes),
            p50us: worst(|one| one.p50us),
            p99us: worst(|one| one.p99us),
            p999us: worst(|one| one.p999us),
            ack_frames_per_msg: per(cost.clock_messages as f64, counted),
            packets_per_msg: per(cost.packets as f64, counted),
            cpu_us_per_msg: per(cost.cpu_us as f64, counted),
            resent: all.iter().map(|one| one.resent).sum(),
            same_order: all.iter().all(|one| one.hash == all[0].hash && one.bad == 0),
            complete: all.iter().all(|one| one.got == total),
        }
    }
}

impl member::Work for Work {
    type Figures = Figures;

    fn flags(&self) -> Vec<String> {
        let number = |flag: &str, value: u64| [flag.to_owned(), value.to_string()];
        let flags = [
            number("--size", self.size.into()),
            number("--senders", self.senders as u64),
            number("--window", self.window.into()),
            number("--count", self.count),
            number("--warmup", self.warmup),
        ];
        std::iter::once("multicast".to_owned()).chain(flags.into_iter().flatten()).collect()
    }

    fn goal(&self) -> (&'static str, Option<u64>) {
        ("messages", Some(self.total()))
    }

    async fn run(&self, member: &mut Member) -> anyhow::Result<Figures> {
        let multicast = member.node.multicast();
        let payloads = Payloads::of(self.size);
        let mut order = Order::new(&member.names, &payloads);
        let own = (member.index < self.senders).then(|| payloads.of_sender(member.index));
        let own_id = member.node.name().id();
        member.meet().await?;

        let mut span = Span::new(self.uncounted(), self.total());
        let mut under_way: VecDeque<u64> = VecDeque::with_capacity(self.window as usize);
        let mut sent = 0;
        while order.got < self.total() {
            if let Some(payload) = &own {
                while sent < self.count && under_way.len() < self.window as usize {
                    under_way.push_back(now_ns());
                    multicast.submit(payload.clone()).await?;
                    sent += 1;
                }
            }
            let delivery =
                member.deliveries.next_message().await.context("the node has stopped")?;
            let now = now_ns();
            order.add(&delivery);
            span.on_delivery(order.got, now, member);
            if delivery.sender == own_id
                && let Some(at) = under_way.pop_front()
            {
                span.on_own(order.got, now - at);
            }
            member.progress.set(order.got);
        }
        // Nobody leaves before all have come so far.
        member.meet().await?;
        let resent = member.node.status().await.order.map_or(0, |order| order.resent);
        Ok(span.figures(self, member, &order, resent))
    }
}

/// The part of a run that counts.
struct Span {
    /// It begins with the delivery after so many, or with the first one.
    begin: u64,
    end: u64,
    began: u64,
    ended: u64,
    before: Cost,
    cost: Cost,
    times: Histogram<u64>,
}

impl Span {
    fn new(uncounted: u64, end: u64) -> Self {
        let begin = uncounted.max(1);
        let (before, cost) = Default::default();
        Self { begin, end, began: 0, ended: 0, before, cost, times: histogram() }
    }

    /// The delivery number `got` was made.
    fn on_delivery(&mut self, got: u64, now: u64, member: &Member) {
        if got == self.begin {
            self.before = member.spent();
            self.began = now;
        }
        if got == self.end {
            self.ended = now;
            self.cost = member.spent().since(self.before);
        }
    }

    /// It was an own message, and took so long.
    fn on_own(&mut self, got: u64, nanos: u64) {
        if got >= self.begin {
            self.times.saturating_record(nanos);
        }
    }

    fn figures(&self, work: &Work, member: &Member, order: &Order<'_>, resent: u64) -> Figures {
        let secs = (self.ended - self.began) as f64 / 1e9;
        let rate = per((self.end - self.begin) as f64, secs);
        Figures {
            id: member.index + 1,
            got: order.got,
            bad: order.bad,
            hash: format!("{:016x}", order.hash),
            rate,
            megabytes: rate * f64::from(work.size) / 1e6,
            p50us: micros(&self.times, 0.5),
            p99us: micros(&self.times, 0.99),
            p999us: micros(&self.times, 0.999),
            secs,
            resent,
            cost: self.cost,
        }
    }
}

impl Figures {
    /// Which promises this member's sequence breaks.
    fn broken(&self, total: u64) -> Vec<String> {
        let name = member::name(self.id - 1);
        let mut broken = Vec::new();
        if self.got != total {
            broken.push(format!("{name} has delivered {} of {total} messages", self.got));
        }
        if self.bad > 0 {
            let bad = self.bad;
            broken.push(format!("{name} has delivered {bad} messages changed or out of order"));
        }
        broken
    }
}

/// Which promises the sequences break.
fn broken(all: &[Figures], total: u64) -> Vec<String> {
    let mut broken: Vec<String> = all.iter().flat_map(|one| one.broken(total)).collect();
    for one in all.iter().filter(|one| one.hash != all[0].hash) {
        let (name, first) = (member::name(one.id - 1), member::name(0));
        broken.push(format!("{name} has another order than {first}"));
    }
    broken
}

impl Outcome {
    fn for_people(&self) -> String {
        let Self { n, senders, size, window, .. } = self;
        let title =
            format!("multicast: {n} members, {senders} of them send {size} bytes, window {window}");
        let (rate, megabytes) = (number(self.rate_min), number(self.megabytes));
        let (clocks, packets) = (number(self.ack_frames_per_msg), number(self.packets_per_msg));
        let cpu = number(self.cpu_us_per_msg);
        let counted = number((self.msgs - self.warmup) as f64);
        let resent = match self.resent {
            0 => String::new(),
            resent => format!(", {resent} messages sent again"),
        };
        let verified = match (self.complete, self.same_order) {
            (true, true) => "complete, and in one order everywhere",
            (true, false) => "complete, but NOT in one order",
            (false, true) => "NOT complete",
            (false, false) => "NOT complete, and NOT in one order",
        };
        Table::new(title, &["p50", "p99", "p99.9"])
            .times("own delivery", &[self.p50us, self.p99us, self.p999us])
            .note("slowest member", format!("{rate} messages/s, {megabytes} MB/s"))
            .note(
                "per message",
                format!("{clocks} clocks, {packets} packets, {cpu} us of processor time{resent}"),
            )
            .note("verified", format!("{counted} messages measured: {verified}"))
            .text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, bench::Workload};
    use clap::Parser;

    fn asked(flags: &str) -> BenchMulticast {
        let line = format!("roundelay bench multicast {flags}");
        match Cli::parse_from(line.split_whitespace()).command {
            Command::Bench(bench) => match bench.what {
                Workload::Multicast(args) => args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn figures(id: usize) -> Figures {
        let factor = id as f64;
        Figures {
            id,
            got: 200,
            bad: 0,
            hash: "00".into(),
            rate: 1000.0 * factor,
            megabytes: 0.1 * factor,
            p50us: 10.0 * factor,
            p99us: 20.0 * factor,
            p999us: 30.0 * factor,
            secs: 1.0,
            resent: 2,
            cost: Cost {
                cpu_us: 90,
                packets: 180,
                bytes: 1000,
                clock_messages: 60,
                ..Cost::default()
            },
        }
    }

    #[test]
    fn what_members_say_is_put_together() {
        let args = asked("--nodes 3 --senders 2 --count 100");
        let work = Work::asked(&args, 3).unwrap();
        let all = [figures(1), figures(2), figures(3)];
        let outcome = work.outcome(&args.members, &all);
        assert_eq!((outcome.msgs, outcome.warmup), (200, 20));
        assert!((outcome.rate_min - 1000.0).abs() < 1e-9);
        // The third does not send.
        assert!((outcome.p99us - 40.0).abs() < 1e-9);
        assert!((outcome.packets_per_msg - 1.0).abs() < 1e-9);
        assert!((outcome.cpu_us_per_msg - 1.5).abs() < 1e-9);
        assert_eq!(outcome.resent, 6);
        assert!(outcome.same_order && outcome.complete);
        assert!(broken(&all, 200).is_empty());
    }

    #[test]
    fn what_is_promised_is_checked() {
        let seen = |change: fn(&mut Figures)| {
            let mut all = [figures(1), figures(2)];
            change(&mut all[1]);
            broken(&all, 200).join("; ")
        };
        assert_eq!(seen(|_| ()), "");
        assert!(seen(|one| one.got -= 1).contains("n2 has delivered 199 of 200"));
        assert!(seen(|one| one.bad = 3).contains("3 messages changed or out of order"));
        assert!(seen(|one| one.hash = "01".into()).contains("another order than n1"));
    }

    #[test]
    fn the_flags_of_a_member_say_the_same() {
        let work = Work::asked(&asked("--size 7 --senders 1 --window 9 --count 30"), 3).unwrap();
        let flags = member::Work::flags(&work)[1..].join(" ");
        let same = Work::asked(&asked(&flags), 3).unwrap();
        assert_eq!(format!("{work:?}"), format!("{same:?}"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Work::asked(&asked("--senders 4"), 3).unwrap_err().0.contains("there are 3"));
        assert!(Work::asked(&asked("--count 5 --warmup 5"), 3).is_err());
    }
}
