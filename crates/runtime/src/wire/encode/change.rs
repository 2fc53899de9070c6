//! Messages of the view change to bytes.

use super::{from_life, from_received, from_view, v1};
use roundelay_core::{
    change::{Body as Core, JoinRefusal, Message, Report},
    multicast::{self, Cut},
    tokenring::{self, Known, LockName, Placement},
    view::{Ballot, Record, Value},
};

pub(super) fn from_change(message: &Message) -> v1::Change {
    use v1::change::Body;
    let body = match &message.body {
        Core::Beat { hears, joiners, wedged } => Body::Beat(v1::Beat {
            hears: *hears,
            wedged: wedged.map(from_ballot),
            joiners: joiners.iter().copied().map(from_life).collect(),
        }),
        Core::Prepare { ballot } => Body::Prepare(from_ballot(*ballot)),
        Core::Promise { ballot, accepted, report } => Body::Promise(v1::Promise {
            ballot: Some(from_ballot(*ballot)),
            accepted: accepted.as_deref().map(|(ballot, value)| from_proposal(*ballot, value)),
            report: Some(from_report(report)),
        }),
        Core::Refuse { promised } => Body::Refuse(from_ballot(*promised)),
        Core::Accept { ballot, value } => Body::Accept(from_proposal(*ballot, value)),
        Core::Accepted { ballot } => Body::Accepted(from_ballot(*ballot)),
        Core::Decided { value } => Body::Decided(from_value(value)),
        Core::Ask => Body::Ask(v1::Empty {}),
        Core::Join { name, life, next, hears } => Body::Join(v1::Join {
            name: name.to_string(),
            life: from_life(*life),
            next: next.as_ref().map(ToString::to_string),
            hears: hears.iter().map(|id| id.raw()).collect(),
        }),
        Core::JoinRefused { reason } => {
            let reason = match reason {
                JoinRefusal::NameTaken => v1::JoinRefusal::NameTaken,
                JoinRefusal::Full => v1::JoinRefusal::Full,
            };
            Body::JoinRefused(reason.into())
        }
        Core::Leave => Body::Leave(v1::Empty {}),
    };
    v1::Change { cluster: message.cluster, view: message.view, body: Some(body) }
}

fn from_ballot(ballot: Ballot) -> v1::Ballot {
    v1::Ballot { round: ballot.round, by: u32::from(ballot.by) }
}

fn from_proposal(ballot: Ballot, value: &Value) -> v1::Proposal {
    v1::Proposal { ballot: Some(from_ballot(ballot)), value: Some(from_value(value)) }
}

fn from_value(value: &Value) -> v1::Value {
    v1::Value {
        view: Some(from_view(&value.view)),
        order: Some(from_cut(&value.order)),
        lock: Some(from_placement(&value.lock)),
        loss: value.loss,
    }
}

pub(crate) fn from_record(record: &Record) -> v1::Record {
    v1::Record {
        cluster: record.cluster,
        installed: Some(from_value(&record.installed)),
        promised: record.promised.map(from_ballot),
        accepted: record.accepted.as_ref().map(|(ballot, value)| from_proposal(*ballot, value)),
        lives: record.lives.iter().copied().map(from_life).collect(),
        ceiling: record.ceiling,
    }
}

fn from_cut(cut: &Cut) -> v1::Cut {
    v1::Cut {
        ends: cut.ends.clone(),
        stable: cut.stable.clone(),
        begins: cut.begins.clone(),
        clock: cut.clock,
        position: cut.position,
        lost: cut.lost,
    }
}

fn from_placement(placement: &Placement) -> v1::Placement {
    let tokens = placement.tokens.iter().map(|token| v1::PlacedToken {
        lock: token.lock.to_string(),
        at: u32::from(token.at),
        hops: token.hops,
        fresh: token.fresh,
    });
    v1::Placement {
        tokens: tokens.collect(),
        lost: placement.lost,
        unknown_fresh: placement.unknown_fresh,
    }
}

fn from_report(report: &Report) -> v1::Report {
    v1::Report {
        life: report.life.map(from_life),
        leaves: report.leaves,
        order: report.order.as_ref().map(from_order_report),
        lock: report.lock.as_ref().map(from_lock_report),
        ceiling: report.ceiling,
    }
}

fn from_order_report(report: &multicast::Report) -> v1::OrderReport {
    v1::OrderReport { received: report.received.clone(), clock: report.clock }
}

fn from_lock_report(report: &tokenring::Report) -> v1::LockReport {
    let sent = report.sent.iter().map(|sent| v1::SentToken {
        to: u32::from(sent.to),
        number: sent.number,
        token: Some(from_known(&sent.token)),
    });
    v1::LockReport {
        held: report.held.iter().map(from_known).collect(),
        sent: sent.collect(),
        received: report.received.iter().map(from_received).collect(),
        home: report.home.iter().map(LockName::to_string).collect(),
        guards: report.guards.iter().map(LockName::to_string).collect(),
    }
}

fn from_known(token: &Known) -> v1::KnownToken {
    v1::KnownToken {
        lock: token.lock.to_string(),
        sequence: token.sequence,
        hops: token.hops,
        fresh: token.fresh,
    }
}
