//! RPCs with streams: Watch, LeaseKeepAlive, RangeStream, health Watch.

use bytes::Bytes;

use super::Front;
use super::answer::record_piece;
use super::calls::State;
use super::connection::Connection;
use crate::limits;
use crate::pure::api::authorize::{Authorized, Wanted, authorize};
use crate::pure::api::codec::{self, Encode, decode};
use crate::pure::api::requests::{
    HealthCheckRequest, LeaseKeepAliveRequest, WatchCreateRequest, WatchRequest,
};
use crate::pure::api::responses::{HealthCheckResponse, ServingStatus};
use crate::pure::api::rpcs::Rpc;
use crate::pure::api::status::{self, Status};
use crate::pure::node::{Ask, View};
use crate::pure::session::{Bound, Piece, StreamId};
use crate::pure::watch::{self, HeaderIds, StreamKey, WatchCreate, WatchMessage};
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;

/// What the answer to a keepalive takes while it is made, about.
const KEEPALIVE_ANSWER_BYTES: usize = 64;
/// Watch messages up to this size are copied into one buffer; larger ones go in pieces.
const WATCH_COPIED_BYTES_MAX: usize = 64 * 1024;
/// A watch stream gets more messages when less than this part of what it may hold waits in its session: a stalled one
/// then holds few copies, and one that reads still has some while others are sent.
pub(super) const WATCH_REFILL_PARTS: usize = 8;

impl Front {
    /// A stream with one request and many answers.
    pub(super) fn open_server_stream(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        message: &Bytes,
        view: &View,
    ) {
        let opened = match rpc {
            Rpc::RangeStream => self.range_stream(connection, stream, message, view),
            Rpc::HealthWatch => self.health_watch(connection, stream, message),
            _ => unreachable!("the table has no other server stream of this version"),
        };
        if let Err(status) = opened {
            self.end(connection, stream, rpc, &status);
        }
    }

    /// Says the state once and stays open: it never changes while the server serves.
    fn health_watch(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
    ) -> Result<(), Status> {
        let request: HealthCheckRequest = decode(message).map_err(Status::undecodable_message)?;
        let known = request.service.is_empty();
        let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        self.stream_message_out(connection, stream, Rpc::HealthWatch, &HealthCheckResponse { status });
        let call = self.new_call(connection.key, stream, Rpc::HealthWatch, State::Health);
        connection.calls.insert(stream, call);
        Ok(())
    }

    /// A stream of requests begins.
    pub(super) fn open_client_stream(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        now: Monotonic,
    ) {
        let state = match rpc {
            Rpc::Watch => State::Watch { hub_stream: self.hub.open_stream(now, &mut self.prng) },
            Rpc::LeaseKeepAlive => State::KeepAlive { unanswered: 0, half_closed: false },
            _ => unreachable!("the table has no other client stream of this version"),
        };
        let hub_stream = match &state {
            State::Watch { hub_stream } => Some(*hub_stream),
            _ => None,
        };
        let call = self.new_call(connection.key, stream, rpc, state);
        if let Some(hub_stream) = hub_stream {
            self.watch_calls.insert(hub_stream.to_u64(), call);
        }
        connection.calls.insert(stream, call);
        if self.draining {
            self.end_stream(connection, call, &status::STOPPED);
        }
    }

    /// The next request of a stream.
    pub(super) fn stream_message(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        message: &Bytes,
        view: &View,
    ) {
        let Some(key) = connection.calls.get(&stream).copied() else { return };
        let Some(call) = self.calls.get_mut(key) else { return };
        self.counts[call.rpc as usize].received += 1;
        match &mut call.state {
            State::Watch { hub_stream } => {
                let hub_stream = *hub_stream;
                self.watch_request(connection, key, hub_stream, message, view);
            }
            State::KeepAlive { unanswered, .. } => match decode::<LeaseKeepAliveRequest>(message) {
                Ok(request) => {
                    *unanswered += 1;
                    let (rpc, state) = (call.rpc, State::Renewal { lease: request.id, of: key });
                    let renewal = self.new_call(connection.key, stream, rpc, state);
                    self.wish(renewal, Ask::KeepAlive(request.id));
                    self.pace_keepalives(connection, key);
                }
                Err(error) => self.end_stream(connection, key, &Status::undecodable_message(error)),
            },
            _ => unreachable!("only client streams have messages"),
        }
    }

