//! What a shard holds back while a client does not read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::calls::State;
use super::streams::WATCH_REFILL_PARTS;
use super::turns::Turns;
use super::*;
use crate::pure::lease::LeaseTable;
use crate::pure::mvcc::Store;
use crate::pure::node::Reply;
use crate::pure::types::{LogIndex, Term};
use crate::pure::wire::h2::frame::kind;
use crate::pure::wire::h2::testkit::{data, frames, headers, hello, raw, window_update};
use crate::testing::request;

fn front() -> Front {
    Front::new(Config {
        shard: 0,
        session: session::Config::new(resolve),
        cluster_id: 1,
        member_id: 2,
        txn_ops_max: limits::request::TXN_OPS_MAX_DEFAULT,
        request_bytes_max: limits::request::REQUEST_BYTES_MAX_DEFAULT,
        version: "3.7.0",
        storage_version: "3.7.0",
        hub: HubConfig::new(1, limits::request::REQUEST_BYTES_MAX_DEFAULT, Duration::from_secs(600)),
        seed: 1,
        ids: RequestIds::new(2, 0),
    })
}

fn view(store: &mut Store) -> View {
    View {
        kv: store.view(),
        leases: LeaseTable::default(),
        members: Arc::default(),
        cluster_version: None,
        applied: LogIndex(1),
        committed: LogIndex(1),
        term: Term(1),
        leader: 2,
        local_read_ok: true,
        db_bytes: 0,
        db_bytes_in_use: 0,
    }
}

/// A turn of everything; true if more is left.
fn turn(front: &mut Front, view: &View, now: Monotonic) -> bool {
    let has_more = front.turn(view, now);
    front.read(view);
    has_more || front.is_reading()
}

/// A range request: key, range_end and revision.
fn request(stream: u32, path: &str, fields: [&[u8]; 2], revision: i64) -> Vec<u8> {
    let mut message = Vec::new();
    for (tag, bytes) in [0x0a, 0x12].into_iter().zip(fields).filter(|(_, bytes)| !bytes.is_empty()) {
        message.extend([tag, bytes.len() as u8]);
        message.extend(bytes);
    }
    prost::encoding::int64::encode(4, &revision, &mut message);
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let fields = request::fields(path, "localhost");
    [headers(stream, false, &fields), data(stream, true, &framed)].concat()
}

/// A stream's chunk that takes several slices keeps its floor to its end, though the connection has no room for more
/// meanwhile: without it the cleaner would take versions from under the walk (H5).
#[test]
fn a_chunk_under_way_keeps_its_floor() {
    let mut store = Store::new(1);
    let keys = limits::slice::RANGE_UNITS * 5;
    for key in 0..keys {
        store.put(
            format!("k{key:06}").as_bytes(),
            &[b'v'; 12 * 1024][..if key < 10 { 12 * 1024 } else { 1 }],
            0,
        );
    }
    let revision = store.end_txn();
    store.put(b"large", &vec![b'l'; 1 << 20], 0);
    store.end_txn();
    let view = view(&mut store);

    let now = Monotonic(1_000_000_000);
    let (mut front, mut keys) = (front(), Slab::default());
    let connection = keys.insert(());
    assert!(front.handle_accepted(connection, 0, now));
    front.handle_bytes(connection, &hello(&[]), &view, now);
    // An old revision, so that every key is visited for the count.
    let ask = request(1, "/etcdserverpb.KV/RangeStream", [b"k", b"l"], revision);
    front.handle_bytes(connection, &ask, &view, now);
    let chunk = |front: &Front| {
        let read = front.calls.iter().find_map(|(_, call)| match &call.state {
            State::RangeStream(read) => Some((read.sent(), read.floor())),
            _ => None,
        });
        read.expect("the stream goes on")
    };
    // The first chunk fills what the stream may always queue; the second is under way.
    while chunk(&front).0 == 0 || chunk(&front).1.is_none() {
        assert!(turn(&mut front, &view, now), "the stream has more to do");
    }
    // Now others fill the connection.
    for stream in 0..9 {
        let ask = request(3 + 2 * stream, "/etcdserverpb.KV/Range", [b"large", b""], 0);
        front.handle_bytes(connection, &ask, &view, now);
    }
    let mut turns = 0;
    loop {
        let has_more = turn(&mut front, &view, now);
        let (_, floor) = chunk(&front);
        assert_eq!(front.floor(), floor, "a walk under way is a floor");
        turns += 1;
        if !has_more {
            break;
        }
        assert!(turns < 100, "it waits for the client at last");
    }
    assert!(chunk(&front).1.is_none() && turns > 1, "it waits between two chunks");
}

