//! tracestitch joins what DeepFlow's eBPF agents see of a trace to what OpenTelemetry's SDKs say of it, while the
//! spans flow: it receives OTLP, waits until a trace is quiet, asks DeepFlow's trace-completion endpoint what the
//! network saw, weaves those spans into the trace, and forwards one enriched trace to Tempo, Jaeger or any OTLP backend.
//!
//! ```text
//!             Fragment              QuietTrace             Answer                EnrichedTrace
//!  receiver ───────────▶ buffer ───────────────▶ completion ─────────▶ weaving ────────────────▶ exporter
//!     ▲  Receipt: answered when safe   one trace = one request     pure, total
//! ```
//!
//! Begin reading with [`trace`], the nouns that travel between the rooms; go on with [`pipeline`], which puts the rooms
//! together; then take the rooms in the order of the picture. ARCHITECTURE.md has the reasons.

// The vocabulary: imports no room.
pub mod trace;

pub mod wire;

pub mod auth;
pub mod clock;
pub mod complaint;
pub mod config;
pub mod http_client;
pub mod ledger;
pub mod listen;
pub mod memory;
pub mod retry;
pub mod telemetry;
pub mod tls;
pub mod tree;
pub mod watchdog;

// The rooms, in the order in which a span passes them; none imports another.
pub mod receiver;

pub mod buffer;

pub mod completion;

pub mod weaving;

pub mod exporter;

// The house.
pub mod pipeline;

pub mod admin;
pub mod cli;
pub mod demo;
