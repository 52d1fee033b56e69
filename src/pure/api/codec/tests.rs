use super::*;
use crate::pure::api::canonical::{self, is_canonical};
use crate::pure::api::log_payload;
use crate::pure::api::schema::Schema;
use crate::pure::api::status::{Code, EMPTY_KEY, KEY_NOT_FOUND};
use crate::pure::api::validate::validate_txn;
use crate::stdx::prng::Prng;

fn check<M: Encode + Decode + PartialEq + std::fmt::Debug>(message: &str, request: &M, expected: &str) {
    let bytes = encode(request);
    assert_eq!(bytes.len(), request.encoded_len(), "{message}");
    assert_eq!(Schema::load().show(message, &bytes), expected);
    assert_eq!(decode::<M>(&bytes.into()).as_ref(), Ok(request));
}

/// Every field of every request, by the schema's names.
#[test]
fn numbers_agree_with_the_schema() {
    let range = RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 1,
        revision: 2,
        sort_order: -1,
        sort_target: 4,
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 3,
        max_mod_revision: 4,
        min_create_revision: 5,
        max_create_revision: -6,
    };
    let range_text = "key:\"a\" range_end:\"b\" limit:1 revision:2 sort_order:-1 sort_target:4 serializable \
                      keys_only count_only min_mod_revision:3 max_mod_revision:4 min_create_revision:5 \
                      max_create_revision:-6";
    check("etcdserverpb.RangeRequest", &range, range_text);
    let put = PutRequest {
        key: "a".into(),
        value: "b".into(),
        lease: -1,
        prev_kv: true,
        ignore_value: true,
        ignore_lease: true,
    };
    let put_text = "key:\"a\" value:\"b\" lease:-1 prev_kv ignore_value ignore_lease";
    check("etcdserverpb.PutRequest", &put, put_text);
    assert_eq!(encode(&PutView::from(&put)), encode(&put));
    assert_eq!(PutView::decode(&encode(&put)), Ok(PutView::from(&put)));
    let delete = DeleteRangeRequest { key: "a".into(), range_end: "b".into(), prev_kv: true };
    let delete_text = "key:\"a\" range_end:\"b\" prev_kv";
    check("etcdserverpb.DeleteRangeRequest", &delete, delete_text);
    let compares = [
        (CompareOperand::None, ""),
        (CompareOperand::Version(0), "version:0 "),
        (CompareOperand::CreateRevision(-1), "create_revision:-1 "),
        (CompareOperand::ModRevision(6), "mod_revision:6 "),
        (CompareOperand::Value("v".into()), "value:\"v\" "),
        (CompareOperand::Value(Bytes::new()), "value:\"\" "),
        (CompareOperand::Lease(7), "lease:7 "),
    ];
    let mut compare =
        Compare { result: 3, target: 4, key: "a".into(), range_end: "b".into(), ..Default::default() };
    for (operand, text) in compares {
        compare.operand = operand;
        let expected = format!("result:3 target:4 key:\"a\" {text}range_end:\"b\"");
        check("etcdserverpb.Compare", &compare, &expected);
    }
    let txn = TxnRequest {
        compare: vec![Compare { key: "c".into(), ..Default::default() }],
        success: vec![
            RequestOp::Range(range),
            RequestOp::Txn(TxnRequest { failure: vec![RequestOp::Put(put)], ..Default::default() }),
        ],
        failure: vec![RequestOp::DeleteRange(delete), RequestOp::None],
    };
    let expected = format!(
        "compare{{key:\"c\"}} success{{request_range{{{range_text}}}}} \
         success{{request_txn{{failure{{request_put{{{put_text}}}}}}}}} \
         failure{{request_delete_range{{{delete_text}}}}} failure{{}}"
    );
    check("etcdserverpb.TxnRequest", &txn, &expected);
    let compaction = CompactionRequest { revision: 5, physical: true };
    check("etcdserverpb.CompactionRequest", &compaction, "revision:5 physical");
    check("etcdserverpb.LeaseGrantRequest", &LeaseGrantRequest { ttl: 1, id: 2 }, "TTL:1 ID:2");
    check("etcdserverpb.LeaseRevokeRequest", &LeaseRevokeRequest { id: 2 }, "ID:2");
    check(
        "etcdserverpb.LeaseCheckpoint",
        &LeaseCheckpoint { id: 1, remaining_ttl: 2 },
        "ID:1 remaining_TTL:2",
    );
    check("etcdserverpb.LeaseKeepAliveRequest", &LeaseKeepAliveRequest { id: 2 }, "ID:2");
    check("etcdserverpb.LeaseTimeToLiveRequest", &LeaseTimeToLiveRequest { id: 2, keys: true }, "ID:2 keys");
    check("etcdserverpb.LeaseLeasesRequest", &EmptyRequest, "");
    let alarm = AlarmRequest { action: 1, member_id: u64::MAX, alarm: 2 };
    check("etcdserverpb.AlarmRequest", &alarm, "action:1 memberID:18446744073709551615 alarm:2");
    check("etcdserverpb.MemberListRequest", &MemberListRequest { linearizable: true }, "linearizable");
    check("etcdserverpb.HashKVRequest", &HashKvRequest { revision: 3 }, "revision:3");
    let health = HealthCheckRequest { service: "s".into() };
    check("grpc.health.v1.HealthCheckRequest", &health, "service:\"s\"");
    let member =
        MemberAttributes { member_id: 1, name: "n".into(), client_urls: vec!["".into(), "u".into()] };
    let expected = "member_ID:1 member_attributes{name:\"n\" client_urls:\"\" client_urls:\"u\"}";
    check("membershippb.ClusterMemberAttrSetRequest", &member, expected);
    let create = WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        start_revision: 1,
        progress_notify: true,
        filters: WatchFilters { no_put: true, no_delete: true },
        prev_kv: true,
        watch_id: -2,
        fragment: true,
    };
    let expected = "create_request{key:\"a\" range_end:\"b\" start_revision:1 progress_notify filters:[0, 1] \
                    prev_kv watch_id:-2 fragment}";
    check("etcdserverpb.WatchRequest", &WatchRequest::Create(create), expected);
    let cancel = WatchRequest::Cancel(WatchCancelRequest { watch_id: 3 });
    check("etcdserverpb.WatchRequest", &cancel, "cancel_request{watch_id:3}");
    check("etcdserverpb.WatchRequest", &WatchRequest::Progress, "progress_request{}");
    check("etcdserverpb.WatchRequest", &WatchRequest::None, "");
}

