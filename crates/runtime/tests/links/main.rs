//! Links as the network sees them: through a proxy that notices resets, and with strangers at the
//! port.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod proxy;

use proxy::Proxy;
use roundelay::{Event, Gossip, Group, Name, Node, PeerState};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits until `node` sees `peer` in this state.
async fn sees(node: &Node, peer: &str, state: PeerState) {
    let mut events = node.events();
    let id = Name::new(peer).unwrap().id();
    let seen = async {
        while !node.status().await.peers.contains(&(id, state)) {
            events.next().await;
        }
    };
    soon(&format!("{} sees {peer} {state:?}", node.name()), seen).await;
}

/// Waits for a line about a link that contains `text`.
async fn line(events: &mut roundelay::Events, text: &str) -> String {
    let found = async {
        loop {
            match events.next().await.expect("the node runs") {
                Event::Link(line) if line.contains(text) => return line,
                _ => {}
            }
        }
    };
    soon(text, found).await
}

/// A node of the gossip that dials these peers.
async fn node(name: &str, port: u16, peers: &[(&str, SocketAddr)]) -> Node {
    let mut builder = Node::builder(name)
        .listen(format!("127.0.0.1:{port}"))
        .gossip(Gossip::with_neighbors(peers.iter().map(|(peer, _)| *peer)));
    for (peer, address) in peers {
        builder = builder.peer(*peer, address.to_string());
    }
    builder.start().await.unwrap()
}

/// Two nodes that talk through a proxy in each direction.
async fn pair() -> ([Node; 2], [Proxy; 2]) {
    let proxies = [Proxy::start().await, Proxy::start().await];
    let p1 = node("p1", 0, &[("p2", proxies[1].address())]).await;
    let p2 = node("p2", 0, &[("p1", proxies[0].address())]).await;
    proxies[0].lead_to(p1.listen_addr());
    proxies[1].lead_to(p2.listen_addr());
    sees(&p1, "p2", PeerState::Up).await;
    sees(&p2, "p1", PeerState::Up).await;
    ([p1, p2], proxies)
}

async fn no_resets(proxies: impl IntoIterator<Item = Proxy>) {
    for proxy in proxies {
        soon("all connections end", proxy.all_ended()).await;
        assert_eq!(proxy.resets(), 0);
        assert!(proxy.accepted() > 0);
    }
}

#[tokio::test]
async fn the_proxy_notices_a_reset() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start().await;
    proxy.lead_to(listener.local_addr().unwrap());
    let mut caller = TcpStream::connect(proxy.address()).await.unwrap();
    caller.write_all(b"nobody reads this").await.unwrap();
    let (reached, _) = listener.accept().await.unwrap();
    reached.peek(&mut [0]).await.unwrap();
    drop(reached);
    drop(caller);
    soon("the end", proxy.all_ended()).await;
    assert_ne!(proxy.resets(), 0);
}

#[tokio::test]
async fn leaving_resets_no_connection() {
    let ([p1, p2], proxies) = pair().await;
    p1.leave().await;
    sees(&p2, "p1", PeerState::Left).await;
    p2.leave().await;
    no_resets(proxies).await;
}

#[tokio::test]
async fn dropping_the_last_handle_resets_no_connection() {
    let ([p1, p2], proxies) = pair().await;
    drop(p1);
    sees(&p2, "p1", PeerState::Down).await;
    drop(p2);
    no_resets(proxies).await;
}

#[tokio::test]
async fn leaving_under_load_resets_no_connection() {
    let names = ["p1", "p2", "p3"];
    let proxies = [Proxy::start().await, Proxy::start().await, Proxy::start().await];
    let mut nodes = Vec::new();
    for (name, own) in names.iter().zip(&proxies) {
        let mut builder = Node::builder(*name)
            .listen("127.0.0.1:0")
            .group(Group::of(names))
            .gossip(Gossip::all_links());
        for (peer, proxy) in names.iter().zip(&proxies) {
            builder = builder.peer(*peer, proxy.address().to_string());
        }
        let node = builder.start().await.unwrap();
        own.lead_to(node.listen_addr());
        nodes.push(node);
    }
    let mut load = Vec::new();
    for node in &nodes {
        soon("the view", node.wait_installed()).await;
        let (multicast, rumors) = (node.multicast(), node.clone());
        load.push(tokio::spawn(
            async move { while multicast.submit(vec![1; 5_000]).await.is_ok() {} },
        ));
        load.push(tokio::spawn(
            async move { while rumors.publish(vec![2; 5_000]).await.is_ok() {} },
        ));
    }
    sleep(Duration::from_millis(300)).await;
    for node in nodes {
        soon("it leaves", node.leave()).await;
    }
    for task in load {
        soon("the load ends", task).await.unwrap();
    }
    no_resets(proxies).await;
}

#[tokio::test]
async fn a_reset_connection_is_told_in_a_line_and_dialled_again() {
    let ([p1, p2], proxies) = pair().await;
    let mut events = p1.events();
    proxies[1].reset_all();
    line(&mut events, "p2 reset the connection").await;
    sees(&p1, "p2", PeerState::Up).await;
    let mut rumors = p2.subscribe();
    p1.publish("still here").await.unwrap();
    let rumor = soon("the rumor", rumors.next()).await.unwrap().unwrap();
    assert_eq!(rumor.payload, "still here");
    p1.leave().await;
    p2.leave().await;
}

