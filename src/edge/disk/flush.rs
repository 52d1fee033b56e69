//! Which way a log write is made durable: the quicker one of two, as the machine is just now.
//!
//! Owns: what the writes took of late. Takes: how long each took. Gives: the way of the next; carries one out for who waits.
//! Always true: the flag is used unless it is refused, or was slower than its rival, or the loop is busy; a pause from it
//! ends.
//! Not here: clocks, the order of the writes (`writes`).
//!
//! `RWF_DSYNC` costs one sleep less than a write and an `fdatasync`. But behind an asynchronous write the kernel leaves
//! the flush to a worker bound to one processor, and a program that does nothing but compute there keeps it waiting
//! until the next tick: 4 ms (at 250 Hz) in place of 0.2. A worker that serves an `fdatasync` of the ring may run anywhere,
//! and has its loop's short turns on a processor; so it ends sooner also beside a loop that does not sleep (decision 0009).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::edge::system;
use crate::limits::log::{
    FLAG_PARDONED_WRITES, FLAG_PAUSE_WRITES_MAX, FLAG_PAUSE_WRITES_MIN, FLAG_SLOW_NANOSECONDS_MIN,
    FLAG_SLOW_WITHIN_WRITES,
};

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Not at all: syncs are off.
    None,
    /// By the write itself, with `RWF_DSYNC`.
    Write,
    /// By an `fdatasync` after it.
    Sync,
}

impl Durability {
    /// Writes, and returns when it is durable this way; it may be short, and is not durable then.
    pub(crate) fn write(self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        loop {
            let result = system::write_at(file.as_fd(), bytes, offset, self.write_flags());
            // A short write has failed whatever a sync would say.
            let is_whole = result.as_ref().is_ok_and(|count| *count == bytes.len());
            let result = match self {
                Durability::Sync if is_whole => file.sync_data().map(|()| bytes.len()),
                _ => result,
            };
            // Signals of the operator may arrive on any thread; what was written is written again.
            if !result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
                return result;
            }
        }
    }

    /// Flags of the write.
    pub(crate) fn write_flags(self) -> i32 {
        match self {
            Durability::Write => libc::RWF_DSYNC,
            Durability::None | Durability::Sync => 0,
        }
    }
}

/// A flag write that takes this many times as long as one with an `fdatasync` waits for more than the disk.
const OUT_OF_PROPORTION: u64 = 4;
/// The usual time follows a new one by this part of their difference.
const FOLLOWS: u64 = 8;

/// The choice for one log.
pub(super) struct Flush {
    /// Whether `RWF_DSYNC` works here; unknown before the first write.
    flag_works: Option<bool>,
    /// What a write with an `fdatasync` took in the last pause, in nanoseconds.
    sync_usual: u64,
    /// Writes that still go without the flag.
    paused: u32,
    /// Writes of the next pause.
    next_pause: u32,
    /// Few writes with the flag were quick since the last pause: what that has measured still counts.
    is_back: bool,
    /// Writes with the flag that were quick, since the last slow one or the last pause.
    quick: u32,
    /// Writes with the flag that may still be slow, as the disk is.
    pardoned: u32,
}

impl Flush {
    pub(super) fn new() -> Flush {
        Flush {
            flag_works: None,
            sync_usual: 0,
            paused: 0,
            next_pause: FLAG_PAUSE_WRITES_MIN,
            is_back: false,
            quick: FLAG_SLOW_WITHIN_WRITES,
            pardoned: 0,
        }
    }

    /// The way of the next write, by a loop that sleeps until it has ended, or has been busy with other work for long.
    pub(super) fn way(&self, is_busy: bool) -> Durability {
        match self.flag_works {
            Some(works) if !works || self.paused > 0 || is_busy => Durability::Sync,
            Some(_) | None => Durability::Write,
        }
    }

    /// The way for who waits for the write in its system call, where no worker is; unknown before the first write.
    pub(super) fn way_alone(&self) -> Option<Durability> {
        self.flag_works.map(|works| if works { Durability::Write } else { Durability::Sync })
    }

    /// True until one write with the flag has ended.
    pub(super) fn is_untried(&self) -> bool {
        self.flag_works.is_none()
    }

    /// The flag was looked at, before any other write.
    pub(super) fn tried(&mut self, works: bool) {
        assert!(self.is_untried(), "the flag is looked at once");
        self.flag_works = Some(works);
    }

    /// A write that was alone under way when it began has ended well after so long.
    pub(super) fn took(&mut self, way: Durability, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match way {
            Durability::None => {}
            Durability::Sync => {
                let usual = if self.sync_usual == 0 { time } else { self.sync_usual };
                self.sync_usual = usual - usual / FOLLOWS + time / FOLLOWS;
                self.paused = self.paused.saturating_sub(1);
            }
            Durability::Write => self.flag_took(time),
        }
    }

