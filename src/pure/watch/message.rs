//! What a watch stream sends, up to its bytes.
//!
//! Owns: the form of a `WatchResponse`. Takes: what the hub decided; the ids of the member that answers.
//! Gives: bytes, or pieces of them that refer to stored records.
//! Always true: fields ascend, zeros are left out, as etcd's own encoder writes.
//! Not here: which message when.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::pure::mvcc::RecordRef;
use crate::pure::types::{Revision, Term};
use crate::pure::wire::protobuf as pb;

/// What a response's header tells beside the revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderIds {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that answers.
    pub member_id: u64,
    /// Its term now.
    pub raft_term: Term,
}

/// One message of a watch stream.
#[derive(Clone)]
pub struct WatchMessage {
    /// The watch; -1 for the whole stream (an answer to a progress request) and for a refused create.
    pub watch_id: i64,
    /// `header.revision`; 0 is left out.
    pub revision: Revision,
    /// Answers a create request.
    pub created: bool,
    /// The last message of the watch.
    pub canceled: bool,
    /// The compact revision, if that is why it is cancelled, else 0.
    pub compact_revision: Revision,
    /// Why a create was refused, else empty.
    pub cancel_reason: Cow<'static, str>,
    /// More of the same revision follows.
    pub fragment: bool,
    /// The events, encoded.
    pub events: Option<Arc<Batch>>,
}

/// Encoded events, shared by all watchers that get the same ones.
pub struct Batch {
    pub(super) revision: Revision,
    pub(super) events: u32,
    pub(super) bytes: usize,
    pub(super) pieces: Box<[Piece]>,
}

/// Consecutive bytes of a message.
#[derive(Clone)]
pub enum Piece {
    /// Made for this message.
    Bytes(Bytes),
    /// A stored `KeyValue`, sent from where it lies: the piece keeps it alive.
    Record(RecordRef),
}

impl WatchMessage {
    /// Appends everything before the events. The message goes on with [`WatchMessage::pieces`].
    pub fn encode_head(&self, ids: &HeaderIds, out: &mut Vec<u8>) {
        let numbers = [ids.cluster_id, ids.member_id, self.revision as u64, ids.raft_term.0];
        let header_bytes: usize =
            (1..).zip(numbers).map(|(field, number)| pb::uint_field_len(field, number)).sum();
        pb::put_message_head(out, 1, header_bytes);
        for (field, number) in (1..).zip(numbers) {
            pb::put_uint_field(out, field, number);
        }
        pb::put_int_field(out, 2, self.watch_id);
        pb::put_uint_field(out, 3, u64::from(self.created));
        pb::put_uint_field(out, 4, u64::from(self.canceled));
        pb::put_int_field(out, 5, self.compact_revision);
        pb::put_bytes_field(out, 6, self.cancel_reason.as_bytes());
        pb::put_uint_field(out, 7, u64::from(self.fragment));
    }

    /// The encoded events, to follow the head.
    pub fn pieces(&self) -> &[Piece] {
        self.events.as_ref().map_or(&[], |batch| &batch.pieces)
    }

    /// Bytes of all pieces together.
    pub fn pieces_bytes(&self) -> usize {
        self.events.as_ref().map_or(0, |batch| batch.bytes)
    }

    /// Number of events.
    pub fn event_count(&self) -> u32 {
        self.events.as_ref().map_or(0, |batch| batch.events)
    }

    /// Appends the whole `WatchResponse`, copying what is shared.
    pub fn encode(&self, ids: &HeaderIds, out: &mut Vec<u8>) {
        self.encode_head(ids, out);
        out.reserve(self.pieces_bytes());
        for piece in self.pieces() {
            out.extend_from_slice(piece.as_slice());
        }
    }
}

impl Piece {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Record(record) => record.kv_bytes(),
        }
    }
}

/// Appends what stands before a `KeyValue` of `kv_bytes` bytes in an `Event`, which is itself one of a
/// response's events: both tags and lengths, and the event's type. `prev_bytes` is the whole encoded
/// `prev_kv` field (0 for none), which the caller appends after the `KeyValue`.
pub(super) fn put_event_head(out: &mut Vec<u8>, is_delete: bool, kv_bytes: usize, prev_bytes: usize) {
    let kind = u64::from(is_delete);
    let event_bytes = pb::uint_field_len(1, kind) + field_bytes(kv_bytes) + prev_bytes;
    pb::put_message_head(out, 11, event_bytes);
    pb::put_uint_field(out, 1, kind);
    pb::put_message_head(out, 2, kv_bytes);
}

/// Appends what stands before the `KeyValue` of the field `prev_kv`.
pub(super) fn put_prev_head(out: &mut Vec<u8>, kv_bytes: usize) {
    pb::put_message_head(out, 3, kv_bytes);
}

/// Bytes of a nested message's field, one of the first fifteen.
pub(super) fn field_bytes(content_bytes: usize) -> usize {
    pb::message_field_len(1, content_bytes)
}
