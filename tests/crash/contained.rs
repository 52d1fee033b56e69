//! Runs a program, the first argument, under a filter of system calls like the default one of container runtimes.

use std::os::unix::process::CommandExt;
use std::process::Command;

#[path = "system.rs"]
#[expect(dead_code, reason = "the rest is for the tests beside it")]
mod system;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: contained PROGRAM [ARGUMENT]...");
        std::process::exit(2);
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    system::contain(&mut command);
    let error = command.exec();
    eprintln!("{} can't be started under the filter: {error}", program.display());
    std::process::exit(1);
}
