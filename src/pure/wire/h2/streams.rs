//! The live streams of a connection, and the few finished ones that are worth remembering.

use std::borrow::Cow;
use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::transmit::Piece;
use crate::limits::http2::FINISHED_STREAMS_REMEMBERED;
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

/// A live stream, with what the application keeps about it.
#[derive(Debug)]
pub(super) struct Stream<T> {
    pub(super) id: u32,
    pub(super) state: State,
    /// What the client may still send us.
    pub(super) receive_window: i64,
    /// What we owe the client in WINDOW_UPDATE; negative while messages wait for the application.
    pub(super) credit: i64,
    /// What is left of content-length.
    pub(super) body_left: Option<u64>,
    /// What we may send; negative after the peer lowered its initial window.
    pub(super) send_window: i64,
    pub(super) queue: VecDeque<Piece>,
    /// Bytes of the first piece that were sent.
    pub(super) front_sent: usize,
    pub(super) queue_bytes: usize,
    pub(super) end: End,
    /// The stream stands in the connection's ready list.
    pub(super) in_ready: bool,
    /// The producer waits for room.
    pub(super) room_wanted: bool,
    pub(super) app: T,
}

impl<T: Default> Stream<T> {
    pub(super) fn new(id: u32, receive_window: i64, send_window: i64) -> Stream<T> {
        Stream {
            id,
            state: State::Open,
            receive_window,
            credit: 0,
            body_left: None,
            send_window,
            queue: VecDeque::new(),
            front_sent: 0,
            queue_bytes: 0,
            end: End::Unknown,
            in_ready: false,
            room_wanted: false,
            app: T::default(),
        }
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
