//! A member's parts put together: its log recovered, Raft resumed, the loop wired. The server and the
//! simulator start a member by these very steps; only the store of segments and the `Io` differ.

use std::sync::Arc;

use super::http::{Http, Metrics};
use super::placement::{self, Acceptor, FIRST};
use super::post::{Post, posts};
use super::{First, Sequencer, Shard, ShardSlot};
use crate::edge::mesh::{mailbox, published};
use crate::limits;
use crate::pure::cluster::{Member, context};
use crate::pure::front::{self, Front};
use crate::pure::node::{self, Node};
use crate::pure::raft::{self, ConfState, MemberId, Raft, StartRefused};
use crate::pure::types::LogIndex;
use crate::pure::wal::{
    self, FreshSegment, Identity, NoLog, Outcome, Recovery, RecoveryStart, Refused, Resume, SegmentBlock,
    Writer,
};
use crate::stdx::prng::Prng;

/// The log's segments, as recovery wants them: one call after the other, each done when it returns.
pub trait LogStore {
    /// Why a call failed.
    type Error;

    /// Numbers and sizes of all segments, in any order.
    fn segments(&self) -> Result<Vec<(u64, u64)>, Self::Error>;

    /// The first bytes of a segment, up to so many.
    fn read_head(&self, number: u64, bytes: usize) -> Result<Vec<u8>, Self::Error>;

    /// All of a segment.
    fn read_segment(&self, number: u64) -> Result<Vec<u8>, Self::Error>;

    /// Makes a segment of zeros, durably.
    fn create_segment(&self, number: u64, bytes: u64) -> Result<(), Self::Error>;

