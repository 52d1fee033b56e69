//! Pairs for C8, at the end of a run and after a crash, and for C10.

use std::collections::BTreeMap;

use super::*;
use crate::testing::checkers::durable::recovered;

/// `zx` and `zy` are put in one revision, 5.
fn two_unwatched(history: &mut History, truth: &mut Truth) {
    let answers = vec![Answer::Put(None), Answer::Put(None)];
    later(history, txn(&[("zx", "4"), ("zy", "5")]), 5, Answer::Txn { succeeded: true, answers });
    publish(history, truth, vec![wrote(kv("zx", 5, 5, 1, "4")), wrote(kv("zy", 5, 5, 1, "5"))]);
}

/// Both are deleted as revision 6.
fn two_deleted(history: &mut History, truth: &mut Truth) {
    two_unwatched(history, truth);
    let request = DeleteRangeRequest { key: "zx".into(), range_end: "zz".into(), prev_kv: false };
    later(history, Request::Delete(request), 6, Answer::Delete { deleted: 2, previous: Vec::new() });
    publish(history, truth, vec![removed("zx", 6), removed("zy", 6)]);
}

/// Nobody heard of the last call.
fn unheard(history: &mut History) {
    last(history).outcome = Outcome::Unknown;
}

pub(super) const PAIRS: &[Pair] = &[
    pair(
        "C8",
        "an acknowledged put is lost",
        "was told of revision 5, which is lost",
        |h, _| {
            later(h, put("zz", "4"), 5, Answer::Put(None));
            unheard(h);
        },
        |h, _| answer(h, 9, 5, Answer::Put(None)),
    )
    .also(&["C1"]),
    pair(
        "C8",
        "an acknowledged put is another",
        "was told of revision 5, which is lost",
        unwatched,
        |_, t| {
            t.revisions[3].changes[0].kv.value = "x".into();
        },
    )
    .also(&["C1"]),
    pair("C8", "an acknowledged put is of another key", "was told of revision 5", unwatched, |_, t| {
        t.revisions[3].changes[0].kv.key = "zq".into();
    })
    .also(&["C1"]),
    pair(
        "C8",
        "a put that nobody made",
        "has a put of b\"zz\" that nobody made",
        |h, t| {
            unwatched(h, t);
            unheard(h);
        },
        |h, _| drop(h.calls.pop()),
    ),
    pair(
        "C8",
        "a put that was refused",
        "has a put of b\"zz\" that nobody made",
        |h, t| {
            unwatched(h, t);
            unheard(h);
        },
        |h, _| last(h).outcome = Outcome::Refused(Refusal::LeaseNotFound),
    )
    .also(&["C1"]),
    pair(
        "C8",
        "an acknowledged delete is lost",
        "was told of revision 4, which is lost",
        |h, _| later(h, delete("zz"), 4, Answer::Delete { deleted: 0, previous: Vec::new() }),
        |h, _| answer(h, 9, 4, Answer::Delete { deleted: 1, previous: Vec::new() }),
    )
    .also(&["C1"]),
    pair("C8", "half of an acknowledged delete is lost", "was told of revision 6", two_deleted, |_, t| {
        t.revisions[4].changes.pop();
    })
    .also(&["C1"]),
    pair("C8", "half of a transaction", "nobody can have made revision 5", two_unwatched, |_, t| {
        t.revisions[3].changes.pop();
    })
    .also(&["C1"]),
    pair(
        "C8",
        "a delete that nobody made",
        "nobody can have made revision 6",
        |h, t| {
            two_deleted(h, t);
            unheard(h);
        },
        |h, _| drop(h.calls.pop()),
    ),
    pair(
        "C8",
        "a call that took effect twice",
        "nobody can have made revision 7",
        |h, t| {
            two_unwatched(h, t);
            for revision in 6..8 {
                later(h, put("zx", "6"), revision, Answer::Put(None));
                unheard(h);
                publish(h, t, vec![wrote(kv("zx", 5, revision, revision - 4, "6"))]);
            }
        },
        |h, _| drop(h.calls.pop()),
    ),
    pair(
        "C8",
        "two deletes, and one call that can have made each of them",
        "nobody can have made revision 8",
        |h, t| {
            later(h, put("zx", "4"), 5, Answer::Put(None));
            publish(h, t, vec![wrote(kv("zx", 5, 5, 1, "4"))]);
            // The delete of all can have made both, the one of a single key only the first.
            let all = DeleteRangeRequest { key: "zx".into(), range_end: "zz".into(), prev_kv: false };
            for request in [Request::Delete(all), delete("zx")] {
                later(h, request, 6, Answer::Compact);
                unheard(h);
            }
            publish(h, t, vec![removed("zx", 6)]);
            let answers = vec![Answer::Put(None), Answer::Put(None)];
            later(h, txn(&[("zx", "5"), ("zy", "6")]), 7, Answer::Txn { succeeded: true, answers });
            publish(h, t, vec![wrote(kv("zx", 7, 7, 1, "5")), wrote(kv("zy", 7, 7, 1, "6"))]);
            later(h, Request::Range(one("b", 0)), 7, found(kv("b", 4, 4, 1, "3")));
            publish(h, t, vec![removed("zx", 8), removed("zy", 8)]);
        },
        |h, _| drop(h.calls.remove(11)),
    ),
    pair(
        "C8",
        "a call that took effect before it was made",
        "nobody can have made revision 5",
        |h, t| {
            unwatched(h, t);
            unheard(h);
        },
        |h, _| last(h).invoked = 116,
    ),
    // C10.
    pair(
        "C10",
        "the revision goes back",
        "came before",
        |_, t| t.seen.insert(4, Seen { at: 80, revision: 4, compact_revision: -1 }),
        |_, t| t.seen[4].revision = 3,
    ),
    pair(
        "C10",
        "the compact revision goes back",
        "came before",
        |_, t| t.seen.push(Seen { at: 110, revision: 4, compact_revision: 3 }),
        |_, t| t.seen.push(Seen { at: 111, revision: 4, compact_revision: 2 }),
    ),
    pair(
        "C10",
        "a restart goes back",
        "came before",
        |_, t| {
            t.lives = vec![Life { ready: 1, ended: 105 }, Life { ready: 110, ended: u64::MAX }];
            t.seen.push(Seen { at: 110, revision: 4, compact_revision: 2 });
        },
        |_, t| t.seen[5].compact_revision = -1,
    ),
    pair(
        "C10",
        "a revision is shown before its records",
        "revision 4 is shown, 3 is the last record",
        |_, t| t.seen.insert(3, Seen { at: 74, revision: 3, compact_revision: -1 }),
        |_, t| t.seen[3].revision = 4,
    ),
    pair(
        "C10",
        "records are there before their revision is shown",
        "revision 3 is shown, 4 is the last record",
        |_, t| t.seen.insert(4, Seen { at: 76, revision: 4, compact_revision: -1 }),
        |_, t| (t.seen[3].revision, t.seen[4].revision) = (3, 4),
    ),
    pair(
        "C10",
        "a revision without a change",
        "revision 5 changed nothing",
        |h, t| {
            later(h, txn(&[]), 4, Answer::Txn { succeeded: true, answers: Vec::new() });
            h.calls[9].outcome = Outcome::Unknown;
            t.seen.push(Seen { at: 115, revision: 4, compact_revision: 2 });
        },
        |h, t| {
            t.seen.pop();
            publish(h, t, Vec::new());
        },
    )
    .also(&["C8"]),
    pair(
        "C10",
        "a change of another revision",
        "revision 5 holds a change of revision 4",
        unwatched,
        |_, t| {
            t.revisions[3].changes[0].kv.mod_revision = 4;
        },
    )
    .also(&["C1", "C8"]),
    pair(
        "C10",
        "compacted above the last revision",
        "compacted above the last revision",
        |_, t| t.seen.push(Seen { at: 110, revision: 4, compact_revision: 4 }),
        |_, t| t.seen[5].compact_revision = 5,
    ),
    pair(
        "C10",
        "a compaction that is not shown",
        "a compaction at 2 was acknowledged and is not shown",
        |_, t| t.seen[4].at = 100,
        |_, t| t.seen[4].at = 101,
    ),
    pair(
        "C10",
        "a compaction that is shown lower",
        "a compaction at 4 was acknowledged and is not shown",
        |h, t| {
            later(h, compact(4), 4, Answer::Compact);
            t.seen.push(Seen { at: 115, revision: 4, compact_revision: 4 });
        },
        |_, t| t.seen[5].compact_revision = 3,
    ),
    pair(
        "C10",
        "a read below the compaction",
        "answered below the compaction at 2",
        |h, _| h.calls.push(call(100, 102, range(1, false), 4, Answer::Range(Found::default()))),
        |h, _| last(h).invoked = 101,
    ),
    pair(
        "C10",
        "a second compaction below",
        "answered below the compaction at 2",
        |h, t| {
            later(h, compact(3), 4, Answer::Compact);
            t.seen.push(Seen { at: 115, revision: 4, compact_revision: 3 });
        },
        |h, _| last(h).request = compact(2),
    ),
];

