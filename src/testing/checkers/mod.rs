//! Who is right: the promises of `reliability.md`, each as a pass over what was seen.
//!
//! Owns: nothing. Takes: a history and the member's own log of revisions. Gives: violations.
//! Always true: a checker looks at data alone, so that it can be shown legal and illegal histories by hand.
//! Not here: how the data came about (`world`).

pub mod durable;
pub mod histories;
pub mod leases;
pub mod queues;
pub mod replay;
pub mod traces;
pub mod watches;

use super::history::{History, Truth, Violation};

/// All checkers that judge a finished run.
pub fn all(history: &History, truth: &Truth) -> Vec<Violation> {
    let (replay, mut violations) = replay::replay(history, truth);
    violations.extend(replay::serializable(history, truth, &replay.model));
    violations.extend(watches::check(history, truth, &replay.model));
    violations.extend(leases::check(history, truth, &replay.model));
    violations.extend(durable::ledger(history, truth));
    violations.extend(durable::monotone(history, truth));
    violations
}
