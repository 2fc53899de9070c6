//! The order, step by step: exact effects.

use super::*;

#[test]
fn a_message_is_delivered_after_two_steps() {
    let (mut a, mut b) = (Hand::new(0, 3), Hand::new(1, 3));
    assert_eq!(a.send(7, "x"), [all(&[1, 2], data(1, 1, "x")), heartbeat()]);
    assert_eq!(b.hear(0, data(1, 1, "x")), [flush(), heartbeat()]);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(1, 0, &[1, 0, 0]))]);
    assert_eq!(a.hear(1, clock(1, 0, &[1, 0, 0])), []);
    // A majority has it, but the third could still send something smaller (b).
    assert_eq!(a.status().waiting_for, Some((id(2), Time::ZERO)));
    let now = [delivered(1, 1, 0, 1, "x"), sent(7, 1)];
    assert_eq!(a.hear(2, clock(1, 0, &[1, 0, 0])), now);
    assert_eq!(b.hear(2, clock(1, 0, &[1, 0, 0])), [delivered(1, 1, 0, 1, "x")]);
    // And then there is silence (T2).
    assert_eq!(a.fire(Timer::Heartbeat), []);
    assert_eq!(b.fire(Timer::Heartbeat), []);
}

#[test]
fn the_head_says_for_whom_it_waits_and_since_when() {
    let mut a = Hand::new(0, 4);
    let wait = |at: u64, clocks: &[usize], receipts: &[usize]| {
        let ids = |members: &[usize]| members.iter().map(|member| id(*member)).collect();
        let (since, clocks, receipts) = (Time::from_nanos(at), ids(clocks), ids(receipts));
        Some(HeadWait { since, clocks, receipts })
    };
    assert_eq!(a.status().head, None);
    a.now = Time::from_nanos(5);
    a.send(7, "x");
    assert_eq!(a.status().head, wait(5, &[1, 2, 3], &[1, 2, 3]));
    a.now = Time::from_nanos(9);
    a.hear(1, clock(2, 0, &[1, 0, 0, 0]));
    assert_eq!(a.status().head, wait(5, &[2, 3], &[2, 3]), "the others have kept it since then");
    // A majority has it: only the clock of the last is missing.
    a.hear(2, clock(2, 0, &[1, 0, 0, 0]));
    assert_eq!(a.status().head, wait(5, &[3], &[]));
    assert_eq!(a.status().waiting_for, Some((id(3), Time::from_nanos(9))));
    // The next one becomes the head only now.
    a.send(8, "y");
    a.now = Time::from_nanos(12);
    a.hear(3, clock(2, 0, &[0, 0, 0, 0]));
    assert_eq!(a.status().head, wait(12, &[1, 2, 3], &[1, 2, 3]));
}

#[test]
fn the_order_is_by_time_and_then_by_position() {
    let mut c = Hand::new(2, 4);
    c.hear(1, data(1, 1, "b"));
    c.hear(0, data(1, 1, "a"));
    c.hear(1, data(2, 2, "b2"));
    let order: Vec<_> = c.status().queue.iter().map(|w| (w.time, w.sender, w.sequence)).collect();
    assert_eq!(order, [(1, id(0), 1), (1, id(1), 1), (2, id(1), 2)]);
    assert_eq!(
        c.hear(3, clock(2, 0, &[1, 2, 0, 0])),
        [delivered(1, 1, 0, 1, "a"), delivered(2, 1, 1, 1, "b")],
        "p1 may still send something of time 2"
    );
}

#[test]
fn a_message_is_a_clock() {
    let mut c = Hand::new(2, 3);
    c.hear(0, data(1, 1, "a"));
    assert_eq!(c.hear(1, data(1, 5, "b")), [delivered(1, 1, 0, 1, "a")]);
    assert_eq!(c.send(1, "c"), [all(&[0, 1], data(1, 6, "c"))], "later than all that it has seen");
}

