//! The bytes of the log: segment header, batch header, frame. One page in `schema/disk/wal.md`.
//!
//! All numbers are little-endian. Every check sum is CRC-32C. Nothing here panics on bytes that were
//! read; encoders assert what the writer promises.

use crate::limits::log::{BLOCK_BYTES, ENTRY_BYTES_MAX};
use crate::pure::raft::{Entry, EntryKind, HardState, MemberId};
use crate::pure::types::{LogIndex, Term};

/// Byte position in the log over all its segments, header blocks not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position `bytes` further on.
    pub fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0.checked_add(bytes).expect("the log ends before 2^64 bytes"))
    }
}

/// Whose log it is; the first frame of every segment says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
}

/// The version that this code writes and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The header's block at the start of a segment; batches begin behind it.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;
/// Header of a batch.
pub const BATCH_HEADER_BYTES: usize = 64;
/// Header of a frame.
pub const FRAME_HEADER_BYTES: usize = 32;
/// Bytes of the frame of a hard state.
pub const HARD_STATE_FRAME_BYTES: usize = FRAME_HEADER_BYTES + 8;
/// Bytes of the frame of an identity.
pub const IDENTITY_FRAME_BYTES: usize = FRAME_HEADER_BYTES + 16;

const SEGMENT_MAGIC: [u8; 8] = *b"etchdWAL";
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"eBat");
/// No log gets here; what claims to is none. Keeps sums of what was read from overflowing.
const LSN_MAX: Lsn = Lsn(1 << 62);
const FRAME_ALIGN: usize = 8;

/// `bytes` rounded up to whole blocks.
pub fn block_aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// Bytes that the frame of a payload takes, its padding included.
pub fn frame_bytes(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(FRAME_ALIGN)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn length_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("lengths in the log have 32 bits")
}

/// True when every byte is 0. By whole blocks, since recovery looks at all padding.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    bytes.chunks(BLOCK_BYTES).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// The header of a segment. That it can be read is a claim of its own: all below `durable_to` was
/// synced before the header was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number; also in its file's name.
    pub number: u64,
    /// Random, one per data directory: payloads made by clients can't imitate a batch.
    pub salt: u64,
    /// Position of the segment's first batch. Overrides that position and all behind it in segments
    /// of lower numbers.
    pub first_lsn: Lsn,
    /// Index that the first entry appended to this segment is expected to have.
    pub first_index: LogIndex,
    /// `first_lsn`, or the end of the batches that were there before the header (see [`BATCH_EARLY`]).
    pub durable_to: Lsn,
}

/// What the first block of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentHead {
    /// A header of this format.
    Header(SegmentHeader),
    /// A whole header of another format version.
    OtherVersion(u32),
    /// No header: never used, or torn, or damaged.
    None,
}

impl SegmentHeader {
    /// Writes the header's block. Magic, version and check sum (of the whole block but itself) keep
    /// their places in every version to come.
    pub fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), SEGMENT_HEADER_BYTES, "the header fills one block");
        assert!(self.first_lsn <= self.durable_to, "a claim covers at least what is before the segment");
        block.fill(0);
        block[..8].copy_from_slice(&SEGMENT_MAGIC);
        put_u32(block, 8, FORMAT_VERSION);
        put_u64(block, 16, self.number);
        put_u64(block, 24, self.salt);
        put_u64(block, 32, self.first_lsn.0);
        put_u64(block, 40, self.first_index.0);
        put_u64(block, 48, self.durable_to.0);
        let crc = segment_header_crc(block);
        put_u32(block, 12, crc);
    }

    /// Reads the first block of a segment.
    pub fn decode(block: &[u8]) -> SegmentHead {
        let Some(block) = block.get(..SEGMENT_HEADER_BYTES) else { return SegmentHead::None };
        if block[..8] != SEGMENT_MAGIC || u32_at(block, 12) != segment_header_crc(block) {
            return SegmentHead::None;
        }
        let version = u32_at(block, 8);
        if version != FORMAT_VERSION {
            return SegmentHead::OtherVersion(version);
        }
        let header = SegmentHeader {
            number: u64_at(block, 16),
            salt: u64_at(block, 24),
            first_lsn: Lsn(u64_at(block, 32)),
            first_index: LogIndex(u64_at(block, 40)),
            durable_to: Lsn(u64_at(block, 48)),
        };
        if header.first_lsn.max(header.durable_to) > LSN_MAX {
            return SegmentHead::None;
        }
        SegmentHead::Header(header)
    }
}

fn segment_header_crc(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..])
}

/// Flag of a batch that was written before its segment's header, by recovery. Without a header it
/// means nothing; a batch without the flag proves that there was a header.
pub const BATCH_EARLY: u32 = 1;

