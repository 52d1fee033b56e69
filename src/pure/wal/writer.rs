//! The writer: pending entries become batches, one at a time.

use std::collections::VecDeque;

use super::format::{
    BATCH_HEADER_BYTES, BatchEncoder, BatchHeader, Frame, HARD_STATE_FRAME_BYTES, IDENTITY_FRAME_BYTES,
    Identity, Lsn, SEGMENT_HEADER_BYTES, SegmentHeader, block_aligned, frame_bytes,
};
use super::fresh::{push_hard_state, push_identity};
use super::{Config, Resume};
use crate::limits::log::{BLOCK_BYTES, ENTRY_BYTES_MAX, ROOM_RESERVE_BYTES};
use crate::pure::raft::{Entry, HardState, Persisted, Ticket};
use crate::pure::types::{LogIndex, Term};

/// Forms batches and knows what of the log is on disk.
///
/// Drive it so, on every turn of the sequencer:
///
/// ```text
/// writer.append(ticket, hard_state, entries)          for each Persist of Raft
/// while let Some(need) = writer.poll_segment()        make the file of zeros, then
///                                                     handle_segment_ready / handle_segment_failed
/// if let Some(write) = writer.poll_write(&mut buffer) one write with O_DIRECT and RWF_DSYNC, then
///                                                     handle_written / handle_write_failed
/// ```
///
/// Positions, each of which only grows: `claimed <= durable_to <= lsn`; a batch is in flight exactly
/// when the last two differ.
#[derive(Debug)]
pub struct Writer {
    config: Config,
    salt: u64,
    identity: Identity,
    segment: Segment,
    next: Next,
    /// End of the batches that were formed.
    lsn: Lsn,
    /// End of the batches that are on disk.
    durable_to: Lsn,
    /// The greatest mark on disk: what recovery can prove to have been durable.
    claimed: Lsn,
    /// End of the last durable batch that held something to acknowledge.
    needs_proof_to: Lsn,
    batch_number: u64,
    entries: Pending,
    /// The newest state, and the one in the last batch formed.
    hard_state: HardState,
    hard_state_formed: HardState,
    flight: Option<Flight>,
    writes: u64,
    persisted: Persisted,
    idle_due: bool,
    poisoned: bool,
}

/// The segment that batches go to.
#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Where the next batch goes, from the start of the file.
    offset: u64,
    has_identity: bool,
}

/// The segment after it.
#[derive(Debug, Clone, Copy)]
enum Next {
    NotNeeded,
    Wanted(NeedSegment),
    Asked(NeedSegment),
    Failed(NeedSegment),
    Ready(NeedSegment),
}

/// Entries that wait for a batch.
#[derive(Debug, Default)]
struct Pending {
    queue: VecDeque<Entry>,
    /// Sum of [`Writer::cost_of`] over the queue.
    cost_bytes: u64,
    /// Entries in the queue that override one before them.
    overrides: u64,
    /// The last entry appended, the last one formed into a batch.
    last: (Term, LogIndex),
    last_formed: (Term, LogIndex),
    /// How many entries were appended and formed since start; tickets wait for a number of them.
    appended: u64,
    formed: u64,
    tickets: VecDeque<(u64, Ticket)>,
    ticket_formed: Ticket,
}

#[derive(Debug)]
struct Flight {
    token: u64,
    bytes: usize,
    /// What is true once it is on disk.
    claims: Lsn,
    /// It holds something that may be acknowledged.
    needs_proof: bool,
    last: (Term, LogIndex),
    ticket: Ticket,
    /// The write is the header of this segment.
    opens: Option<NeedSegment>,
}

/// Order for a file of `bytes` zeros, written and synced, its directory synced too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct NeedSegment {
    /// Number for its name.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
}

/// One write, to be synced, whose bytes are in the buffer that was lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct WriteBatch {
    /// Number of the segment.
    pub segment: u64,
    /// From the start of its file; a whole block.
    pub offset: u64,
    /// Whole blocks.
    pub bytes: usize,
    /// What [`Writer::handle_written`] wants back.
    pub token: u64,
    /// The last entry in it, or before it.
    pub last: (Term, LogIndex),
    /// Canary M1: the driver leaves out this write's sync.
    #[cfg(any(test, feature = "testing"))]
    pub skip_sync: bool,
}

/// A write failed or was short: what is on disk is unknown, and nothing is ever written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Poisoned;

