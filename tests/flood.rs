//! Hostile clients against the built server: a million frames, flat memory, and another client that is served
//! meanwhile.
//!
//!     cargo test --profile checked --test flood

#![allow(clippy::disallowed_methods, reason = "a test outside of the server has a clock of its own")]

/// Server, client and files as the crash tests have them.
#[allow(dead_code, reason = "the crash tests use the rest")]
#[path = "crash"]
mod crash {
    pub mod client;
    pub mod server;
    pub mod system;
}

mod flood {
    pub mod hostile;

    mod connections;
    mod frames;
    mod heads;
    mod lists;
    mod requests;
    mod windows;
}
