//! Short histories for the tests of the invariants.

use super::{Invariant, Seen, Who};
use bytes::Bytes;
use roundelay_core::{
    founding, gossip,
    id::{Life, Name, NodeId},
    multicast, node,
    protocol::{Effect, EffectOf, Input, InputOf, To},
    tokenring::{self, LockName, Received, Token},
    view::{Member, Record, View},
};

/// One observation, owned.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Input(InputOf<node::Node>),
    Effect(EffectOf<node::Node>),
    Tokens(Vec<LockName>),
}

/// Node `n`, called `p1`, `p2` …
pub(crate) fn name(n: u64) -> Name {
    Name::new(&format!("p{n}")).unwrap()
}

/// Node `n`.
pub(crate) fn id(n: u64) -> NodeId {
    name(n).id()
}

/// The first life of node `n`.
pub(crate) fn who(n: u64) -> Who {
    Who { node: id(n), life: Life(1) }
}

/// Lock `name`.
pub(crate) fn lock(name: &str) -> LockName {
    LockName::new(name).unwrap()
}

/// The lock emits this.
pub(crate) fn lock_event(event: tokenring::Event) -> Line {
    Line::Effect(Effect::Emit(node::Event::Lock(event)))
}

/// The order emits this.
pub(crate) fn order_event(event: multicast::Event) -> Line {
    Line::Effect(Effect::Emit(node::Event::Order(event)))
}

/// The gossip emits this.
pub(crate) fn gossip_event(event: gossip::Event) -> Line {
    Line::Effect(Effect::Emit(node::Event::Gossip(event)))
}

/// Grants lock `name`.
pub(crate) fn granted(name: &str, ticket: u64, fence: u64) -> Line {
    lock_event(tokenring::Event::Granted { lock: lock(name), ticket, fence })
}

/// Releases lock `name`.
pub(crate) fn released(name: &str, ticket: u64, fence: u64) -> Line {
    lock_event(tokenring::Event::Released { lock: lock(name), ticket, fence })
}

fn pass(name: &str, number: u64) -> node::Message {
    let token = Token { sequence: 1, hops: 0, wanted: vec![0; 3], served: vec![0; 3] };
    let body = tokenring::Body::Pass { number, lock: lock(name), token };
    node::Message::Lock(tokenring::Message { view: 1, body })
}

/// Sends the pass with this number to node `to`.
pub(crate) fn sends_pass(to: u64, name: &str, number: u64) -> Line {
    Line::Effect(Effect::Send { to: To::One(id(to)), message: pass(name, number) })
}

/// Receives the pass with this number from node `from`.
pub(crate) fn receives_pass(from: u64, name: &str, number: u64) -> Line {
    Line::Input(Input::Message { from: id(from), message: pass(name, number) })
}

/// Sends the token of lock `name` to node `to`, with these vectors for nodes 1 to 3.
pub(crate) fn sends_token(
    to: u64,
    name: &str,
    number: u64,
    wanted: [u64; 3],
    served: [u64; 3],
) -> Line {
    let token = Token { sequence: 1, hops: 0, wanted: wanted.into(), served: served.into() };
    says(to, tokenring::Body::Pass { number, lock: lock(name), token })
}

/// Says this to node `to`, as a member of the ring.
pub(crate) fn says(to: u64, body: tokenring::Body) -> Line {
    let message = node::Message::Lock(tokenring::Message { view: 1, body });
    Line::Effect(Effect::Send { to: To::One(id(to)), message })
}

/// Says this to node `to`, as one that founds.
pub(crate) fn founding_to(to: u64, message: founding::Message) -> Line {
    let message = node::Message::Founding(message);
    Line::Effect(Effect::Send { to: To::One(id(to)), message })
}

fn view_of(n: u64, mode: tokenring::Mode) -> View {
    let member = |n| Member { id: id(n), name: name(n), life: Life(1), incarnation: 1 };
    let (members, ring) = ((1..=n).map(member).collect(), (0..n as u16).collect());
    View { number: 1, members, ring, mode }
}

fn installs(view: View) -> Line {
    let event = founding::Event::Installed { view, founder: 0 };
    Line::Effect(Effect::Emit(node::Event::Founding(event)))
}

/// Installs a view of nodes 1 to 3.
pub(crate) fn installed() -> Line {
    installed_among(3)
}

/// Installs a view of nodes 1 to `n`.
pub(crate) fn installed_among(n: u64) -> Line {
    installs(view_of(n, tokenring::Mode::Rest))
}

/// Becomes active in a view of nodes 1 to 3, that of run 1.
pub(crate) fn active() -> Line {
    Line::Effect(Effect::Save(Record { run: 1, view: view_of(3, tokenring::Mode::Rest) }))
}

/// Node `n` becomes active in a view of nodes 1 to 3 and installs it.
pub(crate) fn uses_view(n: u64, mode: tokenring::Mode) -> Vec<(u64, Line)> {
    vec![(n, active()), (n, installs(view_of(3, mode)))]
}

