use super::*;
use crate::limits::request::REQUEST_BYTES_MAX_DEFAULT;
use crate::pure::api::canonical::is_canonical;
use crate::pure::api::codec;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hex") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn entry(id: u64, operation: Operation) -> InternalRequest {
    InternalRequest { id, username: String::new(), auth_revision: 0, operation }
}

/// Payloads taken from the log of a real etcd 3.5.1 (ids of the last ones are not).
#[test]
fn payloads_equal_those_of_a_real_log() {
    let id = |bytes: &str| Reader::new(&hex(bytes)).varint().expect("varint");
    let first = id("84f2de83c2bfa8b39101");
    let root = InternalRequest {
        username: "root".into(),
        auth_revision: 7,
        ..entry(id("96c0de83c2bfa88e4a"), Operation::Put(put("auth", "1")))
    };
    let txn = TxnRequest {
        success: vec![RequestOp::Put(put("a", "1")), RequestOp::Put(put("b", "2"))],
        ..Default::default()
    };
    let delete = DeleteRangeRequest { key: "foo".into(), ..Default::default() };
    let lease = id("87c0de83c2bfa88e4a").cast_signed();
    let member =
        MemberAttributes { member_id: 5, name: "m".into(), client_urls: vec!["u".into(), "v".into()] };
    for (bytes, request) in [
        (
            "220a 0a03666f6f 1203626172 a2060b 0884f2de83c2bfa8b39101",
            entry(first, Operation::Put(put("foo", "bar"))),
        ),
        ("2209 0a0461757468 120131 a20612 0896c0de83c2bfa88e4a 1204726f6f74 1807", root),
        ("3214 12081206 0a0161120131 12081206 0a0162120132 a20602 0807", entry(7, Operation::Txn(txn))),
        ("2a05 0a03666f6f a20602 0807", entry(7, Operation::DeleteRange(delete))),
        (
            "3a02 0803 a20602 0807",
            entry(7, Operation::Compaction(CompactionRequest { revision: 3, physical: false })),
        ),
        (
            "420d 08d804 1087c0de83c2bfa88e4a a20602 0807",
            entry(7, Operation::LeaseGrant(LeaseGrantRequest { ttl: 600, id: lease })),
        ),
        (
            "4a0a 0887c0de83c2bfa88e4a a20602 0807",
            entry(7, Operation::LeaseRevoke(LeaseRevokeRequest { id: lease })),
        ),
        ("5200 a20602 0807", entry(7, Operation::Alarm(AlarmRequest::default()))),
        (
            "5a09 0a07 0807 10 ffffff01 a20602 0807",
            entry(7, Operation::LeaseCheckpoint(vec![LeaseCheckpoint { id: 7, remaining_ttl: 0x3fffff }])),
        ),
        ("a20602 0807 a25107 0a05 332e372e30", entry(7, Operation::ClusterVersionSet("3.7.0".into()))),
        (
            "a20602 0807 aa510d 0805 1209 0a016d 120175 120176",
            entry(7, Operation::ClusterMemberAttrSet(member)),
        ),
    ] {
        let bytes = Bytes::from(hex(bytes));
        assert_eq!(Bytes::from(encode(&request)), bytes, "{request:?}");
        assert_eq!(decode(&bytes), Ok(request));
    }
}

#[test]
fn hot_put_equals_the_general_way() {
    let header = Header { id: u64::MAX - 5, ..Default::default() };
    let mut request = PutRequest { lease: -7, prev_kv: true, ignore_value: true, ..put("key", "value") };
    request.ignore_lease = true;
    let payload = Bytes::from(encode_put(&header, &PutView::from(&request)));
    assert_eq!(payload, encode(&entry(header.id, Operation::Put(request.clone()))));
    let (id, view) = decode_put(&payload).expect("a put");
    assert_eq!((id, view), (header.id, PutView::from(&request)));
    assert_eq!(view.to_request(&payload), request);
    assert_eq!(decode(&payload), Ok(entry(header.id, Operation::Put(request))));
    // Anything else is left to the general way.
    for other in [
        "3a020803a206020807",
        "220a0a03666f6f1203626172",
        "22000801a206020807",
        "2200a2060208073a00",
        "2200a2060408071001",
        "",
    ] {
        assert_eq!(decode_put(&hex(other)), None, "{other}");
    }
}

