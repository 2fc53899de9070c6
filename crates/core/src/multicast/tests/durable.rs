//! Writing ahead (T9), step by step.

use super::*;
use crate::view::{Record, Saved, Value};

fn durable(position: usize) -> Hand {
    durable_at(position, None)
}

fn durable_at(position: usize, planted: Option<Bug>) -> Hand {
    let config = Config { durable: true, ..config(position) };
    let mut hand = Hand::before_install(config);
    hand.planted = planted;
    let began =
        Line::Began { view: Box::new(view(3)), cut: Box::new(Cut::founding(3)), position: 0 };
    assert_eq!(hand.found(3), [appends(1, began)]);
    hand
}

fn appends(number: u64, line: Line) -> Out {
    Effect::Append(LogEntry { number, line })
}

fn message(sender: u16, sequence: u64, time: u64, payload: &'static str) -> Line {
    Line::Message { sender, sequence, time, payload: Bytes::from_static(payload.as_bytes()) }
}

#[test]
fn what_is_received_is_acknowledged_when_it_is_durable() {
    let mut b = durable(1);
    let kept = appends(2, message(0, 1, 1, "x"));
    assert_eq!(b.hear(0, data(1, 1, "x")), [kept, heartbeat()]);
    assert_eq!(b.handle(Input::Appended(1)), []);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(1, 0, &[0, 0, 0]))], "only the time");
    assert_eq!(b.handle(Input::Appended(2)), [flush()]);
    assert_eq!(b.fire(Timer::Flush), [all(&[0, 2], clock(1, 0, &[1, 0, 0]))]);
}

#[test]
fn the_own_receipt_counts_when_it_is_durable() {
    let mut b = durable(1);
    b.hear(0, data(1, 1, "x"));
    assert_eq!(b.hear(2, clock(1, 0, &[0, 0, 0])), [], "two of three, but here it may be lost");
    assert_eq!(b.handle(Input::Appended(2)), [flush(), delivered(1, 1, 0, 1, "x")]);
}

#[test]
fn what_is_sent_leaves_when_it_is_durable_and_no_clock_passes_it() {
    let mut a = durable(0);
    assert_eq!(a.send(7, "x"), [appends(2, message(0, 1, 1, "x")), heartbeat()]);
    assert_eq!(a.send(8, "y"), [appends(3, message(0, 2, 2, "y"))]);
    a.hear(1, data(1, 9, "z"));
    let told = clock(0, 0, &[0, 0, 0]);
    assert_eq!(a.fire(Timer::Flush), [all(&[1, 2], told)]);
    assert_eq!(a.handle(Input::Appended(2))[..1], [all(&[1, 2], data(1, 1, "x"))]);
    assert_eq!(a.handle(Input::Appended(4))[..1], [all(&[1, 2], data(2, 2, "y"))]);
    assert_eq!(a.fire(Timer::Flush), [all(&[1, 2], clock(9, 2, &[2, 1, 0]))]);
}

#[test]
fn a_cut_is_gathered_when_all_of_it_is_durable() {
    let mut b = durable(1);
    b.hear(0, data(1, 1, "x"));
    b.command(Command::Wedge);
    let cut = Cut { ends: vec![1, 0, 0], stable: vec![0; 3], ..Cut::founding(3) };
    let gather = Command::Gather { cut: Box::new(cut), holders: Vec::new(), insists: true };
    assert_eq!(b.command(gather), [timer(Timer::Fetch)]);
    assert_eq!(b.handle(Input::Appended(2)), gathered());
}

/// Others let go of what all have reported, and a restart may take away what is not on disk.
#[test]
fn a_report_has_what_is_durable() {
    let reports = |durable, bug| {
        let mut b = durable_at(1, bug);
        b.hear(0, data(1, 1, "x"));
        b.hear(0, data(2, 2, "y"));
        b.handle(Input::Appended(durable));
        b.command(Command::Wedge);
        b.handle(Input::Appended(3));
        b.machine.report().map(|report| report.received)
    };
    assert_eq!(reports(1, None), Some(vec![0, 0, 0]));
    assert_eq!(reports(2, None), Some(vec![1, 0, 0]));
    assert_eq!(reports(1, Some(Bug::ReportsBeforeDurable)), Some(vec![2, 0, 0]));
}

