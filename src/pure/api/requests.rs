//! Typed requests of the key space, as decoded from protobuf; byte fields share the message's buffer.
//!
//! Enum fields keep their wire number where etcd looks at undefined numbers (compares); where etcd
//! refuses them (sort options) they are enums only after validation.
#![expect(missing_docs, reason = "fields are those of etcd's messages of the same name")]

use bytes::Bytes;

use crate::pure::types::{LeaseId, Revision};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub limit: i64,
    pub revision: Revision,
    pub sort_order: i32,
    pub sort_target: i32,
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: LeaseId,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub prev_kv: bool,
}

/// The operand of a compare. `None` of the message (absent union) reads as 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CompareOperand {
    #[default]
    None,
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Bytes),
    Lease(i64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compare {
    /// Wire number: EQUAL 0, GREATER 1, LESS 2, NOT_EQUAL 3; others compare as true.
    pub result: i32,
    /// Wire number: VERSION 0, CREATE 1, MOD 2, VALUE 3, LEASE 4; others compare as "equal".
    pub target: i32,
    pub key: Bytes,
    pub operand: CompareOperand,
    pub range_end: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequestOp {
    /// A RequestOp without a variant: refused by validation (`key not found`, sic).
    #[default]
    None,
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<RequestOp>,
    pub failure: Vec<RequestOp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionRequest {
    pub revision: Revision,
    pub physical: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGrantRequest {
    pub ttl: i64,
    pub id: LeaseId,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseRevokeRequest {
    pub id: LeaseId,
}

/// One lease of a LeaseCheckpointRequest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCheckpoint {
    pub id: LeaseId,
    pub remaining_ttl: i64,
}

/// `--advertise-client-urls` and name of a member, as it publishes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberAttributes {
    pub member_id: u64,
    pub name: String,
    pub client_urls: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmRequest {
    pub action: i32,
    pub member_id: u64,
    pub alarm: i32,
}

/// What a log entry's `InternalRaftRequest` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseCheckpoint(Vec<LeaseCheckpoint>),
    Alarm(AlarmRequest),
    ClusterVersionSet(String),
    ClusterMemberAttrSet(MemberAttributes),
}

/// A decoded log payload: `InternalRaftRequest` (etcd's raft_internal.proto; field numbers in
/// schema/etcd/raft_internal.proto).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalRequest {
    /// header.ID: unique per proposer, wakes the waiting client.
    pub id: u64,
    /// header.username; empty without auth.
    pub username: String,
    /// header.auth_revision.
    pub auth_revision: u64,
    pub operation: Operation,
}

impl Operation {
    /// True if applying it takes work bounded by its own size: no interval is walked.
    pub fn is_bounded(&self) -> bool {
        match self {
            Operation::DeleteRange(request) => request.range_end.is_empty(),
            Operation::Txn(txn) => txn.is_bounded(),
            Operation::LeaseRevoke(_) => false,
            _ => true,
        }
    }
}

impl TxnRequest {
    fn is_bounded(&self) -> bool {
        let ops = || self.success.iter().chain(&self.failure);
        self.compare.iter().all(|compare| compare.range_end.is_empty())
            && ops().all(|op| match op {
                RequestOp::None | RequestOp::Put(_) => true,
                RequestOp::Range(request) => request.range_end.is_empty(),
                RequestOp::DeleteRange(request) => request.range_end.is_empty(),
                RequestOp::Txn(nested) => nested.is_bounded(),
            })
    }
}
/// A put as it lies in a message's bytes: what the hot paths decode instead of [`PutRequest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutView<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub lease: LeaseId,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// A message of the client on a watch stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchRequest {
    /// Nothing set, or something of a later version: ignored.
    #[default]
    None,
    Create(WatchCreateRequest),
    Cancel(WatchCancelRequest),
    Progress,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchCreateRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub start_revision: Revision,
    pub progress_notify: bool,
    pub filters: WatchFilters,
    pub prev_kv: bool,
    pub watch_id: i64,
    pub fragment: bool,
}

/// The repeated field `filters`, folded: what it may hold twice or unknown changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchFilters {
    /// NOPUT: no put events.
    pub no_put: bool,
    /// NODELETE: no delete events.
    pub no_delete: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCancelRequest {
    pub watch_id: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseKeepAliveRequest {
    pub id: LeaseId,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTimeToLiveRequest {
    pub id: LeaseId,
    pub keys: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberListRequest {
    pub linearizable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKvRequest {
    pub revision: Revision,
}

/// Of grpc.health.v1: the name of a service, "" for the whole server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCheckRequest {
    pub service: String,
}

/// Any request without fields: LeaseLeases, Status, Defragment, Hash. What it holds is unknown, but must
/// be protobuf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptyRequest;
