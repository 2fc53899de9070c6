//! The language of the scripts.
//!
//! ```text
//! # What is shown, and which rule.         a comment; there must be one
//! nodes p1 p2 p3                           in the order of their list
//! parts lock order gossip                  what they run; by default only the founding
//! next p1 -> p3                            the next node on the ring, if not that of the list
//! mode circulate                           how the token moves, if it does not rest
//! neighbors p1-p2 p2-p3                    of the gossip, if not all
//! gossip rumor 2                           the k of rumor mongering, if it is not the tree
//! latency 10ms                             of every message; 10ms if not said
//! show pass ack                            which messages are written down, by kind or by part
//! founded by p1                            at once; the transcript begins at 1s
//! from 1s                                  the transcript begins here
//! at 1s p2: lock default                   also: try, unlock, send, publish, start, leave, status
//! at 1s p3 pauses 2s                       also: crashes, restarts, restarts without disk
//! at 1s p3 cannot save                     its next save fails, which ends its life
//! at 1s cut p1 -> p2 for 300ms             nothing gets through
//! at 1s jam p1 -> p2 for 300ms             it comes when the time is over, at once
//! at 1s slow p1 -> p2 by 20ms for 300ms    it takes longer
//! at 1s double p1 -> p2 20ms later for 1ms it comes, and then once more
//! at 1s split p1 p2 | p3 for 2s            islands
//! until 3s                                 the end
//! ```

use roundelay_core::{
    gossip::Strategy,
    id::{Name, NodeId},
    time::Time,
    tokenring::{LockName, Mode, Wait},
};
use std::{collections::BTreeSet, time::Duration};

/// A script, understood.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) nodes: Vec<Name>,
    pub(crate) parts: BTreeSet<String>,
    /// For each node the index of its next.
    pub(crate) next: Vec<usize>,
    pub(crate) mode: Mode,
    pub(crate) neighbors: Option<Vec<(NodeId, NodeId)>>,
    pub(crate) strategy: Strategy,
    pub(crate) latency: Duration,
    pub(crate) show: BTreeSet<String>,
    pub(crate) founder: Option<NodeId>,
    pub(crate) from: Time,
    pub(crate) until: Time,
    pub(crate) acts: Vec<Act>,
}

/// Something that happens, with the words that say so.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) at: Time,
    pub(crate) text: String,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Ask(NodeId, Ask),
    Pause(NodeId, Duration),
    Crash(NodeId),
    CannotSave(NodeId),
    Restart { node: NodeId, keeps_disk: bool },
    Rule(Trouble, Duration),
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Start,
    Leave,
    Lock(LockName, Wait),
    Unlock(LockName),
    Send(String),
    Publish(String),
    Status,
}

/// What the network does for a while.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    Cut(NodeId, NodeId),
    Jam(NodeId, NodeId),
    Slow(NodeId, NodeId, Duration),
    Double(NodeId, NodeId, Duration),
    Split(Vec<Vec<NodeId>>),
}

