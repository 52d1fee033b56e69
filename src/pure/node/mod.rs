//! The sequencer: one member put together. Events in, effects out; the server and the simulator drive the
//! same object.
//!
//! Owns: Raft, the log's writer, all replicated state, lease deadlines, who waits for which entry.
//! Takes: wishes of shards, completions of the log's disk, times, the floor of running reads.
//! Gives: log writes, views, replies, memory to drop once its readers have left.
//! Always true: a reply leaves after the view it belongs to; nothing is published inside an entry; what is
//! not synced here is not applied here.
//! Not here: sockets, files, clocks, encodings of clients.

mod clean;
mod messages;
mod start;
#[cfg(test)]
mod tests;
mod view;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use clean::Cleaner;
pub use messages::{Ask, FromSequencer, Refusal, Reply, Ticket, ToSequencer};
pub use start::Config;
pub use view::View;

use crate::limits;
use crate::pure::api::log_payload::{self, RequestIds};
use crate::pure::api::requests::{InternalRequest, LeaseCheckpoint, LeaseRevokeRequest, Operation};
use crate::pure::api::responses::{ResponseOp, TxnResponse};
use crate::pure::apply::{Applier, Outcome};
use crate::pure::lease::{Deadlines, Renewal};
use crate::pure::mvcc::Retired;
use crate::pure::raft::{Effect as RaftEffect, Entry, EntryKind, Persisted, ProposeRefused, Raft, Role};
use crate::pure::types::{LeaseId, LogIndex, Revision, Term};
use crate::pure::wal::{BatchBuffer, NeedSegment, WriteBatch, Writer};
use crate::stdx::time::Monotonic;
use crate::stdx::work::{Step, Work};

/// The log proves its end after this long without a write.
const IDLE_BATCH_AFTER: Duration = Duration::from_secs(1);
/// Entries whose keys are looked at together before they are applied.
const FORESEEN_ENTRIES: usize = 16;
/// A segment that could not be made is asked for again after this.
const SEGMENT_RETRY: Duration = Duration::from_secs(1);

/// What the node wants done, in this order.
#[must_use]
pub enum Effect {
    /// Make a file of zeros for the log; answer with [`Node::handle_segment_ready`] or `_failed`.
    PrepareSegment(NeedSegment),
    /// Publish a new view.
    Publish(Box<View>),
    /// Keep until every reader has left the present epoch, then drop.
    Retire(Vec<Retired>),
    /// Tell a shard.
    Reply(FromSequencer),
}

/// One member.
pub struct Node {
    config: Config,
    raft: Raft,
    log: Writer,
    applier: Applier,
    /// Kept while leading.
    deadlines: Option<Deadlines>,
    ids: RequestIds,
    /// Proposals of this turn.
    proposed: Vec<(Bytes, Option<Waiter>)>,
    /// Raft takes no more before something is committed: the proposals wait for that.
    log_is_full: bool,
    /// Who waits for which entry; ascending.
    waiting: VecDeque<(LogIndex, Waiter)>,
    /// Committed and synced, not yet applied; ascending.
    committed: VecDeque<Entry>,
    /// Up to here the keys of entries were foreseen.
    foreseen: LogIndex,
    /// The entry that is half applied.
    applying: Option<LogIndex>,
    applied: LogIndex,
    /// Entries that this member still has to see applied before it is ready.
    publishing: Publishing,
    expiring: Vec<(Ticket, LeaseId)>,
    cleaner: Cleaner,
    /// Something that views show has changed since the last one.
    unpublished: bool,
    replies: VecDeque<FromSequencer>,
    effects: VecDeque<Effect>,
    log_bytes: u64,
    idle_since: Option<Monotonic>,
    segment_retry: Option<Monotonic>,
    stopping: bool,
    counters: Counters,
    #[cfg(any(test, feature = "testing"))]
    planted: Planted,
}

/// Bugs that a test has planted.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// M13: leases go by the wall clock, which is ahead of the monotonic one by so many nanoseconds.
    pub wall_ahead: i64,
    /// M25: after a start the revision is that of the newest key.
    pub revision_of_newest_key: bool,
}

