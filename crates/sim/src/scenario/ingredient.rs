//! What can be taken out of a scenario, and how it is called.
//!
//! Each fault and each task has a name that stays the same whatever else is taken out: `loss`,
//! `blackout:3`, `task:p2:7`. So a failing seed can be made smaller, and the smaller run still has
//! a line that reproduces it.

use super::Scenario;
use crate::work::Task;
use core::{fmt, ops::RangeInclusive, time::Duration};
use std::collections::BTreeSet;

/// One thing that can be taken out of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ingredient {
    /// What it is.
    pub kind: Kind,
    /// Which one of its kind, from 1.
    pub number: usize,
}

/// What there is to take out of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Messages that take longer than others, and so are overtaken.
    Reordering,
    /// Clocks that run slow.
    Skew,
    /// Timers that are late, and long batches.
    Lateness,
    /// Messages that are lost.
    Loss,
    /// Messages that arrive twice.
    Duplication,
    /// Messages that are held up.
    Straggling,
    /// Messages that are lost in bursts.
    Bursts,
    /// Links that are cut for a while.
    Blackout,
    /// Partitions of all nodes.
    Partition,
    /// Paths that hold everything back for a while.
    Jam,
    /// Paths that are slow for a while.
    Slowness,
    /// Nodes that stop for a while.
    Pause,
    /// Nodes that crash.
    Outage,
    /// Moments at which all lose their power.
    PowerCut,
    /// What the application of the node with this index does.
    Task(usize),
}

/// A text that names nothing in a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What was asked for.
    pub text: String,
    /// What there is.
    pub known: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, known } = self;
        write!(f, "there is no {text:?} in this run; there is {known}")
    }
}

impl core::error::Error for Unknown {}

impl Kind {
    /// The kinds that this scenario can have.
    fn all(scenario: &Scenario) -> Vec<Self> {
        let mut all = vec![
            Self::Reordering,
            Self::Skew,
            Self::Lateness,
            Self::Loss,
            Self::Duplication,
            Self::Straggling,
            Self::Bursts,
            Self::Blackout,
            Self::Partition,
            Self::Jam,
            Self::Slowness,
            Self::Pause,
            Self::Outage,
            Self::PowerCut,
        ];
        all.extend((0..scenario.nodes.len()).map(Self::Task));
        all
    }

    /// What all of its kind are called.
    fn family(self) -> &'static str {
        match self {
            Self::Reordering => "reordering",
            Self::Skew => "skew",
            Self::Lateness => "lateness",
            Self::Loss => "loss",
            Self::Duplication => "duplication",
            Self::Straggling => "straggling",
            Self::Bursts => "bursts",
            Self::Blackout => "blackout",
            Self::Partition => "partition",
            Self::Jam => "jam",
            Self::Slowness => "slowness",
            Self::Pause => "pause",
            Self::Outage => "outage",
            Self::PowerCut => "power",
            Self::Task(_) => "task",
        }
    }

    fn name(self, scenario: &Scenario) -> String {
        match self {
            Self::Task(node) => format!("task:{}", scenario.nodes[node].config.name),
            other => other.family().into(),
        }
    }

    fn count(self, scenario: &Scenario) -> usize {
        let (weather, settings) = (&scenario.weather, &scenario.settings);
        match self {
            Self::Reordering => usize::from(weather.latency.0 != weather.latency.1),
            Self::Skew => usize::from(scenario.nodes.iter().any(|n| n.clock.slow_ppm > 0)),
            Self::Lateness => {
                let short = settings.batch_max == PROMPT && settings.lateness_max.is_zero();
                usize::from(!short)
            }
            Self::Loss => usize::from(weather.loss > 0),
            Self::Duplication => usize::from(weather.duplication > 0),
            Self::Straggling => usize::from(weather.straggling.0 > 0),
            Self::Bursts => usize::from(weather.bursts.is_some()),
            Self::Blackout => weather.blackouts.len(),
            Self::Partition => weather.splits.len(),
            Self::Jam => weather.jams.len(),
            Self::Slowness => weather.slow.len(),
            Self::Pause => weather.pauses.len(),
            Self::Outage => weather.outages.len(),
            Self::PowerCut => weather.power_cuts.len(),
            Self::Task(node) => scenario.nodes[node].plan.tasks().count(),
        }
    }
}