#[test]
fn a_frame_is_owed_once_and_idle_frames_owe_nothing() {
    let mut b = Hand::new(1, 3);
    b.hear(0, data(1, 1, "x"));
    b.hear(0, data(2, 2, "y"));
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(2, 0, &[2, 0, 0]))]);
    // A clock that comes in alone: taken, not ticked, not answered (T2).
    let both = [delivered(1, 1, 0, 1, "x"), delivered(2, 2, 0, 2, "y")];
    assert_eq!(b.hear(2, clock(9, 0, &[0, 0, 0])), both);
    assert_eq!(b.status().clock, 9);
    assert_eq!(b.fire(Timer::Flush), []);
    // An own message passes the time, but the receipts are still news.
    b.hear(0, data(3, 10, "z"));
    assert_eq!(b.send(1, "w"), [all(&[0, 2], data(1, 11, "w"))]);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(11, 1, &[3, 1, 0]))]);
}

#[test]
fn a_clock_that_overtakes_its_message_does_not_count() {
    let mut b = Hand::new(1, 3);
    b.hear(2, data(1, 5, "c"));
    // T1: p1 speaks of a message that is not here. It may be smaller than the one that is.
    assert_eq!(b.hear(0, clock(9, 1, &[1, 0, 1])), []);
    assert_eq!(b.status().position, 0);
    assert_eq!(b.status().clocks[0], (id(0), 0));
    assert_eq!(
        b.hear(0, data(1, 4, "a")),
        [delivered(1, 4, 0, 1, "a"), delivered(2, 5, 2, 1, "c")],
        "the message is here, and with it the clock counts"
    );
    assert_eq!(b.status().clocks[0], (id(0), 9));
}

#[test]
fn two_members_need_both() {
    let mut a = Hand::new(0, 2);
    a.send(1, "x");
    // T3: the other's clock is beyond, but it has not received it.
    assert_eq!(a.hear(1, data(1, 5, "y")), [flush()]);
    assert_eq!(a.status().position, 0);
    assert_eq!(a.status().waiting_for, Some((id(1), Time::ZERO)));
    let first = [delivered(1, 1, 0, 1, "x"), sent(1, 1), delivered(2, 5, 1, 1, "y")];
    assert_eq!(a.hear(1, clock(5, 1, &[1, 1])), first);
}

#[test]
fn one_half_of_four_is_no_majority() {
    let mut d = Hand::new(3, 4);
    d.hear(0, data(1, 1, "x"));
    d.hear(1, clock(1, 0, &[0, 0, 0, 0]));
    d.hear(2, clock(1, 0, &[0, 0, 0, 0]));
    assert_eq!(d.status().position, 0, "T3: sender and receiver are two of four");
    assert_eq!(d.hear(2, clock(1, 0, &[1, 0, 0, 0])), [delivered(1, 1, 0, 1, "x")]);
}

#[test]
fn alone_everything_is_delivered_at_once() {
    let mut a = Hand::new(0, 1);
    assert_eq!(a.send(1, "x"), [delivered(1, 1, 0, 1, "x"), sent(1, 1)]);
    assert_eq!(a.send(2, "y"), [delivered(2, 2, 0, 2, "y"), sent(2, 2)]);
    assert_eq!(a.status().unstable_bytes, 0);
}

#[test]
fn sends_are_refused_with_the_reason() {
    let mut a = Hand::before_install(config(0));
    assert!(a.machine.accepts_sends());
    assert_eq!(a.send(1, "x"), [refused(1, Refusal::NotStarted)]);
    a.found(2);
    let payload = Bytes::from(vec![0; 1001]);
    let too_large = a.command(Command::Send { ticket: 2, payload });
    assert_eq!(too_large, [refused(2, Refusal::TooLarge)]);
    assert_eq!(a.command(Command::Leave), [Effect::Emit(Event::Drained)]);
    assert!(a.machine.accepts_sends());
    assert_eq!(a.send(3, "x"), [refused(3, Refusal::Leaving)]);
}

