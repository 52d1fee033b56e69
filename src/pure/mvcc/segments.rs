//! The log of revisions: segments of records, in memory, in revision order.
//!
//! Owns: the segments, their table, the bytes that are dead in each.
//! Takes: changes to append; news of deaths; rewritten segments. Gives: records by address and by
//! position.
//! Always true: the segments' positions are disjoint and ascend; only the last may grow; an address
//! leads to the same record until its segment is garbage.
//! Not here: which records are dead (`clean`).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::pure::types::Revision;
use crate::stdx::append::{AppendBuf, Appender, Directory};
use crate::stdx::cow::{Map, Weigh};

use super::records::{self, Change, RecordRef};
use super::versions::Garbage;
use super::{Addr, Bytes};

/// Where a record stands in history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub main: Revision,
    pub sub: i64,
}

/// A segment as tables hold it, under the position of its first record.
#[derive(Clone)]
pub(super) struct Segment {
    pub buffer: Arc<AppendBuf>,
    pub number: u32,
}

impl Weigh for Segment {}

/// Segments by the position of their first record.
pub(super) type Table = Map<Position, Segment>;

impl Addr {
    pub(super) fn new(number: u32, offset: usize) -> Addr {
        Addr(u64::from(number) << 32 | offset as u64)
    }

    pub(super) fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn offset(self) -> usize {
        self.0 as u32 as usize
    }
}

/// The record at an address.
pub(super) fn record_at(directory: &Directory<AppendBuf>, addr: Addr) -> RecordRef {
    let segment = directory.get(addr.number()).expect("addresses lead to segments that are still there");
    RecordRef::open(segment, addr.offset())
}

/// A position in the log of revisions.
#[derive(Clone, Debug, Default)]
pub struct LogCursor {
    after: Position,
    hint: Option<Hint>,
}

/// Where the record after `after` begins, as long as that segment lives. It keeps no memory back.
#[derive(Clone, Debug)]
struct Hint {
    buffer: Weak<AppendBuf>,
    number: u32,
    offset: usize,
}

impl LogCursor {
    /// A cursor whose next record is the first with `main >= revision`.
    pub fn at(revision: Revision) -> LogCursor {
        LogCursor { after: Position { main: revision.saturating_sub(1), sub: i64::MAX }, hint: None }
    }

    /// Moves on, or back, to the first record with `main >= revision`. Going on keeps the place, so that many
    /// short walks along the log cost no more than one.
    pub fn seek(&mut self, revision: Revision) {
        let target = LogCursor::at(revision);
        if target.after < self.after {
            *self = target;
        } else {
            self.after = target.after;
        }
    }

    /// The first record after the cursor whose main is at most `revision`, and where it lies; moves
    /// the cursor past it. `end` is the position of the table's last record.
    pub(super) fn next(
        &mut self,
        table: &Table,
        end: Position,
        revision: Revision,
    ) -> Option<(Addr, RecordRef)> {
        if self.after >= end {
            return None;
        }
        let (buffer, offset) = self.locate(table)?;
        let hint = self.hint.as_mut().expect("locate leaves a hint");
        let addr = Addr::new(hint.number, offset);
        let record = RecordRef::open(buffer, offset);
        let position = record.position();
        assert!(position > self.after, "positions ascend along the log");
        if position.main > revision {
            return None;
        }
        hint.offset = offset + record.bytes().len();
        self.after = position;
        Some((addr, record))
    }

    /// The segment and offset of the first record after the cursor; leaves them in the hint.
    fn locate(&mut self, table: &Table) -> Option<(Arc<AppendBuf>, usize)> {
        let hinted = self.hint.as_ref().and_then(|hint| Some((hint.buffer.upgrade()?, hint.offset)));
        let after = self.after;
        if let Some((buffer, offset)) = &hinted
            && *offset < buffer.len()
            && records::peek(&buffer.bytes()[*offset..]).0 > after
        {
            return hinted;
        }
        // The segment in which `after` lies, unless that is the one just read to its end.
        if let Some((_, segment)) = table.last_while(|first| *first <= after) {
            let begin = hinted.filter(|(buffer, _)| Arc::ptr_eq(buffer, &segment.buffer)).map_or(0, |hinted| hinted.1);
            if let Some(offset) = offset_after(&segment.buffer, begin, after) {
                return Some(self.set_hint(segment, offset));
            }
        }
        let (_, segment) = table.iter_from(|first| *first <= after).next()?;
        Some(self.set_hint(segment, 0))
    }

    fn set_hint(&mut self, segment: &Segment, offset: usize) -> (Arc<AppendBuf>, usize) {
        let buffer = Arc::downgrade(&segment.buffer);
        self.hint = Some(Hint { buffer, number: segment.number, offset });
        (Arc::clone(&segment.buffer), offset)
    }
}

