//! Header blocks: endless ones, bombs, and the refused.

use etchd::pure::wire::h2::frame::{flag, kind};

use super::hostile::{Attack, flood, head};
use crate::crash::client::path;

/// CVE-2023-45288, CVE-2024-27316: a block without an end.
#[test]
fn continuations_without_end() {
    flood("continuations", &Attack::beyond("header_block"), |wire| {
        if wire.is_new() {
            let stream = wire.open();
            wire.raw(kind::HEADERS, 0, stream, &head(path::PUT, &[]));
        }
        wire.raw(kind::CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']);
    });
}

/// The same with empty frames, which no count of bytes would stop.
#[test]
fn empty_continuations() {
    flood("empty-continuations", &Attack::beyond("header_block"), |wire| {
        if wire.is_new() {
            let stream = wire.open();
            wire.raw(kind::HEADERS, 0, stream, &[]);
        }
        wire.raw(kind::CONTINUATION, 0, 1, &[]);
    });
}

/// As many as are legal, in requests that end: served, at any number.
#[test]
fn continuations_within_the_bound() {
    flood("short-continuations", &Attack::within(), |wire| {
        let stream = wire.open();
        wire.raw(kind::HEADERS, flag::END_STREAM, stream, &head("/no.Such/Service", &[]));
        // Replace: a head without END_HEADERS, closed by the last of eight.
        (0..7).for_each(|_| wire.raw(kind::CONTINUATION, 0, stream, &[]));
        wire.raw(kind::CONTINUATION, flag::END_HEADERS, stream, &[]);
    });
}

/// One large table entry, referred to thousands of times by a byte each.
#[test]
fn a_bomb_of_references() {
    let mut block = head(path::PUT, &[]);
    // A literal with indexing: name "x", value of 3 900 bytes (127 and 3 773 more).
    block.extend_from_slice(&[0x40, 1, b'x', 127, 0xbd, 0x1d]);
    block.extend_from_slice(&[b'v'; 3_900]);
    block.extend_from_slice(&[0x80 | 62; 12_000]);
    flood("hpack-bomb", &Attack::beyond("header_list"), |wire| {
        let stream = wire.open();
        wire.raw(kind::HEADERS, flag::END_HEADERS, stream, &block);
        // The frames after it cost as much as it to skip: they belong to the flood.
        (0..16).for_each(|_| wire.raw(kind::PRIORITY, 0, stream, &[0, 0, 0, 1, 9]));
    });
}

#[test]
fn table_resizes() {
    let block = [&[0x3f, 0xe1, 0x1f, 0x20].repeat(100)[..], &head(path::PUT, &[])].concat();
    flood("hpack-resizes", &Attack::beyond("hpack"), |wire| {
        let stream = wire.open();
        wire.raw(kind::HEADERS, flag::END_HEADERS, stream, &block);
        (0..16).for_each(|_| wire.raw(kind::PRIORITY, 0, stream, &[0, 0, 0, 1, 9]));
    });
}

/// An index of 64 bits, and Huffman padding that is too long.
#[test]
fn integers_and_codes_that_overflow() {
    let bombs: [&[u8]; 2] = [&[0xff; 12], &[0x40, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]];
    let mut turn = 0;
    flood("hpack-overflow", &Attack::beyond("hpack"), |wire| {
        let stream = wire.open();
        turn += 1;
        wire.raw(kind::HEADERS, flag::END_HEADERS, stream, bombs[turn % 2]);
        (0..64).for_each(|_| wire.raw(kind::PING, 0, 0, &[1; 8]));
    });
}

/// Every head fills the table anew: evictions and insertions, within the bounds.
#[test]
fn a_table_that_churns() {
    let mut number = 0_u64;
    flood("hpack-churn", &Attack::within(), |wire| {
        number += 1;
        let mut block = head("/no.Such/Service", &[]);
        for _ in 0..4 {
            block.extend_from_slice(&[0x40, 1, b'x', 20]);
            block.extend_from_slice(format!("{number:020}").as_bytes());
        }
        let stream = wire.open();
        wire.raw(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block);
    });
}

/// Open requests with as much metadata each as a head can have: the connection keeps what the requests that wait
/// need, up to its bound.
#[test]
fn large_metadata_on_requests_that_wait() {
    let mut number = 0_u64;
    flood("metadata", &Attack::beyond("kept_bytes"), |wire| {
        number += 1;
        let token = format!("{number:02000}");
        wire.call(path::PUT, &[("token", &token)]);
    });
}

/// Trailers that don't end the request, or come twice.
#[test]
fn trailers() {
    flood("trailers", &Attack::beyond("control_replies"), |wire| {
        let stream = wire.call(path::PUT, &[]);
        wire.raw(kind::HEADERS, flag::END_HEADERS, stream, &[]);
    });
}