/// How full the sequencer's queues are.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Entries that are committed and not applied.
    pub committed: usize,
    /// Requests that wait for their entries.
    pub waiting: usize,
    /// Keepalives that wait for a revoke.
    pub expiring: usize,
}

/// What is to happen when an entry was applied.
#[derive(Clone, Copy, Debug)]
enum Waiter {
    /// Tell the client.
    Reply(Ticket),
    /// Tell the client when the compaction's space is back.
    ReplyWhenClean(Ticket),
    /// This member's own attributes or the cluster version.
    Published,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Publishing {
    /// Not leading yet.
    NotBegun,
    /// Waits for so many own entries.
    Waits(u32),
    Done,
}

/// Counts for metrics; all only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Proposals taken.
    pub proposals: u64,
    /// Proposals refused or lost.
    pub proposals_failed: u64,
    /// Leaders seen.
    pub leader_changes: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases renewed.
    pub leases_renewed: u64,
    /// Leases revoked.
    pub leases_revoked: u64,
    /// Leases whose expiry was proposed.
    pub leases_expired: u64,
    /// Puts applied, those of transactions included.
    pub puts: u64,
    /// Deletes applied, those of transactions included.
    pub deletes: u64,
    /// Transactions applied.
    pub txns: u64,
}

impl Counters {
    /// Counts what a transaction did: etcd's metrics know its puts and deletes too, and Kubernetes writes in no
    /// other way.
    fn add_txn(&mut self, response: &TxnResponse) {
        let mut txns = vec![response];
        while let Some(txn) = txns.pop() {
            for response in &txn.responses {
                match response {
                    ResponseOp::Put(_) => self.puts += 1,
                    ResponseOp::DeleteRange(_) => self.deletes += 1,
                    ResponseOp::Txn(nested) => txns.push(nested),
                    ResponseOp::Range(_) => {}
                }
            }
        }
    }
}

impl Node {
    /// A shard's wish.
    pub fn handle_ask(&mut self, wish: ToSequencer, now: Monotonic) {
        let ticket = wish.ticket;
        match wish.ask {
            Ask::Propose(payload) => self.propose(payload, Waiter::Reply(ticket)),
            Ask::ProposeAndClean(payload) => self.propose(payload, Waiter::ReplyWhenClean(ticket)),
            Ask::KeepAlive(id) => self.renew(ticket, id, now),
            Ask::TimeToLive(id) => {
                let now = self.lease_time(now);
                let remaining = self.deadlines.as_ref().and_then(|d| d.remaining_seconds(id, now));
                self.reply(ticket, Reply::Remaining(remaining));
            }
            Ask::Leases => {
                let ids = self.deadlines.iter().flat_map(Deadlines::soonest_first).collect();
                self.reply(ticket, Reply::Leases(ids));
            }
            Ask::Defragment => self.cleaner.defragment(ticket),
        }
    }

    fn propose(&mut self, payload: Bytes, waiter: Waiter) {
        let refusal = if self.stopping {
            Some(Refusal::Stopped)
        } else if Writer::cost_of(payload.len()) > self.log.room() {
            Some(Refusal::NoSpace)
        } else if self.committed.len() as u64 > limits::request::APPLY_BACKLOG_ENTRIES_MAX {
            Some(Refusal::TooManyRequests)
        } else {
            None
        };
        match (refusal, waiter) {
            (None, _) => {
                self.counters.proposals += 1;
                self.proposed.push((payload, Some(waiter)));
            }
            (Some(refusal), Waiter::Reply(ticket) | Waiter::ReplyWhenClean(ticket)) => {
                self.counters.proposals_failed += 1;
                self.reply(ticket, Reply::Refused(refusal));
            }
            (Some(_), Waiter::Published) => unreachable!("own entries are proposed without asking for room"),
        }
    }

    /// The clock of leases: the monotonic one, outside of canaries.
    fn lease_time(&self, now: Monotonic) -> Monotonic {
        #[cfg(any(test, feature = "testing"))]
        return Monotonic(now.0.saturating_add_signed(self.planted.wall_ahead));
        #[cfg(not(any(test, feature = "testing")))]
        return now;
    }

