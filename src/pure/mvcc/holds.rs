//! What was cut off, and who may still look at it.
//!
//! Owns: garbage, in generations; the count of views per generation.
//! Takes: garbage. Gives: a hold for each view; garbage that no view can reach.
//! Always true: garbage of a generation is given out only when all views of it and of those before are
//! gone; what is left when the store goes is freed by the last view.
//! Not here: what garbage is (`versions`).
//!
//! Every view carries its generation's [`Hold`]. A view may look at what was cut during or after its
//! generation, never at what was cut before it. The count is the `Arc`'s own.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::versions::{Chain, Garbage};

/// A view's part in a generation.
pub(super) struct Hold {
    _heap: Arc<Heap>,
}

/// Outlives the store as long as there is a view.
#[derive(Default)]
struct Heap {
    leftovers: OnceLock<(Vec<Garbage>, Vec<Chain>)>,
}

struct Generation {
    hold: Arc<Hold>,
    garbage: Vec<Garbage>,
}

/// All generations, oldest first; see the module.
pub(super) struct Holds {
    heap: Arc<Heap>,
    generations: VecDeque<Generation>,
    unreachable: Vec<Garbage>,
}

impl Holds {
    pub fn new() -> Holds {
        let heap = Arc::new(Heap::default());
        let mut holds = Holds { heap, generations: VecDeque::new(), unreachable: Vec::new() };
        holds.begin();
        holds
    }

    fn begin(&mut self) {
        let hold = Arc::new(Hold { _heap: Arc::clone(&self.heap) });
        self.generations.push_back(Generation { hold, garbage: Vec::new() });
    }

    fn current(&mut self) -> &mut Generation {
        self.generations.back_mut().expect("there is always a current generation")
    }

    /// For a view of this moment.
    pub fn hold(&mut self) -> Arc<Hold> {
        // A view must not keep what was cut before it.
        if !self.current().garbage.is_empty() {
            self.begin();
            self.collect();
        }
        Arc::clone(&self.current().hold)
    }

    /// Takes what can't be reached from the newest state any more.
    pub fn discard(&mut self, garbage: Garbage) {
        self.current().garbage.push(garbage);
    }

    /// Garbage that no view can reach. Dropping it frees it.
    pub fn take_unreachable(&mut self) -> Vec<Garbage> {
        self.collect();
        std::mem::take(&mut self.unreachable)
    }

    fn collect(&mut self) {
        loop {
            let only = self.generations.len() == 1;
            let oldest = self.generations.front_mut().expect("there is always a current generation");
            // `get_mut` also orders the last reader's looks before what follows.
            if Arc::get_mut(&mut oldest.hold).is_none() {
                return;
            }
            self.unreachable.append(&mut oldest.garbage);
            if only {
                return;
            }
            self.generations.pop_front();
        }
    }

    /// Leaves everything to the last view.
    pub fn leave(&mut self, mut garbage: Vec<Garbage>, chains: Vec<Chain>) {
        self.generations.iter_mut().for_each(|g| garbage.append(&mut g.garbage));
        let set = self.heap.leftovers.set((garbage, chains));
        assert!(set.is_ok(), "a store goes once");
    }
}
