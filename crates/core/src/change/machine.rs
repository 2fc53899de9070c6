//! The machine behind [`super`]: what a node knows of its group, and its part as an acceptor.

use super::{
    Body, Command, Config, Event, Message, Report, Status, Timer,
    attempt::Attempt,
    hearing::Hearing,
    joining::{Candidate, Outside},
};
use crate::{
    id::{Life, NodeId},
    multicast::{self, Holder},
    planted::Bug,
    protocol::{Context, Input, InputOf, Protocol},
    tally::Tally,
    time::Time,
    view::{Ballot, MEMBERS_MAX, POSITIONS_AHEAD, Record, Value, View, lives_of},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec,
    vec::Vec,
};

pub(super) type Cx<'a> = Context<'a, ViewChange>;

/// A node's part in the agreement on views.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ViewChange {
    pub(super) config: Config,
    pub(super) me: NodeId,
    /// Which group; 0 before there is one.
    pub(super) cluster: u64,
    pub(super) hearing: Hearing,
    pub(super) standing: Standing,
    /// What was saved last, by this life or an earlier one.
    saved: Option<Box<Record>>,
    /// The lives before this one that may be known to the group, the oldest first; they have kept
    /// their record here.
    earlier: Vec<Life>,
    /// What they have left of the order, in the view that is about to be restored (T9).
    remembered: Option<multicast::Report>,
    /// How far this node is with leaving.
    pub(super) leaving: Leaving,
    /// Somebody who was left out of the view will want to come back.
    pub(super) awaited: bool,
    pub(super) repeating: bool,
    pub(super) ignored: Tally,
}

/// How far a node is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaving {
    No,
    /// It wants to,
    Asked,
    /// and has.
    Done,
}

/// What a node is to its group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// There is none.
    Nothing,
    /// A member of a view.
    Member(Box<Seat>),
    /// Not a member, and perhaps on the way to be one.
    Outside(Outside),
}

/// A member's part in the view that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    /// What was decided to make this view. It is sent to whoever is behind (V1).
    pub(super) installed: Value,
    /// The own position,
    pub(super) me: usize,
    /// and the others.
    pub(super) peers: Arc<[NodeId]>,
    /// The member of the view was an earlier life: of what that did this one knows the order at most
    /// (V6, T9).
    pub(super) mute: bool,
    pub(super) promised: Option<Ballot>,
    pub(super) accepted: Option<(Ballot, Value)>,
    /// No larger position is given before this is saved (V5).
    ceiling: u64,
    /// What this member reports to every ballot (V2): it is wedged.
    pub(super) report: Option<Report>,
    /// To be accepted, or to be installed, once the messages of its cut are here.
    pub(super) gathering: Option<Gathering>,
    pub(super) attempt: Option<Attempt>,
    /// Per position: whom it hears, as its last beat in this view says.
    pub(super) hears: Vec<Option<u64>>,
    /// Per position: the lives of joiners that it hears.
    pub(super) hears_joiners: Vec<Vec<Life>>,
    /// The members that want to leave.
    pub(super) leavers: u64,
    pub(super) joiners: BTreeMap<NodeId, Candidate>,
    /// Another member is wedged in this view: somebody must bring the change to its end.
    pub(super) wedged_elsewhere: bool,
    /// The largest ballot that was heard of.
    pub(super) largest: Ballot,
    /// When it is this member's turn to try, if nobody before it has succeeded.
    pub(super) turn: Option<Time>,
    /// How many attempts of this member have failed.
    pub(super) failures: u32,
    /// The largest view that anybody has spoken in.
    pub(super) heard_of: u64,
    /// The members of which nothing has come in this view, and for how long that may be.
    pub(super) absent: u64,
    pub(super) beats_due: Option<Time>,
    /// Whether a quorum was heard at last sight.
    pub(super) quorum: bool,
    /// Who has been told, since the last beat, that it is in another view or that this member is
    /// wedged.
    pub(super) told: BTreeSet<NodeId>,
}

/// What the messages of a cut are gathered for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gathering {
    /// To propose a value, as the coordinator.
    Propose {
        /// The value,
        value: Value,
        /// and whether nobody is known to have accepted it.
        is_new: bool,
    },
    /// To accept it in this ballot.
    Accept(Ballot, Value),
    /// It is decided.
    Install(Value),
}

