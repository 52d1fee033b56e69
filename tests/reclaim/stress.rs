//! One writer and several readers on threads of their own, as the sequencer and its shards do it: puts, deletes,
//! compactions and cleaning here; short reads, reads over many turns, watchers' cursors and records on their way to
//! clients there. All that is read is compared with a history that was made before. For the sanitizers, and natively.
//! Usage: stress [revisions]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use etchd_reclaim::edge::mesh::{Publisher, Reader, Sleep, mailbox, notice, published};
use etchd_reclaim::edge::shard::slot::ShardSlot;
use etchd_reclaim::pure::mvcc::{
    Access, KeyRange, KvView, LogCursor, RangeQuery, RangeResult, RangeWalk, RecordRef, Retired, SortOrder,
    Store, Version,
};
use etchd_reclaim::pure::types::Revision;
use etchd_reclaim::stdx::prng::Prng;
use etchd_reclaim::stdx::work::{Step, Work};

const READERS: usize = 3;
const KEYS: usize = 96;
/// Values of some size, so that segments are rewritten.
const VALUE_BYTES: usize = 700;
/// The writer waits for readers that lag by more.
const LAG_MAX: Revision = 400;
/// Without any progress for so long the run has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One change of a key.
#[derive(Clone, Copy)]
struct Known {
    main: Revision,
    /// 0 for a delete.
    create: Revision,
    version: i64,
}

/// Everything that will be written.
struct History {
    /// Keys that each revision changes, from revision 2 on, in the order of its changes.
    changes: Vec<Vec<usize>>,
    keys: Vec<Vec<Known>>,
}

impl History {
    fn new(revisions: usize) -> History {
        let mut prng = Prng::new(revisions as u64);
        let mut history = History { changes: vec![Vec::new(); 2], keys: vec![Vec::new(); KEYS] };
        for main in 2..2 + revisions as Revision {
            let mut keys = Vec::new();
            for _ in 0..1 + prng.below(3) {
                // Some keys change all the time, some rarely.
                let bound = if prng.chance(1, 2) { 4 } else { KEYS as u64 };
                let key = prng.below(bound) as usize;
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            for &key in &keys {
                let live = history.keys[key].last().copied().filter(|known| known.create != 0);
                let known = match live {
                    Some(_) if prng.chance(1, 4) => Known { main, create: 0, version: 0 },
                    Some(live) => Known { main, version: live.version + 1, ..live },
                    None => Known { main, create: main, version: 1 },
                };
                history.keys[key].push(known);
            }
            history.changes.push(keys);
        }
        history
    }

    fn last(&self) -> Revision {
        self.changes.len() as Revision - 1
    }

    /// The change of `key` that a read at `revision` sees, if it is no delete.
    fn at(&self, key: usize, revision: Revision) -> Option<Known> {
        let changes = &self.keys[key];
        let after = changes.partition_point(|known| known.main <= revision);
        Some(changes[after.checked_sub(1)?]).filter(|known| known.create != 0)
    }
}

fn name(key: usize) -> Vec<u8> {
    // Keys with a common front, in the order of their numbers; some beyond what an entry holds in itself.
    let tail = if key.is_multiple_of(5) { "x".repeat(60) } else { String::new() };
    format!("/registry/{key:04}/{tail}").into_bytes()
}

fn value(key: usize, main: Revision) -> Vec<u8> {
    let mut value = format!("{key} at {main} ").into_bytes();
    value.resize(VALUE_BYTES, b'a' + (main % 26) as u8);
    value
}

fn ready<T>(access: Access<T>) -> T {
    match access {
        Access::Ready(thing) => thing,
        Access::Pending => unreachable!("all records are in memory"),
    }
}

fn check_record(record: &RecordRef, key: usize, known: Known) {
    assert_eq!((record.main(), record.create(), record.version()), (known.main, known.create, known.version));
    assert_eq!(record.key(), name(key));
    if known.create != 0 {
        assert_eq!(record.value(), value(key, known.main));
    }
}

fn check_version(view: &KvView, key: usize, version: Option<Version>, known: Option<Known>, what: &str) {
    let numbers = |v: Version| (v.main, v.create, v.version);
    let expected = known.map(|known| (known.main, known.create, known.version));
    assert_eq!(version.map(numbers), expected, "{what} of key {key}");
    if let (Some(version), Some(known)) = (version, known) {
        check_record(&ready(view.record(version.addr)), key, known);
    }
}

/// A range over many turns, with its floor.
struct LongRead {
    walk: RangeWalk,
    keys: (usize, usize),
    limit: usize,
}

impl LongRead {
    fn new(prng: &mut Prng, revision: Revision) -> LongRead {
        let from = prng.below(KEYS as u64) as usize;
        let to = from + 1 + prng.below((KEYS - from) as u64) as usize;
        let limit = if prng.chance(1, 3) { 1 + prng.below(20) as usize } else { 0 };
        let query = RangeQuery {
            limit: limit as i64,
            sort_order: SortOrder::Ascend,
            ..RangeQuery::plain(KeyRange::Between(name(from).into(), name(to).into()), revision)
        };
        LongRead { walk: RangeWalk::new(query), keys: (from, to), limit }
    }

