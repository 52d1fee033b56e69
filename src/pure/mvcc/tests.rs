//! The key space against real etcd's numbers, against a plain model, and under threads.

use std::collections::BTreeMap;

use super::*;
use crate::stdx::prng::Prng;
use crate::stdx::work::{Step, Work};

fn hash_at(store: &mut Store, revision: Revision, slice: u32) -> u32 {
    let view = store.view();
    let mut walk = HashWalk::new(&view, revision);
    loop {
        match walk.step(&view, &mut Work::new(slice)) {
            Step::Done(hash) => return hash,
            Step::More => {}
            Step::Pending => unreachable!("all records are in memory"),
        }
    }
}

fn clean_all(store: &mut Store, floor: Revision, forced: bool, slice: u32) {
    while store.clean(floor, forced, &mut Work::new(slice)) != Step::Done(()) {}
    drop(store.take_retired());
}

fn put(store: &mut Store, key: &str, value: &str) {
    store.put(key.as_bytes(), value.as_bytes(), 0);
    store.end_txn();
}

fn ready<T>(access: Access<T>) -> T {
    match access {
        Access::Ready(thing) => thing,
        Access::Pending => unreachable!("all records are in memory"),
    }
}

/// Numbers that etcd 3.5.1 gave (formats/ids-and-hashes.md), before and after a compaction, and no
/// matter how far cleaning has come.
#[test]
fn hashes_equal_those_of_etcd() {
    let mut store = Store::new(1);
    put(&mut store, "foo", "bar");
    put(&mut store, "foo", "bar2");
    store.put(b"a", b"1", 0);
    store.put(b"b", b"2", 0);
    assert_eq!(store.end_txn(), 4);
    assert!(store.delete(b"foo").is_some());
    store.end_txn();
    store.put(b"k", b"v", 0x6fbc_a1fc_2077_8805);
    store.end_txn();

    let before = [(2, 3305255506), (3, 3581052765), (4, 126539555), (5, 4238624442), (6, 2680567280)];
    for (revision, hash) in before {
        assert_eq!(hash_at(&mut store, revision, 1_000), hash, "at {revision}");
        assert_eq!(hash_at(&mut store, revision, 1), hash, "at {revision} in slices");
    }
    store.compact(3);
    for _ in 0..2 {
        assert_eq!(hash_at(&mut store, 6, 1), 3311400294);
        assert_eq!(hash_at(&mut store, 4, 1), 1219665780);
        clean_all(&mut store, 3, true, 1);
    }
}

/// Numbers that etcd 3.5.30 gave: a tombstone at exactly the compact revision.
#[test]
fn hashes_skip_a_tombstone_at_the_compact_revision() {
    let mut store = Store::new(1);
    put(&mut store, "foo", "1");
    put(&mut store, "foo", "2");
    store.delete(b"foo");
    store.end_txn();
    put(&mut store, "b", "x");
    put(&mut store, "b", "y");
    let before = [(2, 1652237581), (3, 300515633), (4, 3414835680), (5, 491622400), (6, 226783591)];
    for (revision, hash) in before {
        assert_eq!(hash_at(&mut store, revision, 1), hash, "at {revision}");
    }
    store.compact(4);
    for _ in 0..2 {
        assert_eq!(hash_at(&mut store, 6, 1), 162904817);
        assert_eq!(hash_at(&mut store, 5, 1), 376657901);
        clean_all(&mut store, 4, true, 1);
    }
    put(&mut store, "b", "z");
    store.compact(6);
    for _ in 0..2 {
        assert_eq!(hash_at(&mut store, 7, 1), 730364208);
        clean_all(&mut store, 6, true, 1);
    }
}

