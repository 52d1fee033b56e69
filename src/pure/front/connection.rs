//! A connection's events, one after the other.

use std::time::Duration;

use super::calls::State;
use super::turns::Turns;
use super::{Front, Outgoing};
use crate::limits;
use crate::pure::api::rpcs::{Kind, Rpc};
use crate::pure::api::status::{self, Status};
use crate::pure::node::View;
use crate::pure::session::{Bound, Meta, RpcKind, Session, SessionEvent, StreamId};
use crate::pure::wire::grpc::head::Resolved;
use crate::stdx::slab::Key;
use crate::stdx::time::Monotonic;
use crate::stdx::work::Work;

use hashbrown::HashMap;

/// One client connection of the shard.
pub(super) struct Connection {
    pub(super) key: Key,
    pub(super) session: Session,
    /// Calls that more events can come for, or that can be cancelled.
    pub(super) calls: HashMap<StreamId, Key, foldhash::fast::FixedState>,
    /// A send is under way.
    pub(super) is_sending: bool,
    /// In the queue of those that may have something to send.
    pub(super) is_dirty: bool,
    /// Waits for credits, or for the next turn.
    pub(super) is_starved: bool,
    pub(super) receive_paused: bool,
    /// The client sends nothing more.
    ended: bool,
    timer: Option<Monotonic>,
    accepted_at: Monotonic,
    is_in_handshake: bool,
    /// What of the session was added to what the shard holds.
    held_bytes: usize,
    /// How much was sent and received when it was last looked at, and since when that has not changed though more
    /// waits.
    sent_seen: u64,
    received_seen: u64,
    stalled_since: Option<Monotonic>,
    /// Its long answers.
    pub(super) turns: Turns,
    /// Bytes given to be sent.
    pub(super) sent_bytes: u64,
    received_bytes: u64,
    /// The session is over; a client that has not taken its last bytes by then is cut off.
    linger_until: Option<Monotonic>,
}

impl Connection {
    /// Bytes that were given to be sent since it was last looked at.
    pub(super) fn taken_of_late(&self) -> u64 {
        self.sent_bytes - self.sent_seen
    }
}

/// Connections looked at in one turn for whether they are stalled.
const STALLED_LOOKS_PER_TURN: usize = 1_024;

/// When a connection was accepted that is still in its handshake.
fn is_in_handshake(connections: &[Option<Box<Connection>>], key: Key) -> Option<Monotonic> {
    let connection = connections.get(key.slot())?.as_deref()?;
    (connection.key == key && connection.is_in_handshake).then_some(connection.accepted_at)
}

/// The table of RPCs as sessions ask for it.
pub fn resolve(path: &[u8]) -> Resolved {
    let Some(rpc) = Rpc::by_path(path) else {
        let service = path.strip_prefix(b"/").unwrap_or(path);
        let service =
            service.iter().rposition(|byte| *byte == b'/').map_or(service, |slash| &service[..slash]);
        let known = Rpc::ALL.iter().any(|rpc| rpc.row().service.as_bytes() == service);
        return if known { Resolved::UnknownMethod } else { Resolved::UnknownService };
    };
    let kind = match rpc.row().kind {
        Kind::Unary => RpcKind::Unary,
        Kind::ServerStream => RpcKind::ServerStream,
        Kind::ClientStream | Kind::Bidi => RpcKind::ClientStream,
    };
    Resolved::Rpc { route: rpc as u16, kind }
}

