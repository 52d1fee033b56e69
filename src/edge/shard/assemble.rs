//! A member's parts put together: its log recovered, Raft resumed, the loop wired. The server and the
//! simulator start a member by these very steps; only the store of segments and the `Io` differ.

use super::http::Http;
use super::{FloorSlot, Loop, Sequencer, Shard};
use crate::edge::io::Io;
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

/// Wires a loop that carries both roles.
pub fn assemble<I: Io>(io: I, log: Log, raft: Raft, node: node::Config, front: front::Config) -> Loop<I> {
    let member_id = log.identity.member_id;
    let mut node = Node::new(node, raft, log.writer, front.ids.clone());
    let (publisher, mut readers) = published(node.view(), 1);
    let (wish_sender, wish_receiver) = mailbox(limits::request::PROPOSALS_OUTSTANDING_MAX * 2);
    let (reply_sender, reply_receiver) = mailbox(limits::request::PROPOSALS_OUTSTANDING_MAX * 2);
    let shard = Shard {
        front: Front::new(front),
        views: readers.pop().expect("one reader was made"),
        wishes: wish_sender,
        replies: reply_receiver,
        floor: FloorSlot::new(),
    };
    let sequencer = Sequencer::new(node, publisher, vec![wish_receiver], vec![reply_sender]);
    Loop::new(io, shard, sequencer, Http::new(member_id))
}
