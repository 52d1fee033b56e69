//! The data directory: checks, lock, segment files.

use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use crate::edge::buffer::AlignedBuffer;
use crate::edge::io::SegmentError;
use crate::edge::system;
use crate::limits::log::{BLOCK_BYTES, LOCK_RETRY_MILLISECONDS};

/// Where the data is and how it is written.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--wal-dir`: the log's files are here instead of in `<data>/etchd/log`.
    pub wal_dir: Option<PathBuf>,
    /// `--unsafe-no-fsync` or not.
    pub syncs: Syncs,
}

/// Whether writes wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// They do.
    On,
    /// They don't: a crash of the machine loses acknowledged data.
    Off,
}

/// An opened and locked data directory.
#[derive(Debug)]
pub struct DataDirectory {
    /// One for the data directory, one for a log directory elsewhere.
    locks: Vec<File>,
    log: LogFiles,
    warnings: Vec<String>,
}

/// The log's directory: names and files of segments. Cheap to clone; all clones mean the same files.
#[derive(Clone, Debug)]
pub struct LogFiles {
    path: PathBuf,
    syncs: Syncs,
    /// As if the file system refused O_DIRECT.
    refuses_direct: bool,
}

/// A segment opened for the running log's writes.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) file: Arc<File>,
    /// Opened with O_DIRECT; otherwise writes go through the page cache, one at a time (hazard H3).
    pub(crate) direct: bool,
}

/// Why the data directory can't be used.
#[derive(Debug)]
pub enum DiskError {
    /// It holds the data of etcd itself; nothing was changed.
    ForeignData(PathBuf),
    /// Another process has the lock.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder has written into it.
        holder: String,
    },
    /// An operation on a file or directory has failed.
    Failed {
        /// Verb phrase.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for DiskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::ForeignData(path) => write!(
                formatter,
                "data directory {path:?} holds data of etcd, which etchd does not read directly; it was left \
                 unchanged. Choose another --data-dir, or convert a copy with `etchd import` when a release has it"
            ),
            DiskError::Locked { path, holder } => write!(
                formatter,
                "data directory is in use: {holder} holds the lock {path:?} (waited {LOCK_RETRY_MILLISECONDS} ms). \
                 Stop that process, or choose another --data-dir"
            ),
            DiskError::Failed { action, path, error } => {
                let advice = match error.raw_os_error() {
                    Some(libc::ENOSPC | libc::EDQUOT) => ". Free space on that file system, then start again",
                    Some(libc::EACCES | libc::EPERM) => ". Give the server's user access to it",
                    Some(libc::EROFS) => ". Mount the file system writable",
                    Some(libc::EMFILE | libc::ENFILE) => ". Raise the limit of open files",
                    _ => "",
                };
                write!(formatter, "failed to {action} {path:?}: {error}{advice}")
            }
        }
    }
}

impl Error for DiskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            DiskError::Failed { error, .. } => Some(error),
            DiskError::ForeignData(_) | DiskError::Locked { .. } => None,
        }
    }
}

impl DataDirectory {
    /// Makes the directories as needed and takes the lock, retrying while a killed process lets go of it.
    pub fn open(options: &DiskOptions) -> Result<DataDirectory, DiskError> {
        DataDirectory::open_within(options, Duration::from_millis(LOCK_RETRY_MILLISECONDS))
    }

    fn open_within(options: &DiskOptions, patience: Duration) -> Result<DataDirectory, DiskError> {
        let own = options.data_dir.join("etchd");
        let path = options.wal_dir.clone().unwrap_or_else(|| own.join("log"));
        let log = LogFiles { path, syncs: options.syncs, refuses_direct: false };
        let foreign = ["snap", "wal"].map(|name| options.data_dir.join("member").join(name));
        let is_ours = log.segments().is_ok_and(|segments| !segments.is_empty());
        if !is_ours && foreign.iter().any(|path| path.exists()) {
            return Err(DiskError::ForeignData(options.data_dir.clone()));
        }

        let mut warnings = Vec::new();
        for path in [&options.data_dir, &own, &log.path] {
            make_private_directory(path, &mut warnings)?;
        }
        let mut locks = vec![take_lock(&own.join("LOCK"), patience)?];
        if options.wal_dir.is_some() {
            locks.push(take_lock(&log.path.join("LOCK"), patience)?);
        }
        log.remove_unfinished()?;
        Ok(DataDirectory { locks, log, warnings })
    }

