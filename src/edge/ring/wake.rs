//! How other threads wake a ring's loop.
//!
//! Owns: the sleep state of one loop, its eventfd.
//! Takes: wakes of any thread. Gives: whether the loop may sleep, whether it was woken.
//! Always true: a wake is never lost (see [`Sleep`]).
//! Not here: what there is to do.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::system;
use crate::edge::io::{Wake, Waker};
use crate::edge::mesh::Sleep;

/// State shared by a ring's loop and those who wake it.
pub(super) struct RingWake {
    sleep: Sleep,
    event: File,
    /// Descriptor of the loop's ring, -1 when it is gone.
    ring: AtomicI32,
}

impl RingWake {
    pub(super) fn new(ring: RawFd) -> io::Result<Arc<RingWake>> {
        let event = File::from(system::event()?);
        Ok(Arc::new(RingWake { sleep: Sleep::new(), event, ring: AtomicI32::new(ring) }))
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::new(self.clone())
    }

    pub(super) fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Declares the loop asleep. False: there was a wake, it must not sleep.
    pub(super) fn try_sleep(&self) -> bool {
        self.sleep.try_sleep()
    }

    /// Declares the loop awake. True if there was a wake since it last did so.
    pub(super) fn awake(&self) -> bool {
        self.sleep.awake()
    }

    /// The ring is gone: no messages to it any more.
    pub(super) fn ring_closed(&self) {
        self.ring.store(-1, Ordering::Release);
    }
}

impl Wake for RingWake {
    fn wake(&self) {
        if self.sleep.notify() {
            self.wake_now();
        }
    }

    fn wake_now(&self) {
        // Fails only if the count is near 2^64, which no number of unread wakes reaches.
        (&self.event).write_all(&1_u64.to_ne_bytes()).expect("an eventfd takes a wake");
    }

    fn wake_by_message(&self) -> Option<RawFd> {
        if !self.sleep.notify() {
            return None;
        }
        Some(self.ring.load(Ordering::Acquire)).filter(|ring| *ring >= 0)
    }
}
