//! Long reads: walked a slice at a time, in turn.

use bytes::Bytes;

use super::Front;
use super::calls::{Call, State};
use super::connection::Connection;
use super::unary::{check_fresh, resolve_revision};
use crate::limits;
use crate::pure::api::authorize::{Authorized, Wanted, authorize};
use crate::pure::api::codec::decode;
use crate::pure::api::requests::RangeRequest;
use crate::pure::api::responses::{
    Body, HashKvResponse, HashResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse, Values,
    range_stream_chunk,
};
use crate::pure::api::rpcs::Rpc;
use crate::pure::api::status::{self, Status};
use crate::pure::api::validate;
use crate::pure::apply::{ReadState, range_query};
use crate::pure::mvcc::{RangeResult, RangeWalk, RecordRef};
use crate::pure::node::View;
use crate::pure::session::StreamId;
use crate::pure::types::Revision;
use crate::stdx::slab::Key;
use crate::stdx::work::{Step, Work};

use super::reply::status_of;

/// Records of the first message of a RangeStream (etcd 3.7).
const STREAM_CHUNK_FIRST: i64 = 10;

/// A RangeStream under way: one revision, chunk by chunk.
pub(super) struct StreamRead {
    request: RangeRequest,
    revision: Revision,
    /// The key space's revision when it began, for the header.
    header_revision: Revision,
    walk: Option<Box<RangeWalk>>,
    /// Records that the chunk under way may have.
    chunk_max: i64,
    sent: i64,
    request_bytes_max: usize,
}

impl StreamRead {
    /// What the chunk under way needs.
    pub(super) fn floor(&self) -> Option<Revision> {
        self.walk.as_ref().map(|walk| walk.revision())
    }

    /// Bytes of records of the chunk under way.
    pub(super) fn kept_bytes(&self) -> usize {
        self.walk.as_ref().map_or(0, |walk| walk.kept_bytes())
    }

    /// Records sent.
    #[cfg(test)]
    pub(super) fn sent(&self) -> i64 {
        self.sent
    }

    /// Records that the client still wants at most; `None` without a limit.
    fn left(&self) -> Option<i64> {
        (self.request.limit > 0).then(|| self.request.limit - self.sent)
    }

    fn walk(&mut self) -> &mut RangeWalk {
        // etcd sends all at once when the limit is negative.
        let limit = match self.left() {
            Some(left) => left.min(self.chunk_max),
            None if self.request.limit < 0 => 0,
            None => self.chunk_max,
        };
        let (request, revision) = (&self.request, self.revision);
        self.walk.get_or_insert_with(|| {
            let mut query = range_query(request, revision);
            query.limit = limit;
            Box::new(RangeWalk::new(query))
        })
    }

    /// Takes a chunk's records; the response to send, and whether it is the last.
    fn advance(&mut self, found: RangeResult, header: ResponseHeader) -> (RangeResponse, bool) {
        self.walk = None;
        let before = self.sent;
        self.sent += i64::try_from(found.records.len()).expect("fewer than 2^63 records");
        let is_last = !found.more || self.left() == Some(0);
        if let Some(last) = found.records.last() {
            // The least key after it.
            let mut next = last.key().to_vec();
            next.push(0);
            self.request.key = next.into();
            if self.request.range_end.is_empty() {
                self.request.range_end = self.request.key.clone();
            }
        }
        let response = RangeResponse {
            header: is_last.then_some(header),
            records: found.records,
            values: Values::of(self.request.keys_only, self.request.sort_target),
            more: is_last && found.more,
            count: if is_last { before + found.count } else { 0 },
        };
        (response, is_last)
    }

    /// The next chunk has twice or half the records, so that messages approach the request limit.
    fn adapt(&mut self, message_bytes: usize) {
        if message_bytes < self.request_bytes_max / 2 {
            self.chunk_max = self.chunk_max.saturating_mul(2);
        } else if message_bytes > self.request_bytes_max * 2 {
            self.chunk_max = (self.chunk_max / 2).max(1);
        }
    }
}

