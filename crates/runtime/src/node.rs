//! The handle of a running node.

use crate::{
    builder::Builder,
    gossip::{PublishError, Rumors, UNREAD_RUMOR_BYTES_MAX, UNREAD_RUMORS_MAX},
    lock::{self, Guard, LockError},
    mailbox::{Mailbox, Taken},
    multicast::{Deliveries, Multicast, SendError},
    request::{Request, Requests, Stopped},
    shared::Shared,
    storage::StorageError,
    traffic::Traffic,
};
use bytes::Bytes;
use futures_core::Stream;
use roundelay_core::{
    Name, NodeId, Time, View,
    change::JoinRefusal,
    detector, founding,
    multicast::Delivery,
    node::Status,
    tokenring::{self, LockName, Wait},
};
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// How many events a reader may leave unread before it misses some.
pub(crate) const UNREAD_EVENTS_MAX: usize = 4096;

/// A running node. Clones are the same node; when the last one is dropped, guards included, the
/// node stops without leaving.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    requests: Requests,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // If nobody listens, it has stopped already.
        let _ = self.requests.say(Request::Stop);
    }
}

/// What happens to a node, for people to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer's state changed.
    Peer {
        /// Which peer.
        peer: NodeId,
        /// Its name.
        name: String,
        /// Its state from now on.
        state: detector::State,
    },
    /// The founding of the group goes on.
    Founding(founding::Event),
    /// A view begins, and this node is in it.
    View(Arc<Installed>),
    /// This node and enough of its view to decide what follows hear each other again, or no
    /// longer. Without them nothing is granted for longer than the lease, and nothing delivered.
    Quorum {
        /// Whether they do.
        regained: bool,
    },
    /// The group goes on without this node. If it has not asked for that, it comes back by itself,
    /// as a new member.
    Out {
        /// Whether it has.
        left: bool,
    },
    /// The group does not take this node in at the moment, and why. It asks again.
    JoinRefused(JoinRefusal),
    /// Of the lock: a circulating token, whom it waits for, what was lost and made anew.
    Lock(tokenring::Event),
    /// A message that was submitted, and whose place nobody waits for, is not in the order; or
    /// nobody knows whether it is.
    NotSent(SendError),
    /// This peer is a neighbour in the gossip now.
    NeighborUp(NodeId),
    /// Something about a link that is worth a line.
    Link(String),
    /// The recording that [`Builder::record`] asked for has ended, and why; the node goes on.
    RecordingEnded(String),
    /// So many events were dropped here, because the reader did not keep up.
    Missed(u64),
}

/// What [`Node::events`] returns.
#[derive(Debug)]
pub struct Events {
    pub(crate) mailbox: Arc<Mailbox<Event>>,
}

/// A view, as it begins at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The view.
    pub view: View,
    /// Whether this life of the node was not a member before.
    pub joins: bool,
    /// Members have lost their memory, and with it messages of the order may be lost: nobody has
    /// what stands between the last message that was delivered here and `position`.
    pub loss: bool,
    /// The place of the last message before it.
    pub position: u64,
}

