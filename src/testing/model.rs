//! The dumb key-value store: what etcd means, without any thought of speed.
//!
//! Owns: every version of every key. Takes: requests with the revision at which they are evaluated.
//! Gives: the right answer and the changes that the request makes.
//! Always true: nothing is ever forgotten, so that any revision can be asked for.
//! Not here: compaction's refusals, time, lease ids (a lease is what keys name).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{Answer, Change, Found, KeyValue, Request};
use crate::pure::api::requests::{
    Compare, CompareOperand, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::pure::types::{LeaseId, Revision};

/// All revisions of all keys.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Last revision less 1, so that the empty one is 1.
    committed: Revision,
    /// Versions by key, ascending; `None`: deleted.
    keys: BTreeMap<Bytes, Vec<(Revision, Option<KeyValue>)>>,
}

/// True if `key` lies in the interval of a request.
pub fn contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

impl Model {
    /// The last revision.
    pub fn revision(&self) -> Revision {
        self.committed + 1
    }

    /// A key as of a revision.
    pub fn get(&self, key: &[u8], revision: Revision) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let at = versions.partition_point(|(main, _)| *main <= revision);
        versions.get(at.checked_sub(1)?)?.1.as_ref()
    }

    /// Appends a revision.
    pub fn commit(&mut self, changes: &[Change]) {
        self.committed += 1;
        let revision = self.revision();
        for change in changes {
            let after = (!change.is_delete).then(|| change.kv.clone());
            self.keys.entry(change.kv.key.clone()).or_default().push((revision, after));
        }
    }

    /// Live keys that name a lease, as of a revision.
    pub fn attached(&self, lease: LeaseId, revision: Revision) -> Vec<Bytes> {
        let holds = |key: &&Bytes| self.get(key, revision).is_some_and(|kv| kv.lease == lease);
        self.keys.keys().filter(holds).cloned().collect()
    }

    /// The right answer to a request that comes right after `revision`, and what it changes.
    pub fn evaluate(&self, request: &Request, revision: Revision) -> (Answer, Vec<Change>) {
        let mut draft = Draft { model: self, revision, after: BTreeMap::new(), changes: Vec::new() };
        let answer = match request {
            Request::Range(range) => Answer::Range(draft.range(range)),
            Request::Put(put) => draft.put(put),
            Request::Delete(delete) => draft.delete(delete),
            Request::Txn(txn) => draft.txn(txn),
            Request::Compact(_) => Answer::Compact,
            Request::Grant(grant) => Answer::Grant { id: grant.id, ttl: grant.ttl },
            Request::Revoke(revoke) => {
                for key in self.attached(revoke.id, revision) {
                    draft.remove(&key);
                }
                Answer::Revoke
            }
        };
        (answer, draft.changes)
    }
}

/// A request being evaluated: it sees its own changes.
struct Draft<'a> {
    model: &'a Model,
    revision: Revision,
    after: BTreeMap<Bytes, Option<KeyValue>>,
    changes: Vec<Change>,
}

