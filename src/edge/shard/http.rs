//! HTTP/1 on the client port: health, version, metrics.

use bytes::Bytes;

use super::{Sequencer, Shard};
use crate::edge::clock::Clock;
use crate::edge::ops::http::{self, HealthCounters, Response, Step};
use crate::edge::ops::metrics::{self, CallKind, Method, MethodCounts, Process, Snapshot};
use crate::pure::api::rpcs::{Kind, Rpc};
use crate::pure::front::QUOTA_BYTES_DEFAULT;
use crate::pure::node::View;
use crate::pure::session::{Bound, Http1Request};
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

/// What HTTP/1 answers need besides the state of the member.
pub struct Http {
    member_id: u64,
    methods: &'static [Method],
    health: HealthCounters,
}

impl Http {
    /// For this member.
    pub fn new(member_id: u64) -> Http {
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
        Http { member_id, methods: methods.leak(), health: HealthCounters::default() }
    }

    /// Answers all HTTP/1 requests that the shard's clients have sent.
    pub(super) fn answer(&mut self, shard: &mut Shard, sequencer: &Sequencer, now: Monotonic) {
        while let Some((connection, request)) = shard.front.poll_http1() {
            let response = {
                let views = shard.views.enter();
                self.respond(&request, views.load(), &shard.front, sequencer)
            };
            self.health.record(&response);
            send(shard, connection, now, &request, response);
        }
    }

    fn respond(
        &mut self,
        request: &Http1Request,
        view: &View,
        front: &crate::pure::front::Front,
        sequencer: &Sequencer,
    ) -> Response {
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
            Step::Answer(response) => response,
            Step::NeedsMetrics => http::metrics(self.metrics(view, front, sequencer)),
            // A sole member's view is linearizable as soon as it leads.
            Step::NeedsRead(waiting) => waiting.finish(match view.local_read_ok {
                true => Ok(()),
                false => Err("etcdserver: request timed out"),
            }),
        }
    }

    fn metrics(&self, view: &View, front: &crate::pure::front::Front, sequencer: &Sequencer) -> String {
        let mut snapshot = Snapshot::new(self.member_id, self.methods);
        let counters = sequencer.node.counters();
        let watch = front.watch_counts();
        snapshot.cluster_version = view.cluster_version.as_deref().map(str::to_owned);
        snapshot.has_leader = view.leader != 0;
        snapshot.is_leader = view.leader == self.member_id;
        snapshot.leader_changes_seen = counters.leader_changes;
        snapshot.proposals_committed = view.committed.0;
        snapshot.proposals_applied = view.applied.0;
        snapshot.proposals_pending = front.outstanding() as u64;
        snapshot.proposals_failed = counters.proposals_failed;
        snapshot.wal_fsync = sequencer.sync_seconds.clone();
        snapshot.wal_write_bytes = sequencer.log_bytes_written;
        snapshot.db_total_bytes = view.db_bytes;
        snapshot.db_in_use_bytes = view.db_bytes_in_use;
        (snapshot.client_received_bytes, snapshot.client_sent_bytes) = front.traffic();
        for ((_, name), count) in Bound::ALL.iter().zip(front.bounds_reached()) {
            snapshot.client_bounds_reached.push((name, *count));
        }
        snapshot.client_held_bytes = front.held_bytes() as u64;
        for (calls, counts) in snapshot.calls.iter_mut().zip(front.counts()) {
            *calls = MethodCounts {
                started: counts.started,
                handled: counts.handled,
                received: counts.received,
                sent: counts.sent,
            };
        }
        snapshot.ranges = front.counts()[Rpc::Range as usize].started;
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
        snapshot.leases_granted = counters.leases_granted;
        snapshot.leases_renewed = counters.leases_renewed;
        snapshot.leases_revoked = counters.leases_revoked;
        snapshot.leases_expired = counters.leases_expired;
        snapshot.health = self.health.clone();
        metrics::render(&snapshot, Process::read().ok().as_ref())
    }
}

fn send(shard: &mut Shard, connection: Key, now: Monotonic, request: &Http1Request, response: Response) {
    let date = http::date(Clock.unix_millis() / 1_000);
    let mut fields: Vec<(&str, &str)> = http::COMMON_HEADERS.to_vec();
    fields.extend(response.headers.iter().copied());
    fields.push(("Date", &date));
    let head_only = request.method == "HEAD";
    let body = if head_only { Bytes::new() } else { Bytes::from(response.body) };
    shard.front.answer_http1(connection, now, response.code, &fields, body);
}
