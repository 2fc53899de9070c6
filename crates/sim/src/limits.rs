//! Bounds: nothing that a node keeps outgrows its settings, and in the end nothing is left over.

use crate::{invariant::Violation, scenario::Scenario};
use roundelay_core::{
    gossip,
    id::NodeId,
    multicast,
    node::{Config, Status},
    time::Time,
    tokenring::{LockStatus, Mode},
};

/// What a retained rumor costs beside its payload.
const RUMOR_COST: usize = 64;

/// Checks what `node` keeps against its settings. The cut that ends a view is delivered whether the
/// application reads or not: so many bytes were unread after the last one. What was sent while a view
/// had fewer `members`, the fewest so far, keeps its place when the shares get smaller.
pub fn check(
    node: NodeId,
    time: Time,
    config: &Config,
    status: &Status,
    (cut, members): (usize, usize),
) -> Result<(), Violation> {
    let order = config.group.as_ref().and_then(|group| group.order.as_ref());
    // Who was started again with its log has all in it that the log has of the view.
    let mute = status.change.as_ref().is_some_and(|change| change.mute);
    let order = order
        .zip(status.order.as_ref().filter(|_| !mute))
        .map(|(config, status)| of_order(config, status, cut, members));
    let gossip = config.gossip.as_ref().zip(status.gossip.as_ref());
    let gossip = gossip.map(|(config, status)| of_gossip(config, status));
    let broken = [order, gossip].into_iter().flatten().find_map(Result::err);
    broken.map_or(Ok(()), |what| {
        let (invariant, source) = ("limits", "crates/core/src/protocol.rs, 6: bounded");
        Err(Violation { invariant, source, time, node, what })
    })
}

/// What is still kept that should be gone when all is done: the buffers are empty again. `calm` if
/// each node has lived once.
pub fn leftovers(scenario: &Scenario, node: NodeId, status: &Status, calm: bool) -> Vec<String> {
    let mut left = Vec::new();
    let name = scenario.name(node);
    if let Some(lock) = status.lock.as_ref().filter(|_| scenario.forgets_locks()) {
        let circulates =
            |lock: &LockStatus| scenario.mode == Mode::Circulate && lock.lock.is_default();
        for lock in lock.locks.iter().filter(|lock| !circulates(lock)) {
            left.push(format!("{name} remembers {}", lock.lock));
        }
    }
    if let Some(order) = status.order.as_ref().filter(|_| scenario.order_prospers()) {
        if order.unstable_bytes > 0 || !order.queue.is_empty() {
            let (bytes, queue) = (order.unstable_bytes, order.queue.len());
            left.push(format!("{name} keeps {bytes} bytes of its own and {queue} messages"));
        }
        if order.ignored > 0 && calm {
            left.push(format!("{name} has ignored {} messages of the order", order.ignored));
        }
    }
    if let Some(gossip) = &status.gossip {
        if gossip.missing > 0 && scenario.gossip_retains() {
            left.push(format!("{name} misses {} rumors", gossip.missing));
        }
        // What is meant for an earlier life may reach the next one, which must ignore it.
        if gossip.ignored > 0 && calm {
            left.push(format!("{name} has ignored {} messages of the gossip", gossip.ignored));
        }
    }
    left
}

fn at_most(kept: usize, limit: usize, what: &str) -> Result<(), String> {
    if kept <= limit { Ok(()) } else { Err(format!("{kept} {what} are more than {limit}")) }
}

fn of_order(
    config: &multicast::Config,
    status: &multicast::Status,
    cut: usize,
    members: usize,
) -> Result<(), String> {
    if status.clocks.is_empty() {
        return Ok(()); // There is no view yet.
    }
    let message = config.message_bytes_max;
    // A message that is larger than the share of a member travels alone.
    let share = (config.unstable_bytes_max / status.clocks.len()).max(message);
    let unread = config.unread_bytes_max + message + multicast::DELIVERY_OVERHEAD;
    let largest = (config.unstable_bytes_max / members.max(1)).max(message);
    at_most(status.unstable_bytes, largest, "unstable bytes")?;
    at_most(status.unread_bytes, unread.max(cut), "unread bytes")?;
    for (sender, _) in &status.clocks {
        let of_sender = status.queue.iter().filter(|waiting| waiting.sender == *sender);
        let bytes = of_sender.map(|waiting| waiting.payload.len()).sum();
        // What is acknowledged, and what its window allows the sender beyond.
        at_most(bytes, 2 * share + message, "queued bytes")?;
    }
    Ok(())
}

fn of_gossip(config: &gossip::Config, status: &gossip::Status) -> Result<(), String> {
    // What may not be dropped is less than that, but for one own and one held rumor.
    let bytes = config.retention_bytes + 2 * (config.rumor_bytes_max + RUMOR_COST);
    at_most(status.retained_bytes, bytes, "retained bytes")?;
    at_most(status.origins, config.origins_max, "origins")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use roundelay_core::multicast::Waiting;

    fn scenario() -> Scenario {
        let prospers = |s: &Scenario| s.order_prospers() && s.parts.gossip && s.gossip_retains();
        let small = |config: &Config| {
            let order = config.group.as_ref().and_then(|group| group.order.as_ref());
            order.is_some_and(|order| order.unstable_bytes_max < 1 << 25)
        };
        let mut all = (0..999).map(Scenario::new);
        all.find(|s| prospers(s) && small(&s.nodes[0].config)).expect("one of them")
    }

    fn status(scenario: &Scenario) -> Status {
        let mut status = roundelay_core::node::Node::new(scenario.nodes[0].config.clone()).status();
        let order = status.order.as_mut().expect("it has the order");
        order.clocks = scenario.nodes.iter().map(|node| (node.id(), 0)).collect();
        status
    }

    fn judge(change: impl Fn(&mut multicast::Status, &mut gossip::Status)) -> (bool, usize) {
        let scenario = scenario();
        let node = scenario.nodes[0].id();
        let mut status = status(&scenario);
        let (order, gossip) = (status.order.as_mut().unwrap(), status.gossip.as_mut().unwrap());
        change(order, gossip);
        let config = &scenario.nodes[0].config;
        let within = check(node, Time::ZERO, config, &status, (0, scenario.nodes.len())).is_ok();
        (within, leftovers(&scenario, node, &status, true).len())
    }

    #[test]
    fn a_node_that_keeps_little_is_fine() {
        assert_eq!(judge(|_, _| ()), (true, 0));
    }

    #[test]
    fn too_much_of_anything_is_found() {
        let large = Bytes::from(vec![0; 1 << 20]);
        let sender = scenario().nodes[0].id();
        let waiting = Waiting { time: 1, sender, sequence: 1, payload: large };
        assert_eq!(judge(|order, _| order.unstable_bytes = 1 << 26), (false, 1));
        assert_eq!(judge(|order, _| order.unread_bytes = 1 << 26), (false, 0));
        assert_eq!(judge(|order, _| order.queue = vec![waiting.clone()]), (false, 1));
        assert_eq!(judge(|_, gossip| gossip.retained_bytes = 1 << 26), (false, 0));
        assert_eq!(judge(|_, gossip| gossip.origins = 1 << 20), (false, 0));
    }

    #[test]
    fn leftovers_are_found() {
        assert_eq!(judge(|order, _| order.unstable_bytes = 1), (true, 1));
        assert_eq!(judge(|order, _| order.ignored = 1), (true, 1));
        assert_eq!(judge(|_, gossip| gossip.missing = 1), (true, 1));
        assert_eq!(judge(|_, gossip| gossip.ignored = 1), (true, 1));
    }
}
