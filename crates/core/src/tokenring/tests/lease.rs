//! Lease, guards, embargo, and the way from one view to the next: effect by effect.

use super::*;
use crate::{
    planted::Bug,
    protocol::{Context, Effect, EffectOf, InputOf, Protocol as _, Rng, To},
    tokenring::placement::home,
};
use rand_core::SeedableRng as _;

type Out = EffectOf<TokenRing>;

const SECOND: u64 = 1_000_000_000;

/// One member, driven by hand. Its clock begins at 10 s, and the lease is 5 s.
struct One {
    machine: TokenRing,
    view: View,
    now: Time,
    rng: Rng,
    planted: Option<Bug>,
}

fn seconds(seconds: u64) -> Time {
    Time::from_nanos(seconds * SECOND)
}

fn name(text: &str) -> LockName {
    LockName::new(text).unwrap()
}

impl One {
    /// Position `me` of `n`, not in a view yet.
    fn new(me: usize, n: usize, planted: Option<Bug>) -> Self {
        let view = View { lease: Duration::from_secs(5), ..view(n, Mode::Rest) };
        let machine = TokenRing::new(config(me));
        let rng = Rng::seed_from_u64(1);
        let mut one = Self { machine, view, now: seconds(10), rng, planted };
        for peer in (0..n).filter(|peer| *peer != me) {
            one.handle(Input::LinkUp(id(peer)));
        }
        one
    }

    /// In view 1, with a lease until 15 s.
    fn leased(me: usize, planted: Option<Bug>) -> Self {
        let mut one = Self::new(me, 3, planted);
        one.install(Placement::default(), false);
        one.echo((me + 1) % 3, 10);
        one
    }

    /// The same, with a guard on lock "a", ticket 1.
    fn holder(planted: Option<Bug>) -> Self {
        let mut one = Self::leased(0, planted);
        one.hear(1, pass(1, false));
        assert_eq!(one.granted(1), Some(8));
        one
    }

    fn handle(&mut self, input: InputOf<TokenRing>) -> Vec<Out> {
        let mut effects = Vec::new();
        let cx = Context::new(self.now, &mut self.rng, &mut effects);
        self.machine.handle(input, &mut cx.planting(self.planted));
        effects
    }

    fn command(&mut self, command: Command) -> Vec<Out> {
        self.handle(Input::Command(command))
    }

    fn install(&mut self, placement: Placement, joins: bool) -> Vec<Out> {
        let view = self.view.clone();
        self.command(Command::Install { view, placement, joins })
    }

    /// View 2, with the same members; and a lease at once, if there is anybody else.
    fn install_next(&mut self, placement: Placement, joins: bool) -> Vec<Out> {
        self.view.number = 2;
        let effects = self.install(placement, joins);
        self.echo(1, self.now.as_nanos() / SECOND);
        effects
    }

    fn hear(&mut self, from: usize, body: Body) -> Vec<Out> {
        let message = Message { view: self.view.number, body };
        self.handle(Input::Message { from: id(from), message })
    }

    /// An own reading comes back.
    fn echo(&mut self, from: usize, at: u64) -> Vec<Out> {
        self.hear(from, Body::Stamp { stamp: 1, echo: at * SECOND, answer: false })
    }

    fn fire(&mut self, timer: Timer) -> Vec<Out> {
        self.handle(Input::Timer(timer))
    }

    fn lock(&mut self, ticket: Ticket, wait: Wait) -> Vec<Out> {
        self.command(Command::Lock { lock: name("a"), ticket, wait })
    }

    fn unlock(&mut self, ticket: Ticket) -> Vec<Out> {
        self.command(Command::Unlock { lock: name("a"), ticket })
    }

    /// The fence, if the lock is granted at once.
    fn granted(&mut self, ticket: Ticket) -> Option<u64> {
        fence(&self.lock(ticket, Wait::Queue))
    }

    fn lease(&self) -> Time {
        self.machine.lease_until(self.now)
    }

    fn guards(&self) -> usize {
        self.machine.guards().count()
    }

    fn wants(&mut self, requester: u16) -> Vec<Out> {
        let lock = name("a");
        self.hear(requester.into(), Body::Request { lock, requester, number: 1, hops: 0 })
    }

    fn has_token(&self) -> bool {
        self.machine.tokens().next().is_some()
    }
}

fn fence(effects: &[Out]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Emit(Event::Granted { fence, .. }) => Some(*fence),
        _ => None,
    })
}

