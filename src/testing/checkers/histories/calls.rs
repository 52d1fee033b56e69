//! Pairs for C1.

use super::*;

/// Call 2 was sent before the second write's end and saw the first one's value.
fn old_read(history: &mut History, _: &mut Truth) {
    history.calls[2].invoked = 31;
    answer(history, 2, 2, found(kv("a", 2, 2, 1, "1")));
}

pub(super) const PAIRS: &[Pair] = &[
    pair("C1", "a stale read", "comes later in the order", old_read, |h, _| h.calls[2].invoked = 41),
    pair(
        "C1",
        "a write without effect before one that ended earlier",
        "comes later in the order",
        |h, _| (h.calls[5].invoked, h.calls[5].returned) = (75, 90),
        |h, _| h.calls[5].invoked = 81,
    ),
    pair(
        "C1",
        "a write published before it was asked for",
        "was published at 15",
        |h, _| h.calls[0].invoked = 15,
        |h, _| h.calls[0].invoked = 16,
    ),
    pair(
        "C1",
        "a write published after it was acknowledged",
        "was published at 20",
        |_, t| (t.revisions[0].at, t.seen[1].at) = (20, 20),
        |h, _| h.calls[0].returned = 19,
    ),
    pair(
        "C1",
        "a wrong value",
        "was answered",
        |h, _| {
            later(h, Request::Range(every(0)), 4, list(vec![kv("a", 2, 3, 2, "2"), kv("b", 4, 4, 1, "3")]))
        },
        |h, _| answer(h, 9, 4, list(vec![kv("a", 2, 3, 2, "2"), kv("b", 4, 4, 1, "x")])),
    ),
    pair(
        "C1",
        "a wrong version",
        "was answered",
        |h, _| later(h, Request::Range(one("b", 0)), 4, found(kv("b", 4, 4, 1, "3"))),
        |h, _| answer(h, 9, 4, found(kv("b", 4, 4, 2, "3"))),
    ),
    pair(
        "C1",
        "a read of nothing",
        "was answered",
        |h, _| later(h, Request::Range(one("c", 0)), 4, Answer::Range(Found::default())),
        |h, _| last(h).request = Request::Range(one("b", 0)),
    ),
    pair(
        "C1",
        "a wrong count",
        "was answered",
        |h, _| {
            let request = RangeRequest { count_only: true, ..every(0) };
            later(h, Request::Range(request), 4, Answer::Range(Found { count: 2, ..Found::default() }));
        },
        |h, _| answer(h, 9, 4, Answer::Range(Found { count: 3, ..Found::default() })),
    ),
    pair(
        "C1",
        "more that is not told",
        "was answered",
        |h, _| {
            let request = RangeRequest { limit: 1, ..every(0) };
            let found = Found { kvs: vec![kv("a", 2, 3, 2, "2")], more: true, count: 2 };
            later(h, Request::Range(request), 4, Answer::Range(found));
        },
        |h, _| {
            let found = Found { kvs: vec![kv("a", 2, 3, 2, "2")], more: false, count: 2 };
            answer(h, 9, 4, Answer::Range(found));
        },
    ),
    pair(
        "C1",
        "two writes of one revision",
        "which it did not make",
        |h, _| later(h, txn(&[]), 4, Answer::Txn { succeeded: true, answers: Vec::new() }),
        |h, _| {
            last(h).request = txn(&[("c", "4")]);
            answer(h, 9, 4, Answer::Txn { succeeded: true, answers: vec![Answer::Put(None)] });
        },
    ),
    pair(
        "C1",
        "a revision that never was",
        "which never was",
        |h, _| later(h, Request::Range(one("b", 0)), 4, found(kv("b", 4, 4, 1, "3"))),
        |h, _| answer(h, 9, 9, found(kv("b", 4, 4, 1, "3"))),
    )
    .also(&["C8"]),
    pair(
        "C1",
        "a previous value that was not asked for",
        "was answered",
        |h, _| {
            let Request::Put(put) = &mut h.calls[1].request else { unreachable!("call 1 puts") };
            put.prev_kv = true;
            answer(h, 1, 3, Answer::Put(Some(kv("a", 2, 2, 1, "1"))));
        },
        |h, _| h.calls[1].request = put("a", "2"),
    ),
    pair(
        "C1",
        "the wrong branch",
        "was answered",
        |h, _| later(h, txn(&[]), 4, Answer::Txn { succeeded: true, answers: Vec::new() }),
        |h, _| answer(h, 9, 4, Answer::Txn { succeeded: false, answers: Vec::new() }),
    ),
    pair(
        "C1",
        "a future revision that is there",
        "refused as FutureRevision",
        |h, _| refused(h, range(5, false), Refusal::FutureRevision),
        |h, _| last(h).request = range(4, false),
    ),
    pair(
        "C1",
        "compacted although it is not",
        "refused as Compacted",
        |h, _| refused(h, range(1, false), Refusal::Compacted),
        |h, _| last(h).request = range(2, false),
    ),
    pair(
        "C1",
        "compacted before anybody asked for it",
        "refused as Compacted",
        |h, _| {
            refused(h, range(1, false), Refusal::Compacted);
            (last(h).invoked, last(h).returned) = (85, 95);
        },
        |h, _| last(h).returned = 89,
    ),
    pair(
        "C1",
        "a lease not found that is there",
        "refused as LeaseNotFound",
        |h, _| {
            refused(h, Request::Put(PutRequest { lease: 8, ..put_request("c", "4") }), Refusal::LeaseNotFound)
        },
        |h, _| last(h).request = Request::Put(PutRequest { lease: 9, ..put_request("c", "4") }),
    ),
    pair(
        "C1",
        "a lease that exists although it does not",
        "refused as LeaseExists",
        |h, _| refused(h, Request::Grant(LeaseGrantRequest { ttl: 2, id: 9 }), Refusal::LeaseExists),
        |h, _| last(h).request = Request::Grant(LeaseGrantRequest { ttl: 2, id: 8 }),
    ),
    pair(
        "C1",
        "no space for a read",
        "refused as NoSpace",
        |h, _| refused(h, put("c", "4"), Refusal::NoSpace),
        |h, _| last(h).request = range(0, false),
    ),
    pair(
        "C1",
        "a refusal without reason",
        "refused as Other",
        |h, _| {
            refused(h, put("c", "4"), Refusal::Other);
            last(h).outcome = Outcome::Unknown;
        },
        |h, _| last(h).outcome = Outcome::Refused(Refusal::Other),
    ),
    pair(
        "C1",
        "a definite error after proposing",
        "and took effect as revision 5",
        |h, t| {
            unwatched(h, t);
            last(h).outcome = Outcome::Unknown;
        },
        |h, _| last(h).outcome = Outcome::Refused(Refusal::NoSpace),
    )
    .also(&["C8"]),
    pair(
        "C1",
        "a call that was made again although it had been taken",
        "and took effect as revision 5",
        |h, t| {
            later(h, put("zz", "4"), 5, Answer::Put(None));
            last(h).outcome = Outcome::Refused(Refusal::NotTaken);
            unwatched(h, t);
        },
        |h, _| last(h).outcome = Outcome::Refused(Refusal::NotTaken),
    )
    .also(&["C8"]),
    pair(
        "C1",
        "a write with the right effect and the wrong answer",
        "was answered",
        |h, t| {
            later(h, delete("b"), 5, Answer::Delete { deleted: 1, previous: Vec::new() });
            publish(h, t, vec![removed("b", 5)]);
        },
        |h, _| answer(h, 9, 5, Answer::Delete { deleted: 1, previous: vec![kv("b", 4, 4, 1, "3")] }),
    ),
];
