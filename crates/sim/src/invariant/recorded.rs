//! Recorded: what a token has been told of a request it never forgets.

use super::{End, Invariant, Seen, Who, reach::Reach};
use roundelay_core::{
    id::NodeId,
    node,
    protocol::{Effect, To},
    tokenring::{Body, LockName, Token},
    view::View,
};
use std::collections::BTreeMap;

/// Whoever sends on the request of another, or acknowledges it, has recorded it: the next token
/// that it passes on in that view has it, unless it has forgotten the lock since. From pass to pass neither the vectors of a token nor its sequence go back, and only
/// the turn of a member says that it was served. Of a token that is forgotten where it is only the
/// sequence is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recorded {
    reach: Reach,
    /// The last pass over each link in a view: what has a smaller number is a repetition.
    passes: BTreeMap<(u64, Who, NodeId), u64>,
    /// Per view, life and lock: the newest request of each position that it must know.
    records: BTreeMap<(u64, Who, LockName), Vec<u64>>,
    /// The tokens of each view as they were passed last.
    tokens: BTreeMap<(u64, LockName), Token>,
    /// What each life remembered after its last step, and in which view: locks, and whether their
    /// tokens were there.
    known: BTreeMap<Who, (u64, Vec<(LockName, bool)>)>,
}

impl Invariant for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md, resting mode (§5, rules 2 and 3; H12, H13)"
    }

    fn paper(&self) -> &'static str {
        "Suzuki and Kasami 1985; Naimi, Trehel and Arnold 1996: requests along the last passes"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.reach.see(who, seen);
        match seen {
            Seen::Effect(Effect::Send { to, message: node::Message::Lock(message) }) => {
                self.on_send(who, to, &message.body)
            }
            Seen::End(end) if !end.ended => {
                self.on_end(who, end);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Recorded {
    fn on_send(&mut self, who: Who, to: &To, body: &Body) -> Result<(), String> {
        let Some((_, view)) = self.reach.of(who) else { return Ok(()) };
        let number_of_view = view.number;
        match body {
            Body::Request { lock, requester, number, .. } => {
                let position = usize::from(*requester);
                // An own one may be over: refused by a home that has no room for the lock.
                if view.position(who.node) != Some(position) {
                    record(&mut self.records, (who, lock), view, position, *number);
                }
            }
            Body::Recorded { lock, number } => {
                for position in to.peers().iter().filter_map(|peer| view.position(*peer)) {
                    record(&mut self.records, (who, lock), view, position, *number);
                }
            }
            Body::Pass { number, lock, token } => {
                let Some(me) = view.position(who.node) else { return Ok(()) };
                for to in to.peers() {
                    let last = self.passes.entry((number_of_view, who, *to)).or_default();
                    if *number > *last {
                        *last = *number;
                        self.on_pass((number_of_view, who), me, lock, token)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Forgets with the node what it has forgotten.
    fn on_end(&mut self, who: Who, end: &End<'_>) {
        let Some((_, view)) = self.reach.of(who) else { return };
        let number = view.number;
        let known = end.known.iter().map(|lock| (lock.clone(), end.tokens.contains(lock)));
        let Some((before, known)) = self.known.insert(who, (number, known.collect())) else {
            return;
        };
        let forgotten =
            known.into_iter().filter(|(lock, _)| end.known.binary_search(lock).is_err());
        for (lock, had_token) in forgotten.filter(|_| before == number) {
            self.records.remove(&(number, who, lock.clone()));
            if let Some(token) = self.tokens.get_mut(&(number, lock)).filter(|_| had_token) {
                token.wanted.fill(0);
                token.served.fill(0);
            }
        }
    }

    fn on_pass(
        &mut self,
        (view, who): (u64, Who),
        me: usize,
        lock: &LockName,
        token: &Token,
    ) -> Result<(), String> {
        if let Some(records) = self.records.get(&(view, who, lock.clone()))
            && let Some(position) = behind(&token.wanted, records)
        {
            let number = records[position];
            return Err(format!("passes {lock} without request {number} of {position}: {token:?}"));
        }
        let Some(before) = self.tokens.insert((view, lock.clone()), token.clone()) else {
            return Ok(());
        };
        let back = behind(&token.wanted, &before.wanted).is_some()
            || behind(&token.served, &before.served).is_some()
            || token.sequence < before.sequence;
        let mut others = (0..token.served.len()).filter(|p| *p != me);
        if back {
            Err(format!("passes {lock} with {token:?}, but it was {before:?}"))
        } else if let Some(position) = others.find(|p| token.served[*p] > before.served[*p]) {
            Err(format!("passes {lock} as if {position} had been served: {token:?}, {before:?}"))
        } else {
            Ok(())
        }
    }
}

fn record(
    records: &mut BTreeMap<(u64, Who, LockName), Vec<u64>>,
    (who, lock): (Who, &LockName),
    view: &View,
    position: usize,
    number: u64,
) {
    let record =
        records.entry((view.number, who, lock.clone())).or_insert_with(|| vec![0; view.len()]);
    record[position] = record[position].max(number);
}

/// A position at which `now` is behind `before`.
fn behind(now: &[u64], before: &[u64]) -> Option<usize> {
    now.iter().zip(before).position(|(now, before)| now < before)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::tokenring::Mode;

    fn start() -> Vec<(u64, Line)> {
        [uses_view(1, Mode::Rest), uses_view(2, Mode::Rest)].concat()
    }

    fn after(lines: &[(u64, Line)]) -> Vec<(u64, Line)> {
        let mut history = start();
        history.extend(lines.iter().cloned());
        history
    }

    fn forwards(requester: u16, number: u64) -> Line {
        says(2, Body::Request { lock: lock("a"), requester, number, hops: 1 })
    }

    #[test]
    fn what_is_forgotten_begins_anew_but_for_its_sequence() {
        let forgets = (1, tokens(&[]));
        let forgotten = after(&[
            (2, sends_token(1, "a", 1, [2, 7, 5], [1, 7, 0])),
            (1, forwards(2, 4)),
            (1, tokens(&["a"])),
            forgets,
        ]);
        let anew = (1, sends_token(2, "a", 1, [0, 8, 0], [0, 0, 0]));
        holds(&mut Recorded::default(), &[forgotten, vec![anew.clone()]].concat());
        let here = after(&[(2, sends_token(1, "a", 1, [2, 7, 5], [1, 7, 0])), (1, tokens(&["a"]))]);
        breaks(&mut Recorded::default(), &[here, vec![anew]].concat(), "but it was");
    }

    #[test]
    fn what_is_recorded_goes_with_the_token() {
        let history = after(&[
            (1, forwards(2, 4)),
            (1, says(2, Body::Recorded { lock: lock("a"), number: 7 })),
            (1, sends_token(2, "a", 1, [1, 7, 4], [1, 0, 0])),
            (2, sends_token(1, "a", 1, [2, 7, 5], [1, 7, 0])),
        ]);
        holds(&mut Recorded::default(), &history);
    }

    #[test]
    fn a_request_that_went_by_and_is_forgotten_is_found() {
        let pass = sends_token(2, "a", 1, [1, 7, 3], [1, 0, 0]);
        let history = after(&[(1, forwards(2, 4)), (1, pass)]);
        breaks(&mut Recorded::default(), &history, "without request 4");
    }

    #[test]
    fn an_own_request_may_be_over() {
        let pass = sends_token(2, "a", 1, [1, 7, 3], [1, 0, 0]);
        holds(&mut Recorded::default(), &after(&[(1, forwards(0, 4)), (1, pass)]));
    }

    #[test]
    fn an_acknowledged_request_that_is_forgotten_is_found() {
        let recorded = says(2, Body::Recorded { lock: lock("a"), number: 7 });
        let history = after(&[(1, recorded), (1, sends_token(2, "a", 1, [1, 6, 3], [1, 0, 0]))]);
        breaks(&mut Recorded::default(), &history, "without request 7");
    }

    #[test]
    fn a_token_that_goes_back_is_found() {
        let first = (1, sends_token(2, "a", 1, [1, 7, 4], [1, 0, 0]));
        for wrong in [
            sends_token(1, "a", 1, [1, 7, 3], [1, 7, 0]),
            sends_token(1, "a", 1, [1, 7, 4], [0, 7, 0]),
        ] {
            let history = after(&[first.clone(), (2, wrong)]);
            breaks(&mut Recorded::default(), &history, "but it was");
        }
    }

    #[test]
    fn a_turn_that_was_never_had_is_found() {
        let history = after(&[
            (1, sends_token(2, "a", 1, [1, 7, 4], [1, 0, 0])),
            (2, sends_token(1, "a", 1, [1, 7, 4], [1, 7, 4])),
        ]);
        breaks(&mut Recorded::default(), &history, "as if 2");
    }
}
