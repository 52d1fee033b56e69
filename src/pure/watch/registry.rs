//! Watchers and streams of a shard, and which of the flows serves whom.
//!
//! Owns: watchers, streams, the index, the order in which waiting watchers are served.
//! Takes: changes of a watcher's place. Gives: counts, streams that became ready.
//! Always true: place, index class, counts and the stream's own counts agree; a waiting watcher is in
//! `waiting` with its next revision, a blocked one in its stream's list.
//! Not here: records and events.
//!
//! ```text
//!             create                      create (past start)
//!               v                            v
//!   +-------> Flow --no room--> Blocked --> Waiting --its revision comes--> Near / Far --+
//!   |                              ^   (room again)                             |        |
//!   |                              +---------------no room----------------------+        |
//!   +--------------------------------the sweep has reached the head----------------------+
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use super::index::{Class, Index, Interval};
use super::pages::Pages;
use super::stream::{Queued, Room, Stream};
use super::{Canary, HubConfig, StreamKey};
use crate::limits::watch::MESSAGE_OVERHEAD_BYTES;
use crate::pure::types::Revision;
use crate::stdx::slab::Slab;

/// Where a watcher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the head.
    Flow,
    /// In the sweep that started near the head.
    Near,
    /// In the sweep that started far behind.
    Far,
    /// Behind, has room, waits for a sweep to come by.
    Waiting,
    /// Behind, waits for room in its stream.
    Blocked,
    /// Not a watcher: a free slot.
    Free,
}

impl Place {
    fn class(self) -> Class {
        match self {
            Place::Flow => Class::Flow,
            Place::Near => Class::Near,
            Place::Far => Class::Far,
            Place::Waiting | Place::Blocked | Place::Free => Class::Resting,
        }
    }
}

/// A watcher. Its interval is in the index. In one cache line, as each event misses the cache for it.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Watcher {
    pub stream: StreamKey,
    pub id: i64,
    /// No event below is delivered. In flow it stays as it was on entry.
    pub next_revision: Revision,
    /// Its entry in the flow's slice, or [`NONE`].
    pub entry: u32,
    /// Its position in the list of its sweep or of its stream's blocked ones.
    pub member: u32,
    /// Tells this watcher from earlier ones in the same slot.
    pub serial: u32,
    pub flags: Flags,
    pub place: Place,
}

/// What a watcher wants, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(pub u8);

impl Flags {
    pub const NO_PUT: Flags = Flags(1);
    pub const NO_DELETE: Flags = Flags(2);
    pub const PREV_KV: Flags = Flags(4);
    pub const NOTIFY: Flags = Flags(8);
    pub const FRAGMENT: Flags = Flags(16);
    /// In its stream's `future`.
    pub const FUTURE: Flags = Flags(32);
    /// Was sent events since the last tick.
    pub const SENT: Flags = Flags(64);

    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub fn set(&mut self, flag: Flags, on: bool) {
        self.0 = if on { self.0 | flag.0 } else { self.0 & !flag.0 };
    }
}

/// No entry, no member.
pub(super) const NONE: u32 = u32::MAX;

/// What all flows share.
pub(super) struct Registry {
    pub config: HubConfig,
    pub index: Index,
    pub watchers: Pages<Watcher>,
    free: Vec<u32>,
    pub streams: Slab<Stream>,
    /// Watchers behind that have room, by next revision.
    pub waiting: BTreeSet<(Revision, u32)>,
    /// Streams that have room again and blocked watchers.
    pub released: VecDeque<StreamKey>,
    /// Streams that have messages since they were last empty.
    pub ready: VecDeque<StreamKey>,
    /// Streams whose progress request may be answered.
    pub answerable: Vec<StreamKey>,
    pub flow_count: usize,
    pub behind_count: usize,
    pub events_sent: u64,
    pub events_pending: u64,
    /// Times that a watcher found no room and turned behind.
    pub turned_behind: u64,
    /// Cost of what is queued on all streams and of what sweeps have gathered for them.
    pub queued_bytes: usize,
    /// Creates refused for a bound, until the caller has counted them.
    pub refused: u64,
    /// Watches of other shards, when last told.
    pub watches_elsewhere: usize,
    serial: u32,
    hasher: FixedState,
}

