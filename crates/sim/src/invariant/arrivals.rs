//! What has reached the members of a view: the measure for what they say they have received.

use super::{
    Seen, Who,
    views::{Stream, Views},
};
use roundelay_core::{
    change,
    id::NodeId,
    multicast::{Body, Event, Message},
    node,
    protocol::{Effect, Input},
    view::{self, View},
};
use std::collections::{BTreeMap, BTreeSet};

/// Per view, member and sender, how far the sender's messages are complete and contiguous (T5): what
/// is in the order of earlier views, and all that arrived between the installation of the view and
/// the promise that ends it there. It may be more than the member has taken, never less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Arrivals {
    pub(crate) views: Views,
    groups: BTreeMap<u64, Vec<Member>>,
    /// Per view, as it was decided, and sender: how many of its messages are in the order before.
    begins: BTreeMap<u64, Vec<u64>>,
    /// Per sender: how many of its messages are in the order.
    ordered: BTreeMap<Stream, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    who: Who,
    /// From the installation on, until its promise (V2).
    listens: bool,
    /// Its last message that went out.
    sent: u64,
    /// By the position of the sender.
    streams: Vec<Received>,
}

/// What has come of one sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Received {
    complete: u64,
    beyond: BTreeMap<u64, Pieces>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pieces {
    count: u32,
    here: BTreeSet<u32>,
}

impl Arrivals {
    /// Takes note of what is seen of `who`.
    pub(crate) fn see(&mut self, who: Who, seen: &Seen<'_>) {
        match seen {
            Seen::Input(Input::Message { from, message: node::Message::Order(message) }) => {
                self.on_message(who, *from, message);
            }
            Seen::Effect(Effect::Send { message: node::Message::Order(message), .. }) => {
                if let Some(member) = self.member(who, message.view)
                    && let Body::Data { sequence, .. } = message.body
                {
                    member.sent = member.sent.max(sequence);
                }
            }
            Seen::Effect(Effect::Send { message: node::Message::Change(message), .. }) => {
                use change::Body::{Accepted, Prepare, Promise};
                let promises =
                    matches!(message.body, Promise { .. } | Prepare { .. } | Accepted { .. });
                if let Some(member) = self.member(who, message.view).filter(|_| promises) {
                    member.listens = false;
                }
            }
            Seen::Effect(Effect::Save(record)) => {
                let value = &record.installed;
                let begins = &value.order.begins;
                self.begins.entry(value.view.number).or_insert_with(|| begins.clone());
            }
            Seen::Effect(Effect::Emit(node::Event::View { view, .. })) => {
                self.views.see(who, seen);
                self.on_view(who, view);
            }
            Seen::Effect(Effect::Emit(node::Event::Out { .. })) => self.views.see(who, seen),
            Seen::Effect(Effect::Emit(node::Event::Order(Event::Delivered(delivery)))) => {
                let stream = (delivery.sender, delivery.incarnation);
                let last = self.ordered.entry(stream).or_default();
                *last = (*last).max(delivery.sequence);
            }
            _ => {}
        }
    }

    /// How many members this view has; none if nobody has installed it.
    pub(crate) fn len(&self, view: u64) -> Option<usize> {
        self.groups.get(&view).map(Vec::len)
    }

    /// Up to where `member` has got what `sender` sent. Of its own it has all.
    pub(crate) fn of(&self, view: u64, member: usize, sender: usize) -> u64 {
        let group = &self.groups[&view];
        if member == sender { group[member].sent } else { group[member].streams[sender].complete }
    }

    /// How many members have got message `sequence` of `sender`, itself included.
    pub(crate) fn holders(&self, view: u64, sender: usize, sequence: u64) -> usize {
        let has = |member: &usize| *member == sender || self.of(view, *member, sender) >= sequence;
        (0..self.groups[&view].len()).filter(has).count()
    }

    fn member(&mut self, who: Who, view: u64) -> Option<&mut Member> {
        self.groups.get_mut(&view)?.iter_mut().find(|member| member.who == who)
    }

    fn on_view(&mut self, who: Who, view: &View) {
        if !self.groups.contains_key(&view.number) {
            let delivered = |member: &view::Member| {
                self.ordered.get(&(member.id, member.incarnation)).copied().unwrap_or(0)
            };
            // If it was not saved, all that was ordered has been delivered by who installs it.
            let begins = self.begins.get(&view.number).filter(|begins| !begins.is_empty());
            let begins =
                begins.cloned().unwrap_or_else(|| view.members.iter().map(delivered).collect());
            let received = |complete: &u64| Received { complete: *complete, ..Received::default() };
            let blank = |(member, begin): (&view::Member, &u64)| Member {
                who: Who { node: member.id, life: member.life },
                listens: false,
                sent: *begin,
                streams: begins.iter().map(received).collect(),
            };
            let members = view.members.iter().zip(&begins).map(blank).collect();
            self.groups.insert(view.number, members);
        }
        if let Some(member) = self.member(who, view.number) {
            member.listens = true;
        }
    }

    fn on_message(&mut self, who: Who, from: NodeId, message: &Message) {
        let Body::Data { sequence, index, count, .. } = message.body else { return };
        let Some(view) = self.views.get(message.view) else { return };
        let Some(sender) = view.position(from) else { return };
        if let Some(member) = self.member(who, message.view).filter(|member| member.listens) {
            member.streams[sender].take(sequence, index, count);
        }
    }
}

impl Received {
    fn take(&mut self, sequence: u64, index: u32, count: u32) {
        if sequence <= self.complete || index >= count {
            return;
        }
        if count == 1 && sequence == self.complete + 1 {
            self.complete += 1;
            self.beyond.remove(&sequence);
        } else {
            let blank = || Pieces { count, here: BTreeSet::new() };
            self.beyond.entry(sequence).or_insert_with(blank).here.insert(index);
        }
        while let Some(first) = self.beyond.first_entry() {
            let is_whole = first.get().here.len() == first.get().count as usize;
            if *first.key() != self.complete + 1 || !is_whole {
                return;
            }
            self.complete += 1;
            first.remove();
        }
    }
}