    /// What the operator should know about the directory, once.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The log's files.
    pub fn log(&self) -> &LogFiles {
        &self.log
    }

    /// From here on as if the file system refused O_DIRECT, for tests and measurements.
    pub fn write_through_cache(&mut self) {
        self.log.refuses_direct = true;
    }

    /// Descriptors of the lock files. A ring that registers them keeps the locks until its last write has landed,
    /// even if the process is killed (pitfall 2 of the measurements).
    pub(crate) fn lock_descriptors(&self) -> Vec<RawFd> {
        self.locks.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

impl LogFiles {
    /// The log's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether writes wait for the disk.
    pub fn syncs(&self) -> Syncs {
        self.syncs
    }

    /// Numbers and sizes of all segments, in order of numbers.
    pub fn segments(&self) -> Result<Vec<(u64, u64)>, DiskError> {
        let failed = |error| self.failed("list the log's directory", error);
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
                segments.push((number, entry.metadata().map_err(failed)?.len()));
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// Sum of the segments' sizes.
    pub fn bytes(&self) -> Result<u64, DiskError> {
        Ok(self.segments()?.iter().map(|segment| segment.1).sum())
    }

    /// The whole content of a segment, for recovery.
    pub fn read_segment(&self, number: u64) -> Result<Vec<u8>, DiskError> {
        let path = self.segment_path(number);
        fs::read(&path).map_err(|error| DiskError::Failed { action: "read log segment", path, error })
    }

    /// The first `bytes` bytes of a segment, or all if it is shorter.
    pub fn read_head(&self, number: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let path = self.segment_path(number);
        let mut head = Vec::with_capacity(bytes);
        let read = File::open(&path).and_then(|file| file.take(bytes as u64).read_to_end(&mut head));
        match read {
            Ok(_) => Ok(head),
            Err(error) => Err(DiskError::Failed { action: "read log segment", path, error }),
        }
    }

    /// Makes a segment of `bytes` zeros, durably, and returns when it has its name.
    pub fn create_segment(&self, number: u64, bytes: u64) -> Result<(), DiskError> {
        let path = self.segment_path(number);
        let error = match self.prepare_segment(number, bytes) {
            Ok(()) => return Ok(()),
            Err(SegmentError::NoSpace) => io::Error::from_raw_os_error(libc::ENOSPC),
            Err(SegmentError::Failed(error)) => error,
        };
        Err(DiskError::Failed { action: "create log segment", path, error })
    }

    /// Writes a part of a segment and syncs it (unless syncs are off), for recovery.
    pub fn write_synced(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.segment_path(number);
        let write = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.write_all_at(bytes, offset)?;
            self.sync(&file)
        };
        write().map_err(|error| DiskError::Failed { action: "write log segment", path: path.clone(), error })
    }

    /// The work of [`LogFiles::create_segment`], with the error that the loop needs.
    pub(crate) fn prepare_segment(&self, number: u64, bytes: u64) -> Result<(), SegmentError> {
        let path = self.segment_path(number);
        let unfinished = path.with_extension("tmp");
        let result = self.fill_and_name(&unfinished, &path, bytes);
        if result.is_err() {
            // The first error is the one to tell; what can't be removed now is removed at the next start.
            ignore_failed_cleanup(fs::remove_file(&unfinished));
        }
        result.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => SegmentError::NoSpace,
            _ => SegmentError::Failed(error),
        })
    }

