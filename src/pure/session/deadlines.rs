//! Deadlines of a connection's requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::pure::wire::h2::streams::StreamId;
use crate::stdx::time::Monotonic;

/// A heap that forgets answered requests late but in time: it is never longer than twice the live requests
/// and a few.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Monotonic, StreamId)>>,
}

/// Entries that are not worth a sweep.
const SLACK: usize = 64;

impl Deadlines {
    /// Adds a deadline; `is_live` says of an older entry whether its request still waits.
    pub(super) fn push(
        &mut self,
        at: Monotonic,
        stream: StreamId,
        live: usize,
        is_live: impl FnMut(StreamId) -> bool,
    ) {
        if self.heap.len() >= 2 * live + SLACK {
            let mut is_live = is_live;
            self.heap.retain(|Reverse((_, stream))| is_live(*stream));
        }
        self.heap.push(Reverse((at, stream)));
    }

    /// Nothing is waited for any more.
    pub(super) fn clear(&mut self) {
        if self.heap.capacity() > SLACK {
            self.heap = BinaryHeap::new();
        } else {
            self.heap.clear();
        }
    }

    /// The earliest deadline, perhaps of a request that is over.
    pub(super) fn next(&self) -> Option<Monotonic> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a deadline that has passed.
    pub(super) fn pop_due(&mut self, now: Monotonic) -> Option<StreamId> {
        let Reverse((at, stream)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(stream)
    }

    /// Entries, live or not.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}
