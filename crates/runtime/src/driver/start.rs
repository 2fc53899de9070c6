//! How the thread of a node begins and ends.

use super::{Alarm, Driver, Ending, Lines, Links, Phase, Recording, Replies, Saving, Timers};
use crate::{
    builder::{GroupPlan, Limits, Plan, StartError},
    clock::{Clock, Dial},
    node::Node,
    request::Requests,
    shared::{Offers, Shared},
    traffic::Counters,
    transport::{Identity, dialer::Dialing, lingering::OpenSockets, listener::Listener, socket},
};
use rand_core::SeedableRng as _;
use roundelay_core::{
    Life, Name, NodeId, Rng, Time, change, detector, founding,
    gossip::{self, Neighbors},
    multicast, node, tokenring,
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    net::{TcpListener, lookup_host},
    runtime,
    sync::{mpsc, oneshot, watch},
};

/// Events of links that may wait for the driver.
const LINK_EVENTS_MAX: usize = 256;
/// So many heartbeats at least go into a lease.
const HEARTBEATS: u32 = 4;

/// Starts the thread of a node, and returns once it listens.
pub(crate) async fn start(plan: Plan) -> Result<Node, StartError> {
    let (ready, started) = oneshot::channel();
    thread::Builder::new()
        .name(format!("roundelay-{}", plan.name))
        .spawn(move || run(plan, ready))
        .map_err(StartError::System)?;
    let gone = || Err(StartError::System(io::Error::other("the thread of the node ended")));
    started.await.unwrap_or_else(|_| gone())
}

/// Starts the node as a task of this runtime, and returns once it listens.
pub(crate) async fn spawn(plan: Plan) -> Result<Node, StartError> {
    let Prepared { node, driver, ending, stops } = prepare(plan).await?;
    tokio::spawn(async move {
        Box::pin(driver.run(ending)).await;
        drop(stops);
    });
    Ok(node)
}

fn run(plan: Plan, ready: oneshot::Sender<Result<Node, StartError>>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(StartError::System(error)))),
    };
    runtime.block_on(async {
        match prepare(plan).await {
            Ok(prepared) => {
                let Prepared { node, driver, ending, stops } = prepared;
                // If the caller has gone, the node is dropped here, and that stops the driver.
                drop(ready.send(Ok(node)));
                Box::pin(driver.run(ending)).await;
                drop(stops);
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // Name look-ups under way are not waited for.
    runtime.shutdown_background();
}

/// Tells everyone that the node has stopped, even if its thread panics.
pub(super) struct Stops(Arc<Shared>);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.stop();
    }
}

pub(super) struct Prepared {
    pub(super) node: Node,
    pub(super) driver: Driver,
    pub(super) ending: Ending,
    pub(super) stops: Stops,
}

pub(super) async fn prepare(plan: Plan) -> Result<Prepared, StartError> {
    // The core's own: a replay needs it, and nobody else may draw from it.
    let seed = random()?;
    let life = Life(u128::from_be_bytes(random()?));

    let saving = Saving::open(&plan)?;
    let (listener, address) = listen(&plan).await?;
    let me = Identity { name: plan.name.clone(), life, listen: address.to_string() };
    let offers = Offers {
        lock: plan.group.as_ref().is_some_and(|group| group.lock),
        order: plan.group.as_ref().is_some_and(|group| group.order),
        gossip: plan.gossip.is_some(),
    };
    let names = known_names(&plan);
    let clock = Clock::new();
    let limits = plan.limits.clone();
    let shared = Shared::new(plan.name.clone(), address, limits, offers, names, clock);
    plan.subscribed.events.iter().for_each(|mailbox| shared.events.adopt(mailbox));
    plan.subscribed.rumors.iter().for_each(|mailbox| shared.rumors.adopt(mailbox));
    let shared = Arc::new(shared);
    let (requests, incoming) = Requests::new(&shared.bell);
    let node = Node::new(Arc::clone(&shared), requests);
    let stops = Stops(Arc::clone(&shared));
    let config = config(&plan, life);
    let record = |path| Recording::begin(path, config.clone(), seed);
    let recording = plan.record.as_deref().map(record).transpose()?;
    let rng = Rng::from_seed(random()?);
    let traffic = Arc::clone(&shared.traffic);
    let (links, link_events, ending) = link(&plan, me, listener, rng, traffic);
    let driver = Driver {
        node: node::Node::new(config),
        rng: Rng::from_seed(seed),
        clock,
        dial: Dial::new(clock),
        now: Time::ZERO,
        effects: Vec::new(),
        timers: Timers::new(),
        links,
        link_events,
        incoming,
        replies: Replies::default(),
        shared,
        phase: Phase::Running,
        installed: None,
        lease: Time::ZERO,
        inputs: 0,
        turn: 0,
        alarm: Alarm::new(),
        hung_up: false,
        reading: false,
        delivered: VecDeque::new(),
        unclaimed: 0,
        told: super::Told::default(),
        lines: Lines::new(),
        saving,
        recording,
        packing: crate::wire::Packing::default(),
        unknown: 0,
    };
    Ok(Prepared { node, driver, ending, stops })
}

/// Random bytes from the system.
fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| StartError::System(io::Error::other(error.to_string())))?;
    Ok(bytes)
}

