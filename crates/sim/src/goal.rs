//! Liveness: what must be reached once the faults are over.

use crate::{
    invariant::{Seen, Who},
    scenario::Scenario,
};
use roundelay_core::{
    change, founding,
    gossip::{self, Origin},
    id::{NodeId, mix64},
    multicast, node,
    protocol::{Effect, Input},
    tokenring::{self, LockName, Mode},
    view::{Record, View},
};
use std::collections::{BTreeMap, BTreeSet};

/// What applications wait for. It is fed like an invariant, and asked from time to time what is
/// still open.
#[derive(Debug, Default)]
pub struct Goals {
    /// The view of each life, and the newest that anybody has installed, or knows to be decided.
    views: BTreeMap<Who, u64>,
    newest: Option<View>,
    /// All views that are known to be decided.
    decided: BTreeMap<u64, View>,
    /// The last position before each view.
    bases: BTreeMap<u64, u64>,
    /// Starts that were asked for and not answered.
    starting: BTreeMap<Who, u32>,
    waiting: BTreeMap<(Who, u64), LockName>,
    held: BTreeMap<(Who, u64), LockName>,
    unsent: BTreeSet<(Who, u64)>,
    /// The last position of each life.
    delivered: BTreeMap<Who, u64>,
    heard: BTreeMap<Who, BTreeMap<Origin, Heard>>,
    unpublished: BTreeSet<(Who, u64)>,
    leaving: BTreeSet<Who>,
    left: BTreeSet<Who>,
    last_grant: Option<Who>,
    counts: Counts,
}

/// Something that must be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// What it is called.
    pub name: &'static str,
    /// Where it is promised.
    pub source: &'static str,
}

/// A goal that is not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Which.
    pub goal: Goal,
    /// Who misses what.
    pub what: String,
}

impl Goal {
    pub(crate) fn open(self, what: String) -> Open {
        Open { goal: self, what }
    }
}

const fn goal(name: &'static str, source: &'static str) -> Goal {
    Goal { name, source }
}

/// Everything is said and done, and nothing is kept that should be gone.
pub(crate) const EMPTIED: Goal = goal("buffers_emptied", "crates/core/src/protocol.rs, 6: bounded");
const ANSWERED_START: Goal = goal("start_answered", "docs/protocols/token-ring.md, founding");
const FOUNDED: Goal = goal("group_founded", "docs/protocols/token-ring.md, founding");
const ONE_VIEW: Goal = goal("one_view", "crates/core/src/change.rs: liveness");
const LEFT: Goal = goal("leave_done", "docs/protocols/token-ring.md, leaving");
const GRANTED: Goal = goal("lock_granted", "docs/protocols/token-ring.md: bounded waiting");
const RELEASED: Goal = goal("lock_released", "docs/protocols/token-ring.md: bounded waiting");
const SENT: Goal = goal("send_answered", "docs/protocols/multicast.md: validity");
const DELIVERED: Goal = goal("all_delivered", "docs/protocols/multicast.md: uniform agreement");
const PUBLISHED: Goal = goal("publish_answered", "docs/protocols/gossip.md: everybody");
const SPREAD: Goal = goal("rumors_spread", "docs/protocols/gossip.md: everybody");

