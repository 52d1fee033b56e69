//! Requests that are begun and not ended, or ended at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use bytes::Bytes;
use etchd::pure::api::codec::encode;
use etchd::pure::api::requests::{WatchCancelRequest, WatchCreateRequest, WatchRequest};
use etchd::pure::wire::grpc::message::Assembler;
use etchd::pure::wire::h2::frame::{self, FrameHead, HEAD_BYTES, PREFACE, flag, kind, setting};

use super::hostile::{Attack, GROWTH_BYTES_MAX, Target, Wire, flood};
use crate::crash::client::{everything, get, path, put};

/// CVE-2023-44487 in its plain form: a head, a reset.
#[test]
fn rapid_resets_of_heads() {
    flood("rapid-resets", &Attack::beyond("resets"), |wire| {
        let stream = wire.call(path::RANGE, &[]);
        wire.reset(stream);
    });
}

/// The same after the work has begun.
#[test]
fn rapid_resets_of_requests() {
    let message = encode(&put(b"reset", b"value"));
    flood("rapid-resets-of-puts", &Attack::beyond("resets"), |wire| {
        let stream = wire.call(path::PUT, &[]);
        wire.message(stream, &message, true);
        wire.reset(stream);
    });
}

/// CVE-2025-8671: the server is made to reset, by a breach of a rule once the work has begun.
#[test]
fn resets_that_the_server_is_made_to_send() {
    let message = encode(&everything());
    let mut turn = 0;
    flood("made-resets", &Attack::beyond("control_replies"), |wire| {
        let stream = wire.call(path::RANGE, &[]);
        wire.message(stream, &message, true);
        turn += 1;
        match turn % 4 {
            0 => wire.window(stream, 0),
            1 => wire.raw(kind::DATA, flag::END_STREAM, stream, &[1]),
            2 => wire.raw(kind::PRIORITY, 0, stream, &[1]),
            _ => wire.window(stream, 0x7fff_ffff),
        }
    });
}

/// The same one floor up: a stream of requests is ended for a message that can't be decoded.
#[test]
fn streams_that_fail_by_their_messages() {
    flood("made-failures", &Attack::beyond("resets"), |wire| {
        let stream = wire.call(path::WATCH, &[]);
        // Compressed, though no encoding was agreed on.
        wire.raw(kind::DATA, 0, stream, &[1, 0, 0, 0, 1, 0]);
    });
}

/// Requests whose time is over as soon as they come.
#[test]
fn timeouts_of_a_nanosecond() {
    let message = encode(&get(b"served/1"));
    flood("timeouts", &Attack::within(), |wire| {
        let stream = wire.call(path::RANGE, &[("grpc-timeout", "1n")]);
        wire.message(stream, &message, true);
    });
}

/// Streams that are opened and nothing else: refused above the bound.
#[test]
fn streams_that_wait() {
    flood("streams", &Attack::beyond("streams"), |wire| {
        wire.call(path::RANGE, &[]);
    });
}

/// Half a message on each of many streams.
#[test]
fn half_messages() {
    let half = vec![b'h'; 16_000];
    // `limits::http2::UNFINISHED_MESSAGE_BYTES_MAX` says why it is more.
    let attack = Attack { growth_bytes_max: (160 << 20) + GROWTH_BYTES_MAX, ..Attack::beyond("kept_bytes") };
    flood("half-messages", &attack, |wire| {
        let stream = wire.call(path::PUT, &[]);
        let mut body = vec![0, 0, 16, 0, 0];
        body.extend_from_slice(&half);
        wire.raw(kind::DATA, 0, stream, &body);
    });
}

/// A whole message, but the request does not end: of an RPC with many answers it is kept until then.
#[test]
fn whole_messages_of_requests_that_do_not_end() {
    let whole = vec![b'h'; 16_000];
    flood("whole-messages", &Attack::beyond("kept_bytes"), |wire| {
        let stream = wire.call("/grpc.health.v1.Health/Watch", &[]);
        wire.message(stream, &whole, false);
    });
}

/// A length that is a lie: longer than anything allowed, or than what follows.
#[test]
fn lengths_that_lie() {
    let mut turn = 0;
    flood("lengths", &Attack::beyond("message_bytes"), |wire| {
        let stream = wire.call(path::PUT, &[]);
        turn += 1;
        let lie: [u8; 6] = if turn % 2 == 0 { [0, 0xff, 0xff, 0xff, 0xff, 1] } else { [0, 0, 31, 0, 0, 1] };
        wire.raw(kind::DATA, flag::END_STREAM, stream, &lie);
    });
}

