//! The simulator's command line: `cargo sim --help`.

#![allow(clippy::disallowed_methods, reason = "it tells how long a run took")]

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use etchd::testing::canary::Mutant;
use etchd::testing::checkers::histories;
use etchd::testing::history::Violation;
use etchd::testing::world::{Options, Report, run};

const HELP: &str = "\
cargo sim                        the set of every commit: histories, seeds, determinism, canaries
cargo sim --seed N               one seed, with what happened
cargo sim --seeds N [--from M]   N seeds from M on
cargo sim --canary M8 [--seed N] a planted bug, with a search for a seed that shows it
cargo sim --trace N              only the hash of a seed's trace
cargo sim --list                 the canaries";

/// Seeds of the set of every commit, unless its time is over before.
const SEEDS: u64 = 300;
const TIME_MAX: Duration = Duration::from_secs(45);
/// Within so many seeds every canary has to show.
const CANARY_SEEDS: u64 = 40;

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    seeds: Option<u64>,
    from: u64,
    canary: Option<Mutant>,
    trace: Option<u64>,
    list: bool,
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
            "--trace" => arguments.trace = Some(number()?),
            "--list" => arguments.list = true,
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
fn guarded(seed: u64, canary: Option<Mutant>) -> Report {
    let options = Options { canary, entropy: entropy() };
    catch_unwind(AssertUnwindSafe(|| run(seed, options))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violations = vec![Violation::new("panic", text.unwrap_or_default())];
        Report { violations, trace: 0, summary: format!("seed {seed}: panicked") }
    })
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

/// Runs seeds until the number or the time is reached.
fn seeds(tally: &mut Tally, from: u64, count: u64, time: Option<Duration>) {
    let began = Instant::now();
    let mut done = 0;
    for seed in from..from + count {
        if time.is_some_and(|time| began.elapsed() > time) {
            break;
        }
        let report = guarded(seed, None);
        done += 1;
        tally.count(report.violations.is_empty());
        if !report.violations.is_empty() {
            show(seed, None, &report);
        }
    }
    println!("{done} seeds from {from} in {:.1} s", began.elapsed().as_secs_f64());
}

/// C14: one seed in a hundred again, and one in another process.
fn determinism(tally: &mut Tally, from: u64, count: u64) {
    for seed in (from..from + count).step_by(100) {
        let same = guarded(seed, None).trace == guarded(seed, None).trace;
        tally.count(same);
        if !same {
            println!("C14: seed {seed} has two traces; replay: cargo sim --trace {seed}");
        }
    }
    let here = format!("{:016x}", guarded(from, None).trace);
    let other =
        std::env::current_exe().and_then(|me| Command::new(me).args(["--trace", &from.to_string()]).output());
    let there =
        other.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    tally.count(here == there);
    if here != there {
        println!("C14: seed {from} has trace {here} here and {there} in another process");
    }
}

/// True if the named checker finds the planted bug with this seed.
fn is_caught(mutant: Mutant, seed: u64) -> (bool, Report) {
    let report = guarded(seed, Some(mutant));
    let caught = match mutant.checker() {
        "C14" => guarded(seed, Some(mutant)).trace != report.trace,
        checker => report.violations.iter().any(|violation| violation.checker == checker),
    };
    (caught, report)
}

fn canary(tally: &mut Tally, mutant: Mutant) {
    let seed = (1..=CANARY_SEEDS).find(|seed| is_caught(mutant, *seed).0);
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

/// The histories that show that each checker can pass and fail.
fn unit_histories(tally: &mut Tally) {
    let before = tally.failed;
    for (name, problem) in histories::judge_all() {
        tally.count(problem.is_none());
        if let Some(problem) = problem {
            println!("history {name}: {problem}");
        }
    }
    println!("unit histories: {} failed", tally.failed - before);
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
    if let Some(seed) = arguments.trace {
        println!("{:016x}", guarded(seed, None).trace);
        return ExitCode::SUCCESS;
    }
    match (arguments.seed, arguments.seeds, arguments.canary) {
        (Some(seed), _, Some(mutant)) => {
            let (caught, report) = is_caught(mutant, seed);
            show(seed, Some(mutant), &report);
            println!("canary {}: {}", mutant.name(), if caught { "caught" } else { "not caught" });
            tally.count(caught);
        }
        (Some(seed), ..) => {
            let report = guarded(seed, None);
            show(seed, None, &report);
            println!("trace {:016x}", report.trace);
            tally.count(report.violations.is_empty());
        }
        (None, _, Some(mutant)) => canary(&mut tally, mutant),
        (None, Some(count), None) => seeds(&mut tally, arguments.from, count, None),
        (None, None, None) => {
            unit_histories(&mut tally);
            seeds(&mut tally, arguments.from, SEEDS, Some(TIME_MAX));
            determinism(&mut tally, arguments.from, SEEDS);
            Mutant::ALL.iter().for_each(|mutant| canary(&mut tally, *mutant));
        }
    }
    tally.end()
}
