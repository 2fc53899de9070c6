//! True receipts: members say that they have received only what they have received.

use super::{Invariant, Seen, Who, arrivals::Arrivals};
use roundelay_core::{
    multicast::{Body, Message},
    node,
    protocol::Effect,
};

/// A member tells receipts only of what has come to it in that view, complete and contiguous, or is
/// in the order of earlier ones, and names as its last message one that it has sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrueReceipts {
    arrivals: Arrivals,
}

impl Invariant for TrueReceipts {
    fn name(&self) -> &'static str {
        "true_receipts"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/multicast.md, T2: vectors are absolute within the view"
    }

    fn paper(&self) -> &'static str {
        "Amir et al. 1995 (Totem): safe delivery needs true receipts"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.arrivals.see(who, seen);
        match seen {
            Seen::Effect(Effect::Send { message: node::Message::Order(message), .. }) => {
                self.on_send(who, message)
            }
            _ => Ok(()),
        }
    }
}

impl TrueReceipts {
    fn on_send(&self, who: Who, message: &Message) -> Result<(), String> {
        let Body::Clock { after, received, .. } = &message.body else { return Ok(()) };
        let uses = self.arrivals.views.number(who) == Some(message.view);
        let member = self.arrivals.views.position(who).filter(|_| uses);
        let fits = self.arrivals.len(message.view) == Some(received.len());
        let Some(member) = member.filter(|_| fits) else {
            return Err(format!("no member of this view can say {message:?}"));
        };
        if received[member] != *after {
            return Err(format!("two last messages in {message:?}"));
        }
        for (sender, received) in received.iter().enumerate() {
            let arrived = self.arrivals.of(message.view, member, sender);
            if *received > arrived {
                return Err(format!(
                    "says that member {member} has {received} messages of member {sender}, \
                     when {arrived} have come"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// Nodes 1 and 2 are members, and node 2 has received the first two messages of node 1.
    fn start() -> Vec<(u64, Line)> {
        vec![
            (1, installed_among(2)),
            (2, installed_among(2)),
            (1, sends_data(1, 5, (0, 1), "x")),
            (1, sends_data(2, 6, (0, 1), "y")),
            (2, receives_data(1, 2, 6, (0, 1), "y")),
            (2, receives_data(1, 1, 5, (0, 1), "x")),
        ]
    }

    fn and(more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        start().into_iter().chain(more.iter().cloned()).collect()
    }

    #[test]
    fn the_truth_or_less_is_fine() {
        let more = [
            (1, sends_clock(6, 2, &[2, 0])),
            (2, sends_clock(6, 0, &[1, 0])),
            (2, sends_clock(6, 0, &[2, 0])),
        ];
        holds(&mut TrueReceipts::default(), &and(&more));
    }

    #[test]
    fn a_receipt_of_what_has_not_come_is_found() {
        let more = [(2, sends_clock(6, 0, &[3, 0]))];
        breaks(&mut TrueReceipts::default(), &and(&more), "when 2 have come");
        let gap = [(2, receives_data(1, 4, 8, (0, 1), "z")), (2, sends_clock(8, 0, &[4, 0]))];
        breaks(&mut TrueReceipts::default(), &and(&gap), "when 2 have come");
        let piece = [(2, receives_data(1, 3, 8, (0, 2), "z")), (2, sends_clock(8, 0, &[3, 0]))];
        breaks(&mut TrueReceipts::default(), &and(&piece), "when 2 have come");
    }

    #[test]
    fn a_receipt_after_the_promise_is_found() {
        let more = [
            (2, promises()),
            (2, receives_data(1, 3, 8, (0, 1), "z")),
            (2, sends_clock(8, 0, &[3, 0])),
        ];
        breaks(&mut TrueReceipts::default(), &and(&more), "when 2 have come");
    }

    #[test]
    fn in_the_next_view_what_is_in_the_order_has_come() {
        let next = (2, installs_next(&[1, 2], &[], 1));
        let more = [(2, delivers(1, 5, 1, 1, "x")), next];
        let says = |received| (2, in_view(2, sends_clock(8, 0, &[received, 0])));
        holds(&mut TrueReceipts::default(), &and(&[&more[..], &[says(1)]].concat()));
        let all = [&more[..], &[says(2)]].concat();
        breaks(&mut TrueReceipts::default(), &and(&all), "when 1 have come");
        let early = [(2, in_view(2, sends_clock(8, 0, &[1, 0])))];
        breaks(&mut TrueReceipts::default(), &and(&early), "no member");
    }

    #[test]
    fn a_message_that_was_never_sent_is_found() {
        breaks(&mut TrueReceipts::default(), &and(&[(1, sends_clock(9, 3, &[3, 0]))]), "when 2");
        breaks(&mut TrueReceipts::default(), &and(&[(1, sends_clock(9, 2, &[1, 0]))]), "two last");
        breaks(&mut TrueReceipts::default(), &and(&[(1, sends_clock(9, 2, &[2]))]), "no member");
        breaks(&mut TrueReceipts::default(), &[(1, sends_clock(9, 0, &[0, 0]))], "no member");
    }
}
