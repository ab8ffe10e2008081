//! What operators see: the catalogue of every metric, the ledger, the logs.

pub mod catalogue;
mod chain;
pub mod logs;
pub mod reference;
mod watched;

pub use catalogue::Metrics;
pub use chain::chain;
pub use watched::Watched;