    fn check(&self, found: &RangeResult, history: &History) {
        let revision = self.walk.revision();
        let expected: Vec<(usize, Known)> = (self.keys.0..self.keys.1)
            .filter_map(|key| history.at(key, revision).map(|known| (key, known)))
            .collect();
        assert_eq!(found.count, expected.len() as i64, "count at {revision} of {:?}", self.keys);
        let shown = if self.limit == 0 { expected.len() } else { expected.len().min(self.limit) };
        assert_eq!((found.records.len(), found.more), (shown, shown < expected.len()));
        for (record, (key, known)) in found.records.iter().zip(expected) {
            check_record(record, key, known);
        }
    }
}

/// One shard.
struct Shard<'a> {
    history: &'a History,
    views: Reader<KvView>,
    slot: ShardSlot,
    prng: Prng,
    long_reads: VecDeque<LongRead>,
    /// Watches all keys from here on; `None`: no watcher.
    delivered: Option<(Revision, LogCursor)>,
    /// Records that the kernel still sends.
    sending: VecDeque<(RecordRef, usize, Known)>,
    turns: u64,
    long_reads_done: u64,
}

impl Shard<'_> {
    /// One turn; the revision of its view.
    fn turn(&mut self) -> Revision {
        let Shard { history, views, slot, prng, long_reads, delivered, sending, .. } = self;
        let views = views.enter();
        let view = views.load();
        let (low, high) = (view.compact_revision().max(1), view.revision());
        let pick = |prng: &mut Prng| low + prng.below((high - low) as u64 + 1) as Revision;
        for _ in 0..prng.below(6) {
            // The writer goes on meanwhile, even where there are fewer cores than threads.
            if prng.chance(1, 8) {
                thread::yield_now();
            }
            let revision = if prng.chance(1, 2) { low } else { pick(prng) };
            let key = prng.below(KEYS as u64) as usize;
            let known = history.at(key, revision);
            let version = view.get(&name(key), revision);
            check_version(view, key, version, known, "the version");
            if let (Some(version), Some(known)) = (version, known) {
                sending.push_back((ready(view.record(version.addr)), key, known));
            }
        }
        if long_reads.len() < 4 && prng.chance(1, 3) {
            let revision = [low, high, pick(prng)][prng.below(3) as usize];
            long_reads.push_back(LongRead::new(prng, revision));
        }
        // The view may be a newer one for each.
        for _ in 0..long_reads.len() {
            let mut read = long_reads.pop_front().expect("it was counted");
            match read.walk.step(&views.load().clone(), &mut Work::new(1 + prng.below(6) as u32)) {
                Step::Done(found) => {
                    read.check(&found, history);
                    self.long_reads_done += 1;
                }
                Step::More | Step::Pending => long_reads.push_back(read),
            }
        }
        let view = views.load();
        if delivered.is_none() && prng.chance(1, 40) {
            // The floor begins here.
            *delivered = Some((view.revision(), LogCursor::at(view.revision() + 1)));
        }
        for _ in 0..prng.below(40) {
            let Some((next, cursor)) = delivered.as_mut().filter(|(next, _)| *next < view.revision()) else {
                break;
            };
            let main = *next + 1;
            for &key in &history.changes[main as usize] {
                let record = ready(view.next_record(cursor)).expect("the log is whole from the floor on");
                let at = history.keys[key].partition_point(|known| known.main < main);
                check_record(&record, key, history.keys[key][at]);
                let previous = view.previous(&name(key), main);
                check_version(view, key, previous, history.at(key, main - 1), "the previous version");
            }
            *next = main;
        }
        if prng.chance(1, 60) {
            // The watcher goes; another comes in a later turn.
            *delivered = None;
        }
        let reads = long_reads.iter().map(|read| read.walk.revision());
        slot.announce_floor(reads.chain(delivered.as_ref().map(|(revision, _)| *revision)).min());
        let revision = view.revision();
        drop(views);
        while sending.len() > 30 {
            let (record, key, known) = sending.pop_front().expect("it was counted");
            check_record(&record, key, known);
        }
        self.turns += 1;
        revision
    }

    fn run(mut self, progress: &AtomicU64) -> (u64, u64) {
        let last = self.history.last();
        loop {
            let revision = self.turn();
            progress.fetch_add(1, Ordering::Relaxed);
            if revision == last && self.delivered.as_ref().is_none_or(|(delivered, _)| *delivered == last) {
                break;
            }
            if self.turns.is_multiple_of(16) {
                thread::yield_now();
            }
        }
        self.sending.iter().for_each(|(record, key, known)| check_record(record, *key, *known));
        self.slot.announce_floor(None);
        (self.turns, self.long_reads_done)
    }
}

