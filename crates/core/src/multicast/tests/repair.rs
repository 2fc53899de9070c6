//! What makes up for losses: exact effects.

use super::*;

#[test]
fn a_gap_is_asked_for_and_filled() {
    let (mut a, mut b) = (Hand::new(0, 3), Hand::new(1, 3));
    a.send(1, "x");
    a.send(2, "y");
    a.send(3, "z");
    assert_eq!(b.hear(0, data(3, 3, "z")), [flush(), heartbeat()]);
    let ask = Body::Want { from: 1, to: 2 };
    let asked = [want(), one(0, ask.clone())];
    assert_eq!(b.fire(Timer::Flush), asked, "nothing received, nothing owed");
    // Again, but not before the interval is over.
    b.hear(0, data(3, 3, "z"));
    assert_eq!(b.fire(Timer::Flush), []);
    let answer = [one(1, data(1, 1, "x")), one(1, data(2, 2, "y")), flush()];
    assert_eq!(a.hear(1, ask.clone()), answer);
    assert_eq!(a.fire(Timer::Flush), [one(1, clock(3, 3, &[3, 0, 0]))]);
    assert_eq!(b.fire(Timer::Want), asked);
    b.hear(0, data(1, 1, "x"));
    b.hear(0, data(2, 2, "y"));
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(3, 0, &[3, 0, 0]))]);
    assert_eq!(b.fire(Timer::Want), [], "nothing is missing");
    assert_eq!(a.status().resent, 2);
}

#[test]
fn a_missing_tail_is_not_asked_for() {
    let mut b = Hand::new(1, 3);
    // Clocks may overtake messages: the messages are probably under way.
    assert_eq!(b.hear(0, clock(2, 2, &[2, 0, 0])), [heartbeat()]);
    b.hear(0, data(1, 1, "x"));
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(2, 0, &[1, 0, 0]))]);
    // Its clock shows what it lacks, for as long as it lacks it.
    b.pass(HEARTBEAT);
    let told = all(&[0, 2], clock(2, 0, &[1, 0, 0]));
    let poll = one(2, Body::Want { from: 1, to: 0 });
    assert_eq!(b.fire(Timer::Heartbeat), [told, poll, heartbeat()]);
}

#[test]
fn a_message_in_pieces_is_received_when_all_are_here() {
    let mut a = Hand::with(Config { fragment_bytes: 2, ..config(0) }, 3);
    let sent = a.send(1, "abcde");
    let pieces = ["ab", "cd", "e"];
    let expected = (0..3).map(|index| all(&[1, 2], piece(1, 1, index, 3, pieces[index as usize])));
    assert_eq!(sent[..3], expected.collect::<Vec<_>>());

    let mut b = Hand::new(1, 3);
    b.hear(2, clock(9, 0, &[0, 0, 0]));
    assert_eq!(b.hear(0, piece(1, 1, 2, 3, "e")), [heartbeat()]);
    b.hear(0, piece(1, 1, 0, 3, "ab"));
    b.hear(0, piece(1, 1, 0, 3, "ab"));
    // T5: the header only fixes the place. A later message, complete, has to wait.
    b.hear(0, data(2, 2, "f"));
    assert!(b.status().queue.is_empty());
    let both = [delivered(1, 1, 0, 1, "abcde"), delivered(2, 2, 0, 2, "f")];
    assert_eq!(b.hear(0, piece(1, 1, 1, 3, "cd")), both);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(9, 0, &[2, 0, 0]))]);
}

#[test]
fn pieces_that_do_not_fit_together_are_ignored() {
    let mut b = Hand::with(Config { message_bytes_max: 4, fragment_bytes: 1, ..config(1) }, 3);
    b.hear(0, piece(1, 1, 0, 2, "abc"));
    for wrong in [piece(1, 2, 1, 2, "d"), piece(1, 1, 1, 3, "d"), piece(1, 1, 1, 2, "de")] {
        b.hear(0, wrong);
    }
    assert_eq!(b.status().ignored, 3);
    b.hear(0, piece(1, 1, 1, 2, "d"));
    assert_eq!(b.status().queue.len(), 1);
}

#[test]
fn early_messages_are_bounded() {
    let mut b =
        Hand::with(Config { message_bytes_max: 10, unstable_bytes_max: 30, ..config(1) }, 3);
    b.hear(0, data(2, 2, "12345678"));
    b.hear(0, data(3, 3, "12345678"));
    assert_eq!(b.hear(0, data(1, 1, "12345678")), []);
    let queue = b.status().queue.len();
    assert_eq!(queue, 2, "the third had no room, and is sent again");
    b.hear(0, data(3, 3, "12345678"));
    assert_eq!(b.status().queue.len(), 3);
    assert_eq!(b.status().ignored, 0);
}

#[test]
fn what_is_not_acknowledged_is_repeated_and_ever_more_slowly() {
    let mut a = Hand::new(0, 3);
    a.send(1, "x");
    a.hear(1, clock(1, 0, &[1, 0, 0]));
    a.pass(HEARTBEAT);
    let told = all(&[1, 2], clock(1, 1, &[1, 0, 0]));
    let poll = one(2, Body::Want { from: 1, to: 0 });
    // The clock is repeated, and who is waited for is asked for its own.
    assert_eq!(a.fire(Timer::Heartbeat), [told.clone(), poll.clone(), heartbeat()]);
    let mut resent = vec![];
    for _ in 0..40 {
        a.pass(HEARTBEAT);
        let mut effects = a.fire(Timer::Heartbeat);
        resent.push(effects.contains(&one(2, data(1, 1, "x"))));
        effects.retain(|effect| *effect != one(2, data(1, 1, "x")));
        assert_eq!(effects, [told.clone(), poll.clone(), heartbeat()]);
    }
    let times: Vec<_> = (0..40).filter(|beat| resent[*beat]).collect();
    assert_eq!(times, [0, 2, 6, 14, 30]);
    a.hear(2, clock(1, 0, &[1, 0, 0]));
    assert_eq!(a.fire(Timer::Heartbeat), []);
}

