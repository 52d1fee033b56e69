//! The head of a gRPC request, as all clients of the tests send it.

use crate::pure::wire::hpack::encoder;

/// The fields of a call, without those that are a client's own.
pub fn fields<'a>(path: &'a str, authority: &'a str) -> [(&'a str, &'a str); 6] {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
}

/// The header block with these fields and the `extra` ones.
pub fn block(path: &str, authority: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::with_capacity(96);
    for (name, value) in fields(path, authority).iter().chain(extra) {
        encoder::field(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}
