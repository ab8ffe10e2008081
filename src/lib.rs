//! tracestitch

pub mod admin;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod completion;
pub mod config;
pub mod demo;
pub mod exporter;
pub mod memory;
pub mod pipeline;
pub mod receiver;
pub mod retry;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod tree;
pub mod weaving;
pub mod wire;