impl Front {
    /// A client has connected. False: it is not wanted, close it.
    pub fn handle_accepted(&mut self, key: Key, _listener: usize, now: Monotonic) -> bool {
        if self.draining {
            return false;
        }
        if self.connections.len() <= key.slot() {
            self.connections.resize_with(key.slot() + 1, || None);
        }
        let mut connection = Box::new(Connection {
            key,
            session: Session::new(self.config.session, now),
            calls: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(self.config.seed)),
            is_sending: false,
            is_dirty: false,
            is_starved: false,
            receive_paused: false,
            ended: false,
            timer: None,
            accepted_at: now,
            is_in_handshake: true,
            held_bytes: 0,
            sent_seen: 0,
            received_seen: 0,
            stalled_since: None,
            turns: Turns::default(),
            sent_bytes: 0,
            received_bytes: 0,
            linger_until: None,
        });
        self.arm(&mut connection);
        let earlier = self.connections[key.slot()].replace(connection);
        assert!(earlier.is_none(), "a slot is reused only after its connection was given up");
        self.connections_live += 1;
        self.handshakes_live += 1;
        self.handshakes.push_back(key);
        self.bound_handshakes(now);
        true
    }

    /// Bytes of a client.
    pub fn handle_bytes(&mut self, key: Key, bytes: &[u8], view: &View, now: Monotonic) {
        self.received_bytes += bytes.len() as u64;
        self.with_connection(key, |front, connection| {
            connection.received_bytes += bytes.len() as u64;
            let is_pressed = front.is_pressed() && connection.held_bytes > front.held_share();
            connection.session.set_pressed(is_pressed);
            connection.session.handle_bytes(now, bytes);
            front.take_events(connection, view, now);
        });
    }

    /// The client sends nothing more, or (`at_once`) the connection is broken. True: close it now; otherwise
    /// [`Outgoing::Close`] follows.
    pub fn handle_closed(&mut self, key: Key, at_once: bool, view: &View, now: Monotonic) -> bool {
        let mut known = false;
        let mut close = true;
        self.with_connection(key, |front, connection| {
            known = true;
            connection.ended = true;
            connection.session.handle_disconnect();
            front.take_events(connection, view, now);
            close = at_once || !connection.session.wants_transmit() && !connection.is_sending;
        });
        if known && close {
            self.forget(key);
        }
        known && close
    }

    /// The send under way has ended.
    pub fn handle_sent(&mut self, key: Key, view: &View, now: Monotonic) {
        self.with_connection(key, |front, connection| {
            connection.is_sending = false;
            // Room may have come for producers, and events that were held back.
            front.take_events(connection, view, now);
            front.mark_dirty(connection);
        });
    }

    pub(super) fn connection(&mut self, key: Key) -> Option<&mut Connection> {
        let slot = self.connections.get_mut(key.slot())?.as_deref_mut();
        slot.filter(|connection| connection.key == key)
    }

    /// Runs `body` with the connection taken out of its slot.
    pub(super) fn with_connection(&mut self, key: Key, body: impl FnOnce(&mut Front, &mut Connection)) {
        let Some(slot) = self.connections.get_mut(key.slot()) else { return };
        let Some(mut connection) = slot.take_if(|connection| connection.key == key) else { return };
        body(self, &mut connection);
        self.connections[key.slot()] = Some(connection);
    }

    /// Gives a connection up: nothing of it is left but calls that the sequencer still answers.
    pub(super) fn forget(&mut self, key: Key) {
        let Some(slot) = self.connections.get_mut(key.slot()) else { return };
        let Some(mut connection) = slot.take_if(|connection| connection.key == key) else { return };
        self.connections_live -= 1;
        self.handshakes_live -= usize::from(connection.is_in_handshake);
        self.held_bytes -= connection.held_bytes;
        if let Some(at) = connection.timer {
            self.timers.remove(&(at, key));
        }
        for call in std::mem::take(&mut connection.calls).into_values() {
            self.cancel_call(&mut connection, call);
        }
    }

    /// Handles all events that credits and the turn's work allow, then looks what the connection wants from the loop.
    pub(super) fn take_events(&mut self, connection: &mut Connection, view: &View, now: Monotonic) {
        self.events_work = Work::new(self.events_left.min(limits::slice::EVENTS_UNITS));
        loop {
            self.begin_waiting(connection, view);
            self.tell_kept(connection);
            if !self.may_work() {
                self.starve(connection);
                break;
            }
            match connection.session.poll_event() {
                Some(event) => {
                    self.events_work.charge(cost_of(&event));
                    self.handle_event(connection, event, view, now);
                }
                None if connection.session.handle_unread(now) => {}
                None => break,
            }
        }
        self.events_left -= self.events_work.used();
        if connection.session.is_closed() && connection.linger_until.is_none() {
            let until = now + Duration::from_secs(limits::http2::LINGER_SECONDS);
            connection.linger_until = Some(until);
        }
        self.after_events(connection);
    }

    /// The next turn with credits takes the connection's events.
    pub(super) fn starve(&mut self, connection: &mut Connection) {
        if !connection.is_starved {
            connection.is_starved = true;
            self.starved.push_back(connection.key);
        }
    }

    /// Notes what the connection wants now: to send, to be read or not, to be woken.
    pub(super) fn after_events(&mut self, connection: &mut Connection) {
        connection.session.drain_bounds(&mut self.bounds);
        if connection.is_in_handshake && !connection.session.is_in_handshake() {
            connection.is_in_handshake = false;
            self.handshakes_live -= 1;
        }
        if self.tell_kept(connection) {
            self.starve(connection);
        }
        let held = connection.session.held_bytes() + connection.turns.kept_bytes();
        self.held_bytes = self.held_bytes - connection.held_bytes + held;
        connection.held_bytes = held;
        if connection.session.wants_transmit() || connection.session.wants_close() {
            self.mark_dirty(connection);
        }
        // What was received and not taken comes first, so that it never grows with each occasion to receive more.
        let session = &connection.session;
        let pause = !session.wants_read() || session.has_unread() || connection.is_starved;
        if pause != connection.receive_paused && !connection.ended {
            connection.receive_paused = pause;
            let key = connection.key;
            self.commands.push_back(if pause {
                Outgoing::PauseReceive(key)
            } else {
                Outgoing::ResumeReceive(key)
            });
        }
        self.arm(connection);
    }

    pub(super) fn mark_dirty(&mut self, connection: &mut Connection) {
        if !connection.is_dirty && !connection.is_sending {
            connection.is_dirty = true;
            self.dirty.push_back(connection.key);
        }
    }

    /// Registers the session's next timeout if it is earlier than what is registered. A later one is found
    /// when the earlier fires.
    fn arm(&mut self, connection: &mut Connection) {
        let timeouts = [connection.session.next_timeout(), connection.linger_until];
        let Some(next) = timeouts.into_iter().flatten().min() else { return };
        if connection.timer.is_some_and(|at| at <= next) {
            return;
        }
        if let Some(at) = connection.timer.replace(next) {
            self.timers.remove(&(at, connection.key));
        }
        self.timers.insert((next, connection.key));
    }

    pub(super) fn fire_timers(&mut self, view: &View, now: Monotonic) {
        // Each connection once: a session that wants to be woken in the past must not stop all others.
        for _ in 0..self.timers.len() {
            let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) else { return };
            self.timers.remove(&(at, key));
            let mut cut = false;
            self.with_connection(key, |front, connection| {
                connection.timer = None;
                cut = connection.linger_until.is_some_and(|until| until <= now);
                if !cut {
                    connection.session.handle_timeout(now);
                    front.take_events(connection, view, now);
                }
            });
            if cut {
                self.forget(key);
                self.commands.push_back(Outgoing::Close(key));
            }
        }
    }

    /// Sessions hold more than the shard has for them.
    fn is_pressed(&self) -> bool {
        self.held_bytes > self.held_bytes_max
    }

    /// What a connection may hold when the shard has no memory left: those that hold less are served all the same, and
    /// hold together no more than half as much again.
    fn held_share(&self) -> usize {
        self.held_bytes_max / 2 / self.connections_live.max(1)
    }

    /// Gives up a connection for a bound of the shard.
    fn cut(&mut self, key: Key, bound: Bound) {
        self.bounds[bound as usize] += 1;
        self.forget(key);
        self.commands.push_back(Outgoing::Close(key));
    }

    /// Closes the oldest of too many connections that have not finished their handshake.
    fn bound_handshakes(&mut self, now: Monotonic) {
        let grace = Duration::from_millis(limits::shard::HANDSHAKE_GRACE_MILLISECONDS);
        // Most of what is queued has shaken hands long ago.
        if self.handshakes.len() > 2 * self.handshakes_live + limits::shard::HANDSHAKES_MAX {
            let connections = &self.connections;
            self.handshakes.retain(|key| is_in_handshake(connections, *key).is_some());
        }
        while self.handshakes_live > limits::shard::HANDSHAKES_MAX {
            let Some(key) = self.handshakes.front().copied() else { return };
            match is_in_handshake(&self.connections, key) {
                Some(accepted_at) if accepted_at + grace > now => return,
                Some(_) => self.cut(key, Bound::Handshakes),
                None => {}
            }
            self.handshakes.pop_front();
        }
    }

    /// Looks now and then whose answers are not taken, some connections a turn.
    pub(super) fn look_for_stalled(&mut self, now: Monotonic) {
        if self.stalled_look_at > now {
            return;
        }
        let is_pressed = self.is_pressed();
        let seconds =
            if is_pressed { limits::shard::STALLED_SECONDS_PRESSED } else { limits::shard::STALLED_SECONDS };
        let share = self.held_share();
        let end = self.connections.len().min(self.stalled_looked + STALLED_LOOKS_PER_TURN);
        for slot in self.stalled_looked..end {
            let Some(connection) = &mut self.connections[slot] else { continue };
            let (sent, received) = (connection.sent_bytes, connection.received_bytes);
            let takes_nothing = connection.is_sending || connection.session.unsent_bytes() > 0;
            // It began requests that fill the memory, and does not go on with them.
            let ends_nothing = is_pressed
                && connection.session.unfinished_bytes() > share
                && connection.received_seen == received;
            // Answers keep much, and it gives them no room.
            let gives_no_room =
                is_pressed && connection.turns.kept_bytes() > share && !connection.turns.is_making();
            let stays = connection.sent_seen == sent && (takes_nothing || ends_nothing || gives_no_room);
            (connection.sent_seen, connection.received_seen) = (sent, received);
            connection.stalled_since = stays.then(|| connection.stalled_since.unwrap_or(now));
            let key = connection.key;
            if connection.stalled_since.is_some_and(|since| now.since(since) >= Duration::from_secs(seconds))
            {
                self.cut(key, Bound::Stalled);
            }
        }
        self.stalled_looked = end;
        if end == self.connections.len() {
            self.stalled_looked = 0;
            self.stalled_look_at = now + Duration::from_secs(limits::shard::STALLED_LOOK_SECONDS);
        }
    }

    fn handle_event(
        &mut self,
        connection: &mut Connection,
        event: SessionEvent,
        view: &View,
        now: Monotonic,
    ) {
        match event {
            SessionEvent::Call { stream, route, meta, message } => {
                let Some(rpc) = self.begin(connection, stream, route, &meta, view) else { return };
                self.counts[rpc as usize].received += 1;
                if rpc.row().kind == Kind::Unary {
                    self.unary(connection, stream, rpc, &message, view);
                } else {
                    self.open_server_stream(connection, stream, rpc, &message, view);
                }
            }
            SessionEvent::Request { stream, route, meta } => {
                let Some(rpc) = self.begin(connection, stream, route, &meta, view) else { return };
                self.open_client_stream(connection, stream, rpc, now);
            }
            SessionEvent::Message { stream, message } => {
                self.stream_message(connection, stream, &message, view)
            }
            SessionEvent::HalfClosed { stream } => self.half_closed(connection, stream),
            SessionEvent::Cancelled { stream } | SessionEvent::DeadlineExceeded { stream } => {
                if let Some(call) = connection.calls.remove(&stream) {
                    self.cancel_call(connection, call);
                }
            }
            SessionEvent::Room { stream } => {
                if let Some(call) = connection.calls.get(&stream).copied() {
                    self.has_room(connection, call, view);
                }
            }
            SessionEvent::Undone { .. } => {}
            SessionEvent::Http1(request) => self.http1.push_back((connection.key, request)),
        }
    }

    /// The RPC of a route, if it may begin: it exists in this version, and there is a leader if one is wanted.
    fn begin(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        route: u16,
        meta: &Meta,
        view: &View,
    ) -> Option<Rpc> {
        let rpc = Rpc::ALL[usize::from(route)];
        self.counts[rpc as usize].started += 1;
        match check_begin(rpc, meta, view) {
            Ok(()) => Some(rpc),
            Err(status) => {
                self.end(connection, stream, rpc, &status);
                None
            }
        }
    }

    /// A call that the client gave up, or whose connection is gone. What the sequencer still answers is kept
    /// until then.
    pub(super) fn cancel_call(&mut self, connection: &mut Connection, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if let State::Watch { hub_stream, .. } = &call.state {
            let stream = *hub_stream;
            self.watch_calls.remove(&stream.to_u64());
            self.hub.close_stream(stream);
        }
        if call.waits_for_sequencer() {
            return;
        }
        connection.turns.release(call);
        self.calls.remove(key);
    }
}

/// Units of work that an event costs beside what its handler charges: its message is looked at, and may have been
/// inflated.
fn cost_of(event: &SessionEvent) -> u32 {
    let bytes = match event {
        SessionEvent::Call { message, .. } | SessionEvent::Message { message, .. } => message.len(),
        SessionEvent::Undone { bytes } => *bytes,
        _ => 0,
    };
    limits::slice::EVENT_UNITS + (bytes / limits::response::BYTES_PER_UNIT) as u32
}

fn check_begin(rpc: Rpc, meta: &Meta, view: &View) -> Result<(), Status> {
    if meta.client_version().is_some_and(|version| std::str::from_utf8(version).is_err()) {
        return Err(status::INVALID_CLIENT_API_VERSION);
    }
    if meta.require_leader && view.leader == 0 {
        return Err(status::NO_LEADER);
    }
    Rpc::resolve(rpc.row().path.as_bytes()).map(|_| ())
}
