//! The links of a node to its peers: who is dialled, who has called, what waits for whom.

use crate::{
    traffic::Counters,
    transport::{
        Arrival,
        dialer::{DialerHandle, Dialing},
        inbound::{Cut, FromPeer, Inbound},
        outbox::{CHUNK_BYTES, Class, Outbox},
    },
    wire::{self, MESSAGE_BYTES_MAX, Part, Parts},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SelectAll, Stream};
use rand_core::{Rng as _, SeedableRng as _};
use roundelay_core::{Life, Name, NodeId, Rng, multicast, node::Message};
use std::{
    collections::BTreeMap,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// All links of a node.
#[derive(Debug)]
pub(crate) struct Links {
    dialing: Dialing,
    /// The address book, which goes before what callers say of themselves.
    book: BTreeMap<NodeId, String>,
    peers: BTreeMap<NodeId, Peer>,
    inbound: SelectAll<Inbound>,
    /// The messages of this batch, encoded one after the other, each of them once.
    batch: BytesMut,
    /// Peers with messages in it.
    unflushed: Vec<NodeId>,
    rng: Rng,
    dropped: u64,
    /// What has been sent.
    traffic: Arc<Counters>,
}

#[derive(Debug)]
struct Peer {
    name: Name,
    /// It is in the address book, and dialled whether it calls or not.
    wanted: bool,
    dialer: Option<DialerHandle>,
    out: Option<Outbound>,
    called: Option<Called>,
    /// The life for which the link was dialled anew: once each, because of two processes that
    /// share a name only one is at the address.
    redialled: Option<Life>,
}

/// The link on which this node sends.
#[derive(Debug)]
struct Outbound {
    outbox: Arc<Outbox>,
    life: Life,
    /// What of the batch is for this link, in order.
    chunks: Vec<Chunk>,
}

/// A part of the batch: one or more messages of a class.
#[derive(Debug)]
struct Chunk {
    class: Class,
    range: Range<usize>,
}

/// The link on which the peer sends.
#[derive(Debug)]
struct Called {
    link: u64,
    life: Life,
    cut: Arc<Cut>,
    end: oneshot::Sender<String>,
    /// The pieces of a large message, as far as they have come.
    parts: Parts,
}

/// What a new link is in place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The peer had no link.
    Nothing,
    /// A link to the same life.
    SameLife,
    /// A link to an earlier life, whose end has not been noticed.
    OtherLife,
    /// Nothing, since the peer is not wanted any more.
    Gone,
}

impl Links {
    pub(crate) fn new(
        dialing: Dialing,
        book: BTreeMap<NodeId, String>,
        rng: Rng,
        traffic: Arc<Counters>,
    ) -> Self {
        Self {
            dialing,
            book,
            peers: BTreeMap::new(),
            inbound: SelectAll::new(),
            batch: BytesMut::new(),
            unflushed: Vec::new(),
            rng,
            dropped: 0,
            traffic,
        }
    }

    /// Dials a peer of the address book from now on, if it is there.
    pub(crate) fn want(&mut self, name: Name) {
        let Some(address) = self.book.get(&name.id()).cloned() else { return };
        let dialer = self.dialing.dial(name.clone(), address, fork(&mut self.rng));
        self.peers.insert(name.id(), Peer::new(name, true, Some(dialer)));
    }

    /// Sends a message to those of `to` that there is a link to: encoded once, or not at all.
    pub(crate) fn send(&mut self, to: &[NodeId], message: &Message) {
        let mut encoded = None;
        let mut recipients = 0;
        for id in to {
            let Some(out) = self.peers.get_mut(id).and_then(|peer| peer.out.as_mut()) else {
                self.dropped += 1;
                continue;
            };
            let encoded = encoded.get_or_insert_with(|| encode(message, &mut self.batch));
            if encoded.ranges().is_empty() {
                self.dropped += 1;
                continue;
            }
            if out.chunks.is_empty() {
                self.unflushed.push(*id);
            }
            encoded.ranges().iter().for_each(|range| out.add(encoded.class(), range));
            recipients += 1;
        }
        self.traffic.count(message, recipients);
    }