impl Gathering {
    fn value(&self) -> &Value {
        match self {
            Self::Propose { value, .. } | Self::Accept(_, value) | Self::Install(value) => value,
        }
    }
}

impl Seat {
    fn new(installed: Value, me: usize, peers: Arc<[NodeId]>) -> Self {
        let n = installed.view.len();
        Self {
            me,
            peers,
            mute: false,
            promised: None,
            accepted: None,
            ceiling: installed.order.position + POSITIONS_AHEAD,
            report: None,
            gathering: None,
            attempt: None,
            hears: vec![None; n],
            hears_joiners: vec![Vec::new(); n],
            leavers: 0,
            joiners: BTreeMap::new(),
            wedged_elsewhere: false,
            largest: Ballot::default(),
            turn: None,
            failures: 0,
            heard_of: 0,
            absent: 0,
            beats_due: None,
            quorum: true,
            told: BTreeSet::new(),
            installed,
        }
    }

    pub(super) fn view(&self) -> &View {
        &self.installed.view
    }

    /// Whether lock and order are frozen (V2).
    pub(super) fn is_wedged(&self) -> bool {
        self.mute || self.promised.is_some() || self.decided().is_some()
    }

    /// What is known to follow this view, while the messages of its cut come in.
    fn decided(&self) -> Option<&Value> {
        match &self.gathering {
            Some(Gathering::Install(value)) => Some(value),
            _ => None,
        }
    }

    /// The node at a position.
    pub(super) fn id(&self, position: usize) -> NodeId {
        self.view().members[position].id
    }

    /// Whether it stands in for an earlier life that has left what it had of the order (T9).
    fn remembers(&self) -> bool {
        self.mute && self.report.as_ref().is_some_and(|report| report.order.is_some())
    }

    fn record(&self, cluster: u64, lives: Vec<Life>) -> Record {
        Record {
            cluster,
            lives,
            installed: self.installed.clone(),
            promised: self.promised,
            accepted: self.accepted.clone(),
            ceiling: self.ceiling,
        }
    }
}

impl ViewChange {
    /// A node without a group.
    pub fn new(config: Config) -> Self {
        Self {
            me: config.name.id(),
            config,
            cluster: 0,
            hearing: Hearing::default(),
            standing: Standing::Nothing,
            saved: None,
            earlier: Vec::new(),
            remembered: None,
            leaving: Leaving::No,
            awaited: false,
            repeating: false,
            ignored: Tally::default(),
        }
    }

    /// The installed view, if this life is a member of it.
    pub fn view(&self) -> Option<&View> {
        self.seat().filter(|seat| !seat.mute).map(Seat::view)
    }

    /// Whether this node works in this view: it is installed here, and not wedged.
    pub fn is_open(&self, view: u64) -> bool {
        self.seat().is_some_and(|seat| seat.view().number == view && !seat.is_wedged())
    }

    /// Whether the group is known, and this life is not a member.
    pub fn is_outside(&self) -> bool {
        matches!(self.standing, Standing::Outside(_))
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let Standing::Member(seat) = &self.standing else { return Status::default() };
        let unheard = seat.peers.iter().copied().filter(|peer| !self.hearing.hears(*peer));
        Status {
            view: Some(seat.view().clone()),
            member: !seat.mute,
            mute: seat.mute,
            wedged: seat.is_wedged(),
            quorum: seat.quorum,
            unheard: unheard.collect(),
            ignored: self.ignored.count(),
        }
    }

    pub(super) fn seat(&self) -> Option<&Seat> {
        match &self.standing {
            Standing::Member(seat) => Some(seat),
            Standing::Nothing | Standing::Outside(_) => None,
        }
    }

    pub(super) fn seat_mut(&mut self) -> Option<&mut Seat> {
        match &mut self.standing {
            Standing::Member(seat) => Some(seat),
            Standing::Nothing | Standing::Outside(_) => None,
        }
    }

    /// A message about the installed view.
    pub(super) fn message(&self, body: Body) -> Message {
        let view = match &self.standing {
            Standing::Member(seat) => seat.view().number,
            Standing::Outside(outside) => outside.since,
            Standing::Nothing => 0,
        };
        Message { cluster: self.cluster, view, body }
    }

