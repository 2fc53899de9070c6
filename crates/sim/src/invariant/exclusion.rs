//! Mutual exclusion: of one lock there are never two valid guards.

use super::{End, Invariant, Seen, Who};
use roundelay_core::{
    node,
    protocol::Effect,
    time::Time,
    tokenring::{Event, LockName, Ticket},
};

/// At no moment of true time there are two valid guards of one lock. A guard is valid from its grant
/// on until it is released or lost, and as long as the clock of its node shows less than the end of
/// the lease that the node knew after its last step: a paused node does not know that it is over,
/// and neither does the client of a node that has crashed. A guard that was not valid when the lock
/// was granted to another never is again (H7), and none is granted that is not valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exclusion {
    guards: Vec<Guard>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Guard {
    lock: LockName,
    who: Who,
    ticket: Ticket,
    fence: u64,
    /// Valid until then, in true time; none in the step in which it is granted.
    until: Option<Time>,
    /// The fence of a grant to another since then.
    passed_over: Option<u64>,
}

impl Invariant for Exclusion {
    fn name(&self) -> &'static str {
        "exclusion"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md: exclusion (H5, H6, H7; the lease rule)"
    }

    fn paper(&self) -> &'static str {
        "Dijkstra 1965: mutual exclusion; Gray and Cheriton 1989: leases"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Effect(Effect::Emit(node::Event::Lock(event))) => self.on_event(who, event),
            Seen::End(end) => self.on_end(who, end),
            _ => Ok(()),
        }
    }
}

impl Exclusion {
    fn on_event(&mut self, who: Who, event: &Event) -> Result<(), String> {
        match event {
            Event::Granted { lock, ticket, fence } => {
                // Its own holder is no matter of leases.
                if let Some(holder) = self.guards.iter().find(|g| g.lock == *lock && g.who == who) {
                    return Err(format!("{lock} is granted, but is held: {holder:?}"));
                }
                let (lock, ticket, fence) = (lock.clone(), *ticket, *fence);
                let (until, passed_over) = (None, None);
                self.guards.push(Guard { lock, who, ticket, fence, until, passed_over });
                Ok(())
            }
            Event::Released { lock, ticket, fence } | Event::Lost { lock, ticket, fence, .. } => {
                let is_it = |g: &Guard| {
                    g.lock == *lock && (g.who, g.ticket, g.fence) == (who, *ticket, *fence)
                };
                match self.guards.iter().position(is_it) {
                    Some(at) => {
                        self.guards.swap_remove(at);
                        Ok(())
                    }
                    None => Err(format!("{event:?}, but there is no such guard")),
                }
            }
            _ => Ok(()),
        }
    }

    fn on_end(&mut self, who: Who, end: &End<'_>) -> Result<(), String> {
        for at in 0..self.guards.len() {
            if self.guards[at].who != who {
                continue;
            }
            let guard = &mut self.guards[at];
            let is_new = guard.until.is_none();
            // Whoever ends within a step tells its clients nothing new.
            if is_new || !end.ended {
                guard.until = Some(end.lease_until);
            }
            let valid = |guard: &Guard| guard.until.is_none_or(|until| end.time < until);
            let guard = &self.guards[at];
            if !valid(guard) {
                if is_new {
                    return Err(format!("grants a lock without a lease: {guard:?}"));
                }
                continue;
            }
            if let Some(fence) = guard.passed_over {
                return Err(format!("{guard:?} is valid again after grant {fence} to another"));
            }
            let others = |(other, guard_of): (usize, &Guard)| {
                other != at && guard_of.lock == guard.lock && valid(guard_of)
            };
            if let Some((_, other)) = self.guards.iter().enumerate().find(|pair| others(*pair)) {
                return Err(format!("{guard:?} and {other:?} are valid at once"));
            }
            if is_new {
                let (lock, fence) = (guard.lock.clone(), guard.fence);
                let others = self.guards.iter_mut().enumerate();
                for (_, other) in others.filter(|(other, g)| *other != at && g.lock == lock) {
                    other.passed_over = Some(fence);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::tokenring::Loss;

    fn lost(name: &str, ticket: u64, fence: u64) -> Line {
        let reason = Loss::LeaseEnded;
        lock_event(Event::Lost { lock: lock(name), ticket, fence, reason })
    }

    #[test]
    fn one_after_the_other_is_fine_and_locks_are_independent() {
        let history = [
            (1, granted("a", 1, 1)),
            (1, end(10, 100)),
            (2, granted("b", 1, 1)),
            (2, end(11, 100)),
            (1, released("a", 1, 1)),
            (1, end(12, 100)),
            (2, granted("a", 2, 2)),
            (2, end(13, 100)),
        ];
        holds(&mut Exclusion::default(), &history);
    }

    #[test]
    fn two_holders_are_found() {
        let history = [
            (1, granted("a", 1, 1)),
            (1, end(10, 100)),
            (2, granted("a", 1, 2)),
            (2, end(99, 200)),
        ];
        breaks(&mut Exclusion::default(), &history, "valid at once");
    }

    #[test]
    fn two_holders_at_one_node_are_found() {
        let history = [(1, granted("a", 1, 1)), (1, end(1, 9)), (1, granted("a", 2, 2))];
        breaks(&mut Exclusion::default(), &history, "is held");
    }

    #[test]
    fn a_release_by_somebody_else_is_found() {
        let history = [(1, granted("a", 1, 1)), (1, end(1, 9)), (2, released("a", 1, 1))];
        breaks(&mut Exclusion::default(), &history, "no such guard");
    }

    /// Node 1 has the lock until 100 for all that it knows, and then node 2 gets it.
    fn after_the_lease() -> Vec<(u64, Line)> {
        vec![
            (1, granted("a", 1, 1)),
            (1, end(10, 50)),
            (1, end(20, 100)),
            (2, granted("a", 1, 2)),
            (2, end(100, 200)),
        ]
    }

    #[test]
    fn whose_lease_has_ended_has_no_guard() {
        let mut history = after_the_lease();
        history.extend([(1, lost("a", 1, 1)), (1, end(300, 400)), (2, released("a", 1, 2))]);
        holds(&mut Exclusion::default(), &history);
        // It need not know.
        history.truncate(5);
        history.push((1, end(150, 100)));
        holds(&mut Exclusion::default(), &history);
    }

    #[test]
    fn a_guard_that_revives_is_found() {
        let mut history = after_the_lease();
        history.push((2, released("a", 1, 2)));
        history.push((1, end(150, 250)));
        breaks(&mut Exclusion::default(), &history, "valid again");
    }

    #[test]
    fn a_grant_without_a_lease_is_found() {
        let history = [(1, granted("a", 1, 1)), (1, end(10, 10))];
        breaks(&mut Exclusion::default(), &history, "without a lease");
    }

    #[test]
    fn the_client_of_a_dead_node_lives_on() {
        let mut history = after_the_lease();
        history.truncate(3);
        history.push((1, ends_at(30, 500)));
        let later = [history.clone(), vec![(2, granted("a", 1, 2)), (2, end(100, 200))]].concat();
        holds(&mut Exclusion::default(), &later);
        let sooner = [history, vec![(2, granted("a", 1, 2)), (2, end(99, 200))]].concat();
        breaks(&mut Exclusion::default(), &sooner, "valid at once");
    }
}
