//! A put (and a get) on their way through a shard and the sequencer, all but kernel and disk.
//! Budgets: design section 8. `elements/s` are requests; the budgets are per request.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etchd::pure::api::requests::PutView;
use etchd::pure::api::validate::validate_put;
use etchd::pure::front::resolve;
use etchd::pure::session::{self, Session, SessionEvent, Transmit};
use etchd::stdx::time::Monotonic;
use etchd_bench::{Client, Server, TOGETHER, field, key, put_request, scattered};

/// Frame + HPACK + gRPC + PutRequest + checks: 0.6 us; answer: 0.2 us. 16 requests come in one receive.
fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(TOGETHER as u64));
    let message = put_request(&key(7), &[b'v'; 256]);
    for part in ["put request, budget 600 ns each", "put answer, budget 200 ns each"] {
        group.bench_function(part, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut session = Session::new(session::Config::new(resolve), Monotonic(0));
                let mut transmit = Transmit::new(1 << 20, 64);
                let mut client = Client::new("/etcdserverpb.KV/Put");
                session.handle_bytes(Monotonic(0), &client.hello());
                let (mut request, mut answer) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..rounds {
                    let bytes = client.requests((0..TOGETHER).map(|_| &message[..]));
                    let mut streams = Vec::with_capacity(TOGETHER);
                    let start = Instant::now();
                    session.handle_bytes(Monotonic(1), &bytes);
                    while let Some(event) = session.poll_event() {
                        let SessionEvent::Call { stream, message, .. } = event else { panic!("{event:?}") };
                        let put = PutView::decode(&message).expect("a PutRequest");
                        validate_put(&put).expect("valid");
                        black_box(put.value.len());
                        streams.push(stream);
                    }
                    request += start.elapsed();
                    assert_eq!(streams.len(), TOGETHER);
                    let start = Instant::now();
                    for stream in streams {
                        session.send_unary(
                            stream,
                            &[10, 20, 8, 1, 16, 2, 24, 3, 32, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                        );
                    }
                    session.poll_transmit(&mut transmit);
                    black_box(transmit.len());
                    transmit.clear();
                    answer += start.elapsed();
                }
                if part.starts_with("put request") { request } else { answer }
            });
        });
    }
    group.finish();
}

/// All of it: 64 connections with 16 requests each in a turn. Budgets without kernel: a put 1.7 us (0.6 codec, 0.2
/// mailboxes, 0.3 log, 0.4 apply, 0.2 answer), a get has no line of its own.
fn whole(criterion: &mut Criterion) {
    const CONNECTIONS: usize = 64;
    let mut group = criterion.benchmark_group("whole");
    group.throughput(Throughput::Elements((CONNECTIONS * TOGETHER) as u64));
    for (name, keys) in [
        ("put one key, budget 1700 ns each", 1),
        ("put existing of 1 M keys, budget 1700 ns each", 1_000_000),
        ("get", 0),
    ] {
        let mut server = Server::new();
        let put = "/etcdserverpb.KV/Put";
        let mut filler = Client::new(put);
        let connection = server.connect();
        server.receive(connection, &filler.hello());
        let keys_max = u64::max(keys, 1);
        let mut filled = 0;
        while filled < keys_max {
            let mut bytes = Vec::new();
            for _ in 0..1_000.min(keys_max - filled) {
                filler.request(&put_request(&key(scattered(filled, keys_max)), &[b'v'; 256]), &mut bytes);
                filled += 1;
            }
            for chunk in bytes.chunks(16 * 1024) {
                server.receive(connection, chunk);
            }
            server.turn();
        }
        assert_eq!(server.revision(), 1 + filled as i64);
        let path = if keys == 0 { "/etcdserverpb.KV/Range" } else { put };
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| (server.connect(), Client::new(path))).collect();
        for (connection, client) in &clients {
            server.receive(*connection, &client.hello());
        }
        server.turn();
        let mut next = 12_345;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let receives: Vec<_> = clients
                        .iter_mut()
                        .map(|(connection, client)| {
                            let mut bytes = Vec::new();
                            for _ in 0..TOGETHER {
                                next += 1;
                                let key = key(scattered(next % keys_max, keys_max));
                                let message =
                                    if keys == 0 { field(1, &key) } else { put_request(&key, &[b'v'; 256]) };
                                client.request(&message, &mut bytes);
                            }
                            (*connection, bytes)
                        })
                        .collect();
                    let before = server.revision();
                    let start = Instant::now();
                    for (connection, bytes) in &receives {
                        server.receive(*connection, bytes);
                    }
                    let sent = server.turn();
                    took += start.elapsed();
                    assert_eq!(sent, CONNECTIONS);
                    let moved = if keys == 0 { 0 } else { (CONNECTIONS * TOGETHER) as i64 };
                    assert_eq!(server.revision(), before + moved);
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4));
    targets = codec, whole
}
criterion_main!(benches);
