//! From valid inputs to others.

use etchd::limits::log::BLOCK_BYTES;
use etchd::pure::wal::SEGMENT_HEADER_BYTES;
use etchd::pure::wire::h2::frame::{FrameHead, HEAD_BYTES, PREFACE};
use etchd::stdx::prng::Prng;

use super::targets::SEGMENT_BYTES;

/// Numbers at which decoders change their mind.
const NUMBERS: [u64; 14] =
    [0, 1, 9, 127, 128, 255, 16_383, 16_384, 65_535, 65_536, 0x7fff_ffff, 0xffff_ffff, 1 << 35, u64::MAX];

pub fn below(prng: &mut Prng, bound: usize) -> usize {
    prng.below(bound.max(1) as u64) as usize
}

/// Some changes anywhere.
pub fn bytes(prng: &mut Prng, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..=below(prng, 6) {
        let at = below(prng, input.len());
        let end = (at + 1 + below(prng, 64)).min(input.len());
        match prng.below(10) {
            0 if !input.is_empty() => input[at] ^= 1 << prng.below(8),
            1 if !input.is_empty() => input[at] = prng.next_u64() as u8,
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => {
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
            5 => {
                let other = &others[below(prng, others.len())];
                let from = below(prng, other.len());
                let to = (from + below(prng, 256)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            6 => {
                let number = NUMBERS[below(prng, NUMBERS.len())].to_be_bytes();
                let width = [1, 2, 3, 4, 8][below(prng, 5)];
                let part = &number[8 - width..];
                let end = (at + width).min(input.len());
                input.splice(at..end, part.iter().copied());
            }
            7 => {
                // A varint.
                let mut number = NUMBERS[below(prng, NUMBERS.len())];
                let mut part = Vec::new();
                while number >= 0x80 {
                    part.push(number as u8 | 0x80);
                    number >>= 7;
                }
                part.push(number as u8);
                input.splice(at..(at + 1).min(input.len()), part);
            }
            8 => input.splice(at..at, vec![prng.next_u64() as u8; below(prng, 300)]).for_each(drop),
            _ => {
                let part: Vec<u8> = (0..below(prng, 16)).map(|_| prng.next_u64() as u8).collect();
                input.splice(at..at, part);
            }
        }
    }
}

/// Changes among whole frames, whose lengths stay right.
pub fn frames(prng: &mut Prng, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    let mut list = split(input);
    let donors = split(&others[below(prng, others.len())]);
    for _ in 0..=below(prng, 6) {
        let at = below(prng, list.len());
        match prng.below(8) {
            0 if !list.is_empty() => drop(list.remove(at)),
            1 if !list.is_empty() => {
                let (frame, times) = (list[at].clone(), below(prng, 40));
                list.splice(at..at, vec![frame; times]);
            }
            2 if !list.is_empty() => {
                let other = below(prng, list.len());
                list.swap(at, other);
            }
            3 if !list.is_empty() => list[at].0.kind = prng.below(11) as u8,
            4 if !list.is_empty() => list[at].0.flags ^= 1 << prng.below(8),
            5 if !list.is_empty() => list[at].0.stream = NUMBERS[below(prng, 10)] as u32 & 0x7fff_ffff,
            6 if !donors.is_empty() => list.insert(at, donors[below(prng, donors.len())].clone()),
            _ if !list.is_empty() => bytes(prng, &mut list[at].1, others),
            _ => {}
        }
    }
    input.clear();
    input.extend_from_slice(PREFACE);
    for (head, payload) in list {
        let length = payload.len().min(0x00ff_ffff) as u32;
        input.extend_from_slice(&FrameHead { length, ..head }.to_bytes());
        input.extend_from_slice(&payload);
    }
}

fn split(input: &[u8]) -> Vec<(FrameHead, Vec<u8>)> {
    let mut rest = input.strip_prefix(PREFACE).unwrap_or(input);
    let mut list = Vec::new();
    while let Some(head) = rest.first_chunk::<HEAD_BYTES>() {
        let head = FrameHead::parse(head);
        let end = (HEAD_BYTES + head.length as usize).min(rest.len());
        list.push((head, rest[HEAD_BYTES..end].to_vec()));
        rest = &rest[end..];
    }
    list
}

/// Changes inside of a log, most of them to its numbers, whose check sums are right again afterwards: what is behind
/// the sums is reached.
pub fn log(prng: &mut Prng, input: &mut [u8]) {
    for _ in 0..=below(prng, 4) {
        let places = places(input);
        let (at, width) = match places.get(below(prng, places.len())) {
            Some((place, bytes)) if prng.chance(9, 10) => {
                // Sums, lengths, numbers and positions are whole words.
                let width = [1, 4, 8][below(prng, 3)];
                (place + below(prng, bytes / width) * width, width)
            }
            _ => (below(prng, input.len()), 1),
        };
        let Some(old) = input.get_mut(at..at + width) else { continue };
        let word = old.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        let new = match prng.below(5) {
            0 => NUMBERS[below(prng, NUMBERS.len())],
            1 => word.wrapping_add(1),
            2 => word.wrapping_sub(1),
            3 => word ^ 1 << prng.below(64),
            _ => prng.next_u64(),
        };
        old.copy_from_slice(&new.to_le_bytes()[..width]);
    }
    if prng.chance(1, 4) {
        // A batch where another one was, as after a lost write.
        let blocks = input.len() / BLOCK_BYTES;
        let (from, to) = (below(prng, blocks) * BLOCK_BYTES, below(prng, blocks) * BLOCK_BYTES);
        if to + BLOCK_BYTES <= input.len() {
            input.copy_within(from..from + BLOCK_BYTES, to);
        }
    }
    if prng.chance(9, 10) {
        mend(input);
    }
}

/// Where the headers of a log are, and how long: of segments, of batches, of frames (schema/disk/wal.md).
fn places(input: &[u8]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    walk(input, |at, bytes| places.push((at, bytes)));
    places
}

const SEGMENT_HEADER: usize = 56;
const BATCH_HEADER: usize = 64;
const FRAME_HEADER: usize = 32;

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_le_bytes(word.try_into().expect("4 bytes")) as usize)
}

/// Headers as far as they lead from one to the next.
fn walk(input: &[u8], mut each: impl FnMut(usize, usize)) {
    for segment in (0..input.len()).step_by(SEGMENT_BYTES as usize) {
        let end = (segment + SEGMENT_BYTES as usize).min(input.len());
        if segment + SEGMENT_HEADER_BYTES > end {
            return;
        }
        if input[segment..segment + 8] == *b"etchdWAL" {
            each(segment, SEGMENT_HEADER);
        }
        let mut batch = segment + SEGMENT_HEADER_BYTES;
        while batch + BATCH_HEADER <= end && input[batch + 4..batch + 8] == *b"eBat" {
            each(batch, BATCH_HEADER);
            let (bytes, used, frames) =
                (word(input, batch + 8), word(input, batch + 12), word(input, batch + 56));
            let used = batch + used.min(end - batch);
            let mut frame = batch + BATCH_HEADER;
            for _ in 0..frames {
                if frame + FRAME_HEADER > used {
                    break;
                }
                each(frame, FRAME_HEADER);
                let payload = word(input, frame + 4).min(used - frame - FRAME_HEADER);
                frame += (FRAME_HEADER + payload).next_multiple_of(8);
            }
            if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES) {
                break;
            }
            batch += bytes.min(end);
        }
    }
}

