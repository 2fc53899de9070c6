//! One node, and what it does step by step.

use super::{
    super::{
        Command, Config, Content, Event, Gossip, Have, Message, Neighbors, Origin, Range, Refusal,
        Rumor, Strategy, Timer,
    },
    network::{config, name},
};
use crate::{
    id::{Life, NodeId},
    protocol::{Context, Effect, EffectOf, Input, InputOf, Protocol, Rng, To},
    tally::Tally,
    time::Time,
};
use alloc::{string::ToString, vec, vec::Vec};
use bytes::Bytes;
use core::time::Duration;
use rand_core::SeedableRng;

struct One {
    gossip: Gossip,
    rng: Rng,
    now: Duration,
}

fn peer(n: usize) -> NodeId {
    name(n).id()
}

fn origin(n: usize) -> Origin {
    Origin { node: peer(n), life: Life(1) }
}

fn record(n: usize, hops: u32) -> Rumor {
    Rumor { origin: origin(n), sequence: 0, hops, content: Content::Record { name: name(n) } }
}

fn rumor(n: usize, sequence: u64, hops: u32) -> Rumor {
    let content = Content::User(Bytes::from_static(b"hello"));
    Rumor { origin: origin(n), sequence, hops, content }
}

fn heard(n: usize, sequence: u64, hops: u32) -> EffectOf<Gossip> {
    let payload = Bytes::from_static(b"hello");
    Effect::Emit(Event::Heard { origin: origin(n), name: name(n), sequence, hops, payload })
}

fn send(to: usize, message: Message) -> EffectOf<Gossip> {
    Effect::Send { to: To::One(peer(to)), message }
}

fn send_many(to: [usize; 2], message: Message) -> EffectOf<Gossip> {
    let mut to: Vec<NodeId> = to.iter().map(|n| peer(*n)).collect();
    to.sort();
    Effect::Send { to: To::Many(to.into()), message }
}

fn set(timer: Timer, millis: u64) -> EffectOf<Gossip> {
    Effect::SetTimer { timer, after: Duration::from_millis(millis) }
}

fn have(n: usize, up_to: u64) -> Have {
    Have { origin: origin(n), up_to, beyond: vec![] }
}

fn digest(have: Vec<Have>, answer: bool) -> Message {
    Message::Digest { have, answer }
}

fn range(n: usize, first: u64, last: u64) -> Range {
    Range { origin: origin(n), first, last }
}

impl One {
    /// Node 0, started, with links to these neighbours, which know nothing.
    fn new(config: Config, neighbors: &[usize]) -> Self {
        let (gossip, rng) = (Gossip::new(config), Rng::seed_from_u64(1));
        let mut one = Self { gossip, rng, now: Duration::ZERO };
        let effects = one.input(Input::Start(None));
        assert!(matches!(effects[..], [Effect::SetTimer { timer: Timer::AntiEntropy, .. }]));
        for n in neighbors {
            one.input(Input::LinkUp(peer(*n)));
            one.message(*n, Message::Neighbor { hash: 0, answer: false });
            assert_eq!(one.message(*n, digest(vec![have(0, 1)], false)), []);
        }
        one
    }

    fn tree(neighbors: &[usize]) -> Self {
        Self::new(config(Strategy::Tree), neighbors)
    }

    fn input(&mut self, input: InputOf<Gossip>) -> Vec<EffectOf<Gossip>> {
        let mut effects = Vec::new();
        let now = Time::ZERO + self.now;
        self.gossip.handle(input, &mut Context::new(now, &mut self.rng, &mut effects));
        effects
    }

    fn message(&mut self, from: usize, message: Message) -> Vec<EffectOf<Gossip>> {
        self.input(Input::Message { from: peer(from), message })
    }

    fn publish(&mut self, payload: Bytes) -> Vec<EffectOf<Gossip>> {
        self.input(Input::Command(Command::Publish { ticket: 7, payload }))
    }

    fn timer(&mut self, timer: Timer, after_millis: u64) -> Vec<EffectOf<Gossip>> {
        self.now += Duration::from_millis(after_millis);
        self.input(Input::Timer(timer))
    }

    fn hash(&mut self) -> u64 {
        self.gossip.store.hash()
    }
}

