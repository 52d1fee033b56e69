//! The hub against a dumb twin that knows the whole history, and what single promises look like.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::pure::mvcc::{KvView, Store};
use crate::pure::types::Term;
use crate::stdx::prng::Prng;
use crate::stdx::time::Monotonic;
use crate::stdx::work::{Step, Work};

/// The wire's messages by another encoder, so that ours is checked too.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Header {
        #[prost(uint64, tag = "1")]
        pub cluster_id: u64,
        #[prost(uint64, tag = "2")]
        pub member_id: u64,
        #[prost(int64, tag = "3")]
        pub revision: i64,
        #[prost(uint64, tag = "4")]
        pub raft_term: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct KeyValue {
        #[prost(bytes = "vec", tag = "1")]
        pub key: Vec<u8>,
        #[prost(int64, tag = "2")]
        pub create_revision: i64,
        #[prost(int64, tag = "3")]
        pub mod_revision: i64,
        #[prost(int64, tag = "4")]
        pub version: i64,
        #[prost(bytes = "vec", tag = "5")]
        pub value: Vec<u8>,
        #[prost(int64, tag = "6")]
        pub lease: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Event {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(message, optional, tag = "2")]
        pub kv: Option<KeyValue>,
        #[prost(message, optional, tag = "3")]
        pub prev_kv: Option<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct WatchResponse {
        #[prost(message, optional, tag = "1")]
        pub header: Option<Header>,
        #[prost(int64, tag = "2")]
        pub watch_id: i64,
        #[prost(bool, tag = "3")]
        pub created: bool,
        #[prost(bool, tag = "4")]
        pub canceled: bool,
        #[prost(int64, tag = "5")]
        pub compact_revision: i64,
        #[prost(string, tag = "6")]
        pub cancel_reason: String,
        #[prost(bool, tag = "7")]
        pub fragment: bool,
        #[prost(message, repeated, tag = "11")]
        pub events: Vec<Event>,
    }
}

use wire::{Event, KeyValue, WatchResponse};

const IDS: HeaderIds = HeaderIds { cluster_id: 77, member_id: 0xffff_ffff_ffff_fff1, raft_term: Term(3) };

fn config(seed: u64) -> HubConfig {
    HubConfig::new(seed, 1_572_864, Duration::from_secs(600))
}

/// A store with its full history.
struct Log {
    store: Store,
    /// Index is the revision; each event has its `prev_kv`.
    history: Vec<Vec<Event>>,
    live: BTreeMap<Vec<u8>, KeyValue>,
}

enum Change<'a> {
    Put(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
}

impl Log {
    fn new() -> Log {
        Log { store: Store::new(9), history: vec![Vec::new(), Vec::new()], live: BTreeMap::new() }
    }

    fn revision(&self) -> i64 {
        self.history.len() as i64 - 1
    }

    fn txn(&mut self, changes: &[Change<'_>]) -> i64 {
        let revision = self.history.len() as i64;
        let mut events = Vec::new();
        for change in changes {
            match *change {
                Change::Put(key, value) => {
                    let lease = value.len() as i64 % 3;
                    self.store.put(key, value, lease);
                    let prev_kv = self.live.get(key).cloned();
                    let kv = KeyValue {
                        key: key.to_vec(),
                        create_revision: prev_kv.as_ref().map_or(revision, |prev| prev.create_revision),
                        mod_revision: revision,
                        version: prev_kv.as_ref().map_or(1, |prev| prev.version + 1),
                        value: value.to_vec(),
                        lease,
                    };
                    self.live.insert(key.to_vec(), kv.clone());
                    events.push(Event { kind: 0, kv: Some(kv), prev_kv });
                }
                Change::Delete(key) => {
                    self.store.delete(key);
                    let Some(prev) = self.live.remove(key) else { continue };
                    let kv = KeyValue { key: key.to_vec(), mod_revision: revision, ..Default::default() };
                    events.push(Event { kind: 1, kv: Some(kv), prev_kv: Some(prev) });
                }
            }
        }
        assert_eq!(self.store.end_txn(), revision - i64::from(events.is_empty()));
        if !events.is_empty() {
            self.history.push(events);
        }
        self.revision()
    }

    fn put(&mut self, key: &str, value: &[u8]) -> i64 {
        self.txn(&[Change::Put(key.as_bytes(), value)])
    }

    fn clean(&mut self, floor: i64, forced: bool) {
        loop {
            match self.store.clean(floor, forced, &mut Work::new(1_000)) {
                Step::More => {}
                Step::Done(()) => break,
                Step::Pending => unreachable!("records live in memory"),
            }
        }
        drop(self.store.take_retired());
    }
}

/// What a client knows of one of its watches.
struct Watch {
    request: WatchCreate,
    /// The first revision that it may get.
    start: i64,
    /// Everything below has been delivered.
    next: i64,
    /// The greatest progress told.
    mark: i64,
    fragments: Vec<Event>,
    may_be_behind: bool,
}

impl Watch {
    fn wants(&self, event: &Event) -> bool {
        let key = &event.kv.as_ref().expect("an event has a key").key[..];
        let start: &[u8] = if self.request.key.is_empty() { b"\0" } else { &self.request.key };
        let in_range = match &self.request.range_end[..] {
            [] => key == start,
            [0] => key >= start,
            end => key >= start && key < end,
        };
        in_range && !(event.kind == 0 && self.request.no_put) && !(event.kind == 1 && self.request.no_delete)
    }

