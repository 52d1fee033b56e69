//! Watch: the events of a shard's watch streams.
//!
//! Owns: the shard's watchers, their index, the ordered queue of each of its watch streams.
//! Takes: requests of clients, published views, the time. Gives: messages, one stream at a time.
//! Always true: a watcher gets every matching event from its start on exactly once, ascending,
//! all events of a revision in one response (or in fragments, if asked for); `created` comes first,
//! nothing after `canceled`; no progress message overtakes an event; a stream whose client does not
//! read holds at most its bound and one revision; who is in flow is never cancelled by a compaction.
//! Not here: connections and their flow control, permissions, the log of revisions itself.
//!
//! The log of revisions is the queue between the sequencer and the shard. [`Hub::pump`] reads it up to the
//! published view and hands each event to the streams; whoever has no room left, or started in the past,
//! is *behind* and is served by sweeps over older revisions until it is back at the head.

mod event;
mod flow;
mod hub;
pub mod index;
mod message;
mod pages;
mod registry;
mod stream;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub use hub::{Counts, Hub};
pub use message::{Batch, HeaderIds, Piece, WatchMessage};

use crate::limits;
use crate::pure::types::Revision;
use crate::stdx::slab::Key;

/// A watch stream of a hub. A late handle of a closed stream finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub(super) Key);

impl StreamKey {
    /// The handle as one number, for tables of the caller.
    pub fn to_u64(self) -> u64 {
        self.0.to_u64()
    }
}

/// What the client asks for: a `WatchCreateRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchCreate {
    /// Empty stands for the least key, `\0`.
    pub key: Bytes,
    /// Empty: just the key. `\0`: from the key on.
    pub range_end: Bytes,
    /// 0: from the next revision on.
    pub start_revision: Revision,
    /// 0: the hub chooses.
    pub watch_id: i64,
    /// Filter NOPUT.
    pub no_put: bool,
    /// Filter NODELETE.
    pub no_delete: bool,
    /// Events carry what they replace.
    pub prev_kv: bool,
    /// Tell the revision now and then.
    pub progress_notify: bool,
    /// Large responses may come in parts.
    pub fragment: bool,
}

/// What a hub is told at its start.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Keys the private hashes and the shape of the index.
    pub seed: u64,
    /// Time between periodic progress messages, before jitter.
    pub progress_interval: Duration,
    /// Size from which a response is cut, if the client allows.
    pub fragment_bytes: usize,
    /// Bytes that one turn queues on a stream whose client has taken all before; beyond, its watchers turn behind.
    pub queue_bytes_max: usize,
    /// Bytes queued on a stream whose client does not read, beside more for each of its watches.
    pub stalled_queue_bytes: usize,
    /// Bytes queued on all streams.
    pub queues_bytes_max: usize,
    /// Watches of one stream.
    pub watches_per_stream_max: usize,
    /// Watches of the member.
    pub watches_max: usize,
    /// The bug to have, chosen by a test.
    #[cfg(any(test, feature = "testing"))]
    pub canary: Option<Canary>,
}

impl HubConfig {
    /// The bounds of `limits::watch`, and what flags say: `--max-request-bytes` and
    /// `--watch-progress-notify-interval` (raised to the least one allowed).
    pub fn new(seed: u64, max_request_bytes: usize, progress_interval: Duration) -> HubConfig {
        let interval_min = Duration::from_millis(limits::watch::PROGRESS_INTERVAL_MILLIS_MIN);
        HubConfig {
            seed,
            progress_interval: progress_interval.max(interval_min),
            fragment_bytes: max_request_bytes + limits::request::ENVELOPE_BYTES,
            queue_bytes_max: limits::watch::STREAM_QUEUE_BYTES_MAX,
            stalled_queue_bytes: limits::watch::STALLED_QUEUE_BYTES,
            queues_bytes_max: limits::watch::QUEUES_BYTES_MAX,
            watches_per_stream_max: limits::watch::WATCHES_PER_STREAM_MAX,
            watches_max: limits::watch::WATCHES_MAX,
            #[cfg(any(test, feature = "testing"))]
            canary: None,
        }
    }
}

/// Bugs that checkers have to find, off unless a test chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// M8: a progress message overtakes events.
    Overtake,
    /// M10: an event is delivered again after a watcher was behind.
    Twice,
    /// M11: a revision is split over responses.
    Split,
    /// M9: the deletes of the compact revision are gone.
    Drop,
    /// M23: a watcher whose stream is full loses the event.
    Swallow,
}
