//! What a peer sends on the stream that it dialled.

use super::lingering::Fault;
use crate::wire::v1::{self, client_frame::Kind};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::task::AtomicWaker;
use roundelay_core::NodeId;
use std::{
    error::Error as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};
use tonic::{Code, Status, Streaming};

static LINKS: AtomicU64 = AtomicU64::new(1);

/// The stream of one peer, polled by the driver itself.
#[derive(Debug)]
pub(crate) struct Inbound {
    peer: NodeId,
    link: u64,
    /// None once it has ended.
    stream: Option<Streaming<v1::ClientFrame>>,
    cut: Arc<Cut>,
    fault: Fault,
}

/// Lets the driver cut a stream that it has handed to a set of streams.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    cut: AtomicBool,
    reader: AtomicWaker,
}

impl Cut {
    /// Ends the stream without another word.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
    }
}

/// What came from a peer.
#[derive(Debug)]
pub(crate) struct FromPeer {
    pub(crate) peer: NodeId,
    /// Which of its links.
    pub(crate) link: u64,
    pub(crate) said: Said,
}

/// What came over a link.
#[derive(Debug)]
pub(crate) enum Said {
    /// A frame of encoded messages.
    Frame(Bytes),
    /// Nothing more, in order.
    End,
    /// Nothing more: the connection broke.
    Broken(io::ErrorKind),
    /// Something that no peer of this protocol says.
    Garbage(String),
}

impl Inbound {
    /// What `peer` sends on `stream`, over the connection with this `fault`.
    pub(crate) fn new(peer: NodeId, stream: Streaming<v1::ClientFrame>, fault: Fault) -> Self {
        let link = LINKS.fetch_add(1, Ordering::Relaxed);
        Self { peer, link, stream: Some(stream), cut: Arc::default(), fault }
    }

    /// Which link this is, of all of this process.
    pub(crate) fn link(&self) -> u64 {
        self.link
    }

    /// The means to cut it.
    pub(crate) fn cutter(&self) -> Arc<Cut> {
        Arc::clone(&self.cut)
    }
}

impl Stream for Inbound {
    type Item = FromPeer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FromPeer>> {
        self.cut.reader.register(cx.waker());
        if self.cut.cut.load(Ordering::Acquire) {
            self.stream = None;
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let said = match ready!(Pin::new(stream).poll_next(cx)) {
            Some(Ok(v1::ClientFrame { kind })) => match kind {
                Some(Kind::Frame(frame)) => Said::Frame(frame),
                Some(Kind::Hello(_)) => Said::Garbage("a second Hello".into()),
                // A kind of frame that this version does not know: skipped.
                None => Said::Frame(Bytes::new()),
            },
            Some(Err(status)) => failure(&status, &self.fault),
            None => Said::End,
        };
        if !matches!(said, Said::Frame(_)) {
            self.stream = None;
        }
        Poll::Ready(Some(FromPeer { peer: self.peer, link: self.link, said }))
    }
}

/// What the failure of a stream says about the connection or the peer.
pub(crate) fn failure(status: &Status, fault: &Fault) -> Said {
    if let Some(kind) = fault.get() {
        return Said::Broken(kind);
    }
    match status.code() {
        // What tonic's decoder says of a frame that is too large or no protobuf; a stream that the
        // peer or the connection ended has a cause.
        Code::OutOfRange | Code::Internal if status.source().is_none() => {
            Said::Garbage(status.message().to_owned())
        }
        _ => Said::Broken(io::ErrorKind::ConnectionAborted),
    }
}
