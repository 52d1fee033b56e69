//! The receive buffers lent to the kernel: one provided buffer ring for all connections of a shard.
//!
//! Owns: the table of blocks, the ring of entries that the kernel reads.
//! Takes: numbers of buffers that the kernel has filled, dropped [`ReceivedBytes`]. Gives: filled buffers.
//! Always true: a block is in the table exactly while the kernel may write to it.
//! Not here: which connection receives.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::queue::Queue;
use crate::edge::buffer::{AlignedBuffer, Block, Home, ReceivedBytes};

/// Number of the only buffer group.
pub(super) const GROUP: u16 = 0;

/// Buffers for multishot receives.
pub(super) struct ReceivePool {
    entries: Block,
    /// Number of buffers, a power of two.
    count: u16,
    /// Entries ever put in; the kernel takes it modulo `count`.
    tail: u16,
    /// By number: lent to the kernel (or filled and not yet reaped), or else `None`.
    blocks: Vec<Option<Block>>,
    free: usize,
    home: Home,
}

impl ReceivePool {
    /// Makes and registers `count` buffers of `bytes` bytes.
    pub(super) fn register(queue: &Queue, count: u16, bytes: usize) -> io::Result<ReceivePool> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let entries = Block::new(usize::from(count) * size_of::<BufRingEntry>());
        let blocks = (0..count).map(|_| None).collect();
        let mut pool = ReceivePool { entries, count, tail: 0, blocks, free: 0, home: Home::default() };
        // SAFETY: the entries' block is aligned to pages, holds `count` entries and lives in this pool, which
        // `Ring::drop` keeps until the group is unregistered.
        unsafe { queue.register_buffer_ring(pool.entries.address() as u64, count, GROUP)? };
        for number in 0..count {
            pool.provide(number, Block::new(bytes));
        }
        pool.publish();
        Ok(pool)
    }

    /// Buffers that the kernel can still fill, filled ones that are not yet reaped included.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Takes a filled buffer out.
    pub(super) fn take(&mut self, number: u16, length: usize) -> ReceivedBytes {
        let block = self.blocks[usize::from(number)].take().expect("the kernel names a buffer that it has");
        self.free -= 1;
        ReceivedBytes::lent(AlignedBuffer::pooled(block, length, self.home.clone(), number))
    }

    /// Lends to the kernel what the loop has dropped.
    pub(super) fn recycle(&mut self) {
        let tail = self.tail;
        while let Some((number, block)) = self.home.take() {
            self.provide(number, block);
        }
        if self.tail != tail {
            self.publish();
        }
    }

    /// Gives up the memory, for a kernel that did not come to an end with it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.blocks));
        std::mem::forget(std::mem::replace(&mut self.entries, Block::new(1)));
    }

    fn provide(&mut self, number: u16, block: Block) {
        let slot = usize::from(self.tail & (self.count - 1));
        let length = u32::try_from(block.bytes()).expect("receive buffers are small");
        // SAFETY: `slot < count` entries lie in the block; the kernel reads this one only after `publish`. The
        // setters leave alone the reserved field, which is the tail in entry 0.
        let entry = unsafe { &mut *self.entries.address().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(block.address() as u64);
        entry.set_len(length);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        let previous = self.blocks[usize::from(number)].replace(block);
        assert!(previous.is_none(), "a buffer is lent once");
        self.free += 1;
    }

    fn publish(&mut self) {
        // SAFETY: the address of entry 0 of the ring; the entry is initialized (zeroed at least).
        let tail = unsafe { BufRingEntry::tail(self.entries.address().cast()) };
        // SAFETY: aligned, inside the block; the kernel reads it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
