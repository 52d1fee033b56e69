//! The one table of flags: every name that an etcd of 3.4 to 3.8 knows, plus ours.
//!
//! A name that is not here is an error. What a row's class means is decided in [`super::options`].

/// How a flag's value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `--x` or `--x=false`.
    Bool,
    /// A signed number.
    Int,
    /// An unsigned number.
    Uint,
    /// An unsigned number of 32 bits.
    Uint32,
    /// A Go duration.
    Duration,
    /// Comma-separated URLs.
    Urls,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `Gate=bool,…` of [`GATES`].
    Gates,
}

/// What this version does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It works.
    Works,
    /// Any valid value is accepted and has no effect here; one warning.
    Ignored,
    /// A switch of long ago, accepted with any value; one warning.
    Legacy,
    /// Etcd's default and the values listed are accepted, they ask for nothing that is not there. Any other
    /// ends the start.
    NotYet(&'static [&'static str]),
    /// Another spelling of the flag named.
    Alias(&'static str),
}

/// Heading of the help page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the headings are their own words")]
pub enum Group {
    Member,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Features,
    Unsafe,
    Etchd,
    Deprecated,
}

impl Group {
    /// All headings in the order of the page.
    pub const ALL: [Group; 10] = [
        Group::Member,
        Group::Clustering,
        Group::Security,
        Group::Auth,
        Group::Monitoring,
        Group::Logging,
        Group::Features,
        Group::Unsafe,
        Group::Etchd,
        Group::Deprecated,
    ];

    /// The heading's text.
    pub fn title(self) -> &'static str {
        match self {
            Group::Member => "Member",
            Group::Clustering => "Clustering",
            Group::Security => "Security",
            Group::Auth => "Auth",
            Group::Monitoring => "Profiling and Monitoring",
            Group::Logging => "Logging",
            Group::Features => "Features",
            Group::Unsafe => "Unsafe feature",
            Group::Etchd => "Only in etchd",
            Group::Deprecated => "Accepted for old manifests",
        }
    }
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// How its value is read.
    pub kind: Kind,
    /// Etcd's default, in the form of a value.
    pub default: &'static str,
    /// What this version does with it.
    pub class: Class,
    /// Its heading on the help page.
    pub group: Group,
    /// One line for the help page.
    pub help: &'static str,
}

impl Flag {
    /// Its environment variable: `ETCD_` and the name in upper case with underscores.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// The flag of that name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// Feature gates of etcd 3.7 and their defaults. The two of all alpha and all beta gates move others.
pub const GATES: &[(&str, bool)] = &[
    ("AllAlpha", false),
    ("AllBeta", false),
    ("CompactHashCheck", false),
    ("FastLeaseKeepAlive", true),
    ("InitialCorruptCheck", false),
    ("LeaseCheckpoint", false),
    ("LeaseCheckpointPersist", false),
    ("PriorityRequest", false),
    ("SetMemberLocalAddr", false),
    ("StopGRPCServiceOnDefrag", false),
    ("TxnModeWriteWithSharedBuffer", true),
];

const NONE: &[&str] = &[];

const fn row(
    group: Group,
    class: Class,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, class, group, help }
}

const fn works(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    row(group, Class::Works, name, kind, default, help)
}

const fn ignored(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    row(group, Class::Ignored, name, kind, default, help)
}

const fn not_yet(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    row(group, Class::NotYet(NONE), name, kind, default, help)
}

const fn alias(name: &'static str, of: &'static str, kind: Kind, default: &'static str) -> Flag {
    row(
        Group::Deprecated,
        Class::Alias(of),
        name,
        kind,
        default,
        "Older spelling of the flag without the prefix.",
    )
}

const fn legacy(name: &'static str) -> Flag {
    row(Group::Deprecated, Class::Legacy, name, Kind::Bool, "false", "No longer has a meaning.")
}

const fn old(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    not_yet(Group::Deprecated, name, kind, default, help)
}

use Group::{Auth, Clustering, Deprecated, Etchd, Features, Logging, Member, Monitoring, Security, Unsafe};
use Kind::{Bool, Duration, Gates, Int, OneOf, Text, Uint, Uint32, Urls};

