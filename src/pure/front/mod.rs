//! front: being built.
