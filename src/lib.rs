//! tracestitch

pub mod trace;
pub mod wire;
pub mod clock;
pub mod config;
pub mod memory;
pub mod retry;
pub mod telemetry;
pub mod receiver;
pub mod buffer;
pub mod completion;
pub mod weaving;
pub mod tls;
pub mod exporter;
pub mod tree;
pub mod pipeline;
pub mod admin;
pub mod cli;