#[test]
fn another_view_is_another_world() {
    let mut a = Hand::new(0, 2);
    let before = a.machine.clone();
    let message = Message { view: 2, body: data(1, 1, "x") };
    assert_eq!(a.handle(Input::Message { from: id(1), message }), []);
    assert_eq!(a.machine, before);
}

#[test]
fn the_impossible_is_ignored_and_counted() {
    let mut a = Hand::new(0, 3);
    a.hear(1, data(1, 5, "x"));
    let impossible = [
        data(0, 6, "there is no message 0"),
        data(2, 5, "not later than the clock"),
        data(2 + 65_536, 9, "beyond any window"),
        data(2, 6 + (1 << 40), "absurd"),
        piece(2, 6, 2, 2, "piece 2 of 0 and 1"),
        piece(2, 6, 0, 0, "of none"),
        piece(2, 6, 0, 12, "more pieces than a message can have"),
        clock(6 + (1 << 40), 1, &[0, 0, 0]),
        clock(6, 1, &[0, 0]),
        clock(6, 1, &[1, 0, 0]),
        clock(6, 1 << 20, &[0, 0, 0]),
        Body::Want { from: 1, to: 1 },
        Body::Want { from: 0, to: 0 },
        Body::Fetch { sender: 3, from: 1, to: 1 },
        Body::Learn { from: 0 },
    ];
    for (before, body) in (0..).zip(impossible) {
        let shown = format!("{body:?}");
        assert_eq!(a.hear(1, body), [], "{shown}");
        assert_eq!(a.status().ignored, before + 1, "{shown}");
        assert_eq!(a.status().clock, 5, "{shown}");
    }
    let stranger = Input::Message { from: id(5), message: said(data(1, 6, "x")) };
    assert_eq!(a.handle(stranger), []);
    let stranger = Input::Message { from: id(5), message: said(fetch(0, 1, 1)) };
    assert_eq!(a.handle(stranger), []);
    assert_eq!(a.status().ignored, 17);
}

#[test]
fn a_full_window_closes_until_everyone_has_received() {
    let mut a = Hand::new(0, 3); // A share of 1000 bytes.
    let payload = Bytes::from(vec![7; 600]);
    a.command(Command::Send { ticket: 1, payload: payload.clone() });
    assert!(a.machine.accepts_sends());
    // The second has no room yet: it is taken, and waits.
    assert_eq!(a.command(Command::Send { ticket: 2, payload }), []);
    assert!(!a.machine.accepts_sends());
    assert_eq!(a.send(3, "x"), [refused(3, Refusal::WindowFull)]);
    a.hear(1, clock(1, 0, &[1, 0, 0]));
    assert!(!a.machine.accepts_sends(), "p3 lacks it");
    let effects = a.hear(2, clock(1, 0, &[1, 0, 0]));
    assert!(matches!(effects[0], Effect::Emit(Event::Delivered(_))));
    assert_eq!(effects[1], sent(1, 1));
    assert!(matches!(&effects[2], Effect::Send { message, .. }
        if matches!(message.body, Body::Data { sequence: 2, time: 2, index: 0, count: 6, .. })));
    assert!(a.machine.accepts_sends());
    assert_eq!(a.status().unstable_bytes, 600);
}

#[test]
fn a_message_larger_than_the_share_travels_alone() {
    let mut a = Hand::with(Config { unstable_bytes_max: 30, ..config(0) }, 3);
    a.send(1, "x");
    let large = "larger than ten bytes";
    assert_eq!(a.send(2, large), []);
    a.hear(1, clock(1, 0, &[1, 0, 0]));
    let effects = a.hear(2, clock(1, 0, &[1, 0, 0]));
    assert_eq!(effects[2], all(&[1, 2], data(2, 2, large)));
    assert!(!a.machine.accepts_sends());
}

