//! session: one client connection, from bytes to requests and from answers to bytes.
//!
//! Owns: the protocol state of the connection (HTTP/2 with gRPC, or HTTP/1, told apart by the first bytes),
//! messages under assembly, deadlines of its requests, events not yet taken.
//! Takes: bytes, times, answers by stream. Gives: `SessionEvent`s, bytes to send as a `Transmit`.
//! Always true: every stream that the application was told of ends for it exactly once: by its own last answer,
//! or by `Cancelled` or `DeadlineExceeded`; answers to dead streams are dropped quietly; events
//! that are not taken hold back the client's windows, so what waits here is bounded.
//! Not here: what an RPC does, sockets, TLS.
//!
//! A driver's turn: `handle_bytes` or `handle_timeout`; then `poll_event` until None (or until it has enough), after None
//! `handle_unread`, and both again as long as that goes on; then `poll_transmit` whenever its last write has ended, then
//! `wants_close`, `wants_read`, `next_timeout`.

mod deadlines;
mod http1;
mod rpc;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

use crate::limits::http2::{HANDSHAKE_SECONDS, HTTP1_BODY_BYTES_MAX};
use crate::limits::request::{ENVELOPE_BYTES, REQUEST_BYTES_MAX_DEFAULT};
use crate::pure::wire::grpc::head::{Resolved, Resolver};
use crate::pure::wire::h2;
use crate::pure::wire::h2::frame::PREFACE;
use crate::stdx::time::Monotonic;

pub use crate::pure::wire::grpc::head::{Meta, RpcKind};
pub use crate::pure::wire::grpc::status::{Code, Status};
pub use crate::pure::wire::h2::connection::Counters;
pub use crate::pure::wire::h2::error::{Bound, Bounds, Code as ResetCode};
pub use crate::pure::wire::h2::streams::StreamId;
pub use crate::pure::wire::h2::transmit::{Part, Piece, SharedBytes, Transmit};
pub use http1::{Http1Request, Http1Version};

/// What an operator and the application choose.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Streams, PINGs, keepalive.
    pub h2: h2::connection::Config,
    /// Longest message received: `--max-request-bytes` and the envelope.
    pub message_bytes_max: usize,
    /// Longest HTTP/1 body.
    pub http1_body_bytes_max: usize,
    /// The table of RPCs.
    pub resolver: Resolver,
    /// Which protocols this listener speaks.
    pub protocols: Protocols,
}

/// Which protocols a listener speaks (`--listen-client-http-urls` splits them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// Told apart by the first bytes.
    Both,
    /// gRPC alone.
    Http2,
    /// HTTP/1 alone.
    Http1,
}

impl Config {
    /// etcd's defaults with the application's table.
    pub fn new(resolver: Resolver) -> Config {
        Config {
            h2: h2::connection::Config::default(),
            message_bytes_max: REQUEST_BYTES_MAX_DEFAULT + ENVELOPE_BYTES,
            http1_body_bytes_max: HTTP1_BODY_BYTES_MAX,
            resolver,
            protocols: Protocols::Both,
        }
    }
}

impl Default for Config {
    /// A listener that knows no RPC.
    fn default() -> Config {
        Config::new(|_| Resolved::UnknownService)
    }
}

/// How full a session's queues are.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Bytes of answers that wait to be sent.
    pub unsent_bytes: usize,
    /// Those of them that wait for no window.
    pub output_bytes: usize,
    /// Acks and resets among the latter.
    pub control_replies: usize,
    /// Events that were not taken.
    pub events: usize,
    /// Bytes of unfinished messages.
    pub unfinished_bytes: usize,
}

/// What a client wants.
#[derive(Debug)]
pub enum SessionEvent {
    /// A request with its one message: of unary RPCs as soon as the message is whole, of RPCs with many answers
    /// when the request has ended. Answer with `send_unary` or `send_message` and `send_status`.
    Call {
        /// Where to answer.
        stream: StreamId,
        /// The RPC.
        route: u16,
        /// Metadata.
        meta: Meta,
        /// The message, inflated.
        message: Bytes,
    },
    /// A request with many messages begins.
    Request {
        /// Where to answer.
        stream: StreamId,
        /// The RPC.
        route: u16,
        /// Metadata.
        meta: Meta,
    },
    /// The next message of such a request.
    Message {
        /// The request.
        stream: StreamId,
        /// The message, inflated.
        message: Bytes,
    },
    /// Such a request has no more messages.
    HalfClosed {
        /// The request.
        stream: StreamId,
    },
    /// Nobody waits for the answer any more: the client reset the stream, broke a rule, or is gone.
    Cancelled {
        /// The request.
        stream: StreamId,
    },
    /// The request's deadline has passed; the client has been told.
    DeadlineExceeded {
        /// The request.
        stream: StreamId,
    },
    /// A stream has room again for a producer who called `want_room`.
    Room {
        /// The request.
        stream: StreamId,
    },
    /// So many bytes were inflated for a request that came to nothing; its client has been told.
    Undone {
        /// About.
        bytes: usize,
    },
    /// A request over HTTP/1. One at a time: the next comes after the answer.
    Http1(Http1Request),
}