/// One shard with its clients in virtual time: sockets take everything, clients do as they are told.
struct World {
    front: Front,
    view: View,
    keys: Slab<()>,
    now: Monotonic,
    /// What each connection was sent, and whether it was closed.
    sent: std::collections::BTreeMap<Key, (Vec<u8>, bool)>,
}

impl World {
    fn new(held_bytes_max: usize) -> World {
        let mut store = Store::new(1);
        store.put(b"large", &vec![b'l'; 1 << 20], 0);
        store.put(b"small", b"s", 0);
        store.end_txn();
        let view = view(&mut store);
        let mut front = front();
        front.set_held_bytes_max(held_bytes_max);
        World {
            front,
            view,
            keys: Slab::default(),
            now: Monotonic(1_000_000_000),
            sent: std::collections::BTreeMap::new(),
        }
    }

    fn connect(&mut self) -> Key {
        let key = self.keys.insert(());
        assert!(self.front.handle_accepted(key, 0, self.now));
        self.sent.insert(key, (Vec::new(), false));
        self.send(key, &hello(&[]));
        key
    }

    fn send(&mut self, key: Key, bytes: &[u8]) {
        self.front.handle_bytes(key, bytes, &self.view, self.now);
        self.settle();
    }

    fn get(&mut self, key: Key, stream: u32, name: &[u8]) {
        self.send(key, &request(stream, "/etcdserverpb.KV/Range", [name, b""], 0));
    }

    /// A turn, and all that it wants to be done.
    fn settle(&mut self) {
        while turn(&mut self.front, &self.view, self.now) {}
        let mut transmit = Transmit::new(limits::shard::SEND_BYTES_MAX, limits::shard::SEND_PIECES_MAX);
        loop {
            transmit.clear();
            match self.front.poll_outgoing(&mut transmit, &mut usize::MAX.clone()) {
                None => return,
                Some(Outgoing::Send(key)) => {
                    let sent = &mut self.sent.get_mut(&key).expect("it is connected").0;
                    transmit.slices().for_each(|slice| sent.extend_from_slice(slice));
                    self.front.handle_sent(key, &self.view, self.now);
                }
                Some(Outgoing::Close(key)) => self.sent.get_mut(&key).expect("it is connected").1 = true,
                Some(Outgoing::PauseReceive(_) | Outgoing::ResumeReceive(_)) => {}
            }
        }
    }

    /// Sleeps and wakes as a loop does, for so long.
    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.front.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = end;
    }

    /// Renews all leases that are asked for.
    fn answer_wishes(&mut self) {
        while let Some(wish) = self.front.poll_wish() {
            let reply = FromSequencer { ticket: wish.ticket, reply: Reply::Renewed(5) };
            self.front.handle_reply(reply, &self.view);
            self.settle();
        }
    }

    /// Bytes by which a stream's window was opened since this was asked last.
    fn take_windows(&mut self, key: Key, stream: u32) -> usize {
        let sent = &mut self.sent.get_mut(&key).expect("it is connected").0;
        let all = frames(sent)
            .into_iter()
            .filter(|frame| frame.kind == kind::WINDOW_UPDATE && frame.stream == stream);
        let sum = all
            .map(|frame| u32::from_be_bytes(frame.payload[..].try_into().expect("four bytes")) as usize)
            .sum();
        if sum > 0 {
            sent.clear();
        }
        sum
    }

    fn resets(&self, key: Key) -> Vec<u32> {
        let all = frames(&self.sent[&key].0);
        all.iter().filter(|frame| frame.kind == kind::RST_STREAM).map(|frame| frame.stream).collect()
    }

    fn is_closed(&self, key: Key) -> bool {
        self.sent[&key].1
    }

    fn reached(&self, bound: Bound) -> u64 {
        self.front.bounds_reached()[bound as usize]
    }
}

