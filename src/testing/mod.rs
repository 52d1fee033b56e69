//! The simulated world and what judges a run in it. Compiled for tests only.
//!
//! Owns: disk, network, clock and clients of a run, the record of what was seen, model, checkers, canaries.
//! Takes: a seed. Gives: violations and the hash of the run's trace.
//! Always true: same seed, same run, bit for bit; the member under test is the very loop that serves.
//! Not here: anything that is shipped.

pub mod canary;
pub mod checkers;
pub mod disk;
pub mod history;
pub mod model;
pub mod request;
pub mod world;
