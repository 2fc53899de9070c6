//! One member of a group that is measured: a process, or a thread of one.

use super::{
    machine::{self, Devices, Sent},
    progress::Progress,
};
use crate::{args::bench::Pin, failure::Usage};
use anyhow::{Context, bail};
use bytes::Bytes;
use roundelay::{Deliveries, Group, Limits, Node, PeerState, StartError, Traffic};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{io, time::Duration};
use tokio::time::timeout;

/// How long the members may take to find each other.
const GATHER: Duration = Duration::from_mins(1);

/// What members do together.
pub(super) trait Work: Clone + Send + 'static {
    /// What each says about it.
    type Figures: Serialize + DeserializeOwned + Send + 'static;

    /// The flags that ask for this work.
    fn flags(&self) -> Vec<String>;
    /// What its progress counts, and how many there will be.
    fn goal(&self) -> (&'static str, Option<u64>);
    /// Does it.
    async fn run(&self, member: &mut Member) -> anyhow::Result<Self::Figures>;
}

/// Which member it is, and where.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Which of the group, from 0.
    pub(super) index: usize,
    /// The addresses of all.
    pub(super) group: Vec<String>,
    pub(super) insecure: bool,
    pub(super) own_thread: bool,
    pub(super) pin: Pin,
    /// Whether to show the progress.
    pub(super) shown: bool,
}

/// A member that is in its group.
pub(super) struct Member {
    pub(super) node: Node,
    pub(super) deliveries: Deliveries,
    pub(super) progress: Progress,
    /// Which of the group, from 0.
    pub(super) index: usize,
    /// The names of all.
    pub(super) names: Vec<String>,
    devices: Devices,
}

/// What something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// The processor time of the process, in microseconds.
    pub(super) cpu_us: u64,
    /// What the devices of the network namespace have sent.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// What this member has sent, in messages: see [`Traffic`].
    pub(super) lock_messages: u64,
    pub(super) clock_messages: u64,
}

/// The name of a member.
pub(super) fn name(index: usize) -> String {
    format!("n{}", index + 1)
}

/// Joins the group, works, and leaves.
pub(super) async fn run<W: Work>(work: &W, place: Place) -> anyhow::Result<W::Figures> {
    machine::pin(place.pin, place.index)?;
    let shown = place.shown;
    let mut member = Member::join(place).await?;
    let (what, all) = work.goal();
    let shown = shown.then(|| member.progress.show(what, all));
    let (node, progress) = (member.node.clone(), member.progress.clone());
    // A task of its own, so that the work is not woken for it.
    let watched = tokio::spawn(async move { progress.stalled().await });
    let figures = tokio::select! {
        biased;
        figures = work.run(&mut member) => figures?,
        _ = watched => bail!("nothing goes on any more{}", waits_for(&node).await),
    };
    // The node may share this thread, and a terminal may be slow.
    tokio::task::spawn_blocking(move || drop(shown)).await?;
    node.leave().await;
    Ok(figures)
}

impl Member {
    async fn join(place: Place) -> anyhow::Result<Self> {
        let names: Vec<String> = (0..place.group.len()).map(name).collect();
        let address = &place.group[place.index];
        let mut builder = Node::builder(names[place.index].as_str()).listen(address.as_str());
        for (name, address) in names.iter().zip(&place.group) {
            builder = builder.peer(name.as_str(), address.as_str());
        }
        // What is delivered is looked at once.
        let limits = Limits { history_messages_max: 0, history_bytes_max: 0, ..Limits::default() };
        let builder = builder
            .group(Group::of(names.iter().map(String::as_str)))
            .insecure(place.insecure)
            .limits(limits);
        let started = if place.own_thread { builder.start().await } else { builder.spawn().await };
        let node = started.map_err(explained)?;
        let deliveries = node.deliveries();
        if timeout(GATHER, node.wait_installed()).await.is_err() {
            let absent = absent(&node, &names, &place.group).await;
            bail!("the group is not complete after {} s: {absent}", GATHER.as_secs());
        }
        let (index, devices) = (place.index, Devices::of(address));
        Ok(Self { node, deliveries, progress: Progress::new(), index, names, devices })
    }

    /// Waits until all have come here. The order is the barrier: each says an empty message, and
    /// who has heard all of them knows that nothing from before is under way any more.
    pub(super) async fn meet(&mut self) -> anyhow::Result<()> {
        self.node.multicast().submit(Bytes::new()).await?;
        for _ in 0..self.names.len() {
            let delivery = self.deliveries.next_message().await.context("the node has stopped")?;
            anyhow::ensure!(delivery.payload.is_empty(), "a message is in a wrong place");
        }
        Ok(())
    }

    /// What was used up until now.
    pub(super) fn spent(&self) -> Cost {
        let Sent { bytes, packets } = self.devices.sent();
        let Traffic { lock, order_clocks, .. } = self.node.traffic();
        Cost {
            cpu_us: machine::cpu_us(),
            packets,
            bytes,
            lock_messages: lock,
            clock_messages: order_clocks,
        }
    }
}

impl Cost {
    /// What was used up since then.
    pub(super) fn since(self, before: Self) -> Self {
        let sent = |cost: Self| Sent { bytes: cost.bytes, packets: cost.packets };
        let Sent { bytes, packets } = sent(self).since(sent(before));
        Self {
            cpu_us: self.cpu_us - before.cpu_us,
            packets,
            bytes,
            lock_messages: self.lock_messages - before.lock_messages,
            clock_messages: self.clock_messages - before.clock_messages,
        }
    }
}

/// Who has not come.
async fn absent(node: &Node, names: &[String], group: &[String]) -> String {
    let peers = node.status().await.peers;
    let up = |name: &String| {
        let state = peers.iter().find(|(peer, _)| node.name_of(*peer) == *name);
        name == node.name().as_str() || state.is_some_and(|(_, state)| *state == PeerState::Up)
    };
    let absent = names.iter().zip(group).enumerate().filter(|(_, (name, _))| !up(name));
    let list: Vec<String> = absent
        .map(|(index, (_, address))| format!("node {} at {address} has not come", index + 1))
        .collect();
    if list.is_empty() { "the founding goes on".into() } else { list.join(", ") }
}

/// For whom the order waits.
async fn waits_for(node: &Node) -> String {
    let order = node.status().await.order.and_then(|order| order.waiting_for);
    order.map_or(String::new(), |(peer, _)| format!(": it waits for {}", node.name_of(peer)))
}

/// Why a node did not start, and what to do.
fn explained(error: StartError) -> anyhow::Error {
    let todo = match &error {
        StartError::NotLoopback(_) => "on a network that you trust, add --insecure",
        StartError::Listen { source, .. } => match source.kind() {
            io::ErrorKind::AddrInUse => "end what uses the port, or take another one",
            io::ErrorKind::AddrNotAvailable => {
                "run this --node on the machine or in the namespace that has this address"
            }
            _ => "take another address in --group",
        },
        StartError::Resolve { .. } => "correct --group",
        _ => return error.into(),
    };
    Usage(format!("{error}; {todo}")).into()
}