/// The request for a watch; 0: the server chooses its id.
fn create(watch_id: i64) -> Vec<u8> {
    let key = Bytes::from_static(b"watched");
    encode(&WatchRequest::Create(WatchCreateRequest { key, watch_id, ..WatchCreateRequest::default() }))
}

/// Watches made and cancelled.
#[test]
fn watches_that_come_and_go() {
    let create = create(7);
    let cancel = encode(&WatchRequest::Cancel(WatchCancelRequest { watch_id: 7 }));
    flood("watches", &Attack::within(), |wire| {
        let stream = wire.call(path::WATCH, &[]);
        for _ in 0..500 {
            wire.message(stream, &create, false);
            wire.message(stream, &cancel, false);
        }
        wire.reset(stream);
    });
}

/// Watches that are made, and no answer is read: more are made when they are.
#[test]
fn watches_whose_answers_are_not_read() {
    let create = create(0);
    // It does not keep to the window of its stream.
    let settings = vec![(setting::INITIAL_WINDOW_SIZE, 0)];
    let attack = Attack { settings, ..Attack::beyond("cheap_frames") };
    flood("unread-watches", &attack, |wire| {
        if wire.is_new() {
            wire.call(path::WATCH, &[]);
        }
        wire.message(1, &create, false);
    });
}

/// The same with never more than one watch.
#[test]
fn watches_that_come_and_go_and_answers_are_not_read() {
    let create = create(7);
    let cancel = encode(&WatchRequest::Cancel(WatchCancelRequest { watch_id: 7 }));
    let settings = vec![(setting::INITIAL_WINDOW_SIZE, 0)];
    let attack = Attack { settings, ..Attack::beyond("cheap_frames") };
    flood("unread-cancels", &attack, |wire| {
        if wire.is_new() {
            wire.call(path::WATCH, &[]);
        }
        wire.message(1, &create, false);
        wire.message(1, &cancel, false);
    });
}

/// Not hostile: a hundred thousand watches in one go, by a client that keeps to its windows and reads as it can.
#[test]
fn watches_in_one_go() {
    const WATCHES: usize = 100_000;
    let target = Target::start("many-watches");
    let create = create(0);
    let mut socket = TcpStream::connect(("127.0.0.1", target.port)).expect("the server takes connections");
    let mut wire = Wire { out: PREFACE.to_vec(), frames: 0, stream: 1 };
    frame::write_settings(&mut wire.out, &[]);
    frame::write_settings_ack(&mut wire.out);
    wire.call(path::WATCH, &[]);
    let (say, told) = mpsc::channel();
    let mut reading = socket.try_clone().expect("descriptors are left");
    let reader = std::thread::spawn(move || {
        let (mut answers, mut created) = (Assembler::default(), 0);
        while created < WATCHES {
            let mut head = [0; HEAD_BYTES];
            reading.read_exact(&mut head).expect("the server answers");
            let head = FrameHead::parse(&head);
            let mut payload = vec![0; head.length as usize];
            reading.read_exact(&mut payload).expect("the server answers");
            assert!(!matches!(head.kind, kind::RST_STREAM | kind::GOAWAY), "{payload:?}");
            let mut rest = &payload[..];
            while head.kind == kind::DATA && !rest.is_empty() {
                let whole = answers.feed(&mut rest, 1 << 20).expect("answers are short");
                created += usize::from(whole.is_some());
            }
            say.send((head, payload)).expect("the writer waits for it");
        }
    });
    let (mut sent, mut windows) = (0, [65_535, 65_535]);
    // Until the reader has all.
    loop {
        while sent < WATCHES && windows.iter().all(|window| *window >= 100) {
            let before = wire.out.len();
            wire.message(1, &create, false);
            let bytes = wire.out.len() - before - HEAD_BYTES;
            windows = windows.map(|window| window - bytes);
            sent += 1;
        }
        socket.write_all(&wire.out).expect("the server reads");
        wire.out.clear();
        let Ok((head, payload)) = told.recv() else { break };
        match head.kind {
            kind::WINDOW_UPDATE => {
                let increment = payload.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                windows[usize::from(head.stream > 0)] += increment;
            }
            kind::DATA => {
                wire.window(0, head.length);
                wire.window(1, head.length);
            }
            _ => {}
        }
    }
    reader.join().expect("all watches were created");
    println!("many-watches: grew {} KiB", target.growth_bytes() >> 10);
    assert_eq!(target.breaches_all(), Vec::<String>::new());
    target.stop();
}

/// The same with streams.
#[test]
fn watch_streams_that_come_and_go() {
    let create = create(0);
    flood("watch-streams", &Attack::beyond("resets"), |wire| {
        let stream = wire.call(path::WATCH, &[]);
        wire.message(stream, &create, false);
        wire.reset(stream);
    });
}