/// The shortest batch.
const PROMPT: Duration = Duration::from_nanos(1);

impl Scenario {
    /// All faults and tasks. (To be asked of the whole scenario, before anything is taken out.)
    pub fn ingredients(&self) -> BTreeSet<Ingredient> {
        let of_kind =
            |kind: Kind| (1..=kind.count(self)).map(move |number| Ingredient { kind, number });
        Kind::all(self).into_iter().flat_map(of_kind).collect()
    }

    /// The same without these.
    #[must_use]
    pub fn without(&self, removed: &BTreeSet<Ingredient>) -> Self {
        let mut scenario = self.clone();
        let gone = |kind, number| removed.contains(&Ingredient { kind, number });
        let (weather, settings) = (&mut scenario.weather, &mut scenario.settings);
        if gone(Kind::Reordering, 1) {
            weather.latency.1 = weather.latency.0;
        }
        if gone(Kind::Lateness, 1) {
            (settings.batch_max, settings.lateness_max) = (PROMPT, Duration::ZERO);
        }
        if gone(Kind::Loss, 1) {
            weather.loss = 0;
        }
        if gone(Kind::Duplication, 1) {
            weather.duplication = 0;
        }
        if gone(Kind::Straggling, 1) {
            weather.straggling.0 = 0;
        }
        if gone(Kind::Bursts, 1) {
            weather.bursts = None;
        }
        retain(&mut weather.blackouts, |number| !gone(Kind::Blackout, number));
        retain(&mut weather.splits, |number| !gone(Kind::Partition, number));
        retain(&mut weather.jams, |number| !gone(Kind::Jam, number));
        retain(&mut weather.slow, |number| !gone(Kind::Slowness, number));
        retain(&mut weather.pauses, |number| !gone(Kind::Pause, number));
        retain(&mut weather.outages, |number| !gone(Kind::Outage, number));
        retain(&mut weather.power_cuts, |number| !gone(Kind::PowerCut, number));
        for (at, node) in scenario.nodes.iter_mut().enumerate() {
            if gone(Kind::Skew, 1) {
                node.clock.slow_ppm = 0;
            }
            for (task, number) in node.plan.tasks_mut().zip(1..) {
                if gone(Kind::Task(at), number) {
                    *task = Task::Nothing;
                }
            }
        }
        scenario
    }

    /// Finds what a list of names means: `loss,blackout:2-4,task:p1`.
    pub fn find(&self, names: &str) -> Result<BTreeSet<Ingredient>, Unknown> {
        let mut found = BTreeSet::new();
        for text in names.split(',') {
            let mut is_known = false;
            for kind in Kind::all(self) {
                let Some(numbers) = self.numbers(kind, text) else { continue };
                is_known = true;
                found.extend(numbers.map(|number| Ingredient { kind, number }));
            }
            if !is_known {
                return Err(Unknown { text: text.into(), known: self.spell(&self.ingredients()) });
            }
        }
        Ok(found)
    }

    /// Which ones of this kind `text` names, if any.
    fn numbers(&self, kind: Kind, text: &str) -> Option<RangeInclusive<usize>> {
        let (name, count) = (kind.name(self), kind.count(self));
        if text == name || text == kind.family() {
            return Some(1..=count);
        }
        let numbers = text.strip_prefix(&name)?.strip_prefix(':')?;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (1 <= first && first <= last && last <= count).then_some(first..=last)
    }

    /// The shortest list of names that [`find`](Self::find) understands as these.
    pub fn spell(&self, ingredients: &BTreeSet<Ingredient>) -> String {
        let mut names = Vec::new();
        let mut tasks = Vec::new();
        for kind in Kind::all(self) {
            let of_kind = ingredients.iter().filter(|ingredient| ingredient.kind == kind);
            let numbers: Vec<usize> = of_kind.map(|ingredient| ingredient.number).collect();
            let name = kind.name(self);
            let list = if matches!(kind, Kind::Task(_)) { &mut tasks } else { &mut names };
            if numbers.is_empty() {
                continue;
            }
            if numbers.len() == kind.count(self) {
                list.push(name);
            } else {
                list.extend(runs(&numbers).map(|run| format!("{name}:{run}")));
            }
        }
        let tasks_of_all = (0..self.nodes.len()).map(Kind::Task);
        let tasks_in_all: usize = tasks_of_all.map(|kind| kind.count(self)).sum();
        let has_task = |ingredient: &&Ingredient| matches!(ingredient.kind, Kind::Task(_));
        if tasks_in_all > 0 && ingredients.iter().filter(has_task).count() == tasks_in_all {
            tasks = vec!["task".into()];
        }
        names.append(&mut tasks);
        names.join(",")
    }
}

