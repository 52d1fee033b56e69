//! Responses to protobuf.
//!
//! Owns: nothing. Takes: results, stored records. Gives: response messages, as lists of pieces where they
//! hold records.
//! Always true: the bytes are those that Go's runtime writes: fields ascending, zero fields left out,
//! `KeyValue`s exactly as stored; a message's length is known before its first byte is sent.
//! Not here: gRPC's frame around a message, which revision goes into which header, watch responses (`watch`, which
//! shares encoded events between watchers).
//!
//! Which header has what (`api/behaviours.md` section 1): most have all four numbers; those nested in a
//! Txn only the revision; a nested Txn's own is empty; MemberList's has no revision; Defragment's response
//! has no header.

mod pieces;
mod txn;

use bytes::Bytes;

use super::codec::{Encode, WriteField};
use crate::pure::cluster::Member;
use crate::pure::mvcc;
use crate::pure::types::{LeaseId, Revision};
use crate::pure::wire::protobuf as pb;

pub use pieces::{Body, Piece};
pub use txn::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp, TxnResponse, Values, range_stream_chunk,
};

/// A stored version of a key, as responses need it.
pub trait StoredKv: Clone {
    /// The encoded `mvccpb.KeyValue`; a tombstone's has key and mod_revision only.
    fn kv_bytes(&self) -> &[u8];
    /// True for a delete.
    fn is_tombstone(&self) -> bool;
    /// All but the value. `value` is empty.
    fn without_value(&self) -> KeyValue<'_>;
}

impl StoredKv for mvcc::RecordRef {
    fn kv_bytes(&self) -> &[u8] {
        mvcc::RecordRef::kv_bytes(self)
    }

    fn is_tombstone(&self) -> bool {
        mvcc::RecordRef::is_tombstone(self)
    }

    fn without_value(&self) -> KeyValue<'_> {
        KeyValue {
            key: self.key(),
            create_revision: self.create(),
            mod_revision: self.main(),
            version: self.version(),
            value: b"",
            lease: self.lease(),
        }
    }
}

/// Encoders of messages: number and field, ascending.
macro_rules! responses {
    ($($type:ident $(<$life:lifetime>)? { $($number:literal $field:ident)* })*) => {$(
        impl $(<$life>)? Encode for $type $(<$life>)? {
            fn encoded_len(&self) -> usize {
                0 $(+ WriteField::field_len(&self.$field, $number))*
            }
            fn encode(&self, out: &mut Vec<u8>) {
                $(WriteField::write(&self.$field, $number, out);)*
            }
        }
    )*};
}

responses! {
    ResponseHeader { 1 cluster_id 2 member_id 3 revision 4 raft_term }
    KeyValue<'a> { 1 key 2 create_revision 3 mod_revision 4 version 5 value 6 lease }
    HeaderOnly { 1 header }
    LeaseGrantResponse { 1 header 2 id 3 ttl }
    LeaseKeepAliveResponse { 1 header 2 id 3 ttl }
    LeaseTimeToLiveResponse<'a> { 1 header 2 id 3 ttl 4 granted_ttl 5 keys }
    LeaseLeasesResponse<'a> { 1 header 2 leases }
    MemberListResponse<'a> { 1 header 2 members }
    Member { 1 id 2 name 3 peer_urls 4 client_urls 5 is_learner }
    AlarmMember { 1 member_id 2 alarm }
    AlarmResponse<'a> { 1 header 2 alarms }
    StatusResponse {
        1 header 2 version 3 db_size 4 leader 5 raft_index 6 raft_term 7 raft_applied_index 8 errors
        9 db_size_in_use 10 is_learner 11 storage_version 12 db_size_quota 13 downgrade_info
    }
    DowngradeInfo { 1 enabled 2 target_version }
    HashKvResponse { 1 header 2 hash 3 compact_revision 4 hash_revision }
    HashResponse { 1 header 2 hash }
    HealthCheckResponse { 1 status }
}

/// What every response begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The id of the member that answers.
    pub member_id: u64,
    /// A revision of the key space.
    pub revision: Revision,
    /// The member's current term.
    pub raft_term: u64,
}

impl ResponseHeader {
    /// A header as responses inside a transaction have it.
    pub const fn nested(revision: Revision) -> ResponseHeader {
        ResponseHeader { cluster_id: 0, member_id: 0, revision, raft_term: 0 }
    }
}

/// `mvccpb.KeyValue`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: LeaseId,
}

/// CompactionResponse and LeaseRevokeResponse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderOnly {
    /// The header.
    pub header: ResponseHeader,
}

/// Answer to LeaseGrant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct LeaseGrantResponse {
    pub header: ResponseHeader,
    pub id: LeaseId,
    /// The effective one.
    pub ttl: i64,
}

/// Answer to one LeaseKeepAlive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct LeaseKeepAliveResponse {
    pub header: ResponseHeader,
    pub id: LeaseId,
    /// 0: there is no such lease.
    pub ttl: i64,
}

