//! What operators see: the catalogue of every metric, the ledger, the logs.

pub mod catalogue;
pub mod ledger;
pub mod logs;
pub mod reference;

pub use catalogue::Metrics;
