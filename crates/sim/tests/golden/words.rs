//! What nodes say, in words.

use roundelay_core::{
    change,
    founding::{self, StartError},
    gossip::{self, Content},
    id::{Name, NodeId},
    multicast, node, tokenring,
    view::{Ballot, View},
};
use std::fmt::Write as _;

/// Who is called what.
#[derive(Debug)]
pub(crate) struct Names(pub(crate) Vec<Name>);

/// A message, in words.
#[derive(Debug)]
pub(crate) struct Saying {
    /// Which part of the node says it.
    pub(crate) part: &'static str,
    /// What kind of message it is: the first word of its text.
    pub(crate) text: String,
}

impl Saying {
    pub(crate) fn kind(&self) -> &str {
        self.text.split([' ', ':', ',']).next().unwrap_or_default()
    }
}

impl Names {
    pub(crate) fn of(&self, node: NodeId) -> &str {
        self.0.iter().find(|name| name.id() == node).map_or("nobody", Name::as_str)
    }

    fn at(&self, position: u16) -> &str {
        self.0.get(usize::from(position)).map_or("nobody", Name::as_str)
    }

    pub(crate) fn all(&self, nodes: impl IntoIterator<Item = NodeId>) -> String {
        nodes.into_iter().map(|node| self.of(node)).collect::<Vec<_>>().join(" ")
    }