/// Where the first record after a position begins in a segment, at or behind the record at `begin`. Walks record
/// heads; only a cursor that starts or jumps, or whose segment was cleaned away, gets here.
fn offset_after(buffer: &Arc<AppendBuf>, begin: usize, after: Position) -> Option<usize> {
    let (mut offset, len) = (begin, buffer.len());
    while offset < len {
        let (position, length) = records::peek(&buffer.bytes()[offset..]);
        if position > after {
            return Some(offset);
        }
        offset += length;
    }
    None
}

/// The growing segment.
struct Active {
    appender: Appender,
    number: u32,
}

/// All segments; see the module.
pub(super) struct Log {
    pub directory: Arc<Directory<AppendBuf>>,
    pub table: Table,
    /// Position of the last record.
    pub end: Position,
    active: Option<Active>,
    /// Dead bytes of the segment with each number.
    dead: Vec<u64>,
    /// Numbers whose segments are garbage, perhaps not yet freed.
    retiring: VecDeque<u32>,
    bytes_total: u64,
    bytes_dead: u64,
    /// Size of a segment; smaller in tests.
    pub segment_bytes: usize,
}

impl Log {
    pub fn new(segment_bytes: usize) -> Log {
        Log {
            segment_bytes,
            directory: Arc::new(Directory::default()),
            table: Table::default(),
            end: Position::default(),
            active: None,
            dead: Vec::new(),
            retiring: VecDeque::new(),
            bytes_total: 0,
            bytes_dead: 0,
        }
    }

    pub fn bytes(&self) -> Bytes {
        Bytes { retained: self.bytes_total - self.bytes_dead, total: self.bytes_total }
    }

    pub fn record(&self, addr: Addr) -> RecordRef {
        record_at(&self.directory, addr)
    }

    /// Appends a change; returns where its record lies.
    pub fn append(&mut self, change: Change<'_>) -> Addr {
        let position = Position { main: change.version.main, sub: change.sub };
        assert!(position > self.end, "positions ascend along the log");
        let room = self.active.as_ref().map_or(0, |active| active.appender.room());
        if room < change.bytes_max() {
            let appender = Appender::new(change.bytes_max().max(self.segment_bytes));
            let number = self.place(appender.buffer());
            self.table.insert(position, Segment { buffer: Arc::clone(appender.buffer()), number });
            self.active = Some(Active { appender, number });
        }
        let active = self.active.as_mut().expect("made above if there was none");
        let (offset, length) = change.append(&mut active.appender);
        self.bytes_total += length as u64;
        self.end = position;
        Addr::new(active.number, offset)
    }

    /// Gives a buffer a number under which addresses find it.
    pub fn place(&mut self, buffer: &Arc<AppendBuf>) -> u32 {
        let number = match self.retiring.front() {
            Some(number) if !self.directory.is_taken(*number) => {
                self.retiring.pop_front().expect("it has a front")
            }
            Some(_) | None => {
                self.dead.push(0);
                u32::try_from(self.dead.len() - 1).expect("fewer than 2^32 segments")
            }
        };
        self.directory.set(number, Arc::clone(buffer));
        number
    }

    /// Counts a record as dead. Each dies once.
    pub fn kill(&mut self, addr: Addr, length: usize) {
        self.dead[addr.number() as usize] += length as u64;
        self.bytes_dead += length as u64;
        assert!(self.bytes_dead <= self.bytes_total, "records die once");
    }

    /// Dead bytes of a segment.
    pub fn dead(&self, segment: &Segment) -> u64 {
        self.dead[segment.number as usize]
    }

    /// True if the segment may still grow.
    pub fn is_active(&self, segment: &Segment) -> bool {
        self.active.as_ref().is_some_and(|active| active.number == segment.number)
    }

    /// Lets the growing segment grow no more if it has dead bytes.
    pub fn seal_if_dead(&mut self) {
        self.active.take_if(|active| self.dead[active.number as usize] > 0);
    }

    /// Puts `output` in the place of neighbours whose retained records it holds.
    pub fn replace(
        &mut self,
        inputs: &[(Position, Segment)],
        output: Option<(Position, Segment)>,
    ) -> Vec<Garbage> {
        let mut garbage = Vec::with_capacity(inputs.len());
        for (first, segment) in inputs {
            assert!(!self.is_active(segment), "only sealed segments are replaced");
            let removed = self.table.remove(first).expect("inputs stay in the table until they are replaced");
            assert_eq!(removed.number, segment.number);
            let dead = std::mem::take(&mut self.dead[segment.number as usize]);
            self.bytes_dead -= dead;
            self.bytes_total -= segment.buffer.len() as u64;
            self.retiring.push_back(segment.number);
            garbage.push(Garbage::Segment { directory: Arc::clone(&self.directory), number: segment.number });
        }
        if let Some((first, segment)) = output {
            self.bytes_total += segment.buffer.len() as u64;
            assert!(self.table.insert(first, segment).is_none(), "positions are disjoint");
        }
        garbage
    }

    /// Number of numbers ever given to segments.
    #[cfg(test)]
    pub fn numbers(&self) -> usize {
        self.dead.len()
    }
}