/// A long range's answer: measured, then made part by part as the client takes it. Holds the records that are
/// still to be sent.
pub(super) struct RangeAnswer {
    /// Without its records.
    response: RangeResponse,
    records: std::vec::IntoIter<RecordRef>,
    /// Records that its list has room for.
    allocated: usize,
    /// Records measured, and their bytes in the message.
    measured: usize,
    records_bytes: usize,
    /// The session knows its length, then: its head is made.
    announced: bool,
    begun: bool,
}

impl RangeAnswer {
    fn new(mut response: RangeResponse) -> RangeAnswer {
        let records = std::mem::take(&mut response.records);
        let allocated = records.capacity();
        let records = records.into_iter();
        RangeAnswer {
            response,
            records,
            allocated,
            measured: 0,
            records_bytes: 0,
            announced: false,
            begun: false,
        }
    }

    /// To be done before the first part is made. False when the work was spent before the end.
    fn measure(&mut self, work: &mut Work) -> bool {
        if self.announced {
            return true;
        }
        let rest = &self.records.as_slice()[self.measured..];
        for record in rest {
            if work.is_spent() {
                return false;
            }
            work.charge(1);
            self.records_bytes += self.response.record_field_len(record);
            self.measured += 1;
        }
        true
    }

    /// The session knows of it.
    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Bytes of references to all its records: their list stays whole until the last is sent.
    pub(super) fn kept_bytes(&self) -> usize {
        self.allocated * size_of::<RecordRef>()
    }

    fn message_len(&self) -> usize {
        self.response.encoded_len() + self.records_bytes
    }

    /// About so many bytes more of the message; true with the last ones.
    fn fill(&mut self, body: &mut Body, bytes_max: usize, work: &mut Work) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            self.response.encode_head(body);
        }
        let mut before = body.message_len();
        while before < bytes_max && !work.is_spent() {
            let Some(record) = self.records.next() else {
                self.response.encode_tail(body);
                return true;
            };
            self.response.encode_record(&record, body);
            let bytes = std::mem::replace(&mut before, body.message_len());
            work.charge(1 + ((before - bytes) / limits::response::BYTES_PER_UNIT) as u32);
        }
        false
    }

    /// All of it at once.
    fn whole(&mut self) -> RangeResponse {
        let response = &mut self.response;
        let records = std::mem::take(&mut self.records).collect();
        RangeResponse { header: response.header, records, values: response.values, ..*response }
    }
}

/// What a slice of a read came to.
enum Slice {
    More,
    /// The stream's client has to read first.
    NoRoom,
    Done,
}

impl Front {
    /// Begins a read; a short one is answered at once, a long one when it has its turn.
    pub(super) fn begin_read(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        state: State,
        message: &Bytes,
        view: &View,
    ) {
        let may_begin = connection.may_make(state.weight());
        if !may_begin && matches!(state, State::RangeStream(_)) {
            // It is asked for lists that are long, and gives its first records before that is known.
            self.wait_for_turn(connection, stream, rpc, message.clone());
            return;
        }
        let mut call = Call::new(connection.key, stream, rpc, state);
        call.request_bytes = message.len();
        call.has_no_turn = !may_begin;
        let mut work = Work::new(limits::slice::READ_BEGIN_UNITS);
        let slice = self.slice(connection, &mut call, view, &mut work);
        self.events_work.charge(work.used());
        match slice {
            Slice::Done => {}
            // Nothing of it has been sent.
            Slice::More | Slice::NoRoom if call.has_no_turn && call.state.is_unsent() => {
                self.wait_for_turn(connection, stream, rpc, message.clone());
            }
            Slice::More | Slice::NoRoom => self.go_on(connection, call, &slice),
        }
    }

    /// A read that has not ended stays.
    fn go_on(&mut self, connection: &mut Connection, mut call: Call, slice: &Slice) {
        connection.turns.count(&mut call);
        let stream = call.stream;
        let key = self.calls.insert(call);
        connection.calls.insert(stream, key);
        if matches!(slice, Slice::More) {
            self.reading.push_back(key);
        }
    }

    /// One turn of the long reads: gives them their quanta, one after the other, until the turn's work is spent.
    pub fn read(&mut self, view: &View) {
        let mut left = limits::slice::RANGE_UNITS;
        while left > 0 {
            let Some(key) = self.reading.pop_front() else { return };
            let mut work = Work::new(left.min(limits::slice::RANGE_QUANTUM_UNITS));
            self.read_slice(key, view, &mut work);
            left = left.saturating_sub(work.used().max(1));
        }
    }

