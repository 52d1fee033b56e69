//! Log payloads: what an entry of the Raft log holds, etcd's `InternalRaftRequest`.
//!
//! Owns: nothing. Takes: requests (raw bytes and typed). Gives: payloads; out of payloads, operations.
//! Always true: what is written here is byte for byte what etcd writes for the same request, so every
//! member of a mixed cluster decodes it; decoding is strict, because a member that guesses diverges.
//! Not here: order, terms, what an operation does (`apply`).

use std::fmt;

use bytes::Bytes;

use super::canonical::{self, Shape};
use super::codec::{
    ClusterVersionSet, Decode, Encode, LeaseCheckpoints, LeaseCheckpointsRef, Source, decode_from,
    put_message,
};
use super::requests::*;
use super::status::{self, Status};
use crate::pure::wire::protobuf::{self as pb, DecodeError, Depth, Field, Reader, Value};

/// The entry's header: who proposed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Unique per proposer ([`RequestIds`]).
    pub id: u64,
    /// The authorized user; empty without authentication.
    pub username: &'a str,
    /// The revision of users and roles that the authorization rests on.
    pub auth_revision: u64,
}

/// Numbers of InternalRaftRequest's fields.
mod field {
    pub const OLD_ID: u32 = 1;
    pub const RANGE: u32 = 3;
    pub const PUT: u32 = 4;
    pub const DELETE_RANGE: u32 = 5;
    pub const TXN: u32 = 6;
    pub const COMPACTION: u32 = 7;
    pub const LEASE_GRANT: u32 = 8;
    pub const LEASE_REVOKE: u32 = 9;
    pub const ALARM: u32 = 10;
    pub const LEASE_CHECKPOINT: u32 = 11;
    pub const HEADER: u32 = 100;
    pub const CLUSTER_VERSION_SET: u32 = 1300;
    pub const CLUSTER_MEMBER_ATTR_SET: u32 = 1301;

    /// All by their names in the schema.
    #[cfg(test)]
    pub const ALL: &[(u32, &str)] = &[
        (OLD_ID, "ID"),
        (RANGE, "range"),
        (PUT, "put"),
        (DELETE_RANGE, "delete_range"),
        (TXN, "txn"),
        (COMPACTION, "compaction"),
        (LEASE_GRANT, "lease_grant"),
        (LEASE_REVOKE, "lease_revoke"),
        (ALARM, "alarm"),
        (LEASE_CHECKPOINT, "lease_checkpoint"),
        (HEADER, "header"),
        (CLUSTER_VERSION_SET, "cluster_version_set"),
        (CLUSTER_MEMBER_ATTR_SET, "cluster_member_attr_set"),
    ];
}

/// A client's request that goes into the log as it came, if its bytes are canonical.
pub trait Logged: Encode {
    /// Its field in InternalRaftRequest.
    const FIELD: u32;
    /// Its canonical form.
    fn shape() -> &'static Shape;
}

macro_rules! logged {
    ($($type:ty, $field:ident;)*) => {$(
        impl Logged for $type {
            const FIELD: u32 = field::$field;
            fn shape() -> &'static Shape {
                &canonical::$field
            }
        }
    )*};
}

logged! {
    RangeRequest, RANGE;
    PutRequest, PUT;
    PutView<'_>, PUT;
    DeleteRangeRequest, DELETE_RANGE;
    TxnRequest, TXN;
    CompactionRequest, COMPACTION;
    LeaseGrantRequest, LEASE_GRANT;
    LeaseRevokeRequest, LEASE_REVOKE;
    AlarmRequest, ALARM;
}

impl Encode for Header<'_> {
    #[inline]
    fn encoded_len(&self) -> usize {
        pb::uint_field_len(1, self.id)
            + pb::bytes_field_len(2, self.username.len())
            + pb::uint_field_len(3, self.auth_revision)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        pb::put_uint_field(out, 1, self.id);
        pb::put_bytes_field(out, 2, self.username.as_bytes());
        pb::put_uint_field(out, 3, self.auth_revision);
    }
}

/// Payload of a typed request.
pub fn encode_typed<M: Logged>(header: &Header<'_>, request: &M) -> Vec<u8> {
    around(header, M::FIELD, request.encoded_len(), |out| request.encode(out))
}

/// Payload of a client's request: its own bytes where they are canonical, else the request anew. Both ways
/// give the same payload for the same request.
pub fn encode_raw<M: Logged>(header: &Header<'_>, raw: &[u8], request: &M) -> Vec<u8> {
    if canonical::is_canonical(M::shape(), raw) {
        around(header, M::FIELD, raw.len(), |out| out.extend_from_slice(raw))
    } else {
        encode_typed(header, request)
    }
}

/// Payload of a put, from where the client's message lies: one allocation, one copy. (A put has no nested
/// messages, so writing it from its view costs no more than copying it and needs no check.)
#[inline]
pub fn encode_put(header: &Header<'_>, put: &PutView<'_>) -> Vec<u8> {
    encode_typed(header, put)
}

