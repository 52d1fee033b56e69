use std::collections::BTreeSet;

use super::*;
use crate::stdx::prng::Prng;

fn put(key: &str) -> RequestOp {
    RequestOp::Put(PutRequest { key: key.to_owned().into(), ..Default::default() })
}

fn del(key: &str, end: &str) -> RequestOp {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    RequestOp::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false })
}

fn get(key: &str) -> RequestOp {
    RequestOp::Range(RangeRequest { key: key.to_owned().into(), ..Default::default() })
}

fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: vec![], success, failure }
}

fn nest(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    RequestOp::Txn(txn(success, failure))
}

fn result(txn: &TxnRequest) -> Result<(), Status> {
    validate_txn(txn, 128)
}

#[test]
fn ranges() {
    let range = |key: &'static str, sort_order, sort_target| RangeRequest {
        key: key.into(),
        sort_order,
        sort_target,
        ..Default::default()
    };
    assert_eq!(validate_range(&range("", 9, 9)), Err(status::EMPTY_KEY));
    for (order, target) in [(-1, 0), (3, 0), (0, -1), (0, 5)] {
        assert_eq!(validate_range(&range("k", order, target)), Err(status::INVALID_SORT_OPTION));
        assert_eq!(validate_range_stream(&range("k", order, target)), Err(status::INVALID_SORT_OPTION));
    }
    for order in 0..=2 {
        for target in 0..=4 {
            let mut range = range("k", order, target);
            assert_eq!(validate_range(&range), Ok(()));
            let natural = order == 0 || (order, target) == (1, 0);
            let expected = if natural { Ok(()) } else { Err(status::RANGE_STREAM_SORT) };
            assert_eq!(validate_range_stream(&range), expected);
            range.max_create_revision = -1;
            let expected = expected.and(Err(status::RANGE_STREAM_FILTERS));
            assert_eq!(validate_range_stream(&range), expected);
        }
    }
    let filters: [fn(&mut RangeRequest) -> &mut i64; 4] = [
        |range| &mut range.min_mod_revision,
        |range| &mut range.max_mod_revision,
        |range| &mut range.min_create_revision,
        |range| &mut range.max_create_revision,
    ];
    for filter in filters {
        let mut range = range("k", 0, 0);
        *filter(&mut range) = 1;
        assert_eq!(validate_range_stream(&range), Err(status::RANGE_STREAM_FILTERS));
    }
}

#[test]
fn puts_and_deletes() {
    let mut put =
        PutView { value: b"v", lease: 1, ignore_value: true, ignore_lease: true, ..Default::default() };
    assert_eq!(validate_put(&put), Err(status::EMPTY_KEY));
    put.key = b"k";
    assert_eq!(validate_put(&put), Err(status::VALUE_PROVIDED));
    put.value = b"";
    assert_eq!(validate_put(&put), Err(status::LEASE_PROVIDED));
    put.lease = 0;
    assert_eq!(validate_put(&put), Ok(()));
    let mut delete = DeleteRangeRequest { range_end: "z".into(), ..Default::default() };
    assert_eq!(validate_delete_range(&delete), Err(status::EMPTY_KEY));
    delete.key = "a".into();
    assert_eq!(validate_delete_range(&delete), Ok(()));
}

