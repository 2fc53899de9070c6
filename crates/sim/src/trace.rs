//! A run as lines that one can read: the time, the node, what it got, and what it did about it.

mod heading;
mod words;

use crate::{
    sim::{Doom, Step},
    subject::Subject,
};
use core::{fmt, time::Duration};
pub use heading::heading;
use roundelay_core::{
    gossip::Origin,
    id::NodeId,
    protocol::{Effect, EffectOf, Input},
    time::Time,
};
use words::Words;

/// Where the effects begin, if the input leaves room.
const INPUT_WIDTH: usize = 34;
/// The most effects that are told of one step.
const EFFECTS_MAX: usize = 6;

/// Who takes part in a run: a scenario's nodes, or those of recordings.
pub trait Cast {
    /// The name of a node.
    fn name(&self, node: NodeId) -> String;

    /// The name of the node at this place of the group's list.
    fn position(&self, position: u16) -> String;

    /// Whether this is not the first life of its node.
    fn is_later_life(&self, origin: Origin) -> bool;

    /// The length of the longest name.
    fn width(&self) -> usize;
}

/// One step in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When, in true time.
    pub time: Time,
    /// Whose, padded so that what follows is aligned.
    pub node: String,
    /// What it got.
    pub input: String,
    /// What it did about it. Timers that are set are left out: one sees them when they fire.
    pub effects: Vec<String>,
}

/// Tells a step.
pub fn tell<P: Subject>(cast: &dyn Cast, step: &Step<'_, P>) -> Told {
    let width = cast.width();
    let mut effects = effects::<P>(cast, step.effects);
    effects.extend(step.ended.map(|doom| match doom {
        Doom::BetweenEffects => "loses its power in the middle of this".into(),
        Doom::FailedSave => "cannot save, and stops".into(),
    }));
    let node = format!("{:<width$}", cast.name(step.node));
    Told { time: step.time, node, input: input(cast, step), effects }
}

impl fmt::Display for Told {
    /// In one line: `time node  input → effects`. Of many effects only the first are told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, node, input, effects } = self;
        let time = Clocked(*time);
        if effects.is_empty() {
            return write!(f, "{time}  {node}  {input}");
        }
        let (told, more) = effects.split_at(effects.len().min(EFFECTS_MAX));
        write!(f, "{time}  {node}  {input:<INPUT_WIDTH$} → {}", told.join(" · "))?;
        if more.is_empty() { Ok(()) } else { write!(f, " · and {} more", more.len()) }
    }
}

fn input<P: Subject>(cast: &dyn Cast, step: &Step<'_, P>) -> String {
    let words = Words(cast);
    match &step.input {
        Input::Start(None) => "starts".into(),
        Input::Start(Some(_)) => "starts with its disk".into(),
        Input::Message { from, message } => {
            format!("← {} {}", cast.name(*from), words.message(message))
        }
        Input::Timer(timer) => format!("timer: {}", Words::timer(*timer)),
        Input::Command(command) => format!("asked to {}", Words::command(command)),
        Input::LinkUp(peer) => format!("link up: {}", cast.name(*peer)),
        Input::LinkDown(peer) => format!("link down: {}", cast.name(*peer)),
        Input::Appended(number) => format!("appended up to {number}"),
    }
}

/// The effects in words. What is sent to several peers one by one is told once.
fn effects<P: Subject>(cast: &dyn Cast, effects: &[EffectOf<P>]) -> Vec<String> {
    let words = Words(cast);
    let mut told: Vec<String> = Vec::new();
    // To whom the last ones were sent, and what.
    let mut sent: Option<(Vec<String>, String)> = None;
    let finish = |sent: &mut Option<(Vec<String>, String)>, told: &mut Vec<String>| {
        told.extend(sent.take().map(|(peers, text)| format!("{}: {text}", peers.join(","))));
    };
    for effect in effects {
        if let Effect::Send { to, message } = effect {
            let text = words.message(message);
            let peers = to.peers().iter().map(|peer| cast.name(*peer));
            match &mut sent {
                Some((all, same)) if *same == text => all.extend(peers),
                _ => {
                    finish(&mut sent, &mut told);
                    sent = Some((peers.collect(), text));
                }
            }
            continue;
        }
        let text = match effect {
            Effect::Emit(event) => words.event(event),
            Effect::Save(_) => "saves".into(),
            Effect::Append(entry) => format!("appends {}", entry.number),
            Effect::Trim(number) => format!("trims its log up to {number}"),
            _ => continue,
        };
        finish(&mut sent, &mut told);
        told.push(text);
    }
    finish(&mut sent, &mut told);
    told
}

/// A time in seconds, aligned.
struct Clocked(Time);

impl fmt::Display for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_nanos() / 1000;
        write!(f, "{:>4}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// A span as people say it: three digits are enough.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            0 => return f.write_str("0"),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (whole, tenths) = (nanos / unit, nanos % unit * 10 / unit);
        if tenths == 0 || whole >= 100 {
            write!(f, "{whole} {name}")
        } else {
            write!(f, "{whole}.{tenths} {name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attempt, scenario::Scenario};
    use roundelay_core::node::Node;

    #[test]
    fn spans_are_short() {
        let text = |nanos| Span(Duration::from_nanos(nanos)).to_string();
        assert_eq!(text(0), "0");
        assert_eq!(text(1), "1 ns");
        assert_eq!(text(500_000), "500 µs");
        assert_eq!(text(40_512_345), "40.5 ms");
        assert_eq!(text(123_456_789), "123 ms");
        assert_eq!(text(2_000_000_000), "2 s");
        assert_eq!(text(61_250_000_000), "61.2 s");
    }

    #[test]
    fn each_step_is_one_line_without_hashes_and_long_payloads() {
        for seed in 0..20 {
            let scenario = Scenario::new(seed);
            let ids: Vec<String> =
                scenario.nodes.iter().map(|node| node.id().to_string()).collect();
            attempt::<Node>(&scenario, &mut |step| {
                let line = tell(&scenario, step).to_string();
                assert!(line.chars().count() < 1000, "{line}");
                assert!(!line.chars().any(char::is_control), "{line:?}");
                assert!(!ids.iter().any(|id| line.contains(id)), "{line}");
            })
            .unwrap();
        }
    }
}