#[test]
fn a_repetition_that_was_not_needed_is_answered() {
    let mut b = Hand::new(1, 3);
    b.hear(0, data(1, 1, "x"));
    b.hear(2, clock(1, 0, &[1, 0, 0]));
    b.fire(Timer::Flush);
    // The clock was lost, and p1 does not know.
    assert_eq!(b.hear(0, data(1, 1, "x")), [flush()]);
    assert_eq!(b.fire(Timer::Flush), [one(0, clock(1, 0, &[1, 0, 0]))]);
    assert_eq!(b.hear(0, Body::Want { from: 1, to: 0 }), [flush()]);
    assert_eq!(b.fire(Timer::Flush), [one(0, clock(1, 0, &[1, 0, 0]))]);
}

/// The messages among these effects.
fn sequences(effects: &[Out]) -> Vec<u64> {
    let data = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message: Message { body: Body::Data { sequence, .. }, .. }, .. } => {
            Some(*sequence)
        }
        _ => None,
    });
    data.collect()
}

/// A member of two that has sent so many messages, one after the other.
fn sender(messages: u64) -> Hand {
    let large = Config { unstable_bytes_max: 1 << 20, unread_bytes_max: 1 << 20, ..config(0) };
    let mut a = Hand::with(large, 2);
    for ticket in 1..=messages {
        a.send(ticket, "x");
    }
    a
}

#[test]
fn a_new_link_brings_what_is_not_acknowledged_part_by_part() {
    let mut a = sender(600);
    let effects = a.handle(Input::LinkUp(id(1)));
    assert_eq!(sequences(&effects), (1..=256).collect::<Vec<_>>());
    assert_eq!(effects.last(), Some(&one(1, clock(600, 600, &[600, 0]))));
    // A question about what is under way is not answered twice.
    assert_eq!(sequences(&a.hear(1, Body::Want { from: 1, to: 600 })), []);
    assert_eq!(sequences(&a.hear(1, clock(200, 0, &[200, 0]))), []);
    let next = a.hear(1, clock(256, 0, &[256, 0]));
    assert_eq!(sequences(&next), (257..=512).collect::<Vec<_>>());
    let next = a.hear(1, clock(512, 0, &[512, 0]));
    assert_eq!(sequences(&next), (513..=600).collect::<Vec<_>>());
    assert_eq!(sequences(&a.hear(1, clock(600, 0, &[600, 0]))), []);
    assert_eq!(a.status().position, 600);
}

#[test]
fn of_what_is_not_acknowledged_the_oldest_is_repeated_and_then_ever_more() {
    let mut a = sender(10);
    a.hear(1, clock(10, 0, &[2, 0]));
    a.pass(REPEAT);
    assert_eq!(sequences(&a.fire(Timer::Heartbeat)), [3]);
    assert_eq!(sequences(&a.fire(Timer::Heartbeat)), []);
    // That is what was lost, and the others with it.
    assert_eq!(sequences(&a.hear(1, clock(10, 0, &[3, 0]))), [4, 5]);
    assert_eq!(sequences(&a.hear(1, clock(10, 0, &[4, 0]))), [], "the other is under way");
    assert_eq!(sequences(&a.hear(1, clock(10, 0, &[5, 0]))), [6, 7, 8, 9]);
    assert_eq!(sequences(&a.hear(1, clock(10, 0, &[9, 0]))), [10]);
}

#[test]
fn what_was_only_late_is_not_repeated() {
    let mut a = sender(10);
    a.pass(REPEAT);
    assert_eq!(sequences(&a.fire(Timer::Heartbeat)), [1]);
    assert_eq!(sequences(&a.hear(1, clock(10, 0, &[4, 0]))), []);
    assert_eq!(sequences(&a.hear(1, clock(10, 0, &[5, 0]))), []);
    a.pass(REPEAT);
    assert_eq!(sequences(&a.fire(Timer::Heartbeat)), [], "it has taken longer than that before");
}

#[test]
fn a_question_is_answered_while_the_oldest_is_repeated() {
    let mut a = sender(10);
    a.pass(REPEAT);
    assert_eq!(sequences(&a.fire(Timer::Heartbeat)), [1]);
    assert_eq!(sequences(&a.hear(1, Body::Want { from: 1, to: 4 })), [1, 2, 3, 4]);
}

#[test]
fn slow_acknowledgements_are_no_losses() {
    let mut a = sender(0);
    // A message every 10 ms; they are acknowledged 400 to 800 ms later, many at a time.
    for tick in 1..=1000 {
        a.pass(Duration::from_millis(10));
        a.send(tick, "x");
        if tick % 5 == 0 {
            a.fire(Timer::Heartbeat);
        }
        if tick % 40 == 0 {
            let received = tick - 40;
            a.hear(1, clock(received, 0, &[received, 0]));
        }
    }
    let resent = a.status().resent;
    assert!(resent <= 10, "{resent} of 1000 messages were sent again");
}
