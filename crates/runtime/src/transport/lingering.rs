//! Connections that end without a reset.
//!
//! A kernel answers the close of a socket that has unread bytes, or bytes that come after the
//! close, with a TCP reset, which may destroy what was sent before it. So no connection is just
//! closed here: the sending direction is ended, and what still comes is read and thrown away
//! until the other side ends too.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

/// How long the other side has for ending a connection that this side has ended.
const LINGER: Duration = Duration::from_secs(2);
/// How much it may still send meanwhile, in bytes.
const LINGER_BYTES_MAX: u64 = 64 << 20;

/// Counts the sockets that are not closed yet.
#[derive(Clone, Debug)]
pub(crate) struct OpenSockets {
    _open: mpsc::Sender<()>,
}

impl OpenSockets {
    /// A counter, and its end: the channel is closed once all sockets are, and all counters gone.
    pub(crate) fn new() -> (Self, mpsc::Receiver<()>) {
        let (open, all_closed) = mpsc::channel(1);
        (Self { _open: open }, all_closed)
    }
}

/// The error by which a connection broke, if it did: HTTP/2 tells only that something happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault {
    kind: Arc<OnceLock<io::ErrorKind>>,
}

impl Fault {
    /// What broke the connection.
    pub(crate) fn get(&self) -> Option<io::ErrorKind> {
        self.kind.get().copied()
    }

    fn watch<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            // The first error is the cause of those that follow.
            let _ = self.kind.set(error.kind());
        }
        result
    }
}

/// A TCP connection that is ended in order even when it is just dropped.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// None only while it is dropped.
    stream: Option<TcpStream>,
    open: OpenSockets,
    fault: Fault,
    /// One of the connections that a listener may have open.
    permit: Option<OwnedSemaphorePermit>,
}

impl Lingering {
    pub(crate) fn new(
        stream: TcpStream,
        open: &OpenSockets,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { stream: Some(stream), open: open.clone(), fault: Fault::default(), permit }
    }

    /// The socket, to set it up.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.as_ref().expect("it is there until the drop")
    }

    /// What will have broken this connection.
    pub(crate) fn fault(&self) -> Fault {
        self.fault.clone()
    }

    /// Does something with the socket, and remembers its error.
    fn with<T>(
        self: Pin<&mut Self>,
        act: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        let stream = this.stream.as_mut().expect("it is there until the drop");
        this.fault.watch(act(Pin::new(stream)))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let stream = self.stream.take().expect("it is dropped once");
        // Outside of a runtime the process is about to end, and there is nobody to wait.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(linger(stream, self.open.clone(), self.permit.take()));
        }
    }
}

async fn linger(mut stream: TcpStream, open: OpenSockets, permit: Option<OwnedSemaphorePermit>) {
    // An error means that the connection is gone already.
    if stream.shutdown().await.is_ok() {
        let mut rest = stream.take(LINGER_BYTES_MAX);
        let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
    drop((open, permit));
}

impl AsyncRead for Lingering {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}
