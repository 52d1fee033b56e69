//! clock: being built.
