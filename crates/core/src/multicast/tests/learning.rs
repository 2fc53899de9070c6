//! Learning the order, and joining with it, step by step.

use super::*;
use core::ops::RangeInclusive;

/// The message at a position of the order: of p1, in its first incarnation.
fn kept(position: u64) -> Delivery {
    Delivery {
        position,
        time: position,
        sender: id(0),
        incarnation: 1,
        sequence: position,
        payload: Bytes::from_static(b"x"),
    }
}

/// The answer to who has asked from there on.
fn lesson(from: u64, positions: RangeInclusive<u64>, position: u64) -> Body {
    Body::Lesson { from, deliveries: positions.map(kept).collect(), position }
}

fn nothing(from: u64, position: u64) -> Body {
    Body::Lesson { from, deliveries: vec![], position }
}

fn ask(teacher: usize, from: u64) -> Out {
    one_in(0, teacher, Body::Learn { from })
}

fn learnt(position: u64) -> Out {
    delivered(position, position, 0, position, "x")
}

fn learned() -> Out {
    Effect::Emit(Event::Learned)
}

fn missed(from: u64, to: u64) -> Out {
    Effect::Emit(Event::Missed { from, to })
}

/// A life that was never a member and learns from these.
fn newcomer(teachers: &[usize]) -> Hand {
    let mut d = Hand::before_install(config(3));
    let teachers = teachers.iter().map(|p| id(*p)).collect();
    let begin = d.command(Command::Learn { teachers });
    assert_eq!(begin, [timer(Timer::Learn), ask(0, 1)]);
    d
}

#[test]
fn the_order_is_learned_part_by_part() {
    let mut d = newcomer(&[0, 1]);
    assert_eq!(d.status().waiting_for, Some((id(0), Time::ZERO)));
    let first = d.hear_in(0, 0, lesson(1, 1..=2, 2000));
    assert_eq!(first, [learnt(1), learnt(2), ask(0, 3)]);
    assert_eq!(d.hear_in(0, 0, lesson(1, 1..=2, 2000)), [], "again");
    // Within a window of the end.
    assert_eq!(d.hear_in(0, 0, lesson(3, 3..=3, 1027)), [learnt(3), learned(), ask(0, 4)]);
    assert_eq!(d.status().waiting_for, None);
    assert_eq!(d.hear_in(0, 0, lesson(4, 4..=4, 4)), [learnt(4)]);
    // It goes on, now with this and now with that teacher.
    assert_eq!(d.fire(Timer::Learn), [timer(Timer::Learn), ask(0, 5)]);
    assert_eq!(d.hear_in(0, 0, nothing(5, 4)), []);
    assert_eq!(d.fire(Timer::Learn), [timer(Timer::Learn), ask(1, 5)]);
    assert_eq!(d.hear_in(0, 1, lesson(5, 5..=5, 5)), [learnt(5)]);
    assert_eq!(d.hear_in(0, 2, lesson(6, 6..=6, 6)), [], "it was not asked");
    assert_eq!(d.status().position, 5);
}

#[test]
fn it_learns_no_more_than_the_application_reads() {
    let mut d = Hand::before_install(Config { unread_bytes_max: 40, ..config(3) });
    d.command(Command::Learn { teachers: vec![id(0)] });
    d.hear_in(0, 0, lesson(1, 1..=1, 9));
    assert_eq!(d.hear_in(0, 0, lesson(2, 2..=2, 9)), [learnt(2)]);
    assert_eq!(d.fire(Timer::Learn), [timer(Timer::Learn)]);
    assert_eq!(d.status().position, 2);
    assert_eq!(d.command(Command::Read { bytes: 66 }), [ask(0, 3)]);
}

