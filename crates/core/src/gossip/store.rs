//! What a node knows of every stream, and the rumors that it retains for others.

use super::{Config, Content, Have, Origin, Range, Rumor, runs::Runs};
use crate::{
    id::{Name, NodeId, mix64},
    time::Time,
};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;

/// What a retained rumor costs besides its payload: so that empty ones are bounded too.
const RUMOR_COST: usize = 64;

/// All streams. What is known of a stream is never forgotten: a late copy of a rumor would else be
/// delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    own: Origin,
    age_max: Duration,
    bytes_max: usize,
    streams_max: usize,
    streams: BTreeMap<Origin, Stream>,
    /// Retained rumors that may be dropped, oldest first.
    droppable: VecDeque<(Origin, u64)>,
    /// Own rumors that nobody else is known to have: never dropped.
    unconfirmed: BTreeSet<u64>,
    unconfirmed_bytes: usize,
    /// Streams without a name that have rumors, and since when. These are held: not emitted, so
    /// never dropped.
    nameless: BTreeMap<Origin, Time>,
    held_bytes: usize,
    retained: usize,
    bytes: usize,
    hash: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Stream {
    have: Runs,
    /// From its record, or a placeholder.
    name: Option<Name>,
    kept: BTreeMap<u64, Kept>,
}

/// A retained rumor, and how it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    /// Its hops are those to this node.
    pub(super) rumor: Rumor,
    pub(super) arrived: Time,
    /// Who brought it; nobody if it is an own one.
    pub(super) from: Option<NodeId>,
    /// Who was asked for it before it came.
    pub(super) asked: Vec<NodeId>,
    /// If it was repaired because it had not come by itself, and still has not: since when it was
    /// waited for, and whose link was made part of the tree for it.
    pub(super) overdue: Option<(Time, Option<NodeId>)>,
    /// Whether it is spread by rumor mongering.
    pub(super) hot: bool,
}

impl Store {
    pub(super) fn new(config: &Config, own: Origin) -> Self {
        Self {
            own,
            age_max: config.retention_age,
            bytes_max: config.retention_bytes,
            streams_max: config.origins_max.max(1),
            streams: BTreeMap::new(),
            droppable: VecDeque::new(),
            unconfirmed: BTreeSet::new(),
            unconfirmed_bytes: 0,
            nameless: BTreeMap::new(),
            held_bytes: 0,
            retained: 0,
            bytes: 0,
            hash: None,
        }
    }

    pub(super) fn knows(&self, origin: Origin, sequence: u64) -> bool {
        self.streams.get(&origin).is_some_and(|stream| stream.have.contains(sequence))
    }

    /// Whether rumors of this stream can be remembered at all.
    pub(super) fn has_room_for(&self, origin: Origin) -> bool {
        self.streams.len() < self.streams_max || self.streams.contains_key(&origin)
    }

    /// Whether this rumor, which is not known, can be taken now. If not, it stays unknown, and will
    /// be repaired when there is room.
    pub(super) fn admits(&self, rumor: &Rumor) -> bool {
        let stream = self.streams.get(&rumor.origin);
        if !stream.map_or(self.streams.len() < self.streams_max, |stream| {
            stream.have.has_room_for(rumor.sequence)
        }) {
            return false;
        }
        let held = rumor.sequence > 0 && stream.is_none_or(|stream| stream.name.is_none());
        !held || self.held_bytes == 0 || self.held_bytes + cost(rumor) <= self.bytes_max / 4
    }

    /// Takes a rumor that is not known and that [`Self::admits`].
    pub(super) fn insert(&mut self, kept: Kept) {
        let Rumor { origin, sequence, .. } = kept.rumor;
        let bytes = cost(&kept.rumor);
        let stream = self.streams.entry(origin).or_default();
        let added = stream.have.insert(sequence, sequence);
        assert!(added, "the caller has asked whether there is room");
        self.hash = None;
        match &kept.rumor.content {
            Content::Record { name } => stream.name = Some(name.clone()),
            Content::User(_) => {
                self.retained += 1;
                self.bytes += bytes;
                if origin == self.own {
                    self.unconfirmed.insert(sequence);
                    self.unconfirmed_bytes += bytes;
                } else if stream.name.is_some() {
                    self.droppable.push_back((origin, sequence));
                } else {
                    self.nameless.entry(origin).or_insert(kept.arrived);
                    self.held_bytes += bytes;
                }
            }
        }
        stream.kept.insert(sequence, kept);
    }

