//! Plays a script and writes down what happens. There is no chance in it but the nodes' own.

use crate::{
    script::{Act, Ask, Script, Trouble, What},
    words::{Names, Saying},
};
use roundelay_core::{
    change, detector, founding, gossip,
    id::{Life, Name, NodeId},
    multicast,
    node::{self, Node},
    protocol::{Effect, Input},
    time::Time,
    tokenring,
};
use roundelay_sim::{
    Dice, Doom, Network, Packet, Simulator, Step, Verdict,
    invariant::{Invariants, Who},
    network::{Cut, Jam, Latency, Partition, Path, Shape, Slowness},
    scenario::closed_ring,
    sim::{Clock, Settings},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    rc::Rc,
    time::Duration,
};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// How many grants are a turn.
const TURN: usize = 1;

/// How long a process that has left flushes its queues.
const LINGER: Duration = ms(100);

/// What the script leads to.
pub(crate) fn transcript(script: &Script) -> Result<String, String> {
    let mut play = Play::new(script);
    for act in &script.acts {
        play.run(act.at)?;
        play.perform(act)?;
    }
    play.run(script.until)?;
    Ok(play.transcript)
}

struct Play<'a> {
    script: &'a Script,
    names: Names,
    sim: Simulator<Node>,
    invariants: Invariants,
    lives: BTreeMap<NodeId, Life>,
    /// The messages that get through, in the order in which they are sent.
    through: Rc<RefCell<Vec<(NodeId, node::Message)>>>,
    /// The newest ticket of each node for each lock.
    tickets: BTreeMap<(NodeId, tokenring::LockName), u64>,
    tickets_given: u64,
    /// Nodes that have left, and when they end.
    leaving: BTreeMap<NodeId, Time>,
    gone: BTreeSet<NodeId>,
    transcript: String,
}

impl<'a> Play<'a> {
    fn new(script: &'a Script) -> Self {
        let exact = Duration::from_nanos(1);
        let settings =
            Settings { batch_max: exact, lateness_max: Duration::ZERO, ..Settings::default() };
        let mut play = Self {
            script,
            names: Names(script.nodes.clone()),
            sim: Simulator::new(Dice::new(1), settings),
            invariants: Invariants::new(closed_ring(&script.next), TURN),
            lives: BTreeMap::new(),
            through: Rc::default(),
            tickets: BTreeMap::new(),
            tickets_given: 0,
            leaving: BTreeMap::new(),
            gone: BTreeSet::new(),
            transcript: String::new(),
        };
        play.prepare_network();
        for (index, name) in script.nodes.iter().enumerate() {
            let life = Life(index as u128 + 1);
            play.lives.insert(name.id(), life);
            let node = Node::new(play.config(index, life));
            play.sim.add(name.id(), node, Clock::default(), Time::ZERO);
        }
        for name in &script.nodes {
            for peer in play.others(name.id()) {
                play.sim.input_at(Time::ZERO, name.id(), Input::LinkUp(peer));
            }
        }
        if let Some(founder) = script.founder {
            play.sim.command_at(Time::ZERO, founder, node::Command::Start);
        }
        play
    }

