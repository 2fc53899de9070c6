//! The machine behind [`super`]: who may found, and how the others follow.

use super::{
    Command, Config, Event, Message, Phase, Refusal, Start, StartError, Status, Step, Timer,
    Trigger,
};
use crate::{
    id::{Name, NodeId, hash64},
    protocol::{Context, Input, InputOf, Protocol},
    view::{MEMBERS_MAX, Member, Record, View},
};
use alloc::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

/// How often what has not been answered is repeated.
const REPEAT: Duration = Duration::from_millis(300);

/// How many walks that were given up are remembered, so that late copies of them are ignored.
const FORGOTTEN_MAX: usize = 64;

/// The founding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Founding {
    config: Config,
    /// The ids of the list, in its order.
    ids: Vec<NodeId>,
    /// The others, in the order of the list.
    others: Arc<[NodeId]>,
    me: u16,
    next: u16,
    digest: u64,
    /// Listed nodes whose link is up.
    reached: BTreeSet<NodeId>,
    /// Whether a start of this node waits for absent nodes.
    wanting: bool,
    leaving: bool,
    /// Whether this node was told that the group exists, and asks for its view.
    inquiring: bool,
    state: State,
    /// Walks that this node has said yes to and given up for good.
    forgotten: VecDeque<u64>,
    /// The nonce of the last question.
    nonce: u64,
    /// The last refusal told, so that an automatic start does not repeat itself.
    told: Option<StartError>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    /// Said yes to this walk: the tentative record of V8.
    Tentative(Start),
    Active(Active),
    TurnedAway,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Active {
    run: u64,
    view: View,
    founder: u16,
    /// Members known to be active.
    known: BTreeSet<NodeId>,
    installed: bool,
}

impl Active {
    fn announce(&self, nonce: u64) -> Message {
        let (run, view, founder) = (self.run, self.view.clone(), self.founder);
        Message::Announce { nonce, run, view, founder }
    }
}

impl Founding {
    /// A founding that has not begun.
    ///
    /// # Panics
    ///
    /// If the list is longer than [`MEMBERS_MAX`], has a name twice, or lacks this node or its
    /// next: whoever reads the list checks that.
    pub fn new(config: Config) -> Self {
        let ids: Vec<NodeId> = config.list.iter().map(Name::id).collect();
        assert!(ids.len() <= MEMBERS_MAX, "at most {MEMBERS_MAX} members");
        let distinct: BTreeSet<NodeId> = ids.iter().copied().collect();
        assert_eq!(distinct.len(), ids.len(), "names are unique");
        let index = |name: &Name| config.list.iter().position(|other| other == name);
        let me = index(&config.name).expect("this node is in the list");
        let next = match &config.next {
            Some(name) => index(name).expect("the next node is in the list"),
            None => (me + 1) % ids.len(),
        };
        let others: Vec<NodeId> = ids.iter().copied().filter(|id| *id != ids[me]).collect();
        Self {
            digest: digest(&config.list),
            others: others.into(),
            me: me as u16,
            next: next as u16,
            ids,
            config,
            reached: BTreeSet::new(),
            wanting: false,
            leaving: false,
            inquiring: false,
            state: State::Idle,
            forgotten: VecDeque::new(),
            nonce: 0,
            told: None,
        }
    }

    /// Whether `peer` is known to be active in the same view as this node.
    pub fn is_active_with(&self, peer: NodeId) -> bool {
        matches!(&self.state, State::Active(active) if active.known.contains(&peer))
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let phase = match &self.state {
            State::Idle => Phase::Idle,
            State::Tentative(_) => Phase::Tentative,
            State::Active(active) if active.installed => Phase::Installed,
            State::Active(_) => Phase::Active,
            State::TurnedAway => Phase::TurnedAway,
        };
        let absent = self.others.iter().copied().filter(|id| !self.reached.contains(id));
        Status { phase, absent: absent.collect() }
    }

    fn name(&self, position: u16) -> Name {
        self.config.list[usize::from(position)].clone()
    }

    fn own_walk(&self) -> Option<Start> {
        match self.state {
            State::Tentative(start) if start.index == self.me => Some(start),
            _ => None,
        }
    }

    // ---- Starting ----

    fn on_command_start(&mut self, cx: &mut Context<'_, Self>) {
        let refusal = match &self.state {
            State::TurnedAway => return cx.emit(Event::TurnedAway),
            State::Active(active) => StartError::AlreadyStarted(self.name(active.founder)),
            State::Tentative(start) if start.index < self.me => {
                StartError::GaveWay(self.name(start.index))
            }
            _ if self.wanting || self.own_walk().is_some() => StartError::Starting,
            _ => {
                self.wanting = true;
                return self.start_or_wait(cx);
            }
        };
        cx.emit(Event::Refused(refusal));
    }

