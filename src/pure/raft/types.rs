//! What Raft orders and what of it must be on disk, as the log stores it.

use bytes::Bytes;

use crate::pure::types::{LogIndex, Term};

/// A member as Raft knows it: the member's id of `pure::cluster`. 0 means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl MemberId {
    /// No member: no vote given, no leader known.
    pub const NONE: MemberId = MemberId(0);
}

/// raftpb.EntryType, same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A request, or nothing (the leader's own entry at the start of its term).
    #[default]
    Normal = 0,
    /// A raftpb.ConfChange.
    ConfChange = 1,
    /// A raftpb.ConfChangeV2; etcd never writes one and stops at one.
    ConfChangeV2 = 2,
}

impl EntryKind {
    /// The kind of a number from disk or network.
    pub fn from_u64(number: u64) -> Option<EntryKind> {
        match number {
            0 => Some(EntryKind::Normal),
            1 => Some(EntryKind::ConfChange),
            2 => Some(EntryKind::ConfChangeV2),
            _ => None,
        }
    }
}

/// One position of the log. Cloning shares the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Term of the leader that made it.
    pub term: Term,
    /// Its position; the first is 1.
    pub index: LogIndex,
    /// What the payload is.
    pub kind: EntryKind,
    /// Empty, an InternalRaftRequest or a ConfChange; Raft and the log never look inside.
    pub payload: Bytes,
}

/// What a member must remember besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// Whom this member voted for in that term.
    pub vote: MemberId,
    /// The last index known to be committed; may lag on disk.
    pub commit: LogIndex,
}

/// Number of a [`super::Persist`], ascending without end; what the log gives back when it is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What is on this member's disk, synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persisted {
    /// Every ticket up to this one, whole.
    pub ticket: Ticket,
    /// Term of the last entry on disk.
    pub term: Term,
    /// Index of the last entry on disk.
    pub index: LogIndex,
}
