//! ring: being built.
pub mod buffer;
