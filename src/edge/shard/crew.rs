//! The threads of the other cores: set up, given their seats, run.
//!
//! Always true: a thread that panics ends the process, for its clients would wait for ever; a server either starts
//! with all its threads or not at all.

use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;

use super::{Loop, Seat};
use crate::edge::host::HostIo;
use crate::edge::io::{SetupError, Waker};
use crate::edge::ops::start::StartError;
use crate::edge::pick::Kind;
use crate::edge::system;

/// The threads of the other cores, waiting for their seats.
pub struct Crew {
    others: Vec<Other>,
}

struct Other {
    waker: Waker,
    seat: mpsc::Sender<(Seat<OwnedFd>, Vec<Waker>)>,
}

enum Ready {
    Yes(Waker),
    No(Failed),
}

enum Failed {
    Pin(std::io::Error),
    SetUp(SetupError),
}

/// Ends the process if its thread panics.
struct EndsWithItsThread;

impl Drop for EndsWithItsThread {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

impl Crew {
    /// Starts the threads of all cores but the first, on edges of this `kind`. `cpus`: one for each core if they are to
    /// be pinned.
    ///
    /// # Errors
    /// Why a thread could not be set up.
    pub fn muster<I: HostIo>(kind: Kind, cores: usize, cpus: &[usize]) -> Result<Crew, StartError> {
        let mut others = Vec::new();
        for core in 1..cores {
            let cpu = cpus.get(core).copied();
            let (say, ready) = mpsc::channel();
            let (seat, seats) = mpsc::channel();
            let body = move || man::<I>(cpu, &say, &seats);
            thread::Builder::new().name(format!("shard-{core}")).spawn(body).map_err(|error| {
                StartError::Other {
                    what: format!("thread {core} of {cores} can't be started: {error}"),
                    advice: "lower --shards, or raise the limit of processes".to_owned(),
                }
            })?;
            match ready.recv().expect("a thread says whether it is ready") {
                Ready::Yes(waker) => others.push(Other { waker, seat }),
                Ready::No(Failed::Pin(error)) => return Err(super::serve::pin_error(error)),
                Ready::No(Failed::SetUp(error)) => return Err(StartError::SetUp(kind, error)),
            }
        }
        Ok(Crew { others })
    }

    /// Gives everybody their seat; gives the first core's loop.
    pub fn sit<I: HostIo>(self, io: I, seats: Vec<Seat<OwnedFd>>) -> Loop<I> {
        let wakers = std::iter::once(io.waker()).chain(self.others.iter().map(|other| other.waker.clone()));
        let wakers: Vec<Waker> = wakers.collect();
        let mut seats = seats.into_iter();
        let first = seats.next().expect("there is a first core");
        for (other, seat) in self.others.iter().zip(seats) {
            other.seat.send((seat, wakers.clone())).expect("the thread waits for its seat");
        }
        Loop::new(io, first, wakers)
    }
}

fn set_up<I: HostIo>(cpu: Option<usize>) -> Result<I, Failed> {
    let io = I::set_up(None).map_err(Failed::SetUp)?;
    // After it, so that threads that it starts are not tied.
    cpu.map_or(Ok(()), |cpu| system::run_thread_on(&[cpu])).map_err(Failed::Pin)?;
    Ok(io)
}

/// The life of another core's thread.
fn man<I: HostIo>(
    cpu: Option<usize>,
    say: &mpsc::Sender<Ready>,
    seats: &mpsc::Receiver<(Seat<OwnedFd>, Vec<Waker>)>,
) {
    let _ends = EndsWithItsThread;
    let io = match set_up::<I>(cpu) {
        Ok(io) => io,
        Err(failed) => return say.send(Ready::No(failed)).expect("the first core waits"),
    };
    say.send(Ready::Yes(io.waker())).expect("the first core waits");
    // Without a seat the server did not start.
    let Ok((seat, wakers)) = seats.recv() else { return };
    // Another core stops only because the first one said so.
    let _stopped = Loop::new(io, seat, wakers).run();
}
