//! [`SimulatedDeepflow`]: `tracestitch demo deepflow`.

use crate::process::{Process, command};

/// It makes up rows for every call it is asked for.
#[derive(Debug)]
pub(crate) struct SimulatedDeepflow {
    /// Where it listens.
    pub(crate) url: String,
    _process: Process,
}

impl SimulatedDeepflow {
    pub(crate) async fn start() -> Self {
        let mut demo = command(env!("CARGO_BIN_EXE_tracestitch"));
        let demo = demo.args(["demo", "deepflow", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start("the simulated DeepFlow", demo);
        let url = process.says("its address", |text| {
            let (_, rest) = text.split_once("a simulated DeepFlow at ")?;
            Some(rest.split_once('\n')?.0.to_owned())
        });
        Self { url: url.await, _process: process }
    }
}
