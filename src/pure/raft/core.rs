//! The state machine.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::conf::{ConfChange, ConfChangeKind, ConfState};
use super::log::Log;
use super::message::Message;
use super::types::{Entry, EntryKind, HardState, MemberId, Persisted, Ticket};
use crate::pure::types::{LogIndex, Term};
use crate::stdx::prng::Prng;

/// Raft of one member.
///
/// Drive it so, on every turn of the sequencer: feed what happened (`handle_*`, `propose`,
/// `read_index`), then call [`Raft::poll_effect`] until it gives `None`, carrying out each effect in
/// the order given. An effect says itself what it waits for.
///
/// ```text
///            persisted vote, quorum of votes
/// Follower --> PreCandidate --> Candidate --> Leader
///     ^ start      quorum of pre-votes
/// ```
#[derive(Debug)]
pub struct Raft {
    config: Config,
    conf: ConfState,
    role: Role,
    leader: Option<MemberId>,
    hard_state: HardState,
    /// Term and vote that the disk was given.
    hard_state_handed: HardState,
    log: Log,
    ticket_handed: Ticket,
    ticket_persisted: Ticket,
    /// Votes of this campaign. One's own is here only when it is on disk.
    votes: BTreeMap<MemberId, bool>,
    own_vote: OwnVote,
    /// While leader: what each voter has on disk.
    matches: BTreeMap<MemberId, LogIndex>,
    /// While leader: index of the entry that began the term.
    term_start: LogIndex,
    /// No second change of members before this one is applied.
    conf_index: LogIndex,
    uncommitted_bytes: usize,
    /// Reads that came before an entry of this term was committed.
    reads_waiting: Vec<u64>,
    effects: VecDeque<Effect>,
    /// Ticks since the leader was heard of, and how many make an election.
    ticks: u32,
    ticks_until_election: u32,
    prng: Prng,
}

/// What does not change while it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: MemberId,
    /// Ticks without a leader before a campaign, `--election-timeout` / `--heartbeat-interval`.
    pub election_ticks: u32,
    /// Ask before raising the term, `--pre-vote`.
    pub pre_vote: bool,
    /// Payload bytes that a leader takes beyond what is committed. Beyond: refused, unless none wait.
    pub uncommitted_bytes_max: usize,
    /// For the random part of the election timeout.
    pub seed: u64,
}

/// What a member knows when it starts; all of it on disk.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Voters and learners as of `applied`.
    pub conf_state: ConfState,
    /// The last one written.
    pub hard_state: HardState,
    /// Term and index of the entry before `entries`; (0, 0) for a log that is kept whole.
    pub before: (Term, LogIndex),
    /// The log from there on.
    pub entries: Vec<Entry>,
    /// Applied already, at least `before`, at most the commit index.
    pub applied: LogIndex,
}

/// A member's part in the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Makes the order.
    Leader,
}

/// Where this member's vote for itself is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnVote {
    None,
    /// Not given to the disk yet.
    Cast,
    /// On its way.
    Handed(Ticket),
}

/// What the driver has to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Put on disk; answer with [`Raft::handle_persisted`].
    Persist(Persist),
    /// Send, but not before this ticket is on disk.
    Send {
        /// The message.
        message: Message,
        /// What it waits for; nothing if it may leave at once.
        after: Option<Ticket>,
    },
    /// Apply in this order; answer with [`Raft::handle_applied`]. They are committed and on this disk.
    Apply {
        /// The next entries.
        entries: Vec<Entry>,
    },
    /// A read may be answered from a state that has applied `index`.
    ReadReady {
        /// What [`Raft::read_index`] was given.
        context: u64,
        /// The index.
        index: LogIndex,
    },
    /// Somebody else leads, or nobody does.
    LeaderChanged {
        /// In this term.
        term: Term,
        /// The leader, if known.
        leader: Option<MemberId>,
    },
    /// Will not happen any more.
    Dropped(Dropped),
}

/// One order to the disk: all or a prefix of it may get there, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Comes back in [`Raft::handle_persisted`].
    pub ticket: Ticket,
    /// To be on disk no later than the entries. Its commit index needs no sync of its own.
    pub hard_state: Option<HardState>,
    /// To be appended; an index that the disk has already overrides it and all behind it.
    pub entries: Vec<Entry>,
}

