//! Recovery: images of segments to what the member knew, a verdict, and a fresh segment to go on in.
//!
//! The log is a walk over valid batches from its first position. It stops at the first place X that
//! holds none. Every valid header found anywhere, before X or behind it, claims that all below some
//! position was durable when it was written; M is the greatest claim. X < M is damage: refuse.
//! Otherwise what is at X was never acknowledged and is cut. What lies in [M, X) may be there only
//! in a cache (the process died, the machine did not), so it is written again, to a segment of its
//! own, and synced before anybody may rely on it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::{
    BATCH_EARLY, BATCH_HEADER_BYTES, BatchHeader, FORMAT_VERSION, Frame, FrameKind, Identity, Lsn,
    SEGMENT_HEADER_BYTES, SegmentHead, SegmentHeader, is_zero, walk_frames,
};
use super::fresh::{FreshSegment, FreshSpec, TailBatch, frame_fresh};
use super::{Config, Resume};
use crate::limits::log::BLOCK_BYTES;
use crate::pure::raft::{Entry, HardState};
use crate::pure::types::{LogIndex, Term};

/// The first block of a segment's file; shorter if the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentBlock {
    /// The number in the file's name.
    pub number: u64,
    /// Up to [`SEGMENT_HEADER_BYTES`] bytes.
    pub bytes: Vec<u8>,
}

/// What is known before the segments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryStart {
    /// Where the log begins: 0 as long as no checkpoint lets segments go.
    pub first_lsn: Lsn,
    /// What somebody else (the manifest) recorded as durable; 0 if nobody did.
    pub durable_to: Lsn,
    /// The entry before the first one in the log.
    pub before: (Term, LogIndex),
}

impl RecoveryStart {
    /// A log that is kept whole.
    pub const WHOLE: RecoveryStart =
        RecoveryStart { first_lsn: Lsn(0), durable_to: Lsn(0), before: (Term(0), LogIndex(0)) };
}

/// Why a log is not used. The member must not start with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Refused {
    /// Something that was durable is not there any more.
    Corrupt(Corrupt),
    /// Written by another version of the format.
    OtherVersion {
        /// The segment that says so.
        segment: u64,
        /// Its version.
        found: u32,
        /// The version that this code reads.
        known: u32,
    },
}

/// Damage, and where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes from the start of its file.
    pub offset: u64,
    /// Position in the log at which the walk ended.
    pub lsn: Lsn,
    /// Position up to which the log is known to have been durable.
    pub durable_to: Lsn,
    /// What was expected there.
    pub damage: Damage,
}

/// What is wrong at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The segment's header can't be read although batches follow it.
    SegmentHeader,
    /// The segment is of another data directory.
    ForeignSegment,
    /// The log goes on in a segment that is not there, or not in one piece.
    MissingSegment,
    /// No valid batch header.
    BatchHeader,
    /// A frame of the batch does not match its check sum.
    Frame,
    /// All check sums are right, but the content can't be: a gap in the indexes, a committed entry
    /// overridden, a commit index behind the end, two identities.
    Content,
}

/// How the log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing follows the last batch.
    Clean,
    /// Something that is no whole batch follows; it was never acknowledged.
    Torn {
        /// Number of the segment.
        segment: u64,
        /// Bytes from the start of its file.
        offset: u64,
    },
}

/// A directory without a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct NoLog {
    /// Left over from a start that did not get far; may be removed once the log was created.
    pub unused: Vec<u64>,
    number: u64,
}

impl NoLog {
    /// Makes the log of a new member. `salt` is random: it keeps a client's payload from looking like
    /// a batch. [`Writer::resume`](super::Writer::resume) takes the second value once the first is
    /// on disk.
    pub fn create(&self, config: &Config, salt: u64, identity: Identity) -> (FreshSegment, Resume) {
        let spec = FreshSpec {
            number: self.number,
            salt,
            identity,
            first_lsn: Lsn(0),
            first_index: LogIndex(1),
            first_batch_number: 1,
            durable_to: Lsn(0),
            hard_state: HardState::default(),
            last: (Term(0), LogIndex(0)),
        };
        frame_fresh(config, &spec, &[])
    }
}

