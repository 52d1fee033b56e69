//! Bits of the log that flip on the disk.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::client::{get, keys, path, put};
use super::server::{Server, on, refused};
use super::system::{Scratch, copy, free_port};

const PUTS: usize = 12;

fn key(count: usize) -> Vec<u8> {
    format!("key/{count}").into_bytes()
}

/// Segments of a data directory, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(data.join("etchd/log")).expect("lists the log");
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.expect("lists the log").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// Where the batches of a segment are, by `schema/disk/wal.md`: the part in use of each.
fn batches(segment: &Path) -> Vec<Range<u64>> {
    let image = fs::read(segment).expect("reads a segment");
    let number = |at: usize| u64::from(u32::from_le_bytes(image[at..at + 4].try_into().expect("4 bytes")));
    let mut found = Vec::new();
    let mut at = 4_096;
    while image.get(at + 4..at + 8) == Some(b"eBat".as_slice()) {
        found.push(at as u64..at as u64 + number(at + 12));
        at += number(at + 8) as usize;
    }
    found
}

fn flip(path: &Path, offset: u64) {
    let mut image = fs::read(path).expect("reads a segment");
    image[offset as usize] ^= 0x10;
    fs::write(path, image).expect("writes a segment");
}

fn check(server: &Server) {
    let mut client = server.connect();
    for count in 0..PUTS {
        let answer = client.unary(path::RANGE, &get(&key(count))).expect("the server reads");
        let found = keys(&answer);
        assert_eq!((found.len(), found[0].mod_revision), (1, count as i64 + 2), "key {count}");
    }
}

/// Below the mark of what was durable: the server refuses to start, names file and offset and changes nothing.
/// Behind the end of the data: nothing is lost, nothing is refused.
#[test]
fn a_flipped_bit_is_found_before_it_is_served() {
    let (scratch, port) = (Scratch::new("damage"), free_port());
    let whole = scratch.0.join("whole");
    let server = Server::start(&whole, port);
    let mut client = server.connect();
    for count in 0..PUTS {
        // One by one, so that each has a batch of its own; the last is longer than one block.
        let value = vec![b'v'; if count == PUTS - 1 { 10_000 } else { 100 }];
        client.unary(path::PUT, &put(&key(count), &value)).expect("the put is done");
    }
    drop(client);
    server.stop();
    // The second start's segment proves all of the first one's.
    Server::start(&whole, port).stop();
    let logs = segments(&whole);
    assert_eq!(logs.len(), 2, "one segment for each start");
    let places = batches(&logs[0]);
    assert!(places.len() > PUTS, "each put has its batch: {places:?}");
    // The last batches had no proof yet: the second start wrote them again, to its own segment.
    let image = fs::read(&logs[1]).expect("reads a segment");
    let proven = 4_096 + u64::from_le_bytes(image[32..40].try_into().expect("8 bytes"));
    let (below, above): (Vec<_>, Vec<_>) = places.into_iter().partition(|batch| batch.end <= proven);
    assert!(below.len() >= PUTS, "most puts are proven: {below:?} {above:?}");

    let damaged = scratch.0.join("damaged");
    let with_copy = |change: &dyn Fn(&[PathBuf]), then: &dyn Fn(&[PathBuf])| {
        copy(&whole, &damaged);
        let logs = segments(&damaged);
        change(&logs);
        then(&logs);
        fs::remove_dir_all(&damaged).expect("removes the copy");
    };
    let is_refused = |logs: &[PathBuf], first: Option<u64>| {
        let images = || logs.iter().map(|path| fs::read(path).ok()).collect::<Vec<_>>();
        let before = images();
        let (code, log) = refused(&mut on(&damaged, port));
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("the log is damaged at"), "{log}");
        if let Some(offset) = first {
            assert!(log.contains(&format!("{}, offset {offset} ", logs[0].display())), "{offset}: {log}");
        }
        assert!(images() == before && segments(&damaged).len() <= 2, "nothing was changed");
    };
    for batch in [&below[0], &below[below.len() / 2], &below[below.len() - 1]] {
        // In its header, in its frames, in the padding behind them.
        let padding = batch.end.next_multiple_of(4_096) - 1;
        for offset in [batch.start, batch.start + 40, batch.end - 1, padding] {
            with_copy(&|logs| flip(&logs[0], offset), &|logs| is_refused(logs, Some(batch.start)));
        }
    }
    with_copy(&|logs| flip(&logs[0], 20), &|logs| is_refused(logs, None));
    let missing = |logs: &[PathBuf]| fs::remove_file(&logs[0]).expect("removes a segment");
    with_copy(&missing, &|logs| is_refused(logs, None));

    let second = batches(&logs[1]).last().expect("there are batches").end;
    let unproven = above.last().map_or(proven, |batch| batch.end);
    let written_again = above.iter().map(|batch| (0, batch.start + 8));
    for (segment, offset) in
        written_again.chain([(0, unproven + 8_192), (1, second + 8_192), (1, (4 << 20) - 1)])
    {
        let is_fine = |_: &[PathBuf]| {
            let server = Server::start(&damaged, port);
            check(&server);
            server.stop();
        };
        with_copy(&|logs| flip(&logs[segment], offset), &is_fine);
    }
}
