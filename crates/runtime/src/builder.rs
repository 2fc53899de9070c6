//! How a node is set up.

use crate::{
    gossip::{Rumor, Rumors, UNREAD_RUMOR_BYTES_MAX, UNREAD_RUMORS_MAX},
    mailbox::Mailbox,
    node::{Event, Events, Node, UNREAD_EVENTS_MAX},
    storage::StorageError,
    wire::{LEASE_MAX, MESSAGE_BYTES_MAX},
};
use roundelay_core::{
    Name, NodeId, founding::Trigger, gossip::Strategy, id::NameError, tokenring::Mode,
    view::MEMBERS_MAX,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// The port of a node that names none: "RING" on a telephone.
pub(crate) const DEFAULT_PORT: u16 = 7464;

/// The shortest lease.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// Sets up a node.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before it is started"]
pub struct Builder {
    name: String,
    listen: String,
    peers: Vec<(String, String)>,
    group: Option<Group>,
    gossip: Option<Gossip>,
    insecure: bool,
    limits: Limits,
    data_dir: Option<PathBuf>,
    durable: bool,
    record: Option<PathBuf>,
    subscribed: Subscribed,
}

/// Streams that begin before the node does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribed {
    pub(crate) events: Vec<Arc<Mailbox<Event>>>,
    pub(crate) rumors: Vec<Arc<Mailbox<Rumor>>>,
}

/// A group, for the lock and the order: who founds it together.
#[derive(Clone, Debug)]
#[must_use = "a group is part of a builder"]
pub struct Group {
    members: Vec<String>,
    next: Option<String>,
    trigger: Trigger,
    mode: Mode,
    hold: Duration,
    lease: Duration,
    lock: bool,
    order: bool,
}

/// A node's part in the gossip.
#[derive(Clone, Debug)]
#[must_use = "the gossip is part of a builder"]
pub struct Gossip {
    /// None: every peer with a link.
    neighbors: Option<Vec<String>>,
    strategy: Strategy,
}

/// How much of everything there may be, and how long things take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message of the order, in bytes.
    pub message_bytes_max: usize,
    /// The largest piece of a message that travels in one frame, in bytes.
    pub fragment_bytes: usize,
    /// The bytes of the order, of all members, that not everyone has received.
    pub unstable_bytes_max: usize,
    /// The delivered bytes that the application has not read.
    pub unread_bytes_max: usize,
    /// The delivered messages that are kept for [`Node::history`].
    pub history_messages_max: usize,
    /// The same in bytes.
    pub history_bytes_max: usize,
    /// How often the order repeats its clock while something is unstable.
    pub multicast_heartbeat: Duration,
    /// How long the order waits for an acknowledgement.
    pub multicast_repeat: Duration,
    /// How many waiters of one node are served before the token goes on.
    pub turn: usize,
    /// The waiters of this node, over all locks.
    pub waiters_max: usize,
    /// The locks that this node remembers.
    pub locks_max: usize,
    /// How long the lock waits for an acknowledgement.
    pub lock_repeat: Duration,
    /// How long a `try` waits for the holder's answer.
    pub try_timeout: Duration,
    /// How long a lock that nobody uses is remembered where it was used last, at least.
    pub lock_idle: Duration,
    /// The largest rumor, in bytes.
    pub rumor_bytes_max: usize,
    /// How long rumors are kept for repair.
    pub retention_age: Duration,
    /// How many bytes of rumors are kept for repair.
    pub retention_bytes: usize,
    /// The length of a round of the rumor strategy.
    pub round: Duration,
    /// How often neighbours compare what they have.
    pub anti_entropy: Duration,
    /// The lives of nodes whose rumors are remembered.
    pub origins_max: usize,
    /// How often heartbeats are sent: more often in a group whose lease is so short that fewer
    /// than four would go into it.
    pub heartbeat: Duration,
    /// The shortest silence that makes a peer suspect: shorter by as much as the heartbeat is, and at
    /// least twice as long.
    pub suspect_min: Duration,
    /// How long the link to a member may be down before the others consider to go on without it.
    pub grace: Duration,
    /// How long the view change waits for an answer.
    pub view_repeat: Duration,
    /// What may wait for one peer's link, in bytes: tokens, views, clocks.
    pub urgent_bytes_max: usize,
    /// What may wait for one peer's link, in bytes: messages and rumors.
    pub bulk_bytes_max: usize,
    /// Connections that may be open to this node at once.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            fragment_bytes: 60 << 10,
            unstable_bytes_max: 32 << 20,
            unread_bytes_max: 16 << 20,
            history_messages_max: 10_000,
            history_bytes_max: 64 << 20,
            multicast_heartbeat: Duration::from_millis(100),
            multicast_repeat: Duration::from_millis(200),
            turn: 8,
            waiters_max: 100_000,
            locks_max: 1_000_000,
            lock_repeat: Duration::from_millis(100),
            try_timeout: Duration::from_secs(1),
            lock_idle: Duration::from_secs(30),
            rumor_bytes_max: 1 << 20,
            retention_age: Duration::from_mins(10),
            retention_bytes: 64 << 20,
            round: Duration::from_millis(50),
            anti_entropy: Duration::from_secs(2),
            origins_max: 100_000,
            heartbeat: Duration::from_secs(1),
            suspect_min: Duration::from_secs(3),
            grace: Duration::from_millis(100),
            view_repeat: Duration::from_millis(200),
            urgent_bytes_max: 8 << 20,
            bulk_bytes_max: 64 << 20,
            connections_max: 1024,
        }
    }
}

