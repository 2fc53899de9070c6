//! Recordings of simulated storms, which must replay, and make one history in which all holds; and
//! recordings that must not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use rand_core::SeedableRng as _;
use roundelay_core::{
    gossip,
    node::{self, Node},
    protocol::{Context, EffectOf, Input, InputOf, Protocol, Rng},
    recording::{self, Header, Recorder},
    tokenring,
};
use roundelay_sim::{
    Scenario, Subject,
    invariant::Invariants,
    replay::{Divergence, Failure, Gap, History, Problem, Reader},
    sim::Clock,
    storm,
};
use std::{cell::RefCell, mem, rc::Rc};

/// The bytes of one recording.
type File = Rc<RefCell<Vec<u8>>>;

thread_local! {
    /// The recordings of all nodes that were made since the last look.
    static FILES: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}

/// A node that records, with a seed of its own, as the driver of a real one does.
#[derive(Debug)]
struct Recorded<P: Subject> {
    node: P,
    config: node::Config,
    running: Option<(Recorder, Rng)>,
    file: File,
    effects: Vec<EffectOf<P>>,
}

impl<P: Subject> Recorded<P> {
    fn start(&self, random: u64) -> (Recorder, Rng) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&random.to_le_bytes());
        let (version, config) = ("test".into(), self.config.clone());
        let header = Header { version, config, seed, started: 0 };
        let recorder = Recorder::new(&header, &mut self.file.borrow_mut()).unwrap();
        (recorder, Rng::from_seed(seed))
    }
}

impl<P: Subject> Protocol for Recorded<P> {
    type Message = node::Message;
    type Timer = node::Timer;
    type Command = node::Command;
    type Event = node::Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        let random = cx.random();
        let (mut recorder, mut rng) = self.running.take().unwrap_or_else(|| self.start(random));
        let mut file = self.file.borrow_mut();
        recorder.input(cx.now(), &input, &mut file).unwrap();
        self.node.handle(input, &mut Context::new(cx.now(), &mut rng, &mut self.effects));
        recorder.effects(&self.effects, &mut file);
        self.running = Some((recorder, rng));
        cx.extend(self.effects.drain(..));
    }
}

impl<P: Subject> Subject for Recorded<P> {
    fn new(config: node::Config) -> Self {
        let file = File::default();
        FILES.with_borrow_mut(|files| files.push(Rc::clone(&file)));
        let node = P::new(config.clone());
        Self { node, config, running: None, file, effects: Vec::new() }
    }

    fn node(&self) -> &Node {
        self.node.node()
    }
}

/// Asked for a lock, it grants it itself.
#[derive(Debug)]
struct Generous(Node);

impl Protocol for Generous {
    type Message = node::Message;
    type Timer = node::Timer;
    type Command = node::Command;
    type Event = node::Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        let (mut effects, mut rng) = (Vec::new(), Rng::seed_from_u64(cx.random()));
        if let Input::Command(node::Command::Lock(tokenring::Command::Lock {
            lock, ticket, ..
        })) = &input
        {
            let (lock, ticket) = (lock.clone(), *ticket);
            cx.emit(node::Event::Lock(tokenring::Event::Granted { lock, ticket, fence: 1 }));
            return;
        }
        self.0.handle(input, &mut Context::new(cx.now(), &mut rng, &mut effects));
        cx.extend(effects);
    }
}

impl Subject for Generous {
    fn new(config: node::Config) -> Self {
        Self(Node::new(config))
    }

    fn node(&self) -> &Node {
        &self.0
    }
}

/// The recordings of a storm, and how many inputs it had. Messages are lost, late, and overtaken,
/// links break, nodes stop and crash; but as over real links, none arrives twice.
fn storm_of<P: Subject>(scenario: &mut Scenario) -> (Vec<Vec<u8>>, u64) {
    scenario.weather.duplication = 0;
    // A recording says when its clock was at zero: by that the guards of several nodes are compared.
    // These say that it was at the same time, and then it must be, and the clocks must be right.
    for node in &mut scenario.nodes {
        node.clock = Clock::default();
    }
    let mut steps = 0;
    // Whatever comes of it: here it is about the recordings.
    let _ = storm::run::<Recorded<P>>(scenario, &mut |_| steps += 1);
    let files = FILES.with_borrow_mut(mem::take);
    let files = files.iter().map(|file| file.take()).filter(|file| !file.is_empty());
    (files.collect(), steps)
}

