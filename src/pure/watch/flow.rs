//! One reader of the log of revisions that hands events to the watchers it serves.
//!
//! Owns: its position, the revision under way, the events of the slice, its members (sweeps only).
//! Takes: a view, work units. Gives: messages in the queues of the streams of the registry.
//! Always true: a watcher gets all its events of a revision or none of them; within a slice a watcher has
//! at most one entry; what a sweep has gathered is queued at the end of the slice.
//! Not here: which flow serves a watcher that waits, requests of clients.
//!
//! The flow at the head and the sweeps behind it are the same machine. They differ in two things: the
//! first queues each revision as it comes, a sweep gathers many for one response; a sweep's members come
//! from `waiting` when their revision comes, and leave for the head when the sweep has arrived there.

use std::collections::VecDeque;

use super::event::{EMPTY, Events, List};
use super::index::Class;
use super::registry::{Flags, NONE, Place, Registry};
use super::stream::Queued;
use super::{Canary, StreamKey};
use crate::limits::watch::{CATCH_UP_REVISIONS_MAX, MESSAGE_OVERHEAD_BYTES};
use crate::pure::mvcc::{Access, KvView, LogCursor, RecordRef};
use crate::pure::types::Revision;
use crate::stdx::work::{Step, Work};

/// A flow. Drawing of its phases, once for each revision:
///
/// ```text
/// Reading (records of the revision arrive) --> Matching (record by record) --> Committing (entry by entry)
///    ^                                                                              |
///    +------------------------------------------------------------------------------+
/// ```
pub(super) struct Flow {
    class: Class,
    place: Place,
    /// The first revision that is not delivered.
    next: Revision,
    cursor: LogCursor,
    /// The records of the revision under way, in order.
    records: Vec<RecordRef>,
    /// Records read ahead of it.
    ahead: VecDeque<RecordRef>,
    phase: Phase,
    events: Events,
    entries: Vec<Entry>,
    /// Entries that the revision under way has touched.
    touched: Vec<u32>,
    matched: Vec<u32>,
    /// Watchers of a sweep.
    members: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    Matching { record: usize },
    Committing { at: usize },
}

/// What a watcher gets in this slice.
struct Entry {
    /// [`NONE`] when it has left.
    watcher: u32,
    is_touched: bool,
    /// All its events, those of the revision under way included.
    list: List,
    /// Those of ended revisions, for which its stream has reserved room.
    committed: List,
}

impl Flow {
    /// The flow at the head; starts behind `delivered`.
    pub fn head(delivered: Revision) -> Flow {
        Flow::new(Class::Flow, Place::Flow, delivered + 1)
    }

    /// The sweep for watchers near the head.
    pub fn near() -> Flow {
        Flow::new(Class::Near, Place::Near, 0)
    }

    /// The sweep for all others.
    pub fn far() -> Flow {
        Flow::new(Class::Far, Place::Far, 0)
    }

    fn new(class: Class, place: Place, next: Revision) -> Flow {
        Flow {
            class,
            place,
            next,
            cursor: LogCursor::at(next),
            records: Vec::new(),
            ahead: VecDeque::new(),
            phase: Phase::Reading,
            events: Events::default(),
            entries: Vec::new(),
            touched: Vec::new(),
            matched: Vec::new(),
            members: Vec::new(),
        }
    }

    /// The last revision delivered whole.
    pub fn delivered(&self) -> Revision {
        self.next - 1
    }

    /// The first revision of which a watcher that joins now gets all events.
    pub fn next_for_joiners(&self) -> Revision {
        self.next + i64::from(self.is_inside())
    }

    /// True inside a revision: some watchers may have got it and some not.
    pub fn is_inside(&self) -> bool {
        self.phase != Phase::Reading
    }

    /// True if a sweep serves nobody.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Goes on at `next`, outside a revision.
    pub fn seek(&mut self, next: Revision) {
        assert!(!self.is_inside(), "a revision is delivered whole");
        self.next = next;
        self.cursor.seek(next);
        self.records.clear();
        self.ahead.clear();
    }

    /// Gives up the revision under way and goes on at `next`: the history between is gone.
    pub fn abandon(&mut self, registry: &mut Registry, next: Revision) {
        for entry in self.entries.drain(..) {
            if entry.watcher != NONE {
                registry.watchers[entry.watcher].entry = NONE;
            }
        }
        self.touched.clear();
        self.events.clear();
        self.phase = Phase::Reading;
        self.seek(next);
    }