/// What nobody has reported is not in the cut: of the others it is forgotten, and what is own is sent
/// again (T10).
#[test]
fn what_is_not_durable_is_sent_again_in_the_next_view() {
    let mut a = durable(0);
    a.send(7, "mine");
    a.hear(1, data(1, 9, "x"));
    a.command(Command::Wedge);
    let cut = Cut { clock: 9, ..empty_cut() };
    let next = Command::Install { view: later(2, &[(0, 1), (1, 1), (2, 1)]), cut: Box::new(cut) };
    a.command(Command::Close { cut: Box::new(empty_cut()) });
    let again = message(0, 1, 10, "mine");
    let appended = a.command(next).into_iter().filter(|out| matches!(out, Effect::Append(_)));
    assert_eq!(appended.last(), Some(appends(5, again)));
}

fn empty_cut() -> Cut {
    Cut { ends: vec![0; 3], stable: vec![0; 3], ..Cut::founding(3) }
}

#[test]
fn a_cut_that_is_gathered_before_the_disk_has_it_is_shown() {
    let mut b = durable(1);
    b.planted = Some(Bug::AcceptsBeforeDurable);
    b.command(Command::Wedge);
    let gather = Command::Gather { cut: Box::new(empty_cut()), holders: Vec::new(), insists: true };
    assert_eq!(b.command(gather), gathered());
}

/// Who has joined takes part when what comes before the view is on disk.
#[test]
fn what_is_learned_counts_when_it_is_durable() {
    let begins = |bug| {
        let mut d = Hand::before_install(Config { durable: true, ..config(3) });
        d.planted = bug;
        let view = later(2, &[(0, 1), (1, 1), (2, 1), (3, 2)]);
        let cut = Cut { begins: vec![1, 0, 0, 0], position: 1, clock: 1, ..Cut::founding(4) };
        d.command(Command::Install { view, cut: Box::new(cut) });
        let lesson = Body::Lesson { from: 1, deliveries: vec![delivery(1, "x")], position: 1 };
        let learned = d.hear_in(0, 0, lesson);
        (learned.contains(&flush()), d.handle(Input::Appended(2)).contains(&flush()))
    };
    assert_eq!(begins(None), (false, true));
    assert_eq!(begins(Some(Bug::CountsUnsavedLessons)), (true, false));
}

#[test]
fn no_more_is_learned_than_the_disk_can_take() {
    let config = Config { durable: true, unread_bytes_max: 1 << 30, ..config(3) };
    let mut d = Hand::before_install(config);
    d.command(Command::Learn { teachers: vec![id(0)] });
    let mut next = 1;
    let asks = |out: &Out| matches!(out, Effect::Send { message, .. } if message.view == 0);
    loop {
        let deliveries = (next..next + 256).map(|position| delivery(position, "x")).collect();
        let lesson = Body::Lesson { from: next, deliveries, position: 1 << 20 };
        next += 256;
        if !d.hear_in(0, 0, lesson).iter().any(asks) {
            break;
        }
        assert!(next < 2000, "the disk is {next} messages behind");
    }
    assert!(d.handle(Input::Appended(next - 1)).iter().any(asks));
}

fn delivery(position: u64, payload: &'static str) -> Delivery {
    let (payload, sender) = (Bytes::from_static(payload.as_bytes()), id(0));
    Delivery { position, time: position, sender, incarnation: 1, sequence: position, payload }
}

/// A later life of the second of three, with this log.
fn again(lines: Vec<Line>) -> (Hand, Vec<Out>) {
    again_with(lines, None)
}