/// How many invariants there are.
fn all() -> usize {
    Invariants::new(None, 1).checked().len()
}

/// What became of a history.
#[derive(Debug)]
struct Outcome {
    inputs: u64,
    unmatched: u64,
    gap: Option<Gap>,
    checked: usize,
    failure: Option<Failure>,
}

fn replayed<P: Subject>(files: &[Vec<u8>]) -> Outcome {
    let readers = files.iter().map(|file| Reader::new(&file[..]).unwrap()).collect();
    let mut history = History::<P, _>::new(readers).unwrap();
    let failure = loop {
        match history.advance(&mut |_| ()) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(failure) => break Some(*failure),
        }
    };
    Outcome {
        inputs: history.inputs(),
        unmatched: history.unmatched(),
        gap: history.gap(),
        checked: history.checked().len(),
        failure,
    }
}

#[test]
fn every_storm_replays_as_one_history() {
    for seed in 0..100 {
        let (files, steps) = storm_of::<Node>(&mut Scenario::new(seed));
        let outcome = replayed::<Node>(&files);
        assert!(outcome.failure.is_none(), "seed {seed}: {outcome:?}");
        assert_eq!((outcome.inputs, outcome.unmatched), (steps, 0), "seed {seed}: {outcome:?}");
        assert_eq!((outcome.gap, outcome.checked), (None, all()));
    }
}

#[test]
fn what_was_not_recorded_is_no_violation() {
    let mut gaps = 0;
    for seed in 0..60 {
        let (mut files, _) = storm_of::<Node>(&mut Scenario::new(seed));
        // One node was killed, and one never recorded.
        let torn = seed as usize % files.len();
        let (_, start) = recording::header(&files[torn]).unwrap().unwrap();
        let entries = files[torn].len() - start;
        files[torn].truncate(start + entries * (seed as usize % 7) / 7);
        let outcome = replayed::<Node>(&files);
        assert!(outcome.failure.is_none(), "seed {seed}, torn: {outcome:?}");
        files.remove(torn);
        gaps += u64::from(outcome.gap.is_some());
        let outcome = replayed::<Node>(&files);
        assert!(outcome.failure.is_none(), "seed {seed}, missing: {outcome:?}");
        if outcome.gap.is_some() {
            assert!(outcome.checked > 0 && outcome.checked < all(), "{outcome:?}");
        }
    }
    assert!(gaps > 10, "{gaps} of 60 torn recordings have left a gap");
}

#[test]
fn a_broken_promise_is_found_in_recordings() {
    let mut found = 0;
    for seed in 0..30 {
        let (files, _) = storm_of::<Generous>(&mut Scenario::new(seed));
        match replayed::<Generous>(&files).failure {
            Some(Failure { problem: Problem::Violated(violation), step, .. }) => {
                assert!(step.is_some());
                // Or the first grant comes before there is a view.
                let broken = ["exclusion", "fences", "active_majority"];
                assert!(broken.contains(&violation.invariant), "{violation:?}");
                found += 1;
            }
            Some(other) => panic!("seed {seed}: {other:?}"),
            // Some runs have no locks.
            None => {}
        }
    }
    assert!(found > 5, "{found} of 30");
}

#[test]
fn a_node_that_does_something_else_is_found() {
    let mut found = 0;
    for seed in 0..30 {
        let (files, _) = storm_of::<Generous>(&mut Scenario::new(seed));
        if let Some(failure) = replayed::<Node>(&files).failure {
            assert!(
                matches!(failure.problem, Problem::Diverged(Divergence::Effects)),
                "seed {seed}: {failure:?}"
            );
            assert!(failure.step.is_some());
            found += 1;
        }
    }
    assert!(found > 20, "{found} of 30");
}

