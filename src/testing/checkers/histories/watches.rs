//! Pairs for C3, C4 and C5.

use super::*;

/// The base's first two revisions come in one response, told 0.
fn together(history: &mut History, _: &mut Truth) {
    let [a2, a3, _] = values();
    history.watches[0].told.remove(1);
    history.watches[0].told[0] = told(45, 3, events(vec![event(a2), event(a3)]));
}

/// A second watch, from 3 on, that heard of both.
fn second(history: &mut History, _: &mut Truth) {
    let [_, a3, b4] = values();
    let news = [a3, b4].map(|kv| told(90 + kv.version as u64, kv.mod_revision, events(vec![event(kv)])));
    history.watches.push(watch(3, news.to_vec()));
}

/// Revision 5 comes in two fragments, as asked for: told 4 and 5.
fn fragments(history: &mut History, truth: &mut Truth) {
    two_keys(history, truth);
    let watch = &mut history.watches[0];
    watch.request.fragment = true;
    let [c, d] = [event(kv("c", 5, 5, 1, "4")), event(kv("d", 5, 5, 1, "5"))];
    watch.told[4].what = What::Events { events: vec![c], fragment: true };
    watch.told.insert(5, told(130, 5, events(vec![d])));
}

/// `b` is deleted as revision 5, told 4.
fn deletion(history: &mut History, truth: &mut Truth) {
    later(history, delete("b"), 5, Answer::Delete { deleted: 1, previous: Vec::new() });
    publish(history, truth, vec![removed("b", 5)]);
}

/// The client ends the watch after its first event: told 1.
fn ended(history: &mut History, _: &mut Truth) {
    history.watches[0].cancel_asked = true;
    history.watches[0].told.truncate(1);
    history.watches[0].told.push(told(50, 3, What::Canceled { compact_revision: 0 }));
}

/// A watch from 1 on, for which the compaction came too early.
fn compacted(history: &mut History, _: &mut Truth) {
    history.watches.push(watch(1, vec![told(110, 4, What::Canceled { compact_revision: 2 })]));
}

fn news(history: &mut History, at: usize) -> &mut Vec<Event> {
    match &mut history.watches[0].told[at].what {
        What::Events { events, .. } => events,
        other => unreachable!("{other:?} has no events"),
    }
}

/// A second watch without anything told, and a bookmark of `revision`.
fn bookmarked(history: &mut History, start: Revision, revision: Revision) {
    history.watches.push(watch(start, vec![told(SECOND, revision, What::Progress)]));
    history.watches[1].closed = Some(SECOND);
}