/// Payload of any operation.
pub fn encode(request: &InternalRequest) -> Vec<u8> {
    let header =
        &Header { id: request.id, username: &request.username, auth_revision: request.auth_revision };
    match &request.operation {
        Operation::Range(range) => encode_typed(header, range),
        Operation::Put(put) => encode_typed(header, put),
        Operation::DeleteRange(delete) => encode_typed(header, delete),
        Operation::Txn(txn) => encode_typed(header, txn),
        Operation::Compaction(compaction) => encode_typed(header, compaction),
        Operation::LeaseGrant(grant) => encode_typed(header, grant),
        Operation::LeaseRevoke(revoke) => encode_typed(header, revoke),
        Operation::Alarm(alarm) => encode_typed(header, alarm),
        Operation::LeaseCheckpoint(checkpoints) => {
            let request = LeaseCheckpointsRef(checkpoints);
            around(header, field::LEASE_CHECKPOINT, request.encoded_len(), |out| request.encode(out))
        }
        Operation::ClusterVersionSet(version) => {
            let request = ClusterVersionSet { ver: version.clone() };
            around(header, field::CLUSTER_VERSION_SET, request.encoded_len(), |out| request.encode(out))
        }
        Operation::ClusterMemberAttrSet(attributes) => {
            let length = attributes.encoded_len();
            around(header, field::CLUSTER_MEMBER_ATTR_SET, length, |out| attributes.encode(out))
        }
    }
}

/// The request's field and the header, ascending by number.
#[inline]
fn around(header: &Header<'_>, number: u32, length: usize, request: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let total =
        pb::message_field_len(number, length) + pb::message_field_len(field::HEADER, header.encoded_len());
    let mut out = Vec::with_capacity(total);
    if number > field::HEADER {
        put_message(&mut out, field::HEADER, header);
    }
    pb::put_message_head(&mut out, number, length);
    request(&mut out);
    if number < field::HEADER {
        put_message(&mut out, field::HEADER, header);
    }
    debug_assert_eq!(out.len(), total, "lengths are measured as they are written");
    out
}

/// Refuses a payload that is larger than `--max-request-bytes`.
///
/// # Errors
/// RequestTooLarge.
pub fn check_size(payload_bytes: usize, max_request_bytes: usize) -> Result<(), Status> {
    if payload_bytes > max_request_bytes { Err(status::REQUEST_TOO_LARGE) } else { Ok(()) }
}

/// Why a payload can't be applied. The member must stop: others may have applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// Not an InternalRaftRequest.
    Undecodable(DecodeError),
    /// It asks for nothing.
    NoOperation,
    /// It asks for several things.
    SeveralOperations,
    /// It asks for something that this version doesn't know, by field number.
    Unsupported(u32),
    /// Neither a header nor an old id.
    NoId,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadError::Undecodable(error) => write!(f, "{error}"),
            PayloadError::NoOperation => f.write_str("no operation"),
            PayloadError::SeveralOperations => f.write_str("several operations"),
            PayloadError::Unsupported(number) => write!(f, "unsupported operation, field {number}"),
            PayloadError::NoId => f.write_str("no request id"),
        }
    }
}

impl std::error::Error for PayloadError {}

impl From<DecodeError> for PayloadError {
    fn from(error: DecodeError) -> PayloadError {
        PayloadError::Undecodable(error)
    }
}

/// Two levels more than a request gets: the payload around it, and what etcd might add.
const DEPTH: Depth = Depth::REQUEST.plus(2);

/// Decodes a payload; byte fields share its buffer.
///
/// # Errors
/// The member can't go on: see [`PayloadError`].
pub fn decode(payload: &Bytes) -> Result<InternalRequest, PayloadError> {
    let from = Source::whole(payload, DEPTH);
    let mut reader = from.reader();
    let mut old_id = 0;
    let mut header: Option<OwnedHeader> = None;
    let mut operation: Option<(u32, Operation)> = None;
    let mut unsupported = None;
    while let Some(Field { number, value }) = reader.next()? {
        match (number, value) {
            (field::OLD_ID, Value::Varint(id)) => old_id = id,
            (field::HEADER, Value::Bytes(message)) => {
                header.get_or_insert_default().merge(from.nested(message)?)?;
            }
            (number, Value::Bytes(message)) => {
                let earlier = match operation.take() {
                    Some((same, earlier)) if same == number => Some(earlier),
                    Some(_) if is_operation(number) => return Err(PayloadError::SeveralOperations),
                    other => {
                        operation = other;
                        None
                    }
                };
                match merge_operation(number, earlier, from.nested(message)?)? {
                    Some(merged) => operation = Some((number, merged)),
                    None => unsupported = Some(number),
                }
            }
            _ => {}
        }
    }
    let header = match (header, old_id) {
        (Some(header), 0) => header,
        (None, 0) => return Err(PayloadError::NoId),
        (header, id) => OwnedHeader { id, ..header.unwrap_or_default() },
    };
    match (operation, unsupported) {
        (Some((_, operation)), None) => Ok(InternalRequest {
            id: header.id,
            username: header.username,
            auth_revision: header.auth_revision,
            operation,
        }),
        (_, Some(number)) => Err(PayloadError::Unsupported(number)),
        (None, None) => Err(PayloadError::NoOperation),
    }
}

