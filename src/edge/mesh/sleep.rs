//! Whether a loop sleeps, as those see it who have to wake it.

use crate::stdx::sync::{AtomicU8, Ordering};

/// Bit of the state beside those of the notices; none: the loop is awake and has no notice.
const SLEEPING: u8 = 1;

/// What a loop is told, one bit each.
pub mod notice {
    /// Another thread has left something for the loop.
    pub const CALLED: u8 = 2;
    /// A thread of the loop's own edge has results.
    pub const NUDGED: u8 = 4;
}

/// The sleep state of one loop.
///
/// Always true: a notice is never lost. It either comes before the loop's step from awake to sleeping, which then
/// fails, or after, and then who gives it sees the loop sleeping and has to wake it. Both are read-modify-write steps
/// of one atomic number, so there is no third order; acquire and release carry the mailboxes' content along.
#[derive(Debug)]
pub struct Sleep(AtomicU8);

impl Sleep {
    /// Of a loop that is awake.
    #[expect(clippy::new_without_default, reason = "a loop has one")]
    pub fn new() -> Sleep {
        Sleep(AtomicU8::new(0))
    }

    /// Declares the loop asleep, as the last step before it sleeps. False: there was a notice, it must not sleep.
    pub fn try_sleep(&self) -> bool {
        self.0.compare_exchange(0, SLEEPING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Declares the loop awake. The notices since it last did so; what was left for the loop before them is seen
    /// from here on.
    pub fn awake(&self) -> u8 {
        self.0.swap(0, Ordering::AcqRel) & !SLEEPING
    }

    /// Gives the loop a notice. True: it sleeps, and nobody else will wake it.
    #[must_use]
    pub fn notify(&self, notice: u8) -> bool {
        self.0.fetch_or(notice, Ordering::AcqRel) == SLEEPING
    }
}
