//! What a shard's loop asks of the outside: sockets, the log's disk, time, wakes.
//!
//! Owns: the trait [`Io`] and the values that cross it.
//! Takes: commands of the loop, which are queued and submitted by the next [`Io::wait`].
//! Gives: [`Completion`]s, in the order in which they happened for each connection and for the log.
//! Always true: memory handed to the outside belongs to the operation until its completion; after
//! [`Io::close`] no completion names that connection again; an error of the log's disk is final.
//! Not here: how it is done (`edge::ring`, `edge::epoll`, the simulator), what the bytes mean.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::limits;
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

pub use crate::edge::buffer::{AlignedBuffer, ReceivedBytes};

/// A connection of this shard. Carries a generation, so that a late one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub Key);

/// Something that has happened outside. `S`: an accepted socket ([`Io::Socket`]).
#[derive(Debug)]
pub enum Completion<S> {
    /// A client has connected. [`Io::adopt`] it here, or send it to another core; dropping it refuses the client.
    Incoming {
        /// Belongs to no loop yet.
        socket: S,
        /// Position in the table of listeners.
        listener: usize,
    },
    /// Bytes have come in. The buffer goes back to the ring when `bytes` is dropped: do that soon.
    Received {
        /// The connection they came from.
        conn: ConnId,
        /// The bytes, never empty.
        bytes: ReceivedBytes,
    },
    /// Nothing more will be received, or a send has failed. The loop answers with [`Io::close`], at once or,
    /// after [`CloseCause::EndOfStream`], when its last answers are sent. A failed send may follow as a second one.
    Closed {
        /// The connection that has ended.
        conn: ConnId,
        /// Why.
        cause: CloseCause,
    },
    /// The whole previous send of the connection is in the socket's buffer; the next may follow.
    Sent {
        /// The connection that may send again.
        conn: ConnId,
    },
    /// A log write is whole and durable (unless syncs are switched off).
    LogWritten {
        /// As given to [`Io::log_write`].
        token: u64,
        /// The buffer of the write, to be used again.
        buffer: AlignedBuffer,
    },
    /// A log write has failed or was short. Final: nothing further may be acknowledged (spec D4).
    LogFailed {
        /// As given to [`Io::log_write`].
        token: u64,
        /// What the disk said.
        error: io::Error,
    },
    /// A prepared segment exists durably, full of zeros; it may be written to.
    SegmentReady {
        /// As given to [`Io::log_prepare_segment`].
        number: u64,
    },
    /// A segment could not be prepared; nothing of it is left. May be asked for again.
    SegmentFailed {
        /// As given to [`Io::log_prepare_segment`].
        number: u64,
        /// Why.
        error: SegmentError,
    },
    /// Another thread has called [`Waker::wake`] since the last wait returned; many calls make one.
    Woken,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseCause {
    /// The peer sends nothing more; it may still read.
    EndOfStream,
    /// Receiving has failed, mostly a reset.
    ReceiveFailed(io::Error),
    /// Sending has failed; how much of it went out is unknown.
    SendFailed(io::Error),
}

/// Why a log segment could not be prepared.
#[derive(Debug)]
pub enum SegmentError {
    /// The file system (or a quota) has no room: stop proposing, ask again later (hazard H30).
    NoSpace,
    /// Anything else.
    Failed(io::Error),
}

/// The bytes of one send, as pieces that stay where they are.
#[derive(Debug, Default)]
pub struct SendPieces {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl SendPieces {
    /// Adds a piece at the end; an empty one is left out. At most [`limits::shard::SEND_PIECES_MAX`].
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        assert!(!self.is_full(), "a send has at most SEND_PIECES_MAX pieces");
        self.bytes += piece.len();
        self.pieces.push(piece);
    }

    /// True when no further piece fits.
    pub fn is_full(&self) -> bool {
        self.pieces.len() >= limits::shard::SEND_PIECES_MAX
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Sum of the pieces' bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Forgets all pieces, keeps the room.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }
}

/// What wakes a loop out of its wait, from any thread. Cheap when the loop is awake anyway.
#[derive(Clone)]
pub struct Waker(Arc<dyn Wake>);

/// How a kind of [`Io`] is woken.
pub trait Wake: Send + Sync {
    /// Makes the current or else the next wait return with [`Completion::Woken`].
    fn wake(&self);

    /// For a caller with a ring of its own: the file descriptor of the sleeping target's ring, to which a message
    /// has to be sent now. `None`: the wake is done already.
    fn wake_by_message(&self) -> Option<i32> {
        self.wake();
        None
    }

    /// Wakes whatever the state, for a caller whose message did not arrive.
    fn wake_now(&self) {
        self.wake();
    }
}

impl Waker {
    /// A waker of the given kind.
    pub fn new(wake: Arc<dyn Wake>) -> Waker {
        Waker(wake)
    }

    /// Wakes the loop. What the caller wrote before is seen by the loop after its [`Completion::Woken`].
    pub fn wake(&self) {
        self.0.wake();
    }

    /// See [`Wake::wake_by_message`].
    pub fn wake_by_message(&self) -> Option<i32> {
        self.0.wake_by_message()
    }

    /// See [`Wake::wake_now`].
    pub fn wake_now(&self) {
        self.0.wake_now();
    }
}

/// The outside of one shard's loop. One thread, one `Io`; built on the thread that uses it.
pub trait Io {
    /// An accepted connection that no loop has adopted yet; it can go to another core.
    type Socket: Send;

