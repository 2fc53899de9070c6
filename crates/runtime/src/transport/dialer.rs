//! Dials one peer for as long as it is wanted, and holds the link on which this node sends.

use super::{
    HANDSHAKE, HEADER_BYTES_MAX, HTTP2_FRAME_BYTES, Identity, KEEP_ALIVE, KEEP_ALIVE_TIMEOUT,
    LinkEvent, LinkEvents, UNSENT_BYTES, WINDOW_BYTES,
    lingering::{Fault, Lingering, OpenSockets},
    outbox::Outbox,
    socket,
};
use crate::wire::{self, FRAME_BYTES_MAX, Hello, v1};
use http::Uri;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand_core::Rng as _;
use roundelay_core::{Life, Name, Rng};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tonic::{Status, Streaming, body::Body};

/// The first pause between two dials, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A link that was up so long was a good one: the next dial is made without much delay.
const GOOD_LINK: Duration = Duration::from_secs(1);
/// How long an ended connection has for its goodbyes.
const CLOSE: Duration = Duration::from_secs(2);
/// The largest answer of a peer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// The longest reason of a peer that is shown, in characters.
const LINE_CHARS_MAX: usize = 200;

/// What the driver holds of a dialer. When it is dropped, nothing is dialled any more; a link that
/// stands ends with its outbox.
#[derive(Debug)]
pub(crate) struct DialerHandle {
    shared: Arc<Shared>,
    _stop: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    address: Mutex<String>,
    at_once: Notify,
    anew: Notify,
}

impl DialerHandle {
    /// Dials at once instead of waiting for the next turn.
    pub(crate) fn dial_now(&self) {
        self.shared.at_once.notify_one();
    }

    /// Gives up the link that stands, if one does, and dials at once.
    pub(crate) fn dial_anew(&self) {
        self.shared.anew.notify_one();
        self.shared.at_once.notify_one();
    }