/// Half of a put: its message is never whole.
fn half_put(stream: u32) -> Vec<u8> {
    let fields = request::fields("/etcdserverpb.KV/Put", "localhost");
    let message = [&framed(&[0; 50_000])[..5], &[0; 40_000]].concat();
    let parts = message.chunks(16_000).map(|part| data(stream, false, part));
    std::iter::once(headers(stream, false, &fields)).chain(parts).collect::<Vec<_>>().concat()
}

/// When the shard has no memory left, those that hold much of it get no new streams, and are cut after half a minute if
/// they neither take answers nor end requests; the others are served all the same.
#[test]
fn who_holds_much_pays_when_memory_is_short() {
    let mut world = World::new(100_000);
    let (greedy, slow, good) = (world.connect(), world.connect(), world.connect());
    // A window's worth is sent, the rest waits.
    world.get(slow, 1, b"large");
    for stream in [1, 3] {
        world.send(greedy, &half_put(stream));
    }
    assert!(world.front.held_bytes() > 100_000);
    world.get(greedy, 5, b"small");
    assert_eq!((world.resets(greedy), world.reached(Bound::Memory)), (vec![5], 1));
    world.get(good, 1, b"small");
    world.wait(limits::shard::STALLED_SECONDS_PRESSED - 1);
    assert!(!world.is_closed(greedy) && !world.is_closed(slow), "they have their time");
    world.wait(2 + 2 * limits::shard::STALLED_LOOK_SECONDS);
    assert!(world.is_closed(greedy) && world.is_closed(slow) && !world.is_closed(good));
    assert_eq!(world.reached(Bound::Stalled), 2);
    assert!(world.front.held_bytes() < 50_000, "its memory is free");
    world.get(good, 3, b"small");
    let answers = frames(&world.sent[&good].0).iter().filter(|frame| frame.ends()).count();
    assert_eq!((world.resets(good), answers), (vec![], 2), "no request of it was refused");
}

/// A client that is heard of is not cut for what it has begun.
#[test]
fn a_client_that_is_heard_of_is_not_stalled() {
    let mut world = World::new(10_000);
    let slow = world.connect();
    world.send(slow, &half_put(1));
    for _ in 0..20 {
        world.wait(limits::shard::STALLED_LOOK_SECONDS);
        world.send(slow, &window_update(0, 1));
    }
    assert!(world.front.held_bytes() > 10_000 && !world.is_closed(slow));
}

/// Values that wait to be sent lie in the key space anyway: many unread lists are not a lack of memory.
#[test]
fn values_that_wait_take_no_memory_of_their_own() {
    let mut world = World::new(1 << 20);
    let slow = world.connect();
    (0..10).for_each(|number| world.get(slow, 1 + 2 * number, b"large"));
    assert!(world.front.queues().session.unsent_bytes > 1 << 20);
    assert!(world.front.held_bytes() < 100_000, "{} bytes", world.front.held_bytes());
    let good = world.connect();
    world.get(good, 1, b"small");
    assert_eq!((world.resets(good), world.resets(slow), world.reached(Bound::Memory)), (vec![], vec![], 0));
}

