//! session: being built.
