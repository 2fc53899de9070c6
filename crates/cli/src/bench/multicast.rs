//! The one order: every sender keeps a window of its own messages under way.

use super::{
    finish,
    fleet::{self, Fleet},
    loopback_packets,
    node::{self, Seen as Saw},
    now_ns,
};
use crate::args::bench::BenchMulticast;
use bytes::Bytes;
use hdrhistogram::Histogram;
use roundelay::{Deliveries, Node, NodeId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    process::ExitCode,
    time::Duration,
};

/// About how long a run may take before it counts as stuck, beside its patience.
const ABOUT: Duration = Duration::from_secs(30);

/// What each process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Work {
    size: u32,
    senders: usize,
    window: u32,
    count: u64,
}

/// What a process has seen.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// How many messages it has delivered.
    got: u64,
    /// How many of them were not the next of their sender.
    bad: u64,
    /// A running hash over senders and numbers: equal for equal sequences.
    hash: u64,
    /// From the first delivery to the last.
    nanos: u64,
    /// From the call that sends a message to its own delivery, in microseconds: p50, p99, p99.9.
    latencies: Option<[f64; 3]>,
}

/// The result. Names and definitions are those of `docs/performance.md`.
#[derive(Debug, Serialize)]
struct Outcome {
    sys: &'static str,
    what: &'static str,
    n: u16,
    size: u32,
    senders: usize,
    window: u32,
    msgs: u64,
    /// Messages per second delivered at the slowest member, from its first delivery to its last.
    rate_min: f64,
    #[serde(rename = "MBps")]
    megabytes: f64,
    /// From the call that sends a message to its own delivery, worst sender.
    p50us: f64,
    p99us: f64,
    p999us: f64,
    packets_per_msg: f64,
    cpu_us_per_msg: f64,
    same_order: bool,
    complete: bool,
}

/// Measures.
pub(super) async fn run(args: BenchMulticast) -> anyhow::Result<ExitCode> {
    let n = usize::from(args.shared.nodes);
    let senders = if args.senders == 0 { n } else { usize::from(args.senders).min(n) };
    let (size, window, count) = (args.size, args.window, args.count);
    let work = Work { size, senders, window, count };
    let mut fleet = Fleet::start(n, args.shared.pin, &node::Work::Multicast(work)).await?;
    let packets = loopback_packets();
    let done = fleet.work(ABOUT).await?;
    let packets = loopback_packets() - packets;
    fleet.leave().await?;
    let cpu_us: u64 = done.iter().map(|done| done.cpu_us).sum();
    let seen: Vec<Seen> = done
        .into_iter()
        .map(|done| match done.seen {
            Saw::Multicast(seen) => seen,
            Saw::Lock(_) => unreachable!("it was told to multicast"),
        })
        .collect();
    let msgs = count * senders as u64;
    let broken = broken(&seen, msgs);
    let rate = |seen: &Seen| (seen.got.max(1) - 1) as f64 / (seen.nanos.max(1) as f64 / 1e9);
    let rate_min = seen.iter().map(rate).fold(f64::INFINITY, f64::min);
    let worst = |which: usize| {
        let values = seen.iter().filter_map(|seen| Some(seen.latencies?[which]));
        values.fold(0.0, f64::max)
    };
    let outcome = Outcome {
        sys: "roundelay",
        what: "multicast",
        n: args.shared.nodes,
        size,
        senders,
        window,
        msgs,
        rate_min,
        megabytes: rate_min * f64::from(size) / 1e6,
        p50us: worst(0),
        p99us: worst(1),
        p999us: worst(2),
        packets_per_msg: packets as f64 / msgs as f64,
        cpu_us_per_msg: cpu_us as f64 / msgs as f64,
        same_order: seen.iter().all(|one| one.hash == seen[0].hash && one.bad == 0),
        complete: seen.iter().all(|one| one.got == msgs),
    };
    finish(&outcome, &outcome.for_people(), &broken, &args.shared)
}

/// Which promises the sequences break.
fn broken(seen: &[Seen], msgs: u64) -> Vec<String> {
    let mut broken = Vec::new();
    for (index, one) in seen.iter().enumerate() {
        let name = fleet::name(index);
        if one.got != msgs {
            broken.push(format!("{name} has delivered {} of {msgs} messages", one.got));
        }
        if one.bad > 0 {
            broken.push(format!("{name} has delivered {} messages out of order", one.bad));
        }
        if one.hash != seen[0].hash {
            broken.push(format!("{name} has another order than {}", fleet::name(0)));
        }
    }
    broken
}

/// What one process does.
pub(super) async fn work(
    node: &Node,
    mut deliveries: Deliveries,
    work: &Work,
    index: usize,
) -> anyhow::Result<Seen> {
    let sends = index < work.senders;
    let payload = Bytes::from(vec![7; work.size as usize]);
    let own = node.name().id();
    let multicast = node.multicast();
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut under_way: VecDeque<u64> = VecDeque::new();
    let (mut sent, mut first, mut last) = (0, 0, 0);
    let mut order = Order::default();
    let total = work.count * work.senders as u64;
    while order.got < total {
        while sends && sent < work.count && under_way.len() < work.window as usize {
            under_way.push_back(now_ns());
            multicast.submit(payload.clone()).await?;
            sent += 1;
        }
        let Some(delivery) = deliveries.next().await else { break };
        let now = now_ns();
        first = if first == 0 { now } else { first };
        last = now;
        order.add(delivery.sender, delivery.sequence);
        if delivery.sender == own
            && let Some(at) = under_way.pop_front()
        {
            latencies.record(now - at)?;
        }
    }
    let quantile = |q| latencies.value_at_quantile(q) as f64 / 1e3;
    let latencies = sends.then(|| [quantile(0.5), quantile(0.99), quantile(0.999)]);
    Ok(Seen { got: order.got, bad: order.bad, hash: order.hash, nanos: last - first, latencies })
}

/// The sequence of deliveries of one member.
#[derive(Default)]
struct Order {
    got: u64,
    bad: u64,
    hash: u64,
    /// Per sender: its last message.
    last: BTreeMap<NodeId, u64>,
}

impl Order {
    fn add(&mut self, sender: NodeId, sequence: u64) {
        self.got += 1;
        let last = self.last.entry(sender).or_default();
        self.bad += u64::from(sequence != *last + 1);
        *last = sequence;
        let seen = sender.raw() ^ sequence.rotate_left(32);
        self.hash = (self.hash.rotate_left(5) ^ seen).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Outcome {
    fn for_people(&self) -> String {
        format!(
            "multicast: {} members, {} senders, {} bytes, window {}, {} messages\n\
             slowest member  {:.0} messages/s   {:.1} MB/s\n\
             own delivery    p50 {:.1} us   p99 {:.1} us   p99.9 {:.1} us\n\
             packets/message {:.2}   cpu/message {:.1} us   same order {}   complete {}",
            self.n,
            self.senders,
            self.size,
            self.window,
            self.msgs,
            self.rate_min,
            self.megabytes,
            self.p50us,
            self.p99us,
            self.p999us,
            self.packets_per_msg,
            self.cpu_us_per_msg,
            self.same_order,
            self.complete,
        )
    }
}
