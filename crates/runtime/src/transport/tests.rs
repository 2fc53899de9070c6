//! A peer that does what no peer should do.

use super::{HANDSHAKE, dialer::connection, lingering::OpenSockets};
use crate::{
    Event, Events, Gossip, Name, Node, PeerState,
    wire::{self, FRAME_BYTES_MAX, Hello, MESSAGE_BYTES_MAX, v1},
};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use roundelay_core::{Life, detector, node::Message};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v1::{client_frame, server_frame};

const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

async fn node(name: &str, peers: &[&Node]) -> Node {
    let names = peers.iter().map(|peer| peer.name().to_string());
    let mut builder =
        Node::builder(name).listen("127.0.0.1:0").gossip(Gossip::with_neighbors(names));
    for peer in peers {
        builder = builder.peer(peer.name().to_string(), peer.listen_addr().to_string());
    }
    builder.start().await.unwrap()
}

async fn sees(node: &Node, peer: &str, state: PeerState) {
    let mut events = node.events();
    let seen = async {
        while !node.status().await.peers.contains(&(name(peer).id(), state)) {
            events.next().await;
        }
    };
    soon(&format!("{} sees {peer} {state:?}", node.name()), seen).await;
}

async fn line(events: &mut Events, text: &str) -> String {
    let found = async {
        loop {
            match events.next().await.unwrap() {
                Event::Link(line) if line.contains(text) => return line,
                _ => {}
            }
        }
    };
    soon(text, found).await
}

/// A caller that says what the test wants it to.
struct Caller {
    frames: mpsc::Sender<v1::ClientFrame>,
    answers: Result<Streaming<v1::ServerFrame>, tonic::Status>,
}

impl Caller {
    async fn call(node: &Node, first: client_frame::Kind) -> Self {
        let (open, _) = OpenSockets::new();
        let connection = connection(node.listen_addr(), open).await.unwrap();
        let (frames, stream) = mpsc::channel(8);
        frames.send(v1::ClientFrame { kind: Some(first) }).await.unwrap();
        let origin = http::Uri::from_static("http://test");
        let mut client = v1::peer_client::PeerClient::with_origin(connection, origin);
        let answers = client.link(ReceiverStream::new(stream)).await;
        Self { frames, answers: answers.map(tonic::Response::into_inner) }
    }

    /// As a peer called `name` should begin.
    async fn begin(node: &Node, name: &str, life: u128) -> Self {
        let mut caller = Self::call(node, client_frame::Kind::Hello(hello(node, name, life))).await;
        assert!(matches!(caller.answer().await, Some(server_frame::Kind::Welcome(_))));
        caller
    }

    async fn send(&self, messages: Vec<Bytes>) {
        let frame = client_frame::Kind::Frame(frame(messages));
        self.frames.send(v1::ClientFrame { kind: Some(frame) }).await.unwrap();
    }

    /// What the node says next, if it has not ended the link.
    async fn answer(&mut self) -> Option<server_frame::Kind> {
        let answer = self.answers.as_mut().unwrap().message();
        soon("an answer", answer).await.ok().flatten().and_then(|answer| answer.kind)
    }

