//! The submission and completion queues of one io_uring: set up, fill, enter, reap.
//!
//! Owns: the ring, completions taken out early, the count of operations under way.
//! Takes: submissions. Gives: [`Reaped`] completions in the kernel's order.
//! Always true: no completion is lost (NODROP is required, an overflow is asked for); `in_flight` counts the
//! operations whose last completion was not yet given out.
//! Not here: what a token means, who owns an operation's memory.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, cqueue, squeue, types};

use super::token::Token;
use crate::edge::host::{Fault, FaultHook, Operation};
use crate::edge::io::SetupError;
use crate::edge::system;
use crate::limits::shard::{COMPLETION_ENTRIES, SUBMISSION_ENTRIES};

/// Longest wait that is asked of the kernel.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait in [`Queue::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all; submit only.
    Submit,
    /// Not at all, but run what the kernel has deferred.
    Look,
    /// For one completion or so long.
    AtMost(Duration),
    /// For one completion.
    Forever,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaped {
    pub(super) token: Token,
    /// Count or descriptor, or a negated error number.
    pub(super) result: i32,
    /// The operation goes on and will complete again.
    pub(super) more: bool,
    /// Number of the provided buffer that was used up.
    pub(super) buffer: Option<u16>,
}

/// The ring.
pub(super) struct Queue {
    ring: IoUring,
    /// With deferred task work.
    deferred: bool,
    backlog: VecDeque<Reaped>,
    in_flight: usize,
    fault: Fault,
}

impl Queue {
    /// A ring for the calling thread; with deferred task work if that is `wanted` and there.
    pub(super) fn new(wanted: bool) -> Result<Queue, SetupError> {
        let (ring, deferred) = match build(wanted) {
            // Deferred task work came with 6.1, and some sandboxes know less than their kernel.
            Err(error) if wanted && error.raw_os_error() == Some(libc::EINVAL) => (build(false), false),
            other => (other, wanted),
        };
        let ring = ring.map_err(setup_error)?;
        if !ring.params().is_feature_nodrop() {
            return Err(SetupError::Lacks("the promise to drop no completions"));
        }
        if !ring.params().is_feature_ext_arg() {
            return Err(SetupError::Lacks("waits with a timeout"));
        }
        Ok(Queue { ring, deferred, backlog: VecDeque::new(), in_flight: 0, fault: Fault::default() })
    }

    pub(super) fn set_fault(&mut self, hook: Option<FaultHook>) {
        self.fault = Fault::new(hook);
    }

    /// What rewrites results, for operations that are not the ring's.
    pub(super) fn fault(&mut self) -> &mut Fault {
        &mut self.fault
    }

    /// Descriptor of the ring, for messages to it.
    pub(super) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Whether completions are worked off only when the loop asks.
    pub(super) fn defers_task_work(&self) -> bool {
        self.deferred
    }

    /// Whether the kernel knows messages between rings.
    pub(super) fn has_messages(&self) -> bool {
        let mut probe = io_uring::Probe::new();
        let asked = self.ring.submitter().register_probe(&mut probe);
        asked.is_ok() && probe.is_supported(io_uring::opcode::MsgRingData::CODE)
    }

    /// Operations that will complete again.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// True if operations wait to be submitted.
    pub(super) fn has_submissions(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// True if completions wait to be taken, as far as can be told without asking the kernel.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.backlog.is_empty() || !self.ring.completion().is_empty()
    }

    /// Lets the ring hold a file open as long as it lives, in the kernel, beyond the death of the process.
    pub(super) fn register_files(&self, files: &[RawFd]) -> io::Result<()> {
        self.ring.submitter().register_files(files)
    }

