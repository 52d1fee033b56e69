//! The simulated world: disk, network, clock, model, checkers. Compiled for tests only.

pub mod disk;
