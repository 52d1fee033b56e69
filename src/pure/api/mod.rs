//! The interface's meaning: RPCs, typed requests, validation, statuses, log payloads.
//!
//! Owns: nothing that lives longer than a request. Takes: message bytes. Gives: typed requests, statuses,
//! response bytes.
//! Always true: checks come in etcd's order and answer with etcd's codes and texts.
//! Not here: connections, storage.

pub mod authorize;
pub mod canonical;
pub mod codec;
pub mod log_payload;
pub mod requests;
pub mod responses;
pub mod rpcs;
#[cfg(test)]
mod schema;
pub mod status;
pub mod validate;
