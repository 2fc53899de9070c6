//! Accepts connections, and turns each into the stream of one peer.

use super::{
    Arrival, HANDSHAKE, HEADER_BYTES_MAX, HTTP2_FRAME_BYTES, Identity, KEEP_ALIVE,
    KEEP_ALIVE_TIMEOUT, LinkEvent, LinkEvents, UNSENT_BYTES, WINDOW_BYTES,
    inbound::Inbound,
    lingering::{Fault, Lingering, OpenSockets},
    socket,
};
use crate::wire::{self, FRAME_BYTES_MAX, Hello, VERSION, Welcome, v1};
use futures_core::Stream;
use hyper::server::conn::http2::Builder;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status, Streaming};

/// How long an ended connection has for its goodbyes.
const CLOSE: Duration = Duration::from_secs(2);
/// The pause after the system could not accept a connection, so that it is not asked all the time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Calls that one connection may have open: one is used, others are refused in order.
const CALLS_MAX: u32 = 8;
/// Calls that may be reset before they are looked at: more is an attack ("rapid reset").
const RESETS_MAX: usize = 20;

/// Accepts the connections of a node.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) me: Arc<Identity>,
    pub(crate) events: LinkEvents,
    pub(crate) open: OpenSockets,
    pub(crate) connections_max: usize,
    /// Closed when nothing more is to be accepted.
    pub(crate) listening: watch::Receiver<()>,
    /// Closed when the connections are to end.
    pub(crate) closing: watch::Receiver<()>,
}

impl Listener {
    /// Accepts until the node closes. Beyond the limit, connections wait in the kernel.
    pub(crate) async fn run(mut self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(self.connections_max));
        loop {
            let next = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit.expect("the semaphore is never closed"), listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                next = next => next,
                _ = self.listening.changed() => break,
            };
            match accepted {
                Ok((stream, remote)) => self.serve(stream, remote, permit),
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.empty(listener, &permits);
    }

    /// Takes the connections that wait in the kernel, which would reset them.
    fn empty(&self, listener: TcpListener, permits: &Arc<Semaphore>) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(permit) = Arc::clone(permits).try_acquire_owned()
            && let Ok((stream, remote)) = listener.accept()
        {
            if let Ok(()) = stream.set_nonblocking(true)
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.serve(stream, remote, permit);
            }
        }
    }

    fn serve(&self, stream: TcpStream, remote: SocketAddr, permit: OwnedSemaphorePermit) {
        let io = Lingering::new(stream, &self.open, Some(permit));
        if let Err(error) = socket::prepare(io.socket()) {
            // It has ended already.
            tracing::debug!(%error, "cannot set up a connection");
            return;
        }
        let call = Call {
            me: Arc::clone(&self.me),
            events: self.events.clone(),
            remote,
            fault: io.fault(),
            stage: Arc::default(),
        };
        tokio::spawn(serve(io, call, self.closing.clone()));
    }
}

/// How far a connection is.
#[derive(Debug, Default)]
struct Stage {
    introduced: AtomicBool,
    ended: Notify,
}

/// What a connection is served with.
#[derive(Debug)]
struct Call {
    me: Arc<Identity>,
    events: LinkEvents,
    remote: SocketAddr,
    fault: Fault,
    stage: Arc<Stage>,
}

