//! A server's life: open the data, recover, become ready, serve, stop.

use std::path::PathBuf;
use std::sync::Arc;

use super::Stopped;
use super::assemble::{self, Found, Log, LogStore, RecoverError, Wiring};
use super::crew::Crew;
use crate::edge::clock::Clock;
use crate::edge::disk::{DataDirectory, DiskError, DiskOptions, LogFiles, Syncs};
use crate::edge::epoll::Epoll;
use crate::edge::host::HostIo;
use crate::edge::net::{self, ListenAddress, ListenError, Listener};
use crate::edge::ops::config::{Config, ListenTarget};
use crate::edge::ops::signals::Signals;
use crate::edge::ops::start::{StartError, Stop};
use crate::edge::ops::{self, ETCD_CLUSTER_VERSION, ETCD_VERSION, logging};
use crate::edge::pick::{self, Kind, Wish};
use crate::edge::ring::{Features, Ring};
use crate::edge::system;
use crate::limits;
use crate::pure::api::log_payload::RequestIds;
use crate::pure::cluster::{self, Member};
use crate::pure::front;
use crate::pure::node;
use crate::pure::raft::{self, MemberId, Raft};
use crate::pure::session;
use crate::pure::wal::{self, Identity, Refused};
use crate::pure::watch::HubConfig;
use crate::stdx::prng::Prng;

/// Runs a server until it is told to stop.
///
/// # Errors
/// Why it did not start.
pub fn serve(config: Config) -> Result<Stop, StartError> {
    // Before anything that takes descriptors: it raises the limit.
    let connections_max = connections_max()?;
    let choice =
        pick::choose(config.io, Features::probe).map_err(|error| StartError::SetUp(Kind::Uring, error))?;
    if let Some(warning) = &choice.warning {
        tracing::warn!("{warning}");
    }
    if choice.kind == Kind::Epoll {
        return serve_by::<Epoll>(Kind::Epoll, config, connections_max);
    }
    match serve_by::<Ring>(Kind::Uring, config.clone(), connections_max) {
        // The limits allow one ring and not one for each core, or not all that is registered with it.
        Err(StartError::SetUp(_, error)) if config.io == Wish::Auto => {
            tracing::warn!("{}", pick::falls_back(&error));
            serve_by::<Epoll>(Kind::Epoll, config, connections_max)
        }
        other => other,
    }
}

/// Serves by one kind of edge.
fn serve_by<I: HostIo>(kind: Kind, config: Config, connections_max: u64) -> Result<Stop, StartError> {
    let listeners = listen(&config)?;
    let data = open_data(&config)?;
    for warning in data.warnings() {
        tracing::warn!("{warning}");
    }
    let log = recover(&config, data.log())?;
    // Before the other threads are started, which inherit it.
    if let Err(error) = system::ask_for_short_turns(limits::shard::TURN_NANOSECONDS) {
        tracing::debug!(%error, "the scheduler gives turns of the usual length");
    }
    let (cpus, cores) = (cpus(&config), config.shards);
    // The others first: what the log's core registers beside its ring is optional, their rings are not.
    let crew = Crew::muster::<I>(kind, cores, &cpus)?;
    let io = I::set_up(Some(data)).map_err(|error| StartError::SetUp(kind, error))?;
    logging::announce_io(kind, &io.fast_paths());
    run(config, log, io, crew, listeners, connections_max, cpus.first().copied())
}

/// What the limit of open files allows; the soft one is raised to the hard one first, as Go's runtime does.
fn connections_max() -> Result<u64, StartError> {
    let limit = system::raised_descriptor_limit().map_err(|error| StartError::Other {
        what: format!("the limit of open files can't be read: {error}"),
        advice: "allow the system call prlimit64".to_owned(),
    })?;
    net::connections_max(limit).ok_or(StartError::FewDescriptors { limit })
}

/// The processors for the cores, if they are to be pinned: more cores than processors can't be.
fn cpus(config: &Config) -> Vec<usize> {
    if !config.pin {
        return Vec::new();
    }
    let cpus = system::allowed_cpus();
    if cpus.len() < config.shards {
        tracing::warn!(
            shards = config.shards,
            processors = cpus.len(),
            "--pin has no effect: there are more shards than processors"
        );
        return Vec::new();
    }
    cpus
}

pub(super) fn pin_error(error: std::io::Error) -> StartError {
    StartError::Other {
        what: format!("--pin: the thread can't be tied to its processor: {error}"),
        advice: "start without --pin".to_owned(),
    }
}

