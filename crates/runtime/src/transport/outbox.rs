//! What waits for one link: put together into a frame when the link asks for one.

use crate::wire::{FRAME_BYTES_MAX, v1};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// The largest chunk of several messages, in bytes.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// How much of the urgent queue goes into one frame, in bytes; at least one chunk does.
const URGENT_BYTES: usize = 1 << 20;
/// How much of the bulk queue goes into one frame, in bytes; at least one chunk does. This is what
/// an urgent message may have to wait for.
const BULK_BYTES: usize = 64 << 10;
/// What a chunk costs beside its bytes, so that a queue of tiny ones is bounded too.
const OVERHEAD: usize = 64;
/// A chunk that is smaller than this and has to wait is copied to the others that wait: it may be a
/// small part of a large batch, which it would keep in memory.
const COPIED_BELOW: usize = 8 << 10;

/// Which queue a message waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Tokens, views, clocks, heartbeats.
    Urgent,
    /// Messages of the order, and rumors.
    Bulk,
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
    /// Nothing more is taken; the stream ends behind what waits.
    closed: bool,
    link: Option<Waker>,
}

/// Chunks: one or more encoded messages each, as they stand in a frame.
#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// The small ones among the last.
    tail: BytesMut,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, chunk: Bytes, bytes_max: usize) -> bool {
        let cost = chunk.len() + OVERHEAD;
        if self.bytes + cost > bytes_max {
            return false;
        }
        self.bytes += cost;
        let waits = !self.chunks.is_empty() || !self.tail.is_empty();
        if waits && chunk.len() < COPIED_BELOW && self.tail.len() + chunk.len() <= CHUNK_BYTES {
            self.tail.extend_from_slice(&chunk);
            // The copies are one chunk, and cost as much.
            self.bytes -= OVERHEAD;
            return true;
        }
        self.close_tail();
        self.chunks.push_back(chunk);
        true
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.bytes += OVERHEAD;
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// Moves chunks into `frame` as long as there is `room`: at least one, and then as many as
    /// `budget` bytes hold.
    fn fill(&mut self, frame: &mut Frame, budget: usize, room: &mut usize) {
        let mut filled = 0;
        loop {
            if self.chunks.is_empty() {
                self.close_tail();
            }
            let Some(chunk) = self.chunks.front() else { return };
            let cost = chunk.len() + OVERHEAD;
            if cost > *room || (filled > 0 && filled + cost > budget) {
                return;
            }
            filled += cost;
            *room -= cost;
            self.bytes -= cost;
            frame.push(self.chunks.pop_front().expect("it is there"));
        }
    }
}

/// The chunks of a frame: nothing is copied as long as there is only one.
#[derive(Debug, Default)]
struct Frame {
    first: Bytes,
    whole: Option<BytesMut>,
}

impl Frame {
    fn push(&mut self, chunk: Bytes) {
        if self.first.is_empty() {
            self.first = chunk;
            return;
        }
        let whole = self.whole.get_or_insert_with(|| {
            let mut whole = BytesMut::with_capacity(self.first.len() + chunk.len());
            whole.extend_from_slice(&self.first);
            whole
        });
        whole.extend_from_slice(&chunk);
    }

    fn into_bytes(self) -> Bytes {
        self.whole.map_or(self.first, BytesMut::freeze)
    }
}

impl Outbox {
    /// Empty queues of a link that begins with `hello`.
    pub(crate) fn new(hello: v1::Hello, urgent_bytes_max: usize, bulk_bytes_max: usize) -> Self {
        let state = State {
            hello: Some(hello),
            urgent: Queue::default(),
            bulk: Queue::default(),
            closed: false,
            link: None,
        };
        Self { state: Mutex::new(state), urgent_bytes_max, bulk_bytes_max }
    }

    /// Adds chunks, and lets the link take them. How many were dropped: the link has ended, or too
    /// much waits for it.
    pub(crate) fn put(&self, chunks: impl Iterator<Item = (Class, Bytes)>) -> u64 {
        let mut state = self.lock();
        let mut dropped = 0;
        for (class, chunk) in chunks {
            let taken = !state.closed
                && match class {
                    Class::Urgent => state.urgent.push(chunk, self.urgent_bytes_max),
                    Class::Bulk => state.bulk.push(chunk, self.bulk_bytes_max),
                };
            dropped += u64::from(!taken);
        }
        Self::wake(state);
        dropped
    }