impl Node {
    /// A node that will be called `name`, to be set up and started.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder::new(name.into())
    }

    pub(crate) fn new(shared: Arc<Shared>, requests: Requests) -> Self {
        Self { inner: Arc::new(Inner { shared, requests }) }
    }

    /// The name of this node.
    pub fn name(&self) -> &Name {
        &self.shared().name
    }

    /// The address that this node listens on.
    pub fn listen_addr(&self) -> SocketAddr {
        self.shared().listen
    }

    /// The name of node `id`, or its number if nobody has told this node its name.
    pub fn name_of(&self, id: NodeId) -> String {
        self.shared().name_of(id)
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events { mailbox: self.shared().events.subscribe(UNREAD_EVENTS_MAX, usize::MAX) }
    }

    /// Starts the group from here, and returns once it may be used. While it waits for absent
    /// members, [`Event::Founding`] says for whom.
    ///
    /// An error says that this start did not happen; the group may have been started by another.
    /// A node that is stopped meanwhile answers [`founding::StartError::NoGroup`].
    pub async fn start_group(&self) -> Result<View, founding::StartError> {
        self.ask(|reply| Request::Start { reply })
            .await
            .unwrap_or(Err(founding::StartError::NoGroup))
    }

    /// The view in use, while this node is in it.
    pub fn view(&self) -> Option<View> {
        self.shared().installed.borrow().clone()
    }

    /// Waits for the group to be started, and for this node to be in it. Does not return if this node is in no group, or stops
    /// before.
    pub async fn wait_installed(&self) -> View {
        let mut installed = self.shared().installed.subscribe();
        let view = installed.wait_for(Option::is_some).await;
        view.expect("this handle keeps the sender").clone().expect("it waited for one")
    }

    /// Gets the lock, waiting for as long as it takes, also for the group to be started. A caller
    /// that gives up waits no more.
    pub fn lock(
        &self,
        lock: LockName,
    ) -> impl Future<Output = Result<Guard, LockError>> + Send + 'static {
        lock::lock(self.clone(), lock, Wait::Queue)
    }

    /// Gets the lock if nobody has it.
    pub fn try_lock(
        &self,
        lock: LockName,
    ) -> impl Future<Output = Result<Guard, LockError>> + Send + 'static {
        lock::lock(self.clone(), lock, Wait::Try)
    }

    /// Spreads a rumor, waiting while too many are unconfirmed. Returns its number in this life.
    pub async fn publish(&self, payload: impl Into<Bytes>) -> Result<u64, PublishError> {
        if !self.shared().offers.gossip {
            return Err(PublishError::NoGossip);
        }
        let payload = payload.into();
        let limit = self.shared().limits.rumor_bytes_max;
        if payload.len() > limit {
            return Err(PublishError::TooLarge { limit });
        }
        let (reply, answer) = oneshot::channel();
        let published = self.requests().publish(payload, reply).await;
        published.map_err(|Stopped| PublishError::Stopped)?;
        answer.await.unwrap_or(Err(PublishError::Stopped))
    }

    /// How many of the rumors said here no neighbour is known to have; none once the node has
    /// stopped. The neighbours are asked, so that a later call knows more.
    pub async fn unconfirmed(&self) -> usize {
        self.ask(|reply| Request::Unconfirmed { reply }).await.unwrap_or_default()
    }

    /// The rumors that are heard from now on.
    pub fn subscribe(&self) -> Rumors {
        let rumors = &self.shared().rumors;
        Rumors { mailbox: rumors.subscribe(UNREAD_RUMORS_MAX, UNREAD_RUMOR_BYTES_MAX) }
    }

    /// The way to send into the one order.
    pub fn multicast(&self) -> Multicast {
        Multicast { node: self.clone() }
    }

    /// The messages of the order: from the first one, as far as they are retained, or from where
    /// an earlier reader stopped. Until somebody asks for them, they count as read.
    pub fn deliveries(&self) -> Deliveries {
        Deliveries::new(Arc::clone(self.shared()))
    }

    /// The retained messages of the order; none once the node has stopped.
    pub async fn history(&self) -> Vec<Delivery> {
        self.ask(|reply| Request::History { reply }).await.unwrap_or_default()
    }

    /// What people may look at; empty once the node has stopped.
    pub async fn status(&self) -> Status {
        let stopped = Status {
            peers: Vec::new(),
            founding: None,
            change: None,
            lock: None,
            order: None,
            gossip: None,
        };
        self.ask(|reply| Request::Status { reply }).await.unwrap_or(stopped)
    }

    /// What the clock of this node says: the times in [`Node::status`] are readings of it.
    pub fn now(&self) -> Time {
        self.shared().lease.now()
    }

    /// How many messages this node has sent so far.
    pub fn traffic(&self) -> Traffic {
        self.shared().traffic.read()
    }

    /// Hands everything over, says goodbye and stops: at most 5 seconds. From then on everything
    /// else answers that the node has stopped.
    pub async fn leave(&self) {
        // An error says that it has stopped, or that nobody can be asked any more.
        let _ = self.requests().say(Request::Leave);
        let mut stopped = self.shared().stopped.subscribe();
        stopped.wait_for(|stopped| *stopped).await.expect("this handle keeps the sender");
    }

    /// Why the node has stopped by itself, if it has: what must not be forgotten could not be kept
    /// in the data directory. To go on it is started anew, once its disk is sound.
    pub fn failure(&self) -> Option<&StorageError> {
        self.shared().failure.get()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.inner.requests
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.requests().ask(request(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }
}

impl Events {
    /// The next event; none after the node has stopped.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.mailbox.poll(cx).map(|taken| {
            Some(match taken? {
                Taken::Item(event, _) => event,
                Taken::Missed(events) => Event::Missed(events),
            })
        })
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(cx)
    }
}
