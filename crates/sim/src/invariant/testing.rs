//! Short histories for the tests of the invariants.

use super::{End, Invariant, Seen, Who};
use bytes::Bytes;
use core::time::Duration;
use roundelay_core::{
    change, detector, founding, gossip,
    id::{Life, Name, NodeId},
    multicast, node,
    protocol::{Effect, EffectOf, Input, InputOf, To},
    time::Time,
    tokenring::{self, LockName, Token},
    view::{Ballot, Member, Record, Value, View},
};

/// One observation, owned.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Input(InputOf<node::Node>),
    Effect(EffectOf<node::Node>),
    End { tokens: Vec<LockName>, time: Time, lease_until: Time, ended: bool },
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
    let (wanted, served) = (vec![0; 3], vec![0; 3]);
    let token = Token { sequence: 1, hops: 0, wanted, served, fresh: false };
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
    let (wanted, served) = (wanted.into(), served.into());
    let token = Token { sequence: 1, hops: 0, wanted, served, fresh: false };
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

/// View `number`: these members of the first view, and then these, who join with it.
pub(crate) fn view_of(number: u64, old: &[u64], new: &[u64]) -> View {
    let member = |n: &u64, incarnation| Member {
        id: id(*n),
        name: name(*n),
        life: who(*n).life,
        incarnation,
    };
    let old = old.iter().map(|n| member(n, 1));
    let members: Vec<Member> = old.chain(new.iter().map(|n| member(n, number))).collect();
    let ring = (0..members.len() as u16).collect();
    let (mode, lease) = (tokenring::Mode::Rest, Duration::from_secs(1));
    View { number, members: members.into(), ring, mode, lease }
}

fn founded(n: u64, mode: tokenring::Mode) -> View {
    let members: Vec<u64> = (1..=n).collect();
    View { mode, ..view_of(1, &members, &[]) }
}

/// Installs this view, which begins after this position.
pub(crate) fn views(view: View, joins: bool, position: u64) -> Line {
    Line::Effect(Effect::Emit(node::Event::View { view, joins, loss: false, position }))
}

/// Installs a view of nodes 1 to 3.
pub(crate) fn installed() -> Line {
    installed_among(3)
}

/// Installs a view of nodes 1 to `n`.
pub(crate) fn installed_among(n: u64) -> Line {
    views(founded(n, tokenring::Mode::Rest), false, 0)
}

/// Goes on into view 2: these members of view 1, and then these, who join; it begins after this
/// position.
pub(crate) fn installs_next(old: &[u64], new: &[u64], position: u64) -> Line {
    views(view_of(2, old, new), false, position)
}

/// The same, where the token circulates.
pub(crate) fn circulates_next(old: &[u64], new: &[u64], position: u64) -> Line {
    let view = View { mode: tokenring::Mode::Circulate, ..view_of(2, old, new) };
    views(view, false, position)
}

/// The same, by one of those who join.
pub(crate) fn joins_next(old: &[u64], new: &[u64], position: u64) -> Line {
    views(view_of(2, old, new), true, position)
}

/// Is left out, or has left.
pub(crate) fn out(left: bool) -> Line {
    Line::Effect(Effect::Emit(node::Event::Out { left }))
}

fn value_of(view: View) -> Value {
    let (order, lock) = (multicast::Cut::default(), tokenring::Placement::default());
    Value { view, order, lock, loss: false }
}

/// Saves this promise about the end of view 1 of nodes 1 to 3, that of run 1.
pub(crate) fn saves(promised: Option<Ballot>) -> Line {
    let installed = value_of(founded(3, tokenring::Mode::Rest));
    Line::Effect(Effect::Save(
        Record { promised, ..Record::of(1, [Life(1)].into(), installed) }.into(),
    ))
}

/// Appends to its log.
pub(crate) fn appends(number: u64) -> Line {
    let line = multicast::Line::Unlogged;
    Line::Effect(Effect::Append(multicast::LogEntry { number, line }))
}

/// A life begins with nothing,
pub(crate) fn starts() -> Line {
    Line::Input(Input::Start(None))
}

/// or with what was saved.
pub(crate) fn starts_again() -> Line {
    let installed = value_of(founded(3, tokenring::Mode::Rest));
    let record = Record::of(1, [Life(1)].into(), installed);
    Line::Input(Input::Start(Some(Box::new(record.into()))))
}

