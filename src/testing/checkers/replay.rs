//! C1: one order of all calls explains every answer. Writes that were acknowledged carry their revision, so the order
//! of the log is known; what remains is to replay it, to find who made the revisions that nobody was told of, and to
//! compare with real time. C2: reads that are not linearizable, or name their revision.

use std::collections::{BTreeMap, BTreeSet};

use crate::pure::api::requests::{RangeRequest, RequestOp, TxnRequest};
use crate::pure::types::{LeaseId, Revision};
use crate::testing::history::{
    Answer, Call, History, Outcome, Published, Refusal, Request, Time, Truth, Violation,
};
use crate::testing::model::Model;

/// Who made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A call.
    Call(usize),
    /// The end of a lease.
    Expiry(LeaseId),
    /// One of several calls of unknown outcome.
    Unheard,
    /// Nobody.
    Unexplained,
}

/// The log, replayed.
pub struct Replay {
    /// Every revision.
    pub model: Model,
    /// Who made each, from revision 2 on.
    pub writers: Vec<Writer>,
}

fn is_read(request: &Request) -> Option<&RangeRequest> {
    match request {
        Request::Range(range) => Some(range),
        _ => None,
    }
}

/// A read that C2 judges by content.
fn is_c2(request: &Request) -> bool {
    is_read(request).is_some_and(|range| range.serializable || range.revision > 0)
}

/// Replays the log and judges all linearizable calls.
pub fn replay(history: &History, truth: &Truth) -> (Replay, Vec<Violation>) {
    let mut violations = Vec::new();
    let mut told: BTreeMap<Revision, Vec<usize>> = BTreeMap::new();
    for (number, call) in history.calls.iter().enumerate() {
        if let Some(revision) = call.revision().filter(|_| !is_c2(&call.request)) {
            told.entry(revision).or_default().push(number);
        }
    }
    let mut replay = Replay { model: Model::default(), writers: Vec::new() };
    // Revisions that only calls of unknown outcome explain, and which ones.
    let mut unheard: Vec<(Revision, Vec<usize>)> = Vec::new();
    judge_others(history, &told, &replay.model, None, &mut violations);
    for published in &truth.revisions {
        let revision = replay.model.revision() + 1;
        let mut writer = find_writer(history, truth, &replay.model, &told, published);
        if writer == Writer::Unexplained {
            let makers = unheard_makers(history, &replay.model, published);
            // One with the right effect and the wrong answer is found out below.
            writer = if makers.is_empty() {
                told_maker(history, &replay.model, &told, published)
            } else {
                Writer::Unheard
            };
            match writer {
                Writer::Unheard => unheard.push((revision, makers)),
                Writer::Unexplained => {
                    violations.push(unexplained(revision, published));
                    violations.extend(refused_writer(history, &replay.model, published));
                }
                Writer::Call(_) | Writer::Expiry(_) => {}
            }
        }
        replay.model.commit(&published.changes);
        replay.writers.push(writer);
        judge_others(history, &told, &replay.model, Some(writer), &mut violations);
    }
    for ((revision, _), call) in unheard.iter().zip(assign(&unheard)) {
        let at = usize::try_from(revision - 2).expect("a revision of the log");
        match call {
            Some(call) => replay.writers[at] = Writer::Call(call),
            None => violations.push(unexplained(*revision, &truth.revisions[at])),
        }
    }
    for (revision, calls) in told.range(truth.revision() + 1..) {
        let text = format!("{} answers tell of revision {revision}, which never was", calls.len());
        violations.push(Violation::new("C1", text));
    }
    violations.extend(real_time(history, &replay));
    violations.extend(outside_of_calls(history, truth, &replay));
    violations.extend(refusals(history, truth));
    (replay, violations)
}

fn keys_of(published: &Published) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned();
    published.changes.iter().map(|c| format!("{}={}", text(&c.kv.key), text(&c.kv.value))).collect()
}

/// True if an answer is what the model says.
fn agrees(call: &Call, right: &Answer) -> bool {
    let Outcome::Answered { answer, .. } = &call.outcome else { return false };
    match (answer, right) {
        // Short leases are raised to the minimum.
        (Answer::Grant { id, ttl }, Answer::Grant { id: wanted, ttl: least }) => id == wanted && ttl >= least,
        (answer, right) => answer == right,
    }
}

