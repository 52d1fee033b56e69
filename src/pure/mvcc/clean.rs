//! Giving memory back after a compaction, a slice at a time.
//!
//! Owns: how far cleaning has come. Takes: a floor, work. Gives: garbage to the holds.
//! Always true: nothing that a read at or above the floor needs is touched, no record at or above it
//! dies; each dead record is counted once; a check and the removal that it allows are in one slice.
//! Not here: who holds the floor; when garbage is freed.
//!
//! A pass moves the floor F over the log from the former floor P. A record is dead if it is below F and
//! is a tombstone or has a successor at or below F. Every record from P to F is looked at once; what
//! was kept below P can only die through a successor, and is found at the end of that key's list.
//! After a pass, sealed segments that are mostly dead are rewritten with their neighbours.

use std::sync::Arc;

use crate::limits;
use crate::pure::types::Revision;
use crate::stdx::append::Appender;
use crate::stdx::work::{Step, Work};

use super::records::RecordRef;
use super::segments::{LogCursor, Position, Segment};
use super::store::Store;
use super::versions::{Chain, Garbage};
use super::{Addr, Version};

/// Progress of cleaning.
#[derive(Default)]
pub(super) struct Cleaner {
    /// Floor of the last pass that was completed.
    cleaned: Revision,
    pass: Option<Pass>,
    /// Where to look for sparse segments.
    scan: Option<Scan>,
    rewrite: Option<Rewrite>,
    /// Cut off lists that are still to be taken apart.
    detached: Vec<Chain>,
}

struct Pass {
    floor: Revision,
    cursor: LogCursor,
}

#[derive(Clone, Copy)]
struct Scan {
    from: Position,
    forced: bool,
}

/// Neighbours being copied into one.
struct Rewrite {
    inputs: Vec<(Position, Segment)>,
    /// Next record to look at: input and offset.
    input: usize,
    offset: usize,
    output: Appender,
    /// Position of the output's first record, and its number.
    first: Option<(Position, u32)>,
    /// Where the scan goes on.
    scan: Scan,
}

impl Cleaner {
    pub fn take_detached(&mut self) -> Vec<Chain> {
        std::mem::take(&mut self.detached)
    }
}

impl Store {
    /// Reclaims a slice of what compaction left, nothing needed by a read at or above `floor`
    /// (spec A clean, spec B rewrite of sparse segments). `forced` rewrites any segment with a dead byte.
    pub fn clean(&mut self, floor: Revision, forced: bool, work: &mut Work) -> Step<()> {
        let target = floor.min(self.compact_revision);
        loop {
            if work.is_spent() {
                return Step::More;
            }
            if let Some(chain) = self.cleaner.detached.last_mut() {
                work.charge(16);
                match chain.peel() {
                    Some(piece) => self.holds.discard(Garbage::Chunks { _chain: piece }),
                    None => drop(self.cleaner.detached.pop()),
                }
            } else if self.cleaner.pass.is_some() {
                self.pass_one(work);
            } else if self.cleaner.rewrite.is_some() {
                self.rewrite_one(work);
            } else if let Some(scan) = self.cleaner.scan {
                self.scan_one(scan, work);
            } else if target > self.cleaner.cleaned {
                let cursor = LogCursor::at(self.cleaner.cleaned);
                self.cleaner.pass = Some(Pass { floor: target, cursor });
            } else if forced && self.log.bytes().retained < self.log.bytes().total {
                self.log.seal_if_dead();
                self.cleaner.scan = Some(Scan { from: Position::default(), forced: true });
            } else {
                return Step::Done(());
            }
        }
    }

    /// Looks at the pass's next record.
    fn pass_one(&mut self, work: &mut Work) {
        work.charge(1);
        let pass = self.cleaner.pass.as_mut().expect("the caller looked");
        let floor = pass.floor;
        let Some((addr, record)) = pass.cursor.next(&self.log.table, self.log.end, floor) else {
            self.cleaner.pass = None;
            self.cleaner.cleaned = floor;
            self.cleaner.scan = Some(Scan { from: Position::default(), forced: false });
            return;
        };
        if self.is_dead(&record, addr, floor, work) {
            self.log.kill(addr, record.bytes().len());
        }
    }

    /// Cuts the list of the record's key, if this pass has not done so, and says if the record is dead.
    fn is_dead(&mut self, record: &RecordRef, addr: Addr, floor: Revision, work: &mut Work) -> bool {
        let below = record.main() < floor;
        let Some(entry) = self.keys.find(record.key()) else { return below };
        if !entry.entry().is_cut_at(floor) {
            let cut = entry.entry().cut(floor, self.cleaner.cleaned, &mut self.cleaner.detached);
            work.charge(cut.chunks / 8);
            if let Some(Version { addr, .. }) = cut.dead {
                let length = self.log.record(addr).bytes().len();
                self.log.kill(addr, length);
            }
            if !cut.kept {
                self.remove_entry(entry);
                return below;
            }
        }
        let oldest = entry.entry().oldest();
        // The addresses differ if a later change of the same transaction took the slot.
        below && (oldest.main > record.main() || (oldest.main == record.main() && oldest.addr != addr))
    }

