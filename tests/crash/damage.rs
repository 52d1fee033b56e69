//! Bits of the log that flip on the disk.

use std::fs;
use std::ops::{Range, RangeInclusive};
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

/// A batch of the log, by `schema/disk/wal.md`.
struct Batch {
    /// Position of its segment in the list.
    segment: usize,
    /// The part in use, from the start of the file.
    place: Range<u64>,
    /// A later segment holds the same part of the log again.
    overridden: bool,
    /// Something on disk proves that it was durable.
    proven: bool,
}

/// All batches of a log.
fn batches(segments: &[PathBuf]) -> Vec<Batch> {
    let images: Vec<Vec<u8>> = segments.iter().map(|path| fs::read(path).expect("reads a segment")).collect();
    let short = |image: &[u8], at: usize| {
        u64::from(u32::from_le_bytes(image[at..at + 4].try_into().expect("4 bytes")))
    };
    let long = |image: &[u8], at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
    let mut proven_to = 0;
    let mut found = Vec::new();
    for (segment, image) in images.iter().enumerate() {
        let first = long(image, 32);
        let overridden_from =
            images[segment + 1..].iter().map(|later| long(later, 32)).min().unwrap_or(u64::MAX);
        proven_to = proven_to.max(long(image, 48));
        let mut at = 4_096;
        while image.get(at + 4..at + 8) == Some(b"eBat".as_slice()) {
            proven_to = proven_to.max(long(image, at + 48));
            let end = at + short(image, at + 8) as usize;
            let position = first + end as u64 - 4_096;
            let place = at as u64..at as u64 + short(image, at + 12);
            found.push((
                Batch { segment, place, overridden: overridden_from < position, proven: false },
                position,
            ));
            at = end;
        }
    }
    let prove = |(batch, position)| Batch { proven: position <= proven_to, ..batch };
    found.into_iter().map(prove).collect()
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
    let places = batches(&logs);
    let below: Vec<&Batch> = places.iter().filter(|batch| batch.proven && !batch.overridden).collect();
    assert!(below.len() > PUTS, "each put has its batch, and it is proven");

    let damaged = scratch.0.join("damaged");
    let with_copy = |change: &dyn Fn(&[PathBuf]), then: &dyn Fn(&[PathBuf])| {
        copy(&whole, &damaged);
        let logs = segments(&damaged);
        change(&logs);
        then(&logs);
        fs::remove_dir_all(&damaged).expect("removes the copy");
    };
    let is_refused = |logs: &[PathBuf], place: Option<(usize, RangeInclusive<u64>)>| {
        let images = || logs.iter().map(|path| fs::read(path).ok()).collect::<Vec<_>>();
        let before = images();
        let (code, log) = refused(&mut on(&damaged, port));
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("the log is damaged at"), "{log}");
        if let Some((segment, offset)) = place {
            let named = log.split(&format!("{}, offset ", logs[segment].display())).nth(1);
            let named = named.and_then(|rest| rest.split(' ').next()).and_then(|text| text.parse().ok());
            assert!(named.is_some_and(|named| offset.contains(&named)), "{offset:?}: {log}");
        }
        assert!(images() == before && segments(&damaged).len() == logs.len(), "nothing was changed");
    };
    for batch in [below[0], below[below.len() / 2], below[below.len() - 1]] {
        let Batch { segment, ref place, .. } = *batch;
        // In its header, in its frames, in the padding behind them.
        let padding = place.end.next_multiple_of(4_096) - 1;
        for offset in [place.start, place.start + 40, place.end - 1, padding] {
            with_copy(&|logs| flip(&logs[segment], offset), &|logs| {
                is_refused(logs, Some((segment, place.start..=offset)));
            });
        }
    }
    let last = logs.len() - 1;
    with_copy(&|logs| flip(&logs[last], 20), &|logs| is_refused(logs, None));
    // What is cut off takes along what it proves, but not what the segment's header proves.
    let at = below[below.len() / 2].place.start;
    let cut = |logs: &[PathBuf]| {
        let file = fs::OpenOptions::new().write(true).open(&logs[last]).expect("opens a segment");
        file.set_len(at).expect("cuts a segment");
    };
    with_copy(&cut, &|logs| is_refused(logs, Some((last, at..=at))));

    let end = places.last().expect("there are batches").place.end;
    let overridden = places.iter().filter(|batch| batch.overridden);
    let overridden = overridden.map(|batch| (batch.segment, batch.place.start)).take(2);
    let harmless = overridden.chain([(last, end + 8_192), (last, (4 << 20) - 1)]);
    for (segment, offset) in harmless {
        let is_fine = |_: &[PathBuf]| {
            let server = Server::start(&damaged, port);
            check(&server);
            server.stop();
        };
        with_copy(&|logs| flip(&logs[segment], offset), &is_fine);
    }
}
