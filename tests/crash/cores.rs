//! Several shards: one client's requests on connections of different shards, stops and kills.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etchd::pure::api::requests::{
    Compare, CompareOperand, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest,
};
use etchd::stdx::prng::Prng;
use etchd::testing::checkers::replay;
use etchd::testing::history::{
    Answer, Call, Change, History, Life, Outcome, Published, Request, Time, Truth,
};
use etchd::testing::world::answers;

use super::client::{Client, Failure, get, path, revision};
use super::load::{Expected, Load};
use super::server::{Server, on};
use super::system::{Scratch, free_port};

const CLIENTS: usize = 4;
const CALLS: u64 = 1_500;
const KEYS: u64 = 6;

fn start(scratch: &Scratch, port: u16, shards: usize) -> Server {
    let mut command = on(&scratch.0.join("data"), port);
    Server::start_with(command.args(["--shards", &shards.to_string()]), port)
}

fn key(random: &mut Prng) -> Bytes {
    format!("key/{}", random.below(KEYS)).into()
}

/// A random request; `value` is unique in the run.
fn request(random: &mut Prng, value: String) -> Request {
    let key = key(random);
    let put = PutRequest { key: key.clone(), value: value.into(), ..PutRequest::default() };
    let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    match random.below(10) {
        0..4 => Request::Put(PutRequest { prev_kv: random.chance(1, 2), ..put }),
        4..7 => Request::Range(range),
        7 => Request::Range(RangeRequest { key: "key/".into(), range_end: "key0".into(), ..range }),
        8 => Request::Delete(DeleteRangeRequest { key, prev_kv: true, ..DeleteRangeRequest::default() }),
        _ => Request::Txn(TxnRequest {
            compare: vec![Compare {
                // GREATER than a VERSION.
                result: 1,
                target: 0,
                key,
                operand: CompareOperand::Version(random.below(3).cast_signed()),
                range_end: Bytes::new(),
            }],
            success: vec![RequestOp::Put(put)],
            failure: vec![RequestOp::Range(range)],
        }),
    }
}

fn perform(client: &mut Client, request: &Request) -> Result<Vec<u8>, Failure> {
    match request {
        Request::Range(range) => client.unary(path::RANGE, range),
        Request::Put(put) => client.unary(path::PUT, put),
        Request::Delete(delete) => client.unary(path::DELETE, delete),
        Request::Txn(txn) => client.unary(path::TXN, txn),
        other => unreachable!("{other:?} is not drawn"),
    }
}

/// One client with a connection to each of two shards; each call goes over one of them.
fn client(number: usize, mut connections: Vec<Client>, began: Instant) -> Vec<Call> {
    let mut random = Prng::new(number as u64 + 1);
    let now = || Time::try_from(began.elapsed().as_nanos()).expect("short");
    let calls = (0..CALLS).map(|count| {
        let request = request(&mut random, format!("{number}-{count}"));
        let connection = random.below(connections.len() as u64) as usize;
        let invoked = now();
        let message = perform(&mut connections[connection], &request).expect("the server answers");
        let returned = now();
        let (revision, answer) = answers::answer(&request, &message);
        let outcome = Outcome::Answered { revision, answer };
        Call { client: number, life: 0, invoked, returned, request, outcome }
    });
    calls.collect()
}

/// When each revision was asked for: the earliest time at which it can have been published.
fn asked(history: &History) -> BTreeMap<i64, Time> {
    let mut asked = BTreeMap::new();
    for call in &history.calls {
        let Outcome::Answered { revision, answer } = &call.outcome else { continue };
        let has_written = match answer {
            Answer::Put(_) => true,
            Answer::Delete { deleted, .. } => *deleted > 0,
            Answer::Txn { succeeded, .. } => *succeeded,
            _ => false,
        };
        if has_written {
            assert!(asked.insert(*revision, call.invoked).is_none(), "two calls wrote revision {revision}");
        }
    }
    asked
}

/// A watch of all keys and all history.
fn watch_from_the_start() -> WatchRequest {
    WatchRequest::Create(WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: 2,
        ..WatchCreateRequest::default()
    })
}

/// The log of revisions, as a watch of everything tells it.
fn truth(server: &Server, asked: &BTreeMap<i64, Time>, upto: i64) -> Truth {
    let mut watcher = server.connect();
    let stream = watcher.open(path::WATCH, &watch_from_the_start()).expect("the watch opens");
    let mut truth = Truth::default();
    truth.lives.push(Life { ready: 0, ended: Time::MAX });
    while truth.revision() < upto {
        let message = watcher.next_message(stream).expect("the watch goes on");
        for event in answers::watch(&message).events {
            if event.kv.mod_revision > truth.revision() {
                assert_eq!(event.kv.mod_revision, truth.revision() + 1, "a revision is missing");
                // No earlier than the one before it.
                let earliest = truth.revisions.last().map_or(0, |before| before.at);
                let at = asked[&event.kv.mod_revision].max(earliest);
                truth.revisions.push(Published { at, changes: Vec::new() });
            }
            let changes = &mut truth.revisions.last_mut().expect("it was just pushed").changes;
            changes.push(Change { is_delete: event.is_delete, kv: event.kv });
        }
    }
    truth
}

