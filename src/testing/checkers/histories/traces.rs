//! Pairs for C14: two traces that are equal, and one that differs from them in one thing.

use super::{Judged, problem};
use crate::testing::checkers::traces::compare;
use crate::testing::history::{Mark, Trace};

type Edit = fn(&mut Vec<Mark>);

fn mark(at: u64, what: u64, bytes: u64, crc: u32) -> Mark {
    Mark { at, what, bytes, crc }
}

/// What is wrong, what C14 has to say, the marks of both, what the second one has instead.
const PAIRS: &[(&str, &str, Edit, Edit)] = &[
    ("a mark more at the end", "4 marks and 5", |_| {}, |marks| marks.push(mark(9, 3, 2, 7))),
    (
        "a mark less at the end",
        "5 marks and 4",
        |marks| marks.push(mark(9, 3, 2, 7)),
        |marks| marks.truncate(4),
    ),
    ("nothing at all", "1 marks and 0", |marks| marks.truncate(1), Vec::clear),
    (
        "a mark left out",
        "mark 1 differs in its time",
        |marks| marks[1].bytes = 0,
        |marks| {
            marks.remove(1);
        },
    ),
    (
        "a mark twice",
        "mark 2 differs in its time",
        |marks| marks[2].what = 9,
        |marks| marks.insert(1, mark(2, 4, 20, 200)),
    ),
    ("another time", "mark 3 differs in its time", |marks| marks[3].at = 5, |marks| marks[3].at = 6),
    ("another kind", "mark 0 differs in its kind", |marks| marks[0].what = 4, |marks| marks[0].what = 3),
    (
        "another length",
        "mark 2 differs in its length",
        |marks| marks[2].bytes = 0,
        |marks| marks[2].bytes = 1,
    ),
    ("another content", "mark 2 differs in its content", |marks| marks[2].crc = 0, |marks| marks[2].crc = 1),
    (
        "another order at one time",
        "mark 1 differs in its kind",
        |marks| marks[2].at = 2,
        |marks| {
            marks.swap(1, 2);
        },
    ),
    (
        "another order of two alike",
        "mark 1 differs in its content",
        |marks| marks[2] = Mark { crc: 201, ..marks[1] },
        |marks| marks.swap(1, 2),
    ),
    (
        "two marks have changed their lengths",
        "mark 0 differs in its length",
        |marks| marks.rotate_left(1),
        |marks| (marks[0].bytes, marks[1].bytes) = (marks[1].bytes, marks[0].bytes),
    ),
];

fn trace(marks: &[Mark], keep: bool) -> Trace {
    let mut trace = Trace::new(keep);
    marks.iter().for_each(|mark| trace.push(*mark));
    trace
}

/// Each pair twice: with the marks kept, where the first difference is named, and as hashes.
pub(super) fn judge() -> Vec<Judged> {
    let judge = |(name, says, both, other): &(&'static str, &str, Edit, Edit)| {
        let mut marks =
            vec![mark(1, 3, 10, 100), mark(2, 4, 20, 200), mark(3, 5, 30, 300), mark(4, 6, 40, 400)];
        both(&mut marks);
        let one = marks.clone();
        other(&mut marks);
        let found =
            |keep: bool, with: &[Mark]| Vec::from_iter(compare(&trace(&one, keep), &trace(with, keep)));
        let blamed = [found(true, &one), found(false, &one)].concat();
        let named = problem("C14", says, &[], &blamed, &found(true, &marks));
        let hashed = found(false, &marks).is_empty().then(|| "the hashes are equal".to_owned());
        Judged { checker: "C14", name, problem: named.or(hashed) }
    };
    PAIRS.iter().map(judge).collect()
}
