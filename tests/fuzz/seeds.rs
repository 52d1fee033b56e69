//! Valid inputs, made by our own encoders.

use bytes::Bytes;
use etchd::pure::api::codec::encode;
use etchd::pure::api::log_payload;
use etchd::pure::api::requests::*;
use etchd::pure::raft::{Entry, EntryKind, HardState, Ticket};
use etchd::pure::types::{LogIndex, Term};
use etchd::pure::wal::{Identity, Outcome, Recovery, RecoveryStart, SEGMENT_HEADER_BYTES, Writer};
use etchd::pure::wire::grpc::{gzip, message};
use etchd::pure::wire::h2::frame::{self, FrameHead, PREFACE, flag, kind, setting};
use etchd::testing::request;

use super::targets::{SEGMENT_BYTES, log_config};

/// The valid inputs of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frames" => connections(),
        "http1" => requests_over_http1(),
        "hpack" => vec![blocks(false), blocks(true)],
        "grpc" => vec![bodies()],
        "requests" => roots(),
        "log_payload" => payloads(),
        "canonical" => roots().into_iter().map(|root| root[1..].to_vec()).collect(),
        "log" => vec![log(1), log(20), log(120)],
        other => panic!("{other} has no seeds"),
    }
}

fn raw(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&FrameHead { length: payload.len() as u32, kind, flags, stream }.to_bytes());
    out.extend_from_slice(payload);
}

fn head(path: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    request::block(path, "etchd", extra)
}

fn framed(message: &[u8], compressed: bool) -> Vec<u8> {
    [&message::prefix(compressed, message.len())[..], message].concat()
}

fn connections() -> Vec<Vec<u8>> {
    let mut out = PREFACE.to_vec();
    frame::write_settings(&mut out, &[(setting::INITIAL_WINDOW_SIZE, 100), (setting::HEADER_TABLE_SIZE, 0)]);
    frame::write_settings_ack(&mut out);
    let put = encode(&PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        ..Default::default()
    });
    for (number, extra) in [
        vec![],
        vec![("grpc-timeout", "5m")],
        vec![("grpc-encoding", "gzip")],
        vec![("token", "abc"), ("hasleader", "true"), ("x-bin", "AAAA")],
    ]
    .iter()
    .enumerate()
    {
        let stream = 1 + 2 * number as u32;
        let block = head("/etcdserverpb.KV/Put", extra);
        let (first, second) = block.split_at(block.len() / 2);
        raw(&mut out, kind::HEADERS, 0, stream, first);
        raw(&mut out, kind::CONTINUATION, flag::END_HEADERS, stream, second);
        let gzipped = gzip::deflate(&put);
        let body = if number == 2 { framed(&gzipped, true) } else { framed(&put, false) };
        raw(&mut out, kind::DATA, 0, stream, &body[..3]);
        raw(&mut out, kind::DATA, flag::END_STREAM, stream, &body[3..]);
    }
    raw(&mut out, kind::HEADERS, flag::END_HEADERS, 9, &head("/etcdserverpb.Watch/Watch", &[]));
    let watch = encode(&WatchRequest::Create(WatchCreateRequest::default()));
    raw(&mut out, kind::DATA, 0, 9, &framed(&watch, false));
    raw(&mut out, kind::WINDOW_UPDATE, 0, 9, &1_u32.to_be_bytes());
    raw(&mut out, kind::WINDOW_UPDATE, 0, 0, &1_000_u32.to_be_bytes());
    raw(&mut out, kind::PING, 0, 0, &[1; 8]);
    raw(&mut out, kind::PRIORITY, 0, 9, &[0, 0, 0, 1, 2]);
    raw(&mut out, kind::DATA, flag::PADDED, 9, &[2, 0, 0, 0]);
    raw(&mut out, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 9, &[]);
    raw(&mut out, kind::HEADERS, flag::END_HEADERS, 11, &head("/grpc.health.v1.Health/Watch", &[]));
    raw(&mut out, kind::DATA, flag::END_STREAM, 11, &framed(&[], false));
    raw(&mut out, kind::RST_STREAM, 0, 9, &8_u32.to_be_bytes());
    raw(&mut out, kind::GOAWAY, 0, 0, &[0; 8]);
    // Inflates a thousandfold.
    let mut bomb = PREFACE.to_vec();
    frame::write_settings(&mut bomb, &[]);
    raw(
        &mut bomb,
        kind::HEADERS,
        flag::END_HEADERS,
        1,
        &head("/etcdserverpb.KV/Put", &[("grpc-encoding", "gzip")]),
    );
    raw(&mut bomb, kind::DATA, flag::END_STREAM, 1, &framed(&gzip::deflate(&vec![0; 1 << 20]), true));
    vec![out, bomb, requests_over_http1().remove(0)]
}

fn requests_over_http1() -> Vec<Vec<u8>> {
    let chunked = "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nabcd\r\n0\r\nA: b\r\n\r\n";
    let sized =
        "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nabcd";
    let get = "GET /health?a=b HTTP/1.1\r\nHost: a\r\n\r\n";
    let old = "GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    vec![format!("{get}{chunked}{sized}{old}").into_bytes(), chunked.into(), sized.into()]
}

