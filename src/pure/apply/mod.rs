//! The only door that changes replicated state.
//!
//! Owns: the key space, the leases, the members (all replicated state).
//! Takes: committed entries in log order, one at a time. Gives: outcomes for the clients that wait,
//! views of all of it.
//! Always true: looks only at replicated state and the entry; everything that can fail is checked before
//! the first write; a long entry is applied in slices and nothing is published in between.
//! Not here: Raft, the log, clocks, clients.

mod outcome;
#[cfg(test)]
mod tests;
mod txn;

use std::sync::Arc;

use bytes::Bytes;

pub use outcome::{ApplyError, Outcome};
pub use txn::{ReadState, TxnRun, TxnState};

use crate::limits;
use crate::pure::api::requests::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, MemberAttributes, Operation, PutRequest,
    PutView, RangeRequest,
};
use crate::pure::cluster::Member;
use crate::pure::lease::LeaseTable;
use crate::pure::mvcc::{Access, KeyRange, RangeQuery, RangeWalk, RecordRef, SortOrder, SortTarget, Store};
use crate::pure::types::{LeaseId, Revision};
use crate::stdx::work::{Step, Work};

/// All replicated state of a member and the entry being applied to it.
pub struct Applier {
    store: Store,
    leases: LeaseTable,
    members: Arc<Vec<Member>>,
    cluster_version: Option<Arc<str>>,
    ttl_seconds_min: i64,
    running: Option<Running>,
    /// Canary M19.
    #[cfg(any(test, feature = "testing"))]
    delete_order_seed: Option<u64>,
}

/// An entry that needs more than one slice.
enum Running {
    Delete(DeleteRun),
    Txn(Box<TxnRun>),
    Revoke(RevokeRun),
}

impl Applier {
    /// Empty state. `hash_seed` keys private hash maps and shows nowhere; `ttl_seconds_min` is the TTL that
    /// shorter leases are raised to.
    pub fn new(hash_seed: u64, ttl_seconds_min: i64) -> Applier {
        Applier {
            store: Store::new(hash_seed),
            leases: LeaseTable::default(),
            members: Arc::new(Vec::new()),
            cluster_version: None,
            ttl_seconds_min,
            running: None,
            #[cfg(any(test, feature = "testing"))]
            delete_order_seed: None,
        }
    }

