//! The write-ahead log: entries and hard states to bytes, bytes to what a member knew.
//!
//! Owns: the log's format, the batch that is being formed, the positions in the log, recovery.
//! Takes: entries and hard states of Raft, tokens of finished writes, images of segments.
//! Gives: writes, orders for segments, "persisted up to"; after a crash the entries and a verdict.
//! Always true: one write in flight; what was reported as persisted is found by recovery, or
//! recovery refuses; a batch counts whole or not at all; a sector that holds something acknowledged
//! is never written again; after a failed write nothing is reported.
//! Not here: files, syncs, directories (`edge::disk`), what an entry means.
//!
//! The format is described in `schema/disk/wal.md`, the rules in `writer` and `recovery`.

mod canary;
mod format;
mod fresh;
mod recovery;
mod writer;

#[cfg(test)]
mod tests;

pub use canary::Canaries;
pub use format::{FORMAT_VERSION, Identity, Lsn, SEGMENT_HEADER_BYTES};
pub use fresh::FreshSegment;
pub use recovery::{
    Corrupt, Damage, End, NoLog, Outcome, Recovered, Recovery, RecoveryStart, Refused, SegmentBlock,
};
pub use writer::{BatchBuffer, NeedSegment, Poisoned, WriteBatch, Writer};

use crate::limits;
use crate::pure::raft::HardState;
use crate::pure::types::{LogIndex, Term};

/// Sizes of the log; tests make them small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Size of the segment that a start makes, whole blocks.
    pub segment_bytes_first: u64,
    /// Size of every later segment, whole blocks.
    pub segment_bytes: u64,
    /// Payload of a batch; one entry may be larger and then goes alone.
    pub batch_bytes_max: usize,
    /// Planted bugs; none outside of tests.
    pub canaries: Canaries,
}

impl Config {
    /// The sizes of `limits::log`.
    pub fn standard() -> Config {
        Config {
            segment_bytes_first: limits::log::SEGMENT_BYTES_FIRST,
            segment_bytes: limits::log::SEGMENT_BYTES,
            batch_bytes_max: limits::log::BATCH_BYTES_MAX,
            canaries: Canaries::default(),
        }
    }
}

/// Where a [`Writer`] goes on: the end of a [`FreshSegment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Resume {
    salt: u64,
    identity: Identity,
    segment: u64,
    segment_bytes: u64,
    offset: u64,
    lsn: Lsn,
    batch_number: u64,
    hard_state: HardState,
    last: (Term, LogIndex),
}

impl Resume {
    /// Term and index of the last entry of the log, (0, 0) if there is none.
    pub fn last(&self) -> (Term, LogIndex) {
        self.last
    }
}