/// The token of lock "a", of which 7 grants have been made.
fn pass(number: u64, fresh: bool) -> Body {
    let token = Token { sequence: 7, ..Token::new(3, 0, fresh) };
    Body::Pass { number, lock: name("a"), token }
}

fn stamp(to: usize, view: u64, at: u64, echo: u64, answer: bool) -> Out {
    let body = Body::Stamp { stamp: at * SECOND, echo, answer };
    Effect::Send { to: To::One(id(to)), message: Message { view, body } }
}

fn lost(ticket: Ticket, fence: u64, reason: Loss) -> Out {
    Effect::Emit(Event::Lost { lock: name("a"), ticket, fence, reason })
}

fn sends(effects: &[Out]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count()
}

/// How view 2 begins if the token of lock "a" is there.
fn placed(at: u16, fresh: bool) -> Placement {
    let token = Placed { lock: name("a"), at, hops: 0, fresh };
    Placement { tokens: vec![token], lost: fresh, unknown_fresh: fresh }
}

// ---- Lease ----

#[test]
fn the_lease_begins_with_the_reading_that_a_quorum_has_had() {
    for (planted, until) in [(None, 15), (Some(Bug::LeaseByReceipt), 17)] {
        let mut one = One::new(1, 3, planted);
        let stamps = [stamp(2, 1, 10, 0, true), stamp(0, 1, 10, 0, true)];
        assert_eq!(one.install(Placement::default(), false), stamps);
        assert_eq!(one.lease(), Time::ZERO);
        one.now = seconds(12);
        one.echo(2, 10);
        assert_eq!(one.lease(), seconds(until), "{planted:?}");
    }
}

#[test]
fn it_takes_a_quorum_by_the_tie_rule() {
    let lease = |me: usize, n: usize, echoes: &[(usize, u64)]| {
        let mut one = One::new(me, n, None);
        one.install(Placement::default(), false);
        one.now = seconds(14);
        for (from, at) in echoes {
            one.echo(*from, *at);
        }
        one.lease()
    };
    assert_eq!(lease(2, 5, &[(0, 13)]), Time::ZERO);
    assert_eq!(lease(2, 5, &[(0, 13), (4, 11)]), seconds(16));
    assert_eq!(lease(2, 5, &[(0, 13), (4, 11), (1, 12)]), seconds(17));
    assert_eq!(lease(2, 4, &[(1, 13)]), Time::ZERO, "half without the first");
    assert_eq!(lease(2, 4, &[(1, 13), (0, 12)]), seconds(17));
    assert_eq!(lease(2, 4, &[(1, 13), (3, 12)]), seconds(17));
    assert_eq!(lease(1, 2, &[]), Time::ZERO);
    assert_eq!(lease(1, 2, &[(0, 13)]), seconds(18));
    assert_eq!(lease(0, 2, &[]), seconds(19), "its own word is enough, now");
    assert_eq!(lease(0, 1, &[]), seconds(19));
}

#[test]
fn nothing_is_granted_without_a_lease() {
    for (planted, at_once) in [
        (None, false),
        (Some(Bug::GrantsWithoutLease), true),
        (Some(Bug::InstallRenewsLease), true),
    ] {
        let mut one = One::new(0, 3, planted);
        one.install(Placement::default(), false);
        one.hear(1, pass(1, false));
        assert_eq!(one.granted(1).is_some(), at_once, "{planted:?}");
        if !at_once {
            assert_eq!(fence(&one.echo(1, 10)), Some(8), "as soon as there is one");
        }
    }
}

#[test]
fn an_echo_of_the_future_is_of_no_clock_of_this_life() {
    let mut one = One::new(0, 3, None);
    one.install(Placement::default(), false);
    one.echo(1, 11);
    assert_eq!((one.lease(), one.machine.status().ignored), (Time::ZERO, 1));
}

#[test]
fn stamps_leave_with_heartbeats_and_to_whom_needs_one() {
    let mut one = One::leased(0, None);
    one.now = seconds(11);
    let beat = [stamp(1, 1, 11, 1, false), stamp(2, 1, 11, 0, false)];
    assert_eq!(one.command(Command::Beat), beat);
    // Who needs it gets it at once; who has not echoed anything yet is asked to.
    let needs = |stamp| Body::Stamp { stamp, echo: 0, answer: true };
    assert_eq!(one.hear(1, needs(7)), [stamp(1, 1, 11, 7, false)]);
    assert_eq!(one.hear(2, needs(9)), [stamp(2, 1, 11, 9, true)]);
    assert_eq!(one.hear(2, needs(8)), [stamp(2, 1, 11, 9, true)], "the newest");
    // Half of the lease is over.
    one.now = seconds(13);
    assert_eq!(one.command(Command::Beat), [stamp(1, 1, 13, 7, true), stamp(2, 1, 13, 9, true)]);
}