/// What Go's runtime does with each, field by field.
#[test]
fn merging_and_odd_fields_are_gos() {
    let put = |bytes: &'static [u8]| {
        let request = decode::<PutRequest>(&Bytes::from_static(bytes));
        // The view reads alike.
        assert_eq!(request.as_ref().map(PutView::from).map_err(|error| *error), PutView::decode(bytes));
        request
    };
    let plain = |key: &'static str, lease| PutRequest { key: key.into(), lease, ..Default::default() };
    assert_eq!(put(b"\x0a\x01a\x0a\x01b"), Ok(plain("b", 0)), "the last one wins");
    assert_eq!(put(b"\x0a\x01a\x0a\x00"), Ok(plain("", 0)), "even if empty");
    assert_eq!(put(b"\x08\x05\x0a\x01a\x1a\x01x"), Ok(plain("a", 0)), "other wire types are unknown fields");
    assert_eq!(put(b"\x0a\x01a\x7a\x01x\xfb\x01\xfc\x01"), Ok(plain("a", 0)), "unknown fields and groups");
    assert_eq!(put(b"\x20\x80\x02").map(|put| put.prev_kv), Ok(true), "a bool is any number but 0");
    assert_eq!(put(b"\x0a\x02a"), Err(DecodeError::Malformed));
    assert_eq!(put(b"\x7a\x02a"), Err(DecodeError::Malformed), "unknown fields too must be whole");

    let op = |bytes: &'static [u8]| {
        let mut op = RequestOp::None;
        op.merge(Source::whole(&Bytes::from_static(bytes), Depth::REQUEST)).map(|()| op)
    };
    assert_eq!(
        op(b"\x12\x03\x0a\x01a\x12\x02\x18\x07"),
        Ok(RequestOp::Put(plain("a", 7))),
        "equal members merge"
    );
    let delete = DeleteRangeRequest { prev_kv: true, ..Default::default() };
    assert_eq!(
        op(b"\x12\x03\x0a\x01a\x1a\x02\x18\x01"),
        Ok(RequestOp::DeleteRange(delete)),
        "others replace"
    );
    assert_eq!(op(b"\x12\x03\x0a\x01a\x10\x05"), Ok(RequestOp::Put(plain("a", 0))));
    let two = TxnRequest { success: vec![RequestOp::None, RequestOp::None], ..Default::default() };
    assert_eq!(op(b"\x22\x02\x12\x00\x22\x02\x12\x00"), Ok(RequestOp::Txn(two)), "lists grow");
    assert_eq!(op(b"\x22\x00\x22\x02\x12\x02"), Err(DecodeError::Malformed));

    let compare =
        decode::<Compare>(&Bytes::from_static(b"\x20\x05\x3a\x01v\x08\x81\x80\x80\x80\x10")).expect("ok");
    assert_eq!(compare.operand, CompareOperand::Value("v".into()), "the last operand");
    assert_eq!(compare.result, 1, "enums keep 32 bits");

    let watch = |bytes: &'static [u8]| decode::<WatchRequest>(&Bytes::from_static(bytes));
    let filters = |no_put, no_delete| {
        let filters = WatchFilters { no_put, no_delete };
        Ok(WatchRequest::Create(WatchCreateRequest { filters, ..Default::default() }))
    };
    assert_eq!(watch(b"\x0a\x02\x28\x01"), filters(false, true), "unpacked");
    assert_eq!(watch(b"\x0a\x04\x2a\x02\x00\x07"), filters(true, false), "packed, with one unknown");
    assert_eq!(watch(b"\x0a\x02\x28\x01\x0a\x02\x28\x00"), filters(true, true), "merged");
    assert_eq!(watch(b"\x0a\x02\x28\x01\x1a\x00"), Ok(WatchRequest::Progress));
    assert_eq!(watch(b"\x22\x00"), Ok(WatchRequest::None), "of a later version");
    assert_eq!(watch(b"\x1a\x01\x08"), Err(DecodeError::Malformed));
    assert_eq!(watch(b"\x0a\x03\x2a\x01\x80"), Err(DecodeError::Malformed));

    let text =
        decode_request::<HealthCheckRequest>(&Bytes::from_static(b"\x0a\x01\xff")).expect_err("no text");
    assert_eq!(text.code, Code::Internal);
    assert_eq!(text.message, "grpc: error unmarshalling request: string field contains invalid UTF-8");
    assert_eq!(decode::<EmptyRequest>(&Bytes::from_static(b"\x0a\x01\xff")), Ok(EmptyRequest));
    assert_eq!(decode::<EmptyRequest>(&Bytes::from_static(b"\x0a\x02\xff")), Err(DecodeError::Malformed));
}