/// The sequencer.
struct Writer<'a> {
    history: &'a History,
    store: Store,
    publisher: Publisher<KvView, Vec<Retired>>,
    slots: Vec<ShardSlot>,
    compacted: (Revision, u64),
    prng: Prng,
    /// Slices that cleaned something, those held back by a floor, and turns that waited for an epoch.
    cleaned: u64,
    held_back: u64,
    waited: u64,
}

impl Writer<'_> {
    fn apply(&mut self) {
        let main = self.store.revision() + 1;
        for &key in &self.history.changes[main as usize] {
            let changes = &self.history.keys[key];
            let known = changes[changes.partition_point(|known| known.main < main)];
            if known.create == 0 {
                assert!(self.store.delete(&name(key)).is_some());
            } else {
                self.store.put(&name(key), &value(key, main), 0);
            }
        }
        assert_eq!(self.store.end_txn(), main);
    }

    fn publish(&mut self) {
        let retired = self.store.take_retired();
        self.publisher.publish(self.store.view());
        if self.store.compact_revision() != self.compacted.0 {
            self.compacted = (self.store.compact_revision(), self.publisher.epoch());
        }
        if !retired.is_empty() {
            self.publisher.retire(retired);
        }
    }

    /// As `Sequencer::turn`; true if everything that may be cleaned is.
    fn clean(&mut self) -> bool {
        let mut is_done = false;
        if self.publisher.has_passed(self.compacted.1) {
            let floor = self.slots.iter().filter_map(ShardSlot::floor).min();
            let target = floor.unwrap_or(Revision::MAX).min(self.store.compact_revision());
            self.held_back += u64::from(target < self.store.compact_revision());
            let mut work = Work::new(400);
            is_done = self.store.clean(target, self.prng.chance(1, 50), &mut work) == Step::Done(());
            if work.used() > 0 {
                self.cleaned += 1;
                self.publish();
            }
        } else {
            self.waited += 1;
        }
        self.publisher.collect();
        is_done
    }

    fn run(&mut self, progress: &AtomicU64) {
        let last = self.history.last();
        while self.store.revision() < last {
            progress.fetch_add(1, Ordering::Relaxed);
            let floor = self.slots.iter().filter_map(ShardSlot::floor).min();
            if floor.is_none_or(|floor| self.store.revision() - floor < LAG_MAX) {
                for _ in 0..1 + self.prng.below(6) {
                    if self.store.revision() < last {
                        self.apply();
                    }
                }
                let kept = self.prng.below(60) as Revision;
                let compact = self.store.revision() - kept;
                if self.prng.chance(1, 8) && compact > self.store.compact_revision().max(1) {
                    self.store.compact(compact);
                }
                self.publish();
            } else {
                thread::yield_now();
            }
            self.clean();
        }
    }
}

