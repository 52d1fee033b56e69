//! Listeners and connections of a ring.
//!
//! Owns: their sockets, what is under way on each, who waits for a receive buffer.
//! Takes: commands and completions. Gives: submissions, [`Completion`]s.
//! Always true: a connection is removed (and its socket closed) only when nothing is under way on it; a connection
//! in `starved` has no receive under way.
//! Not here: the buffers.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::error_of;
use super::queue::{Plain, Queue, Reaped};
use super::receive::{GROUP, ReceivePool};
use super::send::SendOperation;
use super::token::Token;
use crate::edge::host::Operation;
use crate::edge::io::{CloseCause, Completion, ConnId, SendPieces};
use crate::edge::net::{Acceptors, Listener};
use crate::edge::system;
use crate::stdx::slab::Slab;
use crate::stdx::time::Monotonic;

/// All sockets of a shard.
pub(super) struct Sockets {
    listeners: Acceptors,
    connections: Slab<Connection>,
    /// Connections whose receive ended for want of a buffer, in the order of their turns.
    starved: VecDeque<ConnId>,
}

struct Connection {
    socket: OwnedFd,
    receive: Receive,
    /// The loop wants bytes.
    wanted: bool,
    /// A cancel of the armed receive is on its way.
    cancelling: bool,
    /// End of stream or error: there will never be more.
    ended: bool,
    send: Box<SendOperation>,
    sending: bool,
    /// The loop has given it up.
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// Nothing under way.
    Idle,
    /// A multishot receive is under way.
    Armed,
    /// Waits in `starved`.
    Starved,
}

impl Sockets {
    pub(super) fn new(listeners: Vec<Listener>, queue: &mut Queue) -> Sockets {
        let mut sockets = Sockets {
            listeners: Acceptors::default(),
            connections: Slab::default(),
            starved: VecDeque::new(),
        };
        sockets.listen(listeners, queue);
        sockets
    }

