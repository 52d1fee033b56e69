//! Replies of the sequencer become answers to clients.

use super::Front;
use super::calls::{Call, State};
use super::connection::Connection;
use crate::pure::api::responses::{
    Body, DefragmentResponse, DeleteRangeResponse, HeaderOnly, LeaseGrantResponse, LeaseIds,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseTimeToLiveResponse, PutResponse,
};
use crate::pure::api::rpcs::Rpc;
use crate::pure::api::status::{self, Status};
use crate::pure::apply::{ApplyError, Outcome};
use crate::pure::node::{Refusal, Reply, View};
use crate::pure::types::LeaseId;

/// etcd's status of a refusal at apply.
pub(super) fn status_of(error: ApplyError) -> Status {
    match error {
        ApplyError::LeaseNotFound => status::LEASE_NOT_FOUND,
        ApplyError::LeaseExists => status::LEASE_EXIST,
        ApplyError::LeaseTtlTooLarge => status::LEASE_TTL_TOO_LARGE,
        ApplyError::KeyNotFound => status::KEY_NOT_FOUND,
        ApplyError::Compacted => status::COMPACTED,
        ApplyError::FutureRevision => status::FUTURE_REV,
    }
}

fn status_of_refusal(refusal: Refusal) -> Status {
    match refusal {
        Refusal::NoSpace => status::NO_SPACE,
        Refusal::TooManyRequests => status::REQUEST_TOO_MANY_REQUESTS,
        Refusal::Stopped => status::STOPPED,
    }
}

impl Front {
    pub(super) fn reply(&mut self, call: &mut Call, reply: Reply, view: &View) {
        if let State::Renewal { lease, of } = call.state {
            self.renewed(of, lease, &reply, view);
            return;
        }
        self.with_connection(call.connection, |front, connection| {
            connection.turns.release(call);
            front.answer_reply(connection, call, reply, view);
            front.after_events(connection);
        });
    }

    fn answer_reply(&mut self, connection: &mut Connection, call: &Call, reply: Reply, view: &View) {
        let (stream, rpc) = (call.stream, call.rpc);
        match reply {
            Reply::Applied(outcome) => self.answer_outcome(connection, call, outcome, view),
            Reply::Refused(refusal) => self.end(connection, stream, rpc, &status_of_refusal(refusal)),
            Reply::Remaining(remaining) => self.answer_time_to_live(connection, call, remaining, view),
            Reply::Leases(ids) => {
                let header = self.header(view, view.kv.revision());
                self.answer(connection, stream, rpc, &LeaseLeasesResponse { header, leases: LeaseIds(&ids) });
            }
            Reply::Done => self.answer(connection, stream, rpc, &DefragmentResponse),
            Reply::Renewed(_) => unreachable!("keepalives were answered above"),
        }
    }

    fn answer_outcome(&mut self, connection: &mut Connection, call: &Call, outcome: Outcome, view: &View) {
        let (stream, rpc) = (call.stream, call.rpc);
        #[cfg(any(test, feature = "testing"))]
        if self.deny_every > 0 && view.kv.revision().unsigned_abs().is_multiple_of(self.deny_every) {
            self.end(connection, stream, rpc, &status::NO_SPACE);
            return;
        }
        match outcome {
            Outcome::Nothing => unreachable!("no client asks for the member's own entries"),
            Outcome::Failed(error) => self.end(connection, stream, rpc, &status_of(error)),
            Outcome::Put { revision, previous: None } => {
                let header = self.header(view, revision);
                self.answer(connection, stream, rpc, &HeaderOnly { header });
            }
            Outcome::Put { revision, previous } => {
                let mut body = Body::new(0);
                PutResponse { header: self.header(view, revision), prev_kv: previous }.encode(&mut body);
                self.answer_body(connection, stream, rpc, body);
            }
            Outcome::DeleteRange { revision, deleted, previous } => {
                let mut body = Body::new(0);
                let header = self.header(view, revision);
                DeleteRangeResponse { header, deleted, prev_kvs: previous }.encode(&mut body);
                self.answer_body(connection, stream, rpc, body);
            }
            Outcome::Txn(mut response) => {
                response.header = self.header(view, response.header.revision);
                self.answer_txn(connection, stream, rpc, &response);
            }
            Outcome::Compaction { revision } | Outcome::LeaseRevoke { revision, .. } => {
                let header = self.header(view, revision);
                self.answer(connection, stream, rpc, &HeaderOnly { header });
            }
            Outcome::LeaseGrant { revision, id, ttl } => {
                let header = self.header(view, revision);
                self.answer(connection, stream, rpc, &LeaseGrantResponse { header, id, ttl });
            }
        }
    }

    fn answer_time_to_live(
        &mut self,
        connection: &mut Connection,
        call: &Call,
        remaining: Option<i64>,
        view: &View,
    ) {
        let State::TimeToLive { lease: id, keys } = call.state else {
            unreachable!("only TimeToLive asks for remaining time")
        };
        let header = self.header(view, view.kv.revision());
        let mut attached = Vec::new();
        let response = match (remaining, view.leases.get(id)) {
            (Some(ttl), Some(lease)) => {
                if keys {
                    attached.extend(lease.keys.iter().map(|(key, _)| key.clone()));
                }
                LeaseTimeToLiveResponse { header, id, ttl, granted_ttl: lease.ttl, keys: &attached }
            }
            _ => LeaseTimeToLiveResponse { header, id, ttl: -1, granted_ttl: 0, keys: &attached },
        };
        self.answer(connection, call.stream, Rpc::LeaseTimeToLive, &response);
    }

    /// A keepalive of a stream was answered.
    fn renewed(&mut self, of: crate::stdx::slab::Key, lease: LeaseId, reply: &Reply, view: &View) {
        // A stream that ended meanwhile is gone.
        let Some(call) = self.calls.get_mut(of) else { return };
        let (connection, stream) = (call.connection, call.stream);
        let State::KeepAlive { unanswered, half_closed } = &mut call.state else { return };
        *unanswered -= 1;
        let ends = *half_closed && *unanswered == 0;
        let ttl = match reply {
            Reply::Renewed(ttl) => Ok(*ttl),
            Reply::Refused(refusal) => Err(status_of_refusal(*refusal)),
            _ => unreachable!("a keepalive is renewed or refused"),
        };
        let header = self.header(view, view.kv.revision());
        self.with_connection(connection, |front, connection| {
            match ttl {
                Ok(ttl) => {
                    front.stream_message_out(
                        connection,
                        stream,
                        Rpc::LeaseKeepAlive,
                        &LeaseKeepAliveResponse { header, id: lease, ttl },
                    );
                    if ends {
                        front.end_stream(connection, of, &Status::OK);
                    } else if front.pace_keepalives(connection, of) {
                        // In the next turn, also when nothing else comes of this client.
                        front.starve(connection);
                    }
                }
                Err(status) => front.end_stream(connection, of, &status),
            }
            front.after_events(connection);
        });
    }
}
