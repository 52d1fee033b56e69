//! The connection's state machine: what comes in.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::{Bound, Bounds, Code, Fault};
use super::frame::{self, FrameHead, HEAD_BYTES, INITIAL_WINDOW, PREFACE, WINDOW_MAX, flag, kind, setting};
use super::guard::{Bucket, LateFrames, PingGuard, PingPolicy};
use super::head::{Judge, Part};
use super::settings::PeerSettings;
use super::streams::{Finish, QueueMemory, State, Stream, StreamId, Streams};
use crate::limits::http2::{
    ANSWER_BYTES_MAX, CHEAP_FRAMES_BURST, CHEAP_FRAMES_PER_SECOND, CONNECTION_SEND_BYTES_MAX,
    CONNECTION_WINDOW_BYTES, CONTINUATION_FRAMES_MAX, CONTROL_REPLIES_MAX, FRAME_BYTES_MAX,
    HANDSHAKE_SECONDS, HEADER_BLOCK_BYTES_MAX, HEADER_LIST_BYTES_MAX, OUTPUT_BYTES_MAX, RESETS_BURST,
    RESETS_PER_SECOND, RESETS_UNDELAYED_MAX, SETTINGS_FRAMES_BURST, SETTINGS_FRAMES_PER_SECOND,
    STALLED_SEND_BYTES_MAX, STREAM_SEND_BYTES_MAX, STREAM_SEND_BYTES_MIN, STREAM_WINDOW_BYTES,
    STREAMS_LIVE_MAX, UNFINISHED_FRAME_SECONDS,
};
use crate::pure::wire::hpack::{DecodeError, Decoder, FieldSink};
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

/// What an operator may choose.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Advertised as MAX_CONCURRENT_STREAMS and kept, below `STREAMS_LIVE_MAX`.
    pub concurrent_streams_max: u32,
    /// What a client's PINGs may do.
    pub ping_policy: PingPolicy,
    /// Silence of the client after which we PING, `--grpc-keepalive-interval`.
    pub keepalive_idle: Duration,
    /// Silence after that PING that ends the connection, `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// Seed of the streams' index.
    pub seed: u64,
    /// What may wait to be sent.
    pub send: SendLimits,
}

/// Bytes that may wait to be sent before producers have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendLimits {
    /// On a stream.
    pub stream: usize,
    /// What each stream may queue whatever the others do.
    pub stream_min: usize,
    /// On a connection.
    pub connection: usize,
    /// On a connection, if all but that waits for the windows of its own streams.
    pub stalled: usize,
    /// Of answers on a connection, memory that only they take.
    pub answers: usize,
}

impl Default for SendLimits {
    fn default() -> SendLimits {
        SendLimits {
            stream: STREAM_SEND_BYTES_MAX,
            stream_min: STREAM_SEND_BYTES_MIN,
            connection: CONNECTION_SEND_BYTES_MAX,
            stalled: STALLED_SEND_BYTES_MAX,
            answers: ANSWER_BYTES_MAX,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            concurrent_streams_max: u32::MAX,
            ping_policy: PingPolicy { interval_min: Duration::from_secs(5), permit_without_stream: false },
            keepalive_idle: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            seed: 0,
            send: SendLimits::default(),
        }
    }
}

/// What a peer's bytes meant.
#[derive(Debug)]
pub enum Received<'a, T> {
    /// A request's head; its fields went into the sink.
    Head {
        /// The new stream.
        stream: StreamId,
        /// Its handle.
        key: Key,
        /// Nothing follows.
        end: bool,
    },
    /// A part of a request's body, perhaps empty.
    Data {
        /// The stream's handle.
        key: Key,
        /// The part. Credit it with `credit` when it needs no memory any more.
        bytes: &'a [u8],
        /// Nothing follows.
        end: bool,
    },
    /// A request ended with trailers.
    End {
        /// The stream's handle.
        key: Key,
    },
    /// A stream is gone: reset by the client, or by us for a fault of the client.
    Gone {
        /// The stream.
        stream: StreamId,
        /// What the application kept about it.
        app: T,
    },
}

/// Plain numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames of any kind.
    pub frames_received: u64,
    /// Requests that got a stream.
    pub streams_opened: u64,
    /// Requests refused for the number of live streams.
    pub streams_refused: u64,
    /// RST_STREAM of the client on a live stream.
    pub resets_received: u64,
    /// RST_STREAM of ours for a fault or by the application.
    pub resets_sent: u64,
    /// PING of the client.
    pub pings_received: u64,
    /// Bytes of DATA payloads received, padding included.
    pub data_bytes_received: u64,
    /// Bytes of DATA payloads sent.
    pub data_bytes_sent: u64,
}

/// Life of a connection.
///
/// ```text
/// Open --go_away_graceful--> Warned --PING ack or 5 s--> Draining --no stream left--> Closed
///   +------------------------- fault of the connection ------------------------------^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// GOAWAY(2^31-1) and a PING are out; new streams are still served.
    Warned {
        until: Monotonic,
    },
    /// The last GOAWAY is out; newer streams than `last` are ignored.
    Draining {
        last: u32,
    },
    Closed,
}

/// Where the reader stands.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Preface {
        matched: usize,
    },
    Head,
    /// A payload other than DATA, gathered whole.
    Payload(FrameHead),
    Data(DataPart),
}

/// What is left of a DATA frame, which is passed on as it comes.
#[derive(Clone, Copy, Debug)]
struct DataPart {
    /// None when nobody wants the bytes.
    key: Option<Key>,
    /// Bytes of data, then of padding; the padding's length itself is read first.
    left: usize,
    pad_length_due: bool,
    padding: usize,
    end: bool,
}