#[test]
fn structure_in_etcds_order() {
    let compare = |key: &'static str| Compare { key: key.into(), ..Default::default() };
    let many = |n| (0..n).map(|i| put(&format!("{i}"))).collect::<Vec<_>>();
    // The number of operations comes before any key.
    let mut t = TxnRequest { compare: vec![compare(""); 129], success: vec![put("")], failure: vec![] };
    assert_eq!(result(&t), Err(status::TOO_MANY_OPS));
    t.compare.pop();
    t.success = vec![RequestOp::None];
    assert_eq!(result(&t), Err(status::EMPTY_KEY));
    t.compare = vec![compare("k"); 128];
    assert_eq!(result(&t), Err(status::KEY_NOT_FOUND));
    t.success = vec![get("k"), put(""), RequestOp::None];
    assert_eq!(result(&t), Err(status::EMPTY_KEY));
    // Success before failure, both checked; structure before overlaps.
    t = txn(vec![put("a"), put("a")], vec![RequestOp::None]);
    assert_eq!(result(&t), Err(status::KEY_NOT_FOUND));
    t.failure.clear();
    assert_eq!(result(&t), Err(status::DUPLICATE_KEY));
    assert_eq!(result(&txn(vec![], vec![put("a"), put("a")])), Err(status::DUPLICATE_KEY));
    assert_eq!(result(&txn(many(128), many(128))), Ok(()));
    assert_eq!(result(&txn(many(128), many(129))), Err(status::TOO_MANY_OPS));
    assert_eq!(result(&txn(vec![], vec![])), Ok(()));
    // A nested transaction gets what its parent leaves over (seen: 100 + 28 pass, + 29 fail).
    let shared = |inner: usize| {
        let mut outer: Vec<RequestOp> = (0..99).map(|i| get(&format!("{i}"))).collect();
        outer.push(nest(many(inner), vec![]));
        txn(outer, vec![])
    };
    assert_eq!(result(&shared(28)), Ok(()));
    assert_eq!(result(&shared(29)), Err(status::TOO_MANY_OPS));
}

/// Seen on a real server: 128 levels of single operations pass, 129 fail.
#[test]
fn depth_shares_the_budget() {
    let chain = |levels: usize| {
        let innermost = txn(vec![put("k")], vec![]);
        (1..levels).fold(innermost, |inner, _| txn(vec![RequestOp::Txn(inner)], vec![]))
    };
    assert_eq!(result(&chain(128)), Ok(()));
    assert_eq!(result(&chain(129)), Err(status::TOO_MANY_OPS));
}

/// Every row was seen on a real server.
#[test]
fn overlaps() {
    let clash = Err(status::DUPLICATE_KEY);
    for (what, ops, expected) in [
        ("put, put", vec![put("a"), put("a")], clash.clone()),
        ("put, other put", vec![put("a"), put("b")], Ok(())),
        ("put, delete", vec![put("a"), del("a", "")], clash.clone()),
        ("delete, put", vec![del("a", ""), put("a")], clash.clone()),
        ("delete, put of the string right behind", vec![del("a", ""), put("a\0")], Ok(())),
        ("delete, delete", vec![del("a", "c"), del("b", "d")], Ok(())),
        ("range, put", vec![get("a"), put("a"), get("a")], Ok(())),
        ("put at the start", vec![del("a", "c"), put("a")], clash.clone()),
        ("put inside", vec![del("a", "c"), put("b")], clash.clone()),
        ("put at the end", vec![del("a", "c"), put("c")], Ok(())),
        ("inverted", vec![del("c", "a"), put("b")], Ok(())),
        ("open end isn't seen", vec![del("q", "\0"), put("z")], Ok(())),
        ("outer put, nested put", vec![put("a"), nest(vec![put("a")], vec![])], clash.clone()),
        ("outer put, nested put in else", vec![put("a"), nest(vec![], vec![put("a")])], clash.clone()),
        ("outer delete after nested put", vec![nest(vec![put("a")], vec![]), del("a", "")], clash.clone()),
        ("nested delete, outer put", vec![nest(vec![del("a", "")], vec![]), put("a")], clash.clone()),
        ("then and else put", vec![nest(vec![put("a")], vec![put("a")])], Ok(())),
        ("then puts, else deletes", vec![nest(vec![put("a")], vec![del("a", "")])], Ok(())),
        ("siblings put", vec![nest(vec![put("a")], vec![]), nest(vec![], vec![put("a")])], clash.clone()),
        (
            "sibling deletes, then sibling puts",
            vec![nest(vec![del("a", "")], vec![]), nest(vec![put("a")], vec![])],
            clash.clone(),
        ),
        (
            "sibling puts, then sibling deletes",
            vec![nest(vec![put("a")], vec![]), nest(vec![del("a", "")], vec![])],
            Ok(()),
        ),
        ("clash two levels down", vec![nest(vec![nest(vec![put("a"), put("a")], vec![])], vec![])], clash),
    ] {
        assert_eq!(result(&txn(ops.clone(), vec![])), expected, "{what}");
        assert_eq!(result(&txn(vec![], ops)), expected, "{what}, in else");
    }
    assert_eq!(result(&txn(vec![put("a")], vec![put("a"), del("b", "")])), Ok(()), "success and failure");
}

