//! What `/metrics` answers: etcd's names, types and labels over a snapshot of plain counters.
//!
//! Families are built at each scrape from [`Snapshot`]; nothing is registered or shared. Several names end in
//! `_total` and are gauges all the same: they are so in etcd.

use std::cmp::Ordering;
use std::fs;
use std::io;

use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::http::HealthCounters;
use crate::stdx::histogram::Histogram;

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names of the gRPC codes, by number.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Who streams in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "gRPC's own words")]
pub enum CallKind {
    Unary,
    ClientStream,
    ServerStream,
    BidiStream,
}

impl CallKind {
    fn label(self) -> &'static str {
        match self {
            CallKind::Unary => "unary",
            CallKind::ClientStream => "client_stream",
            CallKind::ServerStream => "server_stream",
            CallKind::BidiStream => "bidi_stream",
        }
    }
}

/// One method of a service on the client port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// With its package: `etcdserverpb.KV`.
    pub service: &'static str,
    /// As in `Range`.
    pub name: &'static str,
    /// Who streams.
    pub kind: CallKind,
}

/// Counts of one method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodCounts {
    /// Calls begun.
    pub started: u64,
    /// Calls ended, by number of the code.
    pub handled: [u64; CODES.len()],
    /// Messages from clients.
    pub received: u64,
    /// Messages to clients.
    pub sent: u64,
}

/// Requests of one kind of client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequests {
    /// `unary` or `stream`.
    pub kind: &'static str,
    /// From the client's metadata, `unknown` without it.
    pub api_version: String,
    /// How many.
    pub count: u64,
}

/// Applies of one kind of request.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyDuration {
    /// As in `Put`.
    pub operation: &'static str,
    /// Whether they succeeded.
    pub success: bool,
    /// Their times, from [`apply_histogram`].
    pub duration: Histogram,
}

/// Everything that a scrape shows apart from the process. Totals count since the process began.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// This member's id.
    pub member_id: u64,
    /// As in `3.7`; `None` until it is decided.
    pub cluster_version: Option<String>,
    /// Whether a leader is known.
    pub has_leader: bool,
    /// Whether this member leads.
    pub is_leader: bool,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Leaders seen, the first one included.
    pub leader_changes_seen: u64,
    /// Index of the last committed entry.
    pub proposals_committed: u64,
    /// Index of the last applied entry.
    pub proposals_applied: u64,
    /// Proposals in flight.
    pub proposals_pending: u64,
    /// Proposals that timed out or were dropped.
    pub proposals_failed: u64,
    /// Heartbeats that were late.
    pub heartbeat_send_failures: u64,
    /// Applies above the warning threshold.
    pub slow_applies: u64,
    /// Linearizable reads that could not be confirmed.
    pub read_indexes_failed: u64,
    /// Those confirmed late.
    pub read_indexes_slow: u64,
    /// Syncs of the log, from [`disk_histogram`].
    pub wal_fsync: Histogram,
    /// Bytes written to the log.
    pub wal_write_bytes: u64,
    /// Commits of the data's storage, from [`disk_histogram`].
    pub backend_commit: Histogram,
    /// Bytes that the data takes on disk.
    pub db_total_bytes: u64,
    /// Bytes of it in use.
    pub db_in_use_bytes: u64,
    /// The quota in force.
    pub quota_bytes: u64,
    /// Bytes of messages from clients.
    pub client_received_bytes: u64,
    /// Bytes of messages to clients.
    pub client_sent_bytes: u64,
    /// Methods of the client port.
    pub methods: &'static [Method],
    /// Their counts, in the same order.
    pub calls: Vec<MethodCounts>,
    /// Requests by kind of client.
    pub client_requests: Vec<ClientRequests>,
    /// Applies by kind of request.
    pub applies: Vec<ApplyDuration>,
    /// Ranges.
    pub ranges: u64,
    /// Puts applied.
    pub puts: u64,
    /// Deletes applied.
    pub deletes: u64,
    /// Transactions.
    pub transactions: u64,
    /// Live keys.
    pub keys: u64,
    /// Revision of the store.
    pub current_revision: i64,
    /// Revision of the last compaction, -1 before the first one.
    pub compact_revision: i64,
    /// Whole compactions in milliseconds, from [`compaction_histogram`].
    pub compaction: Histogram,
    /// Events sent to watchers.
    pub events: u64,
    /// Events queued for them.
    pub events_pending: u64,
    /// Open watch streams.
    pub watch_streams: u64,
    /// Open watchers.
    pub watchers: u64,
    /// Watchers that lag behind.
    pub watchers_slow: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases renewed.
    pub leases_renewed: u64,
    /// Leases revoked.
    pub leases_revoked: u64,
    /// Leases expired.
    pub leases_expired: u64,
    /// How often clients have reached each bound, by the bound's name.
    pub client_bounds_reached: Vec<(&'static str, u64)>,
    /// Bytes held for clients: requests under way, answers not sent.
    pub client_held_bytes: u64,
    /// Times that a watcher found no room in its stream's queue and turned behind.
    pub watchers_turned_behind: u64,
    /// Bytes of events that wait in the queues of watch streams.
    pub watch_queued_bytes: u64,
    /// Results of health requests.
    pub health: HealthCounters,
}