#[test]
fn what_nobody_keeps_is_missed() {
    let mut d = newcomer(&[0, 1, 2]);
    assert_eq!(d.hear_in(0, 0, lesson(1, 8..=9, 9)), [ask(1, 1)]);
    assert_eq!(d.hear_in(0, 0, lesson(1, 8..=9, 9)), [], "a duplicate is no other's word");
    assert_eq!(d.hear_in(0, 1, lesson(1, 5..=6, 9)), [ask(2, 1)]);
    // The third keeps nothing at all. Who kept the most is found again.
    assert_eq!(d.hear_in(0, 2, nothing(1, 9)), [missed(1, 4), ask(0, 5)]);
    assert_eq!(d.hear_in(0, 0, lesson(5, 8..=9, 9)), [ask(1, 5)]);
    let rest = [learnt(5), learnt(6), learned(), ask(1, 7)];
    assert_eq!(d.hear_in(0, 1, lesson(5, 5..=6, 9)), rest);
    assert_eq!(d.machine.history(1).count(), 2);
}

#[test]
fn a_teacher_tells_what_it_keeps() {
    let mut a = Hand::with(config(0), 1); // It keeps ten.
    assert_eq!(a.hear_in(0, 3, Body::Learn { from: 1 }), [one_in(0, 3, nothing(1, 0))]);
    for ticket in 1..=12 {
        a.send(ticket, "x");
    }
    assert_eq!(a.hear_in(0, 3, Body::Learn { from: 1 }), [one_in(0, 3, lesson(1, 3..=12, 12))]);
    assert_eq!(a.hear_in(0, 3, Body::Learn { from: 12 }), [one_in(0, 3, lesson(12, 12..=12, 12))]);
    assert_eq!(a.hear_in(0, 3, Body::Learn { from: 13 }), [one_in(0, 3, nothing(13, 12))]);
    let mut never = Hand::before_install(config(1));
    assert_eq!(never.hear_in(0, 3, Body::Learn { from: 1 }), []);
}

#[test]
fn one_answer_is_bounded() {
    let many = Config { history_messages_max: 1000, unread_bytes_max: 1 << 20, ..config(0) };
    let mut a = Hand::with(many, 1);
    for ticket in 1..=300 {
        a.send(ticket, "x");
    }
    assert_eq!(a.hear_in(0, 3, Body::Learn { from: 1 }), [one_in(0, 3, lesson(1, 1..=256, 300))]);
}

/// View 2, in which p4 is new, begins after position 2.
fn joining() -> Command {
    let cut = Cut {
        ends: vec![2, 0, 0],
        stable: vec![2, 0, 0],
        begins: vec![2, 0, 0],
        clock: 2,
        position: 2,
        lost: false,
    };
    Command::Install { view: later(2, &[(0, 1), (1, 1), (3, 2)]), cut: Box::new(cut) }
}

#[test]
fn a_joiner_is_mute_until_it_has_what_comes_before() {
    let mut d = newcomer(&[0, 1]);
    assert_eq!(d.command(joining()), [timer(Timer::Learn), ask(0, 1)]);
    // It receives and keeps, and says nothing.
    assert_eq!(d.hear_in(2, 0, data(3, 3, "a3")), []);
    assert_eq!(d.hear_in(2, 1, clock(3, 0, &[3, 0, 0])), []);
    assert_eq!(d.send(1, "d1"), [], "it waits");
    assert_eq!(d.fire(Timer::Flush), []);
    assert_eq!(d.handle(Input::LinkUp(id(0))), []);
    // Nothing beyond the base is taken: that is of the view.
    let effects = d.hear_in(0, 0, lesson(1, 1..=3, 3));
    let taken = [
        learnt(1),
        learnt(2),
        flush(),
        Effect::CancelTimer(Timer::Learn),
        delivered(3, 3, 0, 3, "a3"),
        all_in(2, &[0, 1], data(1, 4, "d1")),
        heartbeat(),
    ];
    assert_eq!(effects, taken);
    assert_eq!(d.fire(Timer::Flush), [all_in(2, &[0, 1], clock(4, 1, &[3, 0, 1]))]);
    d.command(Command::Wedge);
    let report = Report { received: vec![3, 0, 1], clock: 4 };
    assert_eq!(d.machine.report(), Some(report));
}

#[test]
fn a_joiner_with_everything_takes_part_at_once() {
    let mut d = newcomer(&[0]);
    d.hear_in(0, 0, lesson(1, 1..=2, 2));
    assert_eq!(d.command(joining()), [Effect::CancelTimer(Timer::Learn)]);
    assert_eq!(d.hear_in(2, 0, data(3, 3, "a3")), [flush(), heartbeat()]);
}

