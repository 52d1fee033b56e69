//! gRPC, case by case.
