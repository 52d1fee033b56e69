//! What clients saw and what the member published, as plain data for the checkers.
//!
//! Owns: nothing. Takes and gives: records, appended to by the world, read by the checkers.
//! Always true: a record is written once and gets its end once; times are true time, not a member's clock.
//! Not here: who is right.

use bytes::Bytes;

use crate::pure::api::requests::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    TxnRequest, WatchCreateRequest,
};
use crate::pure::types::{LeaseId, Revision};

/// Nanoseconds of true time since the run began.
pub type Time = u64;

/// A call's request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are etcd's own")]
pub enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
}

impl Request {
    /// True if it may change something.
    pub fn is_mutation(&self) -> bool {
        !matches!(self, Request::Range(_))
    }
}

/// A key with its value, as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are those of etcd's message")]
pub struct KeyValue {
    pub key: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: i64,
    pub value: Bytes,
    pub lease: LeaseId,
}

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are those of etcd's message")]
pub struct Found {
    pub kvs: Vec<KeyValue>,
    pub more: bool,
    pub count: i64,
}

/// The content of an answer, without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are etcd's own")]
pub enum Answer {
    Range(Found),
    Put(Option<KeyValue>),
    Delete { deleted: i64, previous: Vec<KeyValue> },
    Txn { succeeded: bool, answers: Vec<Answer> },
    Compact,
    Grant { id: LeaseId, ttl: i64 },
    Revoke,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody knows whether it took effect.
    Unknown,
    /// It did not take effect and never will.
    Refused(Refusal),
    /// It took effect.
    Answered {
        /// The header's revision.
        revision: Revision,
        /// The rest.
        answer: Answer,
    },
}

/// Refusals that mean something to a checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are etcd's own")]
pub enum Refusal {
    Compacted,
    FutureRevision,
    LeaseNotFound,
    LeaseExists,
    NoSpace,
    /// HTTP/2 says that nothing was done about the call.
    NotTaken,
    /// Anything else that is definite.
    Other,
}

/// One unary call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who called.
    pub client: usize,
    /// The life of the member that was called.
    pub life: usize,
    /// When the request left.
    pub invoked: Time,
    /// When the answer came, or when the client gave up.
    pub returned: Time,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

impl Call {
    /// The header's revision, if there was an answer.
    pub fn revision(&self) -> Option<Revision> {
        match &self.outcome {
            Outcome::Answered { revision, .. } => Some(*revision),
            Outcome::Unknown | Outcome::Refused(_) => None,
        }
    }
}

/// One keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Of this lease.
    pub lease: LeaseId,
    /// When it was sent.
    pub sent: Time,
    /// When the answer came, or when the client gave up.
    pub returned: Time,
    /// The answer's TTL; 0 means the lease is gone, `None` that no answer came.
    pub ttl: Option<i64>,
}

/// A change as a watch tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Otherwise a put.
    pub is_delete: bool,
    /// The key after it.
    pub kv: KeyValue,
    /// The key before it.
    pub previous: Option<KeyValue>,
}

/// A response of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it came.
    pub at: Time,
    /// The header's revision.
    pub revision: Revision,
    /// The rest.
    pub what: What,
}

/// See [`Told`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Events; `fragment`: more of the same response follow.
    Events {
        /// In order.
        events: Vec<Event>,
        /// Not the last part.
        fragment: bool,
    },
    /// A progress message.
    Progress,
    /// The end, from the server; `compact_revision` as told.
    Canceled {
        /// Not 0 if history was compacted under the watch.
        compact_revision: Revision,
    },
}

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// What was asked.
    pub request: WatchCreateRequest,
    /// When it was asked for.
    pub sent: Time,
    /// The revision of the `created` response.
    pub created: Option<Revision>,
    /// The client asked for its end.
    pub cancel_asked: bool,
    /// Everything that came, in order.
    pub told: Vec<Told>,
    /// When its connection ended; `None` if it was open to the end of the run.
    pub closed: Option<Time>,
    /// A progress request was sent at the very end, with everything else at rest.
    pub asked_at_end: bool,
}

/// All that clients saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Calls, in the order of their invocation.
    pub calls: Vec<Call>,
    /// Keepalives, in the order of their sending.
    pub renewals: Vec<Renewal>,
    /// Watches, in the order of their creation.
    pub watches: Vec<Watch>,
}

/// A change of one key as the member stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Otherwise a put.
    pub is_delete: bool,
    /// The key after it; of a delete only key and mod revision.
    pub kv: KeyValue,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// When a view showed it first.
    pub at: Time,
    /// Its changes in order.
    pub changes: Vec<Change>,
}

/// The life of a lease, as views showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLife {
    /// Its id.
    pub id: LeaseId,
    /// As granted.
    pub ttl: i64,
    /// When a view showed it first.
    pub from: Time,
    /// When a view first did not show it any more.
    pub gone: Option<Time>,
}

/// One life of the member's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it began to serve.
    pub ready: Time,
    /// When it ended.
    pub ended: Time,
}

/// What views showed at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Time,
    /// Revision of the view.
    pub revision: Revision,
    /// Compact revision of the view.
    pub compact_revision: Revision,
}

/// The member's own log of revisions: what it published.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Revisions from 2 on; 1 is the empty store.
    pub revisions: Vec<Published>,
    /// Leases in the order of their appearance.
    pub leases: Vec<LeaseLife>,
    /// The member's lives.
    pub lives: Vec<Life>,
    /// Whenever one of the two changed.
    pub seen: Vec<Seen>,
    /// Sum of the times for which the process was stalled from outside.
    pub stalled: Time,
    /// The disk had no room until then.
    pub full_until: Time,
    /// When faults ended.
    pub calm: Time,
    /// When the run ended.
    pub ended: Time,
}

impl Truth {
    /// The last revision.
    pub fn revision(&self) -> Revision {
        i64::try_from(self.revisions.len()).expect("few revisions") + 1
    }

    /// What a revision changed, if it is there.
    pub fn at(&self, revision: Revision) -> Option<&Published> {
        self.revisions.get(usize::try_from(revision - 2).ok()?)
    }
}

/// How far a queue ever got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighWater {
    /// Which queue.
    pub queue: &'static str,
    /// The most that was ever in it, in the unit of its bound.
    pub highest: u64,
    /// What `limits.rs` declares, with what a single item may add to it.
    pub bound: u64,
}

/// Something that crossed the member's border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Time,
    /// What kind of thing.
    pub what: u64,
    /// How long it was.
    pub bytes: u64,
    /// Checksum of its content.
    pub crc: u32,
}

/// Everything that crossed the member's border, in order, as a hash; on demand each mark too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    hash: u64,
    count: u64,
    marks: Option<Vec<Mark>>,
}

impl Trace {
    /// An empty one.
    pub fn new(keep_marks: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, count: 0, marks: keep_marks.then(Vec::new) }
    }

    /// Appends a mark.
    pub fn push(&mut self, mark: Mark) {
        for word in [mark.at, mark.what, mark.bytes, u64::from(mark.crc)] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        self.count += 1;
        if let Some(marks) = &mut self.marks {
            marks.push(mark);
        }
    }

    /// The hash of all marks.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Their number.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them, if they were kept.
    pub fn marks(&self) -> &[Mark] {
        self.marks.as_deref().unwrap_or_default()
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who says so: `C1` and so on.
    pub checker: &'static str,
    /// What is wrong.
    pub text: String,
}

impl Violation {
    /// A violation.
    pub fn new(checker: &'static str, text: impl Into<String>) -> Violation {
        Violation { checker, text: text.into() }
    }
}
