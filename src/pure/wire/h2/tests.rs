//! RFC 9113, rule by rule, against an application that takes whatever comes.

use std::time::Duration;

use super::connection::{Config, Connection, Received};
use super::error::{Bound, Code};
use super::frame::{flag, kind, setting};
use super::testkit::{self, Frame, GET, data, frames, headers, hello, raw, window_update};
use super::transmit::{Piece, Transmit};
use crate::limits::http2::{
    CHEAP_FRAMES_BURST, CONNECTION_WINDOW_BYTES, CONTROL_REPLIES_MAX, FRAME_BYTES_MAX, LATE_FRAMES_MAX,
    LATE_FRAMES_PER_STREAM, STREAM_WINDOW_BYTES, STREAMS_LIVE_MAX,
};
use crate::pure::wire::hpack::FieldSink;
use crate::stdx::prng::Prng;
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

struct Deaf;

impl FieldSink for Deaf {
    fn classify(&self, _name: &[u8], _value: &[u8]) -> u32 {
        0
    }
    fn begin(&mut self) {}
    fn field(&mut self, _tag: u32, _name: &[u8], _value: &[u8]) {}
}

/// A connection with a log of what it told.
struct Server {
    connection: Connection<()>,
    told: Vec<String>,
    keys: Vec<Key>,
    now: Monotonic,
}

impl Server {
    fn new(config: Config) -> Server {
        let connection = Connection::new(config, Monotonic(0));
        Server { connection, told: Vec::new(), keys: Vec::new(), now: Monotonic(0) }
    }

    /// After the handshake, with the first frames of ours taken.
    fn greeted(settings: &[(u16, u32)]) -> Server {
        let mut server = Server::new(Config::default());
        server.feed(&hello(settings));
        server.sent();
        server
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(received) = self.connection.handle_bytes(self.now, &mut bytes, &mut Deaf) {
            let line = match received {
                Received::Head { stream, key, end } => {
                    self.keys.push(key);
                    format!("head {} {end}", stream.0)
                }
                Received::Data { key, bytes, end } => {
                    let line = format!("data {} {end}", bytes.len());
                    let length = bytes.len() as i64;
                    self.connection.credit(length);
                    self.connection.credit_stream(key, length as usize);
                    line
                }
                Received::End { .. } => "end".to_owned(),
                Received::Gone { stream, .. } => format!("gone {}", stream.0),
            };
            self.told.push(line);
        }
    }

    fn sent(&mut self) -> Vec<Frame> {
        let mut bytes = Vec::new();
        loop {
            let mut transmit = Transmit::new(64 * 1024, 16);
            self.connection.poll_transmit(&mut transmit);
            if transmit.is_empty() {
                return frames(&bytes);
            }
            transmit.slices().for_each(|slice| bytes.extend_from_slice(slice));
        }
    }

    /// The connection's last word, if it has ended.
    fn verdict(&mut self) -> String {
        let frames = self.sent();
        let word = |f: &Frame| match f.kind {
            kind::GOAWAY => Some(format!("goaway {}", f.code())),
            kind::RST_STREAM => Some(format!("reset {} {}", f.stream, f.code())),
            _ => None,
        };
        frames.iter().filter_map(word).collect::<Vec<_>>().join(", ")
    }
}

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn with(extra: &[(&str, &str)]) -> Vec<u8> {
    headers(1, true, &[&GET[..], extra].concat())
}

fn without(name: &str) -> Vec<u8> {
    let fields: Vec<_> = GET.iter().copied().filter(|(n, _)| *n != name).collect();
    headers(1, true, &fields)
}