/// A buffer that the caller lends for a batch: aligned as its disk wants, reused as it likes.
pub trait BatchBuffer {
    /// Exactly `bytes` bytes of any content; all of them will be overwritten.
    fn lend(&mut self, bytes: usize) -> &mut [u8];
}

impl BatchBuffer for Vec<u8> {
    fn lend(&mut self, bytes: usize) -> &mut [u8] {
        self.resize(bytes, 0);
        self
    }
}

/// What the next batch holds.
struct Plan {
    entries: usize,
    bytes: usize,
    hard_state: Option<HardState>,
}

impl Pending {
    /// The greatest index that nothing behind the first `taken` entries of the queue overrides.
    fn settled_before(&self, taken: usize) -> LogIndex {
        // Overrides are rare, and without any the next entry has the lowest index.
        let look_at = if self.overrides == 0 { 1 } else { self.queue.len() };
        let lowest = self.queue.iter().skip(taken).take(look_at).map(|entry| entry.index.0).min();
        LogIndex(lowest.map_or(u64::MAX, |index| index - 1))
    }
}

impl Writer {
    /// Goes on where a fresh segment ends. The caller has carried out and synced all writes of the
    /// [`super::FreshSegment`] that came with `resume`.
    pub fn resume(config: Config, resume: Resume) -> Writer {
        let (term, index) = resume.last;
        let writer = Writer {
            config,
            salt: resume.salt,
            identity: resume.identity,
            segment: Segment {
                number: resume.segment,
                bytes: resume.segment_bytes,
                offset: resume.offset,
                has_identity: true,
            },
            next: Next::NotNeeded,
            lsn: resume.lsn,
            durable_to: resume.lsn,
            claimed: resume.lsn,
            needs_proof_to: resume.lsn,
            batch_number: resume.batch_number,
            entries: Pending { last: resume.last, last_formed: resume.last, ..Pending::default() },
            hard_state: resume.hard_state,
            hard_state_formed: resume.hard_state,
            flight: None,
            writes: 0,
            persisted: Persisted { ticket: Ticket(0), term, index },
            idle_due: false,
            poisoned: false,
        };
        writer.check_invariants();
        writer
    }

    /// Takes over one order of Raft: state and entries reach the disk together, and `ticket` comes
    /// back when all of it has.
    pub fn append(&mut self, ticket: Ticket, hard_state: Option<HardState>, entries: Vec<Entry>) {
        if let Some(state) = hard_state {
            self.set_hard_state(state);
        }
        for entry in entries {
            self.append_entry(entry);
        }
        let newest = self.entries.tickets.back().map_or(self.entries.ticket_formed, |(_, newest)| *newest);
        assert!(newest < ticket, "tickets ascend");
        self.entries.tickets.push_back((self.entries.appended, ticket));
        self.want_segment();
        self.check_invariants();
    }

    /// Appends an entry. One with an index that is already there overrides it and all behind it.
    pub fn append_entry(&mut self, entry: Entry) {
        assert!(entry.payload.len() <= ENTRY_BYTES_MAX, "requests are refused far below this size");
        assert!(LogIndex(0) < entry.index, "the first entry has index 1");
        assert!(entry.index <= self.entries.last.1.next(), "the log has no gaps");
        self.entries.overrides += u64::from(entry.index <= self.entries.last.1);
        self.entries.last = (entry.term, entry.index);
        self.entries.cost_bytes += Writer::cost_of(entry.payload.len());
        self.entries.appended += 1;
        self.entries.queue.push_back(entry);
    }

    /// Sets the state that goes in front of the next batch. A change of the commit index alone is
    /// no reason to write: it goes along with what is (etcd does not sync it either).
    pub fn set_hard_state(&mut self, state: HardState) {
        assert!(self.hard_state.term <= state.term, "terms only grow");
        self.hard_state = state;
    }

    /// True when something waits that the disk must have before anybody may act on it.
    pub fn has_pending(&self) -> bool {
        let formed = &self.hard_state_formed;
        let promised = (formed.term, formed.vote) != (self.hard_state.term, self.hard_state.vote);
        promised || !self.entries.queue.is_empty() || !self.entries.tickets.is_empty()
    }

