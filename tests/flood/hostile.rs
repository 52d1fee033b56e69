//! One hostile client, one client that behaves, and what both must find.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etchd::pure::wire::grpc::message;
use etchd::pure::wire::h2::frame::{self, FrameHead, HEAD_BYTES, PREFACE, flag, kind, setting};
use etchd::testing::request;

use crate::crash::client::{PATIENCE, path, put, puts};
use crate::crash::server::{Server, on};
use crate::crash::system::{Scratch, free_port};

/// Frames that a flood sends at least.
pub const FRAMES: u64 = 1_000_000;
/// When it ends whatever the client that behaves has done until then.
const FRAMES_MAX: u64 = 2 * FRAMES;
/// What the client that behaves puts meanwhile.
pub const PUTS: usize = 1_000;
/// What the server's resident memory may grow by at any moment of a flood.
pub const GROWTH_BYTES_MAX: u64 = 8 << 20;
/// Bytes written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// After this a client that reads no answers, and whose frames are no longer taken, tries a new connection.
const STUCK: Duration = Duration::from_millis(50);
/// How long a server does less than a tenth of a core's work until it counts as idle. Others may be busy, so that one
/// with work gets less than a core.
const IDLE: Duration = Duration::from_millis(300);
/// Times what memory may grow by at most: when it has, there is nothing more to wait for.
const HOPELESS: u64 = 8;
/// Bytes of the values that are listed.
const LISTED_VALUE_BYTES: usize = 100;

/// Frames under way to the server, and where the connection's numbers stand.
pub struct Wire {
    /// The bytes.
    pub out: Vec<u8>,
    /// Frames in all.
    pub frames: u64,
    /// The next stream of this connection.
    pub stream: u32,
}

impl Wire {
    /// A frame of any kind.
    pub fn raw(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("frames are short");
        self.out.extend_from_slice(&FrameHead { length, kind, flags, stream }.to_bytes());
        self.out.extend_from_slice(payload);
        self.frames += 1;
    }

    /// True before the connection's first stream.
    pub fn is_new(&self) -> bool {
        self.stream == 1
    }

