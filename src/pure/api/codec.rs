//! Requests from and to protobuf.
//!
//! Owns: nothing. Takes: message bytes, typed requests. Gives: typed requests whose byte fields share the
//! message's buffer, message bytes.
//! Always true: `decode(encode(x)) == x`; encoding is what Go writes (ascending numbers, no zero fields);
//! a field twice is merged as Go merges it (scalars: the last; messages and equal members of a union:
//! field by field; other members of a union: replaced; repeated: appended).
//! Not here: whether a request makes sense (`validate`).

use bytes::Bytes;

use super::requests::*;
use super::status::Status;
use super::validate;
use crate::pure::wire::protobuf::{self as pb, DecodeError, Depth, Field, Reader, Value};

/// A message that can be read.
pub trait Decode: Default {
    /// Reads the fields of a message into `self`, over what is there.
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError>;
}

/// A message that can be written.
pub trait Encode {
    /// Bytes that `encode` appends.
    fn encoded_len(&self) -> usize;
    /// Appends the message.
    fn encode(&self, out: &mut Vec<u8>);
}

/// Bytes of a message, the buffer that they lie in, and how deep the message may still nest.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    buffer: &'a Bytes,
    message: &'a [u8],
    depth: Depth,
    /// What is left of the operations that a transaction may have; `UNBOUNDED` if nobody will refuse it for that.
    ops_left: usize,
}

const UNBOUNDED: usize = usize::MAX;

impl<'a> Source<'a> {
    /// All of `message`, at the outermost level.
    pub fn whole(message: &'a Bytes, depth: Depth) -> Source<'a> {
        Source { buffer: message, message, depth, ops_left: UNBOUNDED }
    }

    /// A message nested in this one.
    pub(super) fn nested(self, message: &'a [u8]) -> Result<Source<'a>, DecodeError> {
        Ok(Source { message, depth: self.depth.inside()?, ..self })
    }

    pub(super) fn reader(self) -> Reader<'a> {
        Reader::new(self.message)
    }
}

/// Decodes a request.
pub fn decode<M: Decode>(message: &Bytes) -> Result<M, DecodeError> {
    decode_from(Source::whole(message, Depth::REQUEST))
}

/// As [`decode_request`], for a transaction that [`super::validate::validate_txn`] is going to check with `ops_max`. Of
/// one that it will refuse not much more is kept than it needs for that, with the same status: lists as far as they
/// show that they are too long, and of what follows a fault only that it is there. So a message of empty
/// operations, which may be a million, takes no memory.
pub fn decode_txn(message: &Bytes, ops_max: usize) -> Result<TxnRequest, Status> {
    let source = Source { ops_left: ops_max.min(UNBOUNDED - 1), ..Source::whole(message, Depth::REQUEST) };
    decode_from(source).map_err(Status::undecodable_request)
}

/// As [`decode`], with the status that etcd answers on a unary call (for messages of streams see
/// [`Status::undecodable_message`]).
pub fn decode_request<M: Decode>(message: &Bytes) -> Result<M, Status> {
    decode(message).map_err(Status::undecodable_request)
}

/// Decodes a message inside a buffer.
pub(super) fn decode_from<M: Decode>(from: Source<'_>) -> Result<M, DecodeError> {
    let mut message = M::default();
    message.merge(from)?;
    Ok(message)
}

/// Encodes a message on its own.
pub fn encode<M: Encode>(message: &M) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.encoded_len());
    message.encode(&mut out);
    out
}

/// A field's type, to read. A value of another wire type is ignored, as if the field were unknown.
trait ReadField {
    fn read(&mut self, value: Value<'_>, from: Source<'_>) -> Result<(), DecodeError>;
}

/// A field's type, to write.
pub(super) trait WriteField {
    /// Bytes of the field with its key; 0 if it isn't written.
    fn field_len(&self, number: u32) -> usize;
    /// Appends the field.
    fn write(&self, number: u32, out: &mut Vec<u8>);
}

impl ReadField for Bytes {
    #[inline]
    fn read(&mut self, value: Value<'_>, from: Source<'_>) -> Result<(), DecodeError> {
        if let Value::Bytes(bytes) = value {
            *self = from.buffer.slice_ref(bytes);
        }
        Ok(())
    }
}

impl WriteField for Bytes {
    #[inline]
    fn field_len(&self, number: u32) -> usize {
        pb::bytes_field_len(number, Bytes::len(self))
    }
    #[inline]
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        pb::put_bytes_field(out, number, self);
    }
}

