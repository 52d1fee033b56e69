//! Signals of the operator and the word to systemd.
//!
//! SIGTERM and SIGINT arrive as a readable eventfd, so that the loop handles them like any other event; the
//! first one also puts both back to their default, so that a second one kills a server that hangs while it
//! stops. SIGHUP keeps its default (there is no reload). The only unsafe code of `ops` is here.

use std::env;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicI32, Ordering};

/// A signal that asks the server to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, from a terminal.
    Interrupt,
    /// SIGTERM, from an init daemon.
    Terminate,
}

impl Signal {
    /// Its name as Go prints it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
        }
    }

    fn number(self) -> i32 {
        match self {
            Signal::Interrupt => libc::SIGINT,
            Signal::Terminate => libc::SIGTERM,
        }
    }
}

/// Descriptor that the handler writes to; -1 before [`Signals::install`].
static EVENT: AtomicI32 = AtomicI32::new(-1);
/// Number of the signal that arrived; 0 before.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// The installed handlers. Once in a process; lives as long as the process.
#[derive(Debug)]
pub struct Signals {
    event: &'static OwnedFd,
}

impl Signals {
    /// Installs the handlers. To be called when the member is ready: until then a signal kills at once, as
    /// with etcd.
    ///
    /// # Errors
    ///
    /// The kernel's, when it is out of descriptors.
    pub fn install() -> io::Result<Signals> {
        // SAFETY: eventfd takes no pointers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nothing else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // Never closed: the handler may write to it until the end of the process.
        let event: &'static OwnedFd = Box::leak(Box::new(event));
        EVENT.store(event.as_raw_fd(), Ordering::SeqCst);
        for signal in [libc::SIGTERM, libc::SIGINT] {
            set_action(signal, handle as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
        }
        Ok(Signals { event })
    }

    /// Calls `wake` from a thread of its own when a signal has arrived.
    ///
    /// # Errors
    /// The kernel's, when it is out of threads or descriptors.
    pub fn on_signal(&self, wake: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut event = std::fs::File::from(self.event.try_clone()?);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if event.read_exact(&mut [0; 8]).is_ok() {
                wake();
            }
        })?;
        Ok(())
    }

    /// Becomes readable, with 8 bytes, when a signal has arrived.
    pub fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// The signal that arrived, if one has.
    pub fn received(&self) -> Option<Signal> {
        match RECEIVED.load(Ordering::SeqCst) {
            libc::SIGINT => Some(Signal::Interrupt),
            libc::SIGTERM => Some(Signal::Terminate),
            _ => None,
        }
    }
}

/// Only calls that POSIX allows in a handler: atomics, sigaction, write.
extern "C" fn handle(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::SeqCst);
    for number in [libc::SIGTERM, libc::SIGINT] {
        // It fails only for numbers that are no signals.
        set_default(number);
    }
    let one = 1u64;
    // SAFETY: the buffer is 8 bytes on this stack, the descriptor is never closed.
    let written = unsafe { libc::write(EVENT.load(Ordering::SeqCst), (&raw const one).cast(), 8) };
    // An eventfd takes 2^64 - 2 writes before it refuses one.
    debug_assert!(written == 8 || written == -1);
}

/// Ignores SIGPIPE (a closed connection is an error code, not the end) and SIGUSR1 (as etcd does). For the
/// very start.
///
/// # Errors
///
/// None that the kernel is known to have.
pub fn ignore_harmless() -> io::Result<()> {
    set_action(libc::SIGPIPE, libc::SIG_IGN)?;
    set_action(libc::SIGUSR1, libc::SIG_IGN)
}

/// Ends the process by `signal`, so that the parent sees by which one: a shell shows 143 or 130. The kernel
/// spares process 1 from its own signals; there the exit code is 0.
pub fn end_by(signal: Signal) -> i32 {
    if std::process::id() == 1 {
        return 0;
    }
    set_default(signal.number());
    // SAFETY: raise takes no pointers.
    let raised = unsafe { libc::raise(signal.number()) };
    debug_assert_eq!(raised, 0);
    // Reached only when somebody blocks the signal.
    128 + signal.number()
}