    /// The monotonic time of a time of leases.
    fn of_lease_time(&self, at: Monotonic) -> Monotonic {
        #[cfg(any(test, feature = "testing"))]
        return Monotonic(at.0.saturating_add_signed(-self.planted.wall_ahead));
        #[cfg(not(any(test, feature = "testing")))]
        return at;
    }

    /// Renews a lease; one that has expired waits for its revoke, so that nobody is told it lives (H13).
    fn renew(&mut self, ticket: Ticket, id: LeaseId, now: Monotonic) {
        let now = self.lease_time(now);
        let renewal = self.deadlines.as_mut().map_or(Renewal::Unknown, |d| d.renew(id, now));
        match renewal {
            Renewal::Renewed(ttl) => {
                self.counters.leases_renewed += 1;
                if self.applier.leases().get(id).is_some_and(|lease| lease.remaining_ttl > 0) {
                    let cleared = LeaseCheckpoint { id, remaining_ttl: 0 };
                    self.propose_own(Operation::LeaseCheckpoint(vec![cleared]), None);
                }
                self.reply(ticket, Reply::Renewed(ttl));
            }
            Renewal::Unknown => self.reply(ticket, Reply::Renewed(0)),
            Renewal::Expiring => self.expiring.push((ticket, id)),
        }
    }

