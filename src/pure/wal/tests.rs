//! Every cut of the power, every flipped bit: what was acknowledged is found or recovery refuses.
//!
//! `ETCHD_WAL_SEEDS=n` runs n seeds instead of the few of an ordinary run.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::*;
use super::*;
use crate::pure::raft::{Entry, EntryKind, MemberId, Persisted, Ticket};
use crate::stdx::prng::Prng;
use crate::testing::disk::{DiskError, Faults, SECTOR_BYTES, SimDisk, Survival, VolatileSector};

const SALT: u64 = 0x5A17_5A17_5A17_5A17;
const IDENTITY: Identity = Identity { cluster_id: 0xC1, member_id: 0x3E };

fn small() -> Config {
    Config {
        segment_bytes_first: 32 << 10,
        segment_bytes: 24 << 10,
        batch_bytes_max: 6 << 10,
        canaries: Canaries::default(),
    }
}

fn entry(term: u64, index: u64, payload: &[u8]) -> Entry {
    Entry {
        term: Term(term),
        index: LogIndex(index),
        kind: EntryKind::Normal,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn file_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

fn file_number(name: &str) -> u64 {
    u64::from_str_radix(name.strip_suffix(".wal").expect("a segment's name"), 16).expect("a number")
}

/// Segments of a directory, by number.
type Images = Vec<(u64, Bytes)>;

fn images(disk: &SimDisk) -> Images {
    let read = |name| Bytes::copy_from_slice(disk.read(name).expect("it was listed"));
    disk.names().map(|name| (file_number(name), read(name))).collect()
}

/// Reads a directory the way the edge will.
fn recover(config: Config, images: &Images, drain: bool) -> Result<(Outcome, Vec<Entry>), Refused> {
    let block = |bytes: &Bytes| bytes[..bytes.len().min(SEGMENT_HEADER_BYTES)].to_vec();
    let blocks = images.iter().map(|(number, image)| SegmentBlock { number: *number, bytes: block(image) });
    let mut recovery = Recovery::new(config, RecoveryStart::WHOLE, blocks.collect())?;
    let mut committed = Vec::new();
    while let Some(number) = recovery.poll_segment() {
        let found = images.iter().find(|(n, _)| *n == number).expect("it was listed");
        recovery.handle_segment(number, found.1.clone())?;
        if drain {
            recovery.drain_committed(|entry| committed.push(entry));
        }
    }
    Ok((recovery.finish()?, committed))
}

/// All cuts of the power that are possible at one moment, made cheap: three images of each file.
struct Cuts {
    volatile: Vec<VolatileSector>,
    outcomes: [Images; 3],
}

const CHOICES: [Survival; 3] = [Survival::Old, Survival::New, Survival::Garbage];

impl Cuts {
    fn new(disk: &SimDisk, names_kept: usize) -> Cuts {
        let outcomes = CHOICES.map(|survival| {
            let mut cut = disk.clone();
            cut.power_cut(names_kept, |_| survival);
            images(&cut)
        });
        let mut volatile = disk.volatile_sectors();
        volatile.retain(|place| outcomes[0].iter().any(|(number, _)| file_name(*number) == place.name));
        Cuts { volatile, outcomes }
    }

    /// The directory after a cut with this choice for each volatile sector.
    fn mix(&self, choices: &[u8]) -> Images {
        let mut mixed = self.outcomes[0].clone();
        for (nth, (number, image)) in mixed.iter_mut().enumerate() {
            let name = file_name(*number);
            let here = self.volatile.iter().zip(choices).filter(|(v, c)| **c != 0 && v.name == name);
            let mut bytes = None;
            for (place, choice) in here {
                let range = place.sector * SECTOR_BYTES..(place.sector + 1) * SECTOR_BYTES;
                let source = &self.outcomes[*choice as usize][nth].1[range.clone()];
                bytes.get_or_insert_with(|| image.to_vec())[range].copy_from_slice(source);
            }
            if let Some(bytes) = bytes {
                *image = Bytes::from(bytes);
            }
        }
        mixed
    }
}

/// What a member may know after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Known {
    entries: Vec<Entry>,
    hard_state: HardState,
}

fn known(outcome: &Outcome, committed: Vec<Entry>) -> Option<Known> {
    match outcome {
        Outcome::NoLog(_) => None,
        Outcome::Log(log) => {
            let mut entries = committed;
            entries.extend(log.entries.iter().cloned());
            assert_eq!(log.identity, IDENTITY);
            assert_eq!(log.last, entries.last().map_or(Default::default(), |e| (e.term, e.index)));
            Some(Known { entries, hard_state: log.hard_state })
        }
    }
}

/// One member's log on a simulated disk, and what we know about it from outside.
struct World {
    config: Config,
    disk: SimDisk,
    prng: Prng,
    writer: Option<Writer>,
    buffer: Vec<u8>,
    /// On disk for sure; what the batch in flight would make of it.
    durable: Option<Known>,
    in_flight: Option<Known>,
    /// Appended, not yet in a batch.
    queue: VecDeque<Entry>,
    hard_state: HardState,
    ticket: u64,
    /// Whether cuts are tried at each step, and how many were.
    try_cuts: bool,
    /// Subsets that are tried of more than 12 sectors.
    samples: usize,
    cuts: u64,
}

type Check = Result<(), String>;

impl World {
    fn new(seed: u64, config: Config, try_cuts: bool) -> World {
        World {
            config,
            disk: SimDisk::default(),
            prng: Prng::new(seed),
            writer: None,
            buffer: Vec::new(),
            durable: None,
            in_flight: None,
            queue: VecDeque::new(),
            hard_state: HardState::default(),
            ticket: 0,
            try_cuts,
            samples: 4_096,
            cuts: 0,
        }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("the member runs")
    }

    /// The process starts: recovery, then the writes it asks for.
    fn start(&mut self) -> Check {
        let drain = self.prng.chance(1, 2);
        let (outcome, committed) =
            recover(self.config, &images(&self.disk), drain).map_err(|r| format!("start refused: {r:?}"))?;
        let found = self.judge(&known(&outcome, committed))?;
        let (fresh, resume, unused) = match outcome {
            Outcome::NoLog(none) => {
                let (fresh, resume) = none.create(&self.config, SALT, IDENTITY);
                (fresh, resume, none.unused)
            }
            Outcome::Log(log) => (log.fresh, log.resume, log.unused),
        };
        let mut disk = std::mem::take(&mut self.disk);
        // Until the header is durable a cut may still choose between what was there.
        let done = carry_out(&fresh, &mut disk, |disk| self.check_cuts(disk));
        self.disk = disk;
        done?;
        self.durable = Some(found.clone().unwrap_or_default());
        self.in_flight = None;
        let truth = found.unwrap_or_default();
        self.hard_state = truth.hard_state;
        self.queue.clear();
        self.ticket = 0;
        self.check_cuts(&self.disk.clone())?;
        for number in unused {
            self.disk.remove(&file_name(number)).expect("it is there");
        }
        self.check_cuts(&self.disk.clone())?;
        self.writer = Some(Writer::resume(self.config, resume));
        self.durable = Some(truth);
        Ok(())
    }

    /// Says which of the possible states was found.
    fn judge(&self, found: &Option<Known>) -> Result<Option<Known>, String> {
        let empty = found.as_ref().is_none_or(|known| *known == Known::default());
        let fits = *found == self.durable
            || (self.in_flight.is_some() && *found == self.in_flight)
            // The log is being created.
            || (empty && self.durable.is_none());
        if fits {
            return Ok(found.clone());
        }
        Err(format!("found {found:?}\nbut durable is {:?}\nand in flight {:?}", self.durable, self.in_flight))
    }

    /// Tries every cut of the power in this state of the disk.
    fn check_cuts(&mut self, disk: &SimDisk) -> Check {
        if !self.try_cuts {
            return Ok(());
        }
        for names_kept in 0..=disk.volatile_names() {
            let cuts = Cuts::new(disk, names_kept);
            let sectors = cuts.volatile.len();
            for choices in subsets(sectors, &mut self.prng, self.samples) {
                self.check_cut(disk, names_kept, &cuts, &choices)?;
            }
            for _ in 0..if sectors > 0 { 8 } else { 0 } {
                let choices: Vec<u8> = (0..sectors).map(|_| self.prng.below(3) as u8).collect();
                self.check_cut(disk, names_kept, &cuts, &choices)?;
            }
        }
        Ok(())
    }

    fn check_cut(&mut self, disk: &SimDisk, names_kept: usize, cuts: &Cuts, choices: &[u8]) -> Check {
        self.cuts += 1;
        let drain = self.cuts.is_multiple_of(2);
        let (outcome, committed) =
            recover(self.config, &cuts.mix(choices), drain).map_err(|r| format!("refused: {r:?}"))?;
        let found = self.judge(&known(&outcome, committed))?;
        if self.prng.chance(127, 128) {
            return Ok(());
        }
        // The power goes again in the middle of what recovery writes.
        let fresh = match outcome {
            Outcome::NoLog(none) => none.create(&self.config, SALT, IDENTITY).0,
            Outcome::Log(log) => log.fresh,
        };
        let mut cut = disk.clone();
        cut.power_cut(names_kept, |place| {
            CHOICES[choices[cuts.volatile.binary_search(place).expect("sorted")] as usize]
        });
        let (config, mut prng, mut tried) = (self.config, self.prng.clone(), 0);
        let mut check = |disk: &SimDisk| {
            for names_kept in 0..=disk.volatile_names() {
                let cuts = Cuts::new(disk, names_kept);
                for choices in subsets(cuts.volatile.len(), &mut prng, 16) {
                    tried += 1;
                    let (outcome, _) = recover(config, &cuts.mix(&choices), false)
                        .map_err(|r| format!("refused after two cuts: {r:?}"))?;
                    let second = known(&outcome, Vec::new());
                    if second.clone().unwrap_or_default() != found.clone().unwrap_or_default() {
                        return Err(format!("first {found:?}\nthen {second:?}"));
                    }
                }
            }
            Ok(())
        };
        carry_out(&fresh, &mut cut, &mut check)?;
        check(&cut)?;
        self.cuts += tried;
        Ok(())
    }

    /// Appends entries as Raft would; sometimes over the uncommitted end of the log.
    fn append(&mut self) {
        let committed = self.hard_state.commit.0;
        let mut last = self
            .queue
            .back()
            .or(self.in_flight.as_ref().or(self.durable.as_ref()).and_then(|k| k.entries.last()))
            .map_or(0, |entry| entry.index.0);
        let mut state = self.hard_state;
        if self.prng.chance(1, 6) {
            state.term.0 += 1;
            state.vote = MemberId(self.prng.below(3));
            if last > committed && self.prng.chance(1, 2) {
                last -= self.prng.below(last - committed + 1).min(3);
            }
        }
        state.term = state.term.max(Term(1));
        let mut entries = Vec::new();
        for _ in 0..self.prng.below(5) {
            last += 1;
            let bytes = match self.prng.below(20) {
                0 => 30 << 10,
                1 => 7 << 10,
                2..=5 => self.prng.below(4_000),
                _ => self.prng.below(60),
            };
            let payload: Vec<u8> = (0..bytes).map(|at| (at as u8) ^ (last as u8)).collect();
            entries.push(entry(state.term.0, last, &payload));
        }
        // May point behind what the next batch holds, which must not reach the disk.
        state.commit = LogIndex(committed.max(self.prng.below(last + 1)));
        self.hard_state = state;
        self.queue.extend(entries.iter().cloned());
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.writer().append(ticket, Some(state), entries);
    }

    /// Takes the next write to the disk, unsynced; what it would make true.
    fn begin_write(&mut self) -> Option<Result<WriteBatch, DiskError>> {
        while let Some(need) = self.writer().poll_segment() {
            let name = file_name(need.number);
            match self.disk.create(&name, need.bytes) {
                Ok(()) => {
                    self.disk.sync(&name).expect("no fault here");
                    self.disk.sync_directory().expect("no fault here");
                    self.writer().handle_segment_ready(need.number);
                }
                Err(_) => self.writer().handle_segment_failed(need.number),
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let write = self.writer().poll_write(&mut buffer);
        self.buffer = buffer;
        let write = write?;
        if write.offset > 0 {
            let mut next = self.durable.clone().expect("the member runs");
            let before = next.entries.last().map_or(Default::default(), |e| (e.term, e.index));
            while before != write.last {
                let entry = self.queue.pop_front().expect("the batch holds entries that were appended");
                next.entries.truncate(entry.index.0 as usize - 1);
                next.entries.push(entry);
                let last = next.entries.last().expect("just pushed");
                if (last.term, last.index) == write.last {
                    break;
                }
            }
            let to_come = self.queue.iter().map(|entry| entry.index.0 - 1).min().unwrap_or(u64::MAX);
            let commit = self.hard_state.commit.min(write.last.1).min(LogIndex(to_come));
            next.hard_state = HardState { commit, ..self.hard_state };
            self.in_flight = Some(next);
        }
        match self.disk.write(&file_name(write.segment), write.offset, &self.buffer) {
            Ok(written) if written == write.bytes => Some(Ok(write)),
            Ok(_) | Err(_) => Some(Err(DiskError::Io)),
        }
    }

    /// One write from begin to end.
    fn write(&mut self) -> Result<Option<Persisted>, String> {
        let Some(begun) = self.begin_write() else { return Ok(None) };
        self.check_cuts(&self.disk.clone())?;
        let synced = begun.and_then(|write| {
            if !write.skip_sync {
                self.disk.sync_range(&file_name(write.segment), write.offset, write.bytes as u64)?;
            }
            Ok(write)
        });
        let token = self.writer().write_token().expect("a write is in flight");
        let result = match synced {
            Ok(write) => self.writer().handle_written(token, write.bytes),
            Err(_) => self.writer().handle_write_failed(token),
        };
        let Ok(persisted) = result else { return Ok(None) };
        // From here on somebody may have seen it.
        if let Some(next) = self.in_flight.take() {
            let last = next.entries.last().map_or(Default::default(), |e| (e.term, e.index));
            assert_eq!((persisted.term, persisted.index), last);
            self.durable = Some(next);
        }
        self.check_cuts(&self.disk.clone())?;
        Ok(Some(persisted))
    }

    fn idle(&mut self) -> Check {
        while self.write()?.is_some() {}
        self.writer().idle_batch();
        self.write()?;
        Ok(())
    }

    fn crash(&mut self, power: bool) {
        self.writer = None;
        if power {
            let (kept, mut prng) = (self.prng.below(2) as usize, self.prng.clone());
            self.disk.power_cut(kept, |_| match prng.below(5) {
                0 | 1 => Survival::Old,
                2 | 3 => Survival::New,
                _ => Survival::Garbage,
            });
            self.prng.next_u64();
        }
    }

    fn run(&mut self, steps: u64) -> Check {
        self.start()?;
        for _ in 0..steps {
            match self.prng.below(20) {
                0..=7 => self.append(),
                8..=14 => {
                    self.write()?;
                }
                15 => {
                    self.idle()?;
                }
                16 | 17 => {
                    // The end comes between write and sync, if something is to be written.
                    self.begin_write();
                    let power = self.prng.chance(1, 2);
                    self.crash(power);
                    self.start()?;
                }
                18 => {
                    self.crash(true);
                    self.start()?;
                }
                _ => while self.write()?.is_some() {},
            }
        }
        self.idle()
    }
}

/// All subsets of up to 12 sectors; of more, `samples` random ones with all and none among them.
fn subsets(sectors: usize, prng: &mut Prng, samples: usize) -> Vec<Vec<u8>> {
    if sectors <= 12 && 1 << sectors <= samples {
        let bits = |mask: u32| (0..sectors).map(|nth| (mask >> nth & 1) as u8).collect();
        return (0..1 << sectors).map(bits).collect();
    }
    let mut all = vec![vec![0; sectors], vec![1; sectors]];
    all.resize_with(samples, || (0..sectors).map(|_| (prng.next_u64() >> 63) as u8).collect());
    all
}

/// The writes of a fresh segment; `cut` sees the disk wherever the power may go.
fn carry_out(fresh: &FreshSegment, disk: &mut SimDisk, mut cut: impl FnMut(&SimDisk) -> Check) -> Check {
    let name = file_name(fresh.number);
    disk.create(&name, fresh.segment_bytes).map_err(|e| format!("{e:?}"))?;
    cut(disk)?;
    disk.sync(&name).map_err(|e| format!("{e:?}"))?;
    disk.sync_directory().map_err(|e| format!("{e:?}"))?;
    disk.write(&name, SEGMENT_HEADER_BYTES as u64, &fresh.batches).map_err(|e| format!("{e:?}"))?;
    cut(disk)?;
    disk.sync(&name).map_err(|e| format!("{e:?}"))?;
    disk.write(&name, 0, &fresh.header).map_err(|e| format!("{e:?}"))?;
    cut(disk)?;
    disk.sync(&name).map_err(|e| format!("{e:?}"))
}

fn seeds(ordinary: u64) -> u64 {
    std::env::var("ETCHD_WAL_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ordinary)
}

#[test]
fn every_cut_keeps_what_was_acknowledged() {
    let mut cuts = 0;
    for seed in 0..seeds(6) {
        let mut world = World::new(seed, small(), true);
        world.run(60).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        cuts += world.cuts;
        println!("seed {seed}: {} cuts, {} files", world.cuts, world.disk.names().count());
    }
    assert!(cuts > 1_000, "cuts were tried: {cuts}");
}