    /// Delivers revisions at the head, up to the view's.
    pub fn run_head(&mut self, registry: &mut Registry, view: &KvView, work: &mut Work) -> Step<()> {
        while self.next <= view.revision() {
            if work.is_spent() {
                return Step::More;
            }
            if !self.is_inside() && registry.flow_count == 0 {
                self.seek(view.revision() + 1);
                break;
            }
            match self.pass_over(registry, view, work) {
                Access::Ready(true) => continue,
                Access::Ready(false) => {}
                Access::Pending => return Step::Pending,
            }
            match self.step(registry, view, view.revision(), work) {
                Step::Done(()) => self.end_slice(registry, view.revision()),
                stopped => return stopped,
            }
        }
        Step::Done(())
    }

    /// Sweeps on, at most up to the head. A sweep that is empty starts with the first waiting watcher at
    /// or above `zone`. Members that have arrived at the head leave for it, unless it is inside a revision.
    pub fn run_sweep(
        &mut self,
        registry: &mut Registry,
        view: &KvView,
        head: &Flow,
        zone: Revision,
        work: &mut Work,
    ) -> Step<()> {
        loop {
            if work.is_spent() {
                return Step::More;
            }
            if !self.is_inside() {
                if self.members.is_empty() {
                    let Some(&(first, _)) = registry.waiting.range((zone, 0)..).next() else {
                        return Step::Done(());
                    };
                    if first != self.next {
                        self.end_slice(registry, view.revision());
                        self.seek(first);
                    }
                }
                if self.next < view.compact_revision() {
                    self.end_slice(registry, view.revision());
                    self.cancel_one(registry, view.compact_revision());
                    work.charge(1);
                    continue;
                }
                if self.next > head.delivered() {
                    if head.is_inside() {
                        return Step::More;
                    }
                    if !self.take_in(registry, self.next, work) {
                        return Step::More;
                    }
                    self.end_slice(registry, view.revision());
                    self.leave_one(registry, head.next);
                    work.charge(1);
                    continue;
                }
            }
            match self.step(registry, view, head.delivered(), work) {
                Step::Done(()) => {}
                stopped => return stopped,
            }
        }
    }

    /// At the head: delivers the next revision if it has one record, of a key that nobody watches. True if it did. Such
    /// revisions are most where many watch, each its own keys.
    fn pass_over(&mut self, registry: &Registry, view: &KvView, work: &mut Work) -> Access<bool> {
        if self.is_inside() || !self.records.is_empty() {
            return Access::Ready(false);
        }
        let is_end = match self.ahead.len() {
            0 | 1 => match self.read_ahead(registry, view) {
                Access::Ready(is_end) => is_end,
                Access::Pending => return Access::Pending,
            },
            _ => false,
        };
        let Some(record) = self.ahead.front() else { return Access::Ready(false) };
        let revision = record.main();
        let is_alone = self.ahead.get(1).map_or(is_end, |behind| behind.main() != revision);
        if !is_alone {
            return Access::Ready(false);
        }
        self.matched.clear();
        registry.index.collect(record.key(), self.class, &mut self.matched);
        if !self.matched.is_empty() {
            return Access::Ready(false);
        }
        work.charge(1);
        self.ahead.pop_front();
        self.next = revision + 1;
        Access::Ready(true)
    }

    /// Delivers one revision, the next one that there is, at most `last`.
    fn step(&mut self, registry: &mut Registry, view: &KvView, last: Revision, work: &mut Work) -> Step<()> {
        loop {
            match self.phase {
                Phase::Reading => match self.read(registry, view, last, work) {
                    Step::Done(Some(revision)) => {
                        if self.place != Place::Flow && !self.take_in(registry, revision, work) {
                            return Step::More;
                        }
                        self.next = revision;
                        self.phase = Phase::Matching { record: 0 };
                    }
                    Step::Done(None) => {
                        // Nothing is left up to `last`: there is no record of revision 1, and compacted
                        // history has holes. Who starts there goes on behind it.
                        if self.place != Place::Flow && !self.take_in(registry, last, work) {
                            return Step::More;
                        }
                        self.next = last + 1;
                        return Step::Done(());
                    }
                    Step::More => return Step::More,
                    Step::Pending => return Step::Pending,
                },
                Phase::Matching { record } if record == self.records.len() => {
                    self.phase = Phase::Committing { at: 0 };
                }
                Phase::Matching { record } => {
                    if work.is_spent() {
                        return Step::More;
                    }
                    if let Access::Pending = self.match_record(registry, view, record, work) {
                        return Step::Pending;
                    }
                    self.phase = Phase::Matching { record: record + 1 };
                }
                Phase::Committing { at } if at == self.touched.len() => {
                    self.touched.clear();
                    self.records.clear();
                    self.next += 1;
                    self.phase = Phase::Reading;
                    return Step::Done(());
                }
                Phase::Committing { at } => {
                    if work.is_spent() {
                        return Step::More;
                    }
                    work.charge(u32::from(at % 4 == 0));
                    self.commit(registry, self.touched[at], view.revision());
                    self.phase = Phase::Committing { at: at + 1 };
                }
            }
        }
    }

