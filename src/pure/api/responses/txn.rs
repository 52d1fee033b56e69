//! Responses of the key space, alone and nested in a transaction's.

use super::{Body, ResponseHeader, StoredKv};
use crate::pure::api::codec::{Encode, WriteField};
use crate::pure::mvcc::RecordRef;
use crate::pure::wire::protobuf as pb;

/// Whether a range sends values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// All fields.
    Kept,
    /// `keys_only`. Etcd 3.7 answers such a range from its index, which knows no leases, unless it sorts
    /// by value: then the lease stays.
    Stripped {
        /// Whether the lease stays.
        lease: bool,
    },
}

impl Values {
    /// How a request's flags are answered; `sort_target` by its wire number.
    pub fn of(keys_only: bool, sort_target: i32) -> Values {
        const VALUE: i32 = 4;
        if keys_only { Values::Stripped { lease: sort_target == VALUE } } else { Values::Kept }
    }
}

/// Answer to Range.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct RangeResponse<R = RecordRef> {
    /// `None` only in the chunks of a RangeStream that are not its last.
    pub header: Option<ResponseHeader>,
    /// `kvs`.
    pub records: Vec<R>,
    pub values: Values,
    pub more: bool,
    pub count: i64,
}

/// Answer to Put.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct PutResponse<R = RecordRef> {
    pub header: ResponseHeader,
    pub prev_kv: Option<R>,
}

/// Answer to DeleteRange.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct DeleteRangeResponse<R = RecordRef> {
    pub header: ResponseHeader,
    pub deleted: i64,
    pub prev_kvs: Vec<R>,
}

/// Answer to Txn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are etcd's own")]
pub struct TxnResponse<R = RecordRef> {
    /// Of a nested one: empty ([`ResponseHeader::default`]).
    pub header: ResponseHeader,
    pub succeeded: bool,
    pub responses: Vec<ResponseOp<R>>,
}

/// One answer inside a Txn's. Headers of the first three: [`ResponseHeader::nested`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are etcd's own")]
pub enum ResponseOp<R = RecordRef> {
    Range(RangeResponse<R>),
    Put(PutResponse<R>),
    DeleteRange(DeleteRangeResponse<R>),
    Txn(TxnResponse<R>),
}

impl<R: StoredKv> RangeResponse<R> {
    /// Bytes of the message.
    pub fn encoded_len(&self) -> usize {
        let header = self.header.map_or(0, |header| header.field_len(1));
        let records = self.records.iter().map(|record| self.record_field_len(record));
        header + records.sum::<usize>() + self.more.field_len(3) + self.count.field_len(4)
    }

    /// Appends the message.
    pub fn encode(&self, body: &mut Body<R>) {
        self.encode_head(body);
        for record in &self.records {
            self.encode_record(record, body);
        }
        self.encode_tail(body);
    }

    /// What comes before the records.
    pub fn encode_head(&self, body: &mut Body<R>) {
        if let Some(header) = self.header {
            header.write(1, body.out());
        }
    }

    /// One record, as if it were among `records`.
    pub fn encode_record(&self, record: &R, body: &mut Body<R>) {
        pb::put_message_head(body.out(), 2, self.record_len(record));
        match self.values {
            Values::Kept => body.push_record(record),
            Values::Stripped { lease } => stripped(record, lease).encode(body.out()),
        }
    }

    /// What comes after the records.
    pub fn encode_tail(&self, body: &mut Body<R>) {
        self.more.write(3, body.out());
        self.count.write(4, body.out());
    }

    /// Bytes that [`RangeResponse::encode_record`] appends.
    pub fn record_field_len(&self, record: &R) -> usize {
        pb::message_field_len(2, self.record_len(record))
    }

    fn record_len(&self, record: &R) -> usize {
        match self.values {
            Values::Kept => record.kv_bytes().len(),
            Values::Stripped { lease } => stripped(record, lease).encoded_len(),
        }
    }
}