    /// True when the end of the log is on disk but no mark on disk proves that: damage there would
    /// read as a torn write. The node calls [`Writer::idle_batch`] when this lasted for 1 s.
    pub fn needs_idle_batch(&self) -> bool {
        self.claimed < self.needs_proof_to && self.flight.is_none() && !self.has_pending()
    }

    /// Makes the next [`Writer::poll_write`] give an empty batch that proves all before it.
    pub fn idle_batch(&mut self) {
        self.idle_due = self.needs_idle_batch();
    }

    /// The next write, if none is in flight and there is reason for one. Its bytes are in `out`,
    /// which must not change until the write is done.
    pub fn poll_write(&mut self, out: &mut impl BatchBuffer) -> Option<WriteBatch> {
        let due = self.has_pending() || self.idle_due;
        if self.poisoned || self.flight.is_some() || !due {
            return None;
        }
        let write = match self.plan() {
            Some(plan) => Some(self.form_batch(&plan, out)),
            None => match self.next {
                Next::Ready(next) if self.fits(next) => Some(self.form_header(next, out)),
                Next::Ready(_) | Next::NotNeeded | Next::Wanted(_) | Next::Asked(_) | Next::Failed(_) => None,
            },
        };
        // Proof of the end of a full segment is given by the next segment's header.
        self.idle_due = false;
        self.want_segment();
        self.check_invariants();
        write
    }

    /// The write came back without error, `bytes` long: what is on disk now.
    ///
    /// # Errors
    /// A short write is a failed one.
    pub fn handle_written(&mut self, token: u64, bytes: usize) -> Result<Persisted, Poisoned> {
        if self.poisoned {
            return Err(Poisoned);
        }
        let flight = self.flight.take().expect("a write is in flight");
        assert_eq!(flight.token, token, "one write is in flight, and this is its token");
        if bytes != flight.bytes {
            self.poisoned = true;
            return Err(Poisoned);
        }
        self.claimed = flight.claims;
        self.durable_to = self.lsn;
        if let Some(next) = flight.opens {
            self.segment = Segment {
                number: next.number,
                bytes: next.bytes,
                offset: SEGMENT_HEADER_BYTES as u64,
                has_identity: false,
            };
            self.next = Next::NotNeeded;
        }
        if flight.needs_proof {
            self.needs_proof_to = self.durable_to;
        }
        let (term, index) = flight.last;
        self.persisted = Persisted { ticket: flight.ticket, term, index };
        self.want_segment();
        self.check_invariants();
        Ok(self.persisted)
    }

    /// The write failed. Nothing is acknowledged from here on; the process has to stop (exit code
    /// 74) and recovery decides what is there.
    pub fn handle_write_failed(&mut self, token: u64) -> Result<Persisted, Poisoned> {
        if self.config.canaries.believes_failed_write() {
            let bytes = self.flight.as_ref().map_or(0, |flight| flight.bytes);
            return self.handle_written(token, bytes);
        }
        self.poisoned = true;
        Err(Poisoned)
    }

    /// The order for the next segment, once.
    pub fn poll_segment(&mut self) -> Option<NeedSegment> {
        let Next::Wanted(need) = self.next else { return None };
        self.next = Next::Asked(need);
        Some(need)
    }

    /// The segment is there: zeros, synced, its directory synced.
    pub fn handle_segment_ready(&mut self, number: u64) {
        match self.next {
            Next::Asked(need) | Next::Failed(need) if need.number == number => self.next = Next::Ready(need),
            Next::NotNeeded | Next::Wanted(_) | Next::Asked(_) | Next::Failed(_) | Next::Ready(_) => {
                panic!("segment {number} was not asked for")
            }
        }
        self.want_segment();
        self.check_invariants();
    }

    /// The segment can't be made (no space). Writing goes on to the end of the current one.
    pub fn handle_segment_failed(&mut self, number: u64) {
        let Next::Asked(need) = self.next else { panic!("segment {number} was not asked for") };
        assert_eq!(need.number, number, "one segment is asked for at a time");
        self.next = Next::Failed(need);
    }

    /// Asks again for a segment that could not be made; the node does so now and then.
    pub fn retry_segment(&mut self) {
        if let Next::Failed(need) = self.next {
            self.next = Next::Wanted(need);
        }
    }