/// Where nothing is live at the revision, etcd has no set to go by and hashes what is on disk: after a
/// finished compaction the newest of each key up to it.
#[test]
fn hashes_of_a_deleted_key_space_skip_nothing_that_is_left() {
    let (mut store, mut model) = (Store::new(1), Model::default());
    let changes =
        [("a", true), ("a", true), ("c", true), ("c", false), ("b", true), ("a", false), ("b", false)];
    for (key, put) in changes {
        let main = store.revision() + 1;
        if put {
            store.put(key.as_bytes(), b"v", 0);
        } else {
            assert!(store.delete(key.as_bytes()).is_some());
        }
        store.end_txn();
        model.change(key.as_bytes(), main, 0, put.then_some((b"v", 0)));
    }
    store.compact(5);
    for _ in 0..2 {
        // What etcd 3.5.1 answered after these very requests. At 8 it hashed 3, 6, 7 and 8.
        for (revision, hash) in [(6, 340601434), (7, 814686172), (8, 168515402)] {
            assert_eq!(hash_at(&mut store, revision, 1), hash, "at {revision}");
            assert_eq!(model.hash(revision, 5), hash, "at {revision}");
        }
        clean_all(&mut store, 5, true, 1);
    }
}

/// The stored message is the one of the example bytes.
#[test]
fn records_hold_the_bytes_of_etcd() {
    let mut store = Store::new(1);
    store.put(b"k", b"v", 0x6fbc_a1fc_2077_8805);
    store.end_txn();
    store.delete(b"k");
    store.end_txn();
    let view = store.view();
    let mut cursor = LogCursor::at(2);
    let record = ready(view.next_record(&mut cursor)).expect("a put");
    let expected = b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v\x30\x85\x90\xde\x83\xc2\xbf\xa8\xde\x6f";
    assert_eq!(record.kv_bytes(), expected);
    assert_eq!((record.main(), record.sub(), record.create(), record.version()), (2, 0, 2, 1));
    assert_eq!((record.key(), record.value(), record.lease()), (&b"k"[..], &b"v"[..], 0x6fbc_a1fc_2077_8805));
    let record = ready(view.next_record(&mut cursor)).expect("a delete");
    assert_eq!(record.kv_bytes(), b"\x0a\x01k\x18\x03");
    assert!(record.is_tombstone() && record.value().is_empty());
    assert!(ready(view.next_record(&mut cursor)).is_none());
}

/// A version as the model keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    main: Revision,
    sub: i64,
    create: Revision,
    version: i64,
    lease: i64,
    key: Vec<u8>,
    value: Vec<u8>,
    bytes: u64,
}

impl Known {
    fn same(&self, record: &RecordRef) -> bool {
        (self.main, self.sub, self.create, self.version, self.lease)
            == (record.main(), record.sub(), record.create(), record.version(), record.lease())
            && self.key == record.key()
            && self.value == record.value()
            && record.is_tombstone() == (self.create == 0)
    }
}

/// The full history, as plain as can be.
#[derive(Clone, Default)]
struct Model {
    log: Vec<Known>,
    keys: BTreeMap<Vec<u8>, Vec<Known>>,
}

impl Model {
    fn at(&self, key: &[u8], revision: Revision) -> Option<&Known> {
        let newest = self.keys.get(key)?.iter().rev().find(|k| k.main <= revision)?;
        (newest.create != 0).then_some(newest)
    }

    fn change(&mut self, key: &[u8], main: Revision, sub: i64, write: Option<(&[u8], i64)>) {
        let live = self.at(key, main).cloned();
        let (create, version) = match (&live, write) {
            (_, None) => (0, 0),
            (Some(live), _) => (live.create, live.version + 1),
            (None, _) => (main, 1),
        };
        let (value, lease) = write.unwrap_or((b"", 0));
        let (key, value) = (key.to_vec(), value.to_vec());
        let known = Known { main, sub, create, version, lease, key: key.clone(), value, bytes: 0 };
        self.log.push(known.clone());
        let list = self.keys.entry(key).or_default();
        list.pop_if(|last| last.main == main);
        list.push(known);
    }

