//! The contract of `edge::io`, against real sockets and files, over each edge that a machine may serve by. Each wait
//! has an end, so that a lost completion fails, not hangs.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

use super::clock::Clock;
use super::disk::{DataDirectory, DiskOptions, LogFiles, LogWrites, Scratch, Syncs};
use super::epoll::Epoll;
use super::host::{Faults, HostIo, HostOptions, Operation};
use super::io::{CloseCause, Completion, ConnId, Io as _, SegmentError, SendPieces, SetupError, Waker};
use super::net::{ListenAddress, Listener};
use super::ring::{Features, Ring};
use super::system;
use crate::limits;
use crate::limits::log::BLOCK_BYTES;
use crate::stdx::prng::Prng;

pub(in crate::edge) const PATIENCE: Duration = Duration::from_secs(10);

/// One of the edges under test.
pub(in crate::edge) trait Kind {
    /// Name of the module with the tests of this kind.
    const NAME: &str;

    type Io: HostIo + Faults + Inside;

    fn make(options: HostOptions) -> Result<Self::Io, SetupError>;
}

/// An edge that shows what is inside.
pub(in crate::edge) trait Inside {
    /// A second handle of a connection's socket.
    fn socket(&self, conn: ConnId) -> OwnedFd;

    /// The writes of its log.
    fn log_writes(&mut self) -> &mut LogWrites;
}

/// The ring with everything.
pub(in crate::edge) struct WholeRing;

/// The ring on a kernel that offers as little as a ring can do with.
pub(in crate::edge) struct LeastRing;

/// The edge without a ring.
pub(in crate::edge) struct NoRing;

impl Kind for WholeRing {
    const NAME: &str = "whole_ring";

    type Io = Ring;

    fn make(options: HostOptions) -> Result<Ring, SetupError> {
        Ring::new(options)
    }
}

impl Kind for LeastRing {
    const NAME: &str = "least_ring";

    type Io = Ring;

    fn make(options: HostOptions) -> Result<Ring, SetupError> {
        Ring::with_features(options, Features::LEAST)
    }
}

impl Kind for NoRing {
    const NAME: &str = "no_ring";

    type Io = Epoll;

    fn make(options: HostOptions) -> Result<Epoll, SetupError> {
        Epoll::new(options)
    }
}

/// An edge with its pending completions.
pub(in crate::edge) struct World<K: Kind> {
    pub(in crate::edge) io: K::Io,
    pub(in crate::edge) pending: VecDeque<Completion<OwnedFd>>,
}

impl<K: Kind> World<K> {
    pub(in crate::edge) fn new(options: HostOptions) -> World<K> {
        World { io: K::make(options).expect("can be used here"), pending: VecDeque::new() }
    }

    pub(in crate::edge) fn with_listener() -> (World<K>, SocketAddr) {
        let listener = loopback();
        let address = tcp_address(&listener);
        (World::new(HostOptions::new(vec![listener], None)), address)
    }

    pub(in crate::edge) fn with_log(scratch: &Scratch, syncs: Syncs) -> (World<K>, LogFiles) {
        World::with_disk(scratch, syncs, |_| {})
    }

    fn with_disk(
        scratch: &Scratch,
        syncs: Syncs,
        change: impl FnOnce(&mut DataDirectory),
    ) -> (World<K>, LogFiles) {
        let options = DiskOptions { syncs, ..scratch.options() };
        let mut data = DataDirectory::open(&options).expect("opens the data directory");
        change(&mut data);
        let log = data.log().clone();
        (World::new(HostOptions::new(Vec::new(), Some(data))), log)
    }

    /// The next completion; panics when none comes.
    pub(in crate::edge) fn next(&mut self) -> Completion<OwnedFd> {
        let start = Clock.now();
        while self.pending.is_empty() {
            assert!(Clock.now().since(start) < PATIENCE, "nothing happens");
            self.turn(Duration::from_secs(1));
        }
        self.pending.pop_front().expect("is not empty")
    }

    pub(in crate::edge) fn turn(&mut self, timeout: Duration) {
        let mut out = Vec::new();
        self.io.wait(Some(timeout), &mut out);
        self.pending.extend(out);
    }

