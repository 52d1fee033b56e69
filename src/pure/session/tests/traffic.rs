//! Recorded traffic of real clients (tests/traffic) in virtual time: none of them may reach a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;

use super::super::{Bound, Code, Config, Protocol, Session, SessionEvent, StreamId, Transmit};
use crate::limits::http2::{CONTINUATION_FRAMES_MAX, HEADER_BLOCK_BYTES_MAX, HEADER_LIST_BYTES_MAX};
use crate::pure::front::resolve;
use crate::pure::wire::h2::frame::{FrameHead, HEAD_BYTES, PREFACE, flag, kind};
use crate::pure::wire::hpack::{Decoder, FieldSink};
use crate::stdx::time::Monotonic;

/// What a record is; the format is described in tests/traffic/record.py.
enum Record<'a> {
    Begin,
    Client(&'a [u8]),
    Server { kind: u8, flags: u8, stream: u32, length: usize },
    End,
}

/// All records with their connections and times.
fn records(bytes: &[u8]) -> Vec<(u8, Monotonic, Record<'_>)> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
    let (mut rest, mut now) = (bytes, Monotonic(0));
    let mut records = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<10>() {
        now = now + Duration::from_micros(u64::from(number(&head[2..6])));
        let (payload, after) = tail.split_at(number(&head[6..10]) as usize);
        let record = match head[0] {
            0 => Record::Begin,
            1 => Record::Client(payload),
            2 => Record::Server {
                kind: payload[0],
                flags: payload[1],
                stream: number(&payload[2..6]),
                length: number(&payload[6..10]) as usize,
            },
            _ => Record::End,
        };
        records.push((head[1], now, record));
        rest = after;
    }
    assert!(rest.is_empty(), "a record is cut");
    records
}

/// Sizes of a client's header lists.
#[derive(Default)]
struct ListBytes(usize);

impl FieldSink for ListBytes {
    fn classify(&self, _name: &[u8], _value: &[u8]) -> u32 {
        0
    }

    fn begin(&mut self) {}

    fn field(&mut self, _tag: u32, name: &[u8], value: &[u8]) {
        self.0 += name.len() + value.len() + 32;
    }
}

/// One connection: the session, and how far it was from its bounds at worst.
struct Replay {
    session: Session,
    transmit: Transmit,
    /// Bytes of the client of which no whole frame has come.
    rest: Vec<u8>,
    decoder: Decoder,
    block: Vec<u8>,
    continuations: usize,
    peaks: BTreeMap<&'static str, (usize, usize)>,
    answered: BTreeSet<u32>,
    calls: usize,
}

impl Replay {
    fn new(now: Monotonic) -> Replay {
        Replay {
            session: Session::new(Config::new(resolve), now),
            transmit: Transmit::new(256 * 1024, 64),
            rest: Vec::new(),
            decoder: Decoder::default(),
            block: Vec::new(),
            continuations: 0,
            peaks: BTreeMap::new(),
            answered: BTreeSet::new(),
            calls: 0,
        }
    }

    /// Bytes of the client, frame by frame, so that levels are seen where they are highest; the answers leave after
    /// all of them.
    fn client(&mut self, now: Monotonic, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut rest = std::mem::take(&mut self.rest);
        let mut used = 0;
        if rest.starts_with(PREFACE) {
            self.session.handle_bytes(now, PREFACE);
            used = PREFACE.len();
        }
        while let Some(head) = rest[used..].first_chunk::<HEAD_BYTES>() {
            let head = FrameHead::parse(head);
            let Some(frame) = rest[used..].get(..HEAD_BYTES + head.length as usize) else { break };
            self.note_block(head, &frame[HEAD_BYTES..]);
            self.session.handle_bytes(now, frame);
            self.note_levels(now);
            used += frame.len();
        }
        rest.drain(..used);
        self.rest = rest;
        self.settle();
    }

    /// Time goes on to `now`.
    fn wait(&mut self, now: Monotonic) {
        while let Some(at) = self.session.next_timeout().filter(|at| *at <= now) {
            self.session.handle_timeout(at);
            self.note_levels(at);
            self.settle();
        }
    }

    /// The server answered as it did then.
    fn server(&mut self, kind: u8, flags: u8, stream: u32, length: usize) {
        if kind == kind::DATA && length >= 5 {
            self.session.send_message(StreamId(stream), &vec![0; length - 5]);
        }
        if matches!(kind, kind::DATA | kind::HEADERS) && flags & flag::END_STREAM != 0 {
            self.session.send_status(StreamId(stream), Code::Ok, "");
            self.answered.insert(stream);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.calls +=
                usize::from(matches!(event, SessionEvent::Call { .. } | SessionEvent::Request { .. }));
        }
        loop {
            self.transmit.clear();
            self.session.poll_transmit(&mut self.transmit);
            if self.transmit.is_empty() {
                break;
            }
        }
    }

