//! The loop of a core: reap, feed, drain, submit, wake. Decides nothing.
//!
//! Owns: one `Io`, and the halves that this core carries: a shard, the sequencer, or both; its end of the post.
//! Takes: completions, messages of other cores. Gives: them to `pure`, and what `pure` wants back to the `Io`.
//! Always true: a view is loaded after the bytes that it answers were reaped; a failed log write ends the
//! process before anything else is reaped; a core that was left something is woken after it was left.
//! Not here: what bytes mean, what a term is.

pub mod assemble;
mod beside;
mod crew;
mod http;
mod placement;
mod post;
mod sequencer;
mod serve;
mod slot;
#[cfg(test)]
mod tests;

#[cfg(all(test, etchd_loom))]
mod loom {
    mod tests;
}

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use assemble::Seat;
pub use sequencer::Sequencer;
pub use serve::serve;
pub use slot::ShardSlot;

use self::http::{Counts, Http, Metrics};
use self::placement::{Acceptor, FIRST};
use self::post::{Post, ToFirst, ToOther, send_first};
use crate::edge::io::{CloseCause, Completion, ConnId, Io, SendPieces, Waker};
use crate::edge::mesh::{Reader, Receiver, Sender};
use crate::limits;
use crate::pure::front::{Front, Outgoing};
use crate::pure::node::{FromSequencer, ToSequencer, View};
use crate::pure::session::{Part, Piece, SharedBytes, Transmit};
use crate::stdx::time::Monotonic;

/// A shard's end of the mesh and its clients.
pub struct Shard {
    /// Its clients.
    pub front: Front,
    /// The published view and this shard's epoch slot.
    pub views: Reader<View>,
    /// Wishes to the sequencer; has room for all credits of the shard.
    wishes: Sender<ToSequencer>,
    /// Replies; has room for all credits of the shard.
    replies: Receiver<FromSequencer>,
    /// What it announces.
    slot: ShardSlot,
    /// What all shards announce.
    slots: Arc<[ShardSlot]>,
    /// Watches, as announced.
    watches: usize,
    /// Connections ever adopted.
    adopted: u64,
    http: Http,
}

/// What only the first core has.
struct First {
    sequencer: Sequencer,
    acceptor: Acceptor,
    metrics: Metrics,
    /// Of all shards.
    slots: Arc<[ShardSlot]>,
    /// For metrics.
    views: Reader<View>,
}

/// Why a loop ended.
#[derive(Debug)]
pub enum Stopped {
    /// It was asked to and is drained.
    Asked,
    /// The log's disk failed: exit code 74.
    LogFailed(std::io::Error),
}

/// One core's loop: a shard, the sequencer, or both.
pub struct Loop<I: Io> {
    io: I,
    core: usize,
    shard: Option<Shard>,
    first: Option<First>,
    post: Post<I::Socket>,
    /// Of all cores, and which of them have something to be woken for.
    wakers: Vec<Waker>,
    to_wake: Vec<bool>,
    completions: Vec<Completion<I::Socket>>,
    pieces: SendPieces,
    transmit: Transmit,
    stop: Box<dyn FnMut() -> bool>,
    stopping_since: Option<Monotonic>,
}

/// After this the connections that are left are cut.
const DRAIN: Duration = Duration::from_secs(5);

impl<I: Io> Loop<I> {
    /// Puts a core together. `wakers`: of all cores, this one's too.
    pub fn new(io: I, seat: Seat<I::Socket>, wakers: Vec<Waker>) -> Loop<I> {
        let Seat { core, shard, first, post } = seat;
        let transmit = Transmit::new(limits::shard::SEND_BYTES_MAX, limits::shard::SEND_PIECES_MAX);
        Loop {
            io,
            core,
            shard,
            first,
            post,
            to_wake: vec![false; wakers.len()],
            wakers,
            completions: Vec::new(),
            pieces: SendPieces::default(),
            transmit,
            stop: Box::new(|| false),
            stopping_since: None,
        }
    }

    /// `stop` is asked after each wake of the first core's loop and says whether to stop.
    pub fn stop_when(&mut self, stop: Box<dyn FnMut() -> bool>) {
        self.stop = stop;
    }

    /// The outside.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// The sequencer, on the first core.
    pub fn sequencer(&mut self) -> &mut Sequencer {
        &mut self.first.as_mut().expect("the first core has the sequencer").sequencer
    }

