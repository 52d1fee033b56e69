//! HTTP/1 of one connection: the JSON gateway, health and metrics arrive this way.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;

use crate::limits::http2::{
    CONNECTION_SEND_BYTES_MAX, HANDSHAKE_SECONDS, HTTP1_FIELDS_MAX, HTTP1_HEAD_BYTES_MAX, HTTP1_IDLE_SECONDS,
    KEPT_CAPACITY_BYTES,
};
use crate::pure::wire::h2::error::{Bound, Bounds};
use crate::pure::wire::h2::transmit::{Piece, Transmit};
use crate::stdx::time::Monotonic;

/// Minor version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http1Version {
    /// One request a connection, unless asked otherwise.
    Http10,
    /// Connections are kept.
    Http11,
}

/// A whole request.
#[derive(Clone, Debug)]
pub struct Http1Request {
    /// As it came, such as `GET`.
    pub method: String,
    /// Before the `?`; not decoded.
    pub path: String,
    /// After the `?`; not decoded, empty if there is none.
    pub query: String,
    /// Names in lower case, values as they came, in order.
    pub fields: Vec<(String, Bytes)>,
    /// Without chunks' framing.
    pub body: Bytes,
    /// Of the protocol.
    pub version: Http1Version,
}

impl Http1Request {
    /// The first value of a field; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_ref())
    }
}

/// ```text
/// Head --complete--> Body --complete--> Answering --answered--> Head (kept) or Closed
///   +--fault: an answer of 4xx---------------------------------------------^
/// ```
#[derive(Debug)]
enum Phase {
    /// Bytes of a head are gathered; the time since which there are some.
    Head {
        since: Option<Monotonic>,
    },
    Body {
        request: Box<Http1Request>,
        body: Body,
    },
    Answering(Answer),
    Closed,
}

/// How a body comes.
#[derive(Debug)]
enum Body {
    Sized { left: usize },
    Chunked(Chunks),
}

/// Where the reader of a chunked body stands (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy)]
enum Chunks {
    Size,
    Data { left: usize },
    DataEnd,
    Trailers,
}

/// What is known of the answer under way.
#[derive(Clone, Copy, Debug)]
struct Answer {
    keep: bool,
    bodyless: bool,
    chunked: bool,
    version: Http1Version,
}

/// A request that can't be served: its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bad(u16);

/// One HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Http1 {
    phase: Phase,
    /// Bytes that were not understood yet.
    input: Vec<u8>,
    body: Vec<u8>,
    body_bytes_max: usize,
    ready: Option<Http1Request>,
    output: Vec<u8>,
    /// A long body, sent from where it lies, after `output`.
    tail: Option<Bytes>,
    idle_since: Monotonic,
    stopping: bool,
    /// A whole head has come.
    greeted: bool,
    /// There is no memory for bodies.
    is_pressed: bool,
    bounds: Bounds,
}

impl Http1 {
    pub(super) fn new(body_bytes_max: usize, now: Monotonic) -> Http1 {
        Http1 {
            phase: Phase::Head { since: None },
            input: Vec::new(),
            body: Vec::new(),
            body_bytes_max,
            ready: None,
            output: Vec::new(),
            tail: None,
            idle_since: now,
            stopping: false,
            greeted: false,
            is_pressed: false,
            bounds: Bounds::default(),
        }
    }

