//! Unary RPCs: decode, validate in etcd's order, authorize, then read or propose.

use bytes::Bytes;

use super::Front;
use super::calls::State;
use super::connection::Connection;
use crate::limits::request::LONG_ANSWERS_MAX;
use crate::limits::response::WHOLE_RECORDS_MAX;
use crate::pure::api::authorize::{Authorized, Wanted, authorize};
use crate::pure::api::codec::{self, decode_request, decode_txn};
use crate::pure::api::log_payload::{self, Header, Logged};
use crate::pure::api::requests::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, EmptyRequest, HashKvRequest, HealthCheckRequest,
    LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, PutView, RangeRequest,
    RequestOp, TxnRequest,
};
use crate::pure::api::responses::{
    AlarmResponse, DowngradeInfo, HashKvResponse, HealthCheckResponse, MemberListResponse, ServingStatus,
    StatusResponse, Values,
};
use crate::pure::api::rpcs::{Rpc, not_yet};
use crate::pure::api::status::{self, Status};
use crate::pure::api::validate;
use crate::pure::apply::{TxnRun, range_query};
use crate::pure::mvcc::{HashWalk, KvView, RangeWalk};
use crate::pure::node::{Ask, View};
use crate::pure::session::StreamId;
use crate::pure::types::Revision;

/// etcd's default of `--quota-backend-bytes`, as Status and the metrics show it.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 << 30;

/// What a handler came to.
enum Done {
    /// The answer is sent.
    Answered,
    /// The sequencer is asked this.
    Ask(Ask, State),
    /// The same by a transaction whose answer may be long.
    AskForLists(Ask),
    /// A read goes on in slices.
    Read(State),
}

impl Front {
    /// Runs a unary RPC from its one message.
    pub(super) fn unary(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        message: &Bytes,
        view: &View,
    ) {
        let done = match rpc {
            Rpc::Range => self.range(message, view),
            Rpc::Put => self.put(message),
            Rpc::DeleteRange => self.delete_range(message),
            Rpc::Txn => self.txn(message, view),
            Rpc::Compact => self.compact(message),
            Rpc::LeaseGrant => self.lease_grant(message),
            Rpc::LeaseRevoke => self.lease_revoke(message),
            Rpc::LeaseTimeToLive => lease_time_to_live(message),
            Rpc::LeaseLeases => lease_leases(message),
            Rpc::MemberList => self.member_list(connection, stream, message, view),
            Rpc::Status => self.status(connection, stream, message, view),
            Rpc::Alarm => self.alarm(connection, stream, message, view),
            Rpc::HashKV => self.hash_kv(connection, stream, message, view),
            Rpc::Hash => hash(message, view),
            Rpc::Defragment => defragment(message),
            Rpc::HealthCheck => self.health_check(connection, stream, message),
            _ => unreachable!("the table has no other unary RPC of this version"),
        };
        match done {
            Ok(Done::Answered) => {}
            Ok(Done::Ask(ask, state)) => {
                let call = self.new_call(connection.key, stream, rpc, state);
                self.wish(call, ask);
            }
            Ok(Done::AskForLists(_)) if !connection.may_make(LONG_ANSWERS_MAX) => {
                self.wait_for_turn(connection, stream, rpc, message.clone());
            }
            Ok(Done::AskForLists(ask)) => {
                let key = self.new_call(connection.key, stream, rpc, State::Asked);
                connection.turns.count_asked(self.calls.get_mut(key).expect("it was just made"));
                self.wish(key, ask);
            }
            Ok(Done::Read(state)) => self.begin_read(connection, stream, rpc, state, message, view),
            Err(status) => self.end(connection, stream, rpc, &status),
        }
    }

    fn range(&mut self, message: &Bytes, view: &View) -> Result<Done, Status> {
        let request: RangeRequest = decode_request(message)?;
        validate::validate_range(&request)?;
        check_fresh(request.serializable, view)?;
        let proof = authorize(Rpc::Range, Wanted::Range(&request))?;
        let revision = resolve_revision(request.revision, &view.kv)?;
        Ok(Done::Read(begin_range(proof, &request, revision, view)))
    }

    fn put(&mut self, message: &Bytes) -> Result<Done, Status> {
        let put = PutView::decode(message).map_err(Status::undecodable_request)?;
        validate::validate_put(&put)?;
        let proof = authorize(Rpc::Put, Wanted::Put(&put))?;
        let payload = log_payload::encode_put(&self.log_header(&proof), &put);
        self.proposal(payload)
    }

    fn delete_range(&mut self, message: &Bytes) -> Result<Done, Status> {
        let request: DeleteRangeRequest = decode_request(message)?;
        validate::validate_delete_range(&request)?;
        let proof = authorize(Rpc::DeleteRange, Wanted::DeleteRange(&request))?;
        self.propose(&proof, message, &request)
    }