fn unexplained(revision: Revision, published: &Published) -> Violation {
    Violation::new("C8", format!("nobody can have made revision {revision}: {:?}", keys_of(published)))
}

/// True if a call makes just these changes as the next revision.
fn makes(call: &Call, model: &Model, published: &Published) -> bool {
    call.request.is_mutation() && model.evaluate(&call.request, model.revision()).1 == published.changes
}

/// Who made a revision, if it was a call with an answer, or the end of a lease.
fn find_writer(
    history: &History,
    truth: &Truth,
    model: &Model,
    told: &BTreeMap<Revision, Vec<usize>>,
    published: &Published,
) -> Writer {
    let revision = model.revision() + 1;
    let told = told.get(&revision).map_or(&[][..], Vec::as_slice);
    let explains = |number: &usize| {
        let call = &history.calls[*number];
        // A later call that changed nothing is told of the same revision, and may look as if it had made it.
        let in_time = call.invoked <= published.at;
        in_time
            && makes(call, model, published)
            && agrees(call, &model.evaluate(&call.request, revision - 1).0)
    };
    let candidates: Vec<usize> = told.iter().copied().filter(explains).collect();
    if let Some(number) = best_writer(history, model, told, published, &candidates) {
        return Writer::Call(number);
    }
    ended_lease(truth, model, published).map_or(Writer::Unexplained, Writer::Expiry)
}

/// A call that was told of the revision and has just its effect, whatever else it was told.
fn told_maker(
    history: &History,
    model: &Model,
    told: &BTreeMap<Revision, Vec<usize>>,
    published: &Published,
) -> Writer {
    let told = told.get(&(model.revision() + 1)).into_iter().flatten();
    let mut makers = told.filter(|number| makes(&history.calls[**number], model, published));
    makers.next().map_or(Writer::Unexplained, |number| Writer::Call(*number))
}

/// Calls of unknown outcome that can have made a revision.
fn unheard_makers(history: &History, model: &Model, published: &Published) -> Vec<usize> {
    let unheard = |number: &usize| {
        let call = &history.calls[*number];
        call.outcome == Outcome::Unknown && call.invoked <= published.at && makes(call, model, published)
    };
    (0..history.calls.len()).filter(unheard).collect()
}

/// Gives each revision a call of its own, as far as that goes: deletes of unknown outcome can each explain several
/// revisions, and each has happened once at most. (A maximum matching, by augmenting paths.)
fn assign(unheard: &[(Revision, Vec<usize>)]) -> Vec<Option<usize>> {
    fn find(
        at: usize,
        unheard: &[(Revision, Vec<usize>)],
        taken: &mut BTreeMap<usize, usize>,
        tried: &mut BTreeSet<usize>,
    ) -> bool {
        for call in &unheard[at].1 {
            if tried.insert(*call)
                && taken.get(call).copied().is_none_or(|other| find(other, unheard, taken, tried))
            {
                taken.insert(*call, at);
                return true;
            }
        }
        false
    }
    let mut taken = BTreeMap::new();
    for at in 0..unheard.len() {
        find(at, unheard, &mut taken, &mut BTreeSet::new());
    }
    let mut calls = vec![None; unheard.len()];
    taken.iter().for_each(|(call, at)| calls[*at] = Some(*call));
    calls
}

/// A call that got a definite error and made a revision all the same.
fn refused_writer(history: &History, model: &Model, published: &Published) -> Option<Violation> {
    let made = |call: &&Call| {
        let refused = matches!(call.outcome, Outcome::Refused(_)) && call.invoked <= published.at;
        refused && makes(call, model, published)
    };
    let call = history.calls.iter().find(made)?;
    let revision = model.revision() + 1;
    let text =
        format!("{:?} ended as {:?} and took effect as revision {revision}", call.request, call.outcome);
    Some(Violation::new("C1", text))
}

/// Of several calls that each explain a revision (a delete, and the revoke of a lease that the key was attached to),
/// the one after which all others were no-ops, as they were told.
fn best_writer(
    history: &History,
    model: &Model,
    told: &[usize],
    published: &Published,
    candidates: &[usize],
) -> Option<usize> {
    let first = *candidates.first()?;
    if candidates.len() == 1 {
        return Some(first);
    }
    let mut after = model.clone();
    after.commit(&published.changes);
    let fits = |writer: &usize| {
        told.iter().filter(|number| *number != writer).all(|number| {
            let call = &history.calls[*number];
            let (right, changes) = after.evaluate(&call.request, after.revision());
            changes.is_empty() && agrees(call, &right)
        })
    };
    Some(candidates.iter().copied().find(fits).unwrap_or(first))
}

