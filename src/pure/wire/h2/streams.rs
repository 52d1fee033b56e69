//! The live streams of a connection, and the few finished ones that are worth remembering.

use std::borrow::Cow;
use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::transmit::Piece;
use crate::limits::http2::{FINISHED_STREAMS_REMEMBERED, FRAME_BYTES_MAX};
use crate::stdx::slab::{Key, SLOTS_KEPT, Slab};

/// A stream of one connection; clients' streams are odd and only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// What the client may still send on a live stream.
///
/// ```text
/// (idle) --HEADERS--> Open --END_STREAM--> HalfClosed
///                       |                      |
///                       +---- our end, RST ----+--> (finished)
/// ```
///
/// There is no half-closed (local): an answer that ends before its request is followed by
/// RST_STREAM(NO_ERROR), as RFC 9113 section 8.1 allows, and finishes the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    HalfClosed,
}

/// How an answer ends once its queue is empty.
#[derive(Debug)]
pub(super) enum End {
    /// Not yet known.
    Unknown,
    /// With END_STREAM on the last DATA frame.
    WithData,
    /// With a block of trailers.
    Trailers(Cow<'static, [u8]>),
}

/// What of an answer waits to be sent: pieces in order, then the tail.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) queue: VecDeque<Piece>,
    /// Short messages together, so that each does not take a piece of its own.
    pub(super) tail: Vec<u8>,
    /// Bytes of the first piece (of the tail if there is none) that were sent.
    pub(super) front_sent: usize,
    pub(super) end: End,
}

/// What an [`Outbound`] takes besides its bytes, about.
pub(super) const OUTBOUND_BYTES: usize = 256;
/// What a piece takes of which somebody else holds the bytes.
const SHARED_PIECE_BYTES: usize = 64;

/// Memory that a piece takes until it is sent.
pub(super) fn memory_of(piece: &Piece) -> usize {
    match piece {
        Piece::Bytes(bytes) => bytes.len(),
        Piece::Shared(..) => SHARED_PIECE_BYTES,
    }
}

impl Outbound {
    pub(super) fn new() -> Box<Outbound> {
        Box::new(Outbound { queue: VecDeque::new(), tail: Vec::new(), front_sent: 0, end: End::Unknown })
    }

    /// Memory that it takes.
    pub(super) fn memory(&self) -> usize {
        OUTBOUND_BYTES + self.tail.len() + self.queue.iter().map(memory_of).sum::<usize>()
    }

    /// Makes a piece of the tail: what follows does not fit into it.
    pub(super) fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(Piece::from(std::mem::take(&mut self.tail)));
        }
    }
}

/// A live stream, with what the application keeps about it. There may be ten thousands: what few need is apart.
#[derive(Debug)]
pub(super) struct Stream<T> {
    pub(super) id: u32,
    pub(super) state: State,
    /// The stream stands in the connection's ready list.
    pub(super) in_ready: bool,
    /// The producer waits for room.
    pub(super) room_wanted: bool,
    /// Its answers follow no request of their own: others don't wait for them.
    pub(super) is_endless: bool,
    /// Bytes of its answer's body that were sent, `u32::MAX` for more.
    pub(super) sent_bytes: u32,
    /// What the client may still send us.
    pub(super) receive_window: i32,
    /// What we owe the client in WINDOW_UPDATE; negative while messages wait for the application.
    pub(super) credit: i32,
    /// What is left of content-length.
    pub(super) body_left: Option<u64>,
    /// What we may send; negative after the peer lowered its initial window.
    pub(super) send_window: i64,
    pub(super) queue_bytes: usize,
    /// There when something is queued.
    pub(super) out: Option<Box<Outbound>>,
    pub(super) app: T,
}

