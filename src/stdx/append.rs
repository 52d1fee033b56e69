//! Memory that one writer fills while any number of readers look at what is already there.
//!
//! Owns: [`AppendBuf`], a buffer whose written part never changes; [`Directory`], numbered places for
//! shared things.
//! Takes: bytes to append, things to place. Gives: slices of the written part, references to things.
//! Always true: bytes below `len` were written before `len` said so, and are never written again.
//! Not here: what the bytes mean; when nobody looks at a thing any more.
//!
//! One of the few files with `unsafe`. The argument for each block rests on [`Appender`] being the
//! only door to the unwritten part, and being neither `Clone` nor shared.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use super::sync::{AtomicPtr, AtomicUsize, Lives, Ordering, owned};

/// A buffer of fixed capacity; see the module. Made by [`Appender::new`].
#[derive(Debug)]
pub struct AppendBuf {
    start: NonNull<u8>,
    capacity: usize,
    len: AtomicUsize,
    lives: Lives,
}

// SAFETY: the buffer owns its memory, and the memory has no tie to a thread.
unsafe impl Send for AppendBuf {}
// SAFETY: shared access reads only bytes below `len`, which the writer no longer touches; `len` is atomic.
unsafe impl Sync for AppendBuf {}

impl AppendBuf {
    /// What has been written so far.
    pub fn bytes(&self) -> &[u8] {
        let len = self.len.load(Ordering::Acquire);
        self.lives.look(len);
        // SAFETY: `len <= capacity` bytes from `start` are initialized (Release in `append`, Acquire
        // here) and are not written again while `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), len) }
    }

    /// Number of bytes written so far.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// True if nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes that fit in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn layout(capacity: usize) -> Layout {
        Layout::array::<u8>(capacity.max(1)).expect("a buffer is smaller than half the address space")
    }
}

