//! Appending fields. Every `put_x` has an `x_len` that says how many bytes it appends, so that lengths
//! of nested messages are known before their bytes are written.
//!
//! The `*_field` helpers follow proto3: a zero number or an empty byte string leaves no trace. Members of a
//! `oneof` are written even when zero; callers do that with [`put_key`] and a value.

/// Wire type of integers, bools, enums.
pub const VARINT: u8 = 0;
/// Wire type of bytes, strings, messages.
pub const BYTES: u8 = 2;

/// Bytes of a varint.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    // ceil(bits / 7) without a division: 9/64 is close enough to 1/7 up to 64 bits.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a field's key.
#[inline]
pub const fn key_len(number: u32) -> usize {
    varint_len((number as u64) << 3)
}

/// Appends a field's key: number and wire type.
#[inline]
pub fn put_key(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// An integer as protobuf's int32, int64 and enums travel: sign-extended, so ten bytes if negative.
#[inline]
pub const fn sign_extended(value: i64) -> u64 {
    value.cast_unsigned()
}

/// Bytes of an unsigned field; none if zero.
#[inline]
pub const fn uint_field_len(number: u32, value: u64) -> usize {
    if value == 0 { 0 } else { key_len(number) + varint_len(value) }
}

/// Appends an unsigned field (also bools, as 1), unless it is zero.
#[inline]
pub fn put_uint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_key(out, number, VARINT);
        put_varint(out, value);
    }
}

/// Bytes of a signed field; none if zero.
#[inline]
pub const fn int_field_len(number: u32, value: i64) -> usize {
    uint_field_len(number, sign_extended(value))
}

/// Appends a signed field, unless it is zero.
#[inline]
pub fn put_int_field(out: &mut Vec<u8>, number: u32, value: i64) {
    put_uint_field(out, number, sign_extended(value));
}

/// Bytes of a bytes or string field; none if empty.
#[inline]
pub const fn bytes_field_len(number: u32, length: usize) -> usize {
    if length == 0 { 0 } else { message_field_len(number, length) }
}

/// Appends a bytes or string field, unless it is empty.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message_head(out, number, bytes.len());
        out.extend_from_slice(bytes);
    }
}

/// Bytes of a nested message of `length` bytes with its key and length; present even if empty.
#[inline]
pub const fn message_field_len(number: u32, length: usize) -> usize {
    key_len(number) + varint_len(length as u64) + length
}

/// Appends key and length of a nested message; its bytes follow.
#[inline]
pub fn put_message_head(out: &mut Vec<u8>, number: u32, length: usize) {
    put_key(out, number, BYTES);
    put_varint(out, length as u64);
}
