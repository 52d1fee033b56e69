//! The loop of a core: reap, feed, drain, submit. Decides nothing.
//!
//! Owns: one `Io`, and the halves that this core carries: a shard, the sequencer, or both.
//! Takes: completions. Gives: them to `pure`, and what `pure` wants back to the `Io`.
//! Always true: a view is loaded after the bytes that it answers were reaped; a failed log write ends the
//! process before anything else is reaped.
//! Not here: what bytes mean, what a term is.

pub mod assemble;
mod http;
mod sequencer;
mod serve;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

pub use http::Http;
pub use sequencer::Sequencer;
pub use serve::serve;

use crate::edge::io::{CloseCause, Completion, ConnId, Io, SendPieces};
use crate::edge::mesh::{Reader, Receiver, Sender};
use crate::limits;
use crate::pure::front::{Front, Outgoing};
use crate::pure::node::{FromSequencer, ToSequencer, View};
use crate::pure::session::{Part, Piece, SharedBytes, Transmit};
use crate::pure::types::Revision;
use crate::stdx::time::Monotonic;

/// The least revision that one shard's running reads and watches need; the sequencer's cleaner stays below.
#[derive(Clone)]
pub struct FloorSlot(Arc<AtomicI64>);

impl FloorSlot {
    /// A shard that needs nothing.
    pub fn new() -> FloorSlot {
        FloorSlot(Arc::new(AtomicI64::new(Revision::MAX)))
    }

    fn announce(&self, floor: Option<Revision>) {
        self.0.store(floor.unwrap_or(Revision::MAX), Ordering::Release);
    }

    /// What was announced last.
    pub fn read(&self) -> Option<Revision> {
        Some(self.0.load(Ordering::Acquire)).filter(|floor| *floor != Revision::MAX)
    }
}

impl Default for FloorSlot {
    fn default() -> FloorSlot {
        FloorSlot::new()
    }
}

/// A shard's end of the mesh and its clients.
pub struct Shard {
    /// Its clients.
    pub front: Front,
    /// The published view and this shard's epoch slot.
    pub views: Reader<View>,
    /// Wishes to the sequencer; has room for all credits of the shard.
    pub wishes: Sender<ToSequencer>,
    /// Replies; has room for all credits of the shard.
    pub replies: Receiver<FromSequencer>,
    /// What its running reads need.
    pub floor: FloorSlot,
}

/// Why a loop ended.
#[derive(Debug)]
pub enum Stopped {
    /// It was asked to and is drained.
    Asked,
    /// The log's disk failed: exit code 74.
    LogFailed(std::io::Error),
}

/// One core's loop with both roles on it.
pub struct Loop<I: Io> {
    io: I,
    shard: Shard,
    sequencer: Sequencer,
    http: Http,
    completions: Vec<Completion<I::Socket>>,
    pieces: SendPieces,
    transmit: Transmit,
    connections_max: u64,
    stop: Box<dyn FnMut() -> bool>,
    stopping_since: Option<Monotonic>,
}

/// After this the connections that are left are cut.
const DRAIN: Duration = Duration::from_secs(5);

impl<I: Io> Loop<I> {
    /// Puts a core together.
    pub fn new(io: I, shard: Shard, sequencer: Sequencer, http: Http) -> Loop<I> {
        let (completions, pieces) = (Vec::new(), SendPieces::default());
        let transmit = Transmit::new(limits::shard::SEND_BYTES_MAX, limits::shard::SEND_PIECES_MAX);
        let stop = Box::new(|| false);
        let connections_max = u64::MAX;
        Loop {
            io,
            shard,
            sequencer,
            http,
            completions,
            pieces,
            transmit,
            connections_max,
            stop,
            stopping_since: None,
        }
    }

    /// Beyond so many connections, clients are turned away.
    pub fn limit_connections(&mut self, connections_max: u64) {
        self.connections_max = connections_max;
    }

    /// `stop` is asked after each wake of the loop and says whether to stop.
    pub fn stop_when(&mut self, stop: Box<dyn FnMut() -> bool>) {
        self.stop = stop;
    }

    /// The outside.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// The sequencer's half.
    pub fn sequencer(&mut self) -> &mut Sequencer {
        &mut self.sequencer
    }

    /// The shard's half.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// Turns until it is asked to stop or the log fails.
    pub fn run(&mut self) -> Stopped {
        let mut busy = true;
        loop {
            match self.turn(busy) {
                Ok(more) => busy = more,
                Err(stopped) => return stopped,
            }
        }
    }

    /// One turn; `busy`: there is more to do, so it only looks for completions. Says whether that is so again.
    ///
    /// # Errors
    /// The reason to stop.
    pub fn turn(&mut self, busy: bool) -> Result<bool, Stopped> {
        let timeout = if busy { Some(Duration::ZERO) } else { self.until_next_timeout() };
        let mut completions = std::mem::take(&mut self.completions);
        self.io.wait(timeout, &mut completions);
        let now = self.io.now();
        for completion in completions.drain(..) {
            self.feed(completion, now)?;
        }
        self.completions = completions;
        self.pass_wishes();
        let sequencer_busy = self.sequencer.turn(&mut self.io, now, std::slice::from_ref(&self.shard.floor));
        let shard_busy = self.drain_shard(now);
        self.http.answer(&mut self.shard, &self.sequencer, now);
        self.pass_wishes();
        self.submit_sends();
        let wishes_left = self.sequencer.has_wishes();
        if self.is_drained(now) {
            return Err(Stopped::Asked);
        }
        Ok(sequencer_busy || shard_busy || wishes_left)
    }

