//! A record: one change of one key as it lies in a segment.
//!
//! Owns: the layout. Takes: the parts of a change. Gives: bytes; a [`RecordRef`] that reads them.
//! Always true: a record never changes; its `KeyValue` message is the one that etcd would store and send.
//! Not here: where records lie (`segments`).
//!
//! Layout, little-endian: length u32 (of all), crc32c u32 (of all that follows), kind u32, sub u32,
//! main i64, create i64, version i64, lease i64, key offset u32, key length u32, value offset u32,
//! value length u32, then the message. Offsets count from the record's start.

use std::sync::Arc;

use crate::pure::types::{LeaseId, Revision};
use crate::stdx::append::{AppendBuf, Appender};

use super::Version;
use super::segments::Position;

/// Bytes before the message.
pub(super) const HEADER_BYTES: usize = 64;

const KIND_PUT: u32 = 1;
const KIND_TOMBSTONE: u32 = 2;

const CRC_AT: usize = 4;
const KIND_AT: usize = 8;
const SUB_AT: usize = 12;
const MAIN_AT: usize = 16;
const CREATE_AT: usize = 24;
const VERSION_AT: usize = 32;
const LEASE_AT: usize = 40;
const KEY_AT: usize = 48;
const VALUE_AT: usize = 56;

/// What a record is made of.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub sub: i64,
    /// Its `addr` means nothing yet.
    pub version: Version,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// A few bytes on the stack, for tags and numbers between key and value.
struct Small {
    bytes: [u8; Small::MAX],
    len: usize,
}

impl Small {
    /// Four tags and four numbers.
    const MAX: usize = 4 * 11;

    fn new() -> Small {
        Small { bytes: [0; Small::MAX], len: 0 }
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            self.bytes[self.len] = if value == 0 { low } else { low | 0x80 };
            self.len += 1;
            if value == 0 {
                return;
            }
        }
    }

    /// A number, left out if zero as in every proto3 encoder.
    fn number(&mut self, tag: u8, value: i64) {
        if value != 0 {
            self.varint(u64::from(tag));
            self.varint(value.cast_unsigned());
        }
    }

    fn bytes_head(&mut self, tag: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.varint(u64::from(tag));
            self.varint(bytes.len() as u64);
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Change<'_> {
    /// An upper bound of the record's length.
    pub fn bytes_max(&self) -> usize {
        HEADER_BYTES + self.key.len() + self.value.len() + 3 * Small::MAX
    }

    /// Appends the record; returns its offset and length. It must fit.
    pub fn append(&self, target: &mut Appender) -> (usize, usize) {
        let Version { main, create, version, lease, .. } = self.version;
        let (mut head, mut middle, mut tail) = (Small::new(), Small::new(), Small::new());
        head.bytes_head(0x0a, self.key);
        middle.number(0x10, create);
        middle.number(0x18, main);
        middle.number(0x20, version);
        middle.bytes_head(0x2a, self.value);
        tail.number(0x30, lease);

        let key_at = HEADER_BYTES + head.len;
        let value_at = key_at + self.key.len() + middle.len;
        let length = value_at + self.value.len() + tail.len;
        let number = |size: usize| u32::try_from(size).expect("a record is smaller than 4 GiB").to_le_bytes();
        let kind = if create == 0 { KIND_TOMBSTONE } else { KIND_PUT };
        let sub = u32::try_from(self.sub).expect("a transaction has fewer than 2^32 changes");

        let mut header = [0; HEADER_BYTES];
        header[..CRC_AT].copy_from_slice(&number(length));
        header[KIND_AT..SUB_AT].copy_from_slice(&kind.to_le_bytes());
        header[SUB_AT..MAIN_AT].copy_from_slice(&sub.to_le_bytes());
        header[MAIN_AT..CREATE_AT].copy_from_slice(&main.to_le_bytes());
        header[CREATE_AT..VERSION_AT].copy_from_slice(&create.to_le_bytes());
        header[VERSION_AT..LEASE_AT].copy_from_slice(&version.to_le_bytes());
        header[LEASE_AT..KEY_AT].copy_from_slice(&lease.to_le_bytes());
        header[KEY_AT..KEY_AT + 4].copy_from_slice(&number(key_at));
        header[KEY_AT + 4..VALUE_AT].copy_from_slice(&number(self.key.len()));
        header[VALUE_AT..VALUE_AT + 4].copy_from_slice(&number(value_at));
        header[VALUE_AT + 4..].copy_from_slice(&number(self.value.len()));

        let message = [head.as_slice(), self.key, middle.as_slice(), self.value, tail.as_slice()];
        let crc = message
            .iter()
            .fold(crc32c::crc32c(&header[KIND_AT..]), |crc, part| crc32c::crc32c_append(crc, part));
        header[CRC_AT..KIND_AT].copy_from_slice(&crc.to_le_bytes());
        let [head, key, middle, value, tail] = message;
        let offset = target.append(&[&header, head, key, middle, value, tail]);
        (offset, length)
    }
}

