//! C7: a lease never ends early, ends soon after it is due, and is not renewed after its end.

use crate::pure::types::LeaseId;
use crate::testing::history::{History, LeaseLife, Outcome, Request, Time, Truth, Violation};
use crate::testing::model::Model;

const SECOND: Time = 1_000_000_000;
/// Lateness that is allowed besides the promised second: the log, the network, turns.
const SLACK: Time = 500_000_000;
/// What a restart adds to a lease's time.
const ELECTION: Time = SECOND;

/// Judges all leases.
pub fn check(history: &History, truth: &Truth, model: &Model) -> Vec<Violation> {
    let mut violations = Vec::new();
    for life in &truth.leases {
        if truth.leases.iter().filter(|other| other.id == life.id).count() > 1 {
            // Which of its lives a keepalive meant is not known.
            continue;
        }
        violations.extend(early(history, life));
        violations.extend(late(history, truth, life));
        violations.extend(revived(history, life));
        violations.extend(left_behind(truth, model, life));
    }
    violations.extend(unknown(history, truth));
    violations
}

fn nanos(ttl: i64) -> Time {
    u64::try_from(ttl).unwrap_or(0) * SECOND
}

/// True if a client asked for the lease's end by then.
fn is_revoked(history: &History, lease: LeaseId, by: Time) -> bool {
    history.calls.iter().any(|call| {
        let revokes = matches!(&call.request, Request::Revoke(revoke) if revoke.id == lease);
        revokes && call.invoked <= by && !matches!(call.outcome, Outcome::Refused(_))
    })
}

fn early(history: &History, life: &LeaseLife) -> Option<Violation> {
    let gone = life.gone.filter(|gone| !is_revoked(history, life.id, *gone))?;
    let grants = history.calls.iter().filter(|call| {
        let grants = matches!(&call.request, Request::Grant(grant) if grant.id == life.id);
        grants && matches!(call.outcome, Outcome::Answered { .. })
    });
    let renewals = history.renewals.iter().filter(|renewal| {
        renewal.lease == life.id && renewal.ttl.is_some_and(|ttl| ttl > 0) && renewal.sent <= gone
    });
    let sent = grants.map(|call| call.invoked).chain(renewals.map(|renewal| renewal.sent)).max()?;
    (gone < sent + nanos(life.ttl)).then(|| {
        let text = format!("lease {} of {} s was renewed at {sent} and ended at {gone}", life.id, life.ttl);
        Violation::new("C7", text)
    })
}

fn late(history: &History, truth: &Truth, life: &LeaseLife) -> Option<Violation> {
    let end = life.gone.unwrap_or(truth.ended);
    // The clock may be wrong by 500 ppm, which the member adds.
    let ttl = nanos(life.ttl) + nanos(life.ttl) / 2_000;
    let renewals =
        history.renewals.iter().filter(|r| r.lease == life.id && r.ttl != Some(0) && r.sent <= end);
    let renewed = renewals.map(|renewal| renewal.returned.min(truth.ended)).max().unwrap_or(0);
    let lives = truth.lives.iter().filter(|l| l.ready >= life.from && l.ready <= end);
    let restarted = lives.map(|l| l.ready + ttl + ELECTION).max().unwrap_or(0);
    let due = (renewed.max(life.from) + ttl).max(restarted).max(truth.full_until);
    // While it was down nobody could end it, and the next start counts anew.
    let was_down = !truth.lives.iter().any(|l| l.ready <= due && due + SECOND + SLACK < l.ended);
    let many = truth.leases.len() as Time * SECOND / 1_000;
    let latest = due + SECOND + many + SLACK + truth.stalled;
    (end > latest && !was_down).then(|| {
        let text = format!("lease {} was due at {due} and is there until {end}", life.id);
        Violation::new("C7", text)
    })
}

fn revived(history: &History, life: &LeaseLife) -> Option<Violation> {
    let gone = life.gone?;
    let renewal = history.renewals.iter().find(|renewal| {
        renewal.lease == life.id && renewal.sent > gone && renewal.ttl.is_some_and(|ttl| ttl > 0)
    })?;
    let text = format!("lease {} ended at {gone} and was renewed at {}", life.id, renewal.sent);
    Some(Violation::new("C7", text))
}

/// A lease takes its keys with it.
fn left_behind(truth: &Truth, model: &Model, life: &LeaseLife) -> Option<Violation> {
    let gone = life.gone?;
    let published = truth.revisions.partition_point(|published| published.at <= gone);
    let keys = model.attached(life.id, i64::try_from(published).expect("few revisions") + 1);
    let key = keys.first()?;
    Some(Violation::new("C7", format!("lease {} ended at {gone} and left {key:?} behind", life.id)))
}

/// Keepalives that succeed for leases that never were, or fail for one that lives.
fn unknown(history: &History, truth: &Truth) -> Vec<Violation> {
    let mut violations = Vec::new();
    for renewal in &history.renewals {
        let alive = truth.leases.iter().any(|life| {
            life.id == renewal.lease
                && life.from < renewal.sent
                && life.gone.is_none_or(|gone| gone > renewal.returned)
        });
        let known = truth.leases.iter().any(|life| life.id == renewal.lease && life.from <= renewal.returned);
        let wrong = match renewal.ttl {
            Some(0) => alive,
            Some(_) => !known,
            None => false,
        };
        if wrong {
            let text =
                format!("the keepalive of lease {} at {} got {:?}", renewal.lease, renewal.sent, renewal.ttl);
            violations.push(Violation::new("C7", text));
        }
    }
    violations
}