#[test]
fn neighbors_call_each_other() {
    let listed = Neighbors::Listed([peer(1)].into());
    let mut one = One::new(Config { neighbors: listed, ..config(Strategy::Tree) }, &[]);
    let hash = one.hash();
    let call = |answer| Message::Neighbor { hash, answer };
    let up = |n| Effect::Emit(Event::NeighborUp(peer(n)));
    assert_eq!(one.input(Input::LinkUp(peer(1))), [up(1), send(1, call(true))]);
    assert_eq!(one.input(Input::LinkUp(peer(2))), []);
    // Not listed, but it lists us; with equal hashes there is nothing else to say.
    assert_eq!(one.message(2, call(true)), [up(2), send(2, call(false))]);
    assert_eq!(one.message(1, call(false)), []);
    // Else the first thing to say is everything.
    let all = digest(vec![have(0, 1)], true);
    let other = Message::Neighbor { hash: hash ^ 1, answer: true };
    assert_eq!(one.message(1, other), [send(1, call(false)), send(1, all)]);
    // Who calls before there is a link is called back when there is one.
    assert_eq!(one.message(3, call(true)), []);
    assert_eq!(one.input(Input::LinkUp(peer(3))), [up(3), send(3, call(true))]);
    assert_eq!(one.gossip.status().neighbors.len(), 3);
    one.input(Input::LinkDown(peer(3)));
    assert_eq!(one.gossip.status().neighbors.len(), 2);
    assert_eq!(one.input(Input::LinkUp(peer(3))), [up(3), send(3, call(true))]);
}

#[test]
fn every_neighbour_has_its_turn_to_be_compared_with() {
    let mut one = One::tree(&[1, 2, 3]);
    let hash = one.hash();
    let mut order: Vec<NodeId> = [1, 2, 3].map(peer).into();
    order.sort_unstable();
    for peer in order.iter().chain(&order) {
        let message = Message::Hash(hash);
        let compares = Effect::Send { to: To::One(*peer), message };
        assert!(one.timer(Timer::AntiEntropy, 10_000).contains(&compares));
    }
}

#[test]
fn a_rumor_is_pushed_on_and_a_second_copy_prunes() {
    let mut one = One::tree(&[1, 2, 3]);
    assert_eq!(
        one.message(1, Message::Rumor(record(9, 1))),
        [send_many([2, 3], Message::Rumor(record(9, 2))), set(Timer::Flush, 20)]
    );
    one.timer(Timer::Flush, 20);
    let passed_on = Message::Rumor(rumor(9, 1, 3));
    assert_eq!(
        one.message(1, Message::Rumor(rumor(9, 1, 2))),
        [heard(9, 1, 2), send_many([2, 3], passed_on), set(Timer::Flush, 20)]
    );
    // The network has made a copy: that says nothing about the tree.
    assert_eq!(one.message(1, Message::Rumor(rumor(9, 1, 2))), []);
    assert_eq!(one.message(2, Message::Rumor(rumor(9, 1, 5))), [send(2, Message::Prune)]);
    one.message(2, digest(vec![have(9, 2)], false));
    // Node 3 has pruned us: both links get digests now. But 2 is known to have it already.
    assert_eq!(one.message(3, Message::Prune), []);
    let news = digest(vec![have(9, 2)], false);
    assert_eq!(one.timer(Timer::Flush, 20), [send(3, news)]);
    let passed_on = Message::Rumor(rumor(9, 2, 3));
    assert_eq!(one.message(3, Message::Graft), []);
    assert_eq!(
        one.message(1, Message::Rumor(rumor(9, 2, 2))),
        [heard(9, 2, 2), send(3, passed_on), set(Timer::Flush, 20)]
    );
    assert_eq!(one.gossip.status().duplicates, 2);
}

#[test]
fn the_slower_link_stays_if_the_faster_one_has_left_the_tree() {
    let mut one = One::tree(&[1, 2]);
    one.message(1, Message::Rumor(record(9, 1)));
    one.message(1, Message::Rumor(rumor(9, 1, 1)));
    one.message(1, Message::Prune);
    assert_eq!(one.message(2, Message::Rumor(rumor(9, 1, 3))), []);
    assert!(one.gossip.status().neighbors.contains(&(peer(2), true)));
}

#[test]
fn rumors_are_held_until_their_record_comes() {
    let mut one = One::tree(&[1]);
    one.message(1, Message::Rumor(rumor(9, 2, 1)));
    let effects = one.message(1, Message::Rumor(rumor(9, 1, 1)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Emit(_))));
    let effects = one.message(1, Message::Rumor(record(9, 1)));
    assert_eq!(effects[..2], [heard(9, 1, 1), heard(9, 2, 1)]);
    assert_eq!(one.gossip.retained().count(), 2);
}

