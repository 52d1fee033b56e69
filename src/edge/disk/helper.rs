//! The helper thread: file work that blocks for longer than a turn of the loop may take.
//!
//! Owns: one thread, a bounded queue to it, a bounded queue back.
//! Takes: segments to prepare. Gives: [`Prepared`], waking the loop.
//! Always true: segments are prepared in the order asked for; the thread ends with its [`Helper`].
//! Not here: writes of the running log.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::LogFiles;
use crate::edge::io::{SegmentError, Waker};
use crate::limits::log::PREPARATIONS_MAX;

/// The result of one preparation.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) result: Result<(), SegmentError>,
}

/// Handle of the thread.
#[derive(Debug)]
pub(crate) struct Helper {
    /// `None` once the thread is told to end.
    requests: Option<SyncSender<(u64, u64)>>,
    /// Likewise, so that the thread does not wait for room.
    results: Option<Receiver<Prepared>>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    /// Starts the thread; it wakes the loop after each result.
    pub(crate) fn start(log: LogFiles, waker: Waker) -> io::Result<Helper> {
        let (requests, asked) = sync_channel::<(u64, u64)>(PREPARATIONS_MAX);
        // Holds the results of all that can be asked for: the thread never waits for the loop.
        let (answer, results) = sync_channel(2 * PREPARATIONS_MAX);
        let work = move || {
            for (number, bytes) in asked {
                let result = log.prepare_segment(number, bytes);
                if answer.send(Prepared { number, bytes, result }).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        let thread = Builder::new().name("etchd-files".into()).spawn(work)?;
        Ok(Helper { requests: Some(requests), results: Some(results), thread: Some(thread) })
    }

    /// Asks for a segment.
    pub(crate) fn prepare(&self, number: u64, bytes: u64) {
        let requests = self.requests.as_ref().expect("told to end in drop only");
        requests.try_send((number, bytes)).expect("the loop asks for few segments, and the thread lives");
    }

    /// A result, if there is one.
    pub(crate) fn next(&self) -> Option<Prepared> {
        self.results.as_ref()?.try_recv().ok()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.requests = None;
        self.results = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the helper thread does not panic");
            }
        }
    }
}