impl ReadField for String {
    fn read(&mut self, value: Value<'_>, _: Source<'_>) -> Result<(), DecodeError> {
        if let Value::Bytes(bytes) = value {
            *self = pb::text(bytes)?.to_owned();
        }
        Ok(())
    }
}

impl WriteField for String {
    fn field_len(&self, number: u32) -> usize {
        pb::bytes_field_len(number, String::len(self))
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        pb::put_bytes_field(out, number, self.as_bytes());
    }
}

impl ReadField for Vec<String> {
    fn read(&mut self, value: Value<'_>, _: Source<'_>) -> Result<(), DecodeError> {
        if let Value::Bytes(bytes) = value {
            self.push(pb::text(bytes)?.to_owned());
        }
        Ok(())
    }
}

impl WriteField for Vec<String> {
    fn field_len(&self, number: u32) -> usize {
        self.iter().map(|text| pb::message_field_len(number, text.len())).sum()
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for text in self {
            pb::put_message_head(out, number, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Integers of all widths: read by cutting off what is too wide, written sign-extended.
macro_rules! integer_scalar {
    ($($type:ty, $from:expr, $to:expr;)*) => {$(
        impl ReadField for $type {
            #[inline]
            fn read(&mut self, value: Value<'_>, _: Source<'_>) -> Result<(), DecodeError> {
                if let Value::Varint(number) = value {
                    *self = $from(number);
                }
                Ok(())
            }
        }

        impl WriteField for $type {
            #[inline]
            fn field_len(&self, number: u32) -> usize {
                pb::uint_field_len(number, $to(*self))
            }
            #[inline]
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                pb::put_uint_field(out, number, $to(*self));
            }
        }
    )*};
}

integer_scalar! {
    i64, u64::cast_signed, pb::sign_extended;
    u64, std::convert::identity, std::convert::identity;
    i32, |number: u64| number as i32, |value: i32| pb::sign_extended(i64::from(value));
    bool, |number: u64| number != 0, u64::from;
}

/// Codecs of messages whose fields are all scalars: number and field, ascending.
macro_rules! flat_messages {
    ($($type:ident { $($number:literal $field:ident)* })*) => {$(
        impl Decode for $type {
            #[allow(clippy::allow_attributes, unused_variables, clippy::match_single_binding, reason = "empty messages")]
            fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
                let mut reader = from.reader();
                while let Some(Field { number, value }) = reader.next()? {
                    match number {
                        $($number => ReadField::read(&mut self.$field, value, from)?,)*
                        _ => {}
                    }
                }
                Ok(())
            }
        }
        impl Encode for $type {
            fn encoded_len(&self) -> usize {
                0 $(+ WriteField::field_len(&self.$field, $number))*
            }
            #[allow(clippy::allow_attributes, unused_variables, reason = "empty messages")]
            fn encode(&self, out: &mut Vec<u8>) {
                $(WriteField::write(&self.$field, $number, out);)*
            }
        }
    )*};
}

flat_messages! {
    RangeRequest {
        1 key 2 range_end 3 limit 4 revision 5 sort_order 6 sort_target 7 serializable 8 keys_only
        9 count_only 10 min_mod_revision 11 max_mod_revision 12 min_create_revision 13 max_create_revision
    }
    PutRequest { 1 key 2 value 3 lease 4 prev_kv 5 ignore_value 6 ignore_lease }
    DeleteRangeRequest { 1 key 2 range_end 3 prev_kv }
    CompactionRequest { 1 revision 2 physical }
    LeaseGrantRequest { 1 ttl 2 id }
    LeaseRevokeRequest { 1 id }
    LeaseCheckpoint { 1 id 2 remaining_ttl }
    AlarmRequest { 1 action 2 member_id 3 alarm }
    WatchCreateRequest {
        1 key 2 range_end 3 start_revision 4 progress_notify 5 filters 6 prev_kv 7 watch_id 8 fragment
    }
    WatchCancelRequest { 1 watch_id }
    LeaseKeepAliveRequest { 1 id }
    LeaseTimeToLiveRequest { 1 id 2 keys }
    MemberListRequest { 1 linearizable }
    HashKvRequest { 1 revision }
    HealthCheckRequest { 1 service }
    EmptyRequest {}
}

impl ReadField for WatchFilters {
    fn read(&mut self, value: Value<'_>, _: Source<'_>) -> Result<(), DecodeError> {
        let mut add = |number: u64| match number as i32 {
            0 => self.no_put = true,
            1 => self.no_delete = true,
            _ => {}
        };
        match value {
            Value::Varint(number) => add(number),
            Value::Bytes(packed) => pb::packed_varints(packed, add)?,
            _ => {}
        }
        Ok(())
    }
}

impl WriteField for WatchFilters {
    fn field_len(&self, number: u32) -> usize {
        pb::bytes_field_len(number, usize::from(self.no_put) + usize::from(self.no_delete))
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        let (both, put, delete): (&[u8], &[u8], &[u8]) = (&[0, 1], &[0], &[1]);
        pb::put_bytes_field(
            out,
            number,
            match (self.no_put, self.no_delete) {
                (true, true) => both,
                (true, false) => put,
                (false, true) => delete,
                (false, false) => &[],
            },
        );
    }
}

impl<'a> PutView<'a> {
    /// Decodes a put where it lies, without allocation.
    pub fn decode(message: &'a [u8]) -> Result<PutView<'a>, DecodeError> {
        let mut put = PutView::default();
        let mut reader = Reader::new(message);
        while let Some(Field { number, value }) = reader.next()? {
            match (number, value) {
                (1, Value::Bytes(key)) => put.key = key,
                (2, Value::Bytes(value)) => put.value = value,
                (3, Value::Varint(lease)) => put.lease = lease.cast_signed(),
                (4, Value::Varint(flag)) => put.prev_kv = flag != 0,
                (5, Value::Varint(flag)) => put.ignore_value = flag != 0,
                (6, Value::Varint(flag)) => put.ignore_lease = flag != 0,
                _ => {}
            }
        }
        Ok(put)
    }

    /// A request that shares the buffer which this view points into.
    pub fn to_request(self, buffer: &Bytes) -> PutRequest {
        PutRequest {
            key: buffer.slice_ref(self.key),
            value: buffer.slice_ref(self.value),
            lease: self.lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

impl<'a> From<&'a PutRequest> for PutView<'a> {
    fn from(put: &'a PutRequest) -> PutView<'a> {
        PutView {
            key: &put.key,
            value: &put.value,
            lease: put.lease,
            prev_kv: put.prev_kv,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        }
    }
}

impl Encode for PutView<'_> {
    #[inline]
    fn encoded_len(&self) -> usize {
        pb::bytes_field_len(1, self.key.len())
            + pb::bytes_field_len(2, self.value.len())
            + pb::int_field_len(3, self.lease)
            + 2 * (usize::from(self.prev_kv)
                + usize::from(self.ignore_value)
                + usize::from(self.ignore_lease))
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        pb::put_bytes_field(out, 1, self.key);
        pb::put_bytes_field(out, 2, self.value);
        pb::put_int_field(out, 3, self.lease);
        pb::put_uint_field(out, 4, u64::from(self.prev_kv));
        pb::put_uint_field(out, 5, u64::from(self.ignore_value));
        pb::put_uint_field(out, 6, u64::from(self.ignore_lease));
    }
}

impl Decode for WatchRequest {
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
        let mut reader = from.reader();
        while let Some(Field { number, value }) = reader.next()? {
            let Value::Bytes(message) = value else { continue };
            *self = match number {
                1 => {
                    let mut create = match std::mem::take(self) {
                        WatchRequest::Create(create) => create,
                        _ => WatchCreateRequest::default(),
                    };
                    create.merge(from.nested(message)?)?;
                    WatchRequest::Create(create)
                }
                2 => {
                    let mut cancel = match std::mem::take(self) {
                        WatchRequest::Cancel(cancel) => cancel,
                        _ => WatchCancelRequest::default(),
                    };
                    cancel.merge(from.nested(message)?)?;
                    WatchRequest::Cancel(cancel)
                }
                3 => {
                    EmptyRequest.merge(from.nested(message)?)?;
                    WatchRequest::Progress
                }
                _ => continue,
            };
        }
        Ok(())
    }
}

impl Encode for WatchRequest {
    fn encoded_len(&self) -> usize {
        match self {
            WatchRequest::None => 0,
            WatchRequest::Create(create) => pb::message_field_len(1, create.encoded_len()),
            WatchRequest::Cancel(cancel) => pb::message_field_len(2, cancel.encoded_len()),
            WatchRequest::Progress => pb::message_field_len(3, 0),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            WatchRequest::None => {}
            WatchRequest::Create(create) => put_message(out, 1, create),
            WatchRequest::Cancel(cancel) => put_message(out, 2, cancel),
            WatchRequest::Progress => pb::put_message_head(out, 3, 0),
        }
    }
}

/// Appends a nested message with its key and length.
pub(super) fn put_message<M: Encode>(out: &mut Vec<u8>, number: u32, message: &M) {
    pb::put_message_head(out, number, message.encoded_len());
    message.encode(out);
}

impl Decode for Compare {
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
        let mut reader = from.reader();
        while let Some(Field { number, value }) = reader.next()? {
            match (number, value) {
                (1, Value::Varint(result)) => self.result = result as i32,
                (2, Value::Varint(target)) => self.target = target as i32,
                (3, value) => self.key.read(value, from)?,
                (4, Value::Varint(operand)) => {
                    self.operand = CompareOperand::Version(operand.cast_signed());
                }
                (5, Value::Varint(operand)) => {
                    self.operand = CompareOperand::CreateRevision(operand.cast_signed());
                }
                (6, Value::Varint(operand)) => {
                    self.operand = CompareOperand::ModRevision(operand.cast_signed());
                }
                (7, Value::Bytes(operand)) => {
                    self.operand = CompareOperand::Value(from.buffer.slice_ref(operand));
                }
                (8, Value::Varint(operand)) => self.operand = CompareOperand::Lease(operand.cast_signed()),
                (64, value) => self.range_end.read(value, from)?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Encode for Compare {
    fn encoded_len(&self) -> usize {
        // A union's member is on the wire even when it is zero.
        let operand = match &self.operand {
            CompareOperand::None => 0,
            CompareOperand::Version(operand)
            | CompareOperand::CreateRevision(operand)
            | CompareOperand::ModRevision(operand)
            | CompareOperand::Lease(operand) => 1 + pb::varint_len(operand.cast_unsigned()),
            CompareOperand::Value(operand) => pb::message_field_len(7, operand.len()),
        };
        self.result.field_len(1)
            + self.target.field_len(2)
            + self.key.field_len(3)
            + operand
            + self.range_end.field_len(64)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.result.write(1, out);
        self.target.write(2, out);
        self.key.write(3, out);
        let (number, operand) = match &self.operand {
            CompareOperand::None => (0, 0),
            CompareOperand::Version(operand) => (4, *operand),
            CompareOperand::CreateRevision(operand) => (5, *operand),
            CompareOperand::ModRevision(operand) => (6, *operand),
            CompareOperand::Lease(operand) => (8, *operand),
            CompareOperand::Value(operand) => {
                pb::put_message_head(out, 7, operand.len());
                out.extend_from_slice(operand);
                (0, 0)
            }
        };
        if number != 0 {
            pb::put_key(out, number, pb::VARINT);
            pb::put_varint(out, operand.cast_unsigned());
        }
        self.range_end.write(64, out);
    }
}

// RequestOp and TxnRequest call each other: `Depth` bounds how often. What they need of the stack is kept
// small by leaving everything but the recursion itself to functions that are not inlined (test
// `the_deepest_txn_fits_a_small_stack`).

impl Decode for RequestOp {
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
        merge_op(self, from).map(|_| ())
    }
}

/// Says, for a bounded transaction, whether the operation will be refused.
fn merge_op(op: &mut RequestOp, from: Source<'_>) -> Result<bool, DecodeError> {
    let mut reader = from.reader();
    // Of the transaction that the operation is by now.
    let mut is_refused = false;
    while let Some(Field { number, value }) = reader.next()? {
        let Value::Bytes(message) = value else { continue };
        match number {
            1..=3 => merge_leaf(op, number, from.nested(message)?)?,
            4 => {
                is_refused &= matches!(op, RequestOp::Txn(_));
                is_refused |= merge_txn(become_txn(op), from.nested(message)?)?;
            }
            _ => {}
        }
    }
    Ok(match op {
        _ if from.ops_left == UNBOUNDED => false,
        RequestOp::Txn(_) => is_refused,
        leaf => is_leaf_refused(leaf),
    })
}

#[inline(never)]
fn is_leaf_refused(op: &RequestOp) -> bool {
    validate::check_leaf(op).is_err()
}

#[inline(never)]
fn merge_leaf(op: &mut RequestOp, number: u32, from: Source<'_>) -> Result<(), DecodeError> {
    match (number, std::mem::take(op)) {
        (1, RequestOp::Range(mut range)) => {
            range.merge(from)?;
            *op = RequestOp::Range(range);
        }
        (1, _) => *op = RequestOp::Range(decode_from(from)?),
        (2, RequestOp::Put(mut put)) => {
            put.merge(from)?;
            *op = RequestOp::Put(put);
        }
        (2, _) => *op = RequestOp::Put(decode_from(from)?),
        (_, RequestOp::DeleteRange(mut delete)) => {
            delete.merge(from)?;
            *op = RequestOp::DeleteRange(delete);
        }
        _ => *op = RequestOp::DeleteRange(decode_from(from)?),
    }
    Ok(())
}

/// The transaction that `op` is, or now becomes.
#[inline(never)]
fn become_txn(op: &mut RequestOp) -> &mut TxnRequest {
    if !matches!(op, RequestOp::Txn(_)) {
        *op = RequestOp::Txn(TxnRequest::default());
    }
    let RequestOp::Txn(txn) = op else { unreachable!("set above") };
    txn
}

impl Decode for TxnRequest {
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
        merge_txn(self, from).map(|_| ())
    }
}

/// What is wrong with a bounded transaction, in the order in which it is checked: what comes after the first fault is
/// not looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A list is too long.
    Count,
    Compare,
    Success,
    Failure,
    #[default]
    None,
}

/// Says, for a bounded transaction, whether it will be refused.
fn merge_txn(txn: &mut TxnRequest, from: Source<'_>) -> Result<bool, DecodeError> {
    let mut reader = from.reader();
    let mut first = Fault::None;
    while let Some(Field { number, value }) = reader.next()? {
        let Value::Bytes(message) = value else { continue };
        let from = from.nested(message)?;
        let fault = match number {
            1 => push_compare(&mut txn.compare, from)?,
            2 | 3 => {
                let place = if number == 2 { Fault::Success } else { Fault::Failure };
                let (op, inside, too_many) = push_op(txn, place, first, from);
                let is_refused = merge_op(op, inside)?;
                forget_after(op, first <= place);
                match (too_many, is_refused) {
                    (true, _) => Fault::Count,
                    (false, true) => place,
                    (false, false) => Fault::None,
                }
            }
            _ => Fault::None,
        };
        first = first.min(fault);
    }
    Ok(first != Fault::None)
}

#[inline(never)]
fn push_compare(compares: &mut Vec<Compare>, from: Source<'_>) -> Result<Fault, DecodeError> {
    let compare: Compare = decode_from(from)?;
    if from.ops_left == UNBOUNDED {
        compares.push(compare);
        return Ok(Fault::None);
    }
    let is_refused = compare.key.is_empty();
    if compares.len() <= from.ops_left {
        compares.push(compare);
    }
    Ok(match compares.len() > from.ops_left {
        true => Fault::Count,
        false if is_refused => Fault::Compare,
        false => Fault::None,
    })
}

/// A new operation of a list, where its parts come from, and whether it is one too many. `first`: the transaction's
/// first fault so far.
#[inline(never)]
fn push_op<'t, 's>(
    txn: &'t mut TxnRequest,
    place: Fault,
    first: Fault,
    from: Source<'s>,
) -> (&'t mut RequestOp, Source<'s>, bool) {
    let others = txn.compare.len();
    let (ops, others) = match place {
        Fault::Success => (&mut txn.success, others.max(txn.failure.len())),
        _ => (&mut txn.failure, others.max(txn.success.len())),
    };
    if ops.len() > from.ops_left {
        // One too many is there already; this one only has to decode.
        ops.pop();
    }
    ops.push(RequestOp::None);
    let count = ops.len();
    let ops_left = match from.ops_left {
        UNBOUNDED => UNBOUNDED,
        // Nothing of it will be looked at.
        _ if first <= place => 0,
        // More may come, then it is less.
        left => left.saturating_sub(count.max(others)),
    };
    (ops.last_mut().expect("just pushed"), Source { ops_left, ..from }, count > from.ops_left)
}

#[inline(never)]
fn forget_after(op: &mut RequestOp, is_after_fault: bool) {
    if is_after_fault {
        *op = RequestOp::None;
    }
}

impl Encode for TxnRequest {
    fn encoded_len(&self) -> usize {
        measure_txn(self, &mut Vec::new())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut lengths = Vec::new();
        out.reserve(measure_txn(self, &mut lengths));
        write_txn(self, &mut lengths.into_iter().skip(1), out);
    }
}

// A nested transaction's length stands before it, so it is measured before it is written. Measuring anew
// at every level would cost ops times depth; so one pass notes the lengths of all transactions and
// operations in the order in which the other pass comes to need them.

/// Length of a transaction; notes it and those inside, in the order of `write_txn`.
fn measure_txn(txn: &TxnRequest, lengths: &mut Vec<usize>) -> usize {
    let slot = lengths.len();
    lengths.push(0);
    let mut total = 0;
    for compare in &txn.compare {
        total += pb::message_field_len(1, compare.encoded_len());
    }
    for op in txn.success.iter().chain(&txn.failure) {
        let op_slot = lengths.len();
        lengths.push(0);
        lengths[op_slot] = match op {
            RequestOp::None => 0,
            RequestOp::Range(range) => pb::message_field_len(1, range.encoded_len()),
            RequestOp::Put(put) => pb::message_field_len(2, put.encoded_len()),
            RequestOp::DeleteRange(delete) => pb::message_field_len(3, delete.encoded_len()),
            RequestOp::Txn(txn) => pb::message_field_len(4, measure_txn(txn, lengths)),
        };
        total += pb::message_field_len(2, lengths[op_slot]);
    }
    lengths[slot] = total;
    total
}

fn write_txn(txn: &TxnRequest, lengths: &mut impl Iterator<Item = usize>, out: &mut Vec<u8>) {
    for compare in &txn.compare {
        put_message(out, 1, compare);
    }
    let success = txn.success.iter().map(|op| (2, op));
    let failure = txn.failure.iter().map(|op| (3, op));
    for (branch, op) in success.chain(failure) {
        pb::put_message_head(out, branch, lengths.next().expect("measured"));
        match op {
            RequestOp::None => {}
            RequestOp::Range(range) => put_message(out, 1, range),
            RequestOp::Put(put) => put_message(out, 2, put),
            RequestOp::DeleteRange(delete) => put_message(out, 3, delete),
            RequestOp::Txn(txn) => {
                pb::put_message_head(out, 4, lengths.next().expect("measured"));
                write_txn(txn, lengths, out);
            }
        }
    }
}

/// Etcd's LeaseCheckpointRequest: a list of checkpoints.
#[derive(Default)]
pub(super) struct LeaseCheckpoints(pub Vec<LeaseCheckpoint>);

impl Decode for LeaseCheckpoints {
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
        let mut reader = from.reader();
        while let Some(field) = reader.next()? {
            if let Field { number: 1, value: Value::Bytes(message) } = field {
                self.0.push(decode_from(from.nested(message)?)?);
            }
        }
        Ok(())
    }
}

/// Etcd's ClusterVersionSetRequest.
#[derive(Default)]
pub(super) struct ClusterVersionSet {
    pub ver: String,
}

/// Etcd's membershippb.Attributes.
#[derive(Default)]
struct Attributes {
    name: String,
    client_urls: Vec<String>,
}

flat_messages! {
    ClusterVersionSet { 1 ver }
    Attributes { 1 name 2 client_urls }
}

impl Decode for MemberAttributes {
    fn merge(&mut self, from: Source<'_>) -> Result<(), DecodeError> {
        let mut reader = from.reader();
        while let Some(Field { number, value }) = reader.next()? {
            match (number, value) {
                (1, Value::Varint(id)) => self.member_id = id,
                (2, Value::Bytes(message)) => {
                    let mut attributes = Attributes {
                        name: std::mem::take(&mut self.name),
                        client_urls: std::mem::take(&mut self.client_urls),
                    };
                    attributes.merge(from.nested(message)?)?;
                    (self.name, self.client_urls) = (attributes.name, attributes.client_urls);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Encode for MemberAttributes {
    fn encoded_len(&self) -> usize {
        let attributes = self.name.field_len(1) + self.client_urls.field_len(2);
        self.member_id.field_len(1) + pb::message_field_len(2, attributes)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.member_id.write(1, out);
        pb::put_message_head(out, 2, self.name.field_len(1) + self.client_urls.field_len(2));
        self.name.write(1, out);
        self.client_urls.write(2, out);
    }
}

/// As [`LeaseCheckpoints`], to write.
pub(super) struct LeaseCheckpointsRef<'a>(pub &'a [LeaseCheckpoint]);

impl Encode for LeaseCheckpointsRef<'_> {
    fn encoded_len(&self) -> usize {
        self.0.iter().map(|one| pb::message_field_len(1, one.encoded_len())).sum()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for one in self.0 {
            put_message(out, 1, one);
        }
    }
}

#[cfg(test)]
mod tests;
