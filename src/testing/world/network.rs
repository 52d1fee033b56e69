//! Links between clients and the member: bytes in chunks, with delays, until somebody cuts them.

use std::collections::VecDeque;

use super::{Event, MILLI, Outside};
use crate::edge::io::{CloseCause, Completion, ConnId, ReceivedBytes};
use crate::stdx::slab::{Key, Slab};
use crate::testing::history::Time;

/// Most bytes of one receive, as the ring's buffers have it.
const RECEIVE_BYTES_MAX: usize = 16 * 1024;

/// All links, and the member's connections.
#[derive(Default)]
pub(super) struct Network {
    pub(super) links: Vec<Link>,
    /// Link of each connection of the member.
    pub(super) connections: Slab<usize>,
}

/// One link. Never reused.
pub(super) struct Link {
    pub(super) client: usize,
    /// The life of the member that it leads to.
    pub(super) life: usize,
    /// The member's end; `None` before it was accepted and after it was closed.
    conn: Option<Key>,
    to_member: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// A chunk is on its way.
    member_scheduled: bool,
    client_scheduled: bool,
    /// A send of the member is not yet whole in the socket's buffer.
    sending: bool,
    paused: bool,
    /// The client reads nothing before this.
    client_reads_from: Time,
    /// The member has closed it: what is left still goes to the client.
    closed_by_member: bool,
    pub(super) broken: bool,
}

/// A link that has come up, not yet a connection of the member.
#[derive(Debug)]
pub(super) struct SimSocket(usize);

impl Outside {
    /// A client dials. The link comes up later, if the member serves by then.
    pub(super) fn dial(&mut self, client: usize) -> usize {
        let link = self.network.links.len();
        self.network.links.push(Link {
            client,
            life: self.life,
            conn: None,
            to_member: VecDeque::new(),
            to_client: VecDeque::new(),
            member_scheduled: false,
            client_scheduled: false,
            sending: false,
            paused: false,
            client_reads_from: 0,
            closed_by_member: false,
            broken: false,
        });
        let delay = self.network_delay();
        self.after(delay, Event::Connect { link });
        link
    }

    fn network_delay(&mut self) -> Time {
        let most = self.plan.network_delay;
        self.delay(MILLI / 20, most)
    }

    pub(super) fn connect(&mut self, link: usize) {
        let alive = self.serving && self.network.links[link].life == self.life;
        if self.network.links[link].broken {
            return;
        }
        if !alive {
            self.broken(link);
            return;
        }
        self.completions.push(Completion::Incoming { socket: SimSocket(link), listener: 0 });
    }

    /// The member takes a connection.
    pub(super) fn adopt(&mut self, SimSocket(link): SimSocket) -> ConnId {
        let conn = self.network.connections.insert(link);
        self.network.links[link].conn = Some(conn);
        self.note(2, &conn.to_u64().to_le_bytes());
        if self.network.links[link].broken {
            // Given up while it waited to be adopted.
            self.completions.push(Completion::Closed { conn: ConnId(conn), cause: CloseCause::EndOfStream });
        }
        self.schedule_to_member(link);
        ConnId(conn)
    }

    /// Bytes of the client.
    pub(super) fn client_sends(&mut self, link: usize, bytes: &[u8]) {
        let state = &mut self.network.links[link];
        if state.broken || bytes.is_empty() {
            return;
        }
        state.to_member.extend(bytes);
        self.schedule_to_member(link);
    }

    fn schedule_to_member(&mut self, link: usize) {
        let state = &self.network.links[link];
        if state.member_scheduled || state.paused || state.conn.is_none() || state.to_member.is_empty() {
            return;
        }
        self.network.links[link].member_scheduled = true;
        let delay = self.network_delay();
        self.after(delay, Event::ToMember { link });
    }

    pub(super) fn carry_to_member(&mut self, link: usize) {
        let whole = self.prng.chance(3, 4);
        let part = 1 + self.prng.below(64) as usize;
        let life = self.life;
        let state = &mut self.network.links[link];
        state.member_scheduled = false;
        let Some(conn) = state.conn.filter(|_| state.life == life && !state.broken && !state.paused) else {
            return;
        };
        let most = if whole { RECEIVE_BYTES_MAX } else { part };
        let count = state.to_member.len().min(most);
        let bytes: Vec<u8> = state.to_member.drain(..count).collect();
        self.note(3, &bytes);
        self.completions
            .push(Completion::Received { conn: ConnId(conn), bytes: ReceivedBytes::copied(&bytes) });
        self.schedule_to_member(link);
    }

