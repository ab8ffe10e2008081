//! [`Program`]: a running tracestitch, and what it takes of the machine.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tracestitch::clock;

/// For a start; far more than it takes.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Linux tells CPU times in hundredths of a second, whatever its own clock does.
const TICK: Duration = Duration::from_millis(10);

/// A process of the binary that users run; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    /// Where it takes spans by gRPC.
    pub(crate) grpc: SocketAddr,
    /// From its start until it said that it is ready.
    pub(crate) ready_after: Duration,
}

impl Program {
    /// Starts it and waits until it takes spans.
    pub(crate) async fn start(config: &Path, log: PathBuf) -> Self {
        let file = File::create(&log).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
        command.arg("run").arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let begun = clock::now();
        let child = command.spawn().expect("the program starts");
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Self { child, log, grpc: nowhere, ready_after: Duration::ZERO };
        program.wait_until_ready(begun + PATIENCE).await;
        program.ready_after = clock::now() - begun;
        program.grpc = program.grpc_address();
        program
    }

    async fn wait_until_ready(&mut self, end: clock::Instant) {
        while !self.said().contains("tracestitch is ready") {
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none() && clock::now() < end, "it does not start: {}", self.said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn grpc_address(&self) -> SocketAddr {
        let said = self.said();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines = lines.filter(|line| line["protocol"].as_str() == Some("gRPC"));
        let address = lines.find_map(|line| line["address"].as_str()?.parse().ok());
        address.unwrap_or_else(|| panic!("no address in {said}"))
    }

    /// Standard error so far.
    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log")).into_owned()
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // The name stands in brackets and may hold blanks; the times are the 12th and 13th field behind it.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        let ticks = behind.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        TICK * ticks.sum::<Result<u32, _>>().expect("numbers")
    }

    /// Resident memory.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Resident memory that no file is behind; a mapped journal is not in it.
    pub(crate) fn anonymous(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// The most memory that was ever resident.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("a number of KiB") * 1024
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs")
    }

    /// By kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
