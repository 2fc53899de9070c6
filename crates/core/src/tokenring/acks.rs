//! Acknowledgements: late and cumulative, like those of TCP (RFC 1122, section 4.2.3.2).
//!
//! Who waits for a lock wants its token and nothing else: a message more for each hand-over would
//! wake two processes that have nothing to do. So one message answers for many. It leaves a while
//! after the first that it answers for; at the batch boundary when somebody waits for it, or it has
//! become much; and at once to whom a repetition shows to lack it. When the token rests, all is
//! acknowledged after that while, and then there is silence.

use super::{Body, Config, LockName, Received, Timer, TokenRing, links::PRESSING, lock::Lock};
use crate::{planted::Bug, protocol::Context};
use alloc::vec::Vec;
use core::time::Duration;

impl Config {
    /// How long an acknowledgement may wait: far less than the time after which it is missed.
    fn ack_delay(&self) -> Duration {
        self.repeat / 4
    }
}

impl TokenRing {
    /// Something is owed from now on.
    fn acknowledge_later(&mut self, cx: &mut Context<'_, Self>) {
        if !self.acknowledging {
            self.acknowledging = true;
            cx.set_timer(Timer::Acknowledge, self.config.ack_delay());
        }
    }

    /// Something is owed that cannot wait.
    fn acknowledge_soon(&mut self, cx: &mut Context<'_, Self>) {
        self.acknowledging = true;
        cx.set_timer(Timer::Acknowledge, Duration::ZERO);
    }

    /// A pass from there has come, or come again.
    pub(super) fn owe_pass(&mut self, number: u64, again: bool, cx: &mut Context<'_, Self>) {
        if again && cx.has(Bug::RepetitionNotAnswered) {
            return;
        }
        if again || number.is_multiple_of(PRESSING) {
            self.acknowledge_soon(cx);
        } else {
            self.acknowledge_later(cx);
        }
    }

    /// The member at `requester` has asked for a lock. If the token is here, and does not go there
    /// at once, it is told that the token knows.
    pub(super) fn owe_recorded(
        &mut self,
        name: &LockName,
        requester: usize,
        again: bool,
        cx: &mut Context<'_, Self>,
    ) {
        let ring = self.ring.as_ref().expect("messages are of a view");
        let Some(lock) = self.locks.get_mut(name) else { return };
        let Some(number) = lock.known_want(requester) else { return };
        if again {
            return ring.send(requester, Body::Recorded { lock: name.clone(), number }, cx);
        }
        if lock.unanswered == 0 {
            self.unanswered.push(name.clone());
        }
        lock.unanswered |= 1 << requester;
        self.acknowledge_later(cx);
    }

    pub(super) fn on_acknowledge(&mut self, cx: &mut Context<'_, Self>) {
        self.acknowledging = false;
        let Some(ring) = &mut self.ring else { return };
        if ring.is_wedged() && !cx.has(Bug::AcceptsWedged) {
            return;
        }
        for position in 0..ring.links.len() {
            if let Some(received) = ring.links[position].pay_ack() {
                ring.send(position, Body::PassAck(received), cx);
            }
        }
        for name in self.unanswered.drain(..) {
            let Some(lock) = self.locks.get_mut(&name) else { continue };
            let asked = core::mem::take(&mut lock.unanswered);
            for position in (0..ring.links.len()).filter(|p| asked >> p & 1 == 1) {
                // Where the token has gone on, its next holder is asked again, if it takes long.
                if let Some(number) = lock.known_want(position) {
                    ring.send(position, Body::Recorded { lock: name.clone(), number }, cx);
                }
            }
        }
    }

    pub(super) fn on_pass_ack(
        &mut self,
        from: usize,
        received: &Received,
        cx: &mut Context<'_, Self>,
    ) {
        let ring = self.ring.as_mut().expect("messages are of a view");
        ring.links[from].acknowledge(received);
        // There may be room in the window again.
        self.serve_blocked(cx);
    }

    /// A token that has come back was received where this member has passed it to: that pass needs
    /// no acknowledgement any more. So of a busy lock one pass is kept at most, not one per turn.
    pub(super) fn acknowledge_return(&mut self, name: &LockName, cx: &Context<'_, Self>) {
        let (Some(ring), Some(lock)) = (&mut self.ring, self.locks.get(name)) else { return };
        let Some(link) = lock.passed_to.map(|to| &mut ring.links[to]) else { return };
        if cx.has(Bug::ReturnAcknowledgesAll) {
            link.acknowledge(&Received { up_to: link.last_pass(), also: Vec::new() });
        }
        link.acknowledge_one(lock.pass);
    }
}

impl Lock {
    /// The newest request of this member that the token here knows, as long as it waits.
    fn known_want(&self, member: usize) -> Option<u64> {
        let token = self.token.as_ref().filter(|token| token.is_wanted_by(member))?;
        Some(token.wanted[member])
    }
}
