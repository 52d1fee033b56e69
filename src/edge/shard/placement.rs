//! Which core does what, and which shard gets a new client.

use std::time::Duration;

use super::slot::ShardSlot;
use crate::limits;
use crate::stdx::time::Monotonic;

/// The core that sequences, accepts, and hears signals.
pub const FIRST: usize = 0;

/// True if this core serves clients. With many cores the first one only sequences.
pub fn serves(core: usize, cores: usize) -> bool {
    core != FIRST || cores <= limits::shard::SERVING_FIRST_CORES_MAX
}

/// Chooses the shard of each new connection: the one with the fewest.
///
/// Always true: no more than `connections_max` are open or on their way to a shard.
pub struct Acceptor {
    /// By core; `None`: it serves no clients.
    shards: Vec<Option<Load>>,
    connections_max: u64,
    /// When the log was last told that clients are turned away.
    warned: Option<Monotonic>,
}

struct Load {
    slot: ShardSlot,
    /// Connections ever given to it; what it has not adopted yet is on its way.
    given: u64,
}

impl Load {
    fn connections(&self) -> u64 {
        let (open, adopted) = self.slot.connections();
        open + (self.given - adopted)
    }
}

impl Acceptor {
    /// For these cores' slots.
    pub fn new(slots: &[ShardSlot], connections_max: u64) -> Acceptor {
        let load = |slot: &ShardSlot| Load { slot: slot.clone(), given: 0 };
        let cores = slots.len();
        let shards =
            slots.iter().enumerate().map(|(core, slot)| serves(core, cores).then(|| load(slot))).collect();
        Acceptor { shards, connections_max, warned: None }
    }

    /// The core for one more connection; the first of several that have the fewest. `None`: there are too many, of
    /// which the log is told now and then.
    pub fn choose(&mut self, now: Monotonic) -> Option<usize> {
        let loads = self.shards.iter().enumerate();
        let loads = loads.filter_map(|(core, load)| Some((load.as_ref()?.connections(), core)));
        let (mut total, mut least) = (0, None);
        for load in loads {
            total += load.0;
            least = Some(least.map_or(load, |least: (u64, usize)| least.min(load)));
        }
        let Some((_, core)) = least.filter(|_| total < self.connections_max) else {
            self.warn(now);
            return None;
        };
        self.shards[core].as_mut().expect("it serves").given += 1;
        Some(core)
    }

    /// Tells the log that a client is turned away, unless that was told not long ago.
    fn warn(&mut self, now: Monotonic) {
        if !self.may_warn(now) {
            return;
        }
        let what_to_do = if self.connections_max < limits::shard::CONNECTIONS_MAX {
            "raise the limit of open files (ulimit -n, systemd: LimitNOFILE), or connect fewer clients"
        } else {
            "connect fewer clients"
        };
        tracing::warn!(
            connections_max = self.connections_max,
            what_to_do,
            "further clients are turned away: as many are connected as are allowed"
        );
    }

    /// True for the first of the warnings that come within [`limits::shard::TURNED_AWAY_WARNING_SECONDS`].
    fn may_warn(&mut self, now: Monotonic) -> bool {
        let pause = Duration::from_secs(limits::shard::TURNED_AWAY_WARNING_SECONDS);
        let may = self.warned.is_none_or(|warned| now.since(warned) >= pause);
        if may {
            self.warned = Some(now);
        }
        may
    }

    /// The connection that [`Acceptor::choose`] was asked for did not get there.
    pub fn take_back(&mut self, core: usize) {
        self.shards[core].as_mut().expect("it was chosen").given -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(cores: usize) -> Vec<ShardSlot> {
        (0..cores).map(|_| ShardSlot::new()).collect()
    }

    #[test]
    fn the_shard_with_the_fewest_gets_the_next() {
        let slots = slots(3);
        let mut acceptor = Acceptor::new(&slots, 100);
        let chosen: Vec<_> = (0..6).map(|_| acceptor.choose(Monotonic(0)).expect("there is room")).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
        // What was adopted counts as open, and what has closed no more.
        slots[0].announce_connections(2, 2);
        slots[1].announce_connections(0, 2);
        slots[2].announce_connections(1, 1);
        let chosen: Vec<_> = (0..4).map(|_| acceptor.choose(Monotonic(0)).expect("there is room")).collect();
        assert_eq!(chosen, [1, 1, 0, 1]);
    }

    #[test]
    fn the_limit_holds_over_all_shards() {
        let slots = slots(2);
        let mut acceptor = Acceptor::new(&slots, 3);
        for _ in 0..3 {
            assert!(acceptor.choose(Monotonic(0)).is_some());
        }
        assert_eq!(acceptor.choose(Monotonic(0)), None);
        slots[0].announce_connections(1, 2);
        assert_eq!(acceptor.choose(Monotonic(0)), Some(0));
        assert_eq!(acceptor.choose(Monotonic(0)), None);
        acceptor.take_back(0);
        assert_eq!(acceptor.choose(Monotonic(0)), Some(0));
    }

    #[test]
    fn the_log_is_not_told_of_each_client_that_is_turned_away() {
        let mut acceptor = Acceptor::new(&slots(1), 0);
        assert_eq!((acceptor.choose(Monotonic(0)), acceptor.warned.is_some()), (None, true));
        acceptor.warned = None;
        let pause = Duration::from_secs(limits::shard::TURNED_AWAY_WARNING_SECONDS);
        let (first, second) = (Monotonic(5), Monotonic(5) + pause);
        let told: Vec<bool> =
            [first, first, Monotonic(second.0 - 1), second, second].map(|now| acceptor.may_warn(now)).into();
        assert_eq!(told, [true, false, false, true, false]);
    }

    #[test]
    fn with_many_cores_the_first_one_only_sequences() {
        let cores = limits::shard::SERVING_FIRST_CORES_MAX + 1;
        let mut acceptor = Acceptor::new(&slots(cores), 1_000);
        let chosen: Vec<_> =
            (0..cores).map(|_| acceptor.choose(Monotonic(0)).expect("there is room")).collect();
        assert_eq!(chosen[..cores - 1], (1..cores).collect::<Vec<_>>());
        assert_eq!(chosen[cores - 1], 1);
        assert_eq!(Acceptor::new(&slots(cores - 1), 9).choose(Monotonic(0)), Some(0));
    }
}
