//! mesh: being built.