/// Every flag, in the order of the help page.
pub const FLAGS: &[Flag] = &[
    works(Member, "name", Text, "default", "Name of this member."),
    works(Member, "data-dir", Text, "", "Directory of the data; '${name}.etcd' when not set."),
    works(Member, "wal-dir", Text, "", "Directory of the write-ahead log, if it has its own."),
    works(Member, "snapshot-count", Uint, "10000", "Committed entries between two snapshots."),
    works(Member, "heartbeat-interval", Uint, "100", "Milliseconds between a leader's heartbeats."),
    works(
        Member,
        "election-timeout",
        Uint,
        "1000",
        "Milliseconds without a leader before an election; also sets the shortest lease.",
    ),
    row(
        Member,
        // A member alone elects itself at once either way.
        Class::NotYet(&["false"]),
        "initial-election-tick-advance",
        Bool,
        "true",
        "Whether the first election may come early.",
    ),
    works(Member, "listen-peer-urls", Urls, "http://localhost:2380", "Where members will be listened to."),
    works(
        Member,
        "listen-client-urls",
        Urls,
        "http://localhost:2379",
        "Where clients are listened to: addresses or socket files, several with commas.",
    ),
    not_yet(
        Member,
        "listen-client-http-urls",
        Urls,
        "",
        "Where HTTP clients are listened to, apart from gRPC.",
    ),
    ignored(Member, "max-snapshots", Uint, "5", "Snapshot files to keep."),
    ignored(Member, "max-wals", Uint, "5", "Log files to keep."),
    ignored(Member, "memory-mlock", Bool, "false", "Keep the data's pages in memory."),
    row(
        Member,
        // Zero stands for this size.
        Class::NotYet(&["2147483648"]),
        "quota-backend-bytes",
        Int,
        "0",
        "Size of the data that raises the NOSPACE alarm; 0 is 2 GiB.",
    ),
    ignored(Member, "backend-bbolt-freelist-type", Text, "", "Free list of etcd's storage engine."),
    ignored(Member, "backend-batch-interval", Duration, "0", "Commit interval of etcd's storage engine."),
    ignored(Member, "backend-batch-limit", Int, "0", "Commit size of etcd's storage engine."),
    works(Member, "max-txn-ops", Uint, "128", "Operations that one transaction may hold."),
    works(Member, "max-request-bytes", Uint, "1572864", "Bytes that one request may have."),
    works(
        Member,
        "max-concurrent-streams",
        Uint32,
        "4294967295",
        "Streams that a client may have open on one connection.",
    ),
    works(Member, "grpc-keepalive-min-time", Duration, "5s", "Shortest time between two pings of a client."),
    works(Member, "grpc-keepalive-interval", Duration, "2h", "Quiet time after which a client is pinged."),
    works(Member, "grpc-keepalive-timeout", Duration, "20s", "Time a client has to answer that ping."),
    not_yet(Member, "socket-reuse-port", Bool, "false", "Set SO_REUSEPORT on listeners."),
    not_yet(Member, "socket-reuse-address", Bool, "false", "Set SO_REUSEADDR on listeners."),
    row(
        Member,
        // Turned off is what this version does anyway.
        Class::NotYet(&["false"]),
        "enable-grpc-gateway",
        Bool,
        "true",
        "Serve JSON over HTTP under /v3/.",
    ),
    ignored(Member, "raft-read-timeout", Duration, "5s", "Read timeout of etcd's member connections."),
    ignored(Member, "raft-write-timeout", Duration, "5s", "Write timeout of etcd's member connections."),
    not_yet(Member, "feature-gates", Gates, "", "Feature gates, 'A=true,B=false'."),
    works(
        Clustering,
        "initial-advertise-peer-urls",
        Urls,
        "http://localhost:2380",
        "This member's URLs for other members; they make its id.",
    ),
    works(
        Clustering,
        "initial-cluster",
        Text,
        "default=http://localhost:2380",
        "The cluster's first members, 'name=url'; one member in this version.",
    ),
    works(
        Clustering,
        "initial-cluster-state",
        OneOf(&["new", "existing"]),
        "new",
        "Whether the member founds a cluster or joins one.",
    ),
    works(Clustering, "initial-cluster-token", Text, "etcd-cluster", "Word that sets clusters' ids apart."),
    works(
        Clustering,
        "advertise-client-urls",
        Urls,
        "http://localhost:2379",
        "This member's URLs for clients, shown by member list.",
    ),
    row(
        Clustering,
        // Guards changes of the member list, which this version does not have.
        Class::NotYet(&["false"]),
        "strict-reconfig-check",
        Bool,
        "true",
        "Refuse member changes that would lose the quorum.",
    ),
    row(
        Clustering,
        // A member alone wins either way.
        Class::NotYet(&["false"]),
        "pre-vote",
        Bool,
        "true",
        "Ask before an election.",
    ),
    row(
        Clustering,
        // The mode matters only with a retention.
        Class::NotYet(&["revision"]),
        "auto-compaction-mode",
        Text,
        "periodic",
        "How the retention counts: 'periodic' or 'revision'.",
    ),
    row(
        Clustering,
        Class::NotYet(&["", "0s", "0m", "0h"]),
        "auto-compaction-retention",
        Text,
        "0",
        "History to keep; 0 keeps all.",
    ),
    not_yet(Clustering, "discovery-srv", Text, "", "DNS domain that lists the first members."),
    not_yet(Clustering, "discovery-srv-name", Text, "", "Suffix of the names queried there."),
    not_yet(Clustering, "discovery-token", Text, "", "Token of a discovery service."),
    not_yet(Clustering, "discovery-endpoints", Text, "", "Endpoints of a discovery service."),
    not_yet(Clustering, "discovery-dial-timeout", Duration, "2s", "Discovery: dial timeout."),
    not_yet(Clustering, "discovery-request-timeout", Duration, "5s", "Discovery: request timeout."),
    not_yet(Clustering, "discovery-keepalive-time", Duration, "2s", "Discovery: keepalive time."),
    not_yet(Clustering, "discovery-keepalive-timeout", Duration, "6s", "Discovery: keepalive timeout."),
    not_yet(Clustering, "discovery-insecure-transport", Bool, "true", "Discovery: no TLS."),
    not_yet(Clustering, "discovery-insecure-skip-tls-verify", Bool, "false", "Discovery: trust any server."),
    not_yet(Clustering, "discovery-cert", Text, "", "Discovery: certificate."),
    not_yet(Clustering, "discovery-key", Text, "", "Discovery: key."),
    not_yet(Clustering, "discovery-cacert", Text, "", "Discovery: authorities."),
    not_yet(Clustering, "discovery-user", Text, "", "Discovery: user."),
    not_yet(Clustering, "discovery-password", Text, "", "Discovery: password."),
    not_yet(Security, "cert-file", Text, "", "Certificate for clients."),
    not_yet(Security, "key-file", Text, "", "Key for clients."),
    not_yet(Security, "client-cert-auth", Bool, "false", "Ask clients for certificates."),
    not_yet(Security, "client-cert-file", Text, "", "Certificate for dialling out."),
    not_yet(Security, "client-key-file", Text, "", "Key for dialling out."),
    not_yet(Security, "client-crl-file", Text, "", "Revoked client certificates."),
    not_yet(
        Security,
        "client-cert-allowed-hostname",
        Text,
        "",
        "Names that clients' certificates may carry.",
    ),
    not_yet(Security, "trusted-ca-file", Text, "", "Authorities for clients."),
    not_yet(Security, "auto-tls", Bool, "false", "Certificates for clients, generated."),
    not_yet(Security, "peer-cert-file", Text, "", "Certificate for members."),
    not_yet(Security, "peer-key-file", Text, "", "Key for members."),
    not_yet(Security, "peer-client-cert-auth", Bool, "false", "Ask members for certificates."),
    not_yet(Security, "peer-client-cert-file", Text, "", "Certificate for dialling members."),
    not_yet(Security, "peer-client-key-file", Text, "", "Key for dialling members."),
    not_yet(Security, "peer-trusted-ca-file", Text, "", "Authorities for members."),
    not_yet(Security, "peer-cert-allowed-cn", Text, "", "Common names that members may carry."),
    not_yet(Security, "peer-cert-allowed-hostname", Text, "", "Host names that members may carry."),
    not_yet(Security, "peer-auto-tls", Bool, "false", "Certificates for members, generated."),
    not_yet(Security, "peer-crl-file", Text, "", "Revoked certificates of members."),
    not_yet(
        Security,
        "peer-skip-client-san-verification",
        Bool,
        "false",
        "Do not check members' host names.",
    ),
    not_yet(Security, "self-signed-cert-validity", Uint, "1", "Years that a generated certificate lasts."),
    not_yet(Security, "cipher-suites", Text, "", "Cipher suites to offer."),
    not_yet(Security, "tls-min-version", Text, "TLS1.2", "Lowest TLS version."),
    not_yet(Security, "tls-max-version", Text, "", "Highest TLS version."),
    row(Security, Class::NotYet(&[""]), "cors", Text, "*", "Origins that browsers may come from."),
    row(
        Security,
        Class::NotYet(&[""]),
        "host-whitelist",
        Text,
        "*",
        "Host names that HTTP requests may use.",
    ),
    not_yet(Auth, "auth-token", Text, "simple", "Kind of tokens."),
    not_yet(Auth, "bcrypt-cost", Uint, "10", "Cost of a password's hash."),
    not_yet(Auth, "auth-token-ttl", Uint, "300", "Seconds that an unused token lasts."),
    ignored(Monitoring, "enable-pprof", Bool, "false", "Serve Go's profiles."),
    not_yet(Monitoring, "metrics", Text, "basic", "'extensive' adds request times to /metrics."),
    not_yet(Monitoring, "listen-metrics-urls", Urls, "", "Where /metrics and /health are served, too."),
    ignored(Monitoring, "enable-distributed-tracing", Bool, "false", "Send traces."),
    ignored(Monitoring, "distributed-tracing-address", Text, "localhost:4317", "Where traces go."),
    ignored(Monitoring, "distributed-tracing-service-name", Text, "etcd", "Service name of traces."),
    ignored(Monitoring, "distributed-tracing-instance-id", Text, "", "Instance of traces."),
    ignored(Monitoring, "distributed-tracing-sampling-rate", Int, "0", "Traces of a million requests."),
    not_yet(Logging, "logger", Text, "zap", "Kind of logger."),
    row(
        Logging,
        Class::NotYet(&["stderr"]),
        "log-outputs",
        Text,
        "default",
        "Where the log goes; stderr here.",
    ),
    works(Logging, "log-level", Text, "info", "debug, info, warn, error, panic or fatal."),
    works(Logging, "log-format", Text, "json", "json or console."),
    ignored(Logging, "enable-log-rotation", Bool, "false", "Rotate the log's file."),
    ignored(Logging, "log-rotation-config-json", Text, "", "How to rotate it."),
    not_yet(Features, "corrupt-check-time", Duration, "0", "Interval of the members' comparison."),
    ignored(Features, "compact-hash-check-time", Duration, "1m", "Interval of the comparison by hashes."),
    ignored(Features, "compaction-batch-limit", Int, "1000", "Revisions that one compaction step removes."),
    ignored(Features, "compaction-sleep-interval", Duration, "10ms", "Pause between compaction steps."),
    works(
        Features,
        "watch-progress-notify-interval",
        Duration,
        "10m",
        "Interval of progress notices to watchers that asked for them.",
    ),
    ignored(Features, "downgrade-check-time", Duration, "5s", "Interval of the look for a downgrade."),
    not_yet(Features, "warning-apply-duration", Duration, "100ms", "Slow applies are logged from here on."),
    not_yet(
        Features,
        "warning-unary-request-duration",
        Duration,
        "300ms",
        "Slow requests are logged from here on.",
    ),
    ignored(Features, "bootstrap-defrag-threshold-megabytes", Uint, "0", "Defragment at start from here on."),
    not_yet(Features, "max-learners", Int, "1", "Members without a vote at one time."),
    not_yet(Features, "snapshot-catchup-entries", Uint, "5000", "Entries kept for slow members."),
    works(Unsafe, "unsafe-no-fsync", Bool, "false", "Do not sync the disk: a power cut loses data."),
    not_yet(Unsafe, "force-new-cluster", Bool, "false", "Start from the data as a cluster of one."),
    works(
        Etchd,
        "shards",
        Uint,
        "0",
        "Threads, each serving clients; as many as there are cores by default.",
    ),
    works(Etchd, "pin", Bool, "false", "Tie each thread to a core."),
    works(
        Etchd,
        "io",
        OneOf(&["auto", "uring", "epoll"]),
        "auto",
        "How the kernel is asked: auto takes io_uring where it is allowed, else epoll.",
    ),
    works(Etchd, "version", Bool, "false", "Print the version and exit."),
    not_yet(Etchd, "config-file", Text, "", "File of options, in place of flags and variables."),
    // Older and newer names.
    row(Deprecated, Class::NotYet(&[""]), "discovery", Text, "", "Discovery by the old protocol."),
    old("discovery-proxy", Text, "", "Proxy for that."),
    ignored(Deprecated, "discovery-fallback", OneOf(&["exit", "proxy"]), "exit", "When discovery fails."),
    old("proxy", OneOf(&["off", "readonly", "on"]), "off", "Old proxy mode."),
    ignored(Deprecated, "proxy-failure-wait", Uint, "5000", "Of the old proxy mode."),
    ignored(Deprecated, "proxy-refresh-interval", Uint, "30000", "Of the old proxy mode."),
    ignored(Deprecated, "proxy-dial-timeout", Uint, "1000", "Of the old proxy mode."),
    ignored(Deprecated, "proxy-write-timeout", Uint, "5000", "Of the old proxy mode."),
    ignored(Deprecated, "proxy-read-timeout", Uint, "0", "Of the old proxy mode."),
    old("debug", Bool, "false", "Log at debug level (3.4)."),
    row(Deprecated, Class::NotYet(&["stderr"]), "log-output", Text, "default", "Where the log goes (3.4)."),
    old("log-package-levels", Text, "", "Log levels of packages (3.4)."),
    old("enable-v2", Bool, "false", "The v2 API."),
    old("experimental-enable-v2v3", Text, "", "The v2 API over v3 data."),
    ignored(
        Deprecated,
        "v2-deprecation",
        OneOf(&["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
        "write-only",
        "What happens to v2 data.",
    ),
    ignored(Deprecated, "next-cluster-version-compatible", Bool, "false", "Downgrade aid of 3.4."),
    alias("experimental-compact-hash-check-time", "compact-hash-check-time", Duration, "1m"),
    alias("experimental-corrupt-check-time", "corrupt-check-time", Duration, "0"),
    alias("experimental-compaction-batch-limit", "compaction-batch-limit", Int, "1000"),
    alias("experimental-compaction-sleep-interval", "compaction-sleep-interval", Duration, "10ms"),
    alias("experimental-watch-progress-notify-interval", "watch-progress-notify-interval", Duration, "10m"),
    alias("experimental-warning-apply-duration", "warning-apply-duration", Duration, "100ms"),
    alias("experimental-warning-unary-request-duration", "warning-unary-request-duration", Duration, "300ms"),
    alias(
        "experimental-bootstrap-defrag-threshold-megabytes",
        "bootstrap-defrag-threshold-megabytes",
        Uint,
        "0",
    ),
    alias("experimental-memory-mlock", "memory-mlock", Bool, "false"),
    alias("experimental-snapshot-catchup-entries", "snapshot-catchup-entries", Uint, "5000"),
    alias("experimental-downgrade-check-time", "downgrade-check-time", Duration, "5s"),
    alias(
        "experimental-peer-skip-client-san-verification",
        "peer-skip-client-san-verification",
        Bool,
        "false",
    ),
    alias("experimental-enable-distributed-tracing", "enable-distributed-tracing", Bool, "false"),
    alias("experimental-distributed-tracing-address", "distributed-tracing-address", Text, "localhost:4317"),
    alias("experimental-distributed-tracing-service-name", "distributed-tracing-service-name", Text, "etcd"),
    alias("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id", Text, ""),
    alias("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate", Int, "0"),
    alias("experimental-backend-bbolt-freelist-type", "backend-bbolt-freelist-type", Text, ""),
    old("experimental-initial-corrupt-check", Bool, "false", "Gate InitialCorruptCheck."),
    old("experimental-compact-hash-check-enabled", Bool, "false", "Gate CompactHashCheck."),
    old("experimental-enable-lease-checkpoint", Bool, "false", "Gate LeaseCheckpoint."),
    old("experimental-enable-lease-checkpoint-persist", Bool, "false", "Gate LeaseCheckpointPersist."),
    old("experimental-txn-mode-write-with-shared-buffer", Bool, "true", "Gate TxnModeWriteWithSharedBuffer."),
    old("experimental-stop-grpc-service-on-defrag", Bool, "false", "Gate StopGRPCServiceOnDefrag."),
    legacy("cluster-active-size"),
    legacy("cluster-remove-delay"),
    legacy("cluster-sync-interval"),
    legacy("config"),
    legacy("force"),
    legacy("max-result-buffer"),
    legacy("max-retry-attempts"),
    legacy("peer-heartbeat-interval"),
    legacy("peer-election-timeout"),
    legacy("retry-interval"),
    legacy("snapshot"),
    legacy("v"),
    legacy("vv"),
    legacy("test.coverprofile"),
    legacy("test.outputdir"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_aliases_lead_somewhere() {
        for (position, flag) in FLAGS.iter().enumerate() {
            assert!(!FLAGS[..position].iter().any(|other| other.name == flag.name), "{} twice", flag.name);
            if let Class::Alias(of) = flag.class {
                let target =
                    find(of).unwrap_or_else(|| panic!("{} leads to {of}, which is no flag", flag.name));
                assert_eq!((target.kind, target.default), (flag.kind, flag.default), "{}", flag.name);
            }
        }
    }

    /// The names of the facts page, so that none is forgotten.
    #[test]
    fn every_flag_of_etcd_is_known() {
        let names = "name data-dir wal-dir snapshot-count snapshot-catchup-entries heartbeat-interval \
            election-timeout initial-election-tick-advance listen-peer-urls listen-client-urls \
            listen-client-http-urls max-snapshots max-wals memory-mlock quota-backend-bytes \
            backend-bbolt-freelist-type backend-batch-interval backend-batch-limit max-txn-ops \
            max-request-bytes max-concurrent-streams grpc-keepalive-min-time grpc-keepalive-interval \
            grpc-keepalive-timeout socket-reuse-port socket-reuse-address enable-grpc-gateway \
            raft-read-timeout raft-write-timeout feature-gates initial-advertise-peer-urls initial-cluster \
            initial-cluster-state initial-cluster-token advertise-client-urls strict-reconfig-check pre-vote \
            auto-compaction-mode auto-compaction-retention discovery-srv discovery-srv-name discovery-token \
            discovery-endpoints discovery-dial-timeout discovery-request-timeout discovery-keepalive-time \
            discovery-keepalive-timeout discovery-insecure-transport discovery-insecure-skip-tls-verify \
            discovery-cert discovery-key discovery-cacert discovery-user discovery-password discovery \
            discovery-proxy discovery-fallback proxy proxy-failure-wait proxy-refresh-interval \
            proxy-dial-timeout proxy-write-timeout proxy-read-timeout cert-file key-file trusted-ca-file \
            client-cert-auth peer-cert-file peer-key-file peer-trusted-ca-file peer-client-cert-auth \
            client-cert-file client-key-file peer-client-cert-file peer-client-key-file client-crl-file \
            peer-crl-file client-cert-allowed-hostname peer-cert-allowed-cn peer-cert-allowed-hostname \
            auto-tls peer-auto-tls self-signed-cert-validity peer-skip-client-san-verification cipher-suites \
            tls-min-version tls-max-version cors host-whitelist auth-token bcrypt-cost auth-token-ttl logger \
            log-outputs log-level log-format enable-log-rotation log-rotation-config-json debug log-output \
            log-package-levels enable-pprof metrics listen-metrics-urls enable-distributed-tracing \
            distributed-tracing-address distributed-tracing-service-name distributed-tracing-instance-id \
            distributed-tracing-sampling-rate corrupt-check-time compact-hash-check-time \
            compaction-batch-limit compaction-sleep-interval watch-progress-notify-interval \
            downgrade-check-time warning-apply-duration warning-unary-request-duration \
            bootstrap-defrag-threshold-megabytes max-learners unsafe-no-fsync force-new-cluster enable-v2 \
            experimental-enable-v2v3 v2-deprecation next-cluster-version-compatible config-file version";
        for name in names.split_whitespace() {
            assert!(find(name).is_some(), "{name} is missing");
        }
    }

    #[test]
    fn variables() {
        assert_eq!(find("listen-peer-urls").unwrap().variable(), "ETCD_LISTEN_PEER_URLS");
    }
}