/// A record, kept alive by its segment: the very `KeyValue` message that goes on the wire.
/// Cheap to clone (one reference count); may be sent to any thread.
#[derive(Clone)]
pub struct RecordRef {
    segment: Arc<AppendBuf>,
    start: u32,
    length: u32,
}

impl RecordRef {
    /// The record at `offset`.
    pub(super) fn open(segment: Arc<AppendBuf>, offset: usize) -> RecordRef {
        let bytes = &segment.bytes()[offset..];
        let length = u32_at(bytes, 0);
        let bytes = &bytes[..length as usize];
        debug_assert_eq!(crc32c::crc32c(&bytes[KIND_AT..]), u32_at(bytes, CRC_AT), "a record is whole");
        assert!(bytes.len() >= HEADER_BYTES, "a record begins at the offset");
        RecordRef { segment, start: offset as u32, length }
    }

    /// The whole record, header included, as it is copied from segment to segment.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.segment.bytes()[self.start as usize..][..self.length as usize]
    }

    pub(super) fn position(&self) -> Position {
        Position { main: self.main(), sub: self.sub() }
    }

    /// The message of a tombstone as etcd stores it (and hashes it): the key alone.
    pub(super) fn stored_value(&self) -> &[u8] {
        if !self.is_tombstone() {
            return self.kv_bytes();
        }
        let bytes = self.bytes();
        &bytes[HEADER_BYTES..(u32_at(bytes, KEY_AT) + u32_at(bytes, KEY_AT + 4)) as usize]
    }

    /// The encoded `mvccpb.KeyValue` (a tombstone's holds key and, as events show it, mod_revision).
    pub fn kv_bytes(&self) -> &[u8] {
        &self.bytes()[HEADER_BYTES..]
    }

    /// Main revision.
    pub fn main(&self) -> Revision {
        i64_at(self.bytes(), MAIN_AT)
    }

    /// Sub-revision: ordinal of the change in its transaction.
    pub fn sub(&self) -> i64 {
        i64::from(u32_at(self.bytes(), SUB_AT))
    }

    /// True if the record is a delete.
    pub fn is_tombstone(&self) -> bool {
        u32_at(self.bytes(), KIND_AT) == KIND_TOMBSTONE
    }

    fn part(&self, at: usize) -> &[u8] {
        let bytes = self.bytes();
        &bytes[u32_at(bytes, at) as usize..][..u32_at(bytes, at + 4) as usize]
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.part(KEY_AT)
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        self.part(VALUE_AT)
    }

    /// Create revision; 0 for a tombstone. Equal to `main()` for a create.
    pub fn create(&self) -> Revision {
        i64_at(self.bytes(), CREATE_AT)
    }

    /// Version counter; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        i64_at(self.bytes(), VERSION_AT)
    }

    /// Attached lease.
    pub fn lease(&self) -> LeaseId {
        i64_at(self.bytes(), LEASE_AT)
    }
}

/// Position and length of the record at the front of `bytes`.
pub(super) fn peek(bytes: &[u8]) -> (Position, usize) {
    let position = Position { main: i64_at(bytes, MAIN_AT), sub: i64::from(u32_at(bytes, SUB_AT)) };
    (position, u32_at(bytes, 0) as usize)
}

impl std::fmt::Debug for RecordRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_tombstone() { "delete" } else { "put" };
        let (key, value) = (self.key().escape_ascii(), self.value().escape_ascii());
        write!(f, "{}.{} {kind} {key}={value}", self.main(), self.sub())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a record has a whole header"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(*bytes[at..].first_chunk().expect("a record has a whole header"))
}
