//! Everything etchd decides: bytes and messages in, bytes and messages out.
//!
//! Owns: all state of a member and of its clients' connections.
//! Takes: bytes, messages, times as arguments. Gives: bytes, messages, effects.
//! Always true: no socket, file, thread, clock, entropy or random hash order below this module;
//! no `unsafe` but in `mvcc/versions.rs`.
//! Not here: how bytes travel (`edge`).
#![deny(unsafe_code)]

pub mod api;
pub mod apply;
pub mod cluster;
pub mod front;
pub mod lease;
pub mod mvcc;
pub mod node;
pub mod raft;
pub mod session;
pub mod types;
pub mod wal;
pub mod watch;
pub mod wire;
