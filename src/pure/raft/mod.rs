//! raft: being built.
