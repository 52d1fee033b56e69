//! The simulator's command line: `cargo sim --help`.

#![allow(clippy::disallowed_methods, reason = "it tells how long a run took")]

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use etchd::testing::canary::Mutant;
use etchd::testing::checkers::{histories, traces};
use etchd::testing::history::{Mark, Trace, Violation};
use etchd::testing::world::{Options, Report, plan, run};

const HELP: &str = "\
cargo sim                        the set of every commit: histories, seeds, determinism, canaries
cargo sim --quick                the same with fewer seeds
cargo sim --seed N               one seed, with what happened
cargo sim --seeds N [--from M]   N seeds from M on
cargo sim --canaries             the planted bugs, with a search for a seed that shows each
cargo sim --canary M8 [--seed N] one of them
cargo sim --trace N [--trace ..] only the hash of a seed's trace
cargo sim --marks N              a seed's whole trace
cargo sim --list                 the canaries";

/// Seeds of the set of every commit.
const SEEDS: u64 = 2_000;
const SEEDS_QUICK: u64 = 200;
/// Within so many seeds every canary has to show.
const CANARY_SEEDS: u64 = 40;
/// Of so many seeds one runs again in another process.
const REPEAT_ONE_IN: usize = 100;

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    seeds: Option<u64>,
    from: u64,
    canary: Option<Mutant>,
    canaries: bool,
    traces: Vec<u64>,
    marks: Option<u64>,
    list: bool,
    quick: bool,
}

fn parse() -> Result<Arguments, String> {
    let mut arguments = Arguments { from: 1, ..Arguments::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} wants a number"))?;
            value.parse().map_err(|_| format!("{value} is no number"))
        };
        match word.as_str() {
            "--seed" => arguments.seed = Some(number()?),
            "--seeds" => arguments.seeds = Some(number()?),
            "--from" => arguments.from = number()?,
            "--trace" => arguments.traces.push(number()?),
            "--marks" => arguments.marks = Some(number()?),
            "--list" => arguments.list = true,
            "--quick" => arguments.quick = true,
            "--canaries" => arguments.canaries = true,
            "--canary" => {
                let name = words.next().unwrap_or_default();
                arguments.canary =
                    Some(Mutant::by_name(&name).ok_or(format!("no canary {name}: see --list"))?);
            }
            // What `cargo test` passes to every test binary.
            "--nocapture" | "--quiet" | "-q" => {}
            "--help" | "-h" => return Err(HELP.to_owned()),
            other => return Err(format!("{other} is unknown\n{HELP}")),
        }
    }
    Ok(arguments)
}

/// Real entropy, for what must differ between two runs if a run depends on it.
fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A run; a panic of the member is a violation too.
fn guarded(seed: u64, options: Options) -> Report {
    let options = Options { entropy: entropy(), ..options };
    catch_unwind(AssertUnwindSafe(|| run(seed, options))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violations = vec![Violation::new("panic", text.unwrap_or_default())];
        let summary = format!("seed {seed}: panicked");
        Report { violations, trace: Trace::new(false), summary, counts: Vec::new() }
    })
}

fn plain(seed: u64) -> Report {
    guarded(seed, Options::default())
}

