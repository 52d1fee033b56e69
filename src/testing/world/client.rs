//! A client: its connection, its calls, its watches, and what it writes down of them.

use std::collections::{BTreeMap, VecDeque};

use super::answers;
use super::wire::{Got, Wire};
use super::{Event, MILLI, Outside, Phase, SECOND};
use crate::pure::api::codec::{Encode, encode};
use crate::pure::api::requests::{
    LeaseKeepAliveRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest,
};
use crate::pure::types::{LeaseId, Revision};
use crate::stdx::prng::Prng;
use crate::testing::history::{Call, Outcome, Refusal, Renewal, Request, Time, Told, Watch, What};

/// One client.
pub(super) struct Client {
    pub(super) id: usize,
    pub(super) prng: Prng,
    pub(super) link: Option<usize>,
    wire: Option<Wire>,
    ready: bool,
    /// Call of each stream.
    calls: BTreeMap<u32, usize>,
    watch_stream: Option<u32>,
    /// Open watches of the stream, by id.
    pub(super) watches: BTreeMap<i64, usize>,
    next_watch_id: i64,
    held: bool,
    /// A compaction has ended a watch of the stream: from then on it gets no progress when it asks, as with etcd.
    compacted: bool,
    keepalive_stream: Option<u32>,
    /// Keepalives without an answer, in order.
    renewals: Vec<usize>,
    pub(super) leases: Vec<LeaseId>,
    pub(super) next_lease: LeaseId,
    pub(super) next_value: u64,
    /// The greatest revision that it was told of.
    pub(super) latest: Revision,
    /// Watches to open again after the connection was lost.
    resume: Vec<WatchCreateRequest>,
    /// Calls to make again: reads of which nothing was heard, and what the member did not take.
    retry: VecDeque<Request>,
    /// The last byte of the link came then.
    heard: Time,
    /// It dials no sooner than this, and waits longer after each dial in vain.
    dial_from: Time,
    dial_delay: Time,
}

/// Wait after the first dial in vain; doubled up to the second one.
const DIAL_DELAY: Time = 10 * MILLI;
const DIAL_DELAY_MAX: Time = SECOND;
/// Calls that wait to be made again.
const RETRIES_MAX: usize = 16;

impl Client {
    pub(super) fn new(id: usize, seed: u64) -> Client {
        Client {
            id,
            prng: Prng::new(seed),
            link: None,
            wire: None,
            ready: false,
            calls: BTreeMap::new(),
            watch_stream: None,
            watches: BTreeMap::new(),
            next_watch_id: 1,
            held: false,
            compacted: false,
            keepalive_stream: None,
            renewals: Vec::new(),
            leases: Vec::new(),
            next_lease: 1,
            next_value: 0,
            latest: 1,
            resume: Vec::new(),
            retry: VecDeque::new(),
            heard: 0,
            dial_from: 0,
            dial_delay: DIAL_DELAY,
        }
    }

    fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("the client is connected")
    }
}

fn path(request: &Request) -> &'static str {
    match request {
        Request::Range(_) => "/etcdserverpb.KV/Range",
        Request::Put(_) => "/etcdserverpb.KV/Put",
        Request::Delete(_) => "/etcdserverpb.KV/DeleteRange",
        Request::Txn(_) => "/etcdserverpb.KV/Txn",
        Request::Compact(_) => "/etcdserverpb.KV/Compact",
        Request::Grant(_) => "/etcdserverpb.Lease/LeaseGrant",
        Request::Revoke(_) => "/etcdserverpb.Lease/LeaseRevoke",
    }
}

fn message(request: &Request) -> Vec<u8> {
    fn bytes(message: &impl Encode) -> Vec<u8> {
        encode(message)
    }
    match request {
        Request::Range(request) => bytes(request),
        Request::Put(request) => bytes(&crate::pure::api::requests::PutView::from(request)),
        Request::Delete(request) => bytes(request),
        Request::Txn(request) => bytes(request),
        Request::Compact(request) => bytes(request),
        Request::Grant(request) => bytes(request),
        Request::Revoke(request) => bytes(request),
    }
}