    pub(super) fn listen(&mut self, listeners: Vec<Listener>, queue: &mut Queue) {
        for listener in listeners {
            let index = self.listeners.add(listener);
            self.arm_accept(index, queue);
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    // Accepting.

    pub(super) fn accepted(
        &mut self,
        reaped: Reaped,
        queue: &mut Queue,
        now: Monotonic,
        out: &mut Vec<Completion<OwnedFd>>,
    ) {
        let index = usize::try_from(reaped.token.number).expect("a position in the table");
        if reaped.result >= 0 {
            let socket = system::adopt(reaped.result);
            if !self.listeners.is_stopped(index) {
                out.push(Completion::Incoming { socket, listener: index });
            }
        }
        if reaped.more {
            return;
        }
        self.listeners.set_busy(index, false);
        if self.listeners.is_stopped(index) {
            self.listeners.close(index);
        } else if reaped.result >= 0 || self.listeners.failed(index, &error_of(reaped.result), now) {
            self.arm_accept(index, queue);
        }
    }

    /// Arms paused listeners whose time has come; gives the time until the next.
    pub(super) fn resume_accepting(&mut self, queue: &mut Queue, now: Monotonic) -> Option<Duration> {
        let mut resumed = Vec::new();
        let next = self.listeners.resume(now, |index| resumed.push(index));
        resumed.into_iter().for_each(|index| self.arm_accept(index, queue));
        next
    }

    pub(super) fn stop_accepting(&mut self, queue: &mut Queue) {
        for index in 0..self.listeners.len() {
            if !self.listeners.stop(index) {
                continue;
            }
            if self.listeners.is_busy(index) {
                let target = Token::of(Operation::Accept, index as u64);
                queue.push_plain(Plain::Cancel(target), Token::of(Operation::Cancel, 0));
            } else {
                self.listeners.close(index);
            }
        }
    }

    fn arm_accept(&mut self, index: usize, queue: &mut Queue) {
        let Some(socket) = self.listeners.socket(index) else { return };
        assert!(!self.listeners.is_busy(index), "one accept for each listener");
        let token = Token::of(Operation::Accept, index as u64);
        queue.push_plain(Plain::Accept(socket.as_raw_fd()), token);
        self.listeners.set_busy(index, true);
    }

    pub(super) fn adopt(&mut self, socket: OwnedFd, queue: &mut Queue) -> ConnId {
        let conn = ConnId(self.connections.insert(Connection {
            socket,
            receive: Receive::Idle,
            wanted: true,
            cancelling: false,
            ended: false,
            send: Box::new(SendOperation::new()),
            sending: false,
            closing: false,
        }));
        self.arm_receive(conn, queue);
        conn
    }

    // Receiving.

    pub(super) fn received(
        &mut self,
        reaped: Reaped,
        queue: &mut Queue,
        pool: &mut ReceivePool,
        out: &mut Vec<Completion<OwnedFd>>,
    ) {
        let conn = reaped.token.connection();
        let length = usize::try_from(reaped.result).unwrap_or(0);
        // Taken out in any case, and back home when dropped.
        let bytes = reaped.buffer.map(|number| pool.take(number, length));
        let connection = self.connections.get_mut(conn.0).expect("lives until its receive has ended");
        if !reaped.more {
            connection.receive = Receive::Idle;
            connection.cancelling = false;
        }
        if let Some(bytes) =
            bytes.filter(|bytes| !bytes.is_empty() && !connection.closing && !connection.ended)
        {
            out.push(Completion::Received { conn, bytes });
        }
        match -reaped.result {
            libc::ENOBUFS if !connection.closing && !reaped.more => {
                // Data is waiting, buffers are not: it gets its turn.
                connection.receive = Receive::Starved;
                self.starved.push_back(conn);
                return;
            }
            ..0 | libc::ECANCELED | libc::EINTR | libc::EAGAIN | libc::ENOBUFS => {}
            0 => self.receive_ended(conn, CloseCause::EndOfStream, out),
            _ => self.receive_ended(conn, CloseCause::ReceiveFailed(error_of(reaped.result)), out),
        }
        self.after_completion(conn, queue);
    }

    pub(super) fn pause_receive(&mut self, conn: ConnId, queue: &mut Queue) {
        let Some(connection) = self.connections.get_mut(conn.0).filter(|c| !c.closing) else { return };
        connection.wanted = false;
        connection.cancel_receive(conn, queue);
    }

    pub(super) fn resume_receive(&mut self, conn: ConnId, queue: &mut Queue) {
        let Some(connection) = self.connections.get_mut(conn.0).filter(|c| !c.closing) else { return };
        connection.wanted = true;
        if connection.receive == Receive::Idle && !connection.ended {
            self.arm_receive(conn, queue);
        }
    }

    /// Arms receives that ended for want of a buffer: as many as there are buffers, in turn. More would only fail
    /// again (pitfall 4 of the measurements).
    pub(super) fn arm_starved(&mut self, queue: &mut Queue, buffers: usize) {
        let mut left = buffers;
        while left > 0 {
            let Some(conn) = self.starved.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(conn.0) else { continue };
            if connection.receive != Receive::Starved {
                continue;
            }
            connection.receive = Receive::Idle;
            if connection.wanted {
                self.arm_receive(conn, queue);
                left -= 1;
            }
        }
    }

    fn arm_receive(&mut self, conn: ConnId, queue: &mut Queue) {
        let connection = self.connections.get_mut(conn.0).expect("armed while it lives");
        assert_eq!(connection.receive, Receive::Idle, "one receive at a time");
        connection.receive = Receive::Armed;
        let token = Token::of_connection(Operation::Receive, conn);
        queue.push_plain(Plain::Receive(connection.socket.as_raw_fd(), GROUP), token);
    }

    fn receive_ended(&mut self, conn: ConnId, cause: CloseCause, out: &mut Vec<Completion<OwnedFd>>) {
        let connection = self.connections.get_mut(conn.0).expect("checked by the caller");
        let is_news = !mem::replace(&mut connection.ended, true);
        if is_news && !connection.closing {
            out.push(Completion::Closed { conn, cause });
        }
    }

    // Sending.

    pub(super) fn send(&mut self, conn: ConnId, pieces: &mut SendPieces, queue: &mut Queue) {
        assert!(!pieces.is_empty(), "a send has bytes");
        let Some(connection) = self.connections.get_mut(conn.0).filter(|c| !c.closing) else {
            pieces.clear();
            return;
        };
        assert!(!mem::replace(&mut connection.sending, true), "one send at a time");
        connection.send.progress.start(pieces);
        connection.submit_send(conn, queue);
    }

    pub(super) fn sent(&mut self, reaped: Reaped, queue: &mut Queue, out: &mut Vec<Completion<OwnedFd>>) {
        let conn = reaped.token.connection();
        let connection = self.connections.get_mut(conn.0).expect("lives until its send has ended");
        match usize::try_from(reaped.result) {
            Ok(count) if count > 0 => {
                if connection.send.progress.advance(count) {
                    connection.sending = false;
                    if !connection.closing {
                        out.push(Completion::Sent { conn });
                    }
                } else if !connection.closing {
                    connection.submit_send(conn, queue);
                    return;
                }
            }
            _ if !connection.closing && matches!(-reaped.result, libc::EINTR | libc::EAGAIN) => {
                connection.submit_send(conn, queue);
                return;
            }
            _ => {
                if !connection.closing {
                    // Zero bytes sent of some to send would go on for ever: a failure like any other.
                    let number = if reaped.result == 0 { -libc::EPIPE } else { reaped.result };
                    let cause = CloseCause::SendFailed(error_of(number));
                    out.push(Completion::Closed { conn, cause });
                }
            }
        }
        if mem::replace(&mut connection.sending, false) {
            connection.send.progress.abandon();
        }
        self.after_completion(conn, queue);
    }

    // Closing.

    pub(super) fn close(&mut self, conn: ConnId, queue: &mut Queue) {
        let Some(connection) = self.connections.get_mut(conn.0).filter(|c| !c.closing) else { return };
        connection.closing = true;
        connection.wanted = false;
        connection.cancel_receive(conn, queue);
        if connection.sending {
            let target = Token::of_connection(Operation::Send, conn);
            queue.push_plain(Plain::Cancel(target), Token::of(Operation::Cancel, 0));
        }
        self.after_completion(conn, queue);
    }

    /// Closes the socket if that is due, or arms the receive again if it ended on the way.
    fn after_completion(&mut self, conn: ConnId, queue: &mut Queue) {
        let Some(connection) = self.connections.get(conn.0) else { return };
        let is_busy = connection.sending || connection.receive == Receive::Armed;
        if connection.closing {
            if !is_busy {
                drop(self.connections.remove(conn.0));
            }
        } else if connection.receive == Receive::Idle && connection.wanted && !connection.ended {
            self.arm_receive(conn, queue);
        }
    }

    /// Gives up everything that the kernel may still use.
    pub(super) fn leak(&mut self) {
        mem::forget(mem::take(&mut self.connections));
    }
}

impl Connection {
    fn submit_send(&mut self, conn: ConnId, queue: &mut Queue) {
        let entry = self.send.entry(self.socket.as_raw_fd());
        // SAFETY: the pieces, vectors and header are in the boxed operation, which is left alone until the
        // completion; the connection is removed only after that.
        unsafe { queue.push(entry, Token::of_connection(Operation::Send, conn)) }
    }

    fn cancel_receive(&mut self, conn: ConnId, queue: &mut Queue) {
        if self.receive == Receive::Armed && !mem::replace(&mut self.cancelling, true) {
            let target = Token::of_connection(Operation::Receive, conn);
            queue.push_plain(Plain::Cancel(target), Token::of(Operation::Cancel, 0));
        }
    }
}

#[cfg(test)]
impl Sockets {
    /// A second handle of a connection's socket.
    pub(super) fn socket(&self, conn: ConnId) -> OwnedFd {
        let connection = self.connections.get(conn.0).expect("is open");
        connection.socket.try_clone().expect("has descriptors")
    }
}
