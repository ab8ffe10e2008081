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

/// Where a program takes spans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// A process of the binary that users run; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    /// Where it takes spans.
    pub(crate) doors: Doors,
    /// From its start until it said that it is ready.
    pub(crate) ready_after: Duration,
}

impl Program {
    /// Starts it and waits until it takes spans.
    pub(crate) async fn start(binary: &Path, config: &Path, log: PathBuf) -> Self {
        let file = File::create(&log).expect("a file");
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let begun = clock::now();
        let child = command.spawn().expect("the program starts");
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let doors = Doors { grpc: nowhere, http: nowhere };
        let mut program = Self { child, log, doors, ready_after: Duration::ZERO };
        program.wait_until_ready(begun + PATIENCE).await;
        program.ready_after = clock::now() - begun;
        program.doors = Doors { grpc: program.address("gRPC"), http: program.address("HTTP") };
        program
    }

    async fn wait_until_ready(&mut self, end: clock::Instant) {
        while !self.said().contains("tracestitch is ready") {
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none() && clock::now() < end, "it does not start: {}", self.said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn address(&self, protocol: &str) -> SocketAddr {
        let said = self.said();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines = lines.filter(|line| line["protocol"].as_str() == Some(protocol));
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

    /// By SIGTERM; it ends as it does for users, and says so by its exit code.
    pub(crate) async fn end(mut self) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().expect("there is kill");
        assert!(told.success(), "it runs");
        let end = clock::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return assert!(status.success(), "{status}: {}", self.said());
            }
            assert!(clock::now() < end, "it does not end: {}", self.said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
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
