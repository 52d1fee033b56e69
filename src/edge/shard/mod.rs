//! shard: being built.
