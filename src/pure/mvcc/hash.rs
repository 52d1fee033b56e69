//! HashKV: the hash of history that members compare (`formats/ids-and-hashes.md`).
//!
//! Owns: a hash's place in the log. Takes: views, work. Gives: the very number that etcd computes.
//! Always true: what is hashed depends on the revision and the logical compact revision at the start
//! alone, not on how far cleaning has come.
//! Not here: cached hashes of compactions; that the compact revision is kept as a floor meanwhile.

use crate::pure::types::Revision;
use crate::stdx::work::{Step, Work};

use super::Version;
use super::records::RecordRef;
use super::segments::LogCursor;
use super::versions::TreeKey;
use super::view::KvView;

/// HashKV being computed, a slice at a time. Its compact revision has to stay a floor of cleaning
/// while it runs.
pub struct HashWalk {
    revision: Revision,
    compact_revision: Revision,
    crc: u32,
    stage: Stage,
}

enum Stage {
    /// Is there a live key at `revision`? Keys up to here were not.
    Search { visited: Option<Vec<u8>> },
    /// Hashing.
    Hash { cursor: LogCursor, keep_is_empty: bool },
}

impl HashWalk {
    /// Hash of the history up to `revision` (in `compact..=revision` of the view), logical compact revision of `view`.
    pub fn new(view: &KvView, revision: Revision) -> HashWalk {
        assert!(revision <= view.revision(), "the caller refuses future revisions");
        HashWalk {
            revision,
            compact_revision: view.compact_revision(),
            crc: crc32c::crc32c(b"key"),
            stage: Stage::Search { visited: None },
        }
    }

    /// The revision hashed.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The compact revision that the hash rests on.
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// Walks a slice; the hash at the end (`formats/ids-and-hashes.md`, HashKV).
    pub fn step(&mut self, view: &KvView, work: &mut Work) -> Step<u32> {
        assert!(self.revision <= view.revision(), "a walk goes on with newer views only");
        if let Stage::Search { visited } = &mut self.stage {
            let Some(keep_is_empty) = search(view, self.revision, visited, work) else { return Step::More };
            self.stage = Stage::Hash { cursor: LogCursor::default(), keep_is_empty };
        }
        let Stage::Hash { cursor, keep_is_empty } = &mut self.stage else {
            unreachable!("the search is over")
        };
        let keep_is_empty = *keep_is_empty;
        loop {
            if work.is_spent() {
                return Step::More;
            }
            let Some(record) = view.next_until(cursor, self.revision) else { return Step::Done(self.crc) };
            work.charge(1 + (record.kv_bytes().len() / 1024) as u32);
            let kept_at = if keep_is_empty { self.compact_revision } else { self.revision };
            if is_selected(view, &record, self.compact_revision, kept_at) {
                self.crc = append(self.crc, &record);
            }
        }
    }
}

/// Is no key live at `revision`? `None` if the slice ended before it was known.
fn search(view: &KvView, revision: Revision, visited: &mut Option<Vec<u8>>, work: &mut Work) -> Option<bool> {
    if revision == view.revision() {
        return Some(view.live_keys() == 0);
    }
    let seen = |k: &TreeKey| visited.as_ref().is_some_and(|last| k.bytes() <= &last[..]);
    let mut last = None;
    for (key, _) in view.tree.iter_from(seen) {
        if work.is_spent()
            && let Some(last) = last
        {
            *visited = Some(last);
            return None;
        }
        work.charge(1);
        if key.entry.entry().at(revision).is_some_and(|v| v.is_live()) {
            return Some(false);
        }
        last = Some(key.bytes().to_vec());
    }
    Some(true)
}

/// etcd's rules. Records up to the compact revision count only if the key's newest version at
/// `kept_at` is this very one. That is the revision hashed; but where nothing is live at it, etcd has no
/// set to go by and hashes what a finished compaction has left on disk: the newest at the compact
/// revision.
fn is_selected(view: &KvView, record: &RecordRef, compact_revision: Revision, kept_at: Revision) -> bool {
    if record.main() > compact_revision {
        return true;
    }
    // No tombstone is ever kept: one at exactly the compact revision is on disk in some releases, and
    // none hashes it.
    view.get(record.key(), kept_at).is_some_and(|version| is_that(view, &version, record))
}

/// One main may change a key twice; the version is the later change.
fn is_that(view: &KvView, version: &Version, record: &RecordRef) -> bool {
    version.main == record.main()
        && match view.record(version.addr) {
            super::Access::Ready(kept) => kept.sub() == record.sub(),
            super::Access::Pending => unreachable!("all records are in memory"),
        }
}

/// Revision key and stored value, as they lie in etcd's `key` bucket.
fn append(crc: u32, record: &RecordRef) -> u32 {
    let mut key = [b'_'; 18];
    key[..8].copy_from_slice(&record.main().to_be_bytes());
    key[9..17].copy_from_slice(&record.sub().to_be_bytes());
    key[17] = b't';
    let key = if record.is_tombstone() { &key[..] } else { &key[..17] };
    crc32c::crc32c_append(crc32c::crc32c_append(crc, key), record.stored_value())
}