fn set_default(signal: i32) {
    let result = set_action(signal, libc::SIG_DFL);
    debug_assert!(result.is_ok());
}

fn set_action(signal: i32, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction: default handler, no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` lives through the call; the old action is not asked for; a handler given here is
    // `handle`, which makes only calls allowed in one.
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tells systemd that the server is ready, when `NOTIFY_SOCKET` names its socket. One message, at readiness.
///
/// # Errors
///
/// The kernel's; the server can go on.
pub fn notify_ready() -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(path) if !path.is_empty() => notify(&path),
        _ => Ok(()),
    }
}

/// A path, or behind `@` a name of the abstract kind.
fn notify(path: &std::ffi::OsStr) -> io::Result<()> {
    let bytes = path.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: &str = "ETCHD_TEST_SIGNALS_CHILD";

    /// Not a test of its own: what the tests below run in a process of its own.
    #[test]
    fn child() {
        let Ok(behaviour) = std::env::var(CHILD) else { return };
        ignore_harmless().unwrap();
        let signals = Signals::install().unwrap();
        assert_eq!(signals.received(), None);
        println!("installed");
        let mut poll = libc::pollfd { fd: signals.descriptor(), events: libc::POLLIN, revents: 0 };
        let deadline = crate::edge::clock::Clock.now() + std::time::Duration::from_secs(10);
        // A signal may interrupt the wait itself.
        while signals.received().is_none() && crate::edge::clock::Clock.now() < deadline {
            // SAFETY: one pollfd that lives through the call.
            unsafe { libc::poll(&raw mut poll, 1, 100) };
            std::thread::yield_now();
        }
        assert_eq!(signals.received().map(Signal::name), Some("terminated"));
        // SAFETY: as above.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 1, "the descriptor is readable");
        println!("received");
        if behaviour == "hang" {
            std::thread::sleep(std::time::Duration::from_secs(10));
        }
        std::process::exit(end_by(Signal::Terminate));
    }

    /// Starts [`child`], sends it `signals` one by one and gives the signal that ended it.
    fn ended_by(behaviour: &str, signals: &[i32]) -> Option<i32> {
        use std::io::{BufRead, BufReader};
        use std::os::unix::process::ExitStatusExt;
        use std::process::{Command, Stdio};

        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "edge::ops::signals::tests::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, behaviour)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.ends_with("installed")));
        for (position, signal) in signals.iter().enumerate() {
            // SAFETY: kill takes no pointers; the child has not been waited for, so the number is its own.
            assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), *signal) }, 0);
            if position == 0 && *signal == libc::SIGTERM {
                assert!(lines.any(|line| line == "received"));
            }
        }
        child.wait().unwrap().signal()
    }

    #[test]
    fn a_signal_is_told_and_then_ends_the_process() {
        assert_eq!(ended_by("stop", &[libc::SIGTERM]), Some(libc::SIGTERM));
    }

    #[test]
    fn a_second_signal_kills_a_server_that_hangs() {
        assert_eq!(ended_by("hang", &[libc::SIGTERM, libc::SIGINT]), Some(libc::SIGINT));
    }

    #[test]
    fn other_signals() {
        assert_eq!(ended_by("stop", &[libc::SIGHUP]), Some(libc::SIGHUP));
        let ignored = [libc::SIGUSR1, libc::SIGPIPE, libc::SIGTERM];
        assert_eq!(ended_by("stop", &ignored), Some(libc::SIGTERM));
    }

    #[test]
    fn systemd_gets_one_message() {
        let directory = std::env::temp_dir().join(format!("etchd-notify-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str()).unwrap();
        let mut buffer = [0; 32];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        std::fs::remove_dir_all(&directory).unwrap();

        let name = format!("etchd-notify-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notify(std::ffi::OsStr::new(&format!("@{name}"))).unwrap();
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 7);
    }
}