/// Why a node did not start. Nothing runs then, and nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name cannot be one.
    #[error("{name:?} is not a name: {source}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        source: NameError,
    },
    /// Two entries have the same name.
    #[error("{0} is listed twice")]
    ListedTwice(String),
    /// The group's list does not have this node.
    #[error("{0} is not in its own group")]
    NotInGroup(String),
    /// The group's list is too long.
    #[error("a group has at most {MEMBERS_MAX} members, not {0}")]
    TooManyMembers(usize),
    /// The next node of the ring is not a member.
    #[error("the next node {0} is not in the group")]
    UnknownNext(String),
    /// A neighbour has no address.
    #[error("the neighbour {0} has no address")]
    UnknownNeighbor(String),
    /// The lease cannot be kept.
    #[error("a lease of {0:?} is not possible: at least 1 s, and at most 30 days")]
    Lease(Duration),
    /// A limit cannot be kept.
    #[error("the limit {name} is {value}: at most {max} is possible")]
    Limit {
        /// Which limit.
        name: &'static str,
        /// What it was set to.
        value: usize,
        /// What is possible.
        max: usize,
    },
    /// Everybody would be suspected all the time, or nobody would ever be heard.
    #[error(
        "a silence of {suspect_min:?} says nothing of a peer that speaks every {heartbeat:?}: \
         suspect_min must be at least twice the heartbeat, and that more than 0"
    )]
    Suspicion {
        /// The shortest silence that makes a peer suspect.
        suspect_min: Duration,
        /// How often heartbeats are sent.
        heartbeat: Duration,
    },
    /// The address to listen on cannot be resolved.
    #[error("cannot resolve {listen:?}: {source}")]
    Resolve {
        /// The address.
        listen: String,
        /// Why not.
        source: io::Error,
    },
    /// Whoever reaches the port would be trusted, and others than this machine could.
    #[error("{0} is not a loopback address: whoever reaches it would be trusted")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is durable is kept somewhere.
    #[error("a durable order needs a data directory")]
    NoDataDir,
    /// The recording cannot be written.
    #[error("cannot record into {path}: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system gave no thread or no random numbers.
    #[error("the system gave no resources: {0}")]
    System(io::Error),
}