    fn read_slice(&mut self, key: Key, view: &View, work: &mut Work) {
        // Cancelled ones are gone.
        let Some(mut call) = self.calls.remove(key) else { return };
        let (connection, stream) = (call.connection, call.stream);
        self.with_connection(connection, |front, connection| {
            connection.calls.remove(&stream);
            match front.slice(connection, &mut call, view, work) {
                Slice::Done => connection.turns.release(&mut call),
                slice @ (Slice::More | Slice::NoRoom) => front.go_on(connection, call, &slice),
            }
            front.after_events(connection);
        });
    }

    /// A stream that waited for room goes on.
    pub(super) fn resume_read(&mut self, key: Key) {
        self.reading.push_back(key);
    }

    fn slice(&mut self, connection: &mut Connection, call: &mut Call, view: &View, work: &mut Work) -> Slice {
        let (stream, rpc) = (call.stream, call.rpc);
        match &mut call.state {
            State::Range { walk, values, revision } => match walk.step(&view.kv, work) {
                Step::More | Step::Pending => Slice::More,
                Step::Done(found) => {
                    let response = RangeResponse {
                        header: Some(self.header(view, *revision)),
                        records: found.records,
                        values: *values,
                        more: found.more,
                        count: found.count,
                    };
                    if response.records.len() > limits::response::WHOLE_RECORDS_MAX {
                        let answer = Box::new(RangeAnswer::new(response));
                        call.state = State::Answering(answer);
                        return self.slice(connection, call, view, work);
                    }
                    self.answer_range(connection, stream, rpc, &response);
                    Slice::Done
                }
            },
            State::Answering(answer) if call.has_no_turn && !answer.is_announced() => Slice::More,
            State::Answering(answer) => self.answer_slice(connection, stream, rpc, answer, work),
            State::Txn { run, revision, compact_revision } => {
                let mut state =
                    ReadState { view: &view.kv, revision: *revision, compact_revision: *compact_revision };
                match run.step(&mut state, work) {
                    Step::More | Step::Pending => return Slice::More,
                    Step::Done(Ok(mut response)) => {
                        response.header = self.header(view, *revision);
                        self.answer_txn(connection, stream, rpc, &response);
                    }
                    Step::Done(Err(error)) => self.end(connection, stream, rpc, &status_of(error)),
                }
                Slice::Done
            }
            State::Hash { walk, revision } => match walk.step(&view.kv, work) {
                Step::More | Step::Pending => Slice::More,
                Step::Done(hash) => {
                    let header = self.header(view, *revision);
                    let (compact_revision, hash_revision) = (walk.compact_revision(), walk.revision());
                    if rpc == Rpc::Hash {
                        let response = HashResponse { header, hash: digest(hash, view) };
                        self.answer(connection, stream, rpc, &response);
                    } else {
                        let response = HashKvResponse { header, hash, compact_revision, hash_revision };
                        self.answer(connection, stream, rpc, &response);
                    }
                    Slice::Done
                }
            },
            State::RangeStream(read) => self.stream_slice(connection, stream, rpc, read, view, work),
            _ => unreachable!("only reads are walked"),
        }
    }

    fn stream_slice(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        read: &mut StreamRead,
        view: &View,
        work: &mut Work,
    ) -> Slice {
        // A chunk under way goes on: while it waited for room, it would hold no floor.
        if read.walk.is_none() && connection.session.stream_room(stream) == 0 {
            connection.session.want_room(stream);
            return Slice::NoRoom;
        }
        // Between chunks the stream holds no floor: as in etcd a compaction may end it.
        if read.walk.is_none() && read.revision < view.kv.compact_revision() {
            self.end(connection, stream, rpc, &status::COMPACTED);
            return Slice::Done;
        }
        let found = match read.walk().step(&view.kv, work) {
            Step::More | Step::Pending => return Slice::More,
            Step::Done(found) => found,
        };
        let (response, is_last) = read.advance(found, self.header(view, read.header_revision));
        let mut body = Body::with_capacity(0, capacity_of(&response));
        range_stream_chunk(&response, &mut body);
        read.adapt(body.message_len());
        self.stream_body(connection, stream, rpc, body);
        if !is_last {
            return Slice::More;
        }
        self.end(connection, stream, rpc, &Status::OK);
        Slice::Done
    }

