//! What only the composition can get wrong.

use super::*;
use crate::{
    protocol::{Effect, Rng},
    time::Time,
};
use core::time::Duration;
use rand_core::SeedableRng as _;

#[test]
fn a_suspect_that_says_goodbye_has_left_and_was_not_up() {
    let name = Name::new("a").expect("a name");
    let peer = Name::new("b").expect("a name").id();
    let second = Duration::from_secs(1);
    let detector = detector::Config { heartbeat: second, suspect_min: second };
    let life = Life(1);
    let mut node = Node::new(Config { name, life, detector, group: None, gossip: None });
    let mut rng = Rng::seed_from_u64(0);
    let mut states = |seconds, input| {
        let mut effects = Vec::new();
        let now = Time::ZERO + Duration::from_secs(seconds);
        node.handle(input, &mut Context::new(now, &mut rng, &mut effects));
        let state = |effect| match effect {
            Effect::Emit(Event::Peer { state, .. }) => Some(state),
            _ => None,
        };
        effects.into_iter().filter_map(state).collect::<Vec<_>>()
    };
    assert_eq!(states(0, Input::LinkUp(peer)), [detector::State::Up]);
    let tick = Input::Timer(Timer::Detector(detector::Timer::Tick));
    assert_eq!(states(9, tick), [detector::State::Suspect]);
    let message = Message::Detector(detector::Message::Goodbye);
    let goodbye = Input::Message { from: peer, message };
    assert_eq!(states(9, goodbye), [detector::State::Left]);
}

/// p1 of two, in an order, which leaves: p2 has not answered yet.
fn leaver(rng: &mut Rng) -> (Node, NodeId) {
    let names = ["p1", "p2"].map(|name| Name::new(name).expect("a name"));
    let [me, peer] = [names[0].id(), names[1].id()];
    let second = Duration::from_secs(1);
    let founding = founding::Config {
        name: names[0].clone(),
        life: Life(1),
        list: names.to_vec(),
        next: None,
        trigger: founding::Trigger::Command,
        mode: tokenring::Mode::Rest,
    };
    let order = multicast::Config {
        me,
        message_bytes_max: 100,
        fragment_bytes: 100,
        unstable_bytes_max: 1000,
        unread_bytes_max: 1000,
        history_messages_max: 10,
        history_bytes_max: 1000,
        heartbeat: second,
        repeat: second,
    };
    let detector = detector::Config { heartbeat: second, suspect_min: second };
    let group = Some(GroupConfig { founding, lock: None, order: Some(order) });
    let name = names[0].clone();
    let mut node = Node::new(Config { name, life: Life(1), detector, group, gossip: None });
    take(&mut node, rng, Input::LinkUp(peer));
    let effects = take(&mut node, rng, Input::Command(Command::Start));
    let walk = effects.into_iter().find_map(|effect| match effect {
        Effect::Send {
            message: Message::Founding(founding::Message::Walk { start, digest, path }),
            ..
        } => Some((start, digest, path)),
        _ => None,
    });
    let (start, digest, mut path) = walk.expect("it asks p2");
    path.push(founding::Step { position: 1, life: Life(2), next: 0 });
    for message in [
        founding::Message::Walk { start, digest, path },
        founding::Message::Active { run: start.run, answer: false },
    ] {
        take(&mut node, rng, Input::Message { from: peer, message: message.into() });
    }
    assert!(!has_left(&take(&mut node, rng, Input::Command(Command::Leave))));
    (node, peer)
}

fn take(node: &mut Node, rng: &mut Rng, input: InputOf<Node>) -> Vec<EffectOf<Node>> {
    let mut effects = Vec::new();
    node.handle(input, &mut Context::new(Time::ZERO, rng, &mut effects));
    effects
}

fn has_left(effects: &[EffectOf<Node>]) -> bool {
    effects.contains(&Effect::Emit(Event::LeaveDone))
}

/// Two leave at once: p2 has answered and is gone, and its end is noticed before its answer.
#[test]
fn the_last_words_of_a_life_are_heard_after_its_link() {
    let body = multicast::Body::LeftAck { member: 0 };
    let answer = Message::Order(multicast::Message { view: 1, body });
    for comes_back in [false, true] {
        let mut rng = Rng::seed_from_u64(0);
        let (mut node, peer) = leaver(&mut rng);
        take(&mut node, &mut rng, Input::LinkDown(peer));
        if comes_back {
            // Perhaps as another life, which has to say first that it is active.
            take(&mut node, &mut rng, Input::LinkUp(peer));
        }
        let input = Input::Message { from: peer, message: answer.clone() };
        assert_eq!(has_left(&take(&mut node, &mut rng, input)), !comes_back);
    }
}