    fn prepare_network(&mut self) {
        let latency = self.script.latency;
        let through = self.through.clone();
        let network = self.sim.network();
        network.ground(Latency { min: latency, max: latency });
        for act in &self.script.acts {
            if let What::Rule(trouble, span) = &act.what {
                add_rule(network, trouble, act.at, act.at + *span);
            }
        }
        network.fault(move |packet: &Packet<'_, node::Message>, _: &mut Dice| {
            through.borrow_mut().push((packet.to, packet.message.clone()));
            Verdict::Pass
        });
    }

    fn others(&self, node: NodeId) -> Vec<NodeId> {
        let ids = self.script.nodes.iter().map(Name::id);
        ids.filter(|other| *other != node && !self.gone.contains(other)).collect()
    }

    /// Takes all steps up to `limit`.
    fn run(&mut self, limit: Time) -> Result<(), String> {
        loop {
            let next = self.leaving.iter().min_by_key(|(_, at)| **at);
            let next = next.map(|(node, at)| (*node, *at)).filter(|(_, at)| *at <= limit);
            while self.step(next.map_or(limit, |(_, at)| at))? {}
            let Some((node, _)) = next else { return Ok(()) };
            self.leaving.remove(&node);
            self.sim.stop(node);
            self.tell_end(node);
        }
    }

    fn step(&mut self, limit: Time) -> Result<bool, String> {
        let Some(step) = self.sim.step_until(limit) else { return Ok(false) };
        let who = Who { node: step.node, life: self.lives[&step.node] };
        self.invariants
            .check(who, &step)
            .map_err(|broken| format!("{broken:?}\n{}", self.transcript))?;
        let left = Effect::Emit(node::Event::LeaveDone);
        if step.effects.contains(&left) {
            self.leaving.insert(step.node, step.time + LINGER);
        }
        let (node, ended) = (step.node, step.ended.is_some());
        let through = self.through.take();
        if step.time >= self.script.from {
            let scribe = Scribe { script: self.script, names: &self.names, through };
            scribe.write(&step, &mut self.transcript);
        }
        if ended {
            let (now, name) = (clock(self.sim.now()), self.names.of(node));
            let _ = writeln!(self.transcript, "{now} ~ {name} stops");
            self.tell_end(node);
        }
        Ok(true)
    }

    fn perform(&mut self, act: &Act) -> Result<(), String> {
        let now = self.sim.now();
        if now >= self.script.from {
            self.announce(act);
        }
        match &act.what {
            What::Ask(node, Ask::Status) => self.write_status(*node)?,
            What::Ask(node, ask) => {
                let command = self.command(*node, ask)?;
                self.sim.command_at(now, *node, command);
            }
            What::Pause(node, span) => self.sim.pause_at(now, *node, *span),
            What::Crash(node) => {
                self.sim.crash(*node);
                self.tell_end(*node);
            }
            What::CannotSave(node) => self.sim.doom(*node, Doom::FailedSave),
            What::Restart { node, keeps_disk } => self.restart(*node, *keeps_disk),
            What::Rule(..) => {}
        }
        Ok(())
    }

    fn announce(&mut self, act: &Act) {
        let (now, text) = (clock(act.at), &act.text);
        let _ = match (&act.what, text.split_once(": ")) {
            (What::Ask(_, Ask::Status), _) => Ok(()),
            (What::Ask(..), Some((name, text))) => {
                writeln!(self.transcript, "{now} {name} ? {text}")
            }
            _ => writeln!(self.transcript, "{now} ~ {text}"),
        };
    }

    fn command(&mut self, node: NodeId, ask: &Ask) -> Result<node::Command, String> {
        self.tickets_given += 1;
        let ticket = self.tickets_given;
        Ok(match ask {
            Ask::Start => node::Command::Start,
            Ask::Leave => node::Command::Leave,
            Ask::Lock(lock, wait) => {
                self.tickets.insert((node, lock.clone()), ticket);
                let (lock, wait) = (lock.clone(), *wait);
                node::Command::Lock(tokenring::Command::Lock { lock, ticket, wait })
            }
            Ask::Unlock(lock) => {
                let ticket = self.tickets.get(&(node, lock.clone()));
                let ticket = *ticket.ok_or_else(|| format!("nobody asked for {lock} there"))?;
                node::Command::Lock(tokenring::Command::Unlock { lock: lock.clone(), ticket })
            }
            Ask::Send(text) => {
                let payload = text.clone().into();
                node::Command::Order(multicast::Command::Send { ticket, payload })
            }
            Ask::Publish(text) => {
                let payload = text.clone().into();
                node::Command::Gossip(gossip::Command::Publish { ticket, payload })
            }
            Ask::Status => unreachable!("it is no command"),
        })
    }

    fn write_status(&mut self, node: NodeId) -> Result<(), String> {
        let (now, name) = (clock(self.sim.now()), self.names.of(node));
        let mut running = self.sim.running();
        let (_, machine) = running.find(|(id, _)| *id == node).ok_or("it does not run")?;
        for line in self.names.status(&machine.status()) {
            let _ = writeln!(self.transcript, "{now} {name} = {line}");
        }
        Ok(())
    }

    fn restart(&mut self, node: NodeId, keeps_disk: bool) {
        let now = self.sim.now();
        let life = Life(self.lives[&node].0 + 100);
        self.lives.insert(node, life);
        self.gone.remove(&node);
        let index = self.script.nodes.iter().position(|name| name.id() == node);
        let machine = Node::new(self.config(index.expect("a node of the script"), life));
        if keeps_disk {
            self.sim.restart(node, machine, now);
        } else {
            self.sim.restart_without_disk(node, machine, now);
        }
        for peer in self.others(node) {
            self.sim.input_at(now, peer, Input::LinkUp(node));
            self.sim.input_at(now, node, Input::LinkUp(peer));
        }
    }

    /// Its peers see that its links are closed.
    fn tell_end(&mut self, node: NodeId) {
        self.gone.insert(node);
        let at = self.sim.now() + self.script.latency;
        for peer in self.others(node) {
            self.sim.input_at(at, peer, Input::LinkDown(node));
        }
    }

    fn config(&self, index: usize, life: Life) -> node::Config {
        let script = self.script;
        let name = script.nodes[index].clone();
        let has = |part| script.parts.contains(part);
        let neighbors = match &script.neighbors {
            None => gossip::Neighbors::AllLinks,
            Some(pairs) => {
                let mine = pairs.iter().filter(|(a, _)| *a == name.id()).map(|(_, b)| *b);
                gossip::Neighbors::Listed(mine.collect::<BTreeSet<_>>())
            }
        };
        let founding = founding::Config {
            name: name.clone(),
            life,
            list: script.nodes.clone(),
            next: Some(script.nodes[script.next[index]].clone()),
            trigger: founding::Trigger::Command,
            mode: script.mode,
            lease: ms(2000),
        };
        let change = change::Config {
            name: name.clone(),
            life,
            next: founding.next.clone(),
            grace: ms(500),
            patience: ms(1000),
            repeat: ms(200),
        };
        let group = node::GroupConfig {
            founding,
            change,
            lock: has("lock").then(|| lock_config(name.id())),
            order: has("order").then(|| order_config(name.id())),
        };
        let strategy = script.strategy;
        node::Config {
            name: name.clone(),
            life,
            detector: detector::Config { heartbeat: ms(500), suspect_min: ms(1500) },
            group: Some(group),
            gossip: has("gossip").then(|| gossip_config(name, life, neighbors, strategy)),
        }
    }
}

