//! What a node allocates in the steady state: nothing for a message of the order.
//!
//! Three nodes share one thread and one runtime. Each test warms up, until all buffers have their
//! size, and then counts what all three nodes and their applications allocate. The bounds are a
//! little above what was measured; the comment at each says what is left, and for what.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use roundelay::{Gossip, Group, LockName, Node};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::{
    alloc::System,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PATIENCE: Duration = Duration::from_mins(1);
const PAYLOAD: Bytes = Bytes::from_static(&[7; 64]);

/// A message of the order, with its send, two receptions and three deliveries; one allocation for
/// each node would be 3. Measured: 0.27. What is left is for batches: frames and their buffers,
/// clocks, and 4 KiB for each 40 received payloads.
const ORDER_MAX: f64 = 0.5;
/// A grant, with the request, the pass, and the release. Measured: 9.1. The pass takes a copy of
/// the token's two vectors to repeat it from, another to encode it, and one where it is decoded;
/// asking and releasing a channel each for the answer; and every frame, if it is all that comes,
/// one for the place of its stream among those that are polled.
const GRANT_MAX: f64 = 11.0;
/// What one node hears of a rumor, a third of what it takes in all. Measured: 4.6. Its name as text
/// for the application, its place among what is retained, the life of its origin on the wire, and
/// the lists of whom it goes to.
const RUMOR_MAX: f64 = 5.5;
/// Locked and unlocked where the token rests. Measured: 2, a channel each for the two answers.
const PAIR_MAX: f64 = 2.1;

/// The count is of the whole process, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often memory was asked for since the process began.
fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// Runs `work`, which says how many allocations it has seen, on one thread.
#[expect(clippy::print_stdout, reason = "shown with --nocapture")]
fn steady(what: &str, operations: u64, max: f64, work: impl Future<Output = u64>) {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let allocated = runtime.block_on(async { timeout(PATIENCE, work).await.expect(what) });
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let each = allocated as f64 / operations as f64;
    let told = format!("{what}: {each:.4} allocations each, of {max} at most");
    println!("{told}");
    assert!(each <= max, "{told}");
}

/// A group of three, each linked to the others, in tasks of this runtime.
async fn group_of_three() -> [Node; 3] {
    let listeners: [_; 3] =
        std::array::from_fn(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
    let names = ["p1", "p2", "p3"];
    let mut nodes = Vec::new();
    for (name, port) in names.iter().zip(ports) {
        let mut builder = Node::builder(*name)
            .listen(format!("127.0.0.1:{port}"))
            .group(Group::of(names))
            .gossip(Gossip::all_links());
        for (peer, port) in names.iter().zip(ports) {
            builder = builder.peer(*peer, format!("127.0.0.1:{port}"));
        }
        nodes.push(builder.spawn().await.unwrap());
    }
    for node in &nodes {
        node.wait_installed().await;
    }
    nodes.try_into().unwrap()
}

#[test]
fn a_message_of_the_order_allocates_nothing() {
    const WARM_UP: u64 = 30_000;
    const COUNTED: u64 = 60_000;
    steady("order: a message", COUNTED, ORDER_MAX, async {
        let nodes = group_of_three().await;
        let [first, ..] = nodes.map(|node| {
            let window = Arc::new(Semaphore::new(256));
            let (multicast, room) = (node.multicast(), Arc::clone(&window));
            tokio::spawn(async move {
                loop {
                    room.acquire().await.unwrap().forget();
                    multicast.submit(PAYLOAD).await.unwrap();
                }
            });
            tokio::spawn(async move {
                let mut deliveries = node.deliveries();
                let mut counted_from = 0;
                for position in 1..=WARM_UP + COUNTED {
                    let delivery = deliveries.next_message().await.unwrap();
                    assert_eq!(delivery.position, position);
                    if delivery.sender == node.name().id() {
                        window.add_permits(1);
                    }
                    if position == WARM_UP {
                        counted_from = allocations();
                    }
                }
                allocations() - counted_from
            })
        });
        first.await.unwrap()
    });
}

#[test]
fn a_grant_of_a_contended_lock_allocates_little() {
    const WARM_UP: u64 = 2_000;
    const COUNTED: u64 = 6_000;
    steady("lock: a grant", COUNTED, GRANT_MAX, async {
        let grants = Arc::new(AtomicU64::new(0));
        let started = Arc::new(AtomicU64::new(0));
        let [first, second, third] = group_of_three().await.map(|node| {
            let (grants, started) = (Arc::clone(&grants), Arc::clone(&started));
            let lock = LockName::default_lock();
            tokio::spawn(async move {
                loop {
                    let guard = node.lock(lock.clone()).await.unwrap();
                    let grant = grants.fetch_add(1, Ordering::Relaxed) + 1;
                    if grant == WARM_UP {
                        started.store(allocations(), Ordering::Relaxed);
                    }
                    if grant == WARM_UP + COUNTED {
                        return allocations() - started.load(Ordering::Relaxed);
                    }
                    guard.release().await;
                }
            })
        });
        tokio::select! {
            allocated = first => allocated.unwrap(),
            allocated = second => allocated.unwrap(),
            allocated = third => allocated.unwrap(),
        }
    });
}

#[test]
fn a_rumor_allocates_little() {
    const WARM_UP: u64 = 6_000;
    const COUNTED: u64 = 9_000;
    // Each of the three hears all of them.
    steady("gossip: a delivery", 3 * COUNTED, RUMOR_MAX, async {
        let nodes = group_of_three().await;
        let windows: [_; 3] = std::array::from_fn(|_| Arc::new(Semaphore::new(64)));
        for (node, window) in nodes.iter().cloned().zip(windows.clone()) {
            tokio::spawn(async move {
                loop {
                    window.acquire().await.unwrap().forget();
                    node.publish(PAYLOAD).await.unwrap();
                }
            });
        }
        let [first, ..] = [0, 1, 2].map(|me| {
            // Who comes before this node may say more once its rumor is heard here.
            let before = (me + 2) % 3;
            let (origin, window) = (nodes[before].name().to_string(), windows[before].clone());
            let mut rumors = nodes[me].subscribe();
            tokio::spawn(async move {
                let mut counted_from = 0;
                for heard in 1..=WARM_UP + COUNTED {
                    let rumor = rumors.next().await.unwrap().unwrap();
                    if rumor.origin == origin {
                        window.add_permits(1);
                    }
                    if heard == WARM_UP {
                        counted_from = allocations();
                    }
                }
                allocations() - counted_from
            })
        });
        first.await.unwrap()
    });
}

#[test]
fn a_lock_that_rests_here_allocates_little() {
    const WARM_UP: u64 = 1_000;
    const COUNTED: u64 = 10_000;
    steady("lock: locked and unlocked where it rests", COUNTED, PAIR_MAX, async {
        let nodes = group_of_three().await;
        let node = nodes[1].clone();
        let lock = LockName::default_lock();
        let client = tokio::spawn(async move {
            for _ in 0..WARM_UP {
                node.lock(lock.clone()).await.unwrap().release().await;
            }
            // Until the token's way to here is acknowledged.
            sleep(Duration::from_millis(500)).await;
            let sent = || nodes.iter().map(|node| node.traffic().lock).sum::<u64>();
            let (before, sent_before) = (allocations(), sent());
            for _ in 0..COUNTED {
                node.lock(lock.clone()).await.unwrap().release().await;
            }
            assert_eq!(sent(), sent_before, "messages of a lock whose token rests");
            allocations() - before
        });
        client.await.unwrap()
    });
}