#[test]
fn faults_are_answered_with_the_codes_of_the_rfc() {
    let get = headers(1, true, &GET);
    let open = headers(1, false, &GET);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("fine", get.clone(), ""),
        ("4.2 frame too long", raw(kind::DATA, 0, 1, &vec![0; FRAME_BYTES_MAX + 1]), "goaway 6"),
        ("4.3 block is not HPACK", raw(kind::HEADERS, 5, 1, &[0x80]), "goaway 9"),
        ("5.1 DATA on idle", data(1, true, b"x"), "goaway 1"),
        ("5.1 RST_STREAM on idle", raw(kind::RST_STREAM, 0, 1, &[0; 4]), "goaway 1"),
        ("5.1 WINDOW_UPDATE on idle", window_update(1, 1), "goaway 1"),
        ("5.1 DATA after END_STREAM", joined(&[get.clone(), data(1, true, b"x")]), "reset 1 5"),
        ("5.1 HEADERS after END_STREAM", joined(&[get.clone(), get.clone()]), "reset 1 5"),
        (
            "5.1 DATA after RST",
            joined(&[open.clone(), raw(3, 0, 1, &[0; 4]), data(1, true, b"x")]),
            "reset 1 5",
        ),
        ("5.1 HEADERS after RST", joined(&[open.clone(), raw(3, 0, 1, &[0; 4]), get.clone()]), "goaway 5"),
        ("5.1.1 even id", headers(2, true, &GET), "goaway 1"),
        ("5.1.1 id goes back", joined(&[headers(5, true, &GET), headers(3, true, &GET)]), "goaway 1"),
        ("6.1 DATA on stream 0", data(0, true, b"x"), "goaway 1"),
        (
            "6.1 padding too long",
            joined(&[open.clone(), raw(kind::DATA, flag::PADDED, 1, &[9, 1])]),
            "goaway 1",
        ),
        ("6.2 HEADERS padding too long", raw(kind::HEADERS, 0xd, 1, &[200, 0x82]), "goaway 1"),
        (
            "6.2 interrupted block",
            joined(&[raw(1, 0, 1, &[0x82]), raw(kind::PING, 0, 0, &[0; 8])]),
            "goaway 1",
        ),
        ("6.3 PRIORITY on stream 0", raw(kind::PRIORITY, 0, 0, &[0; 5]), "goaway 1"),
        ("6.3 PRIORITY of 4 bytes", joined(&[open.clone(), raw(kind::PRIORITY, 0, 1, &[0; 4])]), "reset 1 6"),
        ("6.4 RST_STREAM on stream 0", raw(kind::RST_STREAM, 0, 0, &[0; 4]), "goaway 1"),
        ("6.4 RST_STREAM of 3 bytes", joined(&[open.clone(), raw(3, 0, 1, &[0; 3])]), "goaway 6"),
        ("6.5 SETTINGS on a stream", raw(kind::SETTINGS, 0, 1, &[]), "goaway 1"),
        ("6.5 SETTINGS of 5 bytes", raw(kind::SETTINGS, 0, 0, &[0; 5]), "goaway 6"),
        ("6.5 ack with payload", raw(kind::SETTINGS, flag::ACK, 0, &[0; 6]), "goaway 6"),
        ("6.5.2 ENABLE_PUSH 2", raw(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), "goaway 1"),
        ("6.5.2 window 2^31", raw(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), "goaway 3"),
        ("6.5.2 frame size 16383", raw(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]), "goaway 1"),
        ("6.5.2 frame size 2^24", raw(kind::SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0]), "goaway 1"),
        ("6.5.2 unknown setting", raw(kind::SETTINGS, 0, 0, &[0xff, 0xff, 1, 0, 0, 0]), ""),
        ("6.6 PUSH_PROMISE", raw(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82]), "goaway 1"),
        ("6.7 PING on a stream", raw(kind::PING, 0, 1, &[0; 8]), "goaway 1"),
        ("6.7 PING of 7 bytes", raw(kind::PING, 0, 0, &[0; 7]), "goaway 6"),
        ("6.8 GOAWAY on a stream", raw(kind::GOAWAY, 0, 1, &[0; 8]), "goaway 1"),
        ("6.9 increment 0, connection", window_update(0, 0), "goaway 1"),
        ("6.9 increment 0, stream", joined(&[open.clone(), window_update(1, 0)]), "reset 1 1"),
        ("6.9 of 3 bytes", raw(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), "goaway 6"),
        ("6.9.1 connection overflow", window_update(0, 0x7fff_ffff), "goaway 3"),
        ("6.9.1 stream overflow", joined(&[open.clone(), window_update(1, 0x7fff_ffff)]), "reset 1 3"),
        ("6.10 CONTINUATION alone", raw(kind::CONTINUATION, 4, 1, &[0x82]), "goaway 1"),
        ("5.5 unknown frame", raw(0xee, 0xff, 7, &[1, 2, 3]), ""),
        ("8.1 second HEADERS without END", joined(&[open.clone(), headers(1, false, &[])]), "reset 1 1"),
        ("8.1 pseudo-field in trailers", joined(&[open.clone(), headers(1, true, &GET[..1])]), "reset 1 1"),
        ("8.2 upper case", with(&[("X-Test", "1")]), "reset 1 1"),
        ("8.2 empty name", with(&[("", "1")]), "reset 1 1"),
        ("8.2 LF in a value", with(&[("x", "a\nb")]), "reset 1 1"),
        ("8.2.2 connection", with(&[("connection", "close")]), "reset 1 1"),
        ("8.2.2 transfer-encoding", with(&[("transfer-encoding", "chunked")]), "reset 1 1"),
        ("8.2.2 te", with(&[("te", "gzip")]), "reset 1 1"),
        ("8.2.2 te trailers", with(&[("te", "trailers")]), ""),
        ("8.3 unknown pseudo-field", headers(1, true, &[&[(":x", "y")][..], &GET].concat()), "reset 1 1"),
        ("8.3 response's pseudo-field", with(&[(":status", "200")]), "reset 1 1"),
        ("8.3 pseudo-field late", headers(1, true, &[&[("a", "b")][..], &GET].concat()), "reset 1 1"),
        ("8.3 twice", headers(1, true, &[&GET[..1], &GET].concat()), "reset 1 1"),
        ("8.3.1 no method", without(":method"), "reset 1 1"),
        ("8.3.1 no scheme", without(":scheme"), "reset 1 1"),
        ("8.3.1 no path", without(":path"), "reset 1 1"),
        ("8.3.1 no authority", without(":authority"), ""),
        ("8.5 CONNECT", headers(1, true, &[(":method", "CONNECT"), (":authority", "a:1")]), ""),
        ("8.1.1 content-length without body", with(&[("content-length", "1")]), "reset 1 1"),
        ("8.1.1 content-length is no number", with(&[("content-length", "x")]), "reset 1 1"),
    ];
    for (what, bytes, expected) in cases {
        let mut server = Server::greeted(&[]);
        server.feed(&bytes);
        assert_eq!(server.verdict(), expected, "{what}");
        // The same in single bytes.
        let mut server = Server::greeted(&[]);
        bytes.iter().for_each(|byte| server.feed(std::slice::from_ref(byte)));
        assert_eq!(server.verdict(), expected, "{what}, byte by byte");
    }
}

