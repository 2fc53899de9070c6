//! The end of a view and the beginning of the next, step by step.

use super::*;

/// The timers that end with the wedge (V2).
const WEDGED: [Out; 3] = [
    Effect::CancelTimer(Timer::Flush),
    Effect::CancelTimer(Timer::Heartbeat),
    Effect::CancelTimer(Timer::Want),
];

fn report(received: &[u64], clock: u64) -> Report {
    Report { received: received.to_vec(), clock }
}

fn holder(position: usize, received: &[u64]) -> Holder {
    Holder { node: id(position), received: received.to_vec() }
}

fn gather(cut: &Cut, holders: Vec<Holder>) -> Command {
    Command::Gather { cut: Box::new(cut.clone()), holders, insists: true }
}

/// The middle of three. It has sent one message, and received one of p1 that is not deliverable.
fn member() -> Hand {
    let mut b = Hand::new(1, 3);
    b.send(1, "b1");
    b.hear(0, data(1, 5, "a1"));
    b
}

/// The cut of view 1: p3 has received one more of p1, and has sent one itself.
fn ending() -> Cut {
    Cut {
        ends: vec![2, 1, 1],
        stable: vec![0, 0, 0],
        begins: vec![2, 1, 1],
        clock: 9,
        position: 4,
        lost: false,
    }
}

#[test]
fn who_is_wedged_is_frozen() {
    let mut b = member();
    assert_eq!(b.machine.report(), None);
    assert_eq!(b.command(Command::Wedge), WEDGED);
    assert_eq!(b.command(Command::Wedge), []);
    let before = b.machine.clone();
    let late = [data(2, 6, "a2"), clock(9, 2, &[2, 1, 0]), Body::Want { from: 1, to: 1 }];
    for body in late {
        assert_eq!(b.hear(0, body), []);
    }
    assert_eq!(b.hear(2, clock(9, 0, &[1, 1, 0])), [], "it would be deliverable");
    for timer in [Timer::Flush, Timer::Heartbeat, Timer::Want, Timer::Fetch] {
        assert_eq!(b.fire(timer), []);
    }
    assert_eq!(b.handle(Input::LinkUp(id(0))), []);
    assert_eq!(b.machine, before);
    assert_eq!(b.machine.report(), Some(report(&[1, 1, 0], 5)));
    assert_eq!(b.status().ignored, 0);
}

#[test]
fn who_is_wedged_and_goes_on_is_found_out() {
    let mut b = member();
    b.command(Command::Wedge);
    b.planted = Some(Bug::WedgedReceives);
    assert_eq!(b.hear(0, data(2, 6, "a2")), [flush()]);
    assert_eq!(b.fire(Timer::Flush)[0], all(&[0, 2], clock(6, 1, &[2, 1, 0])));
    let mut b = member();
    b.command(Command::Wedge);
    b.planted = Some(Bug::WedgedDelivers);
    b.hear(0, clock(9, 1, &[1, 1, 0]));
    let effects = b.hear(2, clock(9, 0, &[1, 1, 0]));
    assert_eq!(effects[..2], [delivered(1, 1, 1, 1, "b1"), sent(1, 1)]);
}

#[test]
fn one_send_waits_for_the_next_view() {
    let mut b = member();
    b.command(Command::Wedge);
    assert!(b.machine.accepts_sends());
    assert_eq!(b.send(2, "b2"), []);
    assert!(!b.machine.accepts_sends());
    assert_eq!(b.send(3, "b3"), [refused(3, Refusal::WindowFull)]);
}

#[test]
fn what_is_missing_of_the_cut_is_fetched_and_kept_apart() {
    let mut b = member();
    b.command(Command::Wedge);
    let ask = one(2, fetch(0, 2, 2));
    let gathering = b.command(gather(&ending(), vec![holder(2, &[2, 1, 1])]));
    assert_eq!(gathering, [ask.clone(), timer(Timer::Fetch)]);
    assert_eq!(b.status().waiting_for, Some((id(2), Time::ZERO)));
    assert_eq!(b.fire(Timer::Fetch), [timer(Timer::Fetch), ask]);
    assert_eq!(b.hear(2, fetched(0, 2, 6, "a2")), [one(2, fetch(2, 1, 1))]);
    assert_eq!(b.hear(2, fetched(2, 1, 9, "c1")), gathered());
    assert_eq!(b.hear(2, fetched(2, 1, 9, "c1")), []);
    assert_eq!(b.machine.report(), Some(report(&[1, 1, 0], 5)), "the same for every ballot (V2)");
    assert_eq!(b.fire(Timer::Fetch), []);
    // What it has fetched it passes on.
    let both = [one(0, fetched(0, 1, 5, "a1")), one(0, fetched(0, 2, 6, "a2"))];
    assert_eq!(b.hear(0, fetch(0, 1, 9)), both);
}