    /// The whole answer of a range.
    fn answer_range(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        response: &RangeResponse,
    ) {
        let mut body = Body::with_capacity(0, capacity_of(response));
        response.encode(&mut body);
        self.answer_body(connection, stream, rpc, body);
    }

    fn answer_slice(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        answer: &mut RangeAnswer,
        work: &mut Work,
    ) -> Slice {
        if !answer.measure(work) {
            return Slice::More;
        }
        if !answer.announced {
            if !connection.session.begin_message(stream, answer.message_len()) {
                let response = answer.whole();
                self.answer_range(connection, stream, rpc, &response);
                return Slice::Done;
            }
            answer.announced = true;
        }
        loop {
            let room = connection.session.stream_room(stream);
            if room == 0 {
                connection.session.want_room(stream);
                return Slice::NoRoom;
            }
            let part = room.min(limits::response::PART_BYTES);
            let mut body = Body::with_capacity(0, part);
            let is_last = answer.fill(&mut body, part, work);
            self.append_body(connection, stream, body);
            if is_last {
                self.count_ok(rpc);
                connection.session.send_status(stream, status::Status::OK.code, "");
                return Slice::Done;
            }
            if work.is_spent() {
                return Slice::More;
            }
        }
    }

    /// Begins a RangeStream.
    pub(super) fn range_stream(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
        view: &View,
    ) -> Result<(), Status> {
        let request: RangeRequest = decode(message).map_err(Status::undecodable_message)?;
        validate::validate_range(&request)?;
        validate::validate_range_stream(&request)?;
        check_fresh(request.serializable, view)?;
        let proof = authorize(Rpc::RangeStream, Wanted::Range(&request))?;
        let revision = resolve_revision(request.revision, &view.kv)?;
        let read = self.begin_stream(proof, request, revision, view);
        self.begin_read(
            connection,
            stream,
            Rpc::RangeStream,
            State::RangeStream(Box::new(read)),
            message,
            view,
        );
        Ok(())
    }

    fn begin_stream(
        &self,
        _: Authorized,
        request: RangeRequest,
        revision: Revision,
        view: &View,
    ) -> StreamRead {
        StreamRead {
            request,
            revision,
            header_revision: view.kv.revision(),
            walk: None,
            chunk_max: STREAM_CHUNK_FIRST,
            sent: 0,
            request_bytes_max: self.config.request_bytes_max,
        }
    }

    /// The answer to a transaction.
    pub(super) fn answer_txn(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        response: &TxnResponse,
    ) {
        let lists = response.responses.iter().map(|response| match response {
            ResponseOp::Range(range) => capacity_of(range),
            ResponseOp::Put(_) | ResponseOp::DeleteRange(_) | ResponseOp::Txn(_) => 64,
        });
        let mut body = Body::with_capacity(0, 64 + lists.sum::<usize>());
        response.encode(&mut body);
        self.answer_body(connection, stream, rpc, body);
    }
}

/// Room for a response whose records are small; large ones are not copied.
fn capacity_of(response: &RangeResponse) -> usize {
    let copied = |bytes: usize| if bytes <= limits::response::RECORD_COPIED_BYTES_MAX { bytes } else { 0 };
    64 + response.records.iter().map(|record| 8 + copied(record.kv_bytes().len())).sum::<usize>()
}

/// Our own digest of all replicated state: the key space's hash, then leases and members.
fn digest(hash_kv: u32, view: &View) -> u32 {
    let mut digest = crc32c::crc32c_append(hash_kv, b"lease");
    for lease in view.leases.iter() {
        digest = crc32c::crc32c_append(digest, &lease.id.to_be_bytes());
        digest = crc32c::crc32c_append(digest, &lease.ttl.to_be_bytes());
    }
    for member in view.members.iter() {
        digest = crc32c::crc32c_append(digest, &member.id.to_be_bytes());
        digest = crc32c::crc32c_append(digest, member.name.as_bytes());
    }
    digest
}
