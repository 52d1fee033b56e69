//! What threads share: atomics and cells, of `std` or, under the model checker, of `loom`.
//!
//! Files whose orderings are checked take them from here. The checker's builds (`--cfg etchd_loom`) run nothing
//! but the tests named `loom`: its atomics work inside of its models only.

#[cfg(etchd_loom)]
pub use loom::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(etchd_loom))]
pub use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering, fence,
};

/// The pointer in an atomic that nobody else can reach.
pub fn owned<T>(pointer: &mut AtomicPtr<T>) -> *mut T {
    #[cfg(not(etchd_loom))]
    return *pointer.get_mut();
    #[cfg(etchd_loom)]
    return pointer.with_mut(|pointer| *pointer);
}

/// The number in an atomic that nobody else can reach.
pub fn owned_number(number: &mut AtomicUsize) -> usize {
    #[cfg(not(etchd_loom))]
    return *number.get_mut();
    #[cfg(etchd_loom)]
    return number.with_mut(|number| *number);
}

/// Memory that its users share by a protocol of their own.
#[derive(Debug)]
pub struct Cell<T>(
    #[cfg(not(etchd_loom))] std::cell::UnsafeCell<T>,
    #[cfg(etchd_loom)] loom::cell::UnsafeCell<T>,
);

impl<T> Cell<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> Cell<T> {
        #[cfg(not(etchd_loom))]
        return Cell(std::cell::UnsafeCell::new(value));
        #[cfg(etchd_loom)]
        return Cell(loom::cell::UnsafeCell::new(value));
    }

    /// Access that the caller's protocol makes the only one of its time; the checker sees if it is not.
    pub fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(not(etchd_loom))]
        return change(self.0.get());
        #[cfg(etchd_loom)]
        return self.0.with_mut(change);
    }
}

/// The life of a piece of shared memory, for the checker: it is looked at, at last it is freed. Nothing otherwise.
///
/// Always true, or the checked run fails: every look happens before the end, and the end comes once.
#[derive(Debug)]
pub struct Life {
    #[cfg(etchd_loom)]
    looks: loom::cell::UnsafeCell<()>,
    /// Not the checker's: true from the very moment in which this run ended it.
    #[cfg(etchd_loom)]
    is_over: std::sync::atomic::AtomicBool,
}

// SAFETY: there is nothing in the cell; the checker wants to be told of each touch from whatever thread.
#[cfg(etchd_loom)]
unsafe impl Sync for Life {}

impl Life {
    /// Begins.
    #[expect(clippy::new_without_default, reason = "a life begins in one place")]
    pub fn new() -> Life {
        Life {
            #[cfg(etchd_loom)]
            looks: loom::cell::UnsafeCell::new(()),
            #[cfg(etchd_loom)]
            is_over: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// The memory is read.
    #[inline]
    pub fn look(&self) {
        #[cfg(etchd_loom)]
        {
            self.looks.with(|_| ());
            assert!(!self.is_over.load(std::sync::atomic::Ordering::SeqCst), "looked at after its end");
        }
    }

    /// The memory is written by the only one who may touch it now.
    #[inline]
    pub fn change(&self) {
        #[cfg(etchd_loom)]
        {
            self.looks.with_mut(|_| ());
            assert!(!self.is_over.load(std::sync::atomic::Ordering::SeqCst), "changed after its end");
        }
    }

    /// The memory is freed. True if that is only noted: the checker keeps it, so that a late look is found.
    #[inline]
    pub fn end(&self) -> bool {
        #[cfg(etchd_loom)]
        {
            self.looks.with_mut(|_| ());
            let before = self.is_over.swap(true, std::sync::atomic::Ordering::SeqCst);
            assert!(!before, "ended twice");
        }
        cfg!(etchd_loom)
    }
}

/// The [`Life`] of each byte of a buffer.
#[derive(Debug)]
pub struct Lives {
    #[cfg(etchd_loom)]
    of: Box<[Life]>,
}

impl Lives {
    /// Of so many bytes.
    #[cfg_attr(not(etchd_loom), expect(unused_variables, reason = "nothing to keep"))]
    pub fn new(bytes: usize) -> Lives {
        Lives {
            #[cfg(etchd_loom)]
            of: (0..bytes).map(|_| Life::new()).collect(),
        }
    }

    /// The bytes before `end` are read.
    #[inline]
    #[cfg_attr(not(etchd_loom), expect(unused_variables, reason = "nothing to do"))]
    pub fn look(&self, end: usize) {
        #[cfg(etchd_loom)]
        self.of.iter().take(end).for_each(Life::look);
    }

    /// So many bytes from `start` on are written.
    #[inline]
    #[cfg_attr(not(etchd_loom), expect(unused_variables, reason = "nothing to do"))]
    pub fn change(&self, start: usize, count: usize) {
        #[cfg(etchd_loom)]
        self.of.iter().skip(start).take(count).for_each(Life::change);
    }
}

/// Runs a model in all the ways in which its threads can take turns, with at most `preemptions` forced ones.
#[cfg(all(test, etchd_loom))]
pub(crate) fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
