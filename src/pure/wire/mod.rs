//! Formats that travel between processes.
//!
//! Owns: codec state of one connection at most. Takes: bytes. Gives: frames, headers, messages, bytes.
//! Always true: hostile bytes give errors, never panics; every buffer has a bound from `limits`.
//! Not here: what a message means (`api`), which connection it came from (`session`).

pub mod grpc;
pub mod h2;
pub mod hpack;
pub mod protobuf;