    fn note_block(&mut self, head: FrameHead, payload: &[u8]) {
        let mut payload = payload;
        match head.kind {
            kind::HEADERS => {
                (self.continuations, self.block) = (0, Vec::new());
                assert!(!head.has(flag::PADDED), "no client pads");
                payload = &payload[if head.has(flag::PRIORITY) { 5 } else { 0 }..];
            }
            kind::CONTINUATION => self.continuations += 1,
            _ => return,
        }
        self.block.extend_from_slice(payload);
        self.peak("header_block", self.block.len(), HEADER_BLOCK_BYTES_MAX);
        self.peak("continuations", self.continuations, CONTINUATION_FRAMES_MAX);
        if head.has(flag::END_HEADERS) {
            let mut list = ListBytes::default();
            self.decoder.decode(&self.block, &mut list).expect("clients' blocks decode");
            self.peak("header_list", list.0, HEADER_LIST_BYTES_MAX);
        }
    }

    fn note_levels(&mut self, now: Monotonic) {
        let Protocol::Http2(rpc) = &mut self.session.protocol else { return };
        for (name, used, bound) in rpc.levels(now) {
            self.peak(name, used, bound);
        }
    }

    fn peak(&mut self, name: &'static str, used: usize, bound: usize) {
        let peak = self.peaks.entry(name).or_insert((0, bound));
        peak.0 = peak.0.max(used);
    }
}

/// Replays a recording and says what was used of each bound at most. `expected` are bounds that the client went
/// beyond on purpose.
fn replay(name: &str, compressed: &[u8], expected: &[Bound]) -> BTreeMap<&'static str, (usize, usize)> {
    let mut bytes = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut bytes).expect("the recording is whole");
    let mut live: BTreeMap<u8, Replay> = BTreeMap::new();
    let mut peaks: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    let (mut totals, mut calls) = ([0; Bound::ALL.len()], 0);
    for (number, now, record) in records(&bytes) {
        live.values_mut().for_each(|replay| replay.wait(now));
        if matches!(record, Record::Begin) {
            live.insert(number, Replay::new(now));
        }
        let Some(replay) = live.get_mut(&number) else { continue };
        match record {
            Record::Begin => {}
            Record::Client(bytes) => replay.client(now, bytes),
            Record::Server { kind, flags, stream, length } => replay.server(kind, flags, stream, length),
            Record::End => {
                let mut ended = live.remove(&number).expect("it is there");
                calls += ended.calls;
                for (name, (used, bound)) in std::mem::take(&mut ended.peaks) {
                    let peak = peaks.entry(name).or_insert((0, bound));
                    peak.0 = peak.0.max(used);
                }
                ended.session.drain_bounds(&mut totals);
                assert!(
                    !ended.session.is_closed(),
                    "{name}: connection {number} was closed: {totals:?} {peaks:?}"
                );
            }
        }
    }
    println!("{name}: {calls} calls, used at most: {peaks:?}");
    assert!(calls > 500, "{name}: only {calls} calls: the recording is not what it should be");
    for ((bound, bound_name), count) in Bound::ALL.iter().zip(totals) {
        let wanted = expected.contains(bound);
        assert!(
            (count > 0) == wanted,
            "{name}: {bound_name} was reached {count} times; used at most: {peaks:?}"
        );
    }
    // Where a client comes near a bound, another one will reach it.
    for (bound, (used, max)) in &peaks {
        // The delay is no refusal: clients that time out together in an outage are meant to feel it.
        assert!(
            *bound == "resets undelayed" || used * 2 <= *max,
            "{name}: {bound} is used by {used} of {max}: {peaks:?}"
        );
    }
    peaks
}

#[test]
fn grpc_go_reaches_no_bound() {
    replay("grpc-go", include_bytes!("../../../../tests/traffic/grpc-go.gz"), &[]);
}

#[test]
fn grpc_core_reaches_no_bound() {
    replay("grpc-core", include_bytes!("../../../../tests/traffic/grpc-core.gz"), &[]);
}

#[test]
fn grpc_js_reaches_no_bound() {
    replay("grpc-js", include_bytes!("../../../../tests/traffic/grpc-js.gz"), &[]);
}

/// The shared client script, one of whose cases is a message that is too long.
#[test]
fn tonic_reaches_no_bound() {
    replay("tonic", include_bytes!("../../../../tests/traffic/tonic.gz"), &[Bound::MessageBytes]);
}
