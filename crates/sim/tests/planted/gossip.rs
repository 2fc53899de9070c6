//! Bugs of the gossip.

use roundelay_core::planted::Bug;
use roundelay_sim::scenario::Parts;

crate::planted! {
    in runs with Parts { lock: false, order: false, gossip: true };
    a_rumor_taken_again_is_found: NoDeduplication breaks "no_duplicate_rumors" within 400 seeds,
    records_that_stay_at_home_are_found: RecordsStayAtHome never_rests "Digest" within 400 seeds,
    hashes_without_consequences_are_found: IgnoresHashes never_reaches "rumors of" within 400 seeds,
    hidden_gaps_are_found: DigestsHideGaps breaks "true_digests" within 400 seeds,
    half_a_digest_is_found: DigestsEndAtGaps never_reaches "rumors of" within 2000 seeds,
    losses_without_repair_are_found: NeverAsks never_reaches "rumors of" within 400 seeds,
    a_rumor_dropped_early_is_found: DropsUnconfirmed breaks "kept_rumors" within 2000 seeds,
}