    /// Collects the records of the next revision. `None` if there is none up to `last`.
    fn read(
        &mut self,
        registry: &Registry,
        view: &KvView,
        last: Revision,
        work: &mut Work,
    ) -> Step<Option<Revision>> {
        loop {
            if self.ahead.is_empty() {
                if work.is_spent() {
                    return Step::More;
                }
                if let Access::Pending = self.read_ahead(registry, view) {
                    return Step::Pending;
                }
            }
            let record = self.ahead.pop_front();
            let revision = self.records.first().map(RecordRef::main);
            match record {
                None => return Step::Done(revision),
                Some(record) if revision.unwrap_or(record.main()) != record.main() => {
                    self.ahead.push_front(record);
                    return Step::Done(revision);
                }
                Some(record) if record.main() > last => {
                    self.ahead.push_front(record);
                    return Step::Done(None);
                }
                Some(record) if self.is_dropped(registry, view, &record) => work.charge(1),
                Some(record) => {
                    assert!(record.main() >= self.next, "the log is in order");
                    work.charge(1);
                    self.records.push(record);
                }
            }
        }
    }

    /// Canary M9: who catches up does not see the deletes of the compact revision.
    #[cfg(any(test, feature = "testing"))]
    fn is_dropped(&self, registry: &Registry, view: &KvView, record: &RecordRef) -> bool {
        let at_compaction = record.is_tombstone() && record.main() == view.compact_revision();
        at_compaction && self.place != Place::Flow && registry.is_canary(Canary::Drop)
    }

    #[cfg(not(any(test, feature = "testing")))]
    fn is_dropped(&self, _: &Registry, _: &KvView, _: &RecordRef) -> bool {
        false
    }

    /// Reads some records ahead, none at the end of the log. True if the last one has been read. Pending if there is none
    /// for now.
    fn read_ahead(&mut self, registry: &Registry, view: &KvView) -> Access<bool> {
        let mut is_end = false;
        while self.ahead.len() < READ_AHEAD_RECORDS {
            match view.next_record(&mut self.cursor) {
                Access::Ready(Some(record)) => self.ahead.push_back(record),
                Access::Ready(None) => {
                    is_end = true;
                    break;
                }
                Access::Pending if self.ahead.is_empty() => return Access::Pending,
                Access::Pending => break,
            }
        }
        if self.ahead.len() > 1 && registry.index.intervals() >= FORESEEN_INTERVALS_MIN {
            self.matched.clear();
            registry.index.foresee(self.ahead.iter().map(RecordRef::key), &mut self.matched);
            let revisions = self.matched.iter().map(|&number| registry.watchers[number].next_revision);
            std::hint::black_box(revisions.fold(0, Revision::wrapping_add));
        }
        Access::Ready(is_end)
    }

