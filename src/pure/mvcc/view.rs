//! One instant of the key space, for readers on any thread.
//!
//! Owns: a root, a segment table, a hold. Takes: keys, revisions, cursors. Gives: versions, records.
//! Always true: it shows only what its revision shows, whatever the writer does meanwhile.
//! Not here: ranges (`range`), hashes (`hash`).

use std::sync::Arc;

use crate::pure::types::Revision;
use crate::stdx::append::{AppendBuf, Directory};

use super::holds::Hold;
use super::records::RecordRef;
use super::segments::{self, LogCursor, Position, Table};
use super::store::Tree;
use super::versions::{Entry, Front};
use super::{Access, Addr, Version};

/// One instant of the key space. Never changes; `Send + Sync`, cheap to clone. While it is held, what
/// was cut off since it was taken stays in memory: hold one for a turn, not for a long walk (walks go
/// on with a newer view).
#[derive(Clone)]
pub struct KvView {
    pub(super) revision: Revision,
    pub(super) compact_revision: Revision,
    pub(super) tree: Tree,
    pub(super) table: Table,
    /// Position of the last record.
    pub(super) end: Position,
    pub(super) directory: Arc<Directory<AppendBuf>>,
    pub(super) _hold: Arc<Hold>,
}

impl KvView {
    /// Revision of this instant.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Compact revision of this instant, -1 if never.
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let front = Front::new(key);
        self.tree.find(|k| k.compare(&front, key)).map(|(found, _)| found.entry.entry())
    }

    /// The version of `key` that a read at `revision` (in `compact..=self.revision()`) sees, `None` if absent.
    pub fn get(&self, key: &[u8], revision: Revision) -> Option<Version> {
        assert!(revision <= self.revision, "the caller refuses future revisions");
        self.entry(key)?.at(revision).filter(Version::is_live)
    }

    /// The record at an address that came from this view, or from another while this one was held.
    pub fn record(&self, addr: Addr) -> Access<RecordRef> {
        Access::Ready(segments::record_at(&self.directory, addr))
    }

    /// The first record with `(main, sub) > after` and `main <= self.revision()`, in revision order.
    /// Positions are revisions, not addresses, so that cleaning may go on underneath;
    /// `LogCursor` remembers where it was, so that the next call is O(1).
    pub fn next_record(&self, cursor: &mut LogCursor) -> Access<Option<RecordRef>> {
        Access::Ready(self.next_until(cursor, self.revision))
    }

    /// Like `next_record` up to a revision.
    pub(super) fn next_until(&self, cursor: &mut LogCursor, revision: Revision) -> Option<RecordRef> {
        cursor.next(&self.table, self.end, revision).map(|(_, record)| record)
    }

    /// The version before `main` of `key` (newest with smaller main); `None` if absent or deleted then,
    /// or compacted away.
    pub fn previous(&self, key: &[u8], main: Revision) -> Option<Version> {
        self.get(key, (main - 1).min(self.revision))
    }

    /// Number of live keys.
    pub fn live_keys(&self) -> u64 {
        self.tree.totals().weight
    }
}