impl<T: Default> Stream<T> {
    pub(super) fn new(id: u32, receive_window: u32, send_window: i64) -> Stream<T> {
        Stream {
            id,
            state: State::Open,
            in_ready: false,
            room_wanted: false,
            is_endless: false,
            sent_bytes: 0,
            receive_window: i32::try_from(receive_window).expect("windows stay below 2^31"),
            credit: 0,
            body_left: None,
            send_window,
            queue_bytes: 0,
            out: None,
            app: T::default(),
        }
    }
}

impl<T> Stream<T> {
    /// Memory of what is queued.
    pub(super) fn queue_memory(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.memory())
    }

    /// Something of its answer was sent, and what waits is not more, or a whole frame's worth was: who opens its window
    /// by a byte has taken nothing.
    pub(super) fn is_answer_taken(&self) -> bool {
        self.sent_bytes > 0 && self.sent_bytes as usize >= self.queue_bytes.min(FRAME_BYTES_MAX)
    }
}

/// Memory of what is queued on all streams.
#[derive(Debug, Default)]
pub(super) struct QueueMemory {
    /// Of answers that requests wait for.
    pub(super) answers: usize,
    pub(super) endless: usize,
}

impl QueueMemory {
    /// The sum that a stream counts in.
    pub(super) fn of(&mut self, is_endless: bool) -> &mut usize {
        if is_endless { &mut self.endless } else { &mut self.answers }
    }
}

/// Why a finished stream may still get frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// Both sides ended it: more frames are a fault.
    Complete,
    /// We ended it before the client did: frames under way are ignored.
    Early,
    /// The client reset it: more frames are a fault.
    ByPeer,
}

/// Live streams by id.
#[derive(Debug)]
pub(super) struct Streams<T> {
    slab: Slab<Stream<T>>,
    index: HashMap<u32, Key, FixedState>,
    /// The stream of the last lookup: frames of one request come together.
    last: Option<(u32, Key)>,
    finished: VecDeque<(u32, Finish)>,
}

impl<T> Streams<T> {
    /// `seed` makes collisions of ids unforeseeable to clients.
    pub(super) fn new(seed: u64) -> Streams<T> {
        Streams {
            slab: Slab::default(),
            index: HashMap::with_hasher(FixedState::with_seed(seed)),
            last: None,
            finished: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn insert(&mut self, stream: Stream<T>) -> Key {
        let id = stream.id;
        let key = self.slab.insert(stream);
        let previous = self.index.insert(id, key);
        assert!(previous.is_none(), "an id is opened once");
        self.last = Some((id, key));
        key
    }

    pub(super) fn find(&mut self, id: u32) -> Option<Key> {
        if let Some((last, key)) = self.last
            && last == id
        {
            return Some(key);
        }
        let key = *self.index.get(&id)?;
        self.last = Some((id, key));
        Some(key)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Stream<T>> {
        self.slab.get(key)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Stream<T>> {
        self.slab.get_mut(key)
    }

    /// Takes a stream out and remembers how it ended.
    pub(super) fn remove(&mut self, key: Key, finish: Finish) -> Option<Stream<T>> {
        let stream = self.slab.remove(key)?;
        self.index.remove(&stream.id);
        self.last = self.last.filter(|(id, _)| *id != stream.id);
        self.remember(stream.id, finish);
        Some(stream)
    }

    pub(super) fn remember(&mut self, id: u32, finish: Finish) {
        if self.finished.len() >= FINISHED_STREAMS_REMEMBERED {
            self.finished.pop_front();
        }
        self.finished.push_back((id, finish));
    }

    pub(super) fn finish_of(&self, id: u32) -> Option<Finish> {
        self.finished.iter().rev().find(|(finished, _)| *finished == id).map(|(_, finish)| *finish)
    }

    /// Gives memory back when no stream is left.
    pub(super) fn trim(&mut self) {
        self.slab.trim();
        if self.index.capacity() > SLOTS_KEPT {
            self.index.shrink_to(SLOTS_KEPT);
        }
    }

    /// Keys of all live streams in slot order.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.slab.iter().map(|(key, _)| key).collect()
    }
}