#[test]
fn a_report_that_grows_and_a_cut_that_is_not_here_are_found_out() {
    let mut b = member();
    b.command(Command::Wedge);
    b.command(gather(&ending(), vec![holder(2, &[2, 1, 1])]));
    b.planted = Some(Bug::ReportGrows);
    b.hear(2, fetched(0, 2, 6, "a2"));
    assert_eq!(b.machine.report(), Some(report(&[2, 1, 0], 5)));
    let mut b = member();
    b.planted = Some(Bug::GatheredEarly);
    let early = b.command(gather(&ending(), vec![holder(2, &[2, 1, 1])]));
    assert!(early.contains(&Effect::Emit(Event::Gathered)));
}

#[test]
fn holders_take_turns_while_there_is_no_progress() {
    let mut b = member();
    b.command(Command::Wedge);
    let holders = vec![holder(0, &[2, 1, 0]), holder(1, &[9, 9, 9]), holder(2, &[2, 1, 1])];
    b.command(gather(&ending(), holders));
    assert_eq!(b.fire(Timer::Fetch), [timer(Timer::Fetch), one(2, fetch(0, 2, 2))]);
    b.hear(2, fetched(0, 2, 6, "a2"));
    // Only p3 has this, whose turn it is.
    assert_eq!(b.fire(Timer::Fetch), [timer(Timer::Fetch), one(2, fetch(2, 1, 1))]);
    assert_eq!(b.fire(Timer::Fetch), [timer(Timer::Fetch), one(2, fetch(2, 1, 1))]);
}

#[test]
fn much_is_fetched_in_windows() {
    let mut b = Hand::new(1, 2);
    b.command(Command::Wedge);
    let cut = Cut { ends: vec![600, 0], stable: vec![0, 0], ..Cut::founding(2) };
    let gathering = b.command(gather(&cut, vec![holder(0, &[600, 0])]));
    assert_eq!(gathering[0], one(0, fetch(0, 1, 256)));
    for sequence in 1..256 {
        assert_eq!(b.hear(0, fetched(0, sequence, sequence, "x")), []);
    }
    assert_eq!(b.hear(0, fetched(0, 256, 256, "x")), [one(0, fetch(0, 257, 512))]);
    // One gets lost: after a while the rest is asked for from there on.
    b.hear(0, fetched(0, 258, 258, "x"));
    assert_eq!(b.hear(0, fetched(0, 257, 257, "x")), []);
    assert_eq!(b.fire(Timer::Fetch), [timer(Timer::Fetch), one(0, fetch(0, 259, 514))]);
}

#[test]
fn an_answer_that_is_full_is_followed_by_the_next_question() {
    let large = |position| Config {
        message_bytes_max: 200 << 10,
        fragment_bytes: 100 << 10,
        unstable_bytes_max: 4 << 20,
        unread_bytes_max: 4 << 20,
        ..config(position)
    };
    let (mut a, mut b) = (Hand::with(large(0), 2), Hand::with(large(1), 2));
    for ticket in 1..=3 {
        a.command(Command::Send { ticket, payload: Bytes::from(vec![7; 150 << 10]) });
    }
    b.command(Command::Wedge);
    let cut = Cut { ends: vec![3, 0], stable: vec![0, 0], ..Cut::founding(2) };
    b.command(gather(&cut, vec![holder(0, &[3, 0])]));
    let answer = a.hear(1, fetch(0, 1, 3));
    assert_eq!(answer.len(), 2, "one message, in two pieces");
    let mut bodies = answer.into_iter().map(|effect| match effect {
        Effect::Send { message, .. } => message.body,
        other => panic!("{other:?}"),
    });
    assert_eq!(b.hear(0, bodies.next().unwrap()), []);
    assert_eq!(b.hear(0, bodies.next().unwrap()), [one(0, fetch(0, 2, 3))]);
}

