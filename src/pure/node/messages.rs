//! What travels between a shard and the sequencer. Owned values only.

use bytes::Bytes;

use crate::pure::apply::Outcome;
use crate::pure::types::LeaseId;

/// Names a waiting request; made by the shard, sent back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Which shard waits.
    pub shard: u16,
    /// Its own name for the request.
    pub request: u64,
}

/// A shard's wish.
pub struct ToSequencer {
    /// Who waits for the reply; each ticket gets exactly one.
    pub ticket: Ticket,
    /// What is wanted.
    pub ask: Ask,
}

/// See [`ToSequencer`].
pub enum Ask {
    /// Put an encoded `InternalRaftRequest` into the log and apply it.
    Propose(Bytes),
    /// The same with a Compaction, answered when its space is back.
    ProposeAndClean(Bytes),
    /// Renew a lease.
    KeepAlive(LeaseId),
    /// Remaining time of a lease.
    TimeToLive(LeaseId),
    /// Ids of all leases, soonest to end first.
    Leases,
    /// Give back all dead bytes.
    Defragment,
}

/// The sequencer's answer.
pub struct FromSequencer {
    /// As it came.
    pub ticket: Ticket,
    /// The answer. The view that it belongs to was published before.
    pub reply: Reply,
}

/// See [`FromSequencer`].
pub enum Reply {
    /// The entry was applied.
    Applied(Outcome),
    /// A keepalive: the granted TTL in seconds, 0 if the lease is gone.
    Renewed(i64),
    /// Remaining seconds; `None` if the lease is unknown.
    Remaining(Option<i64>),
    /// Lease ids.
    Leases(Vec<LeaseId>),
    /// Done.
    Done,
    /// Not proposed and never will be.
    Refused(Refusal),
}

/// Why a request was not even proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The log has no room: `etcdserver: mvcc: database space exceeded`.
    NoSpace,
    /// Too many committed entries wait to be applied: `etcdserver: too many requests`.
    TooManyRequests,
    /// The server is stopping: `etcdserver: server stopped`.
    Stopped,
}
