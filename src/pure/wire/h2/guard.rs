//! Patience with a peer: buckets for cheap frames and resets, what may come late, and the rule of keepalive PINGs.

use std::time::Duration;

use crate::limits::http2::{LATE_FRAMES_MAX, LATE_FRAMES_PER_STREAM};
use crate::stdx::time::Monotonic;

/// Tokens that come back with time and with useful work, and run out under abuse.
#[derive(Debug)]
pub struct Bucket {
    tokens: u32,
    tokens_max: u32,
    per_second: u32,
    refilled_at: Monotonic,
}

impl Bucket {
    /// A full bucket.
    pub fn new(tokens_max: u32, per_second: u32, now: Monotonic) -> Bucket {
        Bucket { tokens: tokens_max, tokens_max, per_second, refilled_at: now }
    }

    /// Takes a token; false when there is none.
    #[must_use]
    pub fn take(&mut self, now: Monotonic) -> bool {
        self.refill(now);
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }

    /// Gives tokens back for useful work.
    pub fn earn(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.tokens_max);
    }

    /// Tokens missing from a full bucket.
    pub fn missing(&mut self, now: Monotonic) -> u32 {
        self.refill(now);
        self.tokens_max - self.tokens
    }

    /// When no more than so many tokens are missing, if nothing is taken or earned until then.
    pub fn refilled_until(&self, missing: u32) -> Monotonic {
        let due = (self.tokens_max - self.tokens).saturating_sub(missing);
        self.refilled_at + self.per_token() * due
    }

    fn per_token(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 / u64::from(self.per_second))
    }

    fn refill(&mut self, now: Monotonic) {
        if now <= self.refilled_at {
            return;
        }
        let elapsed = now.since(self.refilled_at);
        let per_token = self.per_token();
        let earned = u32::try_from(elapsed.as_nanos() / per_token.as_nanos()).unwrap_or(u32::MAX);
        // What is left of a token's time counts for the next one, unless the bucket is full.
        if earned >= self.tokens_max - self.tokens {
            (self.tokens, self.refilled_at) = (self.tokens_max, now);
        } else {
            self.tokens += earned;
            self.refilled_at = self.refilled_at + per_token * earned;
        }
    }
}

/// Frames that were under way when we ended their streams, which no client can help. Each such end stands for a few,
/// all together for a bounded number.
#[derive(Debug, Default)]
pub struct LateFrames {
    expected: u32,
}

impl LateFrames {
    /// We ended a stream that its client may not have ended.
    pub fn stream_ended(&mut self) {
        self.expected = (self.expected + LATE_FRAMES_PER_STREAM).min(LATE_FRAMES_MAX);
    }

    /// A frame came for a stream that is over; false when none was expected any more.
    #[must_use]
    pub fn admit(&mut self) -> bool {
        let admitted = self.expected > 0;
        self.expected = self.expected.saturating_sub(1);
        admitted
    }
}

/// What a client's PINGs may do.
#[derive(Clone, Copy, Debug)]
pub struct PingPolicy {
    /// Shortest time between two PINGs while streams are open, `--grpc-keepalive-min-time`.
    pub interval_min: Duration,
    /// The same rule holds when no stream is open; else two hours.
    pub permit_without_stream: bool,
}

/// Strikes a connection may have.
const STRIKES_MAX: u32 = 2;
/// grpc-go's rule for connections without streams.
const INTERVAL_WITHOUT_STREAM: Duration = Duration::from_secs(2 * 60 * 60);

/// Counts PINGs that come too fast, as grpc-go does: what the server sent forgives all of them.
#[derive(Debug, Default)]
pub struct PingGuard {
    strikes: u32,
    last: Option<Monotonic>,
    answered_since: bool,
}

impl PingGuard {
    /// Strikes so far.
    #[cfg(test)]
    pub(super) fn strikes(&self) -> u32 {
        self.strikes
    }

    /// HEADERS or DATA went out.
    pub fn forgive(&mut self) {
        self.answered_since = true;
    }

    /// A PING came (not an ACK); false when it was one too many.
    #[must_use]
    pub fn admit(&mut self, now: Monotonic, policy: &PingPolicy, streams_open: bool) -> bool {
        let previous = self.last.replace(now);
        if std::mem::take(&mut self.answered_since) {
            self.strikes = 0;
            return true;
        }
        let interval = if streams_open || policy.permit_without_stream {
            policy.interval_min
        } else {
            INTERVAL_WITHOUT_STREAM
        };
        if previous.is_some_and(|previous| previous + interval > now) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES_MAX
    }
}
