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
    /// Multicast, T3: a message is delivered before a majority has it.
    NoMajority,
}

/// Whether bugs can be planted in this build.
pub const ENABLED: bool = cfg!(any(test, feature = "planted"));
