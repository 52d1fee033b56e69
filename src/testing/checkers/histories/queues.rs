//! Pairs for C13: queues within their bounds, and one beyond.

use super::{Judged, problem};
use crate::testing::checkers::queues::check;
use crate::testing::history::HighWater;

type Edit = fn(&mut [HighWater; 3]);

/// What is wrong, what C13 has to say, how the legal marks are made, how the illegal ones are made from them.
const PAIRS: &[(&str, &str, Edit, Edit)] = &[
    (
        "one more than the bound",
        "first reached 11",
        |marks| marks[0].highest = 10,
        |marks| marks[0].highest = 11,
    ),
    (
        "one item where none may be",
        "second reached 1",
        |marks| marks[1].bound = 0,
        |marks| marks[1].highest = 1,
    ),
    ("far beyond", "third reached 18446744073709551615", |_| {}, |marks| marks[2].highest = u64::MAX),
    (
        "the last of several",
        "third reached 3001",
        |marks| marks[2].highest = 3_000,
        |marks| marks[2].highest = 3_001,
    ),
    (
        "the bound is lower",
        "first reached 7, its bound is 6",
        |marks| marks[0].highest = 7,
        |marks| marks[0].bound = 6,
    ),
    (
        "the bounds of two are exchanged",
        "third reached 2000, its bound is 200",
        |marks| marks[2].highest = 2_000,
        |marks| (marks[1].bound, marks[2].bound) = (marks[2].bound, marks[1].bound),
    ),
    (
        "two at once",
        "second reached 201",
        |marks| (marks[0].highest, marks[1].highest) = (10, 200),
        |marks| (marks[0].highest, marks[1].highest) = (11, 201),
    ),
    (
        "an empty one hides nothing",
        "third reached 3001",
        |marks| (marks[0].highest, marks[2].highest) = (0, 3_000),
        |marks| marks[2].highest = 3_001,
    ),
    (
        "at the greatest bound of all",
        "second reached 18446744073709551615",
        |marks| (marks[1].bound, marks[1].highest) = (u64::MAX, u64::MAX),
        |marks| marks[1].bound = u64::MAX - 1,
    ),
    (
        "one with the name of another",
        "first reached 200, its bound is 10",
        |marks| (marks[0].queue, marks[0].bound, marks[0].highest) = ("second", 200, 200),
        |marks| (marks[0].queue, marks[0].bound) = ("first", 10),
    ),
];

/// Judges marks of three queues.
pub(super) fn judge() -> Vec<Judged> {
    let judge = |(name, says, legal, illegal): &(&'static str, &str, Edit, Edit)| {
        let mark = |(queue, bound)| HighWater { queue, highest: 0, bound };
        let mut marks = [("first", 10), ("second", 200), ("third", 3_000)].map(mark);
        legal(&mut marks);
        let blamed = check(&marks);
        illegal(&mut marks);
        Judged { checker: "C13", name, problem: problem("C13", says, &[], &blamed, &check(&marks)) }
    };
    PAIRS.iter().map(judge).collect()
}
