//! gRPC calls over one HTTP/2 connection.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::deadlines::Deadlines;
use super::{Config, SessionEvent};
use crate::limits::http2::{
    COPIED_PIECE_BYTES_MAX, EVENTS_WAITING_MAX, KEPT_EVENTS, UNFINISHED_MESSAGE_BYTES_MAX,
};
use crate::pure::wire::grpc::gzip;
use crate::pure::wire::grpc::head::{Encoding, HeadReader, Meta, RpcKind};
use crate::pure::wire::grpc::message::{Assembler, Framed, PREFIX_BYTES, prefix};
use crate::pure::wire::grpc::status::{self, Code, Status, TRAILERS_OK};
use crate::pure::wire::h2::connection::{Connection, Counters, Received};
use crate::pure::wire::h2::error::{Bound, Bounds, Code as ResetCode};
use crate::pure::wire::h2::streams::StreamId;
use crate::pure::wire::h2::transmit::{Piece, Transmit};
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

/// gRPC on one connection.
#[derive(Debug)]
pub(super) struct Rpc {
    connection: Connection<Call>,
    head: HeadReader,
    deadlines: Deadlines,
    events: VecDeque<Pending>,
    message_bytes_max: usize,
    /// Sum of what the calls keep, and of inflated messages among the events.
    kept_bytes: usize,
    /// There is no memory for messages that take their time.
    is_pressed: bool,
    /// Until when events wait, because too many requests came to nothing.
    delayed_until: Option<Monotonic>,
}

/// An event that was not taken yet.
#[derive(Debug)]
struct Pending {
    event: SessionEvent,
    /// Bytes of the client's windows that it holds.
    window_bytes: usize,
    /// Bytes of `kept_bytes` that it holds: those of an inflated message.
    kept_bytes: usize,
}

/// What a live stream takes besides what it keeps: its place in tables, a deadline, a call of the application.
const STREAM_BYTES: usize = 1_024;

/// Who knows of a call.
///
/// ```text
/// Waiting --message (unary)--------------------> Told
///    +----message (server stream)--> Whole --end--^
///    +----head (client stream)--------------------^      any --last answer given--> Answered
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Only the head has come.
    #[default]
    Waiting,
    /// The one message has come, the request's end hasn't.
    Whole,
    /// The application was told.
    Told,
    /// The application, or we, gave the last answer; some of it waits to be sent.
    Answered,
}

/// What is kept about a stream.
#[derive(Debug, Default)]
struct Call {
    route: u16,
    kind: RpcKind,
    encoding: Encoding,
    phase: Phase,
    /// The application has taken the event that told it. A call that ends before is never heard of.
    delivered: bool,
    head_sent: bool,
    subtype: Box<[u8]>,
    /// Until the application is told.
    meta: Meta,
    /// Of the phase `Whole`.
    message: Option<Framed>,
    assembler: Assembler,
    deadline: Option<Monotonic>,
}

impl Call {
    /// Bytes that wait for more of the request.
    fn kept_bytes(&self) -> usize {
        let text = |value: &Option<Arc<[u8]>>| value.as_ref().map_or(0, |value| value.len());
        self.assembler.kept_bytes()
            + self.message.as_ref().map_or(0, |message| message.bytes.len())
            + text(&self.meta.client_version)
            + text(&self.meta.token)
            + text(&self.meta.authorization)
            + self.subtype.len()
    }
}

impl Rpc {
    pub(super) fn new(config: Config, now: Monotonic) -> Rpc {
        Rpc {
            connection: Connection::new(config.h2, now),
            head: HeadReader::new(config.resolver),
            deadlines: Deadlines::default(),
            events: VecDeque::new(),
            message_bytes_max: config.message_bytes_max,
            kept_bytes: 0,
            is_pressed: false,
            delayed_until: None,
        }
    }

    pub(super) fn handle_bytes(&mut self, now: Monotonic, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(received) = self.connection.handle_bytes(now, &mut input, &mut self.head) {
            match received {
                Received::Head { stream, key, end } => self.opened(now, stream, key, end),
                Received::Data { key, bytes, end } => self.data(key, bytes, end),
                Received::End { key } => self.ended(key),
                Received::Gone { stream, app } => self.gone(stream, app),
            }
            if self.events.len() > EVENTS_WAITING_MAX {
                self.connection.close_for(Bound::Events, "too many requests at once");
            }
        }
        self.delayed_until = self.connection.delayed_until(now);
        if self.connection.is_closed() {
            self.handle_disconnect();
        }
    }

