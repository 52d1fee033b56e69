//! From raw [`Options`] to a validated [`Config`]: all rules between options live here.
//!
//! The conversion reads nothing but its arguments; what it has to ask the machine comes in as [`Host`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::options::{Notice, Options};
use super::urls::{self, Url};
use crate::edge::pick::Wish;
use crate::limits::shard::SHARDS_MAX;
use crate::pure::cluster::{cluster_id, member_id};

/// Everything the server needs to know from its operator, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`, by default `<name>.etcd`.
    pub data_dir: PathBuf,
    /// `--wal-dir`; `None` keeps the log inside the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where clients are listened to; at least one.
    pub listen_client: Vec<Listen>,
    /// `--advertise-client-urls`, sorted.
    pub advertise_client_urls: Vec<String>,
    /// `--listen-peer-urls`, sorted; not bound by this version.
    pub listen_peer_urls: Vec<String>,
    /// `--initial-advertise-peer-urls`, sorted.
    pub advertise_peer_urls: Vec<String>,
    /// What a member without data starts from. A member with data takes its ids from the data and has to
    /// ignore this, errors included, as etcd does.
    pub bootstrap: Result<Bootstrap, ConfigError>,
    /// Bounds of requests.
    pub limits: Limits,
    /// Pings between server and clients.
    pub keepalive: Keepalive,
    /// `--heartbeat-interval`; above zero.
    pub heartbeat: Duration,
    /// `--election-timeout`; at least five heartbeats, at most 50 s.
    pub election: Duration,
    /// Shortest lease in seconds, one and a half elections rounded up.
    pub lease_ttl_seconds_min: i64,
    /// `--snapshot-count`.
    pub snapshot_count: u64,
    /// `--watch-progress-notify-interval`, at least 100 ms.
    pub progress_notify_interval: Duration,
    /// `--log-level` and `--log-format`.
    pub log: LogConfig,
    /// `--shards`; by default the cores of the cgroup.
    pub shards: usize,
    /// `--pin`.
    pub pin: bool,
    /// `--io`.
    pub io: Wish,
    /// `--unsafe-no-fsync`.
    pub no_fsync: bool,
}

/// Identity of a new cluster of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// This member.
    pub member_id: u64,
    /// The cluster.
    pub cluster_id: u64,
    /// The member's peer URLs as the initial cluster has them; these are stored.
    pub peer_urls: Vec<String>,
    /// `--initial-cluster-token`.
    pub token: String,
}

/// One place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The URL as given.
    pub url: String,
    /// What to bind.
    pub target: ListenTarget,
}

/// What a listener binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenTarget {
    /// One address.
    Tcp(SocketAddr),
    /// Every address of the machine at this port: both families with one socket (`[::]` that also takes
    /// IPv4) or, without IPv6, `0.0.0.0`. Go, and so etcd, reads `0.0.0.0` and `::` alike.
    TcpAny(u16),
    /// A socket file. One left over from an earlier run has to be removed first.
    Unix(PathBuf),
}

/// Bounds of requests that the operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-concurrent-streams`.
    pub concurrent_streams_max: u32,
}

/// Pings between server and clients, with gRPC's defaults where a flag is zero or less, as in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Clients that ping more often are sent away.
    pub client_ping_interval_min: Duration,
    /// Quiet time after which the server pings.
    pub ping_after: Duration,
    /// Time for the answer.
    pub ping_timeout: Duration,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least important level that is written.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

/// Levels that differ here; etcd's three above `error` are `Fatal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the levels are their own words")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Columns with tabs.
    Console,
}

impl LogConfig {
    /// How to log before the options are known.
    pub const EARLY: LogConfig = LogConfig { level: LogLevel::Info, format: LogFormat::Json };
}

/// One reason why options cannot be honoured, as text for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// What the conversion asks the machine.
pub struct Host<'a> {
    /// Address behind the default route, if there is one.
    pub default_address: Option<IpAddr>,
    /// Cores that the cgroup and the process' affinity allow.
    pub cores: usize,
    /// First address of a host name.
    pub resolve: &'a dyn Fn(&str) -> Option<IpAddr>,
}

