//! Rumors among many nodes of one process: idle, one at a time, in a closed loop, in a burst.

mod graph;
mod nodes;
mod phases;
mod tracker;

use super::{
    finish,
    machine::rss_kb,
    micros, per,
    progress::Progress,
    table::{Table, number},
};
use crate::args::bench::{BenchGossip, Graph};
use nodes::Nodes;
use phases::{Burst, Idle, Loop, Sequential};
use serde::Serialize;
use std::{process::ExitCode, sync::Arc};
use tokio::time::sleep;
use tracker::Tracker;

/// How many times a node hears a rumor may be remembered.
const HEARD_MAX: usize = 16 << 20;

/// The result. Names and definitions are those of `docs/performance.md`.
#[derive(Debug, Serialize)]
struct Outcome {
    sys: &'static str,
    what: &'static str,
    n: usize,
    threads: usize,
    graph: &'static str,
    links: usize,
    size: u32,
    window: u32,
    idle_packets_per_s: f64,
    idle_bytes_per_s: f64,
    idle_cpu_us_per_s: f64,
    rss_kb_per_node: f64,
    p50us: f64,
    p99us: f64,
    p999us: f64,
    maxus: f64,
    delivery_p50us: f64,
    delivery_p99us: f64,
    packets_per_delivery: f64,
    bytes_per_delivery: f64,
    copies_per_delivery: f64,
    control_per_delivery: f64,
    rate: f64,
    deliveries_per_s: f64,
    loop_copies_per_delivery: f64,
    loop_control_per_delivery: f64,
    loop_packets_per_delivery: f64,
    cpu_us_per_delivery: f64,
    burst: u32,
    burst_complete_pct: f64,
    burst_rate: f64,
    burst_p99us: f64,
    repaired: u64,
    rumors: usize,
    missing: u64,
    duplicates: u64,
    wrong: u64,
    complete: bool,
}

/// Measures.
pub(super) async fn run(args: BenchGossip) -> anyhow::Result<ExitCode> {
    let n = usize::from(args.nodes);
    let threads = args.threads.map_or_else(super::machine::cores, usize::from).min(n);
    let neighbors = graph::neighbors(args.graph, n, args.degree.into(), args.seed)?;
    let links = neighbors.iter().map(Vec::len).sum::<usize>() / 2;
    let others = (args.count + args.burst) as usize;
    let tracker = Arc::new(Tracker::new(n, args.size as usize, others + HEARD_MAX / n));
    let rss_before = rss_kb();
    let progress = Progress::new();
    let nodes = Nodes::start(&neighbors, threads, &tracker, &progress).await?;
    let shown = (!args.judge.quiet).then(|| progress.show("rumors heard", None));

    sleep(args.settle).await;
    let idle = Idle::measure(&nodes, args.idle).await;
    let sequential = Sequential::measure(&nodes, args.count as usize, args.gap).await?;
    let begin = args.count as usize;
    let end = tracker.room() - args.burst as usize;
    let looped = Loop::measure(&nodes, begin..end, args.window as usize, args.duration).await?;
    let begin = begin + looped.said;
    sleep(args.settle).await;
    let burst = Burst::measure(&nodes, begin..begin + args.burst as usize).await?;
    let rumors = begin + args.burst as usize;
    nodes.settle(0..rumors).await;
    drop(shown);

    let measured = Measured { rss_before, idle, sequential, looped, burst, rumors };
    let outcome = measured.outcome(&args, &nodes, threads, links).await;
    let broken = outcome.broken();
    finish(&outcome, Some(&outcome.for_people()), &broken, &args.judge)
}

struct Measured {
    /// Before there were any nodes.
    rss_before: u64,
    idle: Idle,
    sequential: Sequential,
    looped: Loop,
    burst: Burst,
    rumors: usize,
}

