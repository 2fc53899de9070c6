//! `roundelay gossip`: rumors among the nodes of `machines.txt`.

use crate::{
    args::{Gossip, StrategyArg},
    failure::Usage,
    files::{Peers, machines},
    input::{Command, Input},
    outbox::Outbox,
    output::{Output, Report, Rumor, RumorStatus},
    program::{PeerBook, Stage, maybe},
};
use futures_util::future::{BoxFuture, FutureExt};
use roundelay::{Builder, Event, Events, Lagged, Node, NodeId, PublishError, Rumors, Strategy};
use std::{collections::VecDeque, ops::ControlFlow, time::Duration};
use tokio::time::timeout;

const HELP: &str = "\
any text          is a rumor
/send TEXT        says TEXT, even if it begins with a slash
/generate RATE    say RATE random rumors per second
/stop             stop that
/peers            the neighbours and their states
/rumors           the last rumors
/status           what this node knows
/quit             leave";

/// Rumors that `/rumors` can show.
const RUMORS_MAX: usize = 100;
/// The k of the textbook rule, if none is given.
const K: u32 = 3;
/// How long a neighbour is absent before that is said.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody else has what was said here, when the input has ended.
const CONFIRM: Duration = Duration::from_millis(100);
/// How long texts that have been typed may take to be said when the program is to end.
const LAST_TEXTS: Duration = Duration::from_millis(300);

/// Runs the program until somebody wishes to end it.
pub(crate) async fn run(args: Gossip, mut stage: Stage) -> anyhow::Result<()> {
    args.shared.check()?;
    let strategy = strategy(&args)?;
    let peers = Peers::read(&args.machines, machines::parse)?;
    if let Some(name) = &args.name {
        peers.named(name)?;
    }
    let Some((name, neighbors)) =
        stage.ask(async |input, output| questions(&args, &peers, input, output).await).await?
    else {
        return Ok(());
    };
    let own = peers.named(&name)?;
    let neighbor_ids = neighbors.iter().map(|name| NodeId::from_name(name)).collect();
    let gossip = roundelay::Gossip::with_neighbors(neighbors).strategy(strategy);
    let mut rumors = None;
    let configure = |mut builder: Builder| {
        rumors = Some(builder.subscribe());
        builder.gossip(gossip)
    };
    let (node, events) = stage.start(&peers, own, &args.shared, configure).await?;
    let rumors = rumors.expect("a node that has started was configured");
    let publisher = node.clone();
    let outbox = Outbox::new(args.generate, move |text| {
        let publisher = publisher.clone();
        async move { publisher.publish(text).await }
    });
    let mut program = Talk {
        book: PeerBook::new(&peers, &name),
        neighbors: neighbor_ids,
        stay: args.shared.stay,
        outbox,
        node,
        stage,
        said: 0,
        shown: 0,
        reached: false,
        heard: 0,
        last: VecDeque::new(),
        patience: Some(tokio::time::sleep(PATIENCE).boxed()),
        confirm: None,
        ended: false,
    };
    program.play(events, rumors).await;
    program.leave().await
}

fn strategy(args: &Gossip) -> Result<Strategy, Usage> {
    match (args.strategy, args.k) {
        (StrategyArg::Tree, None) => Ok(Strategy::Tree),
        (StrategyArg::Tree, Some(_)) => {
            Err(Usage("--k belongs to --strategy rumor; leave one of the two out".into()))
        }
        (StrategyArg::Rumor, k) => Ok(Strategy::Rumor { k: k.unwrap_or(K) }),
    }
}

