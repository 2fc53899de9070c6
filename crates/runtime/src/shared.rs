//! What handles and driver both look at.

use crate::{
    builder::Limits, clock::Clock, funnel::Bell, gossip::Rumor, lock::Lease, mailbox::Subscribers,
    multicast::Unread, node::Event, storage::StorageError, traffic::Counters,
};
use roundelay_core::{Name, NodeId, View};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// How many names are remembered besides those of the address book and the view.
const NAMES_MAX: usize = 100_000;

/// State that handles and driver share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Name,
    pub(crate) listen: SocketAddr,
    pub(crate) limits: Limits,
    pub(crate) offers: Offers,
    pub(crate) events: Subscribers<Event>,
    pub(crate) rumors: Subscribers<Rumor>,
    pub(crate) unread: Unread,
    /// Wakes the driver.
    pub(crate) bell: Bell,
    /// The lease on which the guards of this node stand.
    pub(crate) lease: Lease,
    /// The view in use, while this node is in it.
    pub(crate) installed: watch::Sender<Option<View>>,
    pub(crate) stopped: watch::Sender<bool>,
    /// Why the node has stopped, if nobody has asked for that.
    pub(crate) failure: OnceLock<StorageError>,
    pub(crate) traffic: Arc<Counters>,
    tickets: AtomicU64,
    names: RwLock<BTreeMap<NodeId, Name>>,
}

/// The protocols that a node takes part in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offers {
    pub(crate) lock: bool,
    pub(crate) order: bool,
    pub(crate) gossip: bool,
}

impl Shared {
    pub(crate) fn new(
        name: Name,
        listen: SocketAddr,
        limits: Limits,
        offers: Offers,
        names: BTreeMap<NodeId, Name>,
        clock: Clock,
    ) -> Self {
        let bell = Bell::default();
        Self {
            name,
            listen,
            unread: Unread::new(&limits, Bell::clone(&bell)),
            bell,
            limits,
            offers,
            events: Subscribers::new(),
            rumors: Subscribers::new(),
            lease: Lease::new(clock),
            installed: watch::Sender::new(None),
            stopped: watch::Sender::new(false),
            failure: OnceLock::new(),
            traffic: Arc::default(),
            tickets: AtomicU64::new(1),
            names: RwLock::new(names),
        }
    }

    /// A number that no other wait, send or publication of this life has.
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// What people call this node: its name if it is known, else its number.
    pub(crate) fn name_of(&self, id: NodeId) -> String {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&id).map_or_else(|| id.to_string(), Name::to_string)
    }

    /// Remembers a name.
    pub(crate) fn learn(&self, name: &Name) {
        let id = name.id();
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.entry(id).or_insert_with(|| name.clone());
        }
    }

    /// Says why the node stops.
    pub(crate) fn fail(&self, error: StorageError) {
        // An error says that there is a reason already; the first one counts.
        let _ = self.failure.set(error);
    }

    /// Ends everything that anyone waits for.
    pub(crate) fn stop(&self) {
        self.lease.stop();
        self.installed.send_replace(None);
        self.events.close();
        self.rumors.close();
        self.unread.close();
        self.stopped.send_replace(true);
    }
}
