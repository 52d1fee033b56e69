//! The edge where io_uring can't be used: epoll, non-blocking sockets, and a thread that writes the log.
//!
//! Owns: the epoll instance, connections and listeners, receive buffers, the log's thread.
//! Takes: the commands of [`Io`]. Gives: [`Completion`]s, by the same contract as `edge::ring`.
//! Always true: readiness is reported once for each edge and kept in a flag until the kernel says EAGAIN; commands
//! act at once, their completions wait for the next wait; a connection that is closed is gone at once, so nothing
//! names it again.
//! Not here: protocol, decisions, the order of log writes (`edge::disk`). No `unsafe`: system calls are
//! in `edge::system`.

mod log;
mod sockets;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use self::log::LogThread;
use self::sockets::{Sockets, Source};
use crate::edge::buffer::AlignedBuffer;
use crate::edge::clock::Clock;
use crate::edge::disk::DataDirectory;
use crate::edge::host::{Fault, FaultHook, Faults, HostIo, HostOptions, Place};
use crate::edge::io::{Completion, ConnId, Io, SendPieces, SetupError, Waker};
use crate::edge::net::Listener;
use crate::edge::system::{self, Readiness};
use crate::edge::wake::LoopWake;
use crate::limits::shard::READINESS_PER_TURN;
use crate::stdx::time::Monotonic;

/// An [`Io`] on epoll. Belongs to the thread that made it.
pub struct Epoll {
    epoll: OwnedFd,
    /// Where the kernel reports; its content means nothing between waits.
    readiness: Vec<Readiness>,
    sockets: Sockets,
    log: Option<LogThread>,
    wake: Arc<LoopWake>,
    place: Place,
    now: Monotonic,
    /// Completions that came about outside of a wait.
    ready: Vec<Completion<OwnedFd>>,
    fault: Fault,
}

impl Epoll {
    /// Sets everything up and starts accepting. Call it on the thread that will use it.
    pub fn new(options: HostOptions) -> Result<Epoll, SetupError> {
        let failed = |error| SetupError::of_step("set up epoll", error);
        let epoll = system::epoll().map_err(failed)?;
        let wake = LoopWake::new(None).map_err(failed)?;
        let (add, edges) = (libc::EPOLL_CTL_ADD, libc::EPOLLIN | libc::EPOLLET);
        system::epoll_control(epoll.as_fd(), add, wake.event(), edges, Source::Wake.token())
            .map_err(failed)?;
        let log = match options.data {
            None => None,
            Some(data) => Some(LogThread::start(data, wake.nudger())?),
        };
        let mut edge = Epoll {
            epoll,
            readiness: vec![Readiness { events: 0, u64: 0 }; READINESS_PER_TURN],
            sockets: Sockets::new(options.receive_buffers, options.receive_buffer_bytes),
            log,
            wake,
            place: Place::default(),
            now: Clock.now(),
            ready: Vec::new(),
            fault: Fault::default(),
        };
        edge.listen(options.listeners);
        Ok(edge)
    }

    /// Waits for readiness and notes it.
    fn poll(&mut self, timeout: Option<Duration>) {
        let count = match system::epoll_wait(self.epoll.as_fd(), &mut self.readiness, timeout) {
            Ok(count) => count,
            // For the caller to find out.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => panic!("epoll_wait failed, which only a bug explains: {error}"),
        };
        for event in &self.readiness[..count] {
            self.sockets.note(Source::of(event.u64), event.events.cast_signed());
        }
    }
}

impl HostIo for Epoll {
    fn set_up(data: Option<DataDirectory>) -> Result<Epoll, SetupError> {
        Epoll::new(HostOptions::new(Vec::new(), data))
    }

    fn listen(&mut self, listeners: Vec<Listener>) {
        for listener in listeners {
            self.sockets.listen(listener, self.epoll.as_fd());
        }
    }

    fn fast_paths(&self) -> Vec<(&'static str, bool)> {
        let ring_only = ["multishot receive", "buffer rings", "MSG_RING", "deferred task work"];
        let mut paths = ring_only.map(|name| (name, false)).to_vec();
        if let Some(log) = &self.log {
            paths.push(("registered buffers", false));
            paths.push(("O_DIRECT + RWF_DSYNC", log.is_direct()));
        }
        paths
    }
}

