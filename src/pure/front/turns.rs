//! A connection's long answers: how many are made at once, what they keep, which requests wait.
//!
//! Owns: the connection's account of them. Takes: calls that come, change and go. Gives: whether one more may begin.
//! Always true: the account is the sum of what its calls were counted for; who waits goes on when those before it have
//! been taken by the client, in the order in which they came.
//! Not here: short answers, which are made at once whatever waits; how answers are made (`reads`).
//!
//! An answer of many records keeps a reference for each until the client has taken it, and a client that takes nothing
//! may ask for any number of them. etcd makes them all; here those of one connection are made one after the other once
//! they keep much, and what was asked meanwhile waits as it came.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Front;
use super::calls::{Call, State};
use super::connection::Connection;
use crate::limits::request::{
    KEPT_ANSWERS_BYTES_MAX, KEPT_ANSWERS_EARNED_BYTES_MAX, KEPT_ANSWERS_EARNED_PARTS, LONG_ANSWERS_MAX,
    WAITING_LISTS_BYTES_MAX,
};
use crate::pure::api::rpcs::{Kind, Rpc};
use crate::pure::node::View;
use crate::pure::session::StreamId;
use crate::stdx::slab::Key;

/// What such a call takes beside what it keeps: its places in tables, its state.
const CALL_BYTES: usize = 512;
/// What a client that reads nothing may be sent: its socket's buffers take it.
const SOCKET_BYTES: u64 = 8 << 20;

/// The account of one connection.
#[derive(Default)]
pub(super) struct Turns {
    /// Bytes that calls keep: records of their answers, and requests that are still looked at.
    kept: usize,
    /// Of it, requests that wait.
    waiting_bytes: usize,
    /// Long answers being made; a transaction's counts as [`LONG_ANSWERS_MAX`].
    made: u32,
    /// Calls that wait, some of which may be over.
    waiting: VecDeque<Key>,
}

impl Turns {
    /// Brings the account up to date with a call that has gone on.
    pub(super) fn count(&mut self, call: &mut Call) {
        self.release(call);
        (call.kept, call.made) = (call.state.kept_bytes(call.request_bytes), call.state.weight());
        self.kept += call.kept;
        self.made += call.made;
        if let State::Waiting { .. } = call.state {
            self.waiting_bytes += call.kept;
        }
    }

    /// A transaction that lists keys is with the sequencer.
    pub(super) fn count_asked(&mut self, call: &mut Call) {
        call.made = LONG_ANSWERS_MAX;
        self.made += call.made;
    }

    /// A call is over, or goes on outside of the account.
    pub(super) fn release(&mut self, call: &mut Call) {
        self.kept -= call.kept;
        self.made -= call.made;
        if let State::Waiting { .. } = call.state {
            self.waiting_bytes -= call.kept;
        }
        (call.kept, call.made) = (0, 0);
    }

    /// Bytes kept for the client.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept
    }

    /// True while answers are made: that nothing is sent is not the client's fault.
    pub(super) fn is_making(&self) -> bool {
        self.made > 0
    }

    /// `taken`: bytes of answers that the client has taken of late.
    fn has_room(&self, weight: u32, taken: u64) -> bool {
        let earned = taken.saturating_sub(SOCKET_BYTES) / KEPT_ANSWERS_EARNED_PARTS;
        let earned = earned.min(KEPT_ANSWERS_EARNED_BYTES_MAX) as usize;
        self.kept <= KEPT_ANSWERS_BYTES_MAX + earned && self.made + weight <= LONG_ANSWERS_MAX
    }

    /// So much waits that no further request is looked at.
    fn is_full(&self) -> bool {
        self.waiting_bytes > WAITING_LISTS_BYTES_MAX
    }
}

impl State {
    /// Bytes that it keeps for its client. `request`: those of its message, as long as that is looked at.
    fn kept_bytes(&self, request: usize) -> usize {
        CALL_BYTES
            + match self {
                State::Range { walk, .. } => request + walk.kept_bytes(),
                State::Txn { run, .. } => request + run.kept_bytes(),
                State::RangeStream(read) => request + read.kept_bytes(),
                State::Answering(answer) => answer.kept_bytes(),
                State::Waiting { message } => message.len(),
                State::Asked
                | State::TimeToLive { .. }
                | State::Renewal { .. }
                | State::Hash { .. }
                | State::Watch { .. }
                | State::KeepAlive { .. }
                | State::Health => 0,
            }
    }

