//! The brain of a shard: what it decides for all its clients.
//!
//! Owns: the shard's sessions, the requests under way, long reads, watch streams, credits to the sequencer.
//! Takes: bytes of connections, replies of the sequencer, views, times. Gives: bytes to send, wishes to the
//! sequencer, HTTP/1 requests, the least revision that its reads still need.
//! Always true: wishes not yet answered stay within the credits; a long read holds no view between turns,
//! only its revision as a floor.
//! Not here: sockets, the log, what other shards do.

mod answer;
mod calls;
mod connection;
mod reads;
mod reply;
mod streams;
#[cfg(test)]
mod tests;
mod turns;
mod unary;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use hashbrown::HashMap;

use calls::{Call, State};
use connection::Connection;

use crate::limits;
use crate::pure::api::log_payload::RequestIds;
use crate::pure::api::responses::ResponseHeader;
use crate::pure::api::rpcs::Rpc;
use crate::pure::node::{Ask, FromSequencer, Ticket, ToSequencer, View};
use crate::pure::session::{self, Bound, Http1Request, StreamId, Transmit};
use crate::pure::types::Revision;
use crate::pure::watch::{Hub, HubConfig};
use crate::stdx::prng::Prng;
use crate::stdx::slab::{Key, Slab};
use crate::stdx::time::Monotonic;
use crate::stdx::work::{Step, Work};

pub use calls::RpcCounts;
pub use connection::resolve;
pub use unary::QUOTA_BYTES_DEFAULT;

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its number.
    pub shard: u16,
    /// For sessions.
    pub session: session::Config,
    /// For response headers.
    pub cluster_id: u64,
    /// For response headers.
    pub member_id: u64,
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// What Status calls the server's version.
    pub version: &'static str,
    /// What Status calls the storage's version.
    pub storage_version: &'static str,
    /// For watches.
    pub hub: HubConfig,
    /// Seed of the jitter of periodic watch progress.
    pub seed: u64,
    /// Where the ids of its requests begin.
    pub ids: RequestIds,
}

/// What the loop has to do for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outgoing {
    /// Send what is in the transmit; then [`Front::handle_sent`].
    Send(Key),
    /// Close it; nothing more comes for it.
    Close(Key),
    /// Stop reading from it.
    PauseReceive(Key),
    /// Read from it again.
    ResumeReceive(Key),
}

/// One shard's clients.
pub struct Front {
    config: Config,
    connections: Vec<Option<Box<Connection>>>,
    connections_live: usize,
    /// Connections that have not finished their handshake, oldest first; some have, meanwhile.
    handshakes: VecDeque<Key>,
    handshakes_live: usize,
    /// Sum of what the sessions hold for their clients.
    held_bytes: usize,
    /// When to look for stalled connections, and how far this look has come.
    stalled_look_at: Monotonic,
    stalled_looked: usize,
    /// How often clients have reached each bound.
    bounds: [u64; Bound::ALL.len()],
    calls: Slab<Call>,
    /// Long reads that want a slice, in turn.
    reading: VecDeque<Key>,
    hub: Hub,
    /// Watch streams by the hub's name.
    watch_calls: HashMap<u64, Key, foldhash::fast::FixedState>,
    prng: Prng,
    wishes: VecDeque<ToSequencer>,
    /// Wishes not yet answered, and the bytes of their payloads.
    outstanding: usize,
    outstanding_bytes: usize,
    /// Connections whose events wait for credits, or whose input waits for the next turn.
    starved: VecDeque<Key>,
    /// Connections that may have something to send, and commands for the loop.
    dirty: VecDeque<Key>,
    /// Those of them that have much to send.
    bulk: VecDeque<Key>,
    commands: VecDeque<Outgoing>,
    http1: VecDeque<(Key, Http1Request)>,
    timers: BTreeSet<(Monotonic, Key)>,
    /// What is left of the turn's work for requests, and of the part of the connection whose they are.
    events_left: u32,
    events_work: Work,
    draining: bool,
    counts: Vec<RpcCounts>,
    received_bytes: u64,
    sent_bytes: u64,
    /// Wishes at once.
    credits: usize,
    /// Bytes that its sessions may hold.
    held_bytes_max: usize,
    /// Canary M24: every so many writes are answered with an error after they were proposed; 0 is never.
    #[cfg(any(test, feature = "testing"))]
    deny_every: u64,
}

