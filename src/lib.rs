#![doc = include_str!("README.md")]

pub mod edge;
pub mod limits;
pub mod pure;
pub mod stdx;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
