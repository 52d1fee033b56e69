//! The table of listeners of one loop: who is accepted from, who pauses, who is stopped.
//!
//! Positions are never used again. A failed accept pauses its listener, so that a want of descriptors or memory
//! does not make the loop spin.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::Listener;
use crate::edge::system;
use crate::limits::shard::ACCEPT_PAUSE_MILLISECONDS;
use crate::stdx::time::Monotonic;

/// All listeners of a loop.
#[derive(Debug, Default)]
pub(crate) struct Acceptors(Vec<Acceptor>);

#[derive(Debug)]
struct Acceptor {
    /// `None` when it is closed.
    listener: Option<Listener>,
    /// Something is known to be under way: an accept of the ring, or clients that wait.
    busy: bool,
    stopped: bool,
    /// Accepted from again then.
    paused_until: Option<Monotonic>,
}

impl Acceptors {
    /// Adds a listener and gives its position.
    pub(crate) fn add(&mut self, listener: Listener) -> usize {
        self.0.push(Acceptor { listener: Some(listener), busy: false, stopped: false, paused_until: None });
        self.0.len() - 1
    }

    /// Number of positions.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The listener that was just added.
    pub(crate) fn listener(&self, index: usize) -> &Listener {
        self.0[index].listener.as_ref().expect("is not closed")
    }

    /// The socket to accept from, unless it is closed.
    pub(crate) fn socket(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.0[index].listener.as_ref().map(Listener::socket)
    }

    /// True when nobody is to be let in.
    pub(crate) fn is_stopped(&self, index: usize) -> bool {
        self.0[index].stopped
    }

    /// What was set last with [`Acceptors::set_busy`].
    pub(crate) fn is_busy(&self, index: usize) -> bool {
        self.0[index].busy
    }

    /// True between [`Acceptors::failed`] and the end of the pause.
    pub(crate) fn is_paused(&self, index: usize) -> bool {
        self.0[index].paused_until.is_some()
    }

    /// Something is under way, or not.
    pub(crate) fn set_busy(&mut self, index: usize, busy: bool) {
        self.0[index].busy = busy;
    }

    /// An accept has failed: true if the next may follow at once, else the listener pauses.
    pub(crate) fn failed(&mut self, index: usize, error: &io::Error, now: Monotonic) -> bool {
        match error.raw_os_error() {
            // Errors of the one connection, or none.
            Some(libc::EINTR | libc::EAGAIN | libc::ECONNABORTED | libc::EPROTO) => true,
            // Want of descriptors or memory. Unknown errors too: whatever it is, it must not spin.
            _ => {
                let pause = Duration::from_millis(ACCEPT_PAUSE_MILLISECONDS);
                self.0[index].paused_until = Some(now + pause);
                false
            }
        }
    }

    /// Ends the pauses that are over, telling `resumed`, and gives the time until the next does.
    pub(crate) fn resume(&mut self, now: Monotonic, mut resumed: impl FnMut(usize)) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for (index, acceptor) in self.0.iter_mut().enumerate() {
            let Some(until) = acceptor.paused_until else { continue };
            let left = until.since(now);
            if left.is_zero() {
                acceptor.paused_until = None;
                resumed(index);
            } else {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
        next
    }

    /// Lets nobody in from here on: who connects now is refused, though a ring's accept may still have the socket open.
    /// False: was so before.
    pub(crate) fn stop(&mut self, index: usize) -> bool {
        let acceptor = &mut self.0[index];
        acceptor.paused_until = None;
        if let Some(listener) = &acceptor.listener {
            // It fails where nobody listens any more.
            drop(system::shut_down(listener.socket()));
        }
        !std::mem::replace(&mut acceptor.stopped, true)
    }

    /// Closes the listener, which frees its address.
    pub(crate) fn close(&mut self, index: usize) {
        self.0[index].listener = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::net::ListenAddress;

    #[test]
    fn a_want_of_something_pauses_and_a_lost_client_does_not() {
        let address = ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"));
        let mut acceptors = Acceptors::default();
        let index = acceptors.add(Listener::bind(&address).expect("binds"));
        let (error, now) = (io::Error::from_raw_os_error, Monotonic(5));
        assert!(acceptors.failed(index, &error(libc::ECONNABORTED), now) && !acceptors.is_paused(index));
        assert!(!acceptors.failed(index, &error(libc::EMFILE), now) && acceptors.is_paused(index));
        let mut resumed = Vec::new();
        let left = acceptors.resume(now, |index| resumed.push(index)).expect("is paused");
        assert_eq!((left, resumed.len()), (Duration::from_millis(ACCEPT_PAUSE_MILLISECONDS), 0));
        assert_eq!(acceptors.resume(now + left, |index| resumed.push(index)), None);
        assert_eq!((resumed, acceptors.is_paused(index)), (vec![index], false));
        assert!(acceptors.stop(index) && !acceptors.stop(index) && acceptors.socket(index).is_some());
        acceptors.close(index);
        assert!(acceptors.socket(index).is_none());
    }
}
