//! From fields to header blocks. Stateless: nothing enters the peer's dynamic table, so blocks may be
//! made ahead of time and sent in any order.

use super::tables::STATIC_TABLE;

/// A dynamic table size update to 0 (RFC 7541, section 6.3), owed at the head of the next block after
/// the peer lowered SETTINGS_HEADER_TABLE_SIZE (section 4.2).
pub const TABLE_SIZE_ZERO: u8 = 0x20;

/// Appends an indexed field when the static table has it whole, else a literal that is not indexed, its
/// name by index where the static table has it.
pub fn field(target: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut name_index = 0;
    for (position, (static_name, static_value)) in STATIC_TABLE.iter().enumerate() {
        if *static_name != name {
            continue;
        }
        if *static_value == value && !value.is_empty() {
            integer(target, 0x80, 7, position + 1);
            return;
        }
        if name_index == 0 {
            name_index = position + 1;
        }
    }
    integer(target, 0x00, 4, name_index);
    if name_index == 0 {
        string(target, name);
    }
    string(target, value);
}

fn string(target: &mut Vec<u8>, bytes: &[u8]) {
    integer(target, 0x00, 7, bytes.len());
    target.extend_from_slice(bytes);
}

/// Section 5.1, below the bits of `pattern`.
fn integer(target: &mut Vec<u8>, pattern: u8, prefix_bits: u8, value: usize) {
    let prefix_max = (1_usize << prefix_bits) - 1;
    if value < prefix_max {
        target.push(pattern | value as u8);
        return;
    }
    target.push(pattern | prefix_max as u8);
    let mut left = value - prefix_max;
    while left >= 0x80 {
        target.push(left as u8 | 0x80);
        left >>= 7;
    }
    target.push(left as u8);
}