    /// Starts the walk if all listed nodes are reached; else says for whom it waits.
    fn start_or_wait(&mut self, cx: &mut Context<'_, Self>) {
        let absent: Vec<Name> =
            self.config.list.iter().filter(|n| self.lacks(n)).cloned().collect();
        if !absent.is_empty() {
            return cx.emit(Event::WaitingFor(absent));
        }
        self.wanting = false;
        let start = Start { index: self.me, run: cx.random() };
        self.say_yes(start);
        if self.next == self.me {
            return self.on_walk_back(&[self.step()], cx);
        }
        self.send_walk(start, cx);
        cx.set_timer(Timer::Repeat, REPEAT);
    }

    fn lacks(&self, name: &Name) -> bool {
        *name != self.config.name && !self.reached.contains(&name.id())
    }

    fn step(&self) -> Step {
        Step { position: self.me, life: self.config.life, next: self.next }
    }

    fn send_walk(&self, start: Start, cx: &mut Context<'_, Self>) {
        let path = [self.step()].to_vec();
        self.send_to(self.next, Message::Walk { start, digest: self.digest, path }, cx);
    }

    fn send_to(&self, position: u16, message: Message, cx: &mut Context<'_, Self>) {
        cx.send(self.ids[usize::from(position)], message);
    }

    // ---- The walk ----

    /// Says yes to `start`, and thereby gives up any other walk for ever (V8).
    fn say_yes(&mut self, start: Start) {
        self.forget();
        // An answer to what was asked before this yes is not fresh.
        self.nonce = 0;
        self.state = State::Tentative(start);
    }

    fn forget(&mut self) {
        if let State::Tentative(start) = self.state {
            self.forgotten.push_back(start.run);
            if self.forgotten.len() > FORGOTTEN_MAX {
                self.forgotten.pop_front();
            }
            self.nonce = 0;
            self.state = State::Idle;
        }
    }

    fn on_walk(
        &mut self,
        from: NodeId,
        start: Start,
        digest: u64,
        path: Vec<Step>,
        cx: &mut Context<'_, Self>,
    ) {
        let run = start.run;
        if digest != self.digest {
            // With another list the starter's index means nothing here: whoever passed the walk on
            // has the starter's list, and passes the refusal back.
            return cx.send(from, Message::Refuse { run, reason: Refusal::OtherList });
        }
        if !self.is_walk_to_me(from, start, &path) {
            return;
        }
        if self.forgotten.contains(&run) {
            if start.index == self.me {
                // An own walk that was given up.
                return;
            }
            let reason = Refusal::Forgotten;
            return self.send_to(start.index, Message::Refuse { run, reason }, cx);
        }
        if self.own_walk() == Some(start) {
            return self.on_walk_back(&path, cx);
        }
        match self.judge(start, &path) {
            Verdict::Yes => {}
            Verdict::Ignore => return,
            Verdict::No(reason) => {
                return self.send_to(start.index, Message::Refuse { run, reason }, cx);
            }
        }
        if self.wanting || self.own_walk().is_some() {
            self.give_up(StartError::GaveWay(self.name(start.index)), cx);
            self.wanting = false;
        }
        if self.state != State::Tentative(start) {
            self.say_yes(start);
        }
        let mut path = path;
        path.push(self.step());
        self.send_to(self.next, Message::Walk { start, digest, path }, cx);
        cx.set_timer(Timer::Repeat, REPEAT);
    }

    /// Whether the walk is one that may have come from `from` to this node.
    fn is_walk_to_me(&self, from: NodeId, start: Start, path: &[Step]) -> bool {
        let n = self.ids.len();
        let inside = |p: u16| usize::from(p) < n;
        let (Some(first), Some(last)) = (path.first(), path.last()) else { return false };
        let positions: BTreeSet<u16> = path.iter().map(|step| step.position).collect();
        path.iter().all(|step| inside(step.position) && inside(step.next))
            && positions.len() == path.len()
            && path.windows(2).all(|pair| pair[0].next == pair[1].position)
            && first.position == start.index
            && last.next == self.me
            && self.ids[usize::from(last.position)] == from
    }