/// What a status means: definite, or nobody knows.
fn refusal(code: u32, text: &str) -> Outcome {
    let refusal = match (code, text) {
        (11, text) if text.contains("compacted") => Refusal::Compacted,
        (11, _) => Refusal::FutureRevision,
        (5, text) if text.contains("lease not found") => Refusal::LeaseNotFound,
        (9, text) if text.contains("lease already exists") => Refusal::LeaseExists,
        (8, text) if text.contains("space exceeded") => Refusal::NoSpace,
        (3 | 5 | 6 | 7 | 8 | 9 | 12 | 16, _) => Refusal::Other,
        _ => return Outcome::Unknown,
    };
    Outcome::Refused(refusal)
}

impl Outside {
    /// A client's turn.
    pub(super) fn client_acts(&mut self, id: usize) {
        let every = self.plan.call_every;
        let client = &mut self.clients[id];
        let next = every / 4 + client.prng.below(every * 3 / 2);
        let (connected, ready) = (client.link.is_some(), client.ready);
        self.after(next, Event::Client { client: id });
        if !connected {
            if self.clients[id].dial_from > self.now {
                return;
            }
            let link = self.dial(id);
            let (now, window, patience) = (self.now, self.plan.window, self.plan.patience);
            let client = &mut self.clients[id];
            (client.link, client.wire, client.ready) = (Some(link), Some(Wire::new(window)), false);
            client.heard = now;
            self.after(patience, Event::Patience { client: id, link });
        } else if ready {
            self.work(id);
        }
        self.flush(id);
    }

    /// Sends what the client's protocol has to say.
    fn flush(&mut self, id: usize) {
        let client = &mut self.clients[id];
        let (Some(link), Some(wire)) = (client.link, client.wire.as_mut()) else { return };
        let bytes = wire.take_output();
        self.client_sends(link, &bytes);
    }

    /// Number of calls that wait.
    pub(super) fn calls_waiting(&self, id: usize) -> usize {
        self.clients[id].calls.len()
    }

    pub(super) fn call(&mut self, id: usize, request: Request) {
        let (now, timeout) = (self.now, self.plan.call_timeout);
        let client = &mut self.clients[id];
        let link = client.link.expect("the client is connected");
        let stream = client.wire().open(path(&request));
        client.wire().message(stream, &message(&request), true);
        client.calls.insert(stream, self.history.calls.len());
        let life = self.network.links[link].life;
        let (invoked, returned) = (now, Time::MAX);
        self.history.calls.push(Call {
            client: id,
            life,
            invoked,
            returned,
            request,
            outcome: Outcome::Unknown,
        });
        self.after(timeout, Event::Timeout { client: id, link, stream });
    }

    pub(super) fn call_timed_out(&mut self, id: usize, link: usize, stream: u32) {
        let client = &mut self.clients[id];
        if client.link != Some(link) {
            return;
        }
        let Some(call) = client.calls.remove(&stream) else { return };
        client.wire().cancel(stream);
        self.history.calls[call].returned = self.now;
        let is_silent = client.heard < self.history.calls[call].invoked;
        let heard = client.heard;
        self.flush(id);
        if is_silent && self.now - heard > self.plan.patience {
            self.give_up(id, link);
        }
    }

    /// The link has not come up in time.
    pub(super) fn patience_ends(&mut self, id: usize, link: usize) {
        let client = &self.clients[id];
        if client.link == Some(link) && !client.ready {
            self.give_up(id, link);
        }
    }

    fn give_up(&mut self, id: usize, link: usize) {
        self.counts.patience += 1;
        let abort = self.clients[id].prng.chance(1, 2);
        self.hang_up(link, abort);
    }

    /// A call came to nothing that is known: a read may be asked again, a write may not.
    fn retry_if_safe(&mut self, id: usize, call: usize) {
        let request = &self.history.calls[call].request;
        let client = &mut self.clients[id];
        if !request.is_mutation() && client.retry.len() < RETRIES_MAX && client.prng.chance(3, 4) {
            client.retry.push_back(request.clone());
        }
    }

