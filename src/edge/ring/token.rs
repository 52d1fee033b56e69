//! The 64 bits that the kernel carries from a submission to its completions.
//!
//! Owns: the layout: 8 bits of operation, 56 of number (a connection's generation and slot, or a count).
//! Takes and gives: plain values.
//! Always true: tokens of operations that live at the same time differ.
//! Not here: what happens at a completion.

use crate::edge::host::Operation;
use crate::edge::io::ConnId;
use crate::stdx::slab::Key;

/// Bits for the slot of a connection; descriptors run out before.
const SLOT_BITS: u32 = 24;

/// Operation and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) operation: Operation,
    pub(super) number: u64,
}

impl Token {
    pub(super) fn of(operation: Operation, number: u64) -> Token {
        assert!(number < 1 << 56);
        Token { operation, number }
    }

    pub(super) fn of_connection(operation: Operation, conn: ConnId) -> Token {
        Token::of_key(operation, conn.0)
    }

    pub(super) fn of_key(operation: Operation, key: Key) -> Token {
        let (generation, slot) = (key.to_u64() >> 32, key.slot() as u64);
        assert!(slot < 1 << SLOT_BITS, "more connections than descriptors can be");
        Token::of(operation, generation << SLOT_BITS | slot)
    }

    /// The inverse of [`Token::of_connection`].
    pub(super) fn connection(self) -> ConnId {
        ConnId(self.key())
    }

    /// The inverse of [`Token::of_key`].
    pub(super) fn key(self) -> Key {
        let (generation, slot) = (self.number >> SLOT_BITS, self.number & ((1 << SLOT_BITS) - 1));
        Key::from_u64(generation << 32 | slot)
    }

    pub(super) fn to_u64(self) -> u64 {
        (self.operation as u64) << 56 | self.number
    }

    pub(super) fn from_u64(token: u64) -> Token {
        let operation = match token >> 56 {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Cancel,
            5 => Operation::LogWrite,
            6 => Operation::WakeRead,
            7 => Operation::WakeMessage,
            8 => Operation::MessageSent,
            9 => Operation::LogSync,
            other => panic!("a completion of an operation that was never submitted: {other}"),
        };
        Token { operation, number: token & ((1 << 56) - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_whole() {
        for key in [0, 1, 0x00ff_ffff, 0x7fff_ffff_0000_0000, 0x7fff_ffff_00ff_ffff, 5 << 32 | 77] {
            let conn = ConnId(Key::from_u64(key));
            for operation in [Operation::Accept, Operation::Receive, Operation::Send, Operation::MessageSent]
            {
                let token = Token::from_u64(Token::of_connection(operation, conn).to_u64());
                assert_eq!((token.operation, token.connection()), (operation, conn));
            }
        }
    }
}
