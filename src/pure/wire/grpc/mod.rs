//! wire/grpc: being built.
