//! HTTP/1 on the client port: health, version, metrics.

use bytes::Bytes;

use super::Sequencer;
use crate::edge::clock::Clock;
use crate::edge::ops::http::{self, HealthCounters, Response, Step};
use crate::edge::ops::metrics::{self, CallKind, Method, MethodCounts, Process, Snapshot};
use crate::pure::api::rpcs::{Kind, Rpc};
use crate::pure::front::{Front, QUOTA_BYTES_DEFAULT, RpcCounts};
use crate::pure::node::View;
use crate::pure::session::{Bound, Http1Request};
use crate::pure::watch;
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

/// What a shard has counted; the metrics are sums over all shards.
#[derive(Clone)]
pub struct Counts {
    calls: Vec<RpcCounts>,
    received_bytes: u64,
    sent_bytes: u64,
    bounds_reached: [u64; Bound::ALL.len()],
    pub(super) held_bytes: usize,
    outstanding: usize,
    watch: watch::Counts,
    health: HealthCounters,
}

impl Counts {
    /// Of a core without clients.
    pub(super) fn none() -> Counts {
        Counts {
            calls: vec![RpcCounts::default(); Rpc::ALL.len()],
            received_bytes: 0,
            sent_bytes: 0,
            bounds_reached: [0; Bound::ALL.len()],
            held_bytes: 0,
            outstanding: 0,
            watch: watch::Counts::default(),
            health: HealthCounters::default(),
        }
    }

    /// Adds another shard's.
    pub(super) fn add(&mut self, other: &Counts) {
        for (calls, more) in self.calls.iter_mut().zip(&other.calls) {
            calls.add(more);
        }
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        for (count, more) in self.bounds_reached.iter_mut().zip(&other.bounds_reached) {
            *count += more;
        }
        self.held_bytes += other.held_bytes;
        self.outstanding += other.outstanding;
        self.watch.add(&other.watch);
        self.health.add(&other.health);
    }
}

/// A core's HTTP/1 answers.
#[derive(Default)]
pub struct Http {
    health: HealthCounters,
    /// Connections that have requested metrics since the last time they were asked for.
    wanting: Vec<Key>,
    /// Those that the metrics asked for will answer.
    asked: Vec<Key>,
}

impl Http {
    /// Answers all HTTP/1 requests that the shard's clients have sent; those for metrics have to wait.
    pub(super) fn answer(&mut self, front: &mut Front, view: &View, now: Monotonic) {
        while let Some((connection, request)) = front.poll_http1() {
            let Some(response) = respond(&request, view) else {
                self.wanting.push(connection);
                continue;
            };
            self.health.record(&response);
            send(front, connection, now, response);
        }
    }

    /// True if metrics have to be asked for now; answer with [`Http::give_metrics`].
    pub(super) fn take_want(&mut self) -> bool {
        let is_due = self.asked.is_empty() && !self.wanting.is_empty();
        if is_due {
            std::mem::swap(&mut self.asked, &mut self.wanting);
        }
        is_due
    }

    /// The metrics that were asked for.
    pub(super) fn give_metrics(&mut self, front: &mut Front, text: &str, now: Monotonic) {
        for connection in std::mem::take(&mut self.asked) {
            send(front, connection, now, http::metrics(text.to_owned()));
        }
    }

    /// This core's counts.
    pub(super) fn counts(&self, front: &Front) -> Counts {
        let (received_bytes, sent_bytes) = front.traffic();
        Counts {
            calls: front.counts().to_vec(),
            received_bytes,
            sent_bytes,
            bounds_reached: *front.bounds_reached(),
            held_bytes: front.held_bytes(),
            outstanding: front.outstanding(),
            watch: front.watch_counts(),
            health: self.health.clone(),
        }
    }
}

/// The answer, if it can be given at once.
fn respond(request: &Http1Request, view: &View) -> Option<Response> {
    let status = http::Status {
        cluster_version: view.cluster_version.as_deref().map(str::to_owned),
        alarms: Vec::new(),
        has_leader: view.leader != 0,
        is_learner: false,
    };
    let target = if request.query.is_empty() {
        request.path.clone()
    } else {
        format!("{}?{}", request.path, request.query)
    };
    match http::handle(&request.method, &target, &status) {
        Step::Answer(response) => Some(response),
        Step::NeedsMetrics => None,
        // A sole member's view is linearizable as soon as it leads.
        Step::NeedsRead(waiting) => Some(waiting.finish(match view.local_read_ok {
            true => Ok(()),
            false => Err("etcdserver: request timed out"),
        })),
    }
}