/// Node `n` is told of its link to `peer`, and hears over it that `peer` is active, too.
pub(crate) fn reached(n: u64, peer: u64) -> Vec<(u64, Line)> {
    let message = founding::Message::Active { run: 1, answer: false };
    let message = node::Message::Founding(message);
    let says = Line::Input(Input::Message { from: id(peer), message });
    vec![(n, Line::Input(Input::LinkUp(id(peer)))), (n, says)]
}

/// Says that the member at this position has left.
pub(crate) fn says_left(member: u16) -> Line {
    says(3, tokenring::Body::Left { member, received: vec![Received::default(); 3] })
}

/// Ends the step with these tokens.
pub(crate) fn tokens(names: &[&str]) -> Line {
    Line::Tokens(names.iter().map(|name| lock(name)).collect())
}

/// Is asked to multicast.
pub(crate) fn sends(ticket: u64, text: &'static str) -> Line {
    let payload = Bytes::from_static(text.as_bytes());
    let command = multicast::Command::Send { ticket, payload };
    Line::Input(Input::Command(node::Command::Order(command)))
}

fn order_message(body: multicast::Body) -> node::Message {
    node::Message::Order(multicast::Message { view: 1, body })
}

fn order_to_all(body: multicast::Body) -> Line {
    let to = To::Many([id(1), id(2), id(3)].into());
    Line::Effect(Effect::Send { to, message: order_message(body) })
}

fn data(sequence: u64, time: u64, piece: (u32, u32), text: &'static str) -> multicast::Body {
    let ((index, count), payload) = (piece, Bytes::from_static(text.as_bytes()));
    multicast::Body::Data { sequence, time, index, count, payload }
}

/// Multicasts a piece (this one of so many) of a message.
pub(crate) fn sends_data(sequence: u64, time: u64, piece: (u32, u32), text: &'static str) -> Line {
    order_to_all(data(sequence, time, piece, text))
}

/// Receives a piece (this one of so many) of a message of node `from`.
pub(crate) fn receives_data(
    from: u64,
    sequence: u64,
    time: u64,
    piece: (u32, u32),
    text: &'static str,
) -> Line {
    let message = order_message(data(sequence, time, piece, text));
    Line::Input(Input::Message { from: id(from), message })
}

/// Tells its clock and, per position, what it has received.
pub(crate) fn sends_clock(time: u64, after: u64, received: &[u64]) -> Line {
    order_to_all(multicast::Body::Clock { time, after, received: received.to_vec() })
}

/// Says that the member at this position has left the order, and what that one has received.
pub(crate) fn leaves_order(member: u16, received: &[u64]) -> Line {
    let last = received[usize::from(member)];
    order_to_all(multicast::Body::Left { member, last, received: received.to_vec() })
}

/// Delivers a message of node `sender`.
pub(crate) fn delivers(
    position: u64,
    time: u64,
    sender: u64,
    sequence: u64,
    text: &'static str,
) -> Line {
    let payload = Bytes::from_static(text.as_bytes());
    let sender = id(sender);
    let delivery = multicast::Delivery { position, time, sender, sequence, payload };
    order_event(multicast::Event::Delivered(delivery))
}

/// The stream of node `n`.
pub(crate) fn origin(n: u64) -> gossip::Origin {
    gossip::Origin { node: id(n), life: who(n).life }
}

/// A rumor of node `of`, or with number 0 its record.
pub(crate) fn rumor(of: u64, sequence: u64, hops: u32) -> gossip::Message {
    let content = match sequence {
        0 => gossip::Content::Record { name: name(of) },
        _ => gossip::Content::User(Bytes::from_static(b"x")),
    };
    gossip::Message::Rumor(gossip::Rumor { origin: origin(of), sequence, hops, content })
}

/// Sends this to node `to`.
pub(crate) fn sends_gossip(to: u64, message: gossip::Message) -> Line {
    Line::Effect(Effect::Send { to: To::One(id(to)), message: node::Message::Gossip(message) })
}

/// Receives this from node `from`.
pub(crate) fn receives_gossip(from: u64, message: gossip::Message) -> Line {
    Line::Input(Input::Message { from: id(from), message: node::Message::Gossip(message) })
}

/// Feeds a history, line by line: who, and what is seen. The result of the last line is returned;
/// those before must be fine.
pub(crate) fn last(invariant: &mut dyn Invariant, history: &[(u64, Line)]) -> Result<(), String> {
    let mut result = Ok(());
    for (at, (n, line)) in history.iter().enumerate() {
        assert_eq!(result, Ok(()), "before line {at}");
        let seen = match line {
            Line::Input(input) => Seen::Input(input),
            Line::Effect(effect) => Seen::Effect(effect),
            Line::Tokens(tokens) => Seen::Tokens(tokens),
        };
        result = invariant.check(who(*n), &seen);
    }
    result
}

/// Asserts that the whole history is fine.
#[track_caller]
pub(crate) fn holds(invariant: &mut dyn Invariant, history: &[(u64, Line)]) {
    assert_eq!(last(invariant, history), Ok(()));
}

/// Asserts that the last line, and only it, breaks the invariant, with `words` in the reason.
#[track_caller]
pub(crate) fn breaks(invariant: &mut dyn Invariant, history: &[(u64, Line)], words: &str) {
    let reason = last(invariant, history).expect_err("this history is bad");
    assert!(reason.contains(words), "{reason}");
}