/// Asks for what no flag gave: the name, how many neighbours, and each one's name.
async fn questions(
    args: &Gossip,
    peers: &Peers,
    input: &mut Input,
    output: &Output,
) -> Result<Option<(String, Vec<String>)>, Usage> {
    let named = |text: &str| match peers.named(text) {
        Ok(peer) => Ok(peer.name.to_string()),
        Err(Usage(reason)) => Err(reason),
    };
    // What a flag gave is checked before anything is asked.
    let given: Option<Vec<&str>> = args
        .neighbors
        .as_deref()
        .map(|list| list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect());
    for name in given.iter().flatten() {
        peers.named(name)?;
    }
    let name = match &args.name {
        Some(name) => name.clone(),
        None => match input.answer("node name", output, named).await? {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    let mut neighbors: Vec<String> = Vec::new();
    if let Some(given) = given {
        for neighbor in given {
            let checked = neighbor_answer(neighbor, &name, &neighbors, peers);
            neighbors.push(checked.map_err(|reason| Usage(format!("--neighbors: {reason}")))?);
        }
        return Ok(Some((name, neighbors)));
    }
    let most = peers.list().len() - 1;
    let count = |text: &str| match text.parse::<usize>() {
        Ok(count) if count <= most => Ok(count),
        _ => Err(format!("{text:?} is not a number from 0 to {most}")),
    };
    let Some(count) = input.answer("number of neighbours", output, count).await? else {
        return Ok(None);
    };
    while neighbors.len() < count {
        let question = format!("name of neighbour {}", neighbors.len() + 1);
        let check = |text: &str| neighbor_answer(text, &name, &neighbors, peers);
        match input.answer(&question, output, check).await? {
            Some(neighbor) => neighbors.push(neighbor),
            None => return Ok(None),
        }
    }
    Ok(Some((name, neighbors)))
}

/// Checks one neighbour's name.
fn neighbor_answer(
    text: &str,
    own: &str,
    before: &[String],
    peers: &Peers,
) -> Result<String, String> {
    let peer = peers.named(text).map_err(|Usage(reason)| reason)?;
    if text == own {
        return Err(format!("{text} is this node itself; name another one"));
    }
    if before.iter().any(|name| name == text) {
        return Err(format!("{text} is named twice; name each neighbour once"));
    }
    Ok(peer.name.to_string())
}

/// The program while it runs.
struct Talk {
    stage: Stage,
    node: Node,
    book: PeerBook,
    neighbors: Vec<NodeId>,
    stay: bool,
    outbox: Outbox<Result<u64, PublishError>>,
    said: u64,
    /// Those of them that have been shown.
    shown: u64,
    /// Whether anybody was linked after the last one.
    reached: bool,
    heard: u64,
    /// The last rumors.
    last: VecDeque<Rumor>,
    /// When it is time to say who is absent.
    patience: Option<BoxFuture<'static, ()>>,
    /// After the end of the input: when to look again whether somebody else has what was said.
    confirm: Option<BoxFuture<'static, ()>>,
    /// Whether the input has ended, or a script has said `/quit`.
    ended: bool,
}

impl Talk {
    /// Acts on events, commands and rumors until somebody wishes to end.
    async fn play(&mut self, mut events: Events, mut rumors: Rumors) {
        let shutdown = self.stage.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = async {
                while self.step(&mut events, &mut rumors).await.is_continue() {}
            } => {}
        }
    }

    async fn step(&mut self, events: &mut Events, rumors: &mut Rumors) -> ControlFlow<()> {
        if self.ended && self.is_done().await {
            return ControlFlow::Break(());
        }
        let full = self.outbox.is_full();
        tokio::select! {
            event = events.next() => match event {
                Some(event) => self.on_event(event).await,
                None => return self.stopped(),
            },
            rumor = rumors.next() => match rumor {
                Some(rumor) => self.on_rumor(rumor).await,
                None => return self.stopped(),
            },
            said = self.outbox.sent() => self.on_said(said).await,
            () = maybe(&mut self.patience) => self.on_patience().await,
            () = maybe(&mut self.confirm) => self.confirm = None,
            command = self.stage.input.command("/quit", full) => {
                let flow = self.on_command(command).await;
                self.stage.answered().await;
                return flow;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether everything has been said, and, with neighbours, one of them has it.
    async fn is_done(&mut self) -> bool {
        let waits = self.outbox.waiting() > 0 || self.shown < self.said || self.confirm.is_some();
        if waits || self.stage.input.has_commands() {
            return false;
        }
        if self.said == 0 || self.neighbors.is_empty() || self.node.unconfirmed().await == 0 {
            return true;
        }
        // Who was there and has gone has probably heard it, but cannot be asked any more.
        if self.reached && !self.book.is_any_up() {
            return true;
        }
        self.confirm = Some(tokio::time::sleep(CONFIRM).boxed());
        false
    }

    /// The node has stopped, which nobody asked for.
    fn stopped(&mut self) -> ControlFlow<()> {
        self.stage.stopped = true;
        ControlFlow::Break(())
    }

    async fn on_command(&mut self, command: Command) -> ControlFlow<()> {
        let line = match command {
            Command::Quit { at_once: true } => return ControlFlow::Break(()),
            Command::Quit { at_once: false } => {
                self.finish_pending();
                return ControlFlow::Continue(());
            }
            Command::End => {
                // At a terminal, Ctrl-D is a way to say quit.
                if !self.stay && !self.stage.input.is_script() {
                    return ControlFlow::Break(());
                }
                if !self.stay {
                    self.finish_pending();
                }
                return ControlFlow::Continue(());
            }
            Command::TooLong => {
                self.stage.output.error("the line is too long to be a rumor; shorten it").await;
                return ControlFlow::Continue(());
            }
            Command::Line(line) => line,
        };
        let line = line.trim();
        match line.split_once(char::is_whitespace).unwrap_or((line, "")) {
            ("", _) => {}
            ("/send", text) if !text.trim().is_empty() => self.on_text(text.trim()).await,
            ("/send", _) => self.stage.output.error("/send needs a text: /send TEXT").await,
            ("/generate", rate) => {
                let answer = self.outbox.generate(rate.trim());
                self.stage.output.answer(answer).await;
            }
            ("/stop", "") => {
                let answer = self.outbox.stop();
                self.stage.output.answer(answer).await;
            }
            ("/peers", "") => self.on_peers().await,
            ("/rumors", "") => {
                let rumors = self.last.iter().cloned().collect();
                self.stage.output.report(Report::Rumors { rumors }).await;
            }
            ("/status", "") => self.on_status().await,
            ("/help", "") => self.stage.output.line(HELP).await,
            (word, _) if word.starts_with('/') => {
                let shown: String = word.chars().take(40).collect();
                let message = format!("there is no command {shown:?}; type /help for the commands");
                self.stage.output.error(message).await;
            }
            _ => self.on_text(line).await,
        }
        ControlFlow::Continue(())
    }

    async fn on_text(&mut self, text: &str) {
        if let Err(reason) = self.outbox.push(text) {
            self.stage.output.error(reason).await;
        }
    }

    /// Ends once everything that was said before has reached somebody.
    fn finish_pending(&mut self) {
        self.outbox.end();
        self.ended = true;
    }

    async fn on_said(&mut self, said: Result<u64, PublishError>) {
        match said {
            Ok(_) => {
                self.said += 1;
                self.reached = self.book.is_any_up();
            }
            Err(error) => self.stage.output.error(format!("not said: {error}")).await,
        }
    }

    async fn on_rumor(&mut self, rumor: Result<roundelay::Rumor, Lagged>) {
        let rumor = match rumor {
            Ok(rumor) => rumor,
            Err(Lagged(count)) => {
                let message = format!("{count} rumors came too fast to show");
                return self.stage.output.error(message).await;
            }
        };
        let rumor = Rumor {
            origin: rumor.origin,
            sequence: rumor.sequence,
            hops: rumor.hops,
            text: String::from_utf8_lossy(&rumor.payload).into_owned(),
        };
        if rumor.hops == 0 {
            self.shown += 1;
        } else {
            self.heard += 1;
        }
        if self.last.len() == RUMORS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(rumor.clone());
        self.stage.output.report(Report::Rumor(rumor)).await;
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Peer { peer, name, state } => {
                self.book.note(peer, &name, state.into(), &self.stage.output).await;
                self.reached |= self.book.is_any_up();
            }
            Event::Link(text) => self.stage.output.line(text).await,
            Event::RecordingEnded(why) => self.stage.output.error(why).await,
            Event::Missed(count) => {
                self.stage.output.error(format!("{count} events came too fast to show")).await;
            }
            _ => {}
        }
    }

    /// Some time has passed: says who has not come.
    async fn on_patience(&mut self) {
        self.patience = None;
        let absent: Vec<NodeId> =
            self.neighbors.iter().copied().filter(|id| !self.book.is_up(*id)).collect();
        if !absent.is_empty() {
            self.stage.output.report(self.book.waiting(&absent)).await;
        }
    }

    async fn on_peers(&self) {
        let linked = self.node.status().await.gossip.unwrap_or_default().neighbors;
        let pushed =
            |id| linked.iter().find(|(neighbor, _)| *neighbor == id).map(|(_, pushed)| *pushed);
        let peers = self.book.lines(pushed);
        self.stage.output.report(Report::Peers { peers }).await;
    }

    async fn on_status(&self) {
        let status = self.node.status().await.gossip.unwrap_or_default();
        let name = |(id, _): &(NodeId, bool)| self.book.name(*id, &self.node);
        let report = RumorStatus {
            neighbors: status.neighbors.iter().map(name).collect(),
            waiting: self.outbox.waiting(),
            said: self.said,
            heard: self.heard,
            duplicates: status.duplicates,
            repaired: status.repaired,
            missing: status.missing,
            retained: status.retained,
            retained_bytes: status.retained_bytes,
        };
        self.stage.output.report(Report::RumorStatus(report)).await;
    }

    /// Says what has been typed, and leaves.
    async fn leave(mut self) -> anyhow::Result<()> {
        self.stage.output.hurry();
        self.outbox.end();
        // What is not said by then is reported below.
        let _ = timeout(LAST_TEXTS, async {
            while self.outbox.waiting() > 0 {
                let said = self.outbox.sent().await;
                self.on_said(said).await;
            }
        })
        .await;
        let lost = self.outbox.waiting();
        if lost > 0 {
            let message = format!("not said, since the program ended before: {lost} of your texts");
            self.stage.output.error(message).await;
        }
        self.stage.leave(&self.node).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn neighbours_are_others_and_named_once() {
        let file =
            std::env::temp_dir().join(format!("roundelay-neighbours-{}", std::process::id()));
        std::fs::write(&file, "a h 1\nb h 2\nc h 3\n").unwrap();
        let peers = Peers::read(Path::new(&file), machines::parse).unwrap();
        std::fs::remove_file(&file).unwrap();
        let answer = |text| neighbor_answer(text, "a", &["b".into()], &peers);
        assert_eq!(answer("c"), Ok("c".into()));
        assert!(answer("a").unwrap_err().contains("itself"));
        assert!(answer("b").unwrap_err().contains("twice"));
        assert!(answer("x").unwrap_err().contains("is not in"));
    }
}