    /// The next revision at or above `next` with something for this watch.
    fn upcoming(&self, log: &Log) -> Option<(i64, Vec<Event>)> {
        (self.next..=log.revision()).find_map(|revision| {
            let events: Vec<Event> =
                log.history[revision as usize].iter().filter(|event| self.wants(event)).cloned().collect();
            (!events.is_empty()).then_some((revision, events))
        })
    }
}

/// A stream's client: checks each response as it comes.
struct Client {
    key: StreamKey,
    reads: bool,
    watches: BTreeMap<i64, Watch>,
    /// Creates without an answer yet: id, revision, reason, and the watch.
    creates: VecDeque<(i64, i64, String, Option<Watch>)>,
    /// Cancels without an answer yet.
    cancels: VecDeque<i64>,
    /// Revisions of progress requests; more than there are answers, since those that waited share one.
    progress: VecDeque<i64>,
    events: u64,
    responses_large: u64,
    compacted: u64,
    catch_ups: u64,
    progress_answers: u64,
}

macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

impl Client {
    fn new(key: StreamKey) -> Client {
        Client {
            key,
            reads: true,
            watches: BTreeMap::new(),
            creates: VecDeque::new(),
            cancels: VecDeque::new(),
            progress: VecDeque::new(),
            events: 0,
            responses_large: 0,
            compacted: 0,
            catch_ups: 0,
            progress_answers: 0,
        }
    }

    fn create(&mut self, hub: &mut Hub, request: WatchCreate, log: &Log, view: &KvView) {
        let revision = view.revision();
        let is_taken = request.watch_id != 0 && hub.has_watch(self.key, request.watch_id);
        let made = hub.create(self.key, &request, Ok(()), view);
        let start = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
        let explicit_past = start <= log.revision();
        let watch = Watch {
            start: request.start_revision,
            next: start,
            mark: 0,
            fragments: Vec::new(),
            may_be_behind: explicit_past,
            request: request.clone(),
        };
        match made {
            Some(id) => self.creates.push_back((id, revision, String::new(), Some(watch))),
            None if start < 0 => {
                self.refused(revision, "etcdserver: mvcc: required revision has been compacted")
            }
            None if request.range_end.len() > 0
                && request.range_end[..] != [0]
                && request.key >= request.range_end =>
            {
                self.refused(revision, "mvcc: watcher range is empty");
            }
            None if start < view.compact_revision() && !is_taken => {
                let id = if request.watch_id == 0 { i64::MIN } else { request.watch_id };
                self.creates.push_back((id, revision, String::new(), Some(watch)));
            }
            None => self.refused(revision, "mvcc: duplicate watch ID provided on the WatchStream"),
        }
    }

    fn refused(&mut self, revision: i64, reason: &str) {
        self.creates.push_back((-1, revision, reason.into(), None));
    }

