//! Credits and wakes between two cores that sleep whenever they can, with the product's rings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::edge::host::HostOptions;
use crate::edge::io::{Io, Waker};
use crate::edge::mesh::{Receiver, Sender, mailbox};
use crate::edge::ring::Ring;

/// Wishes of a core that may be unanswered: few, so that both sides run dry and sleep all the time.
const CREDITS: usize = 3;
/// Wishes of each of the two cores. With their replies a million messages in each test.
const WISHES: u64 = 250_000;
/// A test is stuck when nothing at all arrives for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the other core is woken.
#[derive(Clone, Copy, Debug)]
enum By {
    /// A message from ring to ring.
    Message,
    /// Its eventfd, as threads without a ring do.
    Event,
    /// The one or the other.
    Both,
}

/// One core's ends of the mailboxes: it asks the other one, and answers it.
struct Ends {
    wishes: Sender<u64>,
    replies: Receiver<u64>,
    wishes_of_other: Receiver<u64>,
    replies_to_other: Sender<u64>,
}

fn pair() -> (Ends, Ends) {
    let (wishes_a, wishes_of_a) = mailbox(CREDITS);
    let (replies_to_a, replies_a) = mailbox(CREDITS);
    let (wishes_b, wishes_of_b) = mailbox(CREDITS);
    let (replies_to_b, replies_b) = mailbox(CREDITS);
    let a = Ends {
        wishes: wishes_a,
        replies: replies_a,
        wishes_of_other: wishes_of_b,
        replies_to_other: replies_to_b,
    };
    let b = Ends {
        wishes: wishes_b,
        replies: replies_b,
        wishes_of_other: wishes_of_a,
        replies_to_other: replies_to_a,
    };
    (a, b)
}

/// A core's loop, as `Loop::turn` has it: wait, take what was left, leave what there is, wake for it. Waits for ever:
/// a wake that is lost is not made up for by a timeout.
fn run(mut ring: Ring, other: &Waker, mut ends: Ends, by: By, arrived: &AtomicU64) -> u64 {
    let (mut asked, mut answered, mut served, mut turns) = (0, 0, 0, 0);
    let mut completions = Vec::new();
    loop {
        let mut has_left = false;
        while let Some(number) = ends.replies.receive() {
            assert_eq!(number, answered, "replies come in order");
            answered += 1;
        }
        while let Some(number) = ends.wishes_of_other.receive() {
            assert_eq!(number, served, "wishes come in order");
            assert!(ends.replies_to_other.send(number).is_ok(), "replies have room for all credits");
            served += 1;
            has_left = true;
        }
        while asked < WISHES && asked - answered < CREDITS as u64 {
            assert!(ends.wishes.send(asked).is_ok(), "wishes have room for all credits");
            asked += 1;
            has_left = true;
        }
        if has_left {
            match by {
                By::Message => ring.wake(other),
                By::Event => other.wake(),
                By::Both if turns % 2 == 0 => ring.wake(other),
                By::Both => other.wake(),
            }
        }
        arrived.store(answered + served, Ordering::Relaxed);
        if answered == WISHES && served == WISHES {
            // Takes the last wake along.
            ring.wait(Some(Duration::ZERO), &mut completions);
            return turns;
        }
        ring.wait(None, &mut completions);
        completions.clear();
        turns += 1;
    }
}

/// Both cores ask and answer until all is answered; fails if they come to a stand.
fn two_cores(by: By) {
    let (a, b) = pair();
    let arrived = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let (say_done, done) = mpsc::channel();
    let mut seats = Vec::new();
    let mut wakers = Vec::new();
    for (ends, arrived) in [a, b].into_iter().zip(arrived.clone()) {
        let (seat, seats_of_thread) = mpsc::channel::<Waker>();
        let (say_waker, waker) = mpsc::channel();
        let say_done = say_done.clone();
        thread::spawn(move || {
            let options = HostOptions { receive_buffers: 1, ..HostOptions::new(Vec::new(), None) };
            let ring = Ring::new(options).expect("io_uring works here");
            say_waker.send(ring.waker()).expect("the test waits for it");
            let other = seats_of_thread.recv().expect("the test tells of the other core");
            let turns = run(ring, &other, ends, by, &arrived);
            say_done.send(turns).expect("the test waits for the end");
        });
        wakers.push(waker.recv().expect("the thread has made its ring"));
        seats.push(seat);
    }
    drop(say_done);
    for (seat, waker) in seats.iter().zip(wakers.into_iter().rev()) {
        seat.send(waker).expect("the thread waits for it");
    }
    let mut before = [0; 2];
    let mut turns = Vec::new();
    while turns.len() < 2 {
        match done.recv_timeout(PATIENCE) {
            Ok(count) => turns.push(count),
            Err(RecvTimeoutError::Disconnected) => panic!("a core's thread has failed"),
            Err(RecvTimeoutError::Timeout) => {
                let now = [&arrived[0], &arrived[1]].map(|count| count.load(Ordering::Relaxed));
                assert_ne!(now, before, "both cores sleep for ever, of {WISHES} wishes in each direction");
                before = now;
            }
        }
    }
    assert!(turns.iter().all(|turns| *turns > WISHES / 10), "they sleep all the time: {turns:?}");
}

#[test]
fn cores_that_wake_each_other_by_message_never_sleep_for_ever() {
    two_cores(By::Message);
}

#[test]
fn cores_that_wake_each_other_by_eventfd_never_sleep_for_ever() {
    two_cores(By::Event);
}

#[test]
fn cores_that_wake_each_other_in_both_ways_never_sleep_for_ever() {
    two_cores(By::Both);
}
