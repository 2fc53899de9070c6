//! The recordings of several nodes as one history, checked by the invariants of simulated runs.

use super::{Divergence, ReadError, Reader, Replay};
use crate::{
    invariant::{Invariants, Violation, Who},
    scenario::closed_ring,
    sim::{Reading, Step},
    subject::Subject,
};
use core::hash::{Hash, Hasher};
use roundelay_core::{
    id::{Name, NodeId},
    multicast::{Line, LogEntry},
    node::{self, Node},
    protocol::{Effect, EffectOf, Input, InputOf},
    recording::Entry,
    time::Time,
    trace::TraceHasher,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Read,
    time::Duration,
};

/// Recorded lives, taken together.
///
/// Their clocks may differ. What is certain is that a message is received after it was sent: so an
/// input that is a message waits until its sender has come to send it, and among the inputs that
/// may be next the earliest goes first. What was sent by a node without a recording, or behind the
/// end of a torn one, is taken only when nothing else is left to do. Up to there the history is
/// whole and all invariants are checked; from there on only those that can do without the rest.
#[derive(Debug)]
pub struct History<P: Subject, R> {
    lives: Vec<Life<P, R>>,
    recorded: BTreeSet<NodeId>,
    invariants: Invariants,
    /// What was sent and not received yet: hashes of sender, receiver and message, counted.
    sent: HashMap<u64, u32>,
    /// What the nodes are known to have written.
    disks: BTreeMap<NodeId, Disk>,
    inputs: u64,
    unmatched: u64,
    gap: Option<Gap>,
}

/// What a node has written.
#[derive(Debug, Default)]
struct Disk {
    /// Hashes of its records. (The last save may have failed.)
    records: BTreeSet<u64>,
    /// The last entry of its log.
    appended: u64,
}

/// The first message that nobody is known to have sent, or start of a life with what nobody is known
/// to have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When it was received, in the time of the history.
    pub time: Time,
    /// By whom.
    pub to: NodeId,
    /// From whom; from itself, if it is what an earlier life has left.
    pub from: NodeId,
    /// How many inputs of the history came before.
    pub inputs: u64,
}

/// One recorded life of one node.
#[derive(Debug)]
pub struct Life<P: Subject, R> {
    reader: Reader<R>,
    replay: Replay<P>,
    who: Who,
    /// When the life's clock was at zero, in the time of the history.
    epoch: Duration,
    next: Option<Next>,
}

/// The input that has its turn in a life.
#[derive(Debug)]
struct Next {
    entry: Entry,
    time: Time,
    waits: Waits,
}

/// What an input waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// A recorded node has sent the message with this hash.
    Send {
        from: NodeId,
        hash: u64,
    },
    /// A node without a recording has sent it.
    Stranger {
        from: NodeId,
    },
}

/// What is wrong with recordings.
#[derive(Debug)]
pub struct Failure {
    /// In which of them, counted from 0.
    pub recording: usize,
    /// The number of the input, from 1.
    pub number: u64,
    /// The input, what the node did about it in the replay, and when, in the time of the history;
    /// unless it could not be read.
    pub step: Option<(Time, InputOf<Node>, Vec<EffectOf<Node>>)>,
    /// What.
    pub problem: Problem,
}

/// See [`Failure`].
#[derive(Debug)]
pub enum Problem {
    /// The recording cannot be read on.
    Unreadable(ReadError),
    /// The node goes another way.
    Diverged(Divergence),
    /// A promise was broken when this happened.
    Violated(Violation),
}

impl<P: Subject, R: Read> History<P, R> {
    /// The history of these lives. It is an error if the same life is there twice: the numbers of
    /// both recordings are returned.
    pub fn new(readers: Vec<Reader<R>>) -> Result<Self, (usize, usize)> {
        let whos: Vec<Who> = readers.iter().map(|reader| who(&reader.header().config)).collect();
        let mut seen = BTreeMap::new();
        for (at, who) in whos.iter().enumerate() {
            if let Some(first) = seen.insert(*who, at) {
                return Err((first, at));
            }
        }
        let configs: Vec<&node::Config> = readers.iter().map(|r| &r.header().config).collect();
        let invariants = invariants(&configs);
        let started = readers.iter().map(|r| r.header().started).min().unwrap_or_default();
        let life = |(reader, who): (Reader<R>, Who)| Life {
            replay: Replay::new(reader.header()),
            epoch: Duration::from_nanos(reader.header().started - started),
            reader,
            who,
            next: None,
        };
        Ok(Self {
            recorded: whos.iter().map(|who| who.node).collect(),
            lives: readers.into_iter().zip(whos).map(life).collect(),
            invariants,
            sent: HashMap::new(),
            disks: BTreeMap::new(),
            inputs: 0,
            unmatched: 0,
            gap: None,
        })
    }

