//! A simulated DeepFlow: `POST /v1/stats/querier/tracing-completion-by-external-app-spans` as release v7.1 answers it,
//! over real HTTP, with faults that can be switched on while it runs.
//!
//! An ask goes through the files in this order: `server` takes it, `request` judges it as the service's own
//! validation does, `store` looks up `rows` (or `synthesis` makes them up), `node`, `process`, `network`, `joint`
//! and `correction` hang them below each other by the rules of the service, `answer` writes them down. The rules are
//! followed to the letter, mistakes included, because a client has to live with exactly those. They were read in
//! github.com/deepflowio/deepflow-app (Apache-2.0), commit 9c05ea0, `app/app/application/l7_flow_tracing.py`.
//!
//! Left out, because no client asks for it: what `DEBUG` and `SIGNAL_SOURCES` add, DNS tracing, unix sockets and
//! `WebSphere` MQ.

mod answer;
mod call;
mod config;
mod correction;
mod fault;
mod joint;
mod network;
mod node;
mod process;
mod pruning;
mod python;
mod reply;
mod request;
mod rows;
mod server;
mod store;
mod synthesis;
mod wire;

pub use call::{Call, Side};
pub use config::{DeepflowConfig, WallClock};
pub use fault::Fault;
pub use rows::{Process, Row, Signal};
pub use server::{Ask, Deepflow};
