//! Bugs of the multicast.

use roundelay_core::planted::Bug;
use roundelay_sim::scenario::Parts;

crate::planted! {
    in runs with Parts { lock: false, order: true, gossip: false };
    a_clock_counted_early_is_found: ClockBeforeSequence breaks "one_order" within 400 seeds,
    a_delivery_without_clocks_is_found: NoClocks breaks "one_order" within 400 seeds,
    a_delivery_without_a_majority_is_found: NoMajority breaks "uniformity" within 400 seeds,
    a_half_as_majority_is_found: HalfIsMajority breaks "uniformity" within 2000 seeds,
    a_header_as_receipt_is_found: HeaderIsReceipt breaks "true_receipts" within 400 seeds,
    vectors_that_add_up_are_found: VectorsAdd breaks "uniformity" within 400 seeds,
    a_send_without_a_tick_is_found: SendsWithoutTick breaks "kept_clocks" within 400 seeds,
    a_clock_that_stays_behind_is_found: ClockStaysBehind breaks "causal_order" within 400 seeds,
    answers_to_idle_frames_are_found: AnswersIdleFrames never_rests "Clock" within 400 seeds,
    losses_without_repair_are_found: NeverResends never_reaches "messages" within 400 seeds,
    a_single_repetition_is_found: RepeatsOnce never_reaches "messages" within 400 seeds,
    a_new_number_for_an_old_message_is_found: ResendsAnew breaks "integrity" within 400 seeds,
    a_resend_buffer_emptied_early_is_found: ReleasesEarly never_reaches "messages" within 400 seeds,
    a_message_that_jumps_the_queue_is_found: OvertakesParked breaks "integrity" within 400 seeds,
    a_share_that_is_exceeded_is_found: ExceedsShare breaks "limits" within 400 seeds,
    deliveries_without_end_are_found: DeliversUnread breaks "limits" within 2000 seeds,
    what_is_received_after_the_promise_is_found:
        WedgedReceives breaks "true_receipts" within 400 seeds,
    a_delivery_after_the_promise_is_found: WedgedDelivers breaks "uniformity" within 1000 seeds,
    a_cut_that_is_too_short_is_found: CutIsLeast breaks "view_synchrony" within 400 seeds,
    clocks_of_another_view_are_found:
        ClocksOutliveView never_reaches "became of message" within 400 seeds,
    a_joiner_that_counts_for_itself_is_found: CountsForItself breaks "one_order" within 400 seeds,
    a_cut_that_is_not_here_is_found: GatheredEarly breaks "view_synchrony" within 400 seeds,
    a_cut_that_is_not_delivered_is_found: ClosesUndelivered breaks "view_synchrony" within 400 seeds,
    what_is_sent_again_though_it_is_in_the_cut_is_found:
        ResendsCut breaks "integrity" within 400 seeds,
    what_is_sent_again_too_soon_is_found: ResendsUnlearned breaks "integrity" within 2000 seeds,
    an_acknowledgement_before_the_disk_is_found:
        AcksBeforeDurable breaks "durability" within 400 seeds,
    a_cut_that_is_accepted_before_the_disk_has_it_is_found:
        AcceptsBeforeDurable breaks "durability" within 400 seeds,
    a_report_before_the_disk_is_found:
        ReportsBeforeDurable breaks "durability" within 400 seeds,
    a_log_that_is_not_reported_is_found: ForgetsLog breaks "durability" within 400 seeds,
    positions_given_again_after_a_loss_are_found:
        CeilingIgnored breaks "view_synchrony" within 400 seeds,
    a_yes_that_is_not_saved_is_found: YesNotSaved never_reaches "in no" within 1000 seeds,
    a_restart_that_speaks_is_found: RestartedSpeaks never_reaches "in view" within 400 seeds,
    a_restart_that_forgets_is_found: RestartForgets breaks "one_chain" within 400 seeds,
    a_restart_that_waits_for_ever_is_found:
        GathersForEver never_reaches "in view" within 1000 seeds,
    a_joiner_that_speaks_too_soon_is_found: SpeaksBehind breaks "integrity" within 2000 seeds,
}
