//! What an entry does, slice by slice.

use super::*;
use crate::pure::api::requests::{
    Compare, CompareOperand, LeaseRevokeRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::pure::api::responses::ResponseOp;

fn put_request(key: &str, value: &str, lease: LeaseId) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), lease, ..PutRequest::default() }
}

fn delete_request(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), prev_kv: true }
}

/// Applies an operation in slices of `units` and counts them.
fn apply_sliced(applier: &mut Applier, operation: Operation, units: u32) -> (Outcome, u32) {
    if let Some(outcome) = applier.begin(operation) {
        return (outcome, 0);
    }
    let mut slices = 0;
    loop {
        assert!(applier.is_busy());
        slices += 1;
        let mut work = Work::new(units);
        if let Step::Done(outcome) = applier.step(&mut work) {
            assert!(!applier.is_busy());
            return (outcome, slices);
        }
        assert!(work.is_spent(), "it stops only because the slice was spent");
    }
}

fn apply(applier: &mut Applier, operation: Operation) -> Outcome {
    apply_sliced(applier, operation, u32::MAX).0
}

fn put(applier: &mut Applier, key: &str, value: &str, lease: LeaseId) -> Outcome {
    apply(applier, Operation::Put(put_request(key, value, lease)))
}

fn failure(outcome: &Outcome) -> Option<ApplyError> {
    match outcome {
        Outcome::Failed(error) => Some(*error),
        _ => None,
    }
}

fn txn(
    applier: &mut Applier,
    compare: Vec<Compare>,
    success: Vec<RequestOp>,
    failure: Vec<RequestOp>,
) -> Outcome {
    apply(applier, Operation::Txn(TxnRequest { compare, success, failure }))
}

fn compare(target: i32, result: i32, key: &str, end: &str, operand: CompareOperand) -> Compare {
    Compare { result, target, key: key.to_owned().into(), operand, range_end: end.to_owned().into() }
}

fn succeeded(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Txn(response) => response.succeeded,
        _ => panic!("not a transaction's outcome"),
    }
}

#[test]
fn a_large_delete_is_one_revision_in_many_slices() {
    let mut applier = Applier::new(1, 2);
    for n in 0..1_000 {
        put(&mut applier, &format!("k{n:04}"), "v", 0);
    }
    let (outcome, slices) = apply_sliced(&mut applier, Operation::DeleteRange(delete_request("k", "l")), 100);
    let Outcome::DeleteRange { revision, deleted, previous } = outcome else { panic!("deleted") };
    assert_eq!((revision, deleted, previous.len()), (1_002, 1_000, 1_000));
    assert_eq!((previous[0].key(), previous[999].key()), (&b"k0000"[..], &b"k0999"[..]));
    assert!(slices >= 20, "{slices} slices of 100 units for 1,000 keys");
    assert_eq!(applier.store().revision(), 1_002);
    assert_eq!(applier.store_mut().view().live_keys(), 0);
    let again = apply(&mut applier, Operation::DeleteRange(delete_request("k", "l")));
    assert!(
        matches!(again, Outcome::DeleteRange { revision: 1_002, deleted: 0, .. }),
        "a no-op costs no revision"
    );
}

#[test]
fn a_revoke_deletes_in_key_order_in_one_revision() {
    let mut applier = Applier::new(1, 2);
    let grant = LeaseGrantRequest { ttl: 0, id: 7 };
    assert!(matches!(apply(&mut applier, Operation::LeaseGrant(grant)), Outcome::LeaseGrant { ttl: 2, .. }));
    for key in ["c", "a", "b"] {
        put(&mut applier, key, "v", 7);
    }
    put(&mut applier, "b", "detached", 0);
    let (outcome, slices) =
        apply_sliced(&mut applier, Operation::LeaseRevoke(LeaseRevokeRequest { id: 7 }), 3);
    assert!(matches!(outcome, Outcome::LeaseRevoke { revision: 6, id: 7 }));
    assert!(slices > 1);
    let view = applier.store_mut().view();
    let mut cursor = crate::pure::mvcc::LogCursor::at(6);
    let mut deleted = Vec::new();
    while let Access::Ready(Some(record)) = view.next_record(&mut cursor) {
        assert!(record.is_tombstone());
        deleted.push(record.key().to_vec());
    }
    assert_eq!(deleted, [b"a", b"c"]);
    assert!(applier.leases().is_empty());
    let unknown = apply(&mut applier, Operation::LeaseRevoke(LeaseRevokeRequest { id: 7 }));
    assert_eq!(failure(&unknown), Some(ApplyError::LeaseNotFound));
}

