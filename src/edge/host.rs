//! What the edges of a real machine (`edge::ring`, `edge::epoll`) have in common beside the trait.
//!
//! Owns: the options that both are made of, why one can't be set up, the hook of tests that makes things fail.
//! Takes and gives: plain values.
//! Always true: the text of a [`SetupError`] has the reason and what to do about it.
//! Not here: which of them is taken (`edge::pick`), how they work.

use std::fmt;
use std::io;

use crate::edge::disk::DataDirectory;
use crate::edge::net::Listener;
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

/// An edge whose operations can be made to fail, by tests.
pub trait Faults {
    /// Lets `hook` rewrite results from here on.
    fn set_fault_hook(&mut self, hook: Option<FaultHook>);
}

/// Why an edge can't be used here. The text says what to do.
#[derive(Debug)]
pub enum SetupError {
    /// EPERM or EACCES: io_uring is switched off, or filtered in a container.
    Forbidden(io::Error),
    /// ENOSYS: io_uring is not in the kernel, or hidden by a filter.
    Absent,
    /// ENOMEM: mostly the limit of locked memory.
    Memory(io::Error),
    /// EMFILE or ENFILE.
    Descriptors(io::Error),
    /// The kernel has io_uring but lacks what the server needs.
    Lacks(&'static str),
    /// Anything else, with the step that failed.
    Failed(&'static str, io::Error),
}

impl SetupError {
    /// Sorts the error of a step.
    pub(crate) fn of_step(step: &'static str, error: io::Error) -> SetupError {
        match error.raw_os_error() {
            Some(libc::ENOMEM) => SetupError::Memory(error),
            Some(libc::EMFILE | libc::ENFILE) => SetupError::Descriptors(error),
            _ => SetupError::Failed(step, error),
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Forbidden(error) => write!(
                formatter,
                "io_uring is forbidden for this process ({error}): set the sysctl kernel.io_uring_disabled to 0, \
                 or run the container with a seccomp profile that allows io_uring_setup, io_uring_enter and \
                 io_uring_register (Docker: --security-opt seccomp=...)"
            ),
            SetupError::Absent => formatter.write_str(
                "this kernel or sandbox has no io_uring (ENOSYS): run on Linux 6.0 or later, outside of sandboxes \
                 that hide it",
            ),
            SetupError::Memory(error) => write!(
                formatter,
                "no memory for the queues of io_uring ({error}): raise the limit of locked memory to 8 MiB or more \
                 (ulimit -l 8192, systemd: LimitMEMLOCK=8M)"
            ),
            SetupError::Descriptors(error) => write!(
                formatter,
                "no file descriptor for the queues of the kernel ({error}): raise the limit of open files \
                 (ulimit -n, systemd: LimitNOFILE)"
            ),
            SetupError::Lacks(what) => {
                write!(formatter, "io_uring of this kernel lacks {what}: run on Linux 6.1 or later")
            }
            SetupError::Failed(step, error) => {
                write!(formatter, "failed to {step} ({error}): choose the other way with --io")
            }
        }
    }
}

impl std::error::Error for SetupError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_to_do() {
        let of = |number| SetupError::of_step("make an eventfd", io::Error::from_raw_os_error(number));
        for (error, advice) in [
            (of(libc::ENOMEM), "ulimit -l"),
            (of(libc::EMFILE), "ulimit -n"),
            (of(libc::EIO), "make an eventfd"),
            (of(libc::EIO), "--io"),
            (SetupError::Lacks("ears"), "lacks ears: run on Linux 6.1"),
        ] {
            let text = error.to_string();
            assert!(text.contains(advice), "{text}");
        }
    }
}
