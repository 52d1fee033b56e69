//! One function for each decoder of foreign bytes. None may panic, whatever the bytes are.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use etchd::pure::api::canonical;
use etchd::pure::api::codec::{Decode, Encode, decode, decode_txn, encode};
use etchd::pure::api::requests::*;
use etchd::pure::api::{log_payload, validate};
use etchd::pure::front::resolve;
use etchd::pure::session::{Code, Config, Protocols, Session, SessionEvent, Transmit};
use etchd::pure::wal::{self, Outcome, Recovery, RecoveryStart, Refused, SEGMENT_HEADER_BYTES, SegmentBlock};
use etchd::pure::wire::grpc::gzip;
use etchd::pure::wire::grpc::message::Assembler;
use etchd::pure::wire::hpack::{Decoder, FieldSink};
use etchd::stdx::time::Monotonic;

/// A target, and the memory that it may take: so much, and so much for each byte of input.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub bytes_max: usize,
    pub bytes_max_per_byte: usize,
}

pub const ALL: [Target; 8] = [
    // What a message may inflate to, twice for a moment, and what the session answers.
    Target { name: "frames", run: frames, bytes_max: 16 << 20, bytes_max_per_byte: 64 },
    Target { name: "http1", run: http1, bytes_max: 1 << 20, bytes_max_per_byte: 16 },
    Target { name: "hpack", run: hpack, bytes_max: 1 << 20, bytes_max_per_byte: 4 },
    Target { name: "grpc", run: grpc, bytes_max: 8 << 20, bytes_max_per_byte: 8 },
    // A member of a list may be empty: two bytes for what the typed one takes, in a list that doubles.
    Target { name: "requests", run: requests, bytes_max: 64 << 10, bytes_max_per_byte: 512 },
    Target { name: "log_payload", run: payloads, bytes_max: 64 << 10, bytes_max_per_byte: 512 },
    Target { name: "canonical", run: canonical_form, bytes_max: 64 << 10, bytes_max_per_byte: 64 },
    Target { name: "log", run: log, bytes_max: 1 << 20, bytes_max_per_byte: 16 },
];

/// A client's connection, in parts, with an application that answers, ends and forgets.
pub fn frames(input: &[u8]) {
    connection(input, Protocols::Both);
}

/// The same on a listener for HTTP/1 alone.
pub fn http1(input: &[u8]) {
    connection(input, Protocols::Http1);
}

fn connection(input: &[u8], protocols: Protocols) {
    let mut now = Monotonic(1);
    let mut session = Session::new(Config { protocols, ..Config::new(resolve) }, now);
    let mut transmit = Transmit::new(64 * 1024, 16);
    let mut rest = input;
    let mut turn = input.len();
    while !rest.is_empty() && !session.is_closed() {
        turn = turn.wrapping_mul(31).wrapping_add(7);
        let (part, after) = rest.split_at((1 + turn % 5_000).min(rest.len()));
        session.handle_bytes(now, part);
        rest = after;
        loop {
            match session.poll_event() {
                Some(event) => answer(&mut session, event, turn, now),
                None if session.handle_unread(now) => {}
                None => break,
            }
        }
        if !turn.is_multiple_of(3) {
            transmit.clear();
            session.poll_transmit(&mut transmit);
            assert_eq!(transmit.slices().map(<[u8]>::len).sum::<usize>(), transmit.len());
        }
        now = now + Duration::from_millis((turn % 2_000) as u64);
        if session.next_timeout().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
    }
    session.handle_disconnect();
    while session.poll_event().is_some() {}
    assert_eq!(session.requests_live(), 0, "nothing is left of a connection that is over");
    assert!(session.next_timeout().is_none(), "nor is there anything to wait for");
}

