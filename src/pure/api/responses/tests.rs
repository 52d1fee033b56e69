use super::*;
use crate::limits::response::RECORD_COPIED_BYTES_MAX;
use crate::pure::api::codec::encode;
use crate::pure::api::schema::Schema;

/// A record outside of any store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fake {
    kv: Vec<u8>,
    key: String,
    at: Revision,
    lease: LeaseId,
    tombstone: bool,
}

fn record(key: &str, at: Revision, value: &str) -> Fake {
    let lease = if at % 2 == 0 { 77 } else { 0 };
    let kv = KeyValue {
        key: key.as_bytes(),
        create_revision: at - 1,
        mod_revision: at,
        version: 2,
        value: value.as_bytes(),
        lease,
    };
    Fake { kv: encode(&kv), key: key.to_owned(), at, lease, tombstone: false }
}

impl StoredKv for Fake {
    fn kv_bytes(&self) -> &[u8] {
        &self.kv
    }
    fn is_tombstone(&self) -> bool {
        self.tombstone
    }
    fn without_value(&self) -> KeyValue<'_> {
        KeyValue {
            key: self.key.as_bytes(),
            create_revision: self.at - 1,
            mod_revision: self.at,
            version: 2,
            value: b"",
            lease: self.lease,
        }
    }
}

const HEADER: ResponseHeader = ResponseHeader { cluster_id: 1, member_id: 2, revision: 9, raft_term: 4 };
const SHOWN: &str = "header{cluster_id:1 member_id:2 revision:9 raft_term:4}";

