//! Frames that cost the sender nothing: control frames, empty and tiny ones, late ones.

use etchd::pure::wire::h2::frame::{flag, kind, setting};

use super::hostile::{Attack, Wire, flood};
use crate::crash::client::path;

/// A stream that stays open, made once on each connection.
fn first_stream(wire: &mut Wire) -> u32 {
    if wire.is_new() {
        wire.call(path::PUT, &[]);
    }
    1
}

#[test]
fn pings() {
    flood("pings", &Attack::beyond("pings"), |wire| wire.raw(kind::PING, 0, 0, &[7; 8]));
}

#[test]
fn ping_acks_that_nobody_asked_for() {
    let attack = Attack::beyond("cheap_frames");
    flood("ping-acks", &attack, |wire| wire.raw(kind::PING, flag::ACK, 0, &[7; 8]));
}

/// The answers to them are not read (CVE-2019-9512 and 9515).
#[test]
fn settings() {
    let attack = Attack { reads: false, ..Attack::beyond("settings") };
    flood("settings", &attack, |wire| wire.raw(kind::SETTINGS, 0, 0, &[]));
}

#[test]
fn settings_acks_that_nobody_asked_for() {
    let attack = Attack::beyond("cheap_frames");
    flood("settings-acks", &attack, |wire| wire.raw(kind::SETTINGS, flag::ACK, 0, &[]));
}

/// Each moves the windows of all streams.
#[test]
fn settings_that_move_many_windows() {
    let mut turn = 0_u32;
    flood("settings-windows", &Attack::beyond("settings"), |wire| {
        if wire.is_new() {
            for _ in 0..5_000 {
                wire.call(path::RANGE, &[]);
            }
        }
        turn += 1;
        let value = (turn & 1) << 30;
        let id = setting::INITIAL_WINDOW_SIZE.to_be_bytes();
        let entry: Vec<u8> = [&id[..], &value.to_be_bytes()].concat();
        wire.raw(kind::SETTINGS, 0, 0, &entry.repeat(100));
    });
}

#[test]
fn priorities() {
    flood("priorities", &Attack::beyond("cheap_frames"), |wire| {
        wire.raw(kind::PRIORITY, 0, 3, &[0, 0, 0, 1, 9]);
    });
}

#[test]
fn frames_of_unknown_kinds() {
    flood("unknown", &Attack::beyond("cheap_frames"), |wire| wire.raw(0xfa, 0, 0, &[1; 4]));
}

/// CVE-2019-9518.
#[test]
fn empty_data() {
    flood("empty-data", &Attack::beyond("cheap_frames"), |wire| {
        let stream = first_stream(wire);
        wire.raw(kind::DATA, 0, stream, &[]);
    });
}

/// A message a byte at a time is slow but legal, and costs no more memory than the message.
#[test]
fn data_of_one_byte() {
    let mut left = 0_u32;
    flood("one-byte-data", &Attack::within(), |wire| {
        if left == 0 || wire.is_new() {
            if !wire.is_new() {
                let stream = wire.stream - 2;
                wire.reset(stream);
            }
            let stream = wire.call(path::PUT, &[]);
            wire.raw(kind::DATA, 0, stream, &[0, 0, 1, 0, 0]);
            left = 60_000;
        }
        left -= 1;
        let stream = wire.stream - 2;
        wire.raw(kind::DATA, 0, stream, &[0x0a]);
    });
}

/// Padding counts for the windows, but is no message.
#[test]
fn data_of_padding() {
    flood("padding", &Attack::within(), |wire| {
        let stream = first_stream(wire);
        wire.raw(kind::DATA, flag::PADDED, stream, &[3, 0, 0, 0]);
    });
}

#[test]
fn frames_for_streams_that_are_over() {
    flood("late-frames", &Attack::beyond("cheap_frames"), |wire| {
        if wire.is_new() {
            let stream = wire.call("/no.Such/Service", &[]);
            assert_eq!(stream, 1);
        }
        wire.window(1, 1);
        wire.raw(kind::DATA, 0, 1, &[1]);
        wire.reset(1);
    });
}

#[test]
fn goaways() {
    flood("goaways", &Attack::beyond("cheap_frames"), |wire| wire.raw(kind::GOAWAY, 0, 0, &[0; 8]));
}
