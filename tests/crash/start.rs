//! What a first start and a second one look like from outside.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use etchd::pure::api::requests::EmptyRequest;

use super::client::{Client, Endpoint, get, header, keys, path, put, raft_position};
use super::server::{Server, program, refused};
use super::system::{Scratch, free_port};

/// Those of etcd for one member named `default` at `http://localhost:2380`.
const CLUSTER_ID: u64 = 14_841_639_068_965_178_418;
const MEMBER_ID: u64 = 10_276_657_743_932_975_437;

fn ids(client: &mut Client) -> (u64, u64) {
    let status = client.unary(path::STATUS, &EmptyRequest).expect("the server says its status");
    (header(&status, 1).cast_unsigned(), header(&status, 2).cast_unsigned())
}

fn two_starts(scratch: &Scratch, command: &dyn Fn() -> Command, port: u16) {
    let server = Server::start_with(command().current_dir(&scratch.0), port);
    let mode = fs::metadata(scratch.0.join("default.etcd")).expect("is made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mut client = server.connect();
    assert_eq!(ids(&mut client), (CLUSTER_ID, MEMBER_ID));
    // As etcd: the member, the first leader's own entry, the member's attributes, the cluster version.
    assert_eq!(raft_position(&mut client), (4, 2));
    for value in [b"1", b"2"] {
        client.unary(path::PUT, &put(b"key", value)).expect("the put is done");
    }
    assert_eq!(raft_position(&mut client), (6, 2));
    drop(client);
    server.stop();
    let server = Server::start_with(command().current_dir(&scratch.0), port);
    let mut client = server.connect();
    assert_eq!(ids(&mut client), (CLUSTER_ID, MEMBER_ID));
    assert_eq!(raft_position(&mut client), (8, 3));
    let found = keys(&client.unary(path::RANGE, &get(b"key")).expect("the server reads"));
    assert_eq!((found.len(), found[0].value.as_slice(), found[0].version), (1, b"2".as_slice(), 2));
    drop(client);
    server.stop();
}

/// The directory, the ids and the positions of the log are those that etcd has.
#[test]
fn a_start_with_defaults_is_like_that_of_etcd() {
    let (scratch, port) = (Scratch::new("defaults"), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let command = || {
        let mut command = program();
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command
    };
    two_starts(&scratch, &command, port);
}

/// The same without a single flag, if nobody has the port.
#[test]
fn a_start_without_flags() {
    if let Err(error) = TcpListener::bind("127.0.0.1:2379") {
        return println!("skipped: 127.0.0.1:2379 can't be had: {error}");
    }
    let scratch = Scratch::new("bare");
    two_starts(&scratch, &program, 2379);
}

/// `--version`, and the exit codes of what can't be started.
#[test]
fn answers_and_exit_codes_without_a_server() {
    let output = program().arg("--version").output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let names: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(names, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
    assert_eq!(output.status.code(), Some(0));
    let (code, log) = refused(program().arg("--bogus"));
    assert_eq!(code, Some(2), "{log}");
    let (code, log) = refused(program().args(["--shards", "0"]));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("--shards must be >0"), "{log}");
}

/// A unix socket, named as etcd names it; the file of a killed server is no hindrance.
#[test]
fn a_unix_socket_is_served() {
    let scratch = Scratch::new("unix");
    let url = "unix://localhost:23790";
    let start = || {
        let mut command = program();
        command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
        let server =
            Server::spawn(command.current_dir(&scratch.0), Endpoint::Unix(scratch.0.join("localhost:23790")));
        server.wait_ready();
        server
    };
    let mut server = start();
    server.connect().unary(path::PUT, &put(b"key", b"value")).expect("the put is done");
    server.kill();
    assert!(scratch.0.join("localhost:23790").exists(), "a killed server leaves its file");
    let server = start();
    let answer = server.connect().unary(path::RANGE, &get(b"key")).expect("the server reads");
    assert_eq!(keys(&answer)[0].value, b"value");
    server.stop();
}