    /// A range by the book (behaviours.md, 2).
    fn range(&self, q: &RangeQuery) -> (Vec<Known>, i64, bool) {
        let inside = |key: &[u8]| match &q.keys {
            KeyRange::Point(k) => key == k,
            KeyRange::From(start) => key >= start,
            KeyRange::Between(start, end) => key >= start && key < end,
        };
        let keys = self.keys.keys().filter(|k| inside(k));
        let mut found: Vec<Known> = keys.filter_map(|k| self.at(k, q.revision)).cloned().collect();
        let count = found.len() as i64;
        if q.count_only {
            return (Vec::new(), count, false);
        }
        let bounds = [q.min_mod_revision, q.max_mod_revision, q.min_create_revision, q.max_create_revision];
        if q.limit > 0 && q.sort_order == SortOrder::None && bounds == [0; 4] {
            found.truncate(q.limit as usize + 1);
        }
        found.retain(|k| bounds[0] == 0 || k.main >= bounds[0]);
        found.retain(|k| bounds[1] == 0 || k.main <= bounds[1]);
        found.retain(|k| bounds[2] == 0 || k.create >= bounds[2]);
        found.retain(|k| bounds[3] == 0 || k.create <= bounds[3]);
        found.sort_by(|a, b| {
            let order = match q.sort_target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create.cmp(&b.create),
                SortTarget::Mod => a.main.cmp(&b.main),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if q.sort_order == SortOrder::Descend { order.reverse() } else { order }
        });
        let more = q.limit > 0 && found.len() > q.limit as usize;
        if more {
            found.truncate(q.limit as usize);
        }
        (found, count, more)
    }

    fn hash(&self, revision: Revision, compact: Revision) -> u32 {
        let kept =
            |at: Revision| -> Vec<&Known> { self.keys.keys().filter_map(|k| self.at(k, at)).collect() };
        let mut keep = kept(revision);
        if keep.is_empty() {
            keep = kept(compact);
        }
        let mut bytes = b"key".to_vec();
        for k in self.log.iter().filter(|k| k.main <= revision) {
            let kept = keep.iter().any(|kept| (kept.main, kept.sub) == (k.main, k.sub));
            if k.main > compact || kept {
                bytes.extend(k.main.to_be_bytes());
                bytes.push(b'_');
                bytes.extend(k.sub.to_be_bytes());
                bytes.extend((k.create == 0).then_some(b't'));
                bytes.extend(stored(k));
            }
        }
        crc32c::crc32c(&bytes)
    }

    /// Bytes of the records that a cleaning at `floor` keeps (rule B2).
    fn retained(&self, floor: Revision) -> u64 {
        let keeps = |k: &&Known| {
            let next = self.log.iter().find(|n| n.key == k.key && (n.main, n.sub) > (k.main, k.sub));
            k.main >= floor || (k.create != 0 && next.is_none_or(|n| n.main > floor))
        };
        self.log.iter().filter(keeps).map(|k| k.bytes).sum()
    }
}

/// An independent encoder of the stored message.
fn stored(k: &Known) -> Vec<u8> {
    use prost::encoding::{bytes, int64};
    let mut out = Vec::new();
    bytes::encode(1, &k.key, &mut out);
    if k.create != 0 {
        for (tag, number) in [(2, k.create), (3, k.main), (4, k.version)] {
            int64::encode(tag, &number, &mut out);
        }
        if !k.value.is_empty() {
            bytes::encode(5, &k.value, &mut out);
        }
        if k.lease != 0 {
            int64::encode(6, &k.lease, &mut out);
        }
    }
    out
}

fn key_of(number: u64) -> Vec<u8> {
    // Keys with common prefixes of more than eight bytes, long ones, and one that is another's prefix.
    match number % 4 {
        0 => format!("k{number}").into_bytes(),
        1 => format!("/registry/pods/{number:03}").into_bytes(),
        2 => format!("/registry/pods/{}{number}", "x".repeat(50)).into_bytes(),
        _ => [b"k".to_vec(), vec![0; (number % 7) as usize]].concat(),
    }
}

