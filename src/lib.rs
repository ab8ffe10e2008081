//! tracestitch

pub mod trace;