    fn watch_request(
        &mut self,
        connection: &mut Connection,
        call: Key,
        hub_stream: StreamKey,
        message: &Bytes,
        view: &View,
    ) {
        match decode::<WatchRequest>(message) {
            Err(error) => {
                self.end_stream(connection, call, &Status::undecodable_message(error));
                return;
            }
            Ok(WatchRequest::None) => {}
            Ok(WatchRequest::Create(request)) => self.watch_create(hub_stream, request, view),
            Ok(WatchRequest::Cancel(request)) => {
                self.hub.cancel(hub_stream, request.watch_id, &view.kv);
            }
            Ok(WatchRequest::Progress) => self.hub.request_progress(hub_stream, &view.kv),
        }
        let has_room = self.deliver_to(connection, call, view);
        self.pace_watches(connection, call, hub_stream, has_room);
    }

    /// Paces a stream of watches after what it had was given to a client with room for all of it, or else not: then
    /// room was asked for, and is told of. Events have their own bound; what counts here are answers to requests.
    fn pace_watches(&self, connection: &mut Connection, call: Key, hub_stream: StreamKey, has_room: bool) {
        let Some(stream) = self.calls.get(call).map(|call| call.stream) else { return };
        let waiting = if has_room { 0 } else { self.hub.queued_bytes(hub_stream) };
        pace(connection, stream, waiting);
    }

    fn watch_create(&mut self, hub_stream: StreamKey, request: WatchCreateRequest, view: &View) {
        let permitted = authorize(Rpc::Watch, Wanted::Watch(&request.key, &request.range_end))
            .map(|Authorized { .. }| ())
            .map_err(|status| status.to_string());
        let create = WatchCreate {
            key: request.key,
            range_end: request.range_end,
            start_revision: request.start_revision,
            watch_id: request.watch_id,
            no_put: request.filters.no_put,
            no_delete: request.filters.no_delete,
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            fragment: request.fragment,
        };
        // The answer waits in the stream's queue, whatever came of it: the id is of no use here.
        self.hub.create(hub_stream, &create, permitted, &view.kv);
        self.bounds[Bound::Watches as usize] += self.hub.drain_refused();
    }

    /// A watch stream has messages.
    pub(super) fn deliver_watch(&mut self, call: Key, view: &View) {
        let Some(connection) = self.calls.get(call).map(|call| call.connection) else { return };
        self.with_connection(connection, |front, connection| {
            front.deliver_to(connection, call, view);
            front.after_events(connection);
        });
    }

    /// Sends a watch stream's messages as far as its client has room. False: it has none, and room was asked for.
    fn deliver_to(&mut self, connection: &mut Connection, key: Key, view: &View) -> bool {
        let Some(call) = self.calls.get(key) else { return true };
        let (stream, State::Watch { hub_stream }) = (call.stream, &call.state) else { return true };
        let hub_stream = *hub_stream;
        let ids = HeaderIds {
            cluster_id: self.config.cluster_id,
            member_id: self.config.member_id,
            raft_term: view.term,
        };
        // What waits in the session is the stream's own copy, what waits in the hub is shared: little of the former.
        let unsent_bytes_max = self.hub.unsent_bytes_max(hub_stream);
        let mut room = watch_room(connection, stream, unsent_bytes_max);
        loop {
            let Some(message) = self.hub.poll_message(hub_stream, room) else {
                if room == 0 {
                    connection.session.want_room(stream);
                }
                return room > 0;
            };
            self.counts[Rpc::Watch as usize].sent += 1;
            room = room.saturating_sub(message.pieces_bytes() + limits::watch::MESSAGE_OVERHEAD_BYTES);
            send_watch(connection, stream, &message, &ids);
            if room == 0 {
                // A message may have been compressed, or smaller than what it counted for.
                room = watch_room(connection, stream, unsent_bytes_max);
            }
        }
    }

    /// A stream's client has room again.
    pub(super) fn has_room(&mut self, connection: &mut Connection, key: Key, view: &View) {
        match self.calls.get(key).map(|call| &call.state) {
            Some(State::Watch { hub_stream }) => {
                let hub_stream = *hub_stream;
                let has_room = self.deliver_to(connection, key, view);
                self.pace_watches(connection, key, hub_stream, has_room);
            }
            Some(State::KeepAlive { .. }) => {
                self.pace_keepalives(connection, key);
            }
            Some(State::RangeStream(_) | State::Answering(_)) => self.resume_read(key),
            _ => {}
        }
    }

