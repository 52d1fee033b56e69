//! Histories written by hand, in pairs: a legal one that no checker may blame, and an illegal one that differs from it
//! in one thing, which the named checker must find and name.
//!
//! Owns: the pairs. Takes: nothing. Gives: what was judged wrongly.
//! Always true: each pair breaks one rule, and no other checker has more to say than the pair allows.
//! Not here: the rules.

mod calls;
mod durable;
mod leases;
mod queues;
mod reads;
mod traces;
mod watches;

use bytes::Bytes;

use super::all;
use crate::pure::api::requests::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCreateRequest,
};
use crate::pure::types::Revision;
use crate::testing::history::{
    Answer, Call, Change, Event, Found, History, KeyValue, LeaseLife, Life, Outcome, Published, Refusal,
    Renewal, Request, Seen, Told, Truth, Violation, Watch, What,
};

const SECOND: u64 = 1_000_000_000;

/// Changes the base history.
type Edit = fn(&mut History, &mut Truth);

/// A legal history and an illegal one.
struct Pair {
    checker: &'static str,
    /// What is wrong with the illegal one.
    name: &'static str,
    /// What the checker has to say.
    says: &'static str,
    /// Checkers that can't but complain too.
    also: &'static [&'static str],
    /// Makes the legal history from the base.
    legal: Edit,
    /// Makes the illegal one from the legal one.
    illegal: Edit,
}

const fn pair(
    checker: &'static str,
    name: &'static str,
    says: &'static str,
    legal: Edit,
    illegal: Edit,
) -> Pair {
    Pair { checker, name, says, also: &[], legal, illegal }
}

impl Pair {
    /// Others see it too.
    const fn also(self, also: &'static [&'static str]) -> Pair {
        Pair { also, ..self }
    }
}

/// One pair, judged.
pub struct Judged {
    /// The checker that it is for.
    pub checker: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What was judged wrongly.
    pub problem: Option<String>,
}

/// What is wrong with the judgement of a legal and of an illegal history.
fn problem(
    checker: &str,
    says: &str,
    also: &[&str],
    legal: &[Violation],
    illegal: &[Violation],
) -> Option<String> {
    if let Some(violation) = legal.first() {
        return Some(format!("the legal one is blamed: {violation:?}"));
    }
    if !illegal.iter().any(|found| found.checker == checker && found.text.contains(says)) {
        return Some(format!("{checker} does not say {says:?}, but {illegal:?}"));
    }
    let other = illegal.iter().find(|found| found.checker != checker && !also.contains(&found.checker))?;
    Some(format!("another checker complains: {other:?}"))
}

/// Judges every pair.
pub fn judge_all() -> Vec<Judged> {
    let pairs = [calls::PAIRS, reads::PAIRS, watches::PAIRS, leases::PAIRS, durable::PAIRS];
    let mut judged: Vec<Judged> = pairs
        .into_iter()
        .flatten()
        .map(|pair| {
            let (mut history, mut truth) = base();
            (pair.legal)(&mut history, &mut truth);
            let legal = all(&history, &truth);
            (pair.illegal)(&mut history, &mut truth);
            let illegal = all(&history, &truth);
            let problem = problem(pair.checker, pair.says, pair.also, &legal, &illegal);
            Judged { checker: pair.checker, name: pair.name, problem }
        })
        .collect();
    judged.extend(durable::judge_recovered());
    judged.extend(traces::judge());
    judged.extend(queues::judge());
    judged
}

fn kv(key: &'static str, create: Revision, main: Revision, version: i64, value: &'static str) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: create,
        mod_revision: main,
        version,
        value: value.into(),
        lease: 0,
    }
}

fn call(invoked: u64, returned: u64, request: Request, revision: Revision, answer: Answer) -> Call {
    Call { client: 0, life: 0, invoked, returned, request, outcome: Outcome::Answered { revision, answer } }
}

fn put_request(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put(put_request(key, value))
}

fn delete(key: &'static str) -> Request {
    Request::Delete(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() })
}

fn compact(revision: Revision) -> Request {
    Request::Compact(CompactionRequest { revision, physical: false })
}