/// Longest election timeout, so that a split does not last for minutes.
const ELECTION_MS_MAX: u64 = 50_000;
/// Etcd warns from here on: a request this large holds up all others.
const REQUEST_BYTES_ADVISED_MAX: u64 = 10 * 1024 * 1024;
/// gRPC's own values, which hold when a flag is zero.
const GRPC_PING_INTERVAL_MIN: Duration = Duration::from_secs(300);
const GRPC_PING_AFTER: Duration = Duration::from_secs(7200);
const GRPC_PING_TIMEOUT: Duration = Duration::from_secs(20);
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);
const NAME_DEFAULT: &str = "default";
const PEER_URL_DEFAULT: &str = "http://localhost:2380";
const CLIENT_URL_DEFAULT: &str = "http://localhost:2379";
const INITIAL_CLUSTER_DEFAULT: &str = "default=http://localhost:2380";

impl Config {
    /// Checks the options against each other.
    ///
    /// # Errors
    ///
    /// All reasons, in the order in which etcd would find them.
    pub fn new(options: &Options, host: &Host<'_>) -> Result<(Config, Vec<Notice>), Vec<ConfigError>> {
        let mut errors = Errors::default();
        let mut notices = Vec::new();
        let log = log_config(options, &mut errors);
        let listen_peer = options.urls("listen-peer-urls");
        let listen_client = options.urls("listen-client-urls");
        let targets = listen_targets(&listen_peer, &listen_client, &mut errors);
        let mut advertise_peer = options.urls("initial-advertise-peer-urls");
        let mut advertise_client = options.urls("advertise-client-urls");
        check_hosts(&advertise_peer, &advertise_client, &mut errors);
        let (heartbeat_ms, election_ms) = timing(options, &mut errors);
        if options.is_set("listen-client-urls") && !options.is_set("advertise-client-urls") {
            errors.add("--advertise-client-urls is required when --listen-client-urls is set explicitly");
        }
        let shards = match options.is_set("shards") {
            false => host.cores.clamp(1, SHARDS_MAX),
            true => saturate(options.uint("shards")),
        };
        if shards == 0 {
            errors.add("--shards must be >0 (set to 0)");
        } else if shards > SHARDS_MAX {
            errors.add(format!("--shards must be <={} (set to {shards})", SHARDS_MAX));
        }
        let io = match options.text("io").as_str() {
            "uring" => Wish::Uring,
            "epoll" => Wish::Epoll,
            _ => Wish::Auto,
        };
        if !errors.0.is_empty() {
            return Err(errors.0);
        }

        let peer_replaced = replace_host(&mut advertise_peer, PEER_URL_DEFAULT, &listen_peer, host);
        let client_replaced = replace_host(&mut advertise_client, CLIENT_URL_DEFAULT, &listen_client, host);
        if let (true, Some(address)) = (peer_replaced || client_replaced, host.default_address) {
            notices.push(Notice::Adjusted(format!("detected default host for advertise: {address}")));
        }
        let name = options.text("name");
        let request_bytes = options.uint("max-request-bytes");
        if request_bytes > REQUEST_BYTES_ADVISED_MAX {
            notices.push(Notice::Adjusted(format!(
                "exceeded recommended request limit: --max-request-bytes={request_bytes} is above \
                 {REQUEST_BYTES_ADVISED_MAX}"
            )));
        }
        let data_dir = match options.text("data-dir") {
            text if text.is_empty() => PathBuf::from(format!("{name}.etcd")),
            text => PathBuf::from(text),
        };
        let wal_dir = Some(options.text("wal-dir")).filter(|text| !text.is_empty()).map(PathBuf::from);
        let config = Config {
            bootstrap: bootstrap(options, &name, &advertise_peer, host),
            name,
            data_dir,
            wal_dir,
            listen_client: targets,
            advertise_client_urls: texts(&advertise_client),
            listen_peer_urls: texts(&listen_peer),
            advertise_peer_urls: texts(&advertise_peer),
            limits: Limits {
                txn_ops_max: saturate(options.uint("max-txn-ops")),
                request_bytes_max: saturate(request_bytes),
                concurrent_streams_max: u32::try_from(options.uint("max-concurrent-streams"))
                    .unwrap_or(u32::MAX),
            },
            keepalive: keepalive(options),
            heartbeat: Duration::from_millis(heartbeat_ms),
            election: Duration::from_millis(election_ms),
            lease_ttl_seconds_min: lease_ttl_seconds_min(heartbeat_ms, election_ms),
            snapshot_count: options.uint("snapshot-count"),
            progress_notify_interval: progress_interval(options, &mut notices),
            log,
            shards,
            pin: options.bool("pin"),
            io,
            no_fsync: options.bool("unsafe-no-fsync"),
        };
        Ok((config, notices))
    }
}