/// With memory for it a client may take ten minutes.
#[test]
fn stalled_clients_are_cut_late_when_there_is_memory() {
    let mut world = World::new(limits::shard::SHARD_HELD_BYTES_MAX);
    let slow = world.connect();
    world.get(slow, 1, b"large");
    let idle = world.connect();
    world.wait(limits::shard::STALLED_SECONDS - 1);
    assert!(!world.is_closed(slow) && world.resets(idle).is_empty());
    world.wait(2 + 2 * limits::shard::STALLED_LOOK_SECONDS);
    assert!(world.is_closed(slow) && !world.is_closed(idle));
    assert_eq!((world.reached(Bound::Stalled), world.reached(Bound::Memory)), (1, 0));
}

/// A gRPC message.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// A request to watch the key `hot`, whose stream stays open.
fn watch(stream: u32) -> Vec<u8> {
    let fields = request::fields("/etcdserverpb.Watch/Watch", "localhost");
    let create = framed(b"\x0a\x05\x0a\x03hot");
    [headers(stream, false, &fields), data(stream, false, &create)].concat()
}

/// A client that takes no answers to its keepalives may send no more of them; when it takes them, all are answered.
#[test]
fn keepalives_wait_until_answers_are_taken() {
    const MESSAGES: usize = 2_000;
    let mut world = World::new(limits::shard::SHARD_HELD_BYTES_MAX);
    let client = world.connect();
    world.send(client, &hello(&[(4, 0)])[24..]);
    let fields = request::fields("/etcdserverpb.Lease/LeaseKeepAlive", "localhost");
    world.send(client, &headers(1, false, &fields));
    let messages = framed(b"\x08\x01").repeat(MESSAGES);
    let (mut window, mut asked) = (65_535, 0);
    for _ in 0..200 {
        if window >= messages.len() {
            world.send(client, &data(1, false, &messages));
            (window, asked) = (window - messages.len(), asked + MESSAGES);
        }
        world.answer_wishes();
        window += world.take_windows(client, 1);
    }
    assert!(window < messages.len() && asked < 30 * MESSAGES, "it was held back after {asked}");
    let unsent = world.front.queues().session.unsent_bytes;
    assert!(unsent < 2 * limits::request::UNREAD_ANSWERS_BYTES_MAX, "{unsent} bytes wait for it");
    world.send(client, &[window_update(0, 1 << 30), window_update(1, 1 << 30)].concat());
    for _ in 0..10 {
        world.answer_wishes();
    }
    let sent = frames(&world.sent[&client].0);
    let answered: usize = sent
        .iter()
        .filter(|frame| frame.kind == kind::DATA && frame.stream == 1)
        .map(|frame| frame.payload.len())
        .sum();
    let each = answered / asked;
    assert!((10..60).contains(&each) && answered == each * asked, "{answered} bytes for {asked}");
    window += world.take_windows(client, 1);
    assert!(window >= messages.len(), "it may go on: {window}");
}

/// Takes what is sent on all connections, as sockets that are always empty; adds the DATA of each stream.
fn take_sent(front: &mut Front, view: &View, now: Monotonic, received: &mut BTreeMap<u32, Vec<u8>>) {
    let mut transmit = Transmit::new(limits::shard::SEND_BYTES_MAX, limits::shard::SEND_PIECES_MAX);
    while let Some(outgoing) = front.poll_outgoing(&mut transmit, &mut usize::MAX.clone()) {
        let Outgoing::Send(key) = outgoing else { continue };
        let (copied, parts) = transmit.take();
        let parts = parts.map(|part| match part {
            session::Part::Copied(range) => copied[range].to_vec(),
            session::Part::Piece(piece) => piece.as_slice().to_vec(),
        });
        let bytes = parts.collect::<Vec<_>>().concat();
        for frame in frames(&bytes).into_iter().filter(|frame| frame.kind == 0) {
            received.entry(frame.stream).or_default().extend(frame.payload);
        }
        front.handle_sent(key, view, now);
    }
}

