//! Requests under way.

use bytes::Bytes;

use crate::pure::api::responses::Values;
use crate::pure::api::rpcs::Rpc;
use crate::pure::apply::TxnRun;
use crate::pure::mvcc::{HashWalk, RangeWalk};
use crate::pure::session::StreamId;
use crate::pure::types::{LeaseId, Revision};
use crate::pure::watch::StreamKey;
use crate::stdx::slab::Key;

use super::reads::{RangeAnswer, StreamRead};

/// One request: where its answer goes, and how far it is.
pub(super) struct Call {
    pub(super) connection: Key,
    pub(super) stream: StreamId,
    pub(super) rpc: Rpc,
    pub(super) state: State,
    /// Payload bytes of the wish that it waits for.
    pub(super) wish_bytes: usize,
    /// Bytes of its message.
    pub(super) request_bytes: usize,
    /// Others of its connection are before it: it is answered now if that is short, else not at all.
    pub(super) has_no_turn: bool,
    /// What it is counted for among its connection's long answers.
    pub(super) kept: usize,
    pub(super) made: u32,
}

/// What a request does.
///
/// ```text
/// unary:   (Waiting -->) Asked | Range (--> Answering) | Txn | Hash --> answered
/// streams: (Waiting -->) RangeStream --> ended;  Watch, KeepAlive, Health: until cancelled or ended
/// ```
pub(super) enum State {
    /// Waits for its turn among its connection's long answers.
    Waiting { message: Bytes },
    /// Waits for the sequencer, which answers in full.
    Asked,
    /// Waits for the remaining time of a lease; whether its keys are wanted.
    TimeToLive { lease: LeaseId, keys: bool },
    /// One keepalive of the stream whose call this is.
    Renewal { lease: LeaseId, of: Key },
    /// A range being walked.
    Range { walk: Box<RangeWalk>, values: Values, revision: Revision },
    /// A long range's answer on its way; it needs no floor any more.
    Answering(Box<RangeAnswer>),
    /// A read-only transaction at one revision.
    Txn { run: Box<TxnRun>, revision: Revision, compact_revision: Revision },
    /// A hash being computed.
    Hash { walk: Box<HashWalk>, revision: Revision },
    /// A range sent in chunks.
    RangeStream(Box<StreamRead>),
    /// A watch stream.
    Watch { hub_stream: StreamKey },
    /// A keepalive stream: renewals not yet answered, and whether the client sends no more.
    KeepAlive { unanswered: usize, half_closed: bool },
    /// A health watch: says its state once and stays open.
    Health,
}

impl State {
    /// True if nothing of a read's answer has been given to the session: it may begin anew.
    pub(super) fn is_unsent(&self) -> bool {
        match self {
            State::Range { .. } | State::Txn { .. } | State::Hash { .. } => true,
            State::Answering(answer) => !answer.is_announced(),
            _ => false,
        }
    }
}

impl Call {
    pub(super) fn new(connection: Key, stream: StreamId, rpc: Rpc, state: State) -> Call {
        Call {
            connection,
            stream,
            rpc,
            state,
            wish_bytes: 0,
            request_bytes: 0,
            has_no_turn: false,
            kept: 0,
            made: 0,
        }
    }

    /// True while the sequencer will still send a reply for this call.
    pub(super) fn waits_for_sequencer(&self) -> bool {
        matches!(self.state, State::Asked | State::TimeToLive { .. } | State::Renewal { .. })
    }

    /// True for streams that end only when somebody ends them.
    pub(super) fn is_endless(&self) -> bool {
        matches!(self.state, State::Watch { .. } | State::KeepAlive { .. } | State::Health)
    }

    /// The revision that the cleaner has to keep for it.
    pub(super) fn floor(&self) -> Option<Revision> {
        match &self.state {
            State::Range { walk, .. } => Some(walk.revision()),
            State::Txn { revision, .. } => Some(*revision),
            // All history from its compact revision on.
            State::Hash { walk, .. } => Some(walk.compact_revision()),
            // Only inside a chunk.
            State::RangeStream(read) => read.floor(),
            _ => None,
        }
    }
}

/// Counts of one RPC, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RpcCounts {
    /// Begun.
    pub started: u64,
    /// Ended, by gRPC's status code.
    pub handled: [u64; 17],
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
}

impl RpcCounts {
    /// Adds another shard's.
    pub fn add(&mut self, other: &RpcCounts) {
        self.started += other.started;
        for (count, more) in self.handled.iter_mut().zip(&other.handled) {
            *count += more;
        }
        self.received += other.received;
        self.sent += other.sent;
    }
}
