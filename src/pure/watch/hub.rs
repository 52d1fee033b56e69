//! The hub: what a shard calls.
//!
//! Owns: the registry, the flow at the head, two sweeps, streams being closed, the ticks.
//! Takes: requests, views, work units, the time. Gives: messages and what to keep.
//! Always true: both sweeps are at or below the head; all run on the shard's one thread.
//! Not here: how an event finds its watchers (`flow`, `index`).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hashbrown::hash_table;

use super::flow::Flow;
use super::index::Interval;
use super::message::WatchMessage;
use super::registry::{Flags, NONE, Place, Registry, Watcher};
use super::stream::{Queued, Stream};
use super::{HubConfig, StreamKey, WatchCreate};
use crate::limits::watch::{MESSAGE_OVERHEAD_BYTES, NEAR_REVISIONS, QUANTUM_UNITS};
use crate::pure::api::status::watch_reason;
use crate::pure::mvcc::KvView;
use crate::pure::types::Revision;
use crate::stdx::prng::Prng;
use crate::stdx::time::Monotonic;
use crate::stdx::work::{Step, Work};

/// The watch streams of one shard.
pub struct Hub {
    registry: Registry,
    head: Flow,
    near: Flow,
    far: Flow,
    /// Watchers of closed streams, yet to be taken out.
    closing: VecDeque<hash_table::IntoIter<u32>>,
    /// When each stream ticks.
    ticks: BTreeSet<(Monotonic, StreamKey)>,
}

/// Watchers of closed streams that a new one takes out.
const CLOSED_PER_CREATE: u32 = 2;

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open streams.
    pub streams: usize,
    /// Watchers, those behind included.
    pub watchers: usize,
    /// Watchers behind.
    pub slow_watchers: usize,
    /// Events taken by `poll_message` so far.
    pub events_sent: u64,
    /// Events queued.
    pub events_pending: u64,
    /// Times that a watcher found no room in its stream and turned behind.
    pub turned_behind: u64,
    /// Bytes queued, each stream's by themselves, though streams share encoded events.
    pub queued_bytes: usize,
}

impl Counts {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Counts) {
        self.streams += other.streams;
        self.watchers += other.watchers;
        self.slow_watchers += other.slow_watchers;
        self.events_sent += other.events_sent;
        self.events_pending += other.events_pending;
        self.turned_behind += other.turned_behind;
        self.queued_bytes += other.queued_bytes;
    }
}

impl Hub {
    /// A hub without streams.
    pub fn new(config: HubConfig) -> Hub {
        Hub {
            registry: Registry::new(config),
            head: Flow::head(0),
            near: Flow::near(),
            far: Flow::far(),
            closing: VecDeque::new(),
            ticks: BTreeSet::new(),
        }
    }

