//! The io_uring reactor: one thread, one ring, completions as plain values.
//!
//! Owns: the ring, connections and listeners, the memory that operations use, the log's open segments.
//! Takes: the commands of [`Io`]. Gives: [`Completion`]s.
//! Always true: memory handed to the kernel is owned here until the operation's completion, beyond `close` and
//! `drop`; a connection's descriptor is closed after the last completion of its operations, so no token outlives
//! its meaning; at most one receive and one send of a connection are under way.
//! Not here: protocol, decisions, the order of log writes. `unsafe` is in `queue`, `receive`, `send`, and at the
//! pushes and registrations of `log`, `sockets` and this file.

mod features;
mod log;
mod queue;
mod receive;
mod send;
mod sockets;
mod token;

#[cfg(test)]
mod tests;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{opcode, types};

pub use features::Features;

use self::log::LogWriter;
use self::queue::{Plain, Queue, Reaped, Wait};
use self::receive::ReceivePool;
use self::sockets::Sockets;
use self::token::Token;
use crate::edge::buffer::{AlignedBuffer, Block};
use crate::edge::clock::Clock;
use crate::edge::disk::DataDirectory;
use crate::edge::host::{FaultHook, Faults, HostIo, HostOptions, Operation, Place};
use crate::edge::io::{Completion, ConnId, Io, SendPieces, SetupError, Waker};
use crate::edge::net::Listener;
use crate::edge::system;
use crate::edge::wake::LoopWake;
use crate::limits;
use crate::stdx::slab::Slab;
use crate::stdx::time::Monotonic;

/// The product's [`Io`]. Belongs to the thread that made it.
pub struct Ring {
    queue: Queue,
    pool: ReceivePool,
    sockets: Sockets,
    log: Option<LogWriter>,
    wake: Arc<LoopWake>,
    /// Where the kernel writes the eventfd's count; never read here.
    wake_count: Block,
    /// Targets of messages to other rings that are not yet known to have arrived.
    messages: Slab<Waker>,
    /// What is in use of what a ring can do without.
    features: Features,
    place: Place,
    now: Monotonic,
    /// Completions that came about outside of a wait.
    ready: Vec<Completion<OwnedFd>>,
}

impl Ring {
    /// Sets everything up and starts accepting. Call it on the thread that will use the ring.
    pub fn new(options: HostOptions) -> Result<Ring, SetupError> {
        Ring::with_features(options, Features::ALL)
    }

    /// The same, using at most the `wanted` features.
    pub fn with_features(options: HostOptions, wanted: Features) -> Result<Ring, SetupError> {
        wanted.suffice()?;
        let mut queue = Queue::new(wanted.deferred_task_work)?;
        let (count, bytes) = (options.receive_buffers, options.receive_buffer_bytes);
        let pool = ReceivePool::register(&queue, count, bytes)
            .map_err(|error| SetupError::of_uring("register receive buffers with io_uring", error))?;
        let messages = wanted.messages && queue.has_messages();
        let wake = LoopWake::new(messages.then(|| queue.descriptor()))
            .map_err(|error| SetupError::of_step("make an eventfd", error))?;
        let log = match options.data {
            None => None,
            Some(data) => Some(LogWriter::new(data, &queue, wake.nudger(), wanted.registered_buffers)?),
        };
        let features = Features {
            deferred_task_work: queue.defers_task_work(),
            messages,
            registered_buffers: log.as_ref().is_some_and(LogWriter::is_registered),
            ..wanted
        };
        let sockets = Sockets::new(options.listeners, &mut queue);
        let mut ring = Ring {
            queue,
            pool,
            sockets,
            log,
            wake,
            wake_count: Block::new(1),
            messages: Slab::default(),
            features,
            place: Place::default(),
            now: Clock.now(),
            ready: Vec::new(),
        };
        ring.read_wakes();
        Ok(ring)
    }

    /// Arms the read of the eventfd.
    fn read_wakes(&mut self) {
        let (event, target) = (types::Fd(self.wake.event().as_raw_fd()), self.wake_count.address());
        let entry = opcode::Read::new(event, target, size_of::<u64>() as u32).build();
        // SAFETY: the block stays in this ring, unread, as long as the ring; `drop` waits for the read's end. The
        // only next read is armed at the completion of this one.
        unsafe { self.queue.push(entry, Token::of(Operation::WakeRead, 0)) }
    }

