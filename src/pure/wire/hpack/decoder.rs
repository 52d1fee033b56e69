//! From header blocks to fields.

use std::collections::VecDeque;

use super::huffman;
use super::tables::STATIC_TABLE;
use crate::limits::http2::{
    HEADER_LIST_BYTES_MAX, HPACK_SIZE_UPDATES_MAX, HPACK_TABLE_BYTES_MAX, KEPT_CAPACITY_BYTES,
};

/// What RFC 7541 section 4.1 adds to the size of every entry.
const ENTRY_OVERHEAD_BYTES: usize = 32;
/// Tags of the static table are found out on first use.
const UNKNOWN_TAG: u32 = u32::MAX;

/// Who reads the fields of a block.
pub trait FieldSink {
    /// Reduces a field to a number below `u32::MAX`. Depends on nothing but its arguments: the decoder
    /// keeps the number with a table entry and hands it back each time that the entry is used.
    fn classify(&self, name: &[u8], value: &[u8]) -> u32;

    /// A request's head begins: forget the last one, which may have been refused half-way.
    fn begin(&mut self);

    /// The next field of the block, with what `classify` said of it.
    fn field(&mut self, tag: u32, name: &[u8], value: &[u8]);
}

/// Why a block was refused. Both end the connection: the table is no longer in step with the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not HPACK: COMPRESSION_ERROR.
    Malformed,
    /// More fields than `HEADER_LIST_BYTES_MAX` allows.
    ListTooLarge,
}

/// The decoding side of one connection.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first, as the protocol counts them.
    entries: VecDeque<Entry>,
    /// Size of `entries` by RFC 7541 section 4.1, at most `table_bytes_max`.
    table_bytes: usize,
    /// What the peer last chose, at most `HPACK_TABLE_BYTES_MAX`.
    table_bytes_max: usize,
    static_tags: Box<[u32; STATIC_TABLE.len()]>,
    /// Decoded strings of one literal.
    scratch: Vec<u8>,
}

/// A field of the dynamic table.
#[derive(Debug)]
struct Entry {
    /// Name, then value.
    bytes: Vec<u8>,
    name_bytes: usize,
    tag: u32,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD_BYTES
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            entries: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: HPACK_TABLE_BYTES_MAX,
            static_tags: Box::new([UNKNOWN_TAG; STATIC_TABLE.len()]),
            scratch: Vec::new(),
        }
    }
}

