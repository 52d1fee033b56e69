//! The log's writes.
//!
//! Owns: the data directory with its lock, open segments, writes under way, registered buffers, the helper.
//! Takes: aligned buffers with their places. Gives: durable, or failed for good.
//! Always true: completions are given out in the order of the writes; after a failure every write fails (spec D4);
//! a segment without O_DIRECT has one write under way at a time (hazard H3).
//! Not here: what is written.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};

use super::buffer::{AlignedBuffer, Block, Home};
use super::queue::{Queue, Reaped, SetupError};
use super::token::{Operation, Token};
use super::{error_of, setup_failed};
use crate::edge::disk::{DataDirectory, Helper, SegmentFile, Syncs};
use crate::edge::io::{Completion, Waker};
use crate::limits::log::{BLOCK_BYTES, REGISTERED_BUFFER_BYTES, REGISTERED_BUFFERS};

/// The writer of one log.
pub(super) struct LogWriter {
    data: DataDirectory,
    helper: Helper,
    /// Open segments, oldest first.
    segments: VecDeque<(u64, SegmentFile)>,
    /// Writes whose completion was not given out, in order.
    writes: VecDeque<LogWrite>,
    /// Number of the first of `writes`.
    first: u64,
    /// Free registered buffers; those in use come back to `home`.
    free: Vec<(u16, Block)>,
    home: Home,
    /// The kernel knows the buffers of the pool.
    registered: bool,
    failed: bool,
    bytes: u64,
}

struct LogWrite {
    token: u64,
    segment: u64,
    offset: u64,
    buffer: AlignedBuffer,
    state: WriteState,
}

enum WriteState {
    Waiting,
    UnderWay,
    Done(Result<(), io::Error>),
}

