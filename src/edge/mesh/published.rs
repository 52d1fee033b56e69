//! One value published to all cores, replaced as a whole, and the epochs that say when the old one may go.
//!
//! A reader announces the epoch in which it enters (store, `SeqCst` fence, then the load of the pointer); the
//! publisher replaces the pointer, moves the epoch, and drops what it replaced when every slot is either
//! offline or past that epoch (spec A, H16).

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use crate::stdx::sync::{AtomicPtr, AtomicU64, Ordering, fence, owned};

/// A slot of a reader that looks at nothing.
const OFFLINE: u64 = u64::MAX;

struct Shared<T> {
    current: AtomicPtr<T>,
    epoch: AtomicU64,
    slots: Box<[Slot]>,
}

#[repr(align(128))]
struct Slot(AtomicU64);

/// The one who replaces the value. `G` is other memory that readers of the value may look at.
pub struct Publisher<T, G> {
    shared: Arc<Shared<T>>,
    /// What was taken out, with the epoch of that moment; ascending.
    retired: VecDeque<(u64, Garbage<T, G>)>,
}

enum Garbage<T, G> {
    Value(*mut T),
    Other(G),
}

/// One core's access to the value.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    slot: usize,
}

/// Between entering and leaving: what is loaded stays valid.
pub struct Guard<'a, T> {
    reader: &'a Reader<T>,
}

// SAFETY: the publisher owns the values behind its pointers; moving it moves that ownership.
unsafe impl<T: Send + Sync, G: Send> Send for Publisher<T, G> {}

/// Publishes `first` to `readers` readers.
pub fn published<T: Send + Sync, G>(first: T, readers: usize) -> (Publisher<T, G>, Vec<Reader<T>>) {
    let slots = (0..readers).map(|_| Slot(AtomicU64::new(OFFLINE))).collect();
    let current = AtomicPtr::new(Box::into_raw(Box::new(first)));
    let shared = Arc::new(Shared { current, epoch: AtomicU64::new(0), slots });
    let readers = (0..readers).map(|slot| Reader { shared: Arc::clone(&shared), slot }).collect();
    (Publisher { shared, retired: VecDeque::new() }, readers)
}

impl<T, G> Publisher<T, G> {
    /// Replaces the value. Readers that enter or load from here on see the new one.
    pub fn publish(&mut self, value: T) {
        let old = self.shared.current.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
        self.retire_at_new_epoch(Garbage::Value(old));
    }

    /// Keeps `garbage` until every reader has left the present epoch.
    pub fn retire(&mut self, garbage: G) {
        self.retire_at_new_epoch(Garbage::Other(garbage));
    }

    fn retire_at_new_epoch(&mut self, garbage: Garbage<T, G>) {
        let epoch = self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        self.retired.push_back((epoch, garbage));
    }

    /// Drops what no reader can see any more.
    pub fn collect(&mut self) {
        if self.retired.is_empty() {
            return;
        }
        // Pairs with the fence in `enter`: either we see the reader's slot, or it sees the new pointer.
        fence(Ordering::SeqCst);
        let oldest =
            self.shared.slots.iter().map(|slot| slot.0.load(Ordering::Acquire)).min().unwrap_or(OFFLINE);
        while let Some((epoch, _)) = self.retired.front() {
            if *epoch >= oldest {
                break;
            }
            let (_, garbage) = self.retired.pop_front().expect("it was just seen");
            garbage.free();
        }
    }

    /// The present epoch: a reader that enters from here on announces at least this.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// True if every reader has left the epochs before `epoch`: a grace period.
    pub fn has_passed(&self, epoch: u64) -> bool {
        fence(Ordering::SeqCst);
        self.shared.slots.iter().all(|slot| slot.0.load(Ordering::Acquire) >= epoch)
    }

    /// Things kept for readers that have not left yet.
    pub fn retired_count(&self) -> usize {
        self.retired.len()
    }
}

impl<T, G> Garbage<T, G> {
    fn free(self) {
        match self {
            // SAFETY: made by `Box::into_raw`, out of publication, and no reader that could have loaded it is
            // still inside (checked by `collect`, or both ends are gone).
            Garbage::Value(old) => drop(unsafe { Box::from_raw(old) }),
            Garbage::Other(other) => drop(other),
        }
    }
}

impl<T, G> Drop for Publisher<T, G> {
    fn drop(&mut self) {
        // Guards borrow their reader, and readers may outlive the publisher: what they could still load stays.
        fence(Ordering::SeqCst);
        let all_offline = self.shared.slots.iter().all(|slot| slot.0.load(Ordering::Acquire) == OFFLINE);
        for (_, garbage) in self.retired.drain(..) {
            if all_offline {
                garbage.free();
            } else {
                std::mem::forget(garbage);
            }
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the last owner is gone; the pointer was made by `Box::into_raw` and never freed while current.
        drop(unsafe { Box::from_raw(owned(&mut self.current)) });
    }
}

impl<T> Reader<T> {
    /// Enters: until the guard is dropped, whatever is loaded through it stays valid. Not to be nested.
    pub fn enter(&mut self) -> Guard<'_, T> {
        let slot = &self.shared.slots[self.slot].0;
        slot.store(self.shared.epoch.load(Ordering::Acquire), Ordering::Release);
        fence(Ordering::SeqCst);
        Guard { reader: self }
    }
}

impl<T> Guard<'_, T> {
    /// The value now. Load it for each request after its bytes were reaped: an older one may be stale.
    pub fn load(&self) -> &T {
        // SAFETY: the slot announces an epoch not later than the one in which this pointer is replaced, so
        // the publisher keeps the value until the guard is dropped.
        unsafe { &*self.reader.shared.current.load(Ordering::Acquire) }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.load()
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.reader.shared.slots[self.reader.slot].0.store(OFFLINE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_value_lives_as_long_as_somebody_may_look() {
        let first = Arc::new(1);
        let (mut publisher, mut readers) = published::<Arc<i32>, Arc<i32>>(Arc::clone(&first), 2);
        let (a, b) = readers.split_at_mut(1);
        let guard = a[0].enter();
        let seen = guard.load();
        publisher.publish(Arc::new(2));
        let other = Arc::new(7);
        publisher.retire(Arc::clone(&other));
        publisher.collect();
        assert_eq!((**seen, *first, Arc::strong_count(&first)), (1, 1, 2), "kept for the reader inside");
        assert_eq!(**guard.load(), 2, "a new load sees the new value");
        assert_eq!(**b[0].enter().load(), 2);
        drop(guard);
        publisher.collect();
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&other)), (1, 1));
        assert_eq!(publisher.retired_count(), 0);
    }

    #[test]
    fn readers_on_other_threads_never_see_freed_values() {
        let (mut publisher, readers) = published::<Vec<u64>, ()>(vec![0; 8], 2);
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let guard = reader.enter();
                        let value = guard.load();
                        assert!(value.iter().all(|n| *n == value[0]) && value[0] >= last);
                        last = value[0];
                    }
                })
            })
            .collect();
        for n in 1..20_000 {
            publisher.publish(vec![n; 8]);
            publisher.collect();
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no reader saw a freed value");
        }
    }
}
