//! What the handles ask of the driver.

use crate::{gossip::PublishError, lock::LockError, multicast::SendError, node::Installed};
use bytes::Bytes;
use roundelay_core::{
    founding,
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
    Start { reply: oneshot::Sender<Result<Installed, founding::StartError>> },
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
    _room: OwnedSemaphorePermit,
}

/// A rumor: taken only while the gossip accepts one.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) payload: Bytes,
    pub(crate) reply: oneshot::Sender<Result<u64, PublishError>>,
    _room: OwnedSemaphorePermit,
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
    sends: mpsc::Sender<Send>,
    publications: mpsc::Sender<Publish>,
    /// The bytes that may be on their way, for each of the two.
    send_room: Arc<Semaphore>,
    publish_room: Arc<Semaphore>,
}

/// The driver's ends.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) requests: mpsc::UnboundedReceiver<(Request, Option<OwnedSemaphorePermit>)>,
    pub(crate) sends: mpsc::Receiver<Send>,
    pub(crate) publications: mpsc::Receiver<Publish>,
}

/// The driver is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

impl Requests {
    /// A way to the driver, and its ends.
    pub(crate) fn new() -> (Self, Incoming) {
        let (queue, requests) = mpsc::unbounded_channel();
        let (sends, sends_end) = mpsc::channel(REQUESTS_MAX);
        let (publications, publications_end) = mpsc::channel(REQUESTS_MAX);
        let permits = Arc::new(Semaphore::new(REQUESTS_MAX));
        let [send_room, publish_room] =
            std::array::from_fn(|_| Arc::new(Semaphore::new(PAYLOAD_BYTES_MAX)));
        (
            Self { queue, permits, sends, publications, send_room, publish_room },
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
        let room = room(&self.send_room, &payload).await;
        self.sends.send(Send { payload, placed, _room: room }).await.map_err(|_| Stopped)
    }

    /// Hands a rumor over, once there is room for it.
    pub(crate) async fn publish(
        &self,
        payload: Bytes,
        reply: oneshot::Sender<Result<u64, PublishError>>,
    ) -> Result<(), Stopped> {
        let room = room(&self.publish_room, &payload).await;
        self.publications.send(Publish { payload, reply, _room: room }).await.map_err(|_| Stopped)
    }
}

async fn room(semaphore: &Arc<Semaphore>, payload: &Bytes) -> OwnedSemaphorePermit {
    let bytes = payload.len().min(PAYLOAD_BYTES_MAX) as u32;
    let room = Arc::clone(semaphore).acquire_many_owned(bytes).await;
    room.expect("the semaphore is never closed")
}
