//! A run as lines that one can read: the time, the node, what it got, and what it did about it.

use crate::{scenario::Scenario, sim::Step, subject::Subject};
use core::fmt::{Debug, Write as _};
use roundelay_core::protocol::{Effect, Input};

/// The longest text for one message or event; payloads are cut.
const TEXT_MAX: usize = 240;

/// One step: a line for the input, and an indented one for each effect.
pub fn lines<P: Subject>(scenario: &Scenario, step: &Step<'_, P>) -> String {
    let node = scenario.name(step.node);
    let mut lines = format!("{:?} {node:<4} ", step.time);
    let text = |what: &dyn Debug| text(scenario, what);
    match &step.input {
        Input::Message { from, message } => {
            let _ = write!(lines, "< {} {}", scenario.name(*from), text(message));
        }
        Input::Timer(timer) => {
            let _ = write!(lines, "* {}", text(timer));
        }
        Input::Command(command) => {
            let _ = write!(lines, "? {}", text(command));
        }
        other => {
            let _ = write!(lines, "= {}", text(other));
        }
    }
    for effect in step.effects {
        lines.push_str("\n            ");
        lines.push_str(node);
        let _ = match effect {
            Effect::Send { to, message } => {
                let peers: Vec<&str> = to.peers().iter().map(|peer| scenario.name(*peer)).collect();
                write!(lines, "   > {} {}", peers.join(","), text(message))
            }
            Effect::SetTimer { timer, after } => write!(lines, "   + {} {after:?}", text(timer)),
            Effect::CancelTimer(timer) => write!(lines, "   - {}", text(timer)),
            Effect::Emit(event) => write!(lines, "   ! {}", text(event)),
            Effect::Save(record) => write!(lines, "   = save run {}", record.run),
            Effect::Append(entry) => write!(lines, "   = append {}", entry.number),
        };
    }
    if let Some(doom) = step.ended {
        let _ = write!(lines, "\n            {node}   x {doom:?}");
    }
    lines
}

/// The settings and the weather of a scenario.
pub fn heading(scenario: &Scenario) -> String {
    let mut heading = format!(
        "seed {}: {} nodes, group {}, {:?}, {:?}, storm {:?}\n{:?}\n",
        scenario.seed,
        scenario.nodes.len(),
        scenario.group,
        scenario.parts,
        scenario.mode,
        scenario.storm,
        scenario.weather,
    );
    for node in &scenario.nodes {
        let _ = writeln!(heading, "{:?}, starts at {:?}", node.config, node.start);
    }
    named(scenario, heading)
}

fn text(scenario: &Scenario, what: &dyn Debug) -> String {
    let mut text = named(scenario, format!("{what:?}"));
    if text.len() > TEXT_MAX {
        let cut = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Ids are hashes, which nobody can tell apart.
fn named(scenario: &Scenario, mut text: String) -> String {
    for node in &scenario.nodes {
        let id = node.id().to_string();
        if text.contains(&id) {
            text = text.replace(&id, scenario.name(node.id()));
        }
    }
    text
}