#[test]
fn the_preface_comes_first_then_settings() {
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), "goaway 1"),
        ([&hello(&[])[..24], &raw(kind::PING, 0, 0, &[0; 8])].concat(), "goaway 1"),
        ([&hello(&[])[..24], &raw(kind::SETTINGS, flag::ACK, 0, &[])].concat(), "goaway 1"),
        (hello(&[]), ""),
    ] {
        let mut server = Server::new(Config::default());
        server.feed(&bytes);
        assert_eq!(server.verdict(), expected);
    }
}

#[test]
fn content_length_is_kept_by_data() {
    let post = |length: &str| headers(1, false, &[&GET[..], &[("content-length", length)]].concat());
    for (length, parts, expected) in [
        ("4", vec!["ab", "cd"], ""),
        ("3", vec!["ab", "cd"], "reset 1 1"),
        ("5", vec!["ab", "cd"], "reset 1 1"),
    ] {
        let mut server = Server::greeted(&[]);
        server.feed(&post(length));
        for (i, part) in parts.iter().enumerate() {
            server.feed(&data(1, i + 1 == parts.len(), part.as_bytes()));
        }
        assert_eq!(server.verdict(), expected, "content-length {length}");
    }
}

#[test]
fn padded_and_prioritized_frames_are_understood() {
    let mut server = Server::greeted(&[]);
    let mut payload = vec![3, 0, 0, 0, 0, 16];
    payload.extend(testkit::block(&GET));
    payload.extend([0; 3]);
    server.feed(&raw(kind::HEADERS, flag::END_HEADERS | flag::PADDED | flag::PRIORITY, 1, &payload));
    server.feed(&raw(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &[2, b'a', b'b', b'c', 0, 0]));
    assert_eq!(server.told, ["head 1 false", "data 3 true"]);
    assert_eq!(server.verdict(), "");
}

#[test]
fn a_block_may_go_on_in_continuations_but_not_for_ever() {
    let block = testkit::block(&GET);
    let mut server = Server::greeted(&[]);
    server.feed(&raw(kind::HEADERS, flag::END_STREAM, 1, &block[..3]));
    server.feed(&raw(kind::CONTINUATION, 0, 1, &block[3..4]));
    server.feed(&raw(kind::CONTINUATION, flag::END_HEADERS, 1, &block[4..]));
    assert_eq!(server.told, ["head 1 true"]);
    server.feed(&raw(kind::HEADERS, 0, 3, &[]));
    (0..20).for_each(|_| server.feed(&raw(kind::CONTINUATION, 0, 3, &[])));
    assert_eq!(server.verdict(), "goaway 11");
}

#[test]
fn receive_windows_are_kept_and_refilled_by_halves() {
    let mut server = Server::greeted(&[]);
    server.feed(&headers(1, false, &GET));
    let chunk = vec![0; FRAME_BYTES_MAX];
    let mut updates = Vec::new();
    let total = 4 * CONNECTION_WINDOW_BYTES as usize;
    for _ in 0..total / FRAME_BYTES_MAX {
        server.feed(&data(1, false, &chunk));
        updates.extend(server.sent().into_iter().filter(|f| f.kind == kind::WINDOW_UPDATE));
    }
    let sum = |stream| -> usize {
        let of = updates.iter().filter(|f| f.stream == stream);
        of.map(|f| u32::from_be_bytes(f.payload[..].try_into().unwrap()) as usize).sum()
    };
    assert_eq!((sum(0), sum(1)), (total, total));
    assert_eq!(updates.len(), 8 + total / (STREAM_WINDOW_BYTES as usize / 2));
    assert_eq!(server.verdict(), "");
}