impl Builder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            listen: format!("127.0.0.1:{DEFAULT_PORT}"),
            peers: Vec::new(),
            group: None,
            gossip: None,
            insecure: false,
            limits: Limits::default(),
            data_dir: None,
            durable: false,
            record: None,
            subscribed: Subscribed::default(),
        }
    }

    /// The address to listen on, `host:port`; port 0 is any free one. The default is loopback,
    /// port 7464.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Adds a line to the address book: `host:port`, resolved anew at each dial. The node's own
    /// line is ignored.
    pub fn peer(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        self.peers.push((name.into(), address.into()));
        self
    }

    /// The group that this node is a member of.
    pub fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// Takes part in the gossip.
    pub fn gossip(mut self, gossip: Gossip) -> Self {
        self.gossip = Some(gossip);
        self
    }

    /// Whether the node may listen where other machines reach it: whoever does is trusted.
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// Other limits than the default ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps the node's view in this directory, over a restart: what it has promised, accepted and
    /// installed, but neither messages nor locks. It is this node's alone, made if it is not there,
    /// and locked for as long as the node runs. Without it nothing is written, and the node begins
    /// each time as if it had never been.
    ///
    /// When a view changes, the node stands still until the disk has the change: who shares its
    /// thread ([`Builder::spawn`]) does, too. If the disk fails, the node stops at once, since it
    /// must not say what it may forget; [`Node::failure`] has the reason.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Keeps the order in the data directory, too: what is received is on disk before it is
    /// acknowledged, and own messages before they are sent. What has got its place is then there
    /// again after any restart, also of all members at once, as far back as the history goes
    /// ([`Limits::history_messages_max`]): the new life delivers it again, at the same positions.
    /// It costs each batch of messages an `fdatasync` at its sender and then one at its receivers,
    /// which the order waits for, but not the node.
    ///
    /// All members should do so: a group forgets what only those have acknowledged who do not.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Writes everything that the node's protocols get to see into this file, from the first
    /// moment on: enough for `roundelay sim replay` to live the run again. A file that exists is
    /// written anew; what happens is in it within a second. If it cannot be written any more,
    /// [`Event::RecordingEnded`] says so, and the node goes on without.
    ///
    /// It has all payloads in clear, and grows for as long as the node runs.
    pub fn record(mut self, path: impl Into<PathBuf>) -> Self {
        self.record = Some(path.into());
        self
    }

    /// What happens to the node from its first moment on: [`Node::events`] may be too late for
    /// that. Without a start, nothing ever happens.
    pub fn events(&mut self) -> Events {
        let mailbox = Arc::new(Mailbox::new(UNREAD_EVENTS_MAX, usize::MAX));
        self.subscribed.events.push(Arc::clone(&mailbox));
        Events { mailbox }
    }

    /// All rumors that the node hears: [`Node::subscribe`] may be too late for the first ones.
    pub fn subscribe(&mut self) -> Rumors {
        let mailbox = Arc::new(Mailbox::new(UNREAD_RUMORS_MAX, UNREAD_RUMOR_BYTES_MAX));
        self.subscribed.rumors.push(Arc::clone(&mailbox));
        Rumors { mailbox }
    }

    /// Starts the node on a thread of its own, so that nothing that the application does can hold
    /// it up: it listens when this returns, and dials its peers.
    pub async fn start(self) -> Result<Node, StartError> {
        crate::driver::start(self.check()?).await
    }

    /// Starts the node as a task of the runtime that this is called in, which must have its I/O
    /// and its time enabled. On a current-thread runtime that saves the two changes of threads of
    /// each request; in return the node stands still whenever the application blocks that thread,
    /// and its peers will suspect it if that takes long.
    pub async fn spawn(self) -> Result<Node, StartError> {
        crate::driver::spawn(self.check()?).await
    }
}

impl Group {
    /// A group of these members, in this order.
    pub fn of<S: Into<String>>(members: impl IntoIterator<Item = S>) -> Self {
        Self {
            members: members.into_iter().map(Into::into).collect(),
            next: None,
            trigger: Trigger::FirstOfList,
            mode: Mode::Rest,
            hold: Duration::from_secs(1),
            lease: Duration::from_secs(5),
            lock: true,
            order: true,
        }
    }

    /// The node that follows this one on the token's ring. The default is the next one of the
    /// list.
    pub fn next(mut self, name: impl Into<String>) -> Self {
        self.next = Some(name.into());
        self
    }

    /// When the group is started. By default the first member starts it once it has reached all
    /// others.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// How the token moves; what the founder says counts. By default it rests where it was used.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How long this node keeps a circulating token that it has no use for. Default: 1 s.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// How long a member may grant the lock, and its guards stay valid, without word of more than
    /// half of the others; what the founder says counts. When a member that may have had the lock
    /// dies, nobody gets it for about as long. At least 1 s; by default 5 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Whether the group has a lock. Default: yes.
    pub fn lock(mut self, lock: bool) -> Self {
        self.lock = lock;
        self
    }

    /// Whether the group has an order. Default: yes.
    pub fn order(mut self, order: bool) -> Self {
        self.order = order;
        self
    }
}

impl Gossip {
    /// Gossip with these neighbours, and with whoever has this node among its own.
    pub fn with_neighbors<S: Into<String>>(neighbors: impl IntoIterator<Item = S>) -> Self {
        let neighbors = neighbors.into_iter().map(Into::into).collect();
        Self { neighbors: Some(neighbors), strategy: Strategy::Tree }
    }

    /// Gossip with every peer that there is a link to.
    pub fn all_links() -> Self {
        Self { neighbors: None, strategy: Strategy::Tree }
    }

    /// How rumors are spread. Default: along a tree.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }
}

