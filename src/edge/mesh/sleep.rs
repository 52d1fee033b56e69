//! Whether a loop sleeps, as those see it who have to wake it.

use crate::stdx::sync::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const SLEEPING: u8 = 1;
const NOTIFIED: u8 = 2;

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
        Sleep(AtomicU8::new(AWAKE))
    }

    /// Declares the loop asleep, as the last step before it sleeps. False: there was a notice, it must not sleep.
    pub fn try_sleep(&self) -> bool {
        self.0.compare_exchange(AWAKE, SLEEPING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Declares the loop awake. True if there was a notice since it last did so; what was left for the loop before
    /// that notice is seen from here on.
    pub fn awake(&self) -> bool {
        self.0.swap(AWAKE, Ordering::AcqRel) == NOTIFIED
    }

    /// Tells the loop that something was left for it. True: it sleeps, and nobody else will wake it.
    #[must_use]
    pub fn notify(&self) -> bool {
        self.0.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING
    }
}
