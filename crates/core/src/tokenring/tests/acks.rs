//! When acknowledgements leave, effect by effect.

use super::*;
use crate::{
    protocol::{Context, Effect, EffectOf, InputOf, Protocol as _, Rng, To},
    time::Time,
};
use rand_core::SeedableRng as _;

type Out = EffectOf<TokenRing>;

const REPEAT: Duration = Duration::from_millis(100);
const DELAY: Duration = Duration::from_millis(25);
const NOW: Time = Time::from_nanos(1_000);

/// The member at position 1 of three, driven by hand.
struct Hand {
    machine: TokenRing,
    rng: Rng,
}

impl Hand {
    fn new() -> Self {
        let config = Config { locks_max: 10_000, ..config(1) };
        let mut hand = Self { machine: TokenRing::new(config), rng: Rng::seed_from_u64(1) };
        for peer in [0, 2] {
            assert_eq!(hand.handle(Input::LinkUp(id(peer))), []);
        }
        hand.handle(Input::Command(founded(&view(3, Mode::Rest))));
        let echo = NOW.as_nanos();
        assert_eq!(hand.hear(0, Body::Stamp { stamp: 1, echo, answer: false }), []);
        hand
    }

    fn handle(&mut self, input: InputOf<TokenRing>) -> Vec<Out> {
        let mut effects = Vec::new();
        self.machine.handle(input, &mut Context::new(NOW, &mut self.rng, &mut effects));
        effects
    }

    fn hear(&mut self, from: usize, body: Body) -> Vec<Out> {
        self.handle(Input::Message { from: id(from), message: Message { view: 1, body } })
    }

    fn fire(&mut self, timer: Timer) -> Vec<Out> {
        self.handle(Input::Timer(timer))
    }

    fn unacknowledged(&self) -> usize {
        self.machine.status().unacknowledged
    }
}

fn name(text: &str) -> LockName {
    LockName::new(text).unwrap()
}

fn pass(number: u64, lock: &str, wanted: [u64; 3], served: [u64; 3]) -> Body {
    let (wanted, served) = (wanted.into(), served.into());
    let token = Token { sequence: 7, hops: 0, wanted, served, fresh: false };
    Body::Pass { number, lock: name(lock), token }
}

fn idle(number: u64, lock: &str) -> Body {
    pass(number, lock, [0; 3], [0; 3])
}

fn request(requester: u16, number: u64) -> Body {
    Body::Request { lock: name("a"), requester, number, hops: 1 }
}

fn send(to: usize, body: Body) -> Out {
    Effect::Send { to: To::One(id(to)), message: Message { view: 1, body } }
}

fn ack(to: usize, up_to: u64) -> Out {
    send(to, Body::PassAck(Received { up_to, also: vec![] }))
}

fn recorded(to: usize, number: u64) -> Out {
    send(to, Body::Recorded { lock: name("a"), number })
}

fn set(timer: Timer, after: Duration) -> Out {
    Effect::SetTimer { timer, after }
}

#[test]
fn one_acknowledgement_answers_for_many_passes() {
    let mut hand = Hand::new();
    assert_eq!(hand.hear(0, idle(1, "a")), [set(Timer::Acknowledge, DELAY)]);
    assert_eq!(hand.hear(0, idle(2, "b")), []);
    assert_eq!(hand.hear(2, idle(1, "c")), []);
    assert_eq!(hand.fire(Timer::Acknowledge), [ack(0, 2), ack(2, 1)]);
    // All is acknowledged: there is silence, and the next one waits again.
    assert_eq!(hand.fire(Timer::Acknowledge), []);
    assert_eq!(hand.hear(0, idle(3, "d")), [set(Timer::Acknowledge, DELAY)]);
}

#[test]
fn a_repetition_is_answered_at_once() {
    let mut hand = Hand::new();
    hand.hear(0, idle(1, "a"));
    hand.fire(Timer::Acknowledge);
    assert_eq!(hand.hear(0, idle(1, "a")), [set(Timer::Acknowledge, Duration::ZERO)]);
    assert_eq!(hand.fire(Timer::Acknowledge), [ack(0, 1)]);
}

