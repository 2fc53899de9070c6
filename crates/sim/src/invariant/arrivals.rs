//! What has reached the members of a view: the measure for what they say they have received.

use super::{Seen, Who};
use roundelay_core::{
    founding,
    id::NodeId,
    multicast::{Body, Message},
    node,
    protocol::{Effect, Input},
    view::View,
};
use std::collections::{BTreeMap, BTreeSet};

/// Per member and sender, how far the sender's messages are complete and contiguous (T5), counting
/// all that arrived between the installation of the view and the leave. It may be more than the
/// member has taken, never less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Arrivals {
    view: u64,
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    who: Who,
    /// From the installation on, until it freezes to leave.
    listens: bool,
    /// Its last message that went out.
    sent: u64,
    /// By the position of the sender.
    streams: Vec<Stream>,
}

/// What has come of one sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Stream {
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
                self.on_send(who, message);
            }
            Seen::Effect(Effect::Emit(node::Event::Founding(founding::Event::Installed {
                view,
                ..
            }))) => self.on_installed(who, view),
            _ => {}
        }
    }

    /// The position of a life of a node, if it is a member.
    pub(crate) fn position(&self, who: Who) -> Option<usize> {
        self.members.iter().position(|member| member.who == who)
    }

    /// The position of a node, if it is a member.
    pub(crate) fn position_of(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.who.node == node)
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Up to where `member` has got what `sender` sent. Of its own it has all.
    pub(crate) fn of(&self, member: usize, sender: usize) -> u64 {
        if member == sender {
            self.members[member].sent
        } else {
            self.members[member].streams[sender].complete
        }
    }

    /// How many members have got message `sequence` of `sender`, itself included.
    pub(crate) fn holders(&self, sender: usize, sequence: u64) -> usize {
        let has = |member: &usize| *member == sender || self.of(*member, sender) >= sequence;
        (0..self.members.len()).filter(has).count()
    }

    fn on_installed(&mut self, who: Who, view: &View) {
        if self.members.is_empty() {
            self.view = view.number;
            let blank = |member: &roundelay_core::view::Member| Member {
                who: Who { node: member.id, life: member.life },
                listens: false,
                sent: 0,
                streams: vec![Stream::default(); view.len()],
            };
            self.members = view.members.iter().map(blank).collect();
        }
        if let Some(member) = self.position(who) {
            self.members[member].listens = true;
        }
    }

    fn on_message(&mut self, who: Who, from: NodeId, message: &Message) {
        let Body::Data { sequence, index, count, .. } = message.body else { return };
        let (Some(member), Some(sender)) = (self.position(who), self.position_of(from)) else {
            return;
        };
        let member = &mut self.members[member];
        if member.listens && message.view == self.view {
            member.streams[sender].take(sequence, index, count);
        }
    }

    fn on_send(&mut self, who: Who, message: &Message) {
        let Some(position) = self.position(who) else { return };
        let member = &mut self.members[position];
        match message.body {
            Body::Data { sequence, .. } => member.sent = member.sent.max(sequence),
            Body::Left { member: leaver, .. } if usize::from(leaver) == position => {
                member.listens = false;
            }
            _ => {}
        }
    }
}

impl Stream {
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