/// The lease whose end explains a revision.
fn ended_lease(truth: &Truth, model: &Model, published: &Published) -> Option<LeaseId> {
    let revision = model.revision();
    let first = published.changes.first().filter(|change| change.is_delete)?;
    let lease = model.get(&first.kv.key, revision)?.lease;
    let gone = truth.leases.iter().any(|life| life.id == lease && life.gone == Some(published.at));
    let keys: Vec<_> = published.changes.iter().filter(|c| c.is_delete).map(|c| c.kv.key.clone()).collect();
    let all = keys.len() == published.changes.len() && keys == model.attached(lease, revision);
    (lease != 0 && gone && all).then_some(lease)
}

/// Calls that were told the model's revision and did not make it: they must have changed nothing.
fn judge_others(
    history: &History,
    told: &BTreeMap<Revision, Vec<usize>>,
    model: &Model,
    writer: Option<Writer>,
    violations: &mut Vec<Violation>,
) {
    let revision = model.revision();
    for number in told.get(&revision).into_iter().flatten() {
        let call = &history.calls[*number];
        let writes = writer == Some(Writer::Call(*number));
        let (right, changes) = model.evaluate(&call.request, if writes { revision - 1 } else { revision });
        if !writes && !changes.is_empty() {
            let text = format!("told of revision {revision}, which it did not make: {:?}", call.request);
            violations.push(Violation::new("C1", text));
        } else if !agrees(call, &right) {
            let text = format!(
                "at revision {revision} {:?} was answered {:?}, not {right:?}",
                call.request, call.outcome
            );
            violations.push(Violation::new("C1", text));
        }
    }
}

/// A write is published after it was asked for and before it is acknowledged.
fn outside_of_calls(history: &History, truth: &Truth, replay: &Replay) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (published, writer) in truth.revisions.iter().zip(&replay.writers) {
        let Writer::Call(number) = writer else { continue };
        let call = &history.calls[*number];
        let acknowledged = if call.revision().is_some() { call.returned } else { Time::MAX };
        if published.at < call.invoked || published.at > acknowledged {
            let text = format!(
                "{:?} lasted from {} to {} and was published at {}",
                call.request, call.invoked, call.returned, published.at
            );
            violations.push(Violation::new("C1", text));
        }
    }
    violations
}

/// Nothing that ended before something began may come after it.
fn real_time(history: &History, replay: &Replay) -> Vec<Violation> {
    // Position, invocation, return, call.
    let mut order: Vec<((Revision, bool), Time, Time, usize)> = Vec::new();
    let mut writers = BTreeMap::new();
    for (at, writer) in replay.writers.iter().enumerate() {
        if let Writer::Call(number) = writer {
            writers.insert(*number, Revision::try_from(at).expect("few revisions") + 2);
        }
    }
    for (number, call) in history.calls.iter().enumerate() {
        let serializable = is_read(&call.request).is_some_and(|range| range.serializable);
        let (position, returned) = match (writers.get(&number), call.revision()) {
            (Some(revision), Some(_)) => ((*revision, false), call.returned),
            (Some(revision), None) => ((*revision, false), Time::MAX),
            (None, Some(revision)) if !serializable => ((revision, true), call.returned),
            (None, _) => continue,
        };
        order.push((position, call.invoked, returned, number));
    }
    order.sort_unstable();
    let mut violations = Vec::new();
    let mut latest = (0, None);
    for group in order.chunk_by(|a, b| a.0 == b.0) {
        for (position, _, returned, number) in group {
            if *returned < latest.0 {
                let before = latest.1.map(|number: usize| &history.calls[number].request);
                let text = format!(
                    "{:?} ended before {before:?} began, but comes later in the order, at revision {}",
                    history.calls[*number].request, position.0
                );
                violations.push(Violation::new("C1", text));
            }
        }
        for (_, invoked, _, number) in group {
            if *invoked > latest.0 {
                latest = (*invoked, Some(*number));
            }
        }
    }
    violations
}

