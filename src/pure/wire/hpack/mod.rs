//! wire/hpack: being built.