    /// Takes the next input of the history; false if there is none. `watch` sees what comes of it.
    pub fn advance(&mut self, watch: &mut dyn FnMut(&Step<'_, P>)) -> Result<bool, Box<Failure>> {
        for at in 0..self.lives.len() {
            self.lives[at]
                .look(&self.recorded)
                .map_err(|error| self.failure(at, None, Problem::Unreadable(error)))?;
        }
        let Some(at) = self.choose() else { return Ok(false) };
        let Next { entry, time, waits } = self.lives[at].next.take().expect("it was chosen");
        self.match_send(at, time, waits);
        self.match_disk(at, time, &entry.input);
        let diverged = self.lives[at].replay.step(&entry);
        let Life { replay, who, .. } = &self.lives[at];
        let (node, effects) = (who.node, replay.effects());
        let (input, machine) = (entry.input, replay.machine());
        // Of the clocks it is known what they showed, not how fast they ran.
        let clock = Reading { shows: entry.time, slow_ppm: 0 };
        let step = Step { time, node, clock, input, effects, machine, ended: None };
        if diverged != Err(Divergence::Panic) && diverged != Err(Divergence::Input) {
            watch(&step);
        }
        let checked = match diverged {
            Err(divergence) => Err(Problem::Diverged(divergence)),
            Ok(()) => self.invariants.check(*who, &step).map_err(Problem::Violated),
        };
        let input = step.input;
        if let Err(problem) = checked {
            return Err(self.failure(at, Some((time, input)), problem));
        }
        self.inputs += 1;
        self.note_sends(at);
        Ok(true)
    }

    /// The life whose turn it is: the earliest of those that need not wait, or of all.
    fn choose(&self) -> Option<usize> {
        let nexts = self.lives.iter().enumerate();
        let nexts = nexts.filter_map(|(at, life)| life.next.as_ref().map(|next| (at, next)));
        nexts.min_by_key(|(at, next)| (!self.is_ready(*at, next), next.time, *at)).map(|(at, _)| at)
    }

    fn is_ready(&self, at: usize, next: &Next) -> bool {
        let sent = match next.waits {
            Waits::Nothing => true,
            Waits::Send { hash, .. } => self.sent.contains_key(&hash),
            Waits::Stranger { .. } => false,
        };
        sent && (self.lives.len() == self.recorded.len() || !self.is_other_life_due(at, next.time))
    }

    /// Whether another life of the same node has something to do before `time`: they have one clock,
    /// and what was meant for one must not be taken by the other.
    fn is_other_life_due(&self, at: usize, time: Time) -> bool {
        let node = self.lives[at].who.node;
        let mut others = self.lives.iter().filter(|life| life.who.node == node);
        others.any(|life| life.next.as_ref().is_some_and(|next| next.time < time))
    }

    /// Crosses the sending of a message off the list, or notes that it is not there.
    fn match_send(&mut self, at: usize, time: Time, waits: Waits) {
        let from = match waits {
            Waits::Nothing => return,
            Waits::Send { hash, from } => match self.sent.get_mut(&hash) {
                Some(1) => {
                    self.sent.remove(&hash);
                    return;
                }
                Some(count) => {
                    *count -= 1;
                    return;
                }
                None => from,
            },
            Waits::Stranger { from } => from,
        };
        self.unmatched += 1;
        self.note_gap(at, time, from);
    }

    /// Notes it if a life finds on its disk what no earlier one is known to have written.
    fn match_disk(&mut self, at: usize, time: Time, input: &InputOf<Node>) {
        let node = self.lives[at].who.node;
        let Input::Start(Some(saved)) = input else { return };
        let last = saved.log.last().map_or(0, |entry| entry.number);
        // An entry that says that there was no log before is written by no node.
        let is_new = matches!(saved.log[..], [LogEntry { line: Line::Unlogged, .. }]);
        let wrote = |disk: &Disk| {
            disk.records.contains(&hash(&saved.record)) && (last <= disk.appended || is_new)
        };
        if !self.disks.get(&node).is_some_and(wrote) {
            self.note_gap(at, time, node);
        }
    }

    fn note_gap(&mut self, at: usize, time: Time, from: NodeId) {
        let to = self.lives[at].who.node;
        self.gap.get_or_insert(Gap { time, to, from, inputs: self.inputs });
        self.invariants.expect_gaps();
    }

    fn note_sends(&mut self, at: usize) {
        let Life { replay, who, .. } = &self.lives[at];
        for effect in replay.effects() {
            let disk = self.disks.entry(who.node).or_default();
            match effect {
                Effect::Append(entry) => disk.appended = entry.number,
                Effect::Save(record) => {
                    disk.records.insert(hash(&**record));
                }
                _ => {}
            }
            let Effect::Send { to, message } = effect else { continue };
            for peer in to.peers().iter().filter(|peer| self.recorded.contains(peer)) {
                *self.sent.entry(hash(&(who.node, *peer, message))).or_default() += 1;
            }
        }
    }

    fn failure(
        &self,
        at: usize,
        step: Option<(Time, InputOf<Node>)>,
        problem: Problem,
    ) -> Box<Failure> {
        let replay = &self.lives[at].replay;
        let step = step.map(|(time, input)| (time, input, replay.effects().to_vec()));
        // An input that the node has handled is counted already.
        let handled = matches!(problem, Problem::Violated(_))
            || matches!(problem, Problem::Diverged(Divergence::Effects));
        let number = replay.inputs() + u64::from(!handled);
        Box::new(Failure { recording: at, number, step, problem })
    }

    /// The lives, in the order of their recordings.
    pub fn lives(&self) -> &[Life<P, R>] {
        &self.lives
    }

    /// How many inputs have been taken.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// How many messages were received that nobody is known to have sent.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// The first of them: up to there the history is whole.
    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// The invariants that are checked now.
    pub fn checked(&mut self) -> Vec<&'static str> {
        self.invariants.checked()
    }
}

