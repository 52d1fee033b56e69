//! Checks of requests that need nothing but the request, in etcd's order and with its statuses.
//!
//! Owns: nothing. Takes: decoded requests. Gives: their first fault.
//! Always true: the first fault found is the one that etcd finds first; a hostile request costs
//! n log n of its size and a bounded stack.
//! Not here: checks against the key space (`apply`), sizes (`log_payload`).

mod overlap;

use super::requests::*;
use super::status::{self, Status};

/// Largest defined number of `sort_order` (DESCEND).
const SORT_ORDER_MAX: i32 = 2;
/// Largest defined number of `sort_target` (VALUE).
const SORT_TARGET_MAX: i32 = 4;
/// `sort_order` NONE.
const NONE: i32 = 0;
/// `sort_order` ASCEND.
const ASCEND: i32 = 1;
/// `sort_target` KEY.
const KEY: i32 = 0;

/// Range, alone or in a transaction.
///
/// # Errors
/// EmptyKey, then InvalidSortOption.
pub fn validate_range(range: &RangeRequest) -> Result<(), Status> {
    if range.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    let defined = (0..=SORT_ORDER_MAX).contains(&range.sort_order)
        && (0..=SORT_TARGET_MAX).contains(&range.sort_target);
    if defined { Ok(()) } else { Err(status::INVALID_SORT_OPTION) }
}

/// RangeStream: a range whose answer can be sent in pieces.
///
/// # Errors
/// As [`validate_range`], then custom orders, then bounds on revisions (both Unimplemented).
pub fn validate_range_stream(range: &RangeRequest) -> Result<(), Status> {
    validate_range(range)?;
    // Without an order the target means nothing.
    let natural = range.sort_order == NONE || range.sort_order == ASCEND && range.sort_target == KEY;
    if !natural {
        return Err(status::RANGE_STREAM_SORT);
    }
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if filters == [0; 4] { Ok(()) } else { Err(status::RANGE_STREAM_FILTERS) }
}

/// Put, alone or in a transaction.
///
/// # Errors
/// EmptyKey, ValueProvided, LeaseProvided.
pub fn validate_put(put: &PutView<'_>) -> Result<(), Status> {
    if put.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(status::VALUE_PROVIDED);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(status::LEASE_PROVIDED);
    }
    Ok(())
}

/// DeleteRange, alone or in a transaction.
///
/// # Errors
/// EmptyKey.
pub fn validate_delete_range(delete: &DeleteRangeRequest) -> Result<(), Status> {
    if delete.key.is_empty() { Err(status::EMPTY_KEY) } else { Ok(()) }
}

/// Txn: its structure, then in each branch that no key is put twice or put and deleted.
///
/// # Errors
/// TooManyOps, EmptyKey, the errors of the operations, KeyNotFound for an operation that is none;
/// DuplicateKey.
pub fn validate_txn(txn: &TxnRequest, max_ops: usize) -> Result<(), Status> {
    check_structure(txn, max_ops)?;
    overlap::check(&txn.success)?;
    overlap::check(&txn.failure)
}

/// Depth of the recursion: a transaction is entered only if its parent holds at least one operation and
/// so takes at least one off the budget; and never deeper than the decoder lets a message nest.
fn check_structure(txn: &TxnRequest, budget: usize) -> Result<(), Status> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let rest = budget.checked_sub(ops).ok_or(status::TOO_MANY_OPS)?;
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(status::EMPTY_KEY);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            RequestOp::Txn(txn) => check_structure(txn, rest)?,
            leaf => check_leaf(leaf)?,
        }
    }
    Ok(())
}

/// An operation that is no transaction.
pub(super) fn check_leaf(op: &RequestOp) -> Result<(), Status> {
    match op {
        RequestOp::Range(range) => validate_range(range),
        RequestOp::Put(put) => validate_put(&PutView::from(put)),
        RequestOp::DeleteRange(delete) => validate_delete_range(delete),
        RequestOp::Txn(_) => Ok(()),
        RequestOp::None => Err(status::KEY_NOT_FOUND),
    }
}

/// True if the transaction changes nothing whatever its compares say, so that it need not go through the
/// log. A nested transaction counts as a write, as in etcd.
pub fn is_read_only(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op, RequestOp::Range(_)))
}

/// True if a read-only transaction asks for no linearizable read. An empty one doesn't.
pub fn is_serializable(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| matches!(op, RequestOp::Range(range) if range.serializable))
}

#[cfg(test)]
mod tests;
