//! Messages, timers, commands and events in a few words.

use super::Cast;
use bytes::Bytes;
use core::fmt::Debug;
use roundelay_core::{
    change, detector, founding,
    gossip::{self, Content, Have, Origin, Range},
    id::Name,
    multicast, node,
    tokenring::{self, Received, Wait},
    view::{Ballot, Value, View},
};

/// The longest piece of a payload that is shown.
const PAYLOAD_MAX: usize = 16;

/// Says things with the names of this cast.
#[derive(Clone, Copy)]
pub(super) struct Words<'a>(pub(super) &'a dyn Cast);

impl Words<'_> {
    /// What a message says.
    pub(super) fn message(self, message: &node::Message) -> String {
        match message {
            node::Message::Detector(detector::Message::Heartbeat) => "heartbeat".into(),
            node::Message::Detector(detector::Message::Goodbye) => "goodbye".into(),
            node::Message::Founding(message) => self.founding(message),
            node::Message::Change(message) => Self::change(message),
            node::Message::Lock(message) => self.lock(&message.body),
            node::Message::Order(message) => Self::order(&message.body),
            node::Message::Gossip(message) => self.gossip(message),
        }
    }

    /// Which timer it is.
    pub(super) fn timer(timer: node::Timer) -> String {
        let (part, timer): (_, &dyn Debug) = match &timer {
            node::Timer::Detector(timer) => ("detector", timer),
            node::Timer::Founding(timer) => ("founding", timer),
            node::Timer::Change(timer) => ("view change", timer),
            node::Timer::Lock(timer) => ("lock", timer),
            node::Timer::Order(timer) => ("order", timer),
            node::Timer::Gossip(timer) => ("gossip", timer),
        };
        format!("{part} {}", lower(&timer))
    }

    /// What the application wants.
    pub(super) fn command(command: &node::Command) -> String {
        match command {
            node::Command::Start => "start the group".into(),
            node::Command::Leave => "leave".into(),
            node::Command::Lock(tokenring::Command::Lock { lock, ticket, wait }) => match wait {
                Wait::Queue => format!("lock {lock} #{ticket}"),
                Wait::Try => format!("try {lock} #{ticket}"),
            },
            node::Command::Lock(tokenring::Command::Unlock { lock, ticket }) => {
                format!("unlock {lock} #{ticket}")
            }
            node::Command::Order(multicast::Command::Send { ticket, payload }) => {
                format!("send #{ticket} {}", text(payload))
            }
            node::Command::Order(multicast::Command::Read { bytes }) => format!("read {bytes} B"),
            node::Command::Gossip(gossip::Command::Publish { ticket, payload }) => {
                format!("publish #{ticket} {}", text(payload))
            }
            node::Command::Gossip(gossip::Command::Confirm) => "confirm".into(),
            // A node gives these to its parts; applications do not.
            node::Command::Lock(other) => format!("{other:?}"),
            node::Command::Order(other) => format!("{other:?}"),
        }
    }

    /// What the application is told.
    pub(super) fn event(self, event: &node::Event) -> String {
        match event {
            node::Event::Peer { peer, state } => {
                format!("{} is {}", self.0.name(*peer), lower(state))
            }
            node::Event::Founding(event) => Self::founding_event(event),
            node::Event::View { view, joins, loss, position } => {
                let joins = if *joins { ", JOINED" } else { "" };
                let loss = if *loss { ", with LOSS" } else { "" };
                format!("INSTALLED {} after {position}{joins}{loss}", view_text(view))
            }
            node::Event::Out { left: true } => "is OUT, as it wished".into(),
            node::Event::Out { left: false } => "is OUT".into(),
            node::Event::Change(event) => match event {
                change::Event::Quorum { regained: true } => "hears a quorum again".into(),
                change::Event::Quorum { regained: false } => "hears NO QUORUM".into(),
                change::Event::JoinRefused(reason) => format!("join refused: {}", lower(reason)),
                other => format!("{other:?}"),
            },
            node::Event::Lock(event) => self.lock_event(event),
            node::Event::Order(event) => self.order_event(event),
            node::Event::Gossip(event) => self.gossip_event(event),
            node::Event::LeaveDone => "has LEFT".into(),
        }
    }

    fn founding(self, message: &founding::Message) -> String {
        match message {
            founding::Message::Walk { start, path, .. } => {
                let path: Vec<String> =
                    path.iter().map(|step| self.position(step.position)).collect();
                format!("walk of {} over {}", self.position(start.index), path.join(","))
            }
            founding::Message::Refuse { reason, .. } => format!("no: {}", lower(reason)),
            founding::Message::Withdraw { .. } => "withdraws its walk".into(),
            founding::Message::Ask { .. } => "which group?".into(),
            founding::Message::Announce { view, founder, .. } => {
                format!("{}, founded by {}", view_text(view), self.position(*founder))
            }
            founding::Message::Active { answer: false, .. } => "is active".into(),
            founding::Message::Active { answer: true, .. } => "is active, too".into(),
        }
    }

    fn founding_event(event: &founding::Event) -> String {
        match event {
            founding::Event::WaitingFor(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                format!("waits for {}", names.join(","))
            }
            founding::Event::Refused(reason) => format!("start refused: {}", lower(reason)),
            founding::Event::Installed { .. } | founding::Event::Outside { .. } => {
                format!("{event:?}")
            }
        }
    }

    fn change(message: &change::Message) -> String {
        use change::Body;
        let view = message.view;
        match &message.body {
            Body::Beat { hears, wedged: None, .. } => format!("is in view {view}, hears {hears:b}"),
            Body::Beat { hears, wedged: Some(ballot), .. } => {
                format!("is wedged in view {view} by {}, hears {hears:b}", ballot_text(*ballot))
            }
            Body::Prepare { ballot } => format!("prepare {} for {view}", ballot_text(*ballot)),
            Body::Promise { ballot, accepted: None, .. } => {
                format!("promise {} for {view}", ballot_text(*ballot))
            }
            Body::Promise { ballot, accepted: Some(accepted), .. } => {
                let (before, value) = &**accepted;
                let (ballot, before) = (ballot_text(*ballot), ballot_text(*before));
                format!("promise {ballot} for {view}, accepted {before}: {}", value_text(value))
            }
            Body::Refuse { promised } => format!("has promised {}", ballot_text(*promised)),
            Body::Accept { ballot, value } => {
                format!("accept {}: {}", ballot_text(*ballot), value_text(value))
            }
            Body::Accepted { ballot } => format!("accepted {} for {view}", ballot_text(*ballot)),
            Body::Decided { value } => format!("decided: {}", value_text(value)),
            Body::Ask => format!("what follows view {view}?"),
            Body::Join { .. } => "wants to join".into(),
            Body::JoinRefused { reason } => format!("no join: {}", lower(reason)),
            Body::Leave => format!("wants to leave view {view}"),
        }
    }

    fn lock(self, body: &tokenring::Body) -> String {
        use tokenring::Body;
        match body {
            Body::Pass { number, lock, token } => {
                format!("token of {lock} (pass {number}, grants {})", token.sequence)
            }
            Body::PassAck(received) => format!("has passes {}", received_text(received)),
            Body::Request { lock, requester, number, .. } => {
                format!("{} wants {lock} ({number})", self.position(*requester))
            }
            Body::Recorded { lock, number } => format!("noted {lock} ({number})"),
            Body::Try { lock, requester, number, .. } => {
                format!("{} tries {lock} ({number})", self.position(*requester))
            }
            Body::Busy { lock, number } => format!("{lock} is busy ({number})"),
            Body::Stamp { stamp, echo, answer } => {
                let answer = if *answer { ", and yours?" } else { "" };
                format!("stamp {stamp}, echo {echo}{answer}")
            }
        }
    }

    fn lock_event(self, event: &tokenring::Event) -> String {
        use tokenring::Event;
        match event {
            Event::Granted { lock, ticket, fence } => {
                format!("GRANTED {lock} #{ticket} fence {fence}")
            }
            Event::Released { lock, ticket, .. } => format!("released {lock} #{ticket}"),
            Event::Refused { lock, ticket, reason } => {
                format!("refused {lock} #{ticket}: {}", lower(reason))
            }
            Event::Token { hop, from, .. } => {
                format!("token, hop {hop} from {}", self.0.name(*from))
            }
            Event::WaitingFor(peer) => format!("lock waits for {}", self.0.name(*peer)),
            Event::Lost { lock, ticket, fence, reason } => {
                format!("LOST {lock} #{ticket} fence {fence}: {}", lower(reason))
            }
            Event::Regenerated { lock } => format!("token of {lock} made anew"),
        }
    }

    fn order(body: &multicast::Body) -> String {
        use multicast::Body;
        match body {
            Body::Data { sequence, time, index, count, payload } => {
                let text = text(payload);
                if *count == 1 {
                    format!("message {sequence} at {time} {text}")
                } else {
                    format!("message {sequence} at {time}, piece {} of {count} {text}", index + 1)
                }
            }
            Body::Clock { time, after, received } => {
                let received: Vec<String> = received.iter().map(u64::to_string).collect();
                format!("clock {time} after {after}, has {}", received.join("/"))
            }
            Body::Want { from, to } if from > to => "wants the clock".into(),
            Body::Want { from, to } => format!("wants {}", range(*from, *to)),
            Body::Fetch { sender, from, to } => format!("fetch {sender}/{}", range(*from, *to)),
            Body::Fetched { sender, sequence, payload, .. } => {
                format!("fetched {sender}/{sequence} {}", text(payload))
            }
            Body::Learn { from } => format!("teach me from {from}"),
            Body::Lesson { from, deliveries, position } => {
                format!("lesson: {} from {from}, has {position}", deliveries.len())
            }
        }
    }

    fn order_event(self, event: &multicast::Event) -> String {
        use multicast::Event;
        match event {
            Event::Delivered(delivery) => {
                let multicast::Delivery { position, sender, sequence, payload, .. } = delivery;
                let sender = self.0.name(*sender);
                format!("DELIVERED {position}: {sender}/{sequence} {}", text(payload))
            }
            Event::Sent { ticket, position } => format!("sent #{ticket} as {position}"),
            Event::Refused { ticket, reason } => format!("refused #{ticket}: {}", lower(reason)),
            Event::Missed { from, to } => format!("MISSED {}", range(*from, *to)),
            Event::Gathered | Event::Learned | Event::Drained => lower(event),
        }
    }

    fn gossip(self, message: &gossip::Message) -> String {
        use gossip::Message;
        match message {
            Message::Neighbor { answer: true, .. } => "neighbor?".into(),
            Message::Neighbor { answer: false, .. } => "neighbor!".into(),
            Message::Rumor(rumor) => {
                let gossip::Rumor { origin, sequence, hops, content } = rumor;
                let origin = self.origin(*origin);
                match content {
                    Content::Record { name } => format!("rumor {origin}/0 hop {hops}: I am {name}"),
                    Content::User(payload) => {
                        format!("rumor {origin}/{sequence} hop {hops} {}", text(payload))
                    }
                }
            }
            Message::Prune => "prune".into(),
            Message::Graft => "graft".into(),
            Message::Known { origin, sequence } => {
                format!("knew {}/{sequence}", self.origin(*origin))
            }
            Message::Hash(hash) => format!("hash {:04x}", hash >> 48),
            Message::Digest { have, .. } => format!("digest {}", self.haves(have)),
            Message::Want(ranges) => format!("wants {}", self.ranges(ranges)),
            Message::Forgotten(ranges) => format!("forgot {}", self.ranges(ranges)),
        }
    }

    fn gossip_event(self, event: &gossip::Event) -> String {
        use gossip::Event;
        match event {
            Event::Heard { origin, sequence, hops, payload, .. } => {
                format!("HEARD {}/{sequence} hop {hops} {}", self.origin(*origin), text(payload))
            }
            Event::Published { ticket, sequence } => format!("published #{ticket} as {sequence}"),
            Event::Refused { ticket, reason } => format!("refused #{ticket}: {}", lower(reason)),
            Event::NeighborUp(peer) => format!("neighbor {}", self.0.name(*peer)),
        }
    }

    /// Who is at this place of the list.
    fn position(self, position: u16) -> String {
        self.0.position(position)
    }

    /// Whose stream; a later life of a node has a prime.
    fn origin(self, origin: Origin) -> String {
        let name = self.0.name(origin.node);
        if self.0.is_later_life(origin) { format!("{name}'") } else { name }
    }

    fn haves(self, have: &[Have]) -> String {
        let of = |have: &Have| {
            let beyond = if have.beyond.is_empty() { "" } else { "+" };
            format!("{}<{}{beyond}", self.origin(have.origin), have.up_to)
        };
        list(have, of)
    }

    fn ranges(self, ranges: &[Range]) -> String {
        let of = |r: &Range| format!("{}/{}", self.origin(r.origin), range(r.first, r.last));
        list(ranges, of)
    }
}