impl Script {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with("# ") {
            return Err("a comment on top says what is shown".into());
        }
        let mut script = Self {
            nodes: Vec::new(),
            parts: BTreeSet::new(),
            next: Vec::new(),
            mode: Mode::Rest,
            neighbors: None,
            strategy: Strategy::Tree,
            latency: Duration::from_millis(10),
            show: BTreeSet::new(),
            founder: None,
            from: Time::ZERO,
            until: Time::ZERO,
            acts: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            script
                .line(&words)
                .map_err(|reason| format!("line {}: {line}: {reason}", number + 1))?;
        }
        if script.until <= script.from {
            return Err("until says when it is over".into());
        }
        script.acts.sort_by_key(|act| act.at);
        Ok(script)
    }

    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            [] | ["#", ..] => {}
            ["nodes", names @ ..] => {
                for name in names {
                    self.nodes.push(Name::new(name).map_err(|error| error.to_string())?);
                }
                self.next = (0..names.len()).map(|node| (node + 1) % names.len()).collect();
            }
            ["parts", parts @ ..] => self.parts.extend(parts.iter().map(ToString::to_string)),
            ["show", kinds @ ..] => self.show.extend(kinds.iter().map(ToString::to_string)),
            ["next", from, "->", to] => {
                let (from, to) = (self.index(from)?, self.index(to)?);
                self.next[from] = to;
            }
            ["mode", "circulate"] => self.mode = Mode::Circulate,
            ["neighbors", pairs @ ..] => {
                let pair = |pair: &&str| {
                    let (a, b) = pair.split_once('-').ok_or("neighbours are pairs")?;
                    Ok((self.node(a)?, self.node(b)?))
                };
                self.neighbors = Some(pairs.iter().map(pair).collect::<Result<_, String>>()?);
            }
            ["gossip", "rumor", k] => {
                self.strategy = Strategy::Rumor { k: k.parse().map_err(|_| "k is a number")? };
            }
            ["latency", span] => self.latency = duration(span)?,
            ["founded", "by", node] => {
                self.founder = Some(self.node(node)?);
                self.from = time("1s")?;
            }
            ["from", at] => self.from = time(at)?,
            ["until", at] => self.until = time(at)?,
            ["at", at, act @ ..] => {
                let (at, what) = (time(at)?, self.what(act)?);
                self.acts.push(Act { at, text: act.join(" "), what });
            }
            _ => return Err("not understood".into()),
        }
        Ok(())
    }

    fn what(&self, words: &[&str]) -> Result<What, String> {
        if let [node, words @ ..] = words
            && let Some(node) = node.strip_suffix(':')
        {
            return Ok(What::Ask(self.node(node)?, ask(words)?));
        }
        if let [words @ .., "for", span] = words {
            return Ok(What::Rule(self.trouble(words)?, duration(span)?));
        }
        Ok(match words {
            [node, "pauses", span] => What::Pause(self.node(node)?, duration(span)?),
            [node, "crashes"] => What::Crash(self.node(node)?),
            [node, "cannot", "save"] => What::CannotSave(self.node(node)?),
            [node, "restarts"] => What::Restart { node: self.node(node)?, keeps_disk: true },
            [node, "restarts", "without", "disk"] => {
                What::Restart { node: self.node(node)?, keeps_disk: false }
            }
            _ => return Err("nothing that could happen".into()),
        })
    }

    fn trouble(&self, words: &[&str]) -> Result<Trouble, String> {
        Ok(match words {
            ["cut", from, "->", to] => Trouble::Cut(self.node(from)?, self.node(to)?),
            ["jam", from, "->", to] => Trouble::Jam(self.node(from)?, self.node(to)?),
            ["slow", from, "->", to, "by", lag] => {
                Trouble::Slow(self.node(from)?, self.node(to)?, duration(lag)?)
            }
            ["double", from, "->", to, lag, "later"] => {
                Trouble::Double(self.node(from)?, self.node(to)?, duration(lag)?)
            }
            ["split", islands @ ..] => {
                let islands = islands.split(|word| *word == "|");
                let island = |names: &[&str]| names.iter().map(|name| self.node(name)).collect();
                Trouble::Split(islands.map(island).collect::<Result<_, String>>()?)
            }
            _ => return Err("nothing that a network does".into()),
        })
    }

    fn index(&self, name: &str) -> Result<usize, String> {
        let place = self.nodes.iter().position(|node| node.as_str() == name);
        place.ok_or_else(|| format!("there is no {name}"))
    }

    fn node(&self, name: &str) -> Result<NodeId, String> {
        Ok(self.nodes[self.index(name)?].id())
    }
}

fn ask(words: &[&str]) -> Result<Ask, String> {
    let lock = |name: &str| LockName::new(name).ok_or("that names no lock");
    Ok(match words {
        ["start"] => Ask::Start,
        ["leave"] => Ask::Leave,
        ["status"] => Ask::Status,
        ["lock", name] => Ask::Lock(lock(name)?, Wait::Queue),
        ["try", name] => Ask::Lock(lock(name)?, Wait::Try),
        ["unlock", name] => Ask::Unlock(lock(name)?),
        ["send", text @ ..] if !text.is_empty() => Ask::Send(text.join(" ")),
        ["publish", text @ ..] if !text.is_empty() => Ask::Publish(text.join(" ")),
        _ => return Err("nothing that one can ask".into()),
    })
}

fn time(text: &str) -> Result<Time, String> {
    Ok(Time::ZERO + duration(text)?)
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').unwrap_or("-"), 1000),
    };
    let count: u64 = number.parse().map_err(|_| format!("{text} is no time"))?;
    Ok(Duration::from_millis(count * unit))
}
