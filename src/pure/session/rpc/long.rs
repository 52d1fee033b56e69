//! Messages that are longer than a stream's window are let in by turns, so that many begun ones take little.

use super::{Phase, Rpc, shrink};
use crate::limits::http2::{FRAME_BYTES_MAX, KEPT_EVENTS, LONG_MESSAGE_BYTES_AT_ONCE};
use crate::stdx::slab::Key;

/// A message that is longer than the window of its stream.
///
/// ```text
/// None --window too small--> Queued --turn--> Admitted --message whole, or stream over--> None
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Long {
    #[default]
    None,
    Queued,
    /// So many bytes were let in.
    Admitted(u32),
}

impl Rpc {
    /// Lets a message in that does not fit the window of its stream, or remembers that it waits.
    pub(super) fn open_window(&mut self, key: Key) {
        let Some(call) = self.connection.app(key) else { return };
        let missing = call.assembler.missing_bytes();
        if missing == 0 || call.phase == Phase::Answered {
            return;
        }
        let window = self.connection.stream_window(key);
        match call.long {
            Long::None if missing > window => {
                self.set_long(key, Long::Queued);
                self.long_waiting.push_back(key);
                if self.long_waiting.len() > 2 * self.connection.streams_live() + KEPT_EVENTS {
                    let connection = &self.connection;
                    self.long_waiting
                        .retain(|key| connection.app(*key).is_some_and(|call| call.long == Long::Queued));
                }
                self.admit_long();
            }
            // Padding has used some of it, and will.
            Long::Admitted(_) if window < missing.min(FRAME_BYTES_MAX) => {
                self.connection.lend_window(key, missing - window + FRAME_BYTES_MAX);
            }
            Long::None | Long::Queued | Long::Admitted(_) => {}
        }
    }

    fn set_long(&mut self, key: Key, long: Long) {
        self.connection.app_mut(key).expect("called for a live stream").long = long;
    }

    /// Lets long messages in, in the order in which they began.
    fn admit_long(&mut self) {
        while let Some(key) = self.long_waiting.front().copied() {
            if let Some(call) = self.connection.app(key).filter(|call| call.long == Long::Queued) {
                let missing = call.assembler.missing_bytes();
                if self.long_bytes > 0 && self.long_bytes + missing > LONG_MESSAGE_BYTES_AT_ONCE {
                    return;
                }
                let admitted = u32::try_from(missing).expect("messages stay below 4 GiB");
                self.set_long(key, Long::Admitted(admitted));
                self.long_bytes += missing;
                let window = self.connection.stream_window(key);
                self.connection.lend_window(key, missing.saturating_sub(window));
            }
            self.long_waiting.pop_front();
        }
        shrink(&mut self.long_waiting);
    }

    /// A message is whole, or nobody waits for it.
    pub(super) fn release_long(&mut self, long: Long) {
        if let Long::Admitted(bytes) = long {
            self.long_bytes -= bytes as usize;
            self.admit_long();
        }
    }
}
