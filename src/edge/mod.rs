//! The thin outside: rings, sockets, files, timers, options.
//!
//! Owns: file descriptors, buffers lent to the kernel, threads, the clock.
//! Takes: effects of `pure`. Gives: events for `pure`.
//! Always true: decides nothing about the protocol; an error of the log's disk is final.
//! Not here: terms, revisions, requests.

pub mod buffer;
pub mod clock;
pub mod disk;
pub mod epoll;
pub mod host;
pub mod io;
pub mod mesh;
pub mod net;
pub mod ops;
pub mod pick;
pub mod ring;
pub mod shard;
pub(crate) mod system;
mod wake;

#[cfg(test)]
pub(in crate::edge) mod tests;