    /// Dials another address from now on.
    pub(crate) fn readdress(&self, address: String) {
        *self.shared.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// What all dialers of a node have in common.
#[derive(Clone, Debug)]
pub(crate) struct Dialing {
    pub(crate) me: Arc<Identity>,
    pub(crate) events: LinkEvents,
    pub(crate) open: OpenSockets,
    pub(crate) urgent_bytes_max: usize,
    pub(crate) bulk_bytes_max: usize,
}

impl Dialing {
    /// Starts to dial `peer` at `address`, which is resolved anew at each dial.
    pub(crate) fn dial(&self, peer: Name, address: String, rng: Rng) -> DialerHandle {
        let shared =
            Shared { address: Mutex::new(address), at_once: Notify::new(), anew: Notify::new() };
        let shared = Arc::new(shared);
        let (stop, stopped) = watch::channel(());
        let dialer = Dialer {
            dialing: self.clone(),
            peer,
            shared: Arc::clone(&shared),
            rng,
            said: String::new(),
        };
        tokio::spawn(dialer.run(stopped));
        DialerHandle { shared, _stop: stop }
    }
}

#[derive(Debug)]
struct Dialer {
    dialing: Dialing,
    peer: Name,
    shared: Arc<Shared>,
    rng: Rng,
    /// The last line about this peer: it is not repeated until a link stood.
    said: String,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum NoLink {
    #[error("cannot resolve its address: {0}")]
    Resolve(io::Error),
    #[error("not reached: {0}")]
    Connect(io::Error),
    #[error("no answer")]
    Timeout,
    #[error("it does not speak this protocol: {0}")]
    Protocol(String),
    #[error("it refused the link: {0}")]
    Refused(String),
    #[error("it calls itself {0}")]
    OtherName(Name),
    #[error("its address is that of this node")]
    Myself,
    #[error("the connection broke: {0}")]
    Broken(io::ErrorKind),
}

/// How a link ended.
enum Ended {
    /// As it should.
    InOrder,
    /// The other side said why.
    Because(String),
    /// The connection broke.
    Broken(io::ErrorKind),
}

/// A link that stands.
struct Link {
    outbox: Arc<Outbox>,
    life: Life,
    /// What the other side still says: nothing but the end.
    answers: Streaming<v1::ServerFrame>,
    fault: Fault,
    connection: Connection,
}

impl Dialer {
    async fn run(mut self, mut stopped: watch::Receiver<()>) {
        let mut pause = BACKOFF.0;
        loop {
            // The channel is closed when the handle is dropped.
            let link = tokio::select! {
                link = self.establish() => link,
                _ = stopped.changed() => break,
            };
            match link {
                Ok(link) => {
                    let since = Instant::now();
                    self.hold(link, &mut stopped).await;
                    if since.elapsed() >= GOOD_LINK {
                        pause = BACKOFF.0;
                    }
                }
                Err(reason) => {
                    self.explain(&reason);
                    if matches!(reason, NoLink::Myself) {
                        break;
                    }
                }
            }
            tokio::select! {
                () = sleep(self.jittered(pause)) => pause = (pause * 2).min(BACKOFF.1),
                () = self.shared.at_once.notified() => {}
                _ = stopped.changed() => break,
            }
        }
    }

    /// Dials and introduces this node.
    async fn establish(&self) -> Result<Link, NoLink> {
        let io = self.connect().await?;
        let fault = io.fault();
        let outbox = Arc::new(self.outbox());
        let introduce = async {
            let connection = Connection::open(io).await?;
            let origin = Uri::from_static("http://roundelay");
            let mut client = v1::peer_client::PeerClient::with_origin(connection.clone(), origin)
                .max_encoding_message_size(FRAME_BYTES_MAX)
                .max_decoding_message_size(ANSWER_BYTES_MAX);
            let mut answers = client.link(outbox.frames()).await?.into_inner();
            let answer = answers.message().await?;
            Ok::<_, NoLink>((connection, answers, answer.and_then(|answer| answer.kind)))
        };
        let introduced = timeout(HANDSHAKE, introduce).await.map_err(|_| NoLink::Timeout)?;
        // What HTTP/2 says of a broken connection is no reason to suspect the peer's protocol.
        let (connection, answers, answer) =
            introduced.map_err(|reason| fault.get().map_or(reason, NoLink::Broken))?;
        let life = self.welcomed(answer)?;
        Ok(Link { outbox, life, answers, fault, connection })
    }

    async fn connect(&self) -> Result<Lingering, NoLink> {
        let address = self.address();
        let addresses = timeout(HANDSHAKE, lookup_host(&address)).await;
        let addresses = addresses.map_err(|_| NoLink::Timeout)?.map_err(NoLink::Resolve)?;
        let mut failure = NoLink::Resolve(io::ErrorKind::NotFound.into());
        for address in addresses {
            // A task of its own: a connection that comes too late is ended in order there, however
            // this dial ends.
            let connecting = tokio::spawn(connect(address, self.dialing.open.clone()));
            match timeout(HANDSHAKE, connecting).await {
                Ok(Ok(Ok(io))) => return Ok(io),
                Ok(Ok(Err(error))) => failure = NoLink::Connect(error),
                Ok(Err(failed)) => failure = NoLink::Connect(io::Error::other(failed)),
                Err(_) => failure = NoLink::Connect(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(failure)
    }

    /// Whether the answer is that of the peer that was to be reached; its life.
    fn welcomed(&self, answer: Option<v1::server_frame::Kind>) -> Result<Life, NoLink> {
        use v1::server_frame::Kind;
        match answer {
            Some(Kind::Welcome(welcome)) => {
                let welcome = wire::decode_welcome(&welcome)
                    .map_err(|error| NoLink::Protocol(error.to_string()))?;
                if welcome.life == self.dialing.me.life {
                    return Err(NoLink::Myself);
                }
                if welcome.name != self.peer {
                    return Err(NoLink::OtherName(welcome.name));
                }
                Ok(welcome.life)
            }
            Some(Kind::Refused(refused)) => Err(NoLink::Refused(shorten(&refused.reason))),
            None => Err(NoLink::Protocol("it answered nothing".into())),
        }
    }

    /// Tells the driver that the link stands, and when it has ended.
    async fn hold(&mut self, link: Link, stopped: &mut watch::Receiver<()>) {
        let Link { outbox, life, answers, fault, connection } = link;
        self.said.clear();
        let peer = self.peer.id();
        self.tell(LinkEvent::Up { peer, life, outbox: Arc::clone(&outbox) }).await;
        let ended = tokio::select! {
            ended = ended(answers, &fault) => ended,
            () = self.shared.anew.notified() => Ended::InOrder,
            // Its outbox is closed too, so that it ends by itself unless the other side is stuck.
            () = async { let _ = stopped.changed().await; sleep(CLOSE).await } => Ended::InOrder,
        };
        outbox.close();
        drop(connection);
        self.tell(LinkEvent::Down { peer, outbox }).await;
        match ended {
            Ended::InOrder => {}
            Ended::Because(reason) => {
                self.line(format!("{} ended the link: {reason}", self.peer)).await;
            }
            Ended::Broken(io::ErrorKind::ConnectionReset) => {
                self.line(format!("{} reset the connection", self.peer)).await;
            }
            Ended::Broken(kind) => {
                tracing::debug!(peer = %self.peer, %kind, "the link broke");
            }
        }
    }

    fn outbox(&self) -> Outbox {
        let hello = wire::encode_hello(&Hello {
            name: self.dialing.me.name.clone(),
            life: self.dialing.me.life,
            callee: self.peer.clone(),
            listen: self.dialing.me.listen.clone(),
        });
        Outbox::new(hello, self.dialing.urgent_bytes_max, self.dialing.bulk_bytes_max)
    }

    fn address(&self) -> String {
        self.shared.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Between a half and all of the pause, so that nodes that lost a peer together do not all
    /// dial it together.
    fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.5 + f64::from(self.rng.next_u32()) / f64::from(u32::MAX) / 2.0)
    }

    /// Says once why there is no link. That a peer is not reached is no news: it is down.
    fn explain(&mut self, reason: &NoLink) {
        tracing::debug!(peer = %self.peer, %reason, "no link");
        if matches!(reason, NoLink::Connect(_) | NoLink::Timeout | NoLink::Broken(_)) {
            return;
        }
        let line = format!("no link to {} at {}: {reason}", self.peer, self.address());
        if line != self.said {
            self.said.clone_from(&line);
            // A driver that is so busy can do without.
            let _ = self.dialing.events.try_send(LinkEvent::Line(line));
        }
    }

    async fn line(&self, line: String) {
        self.tell(LinkEvent::Line(line)).await;
    }

    async fn tell(&self, event: LinkEvent) {
        // An error says that the driver has ended, and the node with it.
        let _ = self.dialing.events.send(event).await;
    }
}

async fn connect(address: SocketAddr, open: OpenSockets) -> io::Result<Lingering> {
    let stream = TcpStream::connect(address).await?;
    let io = Lingering::new(stream, &open, None);
    socket::prepare(io.socket())?;
    Ok(io)
}

/// A connection to `address`.
#[cfg(test)]
pub(crate) async fn connection(
    address: SocketAddr,
    open: OpenSockets,
) -> io::Result<impl tonic::client::GrpcService<Body, ResponseBody = hyper::body::Incoming>> {
    let io = connect(address, open).await?;
    Connection::open(io).await.map_err(io::Error::other)
}

/// Waits for the end of a link.
async fn ended(mut answers: Streaming<v1::ServerFrame>, fault: &Fault) -> Ended {
    loop {
        match answers.message().await {
            Ok(None) => return Ended::InOrder,
            Ok(Some(v1::ServerFrame { kind: Some(v1::server_frame::Kind::Refused(refused)) })) => {
                return Ended::Because(shorten(&refused.reason));
            }
            // Something that a newer version says.
            Ok(Some(_)) => {}
            Err(_) => {
                return Ended::Broken(fault.get().unwrap_or(io::ErrorKind::ConnectionAborted));
            }
        }
    }
}

/// What a peer said, fit for one line on a terminal.
fn shorten(text: &str) -> String {
    text.chars().take(LINE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An HTTP/2 connection: ended in order when the last clone of it is dropped.
#[derive(Clone, Debug)]
struct Connection {
    calls: SendRequest<Body>,
}

impl Connection {
    async fn open(io: Lingering) -> Result<Self, NoLink> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buf_size(UNSENT_BYTES)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let (calls, connection) = builder.handshake(TokioIo::new(io)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a peer failed");
            }
        });
        Ok(Self { calls })
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.calls.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.calls.send_request(request))
    }
}

impl From<hyper::Error> for NoLink {
    fn from(error: hyper::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<Status> for NoLink {
    fn from(status: Status) -> Self {
        Self::Protocol(shorten(status.message()))
    }
}