    /// Canary M19: deletes walk their keys in the order of a hash with this seed.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_delete_order(mut self, seed: Option<u64>) -> Applier {
        self.delete_order_seed = seed;
        self
    }

    /// Records in the order in which a delete takes them: as found, outside of canaries.
    fn delete_order(&self, records: Vec<RecordRef>) -> Vec<RecordRef> {
        #[cfg(any(test, feature = "testing"))]
        if let Some(seed) = self.delete_order_seed {
            let hasher = foldhash::fast::FixedState::with_seed(seed);
            let mut records = records;
            records.sort_by_cached_key(|record| std::hash::BuildHasher::hash_one(&hasher, record.key()));
            return records;
        }
        records
    }

    /// True while an entry is half applied: nothing may be published then.
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// The key space, to clean and to count. Not to change: that is what entries are for.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The key space, to look at.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The leases now.
    pub fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// The members now.
    pub fn members(&self) -> &Arc<Vec<Member>> {
        &self.members
    }

    /// The cluster version once it was decided.
    pub fn cluster_version(&self) -> Option<&Arc<str>> {
        self.cluster_version.as_ref()
    }

    /// Applies a bootstrap ConfChange: adds a member.
    pub fn add_member(&mut self, member: Member) {
        let members = Arc::make_mut(&mut self.members);
        assert!(members.iter().all(|m| m.id != member.id), "member {:x} was added twice", member.id);
        members.push(member);
        members.sort_by_key(|m| m.id);
    }

    /// Makes puts of these keys quicker, if they come next. Changes nothing.
    pub fn foresee<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        self.store.foresee(keys);
    }

    /// Applies a put from its borrowed request: the hot path, always one slice.
    pub fn put(&mut self, put: &PutView<'_>) -> Outcome {
        assert!(self.running.is_none(), "an entry began inside another");
        match self.check_put(put.key, put.lease, put.ignore_value, put.ignore_lease) {
            Err(error) => Outcome::Failed(error),
            Ok(()) => {
                let previous = self.write_put(put);
                Outcome::Put { revision: self.store.end_txn(), previous }
            }
        }
    }

    /// Begins an operation; [`Applier::step`] carries it on until it is done.
    pub fn begin(&mut self, operation: Operation) -> Option<Outcome> {
        assert!(self.running.is_none(), "an entry began inside another");
        match operation {
            Operation::Put(put) => Some(self.put(&view_of(&put))),
            Operation::DeleteRange(request) => {
                self.run(Running::Delete(DeleteRun::new(&request, &self.store)))
            }
            Operation::Txn(request) => self.run(Running::Txn(Box::new(TxnRun::new(request)))),
            Operation::LeaseRevoke(request) => self.begin_revoke(request.id),
            Operation::LeaseGrant(request) => Some(self.grant(request)),
            Operation::Compaction(request) => Some(self.compact(request)),
            Operation::LeaseCheckpoint(leases) => {
                for lease in leases {
                    self.leases.checkpoint(lease.id, lease.remaining_ttl);
                }
                Some(Outcome::Nothing)
            }
            Operation::ClusterMemberAttrSet(attributes) => Some(self.set_attributes(attributes)),
            Operation::ClusterVersionSet(version) => {
                self.cluster_version = Some(version.into());
                Some(Outcome::Nothing)
            }
            // Reads and alarm queries change nothing; they are in the log only of members that etcd wrote.
            Operation::Range(_) | Operation::Alarm(_) => Some(Outcome::Nothing),
        }
    }

    fn run(&mut self, running: Running) -> Option<Outcome> {
        self.running = Some(running);
        None
    }

    /// Carries the begun operation on for a slice.
    pub fn step(&mut self, work: &mut Work) -> Step<Outcome> {
        let mut running = self.running.take().expect("step follows begin");
        let step = match &mut running {
            Running::Delete(run) => match run.step(self, work) {
                Step::More => Step::More,
                Step::Pending => Step::Pending,
                Step::Done(deleted) => {
                    let revision = self.store.end_txn();
                    Step::Done(Outcome::DeleteRange {
                        revision,
                        deleted: deleted.count,
                        previous: deleted.previous,
                    })
                }
            },
            Running::Txn(run) => match run.step(self, work) {
                Step::More => Step::More,
                Step::Pending => Step::Pending,
                Step::Done(Ok(outcome)) => Step::Done(Outcome::Txn(outcome)),
                Step::Done(Err(error)) => Step::Done(Outcome::Failed(error)),
            },
            Running::Revoke(run) => run.step(self, work),
        };
        if !matches!(step, Step::Done(_)) {
            self.running = Some(running);
        }
        step
    }

    fn check_put(
        &self,
        key: &[u8],
        lease: LeaseId,
        ignore_value: bool,
        ignore_lease: bool,
    ) -> Result<(), ApplyError> {
        if lease != 0 && self.leases.get(lease).is_none() {
            return Err(ApplyError::LeaseNotFound);
        }
        if (ignore_value || ignore_lease) && self.store.live(key).is_none() {
            return Err(ApplyError::KeyNotFound);
        }
        Ok(())
    }

    /// Writes a checked put; returns the record that it replaces if that was asked for.
    fn write_put(&mut self, put: &PutView<'_>) -> Option<RecordRef> {
        if !put.ignore_value && !put.ignore_lease && !put.prev_kv {
            let previous = self.store.put(put.key, put.value, put.lease);
            self.move_lease(put.key, previous.map_or(0, |v| v.lease), put.lease);
            return None;
        }
        let before = self.store.live(put.key);
        let lease = if put.ignore_lease { before.map_or(0, |v| v.lease) } else { put.lease };
        let record = before.map(|v| self.record(v.addr));
        let value = match &record {
            Some(record) if put.ignore_value => record.value(),
            _ => put.value,
        };
        self.store.put(put.key, value, lease);
        self.move_lease(put.key, before.map_or(0, |v| v.lease), lease);
        record.filter(|_| put.prev_kv)
    }

    /// All records are in memory in this version, so an address never has to be waited for here; when cold
    /// records leave memory, the callers' runs suspend instead.
    fn record(&self, addr: crate::pure::mvcc::Addr) -> RecordRef {
        match self.store.record(addr) {
            Access::Ready(record) => record,
            Access::Pending => unreachable!("records live in memory"),
        }
    }

    fn move_lease(&mut self, key: &[u8], before: LeaseId, after: LeaseId) {
        if before == after {
            return;
        }
        if before != 0 {
            self.leases.detach(before, key);
        }
        if after != 0 {
            self.leases.attach(after, key);
        }
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(before) = self.store.delete(key) else { return false };
        self.move_lease(key, before.lease, 0);
        true
    }

    fn grant(&mut self, request: LeaseGrantRequest) -> Outcome {
        if request.id == 0 {
            return Outcome::Failed(ApplyError::LeaseNotFound);
        }
        if request.ttl > limits::request::LEASE_TTL_SECONDS_MAX {
            return Outcome::Failed(ApplyError::LeaseTtlTooLarge);
        }
        if self.leases.get(request.id).is_some() {
            return Outcome::Failed(ApplyError::LeaseExists);
        }
        let ttl = request.ttl.max(self.ttl_seconds_min);
        self.leases.grant(request.id, ttl);
        Outcome::LeaseGrant { revision: self.store.revision(), id: request.id, ttl }
    }

    fn begin_revoke(&mut self, id: LeaseId) -> Option<Outcome> {
        let Some(lease) = self.leases.get(id) else {
            return Some(Outcome::Failed(ApplyError::LeaseNotFound));
        };
        let lease = Arc::clone(lease);
        self.run(Running::Revoke(RevokeRun { lease, after: None }))
    }

    fn compact(&mut self, request: CompactionRequest) -> Outcome {
        if request.revision <= self.store.compact_revision() {
            return Outcome::Failed(ApplyError::Compacted);
        }
        if request.revision > self.store.revision() {
            return Outcome::Failed(ApplyError::FutureRevision);
        }
        self.store.compact(request.revision);
        Outcome::Compaction { revision: self.store.revision() }
    }

    fn set_attributes(&mut self, attributes: MemberAttributes) -> Outcome {
        let members = Arc::make_mut(&mut self.members);
        let member = members.iter_mut().find(|m| m.id == attributes.member_id);
        let member = member.expect("attributes are published by a member of the cluster");
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        Outcome::Nothing
    }
}

