//! A proxy between two nodes: it counts the connections that they reset, and can reset some itself.

use super::SOON;
use socket2::SockRef;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a blocked read looks whether its connection is to be cut.
const LOOK: Duration = Duration::from_millis(10);

/// Passes connections on to one port of this machine.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Both ends of each connection, for as long as it is open.
    open: Mutex<Vec<Arc<Pair>>>,
    passed: AtomicUsize,
    resets: AtomicUsize,
}

struct Pair {
    ends: [TcpStream; 2],
    cut: AtomicBool,
    was_reset: AtomicBool,
}

impl Proxy {
    /// A proxy in front of `target`, which need not listen yet.
    pub(crate) fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        // It ends with the test's process.
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&for_thread);
                thread::spawn(move || serve(caller, target, &shared));
            }
        });
        Self { port, shared }
    }

    /// How many connections have been passed on.
    pub(crate) fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// How many of them one of the two nodes has reset.
    pub(crate) fn resets(&self) -> usize {
        self.shared.resets.load(Ordering::SeqCst)
    }

    /// Resets all open connections towards both ends, and says how many there were.
    pub(crate) fn cut(&self) -> usize {
        let pairs = std::mem::take(&mut *self.shared.open.lock().unwrap());
        let count = pairs.len();
        let deadline = Instant::now() + SOON;
        for pair in pairs {
            for end in &pair.ends {
                // Closing then resets.
                SockRef::from(end).set_linger(Some(Duration::ZERO)).unwrap();
            }
            pair.cut.store(true, Ordering::SeqCst);
            while Arc::strong_count(&pair) > 1 {
                assert!(Instant::now() < deadline, "the connection is still in use");
                thread::sleep(Duration::from_millis(1));
            }
        }
        count
    }
}

fn serve(caller: TcpStream, target: u16, shared: &Arc<Shared>) {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    let Ok(target_end) = TcpStream::connect(target) else { return turn_away(caller) };
    shared.passed.fetch_add(1, Ordering::SeqCst);
    for end in [&caller, &target_end] {
        end.set_nodelay(true).unwrap();
        end.set_read_timeout(Some(LOOK)).unwrap();
    }
    let ends = [caller, target_end];
    let pair = Pair { ends, cut: AtomicBool::new(false), was_reset: AtomicBool::new(false) };
    let pair = Arc::new(pair);
    shared.open.lock().unwrap().push(Arc::clone(&pair));
    let (other, others) = (Arc::clone(&pair), Arc::clone(shared));
    let back = thread::spawn(move || {
        copy(&other, 1, 0, &others);
        drop(other);
    });
    copy(&pair, 0, 1, shared);
    // Only the ends that are open count as such.
    while !back.is_finished() {
        thread::sleep(LOOK);
    }
    shared.open.lock().unwrap().retain(|open| !Arc::ptr_eq(open, &pair));
}

/// Nobody listens behind the proxy: closes without a reset, which would look like the node's.
fn turn_away(mut caller: TcpStream) {
    let _ = caller.shutdown(Shutdown::Write);
    let _ = caller.set_read_timeout(Some(SOON));
    let mut rest = [0; 1024];
    while matches!(caller.read(&mut rest), Ok(1..)) {}
}

/// Copies until the end, and passes that on, too.
fn copy(pair: &Pair, from: usize, to: usize, shared: &Shared) {
    let (mut from, mut to) = (&pair.ends[from], &pair.ends[to]);
    let mut buffer = vec![0; 64 << 10];
    while !pair.cut.load(Ordering::SeqCst) {
        let copied = match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) => to.write_all(&buffer[..length]),
            Err(error) => Err(error),
        };
        match copied.map_err(|error| error.kind()) {
            Ok(()) | Err(ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(kind) => {
                let reset = matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                if reset && !pair.was_reset.swap(true, Ordering::SeqCst) {
                    shared.resets.fetch_add(1, Ordering::SeqCst);
                }
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    }
}
