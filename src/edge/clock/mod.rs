//! The only reader of time and entropy.
//!
//! Owns: the process's origin of monotonic time.
//! Takes: nothing. Gives: [`Monotonic`] time, unix milliseconds, random bytes.
//! Always true: monotonic time never goes back and has one origin in all threads.
//! Not here: timers, what time means.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::edge::system;
use crate::stdx::time::Monotonic;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// A reader of time. All of them read the same clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Time of CLOCK_MONOTONIC since the process's first reading.
    #[expect(clippy::disallowed_methods, reason = "the only reader of monotonic time")]
    pub fn now(self) -> Monotonic {
        let now = Instant::now();
        let origin = *ORIGIN.get_or_init(|| now);
        // Another thread may have read its time before, and set the origin after: then this is zero, as well.
        let since = now.saturating_duration_since(origin);
        Monotonic(u64::try_from(since.as_nanos()).expect("a process lives less than 584 years"))
    }

    /// Wall-clock time since 1970, zero if the clock is set before that.
    #[expect(clippy::disallowed_methods, reason = "the only reader of the wall clock")]
    pub fn unix_time(self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// The same in milliseconds.
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.unix_time().as_millis()).unwrap_or(u64::MAX)
    }

    /// Fills `bytes` from the kernel's entropy.
    pub fn entropy(self, bytes: &mut [u8]) {
        system::random(bytes);
    }

    /// A random number, for ids and seeds.
    pub fn entropy_u64(self) -> u64 {
        let mut bytes = [0; 8];
        self.entropy(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_is_shared() {
        let first = Clock.now();
        let other = std::thread::spawn(|| Clock.now()).join().expect("reads the clock");
        let last = Clock.now();
        assert!(first <= other && other <= last);
        assert!(last.since(first).as_secs() < 60, "one origin in all threads");
    }

    #[test]
    fn the_wall_clock_is_in_milliseconds() {
        let millis = Clock.unix_millis();
        assert!((1_600_000_000_000..10_000_000_000_000).contains(&millis), "{millis}");
    }

    #[test]
    fn entropy_fills_all_bytes() {
        let mut bytes = [0; 600];
        Clock.entropy(&mut bytes);
        assert!(bytes.chunks(100).all(|chunk| chunk.iter().any(|&b| b != 0)));
        assert_ne!(Clock.entropy_u64(), Clock.entropy_u64());
    }
}
