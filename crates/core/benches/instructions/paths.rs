//! The paths that are counted: what a node does, in a group that works.

use crate::network::{Application, Arrival, Network, Part, configs};
use bytes::Bytes;
use roundelay_core::{
    detector, gossip, multicast,
    node::{Command, Event, Message, Node, Timer},
    protocol::{Input, InputOf},
    tokenring::{self, LockName, Ticket, Wait},
};
use std::time::Duration;

/// How often the group works before the counting begins: by then all buffers have their size.
const WARM_UP: usize = 200;

/// How often it works while what a node does is taken down.
const ROUNDS: usize = 100;

/// How many messages each member sends in a round.
const BATCH: usize = 16;

/// The bytes of a message.
const PAYLOAD: Bytes = Bytes::from_static(&[7; 64]);

/// Something that a node does, again and again.
pub(crate) struct Path {
    /// What it is, for people, and in the file of the figures.
    pub(crate) name: &'static str,
    /// What the group does, of which it is a part.
    work: fn() -> Work,
    /// The inputs that belong to it.
    pub(crate) has: fn(&InputOf<Node>) -> bool,
    /// Whether the instructions are for each round of the work, not for each input.
    pub(crate) per_round: bool,
}

/// A node in the middle of its work, and the inputs that come next.
pub(crate) struct Work {
    pub(crate) node: Node,
    pub(crate) inputs: Vec<Arrival>,
    /// How many operations these inputs are.
    pub(crate) operations: usize,
}

impl Path {
    /// The node and its inputs, always the same.
    pub(crate) fn work(&self) -> Work {
        (self.work)()
    }
}

/// All of them.
pub(crate) const PATHS: &[Path] = &[
    Path { name: "lock: a hand-over, with all it takes", work: lock, has: any, per_round: true },
    Path { name: "lock: a pass comes in, granted", work: lock, has: is_pass, per_round: false },
    Path { name: "lock: released, a pass goes out", work: lock, has: is_unlock, per_round: false },
    Path {
        name: "lock: asked for, a request goes out",
        work: lock,
        has: is_lock,
        per_round: false,
    },
    Path { name: "lock: a request is recorded", work: lock, has: is_request, per_round: false },
    Path {
        name: "order of 3: a message, with all it takes",
        work: order::<3>,
        has: any,
        per_round: true,
    },
    Path {
        name: "order of 3: a message goes out",
        work: order::<3>,
        has: is_send,
        per_round: false,
    },
    Path {
        name: "order of 3: a message comes in",
        work: order::<3>,
        has: is_data,
        per_round: false,
    },
    Path {
        name: "order of 3: a clock comes in",
        work: order::<3>,
        has: is_clock,
        per_round: false,
    },
    Path {
        name: "order of 3: a clock goes out",
        work: order::<3>,
        has: is_flush,
        per_round: false,
    },
    Path {
        name: "order of 5: a message, with all it takes",
        work: order::<5>,
        has: any,
        per_round: true,
    },
    Path {
        name: "order of 5: a message goes out",
        work: order::<5>,
        has: is_send,
        per_round: false,
    },
    Path {
        name: "order of 5: a message comes in",
        work: order::<5>,
        has: is_data,
        per_round: false,
    },
    Path {
        name: "order of 5: a clock comes in",
        work: order::<5>,
        has: is_clock,
        per_round: false,
    },
    Path { name: "gossip: a rumor goes out", work: gossip::<0>, has: is_publish, per_round: false },
    Path {
        name: "gossip: a rumor comes in and goes on",
        work: gossip::<1>,
        has: is_rumor,
        per_round: false,
    },
    Path {
        name: "node: a heartbeat comes in",
        work: heartbeats,
        has: is_heartbeat,
        per_round: false,
    },
];

/// Takes down what the first node hears while the group works.
fn taken(network: &mut Network, operations: usize, mut round: impl FnMut(&mut Network)) -> Work {
    for _ in 0..WARM_UP {
        round(network);
    }
    let node = network.nodes[0].clone();
    network.heard.clear();
    for _ in 0..ROUNDS {
        round(network);
    }
    Work { node, inputs: core::mem::take(&mut network.heard), operations: operations * ROUNDS }
}

// ---- The lock: three members want it, all the time ----

