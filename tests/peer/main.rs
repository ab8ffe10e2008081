//! Real neighbours around the real `tracestitch run`: SDKs, a Collector, a load generator, Jaeger.
//!
//! `parts.sh` builds them. A test whose parts are absent says so and passes; README.md says when that is a failure.
//! DeepFlow is the simulated one (`tracestitch demo deepflow`), which makes up rows for every call it is asked for.
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that can't go on says why and fails"
)]

#[expect(dead_code, reason = "the stories need more of it")]
#[path = "../support/authority.rs"]
mod authority;
mod collector;
mod conformance;
mod deepflow;
mod enriched;
mod jaeger;
mod lock;
mod loopback;
mod once;
mod parts;
mod process;
mod sdk;
mod sender;
mod spans;
#[path = "../conformance/suite/mod.rs"]
mod suite;
mod told;
mod tracestitch;
mod whole;