    /// What was decided to end the view before its own.
    pub(super) fn decided(&self, value: Box<Value>) -> Message {
        let view = value.view.number - 1;
        Message { cluster: self.cluster, view, body: Body::Decided { value } }
    }

    /// Whether this node wants to leave, or has left.
    pub(super) fn leaves(&self) -> bool {
        self.leaving != Leaving::No
    }

    // ---- The acceptor ----

    fn on_prepare(&mut self, from: usize, ballot: Ballot, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        if usize::from(ballot.by) != from {
            return self.ignored.add();
        }
        if let Some(value) = seat.decided().cloned() {
            let to = seat.id(from);
            return cx.send(to, self.decided(value.into()));
        }
        seat.largest = seat.largest.max(ballot);
        if seat.promised.is_some_and(|promised| promised > ballot) {
            return self.refuse(from, cx);
        }
        if seat.promised == Some(ballot) {
            return self.promise(cx);
        }
        self.make_promise(ballot, cx);
    }

    fn refuse(&self, to: usize, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat() else { return };
        let promised = seat.promised.expect("only who has promised refuses");
        cx.send(seat.id(to), self.message(Body::Refuse { promised }));
    }

    /// From here on this member is wedged (V2): it takes part in nothing smaller.
    pub(super) fn make_promise(&mut self, ballot: Ballot, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        if seat.promised.is_some_and(|promised| promised >= ballot) {
            return;
        }
        seat.promised = Some(ballot);
        seat.largest = seat.largest.max(ballot);
        if seat.attempt.as_ref().is_some_and(|attempt| attempt.ballot != ballot) {
            seat.attempt = None;
        }
        if let Some(Gathering::Propose { .. } | Gathering::Accept(..)) = seat.gathering {
            seat.gathering = None;
        }
        // The turn to try begins anew with each ballot: its owner has its time.
        seat.turn = None;
        if seat.report.is_none() {
            // Answered at once by `Command::Report`.
            return cx.emit(Event::Wedged);
        }
        self.keep_promise(cx);
    }

    fn on_report(
        &mut self,
        order: Option<multicast::Report>,
        lock: Option<crate::tokenring::Report>,
        cx: &mut Cx<'_>,
    ) {
        let life = Some(self.config.life);
        let Some(seat) = self.seat_mut() else { return };
        if seat.report.is_some() {
            return;
        }
        let (leaves, ceiling) = (seat.leavers & 1 << seat.me != 0, seat.ceiling);
        seat.report = Some(Report { life, leaves, order, lock, ceiling });
        self.keep_promise(cx);
        if self.seat().is_some_and(Seat::is_wedged) {
            // Whoever sends this member something in the view must know.
            self.beat(cx);
        }
    }

    /// The promise is on disk before anyone hears of it (V1).
    fn keep_promise(&mut self, cx: &mut Cx<'_>) {
        self.save(cx);
        self.promise(cx);
    }

    pub(super) fn save(&mut self, cx: &mut Cx<'_>) {
        if let Some(seat) = self.seat() {
            let record = seat.record(self.cluster, self.lives());
            cx.save(record.clone());
            self.saved = Some(Box::new(record));
        }
    }

    /// From now on the group may know this life (V6): whoever comes after it on this disk must, too.
    pub(super) fn save_life(&mut self, cx: &mut Cx<'_>) {
        let (lives, cluster) = (self.lives(), self.cluster);
        let blank = || Record::of_lives(cluster, &self.config.name, lives.clone()).into();
        let is_new = self.saved.is_none();
        let saved = self.saved.get_or_insert_with(blank);
        if is_new || saved.lives != lives {
            saved.lives = lives;
            cx.save((**saved).clone());
        }
    }

    /// This life, and those before it that may be known to the group.
    fn lives(&self) -> Vec<Life> {
        lives_of(&self.earlier, self.config.life)
    }

    /// Tells the owner of the promised ballot: another member, or this one.
    fn promise(&mut self, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat() else { return };
        let (Some(ballot), Some(report)) = (seat.promised, &seat.report) else { return };
        let (accepted, report) = (seat.accepted.clone(), report.clone());
        if usize::from(ballot.by) == seat.me {
            return self.begin_attempt(ballot, accepted, report, cx);
        }
        let to = seat.id(usize::from(ballot.by));
        cx.send(
            to,
            self.message(Body::Promise {
                ballot,
                accepted: accepted.map(Box::new),
                report: report.into(),
            }),
        );
    }