    /// Registers buffers for writes.
    ///
    /// # Safety
    /// The memory stays allocated until the ring is gone.
    pub(super) unsafe fn register_buffers(&self, buffers: &[libc::iovec]) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submitter().register_buffers(buffers) }
    }

    /// Registers a provided buffer ring.
    ///
    /// # Safety
    /// `address` holds `count` entries, aligned to a page, until [`Queue::unregister_buffer_ring`].
    pub(super) unsafe fn register_buffer_ring(&self, address: u64, count: u16, group: u16) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(address, count, group, 0) }
    }

    pub(super) fn unregister_buffer_ring(&self, group: u16) -> io::Result<()> {
        self.ring.submitter().unregister_buf_ring(group)
    }

    /// Queues an operation, submitting others first if there is no room.
    ///
    /// # Safety
    /// All memory that the entry points to stays allocated, and is left alone by others, until the operation's last
    /// completion was given out by [`Queue::next`].
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.to_u64());
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enter(Wait::Look);
        }
        self.in_flight += 1;
    }

    /// Queues an operation that refers to no memory.
    pub(super) fn push_plain(&mut self, entry: Plain, token: Token) {
        // SAFETY: a `Plain` operation has no pointers.
        unsafe { self.push(entry.build(), token) }
    }

    /// Submits all that is queued and waits.
    pub(super) fn enter(&mut self, wait: Wait) {
        if let Err(error) = self.try_enter(wait) {
            panic!("io_uring_enter failed, which only a bug or a lost completion explains: {error}");
        }
    }

    /// The same where it is not known yet whether the call is allowed.
    ///
    /// # Errors
    /// The kernel, or a filter of system calls, refuses it; nothing was submitted.
    pub(super) fn try_enter(&mut self, wait: Wait) -> io::Result<()> {
        let result = match wait {
            Wait::Submit | Wait::Look => {
                let queued = self.ring.submission().len();
                let queued = u32::try_from(queued).expect("bounded by the queue");
                let flags = if wait == Wait::Look { EnterFlags::GETEVENTS.bits() } else { 0 };
                // SAFETY: plain numbers; no argument is passed.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) }
            }
            Wait::AtMost(timeout) => {
                // The kernel refuses times beyond its range; a wait may end early.
                let timeout = types::Timespec::from(timeout.min(TIMEOUT_MAX));
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
            Wait::Forever => self.ring.submitter().submit_and_wait(1),
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time over, or a signal: both are for the caller to find out.
                Some(libc::ETIME | libc::EINTR) => Ok(()),
                // Completions overflow, or the kernel is short of memory: make room, the rest goes next time.
                Some(libc::EBUSY | libc::EAGAIN) => {
                    self.make_room();
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// The next completion, if there is one already.
    pub(super) fn next(&mut self) -> Option<Reaped> {
        let mut reaped = match self.backlog.pop_front() {
            Some(reaped) => reaped,
            None => Reaped::of(&self.ring.completion().next()?),
        };
        if !reaped.more && reaped.token.operation != Operation::WakeMessage {
            self.in_flight -= 1;
        }
        let result = self.fault.rewrite(reaped.token.operation, reaped.result);
        if reaped.token.operation == Operation::Accept && reaped.result >= 0 && result != reaped.result {
            drop(system::adopt(reaped.result));
        }
        reaped.result = result;
        Some(reaped)
    }

    fn make_room(&mut self) {
        self.backlog.extend(self.ring.completion().map(|entry| Reaped::of(&entry)));
    }
}

impl Reaped {
    fn of(entry: &cqueue::Entry) -> Reaped {
        let flags = entry.flags();
        Reaped {
            token: Token::from_u64(entry.user_data()),
            result: entry.result(),
            more: cqueue::more(flags),
            buffer: cqueue::buffer_select(flags),
        }
    }
}

/// Operations without pointers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plain {
    /// Accept again and again.
    Accept(RawFd),
    /// Receive again and again into buffers of the group.
    Receive(RawFd, u16),
    /// Cancel the operation with this token.
    Cancel(Token),
    /// Cancel everything.
    CancelAll,
    /// Put a completion with this token into another ring.
    Message(RawFd, Token),
}

impl Plain {
    fn build(self) -> squeue::Entry {
        use io_uring::opcode::{AcceptMulti, AsyncCancel2, MsgRingData, RecvMulti};
        use types::{CancelBuilder, Fd};
        match self {
            Plain::Accept(socket) => AcceptMulti::new(Fd(socket)).flags(libc::SOCK_CLOEXEC).build(),
            Plain::Receive(socket, group) => RecvMulti::new(Fd(socket), group).build(),
            Plain::Cancel(token) => AsyncCancel2::new(CancelBuilder::user_data(token.to_u64())).build(),
            Plain::CancelAll => AsyncCancel2::new(CancelBuilder::any()).build(),
            Plain::Message(ring, token) => MsgRingData::new(Fd(ring), 0, token.to_u64(), None).build(),
        }
    }
}

/// The reason behind a failure of io_uring_setup.
fn setup_error(error: io::Error) -> SetupError {
    match error.raw_os_error() {
        Some(libc::EINVAL) => SetupError::Lacks("the single issuer mode"),
        _ => SetupError::of_uring("set up the queues of io_uring", error),
    }
}

fn build(deferred: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETION_ENTRIES).setup_submit_all().setup_single_issuer().setup_coop_taskrun();
    if deferred {
        builder.setup_defer_taskrun();
    }
    builder.dontfork().build(SUBMISSION_ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_to_do() {
        for (number, advice) in [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::EPERM, "seccomp"),
            (libc::ENOSYS, "Linux 6.1"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
            (libc::EINVAL, "Linux 6.1"),
            (libc::EIO, "set up the queues"),
        ] {
            let text = setup_error(io::Error::from_raw_os_error(number)).to_string();
            assert!(text.contains(advice), "{text}");
        }
    }

    #[test]
    fn the_reduced_mode_works_too() {
        let queue = Queue::new(false).expect("coop task run without deferral");
        assert!(queue.ring.params().is_setup_single_issuer() && !queue.defers_task_work());
    }

    #[test]
    fn more_operations_than_both_queues_hold_lose_no_completion() {
        let mut queue = Queue::new(true).expect("io_uring works here");
        let count = 3 * COMPLETION_ENTRIES;
        for number in 0..count {
            let token = Token::of(Operation::Cancel, u64::from(number));
            // Cancels of nothing complete at once, so completions pile up without being taken.
            queue.push_plain(Plain::Cancel(Token::of(Operation::Receive, 1)), token);
        }
        let mut seen = vec![false; count as usize];
        let mut turns = 0;
        while queue.in_flight() > 0 {
            turns += 1;
            assert!(turns < 10_000, "{} completions are lost", queue.in_flight());
            queue.enter(Wait::Look);
            while let Some(reaped) = queue.next() {
                let number = reaped.token.number as usize;
                assert!(!std::mem::replace(&mut seen[number], true));
            }
        }
        assert!(seen.into_iter().all(|seen| seen));
    }
}