    /// The newest view, on the first core.
    pub fn views(&mut self) -> &mut Reader<View> {
        &mut self.first.as_mut().expect("the first core has a reader of its own").views
    }

    /// The shard, if this core serves clients.
    pub fn shard(&mut self) -> Option<&mut Shard> {
        self.shard.as_mut()
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
        let deaf = self.io.deaf();
        if deaf >= Duration::from_nanos(limits::log::DEAF_NANOSECONDS_MIN) {
            self.sequencer().node.was_deaf(deaf);
        }
        for completion in completions.drain(..) {
            self.feed(completion, now)?;
        }
        self.completions = completions;
        self.take_post(now);
        self.pass_wishes();
        let mut busy = self.turn_sequencer(now);
        busy |= self.turn_shard(now);
        self.gather_metrics(now);
        self.pass_wishes();
        // What came meanwhile waits for a part of the long reads, or for a part of the long sends, not for both.
        if self.shard.as_ref().is_some_and(|shard| shard.front.has_bulk()) {
            busy |= self.submit_sends(limits::shard::SEND_BYTES_PER_TURN);
            busy |= self.is_reading();
        } else {
            busy |= self.read();
            busy |= self.submit_sends(0);
        }
        if let Some(First { sequencer, .. }) = &self.first {
            busy |= sequencer.has_wishes();
        }
        self.announce_connections();
        if self.is_drained(now) {
            return Err(Stopped::Asked);
        }
        self.announce_processor(busy);
        self.wake_others();
        Ok(busy)
    }

    /// How long the next turn may wait, if nothing else happens and it is not busy.
    pub fn until_next_timeout(&self) -> Option<Duration> {
        let now = self.io.now();
        let stop = self.stopping_since.map(|since| since + DRAIN);
        let first = self.first.as_ref().and_then(|first| first.sequencer.next_timeout(now));
        let shard = self.shard.as_ref().and_then(|shard| shard.front.next_timeout());
        let next = [first, shard, stop].into_iter().flatten().min()?;
        Some(next.since(now))
    }

    fn feed(&mut self, completion: Completion<I::Socket>, now: Monotonic) -> Result<(), Stopped> {
        match completion {
            Completion::Incoming { socket, listener } => self.place(socket, listener, now),
            Completion::Received { conn, bytes } => {
                self.serving().with_front(|front, view| front.handle_bytes(conn.0, &bytes, view, now));
            }
            Completion::Closed { conn, cause } => {
                let at_once = !matches!(cause, CloseCause::EndOfStream);
                let shard = self.serving();
                if shard.with_front(|front, view| front.handle_closed(conn.0, at_once, view, now)) {
                    self.io.close(conn);
                }
            }
            Completion::Sent { conn } => {
                self.serving().with_front(|front, view| front.handle_sent(conn.0, view, now));
            }
            Completion::LogWritten { token, buffer } => self.sequencer().log_written(token, &buffer, now),
            Completion::LogFailed { token, error } => self.sequencer().log_failed(token, error)?,
            Completion::SegmentReady { number } => self.sequencer().node.handle_segment_ready(number),
            Completion::SegmentFailed { number, error } => {
                self.sequencer().segment_failed(number, error, now)?
            }
            Completion::Woken => {
                if self.first.is_some() && self.stopping_since.is_none() && (self.stop)() {
                    self.io.stop_accepting();
                    self.begin_to_stop(now);
                }
            }
        }
        Ok(())
    }

    fn serving(&mut self) -> &mut Shard {
        self.shard.as_mut().expect("only a serving core has connections")
    }

    /// A client has connected: some shard takes it, or it is turned away.
    fn place(&mut self, socket: I::Socket, listener: usize, now: Monotonic) {
        let first = self.first.as_mut().expect("the first core accepts");
        let Some(core) = first.acceptor.choose(now) else { return };
        if core == self.core {
            return self.adopt(socket, listener, now);
        }
        let Post::First(lines, _) = &mut self.post else { unreachable!("the first core has all lines") };
        if lines[core - 1].send_connection(socket, listener) {
            self.to_wake[core] = true;
        } else {
            first.acceptor.take_back(core);
        }
    }

