//! The third `Io`: commands go into the simulated world, completions come out of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::network::SimSocket;
use super::{Event, FIRST, LogWrite, MILLI, Outside};
use crate::edge::io::{AlignedBuffer, Completion, ConnId, Io, SegmentError, SendPieces, Wake, Waker};
use crate::stdx::time::Monotonic;
use crate::testing::canary::Mutant;
use crate::testing::disk::{DiskError, SECTOR_BYTES};
use crate::testing::history::Time;

/// What a turn of the loop costs at most.
const TURN_COST: Time = MILLI / 20;

/// The outside of one core's loop, for one life of the process.
pub(super) struct SimIo {
    world: Rc<RefCell<Outside>>,
    life: usize,
    core: usize,
    now: Monotonic,
}

/// Name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016x}.log")
}

/// Notes the wake; the world carries it to its core.
struct SimWake(Arc<AtomicBool>);

impl Wake for SimWake {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SimIo {
    pub(super) fn new(world: &Rc<RefCell<Outside>>, core: usize) -> SimIo {
        let (life, now) = {
            let world = world.borrow();
            (world.life, Monotonic(world.now))
        };
        SimIo { world: Rc::clone(world), life, core, now }
    }

    /// Runs `body` in the world if this life is not over.
    fn alive(&self, body: impl FnOnce(&mut Outside)) {
        let mut world = self.world.borrow_mut();
        if world.life == self.life && !world.is_dead() {
            body(&mut world);
        }
    }
}

impl Io for SimIo {
    type Socket = SimSocket;

    fn now(&self) -> Monotonic {
        self.now
    }

    /// Never waits: the core has its turn because it has something to do ([`super::cores`]).
    fn wait(&mut self, _timeout: Option<Duration>, out: &mut Vec<Completion<SimSocket>>) {
        let mut world = self.world.borrow_mut();
        world.now += world.prng.below(TURN_COST);
        world.counts.turns += 1;
        world.step_due();
        self.now = Monotonic(world.now);
        if !world.is_dead() {
            out.append(&mut world.completions[self.core]);
        }
    }

    fn adopt(&mut self, socket: SimSocket) -> ConnId {
        // A dead life's connections are nobody's.
        self.world.borrow_mut().adopt(socket, self.core)
    }

    fn send(&mut self, conn: ConnId, pieces: &mut SendPieces) {
        let bytes: Vec<u8> = pieces.pieces().iter().flat_map(|piece| piece.iter().copied()).collect();
        pieces.clear();
        self.alive(|world| world.member_sends(conn.0, &bytes));
    }

    fn pause_receive(&mut self, conn: ConnId) {
        self.alive(|world| world.set_paused(conn.0, true));
    }

    fn resume_receive(&mut self, conn: ConnId) {
        self.alive(|world| world.set_paused(conn.0, false));
    }

    fn close(&mut self, conn: ConnId) {
        self.alive(|world| world.member_closes(conn.0));
    }

    fn connections(&self) -> usize {
        self.world.borrow().connections_of(self.core)
    }

    fn stop_accepting(&mut self) {
        self.alive(|world| world.serving = false);
    }

    fn log_buffer(&mut self, capacity: usize) -> AlignedBuffer {
        AlignedBuffer::new(capacity)
    }

    fn log_write(&mut self, token: u64, segment: u64, offset: u64, buffer: AlignedBuffer) {
        self.alive(|world| world.log_write(token, segment, offset, buffer));
    }

    fn log_skip_sync(&mut self) {
        self.alive(|world| world.skip_sync = true);
    }

    fn log_prepare_segment(&mut self, number: u64, bytes: u64) {
        let life = self.life;
        self.alive(|world| {
            world.preparing += 1;
            let most = 5 * world.plan.disk_delay;
            let delay = world.delay(MILLI / 2, most);
            world.after(delay, Event::Segment { life, number, bytes });
        });
    }

    fn log_bytes(&self) -> u64 {
        self.world.borrow().disk_bytes()
    }

    fn waker(&self) -> Waker {
        Waker::new(Arc::new(SimWake(Arc::clone(&self.world.borrow().wakes[self.core]))))
    }

    fn wake(&mut self, target: &Waker) {
        target.wake();
        self.alive(Outside::carry_wakes);
    }
}

impl Outside {
    /// Wakes that cores have asked for are on their way.
    fn carry_wakes(&mut self) {
        for core in 0..self.wakes.len() {
            if self.wakes[core].swap(false, Ordering::Relaxed) {
                let (life, most) = (self.life, self.plan.wake_delay);
                let delay = self.delay(MILLI / 1_000, most);
                self.after(delay, Event::Wake { life, core });
            }
        }
    }

