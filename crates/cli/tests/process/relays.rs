//! A relay between each two nodes and for each direction: what one says to the other can be held
//! back as a network does that loses every packet, one way or both, and let through again. And
//! connections can be closed, as by a middlebox that is restarted.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// The relays between `ports.len()` nodes.
pub(crate) struct Relays {
    /// Where the first node dials the second one.
    ports: Vec<Vec<u16>>,
    /// What the first node says to the second one goes through here, on whichever connection.
    gates: Vec<Vec<Arc<Gate>>>,
    /// Connections that the first node has dialled.
    open: Vec<Vec<Arc<Open>>>,
}

/// Both ends of each connection, for as long as it is open.
type Open = Mutex<Vec<Arc<[TcpStream; 2]>>>;

/// Lets bytes through, or holds them back.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        drop(self.opened.wait_while(self.closed.lock().unwrap(), |closed| *closed).unwrap());
    }
}

impl Relays {
    /// Relays between nodes that listen, or will listen, on these ports of this machine.
    pub(crate) fn start(ports: &[u16]) -> Self {
        let gates: Vec<Vec<Arc<Gate>>> = square(ports.len(), |_, _| Arc::default());
        let open: Vec<Vec<Arc<Open>>> = square(ports.len(), |_, _| Arc::default());
        let ports = square(ports.len(), |from, to| {
            if from == to {
                return ports[to];
            }
            let (there, back) = (Arc::clone(&gates[from][to]), Arc::clone(&gates[to][from]));
            relay(Line { target: ports[to], there, back, open: Arc::clone(&open[from][to]) })
        });
        Self { ports, gates, open }
    }

    /// Where node `from` dials node `to`.
    pub(crate) fn port(&self, from: usize, to: usize) -> u16 {
        self.ports[from][to]
    }

    /// From now on nothing that `from` says reaches `to`, or everything does, also what was held.
    pub(crate) fn cut(&self, from: usize, to: usize, cut: bool) {
        self.gates[from][to].set(cut);
    }

    /// Closes all connections that `from` has dialled to `to`.
    pub(crate) fn close(&self, from: usize, to: usize) {
        for connection in std::mem::take(&mut *self.open[from][to].lock().unwrap()) {
            for end in &*connection {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }

    /// Cuts these nodes off from the others, both ways, and may close what is open between them:
    /// then they know at once.
    pub(crate) fn cut_off(&self, nodes: &[usize], closes: bool) {
        for from in 0..self.gates.len() {
            for to in 0..self.gates.len() {
                if nodes.contains(&from) != nodes.contains(&to) {
                    self.cut(from, to, true);
                    if closes {
                        self.close(from, to);
                    }
                }
            }
        }
    }

    /// Everybody reaches everybody.
    pub(crate) fn heal(&self) {
        self.gates.iter().flatten().for_each(|gate| gate.set(false));
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        // Lets the threads come to their end.
        self.heal();
    }
}

fn square<T>(count: usize, cell: impl Fn(usize, usize) -> T) -> Vec<Vec<T>> {
    (0..count).map(|row| (0..count).map(|column| cell(row, column)).collect()).collect()
}

/// What one node dials instead of another one.
struct Line {
    target: u16,
    there: Arc<Gate>,
    back: Arc<Gate>,
    open: Arc<Open>,
}

/// Starts to pass connections on, and returns the port for them.
fn relay(line: Line) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let line = Arc::new(line);
    // It ends with the test's process.
    thread::spawn(move || {
        for caller in listener.incoming().map_while(Result::ok) {
            let line = Arc::clone(&line);
            thread::spawn(move || line.serve(caller));
        }
    });
    port
}

impl Line {
    fn serve(self: Arc<Self>, caller: TcpStream) {
        self.there.pass();
        let Ok(target) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) else { return };
        for end in [&caller, &target] {
            end.set_nodelay(true).unwrap();
        }
        let ends = Arc::new([caller, target]);
        self.open.lock().unwrap().push(Arc::clone(&ends));
        let (line, pair) = (Arc::clone(&self), Arc::clone(&ends));
        let back = thread::spawn(move || copy(&pair[1], &pair[0], &line.back));
        copy(&ends[0], &ends[1], &self.there);
        let _ = back.join();
        self.open.lock().unwrap().retain(|open| !Arc::ptr_eq(open, &ends));
    }
}

/// Copies until the end, and passes that on, too.
fn copy(mut from: &TcpStream, mut to: &TcpStream, gate: &Gate) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        gate.pass();
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    gate.pass();
    let _ = to.shutdown(Shutdown::Write);
    // Who cannot write to the one end any more reads no more from the other.
    let _ = from.shutdown(Shutdown::Read);
}