    /// The time at which the last [`Io::wait`] returned.
    fn now(&self) -> Monotonic;

    /// How long of it nobody was listened to, because the loop made a log write itself.
    fn deaf(&self) -> Duration {
        Duration::ZERO
    }

    /// True if the log's writes are few and come one by one, so that the loop makes them itself.
    fn is_alone(&self) -> bool {
        false
    }

    /// The processor that the loop is running on, where that is known.
    fn processor(&self) -> Option<usize> {
        None
    }

    /// Keeps the loop's thread on one of the processors that it may use, or (`None`) on no certain one, as in the
    /// beginning.
    fn run_on(&mut self, _processor: Option<usize>) {}

    /// Hands over what was queued, before the caller does something long. [`Io::wait`] does it too.
    fn submit(&mut self) {}

    /// Submits all that was queued, waits until something happens (`None`: for ever; zero: looks only) and appends
    /// what happened to `out`. May return early with nothing.
    fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion<Self::Socket>>);

    /// Makes a connection of this loop; its receive is armed.
    fn adopt(&mut self, socket: Self::Socket) -> ConnId;

    /// Sends `pieces` (not empty) and leaves the argument empty, ready to be filled again. One send at a time for
    /// each connection: the next after [`Completion::Sent`]. Ignored for a connection that is closed.
    fn send(&mut self, conn: ConnId, pieces: &mut SendPieces);

    /// Stops receiving. What was already on its way may still come, some buffers at most.
    fn pause_receive(&mut self, conn: ConnId);

    /// Receives again.
    fn resume_receive(&mut self, conn: ConnId);

    /// Gives the connection up: cancels what is under way, then closes. No completion names it from here on, and
    /// a send under way may be cut short.
    fn close(&mut self, conn: ConnId);

    /// Connections that are open or whose close is still under way.
    fn connections(&self) -> usize;

    /// Accepts no further connections and frees the listeners' addresses.
    fn stop_accepting(&mut self);

    /// An empty buffer for [`Io::log_write`] of at least `capacity` bytes; a registered one if such is free.
    fn log_buffer(&mut self, capacity: usize) -> AlignedBuffer;

    /// Writes the buffer at `offset` of the segment, durably, in one write. Offset and length are multiples of
    /// [`limits::log::BLOCK_BYTES`]; the segment exists. Writes may overlap only if they are handed over without
    /// waiting; their completions come in the order of the calls.
    fn log_write(&mut self, token: u64, segment: u64, offset: u64, buffer: AlignedBuffer);

    /// Canary M1: the next [`Io::log_write`] completes without having been synced.
    #[cfg(any(test, feature = "testing"))]
    fn log_skip_sync(&mut self) {}

    /// Creates a segment of so many zero bytes behind the loop's back.
    fn log_prepare_segment(&mut self, number: u64, bytes: u64);

    /// Bytes of all segment files, prepared ones included.
    fn log_bytes(&self) -> u64;

    /// What other threads wake this loop with.
    fn waker(&self) -> Waker;

    /// Wakes another loop, with the next submission if both have rings.
    fn wake(&mut self, target: &Waker);
}

/// Why an edge can't be used here. The text says what to do.
#[derive(Debug)]
pub enum SetupError {
    /// EPERM or EACCES, with the step: io_uring, or a call of it, is switched off, or filtered in a container.
    Forbidden(&'static str, io::Error),
    /// ENOSYS: io_uring is not in the kernel, or it or a call of it is hidden by a filter.
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
            Some(libc::EMFILE | libc::ENFILE) => SetupError::Descriptors(error),
            _ => SetupError::Failed(step, error),
        }
    }

    /// Sorts the error of a step that is one of the calls of io_uring, each of which a filter may refuse.
    pub(crate) fn of_uring(step: &'static str, error: io::Error) -> SetupError {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => SetupError::Forbidden(step, error),
            Some(libc::ENOSYS) => SetupError::Absent,
            Some(libc::ENOMEM) => SetupError::Memory(error),
            _ => SetupError::of_step(step, error),
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Forbidden(step, error) => write!(
                formatter,
                "io_uring is forbidden for this process (failed to {step}: {error}): set the sysctl \
                 kernel.io_uring_disabled to 0, or run the container with a seccomp profile that allows \
                 io_uring_setup, io_uring_enter and io_uring_register (Docker: --security-opt seccomp=...)"
            ),
            SetupError::Absent => formatter.write_str(
                "this kernel or sandbox has no io_uring (ENOSYS): run on Linux 6.1 or later, outside of sandboxes \
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
            (of(libc::ENOMEM), "make an eventfd"),
            (of(libc::EMFILE), "ulimit -n"),
            (of(libc::EIO), "make an eventfd"),
            (of(libc::EIO), "--io"),
            (SetupError::Lacks("ears"), "lacks ears: run on Linux 6.1"),
        ] {
            let text = error.to_string();
            assert!(text.contains(advice), "{text}");
        }
    }

    #[test]
    fn a_refused_call_of_io_uring_has_its_fix() {
        let of = |number| SetupError::of_uring("receive by io_uring", io::Error::from_raw_os_error(number));
        for (number, advice) in [
            (libc::EPERM, "allows io_uring_setup, io_uring_enter and io_uring_register"),
            (libc::EACCES, "failed to receive by io_uring"),
            (libc::ENOSYS, "run on Linux 6.1 or later"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
            (libc::EIO, "failed to receive by io_uring"),
        ] {
            let text = of(number).to_string();
            assert!(text.contains(advice), "{text}");
        }
    }
}
