//! The log's writes, whoever carries them out: their order, their state, the files that they go to.
//!
//! Owns: the data directory with its lock, open segments, writes whose completion was not given out, the helper.
//! Takes: aligned buffers with their places, results. Gives: [`Submission`]s, completions.
//! Always true: completions are given out in the order of the writes; after a failure every write fails (spec D4);
//! a write that is not direct, or not yet known to be durable by itself, is alone under way (hazard H3).
//! Not here: system calls, what is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::alone::Alone;
use super::flush::Flush;
use super::{DataDirectory, Durability, Helper, SegmentFile, Syncs};
use crate::edge::buffer::{AlignedBuffer, Pool};
use crate::edge::clock::Clock;
use crate::edge::io::{Completion, SetupError, Waker};
use crate::limits::log::{BLOCK_BYTES, FLAG_BUSY_TURNS, REGISTERED_BUFFER_BYTES, REGISTERED_BUFFERS};
use crate::stdx::time::Monotonic;

/// A write to be carried out now.
pub(crate) struct Submission<'a> {
    /// Name of the write for [`LogWrites::completed`].
    pub(crate) number: u64,
    pub(crate) file: &'a Arc<File>,
    pub(crate) offset: u64,
    /// Stays where it is until the completion.
    pub(crate) buffer: &'a mut AlignedBuffer,
    pub(crate) durability: Durability,
}

/// The writes of one log.
pub(crate) struct LogWrites {
    data: DataDirectory,
    helper: Helper,
    /// Open segments, oldest first.
    segments: VecDeque<(u64, SegmentFile)>,
    /// Writes whose completion was not given out, in order.
    writes: VecDeque<LogWrite>,
    /// Number of the first of `writes`.
    first: u64,
    /// Writes under way at a time, at most.
    depth: usize,
    pool: Pool,
    flush: Flush,
    alone: Alone,
    /// Time that the loop spent in a write of its own, in this turn.
    deaf: Duration,
    /// When the turn began, writes waited or were under way.
    was_writing: bool,
    /// Turns of the loop since it slept; 0 where the log has a thread of its own.
    busy_turns: u32,
    failed: bool,
    bytes: u64,
}

/// What is to be done about a write that was left for the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// There is none.
    Nothing,
    /// The loop makes it, by [`LogWrites::write_alone`].
    ToLoop,
    /// The loop has other work: it is submitted like all others.
    ToOthers,
}

struct LogWrite {
    token: u64,
    segment: u64,
    offset: u64,
    buffer: AlignedBuffer,
    state: WriteState,
}

enum WriteState {
    Waiting,
    /// Since when, if no other write was under way then.
    UnderWay(Durability, Option<Monotonic>),
    Done(Result<(), io::Error>),
}

impl LogWrites {
    /// `nudger` tells the loop of the helper's results; at most `depth` writes are under way at a time.
    pub(crate) fn new(data: DataDirectory, nudger: Waker, depth: usize) -> Result<LogWrites, SetupError> {
        let bytes = data
            .log()
            .bytes()
            .map_err(|error| SetupError::of_step("measure the log", io::Error::other(error)))?;
        let helper = Helper::start(data.log().clone(), nudger)
            .map_err(|error| SetupError::of_step("start the helper thread", error))?;
        Ok(LogWrites {
            data,
            helper,
            segments: VecDeque::new(),
            writes: VecDeque::new(),
            first: 0,
            depth,
            pool: Pool::new(REGISTERED_BUFFERS, REGISTERED_BUFFER_BYTES),
            flush: Flush::new(),
            alone: Alone::default(),
            deaf: Duration::ZERO,
            was_writing: false,
            busy_turns: 0,
            failed: false,
            bytes,
        })
    }