impl Faults for Epoll {
    fn set_fault_hook(&mut self, hook: Option<FaultHook>) {
        self.fault = Fault::new(hook);
    }
}

impl Io for Epoll {
    type Socket = OwnedFd;

    fn now(&self) -> Monotonic {
        self.now
    }

    fn deaf(&self) -> Duration {
        self.log.as_ref().map_or(Duration::ZERO, LogThread::deaf)
    }

    fn is_alone(&self) -> bool {
        self.log.as_ref().is_some_and(LogThread::is_alone)
    }

    fn processor(&self) -> Option<usize> {
        system::current_cpu()
    }

    fn run_on(&mut self, processor: Option<usize>) {
        self.place.run_on(processor);
    }

    fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion<OwnedFd>>) {
        let resume = self.sockets.resume_accepting(self.now);
        let may_sleep = timeout != Some(Duration::ZERO);
        if let Some(log) = &mut self.log {
            log.begin_turn(may_sleep, &mut self.fault, &mut self.ready);
        }
        for completion in self.ready.drain(..) {
            // Closed since then: nothing names it any more.
            if self.sockets.is_current(&completion) {
                out.push(completion);
            }
        }
        let timeout = match (timeout, resume) {
            (Some(timeout), Some(resume)) => Some(timeout.min(resume)),
            (timeout, resume) => timeout.or(resume),
        };
        let may_sleep = may_sleep && out.is_empty() && !self.sockets.has_work();
        // The last step before sleeping: a wake from here on finds the loop asleep.
        let sleeps = may_sleep && self.wake.try_sleep();
        if let (false, Some(log)) = (sleeps, &mut self.log) {
            log.writes().give_way();
        }
        self.poll(if sleeps { timeout } else { Some(Duration::ZERO) });
        let woken = self.wake.awake();
        self.now = Clock.now();

        self.sockets.work(self.now, &mut self.fault, out);
        if let (true, Some(log)) = (woken.nudged, &mut self.log) {
            log.take_results(&mut self.fault, out);
        }
        if woken.called {
            out.push(Completion::Woken);
        }
        if let Some(log) = &mut self.log {
            log.writes().look_for_company(out);
        }
    }

    fn adopt(&mut self, socket: OwnedFd) -> ConnId {
        self.sockets.adopt(socket, self.epoll.as_fd(), &mut self.ready)
    }

    fn send(&mut self, conn: ConnId, pieces: &mut SendPieces) {
        self.sockets.send(conn, pieces, self.epoll.as_fd(), &mut self.fault, &mut self.ready);
    }

    fn pause_receive(&mut self, conn: ConnId) {
        self.sockets.pause_receive(conn);
    }

    fn resume_receive(&mut self, conn: ConnId) {
        self.sockets.resume_receive(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.sockets.close(conn);
    }

    fn connections(&self) -> usize {
        self.sockets.connections()
    }

    fn stop_accepting(&mut self) {
        self.sockets.stop_accepting();
    }

    fn log_buffer(&mut self, capacity: usize) -> AlignedBuffer {
        match &mut self.log {
            Some(log) => log.buffer(capacity),
            None => AlignedBuffer::new(capacity),
        }
    }

    fn log_write(&mut self, token: u64, segment: u64, offset: u64, buffer: AlignedBuffer) {
        let log = self.log.as_mut().expect("log writes go to the shard with the log");
        log.write(token, segment, offset, buffer, &mut self.ready);
    }

    fn log_prepare_segment(&mut self, number: u64, bytes: u64) {
        let log = self.log.as_mut().expect("segments belong to the shard with the log");
        log.prepare_segment(number, bytes);
    }

    fn log_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, LogThread::bytes)
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn wake(&mut self, target: &Waker) {
        target.wake();
    }
}

#[cfg(test)]
impl crate::edge::tests::Inside for Epoll {
    fn socket(&self, conn: ConnId) -> OwnedFd {
        self.sockets.socket(conn)
    }

    fn log_writes(&mut self) -> &mut crate::edge::disk::LogWrites {
        self.log.as_mut().expect("has a log").writes()
    }
}
