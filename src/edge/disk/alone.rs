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

use crate::limits::log::{ALONE_NANOSECONDS_MAX, ALONE_WRITES};

/// The account of one log.
#[derive(Default)]
pub(super) struct Alone {
    /// Writes in a row that were quick and during which nothing came.
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
        self.writes = if is_quick { self.writes.saturating_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn company_or_a_slow_write_ends_it_for_as_many_writes() {
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
        assert!(!is_likely_after(1, slow));
        assert!(!is_likely_after(ALONE_WRITES - 1, quick));
        assert!(is_likely_after(1, quick));
        alone.has_company();
        assert!(!alone.is_likely());
    }
}