    /// A stream id that was not used yet.
    pub fn open(&mut self) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        stream
    }

    /// HEADERS of a call.
    pub fn call(&mut self, path: &str, extra: &[(&str, &str)]) -> u32 {
        let stream = self.open();
        self.raw(kind::HEADERS, flag::END_HEADERS, stream, &head(path, extra));
        stream
    }

    /// DATA with one message.
    pub fn message(&mut self, stream: u32, message: &[u8], end: bool) {
        self.data(stream, false, message, end);
    }

    /// DATA with one message that was compressed, on a call that says so.
    pub fn compressed_message(&mut self, stream: u32, message: &[u8], end: bool) {
        self.data(stream, true, message, end);
    }

    fn data(&mut self, stream: u32, compressed: bool, message: &[u8], end: bool) {
        let mut body = message::prefix(compressed, message.len()).to_vec();
        body.extend_from_slice(message);
        self.raw(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, &body);
    }

    /// RST_STREAM with CANCEL.
    pub fn reset(&mut self, stream: u32) {
        self.raw(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }

    /// WINDOW_UPDATE.
    pub fn window(&mut self, stream: u32, increment: u32) {
        self.raw(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    }
}

/// The header block of a call.
pub fn head(path: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    request::block(path, "etchd", extra)
}

/// Which bounds an attack meets.
pub enum Breach {
    /// It must raise this counter of `/metrics`.
    Of(&'static str),
    /// It stays within all bounds.
    Nothing,
    /// Where the server stops it is the server's choice.
    Any,
}

/// What an attack is.
pub struct Attack {
    /// Settings that its connections begin with.
    pub settings: Vec<(u16, u32)>,
    /// Whether it reads what it is sent.
    pub reads: bool,
    /// Frames in all.
    pub frames: u64,
    /// Keys in the key space, named `listed/`, before it begins: with values of 100 bytes, all different.
    pub keys: usize,
    /// Whether it is about the answers: each connection is kept until the server has made all that it makes, and
    /// there is a new one when no more requests are taken.
    pub waits: bool,
    /// The bounds that it meets.
    pub breach: Breach,
    /// How much resident memory may grow by.
    pub growth_bytes_max: u64,
}

impl Attack {
    /// One that reads, and goes beyond this bound.
    pub fn beyond(breach: &'static str) -> Attack {
        Attack {
            settings: vec![(setting::INITIAL_WINDOW_SIZE, 1 << 30)],
            reads: true,
            frames: FRAMES,
            keys: 0,
            waits: false,
            breach: Breach::Of(breach),
            growth_bytes_max: GROWTH_BYTES_MAX,
        }
    }

    /// One that reads, and stays within all bounds.
    pub fn within() -> Attack {
        Attack { breach: Breach::Nothing, ..Attack::beyond("") }
    }

    /// One that asks so often for answers from so many keys, with a call and a message each, and takes none: no
    /// stream has a window. Each request is dear, so that they are fewer than a million.
    pub fn untaken(keys: usize, requests: u64) -> Attack {
        Attack {
            settings: vec![(setting::INITIAL_WINDOW_SIZE, 0)],
            frames: 2 * requests,
            keys,
            waits: true,
            breach: Breach::Any,
            ..Attack::within()
        }
    }

    /// The same with open windows, but the answers stay in the socket.
    pub fn unread(keys: usize, requests: u64) -> Attack {
        Attack { settings: Attack::within().settings, reads: false, ..Attack::untaken(keys, requests) }
    }
}

/// What the hostile client saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections that it made.
    pub connections: u64,
    /// Frames that it sent.
    pub frames: u64,
    /// Frames that it received, by kind.
    pub received: BTreeMap<u8, u64>,
}

/// A server that was warmed up.
pub struct Target {
    /// It.
    pub server: Server,
    /// Its port.
    pub port: u16,
    baseline: u64,
    scratch: Scratch,
}

impl Target {
    /// Starts one and lets it serve some calls, so that what every server needs is resident.
    pub fn start(name: &str) -> Target {
        Target::start_with_keys(name, 0)
    }

    /// The same with so many keys to be listed.
    pub fn start_with_keys(name: &str, keys: usize) -> Target {
        let (scratch, port) = (Scratch::new(name), free_port());
        let data = scratch.0.join("data");
        // Syncs have nothing to do with floods, but would take most of the time.
        // Bounds are those of a shard.
        let arguments = ["--unsafe-no-fsync", "--shards", "1"];
        let server = Server::start_with(on(&data, port).args(arguments), port);
        serve(&server, 200);
        put_listed(&server, keys);
        http1(port, "/metrics");
        let baseline = server.resident_bytes();
        Target { server, port, baseline, scratch }
    }

    /// What the server's memory has grown by at most since the warm-up.
    pub fn growth_bytes(&self) -> u64 {
        self.server.resident_bytes_peak().saturating_sub(self.baseline)
    }

    /// What it has grown by and keeps.
    pub fn growth_bytes_now(&self) -> u64 {
        self.server.resident_bytes().saturating_sub(self.baseline)
    }

    /// A counter of a bound that was reached.
    pub fn breaches(&self, bound: &str) -> u64 {
        let line = format!("etchd_client_bounds_reached_total{{bound=\"{bound}\"}} ");
        let text = http1(self.port, "/metrics");
        let value = text.lines().find_map(|l| l.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("no {line}in\n{text}")).parse().expect("a number")
    }

    /// Waits until the server has little to do, or is far beyond what it may grow by; not forever.
    fn wait_idle(&self, growth_bytes_max: u64) {
        let begun = Instant::now();
        let mut before = self.processor_seconds();
        while begun.elapsed() < PATIENCE && self.growth_bytes() < HOPELESS * growth_bytes_max {
            std::thread::sleep(IDLE);
            let now = self.processor_seconds();
            if now - before < IDLE.as_secs_f64() / 10.0 {
                return;
            }
            before = now;
        }
    }

    fn processor_seconds(&self) -> f64 {
        let text = http1(self.port, "/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
        value.expect("the process is measured").parse().expect("a number")
    }

    /// All bounds that were reached, for messages.
    pub fn breaches_all(&self) -> Vec<String> {
        let text = http1(self.port, "/metrics");
        let lines = text.lines().filter_map(|line| line.strip_prefix("etchd_client_bounds_reached_total"));
        lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    }

    /// Ends the server in order: it is not only alive but well.
    pub fn stop(self) {
        self.server.stop();
        drop(self.scratch);
    }
}

/// Puts that must all succeed, one after the other, on a connection of their own.
pub fn serve(server: &Server, puts: usize) {
    let mut client = server.connect();
    for number in 0..puts {
        let key = format!("served/{}", number % 100);
        client.unary(path::PUT, &put(key.as_bytes(), b"value")).expect("the server serves others meanwhile");
    }
}

/// Puts the keys that attacks list.
fn put_listed(server: &Server, keys: usize) {
    let mut client = server.connect();
    let listed = |number: usize| {
        let key = format!("listed/{number:06}");
        put(key.as_bytes(), format!("{number:0LISTED_VALUE_BYTES$}").as_bytes())
    };
    for first in (0..keys).step_by(100) {
        let txn = puts((first..keys.min(first + 100)).map(listed));
        client.unary(path::TXN, &txn).expect("a quiet server takes puts");
    }
}

/// A request over HTTP/1; gives the body.
pub fn http1(port: u16, target: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
    socket.set_read_timeout(Some(PATIENCE)).expect("sockets have timeouts");
    write!(socket, "GET {target} HTTP/1.1\r\nHost: etchd\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("it answers");
    text
}

/// Lets the attack run until its frames are sent and the other client has been served, whichever is later.
/// `fill` appends some frames; it is called again and again, and `Wire::is_new` on each new connection.
pub fn flood(name: &str, attack: &Attack, fill: impl FnMut(&mut Wire) + Send) -> Seen {
    let target = Target::start_with_keys(name, attack.keys);
    let before = if let Breach::Of(bound) = attack.breach { target.breaches(bound) } else { 0 };
    let served = AtomicBool::new(false);
    let begun = Instant::now();
    let seen = std::thread::scope(|scope| {
        let hostile = scope.spawn(|| run(&target, attack, &served, fill));
        serve(&target.server, PUTS);
        served.store(true, Ordering::Relaxed);
        let put = begun.elapsed();
        let seen = hostile.join().expect("the hostile client ends");
        println!("{name}: puts {put:.1?}, flood {:.1?}", begun.elapsed());
        seen
    });
    let (grown, kept) = (target.growth_bytes(), target.growth_bytes_now());
    let breaches = target.breaches_all();
    println!("{name}: grew {} KiB, keeps {} KiB, {breaches:?}, {seen:?}", grown >> 10, kept >> 10);
    assert!(seen.frames >= attack.frames, "{seen:?}");
    match attack.breach {
        Breach::Of(bound) => {
            assert!(target.breaches(bound) > before, "{name} did not reach {bound}: {breaches:?}, {seen:?}");
        }
        Breach::Nothing => assert!(breaches.is_empty(), "{name} went beyond {breaches:?}, {seen:?}"),
        Breach::Any => {}
    }
    let (grown, max) = (grown >> 10, attack.growth_bytes_max >> 10);
    assert!(grown <= max, "{name}: memory grew by {grown} KiB of {max}, {seen:?}");
    serve(&target.server, 10);
    target.stop();
    seen
}

fn run(target: &Target, attack: &Attack, served: &AtomicBool, mut fill: impl FnMut(&mut Wire)) -> Seen {
    let mut seen = Seen::default();
    let mut wire = Wire { out: Vec::new(), frames: 0, stream: 1 };
    while goes_on(wire.frames, attack, served) {
        seen.connections += 1;
        let socket = TcpStream::connect(("127.0.0.1", target.port)).expect("the server takes connections");
        let patience = if attack.reads && !attack.waits { PATIENCE } else { STUCK };
        socket.set_write_timeout(Some(patience)).expect("sockets have timeouts");
        let reader = attack.reads.then(|| read(socket.try_clone().expect("descriptors are left")));
        wire.stream = 1;
        wire.out.clear();
        wire.out.extend_from_slice(PREFACE);
        frame::write_settings(&mut wire.out, &attack.settings);
        frame::write_settings_ack(&mut wire.out);
        if attack.reads || attack.waits {
            // All that a million frames can ask for.
            frame::write_window_update(&mut wire.out, 0, 1 << 30);
        }
        if let Err(error) = attack_once(&socket, attack, served, &mut wire, &mut fill) {
            let may_stop = attack.waits || !attack.reads;
            assert!(is_end(&error) || may_stop && is_stuck(&error), "writing: {error}");
        }
        if attack.waits {
            target.wait_idle(attack.growth_bytes_max);
        }
        // It may be closed already.
        drop(socket.shutdown(Shutdown::Both));
        for (kind, count) in reader.map(|r| r.join().expect("the reader ends")).into_iter().flatten() {
            *seen.received.entry(kind).or_default() += count;
        }
    }
    seen.frames = wire.frames;
    seen
}

/// The frames are not all sent, or the other client is not served yet: both have to see each other. One that waits is
/// there long enough.
fn goes_on(frames: u64, attack: &Attack, served: &AtomicBool) -> bool {
    frames < attack.frames || !attack.waits && frames < FRAMES_MAX && !served.load(Ordering::Relaxed)
}

/// One connection until the server ends it or there is enough.
fn attack_once(
    mut socket: &TcpStream,
    attack: &Attack,
    served: &AtomicBool,
    wire: &mut Wire,
    fill: &mut impl FnMut(&mut Wire),
) -> io::Result<()> {
    while goes_on(wire.frames, attack, served) {
        // Ids end at 2^31.
        if wire.stream > 0x3fff_ffff {
            return Ok(());
        }
        while wire.out.len() < BATCH_BYTES && goes_on(wire.frames, attack, served) {
            fill(wire);
        }
        socket.write_all(&wire.out)?;
        wire.out.clear();
    }
    Ok(())
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn is_stuck(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Reads until the end, and counts frames by kind.
fn read(mut socket: TcpStream) -> JoinHandle<BTreeMap<u8, u64>> {
    std::thread::spawn(move || {
        let mut counts = BTreeMap::new();
        let mut input: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            input.extend_from_slice(&buffer[..count]);
            let mut rest = input.as_slice();
            while let Some(head) = rest.first_chunk::<HEAD_BYTES>() {
                let head = FrameHead::parse(head);
                let Some(after) = rest.get(HEAD_BYTES + head.length as usize..) else { break };
                *counts.entry(head.kind).or_default() += 1;
                rest = after;
            }
            let left = rest.len();
            input.drain(..input.len() - left);
        }
        counts
    })
}
