//! The key space against real etcd's numbers, against a plain model, and under threads.

use std::collections::BTreeMap;

use super::*;
use crate::stdx::work::{Step, Work};

fn hash_at(store: &mut Store, revision: Revision, slice: u32) -> u32 {
    let view = store.view();
    let mut walk = HashWalk::new(&view, revision);
    loop {
        match walk.step(&view, &mut Work::new(slice)) {
            Step::Done(hash) => return hash,
            Step::More => {}
            Step::Pending => unreachable!("all records are in memory"),
        }
    }
}

fn clean_all(store: &mut Store, floor: Revision, forced: bool, slice: u32) {
    while store.clean(floor, forced, &mut Work::new(slice)) != Step::Done(()) {}
    drop(store.take_retired());
}

fn put(store: &mut Store, key: &str, value: &str) {
    store.put(key.as_bytes(), value.as_bytes(), 0);
    store.end_txn();
}

fn ready<T>(access: Access<T>) -> T {
    match access {
        Access::Ready(thing) => thing,
        Access::Pending => unreachable!("all records are in memory"),
    }
}

/// Numbers that etcd 3.5.1 gave (formats/ids-and-hashes.md), before and after a compaction, and no
/// matter how far cleaning has come.
#[test]
fn hashes_equal_those_of_etcd() {
    let mut store = Store::new(1);
    put(&mut store, "foo", "bar");
    put(&mut store, "foo", "bar2");
    store.put(b"a", b"1", 0);
    store.put(b"b", b"2", 0);
    assert_eq!(store.end_txn(), 4);
    assert!(store.delete(b"foo").is_some());
    store.end_txn();
    store.put(b"k", b"v", 0x6fbc_a1fc_2077_8805);
    store.end_txn();

    let before = [(2, 3305255506), (3, 3581052765), (4, 126539555), (5, 4238624442), (6, 2680567280)];
    for (revision, hash) in before {
        assert_eq!(hash_at(&mut store, revision, 1_000), hash, "at {revision}");
        assert_eq!(hash_at(&mut store, revision, 1), hash, "at {revision} in slices");
    }
    store.compact(3);
    for _ in 0..2 {
        assert_eq!(hash_at(&mut store, 6, 1), 3311400294);
        assert_eq!(hash_at(&mut store, 4, 1), 1219665780);
        clean_all(&mut store, 3, true, 1);
    }
}

/// Numbers that etcd 3.5.30 gave: a tombstone at exactly the compact revision.
#[test]
fn hashes_skip_a_tombstone_at_the_compact_revision() {
    let mut store = Store::new(1);
    put(&mut store, "foo", "1");
    put(&mut store, "foo", "2");
    store.delete(b"foo");
    store.end_txn();
    put(&mut store, "b", "x");
    put(&mut store, "b", "y");
    let before = [(2, 1652237581), (3, 300515633), (4, 3414835680), (5, 491622400), (6, 226783591)];
    for (revision, hash) in before {
        assert_eq!(hash_at(&mut store, revision, 1), hash, "at {revision}");
    }
    store.compact(4);
    for _ in 0..2 {
        assert_eq!(hash_at(&mut store, 6, 1), 162904817);
        assert_eq!(hash_at(&mut store, 5, 1), 376657901);
        clean_all(&mut store, 4, true, 1);
    }
    put(&mut store, "b", "z");
    store.compact(6);
    for _ in 0..2 {
        assert_eq!(hash_at(&mut store, 7, 1), 730364208);
        clean_all(&mut store, 6, true, 1);
    }
}

/// The stored message is the one of the example bytes.
#[test]
fn records_hold_the_bytes_of_etcd() {
    let mut store = Store::new(1);
    store.put(b"k", b"v", 0x6fbc_a1fc_2077_8805);
    store.end_txn();
    store.delete(b"k");
    store.end_txn();
    let view = store.view();
    let mut cursor = LogCursor::at(2);
    let record = ready(view.next_record(&mut cursor)).expect("a put");
    let expected = b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v\x30\x85\x90\xde\x83\xc2\xbf\xa8\xde\x6f";
    assert_eq!(record.kv_bytes(), expected);
    assert_eq!((record.main(), record.sub(), record.create(), record.version()), (2, 0, 2, 1));
    assert_eq!((record.key(), record.value(), record.lease()), (&b"k"[..], &b"v"[..], 0x6fbc_a1fc_2077_8805));
    let record = ready(view.next_record(&mut cursor)).expect("a delete");
    assert_eq!(record.kv_bytes(), b"\x0a\x01k\x18\x03");
    assert!(record.is_tombstone() && record.value().is_empty());
    assert!(ready(view.next_record(&mut cursor)).is_none());
}