impl Registry {
    pub fn new(config: HubConfig) -> Registry {
        Registry {
            index: Index::new(config.seed),
            watchers: Pages::default(),
            free: Vec::new(),
            streams: Slab::default(),
            waiting: BTreeSet::new(),
            released: VecDeque::new(),
            ready: VecDeque::new(),
            answerable: Vec::new(),
            flow_count: 0,
            behind_count: 0,
            events_sent: 0,
            events_pending: 0,
            turned_behind: 0,
            queued_bytes: 0,
            refused: 0,
            watches_elsewhere: 0,
            serial: 0,
            hasher: FixedState::with_seed(config.seed),
            config,
        }
    }

    /// Number of watchers.
    pub fn count(&self) -> usize {
        self.flow_count + self.behind_count
    }

    /// True if the canary was chosen.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_canary(&self, canary: Canary) -> bool {
        self.config.canary == Some(canary)
    }

    /// Outside tests there are no canaries.
    #[cfg(not(any(test, feature = "testing")))]
    pub fn is_canary(&self, _canary: Canary) -> bool {
        false
    }

    /// How much streams may queue now.
    pub fn room(&self) -> Room {
        Room {
            open_bytes: self.config.queue_bytes_max,
            stalled_bytes: self.config.stalled_queue_bytes,
            left_bytes: self.config.queues_bytes_max.saturating_sub(self.queued_bytes),
        }
    }

    /// The watcher with an id on a stream.
    pub fn find(&self, stream: &Stream, id: i64) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        stream.ids.find(hash, |&watcher| self.watchers[watcher].id == id).copied()
    }

    /// Adds a watcher in flow or waiting. The stream lives and the id is free on it.
    pub fn add(&mut self, mut watcher: Watcher, interval: Interval<'_>) -> u32 {
        let (key, id, place, next_revision) =
            (watcher.stream, watcher.id, watcher.place, watcher.next_revision);
        self.serial = self.serial.wrapping_add(1);
        watcher.serial = self.serial;
        let (serial, flags) = (watcher.serial, watcher.flags);
        let number = match self.free.pop() {
            Some(number) => {
                self.watchers[number] = watcher;
                number
            }
            None => self.watchers.push(watcher),
        };
        self.index.insert(number, interval);
        self.index.set_class(number, place.class());
        let stream = self.streams.get_mut(key.0).expect("the caller found the stream");
        let (watchers, hasher) = (&self.watchers, &self.hasher);
        stream.ids.insert_unique(hasher.hash_one(id), number, |&other| hasher.hash_one(watchers[other].id));
        if flags.has(Flags::NOTIFY) {
            if stream.tick_at == 0 && stream.notified.len() > 2 * stream.notified_count + 16 {
                // Those that went since the last tick.
                let watchers = &self.watchers;
                stream.notified.retain(|&(number, serial)| {
                    let watcher = &watchers[number];
                    watcher.serial == serial && watcher.place != Place::Free
                });
            }
            stream.notified.push((number, serial));
            stream.notified_count += 1;
        }
        if flags.has(Flags::FUTURE) {
            stream.future.insert((next_revision, number));
        }
        match place {
            Place::Flow => self.flow_count += 1,
            Place::Waiting => {
                self.behind_count += 1;
                stream.behind += 1;
                self.waiting.insert((next_revision, number));
            }
            Place::Near | Place::Far | Place::Blocked | Place::Free => {
                unreachable!("a new watcher is in flow or waits")
            }
        }
        number
    }

    /// Takes a watcher out; it has left its sweep already. Works without its stream, too.
    pub fn remove(&mut self, number: u32) {
        let Watcher { stream: key, id, next_revision, member, flags, place, .. } = self.watchers[number];
        self.index.remove(number);
        let mut moved = None;
        if let Some(stream) = self.streams.get_mut(key.0) {
            match stream.ids.find_entry(self.hasher.hash_one(id), |&other| other == number) {
                Ok(entry) => drop(entry.remove()),
                Err(_) => unreachable!("a watcher is among its stream's ids"),
            }
            if flags.has(Flags::NOTIFY) {
                stream.notified_count -= 1;
            }
            if flags.has(Flags::FUTURE) {
                stream.future.remove(&(next_revision, number));
            }
            if place == Place::Blocked {
                stream.blocked.swap_remove(member as usize);
                moved = stream.blocked.get(member as usize).copied();
            }
            if place != Place::Flow {
                stream.behind -= 1;
            }
        }
        if let Some(moved) = moved {
            self.watchers[moved].member = member;
        }
        if place == Place::Flow {
            self.flow_count -= 1;
        } else {
            self.behind_count -= 1;
        }
        if place == Place::Waiting {
            self.waiting.remove(&(next_revision, number));
        }
        self.watchers[number].place = Place::Free;
        self.free.push(number);
        self.mark_answerable(key);
    }

    /// A watcher found no room for the events of `revision`: it stops until its stream has some.
    /// It has left its sweep already.
    pub fn block(&mut self, number: u32, revision: Revision) {
        let watcher = &mut self.watchers[number];
        let was_in_flow = watcher.place == Place::Flow;
        let before = std::mem::replace(&mut watcher.next_revision, revision);
        assert!(before <= revision, "the next revision only grows");
        watcher.place = Place::Blocked;
        let is_future = watcher.flags.has(Flags::FUTURE);
        watcher.flags.set(Flags::FUTURE, false);
        let stream = self.streams.get_mut(watcher.stream.0).expect("a refusing stream lives");
        watcher.member = stream.blocked.len() as u32;
        stream.blocked.push(number);
        // The queue may have drained between the refusal and here, inside a revision that took several slices:
        // then nobody else will let it go on.
        let is_free = !stream.is_congested() && stream.blocked.len() == 1;
        let key = watcher.stream;
        if is_future {
            stream.future.remove(&(before, number));
        }
        if was_in_flow {
            stream.behind += 1;
            self.flow_count -= 1;
            self.behind_count += 1;
        }
        self.turned_behind += 1;
        self.index.set_class(number, Class::Resting);
        if is_free {
            self.released.push_back(key);
        }
    }

    /// The last blocked watcher of a stream may go on. True if there are more.
    pub fn release_one(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key.0) else { return false };
        let Some(number) = stream.blocked.pop() else { return false };
        let more = !stream.blocked.is_empty();
        let is_twice = self.is_canary(Canary::Twice);
        let watcher = &mut self.watchers[number];
        watcher.next_revision -= i64::from(is_twice);
        watcher.place = Place::Waiting;
        watcher.member = NONE;
        self.waiting.insert((watcher.next_revision, number));
        more
    }

    /// A waiting watcher enters a sweep.
    pub fn enter(&mut self, number: u32, place: Place, member: u32) {
        let watcher = &mut self.watchers[number];
        let was_waiting = self.waiting.remove(&(watcher.next_revision, number));
        assert!(was_waiting, "only a waiting watcher enters a sweep");
        watcher.place = place;
        watcher.member = member;
        self.index.set_class(number, place.class());
    }

    /// A watcher that has left its sweep at the head joins the flow.
    pub fn join(&mut self, number: u32, next_revision: Revision) {
        let watcher = &mut self.watchers[number];
        assert!(watcher.next_revision <= next_revision, "the next revision only grows");
        watcher.next_revision = next_revision;
        watcher.place = Place::Flow;
        watcher.member = NONE;
        let key = watcher.stream;
        self.index.set_class(number, Class::Flow);
        self.flow_count += 1;
        self.behind_count -= 1;
        if let Some(stream) = self.streams.get_mut(key.0) {
            stream.behind -= 1;
        }
        self.mark_answerable(key);
    }

    /// Queues a message on a stream, if it lives.
    pub fn push(&mut self, key: StreamKey, message: Queued) {
        let Some(stream) = self.streams.get_mut(key.0) else { return };
        self.events_pending += message.events();
        self.queued_bytes += message.cost();
        if stream.push(message) {
            self.ready.push_back(key);
        }
    }

    /// Lets the stream's blocked watchers go on if its queue has drained enough.
    pub fn relieve(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key.0)
            && stream.relieve()
            && !stream.blocked.is_empty()
        {
            self.released.push_back(key);
        }
    }

    /// Ends a watcher whose next revision is compacted. It has left its sweep already.
    pub fn cancel_compacted(&mut self, number: u32, compact_revision: Revision) {
        let Watcher { stream, id, .. } = self.watchers[number];
        self.push(stream, Queued::Compacted { watch_id: id, compact_revision });
        self.remove(number);
        if let Some(stream) = self.streams.get_mut(stream.0) {
            stream.lost.insert(id);
        }
    }

    /// Has the stream's progress request looked at, if it has one.
    pub fn mark_answerable(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key.0)
            && stream.progress.is_some()
            && stream.behind == 0
            && !stream.is_answerable
        {
            stream.is_answerable = true;
            self.answerable.push(key);
        }
    }

    /// Answers the stream's progress request if everything up to `delivered` has been queued.
    pub fn try_progress(&mut self, key: StreamKey, delivered: Revision) {
        let room = self.room();
        let Some(stream) = self.streams.get_mut(key.0) else { return };
        let Some(asked) = stream.progress else { return };
        if stream.behind > 0 {
            // Asked again when the last one has joined the flow.
            return;
        }
        if delivered < asked {
            self.mark_answerable(key);
            return;
        }
        if stream.ids.is_empty() || stream.starts_in_future(delivered, &mut self.watchers) {
            stream.progress = None;
            return;
        }
        if !stream.admits(MESSAGE_OVERHEAD_BYTES, room.of(stream)) {
            // Asked again when a message has been taken.
            return;
        }
        stream.progress = None;
        self.push(key, Queued::Progress { watch_id: -1, revision: delivered });
    }

    /// Checks that all counts agree, in time that grows with everything.
    #[cfg(test)]
    pub fn verify(&self) {
        let live = (0..self.watchers.len()).map(|number| (number, &self.watchers[number]));
        let live = live.filter(|(_, watcher)| watcher.place != Place::Free);
        let (mut flow, mut behind, mut waiting) = (0, 0, 0);
        for (number, watcher) in live {
            assert_eq!(self.index.class(number), watcher.place.class());
            match watcher.place {
                Place::Flow => flow += 1,
                _ => behind += 1,
            }
            if watcher.place == Place::Waiting {
                waiting += 1;
                assert!(self.waiting.contains(&(watcher.next_revision, number)));
            }
            let Some(stream) = self.streams.get(watcher.stream.0) else { continue };
            if watcher.place == Place::Blocked {
                assert_eq!(stream.blocked[watcher.member as usize], number);
            }
            let is_future = stream.future.contains(&(watcher.next_revision, number));
            assert_eq!(watcher.flags.has(Flags::FUTURE), is_future);
        }
        assert_eq!((flow, behind, waiting), (self.flow_count, self.behind_count, self.waiting.len()));
        let (mut pending, mut bytes) = (0, 0);
        for (_, stream) in self.streams.iter() {
            let watchers = stream.ids.iter().map(|&number| &self.watchers[number]);
            assert_eq!(stream.behind, watchers.filter(|watcher| watcher.place != Place::Flow).count());
            pending += stream.queued_events();
            bytes += stream.queued_bytes();
        }
        assert_eq!((pending, bytes), (self.events_pending, self.queued_bytes));
        self.index.verify();
    }
}

impl Stream {
    /// True if a watcher asked for a start above `delivered`; forgets those that no longer do.
    pub fn starts_in_future(&mut self, delivered: Revision, watchers: &mut Pages<Watcher>) -> bool {
        while let Some(&(start, number)) = self.future.first() {
            if start > delivered {
                return true;
            }
            self.future.pop_first();
            watchers[number].flags.set(Flags::FUTURE, false);
        }
        false
    }
}
