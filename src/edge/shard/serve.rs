//! A server's life: open the data, recover, become ready, serve, stop.

use std::path::PathBuf;
use std::sync::Arc;

use super::http::Http;
use super::{FloorSlot, Loop, Sequencer, Shard, Stopped};
use crate::edge::clock::Clock;
use crate::edge::disk::{DataDirectory, DiskError, DiskOptions, LogFiles, Syncs};
use crate::edge::io::Io as _;
use crate::edge::mesh::{mailbox, published};
use crate::edge::net::{self, ListenAddress, ListenError, Listener};
use crate::edge::ops::config::{Config, ListenTarget};
use crate::edge::ops::signals::Signals;
use crate::edge::ops::start::{StartError, Stop};
use crate::edge::ops::{self, ETCD_CLUSTER_VERSION, ETCD_VERSION, logging};
use crate::edge::ring::{Ring, RingOptions};
use crate::limits;
use crate::pure::api::log_payload::RequestIds;
use crate::pure::cluster::{self, Member, context};
use crate::pure::front::{self, Front};
use crate::pure::node::{self, Node};
use crate::pure::raft::{self, ConfState, MemberId, Raft};
use crate::pure::session;
use crate::pure::types::LogIndex;
use crate::pure::wal::{
    self, FreshSegment, Identity, Outcome, Recovery, RecoveryStart, Refused, Resume, SegmentBlock, Writer,
};
use crate::pure::watch::HubConfig;
use crate::stdx::prng::Prng;

/// Runs a server until it is told to stop.
///
/// # Errors
/// Why it did not start.
pub fn serve(config: Config) -> Result<Stop, StartError> {
    Ring::check().map_err(|error| StartError::Other {
        what: error.to_string(),
        advice: "etchd needs io_uring in this version; the reason above says how to allow it".to_owned(),
    })?;
    let listeners = listen(&config)?;
    let data = open_data(&config)?;
    for warning in data.warnings() {
        tracing::warn!("{warning}");
    }
    let log = recover(&config, data.log())?;
    let connections_max = net::connections_max()
        .map_err(|error| StartError::Other { what: error.to_string(), advice: "raise the limit of open files".into() })?;
    let ring = Ring::new(RingOptions::new(Vec::new(), Some(data), connections_max)).map_err(|error| {
        StartError::Other { what: error.to_string(), advice: "the reason above says what to change".to_owned() }
    })?;
    run(config, log, ring, listeners)
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
            (ListenTarget::TcpAny(port), ListenError::Bind { error: reason, .. })
                if reason.kind() != std::io::ErrorKind::AddrInUse =>
            {
                Listener::bind(&ListenAddress::Tcp((std::net::Ipv4Addr::UNSPECIFIED, *port).into()))
            }
            _ => Err(error),
        });
        listeners.push(bound.map_err(|error| address_error(error, &address))?);
    }
    Ok(listeners)
}

fn address_error(error: ListenError, address: &ListenAddress) -> StartError {
    let address = match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => path.display().to_string(),
    };
    match error {
        ListenError::Bind { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse => {
            StartError::AddressInUse { address }
        }
        ListenError::Bind { error, .. } => StartError::Address { address, error },
        other => StartError::Other { what: other.to_string(), advice: "correct --listen-client-urls".to_owned() },
    }
}

fn open_data(config: &Config) -> Result<DataDirectory, StartError> {
    let syncs = if config.no_fsync { Syncs::Off } else { Syncs::On };
    let options =
        DiskOptions { data_dir: config.data_dir.clone(), wal_dir: config.wal_dir.clone(), syncs };
    DataDirectory::open(&options).map_err(data_error)
}

fn data_error(error: DiskError) -> StartError {
    match error {
        DiskError::Locked { .. } | DiskError::ForeignData(_) => {
            StartError::Other { what: error.to_string(), advice: "see the error".to_owned() }
        }
        DiskError::Failed { action, path, error } => StartError::Data { doing: action, path, error },
    }
}

/// What the log's files gave.
struct Log {
    identity: Identity,
    writer: Writer,
    /// Entries to replay; `None` for a new member.
    start: Option<raft::Start>,
}

