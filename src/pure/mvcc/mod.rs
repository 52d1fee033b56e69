//! The key space: every version of every key, in revision order and in key order.
//!
//! Owns: the tree of keys, the version lists, the records in memory.
//! Takes: puts, deletes, compactions (from `apply` only); reads through views.
//! Gives: versions, records, ranges, history.
//! Always true: `compact_revision <= revision`; revision only grows; a view never changes.
//! Not here: leases' deadlines, who asked, what is durable.

use std::sync::Arc;

use crate::pure::types::{LeaseId, Revision};
use crate::stdx::work::{Step, Work};

/// Where a record lies: segment number (high 32 bits) and byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub u64);

/// One version of a key as the version list holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Main revision of the change.
    pub main: Revision,
    /// Create revision; 0 for a tombstone.
    pub create: Revision,
    /// Version counter, 1 on create; 0 for a tombstone.
    pub version: i64,
    /// Attached lease or 0.
    pub lease: LeaseId,
    /// Where the stored `KeyValue` message is.
    pub addr: Addr,
}

/// Access to a record that may have to be read first.
#[derive(Debug)]
#[must_use]
pub enum Access<T> {
    /// In memory.
    Ready(T),
    /// Being read; ask again after the next completion. (Never happens while all records live in memory.)
    Pending,
}

/// A record, kept alive by its segment: the very `KeyValue` message that goes on the wire.
/// Cheap to clone (one reference count); may be sent to any thread.
#[derive(Clone)]
pub struct RecordRef {
    // segment: Arc<Segment>, offset, length
}

impl RecordRef {
    /// The encoded `mvccpb.KeyValue` (a tombstone's holds key and, as events show it, mod_revision).
    pub fn kv_bytes(&self) -> &[u8] {
        unimplemented!()
    }
    /// Main revision.
    pub fn main(&self) -> Revision {
        unimplemented!()
    }
    /// Sub-revision: ordinal of the change in its transaction.
    pub fn sub(&self) -> i64 {
        unimplemented!()
    }
    /// True if the record is a delete.
    pub fn is_tombstone(&self) -> bool {
        unimplemented!()
    }
    /// The key.
    pub fn key(&self) -> &[u8] {
        unimplemented!()
    }
    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        unimplemented!()
    }
    /// Create revision; 0 for a tombstone. Equal to `main()` for a create.
    pub fn create(&self) -> Revision {
        unimplemented!()
    }
    /// Version counter; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        unimplemented!()
    }
    /// Attached lease.
    pub fn lease(&self) -> LeaseId {
        unimplemented!()
    }
}

/// The key space's writer, owned by the sequencer.
pub struct Store {}

impl Store {
    /// An empty key space at revision 1, never compacted (-1). `hash_seed` keys the private hash map
    /// (never visible outside).
    pub fn new(hash_seed: u64) -> Store {
        unimplemented!()
    }
    /// Current revision: of the last ended transaction.
    pub fn revision(&self) -> Revision {
        unimplemented!()
    }
    /// Compact revision, -1 if never compacted.
    pub fn compact_revision(&self) -> Revision {
        unimplemented!()
    }
    /// Newest version of a live key, changes of the open transaction included; `None` if absent or deleted.
    pub fn live(&self, key: &[u8]) -> Option<Version> {
        unimplemented!()
    }
    /// Like `live` but the state before the open transaction's changes.
    pub fn record(&self, addr: Addr) -> Access<RecordRef> {
        unimplemented!()
    }
    /// Writes a version in the open transaction (opened by the first change at `revision() + 1`);
    /// returns the version that it replaces.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Option<Version> {
        unimplemented!()
    }
    /// Writes a tombstone; returns the version deleted, `None` (and no change) if the key isn't live.
    pub fn delete(&mut self, key: &[u8]) -> Option<Version> {
        unimplemented!()
    }
    /// Number of changes in the open transaction (the next sub-revision).
    pub fn changes(&self) -> i64 {
        unimplemented!()
    }
    /// Revision that a read inside the open transaction reports: `revision()`, +1 once it has changes.
    pub fn working_revision(&self) -> Revision {
        unimplemented!()
    }
    /// Ends the transaction: its changes become the current revision. Returns `revision()`.
    pub fn end_txn(&mut self) -> Revision {
        unimplemented!()
    }
    /// The state now, changes of the open transaction included. O(1).
    pub fn view(&mut self) -> KvView {
        unimplemented!()
    }
    /// Moves the compact revision; the caller has checked `compact_revision() < revision <= revision()`
    /// (0 is allowed once on a never-compacted store).
    pub fn compact(&mut self, revision: Revision) {
        unimplemented!()
    }
    /// Reclaims a slice of what compaction left, nothing needed by a read at or above `floor`
    /// (spec A clean, spec B rewrite of sparse segments). `forced` rewrites any segment with a dead byte.
    pub fn clean(&mut self, floor: Revision, forced: bool, work: &mut Work) -> Step<()> {
        unimplemented!()
    }
    /// Bytes of retained records and bytes of all segments.
    pub fn bytes(&self) -> Bytes {
        unimplemented!()
    }
    /// Things cut off since the last call. The caller drops them when every reader has left the
    /// epoch in which they were cut.
    pub fn take_retired(&mut self) -> Vec<Retired> {
        unimplemented!()
    }
}