/// What was taken and is lost; only a change of leaders does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Entries that this member appended as leader and another leader overrode.
    Entries {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
    /// A read; ask again.
    Read {
        /// What [`Raft::read_index`] was given.
        context: u64,
    },
}

/// Positions that proposals got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Term of all of them.
    pub term: Term,
    /// Index of the first; the others follow.
    pub first: LogIndex,
}

/// A start that can't be right, or that this version can't do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartRefused {
    /// `before <= applied <= commit <= last` does not hold, or an entry is of a later term than the
    /// hard state.
    Positions,
    /// Other members than this one.
    OtherMembers,
}

/// Why proposals were not taken; none of them was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeRefused {
    /// The leader is this one, or nobody.
    NotLeader(Option<MemberId>),
    /// Too much waits to be committed.
    Full,
    /// A change of members is not applied yet.
    ConfChangePending,
    /// A change that needs other members.
    ConfChangeNotSupported,
}

/// Why a change of members was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfRefused {
    /// It brings or takes other members; this version can't go on with this log.
    OtherMembers,
}

/// Why there is no read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadRefused {
    /// The leader is this one, or nobody.
    NotLeader(Option<MemberId>),
}

/// Why leadership does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferRefused {
    /// The leader is this one, or nobody.
    NotLeader(Option<MemberId>),
    /// Not a voter.
    NoSuchVoter,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRefused {
    /// It is for somebody else, or the sender is not who it says.
    Misaddressed,
    /// The sender is no member that this one could hear of: there is one voter, and it is this one.
    UnknownSender,
}

/// Why a report of the disk can't be right. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistedRefused {
    /// More than the disk was given.
    NotHanded,
    /// Less than was reported before.
    OutOfOrder,
    /// Another entry stands at that index.
    OtherTerm,
}

impl Raft {
    /// The very first start of a cluster of one. As etcd does: entry 1 of term 1 adds the member and
    /// is committed from the outset; the first election makes term 2. `context` is the member's JSON.
    pub fn bootstrap(config: Config, context: Bytes) -> Raft {
        let change = ConfChange { id: 0, kind: ConfChangeKind::AddNode, member: config.id, context };
        let start = Start { conf_state: ConfState::sole(config.id), ..Start::default() };
        let mut raft = Raft::with(config, start);
        raft.hard_state = HardState { term: Term(1), ..HardState::default() };
        raft.append(EntryKind::ConfChange, change.encode());
        raft.log.commit_to(LogIndex(1));
        raft.hard_state.commit = LogIndex(1);
        raft.uncommitted_bytes = 0;
        raft.check_invariants();
        raft
    }

    /// A start with what recovery found. A sole voter campaigns as soon as the committed changes of
    /// members are applied (H29), which may be at once.
    ///
    /// # Errors
    /// What can't be, or needs other members.
    pub fn restart(config: Config, start: Start) -> Result<Raft, StartRefused> {
        let (term, last) = start.entries.last().map_or(start.before, |entry| (entry.term, entry.index));
        let HardState { term: newest_term, commit, .. } = start.hard_state;
        if start.applied < start.before.1 || commit < start.applied || last < commit || newest_term < term {
            return Err(StartRefused::Positions);
        }
        if start.conf_state != ConfState::sole(config.id) {
            return Err(StartRefused::OtherMembers);
        }
        let mut raft = Raft::with(config, start);
        raft.campaign_if_sole();
        raft.check_invariants();
        Ok(raft)
    }

    fn with(config: Config, start: Start) -> Raft {
        let prng = Prng::new(config.seed);
        let mut raft = Raft {
            config,
            conf: start.conf_state,
            role: Role::Follower,
            leader: None,
            hard_state: start.hard_state,
            hard_state_handed: start.hard_state,
            log: Log::new(start.before, start.entries, start.hard_state.commit, start.applied),
            ticket_handed: Ticket(0),
            ticket_persisted: Ticket(0),
            votes: BTreeMap::new(),
            own_vote: OwnVote::None,
            matches: BTreeMap::new(),
            term_start: LogIndex(0),
            conf_index: LogIndex(0),
            uncommitted_bytes: 0,
            reads_waiting: Vec::new(),
            effects: VecDeque::new(),
            ticks: 0,
            ticks_until_election: 0,
            prng,
        };
        raft.reset_ticks();
        raft
    }

