//! What an operator sees of the server: options, log, metrics, signals, start and stop.
//!
//! Owns: the table of flags, the form of the log, the text of HTTP/1 answers, the process's signals.
//! Takes: arguments, environment, numbers for a scrape. Gives: a validated `Config`, texts, exit codes.
//! Always true: an option that cannot be honoured ends the start with its name; nothing is silently dropped.
//! Not here: sockets, files of the data directory, the loop.

pub mod config;
pub mod flags;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod options;
pub mod signals;
pub mod start;
pub mod urls;
pub mod values;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use config::{Config, Host, LogConfig};
use logging::FATAL;
use options::{Command, Notice, OptionsError};
use start::{StartError, Stop};

/// The etcd release whose behaviour this server has, as clients and scripts see it.
pub const ETCD_VERSION: &str = "3.7.3";
/// The cluster version that goes with it.
pub const ETCD_CLUSTER_VERSION: &str = "3.7.0";

/// Exit code after a failed write or sync of the log (EX_IOERR of sysexits.h).
pub const EXIT_LOG_FAILED: i32 = 74;

/// What [`run_with`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The process exits with this code.
    Code(i32),
    /// The process ends by this signal.
    Signal(signals::Signal),
}

/// Runs the program with its arguments (the first is its name) and this server; returns the exit code.
pub fn run(arguments: Vec<OsString>, serve: impl FnOnce(Config) -> Result<Stop, StartError>) -> i32 {
    let environment = std::env::vars_os().collect();
    match run_with(arguments, environment, serve) {
        Exit::Code(code) => code,
        Exit::Signal(signal) => signals::end_by(signal),
    }
}

/// The same with a given environment and server. The server gets the configuration once the log is set up;
/// it has to call [`logging::announce_ready`], [`signals::Signals::install`] and [`announce_to_init`] when it
/// is ready.
pub fn run_with(
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    serve: impl FnOnce(Config) -> Result<Stop, StartError>,
) -> Exit {
    let arguments: Result<Vec<String>, OsString> =
        arguments.into_iter().skip(1).map(OsString::into_string).collect();
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(argument) => return usage(&format!("argument {argument:?} is not UTF-8")),
    };
    // A variable that is no text cannot be one of ours, or its value could not be read.
    let environment: Vec<(String, String)> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    match options::parse(&arguments, &environment) {
        Ok(Command::Version) => print(&version()),
        Ok(Command::Help) => {
            eprint!("{}", options::USAGE);
            print(&options::help())
        }
        Err(OptionsError::Usage(text)) => usage(&text),
        Err(OptionsError::Refused(texts, notices)) => {
            logging::set_up(LogConfig::EARLY);
            notices.iter().for_each(Notice::log);
            refuse(texts.iter())
        }
        Err(OptionsError::Conflict { variable, notices }) => {
            logging::set_up(LogConfig::EARLY);
            notices.iter().for_each(Notice::log);
            tracing::error!(
                target: FATAL,
                environment_variable = %variable,
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                 environment variable or disable flag))"
            );
            Exit::Code(1)
        }
        Ok(Command::Serve(options, notices)) => start(&options, notices, serve),
    }
}

fn start(
    options: &options::Options,
    mut notices: Vec<Notice>,
    serve: impl FnOnce(Config) -> Result<Stop, StartError>,
) -> Exit {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let host = Host { default_address: default_address(), cores, resolve: &resolve };
    let config = match Config::new(options, &host) {
        Ok((config, more)) => {
            notices.extend(more);
            config
        }
        Err(errors) => {
            logging::set_up(LogConfig::EARLY);
            notices.iter().for_each(Notice::log);
            return refuse(errors.iter());
        }
    };
    logging::set_up(config.log);
    notices.iter().for_each(Notice::log);
    if let Err(error) = signals::ignore_harmless() {
        tracing::warn!(%error, "cannot ignore SIGPIPE and SIGUSR1");
    }
    logging::announce_start(&config);
    match serve(config) {
        Ok(Stop::Finished) => Exit::Code(0),
        Ok(Stop::Signal(signal)) => Exit::Signal(signal),
        Ok(Stop::LogFailed { what, advice }) => {
            tracing::error!(target: FATAL, error = %what, what_to_do = %advice, "server failed");
            Exit::Code(EXIT_LOG_FAILED)
        }
        Ok(Stop::Failed { what, advice }) => {
            tracing::error!(target: FATAL, error = %what, what_to_do = %advice, "server failed");
            Exit::Code(1)
        }
        Err(error) => {
            error.log();
            Exit::Code(1)
        }
    }
}

/// Tells the init daemon that the server is ready. For the server to call once, after
/// [`logging::announce_ready`].
pub fn announce_to_init() {
    if let Err(error) = signals::notify_ready() {
        tracing::error!(%error, "failed to notify systemd for readiness");
    }
}

fn refuse(texts: impl Iterator<Item = impl std::fmt::Display>) -> Exit {
    for error in texts {
        tracing::warn!(%error, "failed to verify flags");
    }
    Exit::Code(1)
}

fn usage(text: &str) -> Exit {
    eprint!("{text}\n{}", options::USAGE);
    Exit::Code(2)
}

fn print(text: &str) -> Exit {
    let mut output = std::io::stdout().lock();
    // Nobody is left to tell when standard output is closed.
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    Exit::Code(if written.is_ok() { 0 } else { 1 })
}

/// What `--version` prints: etcd's four lines, of which scripts read the first.
fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: etchd-{}\nGo Version: none (etchd, Rust)\nGo OS/Arch: linux/{}\n",
        env!("CARGO_PKG_VERSION"),
        if cfg!(target_arch = "x86_64") { "amd64" } else { std::env::consts::ARCH },
    )
}

/// Our address toward the rest of the world: the one a datagram socket takes when it is connected to an
/// address of documentation (RFC 5737). Nothing is sent.
fn default_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// First address of a host name.
fn resolve(name: &str) -> Option<IpAddr> {
    Some((name, 0).to_socket_addrs().ok()?.next()?.ip())
}

#[cfg(test)]
mod tests;