/// Makes all check sums right.
fn mend(input: &mut [u8]) {
    let mut batch = 0;
    for (at, bytes) in places(input) {
        let (place, sum) = match bytes {
            SEGMENT_HEADER => {
                let block = &input[at..at + SEGMENT_HEADER_BYTES];
                (at + 12, crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..]))
            }
            BATCH_HEADER => {
                batch = at;
                (at, crc32c::crc32c(&input[at + 4..at + BATCH_HEADER]))
            }
            _ => {
                let head = &input[batch..batch + BATCH_HEADER];
                let seed = crc32c::crc32c_append(crc32c::crc32c(&head[24..32]), &head[16..24]);
                let lsn = u64::from_le_bytes(head[32..40].try_into().expect("8 bytes"));
                let lsn = lsn.wrapping_add((at - batch) as u64);
                let end = (at + FRAME_HEADER).saturating_add(word(input, at + 4)).min(input.len());
                let seed = crc32c::crc32c_append(seed, &lsn.to_le_bytes());
                (at, crc32c::crc32c_append(seed, &input[at + 4..end]))
            }
        };
        input[place..place + 4].copy_from_slice(&sum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums are those of the log itself: a valid one is not changed, and one whose sums were lost is mended.
    #[test]
    fn sums_are_mended() {
        for whole in super::super::seeds::of("log") {
            let mut same = whole.clone();
            mend(&mut same);
            assert!(same == whole);
            for (at, bytes) in places(&whole) {
                let sum = at + if bytes == SEGMENT_HEADER { 12 } else { 0 };
                same[sum..sum + 4].fill(0);
            }
            assert!(same != whole);
            mend(&mut same);
            assert!(same == whole);
        }
    }
}