#[test]
fn data_beyond_a_window_is_a_flow_control_error() {
    // Nothing is credited here: `handle_bytes` is driven by hand.
    let mut server = Server::greeted(&[]);
    let mut bytes = Vec::new();
    bytes.extend(headers(1, false, &GET));
    for _ in 0..=STREAM_WINDOW_BYTES as usize / FRAME_BYTES_MAX {
        bytes.extend(data(1, false, &[0; FRAME_BYTES_MAX]));
    }
    let mut input = &bytes[..];
    while server.connection.handle_bytes(Monotonic(0), &mut input, &mut Deaf).is_some() {}
    assert_eq!(server.verdict(), "reset 1 3");
}

/// Sends `lengths` as one answer each on streams 1, 3, 5 ...; gives bytes of DATA by stream, in order of frames.
fn answer(server: &mut Server, lengths: &[usize]) {
    for (i, length) in lengths.iter().enumerate() {
        server.feed(&headers(2 * i as u32 + 1, true, &GET));
        let key = *server.keys.last().unwrap();
        server.connection.send_head(key, &[0x88], false);
        server.connection.send_piece(key, Piece::from(vec![i as u8; *length]));
        server.connection.send_end(key, None);
    }
}

#[test]
fn sending_keeps_to_one_byte_windows() {
    let mut server = Server::greeted(&[(setting::INITIAL_WINDOW_SIZE, 1)]);
    answer(&mut server, &[10]);
    let mut seen = Vec::new();
    for round in 0..10 {
        let frames: Vec<Frame> = server.sent().into_iter().filter(|f| f.kind == kind::DATA).collect();
        assert_eq!(frames.len(), 1, "round {round}");
        assert_eq!(frames[0].payload.len(), 1);
        assert_eq!(frames[0].ends(), round == 9);
        seen.extend_from_slice(&frames[0].payload);
        server.feed(&window_update(1, 1));
    }
    assert_eq!(seen, vec![0; 10]);
    assert_eq!(server.connection.streams_live(), 0);
    assert_eq!(server.connection.unsent_bytes(), 0);
}

#[test]
fn sending_is_fair_and_bounded_by_the_connections_window() {
    let mut server = Server::greeted(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    answer(&mut server, &[200_000, 200_000, 200_000]);
    let count = |frames: &[Frame]| -> Vec<usize> {
        let of = |stream| frames.iter().filter(move |f| f.kind == kind::DATA && f.stream == stream);
        [1, 3, 5].map(|stream| of(stream).map(|f| f.payload.len()).sum()).to_vec()
    };
    let first = count(&server.sent());
    assert_eq!(first.iter().sum::<usize>(), 65_535, "the connection's window");
    assert!(first.iter().max().unwrap() - first.iter().min().unwrap() <= FRAME_BYTES_MAX, "{first:?}");
    server.feed(&window_update(0, 1_000_000));
    let second = count(&server.sent());
    assert_eq!(first.iter().zip(&second).map(|(a, b)| a + b).collect::<Vec<_>>(), [200_000; 3]);
}

#[test]
fn a_lowered_initial_window_may_turn_windows_negative() {
    let mut server = Server::greeted(&[]);
    answer(&mut server, &[70_000]);
    let data_bytes = |frames: &[Frame]| -> usize {
        frames.iter().filter(|f| f.kind == kind::DATA).map(|f| f.payload.len()).sum()
    };
    assert_eq!(data_bytes(&server.sent()), 65_535);
    server.feed(&window_update(0, 100_000));
    // 65535 sent, so a new initial window of 10 makes the stream's window 10 - 65535.
    server.feed(&raw(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]));
    server.feed(&window_update(1, 65_535 - 10));
    assert_eq!(data_bytes(&server.sent()), 0);
    server.feed(&window_update(1, 5));
    assert_eq!(data_bytes(&server.sent()), 5);
}

#[test]
fn long_pieces_are_referenced_and_short_ones_copied() {
    let mut server = Server::greeted(&[]);
    server.feed(&headers(1, true, &GET));
    let key = server.keys[0];
    let record: super::transmit::SharedBytes = std::sync::Arc::new(vec![7_u8; 40_000]);
    server.connection.send_head(key, &[0x88], false);
    server.connection.send_piece(key, Piece::from(vec![1; 10]));
    server.connection.send_piece(key, Piece::Shared(std::sync::Arc::clone(&record), 5_000..35_000));
    server.connection.send_piece(key, Piece::from(vec![2; 10]));
    server.connection.send_end(key, None);
    let mut transmit = Transmit::new(1 << 20, 64);
    server.connection.poll_transmit(&mut transmit);
    assert!(transmit.copied().len() < 200, "{}", transmit.copied().len());
    let bytes: Vec<u8> = transmit.slices().flatten().copied().collect();
    let body: Vec<u8> =
        frames(&bytes).iter().filter(|f| f.kind == kind::DATA).flat_map(|f| f.payload.clone()).collect();
    assert_eq!(body, [vec![1; 10], vec![7; 30_000], vec![2; 10]].concat());
    assert_eq!(transmit.len(), bytes.len());
    transmit.clear();
    assert_eq!(std::sync::Arc::strong_count(&record), 1, "nothing holds the record any more");
}