    /// The name of the stream's node, if its record is known or was given up.
    pub(super) fn name(&self, origin: Origin) -> Option<&Name> {
        self.streams.get(&origin)?.name.as_ref()
    }

    /// The streams that have been waiting for a name for this long.
    pub(super) fn nameless_for(&self, patience: Duration, now: Time) -> Vec<Origin> {
        let waited = self.nameless.iter().filter(|(_, since)| now.since(**since) >= patience);
        waited.map(|(origin, _)| *origin).collect()
    }

    /// Names a stream whose record did not come.
    pub(super) fn name_without_record(&mut self, origin: Origin, placeholder: Name) {
        let stream = self.streams.get_mut(&origin).expect("nameless streams have rumors");
        assert!(stream.name.is_none(), "only what has no name is waited for");
        stream.name = Some(placeholder);
    }

    /// The rumors that were held until their stream got a name, which it just did. None if it had
    /// one before, so nothing is released twice.
    pub(super) fn release(&mut self, origin: Origin) -> Vec<Rumor> {
        if self.nameless.remove(&origin).is_none() {
            return Vec::new();
        }
        let stream = self.streams.get(&origin).expect("nameless streams have rumors");
        let rumors: Vec<Rumor> = stream.kept.range(1..).map(|(_, k)| k.rumor.clone()).collect();
        for rumor in &rumors {
            self.held_bytes -= cost(rumor);
            self.droppable.push_back((origin, rumor.sequence));
        }
        rumors
    }

