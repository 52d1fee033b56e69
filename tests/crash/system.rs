//! What tests need of the system beneath the server: signals, file systems, a filter of system calls.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// A directory that is removed with its content.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes one below the directory for temporary files.
    pub fn new(name: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("etchd-crash-{}-{count}-{name}", std::process::id()));
        fs::create_dir(&path).expect("makes a scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

/// A free port outside of the range from which the kernel takes ports of its own accord, so that a server
/// finds it free again after a restart.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 190) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 1_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal(child: &std::process::Child, signal: i32) {
    let id = i32::try_from(child.id()).expect("process ids are small");
    // SAFETY: kill takes no pointers; the child has not been waited for, so the number is its own.
    assert_eq!(unsafe { libc::kill(id, signal) }, 0, "{}", io::Error::last_os_error());
}

/// The calls of io_uring.
const IO_URING: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// What a server, and the unit tests, may call under a container runtime: a part of what the runtimes' default profiles
/// allow.
const CONTAINED: &[libc::c_long] = &[
    // Files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_faccessat2,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_getcwd,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Sockets and waiting.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    // Processes, threads, signals.
    libc::SYS_execve,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_yield,
    libc::SYS_membarrier,
    // Time, chance, the machine.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_umask,
];

/// Calls that newer architectures don't have, where C libraries still use them.
#[cfg(target_arch = "x86_64")]
const CONTAINED_OLD: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_mkdir,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const CONTAINED_OLD: &[libc::c_long] = &[libc::SYS_renameat];

/// A filter of system calls as it is put together.
struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Looks at the number of the call first, as the kernel hands it over.
    fn new() -> Filter {
        let mut filter = Filter(Vec::new());
        filter.add(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0);
        filter
    }

    fn add(&mut self, code: u32, k: u32, jf: u8) {
        let code = u16::try_from(code).expect("codes have 16 bits");
        self.0.push(libc::sock_filter { code, jt: 0, jf, k });
    }

    /// A call with this number ends with `action`.
    fn on(&mut self, call: libc::c_long, action: u32) {
        let number = u32::try_from(call).expect("numbers are small");
        self.add(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 1);
        self.add(libc::BPF_RET | libc::BPF_K, action, 0);
    }

    /// Every other call ends with `action`.
    fn otherwise(&mut self, action: u32) {
        self.add(libc::BPF_RET | libc::BPF_K, action, 0);
    }

    /// Lets the program of `command` live under it.
    fn install(self, command: &mut Command) {
        let install = move || {
            let length = u16::try_from(self.0.len()).expect("filters are short");
            let program = libc::sock_fprog { len: length, filter: self.0.as_ptr().cast_mut() };
            // SAFETY: takes numbers only.
            let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            let mode = libc::SECCOMP_MODE_FILTER;
            // SAFETY: program and filter live through the call, which only reads them.
            let second = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) };
            if first == 0 && second == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe { command.pre_exec(install) };
    }
}

fn error(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
}

/// Lets the program of `command` get this error of all calls of io_uring, and everything else as it is.
pub fn refuse_io_uring(command: &mut Command, number: i32) {
    refuse_calls(command, &IO_URING, number);
}

/// Lets the program of `command` get this error of these calls, and everything else as it is.
pub fn refuse_calls(command: &mut Command, calls: &[libc::c_long], number: i32) {
    let mut filter = Filter::new();
    calls.iter().for_each(|call| filter.on(*call, error(number)));
    filter.otherwise(libc::SECCOMP_RET_ALLOW);
    filter.install(command);
}

