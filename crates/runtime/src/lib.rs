//! A lock, rumors and one order for a group of machines, without any server to run.
//!
//! A process embeds a [`Node`]: it listens on one port, keeps a link to each of its peers, and
//! takes part in up to three protocols.
//!
//! * [`Node::lock`]: mutual exclusion by a token on a ring; every grant carries a fencing token, and
//!   a [`Guard`] knows when it is lost.
//! * [`Node::publish`] and [`Node::subscribe`]: rumors that reach every connected node once.
//! * [`Node::multicast`] and [`Node::deliveries`]: one order of messages, the same everywhere, with
//!   the views in it: the group goes on without a member that dies, and takes it back in.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use roundelay::{Group, LockName, Node};
//!
//! let node = Node::builder("p1")
//!     .listen("127.0.0.1:7001")
//!     .peer("p2", "127.0.0.1:7002")
//!     .peer("p3", "127.0.0.1:7003")
//!     .group(Group::of(["p1", "p2", "p3"]))
//!     .start()
//!     .await?;
//! node.wait_installed().await;
//! let guard = node.lock(LockName::default_lock()).await?;
//! println!("held with fence {}", guard.fence());
//! guard.release().await;
//! node.leave().await;
//! # Ok(())
//! # }
//! ```
//!
//! All protocol logic is in [`core`]: this crate moves bytes, keeps time and wakes waiters. One
//! thread drives a node and all of its links: one of its own, whatever runtime the application
//! uses ([`Builder::start`]), or one that it shares with the application ([`Builder::spawn`]).

#![warn(missing_docs)]

pub use roundelay_core as core;

mod builder;
mod clock;
mod driver;
mod funnel;
mod gossip;
mod lock;
mod mailbox;
mod multicast;
mod node;
mod request;
mod shared;
mod storage;
mod traffic;
mod transport;
mod wire;

pub use builder::{Builder, Gossip, Group, Limits, StartError};
pub use gossip::{Lagged, PublishError, Rumor, Rumors};
pub use lock::{Guard, LockError, Loss};
pub use multicast::{Delivered, Deliveries, Multicast, SendError};
pub use node::{Event, Events, Installed, Node};
pub use roundelay_core::{
    Life, Name, NodeId, Time, View, change::JoinRefusal, detector::State as PeerState,
    founding::Trigger, gossip::Strategy, multicast::Delivery, tokenring::LockName, tokenring::Mode,
};
pub use storage::StorageError;
pub use traffic::Traffic;

/// The README's example, compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
