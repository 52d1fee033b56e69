//! gRPC calls over one HTTP/2 connection: requests, and what the application is told of them.

use std::collections::VecDeque;
use std::mem;

use self::long::Long;
use super::deadlines::Deadlines;
use super::{Config, SessionEvent};
use crate::limits::http2::{
    EVENTS_WAITING_MAX, KEPT_EVENTS, SERVED_BYTES_MAX, SERVING_BYTES_MAX, STREAMS_LIVE_MAX,
    UNFINISHED_MESSAGE_BYTES_MAX, WAITING_BYTES_MAX,
};
use crate::limits::shard::RECEIVE_BUFFER_BYTES;
use crate::pure::wire::grpc::gzip;
use crate::pure::wire::grpc::head::{Encoding, HeadReader, Meta, RpcKind};
use crate::pure::wire::grpc::message::{Assembler, Framed, PREFIX_BYTES};
use crate::pure::wire::grpc::status::{self, Code, Status};
use crate::pure::wire::h2::connection::{Connection, Counters, Received};
use crate::pure::wire::h2::error::{Bound, Bounds, Code as ResetCode};
use crate::pure::wire::h2::streams::StreamId;
use crate::pure::wire::h2::transmit::Transmit;
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

mod answers;
mod long;

/// gRPC on one connection.
#[derive(Debug)]
pub(super) struct Rpc {
    connection: Connection<Call>,
    head: HeadReader,
    deadlines: Deadlines,
    events: VecDeque<Pending>,
    /// Calls among them that wait until the client has taken answers.
    held_calls: VecDeque<Pending>,
    /// Bytes of messages among both.
    event_bytes: usize,
    /// Some of them may be of streams that are over.
    has_dead_events: bool,
    /// Input that came while none was taken.
    unread: VecDeque<Vec<u8>>,
    message_bytes_max: usize,
    /// Sum of the calls' `unfinished_bytes`.
    unfinished_bytes: usize,
    /// Sum of the calls' `waiting_bytes`.
    waiting_bytes: usize,
    /// Sum of long messages that were let in.
    long_bytes: usize,
    /// Streams whose long messages wait for their turn; some may be over.
    long_waiting: VecDeque<Key>,
    /// What the application keeps of answers, and that it looks at no further calls until some of that is gone.
    kept_bytes: usize,
    is_full: bool,
    /// There is no memory for messages that take their time.
    is_pressed: bool,
    /// Until when events wait, because too many requests came to nothing.
    delayed_until: Option<Monotonic>,
}

/// An event that was not taken yet.
#[derive(Debug)]
struct Pending {
    event: SessionEvent,
    /// Bytes of the client's windows that it holds, and of its message.
    window_bytes: usize,
    /// Of its message, which is inflated when it is taken: nothing bounds what comes out of many.
    is_compressed: bool,
}

/// What a live stream takes besides what it keeps: its place in tables, a deadline, a call of the application.
const STREAM_BYTES: usize = 1_024;
/// Of the former, its slot and its place in the index.
const SLOT_BYTES: usize = 192;
/// What an event takes that waits: its place in a queue that doubles, and its message's own memory.
const EVENT_BYTES: usize = 2 * size_of::<Pending>() + 64;

const _: () = assert!(STREAMS_LIVE_MAX * SLOT_BYTES <= SERVING_BYTES_MAX);

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

/// What is kept about a stream. There may be ten thousands: what few need is apart.
#[derive(Debug, Default)]
struct Call {
    route: u16,
    kind: RpcKind,
    encoding: Encoding,
    phase: Phase,
    /// The application has taken the event that told it. A call that ends before is never heard of.
    delivered: bool,
    head_sent: bool,
    /// Its answer is one message that is given in parts.
    in_parts: bool,
    long: Long,
    /// Of it the texts only until the application is told.
    meta: Meta,
    assembler: Assembler,
    rare: Option<Box<Rare>>,
}

/// What few calls have.
#[derive(Debug, Default)]
struct Rare {
    subtype: Box<[u8]>,
    /// Of the phase `Whole`.
    message: Option<Framed>,
    /// The application takes no messages for now.
    is_held: bool,
    /// What came meanwhile, as it came, and whether the request has ended then.
    held_input: Vec<u8>,
    held_end: bool,
}

impl Call {
    /// Bytes of messages that are not whole, or were not looked at.
    fn unfinished_bytes(&self) -> usize {
        self.assembler.kept_bytes() + self.rare.as_ref().map_or(0, |rare| rare.held_input.capacity())
    }