    pub(super) fn woken(&mut self, life: usize, core: usize) {
        if life == self.life && self.running {
            self.completions[core].push(Completion::Woken);
        }
    }

    fn connections_of(&self, core: usize) -> usize {
        self.network.connections_of(core)
    }

    /// True if the process was killed: it does nothing more.
    pub(super) fn is_dead(&self) -> bool {
        self.dying.is_some_and(|death| death != super::Death::Stop)
    }

    fn log_write(&mut self, token: u64, segment: u64, offset: u64, buffer: AlignedBuffer) {
        assert!(self.write.is_none(), "the writer has one write in flight");
        self.note(7, &buffer);
        let skip_sync = std::mem::take(&mut self.skip_sync);
        self.write = Some(LogWrite { token, segment, offset, buffer, skip_sync, failed: false });
        let most = self.plan.disk_delay;
        let taken = self.delay(MILLI / 50, most);
        let synced = self.delay(MILLI / 50, most);
        let life = self.life;
        self.after(taken, Event::LogTake { life });
        self.after(taken + synced, Event::LogDone { life });
    }

    /// The disk takes the bytes; nothing is durable yet.
    pub(super) fn log_take(&mut self, life: usize) {
        if life != self.life {
            return;
        }
        let Some(mut write) = self.write.take() else { return };
        let length = write.buffer.len();
        if self.canary == Some(Mutant::M18) && self.prng.chance(1, 10) {
            // The buffer was given away while the disk still read from it: its end is somebody else's.
            let from = self.prng.below(length as u64) as usize;
            let noise = self.prng.next_u64().to_le_bytes();
            write.buffer[from..]
                .iter_mut()
                .zip(noise.iter().cycle())
                .for_each(|(byte, noise)| *byte = *noise);
        }
        let name = segment_name(write.segment);
        let done = self.disk.write(&name, write.offset, &write.buffer);
        write.failed = done != Ok(length);
        self.write = Some(write);
    }

    pub(super) fn log_done(&mut self, life: usize) {
        if life != self.life {
            return;
        }
        let Some(write) = self.write.take() else { return };
        let name = segment_name(write.segment);
        let bytes = write.buffer.len() as u64;
        let synced =
            write.skip_sync || !write.failed && self.disk.sync_range(&name, write.offset, bytes).is_ok();
        self.note(8, &[u8::from(synced)]);
        self.completions[FIRST].push(if synced {
            self.last_write = Some((write.segment, write.offset));
            Completion::LogWritten { token: write.token, buffer: write.buffer }
        } else {
            self.counts.write_errors += 1;
            Completion::LogFailed { token: write.token, error: std::io::Error::from_raw_os_error(libc::EIO) }
        });
    }

    pub(super) fn segment_made(&mut self, life: usize, number: u64, bytes: u64) {
        if life != self.life {
            return;
        }
        self.preparing -= 1;
        let made = self.make_segment(number, bytes);
        self.note(9, &number.to_le_bytes());
        self.completions[FIRST].push(match made {
            Ok(()) => Completion::SegmentReady { number },
            Err(DiskError::NoSpace) => Completion::SegmentFailed { number, error: SegmentError::NoSpace },
            Err(_) => {
                let error = SegmentError::Failed(std::io::Error::from_raw_os_error(libc::EIO));
                Completion::SegmentFailed { number, error }
            }
        });
    }

    /// As the server makes one: zeros under another name, synced, renamed, the directory synced.
    pub(super) fn make_segment(&mut self, number: u64, bytes: u64) -> Result<(), DiskError> {
        let (name, unfinished) = (segment_name(number), format!("{number}.tmp"));
        if self.disk.names().any(|known| known == unfinished) {
            self.disk.remove(&unfinished)?;
        }
        self.disk.create(&unfinished, bytes)?;
        self.disk.sync(&unfinished)?;
        self.disk.rename(&unfinished, &name)?;
        self.disk.sync_directory()
    }

    /// What of a write under way reaches the disk although the process is gone.
    pub(super) fn abandon_write(&mut self) {
        let Some(write) = self.write.take() else { return };
        if self.prng.chance(1, 2) {
            let name = segment_name(write.segment);
            let sectors = self.prng.below((write.buffer.len() / SECTOR_BYTES) as u64 + 1) as usize;
            let done = self.disk.write(&name, write.offset, &write.buffer[..sectors * SECTOR_BYTES]);
            // An error is one that nobody sees any more.
            self.note(11, &[u8::from(done.is_ok())]);
        }
    }
}