fn random_query(prng: &mut Prng, low: Revision, high: Revision) -> RangeQuery {
    let bytes = |prng: &mut Prng| bytes::Bytes::from(key_of(prng.below(30)));
    let keys = match prng.below(5) {
        0 => KeyRange::Point(bytes(prng)),
        1 => KeyRange::From(bytes(prng)),
        2 => KeyRange::From(bytes::Bytes::from_static(b"\0")),
        _ => KeyRange::Between(bytes(prng), bytes(prng)),
    };
    let bound = |prng: &mut Prng| if prng.chance(1, 6) { prng.below(high as u64 + 2) as i64 - 1 } else { 0 };
    use {SortOrder as O, SortTarget as T};
    RangeQuery {
        keys,
        revision: if prng.chance(1, 3) { high } else { low + prng.below((high - low) as u64 + 1) as i64 },
        limit: if prng.chance(1, 2) { prng.below(6) as i64 - 1 } else { 0 },
        count_only: prng.chance(1, 8),
        keys_only: prng.chance(1, 8),
        sort_order: [O::None, O::None, O::Ascend, O::Descend][prng.below(4) as usize],
        sort_target: [T::Key, T::Key, T::Version, T::Create, T::Mod, T::Value][prng.below(6) as usize],
        min_mod_revision: bound(prng),
        max_mod_revision: bound(prng),
        min_create_revision: bound(prng),
        max_create_revision: bound(prng),
    }
}

fn assert_range(result: &RangeResult, expected: &(Vec<Known>, i64, bool), query: &RangeQuery) {
    let equal = result.records.len() == expected.0.len()
        && result.records.iter().zip(&expected.0).all(|(record, known)| known.same(record));
    assert!(
        equal && (result.count, result.more) == (expected.1, expected.2),
        "{query:?}\n got {result:?}\nwant {expected:?}"
    );
}

fn run_range(view: &KvView, query: &RangeQuery, slice: u32) -> RangeResult {
    let mut walk = RangeWalk::new(query.clone());
    loop {
        match walk.step(view, &mut Work::new(slice)) {
            Step::Done(result) => return result,
            Step::More => {}
            Step::Pending => unreachable!("all records are in memory"),
        }
    }
}

/// All that a view shows from `low` on, against the model.
fn check_view(view: &KvView, model: &Model, low: Revision, prng: &mut Prng) {
    let high = view.revision();
    for revision in low..=high {
        for key in model.keys.keys() {
            let (got, want) = (view.get(key, revision), model.at(key, revision));
            assert_eq!(
                got.map(|v| (v.main, v.create, v.version)),
                want.map(|k| (k.main, k.create, k.version))
            );
            if let (Some(got), Some(want)) = (got, want) {
                assert!(want.same(&ready(view.record(got.addr))));
            }
        }
    }
    let live = model.keys.keys().filter(|k| model.at(k, high).is_some()).count();
    assert_eq!(view.live_keys(), live as u64);
    for _ in 0..6 {
        let query = random_query(prng, low, high);
        let result = run_range(view, &query, 1 + prng.below(4) as u32);
        assert_range(&result, &model.range(&query), &query);
    }
    let mut cursor = LogCursor::at(low);
    for known in model.log.iter().filter(|k| k.main >= low && k.main <= high) {
        let record = ready(view.next_record(&mut cursor)).expect("the log is complete from the floor on");
        assert!(known.same(&record), "got {record:?}, want {known:?}");
        if known.main > low {
            let (got, want) = (view.previous(&known.key, known.main), model.at(&known.key, known.main - 1));
            assert_eq!(got.map(|v| v.main), want.map(|k| k.main));
        }
    }
    assert!(ready(view.next_record(&mut cursor)).is_none());
    for _ in 0..4 {
        let revision = low + prng.below((high - low + 3) as u64) as Revision;
        cursor.seek(revision);
        let jumped = ready(view.next_record(&mut cursor)).map(|record| (record.main(), record.sub()));
        let fresh = ready(view.next_record(&mut LogCursor::at(revision)));
        assert_eq!(jumped, fresh.map(|record| (record.main(), record.sub())), "after a jump to {revision}");
    }
}

