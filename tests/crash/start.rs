//! What a first start and a second one look like from outside.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use etchd::pure::api::requests::EmptyRequest;

use super::client::{Client, Endpoint, get, header, keys, path, put, raft_position};
use super::server::{Server, bare_program, directed, on, program, refused};
use super::system::{Scratch, free_port, refuse_calls};

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

/// A server with this call of `ulimit` before it; not under a filter of system calls.
fn limited(limits: &str, data: &Path, port: u16) -> Command {
    let server = on(data, port);
    let mut command = Command::new("/bin/sh");
    command.env_clear().arg("-c").arg(format!(r#"{limits} && exec "$0" "$@""#)).arg(server.get_program());
    command.args(server.get_args());
    command
}

/// A limit of open files that leaves none for clients is refused in etcd's words.
#[test]
fn a_limit_of_open_files_without_room_for_clients_is_refused() {
    for limit in [64, 150] {
        let scratch = Scratch::new("few");
        let data = scratch.0.join("data");
        let (code, log) = refused(&mut limited(&format!("ulimit -n {limit}"), &data, free_port()));
        assert_eq!(code, Some(1), "{log}");
        let line = log.lines().find(|line| line.contains("\"level\":\"fatal\"")).expect("says why");
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["msg"], "file descriptor limit of etcd process is too low; please set higher");
        assert_eq!((&line["limit"], &line["recommended-limit"]), (&limit.into(), &150.into()));
        assert!(line["what-to-do"].as_str().expect("says what to do").contains("ulimit -n"), "{line}");
        assert!(!data.exists(), "nothing was made");
    }
}

/// The soft limit of open files is raised before anything takes descriptors.
#[test]
fn a_soft_limit_of_open_files_is_raised() {
    let (scratch, port) = (Scratch::new("soft"), free_port());
    let mut command = limited("ulimit -Sn 24", &scratch.0.join("data"), port);
    let server = Server::start_with(command.args(["--shards", "16"]), port);
    assert!(!server.log().contains("\"level\":\"warn\""), "{}", server.log());
    server.connect().unary(path::PUT, &put(b"key", b"value")).expect("the put is done");
    server.stop();
}

/// Who is turned away because of the limit of open files is not turned away silently.
#[test]
fn clients_beyond_the_limit_of_open_files_are_told_of() {
    let (scratch, port) = (Scratch::new("many"), free_port());
    let server = Server::start_with(&mut limited("ulimit -n 152", &scratch.0.join("data"), port), port);
    let served = [server.connect(), server.connect()];
    for _ in 0..20 {
        // Closed at once: the end of the stream, or a reset.
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the kernel takes it");
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "it is not served");
    }
    let warning = server.wait_line("further clients are turned away");
    assert!(warning.contains("\"connections-max\":2") && warning.contains("ulimit -n"), "{warning}");
    let warnings = server.log().lines().filter(|line| line.contains("turned away")).count();
    assert!(warnings < 20, "not once for each:\n{}", server.log());
    drop(served);
    server.stop();
}

/// Too many shards for the limit of open files: what to do fits the edge, there is no other one to advise.
#[test]
fn epoll_without_descriptors_is_refused_with_advice_that_fits() {
    let scratch = Scratch::new("queues");
    let mut command = limited("ulimit -n 160", &scratch.0.join("data"), free_port());
    let (code, log) = refused(command.args(["--shards", "128", "--io", "epoll"]));
    assert_eq!(code, Some(1), "{log}");
    let line = log.lines().find(|line| line.contains("\"level\":\"fatal\"")).expect("says why");
    assert!(line.contains("ulimit -n") && line.contains("lower --shards"), "{line}");
    assert!(!line.contains("--io=epoll"), "{line}");
}

/// A filter that lets io_uring be set up and refuses one of its other calls: epoll serves and says why in one line,
/// with the fix; who asks for io_uring by name gets the same words and nothing else.
#[test]
fn a_refused_call_of_io_uring_is_like_io_uring_refused() {
    const ALLOW: &str = "seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register";
    for (call, number, reason, fix) in [
        (libc::SYS_io_uring_enter, libc::EPERM, "failed to receive by io_uring", ALLOW),
        (libc::SYS_io_uring_enter, libc::EACCES, "io_uring is forbidden for this process", ALLOW),
        (libc::SYS_io_uring_enter, libc::ENOSYS, "has no io_uring (ENOSYS)", "Linux 6.1 or later"),
        (libc::SYS_io_uring_enter, libc::EIO, "failed to receive by io_uring", "--io"),
        (libc::SYS_io_uring_register, libc::EPERM, "failed to register receive buffers", ALLOW),
        (libc::SYS_io_uring_register, libc::ENOSYS, "has no io_uring (ENOSYS)", "Linux 6.1 or later"),
    ] {
        let (scratch, port) = (Scratch::new("call"), free_port());
        let data = scratch.0.join("data");
        let start = || {
            let mut command = directed(bare_program(), &data, port);
            refuse_calls(&mut command, &[call], number);
            command
        };
        let (code, log) = refused(start().args(["--io", "uring"]));
        assert_eq!(code, Some(1), "{log}");
        let lines: Vec<&str> = log.lines().collect();
        let [_, fatal] = lines[..] else { panic!("the start and its end: {log}") };
        assert!(fatal.contains("\"level\":\"fatal\"") && fatal.contains(reason), "{fatal}");
        assert!(fatal.contains(fix) && fatal.contains("without --io=uring"), "{fatal}");
        assert!(!data.exists(), "nothing was made");

        let server = Server::start_with(&mut start(), port);
        server.connect().unary(path::PUT, &put(b"key", b"value")).expect("the put is done");
        let log = server.log();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("\"level\":\"warn\"")).collect();
        let [warning] = warnings[..] else { panic!("one warning: {log}") };
        assert!(warning.contains("serving by epoll, which is slower: "), "{warning}");
        assert!(warning.contains(reason) && warning.contains(fix), "{warning}");
        server.stop();
    }
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