    /// The next call to make again.
    pub(super) fn take_retry(&mut self, id: usize) -> Option<Request> {
        let request = self.clients[id].retry.pop_front()?;
        self.counts.retries += 1;
        Some(request)
    }

    /// Opens a watch on the client's watch stream.
    pub(super) fn watch(&mut self, id: usize, mut request: WatchCreateRequest) {
        let now = self.now;
        let client = &mut self.clients[id];
        request.watch_id = client.next_watch_id;
        client.next_watch_id += 1;
        let stream = match client.watch_stream {
            Some(stream) => stream,
            None => client.wire().open("/etcdserverpb.Watch/Watch"),
        };
        client.watch_stream = Some(stream);
        client.watches.insert(request.watch_id, self.history.watches.len());
        client.wire().message(stream, &encode(&WatchRequest::Create(request.clone())), false);
        self.history.watches.push(Watch {
            request,
            sent: now,
            created: None,
            cancel_asked: false,
            told: Vec::new(),
            closed: None,
            asked_at_end: false,
        });
    }

    pub(super) fn cancel_watch(&mut self, id: usize, watch_id: i64) {
        let client = &mut self.clients[id];
        let Some(stream) = client.watch_stream else { return };
        let watch = client.watches[&watch_id];
        self.history.watches[watch].cancel_asked = true;
        client.wire().message(stream, &encode(&WatchRequest::Cancel(WatchCancelRequest { watch_id })), false);
    }

    pub(super) fn ask_progress(&mut self, id: usize) {
        let client = &mut self.clients[id];
        let Some(stream) = client.watch_stream else { return };
        client.wire().message(stream, &encode(&WatchRequest::Progress), false);
    }

    /// The watch stream is not read for a while, or again.
    pub(super) fn hold_watches(&mut self, id: usize, held: bool) {
        let client = &mut self.clients[id];
        let Some(stream) = client.watch_stream else { return };
        client.held = held;
        client.wire().hold(stream, held);
    }

    pub(super) fn is_held(&self, id: usize) -> bool {
        self.clients[id].held
    }

    pub(super) fn release_all(&mut self) {
        for id in 0..self.clients.len() {
            if self.clients[id].wire.is_some() {
                self.hold_watches(id, false);
                self.flush(id);
            }
        }
    }

    pub(super) fn ask_progress_at_end(&mut self) {
        let revision = self.truth.revision();
        for id in 0..self.clients.len() {
            if self.clients[id].watch_stream.is_none() {
                continue;
            }
            let watches: Vec<usize> = self.clients[id].watches.values().copied().collect();
            // A watch that begins in the future keeps its whole stream without an answer.
            let future =
                watches.iter().any(|watch| self.history.watches[*watch].request.start_revision > revision);
            if !future && !self.clients[id].compacted {
                watches.iter().for_each(|watch| self.history.watches[*watch].asked_at_end = true);
                self.ask_progress(id);
                self.flush(id);
            }
        }
    }

    pub(super) fn renew(&mut self, id: usize, lease: LeaseId) {
        let now = self.now;
        let client = &mut self.clients[id];
        let stream = match client.keepalive_stream {
            Some(stream) => stream,
            None => client.wire().open("/etcdserverpb.Lease/LeaseKeepAlive"),
        };
        client.keepalive_stream = Some(stream);
        client.wire().message(stream, &encode(&LeaseKeepAliveRequest { id: lease }), false);
        client.renewals.push(self.history.renewals.len());
        self.history.renewals.push(Renewal { lease, sent: now, returned: Time::MAX, ttl: None });
    }

    /// Watches that the last connection had.
    pub(super) fn take_resume(&mut self, id: usize) -> Option<WatchCreateRequest> {
        let request = self.clients[id].resume.pop()?;
        self.counts.resumed += 1;
        Some(request)
    }