// ---- Guards ----

#[test]
fn a_guard_that_is_lost_stays_lost() {
    let mut one = One::holder(None);
    one.now = seconds(15);
    // First it is lost, then the lease is renewed.
    assert_eq!(one.echo(1, 14), [lost(1, 8, Loss::LeaseEnded)]);
    assert_eq!((one.lease(), one.guards()), (seconds(19), 0));
    let reason = Refusal::NotHeld;
    let refused = Event::Refused { lock: name("a"), ticket: 1, reason };
    assert_eq!(one.unlock(1), [Effect::Emit(refused)]);
    assert_eq!(one.granted(2), Some(9), "the token is free");
    let mut one = One::holder(Some(Bug::GuardRevives));
    one.now = seconds(15);
    assert_eq!(one.echo(1, 14), []);
    assert_eq!((one.lease(), one.guards()), (seconds(19), 1));
}

#[test]
fn a_guard_that_is_lost_frees_its_token() {
    let mut one = One::holder(None);
    one.wants(2);
    one.now = seconds(15);
    let effects = one.fire(Timer::Lease);
    assert_eq!(effects[0], lost(1, 8, Loss::LeaseEnded));
    assert!(sends(&effects) == 1 && !one.has_token());
}

#[test]
fn one_timer_watches_the_lease() {
    let mut one = One::leased(0, None);
    one.hear(1, pass(1, false));
    let timer = Effect::SetTimer { timer: Timer::Lease, after: Duration::from_secs(5) };
    assert!(one.lock(1, Wait::Queue).contains(&timer));
    one.unlock(1);
    one.now = seconds(12);
    one.echo(2, 12);
    let effects = one.lock(2, Wait::Queue);
    assert_eq!((fence(&effects), effects.len()), (Some(9), 1));
    one.now = seconds(15);
    let timer = Effect::SetTimer { timer: Timer::Lease, after: Duration::from_secs(2) };
    assert_eq!(one.fire(Timer::Lease), [timer]);
    one.unlock(2);
    one.now = seconds(17);
    assert_eq!(one.fire(Timer::Lease), [], "nobody has a guard");
}

#[test]
fn who_is_left_out_loses_its_guards() {
    let mut one = One::holder(None);
    one.lock(2, Wait::Queue);
    assert_eq!(one.command(Command::Out)[0], lost(1, 8, Loss::Excluded));
    assert_eq!((one.guards(), one.lease(), one.has_token()), (0, Time::ZERO, false));
    assert_eq!(one.machine.status().locks[0].waiters, 1, "who waits goes on waiting");
    assert_eq!(sends(&one.install_next(Placement::default(), true)), 3, "and asks again");
    let mut one = One::holder(Some(Bug::GuardOutlivesLife));
    one.command(Command::Out);
    assert_eq!(one.guards(), 1);
}

/// What has no lease for long does not keep the token from who may have one.
#[test]
fn a_token_that_cannot_be_granted_goes_on_after_a_while() {
    let mut one = One::leased(0, None);
    one.now = seconds(16);
    one.hear(1, pass(1, false));
    one.lock(1, Wait::Queue);
    assert_eq!(sends(&one.wants(2)), 0, "not at once: that one may be no better off");
    assert_eq!(sends(&one.fire(Timer::Repeat)), 1);
    assert!(!one.has_token());
}

// ---- Wedged ----

