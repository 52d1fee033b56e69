//! Links between clients and the member: segments in both directions, each with its own delays; cut, reset, refused.
//!
//! A link has two ends that learn of its end at different times. What a pipe has lost is never resent, so that a half-open
//! connection looks as it does to a real socket: everything is quiet until somebody's patience ends, or a reset comes.

use std::collections::VecDeque;

use super::{Event, FIRST, MILLI, Outside, SECOND};
use crate::edge::io::{CloseCause, Completion, ConnId, ReceivedBytes};
use crate::stdx::prng::Prng;
use crate::stdx::slab::{Key, Slab};
use crate::testing::history::Time;

/// Most bytes of one receive, as the ring's buffers have it.
const RECEIVE_BYTES_MAX: usize = 16 * 1024;
/// Segments of one send that are cut small; the rest goes in larger ones, or long answers would take for ever.
const SMALL_SEGMENTS_MAX: usize = 8;
/// Payload of a segment on an Ethernet.
const ETHERNET_BYTES: usize = 1_448;

/// All links, and the member's connections.
#[derive(Default)]
pub(super) struct Network {
    pub(super) links: Vec<Link>,
    /// Link of each connection of the member.
    pub(super) connections: Slab<usize>,
    /// Nobody gets a connection before this.
    refuses_until: Time,
    /// Then a dial is not even answered.
    silently: bool,
}

/// How a pipe cuts what is sent into segments.
#[derive(Clone, Copy, Debug, Default)]
enum Cut {
    #[default]
    Whole,
    Ethernet,
    Small,
}

/// One direction of a link.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Segments under way: when each arrives, and its length.
    segments: VecDeque<(Time, usize)>,
    /// An arrival is to come.
    is_scheduled: bool,
    delay: Time,
    cut: Cut,
    /// Nothing arrives any more, and the sender does not know.
    is_lost: bool,
    /// Nothing arrives before this: the path is down, and its bytes are sent again afterwards.
    stuck_until: Time,
    /// The connection is reset after so many more bytes.
    reset_after: Option<usize>,
    /// The sender has closed it.
    is_closed: bool,
}

impl Pipe {
    /// Sends bytes; true if the connection is reset inside of them.
    fn send(&mut self, bytes: &[u8], now: Time, prng: &mut Prng) -> bool {
        let passed = self.reset_after.map_or(bytes.len(), |left| left.min(bytes.len()));
        let is_reset = self.reset_after.is_some_and(|left| left < bytes.len());
        self.reset_after = self.reset_after.map(|left| left - passed);
        let mut rest = &bytes[..passed];
        let mut count = 0;
        while !rest.is_empty() {
            let length = match self.cut {
                Cut::Whole => rest.len(),
                Cut::Ethernet => ETHERNET_BYTES,
                Cut::Small if count < SMALL_SEGMENTS_MAX => 1 + prng.below(64) as usize,
                Cut::Small => 1 + prng.below(16_384) as usize,
            };
            let (segment, after) = rest.split_at(length.min(rest.len()));
            let last = self.segments.back().map_or(0, |(at, _)| *at);
            let arrival = (now + super::delay(prng, MILLI / 20, self.delay)).max(last);
            self.bytes.extend(segment);
            self.segments.push_back((arrival, segment.len()));
            rest = after;
            count += 1;
        }
        is_reset
    }

    /// When the next bytes, or the end, can be taken; `None` if nothing comes.
    fn next_arrival(&self, now: Time) -> Option<Time> {
        let at = self.segments.front().map(|(at, _)| *at).or(self.is_closed.then_some(now))?;
        (!self.is_lost).then_some(at.max(self.stuck_until).max(now))
    }

    /// Takes what has arrived, at most so much.
    fn take(&mut self, now: Time, bytes_max: usize) -> Vec<u8> {
        let mut length = 0;
        while let Some((at, segment)) = self.segments.front_mut() {
            let part = (*segment).min(bytes_max - length);
            if *at > now || part == 0 {
                break;
            }
            length += part;
            *segment -= part;
            if *segment == 0 {
                self.segments.pop_front();
            }
        }
        // Byte by byte, as an iterator does it, is slow.
        let (first, second) = self.bytes.as_slices();
        let split = length.min(first.len());
        let taken = [&first[..split], &second[..length - split]].concat();
        self.bytes.drain(..length);
        taken
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.segments.clear();
    }
}

