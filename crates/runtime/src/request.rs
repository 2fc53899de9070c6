//! What the handles ask of the driver.

use crate::{
    funnel::{Bell, Closed, Funnel, Outlet, funnel},
    gossip::PublishError,
    lock::LockError,
    multicast::SendError,
};
use bytes::Bytes;
use roundelay_core::{
    View, founding,
    multicast::Delivery,
    node::Status,
    tokenring::{LockName, Wait},
};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// How many requests of a kind may be on their way to the driver.
const REQUESTS_MAX: usize = 1024;
/// How many bytes of payloads of a kind may be on their way; one payload always may.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// A request that needs no window.
#[derive(Debug)]
pub(crate) enum Request {
    /// Found the group from here.
    Start { reply: oneshot::Sender<Result<View, founding::StartError>> },
    /// Get a lock.
    Lock { lock: LockName, ticket: u64, wait: Wait, reply: oneshot::Sender<Result<u64, LockError>> },
    /// Release it, or stop waiting.
    Unlock { lock: LockName, ticket: u64, done: Option<oneshot::Sender<()>> },
    /// Look at everything.
    Status { reply: oneshot::Sender<Status> },
    /// Look at the retained messages of the order.
    History { reply: oneshot::Sender<Vec<Delivery>> },
    /// Ask the neighbours what they have, and say how many own rumors nobody is known to have.
    Unconfirmed { reply: oneshot::Sender<usize> },
    /// Leave, then stop.
    Leave,
    /// Stop without leaving.
    Stop,
}

/// A message for the order: taken only while the order accepts one.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) payload: Bytes,
    /// Who wants to know its place in the order.
    pub(crate) placed: Option<oneshot::Sender<Result<u64, SendError>>>,
}

/// A rumor: taken only while the gossip accepts one.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) payload: Bytes,
    pub(crate) reply: oneshot::Sender<Result<u64, PublishError>>,
}

/// The way to the driver.
///
/// Requests go through one channel, so that an unlock never overtakes its lock. It has no limit of
/// its own because a guard that is dropped cannot wait; what bounds it is that a request waits for
/// a permit, and that there is one unlock at most for each of those.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    queue: mpsc::UnboundedSender<(Request, Option<OwnedSemaphorePermit>)>,
    permits: Arc<Semaphore>,
    sends: Funnel<Send>,
    publications: Funnel<Publish>,
}

/// The driver's ends.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) requests: mpsc::UnboundedReceiver<(Request, Option<OwnedSemaphorePermit>)>,
    pub(crate) sends: Outlet<Send>,
    pub(crate) publications: Outlet<Publish>,
}

/// The driver is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

impl Requests {
    /// A way to the driver, which `bell` wakes, and its ends.
    pub(crate) fn new(bell: &Bell) -> (Self, Incoming) {
        let (queue, requests) = mpsc::unbounded_channel();
        let (sends, sends_end) = funnel(REQUESTS_MAX, PAYLOAD_BYTES_MAX, Arc::clone(bell));
        let (publications, publications_end) =
            funnel(REQUESTS_MAX, PAYLOAD_BYTES_MAX, Arc::clone(bell));
        let permits = Arc::new(Semaphore::new(REQUESTS_MAX));
        (
            Self { queue, permits, sends, publications },
            Incoming { requests, sends: sends_end, publications: publications_end },
        )
    }

    /// Asks for something, once there is room for it.
    pub(crate) async fn ask(&self, request: Request) -> Result<(), Stopped> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Stopped)?;
        self.queue.send((request, Some(permit))).map_err(|_| Stopped)
    }

    /// Says something that cannot wait: an unlock, a stop.
    pub(crate) fn say(&self, request: Request) -> Result<(), Stopped> {
        self.queue.send((request, None)).map_err(|_| Stopped)
    }

    /// Hands a message for the order over, once there is room for it.
    pub(crate) async fn send(
        &self,
        payload: Bytes,
        placed: Option<oneshot::Sender<Result<u64, SendError>>>,
    ) -> Result<(), Stopped> {
        let bytes = payload.len();
        self.sends.push(Send { payload, placed }, bytes).await.map_err(|Closed| Stopped)
    }

    /// Hands a rumor over, once there is room for it.
    pub(crate) async fn publish(
        &self,
        payload: Bytes,
        reply: oneshot::Sender<Result<u64, PublishError>>,
    ) -> Result<(), Stopped> {
        let bytes = payload.len();
        self.publications.push(Publish { payload, reply }, bytes).await.map_err(|Closed| Stopped)
    }
}