/// A header block that CONTINUATION goes on with.
#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
    continuations: usize,
    begun_at: Monotonic,
}

/// Result of a step of the reader.
enum Step<'a, T> {
    /// Not enough input.
    Starved,
    Done,
    Give(Received<'a, T>),
}

/// One connection, seen from the server.
#[derive(Debug)]
pub struct Connection<T> {
    pub(super) config: Config,
    phase: Phase,
    reading: Reading,
    settings_seen: bool,
    /// The client has acknowledged ours.
    settings_acked: bool,
    /// Until when SETTINGS and the acknowledgement have to come.
    handshake_until: Monotonic,
    /// An unfinished frame head or payload.
    partial: Vec<u8>,
    /// When it began.
    partial_at: Monotonic,
    block: Option<Block>,
    decoder: Decoder,
    pub(super) peer: PeerSettings,
    pub(super) streams: Streams<T>,
    /// Highest id that the client used.
    stream_last: u32,
    receive_window: i64,
    /// What we owe the client on the whole connection; negative while messages wait.
    credit: i64,
    pub(super) send_window: i64,
    /// Frames ready to go, in order, ahead of everything in the streams' queues.
    pub(super) output: Vec<u8>,
    /// Acks and resets in `output`.
    pub(super) control_replies: usize,
    /// Streams with something to send and window for it, in turn.
    pub(super) ready: VecDeque<Key>,
    /// Sum of `queue_bytes` of all streams.
    pub(super) queued_bytes: usize,
    /// Memory of what is queued on streams.
    pub(super) queue_memory: QueueMemory,
    /// Streams whose producers asked for room and have it.
    pub(super) rooms: VecDeque<StreamId>,
    pub(super) ping_guard: PingGuard,
    pub(super) cheap_frames: Bucket,
    late_frames: LateFrames,
    settings_frames: Bucket,
    /// Requests that came to nothing; one that was answered pays for one.
    pub(super) resets: Bucket,
    /// Input waits unread, by our own choice.
    is_held: bool,
    /// No new streams, for this bound: there is no memory for them.
    refuses_streams: Option<Bound>,
    received_at: Monotonic,
    keepalive_ping_at: Option<Monotonic>,
    /// Numbers for metrics.
    pub counters: Counters,
    /// Bounds that the client has reached.
    pub bounds: Bounds,
}

/// Payload of the PING that goes with a graceful GOAWAY.
const DRAIN_PING: [u8; 8] = *b"etchdbye";
/// Payload of keepalive PINGs.
const KEEPALIVE_PING: [u8; 8] = [0; 8];
/// How long the PING of a graceful GOAWAY may take.
const DRAIN_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Cheap frames that useful work pays for.
const CHEAP_FRAMES_EARNED: u32 = 2;