    /// Lets the links take what was sent since the last time.
    pub(crate) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = self.batch.split().freeze();
        for id in self.unflushed.drain(..) {
            if let Some(out) = self.peers.get_mut(&id).and_then(|peer| peer.out.as_mut()) {
                let chunks = out.chunks.drain(..);
                let chunks = chunks.map(|chunk| (chunk.class, batch.slice(chunk.range)));
                self.dropped += out.outbox.put(chunks);
            }
        }
    }

    /// What has come from any peer.
    pub(crate) fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<FromPeer> {
        // The end of a set means that it is empty at the moment.
        match Pin::new(&mut self.inbound).poll_next(cx) {
            Poll::Ready(Some(from_peer)) => Poll::Ready(from_peer),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// A piece of a message has come over a peer's own link. The message, if that was the last.
    pub(crate) fn add_part(&mut self, id: NodeId, link: u64, part: Part) -> Option<Bytes> {
        let called = self.peers.get_mut(&id)?.called.as_mut();
        called.filter(|called| called.link == link)?.parts.add(part)
    }

    /// A link to `peer` stands. What it is in place of.
    pub(crate) fn on_up(&mut self, peer: NodeId, life: Life, outbox: Arc<Outbox>) -> Before {
        self.flush();
        let Some(peer) = self.peers.get_mut(&peer) else {
            // It has gone since it was dialled.
            outbox.close();
            return Before::Gone;
        };
        match peer.out.replace(Outbound { outbox, life, chunks: Vec::new() }) {
            Some(old) => {
                old.outbox.close();
                if old.life == life { Before::SameLife } else { Before::OtherLife }
            }
            None => Before::Nothing,
        }
    }

    /// The link of `outbox` has ended. Whether the peer is without one now.
    pub(crate) fn on_down(&mut self, id: NodeId, outbox: &Arc<Outbox>) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let ended = peer.out.take_if(|out| Arc::ptr_eq(&out.outbox, outbox)).is_some();
        self.forget_if_gone(id);
        ended
    }

    /// A peer has called. What people should know about it, if anything.
    pub(crate) fn on_arrival(&mut self, arrival: Arrival) -> Option<String> {
        let Arrival { hello, dial, inbound, end } = arrival;
        let id = hello.name.id();
        let peer =
            self.peers.entry(id).or_insert_with(|| Peer::new(hello.name.clone(), false, None));
        if peer.name != hello.name {
            // Ids are hashes: of two nodes with the same one, the first counts.
            let line = format!("{} has the same id as {}: rename one", hello.name, peer.name);
            // An error says that it has hung up.
            let _ = end.send(line.clone());
            return Some(line);
        }
        let called = Called {
            link: inbound.link(),
            life: hello.life,
            cut: inbound.cutter(),
            end,
            parts: Parts::default(),
        };
        let line =
            peer.called.replace(called).and_then(|old| old.give_way(&hello.name, hello.life));
        self.inbound.push(inbound);

        match (&peer.dialer, self.book.get(&id).cloned().or(dial)) {
            (Some(dialer), address) => {
                if let Some(address) = address {
                    dialer.readdress(address);
                }
                peer.meet(hello.life);
            }
            (None, Some(address)) => {
                let rng = fork(&mut self.rng);
                peer.dialer = Some(self.dialing.dial(hello.name, address, rng));
            }
            (None, None) => {}
        }
        line
    }

    /// A peer's own link has ended.
    pub(crate) fn on_end(&mut self, id: NodeId, link: u64) {
        self.flush();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.called.take_if(|called| called.link == link).is_none() {
            return;
        }
        if !peer.wanted {
            // Who is in no address book is dialled for as long as it calls.
            peer.dialer = None;
            if let Some(out) = &peer.out {
                out.outbox.close();
            }
        }
        self.forget_if_gone(id);
    }

    /// Ends a peer's own link, and tells it why.
    pub(crate) fn cut(&mut self, id: NodeId, link: u64, reason: String) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(called) = peer.called.take_if(|called| called.link == link) {
            called.cut.cut();
            // An error says that it has hung up.
            let _ = called.end.send(reason);
        }
        self.forget_if_gone(id);
    }

    /// Ends all own links behind what waits for them, and dials no more.
    pub(crate) fn close_outbound(&mut self) {
        self.flush();
        for peer in self.peers.values_mut() {
            peer.dialer = None;
            if let Some(out) = &peer.out {
                out.outbox.close();
            }
        }
    }

    /// Whether any own link still stands.
    pub(crate) fn any_outbound(&self) -> bool {
        self.peers.values().any(|peer| peer.out.is_some())
    }

    /// Messages that were not sent because there was no link, or too much waited for it.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn forget_if_gone(&mut self, id: NodeId) {
        if let Some(peer) = self.peers.get(&id)
            && !peer.wanted
            && peer.out.is_none()
            && peer.called.is_none()
        {
            self.peers.remove(&id);
        }
    }
}

