//! What goes between cores: bounded mailboxes, one published pointer, notices to sleepers.
//!
//! Owns: the rings, the published value, the epoch slots, sleep states. Takes and gives: owned values.
//! Always true: a mailbox has one sender and one receiver; what is published never changes; memory taken
//! out of publication is dropped only when every reader has left the epoch in which that happened.
//! Not here: what travels, how a thread sleeps.

mod mailbox;
mod published;
mod sleep;

#[cfg(all(test, etchd_loom))]
mod loom {
    mod tests;
}

pub use mailbox::{Receiver, Sender, mailbox};
pub use published::{Guard, Publisher, Reader, published};
pub use sleep::{Sleep, notice};
