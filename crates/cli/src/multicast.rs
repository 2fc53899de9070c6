//! `roundelay multicast`: one order of messages for the peers of `peers.json`.

use crate::{
    args::{self, Multicast},
    failure::Usage,
    files::{Peers, peers},
    input::{Command, Input},
    outbox::Outbox,
    output::{Clock, HeadWait, MemberClock, Message, Output, Queue, Queued, Report},
    program::{
        JOIN, LOOK, PeerBook, Stage, join_refused_text, keep, maybe, member_names, outside_text,
        quorum_report,
    },
};
use futures_util::future::{BoxFuture, FutureExt};
use roundelay::{
    Builder, Delivered, Deliveries, Delivery, Event, Events, Group, Installed, Node, NodeId,
    SendError, Trigger, View, core::founding,
};
use std::{ops::ControlFlow, time::Duration};
use tokio::time::{sleep, timeout};

const HELP: &str = "\
any text          is a message
/generate RATE    send RATE random messages per second
/stop             stop that
/peers            the peers and their states
/clock            the Lamport clock, and what has been heard of the others'
/queue            messages that are not in the order yet
/history          the order so far
/quit             leave";

/// How long somebody is absent before that is said.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long texts that have been typed may take to be accepted when the program is to end.
const LAST_TEXTS: Duration = Duration::from_millis(300);

/// Runs the program until somebody wishes to end it.
pub(crate) async fn run(args: Multicast, mut stage: Stage) -> anyhow::Result<()> {
    args.shared.check()?;
    let peers = Peers::read(&args.peers, peers::parse)?;
    peers.check_group()?;
    if let Some(name) = &args.name {
        peers.named(name)?;
    }
    let Some((name, rate)) =
        stage.ask(async |input, output| questions(&args, &peers, input, output).await).await?
    else {
        return Ok(());
    };
    let own = peers.named(&name)?;
    let members = peers.list().iter().map(|peer| peer.name.as_str());
    let group = Group::of(members).trigger(Trigger::FirstOfList).lease(args.lease).lock(false);
    let durable = args.durable;
    let configure = |builder: Builder| keep(builder.group(group).durable(durable), args.data_dir);
    let (node, events) = stage.start(&peers, own, &args.shared, configure).await?;
    let deliveries = node.deliveries();
    let outgoing = node.clone();
    let outbox = Outbox::new(rate, move |text| {
        let node = outgoing.clone();
        async move {
            // What waits for absent peers is kept here, so that it can be said if it was in vain.
            node.wait_installed().await;
            node.multicast().submit(text).await
        }
    });
    let mut order = Order {
        book: PeerBook::new(&peers, &name).holding(),
        stay: args.shared.stay,
        outbox,
        node,
        stage,
        view: None,
        early: Vec::new(),
        joined: 0,
        accepted: 0,
        delivered: 0,
        reached: 0,
        patience: Some(sleep(PATIENCE).boxed()),
        look: Some(sleep(LOOK).boxed()),
        ended: false,
    };
    order.play(events, deliveries).await;
    order.leave().await
}

/// Asks for what no flag gave: the name, and whether to generate messages, at which rate.
async fn questions(
    args: &Multicast,
    peers: &Peers,
    input: &mut Input,
    output: &Output,
) -> Result<Option<(String, Option<f64>)>, Usage> {
    let named = |text: &str| match peers.named(text) {
        Ok(peer) => Ok(peer.name.to_string()),
        Err(Usage(reason)) => Err(reason),
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => match input.answer("name", output, named).await? {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    if args.generate.is_some() || args.no_generate {
        return Ok(Some((name, args.generate)));
    }
    let question = "generate messages? (y, n, or how many per second)";
    let rate = input.answer(question, output, generate_answer).await?;
    Ok(rate.map(|rate| (name, rate)))
}

/// Understands the answer to "generate messages?".
fn generate_answer(text: &str) -> Result<Option<f64>, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "n" | "no" => Ok(None),
        "y" | "yes" => Ok(Some(1.0)),
        number => args::rate(number)
            .map(Some)
            .map_err(|_| format!("{text:?} is no answer; say y, n, or a rate per second")),
    }
}

/// The program while it runs.
struct Order {
    stage: Stage,
    node: Node,
    book: PeerBook,
    stay: bool,
    outbox: Outbox<Result<(), SendError>>,
    /// The last view, once it has been shown.
    view: Option<View>,
    /// What was delivered before: to who comes later, the order is told first.
    early: Vec<Delivered>,
    /// The incarnation in which this process came to the group. Earlier ones are not its own.
    joined: u64,
    /// Own messages that are on their way or in the order, and those in the order.
    accepted: u64,
    delivered: u64,
    /// The last position that this process has delivered, or knows to be missed.
    reached: u64,
    /// When it is time to say who is absent.
    patience: Option<BoxFuture<'static, ()>>,
    /// When it is time to say who is there, even if there is no view.
    look: Option<BoxFuture<'static, ()>>,
    /// Whether the input has ended, or a script has said `/quit`.
    ended: bool,
}