    /// Paces a stream of keepalives. True: requests that were held have to be taken now.
    pub(super) fn pace_keepalives(&mut self, connection: &mut Connection, key: Key) -> bool {
        let Some(call) = self.calls.get(key) else { return false };
        let (stream, State::KeepAlive { unanswered, .. }) = (call.stream, &call.state) else { return false };
        let waiting = unanswered * KEEPALIVE_ANSWER_BYTES + connection.session.stream_unsent(stream);
        if waiting > limits::request::UNREAD_ANSWERS_BYTES_MAX / 2 {
            connection.session.want_room(stream);
        }
        pace(connection, stream, waiting)
    }

    /// A stream's client sends no more. Watches go on until the client cancels; keepalives end.
    pub(super) fn half_closed(&mut self, connection: &mut Connection, stream: StreamId) {
        let Some(key) = connection.calls.get(&stream).copied() else { return };
        let Some(call) = self.calls.get_mut(key) else { return };
        if let State::KeepAlive { unanswered, half_closed } = &mut call.state {
            *half_closed = true;
            if *unanswered == 0 {
                self.end_stream(connection, key, &Status::OK);
            }
        }
    }

    /// One small message of a stream of answers.
    pub(super) fn stream_message_out(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        message: &impl Encode,
    ) {
        self.counts[rpc as usize].sent += 1;
        let bytes = codec::encode(message);
        connection.session.send_message(stream, &bytes);
    }

    /// Ends a stream with a status.
    pub(super) fn end_stream(&mut self, connection: &mut Connection, key: Key, status: &Status) {
        let Some(call) = self.calls.get(key) else { return };
        let (stream, rpc) = (call.stream, call.rpc);
        connection.calls.remove(&stream);
        self.end(connection, stream, rpc, status);
        self.cancel_call(connection, key);
    }

    /// The server stops: a stream that would never end is ended.
    pub(super) fn end_endless(&mut self, key: Key) {
        let Some(connection) = self.calls.get(key).map(|call| call.connection) else { return };
        self.with_connection(connection, |front, connection| {
            front.end_stream(connection, key, &status::STOPPED);
            front.after_events(connection);
        });
    }
}

/// Holds a stream's requests while so many bytes of its answers wait, or lets them go on: true if they were held. As in
/// etcd, whose streams are not read while their answers wait.
fn pace(connection: &mut Connection, stream: StreamId, waiting: usize) -> bool {
    let bound = limits::request::UNREAD_ANSWERS_BYTES_MAX;
    if waiting > bound {
        connection.session.hold_messages(stream);
    }
    waiting <= bound / 2 && connection.session.release_messages(stream)
}

/// Bytes that a watch stream's client has room for: none until it has taken most of what it was given before, then
/// much at once. None means that bytes are queued, whose sending tells of room.
fn watch_room(connection: &mut Connection, stream: StreamId, unsent_bytes_max: usize) -> usize {
    let unsent = connection.session.stream_unsent(stream);
    if unsent > unsent_bytes_max / WATCH_REFILL_PARTS {
        return 0;
    }
    connection.session.stream_room(stream).min(unsent_bytes_max - unsent)
}

fn send_watch(connection: &mut Connection, stream: StreamId, message: &WatchMessage, ids: &HeaderIds) {
    if message.pieces_bytes() <= WATCH_COPIED_BYTES_MAX {
        let mut bytes = Vec::with_capacity(64 + message.pieces_bytes());
        message.encode(ids, &mut bytes);
        connection.session.send_message(stream, &bytes);
        return;
    }
    let mut head = Vec::with_capacity(64);
    message.encode_head(ids, &mut head);
    let mut pieces = vec![Piece::from(head)];
    pieces.extend(message.pieces().iter().map(|piece| match piece {
        watch::Piece::Bytes(bytes) => Piece::Bytes(bytes.clone()),
        watch::Piece::Record(record) => record_piece(record.clone()),
    }));
    connection.session.send_message_pieces(stream, pieces);
}
