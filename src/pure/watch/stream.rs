//! One watch stream: its watches by id and its ordered queue.
//!
//! Owns: ids, the queue, what waits for room in it.
//! Takes: messages in the order in which the client is to see them.
//! Gives: the next message.
//! Always true: the queue's bytes are at most the bound that held when the last event came ([`Room`]), but for one
//! oversized revision and for answers to the client's own requests; while the stream is congested no event is queued.
//! Not here: what is matched; when a watcher catches up.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;

use super::message::{Batch, WatchMessage};
use crate::limits::watch::{MESSAGE_OVERHEAD_BYTES, QUEUES_PARTS, STALLED_QUEUE_BYTES_PER_WATCH};
use crate::pure::types::Revision;
use crate::stdx::time::Monotonic;

/// A stream as the hub holds it.
pub(super) struct Stream {
    /// Watchers by watch id (hashed and compared by the registry).
    pub ids: HashTable<u32>,
    /// Ids of watches that a compaction cancelled. As in etcd they stay taken until the client cancels them.
    pub lost: BTreeSet<i64>,
    /// Where the search for a free id goes on.
    pub next_id: i64,
    queue: VecDeque<Queued>,
    /// In the hub's list of ready streams.
    pub is_ready: bool,
    /// The client had no room for what is queued; until it has taken all of it.
    pub is_stalled: bool,
    /// Cost of what is queued and of what sweeps have gathered for this stream.
    queued_bytes: usize,
    /// Set when an event found no room, until the queue has drained to `resume_bytes`.
    congested: bool,
    resume_bytes: usize,
    /// Watchers that turned behind for want of room.
    pub blocked: Vec<u32>,
    /// Watchers not in flow, blocked ones included.
    pub behind: usize,
    /// Watchers that asked for a start which the head had not reached when they came, by it.
    pub future: BTreeSet<(Revision, u32)>,
    /// A progress request waits until the stream is delivered up to this revision.
    pub progress: Option<Revision>,
    /// In the hub's list of streams whose progress request may be answered.
    pub is_answerable: bool,
    /// Watchers that want periodic progress, with their serials; some may be gone.
    pub notified: Vec<(u32, u32)>,
    /// Live ones of the former.
    pub notified_count: usize,
    /// How far the tick under way has come in `notified`.
    pub tick_at: usize,
    /// Time between two ticks, jitter included.
    pub tick_period: Duration,
    /// The next tick.
    pub tick_time: Monotonic,
}

/// A message as it waits, small.
#[derive(Clone)]
pub(super) enum Queued {
    Events { watch_id: i64, batch: Arc<Batch>, fragment: bool },
    Progress { watch_id: i64, revision: Revision },
    Created { watch_id: i64, revision: Revision },
    Refused { revision: Revision, reason: Box<str> },
    Canceled { watch_id: i64, revision: Revision },
    Compacted { watch_id: i64, compact_revision: Revision },
}

/// How much the streams of a shard may queue now.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// On a stream whose client has taken all before, in a turn.
    pub open_bytes: usize,
    /// On a stream whose client has not, beside more for each watch.
    pub stalled_bytes: usize,
    /// On all streams together, beside what they hold.
    pub left_bytes: usize,
}

impl Room {
    /// What a stream may hold whose client does not read, and that a watcher behind is given at a time.
    pub fn share(&self, stream: &Stream) -> usize {
        let more = stream.ids.len().saturating_mul(STALLED_QUEUE_BYTES_PER_WATCH);
        self.stalled_bytes.saturating_add(more).min(self.open_bytes)
    }

    /// What may wait for a stream's client as copies of its own, at least a byte.
    pub fn copied(&self, stream: &Stream) -> usize {
        (self.share(stream) / 2).max(1)
    }

    /// What may be queued on a stream by the flow at the head.
    pub fn of(&self, stream: &Stream) -> usize {
        if stream.is_stalled {
            self.share(stream).min(self.left_bytes / QUEUES_PARTS)
        } else {
            self.open_bytes
        }
    }

    /// What may be queued on a stream by a sweep: no more than its client may leave unread, for it was slow before.
    pub fn of_sweep(&self, stream: &Stream) -> usize {
        self.share(stream).min(self.of(stream))
    }
}

impl Stream {
    pub fn new(tick_time: Monotonic, tick_period: Duration) -> Stream {
        Stream {
            ids: HashTable::new(),
            lost: BTreeSet::new(),
            next_id: 0,
            queue: VecDeque::new(),
            is_ready: false,
            is_stalled: false,
            queued_bytes: 0,
            congested: false,
            resume_bytes: 0,
            blocked: Vec::new(),
            behind: 0,
            future: BTreeSet::new(),
            progress: None,
            is_answerable: false,
            notified: Vec::new(),
            notified_count: 0,
            tick_at: 0,
            tick_period,
            tick_time,
        }
    }