/// A put as its borrowed form.
fn view_of(put: &PutRequest) -> PutView<'_> {
    PutView {
        key: &put.key,
        value: &put.value,
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

/// The interval that a request's key and range_end name (etcd: empty end = one key, `\0` = from key on).
pub fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    match &range_end[..] {
        [] => KeyRange::Point(key.clone()),
        [0] => KeyRange::From(key.clone()),
        _ => KeyRange::Between(key.clone(), range_end.clone()),
    }
}

/// A validated range request as the key space evaluates it, at a resolved revision.
pub fn range_query(request: &RangeRequest, revision: Revision) -> RangeQuery {
    RangeQuery {
        keys: key_range(&request.key, &request.range_end),
        revision,
        limit: request.limit,
        count_only: request.count_only,
        keys_only: request.keys_only,
        sort_order: match request.sort_order {
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => SortOrder::None,
        },
        sort_target: match request.sort_target {
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => SortTarget::Key,
        },
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// What a delete has removed.
pub struct Deleted {
    /// Keys deleted.
    pub count: i64,
    /// Their records, if asked for.
    pub previous: Vec<RecordRef>,
}

/// A delete of an interval: first finds the keys, then deletes them, both in slices.
pub struct DeleteRun {
    wants_previous: bool,
    phase: DeletePhase,
}

enum DeletePhase {
    Find(Box<RangeWalk>),
    Delete { records: Vec<RecordRef>, done: usize },
}

impl DeleteRun {
    pub(crate) fn new(request: &DeleteRangeRequest, store: &Store) -> DeleteRun {
        let query = RangeQuery::plain(key_range(&request.key, &request.range_end), store.working_revision());
        let phase = DeletePhase::Find(Box::new(RangeWalk::new(query)));
        DeleteRun { wants_previous: request.prev_kv, phase }
    }

    pub(crate) fn step(&mut self, applier: &mut Applier, work: &mut Work) -> Step<Deleted> {
        loop {
            match &mut self.phase {
                DeletePhase::Find(walk) => match walk.step(&applier.store.view(), work) {
                    Step::More => return Step::More,
                    Step::Pending => return Step::Pending,
                    Step::Done(found) => {
                        let records = applier.delete_order(found.records);
                        self.phase = DeletePhase::Delete { records, done: 0 };
                    }
                },
                DeletePhase::Delete { records, done } => {
                    while *done < records.len() {
                        if work.is_spent() {
                            return Step::More;
                        }
                        let deleted = applier.delete(records[*done].key());
                        assert!(deleted, "a key found live was not there to delete");
                        *done += 1;
                        work.charge(2);
                    }
                    let count = i64::try_from(records.len()).expect("fewer than 2^63 keys");
                    let previous = if self.wants_previous { std::mem::take(records) } else { Vec::new() };
                    return Step::Done(Deleted { count, previous });
                }
            }
        }
    }
}

/// A lease being revoked: its keys are deleted in key order, in one revision.
struct RevokeRun {
    /// The lease as it was when the revoke began; its key set is walked while the table's shrinks.
    lease: Arc<crate::pure::lease::Lease>,
    after: Option<Bytes>,
}

impl RevokeRun {
    fn step(&mut self, applier: &mut Applier, work: &mut Work) -> Step<Outcome> {
        loop {
            let after = self.after.as_ref();
            let next = self.lease.keys.iter_from(|key| after.is_some_and(|after| key <= after)).next();
            let Some((key, _)) = next else { break };
            if work.is_spent() {
                return Step::More;
            }
            let key = key.clone();
            assert!(applier.delete(&key), "a key attached to a lease was not there to delete");
            self.after = Some(key);
            work.charge(3);
        }
        applier.leases.revoke(self.lease.id);
        Step::Done(Outcome::LeaseRevoke { revision: applier.store.end_txn(), id: self.lease.id })
    }
}
