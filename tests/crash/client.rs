//! A small blocking gRPC client with pipelining, on the crate's own codecs.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use etchd::pure::api::codec::{Encode, encode};
use etchd::pure::api::requests::{
    CompactionRequest, EmptyRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest,
};
use etchd::pure::wire::grpc::message;
use etchd::pure::wire::h2::frame::{self, FrameHead, HEAD_BYTES, PREFACE, flag, kind, setting};
use etchd::pure::wire::hpack::{Decoder, FieldSink};
use etchd::pure::wire::protobuf::{Reader, Value};
use etchd::testing::request;

/// Nothing here waits longer: the machine may be loaded, but an answer comes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// gRPC's code for a full store.
pub const RESOURCE_EXHAUSTED: u32 = 8;

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A port of 127.0.0.1.
    Tcp(u16),
    /// A socket file.
    Unix(PathBuf),
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// gRPC's code, 0 for success.
    pub code: u32,
    /// Its text, percent-encoding left as it is.
    pub text: String,
}

/// What has come in.
#[derive(Debug)]
pub enum Event {
    /// A message on a stream.
    Message(u32, Vec<u8>),
    /// A stream's end.
    End(u32, Status),
    /// The server takes no streams above this one.
    GoAway(u32),
}

/// Why a unary call gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server said so.
    Status(Status),
    /// The connection ended.
    Connection(#[expect(dead_code, reason = "shown by Debug")] io::Error),
}

trait Socket: Read + Write + Send {}

impl Socket for TcpStream {}

impl Socket for UnixStream {}

/// One connection.
pub struct Client {
    socket: Box<dyn Socket>,
    input: Vec<u8>,
    /// Bytes of `input` that were taken.
    taken: usize,
    output: Vec<u8>,
    decoder: Decoder,
    stream_next: u32,
    /// Parts of messages.
    bodies: HashMap<u32, Vec<u8>>,
    statuses: HashMap<u32, Status>,
    events: VecDeque<Event>,
    settings_came: bool,
    /// What may be sent on the connection.
    window: i64,
    /// What was received since the server was last told of it.
    received: u32,
}

/// Collects the status out of a head or trailers.
#[derive(Default)]
struct Fields(Status);

impl FieldSink for Fields {
    fn classify(&self, _name: &[u8], _value: &[u8]) -> u32 {
        0
    }

    fn begin(&mut self) {}

    fn field(&mut self, _tag: u32, name: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        match name {
            b"grpc-status" => self.0.code = text.parse().expect("a status is a number"),
            b"grpc-message" => self.0.text = text.into_owned(),
            _ => {}
        }
    }
}

impl Client {
    /// Connects and waits for the server's settings.
    pub fn connect(endpoint: &Endpoint) -> io::Result<Client> {
        let socket: Box<dyn Socket> = match endpoint {
            Endpoint::Tcp(port) => {
                let socket = TcpStream::connect(("127.0.0.1", *port))?;
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Box::new(socket)
            }
            Endpoint::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Box::new(socket)
            }
        };
        let mut client = Client {
            socket,
            input: Vec::new(),
            taken: 0,
            output: PREFACE.to_vec(),
            decoder: Decoder::default(),
            stream_next: 1,
            bodies: HashMap::new(),
            statuses: HashMap::new(),
            events: VecDeque::new(),
            settings_came: false,
            window: i64::from(frame::INITIAL_WINDOW),
            received: 0,
        };
        frame::write_settings(&mut client.output, &[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
        frame::write_window_update(&mut client.output, 0, 1 << 30);
        client.flush()?;
        while !client.settings_came {
            client.read_frame()?;
        }
        Ok(client)
    }

    /// Begins a call with its only message; see [`Client::flush`].
    pub fn call(&mut self, path: &str, message: &impl Encode) -> io::Result<u32> {
        let stream = self.head(path);
        self.message(stream, message, true)?;
        Ok(stream)
    }

    /// Begins a call of a stream, with its first message.
    pub fn open(&mut self, path: &str, message: &impl Encode) -> io::Result<u32> {
        let stream = self.head(path);
        self.message(stream, message, false)?;
        self.flush()?;
        Ok(stream)
    }

    fn head(&mut self, path: &str) -> u32 {
        let stream = self.stream_next;
        self.stream_next += 2;
        let block = request::block(path, "etchd", &[]);
        frame::write_headers(&mut self.output, stream, &block, false);
        stream
    }

    /// Another message on an open stream. The stream's own window, 1 MiB, is not counted: none here is longer.
    pub fn message(&mut self, stream: u32, message: &impl Encode, end: bool) -> io::Result<()> {
        let message = encode(message);
        let mut body = message::prefix(false, message.len()).to_vec();
        body.extend_from_slice(&message);
        assert!(body.len() < 1 << 20, "the message fits the stream's window");
        let mut rest = &body[..];
        while !rest.is_empty() {
            let length = rest.len().min(16 * 1024);
            while self.window < length as i64 {
                self.flush()?;
                self.read_frame()?;
            }
            let (part, after) = rest.split_at(length);
            frame::write_data_head(&mut self.output, stream, length, end && after.is_empty());
            self.output.extend_from_slice(part);
            self.window -= length as i64;
            rest = after;
        }
        Ok(())
    }

    /// Sends what was begun.
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.socket.write_all(&self.output);
        self.output.clear();
        written
    }