    /// Looks at the next segment, and begins to rewrite if it and its neighbours are worth it.
    fn scan_one(&mut self, scan: Scan, work: &mut Work) {
        work.charge(1);
        let (inputs, next) = self.neighbours(scan, work);
        self.cleaner.scan = next.map(|from| Scan { from, ..scan });
        let Some(from) = next.or(inputs.last().map(|(first, _)| *first)) else { return };
        let retained: u64 = inputs.iter().map(|(_, s)| s.buffer.len() as u64 - self.log.dead(s)).sum();
        let sparse = inputs.iter().any(|(_, s)| self.is_sparse(s, scan.forced));
        if !sparse && inputs.len() < 2 {
            return;
        }
        let output = Appender::new(retained as usize);
        let scan = Scan { from, ..scan };
        self.cleaner.scan = None;
        self.cleaner.rewrite = Some(Rewrite { inputs, input: 0, offset: 0, output, first: None, scan });
    }

    /// The run of segments at the scan's place that fit into one, and where the scan goes on.
    fn neighbours(&self, scan: Scan, work: &mut Work) -> (Vec<(Position, Segment)>, Option<Position>) {
        let (mut run, mut retained) = (Vec::new(), 0);
        let mut segments = self.log.table.iter_from(|first| *first < scan.from).peekable();
        while let Some((first, segment)) = segments.next() {
            work.charge(1);
            // Records above the floor are all retained; their segments wait, so that the slot of what
            // is moved lies at the end of its list.
            let settled = segments.peek().is_some_and(|(next, _)| next.main <= self.cleaner.cleaned);
            let live = segment.buffer.len() as u64 - self.log.dead(segment);
            let eligible = !self.log.is_active(segment)
                && (settled || scan.forced)
                && (self.is_sparse(segment, scan.forced) || live * 4 <= self.log.segment_bytes as u64);
            let fits = run.is_empty() || retained + live <= self.log.segment_bytes as u64;
            if eligible && fits {
                run.push((*first, segment.clone()));
                retained += live;
            } else if !run.is_empty() {
                return (run, Some(*first));
            } else {
                return (run, segments.next().map(|(next, _)| *next));
            }
        }
        (run, None)
    }

    fn is_sparse(&self, segment: &Segment, forced: bool) -> bool {
        let dead = self.log.dead(segment);
        let share = if forced { 0 } else { segment.buffer.len() as u64 * limits::mvcc::SEGMENT_DEAD_PERCENT };
        dead * 100 > share
    }

    /// Copies the rewrite's next record, if it is retained, and lets its slot point to the copy.
    fn rewrite_one(&mut self, work: &mut Work) {
        let rewrite = self.cleaner.rewrite.as_mut().expect("the caller looked");
        let Some((_, segment)) = rewrite.inputs.get(rewrite.input) else {
            self.rewrite_end();
            return;
        };
        if rewrite.offset == segment.buffer.len() {
            (rewrite.input, rewrite.offset) = (rewrite.input + 1, 0);
            return;
        }
        let record = RecordRef::open(Arc::clone(&segment.buffer), rewrite.offset);
        let from = Addr::new(segment.number, rewrite.offset);
        rewrite.offset += record.bytes().len();
        work.charge(1 + (record.bytes().len() / 1024) as u32);

        let entry = self.keys.find(record.key());
        let retained = record.main() >= self.cleaner.cleaned
            || entry.is_some_and(|entry| entry.entry().oldest().addr == from);
        if !retained {
            return;
        }
        let number = match rewrite.first {
            Some((_, number)) => number,
            None => {
                let number = self.log.place(rewrite.output.buffer());
                rewrite.first = Some((record.position(), number));
                number
            }
        };
        let to = Addr::new(number, rewrite.output.append(&[record.bytes()]));
        // A retained record without a slot: another change of its transaction took the slot.
        if let Some(entry) = entry {
            let (_, chunks) = entry.entry().swing(record.main(), from, to);
            work.charge(chunks / 8);
        }
    }

    /// Puts the copy in the place of its inputs.
    fn rewrite_end(&mut self) {
        let rewrite = self.cleaner.rewrite.take().expect("the caller looked");
        assert_eq!(rewrite.output.room(), 0, "what was counted as retained was retained");
        let buffer = Arc::clone(rewrite.output.buffer());
        let output = rewrite.first.map(|(first, number)| (first, Segment { buffer, number }));
        let garbage = self.log.replace(&rewrite.inputs, output);
        garbage.into_iter().for_each(|g| self.holds.discard(g));
        self.cleaner.scan = Some(rewrite.scan);
    }
}
