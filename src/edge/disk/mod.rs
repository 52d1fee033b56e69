//! disk: being built.
