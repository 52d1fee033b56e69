//! Writers with many calls under way, and what has to be found of their writes afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use etchd::stdx::prng::Prng;

use super::client::{Client, Endpoint, Event, everything, get, keys, path, put, puts, revision};

/// Calls that a writer has under way.
const DEPTH: usize = 32;

/// One write, with keys that no other write has.
#[derive(Clone, Debug)]
pub struct Write {
    /// One key, or two that are written in one transaction.
    keys: Vec<Vec<u8>>,
    value: Vec<u8>,
}

/// What one writer saw.
#[derive(Default)]
pub struct Report {
    /// Writes that were acknowledged, with their revisions.
    pub acknowledged: Vec<(Write, i64)>,
    /// Writes with an unknown end.
    pub unknown: Vec<Write>,
    /// Calls at or below the server's last GOAWAY that got no answer.
    pub dropped: usize,
    /// A GOAWAY has come.
    pub told_to_go: bool,
}

/// Acknowledged writes of all writers.
#[derive(Default)]
struct Count {
    count: Mutex<u64>,
    more: Condvar,
}

impl Count {
    fn add_one(&self) {
        *self.count.lock().expect("not poisoned") += 1;
        self.more.notify_all();
    }
}

/// Writers on connections of their own, until these end.
pub struct Load {
    writers: Vec<JoinHandle<Report>>,
    reader: JoinHandle<i64>,
    done: Arc<Count>,
}

impl Load {
    /// Starts four writers and a reader. `name` makes their keys unique; values get up to `value_bytes`.
    pub fn start(endpoint: &Endpoint, name: &str, value_bytes: usize) -> Load {
        let done = Arc::new(Count::default());
        let writers = (0..4)
            .map(|writer| {
                let (endpoint, done) = (endpoint.clone(), Arc::clone(&done));
                let name = format!("{name}/{writer}");
                std::thread::spawn(move || write(&endpoint, &name, value_bytes, &done))
            })
            .collect();
        let endpoint = endpoint.clone();
        let reader = std::thread::spawn(move || read(&endpoint));
        Load { writers, reader, done }
    }

    /// Waits until so many writes are acknowledged, or the writers are gone.
    pub fn wait_for(&self, writes: u64) {
        let mut count = self.done.count.lock().expect("not poisoned");
        while *count < writes && !self.writers.iter().all(JoinHandle::is_finished) {
            // The end of a writer wakes nobody.
            count = self.done.more.wait_timeout(count, Duration::from_millis(50)).expect("not poisoned").0;
        }
    }

    /// Waits for the end of all connections. Also gives the newest revision that the reader saw.
    pub fn join(self) -> (Vec<Report>, i64) {
        let reports = self.writers.into_iter().map(|writer| writer.join().expect("a writer")).collect();
        (reports, self.reader.join().expect("the reader"))
    }
}

fn write(endpoint: &Endpoint, name: &str, value_bytes: usize, done: &Count) -> Report {
    let mut report = Report::default();
    // A server that is killed early may end the connection at any step.
    let Ok(mut client) = Client::connect(endpoint) else { return report };
    let mut random = Prng::new(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)));
    let mut under_way: HashMap<u32, Write> = HashMap::new();
    let mut answers: HashMap<u32, i64> = HashMap::new();
    let mut last_stream = 0;
    for count in 0_u64.. {
        let mut failed = false;
        if !report.told_to_go {
            let bytes = random.next_u64() as usize % value_bytes;
            let mut value = format!("{name}/{count}/").into_bytes();
            value.resize(value.len() + bytes, b'a' + (count % 26) as u8);
            let (stream, keys) = if count.is_multiple_of(5) {
                let keys = vec![
                    format!("left/{name}/{count}").into_bytes(),
                    format!("right/{name}/{count}").into_bytes(),
                ];
                (client.call(path::TXN, &puts(keys.iter().map(|key| put(key, &value)))), keys)
            } else {
                let keys = vec![format!("one/{name}/{count}").into_bytes()];
                (client.call(path::PUT, &put(&keys[0], &value)), keys)
            };
            match stream {
                Ok(stream) => drop(under_way.insert(stream, Write { keys, value })),
                Err(_) => {
                    failed = true;
                    report.unknown.push(Write { keys, value });
                }
            }
        }
        while !failed && (under_way.len() >= DEPTH || client.has_events() || report.told_to_go) {
            match client.next() {
                Ok(Event::Message(stream, answer)) => drop(answers.insert(stream, revision(&answer))),
                Ok(Event::End(stream, status)) => {
                    let write = under_way.remove(&stream).expect("an answer to something sent");
                    match answers.remove(&stream) {
                        Some(revision) if status.code == 0 => {
                            report.acknowledged.push((write, revision));
                            done.add_one();
                        }
                        _ => report.unknown.push(write),
                    }
                }
                Ok(Event::GoAway(last)) => {
                    report.told_to_go = true;
                    last_stream = last;
                }
                Err(_) => failed = true,
            }
        }
        if failed {
            break;
        }
    }
    if report.told_to_go {
        report.dropped = under_way.keys().filter(|stream| **stream <= last_stream).count();
    }
    report.unknown.extend(under_way.into_values());
    report
}

