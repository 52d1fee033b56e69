//! A long read keeps its instant while everything under it is overwritten, compacted and cleaned away.

use etchd::pure::api::requests::RangeRequest;

use super::client::{Client, Event, compaction, everything, get, keys, path, put, puts, revision};
use super::server::{Server, on};
use super::system::{Scratch, free_port};

const KEYS: usize = 20_000;
/// Operations of a transaction that a server takes without flags.
const OPS: usize = 128;
const ROUNDS: usize = 5;

/// Sends transactions that set every key to `value`; how many.
fn set_all(client: &mut Client, value: &str) -> usize {
    let numbers: Vec<usize> = (0..KEYS).collect();
    let chunks = numbers.chunks(OPS);
    let count = chunks.len();
    for chunk in chunks {
        let txn = puts(chunk.iter().map(|n| put(format!("key/{n:08}").as_bytes(), value.as_bytes())));
        client.call(path::TXN, &txn).expect("the server reads");
    }
    count
}

/// Takes answers until `count` calls have ended well; those of `stream`, and the newest revision.
fn finish(client: &mut Client, count: usize, stream: u32) -> (Vec<u8>, i64) {
    let (mut ended, mut newest, mut answer) = (0, 0, Vec::new());
    while ended < count {
        match client.next().expect("the server answers") {
            Event::Message(of, message) => {
                newest = newest.max(revision(&message));
                if of == stream {
                    answer = message;
                }
            }
            Event::End(_, status) => {
                assert_eq!(status.code, 0, "{status:?}");
                ended += 1;
            }
            Event::GoAway(_) => panic!("nobody asked the server to stop"),
        }
    }
    (answer, newest)
}

/// The range of an older revision, and the compaction that takes it away, are on their way at once.
#[test]
fn a_long_range_is_one_instant_under_a_compaction() {
    let (scratch, port) = (Scratch::new("reads"), free_port());
    let server = Server::start_with(on(&scratch.0.join("data"), port).arg("--unsafe-no-fsync"), port);
    let mut client = server.connect();
    let count = set_all(&mut client, "round 0");
    let (_, mut before) = finish(&mut client, count, 0);
    for round in 1..=ROUNDS {
        let count = set_all(&mut client, &format!("round {round}"));
        let (_, newest) = finish(&mut client, count, 0);
        let old = RangeRequest { revision: before, ..everything() };
        let range = client.call(path::RANGE, &old).expect("the server reads");
        client.call(path::COMPACT, &compaction(newest)).expect("the server reads");
        let (answer, _) = finish(&mut client, 2, range);
        let found = keys(&answer);
        assert_eq!(found.len(), KEYS, "nothing is missing, nothing came twice");
        let value = format!("round {}", round - 1);
        assert!(found.iter().all(|kv| kv.value == value.as_bytes()), "all of it is from before");
        before = newest;
    }
}

/// Streams of a connection, and connections of a shard, take turns by bytes: a get that is asked for behind large
/// lists is answered long before they end, on their own connection and on another one.
#[test]
fn a_small_read_overtakes_large_ones() {
    const LISTS: usize = 8;
    const VALUE_BYTES: usize = 1_000;
    let (scratch, port) = (Scratch::new("turns"), free_port());
    let mut command = on(&scratch.0.join("data"), port);
    let server = Server::start_with(command.args(["--unsafe-no-fsync", "--shards", "1"]), port);
    let mut client = server.connect();
    let value = "v".repeat(VALUE_BYTES);
    let count = set_all(&mut client, &value);
    finish(&mut client, count, 0);
    let streams: Vec<u32> =
        (0..LISTS).map(|_| client.call(path::RANGE, &everything()).expect("the server reads")).collect();
    let small = client.call(path::RANGE, &get(b"key/00000007")).expect("the server reads");
    client.flush().expect("sends");
    let mut other = server.connect();
    for _ in 0..100 {
        let answer = other.unary(path::RANGE, &get(b"key/00000007")).expect("the server reads");
        assert_eq!(keys(&answer).len(), 1);
    }
    let mut order = Vec::new();
    while order.len() < LISTS + 1 {
        match client.next().expect("the server answers") {
            Event::Message(of, message) if of != small => {
                let found = keys(&message);
                assert!(streams.contains(&of) && found.len() == KEYS, "a list is whole");
                assert!(found.iter().all(|kv| kv.value == value.as_bytes()));
                assert!(found.is_sorted_by(|one, next| one.key < next.key));
            }
            Event::Message(_, message) => assert_eq!(keys(&message).len(), 1),
            Event::End(of, status) => {
                assert_eq!(status.code, 0, "{status:?}");
                order.push(of);
            }
            Event::GoAway(_) => panic!("nobody asked the server to stop"),
        }
    }
    assert_eq!(order[0], small, "the get did not wait for the lists: {order:?}");
    server.stop();
}
