//! One member and its clients in a world that is made from a seed.
//!
//! Owns: true time, the queue of events, the network's links, the disk, the clients, the faults to come.
//! Takes: a seed and a planted bug. Gives: a [`Report`].
//! Always true: one thread, on which the cores take their turns; everything that happens is drawn from the seed; time
//! passes only between turns and while the member is down; a member that was killed does nothing more, whatever its
//! code still tries.
//! Not here: who is right (`checkers`), what requests mean (`model`).

pub mod answers;
mod client;
mod cores;
mod io;
mod member;
mod network;
mod plan;
mod wire;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::Client;
pub use member::run;
use network::{LinkFault, Network};
pub use plan::Plan;

use super::canary::Mutant;
use super::disk::{Faults, SimDisk};
use super::history::{History, Mark, Time, Trace, Truth, Violation};
use crate::edge::io::{AlignedBuffer, Completion};
use crate::stdx::prng::Prng;

/// The core that sequences and accepts.
const FIRST: usize = 0;
/// Nanoseconds of a millisecond.
pub(super) const MILLI: Time = 1_000_000;
/// Nanoseconds of a second.
pub(super) const SECOND: Time = 1_000 * MILLI;

/// What a run is told besides its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The bug to plant.
    pub canary: Option<Mutant>,
    /// Real entropy, for the one canary that must not repeat.
    pub entropy: u64,
    /// Keep each mark of the trace, to find the first one that differs.
    pub keep_marks: bool,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Report {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Everything that crossed the member's border, in order, with its times.
    pub trace: Trace,
    /// What happened, in one line.
    pub summary: String,
    /// How often each kind of thing happened.
    pub counts: Vec<(&'static str, u64)>,
}

/// How the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// `kill -9`: what the kernel has stays.
    Kill,
    /// Power loss: what was not synced is anybody's guess.
    PowerCut,
    /// Asked to stop, as by SIGTERM.
    Stop,
}

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// Bytes of a link go to the member.
    ToMember { link: usize },
    /// Bytes of a link go to its client.
    ToClient { link: usize },
    /// The whole send of a link is in the socket's buffer.
    Sent { link: usize },
    /// A link comes up at the member.
    Connect { link: usize },
    /// The client of a link finds it broken.
    Broken { link: usize },
    /// A link is reset.
    Reset { link: usize },
    /// A client has waited long enough for a link to come up.
    Patience { client: usize, link: usize },
    /// A client acts.
    Client { client: usize },
    /// A call has waited long enough.
    Timeout { client: usize, link: usize, stream: u32 },
    /// The disk takes the bytes of the write in flight.
    LogTake { life: usize },
    /// The write in flight ends.
    LogDone { life: usize },
    /// A segment is made, or can't be.
    Segment { life: usize, number: u64, bytes: u64 },
    /// A core finds out that another one has woken it.
    Wake { life: usize, core: usize },
    /// The next fault.
    Fault,
    /// The process dies.
    Death(Death),
    /// The disk has room again.
    RoomAgain,
    /// No more faults.
    Calm,
    /// No more new work.
    Rest,
    /// The last progress requests.
    LastWords,
    /// The run is over.
    End,
}

/// A log write under way.
struct LogWrite {
    token: u64,
    segment: u64,
    offset: u64,
    buffer: AlignedBuffer,
    skip_sync: bool,
    failed: bool,
}

/// Everything outside of the member.
struct Outside {
    now: Time,
    next_event: u64,
    events: BTreeMap<(Time, u64), Event>,
    prng: Prng,
    plan: Plan,
    canary: Option<Mutant>,
    trace: Trace,
    disk: SimDisk,
    network: Network,
    clients: Vec<Client>,
    history: History,
    truth: Truth,
    violations: Vec<Violation>,
    /// Number of the member's present life.
    life: usize,
    /// The process runs.
    running: bool,
    /// It lets clients in.
    serving: bool,
    /// The process is dead, or about to find out.
    dying: Option<Death>,
    stop_asked: Arc<AtomicBool>,
    /// By core.
    completions: Vec<Vec<Completion<network::SimSocket>>>,
    /// Cores that another core has woken.
    wakes: Vec<Arc<AtomicBool>>,
    write: Option<LogWrite>,
    skip_sync: bool,
    /// Segments being made.
    preparing: u32,
    /// Steps of recovery until the power fails inside it.
    fuse: Option<u32>,
    /// Last complete write: everything before it in the log is proven durable.
    last_write: Option<(u64, u64)>,
    /// A bit that was flipped: file, byte, bit.
    rotten: Vec<(String, usize, u8)>,
    phase: Phase,
    over: bool,
    /// Life and applied index of the view that was looked at last.
    seen_applied: (usize, u64),
    /// Nanoseconds by which the wall clock is ahead of true time.
    wall_ahead: i64,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Faults,
    Calm,
    Rest,
}