/// Something that keeps a floor while the world goes on.
#[expect(clippy::large_enum_variant, reason = "a few in a test")]
enum Held {
    View(KvView),
    Range(RangeWalk, RangeQuery, (Vec<Known>, i64, bool)),
    Hash(HashWalk, u32),
    Cursor(LogCursor, usize),
}

struct World {
    store: Store,
    model: Model,
    prng: Prng,
    /// With the floor that each needs.
    held: Vec<(Revision, Held)>,
    floor: Revision,
}

impl World {
    fn new(seed: u64) -> World {
        let store = Store::with_segments(seed, 2_000);
        World { store, model: Model::default(), prng: Prng::new(seed), held: Vec::new(), floor: 0 }
    }

    fn transaction(&mut self) {
        let main = self.store.revision() + 1;
        for _ in 0..self.prng.below(4) {
            let key = key_of(self.prng.below(30));
            let sub = self.store.changes();
            let live = self.model.at(&key, main).map(|k| (k.main, k.create, k.version, k.lease));
            assert_eq!(self.store.live(&key).map(|v| (v.main, v.create, v.version, v.lease)), live);
            let former = if self.prng.chance(2, 5) {
                let former = self.store.delete(&key);
                if former.is_some() {
                    self.model.change(&key, main, sub, None);
                }
                former
            } else {
                let length = if self.prng.chance(1, 50) { 3_000 } else { self.prng.below(20) };
                let value = vec![b'a' + (self.prng.below(3) as u8); length as usize];
                let lease = self.prng.below(2) as i64 * 77;
                self.model.change(&key, main, sub, Some((&value, lease)));
                self.store.put(&key, &value, lease)
            };
            assert_eq!(former.map(|v| (v.main, v.create, v.version, v.lease)), live);
            assert_eq!(
                self.store.working_revision(),
                self.model.log.last().map_or(1, |k| k.main).max(main - 1)
            );
            if let Some(known) = self.model.log.last_mut().filter(|_| self.store.changes() > sub) {
                let mut cursor = LogCursor::at(main);
                let view = self.store.view();
                let mut last = None;
                while let Some(record) = ready(view.next_record(&mut cursor)) {
                    last = Some(record);
                }
                let last = last.expect("the change just made");
                assert!(known.same(&last));
                known.bytes = last.bytes().len() as u64;
            }
        }
        if self.prng.chance(1, 20) {
            let view = self.store.view();
            let query = random_query(&mut self.prng, view.revision(), view.revision());
            assert_range(&run_range(&view, &query, 3), &self.model.range(&query), &query);
        }
        self.store.end_txn();
    }

    fn hold(&mut self) {
        let view = self.store.view();
        let (compact, high) = (view.compact_revision().max(0), view.revision());
        let low = compact.max(self.floor);
        let held = match self.prng.below(4) {
            0 => (if self.prng.chance(1, 2) { low } else { high }, Held::View(view)),
            1 => {
                let query = random_query(&mut self.prng, low, high);
                let expected = self.model.range(&query);
                (query.revision, Held::Range(RangeWalk::new(query.clone()), query, expected))
            }
            2 => {
                let revision = low + self.prng.below((high - low) as u64 + 1) as i64;
                let expected = self.model.hash(revision, view.compact_revision());
                (low, Held::Hash(HashWalk::new(&view, revision), expected))
            }
            _ => {
                let at = self.model.log.iter().position(|k| k.main >= low).unwrap_or(self.model.log.len());
                (low, Held::Cursor(LogCursor::at(low), at))
            }
        };
        self.held.push(held);
    }

