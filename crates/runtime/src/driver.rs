//! Drives a node: the only place where its state machine meets time, sockets and callers.
//!
//! One thread does everything: it takes one wake-up after the other from a closed list of sources,
//! gives the core its inputs, and performs the effects in their order. The streams of the peers
//! are polled right here, so a message passes through no channel and no other task on its way.

mod emitted;
mod lines;
mod links;
mod reading;
mod recording;
mod replies;
mod saving;
mod start;
mod timers;

pub(crate) use start::{spawn, start};

use crate::{
    clock::{Clock, Dial},
    lock::Loss,
    multicast::Delivered,
    node::Installed,
    request::{Incoming, Publish, Request, Send},
    shared::Shared,
    storage::StorageError,
    transport::{
        LinkEvent,
        inbound::{FromPeer, Said},
    },
    wire::{self, Decoded, Part, WireError},
};
use bytes::Bytes;
use lines::Lines;
use links::{Before, Links};
use recording::Recording;
use replies::Replies;
use roundelay_core::{
    Context, Effect, Input, NodeId, Protocol as _, Rng, Time, gossip, multicast,
    node::{self, Command, Message, Node, Timer},
    tokenring,
};
use saving::Saving;
use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};
use timers::{Alarm, Timers};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// A batch ends after so many inputs even if more wait.
const BATCH: usize = 256;
/// How long a leaving node may take for what the application had sent before.
const EMPTY: Duration = Duration::from_millis(800);
/// How long it may take until the others go on without a leaving node, that included.
const LEAVE: Duration = Duration::from_secs(4);
/// How long what waits for the links may take to be sent when the node stops.
const DRAIN: Duration = Duration::from_millis(500);
/// How long all connections may then take to end.
const CLOSE: Duration = Duration::from_millis(500);

/// Everything that can wake the driver.
#[derive(Debug)]
enum Wakeup {
    /// A handle asks for something; none: the last handle is gone.
    Request(Option<Request>),
    /// A link came or went.
    Link(LinkEvent),
    /// A peer says something.
    Peer(FromPeer),
    /// The application sends a message into the order.
    Send(Send),
    /// The application publishes a rumor.
    Publish(Publish),
    /// The application has read so many bytes of delivered messages, came, or went.
    Read(usize),
    /// The durable log is on disk up to this entry, or cannot be written.
    Appended(Result<u64, StorageError>),
    /// It is time for something.
    Timer,
}

/// Where wake-ups come from.
const SOURCES: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Since then: until all that the application had sent is under way, for a while.
    Emptying(Time),
    /// Since then, emptying included: until everything is handed over, for a while.
    Leaving(Time),
    /// Nothing more is done.
    Over,
}

/// A node and everything that it is connected to.
#[derive(Debug)]
struct Driver {
    node: Node,
    rng: Rng,
    clock: Clock,
    dial: Dial,
    now: Time,
    effects: Vec<Effect<Message, Timer, node::Event>>,
    timers: Timers<Timer>,
    links: Links,
    link_events: mpsc::Receiver<LinkEvent>,
    incoming: Incoming,
    replies: Replies,
    shared: Arc<Shared>,
    phase: Phase,
    /// The view in use, while this node is in it.
    installed: Option<Arc<Installed>>,
    /// When the lease ends that the guards stand on.
    lease: Time,
    /// Inputs since the last batch boundary.
    inputs: usize,
    /// The source that is asked first, so that none starves.
    turn: usize,
    alarm: Alarm,
    /// Whether the last handle is gone.
    hung_up: bool,
    /// Whether the application reads the delivered messages.
    reading: bool,
    /// What has been delivered in this batch, with what it counts as.
    delivered: VecDeque<(Delivered, usize)>,
    /// Delivered bytes that count as read, because nobody reads.
    unclaimed: usize,
    told: Told,
    lines: Lines,
    /// Where the record of the views is kept, if anywhere.
    saving: Saving,
    /// Where all inputs are written down, if anywhere.
    recording: Option<Recording>,
    /// Where the small payloads of received messages are kept.
    packing: wire::Packing,
    /// Messages of kinds that only a newer version knows.
    unknown: u64,
}

