//! Requests that are begun and not ended, or ended at once.

use bytes::Bytes;
use etchd::pure::api::codec::encode;
use etchd::pure::api::requests::{WatchCancelRequest, WatchCreateRequest, WatchRequest};
use etchd::pure::wire::h2::frame::{flag, kind, setting};

use super::hostile::{Attack, GROWTH_BYTES_MAX, flood};
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
    let attack = Attack { growth_bytes_max: (16 << 20) + GROWTH_BYTES_MAX, ..Attack::beyond("kept_bytes") };
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

/// Watches made and cancelled.
#[test]
fn watches_that_come_and_go() {
    let create = encode(&WatchRequest::Create(WatchCreateRequest {
        key: Bytes::from_static(b"watched"),
        watch_id: 7,
        ..WatchCreateRequest::default()
    }));
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
    let create = encode(&WatchRequest::Create(WatchCreateRequest {
        key: Bytes::from_static(b"watched"),
        ..WatchCreateRequest::default()
    }));
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

/// The same with streams.
#[test]
fn watch_streams_that_come_and_go() {
    let create = encode(&WatchRequest::Create(WatchCreateRequest {
        key: Bytes::from_static(b"watched"),
        ..WatchCreateRequest::default()
    }));
    flood("watch-streams", &Attack::beyond("resets"), |wire| {
        let stream = wire.call(path::WATCH, &[]);
        wire.message(stream, &create, false);
        wire.reset(stream);
    });
}
