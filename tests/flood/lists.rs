//! Answers that are much longer than their requests, asked for and not taken.

use bytes::Bytes;
use etchd::pure::api::codec::encode;
use etchd::pure::api::requests::{RangeRequest, RequestOp, TxnRequest};
use etchd::pure::api::rpcs::Rpc;
use etchd::pure::wire::grpc::gzip;

use super::hostile::{Attack, GROWTH_BYTES_MAX, flood};
use crate::crash::client::{everything, path};

/// `RangeRequest.SortOrder.DESCEND` and `RangeRequest.SortTarget.VALUE`.
const DESCEND: i32 = 2;
const VALUE: i32 = 4;

fn lists(name: &str, attack: &Attack, request: &RangeRequest) {
    let message = encode(request);
    flood(name, attack, |wire| {
        let stream = wire.call(path::RANGE, &[]);
        wire.message(stream, &message, true);
    });
}

/// Lists of a thousand keys; 20,000 of them.
#[test]
fn lists_that_nobody_reads() {
    lists("untaken-lists", &Attack::untaken(1_000, 20_000), &everything());
}

/// The same when windows are open, but the socket is not read.
#[test]
fn lists_that_stay_in_the_socket() {
    lists("unread-lists", &Attack::unread(1_000, 20_000), &everything());
}

/// All of 20,000 keys, the largest value first.
fn sorted() -> RangeRequest {
    RangeRequest { sort_order: DESCEND, sort_target: VALUE, ..everything() }
}

/// Lists of 20,000 keys, which are all walked and sorted before the first can be sent; 2,000 of them.
#[test]
fn sorted_lists_that_nobody_reads() {
    lists("untaken-sorted-lists", &Attack::untaken(20_000, 2_000), &sorted());
}

/// The same when windows are open, but the socket is not read.
#[test]
fn sorted_lists_that_stay_in_the_socket() {
    lists("unread-sorted-lists", &Attack::unread(20_000, 2_000), &sorted());
}

/// The request is long, too, but for its way: 1.4 MB that are inflated from 1.6 KB; 500 of them. A stream under way
/// needs of it what it has not sent yet.
#[test]
fn streamed_lists_with_long_ranges() {
    let range_end = Bytes::from(vec![b'z'; 1_400_000]);
    let request = RangeRequest { key: Bytes::from_static(b"a"), range_end, ..RangeRequest::default() };
    let message = gzip::deflate(&encode(&request));
    assert!(message.len() < 2_000, "{} bytes are no bomb", message.len());
    flood("untaken-streams", &Attack::untaken(1_000, 500), |wire| {
        let stream = wire.call(Rpc::RangeStream.row().path, &[("grpc-encoding", "gzip")]);
        wire.compressed_message(stream, &message, true);
    });
}

/// Answers of 13 MB, taken for 15 here, to transactions of a hundred lists; 50 of them. Such an answer is legitimate
/// and made as a whole, so that memory may grow by one more than by what the other floods may take.
#[test]
fn transactions_of_many_ranges_that_nobody_reads() {
    const RANGES: usize = 100;
    const KEYS: usize = 1_000;
    // A value, a key, three revisions, tags and lengths: 130 bytes, and what the server needs beside.
    const RECORD_BYTES: usize = 150;
    let ranges = vec![RequestOp::Range(everything()); RANGES];
    let message = encode(&TxnRequest { success: ranges, ..TxnRequest::default() });
    let answer_bytes = (RANGES * KEYS * RECORD_BYTES) as u64;
    let attack = Attack { growth_bytes_max: GROWTH_BYTES_MAX + answer_bytes, ..Attack::untaken(KEYS, 50) };
    flood("untaken-transactions", &attack, |wire| {
        let stream = wire.call(path::TXN, &[]);
        wire.message(stream, &message, true);
    });
}