impl Snapshot {
    /// All zeroes, for a member that has just begun.
    pub fn new(member_id: u64, methods: &'static [Method]) -> Snapshot {
        Snapshot {
            member_id,
            cluster_version: None,
            has_leader: false,
            is_leader: false,
            is_learner: false,
            leader_changes_seen: 0,
            proposals_committed: 0,
            proposals_applied: 0,
            proposals_pending: 0,
            proposals_failed: 0,
            heartbeat_send_failures: 0,
            slow_applies: 0,
            read_indexes_failed: 0,
            read_indexes_slow: 0,
            wal_fsync: disk_histogram(),
            wal_write_bytes: 0,
            backend_commit: disk_histogram(),
            db_total_bytes: 0,
            db_in_use_bytes: 0,
            quota_bytes: 0,
            client_received_bytes: 0,
            client_sent_bytes: 0,
            methods,
            calls: vec![MethodCounts::default(); methods.len()],
            client_requests: Vec::new(),
            applies: Vec::new(),
            ranges: 0,
            puts: 0,
            deletes: 0,
            transactions: 0,
            keys: 0,
            current_revision: 1,
            compact_revision: -1,
            compaction: compaction_histogram(),
            events: 0,
            events_pending: 0,
            watch_streams: 0,
            watchers: 0,
            watchers_slow: 0,
            leases_granted: 0,
            leases_renewed: 0,
            leases_revoked: 0,
            leases_expired: 0,
            client_bounds_reached: Vec::new(),
            client_held_bytes: 0,
            watchers_turned_behind: 0,
            watch_queued_bytes: 0,
            health: HealthCounters::default(),
        }
    }
}

/// For syncs and commits: 1 ms to 8.192 s.
pub fn disk_histogram() -> Histogram {
    Histogram::doubling(0.001, 14)
}

/// For applies: 0.1 ms to 52.4288 s.
pub fn apply_histogram() -> Histogram {
    Histogram::doubling(0.0001, 20)
}

/// For compactions, in milliseconds: 100 ms to 819.2 s.
pub fn compaction_histogram() -> Histogram {
    Histogram::doubling(100.0, 14)
}

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Processor time used.
    pub cpu_seconds: f64,
    /// Begin of the process, Unix time.
    pub start_time_seconds: f64,
    /// Memory resident.
    pub resident_bytes: u64,
    /// Memory mapped.
    pub virtual_bytes: u64,
    /// Descriptors open.
    pub open_descriptors: u64,
    /// Descriptors allowed.
    pub descriptors_max: u64,
    /// Threads.
    pub threads: u64,
}