fn recover(config: &Config, files: &LogFiles) -> Result<Log, StartError> {
    let wal_config = wal::Config::standard();
    let segments = files.segments().map_err(data_error)?;
    let mut blocks = Vec::with_capacity(segments.len());
    for (number, _) in &segments {
        let bytes = files.read_head(*number, wal::SEGMENT_HEADER_BYTES).map_err(data_error)?;
        blocks.push(SegmentBlock { number: *number, bytes });
    }
    let refuse = |refused| refused_error(&refused, files);
    let mut recovery = Recovery::new(wal_config, RecoveryStart::WHOLE, blocks).map_err(refuse)?;
    while let Some(number) = recovery.poll_segment() {
        let image = files.read_segment(number).map_err(data_error)?;
        if segments.len() > 4 {
            tracing::info!(segment = number, of = segments.len(), "reading the log");
        }
        recovery.handle_segment(number, image.into()).map_err(refuse)?;
    }
    match recovery.finish().map_err(refuse)? {
        Outcome::NoLog(none) => {
            let bootstrap = config.bootstrap.clone().map_err(StartError::Bootstrap)?;
            let identity = Identity { cluster_id: bootstrap.cluster_id, member_id: bootstrap.member_id };
            let (fresh, resume) = none.create(&wal_config, Clock.entropy_u64(), identity);
            let writer = write_fresh(wal_config, files, &fresh, resume)?;
            Ok(Log { identity, writer, start: None })
        }
        Outcome::Log(recovered) => {
            let writer = write_fresh(wal_config, files, &recovered.fresh, recovered.resume)?;
            // A crash between the log's creation and its first batch leaves an empty log.
            let is_new = recovered.entries.is_empty();
            let start = raft::Start {
                conf_state: ConfState::sole(MemberId(recovered.identity.member_id)),
                hard_state: recovered.hard_state,
                before: Default::default(),
                entries: recovered.entries,
                applied: LogIndex(0),
            };
            Ok(Log { identity: recovered.identity, writer, start: (!is_new).then_some(start) })
        }
    }
}

/// Carries out the writes that recovery wants before anything else.
fn write_fresh(
    config: wal::Config,
    files: &LogFiles,
    fresh: &FreshSegment,
    resume: Resume,
) -> Result<Writer, StartError> {
    files.create_segment(fresh.number, fresh.segment_bytes).map_err(data_error)?;
    files.write_synced(fresh.number, wal::SEGMENT_HEADER_BYTES as u64, &fresh.batches).map_err(data_error)?;
    files.write_synced(fresh.number, 0, &fresh.header).map_err(data_error)?;
    Ok(Writer::resume(config, resume))
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
                advice: "keep a copy of the directory, check the disk, and restore the data from a backup".to_owned(),
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
        election_ticks: u32::try_from(config.election.as_millis() / config.heartbeat.as_millis().max(1)).unwrap_or(10),
        pre_vote: true,
        uncommitted_bytes_max: limits::request::PROPOSAL_BYTES_OUTSTANDING_MAX,
        seed: Clock.entropy_u64(),
    };
    if let Some(start) = log.start.take() {
        return Raft::restart(raft_config, start).map_err(|refused| StartError::Other {
            what: format!("the log can't be continued: {refused:?}"),
            advice: "it has members that this version does not know; start the version that wrote it".to_owned(),
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
    Ok(Raft::bootstrap(raft_config, context::encode(&member).into()))
}

fn run(config: Config, mut log: Log, ring: Ring, listeners: Vec<Listener>) -> Result<Stop, StartError> {
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
    };
    let mut node = Node::new(node_config, raft, log.writer, ids.clone());
    let (publisher, mut readers) = published(node.view(), 1);
    let (wish_sender, wish_receiver) = mailbox(limits::request::PROPOSALS_OUTSTANDING_MAX * 2);
    let (reply_sender, reply_receiver) = mailbox(limits::request::PROPOSALS_OUTSTANDING_MAX * 2);
    let front = Front::new(front_config(&config, identity, ids, &mut seeds));
    let shard = Shard {
        front,
        views: readers.pop().expect("one reader was made"),
        wishes: wish_sender,
        replies: reply_receiver,
        floor: FloorSlot::new(),
    };
    let sequencer = Sequencer::new(node, publisher, vec![wish_receiver], vec![reply_sender]);
    let mut core = Loop::new(ring, shard, sequencer, Http::new(identity.member_id));
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
    let failed = |error: std::io::Error| StartError::Other { what: error.to_string(), advice: "free resources".into() };
    let signals = Arc::new(Signals::install().map_err(failed)?);
    let waker = core.io().waker();
    signals.on_signal(move || waker.wake()).map_err(failed)?;
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
        hub: HubConfig::new(seeds.next_u64(), config.limits.request_bytes_max, config.progress_notify_interval),
        seed: seeds.next_u64(),
        ids,
    }
}
