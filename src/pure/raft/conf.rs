//! Who votes, and how that changes.

use bytes::Bytes;

use super::types::MemberId;

/// raftpb.ConfState of a configuration that is not joint (etcd makes no others). Ids ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Members with a vote.
    pub voters: Vec<MemberId>,
    /// Members without.
    pub learners: Vec<MemberId>,
}

impl ConfState {
    /// A configuration of one.
    pub fn sole(member: MemberId) -> ConfState {
        ConfState { voters: vec![member], learners: Vec::new() }
    }

    /// How many voters make a majority.
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// True if the member is known, with or without a vote.
    pub fn contains(&self, member: MemberId) -> bool {
        self.voters.contains(&member) || self.learners.contains(&member)
    }
}

/// raftpb.ConfChangeType, same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfChangeKind {
    /// A voter comes, or a learner gets its vote.
    #[default]
    AddNode = 0,
    /// A member goes.
    RemoveNode = 1,
    /// A member's addresses change; nothing to Raft.
    UpdateNode = 2,
    /// A learner comes.
    AddLearnerNode = 3,
}

/// raftpb.ConfChange: the payload of an entry of that kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// Wakes the waiting client; 0 at bootstrap.
    pub id: u64,
    /// What changes.
    pub kind: ConfChangeKind,
    /// For whom.
    pub member: MemberId,
    /// The member as JSON, for the member list; may be empty.
    pub context: Bytes,
}

impl ConfChange {
    /// The bytes that etcd 3.5 writes: the first three fields always, the context unless it is empty.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(40 + self.context.len());
        for (field, value) in [(1, self.id), (2, self.kind as u64), (3, self.member.0)] {
            out.push(field << 3);
            put_varint(&mut out, value);
        }
        if !self.context.is_empty() {
            out.push(4 << 3 | 2);
            put_varint(&mut out, self.context.len() as u64);
            out.extend_from_slice(&self.context);
        }
        Bytes::from(out)
    }

    /// Reads what any etcd writes (absent fields are 0, the last of a repeated one counts); `None` if
    /// it is malformed, of an unknown type, or has fields that a ConfChange does not have.
    pub fn decode(bytes: &Bytes) -> Option<ConfChange> {
        let mut change = ConfChange::default();
        let mut at = 0;
        while at < bytes.len() {
            let tag = take_varint(bytes, &mut at)?;
            let value = take_varint(bytes, &mut at)?;
            match tag {
                0x08 => change.id = value,
                0x10 => {
                    change.kind = match value {
                        0 => ConfChangeKind::AddNode,
                        1 => ConfChangeKind::RemoveNode,
                        2 => ConfChangeKind::UpdateNode,
                        3 => ConfChangeKind::AddLearnerNode,
                        _ => return None,
                    }
                }
                0x18 => change.member = MemberId(value),
                0x22 => {
                    let end = at.checked_add(usize::try_from(value).ok()?)?;
                    if end > bytes.len() {
                        return None;
                    }
                    change.context = bytes.slice(at..end);
                    at = end;
                }
                _ => return None,
            }
        }
        Some(change)
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (shift < 63 || byte < 2).then_some(value);
        }
    }
    None
}
