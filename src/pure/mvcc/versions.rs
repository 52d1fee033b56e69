//! Version lists: per key a list of slots, newest first, in chunks that only grow at the head.
//!
//! Owns: [`Entry`] (a key and its list), the pointers between chunks, what was cut off ([`Garbage`]).
//! Takes: versions to append, floors to cut at. Gives: the version that a revision sees.
//! Always true: mains of a list strictly ascend towards the head; a slot below `len` never changes,
//! but for its address (and, while its revision is not yet published, for all but its main).
//! Not here: which keys exist, where records lie, when nobody looks any more (the store's `Holds`).
//!
//! The only file of `pure` with `unsafe`. All blocks rest on three facts:
//! 1. One writer: `append`, `replace_newest`, `cut`, `swing` and the making and freeing of entries
//!    are called by the one `Store` that owns them (`&mut Store`), never by readers.
//! 2. Readers come through a `KvView`. What is cut off becomes [`Garbage`], and the store frees garbage
//!    only after every view is gone that existed when it was cut (`holds.rs`), or leaves it to the last.
//! 3. Slots are atomics and are published by `len` or by the head pointer (Release, Acquire).
#![expect(unsafe_code, reason = "readers follow pointers that the one writer appends and cuts")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cmp::Ordering as Order;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::{Addr, Version};
use crate::pure::types::Revision;
use crate::stdx::append::{AppendBuf, Directory};
use crate::stdx::sync::{AtomicI64, AtomicPtr, AtomicU16, AtomicU64, Life, Ordering, owned};

/// Slots of a chunk by its place in a growing list. The last repeats.
const CAPACITIES: [u16; 4] = [1, 4, 16, 64];
/// Chunks that one piece of garbage frees at most, so that freeing a long list can be spread.
const CHUNKS_PER_PIECE: usize = 128;

/// A key's bytes; most keys lie in the entry itself, which saves a cache miss a look-up.
enum KeyBytes {
    Inline { len: u8, bytes: [u8; KeyBytes::INLINE] },
    Heap(Box<[u8]>),
}

impl KeyBytes {
    const INLINE: usize = 46;

    fn new(key: &[u8]) -> KeyBytes {
        if key.len() > KeyBytes::INLINE {
            return KeyBytes::Heap(key.into());
        }
        let mut bytes = [0; KeyBytes::INLINE];
        bytes[..key.len()].copy_from_slice(key);
        KeyBytes::Inline { len: key.len() as u8, bytes }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            KeyBytes::Inline { len, bytes } => &bytes[..usize::from(*len)],
            KeyBytes::Heap(bytes) => bytes,
        }
    }
}

#[derive(Default)]
struct Slot {
    main: AtomicI64,
    create: AtomicI64,
    version: AtomicI64,
    lease: AtomicI64,
    addr: AtomicU64,
}

impl Slot {
    fn fill(&self, version: Version) {
        self.main.store(version.main, Ordering::Relaxed);
        self.fill_rest(version);
    }

    fn fill_rest(&self, version: Version) {
        self.create.store(version.create, Ordering::Relaxed);
        self.version.store(version.version, Ordering::Relaxed);
        self.lease.store(version.lease, Ordering::Relaxed);
        self.addr.store(version.addr.0, Ordering::Release);
    }

    fn main(&self) -> Revision {
        self.main.load(Ordering::Relaxed)
    }

    fn read(&self) -> Version {
        // Acquire: who sees a new address also sees the record that was copied there.
        let addr = Addr(self.addr.load(Ordering::Acquire));
        Version {
            main: self.main(),
            create: self.create.load(Ordering::Relaxed),
            version: self.version.load(Ordering::Relaxed),
            lease: self.lease.load(Ordering::Relaxed),
            addr,
        }
    }
}

/// Header of a chunk; its slots follow in the same allocation, oldest first.
#[repr(C)]
struct Chunk {
    older: AtomicPtr<Chunk>,
    /// Slots in use.
    len: AtomicU16,
    /// The oldest slot that still belongs to the list.
    first: AtomicU16,
    capacity: u16,
    life: Life,
    slots: [Slot; 0],
}

impl Chunk {
    fn layout(capacity: u16) -> Layout {
        let slots = Layout::array::<Slot>(usize::from(capacity)).expect("at most 64 slots");
        Layout::new::<Chunk>().extend(slots).expect("at most 64 slots").0.pad_to_align()
    }