/// One client connection.
#[derive(Debug)]
pub struct Session {
    config: Config,
    protocol: Protocol,
    /// Reached before the protocol was known.
    bounds: Bounds,
}

/// ```text
/// Sniffing --preface--> Http2 ----> Closed
///     +-----else------> Http1 --------^
/// ```
#[derive(Debug)]
enum Protocol {
    /// So far the bytes are a beginning of the preface: this many of it.
    Sniffing {
        matched: usize,
        deadline: Monotonic,
    },
    Http2(Box<rpc::Rpc>),
    Http1(Box<http1::Http1>),
    Closed,
}

impl Session {
    /// A connection that was just accepted. Nothing is sent before the client's first bytes.
    pub fn new(config: Config, now: Monotonic) -> Session {
        let protocol = match config.protocols {
            Protocols::Both => {
                Protocol::Sniffing { matched: 0, deadline: now + Duration::from_secs(HANDSHAKE_SECONDS) }
            }
            Protocols::Http2 => Protocol::Http2(Box::new(rpc::Rpc::new(config, now))),
            Protocols::Http1 => {
                Protocol::Http1(Box::new(http1::Http1::new(config.http1_body_bytes_max, now)))
            }
        };
        Session { config, protocol, bounds: Bounds::default() }
    }

    /// Bytes came from the client.
    pub fn handle_bytes(&mut self, now: Monotonic, bytes: &[u8]) {
        if let Protocol::Sniffing { matched, deadline } = self.protocol {
            self.sniff(now, matched, deadline, bytes);
            return;
        }
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.handle_bytes(now, bytes),
            Protocol::Http1(http1) => http1.handle_bytes(now, bytes),
            Protocol::Sniffing { .. } | Protocol::Closed => {}
        }
    }

    /// To be called when `poll_event` has given None: goes on with input that was not taken before. False if there is
    /// none, or it still has to wait.
    pub fn handle_unread(&mut self, now: Monotonic) -> bool {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.handle_unread(now),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => false,
        }
    }

    /// True if input waits that came while none was taken.
    pub fn has_unread(&self) -> bool {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.has_unread(),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => false,
        }
    }

    /// No more messages of this request for now, but for those that are on their way: their sender waits when its
    /// window is used up.
    pub fn hold_messages(&mut self, stream: StreamId) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.hold_messages(stream);
        }
    }

    /// Takes [`Session::hold_messages`] back. False: it was not in force.
    pub fn release_messages(&mut self, stream: StreamId) -> bool {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.release_messages(stream),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => false,
        }
    }

    /// The client's side of the connection has ended, or the socket failed: every request is cancelled.
    pub fn handle_disconnect(&mut self) {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.handle_disconnect(),
            Protocol::Http1(http1) => http1.handle_disconnect(),
            Protocol::Sniffing { .. } | Protocol::Closed => self.protocol = Protocol::Closed,
        }
    }

    /// To be called at `next_timeout` or later.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        match &mut self.protocol {
            Protocol::Sniffing { deadline, .. } if *deadline <= now => {
                self.bounds.note(Bound::Handshake);
                self.protocol = Protocol::Closed;
            }
            Protocol::Sniffing { .. } | Protocol::Closed => {}
            Protocol::Http2(rpc) => rpc.handle_timeout(now),
            Protocol::Http1(http1) => http1.handle_timeout(now),
        }
    }

    /// When `handle_timeout` has something to do.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        match &self.protocol {
            Protocol::Sniffing { deadline, .. } => Some(*deadline),
            Protocol::Http2(rpc) => rpc.next_timeout(),
            Protocol::Http1(http1) => http1.next_timeout(),
            Protocol::Closed => None,
        }
    }

    /// What the application keeps for the client of answers that it has not taken, and whether it looks at no further
    /// request until some of that is gone. Gives whether the latter was so before.
    pub fn set_kept(&mut self, bytes: usize, is_full: bool) -> bool {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.set_kept(bytes, is_full),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => false,
        }
    }

    /// True if the client takes too little for more long answers to be made.
    pub fn is_backlogged(&self) -> bool {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.is_backlogged(),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => false,
        }
    }

    /// The next event. Not taking events is the way to slow a client down. None also while the client takes too
    /// little of what it was sent.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.poll_event(),
            Protocol::Http1(http1) => http1.poll_event().map(SessionEvent::Http1),
            Protocol::Sniffing { .. } | Protocol::Closed => None,
        }
    }

    /// Appends the next bytes to send, as far as windows and the transmit's bounds allow.
    pub fn poll_transmit(&mut self, transmit: &mut Transmit) {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.poll_transmit(transmit),
            Protocol::Http1(http1) => http1.poll_transmit(transmit),
            Protocol::Sniffing { .. } | Protocol::Closed => {}
        }
    }

    /// True when `poll_transmit` would give something.
    pub fn wants_transmit(&self) -> bool {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.wants_transmit(),
            Protocol::Http1(http1) => http1.wants_transmit(),
            Protocol::Sniffing { .. } | Protocol::Closed => false,
        }
    }

    /// False when the socket should not be read for now: the client doesn't take our answers, or pipelines too much.
    /// What comes all the same is kept as it is.
    pub fn wants_read(&self) -> bool {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.wants_read(),
            Protocol::Http1(http1) => http1.wants_read(),
            Protocol::Sniffing { .. } => true,
            Protocol::Closed => false,
        }
    }

    /// True when the protocol is over; what `poll_transmit` still gives is the last of it.
    pub fn is_closed(&self) -> bool {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.is_closed(),
            Protocol::Http1(http1) => http1.is_closed(),
            Protocol::Sniffing { .. } => false,
            Protocol::Closed => true,
        }
    }

    /// True when the socket should be closed: the protocol is over and everything was given to be sent.
    pub fn wants_close(&self) -> bool {
        self.is_closed() && !self.wants_transmit()
    }

    /// The server stops: no new requests, open ones finish, then the session closes.
    pub fn go_away_graceful(&mut self, now: Monotonic) {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.go_away_graceful(now),
            Protocol::Http1(http1) => http1.go_away_graceful(),
            Protocol::Sniffing { .. } | Protocol::Closed => self.protocol = Protocol::Closed,
        }
    }

    /// The whole answer of a unary RPC that went well, from contiguous memory: the short way.
    pub fn send_unary(&mut self, stream: StreamId, message: &[u8]) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.send_unary(stream, message);
        }
    }

    /// The whole answer of a unary RPC that went well, in pieces; long ones are sent from where they lie.
    pub fn send_unary_pieces(&mut self, stream: StreamId, pieces: Vec<Piece>) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.send_pieces(stream, pieces);
            rpc.send_status(stream, Code::Ok, "");
        }
    }

    /// The next message of an answer, from contiguous memory.
    pub fn send_message(&mut self, stream: StreamId, message: &[u8]) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.send_message(stream, message);
        }
    }

    /// The next message of an answer, in pieces.
    pub fn send_message_pieces(&mut self, stream: StreamId, pieces: Vec<Piece>) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.send_pieces(stream, pieces);
        }
    }

    /// Begins a message of `length` bytes that follow by [`Session::append_pieces`], all of them before anything else.
    /// False: it has to be whole, for the client wants it compressed; nothing was done.
    pub fn begin_message(&mut self, stream: StreamId, length: usize) -> bool {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.begin_message(stream, length),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => true,
        }
    }

    /// The next bytes of the message that was begun.
    pub fn append_pieces(&mut self, stream: StreamId, pieces: Vec<Piece>) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.append_pieces(stream, pieces);
        }
    }

    /// Ends an answer, after the messages that are queued. Without any message it is trailers alone.
    pub fn send_status(&mut self, stream: StreamId, code: Code, text: &str) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.send_status(stream, code, text);
        }
    }

    /// Ends an answer without a status. The application gets no event for it.
    pub fn reset(&mut self, stream: StreamId, code: ResetCode) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.reset(stream, code);
        }
    }

    /// Bytes that may be queued on a stream now; advice, not enforced. 0 for a dead stream.
    pub fn stream_room(&mut self, stream: StreamId) -> usize {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.stream_room(stream),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => 0,
        }
    }

    /// Bytes queued on a stream. 0 for a dead stream.
    pub fn stream_unsent(&mut self, stream: StreamId) -> usize {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.stream_unsent(stream),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => 0,
        }
    }

    /// Asks for one `Room` event when half of the stream's queue is free.
    pub fn want_room(&mut self, stream: StreamId) {
        if let Protocol::Http2(rpc) = &mut self.protocol {
            rpc.want_room(stream);
        }
    }

    /// The answer to the HTTP/1 request under way; `Content-Length` and `Connection` are added.
    pub fn http1_response(&mut self, now: Monotonic, status: u16, fields: &[(&str, &str)], body: Bytes) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.respond(now, status, fields, body);
        }
    }

    /// Begins an answer of unknown length, in chunks.
    pub fn http1_begin(&mut self, status: u16, fields: &[(&str, &str)]) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.begin(status, fields);
        }
    }

    /// The next chunk of such an answer.
    pub fn http1_chunk(&mut self, chunk: &[u8]) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.chunk(chunk);
        }
    }

    /// The end of such an answer.
    pub fn http1_end(&mut self, now: Monotonic) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.end(now);
        }
    }

    /// Bytes of answers that wait to be sent.
    pub fn unsent_bytes(&self) -> usize {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.unsent_bytes(),
            Protocol::Http1(http1) => http1.unsent_bytes(),
            Protocol::Sniffing { .. } | Protocol::Closed => 0,
        }
    }

    /// How full its queues are now, for the checker of bounded memory.
    #[cfg(any(test, feature = "testing"))]
    pub fn queues(&self) -> Queues {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.queues(),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => {
                Queues { unsent_bytes: self.unsent_bytes(), ..Queues::default() }
            }
        }
    }

    /// Bytes that are held for the client, about: requests under way, messages, answers not sent.
    pub fn held_bytes(&self) -> usize {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.held_bytes(),
            Protocol::Http1(http1) => http1.held_bytes(),
            Protocol::Sniffing { .. } | Protocol::Closed => 0,
        }
    }

    /// What of that are requests that the client has begun and not ended.
    pub fn unfinished_bytes(&self) -> usize {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.unfinished_bytes(),
            Protocol::Http1(http1) => http1.unfinished_bytes(),
            Protocol::Sniffing { .. } | Protocol::Closed => 0,
        }
    }

    /// Whether all sessions together hold too much, and this one its part of it: then it takes nothing new that needs
    /// memory.
    pub fn set_pressed(&mut self, is_pressed: bool) {
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.set_pressed(is_pressed),
            Protocol::Http1(http1) => http1.set_pressed(is_pressed),
            Protocol::Sniffing { .. } | Protocol::Closed => {}
        }
    }

    /// True until the client has shown that it speaks the protocol: preface and both SETTINGS, or a first head.
    pub fn is_in_handshake(&self) -> bool {
        match &self.protocol {
            Protocol::Sniffing { .. } => true,
            Protocol::Http2(rpc) => rpc.is_in_handshake(),
            Protocol::Http1(http1) => http1.is_in_handshake(),
            Protocol::Closed => false,
        }
    }

    /// Adds the bounds that the client has reached since the last call, in the order of [`Bound::ALL`].
    pub fn drain_bounds(&mut self, totals: &mut [u64; Bound::ALL.len()]) {
        self.bounds.drain_into(totals);
        match &mut self.protocol {
            Protocol::Http2(rpc) => rpc.bounds().drain_into(totals),
            Protocol::Http1(http1) => http1.bounds().drain_into(totals),
            Protocol::Sniffing { .. } | Protocol::Closed => {}
        }
    }

    /// Number of requests under way.
    pub fn requests_live(&self) -> usize {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.streams_live(),
            Protocol::Http1(http1) => usize::from(http1.is_answering()),
            Protocol::Sniffing { .. } | Protocol::Closed => 0,
        }
    }

    /// Numbers for metrics; zeros for HTTP/1.
    pub fn counters(&self) -> Counters {
        match &self.protocol {
            Protocol::Http2(rpc) => rpc.counters(),
            Protocol::Sniffing { .. } | Protocol::Http1(_) | Protocol::Closed => Counters::default(),
        }
    }

    fn sniff(&mut self, now: Monotonic, matched: usize, deadline: Monotonic, bytes: &[u8]) {
        let expected = &PREFACE[matched..];
        let count = expected.len().min(bytes.len());
        if bytes[..count] != expected[..count] {
            let mut http1 = Box::new(http1::Http1::new(self.config.http1_body_bytes_max, now));
            http1.handle_bytes(now, &PREFACE[..matched]);
            http1.handle_bytes(now, bytes);
            self.protocol = Protocol::Http1(http1);
        } else if count < expected.len() {
            self.protocol = Protocol::Sniffing { matched: matched + count, deadline };
        } else {
            let mut rpc = Box::new(rpc::Rpc::new(self.config, now));
            rpc.handle_bytes(now, PREFACE);
            rpc.handle_bytes(now, &bytes[count..]);
            self.protocol = Protocol::Http2(rpc);
        }
    }
}
