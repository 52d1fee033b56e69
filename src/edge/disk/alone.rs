//! Whether the loop makes a log write itself and waits for it, because nobody else is there to be served meanwhile.
//!
//! Owns: how many writes in a row ended without company. Takes: what came while a write was under way.
//! Gives: the choice.
//! Always true: of the writes that the loop waits for, at most one in [`ALONE_WRITES`] keeps a request waiting, for no
//! longer than that write takes; after it the loop waits for none until as many have ended in solitude. So who asks more
//! often than that never waits.
//! Not here: clocks, the writes (`writes`).
//!
//! A worker of the kernel that makes the write for the loop has to be woken at the disk's interrupt, and then to wake the
//! loop; a loop that waits in the system call is woken at once. For a client that has one request under way that
//! is a third of what the server adds to the disk's time (decision 0009). What a disk that hangs meanwhile costs others
//! is time: leases get it back (`Node::was_deaf`).

use std::time::Duration;

use crate::limits::log::{ALONE_NANOSECONDS_MAX, ALONE_WRITES, ALONE_WRITES_AFTER_SLOW};

/// The account of one log.
#[derive(Default)]
pub(super) struct Alone {
    /// Quick writes since something came while one was under way; a slow one takes some back.
    writes: u32,
}

impl Alone {
    /// After enough of them.
    #[cfg(test)]
    pub(super) fn assumed() -> Alone {
        Alone { writes: ALONE_WRITES }
    }

    /// True if the loop may wait for the next write.
    pub(super) fn is_likely(&self) -> bool {
        self.writes >= ALONE_WRITES
    }

    /// Something came while a write was under way, or more than one was.
    pub(super) fn has_company(&mut self) {
        self.writes = 0;
    }

    /// A write has ended after so long.
    pub(super) fn took(&mut self, time: Duration) {
        let is_quick = time < Duration::from_nanos(ALONE_NANOSECONDS_MAX);
        self.writes = if is_quick {
            self.writes.saturating_add(1)
        } else {
            self.writes.min(ALONE_WRITES - ALONE_WRITES_AFTER_SLOW)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn company_ends_it_for_long_and_a_slow_write_for_a_while() {
        let quick = Duration::from_nanos(ALONE_NANOSECONDS_MAX - 1);
        let slow = Duration::from_nanos(ALONE_NANOSECONDS_MAX);
        let mut alone = Alone::default();
        let mut is_likely_after = |writes: u32, time: Duration| {
            (0..writes).for_each(|_| alone.took(time));
            alone.is_likely()
        };
        assert!(!is_likely_after(ALONE_WRITES - 1, quick));
        assert!(is_likely_after(1, quick));
        assert!(is_likely_after(10 * ALONE_WRITES, quick));
        for slow_writes in [1, 10] {
            assert!(!is_likely_after(slow_writes, slow));
            assert!(!is_likely_after(ALONE_WRITES_AFTER_SLOW - 1, quick));
            assert!(is_likely_after(1, quick));
        }
        // A disk that is slow all the time.
        assert!((0..10 * ALONE_WRITES).all(|_| !is_likely_after(1, slow) && !is_likely_after(1, quick)));
        alone.has_company();
        assert!((0..ALONE_WRITES - 1).all(|_| {
            alone.took(quick);
            !alone.is_likely()
        }));
        alone.took(quick);
        assert!(alone.is_likely());
    }
}
