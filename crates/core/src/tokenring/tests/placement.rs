//! Where tokens are placed, report by report.

use super::*;
use crate::{
    planted::Bug,
    protocol::{Context, Rng},
    tokenring::placement::home,
};
use rand_core::SeedableRng as _;

/// What the members of a view of three have reported: nothing yet.
struct Change {
    old: View,
    placement: Placement,
    reports: Vec<Option<Report>>,
    /// The members that want to leave.
    leavers: Vec<usize>,
    /// The old positions of who goes on.
    survivors: Vec<usize>,
    planted: Option<Bug>,
}

fn change() -> Change {
    let received = || vec![Received::default(); 3];
    let report = || Some(Report { received: received(), ..Report::default() });
    Change {
        old: view(3, Mode::Rest),
        placement: Placement::default(),
        reports: vec![report(), report(), report()],
        leavers: vec![],
        survivors: vec![0, 1, 2],
        planted: None,
    }
}

fn token(lock: &str, sequence: u64) -> Known {
    Known { lock: name(lock), sequence, hops: 0, fresh: false }
}

fn name(text: &str) -> LockName {
    LockName::new(text).unwrap()
}

impl Change {
    fn report(&mut self, position: usize) -> &mut Report {
        self.reports[position].as_mut().unwrap()
    }

    fn holds(&mut self, position: usize, lock: &str, sequence: u64) {
        self.report(position).held.push(token(lock, sequence));
    }

    fn has_sent(&mut self, from: usize, to: u16, number: u64, lock: &str, sequence: u64) {
        self.report(from).sent.push(Sent { to, number, token: token(lock, sequence) });
    }

    /// Its life is lost: it has not reported, and does not go on.
    fn lose(&mut self, position: usize) {
        self.reports[position] = None;
        self.survivors.retain(|p| *p != position);
    }

    fn next(&self) -> View {
        let members = self.survivors.iter().map(|p| self.old.members[*p].clone()).collect();
        let ring = (0..self.survivors.len() as u16).collect();
        View { number: 2, members, ring, ..self.old.clone() }
    }

    fn place(&self) -> Placement {
        let leaves = |p: usize| self.leavers.contains(&p);
        let reports: Vec<Option<(&Report, bool)>> =
            (0..3).map(|p| self.reports[p].as_ref().map(|report| (report, leaves(p)))).collect();
        let (mut rng, mut effects) = (Rng::seed_from_u64(1), Vec::new());
        let cx = Context::<TokenRing>::new(Time::ZERO, &mut rng, &mut effects);
        let cx = cx.planting(self.planted);
        Placement::of(&self.old, &self.placement, &reports, &self.next(), &cx)
    }

    fn place_with(&mut self, bug: Bug) -> Placement {
        self.planted = Some(bug);
        self.place()
    }

    /// Made anew, at its home.
    fn regenerated(&self, lock: &str) -> Placed {
        let at = home(&self.next(), &name(lock)) as u16;
        Placed { lock: name(lock), at, hops: 0, fresh: true }
    }
}

fn placed(lock: &str, at: u16) -> Placed {
    Placed { lock: name(lock), at, hops: 0, fresh: false }
}

#[test]
fn a_token_stays_with_its_holder() {
    let mut change = change();
    change.holds(2, "a", 5);
    change.report(2).held[0].hops = 7;
    change.report(2).guards.push(name("a"));
    let expected = Placed { hops: 7, ..placed("a", 2) };
    assert_eq!(change.place(), Placement { tokens: vec![expected], ..Placement::default() });
    // Its position follows it, and what is fresh stays fresh.
    change.lose(0);
    change.report(2).held[0].fresh = true;
    let placement = change.place();
    assert_eq!(placement.tokens, [Placed { hops: 7, fresh: true, ..placed("a", 1) }]);
}

#[test]
fn a_pass_is_in_flight_only_if_its_receiver_says_so() {
    let mut change = change();
    change.has_sent(0, 1, 3, "a", 5);
    assert_eq!(change.place().tokens, [placed("a", 1)]);
    // H1: it has arrived, and the token has gone on from there, to a life that is lost.
    change.lose(2);
    for received in [Received { up_to: 3, also: vec![] }, Received { up_to: 1, also: vec![3] }] {
        change.report(1).received[0] = received;
        assert_eq!(change.place().tokens, [change.regenerated("a")]);
    }
    assert_eq!(change.place_with(Bug::ReceivedIsInFlight).tokens, [placed("a", 1)]);
    // What a malformed report does not say has not been said.
    change.planted = None;
    change.report(1).received.clear();
    assert_eq!(change.place().tokens, [change.regenerated("a")]);
}

