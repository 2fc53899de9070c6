//! What a run is made of, before it begins.

use super::{Clocked, Span};
use crate::{
    network::{Bursts, Jam, Path, Shape, Slowness},
    scenario::{
        Blackout, End, Ingredient, Kind, NodePlan, Outage, Parts, Pause, PowerCut, Scenario, Split,
    },
    work::Task,
};
use core::fmt::Write as _;
use roundelay_core::{
    gossip::{Neighbors, Strategy},
    id::NodeId,
    time::Time,
    tokenring::{Mode, Wait},
};
use std::collections::BTreeSet;

/// More tasks are told node by node only.
const TASKS_MAX: usize = 40;

/// The settings of a scenario, and those of its faults and tasks that are `left`, by their names.
pub fn heading(whole: &Scenario, left: &BTreeSet<Ingredient>) -> String {
    let mut text = format!("seed {}: {}\n", whole.seed, group(whole));
    for line in settings(whole) {
        let _ = writeln!(text, "  {line}");
    }
    let (tasks, faults): (Vec<Ingredient>, Vec<Ingredient>) =
        left.iter().partition(|ingredient| matches!(ingredient.kind, Kind::Task(_)));
    let one = |ingredient: &Ingredient| {
        let name = whole.spell(&[*ingredient].into());
        format!("  {name:<12} {}\n", describe(whole, *ingredient))
    };
    text.extend(faults.iter().map(one));
    if tasks.len() <= TASKS_MAX {
        text.extend(tasks.iter().map(one));
    } else {
        for all in tasks.chunk_by(|a, b| a.kind == b.kind) {
            let names = whole.spell(&all.iter().copied().collect());
            let _ = writeln!(text, "  {names:<12} {}", summary(whole, all));
        }
    }
    text
}

fn group(scenario: &Scenario) -> String {
    let names: Vec<&str> = scenario.nodes.iter().map(|node| node.config.name.as_str()).collect();
    let Parts { lock, order, gossip } = scenario.parts;
    let parts = [("lock", lock), ("multicast", order), ("gossip", gossip)];
    let parts: Vec<&str> = parts.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let group = if scenario.group { "in a group" } else { "without a group" };
    let log = if scenario.is_durable() { ", durable" } else { "" };
    format!("{} {group}, with {}{log}", names.join(" "), parts.join(", "))
}

fn settings(scenario: &Scenario) -> Vec<String> {
    let (fastest, slowest) = scenario.weather.latency;
    let mut lines = vec![format!(
        "storm for {}, messages take {} to {}",
        Span(scenario.storm),
        Span(fastest),
        Span(slowest)
    )];
    if scenario.group {
        let ring = scenario.ring.as_ref().map_or("a ring that does not close".into(), |ring| {
            let names = ring.iter().map(|at| scenario.nodes[usize::from(*at)].config.name.as_str());
            format!("ring {}", names.collect::<Vec<_>>().join(" → "))
        });
        let mode = match scenario.mode {
            Mode::Rest => "the token rests",
            Mode::Circulate => "the token circulates",
        };
        lines.push(format!("{ring}, {mode}"));
    }
    let mut gossips = scenario.nodes.iter().filter_map(|node| node.config.gossip.as_ref());
    if let Some(gossip) = gossips.next() {
        let strategy = match gossip.strategy {
            Strategy::Tree => "tree".into(),
            Strategy::Rumor { k } => format!("rumor mongering, k {k}"),
        };
        let name = |at: usize| scenario.nodes[at].config.name.as_str();
        let edges = scenario.edges.iter().map(|(a, b)| format!("{}–{}", name(*a), name(*b)));
        let edges = match gossip.neighbors {
            Neighbors::AllLinks => "all are neighbors".into(),
            Neighbors::Listed(_) => edges.collect::<Vec<_>>().join(" "),
        };
        let keeps = if scenario.gossip_retains() { "" } else { ", old rumors are forgotten" };
        lines.push(format!("gossip: {strategy}, {edges}{keeps}"));
    }
    lines
}