    /// A chunk without slots in use, owned by the caller.
    fn alloc(capacity: u16, older: *mut Chunk) -> *mut Chunk {
        let layout = Chunk::layout(capacity);
        // SAFETY: the layout is not empty.
        let chunk = unsafe { alloc_zeroed(layout) }.cast::<Chunk>();
        if chunk.is_null() {
            handle_alloc_error(layout);
        }
        let header = Chunk {
            older: AtomicPtr::new(older),
            len: AtomicU16::new(0),
            first: AtomicU16::new(0),
            capacity,
            life: Life::new(),
            slots: [],
        };
        // SAFETY: the allocation has room for a header, is aligned for it and is ours alone. The slots
        // behind it are valid as zeros: they are made of atomic integers.
        unsafe { chunk.write(header) };
        #[cfg(etchd_loom)]
        (0..usize::from(capacity)).for_each(|at| {
            // SAFETY: the allocation has room for the slots; the checker's atomics are no zeros.
            unsafe { (&raw mut (*chunk).slots).cast::<Slot>().add(at).write(Slot::default()) };
        });
        chunk
    }

    /// # Safety
    /// `chunk` came from `alloc`, nobody else can reach it, and it is not used again.
    unsafe fn free(chunk: *mut Chunk) {
        // SAFETY: promised by the caller: the header is alive.
        let header = unsafe { &*chunk };
        let layout = Chunk::layout(header.capacity);
        if header.life.end() {
            return;
        }
        // SAFETY: promised by the caller; the layout is that of `alloc`. Atomics need no drop.
        unsafe { dealloc(chunk.cast(), layout) };
    }
}

/// A chunk that is alive as long as `'a`.
#[derive(Clone, Copy)]
struct ChunkRef<'a> {
    chunk: *mut Chunk,
    header: &'a Chunk,
}

