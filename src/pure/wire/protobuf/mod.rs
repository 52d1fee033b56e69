//! Protobuf's wire format: fields out of bytes, bytes out of fields.
//!
//! Owns: nothing. Takes: message bytes; numbers and byte strings to append. Gives: fields as values, bytes.
//! Always true: the reader accepts what Go's protobuf runtime (etcd 3.7) accepts and refuses what it
//! refuses; it never reads past the message, never allocates for a message without groups; the writer
//! writes minimal varints.
//! Not here: which fields a message has (`api`).
//!
//! A field that comes with another wire type than its message declares is an unknown field to Go's
//! runtime. Callers get this for nothing: they match on number and [`Value`] together and let the rest
//! fall through.

mod write;

use std::fmt;

use crate::limits::request::PROTOBUF_DEPTH_MAX;

pub use write::{
    BYTES, VARINT, bytes_field_len, int_field_len, key_len, message_field_len, put_bytes_field,
    put_int_field, put_key, put_message_head, put_uint_field, put_varint, sign_extended, uint_field_len,
    varint_len,
};

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Cut short, a varint of more than 64 bits, a bad field number or wire type, a stray group end.
    Malformed,
    /// A `string` field that isn't UTF-8.
    InvalidUtf8,
    /// Messages or groups nested deeper than the decoder's bound.
    TooDeep,
}

impl fmt::Display for DecodeError {
    /// Go's texts. Its "proto:" is followed by a space or, at random per build, a no-break space: we
    /// always write the space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::Malformed => "proto: cannot parse invalid wire-format data",
            DecodeError::InvalidUtf8 => "string field contains invalid UTF-8",
            DecodeError::TooDeep => "proto: exceeded maximum recursion depth",
        })
    }
}

impl std::error::Error for DecodeError {}

/// The payload of a field as its wire type tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0: all integers, bools and enums.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: bytes, strings, messages, packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4: a group, already skipped as a whole.
    Group,
    /// Wire type 5.
    Fixed32(u32),
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number, 1 to 2^29 - 1.
    pub number: u32,
    /// Its payload.
    pub value: Value<'a>,
}

/// Walks the fields of one message.
///
/// ```
/// use etchd::pure::wire::protobuf::{Reader, Value};
/// let mut reader = Reader::new(b"\x0a\x03foo\x10\x07");
/// while let Some(field) = reader.next().unwrap() {
///     match (field.number, field.value) {
///         (1, Value::Bytes(name)) => assert_eq!(name, b"foo"),
///         (2, Value::Varint(count)) => assert_eq!(count, 7),
///         _ => {} // unknown
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `message`.
    #[inline]
    pub fn new(message: &'a [u8]) -> Reader<'a> {
        Reader { rest: message }
    }

    /// True at the end of the message.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field, `None` at the end. After an error the reader's position means nothing.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator of results invites to skip errors")]
    pub fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            2 => Value::Bytes(self.bytes()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            3 => {
                self.skip_group(number)?;
                Value::Group
            }
            // 4 ends a group that nobody began; 6 and 7 do not exist.
            _ => return Err(DecodeError::Malformed),
        };
        Ok(Some(Field { number, value }))
    }

    /// A varint, of any length up to ten bytes; bits above the 64th are an error.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        match *self.rest {
            [first, ref rest @ ..] if first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(first))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().copied().take(10).enumerate() {
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed)
    }

    #[inline]
    fn key(&mut self) -> Result<(u32, u8), DecodeError> {
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(DecodeError::Malformed);
        }
        Ok((number as u32, (key & 7) as u8))
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Malformed)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    /// Skips to behind the end of group `number`. Open groups are a list, not a call stack, so that
    /// hostile nesting costs four bytes a level.
    fn skip_group(&mut self, number: u32) -> Result<(), DecodeError> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let (number, wire_type) = self.key()?;
            match wire_type {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => drop(self.bytes()?),
                5 => drop(self.array::<4>()?),
                3 if open.len() >= PROTOBUF_DEPTH_MAX => return Err(DecodeError::TooDeep),
                3 => open.push(number),
                4 if number == innermost => drop(open.pop()),
                _ => return Err(DecodeError::Malformed),
            }
        }
        Ok(())
    }
}

/// The elements of a repeated number field that came packed.
pub fn packed_varints(bytes: &[u8], mut each: impl FnMut(u64)) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        each(reader.varint()?);
    }
    Ok(())
}

/// A `string` field's text.
pub fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8)
}

/// How many more messages may be nested below a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Depth(usize);

impl Depth {
    /// What a message from outside gets.
    pub const REQUEST: Depth = Depth(PROTOBUF_DEPTH_MAX);

    /// `self` and `more` levels, for what wraps a message already accepted.
    pub const fn plus(self, more: usize) -> Depth {
        Depth(self.0 + more)
    }

    /// What a message nested in this one gets; an error at the bound.
    #[inline]
    pub fn inside(self) -> Result<Depth, DecodeError> {
        // The outermost message counts as one level, as in Go.
        if self.0 <= 1 { Err(DecodeError::TooDeep) } else { Ok(Depth(self.0 - 1)) }
    }
}

const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

#[cfg(test)]
mod tests;