/// The order of another group was learned, and the power went before the log could say that the first
/// view of this one begins.
#[test]
fn what_another_group_has_ordered_is_not_recalled() {
    let lines = || vec![Line::Learned(delivery(1, "x")), Line::Learned(delivery(2, "y"))];
    let (b, seen) = again(lines());
    assert_eq!(seen[0], appends(3, began()));
    let nothing = Report { received: vec![0; 3], clock: 0 };
    assert_eq!((b.status().position, b.machine.report()), (0, Some(nothing)));
    let (b, seen) = again_with(lines(), Some(Bug::RecallsForeignOrder));
    assert_eq!(seen[0], delivered(1, 1, 0, 1, "x"));
    assert_eq!(b.status().position, 2);
    // What was begun by then is known, whatever comes before it.
    let begun = [lines(), vec![began(), message(0, 1, 1, "z")]].concat();
    assert_eq!(again(begun).0.machine.report().map(|r| r.received), Some(vec![1, 0, 0]));
}

/// Nobody counts on the log of a life that has no record of a view: it goes on learning, until it is
/// found to be what is left of a member.
#[test]
fn without_a_record_nothing_is_remembered_of_a_view() {
    let mut b = Hand::before_install(Config { durable: true, ..config(1) });
    let record = Record::of_lives(1, &name(1), vec![Life(9)]);
    let log = vec![LogEntry { number: 1, line: Line::Learned(delivery(1, "x")) }];
    b.handle(Input::Start(Some(Box::new(Saved { record, log }))));
    assert_eq!(b.status().position, 1);
    b.command(Command::Learn { teachers: vec![id(0)] });
    let cut = Cut { position: 1, ..Cut::founding(3) };
    let restored = b.command(Command::Restore { view: view(3), cut });
    assert!(restored.contains(&Effect::CancelTimer(Timer::Learn)));
    assert_eq!(b.machine.report(), None);
    let lesson = Body::Lesson { from: 2, deliveries: vec![delivery(2, "y")], position: 2 };
    assert_eq!(b.hear_in(0, 0, lesson), []);
}

fn again_with(lines: Vec<Line>, planted: Option<Bug>) -> (Hand, Vec<Out>) {
    let mut hand = Hand::before_install(Config { durable: true, ..config(1) });
    hand.planted = planted;
    let log = (1..).zip(lines).map(|(number, line)| LogEntry { number, line }).collect();
    let installed = Value::first(view(3), 0);
    let record = Record::of(1, vec![Life(9)], installed);
    let mut seen = hand.handle(Input::Start(Some(Box::new(Saved { record, log }))));
    seen.extend(hand.command(Command::Restore { view: view(3), cut: Cut::founding(3) }));
    (hand, seen)
}

fn began() -> Line {
    Line::Began { view: Box::new(view(3)), cut: Box::new(Cut::founding(3)), position: 0 }
}

#[test]
fn a_restarted_member_reports_what_it_had_received_and_closes_with_the_others() {
    let lines = vec![began(), message(0, 1, 1, "x"), message(2, 1, 2, "z"), message(0, 2, 3, "y")];
    let (mut b, _) = again(lines);
    assert_eq!(b.machine.report(), Some(Report { received: vec![2, 0, 1], clock: 3 }));
    assert_eq!(b.send(1, "mute"), [refused(1, Refusal::NotStarted)]);
    let cut = Cut {
        ends: vec![2, 0, 1],
        stable: vec![0; 3],
        begins: vec![2, 0, 1],
        clock: 3,
        position: 3,
        lost: false,
    };
    let next = later(2, &[(0, 1), (1, 2), (2, 1)]);
    let closed = b.command(Command::Install { view: next, cut: Box::new(cut) });
    let order =
        [delivered(1, 1, 0, 1, "x"), delivered(2, 2, 2, 1, "z"), delivered(3, 3, 0, 2, "y")];
    let seen: Vec<Out> = closed.into_iter().filter(|out| matches!(out, Effect::Emit(_))).collect();
    assert_eq!(seen, order);
}

