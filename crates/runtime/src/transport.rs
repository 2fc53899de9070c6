//! Links: long-lived gRPC streams between nodes, one in each direction of a pair.

pub(crate) mod dialer;
pub(crate) mod inbound;
pub(crate) mod lingering;
pub(crate) mod listener;
pub(crate) mod outbox;
pub(crate) mod socket;
#[cfg(test)]
mod tests;

use crate::wire::Hello;
use inbound::Inbound;
use outbox::Outbox;
use roundelay_core::{Life, Name, NodeId};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// How long connecting, resolving a name, or introducing oneself may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often an idle connection is probed, so that one whose other end is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the answer may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the kernel tries to get bytes acknowledged before it gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// What a sender may have under way on one link before the receiver has read it, in bytes.
const WINDOW_BYTES: u32 = 1 << 20;
/// The largest HTTP/2 frame, in bytes.
const HTTP2_FRAME_BYTES: u32 = 64 << 10;
/// What HTTP/2 and the kernel may each hold back unsent, in bytes: an urgent message waits behind
/// it.
const UNSENT_BYTES: usize = 64 << 10;
/// The largest header of a call, in bytes.
const HEADER_BYTES_MAX: u32 = 8 << 10;

/// Who this node is on its links.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: Name,
    pub(crate) life: Life,
    /// Where it listens, `host:port`.
    pub(crate) listen: String,
}

/// What links report to the driver.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A link to `peer` stands: what is put into `outbox` will probably arrive.
    Up { peer: NodeId, life: Life, outbox: Arc<Outbox> },
    /// The link of this outbox has ended.
    Down { peer: NodeId, outbox: Arc<Outbox> },
    /// A peer has linked to this node.
    Inbound(Box<Arrival>),
    /// Something that people may want to know.
    Line(String),
}

/// A peer that has linked to this node.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) hello: Hello,
    /// Where it may be dialled, as far as it said so.
    pub(crate) dial: Option<String>,
    /// What it sends.
    pub(crate) inbound: Inbound,
    /// Dropped or used to end the link in order, with a reason if there is one.
    pub(crate) end: oneshot::Sender<String>,
}

/// The way from links to the driver.
pub(crate) type LinkEvents = mpsc::Sender<LinkEvent>;