    /// Extends the lists of the watchers of a record. Changes nothing if it has to wait for a record.
    fn match_record(
        &mut self,
        registry: &mut Registry,
        view: &KvView,
        at: usize,
        work: &mut Work,
    ) -> Access<()> {
        let record = &self.records[at];
        let revision = record.main();
        self.matched.clear();
        registry.index.collect(record.key(), self.class, &mut self.matched);
        work.charge(self.matched.len() as u32 / 8);
        let unwanted = if record.is_tombstone() { Flags::NO_DELETE } else { Flags::NO_PUT };
        let watchers = &mut registry.watchers;
        let mut wants_prev = false;
        self.matched.retain(|&number| {
            let watcher = &watchers[number];
            let wanted = watcher.next_revision <= revision && !watcher.flags.has(unwanted);
            wants_prev |= wanted && watcher.flags.has(Flags::PREV_KV);
            wanted
        });
        if self.matched.is_empty() {
            return Access::Ready(());
        }
        // A create has no previous version; nor is one shown that is compacted, except at the head, where
        // the floor keeps it.
        let is_create = !record.is_tombstone() && record.create() == revision;
        let is_shown = self.place == Place::Flow || revision > view.compact_revision();
        let version =
            if wants_prev && !is_create && is_shown { view.previous(record.key(), revision) } else { None };
        let previous = match version.map(|version| view.record(version.addr)) {
            Some(Access::Ready(previous)) => Some(previous),
            Some(Access::Pending) => return Access::Pending,
            None => None,
        };
        let (mut plain, mut with_prev) = (None, None);
        for &number in &self.matched {
            let watcher = &mut watchers[number];
            let event = match &previous {
                Some(previous) if watcher.flags.has(Flags::PREV_KV) => {
                    *with_prev.get_or_insert_with(|| self.events.encode(record, Some(previous)))
                }
                _ => *plain.get_or_insert_with(|| self.events.encode(record, None)),
            };
            if watcher.entry == NONE {
                watcher.entry = self.entries.len() as u32;
                let entry = Entry { watcher: number, is_touched: false, list: EMPTY, committed: EMPTY };
                self.entries.push(entry);
            }
            let entry = &mut self.entries[watcher.entry as usize];
            if !entry.is_touched {
                entry.is_touched = true;
                self.touched.push(watcher.entry);
            }
            entry.list = self.events.extend(entry.list, event);
        }
        Access::Ready(())
    }

    /// Ends the revision under way for one watcher: it gets its events, or turns behind.
    fn commit(&mut self, registry: &mut Registry, at: u32, view_revision: Revision) {
        let entry = &mut self.entries[at as usize];
        entry.is_touched = false;
        let (number, list, committed) = (entry.watcher, entry.list, entry.committed);
        if number == NONE {
            return;
        }
        let room = registry.room();
        let watcher = &mut registry.watchers[number];
        let Some(stream) = registry.streams.get_mut(watcher.stream.0) else { return };
        let bytes_max = if self.place == Place::Flow { room.of(stream) } else { room.of_sweep(stream) };
        let more = self.events.bytes(list) - self.events.bytes(committed)
            + if committed == EMPTY { MESSAGE_OVERHEAD_BYTES } else { 0 };
        if stream.admits(more, bytes_max) {
            watcher.flags.set(Flags::SENT, true);
            if self.place == Place::Flow {
                self.queue(registry, number, list, self.next);
                return;
            }
            stream.reserve(more);
            registry.queued_bytes += more;
            self.entries[at as usize].committed = list;
            if self.events.revisions(list) >= CATCH_UP_REVISIONS_MAX {
                self.flush(registry, at, view_revision);
            }
            return;
        }
        stream.congest(more, bytes_max);
        if registry.is_canary(Canary::Swallow) {
            self.entries[at as usize].list = committed;
            return;
        }
        self.flush(registry, at, view_revision);
        self.leave(registry, number);
        registry.block(number, self.next);
    }

    /// Queues what a sweep has gathered for a watcher.
    fn flush(&mut self, registry: &mut Registry, at: u32, view_revision: Revision) {
        let entry = &mut self.entries[at as usize];
        let (number, list) = (entry.watcher, entry.committed);
        (entry.list, entry.committed) = (EMPTY, EMPTY);
        if number == NONE || list == EMPTY {
            return;
        }
        self.unreserve(registry, registry.watchers[number].stream, list);
        self.queue(registry, number, list, view_revision);
    }

    fn unreserve(&self, registry: &mut Registry, key: StreamKey, list: List) {
        if let Some(stream) = registry.streams.get_mut(key.0) {
            let bytes = self.events.bytes(list) + MESSAGE_OVERHEAD_BYTES;
            stream.unreserve(bytes);
            registry.queued_bytes -= bytes;
        }
    }

