//! What the cores tell each other besides wishes and replies: connections, counts, texts of metrics, the stop.
//!
//! The first core has a line to each other core. Owns: the lines, counts that are being gathered.
//! Always true: what has to arrive has room kept for it; only a connection can find a line full.

use super::http::Counts;
use crate::edge::mesh::{Receiver, Sender, mailbox};
use crate::limits;

/// From the first core to another.
pub enum ToOther<S> {
    /// Serve this client.
    Connection {
        /// To be adopted.
        socket: S,
        /// Position in the table of listeners.
        listener: usize,
    },
    /// Send your counts.
    Report,
    /// The metrics that were asked for.
    Metrics(String),
    /// Drain, then end.
    Stop,
}

/// From another core to the first.
pub enum ToFirst {
    /// The counts that were asked for.
    Counts(Box<Counts>),
    /// A client wants metrics.
    WantMetrics,
    /// All clients are gone; nothing follows these last counts.
    Drained(Box<Counts>),
}

/// Messages on a line besides connections that can be on their way at once, in either direction.
const RESERVED: usize = 4;

/// A core's end of the post.
pub enum Post<S> {
    /// Of the first core.
    First(Vec<Line<S>>, Box<Gathering>),
    /// Of another one.
    Other {
        /// To the first core.
        sender: Sender<ToFirst>,
        /// From it.
        receiver: Receiver<ToOther<S>>,
    },
}

/// The first core's end of a line to another core.
pub struct Line<S> {
    sender: Sender<ToOther<S>>,
    receiver: Receiver<ToFirst>,
    /// It was asked to report and has not yet.
    owes: bool,
    /// Its counts when its clients were gone: it answers no more.
    last: Option<Box<Counts>>,
}

/// Posts for so many cores, the first core's first.
pub fn posts<S: Send>(cores: usize) -> Vec<Post<S>> {
    let mut lines = Vec::new();
    let mut others = Vec::new();
    for _ in 1..cores {
        let (to_other, from_first) = mailbox(limits::shard::CONNECTIONS_ON_THEIR_WAY_MAX + RESERVED);
        let (to_first, from_other) = mailbox(RESERVED);
        lines.push(Line { sender: to_other, receiver: from_other, owes: false, last: None });
        others.push(Post::Other { sender: to_first, receiver: from_first });
    }
    std::iter::once(Post::First(lines, Box::default())).chain(others).collect()
}

impl<S> Line<S> {
    /// The next message of the other core.
    pub fn receive(&mut self) -> Option<ToFirst> {
        self.receiver.receive()
    }

    /// True once the other core's clients are gone.
    pub fn is_drained(&self) -> bool {
        self.last.is_some()
    }

    /// Its counts if it has ended; otherwise it is asked for them.
    fn ask(&mut self) -> Option<&Counts> {
        if self.last.is_none() {
            self.owes = true;
            self.send(ToOther::Report);
        }
        self.last.as_deref()
    }

    /// Sends a message that has room.
    pub fn send(&mut self, message: ToOther<S>) {
        assert!(self.sender.send(message).is_ok(), "a line keeps room for what is no connection");
    }

    /// Sends a connection, if there is room beside what is reserved; drops it otherwise.
    #[must_use]
    pub fn send_connection(&mut self, socket: S, listener: usize) -> bool {
        let has_room = self.sender.room() > RESERVED;
        has_room && self.sender.send(ToOther::Connection { socket, listener }).is_ok()
    }
}

/// Sends a message to the first core.
pub fn send_first(sender: &mut Sender<ToFirst>, message: ToFirst) {
    assert!(sender.send(message).is_ok(), "a line keeps room for what can be on its way at once");
}

/// Counts of all cores on their way to be one text of metrics.
#[derive(Default)]
pub struct Gathering {
    /// Cores that wait for the text that is being gathered.
    waiting: Vec<usize>,
    /// Cores that asked since it began: what they did before they asked may be missing from it.
    asked: Vec<usize>,
    /// Cores whose counts are missing.
    missing: usize,
    sum: Option<Counts>,
}

impl Gathering {
    /// A core wants metrics.
    pub fn want(&mut self, core: usize) {
        self.asked.push(core);
    }