    pub(super) fn handle_bytes(&mut self, now: Monotonic, bytes: &[u8]) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.input.extend_from_slice(bytes);
        self.idle_since = now;
        // A client that pipelines against `wants_read` is cut off.
        if matches!(self.phase, Phase::Answering(_)) && self.input.len() > self.input_bytes_max() {
            self.bounds.note(Bound::Http1);
            self.phase = Phase::Closed;
            return;
        }
        self.advance(now);
    }

    pub(super) fn handle_disconnect(&mut self) {
        self.phase = Phase::Closed;
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        if self.next_timeout().is_some_and(|at| at <= now) {
            if matches!(self.phase, Phase::Head { since: Some(_) }) {
                self.bounds.note(Bound::Handshake);
            }
            self.phase = Phase::Closed;
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Monotonic> {
        match &self.phase {
            Phase::Head { since: Some(since) } => Some(*since + Duration::from_secs(HANDSHAKE_SECONDS)),
            Phase::Head { since: None } | Phase::Body { .. } => {
                Some(self.idle_since + Duration::from_secs(HTTP1_IDLE_SECONDS))
            }
            Phase::Answering(_) | Phase::Closed => None,
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Http1Request> {
        self.ready.take()
    }

    pub(super) fn wants_read(&self) -> bool {
        match &self.phase {
            Phase::Head { .. } | Phase::Body { .. } => true,
            Phase::Answering(_) => {
                self.input.len() < HTTP1_HEAD_BYTES_MAX && self.output.len() < CONNECTION_SEND_BYTES_MAX
            }
            Phase::Closed => false,
        }
    }

    pub(super) fn wants_transmit(&self) -> bool {
        !self.output.is_empty() || self.tail.is_some()
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        self.output.len() + self.tail.as_ref().map_or(0, Bytes::len)
    }

    /// Bytes that the connection holds for its client.
    pub(super) fn held_bytes(&self) -> usize {
        self.unfinished_bytes() + self.unsent_bytes()
    }

    pub(super) fn unfinished_bytes(&self) -> usize {
        self.input.capacity() + self.body.capacity()
    }

    pub(super) fn set_pressed(&mut self, is_pressed: bool) {
        self.is_pressed = is_pressed;
    }

    pub(super) fn bounds(&mut self) -> &mut Bounds {
        &mut self.bounds
    }

    pub(super) fn is_in_handshake(&self) -> bool {
        !self.greeted
    }

    pub(super) fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Answering(_))
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub(super) fn go_away_graceful(&mut self) {
        self.stopping = true;
        if matches!(self.phase, Phase::Head { since: None }) {
            self.phase = Phase::Closed;
        }
    }

    pub(super) fn poll_transmit(&mut self, transmit: &mut Transmit) {
        transmit.take_copied(&mut self.output);
        if let Some(tail) = self.tail.take() {
            transmit.reference(Piece::Bytes(tail));
        }
    }

    /// A whole answer.
    pub(super) fn respond(&mut self, now: Monotonic, status: u16, fields: &[(&str, &str)], body: Bytes) {
        let Phase::Answering(answer) = self.phase else { return };
        if answer.chunked {
            return;
        }
        self.write_head(status, fields, answer);
        let length = body.len();
        if !(100..200).contains(&status) && status != 204 && status != 304 {
            write!(self.output, "Content-Length: {length}\r\n").expect("memory takes all");
        }
        self.output.extend_from_slice(b"\r\n");
        if !answer.bodyless && length > 0 {
            self.tail = Some(body);
        }
        self.answered(now, answer);
    }

    /// The head of an answer in chunks; of HTTP/1.0 the connection's end is the end.
    pub(super) fn begin(&mut self, status: u16, fields: &[(&str, &str)]) {
        let Phase::Answering(mut answer) = self.phase else { return };
        answer.keep &= answer.version == Http1Version::Http11;
        self.write_head(status, fields, answer);
        if answer.version == Http1Version::Http11 {
            self.output.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.output.extend_from_slice(b"\r\n");
        answer.chunked = true;
        self.phase = Phase::Answering(answer);
    }

    pub(super) fn chunk(&mut self, chunk: &[u8]) {
        let Phase::Answering(answer) = self.phase else { return };
        if !answer.chunked || answer.bodyless || chunk.is_empty() {
            return;
        }
        if answer.version == Http1Version::Http10 {
            self.output.extend_from_slice(chunk);
            return;
        }
        write!(self.output, "{:x}\r\n", chunk.len()).expect("memory takes all");
        self.output.extend_from_slice(chunk);
        self.output.extend_from_slice(b"\r\n");
    }

    pub(super) fn end(&mut self, now: Monotonic) {
        let Phase::Answering(answer) = self.phase else { return };
        if !answer.chunked {
            return;
        }
        if answer.version == Http1Version::Http11 && !answer.bodyless {
            self.output.extend_from_slice(b"0\r\n\r\n");
        }
        self.answered(now, answer);
    }

    fn write_head(&mut self, status: u16, fields: &[(&str, &str)], answer: Answer) {
        self.settle_tail();
        write!(self.output, "HTTP/1.1 {status} {}\r\n", reason(status)).expect("memory takes all");
        for (name, value) in fields {
            write!(self.output, "{name}: {value}\r\n").expect("memory takes all");
        }
        if !answer.keep || self.stopping {
            self.output.extend_from_slice(b"Connection: close\r\n");
        } else if answer.version == Http1Version::Http10 {
            self.output.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }

    /// The tail of the last answer goes before what follows it.
    fn settle_tail(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.output.extend_from_slice(&tail);
        }
    }

    fn answered(&mut self, now: Monotonic, answer: Answer) {
        self.idle_since = now;
        if !answer.keep || self.stopping {
            self.phase = Phase::Closed;
            return;
        }
        self.phase = Phase::Head { since: None };
        self.advance(now);
    }

    fn input_bytes_max(&self) -> usize {
        HTTP1_HEAD_BYTES_MAX + self.body_bytes_max
    }

    /// Goes on until more bytes or an answer are needed.
    fn advance(&mut self, now: Monotonic) {
        loop {
            let step = match &mut self.phase {
                Phase::Head { since } => {
                    if self.input.is_empty() {
                        *since = None;
                        if self.input.capacity() > KEPT_CAPACITY_BYTES {
                            self.input = Vec::new();
                        }
                        return;
                    }
                    since.get_or_insert(now);
                    self.read_head()
                }
                Phase::Body { .. } => self.read_body(),
                Phase::Answering(_) | Phase::Closed => return,
            };
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(Bad(status)) => {
                    self.refuse(status);
                    return;
                }
            }
        }
    }

    fn refuse(&mut self, status: u16) {
        self.bounds.note(if status == 503 { Bound::Memory } else { Bound::Http1 });
        self.settle_tail();
        let text = format!("{status} {}", reason(status));
        write!(
            self.output,
            "HTTP/1.1 {text}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{text}"
        )
        .expect("memory takes all");
        self.phase = Phase::Closed;
    }

    /// True when a head was taken from the input.
    fn read_head(&mut self) -> Result<bool, Bad> {
        let mut fields = [httparse::EMPTY_HEADER; HTTP1_FIELDS_MAX];
        let mut head = httparse::Request::new(&mut fields);
        let head_bytes = match head.parse(&self.input) {
            Ok(httparse::Status::Complete(bytes)) if bytes <= HTTP1_HEAD_BYTES_MAX => bytes,
            Ok(httparse::Status::Partial) if self.input.len() <= HTTP1_HEAD_BYTES_MAX => return Ok(false),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Bad(431)),
            Err(_) => return Err(Bad(400)),
        };
        let request = request_of(&head)?;
        let body = body_of(&request)?;
        if let Body::Sized { left } = &body
            && *left > self.body_bytes_max
        {
            return Err(Bad(413));
        }
        self.greeted = true;
        self.input.drain(..head_bytes);
        // RFC 9110 section 10.1.1: the client may wait for this before it sends the body.
        let expects = request.field("expect").is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
        if expects && request.version == Http1Version::Http11 && self.input.is_empty() {
            self.settle_tail();
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.phase = Phase::Body { request: Box::new(request), body };
        Ok(true)
    }

    /// True when the body is complete.
    fn read_body(&mut self) -> Result<bool, Bad> {
        let Phase::Body { body, .. } = &mut self.phase else { unreachable!("called in this phase") };
        let complete = match body {
            Body::Sized { left } => {
                let count = (*left).min(self.input.len());
                self.body.extend(self.input.drain(..count));
                *left -= count;
                *left == 0
            }
            Body::Chunked(chunks) => {
                read_chunks(chunks, &mut self.input, &mut self.body, self.body_bytes_max)?
            }
        };
        if !complete {
            return if self.is_pressed { Err(Bad(503)) } else { Ok(false) };
        }
        let Phase::Body { request, .. } = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("called in this phase")
        };
        let mut request = *request;
        request.body = Bytes::from(std::mem::take(&mut self.body));
        self.phase = Phase::Answering(Answer {
            keep: keeps(&request),
            bodyless: request.method == "HEAD",
            chunked: false,
            version: request.version,
        });
        self.ready = Some(request);
        Ok(true)
    }
}

fn request_of(head: &httparse::Request<'_, '_>) -> Result<Http1Request, Bad> {
    let target = head.path.ok_or(Bad(400))?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields = head.headers.iter().map(|h| (h.name.to_ascii_lowercase(), Bytes::copy_from_slice(h.value)));
    Ok(Http1Request {
        method: head.method.ok_or(Bad(400))?.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        fields: fields.collect(),
        body: Bytes::new(),
        version: if head.version == Some(1) { Http1Version::Http11 } else { Http1Version::Http10 },
    })
}

/// How the body comes. Both framings at once, or one that is unclear, is how requests are smuggled
/// (RFC 9112, section 6.1): refused.
fn body_of(request: &Http1Request) -> Result<Body, Bad> {
    let values = |name: &'static str| request.fields.iter().filter(move |(n, _)| n == name).map(|(_, v)| v);
    let codings: Vec<&Bytes> = values("transfer-encoding").collect();
    let lengths: Vec<&Bytes> = values("content-length").collect();
    // RFC 9112 section 3.2: one Host, in HTTP/1.1 exactly one.
    let hosts = values("host").count();
    if hosts > 1 || hosts == 0 && request.version == Http1Version::Http11 {
        return Err(Bad(400));
    }
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Body::Sized { left: 0 }),
        ([coding], [])
            if coding.eq_ignore_ascii_case(b"chunked") && request.version == Http1Version::Http11 =>
        {
            Ok(Body::Chunked(Chunks::Size))
        }
        ([_, ..], []) => Err(Bad(501)),
        ([], [first, rest @ ..]) if rest.iter().all(|other| other == first) => {
            let digits =
                std::str::from_utf8(first).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let left = digits.and_then(|text| text.parse().ok()).ok_or(Bad(400))?;
            Ok(Body::Sized { left })
        }
        _ => Err(Bad(400)),
    }
}

