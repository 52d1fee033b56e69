//! The answering half of a call: heads, messages, the status at its end.

use std::mem;

use super::{Call, Phase, ResetCode, Rpc};
use crate::limits::http2::COPIED_PIECE_BYTES_MAX;
use crate::pure::session::SessionEvent;
use crate::pure::wire::grpc::gzip;
use crate::pure::wire::grpc::head::{Encoding, Meta};
use crate::pure::wire::grpc::message::prefix;
use crate::pure::wire::grpc::status::{self, Code, Status, TRAILERS_OK};
use crate::pure::wire::h2::streams::StreamId;
use crate::pure::wire::h2::transmit::Piece;
use crate::stdx::slab::Key;

impl Rpc {
    pub(in crate::pure::session) fn send_unary(&mut self, stream: StreamId, message: &[u8]) {
        let Some(key) = self.connection.find(stream) else { return };
        let call = self.connection.app(key).expect("found alive");
        let plain = call.encoding == Encoding::Identity && call.subtype().is_empty() && !call.head_sent;
        // A unary call that was told of keeps no message under assembly, so nothing is lost with it.
        if plain && call.phase == Phase::Told {
            let head = prefix(false, message.len());
            if self.connection.send_whole(key, status::HEAD, &head, message, TRAILERS_OK) {
                return;
            }
        }
        self.send_message(stream, message);
        self.send_status(stream, Code::Ok, "");
    }

    pub(in crate::pure::session) fn send_message(&mut self, stream: StreamId, message: &[u8]) {
        let Some(key) = self.find_unanswered(stream) else { return };
        let gzip = self.begin_answer(key);
        self.connection.send_copied(key, |copied| write_framed(copied, gzip, message));
    }

    pub(in crate::pure::session) fn send_pieces(&mut self, stream: StreamId, pieces: Vec<Piece>) {
        let Some(key) = self.find_unanswered(stream) else { return };
        let gzip = self.begin_answer(key);
        let length = pieces.iter().map(Piece::len).sum();
        if gzip {
            let mut message = Vec::with_capacity(length);
            pieces.iter().for_each(|piece| message.extend_from_slice(piece.as_slice()));
            self.connection.send_copied(key, |copied| write_framed(copied, true, &message));
            return;
        }
        self.connection.send_copied(key, |copied| copied.extend_from_slice(&prefix(false, length)));
        self.queue_pieces(key, pieces);
    }

    /// False for a compressed answer: then nothing was done.
    pub(in crate::pure::session) fn begin_message(&mut self, stream: StreamId, length: usize) -> bool {
        let Some(key) = self.find_unanswered(stream) else { return true };
        if self.connection.app(key).expect("found alive").encoding == Encoding::Gzip {
            return false;
        }
        self.begin_answer(key);
        self.connection.app_mut(key).expect("found alive").in_parts = true;
        self.connection.send_copied(key, |copied| copied.extend_from_slice(&prefix(false, length)));
        true
    }

    pub(in crate::pure::session) fn append_pieces(&mut self, stream: StreamId, pieces: Vec<Piece>) {
        let Some(key) = self.find_unanswered(stream) else { return };
        self.queue_pieces(key, pieces);
    }

    /// Queues the pieces; short neighbours share memory.
    fn queue_pieces(&mut self, key: Key, pieces: Vec<Piece>) {
        for piece in pieces {
            if piece.len() <= COPIED_PIECE_BYTES_MAX {
                self.connection.send_copied(key, |copied| copied.extend_from_slice(piece.as_slice()));
            } else {
                self.connection.send_piece(key, piece);
            }
        }
    }

    pub(in crate::pure::session) fn send_status(&mut self, stream: StreamId, code: Code, text: &str) {
        if let Some(key) = self.find_unanswered(stream) {
            self.end_answer(key, code, text);
        }
    }

    /// A live stream that the application hasn't answered to the end.
    pub(super) fn find_unanswered(&mut self, stream: StreamId) -> Option<Key> {
        let key = self.connection.find(stream)?;
        self.connection.app(key).filter(|call| call.phase != Phase::Answered).map(|_| key)
    }

    /// The head of an answer, once; true when its messages are compressed.
    fn begin_answer(&mut self, key: Key) -> bool {
        let call = self.connection.app_mut(key).expect("found alive");
        let gzip = call.encoding == Encoding::Gzip;
        if !mem::replace(&mut call.head_sent, true) {
            let block = status::head_block(call.subtype(), gzip);
            self.connection.send_head(key, &block, false);
        }
        gzip
    }

    pub(super) fn end_answer(&mut self, key: Key, code: Code, text: &str) {
        let call = self.connection.app_mut(key).expect("called for a live stream");
        // What it kept is of no use any more.
        let ended = Call {
            phase: Phase::Answered,
            route: call.route,
            kind: call.kind,
            encoding: call.encoding,
            delivered: call.delivered,
            head_sent: call.head_sent,
            in_parts: call.in_parts,
            meta: Meta { deadline: call.meta.deadline, ..Meta::default() },
            ..Call::default()
        };
        let call = mem::replace(call, ended);
        self.forget(&call);
        if call.head_sent {
            self.connection.send_end(key, Some(status::trailers_block(code, text)));
        } else {
            let block = status::trailers_only_block(200, call.subtype(), code, text);
            self.connection.send_head(key, &block, true);
        }
    }

    /// Ends an answer without what is queued of it: with its status; or by a reset if a part of a message was sent,
    /// which a client would take for a fault of the server if trailers followed (grpc-go resets there, too).
    pub(super) fn cut_answer(&mut self, key: Key, reset: ResetCode, code: Code, text: &str) {
        let call = self.connection.app(key).expect("called for a live stream");
        let is_unfinished = call.in_parts && call.phase != Phase::Answered;
        let is_in_message = is_unfinished || self.connection.stream_unsent(key) > 0;
        self.has_dead_events = true;
        if is_in_message && self.connection.has_sent_data(key) {
            let call = self.connection.reset(key, reset).expect("alive");
            self.forget(&call);
            return;
        }
        self.connection.drop_queue(key);
        self.end_answer(key, code, text);
    }

    /// Ends a call that broke a rule of gRPC; the application hears of it if it knows the call.
    pub(super) fn fail(&mut self, key: Key, status: &Status) {
        let Some(stream) = self.connection.stream_of(key) else { return };
        let call = self.connection.app(key).expect("alive");
        let (told, delivered) = (call.phase == Phase::Told, call.delivered);
        self.cut_answer(key, ResetCode::Internal, status.code, &status.text);
        if told {
            // As bad as a reset: work was begun for nothing.
            self.connection.charge_reset();
        }
        if delivered && told {
            self.push(SessionEvent::Cancelled { stream });
        }
    }
}

/// Prefix and payload. Empty messages stay plain, as grpc-go sends them.
fn write_framed(target: &mut Vec<u8>, gzip: bool, message: &[u8]) {
    if gzip && !message.is_empty() {
        let compressed = gzip::deflate(message);
        target.extend_from_slice(&prefix(true, compressed.len()));
        target.extend_from_slice(&compressed);
        return;
    }
    target.extend_from_slice(&prefix(false, message.len()));
    target.extend_from_slice(message);
}