/// Watch streams whose clients give no window hold their bound, in the hub and in the session; with a window each gets
/// all it missed, once and in order.
#[test]
fn stalled_watch_streams_hold_their_bound_and_miss_nothing() {
    const STREAMS: u32 = 50;
    const PUTS: u64 = 400;
    let now = Monotonic(1_000_000_000);
    let (mut front, mut keys, mut store) = (front(), Slab::default(), Store::new(1));
    let connection = keys.insert(());
    assert!(front.handle_accepted(connection, 0, now));
    let mut view_now = view(&mut store);
    // No bytes for any stream, many for the connection.
    let preface = [hello(&[(4, 0)]), window_update(0, 1 << 30)].concat();
    front.handle_bytes(connection, &preface, &view_now, now);
    let mut received = BTreeMap::new();
    for stream in (0..STREAMS).map(|number| 1 + 2 * number) {
        front.handle_bytes(connection, &watch(stream), &view_now, now);
        take_sent(&mut front, &view_now, now, &mut received);
    }
    let each = limits::watch::STALLED_QUEUE_BYTES + limits::watch::STALLED_QUEUE_BYTES_PER_WATCH;
    let message_bytes = 512;
    for number in 0..PUTS {
        store.put(b"hot", format!("{number:0256}").as_bytes(), 0);
        store.end_txn();
        view_now = view(&mut store);
        while turn(&mut front, &view_now, now) {}
        take_sent(&mut front, &view_now, now, &mut received);
        let queues = front.queues();
        assert!(queues.watch_bytes <= each, "{} bytes of a stream in the hub", queues.watch_bytes);
        let copies = STREAMS as usize * (each / 2 / WATCH_REFILL_PARTS + message_bytes);
        let unsent = queues.session.unsent_bytes;
        assert!(unsent <= copies, "{unsent} bytes in the session, {copies} are allowed");
    }
    assert!(received.values().all(Vec::is_empty), "no window, no data");
    let counts = front.watch_counts();
    assert_eq!((counts.slow_watchers, counts.turned_behind), (STREAMS as usize, u64::from(STREAMS)));
    for stream in (0..STREAMS).map(|number| 1 + 2 * number) {
        front.handle_bytes(connection, &window_update(stream, 1 << 30), &view_now, now);
    }
    for _ in 0..100 {
        while turn(&mut front, &view_now, now) {}
        take_sent(&mut front, &view_now, now, &mut received);
    }
    assert_eq!(received.len(), STREAMS as usize);
    for data in received.values() {
        // Each value is its number, with zeros before it.
        let (text, zeros) = (String::from_utf8_lossy(data), "0".repeat(250));
        let numbers = text.split(&zeros).skip(1).map(|rest| rest[..6].parse::<u64>());
        assert!(numbers.eq((0..PUTS).map(Ok)), "each event once, in order");
    }
    assert_eq!(front.watch_counts().slow_watchers, 0);
}

/// A watch beyond the member's bound is counted for the metrics.
#[test]
fn watches_beyond_the_bound_are_counted() {
    let now = Monotonic(1_000_000_000);
    let (mut front, mut keys, mut store) = (front(), Slab::default(), Store::new(1));
    front.set_watches_elsewhere(limits::watch::WATCHES_MAX - 1);
    let connection = keys.insert(());
    assert!(front.handle_accepted(connection, 0, now));
    let view = view(&mut store);
    front.handle_bytes(connection, &hello(&[]), &view, now);
    let mut received = BTreeMap::new();
    for (stream, refused) in [(1, 0), (3, 1), (5, 2)] {
        front.handle_bytes(connection, &watch(stream), &view, now);
        take_sent(&mut front, &view, now, &mut received);
        assert_eq!(front.bounds_reached()[Bound::Watches as usize], refused);
    }
    let text = |stream| String::from_utf8_lossy(&received[&stream]).into_owned();
    assert!(!text(1).contains("too many"));
    assert!(text(5).contains("etcdserver: too many watches on the member"));
    assert_eq!(front.watches(), 1);
}