    async fn refused(&mut self) -> String {
        match self.answer().await {
            Some(server_frame::Kind::Refused(refused)) => refused.reason,
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn hello(node: &Node, caller: &str, life: u128) -> v1::Hello {
    wire::encode_hello(&Hello {
        name: name(caller),
        life: Life(life),
        callee: node.name().clone(),
        listen: String::new(),
    })
}

fn heartbeat() -> Bytes {
    let mut frame = BytesMut::new();
    wire::encode(&Message::Detector(detector::Message::Heartbeat), &mut frame);
    wire::messages(frame.freeze()).next().unwrap().unwrap()
}

fn frame(messages: Vec<Bytes>) -> Bytes {
    v1::Frame { messages }.encode_to_vec().into()
}

/// Garbage on one link is told in a line, closes that link, and disturbs no other.
#[tokio::test]
async fn garbage_closes_only_its_own_link() {
    let good = node("good", &[]).await;
    let node = node("node", &[&good]).await;
    sees(&node, "good", PeerState::Up).await;
    let mut events = node.events();
    let position = Bytes::from_static(&[0x22, 4, 0x3a, 2, 0x08, 64]);
    let garbage = [
        vec![Bytes::from_static(b"\xff\xff\xff")],
        // It asks for messages of a sender at position 64.
        vec![heartbeat(), position],
        vec![Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1])],
        vec![Bytes::from(vec![0; MESSAGE_BYTES_MAX]); 3],
    ];
    for (life, messages) in garbage.into_iter().enumerate() {
        let mut bad = Caller::begin(&node, "bad", life as u128).await;
        bad.send(vec![heartbeat()]).await;
        bad.send(messages).await;
        line(&mut events, "bad sent garbage").await;
        while bad.answer().await.is_some() {}
    }
    // A second Hello, too.
    let mut bad = Caller::begin(&node, "bad", 99).await;
    let again = client_frame::Kind::Hello(hello(&node, "bad", 99));
    bad.frames.send(v1::ClientFrame { kind: Some(again) }).await.unwrap();
    line(&mut events, "bad sent garbage").await;
    assert!(bad.refused().await.contains("second Hello"));

    let mut rumors = good.subscribe();
    node.publish("undisturbed").await.unwrap();
    soon("the rumor", rumors.next()).await.unwrap().unwrap();
    node.leave().await;
    good.leave().await;
}

#[tokio::test]
async fn a_large_frame_of_small_messages_is_welcome() {
    let node = node("node", &[]).await;
    let mut caller = Caller::begin(&node, "peer", 1).await;
    let messages = vec![heartbeat(); (FRAME_BYTES_MAX - 100) / (heartbeat().len() + 2)];
    caller.send(messages).await;
    let unknown = v1::ClientFrame { kind: None };
    caller.frames.send(unknown).await.unwrap();
    caller.send(vec![Bytes::from_static(&[0xa2, 0x06, 0x02, 1, 2]), heartbeat()]).await;
    let quiet = timeout(Duration::from_millis(300), caller.answer());
    assert!(quiet.await.is_err(), "the link stands");
    node.leave().await;
    assert!(caller.answer().await.is_none());
}

#[tokio::test]
async fn who_does_not_introduce_itself_is_refused() {
    let node = node("node", &[]).await;
    let frame = client_frame::Kind::Frame(frame(vec![heartbeat()]));
    assert!(Caller::call(&node, frame).await.answers.is_err());

    let call = |hello| Caller::call(&node, client_frame::Kind::Hello(hello));
    let mut version = hello(&node, "peer", 1);
    version.version = 99;
    let reason = call(version).await.refused().await;
    assert!(reason.contains("version 99"), "{reason}");

    let mut callee = hello(&node, "peer", 1);
    callee.callee = "other".into();
    assert_eq!(call(callee).await.refused().await, "this is node");

    let reason = call(hello(&node, "node", 1)).await.refused().await;
    assert!(reason.contains("the name node is taken"), "{reason}");

    let changes: [fn(&mut v1::Hello); 5] = [
        |hello| hello.name = "two words".into(),
        |hello| hello.name.clear(),
        |hello| hello.life = Bytes::from_static(b"short"),
        |hello| hello.listen = "x".repeat(300),
        |hello| hello.listen = "a\nb:1".into(),
    ];
    for change in changes {
        let mut hello = hello(&node, "peer", 1);
        change(&mut hello);
        assert!(call(hello).await.answers.is_err());
    }
    node.leave().await;
}

#[tokio::test]
async fn the_newest_link_of_a_name_counts() {
    let node = node("node", &[]).await;
    let mut events = node.events();
    let mut one = Caller::begin(&node, "peer", 1).await;
    // The same process again: its first connection may be half open.
    let mut two = Caller::begin(&node, "peer", 1).await;
    assert!(one.refused().await.contains("newer link"));
    // Another process: people are told.
    let mut three = Caller::begin(&node, "peer", 2).await;
    assert!(two.refused().await.contains("newer link"));
    line(&mut events, "peer called as another process").await;
    let quiet = timeout(Duration::from_millis(200), three.answer());
    assert!(quiet.await.is_err(), "the newest link stands");
    node.leave().await;
}

/// A call without a Hello keeps its connection no longer than an introduction may take.
#[tokio::test]
async fn a_silent_call_is_hung_up_on() {
    let node = node("node", &[]).await;
    let (open, mut all_closed) = OpenSockets::new();
    let connection = connection(node.listen_addr(), open).await.unwrap();
    let (frames, stream) = mpsc::channel::<v1::ClientFrame>(8);
    let origin = http::Uri::from_static("http://test");
    let mut client = v1::peer_client::PeerClient::with_origin(connection, origin);
    let call = timeout(HANDSHAKE * 2, client.link(ReceiverStream::new(stream)));
    assert!(call.await.expect("it is hung up on").is_err());
    drop((frames, client));
    soon("the connection ends", all_closed.recv()).await;
    node.leave().await;
}
