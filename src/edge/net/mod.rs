//! Listeners: where clients connect; and what every edge needs to know of accepts and sends.
//!
//! Owns: listening sockets and the files of unix sockets, which of them pause, how far a send is.
//! Takes: addresses. Gives: bound [`Listener`]s to accept from, errors worded as etcd's.
//! Always true: a unix socket's file is removed with its listener; the file of a living listener is not taken.
//! Not here: system calls of accepts and sends, TLS, what is served, the URLs that name addresses (`ops`).

mod accept;
mod progress;

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::edge::system;
use crate::limits::shard::{
    BIND_RETRY_MILLISECONDS, CONNECTIONS_MAX, LISTEN_BACKLOG, RESERVED_DESCRIPTORS, TCP_KEEPALIVE_SECONDS,
};

pub(crate) use accept::Acceptors;
pub(crate) use progress::SendProgress;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket: host and path of the URL as one file name.
    Unix(PathBuf),
}

/// Why an address can't be listened on; the text is etcd's.
#[derive(Debug)]
pub struct ListenError {
    /// Where.
    pub address: ListenAddress,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "listen {}: bind: {}", self.address, reason(&self.error))
    }
}

impl std::error::Error for ListenError {}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(formatter, "tcp {address}"),
            ListenAddress::Unix(path) => write!(formatter, "unix {}", path.display()),
        }
    }
}

/// A system error as Go words it: without the number, in lower case.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A bound and listening socket.
#[derive(Debug)]
pub struct Listener {
    address: ListenAddress,
    socket: OwnedFd,
}

impl Listener {
    /// Binds and listens; a busy address is retried, as a killed process holds it for some more milliseconds.
    pub fn bind(address: &ListenAddress) -> Result<Listener, ListenError> {
        Listener::bind_within(address, Duration::from_millis(BIND_RETRY_MILLISECONDS))
    }

    fn bind_within(address: &ListenAddress, patience: Duration) -> Result<Listener, ListenError> {
        const PAUSE: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        let socket = loop {
            match bind(address) {
                Ok(socket) => break socket,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && waited < patience => {
                    sleep(PAUSE);
                    waited += PAUSE;
                }
                Err(error) => return Err(ListenError { address: address.clone(), error }),
            }
        };
        let mut listener = Listener { address: address.clone(), socket };
        listener.set_up().map_err(|error| ListenError { address: address.clone(), error })?;
        Ok(listener)
    }

    /// Where it listens; port 0 was replaced by the one that the kernel chose.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The listening socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Makes accepts return instead of waiting. Not for a ring, which would get EAGAIN instead of clients.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        TcpListener::from(self.socket.try_clone()?).set_nonblocking(true)
    }

    fn set_up(&mut self) -> io::Result<()> {
        let socket = self.socket.as_fd();
        system::listen(socket, LISTEN_BACKLOG)?;
        if let ListenAddress::Tcp(address) = &mut self.address {
            // Accepted sockets inherit these.
            for (level, name, value) in [
                (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
                (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
                (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, TCP_KEEPALIVE_SECONDS),
                (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, TCP_KEEPALIVE_SECONDS),
            ] {
                system::set_socket_option(socket, level, name, value)?;
            }
            *address = TcpListener::from(socket.try_clone_to_owned()?).local_addr()?;
        }
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.address {
            // Somebody may have removed it before; then there is nothing to do.
            ignore_absent_file(fs::remove_file(path));
        }
    }
}

/// Clients that may be connected: what this limit of open files leaves besides our own. `None`: it leaves nothing.
pub fn connections_max(limit: u64) -> Option<u64> {
    let left = limit.saturating_sub(RESERVED_DESCRIPTORS).min(CONNECTIONS_MAX);
    (left > 0).then_some(left)
}

/// Binds once; std sets SO_REUSEADDR for TCP.
fn bind(address: &ListenAddress) -> io::Result<OwnedFd> {
    match address {
        ListenAddress::Tcp(address) => TcpListener::bind(address).map(OwnedFd::from),
        ListenAddress::Unix(path) => {
            remove_stale_socket(path)?;
            UnixListener::bind(path).map(OwnedFd::from)
        }
    }
}

/// Removes a socket file on which nobody listens. Other files are left, and the bind fails on them.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}

fn ignore_absent_file(_result: io::Result<()>) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::disk::Scratch;

    #[test]
    fn a_busy_address_is_told_in_the_words_of_etcd() {
        let address = ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"));
        let first = Listener::bind(&address).expect("binds");
        let ListenAddress::Tcp(taken) = *first.address() else { panic!("not TCP") };
        assert_ne!(taken.port(), 0);
        let error = Listener::bind_within(first.address(), Duration::from_millis(30)).expect_err("busy");
        assert_eq!(error.to_string(), format!("listen tcp {taken}: bind: address already in use"));
    }

    #[test]
    fn a_busy_address_is_retried() {
        let address = ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"));
        let first = Listener::bind(&address).expect("binds");
        let address = first.address().clone();
        let holder = std::thread::spawn(move || {
            sleep(Duration::from_millis(60));
            drop(first);
        });
        Listener::bind(&address).expect("waits until it is free");
        holder.join().expect("lets go");
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_living_one_is_not() {
        let scratch = Scratch::new("unix");
        let path = scratch.0.join("localhost:2379");
        let address = ListenAddress::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "std leaves the file");
        let listener = Listener::bind(&address).expect("replaces the stale file");
        let error = Listener::bind_within(&address, Duration::from_millis(30)).expect_err("is alive");
        let expected = format!("listen unix {}: bind: address already in use", path.display());
        assert_eq!(error.to_string(), expected);
        UnixStream::connect(&path).expect("the living listener was left alone");
        drop(listener);
        assert!(!path.exists(), "the file goes with its listener");

        fs::write(&path, "data").expect("writes a file");
        Listener::bind_within(&address, Duration::from_millis(30)).expect_err("is a file");
        assert_eq!(fs::read(&path).expect("reads"), b"data");
    }

    #[test]
    fn descriptors_are_kept_back() {
        assert_eq!(connections_max(0), None);
        assert_eq!(connections_max(RESERVED_DESCRIPTORS), None);
        assert_eq!(connections_max(RESERVED_DESCRIPTORS + 1), Some(1));
        assert_eq!(connections_max(u64::MAX), Some(CONNECTIONS_MAX));
    }
}