async fn serve(io: Lingering, call: Call, mut closing: watch::Receiver<()>) {
    let (events, remote) = (call.events.clone(), call.remote);
    let (fault, stage) = (call.fault.clone(), Arc::clone(&call.stage));
    let service = v1::peer_server::PeerServer::new(call)
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(CALLS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_send_buf_size(UNSENT_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    // On a task of its own, so that a frame that arrives wakes nothing but the connection.
    let mut over = tokio::spawn({
        let stage = Arc::clone(&stage);
        async move {
            let silent = async {
                sleep(HANDSHAKE).await;
                if stage.introduced.load(Ordering::Acquire) {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = silent => {}
                () = stage.ended.notified() => {}
                _ = closing.changed() => {}
            }
        }
    });
    let finished = tokio::select! {
        finished = &mut connection => Some(finished),
        _ = &mut over => None,
    };
    over.abort();
    match finished {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::debug!(%remote, %error, "a connection from a peer failed");
            // A peer is reported by its link; one that went away without a word not at all.
            if !stage.introduced.load(Ordering::Acquire) && fault.get().is_none() {
                let line = format!("{remote} does not speak this protocol");
                let _ = events.try_send(LinkEvent::Line(line));
            }
        }
        None => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(CLOSE, connection).await;
        }
    }
}

#[tonic::async_trait]
impl v1::peer_server::Peer for Call {
    type LinkStream = Answers;

    async fn link(
        &self,
        request: Request<Streaming<v1::ClientFrame>>,
    ) -> Result<Response<Answers>, Status> {
        let mut stream = request.into_inner();
        let first = stream.message().await?.and_then(|frame| frame.kind);
        let Some(v1::client_frame::Kind::Hello(hello)) = first else {
            return Err(self.unusable("the first frame is no Hello"));
        };
        if hello.version != VERSION {
            let reason = format!("version {} is not spoken here: {VERSION}", hello.version);
            return Ok(self.refuse(reason));
        }
        let hello = wire::decode_hello(hello).map_err(|error| self.unusable(&error.to_string()))?;
        if self.stage.introduced.swap(true, Ordering::AcqRel) {
            return Err(Status::resource_exhausted("one link per connection"));
        }
        if hello.life == self.me.life {
            // The welcome tells the dialer that it has reached itself.
            return Ok(self.welcome(None));
        }
        if let Some(reason) = self.misdirected(&hello) {
            return Ok(self.refuse(reason));
        }
        let (end, ended) = oneshot::channel();
        let inbound = Inbound::new(hello.name.id(), stream, self.fault.clone());
        let dial = dial_back(&hello.listen, self.remote);
        let arrival = Box::new(Arrival { hello, dial, inbound, end });
        let handed = self.events.send(LinkEvent::Inbound(arrival)).await;
        handed.map_err(|_| Status::unavailable("this node is stopping"))?;
        Ok(self.welcome(Some(ended)))
    }
}

impl Call {
    /// Why a caller cannot be a peer of this node, if it cannot.
    fn misdirected(&self, hello: &Hello) -> Option<String> {
        if hello.name == self.me.name {
            let line = format!("another {} called from {}", hello.name, self.remote);
            let _ = self.events.try_send(LinkEvent::Line(line));
            return Some(format!("the name {} is taken by the node called", hello.name));
        }
        (hello.callee != self.me.name).then(|| format!("this is {}", self.me.name))
    }

    fn unusable(&self, reason: &str) -> Status {
        let line = format!("{} does not speak this protocol: {reason}", self.remote);
        let _ = self.events.try_send(LinkEvent::Line(line));
        Status::invalid_argument(reason)
    }

    fn welcome(&self, ended: Option<oneshot::Receiver<String>>) -> Response<Answers> {
        let me = Welcome { name: self.me.name.clone(), life: self.me.life };
        let welcome = v1::server_frame::Kind::Welcome(wire::encode_welcome(&me));
        Response::new(Answers { first: Some(welcome), ended, stage: Arc::clone(&self.stage) })
    }

    fn refuse(&self, reason: String) -> Response<Answers> {
        let refused = v1::server_frame::Kind::Refused(v1::Refused { reason });
        let stage = Arc::clone(&self.stage);
        Response::new(Answers { first: Some(refused), ended: None, stage })
    }
}

/// Where a caller may be dialled: a host that is unspecified is the one that it calls from.
fn dial_back(listen: &str, remote: SocketAddr) -> Option<String> {
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => None,
        Ok(address) if address.ip().is_unspecified() => {
            Some(SocketAddr::new(remote.ip().to_canonical(), address.port()).to_string())
        }
        Ok(address) => Some(address.to_string()),
        Err(_) => (!listen.is_empty()).then(|| listen.to_owned()),
    }
}

/// What the called side says: its welcome, and the end.
#[derive(Debug)]
struct Answers {
    first: Option<v1::server_frame::Kind>,
    /// Resolves when the link is to end; none if it ends at once.
    ended: Option<oneshot::Receiver<String>>,
    stage: Arc<Stage>,
}

impl Stream for Answers {
    type Item = Result<v1::ServerFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(v1::ServerFrame { kind: Some(first) })));
        }
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        let reason = std::task::ready!(Pin::new(ended).poll(cx));
        self.ended = None;
        // A sender that is just dropped has nothing to say.
        let Ok(reason) = reason else { return Poll::Ready(None) };
        let refused = v1::server_frame::Kind::Refused(v1::Refused { reason });
        Poll::Ready(Some(Ok(v1::ServerFrame { kind: Some(refused) })))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.stage.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_dialled_where_it_listens() {
        let remote = "10.0.0.7:50123".parse().unwrap();
        assert_eq!(dial_back("10.0.0.9:7001", remote).unwrap(), "10.0.0.9:7001");
        assert_eq!(dial_back("0.0.0.0:7001", remote).unwrap(), "10.0.0.7:7001");
        assert_eq!(dial_back("[::]:7001", remote).unwrap(), "10.0.0.7:7001");
        assert_eq!(dial_back("web3.example:7001", remote).unwrap(), "web3.example:7001");
        assert_eq!(dial_back("", remote), None);
        assert_eq!(dial_back("0.0.0.0:0", remote), None);
        let mapped = "[::ffff:10.0.0.7]:50123".parse().unwrap();
        assert_eq!(dial_back("[::]:7001", mapped).unwrap(), "10.0.0.7:7001");
    }
}