/// How much a run did: a run that did nothing proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Locks granted.
    pub grants: u64,
    /// Grants at another node than the one before (of any lock).
    pub hand_offs: u64,
    /// Locks refused to a `try`.
    pub busy: u64,
    /// Waits that were cancelled.
    pub cancelled: u64,
    /// Hops of circulating tokens.
    pub hops: u64,
    /// Messages delivered in order, over all members.
    pub deliveries: u64,
    /// Rumors heard, over all nodes.
    pub rumors: u64,
    /// Members that left in order.
    pub leaves: u64,
    /// Starts that were refused.
    pub refused_starts: u64,
    /// Views that were installed after the first, over all members.
    pub views: u64,
    /// Lives that were taken into a group that went on.
    pub joins: u64,
    /// Guards that were lost.
    pub lost: u64,
    /// Tokens that were made anew.
    pub regenerated: u64,
    /// Groups that stand still, as they must: who decides is gone, with all it knew.
    pub stuck: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.grants += other.grants;
        self.hand_offs += other.hand_offs;
        self.busy += other.busy;
        self.cancelled += other.cancelled;
        self.hops += other.hops;
        self.deliveries += other.deliveries;
        self.rumors += other.rumors;
        self.leaves += other.leaves;
        self.refused_starts += other.refused_starts;
        self.views += other.views;
        self.joins += other.joins;
        self.lost += other.lost;
        self.regenerated += other.regenerated;
        self.stuck += other.stuck;
    }
}

/// Which rumors of one origin a node has heard: how many, and a sum over their hashes that is
/// equal for equal sets in whatever order they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    count: u64,
    sum: u64,
}

impl Goals {
    /// How much has happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes note of what is seen of `who`.
    pub fn see(&mut self, who: Who, seen: &Seen<'_>) {
        match seen {
            Seen::Effect(Effect::Send { message: node::Message::Change(message), .. }) => {
                if let change::Body::Decided { value } = &message.body {
                    self.on_decided(&value.view);
                }
            }
            Seen::Effect(Effect::Save(record)) if !record.is_blank() => {
                let view = &record.installed.view;
                self.decided.entry(view.number).or_insert_with(|| view.clone());
            }
            Seen::Input(Input::Command(command)) => self.on_command(who, command),
            Seen::Effect(Effect::Emit(event)) => match event {
                node::Event::View { view, joins, position, .. } => {
                    self.bases.insert(view.number, *position);
                    self.on_view(who, view, *joins);
                }
                node::Event::Out { .. } => {
                    self.views.remove(&who);
                }
                node::Event::Founding(event) => self.on_founding(who, event),
                node::Event::Lock(event) => self.on_lock(who, event),
                node::Event::Order(event) => self.on_order(who, event),
                node::Event::Gossip(event) => self.on_gossip(who, event),
                node::Event::LeaveDone => {
                    self.counts.leaves += 1;
                    self.leaving.remove(&who);
                    self.left.insert(who);
                }
                node::Event::Peer { .. } | node::Event::Change(_) => {}
            },
            _ => {}
        }
    }

    /// What is not reached yet, given who still runs, in which life; nothing when all is well.
    pub fn open(&self, scenario: &Scenario, running: &[Who]) -> Vec<Open> {
        let mut open = Vec::new();
        for Who { node, .. } in self.starting.keys() {
            open.push(
                ANSWERED_START.open(format!(
                    "{} does not know what became of its start",
                    scenario.name(*node)
                )),
            );
        }
        if scenario.group_prospers() {
            self.open_group(scenario, running, &mut open);
        }
        if scenario.parts.gossip {
            self.open_rumors(scenario, running, &mut open);
        }
        open
    }