/// Whether the connection goes on after the answer (RFC 9112, section 9.3).
fn keeps(request: &Http1Request) -> bool {
    let names = |token: &str| {
        let mut values = request.fields.iter().filter(|(n, _)| n == "connection");
        values.any(|(_, v)| {
            v.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    };
    match request.version {
        Http1Version::Http11 => !names("close"),
        Http1Version::Http10 => names("keep-alive") && !names("close"),
    }
}

/// Longest line of a chunked body's framing.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Moves chunks from `input` to `body`; true after the last one and its trailers, which are dropped.
fn read_chunks(
    chunks: &mut Chunks,
    input: &mut Vec<u8>,
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<bool, Bad> {
    let mut used = 0;
    let complete = loop {
        let rest = &input[used..];
        if let Chunks::Data { left } = chunks {
            let count = (*left).min(rest.len());
            body.extend_from_slice(&rest[..count]);
            used += count;
            *left -= count;
            if *left > 0 {
                break false;
            }
            *chunks = Chunks::DataEnd;
            continue;
        }
        let Some(end) = rest.iter().take(CHUNK_LINE_BYTES_MAX).position(|b| *b == b'\n') else {
            if rest.len() >= CHUNK_LINE_BYTES_MAX {
                return Err(Bad(400));
            }
            break false;
        };
        let line = rest[..end].strip_suffix(b"\r").ok_or(Bad(400))?;
        used += end + 1;
        match *chunks {
            Chunks::Size => {
                let size = chunk_size(line)?;
                if size > bytes_max - body.len() {
                    return Err(Bad(413));
                }
                *chunks = if size == 0 { Chunks::Trailers } else { Chunks::Data { left: size } };
            }
            Chunks::DataEnd if line.is_empty() => *chunks = Chunks::Size,
            Chunks::DataEnd => return Err(Bad(400)),
            Chunks::Trailers if line.is_empty() => break true,
            Chunks::Trailers => {}
            Chunks::Data { .. } => unreachable!("handled above"),
        }
    };
    input.drain(..used);
    Ok(complete)
}

/// Hexadecimal digits, then perhaps an extension, which is ignored.
fn chunk_size(line: &[u8]) -> Result<usize, Bad> {
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Bad(400));
    }
    let text = std::str::from_utf8(digits).map_err(|_| Bad(400))?;
    usize::from_str_radix(text, 16).map_err(|_| Bad(400))
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
