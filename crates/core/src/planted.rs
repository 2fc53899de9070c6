//! Deliberately broken variants of the rules: a check that never failed proves nothing.
//!
//! Each [`Bug`] leaves out one rule at the line that implements it, and names the rule. A driver
//! plants one with [`Context::planting`](crate::Context::planting); the tests of the simulator
//! demand that the invariant which the rule protects is then found broken. Without the feature
//! `planted`, which only tests enable, all of this compiles to nothing.

/// Declares the bugs and the list of them all, so that none can be left out of it.
macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $bug:ident,)*) => {
        /// A rule left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[doc = $doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$bug),*];

            /// The rule, and what happens without it.
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Self::$bug => concat!($($doc),*),)*
                }
            }
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
    /// Multicast, T5: a message is acknowledged when its first piece is here, or only a later one.
    HeaderIsReceipt,
    /// Multicast, T2: what a vector says is added to what is known, as if it were a difference.
    VectorsAdd,
    /// Multicast, T2: sending does not tick the clock.
    SendsWithoutTick,
    /// Multicast, T2: what comes in does not raise the clock.
    ClockStaysBehind,
    /// Multicast, T2: a frame without a message is answered by one.
    AnswersIdleFrames,
    /// Multicast, losses: what is not acknowledged is not sent again.
    NeverResends,
    /// Multicast, losses: what was sent again in vain is not sent once more.
    RepeatsOnce,
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
    /// Multicast, V2: who is wedged goes on receiving and acknowledging.
    WedgedReceives,
    /// Multicast, V2: who is wedged acknowledges nothing, but counts itself, and delivers.
    WedgedDelivers,
    /// Multicast, V2: what is fetched for a cut counts as received in the reports to later ballots.
    ReportGrows,
    /// Multicast, T6: a view ends with what all have received, not with what anybody has.
    CutIsLeast,
    /// Multicast, T6: the clock begins anew with a view, while those heard before go on to count.
    ClocksOutliveView,
    /// Multicast, T6: a joiner goes on from its own position, not from the base of the view.
    CountsForItself,
    /// Multicast, T7: the messages of a cut are said to be here before they are.
    GatheredEarly,
    /// Multicast, T6: a view ends here without the rest of the cut being delivered.
    ClosesUndelivered,
    /// Multicast, T10: what is in the cut is sent again in the next view, under new sequences.
    ResendsCut,
    /// Multicast, T8: what a former life has sent is sent anew before its end is known here.
    ResendsUnlearned,
    /// Multicast, V4: a joiner takes part before it has what comes before the view.
    SpeaksBehind,
    /// Multicast, V4: a joiner learns what belongs to the view from others, and receives it too.
    LearnsBeyondBase,
    /// Multicast, leaving: a member says that all is done before what it sent has its place.
    DrainsEarly,
    /// Multicast, T9: what is received is acknowledged, and what is sent leaves, before it is on disk.
    AcksBeforeDurable,
    /// Multicast, T9: a cut is accepted, or installed, before its messages are on disk here.
    AcceptsBeforeDurable,
    /// Multicast, T9: a wedged member reports what is not on disk, and others let go of it.
    ReportsBeforeDurable,
    /// Multicast, T9: a joiner takes part before what it has learned is on disk.
    CountsUnsavedLessons,
    /// Multicast, T9: the log lets go of what comes before a mark that is not on disk, or of what is
    /// not stable.
    TrimsEarly,
    /// Multicast, T9: who was started again does not report what its log holds.
    ForgetsLog,
    /// Multicast, T9: the order of another group, which was learned before, counts as that of a group
    /// whose first view has not begun here yet.
    RecallsForeignOrder,
    /// Multicast, T9: a log that lacks a message in the middle counts as all that was acknowledged.
    GapForgiven,
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
    /// Token ring, H1: who has no link to the receiver any more takes its passes back.
    TakesPassBack,
    /// Token ring, H1: a pass is sent once, acknowledged or not.
    PassSentOnce,
    /// Token ring, acknowledging: a repeated pass is not acknowledged again.
    RepetitionNotAnswered,
    /// Token ring, acknowledging: a token that comes back acknowledges all passes to that member.
    ReturnAcknowledgesAll,
    /// Token ring, H2: the home does not remember which tokens it has created.
    HomeForgets,
    /// Token ring, idle locks: a token is passed home and forgotten while a client has the lock.
    RetiresHeld,
    /// Token ring, idle locks: the home forgets its record while the token is elsewhere.
    RecordForgotten,
    /// Token ring, H10: the sequences of tokens that were forgotten are forgotten, too.
    FloorForgotten,
    /// Token ring, H10: grants are counted by each member for itself, not in the token.
    FenceNotInToken,
    /// Token ring, H12: who sends a request on does not record it.
    RequestNotRecorded,
    /// Token ring, H13: request numbers begin at 1 again for each request.
    RequestNumbersReused,
    /// Token ring, H16: a token goes to a member that cannot be reached.
    PassIntoTheBlue,
    /// Token ring, §5, rule 3: the token goes to the last waiting member in ring order.
    FarthestFirst,
    /// Token ring, §5, rule 3: a member serves all its waiters before it passes on.
    EndlessTurn,
    /// Token ring: a token that a client holds is passed on to who waits.
    PassedWhileHeld,
    /// Token ring: the last hop of a round of a circulating token is not counted.
    HopNotCounted,
    /// Token ring, H17: what is said in another view counts.
    HearsOtherViews,
    /// Token ring, §5: who waits when a view begins does not ask anew.
    NotAskedAnew,
    /// Token ring, V2: who is wedged grants.
    GrantsWedged,
    /// Token ring, V2: who is wedged passes tokens on.
    PassesWedged,
    /// Token ring, V2: who is wedged accepts and acknowledges tokens.
    AcceptsWedged,
    /// Token ring, H1: a pass that has arrived, and is not acknowledged, counts as in flight.
    ReceivedIsInFlight,
    /// Token ring, H1: what was passed to a life that is lost is given back to who passed it.
    LostPassGoesBack,
    /// Token ring, H1: of two tokens that are reported the earlier one goes on.
    SmallestSequence,
    /// Token ring, H2: a token that is created on demand, where one may have been lost, is not fresh.
    UnknownNotFresh,
    /// Token ring, H2: with the next view it is forgotten that some token may have been lost.
    UnknownForgotten,
    /// Token ring, H3: a member without memory of the locks counts as one that has reported.
    RestartVouches,
    /// Token ring, H5: the lease is counted from when an echo comes in.
    LeaseByReceipt,
    /// Token ring, H6: who is wedged goes on echoing.
    EchoesWedged,
    /// Token ring, H6: who is wedged goes on voting for itself.
    VotesWedged,
    /// Token ring, H7: a guard whose lease has ended is valid again when the lease is renewed.
    GuardRevives,
    /// Token ring, H7: who is left out keeps its guards.
    GuardOutlivesLife,
    /// Token ring, H7: a guard is kept although the token was placed elsewhere.
    GuardOutlivesToken,
    /// Token ring, H10: the view is left out of the fence.
    ViewNotInFence,
    /// Token ring, §4, constants: nothing is added to the embargo for clocks that differ.
    NoDriftMargin,
    /// Token ring, §4, rule 2: installing a view gives a lease.
    InstallRenewsLease,
    /// Token ring, §4, rule 3: a lock is granted without a lease.
    GrantsWithoutLease,
    /// Token ring, §4, rule 4: there is no embargo when a life was lost.
    NoEmbargo,
    /// Token ring, §4, rule 4: there is no embargo for who joins.
    JoinerUnembargoed,
    /// Token ring, §4, rule 4: whoever gets a fresh token takes it for an old one.
    FreshForgotten,

    /// Founding, S3: a yes changes to a walk with a larger index, too.
    YesToLarger,
    /// Founding, V8: who sends a walk on does not give its own up.
    YesNotKept,
    /// Founding, V8: who is started again says that the first of the list has founded the group.
    FounderForgotten,
    /// Founding, V8: a yes is not saved, and nobody knows of it after a restart.
    YesNotSaved,
    /// Founding, S3: a yes that was given up is given again.
    ForgottenAgain,
    /// Founding, V8: who is active says yes to another walk.
    ActiveSaysYes,
    /// Founding, S3: who is active does not answer a second start.
    SecondStartIgnored,
    /// Founding, V8: a view is used before a majority is known to be active.
    UsedEarly,
    /// Founding, H3: another life of a member takes its place in the view.
    LifeNotChecked,
    /// Founding, rule 6: lock and order hear of a link before the peer says that it is active.
    LinkBeforeActive,

    /// Views, V1: what was accepted is not kept, and a later ballot is not told of it.
    AcceptedNotKept,
    /// Views, V1: half of the members decide, whichever half it is.
    HalfDecides,
    /// Views, V3: a value that may have been decided is not proposed again, but made anew.
    ProposesAnew,
    /// Views, V3: a member that has not reported goes on.
    KeepsUnreported,
    /// Views, V4: newcomers may be more than the survivors.
    NewcomersOutvote,
    /// Views, V5: what members without memory report is taken for complete.
    AmnesiaForgiven,
    /// Views, V5: after a loss positions are given that may have been given before.
    CeilingIgnored,
    /// Views, V5: who was mute in the view counts as one that remembers it.
    MuteCounts,
    /// Views, V6: who was started again outside of the view is not heard by its members.
    RestoredUnheard,
    /// Views, V6: a new value is proposed without the messages of its cut.
    ProposesUngathered,
    /// Views, V6: who is started again waits for ever for the messages of a cut that nobody has.
    GathersForEver,
    /// Views, V6: who is started again has forgotten what it has promised and accepted.
    RestartForgets,
    /// Views, V6: who is started again knows of no life of its own but the one that saved.
    LivesForgotten,
    /// Views, V6: who is started again with its record speaks as if it remembered.
    RestartedSpeaks,
    /// Views, V10: who is without a quorum asks nobody but the members of its view what became of it.
    SeeksMembersOnly,
    /// Views, V10: who has installed the view late hears of a member that is there with its next beat only.
    FirstBeatUnanswered,
    /// Views, V10: nobody goes on with a change whose coordinator is gone.
    NobodyDrives,
    /// Views, T7: a value is accepted without the messages of its cut.
    AcceptsUngathered,

    /// Detector: a message that comes late over a closed link makes its sender up.
    UpWithoutLink,
    /// Detector: who has said goodbye is reported down when its link ends.
    GoodbyeForgotten,
    /// Detector: who was stopped blames the others for its own silence.
    BlamesOthers,
    /// Detector: a suspicion outlives the next message.
    SuspicionStays,
}

/// Whether bugs can be planted in this build.
pub const ENABLED: bool = cfg!(any(test, feature = "planted"));