    /// Whether the group cannot go on: of the newest view that anybody has installed, on whatever
    /// disk, those who decide are gone, and what they knew with them (V5, V6).
    pub fn is_stuck<'a>(
        &self,
        running: &[Who],
        record: impl Fn(NodeId) -> Option<&'a Record>,
    ) -> bool {
        let number = |who: &Who| record(who.node).map(|record| record.installed.view.number);
        let kept = running.iter().filter_map(number);
        let used = running.iter().filter_map(|who| self.views.get(who).copied());
        let newest = kept.chain(used).max().unwrap_or(0);
        let Some(view) = self.decided.get(&newest) else { return false };
        let stays = |who: Who| running.contains(&who) && !self.left.contains(&who);
        // Who has its disk can decide, though it remembers nothing.
        let restarted = |who: Who| {
            let now = running.iter().find(|now| now.node == who.node);
            now.is_some_and(|now| !self.left.contains(now))
                && record(who.node).is_some_and(|record| record.lives.contains(&who.life))
        };
        let whos = view.members.iter().map(|member| Who { node: member.id, life: member.life });
        let decides = |who: &Who| stays(*who) || restarted(*who);
        let all = whos.clone().filter(decides).count() == view.len();
        let deciding = whos.enumerate().filter(|(_, who)| decides(who));
        let quorum = deciding.fold(0, |all, (at, _)| all | 1 << at);
        !(view.is_quorum(quorum) && (all || self.is_remembered(view, stays)))
    }

    /// Whether what is left of a view's memory is enough to find all that may have been delivered in
    /// it (V5). Who has not caught up with the view has delivered nothing in it (V4).
    fn is_remembered(&self, view: &View, stays: impl Fn(Who) -> bool) -> bool {
        let base = self.bases.get(&view.number).copied().unwrap_or(0);
        let whos = view.members.iter().map(|member| Who { node: member.id, life: member.life });
        let knows = |who: &Who| self.delivered.get(who).copied().unwrap_or(0) >= base;
        let (intact, mute): (Vec<Who>, Vec<Who>) = whos.filter(|who| stays(*who)).partition(knows);
        !intact.is_empty() && intact.len() + mute.len() >= view.len().div_ceil(2)
    }

    /// Whether these members of a view can decide what follows it: they are a quorum, and enough of
    /// them remember the order up to the view, which who was taken in not long ago does not (V4).
    pub fn can_decide(&self, view: &View, stays: impl Fn(Who) -> bool) -> bool {
        let whos = view.members.iter().map(|member| Who { node: member.id, life: member.life });
        let staying: Vec<(usize, Who)> = whos.enumerate().filter(|(_, who)| stays(*who)).collect();
        let base = self.bases.get(&view.number).copied().unwrap_or(0);
        let knows = |who: &Who| self.delivered.get(who).copied().unwrap_or(0) >= base;
        let intact = staying.iter().filter(|(_, who)| knows(who)).count();
        let quorum = staying.iter().fold(0, |all, (at, _)| all | 1 << at);
        view.is_quorum(quorum) && intact >= view.len().div_ceil(2)
    }

    /// Notes that the group of this run stands still.
    pub(crate) fn count_stuck(&mut self) {
        self.counts.stuck += 1;
    }

    fn open_group(&self, scenario: &Scenario, running: &[Who], open: &mut Vec<Open>) {
        for Who { node, .. } in &self.leaving {
            open.push(LEFT.open(format!("{} has not left", scenario.name(*node))));
        }
        self.open_view(scenario, running, open);
        // These also hold of nodes that have left: before, they owe everybody an answer.
        for ((Who { node, .. }, ticket), lock) in &self.waiting {
            let name = scenario.name(*node);
            let what = format!("{name} waits for lock {lock} (ticket {ticket})");
            open.push(GRANTED.open(what));
        }
        for ((Who { node, .. }, ticket), lock) in &self.held {
            let name = scenario.name(*node);
            let what = format!("{name} has not released lock {lock} (ticket {ticket})");
            open.push(RELEASED.open(what));
        }
        for (Who { node, .. }, ticket) in &self.unsent {
            let name = scenario.name(*node);
            let what = format!("{name} does not know what became of message {ticket}");
            open.push(SENT.open(what));
        }
    }

    /// All who run, and nobody else, are in one view, and have delivered the same.
    fn open_view(&self, scenario: &Scenario, running: &[Who], open: &mut Vec<Open>) {
        let stay = |who: &&Who| !self.left.contains(who);
        if !running.iter().any(|who| stay(&who)) {
            return; // With the last member the group has ended.
        }
        let Some(newest) = self.newest.as_ref() else {
            if let Some(Who { node, .. }) = running.iter().find(stay) {
                open.push(FOUNDED.open(format!("{} is in no group", scenario.name(*node))));
            }
            return;
        };
        let delivered = |who: &Who| self.delivered.get(who).copied().unwrap_or(0);
        let most = running.iter().filter(stay).map(delivered).max().unwrap_or(0);
        for who in running.iter().filter(stay) {
            let (name, number) = (scenario.name(who.node), newest.number);
            match self.views.get(who) {
                Some(view) if *view == number => {}
                Some(view) => {
                    open.push(ONE_VIEW.open(format!("{name} is in view {view}, not {number}")));
                }
                None => open.push(ONE_VIEW.open(format!("{name} is in no view, not in {number}"))),
            }
            let all = delivered(who);
            if scenario.parts.order && all < most {
                open.push(DELIVERED.open(format!("{name} has delivered {all} of {most} messages")));
            }
        }
        let whos = newest.members.iter().map(|member| Who { node: member.id, life: member.life });
        for who in whos.filter(|who| !running.contains(who) || self.left.contains(who)) {
            let name = scenario.name(who.node);
            let number = newest.number;
            open.push(ONE_VIEW.open(format!("{name} is gone, but is in view {number}")));
        }
    }

    fn open_rumors(&self, scenario: &Scenario, running: &[Who], open: &mut Vec<Open>) {
        for (who, ticket) in &self.unpublished {
            let name = scenario.name(who.node);
            let what = format!("{name} does not know what became of rumor {ticket}");
            open.push(PUBLISHED.open(what));
        }
        if !scenario.gossip_retains() {
            return;
        }
        // A rumor that any of those who are connected has heard must reach all of them. (What its
        // origin says it hears at once, so nothing of a living origin is left out.)
        for part in scenario.connected(running) {
            let mut all: BTreeMap<Origin, Heard> = BTreeMap::new();
            for who in &part {
                for (origin, heard) in self.heard.get(who).into_iter().flatten() {
                    let most = all.entry(*origin).or_default();
                    if heard.count >= most.count {
                        *most = *heard;
                    }
                }
            }
            for who in &part {
                for (origin, most) in &all {
                    let heard = self.heard.get(who).and_then(|all| all.get(origin)).copied();
                    if heard != Some(*most) {
                        let (name, of) = (scenario.name(who.node), scenario.name(origin.node));
                        let count = heard.unwrap_or_default().count;
                        let all = most.count;
                        let what = format!("{name} has heard {count} of {all} rumors of {of}");
                        open.push(SPREAD.open(what));
                    }
                }
            }
        }
    }

    fn on_command(&mut self, who: Who, command: &node::Command) {
        match command {
            node::Command::Lock(tokenring::Command::Lock { lock, ticket, .. }) => {
                self.waiting.insert((who, *ticket), lock.clone());
            }
            node::Command::Order(multicast::Command::Send { ticket, .. }) => {
                self.unsent.insert((who, *ticket));
            }
            node::Command::Gossip(gossip::Command::Publish { ticket, .. }) => {
                self.unpublished.insert((who, *ticket));
            }
            node::Command::Start => *self.starting.entry(who).or_default() += 1,
            node::Command::Leave => {
                self.leaving.insert(who);
            }
            _ => {}
        }
    }

    fn on_view(&mut self, who: Who, view: &View, joins: bool) {
        self.starting.remove(&who);
        self.views.insert(who, view.number);
        self.on_decided(view);
        self.counts.views += u64::from(view.number > 1);
        self.counts.joins += u64::from(joins && view.number > 1);
    }

    fn on_decided(&mut self, view: &View) {
        if self.newest.as_ref().is_none_or(|newest| newest.number < view.number) {
            self.newest = Some(view.clone());
        }
    }

    fn on_founding(&mut self, who: Who, event: &founding::Event) {
        if let founding::Event::Refused(_) = event {
            self.counts.refused_starts += 1;
            if let Some(asked) = self.starting.get_mut(&who) {
                *asked -= 1;
                if *asked == 0 {
                    self.starting.remove(&who);
                }
            }
        }
    }

    fn on_lock(&mut self, who: Who, event: &tokenring::Event) {
        match event {
            tokenring::Event::Granted { lock, ticket, .. } => {
                self.counts.grants += 1;
                if self.last_grant.replace(who).is_some_and(|last| last != who) {
                    self.counts.hand_offs += 1;
                }
                self.waiting.remove(&(who, *ticket));
                self.held.insert((who, *ticket), lock.clone());
            }
            tokenring::Event::Released { ticket, .. } => {
                self.held.remove(&(who, *ticket));
            }
            tokenring::Event::Lost { ticket, .. } => {
                self.counts.lost += 1;
                self.held.remove(&(who, *ticket));
            }
            tokenring::Event::Refused { ticket, reason, .. } => {
                match reason {
                    tokenring::Refusal::NotHeld => return,
                    tokenring::Refusal::NotAvailable => self.counts.busy += 1,
                    tokenring::Refusal::Cancelled => self.counts.cancelled += 1,
                    _ => {}
                }
                self.waiting.remove(&(who, *ticket));
            }
            tokenring::Event::Token { .. } => self.counts.hops += 1,
            tokenring::Event::Regenerated { .. } => self.counts.regenerated += 1,
            tokenring::Event::WaitingFor(_) => {}
        }
    }

    fn on_order(&mut self, who: Who, event: &multicast::Event) {
        match event {
            multicast::Event::Delivered(delivery) => {
                self.counts.deliveries += 1;
                self.delivered.insert(who, delivery.position);
            }
            multicast::Event::Missed { to, .. } => {
                self.delivered.insert(who, *to);
            }
            multicast::Event::Sent { ticket, .. } | multicast::Event::Refused { ticket, .. } => {
                self.unsent.remove(&(who, *ticket));
            }
            _ => {}
        }
    }

    fn on_gossip(&mut self, who: Who, event: &gossip::Event) {
        match event {
            gossip::Event::Heard { origin, sequence, .. } => {
                self.counts.rumors += 1;
                let heard = self.heard.entry(who).or_default().entry(*origin).or_default();
                heard.count += 1;
                heard.sum = heard.sum.wrapping_add(mix64(*sequence));
            }
            gossip::Event::Published { ticket, .. } | gossip::Event::Refused { ticket, .. } => {
                self.unpublished.remove(&(who, *ticket));
            }
            gossip::Event::NeighborUp(_) => {}
        }
    }

    /// Forgets what a life has asked for that is over.
    pub fn on_end_of_life(&mut self, who: Who) {
        self.unpublished.retain(|(asked, _)| *asked != who);
        self.unsent.retain(|(asked, _)| *asked != who);
        self.waiting.retain(|(asked, _), _| *asked != who);
        self.held.retain(|(asked, _), _| *asked != who);
        self.starting.remove(&who);
        self.leaving.remove(&who);
        self.views.remove(&who);
    }
}

/// Whether a message may be sent when nothing happens: heartbeats, with all that goes with them,
/// hashes that are compared now and then, a token that circulates; and whatever a group tries that
/// has no future.
pub fn is_background(message: &node::Message, scenario: &Scenario, stuck: bool) -> bool {
    let hopeless = scenario.group && (stuck || !scenario.group_prospers());
    match message {
        node::Message::Detector(_) | node::Message::Gossip(gossip::Message::Hash(_)) => true,
        node::Message::Change(change::Message { body: change::Body::Beat { .. }, .. }) => true,
        node::Message::Lock(message) => {
            let circulates = match &message.body {
                tokenring::Body::Stamp { .. } => return true,
                tokenring::Body::Pass { lock, .. } => *lock == LockName::default_lock(),
                tokenring::Body::PassAck(_) => true,
                _ => false,
            };
            hopeless || scenario.mode == Mode::Circulate && circulates
        }
        node::Message::Founding(_) | node::Message::Change(_) | node::Message::Order(_) => hopeless,
        node::Message::Gossip(_) => false,
    }
}
