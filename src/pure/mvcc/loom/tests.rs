//! Version lists under their writer and a reader, in all the ways in which the two can take turns.

use ::loom::thread;

use super::super::versions::{Chain, Entry, EntryRef, Garbage};
use super::super::{Addr, Version};
use crate::edge::mesh::{Publisher, Reader, published};
use crate::pure::types::Revision;
use crate::stdx::sync::check;

const fn live(main: Revision) -> Version {
    Version { main, create: main, version: main * 10, lease: main * 100, addr: Addr(main as u64) }
}

const fn tombstone(main: Revision) -> Version {
    Version { create: 0, version: 0, lease: 0, ..live(main) }
}

/// An entry as the store owns it, and the epochs that guard what is cut off. The published value is the newest
/// revision that readers may ask for.
struct Stage {
    entry: EntryRef,
    publisher: Publisher<Revision, Garbage>,
}

fn stage(versions: &[Version]) -> (Stage, EntryRef, Reader<Revision>) {
    let entry = EntryRef::alloc(b"k", versions[0]);
    versions[1..].iter().for_each(|version| entry.entry().append(*version));
    let newest = entry.entry().newest().main;
    let (publisher, mut readers) = published(newest, 1);
    (Stage { entry, publisher }, entry, readers.pop().expect("one was made"))
}

impl Stage {
    fn cut(&mut self, floor: Revision, former: Revision) -> bool {
        let mut cut: Vec<Chain> = Vec::new();
        let kept = self.entry.entry().cut(floor, former, &mut cut).kept;
        for chain in cut {
            self.publisher.retire(Garbage::Chunks { _chain: chain });
        }
        self.publisher.collect();
        kept
    }

    fn end(mut self, reader: Reader<Revision>) {
        drop(reader);
        self.publisher.collect();
        drop(Garbage::Entry { entry: self.entry });
    }
}

fn assert_at(entry: &Entry, revision: Revision, expected: Option<Version>) {
    let got = entry.at(revision).filter(Version::is_live);
    assert_eq!(got, expected.filter(Version::is_live), "at {revision}");
}

/// Append against read: a reader finds its revision's version, whole, while newer ones come, in the same chunk and
/// in new ones; and with a new view the new one.
#[test]
fn a_reader_sees_its_revision_while_newer_come() {
    check(3, || {
        let (mut stage, entry, mut reader) = stage(&[live(1), live(2)]);
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                let views = reader.enter();
                let newest = *views.load();
                for revision in 1..=newest {
                    assert_at(entry.entry(), revision, Some(live(revision)));
                }
            }
            reader
        });
        // The second chunk has four slots: this one goes into it.
        stage.entry.entry().append(live(3));
        stage.publisher.publish(3);
        let reader = thread.join().expect("the reader ends");
        stage.end(reader);
    });
}

/// As above, where the list needs a new chunk.
#[test]
fn a_reader_sees_its_revision_while_the_list_grows_a_chunk() {
    check(3, || {
        let (mut stage, entry, mut reader) = stage(&[live(1)]);
        let thread = thread::spawn(move || {
            let views = reader.enter();
            for revision in 1..=*views.load() {
                assert_at(entry.entry(), revision, Some(live(revision)));
            }
            drop(views);
            reader
        });
        stage.entry.entry().append(live(2));
        stage.publisher.publish(2);
        let reader = thread.join().expect("the reader ends");
        stage.end(reader);
    });
}

/// Cut against read: all that a reader at or above the floor may ask for stays the same during a cut, whatever the
/// shape of the list and of the cut, and no chunk is freed under the reader.
#[test]
fn a_cut_takes_nothing_from_readers_above_its_floor() {
    // Chunks: [1], [2, 3, 4, 5], [6].
    const LISTS: [&[Version]; 4] = [
        &[live(1), live(2), live(3), live(4), live(5), live(6)],
        // The tombstone is the floor's: older versions must not shine through.
        &[live(1), tombstone(2), live(4), live(5)],
        &[live(1), live(2), live(3), live(4), tombstone(5), live(6)],
        &[live(1), tombstone(2), live(3)],
    ];
    for (list, floors) in LISTS.into_iter().zip([&[3, 5][..], &[2, 3], &[4, 5], &[2]]) {
        for floor in floors.iter().copied() {
            check(2, move || {
                let (mut stage, entry, mut reader) = stage(list);
                let thread = thread::spawn(move || {
                    let views = reader.enter();
                    for revision in floor..=*views.load() {
                        let expected = list.iter().rev().find(|version| version.main <= revision);
                        assert_at(entry.entry(), revision, expected.copied());
                    }
                    drop(views);
                    reader
                });
                assert!(stage.cut(floor, 0));
                let reader = thread.join().expect("the reader ends");
                stage.end(reader);
            });
        }
    }
}

/// A record moves while it is looked up: the address is the old one or the new one, and what the new one leads to is
/// seen by who sees it.
#[test]
fn an_address_swings_as_a_whole() {
    use crate::stdx::append::{Appender, Directory};
    use std::sync::Arc;
    check(3, || {
        let (stage, entry, mut reader) = stage(&[live(1)]);
        let directory: Arc<Directory<_>> = Arc::default();
        let mut first = Appender::new(1);
        first.append(&[b"r"]);
        directory.set(1, Arc::clone(first.buffer()));
        let thread = {
            let directory = Arc::clone(&directory);
            thread::spawn(move || {
                let views = reader.enter();
                let version = entry.entry().at(*views.load()).expect("it is there");
                let segment = directory.get(version.addr.0 as u32).expect("an address leads to a segment");
                assert_eq!(segment.bytes(), b"r", "the record is there before its address");
                drop(views);
                reader
            })
        };
        let mut second = Appender::new(1);
        directory.set(2, Arc::clone(second.buffer()));
        second.append(&[b"r"]);
        assert_eq!(stage.entry.entry().swing(1, Addr(1), Addr(2)), (true, 1));
        let reader = thread.join().expect("the reader ends");
        stage.end(reader);
    });
}
