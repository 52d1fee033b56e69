//! The thread that writes the log.
//!
//! Owns: the thread, the mailboxes to it and back.
//! Takes: aligned buffers with their places. Gives: durable, or failed for good.
//! Always true: one write is with the thread at a time (spec D4, hazard H3), so none is begun after a failed one;
//! the thread ends with its [`LogThread`], after the write that it has.
//! Not here: the order of the writes (`edge::disk`), what is written.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use crate::edge::buffer::{AlignedBuffer, Block};
use crate::edge::disk::{DataDirectory, Durability, Left, LogWrites};
use crate::edge::host::{Fault, Operation};
use crate::edge::io::{Completion, SetupError, Waker};
use crate::edge::mesh::{Receiver, Sender, mailbox};

/// Writes that the thread has at a time.
const DEPTH: usize = 1;

/// The writer of one log.
pub(super) struct LogThread {
    writes: LogWrites,
    requests: Sender<Request>,
    results: Receiver<Written>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Write(Job),
    End,
}

struct Job {
    number: u64,
    file: Arc<File>,
    offset: u64,
    block: Block,
    length: usize,
    durability: Durability,
}

struct Written {
    number: u64,
    block: Block,
    result: io::Result<usize>,
}

impl LogThread {
    pub(super) fn start(data: DataDirectory, nudger: Waker) -> Result<LogThread, SetupError> {
        let writes = LogWrites::new(data, nudger.clone(), DEPTH)?;
        let (requests, mut asked) = mailbox(DEPTH + 1);
        let (mut answer, results) = mailbox(DEPTH);
        let work = move || {
            loop {
                match asked.receive() {
                    Some(Request::Write(job)) => {
                        let full = answer.send(job.carry_out()).is_err();
                        assert!(!full, "the loop takes a result before it asks again");
                        nudger.wake();
                    }
                    Some(Request::End) => return,
                    // An unpark that came before makes this return at once.
                    None => thread::park(),
                }
            }
        };
        let thread = Builder::new()
            .name("etchd-log".into())
            .spawn(work)
            .map_err(|error| SetupError::of_step("start the log's thread", error))?;
        Ok(LogThread { writes, requests, results, thread: Some(thread) })
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

    pub(super) fn is_direct(&self) -> bool {
        self.writes.is_direct()
    }

    pub(super) fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        self.writes.buffer(capacity)
    }

    pub(super) fn write(
        &mut self,
        token: u64,
        segment: u64,
        offset: u64,
        buffer: AlignedBuffer,
        out: &mut Vec<Completion<OwnedFd>>,
    ) {
        self.writes.push(token, segment, offset, buffer);
        if !self.writes.is_alone() {
            self.submit();
        }
        self.writes.give_out(out);
    }

    /// A turn of the loop begins, which may sleep first or goes on at once.
    pub(super) fn begin_turn(
        &mut self,
        may_sleep: bool,
        fault: &mut Fault,
        out: &mut Vec<Completion<OwnedFd>>,
    ) {
        match self.writes.begin_turn(may_sleep) {
            Left::Nothing => {}
            Left::ToOthers => self.submit(),
            Left::ToLoop => {
                self.writes.write_alone(|result| fault.pass(Operation::LogWrite, result));
                self.writes.give_out(out);
            }
        }
    }

    pub(super) fn prepare_segment(&mut self, number: u64, bytes: u64) {
        self.writes.prepare_segment(number, bytes);
    }

    /// Results of the thread and of the helper.
    pub(super) fn take_results(&mut self, fault: &mut Fault, out: &mut Vec<Completion<OwnedFd>>) {
        while let Some(Written { number, block, result }) = self.results.receive() {
            self.writes.under_way(number).1.give_back(block);
            self.writes.completed(number, fault.pass(Operation::LogWrite, result));
            self.writes.give_out(out);
            self.submit();
            // What `submit` could not do because of a failure is given out as failed.
            self.writes.give_out(out);
        }
        self.writes.take_prepared(out);
    }

    fn submit(&mut self) {
        while let Some(next) = self.writes.submit() {
            let length = next.buffer.len();
            let job = Job {
                number: next.number,
                file: Arc::clone(next.file),
                offset: next.offset,
                block: next.buffer.lend(),
                length,
                durability: next.durability,
            };
            self.ask(Request::Write(job));
        }
    }

    fn ask(&mut self, request: Request) {
        let full = self.requests.send(request).is_err();
        assert!(!full, "the thread has at most DEPTH writes");
        self.thread.as_ref().expect("ends in drop only").thread().unpark();
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.ask(Request::End);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the log's thread does not panic");
            }
        }
    }
}

impl Job {
    fn carry_out(self) -> Written {
        let result = self.durability.write(&self.file, &self.block[..self.length], self.offset);
        Written { number: self.number, block: self.block, result }
    }
}