    /// Bytes that wait for more of the request.
    fn waiting_bytes(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |rare| {
            rare.subtype.len() + rare.message.as_ref().map_or(0, |message| message.bytes.len())
        });
        self.meta.text_bytes() + rare
    }

    fn subtype(&self) -> &[u8] {
        self.rare.as_ref().map_or(&[], |rare| &rare.subtype)
    }

    fn is_held(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_held)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl Rpc {
    pub(super) fn new(config: Config, now: Monotonic) -> Rpc {
        Rpc {
            connection: Connection::new(config.h2, now),
            head: HeadReader::new(config.resolver),
            deadlines: Deadlines::default(),
            events: VecDeque::new(),
            held_calls: VecDeque::new(),
            event_bytes: 0,
            has_dead_events: false,
            unread: VecDeque::new(),
            message_bytes_max: config.message_bytes_max,
            unfinished_bytes: 0,
            waiting_bytes: 0,
            long_bytes: 0,
            long_waiting: VecDeque::new(),
            kept_bytes: 0,
            is_full: false,
            is_pressed: false,
            delayed_until: None,
        }
    }

    pub(super) fn handle_bytes(&mut self, now: Monotonic, bytes: &[u8]) {
        for part in bytes.chunks(RECEIVE_BUFFER_BYTES) {
            if self.connection.is_closed() {
                return;
            }
            self.drop_dead_events();
            if self.unread.is_empty() && self.wants_read() {
                self.read(now, part);
            } else {
                self.unread.push_back(part.to_vec());
                self.connection.hold(now, true);
            }
        }
    }

    pub(super) fn handle_unread(&mut self, now: Monotonic) -> bool {
        self.drop_dead_events();
        if self.unread.is_empty() || !self.wants_read() {
            return false;
        }
        if let Some(part) = self.unread.pop_front() {
            self.read(now, &part);
        }
        if self.unread.is_empty() {
            self.unread = VecDeque::new();
            self.connection.hold(now, false);
        }
        true
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    fn read(&mut self, now: Monotonic, bytes: &[u8]) {
        let mut input = bytes;
        self.look_for_room();
        while let Some(received) = self.connection.handle_bytes(now, &mut input, &mut self.head) {
            match received {
                Received::Head { stream, key, end } => self.opened(now, stream, key, end),
                Received::Data { key, bytes, end } => self.data(key, bytes, end),
                Received::End { key } => self.ended(key),
                Received::Gone { stream, app } => self.gone(stream, app),
            }
        }
        self.delayed_until = self.connection.delayed_until(now);
        if self.connection.is_closed() {
            self.handle_disconnect();
        }
    }

    /// Before input has to wait: what nobody would be told of needs no room. So a client whose requests all come to
    /// nothing is not slowed down but soon reaches the bound of those.
    fn drop_dead_events(&mut self) {
        let is_short = self.events.len() >= EVENTS_WAITING_MAX || self.serving_bytes() > SERVED_BYTES_MAX;
        if !is_short || !mem::take(&mut self.has_dead_events) {
            return;
        }
        let Rpc { connection, events, held_calls, event_bytes, .. } = self;
        for queue in [events, held_calls] {
            queue.retain(|pending| {
                let is_dead = of_call(&pending.event).is_some_and(|stream| connection.find(stream).is_none());
                if is_dead {
                    *event_bytes -= pending.window_bytes;
                    connection.credit(pending.window_bytes as i64);
                }
                !is_dead
            });
        }
    }

    /// Notes whether a new stream would be one too many.
    fn look_for_room(&mut self) {
        let bound = match self.is_pressed {
            true => Some(Bound::Memory),
            false => (self.serving_bytes() >= SERVING_BYTES_MAX).then_some(Bound::Streams),
        };
        self.connection.refuse_streams(bound);
    }

    /// Memory of streams, of calls that wait to be taken, of answers that wait to be sent.
    fn serving_bytes(&self) -> usize {
        self.connection.streams_live() * SLOT_BYTES
            + (self.events.len() + self.held_calls.len()) * EVENT_BYTES
            + self.event_bytes
            + self.connection.answer_bytes()
            + self.kept_bytes
    }

    pub(super) fn set_kept(&mut self, bytes: usize, is_full: bool) -> bool {
        self.kept_bytes = bytes;
        mem::replace(&mut self.is_full, is_full)
    }

    pub(super) fn is_backlogged(&self) -> bool {
        self.connection.is_backlogged()
    }

    pub(super) fn handle_disconnect(&mut self) {
        self.connection.close(ResetCode::NoError, "");
        self.unread = VecDeque::new();
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
        let is_closed = self.connection.is_closed();
        if self.delayed_until.is_some() && !is_closed {
            return None;
        }
        // A client that doesn't take answers gets no new ones made.
        let is_backlogged = (self.connection.is_backlogged() || self.is_full) && !is_closed;
        loop {
            let held = if is_backlogged { None } else { self.held_calls.pop_front() };
            let is_held = held.is_some();
            let pending = match held {
                Some(pending) => pending,
                None => self.events.pop_front()?,
            };
            shrink(if is_held { &mut self.held_calls } else { &mut self.events });
            if is_backlogged && matches!(pending.event, SessionEvent::Call { .. }) {
                self.held_calls.push_back(pending);
                continue;
            }
            if let Some(event) = self.take(pending) {
                return Some(event);
            }
        }
    }

    /// An event's time has come. None: it is of no interest any more, or its message can't be decoded.
    fn take(&mut self, pending: Pending) -> Option<SessionEvent> {
        let Pending { mut event, window_bytes, is_compressed } = pending;
        if window_bytes > 0 {
            self.event_bytes -= window_bytes;
            self.connection.credit(window_bytes as i64);
            // The one message of a request leaves its stream's window closed.
            if let SessionEvent::Message { stream, .. } = &event
                && let Some(key) = self.connection.find(*stream)
            {
                self.connection.credit_stream(key, window_bytes);
            }
        }
        if !self.deliver(&event) {
            return None;
        }
        if is_compressed
            && let SessionEvent::Call { stream, message, .. } | SessionEvent::Message { stream, message } =
                &mut event
        {
            match gzip::inflate(message, self.message_bytes_max) {
                Ok(inflated) => *message = inflated,
                Err(status) => {
                    let key = self.connection.find(*stream)?;
                    let call = self.connection.app_mut(key)?;
                    if call.kind != RpcKind::ClientStream {
                        // Nobody was told, nothing was done.
                        (call.phase, call.delivered) = (Phase::Waiting, false);
                    }
                    self.fail(key, &status);
                    return Some(SessionEvent::Undone { bytes: self.message_bytes_max });
                }
            }
        }
        Some(event)
    }

    /// False when the event is of a call that has ended before the application heard of it: no work is done for
    /// it. Everything of a call that was heard of is told.
    fn deliver(&mut self, event: &SessionEvent) -> bool {
        let Some(stream) = of_call(event) else { return true };
        let tells = matches!(event, SessionEvent::Call { .. } | SessionEvent::Request { .. });
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
            + (self.events.len() + self.held_calls.len()) * size_of::<Pending>()
            + self.event_bytes
            + self.unfinished_bytes
            + self.waiting_bytes
            + self.unread.iter().map(Vec::len).sum::<usize>()
            + self.connection.unsent_memory()
    }

    /// Parts of messages, and messages that wait for the end of their request.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.unfinished_bytes + self.waiting_bytes
    }

    /// Whether the shard has no memory left, and this connection too much of it.
    pub(super) fn set_pressed(&mut self, is_pressed: bool) {
        self.is_pressed = is_pressed;
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

    /// Input goes on when the driver has taken events and the socket answers: neither needs a frame of the client.
    pub(super) fn wants_read(&self) -> bool {
        self.connection.wants_read()
            && self.events.len() < EVENTS_WAITING_MAX
            && !(self.serving_bytes() > SERVED_BYTES_MAX && self.connection.wants_transmit())
    }

    pub(super) fn hold_messages(&mut self, stream: StreamId) {
        let Some(key) = self.find_unanswered(stream) else { return };
        self.connection.app_mut(key).expect("found alive").rare().is_held = true;
    }

    pub(super) fn release_messages(&mut self, stream: StreamId) -> bool {
        let Some(key) = self.find_unanswered(stream) else { return false };
        let call = self.connection.app_mut(key).expect("found alive");
        if !call.is_held() {
            return false;
        }
        let rare = call.rare();
        rare.is_held = false;
        let (input, end) = (mem::take(&mut rare.held_input), mem::take(&mut rare.held_end));
        self.unfinished_bytes -= input.capacity();
        self.take_data(key, &input, end, 0);
        true
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
            unfinished_bytes: self.unfinished_bytes,
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
        levels.push(("unfinished_bytes", self.unfinished_bytes, UNFINISHED_MESSAGE_BYTES_MAX));
        levels.push(("waiting_bytes", self.waiting_bytes, WAITING_BYTES_MAX));
        levels.push(("serving_bytes", self.serving_bytes(), SERVING_BYTES_MAX));
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
            self.forget(&call);
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
        call.route = accepted.route;
        call.kind = accepted.kind;
        call.encoding = accepted.encoding;
        if !accepted.subtype.is_empty() {
            call.rare().subtype = accepted.subtype;
        }
        call.meta = accepted.meta;
        if call.kind == RpcKind::ClientStream {
            call.phase = Phase::Told;
            let (route, meta) = (call.route, take_meta(&mut call.meta));
            self.connection.set_endless(key);
            self.push(SessionEvent::Request { stream, route, meta });
        }
        self.waiting_bytes += self.connection.app(key).map_or(0, Call::waiting_bytes);
        self.look_for_room();
        if end {
            self.ended(key);
        } else if self.waiting_bytes > WAITING_BYTES_MAX {
            self.overflow(key, Bound::KeptBytes);
        }
    }

    fn data(&mut self, key: Key, bytes: &[u8], end: bool) {
        match self.connection.app_mut(key) {
            Some(call) if call.is_held() => {
                let before = call.unfinished_bytes();
                let rare = call.rare();
                rare.held_input.extend_from_slice(bytes);
                rare.held_end |= end;
                self.unfinished_bytes = self.unfinished_bytes - before + call.unfinished_bytes();
                // Its stream's window stays closed by so much.
                self.connection.credit(bytes.len() as i64);
                self.bound_unfinished(key);
            }
            Some(_) | None => self.take_data(key, bytes, end, bytes.len()),
        }
    }

    /// A part of a body. `owed`: how much of it the connection's window still has to get back.
    fn take_data(&mut self, key: Key, bytes: &[u8], end: bool, owed: usize) {
        let mut input = bytes;
        // Bytes whose memory is free again, less those of events that wait to be taken.
        let mut owed = owed as i64;
        // Of the stream: those of messages that are not whole are kept back.
        let mut owed_stream = 0;
        while !input.is_empty() {
            let Some(call) = self.connection.app_mut(key) else { break };
            // After its one message, a unary call reads no more (as grpc-go).
            if call.phase == Phase::Answered || call.kind == RpcKind::Unary && call.phase == Phase::Told {
                owed_stream += input.len();
                break;
            }
            let before = call.assembler.kept_bytes();
            let fed = call.assembler.feed(&mut input, self.message_bytes_max);
            self.unfinished_bytes = self.unfinished_bytes - before + call.assembler.kept_bytes();
            match fed {
                Ok(None) => {}
                Ok(Some(framed)) => {
                    let long = mem::take(&mut call.long);
                    let length = PREFIX_BYTES + framed.bytes.len();
                    let held = self.message(key, framed);
                    owed -= held as i64;
                    owed_stream += length - held;
                    self.release_long(long);
                }
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
            self.connection.credit(owed);
        }
        if owed_stream > 0 {
            self.connection.credit_stream(key, owed_stream);
        }
        if end {
            self.ended(key);
        } else if self.waiting_bytes > WAITING_BYTES_MAX {
            self.overflow(key, Bound::KeptBytes);
        } else {
            self.bound_unfinished(key);
        }
        self.open_window(key);
    }

    /// Bytes were added to what is not finished.
    fn bound_unfinished(&mut self, key: Key) {
        let keeps =
            self.connection.app(key).is_some_and(|call| call.unfinished_bytes() + call.waiting_bytes() > 0);
        if keeps && self.unfinished_bytes > UNFINISHED_MESSAGE_BYTES_MAX {
            self.overflow(key, Bound::KeptBytes);
        } else if keeps && self.is_pressed {
            self.overflow(key, Bound::Memory);
        }
    }

    /// What a call kept is no longer there.
    fn forget(&mut self, call: &Call) {
        self.unfinished_bytes -= call.unfinished_bytes();
        self.waiting_bytes -= call.waiting_bytes();
        self.release_long(call.long);
    }

    /// A whole message. Gives the bytes whose window its event holds.
    fn message(&mut self, key: Key, framed: Framed) -> usize {
        let call = self.connection.app_mut(key).expect("called for a live stream");
        if let Err(status) = check_flag(framed.flag, call.encoding) {
            self.fail(key, &status);
            return 0;
        }
        let held = PREFIX_BYTES + framed.bytes.len();
        match (call.kind, call.phase) {
            (RpcKind::ServerStream, Phase::Waiting) => {
                self.waiting_bytes += framed.bytes.len();
                call.rare().message = Some(framed);
                call.phase = Phase::Whole;
                // The window is given back at once: it waits for the end alone, and is the only one.
                0
            }
            (RpcKind::ServerStream, Phase::Whole | Phase::Told | Phase::Answered) => {
                let text =
                    "cardinality violation: received multiple request messages for non-client-streaming RPC";
                self.fail(key, &Status::new(Code::Internal, text));
                0
            }
            (RpcKind::ClientStream, _) => {
                let stream = self.connection.stream_of(key).expect("alive");
                let event = SessionEvent::Message { stream, message: framed.bytes };
                self.push_message(event, held, framed.flag != 0);
                held
            }
            (RpcKind::Unary, _) => {
                self.tell(key, framed, held);
                held
            }
        }
    }

    /// The application learns of a request with one message.
    fn tell(&mut self, key: Key, framed: Framed, window_bytes: usize) {
        let stream = self.connection.stream_of(key).expect("called for a live stream");
        let call = self.connection.app_mut(key).expect("called for a live stream");
        call.phase = Phase::Told;
        self.waiting_bytes -= call.meta.text_bytes();
        let (route, meta) = (call.route, take_meta(&mut call.meta));
        let event = SessionEvent::Call { stream, route, meta, message: framed.bytes };
        self.push_message(event, window_bytes, framed.flag != 0);
    }

    /// The request has ended.
    fn ended(&mut self, key: Key) {
        let Some(stream) = self.connection.stream_of(key) else { return };
        let call = self.connection.app_mut(key).expect("alive");
        if call.is_held() {
            call.rare().held_end = true;
            return;
        }
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
                let framed = call.rare().message.take().expect("Whole has the message");
                self.waiting_bytes -= framed.bytes.len();
                // From here on it may wait long.
                let held = PREFIX_BYTES + framed.bytes.len();
                self.connection.credit(-(held as i64));
                self.tell(key, framed, held);
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
        self.forget(&call);
        if call.phase == Phase::Told && call.delivered {
            self.push(SessionEvent::Cancelled { stream });
        }
        self.has_dead_events = true;
    }

    /// The connection, or the shard, keeps too much for its clients.
    fn overflow(&mut self, key: Key, bound: Bound) {
        let Some(stream) = self.connection.stream_of(key) else { return };
        // Of what nobody was told, nothing was done: it may be sent again.
        let code = match self.connection.app(key).expect("alive").phase {
            Phase::Waiting | Phase::Whole => ResetCode::RefusedStream,
            Phase::Told | Phase::Answered => ResetCode::EnhanceYourCalm,
        };
        self.connection.bounds.note(bound);
        if let Some(call) = self.connection.reset(key, code) {
            self.gone(stream, call);
        }
        self.connection.charge_reset();
    }

    fn deadline_passed(&mut self, stream: StreamId, now: Monotonic) {
        let Some(key) = self.connection.find(stream) else { return };
        let call = self.connection.app(key).expect("found alive");
        if call.meta.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let told = call.phase == Phase::Told && call.delivered;
        // Also when the answer was given but waits for windows: nobody will read it in time.
        self.cut_answer(key, ResetCode::Cancel, Code::DeadlineExceeded, "context deadline exceeded");
        if told {
            self.push(SessionEvent::DeadlineExceeded { stream });
        }
    }

    fn push(&mut self, event: SessionEvent) {
        self.push_message(event, 0, false);
    }

    fn push_message(&mut self, event: SessionEvent, window_bytes: usize, is_compressed: bool) {
        self.event_bytes += window_bytes;
        self.events.push_back(Pending { event, window_bytes, is_compressed });
    }
}

/// The call whose event it is, if it needs that call to be alive.
fn of_call(event: &SessionEvent) -> Option<StreamId> {
    match event {
        SessionEvent::Call { stream, .. }
        | SessionEvent::Request { stream, .. }
        | SessionEvent::Message { stream, .. }
        | SessionEvent::HalfClosed { stream } => Some(*stream),
        SessionEvent::Cancelled { .. }
        | SessionEvent::DeadlineExceeded { .. }
        | SessionEvent::Room { .. }
        | SessionEvent::Undone { .. }
        | SessionEvent::Http1(_) => None,
    }
}

/// What the application is told of a request; its deadline stays here too.
fn take_meta(meta: &mut Meta) -> Meta {
    Meta { texts: meta.texts.take(), ..*meta }
}

/// Gives back the memory of an empty queue that was long.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > KEPT_EVENTS {
        *queue = VecDeque::new();
    }
}

/// Whether a message may have this flag (`checkRecvPayload` of grpc-go).
fn check_flag(flag: u8, encoding: Encoding) -> Result<(), Status> {
    match (flag, encoding) {
        (0, _) | (1, Encoding::Gzip) => Ok(()),
        (1, Encoding::Identity) => {
            Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding"))
        }
        (flag, _) => {
            Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}")))
        }
    }
}
