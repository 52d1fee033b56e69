//! SETTINGS of the peer (RFC 9113, section 6.5).

use super::error::{Code, Fault};
use super::frame::{INITIAL_WINDOW, WINDOW_MAX, setting};
use crate::limits::http2::FRAME_BYTES_MAX;

/// What the peer said of itself, with the protocol's defaults.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerSettings {
    pub(super) initial_window: u32,
    /// Payload that we send in a frame: the peer's bound, and never more than ours.
    pub(super) frame_bytes_max: usize,
    header_table_bytes: u32,
    /// The peer lowered its HPACK table: the next block has to begin with an update.
    pub(super) table_update_owed: bool,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            initial_window: INITIAL_WINDOW,
            frame_bytes_max: FRAME_BYTES_MAX,
            header_table_bytes: 4_096,
            table_update_owed: false,
        }
    }
}

impl PeerSettings {
    /// Takes the payload of a SETTINGS frame.
    pub(super) fn update(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if !payload.len().is_multiple_of(6) {
            return Err(Fault::Connection(Code::FrameSize, "SETTINGS of a wrong length"));
        }
        for entry in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match id {
                setting::HEADER_TABLE_SIZE => {
                    self.table_update_owed |= value < self.header_table_bytes;
                    self.header_table_bytes = value;
                }
                setting::ENABLE_PUSH if value > 1 => return Err(Fault::protocol("ENABLE_PUSH above 1")),
                setting::INITIAL_WINDOW_SIZE => {
                    if i64::from(value) > WINDOW_MAX {
                        return Err(Fault::Connection(Code::FlowControl, "INITIAL_WINDOW_SIZE above 2^31-1"));
                    }
                    self.initial_window = value;
                }
                setting::MAX_FRAME_SIZE => {
                    if !(16_384..=0x00ff_ffff).contains(&value) {
                        return Err(Fault::protocol("MAX_FRAME_SIZE out of range"));
                    }
                    self.frame_bytes_max = FRAME_BYTES_MAX.min(value as usize);
                }
                // Push is never used; list size is advice; unknown ones are ignored (section 6.5.2).
                _ => {}
            }
        }
        Ok(())
    }
}
