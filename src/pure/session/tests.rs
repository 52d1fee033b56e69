//! Whole conversations: a client's bytes in, its view of the answers out.

mod traffic;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Bound, Code, Config, Piece, ResetCode, RpcKind, Session, SessionEvent, StreamId, Transmit};
use crate::limits::http2::{
    CONNECTION_SEND_BYTES_MAX, CONNECTION_WINDOW_BYTES, EVENTS_WAITING_MAX, FRAME_BYTES_MAX,
    LONG_MESSAGE_BYTES_AT_ONCE, STALLED_SEND_BYTES_MAX, STREAM_SEND_BYTES_MAX, STREAM_SEND_BYTES_MIN,
    STREAM_WINDOW_BYTES,
};
use crate::pure::wire::grpc::gzip;
use crate::pure::wire::grpc::head::Resolved;
use crate::pure::wire::grpc::message::{PREFIX_BYTES, prefix};
use crate::pure::wire::h2::frame::{flag, kind, setting};
use crate::pure::wire::h2::testkit::{Frame, data, fields, frames, headers, hello, raw, window_update};
use crate::stdx::prng::Prng;
use crate::stdx::time::Monotonic;
use crate::testing::request;

fn resolve(path: &[u8]) -> Resolved {
    let rpc = |route, kind| Resolved::Rpc { route, kind };
    match path {
        b"/t.S/Unary" => rpc(1, RpcKind::Unary),
        b"/t.S/Down" => rpc(2, RpcKind::ServerStream),
        b"/t.S/Both" => rpc(3, RpcKind::ClientStream),
        _ => Resolved::UnknownService,
    }
}

fn head(stream: u32, method: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/t.S/{method}");
    let base = request::fields(&path, "x");
    headers(stream, false, &[&base[..], extra].concat())
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&prefix(false, message.len())[..], message].concat()
}

/// A message as DATA frames of 16 KiB.
fn body(stream: u32, end: bool, message: &[u8]) -> Vec<u8> {
    let bytes = framed(message);
    let chunks: Vec<&[u8]> = bytes.chunks(16_384).collect();
    let last = chunks.len() - 1;
    chunks.iter().enumerate().flat_map(|(i, chunk)| data(stream, end && i == last, chunk)).collect()
}

struct Client {
    session: Session,
    now: Monotonic,
}

impl Client {
    fn new() -> Client {
        Client { session: Session::new(Config::new(resolve), Monotonic(0)), now: Monotonic(0) }
    }

    fn greeted(settings: &[(u16, u32)]) -> Client {
        let mut client = Client::new();
        client.send(&hello(settings));
        client.received();
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.handle_bytes(self.now, bytes);
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut transmit = Transmit::new(256 * 1024, 64);
            self.session.poll_transmit(&mut transmit);
            if transmit.is_empty() {
                return bytes;
            }
            transmit.slices().for_each(|slice| bytes.extend_from_slice(slice));
        }
    }

    fn received(&mut self) -> Vec<Frame> {
        frames(&self.bytes())
    }

    fn events(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.session.poll_event() {
                Some(event) => lines.push(line(&event)),
                None if self.session.handle_unread(self.now) => {}
                None => return lines,
            }
        }
    }

    /// Everything that came on streams, as short words.
    fn words(&mut self) -> Vec<String> {
        self.received().iter().filter_map(word).collect()
    }
}

fn line(event: &SessionEvent) -> String {
    match event {
        SessionEvent::Call { stream, route, message, .. } => {
            format!("call {} {route} {}", stream.0, message.len())
        }
        SessionEvent::Request { stream, route, .. } => format!("request {} {route}", stream.0),
        SessionEvent::Message { stream, message } => format!("message {} {}", stream.0, message.len()),
        SessionEvent::HalfClosed { stream } => format!("half-closed {}", stream.0),
        SessionEvent::Cancelled { stream } => format!("cancelled {}", stream.0),
        SessionEvent::DeadlineExceeded { stream } => format!("deadline {}", stream.0),
        SessionEvent::Room { stream } => format!("room {}", stream.0),
        SessionEvent::Undone { bytes } => format!("undone {bytes}"),
        SessionEvent::Http1(request) => {
            format!("{} {}?{} {}", request.method, request.path, request.query, request.body.len())
        }
    }
}

fn word(frame: &Frame) -> Option<String> {
    let end = if frame.ends() { " end" } else { "" };
    match frame.kind {
        kind::HEADERS => {
            let kept: Vec<String> =
                fields(frame).into_iter().filter(|f| f != "content-type: application/grpc").collect();
            Some(format!("{} [{}]{end}", frame.stream, kept.join(", ")))
        }
        kind::DATA => Some(format!("{} {}{end}", frame.stream, frame.payload.len())),
        kind::RST_STREAM => Some(format!("{} reset {}", frame.stream, frame.code())),
        kind::GOAWAY => Some(format!("goaway {}", frame.code())),
        _ => None,
    }
}

const OK: &str = "[grpc-status: 0, grpc-message: ] end";