    fn adopt(&mut self, socket: I::Socket, listener: usize, now: Monotonic) {
        let conn = self.io.adopt(socket);
        let shard = self.serving();
        shard.adopted += 1;
        if !shard.front.handle_accepted(conn.0, listener, now) {
            self.io.close(conn);
        }
    }

    fn begin_to_stop(&mut self, now: Monotonic) {
        self.stopping_since = Some(now);
        if let Some(shard) = &mut self.shard {
            shard.front.drain(now);
        }
        if let Post::First(lines, _) = &mut self.post {
            for (line, wake) in lines.iter_mut().zip(&mut self.to_wake[1..]) {
                line.send(ToOther::Stop);
                *wake = true;
            }
        }
    }

    /// Messages of the other cores.
    fn take_post(&mut self, now: Monotonic) {
        match &mut self.post {
            Post::First(lines, gathering) => {
                for (line, core) in lines.iter_mut().zip(1..) {
                    while let Some(message) = line.receive() {
                        match message {
                            ToFirst::Counts(counts) => gathering.add(line, &counts),
                            ToFirst::WantMetrics => gathering.want(core),
                            ToFirst::Drained(last) => gathering.drained(line, last),
                        }
                    }
                }
            }
            Post::Other { .. } => {
                while let Some(message) = self.next_of_first() {
                    self.handle_first(message, now);
                }
            }
        }
    }

    fn next_of_first(&mut self) -> Option<ToOther<I::Socket>> {
        match &mut self.post {
            Post::First(..) => None,
            Post::Other { receiver, .. } => receiver.receive(),
        }
    }

    fn handle_first(&mut self, message: ToOther<I::Socket>, now: Monotonic) {
        match message {
            ToOther::Connection { socket, listener } => self.adopt(socket, listener, now),
            ToOther::Report => {
                let counts = self.serving().counts();
                self.tell_first(ToFirst::Counts(Box::new(counts)));
            }
            ToOther::Metrics(text) => {
                let shard = self.serving();
                shard.http.give_metrics(&mut shard.front, &text, now);
            }
            ToOther::Stop => self.begin_to_stop(now),
        }
    }

    fn tell_first(&mut self, message: ToFirst) {
        let Post::Other { sender, .. } = &mut self.post else {
            unreachable!("the first core tells itself nothing")
        };
        send_first(sender, message);
        self.to_wake[FIRST] = true;
    }

    fn pass_wishes(&mut self) {
        let Some(shard) = &mut self.shard else { return };
        while let Some(wish) = shard.front.poll_wish() {
            let sent = shard.wishes.send(wish);
            assert!(sent.is_ok(), "a shard stays within its credits");
            self.to_wake[FIRST] = true;
        }
    }

    fn turn_sequencer(&mut self, now: Monotonic) -> bool {
        let Some(First { sequencer, slots, .. }) = &mut self.first else { return false };
        sequencer.turn(&mut self.io, now, slots, &mut self.to_wake)
    }

    /// What the sequencer answered and published goes to the clients; true if long work is left.
    fn turn_shard(&mut self, now: Monotonic) -> bool {
        let Some(shard) = &mut self.shard else { return false };
        let has_watchers = shard.front.has_watchers();
        shard.slot.announce_interest(has_watchers);
        let busy = shard.drain(now);
        // The first watcher may have come in this very turn, after the interest was announced.
        busy || (!has_watchers && shard.front.has_watchers())
    }

    /// Metrics are sums over all cores: who wants them asks the first core, which asks the others.
    fn gather_metrics(&mut self, now: Monotonic) {
        let wants = self.shard.as_mut().is_some_and(|shard| shard.http.take_want());
        let Loop { shard, first, post, to_wake, .. } = self;
        let Post::First(lines, gathering) = post else {
            if wants {
                self.tell_first(ToFirst::WantMetrics);
            }
            return;
        };
        if wants {
            gathering.want(FIRST);
        }
        if gathering.is_due() {
            let own = shard.as_ref().map_or_else(Counts::none, Shard::counts);
            let asked = gathering.begin(own, lines);
            to_wake[1..].iter_mut().zip(asked).for_each(|(wake, asked)| *wake |= asked);
        }
        let Some((sum, cores)) = gathering.finish() else { return };
        let text = first.as_mut().expect("the first core gathers").metrics(&sum);
        for core in cores {
            if core == FIRST {
                let shard = shard.as_mut().expect("it asked");
                shard.http.give_metrics(&mut shard.front, &text, now);
            } else {
                lines[core - 1].send(ToOther::Metrics(text.clone()));
                to_wake[core] = true;
            }
        }
    }

