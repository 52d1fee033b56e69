//! The key space: every version of every key, in revision order and in key order.
//!
//! Owns: the tree of keys, the version lists, the records in memory.
//! Takes: puts, deletes, compactions (from `apply` only); reads through views.
//! Gives: versions, records, ranges, history.
//! Always true: `compact_revision <= revision`; revision only grows; a view never changes.
//! Not here: leases' deadlines, who asked, what is durable.

use crate::pure::types::{LeaseId, Revision};

mod clean;
mod hash;
mod holds;
mod range;
mod records;
mod segments;
mod store;
#[cfg(all(test, not(etchd_loom)))]
mod tests;
mod versions;
mod view;

#[cfg(all(test, etchd_loom))]
mod loom {
    mod tests;
}

pub use hash::HashWalk;
pub use range::RangeWalk;
pub use records::RecordRef;
pub use segments::LogCursor;
pub use store::{Retired, Store};
pub use view::KvView;

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

impl Version {
    /// False for a tombstone.
    pub fn is_live(&self) -> bool {
        self.create != 0
    }
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

/// Sizes of the records in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Records that are still reachable or newer than the compact revision.
    pub retained: u64,
    /// All segments.
    pub total: u64,
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

impl RangeQuery {
    /// All keys of an interval in key order, nothing else asked.
    pub fn plain(keys: KeyRange, revision: Revision) -> RangeQuery {
        RangeQuery {
            keys,
            revision,
            limit: 0,
            count_only: false,
            keys_only: false,
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }
}

/// The answer to a range.
#[derive(Debug)]
pub struct RangeResult {
    /// The records to send, in order.
    pub records: Vec<RecordRef>,
    /// Keys in the interval, whatever limit and filters say.
    pub count: i64,
    /// True if the limit cut something off.
    pub more: bool,
}
