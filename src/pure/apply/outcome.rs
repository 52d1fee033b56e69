//! What applying an entry gave, for the client that waits for it.

use crate::pure::api::responses::TxnResponse;
use crate::pure::mvcc::RecordRef;
use crate::pure::types::{LeaseId, Revision};

/// Result of one entry. Records hold their segments, so an outcome may travel to another core.
pub enum Outcome {
    /// Nothing to tell: an entry of the member itself.
    Nothing,
    /// Refused without any change.
    Failed(ApplyError),
    /// A put; the replaced record if asked for.
    Put {
        /** Revision of the put. */
        revision: Revision,
        /** Asked for and there. */
        previous: Option<RecordRef>,
    },
    /// A delete.
    DeleteRange {
        /** Revision after it. */
        revision: Revision,
        /** Keys deleted. */
        deleted: i64,
        /** Asked-for records, in key order. */
        previous: Vec<RecordRef>,
    },
    /// A transaction: the response as it goes out, its header's revision the one after it, ids still missing.
    Txn(TxnResponse),
    /// The compact revision moved.
    Compaction {
        /** Current revision. */
        revision: Revision,
    },
    /// A lease was granted.
    LeaseGrant {
        /** Current revision. */
        revision: Revision,
        /** Its id. */
        id: LeaseId,
        /** Effective TTL in seconds. */
        ttl: i64,
    },
    /// A lease was revoked.
    LeaseRevoke {
        /** Revision after it. */
        revision: Revision,
        /** Its id. */
        id: LeaseId,
    },
}

/// Why an entry was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// `etcdserver: requested lease not found`
    LeaseNotFound,
    /// `etcdserver: lease already exists`
    LeaseExists,
    /// `etcdserver: too large lease TTL`
    LeaseTtlTooLarge,
    /// `etcdserver: key not found`
    KeyNotFound,
    /// `etcdserver: mvcc: required revision has been compacted`
    Compacted,
    /// `etcdserver: mvcc: required revision is a future revision`
    FutureRevision,
}