    /// The member sends.
    pub(super) fn member_sends(&mut self, conn: Key, bytes: &[u8]) {
        let Some(link) = self.network.connections.get(conn).copied() else { return };
        self.note(4, bytes);
        let state = &mut self.network.links[link];
        assert!(!state.sending, "one send at a time for each connection");
        state.sending = true;
        state.to_client.extend(bytes);
        self.look_if_sent(link);
        self.schedule_to_client(link);
    }

    fn look_if_sent(&mut self, link: usize) {
        let state = &self.network.links[link];
        if state.sending && state.to_client.len() <= self.plan.socket_bytes {
            let delay = self.delay(MILLI / 100, MILLI / 5);
            self.after(delay, Event::Sent { link });
        }
    }

    pub(super) fn sent(&mut self, link: usize) {
        let life = self.life;
        let state = &mut self.network.links[link];
        let Some(conn) = state.conn.filter(|_| state.life == life && state.sending && !state.broken) else {
            return;
        };
        state.sending = false;
        self.completions.push(Completion::Sent { conn: ConnId(conn) });
    }

    fn schedule_to_client(&mut self, link: usize) {
        let delay = self.network_delay();
        let now = self.now;
        let state = &mut self.network.links[link];
        let nothing = state.to_client.is_empty() && !state.closed_by_member;
        if state.client_scheduled || state.broken || nothing {
            return;
        }
        state.client_scheduled = true;
        let at = (now + delay).max(state.client_reads_from);
        self.at(at, Event::ToClient { link });
    }

    pub(super) fn carry_to_client(&mut self, link: usize) {
        let whole = self.prng.chance(3, 4);
        let part = 1 + self.prng.below(200) as usize;
        let state = &mut self.network.links[link];
        state.client_scheduled = false;
        if state.broken {
            return;
        }
        let count = state.to_client.len().min(if whole { 64 << 10 } else { part });
        let bytes: Vec<u8> = state.to_client.drain(..count).collect();
        let closed = state.closed_by_member && state.to_client.is_empty();
        self.look_if_sent(link);
        self.client_receives(link, &bytes);
        if closed {
            self.broken(link);
        } else {
            self.schedule_to_client(link);
        }
    }

    /// The whole connection is not read for a while.
    pub(super) fn stop_reading(&mut self, link: usize, time: Time) {
        self.network.links[link].client_reads_from = self.now + time;
    }

    /// The client finds the link broken.
    pub(super) fn broken(&mut self, link: usize) {
        if std::mem::replace(&mut self.network.links[link].broken, true) {
            return;
        }
        self.note(5, &(link as u64).to_le_bytes());
        self.client_lost(link);
    }

    /// The client gives the link up; `abort`: with a reset.
    pub(super) fn hang_up(&mut self, link: usize, abort: bool) {
        let life = self.life;
        let state = &self.network.links[link];
        if let Some(conn) = state.conn.filter(|_| state.life == life) {
            let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            let cause = if abort { CloseCause::ReceiveFailed(reset) } else { CloseCause::EndOfStream };
            self.completions.push(Completion::Closed { conn: ConnId(conn), cause });
        }
        self.broken(link);
    }

    pub(super) fn cut_some_link(&mut self) {
        let open: Vec<usize> = self.clients.iter().filter_map(|client| client.link).collect();
        if open.is_empty() {
            return;
        }
        let link = open[self.prng.below(open.len() as u64) as usize];
        self.counts.cuts_of_links += 1;
        let abort = self.prng.chance(1, 2);
        self.hang_up(link, abort);
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
        (state.conn, state.closed_by_member) = (None, true);
        // What waits for the member to take it names a connection that is gone.
        self.completions.retain(|completion| match completion {
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
        let links: Vec<usize> = (0..self.network.links.len())
            .filter(|link| self.network.links[*link].life == life && !self.network.links[*link].broken)
            .collect();
        for link in links {
            self.network.links[link].conn = None;
            let delay = self.delay(MILLI, 300 * MILLI);
            self.after(delay, Event::Broken { link });
        }
    }
}
