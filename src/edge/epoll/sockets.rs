//! Listeners and connections of an epoll edge.
//!
//! Owns: their sockets, what is known of their readiness, the receive buffers.
//! Takes: commands and readiness. Gives: [`Completion`]s.
//! Always true: a connection that may have bytes, is wanted and has not ended is in `readable` once; what was
//! ready is asked for until the kernel says EAGAIN, or else no edge would come for it again.
//! Not here: waiting.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::edge::buffer::{Pool, ReceivedBytes};
use crate::edge::host::{Fault, Operation};
use crate::edge::io::{CloseCause, Completion, ConnId, SendPieces};
use crate::edge::net::{Acceptors, Listener, SendProgress};
use crate::edge::system;
use crate::limits::shard::{ACCEPTS_PER_TURN, COMPLETIONS_PER_TURN, SEND_PIECES_MAX};
use crate::stdx::slab::{Key, Slab};
use crate::stdx::time::Monotonic;

/// What a report of epoll is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The eventfd of the loop.
    Wake,
    /// A listener, by its position.
    Listener(usize),
    /// A connection, which may be closed by now.
    Connection(ConnId),
}

/// Set in the tokens of listeners; generations of connections have 31 bits.
const LISTENER_BIT: u64 = 1 << 63;

impl Source {
    pub(super) fn token(self) -> u64 {
        match self {
            Source::Wake => u64::MAX,
            Source::Listener(index) => LISTENER_BIT | index as u64,
            Source::Connection(conn) => conn.0.to_u64(),
        }
    }

    pub(super) fn of(token: u64) -> Source {
        match token {
            u64::MAX => Source::Wake,
            token if token & LISTENER_BIT != 0 => {
                Source::Listener(usize::try_from(token & !LISTENER_BIT).expect("a position in the table"))
            }
            token => Source::Connection(ConnId(Key::from_u64(token))),
        }
    }
}

/// All sockets of a loop.
pub(super) struct Sockets {
    /// Busy: clients may be waiting.
    listeners: Acceptors,
    connections: Slab<Connection>,
    pool: Pool,
    /// Whose turn it is to be received from; may name closed ones.
    readable: VecDeque<ConnId>,
    /// Whose blocked send may go on; may name closed ones.
    writable: Vec<ConnId>,
}

struct Connection {
    socket: OwnedFd,
    /// The kernel has said so, and not EAGAIN since.
    may_receive: bool,
    /// A hang-up or an error was reported: no further edge will tell of the end.
    hung_up: bool,
    /// Is in `readable`.
    queued: bool,
    /// The loop wants bytes.
    wanted: bool,
    /// End of stream or error: there will never be more.
    ended: bool,
    send: SendProgress,
    sending: bool,
    /// Readiness to send is reported too.
    reports_room: bool,
}

/// How a send stands.
enum Sent {
    Wholly,
    Blocked,
    Failed(io::Error),
}

