//! The hub against a dumb twin that knows the whole history, and what single promises look like.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use prost::Message;

use super::*;
use crate::limits::watch::{STALLED_QUEUE_BYTES, STALLED_QUEUE_BYTES_PER_WATCH};
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
    /// Every compact revision there was.
    compactions: BTreeSet<i64>,
}

enum Change<'a> {
    Put(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
}

impl Log {
    fn new() -> Log {
        Log {
            store: Store::new(9),
            history: vec![Vec::new(), Vec::new()],
            live: BTreeMap::new(),
            compactions: BTreeSet::new(),
        }
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
    /// Watches that a compaction cancelled: their ids stay taken until the client cancels them.
    lost: BTreeSet<i64>,
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
            lost: BTreeSet::new(),
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
            None if !request.range_end.is_empty()
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
        if response.compact_revision == 0 && self.lost.remove(&response.watch_id) {
            check!(self.cancels.pop_front() == Some(response.watch_id), "canceled without a request");
            return Ok(());
        }
        let watch = self.watches.remove(&response.watch_id).ok_or("canceled without a watch")?;
        check!(response.cancel_reason.is_empty() && response.events.is_empty(), "bare");
        check!(watch.fragments.is_empty(), "canceled inside fragments");
        if response.compact_revision == 0 {
            check!(self.cancels.pop_front() == Some(response.watch_id), "canceled without a request");
            check!(revision > 0, "no revision");
            return Ok(());
        }
        self.compacted += 1;
        self.lost.insert(response.watch_id);
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
                    || (at - 1 < compact && (revision > at || log.compactions.contains(&at)));
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
        config.stalled_queue_bytes = [0, 500, 20_000][prng.below(3) as usize];
        config.queues_bytes_max = [1_000, 10_000, 1 << 20][prng.below(3) as usize];
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
        if self.hub.queued_bytes(self.clients[at].key) <= self.queue_bytes_max {
            self.clients[at].create(&mut self.hub, request, &self.log, &self.view);
        }
    }