    fn judge(&self, start: Start, path: &[Step]) -> Verdict {
        match &self.state {
            State::Active(active) if active.run == start.run => return Verdict::Ignore,
            State::Active(active) => {
                return Verdict::No(Refusal::AlreadyStarted { by: active.founder });
            }
            // Changing to a smaller index only: so of two starters one goes through.
            State::Tentative(held) if held.index < start.index => {
                return Verdict::No(Refusal::GaveWay { to: held.index });
            }
            // Who is turned away holds no yes. If anybody is still active, that one refuses.
            State::Tentative(_) | State::Idle | State::TurnedAway => {}
        }
        if self.leaving {
            return Verdict::Ignore;
        }
        if self.wanting && self.me < start.index {
            return Verdict::No(Refusal::GaveWay { to: self.me });
        }
        // Who names itself as its next node has itself and the sender for predecessors.
        if self.next == self.me && start.index != self.me {
            let (first, second, next) = (path[path.len() - 1].position, self.me, self.me);
            return Verdict::No(Refusal::SharedSuccessor { first, second, next });
        }
        // The walk passes each node once; who sees itself in it has two predecessors, or, if it is
        // an old walk of its own, has forgotten it.
        if path.iter().any(|step| step.position == self.me) {
            return match path.iter().find(|step| step.next == self.me) {
                Some(first) if start.index != self.me && path.len() > 1 => {
                    let second = path[path.len() - 1].position;
                    let first = first.position;
                    Verdict::No(Refusal::SharedSuccessor { first, second, next: self.me })
                }
                _ => Verdict::Ignore,
            };
        }
        Verdict::Yes
    }

    /// The own walk has come round.
    fn on_walk_back(&mut self, path: &[Step], cx: &mut Context<'_, Self>) {
        let all = 0..self.ids.len() as u16;
        let left_out: Vec<u16> =
            all.filter(|p| path.iter().all(|step| step.position != *p)).collect();
        if !left_out.is_empty() {
            return self.on_refusal(Refusal::LeftOut(left_out), cx);
        }
        let start = self.own_walk().expect("only an own walk comes back");
        let life = |p: usize| path.iter().find(|step| usize::from(step.position) == p);
        let members = self.config.list.iter().enumerate().map(|(p, name)| Member {
            id: name.id(),
            name: name.clone(),
            life: life(p).expect("the walk has passed all").life,
            incarnation: 1,
        });
        let first = path.iter().position(|step| step.position == 0).expect("as above");
        let ring = (0..path.len()).map(|i| path[(first + i) % path.len()].position);
        let view = View {
            number: 1,
            members: members.collect(),
            ring: ring.collect(),
            mode: self.config.mode,
        };
        self.activate(start.run, view, self.me, cx);
    }

    // ---- Refusals ----

    fn on_refuse(&mut self, run: u64, reason: Refusal, cx: &mut Context<'_, Self>) {
        match self.state {
            State::Tentative(start) if start.run != run => {}
            State::Tentative(start) if start.index == self.me => self.on_refusal(reason, cx),
            State::Tentative(start) => {
                self.send_to(start.index, Message::Refuse { run, reason }, cx);
            }
            _ => {}
        }
    }

    fn on_refusal(&mut self, reason: Refusal, cx: &mut Context<'_, Self>) {
        let names = |positions: Vec<u16>| positions.into_iter().map(|p| self.name(p)).collect();
        let error = match reason {
            Refusal::Forgotten => {
                self.withdraw(cx);
                self.wanting = true;
                return self.start_or_wait(cx);
            }
            Refusal::AlreadyStarted { by } => {
                // In which view, and whether this life is in it, those who are active can tell.
                self.inquiring = true;
                cx.set_timer(Timer::Repeat, Duration::ZERO);
                StartError::AlreadyStarted(self.name(by))
            }
            Refusal::GaveWay { to } => StartError::GaveWay(self.name(to)),
            Refusal::OtherList => StartError::OtherList,
            Refusal::SharedSuccessor { first, second, next } => {
                StartError::SharedSuccessor(self.name(first), self.name(second), self.name(next))
            }
            Refusal::LeftOut(positions) => StartError::LeftOut(names(positions)),
        };
        self.give_up(error, cx);
        // A start that nobody has typed tries again when something has changed.
        self.wanting = self.is_automatic() && !self.leaving;
    }

    /// Gives the own start up and tells everybody.
    fn give_up(&mut self, error: StartError, cx: &mut Context<'_, Self>) {
        self.withdraw(cx);
        if self.told.as_ref() != Some(&error) || !self.is_automatic() {
            self.told = Some(error.clone());
            cx.emit(Event::Refused(error));
        }
    }

    fn withdraw(&mut self, cx: &mut Context<'_, Self>) {
        if let Some(start) = self.own_walk() {
            self.forget();
            cx.send_many(&self.others, Message::Withdraw { run: start.run });
        }
    }