    /// Runs for a while and expects nothing to happen.
    pub(in crate::edge) fn quiet(&mut self, duration: Duration) {
        let start = Clock.now();
        while Clock.now().since(start) < duration {
            self.turn(Duration::from_millis(5));
            assert!(self.pending.is_empty(), "unexpected {:?}", self.pending);
        }
    }

    pub(in crate::edge) fn accepted(&mut self) -> ConnId {
        match self.next() {
            Completion::Incoming { socket, listener: 0 } => self.io.adopt(socket),
            other => panic!("expected Incoming, not {other:?}"),
        }
    }

    pub(in crate::edge) fn received(&mut self, conn: ConnId) -> Vec<u8> {
        match self.next() {
            Completion::Received { conn: from, bytes } if from == conn => bytes.to_vec(),
            other => panic!("expected Received, not {other:?}"),
        }
    }

    pub(in crate::edge) fn sent(&mut self, conn: ConnId) {
        match self.next() {
            Completion::Sent { conn: by } if by == conn => {}
            other => panic!("expected Sent, not {other:?}"),
        }
    }

    pub(in crate::edge) fn closed(&mut self, conn: ConnId) -> CloseCause {
        match self.next() {
            Completion::Closed { conn: of, cause } if of == conn => cause,
            other => panic!("expected Closed, not {other:?}"),
        }
    }

    pub(in crate::edge) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut pieces = SendPieces::default();
        pieces.push(Bytes::copy_from_slice(bytes));
        self.io.send(conn, &mut pieces);
    }

    pub(in crate::edge) fn connect(&mut self, address: SocketAddr) -> (TcpStream, ConnId) {
        let client = client(address);
        let conn = self.accepted();
        (client, conn)
    }
}

pub(in crate::edge) fn loopback() -> Listener {
    Listener::bind(&ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"))).expect("binds")
}

pub(in crate::edge) fn tcp_address(listener: &Listener) -> SocketAddr {
    match listener.address() {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(path) => panic!("{path:?} is not TCP"),
    }
}

pub(in crate::edge) fn client(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("connects");
    client.set_read_timeout(Some(PATIENCE)).expect("sets a timeout");
    client
}

/// Sends back what comes, for as many connections as there are clients, until each has closed.
pub(in crate::edge) fn echo<K: Kind>(world: &mut World<K>, clients: usize) {
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
                let conn = world.io.adopt(socket);
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
                world.io.send(conn, &mut pieces);
                echo.sending = true;
            }
            let is_done = echo.ended && !echo.sending && echo.queued.is_empty();
            if is_done {
                world.io.close(conn);
                done += 1;
            }
            !is_done
        });
    }
    assert_eq!(world.io.connections(), 0);
}

/// Clients that send messages of random lengths at random depths and compare what comes back.
pub(in crate::edge) fn start_clients(
    address: SocketAddr,
    threads: u64,
    each: usize,
    messages: usize,
) -> Vec<JoinHandle<()>> {
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

fn connections_send_without_delay_and_are_kept_alive<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (_client, conn) = world.connect(address);
    let stream = TcpStream::from(world.io.socket(conn));
    assert!(stream.nodelay().expect("has the option"));
    let keepalive = system::socket_option(stream.as_fd(), libc::IPPROTO_TCP, libc::TCP_KEEPIDLE);
    assert_eq!(keepalive.expect("has the option"), limits::shard::TCP_KEEPALIVE_SECONDS);
}

fn many_connections_get_their_own_bytes_back<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let clients = start_clients(address, 4, 16, 20);
    echo(&mut world, 64);
    clients.into_iter().for_each(|client| client.join().expect("no client failed"));
}

fn few_buffers_starve_nobody<K: Kind>() {
    let mut world = few_buffers::<K>();
    let clients = start_clients(world.1, 2, 16, 8);
    echo(&mut world.0, 32);
    clients.into_iter().for_each(|client| client.join().expect("no client failed"));
}

