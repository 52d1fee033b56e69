//! The writer of the key space and its private index.
//!
//! Owns: the tree's newest root, the hash of keys, the open transaction, the log, the holds.
//! Takes: puts, deletes, compactions. Gives: views.
//! Always true: hash and tree hold the same entries; a tree entry is live exactly if its newest
//! version is no tombstone.
//! Not here: reading (`view`, `range`), reclaiming (`clean`).

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::limits;
use crate::pure::types::{LeaseId, Revision};
use crate::stdx::cow::{Map, Weigh};

use super::clean::Cleaner;
use super::holds::Holds;
use super::records::{Change, RecordRef};
use super::segments::Log;
use super::versions::{EntryRef, Garbage, TreeKey};
use super::view::KvView;
use super::{Access, Addr, Bytes, Version};

/// Whether a key's newest version is no tombstone; the tree's nodes count the live ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live(pub bool);

impl Weigh for Live {
    fn weight(&self) -> u64 {
        u64::from(self.0)
    }
}

/// Entries by key.
pub(super) type Tree = Map<TreeKey, Live>;

/// Key to entry, for the writer alone. Its order reaches nothing. Many small tables, so that none
/// takes long to grow; the hash is kept so that growing looks at no entry.
pub(super) struct Keys {
    state: FixedState,
    tables: Vec<HashTable<(u64, EntryRef)>>,
}

const TABLES: usize = 256;

impl Keys {
    fn new(seed: u64) -> Keys {
        let tables = (0..TABLES).map(|_| HashTable::new()).collect();
        Keys { state: FixedState::with_seed(seed), tables }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    /// The table of a hash, by bits that the table itself does not use.
    fn index(hash: u64) -> usize {
        (hash >> 40) as usize % TABLES
    }

    pub fn find(&self, key: &[u8]) -> Option<EntryRef> {
        self.find_hashed(self.hash(key), key)
    }

    fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<EntryRef> {
        let same = |(h, e): &(u64, EntryRef)| *h == hash && e.entry().key() == key;
        self.tables[Keys::index(hash)].find(hash, same).map(|(_, entry)| *entry)
    }

    /// The entry that a hash probably leads to: no key is compared.
    fn guess(&self, hash: u64) -> Option<EntryRef> {
        self.tables[Keys::index(hash)].find(hash, |(h, _)| *h == hash).map(|(_, entry)| *entry)
    }

    fn insert(&mut self, hash: u64, entry: EntryRef) {
        self.tables[Keys::index(hash)].insert_unique(hash, (hash, entry), |(h, _)| *h);
    }

    fn remove(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        let same = |(h, e): &(u64, EntryRef)| *h == hash && e.entry().key() == key;
        let found = self.tables[Keys::index(hash)].find_entry(hash, same);
        found.unwrap_or_else(|_| unreachable!("an entry is in the hash until it is removed")).remove();
    }
}

/// The key space's writer, owned by the sequencer.
pub struct Store {
    pub(super) revision: Revision,
    pub(super) compact_revision: Revision,
    /// Changes of the open transaction.
    changes: i64,
    pub(super) keys: Keys,
    pub(super) tree: Tree,
    pub(super) log: Log,
    pub(super) holds: Holds,
    pub(super) cleaner: Cleaner,
    /// Memory of `foresee`, empty between calls.
    foreseen: Vec<EntryRef>,
}

/// Keys below which the index is in the cache anyway.
const FORESEEN_KEYS_MIN: usize = 16 * 1024;

impl Store {
    /// An empty key space at revision 1, never compacted (-1). `hash_seed` keys the private hash map
    /// (never visible outside).
    pub fn new(hash_seed: u64) -> Store {
        Store::with_segments(hash_seed, limits::mvcc::SEGMENT_BYTES)
    }

    /// A store whose segments have the given size.
    pub(super) fn with_segments(hash_seed: u64, segment_bytes: usize) -> Store {
        Store {
            revision: 1,
            compact_revision: -1,
            changes: 0,
            keys: Keys::new(hash_seed),
            tree: Tree::default(),
            log: Log::new(segment_bytes),
            holds: Holds::new(),
            cleaner: Cleaner::default(),
            foreseen: Vec::new(),
        }
    }

    /// Lets records lie in segments of another size, before the first one.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_segment_bytes(&mut self, bytes: usize) {
        self.log.segment_bytes = bytes;
    }

    /// Canary M25: once something was compacted, the revision is that of the newest key that lives.
    #[cfg(any(test, feature = "testing"))]
    pub fn forget_revision(&mut self) {
        let entries = self.keys.tables.iter().flat_map(|table| table.iter());
        let newest = entries.map(|(_, entry)| entry.entry().newest()).filter(Version::is_live);
        let newest = newest.map(|version| version.main).max().unwrap_or(1);
        if self.compact_revision > 0 {
            self.revision = newest.max(self.compact_revision);
        }
    }

    /// Current revision: of the last ended transaction.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Compact revision, -1 if never compacted.
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// Newest version of a live key, changes of the open transaction included; `None` if absent or deleted.
    pub fn live(&self, key: &[u8]) -> Option<Version> {
        self.keys.find(key).map(|entry| entry.entry().newest()).filter(Version::is_live)
    }

    /// The record at an address that came from this store since the last `clean`.
    pub fn record(&self, addr: Addr) -> Access<RecordRef> {
        Access::Ready(self.log.record(addr))
    }