impl LogWriter {
    pub(super) fn new(data: DataDirectory, queue: &Queue, waker: Waker) -> Result<LogWriter, SetupError> {
        // The kernel takes a killed process's ring down after its last write has landed, and this file with it.
        queue
            .register_files(&data.lock_descriptors())
            .map_err(|error| setup_failed("register the lock file", error))?;
        let bytes =
            data.log().bytes().map_err(|error| setup_failed("measure the log", io::Error::other(error)))?;
        let helper = Helper::start(data.log().clone(), waker)
            .map_err(|error| setup_failed("start the helper thread", error))?;
        let mut writer = LogWriter {
            data,
            helper,
            segments: VecDeque::new(),
            writes: VecDeque::new(),
            first: 0,
            free: (0..REGISTERED_BUFFERS)
                .map(|number| (number, Block::new(REGISTERED_BUFFER_BYTES)))
                .collect(),
            home: Home::default(),
            registered: false,
            failed: false,
            bytes,
        };
        writer.register_buffers(queue);
        Ok(writer)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn is_registered(&self) -> bool {
        self.registered
    }

    pub(super) fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        while let Some(returned) = self.home.take() {
            self.free.push(returned);
        }
        match self.free.pop_if(|_| capacity <= REGISTERED_BUFFER_BYTES) {
            Some((number, block)) => AlignedBuffer::pooled(block, 0, self.home.clone(), number),
            None => AlignedBuffer::new(capacity),
        }
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
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64) && buffer.len().is_multiple_of(BLOCK_BYTES));
        assert!(!buffer.is_empty(), "a write has bytes");
        let state = match self.open(segment) {
            Ok(()) => WriteState::Waiting,
            Err(error) => WriteState::Done(Err(error)),
        };
        self.writes.push_back(LogWrite { token, segment, offset, buffer, state });
        self.submit(queue);
        self.give_out(out);
    }

    pub(super) fn written(&mut self, reaped: Reaped, queue: &mut Queue, out: &mut Vec<Completion<OwnedFd>>) {
        let index = usize::try_from(reaped.token.number - self.first).expect("still in the list");
        let write = &mut self.writes[index];
        write.state = WriteState::Done(match usize::try_from(reaped.result) {
            Ok(count) if count == write.buffer.len() => Ok(()),
            Ok(count) => {
                let text = format!("short write: {count} of {} bytes", write.buffer.len());
                Err(io::Error::new(io::ErrorKind::WriteZero, text))
            }
            Err(_) => Err(error_of(reaped.result)),
        });
        self.give_out(out);
        self.submit(queue);
        self.close_former_segments();
        // What `submit` could not do because of a failure is given out as failed.
        self.give_out(out);
    }

    pub(super) fn prepare_segment(&mut self, number: u64, bytes: u64) {
        self.helper.prepare(number, bytes);
    }

    pub(super) fn take_prepared(&mut self, out: &mut Vec<Completion<OwnedFd>>) {
        while let Some(prepared) = self.helper.next() {
            let number = prepared.number;
            out.push(match prepared.result {
                Ok(()) => {
                    self.bytes += prepared.bytes;
                    Completion::SegmentReady { number }
                }
                Err(error) => Completion::SegmentFailed { number, error },
            });
        }
    }

    /// Registers the pool's buffers if the limit of locked memory allows; it is an optimization only.
    fn register_buffers(&mut self, queue: &Queue) {
        let vectors: Vec<_> = self
            .free
            .iter()
            .map(|(_, block)| libc::iovec { iov_base: block.address().cast(), iov_len: block.bytes() })
            .collect();
        // SAFETY: the kernel pins the pages and uses them only for the writes of this file, each of which owns its
        // buffer until its completion. A buffer that outlives the ring is not written from any more.
        self.registered = unsafe { queue.register_buffers(&vectors) }.is_ok();
    }

    fn open(&mut self, segment: u64) -> Result<(), io::Error> {
        if self.segments.iter().all(|(number, _)| *number != segment) {
            let file = self.data.log().open_segment(segment)?;
            self.segments.push_back((segment, file));
        }
        Ok(())
    }

    /// Segments before the newest one are not written to again, once their last write is done.
    fn close_former_segments(&mut self) {
        if self.writes.is_empty() && self.segments.len() > 1 {
            self.segments.drain(..self.segments.len() - 1);
        }
    }

    fn submit(&mut self, queue: &mut Queue) {
        for index in 0..self.writes.len() {
            let write = &self.writes[index];
            match write.state {
                WriteState::Done(_) => continue,
                WriteState::UnderWay | WriteState::Waiting if self.failed => continue,
                WriteState::UnderWay => {}
                WriteState::Waiting => {
                    let entry = self.entry(write);
                    let number = self.first + index as u64;
                    // SAFETY: the buffer's block does not move with the list, and is left alone in it until the
                    // completion was handled in `written`.
                    unsafe { queue.push(entry, Token::of(Operation::LogWrite, number)) }
                    self.writes[index].state = WriteState::UnderWay;
                }
            }
            if !self.file(self.writes[index].segment).direct {
                return;
            }
        }
    }

    fn entry(&self, write: &LogWrite) -> squeue::Entry {
        let file = types::Fd(self.file(write.segment).file.as_raw_fd());
        let (address, buffer) = (write.buffer.address(), &write.buffer);
        let length = u32::try_from(buffer.len()).expect("batches are far below 4 GiB");
        let flags = match self.data.log().syncs() {
            Syncs::On => libc::RWF_DSYNC,
            Syncs::Off => 0,
        };
        match buffer.pool_number().filter(|_| self.registered) {
            Some(number) => opcode::WriteFixed::new(file, address, length, number)
                .offset(write.offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(file, address, length).offset(write.offset).rw_flags(flags).build(),
        }
    }

    fn file(&self, segment: u64) -> &SegmentFile {
        let mut segments = self.segments.iter();
        &segments.find(|(number, _)| *number == segment).expect("opened at the write").1
    }

    /// Gives out what is complete from the front; after a failure, everything that is not under way.
    fn give_out(&mut self, out: &mut Vec<Completion<OwnedFd>>) {
        while let Some(write) = self.writes.front() {
            let is_over = match &write.state {
                WriteState::Done(_) => true,
                WriteState::Waiting => self.failed,
                WriteState::UnderWay => false,
            };
            if !is_over {
                return;
            }
            let write = self.writes.pop_front().expect("looked at");
            self.first += 1;
            let result = match write.state {
                WriteState::Done(result) if !self.failed => result,
                WriteState::Done(Err(error)) => Err(error),
                WriteState::Done(Ok(())) | WriteState::Waiting | WriteState::UnderWay => {
                    Err(io::Error::other("an earlier log write has failed"))
                }
            };
            let token = write.token;
            out.push(match result {
                Ok(()) => Completion::LogWritten { token, buffer: write.buffer },
                Err(error) => {
                    self.failed = true;
                    Completion::LogFailed { token, error }
                }
            });
        }
    }
}
