//! What goes to a socket: small bytes copied together, large ones referenced where they lie.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// Memory that several owners hold, such as a segment of stored records.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A part of an answer.
#[derive(Clone)]
pub enum Piece {
    /// Owned bytes.
    Bytes(Bytes),
    /// A range of shared memory, which is held until the piece was sent.
    Shared(SharedBytes, Range<usize>),
}

impl Piece {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Shared(memory, range) => &(**memory).as_ref()[range.clone()],
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Shared(_, range) => range.len(),
        }
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of the piece; holds the same memory.
    pub(super) fn slice(&self, range: Range<usize>) -> Piece {
        match self {
            Piece::Bytes(bytes) => Piece::Bytes(bytes.slice(range)),
            Piece::Shared(memory, whole) => {
                let part = whole.start + range.start..whole.start + range.end;
                assert!(part.end <= whole.end, "a part lies within its piece");
                Piece::Shared(Arc::clone(memory), part)
            }
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Piece::Bytes(_) => "Bytes",
            Piece::Shared(..) => "Shared",
        };
        write!(f, "{name}({} bytes)", self.len())
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Piece {
        Piece::Bytes(Bytes::from(bytes))
    }
}

/// One element of a [`Transmit`], in the order of sending.
#[derive(Debug)]
pub enum Part {
    /// Bytes of [`Transmit::copied`].
    Copied(Range<usize>),
    /// Bytes where they lie.
    Piece(Piece),
}

/// Bytes to send, for one gathering write. Reused: `clear` keeps the memory.
#[derive(Debug)]
pub struct Transmit {
    copied: Vec<u8>,
    parts: Vec<Part>,
    bytes: usize,
    bytes_max: usize,
    parts_max: usize,
}

impl Transmit {
    /// Takes about `bytes_max` bytes (one frame more at most) in at most `parts_max` parts.
    pub fn new(bytes_max: usize, parts_max: usize) -> Transmit {
        Transmit { copied: Vec::new(), parts: Vec::new(), bytes: 0, bytes_max, parts_max }
    }

    /// From here on it takes about so many bytes.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Forgets everything, for the next use.
    pub fn clear(&mut self) {
        self.copied.clear();
        self.parts.clear();
        self.bytes = 0;
    }

    /// Takes everything out: the memory of the copied parts, and the parts in the order of sending.
    pub fn take(&mut self) -> (Vec<u8>, std::vec::Drain<'_, Part>) {
        self.bytes = 0;
        (std::mem::take(&mut self.copied), self.parts.drain(..))
    }

    /// Bytes in all parts.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The parts in the order of sending. Resolve `Part::Copied` with [`Transmit::copied`].
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The memory of the copied parts; doesn't move until the next `poll_transmit` or `clear`.
    pub fn copied(&self) -> &[u8] {
        &self.copied
    }

    /// The parts as slices.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| match part {
            Part::Copied(range) => &self.copied[range.clone()],
            Part::Piece(piece) => piece.as_slice(),
        })
    }

    /// True while another frame may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < self.bytes_max && self.parts.len() < self.parts_max
    }

    /// True when that many referenced pieces may be added, each with copied bytes before it and some at the
    /// end. The very first is always taken, so that there is progress with any `parts_max`.
    pub(super) fn has_parts_room(&self, pieces: usize) -> bool {
        let parts = self.parts.len() + 2 * pieces + 1;
        parts <= self.parts_max || self.parts.len() <= 1 && pieces <= 1
    }

    /// Takes all of `source`, by exchange of memory where possible.
    pub(crate) fn take_copied(&mut self, source: &mut Vec<u8>) {
        if self.copied.is_empty() {
            std::mem::swap(&mut self.copied, source);
            self.note_copied(0);
        } else {
            self.copy(|copied| copied.extend_from_slice(source));
            source.clear();
        }
    }

    /// Lets `write` append copied bytes.
    pub(crate) fn copy(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.copied.len();
        write(&mut self.copied);
        self.note_copied(start);
    }

    /// Appends bytes where they lie.
    pub(crate) fn reference(&mut self, piece: Piece) {
        self.bytes += piece.len();
        self.parts.push(Part::Piece(piece));
    }

    fn note_copied(&mut self, start: usize) {
        let end = self.copied.len();
        if start == end {
            return;
        }
        self.bytes += end - start;
        match self.parts.last_mut() {
            Some(Part::Copied(range)) if range.end == start => range.end = end,
            Some(Part::Copied(_) | Part::Piece(_)) | None => self.parts.push(Part::Copied(start..end)),
        }
    }
}
