//! One send under way: its pieces, how far it is, and the vectors that the kernel reads.
//!
//! Owns: the pieces' memory (shared), the iovecs and the message header at fixed addresses.
//! Takes: pieces, counts of sent bytes. Gives: the next submission.
//! Always true: the pieces stay until the operation's completion was handled.
//! Not here: when to send.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use crate::edge::io::SendPieces;

/// The send of one connection, used again and again. Boxed by its owner: the kernel reads the header in place.
pub(super) struct SendOperation {
    pieces: SendPieces,
    /// First piece that is not wholly sent, and how much of it is.
    piece: usize,
    offset: usize,
    remaining: usize,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl SendOperation {
    pub(super) fn new() -> SendOperation {
        // SAFETY: all-zero is a valid msghdr: null pointers, zero lengths.
        let header = unsafe { std::mem::zeroed() };
        let pieces = SendPieces::default();
        SendOperation { pieces, piece: 0, offset: 0, remaining: 0, vectors: Vec::new(), header }
    }

    /// Starts over with the content of `pieces`, which gets an empty one in exchange.
    pub(super) fn start(&mut self, pieces: &mut SendPieces) {
        assert!(self.remaining == 0 && !pieces.is_empty());
        self.pieces.clear();
        std::mem::swap(&mut self.pieces, pieces);
        self.piece = 0;
        self.offset = 0;
        self.remaining = self.pieces.bytes();
    }

    /// Accounts for sent bytes. True when all are sent; the pieces are released then.
    pub(super) fn advance(&mut self, sent: usize) -> bool {
        assert!(sent <= self.remaining, "the kernel sent more than it was given");
        self.remaining -= sent;
        if self.remaining == 0 {
            self.pieces.clear();
            return true;
        }
        self.offset += sent;
        while self.offset >= self.pieces.pieces()[self.piece].len() {
            self.offset -= self.pieces.pieces()[self.piece].len();
            self.piece += 1;
        }
        false
    }

    /// Gives up what is not sent.
    pub(super) fn abandon(&mut self) {
        self.remaining = 0;
        self.pieces.clear();
    }

    /// The submission for what remains. It points into this operation and its pieces.
    pub(super) fn entry(&mut self, socket: RawFd) -> squeue::Entry {
        let rest = &self.pieces.pieces()[self.piece..];
        let first = &rest[0][self.offset..];
        if rest.len() == 1 {
            // A longer piece is sent in parts, as any short send.
            let length = u32::try_from(first.len()).unwrap_or(1 << 30);
            return opcode::Send::new(types::Fd(socket), first.as_ptr(), length)
                .flags(libc::MSG_NOSIGNAL)
                .build();
        }
        self.vectors.clear();
        self.vectors.push(vector(first));
        self.vectors.extend(rest[1..].iter().map(|piece| vector(piece)));
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        opcode::SendMsg::new(types::Fd(socket), &raw const self.header)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build()
    }
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_short_send_goes_on_at_the_right_byte() {
        let mut pieces = SendPieces::default();
        for piece in [&b"abc"[..], b"", b"d", b"efgh"] {
            pieces.push(Bytes::from_static(piece));
        }
        let mut operation = SendOperation::new();
        operation.start(&mut pieces);
        assert!(pieces.is_empty());
        let rest = |operation: &SendOperation| {
            let pieces = operation.pieces.pieces()[operation.piece..].concat();
            String::from_utf8(pieces[operation.offset..].to_vec()).expect("ASCII")
        };
        for (sent, expected) in [(0, "abcdefgh"), (2, "cdefgh"), (1, "defgh"), (2, "fgh"), (2, "h")] {
            assert!(!operation.advance(sent));
            assert_eq!(rest(&operation), expected);
        }
        assert!(operation.advance(1));
        assert_eq!(operation.pieces.bytes(), 0);
    }
}
