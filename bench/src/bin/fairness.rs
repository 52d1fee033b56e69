//! What a small put or get feels of large lists, stalled watchers and a million watchers on other keys.
//!
//!     cargo build --release && cargo run --release -p etchd-bench --bin fairness -- [lists|stalled|others]...
//!
//! Starts `target/release/etchd --shards 1` on a fresh directory, measures one client alone and then beside each
//! burden, in turn, and prints the ratios beside the targets. Clients are threads with blocking sockets that read and
//! drop; they share the machine with the server, so that on few cores a part of every ratio is theirs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etchd_bench::{field, frame, framed, put_request};

const LIST_CLIENTS: usize = 16;
const LIST_KEYS: usize = 25_000;
const LIST_VALUE_BYTES: usize = 4_000;
const STALLED: usize = 1_000;
const OTHERS: usize = 1_000_000;
const ROUNDS: usize = 5;
const PROBES: usize = 1_500;

/// One connection; what comes is looked at for its frame heads only.
struct Connection {
    socket: TcpStream,
    stream: u32,
    buffer: Vec<u8>,
    /// Of a frame that is being skipped, or a head that is not whole.
    skip: usize,
    head: Vec<u8>,
    received: usize,
    ended: u32,
}

impl Connection {
    fn open(port: u16) -> Connection {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        socket.set_nodelay(true).expect("sets nodelay");
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
        hello.extend(frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
        hello.extend(frame(4, 1, 0, &[]));
        socket.write_all(&hello).expect("sends");
        let buffer = vec![0; 256 << 10];
        Connection { socket, stream: 1, buffer, skip: 0, head: Vec::new(), received: 0, ended: 0 }
    }

    fn request(&mut self, path: &str, body: &[u8], end: bool) -> Vec<u8> {
        let stream = self.stream;
        self.stream += 2;
        let fields: [(&str, &str); 6] = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "bench"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            block.extend_from_slice(&[0, name.len() as u8]);
            block.extend_from_slice(name.as_bytes());
            block.push(value.len() as u8);
            block.extend_from_slice(value.as_bytes());
        }
        let mut bytes = frame(1, 4, stream, &block);
        bytes.extend(frame(0, u8::from(end), stream, &framed(body)));
        bytes
    }

    /// Reads until `stream` has ended; false when the connection is over.
    fn wait(&mut self, stream: u32) -> bool {
        while self.ended < stream {
            let Ok(count @ 1..) = self.socket.read(&mut self.buffer) else { return false };
            self.received += count;
            self.scan(count);
            if self.received > 1 << 28 {
                let update = (self.received as u32).to_be_bytes();
                self.received = 0;
                if self.socket.write_all(&frame(8, 0, 0, &update)).is_err() {
                    return false;
                }
            }
        }
        true
    }

    fn scan(&mut self, count: usize) {
        let mut at = 0;
        while at < count {
            let skipped = self.skip.min(count - at);
            at += skipped;
            self.skip -= skipped;
            if at == count {
                return;
            }
            let part = (9 - self.head.len()).min(count - at);
            self.head.extend_from_slice(&self.buffer[at..at + part]);
            at += part;
            if self.head.len() < 9 {
                return;
            }
            let head = std::mem::take(&mut self.head);
            self.skip = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if head[3] <= 1 && head[4] & 1 == 1 {
                self.ended = self.ended.max(stream);
            }
        }
    }

    fn unary(&mut self, path: &str, body: &[u8]) -> bool {
        let stream = self.stream;
        let request = self.request(path, body, true);
        self.socket.write_all(&request).is_ok() && self.wait(stream)
    }
}

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

struct Server {
    child: Child,
    port: u16,
    data: std::path::PathBuf,
}

