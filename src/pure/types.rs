//! The numbers of the field, each with its own name.

/// A main revision of the key space: 1 when empty, +1 per changing request. 0 and negative values
/// only occur in requests, where they mean "current".
pub type Revision = i64;

/// A lease's id; 0 means "no lease".
pub type LeaseId = i64;

/// Position of an entry in the Raft log; the first entry has 1, 0 means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

/// A Raft term; 0 before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> LogIndex {
        LogIndex(self.0.checked_add(1).expect("the log ends before 2^64"))
    }
}