/// Leases that a request's puts name.
fn named_leases(request: &Request) -> Vec<LeaseId> {
    let of_txn = |txn: &TxnRequest| {
        let puts = txn.success.iter().chain(&txn.failure).filter_map(|op| match op {
            RequestOp::Put(put) => Some(put.lease),
            _ => None,
        });
        puts.collect()
    };
    match request {
        Request::Put(put) => vec![put.lease],
        Request::Txn(txn) => of_txn(txn),
        Request::Revoke(revoke) => vec![revoke.id],
        _ => Vec::new(),
    }
}

/// Every definite error needs its reason.
fn refusals(history: &History, truth: &Truth) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in &history.calls {
        let Outcome::Refused(refusal) = &call.outcome else { continue };
        let asked = match &call.request {
            Request::Range(range) => range.revision,
            // A compaction at the compact revision itself is refused too.
            Request::Compact(compact) => compact.revision - 1,
            _ => 0,
        };
        let legal = match refusal {
            Refusal::Compacted => history.calls.iter().any(|other| {
                let Request::Compact(compact) = &other.request else { return false };
                compact.revision > asked && other.invoked < call.returned && !std::ptr::eq(other, call)
            }),
            Refusal::FutureRevision => {
                let known = history.calls.iter().filter(|other| other.returned < call.invoked);
                let floor = known.filter_map(Call::revision).max().unwrap_or(1);
                let asked = if matches!(call.request, Request::Compact(_)) { asked + 1 } else { asked };
                asked > floor
            }
            Refusal::LeaseNotFound => named_leases(&call.request).into_iter().any(|lease| {
                let sure = |life: &&crate::testing::history::LeaseLife| {
                    life.id == lease
                        && life.from < call.invoked
                        && life.gone.is_none_or(|gone| gone > call.returned)
                };
                lease != 0 && !truth.leases.iter().any(|life| sure(&life))
            }),
            Refusal::LeaseExists => {
                let Request::Grant(grant) = &call.request else { return violations };
                truth.leases.iter().any(|life| {
                    life.id == grant.id
                        && life.from <= call.returned
                        && life.gone.is_none_or(|gone| gone >= call.invoked)
                })
            }
            Refusal::NoSpace => call.request.is_mutation(),
            Refusal::NotTaken => true,
            Refusal::Other => false,
        };
        if !legal {
            violations.push(Violation::new(
                "C1",
                format!("{:?} was refused as {refusal:?} for no reason", call.request),
            ));
        }
    }
    violations
}

/// C2.
pub fn serializable(history: &History, truth: &Truth, model: &Model) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in &history.calls {
        let (Some(range), Some(revision)) = (is_read(&call.request), call.revision()) else { continue };
        if !is_c2(&call.request) {
            continue;
        }
        if revision > truth.revision() || range.revision > revision {
            violations.push(Violation::new("C2", format!("{range:?} was answered at revision {revision}")));
            continue;
        }
        let (right, _) = model.evaluate(&call.request, revision);
        if !agrees(call, &right) {
            let text =
                format!("at revision {revision} {range:?} was answered {:?}, not {right:?}", call.outcome);
            violations.push(Violation::new("C2", text));
        }
    }
    // A member never shows less than it showed before in the same life.
    let mut lives: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
    for call in history.calls.iter().filter(|call| call.revision().is_some()) {
        lives.entry(call.life).or_default().push(call);
    }
    for calls in lives.values() {
        let mut ends: Vec<(Time, Revision)> =
            calls.iter().map(|call| (call.returned, call.revision().expect("filtered"))).collect();
        ends.sort_unstable();
        let mut floor = 0;
        for end in &mut ends {
            floor = end.1.max(floor);
            end.1 = floor;
        }
        for call in calls.iter().filter(|call| is_read(&call.request).is_some_and(|range| range.serializable))
        {
            let before = ends.partition_point(|(time, _)| *time < call.invoked);
            let floor = before.checked_sub(1).map_or(0, |at| ends[at].1);
            if call.revision().is_some_and(|revision| revision < floor) {
                let text = format!("{:?} was answered below {floor}, which was shown before", call.request);
                violations.push(Violation::new("C2", text));
            }
        }
    }
    violations
}