#[test]
fn a_view_ends_with_the_rest_of_its_cut_and_the_next_begins_there() {
    // The application reads nothing: installation does not wait for it (T7).
    let mut b = Hand::with(Config { unread_bytes_max: 0, ..config(1) }, 3);
    b.send(1, "b1");
    b.hear(0, data(1, 5, "a1"));
    b.command(Command::Wedge);
    b.send(2, "b2");
    b.command(gather(&ending(), vec![holder(2, &[2, 1, 1])]));
    b.hear(2, fetched(0, 2, 6, "a2"));
    b.hear(2, fetched(2, 1, 6, "c1"));
    let rest = [
        delivered(1, 1, 1, 1, "b1"),
        sent(1, 1),
        delivered(2, 5, 0, 1, "a1"),
        delivered(3, 6, 0, 2, "a2"),
        delivered(4, 6, 2, 1, "c1"),
        Effect::CancelTimer(Timer::Fetch),
    ];
    assert_eq!(b.command(Command::Close { cut: Box::new(ending()) }), rest);
    assert_eq!(b.machine.report(), None);
    let next = later(2, &[(0, 1), (1, 1), (2, 1)]);
    let waited = all_in(2, &[0, 2], data(2, 10, "b2"));
    let install = Command::Install { view: next, cut: Box::new(ending()) };
    assert_eq!(b.command(install), [waited, heartbeat()], "later than the floor (T6)");
    let status = b.status();
    assert_eq!(status.clocks, [(id(0), 9), (id(1), 10), (id(2), 9)]);
    // Old frames are dropped, new ones go on where the cut ends.
    assert_eq!(b.hear(0, data(3, 20, "old")), []);
    assert_eq!(b.hear_in(2, 0, data(3, 11, "a3")), [flush()]);
    assert_eq!(b.status().queue.len(), 2);
    // Who lacks a message of the old view gets it here.
    let answer = one(0, fetched(2, 1, 6, "c1"));
    assert_eq!(b.hear_in(1, 0, fetch(2, 1, 1)), [answer]);
    assert_eq!(b.hear_in(1, 0, fetch(1, 1, 1)), [one(0, fetched(1, 1, 1, "b1"))]);
}

#[test]
fn what_is_beyond_a_later_cut_is_dropped() {
    let mut b = member();
    b.command(Command::Wedge);
    b.command(gather(&ending(), vec![holder(2, &[2, 1, 1])]));
    b.hear(2, fetched(0, 2, 6, "a2"));
    b.hear(2, fetched(2, 1, 9, "c1"));
    let smaller = Cut {
        ends: vec![1, 1, 0],
        stable: vec![0, 0, 0],
        begins: vec![1, 1],
        clock: 5,
        position: 2,
        lost: false,
    };
    assert_eq!(b.command(gather(&smaller, vec![])), gathered());
    let close = b.command(Command::Close { cut: Box::new(smaller.clone()) });
    assert_eq!(close[..3], [delivered(1, 1, 1, 1, "b1"), sent(1, 1), delivered(2, 5, 0, 1, "a1")]);
    let next = later(2, &[(0, 1), (1, 1)]);
    assert_eq!(b.command(Command::Install { view: next, cut: Box::new(smaller) }), []);
    let other = [flush(), delivered(3, 7, 0, 2, "a2")];
    assert_eq!(b.hear_in(2, 0, data(2, 7, "a2")), other);
}

#[test]
fn what_is_stable_is_not_kept() {
    let mut b = member();
    b.command(Command::Wedge);
    let cut = Cut {
        ends: vec![1, 1, 0],
        stable: vec![1, 0, 0],
        begins: vec![1, 1, 0],
        clock: 5,
        position: 2,
        lost: false,
    };
    b.command(Command::Close { cut: Box::new(cut) });
    assert_eq!(b.hear(0, fetch(0, 1, 1)), []);
    assert_eq!(b.hear(0, fetch(1, 1, 1)), [one(0, fetched(1, 1, 1, "b1"))]);
    assert_eq!(b.hear(5, fetch(1, 1, 1)), [], "a stranger");
}

#[test]
fn what_is_delivered_is_kept_until_all_have_it() {
    let mut b = Hand::new(1, 3);
    b.hear(0, data(1, 1, "a1"));
    assert_eq!(b.hear(2, clock(1, 0, &[0, 0, 0])), [delivered(1, 1, 0, 1, "a1")]);
    b.fire(Timer::Flush);
    // If p1 dies now, p3 gets it from here.
    assert_eq!(b.hear(2, fetch(0, 1, 1)), [one(2, fetched(0, 1, 1, "a1"))]);
    b.hear(2, clock(1, 0, &[1, 0, 0]));
    b.fire(Timer::Heartbeat);
    assert_eq!(b.hear(2, fetch(0, 1, 1)), []);
}

#[test]
fn what_is_kept_for_others_is_bounded() {
    let mut b = Hand::with(Config { unstable_bytes_max: 30, ..config(1) }, 3);
    for sequence in 1..=9 {
        b.hear(0, data(sequence, sequence, "0123456789"));
        b.hear(2, clock(sequence, 0, &[0, 0, 0]));
        b.fire(Timer::Flush);
    }
    assert_eq!(b.status().position, 9);
    // No window has more than three of them: what is older must have arrived everywhere.
    let kept = b.hear(2, fetch(0, 1, 9));
    let last = (7..=9).map(|sequence| one(2, fetched(0, sequence, sequence, "0123456789")));
    assert_eq!(kept, last.collect::<Vec<_>>());
}

