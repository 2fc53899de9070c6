//! Writing ahead (T9), step by step.

use super::*;
use crate::view::{Record, Saved, Value};

fn durable(position: usize) -> Hand {
    let config = Config { durable: true, ..config(position) };
    let mut hand = Hand::before_install(config);
    let began =
        Line::Began { view: Box::new(view(3)), cut: Box::new(Cut::founding(3)), position: 0 };
    assert_eq!(hand.found(3), [appends(1, began)]);
    hand
}

fn appends(number: u64, line: Line) -> Out {
    Effect::Append(LogEntry { number, line })
}

fn message(sender: u16, sequence: u64, time: u64, payload: &'static str) -> Line {
    Line::Message { sender, sequence, time, payload: Bytes::from_static(payload.as_bytes()) }
}

#[test]
fn what_is_received_is_acknowledged_when_it_is_durable() {
    let mut b = durable(1);
    let kept = appends(2, message(0, 1, 1, "x"));
    assert_eq!(b.hear(0, data(1, 1, "x")), [kept, heartbeat()]);
    assert_eq!(b.handle(Input::Appended(1)), []);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(1, 0, &[0, 0, 0]))], "only the time");
    assert_eq!(b.handle(Input::Appended(2)), [flush()]);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(1, 0, &[1, 0, 0]))]);
}

#[test]
fn the_own_receipt_counts_when_it_is_durable() {
    let mut b = durable(1);
    b.hear(0, data(1, 1, "x"));
    assert_eq!(b.hear(2, clock(1, 0, &[0, 0, 0])), [], "two of three, but here it may be lost");
    assert_eq!(b.handle(Input::Appended(2)), [flush(), delivered(1, 1, 0, 1, "x")]);
}

#[test]
fn what_is_sent_leaves_when_it_is_durable_and_no_clock_passes_it() {
    let mut a = durable(0);
    assert_eq!(a.send(7, "x"), [appends(2, message(0, 1, 1, "x")), heartbeat()]);
    assert_eq!(a.send(8, "y"), [appends(3, message(0, 2, 2, "y"))]);
    a.hear(1, data(1, 9, "z"));
    let told = clock(0, 0, &[0, 0, 0]);
    assert_eq!(a.fire(Timer::Flush), [all(&[1, 2], told)]);
    assert_eq!(a.handle(Input::Appended(2))[..1], [all(&[1, 2], data(1, 1, "x"))]);
    assert_eq!(a.handle(Input::Appended(4))[..1], [all(&[1, 2], data(2, 2, "y"))]);
    assert_eq!(a.fire(Timer::Flush), [all(&[1, 2], clock(9, 2, &[2, 1, 0]))]);
}

#[test]
fn a_cut_is_gathered_when_all_of_it_is_durable() {
    let mut b = durable(1);
    b.hear(0, data(1, 1, "x"));
    b.command(Command::Wedge);
    let cut = Cut { ends: vec![1, 0, 0], stable: vec![0; 3], ..Cut::founding(3) };
    let gather = Command::Gather { cut: Box::new(cut), holders: Vec::new(), insists: true };
    assert_eq!(b.command(gather), [timer(Timer::Fetch)]);
    assert_eq!(b.handle(Input::Appended(2)), gathered());
}

/// A later life of the second of three, with this log.
fn again(lines: Vec<Line>) -> (Hand, Vec<Out>) {
    let mut hand = Hand::before_install(Config { durable: true, ..config(1) });
    let log = (1..).zip(lines).map(|(number, line)| LogEntry { number, line }).collect();
    let installed = Value::first(view(3), 0);
    let record = Record::of(1, vec![Life(9)], installed);
    let mut seen = hand.handle(Input::Start(Some(Box::new(Saved { record, log }))));
    seen.extend(hand.command(Command::Restore { view: view(3), cut: Cut::founding(3) }));
    (hand, seen)
}

fn began() -> Line {
    Line::Began { view: Box::new(view(3)), cut: Box::new(Cut::founding(3)), position: 0 }
}

#[test]
fn a_restarted_member_reports_what_it_had_received_and_closes_with_the_others() {
    let lines = vec![began(), message(0, 1, 1, "x"), message(2, 1, 2, "z"), message(0, 2, 3, "y")];
    let (mut b, _) = again(lines);
    assert_eq!(b.machine.report(), Some(Report { received: vec![2, 0, 1], clock: 3 }));
    assert_eq!(b.send(1, "mute"), [refused(1, Refusal::NotStarted)]);
    let cut = Cut {
        ends: vec![2, 0, 1],
        stable: vec![0; 3],
        begins: vec![2, 0, 1],
        clock: 3,
        position: 3,
        lost: false,
    };
    let next = later(2, &[(0, 1), (1, 2), (2, 1)]);
    let closed = b.command(Command::Install { view: next, cut: Box::new(cut) });
    let order =
        [delivered(1, 1, 0, 1, "x"), delivered(2, 2, 2, 1, "z"), delivered(3, 3, 0, 2, "y")];
    let seen: Vec<Out> = closed.into_iter().filter(|out| matches!(out, Effect::Emit(_))).collect();
    assert_eq!(seen, order);
}

#[test]
fn who_may_have_forgotten_reports_nothing() {
    assert_eq!(again(vec![Line::Unlogged]).0.machine.report(), None);
    // A message is missing.
    let (b, _) = again(vec![began(), message(0, 2, 3, "y")]);
    assert_eq!(b.machine.report(), None);
    // The power went before the log could say that the view began: nothing was acknowledged in it.
    let nothing = Report { received: vec![0; 3], clock: 0 };
    assert_eq!(again(Vec::new()).0.machine.report(), Some(nothing));
}