    fn on_accept(&mut self, from: usize, ballot: Ballot, value: Value, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        if usize::from(ballot.by) != from || !follows(&value, seat.view()) {
            return self.ignored.add();
        }
        if seat.promised.is_some_and(|promised| promised > ballot) {
            return self.refuse(from, cx);
        }
        if seat.accepted.as_ref().is_some_and(|(accepted, _)| *accepted == ballot) {
            let to = seat.id(from);
            return cx.send(to, self.message(Body::Accepted { ballot }));
        }
        if let Some(value) = seat.decided().cloned() {
            let to = seat.id(from);
            return cx.send(to, self.decided(value.into()));
        }
        if seat.promised != Some(ballot) {
            // Wedged by the proposal; what it asks for comes when it is repeated.
            return self.make_promise(ballot, cx);
        }
        if seat.report.is_none() {
            return;
        }
        let holders = vec![Holder { node: seat.id(from), received: value.order.ends.clone() }];
        self.gather(Gathering::Accept(ballot, value), holders, cx);
    }

    /// Accepting, proposing and installing need the messages of the cut (T7): whoever accepts a
    /// value keeps them for those who lack them.
    ///
    /// A new value is not proposed without them: the next ballot may find another (V5).
    pub(super) fn gather(&mut self, what: Gathering, holders: Vec<Holder>, cx: &mut Cx<'_>) {
        let insists = matches!(what, Gathering::Propose { is_new: true, .. });
        let Some(seat) = self.seat_mut() else { return };
        if seat.gathering.as_ref() == Some(&what) {
            return;
        }
        let cut = what.value().order.clone();
        seat.gathering = Some(what);
        if cx.has(Bug::AcceptsUngathered) && !matches!(seat.gathering, Some(Gathering::Install(_)))
        {
            return self.on_gathered(cx);
        }
        let insists = insists && !cx.has(Bug::ProposesUngathered);
        cx.emit(Event::Gather { cut: cut.into(), holders, insists });
    }

    fn on_gathered(&mut self, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        match seat.gathering.take() {
            Some(Gathering::Propose { value, .. }) => self.propose(value, cx),
            Some(Gathering::Accept(ballot, value)) => self.accept(ballot, value, cx),
            Some(Gathering::Install(value)) => self.install(value, cx),
            None => {}
        }
    }

    pub(super) fn accept(&mut self, ballot: Ballot, value: Value, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        if !cx.has(Bug::AcceptedNotKept) {
            seat.accepted = Some((ballot, value));
        }
        self.save(cx);
        let Some(seat) = self.seat() else { return };
        let by = usize::from(ballot.by);
        if by == seat.me {
            return;
        }
        cx.send(seat.id(by), self.message(Body::Accepted { ballot }));
        // The coordinator has accepted what it proposes: with it and this member alone it may be
        // decided, and nobody has to say so.
        if seat.view().is_quorum(1 << by | 1 << seat.me)
            && let Some((_, value)) = seat.accepted.clone()
        {
            self.install(value, cx);
        }
    }

    // ---- Decisions ----

    fn on_decided(&mut self, from: NodeId, value: Value, cx: &mut Cx<'_>) {
        if value.order.begins.len() != value.view.len() {
            return self.ignored.add();
        }
        match &self.standing {
            Standing::Nothing => {}
            Standing::Outside(outside) => {
                let listed = value.view.position_of(self.me, self.config.life).is_some()
                    || self.is_mute_in(&value);
                if listed && value.view.number > outside.since {
                    self.install(value, cx);
                }
            }
            Standing::Member(seat) => {
                let number = seat.view().number;
                if value.view.number <= number {
                    return;
                }
                if seat.mute {
                    let listed = value.view.position_of(self.me, self.config.life).is_some()
                        || self.is_mute_in(&value);
                    let next = value.view.number == number + 1 && follows(&value, seat.view());
                    if seat.remembers() && listed && next && !value.loss {
                        return self.install_from(from, value, cx);
                    }
                    return self.install(value, cx);
                }
                if value.view.position_of(self.me, self.config.life).is_none() {
                    // Nobody who is two views behind is a member of the newer one.
                    return self.leave_group(&value, cx);
                }
                if self.is_admitted_anew(&value) {
                    // It has missed that it was left out in between, unless all begin anew (V5).
                    if !value.loss {
                        self.leave_group(&value, cx);
                    }
                    return self.install(value, cx);
                }
                if value.view.number != number + 1 || !follows(&value, seat.view()) {
                    return self.ignored.add();
                }
                self.install_from(from, value, cx);
            }
        }
    }