/// A recording of the same entries, each changed by `change`, with right hashes of the inputs, and
/// the hashes of the effects that the node had then.
fn forged(file: &[u8], change: impl Fn(u64, &mut Header, &mut InputOf<Node>)) -> Vec<u8> {
    let mut reader = Reader::new(file).unwrap();
    let mut header = reader.header().clone();
    change(0, &mut header, &mut Input::Start(None));
    let mut bytes = Vec::new();
    let mut recorder = Recorder::new(&header, &mut bytes).unwrap();
    let (mut node, mut rng) =
        (Node::new(reader.header().config.clone()), Rng::from_seed(reader.header().seed));
    let mut number = 0;
    while let Some(mut entry) = reader.next_entry().unwrap() {
        number += 1;
        let mut effects = Vec::new();
        let input = entry.input.clone();
        node.handle(input, &mut Context::new(entry.time, &mut rng, &mut effects));
        change(number, &mut header, &mut entry.input);
        recorder.input(entry.time, &entry.input, &mut bytes).unwrap();
        recorder.effects(&effects, &mut bytes);
    }
    bytes
}

/// The recording of a node that says a rumor, and the number of the input by which it does.
fn gossiper() -> (Vec<u8>, u64) {
    for seed in 0..100 {
        let (files, _) = storm_of::<Node>(&mut Scenario::new(seed));
        for file in files {
            let mut reader = Reader::new(&file[..]).unwrap();
            let mut number = 0;
            while let Some(entry) = reader.next_entry().unwrap() {
                number += 1;
                if let Input::Command(node::Command::Gossip(gossip::Command::Publish { .. })) =
                    entry.input
                {
                    return (file, number);
                }
            }
        }
    }
    panic!("there are such seeds")
}

#[test]
fn a_forged_input_and_another_seed_are_found() {
    let (file, at) = gossiper();
    let same = forged(&file, |_, _, _| ());
    assert_eq!(same, file);
    let outcome = replayed::<Node>(&[same]);
    assert!(outcome.failure.is_none(), "{outcome:?}");

    let other_text = forged(&file, |number, _, input| {
        if let Input::Command(node::Command::Gossip(gossip::Command::Publish { payload, .. })) =
            input
            && number == at
        {
            *payload = Bytes::from_static(b"something else");
        }
    });
    let failure = replayed::<Node>(&[other_text]).failure.unwrap();
    assert!(matches!(failure.problem, Problem::Diverged(Divergence::Effects)), "{failure:?}");
    assert_eq!(failure.number, at);

    let other_seed = forged(&file, |_, header, _| header.seed[0] ^= 1);
    let failure = replayed::<Node>(&[other_seed]).failure.unwrap();
    assert!(matches!(failure.problem, Problem::Diverged(Divergence::Effects)), "{failure:?}");
}

#[test]
fn two_runs_do_not_make_one_history() {
    let seed = (0..100).find(|seed| Scenario::new(*seed).group_prospers()).unwrap();
    let mut scenario = Scenario::new(seed);
    let (mut first, _) = storm_of::<Node>(&mut scenario);
    // The same group, another day.
    for plan in &mut scenario.nodes {
        plan.config.life.0 += 1;
        if let Some(gossip) = &mut plan.config.gossip {
            gossip.life = plan.config.life;
        }
        if let Some(group) = &mut plan.config.group {
            group.founding.life = plan.config.life;
            group.change.life = plan.config.life;
        }
    }
    let (second, _) = storm_of::<Node>(&mut scenario);
    first.truncate(1);
    first.extend(second.into_iter().skip(1));
    let failure = replayed::<Node>(&first).failure.unwrap();
    let Problem::Violated(violation) = failure.problem else { panic!("{failure:?}") };
    assert!(["one_group", "one_chain"].contains(&violation.invariant), "{violation:?}");
}

#[test]
fn a_length_that_lies_costs_no_memory() {
    let (file, _) = gossiper();
    let (_, start) = recording::header(&file).unwrap().unwrap();
    let mut lies = file[..start].to_vec();
    lies.extend_from_slice(&(200_u32 << 20).to_le_bytes());
    lies.extend_from_slice(&[0; 100]);
    let mut reader = Reader::new(&lies[..]).unwrap();
    assert_eq!(reader.next_entry().unwrap(), None);
    assert!(reader.is_torn());
}