    /// True if the newest segment's writes bypass the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.data.log().opens_direct() == Some(true)
    }

    /// The buffers that are used again and again.
    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Bytes of all segment files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An empty buffer of at least `capacity` bytes.
    pub(crate) fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        let pooled = if capacity <= REGISTERED_BUFFER_BYTES { self.pool.take() } else { None };
        pooled.unwrap_or_else(|| AlignedBuffer::new(capacity))
    }

    /// A turn of the loop begins, which may sleep first or goes on at once.
    pub(crate) fn note_turn(&mut self, may_sleep: bool) {
        self.busy_turns = if may_sleep { 0 } else { self.busy_turns.saturating_add(1) };
    }

    /// The same: what is to be done about a write that was left for the loop.
    pub(crate) fn begin_turn(&mut self, may_sleep: bool) -> Left {
        self.was_writing = !self.writes.is_empty();
        self.deaf = Duration::ZERO;
        if !self.is_alone() {
            if !may_sleep && self.was_writing {
                self.alone.has_company();
            }
            return Left::Nothing;
        }
        if may_sleep {
            return Left::ToLoop;
        }
        self.alone.has_company();
        Left::ToOthers
    }

    /// Queues a write.
    pub(crate) fn push(&mut self, token: u64, segment: u64, offset: u64, buffer: AlignedBuffer) {
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64) && buffer.len().is_multiple_of(BLOCK_BYTES));
        assert!(!buffer.is_empty(), "a write has bytes");
        let state = match self.open(segment) {
            Ok(()) => WriteState::Waiting,
            Err(error) => WriteState::Done(Err(error)),
        };
        self.writes.push_back(LogWrite { token, segment, offset, buffer, state });
    }

    /// The next write that may start; it counts as under way from here on.
    pub(crate) fn submit(&mut self) -> Option<Submission<'_>> {
        let durability = match self.data.log().syncs() {
            Syncs::Off => Durability::None,
            Syncs::On => self.flush.way(self.busy_turns >= FLAG_BUSY_TURNS),
        };
        // Durable by itself, whatever else is under way (hazard H3).
        let overlaps = |durability| match durability {
            Durability::None => true,
            Durability::Write => !self.flush.is_untried(),
            Durability::Sync => false,
        };
        let mut under_way = 0;
        for index in 0..self.writes.len() {
            let write = &self.writes[index];
            let file = || file(&self.segments, write.segment);
            match write.state {
                WriteState::Done(_) => {}
                WriteState::Waiting if self.failed => return None,
                WriteState::Waiting => {
                    if under_way > 0 {
                        self.alone.has_company();
                    }
                    return Some(self.start(index, durability, under_way == 0));
                }
                WriteState::UnderWay(other, _) => {
                    under_way += 1;
                    if under_way >= self.depth || !overlaps(durability) || !overlaps(other) || !file().direct
                    {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// True if the loop is to make the only write itself, by [`LogWrites::write_alone`] (see `alone`).
    pub(crate) fn is_alone(&self) -> bool {
        let is_only = self.writes.len() == 1 && matches!(self.writes[0].state, WriteState::Waiting);
        is_only && !self.failed && self.way_alone().is_some() && self.alone.is_likely()
    }

    /// True if the loop makes the next write itself, when it is the only one.
    pub(crate) fn is_alone_likely(&self) -> bool {
        self.alone.is_likely()
    }

    fn way_alone(&self) -> Option<Durability> {
        match self.data.log().syncs() {
            Syncs::Off => None,
            Syncs::On => self.flush.way_alone(),
        }
    }

    /// Makes the only write, and returns when it has ended. `pass` may rewrite the result, for tests.
    pub(crate) fn write_alone(&mut self, pass: impl FnOnce(io::Result<usize>) -> io::Result<usize>) {
        assert!(self.is_alone(), "the loop makes no write itself but the only one");
        let durability = self.way_alone().expect("just looked at");
        let begun = Clock.now();
        let write = self.start(0, durability, false);
        let number = write.number;
        let result = pass(durability.write(write.file, write.buffer, write.offset));
        self.deaf = Clock.now().since(begun);
        self.alone.took(self.deaf);
        self.completed(number, result);
    }

    /// From here on as after many quick writes without company.
    #[cfg(test)]
    pub(crate) fn assume_alone(&mut self) {
        self.alone = Alone::assumed();
    }

    /// How long the loop was in a write of its own in this turn, and could not hear anybody.
    pub(crate) fn deaf(&self) -> Duration {
        self.deaf
    }

    /// A turn of the loop has begun, with all that has come: looks whether anybody waits for more than a write.
    pub(crate) fn look_for_company<S>(&mut self, came: &[Completion<S>]) {
        let waits = |completion: &Completion<S>| match completion {
            Completion::Incoming { .. }
            | Completion::Received { .. }
            | Completion::Closed { .. }
            | Completion::Sent { .. }
            | Completion::Woken => true,
            Completion::LogWritten { .. }
            | Completion::LogFailed { .. }
            | Completion::SegmentReady { .. }
            | Completion::SegmentFailed { .. } => false,
        };
        if self.was_writing && came.iter().any(waits) {
            self.alone.has_company();
        }
    }

    fn start(&mut self, index: usize, durability: Durability, is_alone: bool) -> Submission<'_> {
        let write = &mut self.writes[index];
        write.state = WriteState::UnderWay(durability, is_alone.then(|| Clock.now()));
        Submission {
            number: self.first + index as u64,
            file: &file(&self.segments, write.segment).file,
            offset: write.offset,
            buffer: &mut write.buffer,
            durability,
        }
    }

    /// A write that is under way: its file, its buffer, how it is made durable.
    pub(crate) fn under_way(&mut self, number: u64) -> (&Arc<File>, &mut AlignedBuffer, Durability) {
        let index = usize::try_from(number - self.first).expect("still in the list");
        let write = &mut self.writes[index];
        let WriteState::UnderWay(durability, _) = write.state else {
            panic!("write {number} is not under way")
        };
        (&file(&self.segments, write.segment).file, &mut write.buffer, durability)
    }

    /// A write has ended with so many bytes, durable as its submission said, or an error.
    pub(crate) fn completed(&mut self, number: u64, result: io::Result<usize>) {
        let index = usize::try_from(number - self.first).expect("still in the list");
        let write = &mut self.writes[index];
        let WriteState::UnderWay(durability, since) = write.state else {
            panic!("write {number} is not under way")
        };
        let result = match result {
            Ok(count) if count == write.buffer.len() => Ok(()),
            Ok(count) => {
                let text = format!("short write: {count} of {} bytes", write.buffer.len());
                Err(io::Error::new(io::ErrorKind::WriteZero, text))
            }
            Err(error) => Err(error),
        };
        if durability == Durability::Write && self.flush.is_untried() {
            // Of the very first write only, which is alone under way: the flag is looked at before any byte is.
            let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EOPNOTSUPP);
            if result.as_ref().is_err_and(refused) {
                tracing::warn!(
                    "the file system of the log refuses RWF_DSYNC: each write is followed by an fdatasync, which \
                     is slower; put --wal-dir on ext4 or xfs"
                );
                self.flush.tried(false);
                write.state = WriteState::Waiting;
                return;
            }
            self.flush.tried(true);
        }
        if let (Ok(()), Some(since)) = (&result, since) {
            let time = Clock.now().since(since);
            self.flush.took(durability, time);
            self.alone.took(time);
        }
        write.state = WriteState::Done(result);
    }

    /// For a loop that goes on without sleeping: lets go of the processor if a write is under way. The thread that ends
    /// the write may wait for it, the kernel's worker even be bound to it (see `flush`), up to the next tick. True: it did.
    pub(crate) fn give_way(&self) -> bool {
        let is_writing = !self.writes.is_empty();
        if is_writing {
            std::thread::yield_now();
        }
        is_writing
    }

    /// Asks for a segment of zeros.
    pub(crate) fn prepare_segment(&mut self, number: u64, bytes: u64) {
        self.helper.prepare(number, bytes);
    }

    /// Gives out the helper's results.
    pub(crate) fn take_prepared<S>(&mut self, out: &mut Vec<Completion<S>>) {
        while let Some(prepared) = self.helper.next() {
            let number = prepared.number;
            out.push(match prepared.result {
                Ok(()) => {
                    self.bytes += prepared.bytes;
                    Completion::SegmentReady { number }
                }
                Err(error) => Completion::SegmentFailed { number, error },
            });
        }
    }

    /// Gives out what is complete from the front; after a failure, everything that is not under way.
    pub(crate) fn give_out<S>(&mut self, out: &mut Vec<Completion<S>>) {
        while let Some(write) = self.writes.front() {
            let is_over = match &write.state {
                WriteState::Done(_) => true,
                WriteState::Waiting => self.failed,
                WriteState::UnderWay(..) => false,
            };
            if !is_over {
                return;
            }
            let write = self.writes.pop_front().expect("looked at");
            self.first += 1;
            let result = match write.state {
                WriteState::Done(result) if !self.failed => result,
                WriteState::Done(Err(error)) => Err(error),
                WriteState::Done(Ok(())) | WriteState::Waiting | WriteState::UnderWay(..) => {
                    Err(io::Error::other("an earlier log write has failed"))
                }
            };
            let token = write.token;
            out.push(match result {
                Ok(()) => Completion::LogWritten { token, buffer: write.buffer },
                Err(error) => {
                    self.failed = true;
                    Completion::LogFailed { token, error }
                }
            });
        }
        self.close_former_segments();
    }

    fn open(&mut self, segment: u64) -> Result<(), io::Error> {
        if self.segments.iter().all(|(number, _)| *number != segment) {
            let file = self.data.log().open_segment(segment)?;
            self.segments.push_back((segment, file));
        }
        Ok(())
    }

    /// Segments before the newest one are not written to again, once their last write is done.
    fn close_former_segments(&mut self) {
        if self.writes.is_empty() && self.segments.len() > 1 {
            self.segments.drain(..self.segments.len() - 1);
        }
    }
}

fn file(segments: &VecDeque<(u64, SegmentFile)>, segment: u64) -> &SegmentFile {
    &segments.iter().find(|(number, _)| *number == segment).expect("opened at the write").1
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::edge::disk::Scratch;
    use crate::edge::io::Wake;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn writes(scratch: &Scratch, depth: usize, direct: bool) -> LogWrites {
        let mut data = DataDirectory::open(&scratch.options()).expect("opens");
        if !direct {
            data.write_through_cache();
        }
        data.log().create_segment(1, 1 << 20).expect("creates");
        LogWrites::new(data, Waker::new(Arc::new(Nobody)), depth).expect("has a thread")
    }

    fn push(writes: &mut LogWrites, tokens: std::ops::RangeInclusive<u64>) {
        for token in tokens {
            let mut buffer = writes.buffer(BLOCK_BYTES);
            buffer.resize_zeroed(BLOCK_BYTES);
            writes.push(token, 1, token * BLOCK_BYTES as u64, buffer);
        }
    }

    fn submitted(writes: &mut LogWrites) -> Vec<(u64, Durability)> {
        std::iter::from_fn(|| writes.submit().map(|next| (next.number, next.durability))).collect()
    }

    /// Tokens, negative for failed ones.
    fn given_out(writes: &mut LogWrites) -> Vec<i64> {
        let mut out: Vec<Completion<()>> = Vec::new();
        writes.give_out(&mut out);
        let token = |completion| match completion {
            Completion::LogWritten { token, .. } => token.cast_signed(),
            Completion::LogFailed { token, .. } => -token.cast_signed(),
            other => panic!("unexpected {other:?}"),
        };
        out.into_iter().map(token).collect()
    }

    fn has_direct(scratch: &Scratch) -> bool {
        let data = DataDirectory::open(&scratch.options()).expect("opens");
        data.log().create_segment(9, BLOCK_BYTES as u64).expect("creates");
        data.log().open_segment(9).expect("opens").direct
    }

    #[test]
    fn direct_writes_overlap_up_to_the_depth_once_the_flag_is_known_to_work() {
        let scratch = Scratch::new("overlap");
        if !has_direct(&scratch) {
            return println!("skipped: no O_DIRECT here");
        }
        let mut writes = writes(&scratch, 2, true);
        push(&mut writes, 1..=4);
        assert_eq!(submitted(&mut writes), [(0, Durability::Write)]);
        writes.completed(0, Ok(BLOCK_BYTES));
        assert_eq!(submitted(&mut writes), [(1, Durability::Write), (2, Durability::Write)]);
        writes.completed(2, Ok(BLOCK_BYTES));
        assert_eq!(given_out(&mut writes), [1], "in order");
        assert_eq!(submitted(&mut writes), [(3, Durability::Write)]);
        writes.completed(1, Ok(BLOCK_BYTES));
        assert_eq!(given_out(&mut writes), [2, 3]);
    }

    #[test]
    fn buffered_writes_go_one_by_one() {
        let scratch = Scratch::new("buffered");
        let mut writes = writes(&scratch, usize::MAX, false);
        assert!(!writes.give_way());
        push(&mut writes, 1..=3);
        for number in 0..3 {
            assert!(writes.give_way(), "while a write is under way");
            // Either way of making them durable, as the clock says.
            let numbers: Vec<u64> = submitted(&mut writes).into_iter().map(|(number, _)| number).collect();
            assert_eq!(numbers, [number]);
            writes.completed(number, Ok(BLOCK_BYTES));
        }
        assert_eq!(given_out(&mut writes), [1, 2, 3]);
    }

    #[test]
    fn where_the_flag_is_refused_the_same_write_is_done_with_a_sync() {
        let refused = || Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        let scratch = Scratch::new("flag");
        let mut writes = writes(&scratch, usize::MAX, true);
        push(&mut writes, 1..=2);
        assert_eq!(submitted(&mut writes), [(0, Durability::Write)]);
        writes.completed(0, refused());
        assert!(given_out(&mut writes).is_empty());
        assert_eq!(submitted(&mut writes), [(0, Durability::Sync)], "alone");
        writes.completed(0, Ok(BLOCK_BYTES));
        assert_eq!(submitted(&mut writes), [(1, Durability::Sync)]);
        // From anything but the flag it is a failure like any other.
        writes.completed(1, refused());
        assert_eq!(given_out(&mut writes), [1, -2]);
    }

    #[test]
    fn a_write_with_a_sync_is_alone_whatever_comes_after_it() {
        let scratch = Scratch::new("pause");
        if !has_direct(&scratch) {
            return println!("skipped: no O_DIRECT here");
        }
        let mut writes = writes(&scratch, usize::MAX, true);
        push(&mut writes, 1..=6);
        assert_eq!(submitted(&mut writes), [(0, Durability::Write)]);
        writes.completed(0, Ok(BLOCK_BYTES));
        while writes.flush.way(false) == Durability::Write {
            writes.flush.took(Durability::Write, Duration::from_mins(1));
        }
        assert_eq!(submitted(&mut writes), [(1, Durability::Sync)]);
        while writes.flush.way(false) == Durability::Sync {
            writes.flush.took(Durability::Sync, Duration::from_mins(1));
        }
        assert!(submitted(&mut writes).is_empty(), "the sync of 1 says nothing of a later write");
        writes.completed(1, Ok(BLOCK_BYTES));
        assert!(submitted(&mut writes).len() > 1);
        assert_eq!(given_out(&mut writes), [1, 2]);
    }

    #[test]
    fn a_loop_that_does_not_sleep_for_long_writes_without_the_flag() {
        let scratch = Scratch::new("busy");
        let mut writes = writes(&scratch, 1, true);
        push(&mut writes, 1..=4);
        let mut way_after = |number: u64, busy_turns: u32| {
            (0..busy_turns).for_each(|_| writes.note_turn(false));
            let [(submitted, way)] = submitted(&mut writes)[..] else { panic!("one at a time") };
            assert_eq!(submitted, number);
            writes.completed(number, Ok(BLOCK_BYTES));
            way
        };
        assert_eq!(way_after(0, 0), Durability::Write);
        assert_eq!(way_after(1, FLAG_BUSY_TURNS - 1), Durability::Write);
        assert_eq!(way_after(2, 1), Durability::Sync);
        writes.note_turn(true);
        let last = submitted(&mut writes);
        assert_eq!(last, [(3, Durability::Write)]);
    }

    /// Writes one by one until the loop would make the next itself.
    fn until_alone(writes: &mut LogWrites) {
        while !writes.is_alone() {
            while let [(number, _), ..] = submitted(writes)[..] {
                writes.completed(number, Ok(BLOCK_BYTES));
            }
            given_out(writes);
            push(writes, 1..=1);
        }
    }

    #[test]
    fn only_a_write_without_company_is_made_by_the_loop() {
        let scratch = Scratch::new("alone");
        let mut writes = writes(&scratch, usize::MAX, true);
        until_alone(&mut writes);
        push(&mut writes, 2..=2);
        assert!(!writes.is_alone(), "not the only one");
        writes.writes.pop_back();
        writes.write_alone(|result| result);
        assert_eq!(given_out(&mut writes), [1]);

        until_alone(&mut writes);
        assert_eq!(writes.begin_turn(true), Left::ToLoop);
        writes.look_for_company::<()>(&[Completion::SegmentReady { number: 2 }]);
        assert!(writes.is_alone(), "nobody waits for that");
        writes.look_for_company::<()>(&[Completion::Woken]);
        assert!(!writes.is_alone());

        until_alone(&mut writes);
        assert_eq!(writes.begin_turn(false), Left::ToOthers);
        assert!(!writes.is_alone(), "the loop has other work");
        assert_eq!(writes.begin_turn(true), Left::Nothing);

        until_alone(&mut writes);
        writes.write_alone(|result| result.map(|count| count - 1));
        assert_eq!(given_out(&mut writes), [-1], "short");
        push(&mut writes, 1..=1);
        assert!(!writes.is_alone() && submitted(&mut writes).is_empty());
    }

    #[test]
    fn a_refusal_after_a_success_is_a_failure() {
        let scratch = Scratch::new("late");
        let mut writes = writes(&scratch, 1, true);
        push(&mut writes, 1..=3);
        assert_eq!(submitted(&mut writes).len(), 1);
        writes.completed(0, Ok(BLOCK_BYTES));
        assert_eq!(submitted(&mut writes).len(), 1);
        writes.completed(1, Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        assert_eq!(given_out(&mut writes), [1, -2, -3]);
        assert!(submitted(&mut writes).is_empty());
    }
}
