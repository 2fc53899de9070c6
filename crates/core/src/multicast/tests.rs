mod cut;
mod durable;
mod learning;
mod repair;
mod steps;
mod views;
mod walks;

use super::*;
use crate::{
    id::{Life, Name},
    planted::Bug,
    protocol::{Effect, EffectOf, Rng, To},
    tokenring::Mode,
    view::Member,
};
use alloc::{format, vec};
use rand_core::SeedableRng as _;

type Out = EffectOf<Multicast>;

const HEARTBEAT: Duration = Duration::from_millis(50);
const REPEAT: Duration = Duration::from_millis(100);

fn name(position: usize) -> Name {
    Name::new(&format!("p{}", position + 1)).unwrap()
}

fn id(position: usize) -> NodeId {
    name(position).id()
}

fn view(members: usize) -> View {
    let members: Vec<_> = (0..members).map(|position| (position, 1)).collect();
    later(1, &members)
}

/// A view of these names, each with its incarnation.
fn later(number: u64, members: &[(usize, u64)]) -> View {
    let member = |(position, incarnation): &(usize, u64)| Member {
        id: id(*position),
        name: name(*position),
        life: Life(u128::from(*incarnation) << 64 | (*position as u128 + 1)),
        incarnation: *incarnation,
    };
    View {
        number,
        members: members.iter().map(member).collect(),
        ring: (0..members.len() as u16).collect(),
        mode: Mode::Rest,
        lease: Duration::from_secs(10),
    }
}

fn config(position: usize) -> Config {
    Config {
        me: id(position),
        message_bytes_max: 1000,
        fragment_bytes: 100,
        unstable_bytes_max: 3000,
        unread_bytes_max: 10_000,
        history_messages_max: 10,
        history_bytes_max: 2000,
        heartbeat: HEARTBEAT,
        repeat: REPEAT,
        durable: false,
    }
}

/// One machine, driven by hand.
struct Hand {
    machine: Multicast,
    now: Time,
    rng: Rng,
    planted: Option<Bug>,
}

impl Hand {
    /// The member at `position` of a view of so many.
    fn new(position: usize, members: usize) -> Self {
        Self::with(config(position), members)
    }

    fn with(config: Config, members: usize) -> Self {
        let mut hand = Self::before_install(config);
        assert_eq!(hand.found(members), []);
        hand
    }

    fn before_install(config: Config) -> Self {
        let rng = Rng::seed_from_u64(1);
        Self { machine: Multicast::new(config), now: Time::ZERO, rng, planted: None }
    }

    /// View 1 of so many begins.
    fn found(&mut self, members: usize) -> Vec<Out> {
        self.command(Command::Install {
            view: view(members),
            cut: Box::new(Cut::founding(members)),
        })
    }

    fn handle(&mut self, input: InputOf<Multicast>) -> Vec<Out> {
        let mut effects = Vec::new();
        let mut cx = Context::new(self.now, &mut self.rng, &mut effects).planting(self.planted);
        self.machine.handle(input, &mut cx);
        effects
    }

    fn command(&mut self, command: Command) -> Vec<Out> {
        self.handle(Input::Command(command))
    }

    fn send(&mut self, ticket: Ticket, payload: &'static str) -> Vec<Out> {
        self.command(Command::Send { ticket, payload: Bytes::from_static(payload.as_bytes()) })
    }

    fn hear(&mut self, from: usize, body: Body) -> Vec<Out> {
        self.handle(Input::Message { from: id(from), message: said(body) })
    }

    fn fire(&mut self, timer: Timer) -> Vec<Out> {
        self.handle(Input::Timer(timer))
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    fn status(&self) -> Status {
        self.machine.status()
    }
}

fn said(body: Body) -> Message {
    Message { view: 1, body }
}

fn data(sequence: u64, time: u64, payload: &'static str) -> Body {
    piece(sequence, time, 0, 1, payload)
}

fn piece(sequence: u64, time: u64, index: u32, count: u32, payload: &'static str) -> Body {
    Body::Data { sequence, time, index, count, payload: Bytes::from_static(payload.as_bytes()) }
}

fn clock(time: u64, after: u64, received: &[u64]) -> Body {
    Body::Clock { time, after, received: received.to_vec() }
}

fn all(peers: &[usize], body: Body) -> Out {
    Effect::Send { to: To::Many(peers.iter().map(|p| id(*p)).collect()), message: said(body) }
}

fn one(peer: usize, body: Body) -> Out {
    Effect::Send { to: To::One(id(peer)), message: said(body) }
}

fn flush() -> Out {
    Effect::SetTimer { timer: Timer::Flush, after: Duration::ZERO }
}

fn heartbeat() -> Out {
    Effect::SetTimer { timer: Timer::Heartbeat, after: HEARTBEAT }
}

fn want() -> Out {
    Effect::SetTimer { timer: Timer::Want, after: REPEAT }
}

fn delivered(position: u64, time: u64, sender: usize, sequence: u64, payload: &'static str) -> Out {
    Effect::Emit(Event::Delivered(Delivery {
        position,
        time,
        sender: id(sender),
        incarnation: 1,
        sequence,
        payload: Bytes::from_static(payload.as_bytes()),
    }))
}

fn sent(ticket: Ticket, position: u64) -> Out {
    Effect::Emit(Event::Sent { ticket, position })
}

fn refused(ticket: Ticket, reason: Refusal) -> Out {
    Effect::Emit(Event::Refused { ticket, reason })
}

fn fetch(sender: u16, from: u64, to: u64) -> Body {
    Body::Fetch { sender, from, to }
}

fn fetched(sender: u16, sequence: u64, time: u64, payload: &'static str) -> Body {
    let payload = Bytes::from_static(payload.as_bytes());
    Body::Fetched { sender, sequence, time, index: 0, count: 1, payload }
}

fn drained() -> Out {
    Effect::Emit(Event::Drained)
}

fn gathered() -> [Out; 2] {
    [Effect::CancelTimer(Timer::Fetch), Effect::Emit(Event::Gathered)]
}

fn timer(timer: Timer) -> Out {
    Effect::SetTimer { timer, after: REPEAT }
}

/// Says this in a view.
fn said_in(view: u64, body: Body) -> Message {
    Message { view, body }
}

fn one_in(view: u64, peer: usize, body: Body) -> Out {
    Effect::Send { to: To::One(id(peer)), message: said_in(view, body) }
}

fn all_in(view: u64, peers: &[usize], body: Body) -> Out {
    let to = To::Many(peers.iter().map(|p| id(*p)).collect());
    Effect::Send { to, message: said_in(view, body) }
}

impl Hand {
    fn hear_in(&mut self, view: u64, from: usize, body: Body) -> Vec<Out> {
        self.handle(Input::Message { from: id(from), message: said_in(view, body) })
    }
}