impl Draft<'_> {
    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        match self.after.get(key) {
            Some(changed) => changed.clone(),
            None => self.model.get(key, self.revision).cloned(),
        }
    }

    fn interval(&self, start: &[u8], end: &[u8]) -> Vec<KeyValue> {
        let old = self.model.keys.keys().filter(|key| contains(start, end, key));
        let mut keys: Vec<&Bytes> =
            old.chain(self.after.keys().filter(|key| contains(start, end, key))).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().filter_map(|key| self.get(key)).collect()
    }

    fn range(&self, request: &RangeRequest) -> Found {
        let mut kvs: Vec<KeyValue> = if request.revision > 0 {
            let inside = self.model.keys.keys().filter(|key| contains(&request.key, &request.range_end, key));
            inside.filter_map(|key| self.model.get(key, request.revision).cloned()).collect()
        } else {
            self.interval(&request.key, &request.range_end)
        };
        let count = i64::try_from(kvs.len()).expect("few keys");
        if request.count_only {
            return Found { kvs: Vec::new(), more: false, count };
        }
        kvs.retain(|kv| request.max_mod_revision == 0 || kv.mod_revision <= request.max_mod_revision);
        kvs.retain(|kv| request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision);
        if request.sort_order == 2 {
            kvs.reverse();
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if request.keys_only {
            // Such a range is answered from the index, which knows no leases (etcd 3.7).
            kvs.iter_mut().for_each(|kv| (kv.value, kv.lease) = (Bytes::new(), 0));
        }
        Found { kvs, more, count }
    }

    fn put(&mut self, request: &PutRequest) -> Answer {
        let before = self.get(&request.key);
        let main = self.revision + 1;
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(main, |kv| kv.create_revision),
            mod_revision: main,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            value: request.value.clone(),
            lease: request.lease,
        };
        self.after.insert(request.key.clone(), Some(kv.clone()));
        self.changes.push(Change { is_delete: false, kv });
        Answer::Put(before.filter(|_| request.prev_kv))
    }

    fn remove(&mut self, key: &Bytes) {
        self.after.insert(key.clone(), None);
        let kv = KeyValue { key: key.clone(), mod_revision: self.revision + 1, ..KeyValue::default() };
        self.changes.push(Change { is_delete: true, kv });
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> Answer {
        let found = self.interval(&request.key, &request.range_end);
        for kv in &found {
            self.remove(&kv.key);
        }
        let deleted = i64::try_from(found.len()).expect("few keys");
        Answer::Delete { deleted, previous: if request.prev_kv { found } else { Vec::new() } }
    }

    fn txn(&mut self, request: &TxnRequest) -> Answer {
        let succeeded = request.compare.iter().all(|compare| self.compare(compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        let answers = ops.iter().filter_map(|op| self.op(op)).collect();
        Answer::Txn { succeeded, answers }
    }

    fn op(&mut self, op: &RequestOp) -> Option<Answer> {
        match op {
            RequestOp::None => None,
            RequestOp::Range(range) => Some(Answer::Range(self.range(range))),
            RequestOp::Put(put) => Some(self.put(put)),
            RequestOp::DeleteRange(delete) => Some(self.delete(delete)),
            RequestOp::Txn(txn) => Some(self.txn(txn)),
        }
    }

    fn compare(&self, compare: &Compare) -> bool {
        let found = self.get(&compare.key);
        let kv = found.clone().unwrap_or_default();
        let order = match &compare.operand {
            CompareOperand::None => std::cmp::Ordering::Equal,
            CompareOperand::Version(operand) => kv.version.cmp(operand),
            CompareOperand::CreateRevision(operand) => kv.create_revision.cmp(operand),
            CompareOperand::ModRevision(operand) => kv.mod_revision.cmp(operand),
            CompareOperand::Lease(operand) => kv.lease.cmp(operand),
            // A key that is not there has no value to compare.
            CompareOperand::Value(_) if found.is_none() => return false,
            CompareOperand::Value(operand) => kv.value.cmp(operand),
        };
        match compare.result {
            0 => order.is_eq(),
            1 => order.is_gt(),
            2 => order.is_lt(),
            3 => order.is_ne(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Request {
        Request::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
    }

    #[test]
    fn versions_deletes_and_old_revisions() {
        let mut model = Model::default();
        assert_eq!(model.revision(), 1);
        for request in [put("a", "1"), put("a", "2"), put("b", "3")] {
            let (_, changes) = model.evaluate(&request, model.revision());
            model.commit(&changes);
        }
        let kv = model.get(b"a", 3).expect("there");
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
        let delete = DeleteRangeRequest { key: "a".into(), range_end: "c".into(), prev_kv: true };
        let (answer, changes) = model.evaluate(&Request::Delete(delete), 4);
        assert!(matches!(answer, Answer::Delete { deleted: 2, .. }));
        model.commit(&changes);
        assert_eq!((model.get(b"a", 5), model.get(b"a", 2).map(|kv| kv.version)), (None, Some(1)));
    }
}