/// Ticks of a second in `/proc`, the same on every Linux that we build for.
const PROC_TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// Reads `/proc`.
    ///
    /// # Errors
    ///
    /// The kernel's, as in a container without `/proc`; the scrape goes on without these.
    pub fn read() -> io::Result<Process> {
        let descriptors = fs::read_dir("/proc/self/fd")?.count();
        Process::parse(
            &fs::read_to_string("/proc/self/stat")?,
            &fs::read_to_string("/proc/self/status")?,
            &fs::read_to_string("/proc/self/limits")?,
            &fs::read_to_string("/proc/stat")?,
            // One of them was open for the counting.
            u64::try_from(descriptors.saturating_sub(1)).unwrap_or(u64::MAX),
        )
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc has an unknown form"))
    }

    fn parse(
        stat: &str,
        status: &str,
        limits: &str,
        machine: &str,
        open_descriptors: u64,
    ) -> Option<Process> {
        // The program's name may hold blanks and brackets; fields count from 3 behind its last bracket.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let line = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next().map(str::to_owned)
        };
        let boot: f64 = line(machine, "btime ")?.parse().ok()?;
        let descriptors_max = match line(limits, "Max open files")?.as_str() {
            "unlimited" => u64::MAX,
            number => number.parse().ok()?,
        };
        Some(Process {
            cpu_seconds: (field(14)? + field(15)?) as f64 / PROC_TICKS_PER_SECOND,
            start_time_seconds: boot + field(22)? as f64 / PROC_TICKS_PER_SECOND,
            resident_bytes: line(status, "VmRSS:")?.parse::<u64>().ok()? * 1024,
            virtual_bytes: field(23)?,
            open_descriptors,
            descriptors_max,
            threads: field(20)?,
        })
    }
}

/// The text of a scrape. `process` is `None` where `/proc` cannot be read.
pub fn render(snapshot: &Snapshot, process: Option<&Process>) -> String {
    let mut families = Families::default();
    server(&mut families, snapshot);
    storage(&mut families, snapshot);
    debugging(&mut families, snapshot);
    calls(&mut families, snapshot);
    health(&mut families, &snapshot.health);
    clients(&mut families, snapshot);
    if let Some(process) = process {
        self::process(&mut families, process);
    }
    families.encode()
}

fn server(families: &mut Families, now: &Snapshot) {
    let id = format!("{:x}", now.member_id);
    families.labelled_gauge(
        "etcd_server_id",
        "The member's id in hexadecimal, as a label.",
        &[("server_id", &id)],
        1.0,
    );
    let version = [("server_version", super::ETCD_VERSION)];
    families.labelled_gauge("etcd_server_version", "The version that runs, as a label.", &version, 1.0);
    if let Some(version) = &now.cluster_version {
        let label = [("cluster_version", version.as_str())];
        families.labelled_gauge("etcd_cluster_version", "The cluster's version, as a label.", &label, 1.0);
    }
    families.gauge("etcd_server_has_leader", "1 when a leader is known.", flag(now.has_leader));
    families.gauge("etcd_server_is_leader", "1 when this member leads.", flag(now.is_leader));
    families.gauge("etcd_server_is_learner", "1 when this member has no vote.", flag(now.is_learner));
    families.counter(
        "etcd_server_leader_changes_seen_total",
        "Leaders seen, the first one included.",
        now.leader_changes_seen,
    );
    families.gauge(
        "etcd_server_proposals_committed_total",
        "Index of the last committed entry.",
        number(now.proposals_committed),
    );
    families.gauge(
        "etcd_server_proposals_applied_total",
        "Index of the last applied entry.",
        number(now.proposals_applied),
    );
    families.gauge("etcd_server_proposals_pending", "Proposals in flight.", number(now.proposals_pending));
    families.counter(
        "etcd_server_proposals_failed_total",
        "Proposals that timed out or were dropped.",
        now.proposals_failed,
    );
    families.counter(
        "etcd_server_heartbeat_send_failures_total",
        "Heartbeats that this leader sent late.",
        now.heartbeat_send_failures,
    );
    families.counter("etcd_server_slow_apply_total", "Applies that took too long.", now.slow_applies);
    families.counter(
        "etcd_server_read_indexes_failed_total",
        "Linearizable reads that could not be confirmed.",
        now.read_indexes_failed,
    );
    families.counter(
        "etcd_server_slow_read_indexes_total",
        "Linearizable reads that were confirmed late.",
        now.read_indexes_slow,
    );
    families.gauge("etcd_server_quota_backend_bytes", "Quota of the data in bytes.", number(now.quota_bytes));
    families.add(
        "etcd_server_client_requests_total",
        "Requests by kind of client.",
        MetricType::COUNTER,
        now.client_requests.iter().map(|requests| {
            let labels = [("client_api_version", requests.api_version.as_str()), ("type", requests.kind)];
            counter(&labels, requests.count)
        }),
    );
    families.add(
        "etcd_server_apply_duration_seconds",
        "Time of applies by kind of request.",
        MetricType::HISTOGRAM,
        now.applies.iter().map(|applies| {
            let success = if applies.success { "true" } else { "false" };
            let labels = [("op", applies.operation), ("success", success), ("version", "v3")];
            histogram(&labels, &applies.duration)
        }),
    );
}

