//! Durability: with logs on disk, nothing is lost by restarts.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    id::NodeId,
    node,
    protocol::{Effect, Input},
};
use std::collections::BTreeSet;

/// As long as all nodes that were members have durable logs, and all of them keep their disks, no
/// view begins with a loss. (So what was delivered stays in the order, at its position: that is
/// view synchrony.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Durability {
    /// Who has saved that it is a member,
    members: BTreeSet<NodeId>,
    /// and has a log since.
    logged: BTreeSet<NodeId>,
    /// A member has come back without its disk.
    forgotten: bool,
}

impl Invariant for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: writing ahead (T9)"
    }

    fn paper(&self) -> &'static str {
        "Mohan et al. 1992: write-ahead logging"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(Input::Start(saved)) => {
                self.forgotten |= saved.is_none() && self.members.contains(&who.node);
            }
            Seen::Effect(Effect::Save(_)) => {
                self.members.insert(who.node);
            }
            Seen::Effect(Effect::Append(_)) => {
                self.logged.insert(who.node);
            }
            Seen::Effect(Effect::Emit(node::Event::View { view, loss: true, .. }))
                if !self.forgotten && self.members.is_subset(&self.logged) =>
            {
                return Err(format!("view {} begins with a loss", view.number));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn with_logs() -> Vec<(u64, Line)> {
        vec![(1, saves(None)), (1, appends(1)), (2, saves(None)), (2, appends(1))]
    }

    fn and(mut history: Vec<(u64, Line)>, more: Vec<(u64, Line)>) -> Vec<(u64, Line)> {
        history.extend(more);
        history
    }

    #[test]
    fn a_loss_is_none_if_all_have_their_logs() {
        let history = and(with_logs(), vec![(1, starts_again()), (1, loses())]);
        breaks(&mut Durability::default(), &history, "begins with a loss");
    }

    #[test]
    fn a_disk_that_is_gone_and_a_member_without_a_log_excuse_it() {
        let history = and(with_logs(), vec![(2, starts()), (1, loses())]);
        holds(&mut Durability::default(), &history);
        let history = and(with_logs(), vec![(3, saves(None)), (1, loses())]);
        holds(&mut Durability::default(), &history);
    }
}