    /// For so long nobody was listened to: keepalives that came in time wait still, so all leases last longer by it.
    pub fn was_deaf(&mut self, time: Duration) {
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.delay(time);
        }
    }

    fn propose_own(&mut self, operation: Operation, waiter: Option<Waiter>) {
        let request =
            InternalRequest { id: self.ids.next(), username: String::new(), auth_revision: 0, operation };
        self.proposed.push((log_payload::encode(&request).into(), waiter));
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.replies.push_back(FromSequencer { ticket, reply });
    }

    /// A log write is durable.
    ///
    /// # Panics
    /// Never on a write that succeeded in full; a short write is the caller's to report as failed.
    pub fn handle_log_written(&mut self, token: u64, bytes: usize, now: Monotonic) {
        let persisted = self.log.handle_written(token, bytes).expect("a short write was reported as written");
        self.persisted(persisted);
        self.idle_since = Some(now);
    }

    /// A log write failed: the process stops; in tests a canary may go on.
    ///
    /// # Errors
    /// Always, outside of canaries.
    pub fn handle_log_failed(&mut self, token: u64) -> Result<(), crate::pure::wal::Poisoned> {
        let persisted = self.log.handle_write_failed(token)?;
        self.persisted(persisted);
        Ok(())
    }

    fn persisted(&mut self, persisted: Persisted) {
        self.raft.handle_persisted(persisted).expect("the log reports what it was given, in order");
    }

    /// A segment is there.
    pub fn handle_segment_ready(&mut self, number: u64) {
        self.log.handle_segment_ready(number);
        self.segment_retry = None;
    }

    /// A segment could not be made for want of space: proposals that don't fit are refused until it can.
    pub fn handle_segment_failed(&mut self, number: u64, now: Monotonic) {
        self.log.handle_segment_failed(number);
        self.segment_retry = Some(now + SEGMENT_RETRY);
    }

    /// Bytes of all log files, for views.
    pub fn set_log_bytes(&mut self, bytes: u64) {
        self.unpublished |= self.log_bytes != bytes;
        self.log_bytes = bytes;
    }

    /// True when the log has something to write and no write in flight.
    pub fn poll_log_write(&mut self, buffer: &mut impl BatchBuffer) -> Option<WriteBatch> {
        self.log.poll_write(buffer)
    }

    /// True if [`Node::poll_log_write`] has something to give, were no write in flight.
    pub fn has_log_writes(&self) -> bool {
        self.log.has_pending()
    }

    /// One turn: proposes what has come in, applies a slice of what is committed, cleans a slice.
    /// True if it has more to do at once.
    pub fn turn(&mut self, now: Monotonic) -> bool {
        self.check_timers(now);
        self.feed_raft(now);
        let mut work = Work::new(limits::slice::APPLY_UNITS);
        self.apply_some(&mut work, now);
        // What applying set off (an election, own proposals) does not wait for another event.
        self.feed_raft(now);
        self.flush();
        let may_propose = !self.proposed.is_empty() && !self.log_is_full;
        !self.committed.is_empty() || self.applying.is_some() || may_propose
    }

    fn check_timers(&mut self, now: Monotonic) {
        let lease_time = self.lease_time(now);
        let due = self.deadlines.as_mut().map(|d| d.poll_due(lease_time)).unwrap_or_default();
        for id in due {
            self.counters.leases_expired += 1;
            self.propose_own(Operation::LeaseRevoke(LeaseRevokeRequest { id }), None);
        }
        if self.segment_retry.is_some_and(|at| at <= now) {
            self.segment_retry = None;
            self.log.retry_segment();
        }
        if self.idle_since.is_some_and(|since| now.since(since) >= IDLE_BATCH_AFTER) {
            self.idle_since = None;
            self.log.idle_batch();
        }
    }

    /// When [`Node::turn`] has to be called if nothing else happens.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        let leases = self.deadlines.as_ref().and_then(Deadlines::next_timeout);
        let leases = leases.map(|at| self.of_lease_time(at));
        let idle =
            self.idle_since.filter(|_| self.log.needs_idle_batch()).map(|since| since + IDLE_BATCH_AFTER);
        [leases, idle, self.segment_retry].into_iter().flatten().min()
    }

    fn feed_raft(&mut self, now: Monotonic) {
        self.propose_all();
        while let Some(effect) = self.raft.poll_effect() {
            match effect {
                RaftEffect::Persist(persist) => {
                    self.log.append(persist.ticket, persist.hard_state, persist.entries)
                }
                RaftEffect::Apply { entries } => self.committed.extend(entries),
                RaftEffect::LeaderChanged { .. } => self.leader_changed(),
                RaftEffect::Send { .. } => unreachable!("a sole member has nobody to send to"),
                RaftEffect::ReadReady { .. } => unreachable!("reads of a sole member need no round"),
                RaftEffect::Dropped(_) => unreachable!("a sole leader drops no proposals"),
            }
        }
        while let Some(need) = self.log.poll_segment() {
            self.effects.push_back(Effect::PrepareSegment(need));
        }
        if self.idle_since.is_none() && self.log.needs_idle_batch() {
            self.idle_since = Some(now);
        }
    }

    /// Hands this turn's proposals to Raft. What it can't take now waits for a later turn.
    fn propose_all(&mut self) {
        if self.proposed.is_empty() || !self.leads() {
            return;
        }
        let payloads = self.proposed.iter().map(|(payload, _)| payload.clone());
        let mut index = match self.raft.propose(payloads) {
            Ok(proposed) => proposed.first,
            Err(ProposeRefused::Full) => {
                self.log_is_full = true;
                return;
            }
            Err(refused) => unreachable!("a sole leader takes requests: {refused:?}"),
        };
        self.log_is_full = false;
        for (_, waiter) in self.proposed.drain(..) {
            if let Some(waiter) = waiter {
                self.waiting.push_back((index, waiter));
            }
            index = index.next();
        }
    }

    fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    fn leader_changed(&mut self) {
        self.counters.leader_changes += 1;
        self.deadlines = None;
        self.unpublished = true;
    }

    fn apply_some(&mut self, work: &mut Work, now: Monotonic) {
        while !work.is_spent() {
            if let Some(index) = self.applying {
                match self.applier.step(work) {
                    Step::More | Step::Pending => return,
                    Step::Done(outcome) => {
                        self.applying = None;
                        self.finish_entry(index, outcome, now);
                    }
                }
                continue;
            }
            let Some(entry) = self.committed.front() else { return };
            assert_eq!(entry.index, self.applied.next(), "entries are applied in order");
            let index = entry.index;
            if index > self.foreseen {
                self.foresee();
            }
            let entry = self.committed.front().expect("it was just seen");
            work.charge(3);
            let put = match entry.kind {
                EntryKind::Normal => log_payload::decode_put(&entry.payload),
                EntryKind::ConfChange | EntryKind::ConfChangeV2 => None,
            };
            if let Some((_, put)) = put {
                let outcome = self.applier.put(&put);
                self.counters.puts += 1;
                self.committed.pop_front();
                self.finish_entry(index, outcome, now);
                continue;
            }
            let entry = self.committed.pop_front().expect("it was just seen");
            self.applying = Some(index);
            if let Some(outcome) = self.begin_entry(entry, work, now) {
                self.applying = None;
                self.finish_entry(index, outcome, now);
            }
        }
    }

    /// Has the keys of the next plain puts looked at together.
    fn foresee(&mut self) {
        let next = self.committed.iter().take(FORESEEN_ENTRIES);
        self.foreseen = LogIndex(self.applied.0 + next.len() as u64);
        let keys = next.filter(|entry| entry.kind == EntryKind::Normal).filter_map(|entry| {
            let (_, put) = log_payload::decode_put(&entry.payload)?;
            Some(put.key)
        });
        self.applier.foresee(keys);
    }

    /// Begins an entry that is no plain put.
    fn begin_entry(&mut self, entry: Entry, work: &mut Work, now: Monotonic) -> Option<Outcome> {
        if entry.kind != EntryKind::Normal {
            let (change, member) = start::bootstrap_change(&entry);
            self.raft.apply_conf_change(Some(&change)).expect("the sole member is this one");
            self.applier.add_member(member);
            return Some(Outcome::Nothing);
        }
        if entry.payload.is_empty() {
            self.own_term_begins(entry.term, now);
            return Some(Outcome::Nothing);
        }
        let request = log_payload::decode(&entry.payload).unwrap_or_else(|error| {
            panic!(
                "log entry {} can't be decoded ({error:?}): it was written by a newer version or the log is damaged; \
                 start the version that wrote it, or restore from a backup",
                entry.index.0
            )
        });
        match &request.operation {
            Operation::DeleteRange(_) => self.counters.deletes += 1,
            Operation::Txn(_) => self.counters.txns += 1,
            _ => {}
        }
        if request.operation.is_bounded() {
            return Some(self.apply_at_once(request.operation, work));
        }
        // What may take several slices starts from a published state, for nothing is published inside it.
        self.flush();
        self.applier.begin(request.operation)
    }

    /// Applies an operation whose work is bounded by its own size without a break.
    fn apply_at_once(&mut self, operation: Operation, work: &mut Work) -> Outcome {
        if let Some(outcome) = self.applier.begin(operation) {
            return outcome;
        }
        let mut unlimited = Work::new(u32::MAX);
        match self.applier.step(&mut unlimited) {
            Step::Done(outcome) => {
                work.charge(unlimited.used());
                outcome
            }
            Step::More | Step::Pending => unreachable!("records live in memory and the work is bounded"),
        }
    }

    /// The leader's empty entry was applied: reads may be served here and leases end from now on.
    fn own_term_begins(&mut self, term: Term, now: Monotonic) {
        if term != self.raft.term() || !self.leads() {
            return;
        }
        #[cfg(any(test, feature = "testing"))]
        if self.planted.revision_of_newest_key && self.publishing == Publishing::NotBegun {
            self.applier.store_mut().forget_revision();
        }
        let now = self.lease_time(now);
        self.deadlines = Some(Deadlines::promote(self.applier.leases(), now, self.config.election_timeout));
        if self.publishing == Publishing::NotBegun {
            let own = self.own_entries();
            self.publishing = Publishing::Waits(u32::try_from(own.len()).expect("two at most"));
            for operation in own {
                self.propose_own(operation, Some(Waiter::Published));
            }
        }
    }

    fn finish_entry(&mut self, index: LogIndex, outcome: Outcome, now: Monotonic) {
        self.applied = index;
        self.raft.handle_applied(index);
        self.unpublished = true;
        match &outcome {
            Outcome::LeaseGrant { id, ttl, .. } => {
                self.counters.leases_granted += 1;
                let now = self.lease_time(now);
                if let Some(deadlines) = &mut self.deadlines {
                    deadlines.granted(*id, *ttl, now);
                }
            }
            Outcome::LeaseRevoke { id, .. } => self.lease_revoked(*id),
            Outcome::Txn(response) => self.counters.add_txn(response),
            _ => {}
        }
        if self.waiting.front().is_none_or(|(waits_for, _)| *waits_for != index) {
            return;
        }
        let (_, waiter) = self.waiting.pop_front().expect("it was just seen");
        match waiter {
            Waiter::Reply(ticket) => self.reply(ticket, Reply::Applied(outcome)),
            Waiter::ReplyWhenClean(ticket) => match outcome {
                Outcome::Compaction { .. } => {
                    self.cleaner.wait(ticket, outcome, self.applier.store().compact_revision())
                }
                other => self.reply(ticket, Reply::Applied(other)),
            },
            Waiter::Published => {
                let Publishing::Waits(left) = self.publishing else {
                    unreachable!("own entries are counted")
                };
                self.publishing = Publishing::Waits(left - 1);
                if left == 1 {
                    self.publishing = Publishing::Done;
                }
            }
        }
    }

    fn lease_revoked(&mut self, id: LeaseId) {
        self.counters.leases_revoked += 1;
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.revoked(id);
        }
        let mut gone = Vec::new();
        self.expiring.retain(|(ticket, waits_for)| {
            if *waits_for == id {
                gone.push(*ticket);
            }
            *waits_for != id
        });
        for ticket in gone {
            self.reply(ticket, Reply::Renewed(0));
        }
    }

    /// Publishes if something changed, then lets the replies go.
    fn flush(&mut self) {
        let retired = self.applier.store_mut().take_retired();
        if self.unpublished && !self.applier.is_busy() {
            self.unpublished = false;
            let view = self.view();
            self.effects.push_back(Effect::Publish(Box::new(view)));
        }
        if !retired.is_empty() {
            self.effects.push_back(Effect::Retire(retired));
        }
        if !self.applier.is_busy() {
            self.effects.extend(self.replies.drain(..).map(Effect::Reply));
        }
    }

    /// The state now; only between entries.
    pub fn view(&mut self) -> View {
        assert!(!self.applier.is_busy(), "nothing is published inside an entry");
        let bytes = self.applier.store().bytes();
        View {
            kv: self.applier.store_mut().view(),
            leases: self.applier.leases().clone(),
            members: self.applier.members().clone(),
            cluster_version: self.applier.cluster_version().cloned(),
            applied: self.applied,
            committed: self.raft.committed(),
            term: self.raft.term(),
            leader: self.raft.leader().map_or(0, |leader| leader.0),
            local_read_ok: self.raft.reads_locally(),
            db_bytes: self.log_bytes,
            db_bytes_in_use: bytes.retained,
        }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// True if a compaction left something that may be cleaned with this floor.
    pub fn wants_cleaning(&self, floor: Option<Revision>) -> bool {
        !self.applier.is_busy() && self.cleaner.wants(self.applier.store().compact_revision(), floor)
    }

    /// Cleans a slice. `floor` is the least revision that any running read or watch still needs; the caller has
    /// waited until every shard saw the view with the present compact revision (H5).
    pub fn clean(&mut self, floor: Option<Revision>) {
        assert!(!self.applier.is_busy(), "cleaning waits for the entry to end");
        let mut work = Work::new(limits::slice::CLEAN_UNITS);
        let done = self.cleaner.clean(self.applier.store_mut(), floor, &mut work);
        for (ticket, reply) in done {
            self.unpublished = true;
            self.reply(ticket, reply);
        }
        self.unpublished |= work.used() > 0;
        self.flush();
    }

    /// From here on proposals are refused.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// True once the member has published itself: clients may be let in.
    pub fn is_ready(&self) -> bool {
        self.publishing == Publishing::Done
    }

    /// True while entries wait for the disk or to be applied.
    pub fn has_work_in_flight(&self) -> bool {
        !self.waiting.is_empty() || !self.proposed.is_empty() || self.applying.is_some()
    }

    /// Plants bugs.
    #[cfg(any(test, feature = "testing"))]
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Lets records lie in segments of another size, before the first one.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_record_segment_bytes(&mut self, bytes: usize) {
        self.applier.store_mut().set_segment_bytes(bytes);
    }

    /// How full its queues are now, for the checker of bounded memory.
    #[cfg(any(test, feature = "testing"))]
    pub fn queues(&self) -> Queues {
        Queues {
            committed: self.committed.len(),
            waiting: self.waiting.len() + self.proposed.len(),
            expiring: self.expiring.len(),
        }
    }

    /// Counts for metrics.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
