//! A slab whose handles carry a generation, so that a late handle of a freed slot finds nothing.

/// Handle into a [`Slab`]: slot and generation. Also usable as a 64-bit token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// The handle as one number, for tokens that pass through the kernel.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of [`Key::to_u64`].
    pub fn from_u64(token: u64) -> Key {
        Key { slot: token as u32, generation: (token >> 32) as u32 }
    }

    /// The slot's index: dense, reused after removal.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// Slots of `T`, reused in last-freed-first order. Generations wrap after 2^31 reuses of one slot.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    /// Of slots that are new: above those of all slots that were given back.
    generation_first: u32,
}

/// Slots that an empty slab may keep.
pub const SLOTS_KEPT: usize = 64;

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new(), generation_first: 0 }
    }
}

impl<T> Slab<T> {
    /// Stores `value` and returns its handle.
    pub fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.1 = Some(value);
            return Key { slot, generation: entry.0 };
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 slots");
        self.slots.push((self.generation_first, Some(value)));
        Key { slot, generation: self.generation_first }
    }

    /// The value of a live handle.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(key.slot()).filter(|s| s.0 == key.generation).and_then(|s| s.1.as_ref())
    }

    /// The value of a live handle, to change.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots.get_mut(key.slot()).filter(|s| s.0 == key.generation).and_then(|s| s.1.as_mut())
    }

    /// Takes the value out; the handle and its copies are dead from here on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.slots.get_mut(key.slot()).filter(|s| s.0 == key.generation)?;
        let value = entry.1.take()?;
        entry.0 = (entry.0 + 1) & 0x7fff_ffff;
        self.free.push(key.slot);
        Some(value)
    }

    /// Gives the memory of an empty slab back, if it is worth it. Late handles still find nothing.
    pub fn trim(&mut self) {
        if !self.is_empty() || self.slots.len() <= SLOTS_KEPT {
            return;
        }
        self.generation_first = self.slots.iter().map(|slot| slot.0).max().expect("there are slots");
        (self.slots, self.free) = (Vec::new(), Vec::new());
    }

    /// Number of live values.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True when nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Live handles and values in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, (generation, value))| {
            value.as_ref().map(|v| (Key { slot: slot as u32, generation: *generation }, v))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_handle_finds_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(first.slot(), second.slot());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(Key::from_u64(second.to_u64())), Some(&"b"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_trimmed_slab_knows_no_old_handle() {
        let mut slab = Slab::default();
        let old: Vec<Key> = (0..1_000).map(|number| slab.insert(number)).collect();
        let first = old[0];
        slab.remove(first);
        let reused = slab.insert(1_000);
        for key in old[1..].iter().chain([&reused]) {
            assert!(slab.remove(*key).is_some());
        }
        slab.trim();
        assert_eq!(slab.slots.capacity(), 0);
        let new = slab.insert(7);
        assert!(old.iter().chain([&reused]).all(|key| slab.get(*key).is_none()));
        assert_eq!(slab.get(new), Some(&7));
    }
}
