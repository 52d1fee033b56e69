//! Statuses and the header blocks that carry them.

use std::borrow::Cow;

use crate::limits::http2::STATUS_TEXT_BYTES_MAX;
use crate::pure::wire::hpack::encoder;

/// gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names of gRPC's specification")]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// A code with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// For the client's eyes.
    pub text: Cow<'static, str>,
}

impl Status {
    /// Code and text.
    pub fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Status {
        Status { code, text: text.into() }
    }
}

/// Head of an ordinary answer: `:status 200`, `content-type application/grpc`.
pub const HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// Trailers of an answer that went well; grpc-go sends the empty message too.
pub const TRAILERS_OK: &[u8] = b"\x00\x0bgrpc-status\x010\x00\x0cgrpc-message\x00";

/// Head of an answer to a request with a content subtype, or with compression.
pub fn head_block(subtype: &[u8], gzip: bool) -> Cow<'static, [u8]> {
    if subtype.is_empty() && !gzip {
        return Cow::Borrowed(HEAD);
    }
    let mut block = Vec::with_capacity(64);
    write_head(&mut block, 200, subtype);
    if gzip {
        encoder::field(&mut block, b"grpc-encoding", b"gzip");
    }
    Cow::Owned(block)
}

/// Trailers after messages.
pub fn trailers_block(code: Code, text: &str) -> Cow<'static, [u8]> {
    if code == Code::Ok && text.is_empty() {
        return Cow::Borrowed(TRAILERS_OK);
    }
    let mut block = Vec::with_capacity(64 + text.len());
    write_status(&mut block, code, text);
    Cow::Owned(block)
}

/// Head and trailers in one, for an answer without a message.
pub fn trailers_only_block(http_status: u16, subtype: &[u8], code: Code, text: &str) -> Vec<u8> {
    let mut block = Vec::with_capacity(96 + text.len());
    write_head(&mut block, http_status, subtype);
    write_status(&mut block, code, text);
    block
}

fn write_head(block: &mut Vec<u8>, http_status: u16, subtype: &[u8]) {
    encoder::field(block, b":status", http_status.to_string().as_bytes());
    let mut content_type = b"application/grpc".to_vec();
    if !subtype.is_empty() {
        content_type.push(b'+');
        content_type.extend_from_slice(subtype);
    }
    encoder::field(block, b"content-type", &content_type);
}

fn write_status(block: &mut Vec<u8>, code: Code, text: &str) {
    encoder::field(block, b"grpc-status", (code as u8).to_string().as_bytes());
    encoder::field(block, b"grpc-message", &percent_encode(text));
}

/// gRPC's Percent-Encoded: what is outside of 0x20 to 0x7e, and `%`, as `%XX`. Long texts are cut.
fn percent_encode(text: &str) -> Cow<'_, [u8]> {
    let mut end = text.len().min(STATUS_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let bytes = &text.as_bytes()[..end];
    let plain = |b: &u8| (0x20..=0x7e).contains(b) && *b != b'%';
    if bytes.iter().all(plain) {
        return Cow::Borrowed(bytes);
    }
    let mut encoded = Vec::with_capacity(bytes.len() * 2);
    for b in bytes {
        if plain(b) {
            encoded.push(*b);
        } else {
            encoded.extend_from_slice(format!("%{b:02X}").as_bytes());
        }
    }
    Cow::Owned(encoded)
}

/// Text in double quotes as Go's `%q` writes it, so that messages read the same.
pub fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\u{7}' => quoted.push_str("\\a"),
                '\u{8}' => quoted.push_str("\\b"),
                '\u{c}' => quoted.push_str("\\f"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\u{b}' => quoted.push_str("\\v"),
                c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                    quoted.push_str(&format!("\\x{:02x}", c as u32))
                }
                c => quoted.push(c),
            }
        }
        for b in chunk.invalid() {
            quoted.push_str(&format!("\\x{b:02x}"));
        }
    }
    quoted.push('"');
    quoted
}