    fn until_next_timeout(&self) -> Option<Duration> {
        let stop = self.stopping_since.map(|since| since + DRAIN);
        let next = [self.sequencer.next_timeout(), self.shard.front.next_timeout(), stop]
            .into_iter()
            .flatten()
            .min()?;
        Some(next.since(self.io.now()))
    }

    fn feed(&mut self, completion: Completion<I::Socket>, now: Monotonic) -> Result<(), Stopped> {
        match completion {
            Completion::Incoming { socket, listener } => {
                if self.io.connections() as u64 >= self.connections_max {
                    return Ok(());
                }
                let conn = self.io.adopt(socket);
                if !self.shard.front.handle_accepted(conn.0, listener, now) {
                    self.io.close(conn);
                }
            }
            Completion::Received { conn, bytes } => {
                self.with_front(|front, view| front.handle_bytes(conn.0, &bytes, view, now));
            }
            Completion::Closed { conn, cause } => {
                let at_once = !matches!(cause, CloseCause::EndOfStream);
                if self.with_front(|front, view| front.handle_closed(conn.0, at_once, view, now)) {
                    self.io.close(conn);
                }
            }
            Completion::Sent { conn } => {
                self.with_front(|front, view| front.handle_sent(conn.0, view, now));
            }
            Completion::LogWritten { token, buffer } => self.sequencer.log_written(token, &buffer, now),
            Completion::LogFailed { token, error } => self.sequencer.log_failed(token, error)?,
            Completion::SegmentReady { number } => self.sequencer.node.handle_segment_ready(number),
            Completion::SegmentFailed { number, error } => {
                self.sequencer.segment_failed(number, error, now)?
            }
            Completion::Woken => {
                if self.stopping_since.is_none() && (self.stop)() {
                    self.stopping_since = Some(now);
                    self.io.stop_accepting();
                    self.shard.front.drain(now);
                }
            }
        }
        Ok(())
    }

    /// Lets the shard's clients see the newest view. A read that goes on beyond this announces what it needs
    /// before the epoch is left, because from then on the cleaner may run (H5).
    fn with_front<T>(&mut self, handle: impl FnOnce(&mut Front, &View) -> T) -> T {
        let views = self.shard.views.enter();
        let result = handle(&mut self.shard.front, views.load());
        self.shard.floor.announce(self.shard.front.floor());
        result
    }

    fn pass_wishes(&mut self) {
        while let Some(wish) = self.shard.front.poll_wish() {
            let sent = self.shard.wishes.send(wish);
            assert!(sent.is_ok(), "a shard stays within its credits");
        }
    }

    /// What the sequencer answered and published goes to the clients; true if long work is left.
    fn drain_shard(&mut self, now: Monotonic) -> bool {
        let views = self.shard.views.enter();
        let front = &mut self.shard.front;
        while let Some(reply) = self.shard.replies.receive() {
            front.handle_reply(reply, views.load());
        }
        let busy = front.turn(views.load(), now);
        self.shard.floor.announce(front.floor());
        busy
    }

    fn submit_sends(&mut self) {
        while let Some(outgoing) = self.shard.front.poll_outgoing(&mut self.transmit) {
            match outgoing {
                Outgoing::Send(conn) => {
                    fill(&mut self.pieces, &mut self.transmit);
                    self.io.send(ConnId(conn), &mut self.pieces);
                }
                Outgoing::Close(conn) => self.io.close(ConnId(conn)),
                Outgoing::PauseReceive(conn) => self.io.pause_receive(ConnId(conn)),
                Outgoing::ResumeReceive(conn) => self.io.resume_receive(ConnId(conn)),
            }
        }
    }

    fn is_drained(&mut self, now: Monotonic) -> bool {
        let Some(since) = self.stopping_since else { return false };
        let is_late = now.since(since) >= DRAIN;
        let is_done = self.shard.front.is_empty() && !self.sequencer.node.has_work_in_flight();
        if !is_done && !is_late {
            return false;
        }
        self.sequencer.node.stop();
        true
    }
}

/// A referenced piece as bytes that the kernel may read.
struct Referenced(SharedBytes, Range<usize>);

impl AsRef<[u8]> for Referenced {
    fn as_ref(&self) -> &[u8] {
        &(*self.0).as_ref()[self.1.clone()]
    }
}

/// Moves what a session gave into the pieces of a send; the transmit is empty afterwards.
fn fill(pieces: &mut SendPieces, transmit: &mut Transmit) {
    let (copied, parts) = transmit.take();
    let copied = Bytes::from(copied);
    for part in parts {
        pieces.push(match part {
            Part::Copied(range) => copied.slice(range),
            Part::Piece(Piece::Bytes(bytes)) => bytes,
            Part::Piece(Piece::Shared(memory, range)) => Bytes::from_owner(Referenced(memory, range)),
        });
    }
}