impl<'a> ChunkRef<'a> {
    /// # Safety
    /// `chunk` is null, or came from `Chunk::alloc` and is not freed during `'a`.
    unsafe fn new(chunk: *mut Chunk) -> Option<ChunkRef<'a>> {
        // SAFETY: promised by the caller.
        let header = unsafe { chunk.as_ref() }?;
        header.life.look();
        Some(ChunkRef { chunk, header })
    }

    fn older(self) -> Option<ChunkRef<'a>> {
        // SAFETY: what a living chunk's link says is alive at least as long as a reader may follow it
        // (fact 2): links lead to chunks that are cut together with this one or later, never before.
        unsafe { ChunkRef::new(self.header.older.load(Ordering::Acquire)) }
    }

    fn len(self) -> usize {
        usize::from(self.header.len.load(Ordering::Acquire))
    }

    fn first(self) -> usize {
        usize::from(self.header.first.load(Ordering::Acquire))
    }

    fn slot(self, at: usize) -> &'a Slot {
        self.header.life.look();
        assert!(at < usize::from(self.header.capacity), "slots are asked for below the capacity");
        // SAFETY: `slots` lies in the allocation that `self.chunk` points to.
        let slots = unsafe { &raw const (*self.chunk).slots }.cast::<Slot>();
        // SAFETY: in bounds by the assert; `chunk` carries the whole allocation's provenance, which
        // lives as long as the header.
        let slot = unsafe { slots.add(at) };
        // SAFETY: slots are valid from the allocation on (zeros) and alive for `'a`; all their fields
        // are atomic, so sharing them with the writer is no race.
        unsafe { &*slot }
    }

    /// The newest slot of this chunk that belongs to the list and whose main is at most `revision`.
    fn newest_at(self, revision: Revision) -> Option<usize> {
        let (first, len) = (self.first(), self.len());
        if first >= len || self.slot(first).main() > revision {
            return None;
        }
        // Reads mostly want the newest; else halve.
        if self.slot(len - 1).main() <= revision {
            return Some(len - 1);
        }
        let (mut low, mut high) = (first, len - 1);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.slot(middle).main() <= revision {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}

/// A key and the list of its versions.
pub(super) struct Entry {
    key: KeyBytes,
    head: AtomicPtr<Chunk>,
    /// The writer's: the chunk at the other end.
    tail: AtomicPtr<Chunk>,
    /// The writer's: the floor of the last `cut`.
    cut_floor: AtomicI64,
}

/// What a `cut` found and did.
pub(super) struct Cut {
    /// The version kept by former cuts that has died now, if it is older than the former floor.
    pub dead: Option<Version>,
    /// False if the whole list is dead: the entry has to go.
    pub kept: bool,
    /// Chunks (looked through, a measure of the work).
    pub chunks: u32,
}

impl Entry {
    fn new(key: &[u8], version: Version) -> Entry {
        let chunk = Chunk::alloc(CAPACITIES[0], ptr::null_mut());
        let entry = Entry {
            key: KeyBytes::new(key),
            head: AtomicPtr::new(chunk),
            tail: AtomicPtr::new(chunk),
            cut_floor: AtomicI64::new(Revision::MIN),
        };
        let head = entry.head();
        head.slot(0).fill(version);
        head.header.len.store(1, Ordering::Release);
        entry
    }

    pub fn key(&self) -> &[u8] {
        self.key.as_slice()
    }

    fn head(&self) -> ChunkRef<'_> {
        // SAFETY: the head is never null and, like every chunk of the list, lives at least as long as
        // a reader may look at it (fact 2).
        unsafe { ChunkRef::new(self.head.load(Ordering::Acquire)) }.expect("a list has a head")
    }

    fn tail(&self) -> ChunkRef<'_> {
        // SAFETY: as for the head; only the writer asks, and it moves the tail before it cuts.
        unsafe { ChunkRef::new(self.tail.load(Ordering::Relaxed)) }.expect("a list has a tail")
    }

    /// The version that a read at `revision` sees, tombstones included.
    pub fn at(&self, revision: Revision) -> Option<Version> {
        let mut chunk = Some(self.head());
        while let Some(here) = chunk {
            if let Some(at) = here.newest_at(revision) {
                return Some(here.slot(at).read());
            }
            chunk = here.older();
        }
        None
    }

    /// The writer's: the newest version, tombstones and unpublished ones included.
    pub fn newest(&self) -> Version {
        let head = self.head();
        head.slot(head.len() - 1).read()
    }

    /// The writer's: the oldest version that is left.
    pub fn oldest(&self) -> Version {
        let tail = self.tail();
        tail.slot(tail.first()).read()
    }

    /// The writer's: adds the version that is newest from now on.
    pub fn append(&self, version: Version) {
        let head = self.head();
        let len = head.len();
        assert!(version.main > head.slot(len - 1).main(), "mains of a list strictly ascend");
        if len < usize::from(head.header.capacity) {
            head.slot(len).fill(version);
            head.header.len.store(len as u16 + 1, Ordering::Release);
            return;
        }
        let step = CAPACITIES.iter().position(|c| *c == head.header.capacity).expect("one of the sizes");
        let fresh = Chunk::alloc(CAPACITIES[(step + 1).min(CAPACITIES.len() - 1)], head.chunk);
        // SAFETY: just allocated, owned by this list from here on.
        let chunk = unsafe { ChunkRef::new(fresh) }.expect("allocated");
        chunk.slot(0).fill(version);
        chunk.header.len.store(1, Ordering::Release);
        self.head.store(fresh, Ordering::Release);
    }

    /// The writer's: puts `version` in the place of the newest, which has the same, yet unpublished main.
    /// Returns what was there.
    pub fn replace_newest(&self, version: Version) -> Version {
        let head = self.head();
        let slot = head.slot(head.len() - 1);
        let former = slot.read();
        assert_eq!(former.main, version.main, "only the open transaction's slot is replaced");
        // The main stays untouched: readers of older revisions look at it, and at nothing else.
        slot.fill_rest(version);
        former
    }

    /// The writer's: true if the last cut was at `floor`.
    pub fn is_cut_at(&self, floor: Revision) -> bool {
        self.cut_floor.load(Ordering::Relaxed) == floor
    }

    /// The writer's: cuts off everything that no read at or above `floor` needs: what is older than the
    /// newest version at the floor, and that one too if it is a tombstone (whose record may stay).
    /// `former` is the floor of the cut before, for the whole store.
    pub fn cut(&self, floor: Revision, former: Revision, garbage: &mut Vec<Chain>) -> Cut {
        self.cut_floor.store(floor, Ordering::Relaxed);
        let (mut newer, mut here, mut chunks) = (None, self.head(), 1);
        let at = loop {
            if let Some(at) = here.newest_at(floor) {
                break at;
            }
            let Some(older) = here.older() else { return Cut { dead: None, kept: true, chunks } };
            (newer, here, chunks) = (Some(here), older, chunks + 1);
        };
        let kept = here.slot(at).read();
        let oldest = self.oldest();
        let dead = (oldest.main < former && oldest.main < kept.main).then_some(oldest);
        let rest = here.header.older.swap(ptr::null_mut(), Ordering::AcqRel);
        if !rest.is_null() {
            garbage.push(Chain(rest));
        }
        let from = if kept.is_live() { at } else { at + 1 };
        if from < here.len() {
            self.cut_inside(newer, here, from, garbage);
        } else if let Some(newer) = newer {
            newer.header.older.store(ptr::null_mut(), Ordering::Release);
            self.tail.store(newer.chunk, Ordering::Relaxed);
            garbage.push(Chain(here.chunk));
        } else {
            return Cut { dead, kept: false, chunks };
        }
        Cut { dead, kept: true, chunks }
    }

    /// Makes slot `from` of chunk `here` the oldest of the list. Nothing is older than the chunk any more.
    fn cut_inside(
        &self,
        newer: Option<ChunkRef<'_>>,
        here: ChunkRef<'_>,
        from: usize,
        garbage: &mut Vec<Chain>,
    ) {
        let live = here.len() - from;
        if live * 4 > usize::from(here.header.capacity) {
            here.header.first.store(from as u16, Ordering::Release);
            self.tail.store(here.chunk, Ordering::Relaxed);
            return;
        }
        // Mostly dead slots: move the rest to a chunk of the fitting size.
        let capacity = CAPACITIES.into_iter().find(|c| usize::from(*c) >= live).expect("fewer than before");
        let fresh = Chunk::alloc(capacity, ptr::null_mut());
        // SAFETY: just allocated, owned by this list from here on.
        let chunk = unsafe { ChunkRef::new(fresh) }.expect("allocated");
        (0..live).for_each(|at| chunk.slot(at).fill(here.slot(from + at).read()));
        chunk.header.len.store(live as u16, Ordering::Release);
        let link = newer.map_or(&self.head, |newer| &newer.header.older);
        link.store(fresh, Ordering::Release);
        self.tail.store(fresh, Ordering::Relaxed);
        garbage.push(Chain(here.chunk));
    }

    /// The writer's: if the version of `main` lies at `from`, lets it lie at `to`. Returns if it did, and
    /// the number of chunks looked through.
    pub fn swing(&self, main: Revision, from: Addr, to: Addr) -> (bool, u32) {
        let find = |chunk: ChunkRef<'_>| {
            chunk.newest_at(main).is_some_and(|at| {
                let slot = chunk.slot(at);
                let found = slot.main() == main && slot.addr.load(Ordering::Relaxed) == from.0;
                if found {
                    slot.addr.store(to.0, Ordering::Release);
                }
                found
            })
        };
        // What cleaning moves is nearly always the oldest.
        if find(self.tail()) {
            return (true, 1);
        }
        let (mut chunk, mut chunks) = (Some(self.head()), 1);
        while let Some(here) = chunk {
            if here.newest_at(main).is_some() {
                return (find(here), chunks);
            }
            (chunk, chunks) = (here.older(), chunks + 1);
        }
        (false, chunks)
    }
}

