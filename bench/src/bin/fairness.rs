//! What a small put or get feels of large lists, stalled watchers and a million watchers on other keys.
//!
//!     cargo build --release && cargo run --release -p etchd-bench --bin fairness -- [lists|stalled|others|slow]...
//!
//! Starts `target/release/etchd --shards 1` on fresh directories, measures one client alone and beside each burden, and
//! prints the ratios beside the targets. Lists burden the server while they run, so that quiet and loud moments of one
//! server take turns; watchers stay, so that a server without and one with them take turns. CPU is the server's own
//! (all its threads, from the scheduler), of puts that come 16 at a time on 16 connections. Clients are threads with
//! blocking sockets that read and drop; they share the machine with the server, so that on few cores a part of every
//! ratio of times is theirs. So the lists are measured twice: by clients like the one that is measured, and by clients
//! that give way to it (nice 19), which leaves the server's part.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etchd_bench::process::{
    Connection, PUT, Process, RANGE, WATCH, in_turn, median, median_of, median_ratio, percentile,
};
use etchd_bench::{field, frame, framed, put_request};

const LIST_CLIENTS: usize = 16;
/// Makes this program the list clients of another one.
const LIST_CLIENTS_ARGUMENT: &str = "--list-clients";
const LIST_KEYS: usize = 25_000;
const LIST_VALUE_BYTES: usize = 4_000;
const STALLED: usize = 1_000;
/// About what an event of a value of 256 bytes takes on the wire.
const EVENT_BYTES: usize = 330;
const OTHERS: usize = 1_000_000;
const ROUNDS: usize = 5;
const PROBES: usize = 1_500;
/// Connections, requests at a time on each, and how often, of the load whose CPU is measured.
const LOAD: (usize, usize, usize) = (16, 16, 400);

