//! A relay between each two nodes and for each direction: what one says to the other can be held
//! back as a network does that loses every packet, one way or both, and let through again.

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
}

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
        let all = 0..ports.len();
        let gates: Vec<Vec<Arc<Gate>>> =
            all.clone().map(|_| all.clone().map(|_| Arc::default()).collect()).collect();
        let relay = |from: usize, to: usize| {
            let (there, back) = (Arc::clone(&gates[from][to]), Arc::clone(&gates[to][from]));
            if from == to { ports[to] } else { relay(ports[to], there, back) }
        };
        let ports = all.clone().map(|from| all.clone().map(|to| relay(from, to)).collect());
        let ports = ports.collect();
        Self { ports, gates }
    }

    /// Where node `from` dials node `to`.
    pub(crate) fn port(&self, from: usize, to: usize) -> u16 {
        self.ports[from][to]
    }

    /// From now on nothing that `from` says reaches `to`, or everything does, also what was held.
    pub(crate) fn cut(&self, from: usize, to: usize, cut: bool) {
        self.gates[from][to].set(cut);
    }

    /// Cuts these nodes off from the others, both ways.
    pub(crate) fn cut_off(&self, nodes: &[usize]) {
        for from in 0..self.gates.len() {
            for to in 0..self.gates.len() {
                if nodes.contains(&from) != nodes.contains(&to) {
                    self.cut(from, to, true);
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

/// Starts to pass connections on to `target`, and returns the port for them.
fn relay(target: u16, there: Arc<Gate>, back: Arc<Gate>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the test's process.
    thread::spawn(move || {
        for caller in listener.incoming().map_while(Result::ok) {
            let (there, back) = (Arc::clone(&there), Arc::clone(&back));
            thread::spawn(move || serve(&caller, target, &there, back));
        }
    });
    port
}

fn serve(caller: &TcpStream, target: u16, there: &Gate, back: Arc<Gate>) {
    there.pass();
    let Ok(target) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
    for end in [caller, &target] {
        end.set_nodelay(true).unwrap();
    }
    let (from, to) = (target.try_clone().unwrap(), caller.try_clone().unwrap());
    let backward = thread::spawn(move || copy(&from, &to, &back));
    copy(caller, &target, there);
    let _ = backward.join();
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