fn add_rule(network: &mut Network<node::Message>, trouble: &Trouble, since: Time, until: Time) {
    let path = |from: &NodeId, to: &NodeId| Path { from: Some(*from), to: Some(*to) };
    match trouble {
        Trouble::Cut(from, to) => network.fault(Cut { from: *from, to: *to, since, until }),
        Trouble::Jam(from, to) => {
            network.fault(Jam { path: path(from, to), shuffled: false, since, until });
        }
        Trouble::Slow(from, to, by) => {
            network.fault(Slowness { path: path(from, to), min: *by, max: *by, since, until });
        }
        Trouble::Split(islands) => {
            let shape = Shape::Islands(islands.clone());
            network.fault(Partition { shape, since, until });
        }
        Trouble::Double(from, to, lag) => {
            let (from, to, lag) = (*from, *to, *lag);
            let hit = move |packet: &Packet<'_, node::Message>| {
                (packet.from, packet.to) == (from, to) && (since..until).contains(&packet.sent)
            };
            network.fault(
                move |packet: &Packet<'_, node::Message>, _: &mut Dice| {
                    if hit(packet) { Verdict::Duplicate } else { Verdict::Pass }
                },
            );
            // Of the two copies that this rule is asked about one after the other, one is late.
            let mut late = false;
            network.fault(move |packet: &Packet<'_, node::Message>, _: &mut Dice| {
                late = hit(packet) && !late;
                if late { Verdict::DeliverAfter(lag) } else { Verdict::Pass }
            });
        }
    }
}