    /// A message of another member. There is none in a cluster of one, so every message is refused,
    /// and by which rule is said: that a stranger's term counted for anything would be an outage.
    ///
    /// # Errors
    /// Always, in this version.
    pub fn handle_message(&mut self, from: MemberId, message: &Message) -> Result<(), MessageRefused> {
        if message.to != self.config.id || message.from != from {
            return Err(MessageRefused::Misaddressed);
        }
        assert_eq!(
            self.conf,
            ConfState::sole(self.config.id),
            "other members are refused at start and apply"
        );
        Err(MessageRefused::UnknownSender)
    }

    /// A tick of the heartbeat interval.
    pub fn handle_tick(&mut self) {
        self.ticks = self.ticks.saturating_add(1);
        let waits_for_disk = self.own_vote != OwnVote::None;
        // A slow disk is no reason to raise the term again: it would only have more to write.
        if self.role != Role::Leader && !waits_for_disk && self.ticks >= self.ticks_until_election {
            self.campaign();
        }
        self.check_invariants();
    }

    /// Appends requests, in order, in one go.
    ///
    /// # Errors
    /// When this member does not lead, or too much is uncommitted.
    pub fn propose(&mut self, payloads: impl IntoIterator<Item = Bytes>) -> Result<Proposed, ProposeRefused> {
        self.may_propose()?;
        let proposed = Proposed { term: self.hard_state.term, first: self.log.last().1.next() };
        for payload in payloads {
            assert!(!payload.is_empty(), "an empty entry is the leader's own");
            self.append(EntryKind::Normal, payload);
        }
        self.check_invariants();
        Ok(proposed)
    }