/// With two receive buffers of 4 KiB, and a listener.
pub(in crate::edge) fn few_buffers<K: Kind>() -> (World<K>, SocketAddr) {
    let listener = loopback();
    let address = tcp_address(&listener);
    let options = HostOptions {
        receive_buffers: 2,
        receive_buffer_bytes: 4096,
        ..HostOptions::new(vec![listener], None)
    };
    (World::new(options), address)
}

fn held_buffers_stop_receives_until_they_come_back<K: Kind>() {
    let (mut world, address) = few_buffers::<K>();
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

fn a_slow_reader_gets_everything_in_order_and_sent_comes_once<K: Kind>() {
    let listener = loopback();
    let address = tcp_address(&listener);
    system::set_socket_option(listener.socket(), libc::SOL_SOCKET, libc::SO_SNDBUF, 32_768)
        .expect("sets SO_SNDBUF");
    let mut world = World::<K>::new(HostOptions::new(vec![listener], None));
    let sends = Arc::new(AtomicU64::new(0));
    let counter = sends.clone();
    world.io.set_fault_hook(Some(Box::new(move |operation, result| {
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
    world.io.send(conn, &mut pieces);
    world.sent(conn);
    let short = sends.load(Ordering::Relaxed);
    assert!(short > 10, "short sends happened: {short}");
    world.send(conn, &whole);
    world.sent(conn);
    drop(reader.join().expect("the reader got everything"));
    assert!(matches!(world.closed(conn), CloseCause::EndOfStream));
}

fn close_during_an_armed_receive_sends_fin_and_nothing_is_told_after<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (mut client, conn) = world.connect(address);
    world.quiet(Duration::from_millis(5));
    world.io.close(conn);
    // These bytes are not to be taken by the dead receive, which would keep the connection half alive.
    world.quiet(Duration::from_millis(30));
    assert_eq!(world.io.connections(), 0);
    assert_eq!(client.read(&mut [0; 1]).expect("FIN comes"), 0);
}

fn close_in_the_turn_of_the_accept_and_with_bytes_on_the_way<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let mut client = client(address);
    client.write_all(b"early").expect("sends");
    let conn = world.accepted();
    world.io.close(conn);
    world.io.close(conn);
    world.pending.clear();
    world.quiet(Duration::from_millis(20));
    assert_eq!(world.io.connections(), 0);
    match client.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("expected the end, not {other:?}"),
    }
}

fn close_with_a_blocked_send_ends_it<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (client, conn) = world.connect(address);
    world.send(conn, &vec![1; 64 << 20]);
    world.quiet(Duration::from_millis(30));
    world.io.close(conn);
    world.quiet(Duration::from_millis(30));
    assert_eq!(world.io.connections(), 0);
    drop(client);
}

fn a_late_handle_of_a_reused_slot_does_nothing<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (first_client, first) = world.connect(address);
    world.io.close(first);
    world.quiet(Duration::from_millis(10));
    let (mut client, second) = world.connect(address);
    assert_eq!(first.0.slot(), second.0.slot(), "the slot is used again");
    assert_ne!(first, second);
    world.send(first, b"for the first");
    world.io.pause_receive(first);
    world.io.close(first);
    world.send(second, b"for the second");
    world.sent(second);
    let mut bytes = [0; 14];
    client.read_exact(&mut bytes).expect("receives");
    assert_eq!(&bytes, b"for the second");
    client.write_all(b"still open").expect("sends");
    assert_eq!(world.received(second), b"still open");
    drop(first_client);
}

fn what_is_submitted_goes_out_without_a_wait<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (mut client, conn) = world.connect(address);
    client.write_all(b"question").expect("sends");
    assert_eq!(world.received(conn), b"question");
    world.send(conn, b"answer");
    world.io.submit();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).expect("is there before anything is waited for");
    assert_eq!(&answer, b"answer");
    world.io.submit();
    world.sent(conn);
    world.quiet(Duration::from_millis(5));
}