    /// The next event.
    pub fn next(&mut self) -> io::Result<Event> {
        self.flush()?;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.read_frame()?;
        }
    }

    /// True if [`Client::next`] has an event at hand.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next message of a stream; others' events are dropped.
    pub fn next_message(&mut self, stream: u32) -> Result<Vec<u8>, Failure> {
        loop {
            match self.next().map_err(Failure::Connection)? {
                Event::Message(at, message) if at == stream => return Ok(message),
                Event::End(at, status) if at == stream => return Err(Failure::Status(status)),
                _ => {}
            }
        }
    }

    /// A whole call.
    pub fn unary(&mut self, path: &str, message: &impl Encode) -> Result<Vec<u8>, Failure> {
        let stream = self.call(path, message).map_err(Failure::Connection)?;
        let mut answer = Vec::new();
        loop {
            match self.next().map_err(Failure::Connection)? {
                Event::Message(at, message) if at == stream => answer = message,
                Event::End(at, Status { code: 0, .. }) if at == stream => return Ok(answer),
                Event::End(at, status) if at == stream => return Err(Failure::Status(status)),
                _ => {}
            }
        }
    }

    fn need(&mut self, bytes: usize) -> io::Result<()> {
        if self.taken > 1 << 20 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let mut buffer = [0; 64 * 1024];
        while self.input.len() - self.taken < bytes {
            let count = self.socket.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&buffer[..count]);
        }
        Ok(())
    }

    fn read_frame(&mut self) -> io::Result<()> {
        self.need(HEAD_BYTES)?;
        let head: [u8; HEAD_BYTES] = self.input[self.taken..][..HEAD_BYTES].try_into().expect("as long");
        let head = FrameHead::parse(&head);
        self.need(HEAD_BYTES + head.length as usize)?;
        let start = self.taken + HEAD_BYTES;
        let payload = self.input[start..start + head.length as usize].to_vec();
        self.taken = start + payload.len();
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("4 bytes"));
        match head.kind {
            kind::SETTINGS if !head.has(flag::ACK) => {
                frame::write_settings_ack(&mut self.output);
                self.settings_came = true;
            }
            kind::PING if !head.has(flag::ACK) => {
                frame::write_ping_ack(&mut self.output, payload[..8].try_into().expect("8 bytes"));
                self.flush()?;
            }
            kind::WINDOW_UPDATE if head.stream == 0 => self.window += i64::from(number(0)),
            kind::GOAWAY => self.events.push_back(Event::GoAway(number(0) & 0x7fff_ffff)),
            kind::RST_STREAM => {
                let text = format!("reset with code {}", number(0));
                self.end_stream(head.stream, Status { code: u32::MAX, text });
            }
            kind::DATA => {
                self.data(head.stream, &payload);
                self.received += head.length;
                if self.received > 1 << 28 {
                    frame::write_window_update(&mut self.output, 0, std::mem::take(&mut self.received));
                    self.flush()?;
                }
            }
            kind::HEADERS => {
                let mut fields = Fields::default();
                self.decoder.decode(&payload, &mut fields).expect("the server's blocks decode");
                let status = self.statuses.entry(head.stream).or_default();
                if fields.0 != Status::default() {
                    *status = fields.0;
                }
            }
            _ => {}
        }
        if matches!(head.kind, kind::DATA | kind::HEADERS) && head.has(flag::END_STREAM) {
            let status = self.statuses.remove(&head.stream).unwrap_or_default();
            self.end_stream(head.stream, status);
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, payload: &[u8]) {
        let body = self.bodies.entry(stream).or_default();
        body.extend_from_slice(payload);
        while let Some(head) = body.get(1..message::PREFIX_BYTES) {
            let length = u32::from_be_bytes(head.try_into().expect("4 bytes")) as usize;
            let whole = message::PREFIX_BYTES + length;
            if body.len() < whole {
                return;
            }
            self.events.push_back(Event::Message(stream, body[message::PREFIX_BYTES..whole].to_vec()));
            body.drain(..whole);
        }
    }

    fn end_stream(&mut self, stream: u32, status: Status) {
        self.bodies.remove(&stream);
        self.events.push_back(Event::End(stream, status));
    }
}

