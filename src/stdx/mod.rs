//! What `std` lacks, depending on nothing else in this crate.
//!
//! Owns: generic containers, the seeded generator, the types of time and work.
//! Takes and gives: plain values.
//! Always true: deterministic; no clock, no entropy, no I/O.
//! Not here: anything that knows etcd.

pub mod append;
pub mod cow;
pub mod histogram;
pub mod prng;
pub mod slab;
pub mod sync;
pub mod time;
pub mod work;