impl Decoder {
    /// Decodes one complete block into `sink`. After an error the decoder is of no use.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl FieldSink) -> Result<(), DecodeError> {
        let mut rest = block;
        let mut list_bytes_left = HEADER_LIST_BYTES_MAX;
        let mut updates_left = HPACK_SIZE_UPDATES_MAX;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                updates_left = 0;
                let index = read_integer(&mut rest, 7)?;
                self.indexed(index, &mut list_bytes_left, sink)?;
            } else if first & 0xe0 == 0x20 {
                // Section 4.2: only at the beginning of a block.
                updates_left = updates_left.checked_sub(1).ok_or(DecodeError::Malformed)?;
                self.resize(read_integer(&mut rest, 5)?)?;
            } else {
                updates_left = 0;
                let (prefix_bits, keep) = if first & 0x40 != 0 { (6, true) } else { (4, false) };
                let index = read_integer(&mut rest, prefix_bits)?;
                self.literal(index, keep, &mut rest, &mut list_bytes_left, sink)?;
            }
        }
        if self.scratch.capacity() > KEPT_CAPACITY_BYTES {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    /// Size of the dynamic table by section 4.1.
    pub fn table_bytes(&self) -> usize {
        self.table_bytes
    }

    fn indexed(
        &mut self,
        index: usize,
        left: &mut usize,
        sink: &mut impl FieldSink,
    ) -> Result<(), DecodeError> {
        let position = index.checked_sub(1).ok_or(DecodeError::Malformed)?;
        if let Some(&(name, value)) = STATIC_TABLE.get(position) {
            charge(left, name.len() + value.len())?;
            let tag = &mut self.static_tags[position];
            if *tag == UNKNOWN_TAG {
                *tag = sink.classify(name, value);
            }
            sink.field(*tag, name, value);
            return Ok(());
        }
        let entry = self.entries.get(position - STATIC_TABLE.len()).ok_or(DecodeError::Malformed)?;
        charge(left, entry.bytes.len())?;
        let (name, value) = entry.bytes.split_at(entry.name_bytes);
        sink.field(entry.tag, name, value);
        Ok(())
    }

    fn literal(
        &mut self,
        name_index: usize,
        keep: bool,
        rest: &mut &[u8],
        left: &mut usize,
        sink: &mut impl FieldSink,
    ) -> Result<(), DecodeError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if name_index == 0 {
            read_string(rest, &mut scratch, *left)?;
        } else {
            scratch.extend_from_slice(self.name(name_index)?);
        }
        let name_bytes = scratch.len();
        charge(left, name_bytes)?;
        read_string(rest, &mut scratch, *left)?;
        // The overhead of 32 was charged with the name.
        *left = left.checked_sub(scratch.len() - name_bytes).ok_or(DecodeError::ListTooLarge)?;
        let (name, value) = scratch.split_at(name_bytes);
        let tag = sink.classify(name, value);
        sink.field(tag, name, value);
        if keep {
            self.insert(&scratch, name_bytes, tag);
        }
        self.scratch = scratch;
        Ok(())
    }

    fn name(&self, index: usize) -> Result<&[u8], DecodeError> {
        let position = index.checked_sub(1).ok_or(DecodeError::Malformed)?;
        if let Some((name, _)) = STATIC_TABLE.get(position) {
            return Ok(name);
        }
        let entry = self.entries.get(position - STATIC_TABLE.len()).ok_or(DecodeError::Malformed)?;
        Ok(&entry.bytes[..entry.name_bytes])
    }

    /// Section 4.4: evict first, then insert; an entry larger than the table empties it and is dropped.
    fn insert(&mut self, bytes: &[u8], name_bytes: usize, tag: u32) {
        let size = bytes.len() + ENTRY_OVERHEAD_BYTES;
        let mut spare = self.shrink_to(self.table_bytes_max.saturating_sub(size)).unwrap_or_default();
        if size > self.table_bytes_max {
            return;
        }
        // The memory of an evicted entry serves the next: a steady stream of new values allocates nothing.
        spare.clear();
        spare.extend_from_slice(bytes);
        self.table_bytes += size;
        self.entries.push_front(Entry { bytes: spare, name_bytes, tag });
        assert!(self.table_bytes <= self.table_bytes_max, "the dynamic table keeps its bound");
    }

    fn resize(&mut self, bytes_max: usize) -> Result<(), DecodeError> {
        if bytes_max > HPACK_TABLE_BYTES_MAX {
            return Err(DecodeError::Malformed);
        }
        self.table_bytes_max = bytes_max;
        self.shrink_to(bytes_max);
        Ok(())
    }

    /// Evicts until at most `bytes_max` are left; gives the memory of the last evicted entry.
    fn shrink_to(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        let mut spare = None;
        while self.table_bytes > bytes_max {
            let entry = self.entries.pop_back().expect("a size above zero has an entry");
            self.table_bytes -= entry.size();
            spare = Some(entry.bytes);
        }
        spare
    }
}

fn charge(left: &mut usize, bytes: usize) -> Result<(), DecodeError> {
    *left = left.checked_sub(bytes + ENTRY_OVERHEAD_BYTES).ok_or(DecodeError::ListTooLarge)?;
    Ok(())
}

/// Section 5.1. Numbers of more than 28 bits are refused: nothing that long passes a bound of ours.
fn read_integer(rest: &mut &[u8], prefix_bits: u8) -> Result<usize, DecodeError> {
    let (&first, mut tail) = rest.split_first().ok_or(DecodeError::Malformed)?;
    let prefix_max = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(first) & prefix_max;
    if value == prefix_max {
        let mut shift = 0;
        loop {
            let (&octet, after) = tail.split_first().ok_or(DecodeError::Malformed)?;
            tail = after;
            if shift > 21 {
                return Err(DecodeError::Malformed);
            }
            value += usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = tail;
    Ok(value)
}

/// Section 5.2: a string, plain or in Huffman code, appended to `target`.
fn read_string(rest: &mut &[u8], target: &mut Vec<u8>, bytes_max: usize) -> Result<(), DecodeError> {
    let huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let bytes = read_integer(rest, 7)?;
    let (string, tail) = rest.split_at_checked(bytes).ok_or(DecodeError::Malformed)?;
    *rest = tail;
    if huffman {
        let fitted = huffman::decode(string, target, bytes_max).map_err(|_| DecodeError::Malformed)?;
        return if fitted { Ok(()) } else { Err(DecodeError::ListTooLarge) };
    }
    if bytes > bytes_max {
        return Err(DecodeError::ListTooLarge);
    }
    target.extend_from_slice(string);
    Ok(())
}
