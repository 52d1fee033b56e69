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
    flood("window-zeros", &Attack::beyond("resets"), |wire| {
        let stream = wire.call(path::RANGE, &[]);
        wire.window(stream, 0);
    });
}

/// CVE-2019-9511 and 9517: answers asked for and not taken, or taken a byte at a time.
#[test]
fn answers_that_are_not_taken() {
    let message = encode(&everything());
    let attack = Attack {
        settings: vec![(setting::INITIAL_WINDOW_SIZE, 0)],
        growth_bytes_max: 96 << 20,
        ..Attack::within()
    };
    flood("untaken-answers", &attack, |wire| {
        // Another connection after so many: what the first one held is given back.
        let stream = wire.call(path::RANGE, &[]);
        wire.message(stream, &message, true);
        for _ in 0..8 {
            wire.window(stream, 1);
        }
    });
}