    /// What it counts for among the long answers that are made at once.
    pub(super) fn weight(&self) -> u32 {
        match self {
            State::Range { .. } | State::Hash { .. } => 1,
            State::Txn { .. } => LONG_ANSWERS_MAX,
            State::RangeStream(read) => u32::from(read.floor().is_some()),
            _ => 0,
        }
    }
}

impl Connection {
    /// True if a long answer of this weight may begin now.
    pub(super) fn may_make(&self, weight: u32) -> bool {
        self.turns.has_room(weight, self.taken_of_late()) && !self.session.is_backlogged()
    }
}

impl Front {
    /// A request waits for its turn.
    pub(super) fn wait_for_turn(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        rpc: Rpc,
        message: Bytes,
    ) {
        let key = self.new_call(connection.key, stream, rpc, State::Waiting { message });
        connection.turns.count(self.calls.get_mut(key).expect("it was just made"));
        connection.turns.waiting.push_back(key);
        connection.calls.insert(stream, key);
    }

    /// Begins what waits, as long as there is room and the turn has work left for it.
    pub(super) fn begin_waiting(&mut self, connection: &mut Connection, view: &View) {
        while let Some(key) = connection.turns.waiting.front().copied() {
            let may_go_on = self.calls.get(key).is_none() || self.has_turn(connection) && self.may_work();
            if !may_go_on {
                return;
            }
            connection.turns.waiting.pop_front();
            let Some(mut call) = self.calls.remove(key) else { continue };
            connection.turns.release(&mut call);
            connection.calls.remove(&call.stream);
            let State::Waiting { message } = &call.state else {
                unreachable!("only such calls are in the queue")
            };
            if call.rpc.row().kind == Kind::Unary {
                self.unary(connection, call.stream, call.rpc, message, view);
            } else {
                self.open_server_stream(connection, call.stream, call.rpc, message, view);
            }
        }
    }

    /// True while the turn has work and credits for requests of the connection whose turn it is.
    pub(super) fn may_work(&self) -> bool {
        self.has_credit() && !self.events_work.is_spent()
    }

    /// True if the first of those that wait may begin.
    fn has_turn(&self, connection: &Connection) -> bool {
        let Some(call) = connection.turns.waiting.front().and_then(|key| self.calls.get(*key)) else {
            return false;
        };
        let weight = if call.rpc == Rpc::Txn { LONG_ANSWERS_MAX } else { 1 };
        connection.may_make(weight)
    }

    /// Tells the session what is kept. True if somebody who waits may go on.
    pub(super) fn tell_kept(&mut self, connection: &mut Connection) -> bool {
        let (kept, is_full) = (connection.turns.kept, connection.turns.is_full());
        let was_full = connection.session.set_kept(kept.min(KEPT_ANSWERS_BYTES_MAX), is_full);
        was_full && !is_full || self.has_turn(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_may_have_more_made() {
        let most = KEPT_ANSWERS_BYTES_MAX + KEPT_ANSWERS_EARNED_BYTES_MAX as usize;
        for (kept, made, taken, has_room) in [
            (KEPT_ANSWERS_BYTES_MAX, 0, 0, true),
            (KEPT_ANSWERS_BYTES_MAX + 1, 0, 0, false),
            (KEPT_ANSWERS_BYTES_MAX + 1, 0, SOCKET_BYTES, false),
            (KEPT_ANSWERS_BYTES_MAX + 1, 0, SOCKET_BYTES + KEPT_ANSWERS_EARNED_PARTS, true),
            (KEPT_ANSWERS_BYTES_MAX + 2, 0, SOCKET_BYTES + KEPT_ANSWERS_EARNED_PARTS, false),
            (most, 0, u64::MAX, true),
            (most + 1, 0, u64::MAX, false),
            (0, LONG_ANSWERS_MAX - 1, 0, true),
            (0, LONG_ANSWERS_MAX, u64::MAX, false),
        ] {
            let turns = Turns { kept, made, ..Turns::default() };
            assert_eq!(turns.has_room(1, taken), has_room, "{kept} {made} {taken}");
        }
    }
}