#[test]
fn who_may_have_forgotten_reports_nothing() {
    assert_eq!(again(vec![Line::Unlogged]).0.machine.report(), None);
    // A message is missing.
    let gap = || vec![began(), message(0, 1, 1, "x"), message(0, 3, 3, "z")];
    assert_eq!(again(gap()).0.machine.report(), None);
    let forgiven = again_with(gap(), Some(Bug::GapForgiven)).0.machine.report();
    assert_eq!(forgiven.map(|report| report.received), Some(vec![1, 0, 0]));
    let (b, _) = again_with(vec![began()], Some(Bug::ForgetsLog));
    assert_eq!(b.machine.report(), None);
    // The power went before the log could say that the view began: nothing was acknowledged in it.
    let nothing = Report { received: vec![0; 3], clock: 0 };
    assert_eq!(again(Vec::new()).0.machine.report(), Some(nothing));
}

/// What was received, and never delivered here since the view went on without this member, is no
/// part of the order that it reads: only what it was told later is.
#[test]
fn what_was_missed_is_not_made_up_for() {
    let lines = vec![
        began(),
        message(0, 1, 1, "x"),
        message(0, 2, 2, "y"),
        Line::Missed { from: 2, to: 2 },
        Line::Learned(delivery(3, "z")),
    ];
    let missed = Effect::Emit(Event::Missed { from: 1, to: 2 });
    assert_eq!(again(lines).1[..2], [missed, delivered(3, 3, 0, 3, "z")]);
}

/// A mark is no reason to forget what another member may still lack.
#[test]
fn what_is_delivered_and_not_stable_is_there_for_who_lacks_it() {
    let mark =
        Line::Mark { view: Box::new(view(3)), delivered: vec![1, 0, 0], position: 1, since: 0 };
    let (mut b, _) = again(vec![message(0, 1, 1, "x"), message(0, 2, 2, "y"), mark]);
    assert_eq!(b.machine.report().map(|report| report.received), Some(vec![2, 0, 0]));
    let answer = [one(2, fetched(0, 1, 1, "x")), one(2, fetched(0, 2, 2, "y"))];
    assert_eq!(b.hear(2, fetch(0, 1, 2)), answer);
}

/// The log of a group of one, of which each entry is durable some inputs later.
struct Disk {
    hand: Hand,
    entries: Vec<LogEntry>,
    durable: u64,
    sent: u64,
    view: View,
    cut: Cut,
}

impl Disk {
    fn new(planted: Option<Bug>) -> Self {
        let mut hand =
            Hand::before_install(Config { durable: true, unread_bytes_max: 1 << 30, ..config(0) });
        hand.planted = planted;
        let (view, cut) = (view(1), Cut::founding(1));
        let mut disk = Self { hand, entries: Vec::new(), durable: 0, sent: 0, view, cut };
        let (view, cut) = (disk.view.clone(), Box::new(disk.cut.clone()));
        disk.take(Command::Install { view, cut });
        disk
    }

    fn take(&mut self, command: Command) {
        let effects = self.hand.command(command);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Out>) {
        for effect in effects {
            match effect {
                Effect::Append(entry) => self.entries.push(entry),
                Effect::Trim(number) => self.entries.retain(|entry| entry.number > number),
                _ => {}
            }
        }
    }

    fn send(&mut self) {
        self.sent += 1;
        self.take(Command::Send { ticket: self.sent, payload: Bytes::from_static(b"x") });
    }

    /// Everything that has been appended is durable, but the last entries.
    fn sync(&mut self, but: u64) {
        let last = self.entries.last().map_or(0, |last| last.number);
        self.durable = self.durable.max(last.saturating_sub(but));
        let effects = self.hand.handle(Input::Appended(self.durable));
        self.perform(effects);
    }

    fn next_view(&mut self) {
        let end = self.sent;
        self.cut = Cut {
            ends: vec![end],
            stable: vec![end],
            begins: vec![end],
            clock: end,
            position: end,
            lost: false,
        };
        self.view = later(self.view.number + 1, &[(0, 1)]);
        self.take(Command::Wedge);
        self.take(Command::Close { cut: Box::new(self.cut.clone()) });
        let (view, cut) = (self.view.clone(), Box::new(self.cut.clone()));
        self.take(Command::Install { view, cut });
    }