#[test]
fn many_passes_are_acknowledged_at_the_batch_boundary() {
    let mut hand = Hand::new();
    for number in 1..=255 {
        let effects = hand.hear(0, idle(number, &format!("l{number}")));
        assert!(number == 1 || effects.is_empty(), "{number}: {effects:?}");
    }
    assert_eq!(hand.hear(0, idle(256, "a")), [set(Timer::Acknowledge, Duration::ZERO)]);
    assert_eq!(hand.fire(Timer::Acknowledge), [ack(0, 256)]);
}

#[test]
fn a_token_that_comes_back_acknowledges_its_pass_and_no_other() {
    let mut hand = Hand::new();
    // Both tokens are wanted by p2.
    let acknowledge = set(Timer::Acknowledge, DELAY);
    let repeat = set(Timer::Repeat, REPEAT);
    let gone = |number, lock| pass(number, lock, [0, 0, 1], [0; 3]);
    let effects = hand.hear(0, gone(1, "a"));
    assert_eq!(effects, [acknowledge, send(2, gone(1, "a")), repeat]);
    assert_eq!(hand.hear(0, gone(2, "b")), [send(2, gone(2, "b"))]);
    assert_eq!(hand.unacknowledged(), 2);
    hand.hear(2, pass(1, "b", [0, 0, 1], [0, 0, 1]));
    assert_eq!(hand.unacknowledged(), 1);
    // What is left is repeated, and then acknowledged.
    hand.hear(2, Body::PassAck(Received { up_to: 0, also: vec![2] }));
    assert_eq!(hand.unacknowledged(), 1);
    hand.hear(2, Body::PassAck(Received { up_to: 2, also: vec![] }));
    assert_eq!(hand.unacknowledged(), 0);
}

#[test]
fn who_waits_long_is_told_once_that_the_token_knows() {
    let mut hand = Hand::new();
    hand.hear(0, idle(1, "a"));
    hand.fire(Timer::Acknowledge);
    let lock = Command::Lock { lock: name("a"), ticket: 1, wait: Wait::Queue };
    hand.handle(Input::Command(lock));
    assert_eq!(hand.hear(2, request(2, 3)), [set(Timer::Acknowledge, DELAY)]);
    assert_eq!(hand.hear(2, request(2, 5)), []);
    assert_eq!(hand.hear(0, request(0, 1)), []);
    assert_eq!(hand.fire(Timer::Acknowledge), [recorded(0, 1), recorded(2, 5)]);
    assert_eq!(hand.fire(Timer::Acknowledge), []);
    // Who asks again lacks the answer.
    assert_eq!(hand.hear(2, request(2, 5)), [recorded(2, 5)]);
}

#[test]
fn who_gets_the_token_is_told_nothing_else() {
    let mut hand = Hand::new();
    hand.hear(0, idle(1, "a"));
    hand.fire(Timer::Acknowledge);
    let lock = Command::Lock { lock: name("a"), ticket: 1, wait: Wait::Queue };
    hand.handle(Input::Command(lock));
    hand.hear(2, request(2, 5));
    let unlock = Command::Unlock { lock: name("a"), ticket: 1 };
    let released = Effect::Emit(Event::Released { lock: name("a"), ticket: 1, fence: 8 });
    let token = Token { sequence: 8, wanted: vec![0, 0, 5], ..Token::new(3, 0, false) };
    let passed = send(2, Body::Pass { number: 1, lock: name("a"), token });
    let repeat = set(Timer::Repeat, REPEAT);
    assert_eq!(hand.handle(Input::Command(unlock)), [released, passed, repeat]);
    assert_eq!(hand.fire(Timer::Acknowledge), []);
    // Its old request, if it comes late, is sent after it and answered by nobody here.
    assert_eq!(
        hand.hear(2, request(2, 5)),
        [send(2, Body::Request { lock: name("a"), requester: 2, number: 5, hops: 2 })]
    );
}