#[test]
fn a_unary_call_the_short_and_the_long_way() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Unary", &[]), body(1, true, b"hello")].concat());
    assert_eq!(client.events(), ["call 1 1 5"]);
    client.session.send_unary(StreamId(1), b"world!");
    let short = client.words();
    assert_eq!(short, ["1 [:status: 200]".to_owned(), "1 11".into(), format!("1 {OK}")]);
    client.send(&[head(3, "Unary", &[]), body(3, true, b"hello")].concat());
    client.events();
    client
        .session
        .send_unary_pieces(StreamId(3), vec![Piece::from(b"wor".to_vec()), Piece::from(b"ld!".to_vec())]);
    let long = client.words();
    assert_eq!(long.iter().map(|w| w.replacen('3', "1", 1)).collect::<Vec<_>>(), short);
    assert_eq!(client.session.requests_live(), 0);
}

#[test]
fn a_unary_call_is_served_before_its_end_and_then_stopped() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Unary", &[]), body(1, false, b"hello"), body(1, false, b"ignored")].concat());
    assert_eq!(client.events(), ["call 1 1 5"]);
    client.session.send_unary(StreamId(1), b"");
    assert_eq!(
        client.words(),
        ["1 [:status: 200]".to_owned(), "1 5".into(), format!("1 {OK}"), "1 reset 0".into()]
    );
    client.send(&body(1, true, b"late"));
    assert_eq!((client.events().len(), client.words().len()), (0, 0));
}

#[test]
fn all_kinds_of_streams() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Down", &[]), body(1, false, b"q")].concat());
    assert_eq!(client.events().len(), 0, "not before the request's end");
    client.send(&data(1, true, b""));
    client.send(&[head(3, "Both", &[]), body(3, false, b"12"), body(3, true, b"345")].concat());
    assert_eq!(client.events(), ["call 1 2 1", "request 3 3", "message 3 2", "message 3 3", "half-closed 3"]);
    client.session.send_message(StreamId(1), b"a");
    client.session.send_message(StreamId(3), b"bb");
    client.session.send_message(StreamId(1), b"c");
    client.session.send_status(StreamId(1), Code::Ok, "");
    client.session.send_status(StreamId(3), Code::Unavailable, "etcdserver: no leader");
    assert_eq!(
        client.words(),
        [
            "1 [:status: 200]".to_owned(),
            "3 [:status: 200]".into(),
            "1 12".into(),
            format!("1 {OK}"),
            "3 7".into(),
            "3 [grpc-status: 14, grpc-message: etcdserver: no leader] end".into()
        ]
    );
}

#[test]
fn broken_calls_get_the_statuses_of_grpc_go() {
    let too_big = prefix(false, 2_097_153);
    let gzip_flag = |payload: &[u8]| [&prefix(true, payload.len())[..], payload].concat();
    let odd_flag = [&[7, 0, 0, 0, 1][..], b"x"].concat();
    let twice = [framed(b"1"), framed(b"2")].concat();
    let cardinality = "cardinality violation: received";
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>, String);
    let cases: Vec<Case> = vec![
        ("Unary", &[], vec![], "2, grpc-message: EOF".into()),
        ("Unary", &[], vec![0, 0], "2, grpc-message: unexpected EOF".into()),
        ("Unary", &[], framed(b"abc")[..7].to_vec(), "2, grpc-message: unexpected EOF".into()),
        ("Both", &[], framed(b"abc")[..7].to_vec(), "13, grpc-message: unexpected EOF".into()),
        (
            "Down",
            &[],
            vec![],
            format!("13, grpc-message: {cardinality} no request message from non-client-streaming RPC"),
        ),
        (
            "Down",
            &[],
            twice,
            format!("13, grpc-message: {cardinality} multiple request messages for non-client-streaming RPC"),
        ),
        (
            "Unary",
            &[],
            too_big.to_vec(),
            "8, grpc-message: grpc: received message larger than max (2097153 vs. 2097152)".into(),
        ),
        (
            "Unary",
            &[],
            gzip_flag(b"x"),
            "13, grpc-message: grpc: compressed flag set with identity or empty encoding".into(),
        ),
        ("Unary", &[], odd_flag, "13, grpc-message: grpc: received unexpected payload format 7".into()),
        (
            "Unary",
            &[("grpc-encoding", "gzip")],
            gzip_flag(b"xxxxxxxxxxxx"),
            "13, grpc-message: grpc: failed to decompress the message: gzip: invalid header".into(),
        ),
        (
            "Down",
            &[("grpc-encoding", "gzip")],
            gzip_flag(&gzip::deflate(&vec![0; 2_097_153])),
            "8, grpc-message: grpc: received message after decompression larger than max 2097152".into(),
        ),
        (
            "Unary",
            &[("grpc-encoding", "snappy")],
            framed(b""),
            "12, grpc-message: grpc: Decompressor is not installed for grpc-encoding \"snappy\"".into(),
        ),
    ];
    for (method, extra, payload, expected) in cases {
        let mut client = Client::greeted(&[]);
        client.send(&[head(1, method, extra), data(1, true, &payload)].concat());
        let mut told = client.events();
        told.retain(|line| !line.starts_with("undone"));
        let words = client.words();
        assert_eq!(words[0], format!("1 [:status: 200, grpc-status: {expected}] end"));
        assert!(told.is_empty() || told == ["request 1 3", "cancelled 1"], "{told:?}");
        assert_eq!(client.session.requests_live(), 0);
    }
}

