//! A list that grows without moving: by pages.
//!
//! Owns: values by number, never removed. Takes and gives: values.
//! Always true: growing costs one page, whatever the length (a vector would copy everything, for
//! milliseconds, and leave its former memory behind).
//! Not here: which slots are free.

use std::ops::{Index, IndexMut};

/// Values by number.
pub(super) struct Pages<T> {
    pages: Vec<Vec<T>>,
}

const PAGE_BITS: u32 = 12;
const PAGE_SLOTS: usize = 1 << PAGE_BITS;

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// Appends a value and returns its number.
    pub fn push(&mut self, value: T) -> u32 {
        let number = self.len();
        assert!(number < u32::MAX - PAGE_SLOTS as u32, "fewer than 2^32 values");
        if self.pages.last().is_none_or(|page| page.len() == PAGE_SLOTS) {
            self.pages.push(Vec::with_capacity(PAGE_SLOTS));
        }
        self.pages.last_mut().expect("there is room").push(value);
        number
    }

    /// Number of values.
    pub fn len(&self) -> u32 {
        let last = self.pages.last().map_or(PAGE_SLOTS, Vec::len);
        (self.pages.len() * PAGE_SLOTS + last - PAGE_SLOTS) as u32
    }

    /// The value of a number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.pages.get((number >> PAGE_BITS) as usize)?.get(number as usize % PAGE_SLOTS)
    }
}

impl<T> Index<u32> for Pages<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.pages[(number >> PAGE_BITS) as usize][number as usize % PAGE_SLOTS]
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.pages[(number >> PAGE_BITS) as usize][number as usize % PAGE_SLOTS]
    }
}