/// Seen on a real server with an id of 9 bytes: 1572840 bytes of value pass, one more doesn't.
#[test]
fn size_is_that_of_the_whole_payload() {
    for (id, most) in [(0x4a1c_5000_dead_beef, 1_572_840), (0x911c_5000_dead_beef, 1_572_839)] {
        for (length, fits) in [(most, true), (most + 1, false)] {
            let value = vec![0; length];
            let put = PutView { key: b"a", value: &value, ..Default::default() };
            let payload = encode_put(&Header { id, ..Default::default() }, &put);
            let expected = if fits { Ok(()) } else { Err(status::REQUEST_TOO_LARGE) };
            assert_eq!(check_size(payload.len(), REQUEST_BYTES_MAX_DEFAULT), expected, "{length}");
        }
    }
}

/// A client's bytes, its meaning, and whether they go into the log as they are.
#[test]
fn only_canonical_bytes_are_kept() {
    let header = Header { id: 9, ..Default::default() };
    for (what, raw, kept) in [
        ("plain", "0a0161 120162 1807 2001", true),
        ("empty", "", true),
        ("negative lease", "0a0161 18ffffffffffffffffff01", true),
        ("explicit empty value", "0a0161 1200", false),
        ("explicit zero", "0a0161 1800", false),
        ("not ascending", "120162 0a0161", false),
        ("twice", "0a0162 0a0161", false),
        ("unknown field", "0a0161 7801", false),
        ("wrong wire type", "0a0161 2201 01", false),
        ("long varint", "0a0161 188700", false),
        ("long length", "0a8100 61", false),
        ("long key", "8a00 0161", false),
        ("a bool of two", "0a0161 2002", false),
    ] {
        let raw = Bytes::from(hex(raw));
        let request: PutRequest = codec::decode(&raw).expect("every Go decoder takes it");
        assert_eq!(is_canonical(&canonical::PUT, &raw), kept, "{what}");
        assert_eq!(raw == codec::encode(&request), kept, "{what}");
        let payload = Bytes::from(encode_raw(&header, &raw, &request));
        assert_eq!(payload, encode_typed(&header, &request), "{what}");
        assert_eq!(decode(&payload), Ok(entry(9, Operation::Put(request))), "{what}");
    }
    for (what, raw, kept) in [
        ("compare of zero", "0a05 1a0161 2000", true),
        ("compare of empty value", "0a05 1a0161 3a00", true),
        ("two operands", "0a07 1a0161 2000 2800", false),
        ("huge enum", "0a08 08ffffffff0f 1a0161", false),
        ("negative enum", "0a0e 08ffffffffffffffffff01 1a0161", true),
        ("range end", "0a07 1a0161 82040162", true),
        ("range end, empty", "0a06 1a0161 820400", false),
        ("ops", "1205 1203 0a0161 1a05 0a03 0a0161", true),
        ("op without variant", "1200", true),
        ("op with two variants", "1204 0a00 1200", false),
        ("nested", "1207 2205 1203 120122", false),
        ("nested, whole", "1209 2207 1205 1203 0a0122", true),
        ("failure before success", "1a021200 12021200", false),
        ("zero inside", "1207 1205 0a0161 1800", false),
    ] {
        let raw = Bytes::from(hex(raw));
        assert_eq!(is_canonical(&canonical::TXN, &raw), kept, "{what}");
        if let Ok(request) = codec::decode::<TxnRequest>(&raw) {
            assert_eq!(raw == codec::encode(&request), kept, "{what}");
            assert_eq!(encode_raw(&header, &raw, &request), encode_typed(&header, &request), "{what}");
        }
    }
}