/// How often things happened.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    kills: u64,
    power_cuts: u64,
    stops: u64,
    write_errors: u64,
    refusals: u64,
    cuts_of_links: u64,
    resets: u64,
    half_open: u64,
    stuck: u64,
    dials_refused: u64,
    patience: u64,
    retries: u64,
    not_taken: u64,
    resumed: u64,
    compacted_watches: u64,
    no_space: u64,
    jumps: u64,
    floods: u64,
    defragments: u64,
    turns: u64,
}

impl Counts {
    fn list(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("kills", self.kills),
            ("power cuts", self.power_cuts),
            ("stops", self.stops),
            ("write errors", self.write_errors),
            ("times without space", self.no_space),
            ("refused logs", self.refusals),
            ("clock jumps", self.jumps),
            ("floods", self.floods),
            ("defragmentations", self.defragments),
            ("links closed", self.cuts_of_links),
            ("links reset", self.resets),
            ("links half-open", self.half_open),
            ("links stuck", self.stuck),
            ("dials refused", self.dials_refused),
            ("links given up", self.patience),
            ("reads retried", self.retries),
            ("calls not taken", self.not_taken),
            ("watches resumed", self.resumed),
            ("watches compacted", self.compacted_watches),
            ("turns", self.turns),
        ]
    }
}

/// Everything that is drawn before a seed's run begins.
pub fn plan(seed: u64, options: Options) -> Plan {
    Plan::draw(&mut dice(seed), options.canary)
}

fn dice(seed: u64) -> Prng {
    Prng::new(seed ^ 0x005E_ED0F_E7C4_D000)
}

/// A delay between the two, mostly near the lower end; the lower end if it is the greater one.
fn delay(prng: &mut Prng, least: Time, most: Time) -> Time {
    let spread = most.saturating_sub(least) + 1;
    let (a, b, c) = (prng.below(spread), prng.below(spread), prng.below(spread));
    least + a.min(b).min(c)
}

impl Outside {
    fn new(seed: u64, options: Options) -> Outside {
        let mut prng = dice(seed);
        let plan = Plan::draw(&mut prng, options.canary);
        let mut outside = Outside {
            now: SECOND,
            next_event: 0,
            events: BTreeMap::new(),
            clients: (0..plan.clients).map(|id| Client::new(id, prng.next_u64())).collect(),
            network: Network::default(),
            prng,
            canary: options.canary,
            trace: Trace::new(options.keep_marks),
            disk: SimDisk::default(),
            history: History::default(),
            truth: Truth::default(),
            violations: Vec::new(),
            life: 0,
            running: false,
            serving: false,
            dying: None,
            stop_asked: Default::default(),
            completions: (0..plan.cores).map(|_| Vec::new()).collect(),
            wakes: (0..plan.cores).map(|_| Arc::default()).collect(),
            write: None,
            skip_sync: false,
            preparing: 0,
            fuse: None,
            last_write: None,
            rotten: Vec::new(),
            phase: Phase::Faults,
            over: false,
            seen_applied: (usize::MAX, 0),
            wall_ahead: 0,
            counts: Counts::default(),
            plan,
        };
        for client in 0..outside.clients.len() {
            outside.after(MILLI, Event::Client { client });
        }
        let calm = outside.now + outside.plan.fault_time;
        outside.truth.calm = calm;
        outside.at(calm, Event::Calm);
        outside.at(calm + outside.plan.calm_time, Event::Rest);
        let rest = calm + outside.plan.calm_time;
        outside.at(rest + outside.plan.rest_time, Event::LastWords);
        outside.at(rest + outside.plan.rest_time + 2 * SECOND, Event::End);
        outside.schedule_fault();
        outside
    }

    fn at(&mut self, time: Time, event: Event) {
        self.next_event += 1;
        self.events.insert((time, self.next_event), event);
    }

    fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    /// A delay between the two, mostly near the lower end.
    fn delay(&mut self, least: Time, most: Time) -> Time {
        delay(&mut self.prng, least, most)
    }

    /// Notes something in the trace.
    fn note(&mut self, what: u64, bytes: &[u8]) {
        let (at, crc) = (self.now, crc32c::crc32c(bytes));
        self.trace.push(Mark { at, what, bytes: bytes.len() as u64, crc });
    }

    fn violation(&mut self, checker: &'static str, text: String) {
        self.violations.push(Violation::new(checker, text));
    }

