//! A long read keeps its instant while everything under it is overwritten, compacted and cleaned away.

use etchd::pure::api::requests::RangeRequest;

use super::client::{Client, Event, compaction, everything, keys, path, put, puts, revision};
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