#[test]
fn a_record_goes_ahead_of_the_first_rumor_that_needs_it() {
    for strategy in [Strategy::Tree, Strategy::Rumor { k: 1 }] {
        let mut one = One::new(config(strategy), &[]);
        one.input(Input::LinkUp(peer(1)));
        // Nothing is known of the neighbour, so it may need our record: once per link.
        let mut sent = Vec::new();
        for _ in 0..2 {
            sent.append(&mut one.publish(Bytes::from_static(b"hello")));
            if let Strategy::Rumor { .. } = strategy {
                sent.append(&mut one.timer(Timer::Round, 20));
            }
        }
        sent.retain(|effect| matches!(effect, Effect::Send { .. }));
        let own = |sequence| send(1, Message::Rumor(rumor(0, sequence, 1)));
        let record = |n, hops| Message::Rumor(record(n, hops));
        assert_eq!(sent[..2], [send(1, record(0, 1)), own(1)]);
        assert!(sent[2..].contains(&own(2)) && !sent[2..].contains(&send(1, record(0, 1))));
        // A new life of it knows nothing, until it says what it knows, or gets what it asks for.
        one.message(1, Message::Neighbor { hash: 0, answer: true });
        let want = Message::Want(vec![range(0, 0, 0)]);
        assert_eq!(one.message(1, want), [send(1, record(0, 1))]);
        let again = match strategy {
            Strategy::Tree => one.publish(Bytes::from_static(b"hello")),
            Strategy::Rumor { .. } => one.timer(Timer::Round, 20),
        };
        assert!(!again.contains(&send(1, record(0, 1))), "{again:?}");
        // A record that comes twice says nothing.
        one.message(1, record(9, 1));
        assert_eq!(one.message(1, record(9, 1)), []);
    }
}

#[test]
fn what_nobody_can_name_is_heard_under_a_placeholder() {
    let mut one = One::tree(&[1]);
    one.message(1, Message::Rumor(rumor(9, 1, 1)));
    one.now += Duration::from_secs(1);
    one.message(1, Message::Rumor(rumor(9, 3, 1)));
    let emitted = |effects: Vec<EffectOf<Gossip>>| {
        let emit = |effect: EffectOf<Gossip>| match effect {
            Effect::Emit(Event::Heard { name, sequence, .. }) => Some((name.to_string(), sequence)),
            _ => None,
        };
        effects.into_iter().filter_map(emit).collect::<Vec<_>>()
    };
    assert_eq!(emitted(one.timer(Timer::AntiEntropy, 8_999)), []);
    let placeholder = peer(9).to_string();
    let both = [(placeholder.clone(), 1), (placeholder.clone(), 3)];
    assert_eq!(emitted(one.timer(Timer::AntiEntropy, 1)), both);
    assert_eq!(emitted(one.timer(Timer::AntiEntropy, 100_000)), []);
    // What comes later is not held again, and a record that comes after all names the rest.
    let more = one.message(1, Message::Rumor(rumor(9, 2, 1)));
    assert_eq!(emitted(more), [(placeholder, 2)]);
    assert_eq!(emitted(one.message(1, Message::Rumor(record(9, 1)))), []);
    let more = one.message(1, Message::Rumor(rumor(9, 4, 1)));
    assert_eq!(emitted(more), [(name(9).to_string(), 4)]);
    // Everything is dropped in its time.
    one.timer(Timer::AntiEntropy, 10_000_000);
    assert_eq!(one.gossip.status().retained_bytes, 0);
}

#[test]
fn held_rumors_make_room_when_they_are_given_up() {
    let mut one = One::new(Config { retention_bytes: 1000, ..config(Strategy::Tree) }, &[1]);
    // A quarter is for held ones: three of 69 bytes fit.
    for sequence in 1..=4 {
        one.message(1, Message::Rumor(rumor(9, sequence, 1)));
    }
    assert_eq!(one.gossip.status().retained, 3);
    one.timer(Timer::AntiEntropy, 10_000);
    assert_eq!(
        one.message(1, digest(vec![Have { beyond: vec![(1, 4)], ..have(9, 0) }], false)),
        [set(Timer::Want, 50)]
    );
    let want = Message::Want(vec![range(9, 4, 4)]);
    assert!(one.timer(Timer::Want, 50).contains(&send(1, want)));
    one.message(1, Message::Rumor(rumor(9, 4, 1)));
    assert_eq!((one.gossip.status().retained, one.gossip.status().missing), (4, 0));
}

