//! A simulated disk: files made of sectors that are durable only after a sync.
//!
//! Owns: one directory of files, in two versions: what programs see, and what the medium holds.
//! Takes: creates, writes, syncs, renames, removals; faults to come; a power cut with a choice for
//! every sector. Gives: contents, errors, a trace.
//! Always true: a synced sector changes only by a write to it; a power cut decides each unsynced
//! sector on its own (new, old, garbage) and keeps a prefix of the unsynced changes of names; a
//! sync that failed is never made good by a later one.
//! Not here: what the files mean.

use std::collections::{BTreeMap, BTreeSet};

/// Grain of durability.
pub const SECTOR_BYTES: usize = 512;

/// A directory of simulated files. Cloning it forks the world.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    names_durable: BTreeMap<String, u64>,
    /// Changes of names since the directory was synced, in order.
    names_volatile: Vec<NameChange>,
    next_file: u64,
    writes: u64,
    syncs: u64,
    faults: Faults,
    trace: Vec<Op>,
}

/// What is to go wrong. Counts begin at 1, over all files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// This write fails with half of it done.
    pub fail_write: Option<u64>,
    /// This write is short by one sector and reports so.
    pub short_write: Option<u64>,
    /// This sync (a synced write counts) fails; its sectors are forgotten by the cache, as file
    /// systems do.
    pub fail_sync: Option<u64>,
    /// Sum of the files' sizes. Beyond: [`DiskError::NoSpace`].
    pub capacity_bytes: Option<u64>,
}

/// Errors as a file system gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// EIO.
    Io,
    /// ENOSPC.
    NoSpace,
    /// ENOENT.
    NotFound,
    /// EEXIST.
    Exists,
}

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A file of zeros was made.
    Create {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Bytes were written.
    Write {
        /// The file.
        name: String,
        /// From its start.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Part of a file was synced (all of it: to `u64::MAX`).
    Sync {
        /// The file.
        name: String,
        /// First byte.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The directory was synced.
    SyncDirectory,
    /// A file got another name.
    Rename {
        /// The old one.
        source: String,
        /// The new one, which may have belonged to another file.
        target: String,
    },
    /// A file was removed.
    Remove {
        /// Its name.
        name: String,
    },
    /// The power was cut.
    PowerCut,
}

/// What becomes of an unsynced sector when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// The medium has what it had at the last sync.
    Old,
    /// The medium has what was written.
    New,
    /// The medium has something else.
    Garbage,
}

/// An unsynced sector whose content differs from what the medium holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolatileSector {
    /// The file.
    pub name: String,
    /// Sector number in the file.
    pub sector: usize,
}

#[derive(Clone, Debug, Default)]
struct File {
    current: Vec<u8>,
    /// As long as `current`; what was never synced is zero here.
    durable: Vec<u8>,
    /// Sectors that the next sync writes.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            NameChange::Unlink(name) => {
                names.remove(name);
            }
            NameChange::Rename(source, target) => {
                if let Some(file) = names.remove(source) {
                    names.insert(target.clone(), file);
                }
            }
        }
    }
}

impl SimDisk {
    /// Replaces the faults to come.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Writes and syncs so far: the numbers that [`Faults`] counts in.
    pub fn counts(&self) -> (u64, u64) {
        (self.writes, self.syncs)
    }

    /// What was done, in order.
    pub fn trace(&self) -> &[Op] {
        &self.trace
    }