impl Order {
    /// Acts on events, commands and deliveries until somebody wishes to end.
    async fn play(&mut self, mut events: Events, mut deliveries: Deliveries) {
        let shutdown = self.stage.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = async {
                while self.step(&mut events, &mut deliveries).await.is_continue() {}
            } => {}
        }
    }

    async fn step(&mut self, events: &mut Events, deliveries: &mut Deliveries) -> ControlFlow<()> {
        if self.ended && !self.is_pending() && !self.stage.input.has_commands() {
            return ControlFlow::Break(());
        }
        let full = self.outbox.is_full();
        tokio::select! {
            event = events.next() => match event {
                Some(event) => self.on_event(event).await,
                None => return self.stopped(),
            },
            delivered = deliveries.next() => match delivered {
                Some(delivered) => self.on_delivered(delivered).await,
                None => return self.stopped(),
            },
            sent = self.outbox.sent() => self.on_sent(sent).await,
            () = maybe(&mut self.patience) => self.on_patience().await,
            () = maybe(&mut self.look) => {
                self.look = None;
                self.book.release(&self.stage.output).await;
            }
            command = self.stage.input.command("/quit", full) => {
                let flow = self.on_command(command).await;
                self.stage.answered().await;
                return flow;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether a text has been typed or generated that is not in the order yet.
    fn is_pending(&self) -> bool {
        self.outbox.waiting() > 0 || self.delivered < self.accepted
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
                self.stage.output.error("the line is too long to be a message; shorten it").await;
                return ControlFlow::Continue(());
            }
            Command::Line(line) => line,
        };
        let line = line.trim();
        match line.split_once(char::is_whitespace).unwrap_or((line, "")) {
            ("", _) => {}
            ("/generate", rate) => {
                let answer = self.outbox.generate(rate.trim());
                self.stage.output.answer(answer).await;
            }
            ("/stop", "") => {
                let answer = self.outbox.stop();
                self.stage.output.answer(answer).await;
            }
            ("/peers", "") => {
                let peers = self.book.lines(|_| None);
                self.stage.output.report(Report::Peers { peers }).await;
            }
            ("/clock", "") => self.on_clock().await,
            ("/queue", "") => self.on_queue().await,
            ("/history", "") => self.on_history().await,
            ("/help", "") => self.stage.output.line(HELP).await,
            (word, _) if word.starts_with('/') => {
                let shown: String = word.chars().take(40).collect();
                let message = format!("there is no command {shown:?}; type /help for the commands");
                self.stage.output.error(message).await;
            }
            _ => {
                if let Err(reason) = self.outbox.push(line) {
                    self.stage.output.error(reason).await;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Ends once everything that was said before is in the order.
    fn finish_pending(&mut self) {
        self.outbox.end();
        self.ended = true;
    }

    async fn on_sent(&mut self, sent: Result<(), SendError>) {
        match sent {
            Ok(()) => self.accepted += 1,
            Err(error) => self.stage.output.error(format!("not sent: {error}")).await,
        }
    }

    async fn on_delivered(&mut self, delivered: Delivered) {
        match delivered {
            Delivered::View(installed) => self.on_view(&installed).await,
            // The first view is shown first.
            delivered if self.view.is_none() => self.early.push(delivered),
            Delivered::Message(delivery) => self.on_message(&delivery).await,
            Delivered::Missed { from, to } => {
                self.reached = to;
                self.stage.output.report(Report::Missed { from, to }).await;
            }
        }
    }

    async fn on_message(&mut self, delivery: &Delivery) {
        if delivery.sender == self.node.name().id() && delivery.incarnation >= self.joined {
            self.delivered += 1;
        }
        self.reached = delivery.position;
        let message = self.message(delivery);
        self.stage.output.report(Report::Delivered(message)).await;
    }

    async fn on_view(&mut self, installed: &Installed) {
        let Installed { view, joins, loss, position: _ } = installed;
        let shown = match &self.view {
            Some(before) => self.book.describe_change(before, view),
            None if *joins => {
                format!("joined; view {}: {}", view.number, member_names(view).join(" "))
            }
            None => format!("all are here: {}", member_names(view).join(", ")),
        };
        let (number, members) = (view.number, member_names(view));
        self.stage.output.report(Report::View { number, members, shown }).await;
        if *loss {
            // The new view begins far beyond all positions that were ever given (V5). What was
            // delivered here stands.
            self.stage.output.report(Report::Loss { after: self.reached }).await;
        }
        (self.patience, self.look) = (None, None);
        self.book.release(&self.stage.output).await;
        if self.view.replace(view.clone()).is_none() {
            let own = view.position(self.node.name().id());
            self.joined = own.map_or(0, |own| view.members[own].incarnation);
            for delivered in std::mem::take(&mut self.early) {
                Box::pin(self.on_delivered(delivered)).await;
            }
        }
    }

    fn message(&self, delivery: &Delivery) -> Message {
        Message {
            position: delivery.position,
            time: delivery.time,
            sender: self.book.name(delivery.sender, &self.node),
            sequence: delivery.sequence,
            text: String::from_utf8_lossy(&delivery.payload).into_owned(),
        }
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Peer { peer, name, state } => {
                self.book.note(peer, &name, state.into(), &self.stage.output).await;
            }
            Event::Out { left: false } => {
                self.stage.output.note(outside_text(self.view.is_some())).await;
                self.patience = None;
                if self.look.is_some() {
                    self.look = Some(sleep(JOIN).boxed());
                }
            }
            Event::JoinRefused(reason) => {
                let name = self.node.name().as_str();
                self.stage.output.error(join_refused_text(reason, name)).await;
            }
            Event::Quorum { regained } => {
                let report = quorum_report(&self.node, &self.book, regained).await;
                self.stage.output.report(report).await;
            }
            Event::NotSent(error) => {
                self.accepted = self.accepted.saturating_sub(1);
                self.stage.output.error(format!("one of your texts: {error}")).await;
            }
            Event::Founding(founding::Event::Refused(error)) => {
                if let Some(reason) = refusal(&error) {
                    self.stage.output.error(format!("the group was not founded: {reason}")).await;
                }
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
        let absent = self.node.status().await.founding.map(|founding| founding.absent);
        if let Some(absent) = absent.filter(|absent| !absent.is_empty()) {
            self.stage.output.report(self.book.waiting(&absent)).await;
        }
    }

    async fn on_clock(&self) {
        let status = self.node.status().await.order.unwrap_or_default();
        let members = status
            .clocks
            .iter()
            .map(|(id, time)| MemberClock { name: self.book.name(*id, &self.node), time: *time });
        let clock =
            Clock { time: status.clock, position: status.position, members: members.collect() };
        self.stage.output.report(Report::Clock(clock)).await;
    }

    async fn on_queue(&self) {
        let status = self.node.status().await.order.unwrap_or_default();
        let messages = status.queue.iter().map(|waiting| Queued {
            time: waiting.time,
            sender: self.book.name(waiting.sender, &self.node),
            sequence: waiting.sequence,
            text: String::from_utf8_lossy(&waiting.payload).into_owned(),
        });
        let name = |id: &NodeId| self.book.name(*id, &self.node);
        let now = self.node.now();
        let waiting_for = status.waiting_for.map(|(id, _)| name(&id));
        let waited_ms =
            status.waiting_for.map(|(_, since)| now.since(since).as_secs_f64() * 1000.0);
        let head = status.head.as_ref().map(|head| HeadWait {
            waited_ms: now.since(head.since).as_secs_f64() * 1000.0,
            clocks: head.clocks.iter().map(name).collect(),
            receipts: head.receipts.iter().map(name).collect(),
        });
        let messages = messages.collect();
        let queue = Queue { waiting_for, waited_ms, head, messages };
        self.stage.output.report(Report::Queue(queue)).await;
    }

    async fn on_history(&self) {
        let history = self.node.history().await;
        let messages = history.iter().map(|delivery| self.message(delivery)).collect();
        self.stage.output.report(Report::History { messages }).await;
    }

    /// Hands over what has been typed, and leaves.
    async fn leave(mut self) -> anyhow::Result<()> {
        self.stage.output.hurry();
        self.outbox.end();
        if self.view.is_some() {
            // What is not accepted by then is reported below.
            let _ = timeout(LAST_TEXTS, async {
                while self.outbox.waiting() > 0 {
                    let sent = self.outbox.sent().await;
                    self.on_sent(sent).await;
                }
            })
            .await;
        }
        let lost = self.outbox.waiting();
        if lost > 0 {
            let message = format!("not sent, since the program ended before: {lost} of your texts");
            self.stage.output.error(message).await;
        }
        self.stage.leave(&self.node).await
    }
}

/// Why the group was not founded, and what to do; nothing if more is to come.
fn refusal(error: &founding::StartError) -> Option<String> {
    use founding::StartError as Error;
    match error {
        Error::OtherList => Some(
            "the peers do not have the same peers.json; give all of them the same names in the \
             same order, and start them anew"
                .into(),
        ),
        Error::SharedSuccessor(..) | Error::LeftOut(_) => Some(
            "some peer goes by another order than that of the file; start all peers anew".into(),
        ),
        // It turns out next whether this peer takes part.
        Error::AlreadyStarted(_) | Error::GaveWay(_) | Error::Starting | Error::NoGroup => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_generate() {
        for text in ["", "n", "No"] {
            assert_eq!(generate_answer(text), Ok(None));
        }
        assert_eq!(generate_answer("Y"), Ok(Some(1.0)));
        assert_eq!(generate_answer("2.5"), Ok(Some(2.5)));
        for text in ["maybe", "-1", "0"] {
            assert!(generate_answer(text).is_err());
        }
    }
}
