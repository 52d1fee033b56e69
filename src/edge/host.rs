//! What the edges of a real machine (`edge::ring`, `edge::epoll`) have in common beside the trait.
//!
//! Owns: the trait that the server builds on, the options that both are made of, the hook of tests that makes things
//! fail. Takes and gives: plain values.
//! Always true: an edge belongs to the thread that set it up.
//! Not here: which of them is taken (`edge::pick`), how they work.

use std::io;
use std::os::fd::OwnedFd;

use crate::edge::disk::DataDirectory;
use crate::edge::io::{Io, SetupError};
use crate::edge::net::Listener;
use crate::edge::system;
use crate::limits;

/// What an edge is made of.
#[derive(Debug)]
pub struct HostOptions {
    /// Sockets to accept from.
    pub listeners: Vec<Listener>,
    /// The data directory, of the core that carries the log.
    pub data: Option<DataDirectory>,
    /// Receive buffers, a power of two; [`limits::shard::RECEIVE_BUFFERS`].
    pub receive_buffers: u16,
    /// Bytes of each; [`limits::shard::RECEIVE_BUFFER_BYTES`].
    pub receive_buffer_bytes: usize,
}

impl HostOptions {
    /// The product's sizes.
    pub fn new(listeners: Vec<Listener>, data: Option<DataDirectory>) -> HostOptions {
        HostOptions {
            listeners,
            data,
            receive_buffers: limits::shard::RECEIVE_BUFFERS,
            receive_buffer_bytes: limits::shard::RECEIVE_BUFFER_BYTES,
        }
    }
}

/// Kinds of operations, for the fault hook and for the tokens of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// Accept of a listener.
    Accept = 1,
    /// Receive of a connection.
    Receive = 2,
    /// Send of a connection.
    Send = 3,
    /// Cancel of any of these (ring).
    Cancel = 4,
    /// Write of the log.
    LogWrite = 5,
    /// Read of the eventfd (ring).
    WakeRead = 6,
    /// A message that has arrived from another ring.
    WakeMessage = 7,
    /// A message that was sent to another ring.
    MessageSent = 8,
    /// Sync after a log write that could not be durable by itself (ring; the epoll edge's thread does it in one).
    LogSync = 9,
}

/// A test's hook that rewrites the result of an operation: a count or a negated error number. Sends may be turned
/// into errors only.
pub type FaultHook = Box<dyn FnMut(Operation, i32) -> i32>;

/// The hook, if there is one.
#[derive(Default)]
pub(crate) struct Fault(Option<FaultHook>);

impl Fault {
    /// With or without a hook.
    pub(crate) fn new(hook: Option<FaultHook>) -> Fault {
        Fault(hook)
    }

    /// The result of an operation, a count or a negated error number, as the hook wants it.
    pub(crate) fn rewrite(&mut self, operation: Operation, result: i32) -> i32 {
        self.0.as_mut().map_or(result, |hook| hook(operation, result))
    }

    /// The same. That there was nothing to do is no result.
    pub(crate) fn pass(&mut self, operation: Operation, result: io::Result<usize>) -> io::Result<usize> {
        if self.0.is_none() {
            return result;
        }
        let number = match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
            Ok(count) => i32::try_from(count).expect("an operation has far less than 2 GiB"),
        };
        let number = self.rewrite(operation, number);
        usize::try_from(number).map_err(|_| io::Error::from_raw_os_error(-number))
    }
}

/// On which processors an edge's thread runs.
#[derive(Default)]
pub(crate) struct Place {
    /// As asked for last.
    asked: Option<usize>,
    /// Those that the thread may use, while it is kept on one.
    allowed: Vec<usize>,
    /// The kernel, or a filter of system calls, does not let it choose.
    refused: bool,
}

impl Place {
    /// See [`Io::run_on`].
    pub(crate) fn run_on(&mut self, processor: Option<usize>) {
        if self.refused || processor == self.asked {
            return;
        }
        if self.asked.is_none() {
            self.allowed = system::allowed_cpus();
        }
        self.asked = processor;
        let done = match processor.filter(|processor| self.allowed.contains(processor)) {
            Some(processor) => system::run_thread_on(&[processor]),
            None => system::run_thread_on(&self.allowed),
        };
        self.refused = done.is_err();
    }
}

/// An edge whose operations can be made to fail, by tests.
pub trait Faults {
    /// Lets `hook` rewrite results from here on.
    fn set_fault_hook(&mut self, hook: Option<FaultHook>);
}

/// An [`Io`] of a real machine, as the server's threads use it.
pub trait HostIo: Io<Socket = OwnedFd> + Sized {
    /// Sets up for the calling thread, which is the only one to use it. `data`: for the core that carries the log.
    ///
    /// # Errors
    /// Why it can't be used here, with what to do about it.
    fn set_up(data: Option<DataDirectory>) -> Result<Self, SetupError>;

    /// Accepts from these too, from here on. Their positions go on where the table of listeners ended.
    fn listen(&mut self, listeners: Vec<Listener>);

    /// What it uses of what the kernel offers, for the log line at the start: names, and whether in use.
    fn fast_paths(&self) -> Vec<(&'static str, bool)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_kept_on_a_processor_and_let_go() {
        let allowed = system::allowed_cpus();
        let mut place = Place::default();
        for cpu in &allowed {
            place.run_on(Some(*cpu));
            assert_eq!((system::allowed_cpus(), system::current_cpu()), (vec![*cpu], Some(*cpu)));
        }
        place.run_on(None);
        assert_eq!(system::allowed_cpus(), allowed);
        // One that the thread may not use is as good as none.
        place.run_on(Some(libc::CPU_SETSIZE as usize - 1));
        assert_eq!(system::allowed_cpus(), allowed);
    }
}
