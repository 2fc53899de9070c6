//! What waits for one link: assembled into a frame when the link asks for one.

use crate::wire::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, v1};
use bytes::Bytes;
use futures_core::Stream;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// How much of the urgent queue goes into one frame, in bytes; at least one message does.
const URGENT_BYTES: usize = 1 << 20;
/// How much of the bulk queue goes into one frame, in bytes; at least one message does. This is
/// what an urgent message may have to wait for.
const BULK_BYTES: usize = 64 << 10;
/// What a message costs beside its bytes, so that a queue of tiny ones is bounded too.
const OVERHEAD: usize = 64;

/// Which queue a message waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Tokens, views, clocks, heartbeats.
    Urgent,
    /// Messages of the order, and rumors.
    Bulk,
}

/// What became of a message that was put into an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits, and the link has to be flushed.
    First,
    /// It waits with others, and the link is about to be flushed.
    Behind,
    /// It was dropped: the link has ended, or too much waits for it.
    Dropped,
}

/// The queues of one link.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    urgent_bytes_max: usize,
    bulk_bytes_max: usize,
}

#[derive(Debug)]
struct State {
    hello: Option<v1::Hello>,
    urgent: Queue,
    bulk: Queue,
    /// Whether something was added since the last flush.
    unflushed: bool,
    /// Nothing more is taken; the stream ends behind what waits.
    closed: bool,
    link: Option<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, message: Bytes, bytes_max: usize) -> bool {
        let cost = message.len() + OVERHEAD;
        if self.bytes + cost > bytes_max {
            return false;
        }
        self.bytes += cost;
        self.messages.push_back(message);
        true
    }

    /// Moves messages into `frame` as long as there is `room`: at least one, and then as many as
    /// `budget` bytes hold.
    fn fill(&mut self, frame: &mut Vec<Bytes>, budget: usize, room: &mut usize) {
        let mut filled = 0;
        while let Some(message) = self.messages.front() {
            let cost = message.len() + OVERHEAD;
            if cost > *room || (filled > 0 && filled + cost > budget) {
                return;
            }
            filled += cost;
            *room -= cost;
            self.bytes -= cost;
            frame.extend(self.messages.pop_front());
        }
    }
}

impl Outbox {
    /// Empty queues of a link that begins with `hello`.
    pub(crate) fn new(hello: v1::Hello, urgent_bytes_max: usize, bulk_bytes_max: usize) -> Self {
        let state = State {
            hello: Some(hello),
            urgent: Queue::default(),
            bulk: Queue::default(),
            unflushed: false,
            closed: false,
            link: None,
        };
        Self { state: Mutex::new(state), urgent_bytes_max, bulk_bytes_max }
    }

    /// Adds a message.
    pub(crate) fn push(&self, class: Class, message: Bytes) -> Pushed {
        let mut state = self.lock();
        if state.closed || message.len() > MESSAGE_BYTES_MAX {
            return Pushed::Dropped;
        }
        let taken = match class {
            Class::Urgent => state.urgent.push(message, self.urgent_bytes_max),
            Class::Bulk => state.bulk.push(message, self.bulk_bytes_max),
        };
        if !taken {
            Pushed::Dropped
        } else if std::mem::replace(&mut state.unflushed, true) {
            Pushed::Behind
        } else {
            Pushed::First
        }
    }