    /// The end of the view is decided, as this member says, and anybody may have the messages of
    /// its cut.
    fn install_from(&mut self, from: NodeId, value: Value, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat() else { return };
        let received = value.order.ends.clone();
        let mut holders = vec![Holder { node: from, received: received.clone() }];
        let members = value.view.members.iter().chain(seat.view().members.iter());
        let others: BTreeSet<NodeId> = members.map(|member| member.id).collect();
        let others = others.into_iter().filter(|id| *id != self.me && *id != from);
        holders.extend(others.map(|node| Holder { node, received: received.clone() }));
        self.install_gathered(value, holders, cx);
    }

    /// Whether this life, a member still, is taken in by the value as a new one (V7).
    fn is_admitted_anew(&self, value: &Value) -> bool {
        let Some(seat) = self.seat() else { return false };
        let listed = value.view.position_of(self.me, self.config.life);
        listed.is_some_and(|p| {
            let incarnation = value.view.members[p].incarnation;
            incarnation == value.view.number
                && incarnation != seat.view().members[seat.me].incarnation
        })
    }

    /// The end of the view is decided: nothing happens in it any more.
    fn install_gathered(&mut self, value: Value, holders: Vec<Holder>, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        seat.attempt = None;
        if seat.gathering.as_ref() == Some(&Gathering::Install(value.clone())) {
            // Another tells it: perhaps this one holds what is still missing.
            let cut = value.order.into();
            return cx.emit(Event::Gather { cut, holders, insists: false });
        }
        if seat.report.is_none() {
            // Nobody will ask for it any more.
            seat.report = Some(Report::default());
            cx.emit(Event::Wedged);
        }
        self.gather(Gathering::Install(value), holders, cx);
    }

    pub(super) fn install(&mut self, value: Value, cx: &mut Cx<'_>) {
        let me = match value.view.position_of(self.me, self.config.life) {
            None if cx.has(Bug::LifeNotChecked) => value.view.position(self.me),
            me => me,
        };
        let Some(me) = me else {
            if self.is_mute_in(&value) {
                // What comes before it is here, and nothing was received in it (T9).
                let seat = self.seat().filter(|seat| seat.remembers() && !value.loss);
                self.remembered = seat
                    .filter(|seat| value.view.number == seat.view().number + 1)
                    .map(|_| value.order.beginning());
                let record = Record::of(self.cluster, self.lives(), value);
                return self.restore(record, cx);
            }
            return self.leave_group(&value, cx);
        };
        let joins =
            value.view.members[me].incarnation == value.view.number && value.view.number > 1;
        let peers = value.view.peers(self.me);
        let stays = |id: &NodeId| value.view.position(*id).is_some();
        let before = self.seat().map(|seat| seat.peers.clone()).unwrap_or_default();
        let gone: Vec<NodeId> = before.iter().copied().filter(|id| !stays(id)).collect();
        // Whoever was left out against its will may need this one, should it be the last.
        self.awaited = self.seat().is_some_and(|seat| {
            let leaves = |p: usize| seat.leavers >> p & 1 == 1;
            let position = |id: &NodeId| seat.view().position(*id);
            gone.iter().any(|id| self.hearing.hears(*id) && !position(id).is_some_and(leaves))
        });
        let had_quorum = self.seat().is_none_or(|seat| seat.quorum);
        self.hearing.expect(&peers, cx.now() + self.config.patience);
        let mut seat = Seat::new(value.clone(), me, peers);
        seat.quorum = had_quorum;
        seat.beats_due = Some(cx.now() + self.config.patience);
        self.standing = Standing::Member(seat.into());
        self.earlier.clear(); // No view lists one of them any more.
        self.save(cx);
        cx.emit(Event::Installed { value: value.into(), joins });
        self.arm_grace(cx);
        self.beat(cx);
        // Who leaves waits for this word.
        cx.send_many(&gone.into(), self.message(self.beat_body()));
        self.go_on_leaving(cx);
        self.consider(cx);
    }