    fn fill_and_name(&self, unfinished: &Path, path: &Path, bytes: u64) -> io::Result<()> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(unfinished)?;
        // Asked before: an attempt that fails would first take the last free bytes from everybody.
        if system::available_bytes(file.as_fd())? < bytes {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        match system::preallocate(file.as_fd(), bytes) {
            // Some file systems can't; the zeros below reserve the room as well.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other?,
        }
        // Synced in parts, so that no flood of dirty pages delays the log's own writes for long.
        let zeros = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < bytes {
            let length = (bytes - offset).min(zeros.len() as u64);
            file.write_all_at(&zeros[..length as usize], offset)?;
            offset += length;
            if offset.is_multiple_of(4 << 20) && self.syncs == Syncs::On {
                file.sync_data()?;
            }
        }
        if self.syncs == Syncs::On {
            file.sync_all()?;
        }
        fs::rename(unfinished, path)?;
        self.sync(&File::open(&self.path)?)
    }

    /// Opens a segment for the running log's writes: direct if the file system can.
    pub(crate) fn open_segment(&self, number: u64) -> io::Result<SegmentFile> {
        let path = self.segment_path(number);
        let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path);
        let buffered = || Ok(SegmentFile { file: Arc::new(open(0)?), direct: false });
        if self.syncs == Syncs::Off {
            return buffered();
        }
        let refused =
            |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP));
        let direct = match self.refuses_direct {
            false => open(libc::O_DIRECT),
            true => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        let file = match direct {
            Err(error) if refused(&error) => return buffered(),
            other => other?,
        };
        // Some refuse at the first transfer only, for the alignment that they want.
        let mut probe = AlignedBuffer::new(BLOCK_BYTES);
        match file.read_at(probe.room(), 0) {
            Err(error) if refused(&error) => buffered(),
            Err(error) => Err(error),
            Ok(_) => Ok(SegmentFile { file: Arc::new(file), direct: true }),
        }
    }

    /// Whether the newest segment opens direct; `None` if there is none.
    pub(crate) fn opens_direct(&self) -> Option<bool> {
        let (newest, _) = *self.segments().ok()?.last()?;
        self.open_segment(newest).ok().map(|segment| segment.direct)
    }

    /// The file of a segment.
    pub fn segment_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:016x}.log"))
    }

    /// Removes segments that a crash kept from getting their names.
    fn remove_unfinished(&self) -> Result<(), DiskError> {
        let failed = |error| self.failed("tidy up the log's directory", error);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_unfinished = path.extension().is_some_and(|extension| extension == "tmp")
                && path
                    .with_extension("log")
                    .file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| segment_number(name).is_some());
            if is_unfinished {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        match self.syncs {
            Syncs::On => file.sync_all(),
            Syncs::Off => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, error: io::Error) -> DiskError {
        DiskError::Failed { action, path: self.path.clone(), error }
    }
}

/// The number in `%016x.log`.
fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let is_canonical = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_canonical.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Makes a directory with mode 0700, or warns about a wider one that is there.
fn make_private_directory(path: &Path, warnings: &mut Vec<String>) -> Result<(), DiskError> {
    let failed = |action, error| DiskError::Failed { action, path: path.to_owned(), error };
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(failed("use as a directory", io::ErrorKind::NotADirectory.into()));
        }
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode != 0o700 {
                warnings.push(format!(
                    "directory {path:?} exist, but the permission is {:?}. The recommended permission is \
                     \"-rwx------\" to prevent possible unprivileged access to the data",
                    mode_text(mode)
                ));
            }
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", error)),
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("create directory", error))?;
    // The new name must survive a crash before anything in it counts.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sync = || File::open(parent)?.sync_all();
    sync().map_err(|error| failed("sync the parent directory of", error))
}

/// Permissions as Go writes those of a directory.
fn mode_text(mode: u32) -> String {
    let bits = (0..9).rev().zip("rwxrwxrwx".chars());
    let letters = bits.map(|(bit, letter)| if mode >> bit & 1 == 1 { letter } else { '-' });
    std::iter::once('d').chain(letters).collect()
}

fn take_lock(path: &Path, patience: Duration) -> Result<File, DiskError> {
    const PAUSE: Duration = Duration::from_millis(10);
    let failed = |error| DiskError::Failed { action: "lock", path: path.to_owned(), error };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock = options.open(path).map_err(failed)?;
    let mut waited = Duration::ZERO;
    while !system::try_lock(lock.as_fd()).map_err(failed)? {
        if waited >= patience {
            let mut holder = String::new();
            let known = lock.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { format!("process {}", holder.trim()) } else { "another process".into() };
            return Err(DiskError::Locked { path: path.to_owned(), holder });
        }
        sleep(PAUSE);
        waited += PAUSE;
    }
    name_holder(&mut lock).map_err(failed)?;
    Ok(lock)
}