/// A transaction of puts.
fn txn(puts: &[(&'static str, &'static str)]) -> Request {
    let success = puts.iter().map(|(key, value)| RequestOp::Put(put_request(key, value))).collect();
    Request::Txn(TxnRequest { success, ..TxnRequest::default() })
}

fn one(key: &'static str, revision: Revision) -> RangeRequest {
    RangeRequest { key: key.into(), revision, ..RangeRequest::default() }
}

/// All keys.
fn every(revision: Revision) -> RangeRequest {
    RangeRequest { range_end: "zz".into(), ..one("a", revision) }
}

fn range(revision: Revision, serializable: bool) -> Request {
    Request::Range(RangeRequest { serializable, ..one("a", revision) })
}

fn found(kv: KeyValue) -> Answer {
    list(vec![kv])
}

fn list(kvs: Vec<KeyValue>) -> Answer {
    let count = kvs.len() as i64;
    Answer::Range(Found { kvs, more: false, count })
}

fn told(at: u64, revision: Revision, what: What) -> Told {
    Told { at, revision, what }
}

fn events(events: Vec<Event>) -> What {
    What::Events { events, fragment: false }
}

fn event(kv: KeyValue) -> Event {
    Event { is_delete: false, kv, previous: None }
}

fn gone(key: &'static str, main: Revision) -> KeyValue {
    KeyValue { key: key.into(), mod_revision: main, ..KeyValue::default() }
}

fn wrote(kv: KeyValue) -> Change {
    Change { is_delete: false, kv }
}

fn removed(key: &'static str, main: Revision) -> Change {
    Change { is_delete: true, kv: gone(key, main) }
}

/// A watch of everything from `a` to `z`.
fn watch(start_revision: Revision, told: Vec<Told>) -> Watch {
    let request = WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        start_revision,
        watch_id: 1,
        ..WatchCreateRequest::default()
    };
    Watch {
        request,
        sent: 11,
        created: Some(1),
        cancel_asked: false,
        told,
        closed: None,
        asked_at_end: false,
    }
}

/// The three values of the base history.
fn values() -> [KeyValue; 3] {
    [kv("a", 2, 2, 1, "1"), kv("a", 2, 3, 2, "2"), kv("b", 4, 4, 1, "3")]
}

/// Calls: 0 and 1 put a, 2 reads it, 3 reads it serializably, 4 reads revision 2, 5 deletes b in vain, 6 grants a lease,
/// 7 puts b, 8 compacts at 2. The watch is of everything from 2 on.
fn base() -> (History, Truth) {
    let [a2, a3, b4] = values();
    let calls = vec![
        call(10, 20, put("a", "1"), 2, Answer::Put(None)),
        call(30, 40, put("a", "2"), 3, Answer::Put(None)),
        call(50, 60, range(0, false), 3, found(a3.clone())),
        call(61, 62, range(0, true), 3, found(a3.clone())),
        call(63, 64, range(2, false), 3, found(a2.clone())),
        call(65, 66, delete("b"), 3, Answer::Delete { deleted: 0, previous: Vec::new() }),
        call(67, 68, Request::Grant(LeaseGrantRequest { ttl: 2, id: 9 }), 3, Answer::Grant { id: 9, ttl: 2 }),
        call(70, 80, put("b", "3"), 4, Answer::Put(None)),
        call(90, 100, compact(2), 4, Answer::Compact),
    ];
    let watch = Watch {
        asked_at_end: true,
        ..watch(
            2,
            vec![
                told(25, 2, events(vec![event(a2.clone())])),
                told(45, 3, events(vec![event(a3.clone())])),
                told(46, 3, What::Progress),
                told(85, 4, events(vec![event(b4.clone())])),
                told(8 * SECOND, 4, What::Progress),
            ],
        )
    };
    let renewals = vec![Renewal { lease: 9, sent: SECOND, returned: SECOND + 5, ttl: Some(2) }];
    let changes = [(15, a2), (35, a3), (75, b4)];
    let revisions = changes.map(|(at, kv)| Published { at, changes: vec![wrote(kv)] });
    let seen = [(5, 1, -1), (15, 2, -1), (35, 3, -1), (75, 4, -1), (95, 4, 2)];
    let truth = Truth {
        revisions: revisions.to_vec(),
        leases: vec![LeaseLife { id: 9, ttl: 2, from: 67, gone: Some(3 * SECOND + SECOND / 2) }],
        lives: vec![Life { ready: 1, ended: u64::MAX }],
        seen: seen.map(|(at, revision, compact_revision)| Seen { at, revision, compact_revision }).to_vec(),
        ended: 10 * SECOND,
        ..Truth::default()
    };
    (History { calls, renewals, watches: vec![watch] }, truth)
}

