//! apply: being built.