#[test]
fn transmits_keep_their_bounds() {
    let mut server = Server::greeted(&[(setting::INITIAL_WINDOW_SIZE, 1 << 24)]);
    server.feed(&window_update(0, 1 << 24));
    answer(&mut server, &[300_000, 5_000, 5_000, 5_000, 5_000]);
    let mut rounds = 0;
    loop {
        let mut transmit = Transmit::new(30_000, 4);
        server.connection.poll_transmit(&mut transmit);
        if transmit.is_empty() {
            break;
        }
        rounds += 1;
        assert!(transmit.parts().len() <= 6 && transmit.len() <= 30_000 + FRAME_BYTES_MAX + 1_000);
    }
    assert!(rounds > 9, "{rounds}");
    assert_eq!(server.connection.streams_live(), 0);
}

#[test]
fn an_answer_before_the_requests_end_stops_the_client_without_a_fault() {
    let mut server = Server::greeted(&[]);
    server.feed(&headers(1, false, &GET));
    server.connection.send_head(server.keys[0], &[0x88], true);
    assert_eq!(server.verdict(), "reset 1 0");
    // What was under way is ignored, and its window given back.
    server.feed(&data(1, false, &[0; 1000]));
    server.feed(&headers(1, true, &[("trailer", "x")]));
    assert_eq!(server.verdict(), "");
    assert_eq!(server.told, ["head 1 false"]);
}

#[test]
fn a_lowered_header_table_is_acknowledged_in_the_next_block() {
    let mut server = Server::greeted(&[(setting::HEADER_TABLE_SIZE, 0)]);
    answer(&mut server, &[1, 1]);
    let sent = server.sent();
    let blocks: Vec<&[u8]> =
        sent.iter().filter(|f| f.kind == kind::HEADERS).map(|f| &f.payload[..]).collect();
    assert_eq!(blocks, [&[0x20, 0x88][..], &[0x88]]);
}

#[test]
fn pings_are_struck_as_by_grpc_go() {
    let ping = raw(kind::PING, 0, 0, &[9; 8]);
    // (milliseconds between pings, stream open, answer in between, pings until GOAWAY of 10)
    let cases = [
        (100, true, false, Some(4)),
        (5_001, true, false, None),
        (5_001, false, false, Some(4)),
        (7_200_001, false, false, None),
        (1, true, true, None),
    ];
    for (millis, open, answered, expected) in cases {
        let mut server = Server::greeted(&[]);
        server.feed(&headers(1, false, &GET));
        let key = server.keys[0];
        if !open {
            server.feed(&raw(kind::RST_STREAM, 0, 1, &[0; 4]));
        }
        let mut ended_at = None;
        for count in 1..=10 {
            server.now = server.now + Duration::from_millis(millis);
            server.feed(&raw(kind::PING, flag::ACK, 0, &[1; 8]));
            server.feed(&ping);
            let sent = server.sent();
            assert_eq!(sent[0].kind, kind::PING);
            assert_eq!((sent[0].flags, &sent[0].payload[..]), (flag::ACK, &[9; 8][..]));
            if server.connection.is_closed() {
                assert_eq!((sent[1].code(), &sent[1].payload[8..]), (11, &b"too_many_pings"[..]));
                ended_at = Some(count);
                break;
            }
            if answered {
                server.connection.send_head(key, &[0x88], false);
                server.sent();
            }
        }
        assert_eq!(ended_at, expected, "every {millis} ms, open {open}, answered {answered}");
    }
}

#[test]
fn an_answer_forgives_all_strikes() {
    let mut server = Server::greeted(&[]);
    server.feed(&headers(1, false, &GET));
    let key = server.keys[0];
    for _ in 0..4 {
        // Three pings are two strikes; the one after an answer is free.
        (0..3).for_each(|_| server.feed(&raw(kind::PING, 0, 0, &[0; 8])));
        server.connection.send_head(key, &[0x88], false);
    }
    assert!(!server.connection.is_closed());
    (0..4).for_each(|_| server.feed(&raw(kind::PING, 0, 0, &[0; 8])));
    assert!(server.connection.is_closed());
}

