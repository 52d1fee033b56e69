//! A transaction being applied: an interpreter that can stop between any two keys.
//!
//! Three passes over the chosen path, as etcd does: all compares (nested ones too) against the state before
//! the transaction, which fixes the path; then every check that can fail, against that same state; then the
//! operations in order, ranges seeing the writes before them. A read-only transaction runs on a view with
//! the same code, on the shard that was asked.

use super::outcome::ApplyError;
use super::{Applier, DeleteRun, Deleted, key_range, range_query, view_of};
use crate::pure::api::requests::{
    Compare, CompareOperand, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::pure::api::responses::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse, Values,
};
use crate::pure::mvcc::{Access, KvView, RangeQuery, RangeWalk, RecordRef};
use crate::pure::types::Revision;
use crate::stdx::work::{Step, Work};

/// What a transaction runs on.
pub trait TxnState {
    /// The newest record of a live key, writes of the transaction included.
    fn live_record(&self, key: &[u8]) -> Access<Option<RecordRef>>;
    /// This instant, writes of the transaction included.
    fn view(&mut self) -> KvView;
    /// Revision and compact revision before the transaction.
    fn revisions(&self) -> (Revision, Revision);
    /// What can fail about a put.
    ///
    /// # Errors
    /// As etcd: the lease, then the key that ignore_value or ignore_lease needs.
    fn check_put(&self, put: &PutRequest) -> Result<(), ApplyError>;
    /// Writes a checked put; the replaced record if asked for.
    fn put(&mut self, put: &PutRequest) -> Option<RecordRef>;
    /// Begins a delete.
    fn begin_delete(&mut self, request: &DeleteRangeRequest) -> DeleteRun;
    /// Carries it on.
    fn step_delete(&mut self, run: &mut DeleteRun, work: &mut Work) -> Step<Deleted>;
    /// Revision that a nested header shows now.
    fn working_revision(&self) -> Revision;
    /// Ends the transaction; the revision after it.
    fn end(&mut self) -> Revision;
}

impl TxnState for Applier {
    fn live_record(&self, key: &[u8]) -> Access<Option<RecordRef>> {
        match self.store.live(key) {
            None => Access::Ready(None),
            Some(version) => match self.store.record(version.addr) {
                Access::Ready(record) => Access::Ready(Some(record)),
                Access::Pending => Access::Pending,
            },
        }
    }

    fn view(&mut self) -> KvView {
        self.store.view()
    }

    fn revisions(&self) -> (Revision, Revision) {
        (self.store.revision(), self.store.compact_revision())
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), ApplyError> {
        Applier::check_put(self, &put.key, put.lease, put.ignore_value, put.ignore_lease)
    }

    fn put(&mut self, put: &PutRequest) -> Option<RecordRef> {
        self.write_put(&view_of(put))
    }

    fn begin_delete(&mut self, request: &DeleteRangeRequest) -> DeleteRun {
        DeleteRun::new(request, &self.store)
    }

    fn step_delete(&mut self, run: &mut DeleteRun, work: &mut Work) -> Step<Deleted> {
        run.step(self, work)
    }

    fn working_revision(&self) -> Revision {
        self.store.working_revision()
    }

    fn end(&mut self) -> Revision {
        self.store.end_txn()
    }
}

/// The state of a read-only transaction (`api::validate::is_read_only`): one revision, seen through whatever
/// view is newest in each slice (a view itself isn't held from one turn to the next: spec A, H16).
pub struct ReadState<'a> {
    /// The newest view.
    pub view: &'a KvView,
    /// The revision that all of the transaction reads, kept as a floor until it is done.
    pub revision: Revision,
    /// The compact revision when it began.
    pub compact_revision: Revision,
}

const READ_ONLY: &str = "a read-only transaction only ranges";

impl TxnState for ReadState<'_> {
    fn live_record(&self, key: &[u8]) -> Access<Option<RecordRef>> {
        match self.view.get(key, self.revision) {
            None => Access::Ready(None),
            Some(version) => match self.view.record(version.addr) {
                Access::Ready(record) => Access::Ready(Some(record)),
                Access::Pending => Access::Pending,
            },
        }
    }

    fn view(&mut self) -> KvView {
        self.view.clone()
    }

    fn revisions(&self) -> (Revision, Revision) {
        (self.revision, self.compact_revision)
    }

    fn check_put(&self, _: &PutRequest) -> Result<(), ApplyError> {
        unreachable!("{READ_ONLY}")
    }

    fn put(&mut self, _: &PutRequest) -> Option<RecordRef> {
        unreachable!("{READ_ONLY}")
    }

    fn begin_delete(&mut self, _: &DeleteRangeRequest) -> DeleteRun {
        unreachable!("{READ_ONLY}")
    }

    fn step_delete(&mut self, _: &mut DeleteRun, _: &mut Work) -> Step<Deleted> {
        unreachable!("{READ_ONLY}")
    }

    fn working_revision(&self) -> Revision {
        self.revision
    }

    fn end(&mut self) -> Revision {
        self.revision
    }
}