/// What a restart found.
struct Restart {
    found: BTreeMap<Revision, Vec<Change>>,
    revision: Revision,
    compact_revision: Revision,
}

type RestartEdit = fn(&mut Restart);

/// What is wrong, what C8 has to say, how the legal restart is made, how the illegal one is made from it.
const RESTARTS: &[(&str, &str, RestartEdit, RestartEdit)] = &[
    (
        "the tail is lost",
        "after a restart there is only 5",
        |_| {},
        |r| {
            r.found.remove(&6);
            r.revision = 5;
        },
    ),
    (
        "the revision is lost, its records are there",
        "after a restart there is only 5",
        |_| {},
        |r| r.revision = 5,
    ),
    (
        "a revision in the middle is lost",
        "revision 4 is not what it was",
        |_| {},
        |r| {
            r.found.remove(&4);
        },
    ),
    (
        "a revision just above the compaction is lost",
        "revision 4 is not what it was",
        |r| {
            r.compact_revision = 4;
            r.found.remove(&2);
        },
        |r| {
            r.compact_revision = 3;
            r.found.remove(&4);
        },
    ),
    ("a value is another", "revision 4 is not what it was", |_| {}, |r| r.change(4, 0).kv.value = "x".into()),
    ("a lease is another", "revision 5 is not what it was", |_| {}, |r| r.change(5, 1).kv.lease = 9),
    (
        "a key of a revision is lost",
        "revision 5 is not what it was",
        |_| {},
        |r| {
            r.found.get_mut(&5).expect("there").pop();
        },
    ),
    (
        "a revision has a key more",
        "revision 4 is not what it was",
        |_| {},
        |r| {
            r.found.get_mut(&4).expect("there").push(wrote(kv("q", 4, 4, 1, "q")));
        },
    ),
    (
        "keys of a revision changed places",
        "revision 5 is not what it was",
        |_| {},
        |r| {
            r.found.get_mut(&5).expect("there").swap(0, 1);
        },
    ),
    ("a delete became a put", "revision 6 is not what it was", |_| {}, |r| r.change(6, 0).is_delete = false),
    (
        "a value behind the compaction is another",
        "revision 2 is not what it was",
        |r| r.compact_revision = 4,
        |r| r.change(2, 0).kv.value = "x".into(),
    ),
    (
        "a living key behind the compaction is gone",
        "b\"a\" lived at the compaction at 4 and is gone",
        |r| {
            r.compact_revision = 4;
            r.found.remove(&2);
        },
        |r| drop(r.found.remove(&3)),
    ),
    (
        "a key that the last revision deleted is gone before its time",
        "b\"b\" lived at the compaction at 5 and is gone",
        |r| {
            r.compact_revision = 6;
            r.found.remove(&4);
        },
        |r| r.compact_revision = 5,
    ),
];

impl Restart {
    fn change(&mut self, revision: Revision, nth: usize) -> &mut Change {
        &mut self.found.get_mut(&revision).expect("it is there")[nth]
    }
}

/// Judges what restarts found of: two puts of a, one of b, c and d in one revision, a delete of b.
pub(super) fn judge_recovered() -> Vec<Judged> {
    let (mut history, mut truth) = base();
    two_keys(&mut history, &mut truth);
    publish(&mut history, &mut truth, vec![removed("b", 6)]);
    let judge = |(name, says, legal, illegal): &(&'static str, &str, RestartEdit, RestartEdit)| {
        let found = truth.revisions.iter().zip(2..).map(|(published, at)| (at, published.changes.clone()));
        let mut restart = Restart { found: found.collect(), revision: 6, compact_revision: -1 };
        let found =
            |restart: &Restart| recovered(&truth, &restart.found, restart.revision, restart.compact_revision);
        legal(&mut restart);
        let blamed = found(&restart);
        illegal(&mut restart);
        Judged { checker: "C8", name, problem: problem("C8", says, &[], &blamed, &found(&restart)) }
    };
    RESTARTS.iter().map(judge).collect()
}