/// One link. Never reused.
pub(super) struct Link {
    pub(super) client: usize,
    /// The life of the member that it leads to.
    pub(super) life: usize,
    /// The member's end; `None` before it was accepted and after it was closed.
    conn: Option<Key>,
    /// The core that adopted it.
    core: usize,
    to_member: Pipe,
    to_client: Pipe,
    /// A send of the member is not yet whole in the socket's buffer.
    sending: bool,
    sent_scheduled: bool,
    paused: bool,
    /// The client reads nothing before this.
    client_reads_from: Time,
    /// The client's end is over.
    pub(super) broken: bool,
    /// The member was told that it is broken.
    member_told: bool,
}

/// What may happen to a link.
#[derive(Clone, Copy, Debug)]
pub(super) enum LinkFault {
    /// One side closes it.
    Close,
    /// A reset in the middle of what one side sends next.
    Reset,
    /// It becomes half-open, in one direction or both.
    Lose,
    /// Its path is down for a while.
    Stick,
}

/// A link that has come up, not yet a connection of the member.
#[derive(Debug)]
pub(super) struct SimSocket(usize);

impl Network {
    /// Connections that a core has adopted.
    pub(super) fn connections_of(&self, core: usize) -> usize {
        self.connections.iter().filter(|(_, link)| self.links[**link].core == core).count()
    }
}

impl Outside {
    /// A client dials. The link comes up later, if the member serves by then.
    pub(super) fn dial(&mut self, client: usize) -> usize {
        let link = self.network.links.len();
        let most = self.plan.network_delay;
        let mut pipe = || Pipe {
            delay: MILLI / 20 + self.prng.below(most),
            cut: [Cut::Whole, Cut::Ethernet, Cut::Small][self.prng.below(3) as usize],
            ..Pipe::default()
        };
        let (to_member, to_client) = (pipe(), pipe());
        let delay = super::delay(&mut self.prng, MILLI / 20, to_member.delay);
        self.network.links.push(Link {
            client,
            life: self.life,
            conn: None,
            core: FIRST,
            to_member,
            to_client,
            sending: false,
            sent_scheduled: false,
            paused: false,
            client_reads_from: 0,
            broken: false,
            member_told: false,
        });
        self.after(delay, Event::Connect { link });
        link
    }

    pub(super) fn connect(&mut self, link: usize) {
        let alive = self.serving && self.network.links[link].life == self.life;
        if self.network.links[link].broken {
            return;
        }
        if self.network.refuses_until > self.now {
            self.counts.dials_refused += 1;
            if !self.network.silently {
                self.broken(link);
            }
            return;
        }
        if !alive {
            self.broken(link);
            return;
        }
        self.completions[FIRST].push(Completion::Incoming { socket: SimSocket(link), listener: 0 });
    }

    /// The member takes a connection.
    pub(super) fn adopt(&mut self, SimSocket(link): SimSocket, core: usize) -> ConnId {
        let conn = self.network.connections.insert(link);
        self.network.links[link].core = core;
        self.network.links[link].conn = Some(conn);
        self.note(2, &conn.to_u64().to_le_bytes());
        if self.network.links[link].broken {
            // Given up while it waited to be adopted.
            self.completions[core]
                .push(Completion::Closed { conn: ConnId(conn), cause: CloseCause::EndOfStream });
        }
        self.schedule_to_member(link);
        ConnId(conn)
    }

    /// For a while nobody gets a connection.
    pub(super) fn refuse_connections(&mut self) {
        self.network.silently = self.prng.chance(1, 2);
        self.network.refuses_until = self.now + self.delay(100 * MILLI, 4 * SECOND);
    }

    /// The member's end of a link, in this life.
    fn conn_of(&self, link: usize) -> Option<Key> {
        let state = &self.network.links[link];
        state.conn.filter(|_| state.life == self.life)
    }

    /// Bytes of the client.
    pub(super) fn client_sends(&mut self, link: usize, bytes: &[u8]) {
        let state = &mut self.network.links[link];
        if state.broken || bytes.is_empty() {
            return;
        }
        if state.to_member.send(bytes, self.now, &mut self.prng) {
            self.reset_soon(link);
        }
        self.schedule_to_member(link);
    }

    fn reset_soon(&mut self, link: usize) {
        self.counts.resets += 1;
        let delay = self.delay(MILLI / 20, self.plan.network_delay);
        self.after(delay, Event::Reset { link });
    }

    fn schedule_to_member(&mut self, link: usize) {
        let now = self.now;
        let state = &mut self.network.links[link];
        if state.to_member.is_scheduled || state.paused || state.conn.is_none() || state.member_told {
            return;
        }
        let Some(at) = state.to_member.next_arrival(now) else { return };
        state.to_member.is_scheduled = true;
        self.at(at, Event::ToMember { link });
    }

