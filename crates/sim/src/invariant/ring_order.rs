//! Ring order: a token goes to the next member that wants it.

use super::{
    Invariant, Seen, Who,
    reach::{Known, Reach, circulates, ring_from},
};
use roundelay_core::{
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf},
    tokenring::{Body, LockName, Timer, Token, home},
    view::View,
};
use std::collections::BTreeMap;

/// A resting token is passed to the first member in ring order that wants it according to the
/// token's own vectors; only those are skipped whom the passer cannot reach. Where nobody wants it, it
/// goes to nobody, but to who asks for it at once (a `try`), and after a while to its home. A circulating token goes to the
/// successor, and waits for it. No token goes to who cannot be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RingOrder {
    reach: Reach,
    /// The last pass over each link in a view: what has a smaller number is a repetition.
    passes: BTreeMap<(u64, Who, NodeId), u64>,
    /// The `try` that the present step began with.
    asked: Option<(LockName, usize)>,
    /// The present step looks for idle locks.
    tidies: bool,
}

impl Invariant for RingOrder {
    fn name(&self) -> &'static str {
        "ring_order"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md, resting mode (§5, rule 3; H16)"
    }

    fn paper(&self) -> &'static str {
        "Le Lann 1977; Suzuki and Kasami 1985: the token's two vectors"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.reach.see(who, seen);
        match seen {
            Seen::Input(input) => {
                self.asked = attempt(input);
                self.tidies = matches!(input, Input::Timer(node::Timer::Lock(Timer::Idle)));
                Ok(())
            }
            Seen::Effect(Effect::Send { to, message: node::Message::Lock(message) }) => {
                let Body::Pass { number, lock, token } = &message.body else { return Ok(()) };
                to.peers().iter().try_for_each(|to| {
                    let last = self.passes.entry((message.view, who, *to)).or_default();
                    if *number <= *last {
                        return Ok(());
                    }
                    *last = *number;
                    self.on_pass(who, *to, lock, token)
                })
            }
            _ => Ok(()),
        }
    }
}

impl RingOrder {
    fn on_pass(&self, who: Who, to: NodeId, lock: &LockName, token: &Token) -> Result<(), String> {
        let Some((known, view)) = self.reach.of(who) else {
            return Err(format!("passes {lock} before it uses a view"));
        };
        let (Some(me), Some(at)) = (view.position(who.node), view.position(to)) else {
            return Err(format!("passes {lock} to {to}, which is no member"));
        };
        if !known.reaches(to) {
            return Err(format!("passes {lock} to {to}, which it does not reach"));
        }
        let next = if circulates(view, lock) {
            ring_from(view, me).next()
        } else {
            self.next_wanting(known, view, me, lock, token, at)
        };
        if next == Some(at) {
            return Ok(());
        }
        let next = next.map(|p| view.members[p].id);
        Err(format!("passes {lock} to {to}, not to {next:?}: {token:?}, positions from {me}"))
    }

    /// Who is to get a token of which `asked` has perhaps been asked for at once.
    fn next_wanting(
        &self,
        known: &Known,
        view: &View,
        me: usize,
        lock: &LockName,
        token: &Token,
        asked: usize,
    ) -> Option<usize> {
        let mut reached = ring_from(view, me).filter(|p| known.reaches(view.members[*p].id));
        let wanting = reached.find(|p| token.wanted[*p] > token.served[*p]);
        let attempt = self.asked.as_ref() == Some(&(lock.clone(), asked));
        let idle = self.tidies && home(view, lock) == asked;
        wanting.or_else(|| (attempt || idle).then_some(asked))
    }
}