    /// Lets the link take what was added.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        state.unflushed = false;
        let link = state.link.take();
        drop(state);
        if let Some(link) = link {
            link.wake();
        }
    }

    /// Ends the link behind what waits for it.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.flush();
    }

    /// The frames of this outbox, for its link.
    pub(crate) fn frames(self: &Arc<Self>) -> Frames {
        Frames { outbox: Arc::clone(self) }
    }

    fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<v1::ClientFrame>> {
        use v1::client_frame::Kind;
        let mut state = self.lock();
        if let Some(hello) = state.hello.take() {
            return Poll::Ready(Some(v1::ClientFrame { kind: Some(Kind::Hello(hello)) }));
        }
        let mut messages = Vec::new();
        // A message costs more than its framing takes, except for that of the frame itself.
        let mut room = FRAME_BYTES_MAX - OVERHEAD;
        state.urgent.fill(&mut messages, URGENT_BYTES, &mut room);
        state.bulk.fill(&mut messages, BULK_BYTES, &mut room);
        if !messages.is_empty() {
            let frame = v1::Frame { messages };
            return Poll::Ready(Some(v1::ClientFrame { kind: Some(Kind::Frame(frame)) }));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.link = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way, so a poisoned lock guards a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a link sends. When it is dropped the link has ended, and the outbox takes nothing more.
#[derive(Debug)]
pub(crate) struct Frames {
    outbox: Arc<Outbox>,
}

impl Stream for Frames {
    type Item = v1::ClientFrame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<v1::ClientFrame>> {
        self.outbox.poll_frame(cx)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let mut state = self.outbox.lock();
        state.closed = true;
        state.urgent = Queue::default();
        state.bulk = Queue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;

    fn outbox(urgent: usize, bulk: usize) -> Arc<Outbox> {
        Arc::new(Outbox::new(v1::Hello::default(), urgent, bulk))
    }

    fn poll(frames: &mut Frames) -> Poll<Option<v1::ClientFrame>> {
        Pin::new(frames).poll_next(&mut Context::from_waker(noop_waker_ref()))
    }

    fn messages(frames: &mut Frames) -> Vec<Bytes> {
        match poll(frames) {
            Poll::Ready(Some(v1::ClientFrame {
                kind: Some(v1::client_frame::Kind::Frame(frame)),
            })) => frame.messages,
            other => panic!("no frame: {other:?}"),
        }
    }

    fn hello(frames: &mut Frames) {
        let Poll::Ready(Some(frame)) = poll(frames) else { panic!("no hello") };
        assert!(matches!(frame.kind, Some(v1::client_frame::Kind::Hello(_))));
    }

    #[test]
    fn hello_goes_first_then_what_is_urgent_then_a_bounded_part_of_the_bulk() {
        let outbox = outbox(1 << 20, 1 << 20);
        let mut frames = outbox.frames();
        let bulk = Bytes::from(vec![0; 40 << 10]);
        assert_eq!(outbox.push(Class::Bulk, bulk.clone()), Pushed::First);
        assert_eq!(outbox.push(Class::Bulk, bulk.clone()), Pushed::Behind);
        assert_eq!(outbox.push(Class::Urgent, Bytes::from_static(b"u")), Pushed::Behind);
        outbox.flush();
        hello(&mut frames);
        assert_eq!(messages(&mut frames), [Bytes::from_static(b"u"), bulk.clone()]);
        // What becomes urgent now overtakes the rest of the bulk.
        assert_eq!(outbox.push(Class::Urgent, Bytes::from_static(b"v")), Pushed::First);
        assert_eq!(messages(&mut frames), [Bytes::from_static(b"v"), bulk]);
        assert!(poll(&mut frames).is_pending());
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_memory_is_bounded() {
        let outbox = outbox(200, 300);
        let mut frames = outbox.frames();
        hello(&mut frames);
        let message = || Bytes::from(vec![7; 36]);
        let taken = |class| {
            let pushed = std::iter::repeat_with(|| outbox.push(class, message())).take(9);
            pushed.filter(|pushed| *pushed != Pushed::Dropped).count()
        };
        assert_eq!(taken(Class::Urgent), 2);
        assert_eq!(taken(Class::Bulk), 3);
        assert_eq!(messages(&mut frames).len(), 5);
        assert_ne!(outbox.push(Class::Urgent, message()), Pushed::Dropped);
    }

    #[test]
    fn no_frame_is_larger_than_its_limit() {
        let outbox = outbox(64 << 20, 64 << 20);
        let mut frames = outbox.frames();
        hello(&mut frames);
        for size in [100, MESSAGE_BYTES_MAX, 1 << 10, 1 << 20, MESSAGE_BYTES_MAX, 300_000] {
            outbox.push(Class::Urgent, Bytes::from(vec![1; size]));
        }
        for size in [100, 50_000, 50_000, 1 << 20, 3] {
            outbox.push(Class::Bulk, Bytes::from(vec![1; size]));
        }
        assert_eq!(
            outbox.push(Class::Bulk, Bytes::from(vec![1; MESSAGE_BYTES_MAX + 1])),
            Pushed::Dropped
        );
        let mut count = 0;
        while count < 11 {
            use prost::Message as _;
            let frame = messages(&mut frames);
            count += frame.len();
            let frame = v1::client_frame::Kind::Frame(v1::Frame { messages: frame });
            assert!(v1::ClientFrame { kind: Some(frame) }.encoded_len() <= FRAME_BYTES_MAX);
        }
    }

    #[test]
    fn a_closed_outbox_drains_and_a_dead_link_takes_nothing() {
        let outbox = outbox(1000, 1000);
        let mut frames = outbox.frames();
        hello(&mut frames);
        outbox.push(Class::Urgent, Bytes::from_static(b"last"));
        outbox.close();
        assert_eq!(outbox.push(Class::Urgent, Bytes::from_static(b"late")), Pushed::Dropped);
        assert_eq!(messages(&mut frames), [Bytes::from_static(b"last")]);
        assert_eq!(poll(&mut frames), Poll::Ready(None));

        let outbox = self::outbox(1000, 1000);
        drop(outbox.frames());
        assert_eq!(outbox.push(Class::Bulk, Bytes::new()), Pushed::Dropped);
    }
}
