//! Runs the checker, and says what it has seen.

use crate::adapter::{Action, Checkable, INVARIANTS, Setup, SmallGroup, State};
use roundelay_core::protocol::Effect;
use stateright::{Checker, HasDiscoveries, Model};
use std::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// More steps than any exploration takes.
const STEPS_MAX: usize = 1000;

/// The longest text for one step.
const TEXT_MAX: usize = 300;

/// The states of all explorations so far.
static STATES: AtomicUsize = AtomicUsize::new(0);

/// Explores all that can ever happen to a group, and prints the counts.
#[track_caller]
pub(crate) fn exhaust<P: Checkable>(name: &str, setup: &Setup<P>) {
    let explored = explore(name, setup, STEPS_MAX);
    assert!(explored.is_exhausted(), "{name}: there is more");
}

/// Explores all that can happen to a group within so many steps, and prints the counts.
#[track_caller]
pub(crate) fn explore<P: Checkable>(name: &str, setup: &Setup<P>, steps: usize) -> Explored {
    let explored = Explored::new(setup, steps);
    let total = STATES.fetch_add(explored.states, Ordering::Relaxed) + explored.states;
    println!("{name:<44} {explored}, {total:>9} so far");
    if let Some(broken) = &explored.broken {
        panic!("{name}: broken by these steps:\n{broken}");
    }
    assert_eq!(explored.unreached, [""; 0], "{name}: what shows that the model lives");
    explored
}

/// Finds a shortest way to break an invariant, prints it, and says which invariant it breaks.
#[track_caller]
pub(crate) fn break_soonest<P: Checkable>(name: &str, setup: &Setup<P>) -> &'static str {
    let mut explored = Explored::new(setup, STEPS_MAX);
    let mut broken = explored.broken.unwrap_or_else(|| panic!("{name}: not found"));
    // The first that is found may not be a shortest one: the checker stops a little late.
    loop {
        explored = Explored::new(setup, broken.steps.len() - 1);
        let Some(sooner) = explored.broken else { break };
        broken = sooner;
    }
    println!("{name}: {} is broken in {} steps:\n{broken}", broken.invariant, broken.steps.len());
    broken.invariant
}

/// How far an exploration went.
pub(crate) struct Explored {
    /// Different states.
    states: usize,
    /// Steps between them; those that change nothing do not count.
    transitions: usize,
    /// The longest of the shortest ways to a state, in steps.
    depth: usize,
    /// How deep it was to go.
    depth_max: usize,
    time: Duration,
    /// What was to be reached, and was not.
    unreached: Vec<&'static str>,
    broken: Option<Broken>,
}

/// How an invariant is broken.
struct Broken {
    invariant: &'static str,
    /// A line for each.
    steps: Vec<String>,
    violation: String,
}

impl Explored {
    /// Explores, breadth first, all states that are at most `steps` steps away; ends soon after the
    /// first broken invariant.
    fn new<P: Checkable>(setup: &Setup<P>, steps: usize) -> Self {
        let began = Instant::now();
        // One thread: with several it is not quite breadth first. The tests run side by side.
        let checker = SmallGroup::new(setup.clone())
            .checker()
            .target_max_depth(steps + 2) // It counts states, not steps, and leaves out the last.
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let mut discoveries = checker.discoveries();
        let group = checker.model();
        let broken = discoveries.remove(INVARIANTS);
        let goals = setup.goals.iter().map(|(goal, _)| *goal);
        Self {
            states: checker.unique_state_count(),
            transitions: checker.state_count(),
            depth: checker.max_depth() - 1,
            depth_max: steps,
            time: began.elapsed(),
            unreached: goals.filter(|goal| !discoveries.contains_key(goal)).collect(),
            broken: broken.map(|path| group.retell(&path.into_actions())),
        }
    }

    fn is_exhausted(&self) -> bool {
        self.depth <= self.depth_max
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, depth, depth_max, time, .. } = self;
        let depth = depth.min(depth_max);
        let end = if self.is_exhausted() { "exhausted" } else { "bound    " };
        let seconds = time.as_secs_f64();
        write!(f, "{states:>8} states, {transitions:>9} transitions, depth {depth:>2}, {end}")?;
        write!(f, ", {seconds:>5.1} s")
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "{number:>4}  {step}")?;
        }
        write!(f, "      {}", self.violation)
    }
}

impl<P: Checkable> SmallGroup<P> {
    /// The steps to a broken invariant, as lines that one can read.
    fn retell(&self, actions: &[Action]) -> Broken {
        let mut state = self.init_states().remove(0);
        let mut steps = Vec::new();
        for action in actions {
            steps.push(self.line(&state, action));
            state = self.then(state, action);
        }
        let violation = state.violation.expect("the steps break it");
        let text = self.named(format!("{}: {}", violation.node, violation.what));
        Broken { invariant: violation.invariant, steps, violation: text }
    }

    /// A step: whose, what, and what its application is told.
    fn line(&self, state: &State<P>, action: &Action) -> String {
        let mut line = format!("{} ", self.names[action.node()]);
        let _ = match action {
            Action::Arrive(packet) => {
                write!(line, "< {} {:?}", self.names[packet.from], packet.message)
            }
            Action::Fire(_, timer) => write!(line, "* {timer:?}"),
            Action::Ask(node, at) => write!(line, "? {:?}", self.setup.scripts[*node][*at]),
            Action::Suspect(node, at) => {
                let peer = self.setup.suspects[*node][*at];
                write!(line, "~ does not reach {}", self.names[peer])
            }
            Action::Unlock(_, lock, ticket) => write!(line, "? Unlock {lock}, {ticket}"),
            Action::Restart(_) => write!(line, "= ends, and starts with its disk"),
            Action::Prepare(_, input) => write!(line, "= {input:?}"),
        };
        if matches!(action, Action::Restart(_)) {
            return line;
        }
        for effect in &self.outcome(state, action).effects {
            if let Effect::Emit(event) = effect {
                let _ = write!(line, " ! {event:?}");
            }
        }
        let line = self.named(line);
        let cut = line.char_indices().nth(TEXT_MAX);
        cut.map_or(line.clone(), |(at, _)| format!("{}…", &line[..at]))
    }

    /// Ids are hashes, which nobody can tell apart.
    fn named(&self, text: String) -> String {
        self.names
            .iter()
            .fold(text, |text, name| text.replace(&name.id().to_string(), name.as_str()))
    }
}