#[test]
fn what_is_announced_and_does_not_come_is_asked_for() {
    let mut one = One::tree(&[1, 2, 3]);
    one.message(1, Message::Rumor(record(9, 1)));
    one.message(2, Message::Prune);
    one.timer(Timer::Flush, 20);
    let announced = digest(vec![have(9, 3)], false);
    assert_eq!(one.message(2, announced.clone()), [set(Timer::Want, 50)]);
    assert_eq!(one.message(3, announced), []);
    assert_eq!(one.gossip.status().missing, 2);
    // Rumor 1 comes by itself, 2 does not.
    one.message(1, Message::Rumor(rumor(9, 1, 2)));
    one.timer(Timer::Flush, 20);
    let effects = one.timer(Timer::Want, 30);
    let want = Message::Want(vec![range(9, 2, 2)]);
    let asked = if effects[0] == send(2, Message::Graft) { 2 } else { 3 };
    assert_eq!(effects[..2], [send(asked, Message::Graft), send(asked, want.clone())]);
    assert!(matches!(effects[2..], [Effect::SetTimer { timer: Timer::Want, .. }]));
    // No answer: the other one is asked.
    let effects = one.timer(Timer::Want, 200);
    assert_eq!(effects[..2], [send(5 - asked, Message::Graft), send(5 - asked, want)]);
    // What was repaired is announced, not pushed.
    assert_eq!(
        one.message(5 - asked, Message::Rumor(rumor(9, 2, 4))),
        [heard(9, 2, 4), set(Timer::Flush, 0)]
    );
    // The answer of the first one was only slow: it does not prune.
    assert_eq!(one.message(asked, Message::Rumor(rumor(9, 2, 4))), []);
    let news = digest(vec![have(9, 3)], false);
    assert_eq!(one.timer(Timer::Flush, 1), [send(1, news)]);
    let status = one.gossip.status();
    assert_eq!((status.missing, status.repaired, status.duplicates), (0, 1, 1));
}

#[test]
fn the_answers_to_repeated_questions_are_not_measured() {
    let mut one = One::tree(&[1]);
    let want = |n| send(1, Message::Want(vec![range(n, 0, 0)]));
    one.message(1, digest(vec![have(8, 1)], false));
    assert!(one.timer(Timer::Want, 0).contains(&want(8)));
    one.now += Duration::from_millis(100);
    one.message(1, digest(vec![have(9, 1)], false));
    assert!(one.timer(Timer::Want, 0).contains(&want(9)));
    // The first one is taken as lost while the second one is still open.
    assert!(one.timer(Timer::Want, 100).contains(&want(8)));
    let patience = one.gossip.patience();
    one.now += Duration::from_secs(1);
    one.message(1, Message::Rumor(record(9, 1)));
    assert_eq!(one.gossip.status().repaired, 1);
    assert_eq!(one.gossip.patience(), patience);
}

#[test]
fn repeated_questions_wait_longer_but_not_for_ever() {
    let mut one = One::tree(&[1]);
    for n in 2..7 {
        // Slow answers: patience has reached its upper bound after these.
        one.message(1, digest(vec![have(n, 1)], false));
        one.timer(Timer::Want, 0);
        one.now += Duration::from_secs(n as u64 % 2);
        one.message(1, Message::Rumor(record(n, 1)));
    }
    one.message(1, digest(vec![have(9, 1)], false));
    one.timer(Timer::Want, 0);
    let mut waits = Vec::new();
    while one.gossip.status().missing > 0 {
        let after =
            one.gossip.lacking.next_due().expect("it is asked for").since(Time::ZERO + one.now);
        waits.push(after);
        one.now += after;
        one.input(Input::Timer(Timer::Want));
    }
    assert_eq!(waits.len(), 8, "{waits:?}");
    assert!(waits.is_sorted() && waits[7] == Duration::from_secs(2), "{waits:?}");
}