fn answer(session: &mut Session, event: SessionEvent, turn: usize, now: Monotonic) {
    match event {
        SessionEvent::Call { stream, message, .. } => match turn % 4 {
            0 => {}
            1 => session.send_status(stream, Code::Internal, "no"),
            _ => session.send_unary(stream, &message[..message.len().min(100)]),
        },
        SessionEvent::Message { stream, .. } => {
            match turn % 5 {
                0 => session.hold_messages(stream),
                1 => {
                    session.release_messages(stream);
                }
                _ => {}
            }
            session.send_message(stream, b"message");
        }
        SessionEvent::HalfClosed { stream } => session.send_status(stream, Code::Ok, ""),
        SessionEvent::Http1(_) => {
            session.http1_response(now, 200, &[("A", "b")], Bytes::from_static(b"body"))
        }
        SessionEvent::Request { .. }
        | SessionEvent::Cancelled { .. }
        | SessionEvent::DeadlineExceeded { .. }
        | SessionEvent::Room { .. }
        | SessionEvent::Undone { .. } => {}
    }
}

/// Adds up what it is given.
#[derive(Default)]
struct Sum(usize);

impl FieldSink for Sum {
    fn classify(&self, name: &[u8], value: &[u8]) -> u32 {
        (name.len() + value.len()) as u32 & 0xffff
    }
    fn begin(&mut self) {}
    fn field(&mut self, tag: u32, name: &[u8], value: &[u8]) {
        assert_eq!(tag, self.classify(name, value), "a tag stays with its field");
        self.0 += name.len() + value.len() + 32;
    }
}

/// Header blocks, one after the other; each begins with its length in two bytes.
pub fn hpack(input: &[u8]) {
    let mut decoder = Decoder::default();
    let mut rest = input;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (block, after) = tail.split_at(length);
        let mut sum = Sum::default();
        let decoded = decoder.decode(block, &mut sum);
        assert!(sum.0 <= etchd::limits::http2::HEADER_LIST_BYTES_MAX, "a list keeps its bound");
        assert!(decoder.table_bytes() <= etchd::limits::http2::HPACK_TABLE_BYTES_MAX, "so does the table");
        if decoded.is_err() {
            return;
        }
        rest = after;
    }
}