    /// Opens a stream. Its periodic progress has a jitter of up to a tenth, drawn once.
    pub fn open_stream(&mut self, now: Monotonic, prng: &mut Prng) -> StreamKey {
        let interval = self.registry.config.progress_interval;
        let jitter_max = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX);
        let period = interval + Duration::from_nanos(prng.below(jitter_max.max(1)));
        let stream = Stream::new(now + period, period);
        let key = StreamKey(self.registry.streams.insert(stream));
        self.ticks.insert((now + period, key));
        key
    }

    /// The most bytes of events that any stream holds.
    #[cfg(any(test, feature = "testing"))]
    pub fn queued_event_bytes_max(&self) -> usize {
        self.registry.streams.iter().map(|(_, stream)| stream.event_bytes()).max().unwrap_or(0)
    }

    /// Closes a stream: nothing more comes from it. Its watchers go in the following slices.
    pub fn close_stream(&mut self, key: StreamKey) {
        let Some(stream) = self.registry.streams.remove(key.0) else { return };
        self.ticks.remove(&(stream.tick_time, key));
        self.registry.events_pending -= stream.queued_events();
        self.registry.queued_bytes -= stream.queued_bytes();
        self.closing.push_back(stream.ids.into_iter());
    }

    /// Answers a create request, in etcd's order of checks. `permitted` is the text of the refusal if the
    /// caller may not watch the range. Returns the id, if the watch exists now.
    pub fn create(
        &mut self,
        key: StreamKey,
        request: &WatchCreate,
        permitted: Result<(), String>,
        view: &KvView,
    ) -> Option<i64> {
        // However many come between two slices, those that have gone become fewer.
        self.take_out(&mut Work::new(CLOSED_PER_CREATE));
        let stream = self.registry.streams.get(key.0)?;
        let start_key: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
        let interval = match &request.range_end[..] {
            b"" => Interval::Point(start_key),
            b"\0" => Interval::From(start_key),
            end => Interval::Between(start_key, end),
        };
        let is_empty = matches!(interval, Interval::Between(start, end) if start >= end);
        let is_taken = request.watch_id != 0
            && (stream.lost.contains(&request.watch_id)
                || self.registry.find(stream, request.watch_id).is_some());
        let refusal = if request.start_revision < 0 {
            Some(watch_reason::NEGATIVE_START.into())
        } else if let Err(reason) = permitted {
            Some(reason)
        } else if is_empty {
            Some(watch_reason::EMPTY_RANGE.into())
        } else if is_taken {
            Some(watch_reason::DUPLICATE_ID.into())
        } else if stream.ids.len() + stream.lost.len() >= self.registry.config.watches_per_stream_max {
            self.registry.refused += 1;
            Some(watch_reason::TOO_MANY.into())
        } else if self.registry.count() + self.registry.watches_elsewhere >= self.registry.config.watches_max
        {
            self.registry.refused += 1;
            Some(watch_reason::TOO_MANY_OF_MEMBER.into())
        } else {
            None
        };
        let revision = view.revision();
        if let Some(reason) = refusal {
            self.registry.push(key, Queued::Refused { revision, reason: reason.into_boxed_str() });
            return None;
        }
        let id = if request.watch_id == 0 { self.choose_id(key) } else { request.watch_id };
        self.registry.push(key, Queued::Created { watch_id: id, revision });
        let start = request.start_revision;
        if start != 0 && start < view.compact_revision() {
            let compact_revision = view.compact_revision();
            self.registry.push(key, Queued::Compacted { watch_id: id, compact_revision });
            if let Some(stream) = self.registry.streams.get_mut(key.0) {
                stream.lost.insert(id);
            }
            return None;
        }
        if self.registry.flow_count == 0 && !self.head.is_inside() {
            // Nobody needs what is between: the floor begins here.
            self.head.seek(revision + 1);
        }
        let mut flags = Flags::default();
        flags.set(Flags::NO_PUT, request.no_put);
        flags.set(Flags::NO_DELETE, request.no_delete);
        flags.set(Flags::PREV_KV, request.prev_kv);
        flags.set(Flags::NOTIFY, request.progress_notify);
        flags.set(Flags::FRAGMENT, request.fragment);
        let next_revision = if start == 0 { revision + 1 } else { start };
        let is_behind = next_revision < self.head.next_for_joiners();
        flags.set(Flags::FUTURE, start != 0 && !is_behind);
        let place = if is_behind { Place::Waiting } else { Place::Flow };
        let watcher =
            Watcher { stream: key, id, next_revision, entry: NONE, member: NONE, serial: 0, flags, place };
        self.registry.add(watcher, interval);
        Some(id)
    }

    /// Answers a cancel request; an unknown id has no answer. Events already queued still come before.
    pub fn cancel(&mut self, key: StreamKey, id: i64, view: &KvView) {
        let Some(stream) = self.registry.streams.get(key.0) else { return };
        let Some(number) = self.registry.find(stream, id) else {
            self.release_lost(key, id, view);
            return;
        };
        self.registry.push(key, Queued::Canceled { watch_id: id, revision: view.revision() });
        self.remove(number);
    }

    /// The client cancels a watch that a compaction has cancelled before: its id is free from here on.
    fn release_lost(&mut self, key: StreamKey, id: i64, view: &KvView) {
        let Some(stream) = self.registry.streams.get_mut(key.0) else { return };
        if stream.lost.remove(&id) {
            self.registry.push(key, Queued::Canceled { watch_id: id, revision: view.revision() });
        }
    }

    /// Takes a progress request. It is answered when everything up to the view's revision is queued for
    /// all watches of the stream; never if there is none, one starts in the future, or a
    /// compaction has cancelled one that the client has not cancelled since. Requests that wait
    /// share one answer.
    pub fn request_progress(&mut self, key: StreamKey, view: &KvView) {
        #[cfg(any(test, feature = "testing"))]
        if self.registry.is_canary(super::Canary::Overtake)
            && let Some(stream) = self.registry.streams.get_mut(key.0)
            && !stream.ids.is_empty()
        {
            let message = Queued::Progress { watch_id: -1, revision: view.revision() };
            self.registry.queued_bytes += message.cost();
            if stream.push_first(message) {
                self.registry.ready.push_back(key);
            }
            return;
        }
        let Some(stream) = self.registry.streams.get_mut(key.0) else { return };
        let is_future = stream.future.last().is_some_and(|&(start, _)| start > view.revision());
        // etcd never counts a watch that a compaction cancelled as caught up.
        if stream.ids.is_empty() || is_future || !stream.lost.is_empty() {
            return;
        }
        stream.progress = Some(view.revision());
        if self.head.is_inside() {
            self.registry.mark_answerable(key);
        } else {
            self.registry.try_progress(key, self.head.delivered());
        }
    }

    /// Delivers a slice: closed streams go, the head moves to the view's revision, watchers behind
    /// catch up, progress requests are answered. `Pending` when only a record to be read can move it on.
    pub fn pump(&mut self, view: &KvView, work: &mut Work) -> Step<()> {
        let result = loop {
            let used_before = work.used();
            let was_spent = work.is_spent();
            let steps = [
                self.quantum(work, |hub, work| hub.run_chores(work)),
                self.quantum(work, |hub, work| hub.head.run_head(&mut hub.registry, view, work)),
                self.quantum(work, |hub, work| hub.run_near(view, work)),
                self.quantum(work, |hub, work| hub.run_far(view, work)),
            ];
            if steps.iter().all(|step| *step == Step::Done(())) && self.registry.released.is_empty() {
                break Step::Done(());
            }
            if was_spent || work.is_spent() {
                break Step::More;
            }
            if work.used() == used_before {
                break if steps.contains(&Step::Pending) { Step::Pending } else { Step::More };
            }
        };
        self.near.end_slice(&mut self.registry, view.revision());
        self.far.end_slice(&mut self.registry, view.revision());
        if !self.head.is_inside() {
            for key in std::mem::take(&mut self.registry.answerable) {
                if let Some(stream) = self.registry.streams.get_mut(key.0) {
                    stream.is_answerable = false;
                }
                self.registry.try_progress(key, self.head.delivered());
            }
        }
        result
    }

    /// True if `pump` with this view would do something.
    pub fn has_work(&self, view: &KvView) -> bool {
        (self.registry.flow_count > 0 && self.head.delivered() < view.revision())
            || self.head.is_inside()
            || !self.registry.waiting.is_empty()
            || !self.near.is_empty()
            || !self.far.is_empty()
            || !self.registry.released.is_empty()
            || !self.registry.answerable.is_empty()
            || !self.closing.is_empty()
    }

    /// The next stream whose queue was empty and is not any more. The caller then takes its messages
    /// until there are none; if it has no room for them all, it comes back by itself.
    pub fn poll_ready(&mut self) -> Option<StreamKey> {
        while let Some(key) = self.registry.ready.pop_front() {
            let Some(stream) = self.registry.streams.get_mut(key.0) else { continue };
            stream.is_ready = false;
            if !stream.is_drained() {
                return Some(key);
            }
        }
        None
    }

    /// Takes a stream's next message, if there is one and the client's stream has `room` for more bytes.
    /// A message larger than the room is handed out whole: the last one may overdraw it. Without room the stream counts
    /// as stalled, and little is queued on it, until the client has taken all.
    pub fn poll_message(&mut self, key: StreamKey, room: usize) -> Option<WatchMessage> {
        let stream = self.registry.streams.get_mut(key.0)?;
        if room == 0 {
            stream.is_stalled = !stream.is_drained();
            return None;
        }
        let message = stream.pop()?;
        self.registry.queued_bytes -= message.cost();
        self.registry.events_pending -= message.events();
        self.registry.events_sent += message.events();
        self.registry.relieve(key);
        self.registry.mark_answerable(key);
        Some(message.into_message())
    }

    /// Bytes that may wait for the stream's client beside what is queued here, where they are copies of its own.
    pub fn unsent_bytes_max(&self, key: StreamKey) -> usize {
        self.registry.streams.get(key.0).map_or(0, |stream| self.registry.room().copied(stream))
    }

    /// How many creates were refused for a bound since the last call.
    pub fn drain_refused(&mut self) -> u64 {
        std::mem::take(&mut self.registry.refused)
    }

    /// Number of watches, those behind included.
    pub fn watches(&self) -> usize {
        self.registry.count()
    }

    /// Watches of the member's other shards, which count against `watches_max` too.
    pub fn set_watches_elsewhere(&mut self, watches: usize) {
        self.registry.watches_elsewhere = watches;
    }

    /// When `handle_timeout` wants to be called next.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        self.ticks.first().map(|&(time, _)| time)
    }

    /// Queues the periodic progress that is due: for each watch that wants it, is in flow, does not start in
    /// the future and was sent no event since the last tick. Call it after a pump; what the slice does not
    /// reach stays due.
    pub fn handle_timeout(&mut self, now: Monotonic, work: &mut Work) {
        while let Some(&(time, key)) = self.ticks.first() {
            if time > now || work.is_spent() || self.head.is_inside() {
                return;
            }
            if !self.tick(key, work) {
                return;
            }
            self.ticks.pop_first();
            let stream = self.registry.streams.get_mut(key.0).expect("a closed stream has no tick");
            // Ticks that were missed are dropped; the phase stays.
            let period_nanos = u64::try_from(stream.tick_period.as_nanos()).unwrap_or(u64::MAX).max(1);
            let missed = (now.0 - time.0) / period_nanos;
            stream.tick_time = Monotonic(time.0.saturating_add((missed + 1).saturating_mul(period_nanos)));
            self.ticks.insert((stream.tick_time, key));
        }
    }

    /// The least revision at which the cleaner must keep the key space for watchers in flow: the next
    /// event's previous version is there.
    pub fn floor(&self) -> Option<Revision> {
        (self.registry.flow_count > 0).then(|| self.head.delivered())
    }

    /// True if a new revision may matter to somebody. Who is behind does not wait for one: either there is work for
    /// the watcher already, or its client has to read first.
    pub fn has_watchers(&self) -> bool {
        self.registry.flow_count > 0
    }

    /// The key space was replaced by a newer one (snapshot of another member) that may lack revisions which
    /// the floor had kept: watchers that need them are cancelled as compacted.
    pub fn handle_install(&mut self, view: &KvView) {
        let compact_revision = view.compact_revision();
        if self.head.delivered() + 1 >= compact_revision {
            return;
        }
        for number in 0..self.registry.watchers.len() {
            let watcher = &self.registry.watchers[number];
            if watcher.place == Place::Flow && watcher.next_revision < compact_revision {
                self.head.leave(&mut self.registry, number);
                self.registry.cancel_compacted(number, compact_revision);
            }
        }
        self.head.abandon(&mut self.registry, compact_revision);
    }

    /// Numbers for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            streams: self.registry.streams.len(),
            watchers: self.registry.count(),
            slow_watchers: self.registry.behind_count,
            events_sent: self.registry.events_sent,
            events_pending: self.registry.events_pending,
            turned_behind: self.registry.turned_behind,
            queued_bytes: self.registry.queued_bytes,
        }
    }

    /// Bytes that a stream holds.
    pub fn queued_bytes(&self, key: StreamKey) -> usize {
        self.registry.streams.get(key.0).map_or(0, Stream::queued_bytes)
    }

    /// Checks that all parts agree, in time that grows with everything.
    #[cfg(test)]
    pub(super) fn verify(&self) {
        self.registry.verify();
        for (key, stream) in self.registry.streams.iter() {
            assert!(self.ticks.contains(&(stream.tick_time, StreamKey(key))));
        }
    }

    /// Watches of a stream that are behind, with their ids.
    #[cfg(test)]
    pub(super) fn behind(&self, key: StreamKey) -> Vec<i64> {
        let is_behind =
            |watcher: &&Watcher| watcher.stream == key && !matches!(watcher.place, Place::Flow | Place::Free);
        let watchers = &self.registry.watchers;
        (0..watchers.len()).map(|at| &watchers[at]).filter(is_behind).map(|watcher| watcher.id).collect()
    }

    /// True if the id is in use.
    #[cfg(test)]
    pub(super) fn has_watch(&self, key: StreamKey, id: i64) -> bool {
        let stream = self.registry.streams.get(key.0);
        stream.is_some_and(|stream| stream.lost.contains(&id) || self.registry.find(stream, id).is_some())
    }

    /// The first id from the stream's counter on that is not in use.
    fn choose_id(&mut self, key: StreamKey) -> i64 {
        let stream = self.registry.streams.get(key.0).expect("the caller found the stream");
        let mut id = stream.next_id;
        while stream.lost.contains(&id) || self.registry.find(stream, id).is_some() {
            id = id.wrapping_add(1);
        }
        let stream = self.registry.streams.get_mut(key.0).expect("the caller found the stream");
        stream.next_id = id.wrapping_add(1);
        id
    }

    fn remove(&mut self, number: u32) {
        match self.registry.watchers[number].place {
            Place::Flow => self.head.leave(&mut self.registry, number),
            Place::Near => self.near.leave(&mut self.registry, number),
            Place::Far => self.far.leave(&mut self.registry, number),
            Place::Waiting | Place::Blocked => {}
            Place::Free => unreachable!("a watcher is taken out once"),
        }
        self.registry.remove(number);
    }

    /// Runs a part for a quantum on the account of the slice.
    fn quantum(&mut self, work: &mut Work, part: impl FnOnce(&mut Hub, &mut Work) -> Step<()>) -> Step<()> {
        let mut own = Work::new(QUANTUM_UNITS);
        let step = part(self, &mut own);
        work.charge(own.used());
        step
    }

    /// Takes out watchers of closed streams, a unit each.
    fn take_out(&mut self, work: &mut Work) {
        while let Some(numbers) = self.closing.front_mut() {
            let Some(number) = numbers.next() else {
                self.closing.pop_front();
                continue;
            };
            self.remove(number);
            work.charge(1);
            if work.is_spent() {
                return;
            }
        }
    }

    /// Takes out watchers of closed streams, and lets blocked watchers go on whose streams have room.
    fn run_chores(&mut self, work: &mut Work) -> Step<()> {
        self.take_out(work);
        if !self.closing.is_empty() {
            return Step::More;
        }
        while let Some(&key) = self.registry.released.front() {
            if work.is_spent() {
                return Step::More;
            }
            work.charge(1);
            if !self.registry.release_one(key) {
                self.registry.released.pop_front();
            }
        }
        Step::Done(())
    }

    fn run_near(&mut self, view: &KvView, work: &mut Work) -> Step<()> {
        let zone = self.head.delivered() - NEAR_REVISIONS;
        self.near.run_sweep(&mut self.registry, view, &self.head, zone, work)
    }

    fn run_far(&mut self, view: &KvView, work: &mut Work) -> Step<()> {
        self.far.run_sweep(&mut self.registry, view, &self.head, Revision::MIN, work)
    }

    /// One tick of a stream. False if the slice did not reach all of its watches.
    fn tick(&mut self, key: StreamKey, work: &mut Work) -> bool {
        let delivered = self.head.delivered();
        let room = self.registry.room();
        let mut stream = self.registry.streams.get_mut(key.0).expect("a closed stream has no tick");
        while let Some(&(number, serial)) = stream.notified.get(stream.tick_at) {
            if work.is_spent() {
                break;
            }
            work.charge(1);
            let watcher = &mut self.registry.watchers[number];
            if watcher.serial != serial || watcher.place == Place::Free {
                // Gone. The order of those that are left doesn't matter.
                stream.notified.swap_remove(stream.tick_at);
                continue;
            }
            stream.tick_at += 1;
            let was_sent = watcher.flags.has(Flags::SENT);
            watcher.flags.set(Flags::SENT, false);
            let first_told = if watcher.flags.has(Flags::FUTURE) {
                watcher.next_revision
            } else {
                watcher.next_revision - 1
            };
            let is_told = watcher.place == Place::Flow && delivered >= first_told && !was_sent;
            if is_told && stream.admits(MESSAGE_OVERHEAD_BYTES, room.of(stream)) {
                let message = Queued::Progress { watch_id: watcher.id, revision: delivered };
                self.registry.push(key, message);
                stream = self.registry.streams.get_mut(key.0).expect("it was just there");
            }
        }
        if stream.tick_at < stream.notified.len() {
            return false;
        }
        stream.tick_at = 0;
        true
    }
}