fn blocks(huffman: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..8 {
        let mut block = if number == 4 { vec![0x20, 0x3f, 0xe1, 0x1f] } else { Vec::new() };
        block.extend_from_slice(&head("/etcdserverpb.KV/Range", &[("token", "abcdef")]));
        block.extend_from_slice(&[0x40, 1, b'x', 3, b'0', b'0' + number, b'z', 0xbe, 0x7e, 2, b'a', b'b']);
        if huffman {
            block.extend_from_slice(&[
                0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ]);
        }
        out.extend_from_slice(&(block.len() as u16).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

fn bodies() -> Vec<u8> {
    let text: Vec<u8> = (0..3_000_u32).map(|number| (number % 251) as u8).collect();
    [framed(b"", false), framed(&text, false), framed(&gzip::deflate(&text), true), framed(b"abc", false)]
        .concat()
}

fn range() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"key"),
        range_end: Bytes::from_static(b"kez"),
        limit: 7,
        revision: 300,
        keys_only: true,
        ..RangeRequest::default()
    }
}

fn txn(depth: usize) -> TxnRequest {
    let put = PutRequest {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(&[7; 40]),
        ..Default::default()
    };
    let mut success = vec![RequestOp::Put(put), RequestOp::Range(range()), RequestOp::None];
    if depth > 0 {
        success.push(RequestOp::Txn(txn(depth - 1)));
    }
    TxnRequest { compare: vec![Compare::default(); 2], success, failure: vec![RequestOp::Range(range())] }
}

fn roots() -> Vec<Vec<u8>> {
    let messages = [
        (0, encode(&range())),
        (
            1,
            encode(&PutRequest {
                key: Bytes::from_static(b"key"),
                lease: -1,
                prev_kv: true,
                ..Default::default()
            }),
        ),
        (
            2,
            encode(&DeleteRangeRequest {
                key: Bytes::from_static(b"\0"),
                prev_kv: true,
                ..Default::default()
            }),
        ),
        (3, encode(&txn(0))),
        (3, encode(&txn(20))),
        (4, encode(&CompactionRequest { revision: 1 << 40, physical: true })),
        (5, encode(&LeaseGrantRequest { ttl: 60, id: 9 })),
        (
            9,
            encode(&WatchRequest::Create(WatchCreateRequest {
                key: Bytes::from_static(b"watched"),
                start_revision: 5,
                filters: WatchFilters { no_put: true, no_delete: true },
                ..WatchCreateRequest::default()
            })),
        ),
        (9, encode(&WatchRequest::Cancel(WatchCancelRequest { watch_id: 3 }))),
        (13, encode(&LeaseTimeToLiveRequest { id: 4, keys: true })),
        (16, encode(&HealthCheckRequest { service: "etcd".into() })),
        (
            18,
            encode(&MemberAttributes {
                member_id: 5,
                name: "m".into(),
                client_urls: vec!["http://a".into()],
            }),
        ),
        (19, encode(&Compare::default())),
    ];
    messages.into_iter().map(|(root, message)| [&[root][..], &message].concat()).collect()
}

fn payloads() -> Vec<Vec<u8>> {
    let header = log_payload::Header { id: 77, ..Default::default() };
    vec![
        log_payload::encode_typed(&header, &txn(3)),
        log_payload::encode_typed(&header, &LeaseGrantRequest { ttl: 60, id: 9 }),
        log_payload::encode_typed(&header, &CompactionRequest { revision: 3, physical: false }),
        log_payload::encode_put(&header, &PutView { key: b"key", value: b"value", ..PutView::default() }),
    ]
}

/// The segments of a log with so many entries.
fn log(entries: u64) -> Vec<u8> {
    let config = log_config();
    let recovery = Recovery::new(config, RecoveryStart::WHOLE, Vec::new()).expect("no file, no fault");
    let Ok(Outcome::NoLog(none)) = recovery.finish() else { panic!("there is no log") };
    let (fresh, resume) = none.create(&config, 0x5a17, Identity { cluster_id: 1, member_id: 2 });
    let mut image = vec![0; SEGMENT_BYTES as usize];
    image[SEGMENT_HEADER_BYTES..][..fresh.batches.len()].copy_from_slice(&fresh.batches);
    image[..fresh.header.len()].copy_from_slice(&fresh.header);
    let first = fresh.number;
    let mut writer = Writer::resume(config, resume);
    let mut buffer = Vec::new();
    for index in 1..=entries {
        let payload = Bytes::from(vec![index as u8; 100 + (index as usize * 37) % 900]);
        let entry = Entry { term: Term(1), index: LogIndex(index), kind: EntryKind::Normal, payload };
        let state =
            HardState { term: Term(1), commit: LogIndex(index.saturating_sub(3)), ..HardState::default() };
        writer.append(Ticket(index), Some(state), vec![entry]);
        loop {
            if let Some(need) = writer.poll_segment() {
                image.resize(((need.number - first + 1) * SEGMENT_BYTES) as usize, 0);
                writer.handle_segment_ready(need.number);
            }
            let Some(write) = writer.poll_write(&mut buffer) else { break };
            let at = ((write.segment - first) * SEGMENT_BYTES + write.offset) as usize;
            image[at..at + write.bytes].copy_from_slice(&buffer[..write.bytes]);
            writer.handle_written(write.token, write.bytes).expect("the write went well");
        }
    }
    image
}
