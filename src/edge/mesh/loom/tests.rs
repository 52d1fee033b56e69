//! Mailboxes, epochs and sleep states in all the ways in which two or three threads can take turns.

use std::sync::Arc;

use ::loom::thread;

use super::super::*;
use crate::stdx::sync::{AtomicBool, AtomicUsize, Life, Ordering, check, fence};

/// A value whose memory the checker watches.
struct Watched {
    number: usize,
    life: Arc<Life>,
}

impl Watched {
    fn new(number: usize) -> Watched {
        Watched { number, life: Arc::new(Life::new()) }
    }

    fn read(&self) -> usize {
        self.life.look();
        self.number
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.life.end();
    }
}

/// Each value arrives whole and in order, and a slot is not written again before it was read.
#[test]
fn a_mailbox_hands_over_values() {
    check(3, || {
        const VALUES: usize = 3;
        let (mut sender, mut receiver) = mailbox::<Box<usize>>(1);
        let thread = thread::spawn(move || {
            for number in 0..VALUES {
                let mut value = Box::new(number);
                while let Err(back) = sender.send(value) {
                    value = back;
                    thread::yield_now();
                }
            }
        });
        for number in 0..VALUES {
            let value = loop {
                match receiver.receive() {
                    Some(value) => break value,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*value, number);
        }
        assert!(receiver.is_empty());
        thread.join().expect("the sender ends");
    });
}

/// Online against free (H16): what a reader has loaded lives until it leaves, though the publisher replaces it and
/// frees what it may; and a reader that sleeps, or wakes just now, holds nothing back and sees the newest.
#[test]
fn a_view_outlives_those_who_look_at_it() {
    check(3, || {
        let (mut publisher, mut readers) = published::<Watched, Watched>(Watched::new(0), 1);
        let mut reader = readers.pop().expect("one was made");
        let thread = thread::spawn(move || {
            let mut last = 0;
            for _ in 0..2 {
                let guard = reader.enter();
                let view = guard.load();
                assert!(view.read() >= last, "views go forward");
                last = view.read();
                assert!(guard.load().read() >= last);
                assert_eq!(view.read(), last);
            }
            reader
        });
        for number in 1..3 {
            publisher.publish(Watched::new(number));
            publisher.collect();
        }
        let reader = thread.join().expect("the reader ends");
        publisher.collect();
        assert_eq!(publisher.retired_count(), 0, "a sleeper holds nothing back");
        drop((publisher, reader));
    });
}

/// As above, with views in two places that are used again as soon as the publisher may (H33).
#[test]
fn two_places_for_views_are_enough_for_a_safe_reuse() {
    struct Pool([(Life, AtomicUsize); 2]);
    struct InPool {
        pool: Arc<Pool>,
        place: usize,
    }
    impl InPool {
        fn fill(pool: &Arc<Pool>, place: usize, number: usize) -> InPool {
            pool.0[place].0.change();
            pool.0[place].1.store(number, Ordering::Relaxed);
            InPool { pool: Arc::clone(pool), place }
        }

        fn read(&self) -> usize {
            let (life, number) = &self.pool.0[self.place];
            life.look();
            number.load(Ordering::Relaxed)
        }
    }
    check(3, || {
        let pool = Arc::new(Pool(std::array::from_fn(|_| (Life::new(), AtomicUsize::new(0)))));
        let (mut publisher, mut readers) = published::<InPool, ()>(InPool::fill(&pool, 0, 10), 1);
        let mut reader = readers.pop().expect("one was made");
        let thread = thread::spawn(move || {
            let guard = reader.enter();
            let view = guard.load();
            let number = view.read();
            assert_eq!(number % 2, view.place % 2);
            assert_eq!(view.read(), number, "the place was not used again");
            drop(guard);
            reader
        });
        publisher.publish(InPool::fill(&pool, 1, 11));
        publisher.collect();
        if publisher.retired_count() == 0 {
            publisher.publish(InPool::fill(&pool, 0, 12));
        }
        drop(thread.join().expect("the reader ends"));
    });
}

/// Sleep against wake (H16): a loop that slept and was left something is woken by who left it, and what was left
/// before a notice is seen after it.
#[test]
fn no_wake_is_lost() {
    check(3, || {
        const MESSAGES: usize = 2;
        let (mut sender, mut receiver) = mailbox::<usize>(MESSAGES);
        let sleep = Arc::new(Sleep::new());
        let kicks = Arc::new(AtomicUsize::new(0));
        let thread = {
            let (sleep, kicks) = (Arc::clone(&sleep), Arc::clone(&kicks));
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    assert!(sender.send(number).is_ok(), "it has room");
                    if sleep.notify(notice::CALLED) {
                        kicks.fetch_add(1, Ordering::Release);
                    }
                }
            })
        };
        let mut received = 0;
        let mut kicked = 0;
        // As `Ring::wait` and the loop do; a kick is what ends the kernel's wait.
        while received < MESSAGES {
            if sleep.try_sleep() {
                while kicks.load(Ordering::Acquire) == kicked {
                    thread::yield_now();
                }
                kicked += 1;
            }
            let was_noticed = sleep.awake() != 0;
            let before = received;
            while let Some(number) = receiver.receive() {
                assert_eq!(number, received);
                received += 1;
            }
            if !was_noticed && received == before {
                thread::yield_now();
            }
        }
        thread.join().expect("the sender ends");
    });
}

/// A notice carries what was written before it, even by plain stores.
#[test]
fn a_notice_carries_what_was_left() {
    check(3, || {
        let shared = Arc::new((Sleep::new(), Life::new(), AtomicBool::new(false)));
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.1.change();
                shared.2.store(shared.0.notify(notice::CALLED), Ordering::Relaxed);
            })
        };
        let slept = shared.0.try_sleep();
        if !slept {
            // There was a notice before.
            assert!(shared.0.awake() != 0);
            shared.1.look();
        }
        thread.join().expect("it ends");
        assert_eq!(shared.2.load(Ordering::Relaxed), slept, "who sleeps is woken, who is awake is not");
    });
}

/// The checker knows sequentially consistent fences: without them this very pattern fails. (A test of the tests.)
#[test]
#[should_panic(expected = "neither")]
fn the_checker_sees_a_missing_fence() {
    check(3, || {
        let flags = Arc::new((AtomicBool::new(false), AtomicBool::new(false)));
        let thread = {
            let flags = Arc::clone(&flags);
            thread::spawn(move || {
                flags.0.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                flags.1.load(Ordering::Relaxed)
            })
        };
        flags.1.store(true, Ordering::Relaxed);
        let other = flags.0.load(Ordering::Relaxed);
        assert!(thread.join().expect("it ends") || other, "neither saw the other");
    });
}
