//! Memory that can be lent to the kernel: aligned, at a fixed address, owned by one side at a time.
//!
//! Owns: aligned blocks, the list through which pooled ones come home.
//! Takes: blocks that were lent. Gives: [`AlignedBuffer`] to write from, [`ReceivedBytes`] to read.
//! Always true: a block is either in a pool, with the kernel, or in exactly one buffer value; dropping that value
//! sends a pooled block home and frees any other.
//! Not here: who lends them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::limits::log::BLOCK_BYTES;

/// Zeroed heap memory, aligned to [`BLOCK_BYTES`], freed on drop.
pub(crate) struct Block {
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a block owns its memory alone, like a box; any thread may use and free it.
unsafe impl Send for Block {}

impl Block {
    /// Allocates `bytes` rounded up to whole [`BLOCK_BYTES`], at least one.
    pub(crate) fn new(bytes: usize) -> Block {
        let bytes = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Block::layout(bytes);
        // SAFETY: the layout's size is not zero.
        let address = unsafe { alloc_zeroed(layout) };
        let Some(address) = NonNull::new(address) else { handle_alloc_error(layout) };
        Block { address, bytes }
    }

    /// Size of the block.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// First byte. Whoever lends the block to the kernel keeps it, untouched, until the completion.
    pub(crate) fn address(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, BLOCK_BYTES).expect("block sizes are far below isize::MAX")
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and dropped once.
        unsafe { dealloc(self.address.as_ptr(), Block::layout(self.bytes)) }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `bytes` bytes, initialized by `alloc_zeroed`, owned by self; while the kernel writes to a block
        // it is kept by the ring, which does not read it.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.bytes) }
    }
}

/// Where dropped buffers of a pool wait to be taken again. Shared by one thread only.
#[derive(Clone, Default)]
pub(crate) struct Home(Rc<RefCell<Vec<(u16, Block)>>>);

impl Home {
    /// A block that has come home, with its number in the pool.
    pub(crate) fn take(&self) -> Option<(u16, Block)> {
        self.0.borrow_mut().pop()
    }

    fn put(&self, number: u16, block: Block) {
        self.0.borrow_mut().push((number, block));
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A bounded number of buffers of one size, made when they are first needed, used again the last one first.
pub(crate) struct Pool {
    home: Home,
    made: u16,
    count: u16,
    bytes: usize,
}

impl Pool {
    /// At most `count` buffers of `bytes` bytes.
    pub(crate) fn new(count: u16, bytes: usize) -> Pool {
        Pool { home: Home::default(), made: 0, count, bytes }
    }

    /// Makes all of them now, and gives their places, by number.
    pub(crate) fn fill(&mut self) -> Vec<(*mut u8, usize)> {
        assert_eq!(self.made, 0, "none is out yet");
        self.made = self.count;
        let blocks: Vec<_> = (0..self.count).map(|_| Block::new(self.bytes)).collect();
        let places = blocks.iter().map(|block| (block.address(), block.bytes())).collect();
        (0..).zip(blocks).for_each(|(number, block)| self.home.put(number, block));
        places
    }

    /// An empty buffer, which comes back when it is dropped. `None`: all are out.
    pub(crate) fn take(&mut self) -> Option<AlignedBuffer> {
        let (number, block) = match self.home.take() {
            Some(returned) => returned,
            None if self.made < self.count => {
                self.made += 1;
                (self.made - 1, Block::new(self.bytes))
            }
            None => return None,
        };
        Some(AlignedBuffer::pooled(block, 0, self.home.clone(), number))
    }

    /// True when all are out.
    pub(crate) fn is_empty(&self) -> bool {
        self.made == self.count && self.home.is_empty()
    }
}

/// A byte buffer aligned for `O_DIRECT`, of fixed capacity. The bytes beyond its length are unspecified.
pub struct AlignedBuffer {
    /// `None` while it is lent to another thread, and while being taken apart.
    block: Option<Block>,
    length: usize,
    /// Pool and number, of pooled blocks.
    home: Option<(Home, u16)>,
}

impl AlignedBuffer {
    /// A buffer that belongs to no pool.
    pub fn new(capacity: usize) -> AlignedBuffer {
        AlignedBuffer { block: Some(Block::new(capacity)), length: 0, home: None }
    }

    /// A buffer that goes home on drop.
    pub(crate) fn pooled(block: Block, length: usize, home: Home, number: u16) -> AlignedBuffer {
        assert!(length <= block.bytes());
        AlignedBuffer { block: Some(block), length, home: Some((home, number)) }
    }

    /// Bytes that fit, a multiple of [`BLOCK_BYTES`].
    pub fn capacity(&self) -> usize {
        self.block().bytes()
    }

    /// Removes the content.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends `bytes`, which fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        let start = std::mem::replace(&mut self.length, end);
        self.block_mut()[start..end].copy_from_slice(bytes);
    }

    /// Sets the length; bytes that were not in before are zero.
    pub fn resize_zeroed(&mut self, length: usize) {
        let start = std::mem::replace(&mut self.length, length);
        if start < length {
            self.block_mut()[start..length].fill(0);
        }
        assert!(length <= self.capacity());
    }

    /// Appends zeros up to a whole number of [`BLOCK_BYTES`].
    pub fn pad_to_block(&mut self) {
        self.resize_zeroed(self.length.next_multiple_of(BLOCK_BYTES));
    }

    /// Number in its pool, which is the index of its registration.
    pub(crate) fn pool_number(&self) -> Option<u16> {
        self.home.as_ref().map(|home| home.1)
    }

    /// Takes the memory out for an operation on another thread; [`AlignedBuffer::give_back`] ends that.
    pub(crate) fn lend(&mut self) -> Block {
        self.block.take().expect("lent once")
    }

    /// Puts back what was lent.
    pub(crate) fn give_back(&mut self, block: Block) {
        let former = self.block.replace(block);
        assert!(former.is_none(), "was lent");
    }

    /// All of the memory, to be written to from outside; [`AlignedBuffer::set_length`] says how much was.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.block_mut()
    }

