//! One binary for all targets of tests/fuzz; `ETCHD_FUZZ_TARGET` chooses. See tests/fuzz.rs.

#![no_main]

#[allow(dead_code, reason = "the mutations of frames are the test's")]
#[path = "../mutate.rs"]
mod mutate;
#[allow(dead_code, reason = "the bounds of memory are the test's")]
#[path = "../targets.rs"]
mod targets;

use std::sync::LazyLock;

use etchd::stdx::prng::Prng;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<&targets::Target> = LazyLock::new(|| {
    let name = std::env::var("ETCHD_FUZZ_TARGET").expect("ETCHD_FUZZ_TARGET names a target");
    targets::ALL.iter().find(|target| target.name == name).expect("a target's name")
});

fuzz_target!(|input: &[u8]| (TARGET.run)(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Without sums that are right nothing of a log is looked at.
    if TARGET.name == "log" && seed % 4 != 0 {
        mutate::log(&mut Prng::new(u64::from(seed)), &mut data[..size]);
        return size;
    }
    fuzzer_mutate(data, size, max_size)
});