fn planted(seed: u64, mutant: Mutant) -> Report {
    guarded(seed, Options { canary: Some(mutant), ..Options::default() })
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    fn end(&self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn show(seed: u64, canary: Option<Mutant>, report: &Report) {
    let canary = canary.map(|canary| format!(" --canary {}", canary.name())).unwrap_or_default();
    println!("{}", report.summary);
    for violation in report.violations.iter().take(8) {
        let text: String = violation.text.chars().take(700).collect();
        println!("  {}: {text}", violation.checker);
    }
    if !report.violations.is_empty() {
        println!("  replay: cargo sim --seed {seed}{canary}");
    }
}

fn show_plan(seed: u64, canary: Option<Mutant>) {
    println!("seed {seed}: {:?}", plan(seed, Options { canary, ..Options::default() }));
}

/// Calls `body` with 0..count, on every core at once; the results in order.
fn everywhere<T: Send>(count: usize, body: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    let result = body(at);
                    results.lock().expect("no thread panics with it").push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("all threads have ended");
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs seeds; the traces of those that are to be repeated.
fn seeds(tally: &mut Tally, from: u64, count: u64) -> Vec<(u64, Trace)> {
    let began = Instant::now();
    let count = usize::try_from(count).expect("so many seeds fit");
    let failures = AtomicU64::new(0);
    let totals = Mutex::new(BTreeMap::<&'static str, u64>::new());
    let kept = everywhere(count, |at| {
        let seed = from + at as u64;
        let report = plain(seed);
        if !report.violations.is_empty() {
            failures.fetch_add(1, Ordering::Relaxed);
            show_plan(seed, None);
            show(seed, None, &report);
        }
        let mut totals = totals.lock().expect("no thread panics with it");
        for (what, times) in &report.counts {
            *totals.entry(what).or_default() += times;
        }
        (at % REPEAT_ONE_IN == 0).then_some((seed, report.trace))
    });
    let failures = failures.into_inner();
    tally.passed += count as u64 - failures;
    tally.failed += failures;
    let totals = totals.into_inner().expect("all threads have ended");
    let never: Vec<&str> = totals.iter().filter(|(_, times)| **times == 0).map(|(what, _)| *what).collect();
    let totals: Vec<String> = totals.iter().map(|(what, times)| format!("{what} {times}")).collect();
    println!("{count} seeds from {from} in {:.1} s: {}", began.elapsed().as_secs_f64(), totals.join(", "));
    if count >= SEEDS_QUICK as usize {
        // What no run ever does tests nothing.
        tally.count(never.is_empty());
        never.iter().for_each(|what| println!("never: {what}"));
    }
    kept.into_iter().flatten().collect()
}

/// This program again, in another process.
fn another(arguments: &[String]) -> String {
    let output = std::env::current_exe().and_then(|me| Command::new(me).args(arguments).output());
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn trace_line(seed: u64, trace: &Trace) -> String {
    format!("{seed} {:016x} {}", trace.hash(), trace.count())
}

/// C14: some seeds again in another process.
fn determinism(tally: &mut Tally, kept: &[(u64, Trace)]) {
    let arguments: Vec<String> =
        kept.iter().flat_map(|(seed, _)| ["--trace".to_owned(), seed.to_string()]).collect();
    let there = another(&arguments);
    let there: Vec<&str> = there.lines().collect();
    let mut different = 0;
    for (at, (seed, trace)) in kept.iter().enumerate() {
        let same = there.get(at).is_some_and(|line| *line == trace_line(*seed, trace));
        tally.count(same);
        if !same {
            different += 1;
            println!("C14: seed {seed}: {}", first_difference(*seed));
        }
    }
    println!("{} seeds again in another process, {different} of them different", kept.len());
}

/// Runs a seed again here and in another process, and names the first mark that differs.
fn first_difference(seed: u64) -> String {
    let here = guarded(seed, Options { keep_marks: true, ..Options::default() }).trace;
    let mut there = Trace::new(true);
    for line in another(&["--marks".to_owned(), seed.to_string()]).lines() {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        if let [at, what, bytes, crc] = numbers[..] {
            there.push(Mark { at, what, bytes, crc: u32::try_from(crc).expect("a checksum") });
        }
    }
    let found = traces::compare(&here, &there);
    found.map_or("not again".to_owned(), |violation| violation.text)
}

/// True if the named checker finds the planted bug with this seed.
fn is_caught(mutant: Mutant, seed: u64) -> (bool, Report) {
    let report = planted(seed, mutant);
    let caught = match mutant.checker() {
        "C14" => traces::compare(&report.trace, &planted(seed, mutant).trace).is_some(),
        checker => report.violations.iter().any(|violation| violation.checker == checker),
    };
    (caught, report)
}

fn canaries(tally: &mut Tally, mutants: &[Mutant]) {
    let began = Instant::now();
    let search = |at: usize| (1..=CANARY_SEEDS).find(|seed| is_caught(mutants[at], *seed).0);
    for (mutant, seed) in mutants.iter().zip(everywhere(mutants.len(), search)) {
        tally.count(seed.is_some());
        match seed {
            Some(seed) => println!("canary {}: caught by {} at seed {seed}", mutant.name(), mutant.checker()),
            None => println!(
                "canary {} ({}): not caught by {} within {CANARY_SEEDS} seeds",
                mutant.name(),
                mutant.text(),
                mutant.checker()
            ),
        }
    }
    println!("{} canaries in {:.1} s", mutants.len(), began.elapsed().as_secs_f64());
}

/// The pairs of histories that show that each checker can pass and fail.
fn unit_histories(tally: &mut Tally) {
    let (before, judged) = (tally.failed, histories::judge_all());
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for judged in &judged {
        *counts.entry(judged.checker).or_default() += 1;
        tally.count(judged.problem.is_none());
        if let Some(problem) = &judged.problem {
            println!("{}: {}: {problem}", judged.checker, judged.name);
        }
    }
    let counts: Vec<String> = counts.iter().map(|(checker, count)| format!("{checker} {count}")).collect();
    println!("pairs of histories: {}; {} judged wrongly", counts.join(", "), tally.failed - before);
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let mut tally = Tally::default();
    if arguments.list {
        Mutant::ALL.iter().for_each(|m| println!("{} -> {}: {}", m.name(), m.checker(), m.text()));
        return ExitCode::SUCCESS;
    }
    if !arguments.traces.is_empty() {
        arguments.traces.iter().for_each(|seed| println!("{}", trace_line(*seed, &plain(*seed).trace)));
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = arguments.marks {
        let report = guarded(seed, Options { keep_marks: true, ..Options::default() });
        report.trace.marks().iter().for_each(|m| println!("{} {} {} {}", m.at, m.what, m.bytes, m.crc));
        return ExitCode::SUCCESS;
    }
    match (arguments.seed, arguments.seeds, arguments.canary) {
        (Some(seed), _, Some(mutant)) => {
            show_plan(seed, Some(mutant));
            let (caught, report) = is_caught(mutant, seed);
            show(seed, Some(mutant), &report);
            println!("canary {}: {}", mutant.name(), if caught { "caught" } else { "not caught" });
            tally.count(caught);
        }
        (Some(seed), ..) => {
            show_plan(seed, None);
            let report = plain(seed);
            show(seed, None, &report);
            println!("trace {}", trace_line(seed, &report.trace));
            tally.count(report.violations.is_empty());
        }
        (None, _, Some(mutant)) => canaries(&mut tally, &[mutant]),
        (None, Some(count), None) => drop(seeds(&mut tally, arguments.from, count)),
        (None, None, None) if arguments.canaries => canaries(&mut tally, &Mutant::ALL),
        (None, None, None) => {
            unit_histories(&mut tally);
            let count = if arguments.quick { SEEDS_QUICK } else { SEEDS };
            let kept = seeds(&mut tally, arguments.from, count);
            determinism(&mut tally, &kept);
            canaries(&mut tally, &Mutant::ALL);
        }
    }
    tally.end()
}