/// Starts and ends.
type Deletes = Vec<(String, String)>;

/// Etcd's rule, written down as it stands there: sets copied upwards, every pair compared.
fn etcds_rule(ops: &[RequestOp]) -> Option<(BTreeSet<String>, Deletes)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let hit = |dels: &[(String, String)], key: &String| dels.iter().any(|(s, e)| s <= key && key < e);
    let mut dels = Vec::new();
    for op in ops {
        if let RequestOp::DeleteRange(d) = op {
            let end = if d.range_end.is_empty() { text(&d.key) + "\0" } else { text(&d.range_end) };
            dels.push((text(&d.key), end));
        }
    }
    let mut puts = BTreeSet::new();
    for op in ops {
        if let RequestOp::Txn(t) = op {
            let (puts_then, dels_then) = etcds_rule(&t.success)?;
            let (puts_else, dels_else) = etcds_rule(&t.failure)?;
            for key in &puts_then {
                if puts.contains(key) || hit(&dels, key) {
                    return None;
                }
                puts.insert(key.clone());
            }
            for key in &puts_else {
                if puts.contains(key) && !puts_then.contains(key) || hit(&dels, key) {
                    return None;
                }
                puts.insert(key.clone());
            }
            dels.extend(dels_then);
            dels.extend(dels_else);
        }
    }
    for op in ops {
        if let RequestOp::Put(p) = op {
            let key = text(&p.key);
            if puts.contains(&key) || hit(&dels, &key) {
                return None;
            }
            puts.insert(key);
        }
    }
    Some((puts, dels))
}

#[test]
fn random_transactions_clash_as_in_etcd() {
    fn ops(prng: &mut Prng, depth: u32) -> Vec<RequestOp> {
        let keys = ["a", "a\0", "b", "ba", "c", "d", "e\0", "\0"];
        let count = if prng.chance(1, 8) { prng.below(24) } else { prng.below(4) };
        (0..count)
            .map(|_| {
                let mut key = |n: usize| keys[prng.below(n as u64) as usize];
                let (start, end) = (key(7), key(8));
                match prng.below(if depth == 0 { 4 } else { 7 }) {
                    0 => get(start),
                    1 => put(&format!("{start}{}", prng.below(6))),
                    2 => del(start, ""),
                    3 => del(start, end),
                    _ => nest(ops(prng, depth - 1), ops(prng, depth - 1)),
                }
            })
            .collect()
    }
    let mut prng = Prng::new(11);
    let mut seen = [0, 0];
    for round in 0..6_000 {
        let branch = ops(&mut prng, round % 4);
        let fine = etcds_rule(&branch).is_some();
        seen[usize::from(fine)] += 1;
        let expected = if fine { Ok(()) } else { Err(status::DUPLICATE_KEY) };
        assert_eq!(overlap::check(&branch), expected, "{branch:?}");
    }
    assert!(seen[0] > 600 && seen[1] > 600, "both outcomes are tried: {seen:?}");
}

#[test]
fn read_only_and_serializable() {
    let serial = RequestOp::Range(RangeRequest { key: "k".into(), serializable: true, ..Default::default() });
    for (t, read_only, serializable) in [
        (txn(vec![], vec![]), true, true),
        (txn(vec![get("a")], vec![serial.clone()]), true, false),
        (txn(vec![serial.clone()], vec![serial.clone()]), true, true),
        (txn(vec![serial.clone()], vec![put("a")]), false, false),
        (txn(vec![del("a", "")], vec![]), false, false),
        (txn(vec![nest(vec![serial], vec![])], vec![]), false, false),
        (txn(vec![RequestOp::None], vec![]), false, false),
    ] {
        assert_eq!((is_read_only(&t), is_serializable(&t)), (read_only, serializable), "{t:?}");
    }
}