    /// Drops what is too old or too much, oldest first.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((origin, sequence)) = self.droppable.front().copied() {
            let stream = self.streams.get_mut(&origin).expect("streams are never forgotten");
            let kept = stream.kept.get(&sequence).expect("what may be dropped is retained");
            if self.bytes <= self.bytes_max && now.since(kept.arrived) < self.age_max {
                break;
            }
            self.bytes -= cost(&kept.rumor);
            self.retained -= 1;
            stream.kept.remove(&sequence);
            self.droppable.pop_front();
        }
    }

    /// Counts a range as known although its rumors never came. False if there is no room for that.
    pub(super) fn forget(&mut self, range: Range) -> bool {
        if !self.has_room_for(range.origin) {
            return false;
        }
        let stream = self.streams.entry(range.origin).or_default();
        self.hash = None;
        stream.have.insert(range.first, range.last)
    }

    /// Somebody else has these of the own rumors.
    pub(super) fn confirm(&mut self, runs: &Runs) {
        let rest = self.unconfirmed.split_off(&runs.up_to());
        let mut confirmed = core::mem::replace(&mut self.unconfirmed, rest);
        for (first, last) in runs.beyond() {
            confirmed.extend(self.unconfirmed.range(first..=last));
        }
        for sequence in confirmed {
            self.unconfirmed.remove(&sequence);
            self.make_droppable(sequence);
        }
    }

    /// Somebody else has this own rumor.
    pub(super) fn confirm_one(&mut self, sequence: u64) {
        if self.unconfirmed.remove(&sequence) {
            self.make_droppable(sequence);
        }
    }

    fn make_droppable(&mut self, sequence: u64) {
        let kept = self.kept(self.own, sequence).expect("unconfirmed rumors are retained");
        self.unconfirmed_bytes -= cost(&kept.rumor);
        self.droppable.push_back((self.own, sequence));
    }

    /// Somebody else has all that this node has.
    pub(super) fn confirm_all(&mut self) {
        for sequence in core::mem::take(&mut self.unconfirmed) {
            self.make_droppable(sequence);
        }
    }

    /// How many own rumors nobody else is known to have.
    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Whether another own rumor is accepted: half of the budget is for the rumors of others.
    pub(super) fn accepts_own(&self) -> bool {
        self.unconfirmed.is_empty() || self.unconfirmed_bytes < self.bytes_max / 2
    }

    /// Whether so many own rumors wait for confirmation that a neighbour should be asked for it.
    pub(super) fn is_pressed(&self) -> bool {
        self.unconfirmed_bytes >= self.bytes_max / 4 && !self.unconfirmed.is_empty()
    }

    pub(super) fn kept(&self, origin: Origin, sequence: u64) -> Option<&Kept> {
        self.streams.get(&origin)?.kept.get(&sequence)
    }

    pub(super) fn kept_mut(&mut self, origin: Origin, sequence: u64) -> Option<&mut Kept> {
        self.streams.get_mut(&origin)?.kept.get_mut(&sequence)
    }

    /// The retained rumors of the application.
    pub(super) fn user_rumors(&self) -> impl Iterator<Item = &Kept> {
        self.streams.values().flat_map(|stream| stream.kept.range(1..).map(|(_, kept)| kept))
    }

    /// Of `range`, in order: what is retained, and (`Err`) the runs that are known and gone.
    pub(super) fn recall(&self, range: Range) -> Vec<Result<&Kept, (u64, u64)>> {
        let mut found = Vec::new();
        let Some(stream) = self.streams.get(&range.origin) else { return found };
        let last = range.last.min(stream.have.end().saturating_sub(1));
        let mut next = range.first;
        let gone = |found: &mut Vec<_>, first: u64, end: u64| {
            let mut n = first;
            while n < end {
                let (known, last) = stream.have.span(n);
                if known {
                    found.push(Err((n, last.min(end - 1))));
                }
                n = last.min(end - 1) + 1;
            }
        };
        if range.first > last {
            return found;
        }
        for (sequence, kept) in stream.kept.range(range.first..=last).take(super::WANT_RUMORS) {
            gone(&mut found, next, *sequence);
            found.push(Ok(kept));
            next = sequence + 1;
        }
        if found.iter().filter(|found| found.is_ok()).count() < super::WANT_RUMORS {
            gone(&mut found, next, last + 1);
        }
        found
    }

    /// What this node has of one stream.
    pub(super) fn runs(&self, origin: Origin) -> Option<&Runs> {
        self.streams.get(&origin).map(|stream| &stream.have)
    }

    /// What this node has.
    pub(super) fn haves(&self) -> impl Iterator<Item = (Origin, &Runs)> {
        self.streams.iter().map(|(origin, stream)| (*origin, &stream.have))
    }

    /// What this node has of one stream that it knows.
    pub(super) fn have(&self, origin: Origin) -> Option<Have> {
        self.runs(origin).map(|runs| runs.to_have(origin))
    }

    /// What `runs` has of a stream and this node has not.
    pub(super) fn lacks(&self, origin: Origin, runs: &Runs) -> Vec<(u64, u64)> {
        match self.streams.get(&origin) {
            Some(stream) => stream.have.lacks(runs),
            None => Runs::default().lacks(runs),
        }
    }

    /// The hash of all that this node knows: equal at two nodes exactly if they know the same (but
    /// for collisions of 64 bits, which end with the next rumor).
    pub(super) fn hash(&mut self) -> u64 {
        *self.hash.get_or_insert_with(|| {
            let mut hash = 0;
            let mut add = |word: u64| {
                hash = mix64((hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15));
            };
            for (origin, stream) in &self.streams {
                add(origin.node.raw());
                add(origin.life.0 as u64);
                add((origin.life.0 >> 64) as u64);
                add(stream.have.up_to());
                for (first, last) in stream.have.beyond() {
                    add(*first);
                    add(*last);
                }
                // Ends the list of runs: without it a run could be taken for the next stream.
                add(u64::MAX);
            }
            hash
        })
    }

    pub(super) fn own_end(&self) -> u64 {
        self.runs(self.own).map_or(0, Runs::end)
    }

    pub(super) fn retained(&self) -> usize {
        self.retained
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn origins(&self) -> usize {
        self.streams.len()
    }
}

fn cost(rumor: &Rumor) -> usize {
    RUMOR_COST
        + match &rumor.content {
            Content::Record { .. } => 0,
            Content::User(payload) => payload.len(),
        }
}
