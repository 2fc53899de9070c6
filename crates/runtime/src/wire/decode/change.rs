//! Bytes to messages of the view change.

use super::{
    Checked, Known, check, required, to_life, to_lock_name, to_name, to_position, to_received,
    to_vector, to_view, v1,
};
use roundelay_core::{
    Life, NodeId,
    change::{Body as Core, JoinRefusal, Message, Report},
    multicast::{self, Cut},
    tokenring::{self, LockName, Placed, Placement, Sent},
    view::{Ballot, MEMBERS_MAX, Record, Value},
};

pub(super) fn to_change(message: v1::Change) -> Known<Message> {
    use v1::change::Body;
    let Some(body) = message.body else { return Ok(None) };
    let body = match body {
        Body::Beat(beat) => Core::Beat {
            hears: beat.hears,
            joiners: to_lives(&beat.joiners)?,
            wedged: beat.wedged.map(to_ballot).transpose()?,
        },
        Body::Prepare(ballot) => Core::Prepare { ballot: to_ballot(ballot)? },
        Body::Promise(promise) => {
            let accepted = match promise.accepted {
                None => None,
                Some(proposal) => match to_proposal(proposal)? {
                    None => return Ok(None),
                    accepted => accepted.map(Box::new),
                },
            };
            Core::Promise {
                ballot: to_ballot(required(promise.ballot, "ballot")?)?,
                accepted,
                report: Box::new(to_report(required(promise.report, "report")?)?),
            }
        }
        Body::Refuse(ballot) => Core::Refuse { promised: to_ballot(ballot)? },
        Body::Accept(proposal) => match to_proposal(proposal)? {
            Some((ballot, value)) => Core::Accept { ballot, value: Box::new(value) },
            None => return Ok(None),
        },
        Body::Accepted(ballot) => Core::Accepted { ballot: to_ballot(ballot)? },
        Body::Decided(value) => match to_value(value)? {
            Some(value) => Core::Decided { value: Box::new(value) },
            None => return Ok(None),
        },
        Body::Ask(_) => Core::Ask,
        Body::Join(join) => {
            check(join.hears.len() <= MEMBERS_MAX, "list of members")?;
            Core::Join {
                name: to_name(&join.name)?,
                life: to_life(&join.life)?,
                next: join.next.as_deref().map(to_name).transpose()?,
                hears: join.hears.into_iter().map(NodeId::from_raw).collect(),
            }
        }
        Body::JoinRefused(reason) => match v1::JoinRefusal::try_from(reason) {
            Ok(v1::JoinRefusal::NameTaken) => Core::JoinRefused { reason: JoinRefusal::NameTaken },
            Ok(v1::JoinRefusal::Full) => Core::JoinRefused { reason: JoinRefusal::Full },
            Ok(v1::JoinRefusal::Unknown) | Err(_) => return Ok(None),
        },
        Body::Leave(_) => Core::Leave,
    };
    Ok(Some(Message { cluster: message.cluster, view: message.view, body }))
}

fn to_lives(lives: &[bytes::Bytes]) -> Checked<Vec<Life>> {
    check(lives.len() <= MEMBERS_MAX, "list of lives")?;
    lives.iter().map(|life| to_life(life)).collect()
}

fn to_ballot(ballot: v1::Ballot) -> Checked<Ballot> {
    Ok(Ballot { round: ballot.round, by: to_position(ballot.by)? })
}

fn to_proposal(proposal: v1::Proposal) -> Known<(Ballot, Value)> {
    let ballot = to_ballot(required(proposal.ballot, "ballot")?)?;
    let value = to_value(required(proposal.value, "value")?)?;
    Ok(value.map(|value| (ballot, value)))
}

/// (The view of a record that knows of none has number 0; of a message it is followed by nobody.)
fn to_value(value: v1::Value) -> Known<Value> {
    let Some(view) = to_view(required(value.view, "view")?)? else { return Ok(None) };
    let order = to_cut(required(value.order, "cut")?, view.len())?;
    let lock = to_placement(required(value.lock, "placement")?, view.len())?;
    Ok(Some(Value { view, order, lock, loss: value.loss }))
}

/// None says something that only a newer version understands.
pub(crate) fn to_record(record: v1::Record) -> Known<Record> {
    let Some(installed) = to_value(required(record.installed, "value")?)? else { return Ok(None) };
    let accepted = match record.accepted {
        None => None,
        Some(proposal) => match to_proposal(proposal)? {
            None => return Ok(None),
            accepted => accepted,
        },
    };
    let promised = record.promised.map(to_ballot).transpose()?;
    let (cluster, lives, ceiling) = (record.cluster, to_lives(&record.lives)?, record.ceiling);
    Ok(Some(Record { cluster, lives, installed, promised, accepted, ceiling }))
}

/// Where a view of so many members begins. A group without an order has a cut of nothing.
fn to_cut(cut: v1::Cut, members: usize) -> Checked<Cut> {
    check(cut.ends.len() == cut.stable.len(), "cut")?;
    check(cut.begins.is_empty() || cut.begins.len() == members, "cut")?;
    Ok(Cut {
        ends: to_vector(cut.ends)?,
        stable: to_vector(cut.stable)?,
        begins: cut.begins,
        clock: cut.clock,
        position: cut.position,
        lost: cut.lost,
    })
}

/// Tokens in a view of so many members.
fn to_placement(placement: v1::Placement, members: usize) -> Checked<Placement> {
    let tokens = placement.tokens.into_iter().map(|token| {
        let at = to_position(token.at)?;
        check(usize::from(at) < members, "position")?;
        Ok(Placed { lock: to_lock_name(&token.lock)?, at, hops: token.hops, fresh: token.fresh })
    });
    let tokens = tokens.collect::<Checked<Vec<_>>>()?;
    check(tokens.windows(2).all(|pair| pair[0].lock < pair[1].lock), "placement")?;
    Ok(Placement { tokens, lost: placement.lost, unknown_fresh: placement.unknown_fresh })
}

fn to_report(report: v1::Report) -> Checked<Report> {
    Ok(Report {
        life: report.life.map(|life| to_life(&life)).transpose()?,
        leaves: report.leaves,
        order: report.order.map(to_order_report).transpose()?,
        lock: report.lock.map(to_lock_report).transpose()?,
        ceiling: report.ceiling,
    })
}

fn to_order_report(report: v1::OrderReport) -> Checked<multicast::Report> {
    Ok(multicast::Report { received: to_vector(report.received)?, clock: report.clock })
}

fn to_lock_report(report: v1::LockReport) -> Checked<tokenring::Report> {
    check(report.received.len() <= MEMBERS_MAX, "vector")?;
    let sent = report.sent.into_iter().map(|sent| {
        let token = to_known(&required(sent.token, "token")?)?;
        Ok(Sent { to: to_position(sent.to)?, number: sent.number, token })
    });
    Ok(tokenring::Report {
        held: report.held.iter().map(to_known).collect::<Checked<_>>()?,
        sent: sent.collect::<Checked<_>>()?,
        received: report.received.into_iter().map(to_received).collect::<Checked<_>>()?,
        home: to_lock_names(&report.home)?,
        guards: to_lock_names(&report.guards)?,
    })
}

fn to_known(token: &v1::KnownToken) -> Checked<tokenring::Known> {
    let v1::KnownToken { sequence, hops, fresh, .. } = *token;
    Ok(tokenring::Known { lock: to_lock_name(&token.lock)?, sequence, hops, fresh })
}

fn to_lock_names(names: &[String]) -> Checked<Vec<LockName>> {
    names.iter().map(|name| to_lock_name(name)).collect()
}
