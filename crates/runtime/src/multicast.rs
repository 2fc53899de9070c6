//! The order as an application uses it.

use crate::{
    builder::Limits,
    funnel::Bell,
    mailbox::Mailbox,
    node::{Installed, Node},
    request::Stopped,
    shared::Shared,
};
use bytes::Bytes;
use futures_core::Stream;
use roundelay_core::multicast::{Delivery, Refusal};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// Why a message was not sent. Unless a variant says otherwise it is not in the order, and never
/// will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This node takes part in no order.
    #[error("this node takes part in no order")]
    NoOrder,
    /// The message is larger than the limit.
    #[error("the message is larger than {limit} bytes")]
    TooLarge {
        /// The largest message, in bytes.
        limit: usize,
    },
    /// This node's share of the undelivered bytes is used up, and waiting does not help: the
    /// message alone is larger than the share.
    #[error("the message does not fit into this member's window")]
    WindowFull,
    /// This node is leaving the order.
    #[error("this node is leaving the order")]
    Leaving,
    /// It may be in the order or not: the group went on without this node, and that part of the
    /// order is not kept by anybody.
    #[error("nobody knows any more whether the message is in the order")]
    Unknown,
    /// The node stopped. If the message had been accepted, it may be in the order all the same.
    #[error("the node has stopped")]
    Stopped,
}

impl SendError {
    pub(crate) fn from_refusal(refusal: Refusal, limits: &Limits) -> Self {
        match refusal {
            Refusal::NotStarted => Self::NoOrder,
            Refusal::TooLarge => Self::TooLarge { limit: limits.message_bytes_max },
            Refusal::WindowFull => Self::WindowFull,
            Refusal::Leaving => Self::Leaving,
            Refusal::Unknown => Self::Unknown,
        }
    }
}

/// Sends messages into the one order.
#[derive(Clone, Debug)]
pub struct Multicast {
    pub(crate) node: Node,
}

impl Multicast {
    /// Sends a message and waits until it has its place in the order, which then never changes: a
    /// strict majority of the members has it. Returns that place, counted from 1.
    ///
    /// Waits for the group to be started, and for the window. A caller that gives up waiting may
    /// have sent the message all the same.
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<u64, SendError> {
        let (placed, answer) = oneshot::channel();
        self.enqueue(payload.into(), Some(placed)).await?;
        answer.await.unwrap_or(Err(SendError::Stopped))
    }

    /// Sends a message and returns as soon as this node has it: it gets its place behind all that
    /// this node sent before, unless the node stops, or the group is never started. A node that
    /// leaves takes its messages along.
    ///
    /// Waits when the node has too many messages that are not under way.
    pub async fn submit(&self, payload: impl Into<Bytes>) -> Result<(), SendError> {
        self.enqueue(payload.into(), None).await
    }

    async fn enqueue(
        &self,
        payload: Bytes,
        placed: Option<oneshot::Sender<Result<u64, SendError>>>,
    ) -> Result<(), SendError> {
        let shared = self.node.shared();
        if !shared.offers.order {
            return Err(SendError::NoOrder);
        }
        let limit = shared.limits.message_bytes_max;
        if payload.len() > limit {
            return Err(SendError::TooLarge { limit });
        }
        let sent = self.node.requests().send(payload, placed).await;
        sent.map_err(|Stopped| SendError::Stopped)
    }
}

/// What the one order brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The next message.
    Message(Delivery),
    /// A view begins: all messages before it were ordered in earlier ones.
    View(Arc<Installed>),
    /// This part of the order has passed while the node was not in the group, and nobody keeps it
    /// any more.
    Missed {
        /// The first position,
        from: u64,
        /// and the last one.
        to: u64,
    },
}

impl Delivered {
    /// The message, if it is one.
    pub fn message(self) -> Option<Delivery> {
        match self {
            Self::Message(delivery) => Some(delivery),
            Self::View(_) | Self::Missed { .. } => None,
        }
    }
}

/// The one order as it is delivered here: the back-pressure of a slow reader reaches the senders.
#[derive(Debug)]
pub struct Deliveries {
    shared: Arc<Shared>,
    /// What has been taken from the driver and not been read.
    taken: VecDeque<(Delivered, usize)>,
}

