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

/// Lets the program of `command` find io_uring forbidden, as in many containers.
pub fn forbid_io_uring(command: &mut Command) {
    let forbid = || {
        let statement = |code: u32, k: u32, jf: u8| libc::sock_filter {
            code: u16::try_from(code).expect("codes have 16 bits"),
            jt: 0,
            jf,
            k,
        };
        let number = u32::try_from(libc::SYS_io_uring_setup).expect("numbers are small");
        let filter = [
            // The number of the call is the first word of what a filter sees.
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
            statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 1),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(), 0),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: takes numbers only.
        let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: program and filter live through the call, which only reads them.
        let second =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
        if first == 0 && second == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(forbid) };
}

/// An ext4 of its own in a file, mounted.
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
        // SAFETY: takes nothing, can't fail.
        if unsafe { libc::geteuid() } != 0 {
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
