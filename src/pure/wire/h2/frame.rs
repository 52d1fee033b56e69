//! Frames of RFC 9113 sections 4 and 6: heads parsed, frames written.

use super::error::Code;

/// What a client sends first (section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 9;
/// Windows and stream ids are 31 bits wide.
pub const WINDOW_MAX: i64 = 0x7fff_ffff;
/// What both sides assume until SETTINGS say otherwise (section 6.9.2).
pub const INITIAL_WINDOW: u32 = 65_535;

/// Frame types.
pub mod kind {
    #![allow(missing_docs, reason = "the names of RFC 9113 section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags; one bit means ACK or END_STREAM by the frame's type.
pub mod flag {
    #![allow(missing_docs, reason = "the names of RFC 9113 section 6")]
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings of section 6.5.2.
pub mod setting {
    #![allow(missing_docs, reason = "the names of RFC 9113 section 6.5.2")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The nine bytes before every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload, 24 bits.
    pub length: u32,
    /// One of [`kind`], or something to ignore.
    pub kind: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
}

impl FrameHead {
    /// Reads a head; the reserved bit of the stream id is ignored.
    pub fn parse(bytes: &[u8; HEAD_BYTES]) -> FrameHead {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
        FrameHead {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    /// The head as bytes.
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        debug_assert!(self.length < 1 << 24);
        let [_, a, b, c] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// True when the flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame whose payload is at hand.
fn frame(target: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("our frames are short");
    target.extend_from_slice(&FrameHead { length, kind, flags, stream }.to_bytes());
    target.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub fn write_settings(target: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(settings.len() * 6);
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(target, kind::SETTINGS, 0, 0, &payload);
}

/// Appends the acknowledgement of SETTINGS.
pub fn write_settings_ack(target: &mut Vec<u8>) {
    frame(target, kind::SETTINGS, flag::ACK, 0, &[]);
}

/// Appends a PING of our own.
pub fn write_ping(target: &mut Vec<u8>, payload: [u8; 8]) {
    frame(target, kind::PING, 0, 0, &payload);
}

/// Appends the answer to a PING.
pub fn write_ping_ack(target: &mut Vec<u8>, payload: [u8; 8]) {
    frame(target, kind::PING, flag::ACK, 0, &payload);
}

/// Appends WINDOW_UPDATE; stream 0 is the connection.
pub fn write_window_update(target: &mut Vec<u8>, stream: u32, increment: u32) {
    debug_assert!(increment > 0 && i64::from(increment) <= WINDOW_MAX);
    frame(target, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

/// Appends RST_STREAM.
pub fn write_reset(target: &mut Vec<u8>, stream: u32, code: Code) {
    frame(target, kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes());
}

/// Appends GOAWAY.
pub fn write_goaway(target: &mut Vec<u8>, last_stream: u32, code: Code, debug: &[u8]) {
    let mut payload = Vec::with_capacity(8 + debug.len());
    payload.extend_from_slice(&last_stream.to_be_bytes());
    payload.extend_from_slice(&(code as u32).to_be_bytes());
    payload.extend_from_slice(debug);
    frame(target, kind::GOAWAY, 0, 0, &payload);
}

/// Appends HEADERS with a whole block, which must fit one frame.
pub fn write_headers(target: &mut Vec<u8>, stream: u32, block: &[u8], end_stream: bool) {
    let flags = flag::END_HEADERS | if end_stream { flag::END_STREAM } else { 0 };
    frame(target, kind::HEADERS, flags, stream, block);
}

/// Appends the head of a DATA frame.
pub fn write_data_head(target: &mut Vec<u8>, stream: u32, length: usize, end_stream: bool) {
    let length = u32::try_from(length).expect("at most the peer's frame size");
    let flags = if end_stream { flag::END_STREAM } else { 0 };
    target.extend_from_slice(&FrameHead { length, kind: kind::DATA, flags, stream }.to_bytes());
}