impl Deliveries {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.unread.readers.fetch_add(1, Ordering::AcqRel);
        shared.unread.tell_driver();
        Self { shared, taken: VecDeque::new() }
    }

    /// What comes next; none after the node has stopped.
    pub async fn next(&mut self) -> Option<Delivered> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The next message, for who does not care about views; none after the node has stopped.
    pub async fn next_message(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.next().await?.message() {
                return Some(delivery);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivered>> {
        let unread = &self.shared.unread;
        if self.taken.is_empty() && ready!(unread.mailbox.poll_all(&mut self.taken, cx)).is_none() {
            return Poll::Ready(None);
        }
        let (delivered, bytes) = self.taken.pop_front().expect("something was taken");
        unread.note_read(&delivered, bytes, self.taken.is_empty());
        Poll::Ready(Some(delivered))
    }
}

impl Stream for Deliveries {
    type Item = Delivered;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivered>> {
        self.get_mut().poll(cx)
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        // Another reader may go on here.
        self.shared.unread.mailbox.put_back(&mut self.taken);
        // Without a reader everything counts as read again, else nobody could send any more.
        self.shared.unread.readers.fetch_sub(1, Ordering::AcqRel);
        self.shared.unread.tell_driver();
    }
}

/// Delivered messages on their way to the application.
#[derive(Debug)]
pub(crate) struct Unread {
    mailbox: Mailbox<Delivered>,
    /// How many [`Deliveries`] exist.
    readers: AtomicUsize,
    /// Bytes that have been read and not been reported to the core.
    read: AtomicUsize,
    /// The driver is told of them when there are so many, or when everything has been read.
    report: usize,
    /// The position behind the last message that was read.
    next: AtomicU64,
    /// The number of the last view that was read.
    last_view: AtomicU64,
    /// Whether the driver has something to look at.
    changed: AtomicBool,
    bell: Bell,
}

impl Unread {
    pub(crate) fn new(limits: &Limits, bell: Bell) -> Self {
        Self {
            // The core's limit of unread bytes bounds it.
            mailbox: Mailbox::new(usize::MAX, usize::MAX),
            readers: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            report: (limits.unread_bytes_max / 4).min(256 * 1024),
            next: AtomicU64::new(1),
            last_view: AtomicU64::new(0),
            changed: AtomicBool::new(false),
            bell,
        }
    }

    /// Adds messages with what they count as: nothing if the core counts them as read already.
    pub(crate) fn append(&self, delivered: &mut VecDeque<(Delivered, usize)>) {
        self.mailbox.append(delivered);
    }

    /// Tells the reader that there is something to read.
    pub(crate) fn wake(&self) {
        self.mailbox.wake();
    }

    /// Whether anyone reads.
    pub(crate) fn has_reader(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    /// The position that the reader needs next.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// The number of the last view that was read.
    pub(crate) fn last_view(&self) -> u64 {
        self.last_view.load(Ordering::Acquire)
    }

    /// Forgets what nobody will read, and returns the bytes that it counted as.
    pub(crate) fn clear(&self) -> usize {
        self.mailbox.clear()
    }

    /// The bytes that were read since the last call, once there is something to report.
    pub(crate) fn take_read(&self) -> Option<usize> {
        let changed = self.is_changed() && self.changed.swap(false, Ordering::AcqRel);
        changed.then(|| self.read.swap(0, Ordering::AcqRel))
    }

    /// Whether there is something to report.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Ends the stream.
    pub(crate) fn close(&self) {
        self.mailbox.close();
    }

    /// The application has this. The driver hears of it when that was a good part of what may be
    /// unread, or the last of what was taken.
    fn note_read(&self, delivered: &Delivered, bytes: usize, last: bool) {
        match delivered {
            Delivered::Message(Delivery { position, .. })
            | Delivered::Missed { to: position, .. } => {
                self.next.store(position + 1, Ordering::Release);
            }
            Delivered::View(installed) => {
                self.last_view.store(installed.view.number, Ordering::Release);
            }
        }
        let read = self.read.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if read > 0 && (read >= self.report || last) {
            self.tell_driver();
        }
    }

    fn tell_driver(&self) {
        self.changed.store(true, Ordering::Release);
        self.bell.wake();
    }
}