/// What was told since the readers were woken last.
#[derive(Debug, Default)]
struct Told {
    events: bool,
    rumors: bool,
}

/// What ends with the driver, in this order.
#[derive(Debug)]
struct Ending {
    /// Dropped to accept nothing more.
    listen: watch::Sender<()>,
    /// The task that accepts.
    listener: JoinHandle<()>,
    /// Dropped to end the connections of callers.
    connect: watch::Sender<()>,
    /// Closed when all sockets are.
    all_closed: mpsc::Receiver<()>,
}

impl Driver {
    async fn run(mut self, ending: Ending) {
        let found = self.saving.take_found();
        self.input(Input::Start(found.map(Box::new)));
        while self.phase != Phase::Over {
            self.fire_due();
            match poll_fn(|cx| Poll::Ready(self.poll_wakeup(cx))).await {
                Poll::Ready(wakeup) => {
                    self.now = self.clock.now();
                    self.on_wakeup(wakeup);
                    self.count_as_read();
                    if self.inputs >= BATCH {
                        self.end_batch();
                        // The links have something to take, and take it now.
                        tokio::task::yield_now().await;
                    }
                }
                Poll::Pending if self.hand_over() => step_back().await,
                // No input waits: the batch ends here.
                Poll::Pending => {
                    let fires = self.timers.has_boundary();
                    self.end_batch();
                    // What fired may have made room for what was not looked at.
                    if !fires && self.phase != Phase::Over {
                        self.arm();
                        self.sleep().await;
                    }
                }
            }
        }
        self.end_batch();
        self.close(ending).await;
    }

