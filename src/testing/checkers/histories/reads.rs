//! Pairs for C2.

use super::*;

/// A serializable range of everything at the end.
fn serializable(history: &mut History, request: RangeRequest, answer: Answer) {
    later(history, Request::Range(RangeRequest { serializable: true, ..request }), 4, answer);
}

fn both() -> Vec<KeyValue> {
    vec![kv("a", 2, 3, 2, "2"), kv("b", 4, 4, 1, "3")]
}

pub(super) const PAIRS: &[Pair] = &[
    pair(
        "C2",
        "a serializable read goes back",
        "which was shown before",
        |h, _| {
            h.calls[3].life = 1;
            answer(h, 3, 2, found(kv("a", 2, 2, 1, "1")));
        },
        |h, _| h.calls[3].life = 0,
    ),
    pair(
        "C2",
        "a serializable read below an acknowledged write",
        "which was shown before",
        |h, _| {
            h.calls[3] = call(79, 82, range(0, true), 3, found(kv("a", 2, 3, 2, "2")));
        },
        |h, _| h.calls[3].invoked = 81,
    ),
    pair(
        "C2",
        "a serializable read below another one",
        "which was shown before",
        |h, _| {
            serializable(h, every(0), list(both()));
            serializable(h, every(0), found(kv("a", 2, 3, 2, "2")));
            answer(h, 10, 3, found(kv("a", 2, 3, 2, "2")));
            h.calls[10].life = 1;
        },
        |h, _| h.calls[10].life = 0,
    ),
    pair(
        "C2",
        "a serializable read of a wrong value",
        "was answered",
        |h, _| {
            h.calls[3].invoked = 25;
            answer(h, 3, 2, found(kv("a", 2, 2, 1, "1")));
        },
        |h, _| answer(h, 3, 2, found(kv("a", 2, 2, 1, "x"))),
    ),
    pair(
        "C2",
        "an old revision with a newer value",
        "was answered",
        |h, _| h.calls[4] = call(63, 64, range(3, false), 3, found(kv("a", 2, 3, 2, "2"))),
        |h, _| h.calls[4].request = range(2, false),
    ),
    pair(
        "C2",
        "an old revision without its key",
        "was answered",
        |h, _| h.calls[4] = call(63, 64, range(1, false), 3, Answer::Range(Found::default())),
        |h, _| h.calls[4].request = range(2, false),
    ),
    pair(
        "C2",
        "an answer below the revision that was named",
        "was answered at revision 2",
        |h, _| h.calls[4] = call(38, 64, range(3, false), 3, found(kv("a", 2, 3, 2, "2"))),
        |h, _| answer(h, 4, 2, found(kv("a", 2, 3, 2, "2"))),
    ),
    pair(
        "C2",
        "an answer at a revision that never was",
        "was answered at revision 5",
        |h, _| serializable(h, one("b", 0), found(kv("b", 4, 4, 1, "3"))),
        |h, _| answer(h, 9, 5, found(kv("b", 4, 4, 1, "3"))),
    )
    .also(&["C8"]),
    pair(
        "C2",
        "a wrong count at an old revision",
        "was answered",
        |h, _| {
            let request = RangeRequest { count_only: true, ..every(3) };
            later(h, Request::Range(request), 4, Answer::Range(Found { count: 1, ..Found::default() }));
        },
        |h, _| last(h).request = Request::Range(RangeRequest { count_only: true, ..every(4) }),
    ),
    pair(
        "C2",
        "more than the limit",
        "was answered",
        |h, _| serializable(h, RangeRequest { limit: 2, ..every(0) }, list(both())),
        |h, _| {
            let request = RangeRequest { limit: 1, serializable: true, ..every(0) };
            last(h).request = Request::Range(request);
        },
    ),
    pair(
        "C2",
        "values where keys were asked for",
        "was answered",
        |h, _| serializable(h, one("b", 0), found(kv("b", 4, 4, 1, "3"))),
        |h, _| {
            let request = RangeRequest { keys_only: true, serializable: true, ..one("b", 0) };
            last(h).request = Request::Range(request);
        },
    ),
    pair(
        "C2",
        "the wrong order",
        "was answered",
        |h, _| {
            let request = RangeRequest { sort_order: 2, ..every(0) };
            serializable(h, request, list(both().into_iter().rev().collect()));
        },
        |h, _| answer(h, 9, 4, list(both())),
    ),
    pair(
        "C2",
        "a key that the filter keeps out",
        "was answered",
        |h, _| {
            let request = RangeRequest { max_mod_revision: 4, ..every(0) };
            serializable(h, request, list(both()));
        },
        |h, _| {
            let request = RangeRequest { max_mod_revision: 3, serializable: true, ..every(0) };
            last(h).request = Request::Range(request);
        },
    ),
];
