//! The reactor against real sockets and files. Each wait has an end, so that a lost completion fails, not hangs.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::*;
use crate::edge::disk::{DiskOptions, LogFiles, Scratch, Syncs};
use crate::edge::io::{CloseCause, SegmentError};
use crate::edge::net::ListenAddress;
use crate::limits::log::BLOCK_BYTES;
use crate::stdx::prng::Prng;

const PATIENCE: Duration = Duration::from_secs(10);

/// A ring with its pending completions.
struct World {
    ring: Ring,
    pending: VecDeque<Completion<OwnedFd>>,
}

impl World {
    fn new(options: RingOptions) -> World {
        World { ring: Ring::new(options).expect("io_uring works here"), pending: VecDeque::new() }
    }

    fn with_listener() -> (World, SocketAddr) {
        let listener = loopback();
        let address = tcp_address(&listener);
        (World::new(RingOptions::new(vec![listener], None)), address)
    }

    fn with_log(scratch: &Scratch, syncs: Syncs) -> (World, LogFiles) {
        let options = DiskOptions { syncs, ..scratch.options() };
        let data = DataDirectory::open(&options).expect("opens the data directory");
        let log = data.log().clone();
        (World::new(RingOptions::new(Vec::new(), Some(data))), log)
    }

    /// The next completion; panics when none comes.
    fn next(&mut self) -> Completion<OwnedFd> {
        let start = Clock.now();
        while self.pending.is_empty() {
            assert!(Clock.now().since(start) < PATIENCE, "nothing happens");
            self.turn(Duration::from_secs(1));
        }
        self.pending.pop_front().expect("is not empty")
    }

    fn turn(&mut self, timeout: Duration) {
        let mut out = Vec::new();
        self.ring.wait(Some(timeout), &mut out);
        self.pending.extend(out);
    }

    /// Runs for a while and expects nothing to happen.
    fn quiet(&mut self, duration: Duration) {
        let start = Clock.now();
        while Clock.now().since(start) < duration {
            self.turn(Duration::from_millis(5));
            assert!(self.pending.is_empty(), "unexpected {:?}", self.pending);
        }
    }

    fn accepted(&mut self) -> ConnId {
        match self.next() {
            Completion::Incoming { socket, listener: 0 } => self.ring.adopt(socket),
            other => panic!("expected Incoming, not {other:?}"),
        }
    }

    fn received(&mut self, conn: ConnId) -> Vec<u8> {
        match self.next() {
            Completion::Received { conn: from, bytes } if from == conn => bytes.to_vec(),
            other => panic!("expected Received, not {other:?}"),
        }
    }

    fn sent(&mut self, conn: ConnId) {
        match self.next() {
            Completion::Sent { conn: by } if by == conn => {}
            other => panic!("expected Sent, not {other:?}"),
        }
    }

    fn closed(&mut self, conn: ConnId) -> CloseCause {
        match self.next() {
            Completion::Closed { conn: of, cause } if of == conn => cause,
            other => panic!("expected Closed, not {other:?}"),
        }
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut pieces = SendPieces::default();
        pieces.push(Bytes::copy_from_slice(bytes));
        self.ring.send(conn, &mut pieces);
    }

    fn connect(&mut self, address: SocketAddr) -> (TcpStream, ConnId) {
        let client = client(address);
        let conn = self.accepted();
        (client, conn)
    }
}

