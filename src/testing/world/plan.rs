//! What a seed makes of a run: sizes, rates, which faults there are.

use super::{MILLI, SECOND};
use crate::pure::wire::h2::connection::SendLimits;
use crate::stdx::prng::Prng;
use crate::testing::canary::Mutant;
use crate::testing::history::Time;

/// Everything that is drawn before a run begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Clients.
    pub clients: usize,
    /// Cores of the member.
    pub cores: usize,
    /// Longest time until a core finds out that it was woken.
    pub wake_delay: Time,
    /// One turn of so many is followed by a pause of its core; 0 for none.
    pub pause_every: u64,
    /// Keys of the key space.
    pub keys: u64,
    /// Longest value.
    pub value_bytes: u64,
    /// Mean time between two calls of a client.
    pub call_every: Time,
    /// Calls of a client at once.
    pub calls_at_once: usize,
    /// How long a call may take.
    pub call_timeout: Time,
    /// How long a client waits for a connection, and a silent one for any byte, before it gives it up.
    pub patience: Time,
    /// The member asks a silent client whether it is there after this; 0 for never.
    pub keepalive_idle: Time,
    /// Streams of a connection that the member takes; clients care as little as they do in life.
    pub streams_max: u32,
    /// What clients announce as their streams' window.
    pub window: u32,
    /// Clients stop reading their watches now and then.
    pub stalls: bool,
    /// Events that a watch stream may queue.
    pub queue_bytes_max: usize,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// Longest network delay.
    pub network_delay: Time,
    /// Longest log write.
    pub disk_delay: Time,
    /// What a socket holds of a send.
    pub socket_bytes: usize,
    /// Mean time between two faults; 0 for none.
    pub fault_every: Time,
    /// Weights of the faults, in the order of `Fault`.
    pub faults: [u64; FAULTS],
    /// Bits rot while the power is off.
    pub rot: bool,
    /// The power may fail during recovery.
    pub cut_recovery: bool,
    /// Compactions come in the place of one of so many calls; 0 for none.
    pub compact_every: u64,
    /// Periodic watch progress.
    pub progress_interval: Time,
    /// Wishes that the member's front has under way at once.
    pub credits: usize,
    /// Bytes that may wait to be sent: the real bounds, or small ones that runs get to.
    pub send: SendLimits,
    /// Size of the segments of records in memory.
    pub record_segment_bytes: usize,
    /// Clients ask for all dead bytes to be given back now and then.
    pub defragments: bool,
    /// Now and then a client asks for so much at once, and does not read; 0 for never.
    pub flood: usize,
    /// How long faults come.
    pub fault_time: Time,
    /// How long work goes on without faults.
    pub calm_time: Time,
    /// How long nothing is asked any more: leases end.
    pub rest_time: Time,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    PowerCut,
    Stop,
    WriteError,
    NoSpace,
    Stall,
    CloseLink,
    ResetLink,
    LoseLink,
    StickLink,
    Refuse,
    Jump,
}

impl Fault {
    const ALL: [Fault; FAULTS] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::Stop,
        Fault::WriteError,
        Fault::NoSpace,
        Fault::Stall,
        Fault::CloseLink,
        Fault::ResetLink,
        Fault::LoseLink,
        Fault::StickLink,
        Fault::Refuse,
        Fault::Jump,
    ];
}

const FAULTS: usize = 12;

/// Bounds of what waits to be sent that runs get to.
const SMALL_SEND: SendLimits = SendLimits {
    stream: 8 << 10,
    stream_min: 1 << 10,
    connection: 32 << 10,
    stalled: 128 << 10,
    answers: 64 << 10,
};

