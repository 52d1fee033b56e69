//! Watch responses: a head of a few bytes for one watcher, then events that are the same for all.
//!
//! `events` is the last field of a WatchResponse, so a response is its head followed by event fields; those
//! can be encoded once and appended to many responses.

use super::{Body, ResponseHeader, StoredKv};
use crate::pure::api::codec::{Encode, WriteField};
use crate::pure::types::Revision;
use crate::pure::wire::protobuf as pb;

/// All of a WatchResponse but its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct WatchResponseHead<'a> {
    /// Without revision in the answer that tells of a compaction.
    pub header: ResponseHeader,
    /// -1: of no watcher (refused, or progress of the whole stream).
    pub watch_id: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: Revision,
    pub cancel_reason: &'a str,
    /// More of the same revision follows in the next response.
    pub fragment: bool,
}

impl Encode for WatchResponseHead<'_> {
    fn encoded_len(&self) -> usize {
        self.header.field_len(1)
            + self.watch_id.field_len(2)
            + self.created.field_len(3)
            + self.canceled.field_len(4)
            + self.compact_revision.field_len(5)
            + self.cancel_reason.field_len(6)
            + self.fragment.field_len(7)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.header.write(1, out);
        self.watch_id.write(2, out);
        self.created.write(3, out);
        self.canceled.write(4, out);
        self.compact_revision.write(5, out);
        self.cancel_reason.write(6, out);
        self.fragment.write(7, out);
    }
}

/// Number of `WatchResponse.events`.
const EVENTS: u32 = 11;

/// Bytes that an event adds to a response.
pub fn event_len<R: StoredKv>(record: &R, prev: Option<&R>) -> usize {
    pb::message_field_len(EVENTS, inner_len(record, prev))
}

/// Appends an event: a put, or a delete if `record` is a tombstone; `prev` is the version before, if asked
/// for and there.
pub fn push_event<R: StoredKv>(body: &mut Body<R>, record: &R, prev: Option<&R>) {
    pb::put_message_head(body.out(), EVENTS, inner_len(record, prev));
    record.is_tombstone().write(1, body.out());
    pb::put_message_head(body.out(), 2, record.kv_bytes().len());
    body.push_record(record);
    if let Some(prev) = prev {
        pb::put_message_head(body.out(), 3, prev.kv_bytes().len());
        body.push_record(prev);
    }
}

/// The same bytes on their own, to be shared by responses.
pub fn encode_event<R: StoredKv>(record: &R, prev: Option<&R>) -> Vec<u8> {
    let mut out = Vec::with_capacity(event_len(record, prev));
    pb::put_message_head(&mut out, EVENTS, inner_len(record, prev));
    record.is_tombstone().write(1, &mut out);
    for (number, kv) in [(2, Some(record)), (3, prev)] {
        if let Some(kv) = kv {
            pb::put_message_head(&mut out, number, kv.kv_bytes().len());
            out.extend_from_slice(kv.kv_bytes());
        }
    }
    out
}

// Event.type is PUT 0 or DELETE 1: the flag itself.
fn inner_len<R: StoredKv>(record: &R, prev: Option<&R>) -> usize {
    let prev = prev.map_or(0, |prev| pb::message_field_len(3, prev.kv_bytes().len()));
    record.is_tombstone().field_len(1) + pb::message_field_len(2, record.kv_bytes().len()) + prev
}