#[derive(Default)]
struct Errors(Vec<ConfigError>);

impl Errors {
    fn add(&mut self, text: impl Into<String>) {
        self.0.push(ConfigError(text.into()));
    }
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}

fn saturate(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn log_config(options: &Options, errors: &mut Errors) -> LogConfig {
    let level = match options.text("log-level").as_str() {
        "debug" | "DEBUG" => LogLevel::Debug,
        "info" | "INFO" | "" => LogLevel::Info,
        "warn" | "WARN" => LogLevel::Warn,
        "error" | "ERROR" => LogLevel::Error,
        "dpanic" | "DPANIC" | "panic" | "PANIC" | "fatal" | "FATAL" => LogLevel::Fatal,
        other => {
            errors.add(format!("unrecognized level: {other:?}"));
            LogLevel::Info
        }
    };
    let format = match options.text("log-format").as_str() {
        "json" | "" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => {
            errors.add(format!("unknown log format: {other}, supported values json, console"));
            LogFormat::Json
        }
    };
    LogConfig { level, format }
}

/// Checks all listeners and gives what the client ones bind.
fn listen_targets(peer: &[Url], client: &[Url], errors: &mut Errors) -> Vec<Listen> {
    for url in peer {
        if let Err(ConfigError(text)) = listen_target(url) {
            errors.add(text);
        }
    }
    let mut listens = Vec::with_capacity(client.len());
    for url in client {
        match listen_target(url) {
            Ok(target) => listens.push(Listen { url: url.as_str().to_owned(), target }),
            Err(ConfigError(text)) => errors.add(text),
        }
    }
    listens
}

fn listen_target(url: &Url) -> Result<ListenTarget, ConfigError> {
    if url.scheme.is_secure() {
        let plain = if url.scheme.is_unix() { "unix" } else { "http" };
        return Err(ConfigError(format!(
            "TLS is not in this version yet: use {plain}:// instead of {}",
            url.as_str()
        )));
    }
    if url.scheme.is_unix() {
        let path = url.socket_path();
        if path.is_empty() {
            return Err(ConfigError(format!("expected a socket file in URL for binding ({})", url.as_str())));
        }
        return Ok(ListenTarget::Unix(PathBuf::from(path)));
    }
    let no_address = || ConfigError(format!("expected IP in URL for binding ({})", url.as_str()));
    let (host, port) = url.host_port().ok_or_else(no_address)?;
    // The name is not resolved: etcd means the loopback address, and prefers IPv4.
    let address = if host == "localhost" {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        host.parse::<IpAddr>().map_err(|_| no_address())?
    };
    let port = match port {
        "" => 0,
        digits => digits.parse::<u16>().map_err(|_| {
            ConfigError(format!("listen tcp: address {digits}: invalid port ({})", url.as_str()))
        })?,
    };
    let any = address == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    Ok(if any { ListenTarget::TcpAny(port) } else { ListenTarget::Tcp(SocketAddr::new(address, port)) })
}

fn check_hosts(peer: &[Url], client: &[Url], errors: &mut Errors) {
    let empty_host = |urls: &[Url]| {
        urls.iter()
            .find(|url| !url.scheme.is_unix() && url.host_port().is_none_or(|(host, _)| host.is_empty()))
            .map(|url| format!("unexpected empty host ({})", url.as_str()))
    };
    if let Some(reason) = empty_host(peer) {
        let all = texts(peer).join(",");
        errors.add(format!("--initial-advertise-peer-urls {all:?} must be \"host:port\" ({reason})"));
    }
    if let Some(reason) = empty_host(client) {
        let all = texts(client).join(",");
        errors.add(format!(
            "--advertise-client-urls {all:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" ({reason})"
        ));
    }
}

/// Heartbeat and election timeout in milliseconds.
fn timing(options: &Options, errors: &mut Errors) -> (u64, u64) {
    let heartbeat = options.uint("heartbeat-interval");
    let election = options.uint("election-timeout");
    if heartbeat == 0 {
        errors.add("--heartbeat-interval must be >0 (set to 0ms)");
    }
    if election == 0 {
        errors.add("--election-timeout must be >0 (set to 0ms)");
    } else if heartbeat.saturating_mul(5) > election {
        errors.add(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        errors.add(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        ));
    }
    (heartbeat, election)
}

/// Counted in whole heartbeats, as etcd counts: 3 × ticks / 2, rounded down, then seconds rounded up.
fn lease_ttl_seconds_min(heartbeat_ms: u64, election_ms: u64) -> i64 {
    let ticks = election_ms / heartbeat_ms;
    let milliseconds = 3 * ticks / 2 * heartbeat_ms;
    i64::try_from(milliseconds.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// A flag's duration if it is above zero.
fn positive(options: &Options, name: &str) -> Option<Duration> {
    u64::try_from(options.nanoseconds(name))
        .ok()
        .filter(|nanoseconds| *nanoseconds > 0)
        .map(Duration::from_nanos)
}

fn keepalive(options: &Options) -> Keepalive {
    let pings = positive(options, "grpc-keepalive-interval").zip(positive(options, "grpc-keepalive-timeout"));
    let (ping_after, ping_timeout) = pings.unwrap_or((GRPC_PING_AFTER, GRPC_PING_TIMEOUT));
    Keepalive {
        client_ping_interval_min: positive(options, "grpc-keepalive-min-time")
            .unwrap_or(GRPC_PING_INTERVAL_MIN),
        ping_after,
        ping_timeout,
    }
}

fn progress_interval(options: &Options, notices: &mut Vec<Notice>) -> Duration {
    match positive(options, "watch-progress-notify-interval") {
        None => PROGRESS_INTERVAL_DEFAULT,
        Some(interval) if interval < PROGRESS_INTERVAL_MIN => {
            notices.push(Notice::Adjusted(
                "adjusting watch progress notify interval to minimum period, 100ms".to_owned(),
            ));
            PROGRESS_INTERVAL_MIN
        }
        Some(interval) => interval,
    }
}

/// When a member listens everywhere and its advertised URL was left alone, others get the address behind
/// the default route: nobody else could use `localhost`.
fn replace_host(advertised: &mut [Url], default: &str, listened: &[Url], host: &Host<'_>) -> bool {
    let Some(address) = host.default_address else { return false };
    let [only] = advertised else { return false };
    let first = listened.first().and_then(Url::host_port);
    let Some(("0.0.0.0", port)) = first.filter(|_| only.as_str() == default) else { return false };
    *only = only.with_host_port(&address.to_string(), port);
    true
}

/// Identity of a new cluster, by etcd's rules for `--initial-cluster`.
fn bootstrap(
    options: &Options,
    name: &str,
    advertised: &[Url],
    host: &Host<'_>,
) -> Result<Bootstrap, ConfigError> {
    let token = options.text("initial-cluster-token");
    let mut text = options.text("initial-cluster");
    if name != NAME_DEFAULT && text == INITIAL_CLUSTER_DEFAULT {
        // Only the name was given.
        let shown = if name.is_empty() { NAME_DEFAULT } else { name };
        text = advertised.iter().map(|url| format!("{shown}={}", url.as_str())).collect::<Vec<_>>().join(",");
    }
    let members = initial_cluster(&text)?;
    let local = members.get(name).ok_or_else(|| {
        ConfigError(format!("couldn't find local name {name:?} in the initial cluster configuration"))
    })?;
    advertised_match(name, advertised, local, host)?;
    let mut all: Vec<&str> = members.values().flatten().map(Url::as_str).collect();
    all.sort_unstable();
    if all.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ConfigError(format!("initial cluster {} has duplicate url", pairs(&members))));
    }
    if options.text("initial-cluster-state") == "existing" {
        return Err(ConfigError(
            "--initial-cluster-state=existing is not in this version yet: it cannot join a cluster, only found \
             one of one member; remove the flag"
                .to_owned(),
        ));
    }
    if members.len() > 1 {
        return Err(ConfigError(format!(
            "--initial-cluster with {} members is not in this version yet: name only this member, \
             --initial-cluster={}",
            members.len(),
            texts(local).iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
        )));
    }
    let peer_urls = texts(local);
    let member_id = member_id(&peer_urls, &token);
    Ok(Bootstrap { member_id, cluster_id: cluster_id(&[member_id]), peer_urls, token })
}

/// `name=url,name=url`, a name with several URLs repeated.
fn initial_cluster(text: &str) -> Result<BTreeMap<String, Vec<Url>>, ConfigError> {
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        let url = urls::parse(url.trim())
            .map_err(|error| ConfigError(format!("error setting up initial cluster: {error}")))?;
        members.entry(name.to_owned()).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort_by(|left, right| left.as_str().cmp(right.as_str()));
    }
    Ok(members)
}

