//! The interface's meaning: RPCs, typed requests, validation, statuses, log payloads.
//!
//! Owns: nothing that lives longer than a request. Takes: message bytes. Gives: typed requests, statuses,
//! response bytes.
//! Always true: checks come in etcd's order and answer with etcd's codes and texts.
//! Not here: connections, storage.

pub mod requests;