#[test]
fn silence_is_probed_and_ends_the_connection() {
    let mut server = Server::greeted(&[]);
    let two_hours = Monotonic(0) + Duration::from_secs(7_200);
    assert_eq!(server.connection.next_timeout(), Some(two_hours));
    server.connection.handle_timeout(two_hours);
    assert_eq!(server.sent()[0].kind, kind::PING);
    let late = two_hours + Duration::from_secs(20);
    assert_eq!(server.connection.next_timeout(), Some(late));
    server.now = two_hours + Duration::from_secs(19);
    server.feed(&raw(kind::PING, flag::ACK, 0, &[0; 8]));
    server.connection.handle_timeout(late);
    assert!(!server.connection.is_closed());
    let again = server.connection.next_timeout().unwrap();
    server.connection.handle_timeout(again);
    server.connection.handle_timeout(again + Duration::from_secs(20));
    assert!(server.connection.is_closed());
}

#[test]
fn a_graceful_end_serves_what_was_under_way() {
    for acked in [true, false] {
        let mut server = Server::greeted(&[]);
        server.feed(&headers(1, true, &GET));
        server.connection.go_away_graceful(server.now);
        let sent = server.sent();
        assert_eq!(
            (sent[0].kind, sent[0].code(), &sent[0].payload[..4]),
            (kind::GOAWAY, 0, &[0x7f, 0xff, 0xff, 0xff][..])
        );
        assert_eq!(sent[1].kind, kind::PING);
        server.feed(&headers(3, true, &GET));
        if acked {
            server.feed(&raw(kind::PING, flag::ACK, 0, &sent[1].payload));
        } else {
            server.connection.handle_timeout(server.now + Duration::from_secs(5));
        }
        let sent = server.sent();
        assert_eq!((sent[0].kind, &sent[0].payload[..8]), (kind::GOAWAY, &[0, 0, 0, 3, 0, 0, 0, 0][..]));
        server.feed(&headers(5, true, &GET));
        server.feed(&headers(7, false, &GET));
        server.feed(&data(7, true, b"late"));
        assert_eq!(server.told, ["head 1 true", "head 3 true"]);
        assert!(!server.connection.is_closed());
        for key in server.keys.clone() {
            server.connection.send_head(key, &[0x88], true);
        }
        assert!(server.connection.is_closed());
        assert_eq!(server.sent().iter().filter(|f| f.ends()).count(), 2);
    }
}

#[test]
fn floods_end_the_connection() {
    let reset =
        |i: u32| [headers(2 * i + 1, false, &GET), raw(kind::RST_STREAM, 0, 2 * i + 1, &[0; 4])].concat();
    type Flood = Box<dyn Fn(u32) -> Vec<u8>>;
    let cases: Vec<(&str, Flood)> = vec![
        ("SETTINGS", Box::new(|_| raw(kind::SETTINGS, 0, 0, &[]))),
        ("PRIORITY", Box::new(|_| raw(kind::PRIORITY, 0, 1, &[0; 5]))),
        ("idle WINDOW_UPDATE", Box::new(|_| window_update(0, 1))),
        ("unknown", Box::new(|_| raw(99, 0, 0, &[]))),
        ("resets", Box::new(reset)),
        ("empty DATA", Box::new(|i| if i == 0 { headers(1, false, &GET) } else { data(1, false, b"") })),
    ];
    for (what, flood) in cases {
        let mut server = Server::greeted(&[]);
        let ended = (0..20_000).any(|i| {
            server.feed(&flood(i));
            if server.connection.is_closed() {
                return true;
            }
            server.sent();
            false
        });
        assert!(ended, "{what}");
        assert_eq!(server.verdict(), "goaway 11", "{what}");
    }
    // Replies that nobody takes.
    let mut server = Server::greeted(&[]);
    (0..=CONTROL_REPLIES_MAX as u32).for_each(|i| server.feed(&joined(&[headers(2 * i + 1, true, &[])])));
    assert!(server.connection.is_closed());
}

fn reset(stream: u32) -> Vec<u8> {
    raw(kind::RST_STREAM, 0, stream, &[0; 4])
}

/// Refuses all streams, and has refused so many.
fn refusing(streams: u32) -> Server {
    let mut server = Server::greeted(&[]);
    server.connection.refuse_streams(Some(Bound::Streams));
    for i in 0..streams {
        server.feed(&headers(2 * i + 1, false, &GET));
        assert_eq!(server.verdict(), format!("reset {} 7", 2 * i + 1));
    }
    server
}

/// What the client has used of a bound.
fn used(server: &mut Server, bound: &str) -> usize {
    let levels = server.connection.levels(server.now);
    levels.iter().find(|(name, ..)| *name == bound).expect("a bound's name").1
}