fn is_operation(number: u32) -> bool {
    !matches!(number, field::OLD_ID | field::HEADER)
}

#[derive(Default)]
struct OwnedHeader {
    id: u64,
    username: String,
    auth_revision: u64,
}

impl Decode for OwnedHeader {
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
        let mut reader = from.reader();
        while let Some(Field { number, value }) = reader.next()? {
            match (number, value) {
                (1, Value::Varint(id)) => self.id = id,
                (2, Value::Bytes(name)) => self.username = pb::text(name)?.to_owned(),
                (3, Value::Varint(revision)) => self.auth_revision = revision,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Decodes the operation of a field over `earlier` of the same field; `None` for a field that holds none
/// of ours.
fn merge_operation(
    number: u32,
    earlier: Option<Operation>,
    from: Source<'_>,
) -> Result<Option<Operation>, DecodeError> {
    macro_rules! merge {
        ($variant:ident) => {{
            let mut request = match earlier {
                Some(Operation::$variant(request)) => request,
                _ => Default::default(),
            };
            Decode::merge(&mut request, from)?;
            Operation::$variant(request)
        }};
    }
    Ok(Some(match number {
        field::RANGE => merge!(Range),
        field::PUT => merge!(Put),
        field::DELETE_RANGE => merge!(DeleteRange),
        field::TXN => merge!(Txn),
        field::COMPACTION => merge!(Compaction),
        field::LEASE_GRANT => merge!(LeaseGrant),
        field::LEASE_REVOKE => merge!(LeaseRevoke),
        field::ALARM => merge!(Alarm),
        field::CLUSTER_MEMBER_ATTR_SET => merge!(ClusterMemberAttrSet),
        field::LEASE_CHECKPOINT => {
            let mut all = match earlier {
                Some(Operation::LeaseCheckpoint(checkpoints)) => LeaseCheckpoints(checkpoints),
                _ => LeaseCheckpoints::default(),
            };
            all.merge(from)?;
            Operation::LeaseCheckpoint(all.0)
        }
        field::CLUSTER_VERSION_SET => {
            let mut request: ClusterVersionSet = decode_from(from)?;
            if let (true, Some(Operation::ClusterVersionSet(earlier))) = (request.ver.is_empty(), earlier) {
                request.ver = earlier;
            }
            Operation::ClusterVersionSet(request.ver)
        }
        _ => return Ok(None),
    }))
}

/// The hot way in: the id and the put of a payload that holds just these, without allocation. `None`
/// says nothing about the payload; [`decode`] does.
#[inline]
pub fn decode_put(payload: &[u8]) -> Option<(u64, PutView<'_>)> {
    let mut reader = Reader::new(payload);
    let Field { number: field::PUT, value: Value::Bytes(put) } = reader.next().ok()?? else { return None };
    let Field { number: field::HEADER, value: Value::Bytes(header) } = reader.next().ok()?? else {
        return None;
    };
    if !reader.is_empty() {
        return None;
    }
    let mut reader = Reader::new(header);
    let Field { number: 1, value: Value::Varint(id) } = reader.next().ok()?? else { return None };
    if !reader.is_empty() {
        return None;
    }
    Some((id, PutView::decode(put).ok()?))
}

/// Makes the ids of a member's proposals, as etcd does: 16 bits of the member's id, 40 bits of the
/// milliseconds at start, a counter of 8 bits that runs over into them. A restarted member so makes other
/// ids than it did before, unless it proposed more than 256 times a millisecond since.
#[derive(Clone, Debug)]
pub struct RequestIds {
    prefix: u64,
    suffix: u64,
    step: u64,
}

impl RequestIds {
    /// Ids of `member_id`, started at `unix_ms`.
    pub fn new(member_id: u64, unix_ms: u64) -> RequestIds {
        RequestIds { prefix: member_id << 48, suffix: unix_ms << 8, step: 1 }
    }

    /// One of `shares` sequences without a common id, for proposers that do not ask each other.
    pub fn share(&self, share: usize, shares: usize) -> RequestIds {
        assert!(share < shares, "shares are counted from 0");
        let suffix = self.suffix.wrapping_add(share as u64) & SUFFIX_MASK;
        RequestIds { prefix: self.prefix, suffix, step: self.step * shares as u64 }
    }

    /// The next id; never 0 for long.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        self.suffix = self.suffix.wrapping_add(self.step) & SUFFIX_MASK;
        self.prefix | self.suffix
    }
}

const SUFFIX_MASK: u64 = (1 << 48) - 1;

#[cfg(test)]
pub(super) use field::ALL as FIELDS;

#[cfg(test)]
mod tests;
