//! `roundelay tokenring`: a lock for the peers of `machines.txt`.

use crate::{
    args::{ModeArg, Tokenring},
    failure::Usage,
    files::{Peers, machines},
    input::{Command, Input},
    output::{Output, Report, RingStatus},
    program::{
        JOIN, LOOK, PeerBook, Stage, join_refused_text, keep, maybe, member_names, outside_text,
        quorum_report,
    },
};
use futures_util::future::{BoxFuture, FutureExt};
use roundelay::{
    Builder, Event, Events, Group, Guard, Installed, LockError, LockName, Loss, Mode, Name, Node,
    Trigger, View,
    core::{founding, tokenring},
};
use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

const HELP: &str = "\
start    make the ring and set the token going, on any one peer, once
lock     wait for the token and keep it
unlock   pass it on, or stop waiting for it
status   what this peer knows
ring     the ring and its members
quit     leave the ring, which closes around us";

/// How long a leaver waits for its own lock to be released before it leaves all the same.
const RELEASE: Duration = Duration::from_millis(300);

/// Runs the program until somebody wishes to end it.
pub(crate) async fn run(args: Tokenring, mut stage: Stage) -> anyhow::Result<()> {
    args.shared.check()?;
    let peers = Peers::read(&args.machines, machines::parse)?;
    peers.check_group()?;
    for name in [&args.name, &args.next].into_iter().flatten() {
        peers.named(name)?;
    }
    let (name, next) = (args.name.clone(), args.next.clone());
    let Some((name, next)) =
        stage.ask(async |input, output| questions(name, next, &peers, input, output).await).await?
    else {
        return Ok(());
    };
    let own = peers.named(&name)?;
    let mode = match args.mode {
        ModeArg::Circulate => Mode::Circulate,
        ModeArg::Rest => Mode::Rest,
    };
    let members = peers.list().iter().map(|peer| peer.name.as_str());
    let group = Group::of(members)
        .next(&*next)
        .trigger(Trigger::Command)
        .mode(mode)
        .hold(args.hold)
        .lease(args.lease)
        .order(false);
    let configure = |builder: Builder| keep(builder.group(group), args.data_dir);
    let (node, events) = stage.start(&peers, own, &args.shared, configure).await?;
    let mut ring = Ring {
        book: PeerBook::new(&peers, &name).holding(),
        members: peers.list().iter().map(|peer| peer.name.to_string()).collect(),
        next,
        stay: args.shared.stay,
        node,
        stage,
        lease: args.lease,
        look: Some(sleep(LOOK).boxed()),
        view: None,
        outside: false,
        shown_waiting: Vec::new(),
        starting: None,
        lock: Lock::Free,
        ended: false,
    };
    ring.play(events).await;
    ring.leave().await
}

/// Asks for the names that no flag gave.
async fn questions(
    name: Option<String>,
    next: Option<String>,
    peers: &Peers,
    input: &mut Input,
    output: &Output,
) -> Result<Option<(String, String)>, Usage> {
    let check = |text: &str| match peers.named(text) {
        Ok(peer) => Ok(peer.name.to_string()),
        Err(Usage(reason)) => Err(reason),
    };
    let Some(name) = answered(name, "peer name", input, output, check).await? else {
        return Ok(None);
    };
    let Some(next) = answered(next, "next peer name", input, output, check).await? else {
        return Ok(None);
    };
    Ok(Some((name, next)))
}