fn listen(config: &Config) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for listen in &config.listen_client {
        let address = match &listen.target {
            ListenTarget::Tcp(address) => ListenAddress::Tcp(*address),
            ListenTarget::TcpAny(port) => ListenAddress::Tcp((std::net::Ipv6Addr::UNSPECIFIED, *port).into()),
            ListenTarget::Unix(path) => ListenAddress::Unix(path.clone()),
        };
        let bound = Listener::bind(&address).or_else(|error| match (&listen.target, &error) {
            // A machine without IPv6.
            (ListenTarget::TcpAny(port), ListenError { error: reason, .. })
                if reason.kind() != std::io::ErrorKind::AddrInUse =>
            {
                Listener::bind(&ListenAddress::Tcp((std::net::Ipv4Addr::UNSPECIFIED, *port).into()))
            }
            _ => Err(error),
        });
        listeners.push(bound.map_err(address_error)?);
    }
    Ok(listeners)
}

fn address_error(failed: ListenError) -> StartError {
    let address = match failed.address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => path.display().to_string(),
    };
    match failed.error {
        error if error.kind() == std::io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        error => StartError::Address { address, error },
    }
}

fn open_data(config: &Config) -> Result<DataDirectory, StartError> {
    let syncs = if config.no_fsync { Syncs::Off } else { Syncs::On };
    let options = DiskOptions { data_dir: config.data_dir.clone(), wal_dir: config.wal_dir.clone(), syncs };
    DataDirectory::open(&options).map_err(data_error)
}

fn data_error(error: DiskError) -> StartError {
    let advice = match &error {
        DiskError::Locked { .. } => "stop the process that holds the lock, or choose another --data-dir",
        DiskError::ForeignData(_) => "choose another --data-dir; an import comes with a later version",
        DiskError::Failed { .. } => "",
    };
    match error {
        DiskError::Locked { .. } | DiskError::ForeignData(_) => {
            StartError::Other { what: error.to_string(), advice: advice.to_owned() }
        }
        DiskError::Failed { action, path, error } => StartError::Data { doing: action, path, error },
    }
}

impl LogStore for LogFiles {
    type Error = DiskError;

    fn segments(&self) -> Result<Vec<(u64, u64)>, DiskError> {
        LogFiles::segments(self)
    }

    fn read_head(&self, number: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        LogFiles::read_head(self, number, bytes)
    }

    fn read_segment(&self, number: u64) -> Result<Vec<u8>, DiskError> {
        LogFiles::read_segment(self, number)
    }

    fn create_segment(&self, number: u64, bytes: u64) -> Result<(), DiskError> {
        LogFiles::create_segment(self, number, bytes)
    }

    fn write_synced(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        LogFiles::write_synced(self, number, offset, bytes)
    }
}

fn recover(config: &Config, files: &LogFiles) -> Result<Log, StartError> {
    let wal_config = wal::Config::standard();
    let found = assemble::recover(wal_config, files).map_err(|error| match error {
        RecoverError::Store(error) => data_error(error),
        RecoverError::Refused(refused) => refused_error(&refused, files),
    })?;
    match found {
        Found::Log(log) => Ok(*log),
        Found::Nothing(none) => {
            let bootstrap = config.bootstrap.clone().map_err(StartError::Bootstrap)?;
            let identity = Identity { cluster_id: bootstrap.cluster_id, member_id: bootstrap.member_id };
            assemble::create(wal_config, files, &none, Clock.entropy_u64(), identity).map_err(data_error)
        }
    }
}

fn refused_error(refused: &Refused, files: &LogFiles) -> StartError {
    match refused {
        Refused::Corrupt(corrupt) => {
            let file: PathBuf = files.segment_path(corrupt.segment);
            StartError::Other {
                what: format!(
                    "the log is damaged at {}, offset {} ({:?}): it was durable up to position {}, but reads only up \
                     to {}; nothing was changed",
                    file.display(),
                    corrupt.offset,
                    corrupt.damage,
                    corrupt.durable_to.0,
                    corrupt.lsn.0
                ),
                advice: "keep a copy of the directory, check the disk, and restore the data from a backup"
                    .to_owned(),
            }
        }
        Refused::OtherVersion { segment, found, known } => StartError::Other {
            what: format!(
                "{} was written in format {found} of a newer etchd; this one reads format {known}",
                files.segment_path(*segment).display()
            ),
            advice: "start the newer version, or choose another --data-dir".to_owned(),
        },
    }
}