fn the_end_of_the_stream_leaves_the_other_direction_open<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (mut client, conn) = world.connect(address);
    client.write_all(b"question").expect("sends");
    client.shutdown(Shutdown::Write).expect("shuts down");
    assert_eq!(world.received(conn), b"question");
    assert!(matches!(world.closed(conn), CloseCause::EndOfStream));
    world.send(conn, b"answer");
    world.sent(conn);
    world.io.close(conn);
    world.quiet(Duration::from_millis(5));
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("reads to the end");
    assert_eq!(answer, "answer");
}

fn failures_of_a_connection_are_told<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (client, conn) = world.connect(address);
    world.io.set_fault_hook(Some(Box::new(|operation, result| match operation {
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
    world.io.close(conn);
    world.quiet(Duration::from_millis(5));
    assert_eq!(world.io.connections(), 0);
}

fn a_paused_connection_is_not_read_and_loses_nothing<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (mut client, conn) = world.connect(address);
    world.io.pause_receive(conn);
    world.quiet(Duration::from_millis(5));
    client.write_all(b"one").expect("sends");
    world.quiet(Duration::from_millis(20));
    world.io.resume_receive(conn);
    assert_eq!(world.received(conn), b"one");
    // Changing one's mind while the cancel is on its way.
    for _ in 0..50 {
        world.io.pause_receive(conn);
        world.io.resume_receive(conn);
        world.io.pause_receive(conn);
        world.turn(Duration::ZERO);
        world.io.resume_receive(conn);
        world.turn(Duration::ZERO);
    }
    client.write_all(b"two").expect("sends");
    assert_eq!(world.received(conn), b"two");
    // The end waits as bytes do.
    world.io.pause_receive(conn);
    world.quiet(Duration::from_millis(5));
    client.write_all(b"three").expect("sends");
    client.shutdown(Shutdown::Write).expect("shuts down");
    world.quiet(Duration::from_millis(20));
    world.io.resume_receive(conn);
    assert_eq!(world.received(conn), b"three");
    assert!(matches!(world.closed(conn), CloseCause::EndOfStream));
    world.quiet(Duration::from_millis(5));
}

fn a_failed_accept_is_tried_again_after_a_pause<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let mut failures = 3;
    world.io.set_fault_hook(Some(Box::new(move |operation, result| {
        if operation == Operation::Accept && failures > 0 {
            failures -= 1;
            return -libc::EMFILE;
        }
        result
    })));
    // Three clients lose their connection.
    let mut lost: Vec<_> = (0..3).map(|_| client(address)).collect();
    world.quiet(Duration::from_millis(20 + 4 * limits::shard::ACCEPT_PAUSE_MILLISECONDS));
    for client in &mut lost {
        match client.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("expected the end, not {other:?}"),
        }
    }
    drop(world.connect(address));
}

/// As where one core accepts for all.
fn a_connection_is_adopted_by_another_loop<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let mut client = client(address);
    client.write_all(b"early").expect("sends");
    let Completion::Incoming { socket, listener: 0 } = world.next() else { panic!("nobody came") };
    assert_eq!(world.io.connections(), 0);
    let other = thread::spawn(move || {
        let mut world = World::<K>::new(HostOptions::new(Vec::new(), None));
        let conn = world.io.adopt(socket);
        assert_eq!((world.received(conn).as_slice(), world.io.connections()), (&b"early"[..], 1));
        world.send(conn, b"answer");
        world.sent(conn);
        world.io.close(conn);
        world.quiet(Duration::from_millis(5));
    });
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("reads to the end");
    assert_eq!(answer, "answer");
    other.join().expect("serves");
    // And one that nobody adopts is refused.
    let mut refused = self::client(address);
    drop(world.next());
    assert_eq!(refused.read(&mut [0; 1]).expect("is closed"), 0);
}

/// Whatever has happened already and was not told.
fn after_a_close_nothing_is_told<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (mut client, conn) = world.connect(address);
    world.send(conn, b"last words");
    client.write_all(b"unheard").expect("sends");
    thread::sleep(Duration::from_millis(5));
    world.io.close(conn);
    let mut pieces = SendPieces::default();
    pieces.push(Bytes::from_static(b"too late"));
    world.io.send(conn, &mut pieces);
    assert!(pieces.is_empty(), "a send to nobody is forgotten");
    world.io.resume_receive(conn);
    world.quiet(Duration::from_millis(30));
    assert_eq!(world.io.connections(), 0);
}

