//! The replicated lease table: persistent, so that a view of it is O(1).

use std::sync::Arc;

use bytes::Bytes;

use crate::pure::types::LeaseId;
use crate::stdx::cow::{Map, Weigh};

/// One lease as every member knows it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id, never 0.
    pub id: LeaseId,
    /// Granted TTL in seconds, after raising it to the minimum.
    pub ttl: i64,
    /// Remaining TTL of the last checkpoint in seconds; 0 means none, the full TTL counts.
    pub remaining_ttl: i64,
    /// Keys attached, in key order.
    pub keys: Map<Bytes, Attached>,
}

/// That a key is attached; the map's key says which.
#[derive(Clone, Debug)]
pub struct Attached;

impl Weigh for Attached {}
impl Weigh for Arc<Lease> {}

/// All leases by id. Cloning is O(1) and gives an immutable instant.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    leases: Map<LeaseId, Arc<Lease>>,
}

impl LeaseTable {
    /// The lease with this id.
    pub fn get(&self, id: LeaseId) -> Option<&Arc<Lease>> {
        self.leases.get(&id)
    }

    /// Number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All leases in id order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.leases.iter().map(|(_, lease)| lease)
    }

    /// Adds a lease; the caller has checked that the id is free.
    pub fn grant(&mut self, id: LeaseId, ttl: i64) {
        assert!(id != 0, "id 0 means no lease");
        let lease = Lease { id, ttl, remaining_ttl: 0, keys: Map::default() };
        let earlier = self.leases.insert(id, Arc::new(lease));
        assert!(earlier.is_none(), "lease {id} was granted twice");
    }

    /// Removes a lease, keys attached or not.
    pub fn revoke(&mut self, id: LeaseId) {
        let lease = self.leases.remove(&id);
        assert!(lease.is_some(), "lease {id} was revoked but is not there");
    }

    /// Sets the remaining TTL of a checkpoint; an unknown id is skipped, as in etcd.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_ttl: i64) {
        self.change(id, |lease| lease.remaining_ttl = remaining_ttl);
    }

    /// Attaches a key to a lease that exists.
    pub fn attach(&mut self, id: LeaseId, key: &[u8]) {
        self.change(id, |lease| {
            lease.keys.insert(Bytes::copy_from_slice(key), Attached);
        });
    }

    /// Detaches a key. A lease that is gone is skipped: its keys are being deleted just now.
    pub fn detach(&mut self, id: LeaseId, key: &[u8]) {
        self.change(id, |lease| {
            lease.keys.remove(&Bytes::copy_from_slice(key));
        });
    }

    fn change(&mut self, id: LeaseId, edit: impl FnOnce(&mut Lease)) {
        if let Some(lease) = self.leases.get(&id) {
            let mut lease = Lease::clone(lease);
            edit(&mut lease);
            self.leases.insert(id, Arc::new(lease));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_of_the_table_does_not_change() {
        let mut table = LeaseTable::default();
        table.grant(7, 60);
        table.attach(7, b"b");
        table.attach(7, b"a");
        let before = table.clone();
        table.detach(7, b"a");
        table.checkpoint(7, 12);
        table.checkpoint(8, 12);
        table.grant(-3, 5);
        assert_eq!(before.get(7).unwrap().keys.iter().map(|(k, _)| &k[..]).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(before.get(7).unwrap().remaining_ttl, 0);
        assert_eq!(table.get(7).unwrap().keys.len(), 1);
        assert_eq!(table.get(7).unwrap().remaining_ttl, 12);
        assert_eq!(table.iter().map(|l| l.id).collect::<Vec<_>>(), [-3, 7]);
        table.revoke(7);
        assert!(table.get(7).is_none() && before.get(7).is_some());
    }
}