    /// Waits for whatever the last look around has found missing.
    async fn sleep(&mut self) {
        let mut woken = false;
        poll_fn(|cx| match self.alarm.poll(cx) {
            Poll::Pending if !std::mem::replace(&mut woken, true) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
        self.now = self.clock.now();
    }

    /// The next wake-up, if there is one now; else this task is woken when there is one.
    fn poll_wakeup(&mut self, cx: &mut task::Context<'_>) -> Poll<Wakeup> {
        loop {
            self.turn = (self.turn + 1) % SOURCES;
            let turn = self.turn;
            let mut sources = (0..SOURCES).map(|source| (turn + source) % SOURCES);
            if let Some(wakeup) = sources.find_map(|source| self.look_at(source, cx)) {
                return Poll::Ready(wakeup);
            }
            if self.alarm.poll(cx).is_ready() {
                return Poll::Ready(Wakeup::Timer);
            }
            self.shared.bell.register(cx.waker());
            // Again: the bell may have been rung before anyone listened.
            let rung = (self.incoming.sends.is_ready() && self.accepts_sends())
                || (self.incoming.publications.is_ready() && self.node.accepts_rumors())
                || self.shared.unread.is_changed();
            if !rung {
                return Poll::Pending;
            }
        }
    }

    fn look_at(&mut self, source: usize, cx: &mut task::Context<'_>) -> Option<Wakeup> {
        let polled = match source {
            0 if !self.hung_up => {
                let asked = self.incoming.requests.poll_recv(cx);
                asked.map(|asked| Some(Wakeup::Request(asked.map(|(request, _permit)| request))))
            }
            1 => self.link_events.poll_recv(cx).map(|event| event.map(Wakeup::Link)),
            2 => self.links.poll_inbound(cx).map(|said| Some(Wakeup::Peer(said))),
            3 if self.accepts_sends() => return self.incoming.sends.next().map(Wakeup::Send),
            4 if self.node.accepts_rumors() => {
                return self.incoming.publications.next().map(Wakeup::Publish);
            }
            5 => return self.shared.unread.take_read().map(Wakeup::Read),
            6 => self.saving.poll_appended(cx).map(|appended| Some(Wakeup::Appended(appended))),
            _ => return None,
        };
        match polled {
            Poll::Ready(wakeup) => wakeup,
            Poll::Pending => None,
        }
    }

    /// Sends wait for the group to be started, and for the window of the order.
    fn accepts_sends(&self) -> bool {
        match self.phase {
            Phase::Running | Phase::Emptying(_) => self.is_member() && self.node.accepts_sends(),
            // They are refused.
            Phase::Leaving(_) | Phase::Over => true,
        }
    }

    /// Whether this node is in a view.
    fn is_member(&self) -> bool {
        self.installed.is_some()
    }

    fn on_wakeup(&mut self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Request(Some(request)) => self.on_request(request),
            Wakeup::Request(None) => {
                self.hung_up = true;
                self.on_stop();
            }
            Wakeup::Link(event) => self.on_link(event),
            Wakeup::Peer(from_peer) => self.on_peer(from_peer),
            Wakeup::Send(send) => self.on_sends(send),
            Wakeup::Publish(Publish { payload, reply }) => {
                let ticket = self.shared.ticket();
                self.replies.await_publication(ticket, reply);
                self.command(Command::Gossip(gossip::Command::Publish { ticket, payload }));
            }
            Wakeup::Read(bytes) => self.on_read(bytes),
            Wakeup::Appended(Ok(number)) => self.input(Input::Appended(number)),
            Wakeup::Appended(Err(error)) => self.stop_unsaved(error),
            // What is due is fired at each turn.
            Wakeup::Timer => {}
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Start { reply } => {
                self.replies.begin_start(reply);
                self.command(Command::Start);
                self.replies.end_start();
            }
            Request::Lock { lock, ticket, wait, reply } => {
                self.replies.await_lock(ticket, reply);
                if self.shared.offers.lock {
                    self.command(Command::Lock(tokenring::Command::Lock { lock, ticket, wait }));
                } else {
                    self.replies.lock_refused(ticket, tokenring::Refusal::NotStarted);
                }
            }
            Request::Unlock { lock, ticket, done } => {
                if let Some(done) = done {
                    self.replies.await_release(ticket, done);
                }
                // Whatever was lost: nobody looks at this guard any more.
                self.shared.lease.forget(ticket);
                self.command(Command::Lock(tokenring::Command::Unlock { lock, ticket }));
            }
            // An error says that nobody waits for the answer any more.
            Request::Status { reply } => drop(reply.send(self.node.status())),
            Request::History { reply } => {
                let history = self.node.order().into_iter().flat_map(|order| order.history(1));
                drop(reply.send(history.cloned().collect()));
            }
            Request::Unconfirmed { reply } => {
                if self.shared.offers.gossip {
                    self.command(Command::Gossip(gossip::Command::Confirm));
                }
                let status = self.node.gossip().map(gossip::Gossip::status);
                let _ = reply.send(status.map_or(0, |status| status.unconfirmed));
            }
            Request::Leave if self.phase == Phase::Running => {
                self.incoming.sends.close();
                self.incoming.publications.close();
                self.phase = Phase::Emptying(self.now);
            }
            Request::Leave => {}
            Request::Stop => self.on_stop(),
        }
    }

    fn on_stop(&mut self) {
        // Who has begun to leave does so even if nobody waits for it.
        if self.phase == Phase::Running {
            self.phase = Phase::Over;
        }
    }

    /// Takes this message, and those that wait behind it, into the same batch.
    fn on_sends(&mut self, first: Send) {
        let mut next = Some(first);
        while let Some(send) = next {
            self.on_send(send);
            let more = self.inputs < BATCH && self.accepts_sends();
            next = if more { self.incoming.sends.next() } else { None };
        }
    }

    fn on_send(&mut self, send: Send) {
        let ticket = self.shared.ticket();
        if let Some(placed) = send.placed {
            self.replies.await_place(ticket, placed);
        }
        if self.is_member() {
            let payload = send.payload;
            self.command(Command::Order(multicast::Command::Send { ticket, payload }));
        } else {
            // It leaves before the group was started, or while it is in none.
            let reason = multicast::Refusal::Leaving;
            self.refuse_send(ticket, reason);
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { peer, life, outbox } => {
                let before = self.links.on_up(peer, life, outbox);
                if before == Before::OtherLife {
                    self.input(Input::LinkDown(peer));
                }
                if matches!(before, Before::Nothing | Before::OtherLife) {
                    self.input(Input::LinkUp(peer));
                }
            }
            LinkEvent::Down { peer, outbox } => {
                if self.links.on_down(peer, &outbox) {
                    self.input(Input::LinkDown(peer));
                }
            }
            LinkEvent::Inbound(arrival) => {
                self.shared.learn(&arrival.hello.name);
                if let Some(line) = self.links.on_arrival(*arrival) {
                    self.line(line);
                }
            }
            LinkEvent::Line(line) => self.line(line),
        }
    }

    fn on_peer(&mut self, FromPeer { peer, link, said }: FromPeer) {
        match said {
            Said::Frame(frame) => self.on_frame(peer, link, frame),
            Said::End => self.links.on_end(peer, link),
            Said::Broken(kind) => {
                self.links.on_end(peer, link);
                if kind == io::ErrorKind::ConnectionReset {
                    self.line(format!("{} reset the connection", self.shared.name_of(peer)));
                }
            }
            Said::Garbage(reason) => self.on_garbage(peer, link, reason),
        }
    }

    fn on_frame(&mut self, from: NodeId, link: u64, frame: Bytes) {
        for bytes in wire::messages(frame) {
            match bytes.and_then(|bytes| wire::decode(bytes, &mut self.packing)) {
                Ok(Decoded::Message(message)) => self.input(Input::Message { from, message }),
                Ok(Decoded::Part(part)) => {
                    if let Err(error) = self.on_part(from, link, part) {
                        return self.on_garbage(from, link, error.to_string());
                    }
                }
                Ok(Decoded::Unknown) => self.unknown += 1,
                Err(error) => return self.on_garbage(from, link, error.to_string()),
            }
            if self.inputs >= BATCH {
                self.end_batch();
            }
        }
    }

    fn on_part(&mut self, from: NodeId, link: u64, part: Part) -> Result<(), WireError> {
        if let Some(whole) = self.links.add_part(from, link, part) {
            match wire::decode_whole(whole, &mut self.packing)? {
                Some(message) => self.input(Input::Message { from, message }),
                None => self.unknown += 1,
            }
        }
        Ok(())
    }

    /// A peer says what no peer can say: its link is closed, and it may call again.
    fn on_garbage(&mut self, peer: NodeId, link: u64, reason: String) {
        self.line(format!("{} sent garbage: {reason}", self.shared.name_of(peer)));
        self.links.cut(peer, link, reason);
    }

    fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    /// Gives the core one input, and performs all effects before anything else.
    fn input(&mut self, input: Input<Message, Timer, Command>) {
        if self.saving.has_failed() {
            return;
        }
        self.inputs += 1;
        self.record_input(&input);
        let mut effects = std::mem::take(&mut self.effects);
        self.node.handle(input, &mut Context::new(self.now, &mut self.rng, &mut effects));
        self.record_effects(&effects);
        self.renew_lease(&effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, message } => self.links.send(to.peers(), &message),
                Effect::SetTimer { timer, after } => self.timers.set(timer, self.now, after),
                Effect::CancelTimer(timer) => self.timers.cancel(timer),
                // What comes after a save that fails never leaves.
                Effect::Save(record) if !self.save(&record) => break,
                Effect::Save(_) => {}
                Effect::Append(entry) => self.saving.append(&entry),
                Effect::Trim(number) => self.saving.trim(number),
                Effect::Emit(event) => self.on_event(event),
            }
        }
        self.effects = effects;
    }

    /// Tells the guards until when they are valid, before anybody gets one that stands on it. What
    /// is lost is said first: a lease that is renewed does not bring it back (H7).
    fn renew_lease(&mut self, effects: &[Effect<Message, Timer, node::Event>]) {
        let Some(lock) = self.node.lock() else { return };
        // A node that is a quorum alone renews its lease itself: for it there is no end.
        let until = lock.lease_until(Time::from_nanos(u64::MAX));
        if until == self.lease {
            return;
        }
        for effect in effects {
            if let Effect::Emit(node::Event::Lock(tokenring::Event::Lost {
                ticket, reason, ..
            })) = effect
            {
                self.shared.lease.lose(*ticket, Loss::from(*reason));
            }
        }
        self.lease = until;
        self.shared.lease.set(until);
    }

    /// Fires what is due.
    fn fire_due(&mut self) {
        let now = self.now;
        while let Some(timer) = self.timers.take_due(now) {
            self.input(Input::Timer(timer));
        }
        if let Err(error) = self.saving.check(now) {
            self.stop_unsaved(error);
        }
        match self.phase {
            Phase::Emptying(since) if since + EMPTY <= now || self.is_emptied() => {
                self.phase = Phase::Leaving(since);
                self.command(Command::Leave);
            }
            Phase::Leaving(since) if since + LEAVE <= now => self.phase = Phase::Over,
            _ => {}
        }
    }

    /// Whether nothing of the application waits that could be sent.
    fn is_emptied(&self) -> bool {
        (self.incoming.sends.is_empty() || !self.is_member())
            && self.incoming.publications.is_empty()
    }

    /// The batch boundary: the application and the timers that wait for it have their turn, and
    /// the links take what is for them.
    fn end_batch(&mut self) {
        for timer in self.timers.take_boundary() {
            self.input(Input::Timer(timer));
        }
        self.inputs = 0;
        self.saving.flush(self.now);
        self.links.flush();
        self.write_recording();
        self.hand_over();
    }

    /// Gives the application what is for it. Whether there was anything: it may have an answer,
    /// and that belongs to this batch.
    fn hand_over(&mut self) -> bool {
        let told = std::mem::take(&mut self.told);
        if told.events {
            self.shared.events.wake();
        }
        if told.rumors {
            self.shared.rumors.wake();
        }
        let delivered = !self.delivered.is_empty();
        if delivered {
            self.shared.unread.append(&mut self.delivered);
            self.shared.unread.wake();
        }
        self.replies.take_answered() || told.rumors || delivered
    }

    /// Sets the alarm for the next deadline.
    fn arm(&mut self) {
        let leaving = match self.phase {
            Phase::Emptying(since) => Some(since + EMPTY),
            Phase::Leaving(since) => Some(since + LEAVE),
            Phase::Running | Phase::Over => None,
        };
        let writing = self.recording.as_ref().and_then(Recording::deadline);
        let others = leaving.into_iter().chain(writing).chain(self.saving.deadline());
        if let Some(next) = self.timers.next().into_iter().chain(others).min() {
            self.alarm.set(self.dial.instant(next));
        }
    }

    /// Ends everything in order: what waits is sent, then the links end, then the connections.
    async fn close(mut self, ending: Ending) {
        self.end_recording();
        let Ending { listen, listener, connect, mut all_closed } = ending;
        // First of all, while nobody has a reason to dial this node: a connection that is not
        // accepted when a listener closes is reset by the kernel.
        drop(listen);
        // An error says that the task has panicked, and the listener is closed too.
        let _ = listener.await;
        self.links.close_outbound();
        let drained = poll_fn(|cx| {
            while self.links.any_outbound() {
                match self.poll_wakeup(cx) {
                    Poll::Ready(Wakeup::Link(LinkEvent::Down { peer, outbox })) => {
                        self.links.on_down(peer, &outbox);
                    }
                    // Two nodes that stop at once wait for each other's streams to end.
                    Poll::Ready(Wakeup::Peer(FromPeer { peer, link, said: Said::End })) => {
                        self.links.on_end(peer, link);
                    }
                    Poll::Ready(Wakeup::Request(None)) => self.hung_up = true,
                    Poll::Ready(Wakeup::Appended(Err(error))) => self.stop_unsaved(error),
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        });
        if timeout(DRAIN, drained).await.is_err() {
            tracing::debug!("some links did not end in time");
        }
        // While the directory is still locked: nobody else writes into the same log.
        if let Err(error) = self.saving.finish(self.now).await {
            self.stop_unsaved(error);
        }
        self.saving.close();
        tracing::debug!(dropped = self.links.dropped(), unknown = self.unknown, "the node stops");
        // The streams of the callers end with this, and then all of their connections.
        drop(self);
        drop(connect);
        if timeout(CLOSE, all_closed.recv()).await.is_err() {
            tracing::debug!("some connections did not end in time");
        }
    }
}

/// Lets all tasks that are ready have their turn. On a runtime that is shared with the application
/// a task that has just been answered asks for the next thing, and that belongs to this batch: the
/// request for a lock then travels with the token, and the messages of a window together.
async fn step_back() {
    let mut stepped = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        // Not the runtime's own way to yield, which asks the system for events first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
