//! What an event costs. Run in release:
//! `cargo test --release --lib pure::watch::bench -- --ignored --nocapture --test-threads 1`
#![expect(clippy::print_stdout, reason = "a measurement is read by people")]

use std::time::{Duration, Instant};

use super::*;
use crate::pure::mvcc::Store;
use crate::stdx::prng::Prng;
use crate::stdx::time::Monotonic;
use crate::stdx::work::{Step, Work};

struct Bench {
    store: Store,
    hub: Hub,
    streams: Vec<StreamKey>,
}

impl Bench {
    fn new(streams: usize) -> Bench {
        let mut hub = Hub::new(HubConfig::new(1, 1_572_864, Duration::from_secs(600)));
        let mut prng = Prng::new(1);
        let streams = (0..streams).map(|_| hub.open_stream(Monotonic(0), &mut prng)).collect();
        Bench { store: Store::new(1), hub, streams }
    }

    fn watch(&mut self, at: usize, key: String, range_end: String) {
        let view = self.store.view();
        let request = WatchCreate { key: key.into(), range_end: range_end.into(), ..WatchCreate::default() };
        let stream = self.streams[at % self.streams.len()];
        assert!(self.hub.create(stream, &request, Ok(()), &view).is_some());
    }

    /// Writes the keys, then delivers them a batch at a time: nanoseconds to pump and nanoseconds to take
    /// and encode, of the best of some rounds; and how many events there were.
    fn deliver(&mut self, keys: &[String], rounds: usize) -> (f64, f64, u64) {
        let (mut best_pump, mut best_take, mut events) = (f64::MAX, f64::MAX, 0);
        let mut out = Vec::new();
        for _ in 0..rounds {
            let (mut pump, mut take) = (Duration::ZERO, Duration::ZERO);
            let before = self.hub.counts().events_sent;
            for batch in keys.chunks(64) {
                for key in batch {
                    self.store.put(key.as_bytes(), &[b'v'; 100], 0);
                    self.store.end_txn();
                }
                let view = self.store.view();
                let start = Instant::now();
                while self.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
                pump += start.elapsed();
                let start = Instant::now();
                while let Some(key) = self.hub.poll_ready() {
                    while let Some(message) = self.hub.poll_message(key, 1) {
                        out.clear();
                        message.encode(&HeaderIds::default(), &mut out);
                        std::hint::black_box(&out);
                    }
                }
                take += start.elapsed();
            }
            events = self.hub.counts().events_sent - before;
            best_pump = best_pump.min(pump.as_nanos() as f64);
            best_take = best_take.min(take.as_nanos() as f64);
        }
        (best_pump, best_take, events)
    }
}

fn prefix(number: usize) -> (String, String) {
    (format!("/registry/pods/namespace-{number:06}/"), format!("/registry/pods/namespace-{number:06}0"))
}

#[test]
#[ignore = "measures"]
fn distinct_prefixes() {
    let mut prng = Prng::new(3);
    for count in [1_000, 10_000, 100_000] {
        for kind in ["prefix", "range", "key"] {
            let mut bench = Bench::new(100);
            for number in 0..count {
                let (start, end) = prefix(number);
                match kind {
                    "prefix" => bench.watch(number, start, end),
                    "range" => bench.watch(number, start + "a", end),
                    _ => bench.watch(number, start + "pod", String::new()),
                }
            }
            let keys: Vec<String> =
                (0..6_400).map(|_| prefix(prng.below(count as u64) as usize).0 + "pod").collect();
            let (pump, take, events) = bench.deliver(&keys, 5);
            assert_eq!(events, 6_400);
            let each = |nanos: f64| nanos / events as f64;
            println!(
                "{count:>7} of kind {kind:<6}: pump {:.0} ns, take {:.0} ns an event",
                each(pump),
                each(take)
            );
        }
    }
}

#[test]
#[ignore = "measures"]
fn many_watchers_of_one_key() {
    for (streams, watchers) in [(1, 1_000), (10, 1_000), (100, 1_000), (1_000, 1_000), (100, 10_000)] {
        let mut bench = Bench::new(streams);
        for number in 0..watchers {
            bench.watch(number, "/hot".into(), String::new());
        }
        let (pump, take, events) = bench.deliver(&vec!["/hot".into(); 64], 20);
        let each = |nanos: f64| nanos / events as f64;
        println!(
            "{watchers} watchers on {streams} streams: pump {:.0} ns, take {:.0} ns a watcher-event; {} of {}",
            each(pump),
            each(take),
            events,
            64 * watchers
        );
    }
}

#[test]
#[ignore = "measures"]
fn catching_up() {
    let mut bench = Bench::new(1_000);
    for number in 0..200_000 {
        let key = prefix(number % 1_000).0 + "pod";
        bench.store.put(key.as_bytes(), &[b'v'; 100], 0);
        bench.store.end_txn();
    }
    let view = bench.store.view();
    for number in 0..1_000 {
        let (start, end) = prefix(number);
        let request = WatchCreate {
            key: start.into(),
            range_end: end.into(),
            start_revision: 2,
            ..WatchCreate::default()
        };
        assert!(bench.hub.create(bench.streams[number], &request, Ok(()), &view).is_some());
    }
    let (start, mut slices, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while bench.hub.has_work(&view) {
        let slice = Instant::now();
        assert_ne!(bench.hub.pump(&view, &mut Work::new(1_000)), Step::Pending);
        longest = longest.max(slice.elapsed());
        slices += 1;
        while let Some(key) = bench.hub.poll_ready() {
            while bench.hub.poll_message(key, 1).is_some() {}
        }
    }
    let counts = bench.hub.counts();
    assert_eq!(counts.events_sent, 200_000);
    println!(
        "1,000 watchers over 200,000 revisions: {:.0} ms, {slices} slices, longest {:.0} us",
        start.elapsed().as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e6
    );
}

/// Resident bytes of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}

#[test]
#[ignore = "measures"]
fn memory_of_an_idle_watch() {
    for kind in ["prefix", "range", "key"] {
        let mut bench = Bench::new(100);
        let (mut key_bytes, before) = (0, resident());
        const COUNT: usize = 300_000;
        for number in 0..COUNT {
            let (start, end) = prefix(number);
            match kind {
                "prefix" => {
                    key_bytes += start.len();
                    bench.watch(number, start, end);
                }
                "range" => {
                    key_bytes += start.len() + 1 + end.len();
                    bench.watch(number, start + "a", end);
                }
                _ => {
                    key_bytes += start.len();
                    bench.watch(number, start, String::new());
                }
            }
            if number % 1_000 == 0 {
                for at in 0..bench.streams.len() {
                    while bench.hub.poll_message(bench.streams[at], 1).is_some() {}
                }
            }
        }
        let each = (resident() - before - key_bytes) / COUNT;
        println!("{kind}: {each} bytes beyond its key of {}", key_bytes / COUNT);
        std::mem::forget(bench);
    }
}
