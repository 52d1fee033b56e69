//! Work units: how a slice of a long operation knows when to stop.

/// A budget of work units. One unit is about the work of one key visited in memory (some 100 ns).
/// Long operations charge it as they go and stop, resumable, when it is spent.
#[derive(Debug)]
pub struct Work {
    left: u32,
    granted: u32,
}

impl Work {
    /// A slice of `units`.
    pub fn new(units: u32) -> Work {
        Work { left: units, granted: units }
    }

    /// Charges `units`; overdraft is allowed once and leaves nothing.
    pub fn charge(&mut self, units: u32) {
        self.left = self.left.saturating_sub(units);
    }

    /// True when the slice is spent and the operation has to yield.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Units charged so far, at most the grant.
    pub fn used(&self) -> u32 {
        self.granted - self.left
    }
}

/// What a resumable operation says at the end of a slice.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Step<T> {
    /// The slice was spent; call again with a new one.
    More,
    /// A record is not in memory yet; call again when it has arrived.
    Pending,
    /// The operation is complete.
    Done(T),
}