impl Server {
    fn start() -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let data = std::path::absolute(format!("build/fairness-{port}")).expect("a path");
        let url = format!("http://127.0.0.1:{port}");
        let child = Command::new("target/release/etchd")
            .args(["--shards", "1", "--log-level", "error", "--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url, "--data-dir"])
            .arg(&data)
            .spawn()
            .expect("target/release/etchd starts: cargo build --release");
        let server = Server { child, port, data };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        drop((ended, std::fs::remove_dir_all(&self.data)));
    }
}

/// Median and 99th percentile of a request, in microseconds.
fn probe(port: u16, path: &str, body: &[u8]) -> (f64, f64) {
    let mut connection = Connection::open(port);
    assert!(connection.unary(path, body), "the server answers");
    let mut took: Vec<f64> = (0..PROBES)
        .map(|_| {
            let began = Instant::now();
            assert!(connection.unary(path, body), "the server answers");
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_by(f64::total_cmp);
    (took[PROBES / 2], took[PROBES * 99 / 100])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn show(what: &str, quiet: &[(f64, f64)], loud: &[(f64, f64)]) {
    let (p50, p99): (Vec<f64>, Vec<f64>) = quiet.iter().copied().unzip();
    let (loud50, loud99): (Vec<f64>, Vec<f64>) = loud.iter().copied().unzip();
    let (p50, p99, loud50, loud99) = (median(p50), median(p99), median(loud50), median(loud99));
    println!(
        "{what:44} p50 {p50:6.0} -> {loud50:6.0} us ({:.2} x)   p99 {p99:6.0} -> {loud99:6.0} us ({:.2} x)",
        loud50 / p50,
        loud99 / p99
    );
}

fn lists() {
    let server = Server::start();
    let mut writer = Connection::open(server.port);
    for number in 0..LIST_KEYS {
        let put =
            [field(1, format!("list/{number:08}").as_bytes()), field(2, &[b'v'; LIST_VALUE_BYTES])].concat();
        assert!(writer.unary(PUT, &put), "puts");
    }
    let all = [field(1, b"list/"), field(2, b"list0")].concat();
    let put = put_request(b"small", &[b'v'; 256]);
    let get = field(1, b"small");
    let (mut quiet, mut loud) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let lists = Arc::new(AtomicU64::new(0));
    for _ in 0..ROUNDS {
        quiet[0].push(probe(server.port, PUT, &put));
        quiet[1].push(probe(server.port, RANGE, &get));
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..LIST_CLIENTS)
            .map(|_| {
                let (stop, lists, all, port) = (stop.clone(), lists.clone(), all.clone(), server.port);
                std::thread::spawn(move || {
                    let mut connection = Connection::open(port);
                    while !stop.load(Ordering::Relaxed) && connection.unary(RANGE, &all) {
                        lists.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        loud[0].push(probe(server.port, PUT, &put));
        loud[1].push(probe(server.port, RANGE, &get));
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().expect("a list client"));
    }
    println!(
        "{LIST_CLIENTS} clients list 100 MB each ({} lists); target: p99 at most 2 x",
        lists.load(Ordering::Relaxed)
    );
    show("  put", &quiet[0], &loud[0]);
    show("  get", &quiet[1], &loud[1]);
    println!("  memory {} MiB", server.memory_mib());
}

fn create(key: &[u8]) -> Vec<u8> {
    field(1, &field(1, key))
}

fn stalled() {
    let server = Server::start();
    let put = put_request(b"watched", &[b'v'; 256]);
    let quiet: Vec<_> = (0..ROUNDS).map(|_| probe(server.port, PUT, &put)).collect();
    let before = server.memory_mib();
    let mut connections: Vec<Connection> = (0..10).map(|_| Connection::open(server.port)).collect();
    for number in 0..STALLED {
        let connection = &mut connections[number % 10];
        let request = connection.request(WATCH, &create(b"watched"), false);
        connection.socket.write_all(&request).expect("sends");
    }
    std::thread::sleep(Duration::from_millis(500));
    let loud: Vec<_> = (0..ROUNDS).map(|_| probe(server.port, PUT, &put)).collect();
    println!("{STALLED} watchers of the key that read nothing; target: p50 at most 1.1 x");
    show("  put", &quiet, &loud);
    println!("  memory {before} -> {} MiB", server.memory_mib());
}

fn others() {
    let server = Server::start();
    let put = put_request(b"small", &[b'v'; 256]);
    let mut connection = Connection::open(server.port);
    let before = server.memory_mib();
    let quiet: Vec<_> = (0..ROUNDS).map(|_| probe(server.port, PUT, &put)).collect();
    let stream = connection.stream;
    let request = connection.request(WATCH, &create(b"other/00000000"), false);
    connection.socket.write_all(&request).expect("sends");
    let mut reader = connection.socket.try_clone().expect("clones");
    let drain = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    for number in 1..OTHERS {
        let body = framed(&create(format!("other/{number:08}").as_bytes()));
        connection.socket.write_all(&frame(0, 0, stream, &body)).expect("sends");
    }
    std::thread::sleep(Duration::from_secs(3));
    let loud: Vec<_> = (0..ROUNDS).map(|_| probe(server.port, PUT, &put)).collect();
    println!("{OTHERS} watchers of other keys; target: a put costs at most 1.05 x");
    show("  put", &quiet, &loud);
    println!("  memory {before} -> {} MiB", server.memory_mib());
    drop(server);
    drain.join().expect("the reader ends with the server");
}

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    for (name, part) in [("lists", lists as fn()), ("stalled", stalled), ("others", others)] {
        if parts.is_empty() || parts.iter().any(|part| part == name) {
            part();
        }
    }
}
