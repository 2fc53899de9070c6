//! A deterministic simulator for Roundelay's protocols, with the properties they must keep.
//!
//! * [`sim`] runs nodes in virtual time: one queue of events, one seed, one trace hash.
//! * [`network`] is a list of rules that decide what becomes of each message.
//! * [`fault`] names what can go wrong, and counts it.
//! * [`scenario`] draws a group, its faults and its work from a seed.
//! * [`invariant`] are the safety properties, checked after every step; [`goal`] are the liveness
//!   properties, which must be reached once the faults are over; [`limits`] are the bounds of what
//!   a node keeps.
//! * [`storm`] puts them together: one seed in, a report or the first violation out.
//! * [`attempt`] is a run in which a panic is a failure like any other.
//! * [`shrink`] makes the scenario of a failure smaller.
//! * [`trace`] writes a run as lines that one can read.
//!
//! Nothing here knows a real clock, a thread or a socket: the same seed always gives the same run.

#![warn(missing_docs)]

mod attempt;
pub mod dice;
pub mod fault;
pub mod goal;
pub mod invariant;
pub mod limits;
pub mod network;
pub mod scenario;
pub mod shrink;
pub mod sim;
pub mod storm;
pub mod subject;
pub mod trace;
pub mod work;

pub use attempt::attempt;
pub use dice::Dice;
pub use fault::Fault;
pub use network::{Network, Packet, Rule, Verdict};
pub use scenario::{Scenario, Selection};
pub use sim::{Doom, Simulator, Step};
pub use subject::Subject;