/// Paths of calls.
pub mod path {
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    pub const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
    pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
}

/// The first field with this number that is an integer; 0 as in protobuf if there is none.
pub fn integer(message: &[u8], number: u32) -> i64 {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next().expect("the answer decodes") {
        if let (true, Value::Varint(value)) = (field.number == number, field.value) {
            return value.cast_signed();
        }
    }
    0
}

/// All fields with this number that are bytes.
pub fn nested(message: &[u8], number: u32) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next().expect("the answer decodes") {
        if let (true, Value::Bytes(bytes)) = (field.number == number, field.value) {
            found.push(bytes);
        }
    }
    found
}

/// A field of an answer's header: 1 cluster, 2 member, 3 revision, 4 term.
pub fn header(answer: &[u8], number: u32) -> i64 {
    nested(answer, 1).first().map_or(0, |header| integer(header, number))
}

/// The revision in an answer's header.
pub fn revision(answer: &[u8]) -> i64 {
    header(answer, 3)
}

/// A key as an answer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Its name.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Of its last change.
    pub mod_revision: i64,
    /// Changes since it was made.
    pub version: i64,
    /// 0 for none.
    pub lease: i64,
}

impl KeyValue {
    /// Reads an mvccpb.KeyValue.
    pub fn decode(message: &[u8]) -> KeyValue {
        let bytes = |number| nested(message, number).first().map(|bytes| bytes.to_vec()).unwrap_or_default();
        KeyValue {
            key: bytes(1),
            value: bytes(5),
            mod_revision: integer(message, 3),
            version: integer(message, 4),
            lease: integer(message, 6),
        }
    }
}

/// A put without options.
pub fn put(key: &[u8], value: &[u8]) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        ..PutRequest::default()
    }
}

/// A transaction of puts without conditions.
pub fn puts(puts: impl IntoIterator<Item = PutRequest>) -> TxnRequest {
    TxnRequest { success: puts.into_iter().map(RequestOp::Put).collect(), ..TxnRequest::default() }
}

/// A read of one key.
pub fn get(key: &[u8]) -> RangeRequest {
    RangeRequest { key: Bytes::copy_from_slice(key), ..RangeRequest::default() }
}

/// A read of all keys.
pub fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    }
}

/// A watch of all keys from now on.
pub fn watch_everything() -> WatchRequest {
    WatchRequest::Create(WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..WatchCreateRequest::default()
    })
}

/// The keys of a range's answer.
pub fn keys(answer: &[u8]) -> Vec<KeyValue> {
    nested(answer, 2).into_iter().map(KeyValue::decode).collect()
}

/// Index and term of the log, from the server's status.
pub fn raft_position(client: &mut Client) -> (i64, i64) {
    let status = client.unary(path::STATUS, &EmptyRequest).expect("the server says its status");
    (integer(&status, 5), integer(&status, 6))
}

/// Grants a lease; gives its id.
pub fn grant(client: &mut Client, ttl: i64) -> i64 {
    let answer = client.unary(path::GRANT, &LeaseGrantRequest { ttl, id: 0 }).expect("the lease is granted");
    integer(&answer, 2)
}

/// A compaction that waits for its end.
pub fn compaction(revision: i64) -> CompactionRequest {
    CompactionRequest { revision, physical: true }
}
