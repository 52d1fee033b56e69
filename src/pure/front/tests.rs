//! What a shard holds back while a client does not read.

use std::sync::Arc;
use std::time::Duration;

use super::calls::State;
use super::*;
use crate::pure::lease::LeaseTable;
use crate::pure::mvcc::Store;
use crate::pure::types::{LogIndex, Term};
use crate::pure::wire::h2::testkit::{data, headers, hello};
use crate::testing::request;

fn front() -> Front {
    Front::new(Config {
        shard: 0,
        session: session::Config::new(resolve),
        cluster_id: 1,
        member_id: 2,
        txn_ops_max: limits::request::TXN_OPS_MAX_DEFAULT,
        request_bytes_max: limits::request::REQUEST_BYTES_MAX_DEFAULT,
        version: "3.7.0",
        storage_version: "3.7.0",
        hub: HubConfig::new(1, limits::request::REQUEST_BYTES_MAX_DEFAULT, Duration::from_secs(600)),
        seed: 1,
        ids: RequestIds::new(2, 0),
    })
}

fn view(store: &mut Store) -> View {
    View {
        kv: store.view(),
        leases: LeaseTable::default(),
        members: Arc::default(),
        cluster_version: None,
        applied: LogIndex(1),
        committed: LogIndex(1),
        term: Term(1),
        leader: 2,
        local_read_ok: true,
        db_bytes: 0,
        db_bytes_in_use: 0,
    }
}

/// A range request: key, range_end and revision.
fn request(stream: u32, path: &str, fields: [&[u8]; 2], revision: i64) -> Vec<u8> {
    let mut message = Vec::new();
    for (tag, bytes) in [0x0a, 0x12].into_iter().zip(fields).filter(|(_, bytes)| !bytes.is_empty()) {
        message.extend([tag, bytes.len() as u8]);
        message.extend(bytes);
    }
    prost::encoding::int64::encode(4, &revision, &mut message);
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let fields = request::fields(path, "localhost");
    [headers(stream, false, &fields), data(stream, true, &framed)].concat()
}

/// A stream's chunk that takes several slices keeps its floor to its end, though the connection has no room for more
/// meanwhile: without it the cleaner would take versions from under the walk (H5).
#[test]
fn a_chunk_under_way_keeps_its_floor() {
    let mut store = Store::new(1);
    let keys = limits::slice::RANGE_UNITS * 5;
    for key in 0..keys {
        store.put(
            format!("k{key:06}").as_bytes(),
            &[b'v'; 12 * 1024][..if key < 10 { 12 * 1024 } else { 1 }],
            0,
        );
    }
    let revision = store.end_txn();
    store.put(b"large", &vec![b'l'; 1 << 20], 0);
    store.end_txn();
    let view = view(&mut store);

    let now = Monotonic(1_000_000_000);
    let (mut front, mut keys) = (front(), Slab::default());
    let connection = keys.insert(());
    assert!(front.handle_accepted(connection, 0, now));
    front.handle_bytes(connection, &hello(&[]), &view, now);
    // An old revision, so that every key is visited for the count.
    let ask = request(1, "/etcdserverpb.KV/RangeStream", [b"k", b"l"], revision);
    front.handle_bytes(connection, &ask, &view, now);
    let chunk = |front: &Front| {
        let read = front.calls.iter().find_map(|(_, call)| match &call.state {
            State::RangeStream(read) => Some((read.sent(), read.floor())),
            _ => None,
        });
        read.expect("the stream goes on")
    };
    // The first chunk fills what the stream may always queue; the second is under way.
    while chunk(&front).0 == 0 || chunk(&front).1.is_none() {
        assert!(front.turn(&view, now), "the stream has more to do");
    }
    // Now others fill the connection.
    for stream in 0..9 {
        let ask = request(3 + 2 * stream, "/etcdserverpb.KV/Range", [b"large", b""], 0);
        front.handle_bytes(connection, &ask, &view, now);
    }
    let mut turns = 0;
    loop {
        let has_more = front.turn(&view, now);
        let (_, floor) = chunk(&front);
        assert_eq!(front.floor(), floor, "a walk under way is a floor");
        turns += 1;
        if !has_more {
            break;
        }
        assert!(turns < 100, "it waits for the client at last");
    }
    assert!(chunk(&front).1.is_none() && turns > 1, "it waits between two chunks");
}