#[test]
fn what_is_not_in_the_cut_is_sent_again_under_the_same_sequence() {
    let mut b = Hand::new(1, 3);
    b.send(1, "b1");
    b.send(2, "b2");
    b.send(3, "b3");
    b.command(Command::Wedge);
    b.send(4, "b4");
    let cut = Cut {
        ends: vec![0, 1, 0],
        stable: vec![0, 0, 0],
        begins: vec![0, 1],
        clock: 7,
        position: 1,
        lost: false,
    };
    let close = b.command(Command::Close { cut: Box::new(cut.clone()) });
    assert_eq!(close[..2], [delivered(1, 1, 1, 1, "b1"), sent(1, 1)]);
    let view = later(2, &[(0, 1), (1, 1)]);
    let again = [
        all_in(2, &[0], data(2, 8, "b2")),
        all_in(2, &[0], data(3, 9, "b3")),
        all_in(2, &[0], data(4, 10, "b4")),
        heartbeat(),
    ];
    assert_eq!(b.command(Command::Install { view, cut: Box::new(cut) }), again, "T10");
    let effects = b.hear_in(2, 0, clock(10, 0, &[0, 4]));
    assert_eq!(effects[..2], [delivered(2, 8, 1, 2, "b2"), sent(2, 2)]);
    assert_eq!(effects[4..], [delivered(4, 10, 1, 4, "b4"), sent(4, 4)]);
}

#[test]
fn who_leaves_when_a_view_ends_is_done_in_the_next() {
    let mut b = member();
    assert_eq!(b.command(Command::Leave), []);
    b.command(Command::Wedge);
    assert_eq!(b.send(2, "b2"), [refused(2, Refusal::Leaving)]);
    let cut = Cut {
        ends: vec![1, 1, 0],
        stable: vec![0, 0, 0],
        begins: vec![1, 1, 0],
        clock: 5,
        position: 2,
        lost: false,
    };
    let close = b.command(Command::Close { cut: Box::new(cut.clone()) });
    assert_eq!(close[..2], [delivered(1, 1, 1, 1, "b1"), sent(1, 1)]);
    let view = later(2, &[(0, 1), (1, 1), (2, 1)]);
    assert_eq!(b.command(Command::Install { view, cut: Box::new(cut) }), [drained()]);
    assert_eq!(b.hear_in(2, 0, data(2, 6, "a2")), [flush(), heartbeat()], "still a member");
}

#[test]
fn broken_ends_are_found_out() {
    let cut = Cut {
        ends: vec![1, 1, 0],
        stable: vec![0, 0, 0],
        begins: vec![1, 1, 0],
        clock: 5,
        position: 2,
        lost: false,
    };
    let ended = |bug| {
        let mut b = member();
        b.command(Command::Wedge);
        b.planted = Some(bug);
        let close = b.command(Command::Close { cut: Box::new(cut.clone()) });
        let view = later(2, &[(0, 1), (1, 1), (2, 1)]);
        (close, b.command(Command::Install { view, cut: Box::new(cut.clone()) }), b.status())
    };
    let (close, _, status) = ended(Bug::ClosesUndelivered);
    assert_eq!((close, status.position), (vec![Effect::CancelTimer(Timer::Fetch)], 2));
    let (_, install, _) = ended(Bug::ResendsCut);
    assert_eq!(install[0], all_in(2, &[0, 2], data(2, 6, "b1")));
    let (_, _, status) = ended(Bug::ClocksOutliveView);
    assert_eq!(status.clocks, [(id(0), 5), (id(1), 0), (id(2), 5)]);
}

#[test]
#[should_panic = "the cut is gathered"]
fn a_view_is_not_closed_before_its_cut_is_here() {
    let mut b = member();
    b.command(Command::Wedge);
    b.command(Command::Close { cut: Box::new(ending()) });
}

#[test]
fn clocks_and_receipts_begin_at_the_cut() {
    let mut b = member();
    b.command(Command::Wedge);
    let cut = Cut {
        ends: vec![1, 1, 0],
        stable: vec![1, 1, 0],
        begins: vec![1, 1],
        clock: 5,
        position: 2,
        lost: false,
    };
    b.command(Command::Close { cut: Box::new(cut.clone()) });
    b.command(Command::Install { view: later(2, &[(0, 1), (1, 1)]), cut: Box::new(cut) });
    // p1 has been heard up to the floor: not beyond.
    b.hear_in(2, 0, data(2, 6, "a2"));
    assert_eq!(b.fire(Timer::Flush), [all_in(2, &[0], clock(6, 1, &[2, 1]))]);
    assert_eq!(b.status().position, 3);
    b.send(2, "b2");
    assert_eq!(b.hear_in(2, 0, clock(7, 2, &[2, 1])), [], "it has the cut, and no more");
    let now = [delivered(4, 7, 1, 2, "b2"), sent(2, 4)];
    assert_eq!(b.hear_in(2, 0, clock(7, 2, &[2, 2])), now);
}