fn told_event(history: &mut History, at: usize) -> &mut Event {
    match &mut history.watches[0].told[at].what {
        What::Events { events, .. } => &mut events[0],
        other => unreachable!("{other:?} has no events"),
    }
}

fn answer(history: &mut History, at: usize, revision: Revision, answer: Answer) {
    history.calls[at].outcome = Outcome::Answered { revision, answer };
}

/// The call that was added last.
fn last(history: &mut History) -> &mut Call {
    history.calls.last_mut().expect("there are calls")
}

/// Another call after all of the base history's: 10 long, the first from 110 on.
fn later(history: &mut History, request: Request, revision: Revision, answer: Answer) {
    let invoked = last(history).invoked + 20;
    history.calls.push(call(invoked, invoked + 10, request, revision, answer));
}

/// One that was refused.
fn refused(history: &mut History, request: Request, refusal: Refusal) {
    later(history, request, 0, Answer::Compact);
    last(history).outcome = Outcome::Refused(refusal);
}

/// A revision in the middle of the last call, told to the watch if it is about keys below `z`.
fn publish(history: &mut History, truth: &mut Truth, changes: Vec<Change>) {
    let at = last(history).invoked + 5;
    let compact_revision = truth.seen.last().expect("something was seen").compact_revision;
    let watch = &mut history.watches[0];
    let mut bookmark = watch.told.pop().expect("the base ends with a bookmark");
    let revision = truth.revision() + 1;
    let of = |change: &Change| Event { is_delete: change.is_delete, ..event(change.kv.clone()) };
    let news: Vec<Event> =
        changes.iter().filter(|change| change.kv.key < Bytes::from_static(b"z")).map(of).collect();
    if !news.is_empty() {
        watch.told.push(told(at + 1, revision, events(news)));
    }
    bookmark.revision = revision;
    watch.told.push(bookmark);
    truth.revisions.push(Published { at, changes });
    truth.seen.push(Seen { at, revision, compact_revision });
}

/// `c` and `d` are put in one revision, 5. Told to the watch in its told 4.
fn two_keys(history: &mut History, truth: &mut Truth) {
    let answers = vec![Answer::Put(None), Answer::Put(None)];
    later(history, txn(&[("c", "4"), ("d", "5")]), 5, Answer::Txn { succeeded: true, answers });
    publish(history, truth, vec![wrote(kv("c", 5, 5, 1, "4")), wrote(kv("d", 5, 5, 1, "5"))]);
}

/// `zz`, which no watch sees, is put as revision 5.
fn unwatched(history: &mut History, truth: &mut Truth) {
    later(history, put("zz", "4"), 5, Answer::Put(None));
    publish(history, truth, vec![wrote(kv("zz", 5, 5, 1, "4"))]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_history_is_judged_rightly() {
        let wrong: Vec<_> = judge_all()
            .into_iter()
            .filter_map(|judged| Some((judged.checker, judged.name, judged.problem?)))
            .collect();
        assert_eq!(wrong, []);
    }

    #[test]
    fn every_checker_has_ten_pairs_of_its_own() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        judge_all().iter().for_each(|judged| *counts.entry(judged.checker).or_default() += 1);
        let checkers: Vec<&str> = counts.keys().copied().collect();
        assert_eq!(checkers, ["C1", "C10", "C13", "C14", "C2", "C3", "C4", "C5", "C7", "C8"]);
        assert!(counts.values().all(|count| *count >= 10), "{counts:?}");
    }
}