fn storage(families: &mut Families, now: &Snapshot) {
    families.histogram("etcd_disk_wal_fsync_duration_seconds", "Time of the log's syncs.", &now.wal_fsync);
    families.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "Time of commits of the data's storage.",
        &now.backend_commit,
    );
    families.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Bytes written to the log.",
        number(now.wal_write_bytes),
    );
    families.gauge("etcd_disk_defrag_inflight", "1 while the storage is defragmented.", 0.0);
    families.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes that the data takes on disk.",
        number(now.db_total_bytes),
    );
    families.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of the data in use.",
        number(now.db_in_use_bytes),
    );
    families.counter("etcd_mvcc_range_total", "Ranges.", now.ranges);
    families.counter("etcd_mvcc_put_total", "Puts applied.", now.puts);
    families.counter("etcd_mvcc_delete_total", "Deletes applied.", now.deletes);
    families.counter("etcd_mvcc_txn_total", "Transactions.", now.transactions);
    families.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes of messages from gRPC clients.",
        now.client_received_bytes,
    );
    families.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes of messages to gRPC clients.",
        now.client_sent_bytes,
    );
}

fn debugging(families: &mut Families, now: &Snapshot) {
    families.gauge("etcd_debugging_mvcc_keys_total", "Live keys.", number(now.keys));
    families.gauge(
        "etcd_debugging_mvcc_current_revision",
        "Revision of the store.",
        now.current_revision as f64,
    );
    families.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "Revision of the last compaction.",
        now.compact_revision as f64,
    );
    families.histogram(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Time of whole compactions.",
        &now.compaction,
    );
    families.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers.", now.events);
    families.gauge(
        "etcd_debugging_mvcc_pending_events_total",
        "Events queued for watchers.",
        number(now.events_pending),
    );
    families.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Open watch streams.",
        number(now.watch_streams),
    );
    families.gauge("etcd_debugging_mvcc_watcher_total", "Open watchers.", number(now.watchers));
    families.gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers that lag behind.",
        number(now.watchers_slow),
    );
    families.counter("etcd_debugging_lease_granted_total", "Leases granted.", now.leases_granted);
    families.counter("etcd_debugging_lease_renewed_total", "Leases renewed.", now.leases_renewed);
    families.counter("etcd_debugging_lease_revoked_total", "Leases revoked.", now.leases_revoked);
    families.counter("etcd_debugging_server_lease_expired_total", "Leases expired.", now.leases_expired);
}

