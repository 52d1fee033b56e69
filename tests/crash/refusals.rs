//! What the server does not start on.

use std::fs;
use std::path::{Path, PathBuf};

use super::server::{Server, on, refused};
use super::system::{Scratch, free_port};

/// All paths below a directory.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// The data of etcd itself is left as it is.
#[test]
fn data_of_etcd_is_refused_unchanged() {
    let scratch = Scratch::new("etcd");
    let data = scratch.0.join("data");
    for folder in ["member/snap", "member/wal"] {
        fs::create_dir_all(data.join(folder)).expect("makes a directory");
    }
    fs::write(data.join("member/snap/db"), b"bolt").expect("writes a file");
    let before = tree(&data);
    let (code, log) = refused(&mut on(&data, free_port()));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("holds data of etcd") && log.contains("etchd import"), "{log}");
    assert_eq!(tree(&data), before, "nothing was made");
    assert_eq!(fs::read(data.join("member/snap/db")).expect("reads"), b"bolt");
}

/// A log in a format that this version does not know is refused by the number of the format.
#[test]
fn a_newer_format_is_refused() {
    let (scratch, port) = (Scratch::new("newer"), free_port());
    let data = scratch.0.join("data");
    Server::start(&data, port).stop();
    let segment = data.join("etchd/log/0000000000000001.log");
    let mut image = fs::read(&segment).expect("reads the segment");
    image[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&image[..12]), &image[16..4_096]);
    image[12..16].copy_from_slice(&sum.to_le_bytes());
    fs::write(&segment, &image).expect("writes the segment");
    let (code, log) = refused(&mut on(&data, port));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("was written in format 2 of a newer etchd"), "{log}");
    assert!(log.contains(&segment.display().to_string()), "{log}");
    assert!(fs::read(&segment).expect("reads the segment") == image, "nothing was changed");
}

/// Two servers never share a directory or an address; the second says who has it and what to do.
#[test]
fn what_is_in_use_is_refused() {
    let (scratch, port) = (Scratch::new("busy"), free_port());
    let data = scratch.0.join("data");
    let server = Server::start(&data, port);
    let (code, log) = refused(&mut on(&data, free_port()));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("data directory is in use: process "), "{log}");
    assert!(log.contains("etchd/LOCK") && log.contains("choose another --data-dir"), "{log}");

    let (code, log) = refused(&mut on(&scratch.0.join("other"), port));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("listen tcp 127.0.0.1:{port}: bind: address already in use")), "{log}");
    assert!(
        log.contains("stop the process that listens there") && log.contains("--listen-client-urls"),
        "{log}"
    );
    server.connect();
    server.stop();
}