    /// True if events of `bytes` may be added: the queue has room, or is empty.
    pub fn admits(&self, bytes: usize, bytes_max: usize) -> bool {
        !self.congested && (self.queued_bytes == 0 || self.queued_bytes + bytes <= bytes_max)
    }

    /// Notes that events of `bytes` were refused: no more until most of the queue is free, so that those who turned
    /// behind catch up with many events at once, and enough for them.
    pub fn congest(&mut self, bytes: usize, bytes_max: usize) {
        let resume_bytes = (bytes_max / 8).min(bytes_max.saturating_sub(bytes));
        self.resume_bytes = if self.congested { self.resume_bytes.min(resume_bytes) } else { resume_bytes };
        self.congested = true;
    }

    /// True while events are refused until the queue has drained.
    pub fn is_congested(&self) -> bool {
        self.congested
    }

    /// Counts bytes that a sweep gathers and will queue.
    pub fn reserve(&mut self, bytes: usize) {
        self.queued_bytes += bytes;
    }

    /// Takes back what [`Stream::reserve`] counted.
    pub fn unreserve(&mut self, bytes: usize) {
        self.queued_bytes -= bytes;
    }

    /// Appends a message. True if the stream becomes ready by it: the queue was empty before.
    pub fn push(&mut self, message: Queued) -> bool {
        self.queued_bytes += message.cost();
        self.queue.push_back(message);
        self.queue.len() == 1 && !std::mem::replace(&mut self.is_ready, true)
    }

    /// Puts a message before all others: only a canary does that.
    #[cfg(any(test, feature = "testing"))]
    pub fn push_first(&mut self, message: Queued) -> bool {
        self.queued_bytes += message.cost();
        self.queue.push_front(message);
        self.queue.len() == 1 && !std::mem::replace(&mut self.is_ready, true)
    }

    /// Takes the first message.
    pub fn pop(&mut self) -> Option<Queued> {
        let message = self.queue.pop_front()?;
        self.queued_bytes -= message.cost();
        if self.queue.is_empty() {
            self.is_stalled = false;
            self.queue.shrink_to(QUEUE_SLOTS_KEPT);
        }
        Some(message)
    }

    /// Ends the congestion if enough has drained. True if it ended just now.
    pub fn relieve(&mut self) -> bool {
        let ends = self.congested && self.queued_bytes <= self.resume_bytes;
        self.congested &= !ends;
        ends
    }

    /// Bytes that the stream holds.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// The former without what answers the client's own requests.
    #[cfg(any(test, feature = "testing"))]
    pub fn event_bytes(&self) -> usize {
        let answers = self.queue.iter().filter(|queued| queued.events() == 0).map(Queued::cost);
        self.queued_bytes - answers.sum::<usize>()
    }

    /// Events that wait in the queue.
    pub fn queued_events(&self) -> u64 {
        self.queue.iter().map(Queued::events).sum()
    }

    /// True if nothing waits to be taken.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Queued {
    /// Number of events.
    pub fn events(&self) -> u64 {
        match self {
            Queued::Events { batch, .. } => u64::from(batch.events),
            Queued::Progress { .. }
            | Queued::Created { .. }
            | Queued::Refused { .. }
            | Queued::Canceled { .. }
            | Queued::Compacted { .. } => 0,
        }
    }

    /// What it counts for in bytes.
    pub fn cost(&self) -> usize {
        MESSAGE_OVERHEAD_BYTES
            + match self {
                Queued::Events { batch, .. } => batch.bytes,
                Queued::Refused { reason, .. } => reason.len(),
                Queued::Progress { .. }
                | Queued::Created { .. }
                | Queued::Canceled { .. }
                | Queued::Compacted { .. } => 0,
            }
    }

    /// The message in full.
    pub fn into_message(self) -> WatchMessage {
        let empty = WatchMessage {
            watch_id: -1,
            revision: 0,
            created: false,
            canceled: false,
            compact_revision: 0,
            cancel_reason: "".into(),
            fragment: false,
            events: None,
        };
        match self {
            Queued::Events { watch_id, batch, fragment } => {
                WatchMessage { watch_id, revision: batch.revision, fragment, events: Some(batch), ..empty }
            }
            Queued::Progress { watch_id, revision } => WatchMessage { watch_id, revision, ..empty },
            Queued::Created { watch_id, revision } => {
                WatchMessage { watch_id, revision, created: true, ..empty }
            }
            Queued::Refused { revision, reason } => {
                let cancel_reason = String::from(reason).into();
                WatchMessage { revision, created: true, canceled: true, cancel_reason, ..empty }
            }
            Queued::Canceled { watch_id, revision } => {
                WatchMessage { watch_id, revision, canceled: true, ..empty }
            }
            Queued::Compacted { watch_id, compact_revision } => {
                WatchMessage { watch_id, canceled: true, compact_revision, ..empty }
            }
        }
    }
}

/// Slots that an empty queue keeps.
const QUEUE_SLOTS_KEPT: usize = 16;
