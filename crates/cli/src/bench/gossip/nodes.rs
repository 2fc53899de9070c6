//! The nodes of the gossip, on one thread or spread over several.

use super::{
    super::{fleet::free_addresses, machine::Devices, member::name, progress::Progress},
    tracker::Tracker,
};
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use roundelay::{Gossip, Node, Rumors};
use std::{ops::Range, sync::Arc, thread, time::Duration};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

/// How long the nodes may take to find their neighbours.
const GATHER: Duration = Duration::from_mins(1);
/// How often it is looked whether they have, and whether all is heard.
const LOOK: Duration = Duration::from_millis(10);
/// How long nothing may be heard until what is missing counts as lost.
const LOST: Duration = Duration::from_secs(15);

/// All nodes.
pub(super) struct Nodes {
    handles: Vec<Node>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) devices: Devices,
}

/// What the nodes have counted, all together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Copies of rumors that were sent.
    pub(super) copies: u64,
    /// Messages of the gossip beside them.
    pub(super) control: u64,
    /// Rumors that had to be asked for.
    pub(super) repaired: u64,
}

/// One node that is to be started.
struct Plan {
    index: usize,
    listen: String,
    neighbors: Vec<(String, String)>,
    tracker: Arc<Tracker>,
    progress: Progress,
}

impl Nodes {
    /// Starts them: the first thread is this one.
    pub(super) async fn start(
        neighbors: &[Vec<usize>],
        threads: usize,
        tracker: &Arc<Tracker>,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let addresses = free_addresses(neighbors.len())?;
        let plan = |index: usize| Plan {
            index,
            listen: addresses[index].clone(),
            neighbors: neighbors[index]
                .iter()
                .map(|other| (name(*other), addresses[*other].clone()))
                .collect(),
            tracker: Arc::clone(tracker),
            progress: progress.clone(),
        };
        let others: Vec<Thread> = (1..threads).map(Thread::start).collect::<Result<_, _>>()?;
        let mut handles = Vec::with_capacity(neighbors.len());
        for index in 0..neighbors.len() {
            handles.push(match index % threads {
                0 => plan(index).start().await?,
                thread => others[thread - 1].start_node(plan(index)).await?,
            });
        }
        let nodes = Self { handles, tracker: Arc::clone(tracker), devices: Devices::Loopback };
        let gathered = timeout(GATHER, nodes.linked(neighbors)).await;
        gathered.context("the nodes have not found their neighbours")?;
        Ok(nodes)
    }

    /// Waits until all have links to their neighbours.
    async fn linked(&self, neighbors: &[Vec<usize>]) {
        for (node, neighbors) in self.handles.iter().zip(neighbors) {
            let linked = async || node.status().await.gossip.map_or(0, |it| it.neighbors.len());
            while linked().await < neighbors.len() {
                sleep(LOOK).await;
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Says this rumor at this node.
    pub(super) async fn say(&self, number: usize, node: usize) -> anyhow::Result<()> {
        let text: Bytes = self.tracker.say(number);
        let said = timeout(LOST, self.handles[node].publish(text)).await;
        said.with_context(|| format!("{} takes no rumors any more", name(node)))??;
        Ok(())
    }

    /// Waits until all have heard these rumors, or nobody hears anything more.
    pub(super) async fn settle(&self, rumors: Range<usize>) {
        let all = (rumors.len() * self.count()) as u64;
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let heard = self.tracker.heard(rumors.clone());
            if heard == all || since.elapsed() > LOST {
                return;
            }
            if heard != last {
                (last, since) = (heard, Instant::now());
            }
            sleep(LOOK).await;
        }
    }

    /// What they have counted.
    pub(super) async fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for node in &self.handles {
            let traffic = node.traffic();
            counts.copies += traffic.rumors;
            counts.control += traffic.gossip_control;
            counts.repaired += node.status().await.gossip.map_or(0, |status| status.repaired);
        }
        counts
    }
}

impl Counts {
    /// What was counted since then.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            copies: self.copies - before.copies,
            control: self.control - before.control,
            repaired: self.repaired - before.repaired,
        }
    }
}

impl Plan {
    /// Starts the node on this thread, and a task that hears for it.
    async fn start(self) -> anyhow::Result<Node> {
        let Self { index, listen, neighbors, tracker, progress } = self;
        let names: Vec<&str> = neighbors.iter().map(|(name, _)| name.as_str()).collect();
        let mut builder =
            Node::builder(name(index)).listen(listen).gossip(Gossip::with_neighbors(names));
        for (name, address) in &neighbors {
            builder = builder.peer(name, address);
        }
        let rumors = builder.subscribe();
        let node = builder.spawn().await?;
        tokio::spawn(hear(index, rumors, tracker, progress));
        Ok(node)
    }
}

/// Hears everything that a node hears.
async fn hear(index: usize, mut rumors: Rumors, tracker: Arc<Tracker>, progress: Progress) {
    while let Some(rumor) = rumors.next().await {
        // What was too fast for this task is missing, and is found to be.
        let Ok(rumor) = rumor else { continue };
        tracker.hear(index, rumor.hops == 0, &rumor.payload);
        progress.add();
    }
}

/// A node to start, and who waits for it.
type Order = (Plan, oneshot::Sender<anyhow::Result<Node>>);

/// A thread that runs nodes, for as long as this is kept or one of them runs.
struct Thread(mpsc::UnboundedSender<Order>);

impl Thread {
    fn start(number: usize) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, mut incoming) = mpsc::unbounded_channel::<Order>();
        let run = move || {
            runtime.block_on(async {
                while let Some((plan, done)) = incoming.recv().await {
                    drop(done.send(plan.start().await));
                }
                // The nodes are tasks of this runtime.
                std::future::pending::<()>().await;
            });
        };
        thread::Builder::new().name(format!("gossip-{number}")).spawn(run)?;
        Ok(Self(orders))
    }

    async fn start_node(&self, plan: Plan) -> anyhow::Result<Node> {
        let (done, node) = oneshot::channel();
        if self.0.send((plan, done)).is_err() {
            bail!("a thread has ended");
        }
        node.await.map_err(|_| anyhow!("a thread has ended"))?
    }
}
