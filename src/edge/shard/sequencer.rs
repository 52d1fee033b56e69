//! The sequencer's half of a core: the node, its log writes, its mailboxes, its publications.

use std::time::Duration;

use super::beside::Beside;
use super::slot::mark_interested;
use super::{ShardSlot, Stopped};
use crate::edge::io::{AlignedBuffer, Io, SegmentError};
use crate::edge::mesh::{Publisher, Receiver, Sender};
use crate::limits;
use crate::pure::mvcc::Retired;
use crate::pure::node::{Effect, FromSequencer, Node, ToSequencer, View};
use crate::pure::types::Revision;
use crate::pure::wal::BatchBuffer;
use crate::stdx::histogram::Histogram;
use crate::stdx::time::Monotonic;

/// A shard leaves its epoch within a slice of its work.
const EPOCH_RETRY: Duration = Duration::from_millis(1);
/// A long read gives its floor up when it ends.
const FLOOR_RETRY: Duration = Duration::from_millis(20);

/// See the module.
pub struct Sequencer {
    /// The member.
    pub node: Node,
    publisher: Publisher<View, Vec<Retired>>,
    wishes: Vec<Receiver<ToSequencer>>,
    replies: Vec<Sender<FromSequencer>>,
    /// The compact revision that the current view shows, and the epoch that readers must have left before what
    /// lies below may go (H5).
    compacted: (Revision, u64),
    /// The revision of the last view for which watchers were woken.
    announced: Revision,
    /// The revision of the last view.
    published: Revision,
    write_began: Monotonic,
    /// From where the wishes of one client alone come.
    beside: Beside,
    /// Time of each log write.
    pub sync_seconds: Histogram,
    /// Bytes written to the log.
    pub log_bytes_written: u64,
}

impl Sequencer {
    /// Puts the half together; one mailbox pair for each shard.
    pub fn new(
        node: Node,
        publisher: Publisher<View, Vec<Retired>>,
        wishes: Vec<Receiver<ToSequencer>>,
        replies: Vec<Sender<FromSequencer>>,
    ) -> Sequencer {
        Sequencer {
            node,
            publisher,
            wishes,
            replies,
            compacted: (-1, 0),
            announced: 0,
            published: 0,
            write_began: Monotonic(0),
            beside: Beside::default(),
            sync_seconds: crate::edge::ops::metrics::disk_histogram(),
            log_bytes_written: 0,
        }
    }

    /// One turn: wishes in, effects out, the next log write begun. Marks the shards that have something to be woken
    /// for. True if it has more to do at once.
    pub fn turn(
        &mut self,
        io: &mut impl Io,
        now: Monotonic,
        slots: &[ShardSlot],
        to_wake: &mut [bool],
    ) -> bool {
        let (mut asked, mut several) = (None, false);
        for (shard, mailbox) in self.wishes.iter_mut().enumerate() {
            for _ in 0..limits::request::PROPOSALS_OUTSTANDING_MAX {
                let Some(wish) = mailbox.receive() else { break };
                self.node.handle_ask(wish, now);
                several |= asked.replace(shard).is_some();
            }
        }
        if asked.is_some() {
            self.beside.took(asked.filter(|_| !several), slots);
        }
        io.run_on(self.beside.choose(io.is_alone()));
        self.node.set_log_bytes(io.log_bytes());
        let mut busy = self.node.turn(now);
        self.carry_out(io, to_wake);
        // Begun before anything else, so that the disk works meanwhile.
        self.begin_write(io, now);
        if self.node.wants_cleaning(None) && self.publisher.has_passed(self.compacted.1) {
            // What a shard announced before it left the epoch is seen from here on.
            let floor = slots.iter().filter_map(ShardSlot::floor).min();
            if self.node.wants_cleaning(floor) {
                self.node.clean(floor);
                self.carry_out(io, to_wake);
                busy |= self.node.wants_cleaning(floor);
            }
        }
        self.wake_watchers(slots, to_wake);
        self.publisher.collect();
        busy
    }

