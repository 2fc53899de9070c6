//! View synchrony: whoever goes on from one view to the next has delivered the same in the first.

use super::{Invariant, Seen, Who, views::Views};
use roundelay_core::{multicast::Event, node, protocol::Effect};
use std::collections::BTreeMap;

/// All who go on into a view have delivered the order up to its base, exactly, and nobody ever
/// delivers more than that in the view before: not even those who are left out of it, crash, or
/// never hear of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ViewSynchrony {
    views: Views,
    /// The base of each view.
    bases: BTreeMap<u64, u64>,
    /// The last position that each life has delivered, or was told that it has missed.
    last: BTreeMap<Who, u64>,
    /// The last position that anybody has delivered in a view.
    ends: BTreeMap<u64, u64>,
    /// Whether there is an order. Where there is none, a loss skips positions all the same.
    orders: bool,
}

impl Invariant for ViewSynchrony {
    fn name(&self) -> &'static str {
        "view_synchrony"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md: the cut (V2, T6)"
    }

    fn paper(&self) -> &'static str {
        "Birman and Joseph 1987; Chockler, Keidar and Vitenberg 2001: virtual synchrony"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Effect(Effect::Emit(node::Event::View { view, joins, loss, position })) => {
                let result = self.on_view(who, view.number, (*joins, *loss), *position);
                self.views.see(who, seen);
                result
            }
            Seen::Effect(Effect::Emit(node::Event::Out { .. })) => {
                self.views.see(who, seen);
                Ok(())
            }
            Seen::Effect(Effect::Emit(node::Event::Order(event))) => {
                self.orders = true;
                self.on_event(who, event)
            }
            _ => Ok(()),
        }
    }
}

impl ViewSynchrony {
    fn on_event(&mut self, who: Who, event: &Event) -> Result<(), String> {
        match event {
            Event::Delivered(delivery) => self.on_delivered(who, delivery.position),
            Event::Missed { to, .. } => {
                self.last.insert(who, *to);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_view(
        &mut self,
        who: Who,
        view: u64,
        (joins, loss): (bool, bool),
        position: u64,
    ) -> Result<(), String> {
        self.bases.insert(view, position);
        let end = view.checked_sub(1).and_then(|before| self.ends.get(&before)).copied();
        if let Some(end) = end.filter(|end| *end > position) {
            return Err(format!(
                "view {view} begins at {position}, but {end} was delivered before"
            ));
        }
        if view == 1 || joins || loss {
            // What was lost is skipped.
            if loss || view == 1 {
                let last = self.last.entry(who).or_default();
                *last = (*last).max(position);
            }
            return Ok(());
        }
        let last = self.last.get(&who).copied().unwrap_or(0);
        if last == position || !self.orders {
            Ok(())
        } else {
            Err(format!("view {view} begins at {position}, but it has delivered {last}"))
        }
    }

    fn on_delivered(&mut self, who: Who, position: u64) -> Result<(), String> {
        self.last.insert(who, position);
        // Who is in no view learns what others have delivered.
        let Some(view) = self.views.number(who) else { return Ok(()) };
        let base = self.bases.get(&(view + 1)).copied();
        if let Some(base) = base.filter(|base| *base < position) {
            return Err(format!("delivers {position} in view {view}, which ends with {base}"));
        }
        let end = self.ends.entry(view).or_default();
        *end = (*end).max(position);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// Nodes 1 to 3 use view 1, and node 1 has delivered a message.
    fn and(more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        let mut history: Vec<_> = (1..=3).map(|n| (n, installed())).collect();
        history.push((1, delivers(1, 5, 1, 1, "x")));
        history.extend_from_slice(more);
        history
    }

    #[test]
    fn all_who_go_on_have_delivered_the_cut() {
        let more = [
            (1, installs_next(&[1, 2], &[], 1)),
            (2, delivers(1, 5, 1, 1, "x")),
            (2, installs_next(&[1, 2], &[], 1)),
            (2, delivers(2, 6, 2, 1, "y")),
            // Who is left out may have less, and learn the rest.
            (3, out(false)),
            (3, delivers(1, 5, 1, 1, "x")),
            (3, delivers(2, 6, 2, 1, "y")),
        ];
        holds(&mut ViewSynchrony::default(), &and(&more));
    }

    #[test]
    fn who_goes_on_without_the_cut_is_found() {
        let more = [(1, installs_next(&[1, 2], &[], 1)), (2, installs_next(&[1, 2], &[], 1))];
        breaks(&mut ViewSynchrony::default(), &and(&more), "has delivered 0");
    }

    #[test]
    fn who_has_delivered_more_is_found() {
        let early = [(2, installs_next(&[1, 2], &[], 0))];
        breaks(&mut ViewSynchrony::default(), &and(&early), "1 was delivered before");
        let late = [
            (1, installs_next(&[1, 2], &[], 1)),
            (3, delivers(1, 5, 1, 1, "x")),
            (3, delivers(2, 6, 2, 1, "y")),
        ];
        breaks(&mut ViewSynchrony::default(), &and(&late), "delivers 2 in view 1");
    }

    #[test]
    fn who_joins_need_not_have_everything_yet() {
        let more = [(1, installs_next(&[1, 2], &[4], 1)), (4, joins_next(&[1, 2], &[4], 1))];
        holds(&mut ViewSynchrony::default(), &and(&more));
    }
}
