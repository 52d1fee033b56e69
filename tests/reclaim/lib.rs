//! The sources of etchd that share memory between threads, under the names that they know each other by.
#![allow(dead_code, unused_imports, reason = "etchd uses what is not used here")]

#[path = "../../src/limits.rs"]
pub mod limits;

#[path = "../../src/stdx"]
pub mod stdx {
    pub mod append;
    pub mod cow;
    pub mod prng;
    pub mod sync;
    pub mod work;
}

#[path = "../../src/pure"]
pub mod pure {
    pub mod mvcc;
    pub mod types;
}

#[path = "../../src/edge"]
pub mod edge {
    pub mod mesh;

    pub mod shard {
        pub mod slot;

        #[cfg(all(test, etchd_loom))]
        mod loom {
            mod tests;
        }
    }
}
