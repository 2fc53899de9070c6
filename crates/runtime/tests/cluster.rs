//! Real nodes on loopback, each with a thread of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use roundelay::{
    Delivered, Event, Gossip, Group, Limits, LockError, LockName, Loss, Node, PeerState,
    PublishError, SendError, Trigger, core::founding,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// Free ports that nobody listens on at the moment.
fn ports<const N: usize>() -> [u16; N] {
    let listeners: [_; N] =
        std::array::from_fn(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits until `node` sees `peer` in this state.
async fn sees(node: &Node, peer: &str, state: PeerState) {
    let mut events = node.events();
    let id = roundelay::Name::new(peer).unwrap().id();
    let seen = async {
        loop {
            if node.status().await.peers.contains(&(id, state)) {
                return;
            }
            events.next().await;
        }
    };
    soon(&format!("{} sees {peer} {state:?}", node.name()), seen).await;
}

#[tokio::test]
async fn two_nodes_link_both_ways_and_part_in_order() {
    let [a, b] = ports();
    let p1 = Node::builder("p1")
        .listen(format!("127.0.0.1:{a}"))
        .peer("p2", format!("127.0.0.1:{b}"))
        .gossip(Gossip::with_neighbors(["p2"]))
        .start()
        .await
        .unwrap();
    let p2 = Node::builder("p2")
        .listen(format!("127.0.0.1:{b}"))
        .peer("p1", format!("127.0.0.1:{a}"))
        .gossip(Gossip::with_neighbors(["p1"]))
        .start()
        .await
        .unwrap();
    sees(&p1, "p2", PeerState::Up).await;
    sees(&p2, "p1", PeerState::Up).await;
    p1.leave().await;
    sees(&p2, "p1", PeerState::Left).await;
    p2.leave().await;
}

/// A group of three with all protocols, started by the first, each linked to the others.
async fn group_of_three(limits: Limits) -> [Node; 3] {
    group_with_lease(limits, Duration::from_secs(5)).await
}

async fn group_with_lease(limits: Limits, lease: Duration) -> [Node; 3] {
    let ports: [u16; 3] = ports();
    let names = ["p1", "p2", "p3"];
    let mut nodes = Vec::new();
    for (name, port) in names.iter().zip(ports) {
        let mut builder = Node::builder(*name)
            .listen(format!("127.0.0.1:{port}"))
            .group(Group::of(names).lease(lease))
            .gossip(Gossip::all_links())
            .limits(limits.clone());
        for (peer, port) in names.iter().zip(ports) {
            builder = builder.peer(*peer, format!("127.0.0.1:{port}"));
        }
        nodes.push(builder.start().await.unwrap());
    }
    for node in &nodes {
        let view = soon("the view", node.wait_installed()).await;
        assert_eq!(view.number, 1);
        assert_eq!(view.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), names);
    }
    nodes.try_into().unwrap()
}

async fn all_leave(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        let since = std::time::Instant::now();
        node.leave().await;
        assert!(since.elapsed() < Duration::from_secs(5), "{} took too long", node.name());
        assert_eq!(
            node.lock(LockName::default_lock()).await.map(|guard| guard.fence()),
            Err(LockError::Stopped)
        );
    }
}

#[tokio::test]
async fn locks_exclude_each_other_and_fences_increase() {
    let nodes = group_of_three(Limits::default()).await;
    let held = Arc::new(Mutex::new(0_u64));
    let tasks = nodes.clone().map(|node| {
        let held = Arc::clone(&held);
        tokio::spawn(async move {
            for _ in 0..50 {
                let guard = node.lock(LockName::default_lock()).await.unwrap();
                {
                    // Nobody else holds it: not even for a moment is this contended.
                    let mut last = held.try_lock().expect("the lock excludes");
                    assert!(guard.fence() > *last, "{} after {}", guard.fence(), *last);
                    *last = guard.fence();
                    tokio::task::yield_now().await;
                }
                guard.release().await;
            }
        })
    });
    for task in tasks {
        soon("150 grants", task).await.unwrap();
    }
    assert_eq!(*held.lock().await, 150);
    all_leave(nodes).await;
}

