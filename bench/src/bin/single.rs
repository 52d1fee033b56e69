//! One client's put over the raw durable write that it has to wait for.
//!
//!     cargo build --release && cargo run --release -p etchd-bench --bin single
//!
//! One thread puts and writes in alternation, so that both see the disk in the same mood: a put, then 4 KiB with
//! `O_DIRECT | O_DSYNC` into a file beside the server's data. Servers with one shard and with two take turns; with
//! two, a client's connection is on the shard that also writes the log, or on the other one. Last in a
//! line: the median of the rounds' differences, and their range.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use etchd::edge::buffer::AlignedBuffer;
use etchd_bench::process::{Connection, PUT, Process, RANGE, in_turn, median, percentile};
use etchd_bench::{field, put_request};

const ROUNDS: usize = 9;
const TIMES: usize = 500;
const BLOCK: usize = 4096;
const BLOCKS: usize = 1024;

struct Raw {
    file: File,
    path: std::path::PathBuf,
    block: AlignedBuffer,
    at: usize,
}

impl Raw {
    /// A file of written blocks, so that a write changes nothing but its block.
    fn create() -> Raw {
        let path = std::path::PathBuf::from(format!("build/bench-raw-{}", std::process::id()));
        std::fs::write(&path, vec![0; BLOCK * BLOCKS]).expect("writes");
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(&path);
        let file = file.expect("opens with O_DIRECT");
        file.sync_all().expect("syncs");
        let mut block = AlignedBuffer::new(BLOCK);
        block.resize_zeroed(BLOCK);
        Raw { file, path, block, at: 0 }
    }

    fn write(&mut self) {
        self.at = (self.at + 1) % BLOCKS;
        self.file.write_all_at(&self.block, (self.at * BLOCK) as u64).expect("writes");
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

fn micros(mut what: impl FnMut()) -> f64 {
    let began = Instant::now();
    what();
    began.elapsed().as_secs_f64() * 1e6
}

/// What was measured of one server, in microseconds.
#[derive(Default)]
struct Took {
    raw: Vec<f64>,
    put: Vec<f64>,
    get: Vec<f64>,
}

fn measure(port: u16, raw: &mut Raw) -> Took {
    let mut took = Took::default();
    let mut puts = Connection::open(port, PUT);
    let put = put_request(b"key", &[b'v'; 256]);
    for _ in 0..TIMES {
        took.raw.push(micros(|| raw.write()));
        took.put.push(micros(|| assert!(puts.unary(&put), "the server answers")));
    }
    drop(puts);
    // The next one is to go where this one was.
    std::thread::sleep(Duration::from_millis(20));
    let mut gets = Connection::open(port, RANGE);
    let get = field(1, b"key");
    for _ in 0..TIMES {
        took.get.push(micros(|| assert!(gets.unary(&get), "the server answers")));
    }
    drop(gets);
    std::thread::sleep(Duration::from_millis(20));
    took
}

fn main() {
    let servers = [1, 2, 2].map(Process::start);
    std::thread::sleep(Duration::from_millis(100));
    // New connections go to the shard with the fewest.
    let on_the_first = Connection::open(servers[2].port, PUT);
    let names = ["1 shard", "2 shards, by the first", "2 shards, by the second"];
    let mut raw = Raw::create();
    let measured = in_turn(ROUNDS, &servers, |server| measure(server.port, &mut raw));
    drop(on_the_first);
    println!(
        "{:24} {:>14} {:>14} {:>14}   put over raw",
        "us", "raw p50, p99", "put p50, p99", "get p50, p99"
    );
    for (name, rounds) in names.into_iter().zip(measured) {
        let show = |what: fn(&Took) -> &Vec<f64>| {
            let all: Vec<f64> = rounds.iter().flat_map(what).copied().collect();
            format!("{:.0}, {:.0}", median(&all), percentile(&all, 99))
        };
        let (raw, put, get) = (show(|took| &took.raw), show(|took| &took.put), show(|took| &took.get));
        let over: Vec<f64> = rounds.iter().map(|took| median(&took.put) - median(&took.raw)).collect();
        let (least, most) = (percentile(&over, 0), percentile(&over, 99));
        println!(
            "{name:24} {raw:>14} {put:>14} {get:>14}   {:+.0} ({least:+.0} to {most:+.0})",
            median(&over)
        );
    }
}
