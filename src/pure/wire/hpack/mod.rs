//! HPACK (RFC 7541): header blocks to fields and back.
//!
//! Owns: the decoder's dynamic table of one connection.
//! Takes: complete header blocks. Gives: fields to a sink, in order; encoded blocks.
//! Always true: the table never exceeds its bound; the list's size is counted while decoding, so a short
//! block can't unfold into a long list; an entry is classified once, when it enters the table.
//! Not here: which fields a request may have (`h2::head`), what they mean (`grpc::head`).

mod decoder;
pub mod encoder;
mod huffman;
mod tables;
#[cfg(test)]
mod tests;

pub use decoder::{DecodeError, Decoder, FieldSink};