#[test]
fn what_can_fail_is_refused_before_anything_changes() {
    let mut applier = Applier::new(1, 2);
    put(&mut applier, "a", "1", 0);
    assert_eq!(failure(&put(&mut applier, "a", "2", 99)), Some(ApplyError::LeaseNotFound));
    let ignore = PutRequest { ignore_value: true, ..put_request("none", "", 0) };
    assert_eq!(failure(&apply(&mut applier, Operation::Put(ignore.clone()))), Some(ApplyError::KeyNotFound));
    let ops = vec![RequestOp::Put(put_request("b", "1", 0)), RequestOp::Put(ignore)];
    assert_eq!(failure(&txn(&mut applier, vec![], ops, vec![])), Some(ApplyError::KeyNotFound));
    let future = RequestOp::Range(RangeRequest { key: "a".into(), revision: 3, ..RangeRequest::default() });
    let ops = vec![RequestOp::Put(put_request("b", "1", 0)), future];
    assert_eq!(failure(&txn(&mut applier, vec![], ops, vec![])), Some(ApplyError::FutureRevision));
    assert_eq!(applier.store().revision(), 2);
    assert!(applier.store().live(b"b").is_none());
    let grant = LeaseGrantRequest { ttl: 9_000_000_001, id: 1 };
    assert_eq!(
        failure(&apply(&mut applier, Operation::LeaseGrant(grant))),
        Some(ApplyError::LeaseTtlTooLarge)
    );
}

#[test]
fn compares_see_the_state_before_and_ranges_the_writes() {
    let mut applier = Applier::new(1, 2);
    put(&mut applier, "a", "1", 0);
    let nested = TxnRequest {
        compare: vec![compare(3, 0, "a", "", CompareOperand::Value("1".into()))],
        success: vec![RequestOp::Range(RangeRequest { key: "a".into(), ..RangeRequest::default() })],
        failure: vec![],
    };
    let success = vec![RequestOp::Put(put_request("a", "2", 0)), RequestOp::Txn(nested)];
    let Outcome::Txn(response) = txn(&mut applier, vec![], success, vec![]) else { panic!("applied") };
    assert_eq!(response.header.revision, 3);
    let ResponseOp::Txn(nested) = &response.responses[1] else { panic!("nested") };
    assert!(nested.succeeded, "the nested compare saw the state before");
    assert_eq!(nested.header.revision, 0);
    let ResponseOp::Range(range) = &nested.responses[0] else { panic!("range") };
    assert_eq!(range.records[0].value(), b"2", "the range saw the put");
    assert_eq!(range.header.expect("set").revision, 3);
}

#[test]
fn compares_read_missing_keys_and_undefined_numbers_as_etcd_does() {
    let mut applier = Applier::new(1, 2);
    put(&mut applier, "a", "1", 0);
    put(&mut applier, "b", "1", 0);
    let mut holds = |c: Compare| succeeded(&txn(&mut applier, vec![c], vec![], vec![]));
    assert!(holds(compare(0, 0, "none", "", CompareOperand::Version(0))));
    assert!(holds(compare(0, 2, "none", "", CompareOperand::Version(1))));
    assert!(!holds(compare(3, 3, "none", "", CompareOperand::Value("x".into()))), "VALUE never holds");
    assert!(!holds(compare(3, 0, "none", "", CompareOperand::Value("".into()))));
    assert!(holds(compare(1, 9, "a", "", CompareOperand::CreateRevision(77))), "undefined operators hold");
    assert!(holds(compare(9, 0, "a", "", CompareOperand::None)), "undefined targets are equal");
    assert!(!holds(compare(9, 1, "a", "", CompareOperand::None)));
    assert!(holds(compare(2, 1, "a", "", CompareOperand::None)), "an absent operand is 0");
    assert!(holds(compare(0, 0, "a", "c", CompareOperand::Version(1))));
    assert!(!holds(compare(2, 0, "a", "c", CompareOperand::ModRevision(2))), "all of a range must hold");
    assert!(
        holds(compare(2, 0, "x", "y", CompareOperand::ModRevision(0))),
        "an empty range is a missing key"
    );
}

#[test]
fn ignore_value_and_ignore_lease_keep_what_was() {
    let mut applier = Applier::new(1, 2);
    apply(&mut applier, Operation::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 5 }));
    put(&mut applier, "a", "1", 5);
    let touch =
        PutRequest { ignore_value: true, ignore_lease: true, prev_kv: true, ..put_request("a", "", 0) };
    let Outcome::Put { revision: 3, previous: Some(previous) } = apply(&mut applier, Operation::Put(touch))
    else {
        panic!("touched")
    };
    assert_eq!((previous.value(), previous.version()), (&b"1"[..], 1));
    let now = applier.store().live(b"a").expect("live");
    assert_eq!((now.version, now.lease), (2, 5));
    assert_eq!(applier.leases().get(5).expect("granted").keys.len(), 1);
    put(&mut applier, "a", "2", 0);
    assert!(applier.leases().get(5).expect("granted").keys.is_empty(), "a put without lease detaches");
}

#[test]
fn compact_is_checked_against_both_ends() {
    let mut applier = Applier::new(1, 2);
    put(&mut applier, "a", "1", 0);
    let mut compact = |revision| {
        apply(&mut applier, Operation::Compaction(CompactionRequest { revision, physical: false }))
    };
    assert_eq!(failure(&compact(-1)), Some(ApplyError::Compacted));
    assert_eq!(failure(&compact(0)), None, "once, on a store that was never compacted");
    assert_eq!(failure(&compact(0)), Some(ApplyError::Compacted));
    assert_eq!(failure(&compact(3)), Some(ApplyError::FutureRevision));
    assert_eq!(failure(&compact(2)), None);
    assert_eq!(failure(&compact(2)), Some(ApplyError::Compacted));
}