pub(super) const PAIRS: &[Pair] = &[
    pair("C3", "an event twice", "an event of revision 3 after a response with 3", second, |h, _| {
        let again = h.watches[1].told[0].clone();
        h.watches[1].told.insert(1, again);
    }),
    pair("C3", "events out of order", "an event of revision 2 after a response with 3", together, |h, _| {
        news(h, 0).swap(0, 1);
    })
    .also(&["C4", "C5"]),
    pair(
        "C3",
        "responses out of order",
        "an event of revision 2 after a response with 3",
        |h, _| drop(h.watches[0].told.remove(2)),
        |h, _| h.watches[0].told.swap(0, 1),
    )
    .also(&["C4"]),
    pair(
        "C3",
        "a revision in two responses",
        "an event of revision 5 after a response with 5",
        two_keys,
        |h, _| {
            let second = news(h, 4).split_off(1);
            h.watches[0].told.insert(5, told(130, 5, events(second)));
        },
    ),
    pair("C3", "a key twice in a revision", "revision 5 twice, or out of order", two_keys, |h, _| {
        let again = news(h, 4)[1].clone();
        news(h, 4).push(again);
    }),
    pair("C3", "keys of a revision out of order", "revision 5 twice, or out of order", two_keys, |h, _| {
        news(h, 4).swap(0, 1);
    })
    .also(&["C4"]),
    pair("C3", "an event with a wrong value", "instead of", together, |h, _| {
        news(h, 0)[1].kv.value = "x".into();
    }),
    pair("C3", "an event with a wrong version", "instead of", second, |h, _| {
        let What::Events { events, .. } = &mut h.watches[1].told[0].what else { unreachable!("events") };
        events[0].kv.version = 7;
    }),
    pair("C3", "an event with a wrong create revision", "instead of", two_keys, |h, _| {
        news(h, 4)[1].kv.create_revision = 4;
    }),
    pair(
        "C3",
        "an event without its lease",
        "instead of",
        |h, t| {
            later(h, Request::Put(PutRequest { lease: 9, ..put_request("c", "4") }), 5, Answer::Put(None));
            publish(h, t, vec![wrote(KeyValue { lease: 9, ..kv("c", 5, 5, 1, "4") })]);
            t.leases[0].gone = None;
            t.ended = 4 * SECOND;
        },
        |h, _| told_event(h, 4).kv.lease = 0,
    ),
    pair("C3", "a delete told as a put", "instead of", deletion, |h, _| told_event(h, 4).is_delete = false),
    pair(
        "C3",
        "an event before the start",
        "revision 2, before its start",
        |h, _| {
            h.watches[0].told.remove(0);
            h.watches[0].request.start_revision = 3;
        },
        |h, _| h.watches[0].told.insert(0, told(25, 2, events(vec![event(kv("a", 2, 2, 1, "1"))]))),
    ),
    pair(
        "C3",
        "an event outside of the interval",
        "revision 4 of b\"b\" is not for it",
        |h, _| {
            h.watches[0].told.remove(3);
            h.watches[0].request.range_end = "b".into();
        },
        |h, _| h.watches[0].told.insert(3, told(85, 4, events(vec![event(kv("b", 4, 4, 1, "3"))]))),
    ),
    pair(
        "C3",
        "a filtered event",
        "is not for it",
        |h, t| {
            deletion(h, t);
            h.watches[0].told.remove(4);
            h.watches[0].request.filters.no_delete = true;
        },
        |h, _| {
            let delete = Event { is_delete: true, ..event(gone("b", 5)) };
            h.watches[0].told.insert(4, told(130, 5, events(vec![delete])));
        },
    ),
    pair("C3", "an event of a key that did not change", "revision 3 did not change", together, |h, _| {
        news(h, 0)[1].kv.key = "c".into();
    })
    .also(&["C4"]),
    pair("C3", "a fragment that nobody asked for", "a fragment that nobody asked for", fragments, |h, _| {
        h.watches[0].request.fragment = false;
    }),
    pair(
        "C3",
        "a missing previous value",
        "before it None",
        |h, _| {
            h.watches[0].request.prev_kv = true;
            told_event(h, 1).previous = Some(kv("a", 2, 2, 1, "1"));
        },
        |h, _| told_event(h, 1).previous = None,
    ),
    pair(
        "C3",
        "a previous value that nobody asked for",
        "before it Some",
        |h, _| {
            h.watches[0].request.prev_kv = true;
            told_event(h, 1).previous = Some(kv("a", 2, 2, 1, "1"));
        },
        |h, _| h.watches[0].request.prev_kv = false,
    ),
    pair("C3", "an event after the end", "after its end it told", ended, |h, _| {
        h.watches[0].told.push(told(51, 3, events(vec![event(kv("a", 2, 3, 2, "2"))])));
    }),
    // C4.
    pair("C4", "a missing event in the middle", "revision 3 of b\"a\" is missing", together, |h, _| {
        news(h, 0).truncate(1);
    })
    .also(&["C5"]),
    pair(
        "C4",
        "a missing first event",
        "revision 2 of b\"a\" is missing",
        |h, _| {
            h.watches[0].told.remove(0);
            h.watches[0].request.start_revision = 3;
        },
        |h, _| h.watches[0].request.start_revision = 2,
    ),
    pair(
        "C4",
        "never told of the last revision",
        "revision 4 of b\"b\" is missing",
        |h, _| {
            h.watches[0].told.truncate(3);
            h.watches[0].closed = Some(50);
        },
        |h, _| {
            h.watches[0].closed = None;
            h.watches[0].asked_at_end = false;
        },
    ),
    pair("C4", "canceled for no reason", "canceled with compact revision 0", ended, |h, _| {
        h.watches[0].cancel_asked = false;
    }),
    pair(
        "C4",
        "canceled at a compaction that was not",
        "canceled with compact revision 3",
        compacted,
        |h, _| {
            h.watches[1].told[0].what = What::Canceled { compact_revision: 3 };
        },
    ),
    pair(
        "C4",
        "canceled as compacted just at the compaction",
        "for no reason, next was 2",
        compacted,
        |h, _| {
            h.watches[1].request.start_revision = 2;
        },
    ),
    pair(
        "C4",
        "canceled before the compaction was asked for",
        "canceled with compact revision 2",
        compacted,
        |h, _| {
            h.watches[1].told[0].at = 80;
        },
    ),
    pair(
        "C4",
        "never created",
        "it was never created",
        |h, _| {
            h.watches.push(Watch { created: None, closed: Some(60), ..watch(2, Vec::new()) });
        },
        |h, _| h.watches[1].closed = None,
    ),
    pair(
        "C4",
        "a missing delete",
        "revision 5 of b\"b\" is missing",
        |h, t| {
            deletion(h, t);
            h.watches[0].told.remove(4);
            h.watches[0].request.filters.no_delete = true;
        },
        |h, _| h.watches[0].request.filters.no_delete = false,
    )
    .also(&["C5"]),
    pair("C4", "a watch that went on leaves one out", "revision 3 of b\"a\" is missing", second, |h, _| {
        h.watches[1].told.remove(0);
    }),
    pair("C4", "a missing key of a revision", "revision 5 of b\"d\" is missing", two_keys, |h, _| {
        news(h, 4).truncate(1);
    }),
    pair(
        "C4",
        "a fragment without its rest",
        "revision 5 of b\"c\" is missing",
        |h, t| {
            fragments(h, t);
            h.watches[0].told.truncate(5);
            h.watches[0].asked_at_end = false;
            h.watches[0].closed = Some(200);
        },
        |h, _| h.watches[0].closed = None,
    ),
    pair(
        "C4",
        "the revision after its creation is left out",
        "revision 3 of b\"a\" is missing",
        |h, t| {
            second(h, t);
            h.watches[1].request.start_revision = 0;
            h.watches[1].created = Some(3);
            h.watches[1].told.remove(0);
        },
        |h, _| h.watches[1].created = Some(2),
    ),
    // C5.
    pair(
        "C5",
        "a bookmark before its event",
        "a bookmark of 3 before revision 3",
        |_, _| {},
        |h, _| {
            h.watches[0].told.swap(1, 2);
        },
    ),
    pair(
        "C5",
        "a bookmark too high",
        "a bookmark of 4 before revision 4",
        |h, _| h.watches[0].told.insert(3, told(47, 3, What::Progress)),
        |h, _| h.watches[0].told[3].revision = 4,
    ),
    pair(
        "C5",
        "a bookmark that goes back",
        "a bookmark of 3 after 4",
        |h, _| h.watches[0].told.insert(4, told(SECOND, 4, What::Progress)),
        |h, _| h.watches[0].told.insert(5, told(2 * SECOND, 3, What::Progress)),
    ),
    pair(
        "C5",
        "no bookmark at the end",
        "its bookmark is 3 of 4",
        |h, _| {
            h.watches[0].told.truncate(4);
            h.watches[0].asked_at_end = false;
        },
        |h, _| h.watches[0].asked_at_end = true,
    ),
    pair("C5", "an old bookmark at the end", "its bookmark is 4 of 5", unwatched, |h, _| {
        h.watches[0].told[4].revision = 4;
    }),
    pair(
        "C5",
        "a bookmark before the start",
        "a bookmark of 4 after 0, with a start at 6",
        |h, _| bookmarked(h, 5, 4),
        |h, _| h.watches[1].request.start_revision = 6,
    ),
    pair(
        "C5",
        "a bookmark before its own creation",
        "a bookmark of 2 after 0, with a start at 4",
        |h, _| {
            bookmarked(h, 0, 3);
            h.watches[1].created = Some(3);
        },
        |h, _| h.watches[1].told[0].revision = 2,
    ),
    pair(
        "C5",
        "a bookmark between two parts of its revision",
        "revision 5 after a bookmark of 5",
        fragments,
        |h, _| {
            h.watches[0].told.insert(5, told(129, 5, What::Progress));
        },
    ),
    pair(
        "C5",
        "a bookmark above what is not filtered",
        "a bookmark of 4 before revision 4",
        |h, _| {
            bookmarked(h, 3, 4);
            h.watches[1].request.filters.no_put = true;
        },
        |h, _| h.watches[1].request.filters.no_put = false,
    ),
    pair("C5", "a bookmark before a delete", "a bookmark of 5 before revision 5", deletion, |h, _| {
        h.watches[0].told.insert(4, told(120, 5, What::Progress));
    }),
    pair(
        "C5",
        "a bookmark above its interval's last event",
        "a bookmark of 4 before revision 4",
        |h, _| {
            bookmarked(h, 4, 4);
            h.watches[1].request.key = "c".into();
        },
        |h, _| h.watches[1].request.key = "b".into(),
    ),
    pair("C5", "an event below the bookmark", "revision 5 after a bookmark of 5", two_keys, |h, _| {
        let again = h.watches[0].told[4].clone();
        h.watches[0].told.push(again);
    })
    .also(&["C3"]),
];
