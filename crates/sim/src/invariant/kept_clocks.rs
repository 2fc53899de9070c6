//! Kept clocks: a clock is a promise about what its sender sends later.

use super::{Invariant, Seen, Who};
use roundelay_core::{multicast::Body, node, protocol::Effect};
use std::collections::BTreeMap;

/// Whoever has said "all I send after sequence *s* is later than *T*" sends nothing after *s* that
/// is not, in that view; messages are numbered one by one, and sent again only as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeptClocks {
    /// By life and view.
    promises: BTreeMap<(Who, u64), Promise>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Promise {
    /// All that is sent from now on is later than this.
    clock: u64,
    /// The last sequence before the view, once it is known.
    begin: Option<u64>,
    /// The times of what was sent since then, by sequence.
    times: Vec<u64>,
}

impl Invariant for KeptClocks {
    fn name(&self) -> &'static str {
        "kept_clocks"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md, T1: clocks are promises with a sequence"
    }

    fn paper(&self) -> &'static str {
        "Lamport 1978, rules IR1 and IR2"
    }

    fn allows_gaps(&self) -> bool {
        true
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Effect(Effect::Send { message: node::Message::Order(message), .. }) = seen else {
            return Ok(());
        };
        match message.body {
            Body::Data { sequence, time, .. } => self.of(who, message.view).send(sequence, time),
            Body::Clock { time, after, .. } => self.of(who, message.view).tell(time, after),
            _ => Ok(()),
        }
    }
}

impl KeptClocks {
    fn of(&mut self, who: Who, view: u64) -> &mut Promise {
        let begin = (view == 1).then_some(0);
        let blank = || Promise { begin, ..Promise::default() };
        self.promises.entry((who, view)).or_insert_with(blank)
    }
}

impl Promise {
    fn send(&mut self, sequence: u64, time: u64) -> Result<(), String> {
        let begin = *self.begin.get_or_insert(sequence.saturating_sub(1));
        let last = begin + self.times.len() as u64;
        if sequence <= begin || sequence > last + 1 {
            return Err(format!("sends number {sequence} after {last}"));
        }
        if let Some(before) = self.times.get((sequence - begin) as usize - 1) {
            // A piece more, or once more.
            return if *before == time {
                Ok(())
            } else {
                Err(format!("sends number {sequence} with time {time}, before with {before}"))
            };
        }
        let clock = self.clock;
        if time <= clock {
            return Err(format!(
                "sends number {sequence} with time {time}, promised after {clock}"
            ));
        }
        self.clock = time;
        self.times.push(time);
        Ok(())
    }

    fn tell(&mut self, time: u64, after: u64) -> Result<(), String> {
        let begin = *self.begin.get_or_insert(after);
        let last = begin + self.times.len() as u64;
        if !(begin..=last).contains(&after) {
            return Err(format!("speaks of number {after}, but has sent only {last}"));
        }
        let next = self.times.get((after - begin) as usize);
        if let Some(next) = next.filter(|next| **next <= time) {
            return Err(format!("says that all after {after} is later than {time}, not {next}"));
        }
        self.clock = self.clock.max(time);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn first() -> (u64, Line) {
        (1, sends_data(1, 5, (0, 2), "x"))
    }

    #[test]
    fn later_messages_pieces_and_repetitions_are_fine() {
        let history = [
            first(),
            (1, sends_data(1, 5, (1, 2), "x")),
            (1, sends_clock(8, 1, &[1])),
            (1, sends_data(2, 9, (0, 1), "y")),
            (1, sends_data(1, 5, (0, 2), "x")),
            (1, sends_clock(8, 1, &[1])),
            (1, sends_clock(9, 2, &[2])),
            (2, sends_data(1, 1, (0, 1), "z")),
        ];
        holds(&mut KeptClocks::default(), &history);
    }

    #[test]
    fn a_broken_promise_is_found() {
        let clock = [(1, sends_clock(5, 0, &[0])), first()];
        breaks(&mut KeptClocks::default(), &clock, "promised after 5");
        let message = [first(), (1, sends_data(2, 5, (0, 1), "y"))];
        breaks(&mut KeptClocks::default(), &message, "promised after 5");
    }

    #[test]
    fn a_promise_that_is_broken_already_is_found() {
        let history = [first(), (1, sends_clock(5, 0, &[0]))];
        breaks(&mut KeptClocks::default(), &history, "not 5");
        breaks(&mut KeptClocks::default(), &[(1, sends_clock(5, 1, &[1]))], "has sent only 0");
    }

    #[test]
    fn a_new_number_or_time_for_an_old_message_is_found() {
        let again = [first(), (1, sends_data(1, 6, (1, 2), "x"))];
        breaks(&mut KeptClocks::default(), &again, "before with 5");
        let gap = [first(), (1, sends_data(3, 6, (0, 1), "z"))];
        breaks(&mut KeptClocks::default(), &gap, "number 3 after 1");
    }

    #[test]
    fn in_the_next_view_numbers_go_on_and_clocks_begin_anew() {
        let next = |line| (1, in_view(2, line));
        let start = [
            first(),
            next(sends_clock(2, 1, &[1])),
            next(sends_data(2, 3, (0, 1), "y")),
            next(sends_clock(4, 2, &[2])),
        ];
        holds(&mut KeptClocks::default(), &start);
        let early = [&start[..], &[next(sends_data(3, 4, (0, 1), "z"))]].concat();
        breaks(&mut KeptClocks::default(), &early, "promised after 4");
        let back = [&start[..], &[next(sends_data(1, 5, (0, 2), "x"))]].concat();
        breaks(&mut KeptClocks::default(), &back, "number 1 after 2");
    }
}