/// Keeps the items whose numbers, from 1, are to be kept.
fn retain<T>(items: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
    let mut number = 0;
    items.retain(|_| {
        number += 1;
        keep(number)
    });
}

/// Ascending numbers as `3` and `5-9`.
fn runs(numbers: &[usize]) -> impl Iterator<Item = String> {
    numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => unreachable!("no run is empty"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scenario with a bit of everything.
    fn rich() -> Scenario {
        let mut scenarios = (0..).map(Scenario::new);
        let rich = |s: &Scenario| {
            let weather = &s.weather;
            let all = weather.blackouts.len() > 3 && weather.pauses.len() > 1 && weather.loss > 0;
            all && !weather.outages.is_empty() && s.nodes[0].plan.tasks().count() > 3
        };
        scenarios.find(rich).expect("there are many seeds")
    }

    #[test]
    fn what_is_spelled_is_found() {
        let scenario = rich();
        let all = scenario.ingredients();
        assert_eq!(scenario.find(&scenario.spell(&all)), Ok(all.clone()));
        let every_third: BTreeSet<Ingredient> = all.into_iter().step_by(3).collect();
        assert_eq!(scenario.find(&scenario.spell(&every_third)), Ok(every_third));
    }

    #[test]
    fn names_have_numbers_ranges_and_families() {
        let scenario = rich();
        let text = |names| scenario.spell(&scenario.find(names).unwrap());
        assert_eq!(text("blackout:3,blackout:1,loss"), "loss,blackout:1,blackout:3");
        assert_eq!(text("blackout:1-3"), "blackout:1-3");
        assert_eq!(text("task"), "task");
        assert_eq!(text("task:p1"), "task:p1");
        assert_eq!(text("task:p1:2,task:p1:3"), "task:p1:2-3");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let scenario = rich();
        for text in ["", "rain", "loss,", "loss:2", "blackout:0", "blackout:3-2", "blackout:1-9999"]
        {
            let unknown = scenario.find(text).unwrap_err();
            assert!(unknown.known.contains("blackout"), "{unknown}");
        }
        for text in ["task:p99", "task:p1:", "task:p1:x", "task:p1:1-", "task:p1:0"] {
            assert!(scenario.find(text).is_err(), "{text}");
        }
        // Of a kind without any there are none to take out.
        let calm = scenario.without(&scenario.ingredients());
        assert_eq!(calm.find("blackout"), Ok(BTreeSet::new()));
    }

    #[test]
    fn what_is_taken_out_is_gone_and_the_rest_is_not() {
        let scenario = rich();
        let calm = scenario.without(&scenario.ingredients());
        let is_task = |one: &Ingredient| matches!(one.kind, Kind::Task(_));
        assert!(calm.ingredients().iter().all(is_task), "{calm:?}");
        assert_eq!(calm.weather.loss, 0);
        assert_eq!(calm.weather.latency.0, calm.weather.latency.1);
        let mut tasks = calm.nodes.iter().flat_map(|node| node.plan.tasks());
        assert!(tasks.all(|task| *task == Task::Nothing));

        let some = scenario.without(&scenario.find("blackout:2,task:p1:1").unwrap());
        let (before, after) = (&scenario.weather.blackouts, &some.weather.blackouts);
        assert_eq!(after[0], before[0]);
        assert_eq!(after[1..], before[2..]);
        let tasks =
            |scenario: &Scenario| scenario.nodes[0].plan.tasks().cloned().collect::<Vec<_>>();
        assert_eq!(tasks(&some)[0], Task::Nothing);
        assert_eq!(tasks(&some)[1..], tasks(&scenario)[1..]);
        assert_eq!(format!("{:?}", scenario.without(&BTreeSet::new())), format!("{scenario:?}"));
    }
}