    /// Queues a list for a watcher, as one message or, if the client asked for them, as fragments.
    fn queue(&mut self, registry: &mut Registry, number: u32, list: List, header_revision: Revision) {
        let watcher = &registry.watchers[number];
        let (key, watch_id) = (watcher.stream, watcher.id);
        let bytes_max = registry.config.fragment_bytes.saturating_sub(HEAD_BYTES);
        let is_cut = watcher.flags.has(Flags::FRAGMENT)
            && self.events.bytes(list) >= bytes_max
            && self.events.count(list) >= 2;
        let is_split = registry.is_canary(Canary::Split) && self.events.count(list) >= 2;
        if !is_cut && !is_split {
            let batch = self.events.batch(list, header_revision);
            registry.push(key, Queued::Events { watch_id, batch, fragment: false });
            return;
        }
        let bytes_max = if is_split { 0 } else { bytes_max };
        let batches = self.events.fragments(list, header_revision, bytes_max);
        for (at, batch) in batches.iter().enumerate() {
            let fragment = at + 1 < batches.len() && !is_split;
            registry.push(key, Queued::Events { watch_id, batch: batch.clone(), fragment });
        }
    }

    /// Queues everything gathered, in responses that tell the view's revision, and forgets the slice's
    /// events. Inside a revision it stays for the next slice.
    pub fn end_slice(&mut self, registry: &mut Registry, view_revision: Revision) {
        if self.is_inside() {
            return;
        }
        for at in 0..self.entries.len() {
            let number = self.entries[at].watcher;
            if number == NONE {
                continue;
            }
            self.flush(registry, at as u32, view_revision);
            registry.watchers[number].entry = NONE;
        }
        self.entries.clear();
        self.entries.shrink_to(ENTRIES_KEPT);
        self.matched.shrink_to(ENTRIES_KEPT);
        self.touched.shrink_to(ENTRIES_KEPT);
        self.records.shrink_to(ENTRIES_KEPT);
        self.events.clear();
    }

    /// A watcher of this flow goes: what it had gathered is dropped, and its place among the members.
    pub fn leave(&mut self, registry: &mut Registry, number: u32) {
        let watcher = &mut registry.watchers[number];
        let (key, entry, member) = (watcher.stream, watcher.entry, watcher.member);
        watcher.entry = NONE;
        if entry != NONE {
            let entry = &mut self.entries[entry as usize];
            let committed = std::mem::replace(&mut entry.committed, EMPTY);
            entry.watcher = NONE;
            if committed != EMPTY {
                self.unreserve(registry, key, committed);
                registry.relieve(key);
            }
        }
        if self.place != Place::Flow {
            self.members.swap_remove(member as usize);
            if let Some(&moved) = self.members.get(member as usize) {
                registry.watchers[moved].member = member;
            }
        }
    }

    /// The waiting watchers that start from here up to `last` become members. False if some are left
    /// for the next slice.
    fn take_in(&mut self, registry: &mut Registry, last: Revision, work: &mut Work) -> bool {
        while let Some(&(_, number)) = registry.waiting.range((self.next, 0)..=(last, NONE)).next() {
            if work.is_spent() {
                return false;
            }
            work.charge(1);
            registry.enter(number, self.place, self.members.len() as u32);
            self.members.push(number);
        }
        true
    }

    /// The sweep's position is compacted: one watcher that is there is cancelled. Without any the sweep
    /// ends.
    fn cancel_one(&mut self, registry: &mut Registry, compact_revision: Revision) {
        let number = match self.members.last() {
            Some(&member) => {
                self.leave(registry, member);
                member
            }
            None => match registry.waiting.first() {
                Some(&(next, number)) if next < compact_revision => number,
                _ => return self.seek(compact_revision),
            },
        };
        registry.cancel_compacted(number, compact_revision);
    }

    /// The sweep has arrived at the head: one member joins it.
    fn leave_one(&mut self, registry: &mut Registry, next: Revision) {
        if let Some(&number) = self.members.last() {
            self.leave(registry, number);
            registry.join(number, next);
        }
    }
}

/// What a message has beside its events, for the question whether it is to be cut: about as etcd counts.
const HEAD_BYTES: usize = 40;
/// Records read at once, so that their lookups wait for memory together.
const READ_AHEAD_RECORDS: usize = 16;
/// Intervals below which all of the index is in the cache anyway.
const FORESEEN_INTERVALS_MIN: usize = 4_096;
/// Scratch slots that survive a slice; more are given back.
const ENTRIES_KEPT: usize = 16 * 1024;