    /// Writes whole blocks, durably.
    fn write_synced(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why a log can't be used.
#[derive(Debug)]
pub enum RecoverError<E> {
    /// The store failed.
    Store(E),
    /// Recovery refused what it found.
    Refused(Refused),
}

/// What the log's store gave.
pub struct Log {
    /// Whose log it is.
    pub identity: Identity,
    writer: Writer,
    /// Entries to replay; `None` for a new member.
    start: Option<raft::Start>,
}

/// What was found.
pub enum Found {
    /// No log: this is a new member.
    Nothing(NoLog),
    /// A log, ready to be continued.
    Log(Box<Log>),
}

/// Recovers the log and gives it a fresh segment to go on in.
///
/// # Errors
/// The store's, or recovery's verdict; then nothing was changed.
pub fn recover<S: LogStore>(config: wal::Config, store: &S) -> Result<Found, RecoverError<S::Error>> {
    let segments = store.segments().map_err(RecoverError::Store)?;
    let mut blocks = Vec::with_capacity(segments.len());
    for (number, _) in &segments {
        let bytes = store.read_head(*number, wal::SEGMENT_HEADER_BYTES).map_err(RecoverError::Store)?;
        blocks.push(SegmentBlock { number: *number, bytes });
    }
    let mut recovery = Recovery::new(config, RecoveryStart::WHOLE, blocks).map_err(RecoverError::Refused)?;
    while let Some(number) = recovery.poll_segment() {
        let image = store.read_segment(number).map_err(RecoverError::Store)?;
        if segments.len() > 4 {
            tracing::info!(segment = number, of = segments.len(), "reading the log");
        }
        recovery.handle_segment(number, image.into()).map_err(RecoverError::Refused)?;
    }
    let recovered = match recovery.finish().map_err(RecoverError::Refused)? {
        Outcome::NoLog(none) => return Ok(Found::Nothing(none)),
        Outcome::Log(recovered) => recovered,
    };
    let writer =
        write_fresh(config, store, &recovered.fresh, recovered.resume).map_err(RecoverError::Store)?;
    // A crash between the log's creation and its first batch leaves an empty log.
    let is_new = recovered.entries.is_empty();
    let start = raft::Start {
        conf_state: ConfState::sole(MemberId(recovered.identity.member_id)),
        hard_state: recovered.hard_state,
        before: Default::default(),
        entries: recovered.entries,
        applied: LogIndex(0),
    };
    let start = (!is_new).then_some(start);
    Ok(Found::Log(Box::new(Log { identity: recovered.identity, writer, start })))
}

/// Makes the log of a new member; `salt` is random.
///
/// # Errors
/// The store's.
pub fn create<S: LogStore>(
    config: wal::Config,
    store: &S,
    none: &NoLog,
    salt: u64,
    identity: Identity,
) -> Result<Log, S::Error> {
    let (fresh, resume) = none.create(&config, salt, identity);
    let writer = write_fresh(config, store, &fresh, resume)?;
    Ok(Log { identity, writer, start: None })
}

/// Carries out the writes that recovery wants before anything else.
fn write_fresh<S: LogStore>(
    config: wal::Config,
    store: &S,
    fresh: &FreshSegment,
    resume: Resume,
) -> Result<Writer, S::Error> {
    store.create_segment(fresh.number, fresh.segment_bytes)?;
    store.write_synced(fresh.number, wal::SEGMENT_HEADER_BYTES as u64, &fresh.batches)?;
    store.write_synced(fresh.number, 0, &fresh.header)?;
    Ok(Writer::resume(config, resume))
}

impl Log {
    /// True if Raft has to be bootstrapped: making it then wants the first member.
    pub fn is_new(&self) -> bool {
        self.start.is_none()
    }

    /// Raft as the log has it.
    ///
    /// # Errors
    /// The log has members that this version does not know.
    ///
    /// # Panics
    /// If the log is new: see [`Log::is_new`].
    pub fn resume_raft(&mut self, config: raft::Config) -> Result<Raft, StartRefused> {
        let start = self.start.take().expect("a new log has nothing to resume");
        Raft::restart(config, start)
    }
}

/// Raft of a new cluster with this member alone.
pub fn bootstrap_raft(config: raft::Config, member: &Member) -> Raft {
    Raft::bootstrap(config, context::encode(member).into())
}

/// What a core takes with it to its thread. The first core's stays where it was made.
pub struct Seat<S> {
    pub(super) core: usize,
    /// Of a core that serves clients.
    pub(super) shard: Option<Shard>,
    pub(super) first: Option<First>,
    pub(super) post: Post<S>,
}

/// How a member's cores are wired.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    /// How many cores, at least 1.
    pub cores: usize,
    /// Clients that may be connected, on all cores together.
    pub connections_max: u64,
}

/// Wires a member: a seat for each core, the first core's first. `front` is for the first core; the others differ
/// in their seeds.
pub fn assemble<S: Send>(
    log: Log,
    raft: Raft,
    node: node::Config,
    front: front::Config,
    wiring: Wiring,
) -> Vec<Seat<S>> {
    let Wiring { cores, connections_max } = wiring;
    let member_id = log.identity.member_id;
    let mut node = Node::new(node, raft, log.writer, front.ids.share(cores, cores + 1));
    // One epoch slot for each core, and one for the metrics of the first.
    let (publisher, mut readers) = published(node.view(), cores + 1);
    let metrics_views = readers.pop().expect("one more than cores was made");
    let slots: Arc<[ShardSlot]> = (0..cores).map(|_| ShardSlot::new()).collect();
    let mut seeds = Prng::new(front.seed);
    let (mut wish_receivers, mut reply_senders) = (Vec::new(), Vec::new());
    let mut shards = Vec::new();
    for (core, views) in readers.into_iter().enumerate() {
        let (wishes, wish_receiver) = mailbox(limits::request::PROPOSALS_OUTSTANDING_MAX * 2);
        let (reply_sender, replies) = mailbox(limits::request::PROPOSALS_OUTSTANDING_MAX * 2);
        wish_receivers.push(wish_receiver);
        reply_senders.push(reply_sender);
        let mut front = front.clone();
        front.shard = u16::try_from(core).expect("cores are counted in thousands at most");
        front.ids = front.ids.share(core, cores + 1);
        if core != FIRST {
            front.seed = seeds.next_u64();
            front.session.h2.seed = seeds.next_u64();
            front.hub.seed = seeds.next_u64();
        }
        let (slot, slots) = (slots[core].clone(), Arc::clone(&slots));
        let (front, http) = (Front::new(front), Http::default());
        shards.push(Shard { front, views, wishes, replies, slot, slots, watches: 0, adopted: 0, http });
    }
    let sequencer = Sequencer::new(node, publisher, wish_receivers, reply_senders);
    let acceptor = Acceptor::new(&slots, connections_max);
    let mut first =
        Some(First { sequencer, acceptor, metrics: Metrics::new(member_id), slots, views: metrics_views });
    let seats = shards.into_iter().zip(posts(cores)).enumerate();
    seats
        .map(|(core, (shard, post))| {
            let shard = placement::serves(core, cores).then_some(shard);
            Seat { core, shard, first: first.take(), post }
        })
        .collect()
}
