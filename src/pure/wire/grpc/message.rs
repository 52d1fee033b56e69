//! Length-prefixed messages out of the parts of a body.

use bytes::Bytes;

/// Flag and length before every message.
pub const PREFIX_BYTES: usize = 5;

/// The prefix of a message that is sent.
pub fn prefix(compressed: bool, message_bytes: usize) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(message_bytes).expect("messages stay below 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// A whole message as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed {
    /// 0 plain, 1 compressed, others are faults.
    pub flag: u8,
    /// The payload.
    pub bytes: Bytes,
}

/// The prefix names a message that is too long: its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub u32);

/// Puts one stream's messages together.
#[derive(Debug, Default)]
pub struct Assembler {
    prefix: [u8; PREFIX_BYTES],
    prefix_have: u8,
    /// Grows with what arrives, never ahead of it: a prefix alone costs no memory.
    buffer: Vec<u8>,
}

impl Assembler {
    /// Takes from the front of `input` up to the end of one message.
    pub fn feed(&mut self, input: &mut &[u8], bytes_max: usize) -> Result<Option<Framed>, TooLong> {
        let have = usize::from(self.prefix_have);
        if have < PREFIX_BYTES {
            let count = (PREFIX_BYTES - have).min(input.len());
            let (head, rest) = input.split_at(count);
            self.prefix[have..have + count].copy_from_slice(head);
            self.prefix_have += count as u8;
            *input = rest;
            if have + count < PREFIX_BYTES {
                return Ok(None);
            }
        }
        let [flag, a, b, c, d] = self.prefix;
        let length = u32::from_be_bytes([a, b, c, d]);
        if length as usize > bytes_max {
            return Err(TooLong(length));
        }
        let length = length as usize;
        let count = (length - self.buffer.len()).min(input.len());
        let (part, rest) = input.split_at(count);
        *input = rest;
        let bytes = if self.buffer.is_empty() && count == length {
            Bytes::copy_from_slice(part)
        } else {
            if self.buffer.capacity() - self.buffer.len() < count {
                let doubled = (self.buffer.len() + count).max(2 * self.buffer.len()).min(length);
                self.buffer.reserve_exact(doubled - self.buffer.len());
            }
            self.buffer.extend_from_slice(part);
            if self.buffer.len() < length {
                return Ok(None);
            }
            Bytes::from(std::mem::take(&mut self.buffer))
        };
        self.prefix_have = 0;
        Ok(Some(Framed { flag, bytes }))
    }

    /// Bytes of memory kept for an unfinished message.
    pub fn kept_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes that are missing of the message under way, 0 when its length is not known yet.
    pub fn missing_bytes(&self) -> usize {
        if usize::from(self.prefix_have) < PREFIX_BYTES {
            return 0;
        }
        let [_, a, b, c, d] = self.prefix;
        (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(self.buffer.len())
    }

    /// True when a message has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.prefix_have > 0
    }
}
