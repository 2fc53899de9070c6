//! One process of the demo: a node with all three protocols. It takes `work`, `rest` and `quit`
//! from its standard input, and ends when that ends, since then the demo is gone.

use crate::{
    args::DemoNode,
    failure::Usage,
    generator::Generator,
    input::Command,
    output::{Message, Output, Report, Rumor},
    program::{Stage, member_names},
};
use anyhow::Context;
use roundelay::{
    Delivered, Deliveries, Delivery, Event, Events, Gossip, Group, LockName, Node, Rumors,
    core::founding,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixDatagram, sync::watch, task::JoinSet, time::sleep};

/// How long the counter is held: long enough that somebody else would notice.
const HOLD: Duration = Duration::from_millis(1);
/// How long a node does without the lock, about: so short that some other always wants it.
const THINK: Duration = Duration::from_millis(5);
/// Rumors and messages per second of one node.
const RATE: f64 = 20.0;

/// The socket at which the demo learns, in their real order, of grants and releases.
pub(super) fn ledger(dir: &Path) -> PathBuf {
    dir.join("ledger")
}

/// The counter that the lock guards: its value, and the fence of who wrote it.
pub(super) fn counter(dir: &Path) -> PathBuf {
    dir.join("counter")
}

/// What a node has done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    grants: u64,
    rumors: u64,
    messages: u64,
}

/// Runs the node.
pub(crate) async fn run(args: DemoNode, stage: Stage) -> anyhow::Result<()> {
    let book = parse_group(&args.group)?;
    let names: Vec<&str> = book.iter().map(|(name, _)| *name).collect();
    let own = names.iter().position(|name| *name == args.name);
    let own = own.ok_or_else(|| Usage(format!("{} is not in its group", args.name)))?;
    let mut builder = Node::builder(args.name.as_str()).listen(book[own].1);
    for (name, address) in &book {
        builder = builder.peer(*name, *address);
    }
    // The next two on a circle: rumors take some hops, and one loss cuts nobody off.
    let neighbors = [1, 2].map(|distance| names[(own + distance) % names.len()]);
    let neighbors = neighbors.into_iter().filter(|name| *name != args.name);
    let gossip = Gossip::with_neighbors(neighbors);
    let mut builder = builder.group(Group::of(names)).gossip(gossip);
    if let Some(path) = args.record {
        builder = builder.record(path);
    }
    let (events, rumors) = (builder.events(), builder.subscribe());
    let node = builder.start().await?;
    let streams = (events, rumors, node.deliveries());
    let ready = Report::Ready { node: args.name, listen: node.listen_addr().to_string() };
    stage.output.report(ready).await;
    let (rest, _) = watch::channel(false);
    let mut worker = Worker { node, stage, dir: args.dir, rest, tasks: JoinSet::new() };
    worker.play(streams).await?;
    worker.rest.send_replace(true);
    worker.tasks.shutdown().await;
    worker.stage.output.hurry();
    worker.stage.leave(&worker.node).await
}

/// Parses `NAME=HOST:PORT,…`.
fn parse_group(text: &str) -> Result<Vec<(&str, &str)>, Usage> {
    let entries: Option<Vec<_>> = text.split(',').map(|part| part.split_once('=')).collect();
    entries.ok_or_else(|| Usage(format!("{text:?} is not NAME=HOST:PORT,…")))
}

struct Worker {
    node: Node,
    stage: Stage,
    dir: PathBuf,
    /// Whether everybody should stop to make work.
    rest: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<Done>>,
}

impl Worker {
    async fn play(
        &mut self,
        (mut events, mut rumors, mut deliveries): (Events, Rumors, Deliveries),
    ) -> anyhow::Result<()> {
        let mut done = Done::default();
        let shutdown = self.stage.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                command = self.stage.input.command("quit", false) => match command {
                    Command::Line(line) => match line.as_str() {
                        "work" => self.work()?,
                        "rest" => {
                            self.rest.send_replace(true);
                        }
                        other => anyhow::bail!("there is no command {other:?}"),
                    },
                    _ => return Ok(()),
                },
                event = events.next() => match event {
                    Some(event) => show_event(event, &self.stage.output).await,
                    None => anyhow::bail!("the node has stopped by itself"),
                },
                rumor = rumors.next() => match rumor {
                    Some(rumor) => show_rumor(rumor.context("too slow to hear")?, &self.stage.output).await,
                    None => anyhow::bail!("the node has stopped by itself"),
                },
                delivery = deliveries.next() => match delivery {
                    Some(Delivered::Message(delivery)) => self.show_delivery(&delivery).await,
                    Some(Delivered::View(_)) => {}
                    Some(Delivered::Missed { from, to }) => {
                        anyhow::bail!("messages {from} to {to} were missed");
                    }
                    None => anyhow::bail!("the node has stopped by itself"),
                },
                Some(task) = self.tasks.join_next() => {
                    let part = task.context("a part of the work failed")??;
                    done.grants += part.grants;
                    done.rumors += part.rumors;
                    done.messages += part.messages;
                    if self.tasks.is_empty() {
                        let Done { grants, rumors, messages } = done;
                        self.stage.output.report(Report::Rested { grants, rumors, messages }).await;
                    }
                }
            }
        }
    }

    /// Begins to lock, to say and to send.
    fn work(&mut self) -> anyhow::Result<()> {
        let socket = UnixDatagram::unbound().context("cannot make a socket")?;
        socket.connect(ledger(&self.dir)).context("cannot reach the demo")?;
        let rest = || self.rest.subscribe();
        let counting = Counting {
            node: self.node.clone(),
            counter: counter(&self.dir),
            ledger: socket,
            output: self.stage.output.clone(),
        };
        self.tasks.spawn(counting.run(rest()));
        self.tasks.spawn(say(self.node.clone(), rest()));
        self.tasks.spawn(send(self.node.clone(), rest()));
        Ok(())
    }

    async fn show_delivery(&self, delivery: &Delivery) {
        let message = Message {
            position: delivery.position,
            time: delivery.time,
            sender: self.node.name_of(delivery.sender),
            sequence: delivery.sequence,
            text: String::from_utf8_lossy(&delivery.payload).into_owned(),
        };
        self.stage.output.report(Report::Delivered(message)).await;
    }
}