/// Raft as the log has it, or a new cluster's.
fn start_raft(config: &Config, log: &mut Log) -> Result<Raft, StartError> {
    let raft_config = raft::Config {
        id: MemberId(log.identity.member_id),
        election_ticks: u32::try_from(config.election.as_millis() / config.heartbeat.as_millis().max(1))
            .unwrap_or(10),
        pre_vote: true,
        uncommitted_bytes_max: limits::request::PROPOSAL_BYTES_OUTSTANDING_MAX,
        seed: Clock.entropy_u64(),
    };
    if !log.is_new() {
        return log.resume_raft(raft_config).map_err(|refused| StartError::Other {
            what: format!("the log can't be continued: {refused:?}"),
            advice: "it has members that this version does not know; start the version that wrote it"
                .to_owned(),
        });
    }
    let bootstrap = config.bootstrap.clone().map_err(StartError::Bootstrap)?;
    let member = Member {
        id: bootstrap.member_id,
        name: config.name.clone(),
        peer_urls: bootstrap.peer_urls,
        client_urls: Vec::new(),
        is_learner: false,
    };
    debug_assert_eq!(cluster::cluster_id(&[member.id]), bootstrap.cluster_id);
    Ok(assemble::bootstrap_raft(raft_config, &member))
}

fn run<I: HostIo>(
    config: Config,
    mut log: Log,
    io: I,
    crew: Crew,
    listeners: Vec<Listener>,
    connections_max: u64,
    cpu: Option<usize>,
) -> Result<Stop, StartError> {
    let raft = start_raft(&config, &mut log)?;
    let identity = log.identity;
    let ids = RequestIds::new(identity.member_id, Clock.unix_millis());
    let mut seeds = Prng::new(Clock.entropy_u64());
    let node_config = node::Config {
        member_id: identity.member_id,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
        cluster_version: ETCD_CLUSTER_VERSION.to_owned(),
        election_timeout: config.election,
        ttl_seconds_min: config.lease_ttl_seconds_min,
        hash_seed: seeds.next_u64(),
        #[cfg(any(test, feature = "testing"))]
        delete_order_seed: None,
    };
    let front_config = front_config(&config, identity, ids, &mut seeds);
    let wiring = Wiring { cores: config.shards, connections_max };
    let seats = assemble::assemble(log, raft, node_config, front_config, wiring);
    let mut core = crew.sit(io, seats);
    // Clients are let in when the member has replayed its log and published itself, as with etcd.
    let mut busy = true;
    while !core.sequencer().node.is_ready() {
        busy = match core.turn(busy) {
            Ok(busy) => busy,
            Err(stopped) => return Ok(stop_of(stopped)),
        };
    }
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| match listener.address() {
            ListenAddress::Tcp(address) => address.to_string(),
            ListenAddress::Unix(path) => path.display().to_string(),
        })
        .collect();
    core.io().listen(listeners);
    let failed = |error: std::io::Error| StartError::Other {
        what: error.to_string(),
        advice: "free resources".into(),
    };
    let signals = Arc::new(Signals::install().map_err(failed)?);
    let waker = core.io().waker();
    signals.on_signal(move || waker.wake()).map_err(failed)?;
    // The last step, so that no other thread is tied with it.
    cpu.map_or(Ok(()), |cpu| system::run_thread_on(&[cpu])).map_err(pin_error)?;
    logging::announce_ready(&config, &addresses);
    ops::announce_to_init();
    let received = Arc::clone(&signals);
    core.stop_when(Box::new(move || {
        let signal = received.received();
        signal.into_iter().for_each(logging::announce_stop);
        signal.is_some()
    }));
    let stopped = core.run();
    match (signals.received(), stopped) {
        (Some(signal), Stopped::Asked) => Ok(Stop::Signal(signal)),
        (_, stopped) => Ok(stop_of(stopped)),
    }
}

fn stop_of(stopped: Stopped) -> Stop {
    match stopped {
        Stopped::Asked => Stop::Finished,
        Stopped::LogFailed(error) => Stop::LogFailed {
            what: format!("a write to the log failed: {error}"),
            advice: "nothing was acknowledged after it; check the disk, then start again".to_owned(),
        },
    }
}

fn front_config(config: &Config, identity: Identity, ids: RequestIds, seeds: &mut Prng) -> front::Config {
    let mut session = session::Config::new(front::resolve);
    session.message_bytes_max = config.limits.request_bytes_max + limits::request::ENVELOPE_BYTES;
    session.h2.concurrent_streams_max = config.limits.concurrent_streams_max;
    session.h2.ping_policy.interval_min = config.keepalive.client_ping_interval_min;
    session.h2.keepalive_idle = config.keepalive.ping_after;
    session.h2.keepalive_timeout = config.keepalive.ping_timeout;
    session.h2.seed = seeds.next_u64();
    front::Config {
        shard: 0,
        session,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        txn_ops_max: config.limits.txn_ops_max,
        request_bytes_max: config.limits.request_bytes_max,
        version: ETCD_VERSION,
        storage_version: ETCD_CLUSTER_VERSION,
        hub: HubConfig::new(
            seeds.next_u64(),
            config.limits.request_bytes_max,
            config.progress_notify_interval,
        ),
        seed: seeds.next_u64(),
        ids,
    }
}
