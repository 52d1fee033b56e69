//! What each fast path of the kernel is worth: CPU per message, wake and log write with it and without it, in
//! interleaved rounds; the medians and their ratios. A ratio below 5 % is noise.
//!
//!     cargo bench -p etchd-bench --bench edges [-- echo | wake | log]
//!
//! The log's part writes to `BENCH_DIR`, or else the directory for temporary files: name one on a disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etchd::edge::disk::{DataDirectory, DiskOptions, Syncs};
use etchd::edge::epoll::Epoll;
use etchd::edge::host::{Faults, HostIo, HostOptions, Operation};
use etchd::edge::io::{Completion, ConnId, SendPieces};
use etchd::edge::net::{ListenAddress, Listener};
use etchd::edge::ring::{Features, Ring};

const ROUNDS: usize = 9;
const CONNECTIONS: usize = 32;
const MESSAGES: usize = 40_000;
const WAKES: usize = 20_000;
const WRITES: u64 = 400;
const BLOCK: u64 = 4_096;
const SEGMENT_BYTES: u64 = 16 << 20;

/// Nanoseconds on a processor: of this thread, or of all threads of the process.
fn thread_cpu() -> u64 {
    on_cpu("/proc/thread-self/schedstat")
}

fn process_cpu() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("this process is there");
    tasks.map(|task| on_cpu(&format!("{}/schedstat", task.expect("a thread").path().display()))).sum()
}

fn on_cpu(path: &str) -> u64 {
    // A thread may end meanwhile.
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().map_or(0, |number| number.parse().expect("a number"))
}

/// What one variant took: nanoseconds of CPU and of the clock for each unit.
type Cost = (f64, f64);

/// Runs all variants in turn for some rounds and prints the medians, as ratios to the first.
fn compare(title: &str, variants: &[(&str, &dyn Fn() -> Cost)]) {
    let mut costs = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for (costs, (_, run)) in costs.iter_mut().zip(variants) {
            costs.push(run());
        }
    }
    let median = |costs: &[Cost], part: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(part).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("{title} ({ROUNDS} rounds)");
    let first = (median(&costs[0], |cost| cost.0), median(&costs[0], |cost| cost.1));
    for ((name, _), costs) in variants.iter().zip(&costs) {
        let (cpu, time) = (median(costs, |cost| cost.0), median(costs, |cost| cost.1));
        println!(
            "  {name:<44} CPU {:>6.2} us, {:>5.2}   time {:>7.2} us, {:>5.2}",
            cpu / 1e3,
            cpu / first.0,
            time / 1e3,
            time / first.1
        );
    }
}

fn ring(features: Features) -> impl Fn(HostOptions) -> Ring {
    move |options| Ring::with_features(options, features).expect("io_uring works here")
}

fn epoll(options: HostOptions) -> Epoll {
    Epoll::new(options).expect("epoll works here")
}

// Messages.

