//! Messages between members: raftpb.Message with our own types. Encoding is `wire::peer`'s.

use bytes::Bytes;

use super::conf::ConfState;
use super::types::{Entry, MemberId};
use crate::pure::types::{LogIndex, Term};

/// raftpb.MessageType, same numbers. Those that never travel (a member's messages to itself) are
/// calls and effects of [`super::Raft`] instead and have no place here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Proposals forwarded to the leader.
    #[default]
    Propose = 2,
    /// Entries from the leader.
    Append = 3,
    /// Answer to it.
    AppendResponse = 4,
    /// A candidate asks for a vote.
    Vote = 5,
    /// Answer to it.
    VoteResponse = 6,
    /// A snapshot from the leader.
    Snapshot = 7,
    /// The leader is alive.
    Heartbeat = 8,
    /// Answer to it.
    HeartbeatResponse = 9,
    /// Leadership is to go to `from`.
    TransferLeader = 13,
    /// The receiver is to campaign at once.
    TimeoutNow = 14,
    /// A follower asks for a read index.
    ReadIndex = 15,
    /// Answer to it.
    ReadIndexResponse = 16,
    /// Would you vote for me?
    PreVote = 17,
    /// Answer to it.
    PreVoteResponse = 18,
}

impl MessageKind {
    /// The kind of a number from the network; `None` for kinds that must not come from there.
    pub fn from_u64(number: u64) -> Option<MessageKind> {
        Some(match number {
            2 => MessageKind::Propose,
            3 => MessageKind::Append,
            4 => MessageKind::AppendResponse,
            5 => MessageKind::Vote,
            6 => MessageKind::VoteResponse,
            7 => MessageKind::Snapshot,
            8 => MessageKind::Heartbeat,
            9 => MessageKind::HeartbeatResponse,
            13 => MessageKind::TransferLeader,
            14 => MessageKind::TimeoutNow,
            15 => MessageKind::ReadIndex,
            16 => MessageKind::ReadIndexResponse,
            17 => MessageKind::PreVote,
            18 => MessageKind::PreVoteResponse,
            _ => return None,
        })
    }
}

/// raftpb.Message. A field that a kind does not use is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: MessageKind,
    /// The receiver.
    pub to: MemberId,
    /// The sender.
    pub from: MemberId,
    /// The sender's term; 0 in forwarded proposals and reads.
    pub term: Term,
    /// Term of the entry at `index`.
    pub log_term: Term,
    /// The entry before `entries`, the last one held, or the read index.
    pub index: LogIndex,
    /// Entries to append, or proposals.
    pub entries: Vec<Entry>,
    /// The sender's commit index.
    pub commit: LogIndex,
    /// With kind [`MessageKind::Snapshot`] only.
    pub snapshot: Option<SnapshotMeta>,
    /// The answer is no.
    pub reject: bool,
    /// The last index that the one who rejects may have in common.
    pub reject_hint: LogIndex,
    /// Read request or kind of campaign.
    pub context: Bytes,
}

/// raftpb.SnapshotMetadata; the data travels by other ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Members as of `index`.
    pub conf_state: ConfState,
    /// The last entry that it covers.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
}
