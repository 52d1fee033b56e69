//! Leases over time and over a restart.

use std::time::{Duration, Instant};

use etchd::pure::api::requests::{LeaseTimeToLiveRequest, PutRequest};

use super::client::{Client, KeyValue, get, grant, integer, keys, nested, path, put, watch_everything};
use super::server::Server;
use super::system::{Scratch, free_port};

const SHORT_SECONDS: u64 = 5;
const LONG_SECONDS: i64 = 100;

fn remaining(client: &mut Client, lease: i64) -> i64 {
    let request = LeaseTimeToLiveRequest { id: lease, keys: false };
    integer(&client.unary(path::TIME_TO_LIVE, &request).expect("the lease is known"), 3)
}

fn attached(key: &[u8], lease: i64) -> PutRequest {
    PutRequest { lease, ..put(key, b"") }
}

/// Expiry deletes a lease's keys in one revision, not before its time; a restart gives the full time again.
#[test]
fn leases_expire_at_once_and_restart_in_full() {
    let (scratch, port) = (Scratch::new("leases"), free_port());
    let data = scratch.0.join("data");
    let mut server = Server::start(&data, port);
    let mut client = server.connect();
    let long = grant(&mut client, LONG_SECONDS);
    client.unary(path::PUT, &attached(b"long", long)).expect("the put is done");
    let begun = Instant::now();
    let short = grant(&mut client, SHORT_SECONDS as i64);
    for key in ["a", "b", "c"] {
        client.unary(path::PUT, &attached(key.as_bytes(), short)).expect("the put is done");
    }
    let mut watcher = server.connect();
    let stream = watcher.open(path::WATCH, &watch_everything()).expect("the watch opens");
    watcher.next_message(stream).expect("the watch is created");
    let message = watcher.next_message(stream).expect("the expiry is seen");
    assert!(begun.elapsed() >= Duration::from_secs(SHORT_SECONDS), "never early");
    let events = nested(&message, 11);
    let deleted: Vec<KeyValue> = events.iter().map(|event| KeyValue::decode(nested(event, 2)[0])).collect();
    assert!(events.iter().all(|event| integer(event, 1) == 1), "all are deletes");
    let names: Vec<&[u8]> = deleted.iter().map(|kv| kv.key.as_slice()).collect();
    assert_eq!(names, [b"a", b"b", b"c"]);
    // The four puts before it have the revisions 2 to 5.
    assert!(deleted.iter().all(|kv| kv.mod_revision == 6), "one revision: {deleted:?}");

    // The short lease has measured the time that has passed for the long one as well.
    let left = LONG_SECONDS - SHORT_SECONDS as i64;
    assert!(remaining(&mut client, long) <= left);
    server.kill();
    let server = Server::start(&data, port);
    let mut client = server.connect();
    assert!(remaining(&mut client, long) > left, "the full time again");
    let found = keys(&client.unary(path::RANGE, &get(b"long")).expect("the server reads"));
    assert_eq!((found.len(), found[0].lease), (1, long));
    assert!(keys(&client.unary(path::RANGE, &get(b"a")).expect("the server reads")).is_empty());
    drop(client);
    server.stop();
}