#[cfg(test)]
impl Entry {
    /// Slots that the list takes in memory.
    pub fn slots(&self) -> usize {
        let chunks = std::iter::successors(Some(self.head()), |chunk| chunk.older());
        chunks.map(|chunk| usize::from(chunk.header.capacity)).sum()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        drop(Chain(owned(&mut self.head)));
    }
}

/// Chunks that are in no list any more, linked by `older`; frees them.
pub(super) struct Chain(*mut Chunk);

// SAFETY: the chain owns its chunks; they have no tie to a thread.
unsafe impl Send for Chain {}
// SAFETY: a shared chain offers nothing.
unsafe impl Sync for Chain {}

impl Chain {
    /// Takes a piece off the front that is small enough to be freed in one go.
    pub fn peel(&mut self) -> Option<Chain> {
        let piece = self.0;
        // SAFETY: the chain owns its chunks.
        let mut last = unsafe { ChunkRef::new(piece) }?;
        for _ in 1..CHUNKS_PER_PIECE {
            let Some(next) = last.older() else { break };
            last = next;
        }
        self.0 = last.header.older.swap(ptr::null_mut(), Ordering::AcqRel);
        Some(Chain(piece))
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let mut chunk = self.0;
        while !chunk.is_null() {
            // SAFETY: the chain owns its chunks, and nobody looks at them any more (fact 2).
            let older = unsafe { (*chunk).older.load(Ordering::Relaxed) };
            // SAFETY: as above; the link was read before.
            unsafe { Chunk::free(chunk) };
            chunk = older;
        }
    }
}

