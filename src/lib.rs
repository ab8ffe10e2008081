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
