//! What is delivered, on its way to the application, and what it has read of that.

use super::Driver;
use crate::{multicast::Delivered, node::Installed};
use roundelay_core::{multicast, node::Command};
use std::sync::Arc;

impl Driver {
    /// The application has read something, or has come or gone.
    pub(super) fn on_read(&mut self, mut bytes: usize) {
        let reads = self.shared.unread.has_reader();
        if reads && !self.reading {
            self.begin_reading();
        }
        if !reads && self.reading {
            let waiting = self.delivered.drain(..).map(|(_, bytes)| bytes);
            bytes += waiting.sum::<usize>() + self.shared.unread.clear();
        }
        self.reading = reads;
        if bytes > 0 {
            self.command(Command::Order(multicast::Command::Read { bytes }));
        }
    }

    /// Gives a new reader what is kept from where it goes on, with the view in its place.
    fn begin_reading(&mut self) {
        let unread = &self.shared.unread;
        let new = |view: &&Arc<Installed>| view.view.number > unread.last_view();
        let mut view = self.installed.as_ref().filter(new);
        let order = self.node.order().into_iter();
        for delivery in order.flat_map(|order| order.history(unread.next())) {
            if let Some(view) = view.take_if(|view| view.position < delivery.position) {
                self.delivered.push_back((Delivered::View(Arc::clone(view)), 0));
            }
            // Counted as read when it was delivered.
            self.delivered.push_back((Delivered::Message(delivery.clone()), 0));
        }
        if let Some(view) = view {
            self.delivered.push_back((Delivered::View(Arc::clone(view)), 0));
        }
    }

    /// What nobody wants to read does not hold up the senders.
    pub(super) fn count_as_read(&mut self) {
        while self.unclaimed > 0 {
            let bytes = std::mem::take(&mut self.unclaimed);
            self.command(Command::Order(multicast::Command::Read { bytes }));
        }
    }
}