fn after_the_stop_nobody_connects_and_the_others_go_on<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let (mut client, conn) = world.connect(address);
    world.io.stop_accepting();
    // At once: a client that is told to go, and comes back, is not to be let in and then cut.
    let error = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    world.quiet(Duration::from_millis(20));
    Listener::bind(&ListenAddress::Tcp(address)).expect("the address is free");
    client.write_all(b"still here").expect("sends");
    assert_eq!(world.received(conn), b"still here");
}

fn several_listeners_are_told_apart_and_unix_sockets_work<K: Kind>() {
    let scratch = Scratch::new("listeners");
    let path = scratch.0.join("socket");
    let tcp = loopback();
    let address = tcp_address(&tcp);
    let unix = Listener::bind(&ListenAddress::Unix(path.clone())).expect("binds");
    let mut world = World::<K>::new(HostOptions::new(vec![tcp, unix], None));
    let mut client = UnixStream::connect(&path).expect("connects");
    client.write_all(b"by unix").expect("sends");
    let Completion::Incoming { socket, listener: 1 } = world.next() else { panic!("the second listener") };
    let conn = world.io.adopt(socket);
    assert_eq!(world.received(conn), b"by unix");
    let connected = world.connect(address);
    world.io.stop_accepting();
    world.quiet(Duration::from_millis(10));
    assert!(!path.exists());
    drop(connected);
}

fn it_can_be_dropped_with_everything_under_way<K: Kind>() {
    let scratch = Scratch::new("drop");
    let listener = loopback();
    let address = tcp_address(&listener);
    let data = DataDirectory::open(&scratch.options()).expect("opens");
    data.log().create_segment(1, 1 << 20).expect("creates");
    let mut world = World::<K>::new(HostOptions::new(vec![listener], Some(data)));
    let (mut client, conn) = world.connect(address);
    let (_other, other) = world.connect(address);
    world.send(conn, &vec![1; 16 << 20]);
    client.write_all(b"unread").expect("sends");
    world.quiet_but_received(conn);
    world.io.pause_receive(other);
    let mut buffer = world.io.log_buffer(4096);
    buffer.resize_zeroed(4096);
    world.io.log_write(1, 1, 0, buffer);
    world.io.log_prepare_segment(2, 1 << 20);
    world.turn(Duration::ZERO);
    let waker = world.io.waker();
    let start = Clock.now();
    let held = std::mem::take(&mut world.pending);
    drop(world);
    assert!(Clock.now().since(start) < Duration::from_secs(5), "nothing was left to wait for");
    waker.wake();
    drop(held);
}

impl<K: Kind> World<K> {
    pub(in crate::edge) fn quiet_but_received(&mut self, conn: ConnId) {
        self.turn(Duration::from_millis(200));
        let [Completion::Received { conn: from, .. }] = self.pending.make_contiguous() else {
            panic!("unexpected {:?}", self.pending)
        };
        assert_eq!(*from, conn);
    }
}

// Waits and wakes.

fn a_wait_ends_in_time<K: Kind>() {
    let mut world = World::<K>::new(HostOptions::new(Vec::new(), None));
    let start = Clock.now();
    world.turn(Duration::from_millis(30));
    let passed = world.io.now().since(start);
    assert!(passed >= Duration::from_millis(30) && passed < Duration::from_secs(5), "{passed:?}");
    world.turn(Duration::ZERO);
    assert!(world.pending.is_empty());
}

fn a_wake_before_the_wait_or_during_it_is_seen_once<K: Kind>() {
    let (mut world, address) = World::<K>::with_listener();
    let waker = world.io.waker();
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
    world.io.wait(None, &mut out);
    assert!(matches!(out[..], [Completion::Woken]), "{out:?}");
    thread.join().expect("wakes");
    world.quiet(Duration::from_millis(10));
}

