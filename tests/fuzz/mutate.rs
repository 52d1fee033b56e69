//! From valid inputs to others.

use etchd::pure::wire::h2::frame::{FrameHead, HEAD_BYTES, PREFACE};
use etchd::stdx::prng::Prng;

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