impl Drop for AppendBuf {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc` with this very layout and is freed only here.
        unsafe { dealloc(self.start.as_ptr(), AppendBuf::layout(self.capacity)) };
    }
}

/// The one writer of an [`AppendBuf`].
#[derive(Debug)]
pub struct Appender {
    buffer: Arc<AppendBuf>,
    len: usize,
}

impl Appender {
    /// An empty buffer of `capacity` bytes and its writer.
    pub fn new(capacity: usize) -> Appender {
        let layout = AppendBuf::layout(capacity);
        // SAFETY: the layout has at least one byte.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        let lives = Lives::new(capacity);
        Appender { buffer: Arc::new(AppendBuf { start, capacity, len: AtomicUsize::new(0), lives }), len: 0 }
    }

    /// The buffer, for readers.
    pub fn buffer(&self) -> &Arc<AppendBuf> {
        &self.buffer
    }

    /// Number of bytes that still fit.
    pub fn room(&self) -> usize {
        self.buffer.capacity - self.len
    }

    /// Appends the parts one after the other and shows them to readers at once; returns where they
    /// begin. They must fit.
    pub fn append(&mut self, parts: &[&[u8]]) -> usize {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert!(total <= self.room(), "the caller has looked at the room");
        let offset = self.len;
        for part in parts {
            self.buffer.lives.change(self.len, part.len());
            // SAFETY: `self.len <= capacity`, so the result is inside the allocation or one past it.
            let target = unsafe { self.buffer.start.as_ptr().add(self.len) };
            // SAFETY: `part.len()` bytes from `target` are inside the allocation (assert above), above
            // the published `len`, thus seen by no reader, and written by nobody else since `self` is
            // the only writer; a borrowed `part` can't overlap them.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len()) };
            self.len += part.len();
        }
        self.buffer.len.store(self.len, Ordering::Release);
        offset
    }
}

/// Numbered places for shared things; places come in blocks that never move, so that a reader finds a
/// thing in two steps while the writer adds others.
#[derive(Debug)]
pub struct Directory<T> {
    /// Block `b` has `64 << b` places.
    blocks: [OnceLock<Box<[AtomicPtr<T>]>>; BLOCKS],
}

const BLOCKS: usize = 26;
const FIRST_BLOCK: usize = 64;

impl<T: Send + Sync> Default for Directory<T> {
    fn default() -> Self {
        Directory { blocks: std::array::from_fn(|_| OnceLock::new()) }
    }
}

impl<T> Directory<T> {
    fn locate(number: u32) -> (usize, usize) {
        let from_one = number as usize + FIRST_BLOCK;
        let block = (from_one.ilog2() - FIRST_BLOCK.ilog2()) as usize;
        (block, from_one - (FIRST_BLOCK << block))
    }

    fn place(&self, number: u32) -> Option<&AtomicPtr<T>> {
        let (block, index) = Directory::<T>::locate(number);
        self.blocks.get(block)?.get()?.get(index)
    }

    /// True if a thing lies at `number`.
    pub fn is_taken(&self, number: u32) -> bool {
        self.place(number).is_some_and(|place| !place.load(Ordering::Acquire).is_null())
    }

    /// Places a thing at a free number.
    pub fn set(&self, number: u32, thing: Arc<T>) {
        let (block, index) = Directory::<T>::locate(number);
        let places = self.blocks[block].get_or_init(|| {
            (0..FIRST_BLOCK << block).map(|_| AtomicPtr::new(std::ptr::null_mut())).collect()
        });
        let fresh = Arc::into_raw(thing).cast_mut();
        let set =
            places[index].compare_exchange(std::ptr::null_mut(), fresh, Ordering::Release, Ordering::Relaxed);
        assert!(set.is_ok(), "a place is free before it is taken");
    }

    /// The thing at `number`.
    pub fn get(&self, number: u32) -> Option<Arc<T>> {
        let thing = self.place(number)?.load(Ordering::Acquire);
        if thing.is_null() {
            return None;
        }
        // SAFETY: the pointer came from `Arc::into_raw` and its count is still held by the place: who
        // calls `take` promised that no `get` of this number runs beside or after it.
        unsafe { Arc::increment_strong_count(thing) };
        // SAFETY: as above; the count just added belongs to the result.
        Some(unsafe { Arc::from_raw(thing) })
    }

    /// Frees the place at `number` and returns what was there.
    ///
    /// # Safety
    /// No other thread may be inside `get(number)`, nor enter it before it learned that the number was
    /// given to another thing.
    pub unsafe fn take(&self, number: u32) -> Option<Arc<T>> {
        let thing = self.place(number)?.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if thing.is_null() {
            return None;
        }
        // SAFETY: the pointer came from `Arc::into_raw` in `set`; the swap made us the one who ends it.
        Some(unsafe { Arc::from_raw(thing) })
    }
}

impl<T> Drop for Directory<T> {
    fn drop(&mut self) {
        for place in self.blocks.iter_mut().filter_map(|block| block.get_mut()).flatten() {
            let thing = owned(place);
            if !thing.is_null() {
                // SAFETY: the pointer came from `Arc::into_raw` in `set` and nobody else can reach it now.
                drop(unsafe { Arc::from_raw(thing) });
            }
        }
    }
}

#[cfg(all(test, etchd_loom))]
mod loom {
    use ::loom::thread;

    use super::*;
    use crate::stdx::sync::{AtomicU64, Life, check};

    /// Append against read: each byte below the length was written before it is seen, and is not written again.
    #[test]
    fn readers_see_whole_appends() {
        check(3, || {
            let mut appender = Appender::new(6);
            let buffer = Arc::clone(appender.buffer());
            let thread = thread::spawn(move || {
                for _ in 0..2 {
                    let bytes = buffer.bytes();
                    assert_eq!(bytes, &[1, 2, 3, 4, 5, 6][..bytes.len()]);
                    assert!(bytes.len().is_multiple_of(3), "an append shows at once");
                }
            });
            assert_eq!(appender.append(&[&[1], &[2, 3]]), 0);
            assert_eq!(appender.append(&[&[4, 5, 6]]), 3);
            thread.join().expect("the reader ends");
        });
    }

    /// A record is moved: its address swings to a copy under another number, and the old place is freed and given
    /// to a third thing when no reader can hold the old address any more.
    #[test]
    fn an_address_leads_to_what_was_placed_there() {
        struct Place {
            shown: Arc<Directory<(u64, Life)>>,
            number: u32,
        }
        impl Drop for Place {
            fn drop(&mut self) {
                // SAFETY: dropped when every reader has left the epochs in which the address led here.
                let taken = unsafe { self.shown.take(self.number) }.expect("it was placed");
                taken.1.end();
            }
        }
        check(2, || {
            let directory: Arc<Directory<(u64, Life)>> = Arc::default();
            directory.set(0, Arc::new((7, Life::new())));
            let address = Arc::new(AtomicU64::new(0));
            let (mut publisher, mut readers) = crate::edge::mesh::published::<(), Place>((), 1);
            let mut reader = readers.pop().expect("one was made");
            let thread = {
                let (directory, address) = (Arc::clone(&directory), Arc::clone(&address));
                thread::spawn(move || {
                    let guard = reader.enter();
                    let number = address.load(Ordering::Acquire) as u32;
                    let thing = directory.get(number).expect("an address leads to something");
                    thing.1.look();
                    assert_eq!(thing.0, 7, "the very thing that was addressed");
                    // Not freed while it is held either, but the place is.
                    drop((thing, guard));
                    reader
                })
            };
            directory.set(1, Arc::new((7, Life::new())));
            address.store(1, Ordering::Release);
            publisher.retire(Place { shown: Arc::clone(&directory), number: 0 });
            publisher.collect();
            if !directory.is_taken(0) {
                directory.set(0, Arc::new((8, Life::new())));
            }
            drop(thread.join().expect("the reader ends"));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_whole_appends_while_the_writer_goes_on() {
        let mut appender = Appender::new(64 * 1024);
        let buffer = Arc::clone(appender.buffer());
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            while seen < buffer.capacity() {
                let bytes = buffer.bytes();
                assert!(bytes.len() >= seen && bytes.len().is_multiple_of(16));
                for (chunk, number) in bytes.chunks(16).zip(0_u64..) {
                    assert_eq!(chunk[..8], number.to_le_bytes());
                    assert_eq!(chunk[8..], (!number).to_be_bytes());
                }
                seen = bytes.len();
            }
        });
        for number in 0..4096_u64 {
            let offset = appender.append(&[&number.to_le_bytes(), &(!number).to_be_bytes()]);
            assert_eq!(offset as u64, number * 16);
        }
        assert_eq!(appender.room(), 0);
        reader.join().expect("the reader saw only whole appends");
    }

    #[test]
    fn a_directory_keeps_each_thing_at_its_number() {
        let directory = Directory::default();
        let things: Vec<Arc<u32>> = (0..500).map(Arc::new).collect();
        for (number, thing) in things.iter().enumerate() {
            directory.set(number as u32, Arc::clone(thing));
        }
        for number in 0..500 {
            assert_eq!(directory.get(number).as_deref(), Some(&number));
        }
        assert!(directory.get(500).is_none() && directory.get(u32::MAX).is_none());
        // SAFETY: this thread is the only one that knows the directory.
        assert_eq!(unsafe { directory.take(77) }.as_deref(), Some(&77));
        assert!(!directory.is_taken(77) && directory.is_taken(78));
        directory.set(77, Arc::new(1_000));
        assert_eq!(directory.get(77).as_deref(), Some(&1_000));
        drop(directory);
        assert!(things.iter().all(|thing| Arc::strong_count(thing) == 1));
    }
}
