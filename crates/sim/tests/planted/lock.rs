//! Bugs of the lock, of the founding that it stands on, and of the detector.

use crate::bent::{Bend, breaks};
use roundelay_core::{
    node::{self, Node},
    planted::Bug,
    protocol::{Effect, EffectOf, Input, InputOf},
    tokenring,
};
use roundelay_sim::scenario::Parts;

crate::planted! {
    in runs with Parts { lock: true, order: false, gossip: false };
    a_pass_taken_twice_is_found: DuplicatePass breaks "one_token" within 300 seeds,
    a_pass_taken_back_is_found: TakesPassBack breaks "one_token" within 200 seeds,
    a_pass_sent_once_is_found: PassSentOnce never_reaches "waits for lock" within 200 seeds,
    a_return_that_acknowledges_all_is_found:
        ReturnAcknowledgesAll never_reaches "waits for lock" within 1000 seeds,
    a_home_that_forgets_is_found: HomeForgets breaks "one_token" within 200 seeds,
    a_lock_forgotten_while_it_is_held_is_found: RetiresHeld breaks "exclusion" within 400 seeds,
    a_record_forgotten_alone_is_found: RecordForgotten breaks "one_token" within 200 seeds,
    a_forgotten_floor_is_found: FloorForgotten breaks "fences" within 200 seeds,
    a_fence_that_is_not_in_the_token_is_found: FenceNotInToken breaks "fences" within 200 seeds,
    a_request_that_nobody_records_is_found: RequestNotRecorded breaks "recorded" within 400 seeds,
    request_numbers_used_again_are_found:
        RequestNumbersReused never_reaches "waits for lock" within 200 seeds,
    a_pass_into_the_blue_is_found: PassIntoTheBlue breaks "ring_order" within 200 seeds,
    the_farthest_first_is_found: FarthestFirst breaks "ring_order" within 200 seeds,
    an_endless_turn_is_found: EndlessTurn breaks "bounded_turns" within 200 seeds,
    a_lock_passed_while_it_is_held_is_found: PassedWhileHeld breaks "exclusion" within 200 seeds,
    a_hop_that_is_not_counted_is_found: HopNotCounted breaks "circulation" within 200 seeds,
    what_is_said_in_another_view_is_found: HearsOtherViews breaks "one_token" within 1000 seeds,
    a_want_that_ends_with_its_view_is_found:
        NotAskedAnew never_reaches "waits for lock" within 200 seeds,
    an_unknown_token_made_too_soon_is_found: UnknownNotFresh breaks "fences" within 2000 seeds,
    a_lease_by_receipt_is_found: LeaseByReceipt breaks "fences" within 1000 seeds,
    a_fence_without_its_view_is_found: ViewNotInFence breaks "fences" within 200 seeds,
    a_grant_without_a_lease_is_found: GrantsWithoutLease breaks "exclusion" within 400 seeds,
    a_missing_embargo_is_found: NoEmbargo breaks "exclusion" within 1000 seeds,
    a_token_that_is_not_fresh_any_more_is_found:
        FreshForgotten breaks "exclusion" within 1000 seeds,
    newcomers_that_outvote_are_found: NewcomersOutvote breaks "one_chain" within 2000 seeds,
    a_member_without_a_report_is_found: KeepsUnreported breaks "one_chain" within 400 seeds,
    a_yes_to_a_larger_index_is_found: YesToLarger breaks "consent" within 200 seeds,
    a_yes_that_is_not_kept_is_found: YesNotKept breaks "consent" within 200 seeds,
    a_yes_given_again_is_found: ForgottenAgain breaks "consent" within 200 seeds,
    a_yes_of_who_is_active_is_found: ActiveSaysYes breaks "consent" within 500 seeds,
    a_second_start_without_an_answer_is_found:
        SecondStartIgnored never_reaches "became of its start" within 500 seeds,
    a_view_used_early_is_found: UsedEarly breaks "active_majority" within 200 seeds,
    another_life_of_a_member_is_found: LifeNotChecked breaks "one_chain" within 400 seeds,
    a_link_before_its_time_is_found: LinkBeforeActive breaks "ring_order" within 500 seeds,
    a_peer_up_without_a_link_is_found: UpWithoutLink breaks "peer_states" within 200 seeds,
    a_forgotten_goodbye_is_found: GoodbyeForgotten breaks "peer_states" within 200 seeds,
    a_suspicion_that_stays_is_found: SuspicionStays breaks "peer_states" within 200 seeds,
}

/// Too rare for seeds: single interleavings show them, in the tests of the core.
pub(crate) const SHOWN_BY_STEPS: &[Bug] = &[
    Bug::GrantsWedged,
    Bug::PassesWedged,
    Bug::AcceptsWedged,
    Bug::ReceivedIsInFlight,
    Bug::LostPassGoesBack,
    Bug::SmallestSequence,
    Bug::UnknownForgotten,
    Bug::RestartVouches,
    Bug::CountsUnsavedLessons,
    Bug::TrimsEarly,
    Bug::GapForgiven,
    Bug::RecallsForeignOrder,
    Bug::EchoesWedged,
    Bug::VotesWedged,
    Bug::GuardRevives,
    Bug::GuardOutlivesLife,
    Bug::GuardOutlivesToken,
    Bug::NoDriftMargin,
    Bug::InstallRenewsLease,
    Bug::JoinerUnembargoed,
    Bug::ReportGrows,
    Bug::LearnsBeyondBase,
    Bug::ProposesAnew,
    Bug::AcceptedNotKept,
    Bug::AmnesiaForgiven,
    Bug::MuteCounts,
    Bug::LivesForgotten,
    Bug::FounderForgotten,
    Bug::ProposesUngathered,
    Bug::SeeksMembersOnly,
    Bug::FirstBeatUnanswered,
];

/// Nothing finds these yet, or not for sure.
pub(crate) const NOT_FOUND_YET: &[Bug] = &[
    Bug::HalfDecides,
    Bug::RestoredUnheard,
    Bug::NobodyDrives,
    Bug::AcceptsUngathered,
    Bug::DrainsEarly,
    Bug::BlamesOthers,
    Bug::RepetitionNotAnswered,
];

/// Grants every lock that is asked for at once.
#[derive(Debug, Default)]
struct GrantsEverything {
    grants: Vec<EffectOf<Node>>,
}

impl Bend for GrantsEverything {
    fn input(&mut self, input: InputOf<Node>) -> Vec<InputOf<Node>> {
        if let Input::Command(node::Command::Lock(tokenring::Command::Lock {
            lock, ticket, ..
        })) = &input
        {
            let event = tokenring::Event::Granted { lock: lock.clone(), ticket: *ticket, fence: 1 };
            self.grants.push(Effect::Emit(node::Event::Lock(event)));
        }
        vec![input]
    }

    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        effects.splice(0..0, self.grants.drain(..));
    }
}

#[test]
fn two_holders_are_found() {
    breaks::<GrantsEverything>(50, &["exclusion", "answers", "fences"]);
}
