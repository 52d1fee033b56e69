//! wal: being built.
