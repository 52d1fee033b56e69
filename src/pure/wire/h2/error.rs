//! Error codes of RFC 9113 section 7, and faults of a peer.

/// An HTTP/2 error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// Graceful.
    NoError = 0,
    /// Any breach without a code of its own.
    Protocol = 1,
    /// Our own fault.
    Internal = 2,
    /// More bytes than the window allowed.
    FlowControl = 3,
    /// SETTINGS not acknowledged in time.
    SettingsTimeout = 4,
    /// A frame for a stream that is over.
    StreamClosed = 5,
    /// A frame of a wrong length.
    FrameSize = 6,
    /// Nothing was done; the request may be tried again.
    RefusedStream = 7,
    /// Nobody waits for it any more.
    Cancel = 8,
    /// A header block that can't be decoded.
    Compression = 9,
    /// A peer that causes too much work.
    EnhanceYourCalm = 11,
}

/// A bound that a client can reach, for counters. Each is described in `limits::http2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `CHEAP_FRAMES_BURST`.
    CheapFrames,
    /// `CONTROL_REPLIES_MAX`.
    ControlReplies,
    /// `HANDSHAKE_SECONDS`: preface, SETTINGS and their acknowledgement, an HTTP/1 head.
    Handshake,
    /// `HANDSHAKES_MAX`.
    Handshakes,
    /// `HEADER_BLOCK_BYTES_MAX`, `CONTINUATION_FRAMES_MAX`.
    HeaderBlock,
    /// `HEADER_LIST_BYTES_MAX`.
    HeaderList,
    /// A block that is not HPACK, or beyond `HPACK_SIZE_UPDATES_MAX` or `HPACK_TABLE_BYTES_MAX`.
    Hpack,
    /// `HTTP1_HEAD_BYTES_MAX`, `HTTP1_FIELDS_MAX`, `HTTP1_BODY_BYTES_MAX`, or not HTTP/1.
    Http1,
    /// `UNFINISHED_MESSAGE_BYTES_MAX`, `WAITING_BYTES_MAX`.
    KeptBytes,
    /// `SHARD_HELD_BYTES_MAX`.
    Memory,
    /// The longest message that is received.
    MessageBytes,
    /// `OUTPUT_BYTES_MAX`.
    Output,
    /// The rule of keepalive PINGs.
    Pings,
    /// Any other breach of RFC 9113 that ends a connection.
    Protocol,
    /// `RESETS_BURST`.
    Resets,
    /// `SETTINGS_FRAMES_BURST`.
    Settings,
    /// `UNFINISHED_FRAME_SECONDS`.
    SlowFrame,
    /// `STALLED_SECONDS`.
    Stalled,
    /// `STREAMS_LIVE_MAX`, `SERVING_BYTES_MAX`, or the advertised number.
    Streams,
    /// `WATCHES_MAX`, `WATCHES_PER_STREAM_MAX`.
    Watches,
}

impl Bound {
    /// All of them with their names in metrics, in the order of their numbers.
    pub const ALL: [(Bound, &'static str); 20] = [
        (Bound::CheapFrames, "cheap_frames"),
        (Bound::ControlReplies, "control_replies"),
        (Bound::Handshake, "handshake"),
        (Bound::Handshakes, "handshakes"),
        (Bound::HeaderBlock, "header_block"),
        (Bound::HeaderList, "header_list"),
        (Bound::Hpack, "hpack"),
        (Bound::Http1, "http1"),
        (Bound::KeptBytes, "kept_bytes"),
        (Bound::Memory, "memory"),
        (Bound::MessageBytes, "message_bytes"),
        (Bound::Output, "output"),
        (Bound::Pings, "pings"),
        (Bound::Protocol, "protocol"),
        (Bound::Resets, "resets"),
        (Bound::Settings, "settings"),
        (Bound::SlowFrame, "slow_frame"),
        (Bound::Stalled, "stalled"),
        (Bound::Streams, "streams"),
        (Bound::Watches, "watches"),
    ];
}

/// How often each bound was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    counts: [u32; Bound::ALL.len()],
    any: bool,
}

impl Bounds {
    /// A bound was reached.
    pub fn note(&mut self, bound: Bound) {
        let count = &mut self.counts[bound as usize];
        *count = count.saturating_add(1);
        self.any = true;
    }

    /// Adds to `totals`, in the order of [`Bound::ALL`], and begins anew.
    pub fn drain_into(&mut self, totals: &mut [u64; Bound::ALL.len()]) {
        if !self.any {
            return;
        }
        totals.iter_mut().zip(self.counts).for_each(|(total, count)| *total += u64::from(count));
        *self = Bounds::default();
    }
}

/// What a peer did wrong and how far it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Ends the connection with GOAWAY; the text goes into its debug data.
    Connection(Code, &'static str),
    /// The same for a bound, with `ENHANCE_YOUR_CALM`.
    Bound(Bound, &'static str),
    /// Ends one stream with RST_STREAM.
    Stream(u32, Code),
}

impl Fault {
    /// The commonest of all.
    pub(super) fn protocol(text: &'static str) -> Fault {
        Fault::Connection(Code::Protocol, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_named_in_the_order_of_their_numbers() {
        for (number, (bound, name)) in Bound::ALL.iter().enumerate() {
            assert_eq!(*bound as usize, number, "{name}");
        }
    }
}
