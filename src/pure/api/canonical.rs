//! Whether a request's bytes are what every etcd would write for it.
//!
//! Owns: the shapes of the messages that clients put into the log. Takes: raw request bytes. Gives: yes or no.
//! Always true: bytes found canonical are equal to what encoding the decoded request gives, so every
//! decoder (Go's two runtimes, ours) reads them alike and none can choke on them.
//! Not here: what to do with bytes that are not (`log_payload` re-encodes).
//!
//! A member that can't decode a log entry stops, so a client's bytes go into the log as they are only
//! after this check: known fields, ascending, once each, minimal varints, nothing written that is zero
//! (but the member of a union), whole values.

use crate::limits::request::PROTOBUF_DEPTH_MAX;

/// The type of a field.
#[derive(Clone, Copy)]
pub enum Type {
    /// int64.
    Int64,
    /// uint64.
    Uint64,
    /// bool.
    Bool,
    /// An enum of 32 bits.
    Enum,
    /// bytes.
    Bytes,
    /// string.
    Text,
    /// A nested message.
    Message(&'static Shape),
}

/// How often a field comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// At most once, not if zero or empty (messages: also if empty).
    Single,
    /// Member of the message's only union.
    Union,
    /// Any number of times.
    Repeated,
}

/// One field.
#[derive(Clone, Copy)]
pub struct FieldShape {
    /// Its number.
    pub number: u32,
    /// Its name in the schema.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// How often it comes.
    pub label: Label,
}

/// A message's fields, ascending.
pub struct Shape {
    /// Its full name.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [FieldShape],
}

macro_rules! shapes {
    ($($constant:ident $message:literal {
        $($number:literal $name:ident $kind:ident $(($shape:ident))? $label:ident)*
    })*) => {
        $(
            #[doc = concat!("`", $message, "`")]
            pub static $constant: Shape = Shape {
                name: $message,
                fields: &[$(FieldShape {
                    number: $number,
                    name: stringify!($name),
                    kind: Type::$kind $((&$shape))?,
                    label: Label::$label,
                }),*],
            };
        )*
        /// All shapes, for comparison with the schema.
        #[cfg(test)]
        pub(super) static ALL: &[&Shape] = &[$(&$constant),*];
    };
}

shapes! {
    RANGE "etcdserverpb.RangeRequest" {
        1 key Bytes Single
        2 range_end Bytes Single
        3 limit Int64 Single
        4 revision Int64 Single
        5 sort_order Enum Single
        6 sort_target Enum Single
        7 serializable Bool Single
        8 keys_only Bool Single
        9 count_only Bool Single
        10 min_mod_revision Int64 Single
        11 max_mod_revision Int64 Single
        12 min_create_revision Int64 Single
        13 max_create_revision Int64 Single
    }
    PUT "etcdserverpb.PutRequest" {
        1 key Bytes Single
        2 value Bytes Single
        3 lease Int64 Single
        4 prev_kv Bool Single
        5 ignore_value Bool Single
        6 ignore_lease Bool Single
    }
    DELETE_RANGE "etcdserverpb.DeleteRangeRequest" {
        1 key Bytes Single
        2 range_end Bytes Single
        3 prev_kv Bool Single
    }
    COMPARE "etcdserverpb.Compare" {
        1 result Enum Single
        2 target Enum Single
        3 key Bytes Single
        4 version Int64 Union
        5 create_revision Int64 Union
        6 mod_revision Int64 Union
        7 value Bytes Union
        8 lease Int64 Union
        64 range_end Bytes Single
    }
    REQUEST_OP "etcdserverpb.RequestOp" {
        1 request_range Message(RANGE) Union
        2 request_put Message(PUT) Union
        3 request_delete_range Message(DELETE_RANGE) Union
        4 request_txn Message(TXN) Union
    }
    TXN "etcdserverpb.TxnRequest" {
        1 compare Message(COMPARE) Repeated
        2 success Message(REQUEST_OP) Repeated
        3 failure Message(REQUEST_OP) Repeated
    }
    COMPACTION "etcdserverpb.CompactionRequest" {
        1 revision Int64 Single
        2 physical Bool Single
    }
    LEASE_GRANT "etcdserverpb.LeaseGrantRequest" {
        1 TTL Int64 Single
        2 ID Int64 Single
    }
    LEASE_REVOKE "etcdserverpb.LeaseRevokeRequest" {
        1 ID Int64 Single
    }
    ALARM "etcdserverpb.AlarmRequest" {
        1 action Enum Single
        2 memberID Uint64 Single
        3 alarm Enum Single
    }
}

/// True if `message` is the canonical form of a message of this shape.
pub fn is_canonical(shape: &Shape, message: &[u8]) -> bool {
    check(shape, message, PROTOBUF_DEPTH_MAX).is_some()
}

// `None`: not canonical.
fn check(shape: &Shape, mut rest: &[u8], depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let mut last = 0;
    let mut union_seen = false;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let number = u32::try_from(key >> 3).ok()?;
        let field = shape.fields.iter().find(|field| field.number == number)?;
        let again = number == last && field.label == Label::Repeated;
        if number <= last && !again {
            return None;
        }
        last = number;
        if field.label == Label::Union && std::mem::replace(&mut union_seen, true) {
            return None;
        }
        let zero_allowed = field.label != Label::Single;
        match (field.kind, key & 7) {
            (Type::Int64 | Type::Uint64 | Type::Bool | Type::Enum, 0) => {
                let value = varint(&mut rest)?;
                let fits = match field.kind {
                    Type::Bool => value <= 1,
                    // Other decoders may cut off high bits elsewhere than we do.
                    Type::Enum => i32::try_from(value.cast_signed()).is_ok(),
                    _ => true,
                };
                if !fits || value == 0 && !zero_allowed {
                    return None;
                }
            }
            (Type::Bytes | Type::Text | Type::Message(_), 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, behind) = rest.split_at_checked(length)?;
                rest = behind;
                match field.kind {
                    Type::Message(shape) => check(shape, bytes, depth)?,
                    Type::Text if std::str::from_utf8(bytes).is_err() => return None,
                    _ if length == 0 && !zero_allowed => return None,
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    Some(())
}

/// A varint without needless bytes.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().copied().take(10).enumerate() {
        if index == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return if byte == 0 && index > 0 { None } else { Some(value) };
        }
    }
    None
}