fn lock_config(me: NodeId) -> tokenring::Config {
    tokenring::Config {
        me,
        hold: ms(100),
        turn: TURN,
        waiters_max: 100,
        locks_max: 100,
        repeat: ms(200),
        try_timeout: ms(1000),
        idle: None,
    }
}

fn order_config(me: NodeId) -> multicast::Config {
    multicast::Config {
        me,
        message_bytes_max: 1000,
        fragment_bytes: 1000,
        unstable_bytes_max: 100_000,
        unread_bytes_max: 100_000,
        history_messages_max: 100,
        history_bytes_max: 100_000,
        heartbeat: ms(200),
        repeat: ms(200),
        durable: false,
    }
}

fn gossip_config(
    name: Name,
    life: Life,
    neighbors: gossip::Neighbors,
    strategy: gossip::Strategy,
) -> gossip::Config {
    gossip::Config {
        name,
        life,
        neighbors,
        strategy,
        rumor_bytes_max: 1000,
        retention_age: Duration::from_hours(1),
        retention_bytes: 100_000,
        round: ms(50),
        anti_entropy: ms(1000),
        origins_max: 100,
    }
}

/// Who writes down one step.
struct Scribe<'a> {
    script: &'a Script,
    names: &'a Names,
    through: Vec<(NodeId, node::Message)>,
}

impl Scribe<'_> {
    fn write(mut self, step: &Step<'_, Node>, transcript: &mut String) {
        let mut sent = Vec::new();
        for effect in step.effects {
            match effect {
                Effect::Send { to, message } => self.on_send(to.peers(), message, &mut sent),
                Effect::Emit(event) => {
                    self.write_sent(step, &mut sent, transcript);
                    if let Some(text) = self.names.event(event) {
                        let (now, name) = (clock(step.time), self.names.of(step.node));
                        let _ = writeln!(transcript, "{now} {name} ! {text}");
                    }
                }
                _ => {}
            }
        }
        self.write_sent(step, &mut sent, transcript);
    }

    /// What is said to several peers is one line.
    fn on_send(&mut self, peers: &[NodeId], message: &node::Message, sent: &mut Vec<Sent>) {
        for peer in peers {
            let copies = take_copies(&mut self.through, *peer, message);
            let saying = self.names.message(message);
            if !self.is_shown(&saying) {
                continue;
            }
            let text = format!("{}{}", saying.text, fate(copies));
            match sent.iter_mut().find(|(said, _)| *said == text) {
                Some((_, peers)) => peers.push(*peer),
                None => sent.push((text, vec![*peer])),
            }
        }
    }

    fn write_sent(&self, step: &Step<'_, Node>, sent: &mut Vec<Sent>, transcript: &mut String) {
        let (now, name) = (clock(step.time), self.names.of(step.node));
        for (text, peers) in sent.drain(..) {
            let _ = writeln!(transcript, "{now} {name} > {}: {text}", self.names.all(peers));
        }
    }

    fn is_shown(&self, saying: &Saying) -> bool {
        // What goes with heartbeats is shown only to who asks for it by name.
        let routine = matches!(saying.kind(), "stamp" | "beat");
        let by_part = !routine && self.script.show.contains(saying.part);
        by_part || self.script.show.contains(saying.kind())
    }
}

/// What is said, and to whom.
type Sent = (String, Vec<NodeId>);

/// How many copies of a message get through.
fn take_copies(
    through: &mut Vec<(NodeId, node::Message)>,
    peer: NodeId,
    message: &node::Message,
) -> usize {
    let before = through.len();
    through.retain(|(to, copy)| (*to, copy) != (peer, message));
    before - through.len()
}

fn fate(copies: usize) -> &'static str {
    match copies {
        0 => " (lost)",
        1 => "",
        _ => " (doubled)",
    }
}

fn clock(time: Time) -> String {
    let millis = time.as_nanos() / 1_000_000;
    format!("{}.{:03}s", millis / 1000, millis % 1000)
}
