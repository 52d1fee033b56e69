//! How a server's life ends, with words for the operator; and waiting for what another process still holds.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::config::ConfigError;
use super::logging::FATAL;
use super::signals::Signal;
use crate::edge::io::SetupError;
use crate::edge::net::reason;
use crate::edge::pick::Kind;
use crate::limits::shard::RESERVED_DESCRIPTORS;

/// etcd's words for a limit of open files that leaves none for clients.
const FEW_DESCRIPTORS: &str = "file descriptor limit of etcd process is too low; please set higher";

/// How a server that had started came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By itself, for instance after it was removed from its cluster.
    Finished,
    /// A signal asked for it; the same signal has to end the process.
    Signal(Signal),
    /// A write or sync of the log failed: exit code 74, nothing was acknowledged after it.
    LogFailed {
        /// What happened, to what.
        what: String,
        /// What the operator can do.
        advice: String,
    },
    /// It could not go on.
    Failed {
        /// What happened, to what.
        what: String,
        /// What the operator can do.
        advice: String,
    },
}

/// Why a server did not start. Logged once, by [`super::run`].
#[derive(Debug)]
pub enum StartError {
    /// There is no data yet and [`super::config::Config::bootstrap`] has no identity for a new member.
    Bootstrap(ConfigError),
    /// An address belongs to another process, after some seconds of asking again.
    AddressInUse {
        /// As in `127.0.0.1:2379`.
        address: String,
    },
    /// An address cannot be bound for another reason.
    Address {
        /// As in `127.0.0.1:2379`.
        address: String,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A file of the data directory cannot be used.
    Data {
        /// What was tried, a verb in the present: `create`, `lock`, `read`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The limit of open files leaves none for clients.
    FewDescriptors {
        /// The limit, after it was raised as far as allowed.
        limit: u64,
    },
    /// The edge of this kind can't be set up.
    SetUp(Kind, SetupError),
    /// Anything else, in words.
    Other {
        /// What happened, to what.
        what: String,
        /// What the operator can do.
        advice: String,
    },
}

impl StartError {
    /// What the operator can do.
    pub fn advice(&self) -> String {
        match self {
            StartError::Bootstrap(_) => "correct the flags named".to_owned(),
            StartError::AddressInUse { .. } => {
                "stop the process that listens there, or choose another address with \
                 --listen-client-urls and --advertise-client-urls"
                    .to_owned()
            }
            StartError::Address { .. } => "choose an address of this machine with --listen-client-urls and \
                 --advertise-client-urls; ports below 1024 need a privilege"
                .to_owned(),
            StartError::Data { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                "give this user the right to it, or choose another directory with --data-dir".to_owned()
            }
            StartError::Data { error, .. } if error.kind() == io::ErrorKind::StorageFull => {
                "free space on that disk, or choose another directory with --data-dir".to_owned()
            }
            StartError::Data { .. } => {
                "check the disk, or choose another directory with --data-dir".to_owned()
            }
            StartError::FewDescriptors { .. } => format!(
                "raise the limit of open files, the hard one too (ulimit -n, systemd: LimitNOFILE, Docker: --ulimit \
                 nofile): {RESERVED_DESCRIPTORS} are kept for the server itself, each client needs one more"
            ),
            StartError::SetUp(Kind::Uring, _) => {
                "do what the reason says; without --io=uring, or with --io=epoll, etchd serves by epoll"
                    .to_owned()
            }
            StartError::SetUp(Kind::Epoll, _) => {
                "do what the reason says, or lower --shards, as each shard needs queues of its own".to_owned()
            }
            StartError::Other { advice, .. } => advice.clone(),
        }
    }

    /// Writes it to the log, with etcd's message for this error, or else for any error of a start.
    pub(super) fn log(&self) {
        if let StartError::FewDescriptors { limit } = self {
            return tracing::error!(
                target: FATAL,
                limit,
                recommended_limit = RESERVED_DESCRIPTORS,
                what_to_do = %self.advice(),
                "{FEW_DESCRIPTORS}"
            );
        }
        tracing::error!(
            target: FATAL,
            error = %self,
            what_to_do = %self.advice(),
            "discovery failed"
        );
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bootstrap(error) => error.fmt(formatter),
            StartError::AddressInUse { address } => {
                write!(formatter, "listen tcp {address}: bind: address already in use")
            }
            StartError::Address { address, error } => {
                write!(formatter, "listen tcp {address}: bind: {}", reason(error))
            }
            StartError::Data { doing, path, error } => {
                write!(formatter, "cannot {doing} {}: {}", path.display(), reason(error))
            }
            StartError::FewDescriptors { limit } => write!(
                formatter,
                "{FEW_DESCRIPTORS}: it is {limit}, recommended is more than {RESERVED_DESCRIPTORS}"
            ),
            StartError::SetUp(_, error) => error.fmt(formatter),
            StartError::Other { what, .. } => formatter.write_str(what),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Bootstrap(error) => Some(error),
            StartError::Address { error, .. } | StartError::Data { error, .. } => Some(error),
            StartError::SetUp(_, error) => Some(error),
            StartError::AddressInUse { .. }
            | StartError::FewDescriptors { .. }
            | StartError::Other { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let busy = StartError::AddressInUse { address: "127.0.0.1:34900".to_owned() };
        assert_eq!(busy.to_string(), "listen tcp 127.0.0.1:34900: bind: address already in use");
        let denied = StartError::Data {
            doing: "create",
            path: PathBuf::from("/data"),
            error: io::Error::from_raw_os_error(libc::EACCES),
        };
        assert_eq!(denied.to_string(), "cannot create /data: permission denied");
        assert!(denied.advice().starts_with("give this user the right"));
        let few = StartError::FewDescriptors { limit: 64 };
        assert!(few.to_string().starts_with(FEW_DESCRIPTORS) && few.advice().contains("ulimit -n"), "{few}");
        let full = |kind| {
            let error = io::Error::from_raw_os_error(libc::EMFILE);
            StartError::SetUp(kind, SetupError::of_step("set up its queues", error)).advice()
        };
        assert!(full(Kind::Uring).contains("serves by epoll"));
        assert!(!full(Kind::Epoll).contains("epoll") && full(Kind::Epoll).contains("--shards"));
    }
}