#[test]
fn a_txn_with_too_many_operations_keeps_no_more_than_shows_it() {
    for (field, count) in
        [(b"\x12\x00", 100_000), (b"\x1a\x00", 100_000), (b"\x0a\x00", 100_000), (b"\x12\x00", 129)]
    {
        let message: Bytes = field.repeat(count).into();
        let txn = decode_txn(&message, 128).expect("decodes");
        assert_eq!(txn.success.len() + txn.failure.len() + txn.compare.len(), 129);
    }
    let exact: Bytes = b"\x12\x00".repeat(128).into();
    assert_eq!(decode_txn(&exact, 128).expect("decodes").success.len(), 128);
    // The same inside of others, up to what a message may hold: a list of each level is kept, not the product.
    let ops = |message: &[u8], count: usize| {
        let op = pb_field(0x12, message);
        op.repeat(count)
    };
    let inside = |txn: &[u8]| pb_field(0x22, txn);
    let mut message = ops(b"", 32);
    for _ in 0..2 {
        message = ops(&inside(&message), 32);
    }
    let message = Bytes::from(message);
    assert_eq!(count_ops(&decode::<TxnRequest>(&message).expect("decodes")), 32 * 32 * 32 + 32 * 32 + 32);
    let txn = decode_txn(&message, 128).expect("decodes");
    assert_eq!(count_ops(&txn), 32 + 32 + 32);
    assert_eq!(validate_txn(&txn, 128), Err(KEY_NOT_FOUND));
    // What comes first on the wire is not what is checked first: the fault of the branch of success counts.
    let failure_first = [b"\x1a\x00".to_vec(), ops(b"\x0a\x00", 1)].concat().into();
    assert_eq!(validate_txn(&decode_txn(&failure_first, 128).expect("decodes"), 128), Err(EMPTY_KEY));
    // What is not kept has to decode all the same.
    let broken: Bytes = [b"\x12\x00".repeat(1_000), b"\x12\x02\x12\x07".to_vec()].concat().into();
    assert!(decode_txn(&broken, 128).is_err());
}

fn pb_field(key: u8, message: &[u8]) -> Vec<u8> {
    let mut field = vec![key];
    pb::put_varint(&mut field, message.len() as u64);
    field.extend_from_slice(message);
    field
}

fn count_ops(txn: &TxnRequest) -> usize {
    let ops = txn.success.iter().chain(&txn.failure);
    ops.map(|op| 1 + if let RequestOp::Txn(nested) = op { count_ops(nested) } else { 0 }).sum()
}