    /// Lets one of the held ones go on; true when it is over.
    fn go_on(&mut self, at: usize) -> bool {
        let slice = 1 + self.prng.below(5) as u32;
        let now = self.store.view();
        let World { held, model, prng, .. } = self;
        let (floor, held) = &mut held[at];
        match held {
            Held::View(view) => {
                check_view(view, model, *floor, prng);
                prng.chance(1, 2)
            }
            Held::Range(walk, query, expected) => match walk.step(&now, &mut Work::new(slice)) {
                Step::Done(result) => {
                    assert_range(&result, expected, query);
                    true
                }
                Step::More | Step::Pending => false,
            },
            Held::Hash(walk, expected) => match walk.step(&now, &mut Work::new(slice)) {
                Step::Done(hash) => {
                    assert_eq!(hash, *expected);
                    true
                }
                Step::More | Step::Pending => false,
            },
            Held::Cursor(cursor, next) => {
                for _ in 0..slice {
                    let known = model.log.get(*next);
                    let record = ready(now.next_record(cursor));
                    assert_eq!(known.map(|k| k.main), record.as_ref().map(RecordRef::main));
                    let (Some(known), Some(record)) = (known, record) else { break };
                    assert!(known.same(&record));
                    (*next, *floor) = (*next + 1, known.main);
                }
                prng.chance(1, 30)
            }
        }
    }

    fn clean(&mut self) {
        let compact = self.store.compact_revision();
        let floor = self.held.iter().map(|(floor, _)| *floor).chain([compact]).min().unwrap_or(compact);
        let (forced, slice) = (self.prng.chance(1, 4), 1 + self.prng.below(60) as u32);
        self.floor = self.floor.max(floor);
        for _ in 0..self.prng.below(30) {
            if self.store.clean(floor, forced, &mut Work::new(slice)) == Step::Done(()) {
                let Bytes { retained, total } = self.store.bytes();
                assert_eq!(retained, self.model.retained(self.floor));
                assert!(retained == total || !forced);
                break;
            }
        }
        if self.prng.chance(1, 2) {
            drop(self.store.take_retired());
        }
    }

    fn round(&mut self) {
        self.transaction();
        let span = self.store.revision() - self.store.compact_revision();
        if self.prng.chance(1, 12) && span > 0 {
            let to = self.store.compact_revision() + 1 + self.prng.below(span as u64) as i64;
            self.store.compact(to);
        }
        if self.prng.chance(1, 4) {
            self.clean();
        }
        if self.held.len() < 8 && self.prng.chance(1, 3) {
            self.hold();
        }
        if !self.held.is_empty() && self.prng.chance(2, 3) {
            let at = self.prng.below(self.held.len() as u64) as usize;
            if self.go_on(at) {
                self.held.swap_remove(at);
            }
        }
    }
}

/// Everything that can be seen, at every revision, through views and walks that are held while the
/// writer writes, compacts and cleans.
#[test]
fn equals_a_model_of_the_full_history() {
    let seeds = std::env::var("MVCC_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        (0..300).for_each(|_| world.round());
        world.held.clear();
        let compact = world.store.compact_revision();
        clean_all(&mut world.store, compact, true, 7);
        assert_eq!(world.store.bytes().total, world.model.retained(compact.max(world.floor)), "seed {seed}");
        let view = world.store.view();
        check_view(&view, &world.model, compact.max(0), &mut world.prng);
    }
}

/// A key with very many versions: reads at every revision, then cleaning to one version gives all of
/// it back, chunks too, in bounded slices.
#[test]
fn a_hot_key_shrinks_to_its_last_version() {
    let mut store = Store::new(1);
    for n in 0..20_000 {
        put(&mut store, "hot", &n.to_string());
    }
    let view = store.view();
    for revision in (2..=20_001).step_by(997) {
        let version = view.get(b"hot", revision).expect("it was there");
        assert_eq!((version.main, version.version), (revision, revision - 1));
    }
    drop(view);
    for (compact, left) in [(10_000, 10_002), (20_001, 1)] {
        store.compact(compact);
        let mut slices = 0;
        while store.clean(compact, false, &mut Work::new(100)) != Step::Done(()) {
            slices += 1;
        }
        assert!(slices > 90, "no slice does it all");
        let entry = store.keys.find(b"hot").expect("it is live");
        let slots = entry.entry().slots();
        assert!((left..=left + 64).contains(&slots), "{slots} slots for {left} versions");
    }
    let retired = store.take_retired();
    assert!(retired.len() >= 4, "long lists are freed in pieces");
    assert_eq!(store.bytes().retained, 64 + 5 + 2 + 4 + 4 + 7);
    assert!(store.bytes().total < 2 << 20);
}