/// Writes our process id into the lock file, for the message of whoever meets the lock.
fn name_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

/// The result of a clean-up after a failure that is told anyway.
fn ignore_failed_cleanup(_result: io::Result<()>) {}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory that is removed with its content.
    pub(in crate::edge) struct Scratch(pub(in crate::edge) PathBuf);

    impl Scratch {
        pub(in crate::edge) fn new(name: &str) -> Scratch {
            let random = crate::edge::clock::Clock.entropy_u64();
            let path = std::env::temp_dir().join(format!("etchd-test-{name}-{random:016x}"));
            fs::create_dir(&path).expect("makes a scratch directory");
            Scratch(path)
        }

        pub(in crate::edge) fn options(&self) -> DiskOptions {
            DiskOptions { data_dir: self.0.join("data"), wal_dir: None, syncs: Syncs::On }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removes the scratch directory");
        }
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn a_fresh_directory_is_private_and_locked() {
        let scratch = Scratch::new("fresh");
        let options = scratch.options();
        let data = DataDirectory::open(&options).expect("opens");
        assert!(data.warnings().is_empty());
        for (path, mode) in [("", 0o700), ("etchd", 0o700), ("etchd/log", 0o700), ("etchd/LOCK", 0o600)] {
            assert_eq!(mode_of(&options.data_dir.join(path)), mode, "{path}");
        }

        let error = DataDirectory::open_within(&options, Duration::from_millis(30)).expect_err("is locked");
        let text = error.to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains("LOCK") && text.contains("--data-dir"), "{text}");
        drop(data);
        DataDirectory::open_within(&options, Duration::ZERO).expect("the lock is free");
    }

    #[test]
    fn a_lock_that_is_let_go_in_time_is_taken() {
        let scratch = Scratch::new("lock");
        let options = scratch.options();
        let data = DataDirectory::open(&options).expect("opens");
        let holder = std::thread::spawn(move || {
            sleep(Duration::from_millis(60));
            drop(data);
        });
        DataDirectory::open(&options).expect("waits for the lock");
        holder.join().expect("lets go");
    }

    #[test]
    fn another_process_meets_the_lock() {
        const CHILD: &str = "ETCHD_TEST_LOCK_CHILD";
        if let Some(path) = std::env::var_os(CHILD) {
            let options = DiskOptions { data_dir: path.into(), wal_dir: None, syncs: Syncs::On };
            let error =
                DataDirectory::open_within(&options, Duration::from_millis(20)).expect_err("is locked");
            println!("child: {error}");
            return;
        }
        let scratch = Scratch::new("process");
        let data = DataDirectory::open(&scratch.options()).expect("opens");
        let child = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["another_process_meets_the_lock", "--nocapture"])
            .env(CHILD, scratch.options().data_dir)
            .output()
            .expect("starts itself");
        let output = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(child.status.success(), "{output}");
        assert!(output.contains("child: data directory is in use: process"), "{output}");
        drop(data);
    }

    #[test]
    fn the_data_of_etcd_is_refused_and_left_alone() {
        for name in ["snap", "wal"] {
            let scratch = Scratch::new("foreign");
            let options = scratch.options();
            fs::create_dir_all(options.data_dir.join("member").join(name)).expect("makes etcd's directories");
            let error = DataDirectory::open(&options).expect_err("is etcd's").to_string();
            assert!(error.contains("etchd import") && error.contains("unchanged"), "{error}");
            let entries = fs::read_dir(&options.data_dir).expect("lists").count();
            assert_eq!(entries, 1, "nothing was added");
        }
    }

    #[test]
    fn a_wider_mode_is_warned_about() {
        let scratch = Scratch::new("mode");
        let options = scratch.options();
        fs::create_dir(&options.data_dir).expect("makes the directory");
        fs::set_permissions(&options.data_dir, fs::Permissions::from_mode(0o755)).expect("opens it up");
        let data = DataDirectory::open(&options).expect("opens");
        let [warning] = data.warnings() else { panic!("{:?}", data.warnings()) };
        assert!(warning.contains("\"drwxr-xr-x\""), "{warning}");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let scratch = Scratch::new("file");
        let options = scratch.options();
        fs::write(&options.data_dir, "").expect("writes a file");
        let error = DataDirectory::open(&options).expect_err("is a file").to_string();
        assert!(error.contains("as a directory") && error.contains("data"), "{error}");
    }

    #[test]
    fn segments_are_made_listed_and_read() {
        let scratch = Scratch::new("segments");
        let mut options = scratch.options();
        options.wal_dir = Some(scratch.0.join("elsewhere"));
        let data = DataDirectory::open(&options).expect("opens");
        let log = data.log();
        assert_eq!(log.segments().expect("lists"), []);
        log.create_segment(11, 5 << 20).expect("creates");
        log.create_segment(2, 8192).expect("creates");
        fs::write(log.path().join("0000000000000003.tmp"), "half").expect("leaves a half segment");
        fs::write(log.path().join("3.log"), "not ours").expect("writes a stranger");
        assert_eq!(log.segments().expect("lists"), [(2, 8192), (11, 5 << 20)]);
        assert_eq!(log.bytes().expect("adds"), (5 << 20) + 8192);
        log.write_synced(2, 4096, b"abc").expect("writes");
        let content = log.read_segment(2).expect("reads");
        assert_eq!((content.len(), &content[4096..4100]), (8192, &b"abc\0"[..]));
        let error = log.create_segment(2, 8192).expect_err("exists").to_string();
        assert!(error.contains("0000000000000002.log"), "{error}");
        assert_eq!(&log.read_segment(2).expect("reads")[4096..4099], b"abc", "the old one is untouched");
        assert!(scratch.0.join("elsewhere").join("0000000000000002.log").exists());

        let other = DiskOptions { data_dir: scratch.0.join("other"), ..options.clone() };
        let error = DataDirectory::open_within(&other, Duration::ZERO).expect_err("the log is in use");
        assert!(matches!(error, DiskError::Locked { .. }), "{error}");
        drop(data);
        let data = DataDirectory::open(&options).expect("opens again");
        assert!(!data.log().path().join("0000000000000003.tmp").exists(), "half segments are removed");
        assert!(data.log().path().join("3.log").exists(), "strangers are left alone");
    }

    #[test]
    fn no_room_is_told_apart_and_leaves_nothing() {
        let scratch = Scratch::new("room");
        let data = DataDirectory::open(&scratch.options()).expect("opens");
        let result = data.log().prepare_segment(1, 8 << 40);
        assert!(matches!(result, Err(SegmentError::NoSpace)), "{result:?}");
        let error = data.log().create_segment(1, 8 << 40).expect_err("8 TiB").to_string();
        assert!(error.contains("Free space on that file system"), "{error}");
        assert_eq!(fs::read_dir(data.log().path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_segment_opens_direct_unless_syncs_are_off() {
        let scratch = Scratch::new("direct");
        let data = DataDirectory::open(&scratch.options()).expect("opens");
        data.log().create_segment(1, 8192).expect("creates");
        let opened = data.log().open_segment(1).expect("opens");
        println!("direct on this file system: {}", opened.direct);
        let log = LogFiles { syncs: Syncs::Off, ..data.log().clone() };
        assert!(!log.open_segment(1).expect("opens").direct);
    }

    #[test]
    fn where_direct_is_refused_a_segment_opens_buffered() {
        let scratch = Scratch::new("refused");
        let mut data = DataDirectory::open(&scratch.options()).expect("opens");
        assert_eq!(data.log().opens_direct(), None);
        data.log().create_segment(1, 8192).expect("creates");
        data.write_through_cache();
        assert!(!data.log().open_segment(1).expect("opens").direct);
        assert_eq!(data.log().opens_direct(), Some(false));
    }
}
