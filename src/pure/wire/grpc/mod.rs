//! gRPC over HTTP/2, the server's side, as newest grpc-go behaves.
//!
//! Owns: assembly of one message; the fields of the head being read.
//! Takes: fields, body bytes. Gives: verdicts on heads, whole messages, encoded heads and trailers.
//! Always true: a message above the limit is refused from its prefix, before its bytes are kept; inflating stops
//! at the limit.
//! Not here: windows and streams (`h2`), which RPCs there are (a resolver handed in), protobuf.

pub mod gzip;
pub mod head;
pub mod message;
pub mod status;
#[cfg(test)]
mod tests;