/// View 2 begins with a loss.
pub(crate) fn loses() -> Line {
    let view = view_of(2, &[], &[1, 2, 3]);
    Line::Effect(Effect::Emit(node::Event::View { view, joins: true, loss: true, position: 9 }))
}

pub(crate) fn changes(body: change::Body) -> Line {
    let message = node::Message::Change(change::Message { cluster: 1, view: 1, body });
    Line::Effect(Effect::Send { to: To::One(id(9)), message })
}

/// Promises to end view 1.
pub(crate) fn promises() -> Line {
    let (ballot, report) = (Ballot::default(), change::Report::default());
    changes(change::Body::Promise { ballot, accepted: None, report: report.into() })
}

/// Accepts something about the end of view 1.
pub(crate) fn accepts() -> Line {
    changes(change::Body::Accepted { ballot: Ballot::default() })
}

/// Proposes that these go on into view 2.
pub(crate) fn accept(ballot: Ballot, members: &[u64]) -> Line {
    changes(change::Body::Accept { ballot, value: value_of(view_of(2, members, &[])).into() })
}

/// Becomes active in a view of nodes 1 to 3, that of run 1.
pub(crate) fn active() -> Line {
    saves(None)
}

/// Node `n` becomes active in a view of nodes 1 to 3 and installs it.
pub(crate) fn uses_view(n: u64, mode: tokenring::Mode) -> Vec<(u64, Line)> {
    vec![(n, active()), (n, views(founded(3, mode), false, 0))]
}

/// Hears that node `peer` is in this state.
pub(crate) fn peer(peer: u64, state: detector::State) -> Line {
    Line::Effect(Effect::Emit(node::Event::Peer { peer: id(peer), state }))
}

/// Node `n` is told of its link to `peer`, and hears over it that `peer` is active, too.
pub(crate) fn reached(n: u64, peer: u64) -> Vec<(u64, Line)> {
    let message = founding::Message::Active { run: 1, answer: false };
    let message = node::Message::Founding(message);
    let says = Line::Input(Input::Message { from: id(peer), message });
    let up = self::peer(peer, detector::State::Up);
    vec![(n, Line::Input(Input::LinkUp(id(peer)))), (n, up), (n, says)]
}

/// Asks node `to` for a lock.
pub(crate) fn asks_for_lock(to: u64) -> Line {
    says(to, tokenring::Body::Request { lock: lock("a"), requester: 0, number: 1, hops: 0 })
}

/// Ends the step with these tokens.
pub(crate) fn tokens(names: &[&str]) -> Line {
    let tokens = names.iter().map(|name| lock(name)).collect();
    Line::End { tokens, time: Time::ZERO, lease_until: Time::ZERO, ended: false }
}

/// Ends the step at this time, with a lease until then.
pub(crate) fn end(time: u64, lease_until: u64) -> Line {
    let (time, lease_until) = (Time::from_nanos(time), Time::from_nanos(lease_until));
    Line::End { tokens: Vec::new(), time, lease_until, ended: false }
}

/// The same, and its life ends within it.
pub(crate) fn ends_at(time: u64, lease_until: u64) -> Line {
    let (time, lease_until) = (Time::from_nanos(time), Time::from_nanos(lease_until));
    Line::End { tokens: Vec::new(), time, lease_until, ended: true }
}

/// The same message of the order in this view.
pub(crate) fn in_view(view: u64, mut line: Line) -> Line {
    if let Line::Effect(Effect::Send { message: node::Message::Order(message), .. }) = &mut line {
        message.view = view;
    }
    line
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
    let incarnation = 1;
    let delivery = multicast::Delivery { position, time, sender, incarnation, sequence, payload };
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
        result = match line {
            Line::Input(input) => invariant.check(who(*n), &Seen::Input(input)),
            Line::Effect(effect) => invariant.check(who(*n), &Seen::Effect(effect)),
            Line::End { tokens, time, lease_until, ended } => {
                let (time, lease_until, ended) = (*time, *lease_until, *ended);
                invariant.check(
                    who(*n),
                    &Seen::End(&End { time, tokens, known: tokens, lease_until, ended }),
                )
            }
        };
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