    fn is_reading(&self) -> bool {
        self.shard.as_ref().is_some_and(|shard| shard.front.is_reading())
    }

    /// Long reads go on, once the short answers are on their way; true if some are left.
    fn read(&mut self) -> bool {
        if !self.is_reading() {
            return false;
        }
        self.submit_sends(0);
        self.io.submit();
        let shard = self.serving();
        shard.with_front(Front::read);
        shard.front.is_reading()
    }

    /// Sends what is short, and so many bytes, about, of what is long; true if more is to be sent in the next turn.
    fn submit_sends(&mut self, mut budget: usize) -> bool {
        let Some(shard) = &mut self.shard else { return false };
        while let Some(outgoing) = shard.front.poll_outgoing(&mut self.transmit, &mut budget) {
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
        shard.front.has_bulk()
    }

    fn announce_connections(&mut self) {
        if let Some(shard) = &self.shard {
            shard.slot.announce_connections(self.io.connections() as u64, shard.adopted);
        }
    }

    /// Tells the first core, for which there may be wishes, where this one goes to sleep.
    fn announce_processor(&self, busy: bool) {
        if let (true, Some(shard)) = (self.to_wake[FIRST], &self.shard) {
            shard.slot.announce_processor(if busy { None } else { self.io.processor() });
        }
    }

    fn is_drained(&mut self, now: Monotonic) -> bool {
        let Some(since) = self.stopping_since else { return false };
        let is_late = now.since(since) >= DRAIN;
        let has_clients = self.shard.as_ref().is_some_and(|shard| !shard.front.is_empty());
        let others_are = |lines: &[post::Line<I::Socket>]| lines.iter().all(post::Line::is_drained);
        let is_done = !has_clients
            && match (&self.first, &self.post) {
                (Some(first), Post::First(lines, _)) => {
                    others_are(lines) && !first.sequencer.node.has_work_in_flight()
                }
                _ => true,
            };
        if !is_done && !is_late {
            return false;
        }
        match &mut self.first {
            Some(first) => first.sequencer.node.stop(),
            None => {
                let last = self.serving().counts();
                self.tell_first(ToFirst::Drained(Box::new(last)));
                self.wake_others();
                // Takes the wake along.
                self.io.wait(Some(Duration::ZERO), &mut Vec::new());
            }
        }
        true
    }

    /// Wakes those cores for which this turn has left something; what it left is seen by whoever wakes.
    fn wake_others(&mut self) {
        for (core, wake) in self.to_wake.iter_mut().enumerate() {
            if std::mem::take(wake) && core != self.core {
                self.io.wake(&self.wakers[core]);
            }
        }
    }
}

impl Shard {
    /// Lets the shard's clients see the newest view. A read that goes on beyond this announces what it needs
    /// before the epoch is left, because from then on the cleaner may run (H5).
    fn with_front<T>(&mut self, handle: impl FnOnce(&mut Front, &View) -> T) -> T {
        let views = self.views.enter();
        let result = handle(&mut self.front, views.load());
        self.slot.announce_floor(self.front.floor());
        result
    }

    fn counts(&self) -> Counts {
        self.http.counts(&self.front)
    }

    /// Replies, watch events, HTTP/1; true if more of them is left.
    fn drain(&mut self, now: Monotonic) -> bool {
        let views = self.views.enter();
        let front = &mut self.front;
        while let Some(reply) = self.replies.receive() {
            front.handle_reply(reply, views.load());
        }
        let busy = front.turn(views.load(), now);
        self.http.answer(front, views.load(), now);
        self.slot.announce_floor(front.floor());
        let watches = front.watches();
        if watches != self.watches {
            // Only then, so that puts beside a million idle watches read nobody else's numbers.
            self.watches = watches;
            front.set_watches_elsewhere(self.slot.announce_watches(watches, &self.slots));
        }
        busy
    }
}

impl First {
    fn metrics(&mut self, sum: &Counts) -> String {
        let views = self.views.enter();
        self.metrics.render(sum, views.load(), &self.sequencer)
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
