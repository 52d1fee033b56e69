//! Histories written by hand: legal ones that no checker may blame, illegal ones that the named checker must.
//! All are one small history with something changed.

use super::all;
use crate::pure::api::requests::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, WatchCreateRequest,
};
use crate::pure::types::Revision;
use crate::testing::history::{
    Answer, Call, Change, Event, Found, History, KeyValue, LeaseLife, Life, Outcome, Published, Refusal,
    Renewal, Request, Seen, Told, Truth, Watch, What,
};

const SECOND: u64 = 1_000_000_000;

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

fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
}

fn range(revision: Revision, serializable: bool) -> Request {
    Request::Range(RangeRequest { key: "a".into(), revision, serializable, ..RangeRequest::default() })
}

fn found(kv: KeyValue) -> Answer {
    Answer::Range(Found { kvs: vec![kv], more: false, count: 1 })
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

/// Calls: 0 and 1 put a, 2 reads it, 3 reads it serializably, 4 reads revision 2, 5 deletes b in vain, 6 grants a lease,
/// 7 puts b, 8 compacts at 2. The watch is of everything from 2 on.
fn base() -> (History, Truth) {
    let (a2, a3, b4) = (kv("a", 2, 2, 1, "1"), kv("a", 2, 3, 2, "2"), kv("b", 4, 4, 1, "3"));
    let delete = DeleteRangeRequest { key: "b".into(), ..DeleteRangeRequest::default() };
    let calls = vec![
        call(10, 20, put("a", "1"), 2, Answer::Put(None)),
        call(30, 40, put("a", "2"), 3, Answer::Put(None)),
        call(50, 60, range(0, false), 3, found(a3.clone())),
        call(61, 62, range(0, true), 3, found(a3.clone())),
        call(63, 64, range(2, false), 3, found(a2.clone())),
        call(65, 66, Request::Delete(delete), 3, Answer::Delete { deleted: 0, previous: Vec::new() }),
        call(67, 68, Request::Grant(LeaseGrantRequest { ttl: 2, id: 9 }), 3, Answer::Grant { id: 9, ttl: 2 }),
        call(70, 80, put("b", "3"), 4, Answer::Put(None)),
        call(
            90,
            100,
            Request::Compact(CompactionRequest { revision: 2, physical: false }),
            4,
            Answer::Compact,
        ),
    ];
    let request = WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        start_revision: 2,
        watch_id: 1,
        ..WatchCreateRequest::default()
    };
    let watch = Watch {
        request,
        sent: 11,
        created: Some(1),
        cancel_asked: false,
        told: vec![
            told(25, 2, events(vec![event(a2.clone())])),
            told(45, 3, events(vec![event(a3.clone())])),
            told(46, 3, What::Progress),
            told(85, 4, events(vec![event(b4.clone())])),
            told(8 * SECOND, 4, What::Progress),
        ],
        closed: None,
        asked_at_end: true,
    };
    let renewals = vec![Renewal { lease: 9, sent: SECOND, returned: SECOND + 5, ttl: Some(2) }];
    let changes = [(15, a2), (35, a3), (75, b4)];
    let revisions = changes.map(|(at, kv)| Published { at, changes: vec![Change { is_delete: false, kv }] });
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

type Edit = fn(&mut History, &mut Truth);

fn told_event(history: &mut History, at: usize) -> &mut Event {
    match &mut history.watches[0].told[at].what {
        What::Events { events, .. } => &mut events[0],
        other => unreachable!("{other:?} has no events"),
    }
}

fn answer(history: &mut History, at: usize, revision: Revision, answer: Answer) {
    history.calls[at].outcome = Outcome::Answered { revision, answer };
}

/// Name, the checker that has to find it (none: legal), what is changed.
const HISTORIES: &[(&str, Option<&str>, Edit)] = &[
    ("as it is", None, |_, _| {}),
    ("nobody heard of a write", None, |h, _| h.calls[0].outcome = Outcome::Unknown),
    ("nobody heard of two writes", None, |h, _| {
        h.calls[0].outcome = Outcome::Unknown;
        h.calls[1].outcome = Outcome::Unknown;
    }),
    ("a write that never was", None, |h, _| {
        let mut lost = call(71, 99, put("z", "9"), 0, Answer::Put(None));
        lost.outcome = Outcome::Unknown;
        h.calls.push(lost);
    }),
    ("calls overlap", None, |h, _| h.calls[2].invoked = 31),
    ("an old serializable read in another life", None, |h, _| {
        h.calls[3].life = 1;
        answer(h, 3, 2, found(kv("a", 2, 2, 1, "1")));
    }),
    ("no watch", None, |h, _| h.watches.clear()),
    ("the watch's connection was cut", None, |h, _| {
        h.watches[0].told.truncate(2);
        h.watches[0].closed = Some(50);
    }),
    ("the client ended the watch", None, |h, _| {
        h.watches[0].cancel_asked = true;
        h.watches[0].told.truncate(3);
        h.watches[0].told.push(told(50, 3, What::Canceled { compact_revision: 0 }));
    }),
    ("a compaction at the revision that is there", None, |h, _| {
        h.calls[8].outcome = Outcome::Unknown;
    }),
    ("no keepalive, and the lease ended after its time", None, |h, t| {
        h.renewals.clear();
        t.leases[0].gone = Some(2 * SECOND + SECOND / 2);
    }),
    ("a read above was refused", None, |h, _| {
        let mut future = call(101, 102, range(5, false), 0, Answer::Compact);
        future.outcome = Outcome::Refused(Refusal::FutureRevision);
        h.calls.push(future);
    }),
    ("a stale read", Some("C1"), |h, _| answer(h, 2, 2, found(kv("a", 2, 2, 1, "1")))),
    ("a wrong value", Some("C1"), |h, _| answer(h, 2, 3, found(kv("a", 2, 3, 2, "x")))),
    ("a wrong version", Some("C1"), |h, _| answer(h, 2, 3, found(kv("a", 2, 3, 1, "2")))),
    ("a read of nothing", Some("C1"), |h, _| answer(h, 2, 3, Answer::Range(Found::default()))),
    ("a wrong count", Some("C1"), |h, _| {
        let two = Found { kvs: vec![kv("a", 2, 3, 2, "2")], more: false, count: 2 };
        answer(h, 2, 3, Answer::Range(two));
    }),
    ("two writes of one revision", Some("C1"), |h, _| answer(h, 1, 2, Answer::Put(None))),
    ("a write before it was asked for", Some("C1"), |h, _| {
        (h.calls[0].invoked, h.calls[0].returned) = (41, 45);
    }),
    ("a revision that never was", Some("C1"), |h, _| answer(h, 2, 9, found(kv("a", 2, 3, 2, "2")))),
    ("a previous value that was not asked for", Some("C1"), |h, _| {
        answer(h, 1, 3, Answer::Put(Some(kv("a", 2, 2, 1, "1"))));
    }),
    ("a refusal without reason", Some("C1"), |h, _| {
        h.calls[4].outcome = Outcome::Refused(Refusal::FutureRevision);
    }),
    ("a lease not found that is there", Some("C1"), |h, _| {
        let mut refused = call(70, 71, put("c", "4"), 0, Answer::Put(None));
        if let Request::Put(put) = &mut refused.request {
            put.lease = 9;
        }
        refused.outcome = Outcome::Refused(Refusal::LeaseNotFound);
        h.calls.push(refused);
    }),
    ("a serializable read goes back", Some("C2"), |h, _| answer(h, 3, 2, found(kv("a", 2, 2, 1, "1")))),
    ("a serializable read of a wrong value", Some("C2"), |h, _| {
        answer(h, 3, 3, found(kv("a", 2, 3, 2, "x")))
    }),
    ("an old revision with a newer value", Some("C2"), |h, _| answer(h, 4, 3, found(kv("a", 2, 3, 2, "2")))),
    ("an old revision without its key", Some("C2"), |h, _| answer(h, 4, 3, Answer::Range(Found::default()))),
    ("an answer below the revision that was named", Some("C2"), |h, _| {
        answer(h, 4, 1, found(kv("a", 2, 2, 1, "1")));
    }),
    ("an event twice", Some("C3"), |h, _| {
        let again = h.watches[0].told[1].clone();
        h.watches[0].told.insert(2, again);
    }),
    ("events out of order", Some("C3"), |h, _| h.watches[0].told.swap(0, 1)),
    ("an event with a wrong value", Some("C3"), |h, _| told_event(h, 1).kv.value = "x".into()),
    ("an event with a wrong version", Some("C3"), |h, _| told_event(h, 1).kv.version = 7),
    ("a put told as a delete", Some("C3"), |h, _| told_event(h, 1).is_delete = true),
    ("an event before the start", Some("C3"), |h, _| h.watches[0].request.start_revision = 3),
    ("an event outside of the interval", Some("C3"), |h, _| h.watches[0].request.range_end = "b".into()),
    ("a filtered event", Some("C3"), |h, _| h.watches[0].request.filters.no_put = true),
    ("a fragment that nobody asked for", Some("C3"), |h, _| {
        if let What::Events { fragment, .. } = &mut h.watches[0].told[0].what {
            *fragment = true;
        }
    }),
    ("a missing previous value", Some("C3"), |h, _| h.watches[0].request.prev_kv = true),
    ("an event after the end", Some("C3"), |h, _| {
        h.watches[0].told.insert(1, told(30, 2, What::Canceled { compact_revision: 0 }));
    }),
    ("a missing event in the middle", Some("C4"), |h, _| drop(h.watches[0].told.remove(1))),
    ("a missing first event", Some("C4"), |h, _| drop(h.watches[0].told.remove(0))),
    ("never told of the last revision", Some("C4"), |h, _| h.watches[0].told.truncate(3)),
    ("canceled for no reason", Some("C4"), |h, _| {
        h.watches[0].told.truncate(2);
        h.watches[0].told.push(told(50, 3, What::Canceled { compact_revision: 0 }));
    }),
    ("canceled as compacted when it was not", Some("C4"), |h, _| {
        h.watches[0].told.truncate(2);
        h.watches[0].told.push(told(50, 3, What::Canceled { compact_revision: 9 }));
    }),
    ("never created", Some("C4"), |h, _| {
        h.watches[0].created = None;
        h.watches[0].told.clear();
    }),
    ("a bookmark before its event", Some("C5"), |h, _| h.watches[0].told.swap(1, 2)),
    ("a bookmark too high", Some("C5"), |h, _| h.watches[0].told[2].revision = 4),
    ("a bookmark that goes back", Some("C5"), |h, _| h.watches[0].told[4].revision = 2),
    ("no bookmark at the end", Some("C5"), |h, _| h.watches[0].told.truncate(4)),
    ("a bookmark before the start", Some("C5"), |h, _| {
        h.watches[0].told.insert(0, told(12, 0, What::Progress));
    }),
    ("a lease ends early", Some("C7"), |_, t| t.leases[0].gone = Some(2 * SECOND)),
    ("a lease ends at once", Some("C7"), |h, t| {
        h.renewals.clear();
        t.leases[0].gone = Some(90);
    }),
    ("a lease never ends", Some("C7"), |_, t| t.leases[0].gone = None),
    ("a lease ends late", Some("C7"), |_, t| t.leases[0].gone = Some(9 * SECOND)),
    ("a keepalive after the end", Some("C7"), |h, _| {
        h.renewals.push(Renewal { lease: 9, sent: 5 * SECOND, returned: 6 * SECOND, ttl: Some(2) });
    }),
    ("a keepalive of no lease", Some("C7"), |h, _| h.renewals[0].lease = 8),
    ("a keepalive that fails in vain", Some("C7"), |h, _| h.renewals[0].ttl = Some(0)),
    ("an acknowledged put is lost", Some("C8"), |_, t| drop(t.revisions.pop())),
    ("an acknowledged put is another", Some("C8"), |_, t| t.revisions[1].changes[0].kv.value = "x".into()),
    ("an acknowledged put is of another key", Some("C8"), |_, t| {
        t.revisions[1].changes[0].kv.key = "q".into()
    }),
    ("a put that nobody made", Some("C8"), |_, t| {
        let change = Change { is_delete: false, kv: kv("q", 5, 5, 1, "q") };
        t.revisions.push(Published { at: 200, changes: vec![change] });
    }),
    ("a put that was refused", Some("C8"), |h, _| h.calls[0].outcome = Outcome::Refused(Refusal::NoSpace)),
    ("an acknowledged delete is lost", Some("C8"), |h, _| {
        answer(h, 5, 3, Answer::Delete { deleted: 1, previous: Vec::new() });
    }),
    ("the revision goes back", Some("C10"), |_, t| t.seen[3].revision = 2),
    ("the compact revision goes back", Some("C10"), |_, t| t.seen[2].compact_revision = 3),
    ("a compaction that is not shown", Some("C10"), |_, t| {
        t.seen.pop();
    }),
    ("a read below the compaction", Some("C10"), |h, _| {
        h.calls.push(call(101, 102, range(1, false), 4, Answer::Range(Found::default())));
    }),
    ("a second compaction below", Some("C10"), |h, _| {
        let again = Request::Compact(CompactionRequest { revision: 2, physical: false });
        h.calls.push(call(101, 102, again, 4, Answer::Compact));
    }),
];

/// Judges every history; the problem, if it was judged wrongly.
pub fn judge_all() -> Vec<(String, Option<String>)> {
    let judge = |(name, wanted, edit): &(&str, Option<&str>, Edit)| {
        let (mut history, mut truth) = base();
        edit(&mut history, &mut truth);
        let found = all(&history, &truth);
        let problem = match wanted {
            None => found.first().map(|violation| format!("{violation:?}")),
            Some(checker) if found.iter().any(|violation| violation.checker == *checker) => None,
            Some(checker) => Some(format!("{checker} has nothing to say; {found:?}")),
        };
        ((*name).to_owned(), problem)
    };
    HISTORIES.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_history_is_judged_rightly() {
        let wrong: Vec<_> = super::judge_all().into_iter().filter(|(_, problem)| problem.is_some()).collect();
        assert_eq!(wrong, []);
    }
}
