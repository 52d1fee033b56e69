//! A shard's announcements against the sequencer's looks, in all the ways in which the two can take turns.

use std::sync::Arc;

use ::loom::thread;

use super::super::slot::{ShardSlot, mark_interested};
use crate::edge::mesh::published;
use crate::stdx::sync::{AtomicI64, Life, Ordering, check};

/// Interest against publication: a shard that is about to sleep has seen the new view, or is woken for it.
#[test]
fn a_watcher_sees_the_view_or_is_woken() {
    check(3, || {
        let slot = ShardSlot::new();
        let (mut publisher, mut readers) = published::<i64, ()>(1, 1);
        let mut reader = readers.pop().expect("one was made");
        let thread = {
            let slot = slot.clone();
            thread::spawn(move || {
                slot.announce_interest(true);
                let revision = *reader.enter().load();
                (revision, reader)
            })
        };
        publisher.publish(2);
        let mut to_wake = [false];
        mark_interested(&[slot], &mut to_wake);
        let (seen, _reader) = thread.join().expect("the shard ends its turn");
        assert!(seen == 2 || to_wake[0], "it sleeps on the old view and nobody wakes it");
    });
}

/// Floors against cleaning (H5): when all have left the epochs before a compaction's view, each read of a revision
/// below it is announced, and what it needs is still there in the turns that follow.
#[test]
fn the_cleaner_sees_the_floors_of_all_who_saw_an_older_view() {
    // The compact revision is the view; the store has one record below it, which the cleaner would free.
    check(3, || {
        let slot = ShardSlot::new();
        let record = Arc::new(Life::new());
        let (mut publisher, mut readers) = published::<i64, ()>(1, 1);
        let mut reader = readers.pop().expect("one was made");
        let thread = {
            let (slot, record) = (slot.clone(), Arc::clone(&record));
            thread::spawn(move || {
                let views = reader.enter();
                let reads_old = *views.load() < 2;
                slot.announce_floor(reads_old.then_some(1));
                drop(views);
                if reads_old {
                    // The next turn of the long read.
                    let views = reader.enter();
                    assert!(*views.load() >= 1);
                    record.look();
                    slot.announce_floor(None);
                    drop(views);
                }
                reader
            })
        };
        publisher.publish(2);
        let compacted = publisher.epoch();
        for _ in 0..2 {
            if publisher.has_passed(compacted) && slot.floor().is_none_or(|floor| floor >= 2) {
                record.end();
                break;
            }
            thread::yield_now();
        }
        drop(thread.join().expect("the shard ends its turns"));
    });
}

/// Connections: who sees that a shard adopted one also sees it among the open ones.
#[test]
fn an_adopted_connection_is_counted() {
    check(3, || {
        let slot = ShardSlot::new();
        let adopted_by = Arc::new(AtomicI64::new(0));
        let thread = {
            let (slot, adopted_by) = (slot.clone(), Arc::clone(&adopted_by));
            thread::spawn(move || {
                slot.announce_connections(1, 1);
                adopted_by.store(1, Ordering::Relaxed);
            })
        };
        let (open, adopted) = slot.connections();
        assert!(open >= adopted, "it would get one more than its share");
        thread.join().expect("it ends");
        assert_eq!((adopted_by.load(Ordering::Relaxed), slot.connections()), (1, (1, 1)));
    });
}
