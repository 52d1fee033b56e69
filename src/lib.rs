#![doc = include_str!("README.md")]

pub mod limits;
pub mod stdx;
pub mod pure;
pub mod edge;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