/// Sizes of the records in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Records that are still reachable or newer than the compact revision.
    pub retained: u64,
    /// All segments.
    pub total: u64,
}

/// Memory that readers may still look at; freed by dropping it.
pub struct Retired {}

/// One instant of the key space. Never changes; `Send + Sync`, cheap to clone.
#[derive(Clone)]
pub struct KvView {}

impl KvView {
    /// Revision of this instant.
    pub fn revision(&self) -> Revision {
        unimplemented!()
    }
    /// Compact revision of this instant, -1 if never.
    pub fn compact_revision(&self) -> Revision {
        unimplemented!()
    }
    /// The version of `key` that a read at `revision` (in `compact..=self.revision()`) sees, `None` if absent.
    pub fn get(&self, key: &[u8], revision: Revision) -> Option<Version> {
        unimplemented!()
    }
    /// The record at an address that came from this view or an older one not yet cleaned.
    pub fn record(&self, addr: Addr) -> Access<RecordRef> {
        unimplemented!()
    }
    /// The first record with `(main, sub) > after` and `main <= self.revision()`, in revision order.
    /// Positions are revisions, not addresses, so that cleaning may go on underneath;
    /// `LogCursor` remembers where it was, so that the next call is O(1).
    pub fn next_record(&self, cursor: &mut LogCursor) -> Access<Option<RecordRef>> {
        unimplemented!()
    }
    /// The version before `main` of `key` (newest with smaller main); `None` if absent or deleted then,
    /// or compacted away.
    pub fn previous(&self, key: &[u8], main: Revision) -> Option<Version> {
        unimplemented!()
    }
    /// Number of live keys.
    pub fn live_keys(&self) -> u64 {
        unimplemented!()
    }
}

/// A position in the log of revisions.
#[derive(Clone, Debug, Default)]
pub struct LogCursor {}

impl LogCursor {
    /// A cursor whose next record is the first with `main >= revision`.
    pub fn at(revision: Revision) -> LogCursor {
        unimplemented!()
    }
}

/// An interval of keys, in etcd's reading of key and range_end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// Just this key.
    Point(bytes::Bytes),
    /// `start..`, to the last key.
    From(bytes::Bytes),
    /// `start..end`; empty if end <= start.
    Between(bytes::Bytes, bytes::Bytes),
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are etcd's own")]
pub enum SortTarget {
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// In which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are etcd's own")]
pub enum SortOrder {
    None,
    Ascend,
    Descend,
}

/// A range as etcd evaluates it (`api/behaviours.md` section 2), all quirks included.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of RangeRequest")]
pub struct RangeQuery {
    pub keys: KeyRange,
    /// Resolved: in `compact..=revision` of the view.
    pub revision: Revision,
    /// 0 or less: none.
    pub limit: i64,
    pub count_only: bool,
    pub keys_only: bool,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

/// The answer to a range.
pub struct RangeResult {
    /// The records to send, in order.
    pub records: Vec<RecordRef>,
    /// Keys in the interval, whatever limit and filters say.
    pub count: i64,
    /// True if the limit cut something off.
    pub more: bool,
}

/// A range being walked, a slice at a time. May be continued on a newer view of the same store
/// (it keeps its revision), never on an older one.
pub struct RangeWalk {}

impl RangeWalk {
    /// Starts a walk.
    pub fn new(query: RangeQuery) -> RangeWalk {
        unimplemented!()
    }
    /// Walks a slice.
    pub fn step(&mut self, view: &KvView, work: &mut Work) -> Step<RangeResult> {
        unimplemented!()
    }
    /// The revision that it reads, to be kept as a floor while it runs.
    pub fn revision(&self) -> Revision {
        unimplemented!()
    }
}

/// HashKV being computed, a slice at a time.
pub struct HashWalk {}

impl HashWalk {
    /// Hash of the history up to `revision` (in `compact..=revision` of the view), logical compact revision of `view`.
    pub fn new(view: &KvView, revision: Revision) -> HashWalk {
        unimplemented!()
    }
    /// Walks a slice; the hash at the end (`formats/ids-and-hashes.md`, HashKV).
    pub fn step(&mut self, view: &KvView, work: &mut Work) -> Step<u32> {
        unimplemented!()
    }
}

/// Keeps the unused import of the skeleton honest until the insides arrive.
#[doc(hidden)]
pub type SharedBytes = Arc<[u8]>;