    fn receive(&mut self, message: &WatchMessage, log: &Log, fragment_bytes: usize) -> Result<(), String> {
        let mut bytes = Vec::new();
        message.encode(&IDS, &mut bytes);
        let response = WatchResponse::decode(&bytes[..]).map_err(|error| error.to_string())?;
        check!(response.encode_to_vec() == bytes, "the encoding is not canonical");
        let header = response.header.clone().ok_or("no header")?;
        check!(
            (header.cluster_id, header.member_id, header.raft_term)
                == (IDS.cluster_id, IDS.member_id, IDS.raft_term.0),
            "header"
        );
        check!(response.events.len() == message.event_count() as usize, "event count");
        if response.created {
            return self.receive_created(&response, header.revision);
        }
        if response.canceled {
            return self.receive_canceled(&response, header.revision, log);
        }
        if response.events.is_empty() {
            return self.receive_progress(response.watch_id, header.revision, log);
        }
        check!(
            !response.fragment || bytes.len() < fragment_bytes || response.events.len() == 1,
            "a large fragment"
        );
        self.receive_events(response, header.revision, log, fragment_bytes)
    }

    fn receive_created(&mut self, response: &WatchResponse, revision: i64) -> Result<(), String> {
        let (id, created, reason, watch) = self.creates.pop_front().ok_or("created without a request")?;
        check!(revision == created, "created tells {revision}, not {created}");
        check!(response.cancel_reason == reason, "reason {:?} for {reason:?}", response.cancel_reason);
        check!(response.canceled != watch.is_some(), "refused or not");
        check!(id == i64::MIN || response.watch_id == id, "id");
        if let Some(watch) = watch {
            let before = self.watches.insert(response.watch_id, watch);
            check!(before.is_none(), "an id in use was given");
        }
        Ok(())
    }

    fn receive_canceled(&mut self, response: &WatchResponse, revision: i64, log: &Log) -> Result<(), String> {
        let watch = self.watches.remove(&response.watch_id).ok_or("canceled without a watch")?;
        check!(response.cancel_reason.is_empty() && response.events.is_empty(), "bare");
        check!(watch.fragments.is_empty(), "canceled inside fragments");
        if response.compact_revision == 0 {
            check!(self.cancels.pop_front() == Some(response.watch_id), "canceled without a request");
            check!(revision > 0, "no revision");
            return Ok(());
        }
        self.compacted += 1;
        check!(revision == 0, "a compaction's cancel has no revision");
        check!(response.compact_revision <= log.store.compact_revision(), "compact revision");
        check!(watch.next < response.compact_revision, "cancelled, but nothing was missing");
        check!(watch.may_be_behind, "cancelled in flow");
        Ok(())
    }

    fn receive_progress(&mut self, id: i64, revision: i64, log: &Log) -> Result<(), String> {
        check!(revision <= log.revision(), "progress of the future");
        if id == -1 {
            let asked = self.progress.pop_front().ok_or("progress without a request")?;
            check!(revision >= asked, "progress {revision} for {asked}");
            self.progress_answers += 1;
            check!(!self.watches.is_empty(), "progress without a watch");
        }
        for (&of, watch) in &mut self.watches {
            if id != -1 && of != id {
                continue;
            }
            check!(id == -1 || watch.request.progress_notify, "progress unasked");
            check!(watch.start <= revision, "progress before the start");
            check!(watch.fragments.is_empty(), "progress inside a revision");
            let upcoming = watch.upcoming(log);
            check!(
                upcoming.as_ref().is_none_or(|(next, _)| *next > revision),
                "progress {revision} overtakes {:?}",
                upcoming.map(|(next, _)| next)
            );
            check!(revision >= watch.mark, "progress falls");
            watch.mark = revision;
        }
        Ok(())
    }

