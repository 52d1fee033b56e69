//! System calls that the standard library lacks, each behind a safe function.
//!
//! Owns: nothing.
//! Takes: descriptors and plain values. Gives: results of the calls as [`io::Result`].
//! Always true: no pointer outlives its call.
//! Not here: io_uring.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Random bytes of the kernel; waits, early at boot, until there are some.
pub(crate) fn random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: writes at most `rest.len()` bytes into `rest`.
        let result = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match check_size(result) {
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("no entropy from getrandom: {error}"),
        }
    }
}

/// A non-blocking attempt to take the exclusive `flock` of a file. False: somebody else has it.
pub(crate) fn try_lock(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match check(result) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reserves the first `bytes` bytes of a file, growing it.
pub(crate) fn preallocate(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // SAFETY: takes no pointers.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) };
    check(result).map(drop)
}

/// Bytes that an ordinary user may still allocate on the file system of a file.
pub(crate) fn available_bytes(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut status = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the kernel's answer is written into `status`, which is large enough for it.
    check(unsafe { libc::fstatvfs(file.as_raw_fd(), status.as_mut_ptr()) })?;
    // SAFETY: all-zero is a valid statvfs, filled in or not.
    let status = unsafe { status.assume_init() };
    if status.f_blocks == 0 {
        // The file system counts no blocks (ramfs, some of user space): only a write can tell.
        return Ok(u64::MAX);
    }
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// The processors on which the calling thread may run.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the kernel writes at most the given size into `set`.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        return Vec::new();
    }
    // SAFETY: all-zero is a valid set, filled in or not.
    let set = unsafe { set.assume_init() };
    // SAFETY: reads a bit of `set`, whose size bounds the number.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// The processor that the calling thread runs on.
pub(crate) fn current_cpu() -> Option<usize> {
    // SAFETY: takes no pointers.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Lets the calling thread run on these processors alone.
pub(crate) fn run_thread_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all-zero is the empty set.
    let set = unsafe { set.assume_init_mut() };
    for cpu in cpus {
        assert!(*cpu < libc::CPU_SETSIZE as usize, "a processor that the kernel has named");
        // SAFETY: writes a bit inside `set`.
        unsafe { libc::CPU_SET(*cpu, set) };
    }
    // SAFETY: the kernel reads the given size of `set`.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    check(result).map(drop)
}

/// Asks the scheduler to give the calling thread, and those that it will start, short turns soon rather than long ones
/// later (custom slices: Linux 6.12 and newer; older ones ignore it). A policy that an operator chose is left alone.
pub(crate) fn ask_for_short_turns(nanoseconds: u64) -> io::Result<()> {
    let mut attributes = std::mem::MaybeUninit::<libc::sched_attr>::zeroed();
    let (bytes, this_thread, no_flags) = (size_of::<libc::sched_attr>(), 0, 0);
    // SAFETY: the kernel writes at most `bytes` bytes into `attributes`.
    let result = unsafe {
        libc::syscall(libc::SYS_sched_getattr, this_thread, attributes.as_mut_ptr(), bytes, no_flags)
    };
    check_size(result as isize)?;
    // SAFETY: all-zero is valid, filled in or not.
    let mut attributes = unsafe { attributes.assume_init() };
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = nanoseconds;
    // SAFETY: the kernel reads `attributes`, whose size is in it.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags) };
    check_size(result as isize).map(drop)
}

/// Sets the length of a listening socket's queue.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::listen(socket.as_raw_fd(), backlog) };
    check(result).map(drop)
}

/// Ends a socket's reading and writing, or its listening, whoever else has it open.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
    check(result).map(drop)
}

/// Sets a socket option whose value is a number.
pub(crate) fn set_socket_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), length)
    };
    check(result).map(drop)
}

/// Reads a socket option whose value is a number.
#[cfg(test)]
pub(crate) fn socket_option(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    let target = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes into `value`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, target, &raw mut length) })?;
    Ok(value)
}

/// The limit of open file descriptors, raised as far as allowed first.
pub(crate) fn raised_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit into `limit`.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: the kernel reads one rlimit from `raised`.
        if check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) }).is_ok() {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}

/// A new eventfd with count zero.
pub(crate) fn event() -> io::Result<OwnedFd> {
    // Not O_NONBLOCK: a ring would fail an armed read with EAGAIN instead of waiting.
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    Ok(adopt(fd))
}

/// What [`epoll_wait`] reports: a set of `EPOLL*` bits and the token of the descriptor.
pub(crate) type Readiness = libc::epoll_event;

/// A new epoll instance.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    Ok(adopt(fd))
}

/// Adds a descriptor, or changes what is reported of it (`EPOLL_CTL_ADD`, `EPOLL_CTL_MOD`).
pub(crate) fn epoll_control(
    epoll: BorrowedFd<'_>,
    control: i32,
    target: BorrowedFd<'_>,
    events: i32,
    token: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
    // SAFETY: the kernel reads the event, which lives through the call.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), control, target.as_raw_fd(), &raw mut event) };
    check(result).map(drop)
}

/// Waits for readiness, in whole milliseconds rounded up, and gives the count of filled entries. `None`: for ever.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    ready: &mut [Readiness],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let count = i32::try_from(ready.len()).unwrap_or(i32::MAX);
    let milliseconds = timeout
        .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    // SAFETY: the kernel writes at most `count` entries into `ready`.
    let result = unsafe { libc::epoll_wait(epoll.as_raw_fd(), ready.as_mut_ptr(), count, milliseconds) };
    check(result).map(|count| usize::try_from(count).expect("checked"))
}

/// Accepts a connection of a non-blocking listener; its socket is non-blocking too.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: without pointers the kernel writes no address.
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), address, length, flags) })?;
    Ok(adopt(fd))
}

/// Receives from a non-blocking socket. Zero: the peer sends nothing more.
pub(crate) fn receive(socket: BorrowedFd<'_>, target: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `target.len()` bytes into `target`.
    check_size(unsafe { libc::recv(socket.as_raw_fd(), target.as_mut_ptr().cast(), target.len(), 0) })
}

/// Sends pieces to a non-blocking socket, as many bytes as it takes; never raises SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all-zero is a valid msghdr: null pointers, zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    // An `IoSlice` has the layout of an iovec, by its documentation.
    header.msg_iov = pieces.as_ptr().cast_mut().cast();
    header.msg_iovlen = pieces.len() as _;
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the kernel reads the header, the vectors and what they point to, all of which outlive the call.
    check_size(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) })
}

/// Writes at an offset with `RWF_*` flags, once: it may be short.
pub(crate) fn write_at(file: BorrowedFd<'_>, bytes: &[u8], offset: u64, flags: i32) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads one vector and the bytes that it points to; both outlive the call.
    check_size(unsafe { libc::pwritev2(file.as_raw_fd(), &raw const vector, 1, offset, flags) })
}

/// Takes over a descriptor that the kernel has just made for us.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0);
    // SAFETY: callers pass a descriptor fresh from the kernel (accept, eventfd), which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
