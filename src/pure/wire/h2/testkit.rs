//! The client's side, as far as tests need it: makes frames, reads frames.

use super::frame::{FrameHead, HEAD_BYTES, PREFACE, flag, kind};
use crate::pure::wire::hpack::{Decoder, FieldSink, encoder};

/// A frame as it was seen on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & flag::END_STREAM != 0
    }

    /// The error code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub(crate) fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = FrameHead { length: payload.len() as u32, kind, flags, stream }.to_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Preface, SETTINGS, and the acknowledgement of the server's.
pub(crate) fn hello(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    super::frame::write_settings(&mut bytes, settings);
    super::frame::write_settings_ack(&mut bytes);
    bytes
}

pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| encoder::field(&mut block, name.as_bytes(), value.as_bytes()));
    block
}

pub(crate) fn headers(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
    raw(kind::HEADERS, flags, stream, &block(fields))
}

pub(crate) fn data(stream: u32, end: bool, payload: &[u8]) -> Vec<u8> {
    raw(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, payload)
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    raw(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")];

/// Splits whole frames.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let head = FrameHead::parse(head);
        let (payload, after) = tail.split_at(head.length as usize);
        frames.push(Frame {
            kind: head.kind,
            flags: head.flags,
            stream: head.stream,
            payload: payload.to_vec(),
        });
        rest = after;
    }
    assert!(rest.is_empty(), "half a frame");
    frames
}

#[derive(Default)]
struct Texts(Vec<(String, String)>);

impl FieldSink for Texts {
    fn classify(&self, _name: &[u8], _value: &[u8]) -> u32 {
        0
    }
    fn begin(&mut self) {}
    fn field(&mut self, _tag: u32, name: &[u8], value: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.0.push((text(name), text(value)));
    }
}

/// The fields of a HEADERS frame of ours (which never uses the dynamic table), one `name: value` each.
pub(crate) fn fields(frame: &Frame) -> Vec<String> {
    assert_eq!(frame.kind, kind::HEADERS);
    let mut texts = Texts::default();
    Decoder::default().decode(&frame.payload, &mut texts).unwrap();
    texts.0.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
}