async fn answered(
    given: Option<String>,
    question: &str,
    input: &mut Input,
    output: &Output,
    check: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<String>, Usage> {
    match given {
        Some(answer) => Ok(Some(answer)),
        None => input.answer(question, output, check).await,
    }
}

/// The program while it runs.
struct Ring {
    stage: Stage,
    node: Node,
    book: PeerBook,
    /// The names of the file.
    members: Vec<String>,
    next: String,
    stay: bool,
    /// What this peer was told that the lease is.
    lease: Duration,
    /// When it is time to say who is there, even if there is no view.
    look: Option<BoxFuture<'static, ()>>,
    /// The last view, once it has been shown.
    view: Option<View>,
    /// Whether the ring is without this peer.
    outside: bool,
    /// Whom the last "waiting for" named.
    shown_waiting: Vec<roundelay::NodeId>,
    starting: Option<BoxFuture<'static, Result<View, founding::StartError>>>,
    lock: Lock,
    /// Whether the input has ended.
    ended: bool,
}

/// The lock, as far as this peer is concerned.
enum Lock {
    Free,
    Waiting { grant: BoxFuture<'static, Result<Guard, LockError>>, since: Instant },
    Held(Guard),
}

/// What a step is about.
enum Happened {
    Lost,
    Looked,
    Event(Option<Event>),
    Started(Result<View, founding::StartError>),
    Granted(Result<Guard, LockError>, Instant),
    Command(Command),
}

impl Ring {
    /// Acts on events, commands and answers until somebody wishes to end.
    async fn play(&mut self, mut events: Events) {
        let shutdown = self.stage.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = async { while self.step(&mut events).await.is_continue() {} } => {}
        }
    }

    async fn step(&mut self, events: &mut Events) -> ControlFlow<()> {
        let pending = self.is_pending();
        if self.ended && !self.stay && !pending && !self.stage.input.has_commands() {
            return ControlFlow::Break(());
        }
        // Grants are shown after the view in which they are made.
        let started = self.view.is_some() && !self.outside;
        let happened = tokio::select! {
            // The token is shown before the grant that it brings.
            biased;
            event = events.next() => Happened::Event(event),
            () = maybe(&mut self.look) => Happened::Looked,
            result = maybe(&mut self.starting) => Happened::Started(result),
            happened = self.lock.changed(started) => happened,
            command = self.stage.input.command("quit", pending) => Happened::Command(command),
        };
        // Whoever was stopped for a while reads this before anything else.
        if let Lock::Held(guard) = &self.lock
            && !guard.is_valid()
        {
            let why = guard.lost().now_or_never().unwrap_or(Loss::LeaseEnded);
            self.on_lost(why).await;
        }
        match happened {
            // Said already.
            Happened::Lost => {}
            Happened::Looked => {
                self.look = None;
                self.book.release(&self.stage.output).await;
            }
            Happened::Event(Some(event)) => self.on_event(event).await,
            Happened::Event(None) => return self.stopped(),
            Happened::Started(result) => self.on_started(result).await,
            Happened::Granted(grant, since) => self.on_grant((grant, since)).await,
            Happened::Command(command) => {
                let flow = self.on_command(command).await;
                self.stage.answered().await;
                return flow;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether a command is pending that a script waits for.
    fn is_pending(&self) -> bool {
        self.starting.is_some() || matches!(self.lock, Lock::Waiting { .. })
    }

    /// The node has stopped, which nobody asked for.
    fn stopped(&mut self) -> ControlFlow<()> {
        self.stage.stopped = true;
        ControlFlow::Break(())
    }

    async fn on_command(&mut self, command: Command) -> ControlFlow<()> {
        let line = match command {
            Command::Quit { .. } => return ControlFlow::Break(()),
            Command::End => {
                self.ended = true;
                // At a terminal, Ctrl-D is a way to say quit.
                let leave = !self.stage.input.is_script() && !self.stay;
                return if leave { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            Command::TooLong => {
                self.stage.output.error("the line is too long to be a command; type help").await;
                return ControlFlow::Continue(());
            }
            Command::Line(line) => line,
        };
        match line.trim() {
            "" => {}
            "start" => self.on_start().await,
            "lock" => self.on_lock().await,
            "unlock" => self.on_unlock().await,
            "status" => self.on_status().await,
            "ring" => self.on_ring().await,
            "help" => self.stage.output.line(HELP).await,
            other => {
                let shown: String = other.chars().take(40).collect();
                let message = format!("there is no command {shown:?}; type help for the commands");
                self.stage.output.error(message).await;
            }
        }
        ControlFlow::Continue(())
    }

    async fn on_start(&mut self) {
        if self.starting.is_some() {
            self.stage.output.error(refusal(&founding::StartError::Starting)).await;
        } else {
            let node = self.node.clone();
            self.starting = Some(async move { node.start_group().await }.boxed());
        }
    }

    async fn on_started(&mut self, result: Result<View, founding::StartError>) {
        self.starting = None;
        // A start that succeeded is an event, too, and shown as such.
        if let Err(error) = result {
            self.stage.output.error(refusal(&error)).await;
        }
    }

    async fn on_lock(&mut self) {
        let output = &self.stage.output;
        match &self.lock {
            Lock::Held(guard) => {
                let fence = guard.fence();
                output.error(format!("you have the lock (fence {fence}); unlock it first")).await;
            }
            Lock::Waiting { .. } => {
                output.error("you wait for the lock already; unlock stops waiting").await;
            }
            Lock::Free => {
                if self.view.is_none() {
                    output.note("waiting for the ring to be started (start, on any peer)…").await;
                }
                let grant = self.node.lock(LockName::default_lock()).boxed();
                self.lock = Lock::Waiting { grant, since: Instant::now() };
            }
        }
    }

    async fn on_grant(&mut self, (grant, since): (Result<Guard, LockError>, Instant)) {
        self.lock = match grant {
            Ok(guard) => {
                let acquired = Report::Acquired {
                    lock: guard.lock().to_string(),
                    fence: guard.fence(),
                    waited_ms: since.elapsed().as_secs_f64() * 1000.0,
                };
                self.stage.output.report(acquired).await;
                Lock::Held(guard)
            }
            Err(error) => {
                self.stage.output.error(format!("the lock was not granted: {error}")).await;
                Lock::Free
            }
        };
    }

    /// The guard protects nothing any more.
    async fn on_lost(&mut self, why: Loss) {
        if let Lock::Held(guard) = std::mem::replace(&mut self.lock, Lock::Free) {
            let (lock, fence) = (guard.lock().to_string(), guard.fence());
            self.stage.output.report(Report::Lost { lock, fence, reason: why.to_string() }).await;
        }
    }

    async fn on_unlock(&mut self) {
        match std::mem::replace(&mut self.lock, Lock::Free) {
            Lock::Held(guard) => self.release(guard).await,
            // Dropping the wait takes it back.
            Lock::Waiting { .. } => self.stage.output.note("you no longer wait").await,
            Lock::Free => {
                self.stage.output.error("you do not have the lock; type lock to get it").await;
            }
        }
    }

    /// Says that the lock is given back, then gives it back: so nobody ever reads of a grant
    /// before reading that the one before has ended.
    async fn release(&self, guard: Guard) {
        let (lock, fence) = (guard.lock().to_string(), guard.fence());
        self.stage.output.report(Report::Released { lock, fence }).await;
        self.stage.output.flush().await;
        guard.release().await;
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Peer { peer, name, state } => {
                self.book.note(peer, &name, state.into(), &self.stage.output).await;
            }
            Event::Founding(event) => self.on_founding(event).await,
            Event::Lock(tokenring::Event::Token { view, hop, from }) => {
                let from = self.book.name(from, &self.node);
                self.stage.output.report(Report::Token { view, hop, from }).await;
            }
            Event::Lock(tokenring::Event::WaitingFor(peer)) => {
                self.stage.output.report(self.book.waiting(&[peer])).await;
            }
            Event::Lock(tokenring::Event::Regenerated { .. }) => {
                let text = "the token was lost; a new one is here, and is granted when the lease \
                            of the old one is over";
                self.stage.output.note(text).await;
            }
            Event::View(installed) => self.on_view(&installed).await,
            Event::Out { left: false } => {
                self.stage.output.note(outside_text(self.view.is_some())).await;
                self.outside = true;
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
            Event::Link(text) => self.stage.output.line(text).await,
            Event::RecordingEnded(why) => self.stage.output.error(why).await,
            Event::Missed(count) => {
                self.stage.output.error(format!("{count} events came too fast to show")).await;
            }
            _ => {}
        }
    }

    async fn on_founding(&mut self, event: founding::Event) {
        // The answer to a start of our own comes to who asked.
        let founding::Event::WaitingFor(names) = event else { return };
        let ids: Vec<_> = names.iter().map(Name::id).collect();
        if ids != self.shown_waiting {
            self.stage.output.report(self.book.waiting(&ids)).await;
            self.shown_waiting = ids;
        }
    }

    async fn on_view(&mut self, installed: &Installed) {
        let view = &installed.view;
        let shown = match &self.view {
            None => format!("the ring is {}", circle(&order(view))),
            Some(before) => self.book.describe_change(before, view),
        };
        let (number, members) = (view.number, member_names(view));
        self.stage.output.report(Report::View { number, members, shown }).await;
        if self.view.is_none() && view.lease != self.lease {
            let text = format!(
                "the lease of this ring is {:?}, as its starter was told, and not {:?}",
                view.lease, self.lease
            );
            self.stage.output.line(text).await;
        }
        self.outside = false;
        self.view = Some(view.clone());
        self.look = None;
        self.book.release(&self.stage.output).await;
    }

    async fn on_status(&self) {
        let status = self.node.status().await;
        let quorum = status.change.is_none_or(|change| change.quorum);
        let status = status.lock.unwrap_or_default();
        let default = LockName::default_lock();
        let lock = status.locks.iter().find(|lock| lock.lock == default);
        let name = |id| self.book.name(id, &self.node);
        let report = RingStatus {
            started: self.view.is_some(),
            view: self.node.view().map(|view| view.number),
            quorum,
            token: lock.is_some_and(|lock| lock.token),
            fence: match &self.lock {
                Lock::Held(guard) => Some(guard.fence()),
                _ => None,
            },
            waiting: matches!(self.lock, Lock::Waiting { .. }),
            hop: lock.map_or(0, |lock| lock.hops),
            wanted_by: lock
                .map(|lock| lock.wanted_by.iter().copied().map(name).collect())
                .unwrap_or_default(),
            passed_to: lock.and_then(|lock| lock.passed_to).map(name),
            waiting_for: status.waiting_for.map(name),
        };
        self.stage.output.report(Report::RingStatus(report)).await;
    }

    async fn on_ring(&self) {
        let started = self.view.is_some();
        let members = match &self.view {
            None => self.members.clone(),
            Some(view) => order(view),
        };
        let next = self.next.clone();
        self.stage.output.report(Report::Ring { members, started, next }).await;
    }

    /// Gives the lock back and leaves the ring.
    async fn leave(mut self) -> anyhow::Result<()> {
        self.stage.output.hurry();
        self.starting = None;
        if let Lock::Held(guard) = std::mem::replace(&mut self.lock, Lock::Free)
            && timeout(RELEASE, self.release(guard)).await.is_err()
        {
            tracing::warn!("left while the lock was still being released");
        }
        self.stage.leave(&self.node).await
    }
}

impl Lock {
    /// The outcome of a wait, or the end of what is held.
    async fn changed(&mut self, started: bool) -> Happened {
        match self {
            Self::Waiting { grant, since } if started => Happened::Granted(grant.await, *since),
            Self::Held(guard) => {
                guard.lost().await;
                Happened::Lost
            }
            Self::Free | Self::Waiting { .. } => std::future::pending().await,
        }
    }
}

/// The names of a view in the order in which the token goes round.
fn order(view: &View) -> Vec<String> {
    view.ring.iter().map(|position| view.members[usize::from(*position)].name.to_string()).collect()
}

fn circle(names: &[String]) -> String {
    let first = names.first().map_or("", String::as_str);
    format!("{} → {first}", names.join(" → "))
}

/// Why a start was refused, and what to do.
fn refusal(error: &founding::StartError) -> String {
    use founding::StartError;
    match error {
        StartError::Starting => "a start is under way already; wait for it".into(),
        StartError::AlreadyStarted(by) => {
            format!("the ring has been started already, by {by}; there is nothing to do")
        }
        StartError::GaveWay(to) => {
            format!("{to} started the ring at the same time and goes first; there is nothing to do")
        }
        StartError::OtherList => "the ring was not started: the peers do not have the same \
             machines.txt; give all of them the same names in the same order"
            .into(),
        StartError::SharedSuccessor(first, second, next) => format!(
            "the ring was not started, since it does not close: {first} and {second} both have \
             {next} as their next peer; restart one of them with another --next"
        ),
        StartError::LeftOut(names) => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            format!(
                "the ring was not started, since it closes without {}; restart peers with \
                 other --next, so that all are on one ring",
                names.join(", ")
            )
        }
        StartError::NoGroup => "the ring was not started: this node has stopped".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_who_and_what_to_do() {
        use founding::StartError;
        let name = |text| Name::new(text).unwrap();
        let [a, b, c] = ["p1", "p2", "p3"].map(name);
        let shared = refusal(&StartError::SharedSuccessor(a.clone(), b.clone(), c));
        assert!(shared.contains("p1 and p2 both have p3") && shared.contains("--next"));
        let left_out = refusal(&StartError::LeftOut(vec![a, b.clone()]));
        assert!(left_out.contains("closes without p1, p2"));
        assert!(refusal(&StartError::AlreadyStarted(b)).contains("already, by p2"));
    }

    #[test]
    fn a_circle_ends_where_it_began() {
        assert_eq!(circle(&["a".into(), "b".into()]), "a → b → a");
    }
}
