//! A run as lines that one can read: the time, the node, what it got, and what it did about it.

use crate::{scenario::Scenario, sim::Step, subject::Subject};
use core::fmt::{Debug, Write as _};
use roundelay_core::{
    id::{Name, NodeId},
    protocol::{Effect, Input},
};
use std::collections::BTreeMap;

/// The longest text for one message or event; payloads are cut.
const TEXT_MAX: usize = 240;

/// Who knows the names of the nodes of a run.
pub trait Names {
    /// The names.
    fn names(&self) -> &BTreeMap<NodeId, Name>;
}

impl Names for BTreeMap<NodeId, Name> {
    fn names(&self) -> &BTreeMap<NodeId, Name> {
        self
    }
}

/// One step: a line for the input, and an indented one for each effect.
pub fn lines<P: Subject>(names: &impl Names, step: &Step<'_, P>) -> String {
    let name = |node: NodeId| named(names, node.to_string());
    let node = name(step.node);
    let mut lines = format!("{:?} {node:<4} ", step.time);
    let text = |what: &dyn Debug| text(names, what);
    match &step.input {
        Input::Message { from, message } => {
            let _ = write!(lines, "< {} {}", name(*from), text(message));
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
        lines.push_str(&node);
        let _ = match effect {
            Effect::Send { to, message } => {
                let peers: Vec<String> = to.peers().iter().map(|peer| name(*peer)).collect();
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

fn text(names: &impl Names, what: &dyn Debug) -> String {
    let mut text = named(names, format!("{what:?}"));
    if text.len() > TEXT_MAX {
        let cut = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Ids are hashes, which nobody can tell apart.
fn named(names: &impl Names, mut text: String) -> String {
    for (id, name) in names.names() {
        let id = id.to_string();
        if text.contains(&id) {
            text = text.replace(&id, name.as_str());
        }
    }
    text
}
