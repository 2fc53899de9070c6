//! What is put to the test: a node, or a node bent on purpose.

use roundelay_core::{
    node::{self, Node},
    protocol::Protocol,
};

/// A protocol that looks like a [`Node`] from outside. Besides `Node` itself these are the
/// deliberately broken variants that prove that the checks can fail.
pub trait Subject:
    Protocol<Message = node::Message, Timer = node::Timer, Command = node::Command, Event = node::Event>
{
    /// A node that has not started.
    fn new(config: node::Config) -> Self;

    /// The node inside.
    fn node(&self) -> &Node;
}

impl Subject for Node {
    fn new(config: node::Config) -> Self {
        Self::new(config)
    }

    fn node(&self) -> &Node {
        self
    }
}
