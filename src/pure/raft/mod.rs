//! raft: being built
mod types;
pub use types::{Entry, EntryKind, HardState, MemberId, Persisted, Ticket};