fn read(endpoint: &Endpoint) -> i64 {
    let mut newest = 0;
    let Ok(mut client) = Client::connect(endpoint) else { return newest };
    while let Ok(answer) = client.unary(path::RANGE, &get(b"nothing")) {
        let seen = revision(&answer);
        assert!(seen >= newest, "the revision went from {newest} back to {seen}");
        newest = seen;
    }
    newest
}

/// What a data directory has to hold.
#[derive(Default)]
pub struct Expected {
    known: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
    unknown: HashMap<Vec<u8>, Write>,
    newest: i64,
}

impl Expected {
    /// Adds what writers saw.
    pub fn add(&mut self, reports: Vec<Report>, newest_read: i64) {
        self.newest = self.newest.max(newest_read);
        for report in reports {
            for (write, revision) in report.acknowledged {
                self.newest = self.newest.max(revision);
                for key in write.keys {
                    assert!(self.known.insert(key, (write.value.clone(), revision)).is_none());
                }
            }
            for write in report.unknown {
                for key in &write.keys {
                    self.unknown.insert(key.clone(), write.clone());
                }
            }
        }
    }

    /// Keys that have to be there.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Compares with a server. What had an unknown end is known afterwards.
    ///
    /// Every write raises the revision by one and none overwrites another, so that the revisions of all
    /// keys have no gap either.
    pub fn check(&mut self, client: &mut Client) {
        let answer = client.unary(path::RANGE, &everything()).expect("the server reads");
        let newest = revision(&answer);
        assert!(newest >= self.newest, "revision {} was seen, now it is {newest}", self.newest);
        self.newest = newest;
        let mut found: BTreeMap<Vec<u8>, (Vec<u8>, i64)> = BTreeMap::new();
        let mut by_revision: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
        for kv in keys(&answer) {
            assert_eq!((kv.version, kv.lease), (1, 0), "{kv:?}");
            by_revision.entry(kv.mod_revision).or_default().push(kv.key.clone());
            found.insert(kv.key, (kv.value, kv.mod_revision));
        }
        for (key, expected) in &self.known {
            let name = String::from_utf8_lossy(key);
            let kv = found.get(key);
            assert!(
                kv == Some(expected),
                "{name}: acknowledged at {}, found {:?}",
                expected.1,
                kv.map(|kv| kv.1)
            );
        }
        for (key, (value, at)) in &found {
            if self.known.contains_key(key) {
                continue;
            }
            let name = String::from_utf8_lossy(key);
            let write = self.unknown.get(key).unwrap_or_else(|| panic!("{name} at {at}: nobody wrote it"));
            assert!(write.value == *value, "{name} at {at}: the value is another");
            for other in &write.keys {
                assert_eq!(found.get(other).map(|kv| kv.1), Some(*at), "{name}: half a transaction");
            }
        }
        let revisions: Vec<i64> = by_revision.keys().copied().collect();
        assert!(revisions.iter().copied().eq(2..=newest), "the revisions up to {newest} have gaps");
        self.known = found;
        self.unknown.clear();
    }
}
