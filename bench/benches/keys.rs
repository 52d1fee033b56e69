//! The key space with 1 M keys: apply, gets, ranges, counts, pages.
//! Budgets: apply 0.4 us (existing key) and 1.0 us (new key), prefetched.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etchd::pure::api::requests::PutView;
use etchd::pure::apply::Applier;
use etchd::pure::mvcc::{KeyRange, KvView, RangeQuery, RangeWalk};
use etchd::stdx::work::{Step, Work};
use etchd_bench::{filled, key, scattered};

const KEYS: u64 = 1_000_000;
/// Puts that are applied between two views, as under load.
const BATCH: u64 = 256;

fn put(key: &[u8]) -> PutView<'_> {
    let value = &[b'v'; 256];
    PutView { key, value, lease: 0, prev_kv: false, ignore_value: false, ignore_lease: false }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH));
    let mut applier = Applier::new(1, 2);
    for number in 0..KEYS {
        applier.put(&put(&key(scattered(number, KEYS))));
    }
    let cases =
        [("existing of 1 M keys, budget 400 ns each", false), ("new to 1 M keys, budget 1000 ns each", true)];
    for (name, is_new) in cases {
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let keys: Vec<_> = (0..BATCH)
                        .map(|_| {
                            next += 1;
                            let existing = key(scattered(next % KEYS, KEYS));
                            if is_new {
                                [&existing[..], format!("-{next}").as_bytes()].concat()
                            } else {
                                existing
                            }
                        })
                        .collect();
                    let view = applier.store_mut().view();
                    let start = Instant::now();
                    // As the sequencer does.
                    for keys in keys.chunks(16) {
                        applier.foresee(keys.iter().map(Vec::as_slice));
                        for key in keys {
                            black_box(applier.put(&put(key)));
                        }
                    }
                    took += start.elapsed();
                    drop(view);
                    drop(applier.store_mut().take_retired());
                }
                took
            });
        });
    }
    group.finish();
}

fn walk(view: &KvView, limit: i64, count_only: bool, start: u64, keys: u64) -> usize {
    let mut walk = RangeWalk::new(RangeQuery {
        limit,
        count_only,
        ..RangeQuery::plain(
            KeyRange::Between(Bytes::from(key(start)), Bytes::from(key(start + keys))),
            view.revision(),
        )
    });
    loop {
        if let Step::Done(found) = walk.step(view, &mut Work::new(1_000)) {
            assert_eq!(found.count, keys as i64);
            return found.records.iter().map(|record| record.kv_bytes().len()).sum();
        }
    }
}

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reads of 1 M keys");
    let mut store = filled(KEYS);
    let view = store.view();
    let mut next = 0;
    group.bench_function("get", |bencher| {
        bencher.iter_custom(|rounds| {
            let keys: Vec<_> = (0..rounds).map(|at| key(scattered((next + at) % KEYS, KEYS))).collect();
            next += rounds;
            let start = Instant::now();
            for key in &keys {
                black_box(view.get(key, view.revision()));
            }
            start.elapsed()
        });
    });
    group.bench_function("count of all", |bencher| bencher.iter(|| walk(&view, 0, true, 0, KEYS)));
    group.throughput(Throughput::Elements(500));
    group.bench_function("page of 500 with count", |bencher| {
        bencher.iter(|| walk(&view, 500, false, 0, KEYS))
    });
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("range of 10 k", |bencher| bencher.iter(|| walk(&view, 0, false, 500_000, 10_000)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = apply, reads
}
criterion_main!(benches);