    /// Looks at the keys that are changed next. A change waits for memory several times, each time for one line;
    /// looked at together, the processor waits for many at once. Changes nothing.
    pub fn foresee<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        if self.tree.len() < FORESEEN_KEYS_MIN {
            return;
        }
        let mut foreseen = std::mem::take(&mut self.foreseen);
        foreseen.extend(keys.filter_map(|key| self.keys.guess(self.keys.hash(key))));
        let lengths = foreseen.iter().map(|entry| entry.entry().key().len());
        std::hint::black_box(lengths.fold(0, usize::wrapping_add));
        let mains = foreseen.iter().map(|entry| entry.entry().newest().main);
        std::hint::black_box(mains.fold(0, Revision::wrapping_add));
        foreseen.clear();
        self.foreseen = foreseen;
    }

    /// Writes a version in the open transaction (opened by the first change at `revision() + 1`);
    /// returns the version that it replaces.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Option<Version> {
        let main = self.revision + 1;
        let hash = self.keys.hash(key);
        let found = self.keys.find_hashed(hash, key);
        let newest = found.map(|entry| entry.entry().newest());
        let replaced = newest.filter(Version::is_live);
        let (create, version) = replaced.map_or((main, 1), |r| (r.create, r.version + 1));
        let version = self.write(key, value, Version { main, create, version, lease, addr: Addr(0) });
        match (found, newest) {
            (Some(entry), Some(newest)) => {
                add_version(entry, newest, version);
                if replaced.is_none() {
                    // Dead subtrees are counted out: a re-create changes counts, though no entry appears.
                    self.tree.insert(TreeKey::new(entry), Live(true));
                }
            }
            (_, _) => {
                let entry = EntryRef::alloc(key, version);
                self.keys.insert(hash, entry);
                self.tree.insert(TreeKey::new(entry), Live(true));
            }
        }
        replaced
    }

    /// Writes a tombstone; returns the version deleted, `None` (and no change) if the key isn't live.
    pub fn delete(&mut self, key: &[u8]) -> Option<Version> {
        let entry = self.keys.find(key)?;
        let deleted = Some(entry.entry().newest()).filter(Version::is_live)?;
        let main = self.revision + 1;
        let version = self.write(key, &[], Version { main, create: 0, version: 0, lease: 0, addr: Addr(0) });
        add_version(entry, deleted, version);
        self.tree.insert(TreeKey::new(entry), Live(false));
        Some(deleted)
    }

    /// Appends the record of a change; returns the version with its address.
    fn write(&mut self, key: &[u8], value: &[u8], version: Version) -> Version {
        let addr = self.log.append(Change { sub: self.changes, version, key, value });
        self.changes += 1;
        Version { addr, ..version }
    }

    /// Number of changes in the open transaction (the next sub-revision).
    pub fn changes(&self) -> i64 {
        self.changes
    }

    /// Revision that a read inside the open transaction reports: `revision()`, +1 once it has changes.
    pub fn working_revision(&self) -> Revision {
        self.revision + i64::from(self.changes > 0)
    }

    /// Ends the transaction: its changes become the current revision. Returns `revision()`.
    pub fn end_txn(&mut self) -> Revision {
        self.revision = self.working_revision();
        self.changes = 0;
        self.revision
    }

    /// The state now, changes of the open transaction included. O(1). A view taken inside a transaction
    /// is for that transaction's own reads: its later changes of the same keys may show through.
    pub fn view(&mut self) -> KvView {
        KvView {
            revision: self.working_revision(),
            compact_revision: self.compact_revision,
            tree: self.tree.clone(),
            table: self.log.table.clone(),
            end: self.log.end,
            directory: std::sync::Arc::clone(&self.log.directory),
            _hold: self.holds.hold(),
        }
    }

    /// Moves the compact revision; the caller has checked `compact_revision() < revision <= revision()`
    /// (0 is allowed once on a never-compacted store).
    pub fn compact(&mut self, revision: Revision) {
        assert!(self.compact_revision < revision, "the caller refuses what is already compacted");
        assert!(revision <= self.revision, "the caller refuses future revisions");
        self.compact_revision = revision;
    }

    /// Bytes of retained records and bytes of all segments.
    pub fn bytes(&self) -> Bytes {
        self.log.bytes()
    }

    /// Things that were cut off and that no view can reach any more; dropping them frees them. (A
    /// reader that borrows a view without a count, by epochs, is covered by whoever holds that view.)
    pub fn take_retired(&mut self) -> Vec<Retired> {
        self.holds.take_unreachable().into_iter().map(|garbage| Retired { _garbage: garbage }).collect()
    }

    /// Takes an entry out of tree and hash.
    pub(super) fn remove_entry(&mut self, entry: EntryRef) {
        let removed = self.tree.remove(&TreeKey::new(entry));
        assert_eq!(removed, Some(Live(false)), "only dead entries are removed");
        self.keys.remove(entry.entry().key());
        self.holds.discard(Garbage::Entry { entry });
    }
}

/// Adds a version to an entry: a slot, or the slot that the open transaction has already filled.
fn add_version(entry: EntryRef, newest: Version, version: Version) {
    if newest.main == version.main {
        let former = entry.entry().replace_newest(version);
        assert_eq!(former, newest);
    } else {
        entry.entry().append(version);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let entries = self.keys.tables.iter_mut().flat_map(|table| table.drain());
        let garbage = entries.map(|(_, entry)| Garbage::Entry { entry }).collect();
        self.holds.leave(garbage, self.cleaner.take_detached());
    }
}

/// Memory that was cut off; freed by dropping it.
pub struct Retired {
    _garbage: Garbage,
}
