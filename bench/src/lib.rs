//! What the benches share: requests as a client sends them, a server without sockets and disk, filled stores.
//!
//! Owns: [`Client`] (the bytes of HTTP/2 requests), [`Server`] (a shard and the sequencer on one thread).
//! Takes: bytes. Gives: bytes. Always true: a log write is durable at once, so that only our own work is measured.
//! Not here: measuring.

pub mod process;

use std::time::Duration;

use bytes::Bytes;
use etchd::limits;
use etchd::pure::api::log_payload::RequestIds;
use etchd::pure::cluster::{Member, context};
use etchd::pure::front::{self, Front, Outgoing};
use etchd::pure::mvcc::Store;
use etchd::pure::node::{self, Effect, Node, View};
use etchd::pure::raft::{self, MemberId, Raft};
use etchd::pure::session::{self, Transmit};
use etchd::pure::wal::{BatchBuffer, Config, Identity, Outcome, Recovery, RecoveryStart, Writer};
use etchd::pure::watch::HubConfig;
use etchd::stdx::slab::{Key, Slab};
use etchd::stdx::time::Monotonic;

/// Requests per connection that come in one receive, as with 16 streams.
pub const TOGETHER: usize = 16;

/// A key as Kubernetes writes them.
pub fn key(number: u64) -> Vec<u8> {
    format!("/registry/pods/default/pod-{number:08}").into_bytes()
}

/// A protobuf field of bytes.
pub fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 128 {
        bytes.push(length as u8 | 128);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

/// A PutRequest.
pub fn put_request(key: &[u8], value: &[u8]) -> Vec<u8> {
    [field(1, key), field(2, value)].concat()
}

/// A client that repeats one method, as h2load does: after the first request all fields are in the HPACK table.
pub struct Client {
    path: &'static str,
    stream: u32,
}

impl Client {
    /// Of one method, such as `/etcdserverpb.KV/Put`.
    pub fn new(path: &'static str) -> Client {
        Client { path, stream: 1 }
    }

    /// Preface and SETTINGS.
    pub fn hello(&self) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&frame(4, 0, 0, &[]));
        // The acknowledgement of the server's.
        bytes.extend_from_slice(&frame(4, 1, 0, &[]));
        // A window for all answers to come.
        bytes.extend_from_slice(&frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
        bytes
    }

    /// The stream of the next request.
    pub fn next_stream(&self) -> u32 {
        self.stream
    }

    /// Appends a request with one message.
    pub fn request(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.append(message, 1, out);
    }

    /// Appends a request with one message, to which others may follow.
    pub fn begin(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.append(message, 0, out);
    }

    fn append(&mut self, message: &[u8], flags: u8, out: &mut Vec<u8>) {
        let stream = self.stream;
        self.stream += 2;
        if stream == 1 {
            put_frame(out, 1, 4, stream, &[&self.first_block()]);
        } else {
            put_frame(out, 1, 4, stream, &[&[0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]]);
        }
        put_frame(out, 0, flags, stream, &[&message_head(message), message]);
    }

    /// Some requests that arrive together.
    pub fn requests<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        messages.for_each(|message| self.request(message, &mut out));
        out
    }

    /// Literals that go into the table: the newest has index 62.
    fn first_block(&self) -> Vec<u8> {
        let literal = |head: &[u8], value: &str| [head, &[value.len() as u8], value.as_bytes()].concat();
        [
            vec![0x83, 0x86],
            literal(&[0x44], self.path),
            literal(&[0x41], "127.0.0.1:2379"),
            literal(&[0x5f], "application/grpc"),
            literal(&[0x40, 2, b't', b'e'], "trailers"),
            literal(&[0x7a], "h2load nghttp2/1.59.0"),
        ]
        .concat()
    }
}

/// A gRPC message with its prefix, not compressed.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&message_head(message), message].concat()
}

fn message_head(message: &[u8]) -> [u8; 5] {
    let [a, b, c, d] = (message.len() as u32).to_be_bytes();
    [0, a, b, c, d]
}

/// A frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame(&mut bytes, kind, flags, stream, &[payload]);
    bytes
}

/// Appends a frame whose payload is in parts.
fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A log writer on an empty log of a new member.
pub fn writer() -> Writer {
    let config = Config::standard();
    let recovery = Recovery::new(config, RecoveryStart::WHOLE, Vec::new()).expect("an empty directory");
    let Ok(Outcome::NoLog(none)) = recovery.finish() else { unreachable!("nothing is there") };
    let (_, resume) = none.create(&config, 1, Identity { cluster_id: 2, member_id: 1 });
    Writer::resume(config, resume)
}

/// Memory that a log batch is formed in.
#[derive(Default)]
pub struct BatchMemory(Vec<u8>);

impl BatchBuffer for BatchMemory {
    fn lend(&mut self, bytes: usize) -> &mut [u8] {
        self.0.clear();
        self.0.resize(bytes, 0);
        &mut self.0
    }
}

