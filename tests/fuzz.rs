//! Fuzzing with a bound: every decoder of foreign bytes, over mutations of valid inputs, from a fixed seed.
//!
//!     cargo test --profile checked --test fuzz                       what CI runs
//!     ETCHD_FUZZ_RUNS=1000000 ETCHD_FUZZ_SEED=7 cargo test ...       more, and others
//!
//! What a coverage-guided fuzzer has found is in tests/fuzz/corpus/TARGET/found.gz; to look for more (tests/fuzz/coverage
//! is a workspace of its own; libFuzzer comes with its build):
//!
//!     ETCHD_FUZZ_SEEDS=/tmp/seeds cargo test --profile checked --test fuzz           writes the inputs there are
//!     tests/fuzz/coverage/run TARGET SECONDS /tmp/seeds                              adds to them, and minimises
//!     ETCHD_FUZZ_PACK=/tmp/seeds cargo test --profile checked --test fuzz TARGET     makes found.gz of the least
//!
//! A target must neither panic nor take more memory than its input justifies. An input that did is left in the folder
//! for temporary files; once fixed it goes into tests/fuzz/corpus/TARGET/, whose files each run begins with.

mod fuzz {
    mod memory;
    mod mutate;
    mod pack;
    mod seeds;
    mod targets;

    mod run;
}
