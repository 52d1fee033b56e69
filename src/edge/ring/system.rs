//! System calls that the standard library lacks, each behind a safe function.
//!
//! Owns: nothing.
//! Takes: descriptors and plain values. Gives: results of the calls as [`io::Result`].
//! Always true: no pointer outlives its call.
//! Not here: io_uring.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// Ties the calling thread to a processor.
pub(crate) fn pin_thread(cpu: usize) -> io::Result<()> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all-zero is the empty set.
    let set = unsafe { set.assume_init_mut() };
    assert!(cpu < libc::CPU_SETSIZE as usize, "a processor that the kernel has named");
    // SAFETY: writes a bit inside `set`.
    unsafe { libc::CPU_SET(cpu, set) };
    // SAFETY: the kernel reads the given size of `set`.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    check(result).map(drop)
}

/// Sets the length of a listening socket's queue.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::listen(socket.as_raw_fd(), backlog) };
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
    // Not O_NONBLOCK: the ring would fail an armed read with EAGAIN instead of waiting.
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    Ok(adopt(fd))
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