impl<T: Default> Connection<T> {
    /// A connection whose client has not sent anything yet. Our SETTINGS are ready to go.
    pub fn new(config: Config, now: Monotonic) -> Connection<T> {
        let mut output = Vec::with_capacity(256);
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, config.concurrent_streams_max),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (setting::MAX_FRAME_SIZE, FRAME_BYTES_MAX as u32),
            (setting::MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES_MAX as u32),
        ];
        frame::write_settings(&mut output, &settings);
        frame::write_window_update(&mut output, 0, CONNECTION_WINDOW_BYTES - INITIAL_WINDOW);
        Connection {
            config,
            phase: Phase::Open,
            reading: Reading::Preface { matched: 0 },
            settings_seen: false,
            settings_acked: false,
            handshake_until: now + Duration::from_secs(HANDSHAKE_SECONDS),
            partial: Vec::new(),
            partial_at: now,
            block: None,
            decoder: Decoder::default(),
            peer: PeerSettings::default(),
            streams: Streams::new(config.seed),
            stream_last: 0,
            receive_window: i64::from(CONNECTION_WINDOW_BYTES),
            credit: 0,
            send_window: i64::from(INITIAL_WINDOW),
            output,
            control_replies: 0,
            ready: VecDeque::new(),
            queued_bytes: 0,
            queue_memory: QueueMemory::default(),
            rooms: VecDeque::new(),
            ping_guard: PingGuard::default(),
            cheap_frames: Bucket::new(CHEAP_FRAMES_BURST, CHEAP_FRAMES_PER_SECOND, now),
            late_frames: LateFrames::default(),
            settings_frames: Bucket::new(SETTINGS_FRAMES_BURST, SETTINGS_FRAMES_PER_SECOND, now),
            resets: Bucket::new(RESETS_BURST, RESETS_PER_SECOND, now),
            is_held: false,
            refuses_streams: None,
            received_at: now,
            keepalive_ping_at: None,
            counters: Counters::default(),
            bounds: Bounds::default(),
        }
    }

    /// Takes bytes from the front of `input` until something is worth telling or the input is used up.
    /// Call again until it gives None.
    pub fn handle_bytes<'a>(
        &mut self,
        now: Monotonic,
        input: &mut &'a [u8],
        sink: &mut impl FieldSink,
    ) -> Option<Received<'a, T>> {
        if !input.is_empty() {
            self.received_at = now;
            self.keepalive_ping_at = None;
        }
        loop {
            if self.output.len() > OUTPUT_BYTES_MAX {
                self.close_for(Bound::Output, "answers are not taken");
            }
            if self.phase == Phase::Closed {
                *input = &[];
                return None;
            }
            let step = match self.reading {
                Reading::Preface { matched } => self.read_preface(matched, input),
                Reading::Head => self.read_head(now, input),
                Reading::Payload(head) => self.read_payload(now, head, input, sink),
                Reading::Data(part) => self.read_data(part, input),
            };
            match step {
                Ok(Step::Starved) => return None,
                Ok(Step::Done) => {}
                Ok(Step::Give(received)) => return Some(received),
                Err(fault) => {
                    if let Some(received) = self.punish(now, fault) {
                        return Some(received);
                    }
                }
            }
        }
    }

    /// To be called at [`Connection::next_timeout`] or later.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        if let Phase::Warned { until } = self.phase
            && until <= now
        {
            self.drain();
        }
        if self.phase == Phase::Closed {
            return;
        }
        if self.is_in_handshake() && self.handshake_until <= now {
            self.bounds.note(Bound::Handshake);
            self.close(Code::SettingsTimeout, "no SETTINGS, or no acknowledgement of ours, in time");
            return;
        }
        if self.unfinished_until().is_some_and(|until| until <= now) {
            self.close_for(Bound::SlowFrame, "a frame or header block is not finished in time");
            return;
        }
        match self.keepalive_ping_at {
            Some(sent) if sent + self.config.keepalive_timeout <= now => self.phase = Phase::Closed,
            None if self.received_at + self.config.keepalive_idle <= now => {
                frame::write_ping(&mut self.output, KEEPALIVE_PING);
                self.keepalive_ping_at = Some(now);
            }
            Some(_) | None => {}
        }
    }

    /// When `handle_timeout` has something to do.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        let keepalive = match self.keepalive_ping_at {
            Some(sent) => sent + self.config.keepalive_timeout,
            None => self.received_at + self.config.keepalive_idle,
        };
        let warned = match self.phase {
            Phase::Closed => return None,
            Phase::Warned { until } => Some(until),
            Phase::Open | Phase::Draining { .. } => None,
        };
        let handshake = self.is_in_handshake().then_some(self.handshake_until);
        [Some(keepalive), warned, handshake, self.unfinished_until()].into_iter().flatten().min()
    }

    /// Until when a frame or header block that has begun has to be complete. DATA may take its time: it is not
    /// kept here.
    fn unfinished_until(&self) -> Option<Monotonic> {
        if self.is_held {
            return None;
        }
        let begun_at = match (&self.block, self.reading) {
            (Some(block), _) => block.begun_at,
            (None, Reading::Payload(_)) => self.partial_at,
            (None, Reading::Head) if !self.partial.is_empty() => self.partial_at,
            (None, Reading::Head | Reading::Preface { .. } | Reading::Data(_)) => return None,
        };
        Some(begun_at + Duration::from_secs(UNFINISHED_FRAME_SECONDS))
    }

    /// Begins a graceful end: the client is told, open streams finish.
    pub fn go_away_graceful(&mut self, now: Monotonic) {
        if self.phase != Phase::Open {
            return;
        }
        frame::write_goaway(&mut self.output, WINDOW_MAX as u32, Code::NoError, b"graceful_stop");
        frame::write_ping(&mut self.output, DRAIN_PING);
        self.phase = Phase::Warned { until: now + DRAIN_PING_TIMEOUT };
    }

    /// Ends the connection at once, with a reason for the client.
    pub fn close(&mut self, code: Code, text: &str) {
        if self.phase != Phase::Closed {
            frame::write_goaway(&mut self.output, self.stream_last, code, text.as_bytes());
            self.phase = Phase::Closed;
        }
    }

    /// The same for a bound.
    pub fn close_for(&mut self, bound: Bound, text: &str) {
        if self.phase != Phase::Closed {
            self.bounds.note(bound);
            self.close(Code::EnhanceYourCalm, text);
        }
    }

    /// Whether input waits that was not handled yet: what has begun in it is given its time when it goes on.
    pub fn hold(&mut self, now: Monotonic, is_held: bool) {
        if std::mem::replace(&mut self.is_held, is_held) && !is_held {
            self.partial_at = now;
            if let Some(block) = &mut self.block {
                block.begun_at = now;
            }
        }
    }

    /// From now on new streams are refused for this bound, or no more.
    pub fn refuse_streams(&mut self, bound: Option<Bound>) {
        self.refuses_streams = bound;
    }

    /// Work was dropped because of the client, without a frame of its that says so. False: that was once too
    /// often, and the connection is closed.
    pub fn charge_reset(&mut self) -> bool {
        let admitted = self.resets.take(self.received_at);
        if !admitted {
            self.close_for(Bound::Resets, "too many requests that came to nothing");
        }
        admitted
    }

    /// Until when new requests have to wait, because so many before them came to nothing.
    pub fn delayed_until(&mut self, now: Monotonic) -> Option<Monotonic> {
        let delayed = self.resets.missing(now) > RESETS_UNDELAYED_MAX;
        delayed.then(|| self.resets.refilled_until(RESETS_UNDELAYED_MAX))
    }

    /// True when no more input is taken: what `poll_transmit` still gives is the last of it.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// True until the client's preface, its first SETTINGS and the acknowledgement of ours have come.
    pub fn is_in_handshake(&self) -> bool {
        !self.settings_seen || !self.settings_acked
    }

    /// False while the client doesn't take what it caused us to send: reading on would only add to it.
    pub fn wants_read(&self) -> bool {
        self.output.len() < OUTPUT_BYTES_MAX / 4
    }

    /// Bytes in the output, and the control replies among them.
    #[cfg(any(test, feature = "testing"))]
    pub fn output_queue(&self) -> (usize, usize) {
        (self.output.len(), self.control_replies)
    }

    /// How far the client has gone towards its bounds at this moment: names, what is used, the bound.
    #[cfg(test)]
    pub(crate) fn levels(&mut self, now: Monotonic) -> Vec<(&'static str, usize, usize)> {
        vec![
            ("cheap_frames", self.cheap_frames.missing(now) as usize, CHEAP_FRAMES_BURST as usize),
            ("settings", self.settings_frames.missing(now) as usize, SETTINGS_FRAMES_BURST as usize),
            ("resets", self.resets.missing(now) as usize, RESETS_BURST as usize),
            ("resets undelayed", self.resets.missing(now) as usize, RESETS_UNDELAYED_MAX as usize),
            ("control_replies", self.control_replies, CONTROL_REPLIES_MAX),
            ("output", self.output.len(), OUTPUT_BYTES_MAX),
            ("pings", self.ping_guard.strikes() as usize, 2),
            ("streams", self.streams.len(), STREAMS_LIVE_MAX),
        ]
    }

    /// Number of live streams.
    pub fn streams_live(&self) -> usize {
        self.streams.len()
    }

    /// The handle of a live stream.
    pub fn find(&mut self, stream: StreamId) -> Option<Key> {
        self.streams.find(stream.0)
    }

    /// What the application keeps about a live stream.
    pub fn app(&self, key: Key) -> Option<&T> {
        self.streams.get(key).map(|stream| &stream.app)
    }

    /// What the application keeps about a live stream, to change.
    pub fn app_mut(&mut self, key: Key) -> Option<&mut T> {
        self.streams.get_mut(key).map(|stream| &mut stream.app)
    }

    /// The stream of a live handle.
    pub fn stream_of(&self, key: Key) -> Option<StreamId> {
        self.streams.get(key).map(|stream| StreamId(stream.id))
    }

    /// Takes all live streams out, for the end of the connection.
    pub fn take_all(&mut self) -> Vec<(StreamId, T)> {
        (self.queued_bytes, self.queue_memory) = (0, QueueMemory::default());
        self.ready.clear();
        let keys = self.streams.keys();
        let taken = keys.into_iter().filter_map(|key| self.streams.remove(key, Finish::ByPeer));
        taken.map(|stream| (StreamId(stream.id), stream.app)).collect()
    }

    /// Bytes of received data need no memory of the connection any more; negative when they need it again. Sends
    /// WINDOW_UPDATE once half of the window is owed.
    pub fn credit(&mut self, bytes: i64) {
        self.credit += bytes;
        if self.credit >= i64::from(CONNECTION_WINDOW_BYTES / 2) {
            self.receive_window += self.credit;
            frame::write_window_update(&mut self.output, 0, self.credit as u32);
            self.credit = 0;
        }
    }

    /// The same for the window of a stream.
    pub fn credit_stream(&mut self, key: Key, bytes: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.credit += window_bytes(bytes);
        // A request that has ended needs no window.
        if stream.credit >= window_bytes(STREAM_WINDOW_BYTES as usize / 2) && stream.state == State::Open {
            stream.receive_window += stream.credit;
            frame::write_window_update(&mut self.output, stream.id, stream.credit.unsigned_abs());
            stream.credit = 0;
        }
    }

    /// Bytes that the client may still send on a stream without another word of ours.
    pub fn stream_window(&self, key: Key) -> usize {
        self.streams.get(key).map_or(0, |stream| usize::try_from(stream.receive_window).unwrap_or(0))
    }

    /// Opens a stream's window by so much in advance: what comes is credited later as all else.
    pub fn lend_window(&mut self, key: Key, bytes: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if bytes > 0 && stream.state == State::Open {
            stream.receive_window += window_bytes(bytes);
            stream.credit -= window_bytes(bytes);
            frame::write_window_update(&mut self.output, stream.id, window_bytes(bytes).unsigned_abs());
        }
    }

    fn read_preface(&mut self, matched: usize, input: &mut &[u8]) -> Result<Step<'static, T>, Fault> {
        let expected = &PREFACE[matched..];
        let count = expected.len().min(input.len());
        if input[..count] != expected[..count] {
            return Err(Fault::protocol("not the HTTP/2 preface"));
        }
        *input = &input[count..];
        if matched + count < PREFACE.len() {
            self.reading = Reading::Preface { matched: matched + count };
            return Ok(Step::Starved);
        }
        self.reading = Reading::Head;
        Ok(Step::Done)
    }

    fn read_head<'a>(&mut self, now: Monotonic, input: &mut &'a [u8]) -> Result<Step<'a, T>, Fault> {
        let head = if self.partial.is_empty()
            && let Some((bytes, rest)) = input.split_first_chunk::<HEAD_BYTES>()
        {
            *input = rest;
            FrameHead::parse(bytes)
        } else {
            if !self.gather(now, HEAD_BYTES, input) {
                return Ok(Step::Starved);
            }
            let bytes = *self.partial.first_chunk().expect("gathered a whole head");
            self.partial.clear();
            FrameHead::parse(&bytes)
        };
        self.counters.frames_received += 1;
        self.check_order(head)?;
        self.reading = Reading::Payload(head);
        if head.kind == kind::DATA {
            let part = self.begin_data(now, head)?;
            self.reading = Reading::Data(part);
        }
        Ok(Step::Done)
    }

    /// What must not come here, whatever is in it.
    fn check_order(&mut self, head: FrameHead) -> Result<(), Fault> {
        if head.length as usize > FRAME_BYTES_MAX {
            return Err(Fault::Connection(Code::FrameSize, "frame above MAX_FRAME_SIZE"));
        }
        // Section 3.4: SETTINGS come first.
        if !self.settings_seen && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fault::protocol("first frame is not SETTINGS"));
        }
        self.settings_seen = true;
        // Section 6.10: nothing interrupts a header block.
        match &self.block {
            Some(block) if head.kind != kind::CONTINUATION || head.stream != block.stream => {
                Err(Fault::protocol("header block interrupted"))
            }
            None if head.kind == kind::CONTINUATION => Err(Fault::protocol("CONTINUATION without HEADERS")),
            Some(_) | None => Ok(()),
        }
    }

    /// Moves input to `partial` until that holds `bytes`; true when it does.
    fn gather(&mut self, now: Monotonic, bytes: usize, input: &mut &[u8]) -> bool {
        if self.partial.is_empty() {
            self.partial_at = now;
        }
        let count = (bytes - self.partial.len()).min(input.len());
        self.partial.extend_from_slice(&input[..count]);
        *input = &input[count..];
        self.partial.len() == bytes
    }

    fn read_payload(
        &mut self,
        now: Monotonic,
        head: FrameHead,
        input: &mut &[u8],
        sink: &mut impl FieldSink,
    ) -> Result<Step<'static, T>, Fault> {
        let length = head.length as usize;
        if self.partial.is_empty() && input.len() >= length {
            let (payload, rest) = input.split_at(length);
            *input = rest;
            self.reading = Reading::Head;
            return self.frame(now, head, payload, sink);
        }
        if !self.gather(now, length, input) {
            return Ok(Step::Starved);
        }
        self.reading = Reading::Head;
        let payload = std::mem::take(&mut self.partial);
        let step = self.frame(now, head, &payload, sink);
        // Keep the memory of ordinary frames only.
        if payload.capacity() <= 2_048 {
            self.partial = payload;
            self.partial.clear();
        }
        step
    }

    /// A whole frame other than DATA.
    fn frame(
        &mut self,
        now: Monotonic,
        head: FrameHead,
        payload: &[u8],
        sink: &mut impl FieldSink,
    ) -> Result<Step<'static, T>, Fault> {
        match head.kind {
            kind::HEADERS => return self.headers(now, head, payload, sink),
            kind::CONTINUATION => return self.continuation(now, head, payload, sink),
            kind::RST_STREAM => return self.reset_received(now, head, payload),
            kind::WINDOW_UPDATE => self.window_update(now, head, payload)?,
            kind::SETTINGS => self.settings(now, head, payload)?,
            kind::PING => self.ping(now, head, payload)?,
            kind::PRIORITY => self.priority(now, head, payload)?,
            kind::GOAWAY => {
                if head.stream != 0 {
                    return Err(Fault::protocol("GOAWAY on a stream"));
                }
                if payload.len() < 8 {
                    return Err(Fault::Connection(Code::FrameSize, "GOAWAY of a wrong length"));
                }
                self.charge_cheap(now)?;
            }
            kind::PUSH_PROMISE => return Err(Fault::protocol("PUSH_PROMISE of a client")),
            // Section 4.1: unknown types are ignored.
            _ => self.charge_cheap(now)?,
        }
        Ok(Step::Done)
    }

    fn begin_data(&mut self, now: Monotonic, head: FrameHead) -> Result<DataPart, Fault> {
        let length = head.length as usize;
        if head.stream == 0 {
            return Err(Fault::protocol("DATA on stream 0"));
        }
        if head.has(flag::PADDED) && length == 0 {
            return Err(Fault::Connection(Code::FrameSize, "padded DATA without a length"));
        }
        let end = head.has(flag::END_STREAM);
        if length == 0 && !end {
            self.charge_cheap(now)?;
        }
        self.counters.data_bytes_received += u64::from(head.length);
        // Section 6.9: padding counts, and so do frames of streams that are over.
        self.receive_window -= i64::from(head.length);
        if self.receive_window < 0 {
            return Err(Fault::Connection(Code::FlowControl, "connection window exceeded"));
        }
        let part =
            DataPart { key: None, left: length, pad_length_due: head.has(flag::PADDED), padding: 0, end };
        let key = self.data_target(now, head);
        match key {
            Ok(Some(_)) if length > 0 => self.cheap_frames.earn(CHEAP_FRAMES_EARNED),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => self.credit(i64::from(head.length)),
        }
        // Set first: after a fault of the stream its bytes are skipped all the same.
        self.reading = Reading::Data(part);
        Ok(DataPart { key: key?, ..part })
    }

    /// The stream that a DATA frame belongs to, None when it is to be skipped.
    fn data_target(&mut self, now: Monotonic, head: FrameHead) -> Result<Option<Key>, Fault> {
        let Some(key) = self.streams.find(head.stream) else {
            self.absent(now, head.stream, "DATA")?;
            return match self.streams.finish_of(head.stream) {
                Some(Finish::Early) => Ok(None),
                _ if self.is_beyond_drain(head.stream) => Ok(None),
                // Forgotten. We may have ended it early, as by a deadline, with the request still under way.
                None => Ok(None),
                Some(Finish::Complete | Finish::ByPeer) => {
                    Err(Fault::Stream(head.stream, Code::StreamClosed))
                }
            };
        };
        let stream = self.streams.get_mut(key).expect("found alive");
        if stream.state == State::HalfClosed {
            return Err(Fault::Stream(head.stream, Code::StreamClosed));
        }
        stream.receive_window -= i32::try_from(head.length).expect("frames are short");
        if stream.receive_window < 0 {
            return Err(Fault::Stream(head.stream, Code::FlowControl));
        }
        Ok(Some(key))
    }

    fn read_data<'a>(&mut self, mut part: DataPart, input: &mut &'a [u8]) -> Result<Step<'a, T>, Fault> {
        if part.pad_length_due {
            let Some((&padding, rest)) = input.split_first() else { return Ok(Step::Starved) };
            *input = rest;
            part.left -= 1;
            part.pad_length_due = false;
            part.padding = usize::from(padding);
            if part.padding > part.left {
                return Err(Fault::protocol("padding longer than the frame"));
            }
            if let Some(key) = part.key {
                self.credit(1 + i64::from(padding));
                self.credit_stream(key, 1 + usize::from(padding));
            }
        }
        let data = part.left - part.padding;
        if part.left > 0 && input.is_empty() {
            self.reading = Reading::Data(part);
            return Ok(Step::Starved);
        }
        let (bytes, rest) = input.split_at(data.min(input.len()));
        *input = rest;
        part.left -= bytes.len();
        if part.left == part.padding {
            let skipped = part.padding.min(input.len());
            *input = &input[skipped..];
            part.left -= skipped;
            part.padding -= skipped;
        }
        let complete = part.left == 0;
        self.reading = if complete { Reading::Head } else { Reading::Data(part) };
        match part.key {
            Some(key) if !bytes.is_empty() || complete => self.data(key, bytes, complete && part.end),
            Some(_) | None => Ok(Step::Done),
        }
    }

    fn data<'a>(&mut self, key: Key, bytes: &'a [u8], end: bool) -> Result<Step<'a, T>, Fault> {
        let Some(stream) = self.streams.get_mut(key) else {
            // Finished by our answer while its frame was under way.
            self.credit(bytes.len() as i64);
            return Ok(Step::Done);
        };
        // Section 8.1.1: the body is as long as content-length says.
        if let Some(left) = &mut stream.body_left {
            let after = left.checked_sub(bytes.len() as u64).filter(|after| !end || *after == 0);
            let id = stream.id;
            match after {
                Some(after) => *left = after,
                None => {
                    self.credit(bytes.len() as i64);
                    return Err(Fault::Stream(id, Code::Protocol));
                }
            }
        }
        if end {
            stream.state = State::HalfClosed;
        }
        Ok(Step::Give(Received::Data { key, bytes, end }))
    }

    fn headers(
        &mut self,
        now: Monotonic,
        head: FrameHead,
        payload: &[u8],
        sink: &mut impl FieldSink,
    ) -> Result<Step<'static, T>, Fault> {
        // Section 5.1.1: clients use odd ids.
        if head.stream.is_multiple_of(2) {
            return Err(Fault::protocol("HEADERS on an even stream"));
        }
        let fragment = strip(head, payload)?;
        let end = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.block_complete(now, head.stream, end, fragment, sink);
        }
        let bytes = fragment.to_vec();
        self.block = Some(Block { stream: head.stream, end, bytes, continuations: 0, begun_at: now });
        Ok(Step::Done)
    }

    fn continuation(
        &mut self,
        now: Monotonic,
        head: FrameHead,
        payload: &[u8],
        sink: &mut impl FieldSink,
    ) -> Result<Step<'static, T>, Fault> {
        let mut block = self.block.take().expect("checked with the frame's head");
        block.continuations += 1;
        let bytes = block.bytes.len() + payload.len();
        if block.continuations > CONTINUATION_FRAMES_MAX || bytes > HEADER_BLOCK_BYTES_MAX {
            return Err(Fault::Bound(Bound::HeaderBlock, "header block too long"));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.block_complete(now, block.stream, block.end, &block.bytes, sink);
        }
        self.block = Some(block);
        Ok(Step::Done)
    }

    /// Decodes a block and opens or ends its stream.
    fn block_complete(
        &mut self,
        now: Monotonic,
        id: u32,
        end: bool,
        block: &[u8],
        sink: &mut impl FieldSink,
    ) -> Result<Step<'static, T>, Fault> {
        let live = self.streams.find(id);
        let part = match live {
            Some(_) => Part::Trailers,
            None if id > self.stream_last && !self.is_beyond_drain(id) => Part::Head,
            None => Part::Ignored,
        };
        // Blocks of refused streams too: the table has to stay in step.
        let mut judge = Judge::new(sink, part);
        self.decoder.decode(block, &mut judge).map_err(|error| match error {
            DecodeError::Malformed => Fault::Connection(Code::Compression, "header block"),
            DecodeError::ListTooLarge => Fault::Bound(Bound::HeaderList, "header list too large"),
        })?;
        let verdict = judge.finish().map_err(|_| Fault::Stream(id, Code::Protocol));
        match (part, live) {
            (Part::Head, _) => self.open(id, end, verdict),
            (_, Some(key)) => self.trailers(id, key, end, verdict),
            (_, None) => self.late_headers(now, id),
        }
    }

    fn open(
        &mut self,
        id: u32,
        end: bool,
        verdict: Result<Option<u64>, Fault>,
    ) -> Result<Step<'static, T>, Fault> {
        self.stream_last = id;
        let body_left = verdict?;
        if end && body_left.is_some_and(|length| length > 0) {
            return Err(Fault::Stream(id, Code::Protocol));
        }
        let streams_max = STREAMS_LIVE_MAX.min(self.config.concurrent_streams_max as usize);
        if self.streams.len() >= streams_max || self.refuses_streams.is_some() {
            self.counters.streams_refused += 1;
            self.bounds.note(self.refuses_streams.unwrap_or(Bound::Streams));
            frame::write_reset(&mut self.output, id, Code::RefusedStream);
            self.remember_early(id);
            return Ok(Step::Done);
        }
        self.cheap_frames.earn(CHEAP_FRAMES_EARNED);
        let send_window = i64::from(self.peer.initial_window);
        let mut stream = Stream::new(id, STREAM_WINDOW_BYTES, send_window);
        stream.body_left = body_left;
        stream.state = if end { State::HalfClosed } else { State::Open };
        let key = self.streams.insert(stream);
        self.counters.streams_opened += 1;
        Ok(Step::Give(Received::Head { stream: StreamId(id), key, end }))
    }

    /// A second block on a stream: trailers, which end the request (section 8.1).
    fn trailers(
        &mut self,
        id: u32,
        key: Key,
        end: bool,
        verdict: Result<Option<u64>, Fault>,
    ) -> Result<Step<'static, T>, Fault> {
        let stream = self.streams.get_mut(key).expect("found alive");
        if stream.state == State::HalfClosed {
            return Err(Fault::Stream(id, Code::StreamClosed));
        }
        verdict?;
        if !end || stream.body_left.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(id, Code::Protocol));
        }
        stream.state = State::HalfClosed;
        Ok(Step::Give(Received::End { key }))
    }

    /// HEADERS on a stream that is over, or that a GOAWAY excluded.
    fn late_headers(&mut self, now: Monotonic, id: u32) -> Result<Step<'static, T>, Fault> {
        if self.is_beyond_drain(id) {
            self.stream_last = self.stream_last.max(id);
            self.charge_cheap(now)?;
            return Ok(Step::Done);
        }
        match self.streams.finish_of(id) {
            Some(Finish::Early) => {
                self.charge_late(now)?;
                Ok(Step::Done)
            }
            Some(Finish::Complete | Finish::ByPeer) => {
                Err(Fault::Connection(Code::StreamClosed, "HEADERS on a closed stream"))
            }
            // Section 5.1.1: ids only grow.
            None => Err(Fault::protocol("stream id not above the last one")),
        }
    }

    fn reset_received(
        &mut self,
        now: Monotonic,
        head: FrameHead,
        payload: &[u8],
    ) -> Result<Step<'static, T>, Fault> {
        if payload.len() != 4 {
            return Err(Fault::Connection(Code::FrameSize, "RST_STREAM of a wrong length"));
        }
        let Some(key) = self.streams.find(head.stream) else {
            self.absent(now, head.stream, "RST_STREAM")?;
            return Ok(Step::Done);
        };
        self.counters.resets_received += 1;
        // Who took what was made of an answer has paid for it as for a whole one.
        let is_paid = self.streams.get(key).is_some_and(Stream::is_answer_taken);
        if !is_paid && !self.resets.take(now) {
            return Err(Fault::Bound(Bound::Resets, "too many resets"));
        }
        let stream = self.remove(key, Finish::ByPeer).expect("found alive");
        Ok(Step::Give(Received::Gone { stream: StreamId(stream.id), app: stream.app }))
    }

    /// A frame for a stream that is not live: idle ones are a fault, finished ones cost patience unless it may have
    /// been under way when we ended one.
    fn absent(&mut self, now: Monotonic, id: u32, what: &'static str) -> Result<(), Fault> {
        if id == 0 || id.is_multiple_of(2) || id > self.stream_last && !self.is_beyond_drain(id) {
            return Err(Fault::protocol(what));
        }
        self.charge_late(now)
    }

    fn window_update(&mut self, now: Monotonic, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        let bytes: [u8; 4] = payload
            .try_into()
            .map_err(|_| Fault::Connection(Code::FrameSize, "WINDOW_UPDATE of a wrong length"))?;
        let increment = i64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
        if head.stream == 0 {
            if increment == 0 {
                return Err(Fault::protocol("WINDOW_UPDATE of 0"));
            }
            if self.send_window > 0 || self.queued_bytes == 0 {
                self.charge_cheap(now)?;
            }
            self.send_window += increment;
            if self.send_window > WINDOW_MAX {
                return Err(Fault::Connection(Code::FlowControl, "connection window above 2^31-1"));
            }
            return Ok(());
        }
        let Some(key) = self.streams.find(head.stream) else {
            return self.absent(now, head.stream, "WINDOW_UPDATE on an idle stream");
        };
        let stream = self.streams.get_mut(key).expect("found alive");
        if increment == 0 {
            return Err(Fault::Stream(head.stream, Code::Protocol));
        }
        // What frees waiting data is not cheap: one-byte windows are legal.
        let idle = stream.send_window > 0 || stream.queue_bytes == 0;
        stream.send_window += increment;
        if stream.send_window > WINDOW_MAX {
            return Err(Fault::Stream(head.stream, Code::FlowControl));
        }
        self.make_ready(key);
        if idle { self.charge_cheap(now) } else { Ok(()) }
    }

    fn settings(&mut self, now: Monotonic, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            if std::mem::replace(&mut self.settings_acked, true) {
                self.charge_cheap(now)?;
            }
            return match payload {
                [] => Ok(()),
                _ => Err(Fault::Connection(Code::FrameSize, "SETTINGS ack with a payload")),
            };
        }
        if !self.settings_frames.take(now) {
            return Err(Fault::Bound(Bound::Settings, "too many SETTINGS"));
        }
        let before = i64::from(self.peer.initial_window);
        self.peer.update(payload)?;
        let change = i64::from(self.peer.initial_window) - before;
        if change != 0 {
            self.move_send_windows(change)?;
        }
        frame::write_settings_ack(&mut self.output);
        self.count_reply()
    }

    /// Section 6.9.2: a new initial window moves the windows of all streams.
    fn move_send_windows(&mut self, change: i64) -> Result<(), Fault> {
        for key in self.streams.keys() {
            let stream = self.streams.get_mut(key).expect("listed alive");
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                return Err(Fault::Connection(Code::FlowControl, "stream window above 2^31-1"));
            }
            self.make_ready(key);
        }
        Ok(())
    }

    fn ping(&mut self, now: Monotonic, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("PING on a stream"));
        }
        let payload: [u8; 8] =
            payload.try_into().map_err(|_| Fault::Connection(Code::FrameSize, "PING of a wrong length"))?;
        self.charge_cheap(now)?;
        if head.has(flag::ACK) {
            if payload == DRAIN_PING && matches!(self.phase, Phase::Warned { .. }) {
                self.drain();
            }
            return Ok(());
        }
        self.counters.pings_received += 1;
        frame::write_ping_ack(&mut self.output, payload);
        self.count_reply()?;
        if !self.ping_guard.admit(now, &self.config.ping_policy, self.streams.len() > 0) {
            return Err(Fault::Bound(Bound::Pings, "too_many_pings"));
        }
        Ok(())
    }

    /// Ignored (section 5.3.2), but its form is checked (section 6.3).
    fn priority(&mut self, now: Monotonic, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(Fault::protocol("PRIORITY on stream 0"));
        }
        self.charge_cheap(now)?;
        if payload.len() != 5 {
            return Err(Fault::Stream(head.stream, Code::FrameSize));
        }
        Ok(())
    }

    /// The second step of a graceful end.
    fn drain(&mut self) {
        frame::write_goaway(&mut self.output, self.stream_last, Code::NoError, b"graceful_stop");
        self.phase = Phase::Draining { last: self.stream_last };
        self.close_if_drained();
    }

    pub(super) fn close_if_drained(&mut self) {
        if matches!(self.phase, Phase::Draining { .. }) && self.streams.len() == 0 {
            self.phase = Phase::Closed;
        }
    }

    fn is_beyond_drain(&self, id: u32) -> bool {
        matches!(self.phase, Phase::Draining { last } if id > last)
    }

    /// Takes a stream out with what it had queued.
    pub(super) fn remove(&mut self, key: Key, finish: Finish) -> Option<Stream<T>> {
        let stream = self.streams.remove(key, finish)?;
        if finish == Finish::Early {
            self.late_frames.stream_ended();
        }
        self.queued_bytes -= stream.queue_bytes;
        *self.queue_memory.of(stream.is_endless) -= stream.queue_memory();
        if self.streams.len() == 0 {
            // A connection that was busy once keeps no memory for it.
            self.streams.trim();
        }
        self.close_if_drained();
        Some(stream)
    }

    /// A stream that never lived ends before its client knows.
    fn remember_early(&mut self, id: u32) {
        self.streams.remember(id, Finish::Early);
        self.late_frames.stream_ended();
    }

    /// A frame of a stream that is over.
    fn charge_late(&mut self, now: Monotonic) -> Result<(), Fault> {
        if self.late_frames.admit() { Ok(()) } else { self.charge_cheap(now) }
    }

    fn charge_cheap(&mut self, now: Monotonic) -> Result<(), Fault> {
        if self.cheap_frames.take(now) {
            return Ok(());
        }
        Err(Fault::Bound(Bound::CheapFrames, "too many frames without effect"))
    }

    fn count_reply(&mut self) -> Result<(), Fault> {
        self.control_replies += 1;
        if self.control_replies > CONTROL_REPLIES_MAX {
            return Err(Fault::Bound(Bound::ControlReplies, "replies are not taken"));
        }
        Ok(())
    }

    /// Answers a fault with RST_STREAM or GOAWAY.
    fn punish(&mut self, now: Monotonic, fault: Fault) -> Option<Received<'static, T>> {
        let (id, code) = match fault {
            Fault::Connection(code, text) => {
                self.bounds.note(if code == Code::Compression { Bound::Hpack } else { Bound::Protocol });
                self.close(code, text);
                return None;
            }
            Fault::Bound(bound, text) => {
                self.close_for(bound, text);
                return None;
            }
            Fault::Stream(id, code) => (id, code),
        };
        // A fault of a stream costs as much as a reset of the client: both make us drop work.
        if !self.resets.take(now) {
            self.close_for(Bound::Resets, "too many faults");
            return None;
        }
        self.counters.resets_sent += 1;
        frame::write_reset(&mut self.output, id, code);
        if let Err(Fault::Bound(bound, text)) = self.count_reply() {
            self.close_for(bound, text);
        }
        let Some(key) = self.streams.find(id) else {
            if id <= self.stream_last && self.streams.finish_of(id).is_none() {
                self.remember_early(id);
            }
            return None;
        };
        let stream = self.remove(key, Finish::Early).expect("found alive");
        Some(Received::Gone { stream: StreamId(id), app: stream.app })
    }
}

/// Bytes in a window.
fn window_bytes(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("windows stay below 2^31")
}

/// A HEADERS payload without padding and priority (section 6.2).
fn strip(head: FrameHead, payload: &[u8]) -> Result<&[u8], Fault> {
    const SHORT: Fault = Fault::Connection(Code::FrameSize, "HEADERS too short");
    let mut rest = payload;
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (&length, tail) = rest.split_first().ok_or(SHORT)?;
        (padding, rest) = (usize::from(length), tail);
    }
    if head.has(flag::PRIORITY) {
        rest = rest.get(5..).ok_or(SHORT)?;
    }
    let end = rest.len().checked_sub(padding).ok_or(Fault::protocol("padding longer than the frame"))?;
    Ok(&rest[..end])
}
