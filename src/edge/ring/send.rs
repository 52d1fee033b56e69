//! One send under way: its pieces and the vectors that the kernel reads.
//!
//! Owns: the pieces' memory (shared), the iovecs and the message header at fixed addresses.
//! Takes: nothing but what is left to send. Gives: the next submission.
//! Always true: the pieces stay until the operation's completion was handled.
//! Not here: when to send.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use crate::edge::net::SendProgress;

/// The send of one connection, used again and again. Boxed by its owner: the kernel reads the header in place.
pub(super) struct SendOperation {
    pub(super) progress: SendProgress,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl SendOperation {
    pub(super) fn new() -> SendOperation {
        // SAFETY: all-zero is a valid msghdr: null pointers, zero lengths.
        let header = unsafe { std::mem::zeroed() };
        SendOperation { progress: SendProgress::default(), vectors: Vec::new(), header }
    }

    /// The submission for what remains. It points into this operation and its pieces.
    pub(super) fn entry(&mut self, socket: RawFd) -> squeue::Entry {
        let (first, others) = self.progress.rest();
        if others.is_empty() {
            // A longer piece is sent in parts, as any short send.
            let length = u32::try_from(first.len()).unwrap_or(1 << 30);
            return opcode::Send::new(types::Fd(socket), first.as_ptr(), length)
                .flags(libc::MSG_NOSIGNAL)
                .build();
        }
        self.vectors.clear();
        self.vectors.push(vector(first));
        self.vectors.extend(others.iter().map(|piece| vector(piece)));
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