#[test]
fn gzip_requests_get_gzip_answers() {
    let message = vec![b'm'; 5_000];
    let packed = gzip::deflate(&message);
    for flagged in [true, false] {
        let mut client = Client::greeted(&[]);
        let payload =
            if flagged { [&prefix(true, packed.len())[..], &packed].concat() } else { framed(&message) };
        client.send(&[head(1, "Unary", &[("grpc-encoding", "gzip")]), data(1, true, &payload)].concat());
        assert_eq!(client.events(), ["call 1 1 5000"]);
        client.session.send_unary(StreamId(1), &message);
        let frames = client.received();
        assert_eq!(fields(&frames[0])[2], "grpc-encoding: gzip");
        assert_eq!(frames[1].payload[0], 1);
        assert_eq!(gzip::inflate(&frames[1].payload[5..], 5_000).unwrap(), message);
    }
}

#[test]
fn messages_at_the_limit_pass_and_windows_survive_many_of_them() {
    let mut client = Client::greeted(&[]);
    let message = vec![1; 2_097_152];
    for i in 0..10 {
        let id = 2 * i + 1;
        // A client of ours that obeys windows would wait; here updates are counted instead.
        client.send(&[head(id, "Unary", &[]), body(id, true, &message)].concat());
        assert_eq!(client.events(), [format!("call {id} 1 2097152")]);
        client.session.send_unary(StreamId(id), b"ok");
        let words = client.words();
        assert_eq!(words.last().unwrap(), &format!("{id} {OK}"), "{words:?}");
    }
}

#[test]
fn events_not_taken_hold_the_windows_back() {
    let mut client = Client::greeted(&[]);
    client.send(&head(1, "Both", &[]));
    let message = vec![0; 6_000 - 5];
    let mut granted = 0;
    let updates = |frames: &[Frame]| -> u32 {
        let of = frames.iter().filter(|f| f.kind == kind::WINDOW_UPDATE && f.stream == 1);
        of.map(|f| u32::from_be_bytes(f.payload[..].try_into().unwrap())).sum()
    };
    for _ in 0..10 {
        client.send(&body(1, false, &message));
        granted += updates(&client.received());
    }
    assert_eq!(granted, 0, "60 KB of messages wait");
    assert_eq!(client.events().len(), 11);
    granted += updates(&client.received());
    assert!(granted >= STREAM_WINDOW_BYTES / 2, "{granted}");
}

#[test]
fn a_deadline_ends_a_call_once_and_late_answers_are_dropped() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Unary", &[("grpc-timeout", "100m")]), body(1, true, b"x")].concat());
    assert_eq!(client.events(), ["call 1 1 1"]);
    let at = Monotonic(100_000_000);
    assert_eq!(client.session.next_timeout(), Some(at));
    client.session.handle_timeout(Monotonic(99_999_999));
    assert_eq!(client.events().len(), 0);
    client.session.handle_timeout(at);
    assert_eq!(client.events(), ["deadline 1"]);
    assert_eq!(
        client.words(),
        ["1 [:status: 200, grpc-status: 4, grpc-message: context deadline exceeded] end"]
    );
    client.session.send_unary(StreamId(1), b"late");
    client.session.send_status(StreamId(1), Code::Ok, "");
    client.session.reset(StreamId(1), ResetCode::Cancel);
    assert_eq!(client.words().len(), 0);
    assert_eq!(client.session.stream_room(StreamId(1)), 0);
}

