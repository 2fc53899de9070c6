//! Messages of the view change.

use super::*;
use roundelay_core::{
    change::{Body, JoinRefusal, Message, Report},
    multicast::Cut,
    tokenring::{Known, Placed, Placement, Sent},
    view::{Ballot, LIVES_MAX, Record, Value},
};

pub(super) fn change() -> impl Strategy<Value = Message> {
    let body = prop_oneof![
        (any::<u64>(), vec(life(), 0..9), option::of(ballot()))
            .prop_map(|(hears, joiners, wedged)| Body::Beat { hears, joiners, wedged }),
        ballot().prop_map(|ballot| Body::Prepare { ballot }),
        (ballot(), option::of((ballot(), value())), report()).prop_map(
            |(ballot, accepted, report)| {
                let (accepted, report) = (accepted.map(Box::new), Box::new(report));
                Body::Promise { ballot, accepted, report }
            }
        ),
        ballot().prop_map(|promised| Body::Refuse { promised }),
        (ballot(), value().prop_map(Box::new))
            .prop_map(|(ballot, value)| Body::Accept { ballot, value }),
        ballot().prop_map(|ballot| Body::Accepted { ballot }),
        value().prop_map(|value| Body::Decided { value: Box::new(value) }),
        Just(Body::Ask),
        (name(), life(), option::of(name()), vec(any::<u64>(), 0..9)).prop_map(
            |(name, life, next, hears)| {
                let hears = hears.into_iter().map(NodeId::from_raw).collect();
                Body::Join { name, life, next, hears }
            }
        ),
        select(&[JoinRefusal::NameTaken, JoinRefusal::Full])
            .prop_map(|reason| Body::JoinRefused { reason }),
        Just(Body::Leave),
    ];
    (any::<u64>(), any::<u64>(), body).prop_map(|(cluster, view, body)| Message {
        cluster,
        view,
        body,
    })
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u32>(), position()).prop_map(|(round, by)| Ballot { round, by })
}

fn value() -> impl Strategy<Value = Value> {
    (view(), any::<bool>()).prop_flat_map(|(view, loss)| {
        let (order, lock) = (cut(view.len()), placement(view.len() as u16));
        (Just(view), order, lock, Just(loss)).prop_map(|(view, order, lock, loss)| Value {
            view,
            order,
            lock,
            loss,
        })
    })
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let promised = option::of(ballot());
    let accepted = option::of((ballot(), value()));
    let lives = vec(life(), 1..=LIVES_MAX);
    (any::<(u64, u64)>(), lives, value(), promised, accepted).prop_map(
        |((cluster, ceiling), lives, installed, promised, accepted)| Record {
            cluster,
            lives,
            installed,
            promised,
            accepted,
            ceiling,
        },
    )
}

fn cut(members: usize) -> impl Strategy<Value = Cut> {
    let old = vec(any::<(u64, u64)>(), 0..=MEMBERS_MAX);
    let new = prop_oneof![Just(Vec::new()), vec(any::<u64>(), members)];
    let numbers = any::<(u64, u64, bool)>();
    (old, new, numbers).prop_map(|(old, begins, (clock, position, lost))| {
        let (ends, stable) = old.into_iter().unzip();
        Cut { ends, stable, begins, clock, position, lost }
    })
}