    /// Whether the value lists the earlier life of which this one is what is left: then it decides
    /// about the end of that view as well, and nothing else (V6).
    fn is_mute_in(&self, value: &Value) -> bool {
        let restored = self.seat().filter(|seat| seat.mute);
        let listed = restored.map(|seat| seat.view().members[seat.me].life);
        let is_listed = |life| value.view.position_of(self.me, life).is_some();
        // An earlier life may have been taken in, and have ended before it could save that: then it
        // has promised nothing in that view.
        listed.into_iter().chain(self.earlier.iter().copied()).any(is_listed)
    }

    /// Comes back as what an earlier life was in this view, without its memory (V6).
    fn restore(&mut self, record: Record, cx: &mut Cx<'_>) {
        let value = record.installed;
        let Some(me) = value.view.position(self.me) else { return };
        let peers = value.view.peers(self.me);
        self.cluster = record.cluster;
        self.hearing.expect(&peers, cx.now() + self.config.patience);
        let mut seat = Seat::new(value.clone(), me, peers);
        seat.mute = !cx.has(Bug::RestartedSpeaks);
        if !cx.has(Bug::RestartForgets) {
            seat.promised = record.promised;
            seat.accepted = record.accepted;
        }
        seat.largest = record.promised.unwrap_or_default();
        seat.ceiling = record.ceiling;
        seat.beats_due = Some(cx.now() + self.config.patience);
        let (life, ceiling) = (Some(self.config.life), record.ceiling);
        let order = self.remembered.take();
        seat.report = Some(Report { life, order, ceiling, ..Report::default() });
        self.standing = Standing::Member(seat.into());
        self.save(cx);
        cx.emit(Event::Restored { value: value.into() });
        self.arm_grace(cx);
        self.beat(cx);
        self.consider(cx);
    }

    /// The ceiling is saved before it is reached.
    fn on_raise(&mut self, position: u64, cx: &mut Cx<'_>) {
        if let Some(seat) = self.seat_mut() {
            seat.ceiling = seat.ceiling.max(position + POSITIONS_AHEAD);
            self.save(cx);
        }
    }

    fn leave_group(&mut self, value: &Value, cx: &mut Cx<'_>) {
        let mut outside = Outside::new(Some(value.clone()));
        outside.succeeded = self.seat().is_some_and(|seat| seat.heard_of >= value.view.number);
        self.standing = Standing::Outside(outside);
        for timer in [Timer::Patience, Timer::Repeat] {
            cx.cancel_timer(timer);
        }
        self.repeating = false;
        cx.emit(Event::Out { left: false });
        if self.leaves() {
            self.on_leave(cx);
        }
    }

    fn on_found(&mut self, cluster: u64, value: Value, cx: &mut Cx<'_>) {
        if self.seat().is_none() {
            self.cluster = cluster;
            self.standing = Standing::Nothing;
            self.install(value, cx);
        }
    }

