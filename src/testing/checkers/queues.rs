//! C13: memory is bounded. No queue is ever longer than what is declared for it.

use crate::testing::history::{HighWater, Violation};

/// Judges high-water marks.
pub fn check(marks: &[HighWater]) -> Vec<Violation> {
    let beyond = marks.iter().filter(|mark| mark.highest > mark.bound);
    beyond
        .map(|mark| {
            let text = format!("{} reached {}, its bound is {}", mark.queue, mark.highest, mark.bound);
            Violation::new("C13", text)
        })
        .collect()
}