/// One step of the chosen path.
enum PathStep {
    /// A (nested) transaction begins; which branch was chosen.
    Begin { succeeded: bool },
    /// An operation that is no transaction.
    Op(RequestOp),
    /// The transaction of the matching `Begin` ends.
    End,
}

/// What is still to be compared, innermost last.
enum Todo {
    Txn(TxnRequest),
    Step(PathStep),
}

enum Pass {
    Compare { todo: Vec<Todo>, current: Option<CompareRun> },
    Check { next: usize },
    Execute { next: usize, op: Option<OpRun>, open: Vec<TxnResponse> },
}

/// A transaction's compares being evaluated.
struct CompareRun {
    txn: TxnRequest,
    next: usize,
    walk: Option<Box<RangeWalk>>,
}

/// An operation that needs more than one slice.
enum OpRun {
    Range { walk: Box<RangeWalk>, values: Values, revision: Revision },
    Delete(DeleteRun),
}

/// The interpreter's state.
pub struct TxnRun {
    path: Vec<PathStep>,
    pass: Pass,
}

impl TxnRun {
    /// Begins a validated transaction.
    pub fn new(txn: TxnRequest) -> TxnRun {
        let todo = vec![Todo::Txn(txn)];
        TxnRun { path: Vec::new(), pass: Pass::Compare { todo, current: None } }
    }

    /// Bytes of references to the records of its answer so far, about.
    pub fn kept_bytes(&self) -> usize {
        match &self.pass {
            Pass::Compare { current, .. } => {
                let walk = current.as_ref().and_then(|run| run.walk.as_ref());
                walk.map_or(0, |walk| walk.kept_bytes())
            }
            Pass::Check { .. } => 0,
            Pass::Execute { op, open, .. } => {
                let walk = match op {
                    Some(OpRun::Range { walk, .. }) => walk.kept_bytes(),
                    Some(OpRun::Delete(_)) | None => 0,
                };
                let responses = open.iter().flat_map(|txn| &txn.responses);
                let records = responses.map(|response| match response {
                    ResponseOp::Range(range) => range.records.capacity(),
                    ResponseOp::Put(_) | ResponseOp::DeleteRange(_) | ResponseOp::Txn(_) => 0,
                });
                walk + records.sum::<usize>() * size_of::<RecordRef>()
            }
        }
    }

    /// Carries on for a slice. A refusal leaves the state untouched.
    pub fn step(
        &mut self,
        state: &mut impl TxnState,
        work: &mut Work,
    ) -> Step<Result<TxnResponse, ApplyError>> {
        loop {
            if work.is_spent() {
                return Step::More;
            }
            work.charge(1);
            let path = &mut self.path;
            let step = match &mut self.pass {
                Pass::Compare { todo, current } => compare_some(todo, current, path, state, work),
                Pass::Check { next } => match check_one(path, next, state) {
                    Ok(step) => step,
                    Err(error) => return Step::Done(Err(error)),
                },
                Pass::Execute { next, op, open } => execute_one(path, next, op, open, state, work),
            };
            match step {
                Step::More => {}
                Step::Pending => return Step::Pending,
                Step::Done(()) => match &mut self.pass {
                    Pass::Compare { .. } => self.pass = Pass::Check { next: 0 },
                    Pass::Check { .. } => self.pass = Pass::Execute { next: 0, op: None, open: Vec::new() },
                    Pass::Execute { open, .. } => {
                        let mut outcome = open.pop().expect("the outermost transaction stays open");
                        assert!(open.is_empty(), "a nested transaction was not ended");
                        outcome.header.revision = state.end();
                        return Step::Done(Ok(outcome));
                    }
                },
            }
        }
    }
}