/// Lets the program of `command` live under a filter like the default of container runtimes: what is not on the
/// list is forbidden, io_uring with it; new processes get no name spaces of their own.
pub fn contain(command: &mut Command) {
    /// Flags of clone that make name spaces.
    const NAME_SPACES: u32 = 0x7e02_0000;
    let mut filter = Filter::new();
    let allowed = CONTAINED.iter().chain(CONTAINED_OLD);
    allowed.for_each(|call| filter.on(*call, libc::SECCOMP_RET_ALLOW));
    // Its flags are in memory, where no filter can look: C libraries then use the older call.
    filter.on(libc::SYS_clone3, error(libc::ENOSYS));
    let clone = u32::try_from(libc::SYS_clone).expect("numbers are small");
    filter.add(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, clone, 4);
    // The lower half of the first argument.
    filter.add(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 16, 0);
    filter.add(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, NAME_SPACES, 0);
    filter.add(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1);
    filter.add(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0);
    filter.otherwise(error(libc::EPERM));
    filter.install(command);
}

/// Lets the program of `command` run as nobody, with so many bytes of locked memory. Only root can.
pub fn as_nobody(command: &mut Command, locked_bytes: u64) {
    let limit = libc::rlimit { rlim_cur: locked_bytes, rlim_max: locked_bytes };
    let set = move || {
        // SAFETY: the kernel reads one limit, which lives through the call.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    command.uid(NOBODY).gid(NOBODY);
    // SAFETY: one system call that allocates nothing.
    unsafe { command.pre_exec(set) };
}

/// The user without rights.
pub const NOBODY: u32 = 65_534;

/// True if this is root, who may mount and become others.
pub fn is_root() -> bool {
    // SAFETY: takes nothing, can't fail.
    unsafe { libc::geteuid() == 0 }
}

/// An ext4 of its own in a file, or a ramfs, mounted.
pub struct FileSystem {
    mounted: bool,
    image: PathBuf,
    /// Where.
    pub path: PathBuf,
    _scratch: Scratch,
}

impl FileSystem {
    /// Makes and mounts one of so many bytes.
    ///
    /// # Errors
    /// Why this machine or user can't.
    pub fn new(name: &str, bytes: u64) -> Result<FileSystem, String> {
        if !is_root() {
            return Err("only root can mount".to_owned());
        }
        let scratch = Scratch::new(name);
        let (image, path) = (scratch.0.join("image"), scratch.0.join("mounted"));
        let make = || -> io::Result<()> {
            fs::create_dir(&path)?;
            File::create(&image)?.set_len(bytes)
        };
        make().map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        let mut system = FileSystem { mounted: false, image, path, _scratch: scratch };
        system.mount()?;
        Ok(system)
    }

    /// Mounts one in memory that refuses O_DIRECT.
    ///
    /// # Errors
    /// Why this machine or user can't.
    pub fn without_direct(name: &str) -> Result<FileSystem, String> {
        if !is_root() {
            return Err("only root can mount".to_owned());
        }
        let scratch = Scratch::new(name);
        let path = scratch.0.join("mounted");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        run(Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&path))?;
        Ok(FileSystem { mounted: true, image: PathBuf::new(), path, _scratch: scratch })
    }

    /// Mounts it (again).
    pub fn mount(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.path))?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it. The kernel may hold files of a killed process for some time.
    pub fn unmount(&mut self) {
        self.mounted = false;
        let mut result = Ok(());
        for _ in 0..600 {
            result = run(Command::new("umount").arg(&self.path));
            if result.is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eprintln!("{} stays mounted: {result:?}", self.path.display());
    }

    /// Cuts it off from its device as a power failure would: what was not synced is lost, everything fails.
    pub fn cut_power(&self) {
        /// `EXT4_IOC_SHUTDOWN` and its flag "without flushing the journal".
        const SHUTDOWN: libc::c_ulong = 0x8004_587d;
        const WITHOUT_FLUSH: u32 = 2;
        let flags = WITHOUT_FLUSH;
        let directory = File::open(&self.path).expect("it is mounted");
        // SAFETY: the call reads 4 bytes that live through it.
        let result = unsafe { libc::ioctl(directory.as_raw_fd(), SHUTDOWN as _, &raw const flags) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        if self.mounted {
            self.unmount();
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{}: {error}", command.get_program().display())),
    }
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("makes a directory");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copies");
        }
    }
}