/// Every series exists from the start: `rate()` would lose the first event of one that begins at 1.
fn calls(families: &mut Families, now: &Snapshot) {
    assert_eq!(now.methods.len(), now.calls.len(), "each method has its counts");
    let pairs = || now.methods.iter().zip(&now.calls);
    let total = |count: fn(&MethodCounts) -> u64| {
        pairs().map(move |(method, counts)| {
            let labels = [
                ("grpc_method", method.name),
                ("grpc_service", method.service),
                ("grpc_type", method.kind.label()),
            ];
            counter(&labels, count(counts))
        })
    };
    families.add(
        "grpc_server_started_total",
        "Calls begun.",
        MetricType::COUNTER,
        total(|counts| counts.started),
    );
    families.add(
        "grpc_server_msg_received_total",
        "Messages from clients.",
        MetricType::COUNTER,
        total(|counts| counts.received),
    );
    families.add(
        "grpc_server_msg_sent_total",
        "Messages to clients.",
        MetricType::COUNTER,
        total(|counts| counts.sent),
    );
    let handled = pairs().flat_map(|(method, counts)| {
        CODES.iter().zip(counts.handled).map(|(code, count)| {
            let labels = [
                ("grpc_code", *code),
                ("grpc_method", method.name),
                ("grpc_service", method.service),
                ("grpc_type", method.kind.label()),
            ];
            counter(&labels, count)
        })
    });
    families.add("grpc_server_handled_total", "Calls ended, by code.", MetricType::COUNTER, handled);
}

/// What etcd does not have.
fn clients(families: &mut Families, now: &Snapshot) {
    families.add(
        "etchd_client_bounds_reached_total",
        "Times that clients have reached a bound.",
        MetricType::COUNTER,
        now.client_bounds_reached.iter().map(|(bound, count)| counter(&[("bound", bound)], *count)),
    );
    families.gauge(
        "etchd_client_held_bytes",
        "Bytes held for clients: requests under way, answers not sent.",
        number(now.client_held_bytes),
    );
    families.counter(
        "etchd_watchers_turned_behind_total",
        "Times that a watcher found no room in its stream's queue; it reads on from the store.",
        now.watchers_turned_behind,
    );
    families.gauge(
        "etchd_watch_queued_bytes",
        "Bytes of events that wait in the queues of watch streams.",
        number(now.watch_queued_bytes),
    );
}

fn health(families: &mut Families, counters: &HealthCounters) {
    families.counter("etcd_server_health_success", "Requests for /health that found it good.", counters.good);
    families.counter("etcd_server_health_failures", "Requests for /health that found it bad.", counters.bad);
    let done = || counters.checks().filter(|check| check.passed_count + check.failed_count > 0);
    families.add(
        "etcd_server_healthcheck",
        "Last result of each check of /livez and /readyz.",
        MetricType::GAUGE,
        done().map(|check| gauge(&[("name", check.name), ("type", check.kind)], flag(check.passed_last))),
    );
    families.add(
        "etcd_server_healthchecks_total",
        "Checks of /livez and /readyz.",
        MetricType::COUNTER,
        done()
            .flat_map(|check| [(check, "success", check.passed_count), (check, "error", check.failed_count)])
            .filter(|(_, _, count)| *count > 0)
            .map(|(check, status, count)| {
                counter(&[("name", check.name), ("status", status), ("type", check.kind)], count)
            }),
    );
}

fn process(families: &mut Families, process: &Process) {
    families.add(
        "process_cpu_seconds_total",
        "Processor time used, in seconds.",
        MetricType::COUNTER,
        std::iter::once(counter_value(&[], process.cpu_seconds)),
    );
    families.gauge(
        "process_start_time_seconds",
        "Begin of the process, Unix time in seconds.",
        process.start_time_seconds,
    );
    families.gauge(
        "process_resident_memory_bytes",
        "Memory resident, in bytes.",
        number(process.resident_bytes),
    );
    families.gauge("process_virtual_memory_bytes", "Memory mapped, in bytes.", number(process.virtual_bytes));
    families.gauge("process_open_fds", "Descriptors open.", number(process.open_descriptors));
    families.gauge("process_max_fds", "Descriptors allowed.", number(process.descriptors_max));
    families.gauge("os_fd_used", "Descriptors open.", number(process.open_descriptors));
    families.gauge("os_fd_limit", "Descriptors allowed.", number(process.descriptors_max));
    // Boards of etcd plot these; threads are what we have in their place.
    families.gauge("go_goroutines", "Threads.", number(process.threads));
    families.gauge("go_threads", "Threads.", number(process.threads));
}