    /// Declares the first `length` bytes content.
    pub(crate) fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity());
        self.length = length;
    }

    /// First byte, for an operation that owns this buffer.
    pub(crate) fn address(&self) -> *const u8 {
        self.block().address()
    }

    fn block(&self) -> &Block {
        self.block.as_ref().expect("is not lent")
    }

    fn block_mut(&mut self) -> &mut Block {
        self.block.as_mut().expect("is not lent")
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let (Some((home, number)), Some(block)) = (self.home.take(), self.block.take()) {
            home.put(number, block);
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block()[..self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        &mut self.block_mut()[..length]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.block.as_ref().map_or(0, Block::bytes);
        write!(formatter, "AlignedBuffer({} of {capacity} bytes)", self.length)
    }
}

/// Bytes received from a connection. Dropping them gives the buffer back to the ring.
#[derive(Debug)]
pub struct ReceivedBytes(AlignedBuffer);

impl ReceivedBytes {
    /// Bytes in a buffer of their own, for implementations without lent buffers.
    pub fn copied(bytes: &[u8]) -> ReceivedBytes {
        let mut buffer = AlignedBuffer::new(bytes.len());
        buffer.extend_from_slice(bytes);
        ReceivedBytes(buffer)
    }

    /// Bytes that the kernel has written into a buffer of a pool.
    pub(crate) fn lent(buffer: AlignedBuffer) -> ReceivedBytes {
        ReceivedBytes(buffer)
    }
}

impl Deref for ReceivedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_pooled_buffer_comes_home_with_its_number() {
        let home = Home::default();
        let block = Block::new(100);
        let address = block.address();
        assert_eq!(address as usize % BLOCK_BYTES, 0);
        let mut buffer = AlignedBuffer::pooled(block, 0, home.clone(), 7);
        buffer.extend_from_slice(b"abc");
        assert_eq!(&buffer[..], b"abc");
        assert!(home.take().is_none());
        drop(buffer);
        let (number, block) = home.take().expect("came home");
        assert_eq!((number, block.address()), (7, address));
    }

    #[test]
    fn a_pool_has_so_many_buffers_and_no_more() {
        let mut pool = Pool::new(2, 100);
        let (first, second) = (pool.take().expect("one"), pool.take().expect("two"));
        assert!(pool.is_empty() && pool.take().is_none());
        drop(first);
        assert_eq!(pool.take().expect("came back").pool_number(), Some(0));
        drop(second);
        let mut filled = Pool::new(3, 100);
        let places = filled.fill();
        let buffer = filled.take().expect("three");
        let number = usize::from(buffer.pool_number().expect("is pooled"));
        assert_eq!((places.len(), places[number].0.cast_const()), (3, buffer.address()));
    }

    #[test]
    fn padding_is_zero_even_over_old_content() {
        let mut buffer = AlignedBuffer::new(1);
        buffer.resize_zeroed(BLOCK_BYTES);
        buffer.fill(9);
        buffer.clear();
        buffer.extend_from_slice(b"x");
        buffer.pad_to_block();
        assert_eq!(buffer.len(), BLOCK_BYTES);
        assert_eq!(buffer[0], b'x');
        assert!(buffer[1..].iter().all(|&b| b == 0));
    }
}
