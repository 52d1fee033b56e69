//! C8: what was acknowledged or shown is there after every crash, and nothing else is. C10: revisions and compact
//! revisions never go back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::pure::api::requests::{PutRequest, RequestOp, TxnRequest};
use crate::pure::types::Revision;
use crate::testing::history::{Answer, Call, Change, History, Outcome, Request, Truth, Violation};

/// C8 after a crash: `found` is what the recovered member has, `truth` what it had published before.
pub fn recovered(
    truth: &Truth,
    found: &BTreeMap<Revision, Vec<Change>>,
    revision: Revision,
    compact_revision: Revision,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    if revision < truth.revision() {
        let text =
            format!("revision {} was published, after a restart there is only {revision}", truth.revision());
        violations.push(Violation::new("C8", text));
    }
    for (at, published) in truth.revisions.iter().enumerate() {
        let main = Revision::try_from(at).expect("few revisions") + 2;
        let found = found.get(&main).map_or(&[][..], Vec::as_slice);
        let right = if main > compact_revision {
            found == published.changes
        } else {
            // Compaction may have taken some, but has put nothing in.
            found.iter().all(|change| published.changes.contains(change))
        };
        if !right {
            violations
                .push(Violation::new("C8", format!("revision {main} is not what it was before a restart")));
            break;
        }
    }
    violations.extend(erased(truth, found, compact_revision));
    violations
}

/// A compaction takes history alone: what lives at its revision stays.
fn erased(
    truth: &Truth,
    found: &BTreeMap<Revision, Vec<Change>>,
    compact_revision: Revision,
) -> Option<Violation> {
    let mut alive: BTreeMap<&Bytes, &Change> = BTreeMap::new();
    let compacted = usize::try_from(compact_revision - 1).unwrap_or(0).min(truth.revisions.len());
    for change in truth.revisions[..compacted].iter().flat_map(|published| &published.changes) {
        alive.insert(&change.kv.key, change);
    }
    let gone = alive.values().find(|change| {
        let found = found.get(&change.kv.mod_revision).map_or(&[][..], Vec::as_slice);
        !change.is_delete && !found.contains(change)
    })?;
    let text = format!("{:?} lived at the compaction at {compact_revision} and is gone", gone.kv.key);
    Some(Violation::new("C8", text))
}

/// The puts that a request may make.
fn puts(request: &Request) -> Vec<&PutRequest> {
    fn of_txn<'a>(txn: &'a TxnRequest, puts: &mut Vec<&'a PutRequest>) {
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                RequestOp::Put(put) => puts.push(put),
                RequestOp::Txn(txn) => of_txn(txn, puts),
                RequestOp::None | RequestOp::Range(_) | RequestOp::DeleteRange(_) => {}
            }
        }
    }
    let mut all = Vec::new();
    match request {
        Request::Put(put) => all.push(put),
        Request::Txn(txn) => of_txn(txn, &mut all),
        _ => {}
    }
    all
}

/// C8 at the end: every acknowledged write is in the log of revisions where its answer said, and every put in the log
/// was asked for by somebody who was not refused.
pub fn ledger(history: &History, truth: &Truth) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut asked: BTreeSet<(&Bytes, &Bytes)> = BTreeSet::new();
    for call in &history.calls {
        if !matches!(call.outcome, Outcome::Refused(_)) {
            asked.extend(puts(&call.request).into_iter().map(|put| (&put.key, &put.value)));
        }
        violations.extend(lost(call, truth));
    }
    for (at, published) in truth.revisions.iter().enumerate() {
        for change in published.changes.iter().filter(|change| !change.is_delete) {
            if !asked.contains(&(&change.kv.key, &change.kv.value)) {
                let text = format!("revision {} has a put of {:?} that nobody made", at + 2, change.kv.key);
                violations.push(Violation::new("C8", text));
            }
        }
    }
    violations
}

fn lost(call: &Call, truth: &Truth) -> Option<Violation> {
    let Outcome::Answered { revision, answer } = &call.outcome else { return None };
    let changes = truth.at(*revision).map_or(&[][..], |published| &published.changes);
    let there = match (&call.request, answer) {
        (Request::Put(put), _) => changes
            .iter()
            .any(|change| !change.is_delete && change.kv.key == put.key && change.kv.value == put.value),
        (Request::Delete(_), Answer::Delete { deleted, .. }) if *deleted > 0 => {
            changes.iter().filter(|change| change.is_delete).count() as i64 == *deleted
        }
        // Whatever else was answered, its revision was there.
        _ => *revision <= truth.revision(),
    };
    (!there).then(|| {
        let text = format!(
            "client {} was told of revision {revision}, which is lost: {:?}",
            call.client, call.request
        );
        Violation::new("C8", text)
    })
}

/// The law of revisions: each one is some change, and carries its own number; no view is ahead of the log or behind it.
fn law(truth: &Truth) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (at, published) in truth.revisions.iter().enumerate() {
        let main = Revision::try_from(at).expect("few revisions") + 2;
        if published.changes.is_empty() {
            violations.push(Violation::new("C10", format!("revision {main} changed nothing")));
        }
        if let Some(change) = published.changes.iter().find(|change| change.kv.mod_revision != main) {
            let text = format!("revision {main} holds a change of revision {}", change.kv.mod_revision);
            violations.push(Violation::new("C10", text));
        }
    }
    for seen in &truth.seen {
        let published = truth.revisions.partition_point(|published| published.at <= seen.at);
        let last = Revision::try_from(published).expect("few revisions") + 1;
        if seen.revision != last {
            let text = format!("revision {} is shown, {last} is the last record", seen.revision);
            violations.push(Violation::new("C10", text));
        }
        if seen.compact_revision > seen.revision {
            violations.push(Violation::new("C10", format!("compacted above the last revision: {seen:?}")));
        }
    }
    violations
}

/// C10.
pub fn monotone(history: &History, truth: &Truth) -> Vec<Violation> {
    let mut violations = law(truth);
    for pair in truth.seen.windows(2) {
        if pair[1].revision < pair[0].revision || pair[1].compact_revision < pair[0].compact_revision {
            violations.push(Violation::new("C10", format!("{:?} came before {:?}", pair[0], pair[1])));
        }
    }
    let answered = |call: &&Call| matches!(call.outcome, Outcome::Answered { .. });
    for compact in history.calls.iter().filter(answered) {
        let Request::Compact(request) = &compact.request else { continue };
        let seen = truth.seen.iter().rev().find(|seen| seen.at <= compact.returned);
        if seen.is_none_or(|seen| seen.compact_revision < request.revision) {
            let text = format!("a compaction at {} was acknowledged and is not shown", request.revision);
            violations.push(Violation::new("C10", text));
        }
        for call in history.calls.iter().filter(answered).filter(|call| call.invoked > compact.returned) {
            let below = match &call.request {
                Request::Range(range) => range.revision > 0 && range.revision < request.revision,
                Request::Compact(later) => later.revision <= request.revision,
                _ => false,
            };
            if below {
                let text =
                    format!("answered below the compaction at {}: {:?}", request.revision, call.request);
                violations.push(Violation::new("C10", text));
            }
        }
    }
    violations
}