/// A builder that has been checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: Name,
    pub(crate) listen: String,
    pub(crate) insecure: bool,
    pub(crate) limits: Limits,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) durable: bool,
    pub(crate) record: Option<PathBuf>,
    /// Who may be dialled, and where.
    pub(crate) book: BTreeMap<NodeId, (Name, String)>,
    pub(crate) group: Option<GroupPlan>,
    /// The neighbours, or none: every peer with a link.
    pub(crate) gossip: Option<(Option<Vec<Name>>, Strategy)>,
    pub(crate) subscribed: Subscribed,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupPlan {
    pub(crate) members: Vec<Name>,
    pub(crate) next: Option<Name>,
    pub(crate) trigger: Trigger,
    pub(crate) mode: Mode,
    pub(crate) hold: Duration,
    pub(crate) lease: Duration,
    pub(crate) lock: bool,
    pub(crate) order: bool,
}

impl Builder {
    pub(crate) fn check(self) -> Result<Plan, StartError> {
        let name = named(&self.name)?;
        let mut book = BTreeMap::new();
        for (peer, address) in self.peers {
            let peer = named(&peer)?;
            if let Some((other, _)) = book.insert(peer.id(), (peer, address)) {
                return Err(StartError::ListedTwice(other.to_string()));
            }
        }
        book.remove(&name.id());
        let group = self.group.map(|group| group.check(&name)).transpose()?;
        let gossip = match self.gossip {
            None => None,
            Some(gossip) => Some((gossip.check(&name, &book)?, gossip.strategy)),
        };
        let Self { listen, insecure, limits, data_dir, durable, record, subscribed, .. } = self;
        limits.check()?;
        if durable && data_dir.is_none() {
            return Err(StartError::NoDataDir);
        }
        Ok(Plan {
            name,
            listen,
            insecure,
            limits,
            data_dir,
            durable,
            record,
            book,
            group,
            gossip,
            subscribed,
        })
    }
}

impl Limits {
    /// What travels in one piece has to fit into a message, and who is only a little late is not
    /// suspected.
    fn check(&self) -> Result<(), StartError> {
        let Self { heartbeat, suspect_min, .. } = *self;
        if heartbeat.is_zero() || suspect_min < heartbeat.saturating_mul(2) {
            return Err(StartError::Suspicion { suspect_min, heartbeat });
        }
        let max = MESSAGE_BYTES_MAX / 2;
        for (name, value) in
            [("rumor_bytes_max", self.rumor_bytes_max), ("fragment_bytes", self.fragment_bytes)]
        {
            if value > max {
                return Err(StartError::Limit { name, value, max });
            }
        }
        Ok(())
    }
}

impl Group {
    fn check(self, me: &Name) -> Result<GroupPlan, StartError> {
        let members = self.members.iter().map(|name| named(name)).collect::<Result<Vec<_>, _>>()?;
        if members.len() > MEMBERS_MAX {
            return Err(StartError::TooManyMembers(members.len()));
        }
        let mut seen = BTreeSet::new();
        for member in &members {
            if !seen.insert(member.id()) {
                return Err(StartError::ListedTwice(member.to_string()));
            }
        }
        if !seen.contains(&me.id()) {
            return Err(StartError::NotInGroup(me.to_string()));
        }
        let next = self.next.as_deref().map(named).transpose()?;
        if let Some(next) = next.as_ref().filter(|next| !seen.contains(&next.id())) {
            return Err(StartError::UnknownNext(next.to_string()));
        }
        let Self { trigger, mode, hold, lease, lock, order, .. } = self;
        if !(LEASE_MIN..=LEASE_MAX).contains(&lease) {
            return Err(StartError::Lease(lease));
        }
        Ok(GroupPlan { members, next, trigger, mode, hold, lease, lock, order })
    }
}

impl Gossip {
    fn check(
        &self,
        me: &Name,
        book: &BTreeMap<NodeId, (Name, String)>,
    ) -> Result<Option<Vec<Name>>, StartError> {
        let Some(neighbors) = &self.neighbors else { return Ok(None) };
        let mut checked = Vec::with_capacity(neighbors.len());
        for name in neighbors {
            let name = named(name)?;
            if name == *me {
                continue;
            }
            if !book.contains_key(&name.id()) {
                return Err(StartError::UnknownNeighbor(name.to_string()));
            }
            checked.push(name);
        }
        Ok(Some(checked))
    }
}

fn named(name: &str) -> Result<Name, StartError> {
    Name::new(name).map_err(|source| StartError::Name { name: name.to_owned(), source })
}
