//! The machine behind [`super`]: who may found, and how the others follow.

use super::{
    Command, Config, Event, Message, Phase, Refusal, Start, StartError, Status, Step, Timer,
};
use crate::{
    id::{Life, Name, NodeId, hash64},
    planted::Bug,
    protocol::{Context, Input, InputOf, Protocol},
    view::{MEMBERS_MAX, Record, Value, View, lives_of},
};
use alloc::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

/// How often what has not been answered is repeated.
pub(super) const REPEAT: Duration = Duration::from_millis(300);

/// How many walks that were given up are remembered, so that late copies of them are ignored.
pub(super) const FORGOTTEN_MAX: usize = 64;

/// The founding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on one another")]
pub struct Founding {
    pub(super) config: Config,
    /// The ids of the list, in its order.
    pub(super) ids: Vec<NodeId>,
    /// The others, in the order of the list.
    pub(super) others: Arc<[NodeId]>,
    pub(super) me: u16,
    pub(super) next: u16,
    pub(super) digest: u64,
    /// Listed nodes whose link is up.
    pub(super) reached: BTreeSet<NodeId>,
    /// Whether a start of this node waits for absent nodes.
    pub(super) wanting: bool,
    pub(super) leaving: bool,
    /// Whether this node was told that the group exists, and asks for its view.
    pub(super) inquiring: bool,
    pub(super) state: State,
    /// The lives of this node before this one that may have said yes (V8),
    earlier: Vec<Life>,
    /// and whether this one may, as is saved.
    known: bool,
    /// Walks that this node has said yes to and given up for good.
    pub(super) forgotten: VecDeque<u64>,
    /// The nonce of the last question.
    pub(super) nonce: u64,
    /// The last refusal told, so that an automatic start does not repeat itself.
    pub(super) told: Option<StartError>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Idle,
    /// Said yes to this walk: the tentative record of V8.
    Tentative(Start),
    Active(Active),
    /// The group exists, and this life is not in it; who is active says so.
    Outside(Active),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Active {
    pub(super) run: u64,
    pub(super) view: View,
    pub(super) founder: u16,
    /// Members known to be active.
    pub(super) known: BTreeSet<NodeId>,
    pub(super) installed: bool,
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
            earlier: Vec::new(),
            known: false,
            forgotten: VecDeque::new(),
            nonce: 0,
            told: None,
        }
    }

    /// Whether `peer` is known to be active in the same view as this node.
    pub fn is_active_with(&self, peer: NodeId) -> bool {
        match &self.state {
            State::Active(active) | State::Outside(active) => active.known.contains(&peer),
            State::Idle | State::Tentative(_) => false,
        }
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let phase = match &self.state {
            State::Idle => Phase::Idle,
            State::Tentative(_) => Phase::Tentative,
            State::Active(active) if active.installed => Phase::Installed,
            State::Active(_) => Phase::Active,
            State::Outside(_) => Phase::Outside,
        };
        let absent = self.others.iter().copied().filter(|id| !self.reached.contains(id));
        Status { phase, absent: absent.collect() }
    }

    pub(super) fn name(&self, position: u16) -> Name {
        self.config.list[usize::from(position)].clone()
    }

    pub(super) fn own_walk(&self) -> Option<Start> {
        match self.state {
            State::Tentative(start) if start.index == self.me => Some(start),
            _ => None,
        }
    }

    // ---- Starting ----

    fn on_command_start(&mut self, cx: &mut Context<'_, Self>) {
        let refusal = match &self.state {
            State::Active(active) | State::Outside(active) => {
                StartError::AlreadyStarted(self.name(active.founder))
            }
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
    pub(super) fn start_or_wait(&mut self, cx: &mut Context<'_, Self>) {
        let absent: Vec<Name> =
            self.config.list.iter().filter(|n| self.lacks(n)).cloned().collect();
        if !absent.is_empty() {
            return cx.emit(Event::WaitingFor(absent));
        }
        self.wanting = false;
        let start = Start { index: self.me, run: cx.random() };
        self.say_yes(start, cx);
        if self.next == self.me {
            return self.on_walk_back(&[self.step()], cx);
        }
        self.send_walk(start, cx);
        cx.set_timer(Timer::Repeat, REPEAT);
    }

    /// Before anyone hears of this life's yes (V8): a view that comes of it lists this life, and waits
    /// for whoever comes after it on this disk.
    pub(super) fn save_yes(&mut self, run: u64, cx: &mut Context<'_, Self>) {
        if !core::mem::replace(&mut self.known, true) && !cx.has(Bug::YesNotSaved) {
            let lives = lives_of(&self.earlier, self.config.life);
            cx.save(Record::of_lives(run, &self.config.name, lives));
        }
    }

    fn lacks(&self, name: &Name) -> bool {
        *name != self.config.name && !self.reached.contains(&name.id())
    }

    pub(super) fn step(&self) -> Step {
        Step { position: self.me, life: self.config.life, next: self.next }
    }

    fn send_walk(&self, start: Start, cx: &mut Context<'_, Self>) {
        let path = [self.step()].to_vec();
        self.send_to(self.next, Message::Walk { start, digest: self.digest, path }, cx);
    }

    pub(super) fn send_to(&self, position: u16, message: Message, cx: &mut Context<'_, Self>) {
        cx.send(self.ids[usize::from(position)], message);
    }

    // ---- Active ----

    pub(super) fn activate(
        &mut self,
        run: u64,
        view: View,
        founder: u16,
        cx: &mut Context<'_, Self>,
    ) {
        // Saved before anyone hears of it (V8); without a data directory in memory only.
        let installed = Value::first(view.clone(), usize::from(founder));
        cx.save(Record::of(run, lives_of(&self.earlier, self.config.life), installed));
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
            && (active.known.len() >= active.view.majority() || cx.has(Bug::UsedEarly))
        {
            active.installed = true;
            let value = Value::first(active.view.clone(), usize::from(active.founder));
            cx.emit(Event::Installed { run: active.run, value: value.into() });
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
            State::Outside(group) if group.run == run => {
                group.known.insert(from);
            }
            State::Active(_) | State::Outside(_) => {}
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
            State::Active(_) | State::Outside(_) => return self.on_active(from, run, true, cx),
            State::Tentative(start) if start.run == run => {}
            State::Tentative(start) if solicited && self.ids[usize::from(start.index)] == from => {}
            State::Idle if solicited => {}
            State::Tentative(_) => return,
            State::Idle => return self.ask(from, cx),
        }
        let is_first = view.number == 1 && view.len() == self.ids.len();
        if usize::from(founder) >= self.ids.len() || (view.number == 1 && !is_first) {
            return;
        }
        match view.members.get(usize::from(self.me)) {
            Some(member) if is_first && member.name != self.config.name => {}
            Some(member)
                if is_first && (self.has_lived(member.life) || cx.has(Bug::LifeNotChecked)) =>
            {
                if core::mem::take(&mut self.wanting) {
                    let error = StartError::AlreadyStarted(self.name(founder));
                    self.give_up(error, cx);
                }
                self.activate(run, view, founder, cx);
            }
            // An earlier life of this node is the member, and has left no record. This one has no
            // memory of what that one held and said: in its place it would make two tokens (H3) or
            // break the order (V6).
            _ => {
                self.wanting = false;
                let known = BTreeSet::from([from]);
                self.state = State::Outside(Active { run, view, founder, known, installed: false });
                cx.emit(Event::Outside { run });
            }
        }
    }

    /// Whether this is a life of this node that may have said yes. If it is an earlier one, this one
    /// is a mute member of the view (V6).
    fn has_lived(&self, life: Life) -> bool {
        life == self.config.life || self.earlier.contains(&life)
    }

    // ---- Links and timers ----

    fn on_link_up(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        if !self.ids.contains(&peer) {
            return;
        }
        self.reached.insert(peer);
        if let State::Outside(group) = &mut self.state {
            group.known.remove(&peer);
        } else if let State::Active(active) = &mut self.state {
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
            // It stays known until a link comes up, perhaps of another life: its last words may come
            // after this hint.
            State::Active(_) | State::Outside(_) => {}
            _ if self.wanting => self.start_or_wait(cx),
            _ => {}
        }
    }

    /// An earlier life was active in this group: so is this one, though it remembers no more (V8).
    fn on_restart(&mut self, record: Record, cx: &mut Context<'_, Self>) {
        let known = BTreeSet::from([self.ids[usize::from(self.me)]]);
        let founder = if cx.has(Bug::FounderForgotten) { 0 } else { record.founder() };
        let (run, view) = (record.cluster, record.installed.view);
        self.state = State::Active(Active { run, view, founder, known, installed: true });
        cx.set_timer(Timer::Repeat, REPEAT);
    }

    /// The group has taken this life in: it is as active as a founder.
    fn on_adopt(&mut self, cx: &mut Context<'_, Self>) {
        if let State::Outside(group) = &mut self.state {
            let mut active = group.clone();
            active.known.insert(self.ids[usize::from(self.me)]);
            active.installed = true;
            cx.send_many(&self.others, Message::Active { run: active.run, answer: true });
            cx.set_timer(Timer::Repeat, REPEAT);
            self.state = State::Active(active);
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
            State::Idle | State::Outside(_) => return,
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
            Input::Start(Some(saved)) if !saved.record.is_blank() => {
                self.on_restart(saved.record, cx);
            }
            Input::Start(saved) => {
                self.earlier = saved.map(|saved| saved.record.lives).unwrap_or_default();
                if self.is_automatic() {
                    self.wanting = true;
                    self.start_or_wait(cx);
                }
            }
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(Timer::Repeat) => self.on_repeat(cx),
            Input::Command(Command::Start) => self.on_command_start(cx),
            Input::Command(Command::Leave) => self.on_leave(cx),
            Input::Command(Command::Adopt) => self.on_adopt(cx),
            Input::LinkUp(peer) => self.on_link_up(peer, cx),
            Input::LinkDown(peer) => self.on_link_down(peer, cx),
            Input::Appended(_) => {}
        }
    }
}
