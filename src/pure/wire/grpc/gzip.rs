//! gzip of single messages, bounded.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::status::{Code, Status};

/// The inflated message, or the status that grpc-go answers with.
pub fn inflate(compressed: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    check_head(compressed)?;
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut inflated = Vec::new();
    // One byte more than allowed shows that there is too much.
    let limit = bytes_max as u64 + 1;
    if let Err(error) = decoder.by_ref().take(limit).read_to_end(&mut inflated) {
        let reason = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            std::io::ErrorKind::InvalidInput if error.to_string().contains("checksum") => {
                "gzip: invalid checksum".to_owned()
            }
            _ => {
                let left = decoder.get_ref().len();
                format!("flate: corrupt input before offset {}", compressed.len() - left)
            }
        };
        return Err(Status::new(Code::Internal, format!("grpc: failed to read decompressed data: {reason}")));
    }
    if inflated.len() > bytes_max {
        let text = format!("grpc: received message after decompression larger than max {bytes_max}");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(Bytes::from(inflated))
}

/// Go reads the member's head first, and names a fault there otherwise (RFC 1952, section 2.3).
fn check_head(compressed: &[u8]) -> Result<(), Status> {
    let reason = match compressed {
        [0x1f, 0x8b, 8, _, _, _, _, _, _, _, ..] => return Ok(()),
        [] => "EOF",
        short if short.len() < 10 => "unexpected EOF",
        _ => "gzip: invalid header",
    };
    Err(Status::new(Code::Internal, format!("grpc: failed to decompress the message: {reason}")))
}

/// The message as one gzip member.
pub fn deflate(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 2 + 32), Compression::default());
    encoder.write_all(message).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}