/// Prometheus has only floats; above 2^53 they round.
fn number(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    Metric::from_label(
        labels
            .iter()
            .map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value((*value).to_owned());
                pair
            })
            .collect(),
    )
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    counter_value(labels, number(value))
}

fn counter_value(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn histogram(labels: &[(&str, &str)], values: &Histogram) -> Metric {
    let mut metric = labelled(labels);
    let mut histogram = prometheus::proto::Histogram::default();
    let buckets = values.cumulative().map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(values.count());
    histogram.set_sample_sum(values.sum());
    metric.set_histogram(histogram);
    metric
}

#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, MetricType::COUNTER, std::iter::once(counter(&[], value)));
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.labelled_gauge(name, help, &[], value);
    }

    fn labelled_gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, help, MetricType::GAUGE, std::iter::once(gauge(labels, value)));
    }

    fn histogram(&mut self, name: &str, help: &str, values: &Histogram) {
        self.add(name, help, MetricType::HISTOGRAM, std::iter::once(histogram(&[], values)));
    }

    /// A family without series is left out, as a scrape of etcd does.
    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: impl Iterator<Item = Metric>) {
        let mut metrics: Vec<Metric> = metrics.collect();
        if metrics.is_empty() {
            return;
        }
        metrics.sort_by(by_labels);
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    fn encode(mut self) -> String {
        self.0.sort_by(|left, right| left.name().cmp(right.name()));
        let mut bytes = Vec::with_capacity(160 * 1024);
        let encoded = TextEncoder::new().encode(&self.0, &mut bytes);
        assert!(encoded.is_ok(), "families have names and series: {encoded:?}");
        String::from_utf8(bytes).expect("names, help and numbers are texts")
    }
}