    pub(super) fn carry_to_member(&mut self, link: usize) {
        let now = self.now;
        self.network.links[link].to_member.is_scheduled = false;
        let Some(conn) = self.conn_of(link) else { return };
        let state = &mut self.network.links[link];
        let is_due = state.to_member.next_arrival(now).is_some_and(|at| at <= now);
        if state.paused || !is_due {
            self.schedule_to_member(link);
            return;
        }
        let core = state.core;
        let bytes = state.to_member.take(now, RECEIVE_BYTES_MAX);
        if bytes.is_empty() {
            self.tell_member(link, CloseCause::EndOfStream);
            return;
        }
        self.note(3, &bytes);
        self.completions[core]
            .push(Completion::Received { conn: ConnId(conn), bytes: ReceivedBytes::copied(&bytes) });
        self.schedule_to_member(link);
    }

    /// The member sends.
    pub(super) fn member_sends(&mut self, conn: Key, bytes: &[u8]) {
        let Some(link) = self.network.connections.get(conn).copied() else { return };
        self.note(4, bytes);
        let now = self.now;
        let state = &mut self.network.links[link];
        assert!(!state.sending, "one send at a time for each connection");
        state.sending = true;
        if state.broken && !state.to_client.is_lost {
            // Nobody is there: the bytes are taken, and a reset comes back.
            let delay = self.delay(MILLI / 20, self.plan.network_delay);
            self.after(delay, Event::Reset { link });
        } else if state.to_client.send(bytes, now, &mut self.prng) {
            self.reset_soon(link);
        }
        self.look_if_sent(link);
        self.schedule_to_client(link);
    }

    fn look_if_sent(&mut self, link: usize) {
        let state = &mut self.network.links[link];
        let has_room = state.to_client.bytes.len() <= self.plan.socket_bytes;
        if state.sending && has_room && !std::mem::replace(&mut state.sent_scheduled, true) {
            let delay = self.delay(MILLI / 100, MILLI / 5);
            self.after(delay, Event::Sent { link });
        }
    }

    pub(super) fn sent(&mut self, link: usize) {
        self.network.links[link].sent_scheduled = false;
        let Some(conn) = self.conn_of(link) else { return };
        let state = &mut self.network.links[link];
        let core = state.core;
        if std::mem::take(&mut state.sending) {
            self.completions[core].push(Completion::Sent { conn: ConnId(conn) });
        }
    }

    fn schedule_to_client(&mut self, link: usize) {
        let now = self.now;
        let state = &mut self.network.links[link];
        if state.to_client.is_scheduled || state.broken {
            return;
        }
        let Some(at) = state.to_client.next_arrival(now) else { return };
        state.to_client.is_scheduled = true;
        let at = at.max(state.client_reads_from);
        self.at(at, Event::ToClient { link });
    }

    pub(super) fn carry_to_client(&mut self, link: usize) {
        let now = self.now;
        let state = &mut self.network.links[link];
        state.to_client.is_scheduled = false;
        if state.broken {
            return;
        }
        if state.to_client.next_arrival(now).is_none_or(|at| at.max(state.client_reads_from) > now) {
            self.schedule_to_client(link);
            return;
        }
        let bytes = state.to_client.take(now, 64 << 10);
        if bytes.is_empty() {
            self.broken(link);
            return;
        }
        self.look_if_sent(link);
        self.client_receives(link, &bytes);
        self.schedule_to_client(link);
    }

    /// The whole connection is not read for a while.
    pub(super) fn stop_reading(&mut self, link: usize, time: Time) {
        self.network.links[link].client_reads_from = self.now + time;
    }

    /// The client finds the link broken.
    pub(super) fn broken(&mut self, link: usize) {
        let state = &mut self.network.links[link];
        if std::mem::replace(&mut state.broken, true) {
            return;
        }
        if !state.to_client.is_lost {
            state.to_client.clear();
            self.look_if_sent(link);
        }
        self.note(5, &(link as u64).to_le_bytes());
        self.client_lost(link);
    }

    /// The member finds the link broken.
    fn tell_member(&mut self, link: usize, cause: CloseCause) {
        let Some(conn) = self.conn_of(link) else { return };
        let state = &mut self.network.links[link];
        let (at_end, core) = (matches!(cause, CloseCause::EndOfStream), state.core);
        // The end of what the client sends is no news after a reset; a reset is, after the end.
        if !std::mem::replace(&mut state.member_told, true) || !at_end {
            self.completions[core].push(Completion::Closed { conn: ConnId(conn), cause });
        }
    }

