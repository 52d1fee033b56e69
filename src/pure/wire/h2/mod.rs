//! wire/h2: being built.
