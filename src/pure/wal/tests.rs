//! Every cut of the power, every flipped bit: what was acknowledged is found or recovery refuses.
//!
//! `ETCHD_WAL_SEEDS=n` runs n seeds instead of the few of an ordinary run.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::*;
use super::*;
use crate::pure::raft::{
    self, ConfState, Effect, Entry, EntryKind, MemberId, Persist, Persisted, Raft, Start, Ticket,
};
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
    /// Bytes that the last write said it wrote.
    written: usize,
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
            written: 0,
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
                    let synced = self.disk.sync(&name).and_then(|()| self.disk.sync_directory());
                    assert!(synced.is_ok() || self.config.canaries.believe_failed_write, "no fault here");
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
            let mut last = before;
            while last != write.last {
                let entry = self.queue.pop_front().expect("the batch holds entries that were appended");
                next.entries.truncate(entry.index.0 as usize - 1);
                next.entries.push(entry);
                last = next.entries.last().map(|e| (e.term, e.index)).expect("just pushed");
            }
            let to_come = self.queue.iter().map(|entry| entry.index.0 - 1).min().unwrap_or(u64::MAX);
            let commit = self.hard_state.commit.min(write.last.1).min(LogIndex(to_come));
            next.hard_state = HardState { commit, ..self.hard_state };
            self.in_flight = Some(next);
        }
        match self.disk.write(&file_name(write.segment), write.offset, &self.buffer) {
            Ok(written) => {
                self.written = written;
                Some(Ok(write))
            }
            Err(error) => Some(Err(error)),
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
            Ok(_) => {
                let written = self.written;
                self.writer().handle_written(token, written)
            }
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

/// Ordinary runs try all subsets of up to 12 sectors in two seeds, and fewer in some more.
#[test]
fn every_cut_keeps_what_was_acknowledged() {
    let (mut cuts, thorough) = (0, seeds(1));
    for seed in 0..thorough + 6 {
        let mut world = World::new(seed * 2, small(), true);
        world.samples = if seed < thorough { 4_096 } else { 64 };
        world.run(50).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        cuts += world.cuts;
    }
    assert!(cuts > 10_000, "cuts were tried: {cuts}");
}

#[test]
fn a_planted_bug_is_found() {
    let found = |canaries: Canaries, faults: bool| {
        (0..20).any(|seed| {
            let mut world = World::new(seed, Config { canaries, ..small() }, true);
            world.samples = 16;
            if faults {
                world.disk.set_faults(Faults { fail_sync: Some(20 + seed), ..Faults::default() });
            }
            world.run(60).is_err()
        })
    };
    let none = Canaries::default();
    assert!(!found(none, false), "without a bug there is nothing to find");
    assert!(found(Canaries { skip_sync_every: 7, ..none }, false), "M1");
    assert!(found(Canaries { believe_failed_write: true, ..none }, true), "M17");
}

/// A batch on the disk: segment, offset, bytes, position in the log.
fn batches_of(images: &Images) -> Vec<(u64, usize, usize, Lsn)> {
    let mut all = Vec::new();
    let mut end = Lsn(u64::MAX);
    for (number, image) in images.iter().rev() {
        let SegmentHead::Header(header) = SegmentHeader::decode(image) else { continue };
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some(batch) = BatchHeader::decode(image.get(offset..).unwrap_or(&[]))
            && batch.segment == *number
            && batch.lsn < end
        {
            all.push((*number, offset, batch.bytes as usize, batch.lsn));
            offset += batch.bytes as usize;
        }
        end = end.min(header.first_lsn);
    }
    all
}

/// Flips one bit at a time in all that is below M: refused, and the place is named.
#[test]
fn every_flipped_bit_below_the_mark_is_found() {
    for seed in 0..2 {
        let mut world = World::new(100 + seed, small(), false);
        world.run(120).unwrap();
        let clean = images(&world.disk);
        let (outcome, _) = recover(world.config, &clean, false).unwrap();
        let Outcome::Log(log) = outcome else { panic!("there is a log") };
        let mut places: Vec<(u64, usize, usize)> = batches_of(&clean)
            .into_iter()
            .filter(|(_, _, _, lsn)| *lsn < log.durable_to)
            .map(|(segment, offset, bytes, _)| (segment, offset, bytes))
            .collect();
        let segments: Vec<u64> = places.iter().map(|place| place.0).collect();
        assert!(segments.iter().any(|segment| *segment != segments[0]), "more than one segment");
        places
            .extend(clean.iter().filter(|s| segments.contains(&s.0)).map(|s| (s.0, 0, SEGMENT_HEADER_BYTES)));
        let m16 =
            Config { canaries: Canaries { cut_at_damage: true, ..Canaries::default() }, ..world.config };
        let truth = known(&recover(world.config, &clean, false).unwrap().0, vec![]);
        let (mut cut_silently, mut healed, mut elsewhere) = (0, 0, 0);
        for _ in 0..1_500 {
            let (segment, offset, bytes) = places[world.prng.below(places.len() as u64) as usize];
            // Half of the flips go to the headers, where the damage is most varied.
            let within = if world.prng.chance(1, 2) { bytes.min(160) } else { bytes };
            let byte = offset + world.prng.below(within as u64) as usize;
            let mut flipped = clean.clone();
            let image = flipped.iter_mut().find(|(n, _)| *n == segment).unwrap();
            let mut content = image.1.to_vec();
            content[byte] ^= 1 << world.prng.below(8);
            image.1 = Bytes::from(content);
            match recover(world.config, &flipped, world.prng.chance(1, 2)) {
                // Without the header of a segment that recovery made, the walk may follow what it
                // overrode to its end in the segment before, and break off there.
                Err(Refused::Corrupt(c)) if offset == 0 && c.segment < segment => elsewhere += 1,
                Err(Refused::Corrupt(c)) => {
                    assert_eq!(c.segment, segment, "byte {byte}: {c:?}");
                    let at = c.offset as usize;
                    assert!(offset <= at && at < offset + bytes, "byte {byte} of batch at {offset}: {c:?}");
                }
                // A segment that recovery made and that got no batch since: the older segment still
                // holds what it was made from, so nothing is missing.
                Ok((outcome, committed)) if offset == 0 => {
                    assert_eq!(known(&outcome, committed), truth, "segment {segment}, byte {byte}");
                    healed += 1;
                }
                other => panic!("seed {seed}, segment {segment}, byte {byte}: {other:?}"),
            }
            cut_silently += u64::from(recover(m16, &flipped, false).is_ok());
        }
        assert!(cut_silently > 500, "canary M16 would be seen: {cut_silently}");
        assert!(healed + elsewhere < 150, "{healed} {elsewhere}");
    }
}

/// A failing or short write or sync is the last thing that a writer does.
#[test]
fn nothing_is_acknowledged_after_an_error() {
    for seed in 0..30 {
        let mut world = World::new(seed, Config { segment_bytes_first: 1 << 20, ..small() }, false);
        world.start().unwrap();
        let (writes, syncs) = world.disk.counts();
        let nth = 1 + seed / 3;
        world.disk.set_faults(match seed % 3 {
            0 => Faults { fail_write: Some(writes + nth), ..Faults::default() },
            1 => Faults { short_write: Some(writes + nth), ..Faults::default() },
            _ => Faults { fail_sync: Some(syncs + nth), ..Faults::default() },
        });
        let mut acknowledged = 0;
        while !world.writer().is_poisoned() {
            acknowledged += 1;
            assert!(acknowledged <= nth, "seed {seed}: the error was not noticed");
            world.ticket += 1;
            let next = world.durable.as_ref().map_or(0, |k| k.entries.len()) as u64 + 1;
            let (ticket, new) = (Ticket(world.ticket), entry(1, next, b"x"));
            world.queue.push_back(new.clone());
            world.writer().append(ticket, None, vec![new]);
            world.write().unwrap();
        }
        assert_eq!(acknowledged, nth, "seed {seed}: the one before the error was the last");
        assert_eq!(world.writer().handle_written(0, 4_096), Err(Poisoned));
        assert_eq!(world.writer().poll_write(&mut Vec::new()), None);
        // What was acknowledged is there after a crash, and after a power cut.
        world.crash(seed % 2 == 0);
        world.start().unwrap();
    }
}

/// The process dies when the header of a fresh segment is written and not yet synced, the next start finds it in the
/// cache, and then the power goes.
#[test]
fn a_fresh_header_that_was_never_synced_is_not_relied_on() {
    let config = small();
    let mut disk = SimDisk::default();
    let Outcome::NoLog(none) = recover(config, &images(&disk), false).unwrap().0 else { panic!("no files") };
    let (fresh, resume) = none.create(&config, SALT, IDENTITY);
    carry_out(&fresh, &mut disk, |_| Ok(())).unwrap();
    let mut writer = Writer::resume(config, resume);
    for index in 1..=2 {
        writer.append(Ticket(index), None, vec![entry(1, index, &[b'x'; 5_000])]);
        let mut buffer = Vec::new();
        let write = writer.poll_write(&mut buffer).expect("there is an entry");
        let name = file_name(write.segment);
        disk.write(&name, write.offset, &buffer).unwrap();
        if index == 1 {
            disk.sync(&name).unwrap();
            writer.handle_written(write.token, write.bytes).unwrap();
        }
    }
    let fresh_of = |disk: &SimDisk| match recover(config, &images(disk), false).unwrap().0 {
        Outcome::Log(recovered) => (recovered.fresh.clone(), recovered.entries.len()),
        Outcome::NoLog(_) => panic!("there is a log"),
    };
    let (fresh, entries) = fresh_of(&disk);
    assert_eq!(entries, 2, "the second one is in the cache");
    let name = file_name(fresh.number);
    disk.create(&name, fresh.segment_bytes).unwrap();
    disk.sync(&name).unwrap();
    disk.sync_directory().unwrap();
    disk.write(&name, SEGMENT_HEADER_BYTES as u64, &fresh.batches).unwrap();
    disk.sync(&name).unwrap();
    disk.write(&name, 0, &fresh.header).unwrap();
    // Here the process dies.
    let (fresh, _) = fresh_of(&disk);
    carry_out(&fresh, &mut disk, |_| Ok(())).unwrap();
    disk.power_cut(0, |_| Survival::Old);
    assert_eq!(fresh_of(&disk).1, 2, "the second start has taken both over");
}

fn new_writer(config: Config) -> Writer {
    let Outcome::NoLog(none) = recover(config, &Images::new(), false).unwrap().0 else { panic!("no files") };
    Writer::resume(config, none.create(&config, SALT, IDENTITY).1)
}

/// Writes all that waits, as if the disk took it; the indexes that each batch ended with.
fn drain(writer: &mut Writer) -> Vec<u64> {
    let mut buffer = Vec::new();
    let mut ends = Vec::new();
    while let Some(write) = writer.poll_write(&mut buffer) {
        let persisted = writer.handle_written(write.token, write.bytes).unwrap();
        if write.offset > 0 {
            ends.push(persisted.index.0);
        }
    }
    ends
}

#[test]
fn without_space_the_writer_says_what_it_can_take_and_goes_on_later() {
    let mut config = Config::standard();
    config.segment_bytes_first = 1 << 20;
    let mut writer = new_writer(config);
    assert_eq!(writer.room(), u64::MAX);
    let payload = [7; 100_000];
    for index in 1..=5 {
        writer.append(Ticket(index), None, vec![entry(1, index, &payload)]);
        assert_eq!(drain(&mut writer), [index]);
    }
    assert_eq!(writer.poll_segment(), None);
    writer.append(Ticket(6), None, vec![entry(1, 6, &payload)]);
    assert_eq!(drain(&mut writer), [6]);
    let need = writer.poll_segment().expect("asked for when half full");
    assert_eq!((need.number, need.bytes, writer.poll_segment()), (2, config.segment_bytes, None));
    writer.handle_segment_failed(2);
    let room = writer.room();
    assert!(0 < room && room < 500_000, "{room}");
    // All that the room allows finds its place.
    let mut index = 6;
    while Writer::cost_of(payload.len()) <= writer.room() {
        index += 1;
        writer.append(Ticket(index), None, vec![entry(1, index, &payload)]);
    }
    assert_eq!(drain(&mut writer), [index]);
    // What is taken beyond it waits, and nothing is lost.
    for _ in 0..5 {
        index += 1;
        writer.append(Ticket(index), None, vec![entry(1, index, &payload)]);
    }
    drain(&mut writer);
    assert!(writer.has_pending() && writer.room() == 0);
    writer.retry_segment();
    assert_eq!(writer.poll_segment(), Some(need));
    writer.handle_segment_ready(2);
    assert_eq!(drain(&mut writer), [index]);
    assert_eq!((writer.segment_number(), writer.room()), (2, u64::MAX));
    assert_eq!(writer.persisted().ticket, Ticket(index));
}

#[test]
fn batches_are_bounded_and_large_entries_go_alone() {
    let config =
        Config { segment_bytes_first: 1 << 20, segment_bytes: 1 << 20, batch_bytes_max: 10_000, ..small() };
    let mut writer = new_writer(config);
    let sizes = [4_000, 4_000, 4_000, 50_000, 10, 9_990, 1];
    for (nth, size) in sizes.into_iter().enumerate() {
        writer.append_entry(entry(1, nth as u64 + 1, &vec![1; size]));
    }
    writer.append(Ticket(1), None, vec![]);
    assert_eq!(drain(&mut writer), [2, 3, 4, 6, 7]);
    // One that no ordinary segment holds gets one of its own size.
    writer.append(Ticket(2), None, vec![entry(1, 8, &vec![1; 3 << 20])]);
    let need = writer.poll_segment().unwrap();
    assert!(need.bytes > 3 << 20);
    writer.handle_segment_ready(need.number);
    assert_eq!(drain(&mut writer), [8]);
}

#[test]
fn a_commit_index_alone_waits_for_company_and_an_idle_batch_takes_it_along() {
    let mut writer = new_writer(small());
    let state = |commit| HardState { term: Term(1), vote: MemberId(1), commit: LogIndex(commit) };
    writer.append(Ticket(1), Some(state(0)), vec![entry(1, 1, b"a")]);
    assert!(!writer.needs_idle_batch());
    assert_eq!(drain(&mut writer), [1]);
    writer.set_hard_state(state(1));
    assert!(!writer.has_pending() && writer.needs_idle_batch());
    assert_eq!(drain(&mut writer), [0; 0]);
    writer.idle_batch();
    assert_eq!(drain(&mut writer), [1]);
    assert!(!writer.needs_idle_batch(), "once is enough");
    writer.idle_batch();
    assert_eq!(drain(&mut writer), [0; 0]);
    // A vote is a promise and does not wait.
    writer.set_hard_state(HardState { term: Term(2), ..state(1) });
    assert!(writer.has_pending());
}

#[test]
fn strange_directories() {
    let mut world = World::new(5, small(), false);
    world.run(80).unwrap();
    let clean = images(&world.disk);
    let truth = known(&recover(small(), &clean, false).unwrap().0, vec![]);
    let next = clean.last().unwrap().0 + 1;
    let batches = batches_of(&clean);
    let recovered =
        |images: &Images| recover(small(), images, false).map(|(outcome, _)| known(&outcome, vec![]));

    // Left-overs: a prepared segment, a short file, an old segment under a new number.
    let mut more = clean.clone();
    let old = clean.iter().find(|s| s.0 == batches[0].0).unwrap().1.clone();
    more.extend([(next, Bytes::from(vec![0; 24 << 10])), (next + 1, Bytes::new()), (next + 2, old.clone())]);
    assert_eq!(recovered(&more), Ok(truth.clone()));
    let Ok((Outcome::Log(log), _)) = recover(small(), &more, false) else { panic!("there is a log") };
    assert_eq!(log.fresh.number, next + 3);
    assert!([next, next + 1, next + 2].iter().all(|number| log.unused.contains(number)));

    // A missing segment in the middle, or at the start.
    let used: Vec<u64> = {
        let mut numbers: Vec<u64> = batches.iter().map(|b| b.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let mut refused = 0;
    for gone in &used[..used.len() - 1] {
        let rest: Images = clean.iter().filter(|s| s.0 != *gone).cloned().collect();
        match recovered(&rest) {
            Err(Refused::Corrupt(c)) => {
                assert!(matches!(c.damage, Damage::MissingSegment | Damage::BatchHeader), "{c:?}");
                refused += 1;
            }
            // What it was made from by recovery is still there.
            other => assert_eq!(other, Ok(truth.clone()), "without {gone}"),
        }
    }

    assert!(refused > 1);

    // Another version, another directory.
    let with_header = |change: &dyn Fn(&mut [u8])| {
        let mut other = clean.clone();
        let image = other.iter_mut().find(|s| s.0 == used[0]).unwrap();
        let mut bytes = image.1.to_vec();
        change(&mut bytes[..SEGMENT_HEADER_BYTES]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..SEGMENT_HEADER_BYTES]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        image.1 = Bytes::from(bytes);
        other
    };
    let newer = with_header(&|header| header[8] = 9);
    assert_eq!(recovered(&newer), Err(Refused::OtherVersion { segment: used[0], found: 9, known: 1 }));
    let Err(Refused::Corrupt(c)) = recovered(&with_header(&|header| header[24] ^= 1)) else {
        panic!("foreign")
    };
    assert_eq!(c.damage, Damage::ForeignSegment);
}

#[test]
fn frames_and_headers_come_back_as_they_were() {
    let mut prng = Prng::new(3);
    let kinds = [
        FrameKind::Entry,
        FrameKind::HardState,
        FrameKind::SnapshotMarker,
        FrameKind::ConfState,
        FrameKind::Identity,
    ];
    for _ in 0..200 {
        let payloads: Vec<Vec<u8>> = (0..prng.below(6))
            .map(|_| (0..prng.below(300)).map(|_| prng.next_u64() as u8).collect())
            .collect();
        let frames: Vec<Frame<'_>> = payloads
            .iter()
            .map(|payload| Frame {
                kind: kinds[prng.below(5) as usize],
                entry_kind: EntryKind::from_u64(prng.below(3)).unwrap(),
                term: Term(prng.next_u64()),
                index: LogIndex(prng.next_u64()),
                payload,
            })
            .collect();
        let used: usize = frames.iter().map(|f| frame_bytes(f.payload.len())).sum();
        let mut batch = vec![0xEE; block_aligned(BATCH_HEADER_BYTES + used)];
        let header = BatchHeader {
            bytes: 0,
            used_bytes: 0,
            segment: prng.next_u64(),
            salt: prng.next_u64(),
            lsn: Lsn(prng.below(1 << 50)),
            batch_number: prng.next_u64(),
            durable_to: Lsn(prng.below(1 << 50)),
            frames: 0,
            flags: prng.below(2) as u32,
        };
        let mut encoder = BatchEncoder::new(&mut batch, header);
        frames.iter().for_each(|frame| encoder.push(frame));
        let written = encoder.finish();
        assert_eq!(BatchHeader::decode(&batch), Some(written));
        let mut read = Vec::new();
        decode_frames(&written, &batch, |frame, at| {
            assert_eq!(&batch[at..at + frame.payload.len()], frame.payload);
            read.push(frame);
        })
        .unwrap();
        assert_eq!(read, frames);

        // Any other bit, or any other place, is noticed.
        let bit = prng.below(batch.len() as u64 * 8) as usize;
        let mut flipped = batch.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let good = BatchHeader::decode(&flipped)
            .is_some_and(|header| decode_frames(&header, &flipped, |_, _| ()).is_ok());
        assert!(!good, "bit {bit}");
        let moved = BatchHeader { lsn: written.lsn.plus(4_096), ..written };
        assert!(frames.is_empty() || decode_frames(&moved, &batch, |_, _| ()).is_err());
        // Bytes that are no batch never panic.
        let noise: Vec<u8> = (0..4_096).map(|_| prng.next_u64() as u8).collect();
        assert_eq!(BatchHeader::decode(&noise), None);
        let wild = BatchHeader { bytes: 4_096, used_bytes: 4_096, frames: u32::MAX, ..written };
        assert!(decode_frames(&wild, &noise, |_, _| ()).is_err());
    }
}

/// Raft and log driven as the node drives them, on a disk that loses power.
struct Member {
    disk: SimDisk,
    raft: Raft,
    writer: Writer,
    /// Payloads in the order of application, since the log's first entry.
    applied: Vec<Bytes>,
}

impl Member {
    fn start(mut disk: SimDisk) -> Member {
        let config = raft::Config {
            id: MemberId(IDENTITY.member_id),
            election_ticks: 10,
            pre_vote: true,
            uncommitted_bytes_max: usize::MAX,
            seed: 1,
        };
        let mut applied = Vec::new();
        let (outcome, committed) = recover(small(), &images(&disk), true).unwrap();
        let (raft, fresh, resume) = match outcome {
            Outcome::NoLog(none) => {
                let (fresh, resume) = none.create(&small(), SALT, IDENTITY);
                (Raft::bootstrap(config, Bytes::from_static(b"{}")), fresh, resume)
            }
            // Created, but entry 1 never got there.
            Outcome::Log(log) if log.last.1 == LogIndex(0) => {
                (Raft::bootstrap(config, Bytes::from_static(b"{}")), log.fresh, log.resume)
            }
            Outcome::Log(log) => {
                let before = committed.last().map_or(Default::default(), |e| (e.term, e.index));
                applied.extend(committed.into_iter().map(|entry| entry.payload));
                let start = Start {
                    conf_state: ConfState::sole(config.id),
                    hard_state: log.hard_state,
                    before,
                    entries: log.entries,
                    applied: before.1,
                };
                (Raft::restart(config, start).unwrap(), log.fresh, log.resume)
            }
        };
        carry_out(&fresh, &mut disk, |_| Ok(())).unwrap();
        Member { disk, raft, writer: Writer::resume(small(), resume), applied }
    }

    /// One turn. The disk's write ends in the next one, unless the power does.
    fn turn(&mut self, buffer: &mut Vec<u8>, flight: &mut Option<WriteBatch>) {
        if let Some(write) = flight.take() {
            self.disk.sync_range(&file_name(write.segment), write.offset, write.bytes as u64).unwrap();
            let persisted = self.writer.handle_written(write.token, write.bytes).unwrap();
            self.raft.handle_persisted(persisted).unwrap();
        }
        while let Some(effect) = self.raft.poll_effect() {
            match effect {
                Effect::Persist(Persist { ticket, hard_state, entries }) => {
                    self.writer.append(ticket, hard_state, entries);
                }
                Effect::Apply { entries } => {
                    let last = entries.last().expect("never empty").index;
                    self.applied.extend(entries.into_iter().map(|entry| entry.payload));
                    self.raft.handle_applied(last);
                }
                Effect::LeaderChanged { .. } => {}
                Effect::Send { .. } | Effect::ReadReady { .. } | Effect::Dropped(_) => panic!("{effect:?}"),
            }
        }
        while let Some(need) = self.writer.poll_segment() {
            let name = file_name(need.number);
            self.disk.create(&name, need.bytes).unwrap();
            self.disk.sync(&name).unwrap();
            self.disk.sync_directory().unwrap();
            self.writer.handle_segment_ready(need.number);
        }
        *flight = self.writer.poll_write(buffer);
        if let Some(write) = *flight {
            self.disk.write(&file_name(write.segment), write.offset, buffer).unwrap();
        }
    }
}

#[test]
fn what_raft_applied_is_there_after_every_power_cut() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut member = Member::start(SimDisk::default());
        let (mut buffer, mut proposed) = (Vec::new(), 0u64);
        for life in 0..8 {
            let mut flight = None;
            for _ in 0..prng.below(30) {
                if prng.chance(1, 2) {
                    let next = |n| Bytes::from(format!("{n:0200}"));
                    let some = 1 + prng.below(8);
                    if member.raft.propose((proposed..proposed + some).map(next)).is_ok() {
                        proposed += some;
                    }
                }
                member.turn(&mut buffer, &mut flight);
            }
            let (applied, mut disk) = (member.applied, member.disk);
            disk.power_cut(0, |_| CHOICES[prng.below(3) as usize]);
            member = Member::start(disk);
            let mut flight = None;
            for _ in 0..8 {
                member.turn(&mut buffer, &mut flight);
            }
            assert!(member.raft.reads_locally(), "seed {seed}, life {life}: it leads within a few turns");
            assert_eq!(member.applied[..applied.len()], applied[..], "seed {seed}, life {life}");
        }
    }
}