fn describe(scenario: &Scenario, Ingredient { kind, number }: Ingredient) -> String {
    let weather = &scenario.weather;
    let settings = &scenario.settings;
    match kind {
        Kind::Reordering => "messages overtake each other".into(),
        Kind::Skew => {
            let clock =
                |node: &NodePlan| format!("{} by {} ppm", node.config.name, node.clock.slow_ppm);
            let slow = scenario.nodes.iter().filter(|node| node.clock.slow_ppm > 0).map(clock);
            format!("clocks are slow: {}", slow.collect::<Vec<_>>().join(", "))
        }
        Kind::Lateness => format!(
            "timers are up to {} late, batches last up to {}",
            Span(settings.lateness_max),
            Span(settings.batch_max)
        ),
        Kind::Loss => format!("{} of 1000 messages are lost", weather.loss),
        Kind::Duplication => format!("{} of 1000 messages arrive twice", weather.duplication),
        Kind::Straggling => {
            let (per_mille, max) = weather.straggling;
            format!("{per_mille} of 1000 messages are held up for up to {}", Span(max))
        }
        Kind::Bursts => weather.bursts.map_or_else(String::new, |bursts| {
            let Bursts { begin, end, loss } = bursts;
            format!("links turn bad ({begin} of 1000), lose {loss} of 1000, turn good ({end})")
        }),
        Kind::Blackout => {
            let Blackout { cut, told_down, .. } = weather.blackouts[number - 1];
            let (from, to) = (scenario.name(cut.from), scenario.name(cut.to));
            let told = if told_down.is_some() { "" } else { ", unnoticed" };
            format!("{}  {from} → {to} is cut{told}", spell(cut.since, cut.until))
        }
        Kind::Partition => {
            let Split { partition, told } = &weather.splits[number - 1];
            let told = if told.is_some() { "" } else { ", unnoticed" };
            let shape = shape(scenario, &partition.shape);
            format!("{}  {shape}{told}", spell(partition.since, partition.until))
        }
        Kind::Jam => {
            let Jam { path, shuffled, since, until } = weather.jams[number - 1];
            let order = if shuffled { "in any order" } else { "in order" };
            let path = path_text(scenario, path);
            format!("{}  {path} is jammed, then all comes {order}", spell(since, until))
        }
        Kind::Slowness => {
            let Slowness { path, min, max, since, until } = weather.slow[number - 1];
            let (path, min, max) = (path_text(scenario, path), Span(min), Span(max));
            format!("{}  {path} takes {min} to {max} longer", spell(since, until))
        }
        Kind::Pause => {
            let Pause { node, at, span } = weather.pauses[number - 1];
            format!("{}  {} stops", spell(at, at + span), scenario.name(node))
        }
        Kind::Outage => {
            let Outage { node, at, end, span, keeps_disk } = weather.outages[number - 1];
            let how = match end {
                End::At => "crashes",
                End::BetweenEffects => "crashes in the middle of a step",
                End::FailedSave => "crashes when it saves",
            };
            let disk = if keeps_disk { "with" } else { "without" };
            let (name, span) = (scenario.name(node), Span(span));
            format!("{}  {name} {how}, and is back after {span} {disk} its disk", Clocked(at))
        }
        Kind::PowerCut => power_cut(scenario, number),
        Kind::Task(node) => task(&scenario.nodes[node], number),
    }
}

fn power_cut(scenario: &Scenario, number: usize) -> String {
    let PowerCut { at, returns } = &scenario.weather.power_cuts[number - 1];
    let returns = returns.iter().map(|(node, span, keeps_disk)| {
        let disk = if *keeps_disk { "" } else { " without its disk" };
        format!("{} after {}{disk}", scenario.name(*node), Span(*span))
    });
    let returns = returns.collect::<Vec<_>>().join(", ");
    format!("{}  all lose their power, and are back: {returns}", Clocked(*at))
}

/// From when, and for how long.
fn spell(since: Time, until: Time) -> String {
    format!("{} for {:<7}", Clocked(since), Span(until.since(since)).to_string())
}

fn path_text(scenario: &Scenario, path: Path) -> String {
    let end = |node: Option<NodeId>| node.map_or("all", |node| scenario.name(node));
    format!("{} → {}", end(path.from), end(path.to))
}

fn shape(scenario: &Scenario, shape: &Shape) -> String {
    let names = |nodes: &[NodeId]| {
        let names: Vec<&str> = nodes.iter().map(|node| scenario.name(*node)).collect();
        names.join(",")
    };
    match shape {
        Shape::Islands(islands) => {
            let islands: Vec<String> = islands.iter().map(|island| names(island)).collect();
            islands.join(" | ")
        }
        Shape::Circle(nodes) => format!("only neighbors hear each other in {}", names(nodes)),
    }
}

fn task(node: &NodePlan, number: usize) -> String {
    let plan = &node.plan;
    let begun = plan.from_start.len();
    let (since, (after, task)) = if number <= begun {
        ("start", &plan.from_start[number - 1])
    } else {
        ("group", &plan.from_install[number - begun - 1])
    };
    format!("{since} + {:<8} {}", Span(*after).to_string(), task_text(task))
}

fn task_text(task: &Task) -> String {
    match task {
        Task::Start => "start the group".into(),
        Task::Lock(lock, Wait::Queue, keep) => format!("lock {lock}, keep it {}", Span(*keep)),
        Task::Lock(lock, Wait::Try, keep) => format!("try {lock}, keep it {}", Span(*keep)),
        Task::LockUntil(lock, until) => format!("lock {lock}, give up after {}", Span(*until)),
        Task::Send(bytes) => format!("send {bytes} B"),
        Task::Publish(bytes) => format!("publish {bytes} B"),
        Task::Leave => "leave".into(),
        Task::Nothing => "nothing".into(),
    }
}

/// How many tasks of which kind.
fn summary(scenario: &Scenario, tasks: &[Ingredient]) -> String {
    let mut counts = [("start", 0), ("lock", 0), ("send", 0), ("publish", 0), ("leave", 0)];
    for Ingredient { kind, number } in tasks {
        let Kind::Task(node) = kind else { continue };
        let at = match scenario.nodes[*node].plan.tasks().nth(number - 1) {
            Some(Task::Start) => 0,
            Some(Task::Lock(..) | Task::LockUntil(..)) => 1,
            Some(Task::Send(_)) => 2,
            Some(Task::Publish(_)) => 3,
            Some(Task::Leave) => 4,
            Some(Task::Nothing) | None => continue,
        };
        counts[at].1 += 1;
    }
    let some = counts.iter().filter(|(_, count)| *count > 0);
    some.map(|(name, count)| format!("{count} × {name}")).collect::<Vec<_>>().join(", ")
}
