//! Fuzzing with a bound: every decoder of foreign bytes, over mutations of valid inputs, from a fixed seed.
//!
//!     cargo test --profile checked --test fuzz                       what CI runs
//!     ETCHD_FUZZ_RUNS=1000000 ETCHD_FUZZ_SEED=7 cargo test ...       more, and others
//!
//! A target must neither panic nor take more memory than its input justifies. An input that did is left in the folder
//! for temporary files; once fixed it goes into tests/fuzz/corpus/TARGET/, whose files each run begins with.

mod fuzz {
    mod memory;
    mod mutate;
    mod seeds;
    mod targets;

    mod run;
}
