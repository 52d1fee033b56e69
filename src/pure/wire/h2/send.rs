//! What goes out: heads, queues of pieces, trailers, and whose turn it is.

use std::borrow::Cow;

use super::connection::Connection;
use super::error::Code;
use super::frame;
use super::streams::{End, Finish, OUTBOUND_BYTES, Outbound, State, StreamId, memory_of};
use super::transmit::{Piece, Transmit};
use crate::limits::http2::{COPIED_PIECE_BYTES_MAX, DIRECT_OUTPUT_BYTES_MAX};
use crate::pure::wire::hpack::encoder;
use crate::stdx::slab::Key;

/// Cheap frames that a sent DATA frame pays for: clients answer data with WINDOW_UPDATE and PING.
const CHEAP_FRAMES_EARNED: u32 = 2;
/// Streams whose queues are looked at to see how much of what is queued could be sent.
const READY_STREAMS_COUNTED_MAX: usize = 1_024;

impl<T: Default> Connection<T> {
    /// Sends the head of an answer; with `end` that is all of it.
    pub fn send_head(&mut self, key: Key, block: &[u8], end: bool) {
        let Some(stream) = self.streams.get(key) else { return };
        let id = stream.id;
        self.write_block(id, block, end);
        if end {
            self.finish_local(key);
        }
    }

    /// Queues bytes of the answer.
    pub fn send_piece(&mut self, key: Key, piece: Piece) {
        if piece.is_empty() {
            return;
        }
        let Some((length, memory)) = self.with_outbound(key, |out| {
            let (length, memory) = (piece.len(), memory_of(&piece));
            out.close_tail();
            out.queue.push_back(piece);
            (length, memory)
        }) else {
            return;
        };
        self.note_queued(key, length, memory);
    }

    /// Queues what `write` appends: for short messages, which share memory.
    pub fn send_copied(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(length) = self.with_outbound(key, |out| {
            let before = out.tail.len();
            write(&mut out.tail);
            let length = out.tail.len() - before;
            if out.tail.len() >= COPIED_PIECE_BYTES_MAX {
                out.close_tail();
            }
            length
        }) else {
            return;
        };
        self.note_queued(key, length, length);
    }

    /// Lets `queue` add to what waits on a live stream.
    fn with_outbound<R>(&mut self, key: Key, queue: impl FnOnce(&mut Outbound) -> R) -> Option<R> {
        let stream = self.streams.get_mut(key)?;
        if stream.out.is_none() {
            *self.queue_memory.of(stream.is_endless) += OUTBOUND_BYTES;
        }
        let out = stream.out.get_or_insert_with(Outbound::new);
        assert!(matches!(out.end, End::Unknown), "nothing follows the end");
        Some(queue(out))
    }

    fn note_queued(&mut self, key: Key, length: usize, memory: usize) {
        let stream = self.streams.get_mut(key).expect("called for a live stream");
        stream.queue_bytes += length;
        self.queued_bytes += length;
        *self.queue_memory.of(stream.is_endless) += memory;
        self.make_ready(key);
    }