async fn listen(plan: &Plan) -> Result<(TcpListener, SocketAddr), StartError> {
    let unresolved = |source| StartError::Resolve { listen: plan.listen.clone(), source };
    let mut addresses = lookup_host(&plan.listen).await.map_err(unresolved)?;
    let address = addresses.next().ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))?;
    if !plan.insecure && !address.ip().to_canonical().is_loopback() {
        return Err(StartError::NotLoopback(address));
    }
    let failed = |source| StartError::Listen { address, source };
    let listener = socket::listen(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Begins to accept and to dial.
fn link(
    plan: &Plan,
    me: Identity,
    listener: TcpListener,
    rng: Rng,
    traffic: Arc<Counters>,
) -> (Links, mpsc::Receiver<super::LinkEvent>, Ending) {
    let me = Arc::new(me);
    let (events, link_events) = mpsc::channel(LINK_EVENTS_MAX);
    let (open, all_closed) = OpenSockets::new();
    let (listen, listening) = watch::channel(());
    let (connect, closing) = watch::channel(());
    let accepting = Listener {
        me: Arc::clone(&me),
        events: events.clone(),
        open: open.clone(),
        connections_max: plan.limits.connections_max,
        listening,
        closing,
    };
    let listener = tokio::spawn(accepting.run(listener));
    let dialing = Dialing {
        me,
        events,
        open,
        urgent_bytes_max: plan.limits.urgent_bytes_max,
        bulk_bytes_max: plan.limits.bulk_bytes_max,
    };
    let book = plan.book.iter().map(|(id, (_, address))| (*id, address.clone())).collect();
    let mut links = Links::new(dialing, book, rng, traffic);
    for name in wanted(plan).into_values() {
        links.want(name);
    }
    (links, link_events, Ending { listen, listener, connect, all_closed })
}

/// Who is dialled: the other members of the group and the neighbours; the whole address book, if
/// every peer is a neighbour.
fn wanted(plan: &Plan) -> BTreeMap<NodeId, Name> {
    let members = plan.group.iter().flat_map(|group| &group.members);
    let neighbors = plan.gossip.iter().flat_map(|(neighbors, _)| neighbors).flatten();
    let everyone = matches!(plan.gossip, Some((None, _)));
    let book = plan.book.values().filter(|_| everyone).map(|(name, _)| name);
    let names = members.chain(neighbors).chain(book).filter(|name| **name != plan.name);
    names.map(|name| (name.id(), name.clone())).collect()
}

fn known_names(plan: &Plan) -> BTreeMap<NodeId, Name> {
    let book = plan.book.values().map(|(name, _)| name);
    let members = plan.group.iter().flat_map(|group| &group.members);
    let names = book.chain(members).chain([&plan.name]);
    names.map(|name| (name.id(), name.clone())).collect()
}

fn config(plan: &Plan, life: Life) -> node::Config {
    let limits = &plan.limits;
    let gossip = plan.gossip.as_ref().map(|(neighbors, strategy)| gossip::Config {
        name: plan.name.clone(),
        life,
        neighbors: match neighbors {
            Some(names) => Neighbors::Listed(names.iter().map(Name::id).collect()),
            None => Neighbors::AllLinks,
        },
        strategy: *strategy,
        rumor_bytes_max: limits.rumor_bytes_max,
        retention_age: limits.retention_age,
        retention_bytes: limits.retention_bytes,
        round: limits.round,
        anti_entropy: limits.anti_entropy,
        origins_max: limits.origins_max,
    });
    node::Config {
        name: plan.name.clone(),
        life,
        detector: detector(plan),
        group: plan.group.as_ref().map(|group| group_config(plan, group, life)),
        gossip,
    }
}

/// A short lease needs heartbeats that are as frequent, and a suspicion that is as quick.
fn detector(plan: &Plan) -> detector::Config {
    let Limits { heartbeat, suspect_min, .. } = plan.limits;
    let lease = plan.group.as_ref().map_or(Duration::MAX, |group| group.lease);
    let sooner = heartbeat.min(lease / HEARTBEATS);
    let share = sooner.as_secs_f64() / heartbeat.as_secs_f64();
    detector::Config { heartbeat: sooner, suspect_min: suspect_min.mul_f64(share) }
}

fn group_config(plan: &Plan, group: &GroupPlan, life: Life) -> node::GroupConfig {
    let limits = &plan.limits;
    let me = plan.name.id();
    node::GroupConfig {
        founding: founding::Config {
            name: plan.name.clone(),
            life,
            list: group.members.clone(),
            next: group.next.clone(),
            trigger: group.trigger,
            mode: group.mode,
            lease: group.lease,
        },
        change: change::Config {
            name: plan.name.clone(),
            life,
            next: group.next.clone(),
            grace: limits.grace,
            patience: detector(plan).suspect_min,
            repeat: limits.view_repeat,
        },
        lock: group.lock.then_some(tokenring::Config {
            me,
            hold: group.hold,
            turn: limits.turn,
            waiters_max: limits.waiters_max,
            locks_max: limits.locks_max,
            repeat: limits.lock_repeat,
            try_timeout: limits.try_timeout,
            idle: Some(limits.lock_idle),
        }),
        order: group.order.then_some(multicast::Config {
            me,
            message_bytes_max: limits.message_bytes_max,
            fragment_bytes: limits.fragment_bytes,
            unstable_bytes_max: limits.unstable_bytes_max,
            unread_bytes_max: limits.unread_bytes_max,
            history_messages_max: limits.history_messages_max,
            history_bytes_max: limits.history_bytes_max,
            durable: plan.durable,
            heartbeat: limits.multicast_heartbeat,
            repeat: limits.multicast_repeat,
        }),
    }
}
