//! A TCP proxy that notices resets, and can make them.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    resets: AtomicUsize,
    /// Counted up to reset everything.
    reset: watch::Sender<u64>,
    /// Whether nothing is passed on any more.
    frozen: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        tokio::spawn(run(listener, Arc::clone(&shared)));
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until this is called, connections are hung up on.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = Some(target);
    }

    /// How many connections were passed on.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many times one side reset a connection.
    pub(crate) fn resets(&self) -> usize {
        self.shared.resets.load(Ordering::SeqCst)
    }

    pub(crate) fn reset_all(&self) {
        self.shared.reset.send_modify(|count| *count += 1);
    }

    /// From now on nothing is passed on, not even the end of a connection.
    pub(crate) fn freeze(&self) {
        self.shared.frozen.send_replace(true);
    }

    pub(crate) async fn all_ended(&self) {
        while self.shared.open.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn run(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let target = *shared.target.lock().unwrap();
        let Some(target) = target else { continue };
        let Ok(far) = TcpStream::connect(target).await else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut reset = shared.reset.subscribe();
            let sockets = [&near, &far].map(|s| socket2::SockRef::from(s).try_clone().unwrap());
            let (from_near, to_near) = near.into_split();
            let (from_far, to_far) = far.into_split();
            tokio::select! {
                () = async {
                    tokio::join!(
                        pass(from_near, to_far, &shared),
                        pass(from_far, to_near, &shared),
                    );
                    // A reset that came when nothing was read any more.
                    for socket in &sockets {
                        shared.note(socket.take_error().unwrap().map_or(Ok(()), Err));
                    }
                } => {}
                _ = reset.changed() => {
                    for socket in &sockets {
                        // Closed with this, a socket sends a reset.
                        socket.set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            }
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Passes everything on in one direction, and then its end.
async fn pass(mut from: OwnedReadHalf, to: OwnedWriteHalf, shared: &Shared) {
    let mut to = Writer(Some(to));
    let mut buffer = vec![0; 64 << 10];
    let mut deaf = false;
    let mut frozen = shared.frozen.subscribe();
    loop {
        frozen.wait_for(|frozen| !frozen).await.unwrap();
        let length = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                shared.note(Err(error));
                break;
            }
        };
        // If one side resets, the other one may still end in order.
        if !deaf && let Err(error) = to.half().write_all(&buffer[..length]).await {
            shared.note(Err(error));
            deaf = true;
        }
    }
    let _ = to.half().shutdown().await;
}

/// A half that is not ended in order when it is dropped, so that a reset is nothing but a reset.
struct Writer(Option<OwnedWriteHalf>);

impl Writer {
    fn half(&mut self) -> &mut OwnedWriteHalf {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.take().unwrap().forget();
    }
}

impl Shared {
    fn note(&self, result: io::Result<()>) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        if let Err(error) = result
            && matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted)
        {
            self.resets.fetch_add(1, Ordering::SeqCst);
        }
    }
}
