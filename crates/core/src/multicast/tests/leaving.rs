//! Leaving, step by step.

use super::*;

fn left(member: u16, last: u64, received: &[u64]) -> Body {
    Body::Left { member, last, received: received.to_vec() }
}

fn member_left(member: usize) -> Out {
    Effect::Emit(Event::MemberLeft(id(member)))
}

const DONE: [Out; 4] = [
    Effect::CancelTimer(Timer::Flush),
    Effect::CancelTimer(Timer::Heartbeat),
    Effect::CancelTimer(Timer::Want),
    Effect::Emit(Event::LeaveDone),
];

#[test]
fn who_leaves_waits_until_everyone_has_what_it_sent() {
    let mut a = Hand::new(0, 3);
    a.send(1, "x");
    assert_eq!(a.command(Command::Leave), []);
    a.hear(1, clock(1, 0, &[1, 0, 0]));
    let effects = a.hear(2, clock(1, 0, &[1, 0, 0]));
    let goodbye = all(&[1, 2], left(0, 1, &[1, 0, 0]));
    assert_eq!(effects, [delivered(1, 1, 0, 1, "x"), sent(1, 1), goodbye]);
    assert_eq!(a.hear(1, Body::LeftAck { member: 0 }), []);
    let again = all(&[2], left(0, 1, &[1, 0, 0]));
    assert_eq!(a.fire(Timer::Heartbeat), [again, heartbeat()]);
    // It is frozen: it receives nothing any more.
    assert_eq!(a.hear(1, data(1, 2, "y")), []);
    assert_eq!(a.hear(2, Body::LeftAck { member: 0 }), DONE);
    // And silent, but for this.
    let ack = one(1, Body::LeftAck { member: 1 });
    assert_eq!(a.hear(1, left(1, 70_000, &[1, 70_000, 0])), [member_left(1), ack]);
    assert_eq!(a.handle(Input::LinkUp(id(2))), []);
    assert_eq!(a.fire(Timer::Heartbeat), []);
}

#[test]
fn who_leaves_passes_on_what_it_knows_of_others_who_left() {
    let mut b = Hand::new(1, 3);
    // p1 may go now, because this member knows.
    b.hear(0, left(0, 0, &[0, 0, 0]));
    let (first, own) = (left(0, 0, &[0, 0, 0]), left(1, 0, &[0, 0, 0]));
    assert_eq!(b.command(Command::Leave), [all(&[2], own)]);
    assert_eq!(b.hear(2, Body::LeftAck { member: 1 }), [], "p3 does not know of p1");
    assert_eq!(b.fire(Timer::Heartbeat), [all(&[2], first), heartbeat()]);
    assert_eq!(b.hear(2, Body::LeftAck { member: 0 }), DONE);
}

#[test]
fn after_many_words_one_witness_of_all_leaves_is_enough() {
    let mut b = Hand::new(1, 4);
    b.hear(0, left(0, 0, &[0, 0, 0, 0]));
    b.command(Command::Leave);
    b.hear(2, Body::LeftAck { member: 1 });
    b.hear(3, Body::LeftAck { member: 0 });
    for _ in 0..100 {
        assert!(!b.fire(Timer::Heartbeat).contains(&DONE[3]), "neither knows of both");
    }
    assert_eq!(b.hear(2, Body::LeftAck { member: 0 }), DONE);
}

#[test]
fn who_has_left_is_not_waited_for() {
    let mut a = Hand::new(0, 3);
    a.send(1, "x");
    a.hear(1, clock(1, 0, &[1, 0, 0]));
    let ack = one(2, Body::LeftAck { member: 2 });
    assert_eq!(
        a.hear(2, left(2, 0, &[0, 0, 0])),
        [member_left(2), ack.clone(), delivered(1, 1, 0, 1, "x"), sent(1, 1)],
        "its clock is infinite"
    );
    assert_eq!(a.status().unstable_bytes, 0, "its receipt is not waited for");
    assert_eq!(a.status().left, [id(2)]);
    assert_eq!(a.hear(2, left(2, 0, &[0, 0, 0])), [ack], "told once, acknowledged always");
    // p2 may not know.
    let pass_on = left(2, 0, &[0, 0, 0]);
    assert_eq!(a.fire(Timer::Heartbeat), [all(&[1], pass_on.clone()), heartbeat()]);
    let up = a.handle(Input::LinkUp(id(1)));
    assert_eq!(up, [one(1, clock(1, 1, &[1, 0, 0])), all(&[1], pass_on)]);
    assert_eq!(a.hear(1, Body::LeftAck { member: 2 }), []);
    assert_eq!(a.fire(Timer::Heartbeat), []);
    assert_eq!(a.send(2, "y"), [all(&[1], data(2, 2, "y")), heartbeat()]);
}

#[test]
fn the_last_receipts_of_who_has_left_count() {
    let mut a = Hand::new(0, 2);
    a.send(1, "x");
    // p2 has received it, may have delivered it, and its clock was lost.
    let effects = a.hear(1, left(1, 0, &[1, 0]));
    assert_eq!(effects[2..], [delivered(1, 1, 0, 1, "x"), sent(1, 1)]);
}

#[test]
fn the_final_clock_waits_for_the_last_message() {
    let mut b = Hand::new(1, 3);
    b.hear(0, data(1, 7, "a"));
    let ack = one(0, Body::LeftAck { member: 2 });
    assert_eq!(b.hear(0, left(2, 1, &[1, 0, 1])), [member_left(2), ack]);
    assert_eq!(b.status().position, 0, "T1 holds for the infinite clock too");
    assert_eq!(
        b.hear(2, data(1, 3, "c")),
        [delivered(1, 3, 2, 1, "c"), delivered(2, 7, 0, 1, "a")]
    );
}

#[test]
fn without_a_majority_nothing_more_is_delivered_and_leaving_still_ends() {
    let mut a = Hand::new(0, 2);
    a.hear(1, left(1, 0, &[0, 0]));
    assert_eq!(a.send(1, "x"), [heartbeat()]);
    assert_eq!(a.status().waiting_for, Some((id(1), Time::ZERO)));
    assert_eq!(a.command(Command::Leave), DONE);
}

#[test]
fn leaving_before_there_is_a_view() {
    let mut a = Hand::before_install(config(0));
    assert_eq!(a.command(Command::Leave), [Effect::Emit(Event::LeaveDone)]);
    assert_eq!(a.send(1, "x"), [refused(1, Refusal::Leaving)]);
    a.command(Command::Install { view: view(2) });
    assert_eq!(a.hear(1, data(1, 1, "x")), []);
}

#[test]
fn alone_leaving_is_immediate() {
    let mut a = Hand::new(0, 1);
    a.send(1, "x");
    assert_eq!(a.command(Command::Leave), DONE);
}
