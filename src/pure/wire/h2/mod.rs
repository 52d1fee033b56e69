//! HTTP/2 (RFC 9113), the server's side of one connection.
//!
//! Owns: frame reader, HPACK decoder, streams with their windows and send queues, control replies.
//! Takes: bytes and times; head blocks, pieces and trailers of answers. Gives: heads, data and resets of
//! requests; bytes to send.
//! Always true: bytes queued in the stream queues = `queued_bytes`; a stream that waits in the ready list has
//! something to send and window to send it in (or the entry is stale and is skipped); the sum of what
//! the peer may still send and what is owed back to it is the advertised window, for each stream and
//! the connection; a hostile peer gets RST_STREAM or GOAWAY, never a panic.
//! Not here: gRPC, what a path means, sockets.

pub mod connection;
pub mod error;
pub mod frame;
pub mod guard;
pub mod head;
mod send;
mod settings;
pub mod streams;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
pub mod transmit;