impl Sockets {
    pub(super) fn new(receive_buffers: u16, receive_buffer_bytes: usize) -> Sockets {
        Sockets {
            listeners: Acceptors::default(),
            connections: Slab::default(),
            pool: Pool::new(receive_buffers, receive_buffer_bytes),
            readable: VecDeque::new(),
            writable: Vec::new(),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// True if the connection that it names, if any, is still there.
    pub(super) fn is_current(&self, completion: &Completion<OwnedFd>) -> bool {
        match completion {
            Completion::Received { conn, .. }
            | Completion::Closed { conn, .. }
            | Completion::Sent { conn } => self.connections.get(conn.0).is_some(),
            _ => true,
        }
    }

    /// Notes what epoll has reported.
    pub(super) fn note(&mut self, source: Source, events: i32) {
        match source {
            // What it says is in the wake's state.
            Source::Wake => {}
            Source::Listener(index) => self.listeners.set_busy(index, true),
            Source::Connection(conn) => {
                let Some(connection) = self.connections.get_mut(conn.0) else { return };
                let over = events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
                connection.hung_up |= over;
                if over || events & libc::EPOLLIN != 0 {
                    connection.may_receive = true;
                    self.queue_receive(conn);
                }
                let connection = self.connections.get_mut(conn.0).expect("was there");
                if connection.sending && (over || events & libc::EPOLLOUT != 0) {
                    self.writable.push(conn);
                }
            }
        }
    }

    /// True if there is something to do before the kernel reports anything.
    pub(super) fn has_work(&self) -> bool {
        let accepts = (0..self.listeners.len()).any(|index| self.may_accept(index));
        accepts || !self.writable.is_empty() || !self.readable.is_empty() && !self.pool.is_empty()
    }

    /// Does what is ready, up to the bounds of a turn.
    pub(super) fn work(&mut self, now: Monotonic, fault: &mut Fault, out: &mut Vec<Completion<OwnedFd>>) {
        self.accept(now, fault, out);
        for conn in mem::take(&mut self.writable) {
            if self.connections.get(conn.0).is_some_and(|connection| connection.sending) {
                self.go_on_sending(conn, fault, out);
            }
        }
        while out.len() < COMPLETIONS_PER_TURN && !self.pool.is_empty() {
            let Some(conn) = self.readable.pop_front() else { return };
            self.receive(conn, fault, out);
        }
    }

    // Accepting.

    pub(super) fn listen(&mut self, listener: Listener, epoll: BorrowedFd<'_>) {
        let index = self.listeners.add(listener);
        let listener = self.listeners.listener(index);
        listener.set_nonblocking().expect("a socket can be made non-blocking");
        let (add, edges) = (libc::EPOLL_CTL_ADD, libc::EPOLLIN | libc::EPOLLET);
        system::epoll_control(epoll, add, listener.socket(), edges, Source::Listener(index).token())
            .expect("few listeners fit into the limit of watched descriptors");
    }

    fn may_accept(&self, index: usize) -> bool {
        let listeners = &self.listeners;
        listeners.is_busy(index) && !listeners.is_paused(index) && !listeners.is_stopped(index)
    }

    fn accept(&mut self, now: Monotonic, fault: &mut Fault, out: &mut Vec<Completion<OwnedFd>>) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some(socket) = self.listeners.socket(index).filter(|_| self.may_accept(index)) else {
                    break;
                };
                match accept(socket, fault) {
                    Ok(socket) => out.push(Completion::Incoming { socket, listener: index }),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.listeners.set_busy(index, false);
                    }
                    // Passing errors are tried again at once, others after the pause.
                    Err(error) => drop(self.listeners.failed(index, &error, now)),
                }
            }
        }
    }

    /// Ends the pauses that are over; gives the time until the next.
    pub(super) fn resume_accepting(&mut self, now: Monotonic) -> Option<Duration> {
        // Busy all the while: they are accepted from as soon as they don't pause.
        self.listeners.resume(now, |_| {})
    }

    pub(super) fn stop_accepting(&mut self) {
        for index in 0..self.listeners.len() {
            if self.listeners.stop(index) {
                self.listeners.close(index);
            }
        }
    }

    pub(super) fn adopt(
        &mut self,
        socket: OwnedFd,
        epoll: BorrowedFd<'_>,
        ready: &mut Vec<Completion<OwnedFd>>,
    ) -> ConnId {
        let conn = ConnId(self.connections.insert(Connection {
            socket,
            may_receive: false,
            hung_up: false,
            queued: false,
            wanted: true,
            ended: false,
            send: SendProgress::default(),
            sending: false,
            reports_room: false,
        }));
        let connection = self.connections.get_mut(conn.0).expect("was just made");
        // What is there already is reported at once.
        if let Err(error) = connection.watch(conn, epoll, libc::EPOLL_CTL_ADD, 0) {
            // Memory, or the bound of watched descriptors: this client can't be served.
            connection.ended = true;
            ready.push(Completion::Closed { conn, cause: CloseCause::ReceiveFailed(error) });
        }
        conn
    }

    // Receiving.

    pub(super) fn pause_receive(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.wanted = false;
        }
    }

    pub(super) fn resume_receive(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.wanted = true;
            self.queue_receive(conn);
        }
    }

    fn queue_receive(&mut self, conn: ConnId) {
        let connection = self.connections.get_mut(conn.0).expect("checked by the caller");
        if connection.is_receivable() && !mem::replace(&mut connection.queued, true) {
            self.readable.push_back(conn);
        }
    }

    /// Receives one buffer; there is one.
    fn receive(&mut self, conn: ConnId, fault: &mut Fault, out: &mut Vec<Completion<OwnedFd>>) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        connection.queued = false;
        if !connection.is_receivable() {
            return;
        }
        let mut buffer = self.pool.take().expect("checked by the caller");
        let room = buffer.room().len();
        let result = system::receive(connection.socket.as_fd(), buffer.room());
        match fault.pass(Operation::Receive, result) {
            Ok(0) => {
                connection.ended = true;
                out.push(Completion::Closed { conn, cause: CloseCause::EndOfStream });
            }
            Ok(count) => {
                // A buffer that was not filled has emptied the socket; what comes later is reported again, but an
                // end that was reported is not.
                connection.may_receive = count == room || connection.hung_up;
                buffer.set_length(count);
                out.push(Completion::Received { conn, bytes: ReceivedBytes::lent(buffer) });
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => connection.may_receive = false,
                io::ErrorKind::Interrupted => {}
                _ => {
                    connection.ended = true;
                    out.push(Completion::Closed { conn, cause: CloseCause::ReceiveFailed(error) });
                }
            },
        }
        self.queue_receive(conn);
    }

    // Sending.

    pub(super) fn send(
        &mut self,
        conn: ConnId,
        pieces: &mut SendPieces,
        epoll: BorrowedFd<'_>,
        fault: &mut Fault,
        ready: &mut Vec<Completion<OwnedFd>>,
    ) {
        assert!(!pieces.is_empty(), "a send has bytes");
        let Some(connection) = self.connections.get_mut(conn.0) else {
            pieces.clear();
            return;
        };
        assert!(!mem::replace(&mut connection.sending, true), "one send at a time");
        connection.send.start(pieces);
        let blocked = !self.go_on_sending(conn, fault, ready);
        let connection = self.connections.get_mut(conn.0).expect("was there");
        if blocked && !mem::replace(&mut connection.reports_room, true) {
            // Room that came in between is reported at once.
            if let Err(error) = connection.watch(conn, epoll, libc::EPOLL_CTL_MOD, libc::EPOLLOUT) {
                connection.end_send();
                ready.push(Completion::Closed { conn, cause: CloseCause::SendFailed(error) });
            }
        }
    }

    /// Sends until all is sent, or there is no room (false).
    fn go_on_sending(&mut self, conn: ConnId, fault: &mut Fault, out: &mut Vec<Completion<OwnedFd>>) -> bool {
        let connection = self.connections.get_mut(conn.0).expect("checked by the caller");
        match connection.send_rest(fault) {
            Sent::Blocked => return false,
            Sent::Wholly => {
                connection.sending = false;
                out.push(Completion::Sent { conn });
            }
            Sent::Failed(error) => {
                connection.end_send();
                out.push(Completion::Closed { conn, cause: CloseCause::SendFailed(error) });
            }
        }
        true
    }

    // Closing.

    pub(super) fn close(&mut self, conn: ConnId) {
        // Closing the socket takes it out of epoll; an event that was reported before finds nothing.
        drop(self.connections.remove(conn.0));
    }
}