    fn receive_events(
        &mut self,
        response: WatchResponse,
        revision: i64,
        log: &Log,
        fragment_bytes: usize,
    ) -> Result<(), String> {
        let watch = self.watches.get_mut(&response.watch_id).ok_or("events without a watch")?;
        self.events += response.events.len() as u64;
        check!(!response.fragment || watch.request.fragment, "fragments unasked");
        check!(watch.fragments.is_empty() || fragment_bytes < usize::MAX, "fragments");
        watch.fragments.extend(response.events);
        if response.fragment {
            return Ok(());
        }
        let mut got = &watch.fragments[..];
        let mut revisions = 0;
        let compact = log.store.compact_revision();
        while !got.is_empty() {
            let Some((at, wanted)) = watch.upcoming(log) else {
                return Err(format!("unknown event {:?}", got[0]));
            };
            check!(got.len() >= wanted.len(), "revision {at} is split");
            check!(at > watch.mark, "an event below the progress told");
            let (these, rest) = got.split_at(wanted.len());
            for (event, wanted) in these.iter().zip(wanted) {
                let is_modified = event.kind == 1 || event.kv.as_ref().is_some_and(|kv| kv.version > 1);
                let may_lack = !watch.request.prev_kv
                    || !is_modified
                    || (at - 1 < compact && (revision > at || compact == at));
                let prev_kv = match event.prev_kv {
                    None if may_lack => None,
                    _ if !watch.request.prev_kv => None,
                    _ => wanted.prev_kv.clone(),
                };
                check!(*event == Event { prev_kv, ..wanted.clone() }, "{event:?} for {wanted:?}");
            }
            watch.next = at + 1;
            revisions += 1;
            check!(at <= revision, "event {at} in a response of {revision}");
            got = rest;
        }
        check!(revision <= log.revision(), "a header of the future");
        check!(revisions <= 1_000, "too many revisions");
        if revisions > 1 {
            self.catch_ups += 1;
        }
        if watch.fragments.len() > 1 {
            self.responses_large += 1;
        }
        watch.fragments.clear();
        Ok(())
    }
}

/// A world under random orders.
struct World {
    prng: Prng,
    log: Log,
    hub: Hub,
    clients: Vec<Client>,
    /// What the shard has seen of the store; may be older.
    view: KvView,
    now: Monotonic,
    fragment_bytes: usize,
    queue_bytes_max: usize,
    revision_bytes_max: usize,
}

impl World {
    fn new(seed: u64, canary: Option<Canary>) -> World {
        let mut prng = Prng::new(seed);
        let mut config = config(seed);
        config.progress_interval = Duration::from_millis(100);
        config.queue_bytes_max = [200, 1_000, 20_000, 1 << 20][prng.below(4) as usize];
        config.fragment_bytes = [150, 600, 9_000][prng.below(3) as usize];
        config.canary = canary;
        let (fragment_bytes, queue_bytes_max) = (config.fragment_bytes, config.queue_bytes_max);
        let mut hub = Hub::new(config);
        let now = Monotonic(5);
        let clients = (0..1 + prng.below(4)).map(|_| Client::new(hub.open_stream(now, &mut prng))).collect();
        let mut log = Log::new();
        let view = log.store.view();
        World { prng, log, hub, clients, view, now, fragment_bytes, queue_bytes_max, revision_bytes_max: 0 }
    }

    fn key(&mut self) -> Vec<u8> {
        (0..1 + self.prng.below(2)).map(|_| b"abc"[self.prng.below(3) as usize]).collect()
    }