/// Median and 99th percentile of a request, in microseconds.
fn probe(port: u16, path: &'static str, body: &[u8]) -> (f64, f64) {
    let mut connection = Connection::open(port, path);
    assert!(connection.unary(body), "the server answers");
    let took: Vec<f64> = (0..PROBES)
        .map(|_| {
            let began = Instant::now();
            assert!(connection.unary(body), "the server answers");
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    (median(&took), percentile(&took, 99))
}

/// CPU of the server for a put, in microseconds.
fn load(server: &Process, body: &[u8]) -> f64 {
    let (connections, together, times) = LOAD;
    let mut connections: Vec<_> = (0..connections).map(|_| Connection::open(server.port, PUT)).collect();
    let before = server.cpu();
    for _ in 0..times {
        for connection in &mut connections {
            assert!(connection.send_all(std::iter::repeat_n(body, together)), "the server takes puts");
        }
        for connection in &mut connections {
            assert!(connection.wait(), "the server answers");
        }
    }
    (server.cpu() - before) * 1e6 / (LOAD.0 * LOAD.1 * times) as f64
}

fn show(what: &str, quiet: &[(f64, f64)], loud: &[(f64, f64)]) {
    let medians =
        |rounds: &[(f64, f64)]| (median_of(rounds, |(p50, _)| *p50), median_of(rounds, |(_, p99)| *p99));
    let ((p50, p99), (loud50, loud99)) = (medians(quiet), medians(loud));
    println!(
        "{what:44} p50 {p50:6.0} -> {loud50:6.0} us ({:.2} x)   p99 {p99:6.0} -> {loud99:6.0} us ({:.2} x)",
        loud50 / p50,
        loud99 / p99
    );
}

fn list_request() -> Vec<u8> {
    [field(1, b"list/"), field(2, b"list0")].concat()
}

/// Lists until its input ends, then says how often.
fn list_clients(port: u16) {
    let (stop, lists) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..LIST_CLIENTS)
        .map(|_| {
            let (stop, lists) = (stop.clone(), lists.clone());
            std::thread::spawn(move || {
                let mut connection = Connection::open(port, RANGE);
                while !stop.load(Ordering::Relaxed) && connection.unary(&list_request()) {
                    lists.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    std::io::stdin().read_to_end(&mut Vec::new()).expect("reads to its end");
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("a list client"));
    println!("{}", lists.load(Ordering::Relaxed));
}

/// A process of list clients, as nice as is said.
fn start_list_clients(port: u16, nice: u32) -> Child {
    let own = std::env::current_exe().expect("its own path");
    let mut command = Command::new("nice");
    command.args(["-n", &nice.to_string()]).arg(own).args([LIST_CLIENTS_ARGUMENT, &port.to_string()]);
    let clients = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    std::thread::sleep(Duration::from_millis(300));
    clients
}

fn lists() {
    let server = Process::start(1);
    let mut writer = Connection::open(server.port, PUT);
    for number in 0..LIST_KEYS {
        let put =
            [field(1, format!("list/{number:08}").as_bytes()), field(2, &[b'v'; LIST_VALUE_BYTES])].concat();
        assert!(writer.unary(&put), "puts");
    }
    let put = put_request(b"small", &[b'v'; 256]);
    let get = field(1, b"small");
    for (nice, whose) in [(0, "as important as the one that is measured"), (19, "nice 19: the server's part")]
    {
        let (mut quiet, mut loud) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let mut lists = 0;
        for _ in 0..ROUNDS {
            quiet[0].push(probe(server.port, PUT, &put));
            quiet[1].push(probe(server.port, RANGE, &get));
            let clients = start_list_clients(server.port, nice);
            loud[0].push(probe(server.port, PUT, &put));
            loud[1].push(probe(server.port, RANGE, &get));
            let said = clients.wait_with_output().expect("ends").stdout;
            lists += String::from_utf8_lossy(&said).trim().parse::<u64>().expect("a number of lists");
        }
        println!("{LIST_CLIENTS} clients list 100 MB each ({lists} lists), {whose}; target: p99 at most 2 x");
        show("  put", &quiet[0], &loud[0]);
        show("  get", &quiet[1], &loud[1]);
        println!("  memory {} MiB", server.memory_mib());
    }
}

fn create(key: &[u8]) -> Vec<u8> {
    field(1, &field(1, key))
}

/// A server without and one with a burden that stays, in turn.
fn beside(what: &str, body: &[u8], rounds: usize, burden: impl FnOnce(&Process)) {
    let servers = [Process::start(1), Process::start(1)];
    let before = servers[1].memory_mib();
    burden(&servers[1]);
    let measured = in_turn(rounds, &servers, |server| (probe(server.port, PUT, body), load(server, body)));
    println!("{what}");
    let [quiet, loud] =
        measured.each_ref().map(|rounds| rounds.iter().map(|(probe, _)| *probe).collect::<Vec<_>>());
    show("  put, one client", &quiet, &loud);
    let ratio = median_ratio(&measured, |(_, cpu)| *cpu);
    let [quiet, loud] = measured.each_ref().map(|rounds| median_of(rounds, |(_, cpu)| *cpu));
    println!(
        "  {:42} CPU {quiet:5.2} -> {loud:6.2} us ({ratio:.3} x, median of the rounds' ratios)",
        "put, many"
    );
    println!("  memory {before} -> {} MiB, without {} MiB", servers[1].memory_mib(), servers[0].memory_mib());
}

/// A watch of a key on a stream of its own; gives the stream.
fn watch(connection: &mut Connection, key: &[u8]) -> u32 {
    connection.begin(&create(key))
}

/// So many connections with `STALLED` watches of the key between them.
fn watchers(port: u16, connections: usize) -> Vec<Connection> {
    let mut watchers: Vec<_> = (0..connections).map(|_| Connection::open(port, WATCH)).collect();
    for number in 0..STALLED {
        watch(&mut watchers[number % connections], b"watched");
    }
    watchers
}

fn stalled() {
    for connections in [10, STALLED] {
        let mut stalled = Vec::new();
        let what = format!(
            "{STALLED} watchers of the key on {connections} connections that read nothing; target: p50 at most 1.1 x"
        );
        beside(&what, &put_request(b"watched", &[b'v'; 256]), ROUNDS, |server| {
            stalled = watchers(server.port, connections);
            std::thread::sleep(Duration::from_millis(500));
        });
    }
}

fn others() {
    let what = format!("{OTHERS} watchers of other keys; target: a put costs at most 1.05 x");
    let mut drain = None;
    beside(&what, &put_request(b"small", &[b'v'; 256]), 3 * ROUNDS, |server| {
        let mut connection = Connection::open(server.port, WATCH);
        let stream = watch(&mut connection, b"other/00000000");
        let windows = [Arc::new(AtomicI64::new(65_535 - 100)), Arc::new(AtomicI64::new(65_535 - 100))];
        let reader = connection.socket.try_clone().expect("clones");
        let opened = windows.clone();
        drain = Some(std::thread::spawn(move || open_windows(reader, &opened)));
        for number in 1..OTHERS {
            let body = framed(&create(format!("other/{number:08}").as_bytes()));
            let bytes = frame(0, 0, stream, &body);
            for window in &windows {
                while window.load(Ordering::Acquire) < body.len() as i64 {
                    std::thread::sleep(Duration::from_micros(100));
                }
                window.fetch_sub(body.len() as i64, Ordering::AcqRel);
            }
            connection.socket.write_all(&bytes).expect("sends");
        }
        std::thread::sleep(Duration::from_secs(3));
        std::mem::forget(connection);
    });
    drain.expect("it was started").join().expect("the reader ends with the server");
}

/// Reads until the end and drops all but the windows that the server opens: the connection's, its only stream's.
fn open_windows(socket: TcpStream, windows: &[Arc<AtomicI64>; 2]) {
    let mut socket = std::io::BufReader::with_capacity(1 << 20, socket);
    let (mut head, mut payload) = ([0; 9], Vec::new());
    while socket.read_exact(&mut head).is_ok() {
        payload.resize(usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]), 0);
        if socket.read_exact(&mut payload).is_err() {
            return;
        }
        if head[3] == 8 {
            let increment = u32::from_be_bytes(payload[..].try_into().expect("WINDOW_UPDATE has four bytes"));
            let is_stream = head[5..] != [0; 4];
            windows[usize::from(is_stream)].fetch_add(i64::from(increment), Ordering::AcqRel);
        }
    }
}

/// Puts of a watched key, as fast as they go, to watchers that read at once or only so many bytes at a time.
fn slow() {
    println!("{STALLED} watchers of the key that read; events that arrived for a CPU second of the server");
    for (connections, bytes_per_millisecond) in
        [(10, usize::MAX), (10, 40_000), (STALLED, usize::MAX), (STALLED, 400)]
    {
        let rates: Vec<f64> = (0..ROUNDS).map(|_| slow_round(connections, bytes_per_millisecond)).collect();
        let pace = if bytes_per_millisecond == usize::MAX {
            "at once".to_owned()
        } else {
            format!("{} MB/s each", bytes_per_millisecond as f64 / 1e3)
        };
        println!("  {connections:4} connections, {pace:16} {:9.0}", median(&rates));
    }
}

fn slow_round(connections: usize, bytes_per_millisecond: usize) -> f64 {
    let server = Process::start(1);
    let body = put_request(b"watched", &[b'v'; 256]);
    let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut watchers = watchers(server.port, connections);
    let reader = {
        let (stop, received) = (stop.clone(), received.clone());
        std::thread::spawn(move || {
            for watcher in &watchers {
                watcher.socket.set_nonblocking(true).expect("sets it");
            }
            let mut buffer = vec![0; 256 << 10];
            let quantum = bytes_per_millisecond.saturating_mul(10).min(buffer.len());
            while !stop.load(Ordering::Relaxed) {
                let mut taken = 0;
                for watcher in &mut watchers {
                    let count = watcher.socket.read(&mut buffer[..quantum]).unwrap_or(0);
                    taken += count;
                    watcher.received += count;
                    if watcher.received > 1 << 28 {
                        watcher.open_window();
                    }
                }
                received.fetch_add(taken as u64, Ordering::Relaxed);
                let pause = if bytes_per_millisecond == usize::MAX { u64::from(taken == 0) } else { 10 };
                std::thread::sleep(Duration::from_millis(pause));
            }
        })
    };
    std::thread::sleep(Duration::from_millis(300));
    let (before, bytes) = (server.cpu(), received.load(Ordering::Relaxed));
    let began = Instant::now();
    let mut writer = Connection::open(server.port, PUT);
    while began.elapsed() < Duration::from_secs(2) {
        assert!(writer.unary(&body), "the server answers");
    }
    let (cpu, bytes) = (server.cpu() - before, received.load(Ordering::Relaxed) - bytes);
    stop.store(true, Ordering::Relaxed);
    reader.join().expect("the reader ends");
    // An event with its frame and its response's head.
    bytes as f64 / EVENT_BYTES as f64 / cpu
}

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    if let [LIST_CLIENTS_ARGUMENT, port] = parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return list_clients(port.parse().expect("a port"));
    }
    for (name, part) in [("lists", lists as fn()), ("stalled", stalled), ("others", others), ("slow", slow)] {
        if parts.is_empty() || parts.iter().any(|part| part == name) {
            part();
        }
    }
}