#[test]
fn impatience_does_not_change_the_tree() {
    let mut one = One::tree(&[1, 2]);
    one.message(1, Message::Rumor(record(9, 1)));
    one.message(2, Message::Prune);
    one.message(2, digest(vec![have(9, 2)], false));
    let effects = one.timer(Timer::Want, 50);
    assert_eq!(effects[0], send(2, Message::Graft));
    one.message(2, Message::Rumor(rumor(9, 1, 5)));
    // The tree was only slow: its link stays, and the other one leaves it again.
    let wait = one.gossip.wait();
    one.now += Duration::from_millis(50);
    assert_eq!(one.message(1, Message::Rumor(rumor(9, 1, 2))), [send(2, Message::Prune)]);
    assert!(one.gossip.wait() > wait);
}

#[test]
fn a_want_is_answered_in_bounded_batches() {
    let mut one = One::tree(&[1]);
    for _ in 0..300 {
        one.publish(Bytes::from_static(b"hello"));
    }
    let want = |first, last| Message::Want(vec![range(0, first, last)]);
    let answer = one.message(1, want(0, 1000));
    assert_eq!(answer.len(), 256);
    assert_eq!(answer[0], send(1, Message::Rumor(record(0, 1))));
    assert_eq!(answer[255], send(1, Message::Rumor(rumor(0, 255, 1))));
    assert_eq!(one.message(1, want(256, 1000)).len(), 45);
    // Nothing is known of others, or beyond the end.
    assert_eq!(one.message(1, want(500, 1000)), []);
    assert_eq!(one.message(1, Message::Want(vec![range(5, 0, u64::MAX), range(0, 9, 2)])), []);
    let mut one = One::tree(&[1]);
    for _ in 0..20 {
        one.publish(Bytes::from(vec![0; 60_000]));
    }
    assert_eq!(one.message(1, want(1, 20)).len(), 9);
}

#[test]
fn the_wanter_asks_for_the_rest_at_once() {
    let mut one = One::tree(&[1]);
    one.message(1, Message::Rumor(record(9, 1)));
    one.message(1, digest(vec![have(9, 1001)], false));
    let want = |first, last| send(1, Message::Want(vec![range(9, first, last)]));
    assert!(one.timer(Timer::Want, 50).contains(&want(1, 256)));
    for sequence in 1..=256 {
        let effects = one.message(1, Message::Rumor(rumor(9, sequence, 1)));
        assert_eq!(effects.contains(&set(Timer::Want, 0)), sequence == 256);
    }
    assert!(one.timer(Timer::Want, 0).contains(&want(257, 512)));
    assert_eq!(one.gossip.status().missing, 1000 - 256);
}

#[test]
fn what_everybody_forgot_is_known_without_being_heard() {
    let mut one = One::tree(&[1, 2]);
    one.message(1, Message::Rumor(record(9, 1)));
    for n in [1, 2] {
        one.message(n, digest(vec![have(9, 3)], false));
    }
    let mut asked = Vec::new();
    for after in [50, 0] {
        let effects = one.timer(Timer::Want, after);
        let want = Message::Want(vec![range(9, 1, 2)]);
        let n = if effects.contains(&send(1, want)) { 1 } else { 2 };
        asked.push(n);
        let effects = one.message(n, Message::Forgotten(vec![range(9, 1, 2)]));
        assert_eq!(effects, [set(Timer::Want, 0)]);
        assert_eq!(one.gossip.status().missing, 2);
    }
    assert_ne!(asked[0], asked[1]);
    assert_eq!(one.timer(Timer::Want, 0), []);
    assert_eq!(one.gossip.status().missing, 0);
    let want = Message::Want(vec![range(9, 0, 2)]);
    assert_eq!(
        one.message(1, want),
        [send(1, Message::Rumor(record(9, 2))), send(1, Message::Forgotten(vec![range(9, 1, 2)]))]
    );
}