    /// Shards with watchers are woken for new revisions; see [`ShardSlot::announce_interest`].
    fn wake_watchers(&mut self, slots: &[ShardSlot], to_wake: &mut [bool]) {
        if self.published == self.announced {
            return;
        }
        self.announced = self.published;
        mark_interested(slots, to_wake);
    }

    fn carry_out(&mut self, io: &mut impl Io, to_wake: &mut [bool]) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::PrepareSegment(need) => io.log_prepare_segment(need.number, need.bytes),
                Effect::Publish(view) => {
                    let compact_revision = view.kv.compact_revision();
                    self.published = view.kv.revision();
                    self.publisher.publish(*view);
                    if compact_revision != self.compacted.0 {
                        self.compacted = (compact_revision, self.publisher.epoch());
                    }
                }
                Effect::Retire(garbage) => self.publisher.retire(garbage),
                Effect::Reply(reply) => {
                    let shard = usize::from(reply.ticket.shard);
                    let sent = self.replies[shard].send(reply);
                    assert!(sent.is_ok(), "a shard's replies have room for its credits");
                    to_wake[shard] = true;
                }
            }
        }
    }

    fn begin_write(&mut self, io: &mut impl Io, now: Monotonic) {
        let mut lend = Lend { io, buffer: None };
        let Some(write) = self.node.poll_log_write(&mut lend) else { return };
        let buffer = lend.buffer.expect("a batch was formed in the lent buffer");
        self.write_began = now;
        self.log_bytes_written += write.bytes as u64;
        #[cfg(any(test, feature = "testing"))]
        if write.skip_sync {
            io.log_skip_sync();
        }
        io.log_write(write.token, write.segment, write.offset, buffer);
    }

    pub(super) fn log_written(&mut self, token: u64, buffer: &AlignedBuffer, now: Monotonic) {
        self.sync_seconds.observe(now.since(self.write_began).as_secs_f64());
        self.node.handle_log_written(token, buffer.len(), now);
    }

    pub(super) fn log_failed(&mut self, token: u64, error: std::io::Error) -> Result<(), Stopped> {
        self.node.handle_log_failed(token).map_err(|_| Stopped::LogFailed(error))
    }

    pub(super) fn segment_failed(
        &mut self,
        number: u64,
        error: SegmentError,
        now: Monotonic,
    ) -> Result<(), Stopped> {
        match error {
            SegmentError::NoSpace => {
                tracing::warn!(
                    segment = number,
                    "no space for the next log segment; writes that do not fit are refused until there is"
                );
                self.node.handle_segment_failed(number, now);
                Ok(())
            }
            SegmentError::Failed(error) => Err(Stopped::LogFailed(error)),
        }
    }

    /// True if wishes wait that this turn did not take.
    pub fn has_wishes(&self) -> bool {
        self.wishes.iter().any(|mailbox| !mailbox.is_empty())
    }

    /// When the next turn is due. Shards do not say when they leave an epoch or give up a floor: what waits for that
    /// looks again a little later.
    pub fn next_timeout(&self, now: Monotonic) -> Option<Monotonic> {
        let wants_cleaning = self.node.wants_cleaning(None);
        let waits_for_epoch = self.publisher.retired_count() > 0
            || wants_cleaning && !self.publisher.has_passed(self.compacted.1);
        let retry = match (waits_for_epoch, wants_cleaning) {
            (true, _) => Some(now + EPOCH_RETRY),
            (false, true) => Some(now + FLOOR_RETRY),
            (false, false) => None,
        };
        [self.node.next_timeout(), retry].into_iter().flatten().min()
    }
}

/// Lends the log's writer one of the ring's registered buffers.
struct Lend<'a, I> {
    io: &'a mut I,
    buffer: Option<AlignedBuffer>,
}

impl<I: Io> BatchBuffer for Lend<'_, I> {
    fn lend(&mut self, bytes: usize) -> &mut [u8] {
        let mut buffer = self.io.log_buffer(bytes);
        buffer.resize_zeroed(bytes);
        self.buffer.insert(buffer)
    }
}
