//! How other threads wake a loop that sleeps in its ring or in epoll.
//!
//! Owns: the sleep state of one loop, its eventfd.
//! Takes: wakes of any thread. Gives: whether the loop may sleep, whether it was woken and for what.
//! Always true: a wake is never lost (see [`Sleep`]).
//! Not here: what there is to do.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::system;
use crate::edge::io::{Wake, Waker};
use crate::edge::mesh::Sleep;
use crate::edge::mesh::notice::{CALLED, NUDGED};

/// No ring takes messages for this loop.
const NO_RING: RawFd = -1;

/// State shared by a loop and those who wake it.
pub(crate) struct LoopWake {
    sleep: Sleep,
    event: File,
    /// Descriptor of the loop's ring, if it takes messages.
    ring: AtomicI32,
}

/// What the loop was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Woken {
    /// By a [`Waker`] that the loop has given away.
    pub(crate) called: bool,
    /// By a thread of the edge itself, with results.
    pub(crate) nudged: bool,
}

/// The waker of the edge's own threads.
struct Nudge(Arc<LoopWake>);

impl LoopWake {
    /// `ring`: takes messages from other rings.
    pub(crate) fn new(ring: Option<RawFd>) -> io::Result<Arc<LoopWake>> {
        let event = File::from(system::event()?);
        let ring = AtomicI32::new(ring.unwrap_or(NO_RING));
        Ok(Arc::new(LoopWake { sleep: Sleep::new(), event, ring }))
    }

    /// For the world outside of the edge.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::new(self.clone())
    }

    /// For the edge's own threads: makes no [`crate::edge::io::Completion::Woken`].
    pub(crate) fn nudger(self: &Arc<Self>) -> Waker {
        Waker::new(Arc::new(Nudge(self.clone())))
    }

    /// The eventfd. Its count need not be read where edges of readiness are reported.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Declares the loop asleep. False: there was a wake, it must not sleep.
    pub(crate) fn try_sleep(&self) -> bool {
        self.sleep.try_sleep()
    }

    /// Declares the loop awake, and says what came since it last did so.
    pub(crate) fn awake(&self) -> Woken {
        let notices = self.sleep.awake();
        Woken { called: notices & CALLED != 0, nudged: notices & NUDGED != 0 }
    }

    /// The ring is gone: no messages to it any more.
    pub(crate) fn ring_closed(&self) {
        self.ring.store(NO_RING, Ordering::Release);
    }

    fn end_sleep(&self) {
        // Fails only if the count is near 2^64, which no number of unread wakes reaches.
        (&self.event).write_all(&1_u64.to_ne_bytes()).expect("an eventfd takes a wake");
    }
}

impl Wake for LoopWake {
    fn wake(&self) {
        if self.sleep.notify(CALLED) {
            self.end_sleep();
        }
    }

    fn wake_now(&self) {
        self.end_sleep();
    }

    fn wake_by_message(&self) -> Option<RawFd> {
        if !self.sleep.notify(CALLED) {
            return None;
        }
        let ring = Some(self.ring.load(Ordering::Acquire)).filter(|ring| *ring != NO_RING);
        if ring.is_none() {
            self.end_sleep();
        }
        ring
    }
}

impl Wake for Nudge {
    fn wake(&self) {
        if self.0.sleep.notify(NUDGED) {
            self.0.end_sleep();
        }
    }

    fn wake_now(&self) {
        self.0.end_sleep();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn count(wake: &LoopWake) -> u64 {
        let mut count = [0; 8];
        (&wake.event).read_exact(&mut count).expect("somebody has written");
        u64::from_ne_bytes(count)
    }

    #[test]
    fn the_first_of_several_calls_ends_the_sleep() {
        let wake = LoopWake::new(None).expect("makes an eventfd");
        let (caller, nudger) = (wake.waker(), wake.nudger());
        nudger.wake();
        assert!(!wake.try_sleep(), "somebody was before");
        assert_eq!(wake.awake(), Woken { called: false, nudged: true });
        assert!(wake.try_sleep());
        caller.wake();
        nudger.wake();
        caller.wake();
        assert_eq!(wake.awake(), Woken { called: true, nudged: true });
        assert_eq!(wake.awake(), Woken { called: false, nudged: false });
        assert_eq!(count(&wake), 1, "one write for one sleep");
    }

    #[test]
    fn a_loop_without_a_ring_is_woken_by_its_eventfd() {
        let wake = LoopWake::new(None).expect("makes an eventfd");
        assert!(wake.try_sleep());
        assert_eq!(wake.waker().wake_by_message(), None);
        assert_eq!(count(&wake), 1);
        let wake = LoopWake::new(Some(7)).expect("makes an eventfd");
        assert!(wake.try_sleep());
        assert_eq!((wake.waker().wake_by_message(), wake.waker().wake_by_message()), (Some(7), None));
    }
}