#[tokio::test]
async fn a_wait_that_is_given_up_does_not_keep_the_lock() {
    let nodes = group_of_three(Limits::default()).await;
    let lock = LockName::new("given up").unwrap();
    let guard = soon("the lock", nodes[0].lock(lock.clone())).await.unwrap();
    assert_eq!(
        soon("the refusal", nodes[1].try_lock(lock.clone())).await.map(|guard| guard.fence()),
        Err(LockError::NotAvailable)
    );
    for node in &nodes {
        let wait = timeout(Duration::from_millis(50), node.lock(lock.clone()));
        assert!(wait.await.is_err(), "{} got a lock that is held", node.name());
    }
    drop(guard);
    let guard = soon("the lock again", nodes[2].lock(lock.clone())).await.unwrap();
    drop(guard);
    all_leave(nodes).await;
}

#[tokio::test]
async fn a_guard_is_lost_with_the_majority_and_stays_lost() {
    let [p1, p2, p3] = group_with_lease(Limits::default(), Duration::from_secs(1)).await;
    let guard = soon("the lock", p1.lock(LockName::default_lock())).await.unwrap();
    assert!(guard.is_valid());
    // Longer than the lease, which is renewed.
    assert!(timeout(Duration::from_millis(1500), guard.lost()).await.is_err());
    assert!(guard.is_valid());
    // Both stop without leaving.
    drop((p2, p3));
    assert_eq!(soon("the loss", guard.lost()).await, Loss::LeaseEnded);
    assert!(!guard.is_valid());
    drop(guard);
    all_leave([p1]).await;
}

#[tokio::test]
async fn the_others_go_on_without_a_member_and_views_stand_in_the_order() {
    let [p1, p2, p3] = group_of_three(Limits::default()).await;
    let mut deliveries = p1.deliveries();
    p3.multicast().send("before").await.unwrap();
    drop(p3);
    let view = async {
        while p1.view().is_none_or(|view| view.number == 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the next view", view).await;
    let position = soon("a place", p2.multicast().send("after")).await.unwrap();
    let mut story = Vec::new();
    while story.len() < 4 {
        story.push(match soon("what is next", deliveries.next()).await.unwrap() {
            Delivered::Message(delivery) => String::from_utf8(delivery.payload.to_vec()).unwrap(),
            Delivered::View(installed) => {
                let names = installed.view.members.iter().map(|member| member.name.to_string());
                names.collect::<Vec<_>>().join(" ")
            }
            Delivered::Missed { from, to } => format!("{from} to {to} are missing"),
        });
    }
    assert_eq!(story, ["p1 p2 p3", "before", "p1 p2", "after"]);
    assert_eq!(position, 2);
    // Who reads later gets the last view in its place, once.
    let mut late = p2.deliveries();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(soon("what is next", late.next()).await.unwrap().message().is_some());
    }
    assert_eq!(kinds, [true, false, true]);
    all_leave([p1, p2]).await;
}

#[tokio::test]
async fn everyone_delivers_the_same_messages_in_the_same_order() {
    const EACH: usize = 300;
    let nodes = group_of_three(Limits::default()).await;
    let readers = nodes.clone().map(|node| {
        let mut deliveries = node.deliveries();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 3 * EACH {
                let delivery = deliveries.next_message().await.expect("the node runs");
                assert_eq!(delivery.position, seen.len() as u64 + 1);
                seen.push((delivery.sender, delivery.sequence, delivery.payload));
            }
            seen
        })
    });
    let senders = nodes.clone().map(|node| {
        tokio::spawn(async move {
            let multicast = node.multicast();
            let mut last = 0;
            for n in 0..EACH {
                // Some are large enough to travel in pieces.
                let size = if n % 50 == 7 { 200_000 } else { n };
                let text = vec![b'a' + (n % 26) as u8; size];
                if n % 10 == 0 {
                    let position = multicast.send(text).await.unwrap();
                    assert!(position > last);
                    last = position;
                } else {
                    multicast.submit(text).await.unwrap();
                }
            }
        })
    });
    for sender in senders {
        soon("everything is sent", sender).await.unwrap();
    }
    let mut orders = Vec::new();
    for reader in readers {
        orders.push(soon("everything is delivered", reader).await.unwrap());
    }
    assert!(orders[0] == orders[1] && orders[1] == orders[2], "the orders differ");
    let history = nodes[0].history().await;
    assert_eq!(history.len(), 3 * EACH);
    all_leave(nodes).await;
}