    /// Carries out everything that is due; true if there was something.
    fn step_due(&mut self) -> bool {
        let mut stepped = false;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now || self.dying.is_some_and(|death| death != Death::Stop) {
                break;
            }
            let event = entry.remove();
            stepped = true;
            self.carry_out(event);
        }
        stepped
    }

    /// Lets the world go on without the member until `until`, or the end.
    fn pass_time(&mut self, until: Time) {
        while !self.over {
            match self.events.first_key_value().map(|((time, _), _)| *time) {
                Some(time) if time <= until => self.now = self.now.max(time),
                _ => break,
            }
            self.step_due();
        }
        self.now = self.now.max(until);
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::ToMember { link } => self.carry_to_member(link),
            Event::ToClient { link } => self.carry_to_client(link),
            Event::Sent { link } => self.sent(link),
            Event::Connect { link } => self.connect(link),
            Event::Broken { link } => self.broken(link),
            Event::Reset { link } => self.reset(link),
            Event::Patience { client, link } => self.patience_ends(client, link),
            Event::Client { client } => self.client_acts(client),
            Event::Timeout { client, link, stream } => self.call_timed_out(client, link, stream),
            Event::LogTake { life } => self.log_take(life),
            Event::LogDone { life } => self.log_done(life),
            Event::Segment { life, number, bytes } => self.segment_made(life, number, bytes),
            Event::Wake { life, core } => self.woken(life, core),
            Event::Fault => self.fault(),
            Event::Death(death) => self.die(death),
            Event::RoomAgain => {
                self.set_capacity(None);
                self.truth.full_until = self.now + 2 * SECOND;
            }
            Event::Calm => {
                self.phase = Phase::Calm;
                self.disk.set_faults(Faults::default());
                self.fuse = None;
                self.mend_network();
                self.release_all();
            }
            Event::Rest => self.phase = Phase::Rest,
            Event::LastWords => self.ask_progress_at_end(),
            Event::End => {
                self.truth.ended = self.now;
                self.over = true;
            }
        }
    }

    fn schedule_fault(&mut self) {
        if self.plan.fault_every > 0 {
            let every = self.plan.fault_every;
            let delay = every / 4 + self.prng.below(every * 3 / 2);
            self.after(delay, Event::Fault);
        }
    }

    fn fault(&mut self) {
        if self.phase != Phase::Faults {
            return;
        }
        self.schedule_fault();
        match self.plan.draw_fault(&mut self.prng) {
            plan::Fault::Kill => self.die(Death::Kill),
            plan::Fault::PowerCut => self.die(Death::PowerCut),
            plan::Fault::Stop => self.die(Death::Stop),
            plan::Fault::WriteError => {
                let (writes, syncs) = self.disk.counts();
                let ahead = 1 + self.prng.below(3);
                let mut faults = Faults::default();
                match self.prng.below(3) {
                    0 => faults.fail_sync = Some(syncs + ahead),
                    1 => faults.short_write = Some(writes + ahead),
                    _ => faults.fail_write = Some(writes + ahead),
                }
                self.disk.set_faults(faults);
                if self.canary == Some(Mutant::M17) {
                    // The bug shows only if the machine goes down before the blocks are written again.
                    let delay = self.delay(50 * MILLI, SECOND);
                    self.after(delay, Event::Death(Death::PowerCut));
                }
            }
            plan::Fault::NoSpace => {
                let used = self.disk_bytes();
                self.counts.no_space += 1;
                self.set_capacity(Some(used));
                let delay = self.delay(500 * MILLI, 4 * SECOND);
                self.after(delay, Event::RoomAgain);
            }
            plan::Fault::CloseLink => self.link_fault(LinkFault::Close),
            plan::Fault::ResetLink => self.link_fault(LinkFault::Reset),
            plan::Fault::LoseLink => self.link_fault(LinkFault::Lose),
            plan::Fault::StickLink => self.link_fault(LinkFault::Stick),
            plan::Fault::Jump => {
                // Of up to an hour, to and fro.
                self.counts.jumps += 1;
                let hour = 3_600 * SECOND;
                let by = self.prng.below(2 * hour).cast_signed() - hour.cast_signed();
                self.wall_ahead += by;
            }
            plan::Fault::Refuse => self.refuse_connections(),
            plan::Fault::Stall => {
                let time = self.delay(10 * MILLI, 1_500 * MILLI);
                self.truth.stalled += time;
                self.now += time;
            }
        }
    }

    fn set_capacity(&mut self, bytes: Option<u64>) {
        self.disk.set_faults(Faults { capacity_bytes: bytes, ..Faults::default() });
    }

    fn disk_bytes(&self) -> u64 {
        let sizes =
            self.disk.names().map(|name| self.disk.read(name).map_or(0, |content| content.len() as u64));
        sizes.sum()
    }

    fn die(&mut self, death: Death) {
        if self.dying.is_some() || !self.running {
            return;
        }
        self.dying = Some(death);
        self.note(1, &[death as u8]);
        if death == Death::Stop {
            self.stop_asked.store(true, Ordering::Relaxed);
            self.completions[FIRST].push(Completion::Woken);
        }
    }
}