/// The bytes of a body, after checking its length.
fn bytes(body: Body<Fake>) -> Vec<u8> {
    let promised = body.message_len();
    let (pieces, length) = body.finish();
    let all = pieces.iter().flat_map(|piece| piece.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!((all.len(), promised), (length, length));
    assert!(pieces.iter().all(|piece| !piece.as_bytes().is_empty()));
    all
}

fn check<M: Encode>(message: &str, response: &M, expected: &str) {
    let bytes = encode(response);
    assert_eq!(bytes.len(), response.encoded_len(), "{message}");
    assert_eq!(Schema::load().show(message, &bytes), expected);
}

fn check_body(message: &str, length: usize, write: impl FnOnce(&mut Body<Fake>), expected: &str) {
    let mut body = Body::new(0);
    write(&mut body);
    let bytes = bytes(body);
    assert_eq!(bytes.len(), length, "{message}");
    assert_eq!(Schema::load().show(message, &bytes), expected);
}

#[test]
fn ranges() {
    let mut range = RangeResponse {
        header: Some(HEADER),
        records: vec![record("a", 6, "x"), record("b", 7, "")],
        values: Values::Kept,
        more: true,
        count: 5,
    };
    let a = "key:\"a\" create_revision:5 mod_revision:6 version:2";
    let b = "kvs{key:\"b\" create_revision:6 mod_revision:7 version:2}";
    let shown = |kv: &str| format!("{SHOWN} kvs{{{kv}}} {b} more count:5");
    let show = |range: &RangeResponse<Fake>, expected: &str| {
        check_body("etcdserverpb.RangeResponse", range.encoded_len(), |body| range.encode(body), expected);
    };
    show(&range, &shown(&format!("{a} value:\"x\" lease:77")));
    range.values = Values::of(true, 0);
    show(&range, &shown(a));
    range.values = Values::of(true, 4);
    show(&range, &shown(&format!("{a} lease:77")));
    assert_eq!(Values::of(false, 4), Values::Kept);
    // A chunk of a stream in its middle, and an empty answer.
    range = RangeResponse { header: None, more: false, count: 0, ..range };
    range.records.pop();
    let length = range.encoded_len() + 2;
    check_body(
        "etcdserverpb.RangeStreamResponse",
        length,
        |body| range_stream_chunk(&range, body),
        &format!("range_response{{kvs{{{a} lease:77}}}}"),
    );
    range = RangeResponse { header: Some(ResponseHeader::default()), records: vec![], ..range };
    show(&range, "header{}");
}

#[test]
fn puts_and_deletes() {
    let old = record("a", 6, "x");
    let kv = "{key:\"a\" create_revision:5 mod_revision:6 version:2 value:\"x\" lease:77}";
    for (prev_kv, expected) in [(None, SHOWN.to_owned()), (Some(old.clone()), format!("{SHOWN} prev_kv{kv}"))]
    {
        let put = PutResponse { header: HEADER, prev_kv };
        check_body("etcdserverpb.PutResponse", put.encoded_len(), |body| put.encode(body), &expected);
    }
    let delete = DeleteRangeResponse { header: HEADER, deleted: 2, prev_kvs: vec![old.clone(), old] };
    check_body(
        "etcdserverpb.DeleteRangeResponse",
        delete.encoded_len(),
        |body| delete.encode(body),
        &format!("{SHOWN} deleted:2 prev_kvs{kv} prev_kvs{kv}"),
    );
}

#[test]
fn transactions() {
    let header = ResponseHeader::nested(9);
    let range = || RangeResponse {
        header: Some(header),
        records: vec![record("a", 7, "x")],
        values: Values::Kept,
        more: false,
        count: 1,
    };
    let inner = TxnResponse {
        header: ResponseHeader::default(),
        succeeded: true,
        responses: vec![ResponseOp::Put(PutResponse { header, prev_kv: None }), ResponseOp::Range(range())],
    };
    let txn = TxnResponse {
        header: HEADER,
        succeeded: false,
        responses: vec![
            ResponseOp::Range(range()),
            ResponseOp::Txn(inner),
            ResponseOp::DeleteRange(DeleteRangeResponse { header, deleted: 0, prev_kvs: vec![] }),
        ],
    };
    let range = "responses{response_range{header{revision:9} kvs{key:\"a\" create_revision:6 mod_revision:7 \
                 version:2 value:\"x\"} count:1}}";
    check_body(
        "etcdserverpb.TxnResponse",
        txn.encoded_len(),
        |body| txn.encode(body),
        &format!(
            "{SHOWN} {range} responses{{response_txn{{header{{}} succeeded \
             responses{{response_put{{header{{revision:9}}}}}} {range}}}}} \
             responses{{response_delete_range{{header{{revision:9}}}}}}"
        ),
    );
}

#[test]
fn leases_and_members_and_maintenance() {
    let header = HEADER;
    check("etcdserverpb.CompactionResponse", &HeaderOnly { header }, SHOWN);
    check("etcdserverpb.LeaseRevokeResponse", &HeaderOnly { header }, SHOWN);
    let grant = LeaseGrantResponse { header, id: -5, ttl: 60 };
    check("etcdserverpb.LeaseGrantResponse", &grant, &format!("{SHOWN} ID:-5 TTL:60"));
    let alive = LeaseKeepAliveResponse { header, id: 5, ttl: 0 };
    check("etcdserverpb.LeaseKeepAliveResponse", &alive, &format!("{SHOWN} ID:5"));
    let keys = [Bytes::from("a"), Bytes::from("b")];
    let live = LeaseTimeToLiveResponse { header, id: 5, ttl: 7, granted_ttl: 60, keys: &keys };
    let expected = format!("{SHOWN} ID:5 TTL:7 grantedTTL:60 keys:\"a\" keys:\"b\"");
    check("etcdserverpb.LeaseTimeToLiveResponse", &live, &expected);
    let leases = LeaseLeasesResponse { header, leases: LeaseIds(&[5, -6]) };
    check("etcdserverpb.LeaseLeasesResponse", &leases, &format!("{SHOWN} leases{{ID:5}} leases{{ID:-6}}"));

    let started = Member {
        id: 5,
        name: "m".into(),
        peer_urls: vec!["p".into(), "q".into()],
        client_urls: vec!["c".into()],
        is_learner: true,
    };
    let added =
        Member { id: 6, name: String::new(), client_urls: vec![], is_learner: false, ..started.clone() };
    let list = MemberListResponse { header, members: &[started, added] };
    let expected = format!(
        "{SHOWN} members{{ID:5 name:\"m\" peerURLs:\"p\" peerURLs:\"q\" clientURLs:\"c\" isLearner}} \
         members{{ID:6 peerURLs:\"p\" peerURLs:\"q\"}}"
    );
    check("etcdserverpb.MemberListResponse", &list, &expected);

    let alarms = [AlarmMember { member_id: 2, alarm: 1 }, AlarmMember { member_id: 0, alarm: 2 }];
    let alarm = AlarmResponse { header, alarms: &alarms };
    let expected = format!("{SHOWN} alarms{{memberID:2 alarm:1}} alarms{{alarm:2}}");
    check("etcdserverpb.AlarmResponse", &alarm, &expected);
    let hash = HashKvResponse { header, hash: u32::MAX, compact_revision: -1, hash_revision: 9 };
    let expected = format!("{SHOWN} hash:4294967295 compact_revision:-1 hash_revision:9");
    check("etcdserverpb.HashKVResponse", &hash, &expected);
    check("etcdserverpb.HashResponse", &HashResponse { header, hash: 3 }, &format!("{SHOWN} hash:3"));
    check("etcdserverpb.DefragmentResponse", &DefragmentResponse, "");
    let health = HealthCheckResponse { status: ServingStatus::Serving };
    check("grpc.health.v1.HealthCheckResponse", &health, "status:1");

    let status = StatusResponse {
        header,
        version: "3.7.3".into(),
        db_size: 1,
        leader: 2,
        raft_index: 3,
        raft_term: 4,
        raft_applied_index: 5,
        errors: vec!["e".into(), "f".into()],
        db_size_in_use: 6,
        is_learner: true,
        storage_version: "3.7.0".into(),
        db_size_quota: 7,
        downgrade_info: DowngradeInfo { enabled: true, target_version: "3.6.0".into() },
    };
    let expected = format!(
        "{SHOWN} version:\"3.7.3\" dbSize:1 leader:2 raftIndex:3 raftTerm:4 raftAppliedIndex:5 errors:\"e\" \
         errors:\"f\" dbSizeInUse:6 isLearner storageVersion:\"3.7.0\" dbSizeQuota:7 \
         downgradeInfo{{enabled targetVersion:\"3.6.0\"}}"
    );
    check("etcdserverpb.StatusResponse", &status, &expected);
    check("etcdserverpb.StatusResponse", &StatusResponse::default(), "header{} downgradeInfo{}");
}

/// Records are referenced from the first byte above the bound on; what stands between them is one piece.
#[test]
fn large_records_stay_where_they_are() {
    let sized = |length: usize| {
        let mut fake = record("k", 6, &"v".repeat(length));
        while fake.kv.len() > length {
            fake = record("k", 6, &"v".repeat(length - (fake.kv.len() - length)));
        }
        fake
    };
    let (small, large) = (sized(RECORD_COPIED_BYTES_MAX), sized(RECORD_COPIED_BYTES_MAX + 1));
    let range = |records: Vec<Fake>| RangeResponse {
        header: Some(HEADER),
        count: records.len() as i64,
        records,
        values: Values::Kept,
        more: false,
    };
    for (records, pieces) in [
        (vec![small.clone(), small.clone()], "B"),
        (vec![large.clone(), large.clone(), small.clone(), large.clone()], "BRBRBRB"),
    ] {
        let mut body = Body::with_capacity(5, 100);
        let range = range(records);
        range.encode(&mut body);
        let (list, length) = body.finish();
        assert_eq!(length, range.encoded_len());
        let kinds = list.iter().map(|piece| if matches!(piece, Piece::Bytes(_)) { 'B' } else { 'R' });
        assert_eq!(kinds.collect::<String>(), pieces);
        let all: Vec<u8> = list.iter().flat_map(|piece| piece.as_bytes().to_vec()).collect();
        assert_eq!((all.len(), &all[..5]), (length + 5, &[0; 5][..]));
        assert!(
            Schema::load()
                .show("etcdserverpb.RangeResponse", &all[5..])
                .ends_with(&format!("count:{}", range.count))
        );
    }
    let (pieces, length) = Body::<Fake>::new(5).finish();
    assert_eq!((pieces, length), (vec![Piece::Bytes(vec![0; 5])], 0));
}
