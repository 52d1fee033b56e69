//! Framing of log entries: frames, checksums, whole blocks. Budget with the raft step: 0.3 us an entry of 256 bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etchd::pure::api::log_payload::{self, Header};
use etchd::pure::api::requests::PutView;
use etchd::pure::raft::{Entry, EntryKind};
use etchd::pure::types::{LogIndex, Term};
use etchd_bench::{BatchMemory, key, put_request, value, writer};

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    for entries in [1_u64, 16, 256] {
        group.throughput(Throughput::Elements(entries));
        group.bench_function(format!("batch of {entries}, budget 300 ns each"), |bencher| {
            bencher.iter_custom(|rounds| {
                let (mut log, mut memory) = (writer(), BatchMemory::default());
                let request = put_request(&key(7), &value());
                let put = PutView::decode(&request).expect("a PutRequest");
                let header = Header { id: 1 << 48, username: "", auth_revision: 0 };
                let payload = bytes::Bytes::from(log_payload::encode_put(&header, &put));
                let (mut index, mut took) = (LogIndex(0), Duration::ZERO);
                for _ in 0..rounds {
                    let start = Instant::now();
                    for _ in 0..entries {
                        index = LogIndex(index.0 + 1);
                        let payload = payload.clone();
                        log.append_entry(Entry { term: Term(1), index, kind: EntryKind::Normal, payload });
                    }
                    while let Some(write) = log.poll_write(&mut memory) {
                        black_box(&memory);
                        log.handle_written(write.token, write.bytes).expect("written in full");
                    }
                    took += start.elapsed();
                    while let Some(need) = log.poll_segment() {
                        log.handle_segment_ready(need.number);
                    }
                }
                took
            });
        });
    }
    group.bench_function("payload of a put", |bencher| {
        let request = put_request(&key(7), &value());
        let header = Header { id: 1 << 48, username: "", auth_revision: 0 };
        bencher.iter(|| {
            let put = PutView::decode(black_box(&request)).expect("a PutRequest");
            log_payload::encode_put(&header, &put)
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2));
    targets = framing
}
criterion_main!(benches);
