//! The `etchd` binary: options in, exit code out. Everything else is the library.

fn main() {
    std::process::exit(etchd::edge::ops::run(std::env::args_os().collect(), etchd::edge::shard::serve));
}