    pub(super) fn handle_disconnect(&mut self) {
        self.connection.close(ResetCode::NoError, "");
        for (stream, call) in self.connection.take_all() {
            self.gone(stream, call);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        while let Some(stream) = self.deadlines.pop_due(now) {
            self.deadline_passed(stream, now);
        }
        self.connection.handle_timeout(now);
        self.delayed_until = self.connection.delayed_until(now);
        if self.connection.is_closed() {
            self.handle_disconnect();
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Monotonic> {
        // Nothing is left to do at a time: a time that stays in the past would keep the loop busy for ever.
        if self.connection.is_closed() {
            return None;
        }
        [self.connection.next_timeout(), self.deadlines.next(), self.delayed_until]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn poll_event(&mut self) -> Option<SessionEvent> {
        if let Some(stream) = self.connection.poll_room() {
            return Some(SessionEvent::Room { stream });
        }
        // A client that doesn't take answers gets no new ones made; its windows fill behind this.
        if self.connection.is_backlogged() && !self.connection.is_closed() {
            return None;
        }
        if self.delayed_until.is_some() && !self.connection.is_closed() {
            return None;
        }
        loop {
            let Pending { event, window_bytes, kept_bytes } = self.events.pop_front()?;
            if self.events.is_empty() && self.events.capacity() > KEPT_EVENTS {
                self.events = VecDeque::new();
            }
            self.kept_bytes -= kept_bytes;
            if window_bytes > 0 {
                let key = match &event {
                    SessionEvent::Message { stream, .. } => self.connection.find(*stream),
                    // The one message of a request leaves its stream's window closed.
                    _ => None,
                };
                self.connection.credit(key, window_bytes as i64);
            }
            if self.deliver(&event) {
                return Some(event);
            }
        }
    }

    /// False when the event is of a call that has ended before the application heard of it: no work is done for
    /// it. Everything of a call that was heard of is told.
    fn deliver(&mut self, event: &SessionEvent) -> bool {
        let (stream, tells) = match event {
            SessionEvent::Call { stream, .. } | SessionEvent::Request { stream, .. } => (*stream, true),
            SessionEvent::Message { stream, .. } | SessionEvent::HalfClosed { stream } => (*stream, false),
            SessionEvent::Cancelled { .. }
            | SessionEvent::DeadlineExceeded { .. }
            | SessionEvent::Room { .. }
            | SessionEvent::Http1(_) => return true,
        };
        let Some(key) = self.connection.find(stream) else { return false };
        let call = self.connection.app_mut(key).expect("found alive");
        call.delivered |= tells;
        call.delivered
    }

    pub(super) fn poll_transmit(&mut self, transmit: &mut Transmit) {
        self.connection.poll_transmit(transmit);
        if self.connection.streams_live() == 0 {
            self.deadlines.clear();
        }
    }

    /// Bytes that the connection holds for its client, about.
    pub(super) fn held_bytes(&self) -> usize {
        self.connection.streams_live() * STREAM_BYTES
            + self.events.len() * size_of::<Pending>()
            + self.kept_bytes
            + self.connection.unsent_bytes()
    }

    /// Whether the shard has no memory left.
    pub(super) fn set_pressed(&mut self, is_pressed: bool) {
        self.is_pressed = is_pressed;
        self.connection.refuse_streams(is_pressed);
    }

    pub(super) fn bounds(&mut self) -> &mut Bounds {
        &mut self.connection.bounds
    }

    pub(super) fn is_in_handshake(&self) -> bool {
        self.connection.is_in_handshake()
    }

    pub(super) fn wants_transmit(&self) -> bool {
        self.connection.wants_transmit()
    }

    pub(super) fn wants_read(&self) -> bool {
        self.connection.wants_read()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    pub(super) fn go_away_graceful(&mut self, now: Monotonic) {
        self.connection.go_away_graceful(now);
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        self.connection.unsent_bytes()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn queues(&self) -> super::Queues {
        let (output_bytes, control_replies) = self.connection.output_queue();
        super::Queues {
            unsent_bytes: self.connection.unsent_bytes(),
            output_bytes,
            control_replies,
            events: self.events.len(),
            unfinished_bytes: self.kept_bytes,
        }
    }

    pub(super) fn streams_live(&self) -> usize {
        self.connection.streams_live()
    }

    #[cfg(test)]
    pub(super) fn deadlines_len(&self) -> usize {
        self.deadlines.len()
    }

    #[cfg(test)]
    pub(super) fn levels(&mut self, now: Monotonic) -> Vec<(&'static str, usize, usize)> {
        let mut levels = self.connection.levels(now);
        levels.push(("kept_bytes", self.kept_bytes, UNFINISHED_MESSAGE_BYTES_MAX));
        levels.push(("events", self.events.len(), EVENTS_WAITING_MAX));
        levels
    }

    pub(super) fn counters(&self) -> Counters {
        self.connection.counters
    }

    pub(super) fn stream_room(&mut self, stream: StreamId) -> usize {
        self.connection.find(stream).map_or(0, |key| self.connection.stream_room(key))
    }

    pub(super) fn stream_unsent(&mut self, stream: StreamId) -> usize {
        self.connection.find(stream).map_or(0, |key| self.connection.stream_unsent(key))
    }

    pub(super) fn want_room(&mut self, stream: StreamId) {
        if let Some(key) = self.connection.find(stream) {
            self.connection.want_room(key);
        }
    }

    pub(super) fn reset(&mut self, stream: StreamId, code: ResetCode) {
        if let Some(key) = self.connection.find(stream)
            && let Some(call) = self.connection.reset(key, code)
        {
            self.kept_bytes -= call.kept_bytes();
        }
    }

    pub(super) fn send_unary(&mut self, stream: StreamId, message: &[u8]) {
        let Some(key) = self.connection.find(stream) else { return };
        let call = self.connection.app(key).expect("found alive");
        let plain = call.encoding == Encoding::Identity && call.subtype.is_empty() && !call.head_sent;
        // A unary call that was told of keeps no message under assembly, so nothing is lost with it.
        if plain && call.phase == Phase::Told {
            let head = prefix(false, message.len());
            if self.connection.send_whole(key, status::HEAD, &head, message, TRAILERS_OK) {
                return;
            }
        }
        self.send_message(stream, message);
        self.send_status(stream, Code::Ok, "");
    }

    pub(super) fn send_message(&mut self, stream: StreamId, message: &[u8]) {
        let Some(key) = self.find_unanswered(stream) else { return };
        let gzip = self.begin_answer(key);
        let mut framed = Vec::with_capacity(PREFIX_BYTES + message.len());
        write_framed(&mut framed, gzip, message);
        self.connection.send_piece(key, Piece::from(framed));
    }

    pub(super) fn send_pieces(&mut self, stream: StreamId, pieces: Vec<Piece>) {
        let Some(key) = self.find_unanswered(stream) else { return };
        let gzip = self.begin_answer(key);
        let length = pieces.iter().map(Piece::len).sum();
        if gzip {
            let mut message = Vec::with_capacity(length);
            pieces.iter().for_each(|piece| message.extend_from_slice(piece.as_slice()));
            let mut framed = Vec::new();
            write_framed(&mut framed, true, &message);
            self.connection.send_piece(key, Piece::from(framed));
            return;
        }
        self.queue_pieces(key, prefix(false, length).to_vec(), pieces);
    }

    /// False for a compressed answer: then nothing was done.
    pub(super) fn begin_message(&mut self, stream: StreamId, length: usize) -> bool {
        let Some(key) = self.find_unanswered(stream) else { return true };
        if self.connection.app(key).expect("found alive").encoding == Encoding::Gzip {
            return false;
        }
        self.begin_answer(key);
        self.connection.send_piece(key, Piece::from(prefix(false, length).to_vec()));
        true
    }

    pub(super) fn append_pieces(&mut self, stream: StreamId, pieces: Vec<Piece>) {
        let Some(key) = self.find_unanswered(stream) else { return };
        self.queue_pieces(key, Vec::new(), pieces);
    }

    /// Queues `copied`, then the pieces; short neighbours become one piece.
    fn queue_pieces(&mut self, key: Key, mut copied: Vec<u8>, pieces: Vec<Piece>) {
        for piece in pieces {
            if piece.len() <= COPIED_PIECE_BYTES_MAX {
                copied.extend_from_slice(piece.as_slice());
            } else {
                self.connection.send_piece(key, Piece::from(mem::take(&mut copied)));
                self.connection.send_piece(key, piece);
            }
        }
        self.connection.send_piece(key, Piece::from(copied));
    }

    pub(super) fn send_status(&mut self, stream: StreamId, code: Code, text: &str) {
        if let Some(key) = self.find_unanswered(stream) {
            self.end_answer(key, code, text);
        }
    }

    /// A live stream that the application hasn't answered to the end.
    fn find_unanswered(&mut self, stream: StreamId) -> Option<Key> {
        let key = self.connection.find(stream)?;
        self.connection.app(key).filter(|call| call.phase != Phase::Answered).map(|_| key)
    }

    /// The head of an answer, once; true when its messages are compressed.
    fn begin_answer(&mut self, key: Key) -> bool {
        let call = self.connection.app_mut(key).expect("found alive");
        let gzip = call.encoding == Encoding::Gzip;
        if !mem::replace(&mut call.head_sent, true) {
            let block = status::head_block(&call.subtype, gzip);
            self.connection.send_head(key, &block, false);
        }
        gzip
    }

    fn end_answer(&mut self, key: Key, code: Code, text: &str) {
        let call = self.connection.app_mut(key).expect("called for a live stream");
        call.phase = Phase::Answered;
        // What it kept is of no use any more.
        self.kept_bytes -= call.kept_bytes();
        (call.assembler, call.message, call.meta) = Default::default();
        self.kept_bytes += call.kept_bytes();
        if call.head_sent {
            self.connection.send_end(key, Some(status::trailers_block(code, text)));
        } else {
            let block = status::trailers_only_block(200, &call.subtype, code, text);
            self.connection.send_head(key, &block, true);
        }
    }

    /// Ends a call that broke a rule of gRPC; the application hears of it if it knows the call.
    fn fail(&mut self, key: Key, status: &Status) {
        let Some(stream) = self.connection.stream_of(key) else { return };
        let call = self.connection.app(key).expect("alive");
        let (told, delivered) = (call.phase == Phase::Told, call.delivered);
        self.connection.drop_queue(key);
        self.end_answer(key, status.code, &status.text);
        if told {
            // As bad as a reset: work was begun for nothing.
            self.connection.charge_reset();
        }
        if delivered && told {
            self.push(SessionEvent::Cancelled { stream });
        }
    }

    fn opened(&mut self, now: Monotonic, stream: StreamId, key: Key, end: bool) {
        let accepted = match self.head.finish(now) {
            Ok(accepted) => accepted,
            Err(refused) => {
                let Status { code, text } = &refused.status;
                let block = status::trailers_only_block(refused.http_status, &refused.subtype, *code, text);
                self.connection.send_head(key, &block, true);
                return;
            }
        };
        if let Some(deadline) = accepted.meta.deadline {
            let live = self.connection.streams_live();
            let connection = &mut self.connection;
            self.deadlines.push(deadline, stream, live, |stream| connection.find(stream).is_some());
        }
        let call = self.connection.app_mut(key).expect("just opened");
        call.deadline = accepted.meta.deadline;
        call.route = accepted.route;
        call.kind = accepted.kind;
        call.encoding = accepted.encoding;
        call.subtype = accepted.subtype;
        if call.kind == RpcKind::ClientStream {
            call.phase = Phase::Told;
            self.push(SessionEvent::Request { stream, route: accepted.route, meta: accepted.meta });
        } else {
            call.meta = accepted.meta;
        }
        self.kept_bytes += self.connection.app(key).map_or(0, Call::kept_bytes);
        if end {
            self.ended(key);
        } else if self.kept_bytes > UNFINISHED_MESSAGE_BYTES_MAX {
            // Nothing was done for it yet.
            self.overflow(key, Bound::KeptBytes, ResetCode::RefusedStream);
        }
    }

    fn data(&mut self, key: Key, bytes: &[u8], end: bool) {
        let mut input = bytes;
        // Bytes whose memory is free again, less those of events that wait to be taken.
        let mut owed = bytes.len() as i64;
        while !input.is_empty() {
            let Some(call) = self.connection.app_mut(key) else { break };
            // After its one message, a unary call reads no more (as grpc-go).
            if call.phase == Phase::Answered || call.kind == RpcKind::Unary && call.phase == Phase::Told {
                break;
            }
            let before = call.assembler.kept_bytes();
            let fed = call.assembler.feed(&mut input, self.message_bytes_max);
            self.kept_bytes = self.kept_bytes - before + call.assembler.kept_bytes();
            match fed {
                Ok(None) => {}
                Ok(Some(framed)) => owed -= self.message(key, framed) as i64,
                Err(too_long) => {
                    let max = self.message_bytes_max;
                    let text = format!("grpc: received message larger than max ({} vs. {max})", too_long.0);
                    self.connection.bounds.note(Bound::MessageBytes);
                    self.fail(key, &Status::new(Code::ResourceExhausted, text));
                    break;
                }
            }
        }
        if owed != 0 {
            self.connection.credit(Some(key), owed);
        }
        if end {
            self.ended(key);
        } else if self.kept_bytes > UNFINISHED_MESSAGE_BYTES_MAX {
            self.overflow(key, Bound::KeptBytes, ResetCode::EnhanceYourCalm);
        } else if self.is_pressed && self.connection.app(key).is_some_and(|call| call.kept_bytes() > 0) {
            self.overflow(key, Bound::Memory, ResetCode::EnhanceYourCalm);
        }
    }

    /// A whole message. Gives the bytes whose window its event holds.
    fn message(&mut self, key: Key, framed: Framed) -> usize {
        let call = self.connection.app_mut(key).expect("called for a live stream");
        let held = PREFIX_BYTES + framed.bytes.len();
        match (call.kind, call.phase) {
            (RpcKind::ServerStream, Phase::Waiting) => {
                self.kept_bytes += framed.bytes.len();
                call.message = Some(framed);
                call.phase = Phase::Whole;
                // The window is given back at once: it waits for the end alone, and is the only one.
                return 0;
            }
            (RpcKind::ServerStream, Phase::Whole | Phase::Told | Phase::Answered) => {
                let text =
                    "cardinality violation: received multiple request messages for non-client-streaming RPC";
                self.fail(key, &Status::new(Code::Internal, text));
                return 0;
            }
            (RpcKind::Unary | RpcKind::ClientStream, _) => {}
        }
        let (kind, encoding) = (call.kind, call.encoding);
        let Some((message, kept)) = self.decode(key, framed, encoding) else { return 0 };
        match kind {
            RpcKind::ClientStream => {
                let stream = self.connection.stream_of(key).expect("alive");
                self.push_message(SessionEvent::Message { stream, message }, held, kept);
            }
            RpcKind::Unary | RpcKind::ServerStream => self.tell(key, message, held, kept),
        }
        held
    }

    /// The payload of a message, and how much of it no window of the client holds, which is counted until the
    /// event is taken: a bomb of gzip. None: the call has failed.
    fn decode(&mut self, key: Key, framed: Framed, encoding: Encoding) -> Option<(Bytes, usize)> {
        let compressed = framed.bytes.len();
        match decode(framed, encoding, self.message_bytes_max) {
            Ok(message) => {
                let kept = message.len().saturating_sub(compressed);
                self.kept_bytes += kept;
                if self.kept_bytes <= UNFINISHED_MESSAGE_BYTES_MAX || kept == 0 {
                    return Some((message, kept));
                }
                self.kept_bytes -= kept;
                self.overflow(key, Bound::KeptBytes, ResetCode::EnhanceYourCalm);
            }
            Err(status) => self.fail(key, &status),
        }
        None
    }

    /// The application learns of a request with one message.
    fn tell(&mut self, key: Key, message: Bytes, window_bytes: usize, kept_bytes: usize) {
        let stream = self.connection.stream_of(key).expect("called for a live stream");
        let call = self.connection.app_mut(key).expect("called for a live stream");
        call.phase = Phase::Told;
        self.kept_bytes -= call.kept_bytes();
        let (route, meta) = (call.route, mem::take(&mut call.meta));
        self.kept_bytes += call.kept_bytes();
        self.push_message(SessionEvent::Call { stream, route, meta, message }, window_bytes, kept_bytes);
    }

    /// The request has ended.
    fn ended(&mut self, key: Key) {
        let Some(stream) = self.connection.stream_of(key) else { return };
        let call = self.connection.app_mut(key).expect("alive");
        let (kind, phase, inside) = (call.kind, call.phase, call.assembler.is_inside());
        match (kind, phase) {
            (_, Phase::Answered) | (RpcKind::Unary, Phase::Told) => {}
            // grpc-go's unary path reports these as they are, its stream path as Internal.
            (RpcKind::Unary, _) => {
                let text = if inside { "unexpected EOF" } else { "EOF" };
                self.fail(key, &Status::new(Code::Unknown, text));
            }
            (_, _) if inside => self.fail(key, &Status::new(Code::Internal, "unexpected EOF")),
            (RpcKind::ServerStream, Phase::Whole) => {
                let framed = call.message.take().expect("Whole has the message");
                let encoding = call.encoding;
                self.kept_bytes -= framed.bytes.len();
                if let Some((message, kept)) = self.decode(key, framed, encoding) {
                    self.tell(key, message, 0, kept);
                }
            }
            (RpcKind::ServerStream, Phase::Waiting) => {
                let text = "cardinality violation: received no request message from non-client-streaming RPC";
                self.fail(key, &Status::new(Code::Internal, text));
            }
            (RpcKind::ServerStream, Phase::Told) => {}
            (RpcKind::ClientStream, _) => self.push(SessionEvent::HalfClosed { stream }),
        }
    }

    fn gone(&mut self, stream: StreamId, call: Call) {
        self.kept_bytes -= call.kept_bytes();
        if call.phase == Phase::Told && call.delivered {
            self.push(SessionEvent::Cancelled { stream });
        }
    }

    /// The connection, or the shard, keeps too much for its clients.
    fn overflow(&mut self, key: Key, bound: Bound, code: ResetCode) {
        let Some(stream) = self.connection.stream_of(key) else { return };
        self.connection.bounds.note(bound);
        if let Some(call) = self.connection.reset(key, code) {
            self.gone(stream, call);
        }
        self.connection.charge_reset();
    }

    fn deadline_passed(&mut self, stream: StreamId, now: Monotonic) {
        let Some(key) = self.connection.find(stream) else { return };
        let call = self.connection.app(key).expect("found alive");
        if call.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let told = call.phase == Phase::Told && call.delivered;
        // Also when the answer was given but waits for windows: nobody will read it in time.
        self.connection.drop_queue(key);
        self.end_answer(key, Code::DeadlineExceeded, "context deadline exceeded");
        if told {
            self.push(SessionEvent::DeadlineExceeded { stream });
        }
    }

    fn push(&mut self, event: SessionEvent) {
        self.push_message(event, 0, 0);
    }

    fn push_message(&mut self, event: SessionEvent, window_bytes: usize, kept_bytes: usize) {
        self.events.push_back(Pending { event, window_bytes, kept_bytes });
    }
}

/// The payload of a message by its flag (`checkRecvPayload` of grpc-go).
fn decode(framed: Framed, encoding: Encoding, bytes_max: usize) -> Result<Bytes, Status> {
    match (framed.flag, encoding) {
        (0, _) => Ok(framed.bytes),
        (1, Encoding::Gzip) => gzip::inflate(&framed.bytes, bytes_max),
        (1, Encoding::Identity) => {
            Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding"))
        }
        (flag, _) => {
            Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}")))
        }
    }
}

/// Prefix and payload. Empty messages stay plain, as grpc-go sends them.
fn write_framed(target: &mut Vec<u8>, gzip: bool, message: &[u8]) {
    if gzip && !message.is_empty() {
        let compressed = gzip::deflate(message);
        target.extend_from_slice(&prefix(true, compressed.len()));
        target.extend_from_slice(&compressed);
        return;
    }
    target.extend_from_slice(&prefix(false, message.len()));
    target.extend_from_slice(message);
}
