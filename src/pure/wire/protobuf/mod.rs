//! wire/protobuf: being built.