fn loopback() -> Listener {
    Listener::bind(&ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"))).expect("binds")
}

fn tcp_address(listener: &Listener) -> SocketAddr {
    match listener.address() {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(path) => panic!("{path:?} is not TCP"),
    }
}

fn client(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("connects");
    client.set_read_timeout(Some(PATIENCE)).expect("sets a timeout");
    client
}

/// Sends back what comes, for as many connections as there are clients, until each has closed.
fn echo(world: &mut World, clients: usize) {
    #[derive(Default)]
    struct Echo {
        queued: Vec<Bytes>,
        sending: bool,
        ended: bool,
    }
    let mut connections = BTreeMap::<ConnId, Echo>::new();
    let mut pieces = SendPieces::default();
    let mut done = 0;
    while done < clients {
        match world.next() {
            Completion::Incoming { socket, .. } => {
                let conn = world.ring.adopt(socket);
                assert!(connections.insert(conn, Echo::default()).is_none());
            }
            Completion::Received { conn, bytes } => {
                let echo = connections.get_mut(&conn).expect("is open");
                echo.queued.push(Bytes::copy_from_slice(&bytes));
            }
            Completion::Sent { conn } => connections.get_mut(&conn).expect("is open").sending = false,
            Completion::Closed { conn, cause } => {
                assert!(matches!(cause, CloseCause::EndOfStream), "{cause:?}");
                connections.get_mut(&conn).expect("is open").ended = true;
            }
            other => panic!("unexpected {other:?}"),
        }
        if !world.pending.is_empty() {
            continue;
        }
        connections.retain(|&conn, echo| {
            if !echo.sending && !echo.queued.is_empty() {
                let count = echo.queued.len().min(limits::shard::SEND_PIECES_MAX);
                echo.queued.drain(..count).for_each(|piece| pieces.push(piece));
                world.ring.send(conn, &mut pieces);
                echo.sending = true;
            }
            let is_done = echo.ended && !echo.sending && echo.queued.is_empty();
            if is_done {
                world.ring.close(conn);
                done += 1;
            }
            !is_done
        });
    }
    assert_eq!(world.ring.connections(), 0);
}

/// Clients that send messages of random lengths at random depths and compare what comes back.
fn start_clients(address: SocketAddr, threads: u64, each: usize, messages: usize) -> Vec<JoinHandle<()>> {
    let run = move |seed| {
        let mut random = Prng::new(seed);
        let mut clients: Vec<_> = (0..each).map(|_| client(address)).collect();
        for _ in 0..messages {
            let lengths: Vec<_> = clients.iter().map(|_| 1 + random.below(20_000) as usize).collect();
            let byte = |index: usize, position: usize| (index * 31 + position * 7) as u8;
            for (index, client) in clients.iter_mut().enumerate() {
                let bytes: Vec<_> = (0..lengths[index]).map(|position| byte(index, position)).collect();
                client.write_all(&bytes).expect("sends");
            }
            for (index, client) in clients.iter_mut().enumerate() {
                let mut bytes = vec![0; lengths[index]];
                client.read_exact(&mut bytes).expect("receives");
                assert!(bytes.iter().enumerate().all(|(position, b)| *b == byte(index, position)));
            }
        }
        for client in &mut clients {
            client.shutdown(Shutdown::Write).expect("shuts down");
            assert_eq!(client.read(&mut [0; 1]).expect("reads the end"), 0);
        }
    };
    (0..threads).map(|seed| thread::spawn(move || run(seed))).collect()
}

#[test]
fn io_uring_is_found_usable_again_and_again() {
    for _ in 0..3 {
        Ring::check().expect("io_uring works here");
    }
}

#[test]
fn connections_send_without_delay_and_are_kept_alive() {
    let (mut world, address) = World::with_listener();
    let (_client, conn) = world.connect(address);
    let stream = TcpStream::from(world.ring.sockets.socket(conn));
    assert!(stream.nodelay().expect("has the option"));
    let keepalive = system::socket_option(stream.as_fd(), libc::IPPROTO_TCP, libc::TCP_KEEPIDLE);
    assert_eq!(keepalive.expect("has the option"), limits::shard::TCP_KEEPALIVE_SECONDS);
}

#[test]
fn many_connections_get_their_own_bytes_back() {
    let (mut world, address) = World::with_listener();
    let clients = start_clients(address, 4, 16, 20);
    echo(&mut world, 64);
    clients.into_iter().for_each(|client| client.join().expect("no client failed"));
}

#[test]
fn few_buffers_starve_nobody() {
    let listener = loopback();
    let address = tcp_address(&listener);
    let options = RingOptions {
        receive_buffers: 2,
        receive_buffer_bytes: 4096,
        ..RingOptions::new(vec![listener], None)
    };
    let mut world = World::new(options);
    let starved = Arc::new(AtomicU64::new(0));
    let counter = starved.clone();
    world.ring.set_fault_hook(Some(Box::new(move |operation, result| {
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
fn held_buffers_stop_receives_until_they_come_back() {
    let listener = loopback();
    let address = tcp_address(&listener);
    let options = RingOptions {
        receive_buffers: 2,
        receive_buffer_bytes: 4096,
        ..RingOptions::new(vec![listener], None)
    };
    let mut world = World::new(options);
    let (mut client, conn) = world.connect(address);
    client.write_all(&vec![b'x'; 3 * 4096]).expect("sends");
    let mut held = Vec::new();
    for _ in 0..2 {
        match world.next() {
            Completion::Received { bytes, .. } => held.push(bytes),
            other => panic!("unexpected {other:?}"),
        }
    }
    world.quiet(Duration::from_millis(30));
    let total: usize = held.iter().map(|bytes| bytes.len()).sum();
    held.clear();
    let mut rest = 0;
    while total + rest < 3 * 4096 {
        rest += world.received(conn).len();
    }
    assert_eq!(total + rest, 3 * 4096);
}

#[test]
fn as_many_starved_receives_are_armed_as_there_are_buffers() {
    let listener = loopback();
    let address = tcp_address(&listener);
    let options = RingOptions {
        receive_buffers: 2,
        receive_buffer_bytes: 4096,
        ..RingOptions::new(vec![listener], None)
    };
    let mut world = World::new(options);
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
    let ring = &mut world.ring;
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
fn a_slow_reader_gets_everything_in_order_and_sent_comes_once() {
    let listener = loopback();
    let address = tcp_address(&listener);
    system::set_socket_option(listener.socket(), libc::SOL_SOCKET, libc::SO_SNDBUF, 32_768)
        .expect("sets SO_SNDBUF");
    let mut world = World::new(RingOptions::new(vec![listener], None));
    let sends = Arc::new(AtomicU64::new(0));
    let counter = sends.clone();
    world.ring.set_fault_hook(Some(Box::new(move |operation, result| {
        if operation == Operation::Send {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        result
    })));
    let (mut client, conn) = world.connect(address);

    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = Bytes::from(content);
    let reader = {
        let whole = whole.clone();
        thread::spawn(move || {
            let mut received = Vec::new();
            let mut buffer = vec![0; 100_000];
            while received.len() < 2 * whole.len() {
                thread::sleep(Duration::from_micros(500));
                let count = client.read(&mut buffer).expect("reads");
                assert_ne!(count, 0, "closed too early");
                received.extend_from_slice(&buffer[..count]);
            }
            assert!(received[..whole.len()] == whole && received[whole.len()..] == whole);
            client
        })
    };
    // Once in unequal pieces, once in one.
    let mut pieces = SendPieces::default();
    let mut rest = whole.clone();
    let mut length = 1;
    while !rest.is_empty() {
        let last = rest.len() <= length || pieces.pieces().len() == limits::shard::SEND_PIECES_MAX - 1;
        pieces.push(rest.split_to(if last { rest.len() } else { length }));
        length = (length * 3 + 1) % 150_000;
    }
    assert!(pieces.pieces().len() > 20);
    world.ring.send(conn, &mut pieces);
    world.sent(conn);
    let short = sends.load(Ordering::Relaxed);
    assert!(short > 10, "short sends happened: {short}");
    world.send(conn, &whole);
    world.sent(conn);
    drop(reader.join().expect("the reader got everything"));
    assert!(matches!(world.closed(conn), CloseCause::EndOfStream));
}

#[test]
fn close_during_an_armed_receive_sends_fin_and_nothing_is_told_after() {
    let (mut world, address) = World::with_listener();
    let (mut client, conn) = world.connect(address);
    world.quiet(Duration::from_millis(5));
    world.ring.close(conn);
    // These bytes are not to be taken by the dead receive, which would keep the connection half alive.
    world.quiet(Duration::from_millis(30));
    assert_eq!(world.ring.connections(), 0);
    assert_eq!(client.read(&mut [0; 1]).expect("FIN comes"), 0);
}

#[test]
fn close_in_the_turn_of_the_accept_and_with_bytes_on_the_way() {
    let (mut world, address) = World::with_listener();
    let mut client = client(address);
    client.write_all(b"early").expect("sends");
    let conn = world.accepted();
    world.ring.close(conn);
    world.ring.close(conn);
    world.pending.clear();
    world.quiet(Duration::from_millis(20));
    assert_eq!(world.ring.connections(), 0);
    match client.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("expected the end, not {other:?}"),
    }
}

#[test]
fn close_with_a_blocked_send_ends_it() {
    let (mut world, address) = World::with_listener();
    let (client, conn) = world.connect(address);
    world.send(conn, &vec![1; 64 << 20]);
    world.quiet(Duration::from_millis(30));
    world.ring.close(conn);
    world.quiet(Duration::from_millis(30));
    assert_eq!(world.ring.connections(), 0);
    drop(client);
}

#[test]
fn a_late_handle_of_a_reused_slot_does_nothing() {
    let (mut world, address) = World::with_listener();
    let (first_client, first) = world.connect(address);
    world.ring.close(first);
    world.quiet(Duration::from_millis(10));
    let (mut client, second) = world.connect(address);
    assert_eq!(first.0.slot(), second.0.slot(), "the slot is used again");
    assert_ne!(first, second);
    world.send(first, b"for the first");
    world.ring.pause_receive(first);
    world.ring.close(first);
    world.send(second, b"for the second");
    world.sent(second);
    let mut bytes = [0; 14];
    client.read_exact(&mut bytes).expect("receives");
    assert_eq!(&bytes, b"for the second");
    client.write_all(b"still open").expect("sends");
    assert_eq!(world.received(second), b"still open");
    drop(first_client);
}

#[test]
fn the_end_of_the_stream_leaves_the_other_direction_open() {
    let (mut world, address) = World::with_listener();
    let (mut client, conn) = world.connect(address);
    client.write_all(b"question").expect("sends");
    client.shutdown(Shutdown::Write).expect("shuts down");
    assert_eq!(world.received(conn), b"question");
    assert!(matches!(world.closed(conn), CloseCause::EndOfStream));
    world.send(conn, b"answer");
    world.sent(conn);
    world.ring.close(conn);
    world.quiet(Duration::from_millis(5));
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("reads to the end");
    assert_eq!(answer, "answer");
}

#[test]
fn failures_of_a_connection_are_told() {
    let (mut world, address) = World::with_listener();
    let (client, conn) = world.connect(address);
    world.ring.set_fault_hook(Some(Box::new(|operation, result| match operation {
        Operation::Receive => -libc::ECONNRESET,
        Operation::Send => -libc::EPIPE,
        _ => result,
    })));
    world.send(conn, b"lost");
    let cause = world.closed(conn);
    assert!(
        matches!(&cause, CloseCause::SendFailed(e) if e.raw_os_error() == Some(libc::EPIPE)),
        "{cause:?}"
    );
    drop(client);
    let cause = world.closed(conn);
    assert!(matches!(cause, CloseCause::ReceiveFailed(e) if e.kind() == ErrorKind::ConnectionReset));
    world.ring.close(conn);
    world.quiet(Duration::from_millis(5));
    assert_eq!(world.ring.connections(), 0);
}

#[test]
fn a_paused_connection_is_not_read_and_loses_nothing() {
    let (mut world, address) = World::with_listener();
    let (mut client, conn) = world.connect(address);
    world.ring.pause_receive(conn);
    world.quiet(Duration::from_millis(5));
    client.write_all(b"one").expect("sends");
    world.quiet(Duration::from_millis(20));
    world.ring.resume_receive(conn);
    assert_eq!(world.received(conn), b"one");
    // Changing one's mind while the cancel is on its way.
    for _ in 0..50 {
        world.ring.pause_receive(conn);
        world.ring.resume_receive(conn);
        world.ring.pause_receive(conn);
        world.turn(Duration::ZERO);
        world.ring.resume_receive(conn);
        world.turn(Duration::ZERO);
    }
    client.write_all(b"two").expect("sends");
    assert_eq!(world.received(conn), b"two");
}

#[test]
fn a_failed_accept_is_tried_again_after_a_pause() {
    let (mut world, address) = World::with_listener();
    let mut failures = 3;
    world.ring.set_fault_hook(Some(Box::new(move |operation, result| {
        if operation == Operation::Accept && failures > 0 {
            failures -= 1;
            return -libc::EMFILE;
        }
        result
    })));
    // A multishot accept goes on after the rewritten results; three clients lose their connection.
    let mut lost: Vec<_> = (0..3).map(|_| client(address)).collect();
    world.quiet(Duration::from_millis(20));
    for client in &mut lost {
        assert_eq!(client.read(&mut [0; 1]).expect("is closed"), 0);
    }
    let connected = world.connect(address);
    // And one that ended is armed again.
    let resumed = world.ring.sockets.resume_accepting(&mut world.ring.queue, Clock.now());
    assert_eq!(resumed, None);
    let reaped =
        Reaped { token: Token::of(Operation::Accept, 0), result: -libc::EMFILE, more: false, buffer: None };
    world.ring.stop_accepting();
    world.quiet(Duration::from_millis(5));
    let listener = loopback();
    let address = tcp_address(&listener);
    let mut queue = Queue::new().expect("io_uring works here");
    let mut sockets = Sockets::new(vec![listener], &mut queue);
    let now = Clock.now();
    sockets.accepted(reaped, &mut queue, now, &mut Vec::new());
    let left = sockets.resume_accepting(&mut queue, now).expect("is paused");
    assert_eq!(left, Duration::from_millis(limits::shard::ACCEPT_PAUSE_MILLISECONDS));
    assert_eq!(sockets.resume_accepting(&mut queue, now + left), None, "is armed again");
    drop((client(address), connected));
}

#[test]
fn after_the_stop_nobody_connects_and_the_others_go_on() {
    let (mut world, address) = World::with_listener();
    let (mut client, conn) = world.connect(address);
    world.ring.stop_accepting();
    world.quiet(Duration::from_millis(20));
    let error = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    Listener::bind(&ListenAddress::Tcp(address)).expect("the address is free");
    client.write_all(b"still here").expect("sends");
    assert_eq!(world.received(conn), b"still here");
}

#[test]
fn several_listeners_are_told_apart_and_unix_sockets_work() {
    let scratch = Scratch::new("listeners");
    let path = scratch.0.join("socket");
    let tcp = loopback();
    let address = tcp_address(&tcp);
    let unix = Listener::bind(&ListenAddress::Unix(path.clone())).expect("binds");
    let mut world = World::new(RingOptions::new(vec![tcp, unix], None));
    let mut client = UnixStream::connect(&path).expect("connects");
    client.write_all(b"by unix").expect("sends");
    let Completion::Incoming { socket, listener: 1 } = world.next() else { panic!("the second listener") };
    let conn = world.ring.adopt(socket);
    assert_eq!(world.received(conn), b"by unix");
    let connected = world.connect(address);
    world.ring.stop_accepting();
    world.quiet(Duration::from_millis(10));
    assert!(!path.exists());
    drop(connected);
}

#[test]
fn a_ring_can_be_dropped_with_everything_under_way() {
    let scratch = Scratch::new("drop");
    let listener = loopback();
    let address = tcp_address(&listener);
    let data = DataDirectory::open(&scratch.options()).expect("opens");
    data.log().create_segment(1, 1 << 20).expect("creates");
    let mut world = World::new(RingOptions::new(vec![listener], Some(data)));
    let (mut client, conn) = world.connect(address);
    let (_other, other) = world.connect(address);
    world.send(conn, &vec![1; 16 << 20]);
    client.write_all(b"unread").expect("sends");
    world.quiet_but_received(conn);
    world.ring.pause_receive(other);
    let mut buffer = world.ring.log_buffer(4096);
    buffer.resize_zeroed(4096);
    world.ring.log_write(1, 1, 0, buffer);
    world.ring.log_prepare_segment(2, 1 << 20);
    world.ring.queue.enter(Wait::Look);
    let waker = world.ring.waker();
    let start = Clock.now();
    let held = mem::take(&mut world.pending);
    drop(world);
    assert!(Clock.now().since(start) < Duration::from_secs(5), "nothing was left to wait for");
    waker.wake();
    drop(held);
}

impl World {
    fn quiet_but_received(&mut self, conn: ConnId) {
        self.turn(Duration::from_millis(200));
        let [Completion::Received { conn: from, .. }] = self.pending.make_contiguous() else {
            panic!("unexpected {:?}", self.pending)
        };
        assert_eq!(*from, conn);
    }
}

// Waits and wakes.

#[test]
fn a_wait_ends_in_time() {
    let mut world = World::new(RingOptions::new(Vec::new(), None));
    let start = Clock.now();
    world.turn(Duration::from_millis(30));
    let passed = world.ring.now().since(start);
    assert!(passed >= Duration::from_millis(30) && passed < Duration::from_secs(5), "{passed:?}");
    world.turn(Duration::ZERO);
    assert!(world.pending.is_empty());
}

#[test]
fn a_wake_before_the_wait_or_during_it_is_seen_once() {
    let (mut world, address) = World::with_listener();
    let waker = world.ring.waker();
    waker.wake();
    waker.wake();
    assert!(matches!(world.next(), Completion::Woken));
    world.quiet(Duration::from_millis(10));
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        waker.wake();
    });
    // Ends the wait below if the wake does not.
    thread::spawn(move || {
        thread::sleep(PATIENCE);
        drop(TcpStream::connect(address));
    });
    let mut out = Vec::new();
    world.ring.wait(None, &mut out);
    assert!(matches!(out[..], [Completion::Woken]), "{out:?}");
    thread.join().expect("wakes");
    world.quiet(Duration::from_millis(10));
}

#[test]
fn no_wake_is_lost() {
    const WAKES: u64 = 100_000;
    let mut world = World::new(RingOptions::new(Vec::new(), None));
    let waker = world.ring.waker();
    let posted = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(AtomicU64::new(0));
    let poster = {
        let (posted, seen) = (posted.clone(), seen.clone());
        thread::spawn(move || {
            let mut random = Prng::new(1);
            for number in 1..=WAKES {
                posted.store(number, Ordering::Relaxed);
                waker.wake();
                // Now and then until the loop sleeps again, or nearly.
                if random.below(16) == 0 {
                    while seen.load(Ordering::Relaxed) < number {
                        std::hint::spin_loop();
                    }
                    (0..random.below(2_000)).for_each(|_| std::hint::spin_loop());
                }
            }
        })
    };
    while seen.load(Ordering::Relaxed) < WAKES {
        // A lost wake is a wait without end: `next` panics then.
        assert!(matches!(world.next(), Completion::Woken));
        seen.store(posted.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    poster.join().expect("posts all");
}

#[test]
fn rings_wake_each_other_by_messages() {
    const ROUNDS: u32 = 500;
    let play = |world: &mut World, other: &Waker, first: bool| {
        for round in 0..ROUNDS {
            if round > 0 || !first {
                assert!(matches!(world.next(), Completion::Woken));
            }
            world.ring.wake(other);
        }
        // The last message goes out with a submission.
        world.turn(Duration::ZERO);
        assert!(world.ring.messages.len() <= 1);
    };
    let (to_second, first_waker) = std::sync::mpsc::channel();
    let (to_first, second_waker) = std::sync::mpsc::channel();
    let second = thread::spawn(move || {
        let mut world = World::new(RingOptions::new(Vec::new(), None));
        to_first.send(world.ring.waker()).expect("the first lives");
        let other = first_waker.recv().expect("the first lives");
        play(&mut world, &other, false);
    });
    let mut world = World::new(RingOptions::new(Vec::new(), None));
    to_second.send(world.ring.waker()).expect("the second lives");
    let other = second_waker.recv().expect("the second lives");
    play(&mut world, &other, true);
    assert!(matches!(world.next(), Completion::Woken));
    second.join().expect("plays");
    world.ring.wake(&other);
    world.quiet(Duration::from_millis(5));
}

// The log.

fn log_write(world: &mut World, token: u64, offset: u64, byte: u8, length: usize) {
    let mut buffer = world.ring.log_buffer(length);
    assert!(buffer.is_empty());
    buffer.resize_zeroed(length);
    buffer.fill(byte);
    world.ring.log_write(token, 1, offset, buffer);
}

fn expect_written(world: &mut World, expected: u64) {
    match world.next() {
        Completion::LogWritten { token, .. } if token == expected => {}
        other => panic!("expected LogWritten {expected}, not {other:?}"),
    }
}

#[test]
fn writes_reach_the_file_and_complete_in_order() {
    for syncs in [Syncs::On, Syncs::Off] {
        let scratch = Scratch::new("log");
        let (mut world, log) = World::with_log(&scratch, syncs);
        world.ring.log_prepare_segment(1, 4 << 20);
        assert!(matches!(world.next(), Completion::SegmentReady { number: 1 }));
        assert!(matches!(world.next(), Completion::Woken));
        assert_eq!(world.ring.log_bytes(), 4 << 20);

        log_write(&mut world, 1, 0, b'a', BLOCK_BYTES);
        expect_written(&mut world, 1);
        // Several at once, a registered buffer more than there are, and one too large for these.
        let large = 2 << 20;
        assert!(large > limits::log::REGISTERED_BUFFER_BYTES);
        log_write(&mut world, 2, 8192, b'b', large);
        log_write(&mut world, 3, 4096, b'c', BLOCK_BYTES);
        log_write(&mut world, 4, 8192 + large as u64, b'd', BLOCK_BYTES);
        log_write(&mut world, 5, 3 << 20, b'e', BLOCK_BYTES);
        (2..=5).for_each(|token| expect_written(&mut world, token));
        drop(world);

        let content = log.read_segment(1).expect("reads");
        for (offset, byte, length) in [
            (0, b'a', 4096),
            (4096, b'c', 4096),
            (8192, b'b', large),
            (8192 + large, b'd', 4096),
            (3 << 20, b'e', 4096),
        ] {
            assert!(content[offset..offset + length].iter().all(|b| *b == byte), "{offset}");
        }
        assert!(content[8192 + large + 4096..3 << 20].iter().all(|b| *b == 0));
    }
}

#[test]
fn registered_buffers_come_round() {
    let scratch = Scratch::new("buffers");
    let (mut world, log) = World::with_log(&scratch, Syncs::On);
    log.create_segment(1, 1 << 20).expect("creates");
    let count = usize::from(limits::log::REGISTERED_BUFFERS);
    for _ in 0..3 {
        let buffers: Vec<_> = (0..=count).map(|_| world.ring.log_buffer(1)).collect();
        let pooled = buffers.iter().filter(|buffer| buffer.pool_number().is_some()).count();
        assert_eq!(pooled, count);
    }
    assert!(world.ring.log.as_ref().is_some_and(|log| log.is_registered()), "root may lock memory");
    for token in 0..10 {
        log_write(&mut world, token, 4096 * token, token as u8, 4096);
        let Completion::LogWritten { buffer, .. } = world.next() else { panic!("is not written") };
        assert!(buffer.pool_number().is_some(), "the buffer comes back by the completion");
    }
    let content = log.read_segment(1).expect("reads");
    assert!((0..10 * 4096).all(|position| content[position] == (position / 4096) as u8));
}

#[test]
fn a_failed_or_short_write_is_final() {
    for result in [-libc::EIO, 4096, 0] {
        let scratch = Scratch::new("failure");
        let (mut world, log) = World::with_log(&scratch, Syncs::On);
        log.create_segment(1, 1 << 20).expect("creates");
        // Known by its length: the disk completes the writes in any order.
        world.ring.set_fault_hook(Some(Box::new(move |_, real| if real == 12_288 { result } else { real })));
        for token in 1..=4 {
            log_write(&mut world, token, 16_384 * token, 1, if token == 2 { 12_288 } else { 8_192 });
        }
        expect_written(&mut world, 1);
        for expected in 2..=4 {
            match world.next() {
                Completion::LogFailed { token, .. } if token == expected => {}
                other => panic!("expected LogFailed {expected}, not {other:?}"),
            }
        }
        // Even what the disk could write.
        log_write(&mut world, 5, 0, 1, 8192);
        assert!(matches!(world.next(), Completion::LogFailed { token: 5, .. }));
    }
}

#[test]
fn a_write_to_no_segment_fails() {
    let scratch = Scratch::new("absent");
    let (mut world, _) = World::with_log(&scratch, Syncs::On);
    log_write(&mut world, 9, 0, 1, 4096);
    match world.next() {
        Completion::LogFailed { token: 9, error } => assert_eq!(error.kind(), ErrorKind::NotFound),
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn segments_that_cannot_be_made_are_told() {
    let scratch = Scratch::new("prepare");
    let (mut world, log) = World::with_log(&scratch, Syncs::On);
    log.create_segment(7, 4096).expect("creates");
    world.ring.log_prepare_segment(7, 4096);
    match world.next() {
        Completion::SegmentFailed { number: 7, error: SegmentError::Failed(error) } => {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
        other => panic!("unexpected {other:?}"),
    }
    assert!(matches!(world.next(), Completion::Woken));
    world.ring.log_prepare_segment(8, 8 << 40);
    match world.next() {
        Completion::SegmentFailed { number: 8, error: SegmentError::NoSpace } => {}
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn a_killed_process_can_be_started_again() {
    const CHILD: &str = "ETCHD_TEST_KILLED_CHILD";
    if let Some(path) = std::env::var_os(CHILD) {
        let options = DiskOptions { data_dir: path.into(), wal_dir: None, syncs: Syncs::On };
        let data = DataDirectory::open(&options).expect("opens");
        data.log().create_segment(1, 1 << 20).expect("creates");
        let listener = loopback();
        let address = tcp_address(&listener);
        let mut world = World::new(RingOptions::new(vec![listener], Some(data)));
        println!("\nlistening {address}");
        loop {
            log_write(&mut world, 1, 0, 1, 1 << 20);
            drop(world.next());
        }
    }
    let scratch = Scratch::new("killed");
    let options = scratch.options();
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["a_killed_process_can_be_started_again", "--nocapture"])
        .env(CHILD, &options.data_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts itself");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let line = output.lines().map(|line| line.expect("reads")).find(|line| line.starts_with("listening "));
    let address = line.expect("the child listens")["listening ".len()..].parse().expect("an address");
    let mut connected = client(address);
    child.kill().expect("kills");
    child.wait().expect("waits");
    let listener = Listener::bind(&ListenAddress::Tcp(address)).expect("the address comes free");
    let data = DataDirectory::open(&options).expect("the lock comes free");
    World::new(RingOptions::new(vec![listener], Some(data)));
    match connected.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("unexpected {other:?}"),
    }
}

/// The lock is the ring's too: a killed process's writes that still land are under it.
#[test]
fn the_lock_lasts_as_long_as_the_ring() {
    let scratch = Scratch::new("held");
    let (mut world, _) = World::with_log(&scratch, Syncs::On);
    drop(world.ring.log.take());
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