#[tokio::test]
async fn every_rumor_is_heard_once_everywhere() {
    const EACH: u64 = 100;
    let nodes = group_of_three(Limits::default()).await;
    let listeners = nodes.clone().map(|node| {
        let mut rumors = node.subscribe();
        tokio::spawn(async move {
            let mut heard = std::collections::BTreeSet::new();
            while heard.len() < 3 * EACH as usize {
                let rumor = rumors.next().await.expect("the node runs").expect("it keeps up");
                assert_eq!(rumor.payload, format!("{} {}", rumor.origin, rumor.sequence));
                assert_eq!(rumor.hops == 0, rumor.origin == node.name().as_str());
                assert!(heard.insert((rumor.origin, rumor.sequence)), "heard twice");
            }
        })
    });
    for n in 1..=EACH {
        for node in &nodes {
            let sequence = node.publish(format!("{} {n}", node.name())).await.unwrap();
            assert_eq!(sequence, n);
        }
    }
    for listener in listeners {
        soon("all rumors", listener).await.unwrap();
    }
    all_leave(nodes).await;
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_senders_and_nothing_is_lost() {
    let limits =
        Limits { unread_bytes_max: 64 << 10, unstable_bytes_max: 256 << 10, ..Limits::default() };
    let nodes = group_of_three(limits).await;
    let mut deliveries = nodes[1].deliveries();
    let first = nodes[0].multicast();
    first.send(&b"first"[..]).await.unwrap();
    let sender = tokio::spawn(async move {
        for n in 0..2_000_u32 {
            first.submit(vec![(n % 251) as u8; 1_000]).await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sender.is_finished(), "two megabytes fit into a window of 256 KiB");
    for position in 1..=2_001 {
        let delivery = soon("the next message", deliveries.next_message()).await.unwrap();
        assert_eq!(delivery.position, position);
    }
    soon("the sender", sender).await.unwrap();
    // Without a reader, everything counts as read.
    drop(deliveries);
    for _ in 0..500 {
        soon("a send that nobody reads", nodes[0].multicast().submit(vec![0; 1_000]))
            .await
            .unwrap();
    }
    // A new reader goes on where the last one stopped.
    let mut deliveries = nodes[1].deliveries();
    for position in 2_002..=2_501 {
        let delivery = soon("the next message", deliveries.next_message()).await.unwrap();
        assert_eq!(delivery.position, position);
    }
    all_leave(nodes).await;
}

#[tokio::test]
async fn a_node_that_leaves_takes_its_messages_along() {
    let [p1, p2, p3] = group_of_three(Limits::default()).await;
    let mut deliveries = p2.deliveries();
    for n in 0..800_u32 {
        p1.multicast().submit(n.to_be_bytes().to_vec()).await.unwrap();
    }
    all_leave([p1]).await;
    for n in 0..800_u32 {
        let delivery = soon("the next message", deliveries.next_message()).await.unwrap();
        assert_eq!(delivery.payload[..], n.to_be_bytes());
    }
    all_leave([p2, p3]).await;
}

#[tokio::test]
async fn leaving_takes_a_bounded_time_when_others_are_gone() {
    let [p1, p2, p3] = group_of_three(Limits::default()).await;
    let lock = LockName::default_lock();
    drop(soon("the lock", p3.lock(lock.clone())).await.unwrap());
    // Both stop without leaving: nobody is there to take anything over.
    drop(p2);
    drop(p3);
    sees(&p1, "p2", PeerState::Down).await;
    sees(&p1, "p3", PeerState::Down).await;
    let waiter = tokio::spawn(p1.lock(lock));
    all_leave([p1]).await;
    let refused = soon("the waiter", waiter).await.unwrap().map(|guard| guard.fence());
    assert!(matches!(refused, Err(LockError::Leaving | LockError::Stopped)), "{refused:?}");
}

#[tokio::test]
async fn everything_ends_when_the_node_stops() {
    let [p1, p2, p3] = group_of_three(Limits::default()).await;
    let mut deliveries = p1.deliveries();
    let mut rumors = p1.subscribe();
    let mut events = p1.events();
    let (one, other) = tokio::join!(p1.leave(), p1.leave());
    assert_eq!((one, other), ((), ()));
    assert_eq!(soon("the end", deliveries.next_message()).await, None);
    assert_eq!(soon("the end", rumors.next()).await, None);
    while soon("the end", events.next()).await.is_some() {}
    assert_eq!(p1.multicast().send("x").await, Err(SendError::Stopped));
    assert_eq!(p1.publish("x").await, Err(PublishError::Stopped));
    assert_eq!(p1.history().await, []);
    assert_eq!(p1.status().await.peers, []);
    assert!(p1.start_group().await.is_err());
    assert_eq!(p1.view(), None);
    all_leave([p2, p3]).await;
}

#[tokio::test]
async fn a_start_by_command_is_answered() {
    let ports: [u16; 3] = ports();
    let names = ["p1", "p2", "p3"];
    let start = |n: usize| {
        let mut builder = Node::builder(names[n])
            .listen(format!("127.0.0.1:{}", ports[n]))
            .group(Group::of(names).trigger(Trigger::Command).next(names[(n + 2) % 3]));
        for (peer, port) in names.iter().zip(ports) {
            builder = builder.peer(*peer, format!("127.0.0.1:{port}"));
        }
        async move { builder.start().await.unwrap() }
    };
    let p1 = start(0).await;
    let p2 = start(1).await;
    let refused = p1.try_lock(LockName::default_lock()).await.map(|guard| guard.fence());
    assert_eq!(refused, Err(LockError::NotStarted));
    let early = tokio::spawn(p1.lock(LockName::default_lock()));
    let mut events = p2.events();
    let starting = tokio::spawn({
        let p2 = p2.clone();
        async move { p2.start_group().await }
    });
    let waiting = async {
        loop {
            if let Some(Event::Founding(founding::Event::WaitingFor(names))) = events.next().await {
                return names;
            }
        }
    };
    let absent = soon("whom it waits for", waiting).await;
    assert_eq!(absent.last().map(ToString::to_string), Some("p3".into()));
    assert!(!starting.is_finished());
    let p3 = start(2).await;
    let view = soon("the start", starting).await.unwrap().unwrap();
    assert_eq!(*view.ring, [0, 2, 1]);
    soon("the view", p3.wait_installed()).await;
    let again = soon("the answer", p3.start_group()).await;
    let founder = roundelay::Name::new("p2").unwrap();
    assert_eq!(again, Err(founding::StartError::AlreadyStarted(founder)));
    let guard = soon("the lock", early).await.unwrap().unwrap();
    assert_eq!(guard.fence(), 1);
    drop(guard);
    all_leave([p1, p2, p3]).await;
}

#[tokio::test]
async fn mistakes_are_told_before_anything_runs() {
    let group = |members: &[&str]| {
        Node::builder("p1").listen("127.0.0.1:0").group(Group::of(members.to_vec()))
    };
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let large = Limits { fragment_bytes: 10_000_000, ..Limits::default() };
    let short = Group::of(["p1"]).lease(Duration::from_millis(900));
    let short = Node::builder("p1").group(short);
    let many: Vec<String> = (0..65).map(|n| format!("p{n}")).collect();
    for (builder, text) in [
        (Node::builder("a b"), "is not a name"),
        (group(&["p2", "p3"]), "not in its own group"),
        (group(&["p1", "p2", "p1"]), "listed twice"),
        (group(&many.iter().map(String::as_str).collect::<Vec<_>>()), "at most 64"),
        (Node::builder("p1").group(Group::of(["p1"]).next("p9")), "p9 is not in the group"),
        (Node::builder("p1").peer("p2", "a:1").peer("p2", "b:1"), "listed twice"),
        (Node::builder("p1").gossip(Gossip::with_neighbors(["p9"])), "p9 has no address"),
        (Node::builder("p1").limits(large), "fragment_bytes is 10000000"),
        (short, "a lease of 900ms is not possible"),
        (Node::builder("p1").listen("nowhere"), "cannot resolve"),
        (Node::builder("p1").listen("0.0.0.0:0"), "not a loopback address"),
        (Node::builder("p1").listen(taken), "cannot listen"),
    ] {
        let error = soon("the error", builder.start()).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let node = Node::builder("p1").listen("0.0.0.0:0").insecure(true).start().await.unwrap();
    assert_eq!(node.publish("x").await, Err(PublishError::NoGossip));
    assert_eq!(node.multicast().send("x").await, Err(SendError::NoOrder));
    assert_eq!(node.start_group().await, Err(founding::StartError::NoGroup));
    node.leave().await;
}