#[test]
fn who_does_not_read_delivers_and_acknowledges_nothing_more() {
    let mut b = Hand::with(Config { unread_bytes_max: 2, ..config(1) }, 3);
    b.hear(0, data(1, 1, "x"));
    b.hear(2, clock(1, 0, &[1, 0, 0]));
    assert_eq!(b.status().unread_bytes, 1 + DELIVERY_OVERHEAD);
    b.hear(0, data(2, 2, "y"));
    b.hear(2, clock(2, 0, &[2, 0, 0]));
    assert_eq!(b.status().position, 1);
    assert_eq!(b.status().waiting_for, Some((id(1), Time::ZERO)));
    // The clock goes on, the receipts do not (nor the first, which was not told before).
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(2, 0, &[0, 0, 0]))]);
    let read = b.command(Command::Read { bytes: 1 + DELIVERY_OVERHEAD });
    assert_eq!(read, [flush(), delivered(2, 2, 0, 2, "y")]);
    b.command(Command::Read { bytes: 1 + DELIVERY_OVERHEAD });
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(2, 0, &[2, 0, 0]))]);
}

#[test]
fn what_waits_for_a_third_clock_is_bounded_too() {
    // p3 is silent here, though p1 hears it: p1 goes on as long as this member acknowledges.
    let mut b =
        Hand::with(Config { message_bytes_max: 10, unstable_bytes_max: 30, ..config(1) }, 3);
    for sequence in 1..=4 {
        b.hear(0, data(sequence, sequence, "12345"));
    }
    // Undelivered bytes of p1: 20, the bound: 10. The oldest is acknowledged all the same.
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(4, 0, &[1, 0, 0]))]);
    assert!(b.hear(2, clock(9, 0, &[0, 0, 0])).contains(&flush()), "there is room again");
    assert_eq!(b.status().position, 4);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(9, 0, &[4, 0, 0]))]);
}

#[test]
fn the_last_deliveries_are_kept() {
    let mut a = Hand::with(Config { history_messages_max: 3, ..config(0) }, 1);
    for ticket in 1..=5 {
        a.send(ticket, "x");
    }
    let positions = |from| a.machine.history(from).map(|d| d.position).collect::<Vec<_>>();
    assert_eq!(positions(1), [3, 4, 5]);
    assert_eq!(positions(4), [4, 5]);
    assert_eq!(positions(6), []);
    let mut a = Hand::with(Config { history_bytes_max: 2, ..config(0) }, 1);
    for ticket in 1..=5 {
        a.send(ticket, "x");
    }
    assert_eq!(a.machine.history(0).count(), 2);
}

#[test]
fn who_leaves_is_done_when_all_that_it_has_sent_has_its_place() {
    let mut a = Hand::new(0, 2);
    let payload = Bytes::from(vec![7; 900]);
    a.command(Command::Send { ticket: 1, payload: payload.clone() });
    a.command(Command::Send { ticket: 2, payload });
    // The second waits for its room, and is sent all the same.
    assert_eq!(a.command(Command::Leave), []);
    let second = a.hear(1, clock(1, 0, &[1, 0]));
    assert!(matches!(&second[2], Effect::Send { message, .. }
        if matches!(message.body, Body::Data { sequence: 2, .. })));
    // It goes on receiving, acknowledging and delivering.
    assert_eq!(a.hear(1, data(1, 3, "y")), [flush()]);
    assert_eq!(a.fire(Timer::Flush), [all(&[1], clock(3, 2, &[2, 1]))]);
    let done = a.hear(1, clock(3, 1, &[2, 1]));
    assert_eq!(done[1..], [sent(2, 2), delivered(3, 3, 1, 1, "y"), drained()]);
    assert_eq!(a.command(Command::Leave), [], "once");
}

#[test]
fn leaving_is_done_at_once_with_nothing_to_wait_for() {
    let mut a = Hand::before_install(config(0));
    assert_eq!(a.command(Command::Leave), [drained()]);
    assert_eq!(a.send(1, "x"), [refused(1, Refusal::Leaving)]);
    let mut a = Hand::new(0, 2);
    a.planted = Some(Bug::DrainsEarly);
    a.send(1, "x");
    assert_eq!(a.command(Command::Leave), [drained()], "a rule left out is seen");
}