#[test]
fn what_was_passed_to_a_lost_life_is_lost() {
    let mut change = change();
    change.has_sent(0, 2, 3, "a", 5);
    change.lose(2);
    assert_eq!(change.place().tokens, [change.regenerated("a")]);
    assert_eq!(change.place_with(Bug::LostPassGoesBack).tokens, [placed("a", 0)]);
}

#[test]
fn of_two_tokens_the_later_one_goes_on() {
    let mut change = change();
    change.holds(0, "a", 5);
    change.has_sent(1, 2, 1, "a", 6);
    assert_eq!(change.place().tokens, [placed("a", 2)]);
    assert_eq!(change.place_with(Bug::SmallestSequence).tokens, [placed("a", 0)]);
}

#[test]
fn who_leaves_without_a_guard_hands_over_to_the_next() {
    let mut change = change();
    change.holds(0, "a", 5);
    change.has_sent(1, 0, 1, "b", 2);
    change.leavers = vec![0];
    change.survivors = vec![1, 2];
    let handed_over = vec![placed("a", 0), placed("b", 0)];
    assert_eq!(change.place(), Placement { tokens: handed_over, ..Placement::default() });
    // With a guard, or without having said that it leaves, it is a lost life.
    let regenerated = vec![change.regenerated("a"), change.regenerated("b")];
    change.report(0).guards.push(name("c"));
    let lost = Placement { tokens: regenerated, lost: true, unknown_fresh: true };
    assert_eq!(change.place(), lost);
    change.report(0).guards.clear();
    change.leavers.clear();
    assert_eq!(change.place(), lost);
}

#[test]
fn the_ring_closes_around_all_who_leave() {
    let mut change = change();
    change.holds(1, "a", 5);
    change.leavers = vec![1, 2];
    change.survivors = vec![0];
    assert_eq!(change.place().tokens, [placed("a", 0)]);
}

#[test]
fn what_a_home_knows_of_and_nobody_has_is_made_anew() {
    let mut change = change();
    change.report(1).home = vec![name("a"), name("b")];
    change.holds(1, "b", 0);
    change.lose(0);
    let tokens = vec![change.regenerated("a"), placed("b", 0)];
    assert_eq!(change.place(), Placement { tokens, lost: true, unknown_fresh: true });
}

#[test]
fn what_came_home_and_was_forgotten_there_is_not_made_anew() {
    let mut change = change();
    let at = home(&change.old, &name("a"));
    change.has_sent((at + 1) % 3, at as u16, 3, "a", 5);
    change.report(at).received[(at + 1) % 3].up_to = 3;
    assert_eq!(change.place().tokens, []);
    // Only the home knows that.
    change.lose(at);
    assert_eq!(change.place().tokens, [change.regenerated("a")]);
}

#[test]
fn a_circulating_lock_always_has_a_token() {
    let mut change = change();
    change.old.mode = Mode::Circulate;
    change.lose(0);
    assert_eq!(change.place().tokens, [change.regenerated("default")]);
}

#[test]
fn that_something_may_be_unknown_is_not_forgotten() {
    let mut change = change();
    assert_eq!(change.place(), Placement::default());
    change.placement.unknown_fresh = true;
    assert_eq!(change.place(), Placement { unknown_fresh: true, ..Placement::default() });
    assert_eq!(change.place_with(Bug::UnknownForgotten), Placement::default());
}

#[test]
fn only_who_remembers_vouches() {
    // H3: a member that goes on without memory of the locks.
    let mut change = change();
    change.reports[2] = None;
    assert!(change.place().lost);
    assert!(!change.place_with(Bug::RestartVouches).lost);
    // Another life, or incarnation, of the same name is somebody else.
    for incarnation in [1, 2] {
        let change = self::change();
        let mut next = change.next();
        let mut members = next.members.to_vec();
        members[2].incarnation = incarnation;
        members[2].life = if incarnation == 1 { Life(99) } else { members[2].life };
        next.members = members.into();
        let reports: Vec<Option<(&Report, bool)>> =
            change.reports.iter().map(|report| Some((report.as_ref().unwrap(), false))).collect();
        let (mut rng, mut effects) = (Rng::seed_from_u64(1), Vec::new());
        let cx = Context::<TokenRing>::new(Time::ZERO, &mut rng, &mut effects);
        assert!(Placement::of(&change.old, &change.placement, &reports, &next, &cx).lost);
    }
}

#[test]
fn few_homes_move() {
    let (old, names) = (view(5, Mode::Rest), (0..1_000).map(|k| name(&format!("l{k}"))));
    let next = view(4, Mode::Rest);
    let mut moved = 0;
    for lock in names {
        let (before, after) = (home(&old, &lock), home(&next, &lock));
        assert!(before == after || before == 4, "only those of who is gone");
        moved += usize::from(before == 4);
    }
    assert!((150..250).contains(&moved), "{moved}");
}