    /// The stream's answers follow no request: what it queues is for its producer to bound, and new requests don't
    /// wait for it. To be said before anything is queued.
    pub fn set_endless(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            debug_assert!(stream.out.is_none());
            stream.is_endless = true;
        }
    }

    /// Ends the answer after what is queued; without trailers by END_STREAM on the last DATA frame.
    pub fn send_end(&mut self, key: Key, trailers: Option<Cow<'static, [u8]>>) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let end = trailers.map_or(End::WithData, End::Trailers);
        if stream.queue_bytes == 0 {
            self.write_end(key, end);
        } else {
            stream.out.as_mut().expect("bytes are queued").end = end;
        }
    }

    /// A whole answer in one go, if it may leave at once: head, one DATA frame of `prefix` and `body`,
    /// trailers. False when windows or the output don't allow it; then nothing was done.
    pub fn send_whole(
        &mut self,
        key: Key,
        head: &[u8],
        prefix: &[u8],
        body: &[u8],
        trailers: &'static [u8],
    ) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return true };
        let length = prefix.len() + body.len();
        let window = stream.send_window.min(self.send_window);
        let fits = length as i64 <= window && length <= self.peer.frame_bytes_max;
        if !fits || stream.queue_bytes > 0 || self.output.len() > DIRECT_OUTPUT_BYTES_MAX {
            return false;
        }
        let id = stream.id;
        self.send_window -= length as i64;
        self.write_block(id, head, false);
        frame::write_data_head(&mut self.output, id, length, false);
        self.output.extend_from_slice(prefix);
        self.output.extend_from_slice(body);
        self.note_data(length);
        self.write_block(id, trailers, true);
        self.resets.earn(1);
        self.finish_local(key);
        true
    }

    /// Drops what is queued on a stream: its answer will end without it.
    pub fn drop_queue(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            self.queued_bytes -= stream.queue_bytes;
            *self.queue_memory.of(stream.is_endless) -= stream.queue_memory();
            stream.queue_bytes = 0;
            stream.out = None;
        }
    }

    /// Ends a stream with RST_STREAM; what was queued on it is dropped.
    pub fn reset(&mut self, key: Key, code: Code) -> Option<T> {
        let stream = self.remove(key, Finish::Early)?;
        self.counters.resets_sent += 1;
        frame::write_reset(&mut self.output, stream.id, code);
        Some(stream.app)
    }

    /// Bytes that the producer of a stream may queue; 0 for a dead stream.
    pub fn stream_room(&self, key: Key) -> usize {
        let Some(stream) = self.streams.get(key) else { return 0 };
        let limits = self.config.send;
        let stream_room = limits.stream.saturating_sub(stream.queue_bytes);
        let shared = stream_room.min(limits.connection.saturating_sub(self.queued_bytes));
        // No room then always means that the stream itself has bytes queued, whose sending tells of room.
        shared.max(limits.stream_min.saturating_sub(stream.queue_bytes))
    }

    /// Bytes queued on a stream; 0 for a dead one.
    pub fn stream_unsent(&self, key: Key) -> usize {
        self.streams.get(key).map_or(0, |stream| stream.queue_bytes)
    }

    /// Asks to be told by [`Connection::poll_room`] when half of the stream's queue is free.
    pub fn want_room(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.room_wanted = true;
        }
    }

    /// The next stream that has room for a producer who wanted it.
    pub fn poll_room(&mut self) -> Option<StreamId> {
        self.rooms.pop_front()
    }

    /// Bytes that wait in the queues and in the output.
    pub fn unsent_bytes(&self) -> usize {
        self.queued_bytes + self.output.len()
    }

    /// Memory of answers that wait to be sent, those of endless streams apart.
    pub fn answer_bytes(&self) -> usize {
        self.queue_memory.answers + self.output.len()
    }

    /// Memory of all that waits to be sent: less than its bytes, as far as others hold those too.
    pub fn unsent_memory(&self) -> usize {
        self.answer_bytes() + self.queue_memory.endless
    }

    /// A part of a stream's body was sent; false for a dead stream.
    pub fn has_sent_data(&self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.sent_bytes > 0)
    }

    /// True when the client takes too little for more answers to be made. Streams that it does not read hold the
    /// others back only when far more is queued on them, or when that takes memory of ours.
    pub fn is_backlogged(&self) -> bool {
        let (unsent, limits) = (self.unsent_bytes(), self.config.send);
        if self.answer_bytes() > limits.answers {
            return true;
        }
        if unsent <= limits.connection {
            return false;
        }
        let only_streams_wait = self.send_window > 0 && self.ready.len() <= READY_STREAMS_COUNTED_MAX;
        if !only_streams_wait || unsent > limits.stalled {
            return true;
        }
        let ready = self.ready.iter().filter_map(|key| self.streams.get(*key));
        self.output.len() + ready.map(|stream| stream.queue_bytes).sum::<usize>() > limits.connection
    }

    /// True when `poll_transmit` would give something.
    pub fn wants_transmit(&self) -> bool {
        !self.output.is_empty() || self.send_window > 0 && !self.ready.is_empty()
    }

    /// Appends the next bytes to send: control replies and heads, then DATA of the ready streams, one frame
    /// each in turn.
    pub fn poll_transmit(&mut self, transmit: &mut Transmit) {
        self.flush_output(transmit);
        while transmit.has_room() && self.send_window > 0 {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(key) else { continue };
            stream.in_ready = false;
            let window = usize::try_from(stream.send_window.min(self.send_window)).unwrap_or(0);
            let wanted = stream.queue_bytes.min(window).min(self.peer.frame_bytes_max);
            if wanted > 0 && !self.send_data(key, wanted, transmit) {
                // No room for another part: its turn comes first next time.
                self.streams.get_mut(key).expect("still alive").in_ready = true;
                self.ready.push_front(key);
                break;
            }
            self.make_ready(key);
        }
        // Trailers of streams that ended just now.
        self.flush_output(transmit);
    }

    /// Puts a stream that can send into the list, once.
    pub(super) fn make_ready(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.in_ready && stream.queue_bytes > 0 && stream.send_window > 0 {
            stream.in_ready = true;
            self.ready.push_back(key);
        }
    }

    fn flush_output(&mut self, transmit: &mut Transmit) {
        if !self.output.is_empty() {
            transmit.take_copied(&mut self.output);
            self.control_replies = 0;
        }
    }

    /// One DATA frame of at most `wanted` bytes; false when the transmit takes no more parts.
    fn send_data(&mut self, key: Key, wanted: usize, transmit: &mut Transmit) -> bool {
        // Frames that wait in the output precede the data in this order.
        self.flush_output(transmit);
        let stream = self.streams.get_mut(key).expect("called for a live stream");
        let out = stream.out.as_mut().expect("called for a stream with bytes");
        // How much of it fits the parts: long pieces need one each.
        let (mut length, mut long_pieces, mut front) = (0, 0, out.front_sent);
        for bytes in out.queue.iter().map(Piece::len).chain([out.tail.len()]) {
            let bytes = (bytes - front).min(wanted - length);
            long_pieces += usize::from(bytes > COPIED_PIECE_BYTES_MAX);
            if length == wanted || !transmit.has_parts_room(long_pieces) {
                break;
            }
            length += bytes;
            front = 0;
        }
        if length == 0 {
            return false;
        }
        let finished = length == stream.queue_bytes;
        let end = finished && matches!(out.end, End::WithData);
        transmit.copy(|copied| frame::write_data_head(copied, stream.id, length, end));
        let (mut left, mut freed) = (length, 0);
        while left > 0 {
            let start = out.front_sent;
            let Some(piece) = out.queue.front() else {
                // The tail is the last and short.
                transmit.copy(|copied| copied.extend_from_slice(&out.tail[start..start + left]));
                out.front_sent += left;
                break;
            };
            let bytes = (piece.len() - start).min(left);
            if bytes > COPIED_PIECE_BYTES_MAX {
                transmit.reference(piece.slice(start..start + bytes));
            } else {
                transmit.copy(|copied| copied.extend_from_slice(&piece.as_slice()[start..start + bytes]));
            }
            left -= bytes;
            out.front_sent += bytes;
            if out.front_sent == piece.len() {
                freed += memory_of(piece);
                out.queue.pop_front();
                out.front_sent = 0;
            }
        }
        stream.sent_bytes = stream.sent_bytes.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        stream.queue_bytes -= length;
        stream.send_window -= length as i64;
        if stream.room_wanted && stream.queue_bytes <= self.config.send.stream / 2 {
            stream.room_wanted = false;
            self.rooms.push_back(StreamId(stream.id));
        }
        let mut trailers = End::Unknown;
        if finished {
            freed += out.memory();
            trailers = std::mem::replace(&mut out.end, End::Unknown);
        }
        *self.queue_memory.of(stream.is_endless) -= freed;
        if finished {
            stream.out = None;
        }
        self.queued_bytes -= length;
        self.send_window -= length as i64;
        self.note_data(length);
        if end {
            self.resets.earn(1);
            self.finish_local(key);
        } else if finished {
            self.write_end(key, trailers);
        }
        true
    }

    fn note_data(&mut self, bytes: usize) {
        self.counters.data_bytes_sent += bytes as u64;
        self.ping_guard.forgive();
        self.cheap_frames.earn(CHEAP_FRAMES_EARNED);
    }

    /// The end of an answer whose queue is empty.
    fn write_end(&mut self, key: Key, end: End) {
        let id = self.streams.get(key).expect("called for a live stream").id;
        match end {
            End::Unknown => return,
            End::WithData => frame::write_data_head(&mut self.output, id, 0, true),
            End::Trailers(block) => self.write_block(id, &block, true),
        }
        self.resets.earn(1);
        self.finish_local(key);
    }

    /// Our side has ended. A client that still sends is told to stop (RFC 9113, section 8.1).
    fn finish_local(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        let finish = match stream.state {
            State::HalfClosed => Finish::Complete,
            State::Open => {
                frame::write_reset(&mut self.output, stream.id, Code::NoError);
                Finish::Early
            }
        };
        let removed = self.remove(key, finish);
        debug_assert!(removed.is_some());
    }

    fn write_block(&mut self, id: u32, block: &[u8], end: bool) {
        self.ping_guard.forgive();
        if std::mem::take(&mut self.peer.table_update_owed) {
            let mut with_update = vec![encoder::TABLE_SIZE_ZERO];
            with_update.extend_from_slice(block);
            frame::write_headers(&mut self.output, id, &with_update, end);
            return;
        }
        frame::write_headers(&mut self.output, id, block, end);
    }
}