    fn flag_took(&mut self, time: u64) {
        let is_pardoned = self.pardoned > 0;
        self.pardoned = self.pardoned.saturating_sub(1);
        if time < FLAG_SLOW_NANOSECONDS_MIN {
            self.quick += 1;
            self.is_back &= self.quick < FLAG_SLOW_WITHIN_WRITES;
            if self.quick >= FLAG_PAUSE_WRITES_MIN {
                (self.quick, self.next_pause) = (FLAG_SLOW_WITHIN_WRITES, FLAG_PAUSE_WRITES_MIN);
            }
            return;
        }
        // One alone is the disk's mood.
        let is_first = std::mem::take(&mut self.quick) >= FLAG_SLOW_WITHIN_WRITES;
        if is_first || is_pardoned {
            return;
        }
        if self.is_back && time / OUT_OF_PROPORTION < self.sync_usual {
            // The disk is slow, whichever way; until it is asked again.
            (self.pardoned, self.is_back) = (FLAG_PARDONED_WRITES, false);
            return;
        }
        self.sync_usual = 0;
        self.paused = self.next_pause;
        self.next_pause = (2 * self.next_pause).min(FLAG_PAUSE_WRITES_MAX);
        self.is_back = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(200);
    const SLOW: Duration = Duration::from_millis(4);

    fn tried() -> Flush {
        let mut flush = Flush::new();
        flush.tried(true);
        flush
    }

    /// So many writes on a machine where the ways take so long: how many of them used the flag.
    fn with_flag(flush: &mut Flush, writes: u32, flag: Duration, sync: Duration) -> u32 {
        let mut count = 0;
        for _ in 0..writes {
            let way = flush.way(false);
            count += u32::from(way == Durability::Write);
            flush.took(way, if way == Durability::Write { flag } else { sync });
        }
        count
    }

    #[test]
    fn a_busy_loop_uses_no_flag() {
        let mut flush = Flush::new();
        assert_eq!(flush.way(true), Durability::Write, "the first write tries it");
        flush.tried(true);
        for _ in 0..1_000 {
            assert_eq!(flush.way(true), Durability::Sync);
            flush.took(Durability::Sync, QUICK);
        }
        assert_eq!(flush.way(false), Durability::Write);
        let mut refused = Flush::new();
        refused.tried(false);
        assert_eq!((refused.way(true), refused.way(false)), (Durability::Sync, Durability::Sync));
    }

    #[test]
    fn the_flag_is_used_while_it_is_quick() {
        let mut flush = tried();
        assert_eq!(with_flag(&mut flush, 1_000, QUICK, QUICK), 1_000);
        // Below the bound, or once in a while, it is the disk's mood.
        assert_eq!(with_flag(&mut flush, 10, Duration::from_micros(2_990), QUICK), 10);
        for _ in 0..10 {
            assert_eq!(with_flag(&mut flush, 1, SLOW, QUICK), 1);
            assert_eq!(with_flag(&mut flush, FLAG_SLOW_WITHIN_WRITES, QUICK, QUICK), FLAG_SLOW_WITHIN_WRITES);
        }
    }

    #[test]
    fn a_flag_that_waits_for_a_processor_is_asked_ever_less_often() {
        let mut flush = tried();
        let pause = FLAG_PAUSE_WRITES_MIN;
        assert_eq!(with_flag(&mut flush, 2, SLOW, QUICK), 2);
        assert_eq!(with_flag(&mut flush, 7 * pause + 2, SLOW, QUICK), 2, "1, 1 + 1, 2 + 1, 4 pauses");
        with_flag(&mut flush, 20 * FLAG_PAUSE_WRITES_MAX, SLOW, QUICK);
        assert_eq!(with_flag(&mut flush, 10 * (FLAG_PAUSE_WRITES_MAX + 1), SLOW, QUICK), 10);
        // The processor is free again: after the pause that is under way.
        while flush.way(false) == Durability::Sync {
            flush.took(Durability::Sync, QUICK);
        }
        assert_eq!(with_flag(&mut flush, pause, QUICK, QUICK), pause);
        // The next time begins small.
        assert_eq!(with_flag(&mut flush, 2 + pause, SLOW, QUICK), 2);
        assert_eq!(flush.way(false), Durability::Write);
    }

    #[test]
    fn a_flag_that_is_slow_at_times_is_slow_for_few() {
        let mut flush = tried();
        let (mut slow, writes) = (0, 100_000);
        for turn in 0..writes {
            let way = flush.way(false);
            let meets = way == Durability::Write && turn % 20 == 0;
            slow += u32::from(meets);
            flush.took(way, if meets { SLOW } else { QUICK });
        }
        assert!(slow * 1_000 < writes, "{slow} of {writes}");
    }

    #[test]
    fn a_disk_that_has_become_slow_is_no_reason() {
        let mut flush = tried();
        let round = FLAG_PAUSE_WRITES_MIN + FLAG_PARDONED_WRITES;
        let flagged = with_flag(&mut flush, 10 * round, SLOW, SLOW);
        assert!(
            flagged > 4 * FLAG_PARDONED_WRITES && flagged < 9 * round,
            "both ways are looked at: {flagged}"
        );
        // It is quick again, but for the processor.
        with_flag(&mut flush, round, SLOW, QUICK);
        assert!(with_flag(&mut flush, 10 * round, SLOW, QUICK) < 10);
    }

    #[test]
    fn where_the_flag_is_refused_there_is_no_choice() {
        let mut flush = Flush::new();
        assert_eq!((flush.way(false), flush.is_untried()), (Durability::Write, true));
        flush.tried(false);
        assert_eq!(with_flag(&mut flush, 10_000, QUICK, SLOW), 0);
    }
}