/// Frames of one kind that are taken until the connection ends.
fn taken(server: &mut Server, frame: &[u8]) -> u32 {
    for count in 0.. {
        server.feed(frame);
        if server.connection.is_closed() {
            assert_eq!(server.verdict(), "goaway 11");
            return count;
        }
        server.sent();
    }
    unreachable!()
}

#[test]
fn frames_under_way_to_refused_streams_are_no_offence() {
    const STREAMS: u32 = 30_000;
    let mut server = refusing(STREAMS);
    let ids = (0..STREAMS).map(|i| 2 * i + 1);
    // More than the connection's window in all: it is given back.
    for id in ids.clone() {
        server.feed(&data(id, true, &[0; 200]));
        server.sent();
    }
    ids.for_each(|id| server.feed(&joined(&[window_update(id, 1), reset(id)])));
    assert_eq!((used(&mut server, "cheap_frames"), server.verdict()), (0, String::new()));
    assert!(!server.connection.is_closed());
}

#[test]
fn each_end_of_ours_stands_for_a_few_late_frames() {
    type Ending = fn(&mut Server);
    let cases: [(&str, Ending); 6] = [
        ("refused", |server| {
            server.connection.refuse_streams(Some(Bound::Memory));
            server.feed(&headers(1, false, &GET));
        }),
        ("reset", |server| {
            server.feed(&headers(1, false, &GET));
            server.connection.reset(server.keys[0], Code::Cancel);
        }),
        ("answered before its end", |server| {
            server.feed(&headers(1, false, &GET));
            server.connection.send_head(server.keys[0], &[0x88], true);
        }),
        ("refused for its head", |server| server.feed(&headers(1, false, &[]))),
        ("answered", |server| {
            server.feed(&headers(1, true, &GET));
            server.connection.send_head(server.keys[0], &[0x88], true);
        }),
        ("reset by the client", |server| server.feed(&joined(&[headers(1, false, &GET), reset(1)]))),
    ];
    for (number, (what, ending)) in cases.into_iter().enumerate() {
        let late = if number < 4 { LATE_FRAMES_PER_STREAM } else { 0 };
        for frame in [data(1, false, b"x"), window_update(1, 1), reset(1), headers(1, true, &[("a", "b")])] {
            if late == 0 && matches!(frame[3], kind::DATA | kind::HEADERS) {
                // A fault.
                continue;
            }
            let mut server = Server::greeted(&[]);
            ending(&mut server);
            server.sent();
            assert_eq!(taken(&mut server, &frame), late + CHEAP_FRAMES_BURST, "{what}, kind {}", frame[3]);
        }
    }
}

#[test]
fn late_frames_are_bounded_whatever_was_refused() {
    // All of them together.
    let mut server = refusing(LATE_FRAMES_MAX);
    assert_eq!(taken(&mut server, &data(1, false, b"x")), LATE_FRAMES_MAX + CHEAP_FRAMES_BURST);
    // And those of a client that always has another stream refused.
    let mut server = refusing(0);
    let frames_each = LATE_FRAMES_PER_STREAM + 10;
    let ended = (0..).find(|i| {
        let id = 2 * i + 1;
        server.feed(&joined(&[headers(id, false, &GET), data(id, false, b"x").repeat(frames_each as usize)]));
        let closed = server.connection.is_closed();
        if !closed {
            server.sent();
        }
        closed
    });
    assert_eq!((ended, server.verdict().ends_with("goaway 11")), (Some(CHEAP_FRAMES_BURST / 10), true));
}

#[test]
fn a_reset_costs_nothing_once_the_answer_is_taken() {
    // (window of the stream, bytes sent, bytes that follow and are not taken, what the reset costs)
    let cases = [
        ("nothing", 1 << 20, None, 0, 1),
        ("the head", 1 << 20, Some(0), 0, 1),
        ("nothing of what waits", 0, Some(100), 0, 1),
        ("all", 1 << 20, Some(1), 0, 0),
        ("half", 1 << 20, Some(100), 100, 0),
        ("less than what waits", 1 << 20, Some(99), 100, 1),
        ("one byte", 1, Some(200_000), 0, 1),
        ("a frame of many", FRAME_BYTES_MAX as u32, Some(200_000), 0, 0),
    ];
    for (what, window, sent, more, cost) in cases {
        let mut server = Server::greeted(&[(setting::INITIAL_WINDOW_SIZE, window)]);
        server.feed(&headers(1, true, &GET));
        let key = server.keys[0];
        if let Some(bytes) = sent {
            server.connection.send_head(key, &[0x88], false);
            server.connection.send_piece(key, Piece::from(vec![0; bytes]));
            server.sent();
            server.connection.send_piece(key, Piece::from(vec![0; more]));
        }
        server.feed(&reset(1));
        assert_eq!(server.told.last().expect("it is told"), "gone 1");
        assert_eq!(used(&mut server, "resets"), cost, "{what} was taken");
    }
}

