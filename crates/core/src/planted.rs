//! Deliberately broken variants of the rules: a check that never failed proves nothing.
//!
//! Each [`Bug`] leaves out one rule at the line that implements it, and names the rule. A driver
//! plants one with [`Context::planting`](crate::Context::planting); the tests of the simulator
//! demand that the invariant which the rule protects is then found broken. Without the feature
//! `planted`, which only tests enable, all of this compiles to nothing.

/// Declares the bugs and the list of them all, so that none can be left out of it.
macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident,)*) => {
        /// A rule left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$bug),*];
        }
    };
}

bugs! {
    /// Multicast, T1: a clock counts before everything that it speaks of is here.
    ClockBeforeSequence,
    /// Multicast, (b): a message is delivered although something smaller may come.
    NoClocks,
    /// Multicast, (c): a message is delivered before a majority has it.
    NoMajority,
    /// Multicast, T3: half of the members are a majority.
    HalfIsMajority,
    /// Multicast, T3: a majority of those that have not left is enough.
    MajorityOfPresent,
    /// Multicast, T5: a message is acknowledged when its first piece is here, or only a later one.
    HeaderIsReceipt,
    /// Multicast, T2: what a vector says is added to what is known, as if it were a difference.
    VectorsAdd,
    /// Multicast, T2: sending does not tick the clock.
    SendsWithoutTick,
    /// Multicast, T2: what comes in does not raise the clock.
    ClockStaysBehind,
    /// Multicast, T2: a frame without a message ticks the clock, and must be passed in time.
    FramesTick,
    /// Multicast, T2: a frame without a message is answered by one.
    AnswersIdleFrames,
    /// Multicast, losses: what is not acknowledged is not sent again.
    NeverResends,
    /// Multicast, losses (T10): what is sent again gets a new sequence.
    ResendsAnew,
    /// Multicast, windows: what is delivered here is not kept for those who lack it.
    ReleasesEarly,
    /// Multicast, windows (T7): a message is sent although it has no room in the share.
    ExceedsShare,
    /// Multicast, windows: more is delivered although the application does not read.
    DeliversUnread,
    /// Multicast, windows: a message goes before one that waits for its room.
    OvertakesParked,
    /// Multicast, leaving (1): a member leaves before all have what it sent.
    LeavesEarly,
    /// Multicast, leaving (2): who has told its last receipts goes on receiving.
    ReceivesFrozen,
    /// Multicast, leaving: the clock of who has left is waited for.
    WaitsForLeavers,
    /// Gossip, streams: a rumor that is known is taken again.
    NoDeduplication,
    /// Gossip, streams: nobody gets the record of an origin.
    RecordsStayAtHome,
    /// Gossip, repair: hashes that differ have no consequences.
    IgnoresHashes,
    /// Gossip, repair: a digest says that there are no gaps.
    DigestsHideGaps,
    /// Gossip, repair: a digest says nothing of what comes after the first gap.
    DigestsEndAtGaps,
    /// Gossip, repair: what is announced and does not come is not asked for.
    NeverAsks,
    /// Gossip, retention: own rumors may be dropped before anybody has them.
    DropsUnconfirmed,

    /// Token ring, H9: a pass that has arrived before is taken for a new one.
    DuplicatePass,
}

/// Whether bugs can be planted in this build.
pub const ENABLED: bool = cfg!(any(test, feature = "planted"));
