//! Bugs of the multicast.

use roundelay_core::planted::Bug;
use roundelay_sim::scenario::Parts;

crate::planted! {
    in runs with Parts { lock: false, order: true, gossip: false };
    a_clock_counted_early_is_found: ClockBeforeSequence breaks "one_order" within 200 seeds,
    no_majority_is_found: NoMajority breaks "uniformity" within 200 seeds,
}