#[test]
fn useful_work_pays_for_window_updates() {
    // A busy client sends one WINDOW_UPDATE for each answer, far more than the allowance of a second.
    let mut server = Server::greeted(&[]);
    server.feed(&window_update(0, 1 << 30));
    for i in 0..50_000 {
        server.feed(&headers(2 * i + 1, true, &GET));
        let key = server.keys.pop().unwrap();
        assert!(server.connection.send_whole(key, &[0x88], b"", b"x", &[0x88]));
        server.sent();
        server.feed(&window_update(0, 1));
    }
    assert!(!server.connection.is_closed());
}

#[test]
fn streams_above_the_bound_are_refused_and_can_be_tried_again() {
    let mut server = Server::new(Config { concurrent_streams_max: 2, ..Config::default() });
    server.feed(&hello(&[]));
    (0..3).for_each(|i| server.feed(&headers(2 * i + 1, true, &GET)));
    assert_eq!(server.verdict(), format!("reset 5 {}", Code::RefusedStream as u32));
    server.connection.send_head(server.keys[0], &[0x88], true);
    server.feed(&headers(7, true, &GET));
    assert_eq!(server.told.last().unwrap(), "head 7 true");
    const { assert!(STREAMS_LIVE_MAX >= 1_000) };
}

#[test]
fn chunking_of_the_input_changes_nothing() {
    let mut bytes = hello(&[(setting::INITIAL_WINDOW_SIZE, 100)]);
    for i in 0..20 {
        bytes.extend(headers(2 * i + 1, false, &GET));
        bytes.extend(raw(kind::DATA, flag::PADDED, 2 * i + 1, &[&[5][..], &[b'x'; 300], &[0; 5]].concat()));
        if i == 7 {
            bytes.extend(raw(kind::PING, 0, 0, &[7; 8]));
        }
        bytes.extend(headers(2 * i + 1, true, &[("trailer", "yes")]));
    }
    let run = |mut cut: Box<dyn FnMut() -> usize>| {
        let mut server = Server::new(Config::default());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(cut().min(rest.len()));
            server.feed(chunk);
            rest = tail;
        }
        let counted: usize = server
            .told
            .iter()
            .filter_map(|l| l.strip_prefix("data "))
            .map(|l| l.split(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        let lines: Vec<String> = server.told.iter().filter(|l| !l.starts_with("data")).cloned().collect();
        (counted, lines, server.sent())
    };
    let whole = run(Box::new(|| usize::MAX));
    assert_eq!(whole.0, 6_000);
    assert_eq!(run(Box::new(|| 1)), whole);
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        assert_eq!(run(Box::new(move || 1 + prng.below(40) as usize)), whole, "seed {seed}");
    }
}

#[test]
fn random_frames_never_panic_and_memory_stays_bounded() {
    for seed in 0..400 {
        let mut prng = Prng::new(seed);
        let mut server = Server::greeted(&[(setting::INITIAL_WINDOW_SIZE, prng.below(100_000) as u32)]);
        for _ in 0..200 {
            let bytes = random_frame(&mut prng);
            let cut = prng.below(bytes.len() as u64 + 1) as usize;
            server.feed(&bytes[..cut]);
            if let Some(key) = server.keys.get(prng.below(8) as usize).copied() {
                random_answer(&mut prng, &mut server.connection, key);
            }
            server.feed(&bytes[cut..]);
            if prng.chance(1, 3) {
                server.sent();
            }
            assert!(server.connection.unsent_bytes() < 64 << 20);
        }
    }
}

fn random_frame(prng: &mut Prng) -> Vec<u8> {
    let stream = prng.below(12) as u32;
    match prng.below(10) {
        0..=2 => headers(stream | 1, prng.chance(1, 2), &GET),
        3 => data(stream | 1, prng.chance(1, 4), &vec![0; prng.below(3_000) as usize]),
        4 => window_update(stream, prng.below(100_000) as u32),
        5 => raw(kind::RST_STREAM, 0, stream, &[0; 4]),
        6 => raw(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, prng.next_u64() as u8, 0]),
        _ => {
            let payload: Vec<u8> = (0..prng.below(40)).map(|_| prng.next_u64() as u8).collect();
            raw(prng.below(11) as u8, prng.next_u64() as u8, stream, &payload)
        }
    }
}

fn random_answer(prng: &mut Prng, connection: &mut Connection<()>, key: Key) {
    match prng.below(4) {
        0 => connection.send_head(key, &[0x88], prng.chance(1, 4)),
        1 => assert!(connection.stream_room(key) <= 1 << 20),
        2 => drop(connection.send_whole(key, &[0x88], b"12345", &[0; 50], &[0x88])),
        _ => drop(connection.reset(key, Code::Cancel)),
    }
}
