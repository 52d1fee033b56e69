//! What a second shard is worth: gets a second of servers with one and with two, in turn.
//!
//!     cargo build --release && cargo run --release -p etchd-bench --bin cores
//!
//! The client is one thread that sends gets 16 at a time on 64 connections and looks at nothing but the heads of the
//! answers' frames, so that it takes as little as can be of the processors that it shares with the server. Beside the
//! rates it prints how busy each side was: a side with a whole processor (1.00) is the limit.

use std::time::{Duration, Instant};

use etchd_bench::process::{Connection, PUT, Process, RANGE, in_turn, median_of, median_ratio, own_cpu};
use etchd_bench::{TOGETHER, field, key, put_request, scattered};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

/// One measurement: gets a second, processors that the server and the client were busy on.
struct Load {
    rate: f64,
    server: f64,
    client: f64,
}

fn fill(server: &Process, keys: u64) {
    let mut connection = Connection::open(server.port, PUT);
    let puts: Vec<Vec<u8>> = (0..keys).map(|number| put_request(&key(number), &[b'v'; 256])).collect();
    for some in puts.chunks(1_000) {
        assert!(connection.send_all(some.iter().map(Vec::as_slice)) && connection.wait(), "puts");
    }
}

fn load(server: &Process, gets: &[Vec<u8>]) -> Load {
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(server.port, RANGE)).collect();
    let mut batches = gets.chunks(TOGETHER).cycle();
    let mut send = |connection: &mut Connection| {
        let batch = batches.next().expect("they go on for ever");
        assert!(connection.send_all(batch.iter().map(Vec::as_slice)), "the server takes gets");
    };
    connections.iter_mut().for_each(&mut send);
    let (server_cpu, client_cpu, began, mut answered) = (server.cpu(), own_cpu(), Instant::now(), 0);
    while began.elapsed() < ROUND {
        for connection in &mut connections {
            assert!(connection.wait(), "the server answers");
            send(connection);
            answered += TOGETHER;
        }
    }
    let took = began.elapsed().as_secs_f64();
    Load {
        rate: answered as f64 / took,
        server: (server.cpu() - server_cpu) / took,
        client: (own_cpu() - client_cpu) / took,
    }
}

fn main() {
    println!(
        "{:26} {:>10} {:>10} {:>7}   busy processors: server, client",
        "", "1 shard", "2 shards", "ratio"
    );
    for (what, keys) in [("gets/s of one key", 1), ("gets/s of a million keys", 1_000_000)] {
        let servers = [Process::start(1), Process::start(2)];
        servers.iter().for_each(|server| fill(server, keys));
        let asked = (keys as usize).clamp(TOGETHER, 1 << 18) as u64;
        let gets: Vec<Vec<u8>> = (0..asked).map(|number| field(1, &key(scattered(number, keys)))).collect();
        let loads = in_turn(ROUNDS, &servers, |server| load(server, &gets));
        let ratio = median_ratio(&loads, |load| load.rate);
        let [one, two] = loads.each_ref().map(|loads| {
            [
                median_of(loads, |load| load.rate),
                median_of(loads, |load| load.server),
                median_of(loads, |load| load.client),
            ]
        });
        println!(
            "{what:26} {:10.0} {:10.0} {ratio:6.2}x   {:.2}, {:.2} with one; {:.2}, {:.2} with two",
            one[0], two[0], one[1], one[2], two[1], two[2]
        );
    }
}
