//! Bugs that tests plant on purpose, to see that the checkers find them (`reliability.md` section 4).
//! Outside of tests the struct is empty and every question is answered "no" at compile time.

/// Which planted bugs are on. Passed in the configuration; there is no global switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Canaries {
    /// M1: every so many batches one is written without sync and reported as durable; 0 is never.
    #[cfg(any(test, feature = "testing"))]
    pub skip_sync_every: u64,
    /// M16: recovery cuts at the first bad record although `durable_to` covers it.
    #[cfg(any(test, feature = "testing"))]
    pub cut_at_damage: bool,
    /// M15: recovery takes frames whatever their check sums say.
    #[cfg(any(test, feature = "testing"))]
    pub ignore_checksums: bool,
    /// M17: a failed write is taken for a good one, as if a second sync had "succeeded".
    #[cfg(any(test, feature = "testing"))]
    pub believe_failed_write: bool,
}

impl Canaries {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn skips_sync(&self, batch_number: u64) -> bool {
        self.skip_sync_every != 0 && batch_number.is_multiple_of(self.skip_sync_every)
    }

    pub(super) fn cuts_at_damage(&self) -> bool {
        #[cfg(any(test, feature = "testing"))]
        return self.cut_at_damage;
        #[cfg(not(any(test, feature = "testing")))]
        return false;
    }

    pub(super) fn ignores_checksums(&self) -> bool {
        #[cfg(any(test, feature = "testing"))]
        return self.ignore_checksums;
        #[cfg(not(any(test, feature = "testing")))]
        return false;
    }

    pub(super) fn believes_failed_write(&self) -> bool {
        #[cfg(any(test, feature = "testing"))]
        return self.believe_failed_write;
        #[cfg(not(any(test, feature = "testing")))]
        return false;
    }
}