/// Sends everything back until all clients have gone. `make` is called on the thread that serves.
fn echo<I: HostIo>(io: &mut I) {
    let mut queued: BTreeMap<ConnId, (Vec<Bytes>, bool)> = BTreeMap::new();
    let (mut out, mut pieces, mut gone) = (Vec::new(), SendPieces::default(), 0);
    while gone < CONNECTIONS {
        io.wait(None, &mut out);
        for completion in out.drain(..) {
            match completion {
                Completion::Incoming { socket, .. } => {
                    queued.insert(io.adopt(socket), (Vec::new(), false));
                }
                Completion::Received { conn, bytes } => {
                    queued.get_mut(&conn).expect("is open").0.push(Bytes::copy_from_slice(&bytes));
                }
                Completion::Sent { conn } => queued.get_mut(&conn).expect("is open").1 = false,
                Completion::Closed { conn, .. } => {
                    io.close(conn);
                    queued.remove(&conn);
                    gone += 1;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        for (conn, (bytes, sending)) in &mut queued {
            if !*sending && !bytes.is_empty() {
                bytes.drain(..bytes.len().min(64)).for_each(|bytes| pieces.push(bytes));
                io.send(*conn, &mut pieces);
                *sending = true;
            }
        }
    }
}

fn echo_cost<I: HostIo>(make: impl Fn(HostOptions) -> I + Send + Copy, bytes: usize, depth: usize) -> Cost {
    thread::scope(|scope| {
        let (tell, address) = mpsc::channel::<SocketAddr>();
        let server = scope.spawn(move || {
            let any = ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"));
            let listener = Listener::bind(&any).expect("binds");
            let ListenAddress::Tcp(address) = *listener.address() else { panic!("not TCP") };
            let mut io = make(HostOptions::new(vec![listener], None));
            tell.send(address).expect("somebody waits");
            let (cpu, start) = (thread_cpu(), Instant::now());
            echo(&mut io);
            let unit = 1.0 / MESSAGES as f64;
            ((thread_cpu() - cpu) as f64 * unit, start.elapsed().as_nanos() as f64 * unit)
        });
        let address = address.recv().expect("it listens");
        let connect = |_| TcpStream::connect(address).expect("connects");
        let mut clients: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
        let (message, mut answer) = (vec![7; bytes * depth], vec![0; bytes * depth]);
        for _ in 0..MESSAGES / CONNECTIONS / depth {
            clients.iter_mut().for_each(|client| client.write_all(&message).expect("sends"));
            clients.iter_mut().for_each(|client| client.read_exact(&mut answer).expect("receives"));
        }
        drop(clients);
        server.join().expect("serves")
    })
}

fn echoes() {
    let not_deferred = Features { deferred_task_work: false, ..Features::ALL };
    for (bytes, depth) in [(64, 1), (64, 8), (4_096, 8)] {
        compare(
            &format!("echo, {CONNECTIONS} connections, {bytes} B, {depth} at a time"),
            &[
                ("ring: multishot receive, buffer ring", &|| echo_cost(ring_all, bytes, depth)),
                ("ring without deferred task work", &|| {
                    echo_cost(move |options| ring(not_deferred)(options), bytes, depth)
                }),
                ("epoll", &|| echo_cost(epoll, bytes, depth)),
            ],
        );
    }
}

fn ring_all(options: HostOptions) -> Ring {
    ring(Features::ALL)(options)
}

// Wakes.

/// Two loops that wake each other in turn.
fn wake_cost<I: HostIo>(make: impl Fn(HostOptions) -> I + Send + Sync + Copy) -> Cost {
    let play = |first: bool, tell: mpsc::Sender<_>, other: mpsc::Receiver<_>| {
        let mut io = make(HostOptions::new(Vec::new(), None));
        tell.send(io.waker()).expect("the other lives");
        let other = other.recv().expect("the other lives");
        let (cpu, start, mut out) = (thread_cpu(), Instant::now(), Vec::new());
        if first {
            io.wake(&other);
        }
        for _ in 0..WAKES {
            while !out.iter().any(|completion| matches!(completion, Completion::Woken)) {
                io.wait(Some(Duration::from_secs(10)), &mut out);
            }
            out.clear();
            io.wake(&other);
        }
        // The last one goes out with a wait.
        io.wait(Some(Duration::ZERO), &mut out);
        ((thread_cpu() - cpu) as f64, start.elapsed().as_nanos() as f64)
    };
    let (to_first, from_second) = mpsc::channel();
    let (to_second, from_first) = mpsc::channel();
    thread::scope(|scope| {
        let second = scope.spawn(move || play(false, to_first, from_first));
        let first = play(true, to_second, from_second);
        let second = second.join().expect("plays");
        let unit = 1.0 / (2 * WAKES) as f64;
        ((first.0 + second.0) * unit, first.1 * unit)
    })
}

fn wakes() {
    let no_messages = Features { messages: false, ..Features::ALL };
    compare(
        "two loops wake each other, for each wake, both threads",
        &[
            ("ring: MSG_RING", &|| wake_cost(ring_all)),
            ("ring: eventfd", &|| wake_cost(move |options| ring(no_messages)(options))),
            ("epoll: eventfd", &|| wake_cost(epoll)),
        ],
    );
}

// The log.

/// How the disk is asked.
#[derive(Clone, Copy)]
struct Disk<'a> {
    directory: &'a Path,
    /// O_DIRECT, or through the page cache.
    direct: bool,
    /// RWF_DSYNC, or an fdatasync after the write.
    flag: bool,
}

fn log_cost<I: HostIo + Faults>(make: impl Fn(HostOptions) -> I, disk: Disk<'_>) -> Cost {
    // A file for each way: pages that the cache holds are in the way of direct writes.
    let name = format!("{}-{}", disk.direct, disk.flag);
    let options = DiskOptions { data_dir: disk.directory.join(name), wal_dir: None, syncs: Syncs::On };
    let mut data = DataDirectory::open(&options).expect("opens");
    if !disk.direct {
        data.write_through_cache();
    }
    if data.log().segments().expect("lists").is_empty() {
        data.log().create_segment(1, SEGMENT_BYTES).expect("creates");
    }
    let mut io = make(HostOptions::new(Vec::new(), Some(data)));
    let mut refuse = !disk.flag;
    io.set_fault_hook(Some(Box::new(move |operation, result| {
        let refused = operation == Operation::LogWrite && std::mem::take(&mut refuse);
        if refused { REFUSED } else { result }
    })));
    let mut out = Vec::new();
    let mut write = |io: &mut I, number: u64| {
        let mut buffer = io.log_buffer(BLOCK as usize);
        buffer.resize_zeroed(BLOCK as usize);
        io.log_write(number, 1, number * BLOCK % SEGMENT_BYTES, buffer);
        while out.is_empty() {
            io.wait(None, &mut out);
        }
        assert!(matches!(out.pop(), Some(Completion::LogWritten { .. })));
    };
    // The first write finds out about the flag.
    write(&mut io, 0);
    let (cpu, start) = (process_cpu(), Instant::now());
    (1..=WRITES).for_each(|number| write(&mut io, number));
    let unit = 1.0 / WRITES as f64;
    ((process_cpu() - cpu) as f64 * unit, start.elapsed().as_nanos() as f64 * unit)
}

/// EOPNOTSUPP, negated.
const REFUSED: i32 = -95;

fn logs() {
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let directory = parent.join(format!("etchd-edges-{}", std::process::id()));
    fs::create_dir(&directory).expect("makes a directory");
    let disk = Disk { directory: &directory, direct: true, flag: true };
    let cached = Disk { direct: false, ..disk };
    let synced = Disk { flag: false, ..disk };
    let plain = Features { registered_buffers: false, ..Features::ALL };
    compare(
        "log: durable writes of 4 KiB, one at a time, all threads",
        &[
            ("ring: O_DIRECT + RWF_DSYNC, registered buffer", &|| log_cost(ring_all, disk)),
            ("ring: the same without registration", &|| log_cost(ring(plain), disk)),
            ("ring: page cache + RWF_DSYNC", &|| log_cost(ring_all, cached)),
            ("ring: O_DIRECT, then fdatasync", &|| log_cost(ring_all, synced)),
            ("epoll: O_DIRECT + RWF_DSYNC in a thread", &|| log_cost(epoll, disk)),
            ("epoll: page cache + RWF_DSYNC", &|| log_cost(epoll, cached)),
            ("epoll: page cache, then fdatasync", &|| log_cost(epoll, Disk { flag: false, ..cached })),
        ],
    );
    fs::remove_dir_all(&directory).expect("removes the directory");
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let parts: [(&str, fn()); 3] = [("echo", echoes), ("wake", wakes), ("log", logs)];
    for (name, run) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
