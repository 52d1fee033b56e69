//! A disk that is full, and one that goes away under load.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use etchd::edge::ops::start::Stop;
use etchd::edge::ops::{EXIT_LOG_FAILED, Exit, run_with};
use etchd::pure::api::requests::{DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest};

use super::client::{
    Client, Failure, PATIENCE, RESOURCE_EXHAUSTED, compaction, get, grant, keys, path, put, puts, revision,
};
use super::load::{Expected, Load};
use super::server::{Server, on, refused};
use super::system::{FileSystem, free_port};

/// Fits the first segments of a log, and one more when the ballast is gone.
const DISK_BYTES: u64 = 224 << 20;
const BALLAST_BYTES: u64 = 80 << 20;

fn make_ballast(path: &Path, bytes: u64) {
    let file = File::create(path).expect("makes the ballast");
    let zeros = vec![0; 1 << 20];
    for at in 0..bytes >> 20 {
        file.write_all_at(&zeros, at << 20).expect("fills the ballast");
    }
    file.sync_all().expect("syncs the ballast");
}

fn is_full(failure: &Failure) -> bool {
    match failure {
        Failure::Status(status) => {
            assert_eq!(status.code, RESOURCE_EXHAUSTED, "{status:?}");
            assert_eq!(status.text, "etcdserver: mvcc: database space exceeded");
            true
        }
        Failure::Connection(_) => false,
    }
}

fn key(count: usize) -> Vec<u8> {
    format!("fill/{count:08}").into_bytes()
}

/// Every write is refused while the log can't grow, reads go on, and so do writes as soon as there is room.
#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let mut disk = match FileSystem::new("full", DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: a file system of its own can't be made here: {reason}"),
    };
    let ballast = disk.path.join("ballast");
    make_ballast(&ballast, BALLAST_BYTES);
    let (data, port) = (disk.path.join("data"), free_port());
    let mut server = Server::start(&data, port);
    let mut client = server.connect();
    let lease = grant(&mut client, 3_600);
    let value = vec![b'v'; 256 * 1024];
    let mut revisions = Vec::new();
    let newest = loop {
        match client.unary(path::PUT, &put(&key(revisions.len()), &value)) {
            Ok(answer) => revisions.push(revision(&answer)),
            Err(failure) => {
                assert!(is_full(&failure), "{failure:?}");
                break *revisions.last().expect("some puts fit");
            }
        }
        assert!(revisions.len() < 2_000, "the disk is never full");
    };
    println!("full after {} puts", revisions.len());

    // Short writes may find room for a while; then nothing does.
    let mut short = 0;
    while client.unary(path::PUT, &put(b"short", &value[..4_096])).is_ok() {
        short += 1;
    }
    while client.unary(path::PUT, &put(b"short", b"x")).is_ok() {
        short += 1;
    }
    let refused_all = |client: &mut Client| {
        let delete = DeleteRangeRequest { key: key(0).into(), ..DeleteRangeRequest::default() };
        let failures = [
            client.unary(path::PUT, &put(b"another", b"x")),
            client.unary(path::TXN, &puts([put(b"another", b"x")])),
            client.unary(path::DELETE, &delete),
            client.unary(path::COMPACT, &compaction(newest)),
            client.unary(path::GRANT, &LeaseGrantRequest { ttl: 60, id: 0 }),
            client.unary(path::REVOKE, &LeaseRevokeRequest { id: lease }),
        ];
        for failure in failures {
            assert!(is_full(&failure.expect_err("there is no room")));
        }
    };
    refused_all(&mut client);
    let newest = newest + short;
    let check = |client: &mut Client, revisions: &[i64]| {
        for (count, at) in revisions.iter().enumerate() {
            let answer = client.unary(path::RANGE, &get(&key(count))).expect("reads go on");
            let found = keys(&answer);
            assert_eq!((found.len(), found[0].mod_revision), (1, *at), "key {count}");
            assert!(found[0].value == value, "key {count}");
        }
    };
    check(&mut client, &revisions);
    let answer = client.unary(path::RANGE, &get(b"another")).expect("reads go on");
    assert_eq!((revision(&answer), keys(&answer).len()), (newest, 0), "a refused write has no effect");

    // With a restart as full as that: the first segment of a new start is short.
    server.kill();
    let mut server = Server::start(&data, port);
    let mut client = server.connect();
    check(&mut client, &revisions);

    fs::remove_file(&ballast).expect("removes the ballast");
    let deadline = Instant::now() + PATIENCE;
    while client.unary(path::PUT, &put(b"room", &value)).is_err_and(|failure| is_full(&failure)) {
        assert!(Instant::now() < deadline, "writes do not go on:\n{}", server.log());
    }
    for _ in 0..40 {
        let answer = client.unary(path::PUT, &put(&key(revisions.len()), &value)).expect("there is room");
        revisions.push(revision(&answer));
    }
    client.unary(path::REVOKE, &LeaseRevokeRequest { id: lease }).expect("there is room");
    server.kill();
    let server = Server::start(&data, port);
    let mut client = server.connect();
    check(&mut client, &revisions);
    drop(client);
    server.stop();

    // No room even for a start: it says so and leaves everything as it is.
    let free = DISK_BYTES;
    let rest = File::create(disk.path.join("rest")).expect("makes a file");
    let block = vec![1; 1 << 20];
    for at in 0..free >> 20 {
        if rest.write_all_at(&block, at << 20).is_err() {
            break;
        }
    }
    drop(rest);
    let (code, log) = refused(&mut on(&data, port));
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.to_lowercase().contains("no space left") && log.to_lowercase().contains("free space"),
        "{log}"
    );
    fs::remove_file(disk.path.join("rest")).expect("removes the file");
    let server = Server::start(&data, port);
    check(&mut server.connect(), &revisions);
    server.stop();
    disk.unmount();
}

/// The disk goes away under load: exit code 74 at once, and what was acknowledged is on it.
#[test]
fn a_failed_log_write_ends_the_process() {
    let mut disk = match FileSystem::new("cut", 192 << 20) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: a file system of its own can't be made here: {reason}"),
    };
    let (data, port) = (disk.path.join("data"), free_port());
    let mut expected = Expected::default();
    for round in 0..4 {
        let mut server = Server::start(&data, port);
        expected.check(&mut server.connect());
        let load = Load::start(&server.endpoint, &format!("{round}"), 2_000);
        load.wait_for(200 + 300 * round);
        disk.cut_power();
        let status = server.wait_exit();
        assert_eq!(status.code(), Some(EXIT_LOG_FAILED), "{}", server.log());
        assert!(server.log().contains("a write to the log failed"), "{}", server.log());
        let (reports, newest) = load.join();
        expected.add(reports, newest);
        disk.unmount();
        disk.mount().expect("it can be mounted again");
    }
    let server = Server::start(&data, port);
    expected.check(&mut server.connect());
    println!("{} keys after power cuts", expected.len());
    server.stop();
    disk.unmount();
}

/// Whatever the machine allows: a failed log is told by the exit code.
#[test]
fn a_failed_log_has_its_own_exit_code() {
    let arguments = ["etchd", "--data-dir", "nowhere"].map(Into::into).to_vec();
    let exit = run_with(arguments, Vec::new(), |_| {
        Ok(Stop::LogFailed { what: "a write to the log failed".into(), advice: "check the disk".into() })
    });
    assert_eq!(exit, Exit::Code(74));
}