/// Memory after churn is that of the live data, and numbers of segments are used again.
#[test]
fn churn_with_compactions_stays_small() {
    let mut store = Store::with_segments(1, 4_000);
    let mut total_max = 0;
    for round in 0..200 {
        for key in 0..20 {
            put(&mut store, &format!("key{key}"), "some value of some length");
        }
        put(&mut store, &format!("once{round}"), "x");
        store.delete(format!("once{round}").as_bytes());
        let revision = store.end_txn();
        store.compact(revision);
        clean_all(&mut store, revision, false, 50);
        total_max = total_max.max(store.bytes().total);
    }
    assert!(total_max < 20_000, "{total_max} bytes for 21 small records");
    assert_eq!(store.view().live_keys(), 20);
    assert!(store.tree.len() <= 21);
    assert!(store.log.numbers() < 20, "{} numbers", store.log.numbers());
}

/// What a view can reach stays although it was retired, and even if the store goes first.
#[test]
fn views_outlive_cleaning_and_the_store() {
    let mut store = Store::with_segments(1, 500);
    for n in 0..50 {
        put(&mut store, "a", &n.to_string());
        put(&mut store, &format!("b{n}"), "x");
        store.delete(format!("b{n}").as_bytes());
        store.end_txn();
    }
    let view = store.view();
    let revision = view.revision();
    store.compact(revision);
    clean_all(&mut store, revision, true, 10);
    assert!(store.bytes().total < 500);
    let read = |view: &KvView| {
        let version = view.get(b"a", view.revision()).expect("it is live");
        assert_eq!(ready(view.record(version.addr)).value(), b"49");
        assert!(view.get(b"b7", view.revision()).is_none());
        let mut cursor = LogCursor::at(revision - 3);
        while ready(view.next_record(&mut cursor)).is_some() {}
    };
    read(&view);
    put(&mut store, "a", "later");
    drop(store);
    read(&view);
    let other = view.clone();
    drop(view);
    read(&other);
}

/// A view keeps nothing that was cut before it was taken.
#[test]
fn later_views_keep_no_earlier_garbage() {
    let mut store = Store::new(1);
    (0..300).for_each(|n| put(&mut store, "a", &n.to_string()));
    let before = store.view();
    let revision = store.revision();
    store.compact(revision);
    while store.clean(revision, true, &mut Work::new(100)) != Step::Done(()) {}
    let after = store.view();
    assert!(store.take_retired().is_empty(), "a view from before is there");
    drop(before);
    assert!(!store.take_retired().is_empty(), "only a view from after is there");
    assert!(after.get(b"a", revision).is_some());
}

/// The walk at the newest revision counts without visiting, and stops behind its limit.
#[test]
fn a_page_of_many_costs_a_page() {
    let mut store = Store::new(1);
    for n in 0..5_000 {
        store.put(format!("{n:05}").as_bytes(), b"v", 0);
    }
    store.end_txn();
    for n in 1_000..3_000 {
        assert!(store.delete(format!("{n:05}").as_bytes()).is_some());
    }
    store.end_txn();
    let view = store.view();
    let query = RangeQuery {
        limit: 50,
        sort_order: SortOrder::Ascend,
        ..RangeQuery::plain(KeyRange::From(bytes::Bytes::from_static(b"00990")), view.revision())
    };
    let mut work = Work::new(1_000);
    let Step::Done(result) = RangeWalk::new(query.clone()).step(&view, &mut work) else {
        panic!("a page is one slice")
    };
    assert_eq!((result.records.len(), result.count, result.more), (50, 2_010, true));
    assert!(work.used() <= 55, "{} units for a page of 50", work.used());
    let mut work = Work::new(1_000);
    let counting = RangeQuery { count_only: true, ..query };
    let Step::Done(result) = RangeWalk::new(counting).step(&view, &mut work) else {
        panic!("a count is one slice")
    };
    assert_eq!((result.records.len(), result.count, result.more), (0, 2_010, false));
    assert!(work.used() <= 2, "{} units for a count", work.used());
}