/// What a log held.
#[derive(Debug)]
#[must_use]
pub struct Recovered {
    /// Whose log it is.
    pub identity: Identity,
    /// The last one; its commit index is at most the last entry's.
    pub hard_state: HardState,
    /// Entries that [`Recovery::drain_committed`] has not handed out, ascending, without gaps.
    pub entries: Vec<Entry>,
    /// Term and index of the last entry, (0, 0) if there is none.
    pub last: (Term, LogIndex),
    /// X: where the walk ended.
    pub end: Lsn,
    /// M: what was proven durable.
    pub durable_to: Lsn,
    /// How it ended.
    pub verdict: End,
    /// To be carried out before a message leaves or an entry counts as persisted.
    pub fresh: FreshSegment,
    /// For [`Writer::resume`](super::Writer::resume), after that.
    pub resume: Resume,
    /// Segments that hold nothing of the log; may be removed after `fresh` is on disk.
    pub unused: Vec<u64>,
}

/// Result of a recovery that refused nothing.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// There was no log.
    NoLog(NoLog),
    /// There was one.
    Log(Box<Recovered>),
}

/// A recovery under way. Segments are read one at a time:
///
/// ```text
/// let mut recovery = Recovery::new(config, start, first blocks of all files)?;
/// while let Some(number) = recovery.poll_segment() {
///     recovery.handle_segment(number, its whole file)?;
///     recovery.drain_committed(|entry| replay);      optional: keeps memory small
/// }
/// match recovery.finish()? { .. }
/// ```
///
/// Nothing may be replayed for good before `finish` said yes: drop what was built from the entries
/// if it refuses.
#[derive(Debug)]
pub struct Recovery {
    config: Config,
    segments: Vec<Segment>,
    /// The segment that is to be read next.
    at: usize,
    salt: Option<u64>,
    /// M so far.
    durable_to: Lsn,
    /// Where the walk is, and where it stopped.
    lsn: Lsn,
    batch_number: u64,
    stop: Option<Stop>,
    /// A segment without header that begins where the walk was.
    suspect: Option<u64>,
    state: State,
    /// Batches from M on at the least, at the end of the walk.
    tail: VecDeque<TailBatch>,
    /// First position of the segment that the walk is in.
    segment_first_lsn: Lsn,
    /// A batch of that segment was written after its header was synced.
    segment_header_is_durable: bool,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    header: Option<SegmentHeader>,
    /// First position that a later segment overrides.
    end: Lsn,
    /// There is no header, but the first block is not empty.
    headless: bool,
    /// Holds batches of the log.
    used: bool,
}

#[derive(Debug, Clone, Copy)]
struct Stop {
    segment: u64,
    offset: u64,
    damage: Damage,
    clean: bool,
}

/// What the frames add up to.
#[derive(Debug, Default)]
struct State {
    identity: Option<Identity>,
    hard_state: HardState,
    entries: VecDeque<Entry>,
    last: (Term, LogIndex),
    handed_out: LogIndex,
    /// Term of the last entry that was handed out, or of the one before the log.
    handed_out_term: Term,
}