    fn places(&self, positions: impl IntoIterator<Item = u16>) -> String {
        positions.into_iter().map(|position| self.at(position)).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn message(&self, message: &node::Message) -> Saying {
        let (part, text) = match message {
            node::Message::Detector(message) => ("detector", format!("{message:?}")),
            node::Message::Founding(message) => ("founding", self.founding_message(message)),
            node::Message::Change(message) => ("change", self.change_message(message)),
            node::Message::Lock(message) => ("lock", self.lock_message(&message.body)),
            node::Message::Order(message) => ("order", Self::order_message(&message.body)),
            node::Message::Gossip(message) => ("gossip", self.gossip_message(message)),
        };
        Saying { part, text }
    }

    fn founding_message(&self, message: &founding::Message) -> String {
        use founding::Message as M;
        match message {
            M::Walk { start, path, .. } => {
                let passed = self.places(path.iter().map(|step| step.position));
                format!("walk of {}, past {passed}", self.at(start.index))
            }
            M::Refuse { reason, .. } => format!("refuse: {}", self.refusal(reason)),
            M::Withdraw { .. } => "withdraw".into(),
            M::Ask { .. } => "ask".into(),
            M::Announce { view, founder, .. } => {
                let members = self.all(view.members.iter().map(|member| member.id));
                format!("announce view {} of {}: {members}", view.number, self.at(*founder))
            }
            M::Active { answer, .. } => {
                format!("active{}", if *answer { ", and you?" } else { "" })
            }
        }
    }

    fn refusal(&self, reason: &founding::Refusal) -> String {
        use founding::Refusal as R;
        match reason {
            R::AlreadyStarted { by } => format!("{} has started already", self.at(*by)),
            R::GaveWay { to } => format!("{} takes precedence", self.at(*to)),
            R::OtherList => "another list".into(),
            R::Forgotten => "forgotten".into(),
            R::SharedSuccessor { first, second, next } => {
                let (first, second, next) = (self.at(*first), self.at(*second), self.at(*next));
                format!("{first} and {second} both name {next}")
            }
            R::LeftOut(left_out) => {
                format!("the ring leaves out {}", self.places(left_out.iter().copied()))
            }
        }
    }

    fn lock_message(&self, body: &tokenring::Body) -> String {
        use tokenring::Body as B;
        match body {
            B::Pass { number, lock, token } => {
                let mut text = format!("pass {number}: token of {lock}, ");
                if token.hops > 0 {
                    let _ = write!(text, "hop {}, ", token.hops);
                }
                let _ = write!(text, "last fence {}", token.sequence);
                let waiting = (0..token.wanted.len())
                    .filter(|p| token.wanted[*p] > token.served[*p])
                    .map(|p| p as u16);
                match self.places(waiting) {
                    nobody if nobody.is_empty() => text,
                    waiting => format!("{text}, wanted by {waiting}"),
                }
            }
            B::PassAck(received) => format!("ack of passes up to {}", received.up_to),
            B::Request { lock, requester, number, .. } => {
                format!("request {number} of {} for {lock}", self.at(*requester))
            }
            B::Recorded { lock, number } => format!("recorded: request {number} for {lock}"),
            B::Try { lock, requester, number, .. } => {
                format!("try {number} of {} for {lock}", self.at(*requester))
            }
            B::Busy { lock, number } => format!("busy: {lock}, to try {number}"),
            B::Stamp { .. } => "stamp".into(),
        }
    }

    fn change_message(&self, message: &change::Message) -> String {
        use change::Body as B;
        let ballot = |ballot: &Ballot| format!("{} of {}", ballot.round, self.at(ballot.by));
        match &message.body {
            B::Beat { wedged: None, .. } => format!("beat: I am in view {}", message.view),
            B::Beat { .. } => format!("beat: I am wedged in view {}", message.view),
            B::Prepare { ballot: this } => format!("prepare {}", ballot(this)),
            B::Promise { ballot: this, accepted: None, .. } => format!("promise {}", ballot(this)),
            B::Promise { ballot: this, accepted: Some(before), .. } => {
                format!("promise {}, accepted {}", ballot(this), ballot(&before.0))
            }
            B::Refuse { promised } => format!("refuse: promised {}", ballot(promised)),
            B::Accept { ballot: this, value } => {
                format!("accept {}: {}", ballot(this), self.view(&value.view))
            }
            B::Accepted { ballot: this } => format!("accepted {}", ballot(this)),
            B::Decided { value } => format!("decided: {}", self.view(&value.view)),
            B::Ask => format!("ask what follows view {}", message.view),
            B::Join { .. } => "join".into(),
            B::JoinRefused { reason } => format!("join-refused: {reason:?}"),
            B::Leave => "leave".into(),
        }
    }

    fn view(&self, view: &View) -> String {
        let members = self.all(view.members.iter().map(|member| member.id));
        format!("view {} of {members}", view.number)
    }

    fn order_message(body: &multicast::Body) -> String {
        use multicast::Body as B;
        match body {
            B::Data { sequence, time, payload, .. } => {
                format!("data {sequence}, time {time}: {}", quoted(payload))
            }
            B::Clock { time, after, received } => {
                format!("clock {time}, last data {after}, received {received:?}")
            }
            B::Want { from, to } if from > to => "want your clock".into(),
            B::Want { from, to } => format!("want data {from} to {to}"),
            B::Fetch { sender, from, to } => format!("fetch data {from} to {to} of {sender}"),
            B::Fetched { sender, sequence, .. } => format!("fetched data {sequence} of {sender}"),
            B::Learn { from } => format!("learn from place {from}"),
            B::Lesson { deliveries, position, .. } => {
                format!("lesson of {} messages, up to place {position}", deliveries.len())
            }
        }
    }

    fn gossip_message(&self, message: &gossip::Message) -> String {
        use gossip::Message as M;
        match message {
            M::Neighbor { answer, .. } => {
                format!("neighbor{}", if *answer { ", are you mine?" } else { "" })
            }
            M::Rumor(rumor) => {
                let origin = self.of(rumor.origin.node);
                match &rumor.content {
                    Content::Record { .. } => format!("record of {origin}"),
                    Content::User(payload) => {
                        format!("rumor {} of {origin}: {}", rumor.sequence, quoted(payload))
                    }
                }
            }
            M::Prune => "prune: I had it already".into(),
            M::Graft => "graft: push to me again".into(),
            M::Known { origin, sequence } => {
                format!("known: rumor {sequence} of {}", self.of(origin.node))
            }
            M::Hash(_) => "hash of all I have".into(),
            M::Digest { have, answer } => {
                let have = have
                    .iter()
                    .map(|have| format!("{} below {}", self.of(have.origin.node), have.up_to));
                let have = have.collect::<Vec<_>>().join(", ");
                format!("digest: I have {have}{}", if *answer { "; and you?" } else { "" })
            }
            M::Want(ranges) => format!("want {}", self.ranges(ranges)),
            M::Forgotten(ranges) => format!("forgotten: {}", self.ranges(ranges)),
        }
    }

    fn ranges(&self, ranges: &[gossip::Range]) -> String {
        let range = |range: &gossip::Range| {
            format!("{} to {} of {}", range.first, range.last, self.of(range.origin.node))
        };
        ranges.iter().map(range).collect::<Vec<_>>().join(", ")
    }

    /// An event; none for the detector's, which are another story.
    pub(crate) fn event(&self, event: &node::Event) -> Option<String> {
        Some(match event {
            node::Event::Peer { .. } => return None,
            node::Event::Founding(event) => Self::founding_event(event),
            node::Event::View { view, joins, loss, .. } => {
                let joins = if *joins { ", as a new member" } else { "" };
                let loss = if *loss { ", messages may be lost" } else { "" };
                let ring = self.all(view.ring.iter().map(|at| view.members[usize::from(*at)].id));
                format!("{} is in use{joins}{loss}, ring {ring}", self.view(view))
            }
            node::Event::Out { left: true } => "the group goes on without this node".into(),
            node::Event::Out { left: false } => "not a member of the group".into(),
            node::Event::Change(event) => Self::change_event(event),
            node::Event::Lock(event) => self.lock_event(event),
            node::Event::Order(event) => self.order_event(event),
            node::Event::Gossip(event) => self.gossip_event(event),
            node::Event::LeaveDone => "all is handed over".into(),
        })
    }

    fn founding_event(event: &founding::Event) -> String {
        use founding::Event as E;
        match event {
            E::WaitingFor(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                format!("the start waits for {}", names.join(" "))
            }
            E::Refused(error) => format!("start refused: {}", start_error(error)),
            E::Installed { .. } | E::Outside { .. } => unreachable!("for the node alone"),
        }
    }

    fn change_event(event: &change::Event) -> String {
        use change::Event as E;
        match event {
            E::Quorum { regained: true } => "a quorum is heard again".into(),
            E::Quorum { regained: false } => "no quorum is heard".into(),
            E::JoinRefused(reason) => format!("the group does not take this node: {reason:?}"),
            _ => unreachable!("for the node alone"),
        }
    }

    fn lock_event(&self, event: &tokenring::Event) -> String {
        use tokenring::Event as E;
        match event {
            E::Granted { lock, fence, .. } => format!("granted {lock}, fence {fence}"),
            E::Released { lock, fence, .. } => format!("released {lock}, fence {fence}"),
            E::Refused { lock, reason, .. } => format!("refused {lock}: {reason:?}"),
            E::Token { hop, from, .. } => {
                format!("the token is here, hop {hop}, from {}", self.of(*from))
            }
            E::WaitingFor(member) => format!("the lock waits for {}", self.of(*member)),
            E::Lost { lock, fence, reason, .. } => {
                format!("lost {lock}, fence {fence}: {reason:?}")
            }
            E::Regenerated { lock } => format!("the token of {lock} is made anew here"),
        }
    }

    fn order_event(&self, event: &multicast::Event) -> String {
        use multicast::Event as E;
        match event {
            E::Delivered(delivery) => {
                let (place, time) = (delivery.position, delivery.time);
                let (sender, text) = (self.of(delivery.sender), quoted(&delivery.payload));
                format!("delivered {place}: {text} of {sender}, time {time}")
            }
            E::Sent { position, .. } => format!("the own message has place {position}"),
            E::Refused { reason, .. } => format!("the message is refused: {reason:?}"),
            E::Missed { from, to } => format!("missed {from} to {to}"),
            E::Gathered | E::Learned | E::Drained => unreachable!("for the node alone"),
        }
    }

    fn gossip_event(&self, event: &gossip::Event) -> String {
        use gossip::Event as E;
        match event {
            E::Heard { name, sequence, hops, payload, .. } => {
                format!("heard rumor {sequence} of {name}: {}, hops {hops}", quoted(payload))
            }
            E::Published { sequence, .. } => format!("published rumor {sequence}"),
            E::Refused { reason, .. } => format!("the rumor is refused: {reason:?}"),
            E::NeighborUp(peer) => format!("{} is a neighbour", self.of(*peer)),
        }
    }

    /// What a node that is asked for its status waits for, and why.
    pub(crate) fn status(&self, status: &node::Status) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(lock) = &status.lock {
            for known in &lock.locks {
                let token = if known.token { "here" } else { "elsewhere" };
                let wanted = self.all(known.wanted_by.iter().copied());
                lines.push(format!("{}: token {token}, wanted by [{wanted}]", known.lock));
            }
        }
        if let Some(order) = &status.order {
            let queue = order
                .queue
                .iter()
                .map(|waiting| format!("{} (time {})", quoted(&waiting.payload), waiting.time));
            let queue: Vec<String> = queue.collect();
            let clocks = order.clocks.iter();
            let clocks: Vec<String> =
                clocks.map(|(node, clock)| format!("{} {clock}", self.of(*node))).collect();
            let mut line =
                format!("queue [{}], clocks counted: {}", queue.join(", "), clocks.join(", "));
            if let Some((member, _)) = order.waiting_for {
                let _ = write!(line, "; the head waits for {}", self.of(member));
            }
            lines.push(line);
        }
        lines
    }
}

fn start_error(error: &StartError) -> String {
    match error {
        StartError::Starting => "it is under way".into(),
        StartError::AlreadyStarted(by) => format!("{by} has started already"),
        StartError::GaveWay(to) => format!("{to} takes precedence"),
        StartError::OtherList => "another list".into(),
        StartError::SharedSuccessor(first, second, next) => {
            format!("{first} and {second} both name {next}")
        }
        StartError::LeftOut(names) => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            format!("the ring leaves out {}", names.join(" "))
        }
        StartError::NoGroup => "no group".into(),
    }
}

fn quoted(payload: &[u8]) -> String {
    format!("“{}”", String::from_utf8_lossy(payload))
}