#[test]
fn who_is_wedged_reports_and_does_nothing_more() {
    let mut one = One::holder(None);
    one.hear(1, Body::Pass { number: 3, lock: name("b"), token: Token::new(3, 4, true) });
    one.wants(2);
    one.command(Command::Wedge);
    let held = |lock, sequence, hops, fresh| Known { lock: name(lock), sequence, hops, fresh };
    let mut received = vec![Received::default(); 3];
    received[1] = Received { up_to: 1, also: vec![3] };
    let homes = ["a", "b"].into_iter().filter(|lock| home(&one.view, &name(lock)) == 0);
    let report = Report {
        held: vec![held("a", 8, 0, false), held("b", 0, 4, true)],
        sent: vec![],
        received,
        home: homes.map(name).collect(),
        guards: vec![name("a")],
    };
    assert_eq!(one.machine.report(), report);
    let released = Event::Released { lock: name("a"), ticket: 1, fence: 8 };
    assert_eq!(one.unlock(1), [Effect::Emit(released)]);
    assert_eq!(one.lock(2, Wait::Queue), []);
    assert_eq!(one.hear(1, pass(2, false)), []);
    assert_eq!(one.wants(1), []);
    assert_eq!(one.command(Command::Beat), []);
    for timer in [Timer::Acknowledge, Timer::Repeat] {
        assert_eq!(one.fire(timer), []);
    }
    assert_eq!(one.hear(1, Body::Stamp { stamp: 9, echo: 0, answer: true }), []);
    one.command(Command::Wedge);
    assert_eq!(one.machine.report(), report, "the same for every ballot");
}

#[test]
fn who_is_wedged_neither_grants_nor_passes_nor_accepts() {
    for planted in [Some(Bug::GrantsWedged), Some(Bug::PassesWedged), Some(Bug::AcceptsWedged)] {
        let does = |bug| planted == Some(bug);
        let mut one = One::holder(planted);
        one.command(Command::Wedge);
        one.unlock(1);
        assert_eq!(one.granted(2).is_some(), does(Bug::GrantsWedged));
        let mut one = One::holder(planted);
        one.wants(2);
        one.command(Command::Wedge);
        assert_eq!(sends(&one.unlock(1)) == 1, does(Bug::PassesWedged));
        let mut one = One::leased(0, planted);
        one.command(Command::Wedge);
        assert_eq!(one.hear(1, pass(1, false)).is_empty(), !does(Bug::AcceptsWedged));
        assert_eq!(one.has_token(), does(Bug::AcceptsWedged));
    }
}

#[test]
fn who_is_wedged_echoes_nothing() {
    for planted in [None, Some(Bug::EchoesWedged)] {
        let mut one = One::leased(0, planted);
        one.command(Command::Wedge);
        let needs = Body::Stamp { stamp: 9, echo: 0, answer: true };
        let echoes = sends(&one.hear(1, needs)) + sends(&one.command(Command::Beat));
        assert_eq!(echoes, if planted.is_none() { 0 } else { 3 });
    }
}

#[test]
fn the_own_vote_stays_at_the_own_promise() {
    for (planted, until) in [(None, 15), (Some(Bug::VotesWedged), 21)] {
        let mut one = One::new(0, 2, planted);
        one.install(Placement::default(), false);
        let token = Token::new(2, 0, false);
        one.hear(1, Body::Pass { number: 1, lock: name("a"), token });
        assert_eq!(one.granted(1), Some(1));
        one.command(Command::Wedge);
        one.now = seconds(16);
        assert_eq!(one.lease(), seconds(until));
        let effects = one.fire(Timer::Lease);
        assert_eq!(effects.contains(&lost(1, 1, Loss::LeaseEnded)), planted.is_none());
    }
}

#[test]
fn what_others_echo_still_counts_for_who_is_wedged() {
    let mut one = One::holder(None);
    one.now = seconds(12);
    one.command(Command::Wedge);
    one.now = seconds(14);
    one.echo(2, 11);
    assert_eq!(one.lease(), seconds(16));
}

// ---- The next view ----

#[test]
fn a_guard_goes_on_where_its_token_does() {
    let mut one = One::holder(None);
    one.lock(2, Wait::Queue);
    one.command(Command::Wedge);
    one.now = seconds(12);
    one.view.number = 2;
    one.install(placed(0, false), false);
    assert_eq!((one.guards(), one.lease()), (1, seconds(15)), "installing gives no lease");
    one.echo(2, 12);
    // The old fence for the guard, a larger one for the next.
    let effects = one.unlock(1);
    let released = Event::Released { lock: name("a"), ticket: 1, fence: 8 };
    assert_eq!(effects[0], Effect::Emit(released));
    assert_eq!(fence(&effects), Some(1 << 40 | 1));
}