fn stripped<R: StoredKv>(record: &R, keep_lease: bool) -> super::KeyValue<'_> {
    let mut kv = record.without_value();
    if !keep_lease {
        kv.lease = 0;
    }
    kv
}

/// Appends a RangeStreamResponse around a range's answer.
pub fn range_stream_chunk<R: StoredKv>(chunk: &RangeResponse<R>, body: &mut Body<R>) {
    pb::put_message_head(body.out(), 1, chunk.encoded_len());
    chunk.encode(body);
}

impl<R: StoredKv> PutResponse<R> {
    /// Bytes of the message.
    pub fn encoded_len(&self) -> usize {
        let prev =
            self.prev_kv.as_ref().map_or(0, |record| pb::message_field_len(2, record.kv_bytes().len()));
        self.header.field_len(1) + prev
    }

    /// Appends the message.
    pub fn encode(&self, body: &mut Body<R>) {
        self.header.write(1, body.out());
        if let Some(record) = &self.prev_kv {
            pb::put_message_head(body.out(), 2, record.kv_bytes().len());
            body.push_record(record);
        }
    }
}

impl<R: StoredKv> DeleteRangeResponse<R> {
    /// Bytes of the message.
    pub fn encoded_len(&self) -> usize {
        let prev = self.prev_kvs.iter().map(|record| pb::message_field_len(3, record.kv_bytes().len()));
        self.header.field_len(1) + self.deleted.field_len(2) + prev.sum::<usize>()
    }

    /// Appends the message.
    pub fn encode(&self, body: &mut Body<R>) {
        self.header.write(1, body.out());
        self.deleted.write(2, body.out());
        for record in &self.prev_kvs {
            pb::put_message_head(body.out(), 3, record.kv_bytes().len());
            body.push_record(record);
        }
    }
}

impl<R: StoredKv> TxnResponse<R> {
    /// Bytes of the message.
    pub fn encoded_len(&self) -> usize {
        measure(self, &mut Vec::new())
    }

    /// Appends the message.
    pub fn encode(&self, body: &mut Body<R>) {
        let mut lengths = Vec::new();
        measure(self, &mut lengths);
        write(self, &mut lengths.into_iter(), body);
    }
}

// As for requests (`codec`): lengths are noted in one pass, in the order in which the other needs them,
// so that depth does not multiply the work. Each response in a transaction notes its own length, before
// those inside it.

fn measure<R: StoredKv>(txn: &TxnResponse<R>, lengths: &mut Vec<usize>) -> usize {
    let mut total = txn.header.field_len(1) + txn.succeeded.field_len(2);
    for op in &txn.responses {
        let slot = lengths.len();
        lengths.push(0);
        let (number, length) = match op {
            ResponseOp::Range(range) => (1, range.encoded_len()),
            ResponseOp::Put(put) => (2, put.encoded_len()),
            ResponseOp::DeleteRange(delete) => (3, delete.encoded_len()),
            ResponseOp::Txn(txn) => (4, measure(txn, lengths)),
        };
        lengths[slot] = length;
        total += pb::message_field_len(3, pb::message_field_len(number, length));
    }
    total
}

fn write<R: StoredKv>(txn: &TxnResponse<R>, lengths: &mut impl Iterator<Item = usize>, body: &mut Body<R>) {
    txn.header.write(1, body.out());
    txn.succeeded.write(2, body.out());
    for op in &txn.responses {
        let number = match op {
            ResponseOp::Range(_) => 1,
            ResponseOp::Put(_) => 2,
            ResponseOp::DeleteRange(_) => 3,
            ResponseOp::Txn(_) => 4,
        };
        let length = lengths.next().expect("measured");
        pb::put_message_head(body.out(), 3, pb::message_field_len(number, length));
        pb::put_message_head(body.out(), number, length);
        match op {
            ResponseOp::Range(range) => range.encode(body),
            ResponseOp::Put(put) => put.encode(body),
            ResponseOp::DeleteRange(delete) => delete.encode(body),
            ResponseOp::Txn(txn) => write(txn, lengths, body),
        }
    }
}
