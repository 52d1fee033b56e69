//! ring: being built.