/// The header of a batch: the unit that is written at once and is valid whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes of the batch on disk, header and padding included; whole blocks.
    pub bytes: u32,
    /// Bytes of it that hold the header and the frames; zeros follow.
    pub used_bytes: u32,
    /// Number of its segment.
    pub segment: u64,
    /// The data directory's salt.
    pub salt: u64,
    /// Position of this header.
    pub lsn: Lsn,
    /// 1 for the first batch of a log, then without gaps.
    pub batch_number: u64,
    /// Everything below was synced when this batch was formed.
    pub durable_to: Lsn,
    /// Number of frames.
    pub frames: u32,
    /// [`BATCH_EARLY`] or 0.
    pub flags: u32,
}

impl BatchHeader {
    /// Writes the header over the first bytes of a batch.
    pub fn encode(&self, batch: &mut [u8]) {
        put_u32(batch, 4, BATCH_MAGIC);
        put_u32(batch, 8, self.bytes);
        put_u32(batch, 12, self.used_bytes);
        put_u64(batch, 16, self.segment);
        put_u64(batch, 24, self.salt);
        put_u64(batch, 32, self.lsn.0);
        put_u64(batch, 40, self.batch_number);
        put_u64(batch, 48, self.durable_to.0);
        put_u32(batch, 56, self.frames);
        put_u32(batch, 60, self.flags);
        let crc = crc32c::crc32c(&batch[4..BATCH_HEADER_BYTES]);
        put_u32(batch, 0, crc);
    }

    /// Reads a header; `None` if it is none or can't be right wherever it stands. The caller compares
    /// segment, salt and position with where it found it.
    pub fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        let head = bytes.get(..BATCH_HEADER_BYTES)?;
        if u32_at(head, 4) != BATCH_MAGIC || u32_at(head, 0) != crc32c::crc32c(&head[4..]) {
            return None;
        }
        let header = BatchHeader {
            bytes: u32_at(head, 8),
            used_bytes: u32_at(head, 12),
            segment: u64_at(head, 16),
            salt: u64_at(head, 24),
            lsn: Lsn(u64_at(head, 32)),
            batch_number: u64_at(head, 40),
            durable_to: Lsn(u64_at(head, 48)),
            frames: u32_at(head, 56),
            flags: u32_at(head, 60),
        };
        let (whole, used) = (header.bytes as usize, header.used_bytes as usize);
        let sizes_hold = whole.is_multiple_of(BLOCK_BYTES) && BATCH_HEADER_BYTES <= used && used <= whole;
        let positions_hold = header.lsn.max(header.durable_to) <= LSN_MAX;
        (sizes_hold && positions_hold && header.flags & !BATCH_EARLY == 0).then_some(header)
    }
}

/// Kind of a frame, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A Raft entry: its term, index, kind, payload.
    Entry = 1,
    /// A hard state: term, commit (as index), vote (8 bytes of payload).
    HardState = 2,
    /// A snapshot covers everything up to (term, index). Not written by this version.
    SnapshotMarker = 3,
    /// A raftpb.ConfState as of index. Not written by this version.
    ConfState = 4,
    /// Cluster id and member id, 8 bytes each.
    Identity = 5,
}

impl FrameKind {
    fn from_u8(number: u8) -> Option<FrameKind> {
        match number {
            1 => Some(FrameKind::Entry),
            2 => Some(FrameKind::HardState),
            3 => Some(FrameKind::SnapshotMarker),
            4 => Some(FrameKind::ConfState),
            5 => Some(FrameKind::Identity),
            _ => None,
        }
    }
}

/// A frame with its payload borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// raftpb.EntryType of an entry, else 0.
    pub entry_kind: EntryKind,
    /// By kind.
    pub term: Term,
    /// By kind.
    pub index: LogIndex,
    /// By kind.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame of an entry.
    pub fn of_entry(entry: &'a Entry) -> Frame<'a> {
        Frame {
            kind: FrameKind::Entry,
            entry_kind: entry.kind,
            term: entry.term,
            index: entry.index,
            payload: &entry.payload,
        }
    }

    /// A frame that is no entry.
    pub fn other(kind: FrameKind, term: Term, index: LogIndex, payload: &'a [u8]) -> Frame<'a> {
        Frame { kind, entry_kind: EntryKind::Normal, term, index, payload }
    }

    /// The hard state in a frame of that kind; `None` if the payload has another length.
    pub fn hard_state(&self) -> Option<HardState> {
        let vote = MemberId(u64::from_le_bytes(self.payload.try_into().ok()?));
        Some(HardState { term: self.term, vote, commit: self.index })
    }

    /// The identity in a frame of that kind; `None` if the payload has another length.
    pub fn identity(&self) -> Option<Identity> {
        (self.payload.len() == 16)
            .then(|| Identity { cluster_id: u64_at(self.payload, 0), member_id: u64_at(self.payload, 8) })
    }
}

/// Start value of the check sums of a segment's frames: binds them to directory and segment.
pub fn frame_seed(salt: u64, segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &segment.to_le_bytes())
}

