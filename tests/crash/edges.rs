//! Which edge serves, what it says of that, and that it serves in whatever the machine lacks.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use super::client::{get, keys, path, put};
use super::server::{Server, bare_program, directed, refused};
use super::system::{FileSystem, NOBODY, Scratch, as_nobody, contain, free_port, is_root, refuse_io_uring};

const FALLS_BACK: &str = "serving by epoll, which is slower: ";

/// Puts, restarts, gets. Gives the log of the first start.
fn serves(command: &dyn Fn() -> Command, port: u16) -> String {
    let server = Server::start_with(&mut command(), port);
    let log = server.log();
    server.connect().unary(path::PUT, &put(b"key", b"value")).expect("the put is done");
    server.stop();
    let server = Server::start_with(&mut command(), port);
    let found = keys(&server.connect().unary(path::RANGE, &get(b"key")).expect("the server reads"));
    assert_eq!(found[0].value, b"value");
    server.stop();
    log
}

/// The one line that names the edge and its fast paths: the edge, what is in use, what is not.
fn announced(log: &str) -> (String, Vec<String>, Vec<String>) {
    let mut lines = log.lines().filter(|line| line.contains("fast paths of the kernel"));
    let line: serde_json::Value = serde_json::from_str(lines.next().expect("is told")).expect("JSON");
    assert!(lines.next().is_none(), "told once: {log}");
    let names = |field: &str| {
        let names = line[field].as_array().expect("a list");
        names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    (line["io"].as_str().expect("a name").to_owned(), names("in-use"), names("not-in-use"))
}

fn on(data: &Path, port: u16) -> Command {
    directed(bare_program(), data, port)
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// Whatever the kernel answers instead of a ring: epoll serves and says so in one line, with the reason and the
/// fix. Who asks for io_uring by name gets the same words and nothing else.
#[test]
fn without_io_uring_epoll_serves_and_says_why() {
    for (number, reason, fix) in [
        (libc::EPERM, "io_uring is forbidden for this process", "kernel.io_uring_disabled"),
        (libc::EPERM, "Operation not permitted", "seccomp profile that allows io_uring_setup"),
        (libc::ENOSYS, "has no io_uring (ENOSYS)", "run on Linux 6.1 or later"),
        (libc::ENOMEM, "Cannot allocate memory", "ulimit -l 8192"),
        (libc::EINVAL, "lacks the single issuer mode", "run on Linux 6.1 or later"),
    ] {
        let (scratch, port) = (Scratch::new("refused"), free_port());
        let data = scratch.0.join("data");
        let start = |arguments: &[&str]| {
            let mut command = with(on(&data, port), arguments);
            refuse_io_uring(&mut command, number);
            command
        };
        let (code, log) = refused(&mut start(&["--io", "uring"]));
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(reason) && log.contains(fix) && log.contains("without --io=uring"), "{log}");
        assert!(!data.exists(), "nothing was made");

        let log = serves(&|| start(&[]), port);
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("epoll")).collect();
        let [warning, announced_as] = warnings[..] else { panic!("two lines name it: {log}") };
        assert!(warning.contains(FALLS_BACK) && warning.contains("\"level\":\"warn\""), "{warning}");
        assert!(warning.contains(reason) && warning.contains(fix), "{warning}");
        assert_eq!(announced(announced_as).0, "epoll");
        // By name there is nothing to warn of.
        let log = serves(&|| start(&["--io", "epoll"]), port);
        assert!(!log.contains(FALLS_BACK), "{log}");
    }
}

/// Under a filter like the default one of container runtimes.
#[test]
fn a_container_is_served_by_epoll() {
    let (scratch, port) = (Scratch::new("contained"), free_port());
    let start = || {
        let mut command = on(&scratch.0.join("data"), port);
        contain(&mut command);
        command
    };
    let log = serves(&start, port);
    assert!(log.contains(FALLS_BACK) && log.contains("io_uring is forbidden for this process"), "{log}");
    assert_eq!(announced(&log).0, "epoll");
}

/// Without the right to lock memory, what the kernel refuses is done without, or by epoll.
#[test]
fn without_locked_memory_it_serves() {
    if !is_root() {
        return println!("skipped: only root can become another user");
    }
    // For nothing; for one ring; for some of the rings; for all of them.
    let mut kinds = Vec::new();
    for locked_bytes in [0, 64 << 10, 256 << 10, 512 << 10, 1 << 20] {
        let (scratch, port) = (Scratch::new("locked"), free_port());
        // Where everybody may run it.
        let program = scratch.0.join("etchd");
        // By another process: a descriptor open for writing here would go to each child, which makes it busy.
        let copied = Command::new("cp").arg(bare_program().get_program()).arg(&program).status();
        assert!(copied.expect("there is a cp").success());
        let home = scratch.0.join("home");
        fs::create_dir(&home).expect("makes a directory");
        chown(&home, Some(NOBODY), Some(NOBODY)).expect("root may do so");
        let start = || {
            let mut command = Command::new(&program);
            command.env_clear();
            let mut command = directed(command, &home.join("data"), port);
            command.args(["--shards", "4"]);
            as_nobody(&mut command, locked_bytes);
            command
        };
        let log = serves(&start, port);
        let (kind, in_use, not_in_use) = announced(&log);
        println!("{locked_bytes} bytes of locked memory: {kind}, {in_use:?}");
        if log.contains(FALLS_BACK) {
            assert!(log.contains("raise the limit of locked memory") && kind == "epoll", "{log}");
        } else {
            assert_eq!(kind, "io_uring");
        }
        let warnings = usize::from(kind == "epoll");
        assert!(not_in_use.iter().any(|name| name == "registered buffers"), "{not_in_use:?}");
        assert_eq!(log.lines().filter(|line| line.contains("\"level\":\"warn\"")).count(), warnings, "{log}");
        kinds.push(kind);
    }
    println!("{kinds:?}");
}

/// The log line at the start names all fast paths, used or not.
#[test]
fn the_fast_paths_are_named_at_the_start() {
    const ALL: [&str; 5] =
        ["multishot receive", "buffer rings", "MSG_RING", "registered buffers", "O_DIRECT + RWF_DSYNC"];
    for kind in ["uring", "epoll"] {
        let (scratch, port) = (Scratch::new("paths"), free_port());
        let log = serves(&|| with(on(&scratch.0.join("data"), port), &["--io", kind]), port);
        let (name, in_use, not_in_use) = announced(&log);
        assert!(name.ends_with(kind), "{name}");
        let told = |path: &&str| in_use.iter().chain(&not_in_use).filter(|name| name == path).count();
        assert!(ALL.iter().all(|path| told(path) == 1), "{in_use:?} {not_in_use:?}");
        println!("{name}: {in_use:?}, not {not_in_use:?}");
        for path in &ALL[..3] {
            assert_eq!(in_use.iter().any(|name| name == path), kind == "uring", "{path}");
        }
    }
}

/// On a file system that refuses O_DIRECT writes go through the page cache, by either edge.
#[test]
fn a_file_system_without_direct_writes_is_served() {
    let mut disk = match FileSystem::without_direct("ramfs") {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: a file system of its own can't be made here: {reason}"),
    };
    for kind in ["uring", "epoll"] {
        let port = free_port();
        let log = serves(&|| with(on(&disk.path.join(kind), port), &["--io", kind]), port);
        assert_eq!(announced(&log).2.last().expect("something is not in use"), "O_DIRECT + RWF_DSYNC");
    }
    disk.unmount();
}