    fn handle(&mut self, reaped: Reaped, out: &mut Vec<Completion<OwnedFd>>) {
        match reaped.token.operation {
            Operation::Accept => self.sockets.accepted(reaped, &mut self.queue, self.now, out),
            Operation::Receive => self.sockets.received(reaped, &mut self.queue, &mut self.pool, out),
            Operation::Send => self.sockets.sent(reaped, &mut self.queue, out),
            Operation::LogWrite | Operation::LogSync => {
                let log = self.log.as_mut().expect("a log write comes of a log");
                log.written(reaped, &mut self.queue, out);
            }
            Operation::WakeRead => {
                let is_normal = reaped.result > 0 || reaped.result == -libc::EINTR;
                assert!(is_normal, "reading the eventfd failed: {}", error_of(reaped.result));
                self.read_wakes();
            }
            Operation::MessageSent => {
                let target = self.messages.remove(reaped.token.key());
                let target = target.expect("one completion for each message");
                if reaped.result < 0 {
                    target.wake_now();
                }
            }
            // What it says is in the wake's state; what was cancelled reports for itself.
            Operation::WakeMessage | Operation::Cancel => {}
        }
    }
}

impl HostIo for Ring {
    fn set_up(data: Option<DataDirectory>) -> Result<Ring, SetupError> {
        Ring::new(HostOptions::new(Vec::new(), data))
    }

    fn listen(&mut self, listeners: Vec<Listener>) {
        self.sockets.listen(listeners, &mut self.queue);
    }

    fn fast_paths(&self) -> Vec<(&'static str, bool)> {
        let mut paths = vec![
            ("multishot receive", true),
            ("buffer rings", true),
            ("MSG_RING", self.features.messages),
            ("deferred task work", self.features.deferred_task_work),
        ];
        if let Some(log) = &self.log {
            paths.push(("registered buffers", self.features.registered_buffers));
            paths.push(("O_DIRECT + RWF_DSYNC", log.is_direct()));
        }
        paths
    }
}

impl Faults for Ring {
    fn set_fault_hook(&mut self, hook: Option<FaultHook>) {
        self.queue.set_fault(hook);
    }
}

impl Io for Ring {
    type Socket = OwnedFd;

    fn now(&self) -> Monotonic {
        self.now
    }

    fn deaf(&self) -> Duration {
        self.log.as_ref().map_or(Duration::ZERO, LogWriter::deaf)
    }

    fn is_alone(&self) -> bool {
        self.log.as_ref().is_some_and(LogWriter::is_alone)
    }

    fn processor(&self) -> Option<usize> {
        system::current_cpu()
    }

    fn run_on(&mut self, processor: Option<usize>) {
        self.place.run_on(processor);
    }