impl Plan {
    pub(super) fn draw(prng: &mut Prng, canary: Option<Mutant>) -> Plan {
        let big = prng.chance(1, 6);
        let small = prng.chance(1, 2);
        let keys_max = if prng.chance(1, 2) { 6 } else { 40 };
        let mut plan = Plan {
            clients: 1 + prng.below(5) as usize,
            cores: [1, 1, 2, 3, 5][prng.below(5) as usize],
            wake_delay: (1 << prng.below(12)) * MILLI / 1_000,
            pause_every: [0, 20, 200][prng.below(3) as usize],
            keys: 1 + prng.below(keys_max),
            value_bytes: if big { 64 << 10 } else { 24 + prng.below(600) },
            call_every: (5 + prng.below(40)) * MILLI * if big { 8 } else { 1 },
            calls_at_once: 1 + prng.below(8) as usize,
            call_timeout: (300 + prng.below(4_000)) * MILLI,
            patience: (500 + prng.below(5_000)) * MILLI,
            keepalive_idle: [0, 2 * SECOND][prng.below(2) as usize],
            streams_max: if prng.chance(1, 4) { 3 + prng.below(4) as u32 } else { u32::MAX },
            window: [65_535, 1 << 20, 2_000 + prng.below(20_000) as u32][prng.below(3) as usize],
            stalls: prng.chance(1, 2),
            queue_bytes_max: [1 << 20, 4 << 10, 200][prng.below(3) as usize],
            segment_bytes: (256 << 10) << prng.below(3),
            network_delay: (1 + prng.below(40)) * MILLI,
            disk_delay: (1 + prng.below(20)) * MILLI,
            socket_bytes: 1 << (10 + prng.below(8)),
            fault_every: [0, SECOND / 2, SECOND, 3 * SECOND][prng.below(4) as usize],
            faults: [0; FAULTS],
            rot: prng.chance(1, 8),
            cut_recovery: prng.chance(1, 3),
            compact_every: [0, 20, 100][prng.below(3) as usize],
            progress_interval: [100 * MILLI, 2 * SECOND, 600 * SECOND][prng.below(3) as usize],
            credits: if small { 2 + prng.below(6) as usize } else { 4_096 },
            send: if small { SMALL_SEND } else { SendLimits::default() },
            record_segment_bytes: if prng.chance(1, 2) { 4 << 10 } else { 1 << 20 },
            defragments: prng.chance(1, 3),
            flood: if !big && prng.chance(1, 6) { 50 + prng.below(150) as usize } else { 0 },
            fault_time: (3 + prng.below(9)) * SECOND,
            calm_time: (4 + prng.below(2)) * SECOND,
            rest_time: 60 * SECOND,
        };
        for weight in &mut plan.faults {
            *weight = if prng.chance(1, 2) { 1 + prng.below(4) } else { 0 };
        }
        // A stream takes a window every round trip: what a stalled reader missed has to fit into the rest.
        if big {
            plan.window = plan.window.max(65_535);
            plan.rest_time = 180 * SECOND;
        } else if plan.window < 65_535 {
            plan.rest_time = 240 * SECOND;
        }
        plan.favour(canary);
        if plan.faults.iter().sum::<u64>() == 0 {
            plan.fault_every = 0;
        }
        plan
    }

    /// The longest answer to a single call, about: three ranges of everything in a transaction.
    pub(super) fn answer_bytes_max(&self) -> u64 {
        4 * self.keys * (self.value_bytes + 100) + 1_000
    }

    /// Conditions under which a planted bug can show at all; how and when it shows is left to the seed.
    fn favour(&mut self, canary: Option<Mutant>) {
        match canary {
            Some(Mutant::M1 | Mutant::M18) => self.expect_fault(Fault::PowerCut),
            Some(Mutant::M17) => self.expect_fault(Fault::WriteError),
            Some(Mutant::M16) => {
                self.rot = true;
                self.expect_fault(Fault::PowerCut);
            }
            Some(Mutant::M8 | Mutant::M10) => {
                self.stalls = true;
                (self.value_bytes, self.flood) = (64 << 10, 0);
                self.queue_bytes_max = 200;
                self.window = 20_000;
                self.call_every = 10 * MILLI;
            }
            Some(Mutant::M9) => self.compact_every = 20,
            Some(Mutant::M13) => self.expect_fault(Fault::Jump),
            Some(Mutant::M15) => {
                self.rot = true;
                self.expect_fault(Fault::PowerCut);
            }
            Some(Mutant::M23) => {
                self.stalls = true;
                self.queue_bytes_max = 200;
                self.window = 2_000;
            }
            Some(Mutant::M25) => {
                self.compact_every = 20;
                self.expect_fault(Fault::Kill);
            }
            Some(Mutant::M26) => {
                (self.credits, self.send, self.flood) = (2, SMALL_SEND, 200);
                (self.keys, self.value_bytes, self.queue_bytes_max) = (40, 600, 4 << 10);
            }
            Some(Mutant::M11 | Mutant::M19 | Mutant::M24) | None => {}
        }
    }

    fn expect_fault(&mut self, fault: Fault) {
        self.fault_every = SECOND;
        self.faults[fault as usize] = 4;
    }

    pub(super) fn draw_fault(&self, prng: &mut Prng) -> Fault {
        let mut at = prng.below(self.faults.iter().sum());
        for (fault, weight) in Fault::ALL.into_iter().zip(self.faults) {
            if at < weight {
                return fault;
            }
            at -= weight;
        }
        unreachable!("the weights were summed up")
    }
}