    /// Appends a change of members; one at a time.
    ///
    /// # Errors
    /// As [`Raft::propose`]; while another one is not applied; for what needs other members.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<Proposed, ProposeRefused> {
        self.may_propose()?;
        if self.log.applied() < self.conf_index {
            return Err(ProposeRefused::ConfChangePending);
        }
        if change.kind != ConfChangeKind::UpdateNode || change.member != self.config.id {
            return Err(ProposeRefused::ConfChangeNotSupported);
        }
        let proposed = Proposed { term: self.hard_state.term, first: self.log.last().1.next() };
        self.append(EntryKind::ConfChange, change.encode());
        self.conf_index = proposed.first;
        self.check_invariants();
        Ok(proposed)
    }

    /// An applied entry changed the members; `None` if it was void. Called before
    /// [`Raft::handle_applied`] for that entry.
    ///
    /// # Errors
    /// A change that brings or takes other members.
    pub fn apply_conf_change(&mut self, change: Option<&ConfChange>) -> Result<&ConfState, ConfRefused> {
        if let Some(change) = change {
            let own = change.member == self.config.id;
            let harmless = match change.kind {
                ConfChangeKind::AddNode | ConfChangeKind::UpdateNode => own,
                ConfChangeKind::RemoveNode | ConfChangeKind::AddLearnerNode => false,
            };
            if !harmless {
                return Err(ConfRefused::OtherMembers);
            }
        }
        Ok(&self.conf)
    }

    /// Asks from which index on a read is linearizable; [`Effect::ReadReady`] answers.
    ///
    /// # Errors
    /// When this member does not lead.
    pub fn read_index(&mut self, context: u64) -> Result<(), ReadRefused> {
        if self.role != Role::Leader {
            return Err(ReadRefused::NotLeader(self.leader));
        }
        self.reads_waiting.push(context);
        self.release_reads();
        self.check_invariants();
        Ok(())
    }

    /// Moves leadership to another voter; nothing to do if it is there already.
    ///
    /// # Errors
    /// When this member does not lead, or the target has no vote.
    pub fn transfer_leader(&mut self, target: MemberId) -> Result<(), TransferRefused> {
        if self.role != Role::Leader {
            return Err(TransferRefused::NotLeader(self.leader));
        }
        if !self.conf.voters.contains(&target) {
            return Err(TransferRefused::NoSuchVoter);
        }
        assert_eq!(target, self.config.id, "there is one voter, and it leads");
        Ok(())
    }

    /// The disk has all tickets up to `persisted.ticket`, and entries up to `persisted.index`.
    ///
    /// # Errors
    /// Reports that skip, go back or name what the disk was never given. The driver is broken then.
    pub fn handle_persisted(&mut self, persisted: Persisted) -> Result<(), PersistedRefused> {
        let Persisted { ticket, term, index } = persisted;
        if self.ticket_handed < ticket || self.log.handed() < index {
            return Err(PersistedRefused::NotHanded);
        }
        if ticket < self.ticket_persisted || index < self.log.persisted() {
            return Err(PersistedRefused::OutOfOrder);
        }
        // What was applied has left memory and is not looked at again.
        if self.log.term_at(index).is_some_and(|there| there != term) {
            return Err(PersistedRefused::OtherTerm);
        }
        self.ticket_persisted = ticket;
        self.log.persist_to(index);
        if let OwnVote::Handed(vote) = self.own_vote
            && vote <= ticket
        {
            self.own_vote = OwnVote::None;
            self.votes.insert(self.config.id, true);
            self.count_votes();
        }
        if self.role == Role::Leader {
            self.matches.insert(self.config.id, index);
            self.commit_by_quorum();
        }
        self.check_invariants();
        Ok(())
    }

    /// Entries up to `index` took effect.
    pub fn handle_applied(&mut self, index: LogIndex) {
        self.log.applied_to(index);
        if self.role == Role::Follower && self.own_vote == OwnVote::None {
            self.campaign_if_sole();
        }
        self.check_invariants();
    }

    /// The next thing to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        // The disk first: what waits for it refers to a ticket that was given before.
        if let Some(persist) = self.persist_next() {
            return Some(Effect::Persist(persist));
        }
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        self.log.has_applicable().then(|| Effect::Apply { entries: self.log.apply_next() })
    }

    /// This member's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The leader, if known.
    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// Term, vote and commit index as they would be written now.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Who votes.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf
    }

    /// The last index that is committed.
    pub fn committed(&self) -> LogIndex {
        self.log.committed()
    }

    /// The last index that was applied.
    pub fn applied(&self) -> LogIndex {
        self.log.applied()
    }

    /// Term and index of the last entry.
    pub fn last(&self) -> (Term, LogIndex) {
        self.log.last()
    }

    /// True when a read needs nobody else (H8): the sole voter leads and has applied an entry of its
    /// term, so nothing that was ever acknowledged is missing.
    pub fn reads_locally(&self) -> bool {
        let sole = self.conf.voters == [self.config.id];
        sole && self.role == Role::Leader && self.term_start <= self.log.applied()
    }

    fn may_propose(&self) -> Result<(), ProposeRefused> {
        if self.role != Role::Leader {
            return Err(ProposeRefused::NotLeader(self.leader));
        }
        if self.uncommitted_bytes > self.config.uncommitted_bytes_max {
            return Err(ProposeRefused::Full);
        }
        Ok(())
    }

    fn append(&mut self, kind: EntryKind, payload: Bytes) {
        self.uncommitted_bytes += payload.len();
        let index = self.log.last().1.next();
        self.log.append(Entry { term: self.hard_state.term, index, kind, payload });
    }

    fn persist_next(&mut self) -> Option<Persist> {
        let promised = (self.hard_state.term, self.hard_state.vote)
            != (self.hard_state_handed.term, self.hard_state_handed.vote);
        if !promised && !self.log.has_new() {
            return None;
        }
        self.ticket_handed = Ticket(self.ticket_handed.0 + 1);
        self.hard_state_handed = self.hard_state;
        if self.own_vote == OwnVote::Cast {
            self.own_vote = OwnVote::Handed(self.ticket_handed);
        }
        let entries = self.log.hand_out();
        Some(Persist { ticket: self.ticket_handed, hard_state: Some(self.hard_state), entries })
    }

    /// Nobody else could win, so there is nothing to wait for.
    fn campaign_if_sole(&mut self) {
        if self.conf.voters == [self.config.id] {
            self.campaign();
        }
    }

    fn campaign(&mut self) {
        self.reset_ticks();
        let votes = self.conf.voters.contains(&self.config.id);
        let unsettled = self.log.unapplied().any(|entry| entry.kind != EntryKind::Normal);
        if !votes || unsettled {
            return;
        }
        if !self.config.pre_vote {
            return self.stand_for_election();
        }
        self.role = Role::PreCandidate;
        self.votes.clear();
        // A pre-vote promises nothing, so one's own needs no disk.
        self.votes.insert(self.config.id, true);
        self.count_votes();
    }

    fn stand_for_election(&mut self) {
        self.role = Role::Candidate;
        self.votes.clear();
        self.hard_state.term = Term(self.hard_state.term.0.checked_add(1).expect("terms end before 2^64"));
        self.hard_state.vote = self.config.id;
        self.own_vote = OwnVote::Cast;
    }

    fn count_votes(&mut self) {
        let granted = |voter: &&MemberId| self.votes.get(voter) == Some(&true);
        if self.conf.voters.iter().filter(granted).count() < self.conf.quorum() {
            return;
        }
        match self.role {
            Role::PreCandidate => self.stand_for_election(),
            Role::Candidate => self.become_leader(),
            Role::Follower | Role::Leader => {}
        }
    }

    fn become_leader(&mut self) {
        self.role = Role::Leader;
        self.leader = Some(self.config.id);
        self.matches = self.conf.voters.iter().map(|voter| (*voter, LogIndex(0))).collect();
        self.matches.insert(self.config.id, self.log.persisted());
        // Changes of members in the unknown part of the log may yet take effect.
        self.conf_index = self.log.last().1;
        self.uncommitted_bytes = 0;
        self.append(EntryKind::Normal, Bytes::new());
        self.term_start = self.log.last().1;
        let (term, leader) = (self.hard_state.term, self.leader);
        self.effects.push_back(Effect::LeaderChanged { term, leader });
    }

    /// Commits what a quorum has on disk, if it is of this term (Raft thesis 3.6.2: older entries
    /// commit only below one of this term).
    fn commit_by_quorum(&mut self) {
        let mut matches: Vec<LogIndex> = self.conf.voters.iter().map(|voter| self.matches[voter]).collect();
        matches.sort_unstable_by(|a, b| b.cmp(a));
        let index = matches[self.conf.quorum() - 1];
        if index <= self.log.committed() || self.log.term_at(index) != Some(self.hard_state.term) {
            return;
        }
        // Entries before the term's first were not counted.
        let counted_to = self.log.committed().max(self.term_start);
        self.uncommitted_bytes -= self.log.payload_bytes(counted_to, index);
        self.log.commit_to(index);
        self.hard_state.commit = index;
        self.release_reads();
    }

    /// A leader knows what is committed once an entry of its term is. With a quorum of one there is
    /// nobody to ask whether it still leads.
    fn release_reads(&mut self) {
        let index = self.log.committed();
        if self.term_start <= index {
            assert_eq!(self.conf.quorum(), 1, "a larger quorum has to confirm the leader first");
            let ready = self.reads_waiting.drain(..).map(|context| Effect::ReadReady { context, index });
            self.effects.extend(ready);
        }
    }

    fn reset_ticks(&mut self) {
        self.ticks = 0;
        let random = self.prng.below(u64::from(self.config.election_ticks.max(1)));
        let random = u32::try_from(random).expect("below a number of 32 bits");
        self.ticks_until_election = self.config.election_ticks.saturating_add(random);
    }

    fn check_invariants(&self) {
        self.log.check_invariants();
        assert_eq!(self.hard_state.commit, self.log.committed(), "one commit index");
        assert!(self.log.last().0 <= self.hard_state.term, "no entry is of a later term");
        assert!(self.hard_state_handed.term <= self.hard_state.term, "terms only grow");
        assert!(self.ticket_persisted <= self.ticket_handed, "the disk has what it was given");
        assert_eq!(self.role == Role::Leader, self.leader == Some(self.config.id), "a leader knows it leads");
        if self.role == Role::Leader {
            assert_eq!(self.hard_state.vote, self.config.id, "a leader voted for itself");
            assert_eq!(self.own_vote, OwnVote::None, "a leader's vote is on disk");
        }
    }
}