#[test]
fn a_guard_without_its_token_is_lost() {
    for (planted, guards) in [(None, 0), (Some(Bug::GuardOutlivesToken), 1)] {
        let mut one = One::holder(planted);
        one.command(Command::Wedge);
        let effects = one.install_next(placed(1, false), false);
        assert_eq!(one.guards(), guards);
        assert_eq!(effects.contains(&lost(1, 8, Loss::Elsewhere)), planted.is_none());
    }
    // Made anew here, it is another token.
    let mut one = One::holder(None);
    one.command(Command::Wedge);
    one.install_next(placed(0, true), false);
    assert_eq!(one.guards(), 0);
}

#[test]
fn a_guard_whose_lease_has_ended_is_lost_before_the_next_view() {
    let mut one = One::holder(None);
    one.command(Command::Wedge);
    one.now = seconds(15);
    let effects = one.install_next(placed(0, false), false);
    assert_eq!(effects[0], lost(1, 8, Loss::LeaseEnded));
}

#[test]
fn the_view_is_in_the_fence() {
    for (planted, first) in [(None, 1 << 40 | 1), (Some(Bug::ViewNotInFence), 1)] {
        let mut one = One::leased(0, planted);
        one.command(Command::Wedge);
        one.install_next(placed(0, false), false);
        assert_eq!(one.granted(1), Some(first));
    }
}

#[test]
fn there_are_no_fences_after_the_last_view() {
    let mut one = One::leased(0, None);
    one.view.number = (1 << 23) + 1;
    one.install(placed(0, false), false);
    one.echo(1, 10);
    let reason = Refusal::FencesUsedUp;
    let refused = Event::Refused { lock: name("a"), ticket: 1, reason };
    assert_eq!(one.lock(1, Wait::Queue), [Effect::Emit(refused)]);
    one.view.number = 1 << 23;
    let mut one = One { machine: One::new(0, 3, None).machine, ..one };
    one.install(placed(0, false), false);
    one.echo(1, 10);
    assert_eq!(one.granted(1), Some(((1 << 23) - 1) << 40 | 1));
}

/// ⌈5 s · 1.01 / 0.99⌉ and a tick.
const EMBARGO: Duration = Duration::from_nanos(5_101_010_103);

#[test]
fn a_token_that_is_made_anew_waits_for_the_embargo() {
    for (planted, wait) in [
        (None, Some(EMBARGO)),
        (Some(Bug::NoDriftMargin), Some(Duration::from_secs(5))),
        (Some(Bug::NoEmbargo), None),
    ] {
        let mut one = One::leased(0, planted);
        one.command(Command::Wedge);
        let effects = one.install_next(placed(0, true), false);
        assert!(effects.contains(&Effect::Emit(Event::Regenerated { lock: name("a") })));
        let effects = one.lock(1, Wait::Queue);
        let timer = |after| Effect::SetTimer { timer: Timer::Embargo, after };
        assert_eq!(fence(&effects).is_some(), wait.is_none());
        let Some(wait) = wait else { continue };
        assert!(effects.contains(&timer(wait)), "{effects:?}");
        let attempt = one.lock(2, Wait::Try);
        assert!(matches!(&attempt[0], Effect::Emit(Event::Refused { ticket: 2, .. })));
        one.now = seconds(14);
        assert_eq!(fence(&one.echo(1, 14)), None);
        one.now = seconds(10) + wait;
        assert_eq!(fence(&one.fire(Timer::Embargo)), Some(1 << 40 | 1));
        // The first grant clears it.
        one.unlock(1);
        one.command(Command::Wedge);
        assert!(!one.machine.report().held[0].fresh);
    }
}

#[test]
fn who_joins_waits_for_the_embargo_too() {
    for planted in [None, Some(Bug::JoinerUnembargoed)] {
        let mut one = One::new(0, 3, planted);
        let placement = Placement { lost: false, ..placed(0, true) };
        one.install_next(placement, true);
        assert_eq!(one.granted(1).is_none(), planted.is_none());
        assert_eq!(one.machine.status().embargo_until > one.now, planted.is_none());
    }
    // Founders do not: there was nothing before.
    let mut one = One::new(0, 3, None);
    one.install(Placement::default(), false);
    assert_eq!(one.machine.status().embargo_until, Time::ZERO);
}

