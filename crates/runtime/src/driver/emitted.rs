//! What the core emits, on its way to whoever waits for it.

use super::{Driver, Phase};
use crate::{
    gossip::Rumor,
    lock::Loss,
    multicast::Delivered,
    node::{Event, Installed},
};
use roundelay_core::{
    NodeId, change, detector, founding, gossip,
    multicast::{self, DELIVERY_OVERHEAD},
    node, tokenring,
};
use std::sync::Arc;

impl Driver {
    /// Passes an event on.
    pub(super) fn on_event(&mut self, event: node::Event) {
        match event {
            node::Event::Peer { peer, state } => self.on_peer_state(peer, state),
            node::Event::Founding(event) => self.on_founding(event),
            node::Event::Change(event) => self.on_change(event),
            node::Event::View { view, joins, loss, position } => {
                self.on_view(Installed { view, joins, loss, position });
            }
            node::Event::Out { left } => self.on_out(left),
            node::Event::Lock(event) => self.on_lock(event),
            node::Event::Order(event) => self.on_order(event),
            node::Event::Gossip(event) => self.on_gossip(event),
            node::Event::LeaveDone => self.phase = Phase::Over,
        }
    }

    fn on_peer_state(&mut self, peer: NodeId, state: detector::State) {
        let name = self.shared.name_of(peer);
        self.tell(&Event::Peer { peer, name, state });
    }

    fn on_founding(&mut self, event: founding::Event) {
        match &event {
            // Who asked for the start tells its user.
            founding::Event::Refused(error) if self.replies.start_refused(error) => {}
            _ => self.tell(&Event::Founding(event)),
        }
    }

    fn on_change(&mut self, event: change::Event) {
        match event {
            change::Event::Quorum { regained } => self.tell(&Event::Quorum { regained }),
            change::Event::JoinRefused(reason) => self.tell(&Event::JoinRefused(reason)),
            // The rest is between the protocols of the node.
            _ => {}
        }
    }

    fn on_view(&mut self, installed: Installed) {
        let view = &installed.view;
        view.members.iter().for_each(|member| self.shared.learn(&member.name));
        self.shared.installed.send_replace(Some(view.clone()));
        self.replies.installed(view);
        let installed = Arc::new(installed);
        if self.reading {
            self.delivered.push_back((Delivered::View(Arc::clone(&installed)), 0));
        }
        self.tell(&Event::View(Arc::clone(&installed)));
        self.installed = Some(installed);
    }

    fn on_out(&mut self, left: bool) {
        self.installed = None;
        self.shared.installed.send_replace(None);
        self.tell(&Event::Out { left });
    }

    fn on_lock(&mut self, event: tokenring::Event) {
        use tokenring::Event as Lock;
        match event {
            Lock::Granted { ticket, fence, .. } => self.replies.granted(ticket, fence),
            Lock::Released { ticket, .. } => self.replies.released(ticket),
            Lock::Refused { ticket, reason, .. } => self.replies.lock_refused(ticket, reason),
            Lock::Lost { ticket, reason, .. } => {
                self.shared.lease.lose(ticket, Loss::from(reason));
                self.tell(&Event::Lock(event));
            }
            event => self.tell(&Event::Lock(event)),
        }
    }

    fn on_order(&mut self, event: multicast::Event) {
        use multicast::Event as Order;
        match event {
            Order::Delivered(delivery) => {
                let bytes = delivery.payload.len() + DELIVERY_OVERHEAD;
                if self.reading {
                    self.delivered.push_back((Delivered::Message(delivery), bytes));
                } else {
                    self.unclaimed += bytes;
                }
            }
            Order::Sent { ticket, position } => self.replies.sent(ticket, position),
            Order::Refused { ticket, reason } => {
                self.refuse_send(ticket, reason);
            }
            Order::Missed { from, to } if self.reading => {
                self.delivered.push_back((Delivered::Missed { from, to }, 0));
            }
            // A later reader sees it by the positions; the rest is between the protocols.
            _ => {}
        }
    }

    /// This message is not sent, or nobody knows.
    pub(super) fn refuse_send(&mut self, ticket: u64, reason: multicast::Refusal) {
        if let Some(error) = self.replies.send_refused(ticket, reason, &self.shared.limits) {
            self.tell(&Event::NotSent(error));
        }
    }

    fn on_gossip(&mut self, event: gossip::Event) {
        match event {
            gossip::Event::Heard { origin, name, sequence, hops, payload } => {
                self.shared.learn(&name);
                let bytes = payload.len();
                let (origin, life) = (name.to_string(), origin.life);
                let rumor = Rumor { origin, life, sequence, hops, payload };
                self.shared.rumors.push(&rumor, bytes);
                self.told.rumors = true;
            }
            gossip::Event::Published { ticket, sequence } => {
                self.replies.published(ticket, sequence);
            }
            gossip::Event::Refused { ticket, reason } => {
                self.replies.publish_refused(ticket, reason, &self.shared.limits);
            }
            gossip::Event::NeighborUp(peer) => {
                self.tell(&Event::NeighborUp(peer));
            }
        }
    }

    /// Tells people about a link.
    pub(super) fn line(&mut self, line: String) {
        if let Some(line) = self.lines.admit(line, self.now) {
            self.tell(&Event::Link(line));
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        self.shared.events.push(event, 0);
        self.told.events = true;
    }
}