    fn cancel(&mut self) {
        let at = self.prng.below(self.clients.len() as u64) as usize;
        let id = self.prng.below(8) as i64;
        let client = &mut self.clients[at];
        let answers = self.hub.has_watch(client.key, id);
        self.hub.cancel(client.key, id, &self.view);
        if answers {
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
        self.log.compactions.insert(revision);
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
        loop {
            // Whose client takes no more is stalled.
            let room = usize::from(messages > 0);
            let Some(message) = self.hub.poll_message(self.clients[at].key, room) else { break };
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
                        let messages = if self.clients[at].reads { u64::MAX } else { 0 };
                        self.poll(at, messages)?;
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

/// One stream and a store, for what a single promise looks like.
struct Scene {
    log: Log,
    hub: Hub,
    stream: StreamKey,
}

impl Scene {
    fn new(change: impl FnOnce(&mut HubConfig)) -> Scene {
        let mut config = config(1);
        change(&mut config);
        let mut hub = Hub::new(config);
        let stream = hub.open_stream(Monotonic(0), &mut Prng::new(1));
        Scene { log: Log::new(), hub, stream }
    }

    fn create(&mut self, request: WatchCreate) -> Option<i64> {
        let view = self.log.store.view();
        self.hub.create(self.stream, &request, Ok(()), &view)
    }

    /// Delivers everything and takes what there is.
    fn all(&mut self) -> Vec<WatchResponse> {
        let view = self.log.store.view();
        while self.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
        self.hub.verify();
        self.taken()
    }

    fn taken(&mut self) -> Vec<WatchResponse> {
        std::iter::from_fn(|| self.hub.poll_message(self.stream, 1))
            .map(|message| {
                let mut bytes = Vec::new();
                message.encode(&IDS, &mut bytes);
                WatchResponse::decode(&bytes[..]).expect("our own encoding")
            })
            .collect()
    }
}

fn on(key: &str) -> WatchCreate {
    WatchCreate { key: key.to_owned().into(), ..WatchCreate::default() }
}

fn everything() -> WatchCreate {
    WatchCreate { range_end: vec![0].into(), ..WatchCreate::default() }
}

fn revision_of(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// Each refusal, in the order of the checks, with etcd's text; the stream goes on.
#[test]
fn refused_creates_are_answered_and_change_nothing() {
    let mut scene = Scene::new(|config| config.watches_per_stream_max = 1);
    let view = scene.log.store.view();
    let empty = WatchCreate { range_end: "a".into(), ..on("b") };
    let negative = WatchCreate { start_revision: -1, ..empty.clone() };
    let denied = || Err("rpc error: code = PermissionDenied desc = etcdserver: permission denied".to_owned());
    assert_eq!(scene.create(WatchCreate { watch_id: 7, ..on("a") }), Some(7));
    assert_eq!(scene.hub.create(scene.stream, &negative, denied(), &view), None);
    assert_eq!(scene.hub.create(scene.stream, &empty, denied(), &view), None);
    assert_eq!(scene.create(WatchCreate { watch_id: 7, ..empty }), None);
    assert_eq!(scene.create(WatchCreate { watch_id: 7, ..on("a") }), None);
    assert_eq!(scene.create(on("a")), None);
    let answers = scene.all();
    assert!(answers[0].created && !answers[0].canceled && answers[0].watch_id == 7);
    for (answer, reason) in answers[1..].iter().zip([
        "etcdserver: mvcc: required revision has been compacted",
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        "mvcc: watcher range is empty",
        "mvcc: duplicate watch ID provided on the WatchStream",
        "etcdserver: too many watches on the stream",
    ]) {
        assert_eq!(answer.cancel_reason, reason);
        assert!(answer.created && answer.canceled);
        assert_eq!((answer.watch_id, answer.compact_revision, revision_of(answer)), (-1, 0, 1));
    }
    assert_eq!(answers.len(), 6);
    scene.log.put("a", b"1");
    assert_eq!(scene.all().len(), 1);
}

/// Chosen ids count up from 0 and skip what is in use; an id is free after its cancel.
#[test]
fn ids_are_chosen_given_and_used_again() {
    let mut scene = Scene::new(|_| {});
    assert_eq!(scene.create(WatchCreate { watch_id: 1, ..on("a") }), Some(1));
    assert_eq!(scene.create(on("a")), Some(0));
    assert_eq!(scene.create(on("a")), Some(2));
    assert_eq!(scene.create(WatchCreate { watch_id: -5, ..on("a") }), Some(-5));
    let view = scene.log.store.view();
    scene.hub.cancel(scene.stream, 1, &view);
    scene.hub.cancel(scene.stream, 1, &view);
    scene.hub.cancel(scene.stream, 99, &view);
    assert_eq!(scene.create(WatchCreate { watch_id: 1, ..on("a") }), Some(1));
    assert_eq!(scene.create(on("a")), Some(3));
    let answers = scene.all();
    let canceled: Vec<_> = answers.iter().filter(|answer| answer.canceled).collect();
    assert_eq!(canceled.len(), 1);
    assert_eq!((canceled[0].watch_id, revision_of(canceled[0])), (1, 1));
    assert!(canceled[0].cancel_reason.is_empty());
}

/// Past the compact revision: created, then cancelled without header revision. At it: complete.
#[test]
fn a_compacted_start_is_created_and_cancelled() {
    let mut scene = Scene::new(|_| {});
    for value in 0..5 {
        scene.log.put("a", &[value]);
    }
    scene.log.store.compact(4);
    scene.log.clean(4, true);
    assert_eq!(scene.create(WatchCreate { start_revision: 3, ..on("a") }), None);
    assert_eq!(scene.create(WatchCreate { start_revision: 4, prev_kv: true, ..on("a") }), Some(1));
    let answers = scene.all();
    assert!(answers[0].created && !answers[0].canceled);
    let canceled = &answers[1];
    assert!(canceled.canceled && !canceled.created && canceled.cancel_reason.is_empty());
    assert_eq!((canceled.watch_id, canceled.compact_revision, revision_of(canceled)), (0, 4, 0));
    let revisions: Vec<_> =
        answers[3].events.iter().map(|event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision)).collect();
    assert_eq!(revisions, [4, 5, 6]);
    let has_prev: Vec<_> = answers[3].events.iter().map(|event| event.prev_kv.is_some()).collect();
    assert_eq!(has_prev, [false, true, true]);
    assert_eq!(revision_of(&answers[3]), 6);
}

/// Compacting the head at once does not disturb who is in flow, nor take away its previous versions.
#[test]
fn a_watch_in_flow_survives_every_compaction() {
    let mut scene = Scene::new(|_| {});
    scene.create(WatchCreate { prev_kv: true, ..on("a") });
    scene.log.put("a", b"0");
    scene.all();
    for _ in 0..50 {
        let first = scene.log.put("a", b"1");
        let last = scene.log.txn(&[Change::Delete(b"a")]);
        scene.log.put("a", b"2");
        scene.log.store.compact(last + 1);
        let floor = scene.hub.floor().expect("a watch in flow");
        assert_eq!(floor, first - 1);
        scene.log.clean(floor.min(last + 1), true);
        let answers = scene.all();
        assert_eq!(answers.iter().map(revision_of).collect::<Vec<_>>(), [first, last, last + 1]);
        assert!(answers.iter().all(|answer| !answer.canceled && answer.events.len() == 1));
        let prevs: Vec<_> = answers.iter().map(|answer| answer.events[0].prev_kv.is_some()).collect();
        assert_eq!(prevs, [true, true, false]);
    }
}

/// A request waits for those behind; it is not answered without a watch or for a start in the future.
#[test]
fn progress_is_late_rather_than_early() {
    let mut scene = Scene::new(|_| {});
    let view = scene.log.store.view();
    scene.hub.request_progress(scene.stream, &view);
    assert!(scene.all().is_empty());
    for _ in 0..3_000 {
        scene.log.put("a", b"v");
    }
    scene.create(WatchCreate { start_revision: 1, ..everything() });
    let view = scene.log.store.view();
    scene.hub.request_progress(scene.stream, &view);
    assert!(!scene.hub.has_work(&view) || scene.taken().len() == 1, "no answer yet");
    let mut answers = Vec::new();
    while scene.hub.has_work(&view) {
        answers.extend(scene.all());
    }
    let (last, events) = answers.split_last().expect("an answer");
    assert_eq!((last.watch_id, revision_of(last), last.events.len()), (-1, 3_001, 0));
    assert_eq!(events.iter().map(|answer| answer.events.len()).sum::<usize>(), 3_000);
    assert!(events.iter().all(|answer| answer.events.len() <= 1_000));
    scene.create(WatchCreate { start_revision: 3_002, ..on("a") });
    let view = scene.log.store.view();
    scene.hub.request_progress(scene.stream, &view);
    assert_eq!(scene.all().len(), 1, "created only");
    scene.log.put("b", b"v");
    let view = scene.log.store.view();
    scene.hub.request_progress(scene.stream, &view);
    let answers = scene.all();
    assert_eq!(answers.iter().map(revision_of).collect::<Vec<_>>(), [3_002, 3_002]);
    assert_eq!(answers[1].watch_id, -1);
}

/// Each tick tells the watches that want it, but not those that had events, are behind or start later.
#[test]
fn periodic_progress_comes_to_idle_watches() {
    let mut scene = Scene::new(|config| config.progress_interval = Duration::from_secs(10));
    scene.create(WatchCreate { progress_notify: true, ..on("a") });
    scene.create(WatchCreate { progress_notify: true, ..on("b") });
    scene.create(WatchCreate { progress_notify: true, start_revision: 9, ..on("c") });
    scene.create(on("d"));
    scene.all();
    let tick = |scene: &mut Scene| {
        let due = scene.hub.next_timeout().expect("a stream is open");
        scene.hub.handle_timeout(Monotonic(due.0 - 1), &mut Work::new(1_000));
        assert!(scene.taken().is_empty(), "not before its time");
        scene.hub.handle_timeout(due, &mut Work::new(1_000));
        let next = scene.hub.next_timeout().expect("a stream is open");
        let period = next.since(due);
        assert!(period >= Duration::from_secs(10) && period <= Duration::from_secs(11), "{period:?}");
        let mut told: Vec<_> =
            scene.taken().iter().map(|answer| (answer.watch_id, revision_of(answer))).collect();
        told.sort_unstable();
        told
    };
    assert_eq!(tick(&mut scene), [(0, 1), (1, 1)]);
    scene.log.put("a", b"v");
    scene.all();
    assert_eq!(tick(&mut scene), [(1, 2)]);
    assert_eq!(tick(&mut scene), [(0, 2), (1, 2)]);
    let view = scene.log.store.view();
    scene.hub.cancel(scene.stream, 0, &view);
    scene.taken();
    assert_eq!(tick(&mut scene), [(1, 2)]);
    scene.hub.close_stream(scene.stream);
    assert_eq!(scene.hub.next_timeout(), None);
}

/// A client that does not read costs its bound; another one is not held up; then it gets everything.
#[test]
fn a_stalled_stream_is_bounded_and_harms_nobody() {
    let mut scene = Scene::new(|config| config.queue_bytes_max = 10_000);
    scene.create(everything());
    let other = scene.hub.open_stream(Monotonic(0), &mut Prng::new(2));
    let view = scene.log.store.view();
    assert!(scene.hub.create(other, &everything(), Ok(()), &view).is_some());
    let mut got = 0;
    for _ in 0..5_000 {
        scene.log.put("k", &[b'v'; 50]);
        let view = scene.log.store.view();
        while scene.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
        assert!(scene.hub.queued_bytes(scene.stream) <= 10_000);
        while let Some(message) = scene.hub.poll_message(other, 1) {
            got += message.event_count();
        }
    }
    assert_eq!((got, scene.hub.counts().slow_watchers), (5_000, 1));
    let mut revisions = Vec::new();
    loop {
        let answers = scene.all();
        if answers.is_empty() {
            break;
        }
        for event in answers.iter().flat_map(|answer| &answer.events) {
            revisions.push(event.kv.as_ref().map_or(0, |kv| kv.mod_revision));
        }
    }
    assert_eq!(revisions, (2..=5_001).collect::<Vec<i64>>());
    assert_eq!(scene.hub.counts().slow_watchers, 0);
}

/// An oversized revision passes when the queue is empty; large values are not copied.
#[test]
fn an_oversized_revision_still_arrives() {
    let mut scene = Scene::new(|config| config.queue_bytes_max = 1_000);
    scene.create(on("a"));
    scene.all();
    scene.log.put("a", &[b'v'; 100_000]);
    let view = scene.log.store.view();
    while scene.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
    let message = scene.hub.poll_message(scene.stream, 1).expect("the event");
    assert!(message.pieces().iter().any(|piece| matches!(piece, Piece::Record(_))));
    assert_eq!(
        message.pieces().iter().map(|piece| piece.as_slice().len()).sum::<usize>(),
        message.pieces_bytes()
    );
    scene.log.put("a", &[b'w'; 100_000]);
    assert_eq!(scene.all()[0].events[0].kv.as_ref().map_or(0, |kv| kv.value.len()), 100_000);
}

/// All events of a large transaction: one response, or fragments below the bound if asked for.
#[test]
fn fragments_come_only_if_asked_for() {
    let mut scene = Scene::new(|config| config.fragment_bytes = 20_000);
    scene.create(everything());
    scene.create(WatchCreate { fragment: true, ..everything() });
    scene.all();
    let values = [9_000, 9_000, 30_000, 10, 10, 18_000].map(|length| vec![b'v'; length]);
    let keys = ["a", "b", "c", "d", "e", "f"];
    let changes: Vec<_> =
        keys.iter().zip(&values).map(|(key, value)| Change::Put(key.as_bytes(), value)).collect();
    scene.log.txn(&changes);
    let answers = scene.all();
    let shapes: Vec<_> =
        answers.iter().map(|answer| (answer.watch_id, answer.events.len(), answer.fragment)).collect();
    assert_eq!(shapes, [(0, 6, false), (1, 2, true), (1, 1, true), (1, 3, false)]);
    assert!(answers.iter().all(|answer| revision_of(answer) == 2));
}

/// Ten thousand watches of one key, over many streams, each get each event once, from one encoding.
#[test]
fn many_watches_of_one_key_share_an_event() {
    let mut scene = Scene::new(|_| {});
    let mut streams = vec![scene.stream];
    streams.extend((1..100).map(|seed| scene.hub.open_stream(Monotonic(0), &mut Prng::new(seed))));
    let view = scene.log.store.view();
    for number in 0..10_000 {
        assert!(scene.hub.create(streams[number % 100], &on("hot"), Ok(()), &view).is_some());
    }
    scene.log.put("hot", b"v");
    scene.log.put("hot", b"w");
    let view = scene.log.store.view();
    while scene.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
    let mut batches = Vec::new();
    for &stream in &streams {
        let messages: Vec<_> = std::iter::from_fn(|| scene.hub.poll_message(stream, 1)).collect();
        assert_eq!(messages.iter().map(WatchMessage::event_count).sum::<u32>(), 200);
        batches.extend(messages.into_iter().filter_map(|message| message.events));
    }
    batches.dedup_by(|a, b| std::sync::Arc::ptr_eq(a, b));
    let distinct: std::collections::BTreeSet<_> = batches.iter().map(std::sync::Arc::as_ptr).collect();
    assert_eq!(distinct.len(), 2);
}

/// A closed stream's watchers go; late handles find nothing; the floor is released.
#[test]
fn a_closed_stream_leaves_nothing() {
    let mut scene = Scene::new(|_| {});
    for _ in 0..500 {
        scene.create(everything());
    }
    scene.log.put("a", b"v");
    let view = scene.log.store.view();
    while scene.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
    scene.hub.close_stream(scene.stream);
    assert_eq!(scene.hub.create(scene.stream, &on("a"), Ok(()), &view), None);
    scene.hub.cancel(scene.stream, 0, &view);
    scene.log.put("a", b"w");
    assert!(scene.all().is_empty());
    assert_eq!(scene.hub.poll_ready(), None);
    assert_eq!(scene.hub.counts(), Counts { events_sent: 0, ..Counts::default() });
    assert!(!scene.hub.has_watchers() && scene.hub.floor().is_none());
}

/// Streams that come and go between two slices leave no more watchers than two of them have.
#[test]
fn streams_that_come_and_go_take_out_those_before() {
    let mut scene = Scene::new(|_| {});
    let view = scene.log.store.view();
    let mut prng = Prng::new(3);
    for _ in 0..50 {
        let stream = scene.hub.open_stream(Monotonic(0), &mut prng);
        for _ in 0..100 {
            assert!(scene.hub.create(stream, &on("a"), Ok(()), &view).is_some());
            assert!(scene.hub.watches() <= 200, "{} watchers", scene.hub.watches());
        }
        scene.hub.close_stream(stream);
    }
}

/// After a snapshot from another member: who needs what is gone is cancelled, who does not goes on.
#[test]
fn an_install_cancels_who_lost_history() {
    let mut scene = Scene::new(|_| {});
    scene.create(on("a"));
    scene.create(WatchCreate { start_revision: 9, ..on("a") });
    scene.all();
    for value in 0..9 {
        scene.log.put("a", &[value]);
    }
    scene.log.store.compact(8);
    scene.log.clean(8, true);
    let view = scene.log.store.view();
    scene.hub.handle_install(&view);
    let answers = scene.all();
    assert_eq!((answers[0].watch_id, answers[0].canceled, answers[0].compact_revision), (0, true, 8));
    assert_eq!(answers[1..].iter().map(revision_of).collect::<Vec<_>>(), [9, 10]);
    assert!(answers[1..].iter().all(|answer| answer.watch_id == 1));
}

/// Many streams of one watch each on one key, and what each client was given.
struct Crowd {
    scene: Scene,
    streams: Vec<StreamKey>,
    events: Vec<u32>,
}

impl Crowd {
    fn new(streams: usize, change: impl FnOnce(&mut HubConfig)) -> Crowd {
        let mut scene = Scene::new(change);
        let mut prng = Prng::new(3);
        let streams: Vec<_> = (0..streams).map(|_| scene.hub.open_stream(Monotonic(0), &mut prng)).collect();
        let view = scene.log.store.view();
        for &stream in &streams {
            assert_eq!(scene.hub.create(stream, &on("hot"), Ok(()), &view), Some(0));
            assert!(scene.hub.poll_message(stream, 1).is_some_and(|message| message.created));
        }
        while scene.hub.poll_ready().is_some() {}
        Crowd { events: vec![0; streams.len()], scene, streams }
    }

    /// One put, delivered to clients that have room for some messages each.
    fn put(&mut self, room: impl Fn(usize) -> usize) {
        self.scene.log.put("hot", &[b'v'; 256]);
        self.deliver(room);
    }

    fn deliver(&mut self, room: impl Fn(usize) -> usize) {
        let view = self.scene.log.store.view();
        while self.scene.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
        for (at, &stream) in self.streams.iter().enumerate() {
            for left in (0..=room(at)).rev() {
                let Some(message) = self.scene.hub.poll_message(stream, left) else { break };
                self.events[at] += message.event_count();
            }
        }
    }
}

/// A thousand streams that are not read hold their bound, and from then on cost a put nothing. When they are read again
/// each gets all it missed, once and in order.
#[test]
fn a_thousand_stalled_streams_keep_their_bound_and_miss_nothing() {
    const STREAMS: usize = 1_000;
    const PUTS: i64 = 200;
    let mut crowd = Crowd::new(STREAMS, |_| {});
    for _ in 0..PUTS {
        crowd.put(|_| 0);
        let each = STALLED_QUEUE_BYTES + STALLED_QUEUE_BYTES_PER_WATCH;
        assert!(crowd.scene.hub.queued_event_bytes_max() <= each);
        assert!(crowd.scene.hub.counts().queued_bytes <= STREAMS * each);
    }
    let counts = crowd.scene.hub.counts();
    assert_eq!((counts.slow_watchers, counts.turned_behind), (STREAMS, STREAMS as u64));
    assert!(!crowd.scene.hub.has_watchers() && crowd.scene.hub.floor().is_none(), "nobody waits for a put");
    crowd.scene.hub.verify();
    let mut revisions = vec![Vec::new(); STREAMS];
    for _ in 0..10 {
        let view = crowd.scene.log.store.view();
        while crowd.scene.hub.pump(&view, &mut Work::new(1_000)) != Step::Done(()) {}
        for (stream, revisions) in crowd.streams.iter().zip(&mut revisions) {
            while let Some(message) = crowd.scene.hub.poll_message(*stream, 1) {
                let mut bytes = Vec::new();
                message.encode(&IDS, &mut bytes);
                let response = WatchResponse::decode(&bytes[..]).expect("our own encoding");
                let events = response.events.iter().filter_map(|event| event.kv.as_ref());
                revisions.extend(events.map(|kv| kv.mod_revision));
            }
        }
    }
    let all: Vec<i64> = (2..2 + PUTS).collect();
    assert!(revisions.iter().all(|got| *got == all), "each event once, in order");
    assert_eq!(crowd.scene.hub.counts().slow_watchers, 0);
    crowd.put(|_| 1);
    assert!(crowd.events.iter().all(|events| *events == 1), "back in flow");
}

/// The budget of all streams binds those that are not read; who reads is not turned behind by their bytes.
#[test]
fn the_budget_of_all_streams_binds_the_stalled_ones() {
    const BUDGET: usize = 200_000;
    let mut crowd = Crowd::new(51, |config| config.queues_bytes_max = BUDGET);
    for _ in 0..500 {
        // The last one reads.
        crowd.put(|at| if at == 50 { 2 } else { 0 });
        let counts = crowd.scene.hub.counts();
        assert!(counts.queued_bytes <= BUDGET, "{} bytes", counts.queued_bytes);
    }
    assert_eq!(crowd.events[50], 500);
    let counts = crowd.scene.hub.counts();
    assert_eq!((counts.slow_watchers, counts.turned_behind), (50, 50));
    assert!(counts.queued_bytes > BUDGET / 4, "the budget is used: {} bytes", counts.queued_bytes);
    for _ in 0..100 {
        crowd.deliver(|_| 100);
    }
    assert!(crowd.events.iter().all(|events| *events == 500));
    assert_eq!(crowd.scene.hub.counts().queued_bytes, 0);
}

/// A client that reads less than comes turns behind once for many events, not for each; bursts to clients that read
/// turn nobody behind.
#[test]
fn a_slow_reader_turns_behind_seldom() {
    let mut crowd = Crowd::new(1, |_| {});
    for _ in 0..6_000 {
        crowd.put(|_| 0);
        crowd.put(|_| 0);
        crowd.put(|_| 1);
    }
    let events = u64::from(crowd.events[0]);
    let turned_behind = crowd.scene.hub.counts().turned_behind;
    assert!(events > 6_000 && turned_behind > 0, "{events} events, {turned_behind} times behind");
    assert!(turned_behind * 50 <= events, "{turned_behind} times behind for {events} events");

    let mut scene = Scene::new(|_| {});
    scene.create(everything());
    scene.all();
    let keys: Vec<String> = (0..10_000).map(|key| format!("k{key}")).collect();
    let changes: Vec<_> = keys.iter().map(|key| Change::Put(key.as_bytes(), b"v")).collect();
    scene.log.txn(&changes);
    for _ in 0..1_000 {
        scene.log.put("hot", &[b'v'; 256]);
    }
    assert_eq!(scene.all().iter().map(|answer| answer.events.len()).sum::<usize>(), 11_000);
    for _ in 0..1_000 {
        scene.create(on("hot"));
    }
    scene.all();
    for _ in 0..5 {
        scene.log.put("hot", &[b'v'; 256]);
    }
    assert_eq!(scene.all().len(), 5 * 1_001);
    assert_eq!(scene.hub.counts().turned_behind, 0);
}

/// A stalled stream that a compaction overtakes gets what was queued, then its cancel, and nothing after.
#[test]
fn a_stalled_stream_behind_a_compaction_is_cancelled() {
    let mut crowd = Crowd::new(2, |_| {});
    for _ in 0..300 {
        crowd.put(|at| at * 2);
    }
    let last = crowd.scene.log.revision();
    crowd.scene.log.store.compact(last);
    crowd.scene.log.clean(last, true);
    crowd.scene.stream = crowd.streams[0];
    let mut answers = crowd.scene.taken();
    answers.extend(crowd.scene.all());
    let (cancel, events) = answers.split_last().expect("answers");
    assert!(cancel.canceled && cancel.compact_revision == last && cancel.events.is_empty());
    let revisions = events.iter().flat_map(|answer| &answer.events).filter_map(|event| event.kv.as_ref());
    let revisions: Vec<i64> = revisions.map(|kv| kv.mod_revision).collect();
    assert_eq!(revisions, (2..2 + revisions.len() as i64).collect::<Vec<_>>());
    assert!(revisions.len() > 50 && revisions.len() < 300);
    crowd.put(|_| 2);
    assert_eq!(crowd.events, [0, 301]);
    assert!(crowd.scene.all().is_empty());
}

/// The bound of a member counts all its streams and the other shards; a cancel makes room.
#[test]
fn the_watches_of_a_member_are_bounded() {
    let mut scene = Scene::new(|config| config.watches_max = 3);
    let other = scene.hub.open_stream(Monotonic(0), &mut Prng::new(2));
    let view = scene.log.store.view();
    assert_eq!(scene.create(on("a")), Some(0));
    assert_eq!(scene.hub.create(other, &on("a"), Ok(()), &view), Some(0));
    assert_eq!(scene.create(on("b")), Some(1));
    assert_eq!((scene.create(on("c")), scene.hub.drain_refused()), (None, 1));
    let refused = scene.all().pop().expect("an answer");
    assert!(refused.created && refused.canceled && refused.watch_id == -1);
    assert_eq!(refused.cancel_reason, "etcdserver: too many watches on the member");
    scene.hub.cancel(other, 0, &view);
    assert_eq!((scene.create(on("c")), scene.hub.drain_refused()), (Some(2), 0));
    scene.hub.cancel(scene.stream, 0, &view);
    scene.hub.set_watches_elsewhere(1);
    assert_eq!((scene.create(on("d")), scene.hub.drain_refused()), (None, 1));
    scene.hub.set_watches_elsewhere(0);
    assert_eq!(scene.create(on("d")), Some(3));
    // Those that are behind count, too.
    assert_eq!(scene.hub.watches(), 3);
}
