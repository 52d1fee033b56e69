//! Whether a transaction's branch puts a key twice, or puts and deletes it.
//!
//! The rules are etcd's `checkIntervals` with all its quirks: a level's deletes count before its nested
//! transactions, a nested transaction's deletes only after its puts; the two branches of one nested
//! transaction never clash with each other; range ends are plain strings, so a range end of one zero
//! byte is an empty interval here although it deletes to the end of the key space.
//!
//! Etcd keeps an interval tree and copies sets upwards. Here deletes are a map of disjoint intervals,
//! small sets are merged into large ones and the smaller of two is walked, so that the cost stays
//! n log² n for any nesting.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::pure::api::requests::{DeleteRangeRequest, RequestOp};
use crate::pure::api::status::{self, Status};

/// Checks one branch with everything nested in it.
pub(super) fn check(ops: &[RequestOp]) -> Result<(), Status> {
    // Nearly all transactions are a few plain operations: no sets for those.
    let nested = ops.iter().any(|op| matches!(op, RequestOp::Txn(_)));
    let clash =
        if !nested && ops.len() <= PAIRWISE_OPS_MAX { clash_in_pairs(ops) } else { touched(ops).is_none() };
    if clash { Err(status::DUPLICATE_KEY) } else { Ok(()) }
}

/// Up to here comparing every put with every operation beats building sets.
const PAIRWISE_OPS_MAX: usize = 16;

fn clash_in_pairs(ops: &[RequestOp]) -> bool {
    ops.iter().enumerate().any(|(index, op)| {
        let RequestOp::Put(put) = op else { return false };
        let put_twice = |other: &RequestOp| matches!(other, RequestOp::Put(other) if other.key == put.key);
        let deleted = |other: &RequestOp| {
            matches!(other, RequestOp::DeleteRange(delete) if {
                let (start, end) = interval(delete);
                start <= &put.key[..] && (&put.key[..], false) < end
            })
        };
        ops[..index].iter().any(put_twice) || ops.iter().any(deleted)
    })
}

/// What a branch touches; `None` if it clashes with itself. As deep as `check_structure`; all but the
/// recursion is in functions of their own to keep its frames small.
fn touched(ops: &[RequestOp]) -> Option<Touched<'_>> {
    let mut all = Touched::default();
    all.add_deletes(ops);
    for op in ops {
        if let RequestOp::Txn(txn) = op {
            let success = touched(&txn.success)?;
            let failure = touched(&txn.failure)?;
            all.add_nested(success, failure)?;
        }
    }
    all.add_puts(ops)?;
    Some(all)
}

#[derive(Default)]
struct Touched<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

impl<'a> Touched<'a> {
    fn add_deletes(&mut self, ops: &'a [RequestOp]) {
        for op in ops {
            if let RequestOp::DeleteRange(delete) = op {
                let (start, end) = interval(delete);
                self.deletes.insert(start, end);
            }
        }
    }

    /// `None`: a put of one of the branches clashes with what is here. The branches never clash with each
    /// other, since only one of them runs.
    fn add_nested(&mut self, success: Touched<'a>, failure: Touched<'a>) -> Option<()> {
        for branch in [&success, &failure] {
            if !disjoint(&self.puts, &branch.puts) || self.deletes.cover_any(&branch.puts) {
                return None;
            }
        }
        for branch in [success, failure] {
            self.puts = union(std::mem::take(&mut self.puts), branch.puts);
            self.deletes = std::mem::take(&mut self.deletes).union(branch.deletes);
        }
        Some(())
    }

    /// `None`: a put clashes with what is here.
    fn add_puts(&mut self, ops: &'a [RequestOp]) -> Option<()> {
        for op in ops {
            if let RequestOp::Put(put) = op
                && (self.deletes.cover(&put.key) || !self.puts.insert(&put.key))
            {
                return None;
            }
        }
        Some(())
    }
}

/// An exclusive end: a key, or (`true`) the string right behind a key. Order: `(k, false) < (k, true)` and
/// no key lies between `(k, true)` and its real neighbours.
type End<'a> = (&'a [u8], bool);

fn interval(delete: &DeleteRangeRequest) -> (&[u8], End<'_>) {
    let end =
        if delete.range_end.is_empty() { (&delete.key[..], true) } else { (&delete.range_end[..], false) };
    (&delete.key, end)
}

/// Disjoint, not empty intervals: start to end.
#[derive(Default)]
struct Intervals<'a>(BTreeMap<&'a [u8], End<'a>>);

impl<'a> Intervals<'a> {
    fn insert(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        if end <= (start, false) {
            return;
        }
        // Swallow every interval that this one meets: the one before the start, and those that start inside.
        while let Some((&other, &other_end)) = self.0.range(..=end.0).next_back() {
            if other_end < (start, false) {
                break;
            }
            self.0.remove(other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    fn cover(&self, key: &[u8]) -> bool {
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, &end)| (key, false) < end)
    }

    fn cover_any(&self, keys: &BTreeSet<&[u8]>) -> bool {
        if keys.len() <= self.0.len() {
            keys.iter().any(|key| self.cover(key))
        } else {
            self.0.iter().any(|(&start, &end)| {
                let from = keys.range::<[u8], _>((Bound::Included(start), Bound::Unbounded)).next();
                from.is_some_and(|&key| (key, false) < end)
            })
        }
    }

    fn union(self, other: Intervals<'a>) -> Intervals<'a> {
        let (mut large, small) = if self.0.len() < other.0.len() { (other, self) } else { (self, other) };
        for (start, end) in small.0 {
            large.insert(start, end);
        }
        large
    }
}

fn disjoint(a: &BTreeSet<&[u8]>, b: &BTreeSet<&[u8]>) -> bool {
    let (small, large) = if a.len() < b.len() { (a, b) } else { (b, a) };
    small.iter().all(|key| !large.contains(key))
}

fn union<'a>(a: BTreeSet<&'a [u8]>, b: BTreeSet<&'a [u8]>) -> BTreeSet<&'a [u8]> {
    let (mut large, small) = if a.len() < b.len() { (b, a) } else { (a, b) };
    large.extend(small);
    large
}