/// Evaluates one compare, or takes the next thing to do; done when nothing is left.
fn compare_some(
    todo: &mut Vec<Todo>,
    current: &mut Option<CompareRun>,
    path: &mut Vec<PathStep>,
    state: &mut impl TxnState,
    work: &mut Work,
) -> Step<()> {
    let Some(run) = current else {
        match todo.pop() {
            None => return Step::Done(()),
            Some(Todo::Step(step)) => path.push(step),
            Some(Todo::Txn(txn)) => *current = Some(CompareRun { txn, next: 0, walk: None }),
        }
        return Step::More;
    };
    let succeeded = match run.step(state, work) {
        Step::More => return Step::More,
        Step::Pending => return Step::Pending,
        Step::Done(holds) => {
            run.next += 1;
            if holds && run.next < run.txn.compare.len() {
                return Step::More;
            }
            holds
        }
    };
    let txn = current.take().expect("it was just stepped").txn;
    path.push(PathStep::Begin { succeeded });
    todo.push(Todo::Step(PathStep::End));
    let branch = if succeeded { txn.success } else { txn.failure };
    todo.extend(branch.into_iter().rev().map(|op| match op {
        RequestOp::Txn(nested) => Todo::Txn(nested),
        other @ (RequestOp::None | RequestOp::Range(_) | RequestOp::Put(_) | RequestOp::DeleteRange(_)) => {
            Todo::Step(PathStep::Op(other))
        }
    }));
    Step::More
}

impl CompareRun {
    /// Evaluates the compare at `next`; no compares at all hold.
    fn step(&mut self, state: &mut impl TxnState, work: &mut Work) -> Step<bool> {
        let Some(compare) = self.txn.compare.get(self.next) else { return Step::Done(true) };
        if compare.range_end.is_empty() {
            return match state.live_record(&compare.key) {
                Access::Pending => Step::Pending,
                Access::Ready(None) => Step::Done(holds_for_missing(compare)),
                Access::Ready(Some(record)) => Step::Done(holds(compare, &record)),
            };
        }
        let walk = self.walk.get_or_insert_with(|| {
            let keys = key_range(&compare.key, &compare.range_end);
            Box::new(RangeWalk::new(RangeQuery::plain(keys, state.working_revision())))
        });
        match walk.step(&state.view(), work) {
            Step::More => Step::More,
            Step::Pending => Step::Pending,
            Step::Done(found) => {
                self.walk = None;
                work.charge(u32::try_from(found.records.len() / 4).unwrap_or(u32::MAX));
                Step::Done(match found.records.is_empty() {
                    true => holds_for_missing(compare),
                    false => found.records.iter().all(|record| holds(compare, record)),
                })
            }
        }
    }
}

/// A key that isn't there compares as zeros, but no VALUE compare holds for it, whatever the operator.
fn holds_for_missing(compare: &Compare) -> bool {
    const VALUE: i32 = 3;
    compare.target != VALUE && decide(compare.result, number_of(compare, 0, 0, 0, 0))
}

fn holds(compare: &Compare, record: &RecordRef) -> bool {
    const VALUE: i32 = 3;
    if compare.target == VALUE {
        let operand: &[u8] = match &compare.operand {
            CompareOperand::Value(value) => value,
            _ => &[],
        };
        return decide(compare.result, record.value().cmp(operand));
    }
    decide(
        compare.result,
        number_of(compare, record.version(), record.create(), record.main(), record.lease()),
    )
}

/// Compares the target's number with the operand; an absent or mismatched operand is 0, an undefined
/// target compares as equal.
fn number_of(compare: &Compare, version: i64, create: i64, modified: i64, lease: i64) -> std::cmp::Ordering {
    let operand = |matching: Option<i64>| matching.unwrap_or(0);
    match (compare.target, &compare.operand) {
        (0, o) => version.cmp(&operand(if let CompareOperand::Version(n) = o { Some(*n) } else { None })),
        (1, o) => {
            create.cmp(&operand(if let CompareOperand::CreateRevision(n) = o { Some(*n) } else { None }))
        }
        (2, o) => {
            modified.cmp(&operand(if let CompareOperand::ModRevision(n) = o { Some(*n) } else { None }))
        }
        (4, o) => lease.cmp(&operand(if let CompareOperand::Lease(n) = o { Some(*n) } else { None })),
        _ => std::cmp::Ordering::Equal,
    }
}

/// EQUAL 0, GREATER 1, LESS 2, NOT_EQUAL 3; an undefined operator holds.
fn decide(result: i32, ordering: std::cmp::Ordering) -> bool {
    match result {
        0 => ordering.is_eq(),
        1 => ordering.is_gt(),
        2 => ordering.is_lt(),
        3 => ordering.is_ne(),
        _ => true,
    }
}