/// What the threads of the next test share.
struct Stage {
    /// The published view and its epoch.
    current: std::sync::Mutex<(u64, KvView)>,
    /// Epoch that each reader is in; `u64::MAX` outside.
    readers: Vec<std::sync::atomic::AtomicU64>,
    stop: std::sync::atomic::AtomicBool,
}

/// A reader checks that what it sees at each revision of its view is what was written there: every
/// value is made of its revision and key.
fn read_until_stopped(stage: &Stage, me: usize) -> u64 {
    use std::sync::atomic::Ordering;
    let (mut prng, mut turns) = (Prng::new(me as u64), 0);
    let mut cursor = LogCursor::default();
    while turns == 0 || !stage.stop.load(Ordering::SeqCst) {
        let view = {
            let current = stage.current.lock().expect("no panic under the lock");
            stage.readers[me].store(current.0, Ordering::SeqCst);
            current.1.clone()
        };
        let low = view.compact_revision().max(1);
        let revision = low + prng.below((view.revision() - low) as u64 + 1) as i64;
        for n in 0..8 {
            let key = format!("key{n}");
            let Some(version) = view.get(key.as_bytes(), revision) else { continue };
            assert!(version.main <= revision);
            let record = ready(view.record(version.addr));
            assert_eq!((record.main(), record.key()), (version.main, key.as_bytes()));
            assert_eq!(record.value(), format!("{n} at {}", version.main).as_bytes());
        }
        let query = RangeQuery { revision, ..random_query(&mut prng, revision, revision) };
        run_range(&view, &query, 100);
        for _ in 0..20 {
            let Some(record) = ready(view.next_record(&mut cursor)) else { break };
            assert!(record.main() <= view.revision());
        }
        turns += 1;
        std::thread::yield_now();
        drop(view);
        stage.readers[me].store(u64::MAX, Ordering::SeqCst);
    }
    turns
}

/// Readers on threads, a writer that appends, compacts and cleans, and what is retired freed once
/// all readers have left the epoch.
#[test]
fn readers_on_threads_see_what_was_written() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    const READERS: usize = 2;
    let mut store = Store::with_segments(1, 2_000);
    let stage = Stage {
        current: std::sync::Mutex::new((0, store.view())),
        readers: (0..READERS).map(|_| AtomicU64::new(u64::MAX)).collect(),
        stop: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let stage = &stage;
        let readers: Vec<_> =
            (0..READERS).map(|me| scope.spawn(move || read_until_stopped(stage, me))).collect();
        let mut prng = Prng::new(9);
        let mut retired = Vec::new();
        for epoch in 1..700 {
            for _ in 0..prng.below(4) {
                let n = prng.below(8);
                let (key, main) = (format!("key{n}"), store.revision() + 1);
                if prng.chance(1, 3) {
                    store.delete(key.as_bytes());
                } else {
                    store.put(key.as_bytes(), format!("{n} at {main}").as_bytes(), 0);
                }
                store.end_txn();
            }
            // Cleaning stays behind what a reader may have picked from the view before.
            let floor = stage.current.lock().expect("no panic").1.compact_revision();
            if stage.readers.iter().all(|r| r.load(Ordering::SeqCst) >= epoch - 1) {
                let done = store.clean(floor, prng.chance(1, 5), &mut Work::new(60));
                assert!(matches!(done, Step::Done(()) | Step::More));
            }
            if store.revision() - store.compact_revision() > 100 {
                store.compact(store.revision() - 20);
            }
            *stage.current.lock().expect("no panic under the lock") = (epoch, store.view());
            retired.push((epoch, store.take_retired()));
            let oldest = stage.readers.iter().map(|r| r.load(Ordering::SeqCst)).min().expect("readers");
            retired.retain(|(cut, _)| *cut > oldest || oldest == 0);
        }
        stage.stop.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.join().expect("a reader saw what was written") > 0);
        }
    });
    assert!(store.compact_revision() > 100);
}
