//! What one shard shows to the first core, as numbers that only the shard writes.

use std::sync::Arc;

use crate::pure::types::Revision;
use crate::stdx::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};

/// No processor.
const NOWHERE: u64 = u64::MAX;

/// One shard's announcements. Clones show the same numbers.
#[derive(Clone)]
pub struct ShardSlot(Arc<Numbers>);

#[repr(align(128))]
struct Numbers {
    /// The least revision that running reads and watches need; `Revision::MAX`: none.
    floor: AtomicI64,
    /// True if a new view has to wake the shard.
    interest: AtomicBool,
    /// Connections, those on their way out included.
    open: AtomicU64,
    /// Connections that were ever adopted.
    adopted: AtomicU64,
    /// Watches, those behind included.
    watches: AtomicU64,
    /// Processor on which the shard waits, after its last wishes, for their replies and for nothing else.
    processor: AtomicU64,
}

impl ShardSlot {
    /// A shard without clients.
    pub fn new() -> ShardSlot {
        ShardSlot(Arc::new(Numbers {
            floor: AtomicI64::new(Revision::MAX),
            interest: AtomicBool::new(false),
            open: AtomicU64::new(0),
            adopted: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            processor: AtomicU64::new(NOWHERE),
        }))
    }

    /// Announces the least revision that the shard's reads still need, if any. To be called before the epoch is left
    /// in which the view was seen that the floor comes from: from then on the cleaner may run (H5).
    pub fn announce_floor(&self, floor: Option<Revision>) {
        self.0.floor.store(floor.unwrap_or(Revision::MAX), Ordering::Release);
    }

    /// The floor that was announced last; the cleaner stays below.
    pub fn floor(&self) -> Option<Revision> {
        Some(self.0.floor.load(Ordering::Acquire)).filter(|floor| *floor != Revision::MAX)
    }

    /// To be called before the epoch is entered in which the view is loaded that the shard goes to sleep on. The
    /// fence of that entry and the one in [`mark_interested`] make it a Dekker pair: either this shard sees the new
    /// view, or the sequencer sees the interest and wakes it (H16).
    pub(super) fn announce_interest(&self, interest: bool) {
        self.0.interest.store(interest, Ordering::Relaxed);
    }

    pub(super) fn announce_connections(&self, open: u64, adopted: u64) {
        self.0.open.store(open, Ordering::Relaxed);
        self.0.adopted.store(adopted, Ordering::Release);
    }

    /// Announces the shard's watches; gives those of the others, as they have announced them.
    pub(super) fn announce_watches(&self, watches: usize, all: &[ShardSlot]) -> usize {
        self.0.watches.store(watches as u64, Ordering::Relaxed);
        let others = all.iter().filter(|slot| !Arc::ptr_eq(&slot.0, &self.0));
        others.map(|slot| slot.0.watches.load(Ordering::Relaxed) as usize).sum()
    }

    /// To be called after wishes were made, before the first core is woken: on which processor the shard goes to sleep.
    /// `None`: it does not, or nobody knows. A hint, which orders nothing.
    pub(super) fn announce_processor(&self, processor: Option<usize>) {
        self.0.processor.store(processor.map_or(NOWHERE, |number| number as u64), Ordering::Relaxed);
    }

    /// As announced last.
    pub(super) fn processor(&self) -> Option<usize> {
        let processor = self.0.processor.load(Ordering::Relaxed);
        (processor != NOWHERE).then_some(processor as usize)
    }

    /// Connections that are open, and how many were ever adopted.
    pub(super) fn connections(&self) -> (u64, u64) {
        let adopted = self.0.adopted.load(Ordering::Acquire);
        (self.0.open.load(Ordering::Relaxed), adopted)
    }
}

/// Marks the shards that a new view has to wake; to be called after it was published.
pub(super) fn mark_interested(slots: &[ShardSlot], to_wake: &mut [bool]) {
    fence(Ordering::SeqCst);
    for (slot, wake) in slots.iter().zip(to_wake) {
        *wake |= slot.0.interest.load(Ordering::Relaxed);
    }
}

impl Default for ShardSlot {
    fn default() -> ShardSlot {
        ShardSlot::new()
    }
}

#[cfg(all(test, not(etchd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_shard_is_told_of_the_watches_of_the_others() {
        let slots: Vec<ShardSlot> = (0..3).map(|_| ShardSlot::new()).collect();
        assert_eq!(slots[0].announce_watches(5, &slots), 0);
        assert_eq!(slots[1].announce_watches(7, &slots), 5);
        assert_eq!(slots[2].clone().announce_watches(1, &slots), 12);
        assert_eq!(slots[0].announce_watches(0, &slots), 8);
    }
}