    fn txn(&mut self) {
        let mut changes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for _ in 0..1 + self.prng.below(3) * self.prng.below(3) {
            let key = self.key();
            let length = if self.prng.chance(1, 40) { 5_000 } else { self.prng.below(40) };
            let value = self.prng.chance(3, 4).then(|| vec![b'v'; length as usize]);
            changes.insert(key, value);
        }
        let changes: Vec<Change<'_>> = changes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => Change::Put(key, value),
                None => Change::Delete(key),
            })
            .collect();
        self.log.txn(&changes);
        let events = self.log.history.last().expect("never empty");
        let bytes = events.iter().map(|event| event.encoded_len() + 8).sum();
        self.revision_bytes_max = self.revision_bytes_max.max(bytes);
    }

    fn create(&mut self) {
        let key = self.key();
        let (key, range_end) = match self.prng.below(5) {
            0 => (key, Vec::new()),
            1 => (key, vec![0]),
            2 => (Vec::new(), vec![0]),
            3 => {
                let mut end = key.clone();
                *end.last_mut().expect("not empty") += 1;
                (key, end)
            }
            _ => (key, self.key()),
        };
        let start_revision = match self.prng.below(6) {
            0 => 1 + self.prng.below(self.log.revision() as u64) as i64,
            1 => self.log.revision() + self.prng.below(8) as i64 - 4,
            2 => self.view.compact_revision().max(0) + self.prng.below(3) as i64 - 1,
            _ => 0,
        };
        let request = WatchCreate {
            key: key.into(),
            range_end: range_end.into(),
            start_revision,
            watch_id: if self.prng.chance(1, 3) { self.prng.below(6) as i64 } else { 0 },
            no_put: self.prng.chance(1, 8),
            no_delete: self.prng.chance(1, 8),
            prev_kv: self.prng.chance(1, 2),
            progress_notify: self.prng.chance(1, 3),
            fragment: self.prng.chance(1, 3),
        };
        let at = self.prng.below(self.clients.len() as u64) as usize;
        if self.hub.accepts_requests(self.clients[at].key) {
            self.clients[at].create(&mut self.hub, request, &self.log, &self.view);
        }
    }

    fn cancel(&mut self) {
        let at = self.prng.below(self.clients.len() as u64) as usize;
        let id = self.prng.below(8) as i64;
        let client = &mut self.clients[at];
        let watchers = self.hub.counts().watchers;
        self.hub.cancel(client.key, id, &self.view);
        if self.hub.counts().watchers < watchers {
            client.cancels.push_back(id);
        }
    }

    fn compact(&mut self) {
        let (least, most) = (self.log.store.compact_revision() + 1, self.log.revision());
        if least.max(0) > most {
            return;
        }
        let least = least.max(0);
        let revision = if self.prng.chance(1, 3) {
            most
        } else {
            least + self.prng.below((most - least + 1) as u64) as i64
        };
        self.log.store.compact(revision);
        // The cleaner starts when every shard has seen the view that carries the compact revision.
        self.view = self.log.store.view();
        let floor = self.hub.floor().unwrap_or(i64::MAX).min(revision);
        let forced = self.prng.chance(1, 2);
        self.log.clean(floor, forced);
    }

    fn pump(&mut self, units: u32) -> Result<bool, String> {
        let step = self.hub.pump(&self.view, &mut Work::new(units));
        check!(step != Step::Pending, "records live in memory");
        check!(step != Step::Done(()) || !self.hub.has_work(&self.view), "done, but there is work");
        for client in &mut self.clients {
            // Only a watch that was behind between two slices may be cancelled by a compaction. An id
            // that is in use again stands for the watch whose answer is still in the queue.
            for id in self.hub.behind(client.key) {
                let created = client.creates.iter_mut().filter(|create| create.0 == id);
                let known = client.watches.get_mut(&id);
                created.filter_map(|create| create.3.as_mut()).chain(known).for_each(|watch| {
                    watch.may_be_behind = true;
                });
            }
            let bytes = self.hub.queued_bytes(client.key);
            let answers = (client.creates.len() * 2 + client.cancels.len() + client.watches.len()) * 200;
            // Tiny fragments cost more by what each message counts for.
            let events = self.queue_bytes_max.max(self.revision_bytes_max + 200);
            let envelopes = events / self.fragment_bytes.saturating_sub(40) * 2 * 64;
            check!(
                bytes <= events + envelopes + answers,
                "{bytes} bytes in a queue of {}",
                self.queue_bytes_max
            );
        }
        Ok(step == Step::Done(()))
    }

    fn poll(&mut self, at: usize, mut messages: u64) -> Result<bool, String> {
        let mut any = false;
        while messages > 0 {
            let Some(message) = self.hub.poll_message(self.clients[at].key, 1) else { break };
            self.clients[at].receive(&message, &self.log, self.fragment_bytes)?;
            any = true;
            messages -= 1;
        }
        Ok(any)
    }

    fn act(&mut self) -> Result<(), String> {
        match self.prng.below(20) {
            0..=6 => self.txn(),
            7 | 8 => self.create(),
            9 => self.cancel(),
            10 => {
                let at = self.prng.below(self.clients.len() as u64) as usize;
                let client = &mut self.clients[at];
                self.hub.request_progress(client.key, &self.view);
                client.progress.push_back(self.view.revision());
            }
            11 => {
                let at = self.prng.below(self.clients.len() as u64) as usize;
                let client = &mut self.clients[at];
                client.reads = !client.reads;
            }
            12 | 13 => {
                let at = self.prng.below(self.clients.len() as u64) as usize;
                if self.clients[at].reads {
                    let messages = self.prng.below(12);
                    self.poll(at, messages)?;
                }
            }
            14 if self.prng.chance(1, 3) => self.compact(),
            14 | 15 => self.view = self.log.store.view(),
            16 => {
                self.now = self.now + Duration::from_millis(self.prng.below(60));
                self.hub.handle_timeout(self.now, &mut Work::new(50));
            }
            _ => {
                let units = 1 + self.prng.below(150) as u32;
                self.pump(units)?;
                if self.prng.chance(1, 2) {
                    while let Some(key) = self.hub.poll_ready() {
                        let at = self.clients.iter().position(|client| client.key == key).ok_or("key")?;
                        if self.clients[at].reads {
                            self.poll(at, u64::MAX)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Everybody reads: everything has to arrive.
    fn settle(&mut self) -> Result<(), String> {
        self.view = self.log.store.view();
        for _ in 0..20_000 {
            let done = self.pump(500)?;
            let mut any = false;
            for at in 0..self.clients.len() {
                any |= self.poll(at, u64::MAX)?;
            }
            if done && !any && !self.hub.has_work(&self.view) {
                break;
            }
        }
        check!(!self.hub.has_work(&self.view), "never done");
        self.hub.verify();
        let counts = self.hub.counts();
        check!(counts.slow_watchers == 0, "watchers stay behind");
        check!(counts.events_pending == 0, "events stay pending");
        let events: u64 = self.clients.iter().map(|client| client.events).sum();
        check!(counts.events_sent == events, "events sent");
        for client in &self.clients {
            check!(client.creates.is_empty() && client.cancels.is_empty(), "answers are missing");
            for (id, watch) in &client.watches {
                check!(watch.fragments.is_empty(), "fragments are missing");
                check!(
                    watch.upcoming(&self.log).is_none(),
                    "watch {id} lacks {:?}",
                    watch.upcoming(&self.log)
                );
            }
        }
        Ok(())
    }

    fn run(seed: u64, canary: Option<Canary>, actions: u32) -> Result<World, String> {
        let mut world = World::new(seed, canary);
        for action in 0..actions {
            world.act().map_err(|error| format!("seed {seed}, action {action}: {error}"))?;
            if action % 64 == 0 {
                world.hub.verify();
            }
        }
        world.settle().map_err(|error| format!("seed {seed}, at the end: {error}"))?;
        Ok(world)
    }
}

/// Random creates, filters, ranges, cancels, stalls, compactions and progress, in random slices.
#[test]
fn every_watch_gets_what_the_history_says() {
    let (mut events, mut large, mut compacted, mut catch_ups, mut progress) = (0, 0, 0, 0, 0);
    for seed in 0..150 {
        let world = World::run(seed, None, 600).unwrap_or_else(|error| panic!("{error}"));
        for client in &world.clients {
            events += client.events;
            large += client.responses_large;
            compacted += client.compacted;
            catch_ups += client.catch_ups;
            progress += client.progress_answers;
        }
    }
    assert!(events > 20_000, "{events} events");
    assert!(large > 1_000, "{large} responses of many events");
    assert!(compacted > 100, "{compacted} cancels by compaction");
    assert!(catch_ups > 500, "{catch_ups} responses of many revisions");
    assert!(progress > 300, "{progress} answers to progress requests");
}

/// The checker finds each planted bug.
#[test]
fn the_checker_finds_every_canary() {
    for canary in [Canary::Overtake, Canary::Twice, Canary::Split, Canary::Swallow] {
        let found: Vec<String> =
            (0..40).filter_map(|seed| World::run(seed, Some(canary), 600).err()).collect();
        assert!(!found.is_empty(), "{canary:?} survives");
    }
}