impl Recovery {
    /// Begins with the first block of every segment file in the directory, in any order.
    ///
    /// # Errors
    /// A segment of another format version or another data directory.
    pub fn new(
        config: Config,
        start: RecoveryStart,
        mut blocks: Vec<SegmentBlock>,
    ) -> Result<Recovery, Refused> {
        blocks.sort_unstable_by_key(|block| block.number);
        let mut segments = Vec::with_capacity(blocks.len());
        let (mut salt, mut durable_to) = (None, start.durable_to);
        for SegmentBlock { number, bytes } in blocks {
            let header = match SegmentHeader::decode(&bytes) {
                SegmentHead::Header(header) => Some(header).filter(|header| header.number == number),
                SegmentHead::OtherVersion(found) => {
                    return Err(Refused::OtherVersion { segment: number, found, known: FORMAT_VERSION });
                }
                SegmentHead::None => None,
            };
            if let Some(header) = header {
                if *salt.get_or_insert(header.salt) != header.salt {
                    let damage = Damage::ForeignSegment;
                    let lsn = header.first_lsn;
                    return Err(Refused::Corrupt(Corrupt {
                        segment: number,
                        offset: 0,
                        lsn,
                        durable_to,
                        damage,
                    }));
                }
                durable_to = durable_to.max(header.durable_to);
            }
            let headless = header.is_none() && !is_zero(&bytes);
            segments.push(Segment { number, header, end: Lsn(u64::MAX), headless, used: false });
        }
        let mut end = Lsn(u64::MAX);
        for segment in segments.iter_mut().rev() {
            segment.end = end;
            end = segment.header.map_or(end, |header| end.min(header.first_lsn));
        }
        let (term, index) = start.before;
        let state = State {
            last: start.before,
            handed_out: index,
            handed_out_term: term,
            hard_state: HardState { commit: index, term, ..HardState::default() },
            ..State::default()
        };
        let (lsn, batch_number) = (start.first_lsn, 1);
        Ok(Recovery {
            config,
            segments,
            at: 0,
            salt,
            durable_to,
            lsn,
            batch_number,
            stop: None,
            suspect: None,
            state,
            tail: VecDeque::new(),
            segment_first_lsn: lsn,
            segment_header_is_durable: false,
        })
    }

    /// Number of the segment to read next.
    pub fn poll_segment(&self) -> Option<u64> {
        self.segments.get(self.at).map(|segment| segment.number)
    }

    /// Takes the whole file of the segment that [`Recovery::poll_segment`] named. Entries borrow from
    /// the image, which is freed when those are gone.
    ///
    /// # Errors
    /// Damage that is certain already.
    pub fn handle_segment(&mut self, number: u64, image: Bytes) -> Result<(), Refused> {
        assert_eq!(self.poll_segment(), Some(number), "segments are read in the order that is asked for");
        let segment = &self.segments[self.at];
        let (header, end) = (segment.header, segment.end);
        self.at += 1;
        let Some(header) = header else { return self.scan_without_header(number, &image) };
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        if self.stop.is_none() && header.first_lsn <= self.lsn && self.lsn < end {
            if header.first_lsn < self.lsn {
                // Two headers claim one range, which no crash leaves behind.
                return Err(self.corrupt(number, 0, Damage::Content));
            }
            offset = self.walk(&header, end, &image)?;
        } else if self.stop.is_none() && self.lsn < header.first_lsn && header.first_lsn < end {
            self.stop = Some(self.stop_at_gap(number));
        }
        if let Some(stop) = self.stop {
            self.scan_for_claims(&header, &image, offset);
            // No need to read on, unless a header that is not there may be the reason.
            if self.segments[self.at..].iter().all(|segment| !segment.headless) {
                self.judge(stop)?;
            }
        }
        Ok(())
    }

    /// Hands out, once and in order, entries that no later record can override.
    pub fn drain_committed(&mut self, mut each: impl FnMut(Entry)) {
        while let Some(entry) = self.state.entries.front()
            && entry.index <= self.state.hard_state.commit
        {
            self.state.handed_out = entry.index;
            self.state.handed_out_term = entry.term;
            each(self.state.entries.pop_front().expect("seen above"));
        }
    }

