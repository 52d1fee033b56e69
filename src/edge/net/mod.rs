//! net: being built.