/// A key of the tree and of the hash map: an entry that the store owns. A copy, not a count, so that a
/// tree node can be copied without a look at its entries.
#[derive(Clone, Copy)]
pub(super) struct EntryRef(NonNull<Entry>);

// SAFETY: an entry may be used from any thread: it is made of atomics and of bytes that never change.
unsafe impl Send for EntryRef {}
// SAFETY: as above.
unsafe impl Sync for EntryRef {}

impl EntryRef {
    /// A new entry with its first version, owned by the store until it becomes garbage.
    pub fn alloc(key: &[u8], version: Version) -> EntryRef {
        EntryRef(NonNull::from(Box::leak(Box::new(Entry::new(key, version)))))
    }

    /// The entry. The reference to `self` stands for the tree or map that it was found in.
    pub fn entry(&self) -> &Entry {
        // SAFETY: the entry is freed only as garbage (fact 2): after all views whose trees hold it.
        unsafe { self.0.as_ref() }
    }
}

/// An entry as the tree sorts it: with the front of its key beside it, which decides most comparisons
/// without a look at the entry.
#[derive(Clone, Copy)]
pub(super) struct TreeKey {
    front: Front,
    pub entry: EntryRef,
}

impl TreeKey {
    pub fn new(entry: EntryRef) -> TreeKey {
        TreeKey { front: Front::new(entry.entry().key()), entry }
    }

    pub fn bytes(&self) -> &[u8] {
        self.entry.entry().key()
    }

    /// How it compares with a key whose `front` is given.
    pub fn compare(&self, front: &Front, key: &[u8]) -> Order {
        self.front.bytes.cmp(&front.bytes).then_with(|| match self.front.len.max(front.len) {
            Front::LONGER => self.bytes().cmp(key),
            _ => self.front.len.cmp(&front.len),
        })
    }
}

/// The front of a key, filled up with zeros, and the key's length as far as it fits. The whole common
/// prefix of a folder of keys should fit, or comparisons cost a cache miss each.
#[derive(Clone, Copy)]
pub(super) struct Front {
    bytes: [u8; Front::BYTES],
    len: u8,
}

impl Front {
    const BYTES: usize = 39;
    const LONGER: u8 = u8::MAX;

    pub fn new(key: &[u8]) -> Front {
        let mut bytes = [0; Front::BYTES];
        let shown = key.len().min(Front::BYTES);
        bytes[..shown].copy_from_slice(&key[..shown]);
        Front { bytes, len: if shown < key.len() { Front::LONGER } else { shown as u8 } }
    }
}

impl PartialEq for TreeKey {
    fn eq(&self, other: &TreeKey) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for TreeKey {}

impl PartialOrd for TreeKey {
    fn partial_cmp(&self, other: &TreeKey) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for TreeKey {
    fn cmp(&self, other: &TreeKey) -> Order {
        self.compare(&other.front, other.bytes())
    }
}

/// What was cut off and may still be looked at by the views of its time. Dropping it frees it.
pub(super) enum Garbage {
    Chunks { _chain: Chain },
    Entry { entry: EntryRef },
    Segment { directory: Arc<Directory<AppendBuf>>, number: u32 },
}

impl Drop for Garbage {
    fn drop(&mut self) {
        match self {
            Garbage::Chunks { .. } => {}
            Garbage::Entry { entry } => {
                // SAFETY: came from `alloc`; it left tree and map when it became garbage, exactly once,
                // and garbage is dropped when no view has it any more (fact 2).
                drop(unsafe { Box::from_raw(entry.0.as_ptr()) });
            }
            Garbage::Segment { directory, number } => {
                // SAFETY: all slots were swung away before it became garbage, and no view is left that
                // was there before (fact 2), so no address of this segment is looked up any more. The
                // store gives the number away again only after it finds the place free.
                drop(unsafe { directory.take(*number) });
            }
        }
    }
}
