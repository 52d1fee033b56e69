//! A server process and blocking clients of it.
//!
//! Owns: [`Process`] (`target/release/etchd` with a data directory of its own), [`Connection`] (a socket and the ends of
//! its streams), medians. Takes: requests. Gives: their answers' ends, CPU times.
//! Always true: what an answer says is not looked at, only that the stream has ended and that none was refused.
//! Not here: what is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::Duration;

use crate::{Client, frame};

/// The method that puts.
pub const PUT: &str = "/etcdserverpb.KV/Put";
/// The method that gets and lists.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
/// The method that watches.
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// One connection that calls one method; of what comes only the heads of frames are looked at.
pub struct Connection {
    /// For those who read or write it themselves.
    pub socket: TcpStream,
    /// Bytes read since the connection's window was last opened, as far as `wait` has read them.
    pub received: usize,
    client: Client,
    buffer: Vec<u8>,
    /// Of a frame that is being skipped.
    skip: usize,
    head: [u8; 9],
    head_bytes: usize,
    ended: u32,
}

impl Connection {
    /// Connects to a port of this machine.
    pub fn open(port: u16, method: &'static str) -> Connection {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        socket.set_nodelay(true).expect("sets nodelay");
        let client = Client::new(method);
        let mut hello = client.hello();
        // Streams may answer as much as they like.
        hello.extend(frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
        socket.write_all(&hello).expect("sends");
        let (buffer, head) = (vec![0; 256 << 10], [0; 9]);
        Connection { socket, received: 0, client, buffer, skip: 0, head, head_bytes: 0, ended: 0 }
    }

    /// Sends some requests at once; false when the connection is over.
    pub fn send_all<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]>) -> bool {
        let requests = self.client.requests(messages);
        self.socket.write_all(&requests).is_ok()
    }

    /// Sends a request that stays open; gives its stream.
    pub fn begin(&mut self, message: &[u8]) -> u32 {
        let (stream, mut request) = (self.client.next_stream(), Vec::new());
        self.client.begin(message, &mut request);
        self.socket.write_all(&request).expect("sends");
        stream
    }

    /// Reads until all that was sent is answered; false when the connection is over.
    pub fn wait(&mut self) -> bool {
        // Streams have odd numbers.
        let begun = self.client.next_stream() / 2;
        while self.ended < begun {
            let Ok(count @ 1..) = self.socket.read(&mut self.buffer) else { return false };
            self.received += count;
            self.scan(count);
            if self.received > 1 << 28 && !self.open_window() {
                return false;
            }
        }
        true
    }

    /// One request and its answer; false when the connection is over.
    pub fn unary(&mut self, message: &[u8]) -> bool {
        self.send_all(std::iter::once(message)) && self.wait()
    }

    /// Gives the server back what was received.
    pub fn open_window(&mut self) -> bool {
        let update = (std::mem::take(&mut self.received) as u32).to_be_bytes();
        self.socket.write_all(&frame(8, 0, 0, &update)).is_ok()
    }

    fn scan(&mut self, count: usize) {
        let mut at = 0;
        while at < count {
            let skipped = self.skip.min(count - at);
            at += skipped;
            self.skip -= skipped;
            let part = (9 - self.head_bytes).min(count - at);
            self.head[self.head_bytes..self.head_bytes + part].copy_from_slice(&self.buffer[at..at + part]);
            at += part;
            self.head_bytes += part;
            if self.head_bytes < 9 {
                return;
            }
            self.head_bytes = 0;
            let [high, middle, low, kind, flags, ..] = self.head;
            self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
            assert!(kind != 3, "the server refuses a request");
            self.ended += u32::from(kind <= 1 && flags & 1 == 1);
        }
    }
}

/// A server on a free port.
pub struct Process {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    child: Child,
    data: std::path::PathBuf,
}

impl Process {
    /// `target/release/etchd` with so many shards, once it takes connections.
    pub fn start(shards: usize) -> Process {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let data = std::path::absolute(format!("build/bench-{port}")).expect("a path");
        let url = format!("http://127.0.0.1:{port}");
        let child = Command::new("target/release/etchd")
            .args(["--shards", &shards.to_string(), "--log-level", "error", "--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url, "--data-dir"])
            .arg(&data)
            .spawn()
            .expect("target/release/etchd starts: cargo build --release");
        let process = Process { child, port, data };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    /// CPU seconds that its threads have used.
    pub fn cpu(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        tasks.map(|task| cpu_of(&task.expect("a thread").path())).sum()
    }

    /// Its resident memory.
    pub fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        drop((ended, std::fs::remove_dir_all(&self.data)));
    }
}

/// Measures each server once a round, another one first each time, and drops the first round, which warms up. The
/// measurements of each, in order.
pub fn in_turn<T, const N: usize>(
    rounds: usize,
    servers: &[Process; N],
    mut measure: impl FnMut(&Process) -> T,
) -> [Vec<T>; N] {
    let mut measured = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for turn in 0..N {
            let at = (round + turn) % N;
            let one = measure(&servers[at]);
            if round > 0 {
                measured[at].push(one);
            }
        }
    }
    measured
}

/// CPU seconds of the calling thread.
pub fn own_cpu() -> f64 {
    cpu_of(std::path::Path::new("/proc/thread-self"))
}

fn cpu_of(task: &std::path::Path) -> f64 {
    let text = std::fs::read_to_string(task.join("schedstat")).expect("a thread's times");
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.expect("a number") as f64 / 1e9
}

/// The one in the middle.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The one that so many of a hundred are not above.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() * percent / 100]
}

/// The median of something of each.
pub fn median_of<T>(of: &[T], what: impl Fn(&T) -> f64) -> f64 {
    median(&of.iter().map(what).collect::<Vec<f64>>())
}

/// The median of the ratios of the second's rounds to the first's.
pub fn median_ratio<T>([first, second]: &[Vec<T>; 2], what: impl Fn(&T) -> f64) -> f64 {
    let ratios = first.iter().zip(second).map(|(first, second)| what(second) / what(first));
    median(&ratios.collect::<Vec<f64>>())
}