#[test]
fn resets_and_disconnects_cancel_what_the_application_knows() {
    let mut client = Client::greeted(&[]);
    client.send(
        &[head(1, "Both", &[]), head(3, "Unary", &[]), head(5, "Unary", &[]), body(5, true, b"")].concat(),
    );
    assert_eq!(client.events(), ["request 1 3", "call 5 1 0"]);
    client.send(&raw(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    client.send(&raw(kind::RST_STREAM, 0, 3, &8_u32.to_be_bytes()));
    assert_eq!(client.events(), ["cancelled 1"]);
    client.session.handle_disconnect();
    assert_eq!(client.events(), ["cancelled 5"]);
    assert!(client.session.is_closed());
}

#[test]
fn an_answered_stream_ends_once_even_if_its_bytes_still_wait() {
    let mut client = Client::greeted(&[(setting::INITIAL_WINDOW_SIZE, 3)]);
    client.send(&[head(1, "Unary", &[("grpc-timeout", "1S")]), body(1, true, b"")].concat());
    client.events();
    client.session.send_unary(StreamId(1), b"0123456789");
    assert_eq!(client.words(), ["1 [:status: 200]", "1 3"]);
    client.session.send_unary(StreamId(1), b"again");
    client.session.send_message(StreamId(1), b"and again");
    client.session.handle_timeout(Monotonic(1_000_000_000));
    assert_eq!(client.events().len(), 0, "the application has answered");
    assert_eq!(client.words(), ["1 reset 8"], "trailers after half a message would be a fault of ours");
    assert_eq!(client.session.unsent_bytes(), 0);
}

/// A deadline that passes while an answer is sent: a status where the client has whole messages or none, else a reset.
#[test]
fn a_deadline_never_puts_trailers_behind_half_a_message() {
    let status = "1 [grpc-status: 4, grpc-message: context deadline exceeded] end";
    let whole = ["1 [:status: 200]", "1 15"];
    /// Window, RPC, what is answered, what is sent before the deadline and after it.
    type Case<'a> = (u32, &'a str, &'a dyn Fn(&mut Session), &'a [&'a str], &'a str);
    let cases: [Case; 6] = [
        (0, "Unary", &|session| session.send_unary(StreamId(1), b"0123456789"), &whole[..1], status),
        (
            3,
            "Unary",
            &|session| session.send_unary(StreamId(1), b"0123456789"),
            &[whole[0], "1 3"],
            "1 reset 8",
        ),
        (15, "Both", &|session| session.send_message(StreamId(1), b"0123456789"), &whole, status),
        (
            16,
            "Both",
            &|session| (0..2).for_each(|_| session.send_message(StreamId(1), b"0123456789")),
            &[whole[0], "1 16"],
            "1 reset 8",
        ),
        // Of the one message a part was given, and sent.
        (99, "Unary", &|session| begin_in_parts(session, b"01234"), &[whole[0], "1 10"], "1 reset 8"),
        (0, "Unary", &|session| begin_in_parts(session, b"01234"), &whole[..1], status),
    ];
    for (window, rpc, answer, before, after) in cases {
        let mut client = Client::greeted(&[(setting::INITIAL_WINDOW_SIZE, window)]);
        client.send(&[head(1, rpc, &[("grpc-timeout", "1S")]), body(1, true, b"")].concat());
        client.events();
        answer(&mut client.session);
        assert_eq!(client.words(), before, "{rpc} {window}");
        client.session.handle_timeout(Monotonic(1_000_000_000));
        assert_eq!(client.words(), [after], "{rpc} {window}");
        client.events();
        assert_eq!((client.session.unsent_bytes(), client.session.held_bytes()), (0, 0), "{rpc} {window}");
    }
}

/// The begin of a message of ten bytes.
fn begin_in_parts(session: &mut Session, part: &[u8]) {
    assert!(session.begin_message(StreamId(1), 10));
    session.append_pieces(StreamId(1), vec![Piece::from(part.to_vec())]);
}

#[test]
fn room_is_told_and_a_slow_client_gets_no_new_work_done() {
    let mut client = Client::greeted(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    client.send(&head(1, "Both", &[]));
    client.events();
    assert_eq!(client.session.stream_room(StreamId(1)), STREAM_SEND_BYTES_MAX);
    client.session.send_message(StreamId(1), &vec![0; STREAM_SEND_BYTES_MAX]);
    assert_eq!(client.session.stream_room(StreamId(1)), 0);
    client.session.want_room(StreamId(1));
    client.send(&[window_update(0, 1 << 30), window_update(1, STREAM_SEND_BYTES_MAX as u32 / 2)].concat());
    client.received();
    assert_eq!(client.events().len(), 0);
    client.send(&window_update(1, 5));
    client.received();
    assert_eq!(client.events(), ["room 1"]);
    client.session.send_message(StreamId(1), &vec![0; CONNECTION_SEND_BYTES_MAX]);
    client.send(&[head(3, "Unary", &[]), body(3, true, b"")].concat());
    assert_eq!(client.events(), ["call 3 1 0"], "one stream that is not read does not silence the others");
    client.session.send_message(StreamId(1), &vec![0; STALLED_SEND_BYTES_MAX]);
    client.send(&[head(5, "Unary", &[]), body(5, true, b"")].concat());
    assert_eq!(client.events().len(), 0, "held back");
    client.send(&window_update(1, 16 << 20));
    client.received();
    assert_eq!(client.events(), ["call 5 1 0"]);
}

#[test]
fn a_stream_has_some_room_whatever_waits_on_others() {
    let mut client = Client::greeted(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    client.send(&[window_update(0, 1 << 30), head(1, "Both", &[]), head(3, "Both", &[])].concat());
    client.events();
    client.session.send_message(StreamId(1), &vec![0; CONNECTION_SEND_BYTES_MAX + (2 << 20)]);
    client.received();
    assert_eq!(client.session.stream_room(StreamId(3)), STREAM_SEND_BYTES_MIN);
    client.session.send_message(StreamId(3), &vec![0; STREAM_SEND_BYTES_MIN]);
    assert_eq!(client.session.stream_room(StreamId(3)), 0);
    client.session.want_room(StreamId(3));
    client.received();
    assert_eq!(client.events(), ["room 3"]);
}

#[test]
fn a_thousand_streams_and_one_byte_windows() {
    let mut client = Client::greeted(&[(setting::INITIAL_WINDOW_SIZE, 1)]);
    for i in 0..1_000 {
        client.send(&[head(2 * i + 1, "Both", &[]), body(2 * i + 1, true, b"x")].concat());
    }
    assert_eq!(client.events().len(), 3_000);
    assert_eq!(client.session.requests_live(), 1_000);
    for i in 0..1_000 {
        client.session.send_message(StreamId(2 * i + 1), b"abc");
        client.session.send_status(StreamId(2 * i + 1), Code::Ok, "");
    }
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for _ in 0..8 {
        for frame in client.received() {
            if frame.kind == kind::DATA {
                assert_eq!(frame.payload.len(), 1);
                *seen.entry(frame.stream).or_default() += 1;
            }
        }
        (0..1_000).for_each(|i| client.send(&window_update(2 * i + 1, 1)));
    }
    assert_eq!(seen.len(), 1_000);
    assert!(seen.values().all(|bytes| *bytes == 8));
    assert_eq!(client.session.requests_live(), 0);
    assert!(!client.session.is_closed());
}

#[test]
fn a_stopping_server_lets_calls_finish() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Unary", &[]), body(1, true, b"")].concat());
    client.events();
    client.session.go_away_graceful(client.now);
    assert_eq!(client.words(), ["goaway 0"]);
    client.session.handle_timeout(Monotonic(0) + Duration::from_secs(5));
    assert_eq!(client.words(), ["goaway 0"]);
    assert!(!client.session.wants_close());
    client.session.send_unary(StreamId(1), b"");
    assert!(client.session.is_closed() && !client.session.wants_close());
    assert_eq!(client.words().len(), 3);
    assert!(client.session.wants_close());
}

#[test]
fn silent_and_half_known_clients_are_closed_in_time() {
    for bytes in [&b""[..], b"PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HT"] {
        let mut client = Client::new();
        client.send(bytes);
        assert_eq!(client.session.next_timeout(), Some(Monotonic(10_000_000_000)), "{bytes:?}");
        client.session.handle_timeout(Monotonic(10_000_000_000));
        assert!(client.session.is_closed(), "{bytes:?}");
        assert_eq!(client.session.next_timeout(), None, "closed and still to be woken: {bytes:?}");
    }
}

#[test]
fn events_that_nobody_takes_are_bounded() {
    let mut client = Client::greeted(&[]);
    // 2 000 empty messages a frame.
    client.send(&head(1, "Both", &[]));
    for _ in 0..6 {
        client.send(&data(1, false, &[0; 10_000]));
    }
    // The client's way of saying that nothing is stuck: a PING, which waits as all else.
    client.send(&raw(kind::PING, 0, 0, &[9; 8]));
    assert!(!client.session.wants_read());
    let events = client.session.queues().events;
    assert!((EVENTS_WAITING_MAX..EVENTS_WAITING_MAX + 2_000).contains(&events), "{events}");
    assert!(client.received().is_empty(), "the PING was read");
    assert_eq!(
        client.session.next_timeout(),
        Some(Monotonic(0) + Duration::from_secs(7_200)),
        "no frame is late"
    );
    assert_eq!(client.events().len(), 1 + 6 * 2_000);
    assert!(client.session.wants_read() && !client.session.is_closed());
    assert_eq!(client.received().iter().filter(|frame| frame.kind == kind::PING).count(), 1);
}

#[test]
fn deadlines_of_answered_calls_are_forgotten() {
    let mut client = Client::greeted(&[]);
    for i in 0..5_000 {
        let id = 2 * i + 1;
        client.send(&[head(id, "Unary", &[("grpc-timeout", "5S")]), body(id, true, b"")].concat());
        client.events();
        client.session.send_unary(StreamId(id), b"");
        client.received();
    }
    let super::Protocol::Http2(rpc) = &client.session.protocol else { panic!("HTTP/2") };
    assert!(rpc.deadlines_len() <= 70);
}

#[test]
fn http1_requests_one_after_the_other() {
    let mut client = Client::new();
    let requests = "GET /health?serializable=true HTTP/1.1\r\nHost: x\r\n\r\nPOST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
        PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n3\r\ncde\r\n0\r\nT: v\r\n\r\nHEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for byte in requests.bytes() {
        client.send(&[byte]);
    }
    let mut seen = Vec::new();
    let mut bytes = Vec::new();
    while let Some(event) = client.session.poll_event() {
        seen.push(line(&event));
        let SessionEvent::Http1(request) = event else { panic!("{event:?}") };
        let body = Bytes::from(request.path.into_bytes());
        client.session.http1_response(client.now, 200, &[("Content-Type", "text/plain")], body);
        if seen.len() % 2 == 0 {
            bytes.extend(client.bytes());
        }
    }
    assert_eq!(seen, ["GET /health?serializable=true 0", "POST /v3/kv/put? 3", "PUT /c? 5", "HEAD /h? 0"]);
    let answer = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let last =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 2\r\n\r\n";
    let expected = [answer("/health"), answer("/v3/kv/put"), answer("/c"), last.to_owned()].concat();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    assert!(client.session.wants_close());
}

#[test]
fn http1_answers_in_chunks() {
    for (version, expected) in [
        ("1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"),
        ("1.0", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello!"),
    ] {
        let mut client = Client::new();
        client.send(
            format!("POST /v3/watch HTTP/{version}\r\nHost: x\r\nConnection: keep-alive\r\n\r\n").as_bytes(),
        );
        assert_eq!(client.events().len(), 1);
        client.session.http1_begin(200, &[]);
        client.session.http1_chunk(b"hello");
        client.session.http1_chunk(b"!");
        client.session.http1_end(client.now);
        assert_eq!(String::from_utf8(client.bytes()).unwrap(), expected);
        assert_eq!(client.session.wants_close(), version == "1.0");
    }
}

#[test]
fn bad_http1_is_refused() {
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(17_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(65));
    let cases = [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4194305\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400001\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"),
        (&long, "431"),
        (&many, "431"),
    ];
    for (bytes, status) in cases {
        let mut client = Client::new();
        client.send(bytes.as_bytes());
        let answer = String::from_utf8(client.bytes()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:.80}: {answer}");
        assert!(client.session.wants_close());
        assert_eq!(client.events().len(), 0);
    }
}

#[test]
fn pipelining_is_bounded() {
    let mut client = Client::new();
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.session.wants_read());
    client.send(&[b'a'; 20_000]);
    assert!(!client.session.wants_read());
    (0..300).for_each(|_| client.send(&[b'a'; 20_000]));
    assert!(client.session.is_closed());
}

#[test]
fn random_conversations_never_panic_and_agree_byte_by_byte() {
    for seed in 0..150 {
        let mut prng = Prng::new(seed);
        let mut bytes = hello(&[(setting::INITIAL_WINDOW_SIZE, prng.below(5_000) as u32)]);
        for i in 0..30 {
            let id = 2 * (i - i.min(prng.below(3) as u32)) + 1;
            bytes.extend(match prng.below(8) {
                0 => head(2 * i + 1, "Unary", &[("grpc-timeout", "5S")]),
                1 => head(2 * i + 1, "Down", &[]),
                2 => head(2 * i + 1, "Both", &[("grpc-encoding", "gzip")]),
                3 => head(2 * i + 1, "None", &[]),
                4 => raw(kind::RST_STREAM, 0, id, &[0; 4]),
                5 => data(
                    id,
                    prng.chance(1, 2),
                    &(0..prng.below(60)).map(|_| prng.below(3) as u8).collect::<Vec<_>>(),
                ),
                _ => body(id, prng.chance(1, 2), &vec![0; prng.below(200) as usize]),
            });
        }
        if prng.chance(1, 4) {
            // Behind the preface, so that it stays HTTP/2.
            let at = 24 + prng.below(bytes.len() as u64 - 24) as usize;
            bytes[at] = prng.next_u64() as u8;
        }
        let run = |step: usize| {
            let mut client = Client::new();
            for chunk in bytes.chunks(step) {
                client.send(chunk);
            }
            // How much of a faulty request was known decides on resets and acks, not on answers.
            let heads: Vec<Frame> =
                client.received().into_iter().filter(|f| f.kind == kind::HEADERS).collect();
            (client.events(), heads)
        };
        let whole = run(usize::MAX);
        assert_eq!(run(1), whole, "seed {seed}");
        assert_eq!(run(13), whole, "seed {seed}");
    }
}

/// How often a bound was reached.
fn reached(client: &mut Client, bound: Bound) -> u64 {
    let mut totals = [0; Bound::ALL.len()];
    client.session.drain_bounds(&mut totals);
    totals[bound as usize]
}

#[test]
fn settings_that_are_not_acknowledged_end_the_connection() {
    let mut client = Client::new();
    let mut hello = hello(&[]);
    hello.truncate(hello.len() - 9);
    client.send(&hello);
    assert!(client.session.is_in_handshake());
    assert_eq!(client.session.next_timeout(), Some(Monotonic(0) + Duration::from_secs(10)));
    client.session.handle_timeout(Monotonic(0) + Duration::from_secs(10));
    assert!(client.session.is_closed());
    assert_eq!(reached(&mut client, Bound::Handshake), 1);
}

#[test]
fn a_frame_or_block_that_is_not_finished_ends_the_connection() {
    let block = head(1, "Unary", &[]);
    // A part of a frame's head, of its payload, and a block without its end.
    let mut open_block = block.clone();
    open_block[4] = 0;
    for part in [&block[..5], &block[..20], &open_block] {
        let mut client = Client::greeted(&[]);
        client.now = Monotonic(0) + Duration::from_secs(5);
        client.send(part);
        assert_eq!(client.session.next_timeout(), Some(client.now + Duration::from_secs(10)));
        client.session.handle_timeout(client.now + Duration::from_secs(10));
        assert!(client.session.is_closed());
        assert_eq!(reached(&mut client, Bound::SlowFrame), 1);
    }
}

fn reset(stream: u32) -> Vec<u8> {
    raw(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

#[test]
fn a_call_that_is_reset_before_it_is_taken_is_never_heard_of() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Unary", &[]), body(1, true, b"x"), reset(1)].concat());
    client.send(&[head(3, "Both", &[]), body(3, false, b"x"), reset(3)].concat());
    client.send(&[head(5, "Unary", &[]), body(5, true, b"y")].concat());
    assert!(
        matches!(client.session.poll_event(), Some(SessionEvent::Call { stream: StreamId(5), .. })),
        "the only one that is left"
    );
    assert!(client.session.poll_event().is_none());
}

#[test]
fn many_resets_delay_what_follows_and_more_end_the_connection() {
    let mut client = Client::greeted(&[]);
    let mut stream = 1;
    let mut resets = |client: &mut Client, count: u32| {
        for _ in 0..count {
            client.send(&[head(stream, "Unary", &[]), reset(stream)].concat());
            stream += 2;
        }
        stream
    };
    let next = resets(&mut client, 1_500);
    client.send(&[head(next, "Unary", &[]), body(next, true, b"x")].concat());
    assert!(client.session.poll_event().is_none(), "it has to wait");
    let until = client.session.next_timeout().expect("for some time");
    assert_eq!(until, Monotonic(0) + Duration::from_millis(500), "1,000 a second");
    client.now = until;
    client.session.handle_timeout(until);
    assert!(matches!(client.session.poll_event(), Some(SessionEvent::Call { .. })), "that has passed");
    // Answers pay: as many resets as calls go on for ever.
    client.send(&window_update(0, 1 << 30));
    client.session.send_unary(StreamId(next), b"");
    let mut stream = next + 2;
    for _ in 0..30_000 {
        client.send(&[head(stream, "Unary", &[]), body(stream, true, b"x")].concat());
        assert!(matches!(client.session.poll_event(), Some(SessionEvent::Call { .. })));
        client.session.send_unary(StreamId(stream), b"");
        client.send(&[head(stream + 2, "Unary", &[]), reset(stream + 2)].concat());
        client.received();
        stream += 4;
    }
    assert_eq!(reached(&mut client, Bound::Resets), 0);
    for _ in 0..10_000 {
        client.send(&[head(stream, "Unary", &[]), reset(stream)].concat());
        stream += 2;
    }
    assert!(client.session.is_closed());
    assert_eq!(reached(&mut client, Bound::Resets), 1);
}

#[test]
fn closing_streams_that_were_answered_delays_nothing() {
    const STREAMS: u32 = 3_000;
    let mut client = Client::greeted(&[]);
    let ids = || (0..STREAMS).map(|i| 2 * i + 1);
    for id in ids() {
        client.send(&[head(id, "Both", &[]), body(id, false, b"create")].concat());
        assert_eq!(client.events().len(), 2);
        client.session.send_message(StreamId(id), b"created");
        assert!(client.words().len() > 1, "a head and the message");
    }
    ids().for_each(|id| client.send(&reset(id)));
    let next = 2 * STREAMS + 1;
    client.send(&[head(next, "Unary", &[]), body(next, true, b"x")].concat());
    let events = client.events();
    assert_eq!(events.len(), STREAMS as usize + 1);
    assert!(events[0].starts_with("cancelled") && events[STREAMS as usize].starts_with("call"));
}

/// A burst beyond a connection's memory whose streams are refused before their messages come.
#[test]
fn messages_of_refused_streams_end_no_connection() {
    const STREAMS: u32 = 60_000;
    let mut client = Client::greeted(&[]);
    let ids = (0..STREAMS).map(|i| 2 * i + 1);
    let mut refused = 0;
    for id in ids.clone() {
        client.send(&head(id, "Unary", &[]));
        refused += client.received().iter().filter(|f| f.kind == kind::RST_STREAM).count();
    }
    assert!(refused > 30_000, "{refused}");
    ids.for_each(|id| client.send(&body(id, true, b"put")));
    assert!(!client.session.is_closed());
    assert_eq!(client.events().len(), STREAMS as usize - refused);
    assert_eq!(reached(&mut client, Bound::CheapFrames), 0);
}

#[test]
fn messages_are_inflated_when_they_are_taken() {
    let mut client = Client::greeted(&[]);
    let bomb = gzip::deflate(&vec![0; 2 << 20]);
    let bomb = [&prefix(true, bomb.len())[..], &bomb].concat();
    for number in 0..100 {
        let stream = 1 + 2 * number;
        client
            .send(&[head(stream, "Unary", &[("grpc-encoding", "gzip")]), data(stream, true, &bomb)].concat());
    }
    let held = client.session.held_bytes();
    assert!(held < 1 << 20, "{held}");
    let events = client.events();
    assert_eq!(events.len(), 100);
    assert!(events.iter().all(|event| event.ends_with(&format!(" {}", 2 << 20))), "{events:?}");
    let answered: usize = client.session.held_bytes();
    assert!(answered <= held, "what is taken is held no more: {answered}");
}

#[test]
fn without_memory_new_streams_are_refused() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Unary", &[]), data(1, false, &framed(&[1; 100])[..50])].concat());
    client.session.set_pressed(true);
    client.send(&[head(3, "Unary", &[]), data(1, false, &[1; 10])].concat());
    let codes: Vec<(u32, u32)> = client
        .received()
        .iter()
        .filter(|f| f.kind == kind::RST_STREAM)
        .map(|f| (f.stream, f.code()))
        .collect();
    assert_eq!(codes, [(3, ResetCode::RefusedStream as u32), (1, ResetCode::RefusedStream as u32)]);
    client.session.set_pressed(false);
    client.send(&[head(5, "Unary", &[]), body(5, true, b"x")].concat());
    assert!(matches!(client.session.poll_event(), Some(SessionEvent::Call { .. })));
}

/// As many as a client likes, each longer than a stream's window, a frame of each by turns: windows let them in one
/// after the other.
#[test]
fn long_messages_take_turns() {
    uploads_at_once(64, 1_572_864);
    uploads_at_once(2_000, 100_000);
}

fn uploads_at_once(uploads: usize, bytes_each: usize) {
    let mut client = Client::greeted(&[]);
    let mut left = vec![PREFIX_BYTES + bytes_each; uploads];
    let mut windows = vec![STREAM_WINDOW_BYTES as usize; uploads];
    let mut window = CONNECTION_WINDOW_BYTES as usize;
    (0..uploads).for_each(|i| client.send(&head(2 * i as u32 + 1, "Unary", &[])));
    let (mut calls, mut peak) = (0, 0);
    while calls < uploads {
        let before = left.iter().sum::<usize>();
        for i in 0..uploads {
            let bytes = left[i].min(windows[i]).min(window).min(FRAME_BYTES_MAX);
            if bytes == 0 {
                continue;
            }
            let begins = left[i] == PREFIX_BYTES + bytes_each;
            (left[i], windows[i], window) = (left[i] - bytes, windows[i] - bytes, window - bytes);
            let mut part = if begins { prefix(false, bytes_each).to_vec() } else { Vec::new() };
            part.resize(bytes, b'u');
            client.send(&data(2 * i as u32 + 1, left[i] == 0, &part));
            peak = peak.max(client.session.queues().unfinished_bytes);
        }
        calls += client.events().len();
        for frame in client.received() {
            assert_eq!(frame.kind, kind::WINDOW_UPDATE, "nothing is refused");
            let increment = u32::from_be_bytes(frame.payload[..].try_into().unwrap()) as usize;
            match frame.stream {
                0 => window += increment,
                stream => windows[stream as usize / 2] += increment,
            }
        }
        assert!(
            calls == uploads || left.iter().sum::<usize>() < before,
            "stuck with {calls} calls: {windows:?}"
        );
    }
    // Buffers of unfinished messages double.
    let most = uploads * STREAM_WINDOW_BYTES as usize + LONG_MESSAGE_BYTES_AT_ONCE + bytes_each;
    assert!(peak <= most, "{peak}");
}

/// The same with as much padding as there can be, one message after the other on one stream.
#[test]
fn padding_does_not_use_up_the_window_of_a_long_message() {
    let mut client = Client::greeted(&[]);
    client.send(&head(1, "Both", &[]));
    let mut window = STREAM_WINDOW_BYTES as usize;
    for _ in 0..3 {
        let mut rest = framed(&vec![b'p'; 200_000]);
        while !rest.is_empty() {
            let bytes = rest.len().min(1_000).min(window.saturating_sub(256));
            assert!(bytes > 0, "no window is left: {window}");
            let tail = rest.split_off(bytes);
            let payload = [&[255][..], &rest, &[0; 255]].concat();
            client.send(&raw(kind::DATA, flag::PADDED, 1, &payload));
            window -= payload.len();
            rest = tail;
            for frame in client.received() {
                assert_eq!(frame.kind, kind::WINDOW_UPDATE, "nothing is refused");
                if frame.stream == 1 {
                    window += u32::from_be_bytes(frame.payload[..].try_into().unwrap()) as usize;
                }
            }
        }
        assert!(client.events().iter().any(|event| event == "message 1 200000"));
        for frame in client.received() {
            if frame.stream == 1 {
                window += u32::from_be_bytes(frame.payload[..].try_into().unwrap()) as usize;
            }
        }
    }
}

/// A request whose application takes no messages: they wait as they came, then come in order.
#[test]
fn held_messages_come_when_they_are_released() {
    let mut client = Client::greeted(&[]);
    client.send(&[head(1, "Both", &[]), body(1, false, b"1")].concat());
    assert_eq!(client.events(), ["request 1 3", "message 1 1"]);
    client.session.hold_messages(StreamId(1));
    client.send(&[body(1, false, b"22"), body(1, true, b"333")].concat());
    assert!(client.events().is_empty());
    assert!(client.session.queues().unfinished_bytes >= 15);
    client.session.release_messages(StreamId(1));
    assert_eq!(client.events(), ["message 1 2", "message 1 3", "half-closed 1"]);
    assert_eq!(client.session.queues().unfinished_bytes, 0);
    // Nothing is left of a request that ends held.
    client.send(&[head(3, "Both", &[]), body(3, false, b"1")].concat());
    client.events();
    client.session.hold_messages(StreamId(3));
    client.send(&body(3, false, &[0; 1_000]));
    client.session.send_status(StreamId(3), Code::Ok, "");
    assert_eq!(client.session.queues().unfinished_bytes, 0);
    client.session.release_messages(StreamId(3));
    assert!(client.events().is_empty());
}
