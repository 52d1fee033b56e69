//! The server as a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::client::{Client, Endpoint, PATIENCE};
use super::system::{contain, signal};

/// What a server has written to its standard error.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, Ended)>,
    more: Condvar,
}

/// True when the process has closed its standard error: it is gone.
type Ended = bool;

/// What scripts wait for.
const READY: &str = "ready to serve client requests";

/// A started server, killed when dropped.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    /// Where it listens once it is ready.
    pub endpoint: Endpoint,
}

/// Which edge the servers of all tests serve by.
const IO: &str = "ETCHD_TEST_IO";

/// The program without arguments, and without the caller's `ETCD_` variables, on the edge that [`IO`] asks for.
pub fn program() -> Command {
    let mut command = bare_program();
    match std::env::var(IO).as_deref() {
        Err(_) => {}
        Ok("contained") => contain(&mut command),
        Ok(kind) => drop(command.args(["--io", kind])),
    }
    command
}

/// The same whatever edge is asked for.
pub fn bare_program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etchd"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A server on this data directory and port.
pub fn on(data: &Path, port: u16) -> Command {
    directed(program(), data, port)
}

/// The same by a given program.
pub fn directed(mut command: Command, data: &Path, port: u16) -> Command {
    let url = format!("http://127.0.0.1:{port}");
    command.arg("--data-dir").arg(data);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command
}

impl Server {
    /// Starts it, ready or not.
    pub fn spawn(command: &mut Command, endpoint: Endpoint) -> Server {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::new(Log::default());
        let (errors, target) = (child.stderr.take().expect("it is piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                target.lines.lock().unwrap_or_else(PoisonError::into_inner).0.push(line);
                target.more.notify_all();
            }
            target.lines.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            target.more.notify_all();
        });
        Server { child, log, endpoint }
    }

    /// Starts one on this data directory and port and waits until it is ready.
    pub fn start(data: &Path, port: u16) -> Server {
        Server::start_with(&mut on(data, port), port)
    }

    /// The same with a command of the caller's.
    pub fn start_with(command: &mut Command, port: u16) -> Server {
        let server = Server::spawn(command, Endpoint::Tcp(port));
        server.wait_ready();
        server
    }

    /// Waits until it serves.
    pub fn wait_ready(&self) {
        self.wait_line(READY);
    }

    /// Waits for a line of the log with this text.
    pub fn wait_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        loop {
            if let Some(line) = lines.0[seen..].iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            seen = lines.0.len();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!lines.1 && !left.is_zero(), "no {text:?} in the log:\n{}", lines.0.join("\n"));
            lines = self.log.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All of its log so far.
    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).0.join("\n")
    }

    /// A new connection to it.
    pub fn connect(&self) -> Client {
        Client::connect(&self.endpoint).expect("a ready server takes connections")
    }

    /// Sends it a signal.
    pub fn signal(&self, number: i32) {
        signal(&self.child, number);
    }

    /// `kill -9`; returns at once, while the kernel may still hold its files and its port.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.child.wait().expect("waits for the child");
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.wait_exit_unless("\0")
    }

    /// Waits for its end, which must come before a line with this text.
    fn wait_exit_unless(&mut self, text: &str) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while !lines.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            let stays = left.is_zero() || lines.0.iter().any(|line| line.contains(text));
            assert!(!stays, "it does not end:\n{}", lines.0.join("\n"));
            lines = self.log.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(lines);
        self.child.wait().expect("waits for the child")
    }

    /// Asks it to stop and waits for that; data is then complete.
    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait_exit();
        assert_eq!(status.signal(), Some(libc::SIGTERM), "{status}:\n{}", self.log());
    }

    /// How often each thread of this name has gone to sleep by itself.
    pub fn sleeps(&self, thread: &str) -> Vec<u64> {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the process is there");
        let paths = tasks.map(|task| task.expect("a thread").path());
        let named = paths.filter(|path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == thread)
        });
        let status = named.filter_map(|path| std::fs::read_to_string(path.join("status")).ok());
        status
            .map(|text| {
                let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
                let number = line.and_then(|line| line.split_whitespace().nth(1)).expect("a count");
                number.parse().expect("a number")
            })
            .collect()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }

    /// The most that was ever resident, in bytes.
    pub fn resident_bytes_peak(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a process has memory");
        let number = line.split_whitespace().nth(1).expect("VmRSS: 123 kB");
        number.parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        drop(ended);
    }
}

/// Starts a server that has to refuse: its exit code and its log.
pub fn refused(command: &mut Command) -> (Option<i32>, String) {
    let mut server = Server::spawn(command, Endpoint::Tcp(0));
    let status = server.wait_exit_unless(READY);
    (status.code(), server.log())
}