    /// Bytes, counted by [`Writer::cost_of`], that are sure to find a place. Without limit unless
    /// the next segment could not be made; then the node answers `etcdserver: no space` to
    /// proposals that cost more, and nothing that was taken is lost: what does not fit waits.
    pub fn room(&self) -> u64 {
        match self.next {
            Next::Failed(_) => {
                let rest = self.segment.bytes - self.segment.offset;
                rest.saturating_sub(self.entries.cost_bytes).saturating_sub(ROOM_RESERVE_BYTES)
            }
            Next::NotNeeded | Next::Wanted(_) | Next::Asked(_) | Next::Ready(_) => u64::MAX,
        }
    }

    /// Disk bytes of an entry with such a payload at worst: alone in its batch.
    pub fn cost_of(payload_bytes: usize) -> u64 {
        block_aligned(BATCH_HEADER_BYTES + HARD_STATE_FRAME_BYTES + frame_bytes(payload_bytes)) as u64
    }

    /// What is on disk.
    pub fn persisted(&self) -> Persisted {
        self.persisted
    }

    /// Token of the write in flight.
    pub fn write_token(&self) -> Option<u64> {
        self.flight.as_ref().map(|flight| flight.token)
    }

    /// Number of the segment that is written to.
    pub fn segment_number(&self) -> u64 {
        self.segment.number
    }

    /// True after a failed write.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// What goes into the next batch of the current segment; `None` if not even one entry fits.
    fn plan(&self) -> Option<Plan> {
        let rest = usize::try_from(self.segment.bytes - self.segment.offset).unwrap_or(usize::MAX);
        let mut used = BATCH_HEADER_BYTES;
        let write_state = self.hard_state != self.hard_state_formed || !self.segment.has_identity;
        used += if self.segment.has_identity { 0 } else { IDENTITY_FRAME_BYTES };
        used += if write_state { HARD_STATE_FRAME_BYTES } else { 0 };
        let mut entries = 0;
        let mut payload_bytes = 0;
        let mut last = self.entries.last_formed;
        for entry in &self.entries.queue {
            let with = used + frame_bytes(entry.payload.len());
            payload_bytes += entry.payload.len();
            // The first goes whatever its size.
            if block_aligned(with) > rest || entries > 0 && payload_bytes > self.config.batch_bytes_max {
                break;
            }
            used = with;
            entries += 1;
            last = (entry.term, entry.index);
        }
        let bytes = block_aligned(used);
        if bytes > rest || entries == 0 && !self.entries.queue.is_empty() {
            return None;
        }
        // A commit index never points behind the entries that are on disk with it, nor at one whose
        // successor of the same index is still to come.
        let commit = self.hard_state.commit.min(last.1).min(self.entries.settled_before(entries));
        assert!(self.hard_state_formed.commit <= commit, "committed entries are not overridden");
        let hard_state = write_state.then_some(HardState { commit, ..self.hard_state });
        Some(Plan { entries, bytes, hard_state })
    }

    fn form_batch(&mut self, plan: &Plan, out: &mut impl BatchBuffer) -> WriteBatch {
        let buffer = out.lend(plan.bytes);
        assert_eq!(buffer.len(), plan.bytes, "the buffer has the size that was asked for");
        let mut encoder = BatchEncoder::new(
            buffer,
            BatchHeader {
                bytes: 0,
                used_bytes: 0,
                segment: self.segment.number,
                salt: self.salt,
                lsn: self.lsn,
                batch_number: self.batch_number,
                durable_to: self.durable_to,
                frames: 0,
                flags: 0,
            },
        );
        if !self.segment.has_identity {
            push_identity(&mut encoder, &self.identity);
        }
        // A commit index needs no proof: it was proven when it was reached.
        let mut needs_proof = plan.entries > 0;
        if let Some(state) = plan.hard_state {
            push_hard_state(&mut encoder, &state);
            let before = std::mem::replace(&mut self.hard_state_formed, state);
            needs_proof |= (before.term, before.vote) != (state.term, state.vote);
        }
        for entry in self.entries.queue.drain(..plan.entries) {
            encoder.push(&Frame::of_entry(&entry));
            self.entries.cost_bytes -= Writer::cost_of(entry.payload.len());
            self.entries.overrides -= u64::from(entry.index <= self.entries.last_formed.1);
            self.entries.last_formed = (entry.term, entry.index);
            self.entries.formed += 1;
        }
        let header = encoder.finish();
        // The state went first, so a ticket only waits for its entries.
        while let Some((at, ticket)) = self.entries.tickets.front().copied() {
            if self.entries.formed < at {
                break;
            }
            self.entries.ticket_formed = ticket;
            self.entries.tickets.pop_front();
        }
        let write = WriteBatch {
            segment: self.segment.number,
            offset: self.segment.offset,
            bytes: plan.bytes,
            token: self.writes,
            last: self.entries.last_formed,
            #[cfg(any(test, feature = "testing"))]
            skip_sync: self.config.canaries.skips_sync(self.batch_number),
        };
        self.take_off(&write, header.durable_to, needs_proof, None);
        self.segment.offset += plan.bytes as u64;
        self.segment.has_identity = true;
        self.lsn = self.lsn.plus(plan.bytes as u64);
        self.batch_number += 1;
        write
    }