impl Peer {
    fn new(name: Name, wanted: bool, dialer: Option<DialerHandle>) -> Self {
        Self { name, wanted, dialer, out: None, called: None, redialled: None }
    }

    /// The peer has called in this life: reach that life too, if it is another one.
    fn meet(&mut self, life: Life) {
        let Some(dialer) = &self.dialer else { return };
        match &self.out {
            None => dialer.dial_now(),
            Some(out) if out.life != life && self.redialled != Some(life) => {
                self.redialled = Some(life);
                dialer.dial_anew();
            }
            Some(_) => {}
        }
    }
}

impl Called {
    /// Makes way for a newer link of the same name.
    fn give_way(self, name: &Name, life: Life) -> Option<String> {
        self.cut.cut();
        // An error says that it has hung up.
        let _ = self.end.send("a newer link has taken its place".to_owned());
        (self.life != life)
            .then(|| format!("{name} called as another process: the older link is closed"))
    }
}

impl Outbound {
    /// Adds a part of the batch, to the one before if it stands right behind it.
    fn add(&mut self, class: Class, range: &Range<usize>) {
        match self.chunks.last_mut() {
            Some(last)
                if last.class == class
                    && last.range.end == range.start
                    && range.end - last.range.start <= CHUNK_BYTES =>
            {
                last.range.end = range.end;
            }
            _ => self.chunks.push(Chunk { class, range: range.clone() }),
        }
    }
}

/// Where in the batch a message is.
enum Encoded {
    Whole(Class, Range<usize>),
    /// In pieces, because it is large; none, if it is too large.
    Parts(Vec<Range<usize>>),
}

impl Encoded {
    fn ranges(&self) -> &[Range<usize>] {
        match self {
            Self::Whole(_, range) => std::slice::from_ref(range),
            Self::Parts(ranges) => ranges,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Whole(class, _) => *class,
            // All in one queue, so that they keep their order.
            Self::Parts(_) => Class::Bulk,
        }
    }
}

/// Adds a message to the batch.
fn encode(message: &Message, batch: &mut BytesMut) -> Encoded {
    let start = batch.len();
    wire::encode(message, batch);
    if batch.len() - start <= MESSAGE_BYTES_MAX {
        return Encoded::Whole(class(message), start..batch.len());
    }
    let frame = batch.split_off(start).freeze();
    let whole = wire::messages(frame).next().and_then(Result::ok).unwrap_or_default();
    Encoded::Parts(wire::cut(&whole, batch))
}

/// Which queue a message waits in.
fn class(message: &Message) -> Class {
    match message {
        Message::Order(multicast::Message { body, .. }) => match body {
            multicast::Body::Data { .. }
            | multicast::Body::Fetched { .. }
            | multicast::Body::Lesson { .. } => Class::Bulk,
            _ => Class::Urgent,
        },
        Message::Gossip(_) => Class::Bulk,
        Message::Detector(_) | Message::Founding(_) | Message::Change(_) | Message::Lock(_) => {
            Class::Urgent
        }
    }
}

/// A generator of its own for a task.
fn fork(rng: &mut Rng) -> Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Rng::from_seed(seed)
}