    /// Ends the link behind what waits for it.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        Self::wake(state);
    }

    /// The frames of this outbox, for its link.
    pub(crate) fn frames(self: &Arc<Self>) -> Frames {
        Frames { outbox: Arc::clone(self) }
    }

    fn wake(mut state: MutexGuard<'_, State>) {
        let link = state.link.take();
        drop(state);
        if let Some(link) = link {
            link.wake();
        }
    }

    fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<v1::ClientFrame>> {
        use v1::client_frame::Kind;
        let mut state = self.lock();
        if let Some(hello) = state.hello.take() {
            return Poll::Ready(Some(v1::ClientFrame { kind: Some(Kind::Hello(hello)) }));
        }
        let mut frame = Frame::default();
        // What a chunk costs is more than the framing around the frame itself.
        let mut room = FRAME_BYTES_MAX;
        state.urgent.fill(&mut frame, URGENT_BYTES, &mut room);
        state.bulk.fill(&mut frame, BULK_BYTES, &mut room);
        let frame = frame.into_bytes();
        if !frame.is_empty() {
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
    use crate::wire::MESSAGE_BYTES_MAX;
    use futures_util::task::noop_waker_ref;
    use prost::Message as _;

    fn outbox(urgent: usize, bulk: usize) -> (Arc<Outbox>, Frames) {
        let outbox = Arc::new(Outbox::new(v1::Hello::default(), urgent, bulk));
        let mut frames = outbox.frames();
        let Poll::Ready(Some(frame)) = poll(&mut frames) else { panic!("no hello") };
        assert!(matches!(frame.kind, Some(v1::client_frame::Kind::Hello(_))));
        (outbox, frames)
    }

    fn put(outbox: &Outbox, class: Class, chunk: impl Into<Bytes>) -> u64 {
        outbox.put([(class, chunk.into())].into_iter())
    }

    fn poll(frames: &mut Frames) -> Poll<Option<v1::ClientFrame>> {
        Pin::new(frames).poll_next(&mut Context::from_waker(noop_waker_ref()))
    }

    fn frame(frames: &mut Frames) -> Bytes {
        match poll(frames) {
            Poll::Ready(Some(frame)) => {
                assert!(frame.encoded_len() <= FRAME_BYTES_MAX);
                match frame.kind {
                    Some(v1::client_frame::Kind::Frame(frame)) => frame,
                    other => panic!("no frame: {other:?}"),
                }
            }
            other => panic!("no frame: {other:?}"),
        }
    }

    #[test]
    fn what_is_urgent_goes_before_a_bounded_part_of_the_bulk() {
        let (outbox, mut frames) = outbox(1 << 20, 1 << 20);
        let bulk = vec![0; 40 << 10];
        put(&outbox, Class::Bulk, bulk.clone());
        put(&outbox, Class::Bulk, bulk.clone());
        put(&outbox, Class::Urgent, "u");
        assert_eq!(frame(&mut frames), [b"u", &bulk[..]].concat());
        // What becomes urgent now overtakes the rest of the bulk.
        put(&outbox, Class::Urgent, "v");
        assert_eq!(frame(&mut frames), [b"v", &bulk[..]].concat());
        assert!(poll(&mut frames).is_pending());
    }

    #[test]
    fn one_chunk_is_not_copied_and_small_ones_that_wait_keep_their_order() {
        let (outbox, mut frames) = outbox(1 << 20, 1 << 20);
        let alone = Bytes::from(vec![7; 100]);
        put(&outbox, Class::Bulk, alone.clone());
        assert_eq!(frame(&mut frames).as_ptr(), alone.as_ptr());
        let large = vec![b'L'; COPIED_BELOW];
        for chunk in [&b"first"[..], b"second", b"third", &large, b"fourth"] {
            put(&outbox, Class::Bulk, chunk.to_vec());
        }
        assert_eq!(frame(&mut frames), [b"firstsecondthird", &large[..], b"fourth"].concat());
        assert_eq!(outbox.lock().bulk.bytes, 0);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_memory_is_bounded() {
        let (outbox, mut frames) = outbox(200, 3 * COPIED_BELOW);
        let dropped =
            |class, size| -> u64 { (0..9).map(|_| put(&outbox, class, vec![7; size])).sum() };
        // The first costs 100, and those that are copied behind it 36 each, and once 64.
        assert_eq!(dropped(Class::Urgent, 36), 7);
        assert_eq!(dropped(Class::Bulk, COPIED_BELOW), 7);
        assert_eq!(frame(&mut frames).len(), 2 * 36 + 2 * COPIED_BELOW);
        assert_eq!(put(&outbox, Class::Urgent, "x"), 0);
    }

    #[test]
    fn no_frame_is_larger_than_its_limit() {
        let (outbox, mut frames) = outbox(64 << 20, 64 << 20);
        let mut total = 0;
        for size in [100, MESSAGE_BYTES_MAX, 1 << 10, 1 << 20, MESSAGE_BYTES_MAX, 300_000] {
            put(&outbox, Class::Urgent, vec![1; size]);
            total += size;
        }
        for size in [100, 50_000, 50_000, 1 << 20, MESSAGE_BYTES_MAX, 3] {
            put(&outbox, Class::Bulk, vec![1; size]);
            total += size;
        }
        while total > 0 {
            total -= frame(&mut frames).len();
        }
    }

    #[test]
    fn a_closed_outbox_drains_and_a_dead_link_takes_nothing() {
        let (open, mut frames) = outbox(1000, 1000);
        put(&open, Class::Urgent, "last");
        open.close();
        assert_eq!(put(&open, Class::Urgent, "late"), 1);
        assert_eq!(frame(&mut frames), "last");
        assert_eq!(poll(&mut frames), Poll::Ready(None));

        let (dead, frames) = outbox(1000, 1000);
        drop(frames);
        assert_eq!(put(&dead, Class::Bulk, "x"), 1);
    }
}