    fn txn(&mut self, message: &Bytes, view: &View) -> Result<Done, Status> {
        let request = decode_txn(message, self.config.txn_ops_max)?;
        validate::validate_txn(&request, self.config.txn_ops_max)?;
        if !validate::is_read_only(&request) {
            let proof = authorize(Rpc::Txn, Wanted::Txn(&request))?;
            let done = self.propose(&proof, message, &request)?;
            return Ok(match done {
                Done::Ask(ask, State::Asked) if lists_keys(&request) => Done::AskForLists(ask),
                other => other,
            });
        }
        check_fresh(validate::is_serializable(&request), view)?;
        let proof = authorize(Rpc::Txn, Wanted::Txn(&request))?;
        Ok(Done::Read(begin_txn(proof, request, view)))
    }

    fn compact(&mut self, message: &Bytes) -> Result<Done, Status> {
        let request: CompactionRequest = decode_request(message)?;
        let proof = authorize(Rpc::Compact, Wanted::Nothing)?;
        let done = self.propose(&proof, message, &request)?;
        Ok(match done {
            Done::Ask(Ask::Propose(payload), state) if request.physical => {
                Done::Ask(Ask::ProposeAndClean(payload), state)
            }
            other => other,
        })
    }

    fn lease_grant(&mut self, message: &Bytes) -> Result<Done, Status> {
        let mut request: LeaseGrantRequest = decode_request(message)?;
        if request.id == 0 {
            // Positive, as etcd's.
            request.id =
                i64::try_from(self.config.ids.next() & (u64::MAX >> 1)).expect("without the sign bit").max(1);
        }
        let proof = authorize(Rpc::LeaseGrant, Wanted::Nothing)?;
        let payload = log_payload::encode_typed(&self.log_header(&proof), &request);
        self.proposal(payload)
    }

    fn lease_revoke(&mut self, message: &Bytes) -> Result<Done, Status> {
        let request: LeaseRevokeRequest = decode_request(message)?;
        let proof = authorize(Rpc::LeaseRevoke, Wanted::Lease(request.id))?;
        self.propose(&proof, message, &request)
    }

    fn member_list(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
        view: &View,
    ) -> Result<Done, Status> {
        let request: MemberListRequest = decode_request(message)?;
        check_fresh(!request.linearizable, view)?;
        let proof = authorize(Rpc::MemberList, Wanted::Nothing)?;
        let header = self.header(view, 0);
        self.answer(connection, stream, Rpc::MemberList, &member_response(proof, header, view));
        Ok(Done::Answered)
    }

    fn status(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
        view: &View,
    ) -> Result<Done, Status> {
        let EmptyRequest = decode_request(message)?;
        let proof = authorize(Rpc::Status, Wanted::Nothing)?;
        let response = self.status_response(proof, view);
        self.answer(connection, stream, Rpc::Status, &response);
        Ok(Done::Answered)
    }

    fn status_response(&self, _: Authorized, view: &View) -> StatusResponse {
        let no_leader = (view.leader == 0).then(|| status::NO_LEADER.message.into_owned());
        StatusResponse {
            header: self.header(view, view.kv.revision()),
            version: self.config.version.to_owned(),
            db_size: signed(view.db_bytes),
            leader: view.leader,
            raft_index: view.committed.0,
            raft_term: view.term.0,
            raft_applied_index: view.applied.0,
            errors: no_leader.into_iter().collect(),
            db_size_in_use: signed(view.db_bytes_in_use),
            is_learner: false,
            storage_version: self.config.storage_version.to_owned(),
            db_size_quota: QUOTA_BYTES_DEFAULT,
            downgrade_info: DowngradeInfo::default(),
        }
    }

    /// GET alone: there are no alarms to raise yet, so the list is empty.
    fn alarm(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
        view: &View,
    ) -> Result<Done, Status> {
        let request: AlarmRequest = decode_request(message)?;
        let action = match request.action {
            0 => None,
            1 => Some("Alarm ACTIVATE"),
            2 => Some("Alarm DEACTIVATE"),
            _ => Some("Alarm with an undefined action"),
        };
        if let Some(action) = action {
            return Err(not_yet(action));
        }
        let Authorized { .. } = authorize(Rpc::Alarm, Wanted::Nothing)?;
        let response = AlarmResponse { header: self.header(view, view.kv.revision()), alarms: &[] };
        self.answer(connection, stream, Rpc::Alarm, &response);
        Ok(Done::Answered)
    }

    fn hash_kv(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
        view: &View,
    ) -> Result<Done, Status> {
        let request: HashKvRequest = decode_request(message)?;
        let Authorized { .. } = authorize(Rpc::HashKV, Wanted::Nothing)?;
        if request.revision >= 0 {
            let revision = resolve_revision(request.revision, &view.kv)?;
            return Ok(Done::Read(begin_hash(revision, view)));
        }
        // etcd takes a negative revision as it is, and finds nothing to hash below it but the bucket's name.
        let response = HashKvResponse {
            header: self.header(view, view.kv.revision()),
            hash: crc32c::crc32c(b"key"),
            compact_revision: view.kv.compact_revision(),
            hash_revision: request.revision,
        };
        self.answer(connection, stream, Rpc::HashKV, &response);
        Ok(Done::Answered)
    }

