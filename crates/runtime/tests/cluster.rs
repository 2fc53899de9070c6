//! Real nodes on loopback, each with a thread of its own.

use roundelay::{Gossip, Node, PeerState};
use std::time::Duration;
use tokio::time::timeout;

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
