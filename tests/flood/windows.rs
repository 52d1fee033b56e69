//! Games with flow control.

use etchd::pure::api::codec::encode;
use etchd::pure::wire::h2::frame::setting;

use super::hostile::{Attack, flood};
use crate::crash::client::{everything, path};

#[test]
fn window_updates_that_free_nothing() {
    flood("window-updates", &Attack::beyond("cheap_frames"), |wire| {
        wire.window(0, 1);
        if wire.is_new() {
            wire.call(path::PUT, &[]);
        }
        wire.window(1, 1);
    });
}

/// Increments of 0 on streams reset them.
#[test]
fn window_updates_of_zero() {
    flood("window-zeros", &Attack::beyond("control_replies"), |wire| {
        let stream = wire.call(path::RANGE, &[]);
        wire.window(stream, 0);
    });
}

/// CVE-2019-9511 and 9517: answers asked for and not taken.
#[test]
fn answers_that_are_not_taken() {
    let message = encode(&everything());
    let attack = Attack { settings: vec![(setting::INITIAL_WINDOW_SIZE, 0)], ..Attack::beyond("streams") };
    flood("untaken-answers", &attack, |wire| {
        let stream = wire.call(path::RANGE, &[]);
        wire.message(stream, &message, true);
    });
}

/// Windows opened by a byte at a time, before there is anything to send: each frame frees nothing.
#[test]
fn windows_that_open_by_a_byte() {
    let message = encode(&everything());
    let settings = vec![(setting::INITIAL_WINDOW_SIZE, 1)];
    let attack = Attack { settings, ..Attack::beyond("cheap_frames") };
    flood("one-byte-windows", &attack, |wire| {
        let stream = wire.call(path::RANGE, &[]);
        wire.message(stream, &message, true);
        for _ in 0..1_000 {
            wire.window(stream, 1);
        }
    });
}