fn lock() -> Work {
    let again: Application = |_, event| match event {
        Event::Lock(tokenring::Event::Granted { lock, ticket, .. }) => {
            vec![unlock(lock, *ticket), wait_for(lock, ticket + 1)]
        }
        _ => Vec::new(),
    };
    let mut network = Network::new(configs(3, Part::Lock), again);
    for node in 0..3 {
        network.ask(node, wait_for(&LockName::default_lock(), 1));
    }
    taken(&mut network, 1, |network| {
        // Until it is granted here again.
        let grants = |network: &Network| network.heard.iter().filter(|(_, i)| is_unlock(i)).count();
        let before = grants(network);
        while grants(network) == before {
            assert!(network.step(), "everybody wants it");
        }
    })
}

fn wait_for(lock: &LockName, ticket: Ticket) -> Command {
    let lock = lock.clone();
    Command::Lock(tokenring::Command::Lock { lock, ticket, wait: Wait::Queue })
}

fn unlock(lock: &LockName, ticket: Ticket) -> Command {
    Command::Lock(tokenring::Command::Unlock { lock: lock.clone(), ticket })
}

// ---- The order: all members send, and read what is delivered ----

fn order<const N: usize>() -> Work {
    let mut network = Network::new(configs(N, Part::Order), |_, _| Vec::new());
    taken(&mut network, BATCH * N, |network| {
        for ticket in 0..BATCH as Ticket {
            let send = || Command::Order(multicast::Command::Send { ticket, payload: PAYLOAD });
            (0..N).for_each(|node| network.ask(node, send()));
        }
        network.settle();
        let bytes = (PAYLOAD.len() + multicast::DELIVERY_OVERHEAD) * BATCH * N;
        let read = || Command::Order(multicast::Command::Read { bytes });
        (0..N).for_each(|node| network.ask(node, read()));
        network.settle();
    })
}

// ---- The gossip: rumors of one node, along a chain ----

fn gossip<const AT: usize>() -> Work {
    let mut network = Network::new(configs(3, Part::Gossip), |_, _| Vec::new());
    taken(&mut network, 1, |network| {
        let publish = gossip::Command::Publish { ticket: 1, payload: PAYLOAD };
        network.ask(AT, Command::Gossip(publish));
        network.settle();
    })
}

// ---- The node: nothing but heartbeats ----

fn heartbeats() -> Work {
    let mut network = Network::new(configs(3, Part::Order), |_, _| Vec::new());
    taken(&mut network, 2, |network| network.pass(Duration::from_secs(1)))
}

// ---- Which inputs ----

fn any(_: &InputOf<Node>) -> bool {
    true
}

fn is_lock(input: &InputOf<Node>) -> bool {
    matches!(input, Input::Command(Command::Lock(tokenring::Command::Lock { .. })))
}

fn is_unlock(input: &InputOf<Node>) -> bool {
    matches!(input, Input::Command(Command::Lock(tokenring::Command::Unlock { .. })))
}

fn is_pass(input: &InputOf<Node>) -> bool {
    let Input::Message { message: Message::Lock(message), .. } = input else { return false };
    matches!(message.body, tokenring::Body::Pass { .. })
}

fn is_request(input: &InputOf<Node>) -> bool {
    let Input::Message { message: Message::Lock(message), .. } = input else { return false };
    matches!(message.body, tokenring::Body::Request { .. })
}

fn is_send(input: &InputOf<Node>) -> bool {
    matches!(input, Input::Command(Command::Order(multicast::Command::Send { .. })))
}

fn is_data(input: &InputOf<Node>) -> bool {
    let Input::Message { message: Message::Order(message), .. } = input else { return false };
    matches!(message.body, multicast::Body::Data { .. })
}

fn is_clock(input: &InputOf<Node>) -> bool {
    let Input::Message { message: Message::Order(message), .. } = input else { return false };
    matches!(message.body, multicast::Body::Clock { .. })
}

fn is_flush(input: &InputOf<Node>) -> bool {
    matches!(input, Input::Timer(Timer::Order(multicast::Timer::Flush)))
}

fn is_publish(input: &InputOf<Node>) -> bool {
    matches!(input, Input::Command(Command::Gossip(gossip::Command::Publish { .. })))
}

fn is_rumor(input: &InputOf<Node>) -> bool {
    matches!(input, Input::Message { message: Message::Gossip(gossip::Message::Rumor(_)), .. })
}

fn is_heartbeat(input: &InputOf<Node>) -> bool {
    let Input::Message { message, .. } = input else { return false };
    *message == Message::Detector(detector::Message::Heartbeat)
}