fn pairs(members: &BTreeMap<String, Vec<Url>>) -> String {
    let mut pairs: Vec<String> = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={}", url.as_str())))
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// The advertised URLs have to be those of the initial cluster, as text or after resolving host names.
fn advertised_match(
    name: &str,
    advertised: &[Url],
    listed: &[Url],
    host: &Host<'_>,
) -> Result<(), ConfigError> {
    let reason = match difference(advertised, listed, host) {
        None => return Ok(()),
        Some(reason) => reason,
    };
    let missing = |from: &[Url], other: &[Url], prefix: &str| {
        let texts: Vec<String> = from
            .iter()
            .filter(|url| !other.iter().any(|known| known.as_str() == url.as_str()))
            .map(|url| format!("{prefix}{}", url.as_str()))
            .collect();
        texts.join(",")
    };
    let from_cluster = missing(listed, advertised, &format!("{name}="));
    let shown = texts(advertised).join(",");
    if !from_cluster.is_empty() {
        return Err(ConfigError(format!(
            "--initial-cluster has {from_cluster} but missing from --initial-advertise-peer-urls={shown} ({reason})"
        )));
    }
    let from_advertised = missing(advertised, listed, "");
    let map: Vec<String> = advertised.iter().map(|url| format!("{name}={}", url.as_str())).collect();
    Err(ConfigError(format!(
        "--initial-advertise-peer-urls has {from_advertised} but missing from --initial-cluster={}",
        map.join(",")
    )))
}

/// Why two lists are not the same, if they are not.
fn difference(advertised: &[Url], listed: &[Url], host: &Host<'_>) -> Option<String> {
    let quoted = |urls: &[Url]| {
        let texts: Vec<String> = urls.iter().map(|url| format!("{:?}", url.as_str())).collect();
        format!("[{}]", texts.join(" "))
    };
    if advertised.len() != listed.len() {
        return Some(format!("len({}) != len({})", quoted(advertised), quoted(listed)));
    }
    if texts(advertised) == texts(listed) {
        return None;
    }
    let resolved = |urls: &[Url]| {
        let mut texts: Vec<String> = urls.iter().map(|url| resolve(url, host)).collect();
        texts.sort_unstable();
        texts
    };
    let (left, right) = (resolved(advertised), resolved(listed));
    let (left, right) = left.iter().zip(&right).find(|(left, right)| left != right)?;
    Some(format!("resolved urls: {left:?} != {right:?}"))
}

/// The URL with its host name replaced by an address, or as it is when that is not possible.
fn resolve(url: &Url, host: &Host<'_>) -> String {
    let Some((name, port)) = url.host_port().filter(|_| !url.scheme.is_unix() && !url.has_address()) else {
        return url.as_str().to_owned();
    };
    match (host.resolve)(name) {
        Some(address) => url.with_host_port(&address.to_string(), port).as_str().to_owned(),
        None => url.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Command, parse};
    use super::*;

    const HOST: Host<'static> = Host {
        default_address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
        cores: 3,
        resolve: &|name| (name == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };

    fn convert(line: &str) -> Result<(Config, Vec<Notice>), Vec<ConfigError>> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words, &[]) {
            Ok(Command::Serve(options, _)) => Config::new(&options, &HOST),
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    fn config(line: &str) -> Config {
        convert(line).unwrap_or_else(|errors| panic!("{line:?} gave {errors:?}")).0
    }

    fn error(line: &str) -> String {
        let errors = convert(line).expect_err(line);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    fn bootstrap_error(line: &str) -> String {
        config(line).bootstrap.expect_err(line).0
    }

    #[test]
    fn no_flags_at_all() {
        let config = config("");
        assert_eq!(config.name, "default");
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(config.wal_dir, None);
        let target = ListenTarget::Tcp("127.0.0.1:2379".parse().unwrap());
        assert_eq!(config.listen_client, [Listen { url: "http://localhost:2379".to_owned(), target }]);
        assert_eq!(config.advertise_client_urls, ["http://localhost:2379"]);
        assert_eq!(config.listen_peer_urls, ["http://localhost:2380"]);
        let bootstrap = config.bootstrap.unwrap();
        assert_eq!(bootstrap.cluster_id, 14841639068965178418);
        assert_eq!(bootstrap.member_id, 10276657743932975437);
        assert_eq!(bootstrap.peer_urls, ["http://localhost:2380"]);
        assert_eq!(config.lease_ttl_seconds_min, 2);
        assert_eq!(config.progress_notify_interval, Duration::from_secs(600));
        assert_eq!(config.keepalive.client_ping_interval_min, Duration::from_secs(5));
        assert_eq!(config.limits.request_bytes_max, crate::limits::request::REQUEST_BYTES_MAX_DEFAULT);
        assert_eq!(config.limits.txn_ops_max, crate::limits::request::TXN_OPS_MAX_DEFAULT);
        assert_eq!(config.limits.concurrent_streams_max, u32::MAX);
        assert_eq!(
            (config.shards, config.pin, config.no_fsync, config.snapshot_count),
            (3, false, false, 10_000)
        );
    }

    /// Texts of etcd (3.5.1 where it was run, 3.7 where the words differ); each ends with exit code 1.
    #[test]
    fn refused_combinations() {
        let table = [
            (
                "--listen-client-urls http://127.0.0.1:1",
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            (
                "--listen-client-urls http://foo.example:1 --advertise-client-urls http://foo.example:1",
                "expected IP in URL for binding (http://foo.example:1)",
            ),
            (
                "--listen-client-urls http://:1 --advertise-client-urls http://a:1",
                "expected IP in URL for binding (http://:1)",
            ),
            (
                "--listen-client-urls http://127.0.0.1:99999 --advertise-client-urls http://a:1",
                "listen tcp: address 99999: invalid port (http://127.0.0.1:99999)",
            ),
            (
                "--advertise-client-urls http://:1",
                "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \
                 \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:1))",
            ),
            (
                "--initial-advertise-peer-urls http://:1",
                "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
            ),
            ("--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)"),
            ("--election-timeout 0", "--election-timeout must be >0 (set to 0ms)"),
            (
                "--heartbeat-interval 500",
                "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]",
            ),
            (
                "--election-timeout 60000",
                "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
            ),
            ("--log-level foo", "unrecognized level: \"foo\""),
            ("--log-format foo", "unknown log format: foo, supported values json, console"),
            ("--shards 1025", "--shards must be <=1024 (set to 1025)"),
            ("--shards 0", "--shards must be >0 (set to 0)"),
            (
                "--listen-peer-urls https://127.0.0.1:1",
                "TLS is not in this version yet: use http:// instead of https://127.0.0.1:1",
            ),
            (
                "--listen-client-urls unixs:///x --advertise-client-urls unixs:///x",
                "TLS is not in this version yet: use unix:// instead of unixs:///x",
            ),
            (
                "--listen-client-urls unix:// --advertise-client-urls http://a:1",
                "expected a socket file in URL for binding (unix://)",
            ),
            // All reasons at once.
            (
                "--heartbeat-interval 0 --log-format x",
                "unknown log format: x, supported values json, console; --heartbeat-interval must be >0 (set to 0ms)",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(error(line), expected, "{line:?}");
        }
    }

    #[test]
    fn refused_clusters() {
        let table = [
            (
                "--name x --initial-cluster y=http://localhost:2380",
                "couldn't find local name \"x\" in the initial cluster configuration",
            ),
            (
                "--initial-advertise-peer-urls http://127.0.0.1:35380",
                "--initial-cluster has default=http://localhost:2380 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:35380 (resolved urls: \
                 \"http://127.0.0.1:35380\" != \"http://127.0.0.1:2380\")",
            ),
            (
                "--name x --initial-cluster x=http://10.0.0.1:1,x=http://10.0.0.1:2 \
                 --initial-advertise-peer-urls http://10.0.0.1:1",
                "--initial-cluster has x=http://10.0.0.1:2 but missing from \
                 --initial-advertise-peer-urls=http://10.0.0.1:1 (len([\"http://10.0.0.1:1\"]) != \
                 len([\"http://10.0.0.1:1\" \"http://10.0.0.1:2\"]))",
            ),
            (
                "--name x --initial-cluster x=http://10.0.0.1:1 \
                 --initial-advertise-peer-urls http://10.0.0.1:1,http://10.0.0.1:2",
                "--initial-advertise-peer-urls has http://10.0.0.1:2 but missing from \
                 --initial-cluster=x=http://10.0.0.1:1,x=http://10.0.0.1:2",
            ),
            (
                "--name x --initial-cluster x=http://10.0.0.1:1,y=http://10.0.0.1:1 \
                 --initial-advertise-peer-urls http://10.0.0.1:1",
                "initial cluster x=http://10.0.0.1:1,y=http://10.0.0.1:1 has duplicate url",
            ),
            (
                "--initial-cluster x",
                "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
            ),
            (
                "--initial-cluster x=http://a",
                "error setting up initial cluster: URL address does not have the form \"host:port\": http://a",
            ),
            (
                "--initial-cluster=",
                "couldn't find local name \"default\" in the initial cluster configuration",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(bootstrap_error(line), expected, "{line:?}");
        }
        let several = "--initial-cluster default=http://localhost:2380,b=http://b:1";
        assert_eq!(
            bootstrap_error(several),
            "--initial-cluster with 2 members is not in this version yet: name only this member, \
             --initial-cluster=default=http://localhost:2380"
        );
        assert!(bootstrap_error("--initial-cluster-state existing").contains("not in this version yet"));
    }

    /// `--name` alone moves the initial cluster with it, and the id stays, since it has no name in it.
    #[test]
    fn only_a_name() {
        let config = config("--name x --initial-advertise-peer-urls http://localhost:2380");
        assert_eq!(config.data_dir, PathBuf::from("x.etcd"));
        assert_eq!(config.bootstrap.unwrap().member_id, 10276657743932975437);
    }

    #[test]
    fn ids_of_a_token_and_a_url() {
        let line = "--name m1 --initial-cluster m1=http://127.0.0.1:42381 --initial-cluster-token tok-demo \
                    --initial-advertise-peer-urls http://127.0.0.1:42381";
        assert_eq!(config(line).bootstrap.unwrap().member_id, 8128108202461973020);
    }

    #[test]
    fn host_names_are_resolved_before_they_differ() {
        let line = "--initial-cluster default=http://127.0.0.1:2380";
        assert_eq!(config(line).bootstrap.unwrap().peer_urls, ["http://127.0.0.1:2380"]);
    }

    #[test]
    fn listeners() {
        let line = "--listen-client-urls http://[::1]:1,unix:///run/x,http://0.0.0.0:2,http://10.0.0.1:3 \
                    --advertise-client-urls https://front.example:443,unix:///run/x";
        let targets: Vec<ListenTarget> = config(line).listen_client.into_iter().map(|l| l.target).collect();
        assert_eq!(
            targets,
            [
                ListenTarget::TcpAny(2),
                ListenTarget::Tcp("10.0.0.1:3".parse().unwrap()),
                ListenTarget::Tcp("[::1]:1".parse().unwrap()),
                ListenTarget::Unix(PathBuf::from("/run/x")),
            ]
        );
        assert_eq!(config(line).advertise_client_urls, ["https://front.example:443", "unix:///run/x"]);
    }

    #[test]
    fn advertised_host_follows_the_default_route() {
        let line = "--name x --listen-peer-urls http://0.0.0.0:35480 --listen-client-urls http://0.0.0.0:35479 \
                    --advertise-client-urls http://localhost:2379";
        let (config, notices) = convert(line).unwrap();
        assert_eq!(config.advertise_client_urls, ["http://192.0.2.2:35479"]);
        assert_eq!(config.bootstrap.unwrap().peer_urls, ["http://192.0.2.2:35480"]);
        assert_eq!(notices, [Notice::Adjusted("detected default host for advertise: 192.0.2.2".to_owned())]);
    }

    #[test]
    fn durations_and_limits() {
        let config = config(
            "--heartbeat-interval 300 --election-timeout 2000 --grpc-keepalive-interval 0 \
             --grpc-keepalive-min-time -1s --watch-progress-notify-interval 5s --max-txn-ops 1024",
        );
        // 6 ticks, 9 of them, 2.7 s.
        assert_eq!(config.lease_ttl_seconds_min, 3);
        assert_eq!(config.keepalive.ping_after, Duration::from_secs(7200));
        assert_eq!(config.keepalive.client_ping_interval_min, Duration::from_secs(300));
        assert_eq!(config.progress_notify_interval, Duration::from_secs(5));
        assert_eq!(config.limits.txn_ops_max, 1024);
        let (config, notices) =
            convert("--watch-progress-notify-interval 1ms --max-request-bytes 20971520").unwrap();
        assert_eq!(config.progress_notify_interval, Duration::from_millis(100));
        assert_eq!(notices.len(), 2);
    }
}