    /// Makes a file of zeros; neither it nor its name is durable yet.
    pub fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        if self.names.contains_key(name) {
            return Err(DiskError::Exists);
        }
        let used: u64 = self.names.values().map(|file| self.files[file].current.len() as u64).sum();
        if self.faults.capacity_bytes.is_some_and(|capacity| used + bytes > capacity) {
            return Err(DiskError::NoSpace);
        }
        let size = usize::try_from(bytes).expect("simulated files are small");
        let file = File {
            current: vec![0; size],
            durable: vec![0; size],
            dirty: (0..size.div_ceil(SECTOR_BYTES)).collect(),
        };
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, file);
        self.change_names(NameChange::Link(name.to_owned(), id));
        self.trace.push(Op::Create { name: name.to_owned(), bytes });
        Ok(())
    }

    /// Writes without sync and says how many bytes were written. The file grows if need be.
    pub fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<usize, DiskError> {
        let id = *self.names.get(name).ok_or(DiskError::NotFound)?;
        self.writes += 1;
        let (fails, short) =
            (self.faults.fail_write == Some(self.writes), self.faults.short_write == Some(self.writes));
        let done = match (fails, short) {
            (true, _) => bytes.len() / 2,
            (false, true) => bytes.len().saturating_sub(SECTOR_BYTES),
            (false, false) => bytes.len(),
        };
        let start = usize::try_from(offset).expect("simulated files are small");
        let file = self.files.get_mut(&id).expect("names lead to files");
        let end = start + done;
        if file.current.len() < end {
            file.current.resize(end, 0);
            file.durable.resize(end, 0);
        }
        file.current[start..end].copy_from_slice(&bytes[..done]);
        if done > 0 {
            file.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        }
        self.trace.push(Op::Write { name: name.to_owned(), offset, bytes: done as u64 });
        if fails { Err(DiskError::Io) } else { Ok(done) }
    }

    /// Makes the content of a file durable.
    pub fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.sync_range(name, 0, u64::MAX)
    }

    /// Makes part of a file durable: the second half of a write with `RWF_DSYNC`.
    pub fn sync_range(&mut self, name: &str, offset: u64, bytes: u64) -> Result<(), DiskError> {
        let id = *self.names.get(name).ok_or(DiskError::NotFound)?;
        self.syncs += 1;
        let fails = self.faults.fail_sync == Some(self.syncs);
        let file = self.files.get_mut(&id).expect("names lead to files");
        let grain = SECTOR_BYTES as u64;
        let (first, end) = (offset / grain, offset.saturating_add(bytes).div_ceil(grain));
        let sectors: Vec<usize> =
            file.dirty.iter().copied().filter(|s| (first..end).contains(&(*s as u64))).collect();
        for sector in sectors {
            file.dirty.remove(&sector);
            if !fails {
                let range = sector_range(sector, file.current.len());
                file.durable[range.clone()].copy_from_slice(&file.current[range]);
            }
        }
        self.trace.push(Op::Sync { name: name.to_owned(), offset, bytes });
        if fails { Err(DiskError::Io) } else { Ok(()) }
    }

    /// Makes the names durable.
    pub fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.syncs += 1;
        self.trace.push(Op::SyncDirectory);
        if self.faults.fail_sync == Some(self.syncs) {
            return Err(DiskError::Io);
        }
        self.names_durable = self.names.clone();
        self.names_volatile.clear();
        Ok(())
    }

    /// Gives a file another name; one that bore it is gone.
    pub fn rename(&mut self, source: &str, target: &str) -> Result<(), DiskError> {
        if !self.names.contains_key(source) {
            return Err(DiskError::NotFound);
        }
        self.change_names(NameChange::Rename(source.to_owned(), target.to_owned()));
        self.trace.push(Op::Rename { source: source.to_owned(), target: target.to_owned() });
        Ok(())
    }

    /// Removes a file.
    pub fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        if !self.names.contains_key(name) {
            return Err(DiskError::NotFound);
        }
        self.change_names(NameChange::Unlink(name.to_owned()));
        self.trace.push(Op::Remove { name: name.to_owned() });
        Ok(())
    }

    /// Names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The content that a program reads.
    pub fn read(&self, name: &str) -> Result<&[u8], DiskError> {
        let id = self.names.get(name).ok_or(DiskError::NotFound)?;
        Ok(&self.files[id].current)
    }

    /// Sectors that a power cut has a choice about, in order.
    pub fn volatile_sectors(&self) -> Vec<VolatileSector> {
        let mut all = Vec::new();
        for (name, id) in &self.names {
            let file = &self.files[id];
            // A sector that a failed sync forgot differs too, but nothing will ever write it.
            let differs = file.dirty.iter().copied().filter(|sector| {
                let range = sector_range(*sector, file.current.len());
                file.current[range.clone()] != file.durable[range]
            });
            all.extend(differs.map(|sector| VolatileSector { name: name.clone(), sector }));
        }
        all
    }

    /// How many changes of names are not durable.
    pub fn volatile_names(&self) -> usize {
        self.names_volatile.len()
    }

    /// Cuts the power: the first `names_kept` unsynced changes of names survive, and of each volatile
    /// sector what `choose` says. What programs see afterwards is what the medium holds.
    pub fn power_cut(&mut self, names_kept: usize, mut choose: impl FnMut(&VolatileSector) -> Survival) {
        for place in self.volatile_sectors() {
            let file = self.files.get_mut(&self.names[&place.name]).expect("names lead to files");
            let range = sector_range(place.sector, file.current.len());
            match choose(&place) {
                Survival::Old => {}
                Survival::New => file.durable[range.clone()].copy_from_slice(&file.current[range]),
                Survival::Garbage => {
                    for (at, byte) in file.durable[range].iter_mut().enumerate() {
                        *byte = (at as u8).wrapping_mul(37) ^ 0xA5;
                    }
                }
            }
        }
        let kept = names_kept.min(self.names_volatile.len());
        for change in &self.names_volatile[..kept] {
            change.apply(&mut self.names_durable);
        }
        self.names_volatile.clear();
        self.names = self.names_durable.clone();
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| linked.contains(id));
        for file in self.files.values_mut() {
            file.current = file.durable.clone();
            file.dirty.clear();
        }
        self.trace.push(Op::PowerCut);
    }

    /// Flips one bit on the medium, behind everybody's back.
    pub fn flip_bit(&mut self, name: &str, byte: usize, bit: u8) -> Result<(), DiskError> {
        let id = self.names.get(name).ok_or(DiskError::NotFound)?;
        let file = self.files.get_mut(id).expect("names lead to files");
        file.current[byte] ^= 1 << bit;
        file.durable[byte] ^= 1 << bit;
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.names_volatile.push(change);
    }
}

