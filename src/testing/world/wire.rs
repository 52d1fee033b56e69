//! A client's HTTP/2 and gRPC, as little as the server has to talk to: requests to bytes, bytes to messages.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::pure::wire::grpc::message::{Assembler, prefix};
use crate::pure::wire::h2::error::Code;
use crate::pure::wire::h2::frame::{self, FrameHead, HEAD_BYTES, PREFACE, flag, kind, setting};
use crate::pure::wire::hpack::{Decoder, FieldSink};
use crate::testing::request;

/// A message is never longer than this here.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const FRAME_BYTES: usize = 16_384;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// The server's SETTINGS: requests may be sent.
    Ready,
    /// A message on a stream.
    Message { stream: u32, message: Bytes },
    /// The end of a stream with its gRPC status.
    Ended { stream: u32, code: u32, text: String },
    /// The stream was reset.
    Reset { stream: u32 },
    /// The stream was refused before anything was done about it.
    Refused { stream: u32 },
    /// No further streams; nothing was done about those above `last`.
    GoAway { last: u32 },
}

/// One connection's protocol state.
pub(super) struct Wire {
    out: Vec<u8>,
    input: Vec<u8>,
    decoder: Decoder,
    next_stream: u32,
    streams: BTreeMap<u32, Stream>,
    /// Whole DATA payloads that wait for the connection's window.
    waiting: VecDeque<(u32, Vec<u8>, bool)>,
    send_window: i64,
    window: u32,
}

#[derive(Default)]
struct Stream {
    assembler: Assembler,
    /// Bytes received whose window is not given back.
    owed: u32,
    /// The window is not given back for now.
    held: bool,
}

#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl FieldSink for Fields {
    fn classify(&self, _name: &[u8], _value: &[u8]) -> u32 {
        0
    }

    fn begin(&mut self) {}

    fn field(&mut self, _tag: u32, name: &[u8], value: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.push((text(name), text(value)));
    }
}

impl Wire {
    /// A connection that announces `window` for each stream.
    pub(super) fn new(window: u32) -> Wire {
        let mut out = PREFACE.to_vec();
        frame::write_settings(&mut out, &[(setting::INITIAL_WINDOW_SIZE, window)]);
        Wire {
            out,
            input: Vec::new(),
            decoder: Decoder::default(),
            next_stream: 1,
            streams: BTreeMap::new(),
            waiting: VecDeque::new(),
            send_window: i64::from(frame::INITIAL_WINDOW),
            window,
        }
    }

    /// Bytes to send.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Begins a call; its messages follow.
    pub(super) fn open(&mut self, path: &str) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.streams.insert(stream, Stream::default());
        let block = request::block(path, "member", &[]);
        frame::write_headers(&mut self.out, stream, &block, false);
        stream
    }

    /// Sends a message on a stream; `end`: the last one.
    pub(super) fn message(&mut self, stream: u32, message: &[u8], end: bool) {
        let bytes = [&prefix(false, message.len())[..], message].concat();
        let count = bytes.len().div_ceil(FRAME_BYTES);
        for (at, chunk) in bytes.chunks(FRAME_BYTES).enumerate() {
            self.waiting.push_back((stream, chunk.to_vec(), end && at + 1 == count));
        }
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        while let Some((stream, chunk, end)) = self.waiting.pop_front() {
            let length = i64::try_from(chunk.len()).expect("a frame is short");
            if length > self.send_window {
                self.waiting.push_front((stream, chunk, end));
                return;
            }
            self.send_window -= length;
            frame::write_data_head(&mut self.out, stream, chunk.len(), end);
            self.out.extend_from_slice(&chunk);
        }
    }

    /// Gives a stream up.
    pub(super) fn cancel(&mut self, stream: u32) {
        if self.forget(stream) {
            frame::write_reset(&mut self.out, stream, Code::Cancel);
        }
    }

    /// A stream is over; false if it was so before.
    pub(super) fn forget(&mut self, stream: u32) -> bool {
        self.waiting.retain(|(of, ..)| *of != stream);
        self.streams.remove(&stream).is_some()
    }

    /// Stops or goes on giving a stream's window back.
    pub(super) fn hold(&mut self, stream: u32, held: bool) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.held = held;
        if !held && state.owed > 0 {
            frame::write_window_update(&mut self.out, stream, std::mem::take(&mut state.owed));
        }
    }

    /// Takes bytes of the server.
    pub(super) fn receive(&mut self, bytes: &[u8], got: &mut Vec<Got>) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((head, tail)) = rest.split_first_chunk::<HEAD_BYTES>() {
            let head = FrameHead::parse(head);
            let Some((payload, after)) = tail.split_at_checked(head.length as usize) else { break };
            self.frame(head, payload, got);
            rest = after;
        }
        self.input = rest.to_vec();
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8], got: &mut Vec<Got>) {
        let number = || payload.first_chunk::<4>().map_or(0, |four| u32::from_be_bytes(*four));
        match head.kind {
            kind::SETTINGS if !head.has(flag::ACK) => {
                frame::write_settings_ack(&mut self.out);
                got.push(Got::Ready);
            }
            kind::PING if !head.has(flag::ACK) => {
                frame::write_ping_ack(&mut self.out, payload.try_into().expect("a PING has eight bytes"));
            }
            kind::WINDOW_UPDATE if head.stream == 0 => {
                self.send_window += i64::from(number());
                self.send_waiting();
            }
            kind::GOAWAY => got.push(Got::GoAway { last: number() & (u32::MAX >> 1) }),
            kind::RST_STREAM if self.streams.contains_key(&head.stream) => {
                let stream = head.stream;
                let refused = number() == Code::RefusedStream as u32;
                self.forget(stream);
                got.push(if refused { Got::Refused { stream } } else { Got::Reset { stream } });
            }
            kind::HEADERS => self.headers(head, payload, got),
            kind::DATA => self.data(head, payload, got),
            _ => {}
        }
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8], got: &mut Vec<Got>) {
        assert!(head.has(flag::END_HEADERS), "the server's header blocks are short");
        let mut fields = Fields::default();
        self.decoder.decode(payload, &mut fields).expect("the server's header blocks are HPACK");
        if !self.streams.contains_key(&head.stream) || !head.has(flag::END_STREAM) {
            return;
        }
        let find =
            |wanted: &str| fields.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let code =
            find("grpc-status").and_then(|code| code.parse().ok()).expect("an answer ends with a status");
        self.streams.remove(&head.stream);
        got.push(Got::Ended { stream: head.stream, code, text: find("grpc-message").unwrap_or_default() });
    }

    fn data(&mut self, head: FrameHead, payload: &[u8], got: &mut Vec<Got>) {
        if head.length > 0 {
            frame::write_window_update(&mut self.out, 0, head.length);
        }
        let window = self.window;
        let Some(state) = self.streams.get_mut(&head.stream) else { return };
        let mut rest = payload;
        while !rest.is_empty() {
            match state
                .assembler
                .feed(&mut rest, MESSAGE_BYTES_MAX)
                .expect("the server's messages are shorter")
            {
                Some(framed) => got.push(Got::Message { stream: head.stream, message: framed.bytes }),
                None => break,
            }
        }
        assert!(!head.has(flag::END_STREAM), "gRPC answers end with trailers");
        state.owed += head.length;
        if !state.held && state.owed > window / 4 {
            frame::write_window_update(&mut self.out, head.stream, std::mem::take(&mut state.owed));
        }
    }
}