/// Answer to LeaseTimeToLive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct LeaseTimeToLiveResponse<'a> {
    pub header: ResponseHeader,
    pub id: LeaseId,
    /// -1: there is no such lease.
    pub ttl: i64,
    pub granted_ttl: i64,
    pub keys: &'a [Bytes],
}

/// Answer to LeaseLeases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct LeaseLeasesResponse<'a> {
    pub header: ResponseHeader,
    pub leases: LeaseIds<'a>,
}

/// LeaseStatus messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseIds<'a>(pub &'a [LeaseId]);

/// Answer to MemberList. Its header has no revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct MemberListResponse<'a> {
    pub header: ResponseHeader,
    /// Ascending by id.
    pub members: &'a [Member],
}

/// An active alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct AlarmMember {
    pub member_id: u64,
    /// NONE 0, NOSPACE 1, CORRUPT 2.
    pub alarm: i32,
}

/// Answer to Alarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct AlarmResponse<'a> {
    pub header: ResponseHeader,
    pub alarms: &'a [AlarmMember],
}

/// Answer to Status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct StatusResponse {
    pub header: ResponseHeader,
    pub version: String,
    pub db_size: i64,
    /// 0: none known.
    pub leader: u64,
    /// The committed index.
    pub raft_index: u64,
    pub raft_term: u64,
    pub raft_applied_index: u64,
    /// `etcdserver: no leader` without one, then the alarms.
    pub errors: Vec<String>,
    pub db_size_in_use: i64,
    pub is_learner: bool,
    pub storage_version: String,
    pub db_size_quota: i64,
    /// Etcd always sends it.
    pub downgrade_info: DowngradeInfo,
}

/// Part of Status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct DowngradeInfo {
    pub enabled: bool,
    pub target_version: String,
}

/// Answer to HashKV.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct HashKvResponse {
    pub header: ResponseHeader,
    pub hash: u32,
    /// -1: never compacted.
    pub compact_revision: Revision,
    pub hash_revision: Revision,
}

/// Answer to Hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct HashResponse {
    pub header: ResponseHeader,
    pub hash: u32,
}

/// Answer to Defragment: without a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragmentResponse;

impl Encode for DefragmentResponse {
    fn encoded_len(&self) -> usize {
        0
    }
    fn encode(&self, _: &mut Vec<u8>) {}
}

/// Answer of the health service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthCheckResponse {
    /// The state.
    pub status: ServingStatus,
}

/// State of a service (grpc.health.v1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are gRPC's own")]
pub enum ServingStatus {
    #[default]
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    /// Only Watch answers this.
    ServiceUnknown = 3,
}

impl WriteField for ServingStatus {
    fn field_len(&self, number: u32) -> usize {
        pb::uint_field_len(number, *self as u64)
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        pb::put_uint_field(out, number, *self as u64);
    }
}

impl WriteField for u32 {
    fn field_len(&self, number: u32) -> usize {
        pb::uint_field_len(number, u64::from(*self))
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        pb::put_uint_field(out, number, u64::from(*self));
    }
}

impl WriteField for &[u8] {
    fn field_len(&self, number: u32) -> usize {
        pb::bytes_field_len(number, self.len())
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        pb::put_bytes_field(out, number, self);
    }
}

impl WriteField for &str {
    fn field_len(&self, number: u32) -> usize {
        pb::bytes_field_len(number, self.len())
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        pb::put_bytes_field(out, number, self.as_bytes());
    }
}

/// Repeated bytes: empty ones are written too.
impl WriteField for &[Bytes] {
    fn field_len(&self, number: u32) -> usize {
        self.iter().map(|bytes| pb::message_field_len(number, bytes.len())).sum()
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for bytes in *self {
            pb::put_message_head(out, number, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

impl WriteField for LeaseIds<'_> {
    fn field_len(&self, number: u32) -> usize {
        self.0.iter().map(|id| pb::message_field_len(number, pb::int_field_len(1, *id))).sum()
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for id in self.0 {
            pb::put_message_head(out, number, pb::int_field_len(1, *id));
            pb::put_int_field(out, 1, *id);
        }
    }
}

/// Nested messages: always written, even if empty, because Go's pointer to them is set.
macro_rules! nested {
    ($($type:ty)*) => {$(
        impl WriteField for $type {
            fn field_len(&self, number: u32) -> usize {
                pb::message_field_len(number, self.encoded_len())
            }
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                super::codec::put_message(out, number, self);
            }
        }
        impl WriteField for &[$type] {
            fn field_len(&self, number: u32) -> usize {
                self.iter().map(|one| one.field_len(number)).sum()
            }
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                self.iter().for_each(|one| one.write(number, out));
            }
        }
    )*};
}

nested! { ResponseHeader DowngradeInfo Member AlarmMember }

#[cfg(test)]
mod tests;