    fn is_automatic(&self) -> bool {
        self.config.trigger == Trigger::FirstOfList && self.me == 0
    }

    fn on_withdraw(&mut self, from: NodeId, run: u64) {
        if let State::Tentative(start) = self.state
            && start.run == run
            && self.ids[usize::from(start.index)] == from
        {
            self.forget();
        }
    }

    // ---- Active ----

    fn activate(&mut self, run: u64, view: View, founder: u16, cx: &mut Context<'_, Self>) {
        // Saved before anyone hears of it (V8); without a data directory in memory only.
        cx.save(Record { run, view: view.clone() });
        let known = BTreeSet::from([self.ids[usize::from(self.me)]]);
        let active = Active { run, view, founder, known, installed: false };
        if founder == self.me {
            cx.send_many(&self.others, active.announce(0));
        }
        self.state = State::Active(active);
        cx.send_many(&self.others, Message::Active { run, answer: true });
        cx.set_timer(Timer::Repeat, REPEAT);
        self.install_when_majority(cx);
    }

    /// View 1 is used only once a strict majority is known to be active (V8).
    fn install_when_majority(&mut self, cx: &mut Context<'_, Self>) {
        if let State::Active(active) = &mut self.state
            && !active.installed
            && active.known.len() >= active.view.majority()
        {
            active.installed = true;
            let (view, founder) = (active.view.clone(), usize::from(active.founder));
            cx.emit(Event::Installed { view, founder });
        }
    }

    fn on_active(&mut self, from: NodeId, run: u64, answer: bool, cx: &mut Context<'_, Self>) {
        match &mut self.state {
            State::Active(active) if active.run == run => {
                active.known.insert(from);
                if answer {
                    cx.send(from, Message::Active { run, answer: false });
                }
                self.install_when_majority(cx);
            }
            State::Active(_) | State::TurnedAway => {}
            State::Idle | State::Tentative(_) => self.ask(from, cx),
        }
    }

    fn ask(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        let run = match self.state {
            State::Tentative(start) => Some(start.run),
            _ => None,
        };
        if self.nonce == 0 {
            self.nonce = cx.random() | 1;
        }
        cx.send(peer, Message::Ask { run, nonce: self.nonce });
    }

    fn on_ask(&self, from: NodeId, run: Option<u64>, nonce: u64, cx: &mut Context<'_, Self>) {
        let own = self.own_walk().map(|start| start.run);
        match (&self.state, run) {
            (State::Active(active), _) => cx.send(from, active.announce(nonce)),
            (_, Some(run)) if own != Some(run) => cx.send(from, Message::Withdraw { run }),
            _ => {}
        }
    }

    fn on_announce(
        &mut self,
        from: NodeId,
        (nonce, run): (u64, u64),
        view: View,
        founder: u16,
        cx: &mut Context<'_, Self>,
    ) {
        // A yes that was forgotten is forgotten for good: only a fresh answer of somebody active
        // can make up for it, not a late copy of what a dead founder said. A starter that is active
        // in another walk's view has given its own walk up.
        let solicited = nonce != 0 && nonce == self.nonce;
        match self.state {
            State::Active(_) => return self.on_active(from, run, true, cx),
            State::TurnedAway => return,
            State::Tentative(start) if start.run == run => {}
            State::Tentative(start) if solicited && self.ids[usize::from(start.index)] == from => {}
            State::Idle if solicited => {}
            State::Tentative(_) => return,
            State::Idle => return self.ask(from, cx),
        }
        if view.len() != self.ids.len() || usize::from(founder) >= view.len() {
            return;
        }
        match view.members.get(usize::from(self.me)) {
            Some(member) if member.name != self.config.name => {}
            Some(member) if member.life == self.config.life => {
                if core::mem::take(&mut self.wanting) {
                    let error = StartError::AlreadyStarted(self.name(founder));
                    self.give_up(error, cx);
                }
                self.activate(run, view, founder, cx);
            }
            // An earlier life of this node is the member. This one has no memory of what that one
            // held and said: taking it in would make two tokens (H3) or break the order (V6).
            _ => {
                self.wanting = false;
                self.state = State::TurnedAway;
                cx.emit(Event::TurnedAway);
            }
        }
    }

    // ---- Links and timers ----

    fn on_link_up(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        if !self.ids.contains(&peer) {
            return;
        }
        self.reached.insert(peer);
        if let State::Active(active) = &mut self.state {
            // It may be another life by now: whether it is active it must say again.
            active.known.remove(&peer);
            cx.send(peer, Message::Active { run: active.run, answer: true });
            cx.set_timer(Timer::Repeat, REPEAT);
        } else if self.wanting {
            self.start_or_wait(cx);
        }
    }