/// Fills a batch in a buffer that the caller lends.
pub struct BatchEncoder<'a> {
    out: &'a mut [u8],
    header: BatchHeader,
    seed: u32,
    at: usize,
}

impl<'a> BatchEncoder<'a> {
    /// Begins a batch in `out`, which has exactly the batch's size. Of `header` the sizes and the
    /// number of frames are filled in at the end.
    pub fn new(out: &'a mut [u8], header: BatchHeader) -> BatchEncoder<'a> {
        assert!(!out.is_empty() && out.len().is_multiple_of(BLOCK_BYTES), "a batch is whole blocks");
        let seed = frame_seed(header.salt, header.segment);
        BatchEncoder { out, header, seed, at: BATCH_HEADER_BYTES }
    }

    /// Appends a frame; the caller has counted that it fits.
    pub fn push(&mut self, frame: &Frame<'_>) {
        assert!(frame.payload.len() <= ENTRY_BYTES_MAX, "the payload fits the format");
        let end = FRAME_HEADER_BYTES + frame.payload.len();
        let padded = frame_bytes(frame.payload.len());
        let out = &mut self.out[self.at..self.at + padded];
        put_u32(out, 4, length_u32(frame.payload.len()));
        out[8] = frame.kind as u8;
        out[9] = frame.entry_kind as u8;
        out[10..16].fill(0);
        put_u64(out, 16, frame.term.0);
        put_u64(out, 24, frame.index.0);
        out[FRAME_HEADER_BYTES..end].copy_from_slice(frame.payload);
        out[end..].fill(0);
        let crc = frame_crc(self.seed, self.header.lsn.plus(self.at as u64), &out[4..end]);
        put_u32(out, 0, crc);
        self.at += padded;
        self.header.frames += 1;
    }

    /// Ends the batch: zeros behind the frames, header in front.
    pub fn finish(mut self) -> BatchHeader {
        self.out[self.at..].fill(0);
        self.header.bytes = length_u32(self.out.len());
        self.header.used_bytes = length_u32(self.at);
        self.header.encode(self.out);
        self.header
    }
}

fn frame_crc(seed: u32, lsn: Lsn, rest_of_frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &lsn.0.to_le_bytes()), rest_of_frame)
}

/// Where a batch that has a valid header is broken: bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenAt(pub u64);

/// Walks the frames of a batch whose header was accepted; `batch` is all its bytes. Hands out each
/// frame with its payload's offset; the caller must not act on any before all were seen to be good.
pub fn decode_frames<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    each: impl FnMut(Frame<'a>, usize),
) -> Result<(), BrokenAt> {
    walk_frames(header, batch, true, each)
}

/// The same; only a canary does without the check sums.
pub(super) fn walk_frames<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    checked: bool,
    mut each: impl FnMut(Frame<'a>, usize),
) -> Result<(), BrokenAt> {
    assert_eq!(batch.len(), header.bytes as usize, "the caller cuts the batch out");
    let seed = frame_seed(header.salt, header.segment);
    let used = header.used_bytes as usize;
    let mut at = BATCH_HEADER_BYTES;
    for _ in 0..header.frames {
        let broken = BrokenAt(at as u64);
        let rest = &batch[at..used];
        if rest.len() < FRAME_HEADER_BYTES {
            return Err(broken);
        }
        let payload_bytes = u32_at(rest, 4) as usize;
        // Compared before any sum is made, so that no length from disk can overflow.
        if payload_bytes > rest.len() - FRAME_HEADER_BYTES {
            return Err(broken);
        }
        let (end, padded) = (FRAME_HEADER_BYTES + payload_bytes, frame_bytes(payload_bytes));
        if padded > rest.len()
            || checked && u32_at(rest, 0) != frame_crc(seed, header.lsn.plus(at as u64), &rest[4..end])
        {
            return Err(broken);
        }
        let kinds = FrameKind::from_u8(rest[8]).zip(EntryKind::from_u64(u64::from(rest[9])));
        let (Some((kind, entry_kind)), true) = (kinds, is_zero(&rest[10..16]) && is_zero(&rest[end..padded]))
        else {
            return Err(broken);
        };
        let payload = &rest[FRAME_HEADER_BYTES..end];
        let (term, index) = (Term(u64_at(rest, 16)), LogIndex(u64_at(rest, 24)));
        each(Frame { kind, entry_kind, term, index, payload }, at + FRAME_HEADER_BYTES);
        at += padded;
    }
    if at == used && is_zero(&batch[at..]) { Ok(()) } else { Err(BrokenAt(at as u64)) }
}