fn attempt(input: &InputOf<node::Node>) -> Option<(LockName, usize)> {
    let Input::Message { message: node::Message::Lock(message), .. } = input else { return None };
    let Body::Try { lock, requester, .. } = &message.body else { return None };
    Some((lock.clone(), usize::from(*requester)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::{
        detector::State,
        tokenring::{Message, Mode},
    };

    /// Node 1 uses a view of three and reaches both others.
    fn start(mode: Mode) -> Vec<(u64, Line)> {
        let mut history = uses_view(1, mode);
        history.extend([reached(1, 2), reached(1, 3)].concat());
        history
    }

    fn passes(to: u64, number: u64, wanted: [u64; 3], served: [u64; 3]) -> Line {
        sends_token(to, "default", number, wanted, served)
    }

    fn after(start: &[(u64, Line)], line: Line) -> Vec<(u64, Line)> {
        let mut history = start.to_vec();
        history.push((1, line));
        history
    }

    #[test]
    fn an_idle_token_goes_home() {
        let start = start(Mode::Rest);
        let tidies = (1, Line::Input(Input::Timer(node::Timer::Lock(Timer::Idle))));
        let history = |lock: &str, wanted| {
            let pass = (1, sends_token(2, lock, 1, wanted, [0, 0, 0]));
            [start.clone(), vec![tidies.clone(), pass]].concat()
        };
        let view = view_of(1, &[1, 2, 3], &[]);
        let with_home = |at: usize| {
            let mut names = (0..99).map(|k| format!("l{k}"));
            names.find(|name| home(&view, &lock(name)) == at).expect("one of many")
        };
        holds(&mut RingOrder::default(), &history(&with_home(1), [0, 0, 0]));
        breaks(&mut RingOrder::default(), &history(&with_home(1), [0, 0, 1]), "not to");
        breaks(&mut RingOrder::default(), &history(&with_home(2), [0, 0, 0]), "not to");
    }

    #[test]
    fn the_next_that_wants_it_is_fine() {
        let start = start(Mode::Rest);
        let next = after(&start, passes(2, 1, [0, 1, 1], [0, 0, 0]));
        holds(&mut RingOrder::default(), &next);
        let other = after(&start, passes(3, 1, [1, 1, 2], [1, 1, 1]));
        holds(&mut RingOrder::default(), &other);
        // A repetition may come when others want it, too.
        let again = after(&other, passes(3, 1, [1, 9, 2], [1, 1, 1]));
        holds(&mut RingOrder::default(), &again);
    }

    #[test]
    fn a_pass_over_who_waits_is_found() {
        let history = after(&start(Mode::Rest), passes(3, 1, [0, 1, 1], [0, 0, 0]));
        breaks(&mut RingOrder::default(), &history, "not to");
    }

    #[test]
    fn who_is_not_reached_is_skipped_and_gets_nothing() {
        let mut down = start(Mode::Rest);
        down.push((1, Line::Input(Input::LinkDown(id(2)))));
        let mut suspect = start(Mode::Rest);
        suspect.push((1, peer(2, State::Suspect)));
        let mut unconfirmed = start(Mode::Rest);
        unconfirmed.push((1, Line::Input(Input::LinkUp(id(2)))));
        for start in [down, suspect, unconfirmed] {
            let skips = after(&start, passes(3, 1, [0, 1, 1], [0, 0, 0]));
            holds(&mut RingOrder::default(), &skips);
            let passes = after(&start, passes(2, 1, [0, 1, 1], [0, 0, 0]));
            breaks(&mut RingOrder::default(), &passes, "does not reach");
        }
    }

    #[test]
    fn a_pass_to_who_does_not_want_it_is_found() {
        let unwanted = passes(2, 1, [0, 1, 0], [0, 1, 0]);
        let history = start(Mode::Rest);
        breaks(&mut RingOrder::default(), &after(&history, unwanted.clone()), "not to None");
        // Who asks at once may get it.
        let (lock, number) = (lock("default"), 1);
        let body = Body::Try { lock, requester: 1, number, hops: 0 };
        let message = node::Message::Lock(Message { view: 1, body });
        let asks = Line::Input(Input::Message { from: id(3), message });
        holds(&mut RingOrder::default(), &after(&after(&history, asks), unwanted));
    }

    #[test]
    fn a_circulating_token_skips_nobody() {
        let mut history = start(Mode::Circulate);
        holds(&mut RingOrder::default(), &after(&history, passes(2, 1, [0; 3], [0; 3])));
        let skips = passes(3, 1, [0; 3], [0; 3]);
        breaks(&mut RingOrder::default(), &after(&history, skips.clone()), "not to");
        history.push((1, Line::Input(Input::LinkDown(id(2)))));
        breaks(&mut RingOrder::default(), &after(&history, skips), "not to");
    }

    #[test]
    fn a_pass_before_there_is_a_view_is_found() {
        let history = [(1, passes(2, 1, [0, 1, 0], [0; 3]))];
        breaks(&mut RingOrder::default(), &history, "before");
    }
}