    /// True if a round is to begin: then give the first core's counts to [`Gathering::begin`].
    pub fn is_due(&self) -> bool {
        self.waiting.is_empty() && !self.asked.is_empty()
    }

    /// A round begins: who serves still is asked. True for each line whose core is to be woken.
    pub fn begin<S>(&mut self, own: Counts, lines: &mut [Line<S>]) -> Vec<bool> {
        assert!(self.is_due());
        self.waiting = std::mem::take(&mut self.asked);
        let mut sum = own;
        let asked = lines.iter_mut().map(|line| line.ask().map(|last| sum.add(last)).is_none());
        let asked: Vec<bool> = asked.collect();
        self.missing = asked.iter().filter(|asked| **asked).count();
        self.sum = Some(sum);
        asked
    }

    /// Another core's report.
    pub fn add<S>(&mut self, line: &mut Line<S>, counts: &Counts) {
        assert!(std::mem::take(&mut line.owes), "a report was asked for");
        self.sum.as_mut().expect("a round is under way").add(counts);
        self.missing -= 1;
    }

    /// Another core has ended; a report that it owes is made of its last counts.
    pub fn drained<S>(&mut self, line: &mut Line<S>, last: Box<Counts>) {
        if line.owes {
            self.add(line, &last);
        }
        line.last = Some(last);
    }

    /// The sum, when it is complete, and the cores that wait for it.
    pub fn finish(&mut self) -> Option<(Counts, Vec<usize>)> {
        if self.missing > 0 {
            return None;
        }
        Some((self.sum.take()?, std::mem::take(&mut self.waiting)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_during_a_round_waits_for_the_next() {
        let mut gathering = Gathering::default();
        assert!(!gathering.is_due() && gathering.finish().is_none());
        gathering.want(1);
        assert!(gathering.is_due());
        let mut lines = lines(2);
        assert_eq!(gathering.begin(Counts::none(), &mut lines), [true, true]);
        gathering.want(0);
        assert!(!gathering.is_due(), "one round at a time");
        gathering.add(&mut lines[1], &Counts::none());
        assert!(gathering.finish().is_none(), "one core is missing");
        gathering.add(&mut lines[0], &Counts::none());
        assert_eq!(gathering.finish().map(|(_, cores)| cores), Some(vec![1]));
        assert!(gathering.is_due());
        gathering.begin(Counts::none(), &mut lines[..0]);
        assert_eq!(gathering.finish().map(|(_, cores)| cores), Some(vec![0]));
        assert!(!gathering.is_due());
    }

    #[test]
    fn who_has_ended_is_counted_and_not_waited_for() {
        let counts = || {
            let mut counts = Counts::none();
            counts.held_bytes = 7;
            counts
        };
        let (mut gathering, mut lines) = (Gathering::default(), lines(3));
        gathering.drained(&mut lines[0], Box::new(counts()));
        gathering.want(0);
        assert_eq!(gathering.begin(counts(), &mut lines), [false, true, true]);
        gathering.add(&mut lines[1], &counts());
        assert!(gathering.finish().is_none());
        // It ends with the question unread.
        gathering.drained(&mut lines[2], Box::new(counts()));
        assert_eq!(gathering.finish().map(|(sum, _)| sum.held_bytes), Some(4 * 7));
        assert!(lines[0].is_drained() && !lines[1].is_drained() && lines[2].is_drained());
    }

    fn lines(others: usize) -> Vec<Line<u32>> {
        let Some(Post::First(lines, _)) = posts(1 + others).into_iter().next() else {
            panic!("the first core's comes first")
        };
        lines
    }

    #[test]
    fn a_full_line_turns_connections_away_and_takes_the_rest() {
        let mut posts = posts::<u32>(2);
        let Some(Post::First(lines, _)) = posts.first_mut() else { panic!("the first core's comes first") };
        let taken = (0..10_000).take_while(|number| lines[0].send_connection(*number, 0)).count();
        assert_eq!(taken, limits::shard::CONNECTIONS_ON_THEIR_WAY_MAX);
        lines[0].send(ToOther::Report);
        lines[0].send(ToOther::Metrics(String::new()));
        lines[0].send(ToOther::Stop);
    }
}
