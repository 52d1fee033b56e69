//! The data directory and the log's files.
//!
//! Owns: the directory's lock, names of segment files, the order of the log's writes, the helper thread for blocking
//! file work.
//! Takes: paths and options, segment numbers and sizes, bytes of recovery. Gives: segments as bytes, segments
//! ready for writes, errors that say what to do.
//! Always true: a file named `*.log` was whole, zeroed, synced and its directory synced before it got that name; a
//! directory with etcd's own data is not touched; one process at a time.
//! Not here: what a segment holds, how a write is carried out (`edge::ring`, `edge::epoll`).

mod alone;
mod directory;
mod flush;
mod helper;
mod writes;

pub(crate) use directory::SegmentFile;
#[cfg(test)]
pub(in crate::edge) use directory::tests::Scratch;
pub use directory::{DataDirectory, DiskError, DiskOptions, LogFiles, Syncs};
pub(crate) use flush::Durability;
pub(crate) use helper::Helper;
pub(crate) use writes::{Left, LogWrites};