fn sector_range(sector: usize, file_bytes: usize) -> std::ops::Range<usize> {
    let start = sector * SECTOR_BYTES;
    start..(start + SECTOR_BYTES).min(file_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_file() -> SimDisk {
        let mut disk = SimDisk::default();
        disk.create("a", 2_048).unwrap();
        disk.sync("a").unwrap();
        disk.sync_directory().unwrap();
        disk
    }

    #[test]
    fn a_power_cut_decides_each_unsynced_sector_alone() {
        let mut disk = disk_with_file();
        assert_eq!(disk.write("a", 0, &[1; 512]), Ok(512));
        disk.sync_range("a", 0, 512).unwrap();
        assert_eq!(disk.write("a", 512, &[2; 1_536]), Ok(1_536));
        assert_eq!(disk.volatile_sectors().len(), 3);
        disk.power_cut(0, |place| match place.sector {
            1 => Survival::New,
            2 => Survival::Old,
            _ => Survival::Garbage,
        });
        let content = disk.read("a").unwrap();
        assert_eq!((content[0], content[512], content[1_024]), (1, 2, 0));
        assert!(content[1_536] != 2 && content[1_536] != 0);
        assert_eq!(disk.volatile_sectors(), []);
    }

    #[test]
    fn unsynced_names_survive_as_a_prefix() {
        for kept in 0..=2 {
            let mut disk = disk_with_file();
            disk.create("b", 512).unwrap();
            disk.rename("b", "c").unwrap();
            assert_eq!(disk.volatile_names(), 2);
            disk.power_cut(kept, |_| Survival::New);
            let names: Vec<&str> = disk.names().collect();
            assert_eq!(names, [&["a"][..], &["a", "b"], &["a", "c"]][kept]);
        }
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let mut disk = disk_with_file();
        let (_, syncs) = disk.counts();
        disk.set_faults(Faults { fail_sync: Some(syncs + 1), ..Faults::default() });
        assert_eq!(disk.write("a", 0, &[7; 512]), Ok(512));
        assert_eq!(disk.sync("a"), Err(DiskError::Io));
        assert_eq!(disk.sync("a"), Ok(()));
        assert_eq!(disk.read("a").unwrap()[0], 7, "the cache shows it all the same");
        disk.power_cut(0, |_| Survival::New);
        assert_eq!(disk.read("a").unwrap()[0], 0);
    }

    #[test]
    fn failing_and_short_writes_and_a_full_disk() {
        let mut disk = disk_with_file();
        disk.set_faults(Faults {
            fail_write: Some(1),
            short_write: Some(2),
            capacity_bytes: Some(4_096),
            ..Faults::default()
        });
        assert_eq!(disk.write("a", 0, &[1; 1_024]), Err(DiskError::Io));
        assert_eq!(disk.write("a", 0, &[1; 1_024]), Ok(512));
        assert_eq!(disk.write("a", 0, &[1; 1_024]), Ok(1_024));
        assert_eq!(disk.create("a", 1), Err(DiskError::Exists));
        assert_eq!(disk.create("b", 4_096), Err(DiskError::NoSpace));
        assert_eq!(disk.create("b", 2_048), Ok(()));
        assert_eq!(disk.remove("c"), Err(DiskError::NotFound));
        assert_eq!(disk.trace().len(), 7);
    }
}
