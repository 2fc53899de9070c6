//! The protocols of Roundelay, without any I/O.
//!
//! * [`tokenring`]: mutual exclusion by a token on a logical ring, with fencing tokens.
//! * [`gossip`]: rumors that reach every connected node exactly once.
//! * [`multicast`]: one order of messages at all members, by Lamport clocks.
//! * [`founding`] makes the group that lock and order stand on, [`change`] lets its members agree on
//!   who belongs to it from then on, [`detector`] watches the peers, and [`node`] composes all of
//!   them into what a process runs.
//!
//! Everything here is a [`protocol::Protocol`]: a deterministic state machine that takes one input
//! and returns a list of effects. There is no clock, no socket, no thread and no global randomness
//! in this crate, and since it is `no_std`, the compiler sees to that.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod change;
pub mod detector;
pub mod founding;
pub mod gossip;
pub mod id;
pub mod multicast;
pub mod node;
pub mod planted;
pub mod protocol;
#[cfg(feature = "recording")]
pub mod recording;
mod tally;
#[cfg(test)]
mod testing;
pub mod time;
pub mod tokenring;
pub mod trace;
pub mod view;

pub use id::{Life, Name, NodeId};
pub use protocol::{Context, Effect, EffectOf, Input, InputOf, Protocol, Rng, To};
pub use time::Time;
pub use view::{Member, View};