/// Checks one operation of the path against the state before the transaction.
fn check_one(path: &[PathStep], next: &mut usize, state: &impl TxnState) -> Result<Step<()>, ApplyError> {
    let Some(step) = path.get(*next) else { return Ok(Step::Done(())) };
    *next += 1;
    match step {
        PathStep::Begin { .. } | PathStep::End => {}
        PathStep::Op(RequestOp::Range(range)) => check_revision(range, state)?,
        PathStep::Op(RequestOp::Put(put)) => state.check_put(put)?,
        PathStep::Op(RequestOp::DeleteRange(_)) => {}
        PathStep::Op(RequestOp::None | RequestOp::Txn(_)) => unreachable!("refused before it was proposed"),
    }
    Ok(Step::More)
}

/// Unlike a plain Range, a negative revision is compacted here (etcd's txn.go, checkRange).
fn check_revision(range: &RangeRequest, state: &impl TxnState) -> Result<(), ApplyError> {
    let (current, compacted) = state.revisions();
    if range.revision > current {
        return Err(ApplyError::FutureRevision);
    }
    if range.revision != 0 && range.revision < compacted {
        return Err(ApplyError::Compacted);
    }
    Ok(())
}

/// Runs one step of the path, or carries the running operation on; done at the end of the path.
fn execute_one(
    path: &mut [PathStep],
    next: &mut usize,
    op: &mut Option<OpRun>,
    open: &mut Vec<TxnResponse>,
    state: &mut impl TxnState,
    work: &mut Work,
) -> Step<()> {
    if let Some(run) = op {
        return match run.step(state, work) {
            Step::More => Step::More,
            Step::Pending => Step::Pending,
            Step::Done(outcome) => {
                *op = None;
                respond(open, outcome);
                Step::More
            }
        };
    }
    let Some(step) = path.get_mut(*next) else { return Step::Done(()) };
    *next += 1;
    match step {
        PathStep::Begin { succeeded } => {
            let header = ResponseHeader::default();
            open.push(TxnResponse { header, succeeded: *succeeded, responses: Vec::new() });
        }
        PathStep::End => {
            // The outermost stays for the caller.
            if open.len() > 1 {
                let nested = open.pop().expect("its Begin was executed");
                respond(open, ResponseOp::Txn(nested));
            }
        }
        PathStep::Op(request) => match std::mem::replace(request, RequestOp::None) {
            RequestOp::Put(put) => respond(open, execute_put(&put, state)),
            RequestOp::Range(range) => *op = Some(OpRun::range(&range, state)),
            RequestOp::DeleteRange(delete) => *op = Some(OpRun::Delete(state.begin_delete(&delete))),
            RequestOp::None | RequestOp::Txn(_) => unreachable!("refused before it was proposed"),
        },
    }
    Step::More
}

fn respond(open: &mut [TxnResponse], outcome: ResponseOp) {
    open.last_mut().expect("operations run inside a transaction").responses.push(outcome);
}

fn execute_put(put: &PutRequest, state: &mut impl TxnState) -> ResponseOp {
    let prev_kv = state.put(put);
    ResponseOp::Put(PutResponse { header: ResponseHeader::nested(state.working_revision()), prev_kv })
}

impl OpRun {
    fn range(range: &RangeRequest, state: &mut impl TxnState) -> OpRun {
        let working = state.working_revision();
        let revision = if range.revision <= 0 { working } else { range.revision };
        let walk = Box::new(RangeWalk::new(range_query(range, revision)));
        OpRun::Range { walk, revision: working, values: Values::of(range.keys_only, range.sort_target) }
    }

    fn step(&mut self, state: &mut impl TxnState, work: &mut Work) -> Step<ResponseOp> {
        match self {
            OpRun::Range { walk, values, revision } => match walk.step(&state.view(), work) {
                Step::More => Step::More,
                Step::Pending => Step::Pending,
                Step::Done(found) => Step::Done(ResponseOp::Range(RangeResponse {
                    header: Some(ResponseHeader::nested(*revision)),
                    records: found.records,
                    values: *values,
                    more: found.more,
                    count: found.count,
                })),
            },
            OpRun::Delete(run) => match state.step_delete(run, work) {
                Step::More => Step::More,
                Step::Pending => Step::Pending,
                Step::Done(deleted) => Step::Done(ResponseOp::DeleteRange(DeleteRangeResponse {
                    header: ResponseHeader::nested(state.working_revision()),
                    deleted: deleted.count,
                    prev_kvs: deleted.previous,
                })),
            },
        }
    }
}
