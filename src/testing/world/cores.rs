//! The member's cores, which take their turns on the one thread of the simulator.
//!
//! Which of those that have something to do is next is drawn, and a core may pause as if the machine ran something
//! else on its processor; so turns interleave in every order that threads could make.

use std::cell::RefCell;
use std::rc::Rc;

use super::io::SimIo;
use super::{FIRST, MILLI, Outside};
use crate::edge::io::Io as _;
use crate::edge::mesh::Reader;
use crate::edge::shard::{Loop, Seat, Stopped};
use crate::pure::node::View;
use crate::testing::history::Time;

use super::network::SimSocket;

/// Longest pause of a core.
const PAUSE_MOST: Time = 30 * MILLI;

/// All cores of one life.
pub(super) struct Cores(Vec<Core>);

struct Core {
    /// `None` when it has drained and ended.
    work: Option<Loop<SimIo>>,
    /// It has more to do at once.
    busy: bool,
    /// It has something to do then.
    until: Option<Time>,
    paused_until: Time,
}

impl Cores {
    /// Seats everybody. `stop` is asked by the first core.
    pub(super) fn new(
        world: &Rc<RefCell<Outside>>,
        seats: Vec<Seat<SimSocket>>,
        stop: Box<dyn FnMut() -> bool>,
    ) -> Cores {
        let ios: Vec<SimIo> = (0..seats.len()).map(|core| SimIo::new(world, core)).collect();
        let wakers: Vec<_> = ios.iter().map(SimIo::waker).collect();
        let loops = ios.into_iter().zip(seats).map(|(io, seat)| Loop::new(io, seat, wakers.clone()));
        let core = |work| Core { work: Some(work), busy: true, until: None, paused_until: 0 };
        let mut cores = Cores(loops.map(core).collect());
        cores.first().stop_when(stop);
        cores
    }

    fn first(&mut self) -> &mut Loop<SimIo> {
        self.0[FIRST].work.as_mut().expect("the life ends with its first core")
    }

    /// True once the member has published itself.
    pub(super) fn is_ready(&mut self) -> bool {
        self.first().sequencer().node.is_ready()
    }

    /// Access to the newest view.
    pub(super) fn views(&mut self) -> &mut Reader<View> {
        let mut loops = self.0.iter_mut().filter_map(|core| core.work.as_mut());
        &mut loops.find_map(Loop::shard).expect("some core serves").views
    }

    /// Lets time pass until a core has something to do, and gives one of those a turn; says which.
    ///
    /// # Errors
    /// The reason for which the first core ended.
    pub(super) fn turn(&mut self, world: &Rc<RefCell<Outside>>) -> Result<usize, Stopped> {
        let Some(core) = self.next(&mut world.borrow_mut()) else { return Ok(FIRST) };
        let state = &mut self.0[core];
        let turned = state.work.as_mut().expect("it has something to do").turn(state.busy);
        match turned {
            Ok(busy) => {
                let work = state.work.as_mut().expect("it goes on");
                state.busy = busy;
                let now = work.io().now();
                state.until = work.until_next_timeout().map(|left| (now + left).0);
            }
            Err(stopped) if core == FIRST => return Err(stopped),
            Err(_) => state.work = None,
        }
        let world = &mut *world.borrow_mut();
        let every = world.plan.pause_every;
        if self.0.len() > 1 && every > 0 && world.prng.chance(1, every) {
            self.0[core].paused_until = world.now + world.delay(MILLI / 10, PAUSE_MOST);
        }
        Ok(core)
    }

    /// The core that has the next turn; `None` if the member is dead or the run over.
    fn next(&self, world: &mut Outside) -> Option<usize> {
        loop {
            world.step_due();
            if world.is_dead() || world.over {
                return None;
            }
            let now = world.now;
            let mut runnable: Vec<usize> = Vec::new();
            let mut wait = None;
            for (number, core) in self.0.iter().enumerate().filter(|(_, core)| core.work.is_some()) {
                let has_work = core.busy || !world.completions[number].is_empty();
                let due = if has_work { Some(now) } else { core.until };
                let Some(due) = due else { continue };
                let from = due.max(core.paused_until);
                if from <= now {
                    runnable.push(number);
                }
                wait = Some(wait.map_or(from, |wait: Time| wait.min(from)));
            }
            if !runnable.is_empty() {
                let drawn = if runnable.len() > 1 { world.prng.below(runnable.len() as u64) } else { 0 };
                return Some(runnable[drawn as usize]);
            }
            let next = world.events.first_key_value().map(|((time, _), _)| *time);
            let next = [next, wait].into_iter().flatten().min();
            world.now = now.max(next.expect("the end of the run is always to come"));
        }
    }
}