    /// Bytes of the member.
    pub(super) fn client_receives(&mut self, link: usize, bytes: &[u8]) {
        let id = self.network.links[link].client;
        if self.clients[id].link != Some(link) {
            return;
        }
        let mut got = Vec::new();
        self.clients[id].heard = self.now;
        self.clients[id].wire().receive(bytes, &mut got);
        let mut leaving = false;
        for what in got {
            match what {
                Got::Ready => {
                    let client = &mut self.clients[id];
                    (client.ready, client.dial_delay) = (true, DIAL_DELAY);
                }
                Got::GoAway { last } => {
                    leaving = true;
                    self.not_taken(id, |stream| stream > last);
                }
                Got::Refused { stream } if self.clients[id].calls.contains_key(&stream) => {
                    self.not_taken(id, |of| of == stream);
                }
                Got::Refused { stream } => self.ended(id, stream, Outcome::Unknown, u32::MAX),
                Got::Message { stream, message } => self.message(id, stream, &message),
                Got::Ended { stream, code, text } => self.ended(id, stream, refusal(code, &text), code),
                Got::Reset { stream } => self.ended(id, stream, Outcome::Unknown, u32::MAX),
            }
        }
        self.flush(id);
        if leaving {
            self.clients[id].ready = false;
        }
    }

    /// The member says that it has not begun with some streams, and never will.
    fn not_taken(&mut self, id: usize, which: impl Fn(u32) -> bool) {
        let now = self.now;
        let client = &mut self.clients[id];
        let streams: Vec<u32> = client.calls.keys().copied().filter(|stream| which(*stream)).collect();
        for stream in streams {
            let client = &mut self.clients[id];
            client.wire().forget(stream);
            let call = client.calls.remove(&stream).expect("it was just listed");
            let call = &mut self.history.calls[call];
            (call.outcome, call.returned) = (Outcome::Refused(Refusal::NotTaken), now);
            self.counts.not_taken += 1;
            if client.retry.len() < RETRIES_MAX {
                client.retry.push_back(call.request.clone());
            }
        }
    }

    fn message(&mut self, id: usize, stream: u32, message: &[u8]) {
        let now = self.now;
        let client = &mut self.clients[id];
        if client.watch_stream == Some(stream) {
            self.watch_told(id, message);
        } else if client.keepalive_stream == Some(stream) {
            let (lease, ttl) = answers::lease(message);
            let at =
                client.renewals.iter().position(|renewal| self.history.renewals[*renewal].lease == lease);
            let Some(at) = at else {
                self.violation("C7", format!("a keepalive's answer for lease {lease} that nobody waits for"));
                return;
            };
            let renewal = &mut self.history.renewals[client.renewals.remove(at)];
            (renewal.returned, renewal.ttl) = (now, Some(ttl));
            if ttl == 0 {
                client.leases.retain(|known| *known != lease);
            }
        } else if let Some(call) = client.calls.get(&stream).copied() {
            let call = &mut self.history.calls[call];
            let (revision, answer) = answers::answer(&call.request, message);
            if let (Request::Grant(grant), Outcome::Unknown) = (&call.request, &call.outcome) {
                client.leases.push(grant.id);
            }
            client.latest = client.latest.max(revision);
            call.outcome = Outcome::Answered { revision, answer };
            call.returned = now;
        }
    }

    fn ended(&mut self, id: usize, stream: u32, outcome: Outcome, code: u32) {
        let now = self.now;
        let client = &mut self.clients[id];
        if let Some(number) = client.calls.remove(&stream) {
            let call = &mut self.history.calls[number];
            if code != 0 {
                let unknown = outcome == Outcome::Unknown;
                (call.outcome, call.returned) = (outcome, now);
                if unknown {
                    self.retry_if_safe(id, number);
                }
            }
        } else if client.watch_stream == Some(stream) {
            client.watch_stream = None;
            client.held = false;
            self.watches_closed(id);
        } else if client.keepalive_stream == Some(stream) {
            client.keepalive_stream = None;
            for renewal in std::mem::take(&mut client.renewals) {
                self.history.renewals[renewal].returned = now;
            }
        }
    }

