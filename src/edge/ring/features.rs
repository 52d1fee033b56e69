//! What a kernel offers of what a ring uses.
//!
//! Owns: nothing.
//! Takes: a kernel to try, or values of a test. Gives: [`Features`].
//! Always true: a feature counts as there when it was seen to work, not by the kernel's version.
//! Not here: what is done without them (`edge::pick` for the first two, the ring for the others).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::error_of;
use super::queue::{Plain, Queue, Reaped, Wait};
use super::receive::{self, ReceivePool};
use super::token::Token;
use crate::edge::host::Operation;
use crate::edge::io::SetupError;

/// What is there, or wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// One receive operation for many buffers (Linux 6.0). Without: the epoll edge.
    pub multishot_receive: bool,
    /// Receive buffers that the kernel picks itself (5.19). Without: the epoll edge.
    pub buffer_rings: bool,
    /// Messages between rings (5.18). Without: a write to the sleeper's eventfd.
    pub messages: bool,
    /// The kernel knows the log's buffers (locked memory). Without: plain writes.
    pub registered_buffers: bool,
    /// Completions are worked off when the loop asks (6.1). Without: at any return to user space.
    pub deferred_task_work: bool,
}

impl Features {
    /// Everything.
    pub const ALL: Features = Features {
        multishot_receive: true,
        buffer_rings: true,
        messages: true,
        registered_buffers: true,
        deferred_task_work: true,
    };

    /// What no ring can do without.
    pub const LEAST: Features =
        Features { messages: false, registered_buffers: false, deferred_task_work: false, ..Features::ALL };

    /// Tries out what a ring can't do without and looks up the rest. Leaves nothing behind.
    ///
    /// # Errors
    /// Why there can be no ring at all.
    pub fn probe() -> Result<Features, SetupError> {
        let mut queue = Queue::new(true)?;
        let mut features = Features {
            messages: queue.has_messages(),
            deferred_task_work: queue.defers_task_work(),
            multishot_receive: false,
            buffer_rings: false,
            ..Features::ALL
        };
        let mut pool = match ReceivePool::register(&queue, 1, 1) {
            Ok(pool) => pool,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(features),
            Err(error) => {
                return Err(SetupError::of_uring("register receive buffers with io_uring", error));
            }
        };
        features.buffer_rings = true;
        let received = receive_once(&mut queue, &mut pool);
        let unregistered = queue.unregister_buffer_ring(receive::GROUP);
        match received {
            Ok(_) => drop(pool),
            // The receive may still be there: better lose the memory.
            Err(_) => pool.leak(),
        }
        unregistered
            .map_err(|error| SetupError::of_uring("unregister receive buffers with io_uring", error))?;
        match received {
            Ok(multishot) => features.multishot_receive = multishot,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(SetupError::of_uring("receive by io_uring", error)),
        }
        Ok(features)
    }

    /// Whether a ring can do with these.
    ///
    /// # Errors
    /// What it lacks.
    pub fn suffice(&self) -> Result<(), SetupError> {
        match self {
            Features { buffer_rings: false, .. } => Err(SetupError::Lacks("buffer rings")),
            Features { multishot_receive: false, .. } => Err(SetupError::Lacks("multishot receive")),
            _ => Ok(()),
        }
    }
}

/// Receives one byte by a multishot receive, which must go on after it, and ends it by closing the peer.
fn receive_once(queue: &mut Queue, pool: &mut ReceivePool) -> io::Result<bool> {
    let (socket, peer) = UnixStream::pair()?;
    io::Write::write_all(&mut &peer, b"?")?;
    let token = Token::of(Operation::Receive, 0);
    queue.push_plain(Plain::Receive(socket.as_raw_fd(), receive::GROUP), token);
    let first = next(queue)?;
    let taken = first.buffer.map(|number| pool.take(number, 1));
    let multishot = first.more && taken.is_some_and(|bytes| *bytes == *b"?");
    drop(peer);
    let mut more = first.more;
    while more {
        more = next(queue)?.more;
    }
    if first.result < 0 { Err(error_of(first.result)) } else { Ok(multishot) }
}

fn next(queue: &mut Queue) -> io::Result<Reaped> {
    const TURNS: u32 = 100;
    for _ in 0..TURNS {
        queue.try_enter(Wait::AtMost(Duration::from_millis(50)))?;
        if let Some(reaped) = queue.next() {
            return Ok(reaped);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_seen_to_have_what_is_needed_again_and_again() {
        for _ in 0..3 {
            let features = Features::probe().expect("io_uring works here");
            assert!(features.multishot_receive && features.buffer_rings, "{features:?}");
            features.suffice().expect("is enough");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        Features::LEAST.suffice().expect("is enough");
        let without = Features { multishot_receive: false, ..Features::ALL };
        let text = without.suffice().expect_err("is needed").to_string();
        assert!(text.contains("lacks multishot receive: run on Linux 6.1"), "{text}");
        let without = Features { buffer_rings: false, ..Features::ALL };
        let text = without.suffice().expect_err("is needed").to_string();
        assert!(text.contains("lacks buffer rings"), "{text}");
    }
}