fn placement(members: u16) -> impl Strategy<Value = Placement> {
    let token = (lock_name(), 0..members, any::<u64>(), any::<bool>())
        .prop_map(|(lock, at, hops, fresh)| Placed { lock, at, hops, fresh });
    (vec(token, 0..9), any::<bool>(), any::<bool>()).prop_map(
        |(mut tokens, lost, unknown_fresh)| {
            tokens.sort_by(|one, other| one.lock.cmp(&other.lock));
            tokens.dedup_by(|one, other| one.lock == other.lock);
            Placement { tokens, lost, unknown_fresh }
        },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let order = (vec(any::<u64>(), 0..=MEMBERS_MAX), any::<u64>())
        .prop_map(|(received, clock)| multicast::Report { received, clock });
    let numbers = any::<(bool, u64)>();
    (option::of(life()), numbers, option::of(order), option::of(lock_report())).prop_map(
        |(life, (leaves, ceiling), order, lock)| Report { life, leaves, order, lock, ceiling },
    )
}

fn lock_report() -> impl Strategy<Value = tokenring::Report> {
    let known = || {
        (lock_name(), any::<(u64, u64)>(), any::<bool>())
            .prop_map(|(lock, (sequence, hops), fresh)| Known { lock, sequence, hops, fresh })
    };
    let sent = (position(), any::<u64>(), known()).prop_map(|(to, number, token)| Sent {
        to,
        number,
        token,
    });
    let names = || vec(lock_name(), 0..9);
    (vec(known(), 0..9), vec(sent, 0..9), vec(received(), 0..9), names(), names()).prop_map(
        |(held, sent, received, home, guards)| tokenring::Report {
            held,
            sent,
            received,
            home,
            guards,
        },
    )
}

#[test]
fn impossible_fields_are_errors() {
    use v1::change::Body;
    let change = |body| {
        let change = v1::Change { cluster: 1, view: 1, body: Some(body) };
        decode_kind(v1::message::Kind::Change(change))
    };
    let ballot = |by| v1::Ballot { round: 1, by };
    let value = |change: fn(&mut v1::Value)| {
        let cut = v1::Cut { ends: vec![1], stable: vec![1], begins: vec![0; 3], ..<_>::default() };
        let placement = v1::Placement::default();
        let (view, order, lock) = (Some(sound()), Some(cut), Some(placement));
        let mut value = v1::Value { view, order, lock, loss: false };
        change(&mut value);
        Body::Decided(value)
    };
    assert!(change(value(|_| {})).unwrap().is_some());
    // A mode that this version does not know.
    assert_eq!(change(value(|value| value.view.as_mut().unwrap().mode = 9)), Ok(None));
    assert_eq!(change(Body::JoinRefused(9)), Ok(None));
    let report = |lock| {
        let report = v1::Report { lock: Some(lock), ..v1::Report::default() };
        let promise = v1::Promise { ballot: Some(ballot(1)), accepted: None, report: Some(report) };
        Body::Promise(promise)
    };
    let token = |lock: &str, at| v1::PlacedToken { lock: lock.into(), at, ..<_>::default() };
    let placed = |tokens: &[v1::PlacedToken]| {
        let lock = v1::Placement { tokens: tokens.to_vec(), ..<_>::default() };
        let Body::Decided(value) = value(|_| {}) else { unreachable!("it is one") };
        Body::Decided(v1::Value { lock: Some(lock), ..value })
    };
    let many = vec![v1::Received::default(); MEMBERS_MAX + 1];
    let join = v1::Join { name: "p9".into(), life: Bytes::from_static(&[0; 16]), ..<_>::default() };
    for (body, field) in [
        (Body::Prepare(ballot(64)), "position"),
        (Body::Beat(v1::Beat { joiners: vec![Bytes::new()], ..<_>::default() }), "life"),
        (
            Body::Beat(v1::Beat { joiners: vec![join.life.clone(); 65], ..<_>::default() }),
            "list of lives",
        ),
        (Body::Accept(v1::Proposal::default()), "ballot"),
        (Body::Accept(v1::Proposal { ballot: Some(ballot(1)), value: None }), "value"),
        (Body::Promise(v1::Promise { ballot: Some(ballot(1)), ..<_>::default() }), "report"),
        (value(|value| value.view = None), "view"),
        (value(|value| value.order = None), "cut"),
        (value(|value| value.lock = None), "placement"),
        (value(|value| value.order.as_mut().unwrap().stable.clear()), "cut"),
        (value(|value| value.order.as_mut().unwrap().begins.push(1)), "cut"),
        (value(|value| value.view.as_mut().unwrap().lease = 0), "lease"),
        (placed(&[token("l", 3)]), "position"),
        (placed(&[token("", 0)]), "lock name"),
        (placed(&[token("l", 0), token("l", 1)]), "placement"),
        (report(v1::LockReport { received: many, ..<_>::default() }), "vector"),
        (report(v1::LockReport { home: vec![String::new()], ..<_>::default() }), "lock name"),
        (report(v1::LockReport { sent: vec![<_>::default()], ..<_>::default() }), "token"),
        (Body::Join(v1::Join { name: "a b".into(), ..join.clone() }), "name"),
        (Body::Join(v1::Join { next: Some(String::new()), ..join.clone() }), "name"),
        (Body::Join(v1::Join { hears: vec![1; 65], ..join }), "list of members"),
    ] {
        assert_eq!(change(body), Err(WireError::Field(field)));
    }
}