impl<P: Subject, R: Read> Life<P, R> {
    /// The replay.
    pub fn replay(&self) -> &Replay<P> {
        &self.replay
    }

    /// The recording.
    pub fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    /// Makes sure that the next input is known, if there is one.
    fn look(&mut self, recorded: &BTreeSet<NodeId>) -> Result<(), ReadError> {
        if self.next.is_some() {
            return Ok(());
        }
        let Some(entry) = self.reader.next_entry()? else { return Ok(()) };
        let waits = match &entry.input {
            Input::Message { from, message } if recorded.contains(from) => {
                Waits::Send { from: *from, hash: hash(&(*from, self.who.node, message)) }
            }
            Input::Message { from, .. } => Waits::Stranger { from: *from },
            _ => Waits::Nothing,
        };
        let time = entry.time + self.epoch;
        self.next = Some(Next { entry, time, waits });
        Ok(())
    }
}

fn who(config: &node::Config) -> Who {
    Who { node: config.name.id(), life: config.life }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = TraceHasher::default();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The invariants for nodes with these settings.
fn invariants(configs: &[&node::Config]) -> Invariants {
    let turn = |config: &&node::Config| Some(config.group.as_ref()?.lock.as_ref()?.turn);
    let turn = configs.iter().filter_map(turn).max().unwrap_or(1);
    match pointers(configs) {
        Some(next) => Invariants::new(closed_ring(&next), turn),
        None => Invariants::of_any_ring(turn),
    }
}

/// The next pointers of all members of the group, as positions in the list, if all are known.
fn pointers(configs: &[&node::Config]) -> Option<Vec<usize>> {
    let groups: Vec<_> =
        configs.iter().filter_map(|c| c.group.as_ref().map(|group| &group.founding)).collect();
    let list = &groups.first()?.list;
    let pointer = |(at, name): (usize, &Name)| {
        let mut lives = groups.iter().filter(|group| group.name == *name && group.list == *list);
        let next = &lives.next()?.next;
        if lives.any(|life| life.next != *next) {
            return None;
        }
        match next {
            Some(next) => list.iter().position(|listed| listed == next),
            None => Some((at + 1) % list.len()),
        }
    };
    list.iter().enumerate().map(pointer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_close_over_all_or_are_none() {
        assert_eq!(closed_ring(&[0]), Some(vec![0]));
        assert_eq!(closed_ring(&[2, 0, 1]), Some(vec![0, 2, 1]));
        assert_eq!(closed_ring(&[1, 0, 0]), None);
        assert_eq!(closed_ring(&[1, 2, 1]), None);
        assert_eq!(closed_ring(&[1, 1]), None);
    }
}
