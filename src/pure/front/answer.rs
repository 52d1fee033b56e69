//! Answers on their way into a session.

use std::ops::Range;
use std::sync::Arc;

use super::Front;
use super::connection::Connection;
use crate::limits;
use crate::pure::api::codec::{self, Encode};
use crate::pure::api::responses::{self, Body};
use crate::pure::api::rpcs::Rpc;
use crate::pure::api::status::Status;
use crate::pure::mvcc::RecordRef;
use crate::pure::session::{Piece, SharedBytes, StreamId};

/// A stored message as memory that a session may hold.
struct RecordMemory(RecordRef);

impl AsRef<[u8]> for RecordMemory {
    fn as_ref(&self) -> &[u8] {
        self.0.kv_bytes()
    }
}

/// A record's stored message, to be sent from where it lies.
pub(super) fn record_piece(record: RecordRef) -> Piece {
    let range: Range<usize> = 0..record.kv_bytes().len();
    let memory: SharedBytes = Arc::new(RecordMemory(record));
    Piece::Shared(memory, range)
}

impl Front {
    /// Ends a request with a status.
    pub(super) fn end(&mut self, connection: &mut Connection, stream: StreamId, rpc: Rpc, status: &Status) {
        self.counts[rpc as usize].handled[status.code as usize] += 1;
        connection.session.send_status(stream, status.code, &status.message);
    }

    /// The whole answer of a unary RPC, from a small message.
    pub(super) fn answer(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        message: &impl Encode,
    ) {
        self.count_ok(rpc);
        let bytes = codec::encode(message);
        connection.session.send_unary(stream, &bytes);
    }

    /// The whole answer of a unary RPC, from a message with records.
    pub(super) fn answer_body(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        body: Body,
    ) {
        self.count_ok(rpc);
        let (mut pieces, _) = body.finish();
        match pieces.as_mut_slice() {
            [] => connection.session.send_unary(stream, &[]),
            // What is longer is not worth a copy.
            [responses::Piece::Bytes(bytes)] if bytes.len() <= limits::response::PART_BYTES => {
                connection.session.send_unary(stream, bytes);
            }
            _ => {
                connection.session.send_unary_pieces(stream, pieces.into_iter().map(session_piece).collect())
            }
        }
    }

    /// One message of a stream of answers.
    pub(super) fn stream_body(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        body: Body,
    ) {
        self.counts[rpc as usize].sent += 1;
        let (pieces, _) = body.finish();
        connection.session.send_message_pieces(stream, pieces.into_iter().map(session_piece).collect());
    }

    /// A part of a message whose length was announced.
    pub(super) fn append_body(&mut self, connection: &mut Connection, stream: StreamId, body: Body) {
        let (pieces, _) = body.finish();
        connection.session.append_pieces(stream, pieces.into_iter().map(session_piece).collect());
    }

    pub(super) fn count_ok(&mut self, rpc: Rpc) {
        let counts = &mut self.counts[rpc as usize];
        counts.handled[0] += 1;
        counts.sent += 1;
    }
}

fn session_piece(piece: responses::Piece) -> Piece {
    match piece {
        responses::Piece::Bytes(bytes) => Piece::from(bytes),
        responses::Piece::Record(record) => record_piece(record),
    }
}