    /// The header is written and synced alone, before the first batch: so a batch proves that its
    /// segment had a header, and a header that can't be read there is damage, never a torn write.
    fn form_header(&mut self, next: NeedSegment, out: &mut impl BatchBuffer) -> WriteBatch {
        assert_eq!(self.lsn, self.durable_to, "a header claims that all before it is durable");
        let header = SegmentHeader {
            number: next.number,
            salt: self.salt,
            first_lsn: self.lsn,
            first_index: self.entries.last_formed.1.next(),
            durable_to: self.lsn,
        };
        header.encode(out.lend(SEGMENT_HEADER_BYTES));
        let write = WriteBatch {
            segment: next.number,
            offset: 0,
            bytes: SEGMENT_HEADER_BYTES,
            token: self.writes,
            last: self.entries.last_formed,
            #[cfg(any(test, feature = "testing"))]
            skip_sync: false,
        };
        self.take_off(&write, self.lsn, false, Some(next));
        write
    }

    fn take_off(&mut self, write: &WriteBatch, claims: Lsn, needs_proof: bool, opens: Option<NeedSegment>) {
        assert!(self.flight.is_none(), "at most one write is in flight");
        self.writes += 1;
        self.flight = Some(Flight {
            token: write.token,
            bytes: write.bytes,
            claims,
            needs_proof,
            last: write.last,
            ticket: self.entries.ticket_formed,
            opens,
        });
    }

    /// Asks for the next segment ahead of need: when this one is half full, or can't take the next
    /// entry; and for a larger one if the next entry is larger than segments are.
    fn want_segment(&mut self) {
        match self.next {
            Next::NotNeeded => {
                let stuck = self.has_pending() && self.plan().is_none();
                if stuck || self.segment.offset >= self.segment.bytes / 2 {
                    self.next = Next::Wanted(self.need(self.segment.number + 1));
                }
            }
            Next::Ready(next) if !self.fits(next) => self.next = Next::Wanted(self.need(next.number + 1)),
            Next::Ready(_) | Next::Wanted(_) | Next::Asked(_) | Next::Failed(_) => {}
        }
    }

    fn need(&self, number: u64) -> NeedSegment {
        let bytes = self.config.segment_bytes.max(self.first_entry_bytes());
        NeedSegment { number, bytes }
    }

    fn fits(&self, next: NeedSegment) -> bool {
        self.first_entry_bytes() <= next.bytes
    }

    /// Size of a segment that holds the next entry alone.
    fn first_entry_bytes(&self) -> u64 {
        let first = self.entries.queue.front().map_or(0, |entry| frame_bytes(entry.payload.len()));
        let batch = BATCH_HEADER_BYTES + IDENTITY_FRAME_BYTES + HARD_STATE_FRAME_BYTES + first;
        (SEGMENT_HEADER_BYTES + block_aligned(batch)) as u64
    }

    fn check_invariants(&self) {
        assert!(self.claimed <= self.durable_to && self.durable_to <= self.lsn, "positions are in order");
        assert!(self.needs_proof_to <= self.durable_to, "what needs proof is durable");
        assert!(self.segment.offset <= self.segment.bytes, "batches stay inside their segment");
        assert!(self.segment.offset.is_multiple_of(BLOCK_BYTES as u64), "batches are aligned");
        assert_eq!(self.entries.appended - self.entries.formed, self.entries.queue.len() as u64);
        assert!(
            self.persisted.ticket <= self.entries.ticket_formed,
            "nothing is durable before it is formed"
        );
        if self.flight.is_none() && !self.poisoned {
            assert_eq!(self.durable_to, self.lsn, "without a write in flight all that was formed is durable");
        }
    }
}
