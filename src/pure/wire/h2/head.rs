//! Which fields a request may have: RFC 9113 sections 8.2 and 8.3.
//!
//! The verdict on a single field depends on that field alone, so it is found once, when the field enters the
//! HPACK table, and travels in the upper eight bits of its tag. The application's view has the lower 24.

use crate::pure::wire::hpack::FieldSink;

/// Largest number an application's `classify` may return.
pub const APP_TAG_MAX: u32 = 0x00ff_ffff;

/// What HTTP/2 has to say about one field.
mod rule {
    pub const REGULAR: u8 = 0;
    pub const METHOD: u8 = 1;
    pub const METHOD_CONNECT: u8 = 2;
    pub const SCHEME: u8 = 3;
    pub const PATH: u8 = 4;
    pub const AUTHORITY: u8 = 5;
    pub const CONTENT_LENGTH: u8 = 6;
    /// Makes the request malformed wherever it stands.
    pub const FORBIDDEN: u8 = 7;
}

/// Reads the fields of one block on behalf of `sink`, and judges them.
pub(super) struct Judge<'a, S> {
    sink: &'a mut S,
    part: Part,
    /// Bit of each pseudo-field's rule that was seen.
    seen: u8,
    regular_seen: bool,
    malformed: bool,
    content_length: Option<u64>,
}

/// Which block it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Trailers,
    /// Decoded only to keep the table in step.
    Ignored,
}

/// The block breaks a rule of section 8: a stream error of type PROTOCOL_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a, S: FieldSink> Judge<'a, S> {
    pub(super) fn new(sink: &'a mut S, part: Part) -> Judge<'a, S> {
        if part == Part::Head {
            sink.begin();
        }
        Judge { sink, part, seen: 0, regular_seen: false, malformed: false, content_length: None }
    }

    /// After the last field: the request's content-length, if it has one.
    pub(super) fn finish(self) -> Result<Option<u64>, Malformed> {
        const SCHEME_AND_PATH: u8 = 1 << rule::SCHEME | 1 << rule::PATH;
        let complete = match self.part {
            Part::Trailers | Part::Ignored => true,
            // Section 8.5: CONNECT has neither scheme nor path.
            Part::Head if self.seen & (1 << rule::METHOD_CONNECT) != 0 => self.seen & SCHEME_AND_PATH == 0,
            Part::Head => {
                self.seen & (1 << rule::METHOD) != 0 && self.seen & SCHEME_AND_PATH == SCHEME_AND_PATH
            }
        };
        if self.malformed || !complete {
            return Err(Malformed);
        }
        Ok(self.content_length)
    }

    /// A pseudo-field: once, before regular fields, never in trailers (sections 8.1 and 8.3).
    fn pseudo(&mut self, rule: u8) {
        let methods: u8 = 1 << rule::METHOD | 1 << rule::METHOD_CONNECT;
        let bit = 1_u8 << rule;
        let same = if bit & methods != 0 { methods } else { bit };
        self.malformed |= self.regular_seen || self.part == Part::Trailers || self.seen & same != 0;
        self.seen |= bit;
    }
}

impl<S: FieldSink> FieldSink for Judge<'_, S> {
    fn classify(&self, name: &[u8], value: &[u8]) -> u32 {
        let app = self.sink.classify(name, value);
        debug_assert!(app <= APP_TAG_MAX);
        u32::from(judge(name, value)) << 24 | app & APP_TAG_MAX
    }

    fn begin(&mut self) {
        unreachable!("the judge begins with `new`")
    }

    fn field(&mut self, tag: u32, name: &[u8], value: &[u8]) {
        match (tag >> 24) as u8 {
            rule::REGULAR => self.regular_seen = true,
            rule::CONTENT_LENGTH => {
                self.regular_seen = true;
                let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                self.malformed |=
                    length.is_none() || self.content_length.is_some_and(|seen| Some(seen) != length);
                self.content_length = length;
            }
            rule::FORBIDDEN => self.malformed = true,
            pseudo => self.pseudo(pseudo),
        }
        if self.part == Part::Head {
            self.sink.field(tag & APP_TAG_MAX, name, value);
        }
    }
}

/// The verdict on one field.
fn judge(name: &[u8], value: &[u8]) -> u8 {
    if !valid_value(value) {
        return rule::FORBIDDEN;
    }
    match name {
        b":method" if value == b"CONNECT" => rule::METHOD_CONNECT,
        b":method" => rule::METHOD,
        b":scheme" => rule::SCHEME,
        // Section 8.3.1: not empty.
        b":path" if !value.is_empty() => rule::PATH,
        b":authority" => rule::AUTHORITY,
        // Section 8.2.2: fields of the connection have no meaning here.
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            rule::FORBIDDEN
        }
        b"te" if value != b"trailers" => rule::FORBIDDEN,
        b"content-length" => rule::CONTENT_LENGTH,
        _ if valid_name(name) => rule::REGULAR,
        _ => rule::FORBIDDEN,
    }
}

/// Section 8.2.1, with the token rule of RFC 9110: lower case, and no colon, so no other pseudo-field.
fn valid_name(name: &[u8]) -> bool {
    let valid = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'^' | b'`' | b'|' | b'~');
    !name.is_empty() && name.iter().all(valid)
}

/// Section 8.2.1: no NUL, CR, LF. (Blanks around a value are left to the application, as grpc-go does.)
fn valid_value(value: &[u8]) -> bool {
    !value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))
}