#[test]
fn a_joiner_goes_on_after_what_nobody_keeps() {
    let mut d = Hand::before_install(config(3));
    d.command(joining());
    d.hear_in(0, 0, lesson(1, 3..=4, 4));
    let effects = d.hear_in(0, 1, nothing(1, 4));
    assert_eq!(effects, [missed(1, 2), flush(), Effect::CancelTimer(Timer::Learn)]);
    assert_eq!(d.status().position, 2);
}

#[test]
fn who_is_alone_has_nobody_to_learn_from() {
    let mut d = Hand::before_install(config(3));
    let cut = Cut { begins: vec![0], position: 7, ..Cut::default() };
    let install = d.command(Command::Install { view: later(2, &[(3, 2)]), cut: Box::new(cut) });
    assert_eq!(install, [missed(1, 7)]);
    assert_eq!(d.send(1, "x").len(), 2, "delivered, at position 8");
    assert_eq!(d.status().position, 8);
}

#[test]
fn who_is_wedged_while_mute_stays_mute_and_has_no_memory() {
    let mut d = Hand::before_install(config(3));
    d.command(joining());
    d.command(Command::Wedge);
    assert_eq!(d.machine.report(), None, "V4");
    let cut = Cut {
        ends: vec![3, 0, 0],
        stable: vec![2, 0, 0],
        begins: vec![3, 0, 0],
        clock: 3,
        position: 3,
        lost: false,
    };
    let holders = vec![Holder { node: id(0), received: vec![3, 0, 0] }];
    d.command(Command::Gather { cut: Box::new(cut.clone()), holders, insists: true });
    let body = fetched(0, 3, 3, "a3");
    assert_eq!(d.hear_in(2, 0, body), [], "here, but not deliverable yet");
    let rest = d.hear_in(0, 0, lesson(1, 1..=2, 3));
    let [cancelled, done] = gathered();
    assert_eq!(rest, [learnt(1), learnt(2), cancelled, done, Effect::CancelTimer(Timer::Learn)]);
    assert_eq!(d.machine.report(), None);
    let close = d.command(Command::Close { cut: Box::new(cut.clone()) });
    assert_eq!(close[0], delivered(3, 3, 0, 3, "a3"));
    let view = later(3, &[(0, 1), (1, 1), (3, 2)]);
    d.command(Command::Install { view, cut: Box::new(cut) });
    assert_eq!(d.hear_in(3, 0, data(4, 4, "a4")), [flush(), heartbeat()], "a member like others");
}

#[test]
fn what_was_learned_of_the_view_before_it_was_installed_is_not_delivered_again() {
    let mut d = newcomer(&[0]);
    d.hear_in(0, 0, lesson(1, 1..=3, 3));
    d.command(joining());
    d.hear_in(2, 0, data(3, 3, "x"));
    d.hear_in(2, 1, clock(9, 0, &[4, 0, 0]));
    let next = d.hear_in(2, 0, data(4, 4, "y"));
    assert_eq!(next, [delivered(4, 4, 0, 4, "y")]);
}

#[test]
fn broken_joiners_are_found_out() {
    let joined = |bug| {
        let mut d = Hand::before_install(config(3));
        d.planted = Some(bug);
        d.command(joining());
        d
    };
    let mut d = joined(Bug::SpeaksBehind);
    assert_eq!(d.hear_in(2, 0, data(3, 3, "a3")), [flush(), heartbeat()]);
    let mut d = joined(Bug::CountsForItself);
    d.hear_in(2, 0, data(3, 3, "a3"));
    let wrong = delivered(1, 3, 0, 3, "a3");
    assert_eq!(d.hear_in(2, 1, clock(3, 0, &[3, 0, 0])), [wrong]);
    let mut d = joined(Bug::LearnsBeyondBase);
    assert_eq!(d.hear_in(0, 0, lesson(1, 1..=3, 3))[2], learnt(3));
}

// ---- Who is left out, and what it had sent ----