#[test]
fn byte_fields_share_the_buffer() {
    let message = Bytes::from(encode(&PutView { key: b"key", value: b"value", ..Default::default() }));
    let put: PutRequest = decode(&message).expect("a put");
    let inside = |part: &Bytes| message.as_ptr_range().contains(&part.as_ptr());
    assert!(inside(&put.key) && inside(&put.value));
}

/// Bytes of a put inside `levels` transactions, built from the inside.
fn nested(levels: usize) -> Bytes {
    let mut bytes = b"\x12\x05\x12\x03\x0a\x01k".to_vec();
    for _ in 1..levels {
        let mut op = Vec::new();
        pb::put_bytes_field(&mut op, 4, &bytes);
        bytes.clear();
        pb::put_bytes_field(&mut bytes, 2, &op);
    }
    bytes.into()
}

/// Hostile nesting must not overflow the stack of a thread that serves clients, in no build.
#[test]
fn the_deepest_txn_fits_a_small_stack() {
    use crate::limits::request::PROTOBUF_DEPTH_MAX;
    let run = || {
        // Each transaction takes two levels: its own and its operation's; the put takes one.
        let deepest = (PROTOBUF_DEPTH_MAX - 1) / 2;
        let message = nested(deepest);
        let txn: TxnRequest = decode(&message).expect("just deep enough");
        assert_eq!(encode(&txn), message);
        assert!(is_canonical(&canonical::TXN, &message));
        assert_eq!(crate::pure::api::validate::validate_txn(&txn, usize::MAX), Ok(()));
        assert!(crate::pure::api::validate::validate_txn(&txn, 128).is_err());
        drop(txn);
        for levels in [deepest + 1, 301, 600, 20_000] {
            let message = nested(levels);
            assert_eq!(decode::<TxnRequest>(&message), Err(DecodeError::TooDeep), "{levels}");
            assert!(!is_canonical(&canonical::TXN, &message), "{levels}");
        }
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(run).expect("a thread");
    thread.join().expect("no overflow, no panic");
}

// Seeded fuzzers.

struct Generator(Prng);

impl Generator {
    fn number(&mut self) -> i64 {
        match self.0.below(4) {
            0 => 0,
            1 => self.0.below(300).cast_signed(),
            2 => self.0.next_u64().cast_signed() >> self.0.below(64),
            _ => -1,
        }
    }

    fn flag(&mut self) -> bool {
        self.0.chance(1, 2)
    }

    fn bytes(&mut self) -> Bytes {
        let length = if self.0.chance(1, 20) { self.0.below(300) } else { self.0.below(5) };
        (0..length).map(|_| self.0.next_u64() as u8).collect()
    }

    fn text(&mut self) -> String {
        ["", "a", "http://127.0.0.1:2379", "\u{e9}"][self.0.below(4) as usize].to_owned()
    }

    fn range(&mut self) -> RangeRequest {
        RangeRequest {
            key: self.bytes(),
            range_end: self.bytes(),
            limit: self.number(),
            revision: self.number(),
            sort_order: self.number() as i32,
            sort_target: self.number() as i32,
            serializable: self.flag(),
            keys_only: self.flag(),
            count_only: self.flag(),
            min_mod_revision: self.number(),
            max_mod_revision: self.number(),
            min_create_revision: self.number(),
            max_create_revision: self.number(),
        }
    }

    fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.bytes(),
            value: self.bytes(),
            lease: self.number(),
            prev_kv: self.flag(),
            ignore_value: self.flag(),
            ignore_lease: self.flag(),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.bytes(), range_end: self.bytes(), prev_kv: self.flag() }
    }

    fn compare(&mut self) -> Compare {
        let operand = match self.0.below(6) {
            0 => CompareOperand::None,
            1 => CompareOperand::Version(self.number()),
            2 => CompareOperand::CreateRevision(self.number()),
            3 => CompareOperand::ModRevision(self.number()),
            4 => CompareOperand::Value(self.bytes()),
            _ => CompareOperand::Lease(self.number()),
        };
        let (result, target) = (self.number() as i32, self.number() as i32);
        Compare { result, target, key: self.bytes(), operand, range_end: self.bytes() }
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let ops = |generator: &mut Generator| {
            (0..generator.0.below(3))
                .map(|_| match generator.0.below(if depth == 0 { 4 } else { 6 }) {
                    0 => RequestOp::None,
                    1 => RequestOp::Range(generator.range()),
                    2 => RequestOp::Put(generator.put()),
                    3 => RequestOp::DeleteRange(generator.delete()),
                    _ => RequestOp::Txn(generator.txn(depth - 1)),
                })
                .collect()
        };
        let (success, failure) = (ops(self), ops(self));
        TxnRequest { compare: (0..self.0.below(3)).map(|_| self.compare()).collect(), success, failure }
    }

    fn operation(&mut self) -> Operation {
        match self.0.below(11) {
            0 => Operation::Range(self.range()),
            1 => Operation::Put(self.put()),
            2 => Operation::DeleteRange(self.delete()),
            3 => Operation::Compaction(CompactionRequest { revision: self.number(), physical: self.flag() }),
            4 => Operation::LeaseGrant(LeaseGrantRequest { ttl: self.number(), id: self.number() }),
            5 => Operation::LeaseRevoke(LeaseRevokeRequest { id: self.number() }),
            6 => Operation::Alarm(AlarmRequest {
                action: self.number() as i32,
                member_id: self.number().cast_unsigned(),
                alarm: self.number() as i32,
            }),
            7 => {
                let one = |_| LeaseCheckpoint { id: self.number(), remaining_ttl: self.number() };
                Operation::LeaseCheckpoint((0..3).map(one).collect())
            }
            8 => Operation::ClusterVersionSet(self.text()),
            9 => Operation::ClusterMemberAttrSet(MemberAttributes {
                member_id: self.number().cast_unsigned(),
                name: self.text(),
                client_urls: (0..self.0.below(3)).map(|_| self.text()).collect(),
            }),
            _ => Operation::Txn(self.txn(4)),
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut generator = Generator(Prng::new(21));
    for _ in 0..2_000 {
        let operation = generator.operation();
        let request = InternalRequest {
            // 0 would read as "no id" only for the header: it is written as an empty one.
            id: generator.number().cast_unsigned(),
            username: generator.text(),
            auth_revision: generator.number().cast_unsigned(),
            operation,
        };
        let payload = Bytes::from(log_payload::encode(&request));
        assert_eq!(log_payload::decode(&payload).as_ref(), Ok(&request));
        if let Some((id, put)) = log_payload::decode_put(&payload) {
            assert_eq!(request.operation, Operation::Put(put.to_request(&payload)));
            assert_eq!((id, "", 0), (request.id, request.username.as_str(), request.auth_revision));
        }
        let (shape, bytes) = match &request.operation {
            Operation::Txn(txn) => (&canonical::TXN, encode(txn)),
            Operation::Range(range) => (&canonical::RANGE, encode(range)),
            Operation::Put(put) => (&canonical::PUT, encode(put)),
            Operation::DeleteRange(delete) => (&canonical::DELETE_RANGE, encode(delete)),
            Operation::Alarm(alarm) => (&canonical::ALARM, encode(alarm)),
            _ => continue,
        };
        assert!(is_canonical(shape, &bytes), "{request:?}");
    }
}

/// Damaged messages: an error or a request, never a panic; and what is found canonical is exactly what
/// would be written for the request that it decodes to.
#[test]
fn damaged_messages_never_panic() {
    let mut generator = Generator(Prng::new(22));
    let mut canonical_ones = 0;
    for round in 0..6_000 {
        let mut bytes = if round % 3 == 0 { encode(&generator.put()) } else { encode(&generator.txn(3)) };
        for _ in 0..generator.0.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = generator.0.below(bytes.len() as u64) as usize;
            match generator.0.below(4) {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << generator.0.below(8),
                2 => bytes.insert(at, generator.0.below(40) as u8),
                _ => drop(bytes.remove(at)),
            }
        }
        let message = Bytes::from(bytes);
        let (put, txn) = (decode::<PutRequest>(&message), decode::<TxnRequest>(&message));
        assert_eq!(put.as_ref().map(PutView::from).map_err(|error| *error), PutView::decode(&message));
        let whole = put.map(|put| encode(&put) == message).unwrap_or(false);
        assert_eq!(is_canonical(&canonical::PUT, &message), whole, "{message:?}");
        let whole = txn.map(|txn| encode(&txn) == message).unwrap_or(false);
        assert_eq!(is_canonical(&canonical::TXN, &message), whole, "{message:?}");
        canonical_ones += usize::from(whole);
        drop(decode::<WatchRequest>(&message));
        drop(decode::<RangeRequest>(&message));
        drop(decode::<HealthCheckRequest>(&message));
        drop(log_payload::decode(&message));
        assert!(log_payload::decode_put(&message).is_none_or(|_| log_payload::decode(&message).is_ok()));
    }
    assert!(canonical_ones > 500, "both are tried: {canonical_ones}");
}
