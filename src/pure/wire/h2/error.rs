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

/// What a peer did wrong and how far it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Ends the connection with GOAWAY; the text goes into its debug data.
    Connection(Code, &'static str),
    /// Ends one stream with RST_STREAM.
    Stream(u32, Code),
}

impl Fault {
    /// The commonest of all.
    pub(super) fn protocol(text: &'static str) -> Fault {
        Fault::Connection(Code::Protocol, text)
    }
}