    /// The verdict, after the last segment.
    ///
    /// # Errors
    /// Damage below what was durable.
    pub fn finish(mut self) -> Result<Outcome, Refused> {
        assert_eq!(self.poll_segment(), None, "all segments were read");
        let highest = self.segments.last().map_or(0, |segment| segment.number);
        let number =
            highest.checked_add(1).ok_or_else(|| self.corrupt(highest, 0, Damage::ForeignSegment))?;
        let stop = self.stop.unwrap_or_else(|| self.stop_at_gap(highest));
        let blamed = self.suspect.filter(|_| stop.clean).map_or(stop, |segment| Stop {
            segment,
            offset: 0,
            damage: Damage::SegmentHeader,
            clean: false,
        });
        self.judge(blamed)?;
        let unused: Vec<u64> = self.segments.iter().filter(|s| !s.used).map(|s| s.number).collect();
        let (Some(salt), Some(identity)) = (self.salt, self.state.identity) else {
            if self.salt.is_some() && self.lsn > Lsn(0) {
                return Err(self.corrupt(stop.segment, stop.offset, Damage::Content));
            }
            return Ok(Outcome::NoLog(NoLog { unused, number }));
        };
        if self.state.hard_state.commit > self.state.last.1 {
            return Err(self.corrupt(stop.segment, stop.offset, Damage::Content));
        }
        // Claims may have been found behind the end.
        self.trim_tail();
        let first_lsn = self.tail.front().map_or(self.lsn, |batch| batch.header.lsn);
        if self.durable_to < first_lsn {
            // Somebody recorded a position that is inside a batch.
            return Err(self.corrupt(stop.segment, stop.offset, Damage::Content));
        }
        let spec = FreshSpec {
            number,
            salt,
            identity,
            first_lsn,
            first_index: self.first_index_of_tail(),
            first_batch_number: self.batch_number - self.tail.len() as u64,
            durable_to: self.durable_to.min(self.lsn),
            hard_state: self.state.hard_state,
            last: self.state.last,
        };
        let (fresh, resume) = frame_fresh(&self.config, &spec, self.tail.make_contiguous());
        let verdict =
            if stop.clean { End::Clean } else { End::Torn { segment: stop.segment, offset: stop.offset } };
        // Detached from the images, which would be kept whole by a single entry.
        let detach = |entry: Entry| Entry { payload: Bytes::copy_from_slice(&entry.payload), ..entry };
        Ok(Outcome::Log(Box::new(Recovered {
            identity,
            hard_state: self.state.hard_state,
            entries: self.state.entries.drain(..).map(detach).collect(),
            last: self.state.last,
            end: self.lsn,
            durable_to: self.durable_to,
            verdict,
            fresh,
            resume,
            unused,
        })))
    }

    /// Follows the batches of one segment; gives the offset at which it ended. Sets `stop` unless
    /// the segment's share of the log was read to its end.
    fn walk(&mut self, header: &SegmentHeader, end: Lsn, image: &Bytes) -> Result<u64, Refused> {
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        self.segment_first_lsn = header.first_lsn;
        self.segment_header_is_durable = false;
        while self.lsn < end {
            match self.read_batch(header, end, image, offset) {
                Ok((batch, frames)) => {
                    self.accept(&batch, &frames, image, offset)?;
                    offset += u64::from(batch.bytes);
                    self.trim_tail();
                }
                Err(stop) => {
                    self.stop = Some(stop);
                    break;
                }
            }
        }
        let used = offset > SEGMENT_HEADER_BYTES as u64;
        self.segments[self.at - 1].used = used;
        Ok(offset)
    }

