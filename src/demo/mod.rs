//! Everything needed to see the program at work alone: a simulated [`deepflow`] and a [`shop`] that makes traffic.
//!
//! The same parts are the tests' and the benches' doubles, so that what the demo shows is what the tests prove.

pub mod backend;
pub mod deepflow;
pub mod sender;
pub mod shop;
pub mod stage;
