//! Durability: with logs on disk, nothing is lost by restarts.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    change,
    id::NodeId,
    multicast::{self, Body, LogEntry, Message},
    node,
    protocol::{Effect, Input},
    view::Ballot,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// As long as all nodes that were members have durable logs, and all of them keep their disks, no
/// view begins with a loss. (So what was delivered stays in the order, at its position: that is
/// view synchrony.) And who has a log says of no message that it is received, not even in the report
/// of its view, and sends none, before it is on disk; nor accepts anything before the disk has all of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Durability {
    /// Who has saved that it is a member,
    members: BTreeSet<NodeId>,
    /// and has a log since.
    logged: BTreeSet<NodeId>,
    /// A member has come back without its disk.
    forgotten: bool,
    logs: BTreeMap<Who, Log>,
}

/// What is known of the log of one life, in the view that it says began last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Log {
    view: u64,
    me: Option<usize>,
    /// The last entry.
    last: u64,
    /// The last that is on disk.
    durable: u64,
    /// Messages that are not: their entry, sender and sequence.
    waiting: VecDeque<(u64, usize, u64)>,
    /// By sender: the last message that is.
    kept: Vec<u64>,
    /// The view and the ballot that were accepted last.
    accepted: Option<(u64, Ballot)>,
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
            Seen::Input(Input::Appended(number)) => {
                self.logs.entry(who).or_default().on_durable(*number);
            }
            Seen::Effect(Effect::Append(entry)) => {
                self.logged.insert(who.node);
                self.logs.entry(who).or_default().on_append(who.node, entry);
            }
            Seen::Effect(Effect::Send { message, .. }) => {
                return self.logs.get_mut(&who).map_or(Ok(()), |log| log.on_send(message));
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

impl Log {
    fn on_append(&mut self, me: NodeId, entry: &LogEntry) {
        self.last = entry.number;
        match &entry.line {
            multicast::Line::Began { view, cut, .. } => {
                (self.view, self.me) = (view.number, view.position(me));
                self.waiting.clear();
                self.kept.clone_from(&cut.begins);
            }
            // Who was started again, and fetches, says nothing in the view of its earlier life.
            multicast::Line::Message { .. } if self.view == 0 => {}
            multicast::Line::Message { sender, sequence, .. } => {
                self.waiting.push_back((entry.number, usize::from(*sender), *sequence));
            }
            _ => {}
        }
    }

    fn on_durable(&mut self, number: u64) {
        self.durable = self.durable.max(number);
        while let Some((_, sender, sequence)) =
            self.waiting.pop_front_if(|(entry, ..)| *entry <= number)
        {
            self.kept[sender] = self.kept[sender].max(sequence);
        }
    }

    /// Whether so much of each sender is on disk.
    fn has(&self, received: &[u64]) -> bool {
        received.iter().zip(&self.kept).all(|(said, kept)| said <= kept)
    }

    fn on_send(&mut self, message: &node::Message) -> Result<(), String> {
        match message {
            node::Message::Order(Message { view, body }) if *view == self.view => match body {
                Body::Clock { received, .. } => {
                    let what = || format!("says {received:?} when {:?} is on disk", self.kept);
                    if self.has(received) { Ok(()) } else { Err(what()) }
                }
                Body::Data { sequence, .. } => {
                    let kept = self.me.map_or(0, |me| self.kept[me]);
                    let what = || format!("sends message {sequence} when {kept} is on disk");
                    if *sequence > kept { Err(what()) } else { Ok(()) }
                }
                _ => Ok(()),
            },
            node::Message::Change(change::Message {
                view,
                body: change::Body::Promise { report, .. },
                ..
            }) if *view == self.view => {
                let what = || format!("reports {:?} when {:?} is on disk", report.order, self.kept);
                let kept = report.order.as_ref().is_none_or(|order| self.has(&order.received));
                if kept { Ok(()) } else { Err(what()) }
            }
            node::Message::Change(change::Message {
                view,
                body: change::Body::Accepted { ballot },
                ..
            }) => {
                let again = self.accepted.replace((*view, *ballot)) == Some((*view, *ballot));
                let (durable, last) = (self.durable, self.last);
                let what = || format!("accepts when {durable} entries of {last} are on disk");
                if durable < last && !again { Err(what()) } else { Ok(()) }
            }
            _ => Ok(()),
        }
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

    /// Node 1 has received a message of node 2, and the disk has this much of its log.
    fn received(durable: u64) -> Vec<(u64, Line)> {
        let view = view_of(1, &[], &[1, 2]);
        let cut = Box::new(multicast::Cut::founding(2));
        let began = multicast::Line::Began { view: view.into(), cut, position: 0 };
        let payload = bytes::Bytes::new();
        let message = multicast::Line::Message { sender: 1, sequence: 1, time: 1, payload };
        let append = |number, line| (1, Line::Effect(Effect::Append(LogEntry { number, line })));
        let appended = (1, Line::Input(Input::Appended(durable)));
        vec![append(1, began), append(2, message), appended]
    }

    #[test]
    fn an_acknowledgement_before_the_disk_is_found() {
        let says = || vec![(1, sends_clock(1, 0, &[0, 1]))];
        holds(&mut Durability::default(), &and(received(2), says()));
        breaks(&mut Durability::default(), &and(received(1), says()), "says [0, 1] when [0, 0]");
    }

    #[test]
    fn a_message_that_leaves_before_the_disk_has_it_is_found() {
        let sends = vec![(1, sends_data(1, 1, (0, 1), "x"))];
        breaks(&mut Durability::default(), &and(received(2), sends), "sends message 1 when 0");
    }

    #[test]
    fn a_report_before_the_disk_has_it_is_found() {
        let reports = || {
            let order = Some(multicast::Report { received: vec![0, 1], clock: 1 });
            let report = change::Report { order, ..change::Report::default() }.into();
            let ballot = Ballot::default();
            vec![(1, changes(change::Body::Promise { ballot, accepted: None, report }))]
        };
        holds(&mut Durability::default(), &and(received(2), reports()));
        breaks(&mut Durability::default(), &and(received(1), reports()), "reports Some");
    }

    #[test]
    fn who_accepts_before_the_disk_has_all_is_found() {
        let accepts = || vec![(1, accepts())];
        holds(&mut Durability::default(), &and(received(2), accepts()));
        breaks(&mut Durability::default(), &and(received(1), accepts()), "accepts when 1 entries");
    }

    #[test]
    fn a_disk_that_is_gone_and_a_member_without_a_log_excuse_it() {
        let history = and(with_logs(), vec![(2, starts()), (1, loses())]);
        holds(&mut Durability::default(), &history);
        let history = and(with_logs(), vec![(3, saves(None)), (1, loses())]);
        holds(&mut Durability::default(), &history);
    }
}