/// A request's body in parts, its messages inflated.
pub fn grpc(input: &[u8]) {
    const BYTES_MAX: usize = 1 << 20;
    let mut assembler = Assembler::default();
    let (mut rest, mut turn) = (input, input.len());
    while !rest.is_empty() {
        turn = turn.wrapping_mul(31).wrapping_add(7);
        let (part, after) = rest.split_at((1 + turn % 100).min(rest.len()));
        let mut part = part;
        while !part.is_empty() {
            match assembler.feed(&mut part, BYTES_MAX) {
                Ok(Some(framed)) => {
                    if let Ok(inflated) = gzip::inflate(&framed.bytes, BYTES_MAX) {
                        assert!(inflated.len() <= BYTES_MAX);
                    }
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
        rest = after;
    }
}

/// What decodes is encoded and decoded to the same.
fn again<M: Decode + Encode + PartialEq + Debug>(message: &Bytes) -> Option<M> {
    let decoded: M = decode(message).ok()?;
    let encoded = encode(&decoded);
    assert_eq!(encoded.len(), decoded.encoded_len());
    assert_eq!(decode::<M>(&Bytes::from(encoded)).as_ref(), Ok(&decoded));
    Some(decoded)
}

/// The first byte chooses the root, the rest is its message.
pub fn requests(input: &[u8]) {
    let Some((root, message)) = input.split_first() else { return };
    let message = Bytes::copy_from_slice(message);
    match root % 20 {
        0 => {
            let Some(range) = again::<RangeRequest>(&message) else { return };
            drop((validate::validate_range(&range), validate::validate_range_stream(&range)));
        }
        1 => {
            let view = PutView::decode(&message).ok();
            let put = again::<PutRequest>(&message);
            assert_eq!(view.map(|view| view.to_request(&message)), put);
            drop(view.map(|view| validate::validate_put(&view)));
        }
        2 => {
            drop(again::<DeleteRangeRequest>(&message).map(|delete| validate::validate_delete_range(&delete)))
        }
        3 => {
            let whole = again::<TxnRequest>(&message);
            for ops_max in [128, 3] {
                // What a bounded decoder leaves out changes no answer.
                let bounded = decode_txn(&message, ops_max).ok();
                assert_eq!(bounded.is_some(), whole.is_some());
                let verdict = |txn: &TxnRequest| validate::validate_txn(txn, ops_max);
                let verdicts = [&bounded, &whole].map(|txn| txn.as_ref().map(verdict));
                assert_eq!(verdicts[0], verdicts[1]);
                assert!(bounded == whole || verdicts[0] != Some(Ok(())), "what is valid is whole");
            }
            let Some(txn) = whole else { return };
            validate::is_read_only(&txn);
            validate::is_serializable(&txn);
        }
        4 => drop(again::<CompactionRequest>(&message)),
        5 => drop(again::<LeaseGrantRequest>(&message)),
        6 => drop(again::<LeaseRevokeRequest>(&message)),
        7 => drop(again::<LeaseCheckpoint>(&message)),
        8 => drop(again::<AlarmRequest>(&message)),
        9 => drop(again::<WatchRequest>(&message)),
        10 => drop(again::<WatchCreateRequest>(&message)),
        11 => drop(again::<WatchCancelRequest>(&message)),
        12 => drop(again::<LeaseKeepAliveRequest>(&message)),
        13 => drop(again::<LeaseTimeToLiveRequest>(&message)),
        14 => drop(again::<MemberListRequest>(&message)),
        15 => drop(again::<HashKvRequest>(&message)),
        16 => drop(again::<HealthCheckRequest>(&message)),
        17 => drop(again::<EmptyRequest>(&message)),
        18 => drop(again::<MemberAttributes>(&message)),
        _ => drop(again::<Compare>(&message)),
    }
}

/// The payload of an entry of the log.
pub fn payloads(input: &[u8]) {
    log_payload::decode_put(input);
    let payload = Bytes::copy_from_slice(input);
    if let Ok(request) = log_payload::decode(&payload) {
        let encoded = Bytes::from(log_payload::encode(&request));
        assert_eq!(log_payload::decode(&encoded).as_ref(), Ok(&request));
    }
}

/// Bytes that enter the log as they came: a canonical message is encoded to itself.
pub fn canonical_form(input: &[u8]) {
    let message = Bytes::copy_from_slice(input);
    if canonical::is_canonical(&canonical::PUT, input) {
        let put: PutRequest = decode(&message).expect("what is canonical decodes");
        assert_eq!(encode(&put), input, "a canonical put is what we would write");
    }
    if canonical::is_canonical(&canonical::TXN, input) {
        decode::<TxnRequest>(&message).expect("what is canonical decodes");
    }
}

/// Sizes of the segments in [`log`], whole blocks.
pub const SEGMENT_BYTES: u64 = 32 << 10;

/// For the log's segments.
pub fn log_config() -> wal::Config {
    let (segment_bytes_first, segment_bytes) = (SEGMENT_BYTES, SEGMENT_BYTES);
    wal::Config { segment_bytes_first, segment_bytes, batch_bytes_max: 6 << 10, ..wal::Config::standard() }
}

/// Segments one after the other, each `SEGMENT_BYTES` but the last.
pub fn log(input: &[u8]) {
    // A refusal is an answer.
    std::hint::black_box(recover(input)).ok();
}

fn recover(input: &[u8]) -> Result<(), Refused> {
    let images: Vec<Bytes> = input.chunks(SEGMENT_BYTES as usize).map(Bytes::copy_from_slice).collect();
    let head = |bytes: &Bytes| bytes[..bytes.len().min(SEGMENT_HEADER_BYTES)].to_vec();
    let blocks = images.iter().zip(1..).map(|(image, number)| SegmentBlock { number, bytes: head(image) });
    let mut recovery = Recovery::new(log_config(), RecoveryStart::WHOLE, blocks.collect())?;
    let mut last = 0;
    let mut follows = |index: u64| {
        assert_eq!(index, last + 1, "entries have no gaps");
        last = index;
    };
    while let Some(number) = recovery.poll_segment() {
        recovery.handle_segment(number, images[number as usize - 1].clone())?;
        recovery.drain_committed(|entry| follows(entry.index.0));
    }
    match recovery.finish()? {
        Outcome::NoLog(_) => {}
        Outcome::Log(found) => found.entries.iter().for_each(|entry| follows(entry.index.0)),
    }
    Ok(())
}