#[test]
fn what_cannot_be_applied_is_an_error() {
    use PayloadError::*;
    let malformed = Undecodable(DecodeError::Malformed);
    for (what, bytes, error) in [
        ("empty", "", NoId),
        ("header only", "a206020807", NoOperation),
        ("old id only", "0807", NoOperation),
        ("no header", "2200", NoId),
        ("cut", "220a0a03666f6f", malformed),
        ("cut inside", "22020a05 a206020807", malformed),
        ("auth enable", "a206020807 c23e00", Unsupported(1000)),
        ("of a later version", "a206020807 e2ea04 00", Unsupported(9900)),
        ("put and compaction", "2200 3a00 a206020807", SeveralOperations),
        ("put and auth", "2200 a206020807 c23e00", SeveralOperations),
        ("auth and put", "c23e00 2200 a206020807", Unsupported(1000)),
        ("a name that isn't text", "2200 a206050807 1201ff", Undecodable(DecodeError::InvalidUtf8)),
        ("a version that isn't text", "a206020807 a25103 0a01ff", Undecodable(DecodeError::InvalidUtf8)),
    ] {
        assert_eq!(decode(&Bytes::from(hex(bytes))).expect_err(what), error, "{what}");
    }
}

#[test]
fn payloads_merge_as_in_go() {
    let put = |lease| PutRequest { lease, ..put("a", "") };
    for (what, bytes, id, operation) in [
        ("put in two parts", "2203 0a0161 2202 1807 a206020807", 7, Operation::Put(put(7))),
        ("header in two parts", "a206020807 2203 0a0161 a20600", 7, Operation::Put(put(0))),
        ("old id wins", "0805 2203 0a0161 a206020807", 5, Operation::Put(put(0))),
        ("old id alone", "0805 2203 0a0161", 5, Operation::Put(put(0))),
        ("unknown number field", "2203 0a0161 a206020807 d80701", 7, Operation::Put(put(0))),
    ] {
        assert_eq!(decode(&Bytes::from(hex(bytes))), Ok(entry(id, operation)), "{what}");
    }
}

/// A request that was accepted can always be read back, however deep it is.
#[test]
fn the_deepest_request_survives_the_log() {
    // A compare in the innermost one takes the last level that there is.
    let compare = vec![Compare { key: "k".into(), ..Default::default() }];
    let mut txn = TxnRequest { compare, ..Default::default() };
    while let Ok(deeper) = {
        let deeper = TxnRequest { success: vec![RequestOp::Txn(txn.clone())], ..Default::default() };
        codec::decode::<TxnRequest>(&codec::encode(&deeper).into())
    } {
        txn = deeper;
    }
    let request = entry(1, Operation::Txn(txn));
    assert_eq!(decode(&encode(&request).into()), Ok(request));
}

#[test]
fn ids_are_etcds() {
    let mut ids = RequestIds::new(0x1234_5678_9abc_def0, 0x0123_4567_89ab_cdef);
    assert_eq!(ids.next(), 0xdef0_6789_abcd_ef01);
    let mut last = 0;
    for _ in 0..300 {
        last = ids.next();
    }
    assert_eq!(last, 0xdef0_6789_abcd_ef01 + 300);
    let mut ids = RequestIds::new(u64::MAX, u64::MAX);
    assert_eq!(ids.next(), 0xffff_ffff_ffff_ff01);
    assert!((0..600).map(|_| ids.next()).all(|id| id >> 48 == 0xffff));
}

#[test]
fn shares_of_request_ids_have_no_id_in_common() {
    let whole = RequestIds::new(7, 1_000);
    let mut seen = std::collections::BTreeSet::new();
    for share in 0..3 {
        let mut ids = whole.share(share, 3);
        for _ in 0..1_000 {
            assert!(seen.insert(ids.next()));
        }
    }
    assert!(seen.iter().all(|id| id >> 48 == 7));
}
