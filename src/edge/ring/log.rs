//! The log's writes as operations of the ring.
//!
//! Owns: the registration of the lock files and of the buffers with the ring.
//! Takes: aligned buffers with their places. Gives: durable, or failed for good.
//! Always true: a write's buffer stays where it is until its completion.
//! Not here: the order of the writes (`edge::disk`), what is written.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{opcode, types};

use super::error_of;
use super::queue::{Queue, Reaped, Wait};
use super::token::Token;
use crate::edge::buffer::AlignedBuffer;
use crate::edge::disk::{DataDirectory, Durability, Left, LogWrites};
use crate::edge::host::Operation;
use crate::edge::io::{Completion, SetupError, Waker};

/// The writer of one log.
pub(super) struct LogWriter {
    writes: LogWrites,
    /// The kernel knows the buffers of the pool.
    registered: bool,
}

impl LogWriter {
    /// `register`: tell the kernel the buffers, if the limit of locked memory allows; it is an optimization only.
    pub(super) fn new(
        data: DataDirectory,
        queue: &Queue,
        nudger: Waker,
        register: bool,
    ) -> Result<LogWriter, SetupError> {
        // The kernel takes a killed process's ring down after its last write has landed, and this file with it.
        queue
            .register_files(&data.lock_descriptors())
            .map_err(|error| SetupError::of_uring("register the lock file with io_uring", error))?;
        let mut writes = LogWrites::new(data, nudger, usize::MAX)?;
        let registered = register && register_buffers(&mut writes, queue);
        Ok(LogWriter { writes, registered })
    }

    pub(super) fn writes(&mut self) -> &mut LogWrites {
        &mut self.writes
    }

    pub(super) fn bytes(&self) -> u64 {
        self.writes.bytes()
    }

    pub(super) fn is_alone(&self) -> bool {
        self.writes.is_alone_likely()
    }

    pub(super) fn deaf(&self) -> Duration {
        self.writes.deaf()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.registered
    }

    pub(super) fn is_direct(&self) -> bool {
        self.writes.is_direct()
    }

    pub(super) fn write(
        &mut self,
        token: u64,
        segment: u64,
        offset: u64,
        buffer: AlignedBuffer,
        queue: &mut Queue,
        out: &mut Vec<Completion<OwnedFd>>,
    ) {
        self.writes.push(token, segment, offset, buffer);
        if !self.writes.is_alone() {
            self.submit(queue);
        }
        self.writes.give_out(out);
    }

    /// A turn of the loop begins, which may sleep first or goes on at once. What others wait for is submitted before a
    /// write that the loop waits for.
    pub(super) fn begin_turn(
        &mut self,
        may_sleep: bool,
        queue: &mut Queue,
        out: &mut Vec<Completion<OwnedFd>>,
    ) {
        self.writes.note_turn(may_sleep);
        match self.writes.begin_turn(may_sleep) {
            Left::Nothing => {}
            Left::ToOthers => self.submit(queue),
            Left::ToLoop => {
                if queue.has_submissions() {
                    queue.enter(Wait::Submit);
                }
                self.writes.write_alone(|result| queue.fault().pass(Operation::LogWrite, result));
                self.writes.give_out(out);
            }
        }
    }

    /// A write, or the sync after one, has ended.
    pub(super) fn written(&mut self, reaped: Reaped, queue: &mut Queue, out: &mut Vec<Completion<OwnedFd>>) {
        let number = reaped.token.number;
        let mut result = match usize::try_from(reaped.result) {
            Ok(count) => Ok(count),
            Err(_) => Err(error_of(reaped.result)),
        };
        let (file, buffer, durability) = self.writes.under_way(number);
        if reaped.token.operation == Operation::LogSync {
            // The write before it was whole.
            result = result.map(|_| buffer.len());
        } else if durability == Durability::Sync && result.as_ref().is_ok_and(|count| *count == buffer.len())
        {
            let flags = types::FsyncFlags::DATASYNC;
            let entry = opcode::Fsync::new(types::Fd(file.as_raw_fd())).flags(flags).build();
            // SAFETY: a sync refers to no memory.
            unsafe { queue.push(entry, Token::of(Operation::LogSync, number)) }
            return;
        }
        self.writes.completed(number, result);
        self.writes.give_out(out);
        self.submit(queue);
        // What `submit` could not do because of a failure is given out as failed.
        self.writes.give_out(out);
    }

    fn submit(&mut self, queue: &mut Queue) {
        while let Some(next) = self.writes.submit() {
            let file = types::Fd(next.file.as_raw_fd());
            let (address, buffer) = (next.buffer.address(), &next.buffer);
            let length = u32::try_from(buffer.len()).expect("batches are far below 4 GiB");
            let flags = next.durability.write_flags();
            let entry = match buffer.pool_number().filter(|_| self.registered) {
                Some(number) => opcode::WriteFixed::new(file, address, length, number)
                    .offset(next.offset)
                    .rw_flags(flags)
                    .build(),
                None => opcode::Write::new(file, address, length).offset(next.offset).rw_flags(flags).build(),
            };
            // SAFETY: the buffer's block does not move with the list of writes, and is left alone in it until the
            // completion was handled in `written`.
            unsafe { queue.push(entry, Token::of(Operation::LogWrite, next.number)) }
        }
    }
}

fn register_buffers(writes: &mut LogWrites, queue: &Queue) -> bool {
    let places = writes.pool().fill();
    let vector =
        |(address, bytes): (*mut u8, usize)| libc::iovec { iov_base: address.cast(), iov_len: bytes };
    let vectors: Vec<_> = places.into_iter().map(vector).collect();
    // SAFETY: the kernel pins the pages and uses them only for the writes of this file, each of which owns its
    // buffer until its completion. A buffer that outlives the ring is not written from any more.
    let registered: io::Result<()> = unsafe { queue.register_buffers(&vectors) };
    registered.is_ok()
}
