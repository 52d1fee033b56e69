//! watch: being built.