    /// Both ends find the link reset; what was under way is gone.
    pub(super) fn reset(&mut self, link: usize) {
        let kind = std::io::ErrorKind::ConnectionReset;
        let in_send = self.network.links[link].sending && self.prng.chance(1, 2);
        let error = std::io::Error::from(kind);
        let cause = if in_send { CloseCause::SendFailed(error) } else { CloseCause::ReceiveFailed(error) };
        self.tell_member(link, cause);
        let state = &mut self.network.links[link];
        state.to_member.clear();
        if in_send {
            state.sending = false;
        }
        self.broken(link);
    }

    /// The client gives the link up: with a reset, or with an end after what it has sent. The member hears of it
    /// if its pipe is not lost.
    pub(super) fn hang_up(&mut self, link: usize, abort: bool) {
        if self.network.links[link].broken {
            return;
        }
        let state = &mut self.network.links[link];
        if state.to_member.is_lost {
            // Its own patience ends some day.
            let delay = self.delay(SECOND, 20 * SECOND);
            self.after(delay, Event::Reset { link });
            self.broken(link);
        } else if abort {
            self.reset(link);
        } else {
            state.to_member.is_closed = true;
            self.broken(link);
            self.schedule_to_member(link);
        }
    }

    /// Something happens to a link that is in use.
    pub(super) fn link_fault(&mut self, fault: LinkFault) {
        let open: Vec<usize> = self.clients.iter().filter_map(|client| client.link).collect();
        if open.is_empty() {
            return;
        }
        let link = open[self.prng.below(open.len() as u64) as usize];
        let direction = self.prng.below(3);
        let (to_member, to_client) = (direction != 1, direction != 0);
        match fault {
            LinkFault::Close => {
                self.counts.cuts_of_links += 1;
                let abort = self.prng.chance(1, 2);
                self.hang_up(link, abort);
            }
            LinkFault::Reset => {
                let most = [20, 400, 40_000][self.prng.below(3) as usize];
                let bytes = self.prng.below(most) as usize;
                let state = &mut self.network.links[link];
                let pipe = if direction == 0 { &mut state.to_member } else { &mut state.to_client };
                pipe.reset_after.get_or_insert(bytes);
            }
            LinkFault::Lose => {
                self.counts.half_open += 1;
                let state = &mut self.network.links[link];
                state.to_member.is_lost |= to_member;
                state.to_client.is_lost |= to_client;
            }
            LinkFault::Stick => {
                self.counts.stuck += 1;
                let until = self.now + self.delay(50 * MILLI, 5 * SECOND);
                let everybody = self.prng.chance(1, 3);
                let links = if everybody { open } else { vec![link] };
                for link in links {
                    let state = &mut self.network.links[link];
                    if to_member {
                        state.to_member.stuck_until = until;
                    }
                    if to_client {
                        state.to_client.stuck_until = until;
                    }
                }
            }
        }
    }

    /// The network works again: what was lost on links turns into resets.
    pub(super) fn mend_network(&mut self) {
        self.network.refuses_until = 0;
        for link in 0..self.network.links.len() {
            let state = &mut self.network.links[link];
            (state.to_member.reset_after, state.to_client.reset_after) = (None, None);
            if state.to_member.is_lost || state.to_client.is_lost {
                (state.to_member.is_lost, state.to_client.is_lost) = (false, false);
                self.reset(link);
            }
        }
    }

    pub(super) fn set_paused(&mut self, conn: Key, paused: bool) {
        let Some(link) = self.network.connections.get(conn).copied() else { return };
        self.network.links[link].paused = paused;
        self.schedule_to_member(link);
    }

    /// The member closes a connection.
    pub(super) fn member_closes(&mut self, conn: Key) {
        let Some(link) = self.network.connections.remove(conn) else { return };
        self.note(6, &conn.to_u64().to_le_bytes());
        let state = &mut self.network.links[link];
        (state.conn, state.sending, state.to_client.is_closed) = (None, false, true);
        let core = state.core;
        // What waits for the member to take it names a connection that is gone.
        self.completions[core].retain(|completion| match completion {
            Completion::Received { conn: of, .. }
            | Completion::Closed { conn: of, .. }
            | Completion::Sent { conn: of } => of.0 != conn,
            _ => true,
        });
        self.schedule_to_client(link);
    }

    /// The member's process is gone: its links break, sooner or later.
    pub(super) fn member_gone(&mut self) {
        self.network.connections = Slab::default();
        let life = self.life;
        for link in 0..self.network.links.len() {
            let state = &mut self.network.links[link];
            if state.life != life {
                continue;
            }
            state.conn = None;
            // Over a lost pipe not even this comes through: the client has to find out by itself.
            if state.broken || state.to_client.is_lost {
                continue;
            }
            let delay = self.delay(MILLI, 300 * MILLI);
            self.after(delay, Event::Broken { link });
        }
    }
}