/// p1 has sent three messages, of which one is delivered, and one more waits for its room.
fn left_out() -> Hand {
    let mut a = Hand::with(Config { unstable_bytes_max: 21, ..config(0) }, 3);
    a.send(1, "a1");
    a.hear(1, clock(1, 0, &[1, 0, 0]));
    a.hear(2, clock(1, 0, &[0, 0, 0]));
    a.send(2, "a2");
    a.send(3, "a3");
    a.send(4, "a4");
    assert_eq!(a.status().position, 1);
    a.command(Command::Out);
    assert_eq!((a.machine.report(), a.status().position), (None, 1));
    assert!(!a.machine.accepts_sends());
    assert_eq!(a.hear(1, data(1, 9, "b1")), []);
    a.command(Command::Learn { teachers: vec![id(1)] });
    a
}

fn own(position: u64, sequence: u64) -> Delivery {
    Delivery { sequence, ..kept(position) }
}

/// View 3, in which p1 is new again, begins after this position.
fn back(position: u64) -> Command {
    let cut = Cut { begins: vec![0, 0, 0], clock: 20, position, ..Cut::default() };
    Command::Install { view: later(3, &[(1, 1), (2, 1), (0, 3)]), cut: Box::new(cut) }
}

#[test]
fn what_a_former_life_has_sent_is_resolved_exactly() {
    let mut a = left_out();
    let deliveries = vec![own(2, 2)];
    let effects = a.hear_in(0, 1, Body::Lesson { from: 2, deliveries, position: 2 });
    assert_eq!(effects[1..], [sent(2, 2), learned()]);
    // The other two are not in the order: they are sent anew, in the new incarnation.
    let effects = a.command(back(2));
    let anew = [
        all_in(3, &[1, 2], data(1, 21, "a3")),
        Effect::CancelTimer(Timer::Learn),
        all_in(3, &[1, 2], data(2, 22, "a4")),
        heartbeat(),
    ];
    assert_eq!(effects, anew);
    let Out::Emit(Event::Delivered(delivery)) = &deliver_all(&mut a)[0] else { panic!() };
    assert_eq!((delivery.sequence, delivery.incarnation), (1, 3));
}

fn deliver_all(a: &mut Hand) -> Vec<Out> {
    a.hear_in(3, 1, clock(22, 0, &[0, 0, 2]));
    a.hear_in(3, 2, clock(22, 0, &[0, 0, 2]))
}

#[test]
fn what_a_former_life_has_sent_waits_for_the_end_of_its_view() {
    let mut a = left_out();
    a.command(back(3));
    let deliveries = vec![own(2, 2), own(3, 3)];
    let effects = a.hear_in(0, 1, Body::Lesson { from: 2, deliveries, position: 3 });
    assert_eq!([&effects[1], &effects[3]], [&sent(2, 2), &sent(3, 3)]);
    assert!(effects.contains(&all_in(3, &[1, 2], data(1, 21, "a4"))), "only what waited");
    let mut a = left_out();
    a.planted = Some(Bug::ResendsUnlearned);
    assert!(a.command(back(3)).contains(&all_in(3, &[1, 2], data(1, 21, "a2"))));
}

#[test]
fn what_may_be_in_what_was_missed_is_unknown() {
    let mut a = left_out();
    let deliveries = vec![own(9, 3)];
    let effects = a.hear_in(0, 1, Body::Lesson { from: 2, deliveries, position: 9 });
    assert_eq!(effects[0], missed(2, 8));
    assert_eq!(effects[2..4], [refused(2, Refusal::Unknown), sent(3, 9)]);
    let mut a = left_out();
    a.hear_in(0, 1, nothing(2, 9));
    let unknown = [refused(2, Refusal::Unknown), refused(3, Refusal::Unknown)];
    assert_eq!(a.command(back(9))[..2], unknown);
}

#[test]
fn who_leaves_and_is_left_out_does_not_wait() {
    let mut a = left_out();
    let unknown = [refused(2, Refusal::Unknown), refused(3, Refusal::Unknown)];
    let effects = a.command(Command::Leave);
    assert_eq!(effects[..2], unknown);
    let rest = [refused(4, Refusal::Leaving), drained(), Effect::CancelTimer(Timer::Learn)];
    assert_eq!(effects[2..], rest);
}
