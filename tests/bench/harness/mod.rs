//! One running program between a load and a sink that checks: what `cargo bench` measures, and the test `bench` proves
//! with small loads.

mod carrier;
pub(crate) mod figures;
mod hook;
mod ledger;
mod load;
mod program;
mod scenarios;
mod shape;
mod sink;
mod stand;
mod template;

pub(crate) use figures::Row;
pub(crate) use scenarios::{SCENARIOS, Sizes, run};
