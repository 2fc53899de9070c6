//! Bugs of the gossip.

use roundelay_core::planted::Bug;

pub(crate) const TESTED: &[Bug] = &[];