impl Measured {
    async fn outcome(
        self,
        args: &BenchGossip,
        nodes: &Nodes,
        threads: usize,
        links: usize,
    ) -> Outcome {
        let Self { rss_before, idle, sequential, looped, burst, rumors } = self;
        let n = usize::from(args.nodes);
        let all = nodes.tracker.spread(0..rumors);
        let (duplicates, wrong) = nodes.tracker.faults();
        let idle_per_s = |amount: u64| per(amount as f64, idle.secs * n as f64);
        let others = (n - 1) as f64;
        let one_by_one = f64::from(args.count) * others;
        let looped_deliveries = looped.complete as f64 * others;
        // Those that were complete too late for the rate had their copies all the same.
        let looped_all = looped.said as f64 * others;
        // What the idle nodes send meanwhile is not for the rumors.
        let beside = |amount: u64, idle_amount: u64| {
            (amount as f64 - idle_amount as f64 / idle.secs * sequential.secs).max(0.0)
        };
        Outcome {
            sys: "roundelay",
            what: "gossip",
            n,
            threads,
            graph: if args.graph == Graph::Tree { "tree" } else { "regular" },
            links,
            size: args.size,
            window: args.window,
            idle_packets_per_s: idle_per_s(idle.sent.packets),
            idle_bytes_per_s: idle_per_s(idle.sent.bytes),
            idle_cpu_us_per_s: idle_per_s(idle.cpu_us),
            rss_kb_per_node: idle.rss_kb.saturating_sub(rss_before) as f64 / n as f64,
            p50us: micros(&sequential.spread.all, 0.5),
            p99us: micros(&sequential.spread.all, 0.99),
            p999us: micros(&sequential.spread.all, 0.999),
            maxus: micros(&sequential.spread.all, 1.0),
            delivery_p50us: micros(&sequential.spread.each, 0.5),
            delivery_p99us: micros(&sequential.spread.each, 0.99),
            packets_per_delivery: per(
                beside(sequential.sent.packets, idle.sent.packets),
                one_by_one,
            ),
            bytes_per_delivery: per(beside(sequential.sent.bytes, idle.sent.bytes), one_by_one),
            copies_per_delivery: per(sequential.counts.copies as f64, one_by_one),
            control_per_delivery: per(sequential.counts.control as f64, one_by_one),
            rate: looped.complete as f64 / looped.secs,
            deliveries_per_s: looped_deliveries / looped.secs,
            loop_copies_per_delivery: per(looped.counts.copies as f64, looped_all),
            loop_control_per_delivery: per(looped.counts.control as f64, looped_all),
            loop_packets_per_delivery: per(looped.sent.packets as f64, looped_deliveries),
            cpu_us_per_delivery: per(looped.cpu_us as f64, looped_deliveries),
            burst: args.burst,
            burst_complete_pct: 100.0 * burst.spread.complete as f64 / f64::from(args.burst),
            burst_rate: per(burst.spread.complete as f64, burst.secs),
            burst_p99us: micros(&burst.spread.all, 0.99),
            repaired: nodes.counts().await.repaired,
            rumors,
            missing: all.missing,
            duplicates,
            wrong,
            complete: all.complete == rumors as u64 && all.missing == 0,
        }
    }
}

impl Outcome {
    /// Which promises are broken.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.missing > 0 {
            broken.push(format!("{} rumors are missing, over all nodes", self.missing));
        }
        if self.duplicates > 0 {
            broken.push(format!("{} rumors were heard twice", self.duplicates));
        }
        if self.wrong > 0 {
            broken.push(format!("{} rumors were heard that nobody has said", self.wrong));
        }
        broken
    }

    fn for_people(&self) -> String {
        let Self { n, threads, links, graph, size, window, burst, .. } = self;
        let title = format!(
            "gossip: {n} nodes on {threads} threads, a {graph} graph of {links} links, {size} bytes"
        );
        let idle = format!(
            "{} packets/s, {} bytes/s, {} us/s of processor time, {} kB, each node",
            number(self.idle_packets_per_s),
            number(self.idle_bytes_per_s),
            number(self.idle_cpu_us_per_s),
            number(self.rss_kb_per_node),
        );
        let each = format!(
            "{:.3} copies, {:.3} other messages, {} packets, {} bytes, one at a time",
            self.copies_per_delivery,
            self.control_per_delivery,
            number(self.packets_per_delivery),
            number(self.bytes_per_delivery),
        );
        let looped = format!(
            "{} rumors/s to all, {} deliveries/s, {} us of processor time each, window {window}",
            number(self.rate),
            number(self.deliveries_per_s),
            number(self.cpu_us_per_delivery),
        );
        let burst = format!(
            "{} % of {burst} reach all, {}/s",
            number(self.burst_complete_pct),
            number(self.burst_rate)
        );
        let rumors = number(self.rumors as f64);
        let verified = match self.broken().join(", ") {
            wrong if wrong.is_empty() => {
                format!("{rumors} rumors: at every node, once, unchanged")
            }
            wrong => format!("{rumors} rumors, and it is NOT so that all were heard once: {wrong}"),
        };
        Table::new(title, &["p50", "p99", "p99.9", "max"])
            .times("until all know", &[self.p50us, self.p99us, self.p999us, self.maxus])
            .times("until one knows", &[self.delivery_p50us, self.delivery_p99us])
            .note("per delivery", each)
            .note("closed loop", looped)
            .note("burst", burst)
            .note("idle", idle)
            .note("verified", verified)
            .text()
    }
}
