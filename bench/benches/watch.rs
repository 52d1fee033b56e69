//! From an event to the messages of its watchers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etchd::pure::mvcc::Store;
use etchd::pure::watch::{HeaderIds, Hub, HubConfig, StreamKey, WatchCreate};
use etchd::stdx::prng::Prng;
use etchd::stdx::time::Monotonic;
use etchd::stdx::work::{Step, Work};
use etchd_bench::scattered;

struct Scene {
    store: Store,
    hub: Hub,
    streams: Vec<StreamKey>,
}

impl Scene {
    fn new(streams: usize) -> Scene {
        let mut hub = Hub::new(HubConfig::new(1, 1_572_864, Duration::from_secs(600)));
        let mut prng = Prng::new(1);
        let streams = (0..streams).map(|_| hub.open_stream(Monotonic(0), &mut prng)).collect();
        Scene { store: Store::new(1), hub, streams }
    }

    fn watch(&mut self, at: usize, key: String, range_end: String) {
        let view = self.store.view();
        let request = WatchCreate { key: key.into(), range_end: range_end.into(), ..WatchCreate::default() };
        let stream = self.streams[at % self.streams.len()];
        assert!(self.hub.create(stream, &request, Ok(()), &view).is_some());
        self.take();
    }

    /// Takes and encodes all messages.
    fn take(&mut self) -> u64 {
        let (mut out, mut taken) = (Vec::new(), 0);
        while let Some(key) = self.hub.poll_ready() {
            while let Some(message) = self.hub.poll_message(key, 1) {
                taken += u64::from(message.event_count());
                out.clear();
                message.encode(&HeaderIds::default(), &mut out);
                black_box(&out);
            }
        }
        taken
    }

    /// Delivers what was put.
    fn deliver(&mut self) -> (Duration, u64) {
        let view = self.store.view();
        let (start, mut taken) = (Instant::now(), 0);
        while self.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {
            taken += self.take();
        }
        taken += self.take();
        (start.elapsed(), taken)
    }
}

fn prefix(number: u64) -> (String, String) {
    (format!("/registry/pods/namespace-{number:06}/"), format!("/registry/pods/namespace-{number:06}0"))
}

/// Each event has one watcher among 100 k: puts in batches of 64.
fn matching(criterion: &mut Criterion) {
    const WATCHERS: u64 = 100_000;
    let mut group = criterion.benchmark_group("watch");
    group.throughput(Throughput::Elements(64));
    for kind in ["prefixes", "keys"] {
        let mut scene = Scene::new(100);
        for number in 0..WATCHERS {
            let (start, end) = prefix(number);
            match kind {
                "prefixes" => scene.watch(number as usize, start, end),
                _ => scene.watch(number as usize, start + "pod", String::new()),
            }
        }
        let mut next = 0;
        group.bench_function(format!("match with 100 k watchers of {kind}"), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    for _ in 0..64 {
                        next += 1;
                        let key = prefix(scattered(next % WATCHERS, WATCHERS)).0 + "pod";
                        scene.store.put(key.as_bytes(), &[b'v'; 256], 0);
                        scene.store.end_txn();
                    }
                    let (time, taken) = scene.deliver();
                    assert_eq!(taken, 64);
                    took += time;
                }
                took
            });
        });
    }
    group.finish();
}

/// One put to a key with 1,000 watchers on one stream.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch");
    group.throughput(Throughput::Elements(1_000));
    let mut scene = Scene::new(1);
    for number in 0..1_000 {
        scene.watch(number, "/hot".into(), String::new());
    }
    group.bench_function("1,000 watchers of one key", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                scene.store.put(b"/hot", &[b'v'; 256], 0);
                scene.store.end_txn();
                let (time, taken) = scene.deliver();
                assert_eq!(taken, 1_000);
                took += time;
            }
            took
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = matching, fan_out
}
criterion_main!(benches);