    // ---- Messages ----

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Cx<'_>) {
        if message.cluster != self.cluster || self.cluster == 0 {
            return self.ignored.add();
        }
        if let Standing::Outside(outside) = &mut self.standing
            && message.view < outside.since
            && !matches!(message.body, Body::Decided { .. })
            && outside.told.insert(from)
            && let Some(value) = outside.decided.clone()
        {
            cx.send(from, self.decided(value));
        }
        if matches!(message.body, Body::Beat { .. }) {
            self.on_successor(message.view, cx);
            self.ask_for_earlier(from, message.view, cx);
        }
        match message.body {
            Body::Decided { value } => return self.on_decided(from, *value, cx),
            Body::Join { name, life, next, hears } if name.id() == from => {
                return self.on_join(Candidate { name, life, next, hears, heard: cx.now() }, cx);
            }
            Body::JoinRefused { reason } => return self.on_join_refused(reason, cx),
            _ => {}
        }
        let Some(seat) = self.seat() else { return };
        if message.view != seat.view().number {
            return self.on_stray(from, message.view, cx);
        }
        let Some(position) = seat.view().position(from).filter(|position| *position != seat.me)
        else {
            return self.ignored.add();
        };
        match message.body {
            Body::Beat { hears, joiners, wedged } => {
                self.on_beat(position, hears, joiners, wedged, cx);
            }
            Body::Prepare { ballot } => self.on_prepare(position, ballot, cx),
            Body::Promise { ballot, accepted, report } => {
                self.on_promise(position, ballot, accepted.map(|accepted| *accepted), *report, cx);
            }
            Body::Refuse { promised } => self.on_refused(promised, cx),
            Body::Accept { ballot, value } => self.on_accept(position, ballot, *value, cx),
            Body::Accepted { ballot } => self.on_accepted(position, ballot, cx),
            Body::Leave => self.on_peer_leaves(position, cx),
            Body::Ask | Body::Decided { .. } | Body::Join { .. } | Body::JoinRefused { .. } => {}
        }
    }

    /// A view that is not known here may list an earlier life of this node, and wait for it (V6).
    fn ask_for_earlier(&self, from: NodeId, view: u64, cx: &mut Cx<'_>) {
        if let Standing::Outside(outside) = &self.standing
            && view > outside.since
            && !self.earlier.is_empty()
        {
            cx.send(from, self.message(Body::Ask));
        }
    }

    /// Something came of another view, or of this one while this member is wedged (V1, V10).
    pub(super) fn on_stray(&mut self, from: NodeId, view: u64, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat_mut() else { return };
        if seat.told.len() >= 2 * MEMBERS_MAX || !seat.told.insert(from) {
            return;
        }
        let is_member = seat.view().position(from).is_some();
        if view < seat.view().number {
            let value = seat.installed.clone();
            cx.send(from, self.decided(value.into()));
        } else if is_member {
            if view > seat.view().number {
                cx.send(from, self.message(Body::Ask));
            } else if seat.is_wedged() {
                self.beat_to(from, cx);
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Cx<'_>) {
        match timer {
            Timer::Grace => {
                self.hearing.expire(cx.now());
                self.note_absent(cx.now());
                self.arm_grace(cx);
                self.on_hearing_changed(cx);
            }
            Timer::Repeat => self.on_repeat(cx),
            Timer::Patience => self.on_patience(cx),
        }
    }
}

/// Whether a value can be about the end of this view.
pub(super) fn follows(value: &Value, view: &View) -> bool {
    value.view.number == view.number + 1
        && value.order.ends.len() == view.len()
        && value.order.stable.len() == view.len()
        && value.order.begins.len() == value.view.len()
}

impl Protocol for ViewChange {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            Input::Start(Some(saved)) => {
                self.earlier.clone_from(&saved.record.lives);
                if cx.has(Bug::LivesForgotten) {
                    self.earlier = saved.record.lives.last().copied().into_iter().collect();
                }
                if saved.record.is_blank() {
                    self.saved = Some(Box::new(saved.record));
                } else {
                    self.restore(saved.record, cx);
                }
            }
            Input::Start(None) | Input::Appended(_) | Input::LinkUp(_) | Input::LinkDown(_) => {}
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(timer) => self.on_timer(timer, cx),
            Input::Command(Command::Found { cluster, value }) => self.on_found(cluster, *value, cx),
            Input::Command(Command::Join { cluster }) => self.on_command_join(cluster),
            Input::Command(Command::Trust(peer)) => self.on_trust(peer, cx),
            Input::Command(Command::Suspect { peer, link }) => self.on_suspect(peer, link, cx),
            Input::Command(Command::Beat) => self.on_beat_due(cx),
            Input::Command(Command::Report { order, lock }) => {
                self.on_report(order, lock.map(|lock| *lock), cx);
            }
            Input::Command(Command::Remember(report)) => self.remembered = Some(report),
            Input::Command(Command::Gathered) => self.on_gathered(cx),
            Input::Command(Command::Stray { peer, view }) => self.on_stray(peer, view, cx),
            Input::Command(Command::Raise { position }) => self.on_raise(position, cx),
            Input::Command(Command::Ready) => self.on_ready(cx),
            Input::Command(Command::Leave) => self.on_leave(cx),
        }
    }
}