/// One core of a server without sockets and disk.
pub struct Server {
    front: Front,
    node: Node,
    view: View,
    connections: Slab<()>,
    transmit: Transmit,
    memory: BatchMemory,
    now: Monotonic,
}

impl Default for Server {
    fn default() -> Server {
        Server::new()
    }
}

impl Server {
    /// A new member that leads and is ready.
    pub fn new() -> Server {
        let urls = vec!["http://127.0.0.1:2379".to_owned()];
        let member = Member {
            id: 1,
            name: "m".into(),
            peer_urls: urls.clone(),
            client_urls: Vec::new(),
            is_learner: false,
        };
        let raft_config = raft::Config {
            id: MemberId(1),
            election_ticks: 10,
            pre_vote: true,
            uncommitted_bytes_max: limits::request::PROPOSAL_BYTES_OUTSTANDING_MAX,
            seed: 1,
        };
        let raft = Raft::bootstrap(raft_config, context::encode(&member).into());
        let node_config = node::Config {
            member_id: 1,
            name: "m".into(),
            client_urls: urls,
            cluster_version: "3.7.0".into(),
            election_timeout: Duration::from_secs(1),
            ttl_seconds_min: 2,
            hash_seed: 1,
        };
        let mut node = Node::new(node_config, raft, writer(), RequestIds::new(1, 0));
        let front = Front::new(front::Config {
            shard: 0,
            session: session::Config::new(front::resolve),
            cluster_id: 2,
            member_id: 1,
            txn_ops_max: 128,
            request_bytes_max: 1_572_864,
            version: "3.7.3",
            storage_version: "3.7.0",
            hub: HubConfig::new(1, 1_572_864, Duration::from_secs(600)),
            seed: 1,
            ids: RequestIds::new(2, 0),
        });
        let view = node.view();
        let mut server = Server {
            front,
            node,
            view,
            connections: Slab::default(),
            transmit: Transmit::new(limits::shard::SEND_BYTES_MAX, limits::shard::SEND_PIECES_MAX),
            memory: BatchMemory::default(),
            now: Monotonic(0),
        };
        for _ in 0..100 {
            server.turn();
        }
        assert!(server.node.is_ready(), "a sole member is ready after some turns");
        server
    }

    /// Connects a client.
    pub fn connect(&mut self) -> Key {
        let key = self.connections.insert(());
        assert!(self.front.handle_accepted(key, 0, self.now));
        key
    }

    /// Bytes of a client.
    pub fn receive(&mut self, connection: Key, bytes: &[u8]) {
        self.front.handle_bytes(connection, bytes, &self.view, self.now);
    }

    /// One turn of the core: proposals, log, apply, publication, answers. Gives the bytes sent.
    pub fn turn(&mut self) -> usize {
        self.now = self.now + Duration::from_micros(100);
        while let Some(wish) = self.front.poll_wish() {
            self.node.handle_ask(wish, self.now);
        }
        // Proposes and writes; then, as if the next turn, applies.
        let mut more = true;
        while more {
            more = self.node.turn(self.now);
            self.carry_out();
            while let Some(write) = self.node.poll_log_write(&mut self.memory) {
                self.node.handle_log_written(write.token, write.bytes, self.now);
                more = true;
            }
        }
        self.front.turn(&self.view, self.now);
        self.front.read(&self.view);
        let mut sent = 0;
        let mut budget = limits::shard::SEND_BYTES_PER_TURN;
        while let Some(outgoing) = self.front.poll_outgoing(&mut self.transmit, &mut budget) {
            if let Outgoing::Send(connection) = outgoing {
                let (copied, parts) = self.transmit.take();
                drop((parts, std::hint::black_box(copied)));
                sent += 1;
                self.front.handle_sent(connection, &self.view, self.now);
            }
        }
        sent
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::PrepareSegment(need) => self.node.handle_segment_ready(need.number),
                Effect::Publish(view) => self.view = *view,
                Effect::Retire(garbage) => drop(garbage),
                Effect::Reply(reply) => self.front.handle_reply(reply, &self.view),
            }
        }
    }

    /// Revision of the published view.
    pub fn revision(&self) -> i64 {
        self.view.kv.revision()
    }
}

/// A store of so many keys with values of 256 bytes, put in an order that is not theirs.
pub fn filled(keys: u64) -> Store {
    let mut store = Store::new(1);
    for number in 0..keys {
        store.put(&key(scattered(number, keys)), &[b'v'; 256], 0);
        store.end_txn();
    }
    store
}

/// A number below `count` for each number below it, each once, far from its neighbours.
pub fn scattered(number: u64, count: u64) -> u64 {
    // A prime that divides no round count.
    number.wrapping_mul(7_368_787) % count
}

/// A value as the store's clients send it.
pub fn value() -> Bytes {
    Bytes::from_static(&[b'v'; 256])
}
