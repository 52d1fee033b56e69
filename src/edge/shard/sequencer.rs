//! The sequencer's half of a core: the node, its log writes, its mailboxes, its publications.

use super::{FloorSlot, Stopped};
use crate::edge::io::{AlignedBuffer, Io, SegmentError};
use crate::edge::mesh::{Publisher, Receiver, Sender};
use crate::limits;
use crate::pure::mvcc::Retired;
use crate::pure::node::{Effect, FromSequencer, Node, ToSequencer, View};
use crate::pure::types::Revision;
use crate::pure::wal::BatchBuffer;
use crate::stdx::histogram::Histogram;
use crate::stdx::time::Monotonic;

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
    write_began: Monotonic,
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
            write_began: Monotonic(0),
            sync_seconds: crate::edge::ops::metrics::disk_histogram(),
            log_bytes_written: 0,
        }
    }

    /// One turn: wishes in, effects out, the next log write begun. True if it has more to do at once.
    pub fn turn(&mut self, io: &mut impl Io, now: Monotonic, floors: &[FloorSlot]) -> bool {
        for mailbox in &mut self.wishes {
            for _ in 0..limits::request::PROPOSALS_OUTSTANDING_MAX {
                let Some(wish) = mailbox.receive() else { break };
                self.node.handle_ask(wish, now);
            }
        }
        self.node.set_log_bytes(io.log_bytes());
        let mut busy = self.node.turn(now);
        self.carry_out(io);
        let floor = floors.iter().filter_map(FloorSlot::read).min();
        if self.publisher.has_passed(self.compacted.1) && self.node.wants_cleaning(floor) {
            self.node.clean(floor);
            self.carry_out(io);
            busy |= self.node.wants_cleaning(floor);
        }
        self.begin_write(io, now);
        self.publisher.collect();
        busy
    }

    fn carry_out(&mut self, io: &mut impl Io) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::PrepareSegment(need) => io.log_prepare_segment(need.number, need.bytes),
                Effect::Publish(view) => {
                    let compact_revision = view.kv.compact_revision();
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

    /// When the next turn is due.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        self.node.next_timeout()
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