    fn on_link_down(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        if !self.reached.remove(&peer) {
            return;
        }
        match &mut self.state {
            // Forgotten for good (S3, `start`), so that another start can go through.
            State::Tentative(start) if self.ids[usize::from(start.index)] == peer => self.forget(),
            // The walk cannot come round: it waits for that node like a start that has not begun.
            State::Tentative(start) if start.index == self.me => {
                self.withdraw(cx);
                self.wanting = true;
                self.start_or_wait(cx);
            }
            State::Active(active) => {
                active.known.remove(&peer);
            }
            _ if self.wanting => self.start_or_wait(cx),
            _ => {}
        }
    }

    /// Says yes to nothing any more, and takes back what has not become a view.
    fn on_leave(&mut self, cx: &mut Context<'_, Self>) {
        (self.leaving, self.wanting) = (true, false);
        self.withdraw(cx);
        if let State::Tentative(start) = self.state {
            self.forget();
            let reason = Refusal::Forgotten;
            self.send_to(start.index, Message::Refuse { run: start.run, reason }, cx);
        }
    }

    fn on_repeat(&mut self, cx: &mut Context<'_, Self>) {
        match &self.state {
            State::Idle if self.inquiring => {
                let reached: Vec<NodeId> = self.reached.iter().copied().collect();
                for peer in reached {
                    self.ask(peer, cx);
                }
            }
            State::Idle | State::TurnedAway => return,
            State::Tentative(start) if start.index == self.me => self.send_walk(*start, cx),
            State::Tentative(start) => {
                let starter = self.ids[usize::from(start.index)];
                self.ask(starter, cx);
            }
            State::Active(active) => {
                // Who is not reached now is told when its link comes up.
                let unaware =
                    |id: &&NodeId| self.reached.contains(id) && !active.known.contains(id);
                if !self.others.iter().any(|id| unaware(&id)) {
                    return;
                }
                for peer in self.others.iter().filter(unaware) {
                    if active.founder == self.me {
                        cx.send(*peer, active.announce(0));
                    }
                    cx.send(*peer, Message::Active { run: active.run, answer: true });
                }
            }
        }
        cx.set_timer(Timer::Repeat, REPEAT);
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        if !self.others.contains(&from) {
            return;
        }
        match message {
            Message::Walk { start, digest, path } => self.on_walk(from, start, digest, path, cx),
            Message::Refuse { run, reason } if self.is_refusal(&reason) => {
                self.on_refuse(run, reason, cx);
            }
            Message::Refuse { .. } => {}
            Message::Withdraw { run } => self.on_withdraw(from, run),
            Message::Ask { run, nonce } => self.on_ask(from, run, nonce, cx),
            Message::Announce { nonce, run, view, founder } => {
                self.on_announce(from, (nonce, run), view, founder, cx);
            }
            Message::Active { run, answer } => self.on_active(from, run, answer, cx),
        }
    }

    /// Whether all positions in it exist.
    fn is_refusal(&self, reason: &Refusal) -> bool {
        let inside = |p: &u16| usize::from(*p) < self.ids.len();
        match reason {
            Refusal::AlreadyStarted { by: p } | Refusal::GaveWay { to: p } => inside(p),
            Refusal::OtherList | Refusal::Forgotten => true,
            Refusal::SharedSuccessor { first, second, next } => {
                [first, second, next].into_iter().all(inside)
            }
            Refusal::LeftOut(positions) => positions.iter().all(inside),
        }
    }
}

enum Verdict {
    Yes,
    No(Refusal),
    Ignore,
}

/// The same for the same names in the same order, and for nothing else that anybody would write.
fn digest(list: &[Name]) -> u64 {
    let mut text = Vec::new();
    for name in list {
        text.extend_from_slice(name.as_str().as_bytes());
        // No name contains it.
        text.push(b',');
    }
    hash64(&text)
}

impl Protocol for Founding {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            // Views on disk come with view changes; until then a life starts with nothing.
            Input::Start(_) => {
                if self.is_automatic() {
                    self.wanting = true;
                    self.start_or_wait(cx);
                }
            }
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(Timer::Repeat) => self.on_repeat(cx),
            Input::Command(Command::Start) => self.on_command_start(cx),
            Input::Command(Command::Leave) => self.on_leave(cx),
            Input::LinkUp(peer) => self.on_link_up(peer, cx),
            Input::LinkDown(peer) => self.on_link_down(peer, cx),
            Input::Appended(_) => {}
        }
    }
}
