//! A bounded ring with one sender and one receiver.

use std::mem::MaybeUninit;
use std::sync::Arc;

use crate::stdx::sync::{AtomicUsize, Cell, Ordering, owned_number};

/// Positions count up for ever; a slot is `position % capacity`.
///
/// Always true: `head <= tail <= head + capacity`. Slots `head..tail` are initialized and belong to the
/// receiver, the others to the sender.
struct Ring<T> {
    slots: Box<[Cell<MaybeUninit<T>>]>,
    /// Next position to receive; written by the receiver.
    head: Padded,
    /// Next position to send; written by the sender.
    tail: Padded,
}

/// Keeps the two positions on different cache lines.
#[repr(align(128))]
struct Padded(AtomicUsize);

// SAFETY: a slot is touched by one side at a time (the invariant of `Ring`), and values cross threads, so
// they have to be `Send`.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above; the ring owns its values.
unsafe impl<T: Send> Send for Ring<T> {}

/// The sending end.
pub struct Sender<T> {
    ring: Arc<Ring<T>>,
}

/// The receiving end.
pub struct Receiver<T> {
    ring: Arc<Ring<T>>,
}

/// A mailbox for at most `capacity` values on their way.
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox holds something");
    let slots = (0..capacity).map(|_| Cell::new(MaybeUninit::uninit())).collect();
    let ring = Ring { slots, head: Padded(AtomicUsize::new(0)), tail: Padded(AtomicUsize::new(0)) };
    let ring = Arc::new(ring);
    (Sender { ring: Arc::clone(&ring) }, Receiver { ring })
}

impl<T> Sender<T> {
    /// How many values can be sent now without failing. The receiver can only raise it.
    pub fn room(&self) -> usize {
        let tail = self.ring.tail.0.load(Ordering::Relaxed);
        let head = self.ring.head.0.load(Ordering::Acquire);
        self.ring.slots.len() - (tail - head)
    }

    /// Sends a value.
    ///
    /// # Errors
    /// Gives the value back when the mailbox is full.
    pub fn send(&mut self, value: T) -> Result<(), T> {
        if self.room() == 0 {
            return Err(value);
        }
        let tail = self.ring.tail.0.load(Ordering::Relaxed);
        let slot = &self.ring.slots[tail % self.ring.slots.len()];
        // SAFETY: `room() > 0` with our own tail means that position `tail` is outside `head..tail`, so the
        // slot is the sender's; the receiver looks at it only after the store below. `&mut self` makes us
        // the only sender.
        slot.with_mut(|slot| unsafe { (*slot).write(value) });
        self.ring.tail.0.store(tail + 1, Ordering::Release);
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The oldest value, if any.
    pub fn receive(&mut self) -> Option<T> {
        let head = self.ring.head.0.load(Ordering::Relaxed);
        if head == self.ring.tail.0.load(Ordering::Acquire) {
            return None;
        }
        let slot = &self.ring.slots[head % self.ring.slots.len()];
        // SAFETY: `head < tail`, so the slot was initialized before the sender's Release store that the
        // Acquire load above saw; it is read once, for `head` moves past it. `&mut self` makes us the only
        // receiver.
        let value = slot.with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.ring.head.0.store(head + 1, Ordering::Release);
        Some(value)
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ring.head.0.load(Ordering::Relaxed) == self.ring.tail.0.load(Ordering::Acquire)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let (head, tail) = (owned_number(&mut self.head.0), owned_number(&mut self.tail.0));
        for position in head..tail {
            let slot = position % self.slots.len();
            // SAFETY: both ends are gone, so we are alone; `head..tail` are initialized and not yet read.
            self.slots[slot].with_mut(|slot| unsafe { (*slot).assume_init_drop() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_empty_are_told() {
        let (mut sender, mut receiver) = mailbox(2);
        assert!(receiver.is_empty() && receiver.receive().is_none());
        assert_eq!((sender.send("a"), sender.send("b"), sender.send("c")), (Ok(()), Ok(()), Err("c")));
        assert_eq!(receiver.receive(), Some("a"));
        assert_eq!(sender.room(), 1);
        assert_eq!(sender.send("d"), Ok(()));
        assert_eq!(
            (receiver.receive(), receiver.receive(), receiver.receive()),
            (Some("b"), Some("d"), None)
        );
    }

    #[test]
    fn values_left_behind_are_dropped() {
        let value = Arc::new(());
        let (mut sender, receiver) = mailbox(4);
        assert!(sender.send(Arc::clone(&value)).is_ok());
        assert!(sender.send(Arc::clone(&value)).is_ok());
        drop((sender, receiver));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn two_threads_see_every_value_in_order() {
        const COUNT: u64 = 200_000;
        let (mut sender, mut receiver) = mailbox(64);
        let thread = std::thread::spawn(move || {
            for n in 0..COUNT {
                let mut value = Box::new(n);
                while let Err(back) = sender.send(value) {
                    value = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < COUNT {
            match receiver.receive() {
                Some(value) => {
                    assert_eq!(*value, expected);
                    expected += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        thread.join().expect("the sender ends");
    }
}