    fn submit(&mut self) {
        if self.queue.has_submissions() {
            self.queue.enter(Wait::Submit);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion<OwnedFd>>) {
        let may_sleep = timeout != Some(Duration::ZERO);
        if let Some(log) = &mut self.log {
            log.begin_turn(may_sleep, &mut self.queue, &mut self.ready);
        }
        self.pool.recycle();
        self.sockets.arm_starved(&mut self.queue, self.pool.free());
        let resume = self.sockets.resume_accepting(&mut self.queue, self.now);
        out.append(&mut self.ready);

        let timeout = match (timeout, resume) {
            (Some(timeout), Some(resume)) => Some(timeout.min(resume)),
            (timeout, resume) => timeout.or(resume),
        };
        let may_sleep = may_sleep && out.is_empty() && !self.queue.has_completions();
        // The last step before sleeping: a wake from here on finds the loop asleep.
        if may_sleep && self.wake.try_sleep() {
            self.queue.enter(timeout.map_or(Wait::Forever, Wait::AtMost));
        } else {
            self.queue.enter(Wait::Look);
            if self.log.as_mut().is_some_and(|log| log.writes().give_way()) {
                // What has ended meanwhile.
                self.queue.enter(Wait::Look);
            }
        }
        let woken = self.wake.awake();
        self.now = Clock.now();

        for _ in 0..limits::shard::COMPLETIONS_PER_TURN {
            let Some(reaped) = self.queue.next() else { break };
            self.handle(reaped, out);
        }
        if let (true, Some(log)) = (woken.nudged, &mut self.log) {
            log.writes().take_prepared(out);
        }
        if woken.called {
            out.push(Completion::Woken);
        }
        if let Some(log) = &mut self.log {
            log.writes().look_for_company(out);
        }
    }

    fn adopt(&mut self, socket: OwnedFd) -> ConnId {
        self.sockets.adopt(socket, &mut self.queue)
    }

    fn send(&mut self, conn: ConnId, pieces: &mut SendPieces) {
        self.sockets.send(conn, pieces, &mut self.queue);
    }

    fn pause_receive(&mut self, conn: ConnId) {
        self.sockets.pause_receive(conn, &mut self.queue);
    }

    fn resume_receive(&mut self, conn: ConnId) {
        self.sockets.resume_receive(conn, &mut self.queue);
    }

    fn close(&mut self, conn: ConnId) {
        self.sockets.close(conn, &mut self.queue);
    }

    fn connections(&self) -> usize {
        self.sockets.connections()
    }

    fn stop_accepting(&mut self) {
        self.sockets.stop_accepting(&mut self.queue);
    }

    fn log_buffer(&mut self, capacity: usize) -> AlignedBuffer {
        match &mut self.log {
            Some(log) => log.writes().buffer(capacity),
            None => AlignedBuffer::new(capacity),
        }
    }

    fn log_write(&mut self, token: u64, segment: u64, offset: u64, buffer: AlignedBuffer) {
        let log = self.log.as_mut().expect("log writes go to the shard with the log");
        log.write(token, segment, offset, buffer, &mut self.queue, &mut self.ready);
    }

    fn log_prepare_segment(&mut self, number: u64, bytes: u64) {
        let log = self.log.as_mut().expect("segments belong to the shard with the log");
        log.writes().prepare_segment(number, bytes);
    }

    fn log_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, LogWriter::bytes)
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn wake(&mut self, target: &Waker) {
        if !self.features.messages {
            target.wake();
        } else if let Some(ring) = target.wake_by_message() {
            let key = self.messages.insert(target.clone());
            let sent = Token::of_key(Operation::MessageSent, key);
            let arrives = Token::of(Operation::WakeMessage, 0);
            self.queue.push_plain(Plain::Message(ring, arrives), sent);
        }
    }
}

impl Drop for Ring {
    /// Ends everything under way, so that no memory goes while the kernel uses it. Writes of the log are waited for.
    fn drop(&mut self) {
        const PATIENCE: u32 = 1_000;
        self.wake.ring_closed();
        self.queue.set_fault(None);
        self.queue.push_plain(Plain::CancelAll, Token::of(Operation::Cancel, 0));
        for _ in 0..PATIENCE {
            while let Some(reaped) = self.queue.next() {
                if reaped.token.operation == Operation::Accept && reaped.result >= 0 {
                    drop(system::adopt(reaped.result));
                }
            }
            if self.queue.in_flight() == 0 {
                break;
            }
            self.queue.enter(Wait::AtMost(Duration::from_millis(10)));
        }
        if self.queue.in_flight() == 0 && self.queue.unregister_buffer_ring(receive::GROUP).is_ok() {
            return;
        }
        // The kernel holds on to something: better lose memory than have it written to after it was freed.
        self.pool.leak();
        self.sockets.leak();
        mem::forget(self.log.take());
        mem::forget(mem::replace(&mut self.wake_count, Block::new(1)));
    }
}

/// The error in a negative result.
fn error_of(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
}

#[cfg(test)]
impl crate::edge::tests::Inside for Ring {
    fn socket(&self, conn: ConnId) -> OwnedFd {
        self.sockets.socket(conn)
    }

    fn log_writes(&mut self) -> &mut crate::edge::disk::LogWrites {
        self.log.as_mut().expect("has a log").writes()
    }
}
