//! Memory is bounded by what is alive, not by what was ever written.

use std::collections::VecDeque;

use super::client::{Client, Event, compaction, path, put, revision};
use super::server::{Server, on};
use super::system::{Scratch, free_port};

const KEYS: usize = 20_000;
const VALUE_BYTES: usize = 1_024;
const ROUNDS: usize = 20;
/// Calls under way.
const DEPTH: usize = 256;

/// Overwrites every key; gives the last revision.
fn overwrite(client: &mut Client, round: usize) -> i64 {
    let mut newest = 0;
    let (mut begun, mut ended) = (0, 0);
    let mut waiting = VecDeque::new();
    while ended < KEYS {
        while begun < KEYS && waiting.len() < DEPTH {
            let mut value = format!("{round}/").into_bytes();
            value.resize(VALUE_BYTES, b'a' + (begun % 26) as u8);
            let stream = client.call(path::PUT, &put(format!("key/{begun:08}").as_bytes(), &value));
            waiting.push_back(stream.expect("the server reads"));
            begun += 1;
        }
        match client.next().expect("the server answers") {
            Event::Message(_, answer) => newest = newest.max(revision(&answer)),
            Event::End(stream, status) => {
                assert_eq!(status.code, 0, "{status:?}");
                waiting.retain(|other| *other != stream);
                ended += 1;
            }
            Event::GoAway(_) => panic!("nobody asked the server to stop"),
        }
    }
    newest
}

/// Twenty times the data through the same keys, with a compaction after each round.
#[test]
fn resident_memory_is_bounded_by_live_data() {
    let (scratch, port) = (Scratch::new("memory"), free_port());
    let data = scratch.0.join("data");
    // Syncs have nothing to do with memory, but would take most of the time.
    let server = Server::start_with(on(&data, port).arg("--unsafe-no-fsync"), port);
    let mut client = server.connect();
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        let newest = overwrite(&mut client, round);
        client.unary(path::COMPACT, &compaction(newest)).expect("the compaction is done");
        resident.push(server.resident_bytes());
    }
    let mebibytes: Vec<u64> = resident.iter().map(|bytes| bytes >> 20).collect();
    println!("resident MiB after each round: {mebibytes:?}, at most {}", server.resident_bytes_peak() >> 20);
    let live = (KEYS * (VALUE_BYTES + 64)) as u64;
    let (fifth, last) = (resident[4], resident[ROUNDS - 1]);
    assert!(last <= 4 * live + (64 << 20), "live {} MiB, resident MiB {mebibytes:?}", live >> 20);
    assert!(last <= fifth + fifth / 4, "it grows: resident MiB {mebibytes:?}");
    drop(client);
    server.stop();
}
