//! Drives a node: the only place where its state machine meets time, sockets and callers.

use crate::{
    builder::{Plan, StartError},
    node::Node,
};

/// Starts the thread of a node, and returns once it listens.
pub(crate) async fn start(plan: Plan) -> Result<Node, StartError> {
    let _ = plan;
    Err(StartError::System(std::io::Error::other("to be written")))
}