    /// The valid batch at the walk's position with all its frames and their payloads' offsets, or
    /// why there is none. Changes nothing.
    fn read_batch<'a>(
        &self,
        header: &SegmentHeader,
        end: Lsn,
        image: &'a [u8],
        offset: u64,
    ) -> Result<(BatchHeader, Vec<(Frame<'a>, usize)>), Stop> {
        let stop = |at: u64, damage, clean| Stop { segment: header.number, offset: at, damage, clean };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = image.get(start..).unwrap_or(&[]);
        let head = &rest[..rest.len().min(BATCH_HEADER_BYTES)];
        let found = BatchHeader::decode(head).filter(|batch| {
            batch.segment == header.number
                && batch.salt == header.salt
                && batch.lsn == self.lsn
                && batch.batch_number == self.batch_number
                && claim_is_possible(batch)
                && u64::from(batch.bytes) <= end.0 - self.lsn.0
        });
        let Some(batch) = found else { return Err(stop(offset, Damage::BatchHeader, is_zero(head))) };
        let Some(bytes) = rest.get(..batch.bytes as usize) else {
            return Err(stop(offset, Damage::Frame, false));
        };
        let mut frames = Vec::new();
        let checked = !self.config.canaries.ignores_checksums();
        walk_frames(&batch, bytes, checked, |frame, at| frames.push((frame, start + at)))
            .map_err(|broken| stop(offset + broken.0, Damage::Frame, false))?;
        Ok((batch, frames))
    }

    /// Takes a valid batch into the state.
    fn accept(
        &mut self,
        batch: &BatchHeader,
        frames: &[(Frame<'_>, usize)],
        image: &Bytes,
        offset: u64,
    ) -> Result<(), Refused> {
        for (frame, at) in frames {
            if !self.state.accept(frame, || image.slice(*at..at + frame.payload.len())) {
                return Err(self.corrupt(batch.segment, offset, Damage::Content));
            }
        }
        self.durable_to = self.durable_to.max(batch.durable_to);
        self.segment_header_is_durable |= !is_early(batch);
        self.lsn = self.lsn.plus(u64::from(batch.bytes));
        self.batch_number += 1;
        let start = usize::try_from(offset).expect("the batch was read there");
        let bytes = image.slice(start..start + batch.bytes as usize);
        self.tail.push_back(TailBatch { header: *batch, bytes });
        Ok(())
    }

    /// Lets go of batches that are proven durable where they are. Kept all the same is a segment that
    /// holds little: it is moved whole, which leaves the old one unused. Otherwise a member that
    /// crashes at each start would leave a segment behind each time. Kept as well is one that holds early batches
    /// alone: its header was perhaps never synced, and without it they count for nothing.
    fn trim_tail(&mut self) {
        let little = self.lsn.0 - self.segment_first_lsn.0 <= self.config.segment_bytes_first / 8;
        let moved = little || !self.segment_header_is_durable;
        let keep_from = if moved { self.segment_first_lsn.min(self.durable_to) } else { self.durable_to };
        while self.tail.front().is_some_and(|batch| batch.header.lsn < keep_from) {
            self.tail.pop_front();
        }
    }

    /// Looks at every block behind the end of the walk for headers that claim more.
    fn scan_for_claims(&mut self, header: &SegmentHeader, image: &[u8], from: u64) {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for offset in (from..image.len()).step_by(BLOCK_BYTES) {
            let lsn = header.first_lsn.plus((offset - SEGMENT_HEADER_BYTES) as u64);
            let found = BatchHeader::decode(&image[offset..]).filter(|batch| {
                batch.segment == header.number
                    && batch.salt == header.salt
                    && batch.lsn == lsn
                    && claim_is_possible(batch)
            });
            self.durable_to = self.durable_to.max(found.map_or(Lsn(0), |batch| batch.durable_to));
        }
    }

    /// A segment without header never counted, unless it holds a batch that was written after its
    /// header was durable. What a batch claims is true in any case.
    fn scan_without_header(&mut self, number: u64, image: &[u8]) -> Result<(), Refused> {
        for offset in (SEGMENT_HEADER_BYTES..image.len()).step_by(BLOCK_BYTES) {
            let found = BatchHeader::decode(&image[offset..]).filter(|batch| {
                batch.segment == number
                    && self.salt.is_none_or(|salt| salt == batch.salt)
                    && claim_is_possible(batch)
            });
            let Some(batch) = found else { continue };
            self.durable_to = self.durable_to.max(batch.durable_to);
            if batch.lsn == self.lsn {
                // The log would go on here: to be blamed if it has to go on.
                self.suspect = Some(number);
            }
            if !is_early(&batch) && !self.config.canaries.cuts_at_damage() {
                return Err(self.corrupt(number, 0, Damage::SegmentHeader));
            }
        }
        Ok(())
    }

    /// Damage or not, by what is claimed so far.
    fn judge(&self, stop: Stop) -> Result<(), Refused> {
        if self.lsn < self.durable_to && !self.config.canaries.cuts_at_damage() {
            return Err(self.corrupt(stop.segment, stop.offset, stop.damage));
        }
        Ok(())
    }

    /// The log does not go on in `segment`, nor before it: whose fault is it?
    fn stop_at_gap(&self, segment: u64) -> Stop {
        let read = &self.segments[..self.at];
        let headless = read.iter().rev().take_while(|s| !s.used).find(|s| s.headless);
        let (segment, damage) =
            headless.map_or((segment, Damage::MissingSegment), |s| (s.number, Damage::SegmentHeader));
        Stop { segment, offset: 0, damage, clean: self.segments.is_empty() }
    }

    fn corrupt(&self, segment: u64, offset: u64, damage: Damage) -> Refused {
        let (lsn, durable_to) = (self.lsn, self.durable_to);
        Refused::Corrupt(Corrupt { segment, offset, lsn, durable_to, damage })
    }

    fn first_index_of_tail(&self) -> LogIndex {
        let mut first = None;
        let checked = !self.config.canaries.ignores_checksums();
        for batch in &self.tail {
            walk_frames(&batch.header, &batch.bytes, checked, |frame, _| {
                if frame.kind == FrameKind::Entry {
                    first.get_or_insert(frame.index);
                }
            })
            .expect("the batch was found valid");
        }
        first.unwrap_or(self.state.last.1.next())
    }
}

fn is_early(batch: &BatchHeader) -> bool {
    batch.flags & BATCH_EARLY != 0
}

/// Only recovery, which frames anew what is older, knows more than what lies before its batch.
fn claim_is_possible(batch: &BatchHeader) -> bool {
    is_early(batch) || batch.durable_to <= batch.lsn
}

impl State {
    /// Takes one frame; false if it can't be right.
    fn accept(&mut self, frame: &Frame<'_>, payload: impl FnOnce() -> Bytes) -> bool {
        match frame.kind {
            FrameKind::Identity => {
                let Some(identity) = frame.identity() else { return false };
                *self.identity.get_or_insert(identity) == identity
            }
            FrameKind::HardState => {
                let Some(state) = frame.hard_state() else { return false };
                let forward = self.hard_state.term <= state.term && self.hard_state.commit <= state.commit;
                self.hard_state = state;
                forward
            }
            FrameKind::Entry => self.accept_entry(frame, payload),
            // Nothing writes them yet; a reader that skipped one would start with the wrong state.
            FrameKind::SnapshotMarker | FrameKind::ConfState => false,
        }
    }

    /// An index that is there already overrides all from it on (D5); committed ones never.
    fn accept_entry(&mut self, frame: &Frame<'_>, payload: impl FnOnce() -> Bytes) -> bool {
        let index = frame.index;
        if index <= self.handed_out || index > self.last.1.next() {
            return false;
        }
        let keep = usize::try_from(index.0 - self.handed_out.0 - 1).unwrap_or(usize::MAX);
        self.entries.truncate(keep);
        let term_before = self.entries.back().map_or(self.handed_out_term, |entry| entry.term);
        if frame.term < term_before {
            return false;
        }
        self.last = (frame.term, index);
        self.entries.push_back(Entry { term: frame.term, index, kind: frame.entry_kind, payload: payload() });
        true
    }
}
