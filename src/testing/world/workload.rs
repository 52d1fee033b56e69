//! What clients do: seeded requests over a small key space.

use bytes::Bytes;

use super::Outside;
use super::client::Client;
use super::plan::Plan;
use crate::pure::api::requests::{
    CompactionRequest, Compare, CompareOperand, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchFilters,
};
use crate::stdx::prng::Prng;
use crate::testing::history::Request;

/// Lease ids of a client begin at this times its number.
const LEASES_PER_CLIENT: i64 = 1_000_000;
/// Floods of a run: their answers are kept to be judged.
const FLOODS_MAX: u64 = 4;
/// Watches that a client keeps open.
const WATCHES_MAX: usize = 6;

fn key(number: u64) -> Bytes {
    format!("k{number:03}").into()
}

fn some_key(prng: &mut Prng, plan: &Plan) -> Bytes {
    key(prng.below(plan.keys))
}

/// One key, some, all, or all from one on.
fn some_interval(prng: &mut Prng, plan: &Plan) -> (Bytes, Bytes) {
    match prng.below(6) {
        0..=2 => (some_key(prng, plan), Bytes::new()),
        3 => (some_key(prng, plan), Bytes::from_static(b"\0")),
        4 => {
            let from = prng.below(plan.keys);
            let span = 1 + prng.below(plan.keys);
            (key(from), key(from + span))
        }
        _ => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
    }
}

impl Client {
    /// A value that no other put has.
    fn value(&mut self, plan: &Plan) -> Bytes {
        self.next_value += 1;
        let mut value = format!("{}-{}.", self.id, self.next_value).into_bytes();
        let length = self.prng.below(plan.value_bytes) as usize;
        value.resize(value.len().max(length), b'x');
        value.into()
    }

    fn put(&mut self, plan: &Plan, key: Bytes) -> PutRequest {
        let leased = !self.leases.is_empty() && self.prng.chance(1, 3);
        let lease = if leased { self.leases[self.prng.below(self.leases.len() as u64) as usize] } else { 0 };
        let (value, prev_kv) = (self.value(plan), self.prng.chance(1, 3));
        PutRequest { key, value, lease, prev_kv, ..PutRequest::default() }
    }

    fn range(&mut self, plan: &Plan) -> RangeRequest {
        let (key, range_end) = some_interval(&mut self.prng, plan);
        let prng = &mut self.prng;
        let revision = match prng.below(8) {
            0..=4 => 0,
            5 | 6 => self.latest - prng.below(30.min(self.latest as u64)) as i64,
            _ => self.latest + 1 + prng.below(20) as i64,
        };
        RangeRequest {
            key,
            range_end,
            revision,
            limit: if prng.chance(1, 4) { 1 + prng.below(4) as i64 } else { 0 },
            sort_order: if prng.chance(1, 5) { 2 } else { 0 },
            serializable: prng.chance(1, 4),
            keys_only: prng.chance(1, 8),
            count_only: prng.chance(1, 8),
            max_mod_revision: if prng.chance(1, 10) { self.latest } else { 0 },
            ..RangeRequest::default()
        }
    }

    fn compare(&mut self, plan: &Plan) -> Compare {
        let key = some_key(&mut self.prng, plan);
        let number = self.prng.below(4) as i64;
        let revision = self.latest - self.prng.below(6.min(self.latest as u64)) as i64;
        let (target, operand) = match self.prng.below(5) {
            0 => (0, CompareOperand::Version(number)),
            1 => (1, CompareOperand::CreateRevision(if number == 0 { 0 } else { revision })),
            2 => (2, CompareOperand::ModRevision(revision)),
            3 => (3, CompareOperand::Value(format!("{}-{}.", self.id, self.next_value).into())),
            _ => (4, CompareOperand::Lease(self.leases.last().copied().unwrap_or(0))),
        };
        Compare { result: self.prng.below(4) as i32, target, key, operand, range_end: Bytes::new() }
    }

    /// Operations whose writes do not touch each other.
    fn ops(&mut self, plan: &Plan) -> Vec<RequestOp> {
        let first = self.prng.below(plan.keys);
        let count = self.prng.below(4).min(plan.keys);
        let mut ops = Vec::new();
        for number in 0..count {
            let key = key((first + number) % plan.keys);
            ops.push(match self.prng.below(4) {
                0 => RequestOp::DeleteRange(DeleteRangeRequest {
                    key,
                    range_end: Bytes::new(),
                    prev_kv: self.prng.chance(1, 2),
                }),
                1 => {
                    let range = self.range(plan);
                    RequestOp::Range(RangeRequest { revision: 0, max_mod_revision: 0, ..range })
                }
                _ => RequestOp::Put(self.put(plan, key)),
            });
        }
        ops
    }

