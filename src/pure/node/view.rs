//! One instant of everything that is replicated, as the sequencer publishes it once a batch.

use std::sync::Arc;

use crate::pure::cluster::Member;
use crate::pure::lease::LeaseTable;
use crate::pure::mvcc::KvView;
use crate::pure::types::{LogIndex, Term};

/// What every shard reads from. Immutable and shareable; all of it is the state after `applied`.
#[derive(Clone)]
pub struct View {
    /// The key space.
    pub kv: KvView,
    /// The leases.
    pub leases: LeaseTable,
    /// The members, by id.
    pub members: Arc<Vec<Member>>,
    /// `major.minor.patch` once decided.
    pub cluster_version: Option<Arc<str>>,
    /// Last entry applied. `applied <= committed`.
    pub applied: LogIndex,
    /// Last entry committed.
    pub committed: LogIndex,
    /// Current term.
    pub term: Term,
    /// Id of the leader, 0 if none is known.
    pub leader: u64,
    /// True if a read of this view is linearizable without asking anybody: this member is the sole voter,
    /// leads, and has applied an entry of its own term (H8).
    pub local_read_ok: bool,
    /// Bytes of all log files.
    pub db_bytes: u64,
    /// Bytes of retained records.
    pub db_bytes_in_use: u64,
}