fn main() {
    let revisions = std::env::args().nth(1).map_or(60_000, |n| n.parse().expect("a number of revisions"));
    // The others would wait for a thread that failed.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
    let progress: Arc<AtomicU64> = Arc::default();
    watch_over(Arc::clone(&progress));
    pass_messages(revisions * 5, &progress);

    let history = History::new(revisions);
    let mut store = Store::new(7);
    let (publisher, readers) = published(store.view(), READERS);
    let slots: Vec<ShardSlot> = (0..READERS).map(|_| ShardSlot::new()).collect();
    let mut writer = Writer {
        history: &history,
        store,
        publisher,
        slots: slots.clone(),
        compacted: (-1, 0),
        prng: Prng::new(1),
        cleaned: 0,
        held_back: 0,
        waited: 0,
    };
    let (turns, long_reads) = thread::scope(|scope| {
        let shards = readers.into_iter().zip(slots).enumerate();
        let shards = shards.map(|(number, (views, slot))| Shard {
            history: &history,
            views,
            slot,
            prng: Prng::new(100 + number as u64),
            long_reads: VecDeque::new(),
            delivered: None,
            sending: VecDeque::new(),
            turns: 0,
            long_reads_done: 0,
        });
        let threads: Vec<_> = shards.map(|shard| scope.spawn(|| shard.run(&progress))).collect();
        writer.run(&progress);
        let counts = threads.into_iter().map(|thread| thread.join().expect("a shard saw what was written"));
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    });
    // Nobody looks any more: all but the live records goes. By chance that is compacted already.
    if writer.store.compact_revision() < history.last() {
        writer.store.compact(history.last());
    }
    writer.publish();
    while !writer.clean() {}
    writer.publish();
    writer.publisher.collect();
    let live = (0..KEYS).filter(|key| history.at(*key, history.last()).is_some()).count();
    let bytes = writer.store.bytes();
    assert!(bytes.retained < (live as u64 + 8) * (VALUE_BYTES as u64 + 250), "{bytes:?} for {live} keys");
    let Writer { cleaned, held_back, waited, .. } = writer;
    assert!(cleaned > 0 && held_back > 0 && long_reads > 0, "nothing was at stake");
    println!(
        "{revisions} revisions, {turns} turns, {long_reads} long reads, {cleaned} slices of cleaning, \
         {held_back} held back by a floor, {waited} by an epoch"
    );
}

/// Two threads that hand boxes to and fro, asleep whenever they can.
fn pass_messages(count: usize, progress: &AtomicU64) {
    const CREDITS: usize = 3;
    let (mut there, mut from_here) = mailbox::<Box<usize>>(CREDITS);
    let (mut back, mut from_there) = mailbox::<Box<usize>>(CREDITS);
    let sleeps = [Sleep::new(), Sleep::new()];
    let here = thread::current();
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let mut seen = 0;
            while seen < count {
                while let Some(boxed) = from_here.receive() {
                    assert_eq!(*boxed, seen);
                    seen += 1;
                    assert!(back.send(boxed).is_ok(), "answers have room for all credits");
                    if sleeps[0].notify(notice::CALLED) {
                        here.unpark();
                    }
                }
                if seen < count {
                    sleep(&sleeps[1]);
                }
            }
        });
        let (mut sent, mut answered) = (0, 0);
        while answered < count {
            while sent < count && sent - answered < CREDITS {
                assert!(there.send(Box::new(sent)).is_ok(), "there is room for all credits");
                sent += 1;
                if sleeps[1].notify(notice::CALLED) {
                    answering.thread().unpark();
                }
            }
            while let Some(boxed) = from_there.receive() {
                assert_eq!(*boxed, answered);
                answered += 1;
            }
            progress.fetch_add(1, Ordering::Relaxed);
            if answered < sent && (sent == count || sent - answered == CREDITS) {
                sleep(&sleeps[0]);
            }
        }
        // Not left to the scope: the thread sanitizer sees only an explicit end.
        answering.join().expect("the other thread ends");
    });
}

/// Sleeps until there is a notice.
fn sleep(state: &Sleep) {
    if state.try_sleep() {
        thread::park();
    }
    state.awake();
}

/// Ends the process when nothing goes on any more.
fn watch_over(progress: Arc<AtomicU64>) {
    thread::spawn(move || {
        let mut before = u64::MAX;
        loop {
            let now = progress.load(Ordering::Relaxed);
            if now == before {
                eprintln!("nothing goes on for {PATIENCE:?}: a deadlock or a lost wake");
                std::process::exit(1);
            }
            before = now;
            thread::sleep(PATIENCE);
        }
    });
}