    fn txn(&mut self, plan: &Plan) -> TxnRequest {
        let compare = (0..self.prng.below(3)).map(|_| self.compare(plan)).collect();
        TxnRequest { compare, success: self.ops(plan), failure: self.ops(plan) }
    }

    fn request(&mut self, plan: &Plan) -> Request {
        if plan.compact_every > 0 && self.prng.chance(1, plan.compact_every) {
            let revision = match self.prng.below(8) {
                0 => self.latest,
                1 => self.latest + 1_000,
                _ => 1 + self.prng.below(self.latest as u64) as i64,
            };
            return Request::Compact(CompactionRequest { revision, physical: self.prng.chance(1, 3) });
        }
        match self.prng.below(20) {
            0..=7 => {
                let key = some_key(&mut self.prng, plan);
                Request::Put(self.put(plan, key))
            }
            8..=12 => Request::Range(self.range(plan)),
            13 | 14 => {
                let (key, range_end) = some_interval(&mut self.prng, plan);
                Request::Delete(DeleteRangeRequest { key, range_end, prev_kv: self.prng.chance(1, 2) })
            }
            15..=17 => Request::Txn(self.txn(plan)),
            18 => {
                let known = self.leases.last().copied().filter(|_| self.prng.chance(1, 8));
                self.next_lease += 1;
                let id = known.unwrap_or((self.id as i64 + 1) * LEASES_PER_CLIENT + self.next_lease);
                Request::Grant(LeaseGrantRequest { ttl: 1 + self.prng.below(4) as i64, id })
            }
            _ => match self.leases.first().copied() {
                Some(id) => {
                    if self.prng.chance(1, 2) {
                        self.leases.remove(0);
                    }
                    Request::Revoke(LeaseRevokeRequest { id })
                }
                None => Request::Revoke(LeaseRevokeRequest { id: 7 }),
            },
        }
    }

    fn watch_request(&mut self, plan: &Plan) -> WatchCreateRequest {
        let (key, range_end) = some_interval(&mut self.prng, plan);
        let prng = &mut self.prng;
        let start_revision = match prng.below(6) {
            0 | 1 => 0,
            2 | 3 => self.latest - prng.below(40.min(self.latest as u64)) as i64,
            4 if prng.chance(1, 2) => self.compacted_at,
            4 => 1,
            _ => self.latest + prng.below(20) as i64,
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: prng.chance(1, 3),
            filters: WatchFilters { no_put: prng.chance(1, 10), no_delete: prng.chance(1, 10) },
            prev_kv: prng.chance(1, 2),
            watch_id: 0,
            fragment: prng.chance(1, 3),
        }
    }
}

impl Outside {
    /// One thing that a connected client does.
    pub(super) fn work(&mut self, id: usize) {
        while let Some(request) = self.take_resume(id) {
            self.watch(id, request);
        }
        if !self.is_working() {
            return;
        }
        if self.calls_waiting(id) < self.plan.calls_at_once
            && let Some(request) = self.take_retry(id)
        {
            self.call(id, request);
            return;
        }
        let dice = self.clients[id].prng.below(100);
        let watches = self.clients[id].watches.len();
        match dice {
            0..=5 if watches < WATCHES_MAX => {
                let request = self.clients[id].watch_request(&self.plan);
                self.watch(id, request);
            }
            6 | 7 if watches > 0 => {
                let client = &mut self.clients[id];
                let nth = client.prng.below(watches as u64) as usize;
                let watch_id = *client.watches.keys().nth(nth).expect("counted above");
                self.cancel_watch(id, watch_id);
            }
            8..=13 => self.ask_progress(id),
            14..=17 if self.plan.stalls => {
                let calm = self.phase != super::Phase::Faults;
                let held = !calm && !self.is_held(id);
                self.hold_watches(id, held);
            }
            18 => self.doze(id),
            99 if self.plan.defragments => self.defragment(id),
            98 if self.plan.flood > 0
                && self.counts.floods < FLOODS_MAX
                && self.calls_waiting(id) <= self.plan.calls_at_once =>
            {
                self.flood(id)
            }
            19..=25 => {
                let client = &mut self.clients[id];
                if !client.leases.is_empty() {
                    let nth = client.prng.below(client.leases.len() as u64) as usize;
                    let lease = client.leases[nth];
                    if client.prng.chance(1, 10) {
                        client.leases.remove(nth);
                    }
                    self.renew(id, lease);
                }
            }
            _ if self.calls_waiting(id) < self.plan.calls_at_once => {
                let request = self.clients[id].request(&self.plan);
                self.call(id, request);
            }
            _ => {}
        }
    }
}