fn by_labels(left: &Metric, right: &Metric) -> Ordering {
    let values = |metric: &Metric| -> Vec<String> {
        metric.get_label().iter().map(|label| label.value().to_owned()).collect()
    };
    values(left).cmp(&values(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &[Method] = &[
        Method { service: "etcdserverpb.Watch", name: "Watch", kind: CallKind::BidiStream },
        Method { service: "etcdserverpb.KV", name: "Range", kind: CallKind::Unary },
    ];

    fn text() -> String {
        let mut snapshot = Snapshot::new(0x03db_3ab4_d40c_c978, METHODS);
        snapshot.cluster_version = Some("3.7".to_owned());
        snapshot.has_leader = true;
        snapshot.proposals_committed = 1_234_000;
        snapshot.wal_fsync.observe(0.0015);
        snapshot.calls[1].started = 2;
        snapshot.calls[1].handled[5] = 1;
        snapshot.client_requests =
            vec![ClientRequests { kind: "unary", api_version: "3.5".to_owned(), count: 2 }];
        let mut duration = apply_histogram();
        duration.observe(0.0001);
        snapshot.watchers_turned_behind = 3;
        snapshot.watch_queued_bytes = 4_096;
        snapshot.applies = vec![ApplyDuration { operation: "Put", success: true, duration }];
        render(&snapshot, Some(&Process { open_descriptors: 9, ..Process::default() }))
    }

    fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        text.lines().filter(|line| line.starts_with(start)).collect()
    }

    #[test]
    fn golden_lines() {
        let text = text();
        for line in [
            "# TYPE etcd_server_proposals_committed_total gauge",
            "etcd_server_proposals_committed_total 1234000",
            "# TYPE etcd_server_proposals_failed_total counter",
            "etcd_server_proposals_failed_total 0",
            "etcd_server_id{server_id=\"3db3ab4d40cc978\"} 1",
            "etcd_server_version{server_version=\"3.7.3\"} 1",
            "etcd_cluster_version{cluster_version=\"3.7\"} 1",
            "etchd_watchers_turned_behind_total 3",
            "etchd_watch_queued_bytes 4096",
            "# TYPE etcd_disk_wal_fsync_duration_seconds histogram",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_sum 0.0015",
            "etcd_disk_wal_fsync_duration_seconds_count 1",
            "# TYPE etcd_debugging_mvcc_watcher_total gauge",
            "etcd_server_client_requests_total{client_api_version=\"3.5\",type=\"unary\"} 2",
            "etcd_server_apply_duration_seconds_bucket{op=\"Put\",success=\"true\",version=\"v3\",le=\"0.0001\"} 1",
            "etcd_server_apply_duration_seconds_bucket{op=\"Put\",success=\"true\",version=\"v3\",le=\"52.4288\"} 1",
            "grpc_server_started_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 2",
            "grpc_server_handled_total{grpc_code=\"NotFound\",grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",\
             grpc_type=\"unary\"} 1",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Watch\",\
             grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0",
            "process_open_fds 9",
        ] {
            assert!(text.lines().any(|other| other == line), "{line:?} is missing in\n{text}");
        }
        assert_eq!(lines(&text, "grpc_server_handled_total{").len(), METHODS.len() * CODES.len());
        assert_eq!(lines(&text, "grpc_server_started_total{").len(), METHODS.len());
        assert!(text.ends_with('\n') && !text.contains("_created"));
    }

    #[test]
    fn families_are_sorted_and_unique() {
        let text = text();
        let names: Vec<&str> =
            lines(&text, "# TYPE ").iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    /// Names and types of a real etcd 3.5.1 that boards and alerts use; peers' are left out.
    #[test]
    fn names_and_types_of_etcd() {
        let expected = "etcd_server_has_leader gauge, etcd_server_leader_changes_seen_total counter, \
            etcd_server_proposals_failed_total counter, etcd_server_proposals_committed_total gauge, \
            etcd_server_proposals_applied_total gauge, etcd_server_proposals_pending gauge, \
            etcd_disk_wal_fsync_duration_seconds histogram, etcd_disk_backend_commit_duration_seconds histogram, \
            etcd_mvcc_db_total_size_in_bytes gauge, etcd_mvcc_db_total_size_in_use_in_bytes gauge, \
            etcd_server_quota_backend_bytes gauge, etcd_network_client_grpc_received_bytes_total counter, \
            etcd_network_client_grpc_sent_bytes_total counter, grpc_server_handled_total counter, \
            grpc_server_started_total counter, process_resident_memory_bytes gauge, process_open_fds gauge, \
            process_max_fds gauge, process_cpu_seconds_total counter, process_start_time_seconds gauge, \
            etcd_disk_wal_write_bytes_total gauge, etcd_debugging_mvcc_keys_total gauge, \
            etcd_debugging_mvcc_slow_watcher_total gauge, etcd_debugging_mvcc_events_total counter, \
            etcd_server_health_success counter, etcd_server_health_failures counter, \
            etcd_server_apply_duration_seconds histogram, etcd_server_client_requests_total counter, \
            etcd_server_is_learner gauge, etcd_debugging_server_lease_expired_total counter";
        let text = text();
        for pair in expected.split(", ") {
            let line = format!("# TYPE {}", pair.trim());
            assert!(text.lines().any(|other| other == line), "{line:?} is missing");
        }
    }

    #[test]
    fn process_is_parsed() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1000 0 0 0 150 50 0 0 20 0 7 0 200 4096000 300 0";
        let status = "Name:\tx\nVmRSS:\t    1000 kB\n";
        let limits = "Limit   Soft Limit Hard Limit Units\nMax open files            20000   20000   files\n";
        let process = Process::parse(stat, status, limits, "cpu 1\nbtime 1000\n", 9).unwrap();
        assert_eq!(
            process,
            Process {
                cpu_seconds: 2.0,
                start_time_seconds: 1002.0,
                resident_bytes: 1_024_000,
                virtual_bytes: 4_096_000,
                open_descriptors: 9,
                descriptors_max: 20_000,
                threads: 7,
            }
        );
        assert_eq!(Process::parse("12 (a) S", status, limits, "btime 1\n", 9), None);
        let own = Process::read().unwrap();
        assert!(own.resident_bytes > 0 && own.open_descriptors > 2 && own.start_time_seconds > 1e9);
    }
}