/// How full a shard's queues are, the fullest of each kind.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Wishes not yet answered.
    pub wishes: usize,
    /// Bytes of their payloads.
    pub wish_bytes: usize,
    /// Of a connection.
    pub session: session::Queues,
    /// Bytes of events of a watch stream.
    pub watch_bytes: usize,
}

impl Front {
    /// A shard without clients.
    pub fn new(config: Config) -> Front {
        Front {
            connections: Vec::new(),
            connections_live: 0,
            handshakes: VecDeque::new(),
            handshakes_live: 0,
            held_bytes: 0,
            stalled_look_at: Monotonic(0),
            stalled_looked: 0,
            bounds: [0; Bound::ALL.len()],
            calls: Slab::default(),
            reading: VecDeque::new(),
            hub: Hub::new(config.hub.clone()),
            watch_calls: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(config.seed)),
            prng: Prng::new(config.seed),
            wishes: VecDeque::new(),
            outstanding: 0,
            outstanding_bytes: 0,
            starved: VecDeque::new(),
            dirty: VecDeque::new(),
            bulk: VecDeque::new(),
            commands: VecDeque::new(),
            http1: VecDeque::new(),
            timers: BTreeSet::new(),
            events_left: limits::slice::EVENTS_UNITS_PER_TURN,
            events_work: Work::new(0),
            draining: false,
            counts: vec![RpcCounts::default(); Rpc::ALL.len()],
            received_bytes: 0,
            sent_bytes: 0,
            credits: limits::request::PROPOSALS_OUTSTANDING_MAX,
            held_bytes_max: limits::shard::SHARD_HELD_BYTES_MAX,
            #[cfg(any(test, feature = "testing"))]
            deny_every: 0,
            config,
        }
    }

    /// One turn of timers, watch delivery, input that waits. True if more of it is left.
    pub fn turn(&mut self, view: &View, now: Monotonic) -> bool {
        self.events_left = limits::slice::EVENTS_UNITS_PER_TURN;
        self.fire_timers(view, now);
        self.look_for_stalled(now);
        let mut work = Work::new(limits::slice::WATCH_UNITS);
        match self.hub.pump(&view.kv, &mut work) {
            // What is left is asked for below.
            Step::More | Step::Pending | Step::Done(()) => {}
        }
        if self.hub.next_timeout().is_some_and(|at| at <= now) {
            self.hub.handle_timeout(now, &mut work);
        }
        while let Some(stream) = self.hub.poll_ready() {
            if let Some(call) = self.watch_calls.get(&stream.to_u64()).copied() {
                self.deliver_watch(call, view);
            }
        }
        self.feed_starved(view, now);
        self.hub.has_work(&view.kv)
    }

    /// True if [`Front::read`] has something to do.
    pub fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// When [`Front::turn`] has to be called if nothing else happens.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        let connections = self.timers.first().map(|(at, _)| *at);
        let stalled = (self.connections_live > 0).then_some(self.stalled_look_at);
        [connections, stalled, self.hub.next_timeout()].into_iter().flatten().min()
    }

    /// The least revision that running reads and watches need.
    pub fn floor(&self) -> Option<Revision> {
        let reads = self.reading.iter().filter_map(|key| self.calls.get(*key)).filter_map(Call::floor);
        reads.chain(self.hub.floor()).min()
    }

    /// Graceful stop: open requests finish, nothing new begins.
    pub fn drain(&mut self, now: Monotonic) {
        self.draining = true;
        let keys: Vec<Key> = self.connections.iter().flatten().map(|connection| connection.key).collect();
        for key in keys {
            self.with_connection(key, |front, connection| {
                connection.session.go_away_graceful(now);
                front.after_events(connection);
            });
        }
        // What never ends by itself ends now.
        let streams: Vec<Key> =
            self.calls.iter().filter(|(_, call)| call.is_endless()).map(|(key, _)| key).collect();
        for key in streams {
            self.end_endless(key);
        }
    }

    /// True when no connection is left.
    pub fn is_empty(&self) -> bool {
        self.connections_live == 0
    }

    /// The next wish for the sequencer; never more than the credits allow.
    pub fn poll_wish(&mut self) -> Option<ToSequencer> {
        self.wishes.pop_front()
    }

    /// The next HTTP/1 request; answer with [`Front::answer_http1`].
    pub fn poll_http1(&mut self) -> Option<(Key, Http1Request)> {
        self.http1.pop_front()
    }

    /// Answers a connection's HTTP/1 request.
    pub fn answer_http1(
        &mut self,
        key: Key,
        now: Monotonic,
        code: u16,
        fields: &[(&str, &str)],
        body: Bytes,
    ) {
        self.with_connection(key, |front, connection| {
            connection.session.http1_response(now, code, fields, body);
            front.after_events(connection);
        });
    }

    /// The next thing to do for a connection; what is to be sent is in `transmit`, which comes in empty.
    ///
    /// Connections with little to send come first; those with much share `budget`, the bytes that the turn has for
    /// them, in turn. See [`Front::has_bulk`].
    pub fn poll_outgoing(&mut self, transmit: &mut Transmit, budget: &mut usize) -> Option<Outgoing> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        while let Some(key) = self.dirty.pop_front() {
            let Some(connection) = self.connection(key) else { continue };
            if connection.session.unsent_bytes() > limits::shard::SEND_SMALL_BYTES_MAX {
                self.bulk.push_back(key);
                continue;
            }
            transmit.set_bytes_max(limits::shard::SEND_BYTES_MAX);
            let outgoing = self.transmit(key, transmit);
            if outgoing.is_some() {
                return outgoing;
            }
        }
        while *budget > 0 {
            let key = self.bulk.pop_front()?;
            let is_alone = self.bulk.is_empty();
            transmit.set_bytes_max(if is_alone {
                limits::shard::SEND_BYTES_MAX
            } else {
                limits::shard::SEND_QUANTUM_BYTES
            });
            let outgoing = self.transmit(key, transmit);
            *budget = budget.saturating_sub(transmit.len());
            if outgoing.is_some() {
                return outgoing;
            }
        }
        None
    }

    /// True if the next turn has something to do for connections: they have much to send, or input that waits.
    pub fn has_bulk(&self) -> bool {
        !self.bulk.is_empty() || !self.starved.is_empty() && self.has_credit()
    }

    fn transmit(&mut self, key: Key, transmit: &mut Transmit) -> Option<Outgoing> {
        let connection = self.connection(key)?;
        connection.is_dirty = false;
        if connection.is_sending {
            return None;
        }
        connection.session.poll_transmit(transmit);
        if !transmit.is_empty() {
            connection.is_sending = true;
            connection.sent_bytes += transmit.len() as u64;
            self.sent_bytes += transmit.len() as u64;
            return Some(Outgoing::Send(key));
        }
        if connection.session.wants_close() {
            self.forget(key);
            return Some(Outgoing::Close(key));
        }
        if connection.receive_paused && !connection.is_starved && connection.session.wants_read() {
            // What it had to send is gone, and no end of a send will say so: the next turn goes on with its input.
            connection.is_starved = true;
            self.starved.push_back(key);
        }
        None
    }

    fn header(&self, view: &View, revision: Revision) -> ResponseHeader {
        let (cluster_id, member_id) = (self.config.cluster_id, self.config.member_id);
        ResponseHeader { cluster_id, member_id, revision, raft_term: view.term.0 }
    }

    /// Asks the sequencer on behalf of a call.
    fn wish(&mut self, call: Key, ask: Ask) {
        let bytes = match &ask {
            Ask::Propose(payload) | Ask::ProposeAndClean(payload) => payload.len(),
            _ => 0,
        };
        if let Some(call) = self.calls.get_mut(call) {
            call.wish_bytes = bytes;
        }
        self.outstanding += 1;
        self.outstanding_bytes += bytes;
        let ticket = Ticket { shard: self.config.shard, request: call.to_u64() };
        self.wishes.push_back(ToSequencer { ticket, ask });
    }

    fn has_credit(&self) -> bool {
        self.outstanding < self.credits
            && self.outstanding_bytes < limits::request::PROPOSAL_BYTES_OUTSTANDING_MAX
    }

    /// A reply of the sequencer.
    pub fn handle_reply(&mut self, message: FromSequencer, view: &View) {
        self.outstanding -= 1;
        let key = Key::from_u64(message.ticket.request);
        let Some(mut call) = self.calls.remove(key) else {
            unreachable!("a call waits until its wish is answered")
        };
        self.outstanding_bytes -= call.wish_bytes;
        self.reply(&mut call, message.reply, view);
    }

    /// Lets connections go on whose events waited for credits.
    fn feed_starved(&mut self, view: &View, now: Monotonic) {
        for _ in 0..self.starved.len() {
            if !self.has_credit() || self.events_left == 0 {
                return;
            }
            let Some(key) = self.starved.pop_front() else { return };
            self.with_connection(key, |front, connection| {
                connection.is_starved = false;
                front.take_events(connection, view, now);
            });
        }
    }

    /// Counts for metrics, in the order of `Rpc::ALL`.
    pub fn counts(&self) -> &[RpcCounts] {
        &self.counts
    }

    /// Bytes received and sent on all connections.
    pub fn traffic(&self) -> (u64, u64) {
        (self.received_bytes, self.sent_bytes)
    }

    /// True if a new view may matter to a watcher.
    pub fn has_watchers(&self) -> bool {
        self.hub.has_watchers()
    }

    /// How often clients have reached each bound, in the order of [`Bound::ALL`].
    pub fn bounds_reached(&self) -> &[u64; Bound::ALL.len()] {
        &self.bounds
    }

    /// Bytes that the sessions hold for their clients.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Number of watches.
    pub fn watches(&self) -> usize {
        self.hub.watches()
    }

    /// Watches of other shards, as the bound for the member counts them.
    pub fn set_watches_elsewhere(&mut self, watches: usize) {
        self.hub.set_watches_elsewhere(watches);
    }

    /// Watches, for metrics.
    pub fn watch_counts(&self) -> crate::pure::watch::Counts {
        self.hub.counts()
    }

    /// Gives it fewer credits than the server has, so that a test gets to their end.
    ///
    /// # Panics
    /// If they are more: the mailboxes have no room for them.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_credits(&mut self, credits: usize) {
        assert!(credits <= limits::request::PROPOSALS_OUTSTANDING_MAX, "mailboxes hold so many");
        self.credits = credits;
    }

    /// Gives it less memory for its sessions than the server has, so that a test gets to its end.
    #[cfg(test)]
    fn set_held_bytes_max(&mut self, bytes: usize) {
        self.held_bytes_max = bytes;
    }

    /// Canary M24.
    #[cfg(any(test, feature = "testing"))]
    pub fn deny_every(&mut self, writes: u64) {
        self.deny_every = writes;
    }

    /// How full its queues are now, for the checker of bounded memory.
    #[cfg(any(test, feature = "testing"))]
    pub fn queues(&self) -> Queues {
        let mut fullest = session::Queues::default();
        for session in self.connections.iter().flatten().map(|connection| connection.session.queues()) {
            fullest.unsent_bytes = fullest.unsent_bytes.max(session.unsent_bytes);
            fullest.output_bytes = fullest.output_bytes.max(session.output_bytes);
            fullest.control_replies = fullest.control_replies.max(session.control_replies);
            fullest.events = fullest.events.max(session.events);
            fullest.unfinished_bytes = fullest.unfinished_bytes.max(session.unfinished_bytes);
        }
        Queues {
            wishes: self.outstanding,
            wish_bytes: self.outstanding_bytes,
            session: fullest,
            watch_bytes: self.hub.queued_event_bytes_max(),
        }
    }

    /// Wishes not yet answered.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn new_call(&mut self, connection: Key, stream: StreamId, rpc: Rpc, state: State) -> Key {
        self.calls.insert(Call::new(connection, stream, rpc, state))
    }
}
