//! How far one send is: its pieces, and what of them has gone out.

use bytes::Bytes;

use crate::edge::io::SendPieces;

/// The send of one connection, used again and again. Keeps the pieces' memory until all is sent or given up.
#[derive(Debug, Default)]
pub(crate) struct SendProgress {
    pieces: SendPieces,
    /// First piece that is not wholly sent, and how much of it is.
    piece: usize,
    offset: usize,
    remaining: usize,
}

impl SendProgress {
    /// Starts over with the content of `pieces`, which gets an empty one in exchange.
    pub(crate) fn start(&mut self, pieces: &mut SendPieces) {
        assert!(self.remaining == 0 && !pieces.is_empty());
        self.pieces.clear();
        std::mem::swap(&mut self.pieces, pieces);
        self.piece = 0;
        self.offset = 0;
        self.remaining = self.pieces.bytes();
    }

    /// Accounts for sent bytes. True when all are sent; the pieces are released then.
    pub(crate) fn advance(&mut self, sent: usize) -> bool {
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
    pub(crate) fn abandon(&mut self) {
        self.remaining = 0;
        self.pieces.clear();
    }

    /// What is left of the first piece, and the pieces after it.
    pub(crate) fn rest(&self) -> (&[u8], &[Bytes]) {
        let rest = &self.pieces.pieces()[self.piece..];
        (&rest[0][self.offset..], &rest[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_send_goes_on_at_the_right_byte() {
        let mut pieces = SendPieces::default();
        for piece in [&b"abc"[..], b"", b"d", b"efgh"] {
            pieces.push(Bytes::from_static(piece));
        }
        let mut progress = SendProgress::default();
        progress.start(&mut pieces);
        assert!(pieces.is_empty());
        let rest = |progress: &SendProgress| {
            let (first, others) = progress.rest();
            String::from_utf8([first, &others.concat()].concat()).expect("ASCII")
        };
        for (sent, expected) in [(0, "abcdefgh"), (2, "cdefgh"), (1, "defgh"), (2, "fgh"), (2, "h")] {
            assert!(!progress.advance(sent));
            assert_eq!(rest(&progress), expected);
        }
        assert!(progress.advance(1));
        assert_eq!(progress.pieces.bytes(), 0);
    }
}
