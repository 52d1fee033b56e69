//! The built server as a process of its own: killed, told to stop, its disk full, gone or damaged.
//!
//!     cargo test --profile checked --test crash
//!     ETCHD_TEST_IO=contained cargo test --profile checked --test crash
//!
//! The second runs every server under a filter of system calls like that of container runtimes, which forbids
//! io_uring; `uring` and `epoll` are passed on as `--io`.
//!
//! Some tests need root and a loop device to make a file system of their own; without these they print why
//! they did nothing.

#![allow(clippy::disallowed_methods, reason = "a test outside of the server has a clock of its own")]

mod crash {
    pub mod client;
    pub mod load;
    pub mod server;
    pub mod system;

    mod cores;
    mod damage;
    mod disk;
    mod edges;
    mod fault;
    mod kill;
    mod leases;
    mod memory;
    mod reads;
    mod refusals;
    mod start;
    mod stop;
}