/// A machine that lost its power sends no end of its connections.
#[tokio::test]
async fn a_peer_that_vanishes_is_suspect_and_then_down() {
    let ([p1, p2], proxies) = pair().await;
    proxies.iter().for_each(Proxy::freeze);
    sees(&p1, "p2", PeerState::Suspect).await;
    sees(&p1, "p2", PeerState::Down).await;
    sees(&p2, "p1", PeerState::Down).await;
    p1.leave().await;
    p2.leave().await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again() {
    let proxies = [Proxy::start().await, Proxy::start().await];
    let p1 = node("p1", 0, &[("p2", proxies[1].address())]).await;
    proxies[0].lead_to(p1.listen_addr());
    for round in 0..4 {
        let p2 = node("p2", 0, &[("p1", proxies[0].address())]).await;
        proxies[1].lead_to(p2.listen_addr());
        sees(&p1, "p2", PeerState::Up).await;
        let mut rumors = p2.subscribe();
        sees(&p2, "p1", PeerState::Up).await;
        p1.publish(format!("round {round}")).await.unwrap();
        soon("the rumor", rumors.next()).await.unwrap().unwrap();
        drop((p2, rumors));
        sees(&p1, "p2", PeerState::Down).await;
    }
    p1.leave().await;
    no_resets(proxies).await;
}

#[tokio::test]
async fn who_calls_is_dialled_back_without_an_address_book() {
    let p1 = node("p1", 0, &[]).await;
    let p2 = node("p2", 0, &[("p1", p1.listen_addr())]).await;
    sees(&p1, "p2", PeerState::Up).await;
    let mut rumors = p2.subscribe();
    sees(&p2, "p1", PeerState::Up).await;
    p1.publish("hello").await.unwrap();
    soon("the rumor", rumors.next()).await.unwrap().unwrap();
    p2.leave().await;
    sees(&p1, "p2", PeerState::Left).await;
    p1.leave().await;
}

#[tokio::test]
async fn strangers_at_the_port_disturb_nobody() {
    let ([p1, p2], proxies) = pair().await;
    let mut events = p1.events();
    let tls_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let greetings: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &tls_hello,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0; 5_000],
        // A preface, and then something that is no frame.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for greeting in greetings {
        let mut stranger = TcpStream::connect(p1.listen_addr()).await.unwrap();
        stranger.write_all(greeting).await.unwrap();
        // It is hung up on, in order, and people are told.
        let mut answer = Vec::new();
        soon("the end", stranger.read_to_end(&mut answer)).await.unwrap();
        drop(stranger);
        line(&mut events, "does not speak this protocol").await;
    }
    // Strangers that say nothing, or nothing more.
    let silent = TcpStream::connect(p1.listen_addr()).await.unwrap();
    let mut slow = TcpStream::connect(p1.listen_addr()).await.unwrap();
    slow.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    for mut stranger in [silent, slow] {
        let mut answer = Vec::new();
        soon("the end", stranger.read_to_end(&mut answer)).await.unwrap();
    }
    let mut rumors = p2.subscribe();
    p1.publish("undisturbed").await.unwrap();
    soon("the rumor", rumors.next()).await.unwrap().unwrap();
    assert_eq!([proxies[0].accepted(), proxies[1].accepted()], [1, 1], "no link was lost");
    p1.leave().await;
    p2.leave().await;
    no_resets(proxies).await;
}

#[tokio::test]
async fn a_flood_of_connections_is_survived() {
    let limits = roundelay::Limits { connections_max: 20, ..roundelay::Limits::default() };
    let p1 = Node::builder("p1")
        .listen("127.0.0.1:0")
        .gossip(Gossip::all_links())
        .limits(limits)
        .start()
        .await
        .unwrap();
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(TcpStream::connect(p1.listen_addr()).await.unwrap());
    }
    // The silent ones are hung up on after a while, and then a peer gets its turn.
    drop(flood.split_off(30));
    let p2 = node("p2", 0, &[("p1", p1.listen_addr())]).await;
    sees(&p2, "p1", PeerState::Up).await;
    p2.leave().await;
    p1.leave().await;
}

#[tokio::test]
async fn a_dial_that_reaches_oneself_is_not_repeated() {
    let proxy = Proxy::start().await;
    let p1 = node("p1", 0, &[("p2", proxy.address())]).await;
    let mut events = p1.events();
    proxy.lead_to(p1.listen_addr());
    line(&mut events, "its address is that of this node").await;
    let accepted = proxy.accepted();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(proxy.accepted(), accepted);
    p1.leave().await;
    no_resets([proxy]).await;
}

#[tokio::test]
async fn a_wrong_address_is_told_once_and_tried_again() {
    let p3 = node("p3", 0, &[]).await;
    let proxy = Proxy::start().await;
    let p1 = node("p1", 0, &[("p2", proxy.address())]).await;
    let mut events = p1.events();
    proxy.lead_to(p3.listen_addr());
    let told = line(&mut events, "no link to p2").await;
    assert!(told.contains("this is p3"), "{told}");
    let before = proxy.accepted();
    let again = async {
        while proxy.accepted() < before + 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    soon("it is tried again", again).await;
    let more = timeout(Duration::from_millis(100), line(&mut events, "no link to p2"));
    assert!(more.await.is_err(), "it is told once");
    p1.leave().await;
    p3.leave().await;
}

#[tokio::test]
async fn two_processes_with_one_name_are_told_apart() {
    let p1 = node("p1", 0, &[]).await;
    let mut events = p1.events();
    let one = node("p2", 0, &[("p1", p1.listen_addr())]).await;
    sees(&p1, "p2", PeerState::Up).await;
    let other = node("p2", 0, &[("p1", p1.listen_addr())]).await;
    line(&mut events, "p2 called as another process").await;
    // And a process with this node's own name is refused.
    let myself = node("p1", 0, &[("p3", p1.listen_addr())]).await;
    line(&mut events, "another p1 called").await;
    for node in [one, other, myself, p1] {
        node.leave().await;
    }
}