/// The first few of a list.
fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    const MAX: usize = 8;
    let mut texts: Vec<String> = items.iter().take(MAX).map(text).collect();
    if items.len() > MAX {
        texts.push(format!("and {} more", items.len() - MAX));
    }
    if texts.is_empty() { "nothing".into() } else { texts.join(",") }
}

fn range(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn received_text(received: &Received) -> String {
    let mut text = format!("≤{}", received.up_to);
    for number in received.also.iter().take(8) {
        text = format!("{text},{number}");
    }
    text
}

fn view_text(view: &View) -> String {
    let names: Vec<&str> = view.members.iter().map(|member| member.name.as_str()).collect();
    format!("view {} of {}", view.number, names.join(","))
}

fn ballot_text(ballot: Ballot) -> String {
    format!("{}.{}", ballot.round, ballot.by)
}

fn value_text(value: &Value) -> String {
    let loss = if value.loss { ", with loss" } else { "" };
    format!("{} after {}{loss}", view_text(&value.view), value.order.position)
}

/// A name of the code as a word.
fn lower(what: &impl Debug) -> String {
    let mut text = String::new();
    for c in format!("{what:?}").chars() {
        if c.is_uppercase() && text.ends_with(|last: char| last.is_lowercase()) {
            text.push(' ');
        }
        text.extend(c.to_lowercase());
    }
    text
}

/// The beginning of a payload, as far as it is text, and its length.
fn text(payload: &Bytes) -> String {
    let plain = |b: &&u8| b.is_ascii_graphic() || **b == b' ';
    let shown: String =
        payload.iter().take(PAYLOAD_MAX).take_while(plain).map(|b| char::from(*b)).collect();
    let shown = shown.trim_end();
    if shown.len() == payload.len() {
        format!("“{shown}”")
    } else {
        format!("“{shown}…” {} B", payload.len())
    }
}