/// A client on a key space of a thousand keys, without windows unless it is given some.
struct Lister {
    front: Front,
    view: View,
    connection: Key,
    now: Monotonic,
    received: BTreeMap<u32, Vec<u8>>,
}

const LISTED: usize = 1_000;

impl Lister {
    fn new() -> Lister {
        let mut store = Store::new(1);
        for key in 0..LISTED {
            store.put(format!("k{key:06}").as_bytes(), b"v", 0);
        }
        store.end_txn();
        let (view, mut front, now) = (view(&mut store), front(), Monotonic(1_000_000_000));
        let connection = Slab::default().insert(());
        assert!(front.handle_accepted(connection, 0, now));
        front.handle_bytes(connection, &hello(&[(4, 0)]), &view, now);
        Lister { front, view, connection, now, received: BTreeMap::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.front.handle_bytes(self.connection, bytes, &self.view, self.now);
    }

    fn list(&mut self, stream: u32) {
        self.send(&request(stream, "/etcdserverpb.KV/Range", [b"k", b"l"], 0));
        self.turn();
    }

    fn turn(&mut self) {
        turn(&mut self.front, &self.view, self.now);
        take_sent(&mut self.front, &self.view, self.now, &mut self.received);
    }

    fn turns(&mut self) -> &Turns {
        &self.front.connection(self.connection).expect("is there").turns
    }

    fn answered(&self) -> u64 {
        self.front.counts()[Rpc::Range as usize].handled[0]
    }

    fn open_windows(&mut self) {
        let settings = raw(kind::SETTINGS, 0, 0, &[0, 4, 0x3f, 0, 0, 0]);
        self.send(&[settings, window_update(0, 1 << 30)].concat());
    }

    fn whole_answers(&self) -> usize {
        self.received.values().filter(|bytes| bytes.len() > 10 * LISTED).count()
    }
}

/// Lists keep records until the client takes them; those that keep too much together are made one after the other.
#[test]
fn lists_that_nobody_takes_wait_and_short_reads_do_not() {
    const LISTS: u32 = 400;
    let mut lister = Lister::new();
    (0..LISTS).for_each(|list| lister.list(2 * list + 1));
    let kept = lister.turns().kept_bytes();
    let (max, one) =
        (limits::request::KEPT_ANSWERS_BYTES_MAX, LISTED * 2 * size_of::<crate::pure::mvcc::RecordRef>());
    let waiting = |front: &Front| {
        front.calls.iter().filter(|(_, call)| matches!(call.state, State::Waiting { .. })).count()
    };
    assert!((max / 4..max + one).contains(&kept), "{kept}");
    assert!(waiting(&lister.front) > LISTS as usize / 2, "{}", waiting(&lister.front));
    let answered = lister.answered();
    lister.send(&request(2 * LISTS + 1, "/etcdserverpb.KV/Range", [b"k000007", b""], 0));
    lister.turn();
    assert_eq!(lister.answered(), answered + 1, "a short one does not wait");
    // Some are given up, made ones and waiting ones.
    for list in [0, 1, LISTS - 1] {
        lister.send(&raw(kind::RST_STREAM, 0, 2 * list + 1, &8_u32.to_be_bytes()));
    }
    lister.open_windows();
    for _ in 0..100 * LISTS {
        lister.turn();
    }
    assert_eq!(lister.whole_answers(), LISTS as usize - 3);
    assert_eq!(
        (lister.turns().kept_bytes(), lister.turns().is_making(), lister.front.calls.len()),
        (0, false, 0)
    );
}

/// Of too many of them not even the requests are looked at, nor is what comes after; nothing is lost.
#[test]
fn where_too_many_lists_wait_all_requests_do() {
    const LISTS: u32 = 2_000;
    let mut lister = Lister::new();
    (0..LISTS).for_each(|list| lister.list(2 * list + 1));
    let max = limits::request::WAITING_LISTS_BYTES_MAX + limits::request::KEPT_ANSWERS_BYTES_MAX;
    assert!(lister.turns().kept_bytes() < max + LISTED * 100);
    assert!(lister.front.calls.len() < LISTS as usize, "{}", lister.front.calls.len());
    let answered = lister.answered();
    lister.send(&request(2 * LISTS + 1, "/etcdserverpb.KV/Range", [b"k000007", b""], 0));
    lister.turn();
    assert_eq!(lister.answered(), answered);
    lister.open_windows();
    for _ in 0..100 * LISTS {
        lister.turn();
    }
    assert_eq!((lister.whole_answers(), lister.answered()), (LISTS as usize, u64::from(LISTS) + 1));
    assert_eq!((lister.turns().kept_bytes(), lister.front.calls.len()), (0, 0));
}

/// The requests of one connection are taken for a part of a turn, and go on in the next.
#[test]
fn requests_of_one_connection_give_way() {
    const GETS: u32 = 3_000;
    let mut lister = Lister::new();
    lister.open_windows();
    let gets = (0..GETS).map(|get| request(2 * get + 1, "/etcdserverpb.KV/Range", [b"k000007", b""], 0));
    lister.send(&gets.collect::<Vec<_>>().concat());
    let part = |units: u32| u64::from(units / limits::slice::EVENT_UNITS);
    let first = lister.answered();
    assert!((1..=part(limits::slice::EVENTS_UNITS)).contains(&first), "{first}");
    assert!(lister.front.has_bulk());
    // Each send that ends is an occasion.
    for _ in 0..2 {
        lister.turn();
    }
    let later = lister.answered() - first;
    assert!(later <= 2 * part(limits::slice::EVENTS_UNITS_PER_TURN), "{later}");
    while lister.front.has_bulk() {
        lister.turn();
    }
    assert_eq!(lister.answered(), u64::from(GETS));
}

/// Input that came while none was taken is taken first: who asks for more than is served meets the bound of streams,
/// and what waits does not grow with each occasion to receive more.
#[test]
fn input_that_waits_is_taken_before_more_is_received() {
    const HASHES: u32 = 400;
    let mut lister = Lister::new();
    let (mut is_paused, mut stream, mut held) = (false, 1, 0);
    for _ in 0..2_000 {
        // What a socket gives in one go, when it is read.
        if !is_paused {
            let hashes = (0..HASHES)
                .map(|hash| request(stream + 2 * hash, "/etcdserverpb.Maintenance/HashKV", [b"", b""], 0));
            lister.send(&hashes.collect::<Vec<_>>().concat());
            stream += 2 * HASHES;
        }
        lister.front.turn(&lister.view, lister.now);
        // Reads go on while sends are under way.
        let mut sends = 0;
        for _ in 0..3 {
            let mut transmit = Transmit::new(limits::shard::SEND_BYTES_MAX, limits::shard::SEND_PIECES_MAX);
            while let Some(outgoing) = lister.front.poll_outgoing(&mut transmit, &mut usize::MAX.clone()) {
                match outgoing {
                    Outgoing::Send(_) => sends += 1,
                    Outgoing::PauseReceive(_) => is_paused = true,
                    Outgoing::ResumeReceive(_) => is_paused = false,
                    Outgoing::Close(_) => unreachable!("it is refused, not cut"),
                }
                transmit.take();
            }
            lister.front.read(&lister.view);
        }
        for _ in 0..sends {
            lister.front.handle_sent(lister.connection, &lister.view, lister.now);
        }
        held = held.max(lister.front.held_bytes());
    }
    assert!(lister.front.bounds_reached()[Bound::Streams as usize] > 100, "it asks for too much");
    assert!(held < 2 * limits::http2::SERVING_BYTES_MAX + (2 << 20), "{held}");
}