impl Connection {
    fn is_receivable(&self) -> bool {
        self.may_receive && self.wanted && !self.ended
    }

    fn watch(&self, conn: ConnId, epoll: BorrowedFd<'_>, control: i32, more: i32) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET | more;
        let token = Source::Connection(conn).token();
        system::epoll_control(epoll, control, self.socket.as_fd(), events, token)
    }

    fn send_rest(&mut self, fault: &mut Fault) -> Sent {
        loop {
            let (first, others) = self.send.rest();
            let mut slices = [IoSlice::new(&[]); SEND_PIECES_MAX];
            slices[0] = IoSlice::new(first);
            for (slice, piece) in slices[1..].iter_mut().zip(others) {
                *slice = IoSlice::new(piece);
            }
            let result = system::send(self.socket.as_fd(), &slices[..=others.len()]);
            match fault.pass(Operation::Send, result) {
                // Zero bytes sent of some to send would go on for ever: a failure like any other.
                Ok(0) => return Sent::Failed(io::Error::from_raw_os_error(libc::EPIPE)),
                Ok(count) if self.send.advance(count) => return Sent::Wholly,
                // A short send: mostly the next one says that there is no room.
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Sent::Blocked,
                    io::ErrorKind::Interrupted => {}
                    _ => return Sent::Failed(error),
                },
            }
        }
    }

    fn end_send(&mut self) {
        self.sending = false;
        self.send.abandon();
    }
}

/// Accepts one connection. What the hook takes away is closed.
fn accept(listener: BorrowedFd<'_>, fault: &mut Fault) -> io::Result<OwnedFd> {
    let socket = system::accept(listener);
    match socket {
        Ok(socket) => fault.pass(Operation::Accept, Ok(0)).map(|_| socket),
        Err(error) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_whole() {
        for key in [0, 1, 0x00ff_ffff, 0x7fff_ffff_0000_0000, 0x7fff_ffff_ffff_ffff, 5 << 32 | 77] {
            let source = Source::Connection(ConnId(Key::from_u64(key)));
            assert_eq!(Source::of(source.token()), source);
        }
        for source in [Source::Wake, Source::Listener(0), Source::Listener(77)] {
            assert_eq!(Source::of(source.token()), source);
        }
    }
}
