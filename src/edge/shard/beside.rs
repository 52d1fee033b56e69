//! On which processor the first core runs: where the scheduler has it, or beside the one shard that it serves.
//!
//! Owns: how often in a row the same processor asked. Takes: from where wishes came. Gives: the processor.
//! Always true: who asks from another processor, or is not alone, ends it in the same turn.
//! Not here: who is alone (`edge/disk/alone`), the system call (`edge/host`).
//!
//! One client with one request under way keeps one thread busy at a time: its own, its shard's, the first core's. A
//! thread that is woken while its waker still runs is given an idle processor, if there is one; and to wake that from its
//! sleep takes several times as long (in a virtual machine some 40 us) as to wait for the waker, which goes to sleep
//! next (decision 0009).

use super::placement::FIRST;
use super::slot::ShardSlot;
use crate::limits::shard::BESIDE_WISHES;

/// The account of the first core.
#[derive(Default)]
pub struct Beside {
    processor: Option<usize>,
    /// Turns in a row whose wishes came from there.
    times: u32,
}

impl Beside {
    /// Wishes were taken of one shard alone, or of several (`None`).
    pub fn took(&mut self, shard: Option<usize>, slots: &[ShardSlot]) {
        // Its own wishes wake nobody.
        let shard = shard.filter(|shard| *shard != FIRST);
        let processor = shard.and_then(|shard| slots[shard].processor());
        if processor != self.processor {
            *self = Beside { processor, times: 0 };
        }
        self.times = self.times.saturating_add(1);
    }

    /// The processor to run on, `None`: any.
    pub fn choose(&self, is_alone: bool) -> Option<usize> {
        self.processor.filter(|_| is_alone && self.times >= BESIDE_WISHES)
    }
}

#[cfg(all(test, not(etchd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_lone_shard_that_stays_is_followed() {
        let slots: Vec<ShardSlot> = (0..3).map(|_| ShardSlot::new()).collect();
        slots[0].announce_processor(Some(9));
        slots[1].announce_processor(Some(4));
        let mut beside = Beside::default();
        let mut after = |times: u32, shard: Option<usize>, is_alone: bool| {
            (0..times).for_each(|_| beside.took(shard, &slots));
            beside.choose(is_alone)
        };
        assert_eq!(after(BESIDE_WISHES - 1, Some(1), true), None);
        assert_eq!(after(1, Some(1), true), Some(4));
        assert_eq!(after(0, Some(1), false), None);
        assert_eq!(after(1, Some(1), true), Some(4));
        assert_eq!(after(1, None, true), None, "several asked");
        assert_eq!(after(2 * BESIDE_WISHES, Some(FIRST), true), None, "it asked itself");
        assert_eq!(after(2 * BESIDE_WISHES, Some(2), true), None, "who goes on is not waited for");
        assert_eq!(after(BESIDE_WISHES, Some(1), true), Some(4));
        slots[1].announce_processor(Some(5));
        assert_eq!(after(BESIDE_WISHES - 1, Some(1), true), None, "it has moved");
        assert_eq!(after(1, Some(1), true), Some(5));
        slots[1].announce_processor(None);
        assert_eq!(after(1, Some(1), true), None);
    }
}
