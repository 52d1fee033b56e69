//! The runner: from seeds to mutations to targets.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use etchd::stdx::prng::Prng;

use super::targets::{ALL, Target};
use super::{memory, mutate, pack, seeds};

/// Mutations of each target in an ordinary run.
const RUNS: u64 = 20_000;
/// Longest input: above it only the first bytes count.
const INPUT_BYTES_MAX: usize = 256 * 1024;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// One input; the error says what is wrong with it.
fn check(target: &Target, input: &[u8]) -> Result<(), String> {
    let mut result = Ok(());
    let peak = memory::peak_of(|| result = catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    if result.is_err() {
        return Err("it panics".to_owned());
    }
    let max = target.bytes_max + target.bytes_max_per_byte * input.len();
    if peak > max {
        return Err(format!("{} bytes of input make {peak} of memory, more than {max}", input.len()));
    }
    Ok(())
}

fn fail(target: &Target, what: &str, input: &[u8], error: &str) -> ! {
    let path = std::env::temp_dir().join(format!("etchd-fuzz-{}-{}", target.name, std::process::id()));
    fs::write(&path, input).expect("writes the input");
    panic!("{} on {what}: {error}; the input is in {}", target.name, path.display());
}

fn fuzz(name: &str) {
    let target = ALL.iter().find(|target| target.name == name).expect("a target's name");
    let mut inputs: Vec<Vec<u8>> = seeds::of(name);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    if let Ok(files) = fs::read_dir(&corpus) {
        let mut paths: Vec<_> = files.map(|file| file.expect("lists").path()).collect();
        paths.sort();
        for path in paths {
            let bytes = fs::read(&path).expect("reads the corpus");
            match path.extension() {
                Some(extension) if extension == "gz" => inputs.extend(pack::unpack(&bytes)),
                _ => inputs.push(bytes),
            }
        }
    }
    if let Ok(folder) = std::env::var("ETCHD_FUZZ_SEEDS") {
        pack::write_out(&Path::new(&folder).join(name), &inputs);
    }
    if let Ok(folder) = std::env::var("ETCHD_FUZZ_PACK") {
        pack::pack(&Path::new(&folder).join(format!("{name}-least")), &corpus.join("found.gz"));
        return;
    }
    for (nth, input) in inputs.iter().enumerate() {
        if let Err(error) = check(target, input) {
            fail(target, &format!("seed {nth}"), input, &error);
        }
    }
    let (runs, seed) = (number("ETCHD_FUZZ_RUNS", RUNS), number("ETCHD_FUZZ_SEED", 1));
    for run in 0..runs {
        let mut prng = Prng::new(seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut input = inputs[mutate::below(&mut prng, inputs.len())].clone();
        if name == "frames" && prng.chance(2, 3) {
            mutate::frames(&mut prng, &mut input, &inputs);
        } else if name == "log" && prng.chance(4, 5) {
            mutate::log(&mut prng, &mut input);
        } else {
            mutate::bytes(&mut prng, &mut input, &inputs);
        }
        input.truncate(INPUT_BYTES_MAX);
        if let Err(error) = check(target, &input) {
            fail(target, &format!("run {run} of seed {seed}"), &input, &error);
        }
    }
}

/// The runner itself: a target that panics or takes too much is found.
#[test]
fn what_is_wrong_is_seen() {
    let panics =
        Target { name: "", run: |input| assert!(input.is_empty()), bytes_max: 0, bytes_max_per_byte: 0 };
    assert!(check(&panics, b"").is_ok());
    assert!(check(&panics, b"x").is_err());
    let takes = |input: &[u8]| drop(std::hint::black_box(vec![1_u8; input.len() * 100]));
    let takes = Target { name: "", run: takes, bytes_max: 1_000, bytes_max_per_byte: 10 };
    assert!(check(&takes, &[0; 10]).is_ok());
    assert!(check(&takes, &[0; 100]).is_err());
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*
        #[test]
        fn every_target_runs() {
            assert_eq!(ALL.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

targets! { frames http1 hpack grpc requests log_payload canonical log }
