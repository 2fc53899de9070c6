//! What a member keeps per lock.

use super::{Event, LockName, Refusal, Ticket, Token, TokenRing};
use crate::{protocol::Context, time::Time};
use alloc::{collections::VecDeque, vec, vec::Vec};

/// One lock, as this member knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    /// The token, if it is here.
    pub(super) token: Option<Token>,
    /// Whether the lock is known to exist: its token has been here in this view, or this is its home
    /// and the token was placed with another member. Then nobody may create it (H2).
    pub(super) touched: bool,
    /// Who of this node's clients has the lock.
    pub(super) granted: Option<Grant>,
    /// Local waiters, first come first served.
    pub(super) waiters: VecDeque<Ticket>,
    /// Local clients that ask once and do not wait.
    pub(super) tries: Vec<Try>,
    /// The open request of this node.
    pub(super) request: Option<Request>,
    /// Per position: the newest request number that has passed here (§5, rule 2).
    pub(super) wanted: Vec<u64>,
    /// Where the token was passed last.
    pub(super) passed_to: Option<usize>,
    /// The number of that pass, if this node has made it; 0 if not.
    pub(super) pass: u64,
    /// The members that have asked and have not been told that the token knows: a bit per position.
    pub(super) unanswered: u64,
    /// How many more local waiters are served before the token goes on.
    pub(super) turn_left: usize,
    /// Hops of a circulating token when it was last here.
    pub(super) hops: u64,
    /// The sequence of the last grant known here.
    pub(super) sequence: u64,
    /// Whether something has happened since it was last looked at, and whether it will be again:
    /// idle locks are forgotten.
    pub(super) used: bool,
    pub(super) queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) ticket: Ticket,
    pub(super) fence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Try {
    pub(super) ticket: Ticket,
    pub(super) number: u64,
    pub(super) deadline: Time,
}

/// A want of this node that some token does or does not know about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) number: u64,
    /// The token has it: no need to repeat it.
    pub(super) recorded: bool,
    pub(super) sent: Time,
}

impl Lock {
    /// A lock of a view with `members` members, of which nothing is known.
    pub(super) fn new(members: usize) -> Self {
        Self {
            token: None,
            touched: false,
            granted: None,
            waiters: VecDeque::new(),
            tries: Vec::new(),
            request: None,
            wanted: vec![0; members],
            passed_to: None,
            pass: 0,
            unanswered: 0,
            turn_left: 0,
            hops: 0,
            sequence: 0,
            used: false,
            queued: false,
        }
    }

    /// Forgets all but the clients of this node: a view with `members` members begins.
    pub(super) fn begin_view(&mut self, members: usize) {
        let (granted, waiters) = (self.granted.take(), core::mem::take(&mut self.waiters));
        *self = Self { granted, waiters, ..Self::new(members) };
    }

    /// Nobody will answer these any more, or the answer is no.
    pub(super) fn refuse_tries(&mut self, name: &LockName, cx: &mut Context<'_, TokenRing>) {
        for attempt in self.tries.drain(..) {
            let (lock, ticket) = (name.clone(), attempt.ticket);
            cx.emit(Event::Refused { lock, ticket, reason: Refusal::NotAvailable });
        }
    }

    /// Whether a client of this node wants the lock.
    pub(super) fn is_wanted_here(&self) -> bool {
        !self.waiters.is_empty() || !self.tries.is_empty()
    }

    /// Remembers a request that passes here; in the token, if that is here too (§5, rules 2, 3).
    pub(super) fn record(&mut self, requester: usize, number: u64) {
        let wanted = &mut self.wanted[requester];
        *wanted = number.max(*wanted);
        if let Some(token) = &mut self.token {
            token.wanted[requester] = token.wanted[requester].max(number);
        }
    }

    /// Takes the token in: what was recorded here goes into it, and the turn of member `me`, which
    /// serves all that it has asked for so far, begins.
    pub(super) fn take_in(&mut self, mut token: Token, me: usize, turn: usize) {
        for (known, recorded) in token.wanted.iter_mut().zip(&self.wanted) {
            *known = (*known).max(*recorded);
        }
        if let Some(request) = self.request.take() {
            token.wanted[me] = token.wanted[me].max(request.number);
        }
        token.served[me] = token.wanted[me];
        self.hops = token.hops;
        self.sequence = token.sequence;
        self.turn_left = turn;
        self.touched = true;
        self.passed_to = None;
        self.pass = 0;
        self.token = Some(token);
    }
}

impl Token {
    /// The token of a lock at the beginning of a view with `members` members, or of its life.
    pub(super) fn new(members: usize, hops: u64, fresh: bool) -> Self {
        let zeros = vec![0; members];
        Self { sequence: 0, hops, wanted: zeros.clone(), served: zeros, fresh }
    }

    /// Whether the member at `position` waits.
    pub(super) fn is_wanted_by(&self, position: usize) -> bool {
        self.wanted[position] > self.served[position]
    }
}
