//! One node, with what its driver and its application keep.

use crate::adapter::{NOW, Setup};
use rand_core::SeedableRng as _;
use roundelay_core::{
    founding,
    id::Life,
    multicast,
    node::{self, Node, Timer},
    protocol::{Context, Effect, EffectOf, Input, InputOf, Rng},
    tokenring::{self, LockName, Ticket},
    view::Record,
};
use roundelay_sim::Subject;
use std::collections::BTreeSet;

/// One node, with what its driver and its application keep.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Member<P> {
    pub(crate) machine: P,
    /// Which life of it this is, and how many there were before.
    pub(crate) life: Life,
    pub(crate) restarts: u8,
    /// What is on its disk.
    pub(crate) saved: Option<Box<Record>>,
    /// The timers that are set.
    pub(crate) timers: BTreeSet<Timer>,
    /// In how many inputs it has asked for random numbers.
    pub(crate) draws: u64,
    /// How much of its script the application has asked for.
    pub(crate) asked: usize,
    /// How many peers it was told not to reach any more.
    pub(crate) suspected: usize,
    /// The locks that the application has.
    pub(crate) held: Vec<(LockName, Ticket)>,
    pub(crate) told: Told,
}

/// What the application was told, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    /// The group exists.
    pub(crate) installed: bool,
    /// The newest view.
    pub(crate) views: u8,
    /// Starts that were refused.
    pub(crate) starts_refused: u8,
    pub(crate) granted: u8,
    pub(crate) released: u8,
    /// Locks and sends that were refused or cancelled.
    pub(crate) refused: u8,
    /// Arrivals of a circulating token.
    pub(crate) tokens: u8,
    pub(crate) delivered: u8,
    pub(crate) sent: u8,
    /// It has left, in order.
    pub(crate) left: bool,
}

impl<P: Subject> Member<P> {
    /// A member that has not started.
    pub(crate) fn new(config: node::Config) -> Self {
        Self {
            life: config.life,
            machine: P::new(config),
            restarts: 0,
            saved: None,
            timers: BTreeSet::new(),
            draws: 0,
            asked: 0,
            suspected: 0,
            held: Vec::new(),
            told: Told::default(),
        }
    }

    /// Takes an input, and does what it leads to, but for sending.
    pub(crate) fn take(&mut self, input: InputOf<Node>, setup: &Setup<P>) -> Vec<EffectOf<Node>> {
        if let Input::Timer(timer) = &input {
            self.timers.remove(timer);
        }
        // A function of the state: who asks for the same number in the same state gets the same.
        let mut rng = Rng::seed_from_u64(self.machine.node().id().raw() ^ self.draws);
        let mut effects = Vec::new();
        let cx = Context::new(NOW, &mut rng, &mut effects);
        self.machine.handle(input, &mut cx.planting(setup.planted));
        if rng.get_word_pos() > 0 {
            self.draws += 1;
        }
        for effect in &effects {
            match effect {
                Effect::SetTimer { timer, .. } if (setup.fires)(timer) => {
                    self.timers.insert(*timer);
                }
                Effect::CancelTimer(timer) => {
                    self.timers.remove(timer);
                }
                Effect::Emit(event) => self.hear(event),
                Effect::Append(_) | Effect::Trim(_) => unreachable!("without a log"),
                Effect::Save(record) => self.saved = Some(record.clone()),
                Effect::SetTimer { .. } | Effect::Send { .. } => {}
            }
        }
        effects
    }

    fn hear(&mut self, event: &node::Event) {
        let told = &mut self.told;
        match event {
            node::Event::View { view, .. } => {
                told.installed = true;
                told.views = told.views.max(view.number as u8);
            }
            node::Event::Founding(founding::Event::Refused(_)) => told.starts_refused += 1,
            node::Event::Lock(tokenring::Event::Granted { lock, ticket, .. }) => {
                told.granted += 1;
                self.held.push((lock.clone(), *ticket));
            }
            node::Event::Lock(tokenring::Event::Released { lock, ticket, .. }) => {
                told.released += 1;
                self.held.retain(|held| *held != (lock.clone(), *ticket));
            }
            node::Event::Lock(tokenring::Event::Refused { .. })
            | node::Event::Order(multicast::Event::Refused { .. }) => told.refused += 1,
            node::Event::Lock(tokenring::Event::Token { .. }) => told.tokens += 1,
            node::Event::Order(multicast::Event::Delivered(_)) => told.delivered += 1,
            node::Event::Order(multicast::Event::Sent { .. }) => told.sent += 1,
            node::Event::LeaveDone => told.left = true,
            _ => {}
        }
    }
}