/// A read that saw less than it had to: what a shard with an old view would have answered.
fn with_a_stale_read(history: &History, truth: &Truth) -> Option<History> {
    let (replay, _) = replay::replay(history, truth);
    let is_late = |call: &Call, revision: i64| {
        let has_written = |other: &Call| {
            other.returned < call.invoked && other.request.is_mutation() && other.revision() == Some(revision)
        };
        history.calls.iter().any(has_written)
    };
    let (number, stale) = history.calls.iter().enumerate().find_map(|(number, call)| {
        let Outcome::Answered { revision, answer: Answer::Range(_) } = &call.outcome else { return None };
        if *revision < 3 || !is_late(call, *revision) {
            return None;
        }
        let before = replay.model.evaluate(&call.request, revision - 1).0;
        Some((number, Outcome::Answered { revision: revision - 1, answer: before }))
    })?;
    let mut history = history.clone();
    history.calls[number].outcome = stale;
    Some(history)
}

/// Requests of one client on connections of different shards, each sent when the one before is answered, are
/// linearizable together with everybody else's; and the checker that says so finds one stale read.
#[test]
fn one_client_on_several_shards_sees_one_order() {
    for shards in [2, 4] {
        let (scratch, port) = (Scratch::new("cores"), free_port());
        let server = start(&scratch, port, shards);
        // Each connection goes to the shard with the fewest, so that neighbours are on different ones.
        let connections: Vec<Vec<Client>> =
            (0..CLIENTS).map(|_| (0..2).map(|_| server.connect()).collect()).collect();
        let began = Instant::now();
        let threads: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(number, connections)| std::thread::spawn(move || client(number, connections, began)))
            .collect();
        let calls = threads.into_iter().flat_map(|thread| thread.join().expect("a client"));
        let mut history = History { calls: calls.collect(), ..History::default() };
        history.calls.sort_by_key(|call| call.invoked);
        let upto = history.calls.iter().filter_map(Call::revision).max().expect("there were calls");
        let truth = truth(&server, &asked(&history), upto);
        let (_, violations) = replay::replay(&history, &truth);
        assert!(violations.is_empty(), "{} violations, first {:?}", violations.len(), violations[0]);
        for shard in 1..shards {
            let sleeps = server.sleeps(&format!("shard-{shard}"));
            assert!(sleeps.iter().sum::<u64>() > 100, "shard {shard} has had clients: {sleeps:?}");
        }
        let stale = with_a_stale_read(&history, &truth).expect("some read has to see the write before it");
        let (_, violations) = replay::replay(&stale, &truth);
        assert!(violations.iter().any(|violation| violation.checker == "C1"), "{violations:?}");
        server.stop();
    }
}

/// Counts events until it was told to stop; a watch that misses or doubles one fails.
fn watch(mut watcher: Client, stream: u32, upto: Arc<Mutex<Option<i64>>>) -> i64 {
    let mut last = 1;
    loop {
        let message = watcher.next_message(stream).expect("the watch goes on");
        for event in answers::watch(&message).events {
            let revision = event.kv.mod_revision;
            assert!(revision == last || revision == last + 1, "from {last} to {revision}");
            last = revision;
        }
        if upto.lock().expect("not poisoned").is_some_and(|upto| last >= upto) {
            return last;
        }
    }
}

/// A process that is stopped and continued under load, on all shards, loses nothing, and no watch of any shard
/// is stuck afterwards; then `kill -9`, and what was acknowledged is there.
#[test]
fn a_stopped_process_goes_on_and_a_killed_one_has_lost_nothing() {
    const SHARDS: usize = 3;
    let (scratch, port) = (Scratch::new("stopped"), free_port());
    let mut server = start(&scratch, port, SHARDS);
    let upto = Arc::new(Mutex::new(None));
    let watchers: Vec<_> = (0..2 * SHARDS)
        .map(|_| {
            let mut watcher = server.connect();
            let stream = watcher.open(path::WATCH, &watch_from_the_start()).expect("opens");
            let upto = Arc::clone(&upto);
            std::thread::spawn(move || watch(watcher, stream, upto))
        })
        .collect();
    let load = Load::start(&server.endpoint, "stopped", 300);
    for round in 1..=20 {
        load.wait_for(round * 500);
        server.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(20));
        server.signal(libc::SIGCONT);
    }
    // Every watcher has to see what was written up to here: the load goes on beside it.
    let mut client = server.connect();
    let answer = client.unary(path::RANGE, &get(b"nothing")).expect("the server goes on");
    *upto.lock().expect("not poisoned") = Some(revision(&answer));
    for watcher in watchers {
        assert!(watcher.join().expect("a watcher") >= revision(&answer));
    }
    server.kill();
    let (reports, newest) = load.join();
    let mut expected = Expected::default();
    expected.add(reports, newest);
    let server = start(&scratch, port, SHARDS);
    expected.check(&mut server.connect());
    server.stop();
}
