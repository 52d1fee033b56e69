//! Raft: the one order of entries, agreed by a quorum.
//!
//! Owns: term, vote, role, the entries in memory, how far they are persisted, committed, applied.
//! Takes: messages, ticks, proposals, "on disk up to", "applied up to". Gives: effects.
//! Always true: `applied <= applying <= min(committed, persisted)`; persisted, committed, applied
//! and the term only grow; a leader commits by counting only entries of its own term; a vote, its
//! own included, counts when it is on disk.
//! Not here: what an entry means, files, sockets, clocks; the log's format (`wal`).
//!
//! This version runs with one voter. The quorum of one goes through the code of a quorum of n
//! (votes counted, commit by match indexes); what needs other members is refused by an error value.

mod conf;
mod core;
mod log;
mod message;
mod types;

#[cfg(test)]
mod tests;

pub use conf::{ConfChange, ConfChangeKind, ConfState};
pub use core::{
    ConfRefused, Config, Dropped, Effect, MessageRefused, Persist, PersistedRefused, ProposeRefused,
    Proposed, Raft, ReadRefused, Role, Start, StartRefused, TransferRefused,
};
pub use message::{Message, MessageKind, SnapshotMeta};
pub use types::{Entry, EntryKind, HardState, MemberId, Persisted, Ticket};
