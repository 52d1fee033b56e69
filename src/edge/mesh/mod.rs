//! What goes between cores: bounded mailboxes and one published pointer.
//!
//! Owns: the rings, the published value, the epoch slots. Takes and gives: owned values.
//! Always true: a mailbox has one sender and one receiver; what is published never changes; memory taken
//! out of publication is dropped only when every reader has left the epoch in which that happened.
//! Not here: what travels, who sleeps.

mod mailbox;
mod published;

pub use mailbox::{Receiver, Sender, mailbox};
pub use published::{Guard, Publisher, Reader, published};
