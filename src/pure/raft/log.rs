//! The part of the log that is in memory, and how far each thing that happens to it has come.

use std::collections::VecDeque;

use super::types::Entry;
use crate::pure::types::{LogIndex, Term};

/// Entries that are still needed, and the positions in them:
///
/// ```text
/// before <= applied <= applying <= min(committed, persisted)
/// persisted <= handed <= last        committed <= last
/// ```
///
/// `committed <= persisted` is not assumed: others may commit what this disk does not have yet.
#[derive(Debug)]
pub(super) struct Log {
    /// The entry before the first one in memory.
    before: (Term, LogIndex),
    entries: VecDeque<Entry>,
    /// Given to the disk; known to be on it.
    handed: LogIndex,
    persisted: LogIndex,
    committed: LogIndex,
    /// Given to apply; known to be applied.
    applying: LogIndex,
    applied: LogIndex,
}

impl Log {
    /// A log whose entries are all on disk and of which nothing behind `applied` was handed out.
    pub(super) fn new(
        before: (Term, LogIndex),
        entries: Vec<Entry>,
        committed: LogIndex,
        applied: LogIndex,
    ) -> Log {
        let mut log = Log {
            before,
            entries: VecDeque::new(),
            handed: before.1,
            persisted: before.1,
            committed,
            applying: applied,
            applied,
        };
        entries.into_iter().for_each(|entry| log.append(entry));
        log.handed = log.last().1;
        log.persisted = log.last().1;
        log.check_invariants();
        log
    }

    pub(super) fn last(&self) -> (Term, LogIndex) {
        self.entries.back().map_or(self.before, |entry| (entry.term, entry.index))
    }

    pub(super) fn committed(&self) -> LogIndex {
        self.committed
    }

    pub(super) fn persisted(&self) -> LogIndex {
        self.persisted
    }

    pub(super) fn handed(&self) -> LogIndex {
        self.handed
    }

    pub(super) fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Term of an entry in memory or of the one before; `None` if it is neither.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.before.1 {
            return Some(self.before.0);
        }
        let nth = index.0.checked_sub(self.before.1.0 + 1)?;
        self.entries.get(usize::try_from(nth).ok()?).map(|entry| entry.term)
    }

    /// Appends the entry after the last.
    pub(super) fn append(&mut self, entry: Entry) {
        let (term, index) = self.last();
        assert_eq!(entry.index, index.next(), "the log has no gaps");
        assert!(term <= entry.term, "terms ascend along the log");
        self.entries.push_back(entry);
    }

    /// Entries that the disk was not given yet.
    pub(super) fn hand_out(&mut self) -> Vec<Entry> {
        let entries = self.range(self.handed, self.last().1);
        self.handed = self.last().1;
        entries
    }

    /// True if [`Log::hand_out`] would give something.
    pub(super) fn has_new(&self) -> bool {
        self.handed < self.last().1
    }

    /// Entries that may be applied now: committed by a quorum and on this member's own disk (H4).
    pub(super) fn apply_next(&mut self) -> Vec<Entry> {
        let to = self.committed.min(self.persisted);
        let entries = self.range(self.applying, to);
        self.applying = self.applying.max(to);
        entries
    }

    /// True if [`Log::apply_next`] would give something.
    pub(super) fn has_applicable(&self) -> bool {
        self.applying < self.committed.min(self.persisted)
    }

    /// Committed entries that were not applied yet.
    pub(super) fn unapplied(&self) -> impl Iterator<Item = &Entry> {
        let (applied, committed) = (self.applied, self.committed);
        self.entries.iter().filter(move |entry| applied < entry.index && entry.index <= committed)
    }

    /// Sum of the payloads in `(after, to]`, all of them in memory.
    pub(super) fn payload_bytes(&self, after: LogIndex, to: LogIndex) -> usize {
        let skip = usize::try_from(after.0 - self.before.1.0).expect("counts of entries in memory fit");
        let take = usize::try_from(to.0.saturating_sub(after.0)).expect("counts of entries in memory fit");
        self.entries.iter().skip(skip).take(take).map(|entry| entry.payload.len()).sum()
    }

    pub(super) fn persist_to(&mut self, index: LogIndex) {
        assert!(self.persisted <= index && index <= self.handed, "the disk has what it was given, in order");
        self.persisted = index;
    }

    pub(super) fn commit_to(&mut self, index: LogIndex) {
        assert!(self.committed <= index && index <= self.last().1, "commit only moves forward, in the log");
        self.committed = index;
    }

    /// Entries up to `index` took effect; they leave memory.
    pub(super) fn applied_to(&mut self, index: LogIndex) {
        assert!(
            self.applied <= index && index <= self.applying,
            "applied is what was given to apply, in order"
        );
        self.applied = index;
        while let Some(entry) = self.entries.front()
            && entry.index <= index
        {
            self.before = (entry.term, entry.index);
            self.entries.pop_front();
        }
    }

    pub(super) fn check_invariants(&self) {
        let last = self.last().1;
        assert!(self.before.1 <= self.applied, "nothing unapplied leaves memory");
        assert!(self.applied <= self.applying, "applied was given to apply");
        assert!(self.applying <= self.committed.max(self.applied), "only committed entries are applied");
        assert!(self.applying <= self.persisted, "only durable entries are applied");
        assert!(self.persisted <= self.handed && self.handed <= last, "the disk has what it was given");
        assert!(self.committed <= last, "what is committed is in the log");
    }

    /// Entries in `(after, to]`.
    fn range(&self, after: LogIndex, to: LogIndex) -> Vec<Entry> {
        if to <= after {
            return Vec::new();
        }
        assert!(self.before.1 <= after, "the range is in memory");
        let first = usize::try_from(after.0 - self.before.1.0).expect("counts of entries in memory fit");
        let end = usize::try_from(to.0 - self.before.1.0).expect("counts of entries in memory fit");
        self.entries.range(first..end).cloned().collect()
    }
}
