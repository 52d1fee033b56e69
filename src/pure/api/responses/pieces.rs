//! A message as a list of pieces: small things copied together, large stored records by reference.

use super::StoredKv;
use crate::limits::response::RECORD_COPIED_BYTES_MAX;
use crate::pure::mvcc::RecordRef;

/// A run of a message's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<R = RecordRef> {
    /// Bytes of its own.
    Bytes(Vec<u8>),
    /// The `kv_bytes` of a record, to be sent from where they lie; holds the record meanwhile.
    Record(R),
}

/// A message being written.
#[derive(Clone, Debug)]
pub struct Body<R = RecordRef> {
    pieces: Vec<Piece<R>>,
    /// Bytes behind the last record.
    tail: Vec<u8>,
    /// Bytes in `pieces`.
    closed: usize,
    head: usize,
}

impl<R: StoredKv> Body<R> {
    /// An empty message. Its first piece begins with `head` zero bytes which are not part of the message:
    /// room for the frame that the caller fills in when it knows the length.
    pub fn new(head: usize) -> Body<R> {
        Body { pieces: Vec::new(), tail: vec![0; head], closed: 0, head }
    }

    /// As `new`, with room for `capacity` bytes of the message.
    pub fn with_capacity(head: usize, capacity: usize) -> Body<R> {
        let mut tail = Vec::with_capacity(head + capacity);
        tail.resize(head, 0);
        Body { pieces: Vec::new(), tail, closed: 0, head }
    }

    /// Length of the message so far, without the head.
    pub fn message_len(&self) -> usize {
        self.closed + self.tail.len() - self.head
    }

    /// Where to append bytes.
    #[inline]
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a record's `KeyValue`.
    #[inline]
    pub fn push_record(&mut self, record: &R) {
        let bytes = record.kv_bytes();
        if bytes.len() <= RECORD_COPIED_BYTES_MAX {
            self.tail.extend_from_slice(bytes);
            return;
        }
        self.closed += self.tail.len() + bytes.len();
        if !self.tail.is_empty() {
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.tail)));
        }
        self.pieces.push(Piece::Record(record.clone()));
    }

    /// The pieces in order, and the length of the message (the head not counted).
    pub fn finish(mut self) -> (Vec<Piece<R>>, usize) {
        let length = self.message_len();
        if !self.tail.is_empty() {
            self.pieces.push(Piece::Bytes(self.tail));
        }
        (self.pieces, length)
    }
}

impl<R: StoredKv> Piece<R> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Record(record) => record.kv_bytes(),
        }
    }
}
