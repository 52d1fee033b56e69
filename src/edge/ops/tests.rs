//! Exit codes and what reaches the server.

use std::cell::RefCell;

use super::signals::Signal;
use super::*;

fn run_line(
    line: &str,
    variables: &[(&str, &str)],
    result: Result<Stop, StartError>,
) -> (Exit, Option<Config>) {
    let arguments = std::iter::once("etchd").chain(line.split_whitespace()).map(OsString::from).collect();
    let environment =
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    let seen = RefCell::new(None);
    let exit = run_with(arguments, environment, |config| {
        seen.replace(Some(config));
        result
    });
    (exit, seen.into_inner())
}

#[test]
fn exit_codes_before_the_server() {
    type Row = (&'static str, &'static [(&'static str, &'static str)], i32);
    let table: &[Row] = &[
        ("--version", &[], 0),
        ("--help", &[], 0),
        ("--bogus", &[], 2),
        ("--heartbeat-interval x", &[], 2),
        ("--heartbeat-interval 0", &[], 1),
        ("extra", &[], 1),
        ("gateway", &[], 1),
        ("--cert-file x", &[], 1),
        ("--config-file x", &[], 1),
        ("", &[("ETCD_HEARTBEAT_INTERVAL", "x")], 1),
        ("--name x", &[("ETCD_NAME", "x")], 1),
        ("--log-level foo", &[], 1),
        ("--shards 0", &[], 1),
    ];
    for (line, variables, code) in table {
        let (exit, seen) = run_line(line, variables, Ok(Stop::Finished));
        assert_eq!((exit, seen), (Exit::Code(*code), None), "{line:?} {variables:?}");
    }
}

#[test]
fn exit_codes_of_the_server() {
    assert_eq!(run_line("", &[], Ok(Stop::Finished)).0, Exit::Code(0));
    let failed = Stop::Failed { what: "cannot sync".to_owned(), advice: "replace the disk".to_owned() };
    assert_eq!(run_line("", &[], Ok(failed)).0, Exit::Code(1));
    let signal = Signal::Terminate;
    assert_eq!(run_line("", &[], Ok(Stop::Signal(signal))).0, Exit::Signal(signal));
    let busy = StartError::AddressInUse { address: "127.0.0.1:2379".to_owned() };
    assert_eq!(run_line("", &[], Err(busy)).0, Exit::Code(1));
}

#[test]
fn the_server_gets_flags_and_variables() {
    let (_, config) = run_line("--data-dir d", &[("ETCD_NAME", "x")], Ok(Stop::Finished));
    let config = config.unwrap();
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("x", Some("d")));
}

#[test]
fn version_has_four_lines() {
    let text = version();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.3");
    assert!(lines[1].starts_with("Git SHA: etchd-"));
    assert!(lines[2].starts_with("Go Version: "));
    assert!(lines[3].starts_with("Go OS/Arch: linux/"));
    assert_eq!(lines.len(), 4);
}