/// What Prometheus reads.
pub(super) struct Metrics {
    member_id: u64,
    methods: &'static [Method],
}

impl Metrics {
    /// For this member.
    pub(super) fn new(member_id: u64) -> Metrics {
        let methods: Vec<Method> = Rpc::ALL
            .iter()
            .map(|rpc| {
                let row = rpc.row();
                let kind = match row.kind {
                    Kind::Unary => CallKind::Unary,
                    Kind::ServerStream => CallKind::ServerStream,
                    Kind::ClientStream => CallKind::ClientStream,
                    Kind::Bidi => CallKind::BidiStream,
                };
                Method { service: row.service, name: row.method, kind }
            })
            .collect();
        Metrics { member_id, methods: methods.leak() }
    }

    /// The text, from the sum over all shards.
    pub(super) fn render(&self, shards: &Counts, view: &View, sequencer: &Sequencer) -> String {
        let mut snapshot = Snapshot::new(self.member_id, self.methods);
        let counters = sequencer.node.counters();
        let watch = shards.watch;
        snapshot.cluster_version = view.cluster_version.as_deref().map(str::to_owned);
        snapshot.has_leader = view.leader != 0;
        snapshot.is_leader = view.leader == self.member_id;
        snapshot.leader_changes_seen = counters.leader_changes;
        snapshot.proposals_committed = view.committed.0;
        snapshot.proposals_applied = view.applied.0;
        snapshot.proposals_pending = shards.outstanding as u64;
        snapshot.proposals_failed = counters.proposals_failed;
        snapshot.wal_fsync = sequencer.sync_seconds.clone();
        snapshot.wal_write_bytes = sequencer.log_bytes_written;
        snapshot.db_total_bytes = view.db_bytes;
        snapshot.db_in_use_bytes = view.db_bytes_in_use;
        (snapshot.client_received_bytes, snapshot.client_sent_bytes) =
            (shards.received_bytes, shards.sent_bytes);
        for ((_, name), count) in Bound::ALL.iter().zip(&shards.bounds_reached) {
            snapshot.client_bounds_reached.push((name, *count));
        }
        snapshot.client_held_bytes = shards.held_bytes as u64;
        for (calls, counts) in snapshot.calls.iter_mut().zip(&shards.calls) {
            *calls = MethodCounts {
                started: counts.started,
                handled: counts.handled,
                received: counts.received,
                sent: counts.sent,
            };
        }
        snapshot.ranges = shards.calls[Rpc::Range as usize].started;
        snapshot.puts = counters.puts;
        snapshot.deletes = counters.deletes;
        snapshot.transactions = counters.txns;
        // Alerts divide by it: 0 would set them off.
        snapshot.quota_bytes = QUOTA_BYTES_DEFAULT.unsigned_abs();
        snapshot.keys = view.kv.live_keys();
        snapshot.current_revision = view.kv.revision();
        snapshot.compact_revision = view.kv.compact_revision();
        snapshot.events = watch.events_sent;
        snapshot.events_pending = watch.events_pending;
        snapshot.watch_streams = watch.streams as u64;
        snapshot.watchers = watch.watchers as u64;
        snapshot.watchers_slow = watch.slow_watchers as u64;
        snapshot.watchers_turned_behind = watch.turned_behind;
        snapshot.watch_queued_bytes = watch.queued_bytes as u64;
        snapshot.leases_granted = counters.leases_granted;
        snapshot.leases_renewed = counters.leases_renewed;
        snapshot.leases_revoked = counters.leases_revoked;
        snapshot.leases_expired = counters.leases_expired;
        snapshot.health = shards.health.clone();
        metrics::render(&snapshot, Process::read().ok().as_ref())
    }
}

fn send(front: &mut Front, connection: Key, now: Monotonic, response: Response) {
    let date = http::date(Clock.unix_millis() / 1_000);
    let mut fields: Vec<(&str, &str)> = http::COMMON_HEADERS.to_vec();
    fields.extend(response.headers.iter().copied());
    fields.push(("Date", &date));
    // Of the answer to a HEAD the session sends the length only.
    front.answer_http1(connection, now, response.code, &fields, Bytes::from(response.body));
}
