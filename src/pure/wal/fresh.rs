//! A segment that does not exist yet: how a log is created, and where recovery puts the tail.

use bytes::Bytes;

use super::format::{
    BATCH_EARLY, BATCH_HEADER_BYTES, BatchEncoder, BatchHeader, Frame, FrameKind, HARD_STATE_FRAME_BYTES,
    IDENTITY_FRAME_BYTES, Identity, Lsn, SEGMENT_HEADER_BYTES, SegmentHeader, block_aligned, decode_frames,
    frame_bytes,
};
use super::{Config, Resume};
use crate::pure::raft::HardState;
use crate::pure::types::{LogIndex, Term};

/// Writes to carry out in this order before anything else happens:
///
/// 1. make a file of `segment_bytes` zeros, sync it, sync its directory;
/// 2. write `batches` at [`SEGMENT_HEADER_BYTES`], sync;
/// 3. write `header` at 0, sync.
///
/// A crash before the end of 3 leaves a file without header, which recovery ignores; the segments
/// that the tail came from are untouched, so nothing is lost. Any error: stop the process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct FreshSegment {
    /// Number for the file's name; greater than that of every file that was seen.
    pub number: u64,
    /// Size of the file.
    pub segment_bytes: u64,
    /// Batches that go in before the header, whole blocks.
    pub batches: Vec<u8>,
    /// The header's block.
    pub header: Vec<u8>,
}

/// A valid batch that recovery moves.
#[derive(Debug, Clone)]
pub(super) struct TailBatch {
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
}

/// Where and for whom a fresh segment is framed.
pub(super) struct FreshSpec {
    pub(super) number: u64,
    pub(super) salt: u64,
    pub(super) identity: Identity,
    pub(super) first_lsn: Lsn,
    pub(super) first_index: LogIndex,
    pub(super) first_batch_number: u64,
    /// M of the recovery: a claim that holds even if the header never gets there.
    pub(super) durable_to: Lsn,
    pub(super) hard_state: HardState,
    pub(super) last: (Term, LogIndex),
}

/// Frames `tail` anew, one batch for one batch; identity and hard state go in front of the first.
/// Without a tail there is one batch that holds only these.
pub(super) fn frame_fresh(config: &Config, spec: &FreshSpec, tail: &[TailBatch]) -> (FreshSegment, Resume) {
    let mut groups: Vec<Vec<Frame<'_>>> = tail.iter().map(kept_frames).collect();
    if groups.is_empty() {
        groups.push(Vec::new());
    }
    let mut batches = Vec::new();
    let mut batch_number = spec.first_batch_number;
    for (nth, frames) in groups.iter().enumerate() {
        let mut used = BATCH_HEADER_BYTES;
        used += if nth == 0 { IDENTITY_FRAME_BYTES + HARD_STATE_FRAME_BYTES } else { 0 };
        used += frames.iter().map(|frame| frame_bytes(frame.payload.len())).sum::<usize>();
        let start = batches.len();
        batches.resize(start + block_aligned(used), 0);
        let mut encoder = BatchEncoder::new(
            &mut batches[start..],
            BatchHeader {
                bytes: 0,
                used_bytes: 0,
                segment: spec.number,
                salt: spec.salt,
                lsn: spec.first_lsn.plus(start as u64),
                batch_number,
                durable_to: spec.durable_to,
                frames: 0,
                flags: BATCH_EARLY,
            },
        );
        if nth == 0 {
            push_identity(&mut encoder, &spec.identity);
            push_hard_state(&mut encoder, &spec.hard_state);
        }
        frames.iter().for_each(|frame| encoder.push(frame));
        let header = encoder.finish();
        assert_eq!(header.used_bytes as usize, used, "the sizes were counted right");
        batch_number += 1;
    }
    let end = spec.first_lsn.plus(batches.len() as u64);
    let mut header = vec![0; SEGMENT_HEADER_BYTES];
    SegmentHeader {
        number: spec.number,
        salt: spec.salt,
        first_lsn: spec.first_lsn,
        first_index: spec.first_index,
        // All of it is synced before the header is written.
        durable_to: end.max(spec.durable_to),
    }
    .encode(&mut header);
    let filled = (SEGMENT_HEADER_BYTES + batches.len()) as u64;
    let segment_bytes = if filled <= config.segment_bytes_first / 2 {
        config.segment_bytes_first
    } else {
        config.segment_bytes.max(filled)
    };
    let resume = Resume {
        salt: spec.salt,
        identity: spec.identity,
        segment: spec.number,
        segment_bytes,
        offset: filled,
        lsn: end,
        batch_number,
        hard_state: spec.hard_state,
        last: spec.last,
    };
    (FreshSegment { number: spec.number, segment_bytes, batches, header }, resume)
}

/// Entries and marks of a batch; identity and hard state are written anew.
fn kept_frames(batch: &TailBatch) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    decode_frames(&batch.header, &batch.bytes, |frame, _| match frame.kind {
        FrameKind::Entry | FrameKind::SnapshotMarker | FrameKind::ConfState => frames.push(frame),
        FrameKind::HardState | FrameKind::Identity => {}
    })
    .expect("the batch was decoded before it was kept");
    frames
}

pub(super) fn push_identity(encoder: &mut BatchEncoder<'_>, identity: &Identity) {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&identity.cluster_id.to_le_bytes());
    payload[8..].copy_from_slice(&identity.member_id.to_le_bytes());
    encoder.push(&Frame::other(FrameKind::Identity, Term(0), LogIndex(0), &payload));
}

pub(super) fn push_hard_state(encoder: &mut BatchEncoder<'_>, state: &HardState) {
    let vote = state.vote.0.to_le_bytes();
    encoder.push(&Frame::other(FrameKind::HardState, state.term, state.commit, &vote));
}