    fn watch_told(&mut self, id: usize, message: &[u8]) {
        let now = self.now;
        let answer = answers::watch(message);
        let client = &mut self.clients[id];
        client.latest = client.latest.max(answer.revision);
        let at = |revision, what| Told { at: now, revision, what };
        if answer.watch_id == -1 {
            for watch in client.watches.values() {
                let watch = &mut self.history.watches[*watch];
                if watch.created.is_some() {
                    watch.told.push(at(answer.revision, What::Progress));
                }
            }
            return;
        }
        let Some(watch) = client.watches.get(&answer.watch_id).copied() else {
            // A watch that a compaction has ended answers a cancel once more, as with etcd.
            if answer.canceled && client.compacted {
                return;
            }
            self.violation("C3", format!("a response for watch {} that is not open", answer.watch_id));
            return;
        };
        let watch = &mut self.history.watches[watch];
        if answer.created {
            if watch.created.replace(answer.revision).is_some() {
                self.violation("C3", format!("watch {} was created twice", answer.watch_id));
            }
            return;
        }
        if answer.canceled {
            client.watches.remove(&answer.watch_id);
            let compact_revision = answer.compact_revision;
            client.compacted |= compact_revision > 0;
            self.counts.compacted_watches += u64::from(compact_revision > 0);
            watch.told.push(at(answer.revision, What::Canceled { compact_revision }));
        } else if answer.events.is_empty() {
            watch.told.push(at(answer.revision, What::Progress));
        } else {
            let (events, fragment) = (answer.events, answer.fragment);
            watch.told.push(at(answer.revision, What::Events { events, fragment }));
        }
    }

    /// The watch stream is gone: some of its watches will be opened again where they were.
    fn watches_closed(&mut self, id: usize) {
        let now = self.now;
        let client = &mut self.clients[id];
        client.compacted = false;
        for (_, watch) in std::mem::take(&mut client.watches) {
            let watch = &mut self.history.watches[watch];
            watch.closed = Some(now);
            if !watch.cancel_asked && client.prng.chance(3, 4) {
                let mut request = watch.request.clone();
                request.start_revision = next_revision(watch);
                client.resume.push(request);
            }
        }
    }

    /// The link is gone, and what went over it.
    pub(super) fn client_lost(&mut self, link: usize) {
        let id = self.network.links[link].client;
        if self.clients[id].link != Some(link) {
            return;
        }
        self.watches_closed(id);
        let now = self.now;
        let client = &mut self.clients[id];
        let calls = std::mem::take(&mut client.calls);
        for renewal in std::mem::take(&mut client.renewals) {
            self.history.renewals[renewal].returned = now;
        }
        (client.link, client.wire, client.ready, client.held) = (None, None, false, false);
        (client.watch_stream, client.keepalive_stream) = (None, None);
        client.next_watch_id = 1;
        let wait = client.dial_delay / 2 + client.prng.below(client.dial_delay);
        client.dial_from = now + wait;
        client.dial_delay = (2 * client.dial_delay).min(DIAL_DELAY_MAX);
        for (_, number) in calls {
            let call = &mut self.history.calls[number];
            call.returned = call.returned.min(now);
            if call.outcome == Outcome::Unknown {
                self.retry_if_safe(id, number);
            }
        }
    }

    /// True if new work is asked for.
    pub(super) fn is_working(&self) -> bool {
        self.phase < Phase::Rest
    }

    /// Stops reading the whole connection for a while.
    pub(super) fn doze(&mut self, id: usize) {
        let Some(link) = self.clients[id].link else { return };
        let time = self.delay(MILLI, 500 * MILLI);
        self.stop_reading(link, time);
    }
}

/// Where a watch would go on.
fn next_revision(watch: &Watch) -> Revision {
    let mut next = match (watch.request.start_revision, watch.created) {
        (0, Some(created)) => created + 1,
        (start, _) => start,
    };
    for told in &watch.told {
        match &told.what {
            What::Events { events, fragment: false } => {
                next = next.max(events.last().map_or(0, |event| event.kv.mod_revision) + 1);
            }
            What::Progress => next = next.max(told.revision + 1),
            What::Events { .. } | What::Canceled { .. } => {}
        }
    }
    next
}
