//! Listeners: where clients connect.
//!
//! Owns: listening sockets and the files of unix sockets.
//! Takes: listen URLs. Gives: bound [`Listener`]s for a ring to accept from, errors worded as etcd's.
//! Always true: a unix socket's file is removed with its listener; the file of a living listener is not taken.
//! Not here: accepting, TLS, what is served.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::edge::ring::system;
use crate::limits::shard::{
    BIND_RETRY_MILLISECONDS, CONNECTIONS_MAX, LISTEN_BACKLOG, RESERVED_DESCRIPTORS, TCP_KEEPALIVE_SECONDS,
};

/// A URL to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// As given, for messages.
    pub text: String,
    /// `https` or `unixs`.
    pub tls: bool,
    /// Where.
    pub address: ListenAddress,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket: host and path of the URL as one file name.
    Unix(PathBuf),
}

/// Why a URL can't be listened on; the texts are etcd's.
#[derive(Debug)]
pub enum ListenError {
    /// Neither http, https, unix nor unixs.
    Scheme(String),
    /// An http URL with a path.
    Path(String),
    /// Not "host:port".
    HostPort(String),
    /// A name instead of an IP address.
    NotAnIp(String),
    /// The bind has failed.
    Bind {
        /// Where.
        address: ListenAddress,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Scheme(url) => {
                write!(formatter, "URL scheme must be http, https, unix, or unixs: {url}")
            }
            ListenError::Path(url) => write!(formatter, "URL must not contain a path: {url}"),
            ListenError::HostPort(url) => {
                write!(formatter, "URL address does not have the form \"host:port\": {url}")
            }
            ListenError::NotAnIp(url) => write!(formatter, "expected IP in URL for binding ({url})"),
            ListenError::Bind { address, error } => {
                write!(formatter, "listen {address}: bind: {}", reason(error))
            }
        }
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
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl ListenUrl {
    /// Parses a listen URL. `localhost` means 127.0.0.1; other names are refused, as by etcd.
    pub fn parse(text: &str) -> Result<ListenUrl, ListenError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| ListenError::Scheme(text.into()))?;
        let tls = match scheme {
            "http" | "unix" => false,
            "https" | "unixs" => true,
            _ => return Err(ListenError::Scheme(text.into())),
        };
        let address = if scheme.starts_with("unix") {
            if rest.is_empty() {
                return Err(ListenError::HostPort(text.into()));
            }
            ListenAddress::Unix(PathBuf::from(rest))
        } else {
            ListenAddress::Tcp(tcp_address(text, rest)?)
        };
        Ok(ListenUrl { text: text.into(), tls, address })
    }
}

fn tcp_address(text: &str, rest: &str) -> Result<SocketAddr, ListenError> {
    if rest.contains(['/', '?', '#']) {
        return Err(ListenError::Path(text.into()));
    }
    let form = || ListenError::HostPort(text.into());
    let (host, port) = rest.rsplit_once(':').ok_or_else(form)?;
    let port: u16 = port.parse().map_err(|_| form())?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = match bracketed {
        Some(host) => host.parse().ok().map(IpAddr::V6),
        None if host == "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        None if host.contains(':') => return Err(form()),
        None => host.parse().ok().map(IpAddr::V4),
    };
    let ip = ip.ok_or_else(|| ListenError::NotAnIp(text.into()))?;
    Ok(SocketAddr::new(ip, port))
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
                Err(error) => return Err(ListenError::Bind { address: address.clone(), error }),
            }
        };
        let mut listener = Listener { address: address.clone(), socket };
        listener.set_up().map_err(|error| ListenError::Bind { address: address.clone(), error })?;
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

/// Clients that may be connected: what the limit of open files (the soft one is raised to the hard one, as Go's
/// runtime does) leaves besides our own.
pub fn connections_max() -> io::Result<u64> {
    let limit = system::raised_descriptor_limit()?;
    Ok(limit.saturating_sub(RESERVED_DESCRIPTORS).min(CONNECTIONS_MAX))
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

    fn parse(text: &str) -> Result<ListenAddress, String> {
        ListenUrl::parse(text).map(|url| url.address).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_are_parsed_as_by_etcd() {
        let tcp = |text: &str| Ok(ListenAddress::Tcp(text.parse().expect("an address")));
        let unix = |text: &str| Ok(ListenAddress::Unix(text.into()));
        assert_eq!(parse("http://127.0.0.1:2379"), tcp("127.0.0.1:2379"));
        assert_eq!(parse("https://localhost:2379"), tcp("127.0.0.1:2379"));
        assert_eq!(parse("http://[::1]:2379"), tcp("[::1]:2379"));
        assert_eq!(parse("http://0.0.0.0:0"), tcp("0.0.0.0:0"));
        assert_eq!(parse("unix://localhost:2379"), unix("localhost:2379"));
        assert_eq!(parse("unix:///tmp/a.sock"), unix("/tmp/a.sock"));
        assert!(ListenUrl::parse("unixs://a").expect("parses").tls);
        let fails = |text: &str, expected: &str| {
            let error = parse(text).expect_err(text);
            assert_eq!(error, expected);
        };
        fails("ftp://1.2.3.4:1", "URL scheme must be http, https, unix, or unixs: ftp://1.2.3.4:1");
        fails("1.2.3.4:1", "URL scheme must be http, https, unix, or unixs: 1.2.3.4:1");
        fails("http://1.2.3.4:1/a", "URL must not contain a path: http://1.2.3.4:1/a");
        fails("http://1.2.3.4", "URL address does not have the form \"host:port\": http://1.2.3.4");
        fails("http://example.com:80", "expected IP in URL for binding (http://example.com:80)");
    }

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
        let limit = system::raised_descriptor_limit().expect("has a limit");
        let expected = (limit - RESERVED_DESCRIPTORS).min(CONNECTIONS_MAX);
        assert_eq!(connections_max().expect("has a limit"), expected);
    }
}