#[test]
fn a_second_loss_begins_the_embargo_anew() {
    let mut one = One::leased(0, None);
    one.install_next(placed(0, true), false);
    one.now = seconds(12);
    one.view.number = 3;
    one.install(placed(0, true), false);
    assert_eq!(one.machine.status().embargo_until, seconds(12) + EMBARGO);
    one.view.number = 4;
    one.now = seconds(13);
    one.install(Placement { lost: false, ..placed(0, true) }, false);
    assert_eq!(one.machine.status().embargo_until, seconds(12) + EMBARGO);
}

#[test]
fn what_is_unknown_may_have_been_lost() {
    for planted in [None, Some(Bug::UnknownNotFresh)] {
        let mut one = One::new(0, 3, planted);
        let me = home(&one.view, &name("a"));
        one = One::leased(me, planted);
        one.command(Command::Wedge);
        one.view.number = 2;
        one.install(Placement { lost: true, unknown_fresh: true, tokens: vec![] }, false);
        one.echo((me + 1) % 3, 10);
        assert_eq!(one.granted(1).is_none(), planted.is_none());
        assert!(one.has_token());
    }
}

#[test]
fn a_fresh_token_stays_fresh_on_its_way() {
    for planted in [None, Some(Bug::FreshForgotten)] {
        let mut one = One::leased(0, planted);
        one.install_next(Placement { lost: true, ..Placement::default() }, false);
        one.hear(1, pass(1, true));
        assert_eq!(one.granted(1).is_none(), planted.is_none());
    }
}

#[test]
fn a_home_creates_nothing_that_is_placed_elsewhere() {
    let at = One::new(0, 3, None).view;
    let me = home(&at, &name("a"));
    let mut one = One::leased(me, None);
    let holder = (me + 1) % 3;
    one.install_next(placed(holder as u16, false), false);
    let effects = one.wants(((me + 2) % 3) as u16);
    assert!(matches!(&effects[..], [Effect::Send { to: To::One(to), .. }] if *to == id(holder)));
    assert!(!one.has_token());
    // And it vouches for it at the next change.
    one.command(Command::Wedge);
    assert_eq!(one.machine.report().home, [name("a")]);
}

#[test]
fn who_waits_asks_anew_and_who_tries_does_not() {
    for (planted, requests) in [(None, 1), (Some(Bug::NotAskedAnew), 0)] {
        let lock = (0..100).map(|k| name(&format!("l{k}")));
        let mut one = One::leased(0, planted);
        let view = one.view.clone();
        let away = lock.clone().find(|lock| home(&view, lock) == 1).unwrap();
        for (ticket, wait) in [(1, Wait::Try), (2, Wait::Queue)] {
            one.command(Command::Lock { lock: away.clone(), ticket, wait });
        }
        one.view.number = 2;
        let effects = one.install(Placement::default(), false);
        let reason = Refusal::NotAvailable;
        let refused = Event::Refused { lock: away.clone(), ticket: 1, reason };
        assert_eq!(effects[0], Effect::Emit(refused));
        assert_eq!(sends(&effects), 2 + requests);
    }
}

#[test]
fn what_is_said_in_another_view_is_not_heard() {
    for planted in [None, Some(Bug::HearsOtherViews)] {
        let mut one = One::leased(0, planted);
        one.install_next(Placement::default(), false);
        let message = Message { view: 1, body: pass(1, false) };
        one.handle(Input::Message { from: id(1), message });
        assert_eq!(one.has_token(), planted.is_some());
    }
    // Nor is a view installed again.
    let mut one = One::holder(None);
    assert_eq!(one.install(Placement::default(), false), []);
    assert_eq!(one.guards(), 1);
}

#[test]
fn who_leaves_dismisses_its_clients() {
    let mut one = One::holder(None);
    one.lock(2, Wait::Queue);
    one.wants(2);
    let effects = one.command(Command::Leave);
    let released = Event::Released { lock: name("a"), ticket: 1, fence: 8 };
    let reason = Refusal::Leaving;
    let refused = |ticket| Event::Refused { lock: name("a"), ticket, reason };
    assert_eq!(effects[..2], [Effect::Emit(released), Effect::Emit(refused(2))]);
    assert_eq!((sends(&effects), one.has_token()), (1, false), "others still get it");
    assert_eq!(one.lock(3, Wait::Queue), [Effect::Emit(refused(3))]);
    // What nobody wants is placed by the next view.
    one.hear(1, Body::Pass { number: 2, lock: name("b"), token: Token::new(3, 0, false) });
    one.command(Command::Wedge);
    let report = one.machine.report();
    assert_eq!((report.held.len(), report.guards.len()), (1, 0));
}