#[test]
fn hot_rumors_go_round_until_they_are_old_news() {
    let mut one = One::new(config(Strategy::Rumor { k: 1 }), &[1, 2]);
    let push = Message::Rumor(rumor(0, 1, 1));
    let effects = one.publish(Bytes::from_static(b"hello"));
    let published = Effect::Emit(Event::Published { ticket: 7, sequence: 1 });
    assert_eq!(effects, [published, heard(0, 1, 0), set(Timer::Round, 20)]);
    let mut seen = Vec::new();
    for _ in 0..10 {
        let effects = one.timer(Timer::Round, 20);
        seen.push(effects[0].clone());
        assert_eq!(effects[1..], [set(Timer::Round, 20)]);
    }
    assert!(seen.contains(&send(1, push.clone())) && seen.contains(&send(2, push)));
    assert_eq!(one.message(2, Message::Known { origin: origin(0), sequence: 1 }), []);
    assert_eq!(one.timer(Timer::Round, 20), []);
    // And what comes a second time is answered.
    one.message(1, Message::Rumor(rumor(9, 1, 1)));
    let known = Message::Known { origin: origin(9), sequence: 1 };
    assert_eq!(one.message(2, Message::Rumor(rumor(9, 1, 1))), [send(2, known)]);
    // Also to who was asked for it once: it may be pushing it all the same.
    one.message(1, digest(vec![Have { beyond: vec![(2, 2)], ..have(9, 0) }], false));
    one.timer(Timer::Want, 50);
    one.message(1, Message::Rumor(rumor(9, 2, 1)));
    assert_eq!(one.gossip.status().repaired, 1);
    let known = Message::Known { origin: origin(9), sequence: 2 };
    assert_eq!(one.message(1, Message::Rumor(rumor(9, 2, 1))), [send(1, known)]);
}

#[test]
fn the_publisher_waits_until_somebody_has_its_rumors() {
    let mut one = One::new(Config { retention_bytes: 4000, ..config(Strategy::Tree) }, &[]);
    let payload = Bytes::from_static(&[0; 436]); // 500 with what a rumor costs besides
    let refused = |reason| [Effect::Emit(Event::Refused { ticket: 7, reason })];
    for _ in 0..4 {
        assert!(one.gossip.accepts_rumors());
        one.publish(payload.clone());
    }
    assert!(!one.gossip.accepts_rumors());
    assert_eq!(one.publish(payload.clone()), refused(Refusal::Full));
    let large = Bytes::from(vec![0; (1 << 16) + 1]);
    assert_eq!(one.publish(large), refused(Refusal::TooLarge));
    // Old age does not drop them: nobody else has them.
    one.timer(Timer::AntiEntropy, 10_000_000);
    assert_eq!(one.gossip.retained().count(), 4);
    one.input(Input::LinkUp(peer(1)));
    assert_eq!(one.message(1, digest(vec![have(0, 3)], false)), []);
    assert!(one.gossip.accepts_rumors());
    let hash = one.hash();
    one.message(1, Message::Hash(hash));
    one.timer(Timer::AntiEntropy, 0);
    assert_eq!(one.gossip.status().retained_bytes, 0);
}

#[test]
fn the_publisher_can_ask_who_has_its_rumors() {
    let mut one = One::new(config(Strategy::Tree), &[1]);
    one.publish(Bytes::from_static(b"x"));
    assert_eq!(one.gossip.status().unconfirmed, 1);
    let hash = one.hash();
    let asked = one.input(Input::Command(Command::Confirm));
    assert_eq!(asked, [send(1, Message::Neighbor { hash, answer: true })]);
    // Who has other rumors answers with a digest, who has the same with the hash alone.
    one.message(1, Message::Neighbor { hash: hash + 1, answer: false });
    assert_eq!(one.gossip.status().unconfirmed, 1);
    one.message(1, Message::Neighbor { hash, answer: false });
    assert_eq!(one.gossip.status().unconfirmed, 0);
}

#[test]
fn what_is_impossible_is_ignored_and_counted() {
    let mut one = One::tree(&[1]);
    let before = one.gossip.clone();
    let named =
        |origin, name| Rumor { origin, sequence: 0, hops: 1, content: Content::Record { name } };
    let bad = [
        Message::Rumor(rumor(9, 0, 1)),
        Message::Rumor(Rumor { sequence: 1, ..record(9, 1) }),
        Message::Rumor(named(origin(9), name(8))),
        Message::Rumor(rumor(0, 1, 1)),
        Message::Rumor(rumor(9, u64::MAX, 1)),
        digest(vec![have(0, 2)], false),
        digest(vec![have(9, 0)], false),
        digest(vec![Have { beyond: vec![(5, 9), (7, 12)], ..have(9, 1) }], false),
        Message::Forgotten(vec![range(9, 0, 4)]),
        Message::Forgotten(vec![range(9, 4, 3)]),
        Message::Forgotten(vec![range(9, 1, u64::MAX)]),
        Message::Known { origin: origin(9), sequence: 4 },
    ];
    let count = bad.len() as u64;
    for message in bad {
        assert_eq!(one.message(1, message.clone()), [], "{message:?}");
    }
    assert_eq!(one.gossip.status().ignored, count);
    one.gossip.ignored = Tally::default();
    assert_eq!(one.gossip, before);
}