async fn show_event(event: Event, output: &Output) {
    match event {
        Event::Peer { name, state, .. } => {
            output.report(Report::Peer { name, state: state.into() }).await;
        }
        Event::View(installed) => {
            let (members, shown) = (member_names(&installed.view), String::new());
            output.report(Report::View { number: installed.view.number, members, shown }).await;
        }
        Event::Founding(founding::Event::Refused(error)) => {
            output.error(format!("the group was not founded: {error:?}")).await;
        }
        Event::RecordingEnded(why) => output.aside(why).await,
        _ => {}
    }
}

async fn show_rumor(rumor: roundelay::Rumor, output: &Output) {
    let rumor = Rumor {
        origin: rumor.origin,
        sequence: rumor.sequence,
        hops: rumor.hops,
        text: String::from_utf8_lossy(&rumor.payload).into_owned(),
    };
    output.report(Report::Rumor(rumor)).await;
}

/// Counts under the lock.
struct Counting {
    node: Node,
    counter: PathBuf,
    ledger: UnixDatagram,
    output: Output,
}

impl Counting {
    async fn run(self, mut rest: watch::Receiver<bool>) -> anyhow::Result<Done> {
        // Its texts are of no use here, its times are.
        let mut pace = Generator::new(Some(1.0 / THINK.as_secs_f64()));
        let mut grants = 0;
        while !*rest.borrow() {
            let guard = tokio::select! {
                guard = self.node.lock(LockName::default_lock()) => guard?,
                _ = rest.wait_for(|rest| *rest) => break,
            };
            let fence = guard.fence();
            self.note(&format!("{} acquired {fence}", self.node.name())).await?;
            let value = self.increment(fence).await?;
            self.note(&format!("{} released {fence} {value}", self.node.name())).await?;
            guard.release().await;
            grants += 1;
            tokio::select! {
                _ = pace.next() => {}
                _ = rest.wait_for(|rest| *rest) => break,
            }
        }
        Ok(Done { grants, ..Done::default() })
    }

    /// Reads the counter, waits a little, and writes it: what only works under a lock.
    async fn increment(&self, fence: u64) -> anyhow::Result<u64> {
        let before = std::fs::read_to_string(&self.counter).context("cannot read the counter")?;
        sleep(HOLD).await;
        let Some((value, last)) = parse_counter(&before) else {
            self.broken(format!("the counter was {before:?}: somebody was writing it")).await;
            return Ok(0);
        };
        if last >= fence {
            self.broken(format!("the counter was written under the fence {last} before {fence}"))
                .await;
        }
        let text = format!("{} {fence}", value + 1);
        std::fs::write(&self.counter, text).context("cannot write the counter")?;
        Ok(value + 1)
    }

    async fn broken(&self, what: String) {
        self.output.report(Report::Violation { what }).await;
    }

    /// Tells the demo, in the order in which it happens.
    async fn note(&self, text: &str) -> anyhow::Result<()> {
        self.ledger.send(text.as_bytes()).await.context("the demo is gone")?;
        Ok(())
    }
}

/// Parses the counter: its value, and the fence under which it was written.
pub(super) fn parse_counter(text: &str) -> Option<(u64, u64)> {
    let (value, fence) = text.split_once(' ')?;
    Some((value.parse().ok()?, fence.parse().ok()?))
}

/// Says rumors.
async fn say(node: Node, mut rest: watch::Receiver<bool>) -> anyhow::Result<Done> {
    let mut generator = Generator::new(Some(RATE));
    let mut rumors = 0;
    loop {
        let text = tokio::select! {
            text = generator.next() => text,
            _ = rest.wait_for(|rest| *rest) => return Ok(Done { rumors, ..Done::default() }),
        };
        node.publish(text).await?;
        rumors += 1;
    }
}

/// Sends messages.
async fn send(node: Node, mut rest: watch::Receiver<bool>) -> anyhow::Result<Done> {
    let mut generator = Generator::new(Some(RATE));
    let mut messages = 0;
    loop {
        let text = tokio::select! {
            text = generator.next() => text,
            _ = rest.wait_for(|rest| *rest) => return Ok(Done { messages, ..Done::default() }),
        };
        node.multicast().submit(text).await?;
        messages += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_counters_are_parsed() {
        let group = parse_group("n1=127.0.0.1:1,n2=[::1]:2").unwrap();
        assert_eq!(group, [("n1", "127.0.0.1:1"), ("n2", "[::1]:2")]);
        assert!(parse_group("n1").is_err());
        assert_eq!(parse_counter("3 17"), Some((3, 17)));
        for text in ["", "3", "3 x", "x 3"] {
            assert_eq!(parse_counter(text), None);
        }
    }
}
