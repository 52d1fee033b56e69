//! What only a ring has. What it shares with the other edge is tested in `edge::tests`.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::edge::disk::{Scratch, Syncs};
use crate::edge::host::Operation;
use crate::edge::tests::{
    WholeRing, client, echo, few_buffers, log_write, loopback, start_clients, tcp_address,
};

type World = crate::edge::tests::World<WholeRing>;

#[test]
fn starved_receives_do_not_fail_over_and_over() {
    let (mut world, address) = few_buffers::<WholeRing>();
    let starved = Arc::new(AtomicU64::new(0));
    let counter = starved.clone();
    world.io.set_fault_hook(Some(Box::new(move |operation, result| {
        if operation == Operation::Receive && result == -libc::ENOBUFS {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        result
    })));
    let clients = start_clients(address, 2, 16, 8);
    echo(&mut world, 32);
    clients.into_iter().for_each(|client| client.join().expect("no client failed"));
    let starved = starved.load(Ordering::Relaxed);
    // 2 * 16 * 8 messages of 10 kB on average are at least 640 buffers: at most some ENOBUFS for each.
    println!("ENOBUFS: {starved}");
    assert!((1..3_000).contains(&starved), "{starved}");
}

#[test]
fn as_many_starved_receives_are_armed_as_there_are_buffers() {
    let (mut world, address) = few_buffers::<WholeRing>();
    let mut clients: Vec<_> = (0..6).map(|_| world.connect(address).0).collect();
    let mut held = Vec::new();
    for client in &mut clients {
        client.write_all(b"wanted").expect("sends");
    }
    for _ in 0..2 {
        held.push(world.next());
    }
    // The other four find no buffer.
    world.quiet(Duration::from_millis(20));
    held.pop();
    let ring = &mut world.io;
    let before = ring.queue.in_flight();
    ring.pool.recycle();
    ring.sockets.arm_starved(&mut ring.queue, ring.pool.free());
    assert_eq!(ring.queue.in_flight() - before, 1);
    for _ in 0..4 {
        held.push(world.next());
        assert!(matches!(held.pop(), Some(Completion::Received { .. })));
    }
}

#[test]
fn an_accept_that_ended_is_armed_again() {
    let reaped =
        Reaped { token: Token::of(Operation::Accept, 0), result: -libc::EMFILE, more: false, buffer: None };
    let listener = loopback();
    let address = tcp_address(&listener);
    let mut queue = Queue::new(true).expect("io_uring works here");
    let mut sockets = Sockets::new(vec![listener], &mut queue);
    let now = Clock.now();
    sockets.accepted(reaped, &mut queue, now, &mut Vec::new());
    let left = sockets.resume_accepting(&mut queue, now).expect("is paused");
    assert_eq!(left, Duration::from_millis(limits::shard::ACCEPT_PAUSE_MILLISECONDS));
    assert_eq!(sockets.resume_accepting(&mut queue, now + left), None, "is armed again");
    drop(client(address));
}

#[test]
fn messages_between_rings_are_accounted_for() {
    let mut world = World::new(HostOptions::new(Vec::new(), None));
    let (to_us, theirs) = std::sync::mpsc::channel();
    let sleeper = thread::spawn(move || {
        let mut other = World::new(HostOptions::new(Vec::new(), None));
        to_us.send(other.io.waker()).expect("is waited for");
        assert!(matches!(other.next(), Completion::Woken));
    });
    let other = theirs.recv().expect("comes up");
    let mut messages = 0;
    while !sleeper.is_finished() {
        world.io.wake(&other);
        messages = messages.max(world.io.messages.len());
        world.turn(Duration::from_millis(1));
    }
    sleeper.join().expect("is woken");
    assert!(messages <= 1, "one at a time to one target");
    // To nobody, which is found out and forgotten.
    world.io.wake(&other);
    world.quiet(Duration::from_millis(5));
    assert!(world.io.messages.is_empty());
}

#[test]
fn registered_buffers_come_round() {
    let scratch = Scratch::new("buffers");
    let (mut world, log) = World::with_log(&scratch, Syncs::On);
    log.create_segment(1, 1 << 20).expect("creates");
    let count = usize::from(limits::log::REGISTERED_BUFFERS);
    for _ in 0..3 {
        let buffers: Vec<_> = (0..=count).map(|_| world.io.log_buffer(1)).collect();
        let pooled = buffers.iter().filter(|buffer| buffer.pool_number().is_some()).count();
        assert_eq!(pooled, count);
    }
    assert!(world.io.log.as_ref().is_some_and(|log| log.is_registered()), "root may lock memory");
    for token in 0..10 {
        log_write(&mut world, token, 4096 * token, token as u8, 4096);
        let Completion::LogWritten { buffer, .. } = world.next() else { panic!("is not written") };
        assert!(buffer.pool_number().is_some(), "the buffer comes back by the completion");
    }
    let content = log.read_segment(1).expect("reads");
    assert!((0..10 * 4096).all(|position| content[position] == (position / 4096) as u8));
}

/// The lock is the ring's too: a killed process's writes that still land are under it.
#[test]
fn the_lock_lasts_as_long_as_the_ring() {
    let scratch = Scratch::new("held");
    let (mut world, _) = World::with_log(&scratch, Syncs::On);
    drop(world.io.log.take());
    let waiting = {
        let options = scratch.options();
        thread::spawn(move || DataDirectory::open(&options).map(|_| Clock.now()))
    };
    thread::sleep(Duration::from_millis(50));
    let dropped = Clock.now();
    drop(world);
    let locked = waiting.join().expect("does not panic").expect("the lock comes free");
    assert!(locked >= dropped, "the closed lock file was still locked by the ring");
}