    fn health_check(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
    ) -> Result<Done, Status> {
        let request: HealthCheckRequest = decode_request(message)?;
        if !request.service.is_empty() {
            return Err(status::HEALTH_UNKNOWN_SERVICE);
        }
        let response = HealthCheckResponse { status: ServingStatus::Serving };
        self.answer(connection, stream, Rpc::HealthCheck, &response);
        Ok(Done::Answered)
    }

    fn log_header<'a>(&mut self, proof: &'a Authorized) -> Header<'a> {
        let id = self.config.ids.next();
        Header { id, username: proof.username(), auth_revision: proof.auth_revision() }
    }

    /// Proposes a request by its own bytes where they are canonical.
    fn propose<M: Logged>(
        &mut self,
        proof: &Authorized,
        message: &Bytes,
        request: &M,
    ) -> Result<Done, Status> {
        let payload = log_payload::encode_raw(&self.log_header(proof), message, request);
        self.proposal(payload)
    }

    fn proposal(&self, payload: Vec<u8>) -> Result<Done, Status> {
        log_payload::check_size(payload.len(), self.config.request_bytes_max)?;
        Ok(Done::Ask(Ask::Propose(payload.into()), State::Asked))
    }
}

/// True if a transaction's answer may have many records.
fn lists_keys(txn: &TxnRequest) -> bool {
    let is_short =
        |limit: i64| usize::try_from(limit).is_ok_and(|limit| (1..=WHOLE_RECORDS_MAX).contains(&limit));
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        RequestOp::Range(range) => !range.range_end.is_empty() && !range.count_only && !is_short(range.limit),
        RequestOp::DeleteRange(delete) => !delete.range_end.is_empty() && delete.prev_kv,
        RequestOp::Txn(nested) => lists_keys(nested),
        RequestOp::Put(_) | RequestOp::None => false,
    })
}

/// A read is linearizable here, or need not be.
pub(super) fn check_fresh(serializable: bool, view: &View) -> Result<(), Status> {
    if serializable || view.local_read_ok { Ok(()) } else { Err(status::TIMEOUT) }
}

/// The revision that a range reads: etcd's checks of the one that was asked for.
pub(super) fn resolve_revision(asked: Revision, kv: &KvView) -> Result<Revision, Status> {
    if asked <= 0 {
        return Ok(kv.revision());
    }
    if asked > kv.revision() {
        return Err(status::FUTURE_REV);
    }
    if asked < kv.compact_revision() {
        return Err(status::COMPACTED);
    }
    Ok(asked)
}

fn begin_range(_: Authorized, request: &RangeRequest, revision: Revision, view: &View) -> State {
    State::Range {
        walk: Box::new(RangeWalk::new(range_query(request, revision))),
        values: Values::of(request.keys_only, request.sort_target),
        revision: view.kv.revision(),
    }
}

fn begin_txn(_: Authorized, request: TxnRequest, view: &View) -> State {
    State::Txn {
        run: Box::new(TxnRun::new(request)),
        revision: view.kv.revision(),
        compact_revision: view.kv.compact_revision(),
    }
}

fn member_response<'a>(
    _: Authorized,
    header: crate::pure::api::responses::ResponseHeader,
    view: &'a View,
) -> MemberListResponse<'a> {
    MemberListResponse { header, members: &view.members }
}

fn lease_time_to_live(message: &Bytes) -> Result<Done, Status> {
    let request: LeaseTimeToLiveRequest = decode_request(message)?;
    let Authorized { .. } = authorize(Rpc::LeaseTimeToLive, Wanted::Lease(request.id))?;
    Ok(Done::Ask(Ask::TimeToLive(request.id), State::TimeToLive { lease: request.id, keys: request.keys }))
}

fn lease_leases(message: &Bytes) -> Result<Done, Status> {
    let EmptyRequest = decode_request(message)?;
    let Authorized { .. } = authorize(Rpc::LeaseLeases, Wanted::Nothing)?;
    Ok(Done::Ask(Ask::Leases, State::Asked))
}

fn defragment(message: &Bytes) -> Result<Done, Status> {
    let EmptyRequest = decode_request(message)?;
    let Authorized { .. } = authorize(Rpc::Defragment, Wanted::Nothing)?;
    Ok(Done::Ask(Ask::Defragment, State::Asked))
}

fn hash(message: &Bytes, view: &View) -> Result<Done, Status> {
    let EmptyRequest = codec::decode_request(message)?;
    let Authorized { .. } = authorize(Rpc::Hash, Wanted::Nothing)?;
    Ok(Done::Read(begin_hash(view.kv.revision(), view)))
}

fn begin_hash(revision: Revision, view: &View) -> State {
    State::Hash { walk: Box::new(HashWalk::new(&view.kv, revision)), revision: view.kv.revision() }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