    /// The power goes, and the next life is taken in anew.
    fn live_again(&mut self) {
        self.entries.retain(|entry| entry.number <= self.durable);
        let planted = self.hand.planted;
        self.hand =
            Hand::before_install(Config { durable: true, unread_bytes_max: 1 << 30, ..config(0) });
        self.hand.planted = planted;
        let record = Record::of(1, vec![Life(9)], Value::first(self.view.clone(), 0));
        let saved = Saved { record, log: self.entries.clone() };
        let effects = self.hand.handle(Input::Start(Some(Box::new(saved))));
        self.perform(effects);
        self.take(Command::Restore { view: self.view.clone(), cut: self.cut.clone() });
        let end = self.hand.machine.report().expect("it remembers").received[0];
        let position = self.cut.position + end - self.cut.begins[0];
        let ends = vec![end];
        let stable = ends.clone();
        self.cut = Cut { ends, stable, begins: vec![0], clock: 1 << 20, position, lost: false };
        let number = self.view.number + 1;
        self.view = later(number, &[(0, number)]);
        let (view, cut) = (self.view.clone(), Box::new(self.cut.clone()));
        self.take(Command::Install { view, cut });
        self.sync(0);
    }

    /// What a life reports, and the history that it has, if the power goes now.
    fn again(&self) -> (Option<u64>, Vec<u64>) {
        let mut log = self.entries.clone();
        log.retain(|entry| entry.number <= self.durable);
        let mut hand = Hand::before_install(Config { durable: true, ..config(0) });
        let installed = Value::first(self.view.clone(), 0);
        let record = Record::of(1, vec![Life(9)], installed);
        hand.handle(Input::Start(Some(Box::new(Saved { record, log }))));
        hand.command(Command::Restore { view: self.view.clone(), cut: self.cut.clone() });
        let report = hand.machine.report().map(|report| report.received[0]);
        (report, hand.machine.history(0).map(|delivery| delivery.position).collect())
    }
}

/// Whenever the power goes: what is left of the log is enough. And it does not grow.
#[test]
fn the_log_is_trimmed_and_what_is_left_of_it_is_enough() {
    for per_view in [3, 7, 500] {
        let mut disk = Disk::new(None);
        for n in 1..=500 {
            disk.send();
            let (report, _) = disk.again();
            assert_eq!(report, Some(n - 1), "{per_view} per view");
            disk.sync(0);
            assert_eq!(disk.again().0, Some(n), "{per_view} per view");
            if n % per_view == 0 {
                disk.next_view();
                disk.sync(0);
                // As much of the order as is kept in memory.
                let (report, history) = disk.again();
                assert_eq!(report, Some(n), "{per_view} per view");
                assert!(history.into_iter().eq(n.max(10) - 9..=n), "{per_view} per view");
            }
            assert!(disk.entries.len() < 90, "{} entries: {per_view}", disk.entries.len());
        }
    }
}

/// Each life trims what those before it have left.
#[test]
fn the_log_does_not_grow_with_the_lives_of_the_node() {
    let mut disk = Disk::new(None);
    for life in 1..=30 {
        for _ in 0..30 {
            disk.send();
            disk.sync(0);
        }
        disk.live_again();
        assert_eq!(disk.cut.position, 30 * life);
        assert!(disk.entries.len() < 120, "{} entries after {life} lives", disk.entries.len());
    }
}

#[test]
fn a_log_that_is_trimmed_too_early_is_not_enough() {
    let forgets = |bug| {
        let mut disk = Disk::new(bug);
        (1..=200).any(|_| {
            disk.send();
            disk.sync(4);
            disk.again().0.is_none()
        })
    };
    assert!(!forgets(None));
    assert!(forgets(Some(Bug::TrimsEarly)));
}