fn no_wake_is_lost<K: Kind>() {
    const WAKES: u64 = 100_000;
    let mut world = World::<K>::new(HostOptions::new(Vec::new(), None));
    let waker = world.io.waker();
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

fn loops_wake_each_other<K: Kind>() {
    const ROUNDS: u32 = 500;
    let play = |world: &mut World<K>, other: &Waker, first: bool| {
        for round in 0..ROUNDS {
            if round > 0 || !first {
                assert!(matches!(world.next(), Completion::Woken));
            }
            world.io.wake(other);
        }
        // The last message goes out with a submission.
        world.turn(Duration::ZERO);
    };
    let (to_second, first_waker) = std::sync::mpsc::channel();
    let (to_first, second_waker) = std::sync::mpsc::channel();
    let second = thread::spawn(move || {
        let mut world = World::<K>::new(HostOptions::new(Vec::new(), None));
        to_first.send(world.io.waker()).expect("the first lives");
        let other = first_waker.recv().expect("the first lives");
        play(&mut world, &other, false);
    });
    let mut world = World::<K>::new(HostOptions::new(Vec::new(), None));
    to_second.send(world.io.waker()).expect("the second lives");
    let other = second_waker.recv().expect("the second lives");
    play(&mut world, &other, true);
    assert!(matches!(world.next(), Completion::Woken));
    second.join().expect("plays");
    world.io.wake(&other);
    world.quiet(Duration::from_millis(5));
}

// The log.

pub(in crate::edge) fn log_write<K: Kind>(
    world: &mut World<K>,
    token: u64,
    offset: u64,
    byte: u8,
    length: usize,
) {
    let mut buffer = world.io.log_buffer(length);
    assert!(buffer.is_empty());
    buffer.resize_zeroed(length);
    buffer.fill(byte);
    world.io.log_write(token, 1, offset, buffer);
}

pub(in crate::edge) fn expect_written<K: Kind>(world: &mut World<K>, expected: u64) {
    match world.next() {
        Completion::LogWritten { token, .. } if token == expected => {}
        other => panic!("expected LogWritten {expected}, not {other:?}"),
    }
}

fn writes_reach_the_file_and_complete_in_order<K: Kind>() {
    for syncs in [Syncs::On, Syncs::Off] {
        let scratch = Scratch::new("log");
        let (mut world, log) = World::<K>::with_log(&scratch, syncs);
        world.io.log_prepare_segment(1, 4 << 20);
        assert!(matches!(world.next(), Completion::SegmentReady { number: 1 }));
        assert_eq!(world.io.log_bytes(), 4 << 20);

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

/// One write after the other, with nothing else to do: before long the loop makes them itself.
fn writes_one_by_one_reach_the_file_and_fail_for_good<K: Kind>() {
    let scratch = Scratch::new("alone");
    let (mut world, log) = World::<K>::with_log(&scratch, Syncs::On);
    log.create_segment(1, 4 << 20).expect("creates");
    let writes = 3 * u64::from(limits::log::ALONE_WRITES);
    for token in 0..writes {
        log_write(&mut world, token, 4096 * token, token as u8, 4096);
        expect_written(&mut world, token);
    }
    let content = log.read_segment(1).expect("reads");
    assert!((0..writes as usize * 4096).all(|position| content[position] == (position / 4096) as u8));
    // A slow one is told of, and for long the last that the loop makes.
    let slow = Duration::from_millis(20);
    world.io.set_fault_hook(Some(Box::new(move |_, result| {
        std::thread::sleep(slow);
        result
    })));
    world.io.log_writes().assume_alone();
    log_write(&mut world, 1, 0, 1, 4096);
    expect_written(&mut world, 1);
    assert!(world.io.deaf() >= slow, "{:?}", world.io.deaf());
    log_write(&mut world, 2, 0, 1, 4096);
    expect_written(&mut world, 2);
    assert_eq!(world.io.deaf(), Duration::ZERO);
    world.io.set_fault_hook(Some(Box::new(|operation, result| match operation {
        Operation::LogWrite => -libc::EIO,
        _ => result,
    })));
    for token in 0..2 {
        log_write(&mut world, token, 0, 1, 4096);
        let failed = world.next();
        assert!(matches!(failed, Completion::LogFailed { token: of, .. } if of == token), "{failed:?}");
    }
}

/// Ten writes, several at once, and what is in the file then.
fn write_ten<K: Kind>(world: &mut World<K>, log: &LogFiles) {
    log.create_segment(1, 1 << 20).expect("creates");
    for token in 0..10 {
        log_write(world, token, 4096 * token, token as u8 + 1, 4096);
    }
    (0..10).for_each(|token| expect_written(world, token));
    let content = log.read_segment(1).expect("reads");
    assert!((0..10 * 4096).all(|position| content[position] == (position / 4096) as u8 + 1));
}

/// What is in use of the log's fast path.
fn direct<K: Kind>(world: &World<K>) -> bool {
    world.io.fast_paths().iter().find(|path| path.0 == "O_DIRECT + RWF_DSYNC").expect("is named").1
}

fn where_direct_is_refused_writes_go_through_the_cache<K: Kind>() {
    let scratch = Scratch::new("cached");
    let (mut world, log) = World::<K>::with_disk(&scratch, Syncs::On, DataDirectory::write_through_cache);
    write_ten(&mut world, &log);
    assert!(!direct(&world));
    drop(world);
    let data = DataDirectory::open(&scratch.options()).expect("opens");
    let can = data.log().opens_direct().expect("has a segment");
    let world = World::<K>::new(HostOptions::new(Vec::new(), Some(data)));
    assert_eq!(direct(&world), can, "as the file system has it");
}

fn where_the_flag_is_refused_each_write_is_synced<K: Kind>() {
    let scratch = Scratch::new("unflagged");
    let (mut world, log) = World::<K>::with_log(&scratch, Syncs::On);
    let (writes, syncs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, synced) = (writes.clone(), syncs.clone());
    world.io.set_fault_hook(Some(Box::new(move |operation, result| match operation {
        Operation::LogWrite if counted.fetch_add(1, Ordering::Relaxed) == 0 => -libc::EOPNOTSUPP,
        Operation::LogSync => {
            synced.fetch_add(1, Ordering::Relaxed);
            result
        }
        _ => result,
    })));
    write_ten(&mut world, &log);
    assert_eq!(writes.load(Ordering::Relaxed), 11, "the refused one was done again");
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs == 10 || K::NAME == NoRing::NAME && syncs == 0, "{syncs}");
    // The sync's failure is the write's.
    let failing = if K::NAME == NoRing::NAME { Operation::LogWrite } else { Operation::LogSync };
    world.io.set_fault_hook(Some(Box::new(
        move |operation, result| {
            if operation == failing { -libc::EIO } else { result }
        },
    )));
    log_write(&mut world, 11, 0, 1, 4096);
    assert!(matches!(world.next(), Completion::LogFailed { token: 11, .. }));
}

fn a_failed_or_short_write_is_final<K: Kind>() {
    for result in [-libc::EIO, 4096, 0] {
        let scratch = Scratch::new("failure");
        let (mut world, log) = World::<K>::with_log(&scratch, Syncs::On);
        log.create_segment(1, 1 << 20).expect("creates");
        // Known by its length: the disk completes the writes in any order.
        world.io.set_fault_hook(Some(Box::new(move |_, real| if real == 12_288 { result } else { real })));
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

fn a_write_to_no_segment_fails<K: Kind>() {
    let scratch = Scratch::new("absent");
    let (mut world, _) = World::<K>::with_log(&scratch, Syncs::On);
    log_write(&mut world, 9, 0, 1, 4096);
    match world.next() {
        Completion::LogFailed { token: 9, error } => assert_eq!(error.kind(), ErrorKind::NotFound),
        other => panic!("unexpected {other:?}"),
    }
}

fn segments_that_cannot_be_made_are_told<K: Kind>() {
    let scratch = Scratch::new("prepare");
    let (mut world, log) = World::<K>::with_log(&scratch, Syncs::On);
    log.create_segment(7, 4096).expect("creates");
    world.io.log_prepare_segment(7, 4096);
    match world.next() {
        Completion::SegmentFailed { number: 7, error: SegmentError::Failed(error) } => {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
        other => panic!("unexpected {other:?}"),
    }
    world.io.log_prepare_segment(8, 8 << 40);
    match world.next() {
        Completion::SegmentFailed { number: 8, error: SegmentError::NoSpace } => {}
        other => panic!("unexpected {other:?}"),
    }
}

fn a_killed_process_can_be_started_again<K: Kind>() {
    const CHILD: &str = "ETCHD_TEST_KILLED_CHILD";
    if let Some(path) = std::env::var_os(CHILD) {
        let options = DiskOptions { data_dir: path.into(), wal_dir: None, syncs: Syncs::On };
        let data = DataDirectory::open(&options).expect("opens");
        data.log().create_segment(1, 1 << 20).expect("creates");
        let listener = loopback();
        let address = tcp_address(&listener);
        let mut world = World::<K>::new(HostOptions::new(vec![listener], Some(data)));
        println!("\nlistening {address}");
        loop {
            log_write(&mut world, 1, 0, 1, 1 << 20);
            drop(world.next());
        }
    }
    let scratch = Scratch::new("killed");
    let options = scratch.options();
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .arg(format!("edge::tests::{}::a_killed_process_can_be_started_again", K::NAME))
        .args(["--exact", "--nocapture"])
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
    World::<K>::new(HostOptions::new(vec![listener], Some(data)));
    match connected.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("unexpected {other:?}"),
    }
}

/// What is in use is what was wanted and is there.
#[test]
fn fast_paths_are_named() {
    fn in_use<K: Kind>() -> Vec<&'static str> {
        let scratch = Scratch::new("paths");
        let (world, _) = World::<K>::with_log(&scratch, Syncs::On);
        world.io.fast_paths().into_iter().filter(|path| path.1).map(|path| path.0).collect()
    }
    let whole = ["multishot receive", "buffer rings", "MSG_RING", "deferred task work", "registered buffers"];
    assert_eq!(in_use::<WholeRing>(), whole, "of a log without a segment");
    assert_eq!(in_use::<LeastRing>(), whole[..2]);
    assert!(in_use::<NoRing>().is_empty());
}

macro_rules! over_each_kind {
    ($($name:ident)*) => {
        over_each_kind!(@ whole_ring WholeRing $($name)*);
        over_each_kind!(@ least_ring LeastRing $($name)*);
        over_each_kind!(@ no_ring NoRing $($name)*);
    };
    (@ $module:ident $kind:ident $($name:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name::<super::$kind>();
                }
            )*
        }
    };
}

over_each_kind! {
    connections_send_without_delay_and_are_kept_alive
    many_connections_get_their_own_bytes_back
    few_buffers_starve_nobody
    held_buffers_stop_receives_until_they_come_back
    a_slow_reader_gets_everything_in_order_and_sent_comes_once
    close_during_an_armed_receive_sends_fin_and_nothing_is_told_after
    close_in_the_turn_of_the_accept_and_with_bytes_on_the_way
    close_with_a_blocked_send_ends_it
    a_late_handle_of_a_reused_slot_does_nothing
    what_is_submitted_goes_out_without_a_wait
    the_end_of_the_stream_leaves_the_other_direction_open
    failures_of_a_connection_are_told
    a_paused_connection_is_not_read_and_loses_nothing
    a_failed_accept_is_tried_again_after_a_pause
    a_connection_is_adopted_by_another_loop
    after_a_close_nothing_is_told
    after_the_stop_nobody_connects_and_the_others_go_on
    several_listeners_are_told_apart_and_unix_sockets_work
    it_can_be_dropped_with_everything_under_way
    a_wait_ends_in_time
    a_wake_before_the_wait_or_during_it_is_seen_once
    no_wake_is_lost
    loops_wake_each_other
    writes_reach_the_file_and_complete_in_order
    writes_one_by_one_reach_the_file_and_fail_for_good
    where_direct_is_refused_writes_go_through_the_cache
    where_the_flag_is_refused_each_write_is_synced
    a_failed_or_short_write_is_final
    a_write_to_no_segment_fails
    segments_that_cannot_be_made_are_told
    a_killed_process_can_be_started_again
}
