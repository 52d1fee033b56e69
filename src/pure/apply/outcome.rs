//! What applying an entry gave, for the client that waits for it.

use crate::pure::api::requests::RangeRequest;
use crate::pure::mvcc::{RangeResult, RecordRef};
use crate::pure::types::{LeaseId, Revision};

/// Result of one entry. Records hold their segments, so an outcome may travel to another core.
pub enum Outcome {
    /// Nothing to tell: an entry of the member itself.
    Nothing,
    /// Refused without any change.
    Failed(ApplyError),
    /// A put; the replaced record if asked for.
    Put { /** Revision of the put. */ revision: Revision, /** Asked for and there. */ previous: Option<RecordRef> },
    /// A delete.
    DeleteRange {
        /** Revision after it. */
        revision: Revision,
        /** Keys deleted. */
        deleted: i64,
        /** Asked-for records, in key order. */
        previous: Vec<RecordRef>,
    },
    /// A transaction.
    Txn(TxnOutcome),
    /// The compact revision moved.
    Compaction { /** Current revision. */ revision: Revision },
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
    LeaseRevoke { /** Revision after it. */ revision: Revision, /** Its id. */ id: LeaseId },
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

/// Result of a transaction or of a nested one.
pub struct TxnOutcome {
    /// Revision after it; of a nested one not shown.
    pub revision: Revision,
    /// Which branch ran.
    pub succeeded: bool,
    /// One for each operation of the branch.
    pub responses: Vec<OpOutcome>,
}

/// Result of one operation of a transaction. `revision` is what the nested header shows.
pub enum OpOutcome {
    /// A range.
    Range {
        /** See above. */
        revision: Revision,
        /** What it found. */
        result: RangeResult,
        /** How to show it. */
        shape: RangeShape,
    },
    /// A put.
    Put { /** See above. */ revision: Revision, /** Asked for and there. */ previous: Option<RecordRef> },
    /// A delete.
    DeleteRange {
        /** See above. */
        revision: Revision,
        /** Keys deleted. */
        deleted: i64,
        /** Asked-for records. */
        previous: Vec<RecordRef>,
    },
    /// A nested transaction.
    Txn(TxnOutcome),
}

/// What of a range's records is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeShape {
    /// Values are left out.
    pub keys_only: bool,
    /// Leases too: etcd 3.7 answers keys_only from its index unless the sort needs values.
    pub without_lease: bool,
}

impl RangeShape {
    /// The shape that a request asks for.
    pub fn of(request: &RangeRequest) -> RangeShape {
        const SORT_BY_VALUE: i32 = 4;
        RangeShape {
            keys_only: request.keys_only,
            without_lease: request.keys_only && request.sort_target != SORT_BY_VALUE,
        }
    }
}
